// SPDX-License-Identifier: MIT
/* Numbers at the edges: of integer types, of floating-point formats, of shift counts. */
#include <string.h>

#include "cpu/fpu.h"
#include "gen.h"

u64 corner_int(struct rng *r)
{
	static const u64 edges[] = {
		0, 1, 2, ~0ull, ~0ull - 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff,
		0x80000000, 0xffffffff, 0x100000000, INT64_MAX, 1ull << 63, 0xffffffff80000000, 0xffffffffffff8000,
		0xffffffffffffff80, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x9999999999999999, 0x0123456789abcdef,
	};
	u64 v = rnd(r);

	switch (below(r, 8)) {
	case 0 ... 2:
		return edges[v % ARRAY_SIZE(edges)];
	case 3:
		return v & 0x7f; /* a count or a bit number */
	case 4:
		return 1ull << (v & 63);
	case 5:
		return edges[v % ARRAY_SIZE(edges)] + (s64)(v >> 60) - 8;
	default:
		return v;
	}
}

u32 corner_f32(struct rng *r)
{
	static const u32 edges[] = {
		0, 0x3f800000, 0x7f800000, 0x7fc00000, 0x7f800001, 0x7fffffff, 0x00000001, 0x007fffff, 0x00800000,
		0x7f7fffff, 0x3f000000, 0x4b000000, 0x4b800000, 0x4f000000, 0x4effffff, 0x5f000000, 0x34000000,
		0x3fc00000, 0x40490fdb, 0x7fa00000,
	};
	u32 v = (u32)rnd(r), sign = v & 0x80000000;

	switch (below(r, 4)) {
	case 0 ... 1:
		return edges[v % ARRAY_SIZE(edges)] | sign;
	case 2: /* of a size that fits into integers */
		return sign | (100 + below(r, 64)) << 23 | (v & 0x7fffff);
	default:
		return v;
	}
}

u64 corner_f64(struct rng *r)
{
	static const u64 edges[] = {
		0, 0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 0x7fffffffffffffff,
		1, 0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x3fe0000000000000, 0x41dfffffffc00000,
		0x41e0000000000000, 0x43e0000000000000, 0x43dfffffffffffff, 0x36a0000000000000, 0x380fffffe0000000,
		0x47efffffe0000000, 0x47effffff0000000, 0x3ff8000000000000, 0x400921fb54442d18, 0x7ff4000000000000,
	};
	u64 v = rnd(r), sign = v & 1ull << 63;

	switch (below(r, 4)) {
	case 0 ... 1:
		return edges[v % ARRAY_SIZE(edges)] | sign;
	case 2:
		return sign | (u64)(1023 - 32 + below(r, 100)) << 52 | (v & 0xfffffffffffff);
	default:
		return v;
	}
}

void corner_f80(struct rng *r, u8 *to)
{
	static const struct {
		u16 exponent;
		u64 mantissa;
	} edges[] = {
		{ 0, 0 },				  /* zero */
		{ 0x3fff, 1ull << 63 },			  /* one */
		{ 0x7fff, 1ull << 63 },			  /* infinity */
		{ 0x7fff, 3ull << 62 },			  /* quiet and signalling NaN */
		{ 0x7fff, 1ull << 63 | 1 },
		{ 0x7fff, 0 },				  /* pseudo-infinity, pseudo-NaN, unnormal: not supported */
		{ 0x7fff, 1 },
		{ 0x3fff, 1ull << 62 },
		{ 0, 1 },				  /* denormal, pseudo-denormal */
		{ 0, 1ull << 63 },
		{ 0x7ffe, ~0ull },			  /* largest and smallest normal numbers */
		{ 1, 1ull << 63 },
		{ 0x4000, 0xc90fdaa22168c235 },		  /* pi */
		{ 0x3ffe, 1ull << 63 },			  /* a half */
		{ 0x403e, 1ull << 63 },			  /* 2^63 */
		{ 0x401e, 0x8000000000000000 },		  /* 2^31 */
		{ 0x400e, 0x8000000000000000 },		  /* 2^15 */
		{ 0x3fff + 63, ~0ull },
		{ 0x3fff - 126, 1ull << 63 },		  /* smallest numbers of the narrower formats */
		{ 0x3fff - 1022, 1ull << 63 },
		{ 0x3fff + 127, 0xffffff0000000000 },	  /* and the largest */
		{ 0x3fff + 1023, 0xfffffffffffff800 },
	};
	u64 v = rnd(r), mantissa = rnd(r) | 1ull << 63;
	u16 exponent = (u16)(0x3fff - 70 + below(r, 140));
	unsigned n = (unsigned)(v >> 8) % ARRAY_SIZE(edges);

	switch (below(r, 4)) {
	case 0 ... 1:
		exponent = edges[n].exponent;
		mantissa = edges[n].mantissa;
		break;
	case 2: /* a small integer */
		mantissa = (u64)(1 + below(r, 255)) << 56;
		exponent = 0x3fff + 7;
		while (!(mantissa >> 63)) {
			mantissa <<= 1;
			exponent--;
		}
		break;
	}
	exponent |= (u16)(v & 0x8000);
	memcpy(to, &mantissa, 8);
	memcpy(to + 8, &exponent, 2);
}

