// SPDX-License-Identifier: MIT
/*
 * Guest instructions per second: compiled code runs in 64-bit mode without any kernel, and the time that this
 * thread spends in KVM_RUN is divided by the instructions, which are counted by single-stepping a short run. An
 * ordinary KVM client, for ukvm and a real /dev/kvm alike. Prints "MIPS name millions-per-second", the best of several
 * runs, and "MEMORY vm bytes": how much more of its memory is resident than before there was a VM, the few pages that
 * the guest has touched among it.
 *
 * Usage: mips [-t SECONDS] [NAME...]
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define CHECK(x)                                                                                                       \
	({                                                                                                             \
		long r_ = (long)(x);                                                                                   \
		if (r_ < 0)                                                                                            \
			perror(#x), exit(1);                                                                           \
		r_;                                                                                                    \
	})

typedef uint64_t u64;
typedef uint32_t u32;

/* ---- the guest's code: position-independent, all of it in one section, no data but what it is given ---- */
#ifdef __clang__
#define ALONE noinline
#else
#define ALONE noinline, noclone, optimize("no-tree-vectorize", "no-tree-loop-distribute-patterns")
#endif
#define GUEST __attribute__((section("guest"), ALONE))

GUEST static u64 loop(u64 n, void *mem)
{
	u64 a = 1, b = 3;

	(void)mem;
	for (u64 i = 0; i < n * 100; i++) {
		a = a * 6364136223846793005ull + b;
		b ^= a >> 17;
		if (b & 4)
			a += i;
	}
	return a;
}

GUEST static u64 fib(u64 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

GUEST static u64 recursion(u64 n, void *mem)
{
	u64 sum = 0;

	(void)mem;
	while (n--)
		sum += fib(10);
	return sum;
}

GUEST static u64 hash(u64 n, void *mem)
{
	unsigned char *data = mem;
	u64 h = 14695981039346656037ull;

	while (n--)
		for (size_t i = 0; i < 256; i++)
			h = (h ^ data[i]) * 1099511628211ull;
	return h;
}

GUEST static u64 sort(u64 n, void *mem)
{
	u32 *v = mem, x = 1;

	while (n--) {
		for (int i = 0; i < 64; i++)
			v[i] = x = x * 1664525 + 1013904223;
		for (int gap = 32; gap; gap /= 2) {
			for (int i = gap; i < 64; i++) {
				u32 value = v[i];
				int k = i;

				for (; k >= gap && v[k - gap] > value; k -= gap)
					v[k] = v[k - gap];
				v[k] = value;
			}
		}
	}
	return v[32];
}

GUEST static u64 sieve(u64 n, void *mem)
{
	unsigned char *composite = mem;
	u64 primes = 0;

	while (n--) {
		for (int i = 0; i < 1024; i++)
			composite[i] = 0;
		for (int i = 2; i < 1024; i++) {
			if (composite[i])
				continue;
			primes++;
			for (int k = i * 2; k < 1024; k += i)
				composite[k] = 1;
		}
	}
	return primes;
}

GUEST static u64 strings(u64 n, void *mem)
{
	unsigned char *a = mem, *b = a + 512;
	u64 sum = 0;

	for (int i = 0; i < 255; i++)
		a[i] = (unsigned char)(i % 25 + 'a');
	a[255] = 0;
	while (n--) {
		unsigned char *p = a, *q = b;

		while ((*q++ = *p++))
			;
		for (p = a, q = b; *p && *p == *q; p++, q++)
			;
		sum += (u64)(p - a);
	}
	return sum;
}

/* Not integer code: for comparison. Constants come from memory, as the section has no data. */
GUEST static u64 fp(u64 n, void *mem)
{
	volatile u64 *bits = mem;
	double *c = (double *)mem, x, y;

	bits[0] = 0x3fe0000000000000; /* 0.5 */
	bits[1] = 0x3ff0000000100000; /* a little more than 1 */
	x = c[0];
	y = c[1];
	for (u64 i = 0; i < n * 100; i++) {
		x = x * c[1] + y * c[0];
		y = y / c[1] - x;
	}
	return x > y;
}

/* rax = the function, rdi and rsi = its arguments */
__attribute__((section("guest"), naked, used)) static void enter(void)
{
	asm("call *%rax\n\thlt");
}

static const struct {
	const char *name;
	u64 (*fn)(u64 n, void *mem);
} kernels[] = {
	{ "loop", loop }, { "recursion", recursion }, { "hash", hash },
	{ "sort", sort }, { "sieve", sieve },	      { "strings", strings },
	{ "fp", fp },
};

/* ---- the client ---- */
#define MEM_SIZE 0x400000ul
#define TABLES 0x1000ul /* PML4, PDPT, PD */
#define CODE 0x10000ul
#define DATA 0x100000ul
#define STACK 0x200000ul

extern const char __start_guest[], __stop_guest[];

static int vcpu;
static struct kvm_run *run;
static unsigned char *mem;

static u64 guest_address(const void *function)
{
	return CODE + (u64)((const char *)function - __start_guest);
}

static struct kvm_segment flat_segment(unsigned type, unsigned selector)
{
	return (struct kvm_segment){ .limit = 0xffffffff, .selector = (__u16)selector, .type = (__u8)type, .present = 1,
				     .s = 1, .l = type == 11, .db = type != 11, .g = 1 };
}

static void make_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;
	struct kvm_sregs s;
	u64 *tables;

	if (kvm < 0) {
		perror("/dev/kvm");
		exit(77);
	}
	vm = (int)CHECK(ioctl(kvm, KVM_CREATE_VM, 0));
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .memory_size = MEM_SIZE, .userspace_addr = (uintptr_t)mem };
	CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	vcpu = (int)CHECK(ioctl(vm, KVM_CREATE_VCPU, 0));
	run = mmap(NULL, (size_t)CHECK(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu,
		   0);
	memcpy(mem + CODE, __start_guest, (size_t)(__stop_guest - __start_guest));
	tables = (u64 *)(mem + TABLES);
	tables[0] = (TABLES + 0x1000) | 3;
	tables[512] = (TABLES + 0x2000) | 3;
	tables[1024] = 0x83;
	tables[1025] = 0x200083;
	CHECK(ioctl(vcpu, KVM_GET_SREGS, &s));
	s.cs = flat_segment(11, 8);
	s.ds = s.es = s.ss = flat_segment(3, 16);
	s.cr0 = 0x80000001;
	s.cr3 = TABLES;
	s.cr4 = 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
	s.efer = 0x500;
	CHECK(ioctl(vcpu, KVM_SET_SREGS, &s));
}

