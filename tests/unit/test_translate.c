// SPDX-License-Identifier: MIT
/* Translated code: links between blocks, code that changes, faults and lost memory in the middle, a full arena. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "flat.h"
#include "jit/translate.h"
#include "os/guard.h"

#define MEM (4ull << 20)
#define CODE 0x1000
#define DATA 0x10000
#define STACK 0x20000

/* Guest programs, in the assembler's words; each is copied to where it runs. */
#define PROGRAM(name, text)                                                                                            \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection");                            \
	extern const u8 name[], name##_end[]

static void load(struct flat *f, u64 at, const u8 *begin, const u8 *end)
{
	memcpy(f->mem + at, begin, (size_t)(end - begin));
}
#define LOAD(f, at, name) load(f, at, name, name##_end)

/* 64-bit mode at CODE; blocks are translated when they run for the heat-th time. */
static struct flat *translating(u32 heat)
{
	struct flat *f = flat_new(MEM);

	if (interp_translate(&f->cpu)) {
		flat_free(f);
		return NULL;
	}
	f->cpu.code->heat = heat;
	flat_long(f, CODE);
	f->cpu.gpr[RSP] = STACK;
	f->cpu.gpr[RDI] = DATA;
	f->cpu.gpr[RDX] = 0; /* RESET leaves the CPU's signature there */
	return f;
}
#define NEW(heat)                                                                                                      \
	({                                                                                                             \
		struct flat *f_ = translating(heat);                                                                   \
		if (!f_)                                                                                               \
			skip(); /* this host gives no memory to execute from */                                        \
		f_;                                                                                                    \
	})

static void run_to_hlt(struct flat *f)
{
	assert_int_equal(interp_run(&f->cpu), EXIT_HLT);
}

PROGRAM(sum, "xor %eax, %eax; mov $10000, %ecx\n"
	     "1: test $1, %cl; jz 2f; add %rcx, %rax; jmp 3f\n"
	     "2: sub $1, %rax\n"
	     "3: dec %ecx; jnz 1b; hlt");

/* Five blocks in one page, which find each other's code. */
static void a_loop(void **state)
{
	for (u32 heat = 1; heat < 6; heat++) {
		struct flat *f = NEW(heat);

		(void)state;
		LOAD(f, CODE, sum);
		run_to_hlt(f);
		assert_int_equal(f->cpu.gpr[RAX], 5000 * 5000 - 5000);
		assert_int_equal(f->cpu.gpr[RCX], 0);
		assert_true(cpu_rflags(&f->cpu) & FL_ZF);
		assert_in_range(f->cpu.stats.translations, 4, 7);
		/* Statistics do not know the difference. */
		assert_int_equal(f->cpu.stats.insns, 2 + 10000 * 4 + 5000 * 3 + 1);
		flat_free(f);
	}
}

PROGRAM(count, "mov $5000, %ecx\n1: push %rcx; call 0x2000; pop %rcx; loop 1b; hlt");
PROGRAM(callee, "lea 1(%rbx), %rbx; mov $0x3000, %eax; jmp *%rax");
PROGRAM(tail, "add $2, %rdx; ret");

/* The pages are 0x1000 to 0x3000: `call 0x2000` is relative to where the linker has put it. */
static void between_pages(void **state)
{
	struct flat *f = NEW(2);
	s32 rel;

	(void)state;
	LOAD(f, CODE, count);
	rel = 0x2000 - (CODE + 11);
	memcpy(f->mem + CODE + 7, &rel, 4);
	assert_int_equal(f->mem[CODE + 6], 0xe8);
	LOAD(f, 0x2000, callee);
	LOAD(f, 0x3000, tail);
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RBX], 5000);
	assert_int_equal(f->cpu.gpr[RDX], 10000);
	assert_int_equal(f->cpu.gpr[RSP], STACK);
	flat_free(f);
}

/* A store into the block that executes, and behind it into one that others are linked to. */
PROGRAM(self, "mov $100, %ecx\n"
	      "1: movl %ecx, 2f+1(%rip)\n"
	      "2: mov $0, %eax\n"
	      "add %rax, %rbx; call 3f; dec %ecx; jnz 1b; hlt\n"
	      "3: movb %cl, 4f+3(%rip); jmp 4f\n"
	      ".skip 128 - (. - self) /* in another line: the writer stays */\n"
	      "4: lea 1(%rdx), %rdx; ret");

