// SPDX-License-Identifier: MIT
#include "client/preload.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "kvm/object.h"
#include "kvm/signal.h"
#include "os/log.h"

/* The first open is where we begin to be there at all: until then a program that we were preloaded into is left alone. */
static void first_open(void)
{
	static bool done;

	if (__atomic_exchange_n(&done, true, __ATOMIC_ACQ_REL))
		return;
	os_log_open(getenv("UKVM_LOG"));
	kvm_signal_wrapped();
	kvm_fds_announced();
}

static void log_open(int ret)
{
	struct os_log l;

	os_log_begin(&l);
	os_log_str(&l, "open /dev/kvm = ");
	os_log_dec(&l, ret);
	os_log_end(&l);
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
	if (os_log_on())
		log_open(fd);
	fd = edge(fd);
	if (fd >= 0)
		fd_add(fd);
	return fd;
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
	return path_is_kvm(AT_FDCWD, path) ? open_kvm(flags) : next()->open_(path, flags, mode);
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
	return path_is_kvm(dirfd, path) ? open_kvm(flags) : next()->openat_(dirfd, path, flags, mode);
}
EXPORT_ALIAS(openat64, openat);

/* What _FORTIFY_SOURCE makes of calls without a mode. */
int __open_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);

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

	if (strchr(mode, 'x') && mode[0] != 'r')
		flags |= O_CREAT | O_EXCL;
	return strchr(mode, 'e') ? flags | O_CLOEXEC : flags;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	FILE *f;
	int fd;

	if (!path_is_kvm(AT_FDCWD, path))
		return next()->fopen_(path, mode);
	fd = open_kvm(flags_of(mode));
	if (fd < 0)
		return NULL;
	f = fdopen(fd, mode);
	if (!f)
		close(fd);
	return f;
}
EXPORT_ALIAS(fopen64, fopen);

EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	FILE *ret;
	int fd;

	if (!path_is_kvm(AT_FDCWD, path))
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

EXPORT int access(const char *path, int mode)
{
	return path_is_kvm(AT_FDCWD, path) ? access_kvm(mode) : next()->access_(path, mode);
}

EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	return path_is_kvm(dirfd, path) ? access_kvm(mode) : next()->faccessat_(dirfd, path, mode, flags);
}

EXPORT int eaccess(const char *path, int mode)
{
	return path_is_kvm(AT_FDCWD, path) ? access_kvm(mode) : next()->eaccess_(path, mode);
}
EXPORT_ALIAS(euidaccess, eaccess);

EXPORT ssize_t readlink(const char *path, char *buf, size_t size)
{
	return path_is_kvm(AT_FDCWD, path) ? edge(-EINVAL) : next()->readlink_(path, buf, size);
}

EXPORT ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	return path_is_kvm(dirfd, path) ? edge(-EINVAL) : next()->readlinkat_(dirfd, path, buf, size);
}

EXPORT char *realpath(const char *path, char *resolved)
{
	if (!path_is_kvm(AT_FDCWD, path))
		return next()->realpath_(path, resolved);
	return resolved ? strcpy(resolved, "/dev/kvm") : strdup("/dev/kvm");
}

EXPORT char *canonicalize_file_name(const char *path)
{
	return realpath(path, NULL);
}
