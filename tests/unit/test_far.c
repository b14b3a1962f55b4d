// SPDX-License-Identifier: MIT
/* Far jumps, calls, returns and IRET: where they arrive, and which are refused with what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/cr.h"
#include "insn/insn.h"
#include "interp/frame.h"
#include "machine.h"

#define TARGET 0x7000u
#define NONE 0xff

enum kind { JMP, CALL };

struct transfer {
	enum machine_mode mode;
	u8 cpl;
	enum kind kind;
	u16 sel;
	u8 size;
	/* expected: a fault, or where it goes */
	u8 vector;
	u16 error;
	u16 cs;
	u8 new_cpl;
	u32 rip;
	u8 pushed; /* bytes */
};

static const struct transfer transfers[] = {
	/* direct */
	{ PROT, 0, JMP, CODE0, SZ_32, NONE, 0, CODE0, 0, TARGET, 0 },
	{ PROT, 0, JMP, CODE0_16, SZ_16, NONE, 0, CODE0_16, 0, TARGET, 0 },
	{ PROT, 0, CALL, CODE0, SZ_32, NONE, 0, CODE0, 0, TARGET, 8 },
	{ PROT, 0, CALL, CODE0, SZ_16, NONE, 0, CODE0, 0, TARGET, 4 },
	{ PROT, 3, CALL, CODE3, SZ_32, NONE, 0, CODE3 | 3, 3, TARGET, 8 },
	{ PROT, 3, JMP, CONFORM0, SZ_32, NONE, 0, CONFORM0 | 3, 3, TARGET, 0 },
	{ PROT, 0, JMP, 0, SZ_32, VEC_GP, 0, 0, 0, 0, 0 },
	{ PROT, 0, JMP, GDT_END, SZ_32, VEC_GP, GDT_END, 0, 0, 0, 0 },
	{ PROT, 0, JMP, DATA0, SZ_32, VEC_GP, DATA0, 0, 0, 0, 0 },
	{ PROT, 0, JMP, CODE3, SZ_32, VEC_GP, CODE3, 0, 0, 0, 0 },
	{ PROT, 3, JMP, CODE0, SZ_32, VEC_GP, CODE0, 0, 0, 0, 0 },
	{ PROT, 0, JMP, CODE0 | 3, SZ_32, VEC_GP, CODE0, 0, 0, 0, 0 },
	{ PROT, 0, CALL, CODE_NP, SZ_32, VEC_NP, CODE_NP, 0, 0, 0, 0 },
	{ PROT, 0, CALL, SEL_LDT, SZ_32, VEC_GP, SEL_LDT, 0, 0, 0, 0 },
	/* gates */
	{ PROT, 0, JMP, GATE_CALL, SZ_32, NONE, 0, CODE0, 0, HANDLER, 0 },
	{ PROT, 0, CALL, GATE_CALL, SZ_32, NONE, 0, CODE0, 0, HANDLER, 8 },
	{ PROT, 0, CALL, GATE_CALL16, SZ_32, NONE, 0, CODE0, 0, HANDLER, 4 },
	{ PROT, 3, CALL, GATE_CALL | 3, SZ_32, NONE, 0, CODE0, 0, HANDLER, 24 },
	{ PROT, 1, CALL, GATE_CALL, SZ_32, NONE, 0, CODE0, 0, HANDLER, 24 },
	{ PROT, 3, CALL, GATE_CALL16, SZ_32, NONE, 0, CODE0, 0, HANDLER, 10 },
	{ PROT, 3, CALL, GATE_CALL1, SZ_32, NONE, 0, CODE1 | 1, 1, HANDLER, 16 },
	{ PROT, 0, CALL, GATE_CALL1, SZ_32, VEC_GP, CODE1, 0, 0, 0, 0 },
	{ PROT, 3, JMP, GATE_CALL, SZ_32, VEC_GP, CODE0, 0, 0, 0, 0 },
	{ PROT, 3, CALL, GATE_NP, SZ_32, VEC_NP, GATE_NP, 0, 0, 0, 0 },
	/* long mode */
	{ LONG, 0, JMP, CODE0_64, SZ_32, NONE, 0, CODE0_64, 0, TARGET, 0 },
	{ LONG, 0, CALL, CODE0_64, SZ_64, NONE, 0, CODE0_64, 0, TARGET, 16 },
	{ LONG, 0, CALL, CODE0, SZ_32, NONE, 0, CODE0, 0, TARGET, 8 },
	{ COMPAT, 0, JMP, CODE0_64, SZ_32, NONE, 0, CODE0_64, 0, TARGET, 0 },
	{ COMPAT, 3, CALL, CODE3_64, SZ_32, NONE, 0, CODE3_64 | 3, 3, TARGET, 8 },
	{ LONG, 0, JMP, CODE_LD, SZ_32, VEC_GP, CODE_LD, 0, 0, 0, 0 },
	{ LONG, 0, JMP, SEL_TSS2, SZ_32, VEC_GP, SEL_TSS2, 0, 0, 0, 0 },
	{ LONG, 0, JMP, GATE_TASK, SZ_32, VEC_GP, GATE_TASK, 0, 0, 0, 0 },
	{ LONG, 3, CALL, GATE_CALL, SZ_32, NONE, 0, CODE0_64, 0, HANDLER, 32 },
	{ LONG, 0, CALL, GATE_CALL, SZ_64, NONE, 0, CODE0_64, 0, HANDLER, 16 },
	{ COMPAT, 3, CALL, GATE_CALL, SZ_32, NONE, 0, CODE0_64, 0, HANDLER, 32 },
	{ LONG, 0, JMP, GATE_CALL, SZ_32, NONE, 0, CODE0_64, 0, HANDLER, 0 },
	/* real and virtual-8086 mode */
	{ REAL, 0, JMP, 0x123, SZ_16, NONE, 0, 0x123, 0, TARGET, 0 },
	{ REAL, 0, CALL, 0x123, SZ_16, NONE, 0, 0x123, 0, TARGET, 4 },
	{ VM86, 3, CALL, 0x123, SZ_32, NONE, 0, 0x123, 3, TARGET, 8 },
};

