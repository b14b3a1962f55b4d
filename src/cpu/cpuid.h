/* SPDX-License-Identifier: MIT */
/*
 * CPUID: what the engine can do (cpuid.def has the one table), what the client made of it for a vCPU, and what the
 * instruction answers.
 */
#ifndef UKVM_CPU_CPUID_H
#define UKVM_CPU_CPUID_H

#include "cpu/cpu.h"

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* One feature bit. */
struct cpuid_bit {
	u32 leaf;
	u8 subleaf, reg, bit;
	u8 source;        /* enum cpuid_source */
	u64 feat;         /* the FEAT_* that this bit turns on, 0 if the engine need not know */
	const char *name; /* as /proc/cpuinfo has it */
};

enum cpuid_source {
	CPUID_NEVER,  /* the engine has no such thing */
	CPUID_HOST,   /* guest instructions run on the host's: reported if the host has it */
	CPUID_YMM,    /* the same, with YMM registers: if the host's kernel saves them */
	CPUID_ENGINE, /* the engine does it all itself: always reported */
};

extern const struct cpuid_bit cpuid_bits[];
extern const u32 nr_cpuid_bits;

/* cpu::feat: what of the vCPU's CPUID decides how the engine behaves. Without any KVM_SET_CPUID, all that there is. */
#define FEAT_LM BIT64(0)
#define FEAT_NX BIT64(1)
#define FEAT_GBPAGES BIT64(2)
#define FEAT_PSE36 BIT64(3)
#define FEAT_FSGSBASE BIT64(4)
#define FEAT_SMEP BIT64(5)
#define FEAT_SMAP BIT64(6)
#define FEAT_UMIP BIT64(7)
#define FEAT_XSAVE BIT64(8)
#define FEAT_RDTSCP BIT64(9)
#define FEAT_RDPID BIT64(10)
#define FEAT_SYSCALL BIT64(11)
#define FEAT_TSC_ADJUST BIT64(12)
#define FEAT_ARCH_CAP BIT64(13)
#define FEAT_SPEC_CTRL BIT64(14)
#define FEAT_MONITOR BIT64(15)
#define FEAT_XSAVES BIT64(16)
#define FEAT_OSVW BIT64(17)
#define FEAT_X2APIC BIT64(18)
#define FEAT_SEP BIT64(19)
#define FEAT_PKU BIT64(20)
#define FEAT_PCID BIT64(21)
#define FEAT_INVPCID BIT64(22)
#define FEAT_WBNOINVD BIT64(23)
#define FEAT_AMD BIT64(24)   /* vendor: AMD or Hygon; SYSCALL, SYSENTER and some others differ */
#define FEAT_INTEL BIT64(25) /* vendor: Intel */
#define FEAT_TSC_DEADLINE BIT64(26)

static inline bool cpu_has(const struct cpu *c, u64 feat)
{
	return c->feat & feat;
}

/* The answer of KVM_GET_SUPPORTED_CPUID: writes at most max entries, returns how many there are. */
u32 cpuid_supported(struct cpuid_entry *out, u32 max);

/* KVM_GET_EMULATED_CPUID: those features of leaves 1 and 7 that the engine has and the host's CPU lacks. Likewise. */
u32 cpuid_emulated(struct cpuid_entry *out, u32 max);

/* cpu::cpuid was replaced, or the vCPU is new: recomputes phys_bits, feat, xcr0_allowed. */
void cpuid_changed(struct cpu *c);

/* What CPUID returns in EAX, EBX, ECX, EDX, as the kernel's KVM answers, with the bits that follow CPU state. */
void cpuid_query(const struct cpu *c, u32 leaf, u32 subleaf, u32 out[4]);

/* An entry as the guest sees it now: bits and sizes that follow CPU state (OSXSAVE, the size of XCR0's areas, ...). */
void cpuid_apply_state(const struct cpu *c, struct cpuid_entry *e);

/* The entry of the vCPU's CPUID for a leaf (subleaf where it is significant), or NULL. */
const struct cpuid_entry *cpuid_find(const struct cpu *c, u32 leaf, u32 subleaf);

/* The host's own CPUID, asked once per process: the instruction often traps. */
void cpuid_host(u32 leaf, u32 subleaf, u32 out[4]);

/* Does the host's kernel save YMM registers? Without, its CPUID may still show AVX. */
bool cpuid_host_has_ymm(void);

/* Is the vCPU of the vendor, Intel or AMD, that made the host's CPU? */
bool cpuid_vendor_is_host(const struct cpu *c);

/* XCR0 bits that host and engine have; the largest XCR0 of any guest. */
u64 cpuid_supported_xcr0(void);

#endif
