// SPDX-License-Identifier: MIT
/*
 * Stack, branches, and the instructions that depend on privilege and mode: flags, interrupts by software, BOUND, BCD.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "exec.h"

#define MEM (4ull << 20)
#define STACK 0x20000u
#define NOWHERE 0xfff00000u /* faults by the stack segment's limit */

static int setup(void **state)
{
	struct flat *f = flat_new(MEM);

	flat_prot(f, 0x1000);
	f->cpu.gpr[RSP] = STACK;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	flat_free(*state);
	return 0;
}

static void set_mode(struct flat *f, enum cpu_mode mode, unsigned cpl, unsigned iopl)
{
	struct cpu *c = &f->cpu;

	c->rflags = (c->rflags & ~(FL_VM | FL_IOPL)) | (u64)iopl << 12;
	if (mode == CPU_REAL) {
		c->cr0 &= ~CR0_PE;
		flat_real(f, 0x1000);
	} else if (mode == CPU_VM86) {
		c->rflags |= FL_VM;
		for (unsigned s = SEG_ES; s <= SEG_GS; s++)
			flat_seg(c, s, 0, 0, 0xffff, 0xf3);
		c->gpr[R_RIP] = 0x1000;
		cpu_update_mode(c);
	} else if (mode == CPU_LONG) {
		flat_long(f, 0x1000);
	}
	for (unsigned s = SEG_ES; s <= SEG_GS && mode >= CPU_PROT; s++)
		c->seg[s].attr |= cpl << ATTR_DPL_SHIFT;
	cpu_update_mode(c);
	assert_int_equal(c->mode, mode);
	if (mode != CPU_REAL)
		assert_int_equal(c->cpl, mode == CPU_VM86 ? 3 : cpl);
}

static u32 word32(struct flat *f, u64 at)
{
	u32 v;

	memcpy(&v, f->mem + at, 4);
	return v;
}

static void push_and_pop(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	assert_int_equal(EXEC(f, 0x54), ST_OK); /* push esp: the old one */
	assert_int_equal(word32(f, STACK - 4), STACK);
	assert_int_equal(EXEC(f, 0x6a, 0xff), ST_OK);
	assert_int_equal(word32(f, STACK - 8), 0xffffffff);
	assert_int_equal(EXEC(f, 0x66, 0x6a, 0x80), ST_OK);
	assert_int_equal(c->gpr[RSP], STACK - 10);
	assert_int_equal(EXEC(f, 0x66, 0x58), ST_OK);
	assert_int_equal(c->gpr[RAX], 0xff80);
	/* pop [esp+4]: the address is that after the pop */
	assert_int_equal(EXEC(f, 0x8f, 0x44, 0x24, 0x04), ST_OK);
	assert_int_equal(c->gpr[RSP], STACK - 4);
	assert_int_equal(word32(f, STACK), 0xffffffff);
	assert_int_equal(EXEC(f, 0x5c), ST_OK); /* pop esp */
	assert_int_equal(c->gpr[RSP], STACK);
	assert_int_equal(EXEC(f, 0x0e), ST_OK); /* push cs */
	assert_int_equal(word32(f, STACK - 4), 8);
}

static void faults_change_nothing(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->seg[SEG_SS].limit = NOWHERE - 1;
	c->seg[SEG_DS].limit = NOWHERE - 1;
	cpu_update_mode(c);
	c->gpr[RSP] = NOWHERE + 4;
	assert_fault(f, EXEC(f, 0x50), VEC_SS, 0);
	assert_fault(f, EXEC(f, 0x58), VEC_SS, 0);
	assert_fault(f, EXEC(f, 0x60), VEC_SS, 0);
	assert_fault(f, EXEC(f, 0xc3), VEC_SS, 0);
	assert_fault(f, EXEC(f, 0xe8, 0, 0, 0, 0), VEC_SS, 0);
	assert_int_equal(c->gpr[RSP], NOWHERE + 4);
	/* pop [NOWHERE]: the pop is undone */
	c->gpr[RSP] = STACK;
	assert_fault(f, EXEC(f, 0x8f, 0x05, 0, 0, 0xf0, 0xff), VEC_GP, 0);
	assert_int_equal(c->gpr[RSP], STACK);
	/* ret to beyond the code segment */
	c->seg[SEG_CS].limit = 0xffff;
	f->mem[STACK + 2] = 1;
	assert_fault(f, EXEC(f, 0xc3), VEC_GP, 0);
	assert_int_equal(c->gpr[RSP], STACK);
	assert_fault(f, EXEC(f, 0xe8, 0, 0, 1, 0), VEC_GP, 0);
	assert_int_equal(c->gpr[RSP], STACK);
	/* popa reads all before it writes any */
	memset(f->mem + STACK, 0xff, 64);
	c->seg[SEG_SS].limit = STACK + 30;
	cpu_update_mode(c);
	c->gpr[RDI] = 5;
	assert_fault(f, EXEC(f, 0x61), VEC_SS, 0);
	assert_int_equal(c->gpr[RDI], 5);
}

