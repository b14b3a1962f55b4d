// SPDX-License-Identifier: MIT
/*
 * Accesses by the same base register: what a block does on the stack or to the fields of a structure. The first one
 * looks at the soft TLB for all of them, if they lie within a few bytes; the others only add what it has found
 * (cpu::jit.addend). Where that does not succeed, since the bytes are not all in one page or it is not in the soft TLB,
 * the rest of the block runs interpreted.
 */
#include "insn/feature.h"
#include "jit/translate.h"

#define GROUP_BYTES 256

void access_note(struct trans *t, unsigned base, s64 disp, unsigned bytes, enum mem_access how)
{
	struct access *a = &t->access[t->n];

	if (t->grouped)
		return;
	*a = (struct access){ .nr = (u8)(a->nr + 1),
			      .base = (u8)base,
			      .bytes = (u8)bytes,
			      .disp = (s32)disp,
			      .write = how == MEM_WRITE };
}

/* ---- what becomes of a register ---- */
enum change { CHANGE_NONE, CHANGE_BY, CHANGE_ANY };

static enum change if_register(bool same)
{
	return same ? CHANGE_ANY : CHANGE_NONE;
}

/* ADD and SUB of a constant, and LEA, move it by a constant. */
static enum change moved(const struct insn *i, unsigned base, s64 *by)
{
	if (i->dst != base)
		return if_register(i->dst / 8 == base / 8);
	if (i->op == OP_lea) {
		*by = i->disp;
		return i->base == base && i->index == R_ZERO * 8 && i->size == SZ_64 && i->asize == SZ_64 ? CHANGE_BY
													  : CHANGE_ANY;
	}
	*by = i->op == OP_add ? (s64)i->imm : -(s64)i->imm;
	return i->form == FORM_RI && i->size == SZ_64 ? CHANGE_BY : CHANGE_ANY;
}

static bool writes_memory_only(const struct insn *i)
{
	return i->form == FORM_M || i->form == FORM_MR || i->form == FORM_MI || i->form == FORM_LM ||
	       i->form == FORM_LMR || i->form == FORM_LMI;
}

#define CMOV_SET(cond)                                                                                                 \
	case OP_cmov##cond:                                                                                            \
	case OP_set##cond:

/* What instruction i, which has a rule, does to the register `base` (as in struct insn). */
static enum change changes(const struct insn *i, unsigned base, s64 *by)
{
	switch (i->op) {
	case OP_cmp:
	case OP_test:
	case OP_nop:
	case OP_bt:
		return CHANGE_NONE;
	case OP_push:
	case OP_push_imm:
		*by = -(1 << i->size);
		return base == RSP * 8 ? CHANGE_BY : CHANGE_NONE;
	case OP_pop:
		*by = 1 << i->size;
		return i->dst == base ? CHANGE_ANY : base == RSP * 8 ? CHANGE_BY : CHANGE_NONE;
	case OP_add:
	case OP_sub:
	case OP_lea:
		return writes_memory_only(i) ? CHANGE_NONE : moved(i, base, by);
	case OP_mov:
	case OP_movzx:
	case OP_movsx:
	case OP_movsxd:
	case OP_or:
	case OP_adc:
	case OP_sbb:
	case OP_and:
	case OP_xor:
	case OP_inc:
	case OP_dec:
	case OP_not:
	case OP_neg:
	case OP_rol:
	case OP_ror:
	case OP_rcl:
	case OP_rcr:
	case OP_shl:
	case OP_shr:
	case OP_sar:
		return writes_memory_only(i) ? CHANGE_NONE : if_register(i->dst / 8 == base / 8);
	case OP_xchg:
		return if_register(i->src / 8 == base / 8 || (!writes_memory_only(i) && i->dst / 8 == base / 8));
	CONDITIONS(CMOV_SET)
		return writes_memory_only(i) ? CHANGE_NONE : if_register(i->dst / 8 == base / 8);
	case OP_imul_imm:
	case OP_bswap:
	case OP_popcnt:
	case OP_tzcnt:
	case OP_lzcnt:
	case OP_bsf:
	case OP_bsr:
		return if_register(i->dst / 8 == base / 8);
	default: /* SIMD and x87 have one destination; and a vector register's number may look like a general one's */
		return rule_find(i) ? CHANGE_ANY : if_register(i->dst / 8 == base / 8);
	}
}

