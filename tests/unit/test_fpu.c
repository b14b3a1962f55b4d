// SPDX-License-Identifier: MIT
/* The rules of x87, MMX, SSE and XSAVE state: who may execute, pending exceptions, images in memory, XCR0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/fpu.h"
#include "mem/map.h"

#include "flat.h"

#define MEM (4ull << 20)
#define DATA 0x200000u

static struct flat *g;

/* Executes one instruction: ST_OK or ST_END is 0, a fault its vector. */
static int run(const u8 *code, size_t n)
{
	struct cpu *c = &g->cpu;
	u64 rip = c->gpr[R_RIP];
	struct insn i;
	int st;

	assert_int_equal(insn_decode(code, n, c->code_mode, &i), n);
	c->gpr[R_RIP] += n;
	st = interp_bind(&i)(c, &i);
	if (st == ST_FAULT)
		c->gpr[R_RIP] = rip;
	assert_true(st == ST_OK || st == ST_END || st == ST_FAULT);
	return st == ST_FAULT ? c->fault.vector : 0;
}
#define RUN(...) run((const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

#define FLD1 0xd9, 0xe8
#define FLDZ 0xd9, 0xee
#define FWAIT 0x9b
#define FNCLEX 0xdb, 0xe2
#define FNINIT 0xdb, 0xe3
#define FDIVP 0xde, 0xf9
#define FNSTSW_AX 0xdf, 0xe0
#define PADDB_MMX 0x0f, 0xfc, 0xc1
#define PADDB_XMM 0x66, 0x0f, 0xfc, 0xc1
#define DIVPS 0x0f, 0x5e, 0xc1
#define FXSAVE 0x0f, 0xae, 0x03 /* [rbx] */
#define FXRSTOR 0x0f, 0xae, 0x0b
#define XSAVE64 0x48, 0x0f, 0xae, 0x23
#define XRSTOR64 0x48, 0x0f, 0xae, 0x2b
#define XSAVEC64 0x48, 0x0f, 0xc7, 0x23
#define XSAVES64 0x48, 0x0f, 0xc7, 0x2b
#define RDPKRU 0x0f, 0x01, 0xee
#define WRPKRU 0x0f, 0x01, 0xef
#define XRSTORS64 0x48, 0x0f, 0xc7, 0x1b
#define XGETBV 0x0f, 0x01, 0xd0
#define XSETBV 0x0f, 0x01, 0xd1

static void set_edx_eax(u64 v)
{
	g->cpu.gpr[RAX] = (u32)v;
	g->cpu.gpr[RDX] = v >> 32;
}

/* SDM vol. 3, 2.5 and vol. 2, 2.4: for all combinations of the bits that count. */
static void traps(void **state)
{
	struct cpu *c = &g->cpu;

	(void)state;
	c->gpr[RBX] = DATA;
	set_edx_eax(3);
	c->gpr[RCX] = 0;
	for (unsigned bits = 0; bits < 32; bits++) {
		bool em = bits & 1, ts = bits & 2, mp = bits & 4, osfxsr = bits & 8, osxsave = bits & 16;

		c->cr0 = (c->cr0 & ~(CR0_EM | CR0_TS | CR0_MP)) | (em ? CR0_EM : 0) | (ts ? CR0_TS : 0) |
			 (mp ? CR0_MP : 0);
		c->cr4 = (c->cr4 & ~(CR4_OSFXSR | CR4_OSXSAVE)) | (osfxsr ? CR4_OSFXSR : 0) |
			 (osxsave ? CR4_OSXSAVE : 0);
		cpu_update_mode(c);
		RUN(0x90);
		c->fpu.ftw = 0;
		assert_int_equal(RUN(FLD1), em || ts ? VEC_NM : 0);
		assert_int_equal(RUN(FNINIT), em || ts ? VEC_NM : 0);
		assert_int_equal(RUN(FWAIT), ts && mp ? VEC_NM : 0);
		assert_int_equal(RUN(PADDB_MMX), em ? VEC_UD : ts ? VEC_NM : 0);
		assert_int_equal(RUN(PADDB_XMM), em || !osfxsr ? VEC_UD : ts ? VEC_NM : 0);
		assert_int_equal(RUN(FXSAVE), em || ts ? VEC_NM : 0);
		assert_int_equal(RUN(FXRSTOR), em || ts ? VEC_NM : 0);
		set_edx_eax(3);
		assert_int_equal(RUN(XSAVE64), !osxsave ? VEC_UD : ts ? VEC_NM : 0);
		assert_int_equal(RUN(XGETBV), !osxsave ? VEC_UD : 0);
	}
}

