// SPDX-License-Identifier: MIT
/*
 * x87, MMX, SSE and AVX handlers against the bare CPU: every encoding of these families runs with random and corner
 * operands natively and in the interpreter; registers, flags, exceptions and memory must be the same.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <ucontext.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "mem/map.h"

#include "flat.h"
#include "insn/feature.h"

#define MEM (4ull << 20)
#define DATA 0x200000u   /* of the guest and of this process: the memory operands */
#define DATA_SIZE 0x1000u
#define FRAME 0x10000000 /* struct frame, and code behind it */
#define CODE (FRAME + 0x1000)

/* What the native run starts with and ends with. The offsets are in run_native(). */
struct frame {
	u8 fx[1024]; /* an XSAVE area */
	u64 gpr[16];
	u64 flags, host_rsp, back, code;
	u32 mxcsr, pad;
	int trap;
};
_Static_assert(offsetof(struct frame, flags) == 1152 && offsetof(struct frame, mxcsr) == 1184, "run_native()");

#define UPPER 576 /* in an XSAVE area: the upper halves of the YMM registers */

static struct frame *frame;
static bool have_ymm;
static u8 *native_data;
static sigjmp_buf trapped;

static void on_trap(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;

	(void)sig;
	(void)info;
	frame->trap = uc->uc_mcontext.gregs[REG_TRAPNO];
	memcpy(frame->fx, uc->uc_mcontext.fpregs, UPPER + 256);
	/* Components in their initial state are not stored. */
	if (!(frame->fx[512] & XC_AVX))
		memset(frame->fx + UPPER, 0, 256);
	siglongjmp(trapped, 1);
}

#define AT(off) "0x10000000+" #off
#define EACH_GPR(X)                                                                                                    \
	X(rax, 0) X(rcx, 1) X(rdx, 2) X(rbx, 3) X(rbp, 5) X(rsi, 6) X(rdi, 7) X(r8, 8) X(r9, 9) X(r10, 10)             \
	X(r11, 11) X(r12, 12) X(r13, 13) X(r14, 14) X(r15, 15)
#define LOAD_GPR(r, n) "movq " AT(1024 + 8 * n) ", %%" #r "\n\t"
#define SAVE_GPR(r, n) "movq %%" #r ", " AT(1024 + 8 * n) "\n\t"

