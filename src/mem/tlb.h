/* SPDX-License-Identifier: MIT */
/*
 * Behind the soft TLB's fast path (mem.h): what a linear address is. Entries exist only for ordinary memory and only
 * for accesses that need nothing but the copy; everything else (MMIO, read-only slots, pages to be marked dirty, pages
 * with cached code, watched pages) has no tag and comes here each time.
 */
#ifndef UKVM_MEM_TLB_H
#define UKVM_MEM_TLB_H

#include "mem/code.h"
#include "mem/map.h"
#include "mem/mem.h"

/* One page's part of an access. */
struct page_ref {
	u8 *host;               /* NULL: MMIO at gpa */
	u64 gpa;
	struct code_page *code; /* a write would change cached code */
	u32 size;
};

/*
 * Translates for one access within a page, marks the page dirty when it writes, and fills the TLB. ST_OK, ST_FAULT, or
 * ST_EXIT (a page table in MMIO).
 */
int tlb_resolve(struct cpu *c, unsigned mmu, u64 lin, unsigned size, enum mem_access how, struct page_ref *r);

/* An MMIO access of any size: by fragments of at most 8 bytes, each answered once (io.c). */
int mmio_access(struct cpu *c, u64 gpa, void *data, unsigned size, bool write);

#endif
