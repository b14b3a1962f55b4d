// SPDX-License-Identifier: MIT
/*
 * pthread_cancel() of a thread whose cancellation is asynchronous, and that runs a vCPU: in the kernel's KVM the signal
 * ends KVM_RUN before the thread ends. glibc installs the handler of that signal itself, with the first cancellation;
 * it is wrapped like the client's handlers.
 */
#include "client/preload.h"

#include "kvm/signal.h"
#include "os/sys.h"

#define SIGCANCEL 32 /* glibc's; sigaction() of it is refused */

static struct kernel_action glibcs;

static void on_cancel(int sig, siginfo_t *info, void *uc)
{
	if (kvm_signal_notify(sig, info, uc))
		return;
	((void (*)(int, siginfo_t *, void *))(void *)glibcs.handler)(sig, info, uc);
	kvm_signal_handler_returns(); /* it was not for glibc */
}

static void *nothing(void *arg)
{
	return arg;
}

/* The first cancellation is one of a thread that would end anyway. */
static void wrap(void)
{
	struct kernel_action sa;
	pthread_t t;

	if (pthread_create(&t, NULL, nothing, NULL))
		return;
	next()->pthread_cancel_(t);
	pthread_join(t, NULL);
	if (os_sys(SYS_rt_sigaction, SIGCANCEL, 0, (long)&glibcs, sizeof(u64), 0, 0) || glibcs.handler == SIG_DFL)
		return;
	sa = glibcs;
	sa.handler = (void (*)(int))(void *)on_cancel;
	os_sys(SYS_rt_sigaction, SIGCANCEL, (long)&sa, 0, sizeof(u64), 0, 0);
}

EXPORT int pthread_cancel(pthread_t t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (kvm_was_opened())
		pthread_once(&once, wrap);
	return next()->pthread_cancel_(t);
}
