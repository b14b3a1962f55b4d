// SPDX-License-Identifier: MIT
/* Run by ukvm and without it alike: signal handlers behave as libc and kernel have them, though they are wrapped. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* the older interfaces */

static int failures;

static void check(int ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "signals.c:%d: %s (errno %d: %s)\n", line, what, errno, strerror(errno));
	failures++;
}
#define CHECK(e) check(!!(e), #e, __LINE__)

static volatile sig_atomic_t plain_ran, info_ran, depth, deepest, blocked_inside, value;

static void plain(int sig)
{
	sigset_t now;

	plain_ran = sig;
	sigprocmask(SIG_BLOCK, NULL, &now);
	blocked_inside = sigismember(&now, sig) + 2 * sigismember(&now, SIGUSR2);
}

static void info(int sig, siginfo_t *si, void *uc)
{
	info_ran = si->si_signo == sig && uc ? sig : -1;
	value = si->si_value.sival_int;
}

static void nested(int sig)
{
	if (++depth > deepest)
		deepest = depth;
	if (deepest < 3)
		raise(sig);
	depth--;
}

static void test_sigaction(int sig)
{
	struct sigaction sa = { .sa_handler = plain }, old;
	union sigval v = { .sival_int = 4711 };

	sigaddset(&sa.sa_mask, SIGUSR2);
	CHECK(!sigaction(sig, &sa, &old) && old.sa_handler == SIG_DFL);
	plain_ran = 0;
	raise(sig);
	CHECK(plain_ran == sig);
	CHECK(blocked_inside == 3);

	CHECK(!sigaction(sig, NULL, &old) && old.sa_handler == plain && !(old.sa_flags & SA_SIGINFO));
	CHECK(sigismember(&old.sa_mask, SIGUSR2) && !sigismember(&old.sa_mask, SIGHUP));

	sa = (struct sigaction){ .sa_sigaction = info, .sa_flags = SA_SIGINFO | SA_RESTART };
	CHECK(!sigaction(sig, &sa, &old) && old.sa_handler == plain);
	CHECK(!sigqueue(getpid(), sig, v));
	CHECK(info_ran == sig && value == 4711);
	CHECK(!sigaction(sig, NULL, &old) && old.sa_sigaction == info && (old.sa_flags & SA_SIGINFO) &&
	      (old.sa_flags & SA_RESTART));

	sa = (struct sigaction){ .sa_handler = SIG_IGN };
	CHECK(!sigaction(sig, &sa, &old) && old.sa_sigaction == info);
	raise(sig);
	CHECK(!sigaction(sig, NULL, &old) && old.sa_handler == SIG_IGN);

	sa = (struct sigaction){ .sa_handler = plain, .sa_flags = (int)SA_RESETHAND };
	CHECK(!sigaction(sig, &sa, &old) && old.sa_handler == SIG_IGN);
	CHECK(!sigaction(sig, NULL, &old) && old.sa_handler == plain && (old.sa_flags & (int)SA_RESETHAND));
	raise(sig);
	CHECK(!sigaction(sig, NULL, &old) && old.sa_handler == SIG_DFL);

	depth = deepest = 0;
	sa = (struct sigaction){ .sa_handler = nested, .sa_flags = SA_NODEFER };
	CHECK(!sigaction(sig, &sa, NULL));
	raise(sig);
	CHECK(deepest == 3);
	CHECK(signal(sig, SIG_DFL) == nested);
}

