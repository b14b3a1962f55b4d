// SPDX-License-Identifier: MIT
/* System instructions one at a time: privilege, faults, effects. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/debug.h"
#include "cpu/tsc.h"

#include "flat.h"

#define MEM (4ull << 20)
#define CODE 0x1000u

enum start { REAL, PROT, LONG };

struct test {
	struct flat *f;
	struct cpu *c;
};

static struct test begin(enum start start, unsigned cpl)
{
	struct flat *f = flat_new(MEM);
	struct test t = { f, &f->cpu };

	if (start == REAL) {
		flat_real(f, CODE);
	} else if (start == PROT) {
		flat_prot(f, CODE);
	} else {
		flat_long(f, CODE);
	}
	for (unsigned s = SEG_ES; cpl && s <= SEG_GS; s++)
		t.c->seg[s].attr |= cpl << ATTR_DPL_SHIFT;
	cpu_update_mode(t.c);
	return t;
}

static void end(struct test *t)
{
	flat_free(t->f);
}

/* Decodes the bytes as code at RIP and executes them, alone. */
static int exec(struct test *t, const u8 *bytes, unsigned n)
{
	struct cpu *c = t->c;
	u64 rip = c->gpr[R_RIP];
	struct insn i;
	int len = insn_decode(bytes, n, c->code_mode, &i), st;

	if (len < 0)
		return fault_noerr(c, len == DECODE_GP ? VEC_GP : VEC_UD);
	assert_int_equal(len, n);
	i.fn = interp_bind(&i);
	c->gpr[R_RIP] += i.len;
	st = i.fn(c, &i);
	if (st == ST_FAULT || st == ST_EXIT)
		c->gpr[R_RIP] = rip;
	return st;
}

#define EXEC(t, ...) exec(t, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))
#define FAULTS(t, vec, ...)                                                                                            \
	do {                                                                                                           \
		assert_int_equal(EXEC(t, __VA_ARGS__), ST_FAULT);                                                      \
		assert_int_equal((t)->c->fault.vector, vec);                                                           \
	} while (0)
#define DONE(t, ...) assert_in_range(EXEC(t, __VA_ARGS__), ST_OK, ST_END)

static void privilege(void **state)
{
	static const u8 insns[][4] = {
		{ 3, 0x0f, 0x20, 0xc0 }, /* mov rax, cr0 */ { 3, 0x0f, 0x22, 0xd8 }, /* mov cr3, rax */
		{ 3, 0x0f, 0x21, 0xf8 }, /* mov rax, dr7 */ { 3, 0x0f, 0x23, 0xf8 }, /* mov dr7, rax */
		{ 2, 0x0f, 0x06 },       /* clts */ { 2, 0x0f, 0x09 },               /* wbinvd */
		{ 2, 0x0f, 0x08 },       /* invd */ { 1, 0xf4 },                     /* hlt */
		{ 2, 0x0f, 0x32 },       /* rdmsr */ { 2, 0x0f, 0x30 },              /* wrmsr */
		{ 3, 0x0f, 0x01, 0x10 }, /* lgdt [rax] */ { 3, 0x0f, 0x01, 0x18 },   /* lidt [rax] */
		{ 3, 0x0f, 0x01, 0x38 }, /* invlpg [rax] */ { 3, 0x0f, 0x01, 0xf0 }, /* lmsw ax */
		{ 3, 0x0f, 0x01, 0xf8 }, /* swapgs */ { 2, 0x0f, 0x33 },             /* rdpmc */
		{ 2, 0x0f, 0x07 },                                                   /* sysret */
	};
	struct test t = begin(LONG, 3);

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(insns); n++) {
		assert_int_equal(exec(&t, insns[n] + 1, insns[n][0]), ST_FAULT);
		assert_int_equal(t.c->fault.vector, VEC_GP);
		assert_int_equal(t.c->fault.error, 0);
	}
	FAULTS(&t, VEC_UD, 0x0f, 0x01, 0xcb); /* stac */
	FAULTS(&t, VEC_UD, 0x0f, 0x01, 0xc8); /* monitor */
	end(&t);
}

