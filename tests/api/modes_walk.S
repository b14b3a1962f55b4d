/* SPDX-License-Identifier: MIT */
/*
 * A guest that walks through the CPU's modes by itself: real mode, 16- and 32-bit protected mode with its rings and
 * tasks, virtual-8086 mode, the three kinds of paging, compatibility and 64-bit mode, and all the way back to a triple
 * fault in real mode. modes.c puts it at WALK, enters it in real mode, and makes GDT, IDT, TSS and page tables.
 *
 * CHECK(want) reports EAX and what it has to be; it changes EAX, EDX and nothing else.
 */
#include "modes.h"

#define G(label) ((label) - walk_code + WALK)
#define CHECK(want) check (want), __LINE__

.macro check want, line
	.pushsection walk_checks, "a"
	.int	\line
	.popsection
	mov	$PORT_GOT, %dx
	out	%eax, %dx
	mov	$\line, %eax
	mov	$PORT_LINE, %dx
	out	%eax, %dx
	mov	$\want, %eax
	mov	$PORT_WANT, %dx
	out	%eax, %dx
.endm

/* Types of gates, with P and DPL */
#define INT_GATE 0x8e
#define INT_GATE16 0x86
#define INT_GATE_USER 0xee
#define TASK_GATE_TYPE 0x85

.macro set_gate vector, sel, offset, type
	movl	$(\sel << 16) + \offset, IDT + \vector * 8
	movl	$(\type << 8), IDT + \vector * 8 + 4
.endm

.macro set_gate64 vector, offset, type, ist=0
	movl	$(KCODE64 << 16) + \offset, WALK_IDT64 + \vector * 16
	movl	$(\type << 8) + \ist, WALK_IDT64 + \vector * 16 + 4
.endm

.macro set_msr msr, high, low
	mov	$\msr, %ecx
	mov	$\high, %edx
	mov	$\low, %eax
	wrmsr
.endm

/* Interrupts that the guest uses */
#define COUNT 0x40  /* counts in EBX */
#define GATE16 0x41
#define LEAVE 0x42  /* ring 3 and virtual-8086 mode end here */
#define VISIT 0x43  /* from virtual-8086 mode and back */

	.section .rodata.walk, "a"
	.globl	walk_code, walk_code_end
walk_code:

/* ==== real mode ==== */
	.code16
	smsw	%eax
	and	$1, %eax
	CHECK(0)
	movl	$G(count_real), 4 * COUNT
	xor	%ebx, %ebx
	int	$COUNT
	mov	%ebx, %eax
	CHECK(1)
	mov	%esp, %eax
	CHECK(STACK)

	/* another segment, and back with parameters released */
	push	$1
	push	$2
	lcall	$WALK >> 4, $far_real - walk_code
	mov	%ebx, %eax
	CHECK(WALK >> 4)
	mov	%esp, %eax
	CHECK(STACK)

	/* an NMI */
	movl	$G(count_real), 4 * NMI
	xor	%ebx, %ebx
	mov	$PORT_NMI, %dx
	out	%al, %dx
	nop
	mov	%ebx, %eax
	CHECK(1)

/* ==== 16-bit protected mode ==== */
	lgdtl	G(gdt)
	lidtl	G(idt)
	mov	%cr0, %eax
	or	$CR0_PE, %al
	mov	%eax, %cr0
	/* still with real mode's segments */
	mov	%cs, %eax
	CHECK(0)
	mov	G(gdt), %ax
	movzwl	%ax, %eax
	CHECK(GDT_LIMIT)
	ljmp	$KCODE16, $G(protected16)

count_real:
	inc	%ebx
	iret

far_real:
	xor	%ebx, %ebx
	mov	%cs, %bx
	lret	$4

protected16:
	mov	$KDATA16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	%cs, %eax
	CHECK(KCODE16)
	/* a segment with a base */
	movl	$0x12345678, DATA + 4
	mov	$SMALL, %ax
	mov	%ax, %fs
	mov	%fs:4, %eax
	CHECK(0x12345678)
	/* a 32-bit handler for 16-bit code */
	set_gate COUNT, KCODE, G(count32), INT_GATE
	xor	%ebx, %ebx
	int	$COUNT
	mov	%ebx, %eax
	CHECK(1)
	mov	%cs, %eax
	CHECK(KCODE16)
	mov	%esp, %eax
	CHECK(STACK)

