// SPDX-License-Identifier: MIT
#include "mem/tlb.h"

#include <errno.h>
#include <string.h>

#include "cpu/debug.h"
#include "os/mem.h"

/* One more, always empty: while alignment is checked every access goes the slow way (cpu_update_mode()). */
#define TLB_BYTES (sizeof(struct tlb_entry) * (NR_MMU + 1) * TLB_SPAN)
#define TLB_GEN_MAX 4095

int tlb_init(struct cpu *c)
{
	c->tlb = os_alloc(TLB_BYTES);
	if (!c->tlb)
		return -ENOMEM;
	c->tlb_gen = c->spaces.last = c->spaces.floor = 1;
	c->tlb_cur = tlb_of(c, c->mmu);
	return 0;
}

void tlb_free(struct cpu *c)
{
	os_free(c->tlb, TLB_BYTES);
	c->tlb = c->tlb_cur = NULL;
}

static void forget_large(struct cpu *c)
{
	memset(c->large.mib4, 0, sizeof(c->large.mib4));
	c->large.gib = 0;
}

static void set_generation(struct cpu *c, u64 gen)
{
	c->tlb_cur += (int)space_window(gen, TLB_SIZE) - (int)space_window(c->tlb_gen, TLB_SIZE);
	c->tlb_gen = gen;
}

/*
 * A generation is an address space as it was between two flushes. Those of PCIDs that are not current are kept in
 * cpu::spaces, and are current again after a MOV to CR3 with bit 63 (SDM vol. 3, 4.10.1). Entries of global pages are
 * not shared between them: that is allowed, and INVLPG finds all entries for an address, of whatever generation.
 */
static void new_generation(struct cpu *c)
{
	if (c->spaces.last == TLB_GEN_MAX) {
		memset(c->tlb, 0, TLB_BYTES);
		memset(&c->spaces, 0, sizeof(c->spaces));
		forget_large(c);
	}
	set_generation(c, ++c->spaces.last);
}

void tlb_flush(struct cpu *c)
{
	if (!c->tlb)
		return;
	new_generation(c);
	c->spaces.floor = (u16)c->tlb_gen;
	forget_large(c);
	if (c->code)
		code_forget_jumps(c->code);
}

static unsigned space_slot(const struct cpu *c, unsigned pcid)
{
	/* Linux uses small numbers, and for page-table isolation the same ones with bit 11 set. */
	return (pcid ^ pcid >> 8) % ARRAY_SIZE(c->spaces.kept);
}

void tlb_switch(struct cpu *c, unsigned from, unsigned to, bool keep)
{
	u64 stamp = 0;
	unsigned n;

	if (!c->tlb)
		return;
	n = space_slot(c, from);
	c->spaces.kept[n].pcid = (u16)from;
	c->spaces.kept[n].gen = (u16)c->tlb_gen;
	c->spaces.kept[n].stamp = c->code ? c->code->stamp : 0;
	n = space_slot(c, to);
	if (keep && c->spaces.kept[n].pcid == to && c->spaces.kept[n].gen >= c->spaces.floor &&
	    c->spaces.kept[n].gen) {
		set_generation(c, c->spaces.kept[n].gen);
		stamp = c->spaces.kept[n].stamp;
	} else {
		new_generation(c);
	}
	/* Whichever space is current has no other copy of its generation, lest a flush of it be undone. */
	c->spaces.kept[n].gen = 0;
	if (c->code)
		code_switch_jumps(c->code, stamp);
}

void tlb_flush_space(struct cpu *c, unsigned current, unsigned pcid)
{
	if (pcid == current)
		tlb_switch(c, current, pcid, false);
	else if (c->spaces.kept[space_slot(c, pcid)].pcid == pcid)
		c->spaces.kept[space_slot(c, pcid)].gen = 0;
}

/* ---- large pages: they are in here as their 4 KiB pieces ---- */

static u64 *large_word(struct cpu *c, u64 lin)
{
	return &c->large.mib4[((lin >> 28) ^ (lin >> 36)) % ARRAY_SIZE(c->large.mib4)];
}

/* An entry is filled: with a piece, or with what replaces one. */
static void large_note(struct cpu *c, unsigned mmu, u64 lin, unsigned shift, bool replaces)
{
	unsigned n = space_window(c->tlb_gen, TLB_SIZE) + tlb_index(lin);
	u64 *word = &c->large.pieces[mmu][n / 64];

	if (replaces)
		*word &= ~BIT64(n & 63);
	if (shift == PAGE_SHIFT)
		return;
	*word |= BIT64(n & 63);
	if (shift == 30)
		c->large.gib |= BIT64((lin >> 30) & 63);
	else
		*large_word(c, lin) |= BIT64((lin >> 22) & 63);
}

/* The size of the largest page around lin of which there may be pieces. */
static unsigned large_shift(struct cpu *c, u64 lin)
{
	if (c->large.gib & BIT64((lin >> 30) & 63))
		return 30;
	return *large_word(c, lin) & BIT64((lin >> 22) & 63) ? 22 : PAGE_SHIFT;
}

static void flush_pieces(struct cpu *c, unsigned mmu, unsigned word, u64 lin, unsigned shift)
{
	u64 bits = c->large.pieces[mmu][word];

	for (; bits; bits &= bits - 1) {
		unsigned n = word * 64 + (unsigned)__builtin_ctzll(bits);
		struct tlb_entry *e = &c->tlb[mmu * TLB_SPAN + n];

		if (!(((e->rd | e->wr | e->ex) ^ lin) >> shift))
			e->rd = e->wr = e->ex = 0;
	}
}

