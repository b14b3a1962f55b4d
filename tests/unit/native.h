/* SPDX-License-Identifier: MIT */
/* The host CPU as the oracle: runs one instruction on given general registers and flags. */
#ifndef UKVM_TESTS_UNIT_NATIVE_H
#define UKVM_TESTS_UNIT_NATIVE_H

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/types.h"

/* Used by the assembly below: registers in, registers out. One at a time. */
struct native {
	u64 gpr[16]; /* in encoding order */
	u64 flags;
	u64 host_rsp;
	u64 code;
};
struct native native_state __attribute__((visibility("hidden")));

static sigjmp_buf native_env;
static u8 *native_code;

void native_enter(void) __attribute__((visibility("hidden")));
void native_leave(void) __attribute__((visibility("hidden")));

asm(".text\n"
    ".hidden native_enter, native_leave, native_state\n"
    ".globl native_enter, native_leave\n"
    "native_enter:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, native_state+136(%rip)\n"
    "	pushq native_state+128(%rip)\n"
    "	popfq\n"
    "	mov native_state+0(%rip), %rax\n"
    "	mov native_state+8(%rip), %rcx\n"
    "	mov native_state+16(%rip), %rdx\n"
    "	mov native_state+24(%rip), %rbx\n"
    "	mov native_state+32(%rip), %rsp\n"
    "	mov native_state+40(%rip), %rbp\n"
    "	mov native_state+48(%rip), %rsi\n"
    "	mov native_state+56(%rip), %rdi\n"
    "	mov native_state+64(%rip), %r8\n"
    "	mov native_state+72(%rip), %r9\n"
    "	mov native_state+80(%rip), %r10\n"
    "	mov native_state+88(%rip), %r11\n"
    "	mov native_state+96(%rip), %r12\n"
    "	mov native_state+104(%rip), %r13\n"
    "	mov native_state+112(%rip), %r14\n"
    "	mov native_state+120(%rip), %r15\n"
    "	jmp *native_state+144(%rip)\n"
    "native_leave:\n"
    "	mov %rax, native_state+0(%rip)\n"
    "	mov %rcx, native_state+8(%rip)\n"
    "	mov %rdx, native_state+16(%rip)\n"
    "	mov %rbx, native_state+24(%rip)\n"
    "	mov %rsp, native_state+32(%rip)\n"
    "	mov %rbp, native_state+40(%rip)\n"
    "	mov %rsi, native_state+48(%rip)\n"
    "	mov %rdi, native_state+56(%rip)\n"
    "	mov %r8, native_state+64(%rip)\n"
    "	mov %r9, native_state+72(%rip)\n"
    "	mov %r10, native_state+80(%rip)\n"
    "	mov %r11, native_state+88(%rip)\n"
    "	mov %r12, native_state+96(%rip)\n"
    "	mov %r13, native_state+104(%rip)\n"
    "	mov %r14, native_state+112(%rip)\n"
    "	mov %r15, native_state+120(%rip)\n"
    "	mov native_state+136(%rip), %rsp\n"
    "	pushfq\n"
    "	popq native_state+128(%rip)\n"
    "	cld\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n");

static void native_fault(int sig)
{
	siglongjmp(native_env, sig);
}

/* To be called by the test itself: cmocka has handlers of its own around each. */
static inline void native_init(void)
{
	static u8 stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_handler = native_fault, .sa_flags = SA_ONSTACK | SA_NODEFER };

	sigaltstack(&ss, NULL);
	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	native_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Runs the instruction on native_state: 0, or the signal that it raised. */
static inline int native_run(const u8 *insn, unsigned len)
{
	u64 leave = (u64)(uintptr_t)native_leave;
	int sig;

	memcpy(native_code, insn, len);
	memcpy(native_code + len, "\xff\x25\0\0\0", 6); /* jmp *0(%rip) */
	memcpy(native_code + len + 6, &leave, 8);
	native_state.code = (u64)(uintptr_t)native_code;
	sig = sigsetjmp(native_env, 1);
	if (!sig)
		native_enter();
	return sig;
}

#endif
