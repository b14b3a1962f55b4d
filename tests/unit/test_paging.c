// SPDX-License-Identifier: MIT
/*
 * cpu_walk() over random page tables, against a model that follows the text of SDM vol. 3, chapter 4, one function a
 * paging mode, and looks at nothing but memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"

#include "flat.h"
#include "mem/tlb.h"

#define MEM (16ull << 12) /* all of it may be page tables */
#define ROUNDS 10000

static u64 seed = 0x9e3779b97f4a7c15;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d;
}

static bool one_in(unsigned n)
{
	return rnd() % n == 0;
}

/* ---- the model ---- */

struct outcome {
	bool fault;
	u32 error;
	u64 gpa;
	bool may_write, may_exec, dirty;
	unsigned shift;
	u64 touched[4]; /* addresses of the entries that were used, in order */
	unsigned nr;
};

struct request {
	const struct cpu *c;
	const u8 *mem;
	u64 lin;
	bool write, user, exec, lifted;
};

struct rights {
	bool w, u, nx;
};

/* A table where there is no memory is as good as none. */
static u64 load(const struct request *q, u64 gpa, unsigned size)
{
	u64 v = 0;

	if (gpa + size <= MEM)
		memcpy(&v, q->mem + gpa, size);
	return v;
}

static struct outcome *faults(const struct request *q, struct outcome *o, bool present, bool reserved)
{
	const struct cpu *c = q->c;
	bool pae = c->cr4 & CR4_PAE;

	o->fault = true;
	o->error = present | (u32)q->write << 1 | (u32)q->user << 2 | (u32)reserved << 3;
	if (q->exec && ((c->cr4 & CR4_SMEP) || (pae && (c->efer & EFER_NX))))
		o->error |= 16;
	return o;
}

static struct outcome *finish(const struct request *q, struct outcome *o, struct rights r, u64 leaf)
{
	const struct cpu *c = q->c;
	bool wp = c->cr0 & CR0_WP, smap = (c->cr4 & CR4_SMAP) && !q->lifted, smep = c->cr4 & CR4_SMEP;
	bool keys = (c->cr4 & CR4_PKE) && (c->efer & EFER_LMA) && r.u;
	bool ad = keys && (c->fpu.pkru >> 2 * (leaf >> 59 & 15) & 1);
	bool wd = keys && (c->fpu.pkru >> (2 * (leaf >> 59 & 15) + 1) & 1) && (q->user || wp);
	bool data, write, exec;

	if (q->user) {
		data = r.u;
		write = r.u && r.w;
		exec = r.u && !r.nx;
	} else if (r.u) {
		data = !smap;
		write = !smap && (r.w || !wp);
		exec = !smep && !r.nx;
	} else {
		data = true;
		write = r.w || !wp;
		exec = !r.nx;
	}
	data = data && !ad;
	write = write && !ad && !wd;
	if (q->exec ? !exec : q->write ? !write : !data) {
		faults(q, o, true, false);
		if (!q->exec && (ad || (q->write && wd)))
			o->error |= 32;
		return o;
	}
	o->may_write = write;
	o->may_exec = exec;
	o->dirty = (leaf & 0x40) || q->write;
	return o;
}

static void use(struct outcome *o, struct rights *r, u64 at, u64 e)
{
	o->touched[o->nr++] = at;
	r->w &= e >> 1 & 1;
	r->u &= e >> 2 & 1;
	r->nx |= e >> 63;
}

static struct outcome *model_32(const struct request *q, struct outcome *o)
{
	const struct cpu *c = q->c;
	struct rights r = { true, true, false };
	u64 at = (c->cr3 & 0xfffff000) + (q->lin >> 22 & 0x3ff) * 4, e = load(q, at, 4);
	unsigned m = c->phys_bits < 40 ? c->phys_bits : 40;

