// SPDX-License-Identifier: MIT
#include "interp/debug.h"

#include "cpu/cpuid.h"

static u64 code_address(const struct cpu *c)
{
	return ((c->mode == CPU_LONG ? 0 : c->seg[SEG_CS].base) + c->gpr[R_RIP]) & c->lin_mask;
}

/* Does the client see debug exceptions, instead of the guest? */
static bool client_debugs(const struct cpu *c)
{
	return c->guest_debug & (GUESTDBG_SINGLESTEP | GUESTDBG_USE_HW_BP);
}

/* The DR7 that is in force: with breakpoints of its own the client also has its own GD. */
static u64 effective_dr7(const struct cpu *c)
{
	return c->guest_debug & GUESTDBG_USE_HW_BP ? c->guest_dr[7] : c->dr[7];
}

static void set_exit_debug(struct cpu *c, u8 vector, u64 pc, u64 dr6)
{
	c->exit.reason = EXIT_DEBUG;
	c->exit.debug.vector = vector;
	c->exit.debug.pc = pc;
	c->exit.debug.dr6 = dr6;
	c->exit.debug.dr7 = effective_dr7(c);
}

static unsigned code_breakpoints(const struct cpu *c, u64 pc)
{
	unsigned found = 0;

	for (unsigned n = 0; n < 4; n++)
		if ((c->bp.exec & BIT(n)) && c->bp.addr[n] == pc)
			found |= BIT(n);
	return found;
}

/* A #DB that is a fault of the instruction under way goes to the client. */
static int exit_debug_at_insn(struct cpu *c, u64 dr6)
{
	set_exit_debug(c, VEC_DB, (code_address(c) - c->cur->len) & c->lin_mask, DR6_FIXED | dr6);
	return ST_EXIT;
}

int event_int1(struct cpu *c)
{
	return client_debugs(c) ? exit_debug_at_insn(c, 0) : event_deliver(c, EVENT_ICEBP, VEC_DB, false, 0);
}

int event_general_detect(struct cpu *c)
{
	if (likely(!(effective_dr7(c) & DR7_GD)))
		return ST_OK;
	if (c->guest_debug & GUESTDBG_USE_HW_BP)
		return exit_debug_at_insn(c, DR6_BD);
	c->fault = (struct fault){ .vector = VEC_DB, .dr6 = DR6_BD };
	return ST_FAULT;
}

int event_step_before(struct cpu *c)
{
	unsigned found;

	c->bp.start = c->gpr[R_RIP];
	c->step &= (u8) ~(STEP_WAS_TF | STEP_WAS_RF);
	if (c->rflags & FL_TF)
		c->step |= STEP_WAS_TF;
	if (c->rflags & FL_RF)
		c->step |= STEP_WAS_RF;
	/*
	 * What a MOV SS hit is reported after the instruction that follows it; and what an instruction hit before it
	 * asked the client, when it has completed: it does not make those accesses again.
	 */
	if (c->ev.shadow != SHADOW_MOV_SS && !c->io.n && !c->pio.pending)
		c->bp.hits = 0;
	else if (cpu_has(c, FEAT_INTEL)) /* others let code breakpoints hit there */
		return ST_OK;
	if (likely(!c->bp.exec) || (c->rflags & FL_RF))
		return ST_OK;
	found = code_breakpoints(c, code_address(c));
	if (!found)
		return ST_OK;
	found |= c->bp.hits;
	if (client_debugs(c)) {
		set_exit_debug(c, VEC_DB, code_address(c), DR6_FIXED | found);
		return ST_EXIT;
	}
	c->fault = (struct fault){ .vector = VEC_DB, .dr6 = found };
	return ST_FAULT;
}

/*
 * RF holds for one instruction (SDM vol. 3, 17.3.1.1), all iterations of a repeated one included; IRET loads it for the
 * next.
 */
static void expire_rf(struct cpu *c)
{
	const struct insn *i = c->cur;

	if (!(c->step & STEP_WAS_RF))
		return;
	if (i && i->op == OP_iret)
		return;
	if (i && (i->flags & (INSN_REP | INSN_REPNE)) && c->gpr[R_RIP] == c->bp.start)
		return;
	c->rflags &= ~FL_RF;
}

/* With BTF a single step ends at a taken branch (SDM vol. 3, 17.4.3). */
static bool branched(const struct cpu *c)
{
	const struct insn *i = c->cur;

	if (!i)
		return true;
	switch (i->op) {
	case OP_jmp_rel: /* these may go to the instruction behind them */
	case OP_jmp_rm:
	case OP_call_rel:
	case OP_call_rm:
	case OP_ret:
	case OP_jmp_far_ptr:
	case OP_jmp_far_m:
	case OP_retf:
	case OP_iret:
		return true;
	default:
		if ((i->flags & (INSN_REP | INSN_REPNE)) && c->gpr[R_RIP] == c->bp.start)
			return false; /* an iteration */
		return c->gpr[R_RIP] != c->bp.start + i->len;
	}
}

/* SYSCALL and SYSRET look at the TF that they load, every other instruction at the one it began with. */
static bool single_stepped(const struct cpu *c)
{
	bool tf = c->step & STEP_WAS_TF;

	if (c->cur && (c->cur->op == OP_syscall || c->cur->op == OP_sysret))
		tf = c->rflags & FL_TF;
	return tf && (!(c->msr.debugctl & DEBUGCTL_BTF) || branched(c));
}

void event_trap(struct cpu *c, u64 dr6)
{
	if (c->ev.exc.pending)
		return;
	c->ev.exc.pending = true;
	c->ev.exc.injected = false;
	c->ev.exc.vector = VEC_DB;
	c->ev.exc.has_error = false;
	c->ev.exc.error = 0;
	c->ev.exc.has_payload = true;
	c->ev.exc.payload = dr6;
	cpu_events_changed(c);
}

/* Reports the traps of the instruction that has completed. */
static int take_traps(struct cpu *c)
{
	u64 dr6 = c->bp.hits;

	c->bp.hits = 0;
	if (single_stepped(c))
		dr6 |= DR6_BS;
	if (client_debugs(c) && (dr6 || (c->guest_debug & GUESTDBG_SINGLESTEP))) {
		if (c->guest_debug & GUESTDBG_SINGLESTEP)
			dr6 |= DR6_BS;
		set_exit_debug(c, VEC_DB, code_address(c), DR6_FIXED | dr6);
		return ST_EXIT_DONE;
	}
	if (dr6)
		event_trap(c, dr6);
	return ST_OK;
}

int event_step_done(struct cpu *c, u8 shadow_before)
{
	int st = ST_OK;

	expire_rf(c);
	/* A second MOV SS does not extend the shadow of the first (SDM vol. 3, 6.8.3). */
	if (shadow_before && c->ev.shadow == shadow_before) {
		c->ev.shadow = 0;
		event_opened(c);
	}
	if (c->ev.shadow != SHADOW_MOV_SS)
		st = take_traps(c);
	c->step &= (u8) ~(STEP_WAS_TF | STEP_WAS_RF);
	debug_update(c);
	return st;
}
