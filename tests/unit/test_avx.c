// SPDX-License-Identifier: MIT
/* What AVX instructions owe to the system: who may execute them, faults of elements, restarts. Results: test_simd.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "mem/map.h"

#include "exec.h"

#define MEM (4ull << 20)
#define EDGE 0x200000ull   /* from here on nothing is mapped */
#define DEVICE 0x800000ull /* nor is there memory, but a device */

static struct flat *g;

#define VMOVAPS_LOAD 0xc5, 0xfc, 0x28, 0x03        /* vmovaps (%rbx), %ymm0 */
#define VMOVAPS_STORE 0xc5, 0xfc, 0x29, 0x03       /* vmovaps %ymm0, (%rbx) */
#define VMOVNTDQA 0xc4, 0xe2, 0x7d, 0x2a, 0x03     /* vmovntdqa (%rbx), %ymm0 */
#define VMOVUPS_LOAD 0xc5, 0xfc, 0x10, 0x03        /* vmovups (%rbx), %ymm0 */
#define VPADDD 0xc5, 0xed, 0xfe, 0x03              /* vpaddd (%rbx), %ymm2, %ymm0 */
#define VMASKMOV_LOAD 0xc4, 0xe2, 0x75, 0x2c, 0x03 /* vmaskmovps (%rbx), %ymm1, %ymm0 */
#define VMASKMOV_STORE 0xc4, 0xe2, 0x75, 0x2e, 0x03
#define VPGATHERDD 0xc4, 0xe2, 0x75, 0x90, 0x04, 0x93 /* vpgatherdd %ymm1, (%rbx,%ymm2,4), %ymm0 */
#define VPGATHERQD 0xc4, 0xe2, 0x75, 0x91, 0x04, 0x93 /* vpgatherqd %xmm1, (%rbx,%ymm2,4), %xmm0 */
#define VZEROUPPER 0xc5, 0xf8, 0x77
#define VZEROALL 0xc5, 0xfc, 0x77
#define ANDN 0xc4, 0xe2, 0x70, 0xf2, 0xc2 /* not a vector instruction */

static u32 *ymm(unsigned n)
{
	return (u32 *)g->cpu.fpu.vec[n];
}

static void set_ymm(unsigned n, u32 first, u32 step)
{
	for (u32 k = 0; k < 16; k++)
		ymm(n)[k] = k < 8 ? first + k * step : 0;
}

/* SDM vol. 2, 2.4 and 2.7: #UD before #NM. */
static void conditions(void **state)
{
	struct cpu *c = &g->cpu;

	(void)state;
	c->gpr[RBX] = 0x10000;
	for (unsigned bits = 0; bits < 16; bits++) {
		bool ts = bits & 1, osxsave = bits & 2, em = bits & 8;
		u64 xcr0 = bits & 4 ? 7 : 3;
		int want = !osxsave || xcr0 != 7 ? VEC_UD : ts ? VEC_NM : 0;
		int st;

		c->cr0 = (c->cr0 & ~(CR0_TS | CR0_EM)) | (ts ? CR0_TS : 0) | (em ? CR0_EM : 0);
		c->cr4 = (c->cr4 & ~(CR4_OSXSAVE | CR4_OSFXSR)) | (osxsave ? CR4_OSXSAVE : 0);
		c->fpu.xcr0 = xcr0;
		cpu_update_mode(c);
		c->fault.vector = 0;
		st = EXEC(g, VPADDD);
		assert_int_equal(st, want ? ST_FAULT : ST_OK);
		assert_int_equal(c->fault.vector, want);
		c->fault.vector = 0;
		st = EXEC(g, VZEROUPPER);
		assert_int_equal(c->fault.vector, want);
		assert_int_equal(EXEC(g, ANDN), ST_OK);
	}
}

