// SPDX-License-Identifier: MIT
/* Guest-physical accesses that the CPU makes itself. */
#include <string.h>

#include "mem/tlb.h"

/* Our own cached code in a page that is written behind the TLB's back. */
static void phys_written(struct cpu *c, const struct memslot *s, u64 off, unsigned size)
{
	struct code_page *p;

	memslot_mark_dirty(s, off);
	if (!c->code)
		return;
	p = code_page_find(c->code, memslot_host(s, off & PAGE_MASK));
	if (p)
		code_written(c, p, off & ~PAGE_MASK, size);
}

int phys_read(struct cpu *c, u64 gpa, void *out, unsigned size)
{
	u64 off;
	const struct memslot *s;

	while (size) {
		unsigned part = (unsigned)min_u64(size, PAGE_SIZE - (gpa & ~PAGE_MASK));
		int st = ST_OK;

		s = map_find(c->map, gpa, &off);
		if (s)
			guest_copy(out, memslot_host(s, off), part);
		else
			st = mmio_access(c, gpa, out, part, false);
		if (st)
			return st;
		gpa += part;
		out = (u8 *)out + part;
		size -= part;
	}
	return ST_OK;
}

bool phys_read_table(struct cpu *c, u64 gpa, void *out, unsigned size)
{
	u64 off;
	const struct memslot *s = map_find(c->map, gpa, &off);

	if (!s)
		return false;
	guest_copy(out, memslot_host(s, off), size);
	return true;
}

int phys_write(struct cpu *c, u64 gpa, const void *in, unsigned size)
{
	u64 off;
	const struct memslot *s;

	while (size) {
		unsigned part = (unsigned)min_u64(size, PAGE_SIZE - (gpa & ~PAGE_MASK));
		int st = ST_OK;

		s = map_find(c->map, gpa, &off);
		if (s && !s->readonly) {
			phys_written(c, s, off, part);
			guest_copy(memslot_host(s, off), in, part);
		} else {
			st = mmio_access(c, gpa, (void *)(uintptr_t)in, part, true);
		}
		if (st)
			return st;
		gpa += part;
		in = (const u8 *)in + part;
		size -= part;
	}
	return ST_OK;
}

int phys_cmpxchg(struct cpu *c, u64 gpa, unsigned size, u64 old, u64 new, u64 *now)
{
	u64 off;
	const struct memslot *s = map_find(c->map, gpa, &off);

	/* A page table in a read-only slot or in a device keeps its bits, as on a bus that ignores writes. */
	*now = old;
	if (!s || s->readonly)
		return ST_OK;
	phys_written(c, s, off, size);
	if (size == 8) {
		__atomic_compare_exchange_n((u64 *)memslot_host(s, off), now, new, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
	} else {
		u32 old32 = (u32)old;

		__atomic_compare_exchange_n((u32 *)memslot_host(s, off), &old32, (u32) new, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		*now = old32;
	}
	return ST_OK;
}
