// SPDX-License-Identifier: MIT
#include "cpu/pvclock.h"

#include <time.h>

#include "cpu/tsc.h"
#include "mem/map.h"
#include "mem/mem.h"
#include "os/sys.h"

#define NS_PER_S 1000000000ull
#define PVCLOCK_TSC_STABLE BIT(0)
#define PVCLOCK_GUEST_STOPPED BIT(1)
#define MSR_ENABLED 1ull

/* Shared with the guest. version is odd while the rest is being written. */
struct pvclock_time_info {
	u32 version, pad0;
	u64 tsc_timestamp, system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags, pad[2];
};

struct pvclock_wall_clock {
	u32 version, sec, nsec;
};

_Static_assert(sizeof(struct pvclock_time_info) == 32 && sizeof(struct pvclock_wall_clock) == 12, "the guest's layout");

/* Ordinary, writable memory: a guest that points elsewhere gets no clock, as in the kernel's KVM. */
static bool is_memory(const struct cpu *c, u64 gpa, unsigned size)
{
	u64 off;
	const struct memslot *s = c->map ? map_find(c->map, gpa, &off) : NULL;

	return s && !s->readonly && s->size - off >= size;
}

/* ns = (ticks << shift) * mul >> 32, with the most significant mul. A negative shift goes right. */
static void scale_of(u32 khz, u32 *mul, s8 *shift)
{
	u64 hz = khz * 1000ull, ns = NS_PER_S;
	s8 sh = 0;

	/* mul = ns/hz * 2^32 >> shift has to fit 32 bits and use the top one */
	while (ns >= hz) {
		hz <<= 1;
		sh++;
	}
	while (ns << 1 < hz) {
		ns <<= 1;
		sh--;
	}
	*mul = (u32)(((unsigned __int128)ns << 32) / hz);
	*shift = sh;
}

bool pvclock_enabled(const struct cpu *c)
{
	return c->msr.kvm_system_time & MSR_ENABLED;
}

u64 pvclock_ns(const struct cpu *c)
{
	return host_clock_ns() + (u64)c->clock_offset;
}

/* The writer's half of the version protocol: odd, contents, even. Stores stay in order here, but for the compiler. */
static int publish(struct cpu *c, u64 gpa, void *info, u32 size)
{
	u32 version, odd, even;
	int st = phys_read(c, gpa, &version, sizeof(version));

	odd = (version + 1) | 1;
	even = odd + 1;
	if (!st)
		st = phys_write(c, gpa, &odd, sizeof(odd));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!st)
		st = phys_write(c, gpa + sizeof(version), (u8 *)info + sizeof(version), size - sizeof(version));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!st)
		st = phys_write(c, gpa, &even, sizeof(even));
	return st;
}

/*
 * Every vCPU gets the same function of the host's TSC (one base, one factor), so that their clocks never differ, not
 * even by the rounding of an update that came at another time: that is what TSC_STABLE promises.
 */
static void update_system(struct cpu *c, bool stopped)
{
	struct host_instant base = host_clock_base();
	u64 gpa = c->msr.kvm_system_time & ~MSR_ENABLED;
	struct pvclock_time_info info = { .flags = PVCLOCK_TSC_STABLE };
	u8 old;

	if (!pvclock_enabled(c) || !is_memory(c, gpa, sizeof(info)))
		return;
	info.tsc_timestamp = cpu_tsc_at(c, base.tsc);
	info.system_time = base.ns + (u64)c->clock_offset;
	scale_of(c->tsc_khz, &info.tsc_to_system_mul, &info.tsc_shift);
	/* GUEST_STOPPED stays until the guest has seen and cleared it. */
	if (phys_read(c, gpa + offsetof(struct pvclock_time_info, flags), &old, 1))
		return;
	info.flags |= old & PVCLOCK_GUEST_STOPPED;
	if (stopped)
		info.flags |= PVCLOCK_GUEST_STOPPED;
	(void)publish(c, gpa, &info, sizeof(info));
}

/* The time of day at which kvmclock was 0. */
static void update_wall(struct cpu *c)
{
	u64 gpa = c->msr.kvm_wall_clock, boot;
	struct pvclock_wall_clock wall = { 0 };
	struct timespec ts;

	if (!gpa || !is_memory(c, gpa, sizeof(wall)))
		return;
	os_sys(SYS_clock_gettime, CLOCK_REALTIME, (long)&ts, 0, 0, 0, 0);
	boot = (u64)ts.tv_sec * NS_PER_S + (u64)ts.tv_nsec - pvclock_ns(c);
	wall.sec = (u32)(boot / NS_PER_S);
	wall.nsec = (u32)(boot % NS_PER_S);
	(void)publish(c, gpa, &wall, sizeof(wall));
}

void pvclock_update(struct cpu *c, bool stopped)
{
	if (stopped || (c->clock_due & CLOCK_SYSTEM))
		update_system(c, stopped);
	if (c->clock_due & CLOCK_WALL)
		update_wall(c);
	c->clock_due = 0;
}