static void run_native(void)
{
	static const u16 cw = 0x37f;

	frame->trap = 0;
	asm volatile("stmxcsr " AT(1184));
	if (!sigsetjmp(trapped, 1))
		asm volatile("pushq %%rbx; pushq %%rbp; pushq %%r12; pushq %%r13; pushq %%r14; pushq %%r15\n\t"
			     "movq %%rsp, " AT(1160) "\n\t"
			     "movq %%rsp, " AT(1024 + 8 * 4) "\n\t"
			     "leaq 1f(%%rip), %%rax; movq %%rax, " AT(1168) "\n\t"
			     "movl $7, %%eax; xorl %%edx, %%edx; xrstor64 " AT(0) "\n\t"
			     "pushq " AT(1152) "; popfq\n\t"
			     EACH_GPR(LOAD_GPR)
			     "jmp *" AT(1176) "\n"
			     "1:\n\t"
			     EACH_GPR(SAVE_GPR)
			     "movq %%rsp, " AT(1024 + 8 * 4) "\n\t"
			     "movq " AT(1160) ", %%rsp\n\t"
			     "pushfq; popq " AT(1152) "\n\t"
			     "movl $7, %%eax; xorl %%edx, %%edx; xsave64 " AT(0) "\n\t"
			     "popq %%r15; popq %%r14; popq %%r13; popq %%r12; popq %%rbp; popq %%rbx\n\t"
			     : : : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	asm volatile("fninit; fldcw %0; ldmxcsr " AT(1184) : : "m"(cw));
	if (have_ymm)
		asm volatile("vzeroupper");
}

/* To be called by each test: cmocka has handlers of its own around them. */
static void catch_traps(void)
{
	static const int sigs[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS };
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	for (unsigned n = 0; n < ARRAY_SIZE(sigs); n++)
		sigaction(sigs[n], &sa, NULL);
}

static void native_init(void)
{
	static u8 stack[1 << 16];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	frame = mmap((void *)FRAME, 0x2000, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	native_data = mmap((void *)(u64)DATA, DATA_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(frame, (void *)FRAME);
	assert_ptr_equal(native_data, (void *)(u64)DATA);
	frame->code = CODE;
	have_ymm = cpuid_host_has_ymm();
	sigaltstack(&ss, NULL);
}

/* ---- random states ---- */

static u64 seed = 1;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull;
}

static bool one_in(unsigned n)
{
	return rnd() % n == 0;
}

static void rnd_float(u8 *p)
{
	static const u32 corner[] = {
		0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
		0x7fa00000, 0xffc12345, 1, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000,
		0x4effffff, 0xcf000000, 0x3f000000, 0x40490fdb, 0x5f000000, 0x00400000,
	};
	u32 v = one_in(2) ? corner[rnd() % ARRAY_SIZE(corner)] : (u32)rnd();

	memcpy(p, &v, 4);
}

static void rnd_double(u8 *p)
{
	static const u64 corner[] = { 0, 1ull << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
				      0xfff0000000000000, 0x7ff8000000000000, 0x7ff4000000000000, 0xfff8123456789abc, 1,
				      0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x41e0000000000000,
				      0x41dfffffffc00000, 0xc1e0000000000000, 0x43e0000000000000, 0x3fe0000000000000,
				      0x400921fb54442d18, 0x36a0000000000000, 0x3810000000000000, 0x0008000000000000 };
	u64 v = one_in(2) ? corner[rnd() % ARRAY_SIZE(corner)] : rnd();

	if (one_in(4))
		v = 0x3ff0000000000000 + (rnd() >> 6); /* of usual size */
	memcpy(p, &v, 8);
}

static void rnd_vec(u8 *p)
{
	unsigned kind = rnd() % 3;

	for (unsigned n = 0; n < 16; n += 8) {
		u64 q = one_in(4) ? rnd() & 0x0101ff00ff807f00 : rnd();

		memcpy(p + n, &q, 8);
	}
	for (unsigned n = 0; kind == 1 && n < 16; n += 4)
		rnd_float(p + n);
	for (unsigned n = 0; kind == 2 && n < 16; n += 8)
		rnd_double(p + n);
}

/* All kinds of 80-bit values, also those that no CPU since the 287 makes. */
static void rnd_st(u8 *p)
{
	static const u16 exps[] = { 0,      0,      1,      0x3fff, 0x3ffe, 0x4000, 0x3fbf,
				    0x401e, 0x403e, 0x403f, 0x7ffe, 0x7fff, 0x7fff };
	static const u64 mans[] = { 0, 1ull << 63, 1ull << 62, 3ull << 62, ~0ull, 1, (1ull << 63) | 1 };
	u16 exp = one_in(2) ? exps[rnd() % ARRAY_SIZE(exps)] : one_in(2) ? 0x3fff - 20 + rnd() % 40 : rnd() & 0x7fff;
	u64 man = one_in(3) ? mans[rnd() % ARRAY_SIZE(mans)] : rnd() | (one_in(8) ? 0 : 1ull << 63);

	exp |= one_in(2) ? 0x8000 : 0;
	memset(p, 0, 16);
	memcpy(p, &man, 8);
	memcpy(p + 8, &exp, 2);
}

static void rnd_x87(u8 *fx)
{
	u16 cw = 0x37f, sw = (rnd() & 7) << 11;
	u8 ftw = one_in(2) ? 0xff : rnd();

	if (one_in(2))
		cw = 0x7f | (rnd() & 0xf00);
	if (one_in(4))
		cw = (cw & ~0x3f) | (rnd() & 0x3f);
	sw |= rnd() & 0x4700;
	if (one_in(2))
		sw |= rnd() & 0x7f;
	if (!one_in(16))
		sw &= ~(~cw & 0x3f); /* nothing pending */
	memset(fx, 0, 32);
	memcpy(fx, &cw, 2);
	memcpy(fx + 2, &sw, 2);
	fx[4] = ftw;
	for (unsigned n = 0; n < 8; n++)
		rnd_st(fx + 32 + 16 * n);
}

static void rnd_state(struct frame *s)
{
	u32 mxcsr = 0x1f80;

	rnd_x87(s->fx);
	if (one_in(2))
		mxcsr |= (rnd() & 0xe040) | (rnd() & 0x3f);
	if (one_in(4))
		mxcsr = (mxcsr & ~0x1f80) | (rnd() & 0x1f80);
	memcpy(s->fx + 24, &mxcsr, 4);
	for (unsigned n = 0; n < 16; n++) {
		rnd_vec(s->fx + 160 + 16 * n);
		rnd_vec(s->fx + UPPER + 16 * n);
	}
	memset(s->fx + 512, 0, 64);
	s->fx[512] = have_ymm ? 7 : 3;
	for (unsigned n = 0; n < 16; n++)
		s->gpr[n] = one_in(3) ? rnd() % 40 - 20 : rnd();
	s->gpr[RBX] = DATA + 64;
	if (one_in(8))
		s->gpr[RBX] += 1 + rnd() % 15;
	s->gpr[RDI] = DATA + 100;
	s->flags = 2 | (rnd() & FL_STATUS);
}

static void rnd_memory(u8 *p)
{
	for (unsigned n = 0; n < 256; n += 16) {
		if (one_in(3))
			rnd_st(p + n);
		else
			rnd_vec(p + n);
	}
	for (unsigned n = 0; n < 10 && one_in(2); n++)
		p[64 + n] = (rnd() % 10) | (rnd() % 10) << 4; /* BCD */
}

/* Indices for a gather from memory around RBX; now and then one of them is where nothing is. */
static void rnd_indices(const struct insn *i, u8 *fx)
{
	bool quads = i->opcode & 1;

	for (unsigned k = 0; k < (quads ? 4 : 8); k++) {
		unsigned at = k << (quads ? 3 : 2);
		u8 *p = at < 16 ? fx + 160 + 16 * i->index + at : fx + UPPER + 16 * i->index + at - 16;
		s64 v = (s64)(rnd() % 160) - 40;

		v = one_in(20) ? 0x70000000 : v >> i->scale;
		memcpy(p, &v, quads ? 8 : 4);
	}
}

/* ---- the comparison ---- */

static struct flat *guest;
static unsigned runs, traps;

static void make_guest(const struct frame *s)
{
	struct cpu *c = &guest->cpu;

	memcpy(c->gpr, s->gpr, sizeof(s->gpr));
	fpu_from_fxsave(&c->fpu, s->fx);
	xcomp_get(&c->fpu, 2, s->fx + UPPER, 16);
	c->cc = s->flags & FL_STATUS;
	c->gpr[R_RIP] = 0x1000;
}

/* FIP and FDP in memory are not compared: the CPUs do not agree on when they are stored. */
static void forget_pointers(const struct insn *i, u8 *env)
{
	if (i->op != OP_fnstenv && i->op != OP_fnsave)
		return;
	if (i->size == SZ_16)
		memset(env + 6, 0, 8);
	else
		memset(env + 12, 0, 16);
}

/* No upper half of a YMM register is in use: SSE code of the client's would suffer from it. */
#define OR_UPPER(n) "vextractf128 $1, %%ymm" #n ", %%xmm0; vorps %0, %%xmm0, %%xmm0; vmovaps %%xmm0, %0\n\t"
static void check_upper(void)
{
	u64 any[2] __attribute__((aligned(16))) = { 0 };

	asm volatile(OR_UPPER(0) OR_UPPER(1) OR_UPPER(2) OR_UPPER(3) OR_UPPER(4) OR_UPPER(5) OR_UPPER(6) OR_UPPER(7)
		     : "+m"(any) : : "xmm0");
	assert_int_equal(any[0] | any[1], 0);
}

/* A handler leaves the host's x87 and MXCSR as the client has them, but for sticky flags. */
static void check_host(void)
{
	u16 env[14];
	u32 mxcsr;

	asm volatile("fnstenv %0; fldenv %0; stmxcsr %1" : "=m"(env), "=m"(mxcsr));
	assert_int_equal(env[0], FCW_INIT);
	assert_int_equal(env[4], 0xffff);
	assert_int_equal(mxcsr & ~MXCSR_FLAGS, frame->mxcsr & ~MXCSR_FLAGS);
}

/* What differs between Intel and AMD, or is known not to be exact. */
static void tolerate(const struct insn *i, u8 *native, u8 *ours)
{
	bool post = frame->trap == VEC_XM && (native[24] & ~(native[24] >> 7 | native[25] << 1) & 0x18);

	switch (i->op) {
	case OP_fcomi:
	case OP_fcomip:
	case OP_fucomi:
	case OP_fucomip:
		/* C1: cleared (SDM) or kept (AMD). */
		native[3] &= ~2;
		ours[3] &= ~2;
		break;
	case OP_dpps:
	case OP_dppd:
	case OP_vdpps:
	case OP_vdppd:
		/* Several steps, of which the first one with an unmasked exception ends it. */
		if (frame->trap == VEC_XM)
			native[24] = ours[24] = 0;
		break;
	}
	/* Beside an unmasked underflow, PE is that of the denormal result. */
	if (post) {
		native[24] &= ~0x20;
		ours[24] &= ~0x20;
	}
}

static void mask_fx(u8 *fx)
{
	memset(fx + 6, 0, 18);
	memset(fx + 28, 0, 4);
	for (unsigned n = 0; n < 8; n++)
		memset(fx + 32 + 16 * n + 10, 0, 6);
	memset(fx + 416, 0, UPPER - 416);
}

static void dump(const char *what, const u8 *p, unsigned n)
{
	print_message("  %-8s", what);
	while (n--)
		print_message("%02x ", *p++);
	print_message("\n");
}

static bool failed_before[NR_OPS];
static unsigned failures;

/* The first difference of each operation is told. */
static void report(const struct insn *i, const u8 *code, const struct frame *before, const u8 *mem, const u8 *native,
		   const u8 *ours, const char *what)
{
	unsigned top = before->fx[3] >> 3 & 7;

	failures++;
	if (failed_before[i->op])
		return;
	failed_before[i->op] = true;
	print_message("%s: %s differs\n", insn_op_name(i->op), what);
	dump("code", code, i->len);
	dump("memory", mem + (before->gpr[RBX] - DATA), 16);
	print_message("  top %u; native: trap %d, flags %lx; ours: fault %d, flags %lx\n", top, frame->trap,
		      (unsigned long)(frame->flags & FL_STATUS), guest->cpu.fault.vector,
		      (unsigned long)(guest->cpu.cc & FL_STATUS));
	for (unsigned n = 0; n < UPPER + 256; n += 16)
		if (n < 32 || memcmp(native + n, ours + n, 16)) {
			print_message("  at %u\n", n);
			dump("before", before->fx + n, 16);
			dump("native", native + n, 16);
			dump("ours", ours + n, 16);
		}
}

static void compare(const struct insn *i, const u8 *code)
{
	static struct frame before;
	static u8 ours[1024], native[1024], mem[256];
	struct cpu *c = &guest->cpu;
	int st;

	rnd_memory(native_data);
	memcpy(mem, native_data, sizeof(mem));
	memcpy(guest->mem + DATA, mem, sizeof(mem));
	rnd_state(frame);
	if (i->op >= OP_vpgatherdd && i->op <= OP_vgatherqpd)
		rnd_indices(i, frame->fx);
	before = *frame;

	run_native();
	before.gpr[RSP] = frame->host_rsp;
	if (frame->trap)
		frame->gpr[RSP] = frame->host_rsp;
	make_guest(&before);
	c->gpr[R_RIP] += i->len;
	c->fault.vector = 0;
	st = i->fn(c, i);
	if (have_ymm)
		check_upper();
	check_host();
	runs++;
	traps += frame->trap != 0;

	fpu_to_fxsave(&c->fpu, ours);
	xcomp_put(&c->fpu, 2, ours + UPPER, 16);
	memcpy(native, frame->fx, UPPER + 256);
	mask_fx(native);
	mask_fx(ours);
	tolerate(i, native, ours);
	if (st != ST_OK && st != ST_FAULT)
		report(i, code, &before, mem, native, ours, "status");
	if (frame->trap != (st == ST_FAULT ? c->fault.vector : 0))
		report(i, code, &before, mem, native, ours, "trap");
	if (memcmp(native, ours, UPPER + 256))
		report(i, code, &before, mem, native, ours, "state");
	forget_pointers(i, native_data + before.gpr[RBX] - DATA);
	forget_pointers(i, guest->mem + before.gpr[RBX]);
	if (memcmp(native_data, guest->mem + DATA, 256))
		report(i, code, &before, mem, native, ours, "memory");
	if (frame->trap)
		return;
	if (memcmp(c->gpr, frame->gpr, sizeof(frame->gpr)))
		report(i, code, &before, mem, native, ours, "registers");
	if ((c->cc ^ frame->flags) & FL_STATUS)
		report(i, code, &before, mem, native, ours, "flags");
}

/* ---- all encodings ---- */

static bool of_family(const struct insn *i)
{
	switch (i->feature) {
	case FEATURE_FPU:
	case FEATURE_MMX:
	case FEATURE_SSE:
	case FEATURE_SSE2:
	case FEATURE_SSE3:
	case FEATURE_SSSE3:
	case FEATURE_SSE41:
	case FEATURE_SSE42:
	case FEATURE_AES:
	case FEATURE_PCLMUL:
	case FEATURE_SHA:
	case FEATURE_GFNI:
	case FEATURE_AVX:
	case FEATURE_AVX2:
	case FEATURE_FMA:
	case FEATURE_F16C:
	case FEATURE_VAES:
	case FEATURE_VPCLMUL:
		return true;
	default:
		return i->op == OP_fwait || (i->op >= OP_fcmovb && i->op <= OP_fcmovu) ||
		       (i->op >= OP_fcmovnb && i->op <= OP_fcomi) || i->op == OP_fcomip || i->op == OP_fucomip;
	}
}

/* What comes behind ModRM: a SIB byte with RBX as base, or the immediate, if there is one. */
static u8 rnd_behind(u8 modrm)
{
	return (modrm & 0xc7) == 4 ? (rnd() & 0xf8) | RBX : rnd();
}

static void one_encoding(const u8 *head, unsigned n, u8 modrm, unsigned rounds)
{
	u8 *code = (u8 *)CODE, back[] = { 0xff, 0x24, 0x25, 0, 0, 0, 0 };
	u32 where = FRAME + offsetof(struct frame, back);
	struct insn i;
	int len;

	memcpy(code, head, n);
	code[n] = modrm;
	code[n + 1] = rnd_behind(modrm);
	len = insn_decode(code, 15, DECODE_64, &i);
	if (len <= 0 || !of_family(&i))
		return;
	i.fn = interp_bind(&i);
	memcpy(back + 3, &where, 4);
	memcpy(code + len, back, sizeof(back));
	while (rounds--) {
		if (len == (int)n + 2) {
			code[n + 1] = rnd_behind(modrm);
			if (insn_decode(code, 15, DECODE_64, &i) <= 0) /* a gather's registers must differ */
				continue;
			i.fn = interp_bind(&i);
		}
		compare(&i, code);
	}
}

/* Registers 0-3 and 6 as r/m (the same one, others, not the stack pointer), and [rbx]. */
static void all_modrm(const u8 *head, unsigned n, unsigned rounds)
{
	for (unsigned reg = 0; reg < 8; reg++) {
		for (unsigned rm = 0; rm < 8; rm++)
			if (rm != 4 && reg != 4)
				one_encoding(head, n, 0xc0 | reg << 3 | rm, 1);
		if (reg == 4)
			one_encoding(head, n, 0xc0 | reg << 3 | 1, 4);
		one_encoding(head, n, reg << 3 | 3, rounds);
	}
}

static void simd_against_cpu(void **state)
{
	static const u8 prefixes[] = { 0, 0x66, 0xf3, 0xf2 };

	(void)state;
	runs = traps = failures = 0;
	catch_traps();
	for (unsigned map = 0; map < 3; map++)
		for (unsigned opcode = 0; opcode < 256; opcode++)
			for (unsigned p = 0; p < ARRAY_SIZE(prefixes) * 2; p++) {
				u8 head[5];
				unsigned n = 0;

				if (prefixes[p / 2])
					head[n++] = prefixes[p / 2];
				if (p & 1)
					head[n++] = 0x48;
				head[n++] = 0x0f;
				if (map)
					head[n++] = map == 1 ? 0x38 : 0x3a;
				head[n++] = opcode;
				if (!map && (opcode == 0x38 || opcode == 0x3a))
					continue;
				all_modrm(head, n, 8);
			}
	print_message("%u runs, %u of them trapped\n", runs, traps);
	assert_int_equal(failures, 0);
}

/* Map, opcode, W, L, pp; vvvv is random, or absent where it must be. Memory is [rbx], or [rbx + index] in gathers. */
static void vex_encoding(unsigned map, unsigned opcode, unsigned wlpp, bool memory, unsigned rounds)
{
	struct insn i;
	u8 modrm = memory ? 3 : 0xc0;
	u8 vex[6] = { 0xc4, 0xe0 | map, (wlpp & 8) << 4 | (wlpp & 7), opcode };

	/* Not the stack pointer, which a general register may be. */
	do
		modrm = (modrm & (memory ? 0xc7 : 0xc0)) | (rnd() & (memory ? 0x38 : 0x3f));
	while ((modrm >> 3 & 7) == 4 || (!memory && (modrm & 7) == 4));
	vex[1] ^= rnd() & 0x80;
	if (!memory)
		vex[1] ^= rnd() & 0x20;
	vex[2] |= (rnd() & 15) << 3;
	vex[4] = modrm;
	if (insn_decode(vex, 6, DECODE_64, &i) <= 0)
		vex[2] |= 0x78;
	if (memory && insn_decode(vex, 6, DECODE_64, &i) <= 0) {
		vex[2] = (vex[2] & ~0x78) | (rnd() & 15) << 3;
		vex[4] = (modrm & 0x38) | 4;
		one_encoding(vex, 4, vex[4], rounds);
		return;
	}
	one_encoding(vex, 4, modrm, rounds);
}

static void avx_against_cpu(void **state)
{
	(void)state;
	if (!have_ymm)
		skip();
	runs = traps = failures = 0;
	catch_traps();
	for (unsigned map = 1; map < 4; map++)
		for (unsigned opcode = 0; opcode < 256; opcode++)
			for (unsigned wlpp = 0; wlpp < 16; wlpp++)
				for (unsigned round = 0; round < 10; round++) {
					vex_encoding(map, opcode, wlpp, false, 5);
					vex_encoding(map, opcode, wlpp, true, 5);
				}
	print_message("%u runs, %u of them trapped\n", runs, traps);
	assert_int_equal(failures, 0);
}

static void x87_against_cpu(void **state)
{
	(void)state;
	runs = traps = failures = 0;
	catch_traps();
	for (u8 opcode = 0xd8; opcode != 0xe0; opcode++) {
		for (unsigned modrm = 0xc0; modrm < 0x100; modrm++)
			one_encoding(&opcode, 1, modrm, 40);
		for (unsigned reg = 0; reg < 8; reg++)
			one_encoding(&opcode, 1, reg << 3 | 3, 200);
	}
	print_message("%u runs, %u of them trapped\n", runs, traps);
	assert_int_equal(failures, 0);
}

static int setup(void **state)
{
	(void)state;
	native_init();
	guest = flat_new(MEM);
	flat_long(guest, 0x1000);
	guest->cpu.cr4 |= CR4_OSXSAVE;
	guest->cpu.fpu.xcr0 = 7;
	cpu_update_mode(&guest->cpu);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	flat_free(guest);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(x87_against_cpu),
		cmocka_unit_test(simd_against_cpu),
		cmocka_unit_test(avx_against_cpu),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