/* ==== 32-bit protected mode ==== */
	ljmpl	$KCODE, $G(protected32)
	.code32
count32:
	inc	%ebx
	iret

protected32:
	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$STACK0, %esp
	mov	$SEL_LDT, %eax
	lldt	%ax
	andb	$~2, GDT + SEL_TSS + 5
	mov	$SEL_TSS, %eax
	ltr	%ax
	xor	%eax, %eax
	str	%ax
	CHECK(SEL_TSS)
	movzbl	GDT + SEL_TSS + 5, %eax
	CHECK(0x8b)
	sldt	%eax
	CHECK(SEL_LDT)
	mov	$LDT_DATA, %eax
	mov	%eax, %gs
	mov	%gs:DATA + 4, %eax
	CHECK(0x12345678)

	/* gates of 16 bits: small frames */
	set_gate GATE16, KCODE, G(int_gate16), INT_GATE16
	int	$GATE16
int_gate16_back:
	mov	%esp, %eax
	CHECK(STACK0)
	movw	$G(call_gate16), GDT + CALL_GATE16
	lcall	$CALL_GATE16, $0
call_gate16_back:
	mov	%esp, %eax
	CHECK(STACK0)

	/* ring 3 */
	set_msr	0x174, 0, KCODE
	set_msr	0x175, 0, STACK0
	set_msr	0x176, 0, G(sysenter32)
	set_gate LEAVE, KCODE, G(leave_ring3), INT_GATE_USER
	movw	$G(call_gate32), GDT + CALL_GATE
	pushl	$UDATA
	pushl	$STACK
	pushl	$2
	pushl	$UCODE
	pushl	$G(ring3)
	iret

int_gate16:
	mov	%esp, %eax
	CHECK(STACK0 - 6)
	movzwl	(%esp), %eax
	CHECK(G(int_gate16_back))
	movzwl	2(%esp), %eax
	CHECK(KCODE)
	iretw

call_gate16:
	mov	%esp, %eax
	CHECK(STACK0 - 4)
	movzwl	(%esp), %eax
	CHECK(G(call_gate16_back))
	lretw

ring3:
	mov	%cs, %eax
	CHECK(UCODE)
	mov	%ss, %eax
	CHECK(UDATA)
	mov	%esp, %eax
	CHECK(STACK)
	/* ring 0's data segments were taken away */
	mov	%ds, %eax
	CHECK(0)
	mov	%gs, %eax
	CHECK(0)
	mov	$UDATA, %eax
	mov	%eax, %ds
	/* a call to ring 0, with parameters */
	pushl	$0x11
	pushl	$0x22
	lcall	$CALL_GATE, $0
call_gate32_back:
	mov	%cs, %eax
	CHECK(UCODE)
	mov	%esp, %eax
	CHECK(STACK)
	mov	%ds, %eax
	CHECK(UDATA)
	sysenter
sysexit32_to:
	mov	%cs, %eax
	CHECK(UCODE)
	mov	%ss, %eax
	CHECK(UDATA)
	mov	%esp, %eax
	CHECK(STACK - 4)
	int	$LEAVE
leave_ring3_from:

call_gate32:
	mov	%esp, %eax
	CHECK(STACK0 - 24)
	mov	%cs, %eax
	CHECK(KCODE)
	mov	%ss, %eax
	CHECK(KDATA)
	mov	(%esp), %eax
	CHECK(G(call_gate32_back))
	mov	4(%esp), %eax
	CHECK(UCODE)
	mov	8(%esp), %eax
	CHECK(0x22)
	mov	12(%esp), %eax
	CHECK(0x11)
	mov	16(%esp), %eax
	CHECK(STACK - 8)
	mov	20(%esp), %eax
	CHECK(UDATA)
	lret	$8

