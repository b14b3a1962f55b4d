// SPDX-License-Identifier: MIT
/* MSRs, CPUID, control registers and time: what the tables promise. */
#include <cpuid.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "cpu/pvclock.h"
#include "cpu/tsc.h"

#include "flat.h"

#define MEM (16ull << 12)
#define HOST true
#define GUEST false

#define MSR_TSC 0x10
#define MSR_TSC_ADJUST 0x3b

static int setup(void **state)
{
	*state = flat_new(MEM);
	return 0;
}

static int teardown(void **state)
{
	flat_free(*state);
	return 0;
}

static struct cpu *cpu_of(void **state)
{
	return &((struct flat *)*state)->cpu;
}

/* ---- MSRs ---- */

static void test_table_is_sorted(void **state)
{
	const struct msr_row *row, *last = NULL;

	(void)state;
	for (u32 n = 0; (row = cpu_msr_row(n)); n++) {
		assert_true(row->first <= row->last);
		if (last)
			assert_true(row->first > last->last);
		last = row;
	}
}

/* What a client saves it can restore: the value of every listed MSR can be written back, and reads the same. */
static void test_saved_msrs_restore(void **state)
{
	struct cpu *c = cpu_of(state);
	u32 index[256], n = cpu_msr_list(index, ARRAY_SIZE(index));

	assert_in_range(n, 20, ARRAY_SIZE(index));
	for (u32 k = 0; k < n; k++) {
		u64 v, again;

		assert_int_equal(cpu_msr_read(c, index[k], &v, HOST), 0);
		assert_int_equal(cpu_msr_write(c, index[k], v, HOST), 0);
		assert_int_equal(cpu_msr_read(c, index[k], &again, HOST), 0);
		if (index[k] != MSR_TSC)
			assert_int_equal(v, again);
	}
}

static void test_values(void **state)
{
	static const struct {
		u32 index;
		u64 value;
		int guest, host; /* errors of the write */
	} rows[] = {
		{ 0x277, 0x0007040600070406, 0, 0 }, /* PAT */
		{ 0x277, 0x0007040600070402, -EINVAL, -EINVAL },
		{ 0x2ff, 0xc06, 0, 0 }, /* MTRR_DEF_TYPE */
		{ 0x2ff, 0xc02, -EINVAL, -EINVAL },
		{ 0x250, 0x0606060606060606, 0, 0 },
		{ 0x26f, 0x0606060606060607, -EINVAL, -EINVAL },
		{ 0x200, 0xfee00006, 0, 0 },
		{ 0x200, 0xfee00106, -EINVAL, -EINVAL },
		{ 0x201, 0xfff000800, 0, 0 },
		{ 0xc0000082, 0xffffffff81000000, 0, 0 }, /* LSTAR */
		{ 0xc0000082, 0x0000800000000000, -EINVAL, -EINVAL },
		{ 0xc0000100, 0x00007fffffffffff, 0, 0 }, /* FS_BASE */
		{ 0xc0000102, 0x8000000000000000, -EINVAL, -EINVAL },
		{ 0xc0000080, EFER_SCE | EFER_LME | EFER_NX, 0, 0 }, /* EFER */
		{ 0xc0000080, BIT64(1), -EINVAL, -EINVAL },
		{ 0x1b, 0xfee00800, 0, 0 },             /* APIC_BASE */
		{ 0x1b, 0xfee00c00, -EINVAL, -EINVAL }, /* no x2APIC */
		{ 0xce, 0, -EINVAL, 0 },                /* PLATFORM_INFO */
		{ 0x9e, 0x40000, -EINVAL, 0 },          /* SMBASE */
		{ 0xfe, 0, -EINVAL, -EINVAL },          /* MTRRCAP */
		{ 0x4b564d05, 0, 0, 0 },                /* KVM_POLL_CONTROL */
		{ 0x4b564d05, 2, -EINVAL, -EINVAL },
		{ 0x4b564d02, 0, -ENOENT, -ENOENT }, /* no asynchronous page faults */
		{ 0x12345678, 0, -ENOENT, -ENOENT },
		{ 0x400, ~0ull, -EINVAL, -EINVAL }, /* no banks before KVM_X86_SETUP_MCE */
		{ 0xc0010015, BIT64(18), 0, 0 },    /* HWCR */
		{ 0xc0010015, BIT64(24), -EINVAL, -EINVAL },
	};
	struct cpu *c = cpu_of(state);

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		u64 v;

		assert_int_equal(cpu_msr_write(c, rows[n].index, rows[n].value, GUEST), rows[n].guest);
		assert_int_equal(cpu_msr_write(c, rows[n].index, rows[n].value, HOST), rows[n].host);
		if (rows[n].host)
			continue;
		assert_int_equal(cpu_msr_read(c, rows[n].index, &v, HOST), 0);
		assert_int_equal(v, rows[n].value);
	}
}

