// SPDX-License-Identifier: MIT
/* A library that is preloaded as well and makes its calls by number, as tcmalloc does for mmap(). */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t off)
{
	return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, off);
}

EXPORT int munmap(void *at, size_t size)
{
	return (int)syscall(SYS_munmap, at, size);
}

EXPORT int close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

EXPORT int dup(int fd)
{
	return (int)syscall(SYS_dup, fd);
}

/* Or finds the function that it has to call in libc itself. */
EXPORT int dup2(int from, int to)
{
	int (*libcs)(int, int) = (int (*)(int, int))dlsym(dlopen("libc.so.6", RTLD_NOW), "dup2");

	return libcs(from, to);
}

EXPORT int open(const char *path, int flags, ...)
{
	va_list ap;
	int mode;

	va_start(ap, flags);
	mode = va_arg(ap, int);
	va_end(ap);
	return (int)syscall(SYS_open, path, flags, mode);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	long arg;

	va_start(ap, request);
	arg = va_arg(ap, long);
	va_end(ap);
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
