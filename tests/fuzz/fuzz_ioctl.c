// SPDX-License-Identifier: MIT
/*
 * Random clients of libukvm: ioctls of every kind in any order, with arguments that are sound, nearly so, or not
 * pointers at all; descriptors closed and duplicated, memory unmapped under slots, kvm_run scribbled on; small guests
 * that do what they like; in some inputs two threads at once. Every call ends in a result or a documented errno, a SET
 * that failed has changed nothing, a state that was read can be written back, and nothing is left when all is closed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <ukvm/ukvm.h>
#include <unistd.h>

#include "insn/insn.h"

#include "fuzz.h"
#include "guest.h"

#define TICK_NS 500000
#define FDS 12
#define POOLS 4
#define POOL_BYTES 0x10000u
#define OPS 48
#ifdef THREAD_SANITIZER
#define MAPS_SLACK 1000 /* its own shadow comes apart where memory is unmapped */
#else
#define MAPS_SLACK 64
#endif

enum class { SYS, VM, VCPU };

static const struct {
	u8 class;
	u32 request;
	const char *name;
} rows[] = {
#define IOCTL(class, request, handler, argument, since, text) { class, (u32)request, #request },
#include "kvm/ioctls.def"
#undef IOCTL
};

/* The documented errnos (docs/api.md), and those of a descriptor that is none of ours or gone. */
static const int errnos[] = { EINVAL, EFAULT, EBADF, ENOTTY, EEXIST, ENOENT, E2BIG,  ENOMEM, EINTR,
			      EAGAIN, ENXIO,  EBUSY, EMFILE, ENOSPC, EPERM,  EACCES, EIO,    EOPNOTSUPP };

/* What all threads of one input share: the kernel says which descriptors still exist. */
struct world {
	int kvm;
	struct {
		int fd;
		struct kvm_run *run;
	} slot[FDS];
	u8 class[FDS];
	u8 *pool[POOLS];
	size_t run_size;
	int eventfd;
	bool threads; /* another thread may change state between two calls */
};

struct client {
	struct world *w;
	struct choices in;
	u8 *page; /* followed by one that cannot be accessed */
	timer_t timer;
};

static int call(int fd, unsigned long request, const void *arg)
{
	int ret = ukvm_ioctl(fd, request, arg), err = errno;

	if (ret >= 0)
		return ret;
	for (unsigned n = 0; n < ARRAY_SIZE(errnos); n++)
		if (err == errnos[n])
			return -err;
	fuzz_fail("ioctl %lx: errno %d (%s)", request, err, strerror(err));
}

/* ---- arguments ---- */

static void fill_words(struct choices *in, u8 *arg, unsigned size)
{
	for (unsigned at = 0; at + 4 <= size; at += 4) {
		u32 v = one_in(in, 3) ? (u32)pick_value(in) : 0;

		memcpy(arg + at, &v, 4);
	}
}

static u64 some_gpa(struct choices *in)
{
	static const u64 gpas[] = { 0,          0x10000,     0x20000,    0xf0000,    0x100000,
				    0xfffe0000, 0x100000000, 1ull << 45, ~0xffffull, 0x1800 };

	return PICK_OF(in, gpas);
}

static u64 some_size(struct choices *in)
{
	static const u64 sizes[] = { POOL_BYTES, POOL_BYTES, POOL_BYTES, 0x1000, 0, 0, 0x1001, 1ull << 40, ~0ull };

	return PICK_OF(in, sizes);
}

static u64 some_pointer(struct client *c)
{
	struct choices *in = &c->in;

	switch (pick(in, 10)) {
	case 0:
		return 0;
	case 1:
		return 0xffff800000000000;
	case 2:
		return (u64)(uintptr_t)c->page + PAGE_SIZE - pick(in, 64);
	case 3:
		return pick_value(in);
	default:
		return (u64)(uintptr_t)c->w->pool[pick(in, POOLS)] + (one_in(in, 4) ? pick(in, POOL_BYTES) : 0);
	}
}

