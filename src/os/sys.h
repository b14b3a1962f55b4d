/* SPDX-License-Identifier: MIT */
/*
 * System calls, without libc: no errno, no cancellation points, and no way back into the preloaded library's own
 * open(), close() and ioctl(). Each returns what the kernel does: >= 0 or a negative errno.
 */
#ifndef UKVM_OS_SYS_H
#define UKVM_OS_SYS_H

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "cpu/types.h"

static inline long os_sys(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline void os_yield(void)
{
	os_sys(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

static inline int os_close(int fd)
{
	return (int)os_sys(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline int os_open(const char *path, int flags)
{
	return (int)os_sys(SYS_open, (long)path, flags, 0, 0, 0, 0);
}

static inline long os_readlink(const char *path, char *buf, size_t size)
{
	return os_sys(SYS_readlink, (long)path, (long)buf, (long)size, 0, 0, 0);
}

/* The kernel's struct stat is libc's on x86-64. */
static inline int os_fstat(int fd, struct stat *st)
{
	return (int)os_sys(SYS_fstat, fd, (long)st, 0, 0, 0, 0);
}

static inline int os_fcntl(int fd, int cmd, long arg)
{
	return (int)os_sys(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
}

static inline int os_ftruncate(int fd, u64 size)
{
	return (int)os_sys(SYS_ftruncate, fd, (long)size, 0, 0, 0, 0);
}

static inline int os_fallocate(int fd, int mode, u64 off, u64 size)
{
	return (int)os_sys(SYS_fallocate, fd, mode, (long)off, (long)size, 0, 0);
}

static inline long os_write(int fd, const void *p, size_t size)
{
	return os_sys(SYS_write, fd, (long)p, (long)size, 0, 0, 0);
}

static inline int os_memfd_create(const char *name, unsigned flags)
{
	return (int)os_sys(SYS_memfd_create, (long)name, flags, 0, 0, 0, 0);
}

/* Sanitizers keep books on mappings, by way of libc's functions. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OS_SANITIZED 1
#endif
#endif

/* NULL if the kernel refuses. */
static inline void *os_mmap(void *at, size_t size, int prot, int flags, int fd, u64 off)
{
#ifdef OS_SANITIZED
	void *p = mmap(at, size, prot, flags, fd, (off_t)off);

	return p == MAP_FAILED ? NULL : p;
#else
	long ret = os_sys(SYS_mmap, (long)at, (long)size, prot, flags, fd, (long)off);

	return ret < 0 && ret > -4096 ? NULL : (void *)ret;
#endif
}

static inline int os_munmap(void *p, size_t size)
{
#ifdef OS_SANITIZED
	return munmap(p, size);
#else
	return (int)os_sys(SYS_munmap, (long)p, (long)size, 0, 0, 0, 0);
#endif
}

static inline int os_madvise(void *p, size_t size, int advice)
{
	return (int)os_sys(SYS_madvise, (long)p, (long)size, advice, 0, 0, 0);
}

#endif
