// SPDX-License-Identifier: MIT
/*
 * The handler looks for a guard of this thread that owns the address, and returns from the signal into
 * __builtin_longjmp() instead of the faulting instruction: the kernel's sigreturn restores signal mask and alternate
 * stack, so a recovery is complete and may be repeated. Everything else goes to the client's action, which is kept here
 * and not in the kernel.
 */
#include "os/guard.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include "os/lock.h"
#include "os/mem.h"
#include "os/sys.h"

#define SA_RESTORER_ 0x04000000ul /* SA_RESTORER; libc hides it */
#define EFLAGS_TF BIT64(8)
#define EFLAGS_DF BIT64(10)
#define EFLAGS_AC BIT64(18)

/* The highest address a process can have, with five-level paging. */
#define USER_END BIT64(56)

/* What rt_sigaction(2) takes: sets are 8 bytes. */
struct action {
	union {
		void (*handler)(int);
		void (*sigaction)(int, siginfo_t *, void *);
	};
	unsigned long flags;
	void (*restorer)(void);
	u64 mask;
};

/* The client's action for one signal. Handlers read it while another thread changes it: slot[seq & 1] is the current
 * one, the other is being filled. */
struct chained {
	int sig;
	u32 seq;
	struct action slot[2];
};

/* Dispositions belong to the process, so this does. */
static struct {
	void *lock; /* a struct os_lock that fork() resets */
	bool installed;
	struct chained sig[2];
} chain = { .sig = { { .sig = SIGSEGV }, { .sig = SIGBUS } } };

static __thread struct os_guard *top __attribute__((tls_model("initial-exec")));

/* The bytes are those of libc's: debuggers and unwinders recognize a signal frame by them. */
void os_guard_restorer(void);
__asm__(".text\n"
	".type os_guard_restorer, @function\n"
	"os_guard_restorer:\n"
	"	movq $15, %rax\n"
	"	syscall\n"
	".size os_guard_restorer, . - os_guard_restorer\n");

static int sys_sigaction(int sig, const struct action *new, struct action *old)
{
	return (int)os_sys(SYS_rt_sigaction, sig, (long)new, (long)old, sizeof(u64), 0, 0);
}

static u64 sys_sigmask(int how, u64 set)
{
	u64 old = 0;

	os_sys(SYS_rt_sigprocmask, how, (long)&set, (long)&old, sizeof(u64), 0, 0);
	return old;
}

static struct chained *chained(int sig)
{
	for (unsigned n = 0; n < ARRAY_SIZE(chain.sig); n++)
		if (chain.sig[n].sig == sig)
			return &chain.sig[n];
	return NULL;
}

static struct action action_get(struct chained *c)
{
	struct action a;
	u32 seq;

	do {
		seq = __atomic_load_n(&c->seq, __ATOMIC_ACQUIRE);
		a = c->slot[seq & 1];
		/* An addition of nothing: a load, which the copy cannot pass. */
	} while (__atomic_fetch_add(&c->seq, 0, __ATOMIC_ACQ_REL) != seq);
	return a;
}

/* Called with chain.lock held. */
static void action_set(struct chained *c, const struct action *a)
{
	c->slot[(c->seq + 1) & 1] = *a;
	__atomic_store_n(&c->seq, c->seq + 1, __ATOMIC_RELEASE);
}

/* No handler may interrupt the holder: it could want the lock too. NULL if there is no memory. */
static struct os_lock *chain_lock(u64 *mask)
{
	struct os_lock *l = os_page_wiped_by_fork(&chain.lock);

	if (l) {
		*mask = sys_sigmask(SIG_SETMASK, ~0ull);
		os_lock(l);
	}
	return l;
}

static void chain_unlock(struct os_lock *l, u64 mask)
{
	os_unlock(l);
	sys_sigmask(SIG_SETMASK, mask);
}

void os_guard_push(struct os_guard *g, bool (*owns)(void *ctx, u64 addr), void *ctx)
{
	g->outer = top;
	g->owns = owns;
	g->ctx = ctx;
	g->recover = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	top = g;
}

void os_guard_leave(struct os_guard *g)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	top = g->outer;
}

/*
 * Frames that are jumped over leave their marks in AddressSanitizer's shadow. It would take them off in guard_resume(),
 * but believes that function's stack to be where its caller's is, and that is not so here.
 */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER_OFF __attribute__((no_sanitize("address")))
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#define stack_drop(from, to) __asan_unpoison_memory_region((void *)(from), (to) - (from))
#else
#define SANITIZER_OFF
#define stack_drop(from, to) ((void)(from), (void)(to))
#endif

static __attribute__((noreturn)) SANITIZER_OFF void guard_resume(struct os_guard *g)
{
	__builtin_longjmp(g->env, 1);
}

/* The innermost guard that owns the fault. A non-canonical address makes #GP, of which the kernel tells no address. */
static struct os_guard *guard_find(const siginfo_t *info)
{
	if (info->si_code <= 0)
		return NULL; /* kill(2) and its like */
	for (struct os_guard *g = top; g; g = g->outer)
		if (!g->owns || (info->si_code != SI_KERNEL && g->owns(g->ctx, (u64)(uintptr_t)info->si_addr)))
			return g;
	return NULL;
}

/*
 * Lets the signal frame return to where the guard says; or into guard_resume(g), on the stack below the function that
 * entered the guard.
 */
