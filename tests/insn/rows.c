// SPDX-License-Identifier: MIT
#include "rows.h"

#include <cpuid.h>
#include <stdio.h>

#include "gen.h"
#include "insn/feature.h"
#include "interp/impl.h"

const struct row_info row_table[] = {
#define INSN(map, opcode, prefix, modrm, name, a, b, c, d, flags, feature)                                             \
	{ #name,	  #prefix, #modrm,	{ OPERAND_##a, OPERAND_##b, OPERAND_##c, OPERAND_##d },		       \
	  OP_##name, flags,	  MAP_##map, 0x##opcode, FEATURE_##feature },
#include "insn/opcodes.def"
#undef INSN
};
const u32 nr_rows = ARRAY_SIZE(row_table);

static const char *const exempt[NR_OPS] = {
#define EXEMPT(name, reason) [OP_##name] = reason,
#include "exempt.def"
#undef EXEMPT
};

static bool host_has(unsigned feature)
{
	const struct feature_bit *f = &insn_features[feature];
	unsigned r[4];

	if (feature <= FEATURE_FPU)
		return true;
	return __get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[f->reg] >> f->bit & 1);
}

const char *op_reason(unsigned op)
{
	return exempt[op];
}

static const char *feature_reason(struct engine *e, unsigned feature)
{
	static char text[NR_FEATURES][64];

	if (!host_has(feature)) {
		snprintf(text[feature], sizeof(text[0]), "this host has no %s", insn_features[feature].name);
		return text[feature];
	}
	if (!engine_has(e, feature)) {
		snprintf(text[feature], sizeof(text[0]), "%s is not in the engine's CPUID",
			 insn_features[feature].name);
		return text[feature];
	}
	return NULL;
}

/* VEX encodings of AES, GFNI and others need AVX as well; those of BMI do not. */
static bool uses_vex_state(const struct row_info *r)
{
	return r->map >= MAP_V0F && r->feature != FEATURE_BMI1 && r->feature != FEATURE_BMI2;
}

const char *row_reason(struct engine *e, const struct row_info *r)
{
	const char *why = exempt[r->op];

	if (why)
		return why;
	if (r->flags & F_N64 && narrow_reason(r, WIDTH_32))
		return "not in 64-bit mode, nor has it a twin there";
	if (uses_vex_state(r))
		why = feature_reason(e, FEATURE_AVX);
	if (!why)
		why = feature_reason(e, r->feature == FEATURE_AVX_AVX2 ? FEATURE_AVX2 : r->feature);
	return why;
}

const char *row_title(const struct row_info *r)
{
	static const char *const maps[NR_MAPS] = { "", "0F ", "0F38 ", "0F3A ", "VEX.0F ", "VEX.0F38 ", "VEX.0F3A " };
	static char text[96];

	snprintf(text, sizeof(text), "%s%02X %s %s %s", maps[r->map], r->opcode, r->prefix, r->modrm, r->name);
	return text;
}
