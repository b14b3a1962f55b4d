// SPDX-License-Identifier: MIT
/* Details in which the bare CPU corrected the engine: a test for each difference that tests/insn has found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"

#include "exec.h"

#define MEM (8ull << 20)
#define CODE 0x1000u
#define DATA 0x200000u
#define GDT 0x3000u
#define HOLE 0x400000u /* the 2 MiB page there is not present */

/* 64-bit mode at CPL 3. */
static struct flat *user_new(void)
{
	struct flat *f = flat_new(MEM);
	struct cpu *c = &f->cpu;

	flat_long(f, CODE);
	*(u64 *)(f->mem + f->size - PAGE_SIZE + 8 * (HOLE >> 21)) = 0;
	c->cr0 |= CR0_AM;
	flat_seg(c, SEG_CS, 0x33, 0, 0xffffffff, 0xa0fb);
	flat_seg(c, SEG_SS, 0x2b, 0, 0xffffffff, 0xc0f3);
	c->gdt = (struct dtable){ GDT, 0x7f };
	c->gpr[RSP] = DATA + 0x8000;
	cpu_set_rflags(c, FL_IF);
	cpu_update_mode(c);
	tlb_flush(c);
	return f;
}

static void set_vendor(struct cpu *c, u64 vendor)
{
	c->feat = (c->feat & ~(FEAT_AMD | FEAT_INTEL)) | vendor;
}

static void put(struct flat *f, u64 at, const void *data, size_t n)
{
	memcpy(f->mem + at, data, n);
}

/* ---- #AC ---- */

static void set_ac(struct flat *f)
{
	cpu_set_rflags(&f->cpu, FL_IF | FL_AC);
}

#define assert_ac(...) assert_fault(f, EXEC(f, __VA_ARGS__), VEC_AC, 0)

static void vectors_and_x87_images_are_checked_for_alignment(void **state)
{
	struct flat *f = user_new();

	(void)state;
	f->cpu.gpr[RBX] = DATA + 8;
	assert_int_equal(EXEC(f, 0x0f, 0x10, 0x03), ST_OK); /* movups xmm0, [rbx] */
	set_ac(f);
	assert_ac(0x0f, 0x10, 0x03);
	assert_int_equal(EXEC(f, 0xdb, 0x2b), ST_OK); /* fld tbyte [rbx]: 8 bytes suffice */
	f->cpu.gpr[RBX] = DATA + 4;
	assert_ac(0xdb, 0x2b);
	assert_int_equal(EXEC(f, 0xd9, 0x33), ST_OK); /* fnstenv [rbx]: double words */
	f->cpu.gpr[RBX] = DATA + 2;
	assert_ac(0xd9, 0x33);
	assert_int_equal(EXEC(f, 0x66, 0xd9, 0x33), ST_OK);
	f->cpu.gpr[RBX] = DATA + 54; /* ten bytes of it before a cache line's end, which are no operand */
	assert_int_equal(EXEC(f, 0x66, 0xd9, 0x33), ST_OK);
	assert_int_equal(EXEC(f, 0x66, 0xd9, 0x23), ST_OK); /* fldenv */
	assert_ac(0xdd, 0x33); /* fnsave */
	assert_ac(0x0f, 0xae, 0x03); /* fxsave, which otherwise is #GP */
	f->cpu.gpr[RBX] = DATA + 4;
	assert_fault(f, EXEC(f, 0x0f, 0xae, 0x03), VEC_GP, 0);
	flat_free(f);
}

static void alignment_comes_before_the_page(void **state)
{
	struct flat *f = user_new();

	(void)state;
	f->cpu.gpr[RBX] = HOLE + 1;
	set_ac(f);
	assert_ac(0x0f, 0x10, 0x03);
	assert_ac(0x48, 0x8b, 0x03); /* mov rax, [rbx] */
	flat_free(f);
}

static void enter_checks_the_alignment_of_its_new_stack(void **state)
{
	struct flat *f = user_new();

	(void)state;
	set_ac(f);
	assert_ac(0xc8, 0x01, 0x00, 0x00);
	assert_int_equal(EXEC(f, 0xc8, 0x08, 0x00, 0x00), ST_OK);
	flat_free(f);
}

