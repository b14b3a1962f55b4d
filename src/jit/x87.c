// SPDX-License-Identifier: MIT
/*
 * x87 instructions, copied with their memory operands: from the first one until translated code is left or calls a
 * handler, the guest's x87 state is the host's (cpu::jit.x87). That is only done while all exceptions are masked and
 * none traps; then whatever an instruction does, stack faults included, it does by itself. Else handlers do all of it.
 *
 * FIP, FDP and what goes with them stay in struct fpu. Of instructions in a row only the last one's are written, which
 * are those that count, when another kind of instruction follows or a handler is called (struct x87_last).
 */
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "insn/decode.h"
#include "jit/translate.h"

#define X87_FIRST 0xd8
#define X87_FAMILY 0xf8
#define OPC_FWAIT 0x9b

#define FXSAVE_TAGS 4
#define FXSAVE_MXCSR 24
#define FXSAVE_ST 32

#define XMM_CLOBBERS                                                                                                   \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",     \
		"xmm13", "xmm14", "xmm15"

/* ---- the state, to the host and back ---- */

/* The host's XMM registers are free here, and its MXCSR stays as it is. */
static void load_state(struct cpu *c)
{
	_Alignas(16) u8 area[FXSAVE_SIZE];
	const struct fpu *f = &c->fpu;

	if ((f->fcw & FCW_MASKS) != FCW_MASKS || (c->fpu_trap & FPU_TRAP_X87))
		return;
	memset(area, 0, FXSAVE_ST);
	memcpy(area, &f->fcw, 2);
	memcpy(area + 2, &f->fsw, 2);
	area[FXSAVE_TAGS] = f->ftw;
	for (unsigned n = 0; n < 8; n++)
		memcpy(area + FXSAVE_ST + n * 16, f->st[(fpu_top(f) + n) & 7], 16);
	asm volatile("stmxcsr %[mxcsr]\n\tfxrstor64 %[area]"
		     : [mxcsr] "=m"(*(u32 *)(area + FXSAVE_MXCSR)), [area] "+m"(area)
		     :
		     : XMM_CLOBBERS);
	c->jit.x87 = 1;
}

/* Leaves the host's x87 as handlers want it (fpu_host_enter()). */
static void store_state(struct cpu *c)
{
	_Alignas(16) u8 area[FXSAVE_SIZE];
	struct fpu *f = &c->fpu;

	asm volatile("fxsave64 %0\n\tfninit" : "=m"(area));
	memcpy(&f->fcw, area, 2);
	memcpy(&f->fsw, area + 2, 2);
	f->ftw = area[FXSAVE_TAGS];
	for (unsigned n = 0; n < 8; n++)
		memcpy(f->st[(fpu_top(f) + n) & 7], area + FXSAVE_ST + n * 16, 10);
	c->jit.x87 = 0;
}

void x87_load_emit(struct emit *e)
{
	emit_call_c(e, (u64)(uintptr_t)load_state);
}

static void test_loaded(struct emit *e)
{
	emit_ext(e, SZ_8, OPC_ALU_IMM, ALU_CMP, CPU_FIELD(jit.x87));
	emit8(e, 0);
}

void x87_end_emit(struct emit *e)
{
	u8 *out;

	test_loaded(e);
	out = emit_jcc(e, COND_Z);
	emit_call_c(e, (u64)(uintptr_t)store_state);
	emit_here(e, out);
}

void x87_resume(struct trans *t)
{
	emit_target(emit_call(&t->e), t->jit->x87_begin);
	test_loaded(&t->e);
}

static void x87_ready(struct trans *t)
{
	u8 *ready;

	if (t->x87)
		return;
	flags_clobber(t);
	test_loaded(&t->e);
	ready = emit_jcc(&t->e, COND_NZ);
	x87_resume(t);
	slow_if(t, COND_Z);
	emit_here(&t->e, ready);
	t->x87 = true;
}

/* ---- FIP, FDP, FOP ---- */
static void copy_selector(struct trans *t, struct rm to, enum sreg seg)
{
	emit_load(&t->e, SZ_16, H_TMP, CPU_FIELD(seg[seg].sel));
	emit_store(&t->e, SZ_16, to, H_TMP);
}

/* As x87_note() of the interpreter. Leaves flags alone; the registers are still those of the instructions. */
void x87_note_emit(struct trans *t, const struct x87_last *last)
{
	struct emit *e = &t->e;
	const struct insn *i = last->insn, *m = last->mem;

	if (i) {
		emit_load(e, SZ_64, H_TMP, gpr_field(R_BLOCK));
		emit_lea(e, SZ_64, H_TMP, rm_mem(H_TMP, i->end - i->len));
		emit_store(e, SZ_64, CPU_FIELD(fpu.fip), H_TMP);
		copy_selector(t, CPU_FIELD(fpu.fcs), SEG_CS);
		emit_const(e, H_TMP, (u64)(i->opcode & 7) << 8 | i->modrm);
		emit_store(e, SZ_16, CPU_FIELD(fpu.fop), H_TMP);
	}
	if (m) {
		emit_lea(e, m->asize, H_ADDR, operand_ea(t, m));
		emit_store(e, SZ_64, CPU_FIELD(fpu.fdp), H_ADDR);
		copy_selector(t, CPU_FIELD(fpu.fds),
			      m->seg == SEG_FLAT      ? SEG_DS
			      : m->seg == SEG_FLAT_SS ? SEG_SS
						      : m->seg);
	}
}

