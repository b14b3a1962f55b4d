// SPDX-License-Identifier: MIT
/*
 * A client whose guest does a known number of everything, and that ends as its argument says; for tests/client/stats.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x)                                                                                                       \
	({                                                                                                             \
		int r_ = (x);                                                                                          \
		if (r_ < 0)                                                                                            \
			perror(#x), exit(1);                                                                           \
		r_;                                                                                                    \
	})

/* 107 instructions in real mode: the UD2 does not complete, and the OUT counts once though it runs twice. */
static const unsigned char code[] = {
	0xb9, 100, 0,	  /* mov cx, 100 */
	0xe2, 0xfe,	  /* loop to itself */
	0xa0, 0x00, 0x20, /* mov al, [0x2000] */
	0xa2, 0x00, 0x20, /* mov [0x2000], al */
	0xe6, 0x80,	  /* out 0x80, al */
	0xcd, 0x20,	  /* int 0x20 */
	0x0f, 0x0b,	  /* ud2 */
};
static const unsigned char iret[] = { 0xcf }, hlt[] = { 0xf4 };

static void vector(unsigned char *mem, unsigned n, unsigned ip)
{
	mem[n * 4] = (unsigned char)ip;
	mem[n * 4 + 1] = (unsigned char)(ip >> 8);
}

static void run_guest(void)
{
	int kvm = CHECK(open("/dev/kvm", O_RDWR | O_CLOEXEC)), vm = CHECK(ioctl(kvm, KVM_CREATE_VM, 0)), vcpu;
	unsigned char *mem = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = 0x10000, .userspace_addr = (unsigned long)mem };
	struct kvm_regs regs = { .rip = 0x1000, .rsp = 0x8000, .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_run *run;

	memcpy(mem + 0x1000, code, sizeof(code));
	memcpy(mem + 0x1100, iret, sizeof(iret));
	memcpy(mem + 0x1200, hlt, sizeof(hlt));
	vector(mem, 0x20, 0x1100);
	vector(mem, 6, 0x1200);
	CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	vcpu = CHECK(ioctl(vm, KVM_CREATE_VCPU, 3));
	run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	CHECK(ioctl(vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	CHECK(ioctl(vcpu, KVM_SET_SREGS, &sregs));
	CHECK(ioctl(vcpu, KVM_SET_REGS, &regs));
	CHECK(ioctl(vcpu, KVM_RUN, 0));
	if (run->exit_reason != KVM_EXIT_IO)
		exit(1);
	CHECK(ioctl(vcpu, KVM_RUN, 0));
	if (run->exit_reason != KVM_EXIT_HLT)
		exit(1);
	munmap(run, 4096);
	munmap(mem, 0x10000);
	close(vcpu), close(vm), close(kvm);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "exit";

	run_guest();
	if (!strcmp(how, "many")) {
		for (int n = 1; n < 520; n++)
			run_guest();
	} else if (!strcmp(how, "fork")) { /* only the parent's end counts */
		pid_t pid = fork();

		if (!pid)
			exit(0);
		CHECK(waitpid(pid, NULL, 0));
	} else if (!strcmp(how, "wait")) { /* no child that the client does not know */
		if (waitpid(-1, NULL, 0) >= 0)
			return 1;
	} else if (!strcmp(how, "_exit")) {
		_exit(3);
	} else if (!strcmp(how, "kill")) {
		raise(SIGKILL);
	} else if (!strcmp(how, "term")) {
		raise(SIGTERM);
	} else if (!strcmp(how, "exec")) {
		execlp("sleep", "sleep", "1", (char *)NULL);
	} else if (!strcmp(how, "signal")) {
		raise(atoi(argv[2]) + SIGRTMIN);
	}
	return 0;
}
