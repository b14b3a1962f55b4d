// SPDX-License-Identifier: MIT
/*
 * The bare CPU as the oracle: random instructions of every row of opcodes.def run natively and in the engine, and must
 * end alike; 64- and 32-bit code does so twice there, interpreted and translated. Each worker process makes, runs and
 * compares its own cases; this process watches them.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#undef F_LOCK /* of lockf(): decode.h has one, too */
#include "compare.h"
#include "report.h"

#define MAX_JOBS 64
#define SHOWN_PER_ROW 2
#define SKIPPED 77

static struct options {
	u64 seed, cases, seconds;
	u32 jobs, max_failures;
	const char *row, *repro;
	bool list, table, devices;
} opt = { .seed = 1, .cases = ~0ull, .seconds = 10, .max_failures = 40 };

static struct native native;
static struct engine engine, translator, devices, translator_devices;
static u8 usable[MAX_ROWS];
static struct selection selection;

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

static u64 case_seed(u64 index)
{
	struct rng r = { opt.seed * 0xd1342543de82ef95 + index };

	return rnd(&r);
}

/* ---- one case ---- */

static u8 image[MEM_SIZE] __attribute__((aligned(64)));
static struct test_case test;
static struct outcome cpu_out, engine_out, device_out;

/* Which pages the client's devices have: all of them, or some. */
static u32 choose_devices(void)
{
	u32 all = (1u << NR_MEM_PAGES) - 1, some = (u32)(test.seed * 0xd1342543de82ef95 >> 40);

	return some & 1 << NR_MEM_PAGES ? all : some & all;
}

static void run_case_in(struct engine *e, struct outcome *o)
{
	memcpy(e->mem, image, MEM_SIZE);
	memcpy(e->code + test.code_at, test.code, test.code_len);
	engine_run(e, &test, o);
	memset(e->code + test.code_at, 0xcc, test.code_len);
}

/* In which an engine that has devices differs from the one that has memory. */
static const char *run_with_devices(struct engine *e)
{
	e->image = image;
	engine_set_devices(e, choose_devices());
	run_case_in(e, &device_out);
	return e->early ? e->early : compare_engines(&test, &engine_out, &device_out, engine.mem, e->mem);
}

#define PAGE_FAULT 14

/* An address that happens to be the native side's own, where the engine has nothing: in one case of ten million. */
static bool hit_native_side(const struct outcome *engine)
{
	return engine->vector == PAGE_FAULT && (engine->cr2 - CTL_BASE < CTL_SIZE || engine->cr2 - EXIT_BASE < 4096);
}

/* The difference to what the CPU did, or NULL. */
static const char *run_engine(struct engine *e)
{
	run_case_in(e, &engine_out);
	if (hit_native_side(&engine_out))
		return NULL;
	return compare(&test, &cpu_out, &engine_out, native.mem, e->mem);
}

/* What run() says of the engine, or else of the one that translates; there is only 64-bit code to be translated. */
static const char *run_both(const char *(*run)(struct engine *e), struct engine *one, struct engine *translating)
{
	static char text[256];
	const char *d = run(one);

	if (d || test.width == WIDTH_16)
		return d;
	d = run(translating);
	if (!d)
		return NULL;
	snprintf(text, sizeof(text), "translated: %s", d);
	return text;
}

static const char *run_once(void)
{
	if (opt.devices) {
		run_case_in(&engine, &engine_out);
		return run_both(run_with_devices, &devices, &translator_devices);
	}
	memcpy(native.mem, image, MEM_SIZE);
	memcpy(native.code + test.code_at, test.width == WIDTH_64 ? test.code : test.twin, test.code_len);
	native_run(&native, &test, &cpu_out);
	memset(native.code + test.code_at, 0xcc, test.code_len);
	return run_both(run_engine, &engine, &translator);
}

/*
 * A host that is a virtual machine itself may have an instruction emulated by its hypervisor now and then, when that
 * handles a page fault of its own, and not every instruction can be: what differs must do so twice.
 */
static const char *run_case(void)
{
	return run_once() ? run_once() : NULL;
}

static void hex_bytes(char *to, const u8 *from, unsigned n)
{
	*to = 0;
	for (unsigned k = 0; k < n; k++)
		to += sprintf(to, "%02x", from[k]);
}

static void print_failure(const char *what)
{
	static const char *const code[NR_WIDTHS] = { "", " in 32-bit code", " in 16-bit code" };
	char bytes[2 * CODE_MAX + 1];

	hex_bytes(bytes, test.code + test.insn_off, test.insn_len);
	printf("FAIL %s: %s%s: %s (insn %s--repro %u:%#llx)\n", row_title(&row_table[test.row]), bytes,
	       code[test.width], what, opt.devices ? "--devices " : "", test.row, (unsigned long long)test.seed);
	fflush(stdout);
}

