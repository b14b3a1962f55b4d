/* SPDX-License-Identifier: MIT */
/*
 * One row a fault, mode by mode: a few instructions, the mark 9: where the saved instruction pointer must point, and
 * what must come of it. modes.c runs each row in a machine of its own, at TEXT with the stack at STACK, and compares.
 * modes_rows.h says how a row is written; modes_system.S has more of them.
 */
#include "modes_rows.h"

	.section .rodata.faults, "a"

/* ==== real mode: the vector's IVT entry, IP, CS and FLAGS on the stack, and never an error code ==== */
	stage	REAL
	.code16

	row	DE, "DIV by zero"
	xor	%cx, %cx
9:	div	%cx
	end
	row	DE, "DIV whose quotient does not fit"
	mov	$0x200, %ax
	mov	$2, %cl
9:	div	%cl
	end
	row	DE, "IDIV of the smallest by -1"
	mov	$0x8000, %dx
	xor	%ax, %ax
	mov	$-1, %cx
9:	idiv	%cx
	end
	row	DE, "AAM 0"
9:	aam	$0
	end
	row	DB, "single step", dr6=0xffff4ff0
	push	$FL_TF
	popf
	nop
9:	nop
	end
	row	DB, "no single step behind MOV SS", dr6=0xffff4ff0
	xor	%ax, %ax
	push	$FL_TF
	popf
	mov	%ax, %ss
	nop
9:	nop
	end
	row	DB, "INT1"
	.byte	0xf1
9:	nop
	end
	row	BP, "INT3"
	int3
9:	nop
	end
	row	BP, "INT 3, the long form"
	.byte	0xcd, 3
9:	nop
	end
	row	OF, "INTO"
	mov	$0x7f, %al
	inc	%al
	into
9:	nop
	end
	row	NONE, "INTO without overflow", eax=1
	xor	%eax, %eax
	inc	%al
	into
9:	hlt
	end
	row	BR, "BOUND"
	movl	$0x00100008, DATA
	mov	$0x11, %ax
9:	bound	%ax, DATA
	end
	row	NONE, "BOUND within", eax=0x10
	movl	$0x00100008, DATA
	mov	$0x10, %eax
	bound	%ax, DATA
9:	hlt
	end
	row	0x21, "INT n"
	int	$0x21
9:	nop
	end
	row	0x21, "INT n in another segment", ip=9f-8f, cs=TEXT>>4
	ljmp	$TEXT >> 4, $(1f - 8b)
1:	int	$0x21
9:	nop
	end
	row	UD, "UD2"
9:	ud2
	end
	row	UD, "LOCK NOP"
9:	.byte	0xf0, 0x90
	end
	row	UD, "MOV to CS"
9:	.byte	0x8e, 0xc8
	end
	row	UD, "LLDT has no meaning"
9:	lldt	%ax
	end
	row	UD, "SLDT has no meaning"
9:	sldt	%ax
	end
	row	UD, "ARPL has no meaning"
9:	arpl	%ax, %ax
	end
	row	UD, "VERR has no meaning"
9:	verr	%ax
	end
	row	UD, "MOV from CR1"
9:	.byte	0x0f, 0x20, 0xc8
	end
	row	UD, "MOV DR4 with CR4.DE", cr4=CR4_DE
9:	.byte	0x0f, 0x21, 0xe0
	end
	row	NONE, "MOV DR4 without", eax=0xffff0ff0
	.byte	0x0f, 0x21, 0xf0
	.byte	0x0f, 0x21, 0xe0
9:	hlt
	end
	row	UD, "LEA of a register"
9:	.byte	0x8d, 0xc0
	end
	row	NM, "x87 with CR0.TS", cr0=CR0_TS
9:	fld1
	end
	row	NM, "x87 with CR0.EM", cr0=CR0_EM
9:	fld1
	end
	row	NM, "WAIT with CR0.MP and TS", cr0=CR0_MP|CR0_TS
9:	fwait
	end
	row	NONE, "WAIT with CR0.TS only", cr0=CR0_TS
	fwait
9:	hlt
	end
	row	MF, "a pending x87 exception"
	fninit
	movw	$0x37b, DATA
	fldcw	DATA
	fld1
	fdivs	DATA + 8
9:	fwait
	end
	row	XM, "SSE exception", cr4=CR4_OSFXSR|CR4_OSXMMEXCPT
	movl	$0x1d80, DATA
	ldmxcsr	DATA
	xorps	%xmm1, %xmm1
	movl	$0x3f800000, DATA
	movss	DATA, %xmm0
9:	divss	%xmm1, %xmm0
	end
	row	UD, "SSE exception without OSXMMEXCPT", cr4=CR4_OSFXSR
	movl	$0x1d80, DATA
	ldmxcsr	DATA
	xorps	%xmm1, %xmm1
	movl	$0x3f800000, DATA
	movss	DATA, %xmm0
9:	divss	%xmm1, %xmm0
	end
	row	UD, "SSE without OSFXSR"
9:	xorps	%xmm0, %xmm0
	end
	row	GP, "a word across the segment's end"
9:	mov	0xffff, %ax
	end
	row	GP, "a doubleword across the segment's end"
9:	mov	%eax, 0xfffd
	end
	row	SS, "a word across the stack segment's end"
	mov	$0xffff, %bp
9:	mov	(%bp), %ax
	end
	row	GP, "a 32-bit offset beyond 64 KiB"
	mov	$0x10000, %ebx
9:	mov	(%ebx), %al
	end
	row	GP, "a jump beyond 64 KiB"
9:	ljmpl	$0, $0x10000
	end
	row	GP, "an instruction of 16 bytes"
9:	.fill	15, 1, 0x26
	nop
	end
	row	GP, "INT beyond the IDT's limit"
	movw	$0x83, DATA
	movl	$0, DATA + 2
	lidtw	DATA
9:	int	$0x21
	end
	row	GP, "paging without protection"
	mov	$0x80000010, %eax
9:	mov	%eax, %cr0
	end
	row	GP, "a reserved bit of CR4"
	mov	$0x80000000, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "RDMSR of none"
	mov	$0x12345, %ecx
9:	rdmsr
	end
	row	GP, "WRMSR of none"
	mov	$0x12345, %ecx
9:	wrmsr
	end
	row	GP, "SYSENTER"
9:	sysenter
	end
	row	SHUTDOWN, "no room on the stack"
	mov	$1, %sp
9:	push	%ax
	end
	row	SHUTDOWN, "no IDT"
	movl	$0, DATA
	movw	$0, DATA + 4
	lidtw	DATA
9:	ud2
	end
	row	DB, "single step of one iteration", dr6=0xffff4ff0, rf=1
	mov	$DATA, %di
	mov	$3, %cx
	push	$FL_TF
	popf
9:	rep stosb
	end
	row	0x21, "INT n is no single step"
	push	$FL_TF
	popf
	int	$0x21
9:	nop
	end
	row	DB, "single step of the POPF that clears TF", dr6=0xffff4ff0
	push	$0
	push	$FL_TF
	popf
	popf
9:	nop
	end
	row	UD, "VEX has no meaning"
9:	.byte	0xc5, 0xf8, 0x77
	end
	row	MF, "MMX with a pending x87 exception"
	fninit
	movw	$0x37b, DATA
	fldcw	DATA
	fld1
	fdivs	DATA + 8
	fnstsw	%ax
9:	movq	%mm0, %mm1
	end
	row	GP, "a reserved bit of MXCSR", cr4=CR4_OSFXSR
	movl	$0x80001f80, DATA
9:	ldmxcsr	DATA
	end
	row	GP, "an instruction across the segment's end", ip=0xffff
	movb	$0xb0, 0xffff
	mov	$0xffff, %ax
	jmp	*%ax
9:	nop
	end
	row	NONE, "PUSH SP", eax=STACK
	xor	%eax, %eax
	push	%sp
	pop	%ax
9:	hlt
	end

/* ==== protected mode, 16-bit segments ==== */
	stage	PROT16

	row	UD, "UD2"
9:	ud2
	end
	row	INT_USER, "INT n"
	int	$INT_USER
9:	nop
	end
	row	GP, "a word across a limit", error=0
	mov	$SMALL, %ax
	mov	%ax, %ds
9:	mov	0xfff, %ax
	end
	row	GP, "a jump beyond 64 KiB", error=0
9:	ljmpl	$KCODE16, $0x10000
	end
	row	NONE, "a far jump to 32-bit code and back", eax=7
	xor	%eax, %eax
	ljmp	$KCODE, $HERE(1f)
	.code32
1:	mov	$7, %eax
	ljmp	$KCODE16, $HERE(2f)
	.code16
2:	nop
9:	hlt
	end
	row	NONE, "16-bit stack: PUSH wraps", eax=0x1234
	mov	$0x1234, %eax
	mov	$0x10000, %esp
	push	%ax
	mov	$0, %ax
	mov	0xfffe, %ax
9:	hlt
	end

/* ==== protected mode, ring 0 ==== */
	stage	PROT
	.code32

	row	DE, "DIV by zero"
	xor	%ecx, %ecx
