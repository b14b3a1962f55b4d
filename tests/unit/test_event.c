// SPDX-License-Identifier: MIT
/* Delivery of exceptions and interrupts in every mode, its faults, and what comes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "interp/debug.h"
#include "machine.h"

#define VEC 0x20 /* the vector that most tests deliver */
#define ERROR 0x1234u
#define NONE 0xff

static u64 stack_item(const struct flat *f, unsigned size, unsigned n)
{
	u64 v = 0;

	memcpy(&v, f->mem + f->cpu.seg[SEG_SS].base + f->cpu.gpr[RSP] + n * size, size);
	return v;
}

/* ---- deliveries that arrive ---- */

struct arrival {
	const char *name;
	enum machine_mode mode;
	u8 cpl;
	enum event_kind kind;
	u8 vector;
	bool has_error;
	u16 sel; /* of the gate */
	u8 type, ist;
	/* expected */
	u8 new_cpl, size;
	u64 top; /* of the stack before the pushes */
	bool if_stays, switches;
};

static const struct arrival arrivals[] = {
	{ "same ring", PROT, 0, EVENT_EXT, VEC, false, CODE0, 14, 0, 0, 4, STACK0, false, false },
	{ "trap gate", PROT, 0, EVENT_EXT, VEC, false, CODE0, 15, 0, 0, 4, STACK0, true, false },
	{ "error code", PROT, 0, EVENT_EXC, VEC_GP, true, CODE0, 14, 0, 0, 4, STACK0, false, false },
	{ "16-bit gate", PROT, 0, EVENT_EXC, VEC_GP, true, CODE0, 6, 0, 0, 2, STACK0, false, false },
	{ "16-bit trap gate", PROT, 0, EVENT_SOFT, VEC, false, CODE0, 7, 0, 0, 2, STACK0, true, false },
	{ "inner", PROT, 3, EVENT_EXT, VEC, false, CODE0, 14, 0, 0, 4, STACK0, false, true },
	{ "inner, error", PROT, 3, EVENT_EXC, VEC_PF, true, CODE0, 14, 0, 0, 4, STACK0, false, true },
	{ "inner, ring 1", PROT, 3, EVENT_EXT, VEC, false, CODE1, 14, 0, 1, 4, STACK1, false, true },
	{ "ring 1 to 0", PROT, 1, EVENT_EXT, VEC, false, CODE0, 14, 0, 0, 4, STACK0, false, true },
	{ "inner, 16 bits", PROT, 3, EVENT_EXT, VEC, false, CODE0, 6, 0, 0, 2, STACK0, false, true },
	{ "conforming", PROT, 3, EVENT_EXT, VEC, false, CONFORM0, 14, 0, 3, 4, STACK3, false, false },
	{ "long, same ring", LONG, 0, EVENT_EXT, VEC, false, CODE0_64, 14, 0, 0, 8, STACK0, false, true },
	{ "long, error", LONG, 0, EVENT_EXC, VEC_PF, true, CODE0_64, 14, 0, 0, 8, STACK0, false, true },
	{ "long, inner", LONG, 3, EVENT_EXT, VEC, false, CODE0_64, 15, 0, 0, 8, STACK0, true, true },
	{ "long, IST", LONG, 0, EVENT_EXT, VEC, false, CODE0_64, 14, 1, 0, 8, IST1 & ~0xfu, false, true },
	{ "long, inner IST", LONG, 3, EVENT_EXC, VEC_DF, true, CODE0_64, 14, 1, 0, 8, IST1 & ~0xfu, false, true },
	{ "compat, same ring", COMPAT, 0, EVENT_EXT, VEC, false, CODE0_64, 14, 0, 0, 8, STACK0, false, true },
	{ "compat, inner", COMPAT, 3, EVENT_SOFT, VEC, false, CODE0_64, 14, 0, 0, 8, STACK0, false, true },
	{ "long, conforming", LONG, 3, EVENT_EXT, VEC, false, CONFORM0_64, 14, 0, 3, 8, STACK3, false, true },
};

