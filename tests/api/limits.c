// SPDX-License-Identifier: MIT
/*
 * Counts, ends of buffers, impossible requests: the errno is the kernel's, and nothing has changed (spec 4.3,
 * 4.17-4.19).
 */
#include <pthread.h>
#include <termios.h>

#include "guest.h"

#define MSR_SYSENTER_CS 0x174
#define MAX_IO_MSRS 256
#define MAX_CPUID_ENTRIES 256

/* A page behind which nothing is mapped; the address of the last `size` bytes of it. */
static void *at_the_end(size_t size)
{
	u8 *p = anon(2 * PAGE);

	OK(munmap(p + PAGE, PAGE));
	return p + PAGE - size;
}

TEST(msr_counts)
{
	struct machine m = machine_new(MIB);
	struct kvm_msrs *all = at_the_end(PAGE);

	CHECK_EQ(OK(ioctl(m.vcpu, KVM_GET_MSRS, all)), 0);
	CHECK_EQ(OK(ioctl(m.vcpu, KVM_SET_MSRS, all)), 0);
	for (unsigned n = 0; n < MAX_IO_MSRS - 1; n++)
		all->entries[n].index = MSR_SYSENTER_CS;
	all->nmsrs = MAX_IO_MSRS - 1;
	CHECK_EQ(OK(ioctl(m.vcpu, KVM_GET_MSRS, all)), MAX_IO_MSRS - 1);
	all->nmsrs = MAX_IO_MSRS;
	FAILS(ioctl(m.vcpu, KVM_GET_MSRS, all), E2BIG);
	FAILS(ioctl(m.vcpu, KVM_SET_MSRS, all), E2BIG);
	all->nmsrs = ~0u;
	FAILS(ioctl(m.vcpu, KVM_SET_MSRS, all), E2BIG);
}

/* One entry is there, the second is not: also the first is not written. */
TEST(msr_list_that_ends_early)
{
	struct machine m = machine_new(MIB);
	struct kvm_msrs *two = at_the_end(sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry));
	u64 value;

	two->nmsrs = 2;
	two->entries[0] = (struct kvm_msr_entry){ .index = MSR_SYSENTER_CS, .data = 77 };
	FAILS(ioctl(m.vcpu, KVM_SET_MSRS, two), EFAULT);
	CHECK_EQ(get_msr(m.vcpu, MSR_SYSENTER_CS, &value), 1);
	CHECK_EQ(value, 0);
	FAILS(ioctl(m.vcpu, KVM_GET_MSRS, two), EFAULT);
}

TEST(results_into_read_only_memory)
{
	struct machine m = machine_new(MIB);
	struct kvm_msrs *one = (void *)anon(PAGE);

	one->nmsrs = 1;
	one->entries[0].index = MSR_SYSENTER_CS;
	OK(mprotect(one, PAGE, PROT_READ));
	FAILS(ioctl(m.vcpu, KVM_GET_MSRS, one), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_GET_REGS, one), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_GET_SREGS, one), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_GET_FPU, one), EFAULT);
	CHECK_EQ(ioctl(m.vcpu, KVM_SET_MSRS, one), 1);
}

TEST(refused_msr_values)
{
	static const struct {
		u32 index;
		u64 value;
	} bad[] = {
		{ 0xc0000080, 1ull << 40 },            /* EFER: reserved */
		{ 0xc0000082, 0x0000800000000000ull }, /* LSTAR: not canonical */
		{ 0xc0000102, 0xffff000000000000ull }, /* KERNEL_GS_BASE: not canonical */
		{ 0x277, 0x02 },                       /* PAT: no such type */
		{ 0x2ff, 1ull << 20 },                 /* MTRR_DEF_TYPE: reserved */
		{ 0xdeadbeef, 0 },                     /* no such MSR */
	};
	struct machine m = machine_new(MIB);
	u64 before, after;

	for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		int there = get_msr(m.vcpu, bad[n].index, &before);

		if (set_msr(m.vcpu, bad[n].index, bad[n].value) != 0)
			FAIL("MSR 0x%x took 0x%llx", bad[n].index, (unsigned long long)bad[n].value);
		CHECK_EQ(get_msr(m.vcpu, bad[n].index, &after), there);
		CHECK_EQ(after, before);
	}
}

TEST(cpuid_counts)
{
	struct machine m = machine_new(MIB);
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + (MAX_CPUID_ENTRIES + 1) * sizeof(c->entries[0]));
	struct kvm_cpuid *old = calloc(1, sizeof(*old) + (MAX_CPUID_ENTRIES + 1) * sizeof(old->entries[0]));

	c->nent = MAX_CPUID_ENTRIES + 1;
	FAILS(ioctl(m.vcpu, KVM_SET_CPUID2, c), E2BIG);
	c->nent = 5;
	for (unsigned n = 0; n < 5; n++)
		c->entries[n] = (struct kvm_cpuid_entry2){ .function = n, .eax = n ? n : 4 };
	OK(ioctl(m.vcpu, KVM_SET_CPUID2, c));
	c->nent = 4;
	FAILS(ioctl(m.vcpu, KVM_GET_CPUID2, c), E2BIG);
	c->nent = MAX_CPUID_ENTRIES;
	OK(ioctl(m.vcpu, KVM_GET_CPUID2, c));
	CHECK_EQ(c->nent, 5);
	CHECK_EQ(c->entries[3].eax, 3);
	old->nent = MAX_CPUID_ENTRIES + 1;
	FAILS(ioctl(m.vcpu, KVM_SET_CPUID, old), E2BIG);
	old->nent = 2;
	old->entries[1].function = 1;
	OK(ioctl(m.vcpu, KVM_SET_CPUID, old));
	c->nent = MAX_CPUID_ENTRIES;
	OK(ioctl(m.vcpu, KVM_GET_CPUID2, c));
	CHECK_EQ(c->nent, 2);
	/* What is supported: any room is enough but too little of it. */
	c->nent = 0;
	FAILS(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, c), E2BIG);
	c->nent = ~0u;
	OK(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, c));
	CHECK(c->nent <= MAX_CPUID_ENTRIES);
}

