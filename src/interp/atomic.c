// SPDX-License-Identifier: MIT
/*
 * Exchanges. With a LOCK prefix, and for XCHG with memory always, the host's LOCKed instruction works on the guest's
 * memory itself, and so is atomic for other vCPUs and the client.
 */
#include "interp/impl.h"

/* ---- XCHG, XADD: the old destination goes to the source register ---- */
typedef u64 (*swap_core)(void *p, u64 s, unsigned size, u64 *fl);

#define SWAP_CASE(bits, text, FL)										       \
	case SZ_##bits:												       \
		asm volatile(text AFTER_##FL : [m] "+m"(*(u8 *)p), [s] "+q"(s), OUT_##FL(*fl) : : "cc", "memory");     \
		break;
#define SWAP_CORE(name, mnem, FL)										       \
	INLINE u64 name(void *p, u64 s, unsigned size, u64 *fl)							       \
	{													       \
		switch (size) {											       \
			SWAP_CASE(8, mnem "b %b[s], %[m]", FL)							       \
			SWAP_CASE(16, mnem "w %w[s], %[m]", FL)							       \
			SWAP_CASE(32, mnem "l %k[s], %[m]", FL)							       \
			SWAP_CASE(64, mnem "q %q[s], %[m]", FL)							       \
		}												       \
		return s;											       \
	}

SWAP_CORE(xchg_mem, "xchg", KEEP)
SWAP_CORE(xadd_mem, "xadd", NONE)
SWAP_CORE(xadd_lock, "lock xadd", NONE)

INLINE int swap_mr(struct cpu *c, const struct insn *i, unsigned size, swap_core op)
{
	u64 fl = c->cc, old;
	struct mem_rmw a;
	int st = mem_rmw(c, i->seg, insn_ea(c, i), 1u << size, &a);

	if (unlikely(st))
		return st;
	old = op(a.p, reg_read(c, i->src, size), size, &fl);
	st = mem_rmw_done(c, &a);
	if (unlikely(st))
		return st;
	reg_write(c, i->src, size, old);
	c->cc = fl;
	return ST_OK;
}

INLINE int xchg_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 d = reg_read(c, i->dst, size), s = reg_read(c, i->src, size);

	reg_write(c, i->src, size, d);
	reg_write(c, i->dst, size, s);
	return ST_OK;
}

/* If both are one register, the sum stays. */
INLINE int xadd_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 d = reg_read(c, i->dst, size), fl = c->cc;
	u64 s = xadd_mem(&d, reg_read(c, i->src, size), size, &fl);

	reg_write(c, i->src, size, s);
	reg_write(c, i->dst, size, d);
	c->cc = fl;
	return ST_OK;
}

STAMP(xchg, RR, xchg_rr)
STAMP(xchg, MR, swap_mr, xchg_mem)
STAMP(xchg, LMR, swap_mr, xchg_mem)
IMPL_TABLE(xchg, ROW(xchg, RR), ROW(xchg, MR), ROW(xchg, LMR));

STAMP(xadd, RR, xadd_rr)
STAMP(xadd, MR, swap_mr, xadd_mem)
STAMP(xadd, LMR, swap_mr, xadd_lock)
IMPL_TABLE(xadd, ROW(xadd, RR), ROW(xadd, MR), ROW(xadd, LMR));

/* ---- CMPXCHG: writes memory in any case, as hardware does ---- */
typedef void (*cmpxchg_core)(void *p, u64 *ax, u64 s, unsigned size, u64 *fl);

#define CMPXCHG_CASE(bits, text)										       \
	case SZ_##bits:												       \
		asm volatile(text FLAGS_OUT_STACK								       \
			     : [m] "+m"(*(u8 *)p), "+a"(*ax), [fl] "=r"(*fl) : [s] "q"(s) : "cc", "memory");	       \
		break;
#define CMPXCHG_CORE(name, lock)										       \
	INLINE void name(void *p, u64 *ax, u64 s, unsigned size, u64 *fl)					       \
	{													       \
		switch (size) {											       \
			CMPXCHG_CASE(8, lock "cmpxchgb %b[s], %[m]")						       \
			CMPXCHG_CASE(16, lock "cmpxchgw %w[s], %[m]")						       \
			CMPXCHG_CASE(32, lock "cmpxchgl %k[s], %[m]")						       \
			CMPXCHG_CASE(64, lock "cmpxchgq %q[s], %[m]")						       \
		}												       \
	}

CMPXCHG_CORE(cmpxchg_mem, "")
CMPXCHG_CORE(cmpxchg_lock, "lock ")

INLINE int cmpxchg_mr(struct cpu *c, const struct insn *i, unsigned size, cmpxchg_core op)
{
	u64 ax = c->gpr[RAX], fl;
	struct mem_rmw a;
	int st = mem_rmw(c, i->seg, insn_ea(c, i), 1u << size, &a);

	if (unlikely(st))
		return st;
	op(a.p, &ax, reg_read(c, i->src, size), size, &fl);
	st = mem_rmw_done(c, &a);
	if (unlikely(st))
		return st;
	c->gpr[RAX] = ax;
	c->cc = fl;
	return ST_OK;
}