/* ---- which ones belong together ---- */
static bool is_free(const struct trans *t, unsigned n)
{
	return t->access[n].nr == 1 && t->access[n].base != NO_BASE && !t->access[n].group;
}

/* The group of the access of instruction n: those behind it that are near enough. */
static void find_group(struct trans *t, unsigned n, u8 group)
{
	struct access *first = &t->access[n];
	s64 at = 0, by = 0, lo = first->disp, hi = lo + first->bytes;
	bool write = first->write;
	unsigned members = 0;

	for (unsigned k = n; k + 1 < t->b->n && t->fact[k].rule; k++) {
		struct access *a = &t->access[k + 1];
		enum change change = changes(&t->b->insn[k], first->base, &by);
		s64 disp;

		if (change == CHANGE_ANY || !t->fact[k + 1].rule)
			break;
		at += change == CHANGE_BY ? by : 0;
		disp = at + a->disp;
		if (!is_free(t, k + 1) || a->base != first->base || disp != (s32)disp ||
		    max_s64(hi, disp + a->bytes) - min_s64(lo, disp) > GROUP_BYTES)
			continue;
		lo = min_s64(lo, disp);
		hi = max_s64(hi, disp + a->bytes);
		write |= a->write;
		a->group = group;
		members++;
	}
	if (!members)
		return;
	first->group = group;
	first->first = true;
	first->lo = (s32)lo;
	first->span = (u16)(hi - lo);
	first->write = write;
}

bool groups_find(struct trans *t)
{
	u8 group = 1;

	if (t->b->apart)
		return false;
	for (unsigned n = 0; n < t->b->n && group <= MAX_GROUPS; n++) {
		if (!t->fact[n].rule || !is_free(t, n))
			continue;
		find_group(t, n, group);
		group += t->access[n].group == group;
	}
	return group > 1;
}

/* ---- emission ---- */
static struct rm addend(const struct access *a)
{
	return CPU_FIELD(jit.addend[a->group - 1]);
}

static enum host_reg base_register(struct trans *t, const struct access *a)
{
	enum host_reg r = guest_reg(a->base);

	if (r != H_NONE)
		return r;
	emit_load(&t->e, SZ_64, H_TMP, gpr_field(a->base / 8));
	return H_TMP;
}

static struct rm plus(enum host_reg base, enum host_reg index, s32 disp)
{
	return (struct rm){ .mem = true, .base = (s8)base, .index = (s8)index, .disp = disp };
}

bool group_address(struct trans *t)
{
	const struct access *a = &t->access[t->n];
	struct emit *e = &t->e;
	enum host_reg base;

	if (!t->grouped || !a->group)
		return false;
	if (!a->first) {
		base = base_register(t, a);
		emit_load(e, SZ_64, H_ADDR, addend(a));
		emit_lea(e, SZ_64, H_ADDR, plus(H_ADDR, base, a->disp));
		return true;
	}
	flags_clobber(t);
	t->cur->rest = true;
	emit_lea(e, SZ_64, H_ADDR, rm_mem(base_register(t, a), a->lo));
	check_page(t, a->span, a->write ? MEM_WRITE : MEM_READ);
	emit_load(e, SZ_64, H_TMP2, rm_mem(H_TMP2, offsetof(struct tlb_entry, addend)));
	emit_store(e, SZ_64, addend(a), H_TMP2);
	emit_lea(e, SZ_64, H_ADDR, plus(H_TMP2, base_register(t, a), a->disp));
	return true;
}
