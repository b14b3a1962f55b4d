// SPDX-License-Identifier: MIT
#include "client/preload.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "kvm/object.h"
#include "kvm/signal.h"
#include "os/log.h"
#include "os/proc.h"
#include "os/sys.h"

/*
 * The first open is where we begin to be there at all: until then a program that we were preloaded into is left alone.
 */
static bool opened;

static void first_open(void)
{
	if (__atomic_exchange_n(&opened, true, __ATOMIC_ACQ_REL))
		return;
	os_log_open(getenv("UKVM_LOG"));
	client_stats_open();
	kvm_signal_wrapped();
	kvm_fds_announced();
}

bool kvm_was_opened(void)
{
	return __atomic_load_n(&opened, __ATOMIC_ACQUIRE);
}

static void log_open(int ret)
{
	struct os_log l;

	os_log_begin(&l);
	os_log_str(&l, "open /dev/kvm = ");
	os_log_dec(&l, ret);
	os_log_end(&l);
}

/* O_PATH: nothing that ioctl() could be called on, but /proc/self/fd can be asked for more. */
static int only_path(int fd, int flags)
{
	char path[OS_PROC_PATH_MAX];
	int ret = os_open(os_proc_path(path, "fd", fd), O_PATH | (flags & O_CLOEXEC));

	os_close(fd);
	return ret;
}

int open_kvm(int flags)
{
	int fd;

	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return edge(-EEXIST);
	if (flags & O_DIRECTORY)
		return edge(-ENOTDIR);
	first_open();
	fd = kvm_open(flags);
	if (fd >= 0 && (flags & O_PATH))
		fd = only_path(fd, flags);
	if (os_log_on())
		log_open(fd);
	fd = edge(fd);
	if (fd >= 0)
		fd_add(fd);
	return fd;
}

/*
 * A path that does not say that it is ours, after the next library's open() returned fd: it may be a link to our
 * device, or a node of the real one.
 */
static int open_other(int dirfd, const char *path, int flags, int fd)
{
	struct stat st;

	if (fd >= 0) {
		if (likely(next()->fstat_(fd, &st) || !is_kvm_node(&st)))
			return fd;
		next()->close_(fd);
	} else if ((flags & O_NOFOLLOW) || !path_leads_to_kvm(dirfd, path)) {
		return fd;
	}
	return open_kvm(flags);
}

/* The file that a dangling link to /dev/kvm names would be created. */
static bool would_create(int dirfd, const char *path, int flags)
{
	return (flags & (O_CREAT | O_EXCL | O_NOFOLLOW)) == O_CREAT && path_leads_to_kvm(dirfd, path);
}

/* open()'s third argument is there only with these flags. */
static mode_t mode_of(int flags, va_list ap)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (path_is_kvm(AT_FDCWD, path) || would_create(AT_FDCWD, path, flags))
		return open_kvm(flags);
	return open_other(AT_FDCWD, path, flags, next()->open_(path, flags, mode));
}
EXPORT_ALIAS(open64, open);
EXPORT_ALIAS(__open, open);
EXPORT_ALIAS(__open64, open);

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (path_is_kvm(dirfd, path) || would_create(dirfd, path, flags))
		return open_kvm(flags);
	return open_other(dirfd, path, flags, next()->openat_(dirfd, path, flags, mode));
}
EXPORT_ALIAS(openat64, openat);

/* Calls without a mode. */
EXPORT int __open_2(const char *path, int flags)
{
	return open(path, flags, 0);
}
EXPORT_ALIAS(__open64_2, __open_2);

EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	return openat(dirfd, path, flags, 0);
}
EXPORT_ALIAS(__openat64_2, __openat_2);

EXPORT int creat(const char *path, mode_t mode)
{
	return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
EXPORT_ALIAS(creat64, creat);

/* fopen()'s mode as open()'s flags; what fdopen() refuses, it refuses. */
static int flags_of(const char *mode)
{
	int flags = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;

	if (mode[0] != 'r')
		flags |= O_CREAT | (strchr(mode, 'x') ? O_EXCL : 0);
	return strchr(mode, 'e') ? flags | O_CLOEXEC : flags;
}

static FILE *fopen_kvm(const char *mode)
{
	int fd = open_kvm(flags_of(mode));
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (fd >= 0 && !f)
		close(fd);
	return f;
}

/* By name, or as the link that the next library could not follow, or through which it would create a file. */
static bool fopen_is_kvm(const char *path, const char *mode)
{
	return path_is_kvm(AT_FDCWD, path) || would_create(AT_FDCWD, path, flags_of(mode));
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	struct stat st;
	FILE *f;

	if (fopen_is_kvm(path, mode))
		return fopen_kvm(mode);
	f = next()->fopen_(path, mode);
	if (!f)
		return path_leads_to_kvm(AT_FDCWD, path) ? fopen_kvm(mode) : NULL;
	if (likely(next()->fstat_(fileno(f), &st) || !is_kvm_node(&st)))
		return f;
	next()->fclose_(f);
	return fopen_kvm(mode);
}
EXPORT_ALIAS(fopen64, fopen);
EXPORT_ALIAS(_IO_fopen, fopen);

EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	FILE *ret;
	int fd;

	if (!path || (!fopen_is_kvm(path, mode) && !path_leads_to_kvm(AT_FDCWD, path)))
		return next()->freopen_(path, mode, f);
	fd = open_kvm(flags_of(mode));
	if (fd < 0) {
		fclose(f);
		return NULL;
	}
	ret = next()->freopen_("/dev/null", mode, f);
	if (ret)
		dup3(fd, fileno(ret), strchr(mode, 'e') ? O_CLOEXEC : 0);
	close(fd);
	return ret;
}
EXPORT_ALIAS(freopen64, freopen);

