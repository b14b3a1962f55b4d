// SPDX-License-Identifier: MIT
/* ukvm: runs a command that finds our /dev/kvm. It becomes the command, so status and signals are the command's own. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/fit.h"
#include "client/list.h"

#define LIBRARY "libukvm-preload.so"

static const char usage[] =
	"Usage: ukvm [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Runs COMMAND, a program that uses /dev/kvm, with a KVM that lives in the program itself.\n"
	"\n"
	"  --log FILE         append diagnostics to FILE (\"stderr\": standard error); also UKVM_LOG=FILE\n"
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
 * LD_PRELOAD, ours first. Spaces and colons separate its entries, and there is no way to quote them; so a directory with
 * a space becomes one that libraries are searched in, where only colons and semicolons separate.
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

/* Made absolute here: the command may change its directory before it opens a VM. */
static bool set_log(const char *file)
{
	char path[PATH_MAX], dir[PATH_MAX];
	int fd;

	if (!strcmp(file, "stderr"))
		return !setenv("UKVM_LOG", file, 1);
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
	if (fd < 0) {
		complain(file, strerror(errno));
		return false;
	}
	close(fd);
	if (file[0] == '/')
		return !setenv("UKVM_LOG", file, 1);
	if (!getcwd(dir, sizeof(dir)) || snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path)) {
		complain(file, "cannot be made an absolute path");
		return false;
	}
	return !setenv("UKVM_LOG", path, 1);
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
	enum { OPT_LOG = 256, OPT_LIST, OPT_JSON };
	static const struct option options[] = {
		{ "log", required_argument, NULL, OPT_LOG }, { "list", required_argument, NULL, OPT_LIST },
		{ "json", no_argument, NULL, OPT_JSON },     { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },	     { 0 },
	};
	const char *list = NULL, *log = getenv("UKVM_LOG");
	bool json = false;
	int c;

	if (argc > 0)
		argv[0] = program_invocation_short_name; /* what getopt's complaints begin with */

	while ((c = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		switch (c) {
		case OPT_LOG:
			log = optarg;
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
	if (log && *log && !set_log(log))
		return 2;
	return run(argv + optind);
}
