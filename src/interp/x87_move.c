/* SPDX-License-Identifier: MIT */
/* x87 loads, stores, constants and moves between registers. */
#include "interp/x87.h"

/* ---- loads ---- */

/* Pushes what the core makes of `bytes` of memory (none for a constant). */
INLINE int load(struct cpu *c, const struct insn *i, unsigned bytes, const struct x87_core *core)
{
	struct fpu *f = &c->fpu;
	unsigned slot;
	u8 m[16];
	int st;

	if (x87_begin(c))
		return ST_FAULT;
	if (bytes) {
		st = mem_read(c, i->seg, insn_ea(c, i), m, bytes);
		if (unlikely(st))
			return st;
	}
	x87_note(c, i);
	slot = x87_reg(f, 7);
	if (!x87_is_fast(f, 0, BIT(slot))) {
		x87_exact(f, core, x87_reg(f, 0), x87_reg(f, 1), m);
		return ST_OK;
	}
	x87_merge(f, x87_fast(f, core, f->st[slot], NULL, m), FSW_C1);
	f->ftw |= BIT(slot);
	fpu_set_top(f, slot);
	return ST_OK;
}

X87_CORE(fld_m32, LOAD_NONE, "flds (%[mem])", STORE_A);
X87_CORE(fld_m64, LOAD_NONE, "fldl (%[mem])", STORE_A);
X87_CORE(fld_m80, LOAD_NONE, "fldt (%[mem])", STORE_A);
X87_CORE(fild_m16, LOAD_NONE, "filds (%[mem])", STORE_A);
X87_CORE(fild_m32, LOAD_NONE, "fildl (%[mem])", STORE_A);
X87_CORE(fild_m64, LOAD_NONE, "fildll (%[mem])", STORE_A);
X87_CORE(fbld_m80, LOAD_NONE, "fbld (%[mem])", STORE_A);
X87_CORE_EXACT(fld_core, "fld %%st(1)");

INLINE int load_reg(struct cpu *c, const struct insn *i)
{
	struct fpu *f = &c->fpu;
	unsigned slot, b;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	slot = x87_reg(f, 7);
	b = x87_reg(f, i->dst);
	if (!x87_is_fast(f, BIT(b), BIT(slot))) {
		x87_exact(f, &fld_core, x87_reg(f, 0), b, NULL);
		return ST_OK;
	}
	memcpy(f->st[slot], f->st[b], 10);
	f->ftw |= BIT(slot);
	f->fsw &= ~FSW_C1;
	fpu_set_top(f, slot);
	return ST_OK;
}

HANDLER(do_fld)
{
	if (!(i->flags & INSN_MEM))
		return load_reg(c, i);
	switch (i->size) {
	case SZ_32:
		return load(c, i, 4, &fld_m32);
	case SZ_64:
		return load(c, i, 8, &fld_m64);
	default:
		return load(c, i, 10, &fld_m80);
	}
}
IMPL_ANY(fld, do_fld);

HANDLER(do_fild)
{
	switch (i->size) {
	case SZ_16:
		return load(c, i, 2, &fild_m16);
	case SZ_32:
		return load(c, i, 4, &fild_m32);
	default:
		return load(c, i, 8, &fild_m64);
	}
}
IMPL_ANY(fild, do_fild);

X87_HANDLER(fbld, load(c, i, 10, &fbld_m80));

