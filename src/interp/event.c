// SPDX-License-Identifier: MIT
/*
 * Exceptions and interrupts: their way through the IDT (SDM vol. 3, chapter 6; vol. 2, INT n), what becomes of a fault
 * on that way, and what is taken first at an instruction boundary.
 */
#include "interp/debug.h"
#include "interp/frame.h"
#include "mem/code.h"

/* An event on its way. */
struct event {
	enum event_kind kind;
	u8 vector;
	bool has_error;
	u32 error;
	bool db_fault; /* #DB: of an access to the debug registers (DR6.BD), unlike most of them a fault */
};

/* Error codes that name an entry of the IDT (SDM vol. 3, 6.13); EXT is added by event_deliver(). */
#define ERROR_EXT 1u
#define ERROR_IDT 2u

static int fault_idt(struct cpu *c, u8 fault, const struct event *e)
{
	return fault_err(c, fault, (u32)e->vector * 8 | ERROR_IDT);
}

/*
 * Everything but traps, NMI and aborts (SDM vol. 3, table 6-1). That of a code breakpoint is a fault as well, but it
 * leaves RF alone: its handler decides.
 */
static bool is_fault(const struct event *e)
{
	const u32 not_faults = BIT(VEC_DB) | BIT(VEC_NMI) | BIT(VEC_BP) | BIT(VEC_OF) | BIT(VEC_DF) | BIT(VEC_MC);

	return e->db_fault || (e->kind == EVENT_EXC && e->vector < 32 && !(not_faults & BIT(e->vector)));
}

/*
 * RFLAGS as the handler finds them in the frame (SDM vol. 3, 17.3.1.1): an instruction that faulted goes on with RF,
 * and so does a string instruction that was interrupted, or trapped, between two of its iterations.
 */
static u64 pushed_flags(const struct cpu *c, const struct event *e)
{
	bool resumes = is_fault(e) || (e->kind != EVENT_SOFT && c->rep_at == c->gpr[R_RIP]);

	return resumes ? cpu_rflags(c) | FL_RF : cpu_rflags(c);
}

/* ---- real mode: SDM vol. 3, 20.1.4 ---- */

static int deliver_real(struct cpu *c, const struct event *e)
{
	u64 v[3] = { cpu_rflags(c), c->seg[SEG_CS].sel, c->gpr[R_RIP] };
	u16 entry[2]; /* IP, CS */
	struct frame f;
	struct seg cs;
	int st;

	if (e->vector * 4u + 3 > c->idt.limit)
		return fault_idt(c, VEC_GP, e);
	st = sys_read(c, c->idt.base + e->vector * 4u, entry, 4);
	if (st)
		return st;
	if (entry[0] > c->seg[SEG_CS].limit)
		return fault_idt(c, VEC_GP, e);
	frame_current(c, &f, SZ_16);
	st = frame_push(c, &f, v, 3);
	if (st)
		return st;
	frame_commit(c, &f);
	cpu_set_rflags(c, cpu_rflags(c) & ~(FL_IF | FL_TF | FL_AC | FL_RF));
	cs = c->seg[SEG_CS];
	seg_set_real(&cs, false, true, entry[1]);
	far_commit(c, &cs, entry[0]);
	return ST_END;
}

/* ---- gates ---- */

static int read_gate(struct cpu *c, const struct event *e, struct desc *gate)
{
	unsigned size = cpu_long_mode(c) ? 16 : 8;
	u64 raw[2] = { 0 };
	unsigned type;
	int st;

	if (e->vector * size + size - 1 > c->idt.limit)
		return fault_idt(c, VEC_GP, e);
	st = sys_read(c, c->idt.base + e->vector * size, raw, size);
	if (st)
		return st;
	*gate = (struct desc){ .raw = raw[0], .high = raw[1] & 0xffffffff };
	type = desc_type(gate);
	if (!desc_is_system(gate))
		return fault_idt(c, VEC_GP, e);
	if (cpu_long_mode(c)) {
		if (type != SYS_INT && type != SYS_TRAP)
			return fault_idt(c, VEC_GP, e);
	} else if (type != SYS_TASK_GATE && (type & ~9u) != SYS_INT16) {
		return fault_idt(c, VEC_GP, e);
	}
	if (e->kind == EVENT_SOFT && desc_dpl(gate) < c->cpl)
		return fault_idt(c, VEC_GP, e);
	return desc_present(gate) ? ST_OK : fault_idt(c, VEC_NP, e);
}

