// SPDX-License-Identifier: MIT
/*
 * User mode of a guest in long mode, with Linux's selectors. A fault goes through the guest's IDT to a HLT of its own
 * for each vector, and is read from the frame there. A case that reaches its end does so, too: the engine has no page
 * where the native side has its exits.
 */
#include "engine.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/flat.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "insn/feature.h"

/* Guest-physical layout */
#define GPA_SIZE (2u << 20)
#define GPA_GDT 0x1000u
#define GPA_IDT 0x2000u
#define GPA_TSS 0x3000u
#define GPA_STACK 0x4000u   /* a page of it */
#define GPA_HANDLER 0x5000u
#define GPA_TABLES 0x10000u
#define GPA_MEM 0x100000u
#define GPA_CODE 0x140000u
#define GPA_DEVICE 0x40000000u /* no memory */

/* The kernel's pages lie at this linear address, in the half that Linux hides from user mode. */
#define KERNEL 0xffff900040000000u
#define KERNEL_CS 0x10
#define TSS_SEL 0x40
#define CPU_NUMBER_SEL 0x78
#define STACK_TOP (KERNEL + GPA_STACK + 0x1000)

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_NX BIT64(63)

/* ---- tables ---- */

struct tables {
	u8 *mem;
	u64 next;
};

static u64 *entry_of(struct tables *t, u64 table, u64 linear, unsigned level)
{
	return (u64 *)(t->mem + table) + (linear >> (12 + 9 * level) & 511);
}

static void map_page(struct tables *t, u64 linear, u64 gpa, u64 flags)
{
	u64 table = GPA_TABLES;

	for (unsigned level = 3; level; level--) {
		u64 *e = entry_of(t, table, linear, level);

		if (!*e) {
			t->next += 4096;
			*e = t->next | PTE_P | PTE_W | PTE_U;
		}
		table = *e & 0xfffff000;
	}
	*entry_of(t, table, linear, 0) = gpa | flags | PTE_P;
}

static void map_image(struct tables *t, u32 devices)
{
	for (u32 n = 0; n < NR_MEM_PAGES; n++)
		map_page(t, mem_pages[n].linear, (devices >> n & 1 ? GPA_DEVICE : GPA_MEM) + n * 4096,
			 PTE_U | PTE_NX | (mem_pages[n].writable ? PTE_W : 0));
}

static void make_tables(u8 *mem)
{
	struct tables t = { mem, GPA_TABLES };

	map_image(&t, 0);
	for (u32 n = 0; n < CODE_PAGES; n++)
		map_page(&t, CODE_BASE + n * 4096, GPA_CODE + n * 4096, PTE_U);
	for (u32 gpa = 0; gpa < GPA_HANDLER + 4096; gpa += 4096)
		map_page(&t, KERNEL + gpa, gpa, PTE_W);
}

/* ---- descriptors ---- */

static void put64(u8 *mem, u64 at, u64 v)
{
	memcpy(mem + at, &v, 8);
}

