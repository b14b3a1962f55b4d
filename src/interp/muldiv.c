// SPDX-License-Identifier: MIT
/* MUL, IMUL, DIV, IDIV. A division that would fault is found before: the host must not see it. */
#include "interp/impl.h"

typedef unsigned __int128 u128;

/*
 * RDX:RAX is both source and destination (bytes: AX alone). The host leaves the upper parts as the guest's CPU would.
 * The guest's flags are loaded through RAX, so the operand follows behind.
 */
typedef void (*wide_core)(u64 *ax, u64 *dx, u64 s, unsigned size, u64 *fl);

#define WIDE_CASE(bits, text)											       \
	case SZ_##bits:												       \
		asm(TEXT_ALL "movq %[a], %%rax\n\t" text FLAGS_OUT_STACK					       \
		    : "+&a"(rax), "+&d"(*dx), [fl] "=r"(*fl) : [a] "r"(*ax), [s] "r"(s) : "cc");		       \
		break;
#define WIDE_CORE(name, mnem)											       \
	INLINE void name(u64 *ax, u64 *dx, u64 s, unsigned size, u64 *fl)					       \
	{													       \
		u64 rax = flags_for_sahf(*fl);									       \
														       \
		switch (size) {											       \
			WIDE_CASE(8, mnem "b %b[s]")								       \
			WIDE_CASE(16, mnem "w %w[s]")								       \
			WIDE_CASE(32, mnem "l %k[s]")								       \
			WIDE_CASE(64, mnem "q %q[s]")								       \
		}												       \
		*ax = rax;											       \
	}

WIDE_CORE(mul_core, "mul")
WIDE_CORE(imul_core, "imul")
WIDE_CORE(div_core, "div")
WIDE_CORE(idiv_core, "idiv")

INLINE int wide(struct cpu *c, u64 s, unsigned size, wide_core op)
{
	u64 ax = c->gpr[RAX], dx = c->gpr[RDX], fl = c->cc;

	op(&ax, &dx, s, size, &fl);
	c->gpr[RAX] = ax;
	c->gpr[RDX] = dx;
	c->cc = fl;
	return ST_OK;
}

/* ---- does a division fault? (a divisor of 0 does by the same comparison) ---- */
INLINE u64 dividend_high(const struct cpu *c, unsigned size)
{
	return size == SZ_8 ? REG8(c, RAX * 8 + 1) : c->gpr[RDX] & size_mask(size);
}

INLINE bool div_faults(const struct cpu *c, u64 s, unsigned size)
{
	return dividend_high(c, size) >= s;
}

/* |n / d| reaches the limit if |n| >= limit * |d|; a negative quotient may be one larger. */
INLINE bool idiv_faults(const struct cpu *c, u64 s, unsigned size)
{
	u64 high = dividend_high(c, size), low = c->gpr[RAX] & size_mask(size);
	s64 d = sign_extend(s, size);
	bool n_negative = sign_extend(high, size) < 0, d_negative = d < 0;
	u64 limit = (1ull << ((8u << size) - 1)) + (n_negative != d_negative);
	u128 n = (u128)(__int128)sign_extend(high, size) << (8u << size) | low;
	u64 d_abs = d_negative ? -(u64)d : (u64)d;

	if (n_negative)
		n = -n;
	return n >= (u128)limit * d_abs;
}

INLINE int do_mul(struct cpu *c, u64 s, unsigned size)
{
	return wide(c, s, size, mul_core);
}

INLINE int do_imul(struct cpu *c, u64 s, unsigned size)
{
	return wide(c, s, size, imul_core);
}

INLINE int do_div(struct cpu *c, u64 s, unsigned size)
{
	return unlikely(div_faults(c, s, size)) ? fault_noerr(c, VEC_DE) : wide(c, s, size, div_core);
}

INLINE int do_idiv(struct cpu *c, u64 s, unsigned size)
{
	return unlikely(idiv_faults(c, s, size)) ? fault_noerr(c, VEC_DE) : wide(c, s, size, idiv_core);
}

typedef int (*wide_op)(struct cpu *c, u64 s, unsigned size);

INLINE int wide_r(struct cpu *c, const struct insn *i, unsigned size, wide_op op)
{
	return op(c, reg_read(c, i->dst, size), size);
}

INLINE int wide_m(struct cpu *c, const struct insn *i, unsigned size, void *p, wide_op op)
{
	u64 s;
	int st = load_at(c, i, size, p, &s);

	return unlikely(st) ? st : op(c, s, size);
}

/* ---- IMUL with two and three operands ---- */
REG_CORE_WORDS(imul_reg, "imul", ALL, SOURCE)

INLINE int imul_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	return update_reg(c, i, size, reg_read(c, i->src, size), imul_reg);
}

INLINE int imul_rm(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	u64 s;
	int st = load_at(c, i, size, p, &s);

	return unlikely(st) ? st : update_reg(c, i, size, s, imul_reg);
}

INLINE int imul_imm(struct cpu *c, const struct insn *i, unsigned size, u64 s)
{
	u64 fl = c->cc;

	reg_write(c, i->dst, size, imul_reg(s, i->imm, size, &fl));
	c->cc = fl;
	return ST_OK;
}

INLINE int imul_imm_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	return imul_imm(c, i, size, reg_read(c, i->src, size));
}

INLINE int imul_imm_rm(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	u64 s;
	int st = load_at(c, i, size, p, &s);

	return unlikely(st) ? st : imul_imm(c, i, size, s);
}

#define WIDE(name)												       \
	STAMP_REG(name, R, wide_r, do_##name)									       \
	STAMP_MEM(name, M, USE_LOAD, wide_m, do_##name)

WIDE(mul)
IMPL_TABLE(mul, RUN_ROW(mul, R), SEG_ROW(mul, M));
WIDE(div)
IMPL_TABLE(div, RUN_ROW(div, R), SEG_ROW(div, M));
WIDE(idiv)
IMPL_TABLE(idiv, RUN_ROW(idiv, R), SEG_ROW(idiv, M));
WIDE(imul)
STAMP_REG_WORDS(imul, RR, imul_rr)
STAMP_MEM_WORDS(imul, RM, USE_LOAD, imul_rm)
IMPL_TABLE(imul, RUN_ROW(imul, R), SEG_ROW(imul, M), RUN_ROW_WORDS(imul, RR), SEG_ROW_WORDS(imul, RM));
STAMP_REG_WORDS(imul_imm, RR, imul_imm_rr)
STAMP_MEM_WORDS(imul_imm, RM, USE_LOAD, imul_imm_rm)
IMPL_TABLE(imul_imm, RUN_ROW_WORDS(imul_imm, RR), SEG_ROW_WORDS(imul_imm, RM));