	use(o, &r, at, e);
	if (!(e & 1))
		return faults(q, o, false, false);
	if ((e & 0x80) && (c->cr4 & CR4_PSE)) {
		/* Bits M-20:13 are address bits M-1:32; the ones from there to 21 are reserved. */
		for (unsigned b = 13; b <= 21; b++)
			if ((e >> b & 1) && b > m - 20)
				return faults(q, o, true, true);
		o->gpa = (e & 0xffc00000) | (q->lin & 0x3fffff);
		for (unsigned b = 13; b <= m - 20; b++)
			o->gpa |= (e >> b & 1) << (b - 13 + 32);
		o->shift = 22;
		return finish(q, o, r, e);
	}
	at = (e & 0xfffff000) + (q->lin >> 12 & 0x3ff) * 4;
	e = load(q, at, 4);
	use(o, &r, at, e);
	if (!(e & 1))
		return faults(q, o, false, false);
	o->gpa = (e & 0xfffff000) | (q->lin & 0xfff);
	o->shift = 12;
	return finish(q, o, r, e);
}

static bool any_bit(u64 e, unsigned high, unsigned low)
{
	for (unsigned b = low; b <= high; b++)
		if (e >> b & 1)
			return true;
	return false;
}

/* What PAE and 4-level entries have in common; true if the walk is over. */
static bool model_entry(const struct request *q, struct outcome *o, struct rights *r, u64 table, unsigned shift,
			bool can_be_page, bool ignores_high, u64 *e)
{
	const struct cpu *c = q->c;
	u64 at = table + (q->lin >> shift & 0x1ff) * 8;
	bool page;

	*e = load(q, at, 8);
	use(o, r, at, *e);
	if (!(*e & 1))
		return faults(q, o, false, false);
	page = shift == 12 || ((*e & 0x80) && can_be_page);
	if (any_bit(*e, 51, c->phys_bits) || (!ignores_high && any_bit(*e, 62, 52)))
		return faults(q, o, true, true);
	if ((*e >> 63) && !(c->efer & EFER_NX))
		return faults(q, o, true, true);
	if (shift > 12 && (*e & 0x80) && !can_be_page)
		return faults(q, o, true, true);
	if (page && shift > 12 && any_bit(*e, shift - 1, 13))
		return faults(q, o, true, true);
	if (!page)
		return false;
	o->gpa = (*e & 0xffffffffff000 & ~((1ull << shift) - 1)) | (q->lin & ((1ull << shift) - 1));
	o->shift = shift;
	finish(q, o, *r, *e);
	return true;
}

#define ADDR(e) ((e)&0xffffffffff000)

static struct outcome *model_pae(const struct request *q, struct outcome *o)
{
	struct rights r = { true, true, false };
	u64 e = q->c->pdptr[q->lin >> 30 & 3];

	if (!(e & 1))
		return faults(q, o, false, false);
	if (!model_entry(q, o, &r, ADDR(e), 21, true, false, &e))
		model_entry(q, o, &r, ADDR(e), 12, true, false, &e);
	return o;
}

static struct outcome *model_long(const struct request *q, struct outcome *o)
{
	struct rights r = { true, true, false };
	u64 e = q->c->cr3;

	if (model_entry(q, o, &r, ADDR(e), 39, false, true, &e))
		return o;
	if (model_entry(q, o, &r, ADDR(e), 30, cpu_has(q->c, FEAT_GBPAGES), true, &e))
		return o;
	if (model_entry(q, o, &r, ADDR(e), 21, true, true, &e))
		return o;
	model_entry(q, o, &r, ADDR(e), 12, true, true, &e);
	return o;
}

/* ---- random machines ---- */

/* Mostly sound, so that walks get deep; sometimes with anything in it. */
static u64 random_entry(unsigned size, unsigned phys_bits, bool keys)
{
	u64 e = (rnd() % (MEM >> 12)) << 12 | (rnd() & 0x67) | 1;

	if (keys && one_in(2))
		e |= rnd() % 16 << 59;
	if (!one_in(4))
		e |= 6;
	if (one_in(12))
		e &= ~1ull;
	if (one_in(6)) {
		/* A large page: with an address that fits, mostly */
		e = (e & (0x67 | 15ull << 59)) | 0x80 | (rnd() & ((1ull << phys_bits) - 1) & ~0x3fffffffull);
		if (one_in(4))
			e |= rnd() & 0x3fffe000;
	}
	if (one_in(10))
		e |= BIT64(63);
	if (one_in(30))
		e |= BIT64(rnd() % 63);
	return size == 8 ? e : (u32)e;
}

