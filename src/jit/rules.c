// SPDX-License-Identifier: MIT
/*
 * How integer instructions are translated: the same instruction on the host's registers. A rule that uses memory asks
 * for the operand's address first; nothing of the guest changes before the access, so that the handler can take over.
 */
#include "jit/translate.h"

#include "insn/feature.h"

#define OPC_TEST 0x85u
#define OPC_XCHG 0x87u

/* At most one operand in AH, DH or BH, and that not beside memory: there is one scratch register for such. */
static bool bytes_ok(const struct insn *i, bool dst, bool src)
{
	bool high = (dst && is_high_byte(i->dst)) || (src && is_high_byte(i->src));

	if (i->size != SZ_8 || !high)
		return true;
	if ((dst && i->dst / 8 == RCX && is_high_byte(i->dst)) || (src && i->src / 8 == RCX && is_high_byte(i->src)))
		return false;
	return !(i->flags & INSN_MEM) && !(dst && src && is_high_byte(i->dst) && is_high_byte(i->src));
}

static bool is_mem(const struct insn *i)
{
	return i->flags & INSN_MEM;
}

static unsigned lock_prefix(const struct insn *i)
{
	return i->form == FORM_LM || i->form == FORM_LMR || i->form == FORM_LMI ? OPC_LOCK : 0;
}

/* ---- destination and source: rule::opcode is that of "op r/m, reg" ---- */
static void two_regs(struct trans *t, const struct insn *i, unsigned opcode, enum flag_use use, bool write)
{
	enum host_reg s, d;

	flags_before(t, use);
	s = source(t, i->src, H_TMP2);
	d = dest(t, i->dst, i->size, true, H_TMP);
	emit_rm(&t->e, i->size, opcode, s, rm_reg(d));
	flags_after(t, use);
	if (write)
		dest_done(t, i->dst, d);
}

static void reg_mem(struct trans *t, const struct insn *i, unsigned opcode, enum flag_use use, bool old)
{
	enum host_reg d;

	operand_address(t, i, i->size, MEM_READ);
	flags_before(t, use);
	d = dest(t, i->dst, i->size, old, H_TMP);
	emit_rm(&t->e, i->size, opcode, d, guest_memory(t));
	flags_after(t, use);
	if (i->op != OP_cmp)
		dest_done(t, i->dst, d);
}

static void mem_reg(struct trans *t, const struct insn *i, unsigned opcode, enum flag_use use, enum mem_access how)
{
	enum host_reg s;

	operand_address(t, i, i->size, how);
	flags_before(t, use);
	s = source(t, i->src, H_TMP2);
	emit_rm(&t->e, i->size, opcode, s, guest_memory(t));
	flags_after(t, use);
}

/* An operation with an immediate or without a second operand: "op r/m" with a digit. */
static void one_operand(struct trans *t, const struct insn *i, unsigned opcode, unsigned digit, enum flag_use use,
			enum mem_access how, unsigned imm_size)
{
	enum host_reg d = H_NONE;
	struct rm rm;

	if (is_mem(i))
		operand_address(t, i, i->size, how);
	flags_before(t, use);
	if (!is_mem(i))
		d = dest(t, i->dst, i->size, true, H_TMP);
	rm = is_mem(i) ? guest_memory(t) : rm_reg(d);
	emit_ext(&t->e, i->size, opcode, digit, rm);
	if (imm_size <= SZ_64)
		emit_imm(&t->e, imm_size, i->imm);
	flags_after(t, use);
	if (!is_mem(i) && how != MEM_READ)
		dest_done(t, i->dst, d);
}
#define NO_IMM 0xff

/* ADD to CMP: digit is the operation's number, from which all its opcodes follow. */
static bool emit_alu(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum mem_access how = r->digit == ALU_CMP ? MEM_READ : MEM_WRITE;
	unsigned lock = lock_prefix(i);

	switch (i->form) {
	case FORM_RR:
		if (!bytes_ok(i, true, true))
			return false;
		two_regs(t, i, OPC_ALU_STORE(r->digit), r->use, how == MEM_WRITE);
		return true;
	case FORM_RM:
		if (!bytes_ok(i, true, false))
			return false;
		reg_mem(t, i, OPC_ALU_LOAD(r->digit), r->use, true);
		return true;
	case FORM_MR:
	case FORM_LMR:
		if (!bytes_ok(i, false, true))
			return false;
		mem_reg(t, i, OPC_ALU_STORE(r->digit) | lock, r->use, how);
		return true;
	default:
		if (!bytes_ok(i, true, false))
			return false;
		one_operand(t, i, OPC_ALU_IMM | lock, r->digit, r->use, how, i->size);
		return true;
	}
}