sysenter32:
	mov	%cs, %eax
	CHECK(KCODE)
	mov	%ss, %eax
	CHECK(KDATA)
	mov	%esp, %eax
	CHECK(STACK0)
	mov	$G(sysexit32_to), %edx
	mov	$STACK - 4, %ecx
	sysexit

leave_ring3:
	mov	%esp, %eax
	CHECK(STACK0 - 20)
	mov	(%esp), %eax
	CHECK(G(leave_ring3_from))
	mov	12(%esp), %eax
	CHECK(STACK - 4)
	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	$STACK0, %esp

/* ---- tasks ---- */
	movl	$G(task), TSS_NEXT + 0x20
	movl	$STACK_IST, TSS_NEXT + 0x38
	mov	$0x600d, %esi
	lcall	$SEL_TSS_NEXT, $0
	mov	%esi, %eax
	CHECK(0x600d)
	xor	%eax, %eax
	str	%ax
	CHECK(SEL_TSS)
	pushf
	pop	%eax
	and	$FL_NT, %eax
	CHECK(0)
	movzbl	GDT + SEL_TSS_NEXT + 5, %eax
	CHECK(0x89)
	movzbl	GDT + SEL_TSS + 5, %eax
	CHECK(0x8b)
	/* a fault through a task gate: the task repairs what is wrong */
	set_gate NP, SEL_TSS_NEXT, 0, TASK_GATE_TYPE
	mov	$ABSENT_DATA, %eax
	mov	%eax, %fs
	mov	%fs, %eax
	CHECK(ABSENT_DATA)
	/* a jump: nothing is nested */
	ljmp	$SEL_TSS_NEXT, $0
	movzbl	GDT + SEL_TSS_NEXT + 5, %eax
	CHECK(0x89)
	/* a task of 16 bits */
	movl	$(TSS_BAD << 16) + 0x2b, GDT + ABSENT_TSS
	movl	$0x8100, GDT + ABSENT_TSS + 4
	movw	$G(task16), TSS_BAD + 0x0e
	movw	$2, TSS_BAD + 0x10
	movw	$STACK_IST, TSS_BAD + 0x1a
	movw	$0, TSS_BAD + 0x22
	movw	$KCODE16, TSS_BAD + 0x24
	movw	$KDATA16, TSS_BAD + 0x26
	movw	$KDATA16, TSS_BAD + 0x28
	movw	$0, TSS_BAD + 0x2a
	lcall	$ABSENT_TSS, $0
	xor	%eax, %eax
	str	%ax
	CHECK(SEL_TSS)
	mov	%esp, %eax
	CHECK(STACK0)
	jmp	virtual8086

task: /* called */
	xor	%eax, %eax
	str	%ax
	CHECK(SEL_TSS_NEXT)
	pushf
	pop	%eax
	and	$FL_NT, %eax
	CHECK(FL_NT)
	movzwl	TSS_NEXT, %eax
	CHECK(SEL_TSS)
	mov	%cr0, %eax
	and	$CR0_TS, %eax
	CHECK(CR0_TS)
	clts
	movzbl	GDT + SEL_TSS_NEXT + 5, %eax
	CHECK(0x8b)
	movzbl	GDT + SEL_TSS + 5, %eax
	CHECK(0x8b)
	iret
	/* the handler of #NP */
	pop	%eax
	CHECK(ABSENT_DATA)
	movb	$0x93, GDT + ABSENT_DATA + 5
	iret
	/* jumped to */
	pushf
	pop	%eax
	and	$FL_NT, %eax
	CHECK(0)
	movzbl	GDT + SEL_TSS + 5, %eax
	CHECK(0x89)
	mov	%esp, %eax
	CHECK(STACK_IST)
	ljmp	$SEL_TSS, $0

	.code16
task16:
	xor	%eax, %eax
	str	%ax
	CHECK(ABSENT_TSS)
	mov	%cs, %eax
	CHECK(KCODE16)
	iret

/* ==== virtual-8086 mode ==== */
	.code32
