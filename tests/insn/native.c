// SPDX-License-Identifier: MIT
#include "native.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "cpu/cpu.h"

/* Code that runs while FS is the case's. */
#define BARE __attribute__((noinline, no_stack_protector, no_sanitize("address", "undefined", "thread")))

extern char native_common[], native_faulted[];
void native_enter(void);

const struct mem_page mem_pages[NR_MEM_PAGES] = {
	{ DATA_BASE + 0x1000, true },  { DATA_BASE + 0x2000, true },  { DATA_BASE + 0x4000, false },
	{ DATA_BASE + 0x5000, true }, { STACK_BASE + 0x1000, true }, { STACK_BASE + 0x2000, true },
};

static struct native *native; /* for the signal handler */
static struct outcome *outcome;

static inline __attribute__((always_inline)) void *ctl(unsigned off)
{
	return (void *)(uintptr_t)(CTL_BASE + off);
}

/* ---- signals ---- */

static inline __attribute__((always_inline)) long raw_prctl(int code, u64 value)
{
	long ret;

	asm volatile("syscall" : "=a"(ret) : "a"(SYS_arch_prctl), "D"(code), "S"(value) : "rcx", "r11", "memory");
	return ret;
}

/* FS may be the case's here, and AC set: nothing of libc, and nothing misaligned before that is undone. */
static BARE void on_signal(int sig, siginfo_t *info, void *context)
{
	static const u8 order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	u64 *gpr = ctl(CTL_GPR);
	u16 *sel = ctl(CTL_SEL);

	asm volatile("pushfq; andl $~0x40000, (%%rsp); popfq" : : : "memory", "cc");
	(void)info;
	if (!native || !native->in) {
		signal(sig, SIG_DFL);
		return;
	}
	for (unsigned n = 0; n < 16; n++)
		gpr[n] = (u64)g[order[n]];
	*(u64 *)ctl(CTL_FLAGS) = (u64)g[REG_EFL];
	sel[SEG_CS] = (u16)g[REG_CSGSFS];
	sel[SEG_SS] = (u16)(g[REG_CSGSFS] >> 48);
	outcome->vector = (u8)g[REG_TRAPNO];
	outcome->error = (u32)g[REG_ERR];
	outcome->cr2 = (u64)g[REG_CR2];
	outcome->s.rip = (u64)g[REG_RIP];
	g[REG_RIP] = (greg_t)native_faulted;
	g[REG_RSP] = *(greg_t *)ctl(CTL_HOST_RSP);
	g[REG_EFL] = 0x202;
	g[REG_CSGSFS] = (greg_t)((u64)native->sel[SEG_SS] << 48 | ((u64)g[REG_CSGSFS] & 0xffffffff0000) |
				 native->sel[SEG_CS]);
}

static int catch_signals(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	static u8 stack[65536] __attribute__((aligned(64)));
	stack_t alt = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (sigaltstack(&alt, NULL))
		return -1;
	for (unsigned n = 0; n < ARRAY_SIZE(sigs); n++)
		if (sigaction(sigs[n], &sa, NULL))
			return -1;
	return 0;
}

/* ---- memory ---- */

static void *map_at(u32 linear, size_t size, int prot, int fd, off_t off)
{
	int flags = MAP_FIXED_NOREPLACE | MAP_POPULATE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	void *want = (void *)(uintptr_t)linear;

	return mmap(want, size, prot, flags, fd, off) == want ? want : NULL;
}

/* Each end of the code notes which one it is, and goes on to native_common. */
static void make_exits(u8 *page)
{
	for (u32 n = 0; n < NR_EXITS; n++) {
		u8 *p = page + n * EXIT_SPACING;
		u32 at = CTL_BASE + CTL_EXIT, common = CTL_BASE + CTL_COMMON;

		memcpy(p, "\xc7\x04\x25", 3); /* mov dword [at], n */
		memcpy(p + 3, &at, 4);
		memcpy(p + 7, &n, 4);
		memcpy(p + 11, "\xff\x24\x25", 3); /* jmp qword [common] */
		memcpy(p + 14, &common, 4);
	}
	*(u64 *)ctl(CTL_COMMON) = (u64)native_common;
}

