// SPDX-License-Identifier: MIT
#include "cpu/debug.h"

#include <string.h>

#include "mem/mem.h"

/* DR7.R/Wn (SDM vol. 3, 17.2.4) */
enum { BREAK_EXEC, BREAK_WRITE, BREAK_PORT, BREAK_ACCESS };

static void arm(struct cpu *c, unsigned n, u64 addr, u64 dr7)
{
	static const u8 sizes[4] = { 1, 2, 8, 4 }; /* DR7.LENn */
	unsigned ctl = (unsigned)(dr7 >> (16 + 4 * n)) & 0xf;
	u8 bit = (u8)BIT(n);

	c->bp.size[n] = sizes[ctl >> 2];
	c->bp.addr[n] = addr & ~(u64)(c->bp.size[n] - 1);
	switch (ctl & 3) {
	case BREAK_EXEC:
		c->bp.addr[n] = addr;
		c->bp.exec |= bit;
		break;
	case BREAK_WRITE:
		c->bp.write |= bit;
		break;
	case BREAK_PORT:
		/* Without CR4.DE this encoding is undefined. */
		if (c->cr4 & CR4_DE)
			c->bp.port |= bit;
		break;
	case BREAK_ACCESS:
		c->bp.access |= bit;
		break;
	}
}

/* While the client has breakpoints of its own, those of the guest are out of force. */
static void arm_all(struct cpu *c)
{
	const u64 *dr = c->guest_debug & GUESTDBG_USE_HW_BP ? c->guest_dr : c->dr;
	u8 hits = c->bp.hits;
	u64 start = c->bp.start;

	memset(&c->bp, 0, sizeof(c->bp));
	c->bp.hits = hits;
	c->bp.start = start;
	for (unsigned n = 0; n < 4; n++)
		if (dr[7] & (3ull << (2 * n)))
			arm(c, n, dr[n], dr[7]);
}

static void set_step(struct cpu *c, unsigned step)
{
	c->step = (u8)step;
	if (c->step)
		cpu_attn(c, ATTN_STEP);
	else
		cpu_attn_clear(c, ATTN_STEP);
}

void debug_recompute(struct cpu *c)
{
	u64 old[4];
	u8 data = c->bp.write | c->bp.access;
	unsigned step = 0;

	if (!debug_more_than_shadow(c)) {
		set_step(c, c->ev.shadow ? STEP_SHADOW : 0);
		return;
	}
	memcpy(old, c->bp.addr, sizeof(old));
	arm_all(c);
	/* Watched pages must leave the soft TLB. */
	if (data != (c->bp.write | c->bp.access) || (data && memcmp(old, c->bp.addr, sizeof(old))))
		tlb_flush(c);

	if (c->rflags & FL_TF)
		step |= STEP_TF;
	if (c->rflags & FL_RF)
		step |= STEP_RF;
	if (c->ev.shadow)
		step |= STEP_SHADOW;
	if (c->guest_debug & GUESTDBG_SINGLESTEP)
		step |= STEP_GUESTDBG;
	if (c->bp.exec | c->bp.write | c->bp.access)
		step |= STEP_BREAK;
	if (c->bp.port)
		step |= STEP_IO;
	set_step(c, step | (c->step & (STEP_WAS_TF | STEP_WAS_RF)));
}

static bool overlaps(const struct cpu *c, unsigned n, u64 addr, unsigned size)
{
	return addr < c->bp.addr[n] + c->bp.size[n] && c->bp.addr[n] < addr + size;
}

static void hit(struct cpu *c, unsigned among, u64 addr, unsigned size)
{
	for (unsigned n = 0; n < 4; n++)
		if ((among & BIT(n)) && overlaps(c, n, addr, size))
			c->bp.hits |= (u8)BIT(n);
}

void debug_watch(struct cpu *c, u64 lin, unsigned size, bool write)
{
	hit(c, c->bp.access | (write ? c->bp.write : 0), lin, size);
}

void debug_port(struct cpu *c, u16 port, unsigned size)
{
	hit(c, c->bp.port, port, size);
}

void debug_set_dr6(struct cpu *c, u64 bits)
{
	c->dr[6] = (c->dr[6] & ~DR6_TRAPS) | DR6_FIXED | bits;
	c->dr[7] &= ~DR7_GD;
	c->msr.debugctl &= ~DEBUGCTL_BTF;
}
