/* SPDX-License-Identifier: MIT */
/*
 * The decoded instruction: what the decoder makes of guest bytes, and all that the interpreter and the translator see
 * of them. One row of opcodes.def says what the bytes are; interp/table.c says which handler computes them.
 */
#ifndef UKVM_INSN_INSN_H
#define UKVM_INSN_INSN_H

#include "cpu/types.h"

struct cpu;
struct insn;

/* Executes instructions; returns an enum status. See insn::fn and insn::run for what is so before and after. */
typedef int (*insn_fn)(struct cpu *c, const struct insn *i);

/* Operations are named by their Intel mnemonic in lower case: OP_add, OP_movsx, OP_paddd, OP_fld, OP_jnz ... */
enum op {
	OP_invalid = 0,
#define OP(name) OP_##name,
#include "insn/ops.inc" /* made from opcodes.def by the build: each name once */
#undef OP
	NR_OPS,
};

/*
 * Where the operands are. The first letter is the destination (Intel order). An immediate that comes beside two other
 * operands (shld, pshufd, imul) does not change the form; it is in insn::imm. Immediate-only and implicit-only
 * instructions are FORM_NONE. FORM_L*: memory destination with a LOCK prefix.
 */
enum form {
	FORM_NONE,
	FORM_R,
	FORM_M,
	FORM_RR,
	FORM_RM,
	FORM_MR,
	FORM_RI,
	FORM_MI,
	FORM_LM,
	FORM_LMR,
	FORM_LMI,
	NR_FORMS,
};

/* Operand sizes, as used for insn::size and insn::asize: log2 of the bytes. */
enum opsize {
	SZ_8,
	SZ_16,
	SZ_32,
	SZ_64,
	SZ_128,
	SZ_256,
	SZ_512,
	SZ_80, /* x87 extended precision */
};

static inline unsigned size_bytes(unsigned size)
{
	return size == SZ_80 ? 10 : 1u << size;
}

/* insn::flags */
enum insn_flag {
	INSN_LOCK = 1 << 0,
	INSN_REP = 1 << 1,    /* F3, where it is not a mandatory prefix */
	INSN_REPNE = 1 << 2,  /* F2, likewise */
	INSN_REX_W = 1 << 3,  /* REX.W, VEX.W, EVEX.W */
	INSN_OPSIZE = 1 << 4, /* a 66 prefix was there (also as a mandatory prefix) */
	INSN_END = 1 << 5,    /* the table says that a block ends after this instruction */
	INSN_MEM = 1 << 6,    /* seg, base, index, scale, disp describe a memory operand */
	INSN_MODE64 = 1 << 7, /* decoded in 64-bit mode */
};

/*
 * General-purpose registers are byte offsets into cpu::gpr: 8 * number, plus one for AH, CH, DH, BH; so a handler for
 * bytes needs no case for REX. base and index use the same offsets; R_ZERO and R_RIP (cpu.h) serve as "none" and
 * RIP-relative (R_BLOCK instead of R_RIP where insn::run is set). All other registers (segment, control, debug, x87
 * stack, MMX, XMM) are plain numbers.
 *
 * For far pointers (ptr16:16, ptr16:32) imm is offset | selector << 32; for ENTER imm16 | imm8 << 16; for relative
 * branches the sign-extended displacement; for moffs (OP_mov_moffs) the absolute offset. Immediates are sign-extended
 * to 64 bits where the operand is wider than the immediate.
 */
struct insn {
	insn_fn fn;  /* executes this one instruction: RIP already points behind it */
	insn_fn run; /* executes it and those that follow in its block, see interp/thread.h; only in blocks */
	u64 imm;
	s32 disp;
	u16 op;    /* enum op */
	u16 end;   /* in a block: its end, in bytes from the block's start */
	u8 len;    /* bytes, 1 to 15; 0 only in an engine's own pseudo-instructions */
	u8 form;   /* enum form */
	u8 size;   /* enum opsize: of the operation, after prefixes and 64-bit defaults */
	u8 asize;  /* SZ_16, SZ_32 or SZ_64 */
	u8 seg;    /* enum sreg: effective segment of the memory operand (or of a string source) */
	u8 base, index, scale;
	u8 dst, src, src2;
	u8 flags;
	u8 modrm;  /* the raw ModRM byte, 0 if there is none */
	u8 vex;    /* VEX/EVEX: L in bits 1:0; bit 7 set if the encoding was VEX, bit 6 if EVEX */
	u8 feature;  /* enum insn_feature (feature.h): what the host must have to execute this natively */
	u8 opcode;   /* the last opcode byte; x87 instructions remember it */
	/* 48 bytes, and thousands of them in the cache; EVEX's mask, rounding and broadcast would want two more. */
};

/* How to decode: the mode of the code segment. */
enum decode_mode {
	DECODE_16_REAL, /* real or virtual-8086 mode: VEX and EVEX do not exist */
	DECODE_32_REAL, /* real mode with a CS.D of 1 */
	DECODE_16,      /* protected or compatibility mode */
	DECODE_32,
	DECODE_64,
};

/* Errors of insn_decode(). */
enum decode_error {
	DECODE_MORE = -1, /* the instruction goes on behind the bytes given */
	DECODE_UD = -2,   /* undefined: #UD */
	DECODE_GP = -3,   /* longer than 15 bytes: #GP(0) */
};

/*
 * Decodes the instruction at bytes, of which n (any number, at most 15 are looked at) are readable. Returns its length
 * and fills out (without fn), or an enum decode_error. Touches nothing else.
 */
int insn_decode(const u8 *bytes, size_t n, enum decode_mode mode, struct insn *out);

/* The Intel mnemonic of an operation, for logs and tests. */
const char *insn_op_name(unsigned op);

#endif
