/* SPDX-License-Identifier: MIT */
/*
 * The guest-physical address space: an immutable table of slots and aliases. kvm/memory.c makes a new one for each
 * change and replaces cpu::map of every vCPU while all of them rest; the engine only reads it.
 */
#ifndef UKVM_MEM_MAP_H
#define UKVM_MEM_MAP_H

#include "cpu/types.h"
#include "os/lock.h"

struct memslot {
	u64 gpa, size;         /* page-aligned */
	u8 *hva;
	bool readonly;         /* guest writes become MMIO exits */
	u64 *dirty;            /* one bit a page, set atomically when the guest writes; NULL without a log */
};

/* KVM_SET_MEMORY_ALIAS: [gpa, gpa + size) shows what is at target. Not followed twice. */
struct memalias {
	u64 gpa, size, target;
};
#define MAX_ALIASES 4

struct memmap {
	u32 nr_slots, nr_aliases;
	struct memalias alias[MAX_ALIASES];
	struct os_lock split; /* all that changes: held by a vCPU for a locked access to two pages (mem/access.c) */
	struct memslot slot[]; /* sorted by gpa, not overlapping */
};

/* The slot that backs gpa (after aliases), or NULL: no memory there. *off is the offset of gpa in it. */
const struct memslot *map_find(const struct memmap *m, u64 gpa, u64 *off);

/* Host address of gpa, or NULL. *left (may be NULL) is how many bytes follow contiguously. Not for guest writes. */
void *map_ptr(const struct memmap *m, u64 gpa, u64 *left);

/* The client's address of an offset; whatever it gave as the slot's, which may well be NULL or not be mapped. */
static inline u8 *memslot_host(const struct memslot *s, u64 off)
{
	return (u8 *)((uintptr_t)s->hva + off);
}

static inline void memslot_mark_dirty(const struct memslot *s, u64 off)
{
	u64 page = off >> PAGE_SHIFT, bit = BIT64(page & 63);

	if (s->dirty && !(__atomic_load_n(&s->dirty[page >> 6], __ATOMIC_RELAXED) & bit))
		__atomic_fetch_or(&s->dirty[page >> 6], bit, __ATOMIC_SEQ_CST);
}

#endif
