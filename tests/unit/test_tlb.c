// SPDX-License-Identifier: MIT
/*
 * What the soft TLB and the cached jumps may still know after a translation has changed (SDM vol. 3, 4.10): random
 * changes of page tables, switches between PCIDs and invalidations, by the guest's own instructions, against a model
 * that holds for each PCID and page what the CPU may have cached. Every access must find one of these.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"

#include "exec.h"
#include "mem/tlb.h"

#define MEM (8ull << 20)
#define ROOTS 3 /* address spaces: a PML4 each, and a table of 4 KiB pages */
#define PCIDS 5
#define PAGES 6
#define FRAMES 8 /* physical pages; the first instruction of each tells which it is */
#define FRAME(n) (0x100000u + (n) * 0x1000u)
#define CODE 0x10000u
#define STEPS 60000

/* Some share a place in the soft TLB, one is used by code only now and then. */
static const u64 pages[PAGES] = { 0x40000000, 0x40001000, 0x40400000, 0x40401000, 0x40002000, 0x40003000 };
static const u16 pcids[PCIDS] = { 0, 1, 2, 0x802, 17 };

struct model {
	u32 kept[PCIDS][PAGES]; /* sets of frames */
	u32 global[PAGES];
	u32 now[ROOTS][PAGES]; /* the frame; FRAMES: not present */
	bool is_global[ROOTS][PAGES];
	unsigned root, pcid;
	bool tagged;
};

struct test {
	struct flat *f;
	struct cpu *c;
	struct model m;
	u64 seed;
};

static u64 rnd(struct test *t, u64 n)
{
	t->seed ^= t->seed << 13;
	t->seed ^= t->seed >> 7;
	t->seed ^= t->seed << 17;
	return (t->seed * 0x2545f4914f6cdd1d >> 11) % n;
}

/* ---- the guest ---- */

static u64 root(unsigned r)
{
	return 0x20000 + r * 0x8000;
}

static u64 *table_entry(struct test *t, unsigned r, unsigned page)
{
	u64 lin = pages[page];
	u64 table = root(r) + (lin >> 21 & 0x1ff ? 0x5000 : 0x4000);

	return (u64 *)(t->f->mem + table + (lin >> 12 & 0x1ff) * 8);
}

static void put(struct test *t, u64 at, u64 v)
{
	memcpy(t->f->mem + at, &v, 8);
}

/* PML4, PDPT, the first GiB in large pages, and a directory with two tables at the second GiB. */
static void put_root(struct test *t, unsigned r)
{
	u64 at = root(r);

	put(t, at, (at + 0x1000) | 7);
	put(t, at + 0x1000, (at + 0x2000) | 7);
	put(t, at + 0x1008, (at + 0x3000) | 7);
	for (u64 n = 0; n < 512; n++)
		put(t, at + 0x2000 + n * 8, n << 21 | 0x1e7);
	put(t, at + 0x3000, (at + 0x4000) | 7);
	put(t, at + 0x3010, (at + 0x5000) | 7);
}

static void instruction(struct test *t, const u8 *bytes, size_t n, int want)
{
	int st = exec_bytes(t->f, bytes, n);

	if (want == ST_OK)
		assert_in_range(st, ST_OK, ST_END);
	else
		assert_int_equal(st, want);
}
#define INSN(t, ...) instruction(t, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }), ST_OK)

/* ---- the model: what is cached, what goes ---- */

static void may_cache(struct test *t)
{
	struct model *m = &t->m;

	for (unsigned p = 0; p < PAGES; p++) {
		u32 frame = m->now[m->root][p];

		if (frame == FRAMES)
			continue;
		if (m->is_global[m->root][p])
			m->global[p] |= BIT(frame);
		else
			m->kept[m->pcid][p] |= BIT(frame);
	}
}

static void forget(struct test *t, unsigned pcid)
{
	memset(t->m.kept[pcid], 0, sizeof(t->m.kept[pcid]));
}

static void forget_all(struct test *t)
{
	memset(t->m.kept, 0, sizeof(t->m.kept));
	memset(t->m.global, 0, sizeof(t->m.global));
}

/* ---- steps ---- */

