// SPDX-License-Identifier: MIT
#include "jit/emit.h"

/* SDM vol. 2, 2.1.5: base 4 wants a SIB byte, base 5 a displacement; in a SIB byte index 4 is none. */
void emit_modrm(struct emit *e, unsigned reg, const struct rm *rm)
{
	unsigned base = (unsigned)rm->base & 7, index = rm->index == H_NONE ? 4 : (unsigned)rm->index & 7;
	bool sib = rm->index != H_NONE || rm->base == H_NONE || base == 4;
	unsigned mod;

	reg = (reg & 7) << 3;
	if (!rm->mem) {
		emit8(e, 0xc0 | reg | base);
		return;
	}
	if (rm->base == H_NONE) {
		emit8(e, reg | 4);
		emit8(e, rm->scale << 6 | index << 3 | 5);
		emit32(e, (u32)rm->disp);
		return;
	}
	mod = !rm->disp && base != 5 ? 0 : rm->disp == (s8)rm->disp ? 1 : 2;
	emit8(e, mod << 6 | reg | (sib ? 4 : base));
	if (sib)
		emit8(e, rm->scale << 6 | index << 3 | base);
	if (mod == 1)
		emit8(e, (u8)rm->disp);
	else if (mod == 2)
		emit32(e, (u32)rm->disp);
}

static unsigned high_bit(int reg)
{
	return reg == H_NONE ? 0 : (unsigned)reg >> 3 & 1;
}

void emit_op(struct emit *e, unsigned size, unsigned opcode, unsigned reg, bool digit, struct rm rm)
{
	bool byte = size == SZ_8 && !(opcode & (OPC_BYTE | OPC_SAME));
	unsigned rex = (size == SZ_64) << 3 | high_bit(rm.base) | high_bit(rm.index) << 1;

	if (!digit)
		rex |= high_bit((int)reg) << 2;
	/* SPL, BPL, SIL, DIL need a prefix, or they would be AH, CH, DH, BH. */
	if (byte && !digit && reg >= 4)
		rex |= 0x40;
	if ((byte || opcode & OPC_BYTE) && !rm.mem && rm.base >= 4)
		rex |= 0x40;
	if (opcode & OPC_LOCK)
		emit8(e, 0xf0);
	if (size == SZ_16)
		emit8(e, 0x66);
	if (opcode & OPC_F3)
		emit8(e, 0xf3);
	if (rex)
		emit8(e, 0x40 | rex);
	if (opcode & OPC_0F)
		emit8(e, 0x0f);
	emit8(e, (opcode & 0xff) - byte);
	emit_modrm(e, reg, &rm);
}

void emit_imm(struct emit *e, unsigned size, u64 imm)
{
	switch (size) {
	case SZ_8:
		emit8(e, (u8)imm);
		break;
	case SZ_16:
		emit8(e, (u8)imm);
		emit8(e, (u8)(imm >> 8));
		break;
	default:
		emit32(e, (u32)imm);
	}
}

void emit_const(struct emit *e, enum host_reg to, u64 v)
{
	unsigned rex = high_bit(to);

	if (v == (u32)v) {
		if (rex)
			emit8(e, 0x40 | rex);
		emit8(e, 0xb8 | (to & 7));
		emit32(e, (u32)v);
	} else if (v == (u64)(s32)v) {
		emit_ext(e, SZ_64, 0xc7, 0, rm_reg(to));
		emit32(e, (u32)v);
	} else {
		emit8(e, 0x48 | rex);
		emit8(e, 0xb8 | (to & 7));
		emit64(e, v);
	}
}

static u8 *displacement(struct emit *e)
{
	e->at += 4;
	return e->at - 4;
}

u8 *emit_jmp(struct emit *e)
{
	emit8(e, 0xe9);
	return displacement(e);
}

u8 *emit_jcc(struct emit *e, unsigned cond)
{
	emit8(e, 0x0f);
	emit8(e, 0x80 | cond);
	return displacement(e);
}

u8 *emit_call(struct emit *e)
{
	emit8(e, 0xe8);
	return displacement(e);
}
