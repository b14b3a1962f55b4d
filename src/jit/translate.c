// SPDX-License-Identifier: MIT
/* One block of decoded instructions becomes host code. */
#include "jit/translate.h"

/* ---- the way to the handler ---- */
void slow_if(struct trans *t, unsigned cond)
{
	t->cur->site[t->cur->nr_sites++] = emit_jcc(&t->e, cond);
}

static void call_handler(struct emit *e, const struct jit *j, const struct insn *i)
{
	emit_const(e, H_ADDR, (u64)(uintptr_t)i);
	emit_target(emit_call(e), j->slow);
}

/* What follows counts on more than the registers; if that is over (ZF), the block ends here. */
static void leave_if_over(struct trans *t, const struct slow *s)
{
	u8 *on = emit_jcc(&t->e, COND_NZ);

	emit_load(&t->e, SZ_64, H_ADDR, gpr_field(R_BLOCK));
	emit_alu_imm(&t->e, SZ_64, ALU_ADD, rm_reg(H_ADDR), s->i->end);
	t->leave[t->nr_leaves++] = emit_jmp(&t->e);
	emit_here(&t->e, on);
}

static void emit_slow_paths(struct trans *t, struct jit *j)
{
	const u8 *base = t->c->code->host_arena;

	for (unsigned n = 0; n < t->nr_slow; n++) {
		struct slow *s = &t->slow[n];
		u32 here = (u32)(t->e.at - base);

		for (unsigned k = 0; k < s->nr_sites; k++)
			emit_here(&t->e, s->site[k]);
		for (unsigned k = 0; k < s->nr_faults; k++)
			j->faults[j->nr_faults++] = (struct fault_site){ (u32)(s->fault[k] - base), here };
		if (s->unsaved) {
			t->flags = FLAGS_LIVE;
			t->recipe = NULL;
			flags_save(t);
		} else if (s->recipe) {
			flags_cook(t, s->recipe);
		}
		x87_note_emit(t, &s->x87_last);
		if (s->rest) {
			emit_const(&t->e, H_ADDR, (u64)(uintptr_t)s->i);
			emit_target(emit_jmp(&t->e), j->rest);
			continue;
		}
		call_handler(&t->e, j, s->i);
		if (!s->resume)
			continue; /* no branch's handler says ST_OK */
		flags_handled(t);
		if (s->x87) {
			x87_resume(t);
			leave_if_over(t, s);
		}
		if (s->simd) {
			simd_resume(t, s->simd);
			leave_if_over(t, s);
		}
		if (s->live)
			flags_live(t);
		emit_target(emit_jmp(&t->e), s->resume);
	}
}

/* ---- from block to block ---- */
/* ZF: there is none. */
static void call_look_up(struct trans *t)
{
	emit_target(emit_call(&t->e), t->jit->look_up);
	emit_test_reg(&t->e, SZ_64, H_TMP2);
}

void look_up(struct trans *t)
{
	call_look_up(t);
	slow_if(t, COND_Z);
}

void go_found(struct trans *t)
{
	emit_store(&t->e, SZ_64, gpr_field(R_BLOCK), H_ADDR);
	emit_ext(&t->e, SZ_32, 0xff, 4, rm_reg(H_TMP2)); /* jmp */
	t->ended = true;
}

static void go_within_page(struct trans *t, s64 delta)
{
	unsigned off = (unsigned)(t->b->off + delta);
	const struct block *to = off == t->b->off ? t->b : block_find(t->b->page, off, t->b->mode);
	u8 *site;

	if (delta)
		emit_alu_imm(&t->e, SZ_64, ALU_ADD, gpr_field(R_BLOCK), (u64)delta);
	site = emit_jmp(&t->e);
	if (to && to->host) {
		emit_target(site, to->host);
		return;
	}
	t->link[t->nr_links].site = site;
	t->link[t->nr_links++].off = (u16)off;
}

void go_to(struct trans *t, s64 delta, bool branch)
{
	s64 off = t->b->off + delta;

	t->ended = true;
	if (off >= 0 && off < (s64)PAGE_SIZE) {
		go_within_page(t, delta);
		return;
	}
	emit_load(&t->e, SZ_64, H_ADDR, gpr_field(R_BLOCK));
	/* A RIP that runs over the end of 32 bits is cut off when it is looked up, as in the interpreter. */
	emit_alu_imm(&t->e, branch ? code_word(t) : SZ_64, ALU_ADD, rm_reg(H_ADDR), (u64)delta);
	if (branch) {
		look_up(t);
	} else {
		call_look_up(t);
		t->leave[t->nr_leaves++] = emit_jcc(&t->e, COND_Z);
	}
	go_found(t);
}

/* Where a jump goes as long as there is no code: out, to come back with the block that was looked for. */
static void emit_links(struct trans *t)
{
	static const u8 lea_behind_jmp[] = { 0x48, 0x8d, 0x0d, 5, 0, 0, 0 }; /* lea rcx, [rip + 5] */
	struct emit *e = &t->e;

	for (unsigned n = 0; n < t->nr_links; n++) {
		struct jit_link l = { t->link[n].site, t->b->page, t->link[n].off, t->b->mode };

		emit_here(e, t->link[n].site);
		for (unsigned k = 0; k < sizeof(lea_behind_jmp); k++)
			emit8(e, lea_behind_jmp[k]);
		emit_target(emit_jmp(e), t->jit->leave_link);
		__builtin_memcpy(e->at, &l, sizeof(l));
		e->at += sizeof(l);
	}
}

