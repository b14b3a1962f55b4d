// SPDX-License-Identifier: MIT
/*
 * cpu_walk() over random tables against the model of refwalk.h: what is translated, what faults and how, and which
 * accessed and dirty bits are set.
 */
#include "fuzz.h"
#include "guest.h"
#include "refwalk.h"

#define WALKS 64

static u64 random_entry(struct choices *in, unsigned phys_bits)
{
	u64 e = (u64)pick(in, GUEST_PAGES) << 12 | (pick8(in) & 0x67) | (one_in(in, 10) ? 0 : 1);

	if (one_in(in, 4))
		e |= 6;
	if (one_in(in, 6))
		e = (e & 0x67) | 0x80 | (pick64(in) & ((1ull << phys_bits) - 1) & ~0x3fffffffull);
	if (one_in(in, 10))
		e |= BIT64(63);
	if (one_in(in, 4))
		e |= (u64)pick(in, 16) << 59;
	if (one_in(in, 16))
		e ^= BIT64(pick(in, 64));
	return e;
}

static u64 pick_bits(struct choices *in, u64 bits)
{
	return pick64(in) & bits;
}

static void random_cpu(struct guest *g, struct choices *in)
{
	static const u8 widths[] = { 36, 39, 40, 46, 52 };
	enum paging mode = 1 + pick(in, 3);
	struct cpu *c = &g->cpu;

	c->feat = FEAT_LM | FEAT_NX | pick_bits(in, FEAT_GBPAGES | FEAT_PSE36);
	c->phys_bits = PICK_OF(in, widths);
	c->cr0 = CR0_PE | CR0_PG | CR0_ET | pick_bits(in, CR0_WP);
	c->cr4 = (mode == PAGING_32 ? 0 : CR4_PAE) | pick_bits(in, CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP);
	c->efer = (mode == PAGING_4LEVEL ? EFER_LME | EFER_LMA : 0) | pick_bits(in, EFER_NX);
	c->cr3 = (u64)pick(in, GUEST_PAGES) << 12;
	for (unsigned n = 0; n < 4; n++)
		c->pdptr[n] = (u64)pick(in, GUEST_PAGES) << 12 | !one_in(in, 8);
	cpu_update_mode(c);
}

/* The model's accessed and dirty bits, in a copy of memory. */
static void mark(const struct guest *g, const struct refwalk *r, bool write, u8 *memory)
{
	for (unsigned n = 0; n < r->n; n++) {
		u64 off;
		const struct memslot *s = map_find(g->map, r->at[n], &off);
		u8 bits = n == r->n - 1 && write ? 0x60 : 0x20;

		if (!s->readonly)
			memory[(size_t)(s->hva + off - g->mem)] |= bits;
	}
}

static void one_walk(struct guest *g, struct choices *in, u8 *memory)
{
	struct cpu *c = &g->cpu;
	u64 lin = cpu_long_mode(c) ? pick64(in) : (u32)pick64(in);
	struct refwalk_access a = { lin, one_in(in, 2), one_in(in, 2), one_in(in, 3), one_in(in, 4) };
	unsigned access, lifted = a.lifted ? WALK_SMAP_LIFTED : 0;
	struct refwalk r;
	struct walk w;
	int st;

	if (a.exec)
		a.write = false;
	access = (a.write ? PF_W : 0) | (a.user ? PF_U : 0) | (a.exec ? PF_I : 0);
	r = refwalk(c, &a);
	c->io.n = c->io.cursor = 0;
	for (unsigned set_ad = 0; set_ad < 2; set_ad++) {
		st = cpu_walk(c, lin, access, lifted | (set_ad ? WALK_SET_AD : 0), &w);
		if (r.gave_up)
			return;
		if (st != (r.fault ? ST_FAULT : ST_OK))
			fuzz_fail("walk of %llx for %x: status %d, fault in the model %d (%x)", (unsigned long long)lin,
				  access, st, r.fault, r.error);
		if (r.fault && (c->fault.vector != VEC_PF || c->fault.error != r.error || c->fault.addr != lin))
			fuzz_fail("walk of %llx for %x: #PF %x instead of %x", (unsigned long long)lin, access,
				  c->fault.error, r.error);
		if (!r.fault && (w.gpa != r.gpa || w.shift != r.shift || !!(w.prot & PF_W) != r.may_write ||
				 !!(w.prot & PF_I) != r.may_exec))
			fuzz_fail("walk of %llx for %x: %llx %u %x instead of %llx %u", (unsigned long long)lin, access,
				  (unsigned long long)w.gpa, w.shift, w.prot, (unsigned long long)r.gpa, r.shift);
		if (set_ad && !r.fault)
			mark(g, &r, a.write, memory);
		for (unsigned n = 0; n < r.n; n++) {
			u64 off;
			const struct memslot *s = map_find(g->map, r.at[n] & PAGE_MASK, &off);
			u64 at = (u64)(s->hva + off - g->mem);

			if (memcmp(memory + at, g->mem + at, PAGE_SIZE))
				fuzz_fail("walk of %llx for %x: accessed and dirty bits", (unsigned long long)lin,
					  access);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static u8 memory[GUEST_BYTES];
	static struct guest *g;
	struct choices in, fill;

	if (!g)
		g = guest_new();
	choices_start(&in, data, size);
	choices_start(&fill, (const u8 *)&(u64){ pick64(&in) }, 8);
	random_cpu(g, &in);
	for (u64 at = 0; at < GUEST_BYTES; at += 8) {
		u64 e = random_entry(&fill, g->cpu.phys_bits);

		if (g->cpu.paging == PAGING_32)
			e = (u32)e | random_entry(&fill, 32) << 32;
		memcpy(g->mem + at, &e, 8);
	}
	memcpy(memory, g->mem, GUEST_BYTES);
	for (unsigned n = 0; n < WALKS; n++)
		one_walk(g, &in, memory);
	if (memcmp(memory, g->mem, GUEST_BYTES))
		fuzz_fail("a walk changed what it did not use");
	return 0;
}
