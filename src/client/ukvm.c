// SPDX-License-Identifier: MIT
/* ukvm: runs a command that finds our /dev/kvm. It becomes the command, so status and signals are the command's own. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "client/fit.h"
#include "client/list.h"

#define LIBRARY "libukvm-preload.so"

static const char usage[] =
	"Usage: ukvm [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Runs COMMAND, a program that uses /dev/kvm, with a KVM that lives in the program itself.\n"
	"\n"
	"  --log FILE         append diagnostics to FILE (\"stderr\": standard error); also UKVM_LOG=FILE\n"
	"  --stats[=json]     print statistics at the end of every program with a VM; also UKVM_STATS=1\n"
	"  --stats-file FILE  append them to FILE instead of standard error; also UKVM_STATS_FILE=FILE\n"
	"  --stats-signal SIG print them also when the program gets this signal (RTMIN+3, USR2, a number)\n"
	"  --interpret        do without translation to host code, to see who is to blame; also UKVM_INTERPRET=1\n"
	"  --list WHAT        print what there is: ioctls, caps, msrs or cpuid\n"
	"  --json             print the list as JSON\n"
	"  -h, --help         print this\n"
	"  -V, --version      print the version\n"
	"\n"
	"Exit status: that of COMMAND; 126 if it cannot run under ukvm, 127 if there is none, 2 for a wrong option.\n"
	"Example:     ukvm qemu-system-x86_64 -accel kvm -machine pc,kernel-irqchip=off -nographic -kernel vmlinuz\n";

static void complain(const char *what, const char *why)
{
	fprintf(stderr, "ukvm: %s: %s\n", what, why);
}

/* Removes /components from the end of dir, as many as rel has. */
static void go_up(char *dir, const char *rel)
{
	for (; rel; rel = strchr(rel, '/') ? strchr(rel, '/') + 1 : NULL)
		if (strrchr(dir, '/'))
			*strrchr(dir, '/') = 0;
}

static bool readable(char *path, size_t size, const char *dir, const char *sub)
{
	return snprintf(path, size, "%s/%s%s", dir, sub, LIBRARY) < (int)size && !access(path, R_OK);
}

/* Beside us in a build tree; where installation puts it relative to us; where it was meant to be. */
static bool find_library(char *path, size_t size)
{
	char dir[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (n > 0) {
		dir[n] = 0;
		go_up(dir, "ukvm");
		if (readable(path, size, dir, ""))
			return true;
		go_up(dir, UKVM_BINDIR);
		if (readable(path, size, dir, UKVM_LIBDIR "/ukvm/"))
			return true;
	}
	return readable(path, size, UKVM_PREFIX, UKVM_LIBDIR "/ukvm/");
}

/* name=first, and behind it what the variable has already; colons between. */
static bool put_first(const char *name, const char *first)
{
	const char *old = getenv(name);
	char value[PATH_MAX * 4];

	if (snprintf(value, sizeof(value), "%s%s%s", first, old && *old ? ":" : "", old ? old : "") >=
	    (int)sizeof(value)) {
		complain(name, "too long");
		return false;
	}
	return !setenv(name, value, 1);
}

/*
 * LD_PRELOAD, ours first. Spaces and colons separate its entries, and there is no way to quote them; so a directory
 * with a space becomes one that libraries are searched in, where only colons and semicolons separate.
 */
static bool set_preload(void)
{
	char lib[PATH_MAX];

	if (!find_library(lib, sizeof(lib))) {
		complain(LIBRARY,
			 "not found beside this program nor where it is installed; build or install ukvm again");
		return false;
	}
	if (!strpbrk(lib, " :"))
		return put_first("LD_PRELOAD", lib);
	if (strpbrk(lib, ":;$")) {
		complain(lib, "the dynamic loader cannot preload from such a path; move ukvm");
		return false;
	}
	*strrchr(lib, '/') = 0;
	return put_first("LD_LIBRARY_PATH", lib) && put_first("LD_PRELOAD", LIBRARY);
}

/* A file's name for the library. Made absolute here: the command may change its directory before it opens a VM. */
static bool set_file(const char *variable, const char *file)
{
	char path[PATH_MAX], dir[PATH_MAX];
	int fd;

	if (!strcmp(file, "stderr"))
		return !setenv(variable, file, 1);
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
	if (fd < 0) {
		complain(file, strerror(errno));
		return false;
	}
	close(fd);
	if (file[0] == '/')
		return !setenv(variable, file, 1);
	if (!getcwd(dir, sizeof(dir)) || snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path)) {
		complain(file, "cannot be made an absolute path");
		return false;
	}
	return !setenv(variable, path, 1);
}

