/* SPDX-License-Identifier: MIT */
/*
 * Statistics (UKVM_STATS, `ukvm --stats`): each vCPU publishes its counters in a page shared with a small process that
 * waits for this one to be gone, however that happens. Whatever prints them only reads: no lock, no libc, no
 * allocation, so a signal handler may.
 */
#ifndef UKVM_KVM_STATS_H
#define UKVM_KVM_STATS_H

#include <stddef.h>

#include "kvm/vm.h"

#define NR_EXIT_REASONS (EXIT_TPR + 1)
#define STATS_VCPUS 512  /* with a record of their own; of those destroyed the oldest make room */

/* u64s from `runs` on: they are added up as an array. */
struct stats_record {
	u32 vm, vcpu;
	u32 state;               /* enum stats_state */
	u32 age;
	u64 runs;                /* KVM_RUN */
	u64 exits[NR_EXIT_REASONS];
	u64 fail_entry;
	u64 guest_ns, run_ns;    /* in the engine; in KVM_RUN as a whole */
	u64 client_ns;           /* between two KVM_RUN */
	u64 last_ns;             /* when the last one ended (not a sum) */
	struct cpu_stats cpu;
};
static inline void stats_add(struct stats_record *to, const struct stats_record *r)
{
	u64 *a = &to->runs;
	const u64 *b = &r->runs;

	for (size_t n = 0; n < (sizeof(*r) - offsetof(struct stats_record, runs)) / sizeof(u64); n++)
		a[n] += b[n];
}

enum stats_state { STATS_FREE, STATS_LIVE, STATS_GONE, STATS_EARLIER };

struct stats_table {
	u32 pid;
	u32 printed; /* at the end */
	u32 nr_vms, nr_vcpus;
	struct stats_record rec[STATS_VCPUS];
};

enum stats_format { STATS_OFF, STATS_TEXT, STATS_JSON };

extern struct stats_table *stats_table; /* NULL until there is a VM, and always if statistics are off */

/* Reads UKVM_STATS, UKVM_STATS_FILE; the first call counts. */
void stats_open(void);
const char *stats_file(void); /* "" is standard error */
enum stats_format stats_format(void);

/* Objects come and go. */
void stats_vm(struct vm *vm);
void stats_vcpu(struct vcpu *v);
void stats_vcpu_gone(struct vcpu *v);
/* On the vCPU's thread, with v->stats: what it has counted so far becomes visible. */
void stats_publish(struct vcpu *v);
/* Around the engine and all of KVM_RUN; stamps are host_clock_ns(). */
void stats_run_begin(struct vcpu *v, u64 *stamp);
void stats_guest(struct vcpu *v, u64 since);
void stats_run_end(struct vcpu *v, u64 since);

/* Writes them out. At the end: not twice, and not in a forked child. */
void stats_print(void);
void stats_print_at_end(void);

/* The process that prints when this one ends without stats_print_at_end() (stats_watch.c). */
void stats_watch(struct stats_table *t);

#endif
