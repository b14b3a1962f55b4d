/* SPDX-License-Identifier: MIT */
/* AES-NI, PCLMULQDQ, SHA, GFNI: those with an immediate or an implicit operand. The others are rows of VECTOR_OPS. */
#include "interp/simd.h"

/* What comes before and after `core`, a statement that makes d of d and s. */
#define CRYPTO(op, how, core)											       \
	HANDLER(do_##op)											       \
	{													       \
		v128 d, s;											       \
		int st = sse_fetch(c, i, 16, how, &s);								       \
														       \
		if (unlikely(st))										       \
			return st;										       \
		d = XMM(c, i->dst);										       \
		core;												       \
		XMM(c, i->dst) = d;										       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(op, do_##op);

/* The round constant is the immediate, XORed into the second and the fourth word. */
INLINE v128 key_assist(v128 s, u8 rcon)
{
	v128 d;

	asm("aeskeygenassist $0, %1, %0" : "=x"(d) : "x"(s));
	return d ^ (v128){ (u64)rcon << 32, (u64)rcon << 32 };
}

CRYPTO(aeskeygenassist, ALIGNED, d = key_assist(s, i->imm))

/* Bits 0 and 4 choose the halves. */
INLINE v128 carryless(v128 d, v128 s, unsigned imm)
{
	v128 a = { d[imm & 1], 0 }, b = { s[imm >> 4 & 1], 0 };

	asm("pclmulqdq $0, %1, %0" : "+x"(a) : "x"(b));
	return a;
}

CRYPTO(pclmulqdq, ALIGNED, d = carryless(d, s, i->imm))

INLINE v128 sha1_rounds(v128 d, v128 s, unsigned imm)
{
	switch (imm & 3) {
	case 0:
		asm("sha1rnds4 $0, %1, %0" : "+x"(d) : "x"(s));
		break;
	case 1:
		asm("sha1rnds4 $1, %1, %0" : "+x"(d) : "x"(s));
		break;
	case 2:
		asm("sha1rnds4 $2, %1, %0" : "+x"(d) : "x"(s));
		break;
	default:
		asm("sha1rnds4 $3, %1, %0" : "+x"(d) : "x"(s));
	}
	return d;
}

CRYPTO(sha1rnds4, UNALIGNED, d = sha1_rounds(d, s, i->imm))
CRYPTO(sha256rnds2, UNALIGNED, asm("sha256rnds2 %2, %1, %0" : "+x"(d) : "x"(s), "Yz"(XMM(c, 0))))

/* The constant that is added last is the immediate, to every byte. */
INLINE v128 each_byte(u8 b)
{
	u64 q = b * 0x0101010101010101ull;

	return (v128){ q, q };
}

CRYPTO(gf2p8affineqb, ALIGNED,
       asm("gf2p8affineqb $0, %1, %0" : "+x"(d) : "x"(s));
       d ^= each_byte(i->imm))
CRYPTO(gf2p8affineinvqb, ALIGNED,
       asm("gf2p8affineinvqb $0, %1, %0" : "+x"(d) : "x"(s));
       d ^= each_byte(i->imm))
