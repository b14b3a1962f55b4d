// SPDX-License-Identifier: MIT
/*
 * Hardware task switches (SDM vol. 3, chapter 7). Until the commit point nothing has happened but stores into the two
 * TSSs and busy bits; after it, faults belong to the new task.
 */
#include <string.h>

#include "cpu/cr.h"
#include "cpu/debug.h"
#include "interp/frame.h"

/* SDM vol. 3, figure 7-2 */
struct tss32 {
	u16 link, pad0;
	u32 stacks[6];
	u32 cr3, eip, eflags;
	u32 gpr[8];
	u32 sreg[6];
	u32 ldt;
	u16 trap, iomap;
};
/* Figure 7-10 */
struct tss16 {
	u16 link, stacks[6], ip, flags, gpr[8], sreg[4], ldt;
};
_Static_assert(sizeof(struct tss32) == 104 && sizeof(struct tss16) == 44, "as in the SDM");

/* The state in a TSS, of either kind. */
struct task {
	bool wide;
	u64 cr3, rip, flags;
	u64 gpr[8];
	u16 sreg[6];
	u16 ldt;
	bool trap;
};

/* mem_*_sys() take up to 64 bytes at once. */
static int sys_copy(struct cpu *c, u64 lin, void *data, unsigned size, bool write)
{
	int st = ST_OK;

	for (unsigned done = 0; done < size && !st; done += 64) {
		unsigned part = size - done < 64 ? size - done : 64;
		u8 *p = (u8 *)data + done;

		st = write ? mem_write_sys(c, lin + done, p, part) : mem_read_sys(c, lin + done, p, part);
	}
	return st;
}

static int read_task32(struct cpu *c, u64 base, struct task *t)
{
	struct tss32 s;
	int st = sys_copy(c, base, &s, sizeof(s), false);

	if (st)
		return st;
	*t = (struct task){
		.wide = true, .cr3 = s.cr3, .rip = s.eip, .flags = s.eflags, .ldt = (u16)s.ldt, .trap = s.trap & 1
	};
	for (unsigned n = 0; n < 8; n++)
		t->gpr[n] = s.gpr[n];
	for (unsigned n = 0; n < 6; n++)
		t->sreg[n] = (u16)s.sreg[n];
	return ST_OK;
}

static int read_task16(struct cpu *c, u64 base, struct task *t)
{
	struct tss16 s;
	int st = sys_copy(c, base, &s, sizeof(s), false);

	if (st)
		return st;
	*t = (struct task){ .rip = s.ip, .flags = s.flags, .ldt = s.ldt };
	for (unsigned n = 0; n < 8; n++)
		t->gpr[n] = s.gpr[n];
	for (unsigned n = 0; n < 4; n++)
		t->sreg[n] = s.sreg[n];
	return ST_OK;
}

/* EIP to GS are one piece, and nothing else of the TSS is written. */
static int save_task32(struct cpu *c, u64 base, u64 flags)
{
	struct tss32 s = { .eip = (u32)c->gpr[R_RIP], .eflags = (u32)flags };
	const unsigned from = offsetof(struct tss32, eip);

	for (unsigned n = 0; n < 8; n++)
		s.gpr[n] = (u32)c->gpr[n];
	for (unsigned n = 0; n < 6; n++)
		s.sreg[n] = c->seg[n].sel;
	return sys_copy(c, base + from, (u8 *)&s + from, offsetof(struct tss32, ldt) - from, true);
}

static int save_task16(struct cpu *c, u64 base, u64 flags)
{
	struct tss16 s = { .ip = (u16)c->gpr[R_RIP], .flags = (u16)flags };
	const unsigned from = offsetof(struct tss16, ip);

	for (unsigned n = 0; n < 8; n++)
		s.gpr[n] = (u16)c->gpr[n];
	for (unsigned n = 0; n < 4; n++)
		s.sreg[n] = c->seg[n].sel;
	return sys_copy(c, base + from, (u8 *)&s + from, offsetof(struct tss16, ldt) - from, true);
}

