/* SPDX-License-Identifier: MIT */
/*
 * A guest fault: what an instruction or a memory access raises in the guest. It is a value, not a host error;
 * whoever detects one fills struct cpu::fault and returns ST_FAULT (see status.h).
 */
#ifndef UKVM_CPU_FAULT_H
#define UKVM_CPU_FAULT_H

#include "cpu/types.h"

/* Exception vectors (SDM vol. 3, table 6-1). */
enum vector {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_OF = 4,
	VEC_BR = 5,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_DF = 8,
	VEC_TS = 10,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_MC = 18,
	VEC_XM = 19,
};

/* Page-fault error code (SDM vol. 3, 4.7). */
enum pf_error {
	PF_P = 1 << 0,
	PF_W = 1 << 1,
	PF_U = 1 << 2,
	PF_RSVD = 1 << 3,
	PF_I = 1 << 4,
	PF_PK = 1 << 5,
};

struct fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 addr;    /* #PF: the linear address, for CR2 */
	u64 dr6;     /* #DB: the DR6 bits to set */
};

#endif
