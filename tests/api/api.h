/* SPDX-License-Identifier: MIT */
/*
 * A small harness for KVM clients as tests: each TEST() runs in a child process of its own, with a time limit, and is
 * an ordinary client of /dev/kvm. The same programs run under ukvm and on a real /dev/kvm (make check-host-kvm); what a
 * real one does not have (removed ioctls, say) is skipped there.
 */
#ifndef UKVM_TESTS_API_H
#define UKVM_TESTS_API_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

struct test {
	const char *name;
	void (*fn)(void);
	unsigned seconds;
	struct test *next;
};
void test_register(struct test *t);

#define TEST_LIMIT(name, limit)                                                                                        \
	static void test_##name(void);                                                                                 \
	__attribute__((constructor)) static void register_##name(void)                                                 \
	{                                                                                                              \
		static struct test t = { #name, test_##name, limit, NULL };                                            \
		test_register(&t);                                                                                     \
	}                                                                                                              \
	static void test_##name(void)
#define TEST(name) TEST_LIMIT(name, 30)

__attribute__((noreturn, format(printf, 3, 4))) void test_fail(const char *file, int line, const char *fmt, ...);
__attribute__((noreturn, format(printf, 1, 2))) void test_skip(const char *fmt, ...);

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			FAIL("%s", #cond);                                                                             \
	} while (0)
#define CHECK_EQ(a, b)                                                                                                 \
	do {                                                                                                           \
		u64 a_ = (u64)(a), b_ = (u64)(b);                                                                      \
		if (a_ != b_)                                                                                          \
			FAIL("%s is 0x%llx, not %s = 0x%llx", #a, (unsigned long long)a_, #b, \
			(unsigned long long)b_); \
	} while (0)
/* The call succeeds; the value is its result. */
#define OK(call)                                                                                                       \
	({                                                                                                             \
		long r_ = (long)(call);                                                                                \
		if (r_ < 0)                                                                                            \
			FAIL("%s: %s", #call, strerror(errno));                                                        \
		r_;                                                                                                    \
	})
/* The call fails with this errno. */
#define FAILS(call, err)                                                                                               \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		long r_ = (long)(call);                                                                                \
		if (r_ != -1 || errno != (err))                                                                        \
			FAIL("%s: got %ld, %s; not %s", #call, r_, strerror(errno), #err);                             \
	} while (0)

/* True if /dev/kvm here is ukvm (an ioctl that Linux has removed works); tests of such ioctls skip otherwise. */
bool is_ukvm(int vm);

/* ---- a machine with one vCPU ---- */
struct machine {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	u8 *mem;
	u64 mem_size;
};

/* /dev/kvm, a VM with mem_size bytes at gpa 0 in slot 0, one vCPU in its reset state. */
struct machine machine_new(u64 mem_size);
/* Adds a vCPU: its fd, and its kvm_run. */
int machine_vcpu(struct machine *m, unsigned id, struct kvm_run **run);
int set_slot(int vm, unsigned slot, unsigned flags, u64 gpa, u64 size, void *mem);

/* Modes with flat segments; rip is where to start, the stack is below 0x8000. */
void start_real(struct machine *m, u64 rip);
void start_prot(struct machine *m, u64 rip);
/* 64-bit, identity-mapped by 2 MiB pages (first GiB) with tables at gpa 0x9000-0xbfff, user-accessible. */
void start_long(struct machine *m, u64 rip);

/* Copies code to gpa. CODE(m, gpa, 0xf4) */
#define CODE(m, gpa, ...)                                                                                              \
	do {                                                                                                           \
		static const u8 code_[] = { __VA_ARGS__ };                                                             \
		memcpy((m)->mem + (gpa), code_, sizeof(code_));                                                        \
	} while (0)

/* KVM_RUN that must return 0 with this exit reason. */
void run_until(struct machine *m, u32 reason);
struct kvm_regs get_regs(struct machine *m);
void set_regs(struct machine *m, struct kvm_regs regs);
struct kvm_sregs get_sregs(struct machine *m);

#endif