9:	div	%ecx
	end
	row	DB, "single step", dr6=0xffff4ff0
	pushl	$FL_TF
	popf
	nop
9:	nop
	end
	row	DB, "a code breakpoint", dr6=0xffff0ff1
	mov	$HERE(9f), %eax
	mov	%eax, %dr0
	mov	$0x2, %eax
	mov	%eax, %dr7
	nop
9:	nop
	end
	row	DB, "a write breakpoint", dr6=0xffff0ff2
	mov	$DATA, %eax
	mov	%eax, %dr1
	mov	$0xd00008, %eax
	mov	%eax, %dr7
	mov	DATA, %ecx
	mov	%al, DATA + 3
9:	nop
	end
	row	DB, "an access breakpoint", dr6=0xffff0ff4
	mov	$DATA, %eax
	mov	%eax, %dr2
	mov	$0x7000020, %eax
	mov	%eax, %dr7
	mov	DATA, %ecx
9:	nop
	end
	row	DB, "a port breakpoint", dr6=0xffff0ff8, cr4=CR4_DE, need=NEED_UKVM
	mov	$0x70, %eax
	mov	%eax, %dr3
	mov	$0x20000080, %eax
	mov	%eax, %dr7
	outb	%al, $0x70
9:	nop
	end
	row	DB, "DR7.GD", dr6=0xffff2ff0, rf=1
	mov	$0x2000, %eax
	mov	%eax, %dr7
9:	mov	%dr0, %eax
	end
	row	DB, "INT1"
	.byte	0xf1
9:	nop
	end
	row	NONE, "RF lets a code breakpoint pass"
	mov	$HERE(1f), %eax
	mov	%eax, %dr0
	mov	$0x2, %eax
	mov	%eax, %dr7
	pushl	$FL_RF | 2
	pushl	$KCODE
	pushl	$HERE(1f)
	iret
1:	nop
9:	hlt
	end
	row	BP, "INT3"
	int3
9:	nop
	end
	row	OF, "INTO"
	mov	$0x7f, %al
	inc	%al
	into
9:	nop
	end
	row	BR, "BOUND"
	movl	$-4, DATA
	movl	$4, DATA + 4
	mov	$-5, %eax
9:	bound	%eax, DATA
	end
	row	UD, "UD2"
9:	ud2
	end
	row	NM, "SSE with CR0.TS", cr0=CR0_TS, cr4=CR4_OSFXSR
9:	xorps	%xmm0, %xmm0
	end
	row	UD, "SSE with CR0.EM", cr0=CR0_EM, cr4=CR4_OSFXSR
9:	xorps	%xmm0, %xmm0
	end
	row	NONE, "no alignment check in ring 0", cr0=CR0_AM, flags=FL_AC
	mov	DATA + 1, %eax
9:	hlt
	end

	/* limits and types */
	row	NONE, "the last byte within a limit"
	mov	$SMALL, %eax
	mov	%eax, %ds
	mov	0xffc, %eax
9:	hlt
	end
	row	GP, "a byte beyond a limit", error=0
	mov	$SMALL, %eax
	mov	%eax, %ds
9:	mov	0x1000, %al
	end
	row	GP, "a doubleword across a limit", error=0
	mov	$SMALL, %eax
	mov	%eax, %ds
9:	mov	%eax, 0xffd
	end
	row	GP, "an offset that wraps", error=0
	mov	$SMALL, %eax
	mov	%eax, %ds
9:	mov	0xffffffff, %ax
	end
	row	GP, "below an expand-down segment", error=0
	mov	$DOWN, %eax
	mov	%eax, %ds
9:	mov	0x1fff, %al
	end
	row	NONE, "within an expand-down segment"
	mov	$DOWN, %eax
	mov	%eax, %ds
	mov	0x2000, %eax
9:	hlt
	end
	row	GP, "above a 16-bit expand-down segment", error=0
	mov	$DOWN16, %eax
	mov	%eax, %ds
	mov	0xfffc, %eax
9:	mov	0xfffd, %eax
	end
	row	SS, "beyond the stack's limit", error=0
	mov	$SMALL, %eax
	mov	%eax, %ss
	mov	$0x800, %esp
9:	mov	0x800(%esp), %al
	end
	row	GP, "a write to read-only data", error=0
	mov	$READ_ONLY, %eax
	mov	%eax, %ds
	mov	DATA, %eax
9:	mov	%eax, DATA
	end
	row	GP, "a write to code", error=0
9:	mov	%eax, %cs:DATA
	end
	row	GP, "a read of execute-only code", error=0, cs=EXEC_ONLY
	ljmp	$EXEC_ONLY, $HERE(9f)
9:	mov	%cs:DATA, %eax
	end
	row	GP, "an access by a null selector", error=0
	xor	%eax, %eax
	mov	%eax, %es
9:	mov	%es:DATA, %al
	end

	/* loading segment registers */
	row	GP, "null into SS", error=0
	xor	%eax, %eax
9:	mov	%eax, %ss
	end
	row	GP, "RPL above DPL", error=KDATA
	mov	$KDATA | 3, %eax
9:	mov	%eax, %ds
	end
	row	GP, "SS of another ring", error=UDATA^3
	mov	$UDATA, %eax
9:	mov	%eax, %ss
	end
	row	GP, "SS that cannot be written", error=READ_ONLY
	mov	$READ_ONLY, %eax
9:	mov	%eax, %ss
	end
	row	NP, "data that is not present", error=ABSENT_DATA
	mov	$ABSENT_DATA, %eax
9:	mov	%eax, %fs
	end
	row	SS, "a stack that is not present", error=ABSENT_DATA
	mov	$ABSENT_DATA, %eax
9:	mov	%eax, %ss
	end
	row	GP, "execute-only code as data", error=EXEC_ONLY
	mov	$EXEC_ONLY, %eax
9:	mov	%eax, %ds
	end
	row	GP, "a TSS as data", error=SEL_TSS
	mov	$SEL_TSS, %eax
9:	mov	%eax, %gs
	end
	row	GP, "beyond the GDT", error=GDT_LIMIT+1
	mov	$GDT_LIMIT + 1, %eax
9:	mov	%eax, %ds
	end
	row	GP, "POP DS beyond the GDT", error=GDT_LIMIT+1
	pushl	$GDT_LIMIT + 1
9:	pop	%ds
	end
	row	GP, "LDS of a system segment", error=SEL_LDT
	movl	$0, DATA
	movw	$SEL_LDT, DATA + 4
9:	lds	DATA, %eax
	end
	row	NONE, "the LDT", eax=0x5a5a
	mov	$LDT_DATA, %eax
	mov	%eax, %ds
	movl	$0x5a5a, DATA
	mov	DATA, %eax
9:	hlt
	end
	row	GP, "beyond the LDT", error=LDT_DATA+8
	mov	$LDT_DATA + 8, %eax
9:	mov	%eax, %ds
	end
	row	GP, "no LDT", error=LDT_DATA
	xor	%eax, %eax
	lldt	%ax
	mov	$LDT_DATA, %eax
9:	mov	%eax, %ds
	end
	row	NP, "LLDT of one not present", error=ABSENT_LDT
	mov	$ABSENT_LDT, %eax
9:	lldt	%ax
	end
	row	GP, "LLDT of a TSS", error=SEL_TSS
	mov	$SEL_TSS, %eax
9:	lldt	%ax
	end
	row	GP, "LTR of null", error=0
	xor	%eax, %eax
9:	ltr	%ax
	end
	row	GP, "LTR of a busy TSS", error=SEL_TSS
	mov	$SEL_TSS, %eax
9:	ltr	%ax
	end
	row	NP, "LTR of one not present", error=ABSENT_TSS
	mov	$ABSENT_TSS, %eax
9:	ltr	%ax
	end
	row	NONE, "LTR makes busy", eax=0x8b
	mov	$SEL_TSS_NEXT, %eax
	ltr	%ax
	movzbl	GDT + SEL_TSS_NEXT + 5, %eax
9:	hlt
	end
	row	NONE, "the accessed bit", eax=0xf3
	movb	$0xf2, GDT + (UDATA & ~7) + 5
	mov	$UDATA, %eax
	mov	%eax, %es
	movzbl	GDT + (UDATA & ~7) + 5, %eax
9:	hlt
	end

	/* asking about segments */
	row	NONE, "LAR", eax=0xc0f300
	mov	$UDATA, %ecx
	lar	%ecx, %eax
	and	$0xf0ff00, %eax /* the others are undefined */
9:	hlt
	end
	row	NONE, "LSL", eax=0xfff
	mov	$SMALL, %ecx
	lsl	%ecx, %eax
9:	hlt
	end
	row	NONE, "LAR of a null selector", eax=0
	xor	%ecx, %ecx
	lar	%ecx, %eax
	setz	%al
	movzbl	%al, %eax
9:	hlt
	end
	row	NONE, "VERW of read-only data", eax=2
	xor	%eax, %eax
	inc	%eax
	mov	$READ_ONLY, %ecx
	verr	%cx
	jnz	9f
	inc	%eax
	verw	%cx
	jz	1f
