// SPDX-License-Identifier: MIT
#include "client/preload.h"

#include <dlfcn.h>
#include <limits.h>
#include <string.h>

#define MAX_LINKS 40 /* in one path: the kernel's limit */

static struct next found;
static bool looked_up; /* the table is complete; two threads may both fill it, with the same values */

static void __attribute__((constructor)) look_up(void)
{
	int saved = errno;

	if (__atomic_load_n(&looked_up, __ATOMIC_ACQUIRE))
		return;
#define NEXT(name) __atomic_store_n(&found.name##_, (__typeof__(&name))dlsym(RTLD_NEXT, #name), __ATOMIC_RELAXED);
#include "client/next.def"
#undef NEXT
	syscall_found(found.syscall_);
	__atomic_store_n(&looked_up, true, __ATOMIC_RELEASE);
	errno = saved;
}

const struct next *next(void)
{
	if (unlikely(!__atomic_load_n(&looked_up, __ATOMIC_ACQUIRE)))
		look_up();
	return &found;
}

/* Is the directory that `path`'s first n bytes name, relative to dirfd, /dev? n = 0: dirfd itself. */
static bool is_dev(int dirfd, const char *path, size_t n)
{
	struct stat dir, dev;
	char name[PATH_MAX];

	if (n >= sizeof(name))
		return false;
	memcpy(name, path, n);
	name[n] = 0;
	return !next()->stat_("/dev", &dev) && !next()->fstatat_(dirfd, name, &dir, n ? 0 : AT_EMPTY_PATH) &&
	       dir.st_dev == dev.st_dev && dir.st_ino == dev.st_ino;
}

/*
 * Its last component is "kvm" and what comes before is /dev, however it is written: "/dev//kvm", "../dev/./kvm", "kvm"
 * in /dev or relative to an fd of it. Paths that do not end so, nearly all, cost one comparison.
 */
bool path_is_kvm(int dirfd, const char *path)
{
	size_t n;
	int saved;
	bool yes;

	if (!path)
		return false;
	n = strlen(path);
	if (n < 3 || memcmp(path + n - 3, "kvm", 3) || (n > 3 && path[n - 4] != '/'))
		return false;
	if (!strcmp(path, "/dev/kvm"))
		return true;
	saved = errno;
	yes = is_dev(dirfd, path, n - 3);
	errno = saved;
	return yes;
}

/* What the link `name` says, as a path from where `name` is one: false if it is none. */
static bool follow(int dirfd, char name[PATH_MAX])
{
	char target[PATH_MAX];
	ssize_t n = next()->readlinkat_(dirfd, name, target, sizeof(target));
	char *slash = strrchr(name, '/');
	size_t dir;

	if (n <= 0 || n == sizeof(target))
		return false;
	dir = target[0] == '/' || !slash ? 0 : (size_t)(slash - name) + 1;
	if (dir + (size_t)n >= PATH_MAX)
		return false;
	memcpy(name + dir, target, (size_t)n);
	name[dir + (size_t)n] = 0;
	return true;
}

bool path_leads_to_kvm(int dirfd, const char *path)
{
	char name[PATH_MAX];
	int saved = errno;
	bool yes = false;

	if (!path || strlen(path) >= sizeof(name))
		return false;
	strcpy(name, path);
	for (int links = 0; !yes && links < MAX_LINKS && follow(dirfd, name); links++)
		yes = path_is_kvm(dirfd, name);
	errno = saved;
	return yes;
}