static void stack_of_16_bits(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->seg[SEG_SS].attr &= ~ATTR_DB;
	cpu_update_mode(c);
	c->gpr[RSP] = 0x70002;
	c->gpr[RAX] = 0x11223344;
	assert_int_equal(EXEC(f, 0x66, 0x50), ST_OK);
	assert_int_equal(c->gpr[RSP], 0x70000);
	assert_int_equal(EXEC(f, 0x50), ST_OK);
	assert_int_equal(c->gpr[RSP], 0x7fffc);
	assert_int_equal(word32(f, 0xfffc), 0x11223344);
	assert_int_equal(EXEC(f, 0x5b), ST_OK);
	assert_int_equal(c->gpr[RSP], 0x70000);
	assert_int_equal(c->gpr[RBX], 0x11223344);
}

static void pusha_and_popa(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	for (unsigned r = RAX; r <= RDI; r++)
		if (r != RSP)
			c->gpr[r] = 0x1000 + r;
	assert_int_equal(EXEC(f, 0x60), ST_OK);
	assert_int_equal(c->gpr[RSP], STACK - 32);
	assert_int_equal(word32(f, STACK - 4), 0x1000 + RAX);
	assert_int_equal(word32(f, STACK - 20), STACK);
	assert_int_equal(word32(f, STACK - 32), 0x1000 + RDI);
	for (unsigned r = RAX; r <= RDI; r++)
		if (r != RSP)
			c->gpr[r] = 0;
	assert_int_equal(EXEC(f, 0x61), ST_OK);
	assert_int_equal(c->gpr[RSP], STACK);
	for (unsigned r = RAX; r <= RDI; r++)
		if (r != RSP)
			assert_int_equal(c->gpr[r], 0x1000 + r);
}

static void enter_and_leave(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->gpr[RBP] = 0x30000;
	*(u32 *)(f->mem + 0x2fffc) = 0xaaaa;
	*(u32 *)(f->mem + 0x2fff8) = 0xbbbb;
	assert_int_equal(EXEC(f, 0xc8, 0x10, 0x00, 0x00), ST_OK);
	assert_int_equal(c->gpr[RBP], STACK - 4);
	assert_int_equal(c->gpr[RSP], STACK - 0x14);
	assert_int_equal(word32(f, STACK - 4), 0x30000);
	assert_int_equal(EXEC(f, 0xc9), ST_OK);
	assert_int_equal(c->gpr[RBP], 0x30000);
	assert_int_equal(c->gpr[RSP], STACK);
	assert_int_equal(EXEC(f, 0xc8, 0x10, 0x00, 0x03), ST_OK);
	assert_int_equal(c->gpr[RBP], STACK - 4);
	assert_int_equal(c->gpr[RSP], STACK - 0x20);
	assert_int_equal(word32(f, STACK - 8), 0xaaaa);
	assert_int_equal(word32(f, STACK - 12), 0xbbbb);
	assert_int_equal(word32(f, STACK - 16), STACK - 4);
}

