// SPDX-License-Identifier: MIT
/* Signals and KVM_RUN: spec 4.9, 4.20, and immediate_exit. */
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>

#include "api.h"

#define MIB (1ull << 20)

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	(void)sig;
	handled++;
}

static void catch(int sig)
{
	struct sigaction sa = { .sa_handler = handler };

	OK(sigaction(sig, &sa, NULL));
}

static void spin(struct machine *m)
{
	*m = machine_new(MIB);
	CODE(m, 0x1000, 0xeb, 0xfe);
	start_real(m, 0x1000);
}

static int set_mask(int vcpu, const sigset_t *set)
{
	struct {
		u32 len;
		u8 set[8];
	} __attribute__((packed)) mask = { .len = 8 };

	if (!set)
		return ioctl(vcpu, KVM_SET_SIGNAL_MASK, NULL);
	memcpy(mask.set, set, 8);
	return ioctl(vcpu, KVM_SET_SIGNAL_MASK, &mask);
}

TEST(signal_ends_run)
{
	struct machine m;

	spin(&m);
	catch(SIGALRM);
	alarm(1);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_INTR);
	CHECK_EQ(handled, 1);
}

TEST(immediate_exit)
{
	struct machine m;

	spin(&m);
	m.run->immediate_exit = 1;
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
}

/* Clients complete an exit with immediate_exit, and look at what the exit was afterwards. */
TEST(immediate_exit_keeps_the_exit)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xe6, 0x10, 0xf4); /* out 0x10, al; hlt */
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_IO);
	m.run->immediate_exit = 1;
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_IO);
	CHECK_EQ(m.run->io.port, 0x10);
	CHECK_EQ(get_regs(&m).rip, 0x1002);
}

TEST(signal_mask_unblocks_inside_only)
{
	struct machine m;
	sigset_t blocked, run_mask, pending;

	spin(&m);
	catch(SIGUSR1);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &blocked, NULL));
	sigemptyset(&run_mask);
	OK(set_mask(m.vcpu, &run_mask));
	raise(SIGUSR1);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(handled, 0);
	OK(sigpending(&pending));
	CHECK(sigismember(&pending, SIGUSR1));
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	OK(sigprocmask(SIG_UNBLOCK, &blocked, NULL));
	CHECK_EQ(handled, 1);
}

TEST(signal_mask_polls_while_running)
{
	struct machine m;
	sigset_t blocked, run_mask;

	spin(&m);
	catch(SIGALRM);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	OK(sigprocmask(SIG_BLOCK, &blocked, NULL));
	sigemptyset(&run_mask);
	OK(set_mask(m.vcpu, &run_mask));
	alarm(1);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(handled, 0);
}

/* A kick that no handler takes, but sigwait() or a signalfd after it has ended the run. */
static struct machine waiting;
static _Atomic unsigned rounds;

