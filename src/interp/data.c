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

STAMP(mov, RR, mov_rr)
STAMP(mov, RI, mov_ri)
STAMP_MEM(mov, RM, USE_LOAD, mov_rm)
STAMP_MEM(mov, MR, USE_STORE, mov_mr)
STAMP_MEM(mov, MI, USE_STORE, mov_mi)
IMPL_TABLE(mov, ROW(mov, RR), ROW(mov, RI), ROW(mov, RM), ROW(mov, MR), ROW(mov, MI));

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

INLINE int extend_rm(struct cpu *c, const struct insn *i, unsigned size, bool sign)
{
	const void *p = mem_fast(c, i->seg, insn_ea(c, i), 1u << i->src2, MEM_READ);

	if (unlikely(!p))
		return extend_slow(c, i, sign);
	if (i->src2 == SZ_8)
		return extend_to(c, i, size, host_load(p, SZ_8), sign, SZ_8);
	return extend_to(c, i, size, host_load(p, SZ_16), sign, SZ_16);
}

INLINE int movsxd_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	return extend_to(c, i, size, REG32(c, i->src), true, size == SZ_16 ? SZ_16 : SZ_32);
}

INLINE int movsxd_rm(struct cpu *c, const struct insn *i, unsigned size)
{
	unsigned from = size == SZ_16 ? SZ_16 : SZ_32;
	const void *p = mem_fast(c, i->seg, insn_ea(c, i), 1u << from, MEM_READ);

	return likely(p) ? extend_to(c, i, size, host_load(p, from), true, from) : extend_slow(c, i, true);
}

STAMP_WORDS(movzx, RR, extend_rr, false)
STAMP_WORDS(movzx, RM, extend_rm, false)
IMPL_TABLE(movzx, ROW_WORDS(movzx, RR), ROW_WORDS(movzx, RM));
STAMP_WORDS(movsx, RR, extend_rr, true)
STAMP_WORDS(movsx, RM, extend_rm, true)
IMPL_TABLE(movsx, ROW_WORDS(movsx, RR), ROW_WORDS(movsx, RM));
STAMP_WORDS(movsxd, RR, movsxd_rr)
STAMP_WORDS(movsxd, RM, movsxd_rm)
IMPL_TABLE(movsxd, ROW_WORDS(movsxd, RR), ROW_WORDS(movsxd, RM));

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
	reg_write(c, RDX * 8, size, (u64)(sign_extend(c->gpr[RAX], size) >> 63));
	return ST_OK;
}

STAMP_WORDS(cbw, NONE, cbw)
IMPL_TABLE(cbw, ROW_WORDS(cbw, NONE));
STAMP_WORDS(cwd, NONE, cwd)
IMPL_TABLE(cwd, ROW_WORDS(cwd, NONE));

/* ---- CMOVcc, SETcc ---- */
/* The source is read, and 32 bits are zero-extended, also when the condition is false. */
INLINE int cmov(struct cpu *c, const struct insn *i, unsigned size, u64 v, bool condition)
{
	reg_write(c, i->dst, size, condition ? v : reg_read(c, i->dst, size));
	return ST_OK;
}

INLINE int cmov_rm(struct cpu *c, const struct insn *i, unsigned size, bool condition)
{
	u64 v;
	int st = load_operand(c, i, size, &v);

	return unlikely(st) ? st : cmov(c, i, size, v, condition);
}

#define CMOV_SIZE(name, bits, expr)										       \
	HANDLER(name##_RR_##bits)										       \
	{													       \
		u64 cc = c->cc;											       \
														       \
		return cmov(c, i, SZ_##bits, reg_read(c, i->src, SZ_##bits), expr);				       \
	}													       \
	HANDLER(name##_RM_##bits)										       \
	{													       \
		u64 cc = c->cc;											       \
														       \
		return cmov_rm(c, i, SZ_##bits, expr);								       \
	}
#define CMOV(cond, expr)											       \
	CMOV_SIZE(cmov##cond, 16, expr)										       \
	CMOV_SIZE(cmov##cond, 32, expr)										       \
	CMOV_SIZE(cmov##cond, 64, expr)										       \
	IMPL_TABLE(cmov##cond, ROW_WORDS(cmov##cond, RR), ROW_WORDS(cmov##cond, RM));
CONDITIONS(CMOV)

#define SET(cond, expr)												       \
	HANDLER(set##cond##_R)											       \
	{													       \
		u64 cc = c->cc;											       \
														       \
		REG8(c, i->dst) = (expr) ? 1 : 0;								       \
		return ST_OK;											       \
	}													       \
	HANDLER(set##cond##_M)											       \
	{													       \
		u64 cc = c->cc;											       \
														       \
		return store_operand(c, i, SZ_8, (expr) ? 1 : 0);						       \
	}													       \
	IMPL_TABLE(set##cond, [FORM_R] = { set##cond##_R }, [FORM_M] = { set##cond##_M });
CONDITIONS(SET)

/* ---- addresses ---- */
INLINE int lea(struct cpu *c, const struct insn *i, unsigned size)
{
	reg_write(c, i->dst, size, insn_ea(c, i));
	return ST_OK;
}

STAMP_WORDS(lea, RM, lea)
IMPL_TABLE(lea, ROW_WORDS(lea, RM));

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

STAMP_WORDS(bswap, R, bswap)
IMPL_TABLE(bswap, ROW_WORDS(bswap, R));
STAMP_WORDS(movbe, RM, movbe_rm)
STAMP_WORDS(movbe, MR, movbe_mr)
IMPL_TABLE(movbe, ROW_WORDS(movbe, RM), ROW_WORDS(movbe, MR));
