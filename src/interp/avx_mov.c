/* SPDX-License-Identifier: MIT */
/* AVX moves: registers and memory, whole, in parts and under a mask; VZEROUPPER, MXCSR. */
#include "interp/avx.h"

/* ---- whole registers ---- */

/* VMOVAPS and its kin, and the non-temporal moves: the only VEX instructions that ask for an aligned address. */
INLINE int check_aligned(struct cpu *c, const struct insn *i, unsigned bytes)
{
	if (unlikely((c->seg[i->seg].base + insn_ea(c, i)) & (bytes - 1)))
		return fault_gp(c, 0);
	return ST_OK;
}

AVX_INLINE int store_whole(struct cpu *c, const struct insn *i, bool wide)
{
	u64 ea = insn_ea(c, i);
	void *p = mem_fast(c, i->seg, ea, avx_bytes(wide), MEM_WRITE);

	if (unlikely(!p))
		return mem_write_slow(c, i->seg, ea, c->fpu.vec[i->src], avx_bytes(wide));
	if (wide)
		*(v256_un *)p = YMM(c, i->src);
	else
		*(v128_un *)p = XMM(c, i->src);
	return ST_OK;
}

AVX_INLINE int move_whole(struct cpu *c, const struct insn *i, bool wide, enum alignment how)
{
	const void *p;
	v256 v;
	int st = avx_begin(c);

	if (likely(!st) && how == ALIGNED && i->flags & INSN_MEM)
		st = check_aligned(c, i, avx_bytes(wide));
	if (unlikely(st))
		return st;
	if (i->form == FORM_MR)
		return store_whole(c, i, wide);
	st = avx_operand(c, i, i->src, avx_bytes(wide), &p);
	if (unlikely(st))
		return st;
	AVX_RUN2("vmovdqu", v, p);
	YMM(c, i->dst) = v;
	return ST_OK;
}

#define AVX_MOVE(op, how)                                                                                              \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		return move_whole(c, i, wide, how);                                                                    \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_MOVE(vmovaps, ALIGNED)
AVX_MOVE(vmovapd, ALIGNED)
AVX_MOVE(vmovdqa, ALIGNED)
AVX_MOVE(vmovups, UNALIGNED)
AVX_MOVE(vmovupd, UNALIGNED)
AVX_MOVE(vmovdqu, UNALIGNED)
AVX_MOVE(vlddqu, UNALIGNED)
AVX_MOVE(vmovntdqa, ALIGNED)
AVX_MOVE(vmovntdq, ALIGNED)
AVX_MOVE(vmovntps, ALIGNED)
AVX_MOVE(vmovntpd, ALIGNED)

/* ---- scalars ---- */

/* A load clears all above; between registers, the rest of the low half comes from the second operand. */
INLINE int move_scalar(struct cpu *c, const struct insn *i, unsigned bytes)
{
	union vec d = { 0 };
	int st;

	if (avx_begin(c))
		return ST_FAULT;
	if (i->form == FORM_MR)
		return mem_write(c, i->seg, insn_ea(c, i), c->fpu.vec[i->src], bytes);
	if (i->flags & INSN_MEM) {
		st = mem_read(c, i->seg, insn_ea(c, i), &d, bytes);
		if (unlikely(st))
			return st;
	} else {
		d.v = XMM(c, i->src);
		memcpy(&d, c->fpu.vec[i->src2], bytes);
	}
	xmm_set(c, i->dst, d.v);
	return ST_OK;
}

HANDLER(do_vmovss)
{
	return move_scalar(c, i, 4);
}
IMPL_ANY(vmovss, do_vmovss);

HANDLER(do_vmovsd)
{
	return move_scalar(c, i, 8);
}
IMPL_ANY(vmovsd, do_vmovsd);

HANDLER(do_vmovq)
{
	u64 v;

	if (avx_begin(c))
		return ST_FAULT;
	v = XMM(c, i->src)[0];
	if (i->form == FORM_MR)
		return mem_write(c, i->seg, insn_ea(c, i), &v, 8);
	if (i->flags & INSN_MEM) {
		int st = mem_read(c, i->seg, insn_ea(c, i), &v, 8);

		if (unlikely(st))
			return st;
	}
	xmm_set(c, i->dst, (v128){ v, 0 });
	return ST_OK;
}
IMPL_ANY(vmovq, do_vmovq);

