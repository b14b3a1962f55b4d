// SPDX-License-Identifier: MIT
/* A whole case: where its code lies, what it begins with, and what follows its instructions. */
#include <cpuid.h>
#include <string.h>

#include "cpu/cpu.h"
#include "gen.h"

#define JUMP_LEN 14
#define CODE_SIZE (CODE_PAGES * 4096)

static u8 clean[MEM_SIZE];

static bool is_amd(void)
{
	unsigned max, b = 0, c = 0, d = 0;

	__get_cpuid(0, &max, &b, &c, &d);
	return b == signature_AMD_ebx || b == 0x6f677948; /* "Hygo" */
}

/*
 * What is not the same on all CPUs, and the engine has as AMD's do: #AC of operands wider than 8 bytes, how much of a
 * masked store or of FXSAVE's area has to be there. On others it is not tried.
 */
void gen_init(struct gen *g, u8 *image, const u8 *usable)
{
	struct rng r = { 0x1234 };

	for (unsigned n = 0; n < MEM_SIZE; n += 64)
		corner_vector(&r, clean + n, 64);
	memcpy(image, clean, MEM_SIZE);
	g->image = image;
	g->usable = usable;
	g->careful = !is_amd();
	g->nr_patched = 0;
}

void gen_undo(struct gen *g)
{
	for (u32 n = 0; n < g->nr_patched; n++)
		memcpy(g->image + g->patched[n][0], clean + g->patched[n][0], g->patched[n][1]);
	g->nr_patched = 0;
}

/* jmp to where a case ends, from this offset in its code */
static void put_jump(struct test_case *t, unsigned off, u32 exit)
{
	u32 rel = EXIT_BASE + exit * EXIT_SPACING - (CODE_BASE + t->code_at + off + 5);
	u8 *code = t->code + off, *twin = t->twin + off;

	*twin = 0xe9;
	memcpy(twin + 1, &rel, 4);
	if (t->width == WIDTH_16) {
		*code++ = 0x66;
		rel--;
	}
	*code = 0xe9;
	memcpy(code + 1, &rel, 4);
}

/* ---- state ---- */

static u64 random_flags(struct rng *r, bool careful)
{
	u64 fl = (rnd(r) & FL_STATUS) | FL_1 | FL_IF;

	if (chance(r, 20))
		fl |= FL_DF;
	if (chance(r, 3) && !careful)
		fl |= FL_AC;
	if (chance(r, 3))
		fl |= FL_TF;
	if (chance(r, 10))
		fl |= FL_ID;
	return fl;
}

static u64 random_stack(struct rng *r)
{
	u32 middle = STACK_BASE + 0x2000, off = below(r, 0x1000);

	switch (below(r, 20)) {
	case 0:
		return STACK_BASE + 0x1000 + below(r, 24);
	case 1:
		return STACK_BASE + 0x3000 - below(r, 24);
	case 2:
		return middle - 0x800 + off; /* not aligned */
	case 3:
		return chance(r, 50) ? corner_int(r) : 0x7ffffffffff8u + below(r, 24);
	default:
		return middle - 0x800 + (off & ~7u);
	}
}

static void random_state(struct gen *g, struct test_case *t)
{
	for (unsigned n = 0; n < 16; n++)
		t->in.gpr[n] = corner_int(&g->rng);
	t->in.gpr[RSP] = random_stack(&g->rng);
	t->in.rflags = random_flags(&g->rng, g->careful);
	corner_fpu(&g->rng, t->in.xsave);
}

/* ---- code ---- */

static bool branches(const struct row_info *row)
{
	return row->flags & F_END;
}

static bool legal_elsewhere(const u8 *bytes, unsigned n)
{
	struct insn i;

	/* Other prefixes may have made it another operation, one that cannot be asked about. */
	return insn_decode(bytes, n, DECODE_64, &i) < 0 || !op_reason(i.op);
}

/* The instruction in narrow code, and its twin; false if they are not the same to the decoder, or too long. */
static bool append_narrow(struct gen *g, struct test_case *t, const struct enc *e)
{
	u8 twin[16];
	unsigned n = narrow_twin(e, twin);
	struct insn a, b;
	int narrow = insn_decode(e->out, e->len, g->width == WIDTH_32 ? DECODE_32 : DECODE_16, &a);
	int wide = insn_decode(twin, n, DECODE_64, &b);

	if (!n || e->len > 15 || (narrow < 0) != (wide < 0) || (narrow >= 0 && (a.op != b.op || op_reason(a.op))))
		return false;
	t->insn_len = e->len;
	t->twin_ahead = (s8)(n - e->len);
	memcpy(t->code + t->insn_off, e->out, e->len);
	memcpy(t->twin + t->insn_off + e->len - n, twin, n);
	narrow_registers(g, e);
	return t->twin_ahead < JUMP_LEN - 5;
}

static bool append(struct gen *g, struct test_case *t, const struct row_info *row, u64 branch_target)
{
	u64 rip = CODE_BASE + t->code_at + t->insn_off + t->insn_len;
	struct enc e;

	if (!encode(g, &e, row, rip))
		return false;
	setup_operands(g, &e, rip, branch_target);
	if (g->width != WIDTH_64)
		return e.len && append_narrow(g, t, &e);
	if (!e.len || !legal_elsewhere(e.out, e.len))
		return false;
	memcpy(t->code + t->insn_off + t->insn_len, e.out, e.len);
	t->insn_len += e.len;
	return true;
}

