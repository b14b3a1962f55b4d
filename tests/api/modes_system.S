/* SPDX-License-Identifier: MIT */
/*
 * More rows as modes_faults.S has them, from the exception lists of the system instructions' pages (SDM vol. 2) and the
 * tables of vol. 3: control transfers, tasks, descriptors, control and debug registers, and what comes first.
 */
#include "modes_rows.h"

/* Offsets in a 32-bit TSS */
#define TASK_CR3 0x1c
#define TASK_EIP 0x20
#define TASK_EFLAGS 0x24
#define TASK_ESP 0x38
#define TASK_ES 0x48
#define TASK_CS 0x4c
#define TASK_SS 0x50
#define TASK_DS 0x54
#define TASK_FS 0x58
#define TASK_GS 0x5c
#define TASK_LDT 0x60
#define TASK_TRAP 0x64

/* A descriptor's access byte */
#define ACCESS(sel) GDT + (sel & ~7) + 5

	.section .rodata.faults, "a"

/* ==== real mode ==== */
	stage	REAL
	.code16

	row	UD, "LTR has no meaning"
9:	ltr	%ax
	end
	row	UD, "STR has no meaning"
9:	str	%ax
	end
	row	UD, "LAR has no meaning"
9:	lar	%ax, %ax
	end
	row	UD, "LSL has no meaning"
9:	lsl	%ax, %ax
	end
	row	UD, "VERW has no meaning"
9:	verw	%ax
	end
	row	UD, "SYSCALL"
9:	.byte	0x0f, 0x05
	end
	row	UD, "SYSRET"
9:	.byte	0x0f, 0x07
	end
	row	GP, "SYSEXIT", need=NEED_INTEL
9:	.byte	0x0f, 0x35
	end
	row	UD, "RSM outside of SMM"
9:	.byte	0x0f, 0xaa
	end
	row	UD, "SWAPGS"
9:	.byte	0x0f, 0x01, 0xf8
	end
	row	UD, "VMLAUNCH"
9:	.byte	0x0f, 0x01, 0xc2
	end
	row	UD, "MOV to CR0 with LOCK"
9:	.byte	0xf0, 0x0f, 0x22, 0xc0
	end
	row	UD, "LOADALL"
9:	.byte	0x0f, 0x04
	end
	row	GP, "RDPMC"
	xor	%ecx, %ecx
9:	rdpmc
	end
	row	GP, "MONITOR of extensions"
	mov	$1, %ecx
9:	monitor
	end
	row	GP, "CR0.NW without CD"
	mov	$0x20000010, %eax
9:	mov	%eax, %cr0
	end
	row	GP, "CR4.PCIDE outside of long mode", need=NEED_PCID
	mov	$CR4_PCIDE, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "INVPCID of a type that is none", need=NEED_INVPCID
	mov	$4, %eax
9:	invpcid	DATA, %eax
	end
	row	NONE, "INVPCID of everything", need=NEED_INVPCID
	mov	$2, %eax
	invpcid	DATA, %eax
9:	hlt
	end
	row	NONE, "what ring 0 may do", eax=0x10
	cli
	clts
	wbinvd
	invlpg	DATA
	mov	%cr0, %eax
	mov	%eax, %cr0
	mov	%cr3, %eax
	mov	%eax, %cr3
	mov	%dr7, %eax
	mov	%eax, %dr7
	sgdtw	DATA
	sidtw	DATA
	lgdtw	DATA
	mov	$0x10, %ecx
	rdmsr
	rdtsc
	smsw	%eax
	and	$0x11, %eax
	lmsw	%ax
9:	hlt
	end
	row	NONE, "LMSW enters protected mode", eax=0x11
	mov	$1, %ax
	lmsw	%ax
	smsw	%eax
	and	$0x11, %eax
9:	hlt
	end
	row	NONE, "POPFD leaves VM and RF alone", eax=0x4002
	pushl	$FL_VM | FL_RF | FL_NT
	popfl
	pushfl
	pop	%eax
9:	hlt
	end
	row	NONE, "IRETD leaves VM, VIF and VIP alone", eax=0x44002
	mov	$HERE(1f), %eax
	pushl	$FL_VM | FL_VIF | FL_VIP | FL_NT | FL_AC
	pushl	$0
	push	%eax
	iretl
1:	pushfl
	pop	%eax
9:	hlt
	end
	row	GP, "IRETD beyond 64 KiB"
	pushl	$2
	pushl	$0
	pushl	$0x10000
9:	iretl
	end
	row	GP, "RETFD beyond 64 KiB"
	pushl	$0
	pushl	$0x10000
9:	lretl
	end
	row	NONE, "the limits of protected mode live on", eax=0x5a
	/* A GDT at DATA with one flat segment; then back. */
	movl	$0x0000ffff, DATA + 8
	movl	$0x00cf9300, DATA + 12
	movw	$15, DATA + 16
	movl	$DATA, DATA + 18
	lgdtw	DATA + 16
	mov	$1, %ax
	lmsw	%ax
	mov	$8, %ax
	mov	%ax, %fs
	mov	%cr0, %eax
	and	$~1, %al
	mov	%eax, %cr0
	xor	%ax, %ax
	mov	%ax, %fs
	mov	$0x800000, %ebx
	movb	$0x5a, %fs:(%ebx)
	xor	%eax, %eax
	mov	%fs:(%ebx), %al
9:	hlt
	end

/* ==== protected mode, ring 0 ==== */
	stage	PROT
	.code32

	/* which types LAR and LSL know, a bit each */
	row	NONE, "LAR of each type", eax=0x1a3e
	xor	%ebx, %ebx
	xor	%ecx, %ecx
1:	lea	0x80(%ecx), %eax
	mov	%al, ACCESS(UDATA)
	mov	$UDATA & ~3, %edx
	lar	%edx, %edx
	jnz	2f
	bts	%ecx, %ebx
2:	inc	%ecx
	cmp	$16, %ecx
	jne	1b
	mov	%ebx, %eax
9:	hlt
	end
	row	NONE, "LSL of each type", eax=0x0a0e
	xor	%ebx, %ebx
	xor	%ecx, %ecx
1:	lea	0x80(%ecx), %eax
	mov	%al, ACCESS(UDATA)
	mov	$UDATA & ~3, %edx
	lsl	%edx, %edx
	jnz	2f
	bts	%ecx, %ebx
2:	inc	%ecx
	cmp	$16, %ecx
	jne	1b
	mov	%ebx, %eax
9:	hlt
	end
	row	NONE, "VERR of each type of code and data", eax=0xccff
	xor	%ebx, %ebx
	xor	%ecx, %ecx
1:	lea	0x90(%ecx), %eax
	mov	%al, ACCESS(UDATA)
	mov	$UDATA & ~3, %edx
	verr	%dx
	jnz	2f
	bts	%ecx, %ebx
2:	inc	%ecx
	cmp	$16, %ecx
	jne	1b
	mov	%ebx, %eax
9:	hlt
	end
	row	NONE, "VERW of each type of code and data", eax=0x00cc
	xor	%ebx, %ebx
	xor	%ecx, %ecx
1:	lea	0x90(%ecx), %eax
	mov	%al, ACCESS(UDATA)
	mov	$UDATA & ~3, %edx
	verw	%dx
	jnz	2f
	bts	%ecx, %ebx
2:	inc	%ecx
	cmp	$16, %ecx
	jne	1b
	mov	%ebx, %eax
9:	hlt
	end
	row	NONE, "LAR and LSL by RPL", eax=0
	xor	%eax, %eax
	mov	$KDATA | 3, %ecx
	lar	%ecx, %edx
	setz	%al
	lsl	%ecx, %edx
	setz	%ah
9:	hlt
	end
	row	NONE, "LAR of conforming code by RPL", eax=1
	xor	%eax, %eax
	mov	$CONFORMING | 3, %ecx
	lar	%ecx, %edx
	setz	%al
9:	hlt
	end
	row	NONE, "LAR of what is not present", eax=0xcf1300
	mov	$ABSENT_DATA, %ecx
	lar	%ecx, %eax
	or	$0xf0000, %eax
9:	hlt
	end
	row	NONE, "a selector that is unknown leaves the register", eax=0x1234
	mov	$0x1234, %eax
	mov	$GDT_LIMIT + 1, %ecx
	lsl	%ecx, %eax
	lar	%ecx, %eax