static void check_arrival(const struct arrival *a)
{
	struct flat *f = machine_new(a->mode, a->cpl);
	struct cpu *c = &f->cpu;
	u16 cs = c->seg[SEG_CS].sel, ss = c->seg[SEG_SS].sel;
	bool fault = a->kind == EVENT_EXC && a->vector != VEC_DF;
	u64 rsp = c->gpr[RSP], flags = cpu_rflags(c) | FL_NT | FL_TF | FL_CF;
	unsigned n = 0;

	print_message("%s\n", a->name);
	idt_gate(f, a->vector, a->sel, a->type, 3, a->ist);
	cpu_set_rflags(c, flags);
	c->ev.shadow = SHADOW_STI;
	assert_int_equal(event_deliver(c, a->kind, a->vector, a->has_error, ERROR), ST_END);
	assert_int_equal(c->gpr[R_RIP], (HANDLER + a->vector) & (a->size == 2 ? 0xffff : ~0u));
	assert_int_equal(c->seg[SEG_CS].sel, a->sel | a->new_cpl);
	assert_int_equal(c->cpl, a->new_cpl);
	assert_int_equal(c->mode, a->mode >= COMPAT ? CPU_LONG : CPU_PROT);
	assert_int_equal(c->ev.shadow, 0);
	if (a->has_error)
		assert_int_equal(stack_item(f, a->size, n++), ERROR);
	assert_int_equal(stack_item(f, a->size, n++), CODE);
	assert_int_equal(stack_item(f, a->size, n++), cs);
	assert_int_equal(stack_item(f, a->size, n++), (flags | (fault && a->size > 2 ? FL_RF : 0)));
	if (a->switches) {
		assert_int_equal(stack_item(f, a->size, n++), rsp);
		assert_int_equal(stack_item(f, a->size, n++), ss);
	}
	assert_int_equal(c->gpr[RSP] + n * a->size, a->top);
	if (a->new_cpl != a->cpl)
		assert_int_equal(c->seg[SEG_SS].sel, a->size == 8 ? 0 : a->new_cpl == 1 ? DATA1 | 1 : DATA0);
	else
		assert_int_equal(c->seg[SEG_SS].sel, ss);
	assert_int_equal(cpu_rflags(c), (flags & ~(FL_NT | FL_TF)) & ~(a->if_stays ? 0 : FL_IF));
	flat_free(f);
}

static void arriving(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(arrivals); n++)
		check_arrival(&arrivals[n]);
}

