// SPDX-License-Identifier: MIT
/* The slow paths of mem.h: page crossing, MMIO, dirty logging, cached code, alignment checks. */
#include <string.h>

#include "mem/tlb.h"

/* An access touches one page or two. */
struct span {
	struct page_ref page[2];
	unsigned n;
};

static unsigned part_in_page(u64 lin, unsigned size)
{
	return (unsigned)min_u64(size, PAGE_SIZE - (lin & ~PAGE_MASK));
}

/* Translates all of an access before any byte of it is touched. */
static int span_resolve(struct cpu *c, unsigned mmu, u64 lin, unsigned size, enum mem_access how, struct span *sp)
{
	unsigned first = part_in_page(lin, size);
	int st = tlb_resolve(c, mmu, lin, first, how, &sp->page[0]);

	sp->n = 1;
	if (st || first == size)
		return st;
	sp->n = 2;
	lin += first;
	/* Outside long mode linear addresses wrap at 4 GiB. */
	return tlb_resolve(c, mmu, cpu_long_mode(c) ? lin : (u32)lin, size - first, how, &sp->page[1]);
}

static int span_read(struct cpu *c, const struct span *sp, void *out)
{
	for (unsigned n = 0; n < sp->n; n++) {
		const struct page_ref *r = &sp->page[n];
		int st = ST_OK;

		if (r->host)
			guest_copy(out, r->host, r->size);
		else
			st = mmio_access(c, r->gpa, out, r->size, false);
		if (st)
			return st;
		out = (u8 *)out + r->size;
	}
	return ST_OK;
}

/* Devices first: if the client must be asked, the instruction runs again, and must then find memory unchanged. */
static int span_write(struct cpu *c, const struct span *sp, const void *in)
{
	for (unsigned n = 0; n < sp->n; n++) {
		const struct page_ref *r = &sp->page[n];
		const u8 *from = (const u8 *)in + (n ? sp->page[0].size : 0);
		int st = r->host ? ST_OK : mmio_access(c, r->gpa, (void *)(uintptr_t)from, r->size, true);

		if (st)
			return st;
	}
	for (unsigned n = 0; n < sp->n; n++) {
		const struct page_ref *r = &sp->page[n];

		if (!r->host)
			continue;
		if (r->code)
			code_written(c, r->code, (uintptr_t)r->host & ~PAGE_MASK, r->size);
		guest_copy(r->host, (const u8 *)in + (n ? sp->page[0].size : 0), r->size);
	}
	return ST_OK;
}

/* SDM vol. 3, table 6-7. Vectors are not in it; CPUs want 16 bytes, also of YMM registers. */
static unsigned natural_alignment(size_t size)
{
	switch (size) {
	case 2:
	case 4:
	case 8:
	case 16:
		return (unsigned)size;
	case 10:
		return 8;
	case 32:
	case 64:
		return 16;
	default:
		return 1;
	}
}

/* #AC(0): CPL 3 with CR0.AM and EFLAGS.AC (SDM vol. 3, 6.15). */
static int alignment_check(struct cpu *c, u64 lin, unsigned alignment)
{
	if (likely(!(c->rflags & FL_AC) || c->cpl != 3 || !(c->cr0 & CR0_AM)))
		return ST_OK;
	return lin & (alignment - 1) ? fault_err(c, VEC_AC, 0) : ST_OK;
}

int mem_check_alignment(struct cpu *c, unsigned seg, u64 ea, unsigned alignment)
{
	return alignment_check(c, c->seg[seg].base + ea, alignment);
}

static int lin_prepare(struct cpu *c, unsigned seg, u64 ea, size_t size, enum mem_access how, unsigned alignment,
		       u64 *lin)
{
	int st = seg_check(c, seg, ea, size, how, lin);

	return st ? st : alignment_check(c, *lin, alignment);
}

static int read_aligned(struct cpu *c, unsigned seg, u64 ea, void *out, unsigned size, unsigned alignment)
{
	struct span sp;
	u64 lin;
	int st = lin_prepare(c, seg, ea, size, MEM_READ, alignment, &lin);

	if (!st)
		st = span_resolve(c, c->mmu, lin, size, MEM_READ, &sp);
	return st ? st : span_read(c, &sp, out);
}

static int write_aligned(struct cpu *c, unsigned seg, u64 ea, const void *in, unsigned size, unsigned alignment)
{
	struct span sp;
	u64 lin;
	int st = lin_prepare(c, seg, ea, size, MEM_WRITE, alignment, &lin);

	if (!st)
		st = span_resolve(c, c->mmu, lin, size, MEM_WRITE, &sp);
	return st ? st : span_write(c, &sp, in);
}

int mem_read_slow(struct cpu *c, unsigned seg, u64 ea, void *out, unsigned size)
{
	return read_aligned(c, seg, ea, out, size, natural_alignment(size));
}

int mem_write_slow(struct cpu *c, unsigned seg, u64 ea, const void *in, unsigned size)
{
	return write_aligned(c, seg, ea, in, size, natural_alignment(size));
}

