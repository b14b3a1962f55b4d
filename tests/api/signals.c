// SPDX-License-Identifier: MIT
/* Signals and KVM_RUN: spec 4.9, 4.20, and immediate_exit. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
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
	unsigned tries;
};

static struct kicker *kicker;

/* What QEMU does: the handler asks for an immediate exit, in case the signal comes just before KVM_RUN. */
static void kick_handler(int sig)
{
	(void)sig;
	kicker->run->immediate_exit = 1;
}

static void *kick(void *arg)
{
	struct kicker *k = arg;

	for (unsigned n = 1; n <= k->tries; n++) {
		atomic_store(&k->asked, n);
		pthread_kill(k->target, SIGUSR1);
		while (atomic_load(&k->seen) != n)
			sched_yield();
	}
	return NULL;
}

TEST_LIMIT(no_kick_is_lost, 120)
{
	struct machine m;
	struct kicker k = { .target = pthread_self(), .tries = 100000 };
	struct sigaction sa = { .sa_handler = kick_handler };
	pthread_t t;

	spin(&m);
	k.run = m.run;
	kicker = &k;
	OK(sigaction(SIGUSR1, &sa, NULL));
	pthread_create(&t, NULL, kick, &k);
	while (atomic_load(&k.seen) != k.tries) {
		FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
		m.run->immediate_exit = 0;
		atomic_store(&k.seen, atomic_load(&k.asked));
	}
	pthread_join(t, NULL);
}

/* From the kick to the return of KVM_RUN: the median must be well under a millisecond even on a busy machine. */
static struct timespec kicked_at;

static void *kick_slowly(void *arg)
{
	struct kicker *k = arg;

	for (unsigned n = 1; n <= k->tries; n++) {
		usleep(2000);
		clock_gettime(CLOCK_MONOTONIC, &kicked_at);
		atomic_store(&k->asked, n);
		pthread_kill(k->target, SIGUSR1);
		while (atomic_load(&k->seen) != n)
			usleep(100);
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

TEST(kick_latency)
{
	struct machine m;
	struct kicker k = { .target = pthread_self(), .tries = 101 };
	struct sigaction sa = { .sa_handler = kick_handler };
	long us[101];
	pthread_t t;

	spin(&m);
	k.run = m.run;
	kicker = &k;
	OK(sigaction(SIGUSR1, &sa, NULL));
	pthread_create(&t, NULL, kick_slowly, &k);
	for (unsigned n = 0; n < k.tries; n++) {
		struct timespec now;

		FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
		clock_gettime(CLOCK_MONOTONIC, &now);
		us[n] = (now.tv_sec - kicked_at.tv_sec) * 1000000 + (now.tv_nsec - kicked_at.tv_nsec) / 1000;
		m.run->immediate_exit = 0;
		atomic_store(&k.seen, atomic_load(&k.asked));
	}
	pthread_join(t, NULL);
	qsort(us, k.tries, sizeof(us[0]), by_value);
	printf("    kick latency: median %ld us, 90%% %ld us\n", us[50], us[90]);
	CHECK(us[50] < 1000);
}
