/* SPDX-License-Identifier: MIT */
/* The opcode table as the generator sees it, and why a row cannot be tried here. */
#ifndef UKVM_TESTS_INSN_ROWS_H
#define UKVM_TESTS_INSN_ROWS_H

#include "engine.h"
#include "insn/decode.h"

struct row_info {
	const char *name, *prefix, *modrm;
	u16 operand[4];
	u16 op;      /* enum op */
	u32 flags;   /* enum row_flag */
	u8 map;      /* enum opcode_map */
	u8 opcode;
	u8 feature;
};

extern const struct row_info row_table[];
extern const u32 nr_rows;

/* NULL, or why there are no cases of this row. */
const char *row_reason(struct engine *e, const struct row_info *r);
/* The same for an operation that other bytes than its row's have led to. */
const char *op_reason(unsigned op);
/* "0F38 F6 66 adcx", for people */
const char *row_title(const struct row_info *r);

#endif
