/* SPDX-License-Identifier: MIT */
/* A futex mutex: four bytes, no libc, usable in shared state that outlives a thread. */
#ifndef UKVM_OS_LOCK_H
#define UKVM_OS_LOCK_H

#include "cpu/types.h"

struct os_lock {
	u32 word; /* 0 free, 1 held, 2 held with waiters */
};

void os_lock(struct os_lock *l);
void os_unlock(struct os_lock *l);

/* Waits while *word == val (spurious wake-ups happen), at most ns nanoseconds (0: for ever). */
void os_futex_wait(u32 *word, u32 val, u64 ns);
void os_futex_wake(u32 *word);

#endif
