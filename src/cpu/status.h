/* SPDX-License-Identifier: MIT */
/*
 * What an instruction handler, a memory access or an event delivery returns. ST_OK is 0, so that a caller on the fast
 * path tests one register; everything else leaves the fast path.
 */
#ifndef UKVM_CPU_STATUS_H
#define UKVM_CPU_STATUS_H

enum status {
	ST_OK = 0,    /* done; the next instruction follows */
	ST_END,       /* done; RIP is final, the block is over (branches, mode changes, ...) */
	ST_FAULT,     /* a guest fault is in cpu->fault; the instruction had no effect */
	ST_EXIT,      /* the client is needed (cpu->exit): the instruction runs again when it has answered */
	ST_EXIT_DONE, /* the instruction is complete, and the client is to see cpu->exit (HLT, ...) */
	ST_AGAIN,     /* run the same instruction again after looking at cpu->attn (REP strings, stale code) */
	ST_SPLIT,     /* run it again at once: half of its operand has changed meanwhile (mem/access.c) */
};

#endif
