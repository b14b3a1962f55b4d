/* SPDX-License-Identifier: MIT */
/*
 * How instructions with a VEX prefix run: as in simd.h, the host executes the same instruction. A template is an inline
 * function that takes a constant `wide` (VEX.L); AVX_BOTH() makes the two handlers of it.
 *
 * Only these functions are compiled for AVX, so that the rest runs on any host; interp_bind() keeps them from hosts
 * without. The compiler ends each with VZEROUPPER where it used 256-bit registers, so that neither the engine's nor the
 * client's SSE code ever runs with their upper halves in use. No v256 may be an argument or a result of a function.
 */
#ifndef UKVM_INTERP_AVX_H
#define UKVM_INTERP_AVX_H

#include "interp/simd.h"

#define AVX __attribute__((target("avx")))
#define AVX_INLINE AVX INLINE
#define AVX_HANDLER(name) static AVX int name(struct cpu *c, const struct insn *i)

typedef u64 v256 __attribute__((vector_size(32), may_alias));
typedef v128 v128_un __attribute__((aligned(1), may_alias));
typedef v256 v256_un __attribute__((aligned(1), may_alias));

/*
 * All that VEX instructions see of a register. Whatever they write, they clear the rest of the register up to its
 * full width: handlers for 128 bits store zeros above, and above 256 bits there is nothing but zeros, as long as no
 * guest can have AVX-512 (cpuid.def).
 */
#define YMM(c, n) (*(v256 *)(c)->fpu.vec[n])

#define AVX_128(op)                                                                                                    \
	AVX_HANDLER(do_##op##_128)                                                                                     \
	{                                                                                                              \
		return op##_avx(c, i, false);                                                                          \
	}
#define AVX_256(op)                                                                                                    \
	AVX_HANDLER(do_##op##_256)                                                                                     \
	{                                                                                                              \
		return op##_avx(c, i, true);                                                                           \
	}
#define AVX_BOTH(op)                                                                                                   \
	AVX_128(op)                                                                                                    \
	AVX_256(op)                                                                                                    \
	const struct impl impl_##op = { .any = do_##op##_128, .wide = do_##op##_256 };
/* Those of one length only. */
#define AVX_ONLY_128(op)                                                                                               \
	AVX_128(op)                                                                                                    \
	IMPL_ANY(op, do_##op##_128);
#define AVX_ONLY_256(op)                                                                                               \
	AVX_256(op)                                                                                                    \
	IMPL_ANY(op, do_##op##_256);

/* ---- may it run, and its operands ---- */

INLINE int avx_begin(struct cpu *c)
{
	return fpu_check(c, FPU_TRAP_AVX);
}

/*
 * Where the last operand is: in memory, or register reg. Memory operands need not be aligned; what the soft TLB does
 * not have is read to cpu::bounce.
 */
INLINE int avx_operand(struct cpu *c, const struct insn *i, unsigned reg, unsigned bytes, const void **p)
{
	u64 ea;

	if (!(i->flags & INSN_MEM)) {
		*p = c->fpu.vec[reg];
		return ST_OK;
	}
	ea = insn_ea(c, i);
	*p = mem_fast(c, i->seg, ea, bytes, MEM_READ);
	if (likely(*p))
		return ST_OK;
	*p = c->bounce;
	return mem_read_slow(c, i->seg, ea, c->bounce, bytes);
}

/* The checks, and that operand: the second one, or the third one. */
INLINE int avx_fetch(struct cpu *c, const struct insn *i, unsigned bytes, const void **p)
{
	int st = avx_begin(c);

	return unlikely(st) ? st : avx_operand(c, i, i->src, bytes, p);
}

INLINE int avx_fetch3(struct cpu *c, const struct insn *i, unsigned bytes, const void **p)
{
	int st = avx_begin(c);

	return unlikely(st) ? st : avx_operand(c, i, i->src2, bytes, p);
}

/* The operand as an asm operand; the templates name it [s]. */
#define AT_BYTES(p, n) "m"(*(const u8(*)[n])(p))

INLINE unsigned avx_bytes(bool wide)
{
	return wide ? 32 : 16;
}

/* d = op(a, *p), d = op(*p): text is the mnemonic. */
#define AVX_RUN3(text, d, a, p)                                                                                        \
	do {                                                                                                           \
		if (wide)                                                                                              \
			asm(text " %[s], %t[a_], %t[d_]" : [d_] "=x"(d) : [a_] "x"(a), [s] AT_BYTES(p, 32));          \
		else                                                                                                   \
			asm(text " %[s], %x[a_], %x[d_]" : [d_] "=x"(d) : [a_] "x"(a), [s] AT_BYTES(p, 16));          \
	} while (0)
#define AVX_RUN2(text, d, p)                                                                                           \
	do {                                                                                                           \
		if (wide)                                                                                              \
			asm(text " %[s], %t[d_]" : [d_] "=x"(d) : [s] AT_BYTES(p, 32));                                \
		else                                                                                                   \
			asm(text " %[s], %x[d_]" : [d_] "=x"(d) : [s] AT_BYTES(p, 16));                                \
	} while (0)

/* The handlers of dst = op(src, src2), which cannot raise floating-point exceptions. */
#define AVX_BINARY_AS(op, text)                                                                                        \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch3(c, i, avx_bytes(wide), &p);                                                        \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		AVX_RUN3(text, d, YMM(c, i->src), p);                                                                  \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)
#define AVX_BINARY(op) AVX_BINARY_AS(op, #op)

/* ---- floating point ---- */

/* simd_leave() for any width of result; a copy goes to the slow half, so that d itself may stay in a register. */
#define AVX_LEAVE(c, e, d, kind, wide)                                                                                 \
	({                                                                                                             \
		int st_ = ST_OK;                                                                                       \
														       \
		if (likely(simd_masked(c))) {                                                                          \
			st_ = simd_leave(c, e, NULL, RES_NONE);                                                        \
		} else {                                                                                               \
			v256 copy_ = d;                                                                                \
														       \
			st_ = simd_leave_unmasked(c, (e)->out, (const v128 *)&copy_,                                   \
						  (kind) | ((wide) ? RES_WIDE : 0));                                   \
		}                                                                                                      \
		st_;                                                                                                   \
	})

/* VMASKMOV and gathers access memory without alignment checks (SDM vol. 2): between these two there are none. */
INLINE u64 avx_suspend_ac(struct cpu *c)
{
	u64 ac = c->rflags & FL_AC;

	c->rflags &= ~FL_AC;
	return ac;
}

INLINE void avx_resume_ac(struct cpu *c, u64 ac)
{
	c->rflags |= ac;
}

#endif
