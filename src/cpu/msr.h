/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers; msrs.def has the one table. host: the client asks (KVM_GET_MSRS, KVM_SET_MSRS) and not the
 * guest; it may do more.
 */
#ifndef UKVM_CPU_MSR_H
#define UKVM_CPU_MSR_H

#include "cpu/cpu.h"

/* 0; -EINVAL: refused (#GP in the guest); -ENOENT: there is no such MSR (likewise). */
int cpu_msr_read(struct cpu *c, u32 index, u64 *val, bool host);
int cpu_msr_write(struct cpu *c, u32 index, u64 val, bool host);

/* KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST: write at most max, return how many there are. */
u32 cpu_msr_list(u32 *out, u32 max);
u32 cpu_msr_feature_list(u32 *out, u32 max);

/* KVM_GET_MSRS on the system fd: 0 or -EINVAL. */
int cpu_msr_feature(u32 index, u64 *val);

/* For `ukvm --list msrs`: row n of the table, NULL behind the last one. */
struct msr_row {
	u32 first, last; /* indices */
	const char *name;
	bool saved, feature; /* in which of the lists */
};
const struct msr_row *cpu_msr_row(u32 n);

/* Machine check. KVM_X86_GET_MCE_CAP_SUPPORTED; KVM_CAP_MCE; KVM_X86_SETUP_MCE (0 or -EINVAL). */
#define MCE_CAP_SUPPORTED (MCG_CTL_P | MCG_SER_P)
#define MCE_MAX_BANKS 32
#define MCG_CTL_P BIT64(8)
#define MCG_SER_P BIT64(24)
int cpu_setup_mce(struct cpu *c, u64 mcg_cap);

#define APIC_BASE_BSP BIT64(8)
#define APIC_BASE_X2APIC BIT64(10)
#define APIC_BASE_ENABLE BIT64(11)
#define APIC_BASE_DEFAULT 0xfee00000ull

/* May IA32_APIC_BASE hold this? */
bool cpu_apic_base_valid(const struct cpu *c, u64 v);

/* The state of all MSRs after RESET. */
void cpu_msr_reset(struct cpu *c);

#endif
