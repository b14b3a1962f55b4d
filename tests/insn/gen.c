// SPDX-License-Identifier: MIT
/* The encoder: prefixes, opcode, ModRM and immediates as a row of the table asks for, the rest at random. */
#include "gen.h"

#include <string.h>

#include "cpu/cpu.h"

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

/* ---- what the row says ---- */

bool is_vex(const struct row_info *row)
{
	return row->map >= MAP_V0F;
}

int mandatory_prefix(const struct row_info *row)
{
	if (!strcmp(row->prefix, "66"))
		return 1;
	if (!strcmp(row->prefix, "F3"))
		return 2;
	if (!strcmp(row->prefix, "F2"))
		return 3;
	return strcmp(row->prefix, "_") ? 0 : -1;
}

unsigned find_operand(const struct row_info *row, unsigned first, unsigned last)
{
	for (unsigned n = 0; n < 4; n++) {
		unsigned kind = OPERAND_KIND(row->operand[n]);

		if (kind >= first && kind <= last)
			return row->operand[n];
	}
	return NONE;
}

static bool has_modrm(const struct row_info *row)
{
	return strcmp(row->modrm, "_") || find_operand(row, REG_GPR, RM_VSIB);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* ---- prefixes ---- */

static void choose_size(struct gen *g, struct enc *e)
{
	const struct row_info *row = e->row;
	int pp = mandatory_prefix(row);
	bool free66 = pp == -1 || (pp >= 2 && chance(&g->rng, 5)) || !strcmp(row->prefix, "NF");

	if (is_vex(row))
		return;
	/* AMD's CPUs take 16-bit targets of near branches then, Intel's and the engine do not. */
	if (free66 && !(row->flags & F_F64) && row->op != OP_movsxd) /* which reads 2 or 4 bytes then */
		e->op66 = chance(&g->rng, 25);
	if (pp == 1)
		e->op66 = true;
	if (g->width != WIDTH_64)
		return;
	if (chance(&g->rng, 35)) {
		e->has_rex = true;
		e->rex |= REX_W;
	}
	if (chance(&g->rng, 10))
		e->has_rex = true;
	if (row->flags & F_W1)
		e->rex |= REX_W;
	if (row->flags & F_W0)
		e->rex &= ~REX_W;
	if (e->rex)
		e->has_rex = true;
}

static void choose_opsize(struct gen *g, struct enc *e)
{
	if (g->width != WIDTH_64)
		e->opsize = e->op66 == (g->width == WIDTH_16) ? SZ_32 : SZ_16;
	else if (e->rex & REX_W || e->row->flags & F_F64)
		e->opsize = SZ_64;
	else if (e->op66)
		e->opsize = SZ_16;
	else
		e->opsize = e->row->flags & F_D64 ? SZ_64 : SZ_32;
}

static void choose_rep(struct gen *g, struct enc *e)
{
	int pp = mandatory_prefix(e->row);
	bool string = find_operand(e->row, STRING, STRING);

	if (pp >= 2)
		e->rep = pp == 2 ? 0xf3 : 0xf2;
	else if (pp == -1 && !(e->row->flags & F_F64) && chance(&g->rng, string ? 60 : 3)) /* LOOPE: CPUs differ */
		e->rep = chance(&g->rng, 50) ? 0xf3 : 0xf2;
}

/* AMD's CPUs reach CR8 by LOCK MOV CR0; and some let VERW, which has become a flush of buffers, have a LOCK. */
static bool lock_is_invalid(const struct row_info *row)
{
	return row->op != OP_verw && row->op != OP_mov_to_cr && row->op != OP_mov_from_cr;
}

static void choose_prefixes(struct gen *g, struct enc *e)
{
	struct rng *r = &g->rng;

	choose_size(g, e);
	if (!is_vex(e->row))
		choose_rep(g, e);
	e->addr16 = g->width == WIDTH_16 ? chance(r, 70) : g->width == WIDTH_32 && chance(r, 10);
	e->addr67 = g->width == WIDTH_64 ? chance(r, 8) : e->addr16 != (g->width == WIDTH_16);
	if (chance(r, 10))
		e->seg = chance(r, 50) ? SEG_FS : SEG_GS;
	if (e->row->flags & F_LOCK ? chance(r, 30) : lock_is_invalid(e->row) && chance(r, 1))
		e->lock = true;
	if (is_vex(e->row)) {
		e->lock = chance(r, 1);
		e->rex = g->width == WIDTH_64 ? (u8)(rnd(r) & REX_W) : 0;
		/* AMD's CPUs do not look at W in these. */
		bool any_w = e->row->op == OP_vpermq || e->row->op == OP_vpermpd;

		if (e->row->flags & (F_W0 | F_W1) && (any_w || g->width != WIDTH_64 || chance(r, 97)))
			e->rex = e->row->flags & F_W1 ? REX_W : 0;
		e->l = chance(r, 50);
		if (e->row->flags & (F_L0 | F_L1) && chance(r, 97))
			e->l = !!(e->row->flags & F_L1);
	}
	choose_opsize(g, e);
	g->t->data_base = e->addr16 ? DATA_BASE : 0;
}

/* In random order; now and then one more of them, which changes nothing, or a segment that 64-bit mode ignores. */
static void emit_prefixes(struct gen *g, struct enc *e)
{
	static const u8 ignored[] = { 0x26, 0x2e, 0x36, 0x3e };
	u8 list[8], n = 0;

	if (e->op66)
		list[n++] = 0x66;
	if (e->addr67)
		list[n++] = 0x67;
	if (e->lock)
		list[n++] = 0xf0;
	if (e->seg)
		list[n++] = e->seg == SEG_FS ? 0x64 : 0x65;
	if (chance(&g->rng, 5) && (g->width == WIDTH_64 || !e->seg)) /* ES, SS and DS are alike in narrow code */
		list[n++] = ignored[g->width == WIDTH_64 ? below(&g->rng, 4) : 2 * below(&g->rng, 2)];
	if (n && chance(&g->rng, 5)) {
		list[n] = list[below(&g->rng, n)];
		n++;
	}
	for (unsigned k = n; k > 1; k--) {
		unsigned other = below(&g->rng, k);
		u8 swap = list[k - 1];

		list[k - 1] = list[other];
		list[other] = swap;
	}
	for (unsigned k = 0; k < n; k++)
		e->out[e->len++] = list[k];
	if (e->rep)
		e->out[e->len++] = e->rep;
	/* A REX prefix that is not the last one is ignored. */
	if (!is_vex(e->row) && g->width == WIDTH_64 && chance(&g->rng, 1))
		e->out[e->len++] = 0x4f, e->out[e->len++] = 0x3e;
}

/* ---- operand widths ---- */

static unsigned width_bytes(const struct enc *e, unsigned width)
{
	unsigned v = 1u << e->opsize;

	switch (width) {
	case WIDTH_B:
		return 1;
	case WIDTH_W:
		return 2;
	case WIDTH_D:
		return 4;
	case WIDTH_Q:
	case WIDTH_M:
	case WIDTH_S:
		return 8;
	case WIDTH_DQ:
		return 16;
	case WIDTH_QQ:
		return 32;
	case WIDTH_T:
		return 10;
	case WIDTH_Z:
		return v > 4 ? 4 : v;
	case WIDTH_Y:
		return e->rex & REX_W ? 8 : 4;
	case WIDTH_X:
		return 16u << e->l;
	case WIDTH_H:
		return 8u << e->l;
	case WIDTH_F:
		return 4u << e->l;
	case WIDTH_E:
		return 2u << e->l;
	default:
		return v;
	}
}

static unsigned memory_bytes(const struct enc *e)
{
	unsigned rm = find_operand(e->row, RM_GPR, RM_VSIB);

	switch (e->row->op) {
	case OP_fxsave:
	case OP_fxrstor:
		return 512;
	case OP_xsave:
	case OP_xsaveopt:
	case OP_xsavec:
	case OP_xrstor:
		return 832;
	case OP_fldenv:
	case OP_fnstenv:
		return 28;
	case OP_fnsave:
	case OP_frstor:
		return 108;
	case OP_jmp_far_m:
	case OP_call_far_m:
	case OP_lss:
	case OP_lfs:
	case OP_lgs:
	case OP_lgdt:
	case OP_lidt:
		return 10;
	default:
		return width_bytes(e, MEM_WIDTH(rm));
	}
}

/* ---- memory operands ---- */

u64 segment_base(const struct gen *g, const struct enc *e)
{
	return e->seg == SEG_FS ? FS_BASE : e->seg == SEG_GS ? GS_BASE : g->t->data_base;
}

/* Without registers: relative to RIP, or absolute. */
static void memory_direct(struct gen *g, struct enc *e)
{
	e->disp_size = 4;
	if (chance(&g->rng, 60)) { /* absolute in narrow code */
		e->rip_relative = g->width == WIDTH_64;
		e->disp = (s32)(e->target - segment_base(g, e));
		e->modrm |= 5;
		return;
	}
	e->modrm |= 4;
	e->has_sib = true;
	e->sib = 0x25;
	e->disp = (s32)(e->target - segment_base(g, e));
}

static void choose_disp(struct gen *g, struct enc *e)
{
	switch (below(&g->rng, 3)) {
	case 1:
		e->disp_size = 1;
		e->disp = (s8)corner_int(&g->rng);
		e->modrm |= 0x40;
		break;
	case 2:
		e->disp_size = 4;
		e->disp = (s32)corner_int(&g->rng);
		e->modrm |= 0x80;
		break;
	}
}

static void set_base(struct gen *g, struct enc *e, u64 index_part)
{
	u64 v = e->target - segment_base(g, e) - (s64)e->disp - index_part;

	/* With 32-bit addresses the upper half does not count; more, it is often not there. */
	if (e->addr67 && g->width == WIDTH_64)
		v = (u32)v | (chance(&g->rng, 30) ? rnd(&g->rng) << 32 : 0);
	g->t->in.gpr[e->base] = v;
}

static void memory_sib(struct gen *g, struct enc *e, bool vsib)
{
	unsigned scale = below(&g->rng, 4);
	u64 index_part = 0;

	e->has_sib = true;
	e->modrm |= 4;
	if (vsib) {
		e->vindex = any_reg(g);
		e->sib = (u8)(scale << 6 | (e->vindex & 7) << 3);
		e->rex |= e->vindex & 8 ? REX_X : 0;
	} else if (chance(&g->rng, 70)) {
		do
			e->index = any_reg(g);
		while (e->index == RSP || e->index == e->base);
		g->t->in.gpr[e->index] = corner_int(&g->rng);
		index_part = g->t->in.gpr[e->index] << scale;
		e->sib = (u8)(scale << 6 | (e->index & 7) << 3);
		e->rex |= e->index & 8 ? REX_X : 0;
	} else {
		e->sib = (u8)(scale << 6 | 4 << 3);
	}
	e->sib |= e->base & 7;
	set_base(g, e, index_part);
}

static void memory_based(struct gen *g, struct enc *e, bool vsib)
{
	e->base = any_reg(g);
	choose_disp(g, e);
	if ((e->base & 7) == 5 && !e->disp_size) {
		e->disp_size = 1;
		e->modrm |= 0x40;
	}
	e->rex |= e->base & 8 ? REX_B : 0;
	if (vsib || (e->base & 7) == 4 || chance(&g->rng, 40)) {
		memory_sib(g, e, vsib);
		return;
	}
	e->modrm |= e->base & 7;
	set_base(g, e, 0);
}

static void choose_memory(struct gen *g, struct enc *e)
{
	bool vsib = find_operand(e->row, RM_VSIB, RM_VSIB);

	e->mem = true;
	e->bytes = memory_bytes(e);
	e->target = pick_address(g, e->bytes);
	e->rip_relative = false;
	if (g->width != WIDTH_64)
		e->target = narrow_address(g, e, e->target);
	if (e->addr16)
		narrow_memory16(g, e);
	else if (!vsib && (g->sequence ? chance(&g->rng, 85) : chance(&g->rng, 25)))
		memory_direct(g, e);
	else
		memory_based(g, e, vsib);
}

/* ---- ModRM ---- */

static bool wants_memory(struct gen *g, const struct row_info *row)
{
	unsigned rm = find_operand(row, RM_GPR, RM_VSIB);
	char c = row->modrm[0];

	/* 0F 01 with a register may be AMD's virtualization, which the host may have. */
	if (c == 'M')
		return (row->map == MAP_0F && row->opcode == 1) || chance(&g->rng, 99);
	if (c == 'R' || OPERAND_KIND(rm) == RM_ALWAYS_GPR)
		return false;
	/* AMD's prefetches have no register form, Intel's are no-operations then, as in the engine. */
	if (row->map == MAP_0F && row->opcode == 0x0d)
		return true;
	return rm && OPERAND_KIND(rm) != RM_ST ? chance(&g->rng, 55) : false;
}

static void choose_reg_field(struct gen *g, struct enc *e)
{
	const char *m = e->row->modrm;
	unsigned reg = any_reg(g);

	if (*m == 'M' || *m == 'R')
		m++;
	if (*m >= '0' && *m <= '7')
		reg = (unsigned)(*m - '0') | (reg & (chance(&g->rng, 10) ? 8 : 0));
	else if (find_operand(e->row, REG_SEG, REG_SEG) && chance(&g->rng, 95))
		reg = below(&g->rng, 6);
	e->modrm |= (reg & 7) << 3;
	e->rex |= reg & 8 ? REX_R : 0;
}

static void choose_modrm(struct gen *g, struct enc *e)
{
	const char *m = e->row->modrm;
	unsigned rm;

	e->has_modrm = true;
	if (*m == 'x') {
		e->modrm = (u8)(hex_digit(m[1]) << 4 | hex_digit(m[2]));
		return;
	}
	choose_reg_field(g, e);
	if (wants_memory(g, e->row)) {
		choose_memory(g, e);
		return;
	}
	rm = any_reg(g);
	e->modrm |= 0xc0 | (rm & 7);
	e->rex |= rm & 8 ? REX_B : 0;
}

/* ---- immediates ---- */

static void emit_imm(struct enc *e, u64 v, unsigned bytes)
{
	memcpy(e->imm + e->imm_len, &v, bytes);
	e->imm_len += bytes;
}

static void choose_imm(struct gen *g, struct enc *e, unsigned operand)
{
	unsigned z = e->opsize == SZ_16 ? 2 : 4;
	u64 v = corner_int(&g->rng);

	switch (OPERAND_KIND(operand)) {
	case IMM_U8:
		/* Not a system call, nor a vector that a hypervisor below the host may use for itself. */
		if (e->row->op == OP_int && (v & 0xff) != 3 && (v & 0xff) != 4)
			v = (v & 0xff) == 0x80 ? 0x81 : v | 0x20;
		emit_imm(e, v, 1);
		break;
	case IMM_VEC: /* bit 7 does not count in narrow code, but in its twin */
		emit_imm(e, g->width == WIDTH_64 ? v : v & 0x7f, 1);
		break;
	case IMM_S8:
		if (e->row->flags & F_F64)
			e->rel_at = (s8)e->imm_len;
		emit_imm(e, v, 1);
		break;
	case IMM_U16:
		emit_imm(e, v, 2);
		break;
	case IMM_Z:
		emit_imm(e, v, z);
		break;
	case IMM_JZ:
		e->rel_at = (s8)e->imm_len;
		emit_imm(e, v, z);
		break;
	case IMM_V:
		emit_imm(e, v, 1u << e->opsize);
		break;
	case IMM_FAR:
		emit_imm(e, v, z);
		emit_imm(e, v >> 32, 2);
		break;
	case MOFFS:
		e->bytes = width_bytes(e, OPERAND_WIDTH(operand));
		e->target = pick_address(g, e->bytes);
		if (g->width != WIDTH_64)
			e->target = narrow_address(g, e, e->target);
		emit_imm(e, e->target - segment_base(g, e), e->addr16 ? 2 : e->addr67 || g->width != WIDTH_64 ? 4 : 8);
		break;
	}
}

/* ---- bytes ---- */

static void emit_vex(struct gen *g, struct enc *e)
{
	int pp = mandatory_prefix(e->row);
	u8 map = (u8)(e->row->map - MAP_V0F + 1);
	u8 last = (u8)((~e->vvvv & 15) << 3 | e->l << 2 | (pp < 0 ? 0 : pp));

	if (map == 1 && !(e->rex & (REX_W | REX_X | REX_B)) && chance(&g->rng, 70)) {
		e->out[e->len++] = 0xc5;
		e->out[e->len++] = (u8)((e->rex & REX_R ? 0 : 0x80) | last);
	} else {
		e->out[e->len++] = 0xc4;
		e->out[e->len++] = (u8)((~e->rex & 7) << 5 | map);
		e->out[e->len++] = (u8)((e->rex & REX_W ? 0x80 : 0) | last);
	}
}

static void emit_opcode(struct gen *g, struct enc *e)
{
	bool eight = find_operand(e->row, OPC_GPR, OPC_GPR);
	u8 opcode = e->row->opcode;

	if (eight) {
		unsigned reg = any_reg(g);

		opcode |= reg & 7;
		if (reg & 8 && !(e->row->flags & F_B0))
			e->rex |= REX_B;
	}
	if (e->row->flags & F_B0)
		e->rex &= ~REX_B;
	if (is_vex(e->row)) {
		emit_vex(g, e);
	} else {
		if (e->rex || e->has_rex)
			e->out[e->len++] = 0x40 | e->rex;
		if (e->row->map >= MAP_0F)
			e->out[e->len++] = 0x0f;
		if (e->row->map >= MAP_0F38)
			e->out[e->len++] = e->row->map == MAP_0F38 ? 0x38 : 0x3a;
	}
	e->out[e->len++] = e->opcode = opcode;
}

static void choose_vvvv(struct gen *g, struct enc *e)
{
	e->vvvv = 0;
	if (find_operand(e->row, VEX_GPR, VEX_VEC) || chance(&g->rng, 1))
		e->vvvv = any_reg(g);
}

bool encode(struct gen *g, struct enc *e, const struct row_info *row, u64 rip)
{
	u8 disp_at;

	memset(e, 0, sizeof(*e));
	e->row = row;
	e->base = e->index = e->vindex = NO_REG;
	e->rel_at = -1;
	choose_prefixes(g, e);
	choose_vvvv(g, e);
	if (has_modrm(row))
		choose_modrm(g, e);
	for (unsigned n = 0; n < 4; n++)
		choose_imm(g, e, row->operand[n]);
	emit_prefixes(g, e);
	emit_opcode(g, e);
	if (e->has_modrm)
		e->out[e->len++] = e->modrm;
	if (e->has_sib)
		e->out[e->len++] = e->sib;
	disp_at = e->len;
	e->len += e->disp_size;
	memcpy(e->out + e->len, e->imm, e->imm_len);
	e->len += e->imm_len;
	if (e->rip_relative)
		e->disp = (s32)(e->target - segment_base(g, e) - (rip + e->len));
	memcpy(e->out + disp_at, &e->disp, e->disp_size);
	return e->len <= 16;
}
