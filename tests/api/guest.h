/* SPDX-License-Identifier: MIT */
/*
 * Guest code as text: GUEST(add, 64, "add rax, [rdi]; hlt") at file level, then LOAD(&m, 0x1000, add) in a test. It
 * runs wherever it is put, as long as it names no address of its own.
 */
#ifndef UKVM_TESTS_GUEST_H
#define UKVM_TESTS_GUEST_H

#include "api.h"

#define GUEST(name, bits, text)                                                                                        \
	__asm__(".pushsection .rodata\n.intel_syntax noprefix\n.code" #bits "\n"                                       \
		"guest_" #name "_begin:\n" text "\nguest_" #name "_end:\n"                                             \
		".code64\n.att_syntax\n.popsection\n");                                                                \
	extern const u8 guest_##name##_begin[] __attribute__((visibility("hidden")));                                  \
	extern const u8 guest_##name##_end[] __attribute__((visibility("hidden")))

#define LOAD(m, gpa, name)                                                                                             \
	memcpy((m)->mem + (gpa), guest_##name##_begin, (size_t)(guest_##name##_end - guest_##name##_begin))

#define MIB (1ull << 20)
#define PAGE 4096ull

/* Memory for a slot. */
static inline u8 *anon(u64 size)
{
	u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static inline long cap(const struct machine *m, unsigned long number)
{
	return ioctl(m->kvm, KVM_CHECK_EXTENSION, number);
}

/* RIP, flags and stack as given, everything else 0. */
static inline void go(struct machine *m, u64 rip)
{
	set_regs(m, (struct kvm_regs){ .rip = rip, .rflags = 2, .rsp = 0x8000 });
}

/* One MSR; the result is that of the ioctl: 1 if it was accepted. */
static inline int get_msr(int fd, u32 index, u64 *data)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} msrs = { .h.nmsrs = 1, .e.index = index };
	int ret = ioctl(fd, KVM_GET_MSRS, &msrs);

	*data = msrs.e.data;
	return ret;
}

static inline int set_msr(int fd, u32 index, u64 data)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} msrs = { .h.nmsrs = 1, .e = { .index = index, .data = data } };

	return ioctl(fd, KVM_SET_MSRS, &msrs);
}

static inline int enable_cap(int vm, u32 number, u64 arg)
{
	struct kvm_enable_cap e = { .cap = number, .args = { arg } };

	return ioctl(vm, KVM_ENABLE_CAP, &e);
}

#endif