9:	hlt
	end
	row	NONE, "ARPL raises RPL", eax=0x1103
	mov	$0x1100, %eax
	mov	$3, %ecx
	arpl	%cx, %ax
	jnz	1f
9:	hlt
1:	ud2
	end

	/* loading segment registers: what comes first */
	row	GP, "execute-only conforming code as data", error=UDATA^3
	movb	$0x9d, ACCESS(UDATA)
	mov	$UDATA & ~3, %eax
9:	mov	%eax, %ds
	end
	row	NONE, "readable code as data", eax=KCODE
	mov	$KCODE, %eax
	mov	%eax, %ds
	mov	%ds, %eax
9:	hlt
	end
	row	NONE, "readable conforming code as data, of any RPL", eax=CONFORMING|3
	mov	$CONFORMING | 3, %eax
	mov	%eax, %es
	mov	%es, %eax
9:	hlt
	end
	row	GP, "code as the stack", error=KCODE
	mov	$KCODE, %eax
9:	mov	%eax, %ss
	end
	row	GP, "RPL of SS", error=KDATA
	mov	$KDATA | 1, %eax
9:	mov	%eax, %ss
	end
	row	GP, "type before presence", error=ABSENT_CODE
	movb	$0x18, ACCESS(ABSENT_CODE) /* execute-only */
	mov	$ABSENT_CODE, %eax
9:	mov	%eax, %ds
	end
	row	GP, "privilege before presence", error=ABSENT_DATA
	mov	$ABSENT_DATA | 3, %eax
9:	mov	%eax, %ds
	end
	row	GP, "POP SS of null", error=0
	pushl	$0
9:	pop	%ss
	end
	row	SS, "LSS of one not present", error=ABSENT_DATA
	movl	$STACK, DATA
	movw	$ABSENT_DATA, DATA + 4
9:	lss	DATA, %esp
	end
	row	UD, "LES of a register"
9:	.byte	0xc4, 0xc0
	end
	row	UD, "MOV to the sixth segment register"
9:	.byte	0x8e, 0xf0
	end
	row	NONE, "LDTR of null is no fault", eax=3
	mov	$3, %eax
	lldt	%ax
	sldt	%eax
9:	hlt
	end
	row	GP, "LLDT of one in the LDT", error=LDT_DATA
	mov	$LDT_DATA, %eax
9:	lldt	%ax
	end
	row	GP, "LTR of one in the LDT", error=LDT_DATA
	mov	$LDT_DATA, %eax
9:	ltr	%ax
	end
	row	GP, "LTR of an LDT", error=SEL_LDT
	mov	$SEL_LDT, %eax
9:	ltr	%ax
	end
	row	GP, "LTR: busy before presence", error=ABSENT_TSS
	movb	$0x0b, ACCESS(ABSENT_TSS)
	mov	$ABSENT_TSS, %eax
9:	ltr	%ax
	end

	/* far transfers */
	row	GP, "RETF to an inner ring's code", error=UCODE^3
	pushl	$UCODE ^ 3
	pushl	$0
9:	lret
	end
	row	GP, "RETF beyond the limit", error=0
	pushl	$KCODE16
	pushl	$0x10000
9:	lret
	end
	row	GP, "RETF to ring 3 without a stack", error=0
	pushl	$0
	pushl	$STACK
	pushl	$UCODE
	pushl	$HERE(9f)
9:	lret
	end
	row	GP, "RETF to ring 3: RPL of the stack", error=UDATA^3
	pushl	$UDATA ^ 3
	pushl	$STACK
	pushl	$UCODE
	pushl	$HERE(9f)
9:	lret
	end
	row	GP, "RETF to ring 3: the stack is code", error=UCODE^3
	pushl	$UCODE
	pushl	$STACK
	pushl	$UCODE
	pushl	$HERE(9f)
9:	lret
	end
	row	SS, "RETF to ring 3: the stack is not present", error=UDATA^3
	movb	$0x73, ACCESS(UDATA)
	pushl	$UDATA
	pushl	$STACK
	pushl	$UCODE
	pushl	$HERE(9f)
9:	lret
	end
	row	NP, "RETF: the code's presence before the stack", error=UCODE^3
	movb	$0x7b, ACCESS(UCODE)
	pushl	$0
	pushl	$STACK
	pushl	$UCODE
	pushl	$HERE(9f)
9:	lret
	end
	row	SS, "RETF from beyond the stack's limit", error=0
	mov	$SMALL, %eax
	mov	%eax, %ss
	mov	$0xffc, %esp
9:	lret
	end
	row	GP, "IRET to ring 3 with a null stack", error=0
	pushl	$3
	pushl	$STACK
	pushl	$2
	pushl	$UCODE
	pushl	$HERE(9f)
9:	iret
	end
	row	SS, "IRET to ring 3: the stack is not present", error=UDATA^3
	movb	$0x73, ACCESS(UDATA)
	pushl	$UDATA
	pushl	$STACK
	pushl	$2
	pushl	$UCODE
	pushl	$HERE(9f)
9:	iret
	end
	row	GP, "IRET to an inner ring's conforming code", error=CONFORMING
	movb	$0xff, ACCESS(CONFORMING) /* DPL 3 */
	pushl	$2
	pushl	$CONFORMING
	pushl	$HERE(9f)
9:	iret
	end
	row	GP, "IRET to virtual-8086 mode beyond 64 KiB", error=0
	.rept	6
	pushl	$0
	.endr
	pushl	$FL_VM | 2
	pushl	$0
	pushl	$0x10000
9:	iret
	end
	row	GP, "IRET to ring 3 drops the segments of ring 0", error=0, cs=UCODE
	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	$UDATA, %eax
	mov	%eax, %es
	pushl	$UDATA
	pushl	$STACK
	pushl	$2
	pushl	$UCODE
	pushl	$HERE(1f)
	iret
1:	mov	%es:DATA, %eax
9:	mov	DATA, %eax
	end
	row	NONE, "IRET takes IOPL, IF, VIF and VIP in ring 0", eax=0x187202
	pushl	$FL_IOPL | FL_NT | FL_IF | FL_VIF | FL_VIP | 2
	pushl	$KCODE
	pushl	$HERE(1f)
	iret
1:	pushf
	pop	%eax
9:	hlt
	end
	row	NONE, "POPF leaves VIF, VIP, VM and RF alone in ring 0", eax=0x7202
	pushl	$FL_IOPL | FL_NT | FL_IF | FL_VIF | FL_VIP | FL_RF | FL_VM
	popf
	pushf
	pop	%eax
9:	hlt
	end
	row	NONE, "16-bit IRET keeps the upper flags", eax=0x40002, flags=FL_AC
	pushw	$2
	pushw	$KCODE
	pushw	$HERE(1f)
	iretw
1:	pushf
	pop	%eax
9:	hlt
	end

	/* call gates */
	row	GP, "a gate's privilege before its presence", error=ABSENT_GATE
	movb	$0x0c, ACCESS(ABSENT_GATE)
9:	lcall	$ABSENT_GATE | 3, $0
	end
	row	GP, "a gate to null", error=0
	movw	$0, GDT + CALL_GATE + 2
9:	lcall	$CALL_GATE, $0
	end
	row	GP, "a gate to data", error=KDATA
	movw	$KDATA, GDT + CALL_GATE + 2
9:	lcall	$CALL_GATE, $0
	end
	row	GP, "a gate to an outer ring", error=UCODE^3
	movw	$UCODE, GDT + CALL_GATE + 2
9:	lcall	$CALL_GATE, $0
	end
	row	NP, "a gate to code not present", error=ABSENT_CODE
	movw	$ABSENT_CODE, GDT + CALL_GATE + 2
9:	lcall	$CALL_GATE, $0
	end
	row	GP, "a gate beyond the limit", error=0
	movw	$KCODE16, GDT + CALL_GATE + 2
	movw	$1, GDT + CALL_GATE + 6
9:	lcall	$CALL_GATE, $0
	end
	row	GP, "a gate beyond the GDT", error=GDT_LIMIT+1
	movw	$GDT_LIMIT + 1, GDT + CALL_GATE + 2