static u64 peek(const struct flat *f, u64 at, unsigned bytes)
{
	u64 v = 0;

	memcpy(&v, f->mem + at, bytes);
	return v;
}

static void transferring(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(transfers); n++) {
		const struct transfer *t = &transfers[n];
		struct flat *f = machine_new(t->mode, t->cpl);
		struct cpu before, *c = &f->cpu;
		u64 top;
		int st;

		before = *c;
		st = t->kind == JMP ? far_jump(c, t->sel, TARGET, t->size) : far_call(c, t->sel, TARGET, t->size);
		print_message("%u: mode %d cpl %u sel %x: %d %u(%x) %x:%x\n", n, t->mode, t->cpl, t->sel, st,
			      c->fault.vector, c->fault.error, c->seg[SEG_CS].sel, (unsigned)c->gpr[R_RIP]);
		if (t->vector != NONE) {
			assert_int_equal(st, ST_FAULT);
			assert_int_equal(c->fault.vector, t->vector);
			assert_int_equal(c->fault.error, t->error);
			assert_memory_equal(c->gpr, before.gpr, sizeof(before.gpr));
			assert_memory_equal(c->seg, before.seg, sizeof(before.seg));
			flat_free(f);
			continue;
		}
		assert_int_equal(st, ST_END);
		assert_int_equal(c->seg[SEG_CS].sel, t->cs);
		assert_int_equal(c->gpr[R_RIP], t->rip);
		assert_int_equal(c->cpl, t->new_cpl);
		top = t->new_cpl == before.cpl ? before.gpr[RSP] : t->new_cpl ? STACK1 : STACK0;
		assert_int_equal(c->gpr[RSP], top - t->pushed);
		if (t->kind == CALL && t->new_cpl == before.cpl)
			assert_int_equal(peek(f, c->gpr[RSP] + t->pushed / 2, 2), before.seg[SEG_CS].sel);
		flat_free(f);
	}
}

