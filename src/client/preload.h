/* SPDX-License-Identifier: MIT */
/*
 * libukvm-preload.so: the functions of libc through which a client meets /dev/kvm. Each asks whether the call is about
 * our device, and is the next library's function otherwise. Results are -1 and errno here, and nowhere deeper.
 *
 *	open.c    open() and its relatives, access(), readlink() of /dev/kvm
 *	stat.c    stat() and its relatives
 *	ioctl.c   ioctl()
 *	fd.c      dup(), close(), mmap(): which fds may be ours, and when to look for objects that nobody refers to
 *	file.c    read(), write(), ftruncate(): what cannot be done with our fds
 *	signal.c  sigaction() and its relatives
 *	cancel.c  pthread_cancel()
 *	dlsym.c   dlsym() of libc's functions
 *	syscall.c syscall(), for those of these functions that clients call by number
 *	quirk.c   what a client's own bugs need
 *	stats.c   when statistics are printed
 *	preload.c finding the next library's functions; which path is /dev/kvm
 */
#ifndef UKVM_CLIENT_PRELOAD_H
#define UKVM_CLIENT_PRELOAD_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cpu/types.h"

#define EXPORT __attribute__((visibility("default")))
/* The same function under another name. */
#if __has_attribute(copy)
#define EXPORT_ALIAS(name, of) extern __typeof__(of) name __attribute__((alias(#of), copy(of), visibility("default")))
#else
#define EXPORT_ALIAS(name, of) extern __typeof__(of) name __attribute__((alias(#of), visibility("default")))
#endif

/* What _FORTIFY_SOURCE makes of calls to some of these; headers declare them only then. */
int __open_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room);
ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t size, size_t room);
char *__realpath_chk(const char *path, char *resolved, size_t room);
ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t room);

struct next {
#define NEXT(name) __typeof__(&name) name##_;
#include "client/next.def"
#undef NEXT
};

/*
 * next()->open_ is the open() that would be called without us. They are looked up together when the library is loaded,
 * or before that by the first caller (another library's constructor), so that none is looked up in a signal handler or
 * between vfork() and exec(). One that this libc lacks is NULL; nobody can call ours then, other than by dlsym().
 */
const struct next *next(void);

/* Is it our device? Only its directory is looked up, so it need not exist; see preload.c. */
bool path_is_kvm(int dirfd, const char *path);

/*
 * Is it a symbolic link, or a link to one, that leads to our device? That costs a system call, so it is asked only
 * where the next library's function has failed, or before it would create the file that a dangling link names.
 */
bool path_leads_to_kvm(int dirfd, const char *path);

/* The node of a real KVM under another name than /dev/kvm, which we take over as well. */
bool is_kvm_node(const struct stat *st);

/* A new fd for our /dev/kvm; open()'s flags. -1 and errno. */
int open_kvm(int flags);

/* Has there been an open of /dev/kvm? */
bool kvm_was_opened(void);

/* The kernel's struct sigaction; its sets are 8 bytes. */
struct kernel_action {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	u64 mask;
};

/* ---- fd.c ---- */
/* May be ours: false is certain. */
bool fd_maybe_ours(int fd);
void fd_add(int fd);

/* The next library's syscall(); syscall.c. */
void syscall_found(void *fn);

/* With the first open of /dev/kvm; stats.c. */
void client_stats_open(void);

/* A KVM ioctl has succeeded; quirk.c. */
void quirk_after_ioctl(int fd, unsigned long request, unsigned long arg);

static inline int edge(long ret)
{
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}

#endif
