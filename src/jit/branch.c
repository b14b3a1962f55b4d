// SPDX-License-Identifier: MIT
/*
 * Near branches. The target is found before anything changes: if no block is known there, or it is not canonical, the
 * handler makes the branch.
 */
#include "jit/translate.h"

static bool emit_jmp_rel(struct trans *t, const struct insn *i, const struct rule *r)
{
	(void)r;
	flags_save(t);
	go_to(t, (s64)i->end + (s64)i->imm, true);
	return true;
}

/* Saving the flags does not change them. */
static bool emit_jcc_rel(struct trans *t, const struct insn *i, const struct rule *r)
{
	u8 *taken;

	(void)r;
	flags_live(t);
	flags_save(t);
	taken = emit_jcc(&t->e, i->opcode & 15);
	go_to(t, i->end, true);
	emit_here(&t->e, taken);
	go_to(t, (s64)i->end + (s64)i->imm, true);
	return true;
}

/* Where the target of an indirect branch is: H_ADDR. */
static void indirect_target(struct trans *t, const struct insn *i)
{
	enum host_reg r;

	flags_clobber(t);
	if (i->flags & INSN_MEM) {
		operand_address(t, i, i->size, MEM_READ);
		emit_load(&t->e, i->size, H_ADDR, guest_memory(t));
		return;
	}
	r = source(t, i->dst, H_ADDR);
	if (r != H_ADDR)
		emit_store(&t->e, i->size, rm_reg(H_ADDR), r);
}

static bool emit_jmp_rm(struct trans *t, const struct insn *i, const struct rule *r)
{
	(void)r;
	indirect_target(t, i);
	look_up(t);
	go_found(t);
	return true;
}

/* Pushes the address of what follows. The stack's page is checked last, when nothing else can fail. */
static void push_return(struct trans *t, const struct insn *i)
{
	enum host_reg sp = guest_reg(RSP * 8);

	stack_address(t, RSP * 8, -(1 << i->size), MEM_WRITE);
	emit_load(&t->e, SZ_64, H_TMP2, gpr_field(R_BLOCK));
	emit_lea(&t->e, SZ_64, H_TMP2, rm_mem(H_TMP2, i->end));
	emit_store(&t->e, i->size, guest_memory(t), H_TMP2);
	stack_set(t, sp, -(1 << i->size));
}

/* A call: the target is in H_ADDR, its code in H_TMP2; they wait in cpu::jit. */
static void call_found(struct trans *t, const struct insn *i)
{
	emit_store(&t->e, SZ_64, CPU_FIELD(jit.rip), H_ADDR);
	emit_store(&t->e, SZ_64, CPU_FIELD(jit.code), H_TMP2);
	push_return(t, i);
	emit_load(&t->e, SZ_64, H_ADDR, CPU_FIELD(jit.rip));
	emit_load(&t->e, SZ_64, H_TMP2, CPU_FIELD(jit.code));
	go_found(t);
}

static bool emit_call_rm(struct trans *t, const struct insn *i, const struct rule *r)
{
	(void)r;
	indirect_target(t, i);
	look_up(t);
	call_found(t, i);
	return true;
}

static bool emit_call_rel(struct trans *t, const struct insn *i, const struct rule *r)
{
	s64 delta = (s64)i->end + (s64)i->imm, off = t->b->off + delta;

	(void)r;
	flags_clobber(t);
	if (off >= 0 && off < (s64)PAGE_SIZE) {
		push_return(t, i);
		go_to(t, delta, true);
		return true;
	}
	emit_load(&t->e, SZ_64, H_ADDR, gpr_field(R_BLOCK));
	emit_alu_imm(&t->e, i->size, ALU_ADD, rm_reg(H_ADDR), (u64)delta);
	look_up(t);
	call_found(t, i);
	return true;
}

static bool emit_ret(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg sp = guest_reg(RSP * 8);

	(void)r;
	flags_clobber(t); /* before the access: see guest_memory() */
	stack_address(t, RSP * 8, 0, MEM_READ);
	emit_load(&t->e, i->size, H_ADDR, guest_memory(t));
	look_up(t);
	stack_set(t, sp, (1 << i->size) + (s32)i->imm);
	go_found(t);
	return true;
}

#define JCC_RULE(cond) [OP_j##cond] = { emit_jcc_rel, 0, 0, USE_READ },

static const struct rule rules[NR_OPS] = {
	[OP_jmp_rel] = { emit_jmp_rel, 0, 0, USE_NOT },   [OP_jmp_rm] = { emit_jmp_rm, 0, 0, USE_NOT },
	[OP_call_rel] = { emit_call_rel, 0, 0, USE_NOT }, [OP_call_rm] = { emit_call_rm, 0, 0, USE_NOT },
	[OP_ret] = { emit_ret, 0, 0, USE_NOT },           CONDITIONS(JCC_RULE)
};

const struct rule *branch_rule_find(const struct insn *i)
{
	const struct rule *r = &rules[i->op];

	if (!r->emit || i->size != insn_word(i))
		return NULL;
	if (!(i->flags & INSN_MEM) && i->imm + i->end != (u64)(s32)(i->imm + i->end))
		return NULL;
	return i->flags & INSN_MEM && !operand_ok(i) ? NULL : r;
}