/* Through a gate with two parameters, and back over them. */
static void parameters(void **state)
{
	struct flat *f = machine_new(PROT, 3);
	struct cpu *c = &f->cpu;
	u32 *s;

	(void)state;
	*(u32 *)(f->mem + STACK3 - 8) = 111;
	*(u32 *)(f->mem + STACK3 - 4) = 222;
	c->gpr[RSP] = STACK3 - 8;
	assert_int_equal(seg_load(c, SEG_GS, CONFORM0), ST_OK);
	assert_int_equal(far_call(c, GATE_CALL, 0, SZ_32), ST_END);
	s = (u32 *)(f->mem + c->gpr[RSP]);
	assert_int_equal(s[0], CODE);
	assert_int_equal(s[1], CODE3 | 3);
	assert_int_equal(s[2], 111);
	assert_int_equal(s[3], 222);
	assert_int_equal(s[4], STACK3 - 8);
	assert_int_equal(s[5], DATA3 | 3);
	assert_int_equal(seg_load(c, SEG_ES, DATA0), ST_OK);
	assert_int_equal(far_ret(c, SZ_32, 8), ST_END);
	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->gpr[R_RIP], CODE);
	assert_int_equal(c->gpr[RSP], STACK3);
	assert_int_equal(c->seg[SEG_ES].sel, 0); /* out of reach */
	assert_int_equal(c->seg[SEG_DS].sel, DATA3 | 3);
	assert_int_equal(c->seg[SEG_GS].sel, CONFORM0);
	flat_free(f);
}

/* ---- returns ---- */

struct comeback {
	enum machine_mode mode;
	u8 cpl;
	bool iret;
	u8 size;
	u16 cs, ss;
	u64 flags;
	u64 rip;
	/* expected */
	u8 vector;
	u16 error;
	u8 new_cpl, new_mode;
	u8 popped; /* bytes, or 0: RSP comes from the stack */
};

#define F FL_1
static const struct comeback comebacks[] = {
	{ PROT, 0, false, SZ_32, CODE0, 0, F, TARGET, NONE, 0, 0, CPU_PROT, 8 },
	{ PROT, 0, false, SZ_32, CODE3 | 3, DATA3 | 3, F, TARGET, NONE, 0, 3, CPU_PROT, 0 },
	{ PROT, 0, false, SZ_32, CODE1 | 1, DATA1 | 1, F, TARGET, NONE, 0, 1, CPU_PROT, 0 },
	{ PROT, 0, false, SZ_32, CONFORM0 | 3, DATA3 | 3, F, TARGET, NONE, 0, 3, CPU_PROT, 0 },
	{ PROT, 0, false, SZ_32, 0, 0, F, TARGET, VEC_GP, 0, 0, 0, 0 },
	{ PROT, 3, false, SZ_32, CODE0, DATA0, F, TARGET, VEC_GP, CODE0, 0, 0, 0 },
	{ PROT, 0, false, SZ_32, CODE3 | 1, 0, F, TARGET, VEC_GP, CODE3, 0, 0, 0 },
	{ PROT, 0, false, SZ_32, DATA0, 0, F, TARGET, VEC_GP, DATA0, 0, 0, 0 },
	{ PROT, 0, false, SZ_32, CODE_NP, 0, F, TARGET, VEC_NP, CODE_NP, 0, 0, 0 },
	{ PROT, 0, false, SZ_32, CODE3 | 3, 0, F, TARGET, VEC_GP, 0, 0, 0, 0 },
	{ PROT, 0, false, SZ_32, CODE3 | 3, DATA0, F, TARGET, VEC_GP, DATA0, 0, 0, 0 },
	{ PROT, 0, true, SZ_32, CODE0, 0, F | FL_IF | FL_IOPL | FL_ID, TARGET, NONE, 0, 0, CPU_PROT, 12 },
	{ PROT, 0, true, SZ_32, CODE3 | 3, DATA3 | 3, F | FL_IF, TARGET, NONE, 0, 3, CPU_PROT, 0 },
	{ PROT, 3, true, SZ_32, CODE3 | 3, 0, F | FL_IOPL | FL_IF | FL_CF, TARGET, NONE, 0, 3, CPU_PROT, 12 },
	{ PROT, 0, true, SZ_16, CODE0, 0, F | FL_IF, TARGET, NONE, 0, 0, CPU_PROT, 6 },
	{ PROT, 3, true, SZ_32, CODE1 | 1, 0, F, TARGET, VEC_GP, CODE1, 0, 0, 0 },
	{ LONG, 0, true, SZ_64, CODE0_64, DATA0, F | FL_IF, TARGET, NONE, 0, 0, CPU_LONG, 0 },
	{ LONG, 0, true, SZ_64, CODE0_64, 0, F | FL_IF, TARGET, NONE, 0, 0, CPU_LONG, 0 },
	{ LONG, 0, true, SZ_64, CODE3_64 | 3, DATA3 | 3, F | FL_IF, TARGET, NONE, 0, 3, CPU_LONG, 0 },
	{ LONG, 0, true, SZ_64, CODE3 | 3, DATA3 | 3, F | FL_IF, TARGET, NONE, 0, 3, CPU_COMPAT, 0 },
	{ LONG, 0, true, SZ_32, CODE3_64 | 3, DATA3 | 3, F | FL_IF, TARGET, NONE, 0, 3, CPU_LONG, 0 },
	{ LONG, 0, true, SZ_64, CODE3_64 | 3, 3, F, TARGET, VEC_GP, 0, 0, 0, 0 },
	{ LONG, 0, true, SZ_64, CODE0, 0, F, TARGET, VEC_GP, 0, 0, 0, 0 },
	{ LONG, 0, true, SZ_64, CODE3_64 | 3, DATA3 | 3, F, 0x800000000000, VEC_GP, 0, 0, 0, 0 },
	{ LONG, 0, true, SZ_64, CODE_LD, DATA0, F, TARGET, VEC_GP, CODE_LD, 0, 0, 0 },
	{ LONG, 0, false, SZ_64, CODE3_64 | 3, DATA3 | 3, F, TARGET, NONE, 0, 3, CPU_LONG, 0 },
	{ LONG, 0, false, SZ_64, CODE0_64, 0, F, TARGET, NONE, 0, 0, CPU_LONG, 16 },
	{ COMPAT, 0, true, SZ_32, CODE0, 0, F, TARGET, NONE, 0, 0, CPU_COMPAT, 12 },
	{ COMPAT, 0, true, SZ_32, CODE3_64 | 3, DATA3 | 3, F, TARGET, NONE, 0, 3, CPU_LONG, 0 },
	{ REAL, 0, true, SZ_16, 0x123, 0, F | FL_IF | FL_IOPL, TARGET, NONE, 0, 0, CPU_REAL, 6 },
	{ REAL, 0, false, SZ_16, 0x123, 0, F, TARGET, NONE, 0, 0, CPU_REAL, 4 },
	{ REAL, 0, false, SZ_32, 0x123, 0, F, 0x10000, VEC_GP, 0, 0, 0, 0 },
	{ VM86, 3, false, SZ_16, 0x123, 0, F, TARGET, NONE, 0, 3, CPU_VM86, 4 },
	{ VM86, 3, true, SZ_16, 0x123, 0, F, TARGET, VEC_GP, 0, 0, 0, 0 },
};

