// SPDX-License-Identifier: MIT
/*
 * Shifts and rotates. The host masks the count, keeps the flags if it is 0 and leaves undefined ones undefined in its
 * own way, so all the guest's flags are loaded before. A count in CL is a source register (FORM_RR, FORM_MR).
 */
#include "interp/impl.h"

INLINE int shift_rr(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return update_reg(c, i, size, REG8(c, i->src), op);
}

INLINE int shift_ri(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return update_reg(c, i, size, i->imm, op);
}

INLINE int shift_mr(struct cpu *c, const struct insn *i, unsigned size, void *p, mem_core op)
{
	return update_mem(c, i, size, p, REG8(c, i->src), op);
}

INLINE int shift_mi(struct cpu *c, const struct insn *i, unsigned size, void *p, mem_core op)
{
	return update_mem(c, i, size, p, i->imm, op);
}

#define SHIFT(name, mnem)											       \
	REG_CORE(name##_reg, mnem, ALL, COUNT)									       \
	MEM_CORE(name##_mem, mnem, ALL, COUNT)									       \
	STAMP_REG(name, RR, shift_rr, name##_reg) \
	STAMP_REG(name, RI, shift_ri, name##_reg) \
	STAMP_MEM(name, MR, USE_UPDATE, shift_mr, name##_mem)							       \
	STAMP_MEM(name, MI, USE_UPDATE, shift_mi, name##_mem)							       \
	IMPL_TABLE(name, RUN_ROW(name, RR), RUN_ROW(name, RI), SEG_ROW(name, MR), SEG_ROW(name, MI))

SHIFT(rol, "rol");
SHIFT(ror, "ror");
SHIFT(rcl, "rcl");
SHIFT(rcr, "rcr");
SHIFT(shl, "shl");
SHIFT(shr, "shr");
SHIFT(sar, "sar");

/* ---- SHLD, SHRD: bits come from a register ---- */
typedef u64 (*double_core)(u64 d, u64 s, u64 count, unsigned size, u64 *fl);

#define DOUBLE_CASE(bits, text)											       \
	case SZ_##bits:												       \
		asm(TEXT_ALL text AFTER_ALL : [d] "+r"(d), OUT_ALL(*fl) : [s] "r"(s), "c"(count) : "cc");	       \
		break;
#define DOUBLE_CORE(name, mnem)											       \
	INLINE u64 name(u64 d, u64 s, u64 count, unsigned size, u64 *fl)					       \
	{													       \
		PREP_ALL(*fl);											       \
		switch (size) {											       \
			DOUBLE_CASE(16, mnem "w %%cl, %w[s], %w[d]")						       \
			DOUBLE_CASE(32, mnem "l %%cl, %k[s], %k[d]")						       \
			DOUBLE_CASE(64, mnem "q %%cl, %q[s], %q[d]")						       \
		}												       \
		return d;											       \
	}

INLINE int double_reg(struct cpu *c, const struct insn *i, unsigned size, u64 count, double_core op)
{
	u64 fl = c->cc;
	u64 d = op(reg_read(c, i->dst, size), reg_read(c, i->src, size), count, size, &fl);

	reg_write(c, i->dst, size, d);
	c->cc = fl;
	return ST_OK;
}

INLINE int double_mem(struct cpu *c, const struct insn *i, unsigned size, u64 count, double_core op)
{
	u64 fl = c->cc;
	struct mem_rmw a;
	int st = mem_rmw(c, i->seg, insn_ea(c, i), 1u << size, &a);

	if (unlikely(st))
		return st;
	host_store(a.p, size, op(host_load(a.p, size), reg_read(c, i->src, size), count, size, &fl));
	st = mem_rmw_done(c, &a);
	if (unlikely(st))
		return st;
	c->cc = fl;
	return ST_OK;
}

INLINE int double_rr(struct cpu *c, const struct insn *i, unsigned size, double_core op)
{
	return double_reg(c, i, size, i->imm, op);
}

INLINE int double_mr(struct cpu *c, const struct insn *i, unsigned size, double_core op)
{
	return double_mem(c, i, size, i->imm, op);
}

INLINE int double_rr_cl(struct cpu *c, const struct insn *i, unsigned size, double_core op)
{
	return double_reg(c, i, size, c->gpr[RCX], op);
}

INLINE int double_mr_cl(struct cpu *c, const struct insn *i, unsigned size, double_core op)
{
	return double_mem(c, i, size, c->gpr[RCX], op);
}

#define DOUBLE_SHIFT(name, mnem)										       \
	DOUBLE_CORE(name##_core, mnem)										       \
	STAMP_REG_WORDS(name, RR, double_rr, name##_core) \
	STAMP_WORDS(name, MR, double_mr, name##_core)								       \
	STAMP_REG_WORDS(name##_cl, RR, double_rr_cl, name##_core) \
	STAMP_WORDS(name##_cl, MR, double_mr_cl, name##_core)							       \
	IMPL_TABLE(name, RUN_ROW_WORDS(name, RR), ROW_WORDS(name, MR));						       \
	IMPL_TABLE(name##_cl, RUN_ROW_WORDS(name##_cl, RR), ROW_WORDS(name##_cl, MR))

DOUBLE_SHIFT(shld, "shld");
DOUBLE_SHIFT(shrd, "shrd");
