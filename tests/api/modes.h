/* SPDX-License-Identifier: MIT */
/*
 * What the client modes.c and its guests, modes_faults.S, modes_system.S and modes_walk.S, agree on. Read by C and by
 * the assembler.
 */
#ifndef UKVM_TESTS_MODES_H
#define UKVM_TESTS_MODES_H

/*
 * Guest memory, linear = physical. Of all of it the IVT (at 0), GDT, LDT, IDT, TSSs and page tables are made by the
 * client. HANDLERS holds a HLT for each vector: where the guest halts tells which one was taken.
 */
#define TEXT 0x1000
#define DATA 0x2000
#define GDT 0x3000
#define LDT 0x3800
#define IDT 0x4000
#define HANDLERS 0x5000
#define TSS 0x6000     /* the current one */
#define TSS_NEXT 0x6400 /* a task to switch to; 32 bits */
#define TSS_BAD 0x6800
#define TSS_IO 0xa0     /* I/O bitmap, offset in TSS; the 32 bytes of the redirection bitmap lie before it */
#define TSS_LIMIT 0x19f /* ports 0-0x7f7; of them only CLOSED_PORT is denied */
#define CLOSED_PORT 0x20
#define STACK 0x8000   /* grows down from here */
#define STACK0 0x9000  /* ring 0's */
#define STACK_IST 0x9800
#define WALK 0xa000    /* modes_walk.S */
#define WALK_END 0x10000
#define TABLES_32 0x10000  /* directory, table */
#define TABLES_PAE 0x13000 /* PDPT, directory, table */
#define TABLES_4L 0x17000  /* PML4, PDPT, directory, table */
#define WALK_IDT64 0x1c000
#define WALK_TSS64 0x1d000
#define MEMORY 0x1000000

/* Linear pages that are mapped to DATA in one way or other; all else below 4 MiB is mapped to itself. */
#define V_ABSENT 0x40000
#define V_READONLY 0x41000 /* a user page */
#define V_SUPER 0x42000
#define V_NX 0x43000       /* a user page; an ordinary one in 32-bit paging */
#define V_USER 0x44000
#define V_FRESH 0x45000    /* a user page, neither accessed nor dirty */
#define V_LARGE 0x400000   /* a page of 2 or 4 MiB */
#define V_LARGE_END 0x800000 /* nothing, behind the large page of 32-bit paging */
#define V_RESERVED 0xc00000 /* a large page with a reserved bit set */

/* Selectors */
#define KCODE 0x08
#define KDATA 0x10
#define UCODE 0x1b
#define UDATA 0x23
#define UCODE64 0x2b /* 16 above UCODE, for SYSRET */
#define KCODE64 0x30
#define KDATA64 0x38 /* KDATA again: 8 above KCODE64, for SYSCALL */
#define KCODE16 0x40
#define KDATA16 0x48
#define SMALL 0x50      /* DATA, 4 KiB */
#define DOWN 0x58       /* expand-down: 0x2000-0xffffffff */
#define DOWN16 0x60     /* expand-down with a 64 KiB upper bound */
#define ABSENT_DATA 0x68
#define ABSENT_CODE 0x70
#define READ_ONLY 0x78
#define EXEC_ONLY 0x80
#define CONFORMING 0x88
#define SEL_LDT 0x90    /* 16 bytes in long mode */
#define SEL_TSS 0xa0    /* likewise; busy */
#define SEL_TSS_NEXT 0xb0
#define SHORT_TSS 0xb8
#define ABSENT_TSS 0xc0
#define CALL_GATE 0xc8  /* 16 bytes in long mode; to CALLED in ring 0, DPL 3 */
#define CALL_GATE0 0xd8 /* DPL 0 */
#define ABSENT_GATE 0xe8
#define TASK_GATE 0xf8
#define CALL_GATE16 0x100
#define BOTH_WIDE 0x108 /* code with L and D */
#define ABSENT_LDT 0x110
#define BAD_TSS 0x118   /* its task has a selector beyond the GDT in DS */
#define GDT_LIMIT 0x11f
#define LDT_DATA 0x0c   /* entry 1 of the LDT, flat */
#define LDT_LIMIT 0x0f

/* Gates of the IDT beside those of the exceptions */
#define INT_USER 0x80   /* DPL 3 */
#define INT_ABSENT 0x81
#define INT_KERNEL 0x84 /* DPL 0 */
#define INT_NULL 0x85   /* selector 0 */
#define INT_DATA 0x86   /* a data segment */
#define INT_ABSENT_CODE 0x87
#define INT_CODE32 0x88 /* long mode: not 64-bit code */
#define INT_TSS 0x89    /* not a gate */
#define INT_USER_CODE 0x8a /* an outer ring's */

/* What is neither exception nor interrupt but ends a row as well */
#define CALLED 0x90     /* a call gate or the next task */
#define NONE 0x100      /* no fault: HLT at the mark */
#define SHUTDOWN 0x101

#define DE 0
#define DB 1
#define NMI 2
#define BP 3
#define OF 4
#define BR 5
#define UD 6
#define NM 7
#define DF 8
#define TS 10
#define NP 11
#define SS 12
#define GP 13
#define PF 14
#define MF 16
#define AC 17
#define XM 19

/* Stages */
#define REAL 0
#define PROT16 1
#define PROT 2
#define PROT_USER 3
#define VM86 4
#define PAGED 5
#define PAGED_USER 6
#define PAE 7
#define PAE_USER 8
#define COMPAT 9
#define LONG 10
#define LONG_USER 11

/* Register bits */
#define CR0_PE 0x1
#define CR0_MP 0x2
#define CR0_EM 0x4
#define CR0_TS 0x8
#define CR0_ET 0x10
#define CR0_NE 0x20
#define CR0_WP 0x10000
#define CR0_AM 0x40000
#define CR0_PG 0x80000000
#define CR4_VME 0x1
#define CR4_PVI 0x2
#define CR4_TSD 0x4
#define CR4_DE 0x8
#define CR4_PSE 0x10
#define CR4_PAE 0x20
#define CR4_OSFXSR 0x200
#define CR4_OSXMMEXCPT 0x400
#define CR4_UMIP 0x800
#define CR4_PCIDE 0x20000
#define CR4_OSXSAVE 0x40000
#define CR4_SMEP 0x100000
#define CR4_SMAP 0x200000
#define EFER_SCE 0x1
#define EFER_LME 0x100
#define EFER_LMA 0x400
#define EFER_NX 0x800
#define FL_TF 0x100
#define FL_IF 0x200
#define FL_OF 0x800
#define FL_IOPL 0x3000
#define FL_NT 0x4000
#define FL_RF 0x10000
#define FL_VM 0x20000
#define FL_AC 0x40000
#define FL_VIF 0x80000
#define FL_VIP 0x100000

/* What some rows need of the CPU, or of who plays it */
#define NEED_SMEP 1
#define NEED_SMAP 2
#define NEED_UMIP 4
#define NEED_XSAVE 8
#define NEED_INTEL 16
#define NEED_UKVM 32 /* the kernel's KVM drops faults of task switches, and knows no port breakpoints */

#define NEED_AMD 64
#define NEED_PCID 128
#define NEED_INVPCID 256
#define NEED_GBPAGES 512

/* Ports by which modes_walk.S reports; all of them are open to every ring. */
#define PORT_LINE 0x100 /* of the check */
#define PORT_GOT 0x104
#define PORT_WANT 0x108 /* the last of the three */
#define PORT_NMI 0x10c  /* asks for an NMI */

#endif
