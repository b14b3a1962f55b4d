/* SPDX-License-Identifier: MIT */
/*
 * A multiboot program: starts the other CPU at page 0, and again at page 1, as an operating system does when it puts a
 * CPU out of use and in again. Each time it counts itself and halts. The first CPU is heard of only if the other's
 * thread really sleeps then: its port accesses need QEMU's big lock.
 */
	.set	count, 0x600		/* a byte of memory that the BIOS leaves alone */

	.section .text.start, "ax"
	.code32
	.long	0x1badb002, 0, -0x1badb002	/* the multiboot header: magic, flags, checksum */

	.globl	_start
_start:
	mov	$stack, %esp
	movb	$0, count
	xor	%ebx, %ebx		/* the page that the other CPU starts at */
1:	mov	$ap, %esi
	mov	%ebx, %edi
	shl	$12, %edi
	mov	$ap_end - ap, %ecx
	rep movsb
	movl	$0xc4500, 0xfee00300	/* ICR: INIT, to all but self */
	call	pause
	mov	%ebx, %eax
	or	$0xc4600, %eax		/* SIPI */
	mov	%eax, 0xfee00300
2:	pause
	cmpb	count, %bl
	je	2b
	call	pause
	mov	$message, %esi
	call	print
	inc	%ebx
	cmp	$2, %ebx
	jb	1b
	hlt

pause:	mov	$2000, %ecx		/* about as many microseconds: a port that no device is at */
1:	in	$0x80, %al
	loop	1b
	ret

print:	mov	$0x3f8, %dx
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, %dx
	jmp	1b
2:	ret

	.code16
ap:	xor	%ax, %ax
	mov	%ax, %ds
	lock incb count
1:	cli
	hlt
	jmp	1b
ap_end:

message:
	.asciz	"the other CPU has started\n"
	.fill	256
stack:
