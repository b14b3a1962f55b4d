/* SPDX-License-Identifier: MIT */
/*
 * Signals and KVM_RUN (api.rst 4.10, 4.21; design rule 6).
 *
 * In the kernel a signal first ends the system call, then its handler runs. To keep that order the preloaded library
 * wraps the client's handlers:
 *
 *	static void wrapper(int sig, siginfo_t *info, void *uc)
 *	{
 *		if (!kvm_signal_notify(sig, info, uc))
 *			... call the client's handler ...
 *	}
 *
 * and the ioctl dispatcher brackets every ioctl with kvm_signal_enter() and kvm_signal_leave(). A signal that comes
 * between the two is put back (blocked and queued again for this thread), and delivered by kvm_signal_leave(), when no
 * lock is held any more and the vCPU is at rest. Handlers may therefore make ioctls on the same vCPU and may longjmp,
 * as they may with the kernel's KVM. Synchronous signals (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS) are not
 * for wrapping: pass them to the client's handler at once.
 *
 * Without the wrapper (a program that embeds the library), KVM_RUN blocks all other signals while it runs and polls.
 */
#ifndef UKVM_KVM_SIGNAL_H
#define UKVM_KVM_SIGNAL_H

#include <signal.h>

#include "cpu/types.h"

struct vcpu;

/* The client's handlers are wrapped from now on. Called once, by the preloaded library. */
void kvm_signal_wrapped(void);

/*
 * From the wrapper, first of all: true if the signal was put back and the client's handler must not run now.
 * Async-signal-safe.
 */
bool kvm_signal_notify(int sig, siginfo_t *info, void *ucontext);

/* Around each ioctl, on the client's thread: before the first lock is taken, after the last one is released. */
void kvm_signal_enter(void);
void kvm_signal_leave(void);

/*
 * SIGSEGV and SIGBUS are never blocked when an ioctl runs, though the client may believe that they are on its thread:
 * those are what this returns. It is told of each change of the thread's mask (sigprocmask()'s arguments; set may be
 * NULL), and when a handler of the client's returns.
 */
u64 kvm_signal_mask_changes(int how, const u64 *set);
void kvm_signal_handler_returns(void);

/* Around the part of KVM_RUN that a signal ends. begin: ATTN_KICK is set already if one is pending. */
void signal_run_begin(struct vcpu *v);
void signal_run_end(struct vcpu *v);
/* cpu_host::poll: has a signal come that only the run's mask lets through? */
bool signal_run_poll(struct vcpu *v);

#endif