static void test_machine_check(void **state)
{
	struct cpu *c = cpu_of(state);
	u64 v;

	assert_int_equal(cpu_setup_mce(c, 0), -EINVAL);
	assert_int_equal(cpu_setup_mce(c, 33), -EINVAL);
	assert_int_equal(cpu_setup_mce(c, BIT64(10) | 2), -EINVAL); /* no CMCI */
	assert_int_equal(cpu_setup_mce(c, MCG_CTL_P | MCG_SER_P | 10), 0);
	assert_int_equal(cpu_msr_read(c, 0x179, &v, GUEST), 0);
	assert_int_equal(v, MCG_CTL_P | MCG_SER_P | 10);
	assert_int_equal(cpu_msr_read(c, 0x400 + 4 * 9, &v, GUEST), 0);
	assert_int_equal(v, ~0ull);
	assert_int_equal(cpu_msr_read(c, 0x400 + 4 * 10, &v, GUEST), -EINVAL);
	assert_int_equal(cpu_msr_write(c, 0x401, 1, GUEST), -EINVAL); /* MC0_STATUS: only 0 */
	assert_int_equal(cpu_msr_write(c, 0x401, 1, HOST), 0);
	assert_int_equal(cpu_msr_write(c, 0x401, 0, GUEST), 0);
	assert_int_equal(cpu_msr_write(c, 0x400, 1, GUEST), -EINVAL);
}

static void test_features(void **state)
{
	u32 index[16], n = cpu_msr_feature_list(index, ARRAY_SIZE(index));
	u64 v;

	(void)state;
	assert_in_range(n, 1, ARRAY_SIZE(index));
	for (u32 k = 0; k < n; k++)
		assert_int_equal(cpu_msr_feature(index[k], &v), 0);
	assert_int_equal(cpu_msr_feature(0x277, &v), -EINVAL);
}

/* ---- time ---- */

static void test_tsc(void **state)
{
	struct cpu *c = cpu_of(state);
	u64 v, adjust, host, start, before = cpu_tsc_read(c);

	assert_int_equal(cpu_msr_write(c, MSR_TSC, 0x100000000000, GUEST), 0);
	assert_int_equal(cpu_msr_read(c, MSR_TSC, &v, GUEST), 0);
	assert_true(v - 0x100000000000 < 1000000000);
	assert_int_equal(cpu_msr_read(c, MSR_TSC_ADJUST, &adjust, GUEST), 0);
	assert_true(adjust != 0);
	/* Taking the adjustment back takes the write back. */
	assert_int_equal(cpu_msr_write(c, MSR_TSC_ADJUST, 0, GUEST), 0);
	assert_true(cpu_tsc_read(c) - before < 0x1000000000);

	assert_int_equal(cpu_set_tsc_khz(c, host_tsc_khz() / 2), 0);
	start = host_tsc();
	cpu_tsc_set(c, 0);
	host = host_tsc();
	while (host_tsc() - host < 10000000)
		;
	v = cpu_tsc_read(c);
	assert_in_range(v, 5000000, (host_tsc() - start) / 2);
	assert_int_equal(cpu_set_tsc_khz(c, 1), -EINVAL);
}

static void test_pvclock(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;
	struct {
		u32 version, pad;
		u64 tsc, ns;
		u32 mul;
		s8 shift;
		u8 flags, pad2[2];
	} info;
	u64 delta, ns;

	cpu_tsc_set(c, 12345);
	c->clock_offset = -(s64)host_clock_ns();
	assert_int_equal(cpu_msr_write(c, 0x4b564d01, 0x1001, GUEST), 0);
	assert_true(c->clock_due & CLOCK_SYSTEM);
	pvclock_update(c, false);
	assert_int_equal(c->clock_due, 0);
	memcpy(&info, f->mem + 0x1000, sizeof(info));
	assert_int_equal(info.version, 2);
	assert_int_equal(info.flags, 1);
	delta = cpu_tsc_read(c) - info.tsc;
	delta = info.shift < 0 ? delta >> -info.shift : delta << info.shift;
	ns = info.ns + (u64)((unsigned __int128)delta * info.mul >> 32);
	assert_true(ns < 1000000000);
	assert_true(pvclock_ns(c) - ns < 100000000);
	pvclock_update(c, true);
	memcpy(&info, f->mem + 0x1000, sizeof(info));
	assert_int_equal(info.version, 4);
	assert_int_equal(info.flags, 3);
	/* Outside memory: nothing happens. */
	assert_int_equal(cpu_msr_write(c, 0x4b564d01, MEM | 1, GUEST), 0);
	pvclock_update(c, false);
	assert_int_equal(c->io.n, 0);
}

/* ---- CPUID ---- */