static void code_that_writes_itself(void **state)
{
	struct flat *f = NEW(1);
	s64 sum = 0;

	(void)state;
	LOAD(f, CODE, self);
	run_to_hlt(f);
	for (s64 n = 1; n <= 100; n++)
		sum += n;
	assert_int_equal(f->cpu.gpr[RBX], sum);
	assert_int_equal(f->cpu.gpr[RDX], sum);
	flat_free(f);
}

/* Written by somebody else: seen at the next serialization, in every block that has a link there, too. */
static void code_that_the_client_writes(void **state)
{
	struct flat *f = NEW(1);

	(void)state;
	LOAD(f, CODE, sum);
	run_to_hlt(f);
	f->mem[CODE + (sum_end - sum) - 6] = 3; /* sub $3, %rax */
	assert_int_equal(f->mem[CODE + (sum_end - sum) - 7], 0xe8);
	code_serialize(&f->cpu);
	f->cpu.gpr[R_RIP] = CODE;
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RAX], 5000 * 5000 - 3 * 5000);
	flat_free(f);
}

/* Registers without a host register take part. */
PROGRAM(fault, "mov $7, %r15d; xor %r14d, %r14d; cmp $8, %r15; mov (%rdi), %r13; add $1, %r15; sub $9, %r14; hlt");

/* Without an IDT a fault ends in a shutdown, at the instruction. */
static void a_fault_in_the_middle(void **state)
{
	struct flat *f = NEW(1);
	struct cpu *c = &f->cpu;

	(void)state;
	LOAD(f, CODE, fault);
	c->gpr[RDI] = 2ull << 30;
	c->gpr[R13] = 55;
	c->exact_stats = true;
	assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
	assert_int_equal(c->gpr[R_RIP], CODE + 13);
	assert_int_equal(c->gpr[R15], 7);
	assert_int_equal(c->gpr[R14], 0);
	assert_int_equal(c->gpr[R13], 55);
	assert_int_equal(cpu_rflags(c) & FL_STATUS, FL_CF | FL_PF | FL_AF | FL_SF); /* of 7 - 8 */
	assert_int_equal(c->stats.insns, 3);
	flat_free(f);
}

PROGRAM(store, "1: mov %rax, (%rdi); inc %rax; cmp $100, %rax; jnz 1b; cmp %rax, %rax; add %rbx, (%rsi); hlt");

static bool owns(void *ctx, u64 addr)
{
	const struct flat *f = ctx;

	return addr - (u64)(uintptr_t)f->mem < f->size;
}

static u64 recover(void *ctx, u64 ip)
{
	const struct flat *f = ctx;
	u64 to = jit_recover(&f->cpu, ip);

	if (to)
		((struct flat *)ctx)->pio_data[0]++;
	return to;
}

static __attribute__((noinline)) bool run_guarded(struct flat *f)
{
	struct os_guard g;

	if (os_guard_enter(&g, owns, f)) {
		interp_unwind(&f->cpu);
		return false;
	}
	g.recover = recover;
	interp_run(&f->cpu);
	os_guard_leave(&g);
	return true;
}

