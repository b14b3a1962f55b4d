// SPDX-License-Identifier: MIT
/* A small KVM client, for any /dev/kvm: cc -o hello examples/hello.c && ukvm ./hello */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* mov $msg,%si; mov $0x3f8,%dx; next: lodsb; test %al,%al; jz end; out %al,(%dx); jmp next; end: hlt; msg: */
static const char guest[] = "\xbe\x0f\x10\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xf4" "Hello from the guest!\n";

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0)
		err(1, "/dev/kvm");
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), cpu = ioctl(vm, KVM_CREATE_VCPU, 0);

	/* One page of guest memory, with the program in it. */
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, guest, sizeof(guest));
	struct kvm_userspace_memory_region slot = { 0, 0, 0x1000, 4096, (__u64)page };
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);

	/* A new vCPU is in real mode; it shall start there. */
	struct kvm_sregs sregs;
	ioctl(cpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	ioctl(cpu, KVM_SET_SREGS, &sregs);
	ioctl(cpu, KVM_SET_REGS, &(struct kvm_regs){ .rip = 0x1000, .rflags = 2 });

	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	while (!ioctl(cpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_IO)
		putchar(*((char *)run + run->io.data_offset));
	return run->exit_reason == KVM_EXIT_HLT ? 0 : 1;
}
