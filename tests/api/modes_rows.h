/* SPDX-License-Identifier: MIT */
/*
 * How the rows of modes_faults.S and modes_system.S are written.
 *
 *	row	vector, "name", [error=], [ip=], [cs=], [sp=], [cr2=], [dr6=], [eax=], [cr0=], [cr4=], [flags=],
 *		[need=], [rf=]
 *
 * vector: a vector, or NONE (HLT at the mark), CALLED (the target of a gate), SHUTDOWN.
 * error:  the error code; left out: there is none.
 * ip, cs: the saved ones, instead of the mark and the stage's CS. ip=-1: there is no frame to look at.
 * sp:     the saved stack pointer, where there is one; left out: any.
 * eax:    EAX at the end. cr2, dr6: these registers at the end.
 * rf:     1 if the saved flags have RF although the vector (#DB) alone does not tell so.
 * cr0, cr4, flags: bits that are set from the start beside those of the stage.
 * need:   NEED_* of modes.h; without all of them the row is skipped.
 */
#include "modes.h"

.macro stage name
	.set	current_stage, \name
.endm

/* struct row of modes.c */
.macro row vector, name, error=-1, ip=0, cs=0, sp=-1, cr2=-1, dr6=-1, eax=-1, cr0=0, cr4=0, flags=0, need=0, rf=-1
	.pushsection .rodata
6:	.asciz	"\name"
	.popsection
	.pushsection fault_rows, "aw"
	.quad	6b, 8f, 9f, 7f
	.quad	\ip, \sp, \cr2, \dr6, \eax
	.int	current_stage, \vector, \error, \cs, \cr0, \cr4, \flags, \need, \rf, 0
	.popsection
8:
.endm

.macro end
7:
.endm

/* Where a label of the row is in the guest; a constant. */
#define HERE(label) (label - 8b + TEXT)