static const struct cpuid_entry *entry(const struct cpuid_entry *e, u32 n, u32 leaf, u32 subleaf)
{
	for (u32 k = 0; k < n; k++)
		if (e[k].function == leaf && e[k].index == subleaf)
			return &e[k];
	return NULL;
}

/* What is said to come from the host does. */
static void test_supported_is_subset(void **state)
{
	struct cpuid_entry e[CPUID_MAX_ENTRIES];
	u32 n = cpuid_supported(e, ARRAY_SIZE(e));

	(void)state;
	assert_in_range(n, 20, ARRAY_SIZE(e));
	assert_int_equal(cpuid_supported(e, 3), n);
	for (u32 k = 0; k < nr_cpuid_bits; k++) {
		const struct cpuid_bit *b = &cpuid_bits[k];
		const struct cpuid_entry *x = entry(e, n, b->leaf, b->subleaf);
		u32 r[4], host[4];
		bool set;

		if (!x)
			continue;
		r[0] = x->eax;
		r[1] = x->ebx;
		r[2] = x->ecx;
		r[3] = x->edx;
		set = r[b->reg] & BIT(b->bit);
		__cpuid_count(b->leaf, b->subleaf, host[0], host[1], host[2], host[3]);
		if (b->source == CPUID_ENGINE)
			assert_true(set);
		else if (b->source == CPUID_NEVER)
			assert_false(set);
		else
			assert_int_equal(set, !!(host[b->reg] & BIT(b->bit)));
	}
}

static void use_supported(struct cpu *c)
{
	c->nr_cpuid = cpuid_supported(c->cpuid, CPUID_MAX_ENTRIES);
	cpuid_changed(c);
}

static void test_query(void **state)
{
	struct cpu *c = cpu_of(state);
	u32 r[4], again[4];

	use_supported(c);
	assert_in_range(c->phys_bits, 36, 52);
	assert_true(cpu_has(c, FEAT_LM) && cpu_has(c, FEAT_NX) && cpu_has(c, FEAT_SMAP));
	assert_true(cpu_has(c, FEAT_PCID) && cpu_has(c, FEAT_INVPCID));
	cpuid_query(c, 1, 0, r);
	assert_false(r[CPUID_ECX] & BIT(27));
	assert_true(r[CPUID_EDX] & BIT(9));
	c->cr4 |= CR4_OSXSAVE;
	c->msr.apic_base &= ~APIC_BASE_ENABLE;
	cpuid_query(c, 1, 0, r);
	assert_true(r[CPUID_ECX] & BIT(27));
	assert_false(r[CPUID_EDX] & BIT(9));
	cpuid_query(c, 0xd, 0, r);
	assert_int_equal(r[CPUID_EBX], 576);
	assert_int_equal(r[CPUID_EAX], (u32)c->xcr0_allowed);
	cpuid_query(c, 0x40000000, 0, r);
	assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
	/* Behind the last leaf: Intel repeats the last basic one, AMD has nothing. */
	cpuid_query(c, 0x70000000, 1, r);
	cpuid_query(c, c->cpuid[0].eax, 1, again);
	if (cpu_has(c, FEAT_AMD))
		memset(again, 0, sizeof(again));
	assert_memory_equal(r, again, sizeof(r));
}

/* A client that takes away features takes them away. */
static void test_features_follow_cpuid(void **state)
{
	struct cpu *c = cpu_of(state);

	use_supported(c);
	for (u32 n = 0; n < c->nr_cpuid; n++)
		if (c->cpuid[n].function == 7)
			c->cpuid[n].ebx = c->cpuid[n].ecx = 0;
	cpuid_changed(c);
	assert_int_equal(cpu_cr4_mask(c) & (CR4_SMEP | CR4_SMAP | CR4_UMIP | CR4_FSGSBASE), 0);
	assert_int_equal(cpu_write_cr4(c, CR4_SMEP), ST_FAULT);
	assert_int_equal(c->fault.vector, VEC_GP);
	c->nr_cpuid = 0;
	cpuid_changed(c);
	assert_int_equal(c->phys_bits, 36);
	assert_int_equal(cpu_write_cr4(c, CR4_SMEP), ST_OK);
}

/* ---- control registers, SREGS ---- */

