/* SPDX-License-Identifier: MIT */
/* The bare CPU: runs a case in this process, in memory at fixed addresses, and catches what it raises. */
#ifndef UKVM_TESTS_INSN_NATIVE_H
#define UKVM_TESTS_INSN_NATIVE_H

#include "state.h"

struct native {
	u8 *code;         /* the code window, writable */
	u8 *mem;          /* the memory image, writable */
	volatile bool in; /* a case runs now */
	u16 sel[6];       /* as Linux has them in user mode */
	bool fsgsbase;    /* CR4.FSGSBASE */
};

/* 0, or -1 with *why. Once per process. */
int native_init(struct native *n, const char **why);
void native_run(struct native *n, const struct test_case *t, struct outcome *o);

/* Descriptors that user mode may see: access rights as LAR gives them, 0 if it does not; limit by LSL. */
u32 native_lar(u16 sel, u32 *limit);

#endif
