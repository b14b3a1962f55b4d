// SPDX-License-Identifier: MIT
#include "mem/code.h"

#include <errno.h>
#include <string.h>

#include "mem/mem.h"
#include "os/mem.h"

#define ARENA_SIZE (8u << 20) /* a vCPU's; the working set of a kernel boot is about half of it */
#define LINE_SIZE (1u << CODE_LINE_SHIFT)

/* All of the cache but the arena is one allocation, made once. */
struct code_memory {
	struct code_cache code;
	struct jump_entry jump[2 * JUMP_SIZE];
	struct code_page *hash[1 << CODE_HASH_BITS];
	struct code_page nowhere;
	struct single single[NR_SINGLES];
	u64 writable[WRITABLE_WORDS];
};

int code_init(struct cpu *c)
{
	struct code_memory *m = os_alloc(sizeof(*m));
	u8 *arena = os_alloc(ARENA_SIZE);

	if (!m || !arena) {
		os_free(m, sizeof(*m));
		os_free(arena, ARENA_SIZE);
		return -ENOMEM;
	}
	m->code.hash = m->hash;
	m->code.single = m->single;
	m->code.writable = m->writable;
	m->code.nowhere = &m->nowhere;
	m->code.arena = arena;
	m->code.size = ARENA_SIZE;
	m->code.epoch = 1;
	code_forget_jumps(&m->code);
	c->code = &m->code;
	return 0;
}

void code_free(struct cpu *c)
{
	struct code_memory *m = container_of(c->code, struct code_memory, code);

	if (!c->code)
		return;
	os_free(c->code->arena, ARENA_SIZE);
	os_free(m, sizeof(*m));
	c->code = NULL;
}

void code_flush(struct cpu *c)
{
	struct code_cache *code = c->code;
	struct code_memory *m = container_of(code, struct code_memory, code);

	memset(code->hash, 0, sizeof(code->hash[0]) << CODE_HASH_BITS);
	/* Not only void: no entry may lead to memory that becomes something else. */
	memset(m->jump, 0, sizeof(m->jump));
	code->used = 0;
	code->host_used = code->host_floor;
	c->jit.link = NULL;
	code_forget_jumps(code);
	c->cur_block = NULL;
}

/* ---- jumps ---- */

/* A bit for the page of this size around lin, in a table of 1024; kernel and user addresses have different ones. */
static bool jump_bit(const u64 *table, u64 lin, unsigned shift)
{
	u64 n = (lin >> shift) ^ (lin >> (shift + 14));

	return table[n / 64 % 16] & BIT64(n & 63);
}

static void jump_bit_set(u64 *table, u64 lin, unsigned shift)
{
	u64 n = (lin >> shift) ^ (lin >> (shift + 14));

	table[n / 64 % 16] |= BIT64(n & 63);
}

/*
 * Jumps of different stamps lie in different windows, so that one address space's do not push another's out. What goes
 * by the epoch alone (jit/thunk.c) is to notice, too.
 */
static void set_stamp(struct code_cache *code, u64 stamp)
{
	struct code_memory *m = container_of(code, struct code_memory, code);

	code->epoch++;
	code->stamp = stamp;
	code->jump = m->jump + space_window(stamp, JUMP_SIZE);
}

void code_forget_jumps(struct code_cache *code)
{
	code->floor = ++code->last_stamp;
	set_stamp(code, code->floor);
	memset(code->jump_pages, 0, sizeof(code->jump_pages));
	memset(code->jump_mib4, 0, sizeof(code->jump_mib4));
}

void code_switch_jumps(struct code_cache *code, u64 stamp)
{
	set_stamp(code, stamp >= code->floor ? stamp : ++code->last_stamp);
}

void code_forget_jumps_to(struct code_cache *code, u64 lin, unsigned shift)
{
	if (shift == PAGE_SHIFT ? jump_bit(code->jump_pages, lin, PAGE_SHIFT)
				: shift != 22 || jump_bit(code->jump_mib4, lin, 22))
		code_forget_jumps(code);
}

