// SPDX-License-Identifier: MIT
/*
 * Status flags. Most are never read: before a block is translated for good, it is known what each of its instructions
 * does with them (struct flag_fact), and from that what becomes of the flags behind each (enum flag_fate). Flags that
 * only a fault could show are not even saved, if the slow path can compute them again: the recipe is the instruction
 * that made them, whose operands are still there.
 */
#include "jit/translate.h"

/* ---- where they are ---- */
/* LAHF and SETO go through RAX, and change no flag themselves. */
static void save(struct trans *t)
{
	struct emit *e = &t->e;

	emit_mov(e, H_TMP, H_RAX);
	emit8(e, 0x9f);                                                /* lahf */
	emit_ext(e, SZ_8, OPC_0F | OPC_BYTE | 0x90, 0, rm_reg(H_RAX)); /* seto al */
	emit_store(e, SZ_16, CPU_FIELD(jit.flags), H_RAX);
	emit_mov(e, H_RAX, H_TMP);
}

void flags_save(struct trans *t)
{
	if (t->flags != FLAGS_LIVE)
		return;
	if (t->recipe) {
		t->flags = FLAGS_RECIPE;
		return;
	}
	save(t);
	t->flags = FLAGS_BOTH;
}

void flags_clobber(struct trans *t)
{
	flags_save(t);
	if (t->flags == FLAGS_BOTH)
		t->flags = FLAGS_SAVED;
}

/* Adding 0x7f to AL makes an overflow of OF. */
void flags_live(struct trans *t)
{
	struct emit *e = &t->e;

	if (t->flags != FLAGS_SAVED)
		return;
	emit_mov(e, H_TMP, H_RAX);
	emit_rm(e, SZ_32, OPC_0F | OPC_SAME | 0xb7, H_RAX, CPU_FIELD(jit.flags)); /* movzx */
	emit8(e, 0x04);                                                           /* add al, imm8 */
	emit8(e, 0x7f);
	emit8(e, 0x9e); /* sahf */
	emit_mov(e, H_RAX, H_TMP);
	t->flags = FLAGS_BOTH;
}

void flags_handled(struct trans *t)
{
	t->flags = FLAGS_SAVED;
	t->recipe = NULL;
}

/* ---- what an instruction does with them ---- */
static const struct flag_fact *fact_of(const struct trans *t)
{
	return &t->fact[t->n];
}

void flags_before(struct trans *t, enum flag_use use)
{
	if (use == USE_NOT || use == USE_SET)
		return;
	t->fact[t->n].use = use;
	/* What it keeps of the old ones is not needed, if nobody looks at what it makes. */
	if (use != USE_MERGE || fact_of(t)->fate != FATE_DEAD)
		flags_live(t);
}

void flags_after(struct trans *t, enum flag_use use)
{
	const struct flag_fact *f = fact_of(t);

	if (use == USE_NOT || use == USE_READ)
		return;
	t->fact[t->n].use = use;
	t->flags = f->fate == FATE_DEAD ? FLAGS_DEAD : FLAGS_LIVE;
	t->recipe = f->recipe ? &t->b->insn[t->n] : NULL;
}

/* ---- recipes ---- */
static bool is_logic(unsigned op)
{
	return op == OP_and || op == OP_or || op == OP_xor;
}

/* Can the flags that i makes be computed from its operands as they are afterwards? */
static bool has_recipe(const struct insn *i)
{
	bool two = i->form == FORM_RR || i->form == FORM_RI;

	switch (i->op) {
	case OP_and:
	case OP_or:
	case OP_xor:
		return two || i->form == FORM_RM;
	case OP_add:
	case OP_sub:
		return i->form == FORM_RI || (i->form == FORM_RR && i->src / 8 != i->dst / 8);
	case OP_cmp:
	case OP_test:
		return two;
	default:
		return false;
	}
}

