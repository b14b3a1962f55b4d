// SPDX-License-Identifier: MIT
#include "guest.h"

#include <sys/mman.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/debug.h"
#include "cpu/fpu.h"
#include "insn/insn.h"
#include "interp/interp.h"
#include "mem/code.h"
#include "mem/mem.h"

/* ---- memory ---- */

static void make_map(struct guest *g)
{
	struct memmap *m = calloc(1, sizeof(*m) + 3 * sizeof(struct memslot));

	m->nr_slots = 3;
	m->slot[0] = (struct memslot){ .size = RAM_END, .hva = g->mem + 0x8000, .dirty = &g->dirty[0] };
	m->slot[1] = (struct memslot){ RAM_END, ROM_END - RAM_END, g->mem + 0x8000 + RAM_END, .readonly = true };
	m->slot[2] = (struct memslot){ HOLE_END, HIGH_END - HOLE_END, g->mem, .dirty = &g->dirty[1] };
	m->nr_aliases = 1;
	m->alias[0] = (struct memalias){ ALIAS_BASE, ALIAS_BYTES, ALIAS_TARGET };
	g->map = m;
	g->cpu.map = m;
}

struct guest *guest_new(void)
{
	struct guest *g = aligned_alloc(64, (sizeof(*g) + 63) & ~63ul);

	memset(g, 0, sizeof(*g));
	g->mem = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	make_map(g);
	tlb_init(&g->cpu);
	code_init(&g->cpu);
	interp_translate(&g->cpu);
	g->cpu.code->heat = 0;
	return g;
}

int guest_page(const struct guest *g, u64 gpa)
{
	u64 off;
	const struct memslot *s = map_find(g->map, gpa, &off);

	return s ? (int)((s->gpa + off) >> PAGE_SHIFT) : -1;
}

u64 guest_dirty(const struct guest *g)
{
	return g->dirty[0] | g->dirty[1] << (HOLE_END >> PAGE_SHIFT);
}

static void put(struct guest *g, u64 gpa, const void *data, unsigned size)
{
	u64 off;
	const struct memslot *s = map_find(g->map, gpa, &off);

	memcpy(s->hva + off, data, size);
}

static void put64(struct guest *g, u64 gpa, u64 v)
{
	put(g, gpa, &v, 8);
}

/* ---- code ---- */

static const u8 prefixes[] = { 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65 };

/* MSRs that do something. */
static const u32 msrs[] = { 0x10,       0x1b,       0x3b,       0x174,      0x175,      0x176,      0x1a0,
			    0x1d9,      0x277,      0xda0,      0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
			    0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103 };

/* Opcodes (after prefixes) that change what the machine is, each followed by whatever the decoder makes of the rest. */
static const struct {
	u8 n, bytes[4];
} system_opcodes[] = {
	{ 2, { 0x0f, 0x20 } },
	{ 2, { 0x0f, 0x22 } },
	{ 2, { 0x0f, 0x21 } },
	{ 2, { 0x0f, 0x23 } },
	{ 2, { 0x0f, 0x00 } },
	{ 2, { 0x0f, 0x01 } },
	{ 1, { 0x8e } },
	{ 1, { 0x8c } },
	{ 1, { 0xcf } },
	{ 1, { 0xcb } },
	{ 1, { 0xca } },
	{ 1, { 0x9a } },
	{ 1, { 0xea } },
	{ 1, { 0xff } },
	{ 1, { 0xcd } },
	{ 1, { 0xcc } },
	{ 1, { 0xce } },
	{ 1, { 0xf1 } },
	{ 2, { 0x0f, 0x05 } },
	{ 2, { 0x0f, 0x07 } },
	{ 2, { 0x0f, 0x34 } },
	{ 2, { 0x0f, 0x35 } },
	{ 2, { 0x0f, 0x30 } },
	{ 2, { 0x0f, 0x32 } },
	{ 1, { 0x9d } },
	{ 1, { 0x9c } },
	{ 1, { 0xfa } },
	{ 1, { 0xfb } },
	{ 2, { 0x0f, 0xc7 } },
	{ 2, { 0x0f, 0xae } },
	{ 1, { 0xc8 } },
	{ 1, { 0xc9 } },
	{ 3, { 0x0f, 0x01, 0xf8 } },
	{ 3, { 0x0f, 0x01, 0xca } },
	{ 3, { 0x0f, 0x01, 0xcb } },
	{ 3, { 0x0f, 0x01, 0xd1 } },
	{ 2, { 0x0f, 0xa2 } },
	{ 2, { 0x0f, 0x06 } },
	{ 1, { 0x17 } },
	{ 1, { 0x1f } },
	{ 1, { 0x07 } },
	{ 2, { 0x0f, 0xa1 } },
	{ 2, { 0x0f, 0xa9 } },
	{ 2, { 0x0f, 0x02 } },
	{ 2, { 0x0f, 0x03 } },
	{ 1, { 0x63 } },
	{ 1, { 0x62 } },
	{ 1, { 0xf4 } },
	{ 1, { 0xe4 } },
	{ 1, { 0xee } },
	{ 1, { 0xed } },
	{ 1, { 0x6c } },
	{ 1, { 0x6f } },
	{ 1, { 0xa4 } },
	{ 1, { 0xa5 } },
	{ 1, { 0xaa } },
	{ 1, { 0xa7 } },
	{ 1, { 0xae } },
	{ 1, { 0xad } },
	{ 1, { 0xc4 } },
	{ 2, { 0x0f, 0xb2 } },
	{ 2, { 0x0f, 0xb4 } },
	{ 1, { 0xe8 } },
	{ 1, { 0xc3 } },
	{ 4, { 0x66, 0x0f, 0x38, 0x82 } },
	{ 2, { 0x0f, 0x09 } },
	{ 1, { 0x60 } },
	{ 1, { 0x61 } },
	{ 1, { 0x87 } },
	{ 2, { 0x0f, 0xb1 } },
	{ 2, { 0x0f, 0xba } },
	{ 2, { 0x0f, 0x0b } },
};