static void random_tables(struct flat *f, enum paging mode, unsigned size)
{
	for (u64 at = 0; at < MEM; at += size) {
		u64 e = random_entry(size, f->cpu.phys_bits, mode == PAGING_4LEVEL);

		memcpy(f->mem + at, &e, size);
	}
}

static void random_bit(u64 *reg, u64 bit)
{
	*reg = one_in(2) ? *reg | bit : *reg & ~bit;
}

static void random_cpu(struct cpu *c, enum paging mode)
{
	c->cr0 = CR0_PE | CR0_PG | CR0_ET;
	c->cr4 = mode == PAGING_32 ? 0 : CR4_PAE;
	c->efer = mode == PAGING_4LEVEL ? EFER_LME | EFER_LMA : 0;
	random_bit(&c->cr0, CR0_WP);
	random_bit(&c->cr4, CR4_PSE);
	random_bit(&c->cr4, CR4_PGE);
	random_bit(&c->cr4, CR4_SMEP);
	random_bit(&c->cr4, CR4_SMAP);
	random_bit(&c->cr4, CR4_PKE);
	c->fpu.pkru = (u32)rnd();
	random_bit(&c->efer, EFER_NX);
	c->phys_bits = one_in(2) ? 36 : one_in(2) ? 40 : 46;
	random_bit(&c->feat, FEAT_GBPAGES);
	c->feat |= FEAT_PSE36;
	c->cr3 = (rnd() % (MEM >> 12)) << 12;
	for (unsigned n = 0; n < 4; n++)
		c->pdptr[n] = (rnd() % (MEM >> 12)) << 12 | !one_in(8);
	cpu_update_mode(c);
	assert_int_equal(c->paging, mode);
}

static void check_marks(const struct request *q, const struct outcome *o, const u8 *before)
{
	static u8 expect[MEM];

	memcpy(expect, before, MEM);
	for (unsigned n = 0; !o->fault && n < o->nr; n++) {
		expect[o->touched[n]] |= 0x20;
		if (n == o->nr - 1 && q->write)
			expect[o->touched[n]] |= 0x40;
	}
	assert_memory_equal(q->mem, expect, MEM);
}

static void one_walk(struct flat *f, enum paging mode)
{
	static u8 before[MEM];
	struct cpu *c = &f->cpu;
	struct outcome o = { 0 };
	struct walk w;
	struct request q = { c,         f->mem, mode == PAGING_4LEVEL ? rnd() : (u32)rnd(), false, one_in(2), one_in(3),
			     one_in(2) };
	unsigned access;
	int st;

	q.write = !q.exec && one_in(2);
	access = (q.write ? PF_W : 0) | (q.user ? PF_U : 0) | (q.exec ? PF_I : 0);
	mode == PAGING_32 ? model_32(&q, &o) : mode == PAGING_PAE ? model_pae(&q, &o) : model_long(&q, &o);
	memcpy(before, f->mem, MEM);

	/* A probe changes nothing. */
	st = cpu_walk(c, q.lin, access, q.lifted ? WALK_SMAP_LIFTED : 0, &w);
	assert_int_equal(st, o.fault ? ST_FAULT : ST_OK);
	assert_memory_equal(f->mem, before, MEM);

	memset(&c->fault, 0, sizeof(c->fault));
	st = cpu_walk(c, q.lin, access, WALK_SET_AD | (q.lifted ? WALK_SMAP_LIFTED : 0), &w);
	assert_int_equal(st, o.fault ? ST_FAULT : ST_OK);
	check_marks(&q, &o, before);
	if (o.fault) {
		assert_int_equal(c->fault.vector, VEC_PF);
		assert_int_equal(c->fault.error, o.error);
		assert_int_equal(c->fault.addr, q.lin);
		return;
	}
	assert_int_equal(w.gpa, o.gpa);
	assert_int_equal(w.shift, o.shift);
	assert_int_equal(!!(w.prot & PF_W), o.may_write);
	assert_int_equal(!!(w.prot & PF_I), o.may_exec);
	assert_int_equal(w.dirty, o.dirty);
}

