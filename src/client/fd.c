// SPDX-License-Identifier: MIT
/*
 * Which fds may be ours. An object lives while an fd or a mapping refers to it, and no notification exists when the
 * last one goes: so after a call that may have been it, kvm_collect() looks. A bitmap keeps all other calls as cheap as
 * they are. It may hold fds that are no longer ours, and must not miss any that this process was given by an ioctl,
 * open or dup; those that come otherwise are only looked for later.
 */
#include "client/preload.h"

#include <limits.h>
#include <stdarg.h>

#include "kvm/object.h"

#define KERNEL_O_LARGEFILE 0100000 /* O_LARGEFILE is 0 where off_t has 64 bits anyway */
#define NR_FDS 65536 /* those above are always "maybe" once one of ours was there */

static u64 bits[NR_FDS / 64];
static bool high;

/*
 * Closing is noticed only in the process that opened: a child of fork() owns none of the objects, and a child of
 * vfork() closes its own fds but shares this memory.
 */
static int owner;

/* Addresses between which the mappings of our fds lie; and none at all if hi is 0. */
static u64 lo = ~0ull, hi;

bool fd_maybe_ours(int fd)
{
	if (unlikely((u32)fd >= NR_FDS))
		return fd >= 0 && __atomic_load_n(&high, __ATOMIC_RELAXED);
	return __atomic_load_n(&bits[fd / 64], __ATOMIC_RELAXED) >> (fd % 64) & 1;
}

void fd_add(int fd)
{
	__atomic_store_n(&owner, getpid(), __ATOMIC_RELAXED);
	if (fd >= NR_FDS)
		__atomic_store_n(&high, true, __ATOMIC_RELAXED);
	else if (fd >= 0)
		__atomic_fetch_or(&bits[fd / 64], BIT64(fd % 64), __ATOMIC_RELAXED);
}

/* Before the fd is closed, as it may be another thread's right after: was it one of ours? */
static bool fd_remove(int fd)
{
	if (!fd_maybe_ours(fd))
		return false;
	kvm_fd_forget(fd);
	if (getpid() != __atomic_load_n(&owner, __ATOMIC_RELAXED))
		return false;
	if (fd < NR_FDS)
		__atomic_fetch_and(&bits[fd / 64], ~BIT64(fd % 64), __ATOMIC_RELAXED);
	return true;
}

static void collect(bool due)
{
	int saved = errno;

	if (due)
		kvm_collect();
	errno = saved;
}

EXPORT int close(int fd)
{
	bool ours = fd_remove(fd);
	int ret;

	/* A program that closes all numbers it knows nothing of: those that we keep do not exist for it. */
	if (!ours && kvm_fd_reserved(fd))
		return edge(-EBADF);
	ret = next()->close_(fd);
	collect(ours);
	return ret;
}
EXPORT_ALIAS(__close, close);

EXPORT int fclose(FILE *f)
{
	int saved = errno, fd = fileno(f); /* -1 for a stream without one, and errno with it */
	bool ours = fd_remove(fd);
	int ret;

	errno = saved;
	ret = next()->fclose_(f);
	collect(ours);
	return ret;
}

static bool remove_range(unsigned first, unsigned last)
{
	bool ours = false;

	for (u64 fd = first; fd <= last && fd < NR_FDS; fd++) {
		if (!bits[fd / 64])
			fd |= 63; /* none in this word */
		else
			ours |= fd_remove((int)fd);
	}
	return ours;
}

