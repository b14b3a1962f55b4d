// SPDX-License-Identifier: MIT
/* Moves: MOV in its forms, extensions, conditional moves and SETcc, LEA, XLAT, byte order. */
#include "interp/impl.h"

/* ---- MOV ---- */
INLINE int mov_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	reg_write(c, i->dst, size, reg_read(c, i->src, size));
	return ST_OK;
}

INLINE int mov_ri(struct cpu *c, const struct insn *i, unsigned size)
{
	reg_write(c, i->dst, size, i->imm);
	return ST_OK;
}

INLINE int mov_rm(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	u64 v;
	int st = load_at(c, i, size, p, &v);

	if (unlikely(st))
		return st;
	reg_write(c, i->dst, size, v);
	return ST_OK;
}

INLINE int mov_mr(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	return store_at(c, i, size, p, reg_read(c, i->src, size));
}

INLINE int mov_mi(struct cpu *c, const struct insn *i, unsigned size, void *p)
{
	return store_at(c, i, size, p, i->imm);
}

STAMP_REG(mov, RR, mov_rr)
STAMP_REG(mov, RI, mov_ri)
STAMP_MEM(mov, RM, USE_LOAD, mov_rm)
STAMP_MEM(mov, MR, USE_STORE, mov_mr)
STAMP_MEM(mov, MI, USE_STORE, mov_mi)
IMPL_TABLE(mov, RUN_ROW(mov, RR), RUN_ROW(mov, RI), SEG_ROW(mov, RM), SEG_ROW(mov, MR), SEG_ROW(mov, MI));

/* A store that bypasses the caches: only a hint to the guest. */
IMPL_TABLE(movnti, ROW_DWORDS(mov, MR));

INLINE int moffs_load(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v;
	int st = mem_load(c, i->seg, i->imm, size, &v);

	if (unlikely(st))
		return st;
	reg_write(c, RAX * 8, size, v);
	return ST_OK;
}

INLINE int moffs_store(struct cpu *c, const struct insn *i, unsigned size)
{
	return mem_store(c, i->seg, i->imm, size, reg_read(c, RAX * 8, size));
}

STAMP(mov_moffs_load, NONE, moffs_load)
IMPL_TABLE(mov_moffs_load, ROW(mov_moffs_load, NONE));
STAMP(mov_moffs_store, NONE, moffs_store)
IMPL_TABLE(mov_moffs_store, ROW(mov_moffs_store, NONE));

/* A register gets the selector zero-extended to the operand size; memory always 16 bits. */
HANDLER(do_mov_from_sreg)
{
	u16 sel = c->seg[i->src].sel;

	if (i->flags & INSN_MEM)
		return store_operand(c, i, SZ_16, sel);
	reg_write(c, i->dst, i->size, sel);
	return ST_OK;
}
IMPL_ANY(mov_from_sreg, do_mov_from_sreg);

/* ---- extensions: insn::src2 is the size of the source ---- */
INLINE int extend_to(struct cpu *c, const struct insn *i, unsigned size, u64 v, bool sign, unsigned from)
{
	reg_write(c, i->dst, size, sign ? (u64)sign_extend(v, from) : v & size_mask(from));
	return ST_OK;
}

INLINE int extend_rr(struct cpu *c, const struct insn *i, unsigned size, bool sign)
{
	if (i->src2 == SZ_8)
		return extend_to(c, i, size, REG8(c, i->src), sign, SZ_8);
	return extend_to(c, i, size, REG16(c, i->src), sign, SZ_16);
}

static __attribute__((noinline, cold)) int extend_slow(struct cpu *c, const struct insn *i, bool sign)
{
	u64 v = 0;
	int st = mem_read_slow(c, i->seg, insn_ea(c, i), &v, 1u << i->src2);

	if (likely(!st))
		reg_write(c, i->dst, i->size, sign ? (u64)sign_extend(v, i->src2) : v);
	return st;
}

INLINE int extend_at(struct cpu *c, const struct insn *i, unsigned size, const void *p, bool sign)
{
	if (i->src2 == SZ_8)
		return extend_to(c, i, size, host_load(p, SZ_8), sign, SZ_8);
	return extend_to(c, i, size, host_load(p, SZ_16), sign, SZ_16);
}

