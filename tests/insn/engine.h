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
	u32 devices;       /* bit n: page n of the image is a device */
	const u8 *image;   /* what the memory image is when a case begins, if there are devices */
	const char *early; /* what was seen of an instruction that still waited for a device; NULL if nothing */
};

/* n tells what user mode looks like. With translate, code is translated before it runs. */
void engine_init(struct engine *e, const struct native *n, bool translate);
void engine_run(struct engine *e, const struct test_case *t, struct outcome *o);
/* Its CPUID says Intel: for what the kernel's KVM does unlike AMD's CPUs where it emulates them (far pointers). */
void engine_as_intel(struct engine *e);
/* Pages of the image that have no memory from now on: the client, which has the image, answers each access. */
void engine_set_devices(struct engine *e, u32 pages);
/* Does the engine claim to execute the feature's instructions (its CPUID has them)? */
bool engine_has(struct engine *e, unsigned feature);

#endif