/* Which parts of the area are written: those of the mode's registers, and XMM registers only with CR4.OSFXSR. */
static void fxsave_extent(void **state)
{
	struct cpu *c = &g->cpu;
	u8 *area = g->mem + DATA;

	(void)state;
	c->gpr[RBX] = DATA;
	for (unsigned n = 0; n < 3; n++) {
		unsigned end = n == 0 ? 416 : n == 1 ? 288 : 160;

		if (n == 1)
			flat_prot(g, 0x1000);
		if (n == 2)
			c->cr4 &= ~CR4_OSFXSR;
		memset(area, 0xee, 512);
		memset(c->fpu.vec, 0x11, sizeof(c->fpu.vec));
		c->fpu.mxcsr = MXCSR_INIT;
		assert_int_equal(RUN(FXSAVE), 0);
		assert_int_equal(*(u32 *)(area + 24), MXCSR_INIT);
		for (unsigned k = 160; k < 512; k++)
			assert_int_equal(area[k], k < end ? 0x11 : 0xee);
		memset(area + 160, 0x22, 256);
		*(u32 *)(area + 24) = 0x1fa0;
		assert_int_equal(RUN(FXRSTOR), 0);
		assert_int_equal(c->fpu.mxcsr, 0x1fa0);
		for (unsigned r = 0; r < 16; r++)
			assert_int_equal(c->fpu.vec[r][0], 160 + 16 * r < end ? 0x22 : 0x11);
		*(u32 *)(area + 24) = 0x11fa0;
		assert_int_equal(RUN(FXRSTOR), VEC_GP);
	}
	c->gpr[RBX] += 8;
	assert_int_equal(RUN(FXSAVE), VEC_GP);
	assert_int_equal(RUN(FXRSTOR), VEC_GP);
}

/*
 * MASKMOVDQU and MASKMOVQ into a page that is not there store nothing. The SDM leaves it to the CPU whether bytes that
 * are not selected need their page; on the bare CPU they do.
 */
static void masked_stores(void **state)
{
	static const u8 xmm[] = { 0x66, 0x0f, 0xf7, 0xc1 }, mmx[] = { 0x0f, 0xf7, 0xc1 };
	struct cpu *c = &g->cpu;
	u64 *pd = (u64 *)(g->mem + g->size - PAGE_SIZE);
	u8 *m;

	(void)state;
	pd[1] = 0;
	tlb_flush(c);
	for (unsigned n = 0; n < 2; n++) {
		u8 *mask = n ? c->fpu.st[1] : c->fpu.vec[1];

		memset(n ? c->fpu.st[0] : c->fpu.vec[0], 0x33, 8);
		memset(mask, 0, 16);
		m = g->mem + DATA - 4;
		memset(m, 0, 4);
		c->gpr[RDI] = DATA - 4;
		mask[0] = mask[3] = mask[5] = 0x80;
		assert_int_equal(n ? run(mmx, 3) : run(xmm, 4), VEC_PF);
		assert_int_equal(c->fault.addr, DATA);
		assert_int_equal(*(u32 *)m, 0);
		mask[5] = 0;
		assert_int_equal(n ? run(mmx, 3) : run(xmm, 4), VEC_PF);
		c->gpr[RDI] = DATA - 16;
		m = g->mem + DATA - 16;
		assert_int_equal(n ? run(mmx, 3) : run(xmm, 4), 0);
		assert_int_equal(*(u32 *)m, 0x33000033);
	}
}

