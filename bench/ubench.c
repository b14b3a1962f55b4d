// SPDX-License-Identifier: MIT
/*
 * The guest's side of `make bench`: small programs of the kinds that people run, each as a function that does n units
 * of work. Prints "name nanoseconds-per-unit" for each. The same static binary runs natively, under ukvm and under
 * QEMU TCG; n is doubled until a run takes long enough to be timed.
 *
 * Usage: ubench [-t SECONDS] [NAME...]
 */
#include <emmintrin.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
typedef uint32_t u32;

static volatile u64 sink;
static const char *self;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- integer ---- */
static void int_loop(u64 n)
{
	u64 a = 1, b = 3;

	for (u64 i = 0; i < n * 1000; i++) {
		a = a * 6364136223846793005ull + b;
		b ^= a >> 17;
		if (b & 4)
			a += i;
	}
	sink = a;
}

__attribute__((noinline)) static u64 fib(u64 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void recursion(u64 n)
{
	while (n--)
		sink = fib(16);
}

static int compare(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

static void sort(u64 n)
{
	static u32 v[1000];
	u32 x = 1;

	while (n--) {
		for (int i = 0; i < 1000; i++)
			v[i] = x = x * 1664525 + 1013904223;
		qsort(v, 1000, sizeof(v[0]), compare);
		sink = v[500];
	}
}

static void hash(u64 n)
{
	static unsigned char data[4096];
	u64 h = 14695981039346656037ull;

	while (n--)
		for (size_t i = 0; i < sizeof(data); i++)
			h = (h ^ data[i]) * 1099511628211ull;
	sink = h;
}

/* A bytecode interpreter: an indirect jump for each of a few simple operations. */
static void bytecode(u64 n)
{
	enum { PUSH, ADD, XOR, DUP, DEC, JNZ, HALT };
	static const unsigned char code[] = { PUSH, 1, PUSH, 200, DUP, PUSH, 3, XOR, PUSH, 7, ADD, DEC, JNZ, 4, HALT };

	while (n--) {
		u64 stack[16] = { 0 }, counter = 200, acc = 0;
		unsigned pc = 0, sp = 0;

		for (;;) {
			switch (code[pc++]) {
			case PUSH:
				stack[sp++ & 15] = code[pc++];
				break;
			case ADD:
				acc += stack[--sp & 15];
				break;
			case XOR:
				acc ^= stack[--sp & 15];
				break;
			case DUP:
				stack[sp & 15] = stack[(sp - 1) & 15];
				sp++;
				break;
			case DEC:
				counter--;
				break;
			case JNZ:
				pc = counter ? code[pc] : pc + 1;
				break;
			default:
				goto done;
			}
		}
done:
		sink = acc;
	}
}

/* ---- memory ---- */
static void strings(u64 n)
{
	static char a[2048], b[2048];

	memset(a, 'x', sizeof(a) - 1);
	while (n--) {
		strcpy(b, a);
		sink = strlen(b) + (u64)strcmp(a, b) + (u64)(memchr(b, 'y', sizeof(b)) != NULL);
	}
}

static void chase(u64 n)
{
	enum { N = 1 << 16 };
	static u32 next[N];
	u32 p = 0;

	if (!next[0])
		for (u32 i = 0; i < N; i++)
			next[i] = (i * 40503 + 12345) & (N - 1);
	for (u64 i = 0; i < n * 1000; i++)
		p = next[p];
	sink = p;
}

static void copy(u64 n)
{
	static char a[1 << 20], b[1 << 20];

	while (n--) {
		memcpy(b, a, sizeof(a));
		a[n & 0xfffff] = b[5];
	}
}

/* ---- floating point ---- */
static void fp_double(u64 n)
{
	double x = 0.5, y = 1.5;

	for (u64 i = 0; i < n * 1000; i++) {
		x = x * 1.0000001 + y * 0.5;
		y = y / 1.0000003 - x * 1e-9;
		if (x > 1e6)
			x = 0.5;
	}
	sink = (u64)(x + y);
}

static void fp_sse(u64 n)
{
	__m128 a = _mm_set1_ps(1.0f), b = _mm_set1_ps(1.0001f);
	__m128i c = _mm_set1_epi32(3), d = _mm_set1_epi32(77);

	for (u64 i = 0; i < n * 1000; i++) {
		a = _mm_add_ps(_mm_mul_ps(a, b), b);
		a = _mm_min_ps(a, _mm_set1_ps(100.0f));
		c = _mm_add_epi32(_mm_xor_si128(c, d), _mm_slli_epi32(c, 1));
	}
	sink = (u64)_mm_cvtss_f32(a) + (u64)_mm_cvtsi128_si32(c);
}

static void fp_x87(u64 n)
{
	volatile long double start = 1.5L;
	long double x = start;

	for (u64 i = 0; i < n * 1000; i++) {
		x = x * 1.0001L + 0.5L;
		if (x > 1000.0L)
			x = x / 900.0L;
	}
	sink = (u64)x;
}

/* ---- the kernel ---- */
static void syscalls(u64 n)
{
	while (n--)
		sink = (u64)syscall(SYS_getppid);
}

static void forks(u64 n)
{
	while (n--) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void execs(u64 n)
{
	while (n--) {
		pid_t pid = vfork();

		if (!pid) {
			execl(self, self, "-x", (char *)NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
}

static void page_faults(u64 n)
{
	while (n--) {
		size_t size = 64 * 4096;
		char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (size_t i = 0; i < size; i += 4096)
			p[i] = 1;
		munmap(p, size);
	}
}

static void ping_pong(u64 n)
{
	int a[2], b[2];
	char c = 0;
	pid_t pid;

	if (pipe(a) || pipe(b))
		exit(1);
	pid = fork();
	if (!pid) {
		while (read(a[0], &c, 1) == 1 && c != 'q')
			if (write(b[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	while (n--)
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			exit(1);
	if (write(a[1], "q", 1) != 1)
		exit(1);
	waitpid(pid, NULL, 0);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static const struct {
	const char *name;
	void (*fn)(u64 n);
} tests[] = {
	{ "int-loop", int_loop }, { "recursion", recursion }, { "sort", sort },	      { "hash", hash },
	{ "bytecode", bytecode }, { "strings", strings },     { "chase", chase },     { "copy", copy },
	{ "double", fp_double },  { "sse", fp_sse },	      { "x87", fp_x87 },      { "syscall", syscalls },
	{ "fork", forks },	  { "exec", execs },	      { "fault", page_faults }, { "pipe", ping_pong },
};

static int wanted(const char *name, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], name))
			return 1;
	return !argc;
}

int main(int argc, char **argv)
{
	double enough = 0.2;

	self = "/proc/self/exe";
	argc--, argv++;
	if (argc && !strcmp(argv[0], "-x"))
		return 0;
	if (argc >= 2 && !strcmp(argv[0], "-t")) {
		enough = atof(argv[1]);
		argc -= 2, argv += 2;
	}
	for (size_t t = 0; t < sizeof(tests) / sizeof(tests[0]); t++) {
		u64 n = 1;
		double took;

		if (!wanted(tests[t].name, argc, argv))
			continue;
		for (;; n *= 2) {
			double start = now();

			tests[t].fn(n);
			took = now() - start;
			if (took >= enough)
				break;
		}
		printf("BENCH %s %.2f\n", tests[t].name, took / (double)n * 1e9);
		fflush(stdout);
	}
	return 0;
}