9:	ljmp	$CALL_GATE, $0
	end
	row	GP, "CALL to an interrupt gate", error=CALL_GATE
	movb	$0xee, ACCESS(CALL_GATE)
9:	lcall	$CALL_GATE, $0
	end

	/* tasks: what is wrong with the new TSS is the old task's fault */
	row	NP, "a task gate not present", error=TASK_GATE
	movb	$0x05, ACCESS(TASK_GATE)
9:	lcall	$TASK_GATE, $0
	end
	row	GP, "a task gate's privilege", error=TASK_GATE
9:	lcall	$TASK_GATE | 3, $0
	end
	row	GP, "a task gate to null", error=0, need=NEED_UKVM
	movw	$0, GDT + TASK_GATE + 2
9:	lcall	$TASK_GATE, $0
	end
	row	GP, "a task gate into the LDT", error=LDT_DATA, need=NEED_UKVM
	movw	$LDT_DATA, GDT + TASK_GATE + 2
9:	lcall	$TASK_GATE, $0
	end
	row	GP, "a task gate to code", error=KCODE, need=NEED_UKVM
	movw	$KCODE, GDT + TASK_GATE + 2
9:	lcall	$TASK_GATE, $0
	end
	row	GP, "a task gate to a busy task", error=SEL_TSS, need=NEED_UKVM
	movw	$SEL_TSS, GDT + TASK_GATE + 2
9:	lcall	$TASK_GATE, $0
	end
	row	NP, "a task gate to a task not present", error=ABSENT_TSS, need=NEED_UKVM
	movw	$ABSENT_TSS, GDT + TASK_GATE + 2
9:	lcall	$TASK_GATE, $0
	end
	row	GP, "the TSS's privilege", error=SEL_TSS_NEXT
9:	ljmp	$SEL_TSS_NEXT | 3, $0
	end
	row	NP, "INT through a task gate not present", error=INT_USER*8+2
	movb	$0x65, IDT + INT_USER * 8 + 5
9:	int	$INT_USER
	end
	row	GP, "INT through a task gate to a busy task", error=SEL_TSS, need=NEED_UKVM
	movb	$0xe5, IDT + INT_USER * 8 + 5
	movw	$SEL_TSS, IDT + INT_USER * 8 + 2
9:	int	$INT_USER
	end
	row	CALLED, "INT through a task gate", ip=-1
	movb	$0xe5, IDT + INT_USER * 8 + 5
	movw	$SEL_TSS_NEXT, IDT + INT_USER * 8 + 2
	int	$INT_USER
9:	nop
	end
	row	TS, "IRET to a task beyond the GDT", error=GDT_LIMIT+1, need=NEED_UKVM
	movw	$GDT_LIMIT + 1, TSS
	pushl	$FL_NT | 2
	popf
9:	iret
	end
	row	TS, "IRET to a task in the LDT", error=LDT_DATA, need=NEED_UKVM
	movw	$LDT_DATA, TSS
	pushl	$FL_NT | 2
	popf
9:	iret
	end
	row	TS, "IRET to a task that is null", error=0, need=NEED_UKVM
	movw	$0, TSS
	pushl	$FL_NT | 2
	popf
9:	iret
	end
	row	NP, "IRET to a task not present", error=ABSENT_TSS, need=NEED_UKVM
	movb	$0x0b, ACCESS(ABSENT_TSS)
	movw	$ABSENT_TSS, TSS
	pushl	$FL_NT | 2
	popf
9:	iret
	end
	row	CALLED, "IRET to the task before", ip=-1
	movb	$0x8b, ACCESS(SEL_TSS_NEXT)
	movw	$SEL_TSS_NEXT, TSS
	pushl	$FL_NT | 2
	popf
	iret
9:	nop
	end

	/* and what is wrong with its registers is the new task's, in this order */
	/* Without a stack only a task can take it: the error code goes to EAX of TSS_NEXT's. */
.macro task_takes vector
	movb	$0x85, IDT + \vector * 8 + 5
	movw	$SEL_TSS_NEXT, IDT + \vector * 8 + 2
	movl	$HERE(1f), TSS_NEXT + TASK_EIP
	ljmp	$BAD_TSS, $0
	ud2
1:	pop	%eax
9:	hlt
.endm
	row	NONE, "a new task's LDT", eax=KCODE, need=NEED_UKVM
	movw	$KCODE, TSS_BAD + TASK_LDT
	task_takes TS
	end
	row	NONE, "a new task's LDT in the LDT", eax=LDT_DATA, need=NEED_UKVM
	movw	$LDT_DATA, TSS_BAD + TASK_LDT
	task_takes TS
	end
	row	NONE, "a new task's LDT not present", eax=ABSENT_LDT, need=NEED_UKVM
	movw	$ABSENT_LDT, TSS_BAD + TASK_LDT
	task_takes TS
	end
	row	NONE, "a new task's CS is null", eax=0, need=NEED_UKVM
	movw	$0, TSS_BAD + TASK_CS
	task_takes TS
	end
	row	NONE, "a new task's CS is data", eax=KDATA, need=NEED_UKVM
	movw	$KDATA, TSS_BAD + TASK_CS
	task_takes TS
	end
	row	NONE, "a new task's CS is another ring's", eax=UCODE^3, need=NEED_UKVM
	movw	$UCODE ^ 3, TSS_BAD + TASK_CS
	task_takes TS
	end
	row	NONE, "a new task's CS lies beyond the GDT", eax=GDT_LIMIT+1, need=NEED_UKVM
	movw	$GDT_LIMIT + 1, TSS_BAD + TASK_CS
	task_takes TS
	end
	row	NONE, "a new task's CS not present", eax=ABSENT_CODE, need=NEED_UKVM
	movw	$ABSENT_CODE, TSS_BAD + TASK_CS
	task_takes NP
	end
	row	NONE, "a new task's SS is null", eax=0, need=NEED_UKVM
	movw	$0, TSS_BAD + TASK_SS
	task_takes TS
	end
	row	NONE, "a new task's SS is another ring's", eax=UDATA^3, need=NEED_UKVM
	movw	$UDATA ^ 3, TSS_BAD + TASK_SS
	task_takes TS
	end
	row	NONE, "a new task's SS is read-only", eax=READ_ONLY, need=NEED_UKVM
	movw	$READ_ONLY, TSS_BAD + TASK_SS
	task_takes TS
	end
	row	NONE, "a new task's SS not present", eax=ABSENT_DATA, need=NEED_UKVM
	movw	$ABSENT_DATA, TSS_BAD + TASK_SS
	task_takes SS
	end
	row	TS, "a new task's ES not readable", error=EXEC_ONLY, ip=0x1234, need=NEED_UKVM
	movw	$EXEC_ONLY, TSS_BAD + TASK_ES
	ljmp	$BAD_TSS, $0
9:	nop
	end
	row	NP, "a new task's FS not present", error=ABSENT_DATA, ip=0x1234, need=NEED_UKVM
	movw	$KDATA, TSS_BAD + TASK_DS
	movw	$ABSENT_DATA, TSS_BAD + TASK_FS
	ljmp	$BAD_TSS, $0
9:	nop
	end
	row	GP, "a new task's EIP", error=0, ip=0x10000, cs=KCODE16, need=NEED_UKVM
	movw	$KCODE16, TSS_BAD + TASK_CS
	movw	$KDATA, TSS_BAD + TASK_DS
	movl	$0x10000, TSS_BAD + TASK_EIP
	ljmp	$BAD_TSS, $0
9:	nop
	end
	row	DB, "the debug trap of a task", dr6=0xffff8ff0, ip=HANDLERS+CALLED, need=NEED_UKVM
	movw	$1, TSS_NEXT + TASK_TRAP
	ljmp	$SEL_TSS_NEXT, $0
9:	nop
	end
	row	NONE, "a task and back: NT, the link, who is busy", eax=0x038b8b, need=NEED_UKVM
	movl	$HERE(1f), TSS_NEXT + TASK_EIP
	lcall	$SEL_TSS_NEXT, $0
	movzbl	ACCESS(SEL_TSS_NEXT), %ecx
	cmp	$0x89, %ecx
	jne	2f
	pushf
	testl	$FL_NT, (%esp)
	jnz	2f
	mov	TSS_NEXT + 0x28, %eax /* EAX of the other task as it was saved */
	jmp	9f
