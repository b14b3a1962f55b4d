// SPDX-License-Identifier: MIT
/*
 * Several vCPUs at once: atomic instructions, the order of memory accesses (SDM vol. 3, 8.2: x86-TSO), translations
 * that another processor changes, code that another processor patches, and a client that takes logs and moves memory
 * meanwhile. Each test is bounded in time; the machine may have one core or many.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "guest.h"

#define CPUS_MAX 4
#define MEM (16 * MIB)
#define GATE 0x7000u  /* how many vCPUs have yet to arrive */
#define PTES 0x10000u /* a page table for the linear addresses from WINDOW on */
#define WINDOW (4 * MIB)
#define IDT 0x6000u
#define HANDLER 0x5000u
#define SECONDS 1.2

struct smp {
	struct machine m;
	unsigned n;
	int fd[CPUS_MAX];
	struct kvm_run *run[CPUS_MAX];
	pthread_t thread[CPUS_MAX];
	struct kvm_regs regs[CPUS_MAX]; /* to start with; then, how each ended */
	volatile bool done[CPUS_MAX];
	/* An exit that is not HLT: true if the vCPU goes on. */
	bool (*exit)(struct smp *s, unsigned cpu);
	/* After a signal. */
	void (*kicked)(struct smp *s, unsigned cpu);
	volatile u64 count[CPUS_MAX]; /* the test's own */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* All in 64-bit mode, with 2 MiB pages but for WINDOW, whose pages are those of PTES; vectors 3, 32 go to HANDLER. */
static void smp_start(struct smp *s, unsigned n)
{
	struct kvm_sregs sregs;
	u64 *pd, *pt;

	memset(s, 0, sizeof(*s));
	s->m = machine_new(MEM);
	s->n = n;
	s->fd[0] = s->m.vcpu;
	s->run[0] = s->m.run;
	for (unsigned k = 1; k < n; k++)
		s->fd[k] = machine_vcpu(&s->m, k, &s->run[k]);
	start_long(&s->m, 0x1000);
	pd = (u64 *)(s->m.mem + 0xb000);
	pt = (u64 *)(s->m.mem + PTES);
	pd[WINDOW / (2 * MIB)] = PTES | 7;
	for (u64 k = 0; k < 512; k++)
		pt[k] = (WINDOW + k * PAGE) | 7;
	sregs = get_sregs(&s->m);
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xfff;
	sregs.gdt.base = 0x6800;
	sregs.gdt.limit = 0x17;
	*(u64 *)(s->m.mem + 0x6808) = 0x00af9b000000ffffull;
	*(u64 *)(s->m.mem + 0x6810) = 0x00cf93000000ffffull;
	for (unsigned v = 3; v <= 32; v += 29) {
		*(u64 *)(s->m.mem + IDT + 16 * v) = (HANDLER & 0xffff) | 8ull << 16 | 0x8e00ull << 32;
		*(u64 *)(s->m.mem + IDT + 16 * v + 8) = 0;
	}
	for (unsigned k = 0; k < n; k++) {
		OK(ioctl(s->fd[k], KVM_SET_SREGS, &sregs));
		s->regs[k] = (struct kvm_regs){ .rip = 0x1000 + 0x400 * k, .rsp = 0xf000 - 0x400 * k, .rflags = 2 };
	}
}

/* Code of a vCPU; the addresses leave 1 KiB for each. */
#define SMP_LOAD(s, cpu, name) LOAD(&(s)->m, 0x1000 + 0x400 * (cpu), name)

static void on_kick(int sig)
{
	(void)sig;
}

struct starter {
	struct smp *s;
	unsigned cpu;
};

static void *cpu_main(void *arg)
{
	struct starter *st = arg;
	struct smp *s = st->s;
	unsigned cpu = st->cpu;

	OK(ioctl(s->fd[cpu], KVM_SET_REGS, &s->regs[cpu]));
	for (;;) {
		if (ioctl(s->fd[cpu], KVM_RUN, 0) < 0) {
			CHECK_EQ(errno, EINTR);
			if (s->kicked)
				s->kicked(s, cpu);
			continue;
		}
		if (s->run[cpu]->exit_reason == KVM_EXIT_HLT)
			break;
		if (!s->exit || !s->exit(s, cpu)) {
			OK(ioctl(s->fd[cpu], KVM_GET_REGS, &s->regs[cpu]));
			FAIL("vCPU %u: exit reason %u at rip 0x%llx", cpu, s->run[cpu]->exit_reason,
			     (unsigned long long)s->regs[cpu].rip);
		}
	}
	OK(ioctl(s->fd[cpu], KVM_GET_REGS, &s->regs[cpu]));
	s->done[cpu] = true;
	return NULL;
}

/* Lets all vCPUs run from s->regs to their HLT; meanwhile, if not NULL, is called until it returns false. */
static void smp_run(struct smp *s, bool (*meanwhile)(struct smp *s))
{
	struct starter st[CPUS_MAX];
	struct sigaction sa = { .sa_handler = on_kick };
	bool all;

	sigaction(SIGUSR1, &sa, NULL);
	*(volatile u32 *)(s->m.mem + GATE) = s->n;
	for (unsigned k = 0; k < s->n; k++) {
		s->done[k] = false;
		st[k] = (struct starter){ s, k };
		CHECK(!pthread_create(&s->thread[k], NULL, cpu_main, &st[k]));
	}
	do {
		all = true;
		for (unsigned k = 0; k < s->n; k++)
			all = all && s->done[k];
	} while (!all && meanwhile && meanwhile(s));
	for (unsigned k = 0; k < s->n; k++)
		pthread_join(s->thread[k], NULL);
}

/* The vCPUs wait for each other. */
#define ARRIVE "lock dec dword ptr [0x7000]; 99: pause; cmp dword ptr [0x7000], 0; jne 99b; "

/* ---- atomic instructions ---- */

/* Each adds 1 rcx times to [rdi]. */
#define ADDER(name, text) GUEST(name, 64, ARRIVE "1: " text "; dec rcx; jnz 1b; hlt")
ADDER(lock_add, "lock add dword ptr [rdi], 1");
ADDER(lock_inc, "lock inc qword ptr [rdi]");
ADDER(lock_sub, "lock sub qword ptr [rdi], -1");
ADDER(lock_adc, "stc; lock adc dword ptr [rdi], 0");
ADDER(lock_sbb, "stc; lock sbb dword ptr [rdi], -2");
ADDER(lock_xadd, "mov eax, 1; lock xadd [rdi], rax");
ADDER(lock_cmpxchg, "mov rax, [rdi]; 2: lea rdx, [rax + 1]; lock cmpxchg [rdi], rdx; jne 2b");
ADDER(lock_cmpxchg8b, "mov rsi, rcx; mov eax, [rdi]; mov edx, [rdi + 4]; 2: mov ebx, eax; mov ecx, edx; add ebx, 1; "
		      "adc ecx, 0; lock cmpxchg8b [rdi]; jne 2b; mov rcx, rsi");
ADDER(lock_cmpxchg16b, "mov rsi, rcx; mov rax, [rdi]; mov rdx, [rdi + 8]; 2: mov rbx, rax; mov rcx, rdx; add rbx, 1; "
		       "adc rcx, 1; lock cmpxchg16b [rdi]; jne 2b; mov rcx, rsi");
/* Under a lock at [rdi + 8] that is taken and left by these. */
ADDER(xchg, "2: mov eax, 1; xchg [rdi + 8], eax; test eax, eax; jz 3f; pause; jmp 2b; 3: inc qword ptr [rdi]; "
	    "mov dword ptr [rdi + 8], 0");
ADDER(lock_bts, "2: lock bts dword ptr [rdi + 8], 5; jnc 3f; pause; jmp 2b; 3: inc qword ptr [rdi]; "
		"lock btr dword ptr [rdi + 8], 5");
ADDER(lock_or_and, "2: mov eax, [rdi + 8]; test al, 1; jnz 4f; mov edx, eax; or edx, 1; lock cmpxchg [rdi + 8], edx; "
		   "je 3f; 4: pause; jmp 2b; 3: inc qword ptr [rdi]; lock and dword ptr [rdi + 8], -2");

/* n vCPUs and the client add at addr, which is where the pages of PTES make it. */
static void add_together(const u8 *begin, const u8 *end, u64 addr, unsigned long n, bool swapped, bool client,
			 const char *what)
{
	struct smp s;
	u64 *pt, sum = 0;
	u8 bytes[8];

	smp_start(&s, 2);
	pt = (u64 *)(s.m.mem + PTES);
	if (swapped) { /* neighbours in linear addresses, not in memory */
		pt[0] = (WINDOW + 5 * PAGE) | 7;
		pt[1] = (WINDOW + 2 * PAGE) | 7;
	}
	for (unsigned k = 0; k < s.n; k++) {
		memcpy(s.m.mem + 0x1000 + 0x400 * k, begin, (size_t)(end - begin));
		s.regs[k].rdi = addr;
		s.regs[k].rcx = n;
	}
	if (client)
		*(volatile u32 *)(s.m.mem + GATE) = 0;
	smp_run(&s, NULL);
	for (unsigned k = 0; k < 8; k++) {
		u64 lin = addr + k - WINDOW;

		bytes[k] = s.m.mem[(pt[lin / PAGE] & ~0xfffull) + lin % PAGE];
	}
	memcpy(&sum, bytes, 8);
	if ((u32)sum != 2 * n)
		FAIL("%s at 0x%llx%s: %llu and not %lu", what, (unsigned long long)addr, swapped ? ", swapped" : "",
		     (unsigned long long)sum, 2 * n);
}

#define ADD_TOGETHER(name, addr, n, swapped)                                                                           \
	add_together(guest_##name##_begin, guest_##name##_end, addr, n, swapped, false, #name)

TEST(atomic_instructions)
{
	ADD_TOGETHER(lock_add, WINDOW, 50000, false);
	ADD_TOGETHER(lock_inc, WINDOW, 50000, false);
	ADD_TOGETHER(lock_sub, WINDOW, 50000, false);
	ADD_TOGETHER(lock_adc, WINDOW, 50000, false);
	ADD_TOGETHER(lock_sbb, WINDOW, 50000, false);
	ADD_TOGETHER(lock_xadd, WINDOW, 50000, false);
	ADD_TOGETHER(lock_cmpxchg, WINDOW, 50000, false);
	ADD_TOGETHER(lock_cmpxchg8b, WINDOW, 50000, false);
	ADD_TOGETHER(lock_cmpxchg16b, WINDOW, 50000, false);
	ADD_TOGETHER(xchg, WINDOW, 20000, false);
	ADD_TOGETHER(lock_bts, WINDOW, 20000, false);
	ADD_TOGETHER(lock_or_and, WINDOW, 20000, false);
}

/* Split locks: a host may make each of them slow on purpose. */
TEST_LIMIT(atomic_across_cache_lines, 60)
{
	ADD_TOGETHER(lock_add, WINDOW + 62, 1000, false);
	ADD_TOGETHER(lock_inc, WINDOW + 60, 1000, false);
	ADD_TOGETHER(lock_xadd, WINDOW + 57, 1000, false);
	ADD_TOGETHER(lock_cmpxchg, WINDOW + 61, 1000, false);
	ADD_TOGETHER(lock_cmpxchg8b, WINDOW + 61, 1000, false);
}

TEST_LIMIT(atomic_across_pages, 60)
{
	ADD_TOGETHER(lock_add, WINDOW + PAGE - 2, 1000, false);
	ADD_TOGETHER(lock_xadd, WINDOW + PAGE - 4, 1000, false);
	ADD_TOGETHER(lock_cmpxchg, WINDOW + PAGE - 7, 1000, false);
	ADD_TOGETHER(lock_add, WINDOW + PAGE - 2, 100000, true);
	ADD_TOGETHER(lock_xadd, WINDOW + PAGE - 4, 100000, true);
	ADD_TOGETHER(lock_cmpxchg, WINDOW + PAGE - 7, 100000, true);
	ADD_TOGETHER(lock_cmpxchg8b, WINDOW + PAGE - 4, 100000, true);
}

/* ---- the order of accesses ---- */

/*
 * Each vCPU goes through arrays x and y (rdi and rsi, 64 bytes apart), with results in rdx: store or load, then load or
 * store. ROUND is what they do at each place.
 */
#define ROUND(name, text)                                                                                              \
	GUEST(name, 64, ARRIVE "1: " text "; add rdi, 64; add rsi, 64; add rdx, 16; dec rcx; jnz 1b; hlt")
ROUND(store_load, "mov dword ptr [rdi], 1; mov eax, [rsi]; mov [rdx], eax");
ROUND(store_fence_load, "mov dword ptr [rdi], 1; mfence; mov eax, [rsi]; mov [rdx], eax");
ROUND(xchg_load, "mov eax, 1; xchg [rdi], eax; mov eax, [rsi]; mov [rdx], eax");
ROUND(store_lock_load, "mov dword ptr [rdi], 1; lock or dword ptr [rsp], 0; mov eax, [rsi]; mov [rdx], eax");
ROUND(store_store, "mov dword ptr [rdi], 1; mov dword ptr [rsi], 1");
ROUND(string_store, "mov r8, rdi; mov eax, 1; stosd; mov rdi, r8; mov dword ptr [rsi], 1");
ROUND(push_store, "mov r8, rsp; lea rsp, [rdi + 8]; push 1; mov rsp, r8; mov dword ptr [rsi], 1");
ROUND(load_load, "mov eax, [rdi]; mov ebx, [rsi]; mov [rdx], eax; mov [rdx + 4], ebx");
ROUND(load_store, "mov eax, [rdi]; mov dword ptr [rsi], 1; mov [rdx], eax");
ROUND(store, "mov dword ptr [rdi], 1");

#define PLACES 4096u
#define X (8 * MIB)
#define Y (9 * MIB)
#define RESULT(cpu) (10 * MIB + MIB / 4 * (cpu))

struct litmus {
	struct smp s;
	u64 seen[16]; /* how often each outcome came: bits are results, the first vCPU's lowest */
};

static void litmus_code(struct litmus *l, unsigned cpu, const u8 *begin, const u8 *end, u64 first, u64 second)
{
	struct smp *s = &l->s;

	memcpy(s->m.mem + 0x1000 + 0x400 * cpu, begin, (size_t)(end - begin));
	s->regs[cpu].rdi = first;
	s->regs[cpu].rsi = second;
}
#define LITMUS(l, cpu, name, first, second) litmus_code(l, cpu, guest_##name##_begin, guest_##name##_end, first, second)

/* Runs for SECONDS; results of a vCPU are per_cpu bits. */
static void litmus_run(struct litmus *l, const u8 *per_cpu)
{
	struct smp *s = &l->s;
	struct kvm_regs start[CPUS_MAX];
	double end = now() + SECONDS;

	memcpy(start, s->regs, sizeof(start));
	do {
		memset(s->m.mem + X, 0, 2 * MIB);
		memset(s->m.mem + RESULT(0), 0, s->n * (MIB / 4));
		for (unsigned k = 0; k < s->n; k++) {
			s->regs[k] = start[k];
			s->regs[k].rdx = RESULT(k);
			s->regs[k].rcx = PLACES;
		}
		smp_run(s, NULL);
		for (unsigned n = 0; n < PLACES; n++) {
			unsigned bits = 0, shift = 0;

			for (unsigned k = 0; k < s->n; k++)
				for (unsigned b = 0; b < per_cpu[k]; b++)
					bits |= *(u32 *)(s->m.mem + RESULT(k) + 16 * n + 4 * b) << shift++;
			l->seen[bits & 15]++;
		}
	} while (now() < end);
}

static void forbidden(const struct litmus *l, unsigned outcome)
{
	if (l->seen[outcome])
		FAIL("outcome %x came %llu times", outcome, (unsigned long long)l->seen[outcome]);
}

/* Both load the old value: a store waits in a buffer. Allowed without a fence, and not with one. */
TEST(store_buffering)
{
	struct litmus plain = { 0 }, fence = { 0 }, xchg = { 0 };

	smp_start(&plain.s, 2);
	LITMUS(&plain, 0, store_load, X, Y);
	LITMUS(&plain, 1, store_load, Y, X);
	litmus_run(&plain, (u8[]){ 1, 1 });
	smp_start(&fence.s, 2);
	LITMUS(&fence, 0, store_fence_load, X, Y);
	LITMUS(&fence, 1, store_fence_load, Y, X);
	litmus_run(&fence, (u8[]){ 1, 1 });
	forbidden(&fence, 0);
	smp_start(&xchg.s, 2);
	LITMUS(&xchg, 0, xchg_load, X, Y);
	LITMUS(&xchg, 1, store_lock_load, Y, X);
	litmus_run(&xchg, (u8[]){ 1, 1 });
	forbidden(&xchg, 0);
}

/* The second store is seen, the first is not. */
TEST(message_passing)
{
	struct litmus plain = { 0 }, string = { 0 }, push = { 0 };

	smp_start(&plain.s, 2);
	LITMUS(&plain, 0, store_store, X, Y);
	LITMUS(&plain, 1, load_load, Y, X);
	litmus_run(&plain, (u8[]){ 0, 2 });
	forbidden(&plain, 1);
	smp_start(&string.s, 2);
	LITMUS(&string, 0, string_store, X, Y);
	LITMUS(&string, 1, load_load, Y, X);
	litmus_run(&string, (u8[]){ 0, 2 });
	forbidden(&string, 1);
	smp_start(&push.s, 2);
	LITMUS(&push, 0, push_store, X, Y);
	LITMUS(&push, 1, load_load, Y, X);
	litmus_run(&push, (u8[]){ 0, 2 });
	forbidden(&push, 1);
}

/* Both see what the other stores after its load. */
TEST(load_buffering)
{
	struct litmus l = { 0 };

	smp_start(&l.s, 2);
	LITMUS(&l, 0, load_store, X, Y);
	LITMUS(&l, 1, load_store, Y, X);
	litmus_run(&l, (u8[]){ 1, 1 });
	forbidden(&l, 3);
}

/* Two observers disagree on which of two independent stores came first. */
TEST(independent_reads_of_independent_writes)
{
	struct litmus l = { 0 };

	smp_start(&l.s, 4);
	LITMUS(&l, 0, store, X, Y);
	LITMUS(&l, 1, store, Y, X);
	LITMUS(&l, 2, load_load, X, Y);
	LITMUS(&l, 3, load_load, Y, X);
	litmus_run(&l, (u8[]){ 0, 0, 2, 2 });
	forbidden(&l, 5); /* x then not y; y then not x */
}

/* ---- translations that another processor changes ---- */

/*
 * vCPU 0 makes the page at WINDOW show another page, which holds its own number, r15 times, and waits each time until
 * the other has taken note: round number at [0x7100], answer at [0x7108].
 */
GUEST(remap, 64,
      ARRIVE
      "1: mov rax, r15; and eax, 7; shl rax, 12; lea rax, [rax + 0x500007]; mov [0x10000], rax; mov [0x7100], r15; "
      "2: pause; cmp [0x7108], r15; jne 2b; dec r15; jnz 1b; mov qword ptr [0x7110], 1; hlt");
#define FOLLOW(name, flush)                                                                                            \
	GUEST(name, 64,                                                                                                \
	      ARRIVE                                                                                                   \
	      "mov rbx, 0x400000; xor ecx, ecx; xor edx, edx; 1: mov r8, [rbx]; pause; cmp byte ptr [0x7110], 0; "     \
	      "jne 3f; mov rax, [0x7100]; cmp rax, rdx; je 1b; " flush "; mov rdx, rax; and eax, 7; cmp [rbx], rax; "  \
	      "je 2f; inc ecx; 2: mov [0x7108], rdx; jmp 1b; 3: hlt")
FOLLOW(follow_invlpg, "invlpg [rbx]");
FOLLOW(follow_cr3, "mov rsi, cr3; mov cr3, rsi");
FOLLOW(follow_cr4, "mov rsi, cr4; mov rdi, rsi; xor rdi, 0x80; mov cr4, rdi; mov cr4, rsi");

static void shootdown(const u8 *begin, const u8 *end)
{
	struct smp s;

	smp_start(&s, 2);
	for (u64 k = 0; k < 8; k++)
		*(u64 *)(s.m.mem + 5 * MIB + k * PAGE) = k;
	SMP_LOAD(&s, 0, remap);
	memcpy(s.m.mem + 0x1400, begin, (size_t)(end - begin));
	s.regs[0].r15 = 400;
	smp_run(&s, NULL);
	CHECK_EQ(s.regs[1].rcx, 0);
	CHECK_EQ(*(u64 *)(s.m.mem + 0x7108), 1);
}

TEST(shootdown_by_invlpg)
{
	shootdown(guest_follow_invlpg_begin, guest_follow_invlpg_end);
}

TEST(shootdown_by_cr3)
{
	shootdown(guest_follow_cr3_begin, guest_follow_cr3_end);
}

TEST(shootdown_by_cr4)
{
	shootdown(guest_follow_cr4_begin, guest_follow_cr4_end);
}

/* The same with an interrupt that the client injects: vCPU 0 asks for it at a port, the handler flushes and answers. */
GUEST(remap_ipi, 64,
      ARRIVE
      "1: mov rax, r15; and eax, 7; shl rax, 12; lea rax, [rax + 0x500007]; mov [0x10000], rax; mov [0x7100], r15; "
      "out 0x70, al; 2: pause; cmp [0x7108], r15; jne 2b; dec r15; jnz 1b; mov [0x7100], r15; out 0x70, al; hlt");
GUEST(spin_on_page, 64, "mov rbx, 0x400000; xor ecx, ecx; sti; " ARRIVE "1: mov r8, [rbx]; test r9, r9; jz 1b; hlt");
GUEST(ipi, 64,
      "push rax; mov rax, [0x7100]; test rax, rax; jz 3f; invlpg [rbx]; mov rdx, rax; and eax, 7; cmp [rbx], rax; "
      "je 2f; "
      "inc ecx; 2: mov [0x7108], rdx; jmp 4f; 3: mov r9, 1; 4: pop rax; iretq");

static bool exit_ipi(struct smp *s, unsigned cpu)
{
	if (s->run[cpu]->exit_reason != KVM_EXIT_IO || cpu)
		return false;
	s->count[1]++;
	pthread_kill(s->thread[1], SIGUSR1);
	return true;
}

static void kicked_ipi(struct smp *s, unsigned cpu)
{
	struct kvm_interrupt i = { .irq = 32 };

	if (cpu != 1 || !s->count[1])
		return;
	s->count[1] = 0;
	OK(ioctl(s->fd[1], KVM_INTERRUPT, &i));
}

TEST(shootdown_by_interrupt)
{
	struct smp s;

	smp_start(&s, 2);
	for (u64 k = 0; k < 8; k++)
		*(u64 *)(s.m.mem + 5 * MIB + k * PAGE) = k;
	SMP_LOAD(&s, 0, remap_ipi);
	SMP_LOAD(&s, 1, spin_on_page);
	LOAD(&s.m, HANDLER, ipi);
	s.regs[0].r15 = 200;
	s.exit = exit_ipi;
	s.kicked = kicked_ipi;
	smp_run(&s, NULL);
	CHECK_EQ(s.regs[1].rcx, 0);
}

/* ---- code that another processor patches ---- */

/* vCPU 0 writes its round into the immediate of a MOV at 0x3002; vCPU 1 serializes and runs it (SDM vol. 3, 8.1.3). */
GUEST(patch, 64,
      ARRIVE "1: mov [0x3004], r15d; mov [0x7100], r15; 2: pause; cmp [0x7108], r15; jne 2b; dec r15; jnz 1b; "
	     "mov qword ptr [0x7110], 1; hlt");
#define RUN_PATCHED(name, serialize)                                                                                   \
	GUEST(name, 64,                                                                                                \
	      ARRIVE "xor r9d, r9d; xor r10d, r10d; mov r11, 0x3003; 1: pause; cmp byte ptr [0x7110], 0; jne 3f; "     \
		     "mov r8, [0x7100]; cmp r8, r10; je 1b; " serialize                                                \
		     "; call r11; cmp rax, r8; je 2f; inc r9; 2: mov r10, r8; "                                        \
		     "mov [0x7108], r8; jmp 1b; 3: hlt")
RUN_PATCHED(run_patched_cpuid, "xor eax, eax; cpuid");
RUN_PATCHED(run_patched_iret,
	    "mov rax, rsp; push 16; push rax; pushfq; push 8; lea rax, [rip + 5f]; push rax; iretq; 5:");
RUN_PATCHED(run_patched_cr, "mov rax, cr0; mov cr0, rax");

static void cross_modify(const u8 *begin, const u8 *end)
{
	struct smp s;

	smp_start(&s, 2);
	SMP_LOAD(&s, 0, patch);
	memcpy(s.m.mem + 0x1400, begin, (size_t)(end - begin));
	memcpy(s.m.mem + 0x3003, (u8[]){ 0xb8, 0, 0, 0, 0, 0xc3 }, 6); /* mov eax, imm32; ret */
	s.regs[0].r15 = 400;
	smp_run(&s, NULL);
	CHECK_EQ(s.regs[1].r9, 0);
}

TEST(cross_modifying_code)
{
	cross_modify(guest_run_patched_cpuid_begin, guest_run_patched_cpuid_end);
	cross_modify(guest_run_patched_iret_begin, guest_run_patched_iret_end);
	cross_modify(guest_run_patched_cr_begin, guest_run_patched_cr_end);
}

/*
 * Linux's text_poke_bp(): INT3 over the first byte, all serialize, the other bytes, all serialize, the first byte, all
 * serialize; vCPU 1 runs the code all the time, and must see the old instruction, the new one or the breakpoint, whose
 * handler does what the instruction would. It serializes when [0x7100] changes.
 */
#define SYNC "inc r14; mov [0x7100], r14; 9: pause; cmp [0x7108], r14; jne 9b; "
GUEST(poke, 64,
      ARRIVE "xor r14d, r14d; 1: mov byte ptr [0x3003], 0xcc; " SYNC
	     "mov eax, r15d; imul eax, eax, 0x01010101; mov [0x3004], eax; " SYNC "mov byte ptr [0x3003], 0xb8; " SYNC
	     "dec r15; jnz 1b; mov qword ptr [0x7110], 1; hlt");
GUEST(run_poked, 64,
      ARRIVE "xor r9d, r9d; xor r13d, r13d; mov r11, 0x3003; 1: call r11; movzx edx, al; imul edx, edx, 0x01010101; "
	     "cmp eax, edx; je 2f; inc r9; 2: mov r8, [0x7100]; cmp r8, [0x7108]; je 3f; xor eax, eax; cpuid; "
	     "mov [0x7108], r8; 3: cmp qword ptr [0x7110], 0; je 1b; hlt");
GUEST(breakpoint, 64, "inc r13; mov eax, 0x77777777; add qword ptr [rsp], 4; iretq");

TEST(breakpoints_while_code_is_patched)
{
	struct smp s;

	smp_start(&s, 2);
	SMP_LOAD(&s, 0, poke);
	SMP_LOAD(&s, 1, run_poked);
	LOAD(&s.m, HANDLER, breakpoint);
	memcpy(s.m.mem + 0x3003, (u8[]){ 0xb8, 0, 0, 0, 0, 0xc3 }, 6);
	s.regs[0].r15 = 255;
	smp_run(&s, NULL);
	CHECK_EQ(s.regs[1].r9, 0);
	CHECK(s.regs[1].r13 > 0);
}

/* ---- accessed and dirty bits ---- */

/*
 * vCPU 0 flushes and writes to a page; vCPU 1 clears its accessed and dirty bits with locked instructions, and counts
 * in an ignored bit that only it changes: a walk that wrote the entry back as it had read it would lose that.
 */
GUEST(touch, 64,
      ARRIVE "mov rbx, 0x400000; 1: invlpg [rbx]; mov [rbx], rcx; invlpg [rbx]; mov rax, [rbx]; dec rcx; jnz 1b; "
	     "mov qword ptr [0x7110], 1; hlt");
GUEST(age, 64,
      ARRIVE
      "xor r9d, r9d; xor r10d, r10d; 1: lock btr qword ptr [0x10000], 6; adc r10, 0; lock btr qword ptr [0x10000], 5; "
      "lock bts qword ptr [0x10000], 10; jnc 2f; inc r9; 2: mov rax, [0x10000]; mov rdx, rax; and rdx, -97; "
      "lock cmpxchg [0x10000], rdx; lock btr qword ptr [0x10000], 10; jc 3f; inc r9; "
      "3: cmp qword ptr [0x7110], 0; je 1b; hlt");

TEST(accessed_and_dirty_bits_race)
{
	struct smp s;
	u64 *pte;

	smp_start(&s, 2);
	pte = (u64 *)(s.m.mem + PTES);
	SMP_LOAD(&s, 0, touch);
	SMP_LOAD(&s, 1, age);
	s.regs[0].rcx = 100000;
	smp_run(&s, NULL);
	CHECK_EQ(s.regs[1].r9, 0);
	CHECK_EQ(*pte & ~0x60ull, WINDOW | 7);
	/* A write after the last clearing is not lost. */
	*pte &= ~0x60ull;
	s.n = 1;
	s.regs[0] = (struct kvm_regs){ .rip = 0x1000, .rcx = 1, .rflags = 2, .rsp = 0xf000 };
	smp_run(&s, NULL);
	CHECK_EQ(*pte, WINDOW | 0x67);
}

/* ---- the client meanwhile ---- */

/* Writes all over the 2 MiB at rdi, until [0x7110]. */
GUEST(scribble, 64,
      ARRIVE "1: imul r8, r8, 0x19660d; add r8, 0x3c6ef35f; mov rax, r8; shr rax, 8; and eax, 0x1ffff8; "
	     "mov [rdi + rax], r8; lock inc qword ptr [rdi + rax]; cmp qword ptr [0x7110], 0; je 1b; hlt");

#define LOGGED (32 * MIB)
static struct {
	u8 *mem, *copy;
	double end;
} logged;

/* What a migration does: log, then copy. */
static void copy_dirty(struct smp *s)
{
	u64 bitmap[8] = { 0 };
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

	OK(ioctl(s->m.vm, KVM_GET_DIRTY_LOG, &log));
	for (unsigned n = 0; n < 512; n++)
		if (bitmap[n / 64] >> n % 64 & 1)
			memcpy(logged.copy + n * PAGE, logged.mem + n * PAGE, PAGE);
}

static bool migrate(struct smp *s)
{
	copy_dirty(s);
	if (now() < logged.end)
		return true;
	*(volatile u64 *)(s->m.mem + 0x7110) = 1;
	return false;
}

TEST(dirty_log_of_concurrent_writers)
{
	struct smp s;

	smp_start(&s, 2);
	logged.mem = anon(2 * MIB);
	logged.copy = calloc(1, 2 * MIB);
	logged.end = now() + SECONDS;
	OK(set_slot(s.m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, LOGGED, 2 * MIB, logged.mem));
	for (unsigned k = 0; k < s.n; k++) {
		SMP_LOAD(&s, k, scribble);
		s.regs[k].rdi = LOGGED;
		s.regs[k].r8 = k + 1;
	}
	smp_run(&s, migrate);
	copy_dirty(&s);
	CHECK(!memcmp(logged.mem, logged.copy, 2 * MIB));
	CHECK(logged.mem[0] | logged.mem[8] | logged.mem[16]); /* it did write */
}

/*
 * A slot comes, goes and moves under guests that use it. What they read is what they last wrote there, or older, or the
 * client's answer for a place without memory.
 */
#define ABSENT 0xffffffffffffull
GUEST(use_slot, 64,
      ARRIVE "xor r9d, r9d; mov r10, 0xffffffffffff; 1: inc rcx; mov [rdi], rcx; mov rax, [rdi]; cmp rax, rcx; jbe 2f; "
	     "cmp rax, r10; je 2f; inc r9; 2: lock inc qword ptr [rdi + 0x100]; cmp qword ptr [0x7110], 0; je 1b; hlt");

static bool exit_absent(struct smp *s, unsigned cpu)
{
	struct kvm_run *run = s->run[cpu];
	u64 v = ABSENT;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.len > 8)
		return false;
	s->count[cpu]++;
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, &v, run->mmio.len);
	return true;
}

