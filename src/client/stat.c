// SPDX-License-Identifier: MIT
#include "client/preload.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "kvm/object.h"

#define KVM_MINOR 232 /* of the misc devices, major 10 */

/* Old programs ask with the version of their struct stat; on x86-64 there has only been this one. */
#define STAT_VERSIONS 1

/* The inode that devtmpfs could have given it: times and file system are /dev's. */
static int stat_kvm(struct stat *st)
{
	if (next()->stat_("/dev", st))
		memset(st, 0, sizeof(*st));
	st->st_ino = KVM_MINOR;
	st->st_mode = S_IFCHR | 0666;
	st->st_nlink = 1;
	st->st_uid = st->st_gid = 0;
	st->st_rdev = makedev(10, KVM_MINOR);
	st->st_size = 0;
	st->st_blksize = 4096;
	st->st_blocks = 0;
	return 0;
}

bool is_kvm_node(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(10, KVM_MINOR);
}

static enum obj_class fd_class(int fd)
{
	return unlikely(fd_maybe_ours(fd)) ? kvm_fd_class(fd) : OBJ_NONE;
}

/* What is an anonymous inode in the kernel's KVM: of no type and without contents. */
static bool anonymous(enum obj_class class)
{
	return class == OBJ_VM || class == OBJ_VCPU;
}

static int stat_anonymous(int fd, struct stat *st)
{
	int ret = next()->fstat_(fd, st);

	st->st_mode = 0600;
	st->st_nlink = 1;
	st->st_size = st->st_blocks = 0;
	return ret;
}

/* The file that a ...at() call names: /dev/kvm by its path, or the fd itself. */
static enum obj_class at_class(int dirfd, const char *path, int flags)
{
	if (path && !*path && (flags & AT_EMPTY_PATH))
		return fd_class(dirfd);
	return path_is_kvm(dirfd, path) ? OBJ_SYSTEM : OBJ_NONE;
}

/* What the next library said of a path that is not ours by name: it may be a link to it or the real device's node. */
static int stat_other(int dirfd, const char *path, struct stat *st, int flags, int ret)
{
	bool ours = ret ? !(flags & AT_SYMLINK_NOFOLLOW) && path_leads_to_kvm(dirfd, path) : is_kvm_node(st);

	return ours ? stat_kvm(st) : ret;
}

EXPORT int stat(const char *path, struct stat *st)
{
	return path_is_kvm(AT_FDCWD, path) ? stat_kvm(st) :
					     stat_other(AT_FDCWD, path, st, 0, next()->stat_(path, st));
}

EXPORT int lstat(const char *path, struct stat *st)
{
	return path_is_kvm(AT_FDCWD, path) ?
		       stat_kvm(st) :
		       stat_other(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW, next()->lstat_(path, st));
}

EXPORT int fstat(int fd, struct stat *st)
{
	enum obj_class class = fd_class(fd);

	if (unlikely(anonymous(class)))
		return stat_anonymous(fd, st);
	return class == OBJ_SYSTEM ? stat_kvm(st) : next()->fstat_(fd, st);
}

EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	enum obj_class class = at_class(dirfd, path, flags);

	if (unlikely(anonymous(class)))
		return stat_anonymous(dirfd, st);
	return class == OBJ_SYSTEM ?
		       stat_kvm(st) :
		       stat_other(dirfd, path, st, flags, next()->fstatat_(dirfd, path, st, flags));
}

static int statx_kvm(int flags, unsigned mask, struct statx *stx)
{
	int ret = next()->statx_(AT_FDCWD, "/dev", flags & ~AT_EMPTY_PATH, mask, stx);

	if (ret)
		return ret;
	stx->stx_ino = KVM_MINOR;
	stx->stx_mode = S_IFCHR | 0666;
	stx->stx_nlink = 1;
	stx->stx_uid = stx->stx_gid = 0;
	stx->stx_rdev_major = 10;
	stx->stx_rdev_minor = KVM_MINOR;
	stx->stx_size = stx->stx_blocks = 0;
	stx->stx_attributes &= ~(u64)STATX_ATTR_MOUNT_ROOT;
	return 0;
}

EXPORT int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *stx)
{
	enum obj_class class = at_class(dirfd, path, flags);
	bool ours = class == OBJ_SYSTEM;
	int ret = 0;

	if (!ours) {
		ret = next()->statx_(dirfd, path, flags, mask, stx);
		ours = ret ? !(flags & AT_SYMLINK_NOFOLLOW) && path_leads_to_kvm(dirfd, path) :
			     S_ISCHR(stx->stx_mode) && stx->stx_rdev_major == 10 && stx->stx_rdev_minor == KVM_MINOR;
	}
	if (unlikely(anonymous(class)) && !ret) {
		stx->stx_mode = 0600;
		stx->stx_nlink = 1;
		stx->stx_size = stx->stx_blocks = 0;
	}
	return ours ? statx_kvm(flags, mask, stx) : ret;
}

/* struct stat64 is struct stat on x86-64. */
#define ALIAS64(name, args) extern int name##64 args __attribute__((alias(#name), visibility("default")))

ALIAS64(stat, (const char *, struct stat64 *));
ALIAS64(lstat, (const char *, struct stat64 *));
ALIAS64(fstat, (int, struct stat64 *));
ALIAS64(fstatat, (int, const char *, struct stat64 *, int));

/* Programs linked with glibc before 2.33. */
int __xstat(int version, const char *path, struct stat *st);
int __lxstat(int version, const char *path, struct stat *st);
int __fxstat(int version, int fd, struct stat *st);
int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags);

static bool known(int version)
{
	return version >= 0 && version <= STAT_VERSIONS;
}

EXPORT int __xstat(int version, const char *path, struct stat *st)
{
	return known(version) ? stat(path, st) : edge(-EINVAL);
}
EXPORT_ALIAS(__xstat64, __xstat);

EXPORT int __lxstat(int version, const char *path, struct stat *st)
{
	return known(version) ? lstat(path, st) : edge(-EINVAL);
}
EXPORT_ALIAS(__lxstat64, __lxstat);

EXPORT int __fxstat(int version, int fd, struct stat *st)
{
	return known(version) ? fstat(fd, st) : edge(-EINVAL);
}
EXPORT_ALIAS(__fxstat64, __fxstat);

EXPORT int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags)
{
	return known(version) ? fstatat(dirfd, path, st, flags) : edge(-EINVAL);
}
EXPORT_ALIAS(__fxstatat64, __fxstatat);
