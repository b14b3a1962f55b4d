// SPDX-License-Identifier: MIT
/*
 * The stack: PUSH and POP in their forms, frames, PUSHA. The stack pointer is as wide as the stack segment says
 * (cpu::stack_size), whatever the operand size; in 64-bit mode it has 64 bits and SS is flat.
 */
#include "interp/impl.h"

INLINE unsigned stack_seg(const struct cpu *c)
{
	return c->stack_size == SZ_64 ? SEG_FLAT_SS : SEG_SS;
}

INLINE u64 stack_mask(const struct cpu *c)
{
	static const u64 mask[] = { [SZ_16] = 0xffff, [SZ_32] = 0xffffffff, [SZ_64] = ~0ull };

	return mask[c->stack_size];
}

INLINE void set_pointer(struct cpu *c, u64 sp)
{
	if (likely(c->stack_size == SZ_64))
		c->gpr[RSP] = sp;
	else
		reg_write(c, RSP * 8, c->stack_size, sp);
}

/* A 64-bit operand says that the stack is 64 bits wide, too. */
INLINE int push(struct cpu *c, unsigned size, u64 v)
{
	u64 sp = c->gpr[RSP] - (1u << size);
	int st;

	if (size == SZ_64) {
		st = mem_store(c, SEG_FLAT_SS, sp, size, v);
		if (likely(!st))
			c->gpr[RSP] = sp;
		return st;
	}
	st = mem_store(c, stack_seg(c), sp & stack_mask(c), size, v);
	if (likely(!st))
		set_pointer(c, sp & stack_mask(c));
	return st;
}

INLINE int peek(struct cpu *c, unsigned size, u64 *v, u64 *sp)
{
	if (size == SZ_64) {
		*sp = c->gpr[RSP] + 8;
		return mem_load(c, SEG_FLAT_SS, c->gpr[RSP], size, v);
	}
	*sp = (c->gpr[RSP] + (1u << size)) & stack_mask(c);
	return mem_load(c, stack_seg(c), c->gpr[RSP] & stack_mask(c), size, v);
}

void stack_set_pointer(struct cpu *c, u64 sp)
{
	set_pointer(c, sp);
}

int stack_peek(struct cpu *c, unsigned size, u64 *v, u64 *sp)
{
	switch (size) {
	case SZ_16:
		return peek(c, SZ_16, v, sp);
	case SZ_32:
		return peek(c, SZ_32, v, sp);
	default:
		return peek(c, SZ_64, v, sp);
	}
}

int stack_push(struct cpu *c, unsigned size, u64 v)
{
	switch (size) {
	case SZ_16:
		return push(c, SZ_16, v);
	case SZ_32:
		return push(c, SZ_32, v);
	default:
		return push(c, SZ_64, v);
	}
}

int stack_pop(struct cpu *c, unsigned size, u64 *v)
{
	u64 sp;
	int st = stack_peek(c, size, v, &sp);

	if (likely(!st))
		set_pointer(c, sp);
	return st;
}

/* ---- PUSH ---- */
INLINE int push_r(struct cpu *c, const struct insn *i, unsigned size)
{
	return push(c, size, reg_read(c, i->dst, size));
}

INLINE int push_m(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v;
	int st = load_operand(c, i, size, &v);

	return unlikely(st) ? st : push(c, size, v);
}

INLINE int push_imm(struct cpu *c, const struct insn *i, unsigned size)
{
	return push(c, size, i->imm);
}

STAMP_WORDS(push, R, push_r)
STAMP_WORDS(push, M, push_m)
IMPL_TABLE(push, ROW_WORDS(push, R), ROW_WORDS(push, M));
STAMP_WORDS(push_imm, NONE, push_imm)
IMPL_TABLE(push_imm, ROW_WORDS(push_imm, NONE));

/* The selector, zero-extended: one of the two things that CPUs do (SDM vol. 2, PUSH). */
HANDLER(do_push_sreg)
{
	return stack_push(c, i->size, c->seg[i->dst].sel);
}
IMPL_ANY(push_sreg, do_push_sreg);

/* ---- POP ---- */
/* The pointer moves first: POP rSP leaves what was popped. */
INLINE int pop_r(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v, sp;
	int st = peek(c, size, &v, &sp);

	if (unlikely(st))
		return st;
	set_pointer(c, sp);
	reg_write(c, i->dst, size, v);
	return ST_OK;
}

