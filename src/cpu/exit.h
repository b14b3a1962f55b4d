/* SPDX-License-Identifier: MIT */
/*
 * Why the engine stopped. kvm/run.c turns this into kvm_run fields or an errno; the engine knows neither.
 */
#ifndef UKVM_CPU_EXIT_H
#define UKVM_CPU_EXIT_H

#include "cpu/types.h"

enum exit_reason {
	EXIT_NONE = 0,
	EXIT_IO,          /* port I/O: io.* */
	EXIT_MMIO,        /* one fragment of at most 8 bytes within a page: mmio.* */
	EXIT_HLT,
	EXIT_WINDOW,      /* the interrupt window that the client asked for is open */
	EXIT_SHUTDOWN,    /* triple fault */
	EXIT_INTR,        /* a signal or kick: -EINTR */
	EXIT_DEBUG,       /* debug.*: guest debugging is on and something hit */
	EXIT_INTERNAL,    /* the engine cannot execute the bytes at RIP: insn.* */
	EXIT_DELIVERY,    /* an event cannot be delivered, because its way leads through a device: delivery.* */
	EXIT_MSR_READ,    /* msr.*: only with KVM_CAP_X86_USER_SPACE_MSR */
	EXIT_MSR_WRITE,
	EXIT_HYPERCALL,   /* hypercall.* */
	EXIT_EFAULT,      /* memory under a slot is gone: -EFAULT */
	EXIT_TPR,         /* CR8 was lowered and the client wants to know (KVM_EXIT_SET_TPR) */
};

/* Why an MSR access would be #GP: the values of KVM_MSR_EXIT_REASON_*. */
enum msr_refusal {
	MSR_INVALID = 1 << 0,
	MSR_UNKNOWN = 1 << 1,
	MSR_FILTERED = 1 << 2,
};

struct exit {
	enum exit_reason reason;
	union {
		struct {
			u16 port;
			u8 size;
			bool in;
			u32 count;
		} io; /* the data is in cpu->pio.data, a packed array */
		struct {
			u64 gpa;
			u32 len;
			bool write;
			u8 data[8];
		} mmio;
		struct {
			u32 vector; /* VEC_DB or VEC_BP */
			u64 pc;     /* linear address of the instruction */
			u64 dr6, dr7;
		} debug;
		struct {
			u8 len;
			u8 bytes[15];
		} insn;
		struct {
			u32 vectoring; /* cpu::vectoring */
			u64 gpa;
		} delivery;
		struct {
			u32 index;
			u64 data;
			u32 why; /* enum msr_refusal */
		} msr;
		struct {
			u64 nr, args[6];
			bool longmode;
		} hypercall;
	};
};

#endif