/* Table 7-1, the checks of the new TSS's descriptor. */
static int check_tss(struct cpu *c, u16 sel, enum task_why why, struct desc *d)
{
	u8 vector = why == TASK_IRET ? VEC_TS : VEC_GP;
	unsigned type;
	int st;

	if (seg_null(sel) || (sel & 4))
		return fault_sel(c, vector, sel);
	st = desc_load(c, sel, vector, d);
	if (st)
		return st;
	type = desc_type(d);
	if (!desc_is_system(d) || (type & ~(8u | TSS_BUSY)) != SYS_TSS16)
		return fault_sel(c, vector, sel);
	if (!(type & TSS_BUSY) != (why != TASK_IRET))
		return fault_sel(c, vector, sel);
	if (!desc_present(d))
		return fault_sel(c, VEC_NP, sel);
	if (desc_limit(d) < (type & 8 ? sizeof(struct tss32) : sizeof(struct tss16)) - 1)
		return fault_sel(c, VEC_TS, sel);
	return ST_OK;
}

/*
 * Stores the old task and marks who is busy. All stores that could fail are tried before the first that could not be
 * repeated, for the instruction may have to run again.
 */
static int leave_task(struct cpu *c, const struct desc *new, enum task_why why, u64 flags)
{
	const struct seg *tr = &c->seg[SEG_TR];
	struct desc old;
	int st = why == TASK_CALL ? ST_OK : desc_load(c, tr->sel, VEC_TS, &old);

	if (!st)
		st = tr->attr & 8 ? save_task32(c, tr->base, flags) : save_task16(c, tr->base, flags);
	if (!st && why == TASK_CALL)
		st = mem_write_sys(c, desc_base(new), &tr->sel, 2);
	if (!st && why != TASK_CALL)
		st = desc_set_busy(c, &old, true);
	if (!st && why != TASK_IRET)
		st = desc_set_busy(c, new, true);
	if (!st && why != TASK_CALL)
		st = desc_set_busy(c, &old, false);
	return st;
}

/* ---- the new task's context ---- */

/* Nothing of the new task's segments is checked yet: unusable, but at its privilege level. */
static void load_registers(struct cpu *c, const struct task *t)
{
	bool vm86 = t->flags & FL_VM;
	unsigned cpl = vm86 ? 3 : t->sreg[SEG_CS] & 3;

	for (unsigned n = 0; n < 8; n++)
		c->gpr[n] = t->wide ? t->gpr[n] : (c->gpr[n] & 0xffff0000) | t->gpr[n];
	c->gpr[R_RIP] = t->rip;
	for (unsigned s = 0; s < 6; s++) {
		if (vm86)
			seg_set_real(&c->seg[s], true, s == SEG_CS, t->sreg[s]);
		else
			seg_set_null(&c->seg[s], t->sreg[s], cpl);
	}
	seg_set_null(&c->seg[SEG_LDTR], t->ldt, 0);
	cpu_set_rflags(c, c->bp.exec ? t->flags : t->flags & ~FL_RF);
	cpu_update_mode(c);
}

static int load_cs(struct cpu *c, u16 sel)
{
	struct desc d;
	int st;

	if (seg_null(sel))
		return fault_sel(c, VEC_TS, sel);
	st = desc_load(c, sel, VEC_TS, &d);
	if (st)
		return st;
	if (!desc_is_code(&d))
		return fault_sel(c, VEC_TS, sel);
	if (desc_conforming(&d) ? desc_dpl(&d) > (sel & 3u) : desc_dpl(&d) != (sel & 3u))
		return fault_sel(c, VEC_TS, sel);
	if (!desc_present(&d))
		return fault_sel(c, VEC_NP, sel);
	st = desc_set_accessed(c, &d);
	if (!st)
		desc_to_seg(&d, sel, &c->seg[SEG_CS]);
	return st;
}

