/* SPDX-License-Identifier: MIT */
/* How opcodes.def and operands.def become C: the types of the decoder's own tables. Nobody else needs this. */
#ifndef UKVM_INSN_DECODE_H
#define UKVM_INSN_DECODE_H

#include "insn/feature.h"
#include "insn/insn.h"

enum opcode_map {
	MAP_1,
	MAP_0F,
	MAP_0F38,
	MAP_0F3A,
	MAP_V0F,
	MAP_V0F38,
	MAP_V0F3A,
	NR_MAPS,
};

/* In the table only: AVX, or AVX2 with VEX.L. */
#define FEATURE_AVX_AVX2 NR_FEATURES

/* How an operand is encoded. The order matters to the predicates below. */
enum operand_kind {
	NONE,
	/* Immediates */
	IMM_U8,
	IMM_S8,
	IMM_U16,
	IMM_Z,
	IMM_V,
	IMM_ONE,
	/* What follows the opcode like an immediate, but does not count as one for the form */
	IMM_VEC,
	IMM_JZ,
	IMM_FAR,
	/* Implicit memory operands: the instruction is FORM_NONE */
	MOFFS,
	STRING,
	/* Registers without ModRM */
	OPC_GPR,
	FIXED_A,
	FIXED_C,
	FIXED_D,
	FIXED_ES,
	FIXED_CS,
	FIXED_SS,
	FIXED_DS,
	FIXED_FS,
	FIXED_GS,
	FIXED_ST0,
	VEX_GPR,
	VEX_VEC,
	/* ModRM.reg */
	REG_GPR,
	REG_SEG,
	REG_CR,
	REG_DR,
	REG_MMX,
	REG_VEC,
	/* ModRM.rm */
	RM_GPR,
	RM_GPR_MB,     /* a whole register, or a byte of memory */
	RM_GPR_MW,     /* a whole register, or a word of memory */
	RM_ALWAYS_GPR, /* a register, whatever ModRM.mod says */
	RM_MMX,
	RM_VEC,
	RM_ST,
	RM_MEM,
	RM_VSIB, /* memory, the index is a vector register */
};

/* How wide an operand is; the letters are explained in operands.def. */
enum operand_width {
	WIDTH_0,
	WIDTH_B,
	WIDTH_W,
	WIDTH_D,
	WIDTH_Q,
	WIDTH_DQ,
	WIDTH_QQ,
	WIDTH_T,
	WIDTH_V,
	WIDTH_Z,
	WIDTH_Y,
	WIDTH_M,
	WIDTH_S,
	WIDTH_X,
	WIDTH_H,
	WIDTH_F,
	WIDTH_E,
};

/* An operand specifier is its kind and its width in one number. */
enum operand {
	OPERAND__ = NONE,
#define OPERAND(name, kind, width) OPERAND_##name = (kind) << 8 | WIDTH_##width,
#include "insn/operands.def"
#undef OPERAND
};
#define OPERAND_KIND(o) ((o) >> 8)
#define OPERAND_WIDTH(o) ((o)&0xff)
#define IS_IMM(o) (OPERAND_KIND(o) >= IMM_U8 && OPERAND_KIND(o) <= IMM_ONE)
#define IS_IMPLICIT(o) (OPERAND_KIND(o) == MOFFS || OPERAND_KIND(o) == STRING)
#define IS_LOCATION(o) (OPERAND_KIND(o) >= OPC_GPR)
#define IS_VVVV(o) (OPERAND_KIND(o) == VEX_GPR || OPERAND_KIND(o) == VEX_VEC)
#define IS_MODRM(o) (OPERAND_KIND(o) >= REG_GPR)
#define IS_RM(o) (OPERAND_KIND(o) >= RM_GPR)
#define IS_SIZED_RM(o) (IS_RM(o) && OPERAND_WIDTH(o))
/* The width if the operand is memory */
#define MEM_WIDTH(o)                                                                                                   \
	(OPERAND_KIND(o) == RM_GPR_MB ? WIDTH_B : OPERAND_KIND(o) == RM_GPR_MW ? WIDTH_W : OPERAND_WIDTH(o))

/*
 * Everything of an encoding on which the choice of the row depends, as bits of one number: ModRM in bits 7:0 and the
 * KEY_* bits. A row fits if (key & row->mask) == row->value.
 */
enum key_bit {
	KEY_REG = 1 << 8, /* ModRM.mod is 3 */
	KEY_PP_SHIFT = 9, /* the mandatory prefix as in VEX.pp: 0 none, 1 66, 2 F3, 3 F2 */
	KEY_PP = 3 << 9,
	KEY_64 = 1 << 11,   /* 64-bit mode */
	KEY_REAL = 1 << 12, /* real or virtual-8086 mode */
	KEY_W = 1 << 13,
	KEY_L = 1 << 14,
	KEY_B = 1 << 15, /* REX.B */
};

/* The flags column. The lower ones say what the key must be, the others are kept in the row. */
enum row_flag {
	F_N64 = 1 << 0,
	F_O64 = 1 << 1,
	F_PROT = 1 << 2,
	F_W0 = 1 << 3,
	F_W1 = 1 << 4,
	F_L0 = 1 << 5,
	F_L1 = 1 << 6,
	F_B0 = 1 << 7,
	F_LOCK = 1 << 8,
	F_D64 = 1 << 9,
	F_F64 = 1 << 10,
	F_SRC2 = 1 << 11,
	F_END = 1 << 12,
	/* Not in the table, but computed from it */
	F_MODRM = 1 << 13,
	F_VVVV = 1 << 14,
	F_REP = 1 << 15, /* F2 and F3 are REP prefixes */
};

struct row {
	u32 mask, value;
	u16 op;                  /* enum op */
	u16 flags;               /* enum row_flag */
	u16 operand[4];          /* enum operand */
	u8 form_reg, form_mem;   /* enum form, without and with a ModRM memory operand */
	u8 width_reg, width_mem; /* enum operand_width that gives insn::size, likewise */
	u8 width_src2;           /* F_SRC2: the one that gives insn::src2 */
	u8 feature;              /* enum insn_feature */
};

/* What an instruction's bytes say beside its operands, for who makes the same one of other operands. */
struct encoding {
	bool vex, w, l;
	bool src2; /* insn::src2 is the width of memory: F_SRC2 */
	u8 map; /* enum opcode_map */
	u8 pp;  /* the mandatory prefix, as in VEX.pp */
	u8 opcode;
	u8 digit;         /* ModRM.reg without the prefixes' bit */
	u8 reg, rm, vvvv; /* register numbers, where the kinds say that there are registers */
	u8 kind[4];       /* enum operand_kind of its operands */
};

/* Of bytes that insn_decode() has accepted; false for others. */
bool insn_encoding(const u8 *bytes, size_t n, enum decode_mode mode, struct encoding *out);

/* The rows of one map and opcode. */
struct row_range {
	u16 first, count;
};

#endif
