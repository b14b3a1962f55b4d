// SPDX-License-Identifier: MIT
/* Loading segment registers: which selectors are refused, and with what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "interp/desc.h"
#include "machine.h"

#define NONE 0xff /* no fault */

struct load {
	enum machine_mode mode;
	u8 cpl, seg;
	u16 sel;
	u8 vector;
	u16 error;
};

static const struct load loads[] = {
	{ PROT, 0, SEG_DS, DATA0, NONE, 0 },
	{ PROT, 0, SEG_DS, 0, NONE, 0 },
	{ PROT, 0, SEG_DS, 3, NONE, 0 },
	{ PROT, 0, SEG_DS, DATA3 | 3, NONE, 0 },
	{ PROT, 0, SEG_DS, DATA0 | 3, VEC_GP, DATA0 }, /* RPL > DPL */
	{ PROT, 3, SEG_DS, DATA0, VEC_GP, DATA0 },     /* CPL > DPL */
	{ PROT, 3, SEG_DS, DATA3, NONE, 0 },
	{ PROT, 3, SEG_ES, IN_LDT | 3, NONE, 0 },
	{ PROT, 3, SEG_ES, 16 | IN_LDT, VEC_GP, 16 | IN_LDT },
	{ PROT, 0, SEG_FS, CODE0, NONE, 0 }, /* readable */
	{ PROT, 0, SEG_FS, CODE_XO, VEC_GP, CODE_XO },
	{ PROT, 3, SEG_GS, CONFORM0, NONE, 0 }, /* conforming: no privilege */
	{ PROT, 0, SEG_DS, DATA_RO, NONE, 0 },
	{ PROT, 0, SEG_DS, DATA_NP, VEC_NP, DATA_NP },
	{ PROT, 0, SEG_DS, SEL_TSS2, VEC_GP, SEL_TSS2 },
	{ PROT, 0, SEG_DS, GDT_END, VEC_GP, GDT_END },
	{ PROT, 0, SEG_SS, DATA0, NONE, 0 },
	{ PROT, 0, SEG_SS, 0, VEC_GP, 0 },
	{ PROT, 0, SEG_SS, DATA0 | 1, VEC_GP, DATA0 },
	{ PROT, 0, SEG_SS, DATA3, VEC_GP, DATA3 },
	{ PROT, 3, SEG_SS, DATA3, VEC_GP, DATA3 },
	{ PROT, 3, SEG_SS, DATA3 | 3, NONE, 0 },
	{ PROT, 0, SEG_SS, DATA_RO, VEC_GP, DATA_RO },
	{ PROT, 0, SEG_SS, CODE0, VEC_GP, CODE0 },
	{ PROT, 0, SEG_SS, DATA_NP, VEC_SS, DATA_NP },
	{ PROT, 1, SEG_SS, DATA1 | 1, NONE, 0 },
	{ LONG, 0, SEG_SS, 0, NONE, 0 },
	{ LONG, 0, SEG_SS, 1, VEC_GP, 0 },
	{ LONG, 3, SEG_SS, 3, VEC_GP, 0 },
	{ COMPAT, 0, SEG_SS, 0, VEC_GP, 0 },
	{ LONG, 0, SEG_SS, DATA0, NONE, 0 },
	{ LONG, 3, SEG_FS, DATA3 | 3, NONE, 0 },
	{ LONG, 3, SEG_FS, DATA0, VEC_GP, DATA0 },
};

static void loading(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(loads); n++) {
		const struct load *l = &loads[n];
		struct flat *f = machine_new(l->mode, l->cpl);
		struct cpu *c = &f->cpu;
		u16 old = c->seg[l->seg].sel;
		int st = seg_load(c, l->seg, l->sel);

		print_message("%u: mode %d cpl %u seg %u sel %x -> %d %d(%x)\n", n, l->mode, l->cpl, l->seg, l->sel, st,
			      c->fault.vector, c->fault.error);
		if (l->vector == NONE) {
			assert_int_equal(st, ST_OK);
			assert_int_equal(c->seg[l->seg].sel, l->sel);
			assert_int_equal(c->cpl, l->cpl);
			if (seg_null(l->sel))
				assert_true(c->seg[l->seg].attr & ATTR_UNUSABLE);
			else if (!(l->sel & IN_LDT))
				assert_true(f->mem[GDT + (l->sel & ~7u) + 5] & 1); /* accessed */
		} else {
			assert_int_equal(st, ST_FAULT);
			assert_int_equal(c->fault.vector, l->vector);
			assert_true(c->fault.has_error);
			assert_int_equal(c->fault.error, l->error);
			assert_int_equal(c->seg[l->seg].sel, old);
		}
		flat_free(f);
	}
}