void x87_flush(struct trans *t)
{
	x87_note_emit(t, &t->x87_last);
	t->x87_last = (struct x87_last){ NULL, NULL };
}

/* ---- instructions ---- */

/* Those that need more than the registers, change what load_state() has looked at, or are too rare. */
static bool is_left_to_handler(const struct trans *t, const struct insn *i)
{
	switch (i->op) {
	case OP_fldenv:
	case OP_fnstenv:
	case OP_fnsave:
	case OP_frstor:
	case OP_fninit:
		return true;
	case OP_fnop:
		return i->modrm != 0xd0;
	case OP_fcomi:
	case OP_fcomip:
	case OP_fucomi:
	case OP_fucomip:
		return !cpuid_vendor_is_host(t->c); /* what becomes of C1 */
	default:
		return false;
	}
}

static bool is_control(unsigned op)
{
	return op == OP_fnstcw || op == OP_fldcw || op == OP_fnstsw || op == OP_fnclex || op == OP_fwait;
}

static bool is_store(unsigned op)
{
	switch (op) {
	case OP_fst:
	case OP_fstp:
	case OP_fist:
	case OP_fistp:
	case OP_fisttp:
	case OP_fbstp:
	case OP_fnstcw:
	case OP_fnstsw:
		return true;
	default:
		return false;
	}
}

static enum flag_use flag_use(unsigned op)
{
	switch (op) {
	case OP_fcomi:
	case OP_fcomip:
	case OP_fucomi:
	case OP_fucomip:
		return USE_SET;
	case OP_fcmovb:
	case OP_fcmove:
	case OP_fcmovbe:
	case OP_fcmovu:
	case OP_fcmovnb:
	case OP_fcmovne:
	case OP_fcmovnbe:
	case OP_fcmovnu:
		return USE_READ;
	default:
		return USE_NOT;
	}
}

/* A control word that unmasks something is the handler's. */
static void emit_fldcw(struct trans *t)
{
	struct emit *e = &t->e;

	flags_clobber(t);
	emit_rm(e, SZ_32, OPC_0F | OPC_SAME | 0xb7, H_TMP2, guest_memory(t)); /* movzx */
	emit_mov(e, H_TMP, H_TMP2);
	emit_ext(e, SZ_32, 0xf7, 2, rm_reg(H_TMP)); /* not */
	emit_ext(e, SZ_8, 0xf7, 0, rm_reg(H_TMP));  /* test */
	emit8(e, FCW_MASKS);
	slow_if(t, COND_NZ);
	emit_store(e, SZ_16, CPU_FIELD(fpu.fcw), H_TMP2);
	emit_ext(e, SZ_32, OPC_SAME | 0xd9, 5, CPU_FIELD(fpu.fcw));
}

static void emit_copy(struct trans *t, const struct insn *i)
{
	if (i->op == OP_fwait)
		return;
	if (i->op == OP_fldcw)
		emit_fldcw(t);
	else if (i->flags & INSN_MEM)
		emit_ext(&t->e, SZ_32, OPC_SAME | i->opcode, i->modrm >> 3 & 7, guest_memory(t));
	else {
		emit8(&t->e, i->opcode);
		emit8(&t->e, i->modrm);
	}
}

bool emit_x87(struct trans *t, const struct insn *i)
{
	struct encoding enc;

	if (i->feature == FEATURE_ABSENT || !block_encoding(t->b, i, &enc) || enc.map != MAP_1 ||
	    ((enc.opcode & X87_FAMILY) != X87_FIRST && i->op != OP_fwait) || is_left_to_handler(t, i) ||
	    ((i->flags & INSN_MEM) && !operand_ok(i)))
		return false;
	x87_ready(t);
	if (i->op == OP_fnstsw && !(i->flags & INSN_MEM))
		x87_flush(t); /* AX may be part of an address */
	if (i->flags & INSN_MEM)
		operand_address(t, i, i->size == SZ_80 ? SZ_128 : i->size, is_store(i->op) ? MEM_WRITE : MEM_READ);
	flags_before(t, flag_use(i->op));
	emit_copy(t, i);
	flags_after(t, flag_use(i->op));
	if (is_control(i->op))
		return true;
	t->x87_last.insn = i;
	if (i->flags & INSN_MEM)
		t->x87_last.mem = i;
	return true;
}
