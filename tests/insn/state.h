/* SPDX-License-Identifier: MIT */
/* What both sides start from and end in, and where things lie in their common address space. */
#ifndef UKVM_TESTS_INSN_STATE_H
#define UKVM_TESTS_INSN_STATE_H

/*
 * The address space of a case. Everything is below 2 GiB, so that absolute, 32-bit and RIP-relative addresses reach it
 * from everywhere, and away from where a position-independent executable lies.
 */
#define CODE_BASE 0x10000000 /* executable, not writable */
#define CODE_PAGES 8         /* nothing follows */
#define CTL_BASE 0x5a3c6000  /* the native side's own; the engine has nothing there */
#define CTL_SIZE 0x4000
#define EXIT_BASE 0x5b7d2000 /* where a case ends; the engine has nothing there */
#define EXIT_SPACING 32
#define NR_EXITS 4
#define DATA_BASE 0x20000000
#define DATA_PAGES 7         /* - RW RW - RO RW - */
#define STACK_BASE 0x28000000
#define STACK_PAGES 4        /* - RW RW - */
#define NR_MEM_PAGES 6       /* those that exist, in the order of their addresses: the memory image */
#define FS_BASE (DATA_BASE + 0x1100)
#define GS_BASE (DATA_BASE + 0x5080)

/* Offsets in the control page, for native_entry.S. */
#define CTL_HOST_RSP 0
#define CTL_COMMON 8
#define CTL_EXIT 16
#define CTL_GPR 64      /* 16 registers: in and out */
#define CTL_FLAGS 192   /* out */
#define CTL_SEL 200     /* out: ES, CS, SS, DS, FS, GS */
#define CTL_XSAVE 256   /* in and out */
#define CTL_FRAME 2048  /* for IRETQ */
#define CTL_STACK 2304
#define XSAVE_IMAGE 832 /* legacy area, header, upper halves of YMM registers */

#ifndef __ASSEMBLER__
#include "cpu/types.h"

struct state {
	u64 gpr[16];
	u64 rip, rflags;
	u16 sel[6];
	u8 xsave[XSAVE_IMAGE] __attribute__((aligned(64)));
};

#define NO_FAULT 0xff
struct outcome {
	struct state s;
	u8 vector;   /* or NO_FAULT */
	u32 exit;    /* then: which end of the code was reached */
	u32 error;
	u64 cr2;     /* of #PF */
};

/* Memory: the pages that exist, as one array. */
#define MEM_SIZE (NR_MEM_PAGES * 4096)

struct mem_page {
	u32 linear;
	bool writable;
};
extern const struct mem_page mem_pages[NR_MEM_PAGES];

/*
 * The code that the engine runs: 64-bit, or of a narrower segment in compatibility mode. The bare CPU always runs
 * 64-bit code, then a twin of the narrow one: narrow.c.
 */
enum width { WIDTH_64, WIDTH_32, WIDTH_16, NR_WIDTHS };

/* A case: code at s.rip, and what both sides begin with. */
#define CODE_MAX 192
struct test_case {
	u64 seed;
	u32 row;
	u32 code_at;         /* offset in the code window of code[0] */
	u32 code_len;
	u8 code[CODE_MAX];
	u8 insn_len;         /* bytes of the instructions alone, without what ends them */
	u8 insn_off;         /* where they begin in code[] */
	enum width width;
	u8 twin[CODE_MAX];   /* of a narrow case: what the bare CPU has in place of code[] */
	s8 twin_ahead;       /* how many bytes before insn_off the twin's instruction begins */
	u32 cs_base;         /* of the engine's segments; the bare CPU's are 0 */
	u32 data_base;       /* ES, SS and DS */
	u64 mxcsr_mask_at;   /* where an image's MXCSR_MASK may be: AMD's CPUs have one bit more */
	bool coarse_cr2;     /* large operands: which of their bytes is tried first is not defined */
	bool steps;          /* a computation of several, which an unmasked exception may end early */
	bool uses_fs;        /* FS has to point at data */
	bool loads_seg;      /* FS and GS have to be set again afterwards */
	bool at_once;        /* one instruction, without iterations: registers change when all of it is done */
	bool branches;       /* perhaps to another instruction that has a device */
	bool in_pieces;      /* what it stores is too large for one access: memory may change before devices answer */
	struct state in;
};

#endif
#endif
