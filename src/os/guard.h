/* SPDX-License-Identifier: MIT */
/*
 * Recovery from SIGSEGV and SIGBUS on memory that belongs to the client: its ioctl arguments, and the memory under its
 * slots, which it may unmap or truncate at any time. A guard is active on one thread between os_guard_enter() and
 * os_guard_leave(); guards nest.
 *
 *	struct os_guard g;
 *
 *	if (os_guard_enter(&g, owns, ctx)) {
 *		... an access that `owns` accepted has faulted; the guard is already left ...
 *	} else {
 *		... access memory ...
 *		os_guard_leave(&g);
 *	}
 *
 * The accesses must be made by a function that is called there and not inlined: a compiler that sees no call between
 * the two is right to conclude that nothing can jump back, and drops the first branch. Locals changed between enter and
 * the fault must be volatile. Faults that no guard owns go to the client's handler.
 */
#ifndef UKVM_OS_GUARD_H
#define UKVM_OS_GUARD_H

#include "cpu/types.h"

struct os_guard {
	void *env[5]; /* for __builtin_setjmp */
	struct os_guard *outer;
	bool (*owns)(void *ctx, u64 addr); /* async-signal-safe; NULL: everything */
	void *ctx;
	/* May be set after os_guard_enter(): where the thread goes on after a fault at ip; 0: as above. */
	u64 (*recover)(void *ctx, u64 ip);
};

void os_guard_push(struct os_guard *g, bool (*owns)(void *ctx, u64 addr), void *ctx);
void os_guard_leave(struct os_guard *g);

#define os_guard_enter(g, owns, ctx) (os_guard_push(g, owns, ctx), __builtin_setjmp((g)->env))

/* Copies between us and a client's pointer: 0 or -EFAULT. */
int os_copy_in(void *to, u64 from, size_t size);
int os_copy_out(u64 to, const void *from, size_t size);

/*
 * Makes our handlers of SIGSEGV and SIGBUS the installed ones; those found there get what is not ours. Cheap, and to
 * be called again whenever the client may have replaced them behind our back. 0 or a negative errno.
 */
int os_guard_init(void);

/*
 * sigaction(2) for these two signals, for the preloaded library: the client sets and sees its own action while ours
 * stays installed. 0 or a negative errno. Async-signal-safe.
 */
struct sigaction;
int os_guard_sigaction(int sig, const struct sigaction *new, struct sigaction *old);

#endif