static void fill_region(struct client *c, u8 *arg)
{
	struct kvm_userspace_memory_region r = {
		.slot = one_in(&c->in, 8) ? (u32)pick_value(&c->in) : pick(&c->in, 4),
		.flags = one_in(&c->in, 8) ? (u32)pick_value(&c->in) : pick(&c->in, 4),
		.guest_phys_addr = some_gpa(&c->in),
		.memory_size = some_size(&c->in),
		.userspace_addr = some_pointer(c) & (one_in(&c->in, 8) ? ~0ull : PAGE_MASK),
	};

	memcpy(arg, &r, sizeof(r));
}

static void fill_alias(struct client *c, u8 *arg)
{
	struct kvm_memory_alias a = { .slot = pick(&c->in, 5),
				      .guest_phys_addr = some_gpa(&c->in),
				      .memory_size = some_size(&c->in),
				      .target_phys_addr = some_gpa(&c->in) };

	memcpy(arg, &a, sizeof(a));
}

static void fill_msrs(struct client *c, u8 *arg)
{
	static const u32 index[] = { 0x10,       0x1b,       0x3a,       0x174,      0x176,      0x1a0,      0x1d9,
				     0x277,      0x2ff,      0x400,      0xda0,      0xc0000080, 0xc0000081, 0xc0000082,
				     0xc0000100, 0xc0000103, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x12345 };
	struct kvm_msrs *m = (struct kvm_msrs *)arg;

	m->nmsrs = one_in(&c->in, 8) ? (u32)pick_value(&c->in) : pick(&c->in, 8);
	for (unsigned n = 0; n < 8; n++)
		m->entries[n] = (struct kvm_msr_entry){ .index = PICK_OF(&c->in, index), .data = pick_value(&c->in) };
}

static void fill_cpuid(struct client *c, u8 *arg)
{
	struct kvm_cpuid2 *k = (struct kvm_cpuid2 *)arg;

	if (one_in(&c->in, 2)) {
		k->nent = 90;
		call(c->w->kvm, KVM_GET_SUPPORTED_CPUID, k);
	}
	if (one_in(&c->in, 2))
		k->nent = one_in(&c->in, 3) ? (u32)pick_value(&c->in) : pick(&c->in, 90);
	if (k->nent <= 90 && k->nent && one_in(&c->in, 2))
		fill_words(&c->in, (u8 *)&k->entries[pick(&c->in, k->nent)], sizeof(k->entries[0]));
}

/* Never the signal that ends KVM_RUN. */
static void fill_signal_mask(struct client *c, u8 *arg)
{
	u32 len = one_in(&c->in, 4) ? (u32)pick_value(&c->in) : 8;
	u64 mask = (one_in(&c->in, 2) ? 0 : pick64(&c->in)) & ~BIT64(SIGRTMIN - 1) & ~BIT64(SIGALRM - 1);

	memcpy(arg, &len, 4);
	memcpy(arg + 4, &mask, 8);
}

static void fill_ioeventfd(struct client *c, u8 *arg)
{
	struct kvm_ioeventfd e = { .datamatch = pick_value(&c->in),
				   .addr = one_in(&c->in, 2) ? pick(&c->in, 65536) : some_gpa(&c->in) + 0x8000,
				   .len = PICK_OF(&c->in, ((const u8[]){ 0, 1, 2, 4, 8, 3 })),
				   .fd = one_in(&c->in, 4) ? (s32)pick_value(&c->in) : c->w->eventfd,
				   .flags = pick(&c->in, 16) };

	memcpy(arg, &e, sizeof(e));
}