/* The handler's code segment: same privilege or more. */
static int handler_code(struct cpu *c, const struct desc *gate, struct desc *d)
{
	u16 sel = gate_selector(gate);
	bool vm86 = c->mode == CPU_VM86;
	int st;

	if (seg_null(sel))
		return fault_gp(c, 0);
	st = desc_load(c, sel, VEC_GP, d);
	if (st)
		return st;
	if (!desc_is_code(d) || desc_dpl(d) > c->cpl)
		return fault_sel(c, VEC_GP, sel);
	if (cpu_long_mode(c) && (!desc_l(d) || desc_db(d)))
		return fault_sel(c, VEC_GP, sel);
	/* From virtual-8086 mode there is only the way to ring 0. */
	if (vm86 && (desc_conforming(d) || desc_dpl(d)))
		return fault_sel(c, VEC_GP, sel);
	return desc_present(d) ? ST_OK : fault_sel(c, VEC_NP, sel);
}

static int handler_cs(struct cpu *c, const struct desc *gate, const struct desc *d, unsigned cpl, struct seg *cs)
{
	u64 rip = gate_offset(gate);

	desc_to_seg(d, (u16)((gate_selector(gate) & ~3u) | cpl), cs);
	if (cpu_long_mode(c) ? !canonical(rip) : rip > cs->limit)
		return fault_gp(c, 0);
	return desc_set_accessed(c, d);
}

static void enter_handler(struct cpu *c, const struct desc *gate, const struct seg *cs)
{
	u64 clear = FL_TF | FL_NT | FL_RF | FL_VM;

	if (!(desc_type(gate) & 1)) /* interrupt gate */
		clear |= FL_IF;
	cpu_set_rflags(c, cpu_rflags(c) & ~clear);
	far_commit(c, cs, gate_offset(gate));
}

/* ---- protected mode: SDM vol. 3, 6.12 ---- */

static int deliver_task(struct cpu *c, const struct event *e, const struct desc *gate)
{
	struct task_event ev = { e->has_error, e->error };

	return task_switch(c, gate_selector(gate), TASK_CALL, pushed_flags(c, e), &ev);
}

/* What every frame has: RFLAGS, CS, RIP, and the error code if there is one. Returns the new count. */
static unsigned frame_tail(const struct cpu *c, const struct event *e, u64 *v, unsigned n)
{
	v[n++] = pushed_flags(c, e);
	v[n++] = c->seg[SEG_CS].sel;
	v[n++] = c->gpr[R_RIP];
	if (e->has_error)
		v[n++] = e->error;
	return n;
}

static int deliver_same(struct cpu *c, const struct event *e, const struct desc *gate, const struct desc *d)
{
	struct frame f;
	struct seg cs;
	u64 v[4];
	int st;

	frame_current(c, &f, desc_type(gate) & 8 ? SZ_32 : SZ_16);
	st = handler_cs(c, gate, d, c->cpl, &cs);
	if (!st)
		st = frame_push(c, &f, v, frame_tail(c, e, v, 0));
	if (st)
		return st;
	frame_commit(c, &f);
	enter_handler(c, gate, &cs);
	return ST_END;
}

/* To an inner ring; also from virtual-8086 mode, whose data segments are saved and cleared. */
static int deliver_inner(struct cpu *c, const struct event *e, const struct desc *gate, const struct desc *d)
{
	static const u8 saved[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };
	unsigned cpl = desc_dpl(d), n = 0;
	bool vm86 = c->mode == CPU_VM86;
	struct seg cs, ss;
	struct desc sd;
	struct frame f;
	u64 v[10], sp;
	u16 sel;
	int st = tss_stack(c, cpl, &sel, &sp);

	if (st)
		return st;
	if (seg_null(sel))
		return fault_sel(c, VEC_TS, sel);
	st = stack_desc_load(c, sel, cpl, VEC_TS, &sd);
	if (!st)
		st = handler_cs(c, gate, d, cpl, &cs);
	if (!st)
		st = desc_set_accessed(c, &sd);
	if (st)
		return st;
	desc_to_seg(&sd, sel, &ss);
	frame_inner(&f, &ss, sp, desc_type(gate) & 8 ? SZ_32 : SZ_16);
	if (vm86)
		for (; n < ARRAY_SIZE(saved); n++)
			v[n] = c->seg[saved[n]].sel;
	v[n++] = c->seg[SEG_SS].sel;
	v[n++] = c->gpr[RSP];
	st = frame_push(c, &f, v, frame_tail(c, e, v, n));
	if (st)
		return st;
	if (vm86)
		for (n = 0; n < ARRAY_SIZE(saved); n++)
			seg_set_null(&c->seg[saved[n]], 0, 0);
	c->seg[SEG_SS] = ss;
	frame_commit(c, &f);
	enter_handler(c, gate, &cs);
	return ST_END;
}

