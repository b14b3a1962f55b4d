// SPDX-License-Identifier: MIT
#include "cpu/msr.h"

#include <errno.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/debug.h"
#include "cpu/pvclock.h"
#include "cpu/tsc.h"

enum msr_flag {
	SAVE = 1 << 0,
	FEATURE = 1 << 1,
	RO = 1 << 2,
	WO = 1 << 3,
	IGNORE = 1 << 4,
	CLIENT = 1 << 5,
	CANON = 1 << 6,
};

struct msr_def;
typedef int (*msr_read_fn)(const struct cpu *c, u32 n, u64 *val, bool host);
typedef int (*msr_write_fn)(struct cpu *c, u64 *field, u32 n, u64 val, bool host);

struct msr_def {
	struct msr_row row;
	u32 field; /* offset in struct cpu */
	u32 flags;
	u64 data, feat;
	msr_read_fn read; /* n: which of the range */
	msr_write_fn write;
};

#define NONE 0 /* no MSR is where gpr[0] is */
#define AT(member) offsetof(struct cpu, member)

#define CPUID_FAULT BIT64(0) /* MISC_FEATURES_ENABLES */
#define PLATFORM_CPUID_FAULT BIT64(31)
#define MISC_FAST_STRING BIT64(0)
#define MISC_EMON BIT64(7)
#define MISC_BTS_UNAVAIL BIT64(11)
#define MISC_PEBS_UNAVAIL BIT64(12)
#define MISC_RO (MISC_EMON | MISC_BTS_UNAVAIL | MISC_PEBS_UNAVAIL)
#define DEBUGCTL_LBR BIT64(0)
#define HWCR_MC_STATUS_WR_EN BIT64(18)
#define HWCR_IGNORED (BIT64(3) | BIT64(6) | BIT64(8)) /* TLB cache, flush filter, IGNNE */
#define DE_CFG_LFENCE_SERIALIZE BIT64(1)
#define FEAT_CTL_LOCKED BIT64(0)
#define MTRR_DEF_VALID 0xcffull
#define PAT_RESET 0x0007040600070406ull
#define SMBASE_RESET 0x30000
#define UCODE_INTEL 0x100000000ull
#define UCODE_AMD 0x01000065ull

/*
 * What the guest need not work around: the engine checks every access of the guest before it makes it, and has no
 * buffers that a guest's VERW or L1D flush could clear (SDM vol. 4, IA32_ARCH_CAPABILITIES).
 */
#define ARCH_CAP_RDCL_NO BIT64(0)
#define ARCH_CAP_SKIP_L1DFL BIT64(3)
#define ARCH_CAP_MDS_NO BIT64(5)
#define ARCH_CAP_PSCHANGE_MC_NO BIT64(6)
#define ARCH_CAP_TAA_NO BIT64(8)
#define ARCH_CAP_MMIO_STALE_NO (BIT64(13) | BIT64(14) | BIT64(15)) /* SBDR_SSDP, FBSDP, PSDP */
#define ARCH_CAP_GDS_NO BIT64(26)
#define ARCH_CAP_RFDS_NO BIT64(27)
#define ARCH_CAPABILITIES                                                                                              \
	(ARCH_CAP_RDCL_NO | ARCH_CAP_SKIP_L1DFL | ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO |        \
	 ARCH_CAP_MMIO_STALE_NO | ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO)

/* ---- time ---- */

static int read_tsc(const struct cpu *c, u32 n, u64 *val, bool host)
{
	(void)n;
	(void)host;
	*val = cpu_tsc_read(c);
	return 0;
}

/* The guest's write moves TSC_ADJUST along (SDM vol. 3, 17.17.3); the client's does not. */
static int write_tsc(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	u64 old = c->tsc_offset;

	(void)field;
	(void)n;
	cpu_tsc_set(c, val);
	if (!host)
		c->msr.tsc_adjust += c->tsc_offset - old;
	return 0;
}

static int write_tsc_adjust(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)n;
	if (!cpu_has(c, FEAT_TSC_ADJUST))
		return 0;
	if (!host) {
		c->tsc_offset += val - *field;
		pvclock_want(c, CLOCK_SYSTEM);
	}
	*field = val;
	return 0;
}

