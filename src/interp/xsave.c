/* SPDX-License-Identifier: MIT */
/* FXSAVE, FXRSTOR, the XSAVE family, XGETBV, XSETBV (SDM vol. 1, chapter 13; vol. 2). */
#include <string.h>

#include "cpu/cr.h"
#include "cpu/fpu.h"
#include "interp/impl.h"

/* XMM8-15 exist in 64-bit mode only; elsewhere their places in memory are not touched, and they keep their values. */
INLINE unsigned xmm_regs(const struct insn *i)
{
	return i->flags & INSN_MODE64 ? 16 : 8;
}

INLINE enum fx_format fx_format(const struct insn *i)
{
	return i->flags & INSN_REX_W ? FX_64 : FX_SELECTORS;
}

static bool misaligned(const struct cpu *c, const struct insn *i, u64 ea, unsigned to)
{
	return (c->seg[i->seg].base + ea) & (to - 1);
}

/* #GP, or #AC where that is enabled and even a double word would not be aligned (SDM vol. 2, FXSAVE). */
static int fx_check_aligned(struct cpu *c, const struct insn *i, u64 ea)
{
	u64 lin;

	if (likely(!misaligned(c, i, ea, 16)))
		return ST_OK;
	if (seg_check(c, i->seg, ea, FXSAVE_SIZE, MEM_READ, &lin))
		return ST_FAULT;
	return mem_check_alignment(c, i->seg, ea, 4) ? ST_FAULT : fault_gp(c, 0);
}

/* Without CR4.OSFXSR the XMM registers are left out, but MXCSR is not. */
INLINE unsigned fx_regs(const struct cpu *c, const struct insn *i)
{
	return c->cr4 & CR4_OSFXSR ? xmm_regs(i) : 0;
}

/* CR0.EM and CR0.TS alike raise #NM here, as the kernel's KVM has it; older manuals say #UD of the former. */
HANDLER(do_fxsave)
{
	unsigned regs = fx_regs(c, i), size = 160 + 16 * regs;
	u64 ea = insn_ea(c, i);
	u8 area[FXSAVE_SIZE];
	int st;

	if (fpu_check(c, FPU_TRAP_X87))
		return ST_FAULT;
	if (fx_check_aligned(c, i, ea))
		return ST_FAULT;
	fx_put_x87(&c->fpu, area, fx_format(i));
	fx_put_mxcsr(&c->fpu, area);
	fx_put_xmm(&c->fpu, area, regs);
	/* The whole area has to be there, also what is not written. */
	st = mem_probe(c, i->seg, ea, FXSAVE_SIZE, MEM_WRITE);
	return unlikely(st) ? st : mem_write_bulk(c, i->seg, ea, area, size);
}
IMPL_ANY(fxsave, do_fxsave);

HANDLER(do_fxrstor)
{
	unsigned regs = fx_regs(c, i), size = 160 + 16 * regs;
	u64 ea = insn_ea(c, i);
	u8 area[FXSAVE_SIZE];
	u32 mxcsr;
	int st;

	if (fpu_check(c, FPU_TRAP_X87))
		return ST_FAULT;
	if (fx_check_aligned(c, i, ea))
		return ST_FAULT;
	/* The whole area has to be there, also what is not looked at. */
	st = mem_probe(c, i->seg, ea, FXSAVE_SIZE, MEM_READ);
	if (!st)
		st = mem_read_bulk(c, i->seg, ea, area, size);
	if (unlikely(st))
		return st;
	memcpy(&mxcsr, area + 24, 4);
	if (mxcsr & ~MXCSR_MASK)
		return fault_gp(c, 0);
	c->fpu.mxcsr = mxcsr;
	fx_get_x87(&c->fpu, area, fx_format(i));
	fx_get_xmm(&c->fpu, area, regs);
	return ST_OK;
}
IMPL_ANY(fxrstor, do_fxrstor);

/* ---- XSAVE ---- */

#define NR_XCOMP ARRAY_SIZE(((struct fpu *)0)->xoff)

struct xarea {
	u64 ea;
	u64 allowed;  /* XCR0, with the supervisor forms also IA32_XSS */
	u64 rfbm;     /* requested: EDX:EAX of those */
	unsigned regs;
	u8 buf[XSAVE_MAX] __attribute__((aligned(64)));
};

/* What all of them check and need. */
static int xarea_begin(struct cpu *c, const struct insn *i, struct xarea *x, bool supervisor)
{
	if (fpu_check(c, FPU_TRAP_XSAVE))
		return ST_FAULT;
	if (supervisor && c->cpl)
		return fault_gp(c, 0);
	x->ea = insn_ea(c, i);
	if (misaligned(c, i, x->ea, 64))
		return fault_gp(c, 0);
	x->allowed = c->fpu.xcr0 | (supervisor ? c->fpu.xss : 0);
	x->rfbm = (REG32(c, 8 * RAX) | (u64)REG32(c, 8 * RDX) << 32) & x->allowed;
	x->regs = xmm_regs(i);
	return ST_OK;
}

