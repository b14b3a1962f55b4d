/* SPDX-License-Identifier: MIT */
/*
 * SIMD instructions in which the immediate tells what goes where, for 16 bytes: op_imm(d, s, imm), where d is the first
 * source (or the old destination) and becomes the result. And the means for those that the host computes with the
 * immediate in its own instruction.
 */
#ifndef UKVM_INTERP_SIMD_IMM_H
#define UKVM_INTERP_SIMD_IMM_H

#include "interp/simd.h"

/* Sixteen bytes from `from` on in lo:hi; past the end there are zeros. */
static v128 bytes_of(v128 lo, v128 hi, unsigned from)
{
	v128 all[4] = { lo, hi }, out;

	if (from > 32)
		from = 32;
	memcpy(&out, (const u8 *)all + from, 16);
	return out;
}

INLINE void psrldq_imm(union vec *d, const union vec *s, unsigned imm)
{
	d->v = bytes_of(s->v, (v128){ 0 }, imm & 0xff);
}

INLINE void pslldq_imm(union vec *d, const union vec *s, unsigned imm)
{
	unsigned n = imm & 0xff;

	d->v = bytes_of((v128){ 0 }, s->v, n > 16 ? 0 : 16 - n);
}

INLINE void palignr_imm(union vec *d, const union vec *s, unsigned imm)
{
	d->v = bytes_of(s->v, d->v, imm & 0xff);
}

INLINE void pshufd_imm(union vec *d, const union vec *s, unsigned imm)
{
	for (unsigned k = 0; k < 4; k++)
		d->d[k] = s->d[imm >> 2 * k & 3];
}

INLINE void pshuflw_imm(union vec *d, const union vec *s, unsigned imm)
{
	for (unsigned k = 0; k < 4; k++)
		d->w[k] = s->w[imm >> 2 * k & 3];
	d->q[1] = s->q[1];
}

INLINE void pshufhw_imm(union vec *d, const union vec *s, unsigned imm)
{
	d->q[0] = s->q[0];
	for (unsigned k = 0; k < 4; k++)
		d->w[4 + k] = s->w[4 + (imm >> 2 * k & 3)];
}

INLINE void shufps_imm(union vec *d, const union vec *s, unsigned imm)
{
	union vec old = *d;

	d->d[0] = old.d[imm & 3];
	d->d[1] = old.d[imm >> 2 & 3];
	d->d[2] = s->d[imm >> 4 & 3];
	d->d[3] = s->d[imm >> 6 & 3];
}

INLINE void shufpd_imm(union vec *d, const union vec *s, unsigned imm)
{
	d->q[0] = d->q[imm & 1];
	d->q[1] = s->q[imm >> 1 & 1];
}

INLINE void blendps_imm(union vec *d, const union vec *s, unsigned imm)
{
	for (unsigned k = 0; k < 4; k++)
		if (imm & BIT(k))
			d->d[k] = s->d[k];
}

INLINE void blendpd_imm(union vec *d, const union vec *s, unsigned imm)
{
	for (unsigned k = 0; k < 2; k++)
		if (imm & BIT(k))
			d->q[k] = s->q[k];
}

INLINE void pblendw_imm(union vec *d, const union vec *s, unsigned imm)
{
	for (unsigned k = 0; k < 8; k++)
		if (imm & BIT(k))
			d->w[k] = s->w[k];
}

/* An element of a register, to a general register or to memory; begin() checks whether the instruction may run. */
#define PEXTR(op, begin, bytes, field, lanes)									       \
	HANDLER(do_##op)											       \
	{													       \
		union vec s;											       \
		u64 v;												       \
														       \
		if (begin(c))										       \
			return ST_FAULT;									       \
		s.v = XMM(c, i->src);										       \
		v = s.field[i->imm & ((lanes) - 1)];								       \
		if (i->flags & INSN_MEM)									       \
			return mem_write(c, i->seg, insn_ea(c, i), &v, bytes);					       \
		REG64(c, i->dst) = v;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

/* The elements that bits of a dot product's immediate let through. */
INLINE v128 lanes_ps(unsigned bits)
{
	union vec m;

	for (unsigned k = 0; k < 4; k++)
		m.d[k] = bits & BIT(k) ? ~0u : 0;
	return m.v;
}

INLINE v128 lanes_pd(unsigned bits)
{
	return (v128){ bits & 1 ? ~0ull : 0, bits & 2 ? ~0ull : 0 };
}

/* A case for each immediate from `at` on. */
#define CASES_2(X, at) X((at)) X((at) + 1)
#define CASES_8(X, at) CASES_2(X, at) CASES_2(X, (at) + 2) CASES_2(X, (at) + 4) CASES_2(X, (at) + 6)
#define CASES_32(X, at) CASES_8(X, at) CASES_8(X, (at) + 8) CASES_8(X, (at) + 16) CASES_8(X, (at) + 24)
#define CASES_128(X) CASES_32(X, 0) CASES_32(X, 32) CASES_32(X, 64) CASES_32(X, 96)

#endif
