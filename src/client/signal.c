// SPDX-License-Identifier: MIT
/*
 * The client's signal handlers are called through ours, which first tells a KVM_RUN on this thread to end (and may be
 * told that the handler has to wait until it has; see kvm/signal.h). All else stays the kernel's: masks, SA_RESTART,
 * SA_ONSTACK, SA_NODEFER and the dispositions SIG_IGN and SIG_DFL. The client sees its own handlers.
 *
 * SIGSEGV and SIGBUS are shared with os/guard.h; the other synchronous signals are left alone.
 */
#include "client/preload.h"

#include <string.h>

#include "kvm/signal.h"
#include "os/guard.h"

struct handler {
	void (*fn)(int, siginfo_t *, void *);
	int flags; /* as the client gave them */
};

/*
 * Handlers of a signal take turns in two places, each with an entry of its own, so that the kernel's switch from one
 * to the other is the switch: a signal never meets a half-changed pair, and nobody takes a lock. Two threads that
 * install handlers for the same signal at once get what one of them asked for, as ever.
 */
static struct handler handlers[NSIG][2];

static void run_handler(int sig, siginfo_t *info, void *uc, int place);

static void entry0(int sig, siginfo_t *info, void *uc)
{
	run_handler(sig, info, uc, 0);
}

static void entry1(int sig, siginfo_t *info, void *uc)
{
	run_handler(sig, info, uc, 1);
}

static void (*const entries[2])(int, siginfo_t *, void *) = { entry0, entry1 };

/* Which place is in use: -1 if the disposition is not one of ours. */
static int place_of(const struct sigaction *sa)
{
	for (int n = 0; n < 2; n++)
		if (sa->sa_sigaction == entries[n])
			return n;
	return -1;
}

/* SA_RESETHAND, which the kernel would do at the first delivery: too early where the handler is then told to wait. */
static void reset(int sig, int place)
{
	static const struct sigaction dfl = { .sa_handler = SIG_DFL };
	struct sigaction now;

	if (!next()->sigaction_(sig, NULL, &now) && place_of(&now) == place)
		next()->sigaction_(sig, &dfl, NULL);
}

static void run_handler(int sig, siginfo_t *info, void *uc, int place)
{
	struct handler h;

	if (kvm_signal_notify(sig, info, uc))
		return;
	h = handlers[sig][place];
	if (h.flags & (int)SA_RESETHAND)
		reset(sig, place);
	/* A handler without SA_SIGINFO ignores what it is given besides the number. */
	h.fn(sig, info, uc);
	kvm_signal_handler_returns();
}

static bool is_wrapped(int sig)
{
	switch (sig) {
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGSYS:
		return false;
	default:
		return sig > 0 && sig < NSIG;
	}
}

/* The flags that we keep for ourselves: info is always wanted, and the reset is ours to do. */
#define OWN_FLAGS ((int)(SA_SIGINFO | SA_RESETHAND))

/* What goes to the kernel for the client's action. */
static struct sigaction wrap(int sig, const struct sigaction *act)
{
	struct sigaction now, sa = *act;
	int place;

	if (sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN || next()->sigaction_(sig, NULL, &now))
		return sa;
	place = place_of(&now) == 0 ? 1 : 0;
	handlers[sig][place] = (struct handler){ sa.sa_sigaction, sa.sa_flags };
	sa.sa_sigaction = entries[place];
	sa.sa_flags = (sa.sa_flags & ~OWN_FLAGS) | SA_SIGINFO;
	return sa;
}

static void unwrap(int sig, struct sigaction *sa)
{
	int place = place_of(sa);

	if (place < 0)
		return;
	sa->sa_sigaction = handlers[sig][place].fn;
	sa->sa_flags = (sa->sa_flags & ~OWN_FLAGS) | (handlers[sig][place].flags & OWN_FLAGS);
}

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction sa, was;
	int ret;

	if (sig == SIGSEGV || sig == SIGBUS)
		return edge(os_guard_sigaction(sig, act, old));
	if (!is_wrapped(sig))
		return next()->sigaction_(sig, act, old);
	if (act)
		sa = wrap(sig, act);
	ret = next()->sigaction_(sig, act ? &sa : NULL, &was);
	if (!ret && old) {
		unwrap(sig, &was);
		*old = was;
	}
	return ret;
}
EXPORT_ALIAS(__sigaction, sigaction);

/* ---- the thread's mask, of which the client sees what it has set ---- */

static void add_held(sigset_t *old, u64 held)
{
	u64 *bits = (u64 *)old; /* the kernel's 8 bytes come first */

	*bits |= held;
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	int ret = next()->pthread_sigmask_(how, set, old);
	u64 held = ret ? 0 : kvm_signal_mask_changes(how, (const u64 *)set);

	if (!ret && old)
		add_held(old, held);
	return ret;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int ret = next()->sigprocmask_(how, set, old);
	u64 held = ret ? 0 : kvm_signal_mask_changes(how, (const u64 *)set);

	if (!ret && old)
		add_held(old, held);
	return ret;
}

/* ---- the older interfaces, which all end in libc's own sigaction() ---- */

/* siginterrupt(): signals whose handlers, from signal(), interrupt system calls. */
static u64 interrupting;

static sighandler_t install(int sig, sighandler_t fn, int flags, bool block_itself)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags }, old;

	if (fn == SIG_ERR || sig < 1 || sig >= NSIG) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (block_itself)
		sigaddset(&sa.sa_mask, sig);
	return sigaction(sig, &sa, &old) ? SIG_ERR : old.sa_handler;
}

EXPORT sighandler_t signal(int sig, sighandler_t fn)
{
	bool restart = sig < 1 || sig >= NSIG || !(__atomic_load_n(&interrupting, __ATOMIC_RELAXED) & BIT64(sig - 1));

	return install(sig, fn, restart ? SA_RESTART : 0, true);
}
EXPORT_ALIAS(bsd_signal, signal);
EXPORT_ALIAS(ssignal, signal);

EXPORT sighandler_t sysv_signal(int sig, sighandler_t fn)
{
	return install(sig, fn, (int)SA_RESETHAND | SA_NODEFER, false);
}
EXPORT_ALIAS(__sysv_signal, sysv_signal);

EXPORT int siginterrupt(int sig, int interrupt)
{
	struct sigaction sa;

	if (sigaction(sig, NULL, &sa))
		return -1;
	if (interrupt) {
		__atomic_fetch_or(&interrupting, BIT64(sig - 1), __ATOMIC_RELAXED);
		sa.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupting, ~BIT64(sig - 1), __ATOMIC_RELAXED);
		sa.sa_flags |= SA_RESTART;
	}
	return sigaction(sig, &sa, NULL);
}

EXPORT sighandler_t sigset(int sig, sighandler_t fn)
{
	struct sigaction sa;
	sigset_t set, old;
	sighandler_t was;

	sigemptyset(&set);
	if (sigaddset(&set, sig))
		return SIG_ERR;
	if (fn == SIG_HOLD) {
		if (sigprocmask(SIG_BLOCK, &set, &old))
			return SIG_ERR;
		if (sigismember(&old, sig))
			return SIG_HOLD;
		return sigaction(sig, NULL, &sa) ? SIG_ERR : sa.sa_handler;
	}
	was = install(sig, fn, 0, false);
	if (was == SIG_ERR || sigprocmask(SIG_UNBLOCK, &set, &old))
		return SIG_ERR;
	return sigismember(&old, sig) ? SIG_HOLD : was;
}
