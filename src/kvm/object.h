/* SPDX-License-Identifier: MIT */
/*
 * File descriptors and the objects behind them. An object's fd is a file of a memfd, and the inode tells which object
 * it is; so dup(), close(), poll(), mmap() and passing it on to other processes work without our help.
 */
#ifndef UKVM_KVM_OBJECT_H
#define UKVM_KVM_OBJECT_H

#include "kvm/vm.h"

/* A new fd of /dev/kvm, with O_CLOEXEC if flags have it; or a negative errno. */
int kvm_open(int flags);

/* Does fd belong to an object of ours? For the preloaded library: fstat() of /dev/kvm, close(). */
enum obj_class kvm_fd_class(int fd);

/*
 * Is this fd number one that ukvm keeps for itself? close() and close_range() should pass it over. Which is the next
 * such number, or -1. And before dup2() puts something else there, make room.
 */
bool kvm_fd_reserved(int fd);
int kvm_fd_next_reserved(int from);
void kvm_fd_make_room(int fd);

/*
 * From now on kvm_fd_forget() is called before an fd number may become something else: close(), dup2() and the like.
 * Then an ioctl need not ask the kernel what its fd is. Programs that embed ukvm make no such promise.
 */
void kvm_fds_announced(void);
void kvm_fd_forget(int fd);

/*
 * Frees what no fd and no mapping reaches any more. To be called after a close() or munmap() of something that may be
 * ours. An object that an ioctl is using is freed when that returns. Creating objects calls the other one, for those
 * whose end nobody announces: so there are never many of them, and a create does not get slower with every object.
 */
void kvm_collect(void);
void kvm_collect_sometimes(void);

/*
 * The object of fd, with a reference that obj_put() gives back. 0; -EBADF; -ENOTTY: not ours; -EIO: ours, but of
 * another process.
 */
int obj_get(int fd, struct obj **o);
void obj_put(struct obj *o);

/*
 * Makes the memfd of an object with `size` bytes that nobody can truncate (0: that is resized later), fills class, fd,
 * dev, ino, and opens the client's fd, which is returned. Then obj_publish() lets ioctls find it, or obj_abandon()
 * takes all that back.
 */
int obj_create(struct obj *o, enum obj_class class, const char *name, u64 size, bool cloexec);
void obj_publish(struct obj *o);
void obj_abandon(struct obj *o, int fd);

/* Calls fn with the number of our own file of o's memfd, which stays that during the call. */
void obj_with_fd(const struct obj *o, void (*fn)(int fd, void *arg), void *arg);

/* A copy of fd, close-on-exec and out of the way of the numbers that the client gets; or a negative errno. */
int fd_reserve(int fd);

/* Frees a VM and its vCPUs (vm.c). Nobody can reach them any more. */
void vm_destroy(struct vm *vm);

#endif
