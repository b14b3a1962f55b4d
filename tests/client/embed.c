// SPDX-License-Identifier: MIT
/* The embedding API, without ukvm in front: a VM runs to its HLT, and nothing is left of it afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ukvm/ukvm.h>
#include <unistd.h>

static int failures;

static void check(int ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "embed.c:%d: %s (errno %d: %s)\n", line, what, errno, strerror(errno));
	failures++;
}
#define CHECK(e) check(!!(e), #e, __LINE__)

/* mov $42,%al; out %al,$0x10; hlt */
static const unsigned char guest[] = { 0xb0, 42, 0xe6, 0x10, 0xf4 };

static void run_guest(void)
{
	int kvm = ukvm_open(), vm = ukvm_ioctl(kvm, KVM_CREATE_VM, 0), cpu = ukvm_ioctl(vm, KVM_CREATE_VCPU, 0);
	int size = ukvm_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	struct kvm_userspace_memory_region slot = { 0, 0, 0x1000, 4096, (__u64)page };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	struct kvm_sregs sregs;

	CHECK(kvm >= 0 && vm >= 0 && cpu >= 0 && run != MAP_FAILED);
	memcpy(page, guest, sizeof(guest));
	CHECK(!ukvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	CHECK(!ukvm_ioctl(cpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	CHECK(!ukvm_ioctl(cpu, KVM_SET_SREGS, &sregs));
	CHECK(!ukvm_ioctl(cpu, KVM_SET_REGS, &regs));
	CHECK(!ukvm_ioctl(cpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_IO);
	CHECK(run->io.port == 0x10 && *((char *)run + run->io.data_offset) == 42);
	CHECK(!ukvm_ioctl(cpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_HLT);
	CHECK(!munmap(run, (size_t)size) && !munmap(page, 4096));
	CHECK(!ukvm_close(cpu) && !ukvm_close(vm) && !ukvm_close(kvm));
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int main(void)
{
	int before;

	run_guest();
	before = open_fds();
	run_guest();
	CHECK(open_fds() == before);
	errno = 0;
	CHECK(ukvm_ioctl(-1, KVM_GET_API_VERSION, 0) == -1 && errno == EBADF);
	errno = 0;
	CHECK(ukvm_ioctl(0, KVM_GET_API_VERSION, 0) == -1 && errno == ENOTTY);
	CHECK(strchr(ukvm_version(), '.'));
	return failures != 0;
}
