/* SPDX-License-Identifier: MIT */
/*
 * SIMD instructions by kind, for the templates of sse_*.c and mmx.c. Rows are X(name): the name is the host's mnemonic
 * as well.
 */
#ifndef UKVM_INTERP_SIMD_OPS_H
#define UKVM_INTERP_SIMD_OPS_H

/* Element by element: what one 64-bit half gets depends on that half of the sources. XMM and MMX registers. */
#define LANE_OPS(X)                                                                                                    \
	X(paddb) X(paddw) X(paddd) X(paddq)                                                                            \
	X(paddsb) X(paddsw) X(paddusb) X(paddusw)                                                                      \
	X(psubb) X(psubw) X(psubd) X(psubq)                                                                            \
	X(psubsb) X(psubsw) X(psubusb) X(psubusw)                                                                      \
	X(pmullw) X(pmulhw) X(pmulhuw) X(pmuludq) X(pmaddwd) X(psadbw)                                                 \
	X(pavgb) X(pavgw) X(pminub) X(pminsw) X(pmaxub) X(pmaxsw)                                                      \
	X(pcmpeqb) X(pcmpeqw) X(pcmpeqd) X(pcmpgtb) X(pcmpgtw) X(pcmpgtd)                                              \
	X(pand) X(pandn) X(por) X(pxor)                                                                                \
	X(pmaddubsw) X(pmulhrsw)                                                                                       \
	X(psignb) X(psignw) X(psignd)

/* The same of one source: the old destination is of no matter. */
#define LANE_UNARY_OPS(X) X(pabsb) X(pabsw) X(pabsd)

/* Two sources are narrowed into the halves of the result: low half from the destination, high half from the source. */
#define NARROW_OPS(X)                                                                                                  \
	X(packsswb) X(packuswb) X(packssdw)                                                                            \
	X(phaddw) X(phaddd) X(phaddsw)                                                                                 \
	X(phsubw) X(phsubd) X(phsubsw)

/* By a count in the low 64 bits of the source, or by an immediate. */
#define SHIFT_OPS(X)                                                                                                   \
	X(psllw) X(pslld) X(psllq) X(psrlw) X(psrld) X(psrlq) X(psraw) X(psrad)

/* dst = op(dst, src), 16 bytes, no exceptions, no MMX form (or one of another kind). */
#define VECTOR_OPS(X)                                                                                                  \
	X(pshufb)                                                                                                      \
	X(punpcklbw) X(punpcklwd) X(punpckldq) X(punpcklqdq)                                                           \
	X(punpckhbw) X(punpckhwd) X(punpckhdq) X(punpckhqdq)                                                           \
	X(unpcklps) X(unpckhps) X(unpcklpd) X(unpckhpd)                                                                \
	X(andps) X(andpd) X(andnps) X(andnpd) X(orps) X(orpd) X(xorps) X(xorpd)                                        \
	X(pcmpeqq) X(packusdw) X(pmuldq) X(pmulld)                                                                     \
	X(pminsb) X(pminsd) X(pminuw) X(pminud)                                                                        \
	X(pmaxsb) X(pmaxsd) X(pmaxuw) X(pmaxud)                                                                        \
	X(pcmpgtq)                                                                                                     \
	X(aesenc) X(aesenclast) X(aesdec) X(aesdeclast)                                                                \
	X(gf2p8mulb)

/* dst = op(src), likewise; the second list has no forms of 32 bytes. RCPxS and RSQRTxS heed no bit of MXCSR. */
#define VECTOR_UNARY_OPS(X) X(rcpps) X(rsqrtps)
#define VECTOR_UNARY_128_OPS(X) X(phminposuw) X(aesimc)

/* The same, but the source need not be aligned (AMD's CPUs do not ask for it, and nobody relies on Intel's fault). */
#define SHA_OPS(X) X(sha1nexte) X(sha1msg1) X(sha1msg2) X(sha256msg1) X(sha256msg2)

/* Widening moves: X(name, bytes of the source); never aligned. */
#define WIDEN_OPS(X)                                                                                                   \
	X(pmovsxbw, 8) X(pmovsxbd, 4) X(pmovsxbq, 2)                                                                   \
	X(pmovsxwd, 8) X(pmovsxwq, 4) X(pmovsxdq, 8)                                                                   \
	X(pmovzxbw, 8) X(pmovzxbd, 4) X(pmovzxbq, 2)                                                                   \
	X(pmovzxwd, 8) X(pmovzxwq, 4) X(pmovzxdq, 8)

/*
 * Floating point: X(name, bytes of the source, kind of result). RES_NONE where the result can not be denormal, or is
 * without being tiny "by computation" (min, max, conversions of integers).
 */
#define PACKED_ROWS(X, op, KIND) X(op##ps, 16, KIND##PS) X(op##pd, 16, KIND##PD)
#define SCALAR_ROWS(X, op, KIND) X(op##ss, 4, KIND##SS) X(op##sd, 8, KIND##SD)
#define RES_NONEPS RES_NONE
#define RES_NONEPD RES_NONE
#define RES_NONESS RES_NONE
#define RES_NONESD RES_NONE

/* dst = op(dst, src), whole registers */
#define FP_PACKED_OPS(X)                                                                                               \
	PACKED_ROWS(X, add, RES_) PACKED_ROWS(X, sub, RES_) PACKED_ROWS(X, mul, RES_) PACKED_ROWS(X, div, RES_)        \
	PACKED_ROWS(X, min, RES_NONE) PACKED_ROWS(X, max, RES_NONE)                                                    \
	PACKED_ROWS(X, addsub, RES_) PACKED_ROWS(X, hadd, RES_) PACKED_ROWS(X, hsub, RES_)

/* The lowest element of op(dst, src) or op(src); the rest of the register stays. */
#define FP_SCALAR_OPS(X)                                                                                               \
	SCALAR_ROWS(X, add, RES_) SCALAR_ROWS(X, sub, RES_) SCALAR_ROWS(X, mul, RES_) SCALAR_ROWS(X, div, RES_)        \
	SCALAR_ROWS(X, min, RES_NONE) SCALAR_ROWS(X, max, RES_NONE) SCALAR_ROWS(X, sqrt, RES_NONE)                     \
	X(cvtss2sd, 4, RES_NONE) X(cvtsd2ss, 8, RES_SS)

/* dst = op(src), whole registers; as wide as the source, twice as wide, half as wide */
#define FP_UNARY_OPS(X)                                                                                                \
	PACKED_ROWS(X, sqrt, RES_NONE)                                                                                 \
	X(cvtdq2ps, 16, RES_NONE) X(cvtps2dq, 16, RES_NONE) X(cvttps2dq, 16, RES_NONE)
#define FP_WIDEN_OPS(X) X(cvtps2pd, 8, RES_NONE) X(cvtdq2pd, 8, RES_NONE)
#define FP_NARROW_OPS(X) X(cvtpd2ps, 16, RES_PS) X(cvtpd2dq, 16, RES_NONE) X(cvttpd2dq, 16, RES_NONE)

#define FP_OPS(X) FP_PACKED_OPS(X) FP_SCALAR_OPS(X) FP_UNARY_OPS(X) FP_WIDEN_OPS(X) FP_NARROW_OPS(X)

#endif