static void *run_and_wait(void *arg)
{
	struct signalfd_siginfo info = { 0 };
	sigset_t usr1, none;
	int sig = 0, fd;

	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK(!pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	OK(set_mask(waiting.vcpu, &none));
	fd = (int)OK(signalfd(-1, &usr1, SFD_CLOEXEC));
	for (unsigned n = 0; n < 2; n++) {
		rounds = n + 1;
		FAILS(ioctl(waiting.vcpu, KVM_RUN, 0), EINTR);
		if (n)
			CHECK(!sigwait(&usr1, &sig) && sig == SIGUSR1);
		else
			CHECK(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1);
	}
	return arg;
}

TEST(signals_that_are_waited_for)
{
	struct timespec some_ms = { 0, 20000000 };
	pthread_t t;

	spin(&waiting);
	CHECK(!pthread_create(&t, NULL, run_and_wait, NULL));
	for (unsigned n = 0; n < 2; n++) {
		while (rounds != n + 1)
			nanosleep(&some_ms, NULL);
		nanosleep(&some_ms, NULL);
		pthread_kill(t, SIGUSR1);
	}
	CHECK(!pthread_join(t, NULL));
}

/* An asynchronous cancellation ends the run, and then the thread. */
static void *run_until_cancelled(void *arg)
{
	CHECK(!pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	rounds = 1;
	ioctl(waiting.vcpu, KVM_RUN, 0);
	for (;;)
		pause();
	return arg;
}

TEST(cancelled_thread)
{
	struct timespec some_ms = { 0, 20000000 };
	struct kvm_regs r;
	pthread_t t;
	void *ret;

#ifdef THREAD_SANITIZER
	test_skip("ThreadSanitizer does not know asynchronous cancellation");
#endif
	for (unsigned n = 0; n < 2; n++) {
		spin(&waiting);
		rounds = 0;
		CHECK(!pthread_create(&t, NULL, run_until_cancelled, NULL));
		while (!rounds)
			nanosleep(&some_ms, NULL);
		nanosleep(&some_ms, NULL);
		CHECK(!pthread_cancel(t));
		CHECK(!pthread_join(t, &ret));
		CHECK(ret == PTHREAD_CANCELED);
		OK(ioctl(waiting.vcpu, KVM_GET_REGS, &r));
		CHECK_EQ(r.rip, 0x1000);
		waiting.mem[0x1000] = 0xf4;
		run_until(&waiting, KVM_EXIT_HLT);
	}
}

/* The handler gets its own stack. */
static char stack[65536];
static volatile sig_atomic_t on_own_stack;

static void handler_on_stack(int sig)
{
	char here;

	(void)sig;
	on_own_stack = &here >= stack && &here < stack + sizeof(stack);
}

TEST(alternate_stack)
{
	struct sigaction sa = { .sa_handler = handler_on_stack, .sa_flags = SA_ONSTACK };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct machine m;

#ifdef THREAD_SANITIZER
	test_skip("ThreadSanitizer calls the handler later, on the stack that it is on then");
#endif
	spin(&m);
	OK(sigaltstack(&ss, NULL));
	OK(sigaction(SIGALRM, &sa, NULL));
	alarm(1);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK(on_own_stack);
}

TEST(signal_mask_blocks_inside)
{
	struct machine m = machine_new(MIB);
	sigset_t run_mask;

	/* A few hundred milliseconds of guest, during which SIGALRM must not end KVM_RUN. */
	CODE(&m, 0x1000, 0x66, 0xb9, 0, 0, 0, 2, 0x67, 0xe2, 0xfd, 0xf4); /* mov ecx, 1 << 25; loop .; hlt */
	start_real(&m, 0x1000);
	catch(SIGALRM);
	sigemptyset(&run_mask);
	sigaddset(&run_mask, SIGALRM);
	OK(set_mask(m.vcpu, &run_mask));
	ualarm(1000, 0);
	usleep(0);
	run_until(&m, KVM_EXIT_HLT);
	usleep(10000);
	CHECK_EQ(handled, 1);
}

TEST(signal_mask_errors)
{
	struct machine m = machine_new(MIB);
	struct kvm_signal_mask *mask = calloc(1, 64);

	mask->len = 3;
	FAILS(ioctl(m.vcpu, KVM_SET_SIGNAL_MASK, mask), EINVAL);
	FAILS(ioctl(m.vcpu, KVM_SET_SIGNAL_MASK, (void *)8), EFAULT);
	OK(ioctl(m.vcpu, KVM_SET_SIGNAL_MASK, NULL));
}

TEST(ignored_signal_does_not_end_run)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0x66, 0xb9, 0, 0, 0, 1, 0x67, 0xe2, 0xfd, 0xf4);
	start_real(&m, 0x1000);
	signal(SIGALRM, SIG_IGN);
	ualarm(1000, 0);
	run_until(&m, KVM_EXIT_HLT);
}

/* ---- kicks from another thread: none lost ---- */
struct kicker {
	pthread_t target;
	struct kvm_run *run;
	atomic_uint asked, seen;
	atomic_bool waits;
	atomic_uint tries;
};

static struct kicker *kicker;