static void unreal_mode(void **state)
{
	struct flat *f = machine_new(REAL, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	c->seg[SEG_DS].limit = 0xffffffff;
	assert_int_equal(seg_load(c, SEG_DS, 0x1234), ST_OK);
	assert_int_equal(c->seg[SEG_DS].base, 0x12340);
	assert_int_equal(c->seg[SEG_DS].limit, 0xffffffff);
	assert_true(c->seg[SEG_DS].wr_end > 0xfffff);
	flat_free(f);
}

/* ---- instructions, by their bytes ---- */

static void put(struct flat *f, const u8 *code, size_t n)
{
	memcpy(f->mem + CODE, code, n);
	f->mem[CODE + n] = 0xf4; /* HLT */
}
#define PUT(f, ...)                                                                                                    \
	do {                                                                                                           \
		static const u8 code_[] = { __VA_ARGS__ };                                                             \
		put(f, code_, sizeof(code_));                                                                          \
	} while (0)

static void mov_ss_shadows(void **state)
{
	struct flat *f = machine_new(PROT, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	/* mov ss, ax; mov esp, ebx; hlt */
	PUT(f, 0x8e, 0xd0, 0x89, 0xdc);
	idt_gate(f, 0x40, CODE0, 14, 0, 0);
	f->mem[HANDLER + 0x40] = 0xf4;
	c->gpr[RAX] = DATA0;
	c->gpr[RBX] = STACK1;
	c->rflags &= ~FL_IF;
	c->ev.intr.vector = 0x40;
	c->ev.intr.injected = true;
	cpu_set_rflags(c, c->rflags | FL_IF);
	c->ev.shadow = SHADOW_STI; /* not before MOV SS, nor after it */
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[R_RIP], HANDLER + 0x41);
	assert_int_equal(*(u32 *)(f->mem + STACK1 - 12), CODE + 4);
	flat_free(f);
}

static void lss_and_lgs(void **state)
{
	struct flat *f = machine_new(PROT, 0);
	struct cpu *c = &f->cpu;

	(void)state;
	/* lss esp, [ebx]; lgs ecx, [ebx]; */
	PUT(f, 0x0f, 0xb2, 0x23, 0x0f, 0xb5, 0x0b);
	*(u32 *)(f->mem + 0x7000) = STACK1;
	*(u16 *)(f->mem + 0x7004) = SMALL;
	c->gpr[RBX] = 0x7000;
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[RSP], STACK1);
	assert_int_equal(c->gpr[RCX], STACK1);
	assert_int_equal(c->seg[SEG_SS].sel, SMALL);
	assert_int_equal(c->seg[SEG_SS].limit, 0xfff);
	assert_int_equal(c->seg[SEG_GS].sel, SMALL);
	flat_free(f);
}

struct ask {
	enum machine_mode mode;
	u8 cpl, opcode; /* behind 0F */
	u16 sel;
	bool zf;
	u32 value;
};

static const struct ask asks[] = {
	/* lar eax, bx */
	{ PROT, 0, 0x02, DATA0, true, 0x00cf9200 },
	{ PROT, 3, 0x02, DATA0, false, 0 },
	{ PROT, 3, 0x02, CONFORM0, true, 0x00cf9e00 },
	{ PROT, 0, 0x02, DATA0 | 3, false, 0 },
	{ PROT, 0, 0x02, SEL_TSS3, true, 0x00008100 },
	{ LONG, 0, 0x02, SEL_TSS3, false, 0 },
	{ PROT, 0, 0x02, GATE_CALL, true, 0x00006c00 | 0x8000 },
	{ PROT, 0, 0x02, 0, false, 0 },
	{ PROT, 0, 0x02, GDT_END, false, 0 },
	/* lsl eax, bx */
	{ PROT, 0, 0x03, DATA0, true, 0xffffffff },
	{ PROT, 0, 0x03, SMALL, true, 0xfff },
	{ PROT, 0, 0x03, SEL_TSS2, true, 0x67 },
	{ PROT, 0, 0x03, GATE_CALL, false, 0 },
	{ LONG, 0, 0x03, SEL_LDT, true, 0x0f },
};

static void lar_lsl(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(asks); n++) {
		const struct ask *a = &asks[n];
		struct flat *f = machine_new(a->mode, 0);
		struct cpu *c = &f->cpu;

		PUT(f, 0x0f, 0x02, 0xc3);
		f->mem[CODE + 1] = a->opcode;
		if (a->cpl == 3) {
			/* HLT would fault: CPL 3 without a descriptor for CS is enough to ask */
			c->seg[SEG_SS].attr |= 3 << ATTR_DPL_SHIFT;
			cpu_update_mode(c);
			f->mem[CODE + 3] = 0xcd; /* int 0x50, whose gate is missing: #GP */
			f->mem[CODE + 4] = 0x50;
		}
		c->gpr[RAX] = 0xdeadbeef;
		c->gpr[RBX] = a->sel;
		c->cc = a->zf ? 0 : FL_ZF;
		interp_run(c);
		print_message("%u: sel %x -> %llx zf %d\n", n, a->sel, (unsigned long long)c->gpr[RAX],
			      !!(c->cc & FL_ZF));
		assert_int_equal(!!(c->cc & FL_ZF), a->zf);
		assert_int_equal(c->gpr[RAX], a->zf ? a->value : 0xdeadbeef);
		flat_free(f);
	}
}

