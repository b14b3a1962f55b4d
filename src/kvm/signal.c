// SPDX-License-Identifier: MIT
/*
 * Signals and KVM_RUN. No kick may be lost; these are the moments at which one can come, with the client's handlers
 * wrapped:
 *
 * - Before kvm_signal_enter(): the handler has run before KVM_RUN began, as it would have before the system call. A
 *   client that cannot live with this uses kvm_run::immediate_exit, which run.c reads later than all of this.
 * - Between kvm_signal_enter() and signal_run_begin() (nothing has run yet): the signal is put back, and is pending
 *   when signal_run_begin() looks, which it does because thread.masked says so.
 * - After signal_run_begin() has published the vCPU: ATTN_KICK is set, and the run loop looks at it before it enters
 *   guest code and then at every block.
 * - After the run loop has decided to leave for another reason: ATTN_KICK stays set, and the next signal_run_begin()
 *   clears it. That loses nothing: the handler runs in kvm_signal_leave(), before KVM_RUN returns to the client.
 * - After kvm_signal_leave(): the handler runs in the client's code, as after the system call.
 *
 * A signal that the thread blocks but the run's mask (KVM_SET_SIGNAL_MASK) does not must end KVM_RUN and stay pending
 * (sigtimedwait() takes it), so it may not be unblocked here: it is looked for with rt_sigpending(), at the beginning
 * and then by cpu_host::poll.
 */
#include "kvm/signal.h"

#include <time.h>
#include <ucontext.h>

#include "kvm/vcpu.h"
#include "os/guard.h"
#include "os/sys.h"

#define SIG(n) BIT64((n)-1)
#define SIGS_SYNC (SIG(SIGSEGV) | SIG(SIGBUS) | SIG(SIGFPE) | SIG(SIGILL) | SIG(SIGTRAP) | SIG(SIGSYS))
#define SIGS_FAULT (SIG(SIGSEGV) | SIG(SIGBUS))
#define SIGS_UNBLOCKABLE (SIG(SIGKILL) | SIG(SIGSTOP))
#define SIGS_ASYNC (~(SIGS_SYNC | SIGS_UNBLOCKABLE))
#define SIGS_IGNORED_BY_DEFAULT (SIG(SIGCHLD) | SIG(SIGURG) | SIG(SIGWINCH) | SIG(SIGCONT))

/* What this thread is in. Only the thread itself and handlers on it look, so program order is enough. */
struct thread {
	struct vcpu *vcpu; /* between signal_run_begin() and signal_run_end() */
	u32 depth;         /* ioctls: a handler that runs in kvm_signal_leave() may make one itself */
	bool masked;       /* signals are blocked that `saved` does not block */
	u64 saved;         /* the client's mask, for kvm_signal_leave() */
	bool faults_open;  /* SIGSEGV and SIGBUS are not blocked */
	u64 held;          /* those of the two that the client believes to be */
};

static __thread struct thread self __attribute__((tls_model("initial-exec")));
static bool handlers_wrapped;

