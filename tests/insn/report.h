/* SPDX-License-Identifier: MIT */
/* What the workers found, and how much of the table they saw. */
#ifndef UKVM_TESTS_INSN_REPORT_H
#define UKVM_TESTS_INSN_REPORT_H

#include "rows.h"

#define MAX_ROWS 2048

/* What a worker tells. */
struct report {
	u64 at;       /* index of the case that runs now */
	u64 cases, failures;
	u32 row;      /* of that case */
	u64 seed;
	u32 count[NR_WIDTHS][MAX_ROWS];
	u32 failed[MAX_ROWS];
};

/* Rows that could be tried, and those chosen from them. */
struct selection {
	u32 rows[MAX_ROWS], n;
	bool all;
};

/* How many cases each row had, or why none. */
void report_rows(struct engine *e, const struct report *reports, u32 jobs);
/* Instruction families and widths of code, in Markdown. */
void report_families(const struct report *reports, u32 jobs);
/* The lines at the end. Returns the number of failures. */
u64 report_summary(struct engine *e, const struct report *reports, u32 jobs, const struct selection *s, u64 ms);

#endif