/* The numbers that we keep are passed over. */
static int close_between(unsigned first, unsigned last, int flags)
{
	int ret = 0, kept;

	while (!ret && first <= INT_MAX && (kept = kvm_fd_next_reserved((int)first)) >= 0 && (unsigned)kept <= last) {
		unsigned end = (unsigned)kept + !kvm_fd_reserved(kept); /* it may be something else by now */

		if (first < end)
			ret = next()->close_range_(first, end - 1, flags);
		first = (unsigned)kept + 1;
	}
	return ret || first > last ? ret : next()->close_range_(first, last, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	bool ours;
	int ret;

	if (first > last || (flags & CLOSE_RANGE_CLOEXEC))
		return next()->close_range_(first, last, flags);
	ours = remove_range(first, last);
	ret = close_between(first, last, flags);
	collect(ours);
	return ret;
}

EXPORT void closefrom(int first)
{
	unsigned from = first < 0 ? 0 : (unsigned)first;
	bool ours = remove_range(from, UINT_MAX);

	if (close_between(from, UINT_MAX, 0))
		next()->closefrom_(first); /* a kernel without close_range() */
	collect(ours);
}

/* `to` is another fd of what `from` is. */
static int copied(int from, int to)
{
	if (to >= 0 && fd_maybe_ours(from))
		fd_add(to);
	return to;
}

EXPORT int dup(int fd)
{
	return copied(fd, next()->dup_(fd));
}

/* Something else comes to be `to`: was it ours? */
static bool replace(int from, int to)
{
	if (from == to || next()->fcntl64_(from, F_GETFD) < 0)
		return false;
	kvm_fd_make_room(to);
	return fd_remove(to);
}

EXPORT int dup2(int from, int to)
{
	bool ours = replace(from, to);
	int ret = copied(from, next()->dup2_(from, to));

	if (ret < 0 && ours)
		fd_add(to);
	collect(ours);
	return ret;
}
EXPORT_ALIAS(__dup2, dup2);

EXPORT int dup3(int from, int to, int flags)
{
	bool ours = replace(from, to);
	int ret = copied(from, next()->dup3_(from, to, flags));

	if (ret < 0 && ours)
		fd_add(to);
	collect(ours);
	return ret;
}

/* What our memfds are and the kernel's files are not; see also file.c. */
static int fcntl_ours(int fd, int cmd, unsigned long arg)
{
	enum obj_class class = kvm_fd_class(fd);
	int ret;

	if (class != OBJ_NONE && (cmd == F_ADD_SEALS || cmd == F_GET_SEALS || cmd == F_SETLEASE))
		return edge(-EINVAL);
	ret = next()->fcntl64_(fd, cmd, arg);
	/* Anonymous inodes have not been opened, and with O_LARGEFILE neither. */
	return ret >= 0 && cmd == F_GETFL && (class == OBJ_VM || class == OBJ_VCPU) ? ret & ~KERNEL_O_LARGEFILE : ret;
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
	unsigned long arg;
	va_list ap;
	int ret;

	va_start(ap, cmd);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (unlikely(fd_maybe_ours(fd)) && cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC)
		return fcntl_ours(fd, cmd, arg);
	ret = next()->fcntl64_(fd, cmd, arg);
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? copied(fd, ret) : ret;
}
EXPORT_ALIAS(fcntl, fcntl64);
EXPORT_ALIAS(__fcntl, fcntl64);

/* ---- mappings ---- */

static void widen(u64 from, u64 to)
{
	u64 old = __atomic_load_n(&lo, __ATOMIC_RELAXED);

	while (from < old && !__atomic_compare_exchange_n(&lo, &old, from, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	old = __atomic_load_n(&hi, __ATOMIC_RELAXED);
	while (to > old && !__atomic_compare_exchange_n(&hi, &old, to, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

EXPORT void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t off)
{
	void *ret;

	if (unlikely(fd_maybe_ours(fd)) && !(flags & MAP_ANONYMOUS) && kvm_fd_class(fd) == OBJ_SYSTEM) {
		errno = ENODEV;
		return MAP_FAILED;
	}
	ret = next()->mmap_(at, size, prot, flags, fd, off);
	if (ret != MAP_FAILED && !(flags & MAP_ANONYMOUS) && fd_maybe_ours(fd))
		widen((u64)ret, (u64)ret + size);
	return ret;
}
EXPORT_ALIAS(mmap64, mmap);

EXPORT int munmap(void *at, size_t size)
{
	int ret = next()->munmap_(at, size);
	u64 from = (u64)at;

	collect(!ret && from < __atomic_load_n(&hi, __ATOMIC_RELAXED) &&
		from + size > __atomic_load_n(&lo, __ATOMIC_RELAXED) &&
		getpid() == __atomic_load_n(&owner, __ATOMIC_RELAXED));
	return ret;
}