static void pending_exceptions(void **state)
{
	struct cpu *c = &g->cpu;

	(void)state;
	assert_int_equal(RUN(FNINIT), 0);
	c->fpu.fcw = 0x37b; /* ZE unmasked */
	assert_int_equal(RUN(FLD1), 0);
	assert_int_equal(RUN(FLDZ), 0);
	assert_int_equal(fpu_top(&c->fpu), 6);
	assert_int_equal(RUN(FDIVP), 0); /* raises, but later */
	assert_int_equal(c->fpu.fsw & 0xbfff, 0xb084);
	assert_int_equal(fpu_top(&c->fpu), 6); /* operands stay */
	assert_int_equal(RUN(FNSTSW_AX), 0);
	assert_int_equal(c->gpr[RAX] & 0x80ff, 0x8084);
	assert_int_equal(RUN(FLD1), VEC_MF);
	assert_int_equal(RUN(FWAIT), VEC_MF);
	assert_int_equal(RUN(PADDB_MMX), VEC_MF);
	assert_int_equal(RUN(PADDB_XMM), 0);
	/* Without CR0.NE it is a matter of pins that are not there. */
	c->cr0 &= ~CR0_NE;
	assert_int_equal(RUN(FLD1), 0);
	c->cr0 |= CR0_NE;
	assert_int_equal(RUN(FLD1), VEC_MF);
	assert_int_equal(RUN(FNCLEX), 0);
	assert_int_equal(c->fpu.fsw & 0x80ff, 0);
	assert_int_equal(RUN(FLD1), 0);
	/* FLDCW may make one pending, FNSTENV masks all again. */
	c->fpu.fcw = 0x37f;
	c->fpu.fsw |= FSW_IE;
	c->gpr[RBX] = DATA;
	*(u16 *)(g->mem + DATA) = 0x37e;
	assert_int_equal(RUN(0xd9, 0x2b), 0);
	assert_int_equal(RUN(FWAIT), VEC_MF);
	assert_int_equal(RUN(0xd9, 0x33), 0);
	assert_int_equal(*(u16 *)(g->mem + DATA), 0x37e);
	assert_int_equal(*(u16 *)(g->mem + DATA + 4) & 0x8081, 0x8081);
	assert_int_equal(RUN(FWAIT), 0);
	assert_int_equal(c->fpu.fcw, 0x37f);
	assert_int_equal(c->fpu.fsw & 0x8081, 1);
}

static void simd_exceptions(void **state)
{
	struct cpu *c = &g->cpu;
	u32 one[4] = { 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000 }, zero[4] = { 0 };

	(void)state;
	memcpy(c->fpu.vec[0], one, 16);
	memcpy(c->fpu.vec[1], zero, 16);
	c->fpu.mxcsr = 0x1d80; /* ZE unmasked */
	assert_int_equal(RUN(DIVPS), VEC_XM);
	assert_int_equal(c->fpu.mxcsr, 0x1d84);
	assert_memory_equal(c->fpu.vec[0], one, 16);
	c->cr4 &= ~CR4_OSXMMEXCPT;
	assert_int_equal(RUN(DIVPS), VEC_UD);
	c->fpu.mxcsr = 0x1f80;
	assert_int_equal(RUN(DIVPS), 0);
	assert_int_equal(c->fpu.mxcsr, 0x1f84);
	assert_int_equal(*(u32 *)c->fpu.vec[0], 0x7f800000);
}

static void alignment(void **state)
{
	struct cpu *c = &g->cpu;

	(void)state;
	c->gpr[RBX] = DATA + 8;
	assert_int_equal(RUN(0x0f, 0x28, 0x03), VEC_GP);             /* movaps */
	assert_int_equal(RUN(0x0f, 0x29, 0x03), VEC_GP);
	assert_int_equal(RUN(0x0f, 0x10, 0x03), 0);                  /* movups */
	assert_int_equal(RUN(0x66, 0x0f, 0xfc, 0x03), VEC_GP);       /* paddb */
	assert_int_equal(RUN(0x66, 0x0f, 0x3a, 0x63, 0x03, 0), 0);   /* pcmpistri */
	assert_int_equal(RUN(0xf2, 0x0f, 0x58, 0x03), 0);            /* addsd */
	assert_int_equal(RUN(0x66, 0x0f, 0xe7, 0x03), VEC_GP);       /* movntdq */
	assert_int_equal(RUN(FXSAVE), VEC_GP);
	*(u32 *)(g->mem + DATA + 8) = 0x10000;
	assert_int_equal(RUN(0x0f, 0xae, 0x13), VEC_GP);             /* ldmxcsr with a reserved bit */
	assert_int_equal(c->fpu.mxcsr, MXCSR_INIT);
}

