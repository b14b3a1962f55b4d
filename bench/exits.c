// SPDX-License-Identifier: MIT
/*
 * Exit round trips per second through KVM_RUN: a guest in a tight loop of OUT, IN, or MMIO stores. An ordinary KVM
 * client, for ukvm and a real /dev/kvm alike. Prints "name nanoseconds-per-exit", medians of several runs.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CHECK(x)                                                                                                       \
	({                                                                                                             \
		long r_ = (long)(x);                                                                                   \
		if (r_ < 0)                                                                                            \
			perror(#x), exit(1);                                                                           \
		r_;                                                                                                    \
	})

#define ROUNDS 9

/* Real mode at 0x1000; DS:BX = 0xf000:0 is where no memory is. */
static const unsigned char pio_out[] = { 0xe6, 0x80, 0xeb, 0xfc };       /* out 0x80, al; jmp */
static const unsigned char pio_in[] = { 0xe4, 0x80, 0xeb, 0xfc };        /* in al, 0x80; jmp */
static const unsigned char mmio_write[] = { 0x88, 0x07, 0xeb, 0xfc };    /* mov [bx], al; jmp */
static const unsigned char mmio_read[] = { 0x8a, 0x07, 0xeb, 0xfc };     /* mov al, [bx]; jmp */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void run(int vm, int vcpu, struct kvm_run *kr, unsigned char *mem, const char *name, const unsigned char *code,
		__u32 reason)
{
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	double ns[ROUNDS];
	long n = 20000;

	(void)vm;
	memcpy(mem + 0x1000, code, 4);
	CHECK(ioctl(vcpu, KVM_SET_REGS, &regs));
	for (int round = 0; round < ROUNDS; round++) {
		double start = now();

		for (long i = 0; i < n; i++) {
			CHECK(ioctl(vcpu, KVM_RUN, 0));
			if (kr->exit_reason != reason) {
				fprintf(stderr, "%s: exit reason %u\n", name, kr->exit_reason);
				exit(1);
			}
		}
		ns[round] = (now() - start) / (double)n;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), by_value);
	printf("EXIT %s %.1f\n", name, ns[ROUNDS / 2]);
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;
	struct kvm_sregs sregs;
	struct kvm_run *kr;
	unsigned char *mem;
	long size;

	if (kvm < 0) {
		perror("/dev/kvm");
		return 77;
	}
	vm = (int)CHECK(ioctl(kvm, KVM_CREATE_VM, 0));
	mem = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = 0x10000, .userspace_addr = (uintptr_t)mem };
	CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	vcpu = (int)CHECK(ioctl(vm, KVM_CREATE_VCPU, 0));
	size = CHECK(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	kr = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	CHECK(ioctl(vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.ds.base = 0xf0000;
	sregs.ds.selector = 0xf000;
	CHECK(ioctl(vcpu, KVM_SET_SREGS, &sregs));
	run(vm, vcpu, kr, mem, "pio-out", pio_out, KVM_EXIT_IO);
	run(vm, vcpu, kr, mem, "pio-in", pio_in, KVM_EXIT_IO);
	run(vm, vcpu, kr, mem, "mmio-write", mmio_write, KVM_EXIT_MMIO);
	run(vm, vcpu, kr, mem, "mmio-read", mmio_read, KVM_EXIT_MMIO);
	return 0;
}
