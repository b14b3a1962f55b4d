// SPDX-License-Identifier: MIT
/*
 * Far jumps, calls and returns, and IRET (SDM vol. 2, the operation sections of CALL, JMP, RET, IRET; vol. 3, 5.8). All
 * checks and memory accesses come first; registers change only when nothing can fail any more.
 */
#include "interp/frame.h"
#include "mem/code.h"

static const u64 size_mask[] = { [SZ_16] = 0xffff, [SZ_32] = 0xffffffff, [SZ_64] = ~0ull };

void far_commit(struct cpu *c, const struct seg *cs, u64 rip)
{
	c->seg[SEG_CS] = *cs;
	c->gpr[R_RIP] = rip;
	cpu_update_mode(c);
}

static void commit_stack(struct cpu *c, const struct seg *ss, u64 rsp)
{
	c->seg[SEG_SS] = *ss;
	c->gpr[RSP] = rsp;
}

/* ---- code segments ---- */

/* A descriptor that must be a code segment; its selector is not null. */
static int check_code(struct cpu *c, u16 sel, const struct desc *d)
{
	if (!desc_is_code(d))
		return fault_sel(c, VEC_GP, sel);
	if (cpu_long_mode(c) && desc_l(d) && desc_db(d))
		return fault_sel(c, VEC_GP, sel);
	return ST_OK;
}

static int check_present(struct cpu *c, u16 sel, const struct desc *d)
{
	return desc_present(d) ? ST_OK : fault_sel(c, VEC_NP, sel);
}

/* The CS that executes at rip with privilege cpl; the descriptor's accessed bit is set in memory. */
static int make_cs(struct cpu *c, u16 sel, const struct desc *d, unsigned cpl, u64 rip, struct seg *cs)
{
	desc_to_seg(d, (u16)((sel & ~3u) | cpl), cs);
	if (cpu_long_mode(c) && desc_l(d) ? !canonical(rip) : rip > cs->limit)
		return fault_gp(c, 0);
	return desc_set_accessed(c, d);
}

static int make_cs_real(struct cpu *c, u16 sel, u64 rip, struct seg *cs)
{
	*cs = c->seg[SEG_CS];
	seg_set_real(cs, c->mode == CPU_VM86, true, sel);
	return rip > cs->limit ? fault_gp(c, 0) : ST_OK;
}

/* JMP or CALL to a code segment without a gate: the privilege level stays. */
static int direct_cs(struct cpu *c, u16 sel, const struct desc *d, u64 rip, struct seg *cs)
{
	int st = check_code(c, sel, d);

	if (st)
		return st;
	if (desc_conforming(d) ? desc_dpl(d) > c->cpl : (sel & 3u) > c->cpl || desc_dpl(d) != c->cpl)
		return fault_sel(c, VEC_GP, sel);
	st = check_present(c, sel, d);
	return st ? st : make_cs(c, sel, d, c->cpl, rip, cs);
}

/* ---- call gates, task gates, TSS ---- */

static int check_gate(struct cpu *c, u16 sel, const struct desc *gate)
{
	if (desc_dpl(gate) < c->cpl || desc_dpl(gate) < (sel & 3u))
		return fault_sel(c, VEC_GP, sel);
	return check_present(c, sel, gate);
}

/* The code segment a call gate leads to. Only a call can lead to a higher privilege. */
static int gate_code(struct cpu *c, const struct desc *gate, bool call, struct desc *d)
{
	u16 sel = gate_selector(gate);
	int st;

	if (seg_null(sel))
		return fault_gp(c, 0);
	st = desc_load(c, sel, VEC_GP, d);
	if (st)
		return st;
	if (!desc_is_code(d) || (cpu_long_mode(c) && (!desc_l(d) || desc_db(d))))
		return fault_sel(c, VEC_GP, sel);
	if (desc_dpl(d) > c->cpl || (!call && !desc_conforming(d) && desc_dpl(d) != c->cpl))
		return fault_sel(c, VEC_GP, sel);
	return check_present(c, sel, d);
}