static void change_page(struct test *t)
{
	unsigned r = (unsigned)rnd(t, ROOTS), p = (unsigned)rnd(t, PAGES);
	u32 frame = (u32)rnd(t, FRAMES + 3);
	bool global = rnd(t, 4) == 0;

	if (frame > FRAMES)
		frame = FRAMES;
	t->m.now[r][p] = frame;
	t->m.is_global[r][p] = global;
	*table_entry(t, r, p) = frame == FRAMES ? 0 : FRAME(frame) | 7 | (global ? 0x100 : 0);
}

static void switch_space(struct test *t)
{
	unsigned r = (unsigned)rnd(t, ROOTS), pcid = t->m.tagged ? (unsigned)rnd(t, PCIDS) : 0;
	bool keep = t->m.tagged && rnd(t, 3);

	t->c->gpr[RAX] = root(r) | pcids[pcid] | (keep ? BIT64(63) : 0);
	INSN(t, 0x0f, 0x22, 0xd8); /* mov cr3, rax */
	assert_int_equal(t->c->cr3, root(r) | pcids[pcid]);
	if (!keep)
		forget(t, pcid);
	t->m.root = r;
	t->m.pcid = pcid;
}

static void invlpg(struct test *t)
{
	unsigned p = (unsigned)rnd(t, PAGES);

	t->c->gpr[RAX] = pages[p] + rnd(t, 4096);
	INSN(t, 0x0f, 0x01, 0x38);
	t->m.kept[t->m.pcid][p] = t->m.global[p] = 0;
}

static void invpcid(struct test *t)
{
	unsigned type = (unsigned)rnd(t, 4), p = (unsigned)rnd(t, PAGES),
		 pcid = t->m.tagged ? (unsigned)rnd(t, PCIDS) : 0;

	put(t, 0x3000, pcids[pcid]);
	put(t, 0x3008, pages[p]);
	t->c->gpr[RAX] = 0x3000;
	t->c->gpr[RCX] = type;
	INSN(t, 0x66, 0x0f, 0x38, 0x82, 0x08); /* invpcid rcx, [rax] */
	if (type == 0)
		t->m.kept[pcid][p] = 0;
	else if (type == 1)
		forget(t, pcid);
	else if (type == 2)
		forget_all(t);
	else
		memset(t->m.kept, 0, sizeof(t->m.kept));
}

static void change_cr4(struct test *t)
{
	unsigned what = (unsigned)rnd(t, 3);

	if (what == 0) { /* as Linux flushes everything */
		t->c->gpr[RAX] = t->c->cr4 ^ CR4_PGE;
		INSN(t, 0x0f, 0x22, 0xe0);
		t->c->gpr[RAX] ^= CR4_PGE;
		INSN(t, 0x0f, 0x22, 0xe0);
		forget_all(t);
	} else if (t->m.tagged) {
		t->c->gpr[RAX] = t->c->cr4 & ~CR4_PCIDE;
		INSN(t, 0x0f, 0x22, 0xe0);
		t->c->gpr[RAX] = t->c->cr3 & ~0xfffull;
		INSN(t, 0x0f, 0x22, 0xd8);
		t->m.tagged = false;
		t->m.pcid = 0;
		forget_all(t);
	} else {
		t->c->gpr[RAX] = t->c->cr4 | CR4_PCIDE;
		INSN(t, 0x0f, 0x22, 0xe0);
		t->m.tagged = true;
	}
}

/* The guest writes the same bytes once more: cached code goes, wherever it was reached from. */
static void rewrite_frame(struct test *t)
{
	unsigned n = (unsigned)rnd(t, FRAMES);
	u8 byte = (u8)n;

	assert_int_equal(mem_write(t->c, SEG_FLAT, FRAME(n) + 1, &byte, 1), ST_OK);
}

static void access_page(struct test *t, unsigned p)
{
	struct model *m = &t->m;
	struct cpu *c = t->c;
	u8 got = 0;

	may_cache(t);
	if (rnd(t, 2)) {
		int st = mem_read(c, SEG_FLAT, pages[p] + 1, &got, 1);

		if (st == ST_FAULT) {
			assert_int_equal(c->fault.addr, pages[p] + 1);
			assert_int_equal(m->now[m->root][p], FRAMES);
			return;
		}
	} else {
		c->gpr[R_RIP] = pages[p];
		c->idt.limit = 0; /* a fault is the end */
		if (interp_run(c) == EXIT_SHUTDOWN) {
			assert_int_equal(m->now[m->root][p], FRAMES);
			return;
		}
		assert_int_equal(c->exit.reason, EXIT_HLT);
		got = (u8)c->gpr[RAX];
	}
	assert_true((m->kept[m->pcid][p] | m->global[p]) & BIT(got));
}

