/* SPDX-License-Identifier: MIT */
/*
 * Debug registers (SDM vol. 3, chapter 17) and the client's guest debugging: which breakpoints are in force, what
 * memory and port accesses hit them, and whether the run loop has to go step by step. What happens at the boundaries of
 * a stepped instruction is in interp/debug.c.
 */
#ifndef UKVM_CPU_DEBUG_H
#define UKVM_CPU_DEBUG_H

#include "cpu/cpu.h"

#define DR6_TRAPS 0xfull /* B0-B3 */
#define DR6_BD BIT64(13)
#define DR6_BS BIT64(14)
#define DR6_BT BIT64(15)
#define DR6_FIXED 0xffff0ff0ull /* bits that read as 1, RTM (which is active low) among them */
#define DR7_ENABLED 0xffull
#define DR7_GD BIT64(13)
#define DR7_FIXED BIT64(10)
#define DEBUGCTL_BTF BIT64(1) /* IA32_DEBUGCTL: single steps go from branch to branch */

/* cpu::guest_debug: the values of KVM_GUESTDBG_*. */
#define GUESTDBG_ENABLE BIT(0)
#define GUESTDBG_SINGLESTEP BIT(1)
#define GUESTDBG_USE_SW_BP BIT(16)
#define GUESTDBG_USE_HW_BP BIT(17)
#define GUESTDBG_BLOCKIRQ BIT(20)

/*
 * Everything derived from DR0-3, DR7, cpu::guest_debug, RFLAGS.TF and RF and the interrupt shadow: cpu::bp, cpu::step
 * and ATTN_STEP. To be called after a change of any of them; costs nothing while nothing is on.
 */
void debug_recompute(struct cpu *c);

/* Is, or was, anything on but a shadow, which every STI of the guest has? */
static inline bool debug_more_than_shadow(const struct cpu *c)
{
	return (c->dr[7] & DR7_ENABLED) | c->guest_debug | (c->step & ~STEP_SHADOW) | (c->rflags & (FL_TF | FL_RF));
}

static inline void debug_update(struct cpu *c)
{
	if (unlikely(debug_more_than_shadow(c) | c->step | c->ev.shadow))
		debug_recompute(c);
}

/* Any breakpoint in force? */
static inline bool debug_armed(const struct cpu *c)
{
	return c->bp.exec | c->bp.write | c->bp.access | c->bp.port;
}

/* Does a data breakpoint lie in the page at this linear address? Then it may not be in the soft TLB. */
static inline bool debug_page_watched(const struct cpu *c, u64 page)
{
	unsigned data = c->bp.write | c->bp.access;

	if (likely(!data))
		return false;
	for (unsigned n = 0; n < 4; n++)
		if ((data & BIT(n)) && (c->bp.addr[n] & PAGE_MASK) == page)
			return true;
	return false;
}

/* An access to a watched page was made, or one to a port: remembers what it hit until the instruction is done. */
void debug_watch(struct cpu *c, u64 lin, unsigned size, bool write);
void debug_port(struct cpu *c, u16 port, unsigned size);

/* Takes over DR6 bits as a #DB does (SDM vol. 3, 17.2.3); clears DR7.GD, and BTF (17.4.3). */
void debug_set_dr6(struct cpu *c, u64 bits);

#endif
