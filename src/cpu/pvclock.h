/* SPDX-License-Identifier: MIT */
/* kvmclock: the structures that the guest reads time from (asm/kvm_para.h, asm/pvclock-abi.h). */
#ifndef UKVM_CPU_PVCLOCK_H
#define UKVM_CPU_PVCLOCK_H

#include "cpu/cpu.h"

/* cpu::clock_due */
#define CLOCK_SYSTEM 1 /* the vCPU's time info: MSR, TSC or clock_offset changed */
#define CLOCK_WALL 2   /* the wall clock was asked for */

/*
 * Writes what is due into guest memory, which must be accessible. WRMSR calls it at once; KVM_RUN calls it on entry,
 * since the client may have changed something. stopped: tell the guest that it was paused (KVM_KVMCLOCK_CTRL).
 */
void pvclock_update(struct cpu *c, bool stopped);

/* Has the guest switched kvmclock on? */
bool pvclock_enabled(const struct cpu *c);

/* kvmclock now, in ns; what KVM_GET_CLOCK returns. To set it: clock_offset, then pvclock_want(). */
u64 pvclock_ns(const struct cpu *c);

/* KVM_SET_CLOCK asks this of all vCPUs, also of one that another ioctl is changing just now. */
static inline void pvclock_want(struct cpu *c, u8 what)
{
	__atomic_fetch_or(&c->clock_due, what, __ATOMIC_RELAXED);
}

#endif
