// SPDX-License-Identifier: MIT
/* Ways in and out of translated code, made once per CPU. */
#include "jit/translate.h"

#include "cpu/cpuid.h"

static void save_gprs(struct emit *e)
{
	for (unsigned n = RAX; n <= R15; n++)
		if (guest_reg(n * 8) != H_NONE)
			emit_store(e, SZ_64, gpr_field(n), guest_reg(n * 8));
}

/* What else of the guest is in the host. */
static void end_units(struct emit *e)
{
	simd_end_emit(e, cpuid_host_has_ymm());
	x87_end_emit(e);
}

static void load_registers(struct emit *e)
{
	for (unsigned n = RAX; n <= R15; n++)
		if (guest_reg(n * 8) != H_NONE)
			emit_load(e, SZ_64, guest_reg(n * 8), gpr_field(n));
}

/* What the ABI lets callees keep, in the order of pushing. */
static const u8 callee_saved[] = { H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15 };

static void emit_push_pop(struct emit *e, unsigned opcode, unsigned reg)
{
	if (reg >= 8)
		emit8(e, 0x41);
	emit8(e, opcode | (reg & 7));
}

/* int enter(cpu, code): six registers and the return address, and 8 bytes more align the stack. */
static void emit_enter(struct emit *e)
{
	for (unsigned n = 0; n < ARRAY_SIZE(callee_saved); n++)
		emit_push_pop(e, 0x50, callee_saved[n]);
	emit_alu_imm(e, SZ_64, ALU_SUB, rm_reg(H_RSP), 8);
	emit_mov(e, H_CPU, H_RDI);
	emit_mov(e, H_ADDR, H_RSI);
	load_registers(e);
	emit_ext(e, SZ_32, 0xff, 4, rm_reg(H_ADDR)); /* jmp */
}

static void emit_return(struct emit *e)
{
	emit_alu_imm(e, SZ_64, ALU_ADD, rm_reg(H_RSP), 8);
	for (unsigned n = ARRAY_SIZE(callee_saved); n-- > 0;)
		emit_push_pop(e, 0x58, callee_saved[n]);
	emit8(e, 0xc3);
}

static void emit_leave(struct emit *e)
{
	emit_store(e, SZ_64, gpr_field(R_RIP), H_ADDR);
	save_gprs(e);
	end_units(e);
	emit_const(e, H_RAX, ST_END);
	emit_return(e);
}

void emit_call_c(struct emit *e, u64 function)
{
	emit_mov(e, H_RDI, H_CPU);
	emit_const(e, H_TMP, function);
	emit_ext(e, SZ_32, 0xff, 2, rm_reg(H_TMP)); /* call */
}

/* Calls a function that gets the instruction in RBX, when the registers are saved and the stack is aligned. */
static void emit_call_with_insn(struct emit *e, insn_fn function)
{
	end_units(e);
	emit_mov(e, H_RSI, H_RBX);
	emit_call_c(e, (u64)(uintptr_t)function);
}

/* The handler said more than ST_OK: that ends the run, and the way back into the block is dropped. */
static void emit_slow(struct emit *e, const struct jit *j)
{
	u8 *out;

	save_gprs(e);
	emit_mov(e, H_RBX, H_ADDR); /* which functions leave alone */
	emit_alu_imm(e, SZ_64, ALU_SUB, rm_reg(H_RSP), 8);
	emit_call_with_insn(e, j->handler);
	emit_alu_imm(e, SZ_64, ALU_ADD, rm_reg(H_RSP), 8);
	emit_test_reg(e, SZ_32, H_RAX);
	out = emit_jcc(e, COND_NZ);
	load_registers(e);
	emit8(e, 0xc3);
	emit_here(e, out);
	emit_alu_imm(e, SZ_64, ALU_ADD, rm_reg(H_RSP), 8);
	emit_return(e);
}

/* The interpreter's way through the rest of the block, whatever it says, ends the run. */
static void emit_rest(struct emit *e, const struct jit *j)
{
	save_gprs(e);
	emit_mov(e, H_RBX, H_ADDR);
	emit_call_with_insn(e, j->interpret);
	emit_return(e);
}

static void emit_x87_begin(struct emit *e)
{
	save_gprs(e);
	emit_alu_imm(e, SZ_64, ALU_SUB, rm_reg(H_RSP), 8);
	x87_load_emit(e);
	emit_alu_imm(e, SZ_64, ALU_ADD, rm_reg(H_RSP), 8);
	load_registers(e);
	emit8(e, 0xc3);
}

#define HOST_JUMP(r, field) rm_mem(r, offsetof(struct host_jump, field))
#define ENTRY(field) rm_mem(H_TMP2, offsetof(struct jump_entry, field))

