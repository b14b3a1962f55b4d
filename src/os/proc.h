/* SPDX-License-Identifier: MIT */
/* What only /proc tells about this process. No libc, no allocation. */
#ifndef UKVM_OS_PROC_H
#define UKVM_OS_PROC_H

#include "cpu/types.h"

#define OS_PROC_PATH_MAX 32

/* "/proc/self/DIR/FD" in buf, which is returned. dir is "fd" or "fdinfo". */
const char *os_proc_path(char buf[OS_PROC_PATH_MAX], const char *dir, int fd);

/* One line of /proc/self/maps. */
struct os_mapping {
	u64 start, end, off;
	u32 major, minor; /* of the file's device */
	u64 ino;
	int prot; /* PROT_* */
	bool shared;
};

/* Calls fn for each mapping. It may change mappings; ones made meanwhile may be seen or not. 0 or a negative errno. */
int os_maps_each(void (*fn)(const struct os_mapping *m, void *arg), void *arg);

/* What tells one eventfd from another, however it was duplicated: >= 0; -EBADF; -EINVAL: it is something else. */
int os_eventfd_id(int fd);

#endif
