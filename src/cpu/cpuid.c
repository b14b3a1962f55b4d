// SPDX-License-Identifier: MIT
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <string.h>

#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "os/lock.h"

#define SIGNIFICANT_INDEX 1u /* KVM_CPUID_FLAG_SIGNIFCANT_INDEX */

#define LEAF_KVM 0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_EXT 0x80000000u
#define MAX_BASIC 0x1fu
#define MAX_EXT 0x80000021u
/* The engine's own features have to have a leaf, whatever the host's CPU has. */
#define MIN_BASIC 0xdu
#define MIN_EXT 0x80000008u

#define DEFAULT_PHYS_BITS 36 /* SDM vol. 3, 4.1.4 */
#define MAX_PHYS_BITS 52
#define XSAVE_SUBLEAVES 64

const struct cpuid_bit cpuid_bits[] = {
#define CPUID_BIT(leaf, subleaf, reg, bit, name, source, feat)                                                         \
	{ leaf, subleaf, CPUID_##reg, bit, CPUID_##source, feat, #name },
#include "cpu/cpuid.def"
#undef CPUID_BIT
};
const u32 nr_cpuid_bits = ARRAY_SIZE(cpuid_bits);

/* ---- the host ---- */

struct host_leaf {
	u32 leaf, subleaf, reg[4];
};

static struct {
	struct os_lock lock;
	u32 known; /* the rest is there, and does not change any more */
	u32 n;
	struct host_leaf leaf[256];
} host;

static void learn_leaf(u32 leaf, u32 subleaf)
{
	struct host_leaf *h = &host.leaf[host.n];
	u32 *r = h->reg;

	if (host.n == ARRAY_SIZE(host.leaf))
		return;
	h->leaf = leaf;
	h->subleaf = subleaf;
	__cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
	/* An absent subleaf reads as zeros, without an entry. */
	if (!subleaf || r[0] || r[1] || r[2] || r[3])
		host.n++;
}

static u32 subleaves(u32 leaf)
{
	switch (leaf) {
	case 0x4:
	case 0x8000001d:
		return 8;
	case 0x7:
		return 3;
	case 0xd:
		return XSAVE_SUBLEAVES;
	default:
		return 1;
	}
}

static void learn_range(u32 base, u32 limit)
{
	u32 max = __get_cpuid_max(base & LEAF_EXT, NULL);

	if (base == LEAF_KVM) {
		u32 b, c, d;

		__cpuid(base, max, b, c, d);
	}
	if (max < base)
		return;
	for (u32 leaf = base; leaf <= max && leaf <= limit; leaf++)
		for (u32 s = 0; s < subleaves(leaf); s++)
			learn_leaf(leaf, s);
}

static void learn_host(void)
{
	if (likely(__atomic_load_n(&host.known, __ATOMIC_ACQUIRE)))
		return;
	os_lock(&host.lock);
	if (!host.known) {
		learn_range(0, MAX_BASIC);
		learn_range(LEAF_KVM, LEAF_KVM + 0x10);
		learn_range(LEAF_EXT, MAX_EXT);
		__atomic_store_n(&host.known, 1, __ATOMIC_RELEASE);
	}
	os_unlock(&host.lock);
}

void cpuid_host(u32 leaf, u32 subleaf, u32 out[4])
{
	learn_host();
	memset(out, 0, 4 * sizeof(*out));
	for (u32 n = 0; n < host.n; n++) {
		const struct host_leaf *h = &host.leaf[n];

		if (h->leaf == leaf && h->subleaf == subleaf)
			memcpy(out, h->reg, sizeof(h->reg));
	}
}

bool cpuid_host_has_ymm(void)
{
	u32 r[4], xcr0, high;

	cpuid_host(1, 0, r);
	if (!(r[CPUID_ECX] & bit_OSXSAVE))
		return false;
	asm volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
	return (xcr0 & (XC_SSE | XC_AVX)) == (XC_SSE | XC_AVX);
}

/* ---- what host and engine have ---- */

static bool bit_available(const struct cpuid_bit *b)
{
	u32 r[4];

	if (b->source == CPUID_NEVER || b->source == CPUID_ENGINE)
		return b->source == CPUID_ENGINE;
	cpuid_host(b->leaf, b->subleaf, r);
	return r[b->reg] & BIT(b->bit) && (b->source != CPUID_YMM || cpuid_host_has_ymm());
}

/* Can the guest have this feature? For what has no bit of its own. */
static bool feature_available(u32 leaf, enum cpuid_reg reg, unsigned bit)
{
	for (u32 n = 0; n < nr_cpuid_bits; n++) {
		const struct cpuid_bit *b = &cpuid_bits[n];

		if (b->leaf == leaf && !b->subleaf && b->reg == reg && b->bit == bit)
			return bit_available(b);
	}
	return false;
}

u64 cpuid_supported_xcr0(void)
{
	u64 xcr0 = XC_X87 | XC_SSE;
	u32 r[4];

	if (!feature_available(1, CPUID_ECX, 26))
		return XC_X87;
	cpuid_host(0xd, 0, r);
	if (feature_available(1, CPUID_ECX, 28))
		xcr0 |= XC_AVX;
	if (feature_available(7, CPUID_EBX, 16))
		xcr0 |= XC_AVX512;
	if (feature_available(7, CPUID_ECX, 3))
		xcr0 |= XC_PKRU;
	return xcr0 & (r[CPUID_EAX] | (u64)r[CPUID_EDX] << 32);
}

/* The size of an XSAVE area in the host's geometry (SDM vol. 1, 13.4), which is also the guest's. */
static u32 area_size(u64 xcr0, bool compact)
{
	u32 end = XSAVE_EXTENDED, r[4];

	for (u32 n = 2; n < XSAVE_SUBLEAVES; n++) {
		if (!(xcr0 & BIT64(n)))
			continue;
		cpuid_host(0xd, n, r);
		if (!compact)
			end = r[CPUID_EAX] + r[CPUID_EBX] > end ? r[CPUID_EAX] + r[CPUID_EBX] : end;
		else
			end = (r[CPUID_ECX] & 2 ? (end + 63) & ~63u : end) + r[CPUID_EAX];
	}
	return end;
}

/* ---- KVM_GET_SUPPORTED_CPUID ---- */

struct list {
	struct cpuid_entry *out;
	u32 n, max;
};

/* Replaces the registers that the table knows something about. */
static void apply_bits(u32 leaf, u32 subleaf, u32 r[4])
{
	u32 known[4] = { 0 }, set[4] = { 0 };

	for (u32 n = 0; n < nr_cpuid_bits; n++) {
		const struct cpuid_bit *b = &cpuid_bits[n];

		if (b->leaf != leaf || b->subleaf != subleaf)
			continue;
		known[b->reg] = ~0u;
		if (bit_available(b))
			set[b->reg] |= BIT(b->bit);
	}
	for (unsigned k = 0; k < 4; k++)
		r[k] = (r[k] & ~known[k]) | set[k];
}

static void add(struct list *l, u32 leaf, u32 subleaf, bool indexed, u32 r[4])
{
	apply_bits(leaf, subleaf, r);
	if (l->n < l->max)
		l->out[l->n] = (struct cpuid_entry){
			.function = leaf,
			.index = subleaf,
			.flags = indexed ? SIGNIFICANT_INDEX : 0,
			.eax = r[CPUID_EAX],
			.ebx = r[CPUID_EBX],
			.ecx = r[CPUID_ECX],
			.edx = r[CPUID_EDX],
		};
	l->n++;
}

/* Caches: as many subleaves as the host has, and the one of type 0 that ends them. */
static void add_caches(struct list *l, u32 leaf)
{
	u32 r[4], type, n = 0;

	do {
		cpuid_host(leaf, n, r);
		type = r[CPUID_EAX] & 0x1f;
		add(l, leaf, n++, true, r);
	} while (type);
}

static void add_features7(struct list *l)
{
	u32 r[4];

	cpuid_host(7, 0, r);
	r[CPUID_EAX] = 1;
	add(l, 7, 0, true, r);
	memset(r, 0, sizeof(r));
	add(l, 7, 1, true, r);
}

static void add_xsave(struct list *l)
{
	u64 xcr0 = cpuid_supported_xcr0();
	u32 size = area_size(xcr0, false), r[4] = { (u32)xcr0, size, size, (u32)(xcr0 >> 32) };

	if (!feature_available(1, CPUID_ECX, 26))
		memset(r, 0, sizeof(r));
	add(l, 0xd, 0, true, r);
	if (!r[CPUID_EAX])
		return;
	memset(r, 0, sizeof(r));
	apply_bits(0xd, 1, r);
	if (r[CPUID_EAX] & (BIT(1) | BIT(3))) /* XSAVEC, XSAVES */
		r[CPUID_EBX] = area_size(xcr0, true);
	add(l, 0xd, 1, true, r);
	for (u32 n = 2; n < XSAVE_SUBLEAVES; n++) {
		if (!(xcr0 & BIT64(n)))
			continue;
		cpuid_host(0xd, n, r);
		r[CPUID_ECX] &= 2; /* alignment; no XFD */
		r[CPUID_EDX] = 0;
		add(l, 0xd, n, true, r);
	}
}

static u32 clamp(u32 v, u32 min, u32 max)
{
	return v < min ? min : v > max ? max : v;
}

/* The leaf's registers where they are neither the host's nor feature bits. */
static void adjust_leaf(u32 leaf, u32 r[4])
{
	switch (leaf) {
	case 0x0:
		r[CPUID_EAX] = clamp(r[CPUID_EAX], MIN_BASIC, MAX_BASIC);
		break;
	case 0x1:
		r[CPUID_EBX] &= 0xff00; /* CLFLUSH size; the rest is the topology of the host */
		break;
	case 0x80000000:
		r[CPUID_EAX] = clamp(r[CPUID_EAX], MIN_EXT, MAX_EXT);
		break;
	case 0x80000001:
		r[CPUID_EBX] &= 0xf000ffff; /* reserved on Intel; on AMD the package type, but no reserved bits */
		break;
	case 0x80000006:
		r[CPUID_EDX] &= ~0x30000u; /* reserved */
		break;
	case 0x80000008:
		/* 48-bit linear addresses: there is no 5-level paging. No core count. */
		r[CPUID_EAX] = (r[CPUID_EAX] & 0xff ? r[CPUID_EAX] & 0xff : DEFAULT_PHYS_BITS) | 48 << 8;
		r[CPUID_ECX] = r[CPUID_EDX] = 0;
		break;
	case 0x8000001a:
		r[CPUID_EAX] &= 7;
		r[CPUID_EBX] = r[CPUID_ECX] = r[CPUID_EDX] = 0;
		break;
	case 0x2:
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
	case 0x80000005:
		break;
	default: /* topology, power, performance counters, and what nobody knows yet */
		memset(r, 0, 4 * sizeof(*r));
	}
}

static void add_leaf(struct list *l, u32 leaf)
{
	u32 r[4];

	switch (leaf) {
	case 0x4:
	case 0x8000001d:
		add_caches(l, leaf);
		break;
	case 0x7:
		add_features7(l);
		break;
	case 0xd:
		add_xsave(l);
		break;
	default:
		cpuid_host(leaf, 0, r);
		adjust_leaf(leaf, r);
		add(l, leaf, 0, leaf == 0xb || leaf == 0x1f, r);
	}
}

static void add_range(struct list *l, u32 base)
{
	u32 r[4];

	cpuid_host(base, 0, r);
	adjust_leaf(base, r);
	for (u32 leaf = base; leaf <= r[CPUID_EAX]; leaf++)
		add_leaf(l, leaf);
}

u32 cpuid_supported(struct cpuid_entry *out, u32 max)
{
	struct list l = { .out = out, .max = max };
	u32 r[4] = { LEAF_KVM_FEATURES };

	add_range(&l, 0);
	memcpy(&r[1], "KVMKVMKVM\0\0\0", 12);
	add(&l, LEAF_KVM, 0, false, r);
	memset(r, 0, sizeof(r));
	add(&l, LEAF_KVM_FEATURES, 0, false, r);
	add_range(&l, LEAF_EXT);
	return l.n;
}

u32 cpuid_emulated(struct cpuid_entry *out, u32 max)
{
	struct list l = { .out = out, .max = max };
	u32 have[4] = { 7 }, r[4];

	add(&l, 0, 0, false, have);
	for (u32 leaf = 1; leaf <= 7; leaf += 6) {
		memset(have, 0, sizeof(have));
		apply_bits(leaf, 0, have);
		cpuid_host(leaf, 0, r);
		if (l.n < max)
			out[l.n] = (struct cpuid_entry){
				.function = leaf,
				.flags = leaf == 7 ? SIGNIFICANT_INDEX : 0,
				.ebx = have[CPUID_EBX] & ~r[CPUID_EBX],
				.ecx = have[CPUID_ECX] & ~r[CPUID_ECX],
				.edx = have[CPUID_EDX] & ~r[CPUID_EDX],
			};
		l.n++;
	}
	return l.n;
}

/* ---- a vCPU's ---- */

const struct cpuid_entry *cpuid_find(const struct cpu *c, u32 leaf, u32 subleaf)
{
	for (u32 n = 0; n < c->nr_cpuid; n++) {
		const struct cpuid_entry *e = &c->cpuid[n];

		if (e->function == leaf && (!(e->flags & SIGNIFICANT_INDEX) || e->index == subleaf))
			return e;
	}
	return NULL;
}

static u32 entry_reg(const struct cpuid_entry *e, unsigned reg)
{
	const u32 r[4] = { e->eax, e->ebx, e->ecx, e->edx };

	return r[reg];
}

static bool guest_has_bit(const struct cpu *c, const struct cpuid_bit *b)
{
	const struct cpuid_entry *e = cpuid_find(c, b->leaf, b->subleaf);

	return !c->nr_cpuid || (e && (entry_reg(e, b->reg) & BIT(b->bit)));
}

static bool vendor_is(const u32 name[3], const char *vendor)
{
	return !memcmp(name, vendor, 12);
}

static u64 vendor_of(u32 ebx, u32 edx, u32 ecx)
{
	u32 name[3] = { ebx, edx, ecx };

	if (vendor_is(name, "AuthenticAMD") || vendor_is(name, "HygonGenuine"))
		return FEAT_AMD;
	return vendor_is(name, "GenuineIntel") ? FEAT_INTEL : 0;
}

static u64 host_vendor(void)
{
	u32 r[4];

	cpuid_host(0, 0, r);
	return vendor_of(r[CPUID_EBX], r[CPUID_EDX], r[CPUID_ECX]);
}

static u64 vendor_feat(const struct cpu *c)
{
	const struct cpuid_entry *e = cpuid_find(c, 0, 0);

	return e ? vendor_of(e->ebx, e->edx, e->ecx) : host_vendor();
}

bool cpuid_vendor_is_host(const struct cpu *c)
{
	return (c->feat & (FEAT_AMD | FEAT_INTEL)) == host_vendor();
}

static u8 physical_bits(const struct cpu *c)
{
	const struct cpuid_entry *ext = cpuid_find(c, LEAF_EXT, 0), *e = cpuid_find(c, 0x80000008, 0);
	u32 n = ext && ext->eax >= 0x80000008 && e ? e->eax & 0xff : DEFAULT_PHYS_BITS;

	return n < 32 ? DEFAULT_PHYS_BITS : n > MAX_PHYS_BITS ? MAX_PHYS_BITS : (u8)n;
}

/* No CPU has INVPCID without PCIDs, and the kernel's KVM takes it away then from a guest on Intel's. */
static bool invpcid_alone(const struct cpu *c)
{
	return !cpu_has(c, FEAT_PCID);
}

void cpuid_changed(struct cpu *c)
{
	const struct cpuid_entry *e = cpuid_find(c, 0xd, 0);

	c->phys_bits = physical_bits(c);
	c->feat = vendor_feat(c);
	for (u32 n = 0; n < nr_cpuid_bits; n++)
		if (cpuid_bits[n].feat && bit_available(&cpuid_bits[n]) && guest_has_bit(c, &cpuid_bits[n]))
			c->feat |= cpuid_bits[n].feat;
	if (invpcid_alone(c))
		c->feat &= ~FEAT_INVPCID;
	c->xcr0_allowed = cpuid_supported_xcr0();
	if (c->nr_cpuid)
		c->xcr0_allowed &= e ? e->eax | (u64)e->edx << 32 : 0;
	c->xcr0_allowed |= XC_X87;
}

/* Intel answers for leaves behind the last one as for the last basic one; AMD with zeros. */
static const struct cpuid_entry *out_of_range(const struct cpu *c, u32 *leaf, u32 subleaf)
{
	const struct cpuid_entry *basic = cpuid_find(c, 0, 0), *class;
	u32 base = *leaf & LEAF_EXT;

	if (!basic || cpu_has(c, FEAT_AMD))
		return NULL;
	if (*leaf >= 0x40000000 && *leaf <= 0x4fffffff)
		base = *leaf & 0xffffff00;
	else if (*leaf >= 0xc0000000)
		base = 0xc0000000;
	class = cpuid_find(c, base, 0);
	if (class && *leaf <= class->eax)
		return NULL;
	*leaf = basic->eax;
	return cpuid_find(c, *leaf, subleaf);
}

static void set_bit(u32 *r, unsigned bit, bool on)
{
	*r = on ? *r | BIT(bit) : *r & ~BIT(bit);
}

/* Bits and sizes that follow the state of the CPU. */
static void apply_state(const struct cpu *c, u32 leaf, u32 subleaf, u32 r[4])
{
	if (leaf == 1) {
		set_bit(&r[CPUID_ECX], 27, c->cr4 & CR4_OSXSAVE);
		set_bit(&r[CPUID_EDX], 9, c->msr.apic_base & APIC_BASE_ENABLE);
	} else if (leaf == 7 && !subleaf) {
		set_bit(&r[CPUID_ECX], 4, c->cr4 & CR4_PKE);
		if (invpcid_alone(c))
			set_bit(&r[CPUID_EBX], 10, false);
	} else if (leaf == 0xd && !subleaf) {
		r[CPUID_EBX] = area_size(c->fpu.xcr0, false);
	} else if (leaf == 0xd && subleaf == 1 && (r[CPUID_EAX] & (BIT(1) | BIT(3)))) {
		r[CPUID_EBX] = area_size(c->fpu.xcr0 | c->fpu.xss, true);
	}
}

void cpuid_apply_state(const struct cpu *c, struct cpuid_entry *e)
{
	u32 r[4] = { e->eax, e->ebx, e->ecx, e->edx };

	apply_state(c, e->function, e->index, r);
	e->eax = r[CPUID_EAX];
	e->ebx = r[CPUID_EBX];
	e->ecx = r[CPUID_ECX];
	e->edx = r[CPUID_EDX];
}

void cpuid_query(const struct cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
	const struct cpuid_entry *e = cpuid_find(c, leaf, subleaf);

	memset(out, 0, 4 * sizeof(*out));
	if (!e)
		e = out_of_range(c, &leaf, subleaf);
	if (e) {
		for (unsigned k = 0; k < 4; k++)
			out[k] = entry_reg(e, k);
		apply_state(c, leaf, subleaf, out);
		return;
	}
	/* Topology: any subleaf tells the x2APIC id, and repeats its own number (SDM vol. 2, CPUID). */
	if (leaf != 0xb && leaf != 0x1f)
		return;
	e = cpuid_find(c, leaf, 1);
	if (e) {
		out[CPUID_ECX] = subleaf & 0xff;
		out[CPUID_EDX] = e->edx;
	}
}