static bool emit_test(struct trans *t, const struct insn *i, const struct rule *r)
{
	switch (i->form) {
	case FORM_RR:
		if (!bytes_ok(i, true, true))
			return false;
		two_regs(t, i, OPC_TEST, r->use, false);
		return true;
	case FORM_MR:
		if (!bytes_ok(i, false, true))
			return false;
		mem_reg(t, i, OPC_TEST, r->use, MEM_READ);
		return true;
	default:
		if (!bytes_ok(i, true, false))
			return false;
		one_operand(t, i, 0xf7, 0, r->use, MEM_READ, i->size);
		return true;
	}
}

/* INC, DEC, NOT, NEG */
static bool emit_unary(struct trans *t, const struct insn *i, const struct rule *r)
{
	if (!bytes_ok(i, true, false))
		return false;
	one_operand(t, i, r->opcode | lock_prefix(i), r->digit, r->use, MEM_WRITE, NO_IMM);
	return true;
}

/* MUL and IMUL of RAX, whose result is in registers that are the same in the host. */
static bool emit_wide(struct trans *t, const struct insn *i, const struct rule *r)
{
	if (i->form != FORM_R && i->form != FORM_M)
		return false;
	if (!bytes_ok(i, true, false))
		return false;
	one_operand(t, i, r->opcode, r->digit, r->use, MEM_READ, NO_IMM);
	return true;
}

/*
 * DIV and IDIV by a value in a register: s. What faults, or might, is the handler's. The quotient of a dividend that is
 * but the sign-extended RAX fits, unless it is divided by -1; other signed dividends are rare.
 */
static void check_division(struct trans *t, enum host_reg s, unsigned size, bool sign)
{
	struct emit *e = &t->e;

	if (!sign) {
		emit_rm(e, size, OPC_ALU_STORE(ALU_CMP), s, rm_reg(H_RDX));
		slow_if(t, COND_NB);
		return;
	}
	emit_store(e, size, rm_reg(H_TMP), H_RAX);
	emit_ext(e, size, 0xc1, 7, rm_reg(H_TMP)); /* sar */
	emit8(e, (8u << size) - 1);
	emit_rm(e, size, OPC_ALU_STORE(ALU_CMP), H_RDX, rm_reg(H_TMP));
	slow_if(t, COND_NZ);
	emit_lea(e, size, H_TMP, rm_mem(s, 1));
	emit_alu_imm(e, size, ALU_CMP, rm_reg(H_TMP), 1);
	slow_if(t, COND_BE);
}

static bool emit_div(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg s = H_TMP2;

	if (i->size < SZ_32)
		return false;
	flags_clobber(t);
	if (is_mem(i)) {
		operand_address(t, i, i->size, MEM_READ);
		emit_load(&t->e, i->size, s, guest_memory(t));
	} else {
		s = source(t, i->dst, H_TMP2);
	}
	check_division(t, s, i->size, i->op == OP_idiv);
	flags_before(t, r->use);
	emit_ext(&t->e, i->size, 0xf7, r->digit, rm_reg(s));
	flags_after(t, r->use);
	return true;
}

/* ---- shifts ---- */
static bool emit_shift(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d = H_NONE;

	if (!bytes_ok(i, true, false))
		return false;
	if (i->form == FORM_RI || i->form == FORM_MI) {
		one_operand(t, i, 0xc1, r->digit, r->use, MEM_WRITE, SZ_8);
		return true;
	}
	if (is_high_byte(i->dst) && !is_mem(i))
		return false; /* it would be where the count is */
	if (is_mem(i))
		operand_address(t, i, i->size, MEM_WRITE);
	flags_before(t, r->use);
	if (is_mem(i))
		emit_mov(&t->e, H_TMP2, H_ADDR);
	else
		d = dest(t, i->dst, i->size, true, H_TMP);
	emit_mov(&t->e, H_RCX, guest_reg(RCX * 8));
	if (is_mem(i)) {
		guest_memory(t);
		emit_ext(&t->e, i->size, 0xd3, r->digit, rm_mem(H_TMP2, 0));
	} else {
		emit_ext(&t->e, i->size, 0xd3, r->digit, rm_reg(d));
	}
	flags_after(t, r->use);
	if (!is_mem(i))
		dest_done(t, i->dst, d);
	return true;
}