static void real_mode(void **state)
{
	struct flat *f = machine_new(REAL, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	*(u32 *)(f->mem + 4 * VEC) = 0x1234 << 16 | 0x5678;
	c->gpr[RSP] = 0xabcd0000 | 2; /* wraps around */
	assert_int_equal(event_deliver(c, EVENT_EXT, VEC, false, 0), ST_END);
	assert_int_equal(c->seg[SEG_CS].sel, 0x1234);
	assert_int_equal(c->seg[SEG_CS].base, 0x12340);
	assert_int_equal(c->gpr[R_RIP], 0x5678);
	assert_int_equal(c->gpr[RSP], 0xabcdfffc);
	assert_int_equal(*(u16 *)(f->mem + 0xfffc), CODE);
	assert_int_equal(*(u16 *)(f->mem + 0xfffe), 0);
	assert_int_equal(*(u16 *)(f->mem), FL_IF | FL_1);
	assert_false(c->rflags & FL_IF);
	c->idt.limit = 4 * VEC + 2;
	assert_int_equal(event_deliver(c, EVENT_EXT, VEC, false, 0), ST_FAULT);
	assert_int_equal(c->fault.vector, VEC_GP);
	/* The limit of CS is what protected mode left there. */
	c->idt.limit = 0x3ff;
	c->seg[SEG_CS].limit = 0x5677;
	assert_int_equal(event_deliver(c, EVENT_EXT, VEC, false, 0), ST_FAULT);
	assert_int_equal(c->fault.vector, VEC_GP);
	assert_int_equal(c->gpr[RSP], 0xabcdfffc);
	c->seg[SEG_CS].limit = 0x5678;
	assert_int_equal(event_deliver(c, EVENT_EXT, VEC, false, 0), ST_END);
	flat_free(f);
}

static void from_vm86(void **state)
{
	struct flat *f = machine_new(VM86, 3);
	struct cpu *c = &f->cpu;
	static const u16 sels[] = {
		[SEG_ES] = 0x111, [SEG_SS] = 0x10, [SEG_DS] = 0x333, [SEG_FS] = 0x444, [SEG_GS] = 0x555
	};

	(void)state;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		if (s != SEG_CS)
			assert_int_equal(seg_load(c, s, sels[s]), ST_OK);
	idt_gate(f, VEC_GP, CODE0, 14, 0, 0);
	assert_int_equal(c->mode, CPU_VM86);
	assert_int_equal(event_deliver(c, EVENT_EXC, VEC_GP, true, ERROR), ST_END);
	assert_int_equal(c->mode, CPU_PROT);
	assert_int_equal(c->cpl, 0);
	assert_int_equal(c->gpr[RSP], STACK0 - 40);
	assert_int_equal(stack_item(f, 4, 0), ERROR);
	assert_int_equal(stack_item(f, 4, 1), CODE);
	assert_int_equal(stack_item(f, 4, 3), FL_VM | FL_IF | FL_RF | FL_1);
	assert_int_equal(stack_item(f, 4, 4), STACK3);
	assert_int_equal(stack_item(f, 4, 5), 0x10);
	assert_int_equal(stack_item(f, 4, 6), 0x111);
	assert_int_equal(stack_item(f, 4, 7), 0x333);
	assert_int_equal(stack_item(f, 4, 8), 0x444);
	assert_int_equal(stack_item(f, 4, 9), 0x555);
	assert_int_equal(c->seg[SEG_GS].sel, 0);
	/* and back */
	c->gpr[RSP] += 4;
	assert_int_equal(far_iret(c, 2), ST_END);
	assert_int_equal(c->mode, CPU_VM86);
	assert_int_equal(c->gpr[R_RIP], CODE);
	assert_int_equal(c->gpr[RSP], STACK3);
	for (unsigned s = SEG_ES; s <= SEG_GS; s++) {
		assert_int_equal(c->seg[s].sel, s == SEG_CS ? 0 : sels[s]);
		assert_int_equal(c->seg[s].base, c->seg[s].sel * 16);
	}
	flat_free(f);
}

/* A 32-bit program on a 64-bit kernel: all that the kernel has lies above what the program can address. */
static void compat_with_high_kernel(void **state)
{
	struct flat *f = machine_new(COMPAT, 3);
	struct cpu *c = &f->cpu;
	const u64 high = 0xffffff8000000000;

	(void)state;
	((u64 *)(f->mem + c->cr3))[511] = ((u64 *)(f->mem + c->cr3))[0];
	((u64 *)(f->mem + c->cr3))[0] = 0;
	tlb_flush(c);
	idt_gate(f, VEC, CODE0_64, 14, 3, 0);
	c->gdt.base += high;
	c->idt.base += high;
	c->seg[SEG_TR].base += high;
	*(u64_un *)(f->mem + TSS1 + 4) += high;
	c->gpr[R_RIP] = CODE;
	assert_int_equal(event_deliver(c, EVENT_SOFT, VEC, false, 0), ST_END);
	assert_int_equal(c->gpr[RSP], high + STACK0 - 40);
	assert_int_equal(*(u64_un *)(f->mem + STACK0 - 40), CODE);
	assert_int_equal(far_iret(c, 3), ST_END);
	assert_int_equal(c->mode, CPU_COMPAT);
	assert_int_equal(c->gpr[RSP], STACK3);
	flat_free(f);
}

/* ---- deliveries that fault ---- */

static void idt_short(struct flat *f)
{
	f->cpu.idt.limit = VEC * 8 + 6;
}

static void gate_absent(struct flat *f)
{
	f->mem[IDT + VEC * (cpu_long_mode(&f->cpu) ? 16 : 8) + 5] &= 0x7f;
}

static void gate_type(struct flat *f)
{
	f->mem[IDT + VEC * (cpu_long_mode(&f->cpu) ? 16 : 8) + 5] ^= 2; /* a call gate */
}

static void tss_short(struct flat *f)
{
	f->cpu.seg[SEG_TR].limit = 5;
}

static void stack_null(struct flat *f)
{
	*(u32 *)(f->mem + TSS1 + 8) = 0;
}

static void stack_dpl(struct flat *f)
{
	*(u32 *)(f->mem + TSS1 + 8) = DATA3;
}

static void stack_absent(struct flat *f)
{
	*(u32 *)(f->mem + TSS1 + 8) = DATA_NP;
}

static void stack_small(struct flat *f)
{
	*(u32 *)(f->mem + TSS1 + 8) = SMALL;
	*(u32 *)(f->mem + TSS1 + 4) = 0x1008;
}

static void stack_wild(struct flat *f)
{
	*(u64_un *)(f->mem + TSS1 + 4) = 0x8000000000000000;
}

static void own_stack_small(struct flat *f)
{
	f->cpu.seg[SEG_SS].limit = 0xfff;
	cpu_update_mode(&f->cpu);
}

static void code_small(struct flat *f)
{
	desc_at(f, GDT + CODE0, 0, 0xfff, 0x409a);
}

static const struct refusal {
	enum machine_mode mode;
	u8 cpl;
	enum event_kind kind;
	u16 sel;
	u8 dpl;
	void (*spoil)(struct flat *f);
	u8 vector;
	u32 error; /* without EXT */
} refusals[] = {
	{ PROT, 0, EVENT_EXT, CODE0, 0, idt_short, VEC_GP, VEC * 8 | 2 },
	{ PROT, 0, EVENT_SOFT, CODE0, 0, idt_short, VEC_GP, VEC * 8 | 2 },
	{ LONG, 0, EVENT_EXT, CODE0_64, 0, idt_short, VEC_GP, VEC * 8 | 2 },
	{ PROT, 0, EVENT_EXT, CODE0, 0, gate_absent, VEC_NP, VEC * 8 | 2 },
	{ LONG, 3, EVENT_EXT, CODE0_64, 0, gate_absent, VEC_NP, VEC * 8 | 2 },
	{ PROT, 0, EVENT_EXT, CODE0, 0, gate_type, VEC_GP, VEC * 8 | 2 },
	{ LONG, 0, EVENT_SOFT, CODE0_64, 0, gate_type, VEC_GP, VEC * 8 | 2 },
	{ PROT, 3, EVENT_SOFT, CODE0, 0, NULL, VEC_GP, VEC * 8 | 2 },
	{ LONG, 3, EVENT_SOFT, CODE0_64, 1, NULL, VEC_GP, VEC * 8 | 2 },
	{ PROT, 0, EVENT_EXT, 0, 0, NULL, VEC_GP, 0 },
	{ PROT, 0, EVENT_EXT, GDT_END, 0, NULL, VEC_GP, GDT_END },
	{ PROT, 0, EVENT_EXT, DATA0, 0, NULL, VEC_GP, DATA0 },
	{ PROT, 0, EVENT_EXT, CODE3, 0, NULL, VEC_GP, CODE3 },
	{ PROT, 0, EVENT_EXT, CODE_NP, 0, NULL, VEC_NP, CODE_NP },
	{ PROT, 0, EVENT_EXC, CODE_NP, 0, NULL, VEC_NP, CODE_NP },
	{ LONG, 0, EVENT_EXT, CODE0, 0, NULL, VEC_GP, CODE0 },
	{ LONG, 0, EVENT_EXT, CODE_LD, 0, NULL, VEC_GP, CODE_LD },
	{ VM86, 3, EVENT_EXT, CODE1, 0, NULL, VEC_GP, CODE1 },
	{ VM86, 3, EVENT_EXT, CONFORM0, 0, NULL, VEC_GP, CONFORM0 },
	{ PROT, 3, EVENT_EXT, CODE0, 0, tss_short, VEC_TS, SEL_TSS1 },
	{ LONG, 3, EVENT_EXT, CODE0_64, 0, tss_short, VEC_TS, SEL_TSS1 },
	{ PROT, 3, EVENT_EXT, CODE0, 0, stack_null, VEC_TS, 0 },
	{ PROT, 3, EVENT_EXT, CODE0, 0, stack_dpl, VEC_TS, DATA3 },
	{ PROT, 3, EVENT_EXT, CODE0, 0, stack_absent, VEC_SS, DATA_NP },
	{ PROT, 3, EVENT_EXT, CODE0, 0, stack_small, VEC_SS, SMALL },
	{ LONG, 3, EVENT_EXT, CODE0_64, 0, stack_wild, VEC_SS, 0 },
	{ PROT, 0, EVENT_EXT, CODE0, 0, own_stack_small, VEC_SS, 0 },
	{ PROT, 0, EVENT_EXT, CODE0, 0, code_small, VEC_GP, 0 },
};

static void refused(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(refusals); n++) {
		const struct refusal *r = &refusals[n];
		struct flat *f = machine_new(r->mode, r->cpl);
		struct cpu before, *c = &f->cpu;
		int st;

		idt_gate(f, VEC, r->sel, 14, r->dpl, 0);
		if (r->spoil)
			r->spoil(f);
		before = *c;
		st = event_deliver(c, r->kind, VEC, false, 0);
		print_message("%u: mode %d cpl %u sel %x: %d %u(%x)\n", n, r->mode, r->cpl, r->sel, st, c->fault.vector,
			      c->fault.error);
		assert_int_equal(st, ST_FAULT);
		assert_int_equal(c->fault.vector, r->vector);
		assert_int_equal(c->fault.error, r->error | (r->kind != EVENT_SOFT));
		assert_memory_equal(c->gpr, before.gpr, sizeof(before.gpr));
		assert_memory_equal(c->seg, before.seg, sizeof(before.seg));
		assert_int_equal(cpu_rflags(c), cpu_rflags(&before));
		flat_free(f);
	}
}