/* Requests that are not KVM's. */
TEST(foreign_ioctls)
{
	struct machine m = machine_new(MIB);
	struct termios t;

	FAILS(ioctl(m.kvm, TCGETS, &t), EINVAL);
	FAILS(ioctl(m.vm, TCGETS, &t), ENOTTY);
	FAILS(ioctl(m.vcpu, TCGETS, &t), EINVAL);
	OK(ioctl(m.vcpu, FIOCLEX));
	CHECK(fcntl(m.vcpu, F_GETFD) & FD_CLOEXEC);
	OK(ioctl(m.vcpu, FIONCLEX));
	CHECK(!(fcntl(m.vcpu, F_GETFD) & FD_CLOEXEC));
}

TEST(max_vcpu_id)
{
	struct machine m = machine_new(MIB);
	int vm = (int)OK(ioctl(m.kvm, KVM_CREATE_VM, 0));

	if (enable_cap(vm, KVM_CAP_MAX_VCPU_ID, 8))
		test_skip("before Linux 6.0");
	OK(enable_cap(vm, KVM_CAP_MAX_VCPU_ID, 8));
	FAILS(enable_cap(vm, KVM_CAP_MAX_VCPU_ID, 9), EINVAL);
	FAILS(ioctl(vm, KVM_CREATE_VCPU, 8), EINVAL);
	OK(ioctl(vm, KVM_CREATE_VCPU, 7));
	/* The first vCPU settles it. */
	FAILS(enable_cap(m.vm, KVM_CAP_MAX_VCPU_ID, 8), EINVAL);
}

TEST(every_capability_on_both)
{
	struct machine m = machine_new(MIB);

	for (long n = 0; n < 300; n++) {
		CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, n) >= 0);
		CHECK(ioctl(m.vm, KVM_CHECK_EXTENSION, n) >= 0);
	}
	CHECK_EQ(cap(&m, -1ul), 0);
}

/* ---- the vCPU's lock ---- */
static void *run_once(void *arg)
{
	struct machine *m = arg;

	OK(ioctl(m->vcpu, KVM_RUN, 0));
	return NULL;
}

GUEST(count_and_wait, 16, "1: inc word ptr [0x2000]; mov al, [0x3000]; test al, al; jz 1b; hlt; jmp 1b");

/* Other ioctls wait until KVM_RUN has returned; two of KVM_RUN take turns. */
TEST(set_regs_waits_for_run)
{
	struct machine m = machine_new(MIB);
	volatile u8 *mem = m.mem;
	pthread_t runner[3];

	LOAD(&m, 0x1000, count_and_wait);
	start_real(&m, 0x1000);
	for (unsigned n = 0; n < 3; n++)
		OK(pthread_create(&runner[n], NULL, run_once, &m));
	while (!mem[0x2000])
		usleep(1000);
	mem[0x3000] = 1;
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2 });
	for (unsigned n = 0; n < 3; n++)
		OK(pthread_join(runner[n], NULL));
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_HLT);
}

static void *create_vcpus(void *arg)
{
	struct machine *m = arg;
	u64 made = 0;

	for (unsigned id = 1; id < 64; id++) {
		if (ioctl(m->vm, KVM_CREATE_VCPU, id) >= 0)
			made++;
		else
			CHECK_EQ(errno, EEXIST);
	}
	return (void *)(uintptr_t)made;
}

TEST(each_vcpu_is_created_once)
{
	struct machine m = machine_new(MIB);
	pthread_t t[4];
	u64 made = 0;

	for (unsigned n = 0; n < 4; n++)
		OK(pthread_create(&t[n], NULL, create_vcpus, &m));
	for (unsigned n = 0; n < 4; n++) {
		void *ret;

		OK(pthread_join(t[n], &ret));
		made += (uintptr_t)ret;
	}
	CHECK_EQ(made, 63);
}

/* Feature MSRs of the host, and of a new vCPU: clients copy them from one to the other. */
TEST(feature_msrs)
{
	struct machine m = machine_new(MIB);
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 64 * sizeof(u32));
	u64 host, vcpu;

	if (cap(&m, KVM_CAP_GET_MSR_FEATURES) <= 0)
		test_skip("no KVM_CAP_GET_MSR_FEATURES");
	FAILS(ioctl(m.kvm, KVM_GET_MSR_FEATURE_INDEX_LIST, list), E2BIG);
	CHECK(list->nmsrs > 0 && list->nmsrs <= 64);
	OK(ioctl(m.kvm, KVM_GET_MSR_FEATURE_INDEX_LIST, list));
	for (u32 n = 0; n < list->nmsrs; n++) {
		CHECK_EQ(get_msr(m.kvm, list->indices[n], &host), 1);
		CHECK_EQ(get_msr(m.vcpu, list->indices[n], &vcpu), 1);
		if (list->indices[n] == 0xc0011029)
			CHECK_EQ(vcpu, 0); /* DE_CFG: not before somebody sets it */
		if (list->indices[n] == 0x10a)
			CHECK_EQ(vcpu, host); /* ARCH_CAPABILITIES */
		if (is_ukvm(m.vm))
			CHECK_EQ(set_msr(m.vcpu, list->indices[n], host), 1);
	}
	CHECK_EQ(get_msr(m.kvm, 0xdeadbeef, &host), 0);
}