static void masked_moves_and_gathers_have_no_alignment(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	if (!(c->xcr0_allowed & XC_AVX) || !__builtin_cpu_supports("avx2")) { /* F16C came before */
		flat_free(f);
		skip();
	}
	c->cr4 |= CR4_OSXSAVE;
	c->fpu.xcr0 = XC_X87 | XC_SSE | XC_AVX;
	cpu_update_mode(c);
	set_ac(f);
	c->gpr[RBX] = DATA + 1;
	memset(c->fpu.vec[0], 0xff, 16); /* the mask */
	assert_int_equal(EXEC(f, 0xc4, 0xe2, 0x79, 0x2c, 0x0b), ST_OK); /* vmaskmovps xmm1, xmm0, [rbx] */
	assert_int_equal(EXEC(f, 0xc4, 0xe2, 0x79, 0x90, 0x0c, 0x13), ST_OK); /* vpgatherdd xmm1, [rbx+xmm2] */
	flat_free(f);
}

static void a_faulting_vcvtps2ph_leaves_mxcsr(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	if (!(c->xcr0_allowed & XC_AVX) || !__builtin_cpu_supports("avx2")) { /* F16C came before */
		flat_free(f);
		skip();
	}
	c->cr4 |= CR4_OSXSAVE | CR4_OSXMMEXCPT;
	c->fpu.xcr0 = XC_X87 | XC_SSE | XC_AVX;
	cpu_update_mode(c);
	c->gpr[RBX] = HOLE;
	memset(c->fpu.vec[0], 0x01, 16); /* tiny: inexact */
	for (unsigned masked = 0; masked < 2; masked++) {
		c->fpu.mxcsr = masked ? MXCSR_INIT : MXCSR_INIT & ~0x1000u;
		assert_int_equal(EXEC(f, 0xc4, 0xe3, 0x79, 0x1d, 0x03, 0x00), ST_FAULT); /* vcvtps2ph [rbx], xmm0, 0 */
		assert_int_equal(c->fault.vector, VEC_PF);
		assert_int_equal(c->fpu.mxcsr & MXCSR_FLAGS, 0);
	}
	flat_free(f);
}

/* ---- memory operands ---- */

static void a_masked_store_is_all_or_nothing(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	memset(c->fpu.vec[0], 0xff, 16);
	c->gpr[RDI] = HOLE - 8;
	assert_int_equal(EXEC(f, 0x66, 0x0f, 0xf7, 0xc0), ST_FAULT); /* maskmovdqu xmm0, xmm0 */
	assert_int_equal(c->fault.vector, VEC_PF);
	assert_int_equal(f->mem[HOLE - 8], 0);
	memset(c->fpu.vec[0], 0, 16); /* nothing to store: the page has to be there all the same */
	assert_int_equal(EXEC(f, 0x66, 0x0f, 0xf7, 0xc0), ST_FAULT);
	c->fpu.ftw = 0xff;
	memset(c->fpu.st[0], 0xff, 8);
	c->gpr[RDI] = HOLE - 4;
	assert_int_equal(EXEC(f, 0x0f, 0xf7, 0xc0), ST_FAULT); /* maskmovq mm0, mm0 */
	assert_int_equal(f->mem[HOLE - 4], 0);
	flat_free(f);
}

static void an_x87_store_that_stores_nothing_needs_its_memory(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	c->gpr[RBX] = HOLE;
	c->fpu.fcw = FCW_INIT & ~FSW_IE; /* the empty stack is an unmasked exception */
	assert_int_equal(EXEC(f, 0xdb, 0x13), ST_FAULT); /* fist dword [rbx] */
	assert_int_equal(c->fault.vector, VEC_PF);
	assert_int_equal(c->fpu.fsw & FSW_ES, 0);
	c->gpr[RBX] = DATA;
	assert_int_equal(EXEC(f, 0xdb, 0x13), ST_OK);
	assert_int_equal(c->fpu.fsw & FSW_ES, FSW_ES);
	flat_free(f);
}

static void fxrstor_reads_512_bytes_and_names_the_stack_first(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	c->gpr[RBX] = HOLE - 432;
	assert_int_equal(EXEC(f, 0x0f, 0xae, 0x0b), ST_FAULT);
	assert_int_equal(c->fault.vector, VEC_PF);
	assert_int_equal(EXEC(f, 0x0f, 0xae, 0x03), ST_FAULT); /* and fxsave writes them */
	assert_int_equal(c->fault.vector, VEC_PF);
	c->gpr[RSP] = 0x8000000000000001; /* neither canonical nor aligned */
	assert_fault(f, EXEC(f, 0x0f, 0xae, 0x04, 0x24), VEC_SS, 0);
	assert_fault(f, EXEC(f, 0x0f, 0x28, 0x04, 0x24), VEC_GP, 0); /* movaps is the other way round */
	flat_free(f);
}

/* ---- ports ---- */