/* FIP, FDP, FOP, and the four formats of FNSTENV. */
static void environment(void **state)
{
	static const u8 fmt16_real[] = { 0x45, 0x23, 0xdd, 0x13, 0x89, 0x67, 0x00, 0x50 };
	static const u8 fmt16[] = { 0x45, 0x23, 0x08, 0x00, 0x89, 0x67, 0x10, 0x00 };
	static const u8 fmt32_real[] = { 0x45, 0x23, 0xff, 0xff, 0xdd, 0x13, 0x00, 0x00,
					 0x89, 0x67, 0xff, 0xff, 0x00, 0x50, 0x34, 0x00 };
	static const u8 fmt32[] = { 0x45, 0x23, 0x01, 0x00, 0x08, 0x00, 0xdd, 0x03,
				    0x89, 0x67, 0x45, 0x03, 0x10, 0x00, 0xff, 0xff };
	static const struct {
		enum env_format fmt;
		const u8 *want;
		unsigned at, size;
	} rows[] = {
		{ ENV_16_REAL, fmt16_real, 6, 8 },
		{ ENV_16, fmt16, 6, 8 },
		{ ENV_32_REAL, fmt32_real, 12, 16 },
		{ ENV_32, fmt32, 12, 16 },
	};
	struct fpu *f = &g->cpu.fpu, back;
	u8 image[FSAVE_MAX];

	(void)state;
	fpu_finit(f);
	g->cpu.gpr[RBX] = DATA;
	g->cpu.gpr[R_RIP] = 0x1234;
	assert_int_equal(RUN(0xdd, 0x03), 0); /* fld qword [rbx] */
	assert_int_equal(f->fip, 0x1234);
	assert_int_equal(f->fdp, DATA);
	assert_int_equal(f->fop, 0x503);
	assert_int_equal(f->fcs, 8);
	assert_int_equal(RUN(FLD1), 0);
	assert_int_equal(f->fip, 0x1236);
	assert_int_equal(f->fdp, DATA);
	assert_int_equal(f->fop, 0x1e8);

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		bool real = rows[n].fmt == ENV_16_REAL || rows[n].fmt == ENV_32_REAL;

		f->fip = real ? 0x12345 : 0x12345;
		f->fdp = 0x3456789;
		f->fcs = real ? 0 : 8;
		f->fds = real ? 0 : 0x10;
		f->fop = 0x3dd;
		fpu_to_fsave(f, image, rows[n].fmt);
		assert_memory_equal(image + rows[n].at, rows[n].want, rows[n].size);
		back = *f;
		fpu_finit(&back);
		memset(back.st, 0xee, sizeof(back.st));
		fpu_from_fsave(&back, image, rows[n].fmt);
		assert_int_equal(back.fcw, f->fcw);
		assert_int_equal(back.fsw, f->fsw);
		assert_int_equal(back.ftw, f->ftw);
		for (unsigned r = 0; r < 8; r++)
			assert_memory_equal(back.st[r], f->st[r], 10);
		assert_int_equal(back.fip, rows[n].fmt == ENV_16 ? 0x2345 : 0x12345);
	}
}

static void fill(struct fpu *f, u64 components)
{
	for (unsigned r = 0; r < 32; r++)
		for (unsigned k = 0; k < 64; k++) {
			u64 c = r >= 16 ? XC_HI16_ZMM : k >= 32 ? XC_ZMM_HI256 : k >= 16 ? XC_AVX : XC_SSE;

			f->vec[r][k] = components & c ? 1 + r * 5 + k : 0;
		}
	for (unsigned n = 0; n < 8; n++)
		f->opmask[n] = components & XC_OPMASK ? 0x1001 * (n + 1) : 0;
	fpu_finit(f);
	memset(f->st, 0, sizeof(f->st));
	for (unsigned r = 0; r < 8 && (components & XC_X87); r++)
		memset(f->st[r], 0x40 + r, 10);
	if (components & XC_X87) {
		f->fsw = 3 << 11;
		f->ftw = 0x5a;
		f->fcw = 0x27f;
	}
	f->mxcsr = MXCSR_INIT | 0x20;
}

/* FIP, FDP, FOP and what is reserved. */
static void forget(u8 *area)
{
	memset(area + 6, 0, 18);
	memset(area + 28, 0, 4);
	memset(area + 416, 0, 96);
}

static u64 host_xcr0(void)
{
	u32 lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (u64)hi << 32;
}

