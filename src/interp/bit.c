// SPDX-License-Identifier: MIT
/* Bits: BT and its kin, scans and counts, BMI1 and BMI2, ADX, CRC32, random numbers. */
#include "interp/impl.h"

/* ---- BT, BTS, BTR, BTC ---- */
REG_CORE_WORDS(bt_reg, "bt", ALL, SOURCE)
REG_CORE_WORDS(bts_reg, "bts", ALL, SOURCE)
REG_CORE_WORDS(btr_reg, "btr", ALL, SOURCE)
REG_CORE_WORDS(btc_reg, "btc", ALL, SOURCE)
MEM_CORE_WORDS(bts_mem, "bts", ALL, SOURCE)
MEM_CORE_WORDS(btr_mem, "btr", ALL, SOURCE)
MEM_CORE_WORDS(btc_mem, "btc", ALL, SOURCE)
MEM_CORE_WORDS(bts_lock, "lock bts", ALL, SOURCE)
MEM_CORE_WORDS(btr_lock, "lock btr", ALL, SOURCE)
MEM_CORE_WORDS(btc_lock, "lock btc", ALL, SOURCE)

/* A bit in memory: a register's bit offset is signed and selects the word as well (SDM vol. 1, 3.1.1.9). */
struct bit {
	u64 ea;
	unsigned n; /* within the word */
};

INLINE struct bit bit_at(struct cpu *c, const struct insn *i, unsigned size, bool string)
{
	u64 ea = insn_ea(c, i);
	s64 offset = string ? sign_extend(reg_read(c, i->src, size), size) : (s64)i->imm;

	if (string)
		ea = (ea + ((u64)(offset >> (size + 3)) << size)) & size_mask(i->asize);
	return (struct bit){ ea, (unsigned)offset & ((8u << size) - 1) };
}

INLINE int bit_reg(struct cpu *c, const struct insn *i, unsigned size, bool string, reg_core op)
{
	return update_reg(c, i, size, string ? reg_read(c, i->src, size) : i->imm, op);
}

INLINE int bit_mem(struct cpu *c, const struct insn *i, unsigned size, bool string, mem_core op)
{
	struct bit b = bit_at(c, i, size, string);

	return update_mem_at(c, i->seg, b.ea, size, b.n, op);
}

INLINE int bit_test_reg(struct cpu *c, const struct insn *i, unsigned size, bool string)
{
	u64 fl = c->cc;

	bt_reg(reg_read(c, i->dst, size), string ? reg_read(c, i->src, size) : i->imm, size, &fl);
	c->cc = fl;
	return ST_OK;
}

INLINE int bit_test_mem(struct cpu *c, const struct insn *i, unsigned size, bool string)
{
	struct bit b = bit_at(c, i, size, string);
	u64 v, fl = c->cc;
	int st = mem_load(c, i->seg, b.ea, size, &v);

	if (unlikely(st))
		return st;
	bt_reg(v, b.n, size, &fl);
	c->cc = fl;
	return ST_OK;
}

STAMP_WORDS(bt, RR, bit_test_reg, true)
STAMP_WORDS(bt, RI, bit_test_reg, false)
STAMP_WORDS(bt, MR, bit_test_mem, true)
STAMP_WORDS(bt, MI, bit_test_mem, false)
IMPL_TABLE(bt, ROW_WORDS(bt, RR), ROW_WORDS(bt, RI), ROW_WORDS(bt, MR), ROW_WORDS(bt, MI));

