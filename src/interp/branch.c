// SPDX-License-Identifier: MIT
/* Near branches. A block ends at each of them, taken or not. The target is checked before anything is committed. */
#include "interp/impl.h"

/* With twins for insn::run. They end the block, but for a soft TLB miss of the operand. */
#define BRANCH_TWIN(name, form, bits, tmpl, ...)								       \
	HANDLER(name##_##form##_##bits##_run)									       \
	{													       \
		thread_begin(c, i);										       \
		return tmpl(c, i, SZ_##bits, ##__VA_ARGS__);							       \
	}
#define STAMP_BRANCH(name, form, tmpl, ...)									       \
	STAMP_WORDS(name, form, tmpl, ##__VA_ARGS__)								       \
	BRANCH_TWIN(name, form, 32, tmpl, ##__VA_ARGS__)							       \
	BRANCH_TWIN(name, form, 64, tmpl, ##__VA_ARGS__)
#define BRANCH_TWIN_MEM(handler, operand, bits, tmpl)								       \
	HANDLER(handler)											       \
	{													       \
		void *p = operand(c, i, SZ_##bits, MEM_READ);							       \
														       \
		if (unlikely(!p))										       \
			return thread_slow(c, i);								       \
		thread_begin(c, i);										       \
		return tmpl(c, i, SZ_##bits, p);								       \
	}
#define STAMP_BRANCH_MEM(name, form, tmpl)									       \
	STAMP_MEM_FN_SIZE(name, form, 16, USE_LOAD, tmpl)							       \
	STAMP_MEM_FN_SIZE(name, form, 32, USE_LOAD, tmpl)							       \
	STAMP_MEM_FN_SIZE(name, form, 64, USE_LOAD, tmpl)							       \
	BRANCH_TWIN_MEM(name##_##form##_32_seg, thread_operand_seg, 32, tmpl)					       \
	BRANCH_TWIN_MEM(name##_##form##_64_run, thread_operand, 64, tmpl)					       \
	BRANCH_TWIN_MEM(name##_##form##_64_seg, thread_operand_seg, 64, tmpl)
#define BRANCH_ROW(name, form)											       \
	[FORM_##form] = { { NULL }, { name##_##form##_16 }, WITH_RUN(name##_##form##_32), WITH_RUN(name##_##form##_64) }
/* Operands of 32 bits are never flat: they exist only outside 64-bit mode. */
#define BRANCH_ROW_MEM(name, form)										       \
	[FORM_##form] = { { NULL }, { name##_##form##_16 }, { name##_##form##_32, NULL, name##_##form##_32_seg },      \
			  WITH_SEG(name##_##form##_64) }

static inline bool canonical(u64 lin)
{
	return (u64)((s64)(lin << 16) >> 16) == lin;
}

/* Near branches with 64-bit operands exist only in 64-bit mode, others only outside. */
INLINE int check_target(struct cpu *c, u64 *rip, unsigned size)
{
	bool ok;

	if (size == SZ_64) {
		ok = canonical(*rip);
	} else {
		*rip &= size_mask(size);
		ok = *rip <= c->seg[SEG_CS].limit;
	}
	return likely(ok) ? ST_OK : fault_gp(c, 0);
}

/* Any size in any mode: far transfers come here as well. */
int branch_target(struct cpu *c, u64 *rip, unsigned size)
{
	*rip &= size_mask(size);
	return check_target(c, rip, c->mode == CPU_LONG ? SZ_64 : size);
}

int branch_to(struct cpu *c, u64 rip, unsigned size)
{
	int st = branch_target(c, &rip, size);

	if (unlikely(st))
		return st;
	c->gpr[R_RIP] = rip;
	return ST_END;
}

INLINE int jump_to(struct cpu *c, u64 rip, unsigned size)
{
	int st = check_target(c, &rip, size);

	if (unlikely(st))
		return st;
	c->gpr[R_RIP] = rip;
	return ST_END;
}

INLINE int jump_rel(struct cpu *c, const struct insn *i, unsigned size, bool taken)
{
	return taken ? jump_to(c, c->gpr[R_RIP] + i->imm, size) : ST_END;
}

/* ---- JMP, Jcc ---- */
INLINE int jmp_rel(struct cpu *c, const struct insn *i, unsigned size)
{
	return jump_rel(c, i, size, true);
}

INLINE int jmp_r(struct cpu *c, const struct insn *i, unsigned size)
{
	return jump_to(c, reg_read(c, i->dst, size), size);
}

INLINE int jmp_m(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	u64 rip;
	int st = load_at(c, i, size, p, &rip);

	return unlikely(st) ? st : jump_to(c, rip, size);
}

STAMP_BRANCH(jmp_rel, NONE, jmp_rel)
IMPL_TABLE(jmp_rel, BRANCH_ROW(jmp_rel, NONE));
STAMP_BRANCH(jmp_rm, R, jmp_r)
STAMP_BRANCH_MEM(jmp_rm, M, jmp_m)
IMPL_TABLE(jmp_rm, BRANCH_ROW(jmp_rm, R), BRANCH_ROW_MEM(jmp_rm, M));

#define JCC(cond, expr)												       \
	STAMP_BRANCH(j##cond, NONE, jump_rel, condition_##cond(c->cc))						       \
	IMPL_TABLE(j##cond, BRANCH_ROW(j##cond, NONE));
CONDITIONS(JCC)

/* ---- LOOP, JCXZ: the counter is as wide as an address ---- */
INLINE int loop(struct cpu *c, const struct insn *i, unsigned size, bool condition)
{
	u64 count = (c->gpr[RCX] - 1) & size_mask(i->asize);
	int st = jump_rel(c, i, size, count && condition);

	if (likely(st == ST_END))
		reg_write(c, RCX * 8, i->asize, count);
	return st;
}

INLINE int loop_always(struct cpu *c, const struct insn *i, unsigned size)
{
	return loop(c, i, size, true);
}

INLINE int loop_equal(struct cpu *c, const struct insn *i, unsigned size)
{
	return loop(c, i, size, c->cc & FL_ZF);
}

INLINE int loop_not_equal(struct cpu *c, const struct insn *i, unsigned size)
{
	return loop(c, i, size, !(c->cc & FL_ZF));
}

INLINE int jcxz(struct cpu *c, const struct insn *i, unsigned size)
{
	return jump_rel(c, i, size, !(c->gpr[RCX] & size_mask(i->asize)));
}

STAMP_BRANCH(loop, NONE, loop_always)
IMPL_TABLE(loop, BRANCH_ROW(loop, NONE));
STAMP_BRANCH(loope, NONE, loop_equal)
IMPL_TABLE(loope, BRANCH_ROW(loope, NONE));
STAMP_BRANCH(loopne, NONE, loop_not_equal)
IMPL_TABLE(loopne, BRANCH_ROW(loopne, NONE));
STAMP_BRANCH(jcxz, NONE, jcxz)
IMPL_TABLE(jcxz, BRANCH_ROW(jcxz, NONE));

/* ---- CALL, RET ---- */
static __attribute__((noinline, cold)) int call_slow(struct cpu *c, u64 rip, unsigned size)
{
	int st = stack_push(c, size, c->gpr[R_RIP]);

	if (unlikely(st))
		return st;
	c->gpr[R_RIP] = rip;
	return ST_END;
}

INLINE int call_to(struct cpu *c, u64 rip, unsigned size)
{
	int st = check_target(c, &rip, size);
	void *p;
	u64 sp;

	if (unlikely(st))
		return st;
	p = stack_push_fast(c, size, &sp);
	if (unlikely(!p))
		return call_slow(c, rip, size);
	host_store(p, size, c->gpr[R_RIP]);
	stack_set_pointer(c, size, sp);
	c->gpr[R_RIP] = rip;
	return ST_END;
}

INLINE int call_rel(struct cpu *c, const struct insn *i, unsigned size)
{
	return call_to(c, c->gpr[R_RIP] + i->imm, size);
}

INLINE int call_r(struct cpu *c, const struct insn *i, unsigned size)
{
	return call_to(c, reg_read(c, i->dst, size), size);
}

INLINE int call_m(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	u64 rip;
	int st = load_at(c, i, size, p, &rip);

	return unlikely(st) ? st : call_to(c, rip, size);
}

/* imm is how much more to release. */
INLINE int return_to(struct cpu *c, const struct insn *i, unsigned size, u64 rip, u64 sp)
{
	int st = check_target(c, &rip, size);

	if (unlikely(st))
		return st;
	stack_set_pointer(c, size, stack_wrap(c, size, sp + i->imm));
	c->gpr[R_RIP] = rip;
	return ST_END;
}

static __attribute__((noinline, cold)) int ret_slow(struct cpu *c, const struct insn *i)
{
	u64 rip, sp;
	int st = stack_peek(c, i->size, &rip, &sp);

	return st ? st : return_to(c, i, i->size, rip, sp);
}

INLINE int ret(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 sp;
	void *p = stack_pop_fast(c, size, &sp);

	return likely(p) ? return_to(c, i, size, host_load(p, size), sp) : ret_slow(c, i);
}

STAMP_BRANCH(call_rel, NONE, call_rel)
IMPL_TABLE(call_rel, BRANCH_ROW(call_rel, NONE));
STAMP_BRANCH(call_rm, R, call_r)
STAMP_BRANCH_MEM(call_rm, M, call_m)
IMPL_TABLE(call_rm, BRANCH_ROW(call_rm, R), BRANCH_ROW_MEM(call_rm, M));
STAMP_BRANCH(ret, NONE, ret)
IMPL_TABLE(ret, BRANCH_ROW(ret, NONE));
