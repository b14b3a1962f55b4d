/* SPDX-License-Identifier: MIT */
/* x87 arithmetic, comparisons, transcendental functions; and the exact path of x87.h. */
#include "cpu/cpuid.h"
#include "interp/x87.h"

const u16 x87_host_cw = FCW_INIT;

/* ---- the exact path ---- */

/* In the image, a, b and the register above the guest's top are physical registers 4, 5 and 3; TOP is 4. */
#define IM_TOP 4
#define IM_A 4
#define IM_B 5
#define IM_PUSH 3

static u32 image_tag(const struct fpu *f, unsigned reg, unsigned at)
{
	/* Of a tag, the host looks only at "empty". */
	return (f->ftw & BIT(reg) ? 0 : 3) << 2 * at;
}

void x87_exact_run(const struct fpu *f, const struct x87_core *core, unsigned a, unsigned b, void *mem,
		   struct x87_image *im)
{
	unsigned push = (fpu_top(f) - 1) & 7;

	memset(im, 0, sizeof(*im));
	im->fcw = f->fcw;
	im->fsw = (f->fsw & FSW_CC) | IM_TOP << 11;
	im->ftw = image_tag(f, a, IM_A) | image_tag(f, b, IM_B) | image_tag(f, push, IM_PUSH);
	memcpy(im->st[0], f->st[a], 10);
	memcpy(im->st[1], f->st[b], 10);
	memcpy(im->st[7], f->st[push], 10);
	core->exact(im, mem);
}

static unsigned image_top(const struct x87_image *im)
{
	return (im->fsw >> 11) & 7;
}

/* Takes register `at` of the image back into reg, if the instruction changed it. */
static void image_take(struct fpu *f, const struct x87_image *im, unsigned at, unsigned reg, const u8 *was, bool full)
{
	const u8 *now = im->st[(at - image_top(im)) & 7];
	bool now_full = (im->ftw >> 2 * at & 3) != 3;

	if (now_full == full && !memcmp(now, was, 10))
		return;
	memcpy(f->st[reg], now, 10);
	f->ftw = (f->ftw & ~BIT(reg)) | now_full << reg;
}

u16 x87_exact_flags(struct fpu *f, const struct x87_image *im)
{
	f->fsw = (f->fsw & ~FSW_CC) | (im->fsw & (FSW_CC | FSW_FLAGS | FSW_SF)) | (f->fsw & FSW_FLAGS);
	fpu_summary(f);
	return im->fsw & ~f->fcw & FSW_FLAGS;
}

u16 x87_exact_commit(struct fpu *f, unsigned a, unsigned b, const struct x87_image *im)
{
	unsigned top = fpu_top(f), push = (top - 1) & 7, moved = (image_top(im) - IM_TOP) & 7;
	u8 was[3][10], ftw = f->ftw;

	memcpy(was[0], f->st[a], 10);
	memcpy(was[1], f->st[b], 10);
	memcpy(was[2], f->st[push], 10);
	image_take(f, im, IM_B, b, was[1], ftw & BIT(b));
	image_take(f, im, IM_A, a, was[0], ftw & BIT(a));
	if (moved == 7) {
		image_take(f, im, IM_PUSH, push, was[2], ftw & BIT(push));
		f->ftw |= BIT(push);
	}
	if (moved == 1)
		f->ftw &= ~BIT(top);
	fpu_set_top(f, top + moved);
	return x87_exact_flags(f, im);
}

u16 x87_exact(struct fpu *f, const struct x87_core *core, unsigned a, unsigned b, void *mem)
{
	struct x87_image im;

	x87_exact_run(f, core, a, b, mem, &im);
	return x87_exact_commit(f, a, b, &im);
}

/* ---- templates ---- */

/* dst = dst op src, both registers; then perhaps a pop. */
INLINE int arith_reg(struct cpu *c, const struct insn *i, const struct x87_core *core, bool pop)
{
	struct fpu *f = &c->fpu;
	unsigned a, b;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, i->dst);
	b = x87_reg(f, i->src);
	if (x87_is_fast(f, BIT(a) | BIT(b), 0))
		x87_merge(f, x87_fast(f, core, f->st[a], f->st[b], NULL), FSW_C1);
	else if (x87_exact(f, core, a, b, NULL) & X87_PRE_FAULTS)
		return ST_OK;
	if (pop)
		x87_pop(f);
	return ST_OK;
}

/* ST(0) = ST(0) op memory; a comparison defines C0, C2, C3 as well, and may pop. */
INLINE int with_memory(struct cpu *c, const struct insn *i, unsigned bytes, const struct x87_core *core, u16 cc,
		       unsigned pops)
{
	struct fpu *f = &c->fpu;
	unsigned a;
	u64 m;
	int st;

	if (x87_begin(c))
		return ST_FAULT;
	st = mem_read(c, i->seg, insn_ea(c, i), &m, bytes);
	if (unlikely(st))
		return st;
	x87_note(c, i);
	a = x87_reg(f, 0);
	if (x87_is_fast(f, BIT(a), 0))
		x87_merge(f, x87_fast(f, core, f->st[a], NULL, &m), cc);
	else if (x87_exact(f, core, a, x87_reg(f, 1), &m) & X87_PRE_FAULTS)
		return ST_OK;
	if (pops)
		x87_pop(f);
	return ST_OK;
}