/* Several instructions that together do what one alone rarely would. */
static unsigned sequence(struct choices *in, unsigned mode, u8 *b)
{
	static const u8 cr_bits[] = { 0, 0, 1, 2, 3, 4, 4, 5, 7, 7, 9, 10, 11, 16, 17, 18, 20, 21, 22, 29, 30, 31 };
	unsigned n = 0;
	u32 at;

	switch (pick(in, 5)) {
	case 0: /* mov eax, crN; btc eax, bit; mov crN, eax */
		at = pick(in, 3);
		at = at == 0 ? 0xc0 : at == 1 ? 0xe0 : 0xd8;
		memcpy(b, (u8[]){ 0x0f, 0x20, (u8)at }, 3);
		n = 3;
		if (mode == DECODE_64)
			b[n++] = 0x48;
		else if (mode == DECODE_16 || mode == DECODE_16_REAL)
			b[n++] = 0x66;
		memcpy(b + n, (u8[]){ 0x0f, 0xba, 0xf8, at == 0xd8 ? 12 : PICK_OF(in, cr_bits) }, 4);
		memcpy(b + n + 4, (u8[]){ 0x0f, 0x22, (u8)at }, 3);
		return n + 7;
	case 1: /* mov ecx, msr; rdmsr; btc eax, bit; wrmsr */
		if (mode == DECODE_16 || mode == DECODE_16_REAL)
			b[n++] = 0x66;
		b[n++] = 0xb9;
		at = PICK_OF(in, msrs);
		memcpy(b + n, &at, 4);
		memcpy(b + n + 4, (u8[]){ 0x0f, 0x32, 0x0f, 0xba, 0xf8, (u8)pick(in, 32), 0x0f, 0x30 }, 8);
		return n + 12;
	case 2: /* mov edi, a page-table entry; btc dword [edi], bit; invlpg of something */
	case 3: /* the same with code instead of a page table */
		if (mode == DECODE_16 || mode == DECODE_16_REAL)
			b[n++] = 0x66;
		b[n++] = 0xbf;
		at = pick(in, 2) ? TABLES_AT + (pick(in, 8) << 12 | pick(in, 64) << 3) : CODE_AT + pick(in, 0x1000);
		memcpy(b + n, &at, 4);
		n += 4;
		if (mode != DECODE_64 && mode != DECODE_32)
			b[n++] = 0x67;
		memcpy(b + n, (u8[]){ 0x0f, 0xba, 0x3f, (u8)pick(in, 32) }, 4);
		n += 4;
		if (one_in(in, 2)) {
			memcpy(b + n, (u8[]){ 0x0f, 0x01, (u8)(0x38 | pick(in, 8)), 0 }, 4);
			n += 3;
		}
		return n;
	default: /* mov sreg, a selector of the GDT */
		if (mode == DECODE_32 || mode == DECODE_64)
			b[n++] = 0x66;
		b[n++] = 0xb8;
		b[n++] = (u8)(pick(in, 32) << 3 | PICK_OF(in, ((const u8[]){ 0, 0, 3, 3, 1, 4 })));
		b[n++] = 0;
		memcpy(b + n, (u8[]){ 0x8e, (u8)(0xc0 | pick(in, 6) << 3) }, 2);
		return n + 2;
	}
}