static int deliver_protected(struct cpu *c, const struct event *e)
{
	struct desc gate, d;
	int st = read_gate(c, e, &gate);

	if (st)
		return st;
	if (desc_type(&gate) == SYS_TASK_GATE)
		return deliver_task(c, e, &gate);
	st = handler_code(c, &gate, &d);
	if (st)
		return st;
	if (!desc_conforming(&d) && desc_dpl(&d) < c->cpl)
		return deliver_inner(c, e, &gate, &d);
	return deliver_same(c, e, &gate, &d);
}

/* ---- long mode: SDM vol. 3, 6.14 ---- */

static int deliver_long(struct cpu *c, const struct event *e)
{
	u64 v[6], rsp = c->gpr[RSP];
	unsigned ist, cpl;
	struct desc gate, d;
	struct frame f;
	struct seg cs;
	int st = read_gate(c, e, &gate);

	if (!st)
		st = handler_code(c, &gate, &d);
	if (st)
		return st;
	ist = (gate.raw >> 32) & 7;
	cpl = desc_conforming(&d) ? c->cpl : desc_dpl(&d);
	if (ist)
		st = tss_rsp(c, TSS64_IST(ist), &rsp);
	else if (cpl != c->cpl)
		st = tss_rsp(c, TSS64_RSP(cpl), &rsp);
	if (!st)
		st = handler_cs(c, &gate, &d, cpl, &cs);
	if (st)
		return st;
	frame_flat(&f, rsp & ~0xfull, cpl);
	v[0] = c->seg[SEG_SS].sel;
	v[1] = c->gpr[RSP];
	st = frame_push(c, &f, v, frame_tail(c, e, v, 2));
	if (st)
		return st;
	if (cpl != c->cpl)
		seg_set_null(&c->seg[SEG_SS], (u16)cpl, cpl);
	frame_commit(c, &f);
	enter_handler(c, &gate, &cs);
	return ST_END;
}

/* ---- delivery ---- */

/* A fault on the way of something that no instruction asked for says so in its error code (SDM vol. 3, 6.13). */
static void mark_external(struct fault *f)
{
	if (f->vector >= VEC_TS && f->vector <= VEC_GP)
		f->error |= ERROR_EXT;
}

static void count_event(struct cpu *c, const struct event *e)
{
	if (e->kind == EVENT_EXT)
		c->stats.interrupts[e->vector]++;
	else if (e->kind == EVENT_SOFT)
		c->stats.software[e->vector]++;
	else
		c->stats.exceptions[e->vector & 31]++;
}

/* SDM vol. 3, table 25-17: the types of events. */
static u32 vectoring_info(const struct cpu *c, const struct event *e)
{
	u32 type = 0; /* external interrupt */

	if (e->kind == EVENT_EXC)
		type = 3;
	else if (e->kind == EVENT_ICEBP)
		type = 5;
	else if (e->kind == EVENT_SOFT)
		type = e->vector == VEC_BP || e->vector == VEC_OF ? 6 : 4;
	else if (e->vector == VEC_NMI && c->ev.nmi_injected)
		type = 2;
	return VECTORING_VALID | (e->has_error ? VECTORING_HAS_ERROR : 0) | type << VECTORING_TYPE_SHIFT | e->vector;
}

