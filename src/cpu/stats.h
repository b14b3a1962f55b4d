/* SPDX-License-Identifier: MIT */
/*
 * What a CPU counts (ukvm --stats). All of it is rare but for what executing a block adds to cpu::work: one addition
 * that costs the same whether anybody asks. stats_fold() takes it apart.
 */
#ifndef UKVM_CPU_STATS_H
#define UKVM_CPU_STATS_H

#include "cpu/types.h"

/* u64s only: they are added up as an array. */
struct cpu_stats {
	u64 insns;
	u64 blocks;          /* transfers of control: each is an access of the fetch kind */
	u64 reads,
		writes; /* memory operands of the instructions executed, REP counted once: derived, see block_work() */
	u64 decodes;         /* instructions decoded */
	u64 translations;    /* blocks made host code of */
	u64 tlb_miss[3];     /* enum mem_access: page walks */
	u64 tlb_fill;
	u64 checks;          /* pages of cached code that were compared with memory */
	u64 invalidations;   /* times that this, or a store, found code changed */
	u64 mmio, pio;       /* accesses that went to the client */
	u64 exceptions[32];  /* delivered, by vector */
	u64 interrupts[256]; /* external ones; NMI is 2 */
	u64 software[256];   /* INT n, INT3, INTO */
};

/*
 * A block's work: how many instructions, reads and writes. The sum of all blocks between two polls fits, as there are
 * 4096 of them with at most 32 instructions.
 */
#define WORK_INSN 1ull
#define WORK_READ (1ull << 20)
#define WORK_WRITE (1ull << 42)

static inline void stats_add_work(struct cpu_stats *s, u64 work)
{
	s->insns += work & (WORK_READ - 1);
	s->reads += (work & (WORK_WRITE - 1)) / WORK_READ;
	s->writes += work / WORK_WRITE;
}

#endif