static unsigned opcode(struct choices *in, unsigned mode, u8 *b)
{
	unsigned n = 0, map;

	if (one_in(in, 5)) {
		unsigned k = pick(in, ARRAY_SIZE(system_opcodes));

		memcpy(b, system_opcodes[k].bytes, system_opcodes[k].n);
		return system_opcodes[k].n;
	}
	map = pick(in, 16);
	if (map == 15) {
		b[n++] = 0xc4;
		b[n++] = (u8)(0xe0 | (1 + pick(in, 3)));
		b[n++] = (u8)(pick8(in) & 0x87) | (one_in(in, 2) ? 0x78 : (u8)(pick(in, 16) << 3));
		b[n++] = pick8(in);
		return n;
	}
	(void)mode;
	if (map >= 7)
		b[n++] = 0x0f;
	if (map == 13)
		b[n++] = 0x38;
	if (map == 14)
		b[n++] = 0x3a;
	b[n++] = pick8(in);
	return n;
}

unsigned guest_insn(struct choices *in, unsigned mode, u8 *bytes)
{
	struct insn i;
	int len;

	if (one_in(in, 12))
		return sequence(in, mode, bytes);
	for (unsigned tries = 0; tries < 6; tries++) {
		unsigned n = 0;

		while (one_in(in, 4) && n < 4)
			bytes[n++] = PICK_OF(in, prefixes);
		if (mode == DECODE_64 && one_in(in, 2))
			bytes[n++] = (u8)(0x40 | pick(in, 16));
		n += opcode(in, mode, bytes + n);
		bytes[n++] = pick8(in);
		for (unsigned k = 0; k < 6; k++)
			bytes[n++] = one_in(in, 3) ? pick8(in) : 0;
		len = insn_decode(bytes, 15, mode, &i);
		if (len > 0 && i.op != OP_rdrand && i.op != OP_rdseed)
			return (unsigned)len;
	}
	return 1 + pick(in, 4); /* what does not decode belongs there too */
}

static void make_code(struct guest *g, struct choices *in, u64 from, u64 to, unsigned mode)
{
	u8 bytes[64];

	while (from + 32 < to) {
		unsigned n = guest_insn(in, mode, bytes);

		put(g, from, bytes, n);
		from += n;
	}
}

/* A handler of each vector: a random instruction, perhaps off with the error code, and back. */
static void make_handlers(struct guest *g, struct choices *in, unsigned mode)
{
	for (unsigned v = 0; v < 64; v++) {
		u64 at = HANDLERS_AT + 32 * v;
		u8 bytes[64];
		unsigned n = one_in(in, 2) ? guest_insn(in, mode, bytes) : 0;

		if (n > 16)
			n = 0;
		if ((v == 8 || (v >= 10 && v <= 14) || v == 17) && mode != DECODE_16_REAL) {
			if (mode == DECODE_64) /* lea rsp, [rsp + 8] */
				memcpy(bytes + n, (u8[]){ 0x48, 0x8d, 0x64, 0x24, 8 }, 5), n += 5;
			else /* pop eax */
				bytes[n++] = 0x58;
		}
		if (v < 32 && one_in(in, 2) && v != 1 && v != 3) /* go on behind a faulting instruction, more or less */
			memcpy(bytes + n, (u8[]){ 0x83, 0x04, 0x24, (u8)(1 + pick(in, 6)) }, 4), n += 4;
		if (mode == DECODE_64)
			bytes[n++] = 0x48;
		bytes[n++] = 0xcf;
		put(g, at, bytes, n);
	}
}

/* ---- descriptor tables ---- */