static void branches(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	assert_int_equal(EXEC(f, 0xeb, 0xfe), ST_END);
	assert_int_equal(c->gpr[R_RIP], 0x1000);
	assert_int_equal(EXEC(f, 0x66, 0xe9, 0xfc, 0xef), ST_END); /* 16 bits: RIP is truncated */
	assert_int_equal(c->gpr[R_RIP], 0);
	c->gpr[R_RIP] = 0x1000;
	c->gpr[RCX] = 1;
	assert_int_equal(EXEC(f, 0xe2, 0x10), ST_END);
	assert_int_equal(c->gpr[R_RIP], 0x1002);
	assert_int_equal(c->gpr[RCX], 0);
	assert_int_equal(EXEC(f, 0x67, 0xe2, 0x10), ST_END); /* loop, by CX */
	assert_int_equal(c->gpr[RCX], 0xffff);
	assert_int_equal(c->gpr[R_RIP], 0x1015);
	c->gpr[RCX] = 0x10000;
	assert_int_equal(EXEC(f, 0x67, 0xe3, 0x10), ST_END); /* jcxz */
	assert_int_equal(c->gpr[R_RIP], 0x1028);
	assert_int_equal(EXEC(f, 0xe3, 0x10), ST_END); /* jecxz */
	assert_int_equal(c->gpr[R_RIP], 0x102a);
	assert_int_equal(EXEC(f, 0xe8, 0, 1, 0, 0), ST_END);
	assert_int_equal(word32(f, STACK - 4), 0x102f);
	assert_int_equal(EXEC(f, 0xc2, 8, 0), ST_END);
	assert_int_equal(c->gpr[R_RIP], 0x102f);
	assert_int_equal(c->gpr[RSP], STACK + 8);
	set_mode(f, CPU_LONG, 0, 0);
	c->gpr[RAX] = 0x800000000000;
	assert_fault(f, EXEC(f, 0xff, 0xe0), VEC_GP, 0);
	c->gpr[RAX] = 0x700000000000;
	assert_int_equal(EXEC(f, 0xff, 0xe0), ST_END);
	assert_int_equal(c->gpr[R_RIP], 0x700000000000);
}

/* ---- flags and privilege ---- */
static int popf(struct flat *f, u32 v)
{
	bool wide = f->cpu.mode != CPU_REAL && f->cpu.mode != CPU_VM86;

	f->cpu.gpr[RSP] = 0x8000;
	memcpy(f->mem + 0x8000, &v, 4);
	memset(f->mem + 0x8004, 0, 4);
	return wide ? EXEC(f, 0x9d) : EXEC(f, 0x66, 0x9d);
}

static void popf_by_privilege(void **state)
{
	static const u32 all = 0x7fd7 | FL_AC | FL_ID | FL_VM | FL_RF | FL_VIF | FL_VIP;
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->rflags = 0;
	assert_int_equal(popf(f, all), ST_END);
	assert_int_equal(cpu_rflags(c), 0x7fd7 | FL_AC | FL_ID);
	assert_int_equal(popf(f, 0), ST_END);
	assert_int_equal(cpu_rflags(c), 2);

	set_mode(f, CPU_PROT, 3, 0);
	assert_int_equal(popf(f, all & ~FL_TF), ST_END);
	assert_int_equal(cpu_rflags(c), (0x4cd7 | FL_AC | FL_ID));
	c->rflags = FL_IF | FL_IOPL;
	assert_int_equal(popf(f, 0), ST_END);
	assert_int_equal(cpu_rflags(c), 2 | FL_IOPL);
	c->rflags = FL_IF | 2ull << 12;
	assert_int_equal(popf(f, 0), ST_END);
	assert_int_equal(cpu_rflags(c), 2 | FL_IF | 2ull << 12);

	set_mode(f, CPU_VM86, 3, 3);
	assert_int_equal(popf(f, 0), ST_END);
	assert_int_equal(cpu_rflags(c), 2 | FL_VM | FL_IOPL);
	set_mode(f, CPU_VM86, 3, 2);
	assert_fault(f, popf(f, 0), VEC_GP, 0);
	assert_fault(f, EXEC(f, 0x9c), VEC_GP, 0);
	assert_fault(f, EXEC(f, 0xfa), VEC_GP, 0);
	assert_fault(f, EXEC(f, 0xfb), VEC_GP, 0);
}