static void put_stack(struct flat *f, u64 at, unsigned size, const u64 *v, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		memcpy(f->mem + at + k * size, &v[k], size);
}

static void returning(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(comebacks); n++) {
		const struct comeback *r = &comebacks[n];
		struct flat *f = machine_new(r->mode, r->cpl);
		struct cpu before, *c = &f->cpu;
		u64 v[5] = { r->rip, r->cs }, ifl = r->cpl == 0 ? r->flags & FL_IF : FL_IF;
		unsigned k = 2;
		int st;

		if (r->iret)
			v[k++] = r->flags;
		v[k++] = STACK3 - 64;
		v[k++] = r->ss;
		c->gpr[RSP] -= 64;
		c->ev.nmi_masked = true;
		put_stack(f, c->gpr[RSP], 1u << r->size, v, k);
		before = *c;
		st = r->iret ? far_iret(c, r->size) : far_ret(c, r->size, 0);
		print_message("%u: mode %d cpl %u cs %x: %d %u(%x) %x:%x\n", n, r->mode, r->cpl, r->cs, st,
			      c->fault.vector, c->fault.error, c->seg[SEG_CS].sel, (unsigned)c->gpr[R_RIP]);
		if (r->vector != NONE) {
			assert_int_equal(st, ST_FAULT);
			assert_int_equal(c->fault.vector, r->vector);
			assert_int_equal(c->fault.error, r->error);
			assert_memory_equal(c->gpr, before.gpr, sizeof(before.gpr));
			assert_memory_equal(c->seg, before.seg, sizeof(before.seg));
			assert_int_equal(c->ev.nmi_masked, !r->iret); /* SDM vol. 3, 6.7.1 */
			flat_free(f);
			continue;
		}
		assert_int_equal(st, ST_END);
		assert_int_equal(c->seg[SEG_CS].sel, r->cs);
		assert_int_equal(c->gpr[R_RIP], r->rip);
		assert_int_equal(c->cpl, r->new_cpl);
		assert_int_equal(c->mode, r->new_mode);
		assert_int_equal(c->gpr[RSP], r->popped ? before.gpr[RSP] + r->popped : STACK3 - 64);
		assert_int_equal(c->ev.nmi_masked, !r->iret);
		if (r->iret) {
			assert_int_equal(c->rflags & FL_IF, ifl);
			assert_int_equal(cpu_rflags(c) & FL_CF, r->flags & FL_CF);
			assert_int_equal(c->rflags & FL_IOPL, r->cpl ? 0 : r->flags & FL_IOPL);
			assert_int_equal(c->rflags & FL_ID, r->size == SZ_16 ? 0 : r->flags & FL_ID);
		}
		flat_free(f);
	}
}

