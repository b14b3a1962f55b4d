// SPDX-License-Identifier: MIT
/* Memory slots, aliases, the dirty log, ioeventfds and coalesced MMIO; guests are a few bytes of real-mode code. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <ukvm/ukvm.h>

#include "kvm/vm.h"
#include "os/guard.h"

#define RUN_SIZE (UKVM_RUN_PAGES * PAGE_SIZE)
#define CODE 0x1000u
#define MEM_SIZE 0x20000u
#define HIGH 0x40000u /* nothing there */

#define assert_errno(call, err)                                                                                        \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		assert_int_equal(call, -1);                                                                            \
		assert_int_equal(errno, err);                                                                          \
	} while (0)

struct machine {
	int sys, vm, vcpu;
	u8 *mem; /* slot 0: MEM_SIZE bytes at 0 */
	struct kvm_run *run;
};

static u8 *map_anon(u64 size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* cmocka puts its own handlers of SIGSEGV in place before each test. */
static void guard(void)
{
	assert_int_equal(os_guard_init(), 0);
}

static int set_slot(int vm, u32 slot, u32 flags, u64 gpa, u64 size, const void *hva)
{
	struct kvm_userspace_memory_region k = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (u64)(uintptr_t)hva,
	};

	return ukvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &k);
}

static int set_region(int vm, u32 slot, u32 flags, u64 gpa, u64 size)
{
	struct kvm_memory_region k = { .slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size };

	return ukvm_ioctl(vm, KVM_SET_MEMORY_REGION, &k);
}

static int set_alias(int vm, u32 slot, u64 gpa, u64 size, u64 target)
{
	struct kvm_memory_alias k = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size, .target_phys_addr = target
	};

	return ukvm_ioctl(vm, KVM_SET_MEMORY_ALIAS, &k);
}

static int get_log(int vm, u32 slot, void *bitmap)
{
	struct kvm_dirty_log k = { .slot = slot, .dirty_bitmap = bitmap };

	return ukvm_ioctl(vm, KVM_GET_DIRTY_LOG, &k);
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	m->sys = ukvm_open();
	m->vm = ukvm_ioctl(m->sys, KVM_CREATE_VM, 0);
	m->vcpu = ukvm_ioctl(m->vm, KVM_CREATE_VCPU, 0);
	m->mem = map_anon(MEM_SIZE);
	m->run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	assert_true(m->run != MAP_FAILED);
	assert_int_equal(set_slot(m->vm, 0, 0, 0, MEM_SIZE, m->mem), 0);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	munmap(m->run, RUN_SIZE);
	ukvm_close(m->vcpu);
	ukvm_close(m->vm);
	ukvm_close(m->sys);
	munmap(m->mem, MEM_SIZE);
	free(m);
	return 0;
}

