/* SPDX-License-Identifier: MIT */
/*
 * The translator (docs/translator.md): host code for blocks that run often. The guest's registers stay in the host's
 * from block to block; whatever has no rule here, and every rare case of what has one (a soft TLB miss above all), is
 * executed by the interpreter's handler of that one instruction. So there is one meaning of each instruction's faults
 * and exits, and translated code is only a shorter way through what the interpreter would do.
 *
 * All of it belongs to one vCPU and its thread; the code is in struct code_cache and goes with the decodings it is of.
 */
#ifndef UKVM_JIT_JIT_H
#define UKVM_JIT_JIT_H

#include "mem/code.h"

/* A jump to a block that had no code yet: made direct when it has. */
struct jit_link {
	u8 *at; /* the displacement */
	const struct code_page *page;
	u16 off;
	u8 mode;
};

/*
 * After code_init(). step executes one instruction by its handler: it finds the registers in struct cpu, and the
 * status flags in cpu::jit. 0, or -ENOMEM: there is no memory to execute from, and nothing will be translated.
 */
int jit_init(struct cpu *c, insn_fn step);
void jit_free(struct cpu *c); /* before code_free() */

/*
 * Host code for b, entered by its first insn::run from now on; or none, if it is not worth it. false: there is no room
 * left, and code_flush() is due.
 */
bool jit_translate(struct cpu *c, struct block *b);

/*
 * Memory under translated code was lost, at this host address: where to go on, so that the interpreter makes that
 * access. 0: it is not translated code. Async-signal-safe.
 */
u64 jit_recover(const struct cpu *c, u64 ip);

#endif
