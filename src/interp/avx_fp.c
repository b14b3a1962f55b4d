/* SPDX-License-Identifier: MIT */
/* AVX and F16C: floating-point instructions, which may raise #XM. FMA is in fma.c. */
#include "interp/avx.h"
#include "interp/simd_imm.h"
#include "interp/simd_ops.h"

/* The text names the destination [d], the register of the second operand [a], and the last operand [s]. */
#define FP_RUN(text, bytes, ...)                                                                                       \
	SIMD_RUN(c, &e, text, [d] "=x"(d),                                                                             \
		 SIMD_OPERANDS([a] "x"(YMM(c, i->src)), [s] AT_BYTES(p, bytes), ##__VA_ARGS__))

/* A template's frame: `run` is a statement that makes d of what fetch() found at p. */
#define AVX_FP(op, fetch, bytes, kind, run)                                                                            \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = fetch(c, i, bytes, &p);                                                                       \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		run;                                                                                                   \
		if (AVX_LEAVE(c, &e, d, kind, wide))                                                                   \
			return ST_FAULT;                                                                               \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}
/* The same text twice, for the two lengths. */
#define BY_LENGTH(bytes_x, text_x, bytes_y, text_y)                                                                    \
	do {                                                                                                           \
		if (wide)                                                                                              \
			FP_RUN(text_y, bytes_y);                                                                       \
		else                                                                                                   \
			FP_RUN(text_x, bytes_x);                                                                       \
	} while (0)

/* ---- dst = op(src, src2), whole registers and their lowest element ---- */
#define AVX_PACKED(op, bytes, kind)                                                                                    \
	AVX_FP(v##op, avx_fetch3, avx_bytes(wide), kind,                                                               \
	       BY_LENGTH(16, "v" #op " %[s], %x[a], %x[d]", 32, "v" #op " %[s], %t[a], %t[d]"))                        \
	AVX_BOTH(v##op)

FP_PACKED_OPS(AVX_PACKED)

#define AVX_SCALAR(op, bytes, kind)                                                                                    \
	AVX_FP(v##op, avx_fetch3, bytes, kind, FP_RUN("v" #op " %[s], %x[a], %x[d]", bytes))                           \
	AVX_ONLY_128(v##op)

FP_SCALAR_OPS(AVX_SCALAR)

/* ---- dst = op(src) ---- */
#define AVX_UNARY(op, bytes, kind)                                                                                     \
	AVX_FP(v##op, avx_fetch, avx_bytes(wide), kind,                                                                \
	       BY_LENGTH(16, "v" #op " %[s], %x[d]", 32, "v" #op " %[s], %t[d]"))                                      \
	AVX_BOTH(v##op)
#define AVX_WIDEN(op, bytes, kind)                                                                                     \
	AVX_FP(v##op, avx_fetch, avx_bytes(wide) / 2, kind,                                                            \
	       BY_LENGTH(8, "v" #op " %[s], %x[d]", 16, "v" #op " %[s], %t[d]"))                                       \
	AVX_BOTH(v##op)
#define AVX_NARROW(op, bytes, kind)                                                                                    \
	AVX_FP(v##op, avx_fetch, avx_bytes(wide), kind,                                                                \
	       BY_LENGTH(16, "v" #op "x %[s], %x[d]", 32, "v" #op "y %[s], %x[d]"))                                    \
	AVX_BOTH(v##op)

FP_UNARY_OPS(AVX_UNARY)
FP_WIDEN_OPS(AVX_WIDEN)
FP_NARROW_OPS(AVX_NARROW)

AVX_WIDEN(cvtph2ps, 8, RES_NONE)

/* ---- with an immediate: a case for each ---- */
#define FP_CASE(n, text, bytes)                                                                                        \
	case n:                                                                                                        \
		FP_RUN(text, bytes, [imm] "i"(n));                                                                     \
		break;
#define FP_SWITCH(mask, cases)                                                                                         \
	switch (i->imm & (mask)) {                                                                                     \
		cases                                                                                                  \
	}
#define FP_SWITCH_BY_LENGTH(mask, cases_x, cases_y)                                                                    \
	do {                                                                                                           \
		if (wide)                                                                                              \
			FP_SWITCH(mask, cases_y)                                                                       \
		else                                                                                                   \
			FP_SWITCH(mask, cases_x)                                                                       \
	} while (0)

/* Comparisons have 32 predicates; the other bits of the immediate are ignored. */
#define CMPPS_X(n) FP_CASE(n, "vcmpps %[imm], %[s], %x[a], %x[d]", 16)
#define CMPPS_Y(n) FP_CASE(n, "vcmpps %[imm], %[s], %t[a], %t[d]", 32)
#define CMPPD_X(n) FP_CASE(n, "vcmppd %[imm], %[s], %x[a], %x[d]", 16)
#define CMPPD_Y(n) FP_CASE(n, "vcmppd %[imm], %[s], %t[a], %t[d]", 32)
#define CMPSS_X(n) FP_CASE(n, "vcmpss %[imm], %[s], %x[a], %x[d]", 4)
#define CMPSD_X(n) FP_CASE(n, "vcmpsd %[imm], %[s], %x[a], %x[d]", 8)

AVX_FP(vcmpps, avx_fetch3, avx_bytes(wide), RES_NONE,
       FP_SWITCH_BY_LENGTH(31, CASES_32(CMPPS_X, 0), CASES_32(CMPPS_Y, 0)))
AVX_FP(vcmppd, avx_fetch3, avx_bytes(wide), RES_NONE,
       FP_SWITCH_BY_LENGTH(31, CASES_32(CMPPD_X, 0), CASES_32(CMPPD_Y, 0)))
AVX_FP(vcmpss, avx_fetch3, 4, RES_NONE, FP_SWITCH(31, CASES_32(CMPSS_X, 0)))
AVX_FP(vcmpsd, avx_fetch3, 8, RES_NONE, FP_SWITCH(31, CASES_32(CMPSD_X, 0)))
AVX_BOTH(vcmpps)
AVX_BOTH(vcmppd)
AVX_ONLY_128(vcmpss)
AVX_ONLY_128(vcmpsd)

#define ROUNDPS_X(n) FP_CASE(n, "vroundps %[imm], %[s], %x[d]", 16)
#define ROUNDPS_Y(n) FP_CASE(n, "vroundps %[imm], %[s], %t[d]", 32)
#define ROUNDPD_X(n) FP_CASE(n, "vroundpd %[imm], %[s], %x[d]", 16)
#define ROUNDPD_Y(n) FP_CASE(n, "vroundpd %[imm], %[s], %t[d]", 32)
#define ROUNDSS_X(n) FP_CASE(n, "vroundss %[imm], %[s], %x[a], %x[d]", 4)
#define ROUNDSD_X(n) FP_CASE(n, "vroundsd %[imm], %[s], %x[a], %x[d]", 8)
#define CASES_16(X) CASES_8(X, 0) CASES_8(X, 8)

AVX_FP(vroundps, avx_fetch, avx_bytes(wide), RES_NONE,
       FP_SWITCH_BY_LENGTH(15, CASES_16(ROUNDPS_X), CASES_16(ROUNDPS_Y)))
AVX_FP(vroundpd, avx_fetch, avx_bytes(wide), RES_NONE,
       FP_SWITCH_BY_LENGTH(15, CASES_16(ROUNDPD_X), CASES_16(ROUNDPD_Y)))
AVX_FP(vroundss, avx_fetch3, 4, RES_NONE, FP_SWITCH(15, CASES_16(ROUNDSS_X)))
AVX_FP(vroundsd, avx_fetch3, 8, RES_NONE, FP_SWITCH(15, CASES_16(ROUNDSD_X)))
AVX_BOTH(vroundps)
AVX_BOTH(vroundpd)
AVX_ONLY_128(vroundss)
AVX_ONLY_128(vroundsd)

/* Dot products, of each half: see SSE_DOT in sse_fp.c. */
#define AVX_DOT(op, all, lanes, kind)                                                                                  \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		v128 in = lanes(i->imm >> 4), out = lanes(i->imm);                                                     \
		union {                                                                                                \
			v256 y;                                                                                        \
			v128 x[2];                                                                                     \
		} a = { 0 }, s = { 0 };                                                                                \
		struct simd_env e;                                                                                     \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, avx_bytes(wide), &p);                                                        \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		guest_copy(&s, p, avx_bytes(wide));                                                                    \
		a.y = YMM(c, i->src);                                                                                  \
		for (unsigned k = 0; k < 2; k++) {                                                                     \
			a.x[k] &= in;                                                                                  \
			s.x[k] &= in;                                                                                  \
		}                                                                                                      \
		if (wide)                                                                                              \
			SIMD_RUN(c, &e, all("t"), [d] "=x"(d), SIMD_OPERANDS([a] "x"(a.y), [s] "x"(s.y)));             \
		else                                                                                                   \
			SIMD_RUN(c, &e, all("x"), [d] "=x"(d), SIMD_OPERANDS([a] "x"(a.y), [s] "x"(s.y)));             \
		if (AVX_LEAVE(c, &e, d, kind, wide))                                                                   \
			return ST_FAULT;                                                                               \
		a.y = d;                                                                                               \
		a.x[0] &= out;                                                                                         \
		a.x[1] &= out;                                                                                         \
		YMM(c, i->dst) = a.y;                                                                                  \
		return ST_OK;                                                                                          \
	}
#define ALL_PS(m) "vdpps $0xff, %" m "[s], %" m "[a], %" m "[d]"
#define ALL_PD(m) "vdppd $0x33, %x[s], %x[a], %x[d]"

AVX_DOT(vdpps, ALL_PS, lanes_ps, RES_PS)
AVX_DOT(vdppd, ALL_PD, lanes_pd, RES_PD)
AVX_BOTH(vdpps)
AVX_ONLY_128(vdppd)

/* ---- to half precision: bits 1:0 of the immediate round, unless bit 2 leaves it to MXCSR ---- */
#define PH_X(n) FP_CASE(n, "vcvtps2ph %[imm], %x[a], %x[d]", 1)
#define PH_Y(n) FP_CASE(n, "vcvtps2ph %[imm], %t[a], %x[d]", 1)

AVX_INLINE int vcvtps2ph_avx(struct cpu *c, const struct insn *i, bool wide)
{
	u32 mxcsr = c->fpu.mxcsr;
	const void *p = c;
	struct simd_env e;
	v256 d;
	int st;

	if (avx_begin(c))
		return ST_FAULT;
	FP_SWITCH_BY_LENGTH(7, CASES_8(PH_X, 0), CASES_8(PH_Y, 0));
	/* cppcheck-suppress uninitvar ; the asm statement has written d */
	st = AVX_LEAVE(c, &e, d, RES_PH, wide);
	/* A fault of the operand comes before #XM (SDM vol. 3, table 6-2). */
	if (unlikely(st)) {
		if (i->flags & INSN_MEM && mem_probe(c, i->seg, insn_ea(c, i), wide ? 16 : 8, MEM_WRITE))
			c->fpu.mxcsr = mxcsr;
		return st;
	}
	if (i->flags & INSN_MEM) {
		st = mem_write(c, i->seg, insn_ea(c, i), &d, wide ? 16 : 8);
		if (unlikely(st))
			c->fpu.mxcsr = mxcsr;
		return st;
	}
	YMM(c, i->dst) = d;
	return ST_OK;
}
AVX_BOTH(vcvtps2ph)

/* ---- comparisons to EFLAGS: ZF, PF, CF; the other status flags are cleared ---- */
#define AVX_COMI(op, bytes)                                                                                            \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		const void *p;                                                                                         \
		u16 ax;                                                                                                \
		int st = avx_fetch(c, i, bytes, &p);                                                                   \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		SIMD_RUN(c, &e, #op " %[s], %x[d]\n\tlahf", "=&a"(ax),                                                 \
			 SIMD_OPERANDS([s] AT_BYTES(p, bytes), [d] "x"(YMM(c, i->dst))));                              \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		c->cc = ax >> 8 & (FL_ZF | FL_PF | FL_CF);                                                             \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_COMI(vcomiss, 4)
AVX_COMI(vucomiss, 4)
AVX_COMI(vcomisd, 8)
AVX_COMI(vucomisd, 8)

/* ---- to and from general registers ---- */
#define AVX_TO_GPR(op, bytes)                                                                                          \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		const void *p;                                                                                         \
		u64 v;                                                                                                 \
		int st = avx_fetch(c, i, bytes, &p);                                                                   \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (i->size == SZ_64)                                                                                  \
			SIMD_RUN(c, &e, #op " %[s], %q[v]", [v] "=&r"(v), [s] AT_BYTES(p, bytes));                     \
		else                                                                                                   \
			SIMD_RUN(c, &e, #op " %[s], %k[v]", [v] "=&r"(v), [s] AT_BYTES(p, bytes));                     \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		REG64(c, i->dst) = i->size == SZ_64 ? v : (u32)v;                                                      \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_TO_GPR(vcvtss2si, 4)
AVX_TO_GPR(vcvttss2si, 4)
AVX_TO_GPR(vcvtsd2si, 8)
AVX_TO_GPR(vcvttsd2si, 8)

#define AVX_FROM_GPR(op)                                                                                               \
	AVX_HANDLER(do_##op)                                                                                           \
	{                                                                                                              \
		struct simd_env e;                                                                                     \
		v256 d;                                                                                                \
		u64 v;                                                                                                 \
		int st = avx_begin(c);                                                                                 \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (i->flags & INSN_MEM)                                                                               \
			st = load_operand(c, i, i->size, &v);                                                          \
		else                                                                                                   \
			v = REG64(c, i->src2);                                                                         \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (i->size == SZ_64)                                                                                  \
			SIMD_RUN(c, &e, #op "q %q[v], %x[a], %x[d]", [d] "=x"(d),                                      \
				 SIMD_OPERANDS([a] "x"(YMM(c, i->src)), [v] "r"(v)));                                  \
		else                                                                                                   \
			SIMD_RUN(c, &e, #op "l %k[v], %x[a], %x[d]", [d] "=x"(d),                                      \
				 SIMD_OPERANDS([a] "x"(YMM(c, i->src)), [v] "r"(v)));                                  \
		if (simd_leave(c, &e, NULL, RES_NONE))                                                                 \
			return ST_FAULT;                                                                               \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_FROM_GPR(vcvtsi2ss)
AVX_FROM_GPR(vcvtsi2sd)