virtual8086:
	clts
	set_gate VISIT, KCODE, G(visit_8086), INT_GATE_USER
	set_gate LEAVE, KCODE, G(leave_8086), INT_GATE_USER
	pushl	$0x404
	pushl	$0x303
	pushl	$DATA >> 4
	pushl	$0x202
	pushl	$0
	pushl	$STACK
	pushl	$FL_VM | FL_IOPL | 2
	pushl	$WALK >> 4
	pushl	$in_8086 - walk_code
	iret

	.code16
in_8086:
	mov	%cs, %eax
	CHECK(WALK >> 4)
	mov	%gs, %eax
	CHECK(0x404)
	mov	4, %eax
	CHECK(0x12345678)
	mov	%esp, %eax
	CHECK(STACK)
	int	$VISIT
visit_8086_back:
	mov	%gs, %eax
	CHECK(0x404)
	mov	4, %eax
	CHECK(0x12345678)
	mov	%esp, %eax
	CHECK(STACK)
	int	$LEAVE

	.code32
visit_8086:
	mov	%esp, %eax
	CHECK(STACK0 - 36)
	mov	%ds, %eax
	CHECK(0)
	mov	%gs, %eax
	CHECK(0)
	mov	(%esp), %eax
	CHECK(visit_8086_back - walk_code)
	mov	4(%esp), %eax
	CHECK(WALK >> 4)
	mov	8(%esp), %eax
	and	$FL_VM | FL_IOPL, %eax
	CHECK(FL_VM | FL_IOPL)
	mov	12(%esp), %eax
	CHECK(STACK)
	mov	20(%esp), %eax
	CHECK(0x202)
	mov	24(%esp), %eax
	CHECK(DATA >> 4)
	mov	28(%esp), %eax
	CHECK(0x303)
	mov	32(%esp), %eax
	CHECK(0x404)
	pushf
	pop	%eax
	and	$FL_VM, %eax
	CHECK(0)
	iret

leave_8086:
	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$STACK0, %esp

/* ==== 32-bit paging ==== */
	mov	$TABLES_32, %eax
	mov	%eax, %cr3
	mov	$CR4_PSE, %eax
	mov	%eax, %cr4
	mov	%cr0, %eax
	or	$CR0_PG | CR0_WP, %eax
	mov	%eax, %cr0
	mov	V_USER + 4, %eax
	CHECK(0x12345678)
	movl	$0x4141, V_LARGE
	mov	V_LARGE, %eax
	CHECK(0x4141)
	/* a page fault whose handler makes the page */
	set_gate PF, KCODE, G(page_fault), INT_GATE
	mov	V_ABSENT + 4, %eax
	CHECK(0x12345678)
	/* and no paging again */
	mov	%cr0, %eax
	and	$~CR0_PG, %eax
	mov	%eax, %cr0
	jmp	pae

page_fault:
	mov	(%esp), %eax
	CHECK(0)
	mov	%cr2, %eax
	CHECK(V_ABSENT + 4)
	movl	$DATA + 7, TABLES_32 + 0x1000 + (V_ABSENT >> 10)
	add	$4, %esp
	iret

/* ==== PAE ==== */
pae:
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$TABLES_PAE, %eax
	mov	%eax, %cr3
	set_msr	0xc0000080, 0, EFER_NX
	mov	%cr0, %eax
	or	$CR0_PG, %eax
	mov	%eax, %cr0
	mov	V_NX + 4, %eax
	CHECK(0x12345678)
	movl	$0x4242, V_LARGE + 0x1ffffc
	mov	V_LARGE + 0x1ffffc, %eax
	CHECK(0x4242)
	mov	%cr0, %eax
	and	$~CR0_PG, %eax
	mov	%eax, %cr0

