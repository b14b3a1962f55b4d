/* SPDX-License-Identifier: MIT */
/* A flat guest with descriptor tables, task state segments and stacks, for the tests of segments and transfers. */
#ifndef UKVM_TESTS_UNIT_MACHINE_H
#define UKVM_TESTS_UNIT_MACHINE_H

#include "mem/map.h"

#include "flat.h"

enum machine_mode { REAL, VM86, PROT, COMPAT, LONG };

/* Where things are. */
#define GDT 0x1000u
#define IDT 0x2000u
#define TSS1 0x3000u
#define TSS2 0x3100u
#define TSS3 0x3200u /* 16 bits */
#define LDT 0x3300u
#define CODE 0x5000u /* RIP at the start */
#define HANDLER 0x6000u
#define STACK0 0x8000u /* tops of stacks */
#define STACK1 0x9000u
#define STACK3 0xa000u
#define IST1 0xb008u /* not aligned, to see that it gets so */
#define MACHINE_MEM (4ull << 20)

/* The GDT */
enum {
	CODE0 = 0x08,
	DATA0 = 0x10,
	CODE0_16 = 0x18,
	DATA0_16 = 0x20,
	CODE0_64 = 0x28,
	CODE1 = 0x30,
	DATA1 = 0x38,
	CODE3 = 0x40,
	DATA3 = 0x48,
	CODE3_64 = 0x50,
	CONFORM0 = 0x58,
	CODE_NP = 0x60,
	DATA_NP = 0x68,
	CODE_XO = 0x70, /* execute-only */
	DATA_RO = 0x78,
	SEL_TSS1 = 0x80, /* 16 bytes in long mode */
	SEL_TSS2 = 0x90,
	SEL_TSS3 = 0x98,
	SEL_LDT = 0xa0,   /* 16 bytes in long mode */
	GATE_CALL = 0xb0, /* to CODE0 or CODE0_64; 16 bytes in long mode */
	GATE_CALL16 = 0xc0,
	GATE_TASK = 0xc8,
	CODE_LD = 0xd0, /* L and D */
	SMALL = 0xd8,   /* data, limit 0xfff */
	GATE_NP = 0xe0,
	TSS_NP = 0xe8,
	CONFORM0_64 = 0xf0,
	GATE_CALL1 = 0xf8, /* to CODE1 */
	TSS_SHORT = 0x108,
	GDT_END = 0x110,
};
#define IN_LDT 4 /* the LDT's entry 0 is like DATA3 */