HANDLER(do_vmovd_to_xmm)
{
	u64 v;
	int st = avx_begin(c);

	if (unlikely(st))
		return st;
	if (i->flags & INSN_MEM)
		st = i->size == SZ_64 ? load_operand(c, i, SZ_64, &v) : load_operand(c, i, SZ_32, &v);
	else
		v = i->size == SZ_64 ? REG64(c, i->src) : REG32(c, i->src);
	if (unlikely(st))
		return st;
	xmm_set(c, i->dst, (v128){ v, 0 });
	return ST_OK;
}
IMPL_ANY(vmovd_to_xmm, do_vmovd_to_xmm);

HANDLER(do_vmovd_from_xmm)
{
	u64 v;

	if (avx_begin(c))
		return ST_FAULT;
	v = XMM(c, i->src)[0];
	if (i->flags & INSN_MEM)
		return i->size == SZ_64 ? store_operand(c, i, SZ_64, v) : store_operand(c, i, SZ_32, v);
	REG64(c, i->dst) = i->size == SZ_64 ? v : (u32)v;
	return ST_OK;
}
IMPL_ANY(vmovd_from_xmm, do_vmovd_from_xmm);

/* ---- 64-bit halves ---- */
INLINE int move_half(struct cpu *c, const struct insn *i, unsigned half)
{
	v128 d;
	u64 v;
	int st;

	if (avx_begin(c))
		return ST_FAULT;
	if (i->form == FORM_MR)
		return mem_write(c, i->seg, insn_ea(c, i), &((u64 *)c->fpu.vec[i->src])[half], 8);
	st = mem_read(c, i->seg, insn_ea(c, i), &v, 8);
	if (unlikely(st))
		return st;
	d = XMM(c, i->src);
	d[half] = v;
	xmm_set(c, i->dst, d);
	return ST_OK;
}

#define AVX_HALF(op, half)                                                                                             \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		return move_half(c, i, half);                                                                          \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_HALF(vmovlps, 0)
AVX_HALF(vmovlpd, 0)
AVX_HALF(vmovhps, 1)
AVX_HALF(vmovhpd, 1)

HANDLER(do_vmovhlps)
{
	if (avx_begin(c))
		return ST_FAULT;
	xmm_set(c, i->dst, (v128){ XMM(c, i->src2)[1], XMM(c, i->src)[1] });
	return ST_OK;
}
IMPL_ANY(vmovhlps, do_vmovhlps);

HANDLER(do_vmovlhps)
{
	if (avx_begin(c))
		return ST_FAULT;
	xmm_set(c, i->dst, (v128){ XMM(c, i->src)[0], XMM(c, i->src2)[0] });
	return ST_OK;
}
IMPL_ANY(vmovlhps, do_vmovlhps);

