/* SPDX-License-Identifier: MIT */
/*
 * What a fuzz target is made of. Each defines LLVMFuzzerTestOneInput(), and is linked with libFuzzer (make fuzz) or
 * with driver.c, which runs the corpus and then random inputs for some seconds. In corpus/, inputs with a name were
 * written for something; those with a number are what libFuzzer has found to reach different code, or a part of that.
 */
#ifndef UKVM_TESTS_FUZZ_FUZZ_H
#define UKVM_TESTS_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/types.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was wrong, and the end: libFuzzer and driver.c keep the input. */
#define fuzz_fail(...) (fprintf(stderr, "fuzz: " __VA_ARGS__), fputc('\n', stderr), fflush(stderr), abort())

/*
 * Choices. They come from the input as long as it lasts, then from a generator that its first eight bytes seed: a few
 * bytes make a whole machine, and changing a later byte changes little.
 */
struct choices {
	const u8 *at, *end;
	u64 seed;
};

static inline void choices_start(struct choices *c, const u8 *data, size_t size)
{
	u64 seed = 0;

	memcpy(&seed, data, size < 8 ? size : 8);
	c->at = data + (size < 8 ? size : 8);
	c->end = data + size;
	c->seed = seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
}

static inline u64 pick64(struct choices *c)
{
	u64 v;

	if (c->end - c->at >= 8) {
		memcpy(&v, c->at, 8);
		c->at += 8;
		return v;
	}
	/* splitmix64 */
	c->seed += 0x9e3779b97f4a7c15ull;
	v = c->seed;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ull;
	v = (v ^ v >> 27) * 0x94d049bb133111ebull;
	return v ^ v >> 31;
}

static inline u8 pick8(struct choices *c)
{
	return c->at < c->end ? *c->at++ : (u8)(pick64(c) >> 32);
}

/* 0 to n - 1 */
static inline u32 pick(struct choices *c, u32 n)
{
	if (n <= 256)
		return pick8(c) * n >> 8;
	return (u32)((pick8(c) | (u32)pick8(c) << 8 | (u32)pick8(c) << 16) % n);
}

static inline bool one_in(struct choices *c, u32 n)
{
	return pick(c, n) == n - 1;
}

#define PICK_OF(c, array) ((array)[pick(c, ARRAY_SIZE(array))])

/* Numbers as bugs like them. */
static inline u64 pick_value(struct choices *c)
{
	u64 v;

	switch (pick(c, 8)) {
	case 0:
		return pick(c, 16);
	case 1:
		return (u64) - (s64)pick(c, 16);
	case 2:
		return BIT64(pick(c, 64));
	case 3:
		return BIT64(pick(c, 64)) - 1;
	case 4:
		return pick(c, 256) << 12;
	case 5:
		v = pick64(c);
		return v >> pick(c, 64);
	case 6:
		return (u64)(s64)(s32)pick64(c);
	default:
		return pick64(c);
	}
}

#endif
