// SPDX-License-Identifier: MIT
#include "cpu/cr.h"

#include <errno.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "mem/mem.h"

#define CR0_VALID (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
/* CR4 bits that need no feature flag to be asked, as in the kernel's KVM. */
#define CR4_BASE                                                                                                       \
	(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR |         \
	 CR4_OSXMMEXCPT)
/* Changes that reload the PDPTEs, and changes that invalidate translations (SDM vol. 3, 4.4.1 and 4.10.4.1). */
#define CR0_RELOADS (CR0_CD | CR0_NW | CR0_PG)
#define CR4_RELOADS (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)
#define CR0_FLUSHES (CR0_PG | CR0_WP | CR0_PE)
#define CR4_FLUSHES (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE | CR4_PKE)

#define CR3_NOFLUSH BIT64(63)
#define CR3_PCID 0xfffull
#define CR8_VALID 0xfull

#define PDPTE_P BIT64(0)
#define PDPTE_RESERVED (BIT64(1) | BIT64(2) | 0x1e0ull)

u64 cpu_cr4_mask(const struct cpu *c)
{
	static const struct {
		u64 feat, bit;
	} by_feature[] = {
		{ FEAT_UMIP, CR4_UMIP }, { FEAT_FSGSBASE, CR4_FSGSBASE }, { FEAT_XSAVE, CR4_OSXSAVE },
		{ FEAT_SMEP, CR4_SMEP }, { FEAT_SMAP, CR4_SMAP },         { FEAT_PCID, CR4_PCIDE },
		{ FEAT_PKU, CR4_PKE },
	};
	u64 mask = CR4_BASE;

	for (unsigned n = 0; n < ARRAY_SIZE(by_feature); n++)
		if (cpu_has(c, by_feature[n].feat))
			mask |= by_feature[n].bit;
	return mask;
}

u64 cpu_efer_mask(const struct cpu *c)
{
	u64 mask = EFER_SCE;

	if (cpu_has(c, FEAT_LM))
		mask |= EFER_LME | EFER_LMA;
	if (cpu_has(c, FEAT_NX))
		mask |= EFER_NX;
	return mask;
}

int cpu_load_pdptrs(struct cpu *c, u64 cr3)
{
	u64 pdpte[4];

	if (!phys_read_table(c, cr3 & 0xffffffe0, pdpte, sizeof(pdpte)))
		return fault_gp(c, 0);
	for (unsigned n = 0; n < 4; n++)
		if ((pdpte[n] & PDPTE_P) && (pdpte[n] & (PDPTE_RESERVED | cpu_gpa_reserved(c))))
			return fault_gp(c, 0);
	memcpy(c->pdptr, pdpte, sizeof(pdpte));
	return ST_OK;
}

static bool cr0_consistent(u64 v)
{
	return !(v >> 32) && !((v & CR0_NW) && !(v & CR0_CD)) && !((v & CR0_PG) && !(v & CR0_PE));
}

static bool busy_or_free_tss16(const struct seg *tr)
{
	return (tr->attr & (ATTR_TYPE & ~2u)) == 1;
}

/* Switching paging on or off, with what it means for long mode. */
static bool paging_switch_ok(const struct cpu *c, u64 cr0)
{
	if (!(cr0 & CR0_PG))
		return c->mode != CPU_LONG && !(c->cr4 & CR4_PCIDE);
	if (!(c->efer & EFER_LME))
		return true;
	return (c->cr4 & CR4_PAE) && !(c->seg[SEG_CS].attr & ATTR_L) && !busy_or_free_tss16(&c->seg[SEG_TR]);
}

int cpu_write_cr0(struct cpu *c, u64 v)
{
	u64 changed;
	int st;

	if (!cr0_consistent(v))
		return fault_gp(c, 0);
	v = (v & CR0_VALID) | CR0_ET;
	changed = v ^ c->cr0;
	if ((changed & CR0_PG) && !paging_switch_ok(c, v))
		return fault_gp(c, 0);
	if ((v & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LME) && (changed & CR0_RELOADS)) {
		st = cpu_load_pdptrs(c, c->cr3);
		if (st)
			return st;
	}
	c->cr0 = v;
	if (changed & CR0_PG)
		c->efer = (v & CR0_PG) && (c->efer & EFER_LME) ? c->efer | EFER_LMA : c->efer & ~EFER_LMA;
	if (changed & CR0_FLUSHES)
		tlb_flush(c);
	cpu_update_mode(c);
	return ST_OK;
}

int cpu_write_cr3(struct cpu *c, u64 v)
{
	bool tagged = c->cr4 & CR4_PCIDE, keep = tagged && (v & CR3_NOFLUSH);
	int st;

	if (keep)
		v &= ~CR3_NOFLUSH;
	if (v & cpu_gpa_reserved(c))
		return fault_gp(c, 0);
	if (c->paging == PAGING_PAE) {
		st = cpu_load_pdptrs(c, v);
		if (st)
			return st;
	}
	if (!tagged)
		tlb_flush(c);
	else
		tlb_switch(c, c->cr3 & CR3_PCID, v & CR3_PCID, keep);
	c->cr3 = v;
	return ST_OK;
}