static void control_registers(void **state)
{
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;

	(void)state;
	DONE(&t, 0x0f, 0x20, 0xe0); /* mov rax, cr4 */
	assert_int_equal(c->gpr[RAX], c->cr4);
	c->gpr[RAX] |= CR4_PCIDE;
	c->cr3 |= 1;
	FAULTS(&t, VEC_GP, 0x0f, 0x22, 0xe0); /* mov cr4, rax: the PCID has to be 0 then */
	c->cr3 &= ~0xfffull;
	c->feat &= ~FEAT_PCID;
	FAULTS(&t, VEC_GP, 0x0f, 0x22, 0xe0);
	c->feat |= FEAT_PCID;
	DONE(&t, 0x0f, 0x22, 0xe0);
	c->gpr[RAX] = c->cr3 | BIT64(63) | 0xfff;
	DONE(&t, 0x0f, 0x22, 0xd8); /* mov cr3, rax */
	assert_int_equal(c->cr3 >> 63, 0);
	assert_int_equal(c->cr3 & 0xfff, 0xfff);
	c->gpr[RAX] = c->cr3 | BIT64(62);
	FAULTS(&t, VEC_GP, 0x0f, 0x22, 0xd8);
	c->gpr[RAX] = c->cr4 & ~CR4_PCIDE;
	DONE(&t, 0x0f, 0x22, 0xe0);
	c->gpr[RAX] = c->cr3 | BIT64(63);
	FAULTS(&t, VEC_GP, 0x0f, 0x22, 0xd8); /* reserved without PCIDs */
	c->gpr[RAX] = 7;
	DONE(&t, 0x44, 0x0f, 0x22, 0xc0); /* mov cr8, rax */
	assert_int_equal(c->cr8, 7);
	c->gpr[RAX] = 3; /* lower: the client is to know */
	assert_int_equal(EXEC(&t, 0x44, 0x0f, 0x22, 0xc0), ST_EXIT_DONE);
	assert_int_equal(c->exit.reason, EXIT_TPR);
	FAULTS(&t, VEC_UD, 0x0f, 0x20, 0xc8); /* mov rax, cr1 */
	c->cr0 |= CR0_TS;
	cpu_update_mode(c);
	assert_true(c->fpu_trap);
	DONE(&t, 0x0f, 0x06);
	assert_false(c->cr0 & CR0_TS);
	end(&t);
}

/* LMSW enters protected mode, and does not leave it. */
static void lmsw(void **state)
{
	struct test t = begin(REAL, 0);

	(void)state;
	t.c->gpr[RAX] = 0xfff1;
	DONE(&t, 0x0f, 0x01, 0xf0);
	assert_int_equal(t.c->cr0 & 0xf, CR0_PE);
	assert_int_equal(t.c->mode, CPU_PROT);
	t.c->gpr[RAX] = 0;
	DONE(&t, 0x0f, 0x01, 0xf0);
	assert_int_equal(t.c->cr0 & 0xf, CR0_PE);
	DONE(&t, 0x0f, 0x01, 0xe3); /* smsw bx */
	assert_int_equal(t.c->gpr[RBX], t.c->cr0 & 0xffff);
	end(&t);
}

static void debug_registers(void **state)
{
	struct test t = begin(PROT, 0);
	struct cpu *c = t.c;

	(void)state;
	c->gpr[RAX] = 0xffffffff;
	DONE(&t, 0x0f, 0x23, 0xf0); /* mov dr6, eax */
	assert_int_equal(c->dr[6], 0xffffefff);
	c->gpr[RAX] = 0;
	DONE(&t, 0x0f, 0x23, 0xe8); /* mov dr5, eax: DR7 */
	assert_int_equal(c->dr[7], 0x400);
	c->cr4 |= CR4_DE;
	FAULTS(&t, VEC_UD, 0x0f, 0x21, 0xe0); /* mov eax, dr4 */
	c->dr[7] |= DR7_GD;
	FAULTS(&t, VEC_DB, 0x0f, 0x21, 0xc0); /* mov eax, dr0 */
	assert_int_equal(c->fault.dr6, DR6_BD);
	end(&t);
	t = begin(LONG, 0);
	t.c->gpr[RAX] = BIT64(32);
	FAULTS(&t, VEC_GP, 0x0f, 0x23, 0xf8);
	end(&t);
}