#define CONSTANT(op)												       \
	X87_CORE(op##_core, LOAD_NONE, #op, STORE_A);								       \
	X87_HANDLER(op, load(c, i, 0, &op##_core))

CONSTANT(fld1);
CONSTANT(fldl2t);
CONSTANT(fldl2e);
CONSTANT(fldpi);
CONSTANT(fldlg2);
CONSTANT(fldln2);
CONSTANT(fldz);

/* ---- stores ---- */

/* Unmasked, these keep a value from being stored (SDM vol. 1, 8.5.4 and 8.5.5: there is no place for a scaled one). */
#define STORE_FAULTS (FSW_IE | 0x08 | 0x10)

/* The core pops on the host; `pop` tells whether the guest's instruction does. */
INLINE int store(struct cpu *c, const struct insn *i, unsigned bytes, const struct x87_core *core, bool pop)
{
	struct fpu *f = &c->fpu;
	struct x87_image im;
	bool fast, stored = true;
	unsigned a;
	u16 sw = 0;
	u8 m[16];
	int st;

	if (x87_begin(c))
		return ST_FAULT;
	a = x87_reg(f, 0);
	fast = x87_is_fast(f, BIT(a), 0);
	if (fast) {
		sw = x87_fast(f, core, f->st[a], NULL, m);
	} else {
		x87_exact_run(f, core, a, x87_reg(f, 1), m, &im);
		stored = !(im.fsw & ~f->fcw & STORE_FAULTS);
	}
	/* The operand must be writable even if nothing is written. */
	st = stored ? mem_write(c, i->seg, insn_ea(c, i), m, bytes) :
		      mem_probe(c, i->seg, insn_ea(c, i), bytes, MEM_WRITE);
	if (unlikely(st))
		return st;
	x87_note(c, i);
	if (fast)
		x87_merge(f, sw, FSW_C1);
	else
		x87_exact_flags(f, &im);
	if (pop && stored)
		x87_pop(f);
	return ST_OK;
}

X87_CORE(fst_m32, LOAD_A, "fstps (%[mem])", STORE_NONE);
X87_CORE(fst_m64, LOAD_A, "fstpl (%[mem])", STORE_NONE);
X87_CORE(fst_m80, LOAD_A, "fstpt (%[mem])", STORE_NONE);
X87_CORE(fist_m16, LOAD_A, "fistps (%[mem])", STORE_NONE);
X87_CORE(fist_m32, LOAD_A, "fistpl (%[mem])", STORE_NONE);
X87_CORE(fist_m64, LOAD_A, "fistpll (%[mem])", STORE_NONE);
X87_CORE(fisttp_m16, LOAD_A, "fisttps (%[mem])", STORE_NONE);
X87_CORE(fisttp_m32, LOAD_A, "fisttpl (%[mem])", STORE_NONE);
X87_CORE(fisttp_m64, LOAD_A, "fisttpll (%[mem])", STORE_NONE);
X87_CORE(fbstp_m80, LOAD_A, "fbstp (%[mem])", STORE_NONE);
X87_CORE_EXACT(fst_core, "fst %%st(1)");

INLINE int store_reg(struct cpu *c, const struct insn *i, bool pop)
{
	struct fpu *f = &c->fpu;
	unsigned a, b;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, 0);
	b = x87_reg(f, i->dst);
	if (x87_is_fast(f, BIT(a), 0)) {
		memcpy(f->st[b], f->st[a], 10);
		f->ftw |= BIT(b);
		f->fsw &= ~FSW_C1;
	} else if (x87_exact(f, &fst_core, a, b, NULL) & X87_PRE_FAULTS) {
		return ST_OK;
	}
	if (pop)
		x87_pop(f);
	return ST_OK;
}

INLINE int store_any(struct cpu *c, const struct insn *i, bool pop)
{
	if (!(i->flags & INSN_MEM))
		return store_reg(c, i, pop);
	switch (i->size) {
	case SZ_32:
		return store(c, i, 4, &fst_m32, pop);
	case SZ_64:
		return store(c, i, 8, &fst_m64, pop);
	default:
		return store(c, i, 10, &fst_m80, pop);
	}
}

INLINE int store_int(struct cpu *c, const struct insn *i, bool pop)
{
	switch (i->size) {
	case SZ_16:
		return store(c, i, 2, &fist_m16, pop);
	case SZ_32:
		return store(c, i, 4, &fist_m32, pop);
	default:
		return store(c, i, 8, &fist_m64, pop);
	}
}

X87_HANDLER(fst, store_any(c, i, false));
X87_HANDLER(fstp, store_any(c, i, true));
X87_HANDLER(fist, store_int(c, i, false));
X87_HANDLER(fistp, store_int(c, i, true));
X87_HANDLER(fbstp, store(c, i, 10, &fbstp_m80, true));

HANDLER(do_fisttp)
{
	switch (i->size) {
	case SZ_16:
		return store(c, i, 2, &fisttp_m16, true);
	case SZ_32:
		return store(c, i, 4, &fisttp_m32, true);
	default:
		return store(c, i, 8, &fisttp_m64, true);
	}
}
IMPL_ANY(fisttp, do_fisttp);

/* ---- between registers ---- */

X87_CORE_EXACT(fxch_core, "fxch %%st(1)");
/* FCMOVcc with the condition made true or false: an empty register is a stack fault either way. */
X87_CORE_EXACT(fcmov_true, "xorl %%eax, %%eax\n\tfcmove %%st(1), %%st");
X87_CORE_EXACT(fcmov_false, "xorl %%eax, %%eax\n\tfcmovne %%st(1), %%st");

HANDLER(do_fxch)
{
	struct fpu *f = &c->fpu;
	unsigned a, b;
	u8 t[10];

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, 0);
	b = x87_reg(f, i->src);
	if (!x87_is_fast(f, BIT(a) | BIT(b), 0)) {
		x87_exact(f, &fxch_core, a, b, NULL);
		return ST_OK;
	}
	memcpy(t, f->st[a], 10);
	memcpy(f->st[a], f->st[b], 10);
	memcpy(f->st[b], t, 10);
	f->fsw &= ~FSW_C1;
	return ST_OK;
}
IMPL_ANY(fxch, do_fxch);

INLINE int fcmov(struct cpu *c, const struct insn *i, bool take)
{
	struct fpu *f = &c->fpu;
	unsigned a, b;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	a = x87_reg(f, 0);
	b = x87_reg(f, i->src);
	if (!x87_is_fast(f, BIT(a) | BIT(b), 0)) {
		x87_exact(f, take ? &fcmov_true : &fcmov_false, a, b, NULL);
		return ST_OK;
	}
	if (take)
		memcpy(f->st[a], f->st[b], 10);
	return ST_OK;
}

X87_HANDLER(fcmovb, fcmov(c, i, c->cc & FL_CF));
X87_HANDLER(fcmove, fcmov(c, i, c->cc & FL_ZF));
X87_HANDLER(fcmovbe, fcmov(c, i, c->cc & (FL_CF | FL_ZF)));
X87_HANDLER(fcmovu, fcmov(c, i, c->cc & FL_PF));
X87_HANDLER(fcmovnb, fcmov(c, i, !(c->cc & FL_CF)));
X87_HANDLER(fcmovne, fcmov(c, i, !(c->cc & FL_ZF)));
X87_HANDLER(fcmovnbe, fcmov(c, i, !(c->cc & (FL_CF | FL_ZF))));
X87_HANDLER(fcmovnu, fcmov(c, i, !(c->cc & FL_PF)));

/* ---- the stack itself ---- */

/* Moves TOP without a look at tags. */
INLINE int move_top(struct cpu *c, const struct insn *i, int by)
{
	struct fpu *f = &c->fpu;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	fpu_set_top(f, fpu_top(f) + by);
	f->fsw &= ~FSW_C1;
	return ST_OK;
}

X87_HANDLER(fincstp, move_top(c, i, 1));
X87_HANDLER(fdecstp, move_top(c, i, -1));

/* FFREE, and the undocumented FFREEP, which pops as well. */
INLINE int free_reg(struct cpu *c, const struct insn *i, bool pop)
{
	struct fpu *f = &c->fpu;

	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	f->ftw &= ~BIT(x87_reg(f, i->dst));
	f->fsw &= ~FSW_C1;
	if (pop)
		x87_pop(f);
	return ST_OK;
}

X87_HANDLER(ffree, free_reg(c, i, false));
X87_HANDLER(ffreep, free_reg(c, i, true));

/* D9 D8+i, undocumented: a pop of an empty register is no stack fault, and stores nothing. */
HANDLER(do_fstpnce)
{
	struct fpu *f = &c->fpu;

	if (x87_begin(c))
		return ST_FAULT;
	if (f->ftw & BIT(x87_reg(f, 0)))
		return store_reg(c, i, true);
	x87_note(c, i);
	f->fsw &= ~FSW_C1;
	x87_pop(f);
	return ST_OK;
}
IMPL_ANY(fstpnce, do_fstpnce);

/* FNOP, which waits and is not a control instruction, and FNENI, FNDISI, FNSETPM of the 8087 and 80287, which are. */
HANDLER(do_fnop)
{
	if (i->modrm != 0xd0)
		return fpu_check(c, FPU_TRAP_X87);
	if (x87_begin(c))
		return ST_FAULT;
	x87_note(c, i);
	return ST_OK;
}
IMPL_ANY(fnop, do_fnop);
