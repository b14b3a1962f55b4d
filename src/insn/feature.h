/* SPDX-License-Identifier: MIT */
/* CPU features that instructions belong to; insn::feature. The list is features.def. */
#ifndef UKVM_INSN_FEATURE_H
#define UKVM_INSN_FEATURE_H

#include "cpu/types.h"

enum insn_feature {
	FEATURE_BASE,
	FEATURE_FPU,
#define FEATURE(name, leaf, subleaf, reg, bit) FEATURE_##name,
#include "insn/features.def"
#undef FEATURE
	NR_FEATURES,
	FEATURE_ABSENT = 0xff, /* insn::feature in a block: this host does not have it */
};

/* Where CPUID has the bit: reg is 0 to 3 for EAX, EBX, ECX, EDX. All zero for FEATURE_BASE and FEATURE_FPU. */
struct feature_bit {
	const char *name;
	u32 leaf;
	u8 subleaf, reg, bit;
};
extern const struct feature_bit insn_features[NR_FEATURES];

#endif
