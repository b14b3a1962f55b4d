// SPDX-License-Identifier: MIT
/* RESET, RFLAGS as a whole, and what is derived from the registers so that nobody has to look at many of them. */
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "cpu/tsc.h"
#include "insn/insn.h"
#include "mem/mem.h"

#define NO_LIMIT (~0ull)

#define TYPE_CODE BIT(3)
#define TYPE_EXPAND_DOWN BIT(2)
#define TYPE_READ_WRITE BIT(1) /* code: readable; data: writable */

/* ---- derived state ---- */

static u8 current_mode(const struct cpu *c)
{
	if (!(c->cr0 & CR0_PE))
		return CPU_REAL;
	if (cpu_long_mode(c))
		return c->seg[SEG_CS].attr & ATTR_L ? CPU_LONG : CPU_COMPAT;
	return c->rflags & FL_VM ? CPU_VM86 : CPU_PROT;
}

static u8 current_cpl(const struct cpu *c)
{
	if (c->mode == CPU_REAL)
		return 0;
	if (c->mode == CPU_VM86)
		return 3;
	return (c->seg[SEG_SS].attr >> ATTR_DPL_SHIFT) & 3;
}

static u8 current_code_mode(const struct cpu *c)
{
	bool wide = c->seg[SEG_CS].attr & ATTR_DB;

	switch (c->mode) {
	case CPU_REAL:
		return wide ? DECODE_32_REAL : DECODE_16_REAL;
	case CPU_VM86:
		return DECODE_16_REAL;
	case CPU_LONG:
		return DECODE_64;
	default:
		return wide ? DECODE_32 : DECODE_16;
	}
}

static u8 current_stack_size(const struct cpu *c)
{
	if (c->mode == CPU_LONG)
		return SZ_64;
	return c->seg[SEG_SS].attr & ATTR_DB ? SZ_32 : SZ_16;
}

static u8 current_mmu(const struct cpu *c)
{
	if (c->cpl == 3)
		return MMU_USER;
	return (c->cr4 & CR4_SMAP) && (c->rflags & FL_AC) ? MMU_SUP_AC : MMU_SUP;
}

static u8 current_paging(const struct cpu *c)
{
	if (!(c->cr0 & CR0_PG))
		return PAGING_NONE;
	if (cpu_long_mode(c))
		return PAGING_4LEVEL;
	return c->cr4 & CR4_PAE ? PAGING_PAE : PAGING_32;
}

/* #AC is possible: every access goes the slow way, where alignment is checked. */
static bool alignment_checked(const struct cpu *c)
{
	return c->cpl == 3 && (c->cr0 & CR0_AM) && (c->rflags & FL_AC);
}

/* The soft TLB that accesses without a segment's checks look at: an empty one if each access has to be looked at. */
static struct tlb_entry *current_tlb(const struct cpu *c)
{
	return c->tlb ? tlb_of(c, alignment_checked(c) ? NR_MMU : c->mmu) : NULL;
}

/*
 * All that makes one RIP mean different code: how it is decoded, whose pages are fetched, and CS. A limit is 20 bits
 * and a granularity, so that base and limit fit beside the rest.
 */
static u64 current_code_key(const struct cpu *c)
{
	const struct seg *cs = &c->seg[SEG_CS];
	u64 key = c->code_mode | (u64)c->mode << 3 | (u64)(c->cpl == 3) << 6;

	if (c->mode == CPU_LONG)
		return key;
	key |= (cs->base & 0xffffffff) << 8;
	if (cs->limit > 0xfffff)
		return key | (u64)(cs->limit >> 12) << 40 | BIT64(60);
	return key | (u64)cs->limit << 40;
}

void cpu_update_seg(struct cpu *c, unsigned n)
{
	struct seg *s = &c->seg[n];
	bool code = s->attr & TYPE_CODE, rw = s->attr & TYPE_READ_WRITE;

	s->rd_end = s->wr_end = 0;
	if (alignment_checked(c) || n == SEG_LDTR || n == SEG_TR)
		return;
	if (c->mode == CPU_LONG || n >= NR_SEG) {
		s->rd_end = s->wr_end = NO_LIMIT;
		return;
	}
	if (!code && (s->attr & TYPE_EXPAND_DOWN))
		return;
	if (c->mode < CPU_PROT) {
		s->rd_end = s->wr_end = (u64)s->limit + 1;
		return;
	}
	if ((s->attr & (ATTR_UNUSABLE | ATTR_S | ATTR_P)) != (ATTR_S | ATTR_P))
		return;
	if (!code || rw)
		s->rd_end = (u64)s->limit + 1;
	if (!code && rw)
		s->wr_end = (u64)s->limit + 1;
}

