// SPDX-License-Identifier: MIT
/*
 * Decimal adjustments: the only integer instructions that the host, in 64-bit mode, does not have. After SDM vol. 2;
 * SF, ZF and PF, where they are undefined, follow the result in AL, and OF is cleared, as CPUs in practice do it.
 */
#include "interp/impl.h"

#define AL (RAX * 8)
#define AH (RAX * 8 + 1)

/* SF, ZF and PF of a byte. */
static u64 flags_of(u8 v)
{
	return (v & 0x80 ? FL_SF : 0) | (v ? 0 : FL_ZF) | (__builtin_parity(v) ? 0 : FL_PF);
}

/* AAA adds, AAS subtracts: 6 to AX and 1 to AH for an unpacked digit out of range. */
static int adjust_ascii(struct cpu *c, int sign)
{
	bool carry = (REG8(c, AL) & 0xf) > 9 || (c->cc & FL_AF);

	if (carry)
		REG16(c, RAX * 8) += (u16)(sign * 0x106);
	REG8(c, AL) &= 0xf;
	c->cc = flags_of(REG8(c, AL)) | (carry ? FL_AF | FL_CF : 0);
	return ST_OK;
}

HANDLER(do_aaa)
{
	(void)i;
	return adjust_ascii(c, 1);
}
IMPL_ANY(aaa, do_aaa);

HANDLER(do_aas)
{
	(void)i;
	return adjust_ascii(c, -1);
}
IMPL_ANY(aas, do_aas);

HANDLER(do_daa)
{
	u8 old = REG8(c, AL), v = old;
	bool af = (old & 0xf) > 9 || (c->cc & FL_AF);
	bool cf = old > 0x99 || (c->cc & FL_CF);

	(void)i;
	if (af)
		v += 6;
	if (cf)
		v += 0x60;
	REG8(c, AL) = v;
	c->cc = flags_of(v) | (af ? FL_AF : 0) | (cf ? FL_CF : 0);
	return ST_OK;
}
IMPL_ANY(daa, do_daa);

HANDLER(do_das)
{
	u8 old = REG8(c, AL), v = old;
	bool af = (old & 0xf) > 9 || (c->cc & FL_AF);
	bool high = old > 0x99 || (c->cc & FL_CF);
	bool cf = high || (af && old < 6);

	(void)i;
	if (af)
		v -= 6;
	if (high)
		v -= 0x60;
	REG8(c, AL) = v;
	c->cc = flags_of(v) | (af ? FL_AF : 0) | (cf ? FL_CF : 0);
	return ST_OK;
}
IMPL_ANY(das, do_das);

HANDLER(do_aam)
{
	u8 base = (u8)i->imm, v = REG8(c, AL);

	if (!base)
		return fault_noerr(c, VEC_DE);
	REG8(c, AH) = v / base;
	REG8(c, AL) = v % base;
	c->cc = flags_of(REG8(c, AL));
	return ST_OK;
}
IMPL_ANY(aam, do_aam);

HANDLER(do_aad)
{
	u8 v = (u8)(REG8(c, AL) + REG8(c, AH) * (u8)i->imm);

	REG16(c, RAX * 8) = v;
	c->cc = flags_of(v);
	return ST_OK;
}
IMPL_ANY(aad, do_aad);