static void descriptor_tables(void **state)
{
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;

	(void)state;
	memcpy(t.f->mem + 0x2000, "\x34\x12\x78\x56\x34\x12\x00\x80\xff\xff", 10);
	c->gpr[RAX] = 0x2000;
	DONE(&t, 0x0f, 0x01, 0x10); /* lgdt [rax] */
	assert_int_equal(c->gdt.limit, 0x1234);
	assert_int_equal(c->gdt.base, 0xffff800012345678);
	c->gpr[RAX] = 0x2100;
	DONE(&t, 0x0f, 0x01, 0x00); /* sgdt [rax] */
	assert_memory_equal(t.f->mem + 0x2100, t.f->mem + 0x2000, 10);
	t.f->mem[0x2009] = 0x7f;
	c->gpr[RAX] = 0x2000;
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0x18); /* lidt [rax]: not canonical */
	c->gpr[RAX] = BIT64(50);
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0x18);
	end(&t);

	t = begin(PROT, 0);
	memcpy(t.f->mem + 0x2000, "\x34\x12\x78\x56\x34\x12", 6);
	t.c->gpr[RAX] = 0x2000;
	DONE(&t, 0x66, 0x0f, 0x01, 0x18); /* 16 bits: a base of 24 */
	assert_int_equal(t.c->idt.base, 0x345678);
	end(&t);

	t = begin(PROT, 3);
	t.c->cr4 |= CR4_UMIP;
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0x08); /* sidt */
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0xe0); /* smsw */
	end(&t);
}

/* ---- MSRs and the client's word in them ---- */

struct decider {
	bool allow;
	int answer;
	u64 data;
	u32 why;
};

static struct decider decider;
static struct cpu *decider_cpu;

static bool allowed(void *ctx, u32 index, bool write)
{
	(void)index;
	(void)write;
	return ((struct decider *)ctx)->allow;
}

static int decide(void *ctx, u32 index, u64 *data, bool write)
{
	struct decider *d = ctx;

	(void)index;
	d->why = decider_cpu->exit.msr.why;
	if (!write)
		*data = d->data;
	return d->answer;
}

static void msrs(void **state)
{
	static const struct cpu_host host = { .msr_allowed = allowed, .msr = decide };
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;

	(void)state;
	c->gpr[RCX] = 0xc0000102;
	c->gpr[RAX] = 0xaaaaaaaa12345678;
	c->gpr[RDX] = 0xbbbbbbbb00001234;
	DONE(&t, 0x0f, 0x30);
	assert_int_equal(c->msr.kernel_gs_base, 0x123412345678);
	DONE(&t, 0x0f, 0x32);
	assert_int_equal(c->gpr[RAX], 0x12345678);
	assert_int_equal(c->gpr[RDX], 0x1234);
	DONE(&t, 0x0f, 0x01, 0xf8); /* swapgs */
	assert_int_equal(c->seg[SEG_GS].base, 0x123412345678);
	c->gpr[RCX] = 0x99999;
	FAULTS(&t, VEC_GP, 0x0f, 0x32);

	decider = (struct decider){ .allow = true, .answer = 0, .data = 0x1122334455667788 };
	decider_cpu = c;
	c->host = &host;
	c->host_ctx = &decider;
	DONE(&t, 0x0f, 0x32);
	assert_int_equal(decider.why, MSR_UNKNOWN);
	assert_int_equal(c->gpr[RAX], 0x55667788);
	decider.allow = false;
	decider.answer = -EINVAL;
	c->gpr[RCX] = 0x277;
	FAULTS(&t, VEC_GP, 0x0f, 0x32);
	assert_int_equal(decider.why, MSR_FILTERED);
	decider.answer = ST_EXIT;
	assert_int_equal(EXEC(&t, 0x0f, 0x30), ST_EXIT);
	end(&t);
}