static int make_memory(struct native *n)
{
	size_t code = CODE_PAGES * 4096;
	int fd = memfd_create("insn", 0);
	u8 *all, *exits;

	if (fd < 0 || ftruncate(fd, (off_t)(MEM_SIZE + code)))
		return -1;
	all = mmap(NULL, MEM_SIZE + code, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (all == MAP_FAILED)
		return -1;
	n->mem = all;
	n->code = all + MEM_SIZE;
	for (unsigned k = 0; k < NR_MEM_PAGES; k++)
		if (!map_at(mem_pages[k].linear, 4096, PROT_READ | (mem_pages[k].writable ? PROT_WRITE : 0), fd,
			    (off_t)k * 4096))
			return -1;
	if (!map_at(CODE_BASE, code, PROT_READ | PROT_EXEC, fd, MEM_SIZE))
		return -1;
	if (!map_at(CTL_BASE, CTL_SIZE, PROT_READ | PROT_WRITE, -1, 0))
		return -1;
	exits = map_at(EXIT_BASE, 4096, PROT_READ | PROT_WRITE, -1, 0);
	if (!exits)
		return -1;
	make_exits(exits);
	close(fd);
	return mprotect(exits, 4096, PROT_READ | PROT_EXEC);
}

static bool has_ymm_at_576(void)
{
	unsigned a, b, c, d, xcr0, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return false;
	asm volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
	__cpuid_count(0xd, 2, a, b, c, d);
	return (xcr0 & 7) == 7 && a == 256 && b == 576;
}

/* AT_HWCAP2 tells of it, but not under every hypervisor. */
static bool probe_fsgsbase(struct native *n)
{
	static const u8 code[] = { 0xf3, 0x48, 0x0f, 0xae, 0xc0, 0xcc }; /* rdfsbase rax; int3 */
	static struct test_case t;
	static struct outcome o;

	memcpy(n->code, code, sizeof(code));
	t.in.rip = CODE_BASE;
	t.in.rflags = 0x202;
	t.in.gpr[RSP] = STACK_BASE + 0x2000;
	native_run(n, &t, &o);
	return o.vector == VEC_BP;
}

int native_init(struct native *n, const char **why)
{
	*why = NULL;
	if (!has_ymm_at_576())
		*why = "this CPU or its kernel has no AVX state";
	else if (make_memory(n))
		*why = "the memory at fixed addresses cannot be had";
	else if (catch_signals())
		*why = "signals cannot be caught";
	if (*why)
		return -1;
	asm("mov %%es, %0" : "=r"(n->sel[SEG_ES]));
	asm("mov %%cs, %0" : "=r"(n->sel[SEG_CS]));
	asm("mov %%ss, %0" : "=r"(n->sel[SEG_SS]));
	asm("mov %%ds, %0" : "=r"(n->sel[SEG_DS]));
	asm("mov %%fs, %0" : "=r"(n->sel[SEG_FS]));
	asm("mov %%gs, %0" : "=r"(n->sel[SEG_GS]));
	raw_prctl(ARCH_SET_GS, GS_BASE);
	native = n;
	n->fsgsbase = probe_fsgsbase(n);
	return 0;
}

u32 native_lar(u16 sel, u32 *limit)
{
	u32 rights = 0;
	bool ok;

	*limit = 0;
	asm("lar %2, %0" : "+r"(rights), "=@ccz"(ok) : "r"((u32)sel));
	if (!ok)
		return 0;
	asm("lsl %2, %0" : "+r"(*limit), "=@ccz"(ok) : "r"((u32)sel));
	return rights;
}

/* ---- a case ---- */

static void set_frame(const struct native *n, const struct test_case *t)
{
	u64 *frame = ctl(CTL_FRAME);

	frame[0] = t->in.rip - (u64)(s64)t->twin_ahead;
	frame[1] = n->sel[SEG_CS];
	frame[2] = t->in.rflags;
	frame[3] = t->in.gpr[RSP];
	frame[4] = n->sel[SEG_SS];
}

/* Between the two, FS is the case's. */
static BARE void run_with_fs(const struct test_case *t)
{
	u64 fs = 0;

	if (t->uses_fs || t->loads_seg) {
		raw_prctl(ARCH_GET_FS, (u64)&fs);
		raw_prctl(ARCH_SET_FS, FS_BASE);
	}
	native_enter();
	if (t->uses_fs || t->loads_seg) {
		raw_prctl(ARCH_SET_FS, fs);
		raw_prctl(ARCH_SET_GS, GS_BASE);
	}
}

void native_run(struct native *n, const struct test_case *t, struct outcome *o)
{
	o->vector = NO_FAULT;
	o->error = 0;
	o->cr2 = 0;
	o->s.rip = 0;
	outcome = o;
	memcpy(ctl(CTL_GPR), t->in.gpr, sizeof(t->in.gpr));
	memcpy(ctl(CTL_XSAVE), t->in.xsave, XSAVE_IMAGE);
	set_frame(n, t);
	n->in = true;
	run_with_fs(t);
	n->in = false;
	memcpy(o->s.gpr, ctl(CTL_GPR), sizeof(o->s.gpr));
	memcpy(o->s.sel, ctl(CTL_SEL), sizeof(o->s.sel));
	memcpy(o->s.xsave, ctl(CTL_XSAVE), XSAVE_IMAGE);
	o->s.rflags = *(u64 *)ctl(CTL_FLAGS);
	o->exit = o->vector == NO_FAULT ? *(u32 *)ctl(CTL_EXIT) : 0;
	if (o->vector != 14)
		o->cr2 = 0;
	if (o->s.rip == t->in.rip - (u64)(s64)t->twin_ahead)
		o->s.rip = t->in.rip;
}