static void random_steps(void **state)
{
	struct test t = { .f = flat_new(MEM), .seed = 0x1234567 };

	(void)state;
	t.c = &t.f->cpu;
	flat_long(t.f, CODE);
	for (unsigned r = 0; r < ROOTS; r++) {
		put_root(&t, r);
		for (unsigned p = 0; p < PAGES; p++)
			t.m.now[r][p] = FRAMES;
	}
	for (unsigned n = 0; n < FRAMES; n++) /* mov al, n; hlt */
		memcpy(t.f->mem + FRAME(n), (const u8[]){ 0xb0, (u8)n, 0xf4 }, 3);
	t.c->cr3 = root(0);
	t.c->cr4 |= CR4_PGE;
	cpu_update_mode(t.c);
	tlb_flush(t.c);
	for (unsigned n = 0; n < STEPS; n++) {
		unsigned what = (unsigned)rnd(&t, 40);

		if (what < 8)
			change_page(&t);
		else if (what < 14)
			switch_space(&t);
		else if (what < 16)
			invlpg(&t);
		else if (what < 17)
			invpcid(&t);
		else if (what == 17 && rnd(&t, 8) == 0)
			change_cr4(&t);
		else if (what == 18)
			rewrite_frame(&t);
		for (unsigned p = 0; p < PAGES; p++)
			access_page(&t, p);
	}
	flat_free(t.f);
}

/* Coming back to a PCID with bit 63 finds what was there: nothing is walked again. */
static void kept_spaces_hit(void **state)
{
	struct test t = { .f = flat_new(MEM) };
	struct cpu *c;
	u64 misses;
	u8 v;

	(void)state;
	c = t.c = &t.f->cpu;
	flat_long(t.f, CODE);
	for (unsigned r = 0; r < 2; r++)
		put_root(&t, r);
	*table_entry(&t, 0, 0) = FRAME(0) | 7;
	*table_entry(&t, 1, 1) = FRAME(1) | 7;
	c->cr3 = root(0);
	tlb_flush(c);
	assert_int_equal(cpu_write_cr4(c, c->cr4 | CR4_PCIDE), ST_OK);
	assert_int_equal(cpu_write_cr3(c, root(0) | 1), ST_OK);
	assert_int_equal(mem_read(c, SEG_FLAT, pages[0], &v, 1), ST_OK);
	assert_int_equal(cpu_write_cr3(c, root(1) | 2), ST_OK);
	assert_int_equal(mem_read(c, SEG_FLAT, pages[1], &v, 1), ST_OK);
	misses = c->stats.tlb_miss[MEM_READ];
	for (unsigned n = 0; n < 10; n++) {
		assert_int_equal(cpu_write_cr3(c, root(0) | 1 | BIT64(63)), ST_OK);
		assert_int_equal(mem_read(c, SEG_FLAT, pages[0], &v, 1), ST_OK);
		assert_int_equal(cpu_write_cr3(c, root(1) | 2 | BIT64(63)), ST_OK);
		assert_int_equal(mem_read(c, SEG_FLAT, pages[1], &v, 1), ST_OK);
	}
	assert_int_equal(c->stats.tlb_miss[MEM_READ], misses);
	assert_int_equal(mem_read(c, SEG_FLAT, pages[0], &v, 1), ST_FAULT);
	flat_free(t.f);
}

/* ---- large pages ---- */

#define LARGE_MEM (32ull << 20)
#define SLOTS 4
#define PIECES 5
#define LARGE_FRAMES 4
#define LARGE_FRAME(n) ((8ull << 20) + (n) * (2ull << 20))
#define LARGE_STEPS 20000

/* Two in the same 4 MiB, and one whose pieces have the places of another's in the soft TLB. */
static const u64 slots[SLOTS] = { 0x40000000, 0x40200000, 0x40400000, 0x41000000 };
static const u64 pieces[PIECES] = { 0, 0x1000, 0x7000, 0xff000, 0x1ff000 };

/*
 * What a translation says: a frame, which may not be executable, or that there is none. For each 2 MiB of linear
 * addresses, those that may be cached, of a whole and of parts.
 */