/* ---- faults after faults: SDM vol. 3, table 6-5 ---- */

/* An exception whose gate is missing, so that a #NP follows; or whose code segment's page is, so that a #PF does. */
static void double_faults(void **state)
{
	static const struct {
		u8 first;
		bool page_fault;
		u8 taken; /* NONE: shutdown */
	} rows[] = {
		{ VEC_UD, false, VEC_NP }, { VEC_DE, false, VEC_DF }, { VEC_TS, false, VEC_DF },
		{ VEC_NP, false, NONE },   { VEC_SS, false, VEC_DF }, { VEC_GP, false, VEC_DF },
		{ VEC_PF, false, VEC_DF }, { VEC_DF, false, NONE },   { VEC_UD, true, VEC_PF },
		{ VEC_GP, true, VEC_PF },  { VEC_DB, true, VEC_PF },  { VEC_AC, false, VEC_NP },
		{ VEC_MF, false, VEC_NP }, { VEC_DF, true, NONE },
	};

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = machine_new(LONG, 0);
		struct cpu *c = &f->cpu;
		unsigned last = rows[n].taken == NONE ? VEC_NMI : rows[n].taken;
		int st;

		print_message("%u after %u\n", rows[n].taken, rows[n].first);
		for (unsigned v = 0; v < 32; v++)
			idt_gate(f, (u8)v, CODE0_64, 14, 0, 0);
		if (rows[n].page_fault)
			/* The IST pointer leads to a page that is not there. */
			idt_gate(f, rows[n].first, CODE0_64, 14, 0, 2);
		else
			f->mem[IDT + 16 * rows[n].first + 5] &= 0x7f;
		*(u64_un *)(f->mem + TSS1 + 44) = 0x7f00000000;
		c->fault = (struct fault){ .vector = rows[n].first, .has_error = rows[n].first >= 8, .addr = 0x777 };
		assert_int_equal(event_fault(c), ST_OK);
		/* A #NP whose gate is not present, too, is a double fault whose handler is there. */
		if (rows[n].first == VEC_NP)
			f->mem[IDT + 16 * VEC_DF + 5] &= 0x7f;
		st = event_poll(c);
		if (rows[n].taken == NONE) {
			assert_int_equal(st, ST_EXIT_DONE);
			assert_int_equal(c->exit.reason, EXIT_SHUTDOWN);
		} else {
			assert_int_equal(st, ST_OK);
			assert_int_equal(c->gpr[R_RIP], HANDLER + last);
		}
		if (last == VEC_PF)
			assert_int_equal(c->cr2, 0x7f00000000 - 8); /* the first push */
		else if (rows[n].first == VEC_PF)
			assert_int_equal(c->cr2, 0x777);
		if (last == VEC_NP)
			assert_int_equal(stack_item(f, 8, 0), (u64)rows[n].first * 8 | 3);
		if (last == VEC_DF)
			assert_int_equal(stack_item(f, 8, 0), 0);
		assert_false(c->ev.exc.pending || c->ev.exc.injected);
		flat_free(f);
	}
}