9:	hlt
1:	ud2
	end

	/* far transfers */
	row	GP, "JMP to null", error=0
9:	ljmp	$0, $HERE(9b)
	end
	row	GP, "JMP to data", error=KDATA
9:	ljmp	$KDATA, $HERE(9b)
	end
	row	GP, "JMP to ring 3's code", error=UCODE^3
9:	ljmp	$UCODE, $HERE(9b)
	end
	row	GP, "JMP beyond the GDT", error=GDT_LIMIT+1
9:	ljmp	$GDT_LIMIT + 1, $HERE(9b)
	end
	row	GP, "JMP beyond the code's limit", error=0
9:	ljmp	$KCODE16, $0x10000
	end
	row	GP, "JMP to an LDT", error=SEL_LDT
9:	ljmp	$SEL_LDT, $0
	end
	row	NP, "CALL to code not present", error=ABSENT_CODE
9:	lcall	$ABSENT_CODE, $HERE(9b)
	end
	row	NONE, "JMP to conforming code", eax=CONFORMING
	ljmp	$CONFORMING, $HERE(1f)
1:	mov	%cs, %eax
9:	hlt
	end
	row	CALLED, "CALL through a gate"
	lcall	$CALL_GATE, $0
9:	nop
	end
	row	CALLED, "CALL through a 16-bit gate", ip=-1
	lcall	$CALL_GATE16, $0
9:	nop
	end
	row	NP, "CALL through a gate not present", error=ABSENT_GATE
9:	lcall	$ABSENT_GATE, $0
	end
	row	GP, "RETF to data", error=KDATA
	pushl	$KDATA
	pushl	$0
9:	lret
	end
	row	GP, "RETF to null", error=0
	pushl	$0
	pushl	$0
9:	lret
	end
	row	NP, "IRET to code not present", error=ABSENT_CODE
	pushl	$2
	pushl	$ABSENT_CODE
	pushl	$0
9:	iret
	end
	row	GP, "IRET to ring 3 with ring 0's stack", error=KDATA
	pushl	$KDATA
	pushl	$STACK
	pushl	$2
	pushl	$UCODE
	pushl	$HERE(9f)
9:	iret
	end

	/* the IDT */
	row	INT_USER, "INT n"
	int	$INT_USER
9:	nop
	end
	row	NP, "a gate not present", error=INT_ABSENT*8+2
9:	int	$INT_ABSENT
	end
	row	GP, "a gate to null", error=0
9:	int	$INT_NULL
	end
	row	GP, "a gate to data", error=KDATA
9:	int	$INT_DATA
	end
	row	NP, "a gate to code not present", error=ABSENT_CODE
9:	int	$INT_ABSENT_CODE
	end
	row	GP, "a gate to an outer ring", error=UCODE^3
9:	int	$INT_USER_CODE
	end
	row	GP, "a TSS in the IDT", error=INT_TSS*8+2
9:	int	$INT_TSS
	end
	row	GP, "beyond the IDT", error=0xff*8+2
	movw	$0x7ef, DATA
	movl	$IDT, DATA + 2
	lidt	DATA
9:	int	$0xff
	end
	row	NP, "a fault's gate not present", error=UD*8+3
	movb	$0x0e, IDT + UD * 8 + 5
9:	ud2
	end
	row	DF, "#NP on the way of #GP", error=0
	movb	$0x0e, IDT + GP * 8 + 5
9:	mov	%eax, %cs:DATA
	end
	row	DF, "#GP on the way of #DE", error=0
	movw	$0, IDT + DE * 8 + 2
	xor	%ecx, %ecx
9:	div	%ecx
	end
	row	SHUTDOWN, "#NP on the way of #DF"
	movb	$0x0e, IDT + GP * 8 + 5
	movb	$0x0e, IDT + DF * 8 + 5
9:	mov	%eax, %cs:DATA
	end
	row	SHUTDOWN, "no IDT"
	movw	$0, DATA
	movl	$0, DATA + 2
	lidt	DATA
9:	int3
	end

	/* tasks */
	row	CALLED, "JMP to a TSS", ip=-1
	ljmp	$SEL_TSS_NEXT, $0
9:	nop
	end
	row	CALLED, "CALL through a task gate", ip=-1
	lcall	$TASK_GATE, $0
9:	nop
	end
	row	GP, "JMP to a busy TSS", error=SEL_TSS
9:	ljmp	$SEL_TSS, $0
	end
	row	NP, "JMP to a TSS not present", error=ABSENT_TSS
9:	ljmp	$ABSENT_TSS, $0
	end
	row	TS, "JMP to a TSS too short", error=SHORT_TSS, need=NEED_UKVM
9:	ljmp	$SHORT_TSS, $0
	end
	row	TS, "IRET to a task that is not busy", error=SEL_TSS_NEXT, need=NEED_UKVM
	movw	$SEL_TSS_NEXT, TSS
	pushl	$FL_NT | 2
	popf
9:	iret
	end
	row	TS, "a new task whose DS is none", error=GDT_LIMIT+1, ip=0x1234, need=NEED_UKVM
	ljmp	$BAD_TSS, $0
9:	nop
	end

	/* control registers */
	row	GP, "CR0.NW without CD", error=0
	mov	$CR0_PE | 0x20000000, %eax
9:	mov	%eax, %cr0
	end
	row	GP, "a reserved bit of CR4", error=0
	mov	$0x80000000, %eax
9:	mov	%eax, %cr4
	end
	row	GP, "a reserved bit of EFER", error=0
	mov	$0xc0000080, %ecx
	mov	$0x2, %eax
	xor	%edx, %edx
9:	wrmsr
	end
	row	GP, "long mode without PAE", error=0
	mov	$0xc0000080, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	%cr0, %eax
	or	$CR0_PG, %eax
9:	mov	%eax, %cr0
	end
	row	NONE, "LMSW cannot clear PE", eax=1
	xor	%eax, %eax
	lmsw	%ax
	smsw	%eax
	and	$1, %eax
9:	hlt
	end
	row	GP, "XSETBV of nothing", error=0, cr4=CR4_OSXSAVE, need=NEED_XSAVE
	xor	%eax, %eax
	xor	%edx, %edx
	xor	%ecx, %ecx
9:	xsetbv
	end
	row	UD, "XGETBV without OSXSAVE"
	xor	%ecx, %ecx
9:	xgetbv
	end
	row	DB, "single step of one iteration", dr6=0xffff4ff0, rf=1
	mov	$DATA, %edi
	mov	$3, %ecx
	pushl	$FL_TF
	popf
9:	rep stosb
	end
	row	DB, "a write breakpoint in a string", dr6=0xffff0ff1, rf=1
	mov	$DATA + 1, %eax
	mov	%eax, %dr0
	mov	$0x10002, %eax
	mov	%eax, %dr7
	mov	$DATA, %edi
	mov	$4, %ecx
9:	rep stosb
	end
	row	DB, "MOV SS delays a data breakpoint", dr6=0xffff0ff1
	mov	$DATA, %eax
	mov	%eax, %dr0
	movw	$KDATA, DATA
	mov	$0x30002, %eax
	mov	%eax, %dr7
	mov	DATA, %ss
	nop
9:	nop
	end
	row	DB, "MOV SS does not hide a code breakpoint on AMD's CPUs", dr6=0xffff0ff1, need=NEED_AMD
	mov	$HERE(9f), %eax
	mov	%eax, %dr0
	mov	$0x2, %eax
	mov	%eax, %dr7
	mov	$KDATA, %eax
	mov	%eax, %ss
9:	nop
	end
	row	NONE, "MOV SS hides a code breakpoint", need=NEED_INTEL
	mov	$HERE(1f), %eax
	mov	%eax, %dr0
	mov	$0x2, %eax
	mov	%eax, %dr7
	mov	$KDATA, %eax
	mov	%eax, %ss
1:	nop
9:	hlt
	end
	row	GP, "an instruction across the code's limit", error=0, ip=0xffff, cs=KCODE16
	movb	$0xb0, 0xffff
	ljmp	$KCODE16, $0xffff
9:	nop
	end
	row	UD, "CMPXCHG8B of a register"
9:	.byte	0x0f, 0xc7, 0xc8
	end
	row	UD, "RDFSBASE outside 64-bit mode"
9:	.byte	0xf3, 0x0f, 0xae, 0xc0
	end
	row	UD, "AVX without OSXSAVE", cr4=CR4_OSFXSR
9:	.byte	0xc5, 0xf8, 0x77
	end
	row	GP, "PAT with a reserved type", error=0
	mov	$0x277, %ecx
	mov	$2, %eax
	xor	%edx, %edx
9:	wrmsr
	end
	row	NONE, "LSL of a TSS", eax=TSS_LIMIT
	mov	$SEL_TSS, %ecx
	lsl	%ecx, %eax
9:	hlt
	end
	row	NONE, "LAR of a call gate", eax=0xec00
	mov	$CALL_GATE, %ecx
	lar	%ecx, %eax
	and	$0xff00, %eax
