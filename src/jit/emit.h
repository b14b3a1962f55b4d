/* SPDX-License-Identifier: MIT */
/*
 * Host instructions, byte by byte. Callers see to it that there is room: TRANSLATE_ROOM for a block is plenty.
 *
 * Operation sizes are those of enum opsize, SZ_8 to SZ_64. An opcode is its last byte with OPC_* bits for what comes
 * before it; opcodes of integer instructions are those for words, which for SZ_8 are one less.
 */
#ifndef UKVM_JIT_EMIT_H
#define UKVM_JIT_EMIT_H

#include "insn/insn.h"

/* Host registers by their encoding. */
enum host_reg {
	H_RAX,
	H_RCX,
	H_RDX,
	H_RBX,
	H_RSP,
	H_RBP,
	H_RSI,
	H_RDI,
	H_R8,
	H_R9,
	H_R10,
	H_R11,
	H_R12,
	H_R13,
	H_R14,
	H_R15,
	H_NONE = -1,
};

#define OPC_0F 0x100u
#define OPC_F3 0x200u
#define OPC_LOCK 0x400u
#define OPC_BYTE 0x800u  /* the operand is a byte, whatever the size says: setcc, the source of movzx */
#define OPC_SAME 0x1000u /* no other opcode for bytes: it says by itself what it works on */

struct emit {
	u8 *at;
};

/* A register, or memory at base + index << scale + disp. */
struct rm {
	s8 base, index; /* enum host_reg */
	u8 scale;
	bool mem;
	s32 disp;
};

static inline struct rm rm_reg(enum host_reg r)
{
	return (struct rm){ .base = (s8)r, .index = H_NONE };
}

static inline struct rm rm_mem(enum host_reg base, s32 disp)
{
	return (struct rm){ .mem = true, .base = (s8)base, .index = H_NONE, .disp = disp };
}

static inline void emit8(struct emit *e, unsigned v)
{
	*e->at++ = (u8)v;
}

static inline void emit32(struct emit *e, u32 v)
{
	__builtin_memcpy(e->at, &v, 4);
	e->at += 4;
}

static inline void emit64(struct emit *e, u64 v)
{
	__builtin_memcpy(e->at, &v, 8);
	e->at += 8;
}

/* reg is a register or an opcode extension ("/digit"); rip-relative addresses do not occur. */
void emit_modrm(struct emit *e, unsigned reg, const struct rm *rm);
/* An instruction with a ModRM byte; an immediate has to follow. digit: reg is one. */
void emit_op(struct emit *e, unsigned size, unsigned opcode, unsigned reg, bool digit, struct rm rm);

/* op reg, rm or op rm, reg as the opcode says. */
static inline void emit_rm(struct emit *e, unsigned size, unsigned opcode, enum host_reg reg, struct rm rm)
{
	emit_op(e, size, opcode, (unsigned)reg, false, rm);
}

static inline void emit_ext(struct emit *e, unsigned size, unsigned opcode, unsigned digit, struct rm rm)
{
	emit_op(e, size, opcode, digit, true, rm);
}

/* Immediates of arithmetic: as wide as the operation, at most 32 bits. */
void emit_imm(struct emit *e, unsigned size, u64 imm);

/* ---- by name ---- */
#define OPC_MOV_STORE 0x89u
#define OPC_MOV_LOAD 0x8bu
#define OPC_LEA (0x8du | OPC_SAME)
enum alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
#define OPC_ALU_STORE(n) ((unsigned)(n)*8 + 1)
#define OPC_ALU_LOAD(n) ((unsigned)(n)*8 + 3)
#define OPC_ALU_IMM 0x81u

static inline void emit_load(struct emit *e, unsigned size, enum host_reg to, struct rm from)
{
	emit_rm(e, size, OPC_MOV_LOAD, to, from);
}

static inline void emit_store(struct emit *e, unsigned size, struct rm to, enum host_reg from)
{
	emit_rm(e, size, OPC_MOV_STORE, from, to);
}

static inline void emit_mov(struct emit *e, enum host_reg to, enum host_reg from)
{
	emit_store(e, SZ_64, rm_reg(to), from);
}

static inline void emit_lea(struct emit *e, unsigned size, enum host_reg to, struct rm address)
{
	emit_rm(e, size, OPC_LEA, to, address);
}

static inline void emit_alu_imm(struct emit *e, unsigned size, enum alu op, struct rm to, u64 imm)
{
	emit_ext(e, size, OPC_ALU_IMM, op, to);
	emit_imm(e, size, imm);
}

/* ZF: the register is 0. */
static inline void emit_test_reg(struct emit *e, unsigned size, enum host_reg r)
{
	emit_rm(e, size, 0x85, r, rm_reg(r));
}

/* The shortest way to a 64-bit constant; leaves flags alone. */
void emit_const(struct emit *e, enum host_reg to, u64 v);

/* ---- jumps ---- */
enum cond { COND_B = 2, COND_NB = 3, COND_Z = 4, COND_NZ = 5, COND_BE = 6, COND_NBE = 7 };

/* They return the place of the 32-bit displacement, for emit_here() or emit_target(). */
u8 *emit_jmp(struct emit *e);
u8 *emit_jcc(struct emit *e, unsigned cond);
u8 *emit_call(struct emit *e);

static inline void emit_target(u8 *at, const u8 *target)
{
	s32 d = (s32)(target - (at + 4));

	__builtin_memcpy(at, &d, 4);
}

static inline void emit_here(const struct emit *e, u8 *at)
{
	emit_target(at, e->at);
}

#endif
