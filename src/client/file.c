// SPDX-License-Identifier: MIT
/*
 * What files do and KVM's do not: read, write, seek, change their size, sync. Ours are memfds, where all this would
 * work, or fail otherwise. The errnos are those of Linux 6.1, whose KVM has files without these operations:
 * /dev/kvm is a character device with noop_llseek(), VMs and vCPUs are anonymous inodes, which have no positions
 * besides (no FMODE_PREAD, no FMODE_PWRITE).
 */
#include "client/preload.h"

#include "kvm/object.h"

/* One that is only a path (O_PATH) has none of these operations anyway. */
static __attribute__((noinline)) enum obj_class class_of_ours(int fd)
{
	return next()->fcntl64_(fd, F_GETFL) & O_PATH ? OBJ_NONE : kvm_fd_class(fd);
}

/* OBJ_NONE for all fds but ours, at the price of a bit. */
static inline enum obj_class class_of(int fd)
{
	return unlikely(fd_maybe_ours(fd)) ? class_of_ours(fd) : OBJ_NONE;
}

/* An error for our fds, the next library's function for others. */
#define FILE_CALL(type, name, err, args, ...)                                                                          \
	EXPORT type name args                                                                                          \
	{                                                                                                              \
		enum obj_class class = class_of(fd);                                                                   \
														       \
		return likely(class == OBJ_NONE) ? next()->name##_(__VA_ARGS__) : edge(-(err));                        \
	}

/* A position in the file that comes as an argument. */
#define POSITION_ERROR (class == OBJ_SYSTEM ? EINVAL : ESPIPE)

FILE_CALL(ssize_t, read, EINVAL, (int fd, void *buf, size_t n), fd, buf, n)
FILE_CALL(ssize_t, readv, EINVAL, (int fd, const struct iovec *v, int n), fd, v, n)
FILE_CALL(ssize_t, write, EINVAL, (int fd, const void *buf, size_t n), fd, buf, n)
FILE_CALL(ssize_t, writev, EINVAL, (int fd, const struct iovec *v, int n), fd, v, n)
FILE_CALL(ssize_t, pread, POSITION_ERROR, (int fd, void *buf, size_t n, off_t at), fd, buf, n, at)
FILE_CALL(ssize_t, pwrite, POSITION_ERROR, (int fd, const void *buf, size_t n, off_t at), fd, buf, n, at)
FILE_CALL(ssize_t, preadv, POSITION_ERROR, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
FILE_CALL(ssize_t, pwritev, POSITION_ERROR, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
EXPORT_ALIAS(pread64, pread);
EXPORT_ALIAS(pwrite64, pwrite);
EXPORT_ALIAS(preadv64, preadv);
EXPORT_ALIAS(pwritev64, pwritev);

/* For buffers whose size the compiler knows. */
FILE_CALL(ssize_t, __read_chk, EINVAL, (int fd, void *buf, size_t n, size_t room), fd, buf, n, room)
FILE_CALL(ssize_t, __pread_chk, POSITION_ERROR, (int fd, void *buf, size_t n, off_t at, size_t room), fd, buf, n, at,
	  room)
EXPORT_ALIAS(__pread64_chk, __pread_chk);

FILE_CALL(int, ftruncate, EINVAL, (int fd, off_t size), fd, size)
FILE_CALL(int, fsync, EINVAL, (int fd), fd)
FILE_CALL(int, fdatasync, EINVAL, (int fd), fd)
FILE_CALL(int, fallocate, from < 0 || size <= 0 ? EINVAL : ENODEV, (int fd, int mode, off_t from, off_t size), fd, mode,
	  from, size)
EXPORT_ALIAS(ftruncate64, ftruncate);
EXPORT_ALIAS(fallocate64, fallocate);

EXPORT int posix_fallocate(int fd, off_t from, off_t size)
{
	if (likely(class_of(fd) == OBJ_NONE))
		return next()->posix_fallocate_(fd, from, size);
	return from < 0 || size < 0 ? EINVAL : ENODEV;
}
EXPORT_ALIAS(posix_fallocate64, posix_fallocate);

/* The position is 0 for ever. */
EXPORT off_t lseek(int fd, off_t off, int whence)
{
	if (likely(class_of(fd) == OBJ_NONE))
		return next()->lseek_(fd, off, whence);
	return whence < SEEK_SET || whence > SEEK_HOLE ? edge(-EINVAL) : 0;
}
EXPORT_ALIAS(lseek64, lseek);

/* ---- from file to file ---- */

EXPORT ssize_t sendfile(int to, int from, off_t *at, size_t n)
{
	enum obj_class class = class_of(from);

	if (likely(class == OBJ_NONE && class_of(to) == OBJ_NONE))
		return next()->sendfile_(to, from, at, n);
	return edge(at && (class == OBJ_VM || class == OBJ_VCPU) ? -ESPIPE : -EINVAL);
}
EXPORT_ALIAS(sendfile64, sendfile);

EXPORT ssize_t splice(int from, off_t *from_at, int to, off_t *to_at, size_t n, unsigned flags)
{
	if (likely(class_of(from) == OBJ_NONE && class_of(to) == OBJ_NONE))
		return next()->splice_(from, from_at, to, to_at, n, flags);
	return edge(-EINVAL);
}

EXPORT ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t n, unsigned flags)
{
	if (likely(class_of(from) == OBJ_NONE && class_of(to) == OBJ_NONE))
		return next()->copy_file_range_(from, from_at, to, to_at, n, flags);
	return edge(-EINVAL);
}