9:	hlt
	end

/* ==== ring 3 ==== */
	stage	PROT_USER

	row	GP, "HLT", error=0
9:	hlt
	end
	row	GP, "CLI", error=0
9:	cli
	end
	row	INT_USER, "CLI with IOPL 3", flags=FL_IOPL
	cli
	int	$INT_USER
9:	nop
	end
	row	GP, "a closed port", error=0
9:	inb	$CLOSED_PORT, %al
	end
	row	GP, "a word half in a closed port", error=0
9:	outw	%ax, $CLOSED_PORT - 1
	end
	row	INT_USER, "an open port"
	outb	%al, $CLOSED_PORT + 1
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "a closed port with IOPL 3", flags=FL_IOPL
	outb	%al, $CLOSED_PORT
	int	$INT_USER
9:	nop
	end
	row	GP, "a port beyond the bitmap", error=0
	mov	$0x7f8, %edx
9:	outb	%al, %dx
	end
	row	GP, "MOV from CR0", error=0
9:	mov	%cr0, %eax
	end
	row	GP, "MOV to DR7", error=0
9:	mov	%eax, %dr7
	end
	row	GP, "LGDT", error=0
9:	lgdt	DATA
	end
	row	GP, "LIDT", error=0
9:	lidt	DATA
	end
	row	GP, "LLDT", error=0
9:	lldt	%ax
	end
	row	GP, "LTR", error=0
9:	ltr	%ax
	end
	row	GP, "LMSW", error=0
9:	lmsw	%ax
	end
	row	GP, "CLTS", error=0
9:	clts
	end
	row	GP, "INVLPG", error=0
9:	invlpg	DATA
	end
	row	GP, "WBINVD", error=0
9:	wbinvd
	end
	row	GP, "RDMSR", error=0
	mov	$0x10, %ecx
9:	rdmsr
	end
	row	GP, "WRMSR", error=0
	mov	$0x10, %ecx
9:	wrmsr
	end
	row	GP, "RDTSC with CR4.TSD", error=0, cr4=CR4_TSD
9:	rdtsc
	end
	row	INT_USER, "RDTSC without"
	rdtsc
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "SMSW without UMIP"
	smsw	%eax
	sldt	%eax
	str	%eax
	sgdt	DATA
	sidt	DATA
	int	$INT_USER
9:	nop
	end
	row	GP, "SMSW with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	smsw	%eax
	end
	row	GP, "SGDT with UMIP", error=0, cr4=CR4_UMIP, need=NEED_UMIP
9:	sgdt	DATA
	end
	row	UD, "UD2"
9:	ud2
	end
	row	BP, "INT3"
	int3
9:	nop
	end
	row	OF, "INTO"
	mov	$0x7f, %al
	inc	%al
	into
9:	nop
	end
	row	DB, "INT1 needs no privilege"
	.byte	0xf1
9:	nop
	end
	row	DB, "single step", dr6=0xffff4ff0
	pushl	$FL_TF
	popf
	nop
9:	nop
	end
	row	GP, "INT of a gate of ring 0", error=INT_KERNEL*8+2
9:	int	$INT_KERNEL
	end
	row	GP, "INT of an exception's gate", error=PF*8+2
9:	int	$PF
	end
	row	NP, "INT of a gate not present", error=INT_ABSENT*8+2
9:	int	$INT_ABSENT
	end
	row	GP, "ring 0's data", error=KDATA
	mov	$KDATA, %eax
9:	mov	%eax, %ds
	end
	row	GP, "ring 0's stack", error=KDATA
	mov	$KDATA | 3, %eax
9:	mov	%eax, %ss
	end
	row	GP, "JMP to ring 0's code", error=KCODE
9:	ljmp	$KCODE, $HERE(9b)
	end
	row	INT_USER, "JMP to conforming code stays in ring 3", eax=CONFORMING|3
	ljmp	$CONFORMING, $HERE(1f)
1:	mov	%cs, %eax
	ljmp	$UCODE, $HERE(2f)
2:	int	$INT_USER
9:	nop
	end
	row	CALLED, "CALL through a gate to ring 0"
	pushl	$0x11111111
	pushl	$0x22222222
	lcall	$CALL_GATE, $0
9:	nop
	end
	row	GP, "CALL through ring 0's gate", error=CALL_GATE0
9:	lcall	$CALL_GATE0, $0
	end
	row	GP, "JMP through a gate to ring 0", error=KCODE
9:	ljmp	$CALL_GATE, $0
	end
	row	GP, "JMP to ring 0's TSS", error=SEL_TSS_NEXT
9:	ljmp	$SEL_TSS_NEXT, $0
	end
	row	GP, "RETF to ring 0", error=KCODE
	pushl	$KCODE
	pushl	$HERE(9f)
9:	lret
	end
	row	GP, "IRET to ring 0", error=KCODE
	pushl	$2
	pushl	$KCODE
	pushl	$HERE(9f)
9:	iret
	end
	row	INT_USER, "POPF cannot change IF and IOPL", eax=2
	pushl	$FL_IF | FL_IOPL | 2
	popf
	pushf
	pop	%eax
	int	$INT_USER
9:	nop
	end
	row	AC, "a doubleword out of line", error=0, cr0=CR0_AM, flags=FL_AC
9:	mov	DATA + 2, %eax
	end
	row	AC, "a word out of line", error=0, cr0=CR0_AM, flags=FL_AC
9:	mov	%ax, DATA + 1
	end
	row	INT_USER, "in line", cr0=CR0_AM, flags=FL_AC
	mov	DATA + 2, %ax
	mov	DATA + 3, %al
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "out of line without CR0.AM", flags=FL_AC
	mov	DATA + 2, %eax
	int	$INT_USER
9:	nop
	end
	row	SHUTDOWN, "a stack of ring 0 that is none"
	movw	$UDATA, TSS + 8
9:	int	$INT_USER
	end
	row	GP, "RDPMC without CR4.PCE", error=0
	xor	%ecx, %ecx
9:	rdpmc
	end
	row	GP, "XSETBV", error=0, cr4=CR4_OSXSAVE, need=NEED_XSAVE
	xor	%ecx, %ecx
	mov	$1, %eax
	xor	%edx, %edx
9:	xsetbv
	end
	row	GP, "SYSEXIT", error=0
9:	sysexit
	end
	row	GP, "a port's string", error=0
	mov	$CLOSED_PORT, %edx
	mov	$DATA, %edi
9:	insb
	end
	row	GP, "an access by a null selector", error=0
	xor	%eax, %eax
	mov	%eax, %ds
9:	mov	DATA, %eax
	end

/* ==== virtual-8086 mode ==== */
	stage	VM86
	.code16

	row	GP, "INT n with IOPL 0", error=0
9:	int	$INT_USER
	end
	row	INT_USER, "INT n with IOPL 3", flags=FL_IOPL
	int	$INT_USER
9:	nop
	end
	row	GP, "INT of a gate of ring 0", error=INT_KERNEL*8+2, flags=FL_IOPL
9:	int	$INT_KERNEL
	end
	row	BP, "INT3 with IOPL 0"
	int3
9:	nop
	end
	row	OF, "INTO with IOPL 0"
	mov	$0x7f, %al
	inc	%al
	into
9:	nop
	end
	row	GP, "CLI with IOPL 0", error=0
9:	cli
	end
	row	GP, "STI with IOPL 0", error=0
9:	sti
	end
	row	GP, "PUSHF with IOPL 0", error=0
9:	pushf
	end
	row	GP, "POPF with IOPL 0", error=0
9:	popf
	end
	row	GP, "IRET with IOPL 0", error=0
9:	iret
	end
	row	INT_USER, "all of these with IOPL 3", flags=FL_IOPL
	cli
	sti
	pushf
	pushf
	popf
	push	$0
	push	$HERE(1f)
	iret
1:	int	$INT_USER
9:	nop
	end
	row	GP, "HLT", error=0
9:	hlt
	end
	row	GP, "MOV from CR0", error=0
9:	mov	%cr0, %eax
	end
	row	GP, "LGDT", error=0
9:	lgdtw	DATA
	end
	row	UD, "LLDT has no meaning"
9:	lldt	%ax
	end
	row	UD, "SLDT has no meaning"
9:	sldt	%ax
	end
	row	UD, "ARPL has no meaning"
9:	arpl	%ax, %ax
	end
	row	UD, "UD2"
9:	ud2
	end
	row	DE, "DIV by zero"
	xor	%cx, %cx
9:	div	%cx
	end
	row	DB, "single step", dr6=0xffff4ff0, flags=FL_IOPL
	push	$FL_TF
	popf
	nop
9:	nop
	end
	row	GP, "a closed port", error=0, flags=FL_IOPL
9:	inb	$CLOSED_PORT, %al
	end
	row	INT_USER, "an open port", flags=FL_IOPL
	outb	%al, $CLOSED_PORT + 1
	int	$INT_USER
9:	nop
	end
	row	GP, "a word across the segment's end", error=0