/* ==== compatibility mode: long mode's ring 0 with 32-bit code ==== */
	mov	$TABLES_4L, %eax
	mov	%eax, %cr3
	set_msr	0xc0000080, 0, EFER_LME | EFER_NX | EFER_SCE
	rdmsr
	and	$EFER_LMA, %eax
	CHECK(0)
	mov	%cr0, %eax
	or	$CR0_PG, %eax
	mov	%eax, %cr0
	rdmsr
	and	$EFER_LMA, %eax
	CHECK(EFER_LMA)
	/* no REX here: INC, then MOV */
	xor	%eax, %eax
	.byte	0x48, 0x89, 0xc0 /* dec %eax; mov %eax, %eax */
	CHECK(0xffffffff)
	lidt	G(idt64)
	set_gate64 COUNT, G(count64), INT_GATE
	/* long mode's frame, from 32-bit code */
	xor	%ebx, %ebx
	int	$COUNT
	mov	%ebx, %eax
	CHECK(1)
	mov	%cs, %eax
	CHECK(KCODE)
	mov	%esp, %eax
	CHECK(STACK0)

/* ==== 64-bit mode ==== */
	ljmp	$KCODE64, $G(long64)
	.code64
count64:
	inc	%ebx
	iretq

long64:
	mov	$0x1234567800000000, %rax
	shr	$32, %rax
	CHECK(0x12345678)
	mov	%cs, %eax
	CHECK(KCODE64)
	mov	V_USER + 4, %eax
	CHECK(0x12345678)
	/* its TSS */
	movq	$STACK0, WALK_TSS64 + 4
	movq	$STACK_IST, WALK_TSS64 + 36
	movl	$0x67, GDT + SEL_TSS
	movl	$0x8900 + (WALK_TSS64 >> 16), GDT + SEL_TSS + 4
	movw	$WALK_TSS64 & 0xffff, GDT + SEL_TSS + 2
	movq	$0, GDT + SEL_TSS + 8
	mov	$SEL_TSS, %eax
	ltr	%ax
	movzbl	GDT + SEL_TSS + 5, %eax
	CHECK(0x8b)
	/* an interrupt always pushes SS and RSP */
	xor	%ebx, %ebx
	int	$COUNT
	mov	%ebx, %eax
	CHECK(1)
	mov	%esp, %eax
	CHECK(STACK0)
	/* an NMI on a stack of the IST; another one waits for its IRET */
	set_gate64 NMI, G(nmi64), INT_GATE, 1
	xor	%ebx, %ebx
	mov	$PORT_NMI, %dx
	out	%al, %dx
	nop
	mov	%ebx, %eax
	CHECK(0x20002)
	mov	%esp, %eax
	CHECK(STACK0)
	/* a page fault whose handler makes the page */
	set_gate64 PF, G(page_fault64), INT_GATE
	mov	V_ABSENT + 4, %eax
	CHECK(0x12345678)
	/* bases of FS and GS, and SWAPGS */
	movl	$0x87654321, DATA + 8
	set_msr	0xc0000100, 0, DATA
	set_msr	0xc0000101, 0, DATA
	set_msr	0xc0000102, 0, DATA + 4
	mov	%fs:4, %eax
	CHECK(0x12345678)
	mov	%gs:4, %eax
	CHECK(0x12345678)
	swapgs
	mov	%gs:4, %eax
	CHECK(0x87654321)
	swapgs
	mov	%gs:4, %eax
	CHECK(0x12345678)
	jmp	user64

nmi64:
	/* EBX: how many there were above, how many have ended below */
	add	$0x10000, %ebx
	mov	%esp, %eax
	CHECK(STACK_IST - 40)
	cmp	$0x10000, %ebx
	jne	1f
	mov	$PORT_NMI, %dx
	out	%al, %dx
	nop
	mov	%ebx, %eax
	CHECK(0x10000)
1:	inc	%ebx
	iretq

page_fault64:
	mov	(%rsp), %eax
	CHECK(0)
	mov	%cr2, %rax
	CHECK(V_ABSENT + 4)
	movl	$DATA + 7, TABLES_4L + 0x3000 + (V_ABSENT >> 9)
	add	$8, %rsp
	iretq

/* ---- ring 3 ---- */
user64:
	/* its pages: this code and its stack */
	mov	$TABLES_4L + 0x3000 + (WALK >> 9), %edi
	mov	$(WALK_END - WALK) >> 12, %ecx
