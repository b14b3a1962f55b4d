/* SPDX-License-Identifier: MIT */
/*
 * Threaded code: insn::run executes an instruction and then jumps to the next one's, so a block runs without a loop
 * around it, until one of them returns something else than ST_OK. The differences to insn::fn:
 *
 *  - RIP is not kept up to date: it is cpu::gpr[R_BLOCK] + insn::end behind an instruction. Who needs RIP, or may not
 *    complete, calls thread_begin() first. When `run` returns, RIP and cpu::cur are those of the last instruction.
 *  - A memory operand of handler::run is one of 64-bit mode in a segment without base or limit. All others are for
 *    handler::seg: interp_bind_block() sees to it.
 *
 * Handlers without a `run` of their own get thread_slow(), which calls insn::fn. So does `run` itself for whatever is
 * rare, a soft TLB miss above all: it has done nothing yet then.
 */
#ifndef UKVM_INTERP_THREAD_H
#define UKVM_INTERP_THREAD_H

#include "interp/interp.h"

/* Executes i->fn as it wants it, and goes on. (run.c) */
int thread_slow(struct cpu *c, const struct insn *i);
/* The same without going on: for translated code. */
int thread_step(struct cpu *c, const struct insn *i);

static inline __attribute__((always_inline)) int thread_next(struct cpu *c, const struct insn *i)
{
	return i[1].run(c, i + 1);
}

static inline __attribute__((always_inline)) void thread_begin(struct cpu *c, const struct insn *i)
{
	c->cur = i;
	c->gpr[R_RIP] = c->gpr[R_BLOCK] + i->end;
}

/* After a template that may have failed. */
static inline __attribute__((always_inline)) int thread_status(struct cpu *c, const struct insn *i, int st)
{
	if (likely(st == ST_OK))
		return thread_next(c, i);
	thread_begin(c, i);
	return st;
}

/* The host address of the memory operand; NULL for thread_slow(). The client may have unmapped it: cur is known. */
static inline __attribute__((always_inline)) void *thread_operand(struct cpu *c, const struct insn *i, unsigned size,
								  enum mem_access how)
{
	const char *g = (const char *)c->gpr;
	u64 lin = *(const u64 *)(g + i->base) + (*(const u64 *)(g + i->index) << i->scale) + (s64)i->disp;

	c->cur = i;
	return mem_flat(c, lin, 1u << size, how);
}

/* The same in any segment and mode. */
static inline __attribute__((always_inline)) void *thread_operand_seg(struct cpu *c, const struct insn *i,
								      unsigned size, enum mem_access how)
{
	c->cur = i;
	return mem_fast(c, i->seg, insn_ea(c, i), 1u << size, how);
}

#endif
