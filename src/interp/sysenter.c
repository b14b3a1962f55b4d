// SPDX-License-Identifier: MIT
/* SYSCALL, SYSRET, SYSENTER, SYSEXIT: control transfers with flat segments that no descriptor is read for. */
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "interp/debug.h"
#include "interp/impl.h"

#define TYPE_CODE_RA 0xbu /* execute, read, accessed */
#define TYPE_DATA_WA 0x3u
#define RPL 3u
#define SYSRET_FLAGS 0x3c7fd7ull

enum width { CODE_32, CODE_64 };

/* CS and SS of a privilege level; SS is the next descriptor. */
static void set_flat_segments(struct cpu *c, u16 cs, u16 ss, unsigned cpl, enum width width)
{
	u32 common = ATTR_S | ATTR_P | ATTR_G | cpl << ATTR_DPL_SHIFT;

	c->seg[SEG_CS] = (struct seg){
		.limit = 0xffffffff,
		.attr = common | TYPE_CODE_RA | (width == CODE_64 ? ATTR_L : ATTR_DB),
		.sel = cs,
	};
	c->seg[SEG_SS] = (struct seg){ .limit = 0xffffffff, .attr = common | TYPE_DATA_WA | ATTR_DB, .sel = ss };
	cpu_update_mode(c);
}

static u16 star_selector(const struct cpu *c, unsigned shift)
{
	return (u16)(c->msr.star >> shift);
}

/* Intel has SYSCALL and SYSRET in 64-bit mode only; AMD in every protected mode. */
static bool syscall_exists(const struct cpu *c)
{
	return (c->efer & EFER_SCE) && (c->mode == CPU_LONG || (c->mode >= CPU_PROT && cpu_has(c, FEAT_AMD)));
}

static int syscall_legacy(struct cpu *c)
{
	u16 cs = star_selector(c, 32) & (u16)~RPL;

	c->gpr[RCX] = (u32)c->gpr[R_RIP];
	c->gpr[R_RIP] = (u32)c->msr.star;
	cpu_set_rflags(c, cpu_rflags(c) & ~(FL_VM | FL_IF | FL_RF));
	set_flat_segments(c, cs, cs + 8, 0, CODE_32);
	return ST_END;
}

/*
 * A TF that these two load traps at once, not after the next instruction as one of POPF does. If the run loop steps it
 * sees to that itself; stepped is whether it did before.
 */
static int with_trap(struct cpu *c, bool stepped)
{
	if (unlikely(c->rflags & FL_TF) && !stepped)
		event_trap(c, DR6_BS);
	return ST_END;
}

HANDLER(do_syscall)
{
	u16 cs = star_selector(c, 32) & (u16)~RPL;
	bool stepped = c->step;

	(void)i;
	if (!syscall_exists(c))
		return fault_ud(c);
	if (!cpu_long_mode(c))
		return syscall_legacy(c);
	c->gpr[RCX] = c->gpr[R_RIP];
	c->gpr[R11] = cpu_rflags(c) & ~FL_RF;
	c->gpr[R_RIP] = c->mode == CPU_LONG ? c->msr.lstar : c->msr.cstar;
	cpu_set_rflags(c, cpu_rflags(c) & ~(c->msr.sfmask | FL_RF));
	set_flat_segments(c, cs, cs + 8, 0, CODE_64);
	return with_trap(c, stepped);
}
IMPL_ANY(syscall, do_syscall);

HANDLER(do_sysret)
{
	u16 base = star_selector(c, 48);
	bool wide = i->size == SZ_64, stepped = c->step;

	if (!syscall_exists(c))
		return fault_ud(c);
	/* AMD lets the first fetch in ring 3 fault. */
	if (c->cpl || (wide && !is_canonical(c->gpr[RCX]) && !cpu_has(c, FEAT_AMD)))
		return fault_gp(c, 0);
	c->gpr[R_RIP] = wide ? c->gpr[RCX] : (u32)c->gpr[RCX];
	if (cpu_long_mode(c))
		cpu_set_rflags(c, c->gpr[R11] & SYSRET_FLAGS);
	else
		cpu_set_rflags(c, cpu_rflags(c) | FL_IF);
	set_flat_segments(c, (wide ? base + 16 : base) | RPL, (base + 8) | RPL, 3, wide ? CODE_64 : CODE_32);
	return with_trap(c, stepped);
}
IMPL_ANY(sysret, do_sysret);

/* AMD has SYSENTER and SYSEXIT in legacy mode only. */
static bool sysenter_exists(const struct cpu *c)
{
	return !(cpu_has(c, FEAT_AMD) && cpu_long_mode(c));
}

HANDLER(do_sysenter)
{
	u16 cs = c->msr.sysenter_cs & (u16)~RPL;
	bool wide = cpu_long_mode(c);

	(void)i;
	if (!sysenter_exists(c))
		return fault_ud(c);
	if (c->mode == CPU_REAL || !cs)
		return fault_gp(c, 0);
	cpu_set_rflags(c, cpu_rflags(c) & ~(FL_VM | FL_IF | FL_RF));
	c->gpr[R_RIP] = wide ? c->msr.sysenter_eip : (u32)c->msr.sysenter_eip;
	c->gpr[RSP] = wide ? c->msr.sysenter_esp : (u32)c->msr.sysenter_esp;
	set_flat_segments(c, cs, cs + 8, 0, wide ? CODE_64 : CODE_32);
	return ST_END;
}
IMPL_ANY(sysenter, do_sysenter);

HANDLER(do_sysexit)
{
	u16 base = c->msr.sysenter_cs & (u16)~RPL;
	bool wide = i->size == SZ_64;

	if (!sysenter_exists(c))
		return fault_ud(c);
	if (c->mode == CPU_REAL || c->cpl || !base)
		return fault_gp(c, 0);
	if (wide && (!is_canonical(c->gpr[RCX]) || !is_canonical(c->gpr[RDX])))
		return fault_gp(c, 0);
	c->gpr[R_RIP] = wide ? c->gpr[RDX] : (u32)c->gpr[RDX];
	c->gpr[RSP] = wide ? c->gpr[RCX] : (u32)c->gpr[RCX];
	base += wide ? 32 : 16;
	set_flat_segments(c, base | RPL, (base + 8) | RPL, 3, wide ? CODE_64 : CODE_32);
	return ST_END;
}
IMPL_ANY(sysexit, do_sysexit);
