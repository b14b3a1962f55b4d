// SPDX-License-Identifier: MIT
/* How statistics look: lines for people, or one JSON object. */
#include <fcntl.h>
#include <string.h>

#include "kvm/stats.h"
#include "os/sys.h"

struct out {
	int fd;
	u32 n;
	bool json, comma;
	char buf[8192];
};

static void flush(struct out *o)
{
	if (o->n)
		os_write(o->fd, o->buf, o->n);
	o->n = 0;
}

static void put(struct out *o, const char *s)
{
	for (; *s; s++) {
		if (o->n == sizeof(o->buf))
			flush(o);
		o->buf[o->n++] = *s;
	}
}

static void put_number(struct out *o, u64 v)
{
	char digits[24];
	int n = sizeof(digits) - 1;

	digits[n] = 0;
	do
		digits[--n] = (char)('0' + v % 10);
	while (v /= 10);
	put(o, digits + n);
}

/* ---- building blocks: a line and "key": value are the same thing ---- */

static void key(struct out *o, const char *name)
{
	if (o->json) {
		put(o, o->comma ? ", \"" : "\"");
		put(o, name);
		put(o, "\": ");
	} else {
		put(o, "  ");
		put(o, name);
		for (size_t n = strlen(name); n < 28; n++)
			put(o, " ");
	}
	o->comma = true;
}

static void value(struct out *o, const char *name, u64 v)
{
	key(o, name);
	put_number(o, v);
	if (!o->json)
		put(o, "\n");
}

/* Parts per 10,000 as "99.87%", of figures that are derived. */
static void put_rate(struct out *o, u64 part, u64 whole)
{
	u64 r = whole ? part * 10000 / whole : 0;

	put_number(o, r / 100);
	put(o, r % 100 < 10 ? ".0" : ".");
	put_number(o, r % 100);
}

static void open_group(struct out *o, const char *name)
{
	key(o, name);
	if (o->json)
		put(o, "{");
	o->comma = false;
}

static void close_group(struct out *o)
{
	put(o, o->json ? "}" : "\n");
	o->comma = true;
}

/* A number within a group. */
static void item(struct out *o, const char *name, u64 v)
{
	if (o->json) {
		value(o, name, v);
		return;
	}
	put(o, o->comma ? ", " : "");
	put(o, name);
	put(o, " ");
	put_number(o, v);
	o->comma = true;
}

/* ---- what there is ---- */

/* Hits are what is left of the accesses, which are the memory operands of the instructions executed. */
static void tlb(struct out *o, const char *name, u64 accesses, u64 misses)
{
	u64 hits = accesses > misses ? accesses - misses : 0;

	open_group(o, name);
	item(o, o->json ? "hits_derived" : "hits (derived)", hits);
	item(o, "misses", misses);
	if (o->json) {
		put(o, ", \"rate\": ");
		put_rate(o, hits, hits + misses);
	} else {
		put(o, ", ");
		put_rate(o, hits, hits + misses);
		put(o, "%");
	}
	close_group(o);
}

static void by_vector(struct out *o, const char *name, const u64 *count, unsigned n)
{
	open_group(o, name);
	for (unsigned v = 0; v < n; v++) {
		char label[4] = { 0 };
		unsigned at = 0;

		if (!count[v])
			continue;
		if (v >= 100)
			label[at++] = (char)('0' + v / 100);
		if (v >= 10)
			label[at++] = (char)('0' + v / 10 % 10);
		label[at] = (char)('0' + v % 10);
		item(o, label, count[v]);
	}
	close_group(o);
}

static void by_reason(struct out *o, const struct stats_record *r)
{
	static const char *const names[NR_EXIT_REASONS] = {
		[EXIT_IO] = "io",
		[EXIT_MMIO] = "mmio",
		[EXIT_HLT] = "hlt",
		[EXIT_WINDOW] = "irq_window_open",
		[EXIT_SHUTDOWN] = "shutdown",
		[EXIT_INTR] = "intr",
		[EXIT_DEBUG] = "debug",
		[EXIT_INTERNAL] = "internal_error",
		[EXIT_DELIVERY] = "delivery_error",
		[EXIT_MSR_READ] = "x86_rdmsr",
		[EXIT_MSR_WRITE] = "x86_wrmsr",
		[EXIT_HYPERCALL] = "hypercall",
		[EXIT_EFAULT] = "efault",
		[EXIT_TPR] = "set_tpr",
	};

	open_group(o, "exits");
	for (unsigned n = 0; n < NR_EXIT_REASONS; n++)
		if (r->exits[n])
			item(o, names[n] ? names[n] : "unknown", r->exits[n]);
	if (r->fail_entry)
		item(o, "fail_entry", r->fail_entry);
	close_group(o);
}