/* What run() does between two blocks: attention, the budget, and the count of work. */
static void emit_entry(struct trans *t, u8 *out[2])
{
	struct emit *e = &t->e;

	t->b->host = e->at;
	emit_alu_imm(e, SZ_32, ALU_CMP, CPU_FIELD(attn), 0);
	out[0] = emit_jcc(e, COND_NZ);
	emit_alu_imm(e, SZ_32, ALU_SUB, CPU_FIELD(budget), 1);
	out[1] = emit_jcc(e, COND_B);
	emit_const(e, H_TMP, t->b->work);
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_ADD), H_TMP, CPU_FIELD(work));
	t->b->body = e->at;
}

static void emit_exits(struct trans *t, u8 *out[2])
{
	struct emit *e = &t->e;

	emit_here(e, out[1]);
	emit_alu_imm(e, SZ_32, ALU_ADD, CPU_FIELD(budget), 1);
	emit_here(e, out[0]);
	emit_target(emit_jmp(e), t->jit->leave_start);
	for (unsigned n = 0; n < t->nr_leaves; n++)
		emit_target(t->leave[n], t->jit->leave);
}

static bool emit_by_kind(struct trans *t, const struct insn *i)
{
	const struct rule *r = rule_find(i);

	if (!r && emit_x87(t, i))
		return true;
	x87_flush(t);
	t->cur->x87_last = t->x87_last;
	return r ? r->emit(t, i, r) : emit_simd(t, i);
}

/* Whatever has no rule is its handler's, as is what a rule leaves to it: false. */
static bool emit_insn(struct trans *t, const struct insn *i)
{
	t->cur = &t->slow[t->nr_slow];
	*t->cur = (struct slow){ .i = i, .x87_last = t->x87_last };
	if (t->flags == FLAGS_LIVE || t->flags == FLAGS_RECIPE)
		t->cur->recipe = t->recipe;
	if (!emit_by_kind(t, i)) {
		flags_save(t);
		call_handler(&t->e, t->jit, i);
		flags_handled(t);
		t->simd = 0;
		t->x87 = false;
		t->stack32 = false;
		return false;
	}
	t->fact[t->n].rule = true;
	t->fact[t->n].leaves = t->cur->nr_sites;
	if (!t->cur->nr_sites && !t->cur->nr_faults)
		return true;
	t->nr_slow++;
	t->cur->live = t->flags == FLAGS_LIVE || t->flags == FLAGS_BOTH;
	t->cur->simd = t->simd;
	t->cur->x87 = t->x87;
	t->cur->resume = t->ended ? NULL : t->e.at;
	return true;
}

/* All of the block but what is rare; returns for how many instructions there was a rule. */
static unsigned emit_block(struct trans *t, u8 *out[2])
{
	unsigned known = 0;

	emit_entry(t, out);
	for (t->n = 0; t->n < t->b->n; t->n++)
		known += emit_insn(t, &t->b->insn[t->n]);
	if (!t->ended) {
		x87_flush(t);
		flags_save(t);
		go_to(t, t->b->bytes, false);
	}
	return known;
}

/* Back to the start, with what has been learned. */
static void begin_again(struct trans *t, u8 *start)
{
	struct trans fresh = { .e.at = start, .jit = t->jit, .c = t->c, .b = t->b };

	__builtin_memcpy(fresh.fact, t->fact, sizeof(fresh.fact));
	__builtin_memcpy(fresh.access, t->access, sizeof(fresh.access));
	fresh.grouped = true;
	*t = fresh;
}

bool jit_translate(struct cpu *c, struct block *b)
{
	struct jit *j = c->jit.unit;
	struct trans t = { .jit = j, .c = c, .b = b };
	struct code_cache *code = c->code;
	u8 *start, *out[2];
	bool better;

	if (!j || !b->page || (b->mode != DECODE_64 && b->mode != DECODE_32) || b->host)
		return true;
	if (code->host_used == code->host_floor)
		j->nr_faults = 0;
	if (code->host_size - code->host_used < TRANSLATE_ROOM || j->max_faults - j->nr_faults < 2 * BLOCK_MAX_INSNS)
		return false;
	start = t.e.at = code->host_arena + code->host_used;
	if (emit_block(&t, out) * 2 < b->n) { /* a handler called from here costs more than from threaded code */
		b->host = NULL;
		return true;
	}
	better = flags_judge(&t);
	if (groups_find(&t))
		better = true;
	if (better) {
		begin_again(&t, start);
		emit_block(&t, out);
	}
	emit_slow_paths(&t, j);
	emit_links(&t);
	emit_exits(&t, out);
	code->host_used = ((size_t)(t.e.at - code->host_arena) + 15) & ~15ul;
	b->threaded = b->insn[0].run;
	b->insn[0].run = jit_enter;
	c->stats.translations++;
	return true;
}