static unsigned gate_size(const struct cpu *c, const struct desc *gate)
{
	if (cpu_long_mode(c))
		return SZ_64;
	return desc_type(gate) & 8 ? SZ_32 : SZ_16;
}

int tss_stack(struct cpu *c, unsigned level, u16 *ss, u64 *sp)
{
	const struct seg *tr = &c->seg[SEG_TR];
	unsigned bytes = tr->attr & 8 ? 4 : 2;
	unsigned off = bytes + level * bytes * 2;
	int st;

	if (off + bytes + 1 > tr->limit)
		return fault_sel(c, VEC_TS, tr->sel);
	*sp = 0;
	st = sys_read(c, tr->base + off, sp, bytes);
	return st ? st : sys_read(c, tr->base + off + bytes, ss, 2);
}

int tss_rsp(struct cpu *c, unsigned offset, u64 *rsp)
{
	const struct seg *tr = &c->seg[SEG_TR];

	if (offset + 7 > tr->limit)
		return fault_sel(c, VEC_TS, tr->sel);
	return sys_read(c, tr->base + offset, rsp, 8);
}

/* A call to more privilege: the stack of that level, the old one's address on it, and (legacy) parameters copied. */
static int call_inner(struct cpu *c, const struct desc *gate, const struct desc *d)
{
	unsigned cpl = desc_dpl(d), size = gate_size(c, gate);
	unsigned params = size == SZ_64 ? 0 : (gate->raw >> 32) & 0x1f;
	u64 v[4 + 31], old[31], rsp;
	struct frame from, to;
	struct seg cs, ss;
	struct desc sd = { 0 };
	u16 sel;
	int st;

	if (size == SZ_64) {
		st = tss_rsp(c, TSS64_RSP(cpl), &rsp);
		seg_set_null(&ss, (u16)cpl, cpl);
		frame_flat(&to, rsp, cpl);
	} else {
		st = tss_stack(c, cpl, &sel, &rsp);
		if (!st && seg_null(sel))
			st = fault_sel(c, VEC_TS, sel);
		if (!st)
			st = stack_desc_load(c, sel, cpl, VEC_TS, &sd);
		if (!st)
			st = desc_set_accessed(c, &sd);
		if (st)
			return st;
		desc_to_seg(&sd, sel, &ss);
		frame_inner(&to, &ss, rsp, size);
	}
	frame_current(c, &from, size);
	if (!st && params)
		st = frame_pop(c, &from, old, params);
	if (st)
		return st;
	v[0] = c->seg[SEG_SS].sel;
	v[1] = c->gpr[RSP];
	for (unsigned n = 0; n < params; n++)
		v[2 + n] = old[params - 1 - n];
	v[2 + params] = c->seg[SEG_CS].sel;
	v[3 + params] = c->gpr[R_RIP];
	st = make_cs(c, gate_selector(gate), d, cpl, gate_offset(gate), &cs);
	if (!st)
		st = frame_push(c, &to, v, 4 + params);
	if (st)
		return st;
	commit_stack(c, &ss, to.sp);
	far_commit(c, &cs, gate_offset(gate));
	return ST_END;
}

/* Pushes CS:RIP on the current stack and goes to cs:rip. */
static int call_same(struct cpu *c, const struct seg *cs, u64 rip, unsigned size)
{
	u64 v[2] = { c->seg[SEG_CS].sel, c->gpr[R_RIP] };
	struct frame f;
	int st;

	frame_current(c, &f, size);
	st = frame_push(c, &f, v, 2);
	if (st)
		return st;
	frame_commit(c, &f);
	far_commit(c, cs, rip);
	return ST_END;
}

