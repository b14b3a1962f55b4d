/* SPDX-License-Identifier: MIT */
/* Single step, breakpoints and the client's guest debugging, at the boundaries of an instruction. */
#ifndef UKVM_INTERP_DEBUG_H
#define UKVM_INTERP_DEBUG_H

#include "cpu/debug.h"
#include "interp/interp.h"

/*
 * The run loop calls these around every instruction that it executes with ATTN_STEP on.
 * Before: a code breakpoint at RIP is ST_FAULT (#DB), or ST_EXIT with EXIT_DEBUG; else ST_OK.
 * After, if the instruction completed: the shadow that covered it ends, traps become the pending #DB (ST_OK) or go to
 * the client (ST_EXIT_DONE with EXIT_DEBUG).
 */
int event_step_before(struct cpu *c);
int event_step_done(struct cpu *c, u8 shadow_before);

/* Queues a #DB trap with these DR6 bits, unless another exception is pending. */
void event_trap(struct cpu *c, u64 dr6);

/* DR7.GD, for an instruction that accesses a debug register: #DB (ST_FAULT) or the client's EXIT_DEBUG (ST_EXIT). */
int event_general_detect(struct cpu *c);

/* INT3 (opcode CC): the client's software breakpoint (ST_EXIT with EXIT_DEBUG, RIP stays), or the guest's #BP. */
int event_int3(struct cpu *c);
/* INT1 (opcode F1), likewise, while the client single-steps or has breakpoints; else the guest's #DB. */
int event_int1(struct cpu *c);

#endif