/* H_TMP: the short cut for the RIP in H_ADDR; H_TMP2: the code for it. Without, the jumps in miss are taken. */
static void emit_short_cut(struct emit *e, const struct jit *j, u8 *miss[2])
{
	_Static_assert(sizeof(struct jump_entry) == 32 && sizeof(struct host_jump) == 32, "the shift below");
	emit_mov(e, H_TMP, H_ADDR);
	emit_ext(e, SZ_64, 0xc1, 5, rm_reg(H_TMP)); /* shr */
	emit8(e, JUMP_BITS);
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_XOR), H_TMP, rm_reg(H_ADDR));
	emit_alu_imm(e, SZ_32, ALU_AND, rm_reg(H_TMP), JUMP_SIZE - 1);
	emit_ext(e, SZ_32, 0xc1, 4, rm_reg(H_TMP)); /* shl */
	emit8(e, 5);
	emit_const(e, H_TMP2, (u64)(uintptr_t)j->jump);
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_ADD), H_TMP, rm_reg(H_TMP2));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_ADDR, HOST_JUMP(H_TMP, rip));
	miss[0] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_64, H_TMP2, CPU_FIELD(jit.tag));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_TMP2, HOST_JUMP(H_TMP, tag));
	miss[1] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_64, H_TMP2, HOST_JUMP(H_TMP, host));
}

/* The short cut that was tried leads to H_TMP2 from now on. */
static void emit_remember(struct emit *e)
{
	emit_load(e, SZ_64, H_TMP, CPU_FIELD(jit.jump));
	emit_store(e, SZ_64, HOST_JUMP(H_TMP, rip), H_ADDR);
	emit_store(e, SZ_64, HOST_JUMP(H_TMP, host), H_TMP2);
	emit_load(e, SZ_64, H_ADDR, CPU_FIELD(jit.tag));
	emit_store(e, SZ_64, HOST_JUMP(H_TMP, tag), H_ADDR);
	emit_load(e, SZ_64, H_ADDR, CPU_FIELD(jit.rip));
}

/*
 * block_lookup() for 64-bit mode, where RIP is the linear address. A block without host code is one to leave for: the
 * branch to it can be made.
 */
static void emit_look_up(struct emit *e, const struct jit *j, const struct cpu *c)
{
	struct code_cache *code = c->code;
	u8 *miss[4], *no_code, *no_short_cut[2];

	emit_short_cut(e, j, no_short_cut);
	emit8(e, 0xc3);
	emit_here(e, no_short_cut[0]);
	emit_here(e, no_short_cut[1]);
	emit_store(e, SZ_64, CPU_FIELD(jit.rip), H_ADDR);
	emit_store(e, SZ_64, CPU_FIELD(jit.jump), H_TMP);
	emit_const(e, H_TMP2, (u64)(uintptr_t)j->jump);
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_SUB), H_TMP, rm_reg(H_TMP2));
	emit_mov(e, H_TMP2, H_TMP);
	emit_const(e, H_TMP, (u64)(uintptr_t)code);
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_ADD), H_TMP2, rm_mem(H_TMP, offsetof(struct code_cache, jump)));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_ADDR, ENTRY(lin));
	miss[0] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_64, H_ADDR, rm_mem(H_TMP, offsetof(struct code_cache, stamp)));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_ADDR, ENTRY(stamp));
	miss[1] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_64, H_ADDR, CPU_FIELD(code_key));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_ADDR, ENTRY(key));
	miss[2] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_64, H_TMP, rm_mem(H_TMP, offsetof(struct code_cache, epoch)));
	emit_load(e, SZ_64, H_TMP2, ENTRY(block));
	emit_load(e, SZ_64, H_ADDR, rm_mem(H_TMP2, offsetof(struct block, page)));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_TMP, rm_mem(H_ADDR, offsetof(struct code_page, epoch)));
	miss[3] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_64, H_ADDR, CPU_FIELD(jit.rip));
	emit_load(e, SZ_64, H_TMP2, rm_mem(H_TMP2, offsetof(struct block, host)));
	emit_test_reg(e, SZ_64, H_TMP2);
	no_code = emit_jcc(e, COND_Z);
	emit_remember(e);
	emit8(e, 0xc3);
	emit_here(e, no_code);
	emit_const(e, H_TMP2, (u64)(uintptr_t)j->leave);
	emit8(e, 0xc3);
	for (unsigned n = 0; n < ARRAY_SIZE(miss); n++)
		emit_here(e, miss[n]);
	emit_load(e, SZ_64, H_ADDR, CPU_FIELD(jit.rip));
	emit_rm(e, SZ_32, OPC_ALU_LOAD(ALU_XOR), H_TMP2, rm_reg(H_TMP2));
	emit8(e, 0xc3);
}

void thunks_emit(struct emit *e, struct jit *j, struct cpu *c)
{
	const u8 *enter = e->at;

	__builtin_memcpy(&j->enter, &enter, sizeof(enter));
	emit_enter(e);
	j->slow = e->at;
	emit_slow(e, j);
	j->rest = e->at;
	emit_rest(e, j);
	j->simd_begin = e->at;
	simd_begin_emit(e);
	j->x87_begin = e->at;
	emit_x87_begin(e);
	j->leave_link = e->at;
	emit_store(e, SZ_64, CPU_FIELD(jit.link), H_ADDR);
	j->leave_start = e->at;
	emit_load(e, SZ_64, H_ADDR, gpr_field(R_BLOCK));
	j->leave = e->at;
	emit_leave(e);
	j->look_up = e->at;
	emit_look_up(e, j, c);
}
