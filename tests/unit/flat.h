/* SPDX-License-Identifier: MIT */
/* A guest CPU with a flat array as memory: what unit tests and fuzzers run code on. */
#ifndef UKVM_TESTS_UNIT_FLAT_H
#define UKVM_TESTS_UNIT_FLAT_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpu.h"
#include "interp/interp.h"
#include "jit/jit.h"
#include "mem/code.h"
#include "mem/map.h"
#include "mem/mem.h"

struct flat {
	struct cpu cpu;
	struct memmap *map;
	u8 *mem;
	u64 size;
	u8 pio_data[4096];
};

/* Memory at gpa 0; the CPU after RESET. */
static inline struct flat *flat_new(u64 size)
{
	struct flat *f = aligned_alloc(64, (sizeof(*f) + 63) & ~63ul);

	memset(f, 0, sizeof(*f));
	f->size = size;
	f->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f->map = calloc(1, sizeof(*f->map) + sizeof(struct memslot));
	f->map->nr_slots = 1;
	f->map->slot[0] = (struct memslot){ .size = size, .hva = f->mem };
	f->cpu.map = f->map;
	f->cpu.pio.data = f->pio_data;
	f->cpu.pio.data_size = sizeof(f->pio_data);
	f->cpu.phys_bits = 40;
	tlb_init(&f->cpu);
	code_init(&f->cpu);
	cpu_reset(&f->cpu);
	return f;
}

static inline void flat_free(struct flat *f)
{
	tlb_free(&f->cpu);
	jit_free(&f->cpu);
	code_free(&f->cpu);
	munmap(f->mem, f->size);
	free(f->map);
	free(f);
}

static inline void flat_seg(struct cpu *c, unsigned s, u16 sel, u64 base, u32 limit, u32 attr)
{
	c->seg[s] = (struct seg){ .sel = sel, .base = base, .limit = limit, .attr = attr };
}

/* Real mode, all segments at 0. */
static inline void flat_real(struct flat *f, u64 rip)
{
	struct cpu *c = &f->cpu;

	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		flat_seg(c, s, 0, 0, 0xffff, 0x93);
	c->gpr[R_RIP] = rip;
	cpu_update_mode(c);
}

/* Protected mode, flat 4 GiB segments, ring 0, no paging. */
static inline void flat_prot(struct flat *f, u64 rip)
{
	struct cpu *c = &f->cpu;

	c->cr0 = CR0_PE | CR0_ET | CR0_NE;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		flat_seg(c, s, 0x10, 0, 0xffffffff, 0xc093);
	flat_seg(c, SEG_CS, 8, 0, 0xffffffff, 0xc09b);
	c->gpr[R_RIP] = rip;
	cpu_update_mode(c);
}

/* 64-bit mode, ring 0; identity-maps all memory by 2 MiB pages with tables at the end of memory. */
static inline void flat_long(struct flat *f, u64 rip)
{
	struct cpu *c = &f->cpu;
	u64 pml4 = f->size - 3 * PAGE_SIZE, pdpt = pml4 + PAGE_SIZE, pd = pdpt + PAGE_SIZE;

	*(u64 *)(f->mem + pml4) = pdpt | 7;
	*(u64 *)(f->mem + pdpt) = pd | 7;
	for (u64 n = 0; n < 512; n++)
		*(u64 *)(f->mem + pd + 8 * n) = (n << 21) | 0x87;
	c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG | CR0_WP;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->cr3 = pml4;
	c->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		flat_seg(c, s, 0x10, 0, 0xffffffff, 0xc093);
	flat_seg(c, SEG_CS, 8, 0, 0xffffffff, 0xa09b);
	c->gpr[R_RIP] = rip;
	cpu_update_mode(c);
	tlb_flush(c);
}

#endif
