// SPDX-License-Identifier: MIT
/*
 * Threaded code does what its instructions do one by one; and what it puts off (RIP, statistics, MXCSR) is right when
 * needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "exec.h"

#define MEM (4ull << 20)
#define CODE 0x1000
#define DATA 0x10000
#define STACK 0x20000
#define HLT 0xf4

/* ---- random code, run both ways: in 64-bit mode, and as 32-bit code ---- */
static bool long_mode, translated;

static u64 seed = 88172645463325252ull;

static u32 rnd(u32 n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (u32)(seed >> 20) % n;
}

/* Destinations: RSP, RSI and RDI are for addresses. */
static unsigned rnd_reg(void)
{
	static const u8 regs[] = { RAX, RCX, RDX, RBX, RBP, R8, R9, R10, R11, R12, R13, R14, R15 };

	return regs[rnd(long_mode ? sizeof(regs) : 5)];
}

struct code {
	u8 bytes[512];
	unsigned n;
};

static void emit(struct code *c, unsigned byte)
{
	c->bytes[c->n++] = (u8)byte;
}

/* The r/m operand: a register, [rdi + d8], [rdi + rsi * 4 + d8], or [rip + d32] or [d32] into the data. */
static void emit_modrm(struct code *c, unsigned reg, unsigned rm, unsigned tail)
{
	u32 rel;

	switch (rnd(5)) {
	case 0:
		emit(c, 0x47 | (reg & 7) << 3);
		emit(c, rnd(100));
		break;
	case 1:
		emit(c, 0x44 | (reg & 7) << 3);
		emit(c, 0xb7);
		emit(c, rnd(100));
		break;
	case 2:
		emit(c, 0x05 | (reg & 7) << 3);
		rel = DATA + rnd(100) - (long_mode ? CODE + c->n + 4 + tail : 0);
		memcpy(c->bytes + c->n, &rel, 4);
		c->n += 4;
		break;
	default:
		emit(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
	}
}

/*
 * Prefixes for an operand size; an 8-bit one has a REX, so that register numbers mean the same everywhere. Some have
 * another segment; in 64-bit mode also 32-bit addresses.
 */
static void emit_prefix(struct code *c, unsigned size, unsigned reg, unsigned rm)
{
	static const u8 segs[] = { 0x26, 0x64, 0x65 };

	if (!rnd(3))
		emit(c, segs[rnd(sizeof(segs))]);
	if (long_mode && !rnd(4))
		emit(c, 0x67);
	if (size == SZ_16)
		emit(c, 0x66);
	if (long_mode)
		emit(c, 0x40 | (size == SZ_64) << 3 | (reg >> 3) << 2 | rm >> 3);
}

static void emit_imm(struct code *c, unsigned n)
{
	while (n--)
		emit(c, rnd(256));
}

/* A memory operand has RDI as its base: rm is its number then, too, where the prefix is concerned. */
static void emit_one(struct code *c)
{
	static const u8 two[] = { 0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x84, 0x88 };
	unsigned size = rnd(long_mode ? 4 : 3), reg = rnd_reg(), wide = size != SZ_8, rm = rnd(8) & 3,
		 imm = size < SZ_32 ? 1u << size : 4;

	switch (rnd(11)) {
	case 0:
	case 1:
	case 2:
		emit_prefix(c, size, reg, rm);
		emit(c, two[rnd(sizeof(two))] | wide);
		emit_modrm(c, reg, rm, 0);
		break;
	case 3: /* register from memory */
		emit_prefix(c, size, reg, rm);
		emit(c, two[rnd(8)] | 2 | wide);
		emit_modrm(c, reg, rm, 0);
		break;
	case 4:
		emit_prefix(c, size, 0, rm);
		emit(c, 0x80 | wide);
		emit_modrm(c, rnd(8), rm, imm);
		emit_imm(c, imm);
		break;
	case 5:
		emit_prefix(c, size, 0, rm);
		emit(c, 0xc0 | wide);
		emit_modrm(c, rnd(8), rm, 1);
		emit_imm(c, 1);
		break;
	case 6: /* NOT, NEG, MUL, IMUL; INC, DEC */
		emit_prefix(c, size, 0, rm);
		if (rnd(2)) {
			emit(c, 0xf6 | wide);
			emit_modrm(c, 2 + rnd(4), rm, 0);
		} else {
			emit(c, 0xfe | wide);
			emit_modrm(c, rnd(2), rm, 0);
		}
		break;
	case 7: /* MOVZX, MOVSX, CMOVcc, SETcc, IMUL */
		emit_prefix(c, size == SZ_8 ? SZ_32 : size, reg, rm);
		emit(c, 0x0f);
		switch (rnd(4)) {
		case 0:
			emit(c, 0xb6 | rnd(2) | rnd(2) << 3);
			break;
		case 1:
			emit(c, 0x40 | rnd(16));
			break;
		case 2:
			emit(c, 0x90 | rnd(16));
			break;
		default:
			emit(c, 0xaf);
		}
		emit_modrm(c, reg, rm, 0);
		break;
	case 8: /* LEA, MOVSXD */
		emit_prefix(c, long_mode ? SZ_64 : SZ_32, reg, rm);
		if (long_mode && rnd(2)) {
			emit(c, 0x63);
			emit_modrm(c, reg, rm, 0);
		} else {
			emit(c, 0x8d);
			emit(c, 0x44 | (reg & 7) << 3);
			emit(c, rnd(4) << 6 | 0x37);
			emit_imm(c, 1);
		}
		break;
	case 9: /* PUSH, POP of a register */
		if (long_mode)
			emit(c, 0x40 | reg >> 3);
		emit(c, 0x50 | (reg & 7));
		reg = rnd_reg();
		if (long_mode)
			emit(c, 0x40 | reg >> 3);
		emit(c, 0x58 | (reg & 7));
		break;
	default: /* CBW..., CWD..., BSWAP */
		emit_prefix(c, size == SZ_8 ? SZ_32 : size, 0, 0);
		emit(c, 0x98 | rnd(2));
	}
}

static void start(struct flat *f)
{
	if (long_mode)
		flat_long(f, CODE);
	else
		flat_prot(f, CODE);
	flat_seg(&f->cpu, SEG_FS, 0x18, 0x40, 0xffffffff, 0xc093);
	flat_seg(&f->cpu, SEG_GS, 0x20, 0x41, DATA + 120, 0x4093); /* some go beyond */
	cpu_update_mode(&f->cpu);
	for (unsigned r = 0; r < 16; r++)
		f->cpu.gpr[r] = rnd(2) ? seed : rnd(3) - 1;
	for (unsigned r = 0; r < 16 && !long_mode; r++)
		f->cpu.gpr[r] = (u32)f->cpu.gpr[r];
	f->cpu.gpr[RSI] = rnd(10);
	f->cpu.gpr[RDI] = DATA;
	f->cpu.gpr[RSP] = STACK;
	f->cpu.cc = seed & FL_STATUS;
	for (unsigned n = 0; n < 512; n++)
		f->mem[DATA + n] = (u8)rnd(256);
}

/* To the HLT, or to a fault. */
static enum exit_reason one_by_one(struct flat *f, const struct code *code)
{
	struct cpu *c = &f->cpu;
	struct insn i;

	while (c->gpr[R_RIP] < CODE + code->n) {
		const u8 *at = code->bytes + c->gpr[R_RIP] - CODE;
		int len = insn_decode(at, 15, c->code_mode, &i);

		assert_true(len > 0);
		if (exec_bytes(f, at, (size_t)len) != ST_OK) {
			assert_fault(f, ST_FAULT, VEC_GP, 0);
			return EXIT_SHUTDOWN;
		}
	}
	c->gpr[R_RIP]++; /* the HLT */
	return EXIT_HLT;
}

static void compare(struct flat *a, struct flat *b, const struct code *code)
{
	bool same = ((a->cpu.cc ^ b->cpu.cc) & FL_STATUS) == 0 && a->cpu.gpr[R_RIP] == b->cpu.gpr[R_RIP] &&
		    !memcmp(a->cpu.gpr, b->cpu.gpr, 16 * sizeof(u64)) && !memcmp(a->mem + DATA, b->mem + DATA, 512);

	if (same)
		return;
	for (unsigned n = 0; n < code->n; n++)
		print_message("%02x ", code->bytes[n]);
	for (unsigned r = 0; r < NR_GPR; r++)
		print_message("\nr%u: threaded %lx, one by one %lx", r, a->cpu.gpr[r], b->cpu.gpr[r]);
	fail_msg("cc: threaded %x, one by one %x", (u32)(a->cpu.cc & FL_STATUS), (u32)(b->cpu.cc & FL_STATUS));
}

static void random_code(void)
{
	struct flat *a = flat_new(MEM), *b = flat_new(MEM);
	u64 seen = 0;

	if (translated && interp_translate(&a->cpu)) {
		flat_free(a);
		flat_free(b);
		skip();
	}
	a->cpu.code->heat = translated;
	for (unsigned round = 0; round < 5000; round++) {
		struct code code = { .n = 0 };
		enum exit_reason why;
		u64 saved;

		while (code.n < 80)
			emit_one(&code);
		code.bytes[code.n] = HLT;
		memcpy(a->mem + CODE, code.bytes, code.n + 1);
		code_serialize(&a->cpu);
		saved = seed;
		start(a);
		seed = saved;
		start(b);
		why = interp_run(&a->cpu);
		assert_int_equal(one_by_one(b, &code), why);
		compare(a, b, &code);
		seen |= BIT64(why);
	}
	assert_int_equal(seen, BIT64(EXIT_HLT) | (long_mode ? 0 : BIT64(EXIT_SHUTDOWN)));
	flat_free(a);
	flat_free(b);
}

static void random_code_64(void **state)
{
	(void)state;
	long_mode = true;
	random_code();
}

static void random_code_64_translated(void **state)
{
	(void)state;
	long_mode = translated = true;
	random_code();
	translated = false;
}

static void random_code_32(void **state)
{
	(void)state;
	long_mode = false;
	random_code();
}

static void random_code_32_translated(void **state)
{
	(void)state;
	long_mode = false;
	translated = true;
	random_code();
	translated = false;
}

/* ---- what is put off ---- */
#define PUT(f, ...)                                                                                                    \
	do {                                                                                                           \
		static const u8 code_[] = { __VA_ARGS__ };                                                             \
		memcpy((f)->mem + CODE, code_, sizeof(code_));                                                         \
	} while (0)

/* Without an IDT a fault ends in a shutdown, at the instruction. */
static void fault_in_the_middle(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	/* inc rax; lea rcx, [rip + 0]; inc rax; mov rbx, [rdx]; inc rax */
	PUT(f, 0x48, 0xff, 0xc0, 0x48, 0x8d, 0x0d, 0, 0, 0, 0, 0x48, 0xff, 0xc0, 0x48, 0x8b, 0x1a, 0x48, 0xff, 0xc0,
	    HLT);
	flat_long(f, CODE);
	f->cpu.gpr[RDX] = 2ull << 30;
	f->cpu.exact_stats = true;
	assert_int_equal(interp_run(&f->cpu), EXIT_SHUTDOWN);
	assert_int_equal(f->cpu.gpr[R_RIP], CODE + 13);
	assert_int_equal(f->cpu.gpr[RAX], 2);
	assert_int_equal(f->cpu.gpr[RCX], CODE + 10);
	assert_int_equal(f->cpu.stats.insns, 3);
	assert_int_equal(f->cpu.stats.reads, 0);
	flat_free(f);
}

/* #AC: no access may take the short cut. */
static void alignment_check(void **state)
{
	struct flat *f = flat_new(MEM);
	struct cpu *c = &f->cpu;

	(void)state;
	/* mov rax, [rdi]; mov rax, [rdi]; mov rbx, [rdi + 1] */
	PUT(f, 0x48, 0x8b, 0x07, 0x48, 0x8b, 0x07, 0x48, 0x8b, 0x5f, 0x01, HLT);
	flat_long(f, CODE);
	flat_seg(c, SEG_CS, 0x1b, 0, 0xffffffff, 0xa0fb);
	flat_seg(c, SEG_SS, 0x13, 0, 0xffffffff, 0xc0f3);
	c->cr0 |= CR0_AM;
	cpu_set_rflags(c, FL_AC);
	cpu_update_mode(c);
	c->gpr[RDI] = DATA;
	c->gpr[RBX] = 77;
	assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
	assert_int_equal(c->gpr[R_RIP], CODE + 6);
	assert_int_equal(c->gpr[RBX], 77);
	flat_free(f);
}

/* An exception flag that the guest has cleared stays clear, though the host's MXCSR still has it. */
static void mxcsr_flags(void **state)
{
	struct flat *f = flat_new(MEM);
	u32 seen[2], init = 0x1f80;
	float one = 1, three = 3;

	(void)state;
	/* ldmxcsr [rsi]; divss xmm0, xmm1; stmxcsr [rdi]; ldmxcsr [rsi]; addss xmm0, xmm0; stmxcsr [rdi + 4] */
	PUT(f, 0x0f, 0xae, 0x16, 0xf3, 0x0f, 0x5e, 0xc1, 0x0f, 0xae, 0x1f, 0x0f, 0xae, 0x16, 0xf3, 0x0f, 0x58, 0xc0,
	    0x0f, 0xae, 0x5f, 0x04, HLT);
	memcpy(f->mem + DATA, &init, 4);
	for (unsigned n = 0; n < 3; n++) {
		flat_long(f, CODE);
		f->cpu.gpr[RSI] = DATA;
		f->cpu.gpr[RDI] = DATA + 8;
		memcpy(f->cpu.fpu.vec[0], &one, 4);
		memcpy(f->cpu.fpu.vec[1], &three, 4);
		assert_int_equal(interp_run(&f->cpu), EXIT_HLT);
		memcpy(seen, f->mem + DATA + 8, sizeof(seen));
		assert_int_equal(seen[0], 0x1fa0);
		assert_int_equal(seen[1], 0x1f80);
	}
	flat_free(f);
}

static void statistics(void **state)
{
	struct flat *f = flat_new(MEM);
	struct cpu *c = &f->cpu;

	(void)state;
	/* mov ecx, 100000; l: mov rax, [rdi]; add [rdi], rax; push rax; pop rdx; dec ecx; jnz l; hlt */
	PUT(f, 0xb9, 0xa0, 0x86, 0x01, 0x00, 0x48, 0x8b, 0x07, 0x48, 0x01, 0x07, 0x50, 0x5a, 0xff, 0xc9, 0x75, 0xf4,
	    HLT);
	flat_long(f, CODE);
	c->gpr[RDI] = DATA;
	c->gpr[RSP] = STACK;
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->stats.insns, 1 + 6 * 100000 + 1);
	assert_int_equal(c->stats.reads, 2 * 100000);
	assert_int_equal(c->stats.writes, 2 * 100000);
	assert_in_range(c->stats.blocks, 100000 + 1, 100000 + 2);
	assert_int_equal(c->stats.tlb_miss[MEM_WRITE], 2);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_code_64),      cmocka_unit_test(random_code_64_translated),
		cmocka_unit_test(random_code_32),      cmocka_unit_test(random_code_32_translated),
		cmocka_unit_test(fault_in_the_middle), cmocka_unit_test(alignment_check),
		cmocka_unit_test(mxcsr_flags),         cmocka_unit_test(statistics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