/* ---- duplicates ---- */
#define AVX_DUPLICATE(op, bytes)                                                                                       \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		const void *p;                                                                                         \
		v256 d;                                                                                                \
		int st = avx_fetch(c, i, wide ? 32 : (bytes), &p);                                                     \
														       \
		if (unlikely(st))                                                                                      \
			return st;                                                                                     \
		if (wide)                                                                                              \
			asm(#op " %[s], %t[d]" : [d] "=x"(d) : [s] AT_BYTES(p, 32));                                   \
		else                                                                                                   \
			asm(#op " %[s], %x[d]" : [d] "=x"(d) : [s] AT_BYTES(p, bytes));                                \
		YMM(c, i->dst) = d;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_DUPLICATE(vmovddup, 8)
AVX_DUPLICATE(vmovsldup, 16)
AVX_DUPLICATE(vmovshdup, 16)

/* ---- under a mask: elements without its sign bit are neither read nor written, and cannot fault ---- */

INLINE bool selected(const struct cpu *c, unsigned mask, unsigned k, unsigned size)
{
	return c->fpu.vec[mask][((k + 1) << size) - 1] & 0x80;
}

/* Element by element: some of them may be in pages that are not there. */
static int masked_load_slow(struct cpu *c, const struct insn *i, unsigned bytes, unsigned size)
{
	u64 ea = insn_ea(c, i);

	memset(c->bounce, 0, 32);
	for (unsigned k = 0; k < bytes >> size; k++) {
		int st = ST_OK;

		if (selected(c, i->src, k, size))
			st = mem_read_slow(c, i->seg, ea + (k << size), (u8 *)c->bounce + (k << size), 1u << size);
		if (st)
			return st;
	}
	memcpy(c->fpu.vec[i->dst], c->bounce, 32);
	return ST_OK;
}

/* What an element stores must not be seen if a later one faults. */
static int masked_store_slow(struct cpu *c, const struct insn *i, unsigned bytes, unsigned size)
{
	u64 ea = insn_ea(c, i);
	int st = ST_OK;

	for (unsigned k = 0; k < bytes >> size && !st; k++)
		if (selected(c, i->src, k, size))
			st = mem_probe(c, i->seg, ea + (k << size), 1u << size, MEM_WRITE);
	for (unsigned k = 0; k < bytes >> size && !st; k++)
		if (selected(c, i->src, k, size))
			st = mem_write_slow(c, i->seg, ea + (k << size), c->fpu.vec[i->src2] + (k << size), 1u << size);
	return st;
}

static int masked_slow(struct cpu *c, const struct insn *i, unsigned bytes, unsigned size, bool store)
{
	u64 ac = avx_suspend_ac(c);
	int st = store ? masked_store_slow(c, i, bytes, size) : masked_load_slow(c, i, bytes, size);

	avx_resume_ac(c, ac);
	return st;
}

/* Load: dst, mask src, memory. Store: memory, mask src, src2. text is of an instruction with that size of elements. */
#define AVX_MASKMOV(op, size, text)                                                                                    \
	AVX_INLINE int op##_avx(struct cpu *c, const struct insn *i, bool wide)                                        \
	{                                                                                                              \
		bool store = i->form == FORM_MR;                                                                       \
		void *p;                                                                                               \
		v256 v;                                                                                                \
														       \
		if (avx_begin(c))                                                                                      \
			return ST_FAULT;                                                                               \
		p = mem_fast(c, i->seg, insn_ea(c, i), avx_bytes(wide), store ? MEM_WRITE : MEM_READ);                 \
		if (unlikely(!p))                                                                                      \
			return masked_slow(c, i, avx_bytes(wide), size, store);                                        \
		if (store && wide)                                                                                     \
			asm volatile(text " %t[v], %t[m], %[p]"                                                        \
				     : [p] "+m"(*(u8(*)[32])p)                                                         \
				     : [m] "x"(YMM(c, i->src)), [v] "x"(YMM(c, i->src2)));                             \
		else if (store)                                                                                        \
			asm volatile(text " %x[v], %x[m], %[p]"                                                        \
				     : [p] "+m"(*(u8(*)[16])p)                                                         \
				     : [m] "x"(YMM(c, i->src)), [v] "x"(YMM(c, i->src2)));                             \
		if (store)                                                                                             \
			return ST_OK;                                                                                  \
		AVX_RUN3(text, v, YMM(c, i->src), p);                                                                  \
		YMM(c, i->dst) = v;                                                                                    \
		return ST_OK;                                                                                          \
	}                                                                                                              \
	AVX_BOTH(op)

AVX_MASKMOV(vmaskmovps, SZ_32, "vmaskmovps")
AVX_MASKMOV(vmaskmovpd, SZ_64, "vmaskmovpd")
AVX_MASKMOV(vpmaskmovd, SZ_32, "vmaskmovps")
AVX_MASKMOV(vpmaskmovq, SZ_64, "vmaskmovpd")

/* ---- the registers as a whole ---- */
INLINE int clear_from(struct cpu *c, const struct insn *i, unsigned from)
{
	if (avx_begin(c))
		return ST_FAULT;
	/* The registers of the mode (SDM vol. 2, VZEROALL, VZEROUPPER). */
	for (unsigned r = 0; r < (i->flags & INSN_MODE64 ? 16 : 8); r++)
		memset(c->fpu.vec[r] + from, 0, 64 - from);
	return ST_OK;
}

HANDLER(do_vzeroupper)
{
	return clear_from(c, i, 16);
}
IMPL_ANY(vzeroupper, do_vzeroupper);

HANDLER(do_vzeroall)
{
	return clear_from(c, i, 0);
}
IMPL_ANY(vzeroall, do_vzeroall);

/* ---- what has no VEX form of its own: the SSE instruction under AVX's conditions ---- */
#define AVX_LIKE_SSE(op, sse)                                                                                          \
	HANDLER(do_##op)                                                                                               \
	{                                                                                                              \
		int st = avx_begin(c);                                                                                 \
														       \
		return unlikely(st) ? st : sse(c, i);                                                                  \
	}                                                                                                              \
	IMPL_ANY(op, do_##op);

AVX_LIKE_SSE(vmaskmovdqu, simd_maskmovdqu)
AVX_LIKE_SSE(vldmxcsr, simd_ldmxcsr)
AVX_LIKE_SSE(vstmxcsr, simd_stmxcsr)
