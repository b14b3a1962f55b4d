/* SPDX-License-Identifier: MIT */
/* SSE moves: registers and memory, whole and in parts. */
#include "interp/simd.h"

/* ---- whole registers ---- */
INLINE int move16(struct cpu *c, const struct insn *i, enum alignment how)
{
	v128 v;
	int st;

	if (i->form == FORM_MR) {
		st = sse_begin(c);
		return unlikely(st) ? st : simd_store(c, i, 16, how, &XMM(c, i->src));
	}
	st = sse_fetch(c, i, 16, how, &v);
	if (unlikely(st))
		return st;
	XMM(c, i->dst) = v;
	return ST_OK;
}

#define SSE_MOVE16(op, how)											       \
	HANDLER(do_##op)											       \
	{													       \
		return move16(c, i, how);									       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_MOVE16(movaps, ALIGNED)
SSE_MOVE16(movapd, ALIGNED)
SSE_MOVE16(movdqa, ALIGNED)
SSE_MOVE16(movups, UNALIGNED)
SSE_MOVE16(movupd, UNALIGNED)
SSE_MOVE16(movdqu, UNALIGNED)
SSE_MOVE16(lddqu, UNALIGNED)
/* Without caches to spare, the non-temporal forms are the aligned ones. */
SSE_MOVE16(movntdqa, ALIGNED)
SSE_MOVE16(movntdq, ALIGNED)
SSE_MOVE16(movntps, ALIGNED)
SSE_MOVE16(movntpd, ALIGNED)

/* ---- scalars: a load clears the rest of the register, a move between registers keeps it ---- */
INLINE int move_scalar(struct cpu *c, const struct insn *i, unsigned bytes)
{
	union vec d;
	v128 v;
	int st;

	if (sse_begin(c))
		return ST_FAULT;
	if (i->form == FORM_MR)
		return simd_store(c, i, bytes, UNALIGNED, &XMM(c, i->src));
	if (i->flags & INSN_MEM) {
		st = simd_load(c, i, bytes, UNALIGNED, &v);
		if (unlikely(st))
			return st;
		XMM(c, i->dst) = v;
		return ST_OK;
	}
	d.v = XMM(c, i->dst);
	memcpy(&d, c->fpu.vec[i->src], bytes);
	XMM(c, i->dst) = d.v;
	return ST_OK;
}

HANDLER(do_movss)
{
	return move_scalar(c, i, 4);
}
IMPL_ANY(movss, do_movss);

HANDLER(do_movsd_xmm)
{
	return move_scalar(c, i, 8);
}
IMPL_ANY(movsd_xmm, do_movsd_xmm);

/* MOVQ always clears the upper half. */
HANDLER(do_movq)
{
	v128 v;
	int st;

	if (sse_begin(c))
		return ST_FAULT;
	if (i->form == FORM_MR)
		return simd_store(c, i, 8, UNALIGNED, &XMM(c, i->src));
	st = sse_source(c, i, 8, UNALIGNED, &v);
	if (unlikely(st))
		return st;
	XMM(c, i->dst) = (v128){ v[0], 0 };
	return ST_OK;
}
IMPL_ANY(movq, do_movq);

HANDLER(do_movd_to_xmm)
{
	v128 v;
	int st;

	if (sse_begin(c))
		return ST_FAULT;
	if (i->flags & INSN_MEM) {
		st = i->size == SZ_64 ? simd_load(c, i, 8, UNALIGNED, &v) : simd_load(c, i, 4, UNALIGNED, &v);
		if (unlikely(st))
			return st;
	} else {
		v = (v128){ i->size == SZ_64 ? REG64(c, i->src) : REG32(c, i->src), 0 };
	}
	XMM(c, i->dst) = v;
	return ST_OK;
}
IMPL_ANY(movd_to_xmm, do_movd_to_xmm);

HANDLER(do_movd_from_xmm)
{
	u64 v;

	if (sse_begin(c))
		return ST_FAULT;
	v = XMM(c, i->src)[0];
	if (i->flags & INSN_MEM)
		return i->size == SZ_64 ? mem_write(c, i->seg, insn_ea(c, i), &v, 8) :
					  mem_write(c, i->seg, insn_ea(c, i), &v, 4);
	REG64(c, i->dst) = i->size == SZ_64 ? v : (u32)v;
	return ST_OK;
}
IMPL_ANY(movd_from_xmm, do_movd_from_xmm);

/* ---- halves: MOVLPx, MOVHPx and memory, MOVHLPS, MOVLHPS ---- */
INLINE int move_half(struct cpu *c, const struct insn *i, unsigned half)
{
	u64 v;
	int st;

	if (sse_begin(c))
		return ST_FAULT;
	if (i->form == FORM_MR) {
		v = XMM(c, i->src)[half];
		return mem_write(c, i->seg, insn_ea(c, i), &v, 8);
	}
	st = mem_read(c, i->seg, insn_ea(c, i), &v, 8);
	if (unlikely(st))
		return st;
	XMM(c, i->dst)[half] = v;
	return ST_OK;
}

#define SSE_HALF(op, half)											       \
	HANDLER(do_##op)											       \
	{													       \
		return move_half(c, i, half);									       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_HALF(movlps, 0)
SSE_HALF(movlpd, 0)
SSE_HALF(movhps, 1)
SSE_HALF(movhpd, 1)

HANDLER(do_movhlps)
{
	if (sse_begin(c))
		return ST_FAULT;
	XMM(c, i->dst)[0] = XMM(c, i->src)[1];
	return ST_OK;
}
IMPL_ANY(movhlps, do_movhlps);

HANDLER(do_movlhps)
{
	if (sse_begin(c))
		return ST_FAULT;
	XMM(c, i->dst)[1] = XMM(c, i->src)[0];
	return ST_OK;
}
IMPL_ANY(movlhps, do_movlhps);

/* ---- duplicates ---- */
HANDLER(do_movddup)
{
	v128 v;
	int st = sse_fetch(c, i, 8, UNALIGNED, &v);

	if (unlikely(st))
		return st;
	XMM(c, i->dst) = (v128){ v[0], v[0] };
	return ST_OK;
}
IMPL_ANY(movddup, do_movddup);

INLINE int duplicate(struct cpu *c, const struct insn *i, unsigned odd)
{
	union vec s, d;
	int st = sse_fetch(c, i, 16, ALIGNED, &s.v);

	if (unlikely(st))
		return st;
	for (unsigned k = 0; k < 4; k++)
		d.d[k] = s.d[(k & 2) + odd];
	XMM(c, i->dst) = d.v;
	return ST_OK;
}

HANDLER(do_movsldup)
{
	return duplicate(c, i, 0);
}
IMPL_ANY(movsldup, do_movsldup);

HANDLER(do_movshdup)
{
	return duplicate(c, i, 1);
}
IMPL_ANY(movshdup, do_movshdup);

/* ---- also with VEX: what follows the checks ---- */

/*
 * The byte-masked store to [rDI]: MASKMOVDQU, MASKMOVQ. Only selected bytes are touched, so each is a store of its own;
 * but none is made if another one faults. Stored again after an exit, they are the same.
 */
int simd_masked_store(struct cpu *c, const struct insn *i, const u8 *data, const u8 *mask, unsigned bytes)
{
	static const u64 wrap[4] = { 0, 0xffff, 0xffffffff, ~0ull };
	u64 ea = c->gpr[RDI];
	int st = mem_probe_masked(c, i->seg, ea & wrap[i->asize], bytes);

	for (unsigned k = 0; k < bytes && !st; k++)
		if (mask[k] & 0x80)
			st = mem_write(c, i->seg, (ea + k) & wrap[i->asize], data + k, 1);
	return st;
}

int simd_maskmovdqu(struct cpu *c, const struct insn *i)
{
	return simd_masked_store(c, i, c->fpu.vec[i->dst], c->fpu.vec[i->src], 16);
}

int simd_ldmxcsr(struct cpu *c, const struct insn *i)
{
	u32 v;
	int st = mem_read(c, i->seg, insn_ea(c, i), &v, 4);

	if (unlikely(st))
		return st;
	if (v & ~MXCSR_MASK)
		return fault_gp(c, 0);
	c->fpu.mxcsr = v;
	return ST_OK;
}

int simd_stmxcsr(struct cpu *c, const struct insn *i)
{
	return mem_write(c, i->seg, insn_ea(c, i), &c->fpu.mxcsr, 4);
}

#define SSE_CHECKED(op)												       \
	HANDLER(do_##op)											       \
	{													       \
		int st = sse_begin(c);										       \
														       \
		return unlikely(st) ? st : simd_##op(c, i);							       \
	}													       \
	IMPL_ANY(op, do_##op);

SSE_CHECKED(maskmovdqu)
SSE_CHECKED(ldmxcsr)
SSE_CHECKED(stmxcsr)