/* Loads an image into the bare CPU and stores it again with XSAVE and XSAVEC. */
static void through_host(const u8 *in, u8 *standard, u8 *compact)
{
	static u8 client[XSAVE_MAX] __attribute__((aligned(64)));

	asm volatile("xsave64 %2\n\txrstor64 %3\n\txsave64 %0\n\txsavec64 %1\n\txrstor64 %2"
		     : "+m"(*(u8(*)[XSAVE_MAX])standard), "+m"(*(u8(*)[XSAVE_MAX])compact), "+m"(client)
		     : "m"(*(const u8(*)[XSAVE_MAX])in), "a"(~0u), "d"(~0u)
		     : "memory");
}

static void xsave_against_cpu(void **state)
{
	static u8 in[XSAVE_MAX] __attribute__((aligned(64)));
	static u8 standard[XSAVE_MAX] __attribute__((aligned(64)));
	static u8 compact[XSAVE_MAX] __attribute__((aligned(64)));
	struct cpu *c = &g->cpu;
	u64 xcr0 = host_xcr0() & xsave_supported(&c->fpu) & ~XC_PKRU;
	u8 *ours = g->mem + DATA;
	struct fpu back;

	(void)state;
	assert_true(xcr0 & XC_AVX);
	c->cr4 |= CR4_OSXSAVE;
	c->xcr0_allowed = xcr0;
	cpu_update_mode(c);
	set_edx_eax(xcr0);
	c->gpr[RCX] = 0;
	assert_int_equal(RUN(XSETBV), 0);
	assert_int_equal(c->fpu.xcr0, xcr0);
	c->gpr[RBX] = DATA;
	for (unsigned n = 0; n < 64; n++) {
		u64 components = n * 0x9e3779b97f4a7c15ull >> 20 & xcr0;

		fill(&c->fpu, components);
		assert_int_equal(fpu_xinuse(&c->fpu), components);
		fpu_to_xsave(&c->fpu, in, sizeof(in));
		memset(standard, 0, sizeof(standard));
		memset(compact, 0, sizeof(compact));
		through_host(in, standard, compact);

		memset(ours, 0, XSAVE_MAX);
		set_edx_eax(~0ull);
		assert_int_equal(RUN(XSAVE64), 0);
		forget(standard);
		forget(ours);
		/* XSTATE_BV: the host may say of an initial component that it is in use. */
		assert_int_equal(*(u64 *)(ours + 512), components);
		*(u64 *)(ours + 512) = *(u64 *)(standard + 512);
		assert_memory_equal(ours, standard, XSAVE_MAX);

		back = c->fpu;
		fill(&c->fpu, xcr0);
		assert_int_equal(RUN(XRSTOR64), 0);
		assert_memory_equal(c->fpu.vec, back.vec, sizeof(back.vec));
		assert_memory_equal(c->fpu.opmask, back.opmask, sizeof(back.opmask));
		assert_int_equal(c->fpu.fsw, back.fsw);
		assert_int_equal(c->fpu.ftw, back.ftw);

		memset(ours, 0, XSAVE_MAX);
		assert_int_equal(RUN(XSAVEC64), 0);
		assert_int_equal(*(u64 *)(ours + 520), xcr0 | XCOMP_COMPACT);
		if (*(u64 *)(compact + 512) == *(u64 *)(ours + 512)) {
			forget(compact);
			forget(ours);
			assert_memory_equal(ours, compact, XSAVE_MAX);
		}
		fill(&c->fpu, xcr0);
		assert_int_equal(RUN(XRSTORS64), 0);
		assert_memory_equal(c->fpu.vec, back.vec, sizeof(back.vec));

		/* The client's way: KVM_GET_XSAVE, KVM_SET_XSAVE. */
		fill(&c->fpu, xcr0);
		assert_int_equal(fpu_from_xsave(&c->fpu, in, sizeof(in), xcr0), 0);
		assert_memory_equal(c->fpu.vec, back.vec, sizeof(back.vec));
		assert_int_equal(c->fpu.fcw, back.fcw);
		assert_int_equal(c->fpu.mxcsr, back.mxcsr);
	}
}