static int load_ss(struct cpu *c, u16 sel)
{
	struct desc d;
	int st;

	if (seg_null(sel))
		return fault_sel(c, VEC_TS, sel);
	st = stack_desc_load(c, sel, c->cpl, VEC_TS, &d);
	if (!st)
		st = desc_set_accessed(c, &d);
	if (!st)
		desc_to_seg(&d, sel, &c->seg[SEG_SS]);
	return st;
}

static int load_data(struct cpu *c, unsigned s, u16 sel)
{
	struct desc d;
	int st;

	if (seg_null(sel)) {
		seg_set_null(&c->seg[s], sel, 0);
		return ST_OK;
	}
	st = data_desc_load(c, sel, c->cpl, VEC_TS, &d);
	if (!st)
		st = desc_set_accessed(c, &d);
	if (!st)
		desc_to_seg(&d, sel, &c->seg[s]);
	return st;
}

static int load_segments(struct cpu *c, const struct task *t)
{
	static const u8 data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	int st = ldt_load(c, t->ldt, VEC_TS, VEC_TS);

	if (st || (t->flags & FL_VM))
		return st;
	st = load_cs(c, t->sreg[SEG_CS]);
	if (!st)
		st = load_ss(c, t->sreg[SEG_SS]);
	for (unsigned n = 0; n < ARRAY_SIZE(data) && !st; n++)
		st = load_data(c, data[n], t->sreg[data[n]]);
	return st;
}

/* What is left when the new task runs: the error code of an event, the check of EIP, the debug trap. */
static int enter_task(struct cpu *c, const struct task *t, const struct task_event *ev)
{
	struct frame f;
	int st;

	if (ev && ev->has_error) {
		u64 error = ev->error;

		frame_current(c, &f, t->wide ? SZ_32 : SZ_16);
		st = frame_push(c, &f, &error, 1);
		if (st)
			return st;
		frame_commit(c, &f);
	}
	if (c->gpr[R_RIP] > c->seg[SEG_CS].limit)
		return fault_gp(c, 0);
	if (t->trap) {
		c->fault = (struct fault){ .vector = VEC_DB, .dr6 = DR6_BT };
		return ST_FAULT;
	}
	return ST_OK;
}

static int load_cr3(struct cpu *c, const struct task *t)
{
	if (!t->wide || !(c->cr0 & CR0_PG))
		return ST_OK;
	return cpu_write_cr3(c, t->cr3);
}

int task_switch(struct cpu *c, u16 sel, enum task_why why, u64 flags, const struct task_event *ev)
{
	struct desc new;
	struct task t;
	int st = check_tss(c, sel, why, &new);

	if (!st)
		st = desc_type(&new) & 8 ? read_task32(c, desc_base(&new), &t) : read_task16(c, desc_base(&new), &t);
	if (!st)
		st = leave_task(c, &new, why, flags);
	if (st)
		return st;

	desc_to_seg(&new, sel, &c->seg[SEG_TR]);
	c->seg[SEG_TR].attr |= TSS_BUSY;
	c->cr0 |= CR0_TS;
	/* Local breakpoints end with the task (SDM vol. 3, 17.2.4). */
	c->dr[7] &= ~0x155ull;
	if (why == TASK_CALL)
		t.flags |= FL_NT;
	load_registers(c, &t);
	debug_update(c);

	st = load_cr3(c, &t);
	if (!st)
		st = load_segments(c, &t);
	cpu_update_mode(c);
	if (!st)
		st = enter_task(c, &t, ev);
	if (st == ST_EXIT) {
		/* Descriptors or page tables in a device: the switch cannot run again, and must not go on. */
		c->exit = (struct exit){ .reason = EXIT_INTERNAL };
		return ST_EXIT_DONE;
	}
	return st ? TASK_FAULT : ST_END;
}

int task_settle(struct cpu *c, int st)
{
	if (st != TASK_FAULT)
		return st;
	return event_fault(c) == ST_OK ? ST_END : ST_EXIT_DONE;
}
