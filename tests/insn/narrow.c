// SPDX-License-Identifier: MIT
/*
 * 16- and 32-bit code, whose oracle is 64-bit code: not every host lets a process have a narrower code segment, and on
 * all of them most instructions have a 64-bit twin, which does the same with other prefixes or another form of the
 * address. The engine runs the narrow instruction, in a segment of compatibility mode with a base; the bare CPU the
 * twin, which ends at the same place.
 *
 *   narrow code, 32-bit address    67 and the same bytes; an address without registers becomes one of SIB form
 *   narrow code, 16-bit address    the linear address as a displacement; the engine's segments have a base of 64 KiB
 *   operand size                   66 if it is 16 bits
 */
#include <string.h>

#include "cpu/cpu.h"
#include "gen.h"

#define TWIN_MAX 15
#define TOP 0xfff00000u /* addresses from here on: narrow code wraps around, its twin does not */

/* ---- rows ---- */

static bool names_gpr(const struct row_info *row)
{
	return find_operand(row, REG_GPR, REG_GPR) || find_operand(row, RM_GPR, RM_GPR) ||
	       find_operand(row, RM_ALWAYS_GPR, RM_ALWAYS_GPR);
}

static bool is_relative(const struct row_info *row)
{
	return find_operand(row, IMM_S8, IMM_S8) || find_operand(row, IMM_JZ, IMM_JZ);
}

static const char *op_narrow_reason(unsigned op)
{
	switch (op) {
	case OP_fxsave: case OP_fxrstor: case OP_xsave: case OP_xsaveopt: case OP_xsavec: case OP_xsaves:
	case OP_xrstor: case OP_xrstors: case OP_vzeroall: case OP_vzeroupper:
		return "has eight vector registers in narrow code";
	case OP_fnstenv: case OP_fnsave:
		return "saves pointers of another form";
	case OP_rdfsbase: case OP_rdgsbase: case OP_wrfsbase: case OP_wrgsbase: case OP_swapgs: case OP_movsxd:
	case OP_cmpxchg16b:
		return "not in narrow code";
	case OP_jmp_far_m: case OP_call_far_m: case OP_retf: case OP_iret: case OP_enter: case OP_leave:
		return "its stack or code segment is another in 64-bit mode";
	default:
		return NULL;
	}
}

/* Not in 64-bit mode, but other bytes do the same there: INC and DEC of one byte, and what 82 is an alias of. */
static bool has_other_twin(const struct row_info *row)
{
	return row->map == MAP_1 && (row->opcode == 0x82 || (row->opcode & 0xf0) == 0x40);
}

const char *narrow_reason(const struct row_info *row, enum width width)
{
	bool branch = row->flags & F_F64 && is_relative(row) && row->op != OP_call_rel;

	if (row->flags & F_O64 || (row->flags & F_W1 && (names_gpr(row) || !is_vex(row))))
		return "not in narrow code";
	if (row->flags & F_N64 && !has_other_twin(row))
		return "not in 64-bit mode";
	if (row->flags & (F_D64 | F_F64) && !branch)
		return "its stack or code segment is another in 64-bit mode";
	if (branch && width == WIDTH_16 && find_operand(row, IMM_JZ, IMM_JZ))
		return "has a 16-bit displacement";
	return op_narrow_reason(row->op);
}

/* Memory, or a count, without ModRM: of the address size. */
static bool implicit_address(const struct row_info *row)
{
	switch (row->op) {
	case OP_xlat: case OP_maskmovq: case OP_maskmovdqu: case OP_vmaskmovdqu: case OP_loop: case OP_loope:
	case OP_loopne: case OP_jcxz:
		return true;
	default:
		return find_operand(row, STRING, STRING) || find_operand(row, MOFFS, MOFFS);
	}
}

static bool is_bit_string(const struct row_info *row)
{
	return (row->op == OP_bt || row->op == OP_bts || row->op == OP_btr || row->op == OP_btc) && row->opcode != 0xba;
}

/* An address depends on more than the displacement of a twin can say. */
static bool needs_registers(const struct row_info *row)
{
	return row->op == OP_lea || is_bit_string(row) || find_operand(row, RM_VSIB, RM_VSIB);
}

/* ---- addresses ---- */

u64 narrow_address(struct gen *g, const struct enc *e, u64 target)
{
	u64 base = segment_base(g, e), end = e->addr16 ? base + 0xffff - e->bytes : TOP;
	u64 low = base < DATA_BASE + 0x1000 ? DATA_BASE + 0x1000 : base;

	if (target >= base && target < end && target - CODE_BASE >= CODE_PAGES * 4096) /* their code differs */
		return target;
	low += below(&g->rng, e->seg == SEG_GS ? 0xe00 : 0x1d00);
	return chance(&g->rng, 75) ? (low + 63) & ~63ull : low;
}

