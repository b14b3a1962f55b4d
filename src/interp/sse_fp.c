/* SPDX-License-Identifier: MIT */
/* SSE to SSE4.1: floating-point instructions, which may raise #XM. */
#include "interp/simd_imm.h"
#include "interp/simd_ops.h"

/* ---- guests that unmask exceptions ---- */

/*
 * The host runs with all exceptions masked, so its flags tell what happened; they start cleared, as only new ones
 * count. With unmasked underflow, FTZ has no effect.
 */
u32 simd_enter_unmasked(const struct cpu *c)
{
	u32 in = (c->fpu.mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS;

	return c->fpu.mxcsr & MXCSR_UM ? in : in & ~MXCSR_FTZ;
}

static bool denormal16(u16 v)
{
	return !(v & 0x7c00) && (v & 0x3ff);
}

static bool denormal32(u32 v)
{
	return !(v & 0x7f800000) && (v & 0x7fffff);
}

static bool denormal64(u64 v)
{
	return !(v & 0x7ff0000000000000) && (v & 0xfffffffffffff);
}

static bool is_tiny(const v128 *result, unsigned kind)
{
	const union vec *r = (const union vec *)result;
	bool tiny = false;

	switch (kind) {
	case RES_SS:
		return denormal32(r->d[0]);
	case RES_SD:
		return denormal64(r->q[0]);
	case RES_PS:
		for (unsigned k = 0; k < 4; k++)
			tiny |= denormal32(r->d[k]);
		return tiny;
	case RES_PD:
		return denormal64(r->q[0]) || denormal64(r->q[1]);
	case RES_PH:
		for (unsigned k = 0; k < 4; k++)
			tiny |= denormal16(r->w[k]);
		return tiny;
	case RES_PH | RES_WIDE:
		for (unsigned k = 0; k < 8; k++)
			tiny |= denormal16(r->w[k]);
		return tiny;
	case RES_PS | RES_WIDE:
	case RES_PD | RES_WIDE:
		return is_tiny(result, kind & ~RES_WIDE) || is_tiny(result + 1, kind & ~RES_WIDE);
	default:
		return false;
	}
}

#define XM_PRE 0x07 /* IE, DE, ZE: found before anything is computed */
#define XM_UE 0x10

/* SDM vol. 1, 11.5.2 and 11.5.3. */
int simd_leave_unmasked(struct cpu *c, u32 out, const v128 *result, unsigned kind)
{
	u32 raised = out & MXCSR_FLAGS, unmasked = ~c->fpu.mxcsr >> 7 & MXCSR_FLAGS;

	/* An exact denormal result is an underflow only if that is unmasked. */
	if ((unmasked & XM_UE) && is_tiny(result, kind))
		raised |= XM_UE;
	/* The computation does not happen, in any element, if one of them has an unmasked exception before it. */
	if (raised & unmasked & XM_PRE)
		raised &= XM_PRE;
	c->fpu.mxcsr |= raised;
	if (!(raised & unmasked))
		return ST_OK;
	return c->cr4 & CR4_OSXMMEXCPT ? fault_noerr(c, VEC_XM) : fault_ud(c);
}

/* ---- dst = op(dst, src) ---- */
#define SSE_FP(op, bytes, kind)                                                                                        \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v128 d, s;                                                                                             \
		int st = sse_fetch(c, i, bytes, (bytes) == 16 ? ALIGNED : UNALIGNED, &s);                              \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = XMM(c, i->dst);                                                                                    \
		SIMD_RUN(c, &e, #op " %[s], %[d]", [d] "+x"(d), [s] "x"(s));                                           \
		if (simd_leave(c, &e, &d, kind))                                                                       \
			return ST_FAULT;                                                                               \
		XMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

FP_OPS(SSE_FP)

/* ---- with an immediate ---- */
#define FP_CASE(text, n)                                                                                               \
	case n:                                                                                                        \
		SIMD_RUN(c, &e, text, [d] "+x"(d), SIMD_OPERANDS([s] "x"(s), [imm] "i"(n)));                           \
		break;
#define CASES_16(X) CASES_8(X, 0) CASES_8(X, 8)
#define CASES_8_(X) CASES_8(X, 0)

/* cases: how many values of the immediate differ; its other bits are reserved and ignored. */
#define SSE_FP_IMM(op, bytes, case_, cases, mask)                                                                      \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v128 d, s;                                                                                             \
		int st = sse_fetch(c, i, bytes, (bytes) == 16 ? ALIGNED : UNALIGNED, &s);                              \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = XMM(c, i->dst);                                                                                    \
		switch (i->imm & (mask)) {                                                                             \
			cases(case_)                                                                                   \
		}                                                                                                      \
		if (simd_leave(c, &e, &d, RES_NONE))                                                                   \
			return ST_FAULT;                                                                               \
		XMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

#define CMPPS(n) FP_CASE("cmpps %[imm], %[s], %[d]", n)
#define CMPPD(n) FP_CASE("cmppd %[imm], %[s], %[d]", n)
#define CMPSS(n) FP_CASE("cmpss %[imm], %[s], %[d]", n)
#define CMPSD(n) FP_CASE("cmpsd %[imm], %[s], %[d]", n)
#define ROUNDPS(n) FP_CASE("roundps %[imm], %[s], %[d]", n)
#define ROUNDPD(n) FP_CASE("roundpd %[imm], %[s], %[d]", n)
#define ROUNDSS(n) FP_CASE("roundss %[imm], %[s], %[d]", n)
#define ROUNDSD(n) FP_CASE("roundsd %[imm], %[s], %[d]", n)

SSE_FP_IMM(cmpps, 16, CMPPS, CASES_8_, 7)
SSE_FP_IMM(cmppd, 16, CMPPD, CASES_8_, 7)
SSE_FP_IMM(cmpss, 4, CMPSS, CASES_8_, 7)
SSE_FP_IMM(cmpsd_xmm, 8, CMPSD, CASES_8_, 7)
SSE_FP_IMM(roundps, 16, ROUNDPS, CASES_16, 15)
SSE_FP_IMM(roundpd, 16, ROUNDPD, CASES_16, 15)
SSE_FP_IMM(roundss, 4, ROUNDSS, CASES_16, 15)
SSE_FP_IMM(roundsd, 8, ROUNDSD, CASES_16, 15)

/*
 * Dot products. Bits 7:4 of the immediate leave out products: an element that is cleared in both sources gives +0 and
 * raises nothing. Bits 3:0 leave out elements of the result.
 */
#define SSE_DOT(op, all, lanes, kind)                                                                                  \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v128 d, s, in = lanes(i->imm >> 4), out = lanes(i->imm);                                               \
		int st = sse_fetch(c, i, 16, ALIGNED, &s);                                                             \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = XMM(c, i->dst) & in;                                                                               \
		s &= in;                                                                                               \
		SIMD_RUN(c, &e, #op " $" #all ", %[s], %[d]", [d] "+x"(d), [s] "x"(s));                                \
		if (simd_leave(c, &e, &d, kind))                                                                       \
			return ST_FAULT;                                                                               \
		XMM(c, i->dst) = d & out;                                                                              \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

SSE_DOT(dpps, 0xff, lanes_ps, RES_PS)
SSE_DOT(dppd, 0x33, lanes_pd, RES_PD)

/* ---- comparisons to EFLAGS: ZF, PF, CF; the other status flags are cleared ---- */
#define SSE_COMI(op, bytes)                                                                                            \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v128 s;                                                                                                \
		u16 ax;                                                                                                \
		int st = sse_fetch(c, i, bytes, UNALIGNED, &s);                                                        \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		SIMD_RUN(c, &e, #op " %[s], %[d]\n\tlahf", "=&a"(ax),                                                  \
			 SIMD_OPERANDS([s] "x"(s), [d] "x"(XMM(c, i->dst))));                                          \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		c->cc = ax >> 8 & (FL_ZF | FL_PF | FL_CF);                                                             \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

SSE_COMI(comiss, 4)
SSE_COMI(ucomiss, 4)
SSE_COMI(comisd, 8)
SSE_COMI(ucomisd, 8)

/* ---- to and from general registers ---- */
#define SSE_TO_GPR(op, bytes)                                                                                          \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		u64 v;                                                                                                 \
		v128 s;                                                                                                \
		int st = sse_fetch(c, i, bytes, UNALIGNED, &s);                                                        \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (i->flags & INSN_REX_W)                                                                             \
			SIMD_RUN(c, &e, #op " %[s], %q[v]", [v] "=&r"(v), [s] "x"(s));                                 \
		else                                                                                                   \
			SIMD_RUN(c, &e, #op " %[s], %k[v]", [v] "=&r"(v), [s] "x"(s));                                 \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		gpr_write(c, i, v);                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

SSE_TO_GPR(cvtss2si, 4)
SSE_TO_GPR(cvttss2si, 4)
SSE_TO_GPR(cvtsd2si, 8)
SSE_TO_GPR(cvttsd2si, 8)

#define SSE_FROM_GPR(op)                                                                                               \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v128 d;                                                                                                \
		u64 v;                                                                                                 \
		int st = sse_begin(c);                                                                                 \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (i->flags & INSN_MEM)                                                                               \
			st = load_operand(c, i, i->size, &v);                                                          \
		else                                                                                                   \
			v = REG64(c, i->src);                                                                          \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = XMM(c, i->dst);                                                                                    \
		if (i->size == SZ_64)                                                                                  \
			SIMD_RUN(c, &e, #op "q %q[v], %[d]", [d] "+x"(d), [v] "r"(v));                                 \
		else                                                                                                   \
			SIMD_RUN(c, &e, #op "l %k[v], %[d]", [d] "+x"(d), [v] "r"(v));                                 \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		XMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

SSE_FROM_GPR(cvtsi2ss)
SSE_FROM_GPR(cvtsi2sd)
