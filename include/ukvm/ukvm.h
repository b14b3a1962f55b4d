/* SPDX-License-Identifier: MIT */
/*
 * ukvm as a library: the KVM API (Documentation/virt/kvm/api.rst) in this process, without /dev/kvm and without
 * preloading anything. What the API's ioctls do here is in docs/api.md.
 *
 *	int kvm = ukvm_open();
 *	int vm = ukvm_ioctl(kvm, KVM_CREATE_VM, 0);
 *	int vcpu = ukvm_ioctl(vm, KVM_CREATE_VCPU, 0);
 *	struct kvm_run *run = mmap(NULL, ukvm_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED,
 *				   vcpu, 0);
 *	...
 *	ukvm_ioctl(vcpu, KVM_RUN, 0);
 *
 * The descriptors are real ones: mmap(), dup(), fcntl(), fstat() and passing them between threads work as with the
 * kernel's. All functions may be called from any thread. While KVM_RUN runs, signals are blocked; one that comes ends
 * KVM_RUN with EINTR and is delivered then. ukvm_open() and KVM_CREATE_VM install handlers of SIGSEGV and SIGBUS, which
 * pass on what is not ours to those that they found; a program that replaces them later must do the same.
 */
#ifndef UKVM_UKVM_H
#define UKVM_UKVM_H

#include <linux/kvm.h>
#include <ukvm/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UKVM_API __attribute__((visibility("default")))

/* A new descriptor of our /dev/kvm, close-on-exec; -1 and errno if there is none to be had. */
UKVM_API int ukvm_open(void);

/*
 * ioctl() on a descriptor from ukvm_open(), KVM_CREATE_VM or KVM_CREATE_VCPU, with at most one more argument, an
 * integer or a pointer. -1 and errno on failure; EBADF or ENOTTY if the descriptor is not one of those.
 */
UKVM_API int ukvm_ioctl(int fd, unsigned long request, ...);

/*
 * close(), and frees what nothing refers to any more. A VM lives as long as a descriptor or a mapping of it or of one
 * of its vCPUs. With a plain close(), or a munmap() after the last close, it is freed by the next ukvm_open(),
 * ukvm_close(), KVM_CREATE_VM or KVM_CREATE_VCPU.
 */
UKVM_API int ukvm_close(int fd);

/* "MAJOR.MINOR.PATCH" */
UKVM_API const char *ukvm_version(void);

#ifdef __cplusplus
}
#endif

#endif