void narrow_memory16(struct gen *g, struct enc *e)
{
	static const u8 bases[8] = { RBX, RBX, RBP, RBP, NO_REG, NO_REG, RBP, RBX };
	static const u8 indexes[8] = { RSI, RDI, RSI, RDI, RSI, RDI, NO_REG, NO_REG };
	unsigned rm = below(&g->rng, 8);
	u64 *gpr = g->t->in.gpr;
	u16 ea = (u16)(e->target - segment_base(g, e));
	unsigned solved;

	e->disp_size = (u8)below(&g->rng, 3);
	e->modrm |= (u8)(rm | e->disp_size << 6);
	e->disp = e->disp_size == 2 ? (s16)rnd(&g->rng) : e->disp_size ? (s8)rnd(&g->rng) : 0;
	if (rm == 6 && !e->disp_size) {
		e->disp_size = 2;
		e->disp = ea;
		return;
	}
	e->base = bases[rm];
	e->index = indexes[rm];
	solved = e->base == NO_REG ? e->index : e->base;
	ea -= (u16)e->disp;
	if (e->base != NO_REG && e->index != NO_REG) {
		gpr[e->index] = corner_int(&g->rng);
		ea -= (u16)gpr[e->index];
	}
	gpr[solved] = (corner_int(&g->rng) & ~0xffffull) | ea;
}

/* ---- the twin ---- */

static bool twin_has_66(const struct enc *e)
{
	int pp = mandatory_prefix(e->row);

	if (is_vex(e->row) || e->row->flags & F_F64)
		return false;
	return pp == 1 || ((pp || !strcmp(e->row->prefix, "NF")) && e->opsize == SZ_16);
}

static unsigned put_twin_opcode(const struct enc *e, u8 *to)
{
	unsigned n = 0;

	if (is_vex(e->row)) {
		int pp = mandatory_prefix(e->row);

		to[n++] = 0xc4;
		to[n++] = (u8)(0xe0 | (e->row->map - MAP_V0F + 1));
		to[n++] = (u8)((e->rex ? 0x80 : 0) | (~e->vvvv & 15) << 3 | e->l << 2 | (pp < 0 ? 0 : pp));
	} else {
		if (e->row->map >= MAP_0F)
			to[n++] = 0x0f;
		if (e->row->map >= MAP_0F38)
			to[n++] = e->row->map == MAP_0F38 ? 0x38 : 0x3a;
	}
	if (e->row->map == MAP_1 && (e->row->opcode & 0xf0) == 0x40) {
		to[n++] = 0xff;
		to[n++] = 0xc0 | (e->opcode & 15);
	} else {
		to[n++] = e->row->map == MAP_1 && e->opcode == 0x82 ? 0x80 : e->opcode;
	}
	return n;
}

static unsigned put_twin_modrm(const struct enc *e, u8 *to)
{
	bool direct = e->mem && (e->addr16 || (e->modrm & 0xc7) == 5);
	s32 disp = e->addr16 ? (s32)e->target : e->disp;
	unsigned n = 0, size = direct ? 4 : e->disp_size;

	if (!e->has_modrm)
		return 0;
	to[n++] = direct ? (u8)((e->modrm & 0x38) | 4) : e->modrm;
	if (direct)
		to[n++] = 0x25;
	else if (e->has_sib)
		to[n++] = e->sib;
	memcpy(to + n, &disp, size);
	return n + size;
}

unsigned narrow_twin(const struct enc *e, u8 *to)
{
	u8 twin[40];
	unsigned n = 0;

	if (e->addr16 && (implicit_address(e->row) || (e->mem && needs_registers(e->row))))
		return 0;
	/* Far below the segment's base only narrow code wraps around. */
	if (e->mem && e->seg && (is_bit_string(e->row) || find_operand(e->row, RM_VSIB, RM_VSIB)))
		return 0;
	if (twin_has_66(e))
		twin[n++] = 0x66;
	if (!e->addr16)
		twin[n++] = 0x67;
	if (e->lock)
		twin[n++] = 0xf0;
	if (e->seg && !e->addr16)
		twin[n++] = e->seg == SEG_FS ? 0x64 : 0x65;
	if (e->rep)
		twin[n++] = e->rep;
	n += put_twin_opcode(e, twin + n);
	n += put_twin_modrm(e, twin + n);
	memcpy(twin + n, e->out + e->len - e->imm_len, e->imm_len); /* setup.c may have changed them there */
	n += e->imm_len;
	if (n > TWIN_MAX)
		return 0;
	memcpy(to, twin, n);
	return n;
}

void narrow_registers(struct gen *g, const struct enc *e)
{
	static const u8 pointers[] = { RSI, RDI, RBX };
	u64 *gpr = g->t->in.gpr;

	for (unsigned n = 0; n < 16; n++)
		gpr[n] = (u32)gpr[n];
	if (!implicit_address(e->row))
		return;
	for (unsigned n = 0; n < ARRAY_SIZE(pointers); n++)
		if (gpr[pointers[n]] + segment_base(g, e) >= TOP)
			gpr[pointers[n]] = DATA_BASE + 0x1400 - segment_base(g, e) + (e->seg == SEG_GS ? 0x4000 : 0);
	if (e->seg) /* going down would come below the base */
		g->t->in.rflags &= ~FL_DF;
}
