/* SPDX-License-Identifier: MIT */
/* AVX and AVX2: shuffles, blends, permutes, broadcasts, and parts put into registers or taken out of them. */
#include "interp/avx.h"
#include "interp/simd_imm.h"

/* A register's 32 bytes in elements and in halves. */
union ymm {
	v256 v;
	union vec half[2];
	u8 b[32];
	u32 d[8];
	u64 q[4];
};

/* ---- what goes where is a matter of the immediate ---- */

/*
 * The functions of simd_imm.h, for each half. fetch says if there are two sources; step is by how many bits the
 * immediate of the upper half lies above that of the lower one.
 */
#define AVX_PER_HALF(op, how, fetch, step)                                                                             \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		union ymm d = { 0 }, s;                                                                                \
		const void *p;                                                                                         \
		int st = fetch(c, i, avx_bytes(wide), &p);                                                             \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		guest_copy(&s, p, avx_bytes(wide));                                                                    \
		memcpy(&d, c->fpu.vec[i->src], avx_bytes(wide));                                                       \
		how(&d.half[0], &s.half[0], i->imm);                                                                   \
		if (wide)                                                                                              \
			how(&d.half[1], &s.half[1], i->imm >> (step));                                                 \
		YMM(c, i->dst) = d.v;                                                                                  \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_INLINE void permilpd_imm(union vec *d, const union vec *s, unsigned imm)
{
	union vec old = *s;

	d->q[0] = old.q[imm & 1];
	d->q[1] = old.q[imm >> 1 & 1];
}

AVX_PER_HALF(vpshufd, pshufd_imm, avx_fetch, 0)
AVX_PER_HALF(vpshuflw, pshuflw_imm, avx_fetch, 0)
AVX_PER_HALF(vpshufhw, pshufhw_imm, avx_fetch, 0)
AVX_PER_HALF(vpermilps_imm, pshufd_imm, avx_fetch, 0)
AVX_PER_HALF(vpermilpd_imm, permilpd_imm, avx_fetch, 2)
AVX_PER_HALF(vpsrldq, psrldq_imm, avx_fetch, 0)
AVX_PER_HALF(vpslldq, pslldq_imm, avx_fetch, 0)
AVX_PER_HALF(vshufps, shufps_imm, avx_fetch3, 0)
AVX_PER_HALF(vshufpd, shufpd_imm, avx_fetch3, 2)
AVX_PER_HALF(vblendps, blendps_imm, avx_fetch3, 4)
AVX_PER_HALF(vblendpd, blendpd_imm, avx_fetch3, 2)
AVX_PER_HALF(vpblendd, blendps_imm, avx_fetch3, 4)
AVX_PER_HALF(vpblendw, pblendw_imm, avx_fetch3, 0)
AVX_PER_HALF(vpalignr, palignr_imm, avx_fetch3, 0)

/* ---- across the halves ---- */
AVX_INLINE int permute_quads(struct cpu *c, const struct insn *i)
{
	union ymm d, s;
	const void *p;
	int st = avx_fetch(c, i, 32, &p);

	if (unlikely(st))
		return st;
	guest_copy(&s, p, 32);
	for (unsigned k = 0; k < 4; k++)
		d.q[k] = s.q[i->imm >> 2 * k & 3];
	YMM(c, i->dst) = d.v;
	return ST_OK;
}

/* Each half of the result: one of four halves, or zero. */
AVX_INLINE int permute_halves(struct cpu *c, const struct insn *i)
{
	union ymm s[2], d = { 0 };
	const void *p;
	int st = avx_fetch3(c, i, 32, &p);

	if (unlikely(st))
		return st;
	s[0].v = YMM(c, i->src);
	guest_copy(&s[1], p, 32);
	for (unsigned k = 0; k < 2; k++) {
		unsigned choice = i->imm >> 4 * k;

		if (!(choice & 8))
			d.half[k] = s[choice >> 1 & 1].half[choice & 1];
	}
	YMM(c, i->dst) = d.v;
	return ST_OK;
}

/* The handler is the function itself. */
#define AVX_IS(op, function)                                                                                           \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		return function(c, i);                                                                                 \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_IS(vpermq, permute_quads)
AVX_IS(vpermpd, permute_quads)
AVX_IS(vperm2f128, permute_halves)
AVX_IS(vperm2i128, permute_halves)

/* ---- by the elements of a register ---- */
AVX_BINARY(vpermilps)
AVX_BINARY(vpermilpd)

#define AVX_PERMUTE_256(op)                                                                                            \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, 32, &p);                                                                     \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		asm(#op " %[s], %t[a], %t[d]" : [d] "=x"(d) : [a] "x"(YMM(c, i->src)), [s] AT_BYTES(p, 32));           \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_PERMUTE_256(vpermd)
AVX_PERMUTE_256(vpermps)