/* The client unmaps memory that translated code reaches without a look: the state is that before the instruction. */
static void memory_is_lost(void **state)
{
	struct flat *f = NEW(1);
	struct cpu *c = &f->cpu;

	(void)state;
	assert_int_equal(os_guard_init(), 0);
	LOAD(f, CODE, store);
	c->gpr[RSI] = DATA;
	c->gpr[RBX] = 1;
	run_to_hlt(f); /* now the soft TLB has the page */
	munmap(f->mem + DATA, PAGE_SIZE);
	c->gpr[R_RIP] = CODE;
	c->gpr[RAX] = 42;
	assert_false(run_guarded(f));
	assert_int_equal(f->pio_data[0], 1);
	assert_int_equal(c->gpr[R_RIP], CODE);
	assert_int_equal(c->gpr[RAX], 42);
	/* The read-modify-write, with the flags of the comparison before it. */
	c->gpr[RDI] = DATA + 0x1000;
	assert_false(run_guarded(f));
	assert_int_equal(f->pio_data[0], 2);
	assert_int_equal(c->gpr[R_RIP], CODE + (store_end - store) - 4);
	assert_int_equal(c->gpr[RAX], 100);
	assert_int_equal(cpu_rflags(c) & FL_STATUS, FL_ZF | FL_PF);
	assert_ptr_not_equal(mmap(f->mem + DATA, PAGE_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			     MAP_FAILED);
	assert_true(run_guarded(f));
	assert_int_equal(f->mem[DATA], 1);
	assert_int_equal(jit_recover(c, (u64)(uintptr_t)f->mem), 0);
	flat_free(f);
}

/*
 * Rounding to the guest's mode, flags where LDMXCSR and STMXCSR look for them, a page in between that the soft TLB does
 * not have, and an unmasked exception in the end; the client's own MXCSR stays.
 */
PROGRAM(floats, "mov $3, %edx; mov $4, %ecx\n"
		"1: ldmxcsr (%rsi); cvtsi2sd %edx, %xmm1; movsd 8(%rdi), %xmm0; divsd %xmm1, %xmm0\n"
		"movsd %xmm0, (%rdi); movups %xmm0, 0x2000(%rdi); mulsd %xmm0, %xmm0; stmxcsr 4(%rsi)\n"
		"pxor %xmm3, %xmm3; comisd %xmm3, %xmm0; seta %al; dec %ecx; jnz 1b; hlt");

static void floating_point_state(void **state)
{
	struct flat *f = NEW(1);
	struct cpu *c = &f->cpu;
	u32 mxcsr[2] = { 0x5f80, 0 }, host; /* towards plus infinity */
	double one = 1, third;

	(void)state;
	asm volatile("stmxcsr %0" : "=m"(host));
	LOAD(f, CODE, floats);
	c->gpr[RSI] = 0x30000;
	for (unsigned round = 0; round < 3; round++) {
		u32 seen, now;

		memcpy(f->mem + 0x30000, mxcsr, sizeof(mxcsr));
		memcpy(f->mem + DATA + 8, &one, 8);
		c->gpr[RDI] = DATA;
		c->gpr[R_RIP] = CODE;
		run_to_hlt(f);
		asm volatile("stmxcsr %0" : "=m"(now));
		assert_int_equal(now & ~0x3fu, host & ~0x3fu);
		memcpy(&third, f->mem + DATA, 8);
		memcpy(&seen, f->mem + 0x30004, 4);
		assert_int_equal(seen & 0x3f, 0x20 | (mxcsr[0] & 0x3f));
		assert_true(third == (round ? 0x1.5555555555555p-2 : 0x1.5555555555556p-2));
		assert_int_equal(c->gpr[RAX] & 0xff, 1);
		mxcsr[0] = round ? 0x1f81 : 0x3f80; /* to nearest with a sticky flag; towards minus infinity */
	}
	/* Inexact results are an exception now, for which there is no IDT. */
	mxcsr[0] = 0x0f80;
	memcpy(f->mem + 0x30000, mxcsr, sizeof(mxcsr));
	c->gpr[R_RIP] = CODE;
	c->gpr[RDI] = DATA;
	assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
	assert_int_equal(c->fpu.mxcsr, 0x0fa0);
	flat_free(f);
}

/* The operand is wider than the result: its second half is not in memory. */
PROGRAM(narrowing, "cvttsd2si (%rdi), %eax; jmp 1f\n1: hlt");

static void an_operand_wider_than_its_result(void **state)
{
	struct flat *f = NEW(1);
	struct cpu *c = &f->cpu;

	(void)state;
	LOAD(f, CODE, narrowing);
	c->gpr[RDI] = MEM - 16; /* now the soft TLB has the page */
	run_to_hlt(f);
	c->gpr[R_RIP] = CODE;
	c->gpr[RDI] = MEM - 4;
	assert_int_equal(interp_run(c), EXIT_MMIO);
	assert_int_equal(c->gpr[R_RIP], CODE);
	flat_free(f);
}

/* AVX that traps behind SSE that has left a flag. */
PROGRAM(avx_traps, "movd %eax, %xmm1; pxor %xmm0, %xmm0; comiss %xmm0, %xmm1; vpxor %xmm0, %xmm0, %xmm0; hlt");

static void flags_before_avx_that_traps(void **state)
{
	struct flat *f = NEW(1);
	struct cpu *c = &f->cpu;

	(void)state;
	if (!__builtin_cpu_supports("avx")) {
		flat_free(f);
		skip();
	}
	LOAD(f, CODE, avx_traps);
	c->gpr[RAX] = 1; /* a denormal */
	c->fpu.mxcsr = 0x1f80;
	assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
	assert_int_equal(c->gpr[R_RIP], CODE + 11);
	assert_int_equal(c->fpu.mxcsr, 0x1f82);
	flat_free(f);
}

/*
 * The x87 state after all kinds of instructions is the interpreter's: a full and an empty stack, flags, precision and
 * rounding, handlers in between, MMX, and where the last instruction and its operand were. In the end an access that
 * faults, or one that no soft TLB entry serves; or with RAX an exception that a control word has just unmasked.
 */
PROGRAM(x87,
	"mov $3, %ecx; fninit\n"
	"1: fld1; fldpi; fadd %st(1), %st; fldl (%rsi); fmulp; fldt 16(%rsi); fcomi %st(1), %st; fcmovb %st(2), %st\n"
	"fxch; fsubs 32(%rsi); fstpt 48(%rsi); fistpl 64(%rsi); fnstcw 68(%rsi); fldcw 70(%rsi); fdivl (%rsi)\n"
	"fnstsw %ax; add %eax, %ebx; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fildl 64(%rsi); fnstsw 72(%rsi)\n"
	"ffree %st(3); fincstp; fyl2x; fsincos; fprem; frndint; fbstp 80(%rsi); fldcw 68(%rsi); dec %ecx; jnz 1b\n"
	"fnstenv 96(%rsi); fldenv 96(%rsi); fld1; fldl (%rsi); paddb %mm1, %mm2; fldz; fldcw 74(%rsi)\n"
	"fdivr %st, %st(1); fwait; fchs; flds (%rdi); fabs; fwait; hlt");

struct x87_case {
	u64 rdi;
	u16 fcw;
	bool warm;
};

static void x87_operands(struct flat *f, u64 at, u16 last)
{
	static const u16 to_zero_single = 0xc7f;
	double big = 1e18;
	long double third = 1.0L / 3;
	float half = 0.5f;

	memset(f->mem + at, 0, 256);
	memcpy(f->mem + at, &big, 8);
	memcpy(f->mem + at + 16, &third, 10);
	memcpy(f->mem + at + 32, &half, 4);
	memcpy(f->mem + at + 70, &to_zero_single, 2);
	memcpy(f->mem + at + 74, &last, 2);
}

static void x87_round(const struct x87_case *k, u32 heat, struct fpu *fpu, u8 *memory, enum exit_reason *why)
{
	struct flat *f = translating(heat);
	struct cpu *c = &f->cpu;

	LOAD(f, CODE, x87);
	c->gpr[RSI] = DATA;
	if (k->warm) { /* with the soft TLB's entries, from the start */
		x87_operands(f, DATA, 0x37f);
		run_to_hlt(f);
		c->gpr[R_RIP] = CODE;
	}
	x87_operands(f, DATA, k->fcw);
	c->gpr[RSI] = DATA;
	c->gpr[RDI] = k->rdi;
	*why = interp_run(c);
	*fpu = c->fpu;
	memcpy(memory, f->mem + DATA, 256);
	flat_free(f);
}

static void x87_state(void **state)
{
	static const struct x87_case cases[] = {
		{ DATA, 0x37f, false },   { DATA, 0x37f, true }, { 2ull << 30, 0x37f, true },
		{ MEM - 2, 0x27f, true }, { DATA, 0x37b, true }, { DATA, 0x360, false },
	};
	u16 host, before;

	(void)state;
	flat_free(NEW(1));
	asm volatile("fnstcw %0" : "=m"(before));
	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		struct fpu fpu[2];
		u8 memory[2][256];
		enum exit_reason why[2];

		for (u32 heat = 0; heat < 2; heat++)
			x87_round(&cases[n], heat, &fpu[heat], memory[heat], &why[heat]);
		assert_int_equal(why[0], why[1]);
		assert_memory_equal(memory[0], memory[1], 256);
		assert_memory_equal(&fpu[0], &fpu[1], sizeof(fpu[0]));
		asm volatile("fnstcw %0" : "=m"(host));
		assert_int_equal(host, before);
	}
}

