// SPDX-License-Identifier: MIT
/* ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT. */
#include "interp/impl.h"

/* ---- templates: destination is written ---- */
INLINE int alu_rr(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return update_reg(c, i, size, reg_read(c, i->src, size), op);
}

INLINE int alu_ri(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return update_reg(c, i, size, i->imm, op);
}

INLINE int alu_rm(struct cpu *c, const struct insn *i, unsigned size, void *p, reg_core op)
{
	u64 s;
	int st = load_at(c, i, size, p, &s);

	return unlikely(st) ? st : update_reg(c, i, size, s, op);
}

INLINE int alu_mr(struct cpu *c, const struct insn *i, unsigned size, void *p, mem_core op)
{
	return update_mem(c, i, size, p, reg_read(c, i->src, size), op);
}

INLINE int alu_mi(struct cpu *c, const struct insn *i, unsigned size, void *p, mem_core op)
{
	return update_mem(c, i, size, p, i->imm, op);
}

INLINE int alu_r(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return update_reg(c, i, size, 0, op);
}

INLINE int alu_m(struct cpu *c, const struct insn *i, unsigned size, void *p, mem_core op)
{
	return update_mem(c, i, size, p, 0, op);
}

/* ---- templates: only flags are written ---- */
INLINE int test_values(struct cpu *c, unsigned size, u64 d, u64 s, reg_core op)
{
	u64 fl;

	op(d, s, size, &fl);
	c->cc = fl;
	return ST_OK;
}

INLINE int test_rr(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return test_values(c, size, reg_read(c, i->dst, size), reg_read(c, i->src, size), op);
}

INLINE int test_ri(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return test_values(c, size, reg_read(c, i->dst, size), i->imm, op);
}

INLINE int test_rm(struct cpu *c, const struct insn *i, unsigned size, void *p, reg_core op)
{
	u64 s;
	int st = load_at(c, i, size, p, &s);

	return unlikely(st) ? st : test_values(c, size, reg_read(c, i->dst, size), s, op);
}

INLINE int test_mr(struct cpu *c, const struct insn *i, unsigned size, void *p, reg_core op)
{
	u64 d;
	int st = load_at(c, i, size, p, &d);

	return unlikely(st) ? st : test_values(c, size, d, reg_read(c, i->src, size), op);
}

INLINE int test_mi(struct cpu *c, const struct insn *i, unsigned size, void *p, reg_core op)
{
	u64 d;
	int st = load_at(c, i, size, p, &d);

	return unlikely(st) ? st : test_values(c, size, d, i->imm, op);
}

/* ---- the operations ---- */
#define ALU2(name, mnem, FL)											       \
	REG_CORE(name##_reg, mnem, FL, SOURCE)									       \
	MEM_CORE(name##_mem, mnem, FL, SOURCE)									       \
	MEM_CORE(name##_lock, "lock " mnem, FL, SOURCE)								       \
	STAMP_REG(name, RR, alu_rr, name##_reg)									       \
	STAMP_MEM(name, RM, USE_LOAD, alu_rm, name##_reg)							       \
	STAMP_REG(name, RI, alu_ri, name##_reg)									       \
	STAMP_MEM(name, MR, USE_UPDATE, alu_mr, name##_mem)							       \
	STAMP_MEM(name, MI, USE_UPDATE, alu_mi, name##_mem)							       \
	STAMP_MEM(name, LMR, USE_UPDATE, alu_mr, name##_lock)							       \
	STAMP_MEM(name, LMI, USE_UPDATE, alu_mi, name##_lock)							       \
	IMPL_TABLE(name, RUN_ROW(name, RR), SEG_ROW(name, RM), RUN_ROW(name, RI), SEG_ROW(name, MR), \
		SEG_ROW(name, MI), SEG_ROW(name, LMR), \
		   SEG_ROW(name, LMI))

ALU2(add, "add", NONE);
ALU2(or, "or", NONE);
ALU2(adc, "adc", CARRY);
ALU2(sbb, "sbb", CARRY);
ALU2(and, "and", NONE);
ALU2(sub, "sub", NONE);
ALU2(xor, "xor", NONE);

#define COMPARE(name, mnem)											       \
	REG_CORE(name##_reg, mnem, NONE, SOURCE)								       \
	STAMP_REG(name, RR, test_rr, name##_reg) \
	STAMP_MEM(name, RM, USE_LOAD, test_rm, name##_reg)							       \
	STAMP_REG(name, RI, test_ri, name##_reg) \
	STAMP_MEM(name, MR, USE_LOAD, test_mr, name##_reg)							       \
	STAMP_MEM(name, MI, USE_LOAD, test_mi, name##_reg)							       \
	IMPL_TABLE(name, RUN_ROW(name, RR), SEG_ROW(name, RM), RUN_ROW(name, RI), SEG_ROW(name, MR), SEG_ROW(name, MI))

COMPARE(cmp, "cmp");
COMPARE(test, "test");

#define ALU1(name, mnem, FL)											       \
	REG_CORE(name##_reg, mnem, FL, NO_SOURCE)								       \
	MEM_CORE(name##_mem, mnem, FL, NO_SOURCE)								       \
	MEM_CORE(name##_lock, "lock " mnem, FL, NO_SOURCE)							       \
	STAMP_REG(name, R, alu_r, name##_reg)									       \
	STAMP_MEM(name, M, USE_UPDATE, alu_m, name##_mem)							       \
	STAMP_MEM(name, LM, USE_UPDATE, alu_m, name##_lock)							       \
	IMPL_TABLE(name, RUN_ROW(name, R), SEG_ROW(name, M), SEG_ROW(name, LM))

ALU1(inc, "inc", CARRY);
ALU1(dec, "dec", CARRY);
ALU1(neg, "neg", NONE);
ALU1(not, "not", KEEP);