1:	movzbl	ACCESS(SEL_TSS_NEXT), %eax
	mov	ACCESS(SEL_TSS), %ah
	cmpw	$SEL_TSS, TSS_NEXT
	jne	2f
	bts	$17, %eax
	pushf
	testl	$FL_NT, (%esp)
	jz	2f
	bts	$16, %eax
	iret
2:	ud2
9:	hlt
	end

	/* interrupts */
	row	GP, "a gate beyond the code's limit", error=0
	movw	$KCODE16, IDT + INT_USER * 8 + 2
	movw	$1, IDT + INT_USER * 8 + 6
9:	int	$INT_USER
	end
	row	GP, "a gate beyond the GDT", error=GDT_LIMIT+1
	movw	$GDT_LIMIT + 1, IDT + INT_USER * 8 + 2
9:	int	$INT_USER
	end
	row	GP, "a call gate in the IDT", error=INT_USER*8+2
	movb	$0xec, IDT + INT_USER * 8 + 5
9:	int	$INT_USER
	end
	row	GP, "a segment in the IDT", error=INT_USER*8+2
	movb	$0xfe, IDT + INT_USER * 8 + 5
9:	int	$INT_USER
	end
	row	GP, "the gate of #UD: EXT", error=KDATA+1
	movw	$KDATA, IDT + UD * 8 + 2
9:	ud2
	end
	row	GP, "the gate of INT3: no EXT", error=KDATA
	movw	$KDATA, IDT + BP * 8 + 2
9:	int3
	end
	row	GP, "the gate of INT1: EXT", error=KDATA+1
	movw	$KDATA, IDT + DB * 8 + 2
9:	.byte	0xf1
	end
	row	DF, "#GP on the way of #NP", error=0
	movw	$0, IDT + NP * 8 + 2
	mov	$ABSENT_DATA, %eax
9:	mov	%eax, %ds
	end
	row	GP, "#GP on the way of #UD is no double fault", error=1
	movw	$0, IDT + UD * 8 + 2
9:	ud2
	end
	row	NP, "#NP on the way of INT n is no double fault", error=ABSENT_CODE
	movw	$ABSENT_CODE, IDT + INT_USER * 8 + 2
9:	int	$INT_USER
	end
	row	NONE, "a trap gate leaves IF", eax=0x202
	movb	$0xef, IDT + INT_USER * 8 + 5
	movw	$HERE(1f), IDT + INT_USER * 8
	pushl	$FL_IF | 2
	popf
	int	$INT_USER
	ud2
1:	pushf
	pop	%eax
9:	hlt
	end
	row	NONE, "a 16-bit gate", eax=0x80206
	movb	$0xe6, IDT + INT_USER * 8 + 5
	movw	$HERE(1f), IDT + INT_USER * 8
	int	$INT_USER
2:	ud2
1:	movzwl	4(%esp), %eax
	add	$STACK - 6, %eax
	sub	%esp, %eax
	movzwl	2(%esp), %ecx
	shl	$16, %ecx
	or	%ecx, %eax
	cmpw	$HERE(2b), (%esp)
	jne	2b
	or	$0x204, %eax
9:	hlt
	end

	/* control and debug registers */
	row	UD, "MOV to CR1"
9:	.byte	0x0f, 0x22, 0xc8
	end
	row	UD, "MOV from CR5"
9:	.byte	0x0f, 0x20, 0xe8
	end
	row	GP, "CR4.PCIDE outside of long mode", error=0, need=NEED_PCID
	mov	$CR4_PCIDE, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "CR4.LA57", error=0
	mov	$1 << 12, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "CR4.VMXE", error=0
	mov	$1 << 13, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "CR4.CET", error=0
	mov	$1 << 23, %eax
9:	mov	%eax, %cr4
	end
	row	NONE, "DR6 and DR7 have fixed bits", eax=0xffffe7ff
	mov	$-1, %eax
	mov	%eax, %dr6
	mov	%dr6, %ebx
	mov	$0xffffdfff, %eax
	mov	%eax, %dr7
	mov	%dr7, %ecx
	xor	%eax, %eax
	mov	%eax, %dr7
	cmp	$0xffff07ff, %ecx
	jne	1f
	mov	%ebx, %eax
	and	$0xffffe7ff, %eax
	cmp	$0xffffefff, %ebx
	jne	1f
9:	hlt
1:	ud2
	end
	row	DB, "DR7.GD: reads of DR7 as well", dr6=0xffff2ff0, rf=1
	mov	$0x2000, %eax
	mov	%eax, %dr7
9:	mov	%dr7, %eax
	end
	row	UD, "DR7.GD: but DR4 with CR4.DE comes first", cr4=CR4_DE
	mov	$0x2000, %eax
	mov	%eax, %dr7
9:	mov	%dr4, %eax
	end
	row	DB, "a code breakpoint comes before #UD", dr6=0xffff0ff1
	mov	$HERE(9f), %eax
	mov	%eax, %dr0
	mov	$0x2, %eax
	mov	%eax, %dr7
9:	ud2
	end
	row	DB, "two breakpoints and a single step at once", dr6=0xffff4ff3
	mov	$DATA, %eax
	mov	%eax, %dr0
	inc	%eax
	mov	%eax, %dr1
	mov	$0x330000a, %eax
	or	$0x00110000, %eax
	mov	%eax, %dr7
	pushl	$FL_TF
	popf
	mov	%eax, DATA
9:	nop
	end
	row	DB, "breakpoints of DR7 that are off do not report", dr6=0xffff0ff1
	mov	$DATA, %eax
	mov	%eax, %dr0
	mov	%eax, %dr1
	mov	$0x110002, %eax
	mov	%eax, %dr7
	mov	%eax, DATA
9:	nop
	end
	row	GP, "a fault's write is not reported", error=0, dr6=0xffff0ff0
	mov	$DATA, %eax
	mov	%eax, %dr0
	mov	$0x10002, %eax
	mov	%eax, %dr7
	mov	$READ_ONLY, %eax
	mov	%eax, %ds
9:	mov	%eax, DATA
	end
	row	DB, "a breakpoint on the stack", dr6=0xffff0ff1
	mov	$STACK - 4, %eax
	mov	%eax, %dr0
	mov	$0xd0002, %eax
	mov	%eax, %dr7
	push	%eax
9:	nop
	end
	/* what a MOV SS hits comes after an INT n or INT3 behind it, but is lost in an INT1 */
	row	DB, "MOV SS, a breakpoint, INT1"
	mov	$DATA, %eax
	mov	%eax, %dr0
	movw	$KDATA, DATA
	mov	$0x30002, %ecx
	mov	%ecx, %dr7
	mov	(%eax), %ss
	.byte	0xf1
9:	nop
	end
	row	DB, "MOV SS, a breakpoint, INT3", dr6=0xffff0ff1, ip=HANDLERS+BP
	mov	$DATA, %eax
	mov	%eax, %dr0
	movw	$KDATA, DATA
	mov	$0x30002, %ecx
	mov	%ecx, %dr7
	mov	(%eax), %ss
	int3
9:	nop
	end
	row	DB, "DR6.BS stays from before", dr6=0xffff4ff1
	mov	$0xffff4ff0, %eax
	mov	%eax, %dr6
	mov	$DATA, %eax
	mov	%eax, %dr0
	mov	$0x10002, %eax
	mov	%eax, %dr7
	mov	%al, DATA
9:	nop
	end
	row	NONE, "a breakpoint beside what is accessed", eax=0x10002
	mov	$DATA + 4, %eax
	mov	%eax, %dr0
	mov	$0x10002, %eax
	mov	%eax, %dr7
	mov	%eax, DATA
	mov	%al, DATA + 5
9:	hlt
	end
	row	UD, "MONITOR with LOCK"
9:	.byte	0xf0, 0x0f, 0x01, 0xc8
	end
	row	UD, "RSM outside of SMM"
9:	.byte	0x0f, 0xaa
	end
	row	UD, "GETSEC"
9:	.byte	0x0f, 0x37
	end
	row	UD, "VMXOFF"
9:	.byte	0x0f, 0x01, 0xc4
	end
	row	UD, "VMRUN"