/* ---- what comes first ---- */

static void priorities(void **state)
{
	struct flat *f = machine_new(LONG, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	for (unsigned v = 0; v <= VEC; v++)
		idt_gate(f, (u8)v, CODE0_64, 15, 0, 0); /* trap gates: IF stays */
	c->ev.intr.injected = true;
	c->ev.intr.vector = VEC;
	c->ev.nmi_pending = true;
	c->want_window = true;
	c->fault = (struct fault){ .vector = VEC_DB, .dr6 = DR6_BS };
	assert_int_equal(event_fault(c), ST_OK);
	/* The exception first, then the NMI, then the interrupt: the last handler is the one that runs first. */
	assert_int_equal(event_poll(c), ST_EXIT_DONE);
	assert_int_equal(c->exit.reason, EXIT_WINDOW);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC);
	assert_int_equal(stack_item(f, 8, 0), HANDLER + VEC_NMI);
	/* Frames of five items, each aligned to 16 bytes. */
	assert_int_equal(stack_item(f, 8, 6), HANDLER + VEC_DB);
	assert_int_equal(stack_item(f, 8, 12), CODE);
	assert_int_equal(c->dr[6], DR6_FIXED | DR6_BS);
	assert_true(c->ev.nmi_masked);
	assert_false(c->ev.intr.injected);
	/* Masked until IRET. */
	c->want_window = false;
	c->ev.nmi_pending = true;
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC);
	assert_int_equal(far_iret(c, 3), ST_END);
	assert_true(c->attn & ATTN_EVENT);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC_NMI);
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC_NMI);
	assert_int_equal(stack_item(f, 8, 0), HANDLER + VEC_NMI);
	flat_free(f);
}