/* Runs real-mode code from CODE, with DS and ES at `segment`, until it exits. */
static int run_at(int vcpu, const u8 *mem, const void *code, size_t size, u64 segment)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = CODE, .rflags = 2, .rax = 0x42 };

	memcpy((u8 *)mem + CODE, code, size);
	assert_int_equal(ukvm_ioctl(vcpu, KVM_GET_SREGS, &s), 0);
	s.cs.base = s.cs.selector = 0;
	s.ds.base = s.es.base = segment;
	s.ds.selector = s.es.selector = (u16)(segment >> 4);
	assert_int_equal(ukvm_ioctl(vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(ukvm_ioctl(vcpu, KVM_SET_REGS, &r), 0);
	return ukvm_ioctl(vcpu, KVM_RUN, 0);
}

#define RUN(m, segment, ...)                                                                                           \
	run_at((m)->vcpu, (m)->mem, (const u8[]){ __VA_ARGS__ }, sizeof((u8[]){ __VA_ARGS__ }), segment)
#define STORE_AL(off) 0xa2, (off)&0xff, (off) >> 8 /* mov [off], al */
#define LOAD_AL(off) 0xa0, (off)&0xff, (off) >> 8  /* mov al, [off] */
#define HLT 0xf4

static u8 guest_al(struct machine *m)
{
	struct kvm_regs r;

	assert_int_equal(ukvm_ioctl(m->vcpu, KVM_GET_REGS, &r), 0);
	return (u8)r.rax;
}

/* What the guest reads at gpa; -1 if that exits. */
static int guest_load(struct machine *m, u32 gpa)
{
	assert_int_equal(RUN(m, gpa & ~0xffffu, LOAD_AL(gpa & 0xffff), HLT), 0);
	return m->run->exit_reason == KVM_EXIT_HLT ? guest_al(m) : -1;
}

/* The guest writes 0x42 there. */
static bool guest_store(struct machine *m, u32 gpa)
{
	assert_int_equal(RUN(m, gpa & ~0xffffu, STORE_AL(gpa & 0xffff), HLT), 0);
	return m->run->exit_reason == KVM_EXIT_HLT;
}

/* ---- slots ---- */

static void test_slot_checks(void **state)
{
	struct machine *m = *state;
	u8 *p = map_anon(4 * PAGE_SIZE);

	/* alignment, range, number, flags */
	assert_errno(set_slot(m->vm, 1, 0, HIGH + 1, PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, HIGH, PAGE_SIZE + 1, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, HIGH, PAGE_SIZE, p + 1), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, 0ull - PAGE_SIZE, 2 * PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, 0ull - PAGE_SIZE, PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, 1ull << 52, PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, HIGH, PAGE_SIZE, (void *)(1ul << 63)), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, HIGH, 1ull << 62, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, HIGH, 1ull << 43, (void *)PAGE_SIZE), EINVAL);
	assert_errno(set_slot(m->vm, UKVM_MAX_SLOTS, 0, HIGH, PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1 << 16 | 1, 0, HIGH, PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 4, HIGH, PAGE_SIZE, p), EINVAL);
	/* overlap */
	assert_errno(set_slot(m->vm, 1, 0, MEM_SIZE - PAGE_SIZE, PAGE_SIZE, p), EEXIST);
	assert_int_equal(set_slot(m->vm, 1, 0, HIGH, 2 * PAGE_SIZE, p), 0);
	assert_errno(set_slot(m->vm, 2, 0, HIGH - PAGE_SIZE, 4 * PAGE_SIZE, p), EEXIST);
	assert_int_equal(set_slot(m->vm, 2, 0, HIGH - PAGE_SIZE, PAGE_SIZE, p), 0);
	assert_int_equal(set_slot(m->vm, 3, 0, HIGH + 2 * PAGE_SIZE, PAGE_SIZE, p), 0);
	assert_errno(set_slot(m->vm, 1, 0, HIGH + PAGE_SIZE, 2 * PAGE_SIZE, p), EEXIST);
	/* another size, another place in the client, another kind */
	assert_errno(set_slot(m->vm, 1, 0, HIGH, PAGE_SIZE, p), EINVAL);
	assert_errno(set_slot(m->vm, 1, 0, HIGH, 2 * PAGE_SIZE, p + PAGE_SIZE), EINVAL);
	assert_errno(set_slot(m->vm, 1, KVM_MEM_READONLY, HIGH, 2 * PAGE_SIZE, p), EINVAL);
	assert_errno(set_region(m->vm, 1, 0, HIGH, 2 * PAGE_SIZE), EINVAL);
	/* nothing to change; a move onto itself */
	assert_int_equal(set_slot(m->vm, 1, 0, HIGH, 2 * PAGE_SIZE, p), 0);
	assert_int_equal(set_slot(m->vm, 3, 0, 0, 0, NULL), 0);
	assert_int_equal(set_slot(m->vm, 1, 0, HIGH + PAGE_SIZE, 2 * PAGE_SIZE, p), 0);
	/* what is not there cannot be removed */
	assert_errno(set_slot(m->vm, 3, 0, 0, 0, NULL), EINVAL);
	assert_errno(set_slot(m->vm, 100, 0, 0, 0, NULL), EINVAL);
	munmap(p, 4 * PAGE_SIZE);
}