/*
 * INVLPG drops all of a large page (SDM vol. 3, 4.10.4.1). A guest's kernel has most memory in large pages, so this
 * also happens for a page of 4 KiB whose address is mistaken for one of these: it must not cost much.
 */
static void flush_large(struct cpu *c, u64 lin, unsigned shift, unsigned window)
{
	unsigned first = window / 64, n = TLB_SIZE / 64;

	_Static_assert(TLB_SIZE % 4096 == 0, "4 MiB have neighbouring entries, windows begin with a word of pieces");
	if (shift == 22) {
		first += (tlb_index(lin) & ~1023u) / 64;
		n = 1024 / 64;
	}
	for (unsigned mmu = 0; mmu < NR_MMU; mmu++)
		for (unsigned word = first; word < first + n; word++)
			flush_pieces(c, mmu, word, lin, shift);
}

static void flush_in_space(struct cpu *c, u64 gen, u64 lin, unsigned shift)
{
	unsigned window = space_window(gen, TLB_SIZE);

	if (shift > PAGE_SHIFT)
		flush_large(c, lin, shift, window);
	for (unsigned mmu = 0; mmu < NR_MMU; mmu++) {
		struct tlb_entry *e = &c->tlb[mmu * TLB_SPAN + window + tlb_index(lin)];

		e->rd = e->wr = e->ex = 0;
	}
}

/* In every address space that may become current again, since the page may be a global one. */
void tlb_flush_page(struct cpu *c, u64 lin)
{
	unsigned shift = large_shift(c, lin);

	if (!c->tlb)
		return;
	flush_in_space(c, c->tlb_gen, lin, shift);
	for (unsigned n = 0; n < ARRAY_SIZE(c->spaces.kept); n++)
		if (c->spaces.kept[n].gen && c->spaces.kept[n].gen >= c->spaces.floor)
			flush_in_space(c, c->spaces.kept[n].gen, lin, shift);
	if (c->code)
		code_forget_jumps_to(c->code, lin, shift);
}

static bool page_logged_clean(const struct memslot *s, u64 off)
{
	u64 page = off >> PAGE_SHIFT;

	return s->dirty && !(__atomic_load_n(&s->dirty[page >> 6], __ATOMIC_RELAXED) & BIT64(page & 63));
}

/* Enters what the translation allows without further ado. */
static void tlb_fill(struct cpu *c, unsigned mmu, u64 lin, enum mem_access how, const struct walk *w,
		     const struct memslot *s, u64 off, bool code)
{
	struct tlb_entry *e = tlb_of(c, mmu) + tlb_index(lin);
	u64 tag = (lin & PAGE_MASK) | c->tlb_gen;
	u64 addend = (u64)(uintptr_t)s->hva + (off & PAGE_MASK) - (lin & PAGE_MASK);
	bool replaces = (e->rd != tag && e->ex != tag) || e->addend != addend;

	if (debug_page_watched(c, lin & PAGE_MASK))
		return;
	if (replaces)
		e->rd = e->wr = e->ex = 0;
	e->addend = addend;
	if (how == MEM_EXEC)
		e->ex = tag;
	else
		e->rd = tag;
	if (how == MEM_WRITE || (how == MEM_READ && (w->prot & PF_W) && w->dirty))
		e->wr = code || s->readonly || page_logged_clean(s, off) ? 0 : tag;
	if (e->wr && c->code)
		code_note_writable(c->code, memslot_host(s, off & PAGE_MASK));
	large_note(c, mmu, lin, w->shift, replaces);
	c->stats.tlb_fill++;
}

int tlb_resolve(struct cpu *c, unsigned mmu, u64 lin, unsigned size, enum mem_access how, struct page_ref *r)
{
	static const u8 access[] = { [MEM_READ] = 0, [MEM_WRITE] = PF_W, [MEM_EXEC] = PF_I };
	const struct tlb_entry *e = tlb_of(c, mmu) + tlb_index(lin);
	u64 tag = (lin & PAGE_MASK) | c->tlb_gen, off;
	const struct memslot *s;
	struct walk w;
	int st;

	r->size = size;
	r->code = NULL;
	if ((how == MEM_READ ? e->rd : how == MEM_WRITE ? e->wr : e->ex) == tag) {
		r->host = (u8 *)(uintptr_t)(lin + e->addend);
		return ST_OK;
	}
	c->stats.tlb_miss[how]++;
	st = cpu_walk(c, lin, access[how] | (mmu == MMU_USER ? PF_U : 0),
		      WALK_SET_AD | (mmu == MMU_SUP_AC ? WALK_SMAP_LIFTED : 0), &w);
	if (st)
		return st;
	if (how != MEM_EXEC)
		debug_watch(c, lin, size, how == MEM_WRITE);
	r->gpa = w.gpa;
	r->host = NULL;
	s = map_find(c->map, w.gpa, &off);
	if (!s || (how == MEM_WRITE && s->readonly))
		return ST_OK;
	r->host = memslot_host(s, off);
	if (unlikely(!r->host)) /* it is not MMIO: that the client has nothing there ends KVM_RUN, as for any address */
		asm volatile("testb $0, (%0)" : : "r"(r->host) : "cc", "memory");
	if (how == MEM_WRITE)
		memslot_mark_dirty(s, off);
	if (c->code && how != MEM_EXEC) {
		r->code = code_page_find(c->code, memslot_host(s, off & PAGE_MASK));
		if (r->code && !r->code->lines)
			r->code = NULL;
	}
	tlb_fill(c, mmu, lin, how, &w, s, off, r->code);
	return ST_OK;
}