/* One host address serves if all of the operand is memory and the pages follow each other there as well. */
static void *span_host(const struct span *sp)
{
	if (!sp->page[0].host)
		return NULL;
	if (sp->n == 2 && sp->page[1].host != sp->page[0].host + sp->page[0].size)
		return NULL;
	return sp->page[0].host;
}

/* ---- split locks ---- */

/*
 * An operand on two pages that are not neighbours in host memory has no instruction of the host that changes it at
 * once. Among the vCPUs of a machine such accesses take turns. For those to one of the pages only each half is
 * exchanged by a LOCKed instruction, the first one first. If the second half is not any more what the operation was
 * computed with, that is done again with what it is now (ST_SPLIT): the first half comes out the same, as no carry goes
 * down, but for a CMPXCHG that fails now, which takes it back.
 */
static struct os_lock *split_lock(const struct cpu *c)
{
	return (struct os_lock *)(uintptr_t)&c->map->split;
}

static void split_begin(struct cpu *c, const struct span *sp)
{
	os_lock(split_lock(c));
	c->split.held = true;
	c->split.written = false;
	c->split.n = (u8)sp->page[0].size;
	for (unsigned n = 0; n < 2; n++) {
		const struct page_ref *r = &sp->page[n];

		c->split.host[n] = r->host;
		if (r->code)
			code_written(c, r->code, (uintptr_t)r->host & ~PAGE_MASK, r->size);
	}
}

void mem_split_end(struct cpu *c)
{
	if (likely(!c->split.held))
		return;
	c->split.held = false;
	os_unlock(split_lock(c));
}

/* The operand as the operation is to see it, in cpu::bounce. */
static int split_read(struct cpu *c, unsigned size)
{
	unsigned n = c->split.n;

	if (!c->split.written)
		guest_copy(c->split.old, c->split.host[0], n);
	guest_copy(c->split.old + n, c->split.host[1], size - n);
	memcpy(c->bounce, c->split.old, size);
	return ST_OK;
}

/* Bytes at one end of a page, as the word that they are in has them. */
static u64 in_word(const u8 *bytes, unsigned n, unsigned shift)
{
	u64 v = 0;

	memcpy(&v, bytes, n);
	return v << shift;
}