static void masked_and_shadowed(void **state)
{
	struct flat *f = machine_new(LONG, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	idt_gate(f, VEC, CODE0_64, 14, 0, 0);
	c->rflags &= ~FL_IF;
	c->want_window = true;
	c->ev.intr.injected = true;
	c->ev.intr.vector = VEC;
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], CODE);
	c->rflags |= FL_IF;
	c->ev.shadow = SHADOW_STI;
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], CODE);
	assert_true(c->attn & ATTN_STEP);
	assert_int_equal(event_step_before(c), ST_OK);
	assert_int_equal(event_step_done(c, SHADOW_STI), ST_OK);
	assert_false(c->attn & ATTN_STEP);
	assert_true(c->attn & ATTN_EVENT);
	/* Delivered, and then the window is closed: IF is clear. */
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC);
	c->rflags |= FL_IF;
	assert_int_equal(event_poll(c), ST_EXIT_DONE);
	assert_int_equal(c->exit.reason, EXIT_WINDOW);
	flat_free(f);
}

/* The stack is a device: not delivered, and not lost. */
static void stack_in_device(void **state)
{
	struct flat *f = machine_new(PROT, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	idt_gate(f, VEC, CODE0, 14, 0, 0);
	c->ev.intr.injected = true;
	c->ev.intr.vector = VEC;
	c->gpr[RSP] = 0x80000010;
	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(event_poll(c), ST_EXIT);
		assert_int_equal(c->exit.reason, EXIT_DELIVERY);
		assert_int_equal(c->exit.delivery.vectoring, VECTORING_VALID | VEC);
		assert_int_equal(c->exit.delivery.gpa, 0x80000004);
		assert_true(c->ev.intr.injected);
		assert_int_equal(c->gpr[R_RIP], CODE);
		assert_int_equal(c->gpr[RSP], 0x80000010);
	}
	c->gpr[RSP] = STACK0;
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC);
	assert_false(c->ev.intr.injected);
	assert_int_equal(c->vectoring, 0);
	flat_free(f);
}

