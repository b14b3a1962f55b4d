/* SPDX-License-Identifier: MIT */
/*
 * The interpreter: struct insn -> effect. Handlers are grouped in files by family; each defines `struct impl impl_NAME`
 * for every operation NAME of insn/opcodes.def that it serves (see IMPL macros), and table.c finds them by name.
 */
#ifndef UKVM_INTERP_INTERP_H
#define UKVM_INTERP_INTERP_H

#include "cpu/cpu.h"
#include "insn/insn.h"
#include "mem/mem.h"

/*
 * A handler as insn::fn, and the same as insn::run where there is one (thread.h): run for instructions without a memory
 * operand, or with one in a flat segment of 64-bit mode; seg for memory operands in any segment and mode.
 */
struct handler {
	insn_fn fn, run, seg;
};

/* Handlers of one operation: `any`, or one for each form and size index 0-3 (8, 16, 32, 64 bits). */
struct impl {
	insn_fn any;
	insn_fn wide; /* with VEX.L, if that is another one */
	const struct handler (*sized)[4]; /* [NR_FORMS][4]; empty ones cannot happen by the table, or mean `any` */
};

/* Runs the guest until something needs the client; cpu::exit says what. Never returns EXIT_NONE. */
enum exit_reason interp_run(struct cpu *c);

/* Blocks that run often are translated from now on. 0, or -ENOMEM: the host allows no such memory. (run.c) */
int interp_translate(struct cpu *c);

/* After memory under the guest was lost in the middle of interp_run(): state as before the instruction. */
void interp_unwind(struct cpu *c);

/* The handler for a decoded instruction; one that makes EXIT_INTERNAL if there is none. */
insn_fn interp_bind(const struct insn *i);
/* Gives an instruction its place in a block, ending at the block's byte `end`: fn and run. */
void interp_bind_block(struct insn *i, unsigned end);
/* What follows the last instruction of a block. */
void interp_bind_end(struct insn *i, unsigned end);

/* ---- register operands (byte offsets, see struct insn) ---- */
#define REG8(c, off) (*(u8 *)((char *)(c)->gpr + (off)))
#define REG16(c, off) (*(u16 *)((char *)(c)->gpr + (off)))
#define REG32(c, off) (*(u32 *)((char *)(c)->gpr + (off)))
#define REG64(c, off) (*(u64 *)((char *)(c)->gpr + (off)))

/* Reads a register of a size index, zero-extended. */
static inline u64 reg_read(const struct cpu *c, unsigned off, unsigned size)
{
	switch (size) {
	case SZ_8:
		return REG8(c, off);
	case SZ_16:
		return REG16(c, off);
	case SZ_32:
		return REG32(c, off);
	default:
		return REG64(c, off);
	}
}

/* Writes a register as an instruction of that operand size does: 32 bits clear the upper half. */
static inline void reg_write(struct cpu *c, unsigned off, unsigned size, u64 v)
{
	switch (size) {
	case SZ_8:
		REG8(c, off) = (u8)v;
		break;
	case SZ_16:
		REG16(c, off) = (u16)v;
		break;
	case SZ_32:
		REG64(c, off) = (u32)v;
		break;
	default:
		REG64(c, off) = v;
	}
}

/* Sets RIP to a branch target truncated to the operand size; checks limit or canonical form: ST_END or #GP. */
int branch_to(struct cpu *c, u64 rip, unsigned size);

/* ---- stack (stack.c) ---- */
/*
 * Push or pop one value of size index SZ_16..SZ_64 through SS, with the current stack size. RSP is committed on ST_OK.
 */
int stack_push(struct cpu *c, unsigned size, u64 v);
int stack_pop(struct cpu *c, unsigned size, u64 *v);

/* ---- segments and control transfers (seg.c, far.c, task.c, event.c) ---- */
/* Loads a data or stack segment register from a selector with all checks: ST_OK, ST_FAULT. */
int seg_load(struct cpu *c, unsigned s, u16 sel);
/* Far JMP, CALL, RET, IRET in every mode. size is the operand size. */
int far_jump(struct cpu *c, u16 sel, u64 off, unsigned size);
int far_call(struct cpu *c, u16 sel, u64 off, unsigned size);
int far_ret(struct cpu *c, unsigned size, u16 release);
int far_iret(struct cpu *c, unsigned size);

/* Why an interrupt is delivered. */
enum event_kind {
	EVENT_EXT,  /* external interrupt, NMI */
	EVENT_EXC,  /* hardware exception (fault or trap) */
	EVENT_SOFT, /* INT n, INT3, INTO: checks the gate's DPL; return address is gpr[R_RIP] as it is */
	EVENT_ICEBP, /* INT1: hardware exception without the DPL check, after the instruction */
};
/* Delivers through the IDT (real, protected, long mode, task gates). gpr[R_RIP] is the return address. ST_END, ST_FAULT
 * (of the delivery itself; the caller makes double faults of it), ST_EXIT. */
int event_deliver(struct cpu *c, enum event_kind kind, u8 vector, bool has_error, u32 error);
/* Turns cpu::fault into the pending exception (double and triple faults included): ST_OK, or ST_EXIT_DONE with
 * EXIT_SHUTDOWN. gpr[R_RIP] must be the faulting instruction. */
int event_fault(struct cpu *c);
/* Between two instructions, with ATTN_EVENT: deliver what is deliverable, or report the open window. ST_OK (nothing, or
 * delivered), ST_EXIT_DONE; ST_AGAIN: there are more, but something else may want to be looked at. */
int event_poll(struct cpu *c);
/* Is there something to deliver at this boundary? */
bool event_due(const struct cpu *c);
/* Interrupts are open, or will be when a shadow ends: the run loop looks for what waits for that, if anything does. */
void event_opened(struct cpu *c);

/* The client's port I/O; see string.c for the repeated forms. *data in or out. */
int port_in(struct cpu *c, u16 port, unsigned bytes, u32 *data);
int port_out(struct cpu *c, u16 port, unsigned bytes, u32 data);
/* CPL/IOPL and TSS bitmap check: ST_OK or #GP(0). */
int port_check(struct cpu *c, u16 port, unsigned bytes);

#endif