static void time_stamps(void **state)
{
	struct test t = begin(LONG, 3);
	struct cpu *c = t.c;

	(void)state;
	cpu_tsc_set(c, BIT64(40));
	DONE(&t, 0x0f, 0x31);
	assert_int_equal(c->gpr[RDX], 1 << 8);
	c->msr.tsc_aux = 0x123;
	DONE(&t, 0x0f, 0x01, 0xf9); /* rdtscp */
	assert_int_equal(c->gpr[RCX], 0x123);
	DONE(&t, 0xf3, 0x0f, 0xc7, 0xfb); /* rdpid rbx */
	assert_int_equal(c->gpr[RBX], 0x123);
	c->cr4 |= CR4_TSD;
	FAULTS(&t, VEC_GP, 0x0f, 0x31);
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0xf9);
	end(&t);
}

static void segment_bases(void **state)
{
	struct test t = begin(LONG, 3);
	struct cpu *c = t.c;

	(void)state;
	FAULTS(&t, VEC_UD, 0xf3, 0x48, 0x0f, 0xae, 0xc0); /* rdfsbase rax without CR4.FSGSBASE */
	c->cr4 |= CR4_FSGSBASE;
	c->gpr[RAX] = 0x7fff12345678;
	DONE(&t, 0xf3, 0x48, 0x0f, 0xae, 0xd8); /* wrgsbase rax */
	assert_int_equal(c->seg[SEG_GS].base, 0x7fff12345678);
	DONE(&t, 0xf3, 0x0f, 0xae, 0xcb); /* rdgsbase ebx */
	assert_int_equal(c->gpr[RBX], 0x12345678);
	c->gpr[RAX] = BIT64(60);
	FAULTS(&t, VEC_GP, 0xf3, 0x48, 0x0f, 0xae, 0xd0); /* wrfsbase rax */
	end(&t);
}

/* ---- fast system calls ---- */

static void syscall_and_back(void **state)
{
	struct test t = begin(LONG, 3);
	struct cpu *c = t.c;

	(void)state;
	c->msr.star = 0x0023001000000000;
	c->msr.lstar = 0xffffffff80001000;
	c->msr.sfmask = FL_IF | FL_DF | FL_TF;
	cpu_set_rflags(c, FL_IF | FL_DF | FL_CF);
	DONE(&t, 0x0f, 0x05);
	assert_int_equal(c->gpr[R_RIP], 0xffffffff80001000);
	assert_int_equal(c->gpr[RCX], CODE + 2);
	assert_int_equal(c->gpr[R11], FL_IF | FL_DF | FL_CF | FL_1);
	assert_int_equal(cpu_rflags(c), FL_CF | FL_1);
	assert_int_equal(c->cpl, 0);
	assert_int_equal(c->mode, CPU_LONG);
	assert_int_equal(c->seg[SEG_CS].sel, 0x10);
	assert_int_equal(c->seg[SEG_SS].sel, 0x18);
	DONE(&t, 0x48, 0x0f, 0x07); /* sysretq */
	assert_int_equal(c->gpr[R_RIP], CODE + 2);
	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->seg[SEG_CS].sel, 0x33);
	assert_int_equal(c->seg[SEG_SS].sel, 0x2b);
	assert_int_equal(cpu_rflags(c), FL_IF | FL_DF | FL_CF | FL_1);
	DONE(&t, 0x0f, 0x05);
	DONE(&t, 0x0f, 0x07); /* sysretl: to compatibility mode */
	assert_int_equal(c->mode, CPU_COMPAT);
	assert_int_equal(c->seg[SEG_CS].sel, 0x23);
	/* From there SYSCALL is AMD's alone. */
	c->feat = (c->feat & ~FEAT_AMD) | FEAT_INTEL;
	FAULTS(&t, VEC_UD, 0x0f, 0x05);
	c->feat ^= FEAT_AMD | FEAT_INTEL;
	c->msr.cstar = 0xffffffff80002000;
	DONE(&t, 0x0f, 0x05);
	assert_int_equal(c->gpr[R_RIP], 0xffffffff80002000);
	assert_int_equal(c->mode, CPU_LONG);
	c->gpr[RCX] = BIT64(47);
	c->feat ^= FEAT_AMD | FEAT_INTEL;
	FAULTS(&t, VEC_GP, 0x48, 0x0f, 0x07);
	c->feat ^= FEAT_AMD | FEAT_INTEL;
	DONE(&t, 0x48, 0x0f, 0x07); /* AMD's faults in ring 3 */
	assert_int_equal(c->cpl, 3);
	assert_int_equal(c->gpr[R_RIP], BIT64(47));
	c->efer &= ~EFER_SCE;
	FAULTS(&t, VEC_UD, 0x0f, 0x05);
	end(&t);
}