static int xarea_write(struct cpu *c, const struct insn *i, const struct xarea *x, u32 off, u32 size)
{
	return mem_write_bulk(c, i->seg, x->ea + off, x->buf + off, size);
}

static int xarea_read(struct cpu *c, const struct insn *i, struct xarea *x, u32 off, u32 size)
{
	return mem_read_bulk(c, i->seg, x->ea + off, x->buf + off, size);
}

/* Stores the components of `which`; layout is XCOMP_BV. */
static int xarea_store(struct cpu *c, const struct insn *i, struct xarea *x, u64 which, u64 layout, bool mxcsr)
{
	const struct fpu *f = &c->fpu;
	int st = ST_OK;

	if (which & XC_X87) {
		fx_put_x87(f, x->buf, fx_format(i));
		st = xarea_write(c, i, x, 0, 24);
		if (!st)
			st = xarea_write(c, i, x, 32, 128);
	}
	if (!st && mxcsr) {
		fx_put_mxcsr(f, x->buf);
		st = xarea_write(c, i, x, 24, 8);
	}
	if (!st && (which & XC_SSE)) {
		fx_put_xmm(f, x->buf, x->regs);
		st = xarea_write(c, i, x, 160, 16 * x->regs);
	}
	for (unsigned n = 2; n < NR_XCOMP && !st; n++) {
		u32 off = xcomp_offset(f, n, layout);

		if (!(which & BIT64(n)))
			continue;
		/* What lies in memory for registers that this mode does not have stays. */
		if (x->regs < 16)
			st = xarea_read(c, i, x, off, xcomp_size(n));
		if (st)
			break;
		xcomp_put(f, n, x->buf + off, x->regs);
		st = xarea_write(c, i, x, off, xcomp_size(n));
	}
	return st;
}

/* The standard format: XSAVE, and XSAVEOPT, which leaves out components in their initial state. */
static int save_standard(struct cpu *c, const struct insn *i, bool optimize)
{
	struct xarea x;
	u64 in_use, bv;
	int st = xarea_begin(c, i, &x, false);

	if (unlikely(st))
		return st;
	st = mem_probe(c, i->seg, x.ea, xsave_size(&c->fpu, x.rfbm, false), MEM_WRITE);
	if (likely(!st))
		st = xarea_read(c, i, &x, XSAVE_HEADER, 8);
	if (unlikely(st))
		return st;
	in_use = fpu_xinuse(&c->fpu);
	st = xarea_store(c, i, &x, optimize ? x.rfbm & in_use : x.rfbm, 0, x.rfbm & (XC_SSE | XC_AVX));
	if (unlikely(st))
		return st;
	memcpy(&bv, x.buf + XSAVE_HEADER, 8);
	bv = (bv & ~x.rfbm) | (in_use & x.rfbm);
	memcpy(x.buf + XSAVE_HEADER, &bv, 8);
	return xarea_write(c, i, &x, XSAVE_HEADER, 8);
}

/* The compacted format: XSAVEC and XSAVES. MXCSR belongs to the SSE component here. */
static int save_compact(struct cpu *c, const struct insn *i, bool supervisor)
{
	struct xarea x;
	u64 head[2];
	int st = xarea_begin(c, i, &x, supervisor);

	if (unlikely(st))
		return st;
	st = mem_probe(c, i->seg, x.ea, xsave_size(&c->fpu, x.rfbm, true), MEM_WRITE);
	if (unlikely(st))
		return st;
	head[0] = fpu_xinuse(&c->fpu);
	if (c->fpu.mxcsr != MXCSR_INIT)
		head[0] |= XC_SSE;
	head[0] &= x.rfbm;
	head[1] = x.rfbm | XCOMP_COMPACT;
	st = xarea_store(c, i, &x, head[0], head[1], head[0] & XC_SSE);
	if (unlikely(st))
		return st;
	memcpy(x.buf + XSAVE_HEADER, head, 16);
	return xarea_write(c, i, &x, XSAVE_HEADER, 16);
}

HANDLER(do_xsave)
{
	return save_standard(c, i, false);
}
IMPL_ANY(xsave, do_xsave);

HANDLER(do_xsaveopt)
{
	return save_standard(c, i, true);
}
IMPL_ANY(xsaveopt, do_xsaveopt);

HANDLER(do_xsavec)
{
	return save_compact(c, i, false);
}
IMPL_ANY(xsavec, do_xsavec);

HANDLER(do_xsaves)
{
	return save_compact(c, i, true);
}
IMPL_ANY(xsaves, do_xsaves);

/* ---- XRSTOR ---- */

/* SDM vol. 1, 13.8.1 and 13.12: is the header one that this instruction takes? */
static bool header_ok(const u64 head[8], u64 allowed, bool supervisor)
{
	if (!(head[1] & XCOMP_COMPACT))
		return !supervisor && !head[1] && !head[2] && !(head[0] & ~allowed);
	for (unsigned k = 2; k < 8; k++)
		if (head[k])
			return false;
	return !(head[1] & ~XCOMP_COMPACT & ~allowed) && !(head[0] & ~head[1]);
}

