/* SPDX-License-Identifier: MIT */
/* From RIP to decoded code: the lookup that every jump makes, and what happens when it misses. */
#ifndef UKVM_INTERP_BLOCK_H
#define UKVM_INTERP_BLOCK_H

#include "interp/interp.h"
#include "mem/code.h"

/* What executing these instructions adds to cpu::work (cpu/stats.h). */
u64 insn_work(const struct insn *i);
u64 block_work(const struct insn *insn, unsigned n);

static inline u64 code_linear(const struct cpu *c)
{
	return (c->code_base + c->gpr[R_RIP]) & c->lin_mask;
}

static inline struct jump_entry *jump_slot(const struct cpu *c, u64 lin)
{
	return &c->code->jump[(lin ^ (lin >> JUMP_BITS)) & (JUMP_SIZE - 1)];
}

/* ST_OK and *b; ST_FAULT (the fetch faults); ST_EXIT (code in a device: EXIT_INTERNAL). */
int block_lookup_slow(struct cpu *c, struct block **b);

static inline __attribute__((always_inline)) int block_lookup(struct cpu *c, struct block **b)
{
	u64 lin = code_linear(c);
	const struct jump_entry *j = jump_slot(c, lin);

	/* Limits are part of the key. A RIP that has run over the end of 32 bits is still to be cut off. */
	if (likely(j->lin == lin && j->stamp == c->code->stamp && j->key == c->code_key &&
		   j->block->page->epoch == c->code->epoch && !(c->gpr[R_RIP] & ~c->lin_mask))) {
		*b = j->block;
		return ST_OK;
	}
	return block_lookup_slow(c, b);
}

#endif