9:	.byte	0x0f, 0x01, 0xd8
	end
	row	UD, "STGI"
9:	.byte	0x0f, 0x01, 0xdc
	end
	row	UD, "RDPRU"
9:	.byte	0x0f, 0x01, 0xfd
	end
	row	UD, "SWAPGS"
9:	.byte	0x0f, 0x01, 0xf8
	end
	row	UD, "SYSCALL, of an Intel CPU", need=NEED_INTEL
9:	.byte	0x0f, 0x05
	end

/* ==== ring 3 ==== */
	stage	PROT_USER

	row	GP, "STI", error=0
9:	sti
	end
	row	GP, "INVD", error=0
9:	invd
	end
	row	UD, "MONITOR"
	xor	%ecx, %ecx
9:	monitor
	end
	row	UD, "MWAIT"
9:	mwait
	end
	row	GP, "INVPCID", error=0, need=NEED_INVPCID
9:	invpcid	DATA, %eax
	end
	row	GP, "MOV from DR7", error=0
9:	mov	%dr7, %eax
	end
	row	UD, "VMLAUNCH"
9:	.byte	0x0f, 0x01, 0xc2
	end
	row	GP, "SLDT with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	sldt	%eax
	end
	row	GP, "STR with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	str	%eax
	end
	row	GP, "SIDT with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	sidt	DATA
	end
	row	GP, "a string to a closed port", error=0
	mov	$CLOSED_PORT, %edx
	mov	$DATA, %esi
9:	outsl
	end
	row	GP, "a repeated one", error=0
	mov	$CLOSED_PORT, %edx
	mov	$DATA, %edi
	mov	$1, %ecx
9:	rep insb
	end
	row	GP, "a doubleword that ends in a closed port", error=0
	mov	$CLOSED_PORT - 3, %edx
9:	outl	%eax, %dx
	end
	row	GP, "INT of a gate of ring 0 that is not present either", error=INT_KERNEL*8+2
9:	int	$INT_KERNEL
	end
	row	INT_USER, "PVI: STI sets VIF", eax=0x80002, cr4=CR4_PVI
	sti
	pushf
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "PVI: CLI clears it", eax=0x100002, cr4=CR4_PVI, flags=FL_VIF|FL_VIP
	cli
	pushf
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	GP, "PVI: STI with VIP", error=0, cr4=CR4_PVI, flags=FL_VIP
9:	sti
	end
	row	INT_USER, "PVI: with IOPL 3 it is IF", eax=0x3202, cr4=CR4_PVI, flags=FL_IOPL
	sti
	pushf
	pop	%eax
	cli
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "PVI: POPF leaves IF and VIF alone", eax=0x2, cr4=CR4_PVI
	pushl	$FL_IF | FL_VIF
	popf
	pushf
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	GP, "CALL: RPL above the gate's DPL", error=CALL_GATE0
9:	lcall	$CALL_GATE0 | 3, $0
	end
	row	GP, "a task gate of ring 0", error=TASK_GATE
9:	ljmp	$TASK_GATE, $0
	end
	row	GP, "RETF to an inner stack", error=UCODE^3
	pushl	$UCODE ^ 3
	pushl	$HERE(9f)
9:	lret
	end
	row	INT_USER, "IRET cannot change IOPL and IF", eax=0x2
	pushl	$FL_IOPL | FL_IF | FL_VIF | FL_VIP | 2
	pushl	$UCODE
	pushl	$HERE(1f)
	iret
1:	pushf
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "IRET with VM in ring 3 stays in protected mode", eax=0x2
	pushl	$FL_VM | 2
	pushl	$UCODE
	pushl	$HERE(1f)
	iret
1:	pushf
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "LAR and VERR of ring 0's data", eax=0
	xor	%eax, %eax
	mov	$KDATA, %ecx
	lar	%ecx, %edx
	setz	%al
	verr	%cx
	setz	%ah
	int	$INT_USER
9:	nop
	end
	row	GP, "ring 3 loads a null SS", error=0
	mov	$3, %eax
9:	mov	%eax, %ss
	end
	row	UD, "SYSRET, of an Intel CPU", need=NEED_INTEL
9:	.byte	0x0f, 0x07
	end

/* ==== virtual-8086 mode ==== */
	stage	VM86
	.code16

	row	UD, "LAR has no meaning"
9:	lar	%ax, %ax
	end
	row	UD, "VEX has no meaning"
9:	.byte	0xc5, 0xf8, 0x77
	end
	row	GP, "CLTS", error=0
9:	clts
	end
	row	GP, "MOV to DR", error=0
9:	mov	%eax, %dr0
	end
	row	GP, "RDMSR", error=0
9:	rdmsr
	end
	row	GP, "INVLPG", error=0
9:	invlpg	DATA
	end
	row	GP, "LMSW", error=0
9:	lmsw	%ax
	end
	row	GP, "WBINVD", error=0
9:	wbinvd
	end
	row	UD, "MONITOR"
	xor	%ecx, %ecx
9:	monitor
	end
	row	GP, "INVPCID", error=0, need=NEED_INVPCID
9:	invpcid	DATA, %eax
	end
	row	GP, "SMSW with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	smsw	%ax
	end
	row	INT_USER, "SMSW without", eax=0x31, flags=FL_IOPL
	smsw	%eax
	and	$0xff, %eax
	int	$INT_USER
9:	nop
	end
	row	GP, "a gate to an outer ring", error=UCODE^3, flags=FL_IOPL
	movb	$0xee, IDT + INT_USER_CODE * 8 + 5
9:	int	$INT_USER_CODE
	end
	row	GP, "a gate to conforming code", error=CONFORMING, flags=FL_IOPL
	movw	$CONFORMING, IDT + INT_USER * 8 + 2
9:	int	$INT_USER
	end
	row	GP, "IRETD beyond 64 KiB", error=0, flags=FL_IOPL
	pushl	$2
	pushl	$0
	pushl	$0x10000
9:	iretl
	end
	row	GP, "VME: IRETD with IOPL 0", error=0, cr4=CR4_VME
9:	iretl
	end
	row	GP, "VME: a redirection bitmap beyond the TSS", error=0, cr4=CR4_VME
	movw	$0xffff, TSS + 0x66
9:	int	$0x60
	end
	row	INT_USER, "PUSHFD and POPFD with IOPL 3 leave VM and IOPL", eax=0x3002, flags=FL_IOPL
	pushl	$0
	popfl
	pushfl
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	GP, "port I/O is the bitmap's alone", error=0, flags=FL_IOPL
	mov	$CLOSED_PORT, %dx
9:	outsb
	end
	row	GP, "VME: VIF is pushed as it is by an interrupt", error=INT_KERNEL*8+2, cr4=CR4_VME, flags=FL_VIF|FL_IOPL
9:	int	$INT_KERNEL
	end

/* ==== PAE, ring 0 ==== */
	stage	PAE
	.code32

	row	GP, "CR4.PCIDE outside of long mode", error=0, need=NEED_PCID
	mov	%cr4, %eax
	or	$CR4_PCIDE, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "EFER.LME with paging on", error=0
	mov	$0xc0000080, %ecx
	rdmsr
	or	$EFER_LME, %eax
9:	wrmsr
	end
	row	GP, "a PDPTE beyond the physical addresses", error=0, need=NEED_INTEL
	movl	$0x80000000, TABLES_PAE + 4
	mov	%cr3, %eax
9:	mov	%eax, %cr3
	end
	row	GP, "a bad PDPTE and CR4.PGE", error=0, need=NEED_INTEL
	orl	$2, TABLES_PAE
	mov	%cr4, %eax
	xor	$0x80, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "a bad PDPTE and CR0.CD", error=0, need=NEED_INTEL
	orl	$2, TABLES_PAE
	mov	%cr0, %eax
	or	$0x40000000, %eax
9:	mov	%eax, %cr0
	end
	row	NONE, "a bad PDPTE and CR0.WP", need=NEED_INTEL
	orl	$2, TABLES_PAE
	mov	%cr0, %eax
	xor	$CR0_WP, %eax
	mov	%eax, %cr0
9:	hlt
	end
	row	NONE, "a bad PDPTE that is not present", need=NEED_INTEL
	movl	$0xfffffffe, TABLES_PAE + 8
	mov	%cr3, %eax
	mov	%eax, %cr3