static void descriptor(struct guest *g, u64 at, u64 base, u32 limit, u32 attr)
{
	u64 raw = (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 | (u64)(limit & 0xf0000) << 32 |
		  (u64)(attr & 0xf000) << 40 | (base >> 24 & 0xff) << 56;

	put64(g, at, raw);
}

static void gate(struct guest *g, u64 at, u16 sel, u64 off, u32 attr, unsigned low, bool wide)
{
	put64(g, at, (off & 0xffff) | (u64)sel << 16 | (u64)low << 32 | (u64)attr << 40 | (off >> 16 & 0xffff) << 48);
	if (wide)
		put64(g, at + 8, off >> 32);
}

static u16 random_selector(struct choices *in)
{
	static const u8 rpl[] = { 0, 0, 0, 3, 3, 1, 4, 7 };

	return (u16)(pick(in, GDT_BYTES / 8) << 3 | PICK_OF(in, rpl));
}

static void random_descriptor(struct guest *g, struct choices *in, u64 at, bool wide)
{
	static const u16 attrs[] = { 0xc09b, 0xc093, 0xc0fb, 0xc0f3, 0xa09b, 0xa0fb, 0x409a, 0x4092,
				     0x009b, 0x0093, 0xc096, 0xc09f, 0xc0ff, 0xc013, 0xe09b, 0x0089,
				     0x008b, 0x0082, 0x00e5, 0x0081, 0xc0b3, 0xa0bb };

	if (one_in(in, 4)) {
		gate(g, at, random_selector(in), HANDLERS_AT + 32 * pick(in, 64),
		     PICK_OF(in, ((const u8[]){ 0xec, 0x8c, 0xe4, 0xe5 })), pick(in, 4), false);
		return;
	}
	descriptor(g, at, one_in(in, 3) ? pick(in, 0x40000) : 0, one_in(in, 3) ? pick(in, 0x10000) : 0xfffff,
		   one_in(in, 8) ? pick(in, 0x10000) : PICK_OF(in, attrs));
	(void)wide;
}

static void make_gdt(struct guest *g, struct choices *in, enum guest_mode mode)
{
	bool wide = mode >= GUEST_COMPAT;
	u32 code = mode == GUEST_LONG ? 0xa09a : mode == GUEST_PROT16 ? 0x009a : 0xc09a;

	put64(g, GDT_AT, 0);
	descriptor(g, GDT_AT + SEL_CODE0, 0, 0xfffff, code);
	descriptor(g, GDT_AT + SEL_DATA0, 0, 0xfffff, 0xc092);
	descriptor(g, GDT_AT + SEL_CODE3, 0, 0xfffff, code | 0x60);
	descriptor(g, GDT_AT + SEL_DATA3, 0, 0xfffff, 0xc0f2);
	descriptor(g, GDT_AT + SEL_CODE16, 0, 0xffff, 0x009a);
	descriptor(g, GDT_AT + SEL_DATA16, 0, 0xffff, 0x0092);
	descriptor(g, GDT_AT + SEL_CODE32, 0, 0xfffff, 0xc09a);
	descriptor(g, GDT_AT + SEL_TSS, TSS_AT, 0x3ff, 0x008b);
	put64(g, GDT_AT + SEL_TSS + 8, 0);
	descriptor(g, GDT_AT + SEL_LDT, LDT_AT, 0x7f, 0x0082);
	put64(g, GDT_AT + SEL_LDT + 8, 0);
	descriptor(g, GDT_AT + SEL_TSS2, TSS_AT + 0x400, 0x67, wide ? 0x0089 : 0x0089);
	put64(g, GDT_AT + SEL_TSS2 + 8, 0);
	for (u64 at = SEL_RANDOM; at < GDT_BYTES; at += 8)
		random_descriptor(g, in, GDT_AT + at, wide);
	for (u64 at = 0; at < 0x80; at += 8)
		random_descriptor(g, in, LDT_AT + at, wide);
}

static void make_idt(struct guest *g, struct choices *in, enum guest_mode mode, unsigned spoiled)
{
	bool wide = mode >= GUEST_COMPAT;

	for (unsigned v = 0; v < 256; v++) {
		u64 off = HANDLERS_AT + 32 * (v & 63);
		u32 attr = (one_in(in, 2) ? 0x8e : 0x8f) | (one_in(in, 2) ? 0x60 : 0);
		u16 sel = SEL_CODE0;

		if (spoiled && one_in(in, spoiled)) {
			attr = one_in(in, 2) ? pick8(in) : PICK_OF(in, ((const u8[]){ 0xe5, 0xe6, 0x85, 0x87, 0x0e }));
			sel = (attr & 0x1f) == 5 ? SEL_TSS2 : random_selector(in);
		}
		gate(g, IDT_AT + v * (wide ? 16u : 8u), sel, off, attr, wide ? (one_in(in, 8) ? pick(in, 8) : 0) : 0,
		     wide);
	}
	for (unsigned v = 0; v < 256; v++)
		put(g, 4 * v, (u16[]){ (u16)(HANDLERS_AT + 32 * (v & 63)), 0 }, 4);
}

static void make_tss(struct guest *g, struct choices *in, enum guest_mode mode)
{
	u64 t = TSS_AT;

	for (u64 at = 0; at < 0x400; at += 8)
		put64(g, t + at, one_in(in, 2) ? 0 : pick_value(in));
	if (mode >= GUEST_COMPAT) {
		for (unsigned n = 0; n < 3; n++)
			put64(g, t + 4 + 8 * n, STACKS_AT + 0x1000 * (1 + n));
		for (unsigned n = 0; n < 7; n++)
			put64(g, t + 36 + 8 * n, STACKS_AT + 0x800 * (1 + n) + pick(in, 16));
	} else {
		put64(g, t + 4, (STACKS_AT + 0x1000) | (u64)SEL_DATA0 << 32);
		put64(g, t + 12, STACKS_AT + 0x2000);
	}
	put(g, t + 102, (u16[]){ (u16)(0x68 + pick(in, 64)) }, 2);
	/* A task to switch to. */
	for (u64 at = 0; at < 0x68; at += 4)
		put(g, t + 0x400 + at, (u32[]){ 0 }, 4);
	put(g, t + 0x400 + 0x1c, (u32[]){ (u32)g->cpu.cr3, CODE_AT, 2 }, 12);
	put(g, t + 0x400 + 0x38, (u32[]){ STACKS_AT + 0x6000 }, 4);
	put(g, t + 0x400 + 0x48, (u32[]){ SEL_DATA0, SEL_CODE32, SEL_DATA0, SEL_DATA0, random_selector(in), 0, 0 }, 28);
}

/* ---- page tables ---- */

struct tables {
	struct guest *g;
	struct choices *in;
	unsigned size, spoiled;
};

static void entry(const struct tables *t, u64 at, u64 e)
{
	if (t->spoiled && one_in(t->in, t->spoiled)) {
		if (one_in(t->in, 2))
			e ^= BIT64(pick(t->in, t->size * 8));
		else
			e = e >> 12 << 12 | pick(t->in, 256) | (t->size == 8 && one_in(t->in, 2) ? BIT64(63) : 0);
	}
	put(t->g, at, &e, t->size);
}

/* A table of pages: the first ones as they are, then any. */
static void leaf_table(const struct tables *t, u64 at, bool identity)
{
	unsigned n = PAGE_SIZE / t->size;

	for (unsigned k = 0; k < n; k++) {
		u64 page = identity && k < GUEST_PAGES + 4 ? k : pick(t->in, GUEST_PAGES + 8);

		entry(t, at + k * t->size,
		      page << 12 | 7 | (one_in(t->in, 2) ? 0x60 : 0) | (one_in(t->in, 8) ? 0x100 : 0));
	}
}

/* A table of tables below; large pages among them if they are allowed. */
static void inner_table(const struct tables *t, u64 at, const u64 *below, unsigned nr, bool large)
{
	unsigned n = PAGE_SIZE / t->size;

	for (unsigned k = 0; k < n; k++) {
		u64 e = below[k < 1 ? 0 : pick(t->in, nr)] | 7 | (one_in(t->in, 2) ? 0x20 : 0);

		if (k && large && one_in(t->in, 4))
			e = 0xe7;
		if (k > 4 && k < n - 4 && !one_in(t->in, 8))
			e = 0;
		entry(t, at + k * t->size, e);
	}
}

static void make_tables(struct guest *g, struct choices *in, enum paging paging, unsigned spoiled)
{
	struct tables t = { g, in, paging == PAGING_32 ? 4 : 8, spoiled };
	static const u64 pts[] = { TABLES_AT + 0x5000, TABLES_AT + 0x6000, TABLES_AT + 0x7000 };
	static const u64 pds[] = { TABLES_AT + 0x3000, TABLES_AT + 0x4000 };
	static const u64 pdpts[] = { TABLES_AT + 0x1000, TABLES_AT + 0x2000 };

	for (unsigned n = 0; n < ARRAY_SIZE(pts); n++)
		leaf_table(&t, pts[n], n == 0);
	for (unsigned n = 0; n < ARRAY_SIZE(pds); n++)
		inner_table(&t, pds[n], pts, ARRAY_SIZE(pts), true);
	for (unsigned n = 0; n < ARRAY_SIZE(pdpts); n++)
		inner_table(&t, pdpts[n], pds, ARRAY_SIZE(pds), true);
	inner_table(&t, TABLES_AT, pdpts, ARRAY_SIZE(pdpts), false);
	g->cpu.cr3 = paging == PAGING_4LEVEL ? TABLES_AT : paging == PAGING_32 ? pds[0] : pdpts[0];
	if (paging == PAGING_PAE)
		for (unsigned n = 0; n < 4; n++) {
			g->cpu.pdptr[n] = pds[n & 1] | (n && one_in(in, 6) ? 0 : 1);
			put64(g, g->cpu.cr3 + 8 * n, g->cpu.pdptr[n]);
		}
}

/* ---- registers ---- */

/* A linear address that leads somewhere, most likely. */
static u64 random_address(struct choices *in, enum guest_mode mode)
{
	u64 lin = pick(in, GUEST_PAGES + 4) << 12 | (one_in(in, 3) ? PAGE_SIZE - pick(in, 64) : pick(in, 4096));

	if (mode == GUEST_LONG && one_in(in, 3)) {
		lin |= (u64)PICK_OF(in, ((const u16[]){ 0, 1, 2, 3, 511, 508, 256 })) << 39;
		lin |= (u64)pick(in, 4) << 30 | (u64)pick(in, 5) << 21;
		lin = (u64)((s64)(lin << 16) >> 16);
	} else if (mode >= GUEST_PROT32 && one_in(in, 3)) {
		lin |= pick(in, 5) << 21 | pick(in, 4) << 30;
	}
	if (one_in(in, 16))
		lin = PICK_OF(in, ((const u64[]){ 0xffffffff, 0xfffffffc, 0xffff, 0x7ffffffffffc, 0x800000000000,
						  0xffff800000000000, 0xfffffffffffffff8, 0xfffff }));
	return mode == GUEST_LONG ? lin : (u32)lin;
}

static void load_seg(struct guest *g, unsigned s, u16 sel)
{
	u64 raw, off;
	const struct memslot *m = map_find(g->map, GDT_AT + (sel & ~7u), &off);

	memcpy(&raw, m->hva + off, 8);
	g->cpu.seg[s] = (struct seg){ .sel = sel,
				      .limit = raw & BIT64(55) ? 0xffffffff : 0xffff,
				      .attr = ((raw >> 40) & 0xf0ff) | 1 };
}

static void make_segments(struct guest *g, struct choices *in, enum guest_mode mode, unsigned cpl)
{
	struct cpu *c = &g->cpu;

	if (mode == GUEST_REAL || mode == GUEST_VM86) {
		for (unsigned s = SEG_ES; s <= SEG_GS; s++) {
			u16 sel = s == SEG_CS ? 0 : (u16)(one_in(in, 4) ? pick(in, 0x4000) : 0);

			c->seg[s] = (struct seg){ .sel = sel,
						  .base = (u64)sel << 4,
						  .limit = 0xffff,
						  .attr = mode == GUEST_VM86 ? 0xf3
							  : s == SEG_CS      ? 0x9b
									     : 0x93 };
		}
	} else {
		u16 data = cpl == 3 ? SEL_DATA3 | 3 : SEL_DATA0;

		for (unsigned s = SEG_ES; s <= SEG_GS; s++)
			load_seg(g, s, s == SEG_CS ? (cpl == 3 ? SEL_CODE3 | 3 : SEL_CODE0) : data);
		if (one_in(in, 3)) {
			struct seg *s = &c->seg[PICK_OF(in, ((const u8[]){ SEG_ES, SEG_DS, SEG_FS, SEG_GS }))];

			s->base = random_address(in, mode);
			if (!is_canonical(s->base))
				s->base = 0;
			s->limit = one_in(in, 2) ? pick(in, 0x10000) : 0xffffffff;
			s->attr = s->limit >> 20 ? s->attr : s->attr & ~ATTR_G;
			if (one_in(in, 3))
				s->attr |= 4;
		}
		if (one_in(in, 8))
			c->seg[PICK_OF(in, ((const u8[]){ SEG_ES, SEG_DS, SEG_FS, SEG_GS }))] =
				(struct seg){ .attr = ATTR_UNUSABLE };
	}
	c->seg[SEG_TR] = (struct seg){ .sel = SEL_TSS, .base = TSS_AT, .limit = 0x3ff, .attr = 0x8b };
	c->seg[SEG_LDTR] = (struct seg){ .sel = SEL_LDT, .base = LDT_AT, .limit = 0x7f, .attr = 0x82 };
	c->gdt = (struct dtable){ GDT_AT, GDT_BYTES - 1 };
	c->idt = (struct dtable){ mode == GUEST_REAL ? 0 : IDT_AT, mode == GUEST_REAL     ? 0x3ff
								   : mode >= GUEST_COMPAT ? 0xfff
											  : 0x7ff };
}

static void make_fpu(struct fpu *f, struct choices *in, u64 allowed)
{
	static const u16 exponents[] = { 0, 1, 0x3ffe, 0x3fff, 0x4000, 0x403e, 0x7ffe, 0x7fff, 0xffff, 0xbfff };

	for (unsigned n = 0; n < 8; n++) {
		u64 mantissa = one_in(in, 3) ? pick_value(in) : pick64(in) | BIT64(63);
		u16 exponent = one_in(in, 4) ? (u16)pick64(in) : PICK_OF(in, exponents);

		memcpy(f->st[n], &mantissa, 8);
		memcpy(f->st[n] + 8, &exponent, 2);
	}
	for (unsigned n = 0; n < 16; n++)
		for (unsigned k = 0; k < (allowed & XC_AVX ? 4u : 2u); k++) {
			u64 v = one_in(in, 2) ? pick_value(in) : pick64(in);

			memcpy(f->vec[n] + 8 * k, &v, 8);
		}
	f->fcw = (u16)((one_in(in, 2) ? FCW_INIT : pick64(in) & FCW_VALID) | FCW_FIXED);
	f->fsw = (u16)(one_in(in, 2) ? 0 : pick64(in) & 0x7f7f);
	f->ftw = pick8(in);
	fpu_summary(f);
	f->mxcsr = one_in(in, 2) ? MXCSR_INIT : (u32)pick64(in) & MXCSR_MASK;
	f->xcr0 = allowed & (XC_X87 | (one_in(in, 4) ? 0 : XC_SSE | XC_AVX));
	if (!fpu_xcr0_valid(f->xcr0, allowed))
		f->xcr0 = XC_X87;
}

/* RDRAND and RDSEED give two machines different answers. */
static void make_cpuid(struct cpu *c)
{
	static struct cpuid_entry table[CPUID_MAX_ENTRIES];
	static u32 n;

	if (!n)
		n = cpuid_supported(table, CPUID_MAX_ENTRIES);
	memcpy(c->cpuid, table, n * sizeof(table[0]));
	c->nr_cpuid = n;
	cpuid_changed(c);
}

static u64 some_of(struct choices *in, u64 bits)
{
	return bits & (pick64(in) | (one_in(in, 2) ? ~0ull : 0));
}

static void make_control(struct guest *g, struct choices *in, enum guest_mode mode, enum paging paging)
{
	struct cpu *c = &g->cpu;

	c->cr0 = CR0_ET | some_of(in, CR0_NE | CR0_WP | CR0_AM | CR0_MP) | (mode == GUEST_REAL ? 0 : CR0_PE) |
		 (paging ? CR0_PG : 0);
	if (one_in(in, 8))
		c->cr0 |= one_in(in, 2) ? CR0_TS : CR0_EM;
	c->cr4 = some_of(in, CR4_PSE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_DE);
	if (one_in(in, 2))
		c->cr4 |= some_of(in, CR4_VME | CR4_PVI | CR4_TSD | CR4_UMIP | CR4_SMEP | CR4_SMAP | CR4_PKE);
	if (paging == PAGING_4LEVEL)
		c->cr4 |= CR4_PAE | (one_in(in, 4) ? CR4_PCIDE : 0);
	if (paging == PAGING_PAE)
		c->cr4 |= CR4_PAE;
	c->cr4 &= cpu_cr4_mask(c);
	c->efer = some_of(in, EFER_SCE | EFER_NX) | (paging == PAGING_4LEVEL ? EFER_LME | EFER_LMA : 0);
	c->fpu.pkru = one_in(in, 2) ? 0 : (u32)pick64(in);
	c->cr8 = pick(in, 16);
}

static void make_msrs(struct cpu *c, struct choices *in)
{
	c->msr.star = (u64)(SEL_CODE0 | (u64)SEL_CODE3 << 16 | (one_in(in, 2) ? 3 << 16 : 0)) << 32 | HANDLERS_AT;
	c->msr.lstar = c->msr.cstar = HANDLERS_AT + 32 * pick(in, 64);
	c->msr.sfmask = one_in(in, 2) ? pick_value(in) : 0x47700;
	c->msr.sysenter_cs = one_in(in, 4) ? pick(in, 256) : SEL_CODE0;
	c->msr.sysenter_esp = STACKS_AT + 0x4000;
	c->msr.sysenter_eip = HANDLERS_AT + 32 * pick(in, 64);
	c->msr.kernel_gs_base = STACKS_AT;
}

static void make_debug(struct cpu *c, struct choices *in, enum guest_mode mode)
{
	if (!one_in(in, 8))
		return;
	for (unsigned n = 0; n < 4; n++)
		c->dr[n] = one_in(in, 2) ? CODE_AT + pick(in, 256) : random_address(in, mode);
	c->dr[7] = (pick64(in) & 0xffff23ff) | 0x400;
}

static u64 make_flags(struct choices *in, enum guest_mode mode)
{
	u64 fl = pick64(in) & (FL_STATUS | FL_DF | FL_AC | FL_ID);

	fl |= one_in(in, 4) ? 0 : FL_IF;
	fl |= one_in(in, 3) ? pick64(in) & (FL_IOPL | FL_NT | FL_VIF | FL_VIP) : 0;
	fl |= one_in(in, 12) ? FL_TF : 0;
	fl |= one_in(in, 12) ? FL_RF : 0;
	return mode == GUEST_VM86 ? fl | FL_VM : fl;
}

/* ---- all together ---- */

static void forget(struct guest *g)
{
	struct cpu *c = &g->cpu;

	code_flush(c);
	g->dirty[0] = g->dirty[1] = 0;
	memset(&c->ev, 0, sizeof(c->ev));
	memset(&c->pio, 0, sizeof(c->pio));
	c->pio.data = g->pio_data;
	c->pio.data_size = sizeof(g->pio_data);
	c->attn = 0;
	c->budget = 0;
	c->step = 0;
	c->want_window = false;
	memset(&c->bp, 0, sizeof(c->bp));
}

void guest_make(struct guest *g, struct choices *in)
{
	static const u8 rates[] = { 0, 0, 200, 60, 12 };
	enum guest_mode mode = pick(in, NR_GUEST_MODES);
	unsigned spoiled = PICK_OF(in, rates), cpl;
	enum paging paging = mode >= GUEST_COMPAT ? PAGING_4LEVEL
			     : mode == GUEST_REAL ? PAGING_NONE
						  : PICK_OF(in, ((const u8[]){ PAGING_NONE, PAGING_32, PAGING_PAE }));
	struct choices fill;
	struct cpu *c = &g->cpu;

	cpl = mode == GUEST_REAL ? 0 : one_in(in, 2) ? 3 : 0;
	choices_start(&fill, (const u8 *)&(u64){ pick64(in) }, 8);
	forget(g);
	make_cpuid(c);
	cpu_reset(c);
	make_cpuid(c);
	c->tsc_ratio = 0; /* a TSC that stands still */
	c->tsc_offset = 0x123456789;
	c->phys_bits = PICK_OF(in, ((const u8[]){ 36, 40, 46, 52 }));
	if (one_in(in, 8))
		c->feat ^= PICK_OF(in, ((const u64[]){ FEAT_GBPAGES, FEAT_PSE36, FEAT_AMD | FEAT_INTEL }));
	for (u64 at = 0; at < GUEST_BYTES; at += 8) {
		u64 v = at & 64 ? 0 : pick64(&fill);

		memcpy(g->mem + at, &v, 8);
	}
	make_control(g, in, mode, paging);
	make_gdt(g, &fill, mode);
	make_idt(g, &fill, mode, spoiled);
	make_tables(g, &fill, paging ? paging : PAGING_32, spoiled);
	make_tss(g, &fill, mode);
	make_segments(g, in, mode, cpl);
	make_msrs(c, in);
	make_fpu(&c->fpu, &fill, c->xcr0_allowed);
	make_debug(c, in, mode);
	for (unsigned r = 0; r < 16; r++)
		c->gpr[r] = one_in(in, 3) ? pick_value(in) : random_address(in, mode);
	if (mode != GUEST_LONG)
		for (unsigned r = 0; r < 16; r++)
			c->gpr[r] = (u32)c->gpr[r];
	if (one_in(in, 2))
		c->gpr[RCX] = pick(in, 64);
	c->gpr[RSP] = STACKS_AT + 0x5000 + (one_in(in, 4) ? pick(in, 4096) : 0);
	c->gpr[R_RIP] = CODE_AT + (one_in(in, 4) ? pick(in, 4096) : 0);
	cpu_update_mode(c);
	cpu_set_rflags(c, make_flags(in, mode));
	cpu_update_mode(c);
	make_code(g, in, CODE_AT, CODE_AT + 0x180, c->code_mode);
	make_code(g, &fill, CODE_AT + 0x180, CODE_AT + 0x600, c->code_mode);
	make_handlers(g, &fill, mode == GUEST_VM86 ? DECODE_32 : mode == GUEST_COMPAT ? DECODE_32 : c->code_mode);
	tlb_flush(c);
	debug_recompute(c);
	c->attn &= ~ATTN_EVENT;
}

void guest_copy_of(struct guest *g, const struct guest *from)
{
	static struct guest own;
	struct cpu *c = &g->cpu;

	own = *g;
	*g = *from;
	memcpy(own.mem, from->mem, GUEST_BYTES);
	g->map = own.map;
	g->mem = own.mem;
	c->map = own.map;
	c->pio.data = g->pio_data;
	/* The caches, and what describes their contents, stay. */
	c->tlb = own.cpu.tlb;
	c->tlb_gen = own.cpu.tlb_gen;
	c->spaces = own.cpu.spaces;
	c->code = own.cpu.code;
	c->jit = own.cpu.jit;
	c->cur = NULL;
	code_flush(c);
	cpu_update_mode(c);
	tlb_flush(c);
}