static int write_tsc_aux(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)n;
	(void)host;
	if (!cpu_has(c, FEAT_AMD) && val >> 32)
		return -EINVAL;
	*field = (u32)val;
	return 0;
}

static int write_wall_clock(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)n;
	(void)host;
	*field = val;
	pvclock_want(c, CLOCK_WALL);
	return 0;
}

static int write_system_time(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)n;
	(void)host;
	*field = val;
	pvclock_want(c, CLOCK_SYSTEM);
	return 0;
}

/* ---- system ---- */

static int write_efer(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)field;
	(void)n;
	return cpu_write_efer(c, val, host);
}

/* Intel refuses what is not canonical, AMD ignores the upper half: the kernel's KVM makes it canonical for both. */
static int write_sysenter(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	(void)host;
	*field = (u64)((s64)(val << 16) >> 16);
	return 0;
}

bool cpu_apic_base_valid(const struct cpu *c, u64 v)
{
	u64 reserved = cpu_gpa_reserved(c) | 0x2ff | (cpu_has(c, FEAT_X2APIC) ? 0 : APIC_BASE_X2APIC);

	return !(v & reserved) && (v & (APIC_BASE_X2APIC | APIC_BASE_ENABLE)) != APIC_BASE_X2APIC;
}

/* x2APIC mode is left only by disabling, and entered only from xAPIC mode (SDM vol. 3, 10.12.5). */
static int write_apic_base(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	u64 mode = APIC_BASE_X2APIC | APIC_BASE_ENABLE, from = *field & mode, to = val & mode;

	(void)n;
	if (!cpu_apic_base_valid(c, val))
		return -EINVAL;
	if (!host && ((from == mode && to == APIC_BASE_ENABLE) || (!from && to == mode)))
		return -EINVAL;
	*field = val;
	return 0;
}

static int write_feat_ctl(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	if ((val & ~FEAT_CTL_LOCKED) || (!host && (*field & FEAT_CTL_LOCKED)))
		return -EINVAL;
	*field = val;
	return 0;
}

static int write_ucode_rev(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	if (host)
		*field = val;
	return 0;
}

static int write_misc_enable(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	u64 fixed = *field & MISC_EMON;

	(void)c;
	(void)n;
	if (!host && ((val ^ *field) & MISC_RO & ~MISC_EMON))
		return -EINVAL;
	*field = host ? val : (val & ~MISC_EMON) | fixed;
	return 0;
}

/* No last-branch records: accepted and not set, which the guest can read back. */
static int write_debugctl(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	(void)host;
	if (val & ~(DEBUGCTL_LBR | DEBUGCTL_BTF))
		return -EINVAL;
	*field = val & DEBUGCTL_BTF;
	return 0;
}

/* ---- memory types: kept, and without effect ---- */

static bool memory_type_valid(u64 type, bool pat)
{
	/* UC, WC, WT, WP, WB; in PAT also UC- */
	return type < 8 && (BIT(type) & (pat ? 0xf3u : 0x73u));
}

static bool memory_types_valid(u64 val, bool pat)
{
	for (unsigned shift = 0; shift < 64; shift += 8)
		if (!memory_type_valid((val >> shift) & 0xff, pat))
			return false;
	return true;
}

static int write_pat(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	(void)host;
	if (!memory_types_valid(val, true))
		return -EINVAL;
	*field = val;
	return 0;
}

static int write_mtrr_fix(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	(void)host;
	if (!memory_types_valid(val, false))
		return -EINVAL;
	*field = val;
	return 0;
}

static int write_mtrr_def(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	(void)host;
	if ((val & ~MTRR_DEF_VALID) || !memory_type_valid(val & 0xff, false))
		return -EINVAL;
	*field = val;
	return 0;
}

/* Base and mask in turns. */
static int write_mtrr_var(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	u64 reserved = cpu_gpa_reserved(c) | (n & 1 ? 0x7ff : 0xf00);

	(void)host;
	if ((val & reserved) || (!(n & 1) && !memory_type_valid(val & 0xff, false)))
		return -EINVAL;
	*field = val;
	return 0;
}