static int deliver(struct cpu *c, const struct event *e)
{
	int st;

	c->vectoring = vectoring_info(c, e);
	if (c->mode == CPU_REAL)
		st = deliver_real(c, e);
	else if (cpu_long_mode(c))
		st = deliver_long(c, e);
	else
		st = deliver_protected(c, e);
	c->vectoring = 0;
	if ((st == ST_FAULT || st == TASK_FAULT) && e->kind != EVENT_SOFT)
		mark_external(&c->fault);
	if (st == ST_END || st == TASK_FAULT) {
		count_event(c, e);
		c->ev.shadow = 0;
		c->rep_at = REP_NOWHERE;
		/* The TF that the instruction began with went into the frame (SDM vol. 3, 17.3.1.4). */
		c->step &= (u8)~STEP_WAS_TF;
		/* What a MOV SS before INT1 hit is part of INT1's #DB, and not another one. */
		if (e->kind == EVENT_ICEBP) {
			c->bp.hits = 0;
			c->dr[7] &= ~DR7_GD;
		}
		debug_update(c);
		if (e->kind == EVENT_EXT && c->code)
			code_serialize(c);
	}
	return e->kind == EVENT_SOFT || e->kind == EVENT_ICEBP ? task_settle(c, st) : st;
}

int event_deliver(struct cpu *c, enum event_kind kind, u8 vector, bool has_error, u32 error)
{
	struct event e = { .kind = kind, .vector = vector, .has_error = has_error, .error = error };

	return deliver(c, &e);
}

int event_int3(struct cpu *c)
{
	if (c->guest_debug & GUESTDBG_USE_SW_BP) {
		unsigned len = c->cur ? c->cur->len : 1;
		u64 base = c->mode == CPU_LONG ? 0 : c->seg[SEG_CS].base;

		c->exit.reason = EXIT_DEBUG;
		c->exit.debug.vector = VEC_BP;
		c->exit.debug.pc = (base + c->gpr[R_RIP] - len) & c->lin_mask;
		c->exit.debug.dr6 = 0;
		c->exit.debug.dr7 = 0;
		return ST_EXIT;
	}
	return event_deliver(c, EVENT_SOFT, VEC_BP, false, 0);
}

/* ---- faults ---- */

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

#define DELIVERIES_AT_ONCE 16 /* a fault, a double fault and a shutdown are three */

/* SDM vol. 3, table 6-4 */
static enum fault_class classify(u8 vector)
{
	switch (vector) {
	case VEC_DE:
	case VEC_TS:
	case VEC_NP:
	case VEC_SS:
	case VEC_GP:
		return CONTRIBUTORY;
	case VEC_PF:
		return PAGE_FAULT;
	case VEC_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

static void queue_exception(struct cpu *c, const struct fault *f)
{
	c->ev.exc.pending = true;
	c->ev.exc.injected = false;
	c->ev.exc.vector = f->vector;
	c->ev.exc.has_error = f->has_error;
	c->ev.exc.error = f->error;
	c->ev.exc.has_payload = f->vector == VEC_PF || f->vector == VEC_DB;
	c->ev.exc.payload = f->vector == VEC_PF ? f->addr : f->dr6;
	cpu_events_changed(c);
}

static int shut_down(struct cpu *c)
{
	c->ev.exc.pending = c->ev.exc.injected = false;
	c->exit.reason = EXIT_SHUTDOWN;
	return ST_EXIT_DONE;
}

/* cpu::fault came up while an event of class first was delivered (SDM vol. 3, table 6-5). */
static int fault_after(struct cpu *c, enum fault_class first)
{
	enum fault_class second = classify(c->fault.vector);

	if (first == DOUBLE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT))
		return shut_down(c);
	if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
	    (first == PAGE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT)))
		c->fault = (struct fault){ .vector = VEC_DF, .has_error = true };
	queue_exception(c, &c->fault);
	return ST_OK;
}

int event_fault(struct cpu *c)
{
	c->step &= (u8) ~(STEP_WAS_TF | STEP_WAS_RF);
	return fault_after(c, BENIGN);
}

/* ---- what comes next: SDM vol. 3, table 6-2 ---- */

/*
 * Delivers an event that cpu::ev holds as injected; *held is cleared as soon as it is certain that the event will not
 * come again: it was delivered, or its delivery faulted.
 */
static int deliver_held(struct cpu *c, const struct event *e, bool *held)
{
	enum fault_class first = e->kind == EVENT_EXC ? classify(e->vector) : BENIGN;
	int st = deliver(c, e);

	if (st == ST_EXIT)
		return st;
	*held = false;
	if (st == ST_FAULT || st == TASK_FAULT)
		return fault_after(c, first);
	return st == ST_END ? ST_OK : st;
}