static void xrstor_checks(void **state)
{
	struct cpu *c = &g->cpu;
	u8 *area = g->mem + DATA;
	u64 *head = (u64 *)(area + 512);
	struct fpu before;

	(void)state;
	c->cr4 |= CR4_OSXSAVE;
	c->fpu.xcr0 = 7;
	cpu_update_mode(c);
	c->gpr[RBX] = DATA;
	memset(area, 0, XSAVE_MAX);
	*(u32 *)(area + 24) = MXCSR_INIT;
	fill(&c->fpu, 7);
	before = c->fpu;
	set_edx_eax(~0ull);
	head[0] = 8; /* not in XCR0 */
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	head[0] = 7;
	head[1] = 1; /* standard format: must be 0 */
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	head[1] = 0;
	head[2] = 1;
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	head[2] = 0;
	*(u32 *)(area + 24) = 0x10000;
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	assert_int_equal(fpu_from_xsave(&c->fpu, area, XSAVE_MAX, 7), -22);
	*(u32 *)(area + 24) = MXCSR_INIT;
	assert_int_equal(RUN(XRSTORS64), VEC_GP); /* only the compacted format */
	head[1] = XCOMP_COMPACT | 3;
	assert_int_equal(RUN(XRSTOR64), VEC_GP); /* XSTATE_BV beyond XCOMP_BV */
	head[1] = XCOMP_COMPACT | 0x107;
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	head[1] = XCOMP_COMPACT | 7;
	head[7] = 1;
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	head[7] = 0;
	c->gpr[RBX] += 32;
	assert_int_equal(RUN(XRSTOR64), VEC_GP);
	c->gpr[RBX] -= 32;
	assert_memory_equal(&c->fpu, &before, sizeof(before));
	/* Only what is asked for. */
	set_edx_eax(XC_SSE);
	assert_int_equal(RUN(XRSTOR64), 0);
	assert_int_equal(fpu_xinuse(&c->fpu), XC_X87 | XC_AVX);
	c->cpl = 3;
	assert_int_equal(RUN(XRSTORS64), VEC_GP);
	c->cpl = 0;
	assert_int_equal(fpu_from_xsave(&c->fpu, area, XSAVE_MAX, 7), -22); /* compacted */
	head[1] = 0;
	head[0] = XC_AVX;
	assert_int_equal(fpu_from_xsave(&c->fpu, area, XSAVE_MAX, 3), -22);
	assert_int_equal(fpu_from_xsave(&c->fpu, area, XSAVE_EXTENDED, 7), -22);
}

/* XSAVES is XSAVEC at CPL 0, with IA32_XSS beside XCR0; no supervisor component exists here. */
static void xsaves(void **state)
{
	static u8 compact[XSAVE_EXTENDED + 256];
	struct cpu *c = &g->cpu;
	u8 *area = g->mem + DATA;

	(void)state;
	c->gpr[RBX] = DATA;
	set_edx_eax(~0ull);
	assert_int_equal(RUN(XSAVES64), VEC_UD);
	c->cr4 |= CR4_OSXSAVE;
	c->fpu.xcr0 = 7;
	cpu_update_mode(c);
	fill(&c->fpu, 7);
	assert_int_equal(RUN(XSAVEC64), 0);
	memcpy(compact, area, sizeof(compact));
	memset(area, 0, sizeof(compact));
	assert_int_equal(RUN(XSAVES64), 0);
	assert_memory_equal(area, compact, sizeof(compact));
	/* In their initial state, components are not written, but have their place. */
	memset(area + XSAVE_EXTENDED, 0xee, 256);
	fill(&c->fpu, XC_SSE);
	assert_int_equal(RUN(XSAVES64), 0);
	assert_int_equal(*(u64 *)(area + 512), XC_SSE);
	assert_int_equal(*(u64 *)(area + 520), XCOMP_COMPACT | 7);
	assert_int_equal(area[XSAVE_EXTENDED], 0xee);
	c->cpl = 3;
	assert_int_equal(RUN(XSAVES64), VEC_GP);
	c->cpl = 0;
	c->gpr[RBX]++;
	assert_int_equal(RUN(XSAVES64), VEC_GP);
	c->cr0 |= CR0_TS;
	cpu_update_mode(c);
	assert_int_equal(RUN(XSAVES64), VEC_NM);
}