/*
 * Operations that need registers or state to be as they were set up: images with the x87's pointers, which are not
 * always there (see corner_x87()); masked stores; branches to where a register says, which could be a loop.
 */
static bool alone(const struct row_info *row)
{
	switch (row->op) {
	case OP_fxsave: case OP_xsave: case OP_xsaveopt: case OP_xsavec: case OP_maskmovq: case OP_maskmovdqu:
	case OP_call_rm: case OP_jmp_rm: case OP_ret: case OP_xrstor:
		return true;
	default:
		return false;
	}
}

static bool iterates(const struct row_info *row)
{
	return row->op == OP_movs || row->op == OP_cmps || row->op == OP_stos || row->op == OP_lods ||
	       row->op == OP_scas;
}

/* The same bytes again for every answer, if a device is among what it stores to. */
static bool stores_in_pieces(const struct row_info *row)
{
	switch (row->op) {
	case OP_enter: case OP_fnstenv: case OP_fnsave: case OP_fxsave: case OP_xsave: case OP_xsaveopt: case OP_xsavec:
	case OP_maskmovq: case OP_maskmovdqu: case OP_vmaskmovdqu:
	case OP_vmaskmovps: case OP_vmaskmovpd: case OP_vpmaskmovd: case OP_vpmaskmovq:
		return true;
	default:
		return false;
	}
}

/* Rows that a sequence may have in front of its last one. */
static const struct row_info *random_row(struct gen *g)
{
	for (;;) {
		u32 n = below(&g->rng, nr_rows);

		if (g->usable[n] && !(row_table[n].flags & F_N64) && !branches(&row_table[n]) && !alone(&row_table[n]))
			return &row_table[n];
	}
}

/* What is invalid before its end: CPUs differ in whether they fetch the rest. */
static bool fetched_whole(const struct row_info *row)
{
	return row->map < MAP_V0F && row->op != OP_ud0 && row->op != OP_ud1;
}

/* Where the first instruction lies: anywhere in a page, or so that it crosses into the next one or into nothing. */
static u32 choose_place(struct gen *g, bool may_cut)
{
	u32 page = below(&g->rng, CODE_PAGES - 1) * 4096;

	switch (below(&g->rng, 16)) {
	case 0:
	case 1:
		return page + 4096 - below(&g->rng, 12);
	case 2:
		if (!may_cut)
			return page + 64;
		return CODE_SIZE - 1 - below(&g->rng, 40);
	default:
		return page + 64 + below(&g->rng, 3700);
	}
}

/* Not known before the branch itself is encoded: its target is behind or before what ends the case otherwise. */
static u64 branch_target(struct gen *g, struct test_case *t)
{
	u32 place = CODE_BASE + t->code_at;

	return chance(&g->rng, 50) ? place : place + 64 + JUMP_LEN;
}

static enum width choose_width(struct gen *g, const struct row_info *row)
{
	enum width narrow = chance(&g->rng, 60) ? WIDTH_32 : WIDTH_16;

	if (row->flags & F_N64)
		return narrow;
	return chance(&g->rng, 60) || narrow_reason(row, narrow) ? WIDTH_64 : narrow;
}

bool gen_case(struct gen *g, struct test_case *t, u32 row, u64 seed)
{
	unsigned before = 0;
	u32 place;
	u64 target;

	g->rng.s = seed;
	g->t = t;
	memset(t, 0, offsetof(struct test_case, in));
	t->seed = seed;
	t->row = row;
	t->width = g->width = choose_width(g, &row_table[row]);
	if (g->width != WIDTH_64) /* the translator wants a flat segment */
		t->cs_base = g->width == WIDTH_32 && chance(&g->rng, 50) ? 0 : CODE_BASE;
	else if (chance(&g->rng, 15) && !alone(&row_table[row]))
		before = 1 + below(&g->rng, 3);
	g->sequence = before;
	t->at_once = !before && !iterates(&row_table[row]);
	t->branches = branches(&row_table[row]);
	t->in_pieces = stores_in_pieces(&row_table[row]);
	place = choose_place(g, !before && g->width == WIDTH_64 && fetched_whole(&row_table[row]));
	t->code_at = place - JUMP_LEN;
	t->insn_off = JUMP_LEN;
	memset(t->code, 0xcc, sizeof(t->code));
	memset(t->twin, 0xcc, sizeof(t->twin));
	random_state(g, t);
	target = branch_target(g, t);
	while (before--)
		append(g, t, random_row(g), target);
	if (!append(g, t, &row_table[row], target))
		return false;
	put_jump(t, 0, 2);
	put_jump(t, t->insn_off + t->insn_len, 0);
	if (t->insn_off + t->insn_len + JUMP_LEN <= 64 + JUMP_LEN)
		put_jump(t, 64 + JUMP_LEN, 1);
	t->code_len = 64 + 2 * JUMP_LEN;
	if (t->code_at + t->code_len > CODE_SIZE)
		t->code_len = CODE_SIZE - t->code_at;
	t->in.rip = CODE_BASE + place;
	return true;
}