#define BIT_CHANGE(name)											       \
	STAMP_WORDS(name, RR, bit_reg, true, name##_reg)							       \
	STAMP_WORDS(name, RI, bit_reg, false, name##_reg)							       \
	STAMP_WORDS(name, MR, bit_mem, true, name##_mem)							       \
	STAMP_WORDS(name, MI, bit_mem, false, name##_mem)							       \
	STAMP_WORDS(name, LMR, bit_mem, true, name##_lock)							       \
	STAMP_WORDS(name, LMI, bit_mem, false, name##_lock)							       \
	IMPL_TABLE(name, ROW_WORDS(name, RR), ROW_WORDS(name, RI), ROW_WORDS(name, MR), ROW_WORDS(name, MI),	       \
		   ROW_WORDS(name, LMR), ROW_WORDS(name, LMI))

BIT_CHANGE(bts);
BIT_CHANGE(btr);
BIT_CHANGE(btc);

/* ---- destination from one source: scans, counts, BLS*, ADX ---- */
REG_CORE_WORDS(bsf_reg, "bsf", ALL, SOURCE)
REG_CORE_WORDS(bsr_reg, "bsr", ALL, SOURCE)
REG_CORE_WORDS(popcnt_reg, "popcnt", ALL, SOURCE)
REG_CORE_WORDS(lzcnt_reg, "lzcnt", ALL, SOURCE)
REG_CORE_WORDS(tzcnt_reg, "tzcnt", ALL, SOURCE)
REG_CORE_DWORDS(blsr_reg, "blsr", ALL, SOURCE)
REG_CORE_DWORDS(blsmsk_reg, "blsmsk", ALL, SOURCE)
REG_CORE_DWORDS(blsi_reg, "blsi", ALL, SOURCE)
REG_CORE_DWORDS(adcx_reg, "adcx", ALL, SOURCE)
REG_CORE_DWORDS(adox_reg, "adox", ALL, SOURCE)

/* On the whole register, because a scan of 0 leaves of it what the host leaves. */
INLINE int scan(struct cpu *c, const struct insn *i, u64 s, unsigned size, reg_core op)
{
	u64 fl = c->cc;

	REG64(c, i->dst) = op(REG64(c, i->dst), s, size, &fl);
	c->cc = fl;
	return ST_OK;
}

INLINE int scan_rr(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	return scan(c, i, reg_read(c, i->src, size), size, op);
}

INLINE int scan_rm(struct cpu *c, const struct insn *i, unsigned size, reg_core op)
{
	u64 s;
	int st = load_operand(c, i, size, &s);

	return unlikely(st) ? st : scan(c, i, s, size, op);
}

#define SCAN(name)												       \
	STAMP_WORDS(name, RR, scan_rr, name##_reg)								       \
	STAMP_WORDS(name, RM, scan_rm, name##_reg)								       \
	IMPL_TABLE(name, ROW_WORDS(name, RR), ROW_WORDS(name, RM))
#define SCAN_DWORDS(name)											       \
	STAMP_DWORDS(name, RR, scan_rr, name##_reg)								       \
	STAMP_DWORDS(name, RM, scan_rm, name##_reg)								       \
	IMPL_TABLE(name, ROW_DWORDS(name, RR), ROW_DWORDS(name, RM))

SCAN(bsf);
SCAN(bsr);
SCAN(popcnt);
SCAN(lzcnt);
SCAN(tzcnt);
SCAN_DWORDS(blsr);
SCAN_DWORDS(blsmsk);
SCAN_DWORDS(blsi);
SCAN_DWORDS(adcx);
SCAN_DWORDS(adox);

/* ---- destination from two sources (VEX), Intel's second and third operand ---- */
typedef u64 (*vex_core)(u64 s2, u64 s3, unsigned size, u64 *fl);

#define VEX_CASE(bits, text, FL)										       \
	case SZ_##bits:												       \
		asm(TEXT_##FL text AFTER_##FL : [d] "=r"(d), OUT_##FL(*fl) : [s2] "r"(s2), [s3] "r"(s3) : "cc");       \
		break;
#define VEX_CORE(name, mnem, FL)										       \
	INLINE u64 name(u64 s2, u64 s3, unsigned size, u64 *fl)							       \
	{													       \
		u64 d = 0;											       \
														       \
		PREP_##FL(*fl);											       \
		switch (size) {											       \
			VEX_CASE(32, mnem "l %k[s3], %k[s2], %k[d]", FL)					       \
			VEX_CASE(64, mnem "q %q[s3], %q[s2], %q[d]", FL)					       \
		}												       \
		return d;											       \
	}

VEX_CORE(andn_core, "andn", ALL)
VEX_CORE(bzhi_core, "bzhi", ALL)
VEX_CORE(bextr_core, "bextr", ALL)
VEX_CORE(pdep_core, "pdep", KEEP)
VEX_CORE(pext_core, "pext", KEEP)
VEX_CORE(shlx_core, "shlx", KEEP)
VEX_CORE(shrx_core, "shrx", KEEP)
VEX_CORE(sarx_core, "sarx", KEEP)

INLINE int vex(struct cpu *c, const struct insn *i, u64 s2, u64 s3, unsigned size, vex_core op)
{
	u64 fl = c->cc;

	reg_write(c, i->dst, size, op(s2, s3, size, &fl));
	c->cc = fl;
	return ST_OK;
}

INLINE int vex_rr(struct cpu *c, const struct insn *i, unsigned size, vex_core op)
{
	return vex(c, i, reg_read(c, i->src, size), reg_read(c, i->src2, size), size, op);
}

/* Memory is the last operand ... */
INLINE int vex_rm_last(struct cpu *c, const struct insn *i, unsigned size, vex_core op)
{
	u64 m;
	int st = load_operand(c, i, size, &m);

	return unlikely(st) ? st : vex(c, i, reg_read(c, i->src, size), m, size, op);
}

/* ... or the second one. */
INLINE int vex_rm_second(struct cpu *c, const struct insn *i, unsigned size, vex_core op)
{
	u64 m;
	int st = load_operand(c, i, size, &m);

	return unlikely(st) ? st : vex(c, i, m, reg_read(c, i->src2, size), size, op);
}

#define VEX(name, template_rm)											       \
	STAMP_DWORDS(name, RR, vex_rr, name##_core)								       \
	STAMP_DWORDS(name, RM, template_rm, name##_core)							       \
	IMPL_TABLE(name, ROW_DWORDS(name, RR), ROW_DWORDS(name, RM))

VEX(andn, vex_rm_last);
VEX(pdep, vex_rm_last);
VEX(pext, vex_rm_last);
VEX(bzhi, vex_rm_second);
VEX(bextr, vex_rm_second);
VEX(shlx, vex_rm_second);
VEX(shrx, vex_rm_second);
VEX(sarx, vex_rm_second);

/* RORX: the count is an immediate. */
INLINE int rorx(struct cpu *c, const struct insn *i, u64 v, unsigned size)
{
	unsigned bits = 8u << size, n = i->imm & (bits - 1);

	reg_write(c, i->dst, size, v >> n | v << (-n & (bits - 1)));
	return ST_OK;
}

INLINE int rorx_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	return rorx(c, i, reg_read(c, i->src, size), size);
}

INLINE int rorx_rm(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 v;
	int st = load_operand(c, i, size, &v);

	return unlikely(st) ? st : rorx(c, i, v, size);
}

STAMP_DWORDS(rorx, RR, rorx_rr)
STAMP_DWORDS(rorx, RM, rorx_rm)
IMPL_TABLE(rorx, ROW_DWORDS(rorx, RR), ROW_DWORDS(rorx, RM));

/* MULX: the low half goes to the second operand, then the high half to the first. */
INLINE int mulx(struct cpu *c, const struct insn *i, u64 s, unsigned size)
{
	unsigned __int128 product = (unsigned __int128)reg_read(c, RDX * 8, size) * s;

	reg_write(c, i->src, size, (u64)product);
	reg_write(c, i->dst, size, (u64)(product >> (8u << size)));
	return ST_OK;
}

INLINE int mulx_rr(struct cpu *c, const struct insn *i, unsigned size)
{
	return mulx(c, i, reg_read(c, i->src2, size), size);
}

INLINE int mulx_rm(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 s;
	int st = load_operand(c, i, size, &s);

	return unlikely(st) ? st : mulx(c, i, s, size);
}

STAMP_DWORDS(mulx, RR, mulx_rr)
STAMP_DWORDS(mulx, RM, mulx_rm)
IMPL_TABLE(mulx, ROW_DWORDS(mulx, RR), ROW_DWORDS(mulx, RM));

/* ---- CRC32: the sum is always 32 bits, the source has the size insn::src2 ---- */
static u64 crc32c(u64 sum, u64 s, unsigned size)
{
	switch (size) {
	case SZ_8:
		asm("crc32b %b[s], %k[sum]" : [sum] "+r"(sum) : [s] "q"(s));
		break;
	case SZ_16:
		asm("crc32w %w[s], %k[sum]" : [sum] "+r"(sum) : [s] "r"(s));
		break;
	case SZ_32:
		asm("crc32l %k[s], %k[sum]" : [sum] "+r"(sum) : [s] "r"(s));
		break;
	default:
		asm("crc32q %q[s], %q[sum]" : [sum] "+r"(sum) : [s] "r"(s));
	}
	return (u32)sum;
}

HANDLER(crc32_RR)
{
	REG64(c, i->dst) = crc32c(REG64(c, i->dst), reg_read(c, i->src, i->src2), i->src2);
	return ST_OK;
}

HANDLER(crc32_RM)
{
	u64 s = 0;
	int st = mem_read_slow(c, i->seg, insn_ea(c, i), &s, 1u << i->src2);

	if (unlikely(st))
		return st;
	REG64(c, i->dst) = crc32c(REG64(c, i->dst), s, i->src2);
	return ST_OK;
}
IMPL_TABLE(crc32, [FORM_RR] = { { NULL }, { NULL }, { crc32_RR }, { crc32_RR } },
	   [FORM_RM] = { { NULL }, { NULL }, { crc32_RM }, { crc32_RM } });

/* ---- RDRAND, RDSEED: all status flags are written; CF tells success, the result is 0 without ---- */
#define RANDOM_CASE(bits, text)											       \
	case SZ_##bits:												       \
		asm volatile(text FLAGS_OUT : [d] "=r"(d), [fl] "=a"(fl) : : "cc");				       \
		break;
#define RANDOM(name, mnem)											       \
	INLINE int name##_r(struct cpu *c, const struct insn *i, unsigned size)					       \
	{													       \
		u64 d = 0, fl = 0;										       \
														       \
		switch (size) {											       \
			RANDOM_CASE(16, mnem " %w[d]")								       \
			RANDOM_CASE(32, mnem " %k[d]")								       \
			RANDOM_CASE(64, mnem " %q[d]")								       \
		}												       \
		reg_write(c, i->dst, size, d);									       \
		c->cc = fl;											       \
		return ST_OK;											       \
	}													       \
	STAMP_WORDS(name, R, name##_r)										       \
	IMPL_TABLE(name, ROW_WORDS(name, R))

RANDOM(rdrand, "rdrand");
RANDOM(rdseed, "rdseed");