static int through_call_gate(struct cpu *c, u16 sel, const struct desc *gate, bool call)
{
	struct desc d;
	struct seg cs;
	int st = check_gate(c, sel, gate);

	if (!st)
		st = gate_code(c, gate, call, &d);
	if (st)
		return st;
	if (call && !desc_conforming(&d) && desc_dpl(&d) < c->cpl)
		return call_inner(c, gate, &d);
	st = make_cs(c, gate_selector(gate), &d, c->cpl, gate_offset(gate), &cs);
	if (st)
		return st;
	if (call)
		return call_same(c, &cs, gate_offset(gate), gate_size(c, gate));
	far_commit(c, &cs, gate_offset(gate));
	return ST_END;
}

/* JMP or CALL to something that is not a code segment (SDM vol. 3, 5.8.3 and 7.3). */
static int far_system(struct cpu *c, u16 sel, const struct desc *d, bool call)
{
	unsigned type = desc_type(d);
	bool legacy = !cpu_long_mode(c), tss = type == SYS_TSS || type == SYS_TSS16;
	int st;

	if (type == SYS_CALL || (type == SYS_CALL16 && legacy))
		return through_call_gate(c, sel, d, call);
	/* A busy TSS as well comes to no good, but only after the check of its privilege: the same #GP(sel). */
	if (!legacy || (!tss && type != SYS_TASK_GATE))
		return fault_sel(c, VEC_GP, sel);
	st = check_gate(c, sel, d);
	if (st)
		return st;
	st = task_switch(c, tss ? sel : gate_selector(d), call ? TASK_CALL : TASK_JUMP, cpu_rflags(c), NULL);
	return task_settle(c, st);
}

/* ---- JMP and CALL ---- */

static int far_transfer(struct cpu *c, u16 sel, u64 off, unsigned size, bool call)
{
	struct desc d;
	struct seg cs;
	int st;

	off &= size_mask[size];
	if (c->mode < CPU_PROT) {
		st = make_cs_real(c, sel, off, &cs);
	} else {
		if (seg_null(sel))
			return fault_gp(c, 0);
		st = desc_load_system(c, sel, VEC_GP, &d);
		if (st)
			return st;
		if (desc_is_system(&d))
			return far_system(c, sel, &d, call);
		st = direct_cs(c, sel, &d, off, &cs);
	}
	if (st)
		return st;
	if (call)
		return call_same(c, &cs, off, size);
	far_commit(c, &cs, off);
	return ST_END;
}

int far_jump(struct cpu *c, u16 sel, u64 off, unsigned size)
{
	return far_transfer(c, sel, off, size, false);
}

int far_call(struct cpu *c, u16 sel, u64 off, unsigned size)
{
	return far_transfer(c, sel, off, size, true);
}

/* ---- RET and IRET ---- */

/* The code segment of a return; its RPL is the new privilege level. */
static int return_code(struct cpu *c, u16 sel, struct desc *d)
{
	unsigned rpl = sel & 3;
	int st;

	if (seg_null(sel))
		return fault_gp(c, 0);
	st = desc_load(c, sel, VEC_GP, d);
	if (!st)
		st = check_code(c, sel, d);
	if (st)
		return st;
	if (rpl < c->cpl || (desc_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl))
		return fault_sel(c, VEC_GP, sel);
	return check_present(c, sel, d);
}

/* The stack segment of a return to privilege level cpl. Null is for 64-bit code outside ring 3. */
static int return_stack(struct cpu *c, u16 sel, unsigned cpl, const struct desc *cs, struct seg *ss)
{
	struct desc d;
	int st;

	if (seg_null(sel)) {
		if (!cpu_long_mode(c) || !desc_l(cs) || cpl == 3 || (sel & 3u) != cpl)
			return fault_gp(c, 0);
		seg_set_null(ss, sel, cpl);
		return ST_OK;
	}
	st = stack_desc_load(c, sel, cpl, VEC_GP, &d);
	if (!st)
		st = desc_set_accessed(c, &d);
	if (!st)
		desc_to_seg(&d, sel, ss);
	return st;
}