static void test_slots_as_the_guest_sees_them(void **state)
{
	struct machine *m = *state;
	u8 *p = map_anon(2 * PAGE_SIZE);

	p[0] = 0x11;
	p[PAGE_SIZE] = 0x22;
	assert_int_equal(guest_load(m, HIGH), -1);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(m->run->mmio.phys_addr, HIGH);
	assert_int_equal(set_slot(m->vm, 1, 0, HIGH, 2 * PAGE_SIZE, p), 0);
	assert_int_equal(guest_load(m, HIGH), 0x11);
	assert_int_equal(guest_load(m, HIGH + PAGE_SIZE), 0x22);
	assert_true(guest_store(m, HIGH + 1));
	assert_int_equal(p[1], 0x42);
	/* moved */
	assert_int_equal(set_slot(m->vm, 1, 0, HIGH + PAGE_SIZE, 2 * PAGE_SIZE, p), 0);
	assert_int_equal(guest_load(m, HIGH), -1);
	assert_int_equal(guest_load(m, HIGH + PAGE_SIZE), 0x11);
	assert_int_equal(guest_load(m, HIGH + 2 * PAGE_SIZE), 0x22);
	/* removed */
	assert_int_equal(set_slot(m->vm, 1, 0, 0, 0, NULL), 0);
	assert_int_equal(guest_load(m, HIGH + PAGE_SIZE), -1);
	/* read-only: a write exits, and changes nothing */
	assert_int_equal(set_slot(m->vm, 1, KVM_MEM_READONLY, HIGH, PAGE_SIZE, p), 0);
	assert_int_equal(guest_load(m, HIGH), 0x11);
	assert_false(guest_store(m, HIGH));
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_true(m->run->mmio.is_write);
	assert_int_equal(p[0], 0x11);
	munmap(p, 2 * PAGE_SIZE);
}

/* Memory that the client takes away under a slot. */
static void test_memory_gone(void **state)
{
	struct machine *m = *state;
	u8 *p = map_anon(PAGE_SIZE);

	assert_int_equal(set_slot(m->vm, 1, 0, HIGH, PAGE_SIZE, p), 0);
	assert_true(guest_store(m, HIGH));
	munmap(p, PAGE_SIZE);
	guard();
	assert_errno(RUN(m, HIGH, STORE_AL(0), HLT), EFAULT);
	assert_int_equal(set_slot(m->vm, 1, 0, 0, 0, NULL), 0);
	assert_true(guest_store(m, 0x2000)); /* and all is well again */
	assert_int_equal(m->mem[0x2000], 0x42);
}

/* As many as there may be. */
static void test_many_slots(void **state)
{
	struct machine *m = *state;
	u8 *p = map_anon(PAGE_SIZE);
	u32 n;

	p[0] = 0x33;
	for (n = 1; n < 2000; n++)
		assert_int_equal(set_slot(m->vm, n, 0, HIGH + n * PAGE_SIZE, PAGE_SIZE, p), 0);
	assert_int_equal(guest_load(m, HIGH + (n - 1) * (u32)PAGE_SIZE), 0x33);
	assert_int_equal(guest_load(m, HIGH + n * (u32)PAGE_SIZE), -1);
	assert_int_equal(set_slot(m->vm, UKVM_MAX_SLOTS - 1, 0, 1ull << 40, PAGE_SIZE, p), 0);
	while (--n)
		assert_int_equal(set_slot(m->vm, n, 0, 0, 0, NULL), 0);
	munmap(p, PAGE_SIZE);
}

/* ---- KVM_SET_MEMORY_REGION ---- */

static bool readable(const void *p)
{
	u8 byte;

	guard();
	return os_copy_in(&byte, (u64)(uintptr_t)p, 1) == 0;
}