/* ---- moves ---- */
static void mov_reg_reg(struct trans *t, const struct insn *i)
{
	enum host_reg s = source(t, i->src, H_TMP2), d = s;

	if (i->size < SZ_64 || guest_reg(i->dst) != H_NONE) {
		d = dest(t, i->dst, i->size, false, H_TMP);
		emit_store(&t->e, i->size, rm_reg(d), s);
	}
	dest_done(t, i->dst, d);
}

static void mov_reg_imm(struct trans *t, const struct insn *i)
{
	enum host_reg d = dest(t, i->dst, i->size, false, H_TMP);

	if (i->size >= SZ_32) {
		emit_const(&t->e, d, i->size == SZ_32 ? (u32)i->imm : i->imm);
	} else {
		emit_ext(&t->e, i->size, 0xc7, 0, rm_reg(d));
		emit_imm(&t->e, i->size, i->imm);
	}
	dest_done(t, i->dst, d);
}

static void mov_mem_imm(struct trans *t, const struct insn *i)
{
	operand_address(t, i, i->size, MEM_WRITE);
	emit_ext(&t->e, i->size, 0xc7, 0, guest_memory(t));
	emit_imm(&t->e, i->size, i->imm);
}

static bool emit_mov_insn(struct trans *t, const struct insn *i, const struct rule *r)
{
	bool src = i->form == FORM_RR || i->form == FORM_MR;

	if (!bytes_ok(i, !is_mem(i) || i->form == FORM_RM, src))
		return false;
	switch (i->form) {
	case FORM_RR:
		mov_reg_reg(t, i);
		return true;
	case FORM_RI:
		mov_reg_imm(t, i);
		return true;
	case FORM_RM:
		reg_mem(t, i, OPC_MOV_LOAD, r->use, false);
		return true;
	case FORM_MR:
		mem_reg(t, i, OPC_MOV_STORE, r->use, MEM_WRITE);
		return true;
	case FORM_MI:
		mov_mem_imm(t, i);
		return true;
	default:
		return false;
	}
}

/* MOVZX, MOVSX, MOVSXD: insn::src2 is the size of the source. */
static bool emit_extend(struct trans *t, const struct insn *i, const struct rule *r)
{
	unsigned opcode = r->opcode | OPC_SAME;
	enum host_reg d, s = H_NONE;

	if (i->size < SZ_32)
		return false;
	if (!r->digit) /* MOVSXD is from 32 bits alone */
		opcode |= i->src2 == SZ_8 ? OPC_BYTE : 1;
	if (is_mem(i)) {
		operand_address(t, i, i->src2, MEM_READ);
		d = dest(t, i->dst, i->size, false, H_TMP);
		emit_rm(&t->e, i->size, opcode, d, guest_memory(t));
	} else {
		if (i->src2 == SZ_8 && is_high_byte(i->src) && i->src / 8 == RCX)
			return false;
		s = source(t, i->src, H_TMP2);
		d = dest(t, i->dst, i->size, false, H_TMP);
		emit_rm(&t->e, i->size, opcode, d, rm_reg(s));
	}
	dest_done(t, i->dst, d);
	return true;
}

static bool emit_lea_insn(struct trans *t, const struct insn *i, const struct rule *r)
{
	struct rm ea;
	enum host_reg d;

	(void)r;
	if (i->asize < SZ_32)
		return false;
	ea = operand_ea(t, i);
	emit_lea(&t->e, i->asize, H_ADDR, ea);
	d = dest(t, i->dst, i->size, false, H_TMP);
	emit_store(&t->e, i->size, rm_reg(d), H_ADDR);
	dest_done(t, i->dst, d);
	return true;
}

/* CBW and CWD in all sizes: the host's registers are the same. */
static bool emit_convert(struct trans *t, const struct insn *i, const struct rule *r)
{
	if (i->size == SZ_16)
		emit8(&t->e, 0x66);
	if (i->size == SZ_64)
		emit8(&t->e, 0x48);
	emit8(&t->e, r->opcode);
	return true;
}