static void guard_redirect(struct os_guard *g, ucontext_t *uc)
{
	greg_t *r = uc->uc_mcontext.gregs;
	u64 to = g->recover ? g->recover(g->ctx, (u64)r[REG_RIP]) : 0;

	if (to) {
		r[REG_RIP] = (greg_t)to;
		return;
	}
	top = g->outer;
	stack_drop((uintptr_t)r[REG_RSP], (uintptr_t)g->env[2]);
	r[REG_RIP] = (greg_t)(uintptr_t)guard_resume;
	r[REG_RDI] = (greg_t)(uintptr_t)g;
	r[REG_RSP] = (greg_t)((((uintptr_t)g->env[2] - 256) & ~(uintptr_t)15) - 8);
	r[REG_EFL] &= ~(greg_t)(EFLAGS_TF | EFLAGS_DF | EFLAGS_AC);
}

static const struct action dfl = { .handler = SIG_DFL };

static void chain_reset(struct chained *c)
{
	u64 mask;
	struct os_lock *l = chain_lock(&mask);

	if (!l)
		return;
	action_set(c, &dfl);
	chain_unlock(l, mask);
}

/* What the kernel would have done with the client's action. */
static void chain_call(int sig, siginfo_t *info, void *uc)
{
	struct chained *c = chained(sig);
	struct action a = action_get(c);

	if (a.handler == SIG_IGN && info->si_code <= 0)
		return;
	if (a.handler == SIG_DFL || a.handler == SIG_IGN) {
		sys_sigaction(sig, &dfl, NULL);
		/* A fault happens again, and ends the process with its own siginfo; what was sent has to be sent. */
		if (info->si_code <= 0)
			os_sys(SYS_tgkill, os_sys(SYS_getpid, 0, 0, 0, 0, 0, 0), os_sys(SYS_gettid, 0, 0, 0, 0, 0, 0),
			       sig, 0, 0, 0);
		return;
	}
	if (a.flags & SA_RESETHAND)
		chain_reset(c);
	sys_sigmask(SIG_BLOCK, a.mask | (a.flags & SA_NODEFER ? 0 : BIT64(sig - 1)));
	a.sigaction(sig, info, uc);
}

static void on_fault(int sig, siginfo_t *info, void *uc)
{
	int saved_errno = errno;
	struct os_guard *g = guard_find(info);

	if (g)
		guard_redirect(g, uc);
	else
		chain_call(sig, info, uc);
	errno = saved_errno;
}

static const struct action ours = {
	.sigaction = on_fault,
	.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER_,
	.restorer = os_guard_restorer,
};

int os_guard_init(void)
{
	u64 mask;
	struct os_lock *l = chain_lock(&mask);
	int ret = 0;

	if (!l)
		return -ENOMEM;
	for (unsigned n = 0; n < ARRAY_SIZE(chain.sig) && !ret; n++) {
		struct chained *c = &chain.sig[n];
		struct action was;

		ret = sys_sigaction(c->sig, NULL, &was);
		if (ret || was.sigaction == on_fault)
			continue;
		action_set(c, &was);
		ret = sys_sigaction(c->sig, &ours, NULL);
	}
	chain.installed = !ret;
	chain_unlock(l, mask);
	return ret;
}

static struct action from_libc(const struct sigaction *sa)
{
	struct action a = {
		.sigaction = sa->sa_sigaction,
		.flags = (unsigned long)(u32)sa->sa_flags | SA_RESTORER_,
		.restorer = os_guard_restorer,
	};

	__builtin_memcpy(&a.mask, &sa->sa_mask, sizeof(a.mask));
	return a;
}

static void to_libc(struct sigaction *sa, const struct action *a)
{
	__builtin_memset(sa, 0, sizeof(*sa));
	sa->sa_sigaction = a->sigaction;
	sa->sa_flags = (int)(a->flags & ~SA_RESTORER_);
	__builtin_memcpy(&sa->sa_mask, &a->mask, sizeof(a->mask));
}

int os_guard_sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct chained *c = chained(sig);
	struct action a, was;
	struct os_lock *l;
	u64 mask;
	int ret = 0;

	if (!c)
		return -EINVAL;
	if (new)
		a = from_libc(new);
	l = chain_lock(&mask);
	if (!l)
		return -ENOMEM;
	if (chain.installed) {
		was = action_get(c);
		if (new)
			action_set(c, &a);
	} else {
		ret = sys_sigaction(sig, new ? &a : NULL, &was);
	}
	chain_unlock(l, mask);
	if (!ret && old)
		to_libc(old, &was);
	return ret;
}

static bool in_user_space(u64 addr, size_t size)
{
	return size <= USER_END && addr <= USER_END - size;
}

/* Not memcpy(): this may run past what a sanitizer believes to be there, and fault in the middle. Not inlined: see the
 * header on calls. */
static __attribute__((noinline)) void copy_bytes(void *to, const void *from, size_t size)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static int copy(void *to, const void *from, size_t size)
{
	struct os_guard g;

	if (os_guard_enter(&g, NULL, NULL))
		return -EFAULT;
	copy_bytes(to, from, size);
	os_guard_leave(&g);
	return 0;
}

int os_copy_in(void *to, u64 from, size_t size)
{
	return in_user_space(from, size) ? copy(to, (const void *)(uintptr_t)from, size) : -EFAULT;
}

int os_copy_out(u64 to, const void *from, size_t size)
{
	return in_user_space(to, size) ? copy((void *)(uintptr_t)to, from, size) : -EFAULT;
}