static void verr_verw_arpl(void **state)
{
	static const struct {
		u16 sel;
		bool read, write;
	} rows[] = {
		{ DATA0, true, true },       { DATA_RO, true, false }, { CODE0, true, false },
		{ CODE_XO, false, false },   { 0, false, false },      { SEL_TSS2, false, false },
		{ DATA0 | 3, false, false },
	};

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = machine_new(PROT, 0);
		struct cpu *c = &f->cpu;

		/* verr ax; setz cl; verw ax; setz ch; arpl ax, dx; setz bl */
		PUT(f, 0x0f, 0x00, 0xe0, 0x0f, 0x94, 0xc1, 0x0f, 0x00, 0xe8, 0x0f, 0x94, 0xc5, 0x63, 0xd0, 0x0f, 0x94,
		    0xc3);
		c->gpr[RAX] = rows[n].sel;
		c->gpr[RDX] = 2;
		assert_int_equal(interp_run(c), EXIT_HLT);
		assert_int_equal(c->gpr[RCX] & 0xff, rows[n].read);
		assert_int_equal(c->gpr[RCX] >> 8 & 0xff, rows[n].write);
		assert_int_equal(c->gpr[RBX] & 0xff, (rows[n].sel & 3) < 2);
		assert_int_equal(c->gpr[RAX], (rows[n].sel & 3) < 2 ? rows[n].sel | 2 : rows[n].sel);
		flat_free(f);
	}
}

/* LLDT and LTR by mode: sel, and the fault or none. */
static void lldt_ltr(void **state)
{
	static const struct {
		enum machine_mode mode;
		bool tr;
		u16 sel;
		u8 vector;
		u16 error;
	} rows[] = {
		{ PROT, false, SEL_LDT, NONE, 0 },
		{ PROT, false, 0, NONE, 0 },
		{ PROT, false, SEL_TSS2, VEC_GP, SEL_TSS2 },
		{ PROT, false, IN_LDT, VEC_GP, IN_LDT },
		{ PROT, true, SEL_TSS2, NONE, 0 },
		{ PROT, true, SEL_TSS3, NONE, 0 },
		{ PROT, true, 0, VEC_GP, 0 },
		{ PROT, true, SEL_TSS1, VEC_GP, SEL_TSS1 }, /* busy */
		{ PROT, true, TSS_NP, VEC_NP, TSS_NP },
		{ PROT, true, SEL_LDT, VEC_GP, SEL_LDT },
		{ LONG, false, SEL_LDT, NONE, 0 },
		{ LONG, true, SEL_TSS3, VEC_GP, SEL_TSS3 },
		{ LONG, true, SEL_TSS1, VEC_GP, SEL_TSS1 },
	};

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = machine_new(rows[n].mode, 0);
		struct cpu *c = &f->cpu;
		unsigned s = rows[n].tr ? SEG_TR : SEG_LDTR;

		PUT(f, 0x0f, 0x00, 0xd0);
		f->mem[CODE + 2] |= rows[n].tr << 3;
		c->idt.limit = 0; /* a fault becomes a shutdown, and its double fault hides it: look at the exception */
		c->gpr[RAX] = rows[n].sel;
		print_message("%u\n", n);
		if (rows[n].vector == NONE) {
			assert_int_equal(interp_run(c), EXIT_HLT);
			assert_int_equal(c->seg[s].sel, rows[n].sel);
			if (rows[n].tr)
				assert_int_equal(f->mem[GDT + rows[n].sel + 5] & 2, 2);
		} else {
			struct insn i;

			assert_true(insn_decode(f->mem + CODE, 15, c->code_mode, &i) > 0);
			assert_int_equal(interp_bind(&i)(c, &i), ST_FAULT);
			assert_int_equal(c->fault.vector, rows[n].vector);
			assert_int_equal(c->fault.error, rows[n].error);
		}
		flat_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loading),     cmocka_unit_test(unreal_mode), cmocka_unit_test(mov_ss_shadows),
		cmocka_unit_test(lss_and_lgs), cmocka_unit_test(lar_lsl),     cmocka_unit_test(verr_verw_arpl),
		cmocka_unit_test(lldt_ltr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
