// SPDX-License-Identifier: MIT
/* Hardware task switches: what is saved and loaded, and whose the faults are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/debug.h"
#include "insn/insn.h"
#include "machine.h"

#define TARGET 0x7000u

/* The words of a 32-bit TSS */
enum { W_CR3 = 7, W_EIP, W_EFLAGS, W_EAX, W_ESP = 14, W_ES = 18, W_CS, W_SS, W_DS, W_FS, W_GS, W_LDT, W_TRAP };

static u32 *tss(struct flat *f, u64 at)
{
	return (u32 *)(f->mem + at);
}

static u8 tss_type(const struct flat *f, u16 sel)
{
	return f->mem[GDT + sel + 5] & 0xf;
}

/* A task in ring 3 at TSS2, one in ring 0 of 16 bits at TSS3. */
static struct flat *tasks_new(void)
{
	struct flat *f = machine_new(PROT, 0);
	u32 *t = tss(f, TSS2);
	u16 *s = (u16 *)(f->mem + TSS3);

	t[W_EIP] = TARGET;
	t[W_EFLAGS] = FL_1 | FL_CF | FL_IF;
	for (unsigned n = 0; n < 8; n++)
		t[W_EAX + n] = 0x1000 + n;
	t[W_ESP] = STACK3;
	t[W_CS] = CODE3 | 3;
	for (unsigned n = W_ES; n <= W_GS; n++)
		if (n != W_CS)
			t[n] = DATA3 | 3;
	t[W_FS] = 0;
	t[W_LDT] = SEL_LDT;

	s[7] = TARGET;
	s[8] = FL_1;
	for (unsigned n = 0; n < 8; n++)
		s[9 + n] = 0x2000 + n;
	s[13] = STACK1;
	s[17] = s[19] = s[20] = DATA0;
	s[18] = CODE0;
	return f;
}

static void check_new_task(struct flat *f)
{
	struct cpu *c = &f->cpu;

	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->gpr[R_RIP], TARGET);
	assert_int_equal(c->gpr[RAX], 0x1000);
	assert_int_equal(c->gpr[RDI], 0x1007);
	assert_int_equal(c->seg[SEG_CS].sel, CODE3 | 3);
	assert_int_equal(c->seg[SEG_ES].sel, DATA3 | 3);
	assert_int_equal(c->seg[SEG_ES].limit, 0xffffffff);
	assert_int_equal(c->seg[SEG_FS].sel, 0);
	assert_int_equal(c->seg[SEG_LDTR].limit, 0xf);
	assert_int_equal(c->seg[SEG_TR].sel, SEL_TSS2);
	assert_true(c->cr0 & CR0_TS);
	assert_true(cpu_rflags(c) & FL_CF);
}

static void jump(void **state)
{
	struct flat *f = tasks_new();
	struct cpu *c = &f->cpu;

	(void)state;
	c->gpr[RBX] = 0x77;
	assert_int_equal(far_jump(c, SEL_TSS2, 0, SZ_32), ST_END);
	check_new_task(f);
	assert_int_equal(c->gpr[RSP], STACK3);
	assert_false(c->rflags & FL_NT);
	assert_int_equal(tss_type(f, SEL_TSS1), 9);
	assert_int_equal(tss_type(f, SEL_TSS2), 11);
	assert_int_equal(tss(f, TSS1)[W_EIP], CODE);
	assert_int_equal(tss(f, TSS1)[W_EAX + 3], 0x77);
	assert_int_equal(tss(f, TSS1)[W_CS], CODE0);
	assert_int_equal(tss(f, TSS1)[W_EFLAGS], FL_1 | FL_IF);
	flat_free(f);
}

static void call_and_iret(void **state)
{
	struct flat *f = tasks_new();
	struct cpu *c = &f->cpu;

	(void)state;
	assert_int_equal(far_call(c, GATE_TASK, 0, SZ_32), ST_END);
	check_new_task(f);
	assert_true(c->rflags & FL_NT);
	assert_int_equal(tss_type(f, SEL_TSS1), 11);
	assert_int_equal(tss_type(f, SEL_TSS2), 11);
	assert_int_equal(tss(f, TSS2)[0] & 0xffff, SEL_TSS1);
	c->gpr[RAX] = 0x4711;
	c->gpr[R_RIP] += 5;
	assert_int_equal(far_iret(c, SZ_32), ST_END);
	assert_int_equal(c->cpl, 0);
	assert_int_equal(c->gpr[R_RIP], CODE);
	assert_int_equal(c->seg[SEG_TR].sel, SEL_TSS1);
	assert_int_equal(tss_type(f, SEL_TSS1), 11);
	assert_int_equal(tss_type(f, SEL_TSS2), 9);
	assert_int_equal(tss(f, TSS2)[W_EIP], TARGET + 5);
	assert_int_equal(tss(f, TSS2)[W_EAX], 0x4711);
	assert_false(tss(f, TSS2)[W_EFLAGS] & FL_NT);
	assert_false(c->rflags & FL_NT);
	flat_free(f);
}

static void sixteen_bits(void **state)
{
	struct flat *f = tasks_new();
	struct cpu *c = &f->cpu;

	(void)state;
	assert_int_equal(far_jump(c, SEL_TSS3, 0, SZ_32), ST_END);
	assert_int_equal(c->gpr[R_RIP], TARGET);
	assert_int_equal(c->gpr[RAX] & 0xffff, 0x2000);
	assert_int_equal(c->gpr[RSP] & 0xffff, STACK1);
	assert_int_equal(c->seg[SEG_SS].sel, DATA0);
	assert_int_equal(c->seg[SEG_GS].sel, 0);
	/* and out of it again */
	assert_int_equal(far_jump(c, SEL_TSS2, 0, SZ_32), ST_END);
	check_new_task(f);
	assert_int_equal(((u16 *)(f->mem + TSS3))[7], TARGET);
	flat_free(f);
}