/*
 * Flags that are made and never read, but for a fault in between: they are what they would be with the interpreter,
 * whatever happened to the operands meanwhile. R8 is good, RDI is not. Each case has 64 bytes.
 */
#define PIECE(text) "9: " text "; hlt; .skip 64 - (. - 9b), 0xcc\n"
#define CASE(text) PIECE(text "; cmp %rax, %rax")
#define FAULTS(text) CASE(text "; mov (%rdi), %r9")
#define READS(text) CASE("mov (%r8), %r10; " text)
/* clang-format off */
PROGRAM(flag_cases,
	FAULTS("add %rbx, %rax") FAULTS("add %rax, %rax") FAULTS("add %r13, %r14") FAULTS("add $-3, %r10d")
	FAULTS("sub %rbx, %rbx") FAULTS("sub $16, %rsp") FAULTS("sub %bl, %al") FAULTS("cmp %rbx, %rax")
	FAULTS("cmp %rax, %rax") FAULTS("cmp $77, %r15w") FAULTS("cmp %bl, %ah") FAULTS("test %ebx, %eax")
	FAULTS("test %ah, %ah") FAULTS("test %rcx, %rcx") FAULTS("and %rbx, %rax") FAULTS("or (%r8), %rax")
	FAULTS("xor %eax, %eax") FAULTS("and $0x80, %bl") FAULTS("inc %rax") FAULTS("neg %rax")
	FAULTS("shl $3, %rbx") FAULTS("imul %rbx, %rax") FAULTS("add %rbx, %rax; mov $7, %eax")
	FAULTS("add %rbx, %rax; lea 1(%rbx), %rbx") FAULTS("add $9, %rbx; mov %rbx, %rcx")
	FAULTS("cmp %rbx, %rax; mov (%r8), %rbx") FAULTS("test %al, %al; mov $1, %ah")
	FAULTS("xor %ecx, %ecx; bswap %rcx") FAULTS("sub $8, %rsp; push %rax") FAULTS("sub $8, %rsp; pop %rbx")
	FAULTS("cmp %rbx, %rax; mov %rax, (%r8)") FAULTS("cmp %rbx, %rax; inc %rcx")
	FAULTS("add %rbx, %rax; movd %xmm0, %ebx") READS("cmp %rax, %rbx; mov (%r8), %r9; adc %ecx, %ecx")
	READS("cmp %rbx, %rax; mov (%r8), %r9; sbb %rcx, %rcx") READS("add %rbx, %rax; mov (%r8), %r9; rcl $1, %rcx")
	READS("add %rbx, %rax; mov (%r8), %r9; pushf; pop %rcx")
	READS("sub %rbx, %rax; mov (%r8), %r9; mov $0, %cl; shl %cl, %rdx; pushf; pop %rcx")
	READS("add %rbx, %rax; mov (%r8), %r9; lahf") FAULTS("sub %rbx, %rax") FAULTS("test $0x80, %al")
	FAULTS("dec %r11b") FAULTS("sub %rbx, %rax; movzx %al, %ebx") FAULTS("add %rbx, %rax; xchg %rax, %rbx")
	FAULTS("add %rbx, %rax; mov %rax, %rbx; mov %rcx, %rax") FAULTS("or %rbx, %rax; not %rax")
	READS("cmp %rax, %rbx; mov (%r8), %r9; cmovb %rax, %rcx") READS("cmp %rax, %rbx; mov (%r8), %r9; setc %cl")
	READS("add %rbx, %rax; mov (%r8), %r9; inc %rcx; pushf; pop %rcx"));