/* So are the IDT, the GDT and the TSS. INT n stays to be executed. */
static void tables_in_device(void **state)
{
	struct flat *f = machine_new(PROT, 3);
	struct cpu *c = &f->cpu;
	u64 idt = c->idt.base, gdt = c->gdt.base;

	(void)state;
	idt_gate(f, VEC_GP, CODE0, 14, 3, 0);
	c->idt.base = 0x80000000;
	assert_int_equal(event_deliver(c, EVENT_EXC, VEC_GP, true, 0), ST_EXIT);
	assert_int_equal(c->exit.reason, EXIT_DELIVERY);
	assert_int_equal(c->exit.delivery.vectoring, VECTORING_VALID | VECTORING_HAS_ERROR | 3 << 8 | VEC_GP);
	assert_int_equal(c->exit.delivery.gpa, 0x80000000 + 8 * VEC_GP);
	c->idt.base = idt;
	c->gdt.base = 0x80001000;
	assert_int_equal(event_deliver(c, EVENT_SOFT, VEC_GP, false, 0), ST_EXIT);
	assert_int_equal(c->exit.delivery.vectoring, VECTORING_VALID | 4 << 8 | VEC_GP);
	assert_int_equal(c->exit.delivery.gpa, 0x80001000 + (CODE0 & ~7u));
	c->gdt.base = gdt;
	c->seg[SEG_TR].base = 0x80002000;
	assert_int_equal(event_deliver(c, EVENT_SOFT, VEC_GP, false, 0), ST_EXIT);
	assert_int_equal(c->exit.delivery.gpa, 0x80002004);
	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->io.n, 0);
	flat_free(f);
}

/* The client hands back the INT3 that was the guest's own: RIP is still there. */
static void reinjected_breakpoint(void **state)
{
	struct flat *f = machine_new(LONG, 3);
	struct cpu *c = &f->cpu;

	(void)state;
	idt_gate(f, VEC_BP, CODE0_64, 14, 3, 0);
	f->mem[CODE] = 0xcc;
	c->guest_debug = GUESTDBG_ENABLE | GUESTDBG_USE_SW_BP;
	c->cur = NULL;
	c->gpr[R_RIP]++;
	assert_int_equal(event_int3(c), ST_EXIT);
	assert_int_equal(c->exit.reason, EXIT_DEBUG);
	assert_int_equal(c->exit.debug.vector, VEC_BP);
	assert_int_equal(c->exit.debug.pc, CODE);
	c->gpr[R_RIP]--;
	c->ev.exc.pending = true;
	c->ev.exc.vector = VEC_BP;
	assert_int_equal(event_poll(c), ST_OK);
	assert_int_equal(c->gpr[R_RIP], HANDLER + VEC_BP);
	assert_int_equal(stack_item(f, 8, 0), CODE + 1);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arriving),
		cmocka_unit_test(real_mode),
		cmocka_unit_test(from_vm86),
		cmocka_unit_test(refused),
		cmocka_unit_test(double_faults),
		cmocka_unit_test(priorities),
		cmocka_unit_test(masked_and_shadowed),
		cmocka_unit_test(stack_in_device),
		cmocka_unit_test(tables_in_device),
		cmocka_unit_test(reinjected_breakpoint),
		cmocka_unit_test(compat_with_high_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