/* ---- broadcasts ---- */
#define AVX_BROADCAST(op, bytes, text)                                                                                 \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch(c, i, bytes, &p);                                                                   \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (wide)                                                                                              \
			asm(text " %[s], %t[d]" : [d] "=x"(d) : [s] AT_BYTES(p, bytes));                               \
		else                                                                                                   \
			asm(text " %[s], %x[d]" : [d] "=x"(d) : [s] AT_BYTES(p, bytes));                               \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}

AVX_BROADCAST(vpbroadcastb, 1, "vpbroadcastb")
AVX_BROADCAST(vpbroadcastw, 2, "vpbroadcastw")
AVX_BROADCAST(vpbroadcastd, 4, "vbroadcastss")
AVX_BROADCAST(vpbroadcastq, 8, "vpbroadcastq")
AVX_BROADCAST(vbroadcastss, 4, "vbroadcastss")
AVX_BOTH(vpbroadcastb)
AVX_BOTH(vpbroadcastw)
AVX_BOTH(vpbroadcastd)
AVX_BOTH(vpbroadcastq)
AVX_BOTH(vbroadcastss)

#define AVX_BROADCAST_256(op, bytes, text)                                                                             \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch(c, i, bytes, &p);                                                                   \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		asm(text " %[s], %t[d]" : [d] "=x"(d) : [s] AT_BYTES(p, bytes));                                       \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_BROADCAST_256(vbroadcastsd, 8, "vbroadcastsd")
AVX_BROADCAST_256(vbroadcastf128, 16, "vbroadcastf128")
AVX_BROADCAST_256(vbroadcasti128, 16, "vbroadcastf128")

/* ---- halves ---- */
AVX_INLINE int insert_half(struct cpu *c, const struct insn *i)
{
	union ymm d;
	const void *p;
	v128 s;
	int st = avx_fetch3(c, i, 16, &p);

	if (unlikely(st))
		return st;
	guest_copy(&s, p, 16);
	d.v = YMM(c, i->src);
	d.half[i->imm & 1].v = s;
	YMM(c, i->dst) = d.v;
	return ST_OK;
}

AVX_IS(vinsertf128, insert_half)
AVX_IS(vinserti128, insert_half)

INLINE int extract_half(struct cpu *c, const struct insn *i)
{
	v128 v;

	if (avx_begin(c))
		return ST_FAULT;
	v = i->imm & 1 ? XMM_UPPER(c, i->src) : XMM(c, i->src);
	if (i->flags & INSN_MEM)
		return mem_write(c, i->seg, insn_ea(c, i), &v, 16);
	xmm_set(c, i->dst, v);
	return ST_OK;
}

AVX_IS(vextractf128, extract_half)
AVX_IS(vextracti128, extract_half)

/* ---- elements ---- */
HANDLER(do_vinsertps)
{
	unsigned imm = i->imm;
	union vec d, s = { 0 };
	const void *p;
	int st = avx_begin(c);

	if (likely(!st))
		st = avx_operand(c, i, i->src2, 4, &p);
	if (unlikely(st))
		return st;
	/* A memory operand is the element; the field that chooses one is ignored. */
	guest_copy(&s, i->flags & INSN_MEM ? p : (const u8 *)p + 4 * (imm >> 6 & 3), 4);
	d.v = XMM(c, i->src);
	d.d[imm >> 4 & 3] = s.d[0];
	for (unsigned k = 0; k < 4; k++)
		if (imm & BIT(k))
			d.d[k] = 0;
	xmm_set(c, i->dst, d.v);
	return ST_OK;
}
IMPL_ANY(vinsertps, do_vinsertps);

#define AVX_PINSR(op, bytes, field, lanes)                                                                             \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		union vec d;                                                                                           \
		u64 v = 0;                                                                                             \
														       \
		if (avx_begin(c))                                                                                      \
			return ST_FAULT;                                                                               \
		if (i->flags & INSN_MEM) {                                                                             \
			int st = mem_read(c, i->seg, insn_ea(c, i), &v, bytes);                                        \
														       \
			if (unlikely(st))                                                                              \
				return st;                                                                             \
		} else {                                                                                               \
			v = REG64(c, i->src2);                                                                         \
		}                                                                                                      \
		d.v = XMM(c, i->src);                                                                                  \
		d.field[i->imm & ((lanes) - 1)] = v;                                                                   \
		xmm_set(c, i->dst, d.v);                                                                               \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_PINSR(vpinsrb, 1, b, 16)
AVX_PINSR(vpinsrw, 2, w, 8)
AVX_PINSR(vpinsrd, 4, d, 4)
AVX_PINSR(vpinsrq, 8, q, 2)

PEXTR(vpextrb, avx_begin, 1, b, 16)
PEXTR(vpextrw, avx_begin, 2, w, 8)
PEXTR(vpextrd, avx_begin, 4, d, 4)
PEXTR(vpextrq, avx_begin, 8, q, 2)
PEXTR(vextractps, avx_begin, 4, d, 4)
