/* SPDX-License-Identifier: MIT */
/*
 * How SIMD instructions run: the host executes the same instruction on copies of the operands, or a few lines of C move
 * bytes where the immediate would have to be part of the host's instruction.
 *
 * Handlers are made from lists of rows (X-macros), one list a kind of instruction, in simd_ops.h; an encoding (legacy
 * SSE, MMX) is a template that takes such lists.
 *
 * Instructions that can raise SIMD floating-point exceptions get the guest's MXCSR, with all exceptions masked, for
 * that one instruction: SIMD_RUN(). All others run under the client's MXCSR, which is of no matter to them.
 */
#ifndef UKVM_INTERP_SIMD_H
#define UKVM_INTERP_SIMD_H

#include <string.h>

#include "cpu/fpu.h"
#include "interp/impl.h"

typedef u64 v128 __attribute__((vector_size(16), may_alias));

/* The same 16 bytes in elements. */
union vec {
	v128 v;
	u8 b[16];
	u16 w[8];
	u32 d[4];
	u64 q[2];
};

#define XMM(c, n) (*(v128 *)(c)->fpu.vec[n])
#define XMM_UPPER(c, n) (*(v128 *)((c)->fpu.vec[n] + 16))

/* What a VEX instruction writes: it clears the upper half (avx.h). */
INLINE void xmm_set(struct cpu *c, unsigned n, v128 v)
{
	XMM(c, n) = v;
	XMM_UPPER(c, n) = (v128){ 0 };
}

/* ---- may it run, and its operands ---- */

INLINE int sse_begin(struct cpu *c)
{
	return fpu_check(c, FPU_TRAP_SSE);
}

/* Legacy SSE: a memory operand of 16 bytes must be aligned, except in instructions that say otherwise. */
enum alignment { UNALIGNED, ALIGNED };

INLINE int simd_check_aligned(struct cpu *c, const struct insn *i, u64 ea)
{
	if (unlikely((c->seg[i->seg].base + ea) & 15))
		return fault_gp(c, 0);
	return ST_OK;
}

/* Reads the memory operand, zero-extended. */
INLINE int simd_load(struct cpu *c, const struct insn *i, unsigned bytes, enum alignment how, v128 *v)
{
	u64 ea = insn_ea(c, i), low = 0;
	int st;

	if (bytes == 16) {
		if (how == ALIGNED && simd_check_aligned(c, i, ea))
			return ST_FAULT;
		return mem_read(c, i->seg, ea, v, 16);
	}
	st = mem_read(c, i->seg, ea, &low, bytes);
	*v = (v128){ low, 0 };
	return st;
}

INLINE int simd_store(struct cpu *c, const struct insn *i, unsigned bytes, enum alignment how, const v128 *v)
{
	u64 ea = insn_ea(c, i);

	if (how == ALIGNED && simd_check_aligned(c, i, ea))
		return ST_FAULT;
	return mem_write(c, i->seg, ea, v, bytes);
}

/* The last operand of an SSE instruction: memory or the register src. */
INLINE int sse_source(struct cpu *c, const struct insn *i, unsigned bytes, enum alignment how, v128 *v)
{
	if (i->flags & INSN_MEM)
		return simd_load(c, i, bytes, how, v);
	*v = XMM(c, i->src);
	return ST_OK;
}

/* All that comes before the operation itself: an SSE instruction's checks and its source. */
INLINE int sse_fetch(struct cpu *c, const struct insn *i, unsigned bytes, enum alignment how, v128 *v)
{
	int st = sse_begin(c);

	return unlikely(st) ? st : sse_source(c, i, bytes, how, v);
}

/* The general register of a destination without a byte or word form: 64 bits with REX.W, else zero-extended 32. */
INLINE void gpr_write(struct cpu *c, const struct insn *i, u64 v)
{
	REG64(c, i->dst) = i->flags & INSN_REX_W ? v : (u32)v;
}

/* ---- floating point ---- */

struct simd_env {
	u32 host, in, out; /* MXCSR: before; what the instruction is to start with; what it left */
};

/*
 * Executes the text of an instruction that can raise exceptions under the guest's MXCSR. If the host's differs from it
 * in nothing but sticky flags that the guest has already, it serves as it is, and the flags may stay: they are ORed to
 * the guest's again each time, and fpu_host_leave() makes the client's of them. Else it is replaced for the moment.
 * As STMXCSR waits for all that comes before it, the run loop knows what the host's is (cpu::host_mxcsr).
 * outs and ins are operands, in SIMD_OPERANDS() if they are several. General registers in outs need an "&": the address
 * of an operand for MXCSR may be in one.
 */