static inline void desc_at(struct flat *f, u64 at, u64 base, u32 limit, u32 attr)
{
	u64 raw = (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 | (u64)(limit & 0xf0000) << 32 |
		  (u64)(attr & 0xf000) << 40 | (base >> 24 & 0xff) << 56;

	memcpy(f->mem + at, &raw, 8);
}

static inline void gate_at(struct flat *f, u64 at, u16 sel, u64 off, unsigned type, unsigned dpl, unsigned low)
{
	u64 raw = (off & 0xffff) | (u64)sel << 16 | (u64)low << 32 | (u64)type << 40 | (u64)dpl << 45 | BIT64(47) |
		  (off >> 16 & 0xffff) << 48;

	memcpy(f->mem + at, &raw, 8);
}

/* An entry of the IDT, in the format of the mode; type 5 to 15. */
static inline void idt_gate(struct flat *f, u8 vector, u16 sel, unsigned type, unsigned dpl, unsigned ist)
{
	bool wide = cpu_long_mode(&f->cpu);
	u64 at = IDT + vector * (wide ? 16u : 8u);

	gate_at(f, at, sel, HANDLER + vector, type, dpl, ist);
	if (wide)
		memset(f->mem + at + 8, 0, 8);
}

static inline void machine_gdt(struct flat *f, bool wide)
{
	static const struct {
		u16 sel;
		u32 base, limit, attr;
	} rows[] = {
		{ CODE0, 0, 0xfffff, 0xc09a },       { DATA0, 0, 0xfffff, 0xc092 },
		{ CODE0_16, 0, 0xffff, 0x009a },     { DATA0_16, 0, 0xffff, 0x0092 },
		{ CODE0_64, 0, 0xfffff, 0xa09a },    { CODE1, 0, 0xfffff, 0xc0ba },
		{ DATA1, 0, 0xfffff, 0xc0b2 },       { CODE3, 0, 0xfffff, 0xc0fa },
		{ DATA3, 0, 0xfffff, 0xc0f2 },       { CODE3_64, 0, 0xfffff, 0xa0fa },
		{ CONFORM0, 0, 0xfffff, 0xc09e },    { CODE_NP, 0, 0xfffff, 0xc01a },
		{ DATA_NP, 0, 0xfffff, 0xc012 },     { CODE_XO, 0, 0xfffff, 0xc098 },
		{ DATA_RO, 0, 0xfffff, 0xc090 },     { CODE_LD, 0, 0xfffff, 0xe09a },
		{ SMALL, 0, 0xfff, 0x4092 },         { SEL_TSS1, TSS1, 0xff, 0x0089 },
		{ SEL_TSS2, TSS2, 0x67, 0x0089 },    { SEL_TSS3, TSS3, 0x2b, 0x0081 },
		{ SEL_LDT, LDT, 0x0f, 0x0082 },      { TSS_NP, TSS2, 0x67, 0x0009 },
		{ CONFORM0_64, 0, 0xfffff, 0xa09e }, { TSS_SHORT, TSS2, 0x66, 0x0089 },
	};

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		desc_at(f, GDT + rows[n].sel, rows[n].base, rows[n].limit, rows[n].attr);
	gate_at(f, GDT + GATE_CALL, wide ? CODE0_64 : CODE0, HANDLER, 12, 3, wide ? 0 : 2);
	if (!wide)
		gate_at(f, GDT + GATE_CALL16, CODE0, HANDLER, 4, 3, 1);
	gate_at(f, GDT + GATE_TASK, SEL_TSS2, 0, 5, 3, 0);
	gate_at(f, GDT + GATE_NP, CODE0, HANDLER, 12, 3, 0);
	f->mem[GDT + GATE_NP + 5] &= 0x7f;
	gate_at(f, GDT + GATE_CALL1, CODE1, HANDLER, 12, 3, 0);
	desc_at(f, LDT, 0, 0xfffff, 0xc0f2);
}

static inline void machine_tss(struct flat *f, bool wide)
{
	u32 *t = (u32 *)(f->mem + TSS1);

	if (wide) {
		*(u64_un *)(f->mem + TSS1 + 4) = STACK0;
		*(u64_un *)(f->mem + TSS1 + 12) = STACK1;
		*(u64_un *)(f->mem + TSS1 + 36) = IST1;
		return;
	}
	t[1] = STACK0;
	t[2] = DATA0;
	t[3] = STACK1;
	t[4] = DATA1 | 1;
	t[25] = 0x68u << 16; /* no I/O bitmap before that, 32 bytes of redirection before it */
}

/* The attributes of a loaded segment register from a row of the GDT. */
static inline void machine_seg(struct flat *f, unsigned s, u16 sel)
{
	u64 raw;

	memcpy(&raw, f->mem + GDT + (sel & ~7u), 8);
	flat_seg(&f->cpu, s, sel, 0, raw & BIT64(55) ? 0xffffffff : 0xffff, ((raw >> 40) & 0xf0ff) | 1);
}

static inline struct flat *machine_new(enum machine_mode mode, unsigned cpl)
{
	struct flat *f = flat_new(MACHINE_MEM);
	bool wide = mode >= COMPAT;
	struct cpu *c = &f->cpu;

	machine_gdt(f, wide);
	machine_tss(f, wide);
	if (wide)
		flat_long(f, CODE);
	else if (mode == REAL)
		flat_real(f, CODE);
	else
		flat_prot(f, CODE);
	c->gdt = (struct dtable){ GDT, mode == REAL ? 0xffff : GDT_END - 1 };
	c->idt = (struct dtable){ mode == REAL ? 0 : IDT, wide ? 0xfff : 0x7ff };
	flat_seg(c, SEG_TR, SEL_TSS1, TSS1, 0xff, 0x8b);
	flat_seg(c, SEG_LDTR, SEL_LDT, LDT, 0x0f, 0x82);
	f->mem[GDT + SEL_TSS1 + 5] |= 2;
	if (mode >= PROT) {
		static const u16 code[3][4] = { { CODE0, CODE1 | 1, 0, CODE3 | 3 },
						{ CODE0, CODE1 | 1, 0, CODE3 | 3 },
						{ CODE0_64, 0, 0, CODE3_64 | 3 } };
		static const u16 data[4] = { DATA0, DATA1 | 1, 0, DATA3 | 3 };

		machine_seg(f, SEG_CS, code[mode - PROT][cpl]);
		for (unsigned s = SEG_ES; s <= SEG_GS; s++)
			if (s != SEG_CS)
				machine_seg(f, s, data[cpl]);
	}
	if (mode == VM86) {
		c->rflags |= FL_VM;
		for (unsigned s = SEG_ES; s <= SEG_GS; s++)
			flat_seg(c, s, 0, 0, 0xffff, 0xf3);
	}
	c->gpr[RSP] = cpl == 3 || mode == VM86 ? STACK3 : cpl == 1 ? STACK1 : STACK0;
	c->rflags |= FL_IF;
	c->attn = 0;
	cpu_update_mode(c);
	return f;
}

#endif