static void bad_prefixes(void **state)
{
	static const u8 rows[][6] = {
		{ 0xf0, VPADDD },           { 0x66, VPADDD }, { 0xf2, VPADDD },
		{ 0xf3, VPADDD },           { 0x48, VPADDD }, { 0x40, VPADDD },
		{ 0xc5, 0xe4, 0x77 },       /* vzeroupper with vvvv */
		{ 0xc5, 0xe4, 0x10, 0x03 }, /* vmovups with vvvv */
		{ 0xc5, 0xfd, 0x6e, 0xc0 }, /* vmovd with L */
	};
	static const u8 good[] = { 0x2e, 0x65, 0x67, VPADDD };
	struct insn i;

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(rows); n++)
		assert_int_equal(insn_decode(rows[n], 6, DECODE_64, &i), DECODE_UD);
	assert_int_equal(insn_decode(good, sizeof(good), DECODE_64, &i), sizeof(good));
	/* In real mode the bytes are LDS and LES, which have no register form. */
	assert_int_equal(insn_decode(good + 3, 4, DECODE_16_REAL, &i), DECODE_UD);
	assert_int_equal(insn_decode(good + 3, 4, DECODE_16, &i), 4);
}

static void alignment(void **state)
{
	struct cpu *c = &g->cpu;

	(void)state;
	c->gpr[RBX] = 0x10010;
	assert_fault(g, EXEC(g, VMOVAPS_LOAD), VEC_GP, 0);
	assert_fault(g, EXEC(g, VMOVAPS_STORE), VEC_GP, 0);
	assert_fault(g, EXEC(g, VMOVNTDQA), VEC_GP, 0);
	c->gpr[RBX] = 0x10ff1; /* into the next page */
	assert_int_equal(EXEC(g, VMOVUPS_LOAD), ST_OK);
	assert_int_equal(EXEC(g, VPADDD), ST_OK);
	c->gpr[RBX] = 0x10020;
	assert_int_equal(EXEC(g, VMOVAPS_LOAD), ST_OK);
	assert_int_equal(EXEC(g, VMOVAPS_STORE), ST_OK);
}

static void masked_moves(void **state)
{
	struct cpu *c = &g->cpu;
	u32 *m = (u32 *)(g->mem + EDGE - 16);

	(void)state;
	c->gpr[RBX] = EDGE - 16;
	for (u32 k = 0; k < 4; k++)
		m[k] = 100 + k;
	set_ymm(0, 7, 0);
	set_ymm(1, 0, 0);
	ymm(1)[1] = ymm(1)[3] = 0x80000000;
	assert_int_equal(EXEC(g, VMASKMOV_LOAD), ST_OK);
	assert_int_equal(ymm(0)[0], 0);
	assert_int_equal(ymm(0)[1], 101);
	assert_int_equal(ymm(0)[3], 103);
	assert_int_equal(ymm(0)[4], 0);
	ymm(0)[1] = 55;
	assert_int_equal(EXEC(g, VMASKMOV_STORE), ST_OK);
	assert_int_equal(m[0], 100);
	assert_int_equal(m[1], 55);
	assert_int_equal(m[2], 102);

	ymm(1)[4] = 0xffffffff;
	set_ymm(0, 7, 1);
	assert_fault(g, EXEC(g, VMASKMOV_LOAD), VEC_PF, 0);
	assert_int_equal(c->fault.addr, EDGE);
	assert_int_equal(ymm(0)[1], 8);
	assert_fault(g, EXEC(g, VMASKMOV_STORE), VEC_PF, PF_W);
	assert_int_equal(m[1], 55);

	/* A mask of zeros touches nothing. */
	set_ymm(1, 0x7fffffff, 0);
	c->gpr[RBX] = EDGE + 4096;
	assert_int_equal(EXEC(g, VMASKMOV_STORE), ST_OK);
	assert_int_equal(EXEC(g, VMASKMOV_LOAD), ST_OK);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(ymm(0)[k], 0);
}

static void map_edge(bool on)
{
	u64 pd = g->size - PAGE_SIZE;

	*(u64 *)(g->mem + pd + 8) = on ? EDGE | 0x87 : 0;
	tlb_flush(&g->cpu);
}