/* 32-bit registers are written whole, as the host leaves them. RAX first: it may be the destination, too. */
INLINE int cmpxchg_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 ax = c->gpr[RAX], s = reg_read(c, i->src, size), d, fl;

	switch (size) {
	case SZ_8:
		d = REG8(c, i->dst);
		asm("cmpxchgb %b[s], %b[d]" FLAGS_OUT_STACK : [d] "+q"(d), "+a"(ax), [fl] "=r"(fl) : [s] "q"(s) : "cc");
		break;
	case SZ_16:
		d = REG16(c, i->dst);
		asm("cmpxchgw %w[s], %w[d]" FLAGS_OUT_STACK : [d] "+r"(d), "+a"(ax), [fl] "=r"(fl) : [s] "r"(s) : "cc");
		break;
	case SZ_32:
		d = REG64(c, i->dst);
		asm("cmpxchgl %k[s], %k[d]" FLAGS_OUT_STACK : [d] "+r"(d), "+a"(ax), [fl] "=r"(fl) : [s] "r"(s) : "cc");
		break;
	default:
		d = REG64(c, i->dst);
		asm("cmpxchgq %q[s], %q[d]" FLAGS_OUT_STACK : [d] "+r"(d), "+a"(ax), [fl] "=r"(fl) : [s] "r"(s) : "cc");
	}
	c->gpr[RAX] = ax;
	reg_write(c, i->dst, size == SZ_32 ? SZ_64 : size, d);
	c->cc = fl;
	return ST_OK;
}

STAMP(cmpxchg, RR, cmpxchg_rr)
STAMP(cmpxchg, MR, cmpxchg_mr, cmpxchg_mem)
STAMP(cmpxchg, LMR, cmpxchg_mr, cmpxchg_lock)
IMPL_TABLE(cmpxchg, ROW(cmpxchg, RR), ROW(cmpxchg, MR), ROW(cmpxchg, LMR));

/* ---- CMPXCHG8B, CMPXCHG16B: only ZF changes; registers only on failure ---- */
typedef bool (*pair_core)(void *p, u64 *ax, u64 *dx, u64 bx, u64 cx);

#define PAIR_CORE(name, text)											       \
	INLINE bool name(void *p, u64 *ax, u64 *dx, u64 bx, u64 cx)						       \
	{													       \
		bool equal;											       \
														       \
		asm volatile(text : "+m"(*(u8 *)p), "+a"(*ax), "+d"(*dx), "=@ccz"(equal)			       \
			     : "b"(bx), "c"(cx) : "memory");							       \
		return equal;											       \
	}

PAIR_CORE(cmpxchg8b_mem, "cmpxchg8b %0")
PAIR_CORE(cmpxchg8b_lock, "lock cmpxchg8b %0")
PAIR_CORE(cmpxchg16b_mem, "cmpxchg16b %0")
PAIR_CORE(cmpxchg16b_lock, "lock cmpxchg16b %0")

/* size is that of one half. */
INLINE int cmpxchg_pair(struct cpu *c, const struct insn *i, unsigned size, pair_core op)
{
	u64 ax = c->gpr[RAX], dx = c->gpr[RDX];
	struct mem_rmw a;
	bool equal;
	int st = mem_rmw(c, i->seg, insn_ea(c, i), 2u << size, &a);

	if (unlikely(st))
		return st;
	equal = op(a.p, &ax, &dx, c->gpr[RBX], c->gpr[RCX]);
	st = mem_rmw_done(c, &a);
	if (unlikely(st))
		return st;
	if (!equal) {
		reg_write(c, RAX * 8, size, ax);
		reg_write(c, RDX * 8, size, dx);
	}
	c->cc = (c->cc & ~FL_ZF) | (equal ? FL_ZF : 0);
	return ST_OK;
}

HANDLER(cmpxchg8b_M)
{
	return cmpxchg_pair(c, i, SZ_32, cmpxchg8b_mem);
}

HANDLER(cmpxchg8b_LM)
{
	return cmpxchg_pair(c, i, SZ_32, cmpxchg8b_lock);
}

/* CMPXCHG16B has to be aligned in the linear address space. */
INLINE int cmpxchg16b(struct cpu *c, const struct insn *i, pair_core op)
{
	if (unlikely((c->seg[i->seg].base + insn_ea(c, i)) & 15))
		return fault_gp(c, 0);
	return cmpxchg_pair(c, i, SZ_64, op);
}

HANDLER(cmpxchg16b_M)
{
	return cmpxchg16b(c, i, cmpxchg16b_mem);
}

HANDLER(cmpxchg16b_LM)
{
	return cmpxchg16b(c, i, cmpxchg16b_lock);
}

IMPL_TABLE(cmpxchg8b, [FORM_M] = { [SZ_64] = { cmpxchg8b_M } }, [FORM_LM] = { [SZ_64] = { cmpxchg8b_LM } });

/* Its operand size, 128 bits, has no column in the table. */
HANDLER(do_cmpxchg16b)
{
	return i->form == FORM_LM ? cmpxchg16b_LM(c, i) : cmpxchg16b_M(c, i);
}
IMPL_ANY(cmpxchg16b, do_cmpxchg16b);