static bool emit_bswap(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d;

	(void)r;
	if (i->size < SZ_32)
		return false;
	d = dest(t, i->dst, i->size, true, H_TMP);
	emit8(&t->e, 0x40 | (i->size == SZ_64) << 3 | (unsigned)d >> 3);
	emit8(&t->e, 0x0f);
	emit8(&t->e, 0xc8 | ((unsigned)d & 7));
	dest_done(t, i->dst, d);
	return true;
}

/* XCHG; that with memory is atomic, LOCK or not. */
static bool emit_xchg(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d, s;

	(void)r;
	if (is_mem(i)) {
		if (!bytes_ok(i, false, true))
			return false;
		operand_address(t, i, i->size, MEM_WRITE);
		s = source(t, i->src, H_TMP2);
		emit_rm(&t->e, i->size, OPC_XCHG, s, guest_memory(t));
		dest_done(t, i->src, s);
		return true;
	}
	if (i->size == SZ_8)
		return false;
	s = source(t, i->src, H_TMP2);
	d = dest(t, i->dst, i->size, true, H_TMP);
	emit_rm(&t->e, i->size, OPC_XCHG, s, rm_reg(d));
	dest_done(t, i->src, s);
	dest_done(t, i->dst, d);
	return true;
}

/* XADD and CMPXCHG with memory: the accumulator is the host's, too. */
static bool emit_exchange_mem(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg s;

	if (!is_mem(i) || !bytes_ok(i, false, true))
		return false;
	operand_address(t, i, i->size, MEM_WRITE);
	flags_before(t, r->use);
	s = source(t, i->src, H_TMP2);
	emit_rm(&t->e, i->size, r->opcode | lock_prefix(i), s, guest_memory(t));
	flags_after(t, r->use);
	if (r->digit) /* XADD writes it */
		dest_done(t, i->src, s);
	return true;
}

/* ---- a register from a register or memory, with flags: IMUL, BSF, POPCNT, CMOVcc, ... ---- */
static unsigned load_opcode(const struct insn *i, const struct rule *r)
{
	return r->opcode == (OPC_0F | OPC_SAME) ? r->opcode | 0x40 | (i->opcode & 15) : r->opcode;
}

static bool emit_load_op(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d, s;

	if (i->form == FORM_RM) {
		reg_mem(t, i, load_opcode(i, r), r->use, true);
		return true;
	}
	if (i->form != FORM_RR)
		return false;
	flags_before(t, r->use);
	s = source(t, i->src, H_TMP2);
	d = dest(t, i->dst, i->size, true, H_TMP);
	emit_rm(&t->e, i->size, load_opcode(i, r), d, rm_reg(s));
	flags_after(t, r->use);
	dest_done(t, i->dst, d);
	return true;
}

static bool emit_imul(struct trans *t, const struct insn *i, const struct rule *r)
{
	static const struct rule wide = { emit_wide, 0xf7, 5, USE_MERGE };

	return i->form == FORM_R || i->form == FORM_M ? emit_wide(t, i, &wide) : emit_load_op(t, i, r);
}

static bool emit_imul_imm(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d, s = H_NONE;
	struct rm rm;

	if (is_mem(i))
		operand_address(t, i, i->size, MEM_READ);
	flags_before(t, r->use);
	if (!is_mem(i))
		s = source(t, i->src, H_TMP2);
	d = dest(t, i->dst, i->size, false, H_TMP);
	rm = is_mem(i) ? guest_memory(t) : rm_reg(s);
	emit_rm(&t->e, i->size, 0x69, d, rm);
	emit_imm(&t->e, i->size, i->imm);
	flags_after(t, r->use);
	dest_done(t, i->dst, d);
	return true;
}

static bool emit_setcc(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d = H_NONE;
	struct rm rm;

	if (!bytes_ok(i, true, false))
		return false;
	if (is_mem(i))
		operand_address(t, i, SZ_8, MEM_WRITE);
	flags_before(t, r->use);
	if (!is_mem(i))
		d = dest(t, i->dst, SZ_8, false, H_TMP);
	rm = is_mem(i) ? guest_memory(t) : rm_reg(d);
	emit_ext(&t->e, SZ_8, OPC_0F | OPC_BYTE | 0x90 | (i->opcode & 15), 0, rm);
	if (!is_mem(i))
		dest_done(t, i->dst, d);
	return true;
}