/* What a return to another stack makes of RSP: a 16-bit stack leaves the upper half as it was. */
static u64 returned_rsp(const struct cpu *c, const struct desc *cs, const struct seg *ss, u64 sp)
{
	if (cpu_long_mode(c) && desc_l(cs))
		return sp;
	if (ss->attr & ATTR_DB)
		return (u32)sp;
	return (c->gpr[RSP] & 0xffff0000) | (sp & 0xffff);
}

static int ret_real(struct cpu *c, struct frame *f, u16 release)
{
	struct seg cs;
	u64 v[2];
	int st = frame_pop(c, f, v, 2);

	if (!st)
		st = make_cs_real(c, (u16)v[1], v[0], &cs);
	if (st)
		return st;
	frame_skip(f, release);
	frame_commit(c, f);
	far_commit(c, &cs, v[0]);
	return ST_END;
}

static int ret_outer(struct cpu *c, struct frame *f, u64 rip, u16 sel, const struct desc *d, u16 release)
{
	unsigned cpl = sel & 3;
	struct seg cs, ss;
	u64 v[2], rsp;
	int st;

	frame_skip(f, release);
	st = frame_pop(c, f, v, 2);
	if (!st)
		st = return_stack(c, (u16)v[1], cpl, d, &ss);
	if (!st)
		st = make_cs(c, sel, d, cpl, rip, &cs);
	if (st)
		return st;
	rsp = returned_rsp(c, d, &ss, v[0]);
	if (ss.attr & ATTR_DB || (cpu_long_mode(c) && desc_l(d)))
		rsp += release;
	else
		rsp = (rsp & ~0xffffull) | ((rsp + release) & 0xffff);
	commit_stack(c, &ss, rsp);
	far_commit(c, &cs, rip);
	seg_drop_unreachable(c);
	return ST_END;
}

int far_ret(struct cpu *c, unsigned size, u16 release)
{
	struct frame f;
	struct desc d;
	struct seg cs;
	u64 v[2];
	int st;

	frame_current(c, &f, size);
	if (c->mode < CPU_PROT)
		return ret_real(c, &f, release);
	st = frame_pop(c, &f, v, 2);
	if (!st)
		st = return_code(c, (u16)v[1], &d);
	if (st)
		return st;
	if ((v[1] & 3) > c->cpl)
		return ret_outer(c, &f, v[0], (u16)v[1], &d, release);
	st = make_cs(c, (u16)v[1], &d, c->cpl, v[0], &cs);
	if (st)
		return st;
	frame_skip(&f, release);
	frame_commit(c, &f);
	far_commit(c, &cs, v[0]);
	return ST_END;
}

/* ---- IRET ---- */

#define IRET_FLAGS16 (FL_STATUS | FL_TF | FL_DF | FL_NT)
#define IRET_FLAGS32 (FL_RF | FL_AC | FL_ID)

/*
 * RF only tells a code breakpoint at the new RIP not to hit. Without one it is dropped here, so that nobody has to
 * clear it after the next instruction.
 */
static void commit_flags(struct cpu *c, u64 popped, u64 mask)
{
	u64 flags = (cpu_rflags(c) & ~mask) | (popped & mask);

	if (!c->bp.exec)
		flags &= ~FL_RF;
	cpu_set_rflags(c, flags);
}

/* Which flags IRET loads at the present CPL. */
static u64 iret_mask(const struct cpu *c, unsigned size)
{
	u64 mask = IRET_FLAGS16;

	if (size != SZ_16)
		mask |= IRET_FLAGS32;
	if (c->cpl <= cpu_iopl(c))
		mask |= FL_IF;
	if (c->cpl == 0)
		mask |= FL_IOPL | (size != SZ_16 ? FL_VIF | FL_VIP : 0);
	return mask;
}