static void test_older(void)
{
	struct sigaction old;

	CHECK(signal(SIGUSR1, plain) == SIG_DFL);
	CHECK(!sigaction(SIGUSR1, NULL, &old) && old.sa_handler == plain && (old.sa_flags & SA_RESTART) &&
	      sigismember(&old.sa_mask, SIGUSR1));
	CHECK(!siginterrupt(SIGUSR1, 1));
	CHECK(!sigaction(SIGUSR1, NULL, &old) && !(old.sa_flags & SA_RESTART));
	CHECK(signal(SIGUSR1, plain) == plain);
	CHECK(!sigaction(SIGUSR1, NULL, &old) && !(old.sa_flags & SA_RESTART));
	CHECK(!siginterrupt(SIGUSR1, 0));
	CHECK(sysv_signal(SIGUSR1, plain) == plain);
	CHECK(!sigaction(SIGUSR1, NULL, &old) && (old.sa_flags & (int)SA_RESETHAND) && (old.sa_flags & SA_NODEFER));
	raise(SIGUSR1);
	CHECK(plain_ran == SIGUSR1);
	CHECK(signal(SIGUSR1, SIG_IGN) == SIG_DFL);
	CHECK(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	errno = 0;
	CHECK(signal(SIGKILL, plain) == SIG_ERR && errno == EINVAL);
	errno = 0;
	CHECK(signal(0, plain) == SIG_ERR && errno == EINVAL);
	errno = 0;
	CHECK(signal(NSIG, plain) == SIG_ERR && errno == EINVAL);
	errno = 0;
	CHECK(sigaction(SIGSTOP, &(struct sigaction){ .sa_handler = plain }, NULL) == -1 && errno == EINVAL);

	CHECK(sigset(SIGUSR1, plain) == SIG_DFL);
	CHECK(sigset(SIGUSR1, SIG_HOLD) == plain);
	plain_ran = 0;
	raise(SIGUSR1);
	CHECK(plain_ran == 0);
	CHECK(sigset(SIGUSR1, SIG_IGN) == SIG_HOLD);
	CHECK(sigset(SIGUSR1, SIG_DFL) == SIG_IGN);
}

static sigjmp_buf escape;

static void on_fault(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	info_ran = sig;
	siglongjmp(escape, si->si_code > 0 ? 1 : 2);
}

static void test_faults(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, old;
	volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(!sigaction(SIGSEGV, &sa, &old) && old.sa_handler == SIG_DFL);
	CHECK(!sigaction(SIGSEGV, NULL, &old) && old.sa_sigaction == on_fault);
	for (int n = 0; n < 3; n++) {
		int how = sigsetjmp(escape, 1);

		if (!how)
			*page = 1;
		CHECK(how == 1 && info_ran == SIGSEGV);
	}
	if (!sigsetjmp(escape, 1)) {
		raise(SIGSEGV);
		CHECK(0);
	}
	CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
}

/* The mask reads as it was set, whatever ioctls were made in between. */
static void test_mask(int fd)
{
	sigset_t all, segv, now;

	sigfillset(&all);
	sigemptyset(&segv);
	sigaddset(&segv, SIGSEGV);
	CHECK(!sigprocmask(SIG_SETMASK, &all, NULL));
	ioctl(fd, KVM_GET_API_VERSION, 0);
	CHECK(!sigprocmask(SIG_BLOCK, NULL, &now) && sigismember(&now, SIGSEGV) && sigismember(&now, SIGBUS));
	CHECK(!pthread_sigmask(SIG_UNBLOCK, &segv, &now) && sigismember(&now, SIGSEGV));
	ioctl(fd, KVM_GET_API_VERSION, 0);
	CHECK(!pthread_sigmask(SIG_BLOCK, &segv, &now) && !sigismember(&now, SIGSEGV) && sigismember(&now, SIGBUS));
	sigemptyset(&all);
	CHECK(!sigprocmask(SIG_SETMASK, &all, &now) && sigismember(&now, SIGSEGV) && sigismember(&now, SIGUSR1));
	CHECK(!sigprocmask(SIG_BLOCK, NULL, &now) && !sigismember(&now, SIGSEGV) && !sigismember(&now, SIGBUS));
	errno = 0;
	CHECK(sigprocmask(4711, &all, &now) == -1 && errno == EINVAL);
	CHECK(pthread_sigmask(4711, &all, &now) == EINVAL);
}

static int died_of(void (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static char *volatile nowhere = (char *)8;

static void die_by_fault(void)
{
	*nowhere = 1;
}

static void die_by_term(void)
{
	raise(SIGTERM);
}

int main(void)
{
	int fd = open("/dev/kvm", O_RDWR); /* from here on the wrappers are awake; fails without ukvm, and no matter */

#ifdef THREAD_SANITIZER /* with it not even the program alone finds libc's behaviour: infos are lost, a fault hangs */
	puts("skipped: ThreadSanitizer delivers signals in its own way");
	return 77;
#endif
	test_sigaction(SIGUSR1);
	test_sigaction(SIGRTMIN + 3);
	test_older();
	test_faults();
	test_mask(fd);
	CHECK(died_of(die_by_fault) == SIGSEGV);
	CHECK(died_of(die_by_term) == SIGTERM);
	if (fd >= 0)
		close(fd);
	return failures != 0;
}