/* Reads everything that will be loaded. */
static int xarea_load(struct cpu *c, const struct insn *i, struct xarea *x, u64 which, u64 layout, bool mxcsr)
{
	int st = ST_OK;

	if (which & XC_X87) {
		st = xarea_read(c, i, x, 0, 24);
		if (!st)
			st = xarea_read(c, i, x, 32, 128);
	}
	if (!st && mxcsr)
		st = xarea_read(c, i, x, 24, 4);
	if (!st && (which & XC_SSE))
		st = xarea_read(c, i, x, 160, 16 * x->regs);
	for (unsigned n = 2; n < NR_XCOMP && !st; n++)
		if (which & BIT64(n))
			st = xarea_read(c, i, x, xcomp_offset(&c->fpu, n, layout), xcomp_size(n));
	return st;
}

static int restore(struct cpu *c, const struct insn *i, bool supervisor)
{
	struct fpu *f = &c->fpu;
	u64 head[8], which;
	u32 mxcsr = MXCSR_INIT, pkru = f->pkru;
	bool compact, set_mxcsr, load_mxcsr;
	struct xarea x;
	int st = xarea_begin(c, i, &x, supervisor);

	if (likely(!st))
		st = xarea_read(c, i, &x, XSAVE_HEADER, 64);
	if (unlikely(st))
		return st;
	memcpy(head, x.buf + XSAVE_HEADER, 64);
	if (!header_ok(head, x.allowed, supervisor))
		return fault_gp(c, 0);
	compact = head[1] & XCOMP_COMPACT;
	which = x.rfbm & head[0];
	/* The standard format loads MXCSR for SSE or AVX whatever XSTATE_BV says; in the other it is a part of SSE. */
	set_mxcsr = x.rfbm & (compact ? XC_SSE : XC_SSE | XC_AVX);
	load_mxcsr = set_mxcsr && (!compact || (which & XC_SSE));
	st = xarea_load(c, i, &x, which, head[1], load_mxcsr);
	if (unlikely(st))
		return st;
	if (load_mxcsr)
		memcpy(&mxcsr, x.buf + 24, 4);
	if (mxcsr & ~MXCSR_MASK)
		return fault_gp(c, 0);

	if (set_mxcsr)
		f->mxcsr = mxcsr;
	fpu_init_components(f, x.rfbm & ~which, x.regs);
	if (which & XC_X87)
		fx_get_x87(f, x.buf, fx_format(i));
	if (which & XC_SSE)
		fx_get_xmm(f, x.buf, x.regs);
	for (unsigned n = 2; n < NR_XCOMP; n++)
		if (which & BIT64(n))
			xcomp_get(f, n, x.buf + xcomp_offset(f, n, head[1]), x.regs);
	if (f->pkru != pkru && (c->cr4 & CR4_PKE))
		tlb_flush(c);
	return ST_OK;
}

HANDLER(do_xrstor)
{
	return restore(c, i, false);
}
IMPL_ANY(xrstor, do_xrstor);

HANDLER(do_xrstors)
{
	return restore(c, i, true);
}
IMPL_ANY(xrstors, do_xrstors);

/* ---- protection keys: PKRU is a component of the extended state, and part of every translation ---- */
HANDLER(do_rdpkru)
{
	(void)i;
	if (!(c->cr4 & CR4_PKE))
		return fault_ud(c);
	if (REG32(c, 8 * RCX))
		return fault_gp(c, 0);
	c->gpr[RAX] = c->fpu.pkru;
	c->gpr[RDX] = 0;
	return ST_OK;
}
IMPL_ANY(rdpkru, do_rdpkru);

HANDLER(do_wrpkru)
{
	u32 v = REG32(c, 8 * RAX);

	(void)i;
	if (!(c->cr4 & CR4_PKE))
		return fault_ud(c);
	if (REG32(c, 8 * RCX) || REG32(c, 8 * RDX))
		return fault_gp(c, 0);
	if (v != c->fpu.pkru)
		tlb_flush(c);
	c->fpu.pkru = v;
	return ST_END;
}
IMPL_ANY(wrpkru, do_wrpkru);

/* ---- XCR0 ---- */
HANDLER(do_xgetbv)
{
	u64 v = c->fpu.xcr0;

	(void)i;
	if (fpu_check(c, FPU_TRAP_XCR))
		return ST_FAULT;
	if (REG32(c, 8 * RCX) > 1)
		return fault_gp(c, 0);
	if (REG32(c, 8 * RCX) == 1)
		v &= fpu_xinuse(&c->fpu);
	c->gpr[RAX] = (u32)v;
	c->gpr[RDX] = v >> 32;
	return ST_OK;
}
IMPL_ANY(xgetbv, do_xgetbv);

HANDLER(do_xsetbv)
{
	u64 v = REG32(c, 8 * RAX) | (u64)REG32(c, 8 * RDX) << 32;

	(void)i;
	if (fpu_check(c, FPU_TRAP_XCR))
		return ST_FAULT;
	if (c->cpl || REG32(c, 8 * RCX) || cpu_write_xcr0(c, v))
		return fault_gp(c, 0);
	return ST_OK;
}
IMPL_ANY(xsetbv, do_xsetbv);