/* ---- machine check ---- */

static u32 mc_banks(const struct cpu *c)
{
	return c->msr.mcg_cap & 0xff;
}

static int read_mcg_ctl(const struct cpu *c, u32 n, u64 *val, bool host)
{
	(void)n;
	if (!(c->msr.mcg_cap & MCG_CTL_P) && !host)
		return -EINVAL;
	*val = c->msr.mcg_ctl;
	return 0;
}

static int write_mcg_ctl(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)n;
	if (!(c->msr.mcg_cap & MCG_CTL_P) && (val || !host))
		return -EINVAL;
	if (val && ~val)
		return -EINVAL;
	*field = val;
	return 0;
}

/* There is no CMCI (MCG_CAP says so): only the client may look, and finds 0. */
static int read_mc_ctl2(const struct cpu *c, u32 n, u64 *val, bool host)
{
	if (n >= mc_banks(c) || !host)
		return -EINVAL;
	*val = 0;
	return 0;
}

static int write_mc_ctl2(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)field;
	return n >= mc_banks(c) || !host || val ? -EINVAL : 0;
}

enum mc_register { MC_CTL, MC_STATUS, MC_ADDR, MC_MISC };

static int read_mc_bank(const struct cpu *c, u32 n, u64 *val, bool host)
{
	(void)host;
	if (n / 4 >= mc_banks(c))
		return -EINVAL;
	*val = c->msr.mc_bank[n];
	return 0;
}

static int write_mc_bank(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	if (n / 4 >= mc_banks(c))
		return -EINVAL;
	/* All or nothing; bits 10 and 0 may be clear, since old kernels do that against errata. */
	if (n % 4 == MC_CTL && val && ~(val | BIT64(10) | BIT64(0)))
		return -EINVAL;
	if (n % 4 == MC_STATUS && val && !host && !(c->msr.hwcr & HWCR_MC_STATUS_WR_EN))
		return -EINVAL;
	*field = val;
	return 0;
}

int cpu_setup_mce(struct cpu *c, u64 mcg_cap)
{
	u32 banks = mcg_cap & 0xff;

	if (!banks || banks > MCE_MAX_BANKS || (mcg_cap & ~(MCE_CAP_SUPPORTED | 0xff00ff)))
		return -EINVAL;
	c->msr.mcg_cap = mcg_cap;
	if (mcg_cap & MCG_CTL_P)
		c->msr.mcg_ctl = ~0ull;
	for (u32 n = 0; n < banks; n++)
		c->msr.mc_bank[n * 4 + MC_CTL] = ~0ull;
	return 0;
}

/* ---- AMD ---- */

static int write_hwcr(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	(void)host;
	val &= ~HWCR_IGNORED;
	if (val & ~HWCR_MC_STATUS_WR_EN)
		return -EINVAL;
	*field = val;
	return 0;
}

static int write_de_cfg(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)n;
	if (val & ~DE_CFG_LFENCE_SERIALIZE || (!host && val != DE_CFG_LFENCE_SERIALIZE))
		return -EINVAL;
	*field = val;
	return 0;
}

static int write_zero(struct cpu *c, u64 *field, u32 n, u64 val, bool host)
{
	(void)c;
	(void)field;
	(void)n;
	(void)host;
	return val ? -EINVAL : 0;
}

/* ---- the table ---- */

#define HAS(flags, flag) (((flags) | (flag)) == (flags))

