/* SPDX-License-Identifier: MIT */
#ifndef UKVM_TESTS_INSN_COMPARE_H
#define UKVM_TESTS_INSN_COMPARE_H

#include "gen.h"

/* The first thing in which the two differ, as text; NULL if there is none. */
const char *compare(const struct test_case *t, const struct outcome *cpu, struct outcome *engine,
		    u8 *cpu_mem, u8 *engine_mem);

#endif
