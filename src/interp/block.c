// SPDX-License-Identifier: MIT
#include "interp/block.h"

#include <string.h>

#include "cpu/cr.h"
#include "mem/tlb.h"

/* Is [rip, rip + n) within the code segment, or canonical? Exact, unlike seg::rd_end. */
static bool code_in_limit(const struct cpu *c, u64 rip, unsigned n)
{
	if (c->mode == CPU_LONG)
		return is_canonical(rip) && is_canonical(rip + n - 1);
	return rip + n - 1 <= c->seg[SEG_CS].limit;
}

/* Code that is nowhere in memory: the client would have to fetch it for us, which no KVM client does. */
static int fetch_from_device(struct cpu *c)
{
	c->exit = (struct exit){ .reason = EXIT_INTERNAL };
	return ST_EXIT;
}

static int fetch_page(struct cpu *c, u64 lin, u8 **host)
{
	struct page_ref r;
	int st = tlb_resolve(c, c->mmu, lin, 1, MEM_EXEC, &r);

	if (st)
		return st;
	if (!r.host)
		return fetch_from_device(c);
	*host = r.host;
	return ST_OK;
}

static int decode_fault(struct cpu *c, int error)
{
	return error == DECODE_GP ? fault_gp(c, 0) : fault_ud(c);
}

static bool single_begins(const struct cpu *c, const struct single *s, const u8 *bytes, unsigned n)
{
	return s->len && s->mode == c->code_mode && !memcmp(s->bytes, bytes, min_u64(s->len, n));
}

/* Has the instruction at host, where n bytes of the page are left, been here, and went on in the next page? */
static bool crosses(const struct cpu *c, const u8 *host, unsigned n)
{
	const struct single *s = code_single(c->code, host);
	u8 bytes[INSN_MAX_BYTES];

	if (n >= s->len)
		return false;
	guest_copy(bytes, host, n);
	return single_begins(c, s, bytes, n);
}

/*
 * Decodes the instruction at bytes, of which n are readable, into s, unless that is what s is. Returns its length or an
 * enum decode_error.
 */
static int single_decode(struct cpu *c, struct single *s, const u8 *bytes, unsigned n)
{
	struct block *b = single_block(s);
	int len;

	if (single_begins(c, s, bytes, n))
		return s->len <= n ? s->len : DECODE_MORE;
	s->len = 0;
	len = insn_decode(bytes, n, c->code_mode, &b->insn[0]);
	c->stats.decodes++;
	if (len < 0)
		return len;
	interp_bind_block(&b->insn[0], (unsigned)len);
	interp_bind_end(&b->insn[1], (unsigned)len);
	b->page = NULL;
	b->heat = 0;
	b->n = 1;
	b->work = insn_work(&b->insn[0]);
	b->bytes = (u16)len;
	s->len = (u8)len;
	s->mode = c->code_mode;
	memcpy(s->bytes, bytes, (unsigned)len);
	return len;
}

/*
 * One instruction that is no page's: it crosses into the next one, ends at the segment limit, or lies in a line whose
 * code changes all the time. host is the address of its first byte; the bytes are fetched each time.
 */
static int build_single(struct cpu *c, u64 lin, const u8 *host, struct block **out)
{
	struct single *s = code_single(c->code, host);
	unsigned here = (unsigned)min_u64(INSN_MAX_BYTES, PAGE_SIZE - (lin & ~PAGE_MASK));
	u8 bytes[INSN_MAX_BYTES];
	u8 *next;
	int len, st;

	guest_copy(bytes, host, here);
	len = single_decode(c, s, bytes, here);
	if (len == DECODE_MORE && here < INSN_MAX_BYTES) {
		if (!code_in_limit(c, c->gpr[R_RIP], here + 1))
			return fault_gp(c, 0);
		st = fetch_page(c, (lin + here) & c->lin_mask, &next);
		if (st)
			return st;
		guest_copy(bytes + here, next, INSN_MAX_BYTES - here);
		len = single_decode(c, s, bytes, INSN_MAX_BYTES);
	}
	if (len < 0)
		return decode_fault(c, len);
	if (!code_in_limit(c, c->gpr[R_RIP], (unsigned)len))
		return fault_gp(c, 0);
	*out = single_block(s);
	return ST_OK;
}

/* Brings our copy of the lines under [off, off + n) up to date, where no cached code depends on them yet. */
static void refresh_copy(struct code_page *p, unsigned off, unsigned n)
{
	for (unsigned line = off >> CODE_LINE_SHIFT; line <= (off + n - 1) >> CODE_LINE_SHIFT; line++)
		if (!(p->lines & BIT64(line)))
			guest_copy(p->copy + (line << CODE_LINE_SHIFT), p->host + (line << CODE_LINE_SHIFT),
				  1u << CODE_LINE_SHIFT);
}

static u64 lines_of(unsigned at, unsigned len)
{
	return BIT64(at >> CODE_LINE_SHIFT) | BIT64((at + len - 1) >> CODE_LINE_SHIFT);
}