static void sysenter_and_back(void **state)
{
	struct test t = begin(PROT, 3);
	struct cpu *c = t.c;

	(void)state;
	FAULTS(&t, VEC_GP, 0x0f, 0x34); /* SYSENTER_CS is 0 */
	c->msr.sysenter_cs = 0x60;
	c->msr.sysenter_eip = 0xc0001000;
	c->msr.sysenter_esp = 0xc0002000;
	cpu_set_rflags(c, FL_IF);
	DONE(&t, 0x0f, 0x34);
	assert_int_equal(c->gpr[R_RIP], 0xc0001000);
	assert_int_equal(c->gpr[RSP], 0xc0002000);
	assert_int_equal(c->seg[SEG_CS].sel, 0x60);
	assert_int_equal(c->seg[SEG_SS].sel, 0x68);
	assert_int_equal(c->cpl, 0);
	assert_int_equal(cpu_rflags(c), FL_1);
	c->gpr[RDX] = 0x5000;
	c->gpr[RCX] = 0x6000;
	DONE(&t, 0x0f, 0x35);
	assert_int_equal(c->gpr[R_RIP], 0x5000);
	assert_int_equal(c->gpr[RSP], 0x6000);
	assert_int_equal(c->seg[SEG_CS].sel, 0x73);
	assert_int_equal(c->seg[SEG_SS].sel, 0x7b);
	assert_int_equal(c->cpl, 3);
	FAULTS(&t, VEC_GP, 0x0f, 0x35);
	end(&t);
}

static void smap(void **state)
{
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;
	u64 v = 1;

	(void)state;
	assert_int_equal(cpu_write_cr4(c, c->cr4 | CR4_SMAP), ST_OK);
	/* The pages of flat_long() are user pages. */
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_FAULT);
	assert_int_equal(c->fault.error, PF_P | PF_W);
	DONE(&t, 0x0f, 0x01, 0xcb); /* stac */
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_OK);
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_OK);
	DONE(&t, 0x0f, 0x01, 0xca); /* clac */
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_FAULT);
	end(&t);
}

static void protection_keys(void **state)
{
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;
	u64 v = 1, *pd = (u64 *)(t.f->mem + MEM - PAGE_SIZE);

	(void)state;
	FAULTS(&t, VEC_UD, 0x0f, 0x01, 0xee); /* rdpkru */
	FAULTS(&t, VEC_UD, 0x0f, 0x01, 0xef); /* wrpkru */
	c->feat &= ~FEAT_PKU;
	assert_int_equal(cpu_write_cr4(c, c->cr4 | CR4_PKE), ST_FAULT);
	c->feat |= FEAT_PKU;
	assert_int_equal(cpu_write_cr4(c, c->cr4 | CR4_PKE), ST_OK);
	pd[0] |= 3ull << 59; /* flat_long()'s pages are the user's */
	tlb_flush(c);
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_OK);
	c->gpr[RAX] = 0xffffffff00000000 | 2u << 6; /* no writes */
	c->gpr[RCX] = 0xffffffff00000000;
	c->gpr[RDX] = 0;
	DONE(&t, 0x0f, 0x01, 0xef);
	assert_int_equal(mem_read(c, SEG_FLAT, 0x3000, &v, 8), ST_OK);
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_FAULT);
	assert_int_equal(c->fault.error, PF_P | PF_W | PF_PK);
	c->gpr[RAX] = c->gpr[RDX] = ~0ull;
	DONE(&t, 0x0f, 0x01, 0xee);
	assert_int_equal(c->gpr[RAX], 2u << 6);
	assert_int_equal(c->gpr[RDX], 0);
	assert_int_equal(cpu_write_cr0(c, c->cr0 & ~CR0_WP), ST_OK);
	assert_int_equal(mem_write(c, SEG_FLAT, 0x3000, &v, 8), ST_OK);
	c->gpr[RAX] = 1u << 6; /* nothing at all */
	DONE(&t, 0x0f, 0x01, 0xef);
	assert_int_equal(mem_read(c, SEG_FLAT, 0x3000, &v, 8), ST_FAULT);
	assert_int_equal(c->fault.error, PF_P | PF_PK);
	c->gpr[RDX] = 1;
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0xef);
	c->gpr[RDX] = 0;
	c->gpr[RCX] = 1;
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0xef);
	FAULTS(&t, VEC_GP, 0x0f, 0x01, 0xee);
	assert_int_equal(cpu_write_cr4(c, c->cr4 & ~CR4_PKE), ST_OK);
	assert_int_equal(mem_read(c, SEG_FLAT, 0x3000, &v, 8), ST_OK);
	end(&t);
}

