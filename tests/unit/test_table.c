// SPDX-License-Identifier: MIT
/* Every encoding that the decoder accepts, in every mode, has a handler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "interp/impl.h"

static bool missing[NR_OPS];

static void look(const u8 *bytes, enum decode_mode mode)
{
	struct insn i;

	if (insn_decode(bytes, 15, mode, &i) <= 0 || missing[i.op])
		return;
	if (interp_bind(&i) != interp_unimplemented)
		return;
	missing[i.op] = true;
	print_message("%s: form %u, size %u, mode %u, e.g. %02x %02x %02x %02x %02x %02x\n", insn_op_name(i.op), i.form,
		      i.size, mode, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]);
}

/* bytes has a prefix of n bytes; all opcodes and ModRM bytes behind it. */
static void look_at_opcodes(u8 *bytes, unsigned n, enum decode_mode mode)
{
	for (unsigned opcode = 0; opcode < 256; opcode++)
		for (unsigned modrm = 0; modrm < 256; modrm++) {
			bytes[n] = (u8)opcode;
			bytes[n + 1] = (u8)modrm;
			look(bytes, mode);
		}
}

static void look_at_maps(const u8 *prefix, unsigned n, enum decode_mode mode)
{
	static const struct {
		u8 len, bytes[2];
	} maps[] = { { 0, { 0 } }, { 1, { 0x0f } }, { 2, { 0x0f, 0x38 } }, { 2, { 0x0f, 0x3a } } };

	for (size_t m = 0; m < ARRAY_SIZE(maps); m++) {
		u8 bytes[32] = { 0 };

		memcpy(bytes, prefix, n);
		memcpy(bytes + n, maps[m].bytes, maps[m].len);
		look_at_opcodes(bytes, n + maps[m].len, mode);
	}
}

static void look_at_vex(enum decode_mode mode)
{
	for (unsigned map = 1; map <= 3; map++)
		for (unsigned wlpp = 0; wlpp < 16; wlpp++) {
			u8 bytes[32] = { 0xc4, (u8)(0xe0 | map), (u8)((wlpp & 8) << 4 | 0x78 | (wlpp & 7)) };

			look_at_opcodes(bytes, 3, mode);
			bytes[2] = (u8)((wlpp & 8) << 4 | (wlpp & 7));
			look_at_opcodes(bytes, 3, mode);
		}
}

static void every_encoding_has_a_handler(void **state)
{
	static const struct {
		u8 len, bytes[3];
	} prefixes[] = {
		{ 0, { 0 } },    { 1, { 0x66 } }, { 1, { 0xf2 } },       { 1, { 0xf3 } },       { 1, { 0xf0 } },
		{ 1, { 0x67 } }, { 1, { 0x48 } }, { 2, { 0x66, 0x48 } }, { 2, { 0xf2, 0x48 } }, { 2, { 0xf3, 0x48 } },
		{ 2, { 0xf0, 0x48 } }, { 2, { 0x66, 0xf0 } }, { 2, { 0x66, 0xf2 } }, { 2, { 0x66, 0xf3 } },
	};

	(void)state;
	for (unsigned mode = DECODE_16_REAL; mode <= DECODE_64; mode++) {
		for (size_t p = 0; p < ARRAY_SIZE(prefixes); p++)
			look_at_maps(prefixes[p].bytes, prefixes[p].len, mode);
		look_at_vex(mode);
	}
	for (unsigned op = 1; op < NR_OPS; op++) {
		bool none = !interp_has(op);

		if (none)
			print_message("%s: no implementation at all\n", insn_op_name(op));
		missing[0] |= missing[op] || none;
	}
	assert_false(missing[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_encoding_has_a_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