9:	hlt
	end

/* ==== compatibility mode, ring 3 ==== */
	stage	COMPAT

	row	UD, "SWAPGS"
9:	.byte	0x0f, 0x01, 0xf8
	end
	row	UD, "RDFSBASE"
9:	.byte	0xf3, 0x0f, 0xae, 0xc0
	end
	row	GP, "a task gate", error=TASK_GATE
9:	lcall	$TASK_GATE, $0
	end
	row	GP, "code with both L and D", error=BOTH_WIDE
9:	ljmp	$BOTH_WIDE, $0
	end
	row	GP, "IRET with NT", error=0
	pushl	$FL_NT | 2
	popf
9:	iret
	end
	row	GP, "IRET to ring 0", error=KCODE64
	pushl	$2
	pushl	$KCODE64
	pushl	$HERE(9f)
9:	iret
	end
	row	UD, "SYSCALL, of an Intel CPU", need=NEED_INTEL
9:	.byte	0x0f, 0x05
	end
	row	UD, "SYSENTER, of an AMD CPU", need=NEED_AMD
9:	sysenter
	end
	row	GP, "SYSENTER without a CS", error=0, need=NEED_INTEL
9:	sysenter
	end
	row	INT_USER, "LAR knows long mode's types only", eax=0
	xor	%eax, %eax
	mov	$CALL_GATE16, %ecx
	lar	%ecx, %edx
	setz	%al
	mov	$TASK_GATE, %ecx
	lar	%ecx, %edx
	setz	%ah
	int	$INT_USER
9:	nop
	end

/* ==== 64-bit mode, ring 0 ==== */
	stage	LONG
	.code64

	/* control registers */
	row	UD, "MOV to CR5"
9:	.byte	0x0f, 0x22, 0xe8
	end
	row	UD, "MOV from CR15"
9:	.byte	0x44, 0x0f, 0x20, 0xf8
	end
	row	UD, "MOV from DR8"
9:	.byte	0x44, 0x0f, 0x21, 0xc0
	end
	row	GP, "upper half of CR4", error=0
	mov	%cr4, %rax
	bts	$32, %rax
9:	mov	%rax, %cr4
	end
	row	GP, "CR4.LA57", error=0
	mov	%cr4, %rax
	bts	$12, %rax
9:	mov	%rax, %cr4
	end
	row	GP, "upper half of DR6", error=0
	mov	$1 << 32, %rax
9:	mov	%rax, %dr6
	end
	row	GP, "CR3 bit 63 without PCIDs", error=0
	mov	%cr3, %rax
	bts	$63, %rax
9:	mov	%rax, %cr3
	end
	row	NONE, "CR3 bit 63 with PCIDs is not stored", eax=TABLES_4L|5, need=NEED_PCID
	mov	%cr4, %rax
	or	$CR4_PCIDE, %rax
	mov	%rax, %cr4
	mov	%cr3, %rax
	bts	$63, %rax
	or	$5, %rax
	mov	%rax, %cr3
	mov	%cr3, %rax
	bt	$63, %rax
	jc	1f
9:	hlt
1:	ud2
	end
	row	GP, "CR4.PCIDE with a PCID in CR3", error=0, need=NEED_PCID
	mov	%cr3, %rax
	or	$8, %rax
	mov	%rax, %cr3
	mov	%cr4, %rax
	or	$CR4_PCIDE, %rax
9:	mov	%rax, %cr4
	end
	row	NONE, "CR4.PCIDE off again with a PCID in CR3", need=NEED_PCID
	mov	%cr4, %rax
	or	$CR4_PCIDE, %rax
	mov	%rax, %cr4
	mov	%cr3, %rax
	or	$8, %rax
	mov	%rax, %cr3
	mov	%cr4, %rax
	and	$~CR4_PCIDE, %rax
	mov	%rax, %cr4
9:	hlt
	end
	row	GP, "paging off in compatibility mode with PCIDs", error=0, cs=KCODE, need=NEED_PCID
	mov	%cr4, %rax
	or	$CR4_PCIDE, %rax
	mov	%rax, %cr4
	movl	$HERE(1f), DATA
	movw	$KCODE, DATA + 4
	ljmpl	*DATA
	.code32
1:	mov	%cr0, %eax
	btr	$31, %eax
9:	mov	%eax, %cr0
	.code64
	end
	row	NONE, "paging off in compatibility mode", eax=0
	movl	$HERE(1f), DATA
	movw	$KCODE, DATA + 4
	ljmpl	*DATA
	.code32
1:	mov	%cr0, %eax
	btr	$31, %eax
	mov	%eax, %cr0
	mov	$0xc0000080, %ecx
	rdmsr
	and	$EFER_LMA, %eax
9:	hlt
	.code64
	end
	row	NONE, "the same page by another PCID", eax=0x77, need=NEED_PCID
	movl	$0x77, DATA
	mov	%cr4, %rax
	or	$CR4_PCIDE, %rax
	mov	%rax, %cr4
	mov	V_USER, %eax
	mov	$TABLES_4L + 1, %rax
	mov	%rax, %cr3
	mov	V_USER, %eax
9:	hlt
	end
	row	PF, "CR3 without bit 63 makes the end of a mapping seen", error=0, cr2=V_USER, need=NEED_PCID
	mov	%cr4, %rax
	or	$CR4_PCIDE, %rax
	mov	%rax, %cr4
	mov	V_USER, %eax
	movq	$0, TABLES_4L + 0x3000 + (V_USER >> 9)
	mov	%cr3, %rax
	mov	%rax, %cr3
9:	mov	V_USER, %eax
	end
	row	PF, "INVPCID makes the end of a mapping seen", error=0, cr2=V_USER, need=NEED_INVPCID
	mov	V_USER, %eax
	movq	$0, TABLES_4L + 0x3000 + (V_USER >> 9)
	movq	$0, DATA
	movq	$V_USER + 5, DATA + 8
	xor	%eax, %eax
	invpcid	DATA, %rax
9:	mov	V_USER, %eax
	end
	row	GP, "INVPCID of a non-canonical address", error=0, need=NEED_INVPCID
	movq	$0, DATA
	mov	$1 << 47, %rax
	mov	%rax, DATA + 8
	xor	%eax, %eax
9:	invpcid	DATA, %rax
	end
	row	GP, "INVPCID of a PCID without PCIDs", error=0, need=NEED_INVPCID
	movq	$1, DATA
	mov	$1, %eax
9:	invpcid	DATA, %rax
	end
	row	PF, "INVPCID reads its descriptor before it judges", error=0, cr2=V_ABSENT, need=NEED_INVPCID
	mov	$9, %eax
9:	invpcid	V_ABSENT, %rax
	end
	row	UD, "INVPCID of a register", need=NEED_INVPCID
9:	.byte	0x66, 0x0f, 0x38, 0x82, 0xc0
	end

	/* MSRs */
	row	GP, "a reserved bit of EFER", error=0
	mov	$0xc0000080, %ecx
	rdmsr
	bts	$1, %eax
9:	wrmsr
	end
	row	NONE, "EFER.LMA is not written", eax=EFER_LMA
	mov	$0xc0000080, %ecx
	rdmsr
	btr	$10, %eax
	wrmsr
	rdmsr
	and	$EFER_LMA, %eax
9:	hlt
	end
	row	GP, "MTRR of a reserved type", error=0
	mov	$0x2ff, %ecx
	mov	$0x802, %eax
	xor	%edx, %edx
9:	wrmsr
	end
	row	GP, "PAT with a bit above a type", error=0
	mov	$0x277, %ecx
	mov	$0x08, %eax
	xor	%edx, %edx
9:	wrmsr
	end
	row	GP, "MCG_CAP is read-only", error=0
	mov	$0x179, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
9:	wrmsr
	end
	row	GP, "a counter that does not exist", error=0
	mov	$0x30a, %ecx
9:	rdmsr
	end
	row	GP, "RDPMC", error=0
	xor	%ecx, %ecx
9:	rdpmc
	end
	row	GP, "XSETBV of XCR1", error=0, cr4=CR4_OSXSAVE, need=NEED_XSAVE
	mov	$1, %ecx
	mov	$1, %eax
	xor	%edx, %edx