/* What FCOMI and relatives define of C0-C3: Intel's CPUs clear C1 (SDM vol. 2, FCOMI), AMD's leave it. */
INLINE u16 fcomi_cc(const struct cpu *c)
{
	return cpu_has(c, FEAT_AMD) ? 0 : FSW_C1;
}

/* ST(0) compared with ST(src). */
INLINE int compare_reg(struct cpu *c, const struct insn *i, unsigned src, const struct x87_core *core, unsigned pops,
		       u8 *eflags)
{
	struct fpu *f = &c->fpu;
	unsigned a, b;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, 0);
	b = x87_reg(f, src);
	if (x87_is_fast(f, BIT(a) | BIT(b), 0))
		x87_merge(f, x87_fast(f, core, f->st[a], f->st[b], eflags), eflags ? fcomi_cc(c) : FSW_CC);
	else if (x87_exact(f, core, a, b, eflags) & X87_PRE_FAULTS)
		return ST_OK;
	while (pops--)
		x87_pop(f);
	return ST_OK;
}

/* FCOMI and relatives: ZF, PF, CF; the other status flags are cleared. */
INLINE int compare_eflags(struct cpu *c, const struct insn *i, const struct x87_core *core, unsigned pops)
{
	u8 flags;
	int st = compare_reg(c, i, i->src, core, pops, &flags);

	if (st == ST_OK)
		c->cc = flags & (FL_ZF | FL_PF | FL_CF);
	return st;
}

/* ST(0) = op ST(0), and no more registers. */
INLINE int unary(struct cpu *c, const struct insn *i, const struct x87_core *core, u16 cc)
{
	struct fpu *f = &c->fpu;
	unsigned a;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, 0);
	if (x87_is_fast(f, BIT(a), 0))
		x87_merge(f, x87_fast(f, core, f->st[a], NULL, NULL), cc);
	else
		x87_exact(f, core, a, x87_reg(f, 1), NULL);
	return ST_OK;
}

/* ST(0) = ST(0) op ST(1), or with `pops` ST(1) = ST(0) op ST(1) and a pop, which is in the core. */
INLINE int binary(struct cpu *c, const struct insn *i, const struct x87_core *core, u16 cc, bool pops)
{
	struct fpu *f = &c->fpu;
	unsigned a, b;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, 0);
	b = x87_reg(f, 1);
	if (!x87_is_fast(f, BIT(a) | BIT(b), 0)) {
		x87_exact(f, core, a, b, NULL);
		return ST_OK;
	}
	x87_merge(f, x87_fast(f, core, f->st[a], f->st[b], NULL), cc);
	if (pops)
		x87_pop(f);
	return ST_OK;
}

/* Those that may push, or not, or define condition codes, or not, as the operands are: always exact. */
INLINE int intricate(struct cpu *c, const struct insn *i, const struct x87_core *core)
{
	struct fpu *f = &c->fpu;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	x87_exact(f, core, x87_reg(f, 0), x87_reg(f, 1), NULL);
	return ST_OK;
}