#define SIMD_OPERANDS(...) __VA_ARGS__
#define SIMD_RUN(c, e, text, outs, ins)                                                                                \
	do {                                                                                                           \
		if (likely(simd_enter(c, e))) {                                                                        \
			asm volatile(text "\n\tstmxcsr %[env_out]" : outs, [env_out] "=m"((e)->out) : ins);            \
			if (likely((c)->host_mxcsr))                                                                   \
				(c)->host_mxcsr = (e)->out;                                                            \
		} else {                                                                                               \
			asm volatile("ldmxcsr %[env_in]\n\t" text "\n\tstmxcsr %[env_out]\n\tldmxcsr %[env_host]"      \
				     : outs, [env_out] "=&m"((e)->out)                                                 \
				     : [env_host] "m"((e)->host), [env_in] "m"((e)->in), ins);                         \
		}                                                                                                      \
	} while (0)

/* What the result of an instruction may hold that an unmasked underflow exception is for. */
enum simd_result {
	RES_NONE,
	RES_SS,
	RES_SD,
	RES_PS,
	RES_PD,
	RES_PH,        /* four elements, with RES_WIDE eight */
	RES_WIDE = 16, /* with a kind: 32 bytes of it */
};

INLINE bool simd_masked(const struct cpu *c)
{
	return likely((c->fpu.mxcsr & MXCSR_MASKS) == MXCSR_MASKS);
}

/* The slow halves of the two functions below, for guests that unmask exceptions. */
u32 simd_enter_unmasked(const struct cpu *c);
int simd_leave_unmasked(struct cpu *c, u32 out, const v128 *result, unsigned kind);

/* True if the host's MXCSR need not be changed. */
INLINE bool simd_enter(const struct cpu *c, struct simd_env *e)
{
	u32 guest = c->fpu.mxcsr;

	e->host = c->host_mxcsr;
	if (unlikely(!e->host))
		asm volatile("stmxcsr %0" : "=m"(e->host));
	if (likely(simd_masked(c) && !((e->host ^ guest) & ~MXCSR_FLAGS) && !(e->host & ~guest)))
		return true;
	e->in = simd_masked(c) ? guest : simd_enter_unmasked(c);
	return false;
}

/* Takes over the flags; ST_OK if the result may be committed. */
INLINE int simd_leave(struct cpu *c, const struct simd_env *e, const v128 *result, enum simd_result kind)
{
	if (!simd_masked(c))
		return simd_leave_unmasked(c, e->out, result, kind);
	/* Rarely one that is new; a store each time would make a chain of them. */
	if (unlikely(e->out & ~c->fpu.mxcsr & MXCSR_FLAGS))
		c->fpu.mxcsr |= e->out & MXCSR_FLAGS;
	return ST_OK;
}

/* ---- what several encodings share (sse_mov.c) ---- */
int simd_masked_store(struct cpu *c, const struct insn *i, const u8 *data, const u8 *mask, unsigned bytes);
int simd_maskmovdqu(struct cpu *c, const struct insn *i);
int simd_ldmxcsr(struct cpu *c, const struct insn *i);
int simd_stmxcsr(struct cpu *c, const struct insn *i);

/* ---- MMX: the low 64 bits of x87 registers ---- */

INLINE int mmx_begin(struct cpu *c)
{
	if (unlikely(c->fpu_trap & FPU_TRAP_MMX))
		return fpu_trap(c, FPU_TRAP_MMX);
	if (unlikely(c->fpu.fsw & FSW_ES) && (c->cr0 & CR0_NE))
		return fault_noerr(c, VEC_MF);
	return ST_OK;
}

INLINE u64 mmx_get(const struct cpu *c, unsigned n)
{
	return *(const u64_un *)c->fpu.st[n & 7];
}

/* Every MMX instruction leaves the x87 with TOP = 0 and no register empty (SDM vol. 1, 9.5.1). */
INLINE void mmx_done(struct cpu *c)
{
	c->fpu.fsw &= ~FSW_TOP;
	c->fpu.ftw = 0xff;
}

INLINE void mmx_set(struct cpu *c, unsigned n, u64 v)
{
	u8 *st = c->fpu.st[n & 7];

	*(u64_un *)st = v;
	*(u16_un *)(st + 8) = 0xffff;
	mmx_done(c);
}

#endif
