/* SPDX-License-Identifier: MIT */
/*
 * A random but plausible machine: a mode, descriptor tables, page tables, code, registers, x87 and SSE state. Memory is
 * small, and has what memory can have: two slots with a dirty log, one of ROM, a hole where devices are.
 */
#ifndef UKVM_TESTS_FUZZ_GUEST_H
#define UKVM_TESTS_FUZZ_GUEST_H

#include "cpu/cpu.h"
#include "mem/map.h"

#include "fuzz.h"

#define GUEST_PAGES 64
#define GUEST_BYTES (GUEST_PAGES * PAGE_SIZE)

#define RAM_END 0x30000u
#define ROM_END 0x34000u
#define HOLE_END 0x38000u
#define HIGH_END 0x40000u
#define ALIAS_BASE 0x40000u /* shows what is at ALIAS_TARGET */
#define ALIAS_TARGET 0x10000u
#define ALIAS_BYTES 0x4000u

#define GDT_AT 0x1000u
#define IDT_AT 0x2000u
#define TSS_AT 0x3000u
#define LDT_AT 0x3800u
#define CODE_AT 0x4000u
#define HANDLERS_AT 0x6000u
#define STACKS_AT 0x8000u
#define TABLES_AT 0x10000u
#define TABLES_END 0x18000u

/* The GDT; what follows SEL_RANDOM is random. */
enum {
	SEL_CODE0 = 0x08,
	SEL_DATA0 = 0x10,
	SEL_CODE3 = 0x18,
	SEL_DATA3 = 0x20,
	SEL_CODE16 = 0x28,
	SEL_DATA16 = 0x30,
	SEL_CODE32 = 0x38,
	SEL_TSS = 0x40, /* 16 bytes */
	SEL_LDT = 0x50, /* 16 bytes */
	SEL_TSS2 = 0x60,
	SEL_RANDOM = 0x70,
	GDT_BYTES = 0x200,
};

enum guest_mode { GUEST_REAL, GUEST_VM86, GUEST_PROT16, GUEST_PROT32, GUEST_COMPAT, GUEST_LONG, NR_GUEST_MODES };

struct guest {
	struct cpu cpu;
	struct memmap *map;
	u8 *mem;                /* host memory; the order of the slots in it is not that of their addresses */
	u64 dirty[2];           /* the logs of the two slots of RAM */
	u8 pio_data[PAGE_SIZE]; /* what kvm_run has for the client */
};

/* Once; a machine is made anew for every input by guest_make(). */
struct guest *guest_new(void);
void guest_make(struct guest *g, struct choices *in);
/* Makes g what from is after guest_make(). */
void guest_copy_of(struct guest *g, const struct guest *from);

/* A random instruction of the mode, most likely one that exists: its length. */
unsigned guest_insn(struct choices *in, unsigned decode_mode, u8 *bytes);

/* The page of guest memory at a physical address as a number from 0 to GUEST_PAGES - 1 (by address); -1: none. */
int guest_page(const struct guest *g, u64 gpa);
/* Bits of pages that the logs say were written. */
u64 guest_dirty(const struct guest *g);

#endif