static void random_walks(enum paging mode, unsigned size)
{
	struct flat *f = flat_new(MEM);

	for (unsigned n = 0; n < ROUNDS; n++) {
		if (n % 500 == 0)
			random_tables(f, mode, size);
		random_cpu(&f->cpu, mode);
		one_walk(f, mode);
	}
	flat_free(f);
}

static void test_32(void **state)
{
	(void)state;
	random_walks(PAGING_32, 4);
}

static void test_pae(void **state)
{
	(void)state;
	random_walks(PAGING_PAE, 8);
}

static void test_4level(void **state)
{
	(void)state;
	random_walks(PAGING_4LEVEL, 8);
}

/* ---- every combination, through the soft TLB ---- */

/*
 * One linear address, mapped by a table a level at fixed places. All nine kinds of access are made one after the other
 * in changing order without a flush: what one of them leaves in the TLB must not help or hinder the others.
 */
#define TABLE(level) (0x1000u * (1 + (level)))
#define LIN 0x5000ull /* and so the place within a large page */
#define GRANTS 7ull /* P, W, U */

struct shape {
	enum paging mode;
	unsigned levels, size; /* of the walk, and bytes of an entry */
};

static const struct shape shapes[] = {
	{ PAGING_32, 1, 4 },  { PAGING_32, 2, 4 },     { PAGING_PAE, 1, 8 },    { PAGING_PAE, 2, 8 },
	{ PAGING_4LEVEL, 2, 8 }, { PAGING_4LEVEL, 3, 8 }, { PAGING_4LEVEL, 4, 8 },
};

/* Levels of the mode; a shape with fewer ends in a large page. */
static unsigned depth(enum paging mode)
{
	return mode == PAGING_4LEVEL ? 4 : 2;
}

static u64 entry_at(const struct shape *s, unsigned level)
{
	unsigned shift = 12 + (depth(s->mode) - 1 - level) * (s->size == 8 ? 9 : 10);

	return TABLE(level) + (LIN >> shift) * s->size;
}

/* The entry of a level with these flags: a leaf of LIN's frame, or a pointer to the next table. */
static void put_entry(struct flat *f, const struct shape *s, unsigned level, u64 flags)
{
	bool leaf = level == s->levels - 1;
	u64 e = flags ^ (!leaf ? TABLE(level + 1) : s->levels == depth(s->mode) ? LIN : 0x80);

	memcpy(f->mem + entry_at(s, level), &e, s->size);
}

/* Bits of a number that stands for a configuration of the CPU. */
enum { CFG_WP, CFG_SMEP, CFG_SMAP, CFG_PSE_OR_NX, NR_CFG, CFG_KEYS = NR_CFG };

static void set_cfg(struct cpu *c, const struct shape *s, unsigned cfg)
{
	bool last = cfg >> CFG_PSE_OR_NX & 1;

	c->cr0 = CR0_PE | CR0_PG | CR0_ET | (cfg >> CFG_WP & 1 ? CR0_WP : 0);
	c->cr4 = s->mode == PAGING_32 ? (last ? CR4_PSE : 0) : CR4_PAE;
	c->cr4 |= (cfg >> CFG_SMEP & 1 ? CR4_SMEP : 0) | (cfg >> CFG_SMAP & 1 ? CR4_SMAP : 0);
	c->cr4 |= cfg >> CFG_KEYS & 1 ? CR4_PKE : 0;
	c->efer = (s->mode == PAGING_4LEVEL ? EFER_LME | EFER_LMA : 0) | (s->mode != PAGING_32 && last ? EFER_NX : 0);
	c->cr3 = TABLE(0);
	c->pdptr[0] = TABLE(0) | 1;
	cpu_update_mode(c);
	tlb_flush(c);
}

static void model(const struct request *q, struct outcome *o)
{
	if (q->c->paging == PAGING_32)
		model_32(q, o);
	else if (q->c->paging == PAGING_PAE)
		model_pae(q, o);
	else
		model_long(q, o);
}

static unsigned nr_granted, nr_denied;

static void one_access(struct flat *f, unsigned kind)
{
	static const u8 mmus[] = { MMU_USER, MMU_SUP, MMU_SUP_AC };
	enum mem_access how = (enum mem_access)(kind % 3);
	u8 mmu = mmus[kind / 3];
	struct cpu *c = &f->cpu;
	struct outcome o = { 0 };
	struct request q = { c, f->mem, LIN, how == MEM_WRITE, mmu == MMU_USER, how == MEM_EXEC, mmu == MMU_SUP_AC };
	struct page_ref r;
	int st;

	model(&q, &o);
	st = tlb_resolve(c, mmu, LIN, 1, how, &r);
	if (o.fault) {
		assert_int_equal(st, ST_FAULT);
		assert_int_equal(c->fault.error, o.error);
		nr_denied++;
	} else {
		assert_int_equal(st, ST_OK);
		nr_granted++;
		if (o.gpa < MEM)
			assert_ptr_equal(r.host, f->mem + o.gpa);
		else
			assert_null(r.host);
	}
}

static void all_accesses(struct flat *f)
{
	static const u8 strides[] = { 1, 2, 4, 5, 7, 8 };
	static unsigned turn;
	unsigned stride = strides[++turn % ARRAY_SIZE(strides)], kind = turn % 9;

	for (unsigned n = 0; n < 9; n++, kind = (kind + stride) % 9)
		one_access(f, kind);
}

/* W, U and NX in all levels. */
static void every_right(struct flat *f, const struct shape *s)
{
	unsigned bits = s->size == 8 ? 3 : 2, cfgs = s->mode == PAGING_4LEVEL ? 2u << NR_CFG : 1u << NR_CFG;

	for (unsigned rights = 0; rights < 1u << (bits * s->levels); rights++) {
		for (unsigned n = 0; n < s->levels; n++) {
			unsigned own = rights >> (bits * n);
			u64 flags = 1 | (own & 3) << 1 | (bits == 3 && (own & 4) ? BIT64(63) : 0);

			/* One key denies all, one writes, the last nothing. */
			if (s->mode == PAGING_4LEVEL && n == s->levels - 1)
				flags |= (rights % 3 + 5ull) << 59;
			put_entry(f, s, n, flags);
		}
		f->cpu.fpu.pkru = 1u << 2 * 5 | 2u << 2 * 6;
		for (unsigned cfg = 0; cfg < cfgs; cfg++) {
			set_cfg(&f->cpu, s, cfg);
			all_accesses(f);
		}
	}
}

static void plain_entries(struct flat *f, const struct shape *s)
{
	memset(f->mem, 0, MEM);
	for (unsigned n = 0; n < s->levels; n++)
		put_entry(f, s, n, GRANTS);
}

/*
 * Any one bit, and any two bits of one entry, other than they should be: P, PS, reserved and ignored ones, addresses.
 */
static void every_bit(struct flat *f, const struct shape *s)
{
	unsigned bits = s->size * 8;

	for (unsigned level = 0; level < s->levels; level++) {
		plain_entries(f, s);
		for (unsigned a = 0; a < bits; a++) {
			for (unsigned b = a; b < bits; b++) {
				put_entry(f, s, level, GRANTS ^ BIT64(a) ^ (a == b ? 0 : BIT64(b)));
				f->cpu.feat ^= FEAT_GBPAGES;
				set_cfg(&f->cpu, s, (a * 7 + b) % (1u << NR_CFG));
				all_accesses(f);
			}
		}
	}
}

/* Accessed bits in all levels and the dirty bit, before each kind of access. */
static void every_mark(struct flat *f, const struct shape *s)
{
	static u8 before[MEM];

	plain_entries(f, s);
	f->cpu.feat |= FEAT_GBPAGES;
	for (unsigned marks = 0; marks < 2u << s->levels; marks++) {
		for (unsigned kind = 0; kind < 9; kind++) {
			struct outcome o = { 0 };
			struct request q = { &f->cpu, f->mem, LIN, kind % 3 == MEM_WRITE, kind / 3 == 0,
					     kind % 3 == MEM_EXEC, false };

			for (unsigned n = 0; n < s->levels; n++)
				put_entry(f, s, n, GRANTS | (marks >> n & 1 ? 0x20 : 0) |
						(n == s->levels - 1 && (marks >> s->levels & 1) ? 0x40 : 0));
			set_cfg(&f->cpu, s, 1 << CFG_WP | 1 << CFG_PSE_OR_NX);
			memcpy(before, f->mem, MEM);
			model(&q, &o);
			one_access(f, kind);
			check_marks(&q, &o, before);
			/* Whatever is in the TLB now, a write marks the page dirty. */
			one_access(f, kind / 3 * 3 + MEM_WRITE);
			assert_true(f->mem[entry_at(s, s->levels - 1)] & 0x40);
		}
	}
}

static void test_every_combination(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	f->cpu.feat |= FEAT_GBPAGES | FEAT_PSE36;
	for (unsigned n = 0; n < ARRAY_SIZE(shapes); n++) {
		memset(f->mem, 0, MEM);
		nr_granted = nr_denied = 0;
		every_right(f, &shapes[n]);
		print_message("    mode %u, %u levels: %u granted, %u denied\n", shapes[n].mode, shapes[n].levels,
			      nr_granted, nr_denied);
		assert_in_range(nr_granted, nr_denied / 20, nr_denied * 20);
		every_bit(f, &shapes[n]);
		every_mark(f, &shapes[n]);
	}
	flat_free(f);
}

static void test_none(void **state)
{
	struct flat *f = flat_new(MEM);
	struct walk w;

	(void)state;
	assert_int_equal(cpu_walk(&f->cpu, 0x12345, PF_W | PF_U, WALK_SET_AD, &w), ST_OK);
	assert_int_equal(w.gpa, 0x12345);
	assert_int_equal(w.prot, PF_W | PF_U | PF_I);
	flat_free(f);
}

/* PDPTEs are checked when they are loaded, and kept from then on. */
static void test_pdptrs(void **state)
{
	struct flat *f = flat_new(MEM);
	struct cpu *c = &f->cpu;
	u64 good[4] = { 0x1001, 0x2001, 0, 0x3019 }, bad[4] = { 0x1001, 0x2001, 0, 0x3003 };

	(void)state;
	memcpy(f->mem + 0x5020, good, 32);
	memcpy(f->mem + 0x6000, bad, 32);
	flat_prot(f, 0);
	assert_int_equal(cpu_write_cr3(c, 0x5020), ST_OK);
	assert_int_equal(cpu_write_cr4(c, CR4_PAE), ST_OK);
	assert_int_equal(cpu_write_cr0(c, CR0_PE | CR0_PG), ST_OK);
	assert_int_equal(c->paging, PAGING_PAE);
	assert_memory_equal(c->pdptr, good, 32);
	assert_int_equal(cpu_write_cr3(c, 0x6000), ST_FAULT);
	assert_int_equal(c->fault.vector, VEC_GP);
	assert_int_equal(c->cr3, 0x5020);
	assert_memory_equal(c->pdptr, good, 32);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_32),   cmocka_unit_test(test_pae),    cmocka_unit_test(test_4level),
		cmocka_unit_test(test_none), cmocka_unit_test(test_pdptrs), cmocka_unit_test(test_every_combination),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
