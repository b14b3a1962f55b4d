// SPDX-License-Identifier: MIT
/* Statistics while the client runs, by a signal; and when it ends by _exit(), which runs no destructor. */
#include "client/preload.h"

#include "kvm/stats.h"
#include "os/sys.h"

static void print_now(int sig)
{
	(void)sig;
	stats_print();
}

void client_stats_open(void)
{
	struct sigaction sa = { .sa_handler = print_now, .sa_flags = SA_RESTART }, old;
	const char *signal = getenv("UKVM_STATS_SIGNAL");

	stats_open();
	/* The client's own handler, if it has or gets one, takes its place. */
	if (stats_format() != STATS_OFF && signal && !next()->sigaction_(atoi(signal), NULL, &old) &&
	    old.sa_handler == SIG_DFL)
		next()->sigaction_(atoi(signal), &sa, NULL);
}

EXPORT __attribute__((noreturn)) void _exit(int status)
{
	stats_print_at_end();
	for (;;)
		os_sys(SYS_exit_group, status, 0, 0, 0, 0, 0);
}
EXPORT_ALIAS(_Exit, _exit);
