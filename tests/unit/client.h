/* SPDX-License-Identifier: MIT */
/* A VM with one vCPU for tests of ioctls, through the same door as the preloaded library: kvm_open(), kvm_ioctl(). */
#ifndef UKVM_TESTS_UNIT_CLIENT_H
#define UKVM_TESTS_UNIT_CLIENT_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "kvm/ioctl.h"
#include "kvm/object.h"
#include "kvm/signal.h"
#include "os/guard.h"

#define MEM_SIZE 0x10000u
#define CODE 0x1000u
#define MMIO_GPA 0x20000u

struct machine {
	int sys, vm, vcpu;
	u8 *mem;
	struct kvm_run *run;
	size_t run_size;
};

static inline int call(int fd, unsigned long request, void *arg)
{
	return kvm_ioctl(fd, request, (unsigned long)(uintptr_t)arg);
}

static inline int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct kvm_userspace_memory_region slot = { .memory_size = MEM_SIZE };

	m->sys = kvm_open(0);
	m->vm = call(m->sys, KVM_CREATE_VM, NULL);
	m->vcpu = call(m->vm, KVM_CREATE_VCPU, NULL);
	assert_true(m->sys >= 0 && m->vm >= 0 && m->vcpu >= 0);
	m->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	slot.userspace_addr = (u64)(uintptr_t)m->mem;
	assert_int_equal(call(m->vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	m->run_size = (size_t)call(m->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	assert_true(m->run != MAP_FAILED);
	*state = m;
	return 0;
}

static inline int teardown(void **state)
{
	struct machine *m = *state;

	munmap(m->run, m->run_size);
	close(m->vcpu);
	close(m->vm);
	close(m->sys);
	munmap(m->mem, MEM_SIZE);
	free(m);
	kvm_collect();
	return 0;
}

/* Real mode, all segments at 0. */
static inline void load(struct machine *m, const void *code, size_t size)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = CODE, .rsp = 0x8000, .rflags = 2 };

	memcpy(m->mem + CODE, code, size);
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &s), 0);
	s.cs.base = s.cs.selector = 0;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(call(m->vcpu, KVM_SET_REGS, &r), 0);
}

static inline struct kvm_regs regs(struct machine *m)
{
	struct kvm_regs r;

	assert_int_equal(call(m->vcpu, KVM_GET_REGS, &r), 0);
	return r;
}

/* cmocka puts its own SIGSEGV handler in front of ours before each test. */
static inline void guards_first(void)
{
	assert_int_equal(os_guard_init(), 0);
}

static inline int run(struct machine *m)
{
	return call(m->vcpu, KVM_RUN, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