static void virtual_interrupt_flag(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->cr4 |= CR4_VME | CR4_PVI;
	set_mode(f, CPU_VM86, 3, 0);
	c->gpr[RSP] = 0x8000;
	c->rflags |= FL_IF;
	assert_int_equal(EXEC(f, 0xfb), ST_END);
	assert_true(c->rflags & FL_VIF);
	assert_int_equal(EXEC(f, 0x9c), ST_OK);
	assert_int_equal(word32(f, 0x7ffe) & 0xffff, FL_IOPL | FL_IF | 2);
	assert_int_equal(EXEC(f, 0xfa), ST_OK);
	assert_false(c->rflags & FL_VIF);
	assert_true(c->rflags & FL_IF);
	assert_int_equal(EXEC(f, 0x9d), ST_END);
	assert_true(c->rflags & FL_VIF);
	assert_int_equal(cpu_iopl(c), 0);
	c->rflags |= FL_VIP;
	assert_fault(f, EXEC(f, 0xfb), VEC_GP, 0);
	c->gpr[RSP] = 0x7ffe;
	assert_fault(f, EXEC(f, 0x9d), VEC_GP, 0);
	c->rflags &= ~(FL_VIP | FL_VIF);

	set_mode(f, CPU_PROT, 3, 0);
	flat_prot(f, 0x1000);
	set_mode(f, CPU_PROT, 3, 0);
	assert_int_equal(EXEC(f, 0xfb), ST_END);
	assert_true(c->rflags & FL_VIF);
	assert_int_equal(EXEC(f, 0xfa), ST_OK);
	assert_false(c->rflags & FL_VIF);
	c->cr4 = 0;
	assert_fault(f, EXEC(f, 0xfa), VEC_GP, 0);
}

static void sti_shadow(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->rflags = 0;
	assert_int_equal(EXEC(f, 0xfb), ST_END);
	assert_int_equal(c->ev.shadow, SHADOW_STI);
	assert_true(c->rflags & FL_IF);
	c->ev.shadow = 0;
	assert_int_equal(EXEC(f, 0xfb), ST_END);
	assert_int_equal(c->ev.shadow, 0);
}

static void int_redirected(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	flat_seg(c, SEG_TR, 0x28, 0x3000, 0x68 + 32 + 1, 0x8b);
	*(u16 *)(f->mem + 0x3000 + 102) = 0x68 + 32;
	memset(f->mem + 0x3068, 0, 32);
	f->mem[0x3068 + 0x21 / 8] = 1 << (0x21 & 7);
	*(u32 *)(f->mem + 0x20 * 4) = 0x12340056;
	c->cr4 |= CR4_VME;
	set_mode(f, CPU_VM86, 3, 0);
	c->gpr[RSP] = 0x8000;
	c->rflags |= FL_VIF | FL_IF;
	assert_int_equal(EXEC(f, 0xcd, 0x20), ST_END);
	assert_int_equal(c->gpr[R_RIP], 0x56);
	assert_int_equal(c->seg[SEG_CS].base, 0x12340);
	assert_int_equal(c->gpr[RSP], 0x7ffa);
	assert_int_equal(word32(f, 0x7ffa), 0x1002);
	assert_int_equal(word32(f, 0x7ffe) & 0xffff, FL_IOPL | FL_IF | 2);
	assert_false(c->rflags & FL_VIF);
	assert_true(c->rflags & FL_IF);
	assert_fault(f, EXEC(f, 0xcd, 0x21), VEC_GP, 0);
	c->cr4 = 0;
	assert_fault(f, EXEC(f, 0xcd, 0x20), VEC_GP, 0);
}

static void bound_and_bcd(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	*(u32 *)(f->mem + 0x30000) = (u32)-5;
	*(u32 *)(f->mem + 0x30004) = 7;
	c->gpr[RBX] = 0x30000;
	c->gpr[RAX] = (u32)-5;
	assert_int_equal(EXEC(f, 0x62, 0x03), ST_OK);
	c->gpr[RAX] = 8;
	assert_fault(f, EXEC(f, 0x62, 0x03), VEC_BR, 0);
	c->gpr[RAX] = 99;
	assert_int_equal(EXEC(f, 0xd4, 10), ST_OK);
	assert_int_equal(c->gpr[RAX], 0x909);
	assert_int_equal(EXEC(f, 0xd5, 10), ST_OK);
	assert_int_equal(c->gpr[RAX], 99);
	assert_fault(f, EXEC(f, 0xd4, 0), VEC_DE, 0);
	for (unsigned a = 0; a < 100; a++)
		for (unsigned b = 0; b < 100; b++) {
			unsigned sum = a + b, difference = (a + 100 - b) % 100;

			c->gpr[RAX] = a / 10 << 4 | a % 10;
			c->gpr[RBX] = b / 10 << 4 | b % 10;
			assert_int_equal(EXEC(f, 0x00, 0xd8), ST_OK);
			assert_int_equal(EXEC(f, 0x27), ST_OK);
			assert_int_equal(c->gpr[RAX], sum / 10 % 10 << 4 | sum % 10);
			assert_int_equal(!!(c->cc & FL_CF), sum >= 100);
			c->gpr[RAX] = a / 10 << 4 | a % 10;
			assert_int_equal(EXEC(f, 0x28, 0xd8), ST_OK);
			assert_int_equal(EXEC(f, 0x2f), ST_OK);
			assert_int_equal(c->gpr[RAX], difference / 10 << 4 | difference % 10);
			assert_int_equal(!!(c->cc & FL_CF), a < b);
			if (a > 9 || b > 9)
				continue;
			c->gpr[RAX] = a;
			assert_int_equal(EXEC(f, 0x00, 0xd8), ST_OK);
			assert_int_equal(EXEC(f, 0x37), ST_OK);
			assert_int_equal(c->gpr[RAX], sum / 10 << 8 | sum % 10);
			c->gpr[RAX] = 0x500 + a;
			assert_int_equal(EXEC(f, 0x28, 0xd8), ST_OK);
			assert_int_equal(EXEC(f, 0x3f), ST_OK);
			assert_int_equal(c->gpr[RAX], (a < b ? 0x400 : 0x500) + difference % 10);
		}
}