/* What ring 3 cannot reach is null, with an RPL of 0 in any case; 64-bit code still has the bases of FS and GS. */
static void unreachable_segments(void **state)
{
	static const u16 before[] = { [SEG_ES] = DATA3 | 3, [SEG_DS] = 3, [SEG_FS] = DATA0, [SEG_GS] = 2 };
	struct flat *f = machine_new(LONG, 0);
	struct cpu *c = &f->cpu;
	const u64 v[5] = { CODE, CODE3_64 | 3, FL_IF, STACK3, DATA3 | 3 };

	(void)state;
	for (unsigned s = 0; s < ARRAY_SIZE(before); s++)
		if (s != SEG_CS && s != SEG_SS)
			assert_int_equal(seg_load(c, s, before[s]), ST_OK);
	c->seg[SEG_FS].base = 0x12345000;
	c->seg[SEG_GS].base = 0x6789a000;
	c->gpr[RSP] -= sizeof(v);
	put_stack(f, c->gpr[RSP], 8, v, 5);
	assert_int_equal(far_iret(c, SZ_64), ST_END);
	assert_int_equal(c->seg[SEG_ES].sel, DATA3 | 3);
	assert_int_equal(c->seg[SEG_DS].sel, 0);
	assert_int_equal(c->seg[SEG_FS].sel, 0);
	assert_int_equal(c->seg[SEG_FS].base, 0x12345000);
	assert_int_equal(c->seg[SEG_GS].sel, 0);
	assert_int_equal(c->seg[SEG_GS].base, 0x6789a000);
	flat_free(f);
}

/* EFLAGS.AC lifts SMAP for the supervisor's own stack, for descriptor tables it does not. */
static void smap_and_stacks(void **state)
{
	struct flat *f = machine_new(LONG, 0); /* its pages are user pages */
	struct cpu *c = &f->cpu;
	struct frame fr;
	u64 v = 1;

	(void)state;
	assert_int_equal(cpu_write_cr4(c, c->cr4 | CR4_SMAP), ST_OK);
	for (unsigned ac = 0; ac < 2; ac++) {
		cpu_set_ac(c, ac);
		frame_current(c, &fr, SZ_64);
		assert_int_equal(frame_push(c, &fr, &v, 1), ac ? ST_OK : ST_FAULT);
		frame_current(c, &fr, SZ_64);
		assert_int_equal(frame_pop(c, &fr, &v, 1), ac ? ST_OK : ST_FAULT);
		assert_int_equal(mem_read_sys(c, GDT + 8, &v, 8), ST_FAULT);
		assert_int_equal(c->fault.vector, VEC_PF);
	}
	/* The user's AC is not the supervisor's. */
	c->seg[SEG_SS].attr |= 3 << ATTR_DPL_SHIFT;
	cpu_update_mode(c);
	frame_flat(&fr, STACK0, 0);
	assert_int_equal(frame_push(c, &fr, &v, 1), ST_FAULT);
	flat_free(f);
}

