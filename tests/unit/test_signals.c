// SPDX-License-Identifier: MIT
/* Signals during KVM_RUN, with the handlers wrapped (kvm/signal.h) and without. */
#include "client.h"

static const u8 endless[] = { 0xeb, 0xfe };

struct kicker {
	pthread_t thread;
	pthread_t target;
	int first, sig; /* 0: none */
};

static void *kick(void *arg)
{
	struct kicker *k = arg;
	struct timespec ts = { .tv_nsec = 20000000 };

	nanosleep(&ts, NULL);
	if (k->first) {
		pthread_kill(k->target, k->first);
		nanosleep(&ts, NULL);
	}
	pthread_kill(k->target, k->sig);
	return NULL;
}

static volatile int handled;
static struct machine *the_machine;
static volatile u64 rip_in_handler;

static void handler(int sig, siginfo_t *info, void *uc)
{
	struct kvm_regs r;

	if (kvm_signal_notify(sig, info, uc))
		return;
	handled++;
	/* The vCPU is at rest: its ioctls work in a handler. */
	if (the_machine && !call(the_machine->vcpu, KVM_GET_REGS, &r))
		rip_in_handler = r.rip;
}

static void install(int sig)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	assert_int_equal(sigaction(sig, &sa, NULL), 0);
}

static void kick_run(struct machine *m, int sig)
{
	/* Nobody handles SIGWINCH: it goes by. */
	struct kicker k = { .target = pthread_self(), .first = SIGWINCH, .sig = sig };

	pthread_create(&k.thread, NULL, kick, &k);
	assert_int_equal(run(m), -EINTR);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_INTR);
	pthread_join(k.thread, NULL);
}

/* Embedding: handlers are not ours, signals wait until KVM_RUN has ended. To be run before signal_wrapped(). */
static void signal_polled(void **state)
{
	struct machine *m = *state;

	load(m, endless, sizeof(endless));
	handled = 0;
	the_machine = NULL;
	install(SIGUSR1);
	kick_run(m, SIGUSR1);
	assert_int_equal(handled, 1);
}

static void signal_wrapped(void **state)
{
	struct machine *m = *state;
	sigset_t set;

	kvm_signal_wrapped();
	load(m, endless, sizeof(endless));
	the_machine = m;
	for (int n = 0; n < 3; n++) {
		handled = 0;
		rip_in_handler = 0;
		kick_run(m, SIGUSR1);
		assert_int_equal(handled, 1);
		assert_int_equal(rip_in_handler, CODE);
	}
	the_machine = NULL;
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	assert_int_equal(sigismember(&set, SIGUSR1), 0);
}

static sigjmp_buf jump;

static void jumper(int sig, siginfo_t *info, void *uc)
{
	if (!kvm_signal_notify(sig, info, uc))
		siglongjmp(jump, 1);
}

/* As with alarm() and the kernel's KVM: a handler may leave KVM_RUN for good. */
static void signal_longjmp(void **state)
{
	struct machine *m = *state;
	struct sigaction sa = { .sa_sigaction = jumper, .sa_flags = SA_SIGINFO };
	struct kicker k = { .target = pthread_self(), .sig = SIGUSR2 };

	load(m, endless, sizeof(endless));
	sigaction(SIGUSR2, &sa, NULL);
	pthread_create(&k.thread, NULL, kick, &k);
	if (!sigsetjmp(jump, 1)) {
		run(m);
		fail();
	}
	pthread_join(k.thread, NULL);
	assert_int_equal(regs(m).rip, CODE);
	install(SIGUSR1);
	kick_run(m, SIGUSR1);
}

/* Blocked by the thread, let through by the run's mask: EINTR, and the signal stays pending. */
static void signal_mask(void **state)
{
	struct machine *m = *state;
	struct timespec now = { 0 };
	sigset_t set, pending;
	struct {
		u32 len;
		u8 set[8];
	} mask = { .len = 8 };

	load(m, endless, sizeof(endless));
	install(SIGUSR1);
	handled = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, &mask), 0);
	/* during the run */
	kick_run(m, SIGUSR1);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGUSR1));
	/* before it */
	assert_int_equal(run(m), -EINTR);
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGUSR1);
	assert_int_equal(handled, 0);
	/* and blocked by both: nothing */
	mask.set[0] = mask.set[1] = 0xff;
	assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, &mask), 0);
	raise(SIGUSR1);
	m->mem[CODE] = 0xf4;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGUSR1);
	/* blocked by the run's mask only: delivered when it is over */
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, NULL), 0);
}

static bool storm_over;

static void *storm(void *arg)
{
	struct timespec ts = { .tv_nsec = 50000 };

	while (!__atomic_load_n(&storm_over, __ATOMIC_RELAXED)) {
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
		nanosleep(&ts, NULL);
	}
	return NULL;
}

/* Signals at any moment: every KVM_RUN ends, and the thread's mask is the same after each. */
static void signal_storm(void **state)
{
	struct machine *m = *state;
	/* l: out 10h,al; dec cx; jnz l; jmp $: a few exits, then endless */
	static const u8 code[] = { 0xe6, 0x10, 0x49, 0x75, 0xfb, 0xeb, 0xfe };
	pthread_t thread, target = pthread_self();
	sigset_t before, after;
	struct kvm_regs r;
	struct {
		u32 len;
		u8 set[8];
	} mask = { .len = 8, .set = { 0, 0x20 } }; /* SIGALRM */

	load(m, code, sizeof(code));
	install(SIGUSR1);
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	storm_over = false;
	pthread_create(&thread, NULL, storm, &target);
	for (int n = 0; n < 1000; n++) {
		assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, n & 1 ? &mask : NULL), 0);
		r = regs(m);
		r.rip = CODE;
		r.rcx = 3;
		assert_int_equal(call(m->vcpu, KVM_SET_REGS, &r), 0);
		while (run(m) != -EINTR)
			assert_int_equal(m->run->exit_reason, KVM_EXIT_IO);
		pthread_sigmask(SIG_BLOCK, NULL, &after);
		assert_memory_equal(&before, &after, 8);
	}
	__atomic_store_n(&storm_over, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(signal_polled), TEST(signal_wrapped), TEST(signal_longjmp), TEST(signal_mask), TEST(signal_storm),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