/* Everything that must be atomic works on memory itself, also across pages; devices get one write. */
static void read_modify_write(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->gpr[RBX] = 0x30ffe;
	f->mem[0x30ffe] = 41;
	assert_int_equal(EXEC(f, 0xf0, 0xff, 0x03), ST_OK);
	assert_int_equal(word32(f, 0x30ffe), 42);
	c->gpr[RBX] = 0x10000000;
	c->cc = 0;
	assert_int_equal(EXEC(f, 0x83, 0x03, 0xff), ST_EXIT);
	assert_false(c->exit.mmio.write);
	c->io.acc[0].data = 1;
	c->io.acc[0].answered = true;
	assert_int_equal(EXEC(f, 0x83, 0x03, 0xff), ST_EXIT);
	assert_true(c->exit.mmio.write);
	assert_int_equal(c->exit.mmio.data[0], 0);
	assert_int_equal(c->cc, 0);
	c->io.acc[1].answered = true;
	assert_int_equal(EXEC(f, 0x83, 0x03, 0xff), ST_OK);
	assert_int_equal(c->cc & FL_STATUS, FL_ZF | FL_PF | FL_CF | FL_AF);
	/* A failing CMPXCHG writes, too. */
	c->gpr[RAX] = 7;
	assert_int_equal(EXEC(f, 0xf0, 0x0f, 0xb1, 0x0b), ST_EXIT);
	c->io.acc[0].data = 9;
	c->io.acc[0].answered = true;
	assert_int_equal(EXEC(f, 0xf0, 0x0f, 0xb1, 0x0b), ST_EXIT);
	assert_true(c->exit.mmio.write);
	assert_int_equal(c->exit.mmio.data[0], 9);
	assert_int_equal(c->gpr[RAX], 7);
	c->io.acc[1].answered = true;
	assert_int_equal(EXEC(f, 0xf0, 0x0f, 0xb1, 0x0b), ST_OK);
	assert_int_equal(c->gpr[RAX], 9);
	/* CMPXCHG16B has to be aligned. */
	set_mode(f, CPU_LONG, 0, 0);
	c->gpr[RBX] = 0x30008;
	assert_fault(f, EXEC(f, 0x48, 0x0f, 0xc7, 0x0b), VEC_GP, 0);
	c->gpr[RBX] = 0x30010;
	c->gpr[RCX] = 0x33;
	memset(f->mem + 0x30010, 0, 16);
	c->gpr[RAX] = c->gpr[RDX] = 0;
	assert_int_equal(EXEC(f, 0xf0, 0x48, 0x0f, 0xc7, 0x0b), ST_OK);
	assert_int_equal(*(u64 *)(f->mem + 0x30010), 0x30010);
	assert_int_equal(*(u64 *)(f->mem + 0x30018), 0x33);
	assert_true(c->cc & FL_ZF);
	assert_int_equal(EXEC(f, 0x48, 0x0f, 0xc7, 0x0b), ST_OK);
	assert_int_equal(c->gpr[RDX], 0x33);
	assert_false(c->cc & FL_ZF);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(push_and_pop),      TEST(faults_change_nothing),  TEST(stack_of_16_bits),
		TEST(pusha_and_popa),    TEST(enter_and_leave),        TEST(branches),
		TEST(popf_by_privilege), TEST(virtual_interrupt_flag), TEST(sti_shadow),
		TEST(int_redirected),    TEST(bound_and_bcd),          TEST(read_modify_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
