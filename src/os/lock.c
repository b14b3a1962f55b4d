// SPDX-License-Identifier: MIT
/* The mutex of Drepper's "Futexes are tricky" (2011), section 6: one atomic operation when nobody else wants it. */
#include "os/lock.h"

#include <linux/futex.h>
#include <time.h>

#include "os/sys.h"

#define FREE 0
#define HELD 1
#define CONTENDED 2

void os_lock(struct os_lock *l)
{
	u32 was = FREE;

	if (likely(__atomic_compare_exchange_n(&l->word, &was, HELD, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		return;
	/* Whoever waits leaves CONTENDED behind, so that the unlock after its own wakes the next one. */
	while (__atomic_exchange_n(&l->word, CONTENDED, __ATOMIC_ACQUIRE) != FREE)
		os_futex_wait(&l->word, CONTENDED, 0);
}

void os_unlock(struct os_lock *l)
{
	if (unlikely(__atomic_exchange_n(&l->word, FREE, __ATOMIC_RELEASE) == CONTENDED))
		os_sys(SYS_futex, (long)&l->word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

void os_futex_wait(u32 *word, u32 val, u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	os_sys(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, val, ns ? (long)&ts : 0, 0, 0);
}

void os_futex_wake(u32 *word)
{
	os_sys(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, 0x7fffffff, 0, 0, 0);
}
