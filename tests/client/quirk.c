// SPDX-License-Identifier: MIT
/*
 * A vCPU that QEMU started by a SIPI, whichever page that names, and that halts: QEMU is asked to take the request
 * back, once. One that was not started so halts without.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
#define REQUEST_SIPI 0x800

#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                     \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

static int cpu;
static volatile int taken_back; /* libc says of ioctl() that it calls nothing back */

EXPORT extern __thread void *current_cpu;
__thread void *current_cpu;

EXPORT void cpu_reset_interrupt(void *which, int mask);
void cpu_reset_interrupt(void *which, int mask)
{
	CHECK(which == &cpu && mask == REQUEST_SIPI);
	taken_back++;
}

/* Runs a HLT at selector:0, twice; the requests that were taken back. */
static int halts_at(uint16_t selector)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size_t size = 1 << 20;
	void *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = { .memory_size = size, .userspace_addr = (uintptr_t)ram };
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_run *run;

	CHECK(vcpu >= 0 && ram != MAP_FAILED && !ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	memset(ram, 0xf4, size);
	CHECK(!ioctl(vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.selector = selector;
	sregs.cs.base = (uint64_t)selector << 4;
	CHECK(!ioctl(vcpu, KVM_SET_SREGS, &sregs) && !ioctl(vcpu, KVM_SET_REGS, &regs));
	taken_back = 0;
	for (int n = 0; n < 2; n++)
		CHECK(!ioctl(vcpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_HLT);
	return taken_back;
}

int main(void)
{
	current_cpu = &cpu;
	CHECK(halts_at(0x9a00) == 1);
	CHECK(halts_at(0) == 1);
	CHECK(halts_at(0x9a10) == 0);
	puts("ok");
	return 0;
}