int cpu_write_cr4(struct cpu *c, u64 v)
{
	u64 changed = v ^ c->cr4;
	int st;

	if (v & ~cpu_cr4_mask(c))
		return fault_gp(c, 0);
	if (cpu_long_mode(c) && !(v & CR4_PAE))
		return fault_gp(c, 0);
	if ((changed & v & CR4_PCIDE) && (!cpu_long_mode(c) || (c->cr3 & CR3_PCID)))
		return fault_gp(c, 0);
	if ((c->cr0 & CR0_PG) && !cpu_long_mode(c) && (v & CR4_PAE) && (changed & CR4_RELOADS)) {
		st = cpu_load_pdptrs(c, c->cr3);
		if (st)
			return st;
	}
	c->cr4 = v;
	if (changed & CR4_FLUSHES)
		tlb_flush(c);
	cpu_update_mode(c);
	if (changed & CR4_DE)
		debug_update(c);
	return ST_OK;
}

int cpu_write_cr8(struct cpu *c, u64 v)
{
	if (v & ~CR8_VALID)
		return fault_gp(c, 0);
	c->cr8 = v;
	return ST_OK;
}

int cpu_write_efer(struct cpu *c, u64 v, bool host)
{
	u64 changed;

	if (v & ~cpu_efer_mask(c))
		return -EINVAL;
	if (!host && (c->cr0 & CR0_PG) && ((v ^ c->efer) & EFER_LME))
		return -EINVAL;
	v = (v & ~EFER_LMA) | (c->efer & EFER_LMA);
	changed = v ^ c->efer;
	c->efer = v;
	if (changed & EFER_NX)
		tlb_flush(c);
	cpu_update_mode(c);
	return 0;
}

int cpu_write_xcr0(struct cpu *c, u64 v)
{
	if (!fpu_xcr0_valid(v, c->xcr0_allowed))
		return -EINVAL;
	c->fpu.xcr0 = v;
	cpu_update_mode(c);
	return 0;
}

/* ---- KVM_GET_SREGS, KVM_SET_SREGS ---- */

static bool sregs_mode_valid(const struct cpu *c, const struct cpu_sregs *s)
{
	if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG))
		return (s->cr4 & CR4_PAE) && (s->efer & EFER_LMA) && !(s->cr3 & cpu_gpa_reserved(c));
	return !(s->efer & EFER_LMA) && !(s->seg[SEG_CS].attr & ATTR_L);
}

bool cpu_sregs_valid(const struct cpu *c, const struct cpu_sregs *s)
{
	bool canonical = is_canonical(s->gdt.base) && is_canonical(s->idt.base);

	for (unsigned n = 0; n < NR_SEG; n++)
		canonical = canonical && is_canonical(s->seg[n].base);
	return canonical && cr0_consistent(s->cr0) && !(s->cr4 & ~cpu_cr4_mask(c)) && !(s->efer & ~cpu_efer_mask(c)) &&
	       sregs_mode_valid(c, s) && cpu_apic_base_valid(c, s->apic_base);
}

void cpu_get_sregs(const struct cpu *c, struct cpu_sregs *s)
{
	*s = (struct cpu_sregs){
		.gdt = c->gdt,
		.idt = c->idt,
		.cr0 = c->cr0,
		.cr2 = c->cr2,
		.cr3 = c->cr3,
		.cr4 = c->cr4,
		.cr8 = c->cr8,
		.efer = c->efer,
		.apic_base = c->msr.apic_base,
		.has_pdptrs = c->paging == PAGING_PAE,
	};
	memcpy(s->seg, c->seg, sizeof(s->seg));
	memcpy(s->pdptr, c->pdptr, sizeof(s->pdptr));
}

void cpu_set_sregs(struct cpu *c, const struct cpu_sregs *s)
{
	memcpy(c->seg, s->seg, sizeof(s->seg));
	c->gdt = s->gdt;
	c->idt = s->idt;
	c->cr0 = s->cr0;
	c->cr2 = s->cr2;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->efer = s->efer;
	c->msr.apic_base = s->apic_base;
	if (!(s->cr8 & ~CR8_VALID))
		c->cr8 = s->cr8;
	cpu_update_mode(c);
	if (s->has_pdptrs)
		memcpy(c->pdptr, s->pdptr, sizeof(s->pdptr));
	else if (c->paging == PAGING_PAE)
		(void)cpu_load_pdptrs(c, c->cr3); /* unreadable or invalid ones change nothing */
	tlb_flush(c);
	debug_update(c);
	cpu_events_changed(c);
}
