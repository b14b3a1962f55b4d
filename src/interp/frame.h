/* SPDX-License-Identifier: MIT */
/*
 * Several pushes or pops that take effect together: the stack frames of interrupts, far calls and returns, on the
 * current stack or on one that is to become so. Nothing but memory changes before frame_commit().
 */
#ifndef UKVM_INTERP_FRAME_H
#define UKVM_INTERP_FRAME_H

#include "interp/desc.h"

struct frame {
	const struct seg *ss; /* NULL: the flat stack of 64-bit mode */
	u64 sp;               /* as far as it has moved */
	u64 mask;             /* of the bits of sp that move */
	u16 error;            /* error code of its #SS */
	u8 size;              /* bytes of an element */
	bool user;
};

static inline unsigned frame_bytes(unsigned size)
{
	return 1u << size; /* of an SZ_* */
}

/* The stack of now, or one that is entered with a privilege change. size is SZ_16, SZ_32 or SZ_64. */
void frame_current(const struct cpu *c, struct frame *f, unsigned size);
void frame_inner(struct frame *f, const struct seg *ss, u64 sp, unsigned size);
/* The stack in ring cpl of 64-bit mode. */
void frame_flat(struct frame *f, u64 rsp, unsigned cpl);

/* v[0] is pushed first. */
int frame_push(struct cpu *c, struct frame *f, const u64 *v, unsigned n);
/* v[0] is at the top. */
int frame_pop(struct cpu *c, struct frame *f, u64 *v, unsigned n);
static inline void frame_skip(struct frame *f, u64 bytes)
{
	f->sp = (f->sp & ~f->mask) | ((f->sp + bytes) & f->mask);
}

/* RSP := sp */
static inline void frame_commit(struct cpu *c, const struct frame *f)
{
	c->gpr[RSP] = f->sp;
}

#endif