9:	mov	0xffff, %ax
	end
	row	SS, "a word across the stack segment's end", error=0
	mov	$0xffff, %bp
9:	mov	(%bp), %ax
	end
	row	GP, "a jump beyond 64 KiB", error=0
9:	ljmpl	$0, $0x10000
	end
	row	AC, "a word out of line", error=0, cr0=CR0_AM, flags=FL_AC
9:	mov	DATA + 1, %ax
	end
	/* With CR4.VME. Vector 0x60 is redirected to the program, 0x80 is not. */
	row	GP, "VME: INT n in the program", error=0, ip=HANDLERS+0x60, cr4=CR4_VME
	int	$0x60
9:	nop
	end
	row	GP, "VME: INT n that is not redirected, IOPL 0", error=0, cr4=CR4_VME
9:	int	$INT_USER
	end
	row	INT_USER, "VME: the same with IOPL 3", cr4=CR4_VME, flags=FL_IOPL
	int	$INT_USER
9:	nop
	end
	row	GP, "VME: INT n pushes VIF as IF", error=0, eax=0x3202, cr4=CR4_VME, flags=FL_VIF
	movw	$HERE(1f), 4 * 0x60
	int	$0x60
	nop
1:	pop	%ax
	pop	%ax
	mov	$0, %eax
	pop	%ax
9:	hlt
	end
	row	GP, "VME: INT n clears VIF", error=0, eax=0x3002, cr4=CR4_VME, flags=FL_VIF
	movw	$HERE(1f), 4 * 0x60
	int	$0x60
	nop
1:	mov	$0, %eax
	pushf
	pop	%ax
9:	hlt
	end
	row	BP, "VME: INT3 is not redirected", cr4=CR4_VME
	int3
9:	nop
	end
	row	GP, "VME: STI sets VIF", error=0, eax=0x3202, cr4=CR4_VME
	sti
	mov	$0, %eax
	pushf
	pop	%ax
9:	hlt
	end
	row	GP, "VME: CLI clears VIF", error=0, eax=0x3002, cr4=CR4_VME, flags=FL_VIF|FL_VIP
	cli
	mov	$0, %eax
	pushf
	pop	%ax
9:	hlt
	end
	row	GP, "VME: STI with VIP", error=0, cr4=CR4_VME, flags=FL_VIP
9:	sti
	end
	row	GP, "VME: POPF of IF with VIP", error=0, cr4=CR4_VME, flags=FL_VIP
	push	$FL_IF
9:	popf
	end
	row	GP, "VME: POPF of TF", error=0, cr4=CR4_VME
	push	$FL_TF
9:	popf
	end
	row	GP, "VME: PUSHFD", error=0, cr4=CR4_VME
9:	pushfl
	end
	row	GP, "VME: IRET of IF", error=0, eax=0x3202, cr4=CR4_VME
	push	$FL_IF
	push	$0
	push	$HERE(1f)
	iret
1:	mov	$0, %eax
	pushf
	pop	%ax
9:	hlt
	end

/* ==== 32-bit paging, ring 0: CR0.WP is set ==== */
	stage	PAGED
	.code32

	row	PF, "a read of nothing", error=0, cr2=V_ABSENT+4
9:	mov	V_ABSENT + 4, %eax
	end
	row	PF, "a write to nothing", error=2, cr2=V_ABSENT
9:	mov	%eax, V_ABSENT
	end
	row	PF, "a jump to nothing", error=0, cr2=V_ABSENT, ip=V_ABSENT
	mov	$V_ABSENT, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "a read that ends in nothing", error=0, cr2=V_ABSENT
9:	mov	V_ABSENT - 2, %eax
	end
	row	PF, "read-modify-write of nothing", error=2, cr2=V_ABSENT
9:	incl	V_ABSENT
	end
	row	PF, "a string that comes to nothing", error=2, cr2=V_ABSENT
	mov	$V_ABSENT - 8, %edi
	mov	$16, %ecx
9:	rep stosb
	end
	row	PF, "a write to a read-only page", error=3, cr2=V_READONLY
9:	mov	%eax, V_READONLY
	end
	row	NONE, "the same without CR0.WP"
	mov	%cr0, %eax
	and	$~CR0_WP, %eax
	mov	%eax, %cr0
	mov	%eax, V_READONLY
9:	hlt
	end
	row	PF, "a reserved bit", error=9, cr2=V_RESERVED
9:	mov	V_RESERVED, %eax
	end
	row	PF, "a write by a reserved bit", error=0xb, cr2=V_RESERVED
9:	mov	%eax, V_RESERVED
	end
	row	NONE, "a large page", eax=0x77
	movl	$0x77, V_LARGE + 0x123456
	mov	V_LARGE + 0x123456, %eax
9:	hlt
	end
	row	NONE, "the same memory twice", eax=0x55
	movl	$0x55, V_USER
	mov	DATA, %eax
9:	hlt
	end
	row	NONE, "a read sets A", eax=0x20
	mov	V_FRESH, %eax
	mov	TABLES_32 + 0x1000 + (V_FRESH >> 10), %eax
	and	$0x60, %eax
9:	hlt
	end
	row	NONE, "a write sets A and D", eax=0x60
	mov	%eax, V_FRESH
	mov	TABLES_32 + 0x1000 + (V_FRESH >> 10), %eax
	and	$0x60, %eax
9:	hlt
	end
	row	NONE, "a write after a read sets D", eax=0x60
	mov	V_FRESH, %eax
	mov	%eax, V_FRESH
	mov	TABLES_32 + 0x1000 + (V_FRESH >> 10), %eax
	and	$0x60, %eax
9:	hlt
	end
	row	NONE, "INVLPG makes a mapping seen", eax=0x99
	movl	$0x99, DATA + 0x10
	mov	V_SUPER, %eax
	movl	$0, TABLES_32 + 0x1000 + (V_SUPER >> 10)
	movl	$DATA + 3, TABLES_32 + 0x1000 + (V_ABSENT >> 10)
	invlpg	V_ABSENT
	invlpg	V_SUPER
	mov	V_ABSENT + 0x10, %eax
9:	hlt
	end
	row	PF, "INVLPG makes the end of a mapping seen", error=0, cr2=V_SUPER
	mov	V_SUPER, %eax
	movl	$0, TABLES_32 + 0x1000 + (V_SUPER >> 10)
	invlpg	V_SUPER
9:	mov	V_SUPER, %eax
	end
	row	PF, "CR3 makes it seen too", error=0, cr2=V_SUPER
	mov	V_SUPER, %eax
	movl	$0, TABLES_32 + 0x1000 + (V_SUPER >> 10)
	mov	%cr3, %eax
	mov	%eax, %cr3
9:	mov	V_SUPER, %eax
	end
	row	PF, "SMEP", error=0x11, cr2=V_USER, ip=V_USER, cr4=CR4_SMEP, need=NEED_SMEP
	movb	$0xf4, V_USER
	mov	$V_USER, %eax
	jmp	*%eax
9:	nop
	end
	row	NONE, "a page of the user's without SMEP", ip=V_USER
	movb	$0xf4, V_USER
	mov	$V_USER, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "SMAP", error=1, cr2=V_USER, cr4=CR4_SMAP, need=NEED_SMAP
9:	mov	V_USER, %eax
	end
	row	PF, "SMAP, a write", error=3, cr2=V_USER, cr4=CR4_SMAP, need=NEED_SMAP
9:	mov	%eax, V_USER
	end
	row	NONE, "SMAP lifted by STAC", cr4=CR4_SMAP, need=NEED_SMAP
	stac
	mov	V_USER, %eax
9:	hlt
	end
	row	PF, "SMAP in force after CLAC", error=1, cr2=V_USER, cr4=CR4_SMAP, need=NEED_SMAP
	stac
	mov	V_USER, %eax
	clac
9:	mov	V_USER, %eax
	end
	row	PF, "SMAP: AC does not help descriptor tables", error=1, cr2=V_USER+8, flags=FL_AC, cr4=CR4_SMAP, need=NEED_SMAP
	movw	$(V_USER & 0xffff), GDT + SEL_LDT + 2
	movb	$(V_USER >> 16), GDT + SEL_LDT + 4
	mov	$SEL_LDT, %eax
	lldt	%ax
	mov	$LDT_DATA, %eax
9:	mov	%eax, %ds
	end
	row	PF, "the LDT is not there", error=0, cr2=V_ABSENT+8
	movw	$(V_ABSENT & 0xffff), GDT + SEL_LDT + 2
	movb	$(V_ABSENT >> 16), GDT + SEL_LDT + 4
	mov	$SEL_LDT, %eax
	lldt	%ax
	mov	$LDT_DATA, %eax
9:	mov	%eax, %ds
	end
	row	SHUTDOWN, "the stack is not there"
	mov	$V_ABSENT + 0x1000, %esp
9:	ud2
	end
	row	SHUTDOWN, "the IDT is not there"
	movw	$0x7ff, DATA
	movl	$V_ABSENT, DATA + 2
	lidt	DATA