static void test_vm_memory(void **state)
{
	struct machine *m = *state;
	u64 size = 4 * PAGE_SIZE;
	u8 *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, m->vm, 0);

	assert_true(p != MAP_FAILED);
	assert_false(readable(p));
	assert_errno(set_region(m->vm, 1, KVM_MEM_READONLY, HIGH, size), EINVAL);
	assert_int_equal(set_region(m->vm, 1, 0, HIGH, size), 0);
	assert_true(readable(p + HIGH + size - 1));
	assert_false(readable(p + HIGH + size));
	assert_int_equal(p[HIGH], 0);
	assert_true(guest_store(m, HIGH));
	assert_int_equal(p[HIGH], 0x42);
	p[HIGH + PAGE_SIZE] = 0x55;
	assert_int_equal(guest_load(m, HIGH + PAGE_SIZE), 0x55);
	/* another size; a move upwards onto itself, then down, then far away: the contents come along */
	assert_errno(set_region(m->vm, 1, 0, HIGH, 2 * size), EINVAL);
	assert_int_equal(set_region(m->vm, 1, 0, HIGH + PAGE_SIZE, size), 0);
	assert_int_equal(guest_load(m, HIGH), -1);
	assert_int_equal(guest_load(m, HIGH + PAGE_SIZE), 0x42);
	assert_int_equal(p[HIGH + 2 * PAGE_SIZE], 0x55);
	assert_int_equal(p[HIGH], 0);
	assert_int_equal(set_region(m->vm, 1, 0, HIGH, size), 0);
	assert_int_equal(p[HIGH], 0x42);
	assert_int_equal(p[HIGH + PAGE_SIZE], 0x55);
	assert_int_equal(p[HIGH + 2 * PAGE_SIZE], 0);
	assert_int_equal(set_region(m->vm, 1, 0, 2 * HIGH, size), 0);
	assert_int_equal(guest_load(m, 2 * HIGH + (u32)PAGE_SIZE), 0x55);
	/* removed, and made anew: zeroed */
	assert_int_equal(set_region(m->vm, 1, 0, 0, 0), 0);
	assert_false(readable(p + 2 * HIGH));
	assert_int_equal(set_region(m->vm, 1, 0, 2 * HIGH, size), 0);
	assert_int_equal(p[2 * HIGH], 0);
	assert_int_equal(guest_load(m, 2 * HIGH), 0);
	munmap(p, 1 << 20);
}

/* ---- aliases ---- */

static void test_aliases(void **state)
{
	struct machine *m = *state;
	u64 log[1] = { 0 };

	assert_errno(set_alias(m->vm, 4, HIGH, PAGE_SIZE, 0), EINVAL);
	assert_errno(set_alias(m->vm, 0, HIGH + 1, PAGE_SIZE, 0), EINVAL);
	assert_errno(set_alias(m->vm, 0, HIGH, PAGE_SIZE + 1, 0), EINVAL);
	assert_errno(set_alias(m->vm, 0, 0ull - PAGE_SIZE, 2 * PAGE_SIZE, 0), EINVAL);
	for (u32 n = 0; n < 4; n++)
		assert_int_equal(set_alias(m->vm, n, HIGH + n * PAGE_SIZE, PAGE_SIZE, 0x4000 + n * 0x2000), 0);
	m->mem[0x4000] = 0x11;
	m->mem[0x8000] = 0x22;
	assert_int_equal(guest_load(m, HIGH), 0x11);
	assert_int_equal(guest_load(m, HIGH + 2 * PAGE_SIZE), 0x22);
	assert_true(guest_store(m, HIGH + 3 * PAGE_SIZE + 7));
	assert_int_equal(m->mem[0xa007], 0x42);
	/* the target's dirty log */
	assert_int_equal(set_slot(m->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM_SIZE, m->mem), 0);
	assert_true(guest_store(m, HIGH + PAGE_SIZE));
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 1ull << 6);
	/* removed */
	assert_int_equal(set_alias(m->vm, 0, 0, 0, 0), 0);
	assert_int_equal(guest_load(m, HIGH), -1);
	assert_int_equal(guest_load(m, HIGH + 2 * PAGE_SIZE), 0x22);
}

/* ---- the dirty log ---- */