void code_remember_jump(struct code_cache *code, struct jump_entry *j, u64 lin, u64 key, struct block *b)
{
	*j = (struct jump_entry){ .lin = lin, .key = key, .stamp = code->stamp, .block = b };
	jump_bit_set(code->jump_pages, lin, PAGE_SHIFT);
	jump_bit_set(code->jump_mib4, lin, 22);
}

void code_serialize(struct cpu *c)
{
	if (c->code)
		c->code->epoch++;
}

struct single *code_single(const struct code_cache *code, const u8 *host)
{
	u64 h = (u64)(uintptr_t)host * 0x9e3779b97f4a7c15ull;

	return &code->single[h >> 32 & (NR_SINGLES - 1)];
}

static void *arena_take(struct code_cache *code, size_t size)
{
	void *p = code->arena + code->used;

	size = (size + 15) & ~15ul;
	if (size > code->size - code->used)
		return NULL;
	code->used += size;
	return p;
}

static struct code_page **hash_slot(const struct code_cache *code, const u8 *host)
{
	u64 h = ((u64)(uintptr_t)host >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull;

	return &code->hash[h >> (64 - CODE_HASH_BITS)];
}

struct code_page *code_page_find(const struct code_cache *code, const u8 *host)
{
	struct code_page *p;

	for (p = *hash_slot(code, host); p; p = p->next)
		if (p->host == host)
			return p;
	return NULL;
}

static u64 *writable_word(const struct code_cache *code, u64 host, u64 *bit)
{
	u64 page = host >> PAGE_SHIFT;

	*bit = BIT64(page & 63);
	return &code->writable[(page / 64 ^ page / 64 / WRITABLE_WORDS) % WRITABLE_WORDS];
}

void code_note_writable(struct code_cache *code, const u8 *host)
{
	u64 bit, *word = writable_word(code, (u64)(uintptr_t)host, &bit);

	*word |= bit;
}

/*
 * Takes away every write tag that reaches a host page: there may be several linear addresses of it. Few pages that get
 * code have any; a search for them also brings the bits up to date.
 */
static void tlb_revoke_write(struct cpu *c, const u8 *host)
{
	u64 bit, *word = writable_word(c->code, (u64)(uintptr_t)host, &bit);

	if (!(*word & bit))
		return;
	memset(c->code->writable, 0, WRITABLE_WORDS * sizeof(u64));
	for (unsigned n = 0; n < NR_MMU * TLB_SPAN; n++) {
		struct tlb_entry *e = &c->tlb[n];

		if ((e->wr & PAGE_MASK) + e->addend == (u64)(uintptr_t)host)
			e->wr = 0;
		if (e->wr)
			code_note_writable(c->code, (const u8 *)(uintptr_t)((e->wr & PAGE_MASK) + e->addend));
	}
}

struct code_page *code_page_get(struct cpu *c, u8 *host)
{
	struct code_page *p = code_page_find(c->code, host);
	struct code_page **slot = hash_slot(c->code, host);