static void cpuid_and_hypercalls(void **state)
{
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;

	(void)state;
	c->nr_cpuid = 1;
	c->cpuid[0] = (struct cpuid_entry){ .function = 5, .eax = 1, .ebx = 2, .ecx = 3, .edx = 0x80000004 };
	c->gpr[RAX] = 0xffffffff00000005;
	DONE(&t, 0x0f, 0xa2);
	assert_int_equal(c->gpr[RAX], 1);
	assert_int_equal(c->gpr[RDX], 0x80000004);
	c->gpr[RAX] = 77;
	DONE(&t, 0x0f, 0x01, 0xc1); /* vmcall */
	assert_int_equal(c->gpr[RAX], (u64)-1000);
	c->gpr[RAX] = 1;
	DONE(&t, 0x0f, 0x01, 0xd9); /* vmmcall: KVM_HC_VAPIC_POLL_IRQ */
	assert_int_equal(c->gpr[RAX], 0);
	assert_int_equal(EXEC(&t, 0xf4), ST_EXIT_DONE);
	assert_int_equal(c->exit.reason, EXIT_HLT);
	end(&t);
}

static void invpcid_without_pcid(void **state)
{
	static const struct {
		const char *vendor; /* EBX, EDX, ECX */
		u32 pcid;
		bool invpcid;
	} rows[] = {
		{ "GenuineIntel", BIT(17), true }, { "GenuineIntel", 0, false }, { "AuthenticAMD", 0, false },
	};
	struct test t = begin(LONG, 0);
	struct cpu *c = t.c;
	u32 r[4];

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		memset(c->cpuid, 0, 3 * sizeof(c->cpuid[0]));
		c->nr_cpuid = 3;
		c->cpuid[0].eax = 7;
		memcpy(&c->cpuid[0].ebx, rows[n].vendor, 4);
		memcpy(&c->cpuid[0].edx, rows[n].vendor + 4, 4);
		memcpy(&c->cpuid[0].ecx, rows[n].vendor + 8, 4);
		c->cpuid[1] = (struct cpuid_entry){ .function = 1, .ecx = rows[n].pcid };
		c->cpuid[2] = (struct cpuid_entry){ .function = 7, .ebx = BIT(10) };
		cpuid_changed(c);
		cpuid_query(c, 7, 0, r);
		assert_int_equal(r[CPUID_EBX], rows[n].invpcid ? BIT(10) : 0);
		assert_int_equal(!!cpu_has(c, FEAT_INVPCID), rows[n].invpcid);
	}
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(privilege),
		cmocka_unit_test(control_registers),
		cmocka_unit_test(lmsw),
		cmocka_unit_test(debug_registers),
		cmocka_unit_test(msrs),
		cmocka_unit_test(descriptor_tables),
		cmocka_unit_test(time_stamps),
		cmocka_unit_test(segment_bases),
		cmocka_unit_test(smap),
		cmocka_unit_test(protection_keys),
		cmocka_unit_test(syscall_and_back),
		cmocka_unit_test(sysenter_and_back),
		cmocka_unit_test(cpuid_and_hypercalls),
		cmocka_unit_test(invpcid_without_pcid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