static void fill_filter(struct client *c, u8 *arg)
{
	struct kvm_msr_filter f = { .flags = pick(&c->in, 2) };

	for (unsigned n = 0; n < pick(&c->in, KVM_MSR_FILTER_MAX_RANGES + 1); n++)
		f.ranges[n] = (struct kvm_msr_filter_range){ .flags = pick(&c->in, 4),
							     .nmsrs = one_in(&c->in, 4) ? (u32)pick_value(&c->in)
											: pick(&c->in, 256),
							     .base = (u32)pick_value(&c->in),
							     .bitmap = (u8 *)(uintptr_t)some_pointer(c) };
	memcpy(arg, &f, sizeof(f));
}

static void fill_dirty_log(struct client *c, u8 *arg)
{
	struct kvm_dirty_log d = { .slot = pick(&c->in, 4), .dirty_bitmap = (void *)(uintptr_t)some_pointer(c) };

	memcpy(arg, &d, sizeof(d));
}

/* The state as it is with a few words changed. */
static void fill_state(struct client *c, int fd, u32 get, u8 *arg, unsigned size)
{
	if (call(fd, get, arg) < 0)
		return;
	for (unsigned n = pick(&c->in, 4); n; n--) {
		unsigned at = pick(&c->in, size / 4) * 4;
		u32 v;

		memcpy(&v, arg + at, 4);
		v = one_in(&c->in, 2) ? v ^ BIT(pick(&c->in, 32)) : (u32)pick_value(&c->in);
		memcpy(arg + at, &v, 4);
	}
}

static const struct {
	u32 set, get;
} pairs[] = {
	{ KVM_SET_REGS, KVM_GET_REGS },           { KVM_SET_SREGS, KVM_GET_SREGS },
	{ KVM_SET_SREGS2, KVM_GET_SREGS2 },       { KVM_SET_FPU, KVM_GET_FPU },
	{ KVM_SET_XSAVE, KVM_GET_XSAVE },         { KVM_SET_XCRS, KVM_GET_XCRS },
	{ KVM_SET_DEBUGREGS, KVM_GET_DEBUGREGS }, { KVM_SET_VCPU_EVENTS, KVM_GET_VCPU_EVENTS },
	{ KVM_SET_MP_STATE, KVM_GET_MP_STATE },
};

static u32 getter(u32 set)
{
	for (unsigned n = 0; n < ARRAY_SIZE(pairs); n++)
		if (pairs[n].set == set)
			return pairs[n].get;
	return 0;
}

static void fill(struct client *c, int fd, u32 request, u8 *arg, unsigned size)
{
	switch (request) {
	case KVM_SET_MEMORY_REGION:
	case KVM_SET_USER_MEMORY_REGION:
		fill_region(c, arg);
		break;
	case KVM_SET_MEMORY_ALIAS:
		fill_alias(c, arg);
		break;
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		fill_msrs(c, arg);
		break;
	case KVM_SET_CPUID2:
	case KVM_GET_CPUID2:
	case KVM_SET_CPUID:
	case KVM_GET_SUPPORTED_CPUID:
	case KVM_GET_EMULATED_CPUID:
		fill_cpuid(c, arg);
		break;
	case KVM_SET_SIGNAL_MASK:
		fill_signal_mask(c, arg);
		break;
	case KVM_IOEVENTFD:
		fill_ioeventfd(c, arg);
		break;
	case KVM_X86_SET_MSR_FILTER:
		fill_filter(c, arg);
		break;
	case KVM_GET_DIRTY_LOG:
		fill_dirty_log(c, arg);
		break;
	default:
		if (getter(request))
			fill_state(c, fd, getter(request), arg, size);
		else
			fill_words(&c->in, arg, size);
	}
}

/* ---- what a client does ---- */

static unsigned any_slot(struct client *c, enum class class)
{
	for (unsigned tries = 0; tries < 4; tries++) {
		unsigned n = pick(&c->in, FDS);

		if (c->w->slot[n].fd >= 0 && c->w->class[n] == class)
			return n;
	}
	return pick(&c->in, FDS);
}

static size_t file_size(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (size_t)st.st_size;
}