/* IRET is complete: code that anybody wrote before is seen (SDM vol. 3, 8.3). */
static int iret_done(struct cpu *c)
{
	if (c->code)
		code_serialize(c);
	return ST_END;
}

static int iret_real(struct cpu *c, unsigned size)
{
	u64 mask = IRET_FLAGS16 | FL_IF | FL_IOPL | (size == SZ_16 ? 0 : IRET_FLAGS32);
	struct frame f;
	struct seg cs;
	u64 v[3];
	int st;

	frame_current(c, &f, size);
	st = frame_pop(c, &f, v, 3);
	if (!st)
		st = make_cs_real(c, (u16)v[1], v[0], &cs);
	if (st)
		return st;
	frame_commit(c, &f);
	commit_flags(c, v[2], mask);
	far_commit(c, &cs, v[0]);
	return iret_done(c);
}

/* In virtual-8086 mode: with IOPL 3, or by the virtual interrupt flag (SDM vol. 3, 20.3). */
static int iret_vm86(struct cpu *c, unsigned size)
{
	u64 mask = IRET_FLAGS16 | (size == SZ_16 ? 0 : IRET_FLAGS32);
	bool virtual_if = cpu_iopl(c) < 3;
	struct frame f;
	struct seg cs;
	u64 v[3];
	int st;

	if (virtual_if && (!(c->cr4 & CR4_VME) || size != SZ_16))
		return fault_gp(c, 0);
	frame_current(c, &f, size);
	st = frame_pop(c, &f, v, 3);
	if (!st)
		st = make_cs_real(c, (u16)v[1], v[0], &cs);
	if (st)
		return st;
	if (!virtual_if) {
		mask |= FL_IF;
	} else {
		if ((v[2] & FL_TF) || ((v[2] & FL_IF) && (c->rflags & FL_VIP)))
			return fault_gp(c, 0);
		mask |= FL_VIF;
		v[2] = (v[2] & ~FL_VIF) | (v[2] & FL_IF ? FL_VIF : 0);
	}
	frame_commit(c, &f);
	commit_flags(c, v[2], mask);
	far_commit(c, &cs, v[0]);
	return iret_done(c);
}

/* Ring 0 returns to virtual-8086 mode; v has RIP, CS, RFLAGS. */
static int iret_to_vm86(struct cpu *c, struct frame *f, const u64 *v)
{
	static const u8 order[] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct seg cs;
	u64 w[6];
	int st;

	if (v[0] > 0xffff)
		return fault_gp(c, 0);
	st = frame_pop(c, f, w, 6);
	if (st)
		return st;
	seg_set_real(&cs, true, true, (u16)v[1]);
	for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
		seg_set_real(&c->seg[order[n]], true, false, (u16)w[1 + n]);
	c->gpr[RSP] = (u32)w[0];
	commit_flags(c, v[2], FL_VALID);
	far_commit(c, &cs, v[0]);
	return iret_done(c);
}

static int iret_task(struct cpu *c)
{
	const struct seg *tr = &c->seg[SEG_TR];
	u16 link;
	int st;

	if (tr->limit < 1)
		return fault_sel(c, VEC_TS, tr->sel);
	st = sys_read(c, tr->base, &link, 2);
	if (!st)
		st = task_switch(c, link, TASK_IRET, cpu_rflags(c) & ~FL_NT, NULL);
	if (st != ST_END)
		return task_settle(c, st);
	return iret_done(c);
}

/* The stack stays, in legacy and compatibility mode. */
static int iret_same(struct cpu *c, struct frame *f, const u64 *v, const struct desc *d, unsigned size)
{
	struct seg cs;
	int st = make_cs(c, (u16)v[1], d, c->cpl, v[0], &cs);

	if (st)
		return st;
	frame_commit(c, f);
	commit_flags(c, v[2], iret_mask(c, size));
	far_commit(c, &cs, v[0]);
	return iret_done(c);
}

