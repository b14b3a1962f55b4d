// SPDX-License-Identifier: MIT
#include "mem/map.h"

static u64 unalias(const struct memmap *m, u64 gpa)
{
	for (u32 n = 0; n < m->nr_aliases; n++) {
		const struct memalias *a = &m->alias[n];

		if (gpa - a->gpa < a->size)
			return a->target + (gpa - a->gpa);
	}
	return gpa;
}

const struct memslot *map_find(const struct memmap *m, u64 gpa, u64 *off)
{
	u32 lo = 0, hi = m ? m->nr_slots : 0;

	if (!hi)
		return NULL;
	if (unlikely(m->nr_aliases))
		gpa = unalias(m, gpa);
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;
		const struct memslot *s = &m->slot[mid];

		if (gpa < s->gpa) {
			hi = mid;
		} else if (gpa - s->gpa >= s->size) {
			lo = mid + 1;
		} else {
			*off = gpa - s->gpa;
			return s;
		}
	}
	return NULL;
}

void *map_ptr(const struct memmap *m, u64 gpa, u64 *left)
{
	u64 off;
	const struct memslot *s = map_find(m, gpa, &off);

	if (!s)
		return NULL;
	/* An alias ends where it ends, not where its target's slot does; a page is always safe. */
	if (left)
		*left = m->nr_aliases ? PAGE_SIZE - (gpa & ~PAGE_MASK) : s->size - off;
	return memslot_host(s, off);
}