/* Bytes as elements of one kind. */
void corner_vector(struct rng *r, u8 *to, unsigned bytes)
{
	unsigned kind = below(r, 5);

	for (unsigned n = 0; n + 8 <= bytes; n += 8) {
		u64 v;

		switch (kind) {
		case 0:
			v = corner_f32(r) | (u64)corner_f32(r) << 32;
			break;
		case 1:
			v = corner_f64(r);
			break;
		case 2:
			v = corner_int(r);
			break;
		case 3:
			v = (corner_int(r) & 0xffff) | (corner_int(r) & 0xffff) << 16 | (corner_int(r) & 0xffff) << 32 |
			    corner_int(r) << 48;
			break;
		default:
			v = rnd(r);
		}
		memcpy(to + n, &v, 8);
	}
}

static u32 corner_mxcsr(struct rng *r)
{
	u32 v = MXCSR_INIT;

	if (chance(r, 50))
		v |= (u32)rnd(r) & (3 << 13 | MXCSR_FTZ | BIT(6));
	if (chance(r, 15))
		v |= (u32)rnd(r) & MXCSR_FLAGS;
	if (chance(r, 10))
		v &= ~((u32)rnd(r) & MXCSR_MASKS);
	return v;
}

static void corner_x87(struct rng *r, u8 *image)
{
	u16 fcw = FCW_INIT, fsw = 0, fop = 0;
	u64 pointer[2] = { 0 };

	if (chance(r, 40))
		fcw = (u16)((fcw & ~0x1f00) | (rnd(r) & 0x1f00));
	if (chance(r, 10))
		fcw &= (u16) ~(rnd(r) & FCW_MASKS);
	fsw = (u16)(rnd(r) & (FSW_TOP | FSW_CC));
	if (chance(r, 20))
		fsw |= (u16)(rnd(r) & (FSW_FLAGS | FSW_SF));
	if (fsw & ~fcw & FSW_FLAGS)
		fsw |= FSW_ES | FSW_B;
	/* AMD's CPUs save and restore the pointers only together with an exception. */
	if (fsw & FSW_ES) {
		fop = (u16)(rnd(r) & 0x7ff);
		pointer[0] = rnd(r) & 0x7fffffff; /* a hypervisor below the host may drop the upper half */
		pointer[1] = rnd(r) & 0x7fffffff;
	}
	memcpy(image, &fcw, 2);
	memcpy(image + 2, &fsw, 2);
	image[4] = chance(r, 60) ? 0xff : (u8)rnd(r);
	memcpy(image + 6, &fop, 2);
	memcpy(image + 8, pointer, 16);
	for (unsigned n = 0; n < 8; n++)
		corner_f80(r, image + 32 + 16 * n);
}

/* An image for XRSTOR: x87, XMM and YMM registers. */
void corner_fpu(struct rng *r, u8 *xsave)
{
	u32 mxcsr = corner_mxcsr(r);

	memset(xsave, 0, XSAVE_IMAGE);
	corner_x87(r, xsave);
	memcpy(xsave + 24, &mxcsr, 4);
	corner_vector(r, xsave + 160, 256);
	corner_vector(r, xsave + XSAVE_EXTENDED, 256);
	for (unsigned n = 0; n < 16; n++)
		if (chance(r, 30))
			corner_vector(r, xsave + 160 + 16 * n, 16);
	xsave[XSAVE_HEADER] = 7;
}