static void a_string_of_no_elements_needs_the_port(void **state)
{
	struct flat *f = user_new();

	(void)state;
	f->cpu.seg[SEG_TR].limit = 0x67;
	f->mem[102] = 0x68; /* no I/O permission bitmap */
	f->cpu.gpr[RCX] = 0;
	assert_fault(f, EXEC(f, 0xf3, 0x6e), VEC_GP, 0); /* rep outsb */
	assert_fault(f, EXEC(f, 0xf3, 0x6c), VEC_GP, 0);
	flat_free(f);
}

/* ---- segments ---- */

static void lar_shows_the_high_bits_of_the_limit(void **state)
{
	struct flat *f = user_new();

	(void)state;
	*(u64 *)(f->mem + GDT + 0x28) = 0x00cff3000000ffff;
	f->cpu.gpr[RAX] = 0x2b;
	assert_int_equal(EXEC(f, 0x0f, 0x02, 0xc0), ST_OK);
	assert_int_equal(f->cpu.gpr[RAX], 0xcff300);
	flat_free(f);
}

static void rex_w_far_pointers_are_intels(void **state)
{
	static const u8 pointer[10] = { 0x44, 0x33, 0x22, 0x11, 0x2b, 0, 0, 0, 0x2b, 0 };
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;
	struct io_access *a;
	int st;

	(void)state;
	*(u64 *)(f->mem + GDT + 0x28) = 0x00cff3000000ffff;
	put(f, DATA, pointer, sizeof(pointer));
	c->gpr[RBX] = DATA;
	set_vendor(c, FEAT_INTEL);
	assert_int_equal(EXEC(f, 0x48, 0x0f, 0xb5, 0x03), ST_OK); /* lgs rax, [rbx] */
	assert_true(c->gpr[RAX] == 0x2b11223344);
	set_vendor(c, FEAT_AMD);
	assert_int_equal(EXEC(f, 0x48, 0x0f, 0xb5, 0x03), ST_OK);
	assert_int_equal(c->gpr[RAX], 0x11223344);
	/* From a device the kernel's KVM reads it, the same way for both. */
	c->gpr[RBX] = MEM;
	while ((st = EXEC(f, 0x48, 0x0f, 0xb5, 0x03)) == ST_EXIT) {
		a = &c->io.acc[c->io.n - 1];
		memcpy(&a->data, pointer + (a->gpa - MEM), a->len);
		a->answered = true;
	}
	assert_int_equal(st, ST_OK);
	assert_true(c->gpr[RAX] == 0x2b11223344);
	flat_free(f);
}

/* ---- x87 ---- */

static void fcomi_leaves_c1_on_amd(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	assert_int_equal(EXEC(f, 0xd9, 0xe8), ST_OK); /* fld1 */
	c->fpu.fsw |= FSW_C1;
	set_vendor(c, FEAT_AMD);
	assert_int_equal(EXEC(f, 0xdb, 0xf0), ST_OK);
	assert_int_equal(c->fpu.fsw & FSW_C1, FSW_C1);
	set_vendor(c, FEAT_INTEL);
	assert_int_equal(EXEC(f, 0xdb, 0xf0), ST_OK);
	assert_int_equal(c->fpu.fsw & FSW_C1, 0);
	flat_free(f);
}

static void fnop_and_stack_operands_are_remembered(void **state)
{
	struct flat *f = user_new();
	struct cpu *c = &f->cpu;

	(void)state;
	assert_int_equal(EXEC(f, 0xd9, 0xd0), ST_OK);
	assert_int_equal(c->fpu.fip, CODE);
	assert_int_equal(c->fpu.fop, 0x1d0);
	assert_int_equal(EXEC(f, 0xd9, 0x04, 0x24), ST_OK); /* fld dword [rsp] */
	assert_int_equal(c->fpu.fds, 0x2b);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_and_x87_images_are_checked_for_alignment),
		cmocka_unit_test(alignment_comes_before_the_page),
		cmocka_unit_test(enter_checks_the_alignment_of_its_new_stack),
		cmocka_unit_test(masked_moves_and_gathers_have_no_alignment),
		cmocka_unit_test(a_faulting_vcvtps2ph_leaves_mxcsr),
		cmocka_unit_test(a_masked_store_is_all_or_nothing),
		cmocka_unit_test(an_x87_store_that_stores_nothing_needs_its_memory),
		cmocka_unit_test(fxrstor_reads_512_bytes_and_names_the_stack_first),
		cmocka_unit_test(a_string_of_no_elements_needs_the_port),
		cmocka_unit_test(lar_shows_the_high_bits_of_the_limit),
		cmocka_unit_test(rex_w_far_pointers_are_intels),
		cmocka_unit_test(fcomi_leaves_c1_on_amd),
		cmocka_unit_test(fnop_and_stack_operands_are_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