#define CODE_FRAME(n) (2 * (n))
#define DATA_FRAME(n) (2 * (n) + 1)
#define ABSENT (2 * LARGE_FRAMES)
struct large_model {
	u32 whole[SLOTS], part[SLOTS][PIECES];
	bool is_whole[SLOTS];
	u32 now[SLOTS][PIECES];
};

static void may_cache_large(struct large_model *m)
{
	for (unsigned s = 0; s < SLOTS; s++) {
		if (m->is_whole[s])
			m->whole[s] |= BIT(m->now[s][0]);
		for (unsigned p = 0; p < PIECES && !m->is_whole[s]; p++)
			if (m->now[s][p] != ABSENT)
				m->part[s][p] |= BIT(m->now[s][p]);
	}
}

static u64 large_entry(u32 says, u64 offset, u64 flags)
{
	return says == ABSENT ? 0 : LARGE_FRAME(says / 2) | offset | flags | (says & 1 ? BIT64(63) : 0);
}

/* A large page, or a table of small ones. */
static void change_slot(struct test *t, struct large_model *m, unsigned s)
{
	u64 table = 0x22000 + s * 0x1000, entry = 0x21000 + (slots[s] >> 21 & 0x1ff) * 8;
	u32 says = (u32)rnd(t, ABSENT);

	m->is_whole[s] = rnd(t, 2);
	put(t, entry, m->is_whole[s] ? large_entry(says, 0, 0x87) : table | 7);
	for (unsigned p = 0; p < PIECES; p++) {
		if (!m->is_whole[s] && rnd(t, 2))
			says = (u32)rnd(t, ABSENT + 1);
		m->now[s][p] = says;
		put(t, table + (pieces[p] >> 12) * 8, large_entry(says, pieces[p], 7));
	}
}

/* What it has to be that an access in vain was right: that one is never told from what is cached. */
static void assert_in_vain(u32 says, bool execute)
{
	assert_true(says == ABSENT || (execute && (says & 1)));
}

static void access_piece(struct test *t, struct large_model *m, unsigned s, unsigned p)
{
	enum mem_access how = rnd(t, 2) ? MEM_READ : MEM_EXEC;
	u64 lin = slots[s] + pieces[p];
	struct cpu *c = t->c;
	struct page_ref r;
	u32 frame, ok;

	may_cache_large(m);
	if (rnd(t, 4)) {
		if (tlb_resolve(c, (unsigned)rnd(t, NR_MMU), lin, 1, how, &r) == ST_FAULT) {
			assert_in_vain(m->now[s][p], how == MEM_EXEC);
			return;
		}
		assert_int_equal((u64)(r.host - t->f->mem) & 0x1fffff, pieces[p]);
		frame = (u32)((u64)(r.host - t->f->mem - LARGE_FRAME(0)) >> 21);
	} else {
		how = MEM_EXEC;
		c->gpr[R_RIP] = lin;
		if (interp_run(c) == EXIT_SHUTDOWN) {
			assert_in_vain(m->now[s][p], true);
			return;
		}
		frame = c->gpr[RAX] & 0xff;
	}
	ok = BIT(CODE_FRAME(frame)) | (how == MEM_EXEC ? 0 : BIT(DATA_FRAME(frame)));
	assert_true((m->whole[s] | m->part[s][p]) & ok);
}

/* INVLPG drops all of a large page's translation, whatever the tables say by now (SDM vol. 3, 4.10.4.1). */
static void large_pages(void **state)
{
	struct test t = { .f = flat_new(LARGE_MEM), .seed = 0x7654321 };
	struct large_model m = { 0 };

	(void)state;
	t.c = &t.f->cpu;
	flat_long(t.f, CODE);
	t.c->idt.limit = 0; /* a fault is the end */
	put(&t, LARGE_MEM - 2 * PAGE_SIZE + 8, 0x21007);
	for (unsigned n = 0; n < LARGE_FRAMES; n++)
		for (unsigned p = 0; p < PIECES; p++) /* mov al, n; hlt */
			memcpy(t.f->mem + LARGE_FRAME(n) + pieces[p], (const u8[]){ 0xb0, (u8)n, 0xf4 }, 3);
	for (unsigned s = 0; s < SLOTS; s++)
		change_slot(&t, &m, s);
	for (unsigned n = 0; n < LARGE_STEPS; n++) {
		unsigned what = (unsigned)rnd(&t, 12), s = (unsigned)rnd(&t, SLOTS), p = (unsigned)rnd(&t, PIECES);

		may_cache_large(&m);
		if (what == 0) {
			change_slot(&t, &m, s);
		} else if (what == 1) {
			t.c->gpr[RAX] = slots[s] + pieces[p] + rnd(&t, 4096);
			INSN(&t, 0x0f, 0x01, 0x38); /* invlpg [rax] */
			m.whole[s] = m.part[s][p] = 0;
		} else if (what == 2 && !rnd(&t, 50)) {
			t.c->gpr[RAX] = t.c->cr3;
			INSN(&t, 0x0f, 0x22, 0xd8); /* mov cr3, rax */
			memset(m.whole, 0, sizeof(m.whole));
			memset(m.part, 0, sizeof(m.part));
		} else {
			access_piece(&t, &m, s, p);
		}
	}
	flat_free(t.f);
}

