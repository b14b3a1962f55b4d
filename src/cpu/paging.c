// SPDX-License-Identifier: MIT
/*
 * The page walk (SDM vol. 3, 4.3 to 4.6): one walk over a table of levels for 32-bit, PAE and 4-level paging. PAE's top
 * level is not walked: its four entries are in registers.
 */
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "mem/mem.h"

#define PTE_P BIT64(0)
#define PTE_W BIT64(1)
#define PTE_U BIT64(2)
#define PTE_A BIT64(5)
#define PTE_D BIT64(6)
#define PTE_PS BIT64(7)
#define PTE_G BIT64(8)
#define PTE_NX BIT64(63)
#define PTE_KEY_SHIFT 59

/* The two bits of a key in PKRU */
#define PKRU_AD 1u
#define PKRU_WD 2u

/* What PS means in an entry of a level. */
enum large {
	LARGE_LEAF, /* the last level: bit 7 is PAT */
	LARGE_YES,
	LARGE_PSE, /* a large page if CR4.PSE, else ignored */
	LARGE_1G,  /* a large page if the CPU has 1 GiB pages, else reserved */
	LARGE_NO,  /* reserved */
};

struct level {
	u8 shift; /* lowest linear address bit of the index, and of the page if the walk ends here */
	u8 large; /* enum large */
};

struct paging_rules {
	u8 entry_size;
	u8 index_bits;
	struct level level[4]; /* the last one is LARGE_LEAF */
};

static const struct paging_rules rules[] = {
	[PAGING_32] = { 4, 10, { { 22, LARGE_PSE }, { 12, LARGE_LEAF } } },
	[PAGING_PAE] = { 8, 9, { { 21, LARGE_YES }, { 12, LARGE_LEAF } } },
	[PAGING_4LEVEL] = { 8, 9, { { 39, LARGE_NO }, { 30, LARGE_1G }, { 21, LARGE_YES }, { 12, LARGE_LEAF } } },
};

/* Bits hi:lo. */
static u64 bits(unsigned hi, unsigned lo)
{
	return hi < lo ? 0 : (~0ull >> (63 - hi)) & (~0ull << lo);
}

struct walk_step {
	u64 gpa, entry;
};

static bool is_leaf(const struct cpu *c, const struct level *l, u64 entry)
{
	switch (l->large) {
	case LARGE_LEAF:
		return true;
	case LARGE_PSE:
		return (entry & PTE_PS) && (c->cr4 & CR4_PSE);
	case LARGE_1G:
		return (entry & PTE_PS) && cpu_has(c, FEAT_GBPAGES);
	case LARGE_YES:
		return entry & PTE_PS;
	default:
		return false;
	}
}

/* The physical address bits above 31 that a 4 MiB page may have: PSE-36 (SDM vol. 3, table 4-4). */
static unsigned pse36_bits(const struct cpu *c)
{
	if (!cpu_has(c, FEAT_PSE36) || c->phys_bits <= 32)
		return 0;
	return c->phys_bits >= 40 ? 8 : c->phys_bits - 32;
}

static u64 reserved_bits(const struct cpu *c, const struct level *l, bool leaf)
{
	u64 mask;

	if (c->paging == PAGING_32)
		return leaf && l->shift > PAGE_SHIFT ? bits(21, 13 + pse36_bits(c)) : 0;
	mask = bits(51, c->phys_bits);
	if (c->paging == PAGING_PAE)
		mask |= bits(62, 52);
	if (!(c->efer & EFER_NX))
		mask |= PTE_NX;
	if (leaf && l->shift > PAGE_SHIFT)
		mask |= bits(l->shift - 1, 13);
	if (!leaf && (l->large == LARGE_NO || l->large == LARGE_1G))
		mask |= PTE_PS;
	return mask;
}

static u64 page_base(const struct cpu *c, const struct level *l, u64 entry)
{
	u64 base = entry & bits(51, l->shift);

	if (c->paging != PAGING_32)
		return base & ~cpu_gpa_reserved(c);
	base &= 0xffffffff;
	if (l->shift > PAGE_SHIFT)
		base |= (entry & bits(12 + pse36_bits(c), 13)) << (32 - 13);
	return base;
}

/*
 * What the protection key of a leaf takes away from data accesses, of PF_P (read) and PF_W. Keys are for user pages,
 * and say nothing of fetches (SDM vol. 3, 4.6.2).
 */
static unsigned key_denies(const struct cpu *c, u64 rights, u64 leaf, unsigned access)
{
	unsigned key = (leaf >> PTE_KEY_SHIFT) & 15, bits;

	if (likely(!(c->cr4 & CR4_PKE)) || c->paging != PAGING_4LEVEL || !(rights & PTE_U))
		return 0;
	bits = c->fpu.pkru >> (2 * key);
	if (bits & PKRU_AD)
		return PF_P | PF_W;
	return (bits & PKRU_WD) && ((access & PF_U) || (c->cr0 & CR0_WP)) ? PF_W : 0;
}

/* I/D is reported only where fetches can be told apart (SDM vol. 3, 4.7). */
static int page_fault(struct cpu *c, u64 lin, unsigned access, unsigned why)
{
	bool nx = (c->efer & EFER_NX) && c->paging != PAGING_32;

	if (!nx && !(c->cr4 & CR4_SMEP))
		access &= ~(unsigned)PF_I;
	return fault_page(c, lin, (access & (PF_W | PF_U | PF_I)) | why);
}