/* NULL: text. */
static bool set_stats(const char *format)
{
	if (format && strcmp(format, "json") && strcmp(format, "text")) {
		complain(format, "statistics are json or text");
		return false;
	}
	return !setenv("UKVM_STATS", format ? format : "1", 1);
}

/* "USR2", "SIGUSR2", "RTMIN+3", "40"; 0 if there is no such signal. */
static int signal_number(const char *name)
{
	char *end;
	long n = strtol(name, &end, 10);

	if (*name && !*end)
		return n > 0 && n <= SIGRTMAX ? (int)n : 0;
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	if (!strncasecmp(name, "RTMIN", 5)) {
		n = name[5] == '+' ? strtol(name + 6, &end, 10) : name[5] ? -1 : 0;
		return n >= 0 && n <= SIGRTMAX - SIGRTMIN ? SIGRTMIN + (int)n : 0;
	}
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (sigabbrev_np(sig) && !strcasecmp(sigabbrev_np(sig), name))
			return sig;
	return 0;
}

/* The library gets a number. */
static bool set_stats_signal(const char *name)
{
	char number[16];
	int sig = signal_number(name);

	if (!sig || sig == SIGKILL || sig == SIGSTOP || sig == SIGSEGV || sig == SIGBUS) {
		complain(name, "not a signal that can be used for this");
		return false;
	}
	snprintf(number, sizeof(number), "%d", sig);
	return !setenv("UKVM_STATS_SIGNAL", number, 1) && !setenv("UKVM_STATS", "1", 0);
}

static int run(char **argv)
{
	char path[PATH_MAX], culprit[PATH_MAX];
	const char *why;
	int status = fit_find(argv[0], path, sizeof(path), &why);

	if (status) {
		complain(argv[0], why);
		return status;
	}
	status = fit_check(path, culprit, sizeof(culprit), &why);
	if (status) {
		complain(culprit, why);
		return status;
	}
	if (!set_preload())
		return EXIT_UNFIT;
	execvp(argv[0], argv);
	complain(path, strerror(errno));
	return errno == ENOENT ? EXIT_MISSING : EXIT_UNFIT;
}

int main(int argc, char **argv)
{
	enum { OPT_LOG = 256, OPT_LIST, OPT_JSON, OPT_STATS, OPT_STATS_FILE, OPT_STATS_SIGNAL, OPT_INTERPRET };
	static const struct option options[] = {
		{ "log", required_argument, NULL, OPT_LOG },
		{ "list", required_argument, NULL, OPT_LIST },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "stats", optional_argument, NULL, OPT_STATS },
		{ "stats-file", required_argument, NULL, OPT_STATS_FILE },
		{ "stats-signal", required_argument, NULL, OPT_STATS_SIGNAL },
		{ "interpret", no_argument, NULL, OPT_INTERPRET },
		{ 0 },
	};
	const char *list = NULL, *log = getenv("UKVM_LOG"), *stats_file = getenv("UKVM_STATS_FILE");
	bool json = false;
	int c;

	if (argc > 0)
		argv[0] = program_invocation_short_name; /* what getopt's complaints begin with */

	while ((c = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		switch (c) {
		case OPT_LOG:
			log = optarg;
			break;
		case OPT_STATS:
			if (!set_stats(optarg))
				return 2;
			break;
		case OPT_STATS_FILE:
			stats_file = optarg;
			setenv("UKVM_STATS", "1", 0);
			break;
		case OPT_STATS_SIGNAL:
			if (!set_stats_signal(optarg))
				return 2;
			break;
		case OPT_INTERPRET:
			if (setenv("UKVM_INTERPRET", "1", 1))
				return 2;
			break;
		case OPT_LIST:
			list = optarg;
			break;
		case OPT_JSON:
			json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'V':
			puts("ukvm " UKVM_VERSION);
			return 0;
		default:
			return 2;
		}
	}
	if (list || json) {
		if (list && optind == argc)
			return list_print(list, json);
		complain(list ? argv[optind] : "--json", list ? "--list takes no command" : "goes with --list");
		return 2;
	}
	if (optind == argc) {
		fputs(usage, stderr);
		return 2;
	}
	if (log && *log && !set_file("UKVM_LOG", log))
		return 2;
	if (stats_file && *stats_file && !set_file("UKVM_STATS_FILE", stats_file))
		return 2;
	return run(argv + optind);
}
