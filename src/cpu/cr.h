/* SPDX-License-Identifier: MIT */
/*
 * Control registers, EFER and XCR0: what they may hold, and what follows from a change. The functions for instructions
 * return an enum status and have no effect unless it is ST_OK; after ST_OK derived state and the TLB are up to date,
 * and the caller ends the block.
 */
#ifndef UKVM_CPU_CR_H
#define UKVM_CPU_CR_H

#include "cpu/cpu.h"

/* As MOV to CR0, CR3, CR4, CR8 do: #GP(0) for what is not allowed; ST_EXIT if PDPTEs lie in a device. */
int cpu_write_cr0(struct cpu *c, u64 v);
int cpu_write_cr3(struct cpu *c, u64 v);
int cpu_write_cr4(struct cpu *c, u64 v);
int cpu_write_cr8(struct cpu *c, u64 v);

/* As WRMSR and KVM_SET_MSRS (host) do: 0 or -EINVAL. LMA is not writable so. */
int cpu_write_efer(struct cpu *c, u64 v, bool host);

/* XSETBV of XCR0, KVM_SET_XCRS: 0 or -EINVAL. */
int cpu_write_xcr0(struct cpu *c, u64 v);

/* Loads the four PDPTEs from cr3 (PAE paging, SDM vol. 3, 4.4.1): ST_OK, #GP(0) for reserved bits, ST_EXIT. */
int cpu_load_pdptrs(struct cpu *c, u64 cr3);

/* CR4 bits that this vCPU has by its CPUID; EFER bits likewise. */
u64 cpu_cr4_mask(const struct cpu *c);
u64 cpu_efer_mask(const struct cpu *c);

/* Guest-physical addresses have no bit of this mask. */
static inline u64 cpu_gpa_reserved(const struct cpu *c)
{
	return ~0ull << c->phys_bits;
}

static inline bool is_canonical(u64 addr)
{
	return (u64)((s64)(addr << 16) >> 16) == addr;
}

/* All that KVM_SET_SREGS and KVM_SET_SREGS2 replace. */
struct cpu_sregs {
	struct seg seg[NR_SEG]; /* rd_end, wr_end are ignored */
	struct dtable gdt, idt;
	u64 cr0, cr2, cr3, cr4, cr8, efer, apic_base;
	bool has_pdptrs; /* SREGS2 with KVM_SREGS2_FLAGS_PDPTRS_VALID; else they are read from memory at need */
	u64 pdptr[4];
};

/* May a CPU be in this state? KVM_SET_SREGS is EINVAL if not. */
bool cpu_sregs_valid(const struct cpu *c, const struct cpu_sregs *s);
void cpu_get_sregs(const struct cpu *c, struct cpu_sregs *s);
/*
 * Takes the state over (without checks), with derived state and TLB. PDPTEs come from guest memory if PAE paging is on
 * and s has none: the caller has made it accessible. Pending events are not touched.
 */
void cpu_set_sregs(struct cpu *c, const struct cpu_sregs *s);

#endif
