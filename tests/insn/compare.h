/* SPDX-License-Identifier: MIT */
#ifndef UKVM_TESTS_INSN_COMPARE_H
#define UKVM_TESTS_INSN_COMPARE_H

#include "gen.h"

/* The first thing in which the two differ, as text; NULL if there is none. */
const char *compare(const struct test_case *t, const struct outcome *cpu, struct outcome *engine,
		    u8 *cpu_mem, u8 *engine_mem);

/* The same of two runs in the engine, of which nothing may differ. */
const char *compare_engines(const struct test_case *t, const struct outcome *memory, struct outcome *devices,
			    u8 *memory_image, u8 *device_image);

#endif
