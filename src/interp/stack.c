// SPDX-License-Identifier: MIT
/* The stack: PUSH and POP in their forms, frames, PUSHA. */
#include "interp/impl.h"

int stack_peek(struct cpu *c, unsigned size, u64 *v, u64 *sp)
{
	*v = 0;
	*sp = stack_wrap(c, size, c->gpr[RSP] + (1u << size));
	return mem_read_slow(c, stack_seg(c, size), stack_wrap(c, size, c->gpr[RSP]), v, 1u << size);
}

int stack_pop(struct cpu *c, unsigned size, u64 *v)
{
	u64 sp;
	int st = stack_peek(c, size, v, &sp);

	if (likely(!st))
		stack_set_pointer(c, size, sp);
	return st;
}

int stack_push(struct cpu *c, unsigned size, u64 v)
{
	u64 sp = stack_wrap(c, size, c->gpr[RSP] - (1u << size));
	int st = mem_write_slow(c, stack_seg(c, size), sp, &v, 1u << size);

	if (likely(!st))
		stack_set_pointer(c, size, sp);
	return st;
}

/* ---- PUSH ---- */
INLINE int push(struct cpu *c, unsigned size, u64 v)
{
	u64 sp;
	void *p = stack_push_fast(c, size, &sp);

	if (unlikely(!p))
		return stack_push(c, size, v);
	host_store(p, size, v);
	stack_set_pointer(c, size, sp);
	return ST_OK;
}

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