static const struct msr_def msrs[] = {
#define MSR(first, last, name, field, data, flags, feat, read, write)                                                  \
	{ { first, last, #name, HAS(flags, SAVE), HAS(flags, FEATURE) }, field, flags, data, feat, read, write },
#include "cpu/msrs.def"
#undef MSR
};

static const struct msr_def *find(u32 index)
{
	u32 low = 0, high = ARRAY_SIZE(msrs);

	while (low < high) {
		u32 mid = (low + high) / 2;

		if (index < msrs[mid].row.first)
			high = mid;
		else if (index > msrs[mid].row.last)
			low = mid + 1;
		else
			return &msrs[mid];
	}
	return NULL;
}

static bool guest_may(const struct cpu *c, const struct msr_def *m)
{
	return !(m->flags & CLIENT) && (!m->feat || cpu_has(c, m->feat));
}

static u64 *storage(struct cpu *c, const struct msr_def *m, u32 n)
{
	return m->field == NONE ? NULL : (u64 *)((char *)c + m->field) + n;
}

int cpu_msr_read(struct cpu *c, u32 index, u64 *val, bool host)
{
	const struct msr_def *m = find(index);
	const u64 *field;

	if (!m)
		return -ENOENT;
	if ((m->flags & WO) || (!host && !guest_may(c, m)))
		return -EINVAL;
	if (m->read)
		return m->read(c, index - m->row.first, val, host);
	field = storage(c, m, index - m->row.first);
	*val = field ? *field : m->data;
	return 0;
}

int cpu_msr_write(struct cpu *c, u32 index, u64 val, bool host)
{
	const struct msr_def *m = find(index);
	u64 *field;

	if (!m)
		return -ENOENT;
	if (!host && (!guest_may(c, m) || (m->flags & RO)))
		return -EINVAL;
	if (m->flags & IGNORE)
		return 0;
	if ((m->flags & CANON) && !is_canonical(val))
		return -EINVAL;
	field = storage(c, m, index - m->row.first);
	if (m->write)
		return m->write(c, field, index - m->row.first, val, host);
	if (!field || (val & ~m->data))
		return -EINVAL;
	*field = val;
	return 0;
}

static u32 list(u32 *out, u32 max, u32 flag)
{
	u32 n = 0;

	for (u32 k = 0; k < ARRAY_SIZE(msrs); k++) {
		if (!(msrs[k].flags & flag))
			continue;
		for (u32 index = msrs[k].row.first; index <= msrs[k].row.last; index++, n++)
			if (n < max)
				out[n] = index;
	}
	return n;
}

u32 cpu_msr_list(u32 *out, u32 max)
{
	return list(out, max, SAVE);
}

u32 cpu_msr_feature_list(u32 *out, u32 max)
{
	return list(out, max, FEATURE);
}

const struct msr_row *cpu_msr_row(u32 n)
{
	return n < ARRAY_SIZE(msrs) ? &msrs[n].row : NULL;
}

/* What the host is said to have; the microcode's number is made up, as in the kernel's KVM, after the host's vendor. */
static void feature_defaults(struct msr_state *m)
{
	u32 r[4];
	bool amd;

	cpuid_host(0, 0, r);
	amd = r[CPUID_EBX] != 0x756e6547; /* "Genu" */
	m->ucode_rev = amd ? UCODE_AMD : UCODE_INTEL;
	m->arch_capabilities = ARCH_CAPABILITIES;
	m->de_cfg = DE_CFG_LFENCE_SERIALIZE;
}

int cpu_msr_feature(u32 index, u64 *val)
{
	const struct msr_def *m = find(index);
	struct msr_state state = { 0 };

	if (!m || !(m->flags & FEATURE))
		return -EINVAL;
	feature_defaults(&state);
	*val = *(u64 *)((char *)&state + (m->field - AT(msr)));
	return 0;
}

void cpu_msr_reset(struct cpu *c)
{
	struct msr_state *m = &c->msr, old = *m;

	memset(m, 0, sizeof(*m));
	feature_defaults(m);
	m->de_cfg = 0; /* for the client or the guest to set */
	m->pat = PAT_RESET;
	m->apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (c->id ? 0 : APIC_BASE_BSP);
	m->misc_enable = MISC_FAST_STRING | MISC_BTS_UNAVAIL | MISC_PEBS_UNAVAIL;
	m->smbase = SMBASE_RESET;
	m->platform_info = PLATFORM_CPUID_FAULT;
	m->kvm_poll_control = 1;
	/* Machine check registers survive RESET (SDM vol. 3, table 9-1). */
	m->mcg_cap = old.mcg_cap;
	m->mcg_ctl = old.mcg_ctl;
	memcpy(m->mc_bank, old.mc_bank, sizeof(m->mc_bank));
	m->tsc_adjust = old.tsc_adjust;
}