/* ar as LAR gives it: bits 8 to 23 of a descriptor's upper half. */
static void put_desc(u8 *mem, u16 sel, u64 base, u32 limit, u32 ar)
{
	u32 low = ar & 0x800000 ? limit >> 12 : limit;

	put64(mem, GPA_GDT + (sel & 0xfff8), (u64)(ar & 0xf0ff00) << 32 | (u64)(low & 0xf0000) << 32 | (low & 0xffff) |
						     (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56);
}

static void put_gate(u8 *mem, unsigned vector, u64 off, unsigned dpl)
{
	u64 at = GPA_IDT + 16 * vector;

	put64(mem, at, (off & 0xffff) | KERNEL_CS << 16 | (u64)(0x8e | dpl << 5) << 40 | (off >> 16 & 0xffff) << 48);
	put64(mem, at + 8, off >> 32);
}

static void make_descriptors(u8 *mem)
{
	u32 limit, ar;

	for (u16 sel = 8; sel < 0x80; sel += 8) {
		ar = native_lar(sel | 3, &limit);
		if (ar)
			put_desc(mem, sel, 0, limit, ar);
	}
	put_desc(mem, KERNEL_CS, 0, 0xffffffff, 0xa09b00);
	put_desc(mem, TSS_SEL, KERNEL + GPA_TSS, 0x67, 0x8b00);
	put64(mem, GPA_GDT + TSS_SEL + 8, (KERNEL + GPA_TSS) >> 32);
	put64(mem, GPA_TSS + 4, STACK_TOP);
	mem[GPA_TSS + 102] = 0x68; /* behind the limit: no I/O permission bitmap */
	for (unsigned v = 0; v < 256; v++)
		put_gate(mem, v, KERNEL + GPA_HANDLER + v, v == VEC_BP || v == VEC_OF ? 3 : 0);
	memset(mem + GPA_HANDLER, 0xf4, 4096);
}

/* A segment register from its descriptor. */
static struct seg seg_from(const u8 *mem, u16 sel)
{
	struct seg s = { .sel = sel };
	u64 raw;

	if (sel < 4) {
		s.attr = ATTR_UNUSABLE;
		return s;
	}
	memcpy(&raw, mem + GPA_GDT + (sel & 0xfff8), 8);
	s.base = (raw >> 16 & 0xffffff) | (raw >> 56) << 24;
	s.limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
	s.attr = raw >> 40 & 0xf0ff;
	if (s.attr & ATTR_G)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

void engine_init(struct engine *e, const struct native *n, bool translate)
{
	struct cpu *c;

	e->f = flat_new(GPA_SIZE);
	c = &e->f->cpu;
	if (translate && !interp_translate(c))
		c->code->heat = 1;
	e->mem = e->f->mem + GPA_MEM;
	e->code = e->f->mem + GPA_CODE;
	memcpy(e->sel, n->sel, sizeof(e->sel));
	c->nr_cpuid = cpuid_supported(c->cpuid, CPUID_MAX_ENTRIES);
	cpuid_changed(c);
	make_tables(e->f->mem);
	make_descriptors(e->f->mem);
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	if (n->fsgsbase)
		c->cr4 |= CR4_FSGSBASE;
	c->cr3 = GPA_TABLES;
	c->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX;
	c->fpu.xcr0 = XC_X87 | XC_SSE | XC_AVX;
	c->gdt = (struct dtable){ KERNEL + GPA_GDT, 0x7f };
	c->idt = (struct dtable){ KERNEL + GPA_IDT, 0xfff };
	c->seg[SEG_TR] = seg_from(e->f->mem, TSS_SEL);
	c->seg[SEG_TR].base = KERNEL + GPA_TSS;
	c->seg[SEG_LDTR].attr = ATTR_UNUSABLE;
	cpu_update_mode(c);
	tlb_flush(c);
}

void engine_as_intel(struct engine *e)
{
	struct cpu *c = &e->f->cpu;

	for (u32 n = 0; n < c->nr_cpuid; n++)
		if (!c->cpuid[n].function) {
			c->cpuid[n].ebx = signature_INTEL_ebx;
			c->cpuid[n].ecx = signature_INTEL_ecx;
			c->cpuid[n].edx = signature_INTEL_edx;
		}
	cpuid_changed(c);
	cpu_update_mode(c);
}

void engine_set_devices(struct engine *e, u32 pages)
{
	struct tables t = { e->f->mem, GPA_TABLES }; /* which are all there */

	e->devices = pages;
	map_image(&t, pages);
	tlb_flush(&e->f->cpu);
}

bool engine_has(struct engine *e, unsigned feature)
{
	const struct feature_bit *f = &insn_features[feature];
	const struct cpuid_entry *entry;

	if (feature <= FEATURE_FPU)
		return true;
	entry = cpuid_find(&e->f->cpu, f->leaf, f->subleaf);
	return entry && ((&entry->eax)[f->reg] >> f->bit & 1);
}

/* ---- a case ---- */

#define YMM_OFFSET 576

static void load_vectors(struct fpu *f, const u8 *image)
{
	u64 xcr0 = f->xcr0;

	fx_get_x87(f, image, FX_64);
	fx_get_xmm(f, image, 16);
	memcpy(&f->mxcsr, image + 24, 4);
	for (unsigned n = 0; n < 16; n++)
		memcpy(f->vec[n] + 16, image + YMM_OFFSET + 16 * n, 16);
	f->xcr0 = xcr0;
}

static void store_vectors(const struct fpu *f, u8 *image)
{
	memset(image, 0, XSAVE_IMAGE);
	fx_put_x87(f, image, FX_64);
	fx_put_xmm(f, image, 16);
	memcpy(image + 24, &f->mxcsr, 4);
	for (unsigned n = 0; n < 16; n++)
		memcpy(image + YMM_OFFSET + 16 * n, f->vec[n] + 16, 16);
}

/* Compatibility mode: the selectors stay what they are, as if the descriptors had been others. */
static void load_narrow_segments(struct cpu *c, const struct test_case *t)
{
	struct seg *cs = &c->seg[SEG_CS];

	cs->base = t->cs_base;
	cs->limit = ~0u;
	cs->attr &= (u16)~(ATTR_L | ATTR_DB);
	cs->attr |= t->width == WIDTH_32 ? ATTR_DB : 0;
	c->seg[SEG_ES].base = c->seg[SEG_SS].base = c->seg[SEG_DS].base = t->data_base;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		if (s != SEG_CS) {
			c->seg[s].limit = ~0u;
			c->seg[s].attr = c->seg[SEG_SS].attr;
		}
}

/* Linux has the CPU's number as the limit of this segment, for LSL to ask: the thread may run on another one now. */
static void put_cpu_number(u8 *mem)
{
	u32 limit, ar = native_lar(CPU_NUMBER_SEL | 3, &limit);

	if (ar)
		put_desc(mem, CPU_NUMBER_SEL, 0, limit, ar);
}

static void load_state(struct engine *e, const struct test_case *t)
{
	struct cpu *c = &e->f->cpu;

	put_cpu_number(e->f->mem);
	memcpy(c->gpr, t->in.gpr, sizeof(t->in.gpr));
	c->gpr[R_RIP] = t->in.rip - t->cs_base;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		c->seg[s] = seg_from(e->f->mem, e->sel[s]);
	c->seg[SEG_FS].base = FS_BASE;
	c->seg[SEG_GS].base = GS_BASE;
	if (t->width != WIDTH_64)
		load_narrow_segments(c, t);
	c->cr2 = 0;
	memset(&c->ev, 0, sizeof(c->ev));
	c->io.n = c->io.cursor = 0;
	c->dr[6] = 0xffff0ff0;
	load_vectors(&c->fpu, t->in.xsave);
	cpu_set_rflags(c, t->in.rflags);
	cpu_update_mode(c);
	cpu_attn_clear(c, ~0u & ~ATTN_STEP);
}

/* Pops the frame that the handler of the vector found on the kernel's stack. */
static void read_frame(struct engine *e, const struct test_case *t, struct outcome *o)
{
	const struct cpu *c = &e->f->cpu;
	const u8 *p = e->f->mem + GPA_STACK + 0x1000 - (STACK_TOP - c->gpr[RSP]);
	u64 frame[5];

	o->vector = (u8)(c->gpr[R_RIP] - 1 - (KERNEL + GPA_HANDLER));
	if (STACK_TOP - c->gpr[RSP] == 48) {
		o->error = *(const u32 *)p;
		p += 8;
	}
	memcpy(frame, p, sizeof(frame));
	o->s.rip = frame[0] + t->cs_base;
	o->s.sel[SEG_CS] = (u16)frame[1];
	o->s.rflags = frame[2];
	o->s.gpr[RSP] = frame[3];
	o->s.sel[SEG_SS] = (u16)frame[4];
	if (o->vector == VEC_PF)
		o->cr2 = c->cr2;
}

static void find_exit(struct outcome *o)
{
	u64 off = o->cr2 - EXIT_BASE;

	if (o->vector != VEC_PF || off >= NR_EXITS * EXIT_SPACING || off % EXIT_SPACING || o->s.rip != o->cr2)
		return;
	o->vector = NO_FAULT;
	o->exit = (u32)(off / EXIT_SPACING);
	o->error = 0;
	o->cr2 = 0;
	o->s.rip = 0;
	o->s.rflags &= ~FL_RF;
}

/* ---- devices ---- */

static bool memory_changed(const struct engine *e)
{
	for (u32 n = 0; n < NR_MEM_PAGES; n++)
		if (!(e->devices >> n & 1) && memcmp(e->mem + n * 4096, e->image + n * 4096, 4096))
			return true;
	return false;
}

/* A client that does not come back, or saves the vCPU now, has to find the state of before the instruction. */
static void check_nothing_done(struct engine *e, const struct test_case *t, const u8 *vectors, u64 rflags)
{
	static u8 now[XSAVE_IMAGE] __attribute__((aligned(64)));
	const struct cpu *c = &e->f->cpu;

	if (e->early || !t->at_once || (t->branches && c->gpr[R_RIP] != t->in.rip - t->cs_base))
		return;
	store_vectors(&c->fpu, now);
	if (c->gpr[R_RIP] != t->in.rip - t->cs_base)
		e->early = "RIP changed before the device answered";
	else if (memcmp(c->gpr, t->in.gpr, sizeof(t->in.gpr)))
		e->early = "registers changed before the device answered";
	else if (cpu_rflags(c) != rflags)
		e->early = "flags changed before the device answered";
	else if (memcmp(now, vectors, sizeof(now)))
		e->early = "vectors changed before the device answered";
	else if (!t->in_pieces && memory_changed(e))
		e->early = "memory changed before the device answered";
}

/* The client's part: kvm/run.c's take_mmio(). */
static bool answer(struct engine *e)
{
	struct cpu *c = &e->f->cpu;
	struct io_access *a = &c->io.acc[c->io.n - 1];
	u64 off = a->gpa - GPA_DEVICE;

	if (off >= MEM_SIZE || a->len > 8 || !(e->devices >> off / 4096 & 1))
		return false;
	if (a->write)
		memcpy(e->mem + off, c->exit.mmio.data, a->len);
	else
		memcpy(&a->data, e->mem + off, a->len);
	a->answered = true;
	cpu_attn(c, ATTN_RESUME);
	return true;
}

static enum exit_reason run(struct engine *e, const struct test_case *t)
{
	static u8 vectors[XSAVE_IMAGE] __attribute__((aligned(64)));
	struct cpu *c = &e->f->cpu;
	struct fpu_host host;
	u64 rflags = cpu_rflags(c);
	enum exit_reason why;

	store_vectors(&c->fpu, vectors);
	e->early = NULL;
	for (;;) {
		fpu_host_enter(&host);
		why = interp_run(c);
		fpu_host_leave(&host);
		if (why != EXIT_MMIO)
			return why;
		check_nothing_done(e, t, vectors, rflags);
		if (!answer(e))
			return why;
	}
}

void engine_run(struct engine *e, const struct test_case *t, struct outcome *o)
{
	struct cpu *c = &e->f->cpu;
	enum exit_reason why;

	load_state(e, t);
	code_serialize(c);
	why = run(e, t);
	memcpy(o->s.gpr, c->gpr, sizeof(o->s.gpr));
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		o->s.sel[s] = c->seg[s].sel;
	store_vectors(&c->fpu, o->s.xsave);
	o->error = o->exit = 0;
	o->cr2 = 0;
	if (why != EXIT_HLT || c->gpr[R_RIP] < KERNEL) {
		o->vector = 0xfe;
		o->error = why;
		o->s.rip = c->gpr[R_RIP];
		o->s.rflags = cpu_rflags(c);
		return;
	}
	read_frame(e, t, o);
	find_exit(o);
}