	if (!p) {
		p = arena_take(c->code, sizeof(*p));
		if (!p)
			return NULL;
		memset(p, 0, offsetof(struct code_page, copy));
		p->host = host;
		p->epoch = c->code->epoch;
		p->next = *slot;
		*slot = p;
	}
	return p;
}

void code_page_protect(struct cpu *c, struct code_page *p)
{
	if (!p->lines)
		tlb_revoke_write(c, p->host);
}

int block_stale(struct cpu *c, const struct insn *i)
{
	c->cur = i;
	c->gpr[R_RIP] = c->gpr[R_BLOCK] + i->end;
	return ST_AGAIN;
}

static u64 lines_of(unsigned off, unsigned bytes)
{
	return (~0ull << (off >> CODE_LINE_SHIFT)) & (~0ull >> (63 - ((off + bytes - 1) >> CODE_LINE_SHIFT)));
}

/* Jumps to this code from other blocks' are direct, so the code itself becomes a jump: the run loop looks up again. */
static void host_code_drop(const struct code_cache *code, u8 *at)
{
	s32 d = (s32)(code->host_stale - (at + 5));

	at[0] = 0xe9;
	memcpy(at + 1, &d, sizeof(d));
}

/*
 * The block that executes right now may be this one: its instructions stay where they are until the next flush, and
 * each sends the run loop back to look the code up anew. Jumps that lead to it find it on a page of no epoch.
 */
static void block_drop(struct code_cache *code, struct block *b)
{
	for (unsigned n = 0; n < b->n; n++)
		b->insn[n].fn = b->insn[n].run = block_stale;
	b->page = code->nowhere;
	if (b->host)
		host_code_drop(code, b->host);
}

void block_untranslate(struct code_cache *code, struct block *b)
{
	host_code_drop(code, b->host);
	b->insn[0].run = b->threaded;
	b->host = NULL;
	b->heat = 1;
	code->epoch++; /* short cuts to it are none any more */
}

static bool line_drop(struct code_cache *code, struct block **at, u64 lines)
{
	bool dropped = false;

	while (*at) {
		struct block *b = *at;

		if (lines_of(b->off, b->bytes) & lines) {
			block_drop(code, b);
			*at = b->next;
			dropped = true;
		} else {
			at = &b->next;
		}
	}
	return dropped;
}

/* Of the written lines those that lost code once too often are not worth caching. */
static void count_drop(struct code_page *p, u64 lines)
{
	for (; lines; lines &= lines - 1) {
		unsigned line = (unsigned)__builtin_ctzll(lines);

		if (++p->drops[line] == CODE_MAX_DROPS)
			p->hot |= BIT64(line);
	}
}

/* Drops the blocks that come, in part at least, from these lines. */
static void lines_drop(struct cpu *c, struct code_page *p, u64 lines)
{
	bool dropped = false;

	for (unsigned line = 0; line < ARRAY_SIZE(p->blocks); line++)
		dropped |= line_drop(c->code, &p->blocks[line], lines);
	if (dropped) {
		count_drop(p, lines & p->lines);
		c->code->epoch++; /* translated code is to look for what takes their place */
	}
	p->lines &= ~lines;
	c->stats.invalidations += dropped;
}

void code_page_cool(struct code_page *p)
{
	if (++p->singles < CODE_HOT_SINGLES)
		return;
	p->singles = 0;
	p->hot = 0;
	memset(p->drops, 0, sizeof(p->drops));
}

/* Guest memory against our copy of it; both may be any bytes, and the guest's may change meanwhile. */
__attribute__((no_sanitize("thread"))) static bool line_differs(const u8 *host, const u8 *copy)
{
	typedef u64 quads __attribute__((vector_size(16), aligned(8), may_alias));
	const volatile quads *a = (const volatile quads *)host;
	const quads *b = (const quads *)copy;
	quads diff = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);

	_Static_assert(LINE_SIZE == 4 * sizeof(diff), "all of it");
	return diff[0] | diff[1];
}

void code_page_validate(struct cpu *c, struct code_page *p)
{
	u64 stale = 0;

	if (p->epoch == c->code->epoch)
		return;
	c->stats.checks++;
	for (u64 lines = p->lines; lines; lines &= lines - 1) {
		unsigned off = (unsigned)__builtin_ctzll(lines) << CODE_LINE_SHIFT;

		if (line_differs(p->host + off, p->copy + off))
			stale |= lines & -lines;
	}
	if (stale)
		lines_drop(c, p, stale);
	p->epoch = c->code->epoch;
}

void code_written(struct cpu *c, struct code_page *p, unsigned off, unsigned size)
{
	u64 lines = lines_of(off, size);

	if (p->lines & lines)
		lines_drop(c, p, lines);
}

struct block *block_alloc(struct code_cache *code, unsigned n)
{
	return arena_take(code, sizeof(struct block) + n * sizeof(struct insn));
}

void block_insert(struct code_page *p, struct block *b)
{
	struct block **head = &p->blocks[b->off >> CODE_LINE_SHIFT];

	b->page = p;
	b->next = *head;
	*head = b;
}

struct block *block_find(const struct code_page *p, unsigned off, unsigned mode)
{
	struct block *b;

	for (b = p->blocks[off >> CODE_LINE_SHIFT]; b; b = b->next)
		if (b->off == off && b->mode == mode)
			return b;
	return NULL;
}