static void with_source(struct trans *t, const struct insn *i, unsigned opcode, unsigned digit)
{
	struct rm d = rm_reg(H_TMP);

	if (i->form == FORM_RR) {
		emit_rm(&t->e, i->size, opcode, source(t, i->src, H_TMP2), d);
		return;
	}
	emit_ext(&t->e, i->size, i->op == OP_test ? 0xf7 : OPC_ALU_IMM, digit, d);
	emit_imm(&t->e, i->size, i->imm);
}

static void alu_with_source(struct trans *t, const struct insn *i, enum alu op)
{
	with_source(t, i, OPC_ALU_STORE(op), op);
}

/* On a copy of the destination: an addition is taken back and made again. */
void flags_cook(struct trans *t, const struct insn *i)
{
	enum host_reg d = source(t, i->dst, H_TMP);

	if (d != H_TMP)
		emit_mov(&t->e, H_TMP, d);
	switch (i->op) {
	case OP_add:
		alu_with_source(t, i, ALU_SUB);
		alu_with_source(t, i, ALU_ADD);
		break;
	case OP_sub:
		alu_with_source(t, i, ALU_ADD);
		alu_with_source(t, i, ALU_SUB);
		break;
	case OP_cmp:
		alu_with_source(t, i, ALU_CMP);
		break;
	case OP_test:
		with_source(t, i, 0x85, 0);
		break;
	default:
		emit_test_reg(&t->e, i->size, H_TMP);
	}
	save(t);
}

/* May i change a register that a recipe needs? Only of instructions that leave flags alone. */
static bool writes(const struct insn *i, unsigned off)
{
	switch (i->op) {
	case OP_nop:
		return false;
	case OP_push:
	case OP_push_imm:
		return off / 8 == RSP;
	case OP_mov:
		if (i->form == FORM_MR || i->form == FORM_MI)
			return false;
		/* fall through */
	case OP_movzx:
	case OP_movsx:
	case OP_movsxd:
	case OP_lea:
		return i->dst / 8 == off / 8;
	default:
		return true;
	}
}

/* Do the flags behind instruction n stay computable until others take their place, wherever they might be shown? */
static bool recipe_keeps(const struct trans *t, unsigned n)
{
	const struct insn *i = &t->b->insn[n];
	bool kept = true;

	for (unsigned k = n + 1; k < t->b->n; k++) {
		const struct flag_fact *f = &t->fact[k];
		const struct insn *next = &t->b->insn[k];

		if (f->leaves && !kept)
			return false;
		if (f->use == USE_SET || f->use == USE_MERGE)
			return true;
		kept &= !writes(next, i->dst) && (i->form != FORM_RR || is_logic(i->op) || !writes(next, i->src));
	}
	return false;
}

/* What becomes of the flags before an instruction, given what becomes of those behind it. */
static enum flag_fate fate_before(const struct flag_fact *f)
{
	enum flag_fate shown = f->leaves ? FATE_SHOWN : FATE_DEAD;

	if (!f->rule || f->use == USE_READ || f->use == USE_CHANGE)
		return FATE_NEEDED;
	if (f->use == USE_SET || (f->use == USE_MERGE && f->fate == FATE_DEAD))
		return shown;
	if (f->use == USE_MERGE)
		return FATE_NEEDED;
	return f->fate < shown ? f->fate : shown;
}

bool flags_judge(struct trans *t)
{
	enum flag_fate fate = FATE_NEEDED; /* in the blocks that follow */
	bool better = false;

	for (unsigned n = t->b->n; n-- > 0;) {
		struct flag_fact *f = &t->fact[n];

		f->fate = fate;
		f->recipe = fate == FATE_SHOWN && (f->use == USE_SET || f->use == USE_MERGE) &&
			    has_recipe(&t->b->insn[n]) && recipe_keeps(t, n);
		better |= fate != FATE_NEEDED;
		fate = fate_before(f);
	}
	return better;
}
