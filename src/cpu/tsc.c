// SPDX-License-Identifier: MIT
#include "cpu/tsc.h"

#include <errno.h>
#include <time.h>

#include "cpu/cpuid.h"
#include "cpu/pvclock.h"
#include "os/lock.h"
#include "os/sys.h"

#define NS_PER_MS 1000000ull
#define MEASURE_NS (20 * NS_PER_MS)
/* What a client may ask for, in multiples of the host's frequency. */
#define MAX_SCALE 16

static u64 monotonic_ns(void)
{
	struct timespec ts;

	os_sys(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&ts, 0, 0, 0, 0);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

/* Both clocks at one moment: the best of a few tries, in case we were interrupted between them. */
static struct host_instant now(void)
{
	struct host_instant best = { 0 };
	u64 shortest = ~0ull;

	for (int n = 0; n < 8; n++) {
		u64 before = host_tsc(), ns = monotonic_ns(), after = host_tsc();

		if (after - before < shortest) {
			shortest = after - before;
			best = (struct host_instant){ before + (after - before) / 2, ns };
		}
	}
	return best;
}

/* SDM vol. 3, 19.7.3: the core crystal clock and the ratio to it; or what a hypervisor says (leaf 0x40000010). */
static u32 khz_from_cpuid(void)
{
	u32 r[4];

	cpuid_host(0, 0, r);
	if (r[CPUID_EAX] >= 0x15) {
		cpuid_host(0x15, 0, r);
		if (r[CPUID_EAX] && r[CPUID_EBX] && r[CPUID_ECX])
			return (u32)((u64)r[CPUID_ECX] * r[CPUID_EBX] / r[CPUID_EAX] / 1000);
	}
	cpuid_host(0x40000000, 0, r);
	if (r[CPUID_EAX] >= 0x40000010 && r[CPUID_EAX] < 0x40000100) {
		cpuid_host(0x40000010, 0, r);
		return r[CPUID_EAX];
	}
	return 0;
}

static u32 khz_measured(const struct host_instant *start)
{
	struct host_instant end;

	while (monotonic_ns() - start->ns < MEASURE_NS)
		__builtin_ia32_pause();
	end = now();
	return (u32)((end.tsc - start->tsc) * NS_PER_MS / (end.ns - start->ns));
}

/* Properties of the machine, found out once. */
static struct {
	struct os_lock lock;
	u32 known; /* the rest is there, and does not change any more */
	u32 khz;
	struct host_instant base;
} host;

static void learn_host(void)
{
	if (likely(__atomic_load_n(&host.known, __ATOMIC_ACQUIRE)))
		return;
	os_lock(&host.lock);
	if (!host.known) {
		host.base = now();
		host.khz = khz_from_cpuid();
		if (!host.khz)
			host.khz = khz_measured(&host.base);
		__atomic_store_n(&host.known, 1, __ATOMIC_RELEASE);
	}
	os_unlock(&host.lock);
}

u32 host_tsc_khz(void)
{
	learn_host();
	return host.khz;
}

u64 host_clock_at(u64 tsc)
{
	__int128 delta;

	learn_host();
	delta = (__int128)(s64)(tsc - host.base.tsc) * (s64)NS_PER_MS / host.khz;
	return host.base.ns + (u64)(s64)delta;
}

struct host_instant host_clock_base(void)
{
	learn_host();
	return host.base;
}

u64 host_clock_ns(void)
{
	return host_clock_at(host_tsc());
}

void cpu_tsc_set(struct cpu *c, u64 v)
{
	c->tsc_offset += v - cpu_tsc_read(c);
	pvclock_want(c, CLOCK_SYSTEM);
}

bool tsc_khz_valid(u32 khz)
{
	u32 native = host_tsc_khz();

	return khz / MAX_SCALE <= native && khz >= native / 1024;
}

int cpu_set_tsc_khz(struct cpu *c, u32 khz)
{
	u32 native = host_tsc_khz();
	u64 tsc, before;

	if (!khz)
		khz = native;
	if (!tsc_khz_valid(khz))
		return -EINVAL;
	if (!c->tsc_ratio)
		c->tsc_ratio = TSC_RATIO_ONE;
	tsc = host_tsc();
	before = cpu_tsc_at(c, tsc);
	c->tsc_khz = khz;
	c->tsc_ratio = khz == native ? TSC_RATIO_ONE : (u64)(((unsigned __int128)khz << 48) / native);
	c->tsc_offset += before - cpu_tsc_at(c, tsc);
	pvclock_want(c, CLOCK_SYSTEM);
	return 0;
}
