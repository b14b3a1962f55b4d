/* SPDX-License-Identifier: MIT */
/* AVX and AVX2: integer and logical instructions, shifts, AES, PCLMULQDQ, GFNI. Those that only move: avx_perm.c. */
#include "interp/avx.h"
#include "interp/simd_imm.h"
#include "interp/simd_ops.h"

/* ---- dst = op(src, src2) ---- */
#define AVX_VECTOR(op) AVX_BINARY_AS(v##op, "v" #op)

LANE_OPS(AVX_VECTOR)
NARROW_OPS(AVX_VECTOR)
VECTOR_OPS(AVX_VECTOR)

AVX_BINARY(vpsrlvd)
AVX_BINARY(vpsrlvq)
AVX_BINARY(vpsravd)
AVX_BINARY(vpsllvd)
AVX_BINARY(vpsllvq)

/* ---- dst = op(src) ---- */
#define AVX_UNARY_(op, made)                                                                                           \
	AVX_INLINE int v##op##_avx(struct cpu *c, const struct insn *i, bool wide)                                     \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch(c, i, avx_bytes(wide), &p);                                                         \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		made("v" #op, d, p);                                                                                   \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}
#define AVX_RUN2_128(text, d, p) asm(text " %[s], %x[d_]" : [d_] "=x"(d) : [s] AT_BYTES(p, 16))
#define AVX_UNARY(op)                                                                                                  \
	AVX_UNARY_(op, AVX_RUN2)                                                                                       \
	AVX_BOTH(v##op)
#define AVX_UNARY_128(op)                                                                                              \
	AVX_UNARY_(op, AVX_RUN2_128)                                                                                   \
	AVX_ONLY_128(v##op)

LANE_UNARY_OPS(AVX_UNARY)
VECTOR_UNARY_OPS(AVX_UNARY)
VECTOR_UNARY_128_OPS(AVX_UNARY_128)

#define AVX_WIDEN(op, bytes)                                                                                           \
	AVX_INLINE int v##op##_avx(struct cpu *c, const struct insn *i, bool wide)                                     \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch(c, i, wide ? 2 * (bytes) : (bytes), &p);                                            \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (wide)                                                                                              \
			asm("v" #op " %[s], %t[d]" : [d] "=x"(d) : [s] AT_BYTES(p, 2 * (bytes)));                      \
		else                                                                                                   \
			asm("v" #op " %[s], %x[d]" : [d] "=x"(d) : [s] AT_BYTES(p, bytes));                            \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(v##op)

WIDEN_OPS(AVX_WIDEN)

/* VRCPSS, VRSQRTSS */
#define AVX_SCALAR(op)                                                                                                 \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, 4, &p);                                                                      \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		asm(#op " %[s], %x[a], %x[d]" : [d] "=x"(d) : [a] "x"(YMM(c, i->src)), [s] AT_BYTES(p, 4));            \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_SCALAR(vrcpss)
AVX_SCALAR(vrsqrtss)

/* ---- shifts: the count is in the low 64 bits of 16 bytes, or an immediate ---- */

#define AVX_SHIFT(op)                                                                                                  \
	AVX_INLINE int v##op##_avx(struct cpu *c, const struct insn *i, bool wide)                                     \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, 16, &p);                                                                     \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		SHIFT_RUN(op, YMM(c, i->src), AT_BYTES(p, 16));                                                        \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(v##op)
#define AVX_SHIFT_IMM(op)                                                                                              \
	AVX_INLINE int v##op##_imm_avx(struct cpu *c, const struct insn *i, bool wide)                                 \
	{                                                                                                              \
		v128 count = { i->imm & 0xff, 0 };                                                                     \
		v256 d;                                                                                                \
														       \
		if (avx_begin(c))                                                                                      \
			return ST_FAULT;                                                                               \
		SHIFT_RUN(op, YMM(c, i->src), "x"(count));                                                             \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(v##op##_imm)
#define SHIFT_RUN(op, a, count)                                                                                        \
	do {                                                                                                           \
		if (wide)                                                                                              \
			asm("v" #op " %[n], %t[a_], %t[d_]" : [d_] "=x"(d) : [a_] "x"(a), [n] count);                  \
		else                                                                                                   \
			asm("v" #op " %[n], %x[a_], %x[d_]" : [d_] "=x"(d) : [a_] "x"(a), [n] count);                  \
	} while (0)

SHIFT_OPS(AVX_SHIFT)
SHIFT_OPS(AVX_SHIFT_IMM)

/* ---- tests: ZF if no bit of both is set, CF if no bit of the second operand alone; VTESTPx: of sign bits ---- */
#define AVX_TEST(op)                                                                                                   \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		const void *p;                                                                                         \
		bool zf, cf;                                                                                           \
		int st = avx_fetch(c, i, avx_bytes(wide), &p);                                                         \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (wide)                                                                                              \
			asm(#op " %[s], %t[a]"                                                                         \
			    : "=@ccz"(zf), "=@ccc"(cf)                                                                 \
			    : [a] "x"(YMM(c, i->dst)), [s] AT_BYTES(p, 32));                                           \
		else                                                                                                   \
			asm(#op " %[s], %x[a]"                                                                         \
			    : "=@ccz"(zf), "=@ccc"(cf)                                                                 \
			    : [a] "x"(YMM(c, i->dst)), [s] AT_BYTES(p, 16));                                           \
		c->cc = (zf ? FL_ZF : 0) | (cf ? FL_CF : 0);                                                           \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_TEST(vptest)
AVX_TEST(vtestps)
AVX_TEST(vtestpd)

/* ---- sign bits to a general register ---- */
#define AVX_MOVMSK(op)                                                                                                 \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		u32 v;                                                                                                 \
														       \
		if (avx_begin(c))                                                                                      \
			return ST_FAULT;                                                                               \
		if (wide)                                                                                              \
			asm(#op " %t[s], %[v]" : [v] "=r"(v) : [s] "x"(YMM(c, i->src)));                               \
		else                                                                                                   \
			asm(#op " %x[s], %[v]" : [v] "=r"(v) : [s] "x"(YMM(c, i->src)));                               \
		REG64(c, i->dst) = v;                                                                                  \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_MOVMSK(vmovmskps)
AVX_MOVMSK(vmovmskpd)
AVX_MOVMSK(vpmovmskb)

/* ---- blends by the sign bits of a fourth register ---- */
#define AVX_BLENDV(op)                                                                                                 \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, avx_bytes(wide), &p);                                                        \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (wide)                                                                                              \
			asm(#op " %t[m], %[s], %t[a], %t[d]"                                                           \
			    : [d] "=x"(d)                                                                              \
			    : [a] "x"(YMM(c, i->src)), [m] "x"(YMM(c, i->imm)), [s] AT_BYTES(p, 32));                  \
		else                                                                                                   \
			asm(#op " %x[m], %[s], %x[a], %x[d]"                                                           \
			    : [d] "=x"(d)                                                                              \
			    : [a] "x"(YMM(c, i->src)), [m] "x"(YMM(c, i->imm)), [s] AT_BYTES(p, 16));                  \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_BLENDV(vblendvps)
AVX_BLENDV(vblendvpd)
AVX_BLENDV(vpblendvb)

/* ---- with an immediate: `run` is a statement that makes d of a, p and imm ---- */
#define AVX_IMM(op, fetch, run)                                                                                        \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		unsigned imm = i->imm;                                                                                 \
		const void *p;                                                                                         \
		v256 a, d = { 0 };                                                                                     \
		int st = fetch(c, i, avx_bytes(wide), &p);                                                             \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		a = YMM(c, i->src);                                                                                    \
		run;                                                                                                   \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

/* Bits 2:0 are for the low half, 5:3 for the high one. */
#define MPSADBW_128(n)                                                                                                 \
	case n:                                                                                                        \
		asm("vmpsadbw %[n_], %[s], %x[a_], %x[d_]"                                                         \
		    : [d_] "=x"(d)                                                                                     \
		    : [a_] "x"(a), [s] AT_BYTES(p, 16), [n_] "i"(n));                                                  \
		break;
#define MPSADBW_256(n)                                                                                                 \
	case n:                                                                                                        \
		asm("vmpsadbw %[n_], %[s], %t[a_], %t[d_]"                                                         \
		    : [d_] "=x"(d)                                                                                     \
		    : [a_] "x"(a), [s] AT_BYTES(p, 32), [n_] "i"(n));                                                  \
		break;
#define MPSADBW_RUN                                                                                                    \
	do {                                                                                                           \
		if (wide)                                                                                              \
			switch (imm & 63) {                                                                            \
				CASES_32(MPSADBW_256, 0)                                                               \
				CASES_32(MPSADBW_256, 32)                                                              \
			}                                                                                              \
		else                                                                                                   \
			switch (imm & 7) {                                                                             \
				CASES_8(MPSADBW_128, 0)                                                                \
			}                                                                                              \
	} while (0)

AVX_IMM(vmpsadbw, avx_fetch3, MPSADBW_RUN)

/* Bits 0 and 4 choose the halves of each 16 bytes. */
#define PCLMUL_RUN                                                                                                     \
	do {                                                                                                           \
		switch (imm & 0x11) {                                                                                  \
		case 0x00:                                                                                             \
			AVX_RUN3("vpclmulqdq $0x00,", d, a, p);                                                        \
			break;                                                                                         \
		case 0x01:                                                                                             \
			AVX_RUN3("vpclmulqdq $0x01,", d, a, p);                                                        \
			break;                                                                                         \
		case 0x10:                                                                                             \
			AVX_RUN3("vpclmulqdq $0x10,", d, a, p);                                                        \
			break;                                                                                         \
		default:                                                                                               \
			AVX_RUN3("vpclmulqdq $0x11,", d, a, p);                                                        \
		}                                                                                                      \
	} while (0)

AVX_IMM(vpclmulqdq, avx_fetch3, PCLMUL_RUN)

/* The immediate is XORed to every byte at last. */
#define GF_AFFINE_RUN(text)                                                                                            \
	do {                                                                                                           \
		u64 q = (imm & 0xff) * 0x0101010101010101ull, up = wide ? q : 0;                                       \
														       \
		AVX_RUN3(text " $0,", d, a, p);                                                                        \
		d ^= (v256){ q, q, up, up };                                                                           \
	} while (0)

AVX_IMM(vgf2p8affineqb, avx_fetch3, GF_AFFINE_RUN("vgf2p8affineqb"))
AVX_IMM(vgf2p8affineinvqb, avx_fetch3, GF_AFFINE_RUN("vgf2p8affineinvqb"))

AVX_HANDLER(do_vaeskeygenassist)
{
	u64 rcon = (i->imm & 0xff) << 32;
	const void *p;
	v256 d;
	int st = avx_fetch(c, i, 16, &p);

	if (unlikely(st))
		return st;
	asm("vaeskeygenassist $0, %[s], %x[d]" : [d] "=x"(d) : [s] AT_BYTES(p, 16));
	YMM(c, i->dst) = d ^ (v256){ rcon, rcon, 0, 0 };
	return ST_OK;
}
IMPL_ANY(vaeskeygenassist, do_vaeskeygenassist);
