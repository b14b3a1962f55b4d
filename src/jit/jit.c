// SPDX-License-Identifier: MIT
/* The translator's life beside the decodings': memory, entry, links between blocks, lost memory. */
#include "jit/jit.h"

#include <errno.h>

#include "jit/translate.h"
#include "os/mem.h"

#define HOST_ARENA_SIZE (32u << 20)
#define HEAT 64
#define MISSES 32 /* so many, each within that many blocks after the one before, are too many */
#define MISS_BLOCKS 100
#define BYTES_PER_FAULT 16 /* translated code has more bytes than this for each access */

/* Status flags as cpu::cc has them, and as LAHF and SETO AL leave them in AX. */
static u64 flags_from_cc(u64 cc)
{
	return (cc & 0xff) << 8 | ((cc >> 11) & 1);
}

static u64 flags_to_cc(u64 flags)
{
	return ((flags >> 8) & 0xff) | (flags & 1) << 11;
}

/*
 * The last block left for one that had no code then. If that is what comes now, the next time will be direct. The link
 * lies in the code, wherever that ends.
 */
static void close_link(struct cpu *c, const struct block *b)
{
	struct jit_link l;

	__builtin_memcpy(&l, c->jit.link, sizeof(l));
	c->jit.link = NULL;
	if (l.page == b->page && l.off == b->off && l.mode == b->mode)
		emit_target(l.at, b->host);
}

/*
 * Is RIP the linear address, and is all of a page code if some of it is? In 64-bit mode, always. That cannot change
 * while translated code runs, since far branches leave it.
 */
static bool code_is_flat(const struct cpu *c, const struct block *b)
{
	return b->mode == DECODE_64 || (!c->code_base && c->seg[SEG_CS].limit == ~0u);
}

/* Another tag for each epoch and code_key: a jump that was good under it is so until either changes. */
static __attribute__((noinline)) void new_tag(struct cpu *c)
{
	struct jit *j = c->jit.unit;
	u32 n = 0;

	if (j->epoch != c->code->epoch || j->nr_keys == MAX_KEYS) {
		if (j->epoch == c->code->epoch)
			c->code->epoch++;
		j->epoch = c->code->epoch;
		j->nr_keys = 0;
	}
	while (n < j->nr_keys && j->key[n] != c->code_key)
		n++;
	j->key[n] = c->code_key;
	if (n == j->nr_keys)
		j->nr_keys++;
	c->jit.tag = j->epoch * MAX_KEYS + n;
}

/* Whenever translated code goes on, and something else has run. */
static void set_tag(struct cpu *c)
{
	const struct jit *j = c->jit.unit;

	if (unlikely(j->epoch != c->code->epoch || j->key[c->jit.tag % MAX_KEYS] != c->code_key))
		new_tag(c);
}

int jit_enter(struct cpu *c, const struct insn *i)
{
	const struct block *b = container_of(i, struct block, insn[0]);
	int st;

	if (unlikely(!code_is_flat(c, b)))
		return b->threaded(c, i);
	if (c->jit.link)
		close_link(c, b);
	c->jit.flags = flags_from_cc(c->cc);
	set_tag(c);
	st = c->jit.unit->enter(c, b->body);
	c->cc = flags_to_cc(c->jit.flags);
	return st;
}

/* Called from translated code. A block that its own instruction dropped must not go on. */
static int step_handler(struct cpu *c, const struct insn *i)
{
	int st;

	c->cc = flags_to_cc(c->jit.flags);
	st = c->jit.unit->step(c, i);
	c->jit.flags = flags_from_cc(c->cc);
	set_tag(c);
	return st == ST_OK && i->fn == block_stale ? ST_END : st;
}

/*
 * A group of accesses cannot be made as one. If that happens all the time (a stack frame that lies across two pages, in
 * a loop), the block is translated anew, without groups.
 */
static void count_miss(struct cpu *c, struct block *b)
{
	u32 now = (u32)(c->stats.blocks + c->quota - c->budget);

	b->misses = now - b->missed < MISS_BLOCKS ? b->misses + 1 : 0;
	b->missed = now;
	if (b->misses < MISSES || b->page == c->code->nowhere)
		return;
	b->apart = true;
	block_untranslate(c->code, b);
}

/* Called from translated code: the rest of the block, from i on. */
static int interpret_rest(struct cpu *c, const struct insn *i)
{
	const struct insn *first = i;
	int st;

	while (first->end != first->len)
		first--;
	c->cc = flags_to_cc(c->jit.flags);
	count_miss(c, container_of(first, struct block, insn[0]));
	st = i->run == jit_enter ? container_of(i, struct block, insn[0])->threaded(c, i) : i->run(c, i);
	c->jit.flags = flags_from_cc(c->cc);
	return st;
}

int jit_init(struct cpu *c, insn_fn step)
{
	struct code_cache *code = c->code;
	struct jit *j = os_alloc(sizeof(*j));
	struct emit e;

	code->host_arena = os_alloc_exec(HOST_ARENA_SIZE);
	if (j)
		j->faults = os_alloc(HOST_ARENA_SIZE / BYTES_PER_FAULT * sizeof(j->faults[0]));
	if (!j || !code->host_arena || !j->faults) {
		c->jit.unit = j;
		jit_free(c);
		return -ENOMEM;
	}
	code->host_size = HOST_ARENA_SIZE;
	j->max_faults = HOST_ARENA_SIZE / BYTES_PER_FAULT;
	j->step = step;
	j->handler = step_handler;
	j->interpret = interpret_rest;
	e.at = code->host_arena;
	thunks_emit(&e, j, c);
	code->host_stale = j->leave_start;
	code->host_floor = code->host_used = ((size_t)(e.at - code->host_arena) + 15) & ~15ul;
	code->heat = HEAT;
	c->jit.unit = j;
	return 0;
}

void jit_free(struct cpu *c)
{
	struct jit *j = c->jit.unit;

	if (c->code) {
		os_free(c->code->host_arena, HOST_ARENA_SIZE);
		c->code->host_arena = NULL;
		c->code->host_size = 0;
	}
	if (j)
		os_free(j->faults, HOST_ARENA_SIZE / BYTES_PER_FAULT * sizeof(j->faults[0]));
	os_free(j, sizeof(*j));
	c->jit.unit = NULL;
}

u64 jit_recover(const struct cpu *c, u64 ip)
{
	const struct jit *j = c->jit.unit;
	u64 base = c->code ? (u64)(uintptr_t)c->code->host_arena : 0;
	u32 low = 0, high;

	if (!j || ip - base >= c->code->host_used)
		return 0;
	high = j->nr_faults;
	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (j->faults[mid].at < ip - base)
			low = mid + 1;
		else
			high = mid;
	}
	return low < j->nr_faults && j->faults[low].at == ip - base ? base + j->faults[low].to : 0;
}