static void record(struct out *o, const struct stats_record *r)
{
	const struct cpu_stats *s = &r->cpu;

	value(o, "instructions", s->insns);
	value(o, "blocks", s->blocks);
	value(o, "decodes", s->decodes);
	value(o, "translations", s->translations);
	open_group(o, "tlb");
	if (!o->json)
		put(o, "\n");
	o->comma = false;
	tlb(o, o->json ? "read" : "  read", s->reads, s->tlb_miss[0]);
	tlb(o, o->json ? "write" : "  write", s->writes, s->tlb_miss[1]);
	tlb(o, o->json ? "exec" : "  exec", s->blocks, s->tlb_miss[2]);
	if (o->json)
		close_group(o);
	value(o, "coherence_checks", s->checks);
	value(o, "coherence_invalidations", s->invalidations);
	by_vector(o, "exceptions", s->exceptions, ARRAY_SIZE(s->exceptions));
	by_vector(o, "interrupts", s->interrupts, ARRAY_SIZE(s->interrupts));
	by_vector(o, "software_interrupts", s->software, ARRAY_SIZE(s->software));
	by_reason(o, r);
	value(o, "kvm_run_calls", r->runs);
	value(o, "guest_ns", r->guest_ns);
	value(o, "kvm_run_other_ns", r->run_ns - r->guest_ns);
	value(o, "client_ns", r->client_ns);
}

/* A copy: a vCPU may be writing, also to and fro between two states. */
static bool copy_record(const struct stats_table *t, u32 n, struct stats_record *r)
{
	if (__atomic_load_n(&t->rec[n].state, __ATOMIC_ACQUIRE) == STATS_FREE)
		return false;
	*r = t->rec[n];
	return true;
}

static void title(struct out *o, const char *name, u64 number)
{
	if (o->json) {
		value(o, name, number);
		return;
	}
	put(o, o->comma ? " " : "");
	put(o, name);
	put(o, " ");
	put_number(o, number);
	o->comma = true;
}

/* One of a list. In JSON it is an object with its number in it. */
static void begin(struct out *o, const struct stats_record *r, bool with_vcpu)
{
	if (o->json)
		put(o, o->comma ? ", {" : "{");
	o->comma = false;
	title(o, "vm", r->vm);
	if (with_vcpu)
		title(o, "vcpu", r->vcpu);
	if (!o->json)
		put(o, "\n");
}

static void end(struct out *o)
{
	if (o->json)
		put(o, "}");
	o->comma = true;
}

static void list(struct out *o, const char *name)
{
	if (!o->json)
		return;
	key(o, name);
	put(o, "[");
	o->comma = false;
}

static void end_list(struct out *o)
{
	if (o->json)
		put(o, "]");
	o->comma = true;
}

static void vcpus(struct out *o, const struct stats_table *t)
{
	struct stats_record r;

	list(o, "vcpus");
	for (u32 n = 0; n < STATS_VCPUS; n++) {
		if (!copy_record(t, n, &r) || r.state == STATS_EARLIER)
			continue;
		begin(o, &r, true);
		record(o, &r);
		end(o);
	}
	end_list(o);
}

/* The sum of a VM's vCPUs, or (vm 0) of all. Returns of how many. */
static u32 sum_of(const struct stats_table *t, u32 vm, struct stats_record *sum)
{
	struct stats_record r;
	u32 found = 0;

	memset(sum, 0, sizeof(*sum));
	sum->vm = vm;
	for (u32 n = 0; n < STATS_VCPUS; n++) {
		if (!copy_record(t, n, &r) || (vm && r.vm != vm))
			continue;
		stats_add(sum, &r);
		found++;
	}
	return found;
}

static void vms(struct out *o, const struct stats_table *t)
{
	struct stats_record sum;

	list(o, "vms");
	for (u32 vm = 1; vm <= t->nr_vms; vm++) {
		u32 n = sum_of(t, vm, &sum);

		/* With one vCPU the lines would be the same. */
		if (!n || (!o->json && n == 1))
			continue;
		begin(o, &sum, false);
		record(o, &sum);
		end(o);
	}
	end_list(o);
}

static void total(struct out *o, const struct stats_table *t)
{
	struct stats_record sum;

	sum_of(t, 0, &sum);
	if (o->json) {
		open_group(o, "total");
	} else {
		if (t->nr_vms == 1)
			return;
		put(o, "total\n");
	}
	record(o, &sum);
	if (o->json)
		close_group(o);
}

static void all(struct out *o, const struct stats_table *t)
{
	if (o->json) {
		put(o, "{");
		value(o, "pid", t->pid);
	} else {
		put(o, "ukvm: statistics of process ");
		put_number(o, t->pid);
		put(o, "\n");
	}
	vcpus(o, t);
	vms(o, t);
	total(o, t);
	put(o, o->json ? "}\n" : "");
}

static struct out out; /* used by one at a time; a second one that comes meanwhile would print the same */
static u32 busy;

void stats_print(void)
{
	const struct stats_table *t = stats_table;
	const char *path = stats_file();

	if (!t || __atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE))
		return;
	out.n = 0;
	out.comma = false;
	out.json = stats_format() == STATS_JSON;
	out.fd = *path ? (int)os_sys(SYS_open, (long)path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666,
				     0, 0, 0)
		       : 2;
	if (out.fd >= 0) {
		all(&out, t);
		flush(&out);
		if (out.fd != 2)
			os_close(out.fd);
	}
	__atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

void stats_print_at_end(void)
{
	struct stats_table *t = stats_table;

	if (!t || t->pid != (u32)os_sys(SYS_getpid, 0, 0, 0, 0, 0, 0) ||
	    __atomic_exchange_n(&t->printed, 1, __ATOMIC_ACQ_REL))
		return;
	stats_print();
}

static __attribute__((destructor)) void at_exit(void)
{
	stats_print_at_end();
}
