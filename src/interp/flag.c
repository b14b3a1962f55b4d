// SPDX-License-Identifier: MIT
/* Instructions on flags, and the rules of IOPL, virtual-8086 mode (VME) and protected-mode virtual interrupts (PVI). */
#include "interp/impl.h"

HANDLER(do_clc)
{
	(void)i;
	c->cc &= ~FL_CF;
	return ST_OK;
}
IMPL_ANY(clc, do_clc);

HANDLER(do_stc)
{
	(void)i;
	c->cc |= FL_CF;
	return ST_OK;
}
IMPL_ANY(stc, do_stc);

HANDLER(do_cmc)
{
	(void)i;
	c->cc ^= FL_CF;
	return ST_OK;
}
IMPL_ANY(cmc, do_cmc);

HANDLER(do_cld)
{
	(void)i;
	c->rflags &= ~FL_DF;
	return ST_OK;
}
IMPL_ANY(cld, do_cld);

HANDLER(do_std)
{
	(void)i;
	c->rflags |= FL_DF;
	return ST_OK;
}
IMPL_ANY(std, do_std);

#define AH (RAX * 8 + 1)
#define SAHF_FLAGS (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)

HANDLER(do_lahf)
{
	(void)i;
	REG8(c, AH) = (u8)((c->cc & SAHF_FLAGS) | FL_1);
	return ST_OK;
}
IMPL_ANY(lahf, do_lahf);

HANDLER(do_sahf)
{
	(void)i;
	c->cc = (c->cc & ~SAHF_FLAGS) | (REG8(c, AH) & SAHF_FLAGS);
	return ST_OK;
}
IMPL_ANY(sahf, do_sahf);

HANDLER(do_salc)
{
	(void)i;
	REG8(c, RAX * 8) = c->cc & FL_CF ? 0xff : 0;
	return ST_OK;
}
IMPL_ANY(salc, do_salc);

/* ---- CLI, STI (SDM vol. 2, their tables of decisions) ---- */
enum if_rule {
	RULE_IF,    /* changes IF */
	RULE_VIF,   /* changes VIF in its place */
	RULE_FAULT, /* #GP(0) */
};

static enum if_rule interrupt_flag_rule(const struct cpu *c)
{
	if (c->mode == CPU_REAL)
		return RULE_IF;
	if (c->mode == CPU_VM86) {
		if (cpu_iopl(c) == 3)
			return RULE_IF;
		return c->cr4 & CR4_VME ? RULE_VIF : RULE_FAULT;
	}
	if (c->cpl <= cpu_iopl(c))
		return RULE_IF;
	return c->cpl == 3 && (c->cr4 & CR4_PVI) ? RULE_VIF : RULE_FAULT;
}

HANDLER(do_cli)
{
	(void)i;
	switch (interrupt_flag_rule(c)) {
	case RULE_IF:
		c->rflags &= ~FL_IF;
		return ST_OK;
	case RULE_VIF:
		c->rflags &= ~FL_VIF;
		return ST_OK;
	default:
		return fault_gp(c, 0);
	}
}
IMPL_ANY(cli, do_cli);

/* The next instruction is still safe from interrupts, if they were off. */
HANDLER(do_sti)
{
	(void)i;
	switch (interrupt_flag_rule(c)) {
	case RULE_IF:
		if (!(c->rflags & FL_IF)) {
			c->rflags |= FL_IF;
			c->ev.shadow = SHADOW_STI;
			event_opened(c);
		}
		return ST_END;
	case RULE_VIF:
		if (c->rflags & FL_VIP)
			return fault_gp(c, 0);
		c->rflags |= FL_VIF;
		return ST_END;
	default:
		return fault_gp(c, 0);
	}
}
IMPL_ANY(sti, do_sti);

/* ---- PUSHF, POPF ---- */
HANDLER(do_pushf)
{
	u64 fl = cpu_rflags(c) & ~(FL_VM | FL_RF);

	if (c->mode == CPU_VM86 && cpu_iopl(c) < 3) {
		if (!(c->cr4 & CR4_VME) || i->size != SZ_16)
			return fault_gp(c, 0);
		fl = (fl & ~FL_IF) | FL_IOPL | (c->rflags & FL_VIF ? FL_IF : 0);
	}
	return stack_push(c, i->size, fl);
}
IMPL_ANY(pushf, do_pushf);

/* VM86 with IOPL < 3 and VME: IF stands for VIF. */
static int popf_vme(struct cpu *c, u64 popped, u64 sp)
{
	u64 mask = (FL_VALID & 0xffff) & ~(FL_IF | FL_IOPL);

	if ((popped & FL_TF) || ((popped & FL_IF) && (c->rflags & FL_VIP)))
		return fault_gp(c, 0);
	stack_set_pointer(c, SZ_16, sp);
	cpu_set_rflags(c, (cpu_rflags(c) & ~(mask | FL_VIF | FL_RF)) | (popped & mask) | (popped & FL_IF ? FL_VIF : 0));
	return ST_END;
}

HANDLER(do_popf)
{
	u64 mask = FL_VALID & ~(FL_VM | FL_RF | FL_VIF | FL_VIP);
	bool vm86 = c->mode == CPU_VM86;
	u64 popped, sp;
	int st;

	if (vm86 && cpu_iopl(c) < 3 && (!(c->cr4 & CR4_VME) || i->size != SZ_16))
		return fault_gp(c, 0);
	st = stack_peek(c, i->size, &popped, &sp);
	if (unlikely(st))
		return st;
	if (vm86 && cpu_iopl(c) < 3)
		return popf_vme(c, popped, sp);
	if (c->cpl > 0)
		mask &= ~FL_IOPL;
	if (!vm86 && c->cpl > cpu_iopl(c))
		mask &= ~FL_IF;
	if (i->size == SZ_16)
		mask &= 0xffff;
	stack_set_pointer(c, i->size, sp);
	cpu_set_rflags(c, (cpu_rflags(c) & ~(mask | FL_RF)) | (popped & mask));
	return ST_END;
}
IMPL_ANY(popf, do_popf);