static void start(u64 (*fn)(u64 n, void *mem), u64 n)
{
	struct kvm_regs regs = { .rip = guest_address((const void *)enter), .rax = guest_address((const void *)fn),
				 .rdi = n, .rsi = DATA, .rsp = STACK, .rflags = 2 };

	CHECK(ioctl(vcpu, KVM_SET_REGS, &regs));
}

/* Instructions of fn(n), the HLT among them. */
static u64 count(u64 (*fn)(u64 n, void *mem), u64 n)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	u64 steps = 0;

	start(fn, n);
	CHECK(ioctl(vcpu, KVM_SET_GUEST_DEBUG, &debug));
	do {
		CHECK(ioctl(vcpu, KVM_RUN, 0));
		steps++;
	} while (run->exit_reason == KVM_EXIT_DEBUG);
	debug.control = 0;
	CHECK(ioctl(vcpu, KVM_SET_GUEST_DEBUG, &debug));
	return steps;
}

/* Time of the thread, not of the clock: other programs may be running. */
static double seconds(u64 (*fn)(u64 n, void *mem), u64 n)
{
	struct timespec a, b;

	start(fn, n);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	CHECK(ioctl(vcpu, KVM_RUN, 0));
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	if (run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "mips: exit reason %u\n", run->exit_reason);
		exit(1);
	}
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
}

static void measure(const char *name, u64 (*fn)(u64 n, void *mem), double enough)
{
	u64 per_unit = count(fn, 3) - count(fn, 2), n = 1;
	double best = 1e9;

	while (seconds(fn, n) < enough)
		n *= 2;
	for (int k = 0; k < 5; k++) {
		double took = seconds(fn, n);

		best = took < best ? took : best;
	}
	printf("MIPS %s %.1f\n", name, (double)(per_unit * n) / best * 1e-6);
	fflush(stdout);
}

static double resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages = 0;

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		return 0;
	fclose(f);
	return (double)pages * 4096;
}

int main(int argc, char **argv)
{
	double enough = 0.05, before = resident();

	argc--, argv++;
	if (argc >= 2 && !strcmp(argv[0], "-t")) {
		enough = atof(argv[1]);
		argc -= 2, argv += 2;
	}
	make_vm();
	for (size_t k = 0; k < sizeof(kernels) / sizeof(kernels[0]); k++) {
		int wanted = !argc;

		for (int i = 0; i < argc; i++)
			wanted |= !strcmp(argv[i], kernels[k].name);
		if (wanted)
			measure(kernels[k].name, kernels[k].fn, enough);
	}
	printf("MEMORY vm %.0f\n", resident() - before);
	return 0;
}