/* The upper half of ESP stays as it was when the new stack is a 16-bit one. */
static void limited_iret(void **state)
{
	struct flat *f = machine_new(PROT, 0);
	struct cpu *c = &f->cpu;
	u64 v[5] = { TARGET, CODE3 | 3, F, 0xdead1000, DATA0_16 | 3 };
	const u64 top = 0x50000;

	(void)state;
	desc_at(f, GDT + DATA0_16, 0, 0xffff, 0x00f2);
	put_stack(f, top, 4, v, 5);
	c->gpr[RSP] = top;
	assert_int_equal(far_iret(c, SZ_32), ST_END);
	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->stack_size, SZ_16);
	assert_int_equal(c->gpr[RSP], 0x51000);
	flat_free(f);
}

static void nested_in_long_mode(void **state)
{
	struct flat *f = machine_new(LONG, 0);

	(void)state;
	f->cpu.rflags |= FL_NT;
	assert_int_equal(far_iret(&f->cpu, SZ_64), ST_FAULT);
	assert_int_equal(f->cpu.fault.vector, VEC_GP);
	assert_int_equal(f->cpu.fault.error, 0);
	flat_free(f);
}

/* Virtual-8086 mode: IOPL 3, and VME with its virtual interrupt flag. */
static void vm86_iret(void **state)
{
	struct flat *f = machine_new(VM86, 3);
	struct cpu *c = &f->cpu;
	u64 v[3] = { TARGET, 0x123, F | FL_IF };

	(void)state;
	c->rflags |= FL_IOPL;
	c->rflags &= ~FL_IF;
	c->gpr[RSP] -= 64;
	put_stack(f, c->gpr[RSP], 2, v, 3);
	assert_int_equal(far_iret(c, SZ_16), ST_END);
	assert_true(c->rflags & FL_IF);
	assert_true(c->rflags & FL_VM);
	assert_int_equal(cpu_iopl(c), 3);
	assert_int_equal(c->seg[SEG_CS].base, 0x1230);

	c->rflags &= ~(FL_IOPL | FL_IF);
	c->cr4 |= CR4_VME;
	c->gpr[RSP] = STACK3 - 64;
	assert_int_equal(far_iret(c, SZ_16), ST_END);
	assert_true(c->rflags & FL_VIF);
	assert_false(c->rflags & FL_IF);
	c->rflags |= FL_VIP;
	c->gpr[RSP] = STACK3 - 64;
	assert_int_equal(far_iret(c, SZ_16), ST_FAULT);
	assert_int_equal(c->fault.vector, VEC_GP);
	assert_int_equal(c->gpr[RSP], STACK3 - 64);
	flat_free(f);
}

/* RETF imm16 releases both stacks. */
static void release(void **state)
{
	struct flat *f = machine_new(LONG, 0);
	struct cpu *c = &f->cpu;
	u64 v[2] = { TARGET, CODE3_64 | 3 }, w[2] = { STACK3 - 64, DATA3 | 3 };

	(void)state;
	c->gpr[RSP] = STACK0 - 64;
	put_stack(f, STACK0 - 64, 8, v, 2);
	put_stack(f, STACK0 - 64 + 16 + 24, 8, w, 2);
	assert_int_equal(far_ret(c, SZ_64, 24), ST_END);
	assert_int_equal(c->gpr[RSP], STACK3 - 64 + 24);
	flat_free(f);
}

/* By their bytes: far pointers in the instruction and in memory. */
static void instructions(void **state)
{
	struct flat *f = machine_new(PROT, 0);
	struct cpu *c = &f->cpu;
	/* call 8:0x7000; jmp far [ebx] */
	static const u8 code[] = { 0x9a, 0x00, 0x70, 0, 0, 8, 0, 0xff, 0x2b };

	(void)state;
	memcpy(f->mem + CODE, code, sizeof(code));
	f->mem[TARGET] = 0xcb;      /* retf */
	f->mem[TARGET + 16] = 0xf4; /* hlt */
	*(u32 *)(f->mem + 0x7800) = TARGET + 16;
	*(u16 *)(f->mem + 0x7804) = CODE0;
	c->gpr[RBX] = 0x7800;
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[R_RIP], TARGET + 17);
	assert_int_equal(c->gpr[RSP], STACK0);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transferring), cmocka_unit_test(parameters),          cmocka_unit_test(returning),
		cmocka_unit_test(limited_iret), cmocka_unit_test(nested_in_long_mode), cmocka_unit_test(vm86_iret),
		cmocka_unit_test(release),
		cmocka_unit_test(instructions),
		cmocka_unit_test(unreachable_segments),
		cmocka_unit_test(smap_and_stacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