static void test_dirty_log(void **state)
{
	struct machine *m = *state;
	u64 log[2] = { 0, 0x77 };

	assert_errno(get_log(m->vm, 0, log), ENOENT);
	assert_errno(get_log(m->vm, 1, log), ENOENT);
	assert_errno(get_log(m->vm, UKVM_MAX_SLOTS, log), EINVAL);
	assert_errno(get_log(m->vm, 1 << 16, log), EINVAL);
	assert_true(guest_store(m, 0x3000)); /* a write tag that must not survive */
	assert_int_equal(set_slot(m->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM_SIZE, m->mem), 0);
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 0);
	assert_int_equal(log[1], 0x77); /* whole u64s, and no more */
	m->mem[0x5000] = 1;             /* the client's writes do not count */
	assert_true(guest_store(m, 0x3000));
	assert_true(guest_store(m, 0x1f000));
	/* The client gives a bad pointer: nothing is lost. */
	guard();
	assert_errno(get_log(m->vm, 0, (void *)8), EFAULT);
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 1u << 3 | 1u << 31);
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 0);
	assert_true(guest_store(m, 0x3000));
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 1u << 3);
	/* a word that crosses two pages */
	assert_int_equal(RUN(m, 0, 0xa3, 0xff, 0x6f, HLT), 0);
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 1u << 6 | 1u << 7);
	/* off, and on again: from the start */
	assert_true(guest_store(m, 0x3000));
	assert_int_equal(set_slot(m->vm, 0, 0, 0, MEM_SIZE, m->mem), 0);
	assert_errno(get_log(m->vm, 0, log), ENOENT);
	assert_int_equal(set_slot(m->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM_SIZE, m->mem), 0);
	assert_int_equal(get_log(m->vm, 0, log), 0);
	assert_int_equal(log[0], 0);
}

/* The guest counts up in a page as fast as it can while the log is read: no count may escape it. */
static void *count_forever(void *arg)
{
	struct machine *m = arg;

	/* inc byte [0x3000]; cmp byte [0x5000], 0; je -12; hlt */
	RUN(m, 0, 0xfe, 0x06, 0x00, 0x30, 0x80, 0x3e, 0x00, 0x50, 0x00, 0x74, 0xf5, HLT);
	return NULL;
}

static void test_dirty_log_of_a_running_guest(void **state)
{
	struct machine *m = *state;
	volatile u8 *counter = m->mem + 0x3000;
	unsigned missed = 0, seen = 0;
	pthread_t t;

	assert_int_equal(set_slot(m->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM_SIZE, m->mem), 0);
	assert_int_equal(pthread_create(&t, NULL, count_forever, m), 0);
	while (!*counter)
		sched_yield();
	for (int n = 0; n < 2000 || (!seen && n < 1000000); n++) {
		u64 first = 0, second = 0;
		u8 before, after;

		get_log(m->vm, 0, &first);
		before = *counter;
		for (int k = 0; k < 20 && *counter == before; k++)
			sched_yield();
		after = *counter;
		get_log(m->vm, 0, &second);
		seen += before != after;
		missed += before != after && !(second & 1u << 3);
	}
	m->mem[0x5000] = 1;
	pthread_join(t, NULL);
	assert_int_equal(missed, 0);
	assert_true(seen > 0);
}

/* ---- changes under a running guest ---- */