/* To an outer ring, or from 64-bit mode: v has RIP, CS, RFLAGS, RSP, SS. */
static int iret_switch(struct cpu *c, const u64 *v, const struct desc *d, unsigned size)
{
	unsigned cpl = v[1] & 3;
	bool outer = cpl > c->cpl;
	struct seg cs, ss;
	int st = return_stack(c, (u16)v[4], cpl, d, &ss);

	if (!st)
		st = make_cs(c, (u16)v[1], d, cpl, v[0], &cs);
	if (st)
		return st;
	commit_flags(c, v[2], iret_mask(c, size));
	commit_stack(c, &ss, returned_rsp(c, d, &ss, v[3]));
	far_commit(c, &cs, v[0]);
	if (outer)
		seg_drop_unreachable(c);
	return iret_done(c);
}

static int iret_protected(struct cpu *c, unsigned size)
{
	bool from64 = c->mode == CPU_LONG;
	struct frame f;
	struct desc d;
	u64 v[5];
	int st;

	frame_current(c, &f, size);
	st = frame_pop(c, &f, v, from64 ? 5 : 3);
	if (st)
		return st;
	if ((v[2] & FL_VM) && !cpu_long_mode(c) && c->cpl == 0 && size == SZ_32)
		return iret_to_vm86(c, &f, v);
	st = return_code(c, (u16)v[1], &d);
	if (st)
		return st;
	if (!from64 && (v[1] & 3) == c->cpl)
		return iret_same(c, &f, v, &d, size);
	if (!from64)
		st = frame_pop(c, &f, v + 3, 2);
	return st ? st : iret_switch(c, v, &d, size);
}

static int iret_any(struct cpu *c, unsigned size)
{
	if (c->mode == CPU_REAL)
		return iret_real(c, size);
	if (c->mode == CPU_VM86)
		return iret_vm86(c, size);
	if (unlikely(c->rflags & FL_NT))
		return cpu_long_mode(c) ? fault_gp(c, 0) : iret_task(c);
	return iret_protected(c, size);
}

/* NMIs may come again, also after an IRET that faults (SDM vol. 3, 6.7.1). */
int far_iret(struct cpu *c, unsigned size)
{
	int st = iret_any(c, size);

	if (unlikely(c->ev.nmi_masked) && st != ST_EXIT) {
		c->ev.nmi_masked = false;
		if (c->ev.nmi_pending)
			cpu_events_changed(c);
	}
	return st;
}

/* ---- instructions ---- */

static int call_far_ptr(struct cpu *c, const struct insn *i)
{
	return far_call(c, (u16)(i->imm >> 32), (u32)i->imm, i->size);
}
const struct impl impl_call_far_ptr = { .any = call_far_ptr };

static int jmp_far_ptr(struct cpu *c, const struct insn *i)
{
	return far_jump(c, (u16)(i->imm >> 32), (u32)i->imm, i->size);
}
const struct impl impl_jmp_far_ptr = { .any = jmp_far_ptr };

static int call_far_m(struct cpu *c, const struct insn *i)
{
	unsigned size;
	u64 off;
	u16 sel;
	int st = far_pointer_read(c, i, &sel, &off, &size);

	return st ? st : far_call(c, sel, off, size);
}
const struct impl impl_call_far_m = { .any = call_far_m };

static int jmp_far_m(struct cpu *c, const struct insn *i)
{
	unsigned size;
	u64 off;
	u16 sel;
	int st = far_pointer_read(c, i, &sel, &off, &size);

	return st ? st : far_jump(c, sel, off, size);
}
const struct impl impl_jmp_far_m = { .any = jmp_far_m };

static int retf(struct cpu *c, const struct insn *i)
{
	return far_ret(c, i->size, (u16)i->imm);
}
const struct impl impl_retf = { .any = retf };

static int iret(struct cpu *c, const struct insn *i)
{
	return far_iret(c, i->size);
}
const struct impl impl_iret = { .any = iret };
