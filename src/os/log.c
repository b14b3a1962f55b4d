// SPDX-License-Identifier: MIT
#include "os/log.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "os/sys.h"

bool os_log_enabled;

/* Empty: standard error. Kept as a name: an fd of ours could be closed and its number reused by the client. */
static char path[4096];

void os_log_open(const char *target)
{
	size_t n;

	if (os_log_enabled || !target || !*target)
		return;
	n = strlen(target);
	if (strcmp(target, "stderr")) {
		if (n >= sizeof(path))
			return;
		memcpy(path, target, n + 1);
	}
	os_log_enabled = true;
}

static void put(struct os_log *l, char c)
{
	if (l->n < sizeof(l->text) - 1) /* one is left for the newline */
		l->text[l->n++] = c;
}

void os_log_str(struct os_log *l, const char *s)
{
	while (*s)
		put(l, *s++);
}

/* At least `width` digits. */
static void number(struct os_log *l, u64 v, unsigned base, int width)
{
	char digits[20];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v || n < width);
	while (n)
		put(l, digits[--n]);
}

void os_log_dec(struct os_log *l, s64 v)
{
	if (v < 0)
		put(l, '-');
	number(l, v < 0 ? -(u64)v : (u64)v, 10, 1);
}

void os_log_hex(struct os_log *l, u64 v)
{
	os_log_str(l, "0x");
	number(l, v, 16, 1);
}

void os_log_begin(struct os_log *l)
{
	struct timespec now = { 0 };

	l->n = 0;
	os_sys(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0, 0);
	os_log_str(l, "ukvm ");
	number(l, (u64)now.tv_sec, 10, 1);
	put(l, '.');
	number(l, (u64)now.tv_nsec / 1000, 10, 6);
	os_log_str(l, " [");
	number(l, (u64)os_sys(SYS_gettid, 0, 0, 0, 0, 0, 0), 10, 1);
	os_log_str(l, "] ");
}

void os_log_end(struct os_log *l)
{
	int fd = 2;

	l->text[l->n++] = '\n';
	if (path[0]) {
		fd = (int)os_sys(SYS_open, (long)path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666, 0, 0,
				 0);
		if (fd < 0)
			return;
	}
	os_write(fd, l->text, l->n);
	if (fd != 2)
		os_close(fd);
}
