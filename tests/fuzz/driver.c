// SPDX-License-Identifier: MIT
/*
 * Runs a fuzz target without libFuzzer:
 *
 *	fuzz-NAME [-s SECONDS] [-S SEED] [-n INPUTS] [FILE|DIRECTORY ...]
 *
 * First every file, then random inputs for so many seconds. An input that fails, or takes longer than 20 seconds, is
 * written as hex to standard error and, as a file, to the working directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_MAX 4096
#define HANG_SECONDS 20

static struct {
	u8 data[INPUT_MAX];
	size_t size;
	u64 runs;
} now;

/* Only what a signal handler may call. */
static void keep_input(void)
{
	static const char hex[] = "0123456789abcdef";
	char text[2 * INPUT_MAX + 1];
	int fd;

	for (size_t n = 0; n < now.size; n++) {
		text[2 * n] = hex[now.data[n] >> 4];
		text[2 * n + 1] = hex[now.data[n] & 15];
	}
	text[2 * now.size] = '\n';
	if (write(2, "input: ", 7) < 0 || write(2, text, 2 * now.size + 1) < 0)
		_exit(1);
	fd = open("fuzz-failure", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, now.data, now.size) != (ssize_t)now.size)
		_exit(1);
	close(fd);
}

static void on_death(int sig)
{
	const char *why = sig == SIGALRM ? "fuzz: hang\n" : "fuzz: died\n";

	if (write(2, why, 11) < 0)
		_exit(1);
	keep_input();
	signal(sig, SIG_DFL);
	if (sig == SIGALRM)
		abort();
	raise(sig);
}

static void run(void)
{
	alarm(HANG_SECONDS);
	LLVMFuzzerTestOneInput(now.data, now.size);
	alarm(0);
	now.runs++;
}

static int run_path(const char *path)
{
	struct stat st;
	FILE *f;

	if (stat(path, &st)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	if (S_ISDIR(st.st_mode)) {
		struct dirent **names;
		int n = scandir(path, &names, NULL, alphasort), bad = 0;

		for (int k = 0; k < n; k++) {
			char sub[4096];

			snprintf(sub, sizeof(sub), "%s/%s", path, names[k]->d_name);
			if (names[k]->d_name[0] != '.')
				bad |= run_path(sub);
			free(names[k]);
		}
		free(names);
		return bad;
	}
	f = fopen(path, "re");
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	now.size = fread(now.data, 1, INPUT_MAX, f);
	fclose(f);
	run();
	return 0;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void random_input(u64 seed)
{
	struct choices c;

	choices_start(&c, (const u8 *)&seed, sizeof(seed));
	now.size = 8 + pick(&c, one_in(&c, 4) ? 1024 : 32);
	for (size_t n = 0; n < now.size; n++)
		now.data[n] = pick8(&c);
}

int main(int argc, char **argv)
{
	u64 seed = (u64)time(NULL) << 20, inputs = ~0ull, n;
	double limit = 0, start;
	int opt, bad = 0;

	while ((opt = getopt(argc, argv, "s:S:n:")) != -1) {
		if (opt == 's')
			limit = atof(optarg);
		else if (opt == 'S')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			inputs = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	for (int sig = SIGILL; sig <= SIGSEGV; sig++)
		if (sig == SIGILL || sig == SIGABRT || sig == SIGBUS || sig == SIGFPE || sig == SIGSEGV)
			signal(sig, on_death);
	signal(SIGALRM, on_death);
	for (int k = optind; k < argc; k++)
		bad |= run_path(argv[k]);
	n = now.runs;
	start = seconds();
	while (seconds() - start < limit && now.runs - n < inputs) {
		random_input(seed + now.runs - n);
		run();
	}
	printf("%llu inputs of the corpus, %llu random ones from seed %#llx\n", (unsigned long long)n,
	       (unsigned long long)(now.runs - n), (unsigned long long)seed);
	return bad;
}