/* With twins for insn::run. */
#define STACK_TWIN(name, form, bits, tmpl)									       \
	HANDLER(name##_##form##_##bits##_run)									       \
	{													       \
		int st;												       \
														       \
		thread_begin(c, i);										       \
		st = tmpl(c, i, SZ_##bits);									       \
		return likely(st == ST_OK) ? thread_next(c, i) : st;						       \
	}
#define STAMP_STACK(name, form, tmpl)										       \
	STAMP_WORDS(name, form, tmpl)										       \
	STACK_TWIN(name, form, 32, tmpl)									       \
	STACK_TWIN(name, form, 64, tmpl)
#define STACK_ROW(name, form)											       \
	[FORM_##form] = { { NULL }, { name##_##form##_16 }, WITH_RUN(name##_##form##_32), WITH_RUN(name##_##form##_64) }

STAMP_STACK(push, R, push_r)
STAMP_WORDS(push, M, push_m)
IMPL_TABLE(push, STACK_ROW(push, R), ROW_WORDS(push, M));
STAMP_STACK(push_imm, NONE, push_imm)
IMPL_TABLE(push_imm, STACK_ROW(push_imm, NONE));

/* The selector, zero-extended: one of the two things that CPUs do (SDM vol. 2, PUSH). */
HANDLER(do_push_sreg)
{
	return stack_push(c, i->size, c->seg[i->dst].sel);
}
IMPL_ANY(push_sreg, do_push_sreg);

/* ---- POP ---- */
/* The pointer moves first: POP rSP leaves what was popped. */
static __attribute__((noinline, cold)) int pop_r_slow(struct cpu *c, const struct insn *i)
{
	u64 v;
	int st = stack_pop(c, i->size, &v);

	if (likely(!st))
		reg_write(c, i->dst, i->size, v);
	return st;
}

INLINE int pop_r(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 sp;
	void *p = stack_pop_fast(c, size, &sp);

	if (unlikely(!p))
		return pop_r_slow(c, i);
	stack_set_pointer(c, size, sp);
	reg_write(c, i->dst, size, host_load(p, size));
	return ST_OK;
}

/* An address with rSP in it means the rSP after the pop (SDM vol. 2, POP). */
INLINE int pop_m(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v, old = c->gpr[RSP];
	int st = stack_pop(c, size, &v);

	if (unlikely(st))
		return st;
	st = store_operand(c, i, size, v);
	if (unlikely(st))
		c->gpr[RSP] = old;
	return st;
}

STAMP_STACK(pop, R, pop_r)
STAMP_WORDS(pop, M, pop_m)
IMPL_TABLE(pop, STACK_ROW(pop, R), ROW_WORDS(pop, M));

/* ---- PUSHA, POPA: registers are committed when all of memory was accessible ---- */
HANDLER(do_pusha)
{
	unsigned seg = stack_seg(c, i->size), bytes = 1u << i->size;
	u64 sp = c->gpr[RSP];

	for (unsigned r = RAX; r <= RDI; r++) {
		int st;

		sp = stack_wrap(c, i->size, sp - bytes);
		st = mem_write_slow(c, seg, sp, &c->gpr[r], bytes);
		if (unlikely(st))
			return st;
	}
	stack_set_pointer(c, i->size, sp);
	return ST_OK;
}
IMPL_ANY(pusha, do_pusha);

HANDLER(do_popa)
{
	unsigned seg = stack_seg(c, i->size), bytes = 1u << i->size;
	u64 sp = c->gpr[RSP], v[8] = { 0 };

	for (int r = RDI; r >= RAX; r--) {
		int st = mem_read_slow(c, seg, stack_wrap(c, i->size, sp), &v[r], bytes);

		if (unlikely(st))
			return st;
		sp += bytes;
	}
	for (unsigned r = RAX; r <= RDI; r++)
		if (r != RSP)
			reg_write(c, r * 8, i->size, v[r]);
	stack_set_pointer(c, i->size, stack_wrap(c, i->size, sp));
	return ST_OK;
}
IMPL_ANY(popa, do_popa);

/* ---- ENTER, LEAVE ---- */
/* Copies the outer frames' pointers for level n > 0; *sp moves. */
static int enter_copy_frames(struct cpu *c, unsigned size, unsigned level, u64 *sp, u64 frame)
{
	unsigned seg = stack_seg(c, size), bytes = 1u << size;
	u64 bp = c->gpr[RBP], v = 0;
	int st;

	for (unsigned n = 1; n < level; n++) {
		bp -= bytes;
		st = mem_read_slow(c, seg, stack_wrap(c, size, bp), &v, bytes);
		if (!st) {
			*sp = stack_wrap(c, size, *sp - bytes);
			st = mem_write_slow(c, seg, *sp, &v, bytes);
		}
		if (unlikely(st))
			return st;
	}
	*sp = stack_wrap(c, size, *sp - bytes);
	return mem_write_slow(c, seg, *sp, &frame, bytes);
}

/* imm: bytes of locals in 15:0, nesting level in 20:16. */
HANDLER(do_enter)
{
	unsigned seg = stack_seg(c, i->size), bytes = 1u << i->size, level = (i->imm >> 16) & 31;
	u64 sp = stack_wrap(c, i->size, c->gpr[RSP] - bytes), frame = sp;
	int st = mem_write_slow(c, seg, sp, &c->gpr[RBP], bytes);

	if (!st && level)
		st = enter_copy_frames(c, i->size, level, &sp, frame);
	sp = stack_wrap(c, i->size, sp - (i->imm & 0xffff));
	/* The new top of the stack must be writable, too. */
	if (!st)
		st = mem_probe(c, seg, sp, bytes, MEM_WRITE);
	if (unlikely(st))
		return st;
	reg_write(c, RBP * 8, i->size, frame);
	stack_set_pointer(c, i->size, sp);
	return ST_OK;
}
IMPL_ANY(enter, do_enter);

/* rSP = rBP, then POP rBP. */
HANDLER(do_leave)
{
	u64 bp = stack_wrap(c, i->size, c->gpr[RBP]), v = 0;
	int st = mem_read_slow(c, stack_seg(c, i->size), bp, &v, 1u << i->size);

	if (unlikely(st))
		return st;
	stack_set_pointer(c, i->size, stack_wrap(c, i->size, bp + (1u << i->size)));
	reg_write(c, RBP * 8, i->size, v);
	return ST_OK;
}
IMPL_ANY(leave, do_leave);
