// SPDX-License-Identifier: MIT
/*
 * syscall(): clients whose language or C library lacks a wrapper make these calls by number. The numbers whose
 * functions are ours go to those; everything else is the next library's, by a jump: what clone() and vfork() return to
 * is the caller's stack, and not a frame of ours.
 */
#include "client/preload.h"

#include <linux/openat2.h>
#include <string.h>

#include "os/sys.h"

long syscall_by_function(long nr, long a, long b, long c, long d, long e, long f);

static int rt_sigaction(int sig, const struct kernel_action *new, struct kernel_action *old, size_t size)
{
	struct sigaction act = { 0 }, was;
	int ret;

	if (size != sizeof(u64))
		return edge(-EINVAL);
	if (new) {
		act.sa_handler = new->handler;
		act.sa_flags = (int)new->flags;
		memcpy(&act.sa_mask, &new->mask, sizeof(new->mask));
	}
	ret = sigaction(sig, new ? &act : NULL, old ? &was : NULL);
	if (!ret && old) {
		*old = (struct kernel_action){ .handler = was.sa_handler, .flags = (u32)was.sa_flags };
		memcpy(&old->mask, &was.sa_mask, sizeof(old->mask));
	}
	return ret;
}

static int rt_sigprocmask(int how, const u64 *set, u64 *old, size_t size)
{
	sigset_t wide = { 0 }, was;
	int ret;

	if (size != sizeof(u64))
		return edge(-EINVAL);
	if (set)
		memcpy(&wide, set, sizeof(*set));
	ret = sigprocmask(how, set ? &wide : NULL, &was);
	if (!ret && old)
		memcpy(old, &was, sizeof(*old));
	return ret;
}

static int openat2(int dirfd, const char *path, const struct open_how *how, size_t size)
{
	if (size >= sizeof(*how) && path_is_kvm(dirfd, path))
		return open_kvm((int)how->flags);
	return (int)next()->syscall_(SYS_openat2, dirfd, path, how, size);
}

#define LAST SYS_faccessat2 /* the highest number of these */

/* clang-format off */
#define P(n) ((void *)(n))
#define CALLS(CALL)                                                          \
	CALL(SYS_access, access(P(a), (int)b))                               \
	CALL(SYS_close, close((int)a))                                       \
	CALL(SYS_close_range, close_range((u32)a, (u32)b, (int)c))           \
	CALL(SYS_creat, creat(P(a), (mode_t)b))                              \
	CALL(SYS_dup, dup((int)a))                                           \
	CALL(SYS_dup2, dup2((int)a, (int)b))                                 \
	CALL(SYS_dup3, dup3((int)a, (int)b, (int)c))                         \
	CALL(SYS_faccessat, faccessat((int)a, P(b), (int)c, 0))              \
	CALL(SYS_faccessat2, faccessat((int)a, P(b), (int)c, (int)d))        \
	CALL(SYS_fcntl, fcntl((int)a, (int)b, c))                            \
	CALL(SYS_fstat, fstat((int)a, P(b)))                                 \
	CALL(SYS_ioctl, ioctl((int)a, (unsigned long)b, c))                  \
	CALL(SYS_lstat, lstat(P(a), P(b)))                                   \
	CALL(SYS_mmap, (long)mmap(P(a), (size_t)b, (int)c, (int)d, (int)e, f)) \
	CALL(SYS_munmap, munmap(P(a), (size_t)b))                            \
	CALL(SYS_newfstatat, fstatat((int)a, P(b), P(c), (int)d))            \
	CALL(SYS_open, open(P(a), (int)b, (mode_t)c))                        \
	CALL(SYS_openat, openat((int)a, P(b), (int)c, (mode_t)d))            \
	CALL(SYS_openat2, openat2((int)a, P(b), P(c), (size_t)d))            \
	CALL(SYS_readlink, readlink(P(a), P(b), (size_t)c))                  \
	CALL(SYS_readlinkat, readlinkat((int)a, P(b), P(c), (size_t)d))      \
	CALL(SYS_rt_sigaction, rt_sigaction((int)a, P(b), P(c), (size_t)d))  \
	CALL(SYS_rt_sigprocmask, rt_sigprocmask((int)a, P(b), P(c), (size_t)d)) \
	CALL(SYS_stat, stat(P(a), P(b)))                                     \
	CALL(SYS_statx, statx((int)a, P(b), (int)c, (u32)d, P(e)))
/* clang-format on */

static long by_function(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
#define CALL(number, call)                                                                                             \
	case number:                                                                                                   \
		return call;
		CALLS(CALL)
#undef CALL
	}
	return edge(-ENOSYS);
}

/*
 * Called as syscall() was: arguments that a call does not have are whatever was there.
 *
 * The next library's function may make its call by number, too (tcmalloc's mmap() does): then that is the second time
 * that it comes by here, and goes to the kernel. An ioctl on one of ours never is: a signal handler made it.
 */
long syscall_by_function(long nr, long a, long b, long c, long d, long e, long f)
{
	static __thread u64 busy[LAST / 64 + 1] __attribute__((tls_model("initial-exec")));
	u64 bit = BIT64(nr % 64);
	long ret;

	if ((busy[nr / 64] & bit) && !(nr == SYS_ioctl && fd_maybe_ours((int)a)))
		return next()->syscall_(nr, a, b, c, d, e, f);
	busy[nr / 64] |= bit;
	ret = by_function(nr, a, b, c, d, e, f);
	busy[nr / 64] &= ~bit;
	return ret;
}

#define STRING(n) STRING_(n)
#define STRING_(n) #n

static const u8 ours[LAST + 1] __attribute__((used)) = {
#define CALL(number, call) [number] = 1,
	CALLS(CALL)
#undef CALL
};

/* The kernel's call itself, until the next library's function has been found. */
long syscall_raw(long nr, long a, long b, long c, long d, long e, long f);

__attribute__((used)) long syscall_raw(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret = os_sys(nr, a, b, c, d, e, f);

	return ret < 0 && ret > -4096 ? edge(ret) : ret;
}

static void *pass_on __attribute__((used)) = (void *)syscall_raw;

void syscall_found(void *fn)
{
	if (fn)
		__atomic_store_n(&pass_on, fn, __ATOMIC_RELAXED);
}

__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	cmpq $" STRING(LAST) ", %rdi\n"
	"	ja 1f\n"
	"	leaq ours(%rip), %rax\n"
	"	cmpb $0, (%rax,%rdi)\n"
	"	je 1f\n"
	"	jmp syscall_by_function\n"
	"1:	jmp *pass_on(%rip)\n"
	".size syscall, . - syscall\n");
