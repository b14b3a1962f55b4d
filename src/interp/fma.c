/* SPDX-License-Identifier: MIT */
/* FMA: dst = dst * src2 + src (132), src * dst + src2 (213), src * src2 + dst (231), with signs and in mixtures. */
#include "interp/avx.h"

#define FMA_RUN(text, bytes)                                                                                           \
	SIMD_RUN(c, &e, text, [d] "+x"(d), SIMD_OPERANDS([a] "x"(YMM(c, i->src)), [s] AT_BYTES(p, bytes)))

#define FMA(op, bytes, kind, run)                                                                                      \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, bytes, &p);                                                                  \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		d = YMM(c, i->dst);                                                                                    \
		run;                                                                                                   \
		if (AVX_LEAVE(c, &e, d, kind, wide))                                                                   \
			return ST_FAULT;                                                                               \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}
#define FMA_PACKED_RUN(op)                                                                                             \
	do {                                                                                                           \
		if (wide)                                                                                              \
			FMA_RUN(#op " %[s], %t[a], %t[d]", 32);                                                        \
		else                                                                                                   \
			FMA_RUN(#op " %[s], %x[a], %x[d]", 16);                                                        \
	} while (0)
#define FMA_PACKED(op, kind)                                                                                           \
	FMA(op, avx_bytes(wide), kind, FMA_PACKED_RUN(op))                                                             \
	AVX_BOTH(op)
#define FMA_SCALAR(op, bytes, kind)                                                                                    \
	FMA(op, bytes, kind, FMA_RUN(#op " %[s], %x[a], %x[d]", bytes))                                                \
	AVX_ONLY_128(op)

#define FMA_PACKED_ORDERS(op)                                                                                          \
	FMA_PACKED(op##132ps, RES_PS) FMA_PACKED(op##213ps, RES_PS) FMA_PACKED(op##231ps, RES_PS)                      \
	FMA_PACKED(op##132pd, RES_PD) FMA_PACKED(op##213pd, RES_PD) FMA_PACKED(op##231pd, RES_PD)
#define FMA_SCALAR_ORDERS(op)                                                                                          \
	FMA_SCALAR(op##132ss, 4, RES_SS) FMA_SCALAR(op##213ss, 4, RES_SS) FMA_SCALAR(op##231ss, 4, RES_SS)             \
	FMA_SCALAR(op##132sd, 8, RES_SD) FMA_SCALAR(op##213sd, 8, RES_SD) FMA_SCALAR(op##231sd, 8, RES_SD)

FMA_PACKED_ORDERS(vfmadd)
FMA_PACKED_ORDERS(vfmsub)
FMA_PACKED_ORDERS(vfnmadd)
FMA_PACKED_ORDERS(vfnmsub)
FMA_PACKED_ORDERS(vfmaddsub)
FMA_PACKED_ORDERS(vfmsubadd)
FMA_SCALAR_ORDERS(vfmadd)
FMA_SCALAR_ORDERS(vfmsub)
FMA_SCALAR_ORDERS(vfnmadd)
FMA_SCALAR_ORDERS(vfnmsub)
