/* SPDX-License-Identifier: MIT */
/* SSE to SSE4.2: integer, logical and shuffling instructions, which raise no floating-point exceptions. */
#include "interp/simd_imm.h"
#include "interp/simd_ops.h"

/* ---- dst = op(dst, src) ---- */
#define SSE_VECTOR_(op, bytes, how)										       \
	HANDLER(do_##op)											       \
	{													       \
		v128 d, s;											       \
		int st = sse_fetch(c, i, bytes, how, &s);							       \
														       \
		if (unlikely(st))										       \
			return st;										       \
		d = XMM(c, i->dst);										       \
		asm(#op " %1, %0" : "+x"(d) : "x"(s));								       \
		XMM(c, i->dst) = d;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

#define SSE_VECTOR(op) SSE_VECTOR_(op, 16, ALIGNED)
#define SSE_UNALIGNED(op) SSE_VECTOR_(op, 16, UNALIGNED)

LANE_OPS(SSE_VECTOR)
LANE_UNARY_OPS(SSE_VECTOR)
NARROW_OPS(SSE_VECTOR)
VECTOR_OPS(SSE_VECTOR)
VECTOR_UNARY_OPS(SSE_VECTOR)
VECTOR_UNARY_128_OPS(SSE_VECTOR)
SHA_OPS(SSE_UNALIGNED)

/* RCPSS, RSQRTSS: approximations that no MXCSR bit has a say in. */
SSE_VECTOR_(rcpss, 4, UNALIGNED)
SSE_VECTOR_(rsqrtss, 4, UNALIGNED)

#define SSE_WIDEN(op, bytes)											       \
	HANDLER(do_##op)											       \
	{													       \
		v128 d, s;											       \
		int st = sse_fetch(c, i, bytes, UNALIGNED, &s);							       \
														       \
		if (unlikely(st))										       \
			return st;										       \
		asm(#op " %1, %0" : "=x"(d) : "x"(s));								       \
		XMM(c, i->dst) = d;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

WIDEN_OPS(SSE_WIDEN)

/* ---- shifts ---- */
#define SSE_SHIFT(op)												       \
	HANDLER(do_##op)											       \
	{													       \
		v128 d, s = { i->imm & 0xff, 0 };								       \
		int st = i->form == FORM_RI ? sse_begin(c) : sse_fetch(c, i, 16, ALIGNED, &s);			       \
														       \
		if (unlikely(st))										       \
			return st;										       \
		d = XMM(c, i->dst);										       \
		asm(#op " %1, %0" : "+x"(d) : "x"(s));								       \
		XMM(c, i->dst) = d;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

SHIFT_OPS(SSE_SHIFT)

#define SSE_BYTE_SHIFT(op)											       \
	HANDLER(do_##op)											       \
	{													       \
		union vec d;											       \
														       \
		if (sse_begin(c))										       \
			return ST_FAULT;									       \
		d.v = XMM(c, i->dst);										       \
		op##_imm(&d, &d, i->imm);									       \
		XMM(c, i->dst) = d.v;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_BYTE_SHIFT(psrldq)
SSE_BYTE_SHIFT(pslldq)

/* ---- shuffles, blends: what goes where is a matter of the immediate ---- */

/* The handler of a function that makes the result of the old destination, the source and the immediate. */
#define SSE_IMM(op, bytes, how)											       \
	HANDLER(do_##op)											       \
	{													       \
		union vec d, s;											       \
		int st = sse_fetch(c, i, bytes, how, &s.v);							       \
														       \
		if (unlikely(st))										       \
			return st;										       \
		d.v = XMM(c, i->dst);										       \
		op##_imm(&d, &s, i->imm);									       \
		XMM(c, i->dst) = d.v;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_IMM(pshufd, 16, ALIGNED)
SSE_IMM(pshuflw, 16, ALIGNED)
SSE_IMM(pshufhw, 16, ALIGNED)
SSE_IMM(shufps, 16, ALIGNED)
SSE_IMM(shufpd, 16, ALIGNED)
SSE_IMM(blendps, 16, ALIGNED)
SSE_IMM(blendpd, 16, ALIGNED)
SSE_IMM(pblendw, 16, ALIGNED)
SSE_IMM(palignr, 16, ALIGNED)

HANDLER(do_insertps)
{
	unsigned imm = i->imm;
	union vec d, s;
	int st = sse_fetch(c, i, 4, UNALIGNED, &s.v);

	if (unlikely(st))
		return st;
	d.v = XMM(c, i->dst);
	/* A memory operand is the element; the field that chooses one is ignored. */
	d.d[imm >> 4 & 3] = i->flags & INSN_MEM ? s.d[0] : s.d[imm >> 6 & 3];
	for (unsigned k = 0; k < 4; k++)
		if (imm & BIT(k))
			d.d[k] = 0;
	XMM(c, i->dst) = d.v;
	return ST_OK;
}
IMPL_ANY(insertps, do_insertps);

/* Blends by the sign bits of XMM0's elements. */
#define SSE_BLENDV(op, type)											       \
	typedef type op##_lanes __attribute__((vector_size(16)));						       \
	HANDLER(do_##op)											       \
	{													       \
		v128 s, mask;											       \
		int st = sse_fetch(c, i, 16, ALIGNED, &s);							       \
														       \
		if (unlikely(st))										       \
			return st;										       \
		mask = (v128)((op##_lanes)XMM(c, 0) < 0);							       \
		XMM(c, i->dst) = (XMM(c, i->dst) & ~mask) | (s & mask);						       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_BLENDV(pblendvb, s8)
SSE_BLENDV(blendvps, s32)
SSE_BLENDV(blendvpd, s64)

/* ---- elements to and from general registers ---- */

/* A general register or `bytes` of memory, as the source of pinsr. */
INLINE int element_source(struct cpu *c, const struct insn *i, unsigned bytes, u64 *v)
{
	*v = 0;
	if (i->flags & INSN_MEM)
		return mem_read(c, i->seg, insn_ea(c, i), v, bytes);
	*v = REG64(c, i->src);
	return ST_OK;
}

#define SSE_PINSR(op, bytes, field, lanes)									       \
	HANDLER(do_##op)											       \
	{													       \
		union vec d;											       \
		u64 v;												       \
		int st = sse_begin(c);										       \
														       \
		if (likely(!st))										       \
			st = element_source(c, i, bytes, &v);							       \
		if (unlikely(st))										       \
			return st;										       \
		d.v = XMM(c, i->dst);										       \
		d.field[i->imm & ((lanes) - 1)] = v;								       \
		XMM(c, i->dst) = d.v;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_PINSR(pinsrb, 1, b, 16)
SSE_PINSR(pinsrw, 2, w, 8)
SSE_PINSR(pinsrd, 4, d, 4)
SSE_PINSR(pinsrq, 8, q, 2)

PEXTR(pextrb, sse_begin, 1, b, 16)
PEXTR(pextrw, sse_begin, 2, w, 8)
PEXTR(pextrd, sse_begin, 4, d, 4)
PEXTR(pextrq, sse_begin, 8, q, 2)
PEXTR(extractps, sse_begin, 4, d, 4)

#define SSE_MOVMSK(op)												       \
	HANDLER(do_##op)											       \
	{													       \
		u32 v;												       \
														       \
		if (sse_begin(c))										       \
			return ST_FAULT;									       \
		asm(#op " %1, %0" : "=r"(v) : "x"(XMM(c, i->src)));						       \
		REG64(c, i->dst) = v;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_MOVMSK(movmskps)
SSE_MOVMSK(movmskpd)
SSE_MOVMSK(pmovmskb)

/* ZF: no bit of both is set; CF: no bit of the source alone. */
HANDLER(do_ptest)
{
	union vec both, rest;
	v128 d, s;
	int st = sse_fetch(c, i, 16, ALIGNED, &s);

	if (unlikely(st))
		return st;
	d = XMM(c, i->dst);
	both.v = s & d;
	rest.v = s & ~d;
	c->cc = (both.q[0] | both.q[1] ? 0 : FL_ZF) | (rest.q[0] | rest.q[1] ? 0 : FL_CF);
	return ST_OK;
}
IMPL_ANY(ptest, do_ptest);

/* ---- instructions whose immediate the host must have as well: a case for each ---- */

HANDLER(do_mpsadbw)
{
	v128 d, s;
	int st = sse_fetch(c, i, 16, ALIGNED, &s);

	if (unlikely(st))
		return st;
	d = XMM(c, i->dst);
	switch (i->imm & 7) {
#define MPSADBW(n)												       \
	case n:													       \
		asm("mpsadbw %2, %1, %0" : "+x"(d) : "x"(s), "i"(n));						       \
		break;
		CASES_8(MPSADBW, 0)
	}
	XMM(c, i->dst) = d;
	return ST_OK;
}
IMPL_ANY(mpsadbw, do_mpsadbw);

/*
 * PCMPxSTRx. The index goes to ECX or the mask to XMM0; CF, ZF, SF, OF come from the comparison, AF and PF are 0. The
 * source need not be aligned. Bit 7 of the immediate is reserved and ignored.
 */
struct str_cmp {
	v128 d, s, mask;
	u64 len_d, len_s; /* RAX, RDX: explicit lengths */
	u64 index;
	u8 flags;         /* from LAHF: SF ZF AF PF CF */
	u8 of;
};

#define STR_CASE(text, n)											       \
	case n:													       \
		asm(text "\n\tlahf\n\tmovzbl %%ah, %%eax\n\tmovb %%al, %[fl]\n\tseto %[of]"			       \
		    : "=&c"(x->index), "=&Yz"(x->mask), [fl] "=m"(x->flags), [of] "=m"(x->of), "+a"(len_d)	       \
		    : [imm] "i"(n), [d] "x"(x->d), [s] "x"(x->s), "d"(x->len_s)					       \
		    : "cc");											       \
		break;
#define STR_FUNCTION(name)											       \
	static void name(struct str_cmp *x, unsigned imm)							       \
	{													       \
		u64 len_d = x->len_d;										       \
														       \
		switch (imm & 0x7f) {										       \
			CASES_128(name##_case)									       \
		}												       \
	}
#define str_istri_case(n) STR_CASE("pcmpistri %[imm], %[s], %[d]", n)
#define str_istrm_case(n) STR_CASE("pcmpistrm %[imm], %[s], %[d]", n)
#define str_estri_case(n) STR_CASE("pcmpestri %[imm], %[s], %[d]", n)
#define str_estrm_case(n) STR_CASE("pcmpestrm %[imm], %[s], %[d]", n)

STR_FUNCTION(str_istri)
STR_FUNCTION(str_istrm)
STR_FUNCTION(str_estri)
STR_FUNCTION(str_estrm)

/* Explicit lengths without REX.W are those of EAX and EDX, signed; the host's REX.W form would take all 64 bits. */
static s64 str_length(const struct cpu *c, const struct insn *i, unsigned reg)
{
	s64 len = i->flags & INSN_REX_W ? (s64)c->gpr[reg] : (s32)c->gpr[reg];

	/* Beyond 16 elements, either way, they are all the same. */
	return len > 16 ? 16 : len < -16 ? -16 : len;
}

INLINE int str_compare(struct cpu *c, const struct insn *i, void (*compare)(struct str_cmp *x, unsigned imm),
		       bool index, enum fpu_trap family)
{
	struct str_cmp x = { .len_d = (u32)str_length(c, i, RAX), .len_s = (u32)str_length(c, i, RDX) };
	int st = fpu_check(c, family);

	if (likely(!st))
		st = sse_source(c, i, 16, UNALIGNED, &x.s);
	if (unlikely(st))
		return st;
	x.d = XMM(c, i->dst);
	compare(&x, i->imm);
	if (index)
		c->gpr[RCX] = (u32)x.index;
	else if (family == FPU_TRAP_AVX)
		xmm_set(c, 0, x.mask);
	else
		XMM(c, 0) = x.mask;
	c->cc = (x.flags & (FL_SF | FL_ZF | FL_CF)) | (x.of ? FL_OF : 0);
	return ST_OK;
}

#define SSE_STRING(op, compare, index)										       \
	HANDLER(do_##op)											       \
	{													       \
		return str_compare(c, i, compare, index, FPU_TRAP_SSE);						       \
	}													       \
	IMPL_ANY(op, do_##op);											       \
	HANDLER(do_v##op)											       \
	{													       \
		return str_compare(c, i, compare, index, FPU_TRAP_AVX);						       \
	}													       \
	IMPL_ANY(v##op, do_v##op);

SSE_STRING(pcmpistri, str_istri, true)
SSE_STRING(pcmpistrm, str_istrm, false)
SSE_STRING(pcmpestri, str_estri, true)
SSE_STRING(pcmpestrm, str_estrm, false)