/* Beside its instructions, PKRU is a component; this host's standard format may have no place for it. */
static void pkru(void **state)
{
	struct cpu *c = &g->cpu;
	u8 *area = g->mem + DATA;

	(void)state;
	assert_int_equal(RUN(RDPKRU), VEC_UD);
	assert_int_equal(RUN(WRPKRU), VEC_UD);
	c->cr4 |= CR4_PKE | CR4_OSXSAVE;
	c->fpu.xcr0 = XC_X87 | XC_SSE | XC_PKRU;
	cpu_update_mode(c);
	set_edx_eax(0x55555554);
	c->gpr[RCX] = 1ull << 32;
	assert_int_equal(RUN(WRPKRU), 0);
	c->gpr[RDX] = 9;
	assert_int_equal(RUN(WRPKRU), VEC_GP);
	assert_int_equal(RUN(RDPKRU), 0);
	assert_int_equal(c->gpr[RAX], 0x55555554);
	assert_int_equal(c->gpr[RDX], 0);
	c->gpr[RCX] = 1;
	assert_int_equal(RUN(RDPKRU), VEC_GP);
	assert_int_equal(RUN(WRPKRU), VEC_GP);
	c->gpr[RBX] = DATA;
	set_edx_eax(XC_PKRU);
	assert_int_equal(RUN(XSAVEC64), 0);
	assert_int_equal(*(u64 *)(area + 512), XC_PKRU);
	assert_int_equal(*(u32 *)(area + XSAVE_EXTENDED), 0x55555554);
	c->fpu.pkru = 0;
	assert_int_equal(RUN(XRSTORS64), 0);
	assert_int_equal(c->fpu.pkru, 0x55555554);
	*(u64 *)(area + 512) = 0;
	assert_int_equal(RUN(XRSTORS64), 0);
	assert_int_equal(c->fpu.pkru, 0);
}

static void xcr0(void **state)
{
	static const struct {
		u64 value;
		bool ok;
	} rows[] = {
		{ 0, false }, { 1, true }, { 2, false }, { 3, true }, { 5, false }, { 7, true },
		{ 0x27, false }, { 0xe7, true }, { 0xe3, false }, { 0x207, false }, { 1ull << 63 | 1, false },
	};
	struct cpu *c = &g->cpu;

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		assert_int_equal(fpu_xcr0_valid(rows[n].value, 0xe7), rows[n].ok);
	c->cr4 |= CR4_OSXSAVE;
	c->xcr0_allowed = 7;
	cpu_update_mode(c);
	assert_true(c->fpu_trap & FPU_TRAP_AVX);
	set_edx_eax(7);
	c->gpr[RCX] = 1;
	assert_int_equal(RUN(XSETBV), VEC_GP);
	c->gpr[RCX] = 0;
	c->cpl = 3;
	assert_int_equal(RUN(XSETBV), VEC_GP);
	c->cpl = 0;
	assert_int_equal(RUN(XSETBV), 0);
	assert_false(c->fpu_trap & FPU_TRAP_AVX);
	set_edx_eax(0);
	assert_int_equal(RUN(XGETBV), 0);
	assert_int_equal(c->gpr[RAX], 7);
	c->gpr[RCX] = 1;
	assert_int_equal(RUN(XGETBV), 0);
	assert_int_equal(c->gpr[RAX], fpu_xinuse(&c->fpu) & 7);
	c->gpr[RCX] = 2;
	assert_int_equal(RUN(XGETBV), VEC_GP);
}

/* The client's control word and sticky flags come back. */
static void client_state(void **state)
{
	static const u16 cw = 0x27e, cw_init = FCW_INIT;
	struct fpu_host h;
	u16 now, sw;

	(void)state;
	asm volatile("fninit; fldcw %0; fldl2t; fld1; faddp; fstp %%st(0)" : : "m"(cw)); /* PE */
	fpu_host_enter(&h);
	asm volatile("fnstcw %0" : "=m"(now));
	assert_int_equal(now, FCW_INIT);
	fpu_finit(&g->cpu.fpu);
	assert_int_equal(RUN(FLD1), 0);
	assert_int_equal(RUN(FLDZ), 0);
	assert_int_equal(RUN(FDIVP), 0); /* ZE on the host as well */
	fpu_host_leave(&h);
	asm volatile("fnstcw %0; fnstsw %1" : "=m"(now), "=m"(sw));
	assert_int_equal(now, cw);
	assert_int_equal(sw & 0x3f, 0x20);
	asm volatile("fnclex; fldcw %0" : : "m"(cw_init));
}

static int setup(void **state)
{
	(void)state;
	g = flat_new(MEM);
	flat_long(g, 0x1000);
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
		TEST(traps),         TEST(fxsave_extent),      TEST(masked_stores),
		TEST(pending_exceptions), TEST(simd_exceptions),
		TEST(alignment),     TEST(environment),        TEST(xsave_against_cpu),
		TEST(xrstor_checks), TEST(xsaves),             TEST(pkru),
		TEST(xcr0),          TEST(client_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