static void dump_state(const char *name, const struct outcome *o)
{
	printf("%s: vector %d error %#x cr2 %#llx end %u rip %#llx rflags %#llx\n", name, o->vector, o->error,
	       (unsigned long long)o->cr2, o->exit, (unsigned long long)o->s.rip, (unsigned long long)o->s.rflags);
	for (unsigned n = 0; n < 16; n++)
		printf("%s%016llx", n & 7 ? " " : "  ", (unsigned long long)o->s.gpr[n]), n % 8 == 7 ? puts("") : 0;
	printf("  x87");
	for (unsigned n = 0; n < 32; n++)
		printf("%s%02x", n & 3 ? "" : " ", o->s.xsave[n]);
	puts("");
	for (unsigned n = 0; n < 8; n++) {
		printf("  st%u ", n);
		for (unsigned k = 0; k < 10; k++)
			printf("%02x", o->s.xsave[32 + 16 * n + 9 - k]);
	}
	puts("");
	for (unsigned n = 0; n < 16; n++) {
		printf("  %2u ", n);
		for (int k = 15; k >= 0; k--)
			printf("%02x", o->s.xsave[576 + 16 * n + (unsigned)k]);
		for (int k = 15; k >= 0; k--)
			printf("%02x", o->s.xsave[160 + 16 * n + (unsigned)k]);
		if (n & 1)
			puts("");
	}
}

/* ---- workers ---- */

static void prepare_engine(struct engine *e, bool translate)
{
	engine_init(e, &native, translate);
	if (opt.devices)
		engine_as_intel(e);
	memset(e->code, 0xcc, CODE_PAGES * 4096);
}

static void prepare(void)
{
	const char *why;

	if (native_init(&native, &why)) {
		fprintf(stderr, "insn: skipped: %s\n", why);
		exit(SKIPPED);
	}
	prepare_engine(&engine, false);
	prepare_engine(&translator, true);
	prepare_engine(&devices, false);
	prepare_engine(&translator_devices, true);
	memset(native.code, 0xcc, CODE_PAGES * 4096);
}

/* The rows that there are cases of. */
static void choose_rows(void)
{
	for (u32 n = 0; n < nr_rows; n++) {
		usable[n] = !row_reason(&engine, &row_table[n]);
		if (usable[n] && (!opt.row || !strcmp(opt.row, row_table[n].name)))
			selection.rows[selection.n++] = n;
	}
	selection.all = !opt.row;
}

static void confine(void)
{
	struct rlimit none = { 0, 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
}

static void work(struct report *r, u64 from, u64 deadline)
{
	struct gen g;
	const char *d;

	gen_init(&g, image, usable);
	for (u64 i = from; i < opt.cases; i += opt.jobs) {
		u32 row = selection.rows[i % selection.n];

		if (!(++r->cases & 63) && now_ms() >= deadline)
			break;
		r->at = i;
		r->row = row;
		r->seed = case_seed(i);
		if (gen_case(&g, &test, row, r->seed)) {
			d = run_case();
			r->count[test.width][row]++;
			if (d && r->failed[row]++ < SHOWN_PER_ROW)
				print_failure(d);
			r->failures += !!d;
		}
		gen_undo(&g);
	}
}

static pid_t start(struct report *r, u64 from, u64 deadline)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	confine();
	prepare();
	work(r, from, deadline);
	fflush(NULL);
	_exit(0);
}

/* A worker that died, or stands still, did so in a case: as bad as any difference. */
static void lost(struct report *r, const char *how)
{
	r->failures++;
	if (r->failed[r->row]++ < SHOWN_PER_ROW)
		printf("FAIL %s: the worker %s (insn --repro %u:%#llx)\n", row_title(&row_table[r->row]), how, r->row,
		       (unsigned long long)r->seed);
}

struct worker {
	pid_t pid;
	u64 seen, when; /* the last sign of life */
};

static void watch(struct worker *w, struct report *r, u64 deadline)
{
	int status;

	if (waitpid(w->pid, &status, WNOHANG) == w->pid) {
		w->pid = 0;
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			return;
		lost(r, WIFSIGNALED(status) ? "crashed" : "gave up");
		w->pid = now_ms() < deadline ? start(r, r->at + opt.jobs, deadline) : 0;
	} else if (r->cases != w->seen) {
		w->seen = r->cases;
		w->when = now_ms();
	} else if (now_ms() - w->when > 20000) {
		kill(w->pid, SIGKILL);
		w->when = now_ms();
	}
}