9:	ud2
	end
	row	PF, "an instruction that ends in nothing", error=0, cr2=V_ABSENT, ip=(V_ABSENT-1)
	movb	$0xb8, V_ABSENT - 1
	mov	$V_ABSENT - 1, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "a write that ends in nothing", error=2, cr2=V_ABSENT
9:	mov	%eax, V_ABSENT - 2
	end
	row	PF, "CMPXCHG that fails writes all the same", error=3, cr2=V_READONLY
	mov	$-1, %eax
9:	lock cmpxchg %ecx, V_READONLY
	end
	row	PF, "CMPXCHG8B as well", error=3, cr2=V_READONLY
	mov	$-1, %eax
9:	cmpxchg8b V_READONLY
	end
	row	PF, "MOVS reads before it writes", error=0, cr2=V_ABSENT
	mov	$V_ABSENT, %esi
	mov	$V_ABSENT + 8, %edi
9:	movsl
	end
	row	PF, "BTS far from its base", error=2, cr2=V_ABSENT+4
	mov	$((V_ABSENT + 4 - DATA) * 8), %eax
9:	bts	%eax, DATA
	end
	row	PF, "POP to nothing", error=2, cr2=V_ABSENT
9:	popl	V_ABSENT
	end
	row	PF, "CLFLUSH of nothing", error=0, cr2=V_ABSENT
9:	clflush	V_ABSENT
	end
	row	NONE, "PREFETCH and NOP of nothing"
	prefetcht0 V_ABSENT
	nopl	V_ABSENT
	lea	V_ABSENT, %eax
9:	hlt
	end
	row	PF, "a page of the directory that is not there", error=2, cr2=0x1000000
9:	mov	%eax, 0x1000000
	end
	row	NONE, "a large page without CR4.PSE is a table", eax=0x66
	movl	$0x66, DATA + 0x20
	movl	$DATA + 3, V_LARGE + 4 * 5
	mov	%cr4, %eax
	and	$~CR4_PSE, %eax
	mov	%eax, %cr4
	mov	V_LARGE + 0x5020, %eax
9:	hlt
	end

/* ==== 32-bit paging, ring 3 ==== */
	stage	PAGED_USER

	row	PF, "a read of nothing", error=4, cr2=V_ABSENT
9:	mov	V_ABSENT, %eax
	end
	row	PF, "a read of the supervisor's", error=5, cr2=V_SUPER
9:	mov	V_SUPER, %eax
	end
	row	PF, "a write to the supervisor's", error=7, cr2=V_SUPER
9:	mov	%eax, V_SUPER
	end
	row	PF, "a write to a read-only page", error=7, cr2=V_READONLY
	mov	V_READONLY, %eax
9:	mov	%eax, V_READONLY
	end
	row	PF, "a jump to the supervisor's", error=5, cr2=V_SUPER, ip=V_SUPER
	mov	$V_SUPER, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "a reserved bit", error=0xd, cr2=V_RESERVED
9:	mov	V_RESERVED, %eax
	end
	row	PF, "PUSH to nothing", error=6, cr2=V_ABSENT+0xffc, sp=V_READONLY
	mov	$V_ABSENT + 0x1000, %esp
9:	push	%eax
	end
	row	PF, "CALL to nothing, from a stack that is not there", error=6, cr2=V_ABSENT+0xffc, sp=V_READONLY
	mov	$V_ABSENT + 0x1000, %esp
	mov	$V_ABSENT, %eax
9:	call	*%eax
	end
	row	INT_USER, "INT n with a stack that is not there", sp=V_READONLY
	mov	$V_ABSENT + 0x1000, %esp
	int	$INT_USER
9:	nop
	end
	row	PF, "POP to nothing leaves ESP", error=6, cr2=V_ABSENT, sp=(STACK-4)
	pushl	$1
9:	popl	V_ABSENT
	end
	row	PF, "LEAVE from nothing", error=4, cr2=V_ABSENT, sp=STACK
	mov	$V_ABSENT, %ebp
9:	leave
	end
	row	PF, "ENTER to nothing", error=6, cr2=V_ABSENT+0xffc, sp=V_READONLY
	mov	$V_READONLY, %esp
9:	enter	$0, $0
	end
	row	PF, "RET from nothing", error=4, cr2=V_ABSENT, sp=V_ABSENT
	mov	$V_ABSENT, %esp
9:	ret	$8
	end
	row	PF, "POPA that ends in nothing", error=4, cr2=V_LARGE_END, sp=(V_LARGE_END-8)
	mov	$V_LARGE_END - 8, %esp
9:	popa
	end
	row	PF, "RETF that ends in nothing", error=4, cr2=V_LARGE_END, sp=(V_LARGE_END-4)
	mov	$V_LARGE_END - 4, %esp
9:	lret
	end
	row	PF, "IRET that ends in nothing", error=4, cr2=V_LARGE_END, sp=(V_LARGE_END-4)
	mov	$V_LARGE_END - 4, %esp
9:	iret
	end
	row	PF, "PUSHA that ends in nothing", error=7, cr2=(V_LARGE-4), sp=V_LARGE+8
	mov	$V_LARGE + 8, %esp
9:	pusha
	end
	row	PF, "CALL FAR that ends in nothing", error=7, cr2=(V_LARGE-4), sp=V_LARGE+4
	mov	$V_LARGE + 4, %esp
9:	lcall	$UCODE, $HERE(9b)
	end
	row	INT_USER, "the supervisor's GDT is read all the same"
	mov	$UDATA, %eax
	mov	%eax, %ds
	int	$INT_USER
9:	nop
	end
	row	PF, "SGDT to the supervisor's", error=7, cr2=V_SUPER
9:	sgdt	V_SUPER
	end
	row	PF, "REP MOVS stops where it faults", error=4, cr2=V_ABSENT, eax=0x3f
	mov	$0x3f, %eax
	mov	$V_ABSENT, %esi
	mov	$DATA, %edi
	mov	$4, %ecx
9:	rep movsb
	end

/* ==== PAE ==== */
	stage	PAE

	row	PF, "a read of nothing", error=0, cr2=V_ABSENT
9:	mov	V_ABSENT, %eax
	end
	row	PF, "a read by an absent directory", error=0, cr2=0x80000000
9:	mov	0x80000000, %eax
	end
	row	PF, "a write to a read-only page", error=3, cr2=V_READONLY
9:	mov	%eax, V_READONLY
	end
	row	PF, "NX", error=0x11, cr2=V_NX, ip=V_NX
	mov	$V_NX, %eax
	jmp	*%eax
9:	nop
	end
	row	NONE, "NX may be read and written"
	incl	V_NX
9:	hlt
	end
	row	PF, "a jump to nothing", error=0x10, cr2=V_ABSENT, ip=V_ABSENT
	mov	$V_ABSENT, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "NX is reserved without EFER.NXE", error=9, cr2=V_NX
	mov	$0xc0000080, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
9:	mov	V_NX, %eax
	end
	row	PF, "a reserved bit", error=9, cr2=V_RESERVED
9:	mov	V_RESERVED, %eax
	end
	row	NONE, "a large page", eax=0x77
	movl	$0x77, V_LARGE + 0x123456
	mov	V_LARGE + 0x123456, %eax
9:	hlt
	end
	row	NONE, "PDPTEs are read with CR3 only", need=NEED_INTEL
	movl	$0, TABLES_PAE
	invlpg	V_USER
	mov	V_USER, %eax
9:	hlt
	end
	row	GP, "a reserved bit of a PDPTE", error=0, need=NEED_INTEL
	orl	$2, TABLES_PAE
	mov	%cr3, %eax
9:	mov	%eax, %cr3
	end
	row	NONE, "a read sets A, a write D", eax=0x6020
	mov	V_FRESH, %eax
	mov	TABLES_PAE + 0x2000 + (V_FRESH >> 9), %ecx
	and	$0x60, %ecx
	mov	%eax, V_FRESH
	mov	TABLES_PAE + 0x2000 + (V_FRESH >> 9), %eax
	and	$0x60, %eax
	mov	%al, %ch
	mov	%ecx, %eax
9:	hlt
	end
	row	PF, "SMEP", error=0x11, cr2=V_USER, ip=V_USER, cr4=CR4_SMEP, need=NEED_SMEP
	mov	$V_USER, %eax
	jmp	*%eax
9:	nop
	end

	stage	PAE_USER

	row	PF, "NX", error=0x15, cr2=V_NX, ip=V_NX
	mov	$V_NX, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "a jump to the supervisor's", error=0x15, cr2=V_SUPER, ip=V_SUPER
	mov	$V_SUPER, %eax
	jmp	*%eax
9:	nop
	end
	row	PF, "a write to the supervisor's", error=7, cr2=V_SUPER
9:	mov	%eax, V_SUPER
	end
	row	PF, "a reserved bit", error=0xd, cr2=V_RESERVED
9:	mov	V_RESERVED, %eax
	end

/* ==== compatibility mode, ring 3: legacy code, long mode's interrupts ==== */
	stage	COMPAT

	row	DE, "DIV by zero"
	xor	%ecx, %ecx
