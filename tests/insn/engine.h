/* SPDX-License-Identifier: MIT */
/* The engine under test: a guest whose user mode looks like this process's. */
#ifndef UKVM_TESTS_INSN_ENGINE_H
#define UKVM_TESTS_INSN_ENGINE_H

#include "native.h"

struct engine {
	struct flat *f;
	u8 *code; /* the code window */
	u8 *mem;  /* the memory image */
	u16 sel[6];
};

/* n tells what user mode looks like. With translate, code is translated before it runs. */
void engine_init(struct engine *e, const struct native *n, bool translate);
void engine_run(struct engine *e, const struct test_case *t, struct outcome *o);
/* Does the engine claim to execute the feature's instructions (its CPUID has them)? */
bool engine_has(struct engine *e, unsigned feature);

#endif