/* What QEMU does: the handler asks for an immediate exit, in case the signal comes just before KVM_RUN. */
static void kick_handler(int sig)
{
	(void)sig;
	kicker->run->immediate_exit = 1;
}

/* Asleep after a while, as a busy machine may have one CPU for both. */
static void wait_until_seen(struct kicker *k, unsigned n)
{
	for (unsigned spins = 0; spins < 1000; spins++)
		if (atomic_load(&k->seen) == n)
			return;
	atomic_store(&k->waits, true);
	while (atomic_load(&k->seen) != n)
		syscall(SYS_futex, &k->seen, FUTEX_WAIT_PRIVATE, n - 1, NULL, NULL, 0);
	atomic_store(&k->waits, false);
}

static void see(struct kicker *k)
{
	atomic_store(&k->seen, atomic_load(&k->asked));
	if (atomic_load(&k->waits))
		syscall(SYS_futex, &k->seen, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *kick(void *arg)
{
	struct kicker *k = arg;

	for (unsigned n = 1; n <= k->tries; n++) {
		atomic_store(&k->asked, n);
		pthread_kill(k->target, SIGUSR1);
		wait_until_seen(k, n);
	}
	return NULL;
}

#ifdef THREAD_SANITIZER /* keeps each back until KVM_RUN looks for signals */
#define KICKS 5000
#else
#define KICKS 100000
#endif

/* Whether the guest spins, or halts again and again, so that kicks come at every point of entry and exit. */
static void kick_and_count(struct machine *m, unsigned tries, unsigned *halts)
{
	struct kicker k = { .target = pthread_self(), .tries = tries };
	struct sigaction sa = { .sa_handler = kick_handler };
	pthread_t t;

	k.run = m->run;
	kicker = &k;
	OK(sigaction(SIGUSR1, &sa, NULL));
	pthread_create(&t, NULL, kick, &k);
	while (atomic_load(&k.seen) != k.tries) {
		if (!ioctl(m->vcpu, KVM_RUN, 0)) {
			CHECK_EQ(m->run->exit_reason, KVM_EXIT_HLT);
			++*halts;
			continue;
		}
		CHECK_EQ(errno, EINTR);
		m->run->immediate_exit = 0;
		see(&k);
	}
	pthread_join(t, NULL);
}

TEST_LIMIT(no_kick_is_lost_by_a_spinning_guest, 120)
{
	struct machine m;
	unsigned halts = 0;

	spin(&m);
	kick_and_count(&m, KICKS, &halts);
	CHECK_EQ(halts, 0);
}

TEST_LIMIT(no_kick_is_lost_by_a_halting_guest, 120)
{
	struct machine m = machine_new(MIB);
	unsigned halts = 0;

	CODE(&m, 0x1000, 0xf4, 0xeb, 0xfd); /* hlt; jmp */
	start_real(&m, 0x1000);
	kick_and_count(&m, KICKS, &halts);
	CHECK(halts > 0);
}

/* Signals that interrupt each other's handlers leave the thread's mask as it was. */
TEST(storm_of_signals_keeps_the_mask)
{
	static const int sigs[] = { SIGALRM, SIGUSR1, SIGUSR2, SIGHUP, SIGURG };
	struct itimerspec often = { .it_value.tv_nsec = 150000, .it_interval.tv_nsec = 150000 };
	struct timespec start, now;
	unsigned runs = 0;
	struct machine m;
	sigset_t mask;

	spin(&m);
	for (unsigned n = 0; n < 5; n++) {
		struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = sigs[n] };
		timer_t timer;

		ev._sigev_un._tid = (int)syscall(SYS_gettid);
		catch(sigs[n]);
		OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
		OK(timer_settime(timer, 0, &often, NULL));
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
		OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
		for (unsigned n = 0; n < 5; n++)
			CHECK(!sigismember(&mask, sigs[n]));
		clock_gettime(CLOCK_MONOTONIC, &now);
		runs++;
	} while (now.tv_sec - start.tv_sec < 2);
	CHECK(runs > 100);
	CHECK(handled > 100);
}

/*
 * From the kick to the return of KVM_RUN: on the clock, and in the time that the guest's thread had the CPU, which is
 * what counts on a machine where it has to wait for that.
 */
static struct timespec kicked_at, kicked_cpu;

static void *kick_slowly(void *arg)
{
	struct kicker *k = arg;
	clockid_t cpu;

	pthread_getcpuclockid(k->target, &cpu);
	for (unsigned n = 1; n <= k->tries; n++) {
		usleep(2000);
		clock_gettime(cpu, &kicked_cpu);
		clock_gettime(CLOCK_MONOTONIC, &kicked_at);
		atomic_store(&k->asked, n);
		pthread_kill(k->target, SIGUSR1);
		wait_until_seen(k, n);
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

static long since(clockid_t clock, const struct timespec *then)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (now.tv_sec - then->tv_sec) * 1000000 + (now.tv_nsec - then->tv_nsec) / 1000;
}

static void expect_prompt_kicks(struct machine *m)
{
	struct kicker k = { .target = pthread_self(), .run = m->run, .tries = 101 };
	static const sigset_t usr1 = { { 1ul << (SIGUSR1 - 1) } };
	static const struct timespec none;
	long clock[101], cpu[101];
	pthread_t t;

	kicker = &k;
	pthread_create(&t, NULL, kick_slowly, &k);
	for (unsigned n = 0; n < 101; n++) {
		FAILS(ioctl(m->vcpu, KVM_RUN, 0), EINTR);
		clock[n] = since(CLOCK_MONOTONIC, &kicked_at);
		cpu[n] = since(CLOCK_THREAD_CPUTIME_ID, &kicked_cpu);
		m->run->immediate_exit = 0;
		sigtimedwait(&usr1, NULL, &none); /* takes a signal that is blocked outside */
		see(&k);
	}
	pthread_join(t, NULL);
	qsort(clock, 101, sizeof(clock[0]), by_value);
	qsort(cpu, 101, sizeof(cpu[0]), by_value);
	printf("    kick latency: median %ld us, 90%% %ld us; of CPU time %ld us, 90%% %ld us\n", clock[50], clock[90],
	       cpu[50], cpu[90]);
#ifdef THREAD_SANITIZER
	test_skip("the handlers run when ThreadSanitizer lets them");
#endif
	CHECK(clock[50] < 1000);
	CHECK(cpu[90] < 1000);
}

TEST_LIMIT(kick_latency, 60)
{
	struct sigaction sa = { .sa_handler = kick_handler };
	struct machine m;

	spin(&m);
	OK(sigaction(SIGUSR1, &sa, NULL));
	expect_prompt_kicks(&m);
}

TEST_LIMIT(kick_latency_with_a_signal_mask, 60)
{
	struct sigaction sa = { .sa_handler = kick_handler };
	sigset_t set;
	struct machine m;

	spin(&m);
	OK(sigaction(SIGUSR1, &sa, NULL));
	sigemptyset(&set);
	OK(set_mask(m.vcpu, &set));
	sigaddset(&set, SIGUSR1);
	OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	expect_prompt_kicks(&m);
	CHECK_EQ(m.run->immediate_exit, 0); /* the handler never ran */
}

/* A thread that blocks every signal gets errors for its bad pointers and lost memory all the same. */
TEST(faults_with_all_signals_blocked)
{
	struct machine m = machine_new(MIB);
	sigset_t all;

	CODE(&m, 0x1000, 0xa1, 0x00, 0x30, 0xf4); /* mov ax, [0x3000]; hlt */
	start_real(&m, 0x1000);
	sigfillset(&all);
	OK(pthread_sigmask(SIG_SETMASK, &all, NULL));
	FAILS(ioctl(m.vcpu, KVM_GET_REGS, (void *)8), EFAULT);
	OK(pthread_sigmask(SIG_SETMASK, &all, NULL));
	OK(munmap(m.mem + 0x3000, 4096));
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EFAULT);
	OK(pthread_sigmask(SIG_SETMASK, NULL, &all));
	CHECK(sigismember(&all, SIGSEGV) && sigismember(&all, SIGBUS));
}
