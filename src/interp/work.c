// SPDX-License-Identifier: MIT
/* How often an instruction accesses memory, for statistics: the operands that it has, not what a REP makes of them. */
#include "cpu/stats.h"
#include "interp/block.h"

#define R WORK_READ
#define W WORK_WRITE

/* Instructions whose memory operands ModRM does not show, or not all of them. */
static u64 implicit_work(const struct insn *i)
{
	switch (i->op) {
	case OP_push:
	case OP_push_imm:
	case OP_push_sreg:
	case OP_pushf:
	case OP_call_rel:
	case OP_call_rm:
	case OP_stos:
	case OP_ins:
	case OP_mov_moffs_store:
		return W;
	case OP_pop:
	case OP_pop_sreg:
	case OP_popf:
	case OP_ret:
	case OP_leave:
	case OP_lods:
	case OP_scas:
	case OP_outs:
	case OP_xlat:
	case OP_mov_moffs_load:
		return R;
	case OP_movs:
		return R + W;
	case OP_cmps:
		return 2 * R;
	default:
		return 0;
	}
}

/* One with a memory operand alone: is it written? (A read-modify-write looks into the soft TLB once, for writing.) */
static bool writes_single(const struct insn *i)
{
	switch (i->op) {
	case OP_push:
	case OP_call_rm:
	case OP_jmp_rm:
	case OP_mul:
	case OP_imul:
	case OP_div:
	case OP_idiv:
	case OP_fld:
	case OP_fild:
	case OP_ldmxcsr:
	case OP_fxrstor:
	case OP_xrstor:
		return false;
	default:
		return true;
	}
}

static u64 operand_work(const struct insn *i)
{
	switch (i->op) {
	case OP_lea:
	case OP_nop:
		return 0;
	case OP_cmp:
	case OP_test:
	case OP_bt:
		return R;
	}
	switch (i->form) {
	case FORM_RM:
		return R;
	case FORM_M:
		return writes_single(i) ? W : R;
	default:
		return W;
	}
}

u64 insn_work(const struct insn *i)
{
	return WORK_INSN + implicit_work(i) + (i->flags & INSN_MEM ? operand_work(i) : 0);
}

u64 block_work(const struct insn *insn, unsigned n)
{
	u64 work = 0;

	while (n--)
		work += insn_work(insn++);
	return work;
}