/* What the instructions INT n, INT3 and INTO did not get to the end of: the return address is behind them. */
static int deliver_soft(struct cpu *c, u8 vector, unsigned len, bool *held)
{
	struct event e = { .kind = EVENT_SOFT, .vector = vector };
	u64 rip = c->gpr[R_RIP];
	int st;

	c->gpr[R_RIP] = rip + len;
	st = deliver(c, &e);
	if (st == ST_EXIT || st == ST_FAULT)
		c->gpr[R_RIP] = rip;
	if (st == ST_EXIT)
		return st;
	*held = false;
	if (st == ST_FAULT)
		return fault_after(c, BENIGN);
	return st == ST_END ? ST_OK : st;
}

static int deliver_exception(struct cpu *c)
{
	struct events *ev = &c->ev;
	struct event e = {
		.kind = EVENT_EXC,
		.vector = ev->exc.vector,
		.has_error = ev->exc.has_error,
		.error = ev->exc.error,
		.db_fault = ev->exc.vector == VEC_DB && (ev->exc.payload & DR6_BD),
	};

	if (ev->exc.pending) {
		ev->exc.pending = false;
		ev->exc.injected = true;
		if (ev->exc.vector == VEC_PF && ev->exc.has_payload)
			c->cr2 = ev->exc.payload;
		if (ev->exc.vector == VEC_DB)
			debug_set_dr6(c, ev->exc.has_payload ? ev->exc.payload : 0);
		ev->exc.has_payload = false;
	}
	/* Only the client queues these: they return behind the INT3 or INTO at RIP, as on hardware. */
	if (ev->exc.vector == VEC_BP || ev->exc.vector == VEC_OF)
		return deliver_soft(c, ev->exc.vector, 1, &ev->exc.injected);
	return deliver_held(c, &e, &ev->exc.injected);
}

static int deliver_nmi(struct cpu *c)
{
	struct event e = { .kind = EVENT_EXT, .vector = VEC_NMI };

	if (!c->ev.nmi_injected) {
		c->ev.nmi_pending--;
		c->ev.nmi_injected = true;
		c->ev.nmi_masked = true;
	}
	return deliver_held(c, &e, &c->ev.nmi_injected);
}

static int deliver_interrupt(struct cpu *c)
{
	struct event e = { .kind = EVENT_EXT, .vector = c->ev.intr.vector };

	if (c->ev.intr.soft)
		return deliver_soft(c, c->ev.intr.vector, c->ev.intr.len, &c->ev.intr.injected);
	return deliver_held(c, &e, &c->ev.intr.injected);
}

/* May external interrupts be taken at this boundary? */
static bool window_open(const struct cpu *c)
{
	return (c->rflags & FL_IF) && !c->ev.shadow && !(c->guest_debug & GUESTDBG_BLOCKIRQ);
}

static bool nmi_open(const struct cpu *c)
{
	return !c->ev.nmi_masked && !c->ev.shadow && !(c->guest_debug & GUESTDBG_BLOCKIRQ);
}

typedef int (*delivery)(struct cpu *c);

/* The one that comes first, or NULL. */
static delivery next_delivery(const struct cpu *c)
{
	const struct events *ev = &c->ev;

	if (ev->exc.pending || ev->exc.injected)
		return deliver_exception;
	if (ev->nmi_injected || (ev->nmi_pending && nmi_open(c)))
		return deliver_nmi;
	if (ev->intr.injected && (ev->intr.soft || window_open(c)))
		return deliver_interrupt;
	return NULL;
}

bool event_due(const struct cpu *c)
{
	return next_delivery(c);
}

void event_opened(struct cpu *c)
{
	const struct events *ev = &c->ev;

	if (c->want_window || ev->exc.pending || ev->exc.injected || ev->nmi_injected || ev->nmi_pending ||
	    ev->intr.injected)
		cpu_events_changed(c);
	debug_update(c); /* a shadow: what follows is executed alone */
}

int event_poll(struct cpu *c)
{
	delivery next;
	unsigned n = 0;

	while ((next = next_delivery(c))) {
		int st = next(c);

		if (st)
			return st;
		/* An #AC whose delivery raises #AC, and so on, must not keep the client out. */
		if (++n == DELIVERIES_AT_ONCE) {
			cpu_events_changed(c);
			return ST_AGAIN;
		}
	}
	if (c->want_window && window_open(c) && !c->ev.intr.injected) {
		c->exit.reason = EXIT_WINDOW;
		return ST_EXIT_DONE;
	}
	/* A shadow ends after the coming instruction, which has to be executed alone. */
	debug_update(c);
	return ST_OK;
}