/* An address with rSP in it means the rSP after the pop (SDM vol. 2, POP). */
INLINE int pop_m(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v, sp, old = c->gpr[RSP];
	int st = peek(c, size, &v, &sp);

	if (unlikely(st))
		return st;
	set_pointer(c, sp);
	st = store_operand(c, i, size, v);
	if (unlikely(st))
		c->gpr[RSP] = old;
	return st;
}

STAMP_WORDS(pop, R, pop_r)
STAMP_WORDS(pop, M, pop_m)
IMPL_TABLE(pop, ROW_WORDS(pop, R), ROW_WORDS(pop, M));

/* ---- PUSHA, POPA: registers are committed when all of memory was accessible ---- */
HANDLER(do_pusha)
{
	unsigned seg = stack_seg(c), bytes = 1u << i->size;
	u64 sp = c->gpr[RSP];

	for (unsigned r = RAX; r <= RDI; r++) {
		int st;

		sp = (sp - bytes) & stack_mask(c);
		st = mem_write_slow(c, seg, sp, &c->gpr[r], bytes);
		if (unlikely(st))
			return st;
	}
	set_pointer(c, sp);
	return ST_OK;
}
IMPL_ANY(pusha, do_pusha);

HANDLER(do_popa)
{
	unsigned seg = stack_seg(c), bytes = 1u << i->size;
	u64 sp = c->gpr[RSP], v[8] = { 0 };

	for (int r = RDI; r >= RAX; r--) {
		int st = mem_read_slow(c, seg, sp & stack_mask(c), &v[r], bytes);

		if (unlikely(st))
			return st;
		sp += bytes;
	}
	for (unsigned r = RAX; r <= RDI; r++)
		if (r != RSP)
			reg_write(c, r * 8, i->size, v[r]);
	set_pointer(c, sp & stack_mask(c));
	return ST_OK;
}
IMPL_ANY(popa, do_popa);

/* ---- ENTER, LEAVE ---- */
/* Copies the outer frames' pointers for level n > 0; *sp moves. */
static int enter_copy_frames(struct cpu *c, unsigned size, unsigned level, u64 *sp, u64 frame)
{
	unsigned seg = stack_seg(c), bytes = 1u << size;
	u64 bp = c->gpr[RBP], v = 0;
	int st;

	for (unsigned n = 1; n < level; n++) {
		bp -= bytes;
		st = mem_read_slow(c, seg, bp & stack_mask(c), &v, bytes);
		if (!st) {
			*sp = (*sp - bytes) & stack_mask(c);
			st = mem_write_slow(c, seg, *sp, &v, bytes);
		}
		if (unlikely(st))
			return st;
	}
	*sp = (*sp - bytes) & stack_mask(c);
	return mem_write_slow(c, seg, *sp, &frame, bytes);
}

/* imm: bytes of locals in 15:0, nesting level in 20:16. */
HANDLER(do_enter)
{
	unsigned seg = stack_seg(c), bytes = 1u << i->size, level = (i->imm >> 16) & 31;
	u64 sp = (c->gpr[RSP] - bytes) & stack_mask(c), frame = sp;
	int st = mem_write_slow(c, seg, sp, &c->gpr[RBP], bytes);

	if (!st && level)
		st = enter_copy_frames(c, i->size, level, &sp, frame);
	sp = (sp - (i->imm & 0xffff)) & stack_mask(c);
	/* The new top of the stack must be writable, too. */
	if (!st)
		st = mem_probe(c, seg, sp, bytes, MEM_WRITE);
	if (unlikely(st))
		return st;
	reg_write(c, RBP * 8, i->size, frame);
	set_pointer(c, sp);
	return ST_OK;
}
IMPL_ANY(enter, do_enter);

INLINE int leave(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 bp = c->gpr[RBP], v;
	int st;

	(void)i;
	if (size == SZ_64)
		st = mem_load(c, SEG_FLAT_SS, bp, size, &v);
	else
		st = mem_load(c, stack_seg(c), bp & stack_mask(c), size, &v);
	if (unlikely(st))
		return st;
	set_pointer(c, (bp + (1u << size)) & stack_mask(c));
	reg_write(c, RBP * 8, size, v);
	return ST_OK;
}

STAMP_WORDS(leave, NONE, leave)
IMPL_TABLE(leave, ROW_WORDS(leave, NONE));
