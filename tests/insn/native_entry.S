/* SPDX-License-Identifier: MIT */
/*
 * The way into a case and back. Everything that the case must not see or destroy lies in the control page, at an
 * absolute address.
 */
#include "state.h"

#define CTL(off) CTL_BASE + (off)
#define GPR(n) CTL(CTL_GPR + 8 * (n))

	.text
	.globl native_enter
	.hidden native_enter
	.type native_enter, @function
/* void native_enter(void): CTL_GPR, CTL_XSAVE and CTL_FRAME are filled in. */
native_enter:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, CTL(CTL_HOST_RSP)
	mov $7, %eax
	xor %edx, %edx
	xrstor64 CTL(CTL_XSAVE)
	mov GPR(1), %rcx
	mov GPR(2), %rdx
	mov GPR(3), %rbx
	mov GPR(5), %rbp
	mov GPR(6), %rsi
	mov GPR(7), %rdi
	mov GPR(8), %r8
	mov GPR(9), %r9
	mov GPR(10), %r10
	mov GPR(11), %r11
	mov GPR(12), %r12
	mov GPR(13), %r13
	mov GPR(14), %r14
	mov GPR(15), %r15
	mov $CTL(CTL_FRAME), %esp
	mov GPR(0), %rax
	iretq
	.size native_enter, . - native_enter

/* A case that came to an end of its code; the stub has set CTL_EXIT. */
	.globl native_common
	.hidden native_common
native_common:
	mov %rax, GPR(0)
	mov %rcx, GPR(1)
	mov %rdx, GPR(2)
	mov %rbx, GPR(3)
	mov %rsp, GPR(4)
	mov %rbp, GPR(5)
	mov %rsi, GPR(6)
	mov %rdi, GPR(7)
	mov %r8, GPR(8)
	mov %r9, GPR(9)
	mov %r10, GPR(10)
	mov %r11, GPR(11)
	mov %r12, GPR(12)
	mov %r13, GPR(13)
	mov %r14, GPR(14)
	mov %r15, GPR(15)
	mov $CTL(CTL_STACK), %esp
	pushfq
	popq CTL(CTL_FLAGS)
	mov %cs, CTL(CTL_SEL + 2)
	mov %ss, CTL(CTL_SEL + 4)

/* A case that faulted: the signal handler comes here, with registers and flags already noted. */
	.globl native_faulted
	.hidden native_faulted
native_faulted:
	mov CTL(CTL_HOST_RSP), %rsp
	push $0x202
	popfq
	mov $7, %eax
	xor %edx, %edx
	xsave64 CTL(CTL_XSAVE)
	mov %es, CTL(CTL_SEL)
	mov %ds, CTL(CTL_SEL + 6)
	mov %fs, CTL(CTL_SEL + 8)
	mov %gs, CTL(CTL_SEL + 10)
	xor %eax, %eax
	mov %eax, %es
	mov %eax, %ds
	fninit
	movl $0x1f80, CTL(CTL_EXIT + 8)
	ldmxcsr CTL(CTL_EXIT + 8)
	vzeroupper
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.section .note.GNU-stack, "", @progbits