/* ---- arithmetic: op is FADD, with FADDP and FIADD ---- */
#define ARITH(op, pop_op, int_op)										       \
	X87_CORE(op##_core, LOAD_AB, #op " %%st(1), %%st", STORE_A_DROP_B);					       \
	X87_CORE(op##_m32, LOAD_A, #op "s (%[mem])", STORE_A);							       \
	X87_CORE(op##_m64, LOAD_A, #op "l (%[mem])", STORE_A);							       \
	X87_CORE(int_op##_m16, LOAD_A, #int_op "s (%[mem])", STORE_A);						       \
	X87_CORE(int_op##_m32, LOAD_A, #int_op "l (%[mem])", STORE_A);						       \
	HANDLER(do_##op)											       \
	{													       \
		if (!(i->flags & INSN_MEM))									       \
			return arith_reg(c, i, &op##_core, false);						       \
		return i->size == SZ_32 ? with_memory(c, i, 4, &op##_m32, FSW_C1, 0) :				       \
					  with_memory(c, i, 8, &op##_m64, FSW_C1, 0);				       \
	}													       \
	HANDLER(do_##pop_op)											       \
	{													       \
		return arith_reg(c, i, &op##_core, true);							       \
	}													       \
	HANDLER(do_##int_op)											       \
	{													       \
		return i->size == SZ_16 ? with_memory(c, i, 2, &int_op##_m16, FSW_C1, 0) :			       \
					  with_memory(c, i, 4, &int_op##_m32, FSW_C1, 0);			       \
	}													       \
	IMPL_ANY(op, do_##op);											       \
	IMPL_ANY(pop_op, do_##pop_op);										       \
	IMPL_ANY(int_op, do_##int_op)

ARITH(fadd, faddp, fiadd);
ARITH(fmul, fmulp, fimul);
ARITH(fsub, fsubp, fisub);
ARITH(fsubr, fsubrp, fisubr);
ARITH(fdiv, fdivp, fidiv);
ARITH(fdivr, fdivrp, fidivr);

/* ---- comparisons ---- */
X87_CORE(fcom_core, LOAD_AB, "fcom %%st(1)", DROP_AB);
X87_CORE(fucom_core, LOAD_AB, "fucom %%st(1)", DROP_AB);
X87_CORE(fcom_m32, LOAD_A, "fcoms (%[mem])", DROP_A);
X87_CORE(fcom_m64, LOAD_A, "fcoml (%[mem])", DROP_A);
X87_CORE(ficom_m16, LOAD_A, "ficoms (%[mem])", DROP_A);
X87_CORE(ficom_m32, LOAD_A, "ficoml (%[mem])", DROP_A);
X87_CORE(ftst_core, LOAD_A, "ftst", DROP_A);
X87_CORE(fxam_core, LOAD_A, "fxam", DROP_A);
X87_CORE(fcomi_core, LOAD_AB, "fcomi %%st(1), %%st\n\tlahf\n\txchgb %%al, %%ah\n\tmovb %%al, (%[mem])", DROP_AB);
X87_CORE(fucomi_core, LOAD_AB, "fucomi %%st(1), %%st\n\tlahf\n\txchgb %%al, %%ah\n\tmovb %%al, (%[mem])", DROP_AB);

INLINE int compare_any(struct cpu *c, const struct insn *i, unsigned pops)
{
	if (!(i->flags & INSN_MEM))
		return compare_reg(c, i, i->src, &fcom_core, pops, NULL);
	return i->size == SZ_32 ? with_memory(c, i, 4, &fcom_m32, FSW_CC, pops) :
				  with_memory(c, i, 8, &fcom_m64, FSW_CC, pops);
}

INLINE int compare_int(struct cpu *c, const struct insn *i, unsigned pops)
{
	return i->size == SZ_16 ? with_memory(c, i, 2, &ficom_m16, FSW_CC, pops) :
				  with_memory(c, i, 4, &ficom_m32, FSW_CC, pops);
}

X87_HANDLER(fcom, compare_any(c, i, 0));
X87_HANDLER(fcomp, compare_any(c, i, 1));
X87_HANDLER(fcompp, compare_reg(c, i, 1, &fcom_core, 2, NULL));
X87_HANDLER(fucom, compare_reg(c, i, i->src, &fucom_core, 0, NULL));
X87_HANDLER(fucomp, compare_reg(c, i, i->src, &fucom_core, 1, NULL));
X87_HANDLER(fucompp, compare_reg(c, i, 1, &fucom_core, 2, NULL));
X87_HANDLER(ficom, compare_int(c, i, 0));
X87_HANDLER(ficomp, compare_int(c, i, 1));
X87_HANDLER(fcomi, compare_eflags(c, i, &fcomi_core, 0));
X87_HANDLER(fcomip, compare_eflags(c, i, &fcomi_core, 1));
X87_HANDLER(fucomi, compare_eflags(c, i, &fucomi_core, 0));
X87_HANDLER(fucomip, compare_eflags(c, i, &fucomi_core, 1));
X87_HANDLER(ftst, unary(c, i, &ftst_core, FSW_CC));
X87_HANDLER(fxam, unary(c, i, &fxam_core, FSW_CC));

/* ---- one operand ---- */
#define UNARY(op, cc)												       \
	X87_CORE(op##_core, LOAD_A, #op, STORE_A);								       \
	X87_HANDLER(op, unary(c, i, &op##_core, cc))

UNARY(fchs, FSW_C1);
UNARY(fabs, FSW_C1);
UNARY(fsqrt, FSW_C1);
UNARY(frndint, FSW_C1);
UNARY(f2xm1, FSW_C1);
UNARY(fsin, FSW_C1 | FSW_C2);
UNARY(fcos, FSW_C1 | FSW_C2);

/* ---- two operands ---- */
#define BINARY(op, cc)												       \
	X87_CORE(op##_core, LOAD_AB, #op, STORE_A_DROP_B);							       \
	X87_HANDLER(op, binary(c, i, &op##_core, cc, false))
#define BINARY_POP(op)												       \
	X87_CORE(op##_core, LOAD_AB, #op, STORE_B);								       \
	X87_HANDLER(op, binary(c, i, &op##_core, FSW_C1, true))

BINARY(fscale, FSW_C1);
BINARY_POP(fpatan);
BINARY_POP(fyl2x);
BINARY_POP(fyl2xp1);

#define INTRICATE(op)												       \
	X87_CORE_EXACT(op##_core, #op);										       \
	X87_HANDLER(op, intricate(c, i, &op##_core))

INTRICATE(fptan);
INTRICATE(fsincos);
INTRICATE(fxtract);
INTRICATE(fprem);
INTRICATE(fprem1);