/* clang-format on */

static void run_flag_case(u64 at, const u64 values[2], u32 heat, u64 gpr[NR_GPR], u64 *flags)
{
	struct flat *f = translating(heat);
	struct cpu *c = &f->cpu;

	LOAD(f, CODE, flag_cases);
	for (unsigned n = 0; n < 16; n++)
		c->gpr[n] = n * 0x1111111111111111u + 3;
	c->gpr[RAX] = values[0];
	c->gpr[RBX] = values[1];
	c->gpr[RSP] = STACK;
	c->gpr[R8] = DATA;
	c->gpr[RDI] = 2ull << 30;
	c->gpr[R_RIP] = at;
	interp_run(c);
	memcpy(gpr, c->gpr, NR_GPR * sizeof(gpr[0]));
	*flags = cpu_rflags(c);
	flat_free(f);
}

static void flags_that_a_fault_shows(void **state)
{
	static const u64 values[][2] = {
		{ 5, 7 }, { 7, 5 }, { ~0ull, 1 }, { 1ull << 63, 1ull << 63 }, { 0x80, 0x7f80 }
	};

	(void)state;
	flat_free(NEW(1));
	for (u64 at = CODE; at < CODE + (u64)(flag_cases_end - flag_cases); at += 64) {
		for (unsigned n = 0; n < ARRAY_SIZE(values); n++) {
			u64 gpr[2][NR_GPR], flags[2];

			for (u32 heat = 0; heat < 2; heat++)
				run_flag_case(at, values[n], heat, gpr[heat], &flags[heat]);
			assert_true(gpr[0][R_RIP] > at); /* behind the first instruction */
			if (memcmp(gpr[0], gpr[1], sizeof(gpr[0])) || flags[0] != flags[1])
				fail_msg("case %u with values %u: flags %llx, not %llx", (unsigned)(at - CODE) / 64, n,
					 (unsigned long long)flags[1], (unsigned long long)flags[0]);
		}
	}
}