/* BT, BTS, BTR, BTC; a bit string in memory is the handlers'. digit is for the forms with an immediate. */
static bool emit_bit(struct trans *t, const struct insn *i, const struct rule *r)
{
	if (i->form == FORM_RR) {
		two_regs(t, i, r->opcode, r->use, i->op != OP_bt);
		return true;
	}
	if (i->form != FORM_RI && i->form != FORM_MI && i->form != FORM_LMI)
		return false;
	one_operand(t, i, OPC_0F | 0xba | OPC_SAME | lock_prefix(i), r->digit, r->use,
		    i->op == OP_bt ? MEM_READ : MEM_WRITE, SZ_8);
	return true;
}

/* CLC, STC, CMC */
static bool emit_carry(struct trans *t, const struct insn *i, const struct rule *r)
{
	(void)i;
	flags_before(t, r->use);
	emit8(&t->e, r->opcode);
	flags_after(t, r->use);
	return true;
}

static bool emit_nop(struct trans *t, const struct insn *i, const struct rule *r)
{
	(void)t;
	(void)i;
	(void)r;
	return true;
}

/* ---- the stack ---- */
static bool emit_push(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg s;

	(void)r;
	if (i->size != insn_word(i))
		return false;
	if (is_mem(i)) { /* the stack's address wants all registers: the value waits in cpu::jit */
		operand_address(t, i, i->size, MEM_READ);
		emit_load(&t->e, i->size, H_ADDR, guest_memory(t));
		emit_store(&t->e, SZ_64, CPU_FIELD(jit.code), H_ADDR);
	}
	stack_address(t, RSP * 8, -(1 << i->size), MEM_WRITE);
	if (is_mem(i)) {
		emit_load(&t->e, SZ_64, H_TMP2, CPU_FIELD(jit.code));
		emit_store(&t->e, i->size, guest_memory(t), H_TMP2);
	} else if (i->op == OP_push_imm) {
		emit_ext(&t->e, i->size, 0xc7, 0, guest_memory(t));
		emit32(&t->e, (u32)i->imm);
	} else {
		s = source(t, i->dst, H_TMP2);
		emit_store(&t->e, i->size, guest_memory(t), s);
	}
	stack_set(t, guest_reg(RSP * 8), -(1 << i->size));
	return true;
}

static bool emit_pop(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg d;

	(void)r;
	if (i->size != insn_word(i) || is_mem(i))
		return false;
	stack_address(t, RSP * 8, 0, MEM_READ);
	d = dest(t, i->dst, i->size, false, H_TMP);
	emit_load(&t->e, i->size, d, guest_memory(t));
	if (i->dst != RSP * 8)
		stack_set(t, guest_reg(RSP * 8), 1 << i->size);
	dest_done(t, i->dst, d);
	return true;
}

static bool emit_leave_insn(struct trans *t, const struct insn *i, const struct rule *r)
{
	enum host_reg bp = guest_reg(RBP * 8);

	(void)r;
	if (i->size != insn_word(i))
		return false;
	stack_address(t, RBP * 8, 0, MEM_READ);
	emit_load(&t->e, i->size, H_TMP, guest_memory(t));
	stack_set(t, bp, 1 << i->size);
	emit_mov(&t->e, bp, H_TMP);
	return true;
}

#define CMOV_RULE(cond) [OP_cmov##cond] = { emit_load_op, OPC_0F | OPC_SAME, 0, USE_READ },
#define SET_RULE(cond) [OP_set##cond] = { emit_setcc, 0, 0, USE_READ },