9:	div	%ecx
	end
	row	DB, "single step", dr6=0xffff4ff0
	pushl	$FL_TF
	popf
	nop
9:	nop
	end
	row	BP, "INT3"
	int3
9:	nop
	end
	row	OF, "INTO"
	mov	$0x7f, %al
	inc	%al
	into
9:	nop
	end
	row	BR, "BOUND"
	movl	$-4, DATA
	movl	$4, DATA + 4
	mov	$5, %eax
9:	bound	%eax, DATA
	end
	row	INT_USER, "INT n"
	int	$INT_USER
9:	nop
	end
	row	GP, "INT of a gate of ring 0", error=INT_KERNEL*8+2
9:	int	$INT_KERNEL
	end
	row	GP, "HLT", error=0
9:	hlt
	end
	row	GP, "ring 0's data", error=KDATA
	mov	$KDATA, %eax
9:	mov	%eax, %ds
	end
	row	GP, "null into SS", error=0
	xor	%eax, %eax
9:	mov	%eax, %ss
	end
	row	GP, "an access by a null selector", error=0
	xor	%eax, %eax
	mov	%eax, %es
9:	mov	%es:DATA, %al
	end
	row	GP, "a write to code", error=0
9:	mov	%eax, %cs:DATA
	end
	row	GP, "a TSS", error=SEL_TSS
9:	ljmp	$SEL_TSS, $0
	end
	row	GP, "a 16-bit call gate", error=CALL_GATE16
9:	lcall	$CALL_GATE16, $0
	end
	row	CALLED, "CALL through a gate to ring 0"
	lcall	$CALL_GATE, $0
9:	nop
	end
	row	INT_USER, "a far jump to 64-bit code and back", eax=0x40
	ljmp	$UCODE64, $HERE(1f)
	.code64
1:	mov	$1, %eax
	shl	$38, %rax
	shr	$32, %rax
	push	$UCODE
	push	$HERE(2f)
	lretq
	.code32
2:	int	$INT_USER
9:	nop
	end
	row	PF, "a read of nothing", error=4, cr2=V_ABSENT
9:	mov	V_ABSENT, %eax
	end
	row	PF, "NX", error=0x15, cr2=V_NX, ip=V_NX
	mov	$V_NX, %eax
	jmp	*%eax
9:	nop
	end
	row	INT_USER, "addresses wrap at 4 GiB", eax=0x66
	movl	$0x66, DATA + 8
	mov	$0xffffffff, %ecx
	mov	DATA + 9(%ecx), %eax
	int	$INT_USER
9:	nop
	end
	row	AC, "a doubleword out of line", error=0, cr0=CR0_AM, flags=FL_AC
9:	mov	DATA + 2, %eax
	end

/* ==== 64-bit mode, ring 0 ==== */
	stage	LONG
	.code64

	row	DE, "DIV by zero"
	xor	%ecx, %ecx
9:	div	%rcx
	end
	row	DB, "single step", dr6=0xffff4ff0
	pushq	$FL_TF
	popfq
	nop
9:	nop
	end
	row	DB, "a code breakpoint", dr6=0xffff0ff1
	mov	$HERE(9f), %eax
	mov	%rax, %dr0
	mov	$0x2, %eax
	mov	%rax, %dr7
	nop
9:	nop
	end
	row	DB, "a write breakpoint of 8 bytes", dr6=0xffff0ff2
	mov	$DATA, %eax
	mov	%rax, %dr1
	mov	$0x900008, %eax
	mov	%rax, %dr7
	mov	DATA, %rcx
	mov	%al, DATA + 7
9:	nop
	end
	row	BP, "INT3"
	int3
9:	nop
	end
	row	INT_USER, "INT n"
	int	$INT_USER
9:	nop
	end
	row	INT_USER, "INT n aligns the stack"
	sub	$5, %rsp
	int	$INT_USER
9:	nop
	end
	row	UD, "INTO has no meaning"
9:	.byte	0xce
	end
	row	UD, "PUSH ES has no meaning"
9:	.byte	0x06
	end
	row	UD, "PUSHA has no meaning"
9:	.byte	0x60
	end
	row	UD, "AAM has no meaning"
9:	.byte	0xd4, 0x0a
	end
	row	UD, "JMP ptr16:32 has no meaning"
9:	.byte	0xea, 0, 0, 0, 0, KCODE, 0
	end
	row	UD, "LOCK MOV"
9:	.byte	0xf0, 0x89, 0x00
	end
	row	UD, "LOCK ADD to a register"
9:	.byte	0xf0, 0x01, 0xc0
	end
	row	NM, "x87 with CR0.TS", cr0=CR0_TS
9:	fld1
	end
	row	NM, "SSE with CR0.TS", cr0=CR0_TS, cr4=CR4_OSFXSR
9:	xorps	%xmm0, %xmm0
	end
	row	UD, "SSE without OSFXSR"
9:	xorps	%xmm0, %xmm0
	end
	row	XM, "SSE exception", cr4=CR4_OSFXSR|CR4_OSXMMEXCPT
	movl	$0x1d80, DATA
	ldmxcsr	DATA
	xorps	%xmm1, %xmm1
	cvtsi2sdq %rsp, %xmm0
9:	divsd	%xmm1, %xmm0
	end
	row	MF, "a pending x87 exception"
	fninit
	movw	$0x37e, DATA
	fldcw	DATA
	fldz
	fdivs	DATA + 8
9:	fld1
	end

	/* canonical addresses */
	row	GP, "a non-canonical address", error=0
	mov	$1 << 47, %rax
9:	mov	(%rax), %al
	end
	row	GP, "an operand that ends beyond the lower half", error=0
	mov	$(1 << 47) - 4, %rax
9:	mov	(%rax), %rax
	end
	row	SS, "a non-canonical address by RBP", error=0
	mov	$1 << 47, %rbp
9:	mov	(%rbp), %al
	end
	row	SS, "PUSH to a non-canonical address", error=0
	/* An IST stack is what makes this one come out alive. */
	movb	$1, IDT + SS * 16 + 4
	mov	$1 << 62, %rsp
9:	push	%rax
	end
	row	GP, "JMP to a non-canonical address", error=0
	mov	$1 << 47, %rax
9:	jmp	*%rax
	end
	row	GP, "RET to a non-canonical address", error=0
	mov	$1 << 47, %rax
	push	%rax
9:	ret
	end
	row	GP, "IRET to a non-canonical address", error=0
	pushq	$0
	push	%rsp
	pushq	$2
	pushq	$KCODE64
	mov	$1 << 47, %rax
	push	%rax
9:	iretq
	end
	row	GP, "WRMSR of a non-canonical FS base", error=0
	mov	$0xc0000100, %ecx
	mov	$0x8000, %edx
9:	wrmsr
	end
	row	GP, "WRMSR of a non-canonical LSTAR", error=0
	mov	$0xc0000082, %ecx
	mov	$0x8000, %edx
9:	wrmsr
	end
	row	GP, "LGDT of a non-canonical base", error=0
	movw	$0xff, DATA
	mov	$1 << 47, %rax
	mov	%rax, DATA + 2
9:	lgdt	DATA
	end

	/* paging */
	row	PF, "a read of nothing", error=0, cr2=V_ABSENT
9:	mov	V_ABSENT, %eax
	end
	row	PF, "the upper half", error=2, cr2=0xffff800000000000
	mov	$0xffff800000000000, %rax
9:	mov	%al, (%rax)
	end
	row	PF, "a write to a read-only page", error=3, cr2=V_READONLY
9:	mov	%eax, V_READONLY
	end
	row	PF, "NX", error=0x11, cr2=V_NX, ip=V_NX
	mov	$V_NX, %eax
	jmp	*%rax
9:	nop
	end
	row	PF, "a reserved bit", error=9, cr2=V_RESERVED
9:	mov	V_RESERVED, %eax
	end
	row	PF, "SMEP", error=0x11, cr2=V_USER, ip=V_USER, cr4=CR4_SMEP, need=NEED_SMEP
	mov	$V_USER, %eax
	jmp	*%rax
9:	nop
	end
	row	PF, "SMAP", error=1, cr2=V_USER, cr4=CR4_SMAP, need=NEED_SMAP
9:	mov	V_USER, %eax
	end
	row	NONE, "SMAP lifted by STAC", cr4=CR4_SMAP, need=NEED_SMAP
	stac
	mov	V_USER, %eax
9:	hlt
	end
	row	NONE, "a large page", eax=0x77
	movl	$0x77, V_LARGE + 0x123456
	mov	V_LARGE + 0x123456, %eax
9:	hlt
	end
	row	NONE, "a read sets A, a write D", eax=0x6020
	mov	V_FRESH, %eax
	mov	TABLES_4L + 0x3000 + (V_FRESH >> 9), %ecx
	and	$0x60, %ecx
	mov	%eax, V_FRESH
	mov	TABLES_4L + 0x3000 + (V_FRESH >> 9), %eax
	and	$0x60, %eax
	mov	%al, %ch
	mov	%ecx, %eax