/*
 * Accesses by one base, of which the first looks for all: at any place in a page, over its end, and up to one that is
 * not there, they leave what the interpreter leaves.
 */
/* clang-format off */
PROGRAM(group_cases,
	PIECE("push %rax; push %rbx; push $5; pop %rcx; pop %rdx; pop %r11")
	PIECE("mov (%rsi), %rax; mov 8(%rsi), %rbx; mov %rax, 16(%rsi); mov %bl, 3(%rsi)")
	PIECE("mov %eax, (%rsi); add $12, %rsi; mov -4(%rsi), %cx; sub $4, %rsi; add %rbx, (%rsi)")
	PIECE("mov (%rsi), %rax; lea 8(%rsi), %rsi; mov (%rsi), %rbx; lea 1(%rsi, %rax), %rdx; mov 8(%rsi), %rcx")
	PIECE("mov (%rsi), %rax; mov %rsp, %rsi; mov 8(%rsi), %rbx; mov 16(%rsi), %rcx")
	PIECE("mov %rax, 8(%rsi); push %rax; mov %rbx, 16(%rsi); push %rbx; mov (%rsi), %rcx; pop %rdx")
	PIECE("push %rsp; push %rax; mov 8(%rsp), %rcx; pop %rdx; pop %rsp; push %rbx; mov (%rsp), %rdx")
	PIECE("push %rax; push (%rsp); push 8(%rsp); pop %rcx; mov 8(%rsp), %rdx")
	PIECE("mov %rsp, %rbp; push %rax; push %rbx; mov -8(%rbp), %rcx; mov -16(%rbp), %rdx; leave; push %rcx")
	PIECE("mov (%rsi), %rax; cmp %rbx, %rcx; mov 8(%rsi), %rdx; setb %dl; adc 16(%rsi), %rax")
	PIECE("mov (%rsi), %rax; cmp %rbx, %rcx; mov 8(%rsi), %rdx; lahf; mov 16(%rsi), %rcx; cpuid; mov (%rsi), %r9")
	PIECE("mov (%rsi), %rax; inc %ecx; cmp 8(%rsi), %rax; cmovb 16(%rsi), %rbx; jb 1f; mov $1, %ecx; 1:")
	PIECE("movups (%rsi), %xmm0; paddb 16(%rsi), %xmm0; "
	      "movups %xmm0, 4(%rsi); cvtsi2sd 8(%rsi), %xmm1; movd %xmm0, %ebx")
	PIECE("fldl (%rsi); fadds 8(%rsi); fnstcw 12(%rsi); fldcw 12(%rsi); fstpt 14(%rsi); mov 16(%rsi), %rax")
	PIECE("mov (%r13), %r14; mov 8(%r13), %r10; lea 16(%r13), %r13; mov (%r13), %r15; mov %r14, -8(%r13)")
	PIECE("mov (%rsi), %rax; mov %rax, (%rsp); mov 8(%rsi), %rax; "
	      "mov %rax, -8(%rsp); mov (%r13), %rbx; mov %rbx, 8(%r13)")
	PIECE("xchg %rax, (%rsi); xchg %rbx, 8(%rsi); lock xadd %rcx, 16(%rsi); bts $3, 4(%rsi); shll %cl, 8(%rsi)")
	PIECE("mov %rax, 300(%rsi); mov 8(%rsi), %rbx; mov %rcx, 16(%rsi); "
	      "mov -8(%rsi), %rdx; xchg %rsi, %rbx; mov (%rbx), %rcx")
	PIECE("mov 8(%rsi), %eax; mov %esi, %esi; mov (%rsi), %ebx; mov 16(%rsi), %ecx; mov $0, %edx; divl 8(%rsi)")
	PIECE("mov $0x1000, %r9d; mov (%rsi), %rax; add %r9, %rsi; "
	      "mov (%rsi), %rbx; sub $0x1000, %esi; mov 8(%rsi), %rcx")
	PIECE("mov (%rsi), %rax; xchg %rsi, %r8; mov 8(%rsi), %rbx; mov 8(%r8), %rcx")
	PIECE("mov %rsi, %rdx; mov (%rdx), %rcx; mov $5, %eax; cqo; mov 8(%rdx), %rcx")
	PIECE("lea 2f(%rip), %rcx; push %rax; push %rcx; cmp %rbx, %rdx; ret; 2: setb %dl; pop %rax")
	PIECE("mov (%rsi), %rax; cmp %rbx, %rcx; paddb 16(%rsi), %xmm0; setb %dl")
	PIECE("fninit; mov (%rsi), %rax; fnstcw 8(%rsi); cmp %rbx, %rcx; fldcw 8(%rsi); setb %dl")
	PIECE("push %rax; call 1f; 1: pop %rcx; pop %rdx; push %rbx; push %rdx; mov 8(%rsp), %r9; mov (%rsp), %r11"));