static void test_control_registers(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	flat_prot(f, 0);
	assert_int_equal(cpu_write_cr0(c, CR0_PG), ST_FAULT);
	assert_int_equal(cpu_write_cr0(c, CR0_PE | CR0_NW), ST_FAULT);
	assert_int_equal(cpu_write_cr0(c, BIT64(32)), ST_FAULT);
	assert_int_equal(cpu_write_cr0(c, CR0_PE | BIT64(6)), ST_OK);
	assert_int_equal(c->cr0, CR0_PE | CR0_ET);
	assert_int_equal(cpu_write_efer(c, EFER_LME, GUEST), 0);
	assert_int_equal(cpu_write_cr0(c, CR0_PE | CR0_PG), ST_FAULT); /* no PAE */
	assert_int_equal(cpu_write_cr4(c, CR4_PAE), ST_OK);
	assert_int_equal(cpu_write_cr0(c, CR0_PE | CR0_PG), ST_OK);
	assert_int_equal(c->efer, EFER_LME | EFER_LMA);
	assert_int_equal(c->mode, CPU_COMPAT);
	assert_int_equal(cpu_write_cr4(c, 0), ST_FAULT);
	assert_int_equal(cpu_write_efer(c, 0, GUEST), -EINVAL);
	assert_int_equal(cpu_write_cr3(c, cpu_gpa_reserved(c)), ST_FAULT);
	c->seg[SEG_CS].attr = (c->seg[SEG_CS].attr & ~ATTR_DB) | ATTR_L;
	cpu_update_mode(c);
	assert_int_equal(c->mode, CPU_LONG);
	assert_int_equal(c->lin_mask, ~0ull);
	assert_int_equal(cpu_write_cr0(c, CR0_PE), ST_FAULT);
	c->seg[SEG_CS].attr &= ~ATTR_L;
	cpu_update_mode(c);
	assert_int_equal(cpu_write_cr0(c, CR0_PE), ST_OK);
	assert_int_equal(c->efer, EFER_LME);
	assert_int_equal(c->mode, CPU_PROT);
	assert_int_equal(cpu_write_cr8(c, 16), ST_FAULT);
}

static void test_sregs(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;
	struct cpu_sregs good, s, back;

	flat_long(f, 0);
	cpu_get_sregs(c, &good);
	assert_true(cpu_sregs_valid(c, &good));
#define INVALID(change)                                                                                                \
	do {                                                                                                           \
		s = good;                                                                                              \
		change;                                                                                                \
		assert_false(cpu_sregs_valid(c, &s));                                                                  \
	} while (0)
	INVALID(s.cr0 &= ~CR0_PE);
	INVALID(s.cr0 |= BIT64(40));
	INVALID(s.cr4 &= ~CR4_PAE);
	INVALID(s.cr4 |= BIT64(31));
	INVALID(s.efer &= ~EFER_LMA);
	INVALID(s.efer &= ~EFER_LME);
	INVALID(s.efer |= BIT64(5));
	INVALID(s.cr3 |= BIT64(60));
	INVALID(s.cr0 &= ~CR0_PG);
	INVALID(s.seg[SEG_FS].base = BIT64(50));
	INVALID(s.gdt.base = BIT64(47));
	INVALID(s.apic_base |= APIC_BASE_X2APIC);
	s = good;
	s.efer = 0;
	s.cr0 = CR0_PE | CR0_ET;
	s.seg[SEG_CS].attr &= ~ATTR_L;
	assert_true(cpu_sregs_valid(c, &s));
	cpu_set_sregs(c, &s);
	assert_int_equal(c->mode, CPU_PROT);
	assert_int_equal(c->paging, PAGING_NONE);
	cpu_set_sregs(c, &good);
	cpu_get_sregs(c, &back);
	assert_int_equal(c->mode, CPU_LONG);
	assert_int_equal(back.cr0, good.cr0);
	assert_int_equal(back.efer, good.efer);
	assert_int_equal(back.cr3, good.cr3);
}

/* SDM vol. 3, table 9-1 */
static void test_reset(void **state)
{
	struct cpu *c = cpu_of(state);

	assert_int_equal(c->gpr[R_RIP], 0xfff0);
	assert_int_equal(c->gpr[RDX], 0x600);
	assert_int_equal(cpu_rflags(c), 2);
	assert_int_equal(c->cr0, 0x60000010);
	assert_int_equal(c->seg[SEG_CS].base, 0xffff0000);
	assert_int_equal(c->seg[SEG_CS].sel, 0xf000);
	assert_int_equal(c->dr[6], 0xffff0ff0);
	assert_int_equal(c->dr[7], 0x400);
	assert_int_equal(c->mode, CPU_REAL);
	assert_int_equal(c->msr.apic_base, 0xfee00900);
	assert_int_equal(c->seg[SEG_DS].rd_end, 0x10000);
	assert_int_equal(c->seg[SEG_FLAT].rd_end, ~0ull);
	assert_int_equal(c->attn & ATTN_STEP, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_table_is_sorted),
		TEST(test_saved_msrs_restore),
		TEST(test_values),
		TEST(test_machine_check),
		TEST(test_features),
		TEST(test_tsc),
		TEST(test_pvclock),
		TEST(test_supported_is_subset),
		TEST(test_query),
		TEST(test_reset),
		TEST(test_features_follow_cpuid),
		TEST(test_control_registers),
		TEST(test_sregs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