static void keep(struct client *c, int fd, enum class class)
{
	unsigned n = pick(&c->in, FDS);
	struct world *w = c->w;

	if (fd < 0)
		return;
	for (unsigned k = 0; k < FDS; k++, n = (n + 1) % FDS) {
		int none = -1;

		if (!__atomic_compare_exchange_n(&w->slot[n].fd, &none, fd, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
		w->class[n] = class;
		/*
		 * A kvm_run outlives its descriptor, here until the place is taken again: it is not the new vCPU's.
		 * With threads the other one may be in it, and what a run left there is not looked at.
		 */
		if (w->slot[n].run && !w->threads) {
			munmap(w->slot[n].run, w->run_size);
			w->slot[n].run = NULL;
		}
		/* With threads the number may have become another file's: touching its mapping would be SIGBUS. */
		if (class == VCPU && !w->slot[n].run && !one_in(&c->in, 8) && file_size(fd) >= w->run_size) {
			struct kvm_run *run = mmap(NULL, w->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			struct kvm_run *no_run = NULL;

			/* The place may have been left and taken again meanwhile, with a mapping. */
			if (run != MAP_FAILED && !__atomic_compare_exchange_n(&w->slot[n].run, &no_run, run, false,
									      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				munmap(run, w->run_size);
		}
		return;
	}
	ukvm_close(fd);
}

static void close_one(struct client *c)
{
	unsigned n = pick(&c->in, FDS);
	int fd = __atomic_exchange_n(&c->w->slot[n].fd, -1, __ATOMIC_SEQ_CST);

	if (fd < 0)
		return;
	if (one_in(&c->in, 2))
		ukvm_close(fd);
	else
		close(fd);
}

/* A SET that fails has no effect. */
static void checked_set(struct client *c, int fd, u32 request, const void *arg)
{
	static __thread u8 before[4096], after[4096];
	u32 get = getter(request);
	int ret;

	memset(before, 0, sizeof(before));
	memset(after, 0, sizeof(after));
	if (!get || c->w->threads || call(fd, get, before) < 0) {
		call(fd, request, arg);
		return;
	}
	ret = call(fd, request, arg);
	if (ret < 0 && call(fd, get, after) >= 0 && memcmp(before, after, sizeof(before)))
		fuzz_fail("ioctl %x failed (%d) and changed state", request, ret);
}

static void random_ioctl(struct client *c)
{
	unsigned row = pick(&c->in, ARRAY_SIZE(rows));
	u32 request = rows[row].request, size = _IOC_SIZE(request);
	int fd = c->w->slot[one_in(&c->in, 16) ? pick(&c->in, FDS) : any_slot(c, rows[row].class)].fd, ret;
	u8 *arg = c->page;

	if (request == KVM_RUN)
		return;
	if (request == KVM_CREATE_VCPU) {
		ret = call(fd, request, (void *)(uintptr_t)(one_in(&c->in, 4) ? pick_value(&c->in) : pick(&c->in, 6)));
		keep(c, ret, VCPU);
		return;
	}
	if (request == KVM_CREATE_VM) {
		keep(c, call(fd, request, (void *)(uintptr_t)(one_in(&c->in, 6) ? pick_value(&c->in) : 0)), VM);
		return;
	}
	memset(arg, 0, PAGE_SIZE);
	fill(c, fd, request, arg, size ? size : 8);
	if (one_in(&c->in, 8) && size && size <= PAGE_SIZE && request != KVM_SET_SIGNAL_MASK) {
		u8 *end = c->page + PAGE_SIZE - size + (one_in(&c->in, 2) ? pick(&c->in, size < 16 ? size : 16) : 0);

		memmove(end, arg, (size_t)(c->page + PAGE_SIZE - end));
		arg = end;
	}
	if (one_in(&c->in, 10) && request != KVM_SET_SIGNAL_MASK)
		arg = (u8 *)(uintptr_t)some_pointer(c);
	if (!size && request != KVM_SET_SIGNAL_MASK)
		arg = (u8 *)(uintptr_t)pick_value(&c->in);
	if (arg == c->page && getter(request))
		checked_set(c, fd, request, arg);
	else
		call(fd, request, arg);
}

/* Where a guest starts: real mode at the beginning of some memory, or wherever it is. */
static void place_guest(struct client *c)
{
	struct world *w = c->w;
	unsigned vm = any_slot(c, VM), cpu = any_slot(c, VCPU), pool = pick(&c->in, POOLS);
	struct kvm_userspace_memory_region r = { .memory_size = POOL_BYTES,
						 .flags = pick(&c->in, 3),
						 .userspace_addr = (u64)(uintptr_t)w->pool[pool] };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = 0x1000, .rsp = 0x8000, .rflags = 2 };
	u8 bytes[64];

	/* change_memory() may have been here. */
	mmap(w->pool[pool], 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	for (unsigned at = 0x1000; at < 0x1100;) {
		unsigned n = guest_insn(&c->in, one_in(&c->in, 16) ? DECODE_32 : DECODE_16_REAL, bytes);

		memcpy(w->pool[pool] + at, bytes, n);
		at += n;
	}
	memcpy(w->pool[pool] + 0x1100, "\xe9\xfd\xfe", 3); /* jmp 0x1000 */
	call(w->slot[vm].fd, KVM_SET_USER_MEMORY_REGION, &r);
	if (call(w->slot[cpu].fd, KVM_GET_SREGS, &sregs) < 0)
		return;
	sregs.cs.base = sregs.cs.selector = 0;
	if (one_in(&c->in, 3)) {
		sregs.cr0 |= 1;
		sregs.cs.db = sregs.cs.g = sregs.ss.db = pick(&c->in, 2);
		sregs.cs.limit = ~0u;
	}
	call(w->slot[cpu].fd, KVM_SET_SREGS, &sregs);
	for (unsigned n = 0; n < 8; n++)
		((u64 *)&regs)[n] = one_in(&c->in, 2) ? pick_value(&c->in) : pick(&c->in, 65536);
	regs.rsp = 0x8000;
	call(w->slot[cpu].fd, KVM_SET_REGS, &regs);
}

static void check_run(const struct kvm_run *run, int ret, size_t size)
{
	if (ret == -EFAULT || ret == -EINVAL || ret == -EBADF || ret == -ENOTTY || ret == -ENXIO || ret == -EIO)
		return;
	if (ret < 0 && ret != -EINTR && ret != -EAGAIN)
		fuzz_fail("KVM_RUN: %d", ret);
	if (!run || ret < 0)
		return;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (run->io.data_offset + (u64)run->io.size * run->io.count > size || !run->io.count ||
		    (run->io.size != 1 && run->io.size != 2 && run->io.size != 4))
			fuzz_fail("KVM_EXIT_IO of %u times %u bytes", run->io.count, run->io.size);
		break;
	case KVM_EXIT_MMIO:
		if (!run->mmio.len || run->mmio.len > 8)
			fuzz_fail("KVM_EXIT_MMIO of %u bytes", run->mmio.len);
		break;
	case KVM_EXIT_UNKNOWN:
		fuzz_fail("KVM_EXIT_UNKNOWN");
	default:
		break;
	}
}

static void run_some(struct client *c)
{
	unsigned n = any_slot(c, VCPU);
	struct world *w = c->w;

	for (unsigned k = pick(&c->in, 3) + 1; k; k--) {
		struct kvm_run *run = w->slot[n].run;
		int ret;

		if (run && one_in(&c->in, 8))
			run->immediate_exit = (u8)pick(&c->in, 2);
		ret = call(w->slot[n].fd, KVM_RUN, one_in(&c->in, 32) ? c->page : NULL);
		if (w->threads)
			continue;
		check_run(run, ret, w->run_size);
		if (run && !ret && run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
			for (unsigned b = 0; b < 8; b++)
				run->mmio.data[b] = pick8(&c->in);
		if (run && !ret && run->exit_reason == KVM_EXIT_SHUTDOWN)
			break;
	}
}

static void change_memory(struct client *c)
{
	u8 *pool = c->w->pool[pick(&c->in, POOLS)] + (one_in(&c->in, 2) ? PAGE_SIZE * pick(&c->in, 16) : 0);
	size_t size = PAGE_SIZE;

	switch (pick(&c->in, 4)) {
	case 0:
		mmap(pool, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 1:
		mprotect(pool, size, PROT_READ);
		break;
	case 2:
		madvise(pool, size, MADV_DONTNEED);
		break;
	default:
		mmap(pool, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
}

static void scribble(struct client *c)
{
	unsigned n = any_slot(c, VCPU);
	struct kvm_run *run = c->w->slot[n].run;

	if (!run)
		return;
	for (unsigned k = 0; k < 8; k++) {
		u64 v = pick_value(&c->in);

		memcpy((u8 *)run + 8 * pick(&c->in, sizeof(*run) / 8), &v, 8);
	}
}

/* What was read can be written back. */
static void write_back(struct client *c)
{
	static __thread u8 state[4096];
	int fd = c->w->slot[any_slot(c, VCPU)].fd;
	const struct kvm_sregs *sregs = (const struct kvm_sregs *)state;
	unsigned n = pick(&c->in, ARRAY_SIZE(pairs));
	int ret;

	if (c->w->threads)
		return;
	memset(state, 0, sizeof(state));
	if (call(fd, pairs[n].get, state) < 0)
		return;
	/* The kernel's KVM refuses these two as well: CS.L, and an EFER, that CPUID or the mode do not go with. */
	if ((pairs[n].get == KVM_GET_SREGS || pairs[n].get == KVM_GET_SREGS2) && sregs->cs.l && !(sregs->efer & 0x400))
		return;
	ret = call(fd, pairs[n].set, state);
	if (ret < 0)
		fuzz_fail("ioctl %x refuses what %x gave: %d", pairs[n].set, pairs[n].get, ret);
}

static void act(struct client *c)
{
	struct world *w = c->w;

	switch (pick(&c->in, 16)) {
	case 0:
		close_one(c);
		break;
	case 1:
		keep(c, ukvm_open(), SYS);
		break;
	case 2: {
		unsigned n = pick(&c->in, FDS);
		int fd = w->slot[n].fd;

		if (fd >= 0)
			keep(c, dup(fd), w->class[n]);
		break;
	}
	case 3:
		change_memory(c);
		break;
	case 4:
		scribble(c);
		break;
	case 5:
	case 6:
		run_some(c);
		break;
	case 7:
		write_back(c);
		break;
	case 8:
		if (!w->threads) {
			place_guest(c);
			run_some(c);
		}
		break;
	default:
		random_ioctl(c);
	}
}

/* ---- one input ---- */

#ifdef THREAD_SANITIZER
const char *__tsan_default_suppressions(void) __attribute__((visibility("default")));

/* The threads close, copy and use each other's descriptors: that is what is tried. Only libc's functions tell. */
const char *__tsan_default_suppressions(void)
{
	return "race_top:dup\n";
}
#endif

static void on_tick(int sig)
{
	(void)sig;
}

static void client_start(struct client *c, struct world *w)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN };
	struct itimerspec tick = { { 0, TICK_NS }, { 0, TICK_NS } };

	c->w = w;
	c->page = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->page == MAP_FAILED || mprotect(c->page + PAGE_SIZE, PAGE_SIZE, PROT_NONE))
		fuzz_fail("no memory");
	ev._sigev_un._tid = (int)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &ev, &c->timer) || timer_settime(c->timer, 0, &tick, NULL))
		fuzz_fail("no timer");
}

static void client_end(struct client *c)
{
	timer_delete(c->timer);
	munmap(c->page, 2 * PAGE_SIZE);
}

static void *other_thread(void *arg)
{
	struct client *c = arg;

	client_start(c, c->w);
	for (unsigned n = 0; n < OPS; n++)
		act(c);
	client_end(c);
	return NULL;
}

static unsigned count_lines(const char *path, bool directory)
{
	unsigned n = 0;

	if (directory) {
		DIR *d = opendir(path);

		while (d && readdir(d))
			n++;
		closedir(d);
	} else {
		FILE *f = fopen(path, "re");

		for (int ch; (ch = getc(f)) != EOF;)
			n += ch == '\n';
		fclose(f);
	}
	return n;
}

/* Another thread's last reference to a file may go a moment after pthread_join(). */
static bool all_closed(unsigned fds)
{
	for (unsigned ms = 0; ms < 500; ms++) {
		if (count_lines("/proc/self/fd", true) == fds)
			return true;
		usleep(1000);
		ukvm_close(ukvm_open());
	}
	return false;
}

static void leaked(unsigned fds)
{
	unsigned after = count_lines("/proc/self/fd", true);
	DIR *d = opendir("/proc/self/fd");

	for (struct dirent *e; (e = readdir(d));) {
		char path[300], to[128];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n > 0)
			fprintf(stderr, "%s: %.*s\n", e->d_name, (int)n, to);
	}
	closedir(d);
	fuzz_fail("%u descriptors before, %u after", fds, after);
}

static void check_leaks(unsigned fds)
{
	static unsigned inputs, maps;
	unsigned slack = MAPS_SLACK;

	if (!all_closed(fds))
		leaked(fds);
	if (++inputs == 50)
		maps = count_lines("/proc/self/maps", false);
#ifdef LIBFUZZER
	slack += inputs / 100; /* it keeps what it has found; 65 mappings after 13,650 inputs were seen */
#endif
	if (inputs > 50 && inputs % 50 == 0 && count_lines("/proc/self/maps", false) > maps + slack)
		fuzz_fail("%u mappings after 50 inputs, %u after %u", maps, count_lines("/proc/self/maps", false),
			  inputs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .kvm = -1 };
	struct client c = { 0 }, second = { 0 };
	struct sigaction sa = { .sa_handler = on_tick };
	unsigned fds = count_lines("/proc/self/fd", true);
	pthread_t other;

	sigaction(SIGRTMIN, &sa, NULL);
	choices_start(&c.in, data, size);
	w.threads = one_in(&c.in, 4);
	for (unsigned n = 0; n < FDS; n++)
		w.slot[n].fd = -1;
	for (unsigned n = 0; n < POOLS; n++)
		w.pool[n] = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	w.kvm = ukvm_open();
	w.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w.run_size = (size_t)call(w.kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	client_start(&c, &w);
	keep(&c, call(w.kvm, KVM_CREATE_VM, NULL), VM);
	for (unsigned n = 0; n < FDS; n++)
		if (w.slot[n].fd >= 0 && w.class[n] == VM) {
			keep(&c, call(w.slot[n].fd, KVM_CREATE_VCPU, NULL), VCPU);
			break;
		}
	/* Choices of its own, from what the first had so far. */
	second.w = &w;
	second.in = c.in;
	second.in.seed ^= 0x5555;
	second.in.at = second.in.end;
	if (w.threads && pthread_create(&other, NULL, other_thread, &second))
		w.threads = false;
	for (unsigned n = 0; n < OPS; n++)
		act(&c);
	if (w.threads)
		pthread_join(other, NULL);
	client_end(&c);
	for (unsigned n = 0; n < FDS; n++) {
		if (w.slot[n].run)
			munmap(w.slot[n].run, w.run_size);
		if (w.slot[n].fd >= 0)
			close(w.slot[n].fd);
	}
	for (unsigned n = 0; n < POOLS; n++)
		munmap(w.pool[n], POOL_BYTES);
	close(w.eventfd);
	ukvm_close(w.kvm);
	check_leaks(fds);
	return 0;
}