/* clang-format on */

#define END (2ull << 20) /* behind it nothing is mapped */
#define RO (DATA + 0x4000)
#define TABLE 0x140000
#define ELSEWHERE 0x30000
#define NR_PARTS 5
static const struct {
	u64 at, bytes;
} parts[NR_PARTS] = { { DATA, PAGE_SIZE },
		      { STACK - PAGE_SIZE, PAGE_SIZE },
		      { END - PAGE_SIZE, PAGE_SIZE },
		      { ELSEWHERE, 2 * PAGE_SIZE },
		      { CODE, PAGE_SIZE } };

struct group_end {
	enum exit_reason why;
	u64 gpr[NR_GPR], flags, translations;
	struct fpu fpu;
	u8 memory[6 * PAGE_SIZE];
};

/* Neighbouring pages are not neighbours in memory. */
static void map_apart(struct flat *f)
{
	u64 *pd = (u64 *)(f->mem + MEM - PAGE_SIZE), *pt = (u64 *)(f->mem + TABLE); /* see flat_long() */

	pd[0] = TABLE | 7;
	pd[1] = 0;
	for (u64 n = 0; n < 512; n++)
		pt[n] = n << PAGE_SHIFT | 7;
	pt[RO >> PAGE_SHIFT] = RO | 5;
	pt[(DATA >> PAGE_SHIFT) + 1] = ELSEWHERE | 7;
	pt[STACK >> PAGE_SHIFT] = (ELSEWHERE + PAGE_SIZE) | 7;
}

/* All pages are in the soft TLB, for writing, before. */
static void run_group_case(u64 at, u64 rsi, u64 rsp, u32 heat, struct group_end *end)
{
	static const u64 pages[] = { DATA, DATA + PAGE_SIZE, STACK - PAGE_SIZE, STACK, END - PAGE_SIZE };
	struct flat *f = translating(heat);
	struct cpu *c = &f->cpu;
	u8 *to = end->memory;
	u64 v;

	map_apart(f);
	f->mem[CODE] = 0xf4;
	c->gpr[R_RIP] = CODE;
	run_to_hlt(f);
	for (unsigned n = 0; n < ARRAY_SIZE(pages); n++) {
		for (u64 k = 0; k < PAGE_SIZE; k += 8) {
			v = (pages[n] + k) * 0x9e3779b97f4a7c15;
			assert_int_equal(mem_write(c, SEG_DS, pages[n] + k, &v, 8), ST_OK);
		}
	}
	assert_int_equal(mem_read(c, SEG_DS, RO, &v, 8), ST_OK);
	LOAD(f, CODE, group_cases);
	code_serialize(c);
	for (unsigned n = 0; n < 16; n++)
		c->gpr[n] = n * 0x1111111111111111u + 3;
	c->gpr[RSI] = c->gpr[R13] = rsi;
	c->gpr[R8] = STACK + 64;
	c->gpr[RSP] = rsp;
	c->gpr[R_RIP] = at;
	end->why = interp_run(c);
	memcpy(end->gpr, c->gpr, sizeof(end->gpr));
	end->gpr[R_BLOCK] = 0;
	end->flags = cpu_rflags(c);
	end->fpu = c->fpu;
	end->translations = c->stats.translations;
	for (unsigned n = 0; n < NR_PARTS; n++) {
		memcpy(to, f->mem + parts[n].at, parts[n].bytes);
		to += parts[n].bytes;
	}
	flat_free(f);
}