9:	xsetbv
	end
	row	GP, "MONITOR of extensions", error=0
	mov	$1, %ecx
9:	monitor
	end

	/* SYSCALL and the like */
	row	GP, "SYSRET to a non-canonical address, of an Intel CPU", error=0, need=NEED_INTEL
	mov	$0xc0000080, %ecx
	rdmsr
	or	$EFER_SCE, %eax
	wrmsr
	mov	$1 << 47, %rcx
9:	sysretq
	end
	row	GP, "the same of an AMD CPU", error=0, ip=1<<47, cs=UCODE64, need=NEED_AMD
	mov	$0xc0000081, %ecx
	xor	%eax, %eax
	mov	$(UCODE64 - 16) << 16 | KCODE64, %edx
	wrmsr
	mov	$0xc0000080, %ecx
	rdmsr
	or	$EFER_SCE, %eax
	wrmsr
	mov	$2, %r11d
	mov	$1 << 47, %rcx
	sysretq
9:	nop
	end
	row	GP, "SYSEXIT without a CS", error=0, need=NEED_INTEL
9:	sysexit
	end
	row	GP, "SYSEXIT to a non-canonical address", error=0, need=NEED_INTEL
	mov	$0x174, %ecx
	mov	$8, %eax
	xor	%edx, %edx
	wrmsr
	mov	$1 << 47, %rdx
	xor	%ecx, %ecx
9:	.byte	0x48, 0x0f, 0x35
	end
	row	UD, "SYSENTER, of an AMD CPU", need=NEED_AMD
9:	sysenter
	end
	row	UD, "SYSEXIT, of an AMD CPU", need=NEED_AMD
9:	sysexit
	end
	row	UD, "RSM outside of SMM"
9:	rsm
	end
	row	UD, "VMRESUME"
9:	.byte	0x0f, 0x01, 0xc3
	end
	row	UD, "INVEPT"
9:	.byte	0x66, 0x0f, 0x38, 0x80, 0x00
	end
	row	UD, "VMSAVE"
9:	.byte	0x0f, 0x01, 0xdb
	end

	/* descriptors of 16 bytes */
	row	GP, "LTR: the type of the upper half", error=SEL_TSS
	movb	$0x89, ACCESS(SEL_TSS)
	movb	$0x01, GDT + SEL_TSS + 13
	mov	$SEL_TSS, %eax
9:	ltr	%ax
	end
	row	GP, "LTR of a non-canonical base", error=SEL_TSS
	movb	$0x89, ACCESS(SEL_TSS)
	movl	$0x00008000, GDT + SEL_TSS + 8
	mov	$SEL_TSS, %eax
9:	ltr	%ax
	end
	row	GP, "LTR of a 16-bit TSS", error=SEL_TSS
	movb	$0x81, ACCESS(SEL_TSS)
	mov	$SEL_TSS, %eax
9:	ltr	%ax
	end
	row	GP, "LLDT of a non-canonical base", error=SEL_LDT
	movl	$0x00008000, GDT + SEL_LDT + 8
	mov	$SEL_LDT, %eax
9:	lldt	%ax
	end
	row	GP, "a call gate's upper half", error=CALL_GATE
	movb	$0x01, GDT + CALL_GATE + 13
	movw	$CALL_GATE, DATA + 4
9:	lcalll	*DATA
	end
	row	GP, "a call gate to 32-bit code", error=KCODE
	movw	$KCODE, GDT + CALL_GATE + 2
	movw	$CALL_GATE, DATA + 4
9:	lcalll	*DATA
	end
	row	GP, "a call gate to a non-canonical address", error=0
	movl	$0x00008000, GDT + CALL_GATE + 8
	movw	$CALL_GATE, DATA + 4
9:	lcalll	*DATA
	end
	row	NP, "a call gate not present", error=CALL_GATE
	movb	$0x6c, ACCESS(CALL_GATE)
	movw	$CALL_GATE, DATA + 4
9:	lcalll	*DATA
	end
	row	NONE, "LAR of each type", eax=0x1a04
	xor	%ebx, %ebx
	xor	%ecx, %ecx
1:	lea	0x80(%rcx), %eax
	mov	%al, ACCESS(SEL_LDT)
	mov	$SEL_LDT, %edx
	lar	%edx, %edx
	jnz	2f
	bts	%ecx, %ebx
2:	inc	%ecx
	cmp	$16, %ecx
	jne	1b
	mov	%ebx, %eax
9:	hlt
	end
	row	NONE, "LSL of each type", eax=0x0a04
	xor	%ebx, %ebx
	xor	%ecx, %ecx
1:	lea	0x80(%rcx), %eax
	mov	%al, ACCESS(SEL_LDT)
	mov	$SEL_LDT, %edx
	lsl	%edx, %edx
	jnz	2f
	bts	%ecx, %ebx
2:	inc	%ecx
	cmp	$16, %ecx
	jne	1b
	mov	%ebx, %eax
9:	hlt
	end

	/* IRET */
	row	GP, "IRET to ring 3 with a null stack", error=0
	pushq	$3
	pushq	$STACK
	pushq	$2
	pushq	$UCODE64
	pushq	$HERE(9f)
9:	iretq
	end
	row	GP, "IRET to compatibility mode with a null stack", error=0
	pushq	$0
	pushq	$STACK
	pushq	$2
	pushq	$KCODE
	pushq	$HERE(9f)
9:	iretq
	end
	row	GP, "IRET: RPL of the stack", error=UDATA^3
	pushq	$UDATA
	pushq	$STACK
	pushq	$2
	pushq	$KCODE64
	pushq	$HERE(9f)
9:	iretq
	end
	row	SS, "IRET: the stack is not present", error=UDATA^3
	movb	$0x73, ACCESS(UDATA)
	pushq	$UDATA
	pushq	$STACK
	pushq	$2
	pushq	$UCODE64
	pushq	$HERE(9f)
9:	iretq
	end
	row	GP, "IRET to code with both L and D", error=BOTH_WIDE
	pushq	$KDATA
	pushq	$STACK
	pushq	$2
	pushq	$BOTH_WIDE
	pushq	$HERE(9f)
9:	iretq
	end
	row	GP, "IRET beyond a limit, to compatibility mode", error=0
	pushq	$KDATA
	pushq	$STACK
	pushq	$2
	pushq	$KCODE16
	pushq	$0x10000
9:	iretq
	end
	row	NONE, "IRET to the same ring takes SS:RSP", eax=0x7f00
	pushq	$0
	pushq	$0x7f00
	pushq	$2
	pushq	$KCODE64
	pushq	$HERE(1f)
	iretq
1:	mov	%rsp, %rax
	mov	%ss, %ecx
	or	%ecx, %eax
9:	hlt
	end
	row	NONE, "IRET to compatibility mode", eax=0x7f00
	pushq	$KDATA
	pushq	$0x7f00
	pushq	$2
	pushq	$KCODE
	pushq	$HERE(1f)
	iretq
	.code32
1:	mov	%esp, %eax
	dec	%eax
	inc	%eax
9:	hlt
	.code64
	end
	row	GP, "RETF to a non-canonical address", error=0
	pushq	$KCODE64
	mov	$1 << 47, %rax
	push	%rax
9:	lretq
	end
	row	SS, "RETF from a non-canonical stack", error=0
	movb	$1, IDT + SS * 16 + 4
	mov	$1 << 62, %rsp
9:	lretq
	end

	/* the TSS and the stacks in it */
	row	TS, "the IST lies beyond the TSS", error=SEL_TSS+1
	movb	$7, IDT + UD * 16 + 4
	movw	$0x40, GDT + SEL_TSS
	movb	$0x89, ACCESS(SEL_TSS)
	mov	$SEL_TSS, %eax
	ltr	%ax
9:	ud2
	end
	row	TS, "the same by INT n", error=SEL_TSS
	movb	$7, IDT + INT_USER * 16 + 4
	movw	$0x40, GDT + SEL_TSS
	movb	$0x89, ACCESS(SEL_TSS)
	mov	$SEL_TSS, %eax
	ltr	%ax
9:	int	$INT_USER
	end
	row	SS, "a non-canonical IST", error=1
	movb	$7, IDT + UD * 16 + 4
	movb	$0x80, TSS + 36 + 6 * 8 + 6