/* INVLPG of a small page is not mistaken for one of a large page 2 GiB away, which would cost all cached jumps. */
static void small_page_alone(void **state)
{
	struct test t = { .f = flat_new(LARGE_MEM) };
	u64 stamp;
	u8 v;

	(void)state;
	t.c = &t.f->cpu;
	flat_long(t.f, CODE);
	put(&t, LARGE_MEM - 2 * PAGE_SIZE + 8, 0x21007);
	put(&t, 0x21000, large_entry(CODE_FRAME(0), 0, 0x87));
	assert_int_equal(mem_read(t.c, SEG_FLAT, slots[0], &v, 1), ST_OK);
	stamp = t.c->code->stamp;
	t.c->gpr[RAX] = slots[0] + (2ull << 30);
	INSN(&t, 0x0f, 0x01, 0x38);
	assert_int_equal(t.c->code->stamp, stamp);
	flat_free(t.f);
}

/* SDM vol. 2, INVPCID */
static void invpcid_faults(void **state)
{
	static const struct {
		bool tagged;
		u8 cpl;
		u64 type, desc[2];
		int vector; /* 0: none */
	} rows[] = {
		{ false, 0, 0, { 0, 0x1000 }, 0 },
		{ false, 0, 0, { 1, 0x1000 }, VEC_GP }, /* a PCID without CR4.PCIDE */
		{ false, 0, 1, { 1, 0 }, VEC_GP },
		{ false, 0, 1, { 0, 0 }, 0 },
		{ false, 0, 2, { 1, 0 }, 0 },
		{ false, 0, 3, { 1, BIT64(47) }, 0 },
		{ true, 0, 0, { 1, 0x1000 }, 0 },
		{ true, 0, 0, { 0xfff, 0xffff800000000000 }, 0 },
		{ true, 0, 0, { 1, BIT64(47) }, VEC_GP },
		{ true, 0, 1, { 1, BIT64(47) }, 0 },
		{ true, 0, 0, { 0x1000, 0 }, VEC_GP }, /* reserved bits */
		{ true, 0, 2, { BIT64(63), 0 }, VEC_GP },
		{ true, 0, 4, { 0, 0 }, VEC_GP },
		{ true, 0, BIT64(32), { 0, 0 }, VEC_GP },
		{ true, 3, 2, { 0, 0 }, VEC_GP },
	};

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = flat_new(MEM);
		struct cpu *c = &f->cpu;
		int st;

		flat_long(f, CODE);
		if (rows[n].tagged)
			assert_int_equal(cpu_write_cr4(c, c->cr4 | CR4_PCIDE), ST_OK);
		for (unsigned s = SEG_ES; rows[n].cpl && s <= SEG_GS; s++)
			c->seg[s].attr |= 3 << ATTR_DPL_SHIFT;
		cpu_update_mode(c);
		memcpy(f->mem + 0x3000, rows[n].desc, 16);
		c->gpr[RAX] = 0x3000;
		c->gpr[RCX] = rows[n].type;
		st = EXEC(f, 0x66, 0x0f, 0x38, 0x82, 0x08);
		if (rows[n].vector)
			assert_fault(f, st, rows[n].vector, 0);
		else
			assert_int_equal(st, ST_END);
		c->feat &= ~FEAT_INVPCID;
		st = EXEC(f, 0x66, 0x0f, 0x38, 0x82, 0x08);
		assert_fault(f, st, VEC_UD, 0);
		flat_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_steps),
		cmocka_unit_test(large_pages),
		cmocka_unit_test(small_page_alone),
		cmocka_unit_test(kept_spaces_hit),
		cmocka_unit_test(invpcid_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