static const struct rule rules[NR_OPS] = {
	[OP_add] = { emit_alu, 0, ALU_ADD, USE_SET },
	[OP_or] = { emit_alu, 0, ALU_OR, USE_SET },
	[OP_adc] = { emit_alu, 0, ALU_ADC, USE_CHANGE },
	[OP_sbb] = { emit_alu, 0, ALU_SBB, USE_CHANGE },
	[OP_and] = { emit_alu, 0, ALU_AND, USE_SET },
	[OP_sub] = { emit_alu, 0, ALU_SUB, USE_SET },
	[OP_xor] = { emit_alu, 0, ALU_XOR, USE_SET },
	[OP_cmp] = { emit_alu, 0, ALU_CMP, USE_SET },
	[OP_test] = { emit_test, 0, 0, USE_SET },
	[OP_inc] = { emit_unary, 0xff, 0, USE_MERGE },
	[OP_dec] = { emit_unary, 0xff, 1, USE_MERGE },
	[OP_not] = { emit_unary, 0xf7, 2, USE_NOT },
	[OP_neg] = { emit_unary, 0xf7, 3, USE_SET },
	[OP_mul] = { emit_wide, 0xf7, 4, USE_MERGE },
	[OP_div] = { emit_div, 0, 6, USE_MERGE },
	[OP_idiv] = { emit_div, 0, 7, USE_MERGE },
	[OP_imul] = { emit_imul, OPC_0F | 0xaf, 0, USE_MERGE },
	[OP_imul_imm] = { emit_imul_imm, 0, 0, USE_MERGE },
	[OP_rol] = { emit_shift, 0, 0, USE_MERGE },
	[OP_ror] = { emit_shift, 0, 1, USE_MERGE },
	[OP_rcl] = { emit_shift, 0, 2, USE_CHANGE },
	[OP_rcr] = { emit_shift, 0, 3, USE_CHANGE },
	[OP_shl] = { emit_shift, 0, 4, USE_MERGE },
	[OP_shr] = { emit_shift, 0, 5, USE_MERGE },
	[OP_sar] = { emit_shift, 0, 7, USE_MERGE },
	[OP_mov] = { emit_mov_insn, 0, 0, USE_NOT },
	[OP_movzx] = { emit_extend, OPC_0F | 0xb6, 0, USE_NOT },
	[OP_movsx] = { emit_extend, OPC_0F | 0xbe, 0, USE_NOT },
	[OP_movsxd] = { emit_extend, 0x63, 1, USE_NOT },
	[OP_lea] = { emit_lea_insn, 0, 0, USE_NOT },
	[OP_cbw] = { emit_convert, 0x98, 0, USE_NOT },
	[OP_cwd] = { emit_convert, 0x99, 0, USE_NOT },
	[OP_bswap] = { emit_bswap, 0, 0, USE_NOT },
	[OP_xchg] = { emit_xchg, 0, 0, USE_NOT },
	[OP_xadd] = { emit_exchange_mem, OPC_0F | 0xc1, 1, USE_SET },
	[OP_cmpxchg] = { emit_exchange_mem, OPC_0F | 0xb1, 0, USE_SET },
	[OP_bsf] = { emit_load_op, OPC_0F | OPC_SAME | 0xbc, 0, USE_MERGE },
	[OP_bsr] = { emit_load_op, OPC_0F | OPC_SAME | 0xbd, 0, USE_MERGE },
	[OP_tzcnt] = { emit_load_op, OPC_0F | OPC_SAME | OPC_F3 | 0xbc, 0, USE_MERGE },
	[OP_lzcnt] = { emit_load_op, OPC_0F | OPC_SAME | OPC_F3 | 0xbd, 0, USE_MERGE },
	[OP_popcnt] = { emit_load_op, OPC_0F | OPC_SAME | OPC_F3 | 0xb8, 0, USE_MERGE },
	[OP_bt] = { emit_bit, OPC_0F | 0xa3, 4, USE_MERGE },
	[OP_bts] = { emit_bit, OPC_0F | 0xab, 5, USE_MERGE },
	[OP_btr] = { emit_bit, OPC_0F | 0xb3, 6, USE_MERGE },
	[OP_btc] = { emit_bit, OPC_0F | 0xbb, 7, USE_MERGE },
	[OP_clc] = { emit_carry, 0xf8, 0, USE_MERGE },
	[OP_stc] = { emit_carry, 0xf9, 0, USE_MERGE },
	[OP_cmc] = { emit_carry, 0xf5, 0, USE_CHANGE },
	[OP_nop] = { emit_nop, 0, 0, USE_NOT },
	[OP_push] = { emit_push, 0, 0, USE_NOT },
	[OP_push_imm] = { emit_push, 0, 0, USE_NOT },
	[OP_pop] = { emit_pop, 0, 0, USE_NOT },
	[OP_leave] = { emit_leave_insn, 0, 0, USE_NOT },
	CONDITIONS(CMOV_RULE) CONDITIONS(SET_RULE)
};

const struct rule *rule_find(const struct insn *i)
{
	const struct rule *r = &rules[i->op];

	if (i->feature == FEATURE_ABSENT)
		return NULL;
	if (!r->emit)
		return branch_rule_find(i);
	if (is_mem(i) && i->op != OP_lea && i->op != OP_nop && !operand_ok(i))
		return NULL;
	return r;
}