static void test_slots_of_a_running_guest(void **state)
{
	struct machine *m = *state;
	u8 *p = map_anon(PAGE_SIZE);
	struct timespec a, b;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, count_forever, m), 0);
	while (!*(volatile u8 *)(m->mem + 0x3000))
		sched_yield();
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int n = 0; n < 1000; n++) {
		assert_int_equal(set_slot(m->vm, 1, 0, HIGH, PAGE_SIZE, p), 0);
		assert_int_equal(set_slot(m->vm, 1, 0, 0, 0, NULL), 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("%ld ns a change\n", ((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec) / 2000);
	m->mem[0x5000] = 1;
	pthread_join(t, NULL);
	munmap(p, PAGE_SIZE);
}

/* ---- ioeventfds ---- */

static int ioeventfd(struct machine *m, u64 addr, u32 len, int fd, u32 flags, u64 match)
{
	struct kvm_ioeventfd k = { .addr = addr, .len = len, .fd = fd, .flags = flags, .datamatch = match };

	return ukvm_ioctl(m->vm, KVM_IOEVENTFD, &k);
}

static u64 drain(int fd)
{
	u64 n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

#define EV_PIO KVM_IOEVENTFD_FLAG_PIO
#define EV_MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define EV_DEASSIGN KVM_IOEVENTFD_FLAG_DEASSIGN

static void test_ioeventfd_checks(void **state)
{
	struct machine *m = *state;
	int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK), copy = dup(fd);

	assert_errno(ioeventfd(m, HIGH, 3, fd, 0, 0), EINVAL);
	assert_errno(ioeventfd(m, HIGH, 16, fd, 0, 0), EINVAL);
	assert_errno(ioeventfd(m, ~0ull, 4, fd, 0, 0), EINVAL);
	assert_errno(ioeventfd(m, HIGH, 4, fd, 1 << 10, 0), EINVAL);
	assert_errno(ioeventfd(m, HIGH, 0, fd, EV_MATCH, 0), EINVAL);
	assert_errno(ioeventfd(m, HIGH, 4, 999, 0, 0), EBADF);
	assert_errno(ioeventfd(m, HIGH, 4, 0, 0, 0), EINVAL); /* no eventfd */
	assert_int_equal(ioeventfd(m, HIGH, 4, fd, EV_MATCH, 1), 0);
	assert_errno(ioeventfd(m, HIGH, 4, fd, EV_MATCH, 1), EEXIST);
	assert_errno(ioeventfd(m, HIGH, 4, other, 0, 0), EEXIST);
	assert_errno(ioeventfd(m, HIGH, 0, other, 0, 0), EEXIST);
	assert_int_equal(ioeventfd(m, HIGH, 4, other, EV_MATCH, 2), 0);
	assert_int_equal(ioeventfd(m, HIGH, 2, other, 0, 0), 0);
	assert_int_equal(ioeventfd(m, HIGH, 4, other, EV_PIO, 0), 0);
	assert_errno(ioeventfd(m, HIGH, 4, other, EV_MATCH | EV_DEASSIGN, 1), ENOENT);
	assert_errno(ioeventfd(m, HIGH, 4, fd, EV_DEASSIGN, 1), ENOENT);
	assert_errno(ioeventfd(m, HIGH, 8, fd, EV_MATCH | EV_DEASSIGN, 1), ENOENT);
	/* any descriptor of the same eventfd will do */
	assert_int_equal(ioeventfd(m, HIGH, 4, copy, EV_MATCH | EV_DEASSIGN, 1), 0);
	assert_errno(ioeventfd(m, HIGH, 4, fd, EV_MATCH | EV_DEASSIGN, 1), ENOENT);
	close(fd);
	close(copy);
	close(other);
}

static void test_ioeventfd_writes(void **state)
{
	struct machine *m = *state;
	int any = eventfd(0, EFD_NONBLOCK), match = eventfd(0, EFD_NONBLOCK), port = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(ioeventfd(m, HIGH, 0, any, 0, 0), 0);
	assert_int_equal(ioeventfd(m, HIGH + 8, 1, match, EV_MATCH, 0x42), 0);
	assert_int_equal(ioeventfd(m, 0x80, 1, port, EV_PIO, 0), 0);
	assert_true(guest_store(m, HIGH));
	assert_true(guest_store(m, HIGH));
	assert_int_equal(drain(any), 2);
	assert_true(guest_store(m, HIGH + 8));
	assert_int_equal(drain(match), 1);
	/* mov al, 1; mov [8], al: other data exits */
	assert_int_equal(RUN(m, HIGH, 0xb0, 0x01, STORE_AL(8), HLT), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(drain(match), 0);
	/* reads exit */
	assert_int_equal(guest_load(m, HIGH), -1);
	/* out 0x80, al; then out 0x81, al exits */
	assert_int_equal(RUN(m, 0, 0xe6, 0x80, HLT), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(drain(port), 1);
	assert_int_equal(RUN(m, 0, 0xe6, 0x81, HLT), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IO);
	/* The client may close its descriptor. */
	close(dup2(any, 100));
	close(any);
	assert_true(guest_store(m, HIGH));
	close(match);
	close(port);
}

/* ---- coalesced MMIO ---- */

static int zone(struct machine *m, unsigned long request, u64 addr, u32 size, u32 pio)
{
	struct kvm_coalesced_mmio_zone k = { .addr = addr, .size = size, .pio = pio };

	return ukvm_ioctl(m->vm, request, &k);
}

static void test_coalesced(void **state)
{
	struct machine *m = *state;
	struct kvm_coalesced_mmio_ring *ring = (void *)((u8 *)m->run + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE);
	unsigned n;

	assert_errno(zone(m, KVM_REGISTER_COALESCED_MMIO, HIGH, 0x100, 2), EINVAL);
	assert_int_equal(zone(m, KVM_REGISTER_COALESCED_MMIO, HIGH, 0x100, 0), 0);
	assert_int_equal(zone(m, KVM_REGISTER_COALESCED_MMIO, 0x80, 1, 1), 0);
	assert_true(guest_store(m, HIGH + 0xff));
	assert_int_equal(ring->last, 1);
	assert_int_equal(ring->coalesced_mmio[0].phys_addr, HIGH + 0xff);
	assert_int_equal(ring->coalesced_mmio[0].len, 1);
	assert_int_equal(ring->coalesced_mmio[0].data[0], 0x42);
	assert_int_equal(RUN(m, 0, 0xe6, 0x80, HLT), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(ring->coalesced_mmio[1].phys_addr, 0x80);
	assert_int_equal(ring->coalesced_mmio[1].pio, 1);
	/* outside, across the end, and reads exit */
	assert_false(guest_store(m, HIGH + 0x100));
	assert_int_equal(RUN(m, HIGH, 0xa3, 0xff, 0x00, HLT), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(guest_load(m, HIGH), -1);
	/* full: one entry stays free */
	for (n = ring->last; guest_store(m, HIGH); n++)
		;
	assert_int_equal(n, KVM_COALESCED_MMIO_MAX - 1);
	assert_int_equal(ukvm_ioctl(m->vcpu, KVM_RUN, 0), 0); /* the client has seen the write; it is done */
	ring->first = ring->last;
	assert_true(guest_store(m, HIGH));
	assert_int_equal(ring->last, 0);
	/* A client that writes nonsense there hurts nobody. */
	ring->last = 0x12345678;
	assert_false(guest_store(m, HIGH));
	assert_int_equal(ukvm_ioctl(m->vcpu, KVM_RUN, 0), 0);
	ring->first = ring->last = 0;
	/* Part of a zone names it. */
	assert_int_equal(zone(m, KVM_UNREGISTER_COALESCED_MMIO, HIGH + 0x10, 0x10, 0), 0);
	assert_false(guest_store(m, HIGH));
	assert_int_equal(zone(m, KVM_UNREGISTER_COALESCED_MMIO, HIGH, 0x10, 0), 0); /* no error */
}

/* One ring for the VM, whichever vCPU's mapping one looks at. */
static void test_coalesced_ring_is_shared(void **state)
{
	struct machine *m = *state;
	int second = ukvm_ioctl(m->vm, KVM_CREATE_VCPU, 1);
	struct kvm_run *run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, second, 0);
	u64 offset = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE;
	struct kvm_coalesced_mmio_ring *first_ring = (void *)((u8 *)m->run + offset);
	struct kvm_coalesced_mmio_ring *second_ring = (void *)((u8 *)run + offset);
	static const u8 store[] = { STORE_AL(4), HLT };

	assert_int_equal(zone(m, KVM_REGISTER_COALESCED_MMIO, HIGH, 0x100, 0), 0);
	assert_int_equal(run_at(second, m->mem, store, sizeof(store), HIGH), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(first_ring->last, 1);
	assert_int_equal(second_ring->last, 1);
	assert_int_equal(second_ring->coalesced_mmio[0].phys_addr, HIGH + 4);
	second_ring->first = 1;
	assert_int_equal(first_ring->first, 1);
	munmap(run, RUN_SIZE);
	ukvm_close(second);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_slot_checks),
		TEST(test_slots_as_the_guest_sees_them),
		TEST(test_memory_gone),
		TEST(test_many_slots),
		TEST(test_vm_memory),
		TEST(test_aliases),
		TEST(test_dirty_log),
		TEST(test_dirty_log_of_a_running_guest),
		TEST(test_slots_of_a_running_guest),
		TEST(test_ioeventfd_checks),
		TEST(test_ioeventfd_writes),
		TEST(test_coalesced),
		TEST(test_coalesced_ring_is_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
