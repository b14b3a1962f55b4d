// SPDX-License-Identifier: MIT
/* The records: who has which, and how they are filled. */
#include "kvm/stats.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/tsc.h"
#include "os/lock.h"
#include "os/sys.h"

struct stats_table *stats_table;

static struct os_lock lock; /* who takes which record */
static enum stats_format format;
static char file[4096];

void stats_open(void)
{
	const char *how = getenv("UKVM_STATS"), *where = getenv("UKVM_STATS_FILE");

	if (format || !how || !*how || !strcmp(how, "0"))
		return;
	if (where && strcmp(where, "stderr") && strlen(where) < sizeof(file))
		memcpy(file, where, strlen(where) + 1);
	format = strcmp(how, "json") ? STATS_TEXT : STATS_JSON;
}

const char *stats_file(void)
{
	return file;
}

enum stats_format stats_format(void)
{
	return format;
}

static u32 process_id(void)
{
	return (u32)os_sys(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/* Shared, so that the watching process sees it. A forked child that makes a VM of its own needs its own. */
static struct stats_table *table(void)
{
	struct stats_table *t = stats_table;

	if (t && t->pid == process_id())
		return t;
	t = os_mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!t)
		return NULL;
	t->pid = process_id();
	stats_watch(t);
	__atomic_store_n(&stats_table, t, __ATOMIC_RELEASE);
	return t;
}

void stats_vm(struct vm *vm)
{
	struct stats_table *t;

	if (likely(!format))
		return;
	os_lock(&lock);
	t = table();
	if (t)
		vm->number = ++t->nr_vms;
	os_unlock(&lock);
}

/* The last record collects what is left of the vCPUs that had to make room. */
static struct stats_record *make_room(struct stats_table *t)
{
	struct stats_record *earlier = &t->rec[STATS_VCPUS - 1], *oldest = NULL;

	for (u32 n = 0; n < STATS_VCPUS - 1; n++)
		if (t->rec[n].state == STATS_GONE && (!oldest || t->rec[n].age < oldest->age))
			oldest = &t->rec[n];
	if (!oldest)
		return NULL;
	stats_add(earlier, oldest);
	earlier->state = STATS_EARLIER;
	memset(oldest, 0, sizeof(*oldest));
	return oldest;
}

static struct stats_record *take_record(struct stats_table *t)
{
	for (u32 n = 0; n < STATS_VCPUS - 1; n++)
		if (t->rec[n].state == STATS_FREE)
			return &t->rec[n];
	return make_room(t);
}

void stats_vcpu(struct vcpu *v)
{
	struct stats_record *r;

	if (likely(!v->vm->number))
		return;
	os_lock(&lock);
	r = take_record(stats_table);
	if (r) {
		r->vm = v->vm->number;
		r->vcpu = v->cpu.id;
		r->age = ++stats_table->nr_vcpus;
		r->state = STATS_LIVE;
		v->cpu.exact_stats = true;
		v->stats = r;
	}
	os_unlock(&lock);
}

void stats_vcpu_gone(struct vcpu *v)
{
	if (likely(!v->stats))
		return;
	stats_publish(v);
	__atomic_store_n(&v->stats->state, STATS_GONE, __ATOMIC_RELEASE);
	v->stats = NULL;
}

void stats_publish(struct vcpu *v)
{
	v->stats->cpu = v->cpu.stats;
}

void stats_run_begin(struct vcpu *v, u64 *stamp)
{
	struct stats_record *r = v->stats;

	*stamp = host_clock_ns();
	r->runs++;
	if (r->last_ns)
		r->client_ns += *stamp - r->last_ns;
}

void stats_guest(struct vcpu *v, u64 since)
{
	v->stats->guest_ns += host_clock_ns() - since;
}

void stats_run_end(struct vcpu *v, u64 since)
{
	u64 now = host_clock_ns();

	v->stats->run_ns += now - since;
	v->stats->last_ns = now;
	stats_publish(v);
}