static void to_vm86(void **state)
{
	struct flat *f = tasks_new();
	struct cpu *c = &f->cpu;

	(void)state;
	tss(f, TSS2)[W_EFLAGS] |= FL_VM;
	tss(f, TSS2)[W_CS] = 0x123;
	assert_int_equal(far_jump(c, SEL_TSS2, 0, SZ_32), ST_END);
	assert_int_equal(c->mode, CPU_VM86);
	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->seg[SEG_CS].base, 0x1230);
	assert_int_equal(c->seg[SEG_DS].limit, 0xffff);
	flat_free(f);
}

/* A double fault through a task gate, as kernels do it. */
static void event_with_error_code(void **state)
{
	struct flat *f = tasks_new();
	struct cpu *c = &f->cpu;

	(void)state;
	idt_gate(f, VEC_DF, SEL_TSS2, 5, 0, 0);
	c->fault = (struct fault){ .vector = VEC_DF, .has_error = true };
	assert_int_equal(event_fault(c), ST_OK);
	tss(f, TSS2)[W_ESP] = STACK3;
	f->mem[STACK3 - 4] = 0xff;
	assert_int_equal(event_poll(c), ST_OK);
	check_new_task(f);
	assert_int_equal(c->gpr[RSP], STACK3 - 4);
	assert_int_equal(*(u32 *)(f->mem + STACK3 - 4), 0);
	assert_true(c->rflags & FL_NT);
	assert_false(c->ev.exc.pending || c->ev.exc.injected);
	flat_free(f);
}

/* ---- faults ---- */

static void refused(void **state)
{
	static const struct {
		u16 sel;
		u8 vector;
		u16 error;
	} rows[] = {
		{ SEL_TSS1, VEC_GP, SEL_TSS1 }, /* busy */
		{ TSS_NP, VEC_NP, TSS_NP },
		{ TSS_SHORT, VEC_TS, TSS_SHORT },
		{ SEL_TSS2 | 3, VEC_GP, SEL_TSS2 }, /* RPL > DPL */
	};

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = tasks_new();
		struct cpu before, *c = &f->cpu;

		before = *c;
		assert_int_equal(far_jump(c, rows[n].sel, 0, SZ_32), ST_FAULT);
		assert_int_equal(c->fault.vector, rows[n].vector);
		assert_int_equal(c->fault.error, rows[n].error);
		assert_memory_equal(c->gpr, before.gpr, sizeof(before.gpr));
		assert_memory_equal(c->seg, before.seg, sizeof(before.seg));
		flat_free(f);
	}
}

/* IRET to a link that is no busy TSS. */
static void bad_link(void **state)
{
	static const u16 links[] = { SEL_TSS2, DATA0, IN_LDT, 0, GDT_END };

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(links); n++) {
		struct flat *f = tasks_new();
		struct cpu *c = &f->cpu;

		tss(f, TSS1)[0] = links[n];
		c->rflags |= FL_NT;
		assert_int_equal(far_iret(c, SZ_32), ST_FAULT);
		assert_int_equal(c->fault.vector, VEC_TS);
		assert_int_equal(c->fault.error, links[n]);
		assert_int_equal(c->gpr[R_RIP], CODE);
		flat_free(f);
	}
}

/* After the commit point: the new task gets the exception (SDM vol. 3, table 7-1). */
static void in_new_task(void **state)
{
	static const struct {
		u8 word;
		u32 value;
		u8 vector;
		u16 error;
	} rows[] = {
		{ W_LDT, DATA0, VEC_TS, DATA0 },
		{ W_LDT, IN_LDT, VEC_TS, IN_LDT },
		{ W_CS, 0, VEC_TS, 0 },
		{ W_CS, DATA3 | 3, VEC_TS, DATA3 },
		{ W_CS, CODE0 | 3, VEC_TS, CODE0 },
		{ W_CS, CODE_NP, VEC_NP, CODE_NP },
		{ W_SS, 0, VEC_TS, 0 },
		{ W_SS, DATA0, VEC_TS, DATA0 },
		{ W_SS, CODE3 | 3, VEC_TS, CODE3 },
		{ W_DS, DATA0, VEC_TS, DATA0 },
		{ W_ES, CODE_XO, VEC_TS, CODE_XO },
		{ W_GS, GDT_END, VEC_TS, GDT_END },
		{ W_TRAP, 1, VEC_DB, 0 },
	};

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = tasks_new();
		struct cpu *c = &f->cpu;

		print_message("word %u = %x\n", rows[n].word, rows[n].value);
		tss(f, TSS2)[rows[n].word] = rows[n].value;
		assert_int_equal(far_jump(c, SEL_TSS2, 0, SZ_32), ST_END);
		assert_true(c->ev.exc.pending);
		assert_int_equal(c->ev.exc.vector, rows[n].vector);
		assert_int_equal(c->ev.exc.error, rows[n].error);
		assert_int_equal(c->gpr[R_RIP], TARGET);
		assert_int_equal(c->gpr[RAX], 0x1000);
		assert_int_equal(c->seg[SEG_TR].sel, SEL_TSS2);
		assert_int_equal(tss_type(f, SEL_TSS1), 9);
		if (rows[n].vector == VEC_DB)
			assert_int_equal(c->ev.exc.payload, DR6_BT);
		flat_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jump),     cmocka_unit_test(call_and_iret),         cmocka_unit_test(sixteen_bits),
		cmocka_unit_test(to_vm86),  cmocka_unit_test(event_with_error_code), cmocka_unit_test(refused),
		cmocka_unit_test(bad_link), cmocka_unit_test(in_new_task),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