static bool move_slot(struct smp *s)
{
	static unsigned round;
	u64 gpa = LOGGED + (round & 1) * 2 * MIB;

	OK(set_slot(s->m.vm, 1, 0, gpa, 0, logged.mem));
	OK(set_slot(s->m.vm, 1, round & 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0, gpa, 2 * MIB, logged.mem));
	OK(set_slot(s->m.vm, 1, round & 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0, gpa ^ 2 * MIB, 2 * MIB, logged.mem));
	round++;
	usleep(200);
	if (now() < logged.end)
		return true;
	*(volatile u64 *)(s->m.mem + 0x7110) = 1;
	return false;
}

/* A turn is passed back and forth between vCPUs that have one processor together: who waits has to give way. */
GUEST(take_turns, 64, ARRIVE "1: pause; cmp [0x7108], rbx; jne 1b; mov [0x7108], rdi; dec rcx; jnz 1b; hlt");

TEST(spinning_gives_way)
{
	struct smp s;
	cpu_set_t all, one;
	double begin;

	CHECK(!sched_getaffinity(0, sizeof(all), &all));
	CPU_ZERO(&one);
	for (int k = 0; !CPU_COUNT(&one); k++)
		if (CPU_ISSET(k, &all))
			CPU_SET(k, &one);
	smp_start(&s, 2);
	for (unsigned k = 0; k < s.n; k++) {
		SMP_LOAD(&s, k, take_turns);
		s.regs[k].rbx = k;
		s.regs[k].rdi = !k;
		s.regs[k].rcx = 3000;
	}
	CHECK(!sched_setaffinity(0, sizeof(one), &one)); /* the threads inherit it */
	begin = now();
	smp_run(&s, NULL);
	CHECK(!sched_setaffinity(0, sizeof(all), &all));
	CHECK(now() - begin < 4); /* by the scheduler's slices: 6,000 times some milliseconds */
}

TEST(slots_move_under_running_guests)
{
	struct smp s;

	smp_start(&s, 2);
	logged.mem = anon(2 * MIB);
	logged.end = now() + SECONDS;
	OK(set_slot(s.m.vm, 1, 0, LOGGED, 2 * MIB, logged.mem));
	for (unsigned k = 0; k < s.n; k++) {
		SMP_LOAD(&s, k, use_slot);
		s.regs[k].rdi = LOGGED + 0x1000 * k;
	}
	s.exit = exit_absent;
	smp_run(&s, move_slot);
	for (unsigned k = 0; k < s.n; k++) {
		CHECK_EQ(s.regs[k].r9, 0);
		CHECK(s.count[k] > 0);
		CHECK(*(u64 *)(logged.mem + 0x1000 * k) <= s.regs[k].rcx);
		CHECK(*(u64 *)(logged.mem + 0x1000 * k) > 0);
	}
}