INLINE int movsxd_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	return extend_to(c, i, size, REG32(c, i->src), true, size == SZ_16 ? SZ_16 : SZ_32);
}

INLINE int movsxd_at(struct cpu *c, const struct insn *i, unsigned size, const void *p, bool sign)
{
	unsigned from = size == SZ_16 ? SZ_16 : SZ_32;

	return extend_to(c, i, size, host_load(p, from), sign, from);
}

/* The source has a size of its own. */
#define EXTEND_TWIN(handler, operand, bits, tmpl, sign)								       \
	HANDLER(handler)											       \
	{													       \
		const void *p = operand(c, i, i->src2, MEM_READ);						       \
														       \
		if (unlikely(!p))										       \
			return thread_slow(c, i);								       \
		tmpl(c, i, SZ_##bits, p, sign);									       \
		return thread_next(c, i);									       \
	}
#define EXTEND_RM_SIZE(name, bits, tmpl, sign)									       \
	HANDLER(name##_RM_##bits)										       \
	{													       \
		const void *p = mem_fast(c, i->seg, insn_ea(c, i), 1u << i->src2, MEM_READ);			       \
														       \
		return likely(p) ? tmpl(c, i, SZ_##bits, p, sign) : extend_slow(c, i, sign);			       \
	}													       \
	EXTEND_TWIN(name##_RM_##bits##_run, thread_operand, bits, tmpl, sign)					       \
	EXTEND_TWIN(name##_RM_##bits##_seg, thread_operand_seg, bits, tmpl, sign)
#define EXTEND_RM(name, tmpl, sign)										       \
	EXTEND_RM_SIZE(name, 16, tmpl, sign)									       \
	EXTEND_RM_SIZE(name, 32, tmpl, sign)									       \
	EXTEND_RM_SIZE(name, 64, tmpl, sign)

STAMP_REG_WORDS(movzx, RR, extend_rr, false)
EXTEND_RM(movzx, extend_at, false)
IMPL_TABLE(movzx, RUN_ROW_WORDS(movzx, RR), SEG_ROW_WORDS(movzx, RM));
STAMP_REG_WORDS(movsx, RR, extend_rr, true)
EXTEND_RM(movsx, extend_at, true)
IMPL_TABLE(movsx, RUN_ROW_WORDS(movsx, RR), SEG_ROW_WORDS(movsx, RM));
STAMP_REG_WORDS(movsxd, RR, movsxd_rr)
EXTEND_RM(movsxd, movsxd_at, true)
IMPL_TABLE(movsxd, RUN_ROW_WORDS(movsxd, RR), SEG_ROW_WORDS(movsxd, RM));

/* CBW, CWDE, CDQE; CWD, CDQ, CQO. The size is that of the result's (lower) register. */
INLINE int cbw(struct cpu *c, const struct insn *i, unsigned size)
{
	(void)i;
	reg_write(c, RAX * 8, size, (u64)sign_extend(c->gpr[RAX], size - 1));
	return ST_OK;
}

INLINE int cwd(struct cpu *c, const struct insn *i, unsigned size)
{
	(void)i;
	reg_write(c, RDX * 8, size, sign_extend(c->gpr[RAX], size) < 0 ? ~0ull : 0);
	return ST_OK;
}

STAMP_REG_WORDS(cbw, NONE, cbw)
IMPL_TABLE(cbw, RUN_ROW_WORDS(cbw, NONE));
STAMP_REG_WORDS(cwd, NONE, cwd)
IMPL_TABLE(cwd, RUN_ROW_WORDS(cwd, NONE));

/* ---- CMOVcc, SETcc ---- */
/* The source is read, and 32 bits are zero-extended, also when the condition is false. */
INLINE int cmov(struct cpu *c, const struct insn *i, unsigned size, u64 v, bool condition)
{
	reg_write(c, i->dst, size, condition ? v : reg_read(c, i->dst, size));
	return ST_OK;
}

INLINE int cmov_rr(struct cpu *c, const struct insn *i, unsigned size, bool condition)
{
	return cmov(c, i, size, reg_read(c, i->src, size), condition);
}

INLINE int cmov_rm(struct cpu *c, const struct insn *i, unsigned size, void *p, bool condition)
{
	u64 v;
	int st = load_at(c, i, size, p, &v);

	return unlikely(st) ? st : cmov(c, i, size, v, condition);
}

#define CMOV(cond, expr)											       \
	STAMP_REG_WORDS(cmov##cond, RR, cmov_rr, condition_##cond(c->cc))					       \
	STAMP_MEM_WORDS(cmov##cond, RM, USE_LOAD, cmov_rm, condition_##cond(c->cc))				       \
	IMPL_TABLE(cmov##cond, RUN_ROW_WORDS(cmov##cond, RR), SEG_ROW_WORDS(cmov##cond, RM));
CONDITIONS(CMOV)

INLINE int set_r(struct cpu *c, const struct insn *i, unsigned size, bool condition)
{
	reg_write(c, i->dst, size, condition);
	return ST_OK;
}

INLINE int set_m(struct cpu *c, const struct insn *i, unsigned size, void *p, bool condition)
{
	return store_at(c, i, size, p, condition);
}

#define SET(cond, expr)												       \
	STAMP_REG_SIZE(set##cond, R, 8, set_r, condition_##cond(c->cc))						       \
	STAMP_MEM_SIZE(set##cond, M, 8, USE_STORE, set_m, condition_##cond(c->cc))				       \
	IMPL_TABLE(set##cond, [FORM_R] = { WITH_RUN(set##cond##_R_8) }, [FORM_M] = { WITH_SEG(set##cond##_M_8) });
CONDITIONS(SET)

/* ---- addresses ---- */
INLINE int lea(struct cpu *c, const struct insn *i, unsigned size)
{
	reg_write(c, i->dst, size, insn_ea(c, i));
	return ST_OK;
}

/* Any segment and mode is the same to it. */
STAMP_REG_WORDS(lea, RM, lea)
#define LEA(bits) { lea_RM_##bits, lea_RM_##bits##_run, lea_RM_##bits##_run }
IMPL_TABLE(lea, [FORM_RM] = { { NULL }, LEA(16), LEA(32), LEA(64) });

HANDLER(do_xlat)
{
	u64 ea = (c->gpr[RBX] + REG8(c, RAX * 8)) & size_mask(i->asize);
	u64 v;
	int st = mem_load(c, i->seg, ea, SZ_8, &v);

	if (unlikely(st))
		return st;
	REG8(c, RAX * 8) = (u8)v;
	return ST_OK;
}
IMPL_ANY(xlat, do_xlat);

/* ---- byte order ---- */
INLINE u64 swap_bytes(u64 v, unsigned size)
{
	switch (size) {
	case SZ_16:
		return __builtin_bswap16((u16)v);
	case SZ_32:
		return __builtin_bswap32((u32)v);
	default:
		return __builtin_bswap64(v);
	}
}

/* With 16 bits the result is undefined: whatever this host makes of it (66 0F C8 is bswap %ax). */
INLINE int bswap(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v = reg_read(c, i->dst, size);

	if (size == SZ_16)
		asm(".byte 0x66, 0x0f, 0xc8" : "+a"(v));
	else
		v = swap_bytes(v, size);
	reg_write(c, i->dst, size, v);
	return ST_OK;
}

INLINE int movbe_rm(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v;
	int st = load_operand(c, i, size, &v);

	if (unlikely(st))
		return st;
	reg_write(c, i->dst, size, swap_bytes(v, size));
	return ST_OK;
}

INLINE int movbe_mr(struct cpu *c, const struct insn *i, unsigned size)
{
	return store_operand(c, i, size, swap_bytes(reg_read(c, i->src, size), size));
}

STAMP_REG_WORDS(bswap, R, bswap)
IMPL_TABLE(bswap, RUN_ROW_WORDS(bswap, R));
STAMP_WORDS(movbe, RM, movbe_rm)
STAMP_WORDS(movbe, MR, movbe_mr)
IMPL_TABLE(movbe, ROW_WORDS(movbe, RM), ROW_WORDS(movbe, MR));