9:	hlt
	end

	/* the IDT and the IST */
	row	GP, "a gate to 32-bit code", error=KCODE
9:	int	$INT_CODE32
	end
	row	NP, "a gate not present", error=INT_ABSENT*8+2
9:	int	$INT_ABSENT
	end
	row	GP, "a gate to null", error=0
9:	int	$INT_NULL
	end
	row	GP, "a TSS in the IDT", error=INT_TSS*8+2
9:	int	$INT_TSS
	end
	row	GP, "beyond the IDT", error=0xff*8+2
	movw	$0xfef, DATA
	movq	$IDT, DATA + 2
	lidt	DATA
9:	int	$0xff
	end
	row	DF, "a bad stack, rescued by the IST", error=0, cr2=V_ABSENT+0xff8
	mov	$V_ABSENT + 0x1000, %rsp
9:	ud2
	end
	row	DF, "#NP on the way of #GP", error=0
	movb	$0x0e, IDT + GP * 16 + 5
	mov	$1 << 47, %rax
9:	mov	(%rax), %al
	end
	row	DF, "#PF on the way of #PF", error=0, cr2=V_ABSENT+0xff8
	mov	$V_ABSENT + 0x1000, %rsp
9:	push	%rax
	end
	row	SHUTDOWN, "#PF on the way of #DF"
	movb	$0, IDT + DF * 16 + 4
	mov	$V_ABSENT + 0x1000, %rsp
9:	ud2
	end

	/* segments */
	row	NONE, "null into SS"
	xor	%eax, %eax
	mov	%eax, %ss
	push	%rax
9:	hlt
	end
	row	GP, "null of ring 3 into SS", error=0
	mov	$3, %eax
9:	mov	%eax, %ss
	end
	row	NONE, "an access by a null selector"
	xor	%eax, %eax
	mov	%eax, %ds
	mov	DATA, %eax
9:	hlt
	end
	row	NP, "data that is not present", error=ABSENT_DATA
	mov	$ABSENT_DATA, %eax
9:	mov	%eax, %ds
	end
	row	GP, "code with both L and D", error=BOTH_WIDE
	movl	$HERE(9f), DATA
	movw	$BOTH_WIDE, DATA + 4
9:	ljmpl	*DATA
	end
	row	GP, "CALL of a TSS", error=SEL_TSS
	movw	$SEL_TSS, DATA + 4
9:	lcalll	*DATA
	end
	row	CALLED, "CALL through a gate"
	movw	$CALL_GATE, DATA + 4
	lcalll	*DATA
9:	nop
	end
	row	GP, "IRET with NT", error=0
	pushq	$FL_NT
	popfq
9:	iretq
	end
	row	GP, "LTR of a busy TSS", error=SEL_TSS
	mov	$SEL_TSS, %eax
9:	ltr	%ax
	end

	/* control registers and MSRs */
	row	GP, "CR4.PAE cleared", error=0
	mov	%cr4, %rax
	and	$~CR4_PAE, %rax
9:	mov	%rax, %cr4
	end
	row	GP, "paging cleared in 64-bit mode", error=0
	mov	%cr0, %rax
	btr	$31, %rax
9:	mov	%rax, %cr0
	end
	row	GP, "upper half of CR0", error=0
	mov	%cr0, %rax
	bts	$32, %rax
9:	mov	%rax, %cr0
	end
	row	GP, "CR3 beyond the physical address", error=0
	mov	%cr3, %rax
	bts	$62, %rax
9:	mov	%rax, %cr3
	end
	row	GP, "CR8 above 15", error=0
	mov	$16, %eax
9:	mov	%rax, %cr8
	end
	row	GP, "upper half of DR7", error=0
	mov	$1 << 32, %rax
9:	mov	%rax, %dr7
	end
	row	GP, "EFER.LME cleared with paging on", error=0
	mov	$0xc0000080, %ecx
	rdmsr
	btr	$8, %eax
9:	wrmsr
	end
	row	UD, "SYSCALL without EFER.SCE"
9:	syscall
	end
	row	GP, "SYSENTER without a CS", error=0, need=NEED_INTEL
9:	sysenter
	end

	/* alignment that has nothing to do with AC */
	row	GP, "MOVAPS out of line", error=0, cr4=CR4_OSFXSR
9:	movaps	DATA + 8, %xmm0
	end
	row	GP, "FXSAVE out of line", error=0, cr4=CR4_OSFXSR
9:	fxsave	DATA + 8
	end
	row	GP, "CMPXCHG16B out of line", error=0
9:	cmpxchg16b DATA + 8
	end
	row	NONE, "MOVUPS out of line", cr4=CR4_OSFXSR
	movups	DATA + 7, %xmm0
9:	hlt
	end
	row	GP, "XGETBV of nothing", error=0, cr4=CR4_OSXSAVE, need=NEED_XSAVE
	mov	$5, %ecx
9:	xgetbv
	end
	row	GP, "ADDPS out of line", error=0, cr4=CR4_OSFXSR
9:	addps	DATA + 4, %xmm0
	end
	row	UD, "RDFSBASE without CR4.FSGSBASE"
9:	rdfsbase %rax
	end
	row	PF, "an instruction that ends in nothing", error=0x10, cr2=V_ABSENT, ip=(V_ABSENT-1)
	movb	$0xb8, V_ABSENT - 1
	mov	$V_ABSENT - 1, %eax
	jmp	*%rax
9:	nop
	end
	row	GP, "a read across the canonical end", error=0
	mov	$(1 << 47) - 2, %rax
9:	mov	(%rax), %eax
	end
	row	PF, "the last page", error=0, cr2=0xfffffffffffffff0
	mov	$-16, %rax
9:	mov	(%rax), %eax
	end
	row	GP, "WRMSR of a non-canonical KERNEL_GS_BASE", error=0
	mov	$0xc0000102, %ecx
	mov	$0x800000, %edx
9:	wrmsr
	end
	row	GP, "a reserved bit of the APIC base", error=0
	mov	$0x1b, %ecx
	mov	$0xfee00900, %eax
	mov	$0x80000000, %edx
9:	wrmsr
	end

/* ==== 64-bit mode, ring 3 ==== */
	stage	LONG_USER

	row	INT_USER, "INT n"
	int	$INT_USER
9:	nop
	end
	row	GP, "INT of a gate of ring 0", error=INT_KERNEL*8+2
9:	int	$INT_KERNEL
	end
	row	BP, "INT3"
	int3
9:	nop
	end
	row	DB, "single step", dr6=0xffff4ff0
	pushq	$FL_TF
	popfq
	nop
9:	nop
	end
	row	GP, "HLT", error=0
9:	hlt
	end
	row	GP, "SWAPGS", error=0
9:	swapgs
	end
	row	UD, "SYSRET without EFER.SCE"
9:	sysretl
	end
	row	UD, "STAC", need=NEED_SMAP
9:	stac
	end
	row	GP, "MOV to CR8", error=0
9:	mov	%rax, %cr8
	end
	row	GP, "a closed port", error=0
9:	inb	$CLOSED_PORT, %al
	end
	row	INT_USER, "an open port"
	outb	%al, $CLOSED_PORT + 1
	int	$INT_USER
9:	nop
	end
	row	GP, "a non-canonical address", error=0
	mov	$1 << 47, %rax
9:	mov	(%rax), %al
	end
	row	SS, "a non-canonical stack", error=0
	mov	$1 << 62, %rsp
9:	push	%rax
	end
	row	PF, "the supervisor's", error=5, cr2=V_SUPER
9:	mov	V_SUPER, %eax
	end
	row	PF, "a write to a read-only page", error=7, cr2=V_READONLY
9:	mov	%eax, V_READONLY
	end
	row	PF, "NX", error=0x15, cr2=V_NX, ip=V_NX
	mov	$V_NX, %eax
	jmp	*%rax
9:	nop
	end
	row	PF, "PUSH to nothing", error=6, cr2=V_ABSENT+0xff8, sp=V_READONLY
	mov	$V_ABSENT + 0x1000, %rsp
9:	push	%rax
	end
	row	INT_USER, "INT n with a stack that is not there"
	mov	$V_ABSENT + 0x1000, %rsp
	int	$INT_USER
9:	nop
	end
	row	AC, "a quadword out of line", error=0, cr0=CR0_AM, flags=FL_AC
9:	mov	DATA + 4, %rax
	end
	row	GP, "MOVAPS out of line, with AC", error=0, cr0=CR0_AM, flags=FL_AC, cr4=CR4_OSFXSR
9:	movaps	DATA + 8, %xmm0
	end
	row	GP, "null into SS", error=0
	xor	%eax, %eax
9:	mov	%eax, %ss
	end
	row	GP, "IRET to ring 0", error=KCODE64
	pushq	$KDATA
	pushq	$STACK
	pushq	$2
	pushq	$KCODE64
	pushq	$HERE(9f)
9:	iretq
	end
	row	CALLED, "CALL through a gate to ring 0"
	movw	$CALL_GATE | 3, DATA + 4
	lcalll	*DATA
9:	nop
	end

	.section .note.GNU-stack, "", @progbits
