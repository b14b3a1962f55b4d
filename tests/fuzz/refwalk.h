/* SPDX-License-Identifier: MIT */
/*
 * A page walk that shares nothing with cpu/paging.c: SDM vol. 3, 4.3 to 4.6, read top down, one paging mode after the
 * other. It changes nothing; entries that lie in no memory make it give up.
 */
#ifndef UKVM_TESTS_FUZZ_REFWALK_H
#define UKVM_TESTS_FUZZ_REFWALK_H

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "mem/map.h"
#include "mem/mem.h"

struct refwalk {
	bool gave_up; /* a table lies in a device */
	bool fault;
	u32 error;
	u64 gpa;
	unsigned shift;
	bool may_write, may_exec, dirty; /* for the privilege asked for, once the access is made */
	unsigned n, entry_size;
	u64 at[4], entry[4]; /* what was read, and where */
};

struct refwalk_access {
	u64 lin;
	bool write, user, exec, lifted;
};

static inline u64 refwalk_entry(const struct cpu *c, struct refwalk *w, u64 at)
{
	u64 off, v = 0;
	const struct memslot *s = map_find(c->map, at, &off);

	w->at[w->n] = at;
	if (s)
		memcpy(&v, s->hva + off, w->entry_size);
	else
		w->gave_up = true;
	w->entry[w->n++] = v;
	return v;
}

static inline void refwalk_fault(const struct cpu *c, const struct refwalk_access *a, struct refwalk *w, bool present,
				 bool reserved)
{
	bool nx = (c->efer & EFER_NX) && (c->cr4 & CR4_PAE);

	w->fault = true;
	w->error = (present ? 1 : 0) | (a->write ? 2 : 0) | (a->user ? 4 : 0) | (reserved ? 8 : 0);
	if (a->exec && (nx || (c->cr4 & CR4_SMEP)))
		w->error |= 16;
}

/* 4.6.1, and protection keys (4.6.2) */
static inline void refwalk_rights(const struct cpu *c, const struct refwalk_access *a, struct refwalk *w,
				  bool user_page, bool writable, bool nx)
{
	u64 leaf = w->entry[w->n - 1];
	bool read = true, write = writable, exec = !nx, keyed = false;
	unsigned key = (unsigned)(leaf >> 59) & 15;

	if (a->user && !user_page)
		read = write = exec = false;
	if (!a->user) {
		write = writable || !(c->cr0 & CR0_WP);
		if (user_page && (c->cr4 & CR4_SMEP))
			exec = false;
		if (user_page && (c->cr4 & CR4_SMAP) && !a->lifted)
			read = write = false;
	}
	if ((c->cr4 & CR4_PKE) && (c->efer & EFER_LMA) && user_page) {
		bool ad = c->fpu.pkru >> (2 * key) & 1, wd = c->fpu.pkru >> (2 * key + 1) & 1;
		bool no_write = wd && (a->user || (c->cr0 & CR0_WP));

		keyed = !a->exec && (ad || (a->write && no_write));
		write = write && !ad && !no_write;
		read = read && !ad;
	}
	if (!(a->exec ? exec : a->write ? write : read)) {
		refwalk_fault(c, a, w, true, false);
		w->error |= keyed ? 32 : 0;
		return;
	}
	w->may_write = write;
	w->may_exec = exec;
	w->dirty = (leaf & 0x40) || a->write;
}

static inline void refwalk_32(const struct cpu *c, const struct refwalk_access *a, struct refwalk *w)
{
	u64 pde = refwalk_entry(c, w, (c->cr3 & 0xfffff000) | (a->lin >> 22 << 2 & 0xffc)), pte;
	unsigned high = c->phys_bits < 40 ? c->phys_bits - 32 : 8; /* PSE-36 */

	if (!(pde & 1)) {
		refwalk_fault(c, a, w, false, false);
		return;
	}
	if ((pde & 0x80) && (c->cr4 & CR4_PSE)) {
		if (!cpu_has(c, FEAT_PSE36))
			high = 0;
		if ((pde & 0x3fe000) >> (13 + high)) {
			refwalk_fault(c, a, w, true, true);
			return;
		}
		w->shift = 22;
		w->gpa = (pde & 0xffc00000) | (pde >> 13 & ((1u << high) - 1)) << 32 | (a->lin & 0x3fffff);
		refwalk_rights(c, a, w, pde & 4, pde & 2, false);
		return;
	}
	pte = refwalk_entry(c, w, (pde & 0xfffff000) | (a->lin >> 12 << 2 & 0xffc));
	if (!(pte & 1)) {
		refwalk_fault(c, a, w, false, false);
		return;
	}
	w->shift = 12;
	w->gpa = (pte & 0xfffff000) | (a->lin & 0xfff);
	refwalk_rights(c, a, w, pde & pte & 4, pde & pte & 2, false);
}

/* From the table for bits shift + 8 to shift downwards: PAE's last two levels, or all of 4-level paging. */
static inline void refwalk_64(const struct cpu *c, const struct refwalk_access *a, struct refwalk *w, u64 table,
			      unsigned shift, bool pae)
{
	bool user = true, writable = true, nx = false;
	u64 phys = (1ull << c->phys_bits) - 1, e;

	for (;; shift -= 9) {
		bool leaf, may_be_page = shift == 21 || (shift == 30 && cpu_has(c, FEAT_GBPAGES));
		u64 reserved = ~phys & 0xfffffffffffffull;

		e = refwalk_entry(c, w, (table & phys & ~0xfffull) | (a->lin >> shift << 3 & 0xff8));
		if (!(e & 1)) {
			refwalk_fault(c, a, w, false, false);
			return;
		}
		leaf = shift == 12 || ((e & 0x80) && may_be_page);
		if (pae)
			reserved |= 0x7ff0000000000000ull;
		if (!(c->efer & EFER_NX))
			reserved |= 1ull << 63;
		if (shift > 21 && !may_be_page)
			reserved |= 0x80;
		if (leaf && shift > 12)
			reserved |= ((1ull << shift) - 1) & ~0x1fffull;
		if (e & reserved) {
			refwalk_fault(c, a, w, true, true);
			return;
		}
		user = user && (e & 4);
		writable = writable && (e & 2);
		nx = nx || (e >> 63);
		if (leaf)
			break;
		table = e & 0xffffffffff000ull;
	}
	w->shift = shift;
	w->gpa = (e & phys & ~((1ull << shift) - 1) & ~0xfffull) | (a->lin & ((1ull << shift) - 1));
	refwalk_rights(c, a, w, user, writable, nx);
}

static inline struct refwalk refwalk(const struct cpu *c, const struct refwalk_access *a)
{
	struct refwalk w = { .entry_size = 8 };

	if (!(c->cr0 & CR0_PG)) {
		w.gpa = a->lin;
		w.shift = 12;
		w.may_write = w.may_exec = w.dirty = true;
	} else if (c->efer & EFER_LMA) {
		refwalk_64(c, a, &w, c->cr3, 39, false);
	} else if (c->cr4 & CR4_PAE) {
		u64 pdpte = c->pdptr[a->lin >> 30 & 3];

		if (pdpte & 1)
			refwalk_64(c, a, &w, pdpte, 21, true);
		else
			refwalk_fault(c, a, &w, false, false);
	} else {
		w.entry_size = 4;
		refwalk_32(c, a, &w);
	}
	return w;
}

#endif