9:	ud2
	end
	row	SS, "a non-canonical IST by INT n", error=0
	movb	$7, IDT + INT_USER * 16 + 4
	movb	$0x80, TSS + 36 + 6 * 8 + 6
9:	int	$INT_USER
	end
	row	GP, "a gate to a non-canonical address", error=0
	movl	$0x00008000, IDT + INT_USER * 16 + 8
9:	int	$INT_USER
	end
	row	GP, "a task gate in the IDT", error=INT_USER*8+2
	movb	$0xe5, IDT + INT_USER * 16 + 5
9:	int	$INT_USER
	end
	row	GP, "a 16-bit gate in the IDT", error=INT_USER*8+2
	movb	$0xe6, IDT + INT_USER * 16 + 5
9:	int	$INT_USER
	end
	row	PF, "the IST is not there", error=2, cr2=V_ABSENT+0xff8
	movb	$7, IDT + INT_USER * 16 + 4
	movl	$V_ABSENT + 0x1000, TSS + 36 + 6 * 8
9:	int	$INT_USER
	end
	row	PF, "the IDT is not there", error=0, cr2=V_ABSENT
	/* only its first half is, vectors 0-0x7f */
	movw	$0xfff, DATA
	movq	$V_ABSENT - 0x800, DATA + 2
	mov	$IDT, %esi
	mov	$V_ABSENT - 0x800, %edi
	mov	$0x800, %ecx
	rep movsb
	lidt	DATA
9:	int	$INT_USER
	end
	row	PF, "#PF on the way of #GP is no double fault", error=2, cr2=V_ABSENT+0xff8
	movb	$7, IDT + GP * 16 + 4
	movl	$V_ABSENT + 0x1000, TSS + 36 + 6 * 8
	mov	$1 << 47, %rax
9:	mov	(%rax), %al
	end
	row	PF, "#PF on the way of #UD is no double fault", error=2, cr2=V_ABSENT+0xff8
	movb	$7, IDT + UD * 16 + 4
	movl	$V_ABSENT + 0x1000, TSS + 36 + 6 * 8
9:	ud2
	end
	row	GP, "#GP on the way of #UD is no double fault", error=KDATA+1
	movw	$KDATA, IDT + UD * 16 + 2
9:	ud2
	end

	/* what comes first */
	row	DB, "a code breakpoint comes before the page fault of the fetch", dr6=0xffff0ff1, ip=V_ABSENT
	mov	$V_ABSENT, %eax
	mov	%rax, %dr0
	mov	$0x2, %ecx
	mov	%rcx, %dr7
	jmp	*%rax
9:	nop
	end
	row	GP, "15 bytes of prefixes come before the next page", error=0, ip=(V_ABSENT-15)
	mov	$V_ABSENT - 15, %edi
	mov	$0x66, %al
	mov	$15, %ecx
	rep stosb
	mov	$V_ABSENT - 15, %eax
	jmp	*%rax
9:	nop
	end
	row	PF, "14 of them do not", error=0x10, cr2=V_ABSENT, ip=(V_ABSENT-14)
	mov	$V_ABSENT - 14, %edi
	mov	$0x66, %al
	mov	$14, %ecx
	rep stosb
	mov	$V_ABSENT - 14, %eax
	jmp	*%rax
9:	nop
	end
	row	UD, "an undefined opcode at a page's end comes before the next page", ip=(V_ABSENT-2)
	movw	$0x0b0f, V_ABSENT - 2
	mov	$V_ABSENT - 2, %eax
	jmp	*%rax
9:	nop
	end
	row	UD, "#UD comes before #NM", cr0=CR0_TS
9:	.byte	0xf0, 0x0f, 0x57, 0xc0 /* LOCK XORPS */
	end
	row	NM, "#NM comes before #GP", cr0=CR0_TS, cr4=CR4_OSFXSR
9:	movaps	DATA + 8, %xmm0
	end
	row	GP, "#GP comes before #PF", error=0, cr4=CR4_OSFXSR
9:	movaps	V_ABSENT + 8, %xmm0
	end
	row	DE, "the operand is read before the division"
	xor	%ecx, %ecx
9:	div	%ecx
	end
	row	PF, "#PF comes before #DE", error=0, cr2=V_ABSENT
9:	divl	V_ABSENT
	end
	row	PF, "the first page of an operand comes first", error=0, cr2=V_ABSENT+0xffe
9:	mov	V_ABSENT + 0xffe, %eax
	end
	row	PF, "CMPXCHG16B: #GP is for alignment only", error=2, cr2=V_ABSENT
9:	cmpxchg16b V_ABSENT
	end

	/* 1 GiB pages, MAXPHYADDR */
	row	NONE, "a page of 1 GiB", eax=0x5b, need=NEED_GBPAGES
	movl	$0x5b, DATA
	movq	$0xe7, TABLES_4L + 0x1000 + 8
	mov	0x40000000 + DATA, %eax
9:	hlt
	end
	row	PF, "a page of 1 GiB with a reserved bit", error=9, cr2=0x40000000, need=NEED_GBPAGES
	movq	$0x20e7, TABLES_4L + 0x1000 + 8
9:	mov	0x40000000, %eax
	end
	row	PF, "a reserved bit of the PML4", error=9, cr2=0x8000000000
	movq	$TABLES_4L + 0x1087, TABLES_4L + 8
	mov	$0x8000000000, %rax
9:	mov	(%rax), %eax
	end
	row	PF, "an address beyond MAXPHYADDR", error=9, cr2=V_FRESH
	movl	$0x00080000, TABLES_4L + 0x3000 + (V_FRESH >> 9) + 4
9:	mov	V_FRESH, %eax
	end
	row	NONE, "bits that the CPU ignores", eax=0x5b
	movl	$0x5b, DATA
	movl	$0x7ff00000, TABLES_4L + 0x3000 + (V_FRESH >> 9) + 4
	mov	V_FRESH, %eax
9:	hlt
	end
	row	PF, "a reserved bit matters only in what is present", error=0, cr2=V_ABSENT
	movl	$0x00080000, TABLES_4L + 0x3000 + (V_ABSENT >> 9) + 4
9:	mov	V_ABSENT, %eax
	end

/* ==== 64-bit mode, ring 3 ==== */
	stage	LONG_USER

	row	GP, "INVPCID", error=0, need=NEED_INVPCID
9:	invpcid	DATA, %rax
	end
	row	GP, "MOV from CR8", error=0
9:	mov	%cr8, %rax
	end
	row	GP, "RDMSR", error=0
9:	rdmsr
	end
	row	UD, "MOV from CR1, whatever the ring"
9:	.byte	0x0f, 0x20, 0xc8
	end
	row	UD, "MONITOR"
	xor	%ecx, %ecx
9:	monitor
	end
	row	UD, "CLAC", need=NEED_SMAP
9:	clac
	end
	row	GP, "CLI", error=0
9:	cli
	end
	row	GP, "RDTSC with CR4.TSD", error=0, cr4=CR4_TSD
9:	rdtsc
	end
	row	GP, "SGDT with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	sgdt	DATA
	end
	row	GP, "RDPMC", error=0
	xor	%ecx, %ecx
9:	rdpmc
	end
	row	GP, "IRET with NT", error=0
	pushq	$FL_NT
	popfq
9:	iretq
	end
	row	GP, "RETF to ring 0", error=KCODE64
	pushq	$KCODE64
	pushq	$HERE(9f)
9:	lretq
	end
	row	DB, "INT1 needs no privilege"
	.byte	0xf1
9:	nop
	end
	row	PF, "a jump to the supervisor's", error=0x15, cr2=V_SUPER, ip=V_SUPER
	mov	$V_SUPER, %eax
	jmp	*%rax
9:	nop
	end
	row	AC, "PUSH out of line", error=0, cr0=CR0_AM, flags=FL_AC, sp=(STACK-4)
	sub	$4, %rsp
9:	push	%rax
	end
	row	INT_USER, "the frame of an interrupt needs no alignment", cr0=CR0_AM, flags=FL_AC
	sub	$3, %rsp
	int	$INT_USER
9:	nop
	end

	.section .note.GNU-stack, "", @progbits
