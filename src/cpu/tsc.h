/* SPDX-License-Identifier: MIT */
/* The time stamp counter: the guest's is the host's, scaled and with an offset. */
#ifndef UKVM_CPU_TSC_H
#define UKVM_CPU_TSC_H

#include "cpu/cpu.h"

#define TSC_RATIO_ONE (1ull << 48)

static inline u64 host_tsc(void)
{
	return __builtin_ia32_rdtsc();
}

static inline u64 tsc_scale(u64 tsc, u64 ratio)
{
	return (u64)(((unsigned __int128)tsc * ratio) >> 48);
}

static inline u64 cpu_tsc_at(const struct cpu *c, u64 host)
{
	return (c->tsc_ratio == TSC_RATIO_ONE ? host : tsc_scale(host, c->tsc_ratio)) + c->tsc_offset;
}

/* The guest's TSC now. */
static inline u64 cpu_tsc_read(const struct cpu *c)
{
	return cpu_tsc_at(c, host_tsc());
}

/* Makes the guest's TSC read v now. */
void cpu_tsc_set(struct cpu *c, u64 v);

/* KVM_SET_TSC_KHZ: 0, or -EINVAL if it cannot be. 0 means the host's. The count goes on from where it is. */
int cpu_set_tsc_khz(struct cpu *c, u32 khz);

/* Can a guest have that frequency? */
bool tsc_khz_valid(u32 khz);

/* The host's TSC frequency: from CPUID if that tells, else measured once per process (takes 20 ms). */
u32 host_tsc_khz(void);

/*
 * CLOCK_MONOTONIC, but a pure function of the host's TSC since its first use in this process: kvmclock on all vCPUs and
 * KVM_GET_CLOCK agree to the nanosecond. host_clock_at() is the clock at some value of the TSC.
 */
u64 host_clock_ns(void);
u64 host_clock_at(u64 tsc);

/* The moment from which host_clock_at() counts. */
struct host_instant {
	u64 tsc, ns;
};
struct host_instant host_clock_base(void);

#endif