/*
 * Decodes from off to the end of the straight line, of the page, or of the array, or up to a hot line. Returns the
 * number of instructions; 0 with *error if the first one cannot be decoded within this page, or must not be cached.
 */
static unsigned decode_run(struct cpu *c, struct code_page *p, unsigned off, struct insn *insn, unsigned *bytes,
			   int *error)
{
	unsigned n = 0, at = off;

	while (n < BLOCK_MAX_INSNS && at < PAGE_SIZE) {
		unsigned avail = (unsigned)min_u64(INSN_MAX_BYTES, PAGE_SIZE - at);
		int len;

		refresh_copy(p, at, avail);
		len = insn_decode(p->copy + at, avail, c->code_mode, &insn[n]);
		c->stats.decodes++;
		if (len < 0) {
			*error = len;
			break;
		}
		if (lines_of(at, (unsigned)len) & p->hot) {
			*error = DECODE_MORE;
			break;
		}
		p->lines |= lines_of(at, (unsigned)len);
		at += (unsigned)len;
		interp_bind_block(&insn[n], at - off);
		if (insn[n++].flags & INSN_END)
			break;
	}
	*bytes = at - off;
	return n;
}

/* ST_AGAIN if the arena is full; *out stays NULL if the instruction is not this page's alone, or on a hot line. */
static int build_block(struct cpu *c, struct code_page *p, unsigned off, struct block **out)
{
	struct insn insn[BLOCK_MAX_INSNS + 1];
	unsigned bytes;
	int error = 0;
	struct block *b;
	unsigned n;

	*out = NULL;
	code_page_protect(c, p);
	n = decode_run(c, p, off, insn, &bytes, &error);
	if (!n)
		return error == DECODE_MORE ? ST_OK : decode_fault(c, error);
	b = block_alloc(c->code, n + 1);
	if (!b)
		return ST_AGAIN;
	interp_bind_end(&insn[n], bytes);
	memcpy(b->insn, insn, (n + 1) * sizeof(insn[0]));
	b->off = (u16)off;
	b->bytes = (u16)bytes;
	b->mode = c->code_mode;
	b->n = (u8)n;
	b->work = block_work(insn, n);
	b->heat = c->code->heat;
	b->host = NULL;
	b->missed = 0;
	b->misses = 0;
	b->apart = false;
	block_insert(p, b);
	*out = b;
	return ST_OK;
}

/* ST_AGAIN if the arena is full. */
static int find_or_build(struct cpu *c, u64 lin, u8 *host, struct block **out)
{
	unsigned off = lin & ~PAGE_MASK;
	struct code_page *p;
	int st;

	if (crosses(c, host, PAGE_SIZE - off))
		return build_single(c, lin, host, out);
	p = code_page_get(c, host - off);
	if (!p)
		return ST_AGAIN;
	if (p->hot & BIT64(off >> CODE_LINE_SHIFT)) {
		code_page_cool(p);
		return build_single(c, lin, host, out);
	}
	code_page_validate(c, p);
	*out = block_find(p, off, c->code_mode);
	if (*out)
		return ST_OK;
	st = build_block(c, p, off, out);
	return st || *out ? st : build_single(c, lin, host, out);
}

/*
 * A jump that was void only because translations changed, when this one has not: the page is where it was. That is what
 * happens to most of the kernel's code at each switch of address spaces. (A dropped block is on a page that is
 * nowhere.)
 */
static struct block *same_as_before(struct cpu *c, u64 lin, const u8 *host)
{
	const struct jump_entry *j = jump_slot(c, lin);
	const u8 *page = host - (lin & ~PAGE_MASK);
	struct block *b = j->block;

	if (!b || j->lin != lin || j->key != c->code_key || b->page->host != page)
		return NULL;
	code_page_validate(c, b->page);
	return b->page->host == page ? b : NULL;
}

int block_lookup_slow(struct cpu *c, struct block **out)
{
	u8 *host = NULL;
	u64 lin;
	int st;

	c->cur = NULL;
	if (c->mode != CPU_LONG)
		c->gpr[R_RIP] = (u32)c->gpr[R_RIP];
	lin = code_linear(c);
	if (!code_in_limit(c, c->gpr[R_RIP], 1))
		return fault_gp(c, 0);
	st = fetch_page(c, lin, &host);
	if (!st) {
		*out = same_as_before(c, lin, host);
		if (*out) {
			code_remember_jump(c->code, jump_slot(c, lin), lin, c->code_key, *out);
			return ST_OK;
		}
		st = find_or_build(c, lin, host, out);
	}
	if (st == ST_AGAIN) {
		code_flush(c);
		st = find_or_build(c, lin, host, out);
	}
	if (st)
		return st;
	if (!code_in_limit(c, c->gpr[R_RIP], (*out)->bytes))
		return build_single(c, lin, host, out);
	if ((*out)->page)
		code_remember_jump(c->code, jump_slot(c, lin), lin, c->code_key, *out);
	return ST_OK;
}
