// SPDX-License-Identifier: MIT
/* From the decoded instruction to its handler: every operation of opcodes.def by name. */
#include <string.h>

#include "cpu/cpuid.h"
#include "insn/feature.h"
#include "interp/impl.h"

#define OP(name) extern const struct impl impl_##name __attribute__((weak));
#include "insn/ops.inc"
#undef OP

static const struct impl *const impls[NR_OPS] = {
#define OP(name) [OP_##name] = &impl_##name,
#include "insn/ops.inc"
#undef OP
};

bool interp_has(unsigned op)
{
	return op < NR_OPS && impls[op];
}

/* ---- instructions that cannot be executed ---- */
int interp_unimplemented(struct cpu *c, const struct insn *i)
{
	u64 base = c->mode == CPU_LONG ? 0 : c->seg[SEG_CS].base;
	u64 lin = (base + c->gpr[R_RIP] - i->len) & c->lin_mask;
	u8 bytes[15] = { 0 };
	int st = mem_read_sys(c, lin, bytes, i->len);

	c->exit.reason = EXIT_INTERNAL;
	c->exit.insn.len = st ? 0 : i->len;
	memcpy(c->exit.insn.bytes, bytes, sizeof(bytes));
	return ST_EXIT;
}

HANDLER(undefined)
{
	(void)i;
	return fault_ud(c);
}

/* ---- features ---- */
/* What the handlers need of the host because they execute the guest's instruction on it. The engine does the rest. */
static const u8 native_features[] = {
	FEATURE_SSE3,  FEATURE_SSSE3,  FEATURE_SSE41,  FEATURE_SSE42, FEATURE_PCLMUL, FEATURE_AES,     FEATURE_SHA,
	FEATURE_GFNI,  FEATURE_CX16,   FEATURE_POPCNT, FEATURE_LZCNT, FEATURE_BMI1,   FEATURE_BMI2,    FEATURE_ADX,
	FEATURE_RDRAND, FEATURE_RDSEED, FEATURE_AVX,    FEATURE_AVX2,  FEATURE_FMA,    FEATURE_F16C,    FEATURE_VAES,
	FEATURE_VPCLMUL,
};

static bool host_has_bit(const struct feature_bit *f)
{
	u32 reg[4];

	cpuid_host(f->leaf, f->subleaf, reg);
	return reg[f->reg] >> f->bit & 1;
}

static bool needs_ymm(unsigned feature)
{
	switch (feature) {
	case FEATURE_AVX:
	case FEATURE_AVX2:
	case FEATURE_FMA:
	case FEATURE_F16C:
	case FEATURE_VAES:
	case FEATURE_VPCLMUL:
		return true;
	default:
		return false;
	}
}

/* One bit for each feature that is missing; bit 0 (FEATURE_BASE) says that the rest is known. */
static u64 find_missing(void)
{
	u64 missing = 1;

	_Static_assert(NR_FEATURES <= 64, "a bit for each");
	for (size_t n = 0; n < ARRAY_SIZE(native_features); n++) {
		unsigned f = native_features[n];

		if (!host_has_bit(&insn_features[f]) || (needs_ymm(f) && !cpuid_host_has_ymm()))
			missing |= BIT64(f);
	}
	return missing;
}

/* A constant of the host, found once, since CPUID traps where the host is a guest itself. */
static bool host_lacks(unsigned feature)
{
	static u64 missing;
	u64 m = __atomic_load_n(&missing, __ATOMIC_RELAXED);

	if (unlikely(!m)) {
		m = find_missing();
		__atomic_store_n(&missing, m, __ATOMIC_RELAXED);
	}
	return feature != FEATURE_BASE && (m & BIT64(feature));
}

/* CPUs without TZCNT and LZCNT ignore the prefix that makes them of BSF and BSR. */
static unsigned effective_op(const struct insn *i)
{
	if (i->op == OP_tzcnt && host_lacks(FEATURE_BMI1))
		return OP_bsf;
	if (i->op == OP_lzcnt && host_lacks(FEATURE_LZCNT))
		return OP_bsr;
	return i->op;
}

static struct handler find_handler(const struct insn *i)
{
	unsigned op = effective_op(i);
	const struct impl *m = op < NR_OPS ? impls[op] : NULL;
	struct handler h = { NULL };

	if (op == i->op && host_lacks(i->feature))
		return (struct handler){ undefined };
	if (!m)
		return (struct handler){ interp_unimplemented };
	if (m->wide && i->vex & 1)
		return (struct handler){ m->wide };
	if (m->sized && i->form < NR_FORMS && i->size <= SZ_64)
		h = m->sized[i->form][i->size];
	if (!h.fn)
		h.fn = m->any;
	return h.fn ? h : (struct handler){ interp_unimplemented };
}

insn_fn interp_bind(const struct insn *i)
{
	return find_handler(i).fn;
}

/* ---- in blocks ---- */
static bool operand_is_flat(const struct insn *i)
{
	return (i->flags & INSN_MODE64) && i->asize == SZ_64 && (i->seg == SEG_FLAT || i->seg == SEG_FLAT_SS);
}

/* RIP-relative becomes block-relative, as RIP is not kept up to date. */
static bool rebase_operand(struct insn *i)
{
	s32 disp;

	if (i->base != R_RIP * 8)
		return true;
	if (__builtin_add_overflow(i->disp, (s32)i->end, &disp))
		return false;
	i->base = R_BLOCK * 8;
	i->disp = disp;
	return true;
}

void interp_bind_block(struct insn *i, unsigned end)
{
	struct handler h = find_handler(i);
	bool mem = i->flags & INSN_MEM;
	insn_fn run = mem && !operand_is_flat(i) ? h.seg : h.run;

	i->fn = h.fn;
	i->run = thread_slow;
	if (host_lacks(i->feature))
		i->feature = FEATURE_ABSENT;
	i->end = (u16)end;
	if (run && (!mem || rebase_operand(i)))
		i->run = run;
}

static int block_end(struct cpu *c, const struct insn *i)
{
	thread_begin(c, i);
	return ST_END;
}

void interp_bind_end(struct insn *i, unsigned end)
{
	*i = (struct insn){ .fn = block_end, .run = block_end, .end = (u16)end };
}