static void run_workers(struct report *reports)
{
	struct worker workers[MAX_JOBS] = { 0 };
	u64 deadline = opt.seconds ? now_ms() + opt.seconds * 1000 : ~0ull, failures;
	u32 running = opt.jobs;

	for (u32 n = 0; n < opt.jobs; n++) {
		workers[n].pid = start(&reports[n], n, deadline);
		workers[n].when = now_ms();
	}
	while (running) {
		usleep(20000);
		running = 0;
		failures = 0;
		for (u32 n = 0; n < opt.jobs; n++) {
			if (workers[n].pid)
				watch(&workers[n], &reports[n], deadline);
			running += !!workers[n].pid;
			failures += reports[n].failures;
		}
		if (failures >= opt.max_failures)
			deadline = 0;
		for (u32 n = 0; n < opt.jobs && !deadline; n++)
			if (workers[n].pid)
				kill(workers[n].pid, SIGKILL), waitpid(workers[n].pid, NULL, 0), workers[n].pid = 0;
		if (!deadline)
			break;
	}
}

/* ---- one case again ---- */

static int reproduce(void)
{
	struct gen g;
	unsigned row;
	unsigned long long seed;
	const char *d;
	char bytes[2 * CODE_MAX + 1];

	if (sscanf(opt.repro, "%u:%llx", &row, &seed) != 2 || row >= nr_rows)
		return 2;
	gen_init(&g, image, usable);
	if (!gen_case(&g, &test, row, seed)) {
		puts("insn: this seed makes no case");
		return 2;
	}
	hex_bytes(bytes, test.code + test.insn_off, test.insn_len);
	printf("%s at %#llx\n", bytes, (unsigned long long)test.in.rip);
	hex_bytes(bytes, test.code, test.code_len);
	printf("with what is around it: %s\n", bytes);
	if (test.width != WIDTH_64) {
		hex_bytes(bytes, test.twin + test.insn_off - test.twin_ahead,
			  (unsigned)(test.insn_len + test.twin_ahead));
		printf("in %s-bit code; the CPU runs %s\n", test.width == WIDTH_32 ? "32" : "16", bytes);
	}
	engine_out.s = test.in;
	dump_state("before", &engine_out);
	fflush(stdout);
	d = run_case();
	if (!opt.devices)
		dump_state("CPU   ", &cpu_out);
	dump_state("engine", &engine_out);
	if (opt.devices)
		dump_state("device", &device_out);
	if (d)
		print_failure(d);
	return d != NULL;
}

static void usage(void)
{
	puts("usage: insn [--seed N] [--cases N] [--seconds N] [--jobs N] [--row NAME] [--list] [--table] [--devices]\n"
	     "            [--repro ROW:SEED] [--max-failures N]\n"
	     "Runs random instructions on the bare CPU and in the engine, and compares; with --devices, in the engine\n"
	     "alone, with memory and with devices in its place. --seconds 0: for ever.");
	exit(2);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },         { "cases", 1, NULL, 'c' },   { "seconds", 1, NULL, 't' },
		{ "jobs", 1, NULL, 'j' },         { "row", 1, NULL, 'r' },     { "list", 0, NULL, 'l' },
		{ "table", 0, NULL, 'T' },        { "devices", 0, NULL, 'd' }, { "repro", 1, NULL, 'p' },
		{ "max-failures", 1, NULL, 'm' }, { NULL, 0, NULL, 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 's':
			opt.seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			opt.cases = strtoull(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = strtoull(optarg, NULL, 0);
			break;
		case 'j':
			opt.jobs = (u32)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			opt.row = optarg;
			break;
		case 'l':
			opt.list = true;
			break;
		case 'T':
			opt.table = true;
			break;
		case 'd':
			opt.devices = true;
			break;
		case 'p':
			opt.repro = optarg;
			break;
		case 'm':
			opt.max_failures = (u32)strtoul(optarg, NULL, 0);
			break;
		default:
			usage();
		}
	}
	if (!opt.jobs)
		opt.jobs = (u32)sysconf(_SC_NPROCESSORS_ONLN);
	if (opt.jobs > MAX_JOBS)
		opt.jobs = MAX_JOBS;
}

int main(int argc, char **argv)
{
	struct report *reports;
	u64 begin = now_ms();
	int status;
	pid_t pid;

	parse(argc, argv);
	_Static_assert(MAX_ROWS >= 1500, "room for the table");
	if (opt.repro) {
		confine();
		prepare();
		choose_rows();
		return reproduce();
	}
	/* The watching process has an engine, to know its CPUID, but never a case in it. */
	pid = fork();
	if (!pid) {
		prepare();
		exit(0);
	}
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	engine_init(&engine, &native, false);
	engine_init(&translator, &native, true);
	choose_rows();
	if (!selection.n) {
		fprintf(stderr, "insn: no such row, or none that can be tried here\n");
		return 2;
	}
	reports = mmap(NULL, opt.jobs * sizeof(*reports), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reports == MAP_FAILED)
		return 1;
	run_workers(reports);
	begin = now_ms() - begin;
	if (opt.list)
		report_rows(&engine, reports, opt.jobs);
	if (opt.table)
		report_families(reports, opt.jobs);
	return report_summary(&engine, reports, opt.jobs, &selection, begin) != 0;
}
