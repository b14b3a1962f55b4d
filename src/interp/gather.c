/* SPDX-License-Identifier: MIT */
/* AVX2 gathers: elements from addresses in a vector register, under a mask that tells how far it has come. */
#include "interp/avx.h"

/* Elements and indices have 4 or 8 bytes each; the wider ones fill a register of VEX.L. */
struct gather {
	u8 dst[32], mask[32];
	unsigned n;
};

static void gather_begin(struct cpu *c, const struct insn *i, struct gather *g, unsigned size, unsigned index_size)
{
	unsigned wider = size > index_size ? size : index_size;

	g->n = (i->vex & 1 ? 32 : 16) >> wider;
	memcpy(g->dst, c->fpu.vec[i->dst], 32);
	memcpy(g->mask, c->fpu.vec[i->src2], 32);
}

static bool gather_wants(const struct gather *g, unsigned k, unsigned size)
{
	return g->mask[((k + 1) << size) - 1] & 0x80;
}

static u64 element_address(struct cpu *c, const struct insn *i, unsigned k, unsigned index_size)
{
	const u8 *at = c->fpu.vec[i->index] + (k << index_size);
	u64 base = *(const u64 *)((const char *)c->gpr + i->base);
	s64 index = index_size == SZ_32 ? *(const s32 *)at : *(const s64 *)at;
	u64 ea = base + ((u64)index << i->scale) + (s64)i->disp;

	return i->asize == SZ_32 ? (u32)ea : ea;
}

static void gather_commit(struct cpu *c, const struct insn *i, const struct gather *g)
{
	memcpy(c->fpu.vec[i->dst], g->dst, 32);
	memcpy(c->fpu.vec[i->src2], g->mask, 32);
}

/* All is there: the mask is zero, and so is the destination above its elements. */
static void gather_finish(struct gather *g, unsigned size)
{
	memset(g->dst + (g->n << size), 0, 32 - (g->n << size));
	memset(g->mask, 0, 32);
}

/*
 * From the lowest element up. A fault leaves those before it in the destination, and their mask elements clear, so that
 * the instruction goes on where it was; of the rest of both registers nothing changes (SDM vol. 2, VPGATHERDD). While a
 * device has to be asked, nothing has happened: the elements that it answered are in cpu::io.
 */
INLINE int gather(struct cpu *c, const struct insn *i, unsigned size, unsigned index_size)
{
	struct gather g;
	int st = fpu_check(c, FPU_TRAP_AVX);
	u64 ac;

	if (unlikely(st))
		return st;
	ac = avx_suspend_ac(c);
	gather_begin(c, i, &g, size, index_size);
	for (unsigned k = 0; k < g.n && !st; k++) {
		if (gather_wants(&g, k, size))
			st = mem_read(c, i->seg, element_address(c, i, k, index_size), g.dst + (k << size),
				      1u << size);
		if (likely(!st))
			memset(g.mask + (k << size), 0, 1u << size);
	}
	avx_resume_ac(c, ac);
	if (likely(!st))
		gather_finish(&g, size);
	if (st == ST_OK || st == ST_FAULT)
		gather_commit(c, i, &g);
	return st;
}

#define GATHER(op, size, index_size)                                                                                   \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		return gather(c, i, size, index_size);                                                                 \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

GATHER(vpgatherdd, SZ_32, SZ_32)
GATHER(vpgatherqd, SZ_32, SZ_64)
GATHER(vpgatherdq, SZ_64, SZ_32)
GATHER(vpgatherqq, SZ_64, SZ_64)
GATHER(vgatherdps, SZ_32, SZ_32)
GATHER(vgatherqps, SZ_32, SZ_64)
GATHER(vgatherdpd, SZ_64, SZ_32)
GATHER(vgatherqpd, SZ_64, SZ_64)