1:	orb	$4, (%rdi)
	add	$8, %edi
	loop	1b
	orb	$4, TABLES_4L + 0x3000 + ((STACK - 1) >> 12) * 8
	mov	%cr3, %rax
	mov	%rax, %cr3
	set_gate64 LEAVE, G(leave64), INT_GATE_USER
	set_msr	0xc0000081, (0x18 << 16) + KCODE64, 0
	set_msr	0xc0000082, 0, G(syscall64)
	set_msr	0xc0000084, 0, 0x400
	pushq	$UDATA
	pushq	$STACK
	pushq	$FL_IOPL | 2
	pushq	$UCODE64
	pushq	$G(ring3_64)
	iretq

ring3_64:
	mov	%cs, %eax
	CHECK(UCODE64)
	mov	%ss, %eax
	CHECK(UDATA)
	mov	%esp, %eax
	CHECK(STACK)
	std
	xor	%ebx, %ebx
	syscall
syscall64_back:
	pushfq
	pop	%rax
	and	$0x3c00, %eax
	CHECK(0x3400)
	mov	%cs, %eax
	CHECK(UCODE64)
	mov	%ss, %eax
	CHECK(UDATA)
	cld
	inc	%ebx
	syscall
	ud2

syscall64:
	test	%ebx, %ebx
	jnz	1f
	mov	%ecx, %eax
	CHECK(G(syscall64_back))
	mov	%r11, %rax
	and	$0x400, %eax
	CHECK(0x400)
	pushfq
	pop	%rax
	and	$0x3c00, %eax
	CHECK(0x3000)
	mov	%cs, %eax
	CHECK(KCODE64)
	mov	%ss, %eax
	CHECK(KDATA64)
	mov	%esp, %eax
	CHECK(STACK)
	sysretq
1:	/* to compatibility mode */
	mov	$G(ring3_32), %ecx
	sysretl

	.code32
ring3_32:
	mov	%cs, %eax
	CHECK(UCODE)
	xor	%eax, %eax
	.byte	0x48, 0x89, 0xc0 /* dec %eax; mov %eax, %eax */
	CHECK(0xffffffff)
	int	$LEAVE

	.code64
leave64:
	mov	%esp, %eax
	CHECK(STACK0 - 40)
	mov	8(%rsp), %eax
	CHECK(UCODE)
	mov	%ss, %eax
	CHECK(0)
	mov	$STACK0, %esp

/* ==== and back ==== */
	pushq	$KCODE
	pushq	$G(back32)
	lretq
	.code32
back32:
	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%cr0, %eax
	and	$~CR0_PG, %eax
	mov	%eax, %cr0
	mov	$0xc0000080, %ecx
	rdmsr
	and	$EFER_LMA, %eax
	CHECK(0)
	set_msr	0xc0000080, 0, 0
	xor	%eax, %eax
	mov	%eax, %cr4
	lidt	G(idt)
	xor	%ebx, %ebx
	int	$COUNT
	mov	%ebx, %eax
	CHECK(1)
	ljmp	$KCODE16, $G(back16)
	.code16
back16:
	/* FS keeps its 4 GiB in real mode, where nothing but a load of FS can take them away */
	mov	$KDATA16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$STACK, %esp
	mov	%cr0, %eax
	and	$~CR0_PE, %eax
	mov	%eax, %cr0
	ljmp	$0, $G(back_real)
back_real:
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	lidtl	G(ivt)
	xor	%ebx, %ebx
	int	$COUNT
	mov	%ebx, %eax
	CHECK(1)
	mov	$0x200000, %ebx
	movl	$0x600dcafe, %fs:(%ebx)
	mov	%fs:(%ebx), %eax
	CHECK(0x600dcafe)
	smsw	%eax
	and	$1, %eax
	CHECK(0)

	/* the end: no IDT */
	movw	$0, G(ivt)
	lidtl	G(ivt)
	int3

gdt:
	.short	GDT_LIMIT
	.int	GDT
idt:
	.short	0x7ff
	.int	IDT
idt64:
	.short	0xfff
	.int	WALK_IDT64
ivt:
	.short	0x3ff
	.int	0
walk_code_end:

	.section .note.GNU-stack, "", @progbits
