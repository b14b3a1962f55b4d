/* SPDX-License-Identifier: MIT */
/* Executes single instructions by their handlers, without the run loop. */
#ifndef UKVM_TESTS_UNIT_EXEC_H
#define UKVM_TESTS_UNIT_EXEC_H

#include "mem/map.h"

#include "flat.h"

/*
 * What the run loop does around one instruction: RIP points behind it while it runs, and stays at it if it did not
 * complete. Returns the handler's status.
 */
static inline int exec_bytes(struct flat *f, const u8 *bytes, size_t n)
{
	struct cpu *c = &f->cpu;
	static struct insn i;
	int len, st;

	len = insn_decode(bytes, n, c->code_mode, &i);
	if (len != (int)n)
		return -1;
	i.fn = interp_bind(&i);
	c->cur = &i;
	c->io.cursor = 0;
	c->gpr[R_RIP] += i.len;
	st = i.fn(c, &i);
	if (st == ST_FAULT || st == ST_EXIT || st == ST_AGAIN)
		c->gpr[R_RIP] -= i.len;
	if (st == ST_OK || st == ST_END || st == ST_FAULT)
		c->io.n = c->io.cursor = 0;
	return st;
}

/* EXEC(f, 0x90) */
#define EXEC(f, ...) exec_bytes(f, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

/* Repeats while the handler wants to be called again. */
#define EXEC_ALL(f, ...)                                                                                               \
	({                                                                                                             \
		int st_;                                                                                               \
		do                                                                                                     \
			st_ = EXEC(f, __VA_ARGS__);                                                                    \
		while (st_ == ST_AGAIN);                                                                               \
		st_;                                                                                                   \
	})

#define assert_fault(f, st, vec, err)                                                                                  \
	do {                                                                                                           \
		assert_int_equal(st, ST_FAULT);                                                                        \
		assert_int_equal((f)->cpu.fault.vector, vec);                                                          \
		assert_int_equal((f)->cpu.fault.error, err);                                                           \
	} while (0)

#endif
