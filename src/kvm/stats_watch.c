// SPDX-License-Identifier: MIT
/*
 * A process that waits for the client to end. exit() prints by itself; this is for _exit() by number, signals (SIGKILL,
 * too) and exec. It is a child that sends no SIGCHLD and that wait() does not find (clone(2), __WCLONE), made before
 * the client has guest memory, and holds nothing of the client but standard error.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include "kvm/stats.h"
#include "os/sys.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static void close_between(int first, int last)
{
	if (first <= last)
		os_sys(SYS_close_range, first, last, 0, 0, 0, 0);
}

/* The pipe's other end is closed by exec and by the end of the last process that has it. */
static void wait_for_end(int pipe)
{
	char c;

	while (os_sys(SYS_read, pipe, (long)&c, 1, 0, 0, 0) > 0)
		;
}

static __attribute__((noreturn)) void watcher(struct stats_table *t, int pipe)
{
	u64 all = ~0ull;

	/* The terminal's signals are the client's. */
	os_sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, sizeof(all), 0, 0);
	os_sys(SYS_setsid, 0, 0, 0, 0, 0, 0);
	os_sys(SYS_chdir, (long)"/", 0, 0, 0, 0, 0);
	close_between(0, 1);
	close_between(3, pipe - 1);
	close_between(pipe + 1, 0x7fffffff);
	wait_for_end(pipe);
	if (!__atomic_load_n(&t->printed, __ATOMIC_ACQUIRE)) {
		stats_table = t;
		stats_print();
	}
	os_sys(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

void stats_watch(struct stats_table *t)
{
	int fds[2];
	long pid;

	if (os_sys(SYS_pipe2, (long)fds, O_CLOEXEC, 0, 0, 0, 0) < 0)
		return;
	/* Out of the way of descriptors that the client counts on. */
	for (int n = 0; n < 2; n++) {
		int high = os_fcntl(fds[n], F_DUPFD_CLOEXEC, 512);

		if (high >= 0) {
			os_close(fds[n]);
			fds[n] = high;
		}
	}
	pid = os_sys(SYS_clone, 0, 0, 0, 0, 0, 0);
	if (!pid)
		watcher(t, fds[0]);
	os_close(fds[0]);
	if (pid < 0)
		os_close(fds[1]);
}
