/* SPDX-License-Identifier: MIT */
/*
 * MMX. The host's own MMX registers are never touched: each operation has an SSE twin of which 64 bits are the result.
 */
#include "interp/simd.h"
#include "interp/simd_ops.h"

/* The last operand: memory (zero-extended) or the register src. */
INLINE int mmx_source(struct cpu *c, const struct insn *i, unsigned bytes, u64 *v)
{
	*v = 0;
	if (i->flags & INSN_MEM)
		return mem_read(c, i->seg, insn_ea(c, i), v, bytes);
	*v = mmx_get(c, i->src);
	return ST_OK;
}

INLINE int mmx_fetch(struct cpu *c, const struct insn *i, unsigned bytes, u64 *v)
{
	int st = mmx_begin(c);

	return unlikely(st) ? st : mmx_source(c, i, bytes, v);
}

/* ---- dst = op(dst, src) ---- */

/* before: what to do to the 128-bit d and s, of which the low halves are the MMX operands; half: the result. */
#define MMX_OP(op, bytes, before, half)                                                                                \
	HANDLER(do_##op##_mmx)                                                                                         \
	{                                                                                                              \
		u64 src;                                                                                               \
		int st = mmx_fetch(c, i, bytes, &src);                                                                 \
		v128 d, s;                                                                                             \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = (v128){ mmx_get(c, i->dst), 0 };                                                                   \
		s = (v128){ src, 0 };                                                                                  \
		before;                                                                                                \
		asm(#op " %1, %0" : "+x"(d) : "x"(s));                                                                 \
		mmx_set(c, i->dst, d[half]);                                                                           \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op##_mmx, do_##op##_mmx);

#define MMX_LANE(op) MMX_OP(op, 8, , 0)
LANE_OPS(MMX_LANE)
LANE_UNARY_OPS(MMX_LANE)

/* Both sources side by side in d; the low half is made of it. */
#define MMX_NARROW(op) MMX_OP(op, 8, d[1] = src, 0)
NARROW_OPS(MMX_NARROW)

/* Interleaving the low halves gives all pairs: the low and the high result. The low form reads 4 bytes of memory. */
#define MMX_UNPACK_LOW(op) MMX_OP(op, 4, , 0)
MMX_UNPACK_LOW(punpcklbw)
MMX_UNPACK_LOW(punpcklwd)
MMX_UNPACK_LOW(punpckldq)

#define MMX_UNPACK_HIGH(op, low)                                                                                       \
	HANDLER(do_##op##_mmx)                                                                                         \
	{                                                                                                              \
		u64 src;                                                                                               \
		int st = mmx_fetch(c, i, 8, &src);                                                                     \
		v128 d, s;                                                                                             \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = (v128){ mmx_get(c, i->dst), 0 };                                                                   \
		s = (v128){ src, 0 };                                                                                  \
		asm(#low " %1, %0" : "+x"(d) : "x"(s));                                                                \
		mmx_set(c, i->dst, d[1]);                                                                              \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op##_mmx, do_##op##_mmx);

MMX_UNPACK_HIGH(punpckhbw, punpcklbw)
MMX_UNPACK_HIGH(punpckhwd, punpcklwd)
MMX_UNPACK_HIGH(punpckhdq, punpckldq)

/* Of an index, bit 3 is ignored here, and not there. */
MMX_OP(pshufb, 8, s &= 0x8787878787878787ull, 0)

#define MMX_SHIFT(op)                                                                                                  \
	HANDLER(do_##op##_mmx)                                                                                         \
	{                                                                                                              \
		u64 src = i->imm & 0xff;                                                                               \
		int st = i->form == FORM_RI ? mmx_begin(c) : mmx_fetch(c, i, 8, &src);                                 \
		v128 d;                                                                                                \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = (v128){ mmx_get(c, i->dst), 0 };                                                                   \
		asm(#op " %1, %0" : "+x"(d) : "x"((v128){ src, 0 }));                                                  \
		mmx_set(c, i->dst, d[0]);                                                                              \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op##_mmx, do_##op##_mmx);

SHIFT_OPS(MMX_SHIFT)

/* ---- with an immediate ---- */
HANDLER(do_pshufw)
{
	union vec s = { 0 }, d = { 0 };
	int st = mmx_fetch(c, i, 8, &s.q[0]);

	if (unlikely(st))
		return st;
	for (unsigned k = 0; k < 4; k++)
		d.w[k] = s.w[i->imm >> 2 * k & 3];
	mmx_set(c, i->dst, d.q[0]);
	return ST_OK;
}
IMPL_ANY(pshufw, do_pshufw);

HANDLER(do_palignr_mmx)
{
	unsigned from = min_u64(i->imm & 0xff, 16);
	u64 all[4] = { 0 }, v;
	int st = mmx_fetch(c, i, 8, &all[0]);

	if (unlikely(st))
		return st;
	all[1] = mmx_get(c, i->dst);
	memcpy(&v, (const u8 *)all + from, 8);
	mmx_set(c, i->dst, v);
	return ST_OK;
}
IMPL_ANY(palignr_mmx, do_palignr_mmx);

HANDLER(do_pinsrw_mmx)
{
	union vec d = { 0 };
	u64 v = 0;
	int st = mmx_begin(c);

	if (unlikely(st))
		return st;
	if (i->flags & INSN_MEM)
		st = mem_read(c, i->seg, insn_ea(c, i), &v, 2);
	else
		v = REG16(c, i->src);
	if (unlikely(st))
		return st;
	d.q[0] = mmx_get(c, i->dst);
	d.w[i->imm & 3] = v;
	mmx_set(c, i->dst, d.q[0]);
	return ST_OK;
}
IMPL_ANY(pinsrw_mmx, do_pinsrw_mmx);

HANDLER(do_pextrw_mmx)
{
	if (mmx_begin(c))
		return ST_FAULT;
	REG64(c, i->dst) = (u16)(mmx_get(c, i->src) >> 16 * (i->imm & 3));
	mmx_done(c);
	return ST_OK;
}
IMPL_ANY(pextrw_mmx, do_pextrw_mmx);

/* ---- moves ---- */
HANDLER(do_movq_mmx)
{
	u64 v;
	int st;

	if (i->form == FORM_MR) {
		if (mmx_begin(c))
			return ST_FAULT;
		v = mmx_get(c, i->src);
		st = mem_write(c, i->seg, insn_ea(c, i), &v, 8);
		if (likely(!st))
			mmx_done(c);
		return st;
	}
	st = mmx_fetch(c, i, 8, &v);
	if (likely(!st))
		mmx_set(c, i->dst, v);
	return st;
}
IMPL_ANY(movq_mmx, do_movq_mmx);
IMPL_ANY(movntq, do_movq_mmx);

HANDLER(do_movd_to_mmx)
{
	u64 v;
	int st = mmx_begin(c);

	if (unlikely(st))
		return st;
	if (i->flags & INSN_MEM)
		st = load_operand(c, i, i->size, &v);
	else
		v = reg_read(c, i->src, i->size);
	if (likely(!st))
		mmx_set(c, i->dst, v);
	return st;
}
IMPL_ANY(movd_to_mmx, do_movd_to_mmx);

HANDLER(do_movd_from_mmx)
{
	u64 v;
	int st = mmx_begin(c);

	if (unlikely(st))
		return st;
	v = mmx_get(c, i->src);
	if (i->flags & INSN_MEM)
		st = store_operand(c, i, i->size, v);
	else
		reg_write(c, i->dst, i->size, v);
	if (likely(!st))
		mmx_done(c);
	return st;
}
IMPL_ANY(movd_from_mmx, do_movd_from_mmx);

HANDLER(do_pmovmskb_mmx)
{
	u32 v;

	if (mmx_begin(c))
		return ST_FAULT;
	asm("pmovmskb %1, %0" : "=r"(v) : "x"((v128){ mmx_get(c, i->src), 0 }));
	REG64(c, i->dst) = v;
	mmx_done(c);
	return ST_OK;
}
IMPL_ANY(pmovmskb_mmx, do_pmovmskb_mmx);

HANDLER(do_maskmovq)
{
	int st = mmx_begin(c);

	if (likely(!st))
		st = simd_masked_store(c, i, c->fpu.st[i->dst & 7], c->fpu.st[i->src & 7], 8);
	if (likely(!st))
		mmx_done(c);
	return st;
}
IMPL_ANY(maskmovq, do_maskmovq);

HANDLER(do_emms)
{
	(void)i;
	if (mmx_begin(c))
		return ST_FAULT;
	mmx_done(c);
	c->fpu.ftw = 0;
	return ST_OK;
}
IMPL_ANY(emms, do_emms);

/* ---- between MMX and XMM registers: the checks of both ---- */
INLINE int mixed_begin(struct cpu *c)
{
	int st = sse_begin(c);

	return unlikely(st) ? st : mmx_begin(c);
}

HANDLER(do_movq2dq)
{
	if (mixed_begin(c))
		return ST_FAULT;
	XMM(c, i->dst) = (v128){ mmx_get(c, i->src), 0 };
	mmx_done(c);
	return ST_OK;
}
IMPL_ANY(movq2dq, do_movq2dq);

HANDLER(do_movdq2q)
{
	if (mixed_begin(c))
		return ST_FAULT;
	mmx_set(c, i->dst, XMM(c, i->src)[0]);
	return ST_OK;
}
IMPL_ANY(movdq2q, do_movdq2q);

/*
 * Two elements are converted; those above them are zero and raise nothing. The x87 state turns into MMX state even if
 * an exception is raised.
 */
#define MMX_FROM_FP(op, twin, bytes, how)                                                                              \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v128 s, d;                                                                                             \
		int st = mixed_begin(c);                                                                               \
														       \
		if (likely(!st))                                                                                       \
			st = sse_source(c, i, bytes, how, &s);                                                         \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if ((bytes) == 8)                                                                                      \
			s[1] = 0;                                                                                      \
		mmx_done(c);                                                                                           \
		SIMD_RUN(c, &e, #twin " %[s], %[d]", [d] "=x"(d), [s] "x"(s));                                         \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		mmx_set(c, i->dst, d[0]);                                                                              \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

MMX_FROM_FP(cvtps2pi, cvtps2dq, 8, UNALIGNED)
MMX_FROM_FP(cvttps2pi, cvttps2dq, 8, UNALIGNED)
MMX_FROM_FP(cvtpd2pi, cvtpd2dq, 16, ALIGNED)
MMX_FROM_FP(cvttpd2pi, cvttpd2dq, 16, ALIGNED)

/* With a memory operand, these two are no MMX instructions: the x87 state stays as it is. */
INLINE int from_mmx_begin(struct cpu *c, const struct insn *i, u64 *src)
{
	int st = i->flags & INSN_MEM ? sse_begin(c) : mixed_begin(c);

	if (likely(!st))
		st = mmx_source(c, i, 8, src);
	if (likely(!st) && !(i->flags & INSN_MEM))
		mmx_done(c);
	return st;
}

HANDLER(do_cvtpi2ps)
{
	struct simd_env e;
	u64 src;
	v128 d;
	int st = from_mmx_begin(c, i, &src);

	if (unlikely(st))
		return st;
	SIMD_RUN(c, &e, "cvtdq2ps %[s], %[d]", [d] "=x"(d), [s] "x"((v128){ src, 0 }));
	if (simd_leave(c, &e, NULL, RES_NONE))
		return ST_FAULT;
	XMM(c, i->dst)[0] = d[0];
	return ST_OK;
}
IMPL_ANY(cvtpi2ps, do_cvtpi2ps);

/* Always exact. */
HANDLER(do_cvtpi2pd)
{
	u64 src;
	v128 d;
	int st = from_mmx_begin(c, i, &src);

	if (unlikely(st))
		return st;
	asm("cvtdq2pd %1, %0" : "=x"(d) : "x"((v128){ src, 0 }));
	XMM(c, i->dst) = d;
	return ST_OK;
}
IMPL_ANY(cvtpi2pd, do_cvtpi2pd);