static bool exchange_part(u8 *at, unsigned n, const u8 *old, const u8 *new)
{
	u64 *word = (u64 *)((uintptr_t)at & ~7ul), now = __atomic_load_n(word, __ATOMIC_RELAXED);
	unsigned shift = 8 * ((uintptr_t)at & 7);
	u64 mask = ~0ull >> (64 - 8 * n) << shift;

	do {
		if ((now & mask) != in_word(old, n, shift))
			return false;
	} while (!__atomic_compare_exchange_n(word, &now, (now & ~mask) | in_word(new, n, shift), false,
					      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	return true;
}

static int split_finish(struct cpu *c, unsigned size)
{
	const u8 *new = (const u8 *)c->bounce;
	unsigned n = c->split.n;

	if (!c->split.written) {
		if (!exchange_part(c->split.host[0], n, c->split.old, new))
			return ST_SPLIT;
	} else if (memcmp(new, c->split.put, n)) {
		exchange_part(c->split.host[0], n, c->split.put, new);
	}
	memcpy(c->split.put, new, n);
	c->split.written = true;
	if (!exchange_part(c->split.host[1], size - n, c->split.old + n, new + n))
		return ST_SPLIT;
	mem_split_end(c);
	return ST_OK;
}

int mem_rmw_slow(struct cpu *c, unsigned seg, u64 ea, unsigned size, struct mem_rmw *a)
{
	struct span sp;
	u64 lin;
	int st;

	if (unlikely(c->split.held)) {
		*a = (struct mem_rmw){ .p = c->bounce, .bounce = true, .size = (u8)size };
		return split_read(c, size);
	}
	st = lin_prepare(c, seg, ea, size, MEM_WRITE, natural_alignment(size), &lin);
	if (!st)
		st = seg_check(c, seg, ea, size, MEM_READ, &lin);
	if (!st)
		st = span_resolve(c, c->mmu, lin, size, MEM_WRITE, &sp);
	if (st)
		return st;
	a->p = span_host(&sp);
	a->bounce = !a->p;
	if (a->p) {
		for (unsigned n = 0; n < sp.n; n++)
			if (sp.page[n].code)
				code_written(c, sp.page[n].code, (uintptr_t)sp.page[n].host & ~PAGE_MASK,
					     sp.page[n].size);
		return ST_OK;
	}
	a->p = c->bounce;
	a->size = (u8)size;
	a->seg = (u8)seg;
	a->ea = ea;
	if (sp.n == 1 || !sp.page[0].host || !sp.page[1].host)
		return span_read(c, &sp, c->bounce);
	split_begin(c, &sp);
	return split_read(c, size);
}

int mem_rmw_finish(struct cpu *c, struct mem_rmw *a)
{
	return c->split.held ? split_finish(c, a->size) : mem_write_slow(c, a->seg, a->ea, c->bounce, a->size);
}

/* Within one page, and the soft TLB has it? */
static bool bulk_fast(struct cpu *c, unsigned seg, u64 ea, u8 *data, size_t size, enum mem_access how)
{
	void *p = size && size <= PAGE_SIZE ? mem_fast(c, seg, ea, (unsigned)size, how) : NULL;

	if (!p)
		return false;
	if (how == MEM_READ)
		guest_copy(data, p, (unsigned)size);
	else
		guest_copy(p, data, (unsigned)size);
	return true;
}

/*
 * Large operands: all pages are checked first, then copied in pieces that the slow path can remember (io.c). A piece
 * is nothing that an alignment check knows of: whoever has such an operand knows what its alignment has to be.
 */
static int bulk(struct cpu *c, unsigned seg, u64 ea, u8 *data, size_t size, enum mem_access how)
{
	int st = ST_OK;

	for (size_t done = 0; done < size && !st;) {
		unsigned part = (unsigned)min_u64(size - done, 64 - ((ea + done) & 63));

		st = how == MEM_READ ? read_aligned(c, seg, ea + done, data + done, part, 1)
				     : write_aligned(c, seg, ea + done, data + done, part, 1);
		done += part;
	}
	return st;
}

int mem_read_bulk(struct cpu *c, unsigned seg, u64 ea, void *out, size_t size)
{
	return bulk_fast(c, seg, ea, out, size, MEM_READ) ? ST_OK : bulk(c, seg, ea, out, size, MEM_READ);
}

int mem_write_bulk(struct cpu *c, unsigned seg, u64 ea, const void *in, size_t size)
{
	u8 *from = (u8 *)(uintptr_t)in;
	int st;

	if (bulk_fast(c, seg, ea, from, size, MEM_WRITE))
		return ST_OK;
	st = mem_probe(c, seg, ea, size, MEM_WRITE);
	return st ? st : bulk(c, seg, ea, from, size, MEM_WRITE);
}

static int probe_pages(struct cpu *c, u64 lin, size_t size, enum mem_access how)
{
	int st = ST_OK;

	while (!st && size) {
		unsigned part = part_in_page(lin, (unsigned)min_u64(size, PAGE_SIZE));
		const struct tlb_entry *e = c->tlb_cur + tlb_index(lin);
		struct walk w;

		/* Not tlb_resolve(): a probe for writing must not mark the page dirty. */
		if ((how == MEM_WRITE ? e->wr : e->rd) != ((lin & PAGE_MASK) | c->tlb_gen))
			st = cpu_walk(c, lin, (how == MEM_WRITE ? PF_W : 0) | (c->mmu == MMU_USER ? PF_U : 0),
				      c->mmu == MMU_SUP_AC ? WALK_SMAP_LIFTED : 0, &w);
		lin = (lin + part) & c->lin_mask;
		size -= part;
	}
	return st;
}

int mem_probe(struct cpu *c, unsigned seg, u64 ea, size_t size, enum mem_access how)
{
	u64 lin;
	int st = lin_prepare(c, seg, ea, size, how, natural_alignment(size), &lin);

	return st ? st : probe_pages(c, lin, size, how);
}

int mem_probe_masked(struct cpu *c, unsigned seg, u64 ea, size_t size)
{
	u64 lin;
	int st = seg_check(c, seg, ea, size, MEM_WRITE, &lin);

	if (!st)
		st = alignment_check(c, lin, 8);
	return st ? st : probe_pages(c, lin, size, MEM_WRITE);
}

void *mem_span(struct cpu *c, unsigned seg, u64 ea, enum mem_access how, u64 *forward, u64 *backward)
{
	const struct seg *s = &c->seg[seg];
	u64 end = how == MEM_READ ? s->rd_end : s->wr_end;
	u64 lin = (s->base + ea) & c->lin_mask, in_page = lin & ~PAGE_MASK;
	const struct tlb_entry *e = c->tlb_cur + tlb_index(lin);

	if (((lin & PAGE_MASK) | c->tlb_gen) != (how == MEM_READ ? e->rd : e->wr))
		return NULL;
	if (unlikely(ea >= end))
		return NULL;
	*forward = min_u64(PAGE_SIZE - in_page, end - ea);
	*backward = min_u64(in_page, ea);
	return (void *)(uintptr_t)(lin + e->addend);
}

/* System structures have 64-bit addresses in all of long mode, compatibility mode included; so not cpu::lin_mask. */
static u64 sys_linear(const struct cpu *c, u64 lin)
{
	return cpu_long_mode(c) ? lin : (u32)lin;
}

int mem_read_lin(struct cpu *c, unsigned mmu, u64 lin, void *out, unsigned size)
{
	struct span sp;
	int st = span_resolve(c, mmu, sys_linear(c, lin), size, MEM_READ, &sp);

	return st ? st : span_read(c, &sp, out);
}

int mem_write_lin(struct cpu *c, unsigned mmu, u64 lin, const void *in, unsigned size)
{
	struct span sp;
	int st = span_resolve(c, mmu, sys_linear(c, lin), size, MEM_WRITE, &sp);

	return st ? st : span_write(c, &sp, in);
}