static void gather_faults(void **state)
{
	struct cpu *c = &g->cpu;
	u32 *m = (u32 *)(g->mem + EDGE);

	(void)state;
	for (int k = -16; k < 16; k++)
		m[k] = 1000 + k;
	c->gpr[RBX] = EDGE - 12;
	set_ymm(0, 1, 1);
	set_ymm(1, 0xffffffff, 0);
	set_ymm(2, 0, 1);
	ymm(1)[1] = 0;
	assert_fault(g, EXEC(g, VPGATHERDD), VEC_PF, 0);
	assert_int_equal(c->fault.addr, EDGE);
	assert_int_equal(ymm(0)[0], 997);
	assert_int_equal(ymm(0)[1], 2);
	assert_int_equal(ymm(0)[2], 999);
	assert_int_equal(ymm(0)[3], 4);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(ymm(1)[k] >> 31, k >= 3);
	map_edge(true);
	/* What is done is not read again. */
	m[-3] = m[-1] = 0;
	assert_int_equal(EXEC(g, VPGATHERDD), ST_OK);
	assert_int_equal(ymm(0)[0], 997);
	assert_int_equal(ymm(0)[1], 2);
	for (unsigned k = 2; k < 8; k++)
		assert_int_equal(ymm(0)[k], 997 + k);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(ymm(1)[k], 0);
	map_edge(false);
}

/* Four elements, the second and the last one in a device: asked for once each, and nothing has happened before. */
static void gather_from_device(void **state)
{
	struct cpu *c = &g->cpu;
	u64 *index = (u64 *)c->fpu.vec[2];

	(void)state;
	c->gpr[RBX] = 0x10000;
	for (u32 k = 0; k < 4; k++) {
		index[k] = k & 1 ? (DEVICE - 0x10000) / 4 + k : k;
		((u32 *)(g->mem + 0x10000))[k] = 70 + k;
	}
	set_ymm(0, 1, 1);
	set_ymm(1, 0xffffffff, 0);
	for (u32 k = 1; k < 4; k += 2) {
		assert_int_equal(EXEC(g, VPGATHERQD), ST_EXIT);
		assert_int_equal(c->exit.mmio.gpa, DEVICE + 4 * k);
		assert_int_equal(ymm(0)[0], 1);
		assert_int_equal(ymm(1)[0], 0xffffffff);
		c->io.acc[c->io.n - 1].data = 500 + k;
		c->io.acc[c->io.n - 1].answered = true;
	}
	assert_int_equal(EXEC(g, VPGATHERQD), ST_OK);
	assert_int_equal(ymm(0)[0], 70);
	assert_int_equal(ymm(0)[1], 501);
	assert_int_equal(ymm(0)[2], 72);
	assert_int_equal(ymm(0)[3], 503);
	for (unsigned k = 4; k < 8; k++)
		assert_int_equal(ymm(0)[k], 0);
}

/* Outside 64-bit mode there are eight registers. */
static void zero_registers(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 16; n++)
		set_ymm(n, 9, 1);
	assert_int_equal(EXEC(g, VZEROUPPER), ST_OK);
	for (unsigned n = 0; n < 16; n++) {
		assert_int_equal(ymm(n)[3], 12);
		assert_int_equal(ymm(n)[4], 0);
		set_ymm(n, 9, 1);
	}
	flat_prot(g, 0x1000);
	assert_int_equal(EXEC(g, VZEROALL), ST_OK);
	for (unsigned n = 0; n < 16; n++)
		assert_int_equal(ymm(n)[0], n < 8 ? 0 : 9);
	assert_int_equal(EXEC(g, VZEROUPPER), ST_OK);
	assert_int_equal(ymm(8)[7], 16);
}

static int setup(void **state)
{
	(void)state;
	g = flat_new(MEM);
	flat_long(g, 0x1000);
	g->cpu.cr4 |= CR4_OSXSAVE;
	g->cpu.fpu.xcr0 = 7;
	cpu_update_mode(&g->cpu);
	map_edge(false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	flat_free(g);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(conditions),    TEST(bad_prefixes),       TEST(alignment),      TEST(masked_moves),
		TEST(gather_faults), TEST(gather_from_device), TEST(zero_registers),
	};

	if (!cpuid_host_has_ymm())
		return 77; /* skipped: this CPU has no AVX */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