static void update_segs(struct cpu *c)
{
	u64 end = alignment_checked(c) ? 0 : NO_LIMIT;

	if (c->mode == CPU_LONG) { /* the frequent case, on the way of every system call */
		for (unsigned s = 0; s < NR_SEG_ALL; s++)
			c->seg[s].rd_end = c->seg[s].wr_end = end;
		return;
	}
	for (unsigned s = 0; s < NR_SEG_ALL; s++)
		cpu_update_seg(c, s);
}

void cpu_update_mode(struct cpu *c)
{
	c->gpr[R_ZERO] = 0;
	c->mode = current_mode(c);
	c->cpl = current_cpl(c);
	c->code_mode = current_code_mode(c);
	c->stack_size = current_stack_size(c);
	c->lin_mask = c->mode == CPU_LONG ? ~0ull : 0xffffffff;
	c->paging = current_paging(c);
	c->mmu = current_mmu(c);
	c->tlb_cur = current_tlb(c);
	c->fpu_trap = fpu_trap_bits(c->cr0, c->cr4, c->fpu.xcr0);
	c->code_key = current_code_key(c);
	c->code_base = c->mode == CPU_LONG ? 0 : c->seg[SEG_CS].base;
	update_segs(c);
}

/* ---- RFLAGS ---- */

void cpu_set_rflags(struct cpu *c, u64 rflags)
{
	u64 old = c->rflags;

	c->cc = rflags & FL_STATUS;
	c->rflags = rflags & FL_VALID & ~FL_STATUS;
	old ^= c->rflags;
	if (old & (FL_TF | FL_RF))
		debug_update(c);
	if (old & c->rflags & FL_IF) /* opened: something may be deliverable now */
		cpu_events_changed(c);
	if (old & (FL_VM | FL_AC))
		cpu_update_mode(c);
}

void cpu_set_ac(struct cpu *c, bool on)
{
	c->rflags = on ? c->rflags | FL_AC : c->rflags & ~FL_AC;
	c->mmu = current_mmu(c);
	c->tlb_cur = current_tlb(c);
}

/* ---- RESET ---- */

static const struct seg reset_data = { .limit = 0xffff, .attr = ATTR_P | ATTR_S | 3 };
static const struct seg reset_code = {
	.base = 0xffff0000, .limit = 0xffff, .attr = ATTR_P | ATTR_S | 0xb, .sel = 0xf000
};
static const struct seg reset_ldtr = { .limit = 0xffff, .attr = ATTR_P | 2 };
static const struct seg reset_tr = { .limit = 0xffff, .attr = ATTR_P | 0xb };

static void reset_segments(struct cpu *c)
{
	for (unsigned s = 0; s < NR_SEG; s++)
		c->seg[s] = reset_data;
	c->seg[SEG_CS] = reset_code;
	c->seg[SEG_LDTR] = reset_ldtr;
	c->seg[SEG_TR] = reset_tr;
	c->seg[SEG_FLAT] = c->seg[SEG_FLAT_SS] = (struct seg){ .limit = 0xffffffff };
	c->gdt = c->idt = (struct dtable){ .limit = 0xffff };
}

/* The processor's signature, or that of a generic family 6 as the kernel's KVM has it before CPUID is set. */
static u32 reset_rdx(const struct cpu *c)
{
	const struct cpuid_entry *e = cpuid_find(c, 1, 0);

	return e ? e->eax : 0x600;
}

void cpu_reset(struct cpu *c)
{
	memset(c->gpr, 0, sizeof(c->gpr));
	c->gpr[RDX] = reset_rdx(c);
	c->gpr[R_RIP] = 0xfff0;
	c->cc = c->rflags = 0;
	reset_segments(c);
	c->cr0 = CR0_CD | CR0_NW | CR0_ET;
	c->cr2 = c->cr3 = c->cr4 = c->cr8 = c->efer = 0;
	memset(c->pdptr, 0, sizeof(c->pdptr));
	memset(c->dr, 0, sizeof(c->dr));
	c->dr[6] = 0xffff0ff0;
	c->dr[7] = 0x400;
	memset(&c->ev, 0, sizeof(c->ev));
	memset(&c->fault, 0, sizeof(c->fault));
	io_log_clear(c);
	c->pio.pending = c->pio.answered = false;
	c->vectoring = 0;
	c->rep_at = REP_NOWHERE;
	c->cur = NULL;
	fpu_reset(&c->fpu);
	if (!c->tsc_ratio) /* a new vCPU; RESET of a running one leaves the TSC alone, as the kernel's KVM does */
		cpu_set_tsc_khz(c, 0);
	cpuid_changed(c);
	cpu_msr_reset(c);
	debug_update(c);
	cpu_update_mode(c);
	tlb_flush(c);
	cpu_events_changed(c);
}
