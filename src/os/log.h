/* SPDX-License-Identifier: MIT */
/*
 * Diagnostics (UKVM_LOG, `ukvm --log`): whole lines, each a single write(2). No stdio, no malloc, no errno; callable
 * from a signal handler, and nothing but one load and branch while it is off:
 *
 *	if (os_log_on()) {
 *		struct os_log l;
 *
 *		os_log_begin(&l);
 *		os_log_str(&l, "KVM_RUN fd ");
 *		os_log_dec(&l, fd);
 *		os_log_end(&l);
 *	}
 */
#ifndef UKVM_OS_LOG_H
#define UKVM_OS_LOG_H

#include "cpu/types.h"

struct os_log {
	u32 n;
	char text[252]; /* what does not fit is cut off */
};

extern bool os_log_enabled; /* process-wide, as the variable it comes from; set before the first VM exists */

static inline bool os_log_on(void)
{
	return __builtin_expect(os_log_enabled, 0);
}

/* target: "stderr" or a file to append to; NULL or "" leaves the log off. */
void os_log_open(const char *target);

void os_log_begin(struct os_log *l); /* the time and the thread */
void os_log_str(struct os_log *l, const char *s);
void os_log_dec(struct os_log *l, s64 v);
void os_log_hex(struct os_log *l, u64 v);
void os_log_end(struct os_log *l);

#endif