/* ---- a character device, readable and writable for all ---- */

static int access_kvm(int mode)
{
	if (mode & ~(R_OK | W_OK | X_OK))
		return edge(-EINVAL);
	return edge(mode & X_OK ? -EACCES : 0);
}

static int access_other(int dirfd, const char *path, int mode, int flags, int ret)
{
	bool ours = ret && !(flags & AT_SYMLINK_NOFOLLOW) && path_leads_to_kvm(dirfd, path);

	return ours ? access_kvm(mode) : ret;
}

EXPORT int access(const char *path, int mode)
{
	return path_is_kvm(AT_FDCWD, path) ? access_kvm(mode) :
					     access_other(AT_FDCWD, path, mode, 0, next()->access_(path, mode));
}

EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	return path_is_kvm(dirfd, path) ?
		       access_kvm(mode) :
		       access_other(dirfd, path, mode, flags, next()->faccessat_(dirfd, path, mode, flags));
}

EXPORT int eaccess(const char *path, int mode)
{
	return path_is_kvm(AT_FDCWD, path) ? access_kvm(mode) :
					     access_other(AT_FDCWD, path, mode, 0, next()->eaccess_(path, mode));
}
EXPORT_ALIAS(euidaccess, eaccess);

/* ---- its name, and those of our fds in /proc ---- */

/* Puts `name` in place of the n bytes in buf, as much as there is room for. */
static ssize_t put_name(char *buf, size_t size, const char *name, size_t n)
{
	n = n < size ? n : size;
	memcpy(buf, name, n);
	return (ssize_t)n;
}

/* What a link in /proc/PID/fd says of one of our memfds, as the kernel would say it of its own. */
static ssize_t rename_fd(char *buf, size_t size, ssize_t n)
{
	static const struct {
		const char *ours, *kernels;
	} names[] = {
		{ "/memfd:ukvm ", "/dev/kvm" },
		{ "/memfd:ukvm-vm ", "anon_inode:kvm-vm" },
		{ "/memfd:ukvm-vcpu:", "anon_inode:kvm-vcpu:" },
	};
	char name[48];

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		size_t ours = strlen(names[i].ours), len = strlen(names[i].kernels);

		if (n < (ssize_t)ours || memcmp(buf, names[i].ours, ours))
			continue;
		memcpy(name, names[i].kernels, len);
		for (; ours < (size_t)n && buf[ours] >= '0' && buf[ours] <= '9' && len < sizeof(name); ours++)
			name[len++] = buf[ours]; /* the vCPU's number */
		return put_name(buf, size, name, len);
	}
	return n;
}

EXPORT ssize_t readlink(const char *path, char *buf, size_t size)
{
	return path_is_kvm(AT_FDCWD, path) ? edge(-EINVAL) : rename_fd(buf, size, next()->readlink_(path, buf, size));
}

EXPORT ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	return path_is_kvm(dirfd, path) ? edge(-EINVAL) :
					  rename_fd(buf, size, next()->readlinkat_(dirfd, path, buf, size));
}

EXPORT char *realpath(const char *path, char *resolved)
{
	char *ret;

	if (!path_is_kvm(AT_FDCWD, path)) {
		ret = next()->realpath_(path, resolved);
		if (ret || !path_leads_to_kvm(AT_FDCWD, path))
			return ret;
	}
	return resolved ? strcpy(resolved, "/dev/kvm") : strdup("/dev/kvm");
}

EXPORT char *canonicalize_file_name(const char *path)
{
	return realpath(path, NULL);
}

/* For buffers whose size the compiler knows. That it is too small is the next library's to report. */
EXPORT ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room)
{
	return size > room ? next()->__readlink_chk_(path, buf, size, room) : readlink(path, buf, size);
}

EXPORT ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t size, size_t room)
{
	return size > room ? next()->__readlinkat_chk_(dirfd, path, buf, size, room) :
			     readlinkat(dirfd, path, buf, size);
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room)
{
	return room < PATH_MAX ? next()->__realpath_chk_(path, resolved, room) : realpath(path, resolved);
}
