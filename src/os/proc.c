// SPDX-License-Identifier: MIT
#include "os/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "os/sys.h"

static char *put(char *p, const char *s)
{
	while (*s)
		*p++ = *s++;
	return p;
}

const char *os_proc_path(char buf[OS_PROC_PATH_MAX], const char *dir, int fd)
{
	char digits[12], *p = put(put(put(buf, "/proc/self/"), dir), "/");
	unsigned n = 0, left = (unsigned)fd;

	do
		digits[n++] = (char)('0' + left % 10);
	while (left /= 10);
	while (n)
		*p++ = digits[--n];
	*p = 0;
	return buf;
}

/* A file of /proc, a character at a time. */
struct reader {
	int fd;
	u32 pos, len;
	char buf[2048];
};

/* -1 at the end. */
static int get(struct reader *r)
{
	long n;

	if (r->pos == r->len) {
		n = os_sys(SYS_read, r->fd, (long)r->buf, sizeof(r->buf), 0, 0, 0);
		if (n <= 0)
			return -1;
		r->pos = 0;
		r->len = (u32)n;
	}
	return (unsigned char)r->buf[r->pos++];
}

/* A number up to the next other character, which is swallowed. */
static u64 get_number(struct reader *r, unsigned base)
{
	u64 val = 0;
	int c;

	for (;;) {
		c = get(r);
		if (c >= '0' && c <= '9')
			c -= '0';
		else if (base == 16 && c >= 'a' && c <= 'f')
			c -= 'a' - 10;
		else
			return val;
		val = val * base + (unsigned)c;
	}
}

/* "start-end rwxp offset major:minor inode   path\n" (proc(5)) */
static bool get_mapping(struct reader *r, struct os_mapping *m)
{
	int c;

	m->start = get_number(r, 16);
	m->end = get_number(r, 16);
	m->prot = get(r) == 'r' ? PROT_READ : 0;
	m->prot |= get(r) == 'w' ? PROT_WRITE : 0;
	m->prot |= get(r) == 'x' ? PROT_EXEC : 0;
	m->shared = get(r) == 's';
	get(r);
	m->off = get_number(r, 16);
	m->major = (u32)get_number(r, 16);
	m->minor = (u32)get_number(r, 16);
	m->ino = get_number(r, 10);
	do
		c = get(r);
	while (c >= 0 && c != '\n');
	return m->end != 0;
}

int os_maps_each(void (*fn)(const struct os_mapping *m, void *arg), void *arg)
{
	struct reader r = { .fd = os_open("/proc/self/maps", O_RDONLY | O_CLOEXEC) };
	struct os_mapping m;

	if (r.fd < 0)
		return r.fd;
	while (get_mapping(&r, &m))
		fn(&m, arg);
	os_close(r.fd);
	return 0;
}

int os_eventfd_id(int fd)
{
	static const char key[] = "eventfd-id:"; /* since Linux 5.2 */
	char path[OS_PROC_PATH_MAX];
	struct reader r = { .fd = fd < 0 ? -EBADF : os_open(os_proc_path(path, "fdinfo", fd), O_RDONLY | O_CLOEXEC) };
	unsigned match = 0;
	int c, ret = -EINVAL;

	if (r.fd < 0)
		return r.fd == -ENOENT ? -EBADF : r.fd;
	while (ret < 0 && (c = get(&r)) >= 0) {
		match = c == key[match] ? match + 1 : c == key[0];
		if (match == sizeof(key) - 1) {
			get(&r); /* one blank */
			ret = (int)get_number(&r, 10);
		}
	}
	os_close(r.fd);
	return ret;
}