static void groups_of_accesses(void **state)
{
	static const u64 places[] = { DATA + 64,   DATA + 4088, DATA + 4080, DATA + 4074,
				      DATA + 4096, END - 24,    END - 8,     RO + 64 };
	struct group_end *end = calloc(2, sizeof(*end));
	u64 translations = 0;

	(void)state;
	flat_free(NEW(1));
	for (u64 at = CODE; at < CODE + (u64)(group_cases_end - group_cases); at += 64) {
		for (unsigned n = 0; n < 5 * ARRAY_SIZE(places); n++) {
			for (u32 heat = 0; heat < 2; heat++)
				run_group_case(at, places[n / 5], STACK - 16 + n % 5 * 8, heat, &end[heat]);
			translations += end[1].translations;
			end[1].translations = end[0].translations;
			if (memcmp(&end[0], &end[1], sizeof(end[0])))
				fail_msg("case %u at %llx", (unsigned)(at - CODE) / 64,
					 (unsigned long long)places[n / 5]);
		}
	}
	assert_true(translations > 100);
	free(end);
}

/* A frame across two pages, all the time: its block is made anew, without a group, and stays so. */
PROGRAM(frames,
	"mov $100000, %ecx; 1: push %rax; push %rcx; push %rdx; pop %rbx; pop %rbx; pop %rbx; dec %ecx; jnz 1b; hlt");

static void a_group_across_pages(void **state)
{
	struct flat *f = NEW(1);

	(void)state;
	LOAD(f, CODE, frames);
	f->cpu.gpr[RSP] = STACK + 16;
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RSP], STACK + 16);
	assert_int_equal(block_find(code_page_find(f->cpu.code, f->mem + CODE), CODE % PAGE_SIZE + 5, DECODE_64)->apart,
			 1);
	assert_in_range(f->cpu.stats.translations, 3, 6);
	flat_free(f);
}

/* More code than there is room for: all of it is forgotten, and begun anew. */
static void the_arena_is_full(void **state)
{
	struct flat *f = NEW(1);
	struct cpu *c = &f->cpu;
	unsigned at = 0x40000;

	(void)state;
	c->code->host_size = c->code->host_floor + 4 * TRANSLATE_ROOM;
	for (unsigned n = 0; n < 20000; n++) { /* inc rax; jmp +1; int3 */
		static const u8 piece[] = { 0x48, 0xff, 0xc0, 0xeb, 0x01, 0xcc };

		memcpy(f->mem + at, piece, sizeof(piece));
		at += sizeof(piece);
	}
	f->mem[at] = 0xf4;
	for (unsigned round = 1; round <= 2; round++) {
		c->gpr[R_RIP] = 0x40000;
		run_to_hlt(f);
		assert_int_equal(c->gpr[RAX], 20000 * round);
	}
	assert_true(c->code->host_used <= c->code->host_size);
	assert_in_range(c->stats.translations, 20000, 45000);
	flat_free(f);
}

/* KVM_RUN ends soon after a poll says so, from a loop that never leaves translated code by itself. */
static bool stop(void *ctx)
{
	unsigned *polls = ctx;

	return ++*polls == 3;
}

PROGRAM(endless, "1: inc %rax; jmp 1b");

static void an_endless_loop_is_polled(void **state)
{
	static const struct cpu_host host = { .poll = stop };
	struct flat *f = NEW(1);
	unsigned polls = 0;

	(void)state;
	f->cpu.host = &host;
	f->cpu.host_ctx = &polls;
	LOAD(f, CODE, endless);
	assert_int_equal(interp_run(&f->cpu), EXIT_INTR);
	assert_in_range(f->cpu.gpr[RAX], 8000, 8200);
	assert_int_equal(f->cpu.gpr[R_RIP], CODE);
	cpu_attn(&f->cpu, ATTN_KICK);
	assert_int_equal(interp_run(&f->cpu), EXIT_INTR);
	assert_int_equal(polls, 3);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loop),
		cmocka_unit_test(between_pages),
		cmocka_unit_test(code_that_writes_itself),
		cmocka_unit_test(code_that_the_client_writes),
		cmocka_unit_test(a_fault_in_the_middle),
		cmocka_unit_test(memory_is_lost),
		cmocka_unit_test(floating_point_state),
		cmocka_unit_test(an_operand_wider_than_its_result),
		cmocka_unit_test(flags_before_avx_that_traps),
		cmocka_unit_test(x87_state),
		cmocka_unit_test(flags_that_a_fault_shows),
		cmocka_unit_test(groups_of_accesses),
		cmocka_unit_test(a_group_across_pages),
		cmocka_unit_test(the_arena_is_full),
		cmocka_unit_test(an_endless_loop_is_polled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