static inline void thread_fence(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* ThreadSanitizer keeps signals back until their thread calls a function of libc's that it knows. */
static inline void take_deferred(void)
{
#ifdef THREAD_SANITIZER
	time(NULL);
#endif
}

/* The kernel's signal calls, with its 8-byte sets. */
static void sig_procmask(int how, const u64 *set, u64 *old)
{
	os_sys(SYS_rt_sigprocmask, how, (long)set, (long)old, sizeof(u64), 0, 0);
}

static u64 sig_pending(void)
{
	u64 set = 0;

	os_sys(SYS_rt_sigpending, (long)&set, sizeof(set), 0, 0, 0, 0);
	return set;
}

static bool sig_is_ignored(int sig)
{
	struct {
		u64 handler, flags, restorer, mask;
	} sa = { 0 };

	os_sys(SYS_rt_sigaction, sig, 0, (long)&sa, sizeof(u64), 0, 0);
	return sa.handler == (u64)(uintptr_t)SIG_IGN ||
	       (sa.handler == (u64)(uintptr_t)SIG_DFL && (SIGS_IGNORED_BY_DEFAULT & SIG(sig)));
}

void kvm_signal_wrapped(void)
{
	handlers_wrapped = true;
}

/*
 * Blocks everything that may be blocked, remembering what the client had. A signal that came while another's wrapper
 * was still here interrupted that with its signal blocked: the client's mask is what all have in common, as nobody
 * unblocks.
 */
static void block_on_return(ucontext_t *uc)
{
	u64 *mask = (u64 *)&uc->uc_sigmask;

	self.saved = self.masked ? self.saved & *mask : *mask;
	self.masked = true;
	*mask |= SIGS_ASYNC;
}

bool kvm_signal_notify(int sig, siginfo_t *info, void *ucontext)
{
	long tgid, tid;

	if (!self.depth || (SIG(sig) & SIGS_SYNC))
		return false;
	if (self.vcpu)
		cpu_attn(&self.vcpu->cpu, ATTN_KICK);
	/* The signal is blocked while its handler runs (SA_NODEFER aside, which costs a second round at worst). */
	tgid = os_sys(SYS_getpid, 0, 0, 0, 0, 0, 0);
	tid = os_sys(SYS_gettid, 0, 0, 0, 0, 0, 0);
	if (os_sys(SYS_rt_tgsigqueueinfo, tgid, tid, sig, (long)info, 0, 0) < 0)
		return false; /* the queue is full (RLIMIT_SIGPENDING): then the handler has to run here */
	block_on_return(ucontext);
	return true;
}

/*
 * A fault whose signal is blocked ends the process, where the kernel's KVM says EFAULT. Many clients block everything
 * in the threads that run vCPUs.
 */
static __attribute__((noinline)) void open_faults(void)
{
	u64 set = SIGS_FAULT, old = 0;

	sig_procmask(SIG_UNBLOCK, &set, &old);
	self.held |= old & SIGS_FAULT;
	self.faults_open = true;
}

u64 kvm_signal_mask_changes(int how, const u64 *set)
{
	u64 held = self.held;

	if (!set)
		return held;
	self.faults_open = false;
	if (how == SIG_SETMASK)
		self.held = 0;
	else if (how == SIG_UNBLOCK)
		self.held &= ~*set;
	return held;
}

void kvm_signal_handler_returns(void)
{
	self.faults_open = false; /* the kernel puts back the mask that there was before */
}

void kvm_signal_enter(void)
{
	self.depth++;
	thread_fence();
	if (unlikely(!self.faults_open))
		open_faults();
}

void kvm_signal_leave(void)
{
	u64 saved;
	bool masked;

	thread_fence();
	if (self.depth > 1) {
		self.depth--;
		return;
	}
	/* A handler can still come while depth is 1, and then sets masked; afterwards it does not touch it. */
	self.depth = 0;
	thread_fence();
	masked = self.masked;
	saved = self.saved & ~(self.faults_open ? SIGS_FAULT : 0);
	self.masked = false;
	thread_fence();
	if (masked)
		sig_procmask(SIG_SETMASK, &saved, NULL); /* the client's handlers run now; they may longjmp */
	take_deferred();
}

/*
 * Blocks what the run's mask blocks, and finds what has to be polled for. A signal may be put back at any point here,
 * and then everything is blocked: if that is what the kernel says was blocked before, the client's mask is in
 * self.saved. (If it is so because the client blocks everything, nothing can be put back.)
 */
static void run_mask(struct vcpu *v)
{
	u64 block = v->sigmask_set ? v->sigmask : 0;
	u64 old;

	if (!handlers_wrapped)
		block = ~0ull;
	block &= SIGS_ASYNC;
	sig_procmask(SIG_BLOCK, &block, &old);
	if ((old & SIGS_ASYNC) != SIGS_ASYNC && (block & ~old)) {
		self.masked = true; /* from here on nobody else writes self.saved */
		thread_fence();
		self.saved = old;
	} else if (!self.masked) {
		self.saved = old;
	}
	thread_fence();
	v->poll_signals = (old | block) & SIGS_ASYNC & ~(v->sigmask_set ? v->sigmask : self.saved);
}

bool signal_run_poll(struct vcpu *v)
{
	u64 hit;

	take_deferred();
	if (!v->poll_signals)
		return false;
	hit = sig_pending() & v->poll_signals;
	/* One that only we block, and that nobody wants, would not have come at all. */
	for (u64 ours = hit & ~self.saved; ours; ours &= ours - 1) {
		int sig = __builtin_ctzll(ours) + 1;

		if (sig_is_ignored(sig))
			hit &= ~SIG(sig);
	}
	return hit != 0;
}

void signal_run_begin(struct vcpu *v)
{
	if (__atomic_load_n(&v->cpu.attn, __ATOMIC_RELAXED) & ATTN_KICK)
		cpu_attn_clear(&v->cpu, ATTN_KICK);
	v->poll_signals = 0;
	self.vcpu = v;
	thread_fence();
	if (!v->sigmask_set && handlers_wrapped && likely(!self.masked))
		return;
	run_mask(v);
	if (signal_run_poll(v))
		cpu_attn(&v->cpu, ATTN_KICK);
}

void signal_run_end(struct vcpu *v)
{
	(void)v;
	thread_fence();
	self.vcpu = NULL;
}

int vcpu_set_signal_mask(struct vcpu *v, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;
	struct kvm_signal_mask head;
	u64 set;

	if (!addr) {
		v->sigmask_set = false;
		return 0;
	}
	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	if (head.len != sizeof(set))
		return -EINVAL;
	if (os_copy_in(&set, addr + offsetof(struct kvm_signal_mask, sigset), sizeof(set)))
		return -EFAULT;
	v->sigmask = set & ~SIGS_UNBLOCKABLE;
	v->sigmask_set = true;
	return 0;
}