/*
 * What accesses of this privilege may do, given the rights of all levels together and what the protection key denies:
 * a set of PF_P (read), PF_W, PF_I.
 * (SDM vol. 3, 4.6.1)
 */
static unsigned allowed(const struct cpu *c, u64 rights, unsigned denied, unsigned access, unsigned flags)
{
	bool user_page = rights & PTE_U, writable = rights & PTE_W, user = access & PF_U;
	unsigned may = PF_P;

	if (user && !user_page)
		return 0;
	if (writable || (!user && !(c->cr0 & CR0_WP)))
		may |= PF_W;
	if (!user && user_page && (c->cr4 & CR4_SMAP) && !(flags & WALK_SMAP_LIFTED))
		may = 0;
	may &= ~denied;
	if (!(rights & PTE_NX) && !(!user && user_page && (c->cr4 & CR4_SMEP)))
		may |= PF_I;
	return may;
}

static bool access_ok(unsigned may, unsigned access)
{
	if (access & PF_I)
		return may & PF_I;
	return may & (access & PF_W ? PF_W : PF_P);
}

/*
 * Sets accessed bits on the way and the dirty bit of the leaf, where they are clear, as locked accesses. *retry: an
 * entry has changed under us, and the walk starts again.
 */
static int set_accessed(struct cpu *c, struct walk_step *step, unsigned n, unsigned size, bool dirty, bool *retry)
{
	for (unsigned k = 0; k < n; k++) {
		u64 want = PTE_A | (dirty && k == n - 1 ? PTE_D : 0), now;
		int st;

		if ((step[k].entry & want) == want)
			continue;
		st = phys_cmpxchg(c, step[k].gpa, size, step[k].entry, step[k].entry | want, &now);
		if (st)
			return st;
		if (now != step[k].entry) {
			*retry = true;
			return ST_OK;
		}
		step[k].entry |= want;
	}
	return ST_OK;
}

/* Where the walk begins; ST_FAULT if a PAE directory is not present. */
static int first_table(struct cpu *c, u64 lin, unsigned access, u64 *table)
{
	u64 pdpte;

	if (c->paging != PAGING_PAE) {
		*table = c->cr3 & bits(c->paging == PAGING_32 ? 31 : 51, 12) & ~cpu_gpa_reserved(c);
		return ST_OK;
	}
	pdpte = c->pdptr[(lin >> 30) & 3];
	if (!(pdpte & PTE_P))
		return page_fault(c, lin, access, 0);
	*table = pdpte & bits(51, 12) & ~cpu_gpa_reserved(c);
	return ST_OK;
}

static int walk_once(struct cpu *c, u64 lin, unsigned access, unsigned flags, struct walk *w, bool *retry)
{
	const struct paging_rules *r = &rules[c->paging];
	const struct level *l = r->level;
	struct walk_step step[4];
	u64 table, entry, rights = PTE_W | PTE_U;
	unsigned n = 0, may, denied;
	bool leaf;
	int st;

	st = first_table(c, lin, access, &table);
	if (st)
		return st;
	for (;; l++) {
		u64 index = (lin >> l->shift) & bits(r->index_bits - 1, 0);

		entry = 0;
		step[n].gpa = table + index * r->entry_size;
		if (!phys_read_table(c, step[n].gpa, &entry, r->entry_size))
			return page_fault(c, lin, access, 0);
		step[n++].entry = entry;
		if (!(entry & PTE_P))
			return page_fault(c, lin, access, 0);
		leaf = is_leaf(c, l, entry);
		if (entry & reserved_bits(c, l, leaf))
			return page_fault(c, lin, access, PF_P | PF_RSVD);
		rights &= entry | PTE_NX;
		rights |= entry & PTE_NX;
		if (leaf)
			break;
		table = entry & bits(51, 12) & ~cpu_gpa_reserved(c);
	}
	denied = key_denies(c, rights, entry, access);
	may = allowed(c, rights, denied, access, flags);
	/* PK is set if the key denies the access, whatever else does (SDM vol. 3, 4.7). */
	if (!(flags & WALK_NO_CHECK) && !access_ok(may, access))
		return page_fault(c, lin, access, PF_P | (!access_ok(~denied, access) ? PF_PK : 0));
	if (flags & WALK_SET_AD) {
		st = set_accessed(c, step, n, r->entry_size, access & PF_W, retry);
		if (st || *retry)
			return st;
	}
	entry = step[n - 1].entry;
	*w = (struct walk){
		.gpa = page_base(c, l, entry) | (lin & bits(l->shift - 1, 0)),
		.prot = (u8)((may & (PF_W | PF_I)) | (rights & PTE_U ? PF_U : 0)),
		.shift = l->shift,
		.dirty = entry & PTE_D,
		.global = (entry & PTE_G) && (c->cr4 & CR4_PGE),
	};
	return ST_OK;
}

int cpu_walk(struct cpu *c, u64 lin, unsigned access, unsigned flags, struct walk *w)
{
	bool retry;
	int st;

	if (c->paging == PAGING_NONE) {
		*w = (struct walk){ .gpa = lin, .prot = PF_W | PF_U | PF_I, .shift = PAGE_SHIFT, .dirty = true };
		return ST_OK;
	}
	do {
		retry = false;
		st = walk_once(c, lin, access, flags, w, &retry);
	} while (retry);
	return st;
}
