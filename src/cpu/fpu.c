/* SPDX-License-Identifier: MIT */
/* See fpu.h. The images are those of SDM vol. 1, 8.1.10 (FSAVE), 10.5.1 (FXSAVE) and 13.4 (XSAVE). */
#include "cpu/fpu.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define NR_XCOMP ARRAY_SIZE(((struct fpu *)0)->xoff)

/* ---- reset ---- */

static void host_geometry(u16 xoff[NR_XCOMP])
{
	u32 size, off, c, d;

	xoff[1] = 160; /* which also says that the host was asked */
	for (unsigned n = 2; n < NR_XCOMP; n++) {
		xoff[n] = 0;
		if (!xcomp_size(n) || __get_cpuid_max(0, NULL) < 0xd)
			continue;
		__cpuid_count(0xd, n, size, off, c, d);
		if (size == xcomp_size(n) && off >= XSAVE_EXTENDED && off + size <= XSAVE_MAX)
			xoff[n] = off;
	}
}

void fpu_finit(struct fpu *f)
{
	f->fcw = FCW_INIT;
	f->fsw = 0;
	f->ftw = 0;
	f->fop = 0;
	f->fip = 0;
	f->fdp = 0;
	f->fcs = 0;
	f->fds = 0;
}

void fpu_reset(struct fpu *f)
{
	if (!f->xoff[1])
		host_geometry(f->xoff);
	fpu_finit(f);
	memset(f->st, 0, sizeof(f->st));
	memset(f->vec, 0, sizeof(f->vec));
	memset(f->opmask, 0, sizeof(f->opmask));
	f->mxcsr = MXCSR_INIT;
	f->pkru = 0;
	f->xcr0 = XC_X87;
	f->xss = 0;
}

/* ---- traps (SDM vol. 3, 2.5 and table 13-1; vol. 2, 2.4) ---- */

u8 fpu_trap_bits(u64 cr0, u64 cr4, u64 xcr0)
{
	bool em = cr0 & CR0_EM, ts = cr0 & CR0_TS;
	bool osxsave = cr4 & CR4_OSXSAVE;
	u64 avx = XC_SSE | XC_AVX;
	u8 bits = 0;

	if (em || ts)
		bits |= FPU_TRAP_X87 | FPU_TRAP_MMX;
	if (ts && (cr0 & CR0_MP))
		bits |= FPU_TRAP_WAIT;
	if (em || ts || !(cr4 & CR4_OSFXSR))
		bits |= FPU_TRAP_SSE;
	if (ts || !osxsave || (xcr0 & avx) != avx)
		bits |= FPU_TRAP_AVX;
	if (ts || !osxsave || (xcr0 & (avx | XC_AVX512)) != (avx | XC_AVX512))
		bits |= FPU_TRAP_AVX512;
	if (ts || !osxsave)
		bits |= FPU_TRAP_XSAVE;
	if (!osxsave)
		bits |= FPU_TRAP_XCR;
	return bits;
}

int fpu_trap(struct cpu *c, enum fpu_trap why)
{
	bool em = c->cr0 & CR0_EM;
	u64 need = XC_SSE | XC_AVX;

	switch (why) {
	case FPU_TRAP_X87:
	case FPU_TRAP_WAIT:
		break;
	case FPU_TRAP_MMX:
		if (em)
			return fault_ud(c);
		break;
	case FPU_TRAP_SSE:
		if (em || !(c->cr4 & CR4_OSFXSR))
			return fault_ud(c);
		break;
	case FPU_TRAP_AVX512:
		need |= XC_AVX512;
		/* fall through */
	case FPU_TRAP_AVX:
		if (!(c->cr4 & CR4_OSXSAVE) || (c->fpu.xcr0 & need) != need)
			return fault_ud(c);
		break;
	case FPU_TRAP_XSAVE:
	case FPU_TRAP_XCR:
		if (!(c->cr4 & CR4_OSXSAVE))
			return fault_ud(c);
		break;
	}
	return fault_noerr(c, VEC_NM);
}

bool fpu_xcr0_valid(u64 xcr0, u64 allowed)
{
	if ((xcr0 & ~allowed) || !(xcr0 & XC_X87))
		return false;
	if ((xcr0 & XC_AVX) && !(xcr0 & XC_SSE))
		return false;
	if (xcr0 & XC_AVX512)
		return (xcr0 & XC_AVX512) == XC_AVX512 && (xcr0 & XC_AVX);
	return true;
}

/* ---- x87 environment ---- */

/* 0 valid, 1 zero, 2 special: what FNSAVE makes of the contents of a register that is not empty. */
static unsigned tag_of(const u8 *st)
{
	u16 exp;
	u64 man;

	memcpy(&man, st, 8);
	memcpy(&exp, st + 8, 2);
	exp &= 0x7fff;
	if (exp == 0)
		return man ? 2 : 1;
	return exp == 0x7fff || !(man >> 63) ? 2 : 0;
}

u16 fpu_full_tags(const struct fpu *f)
{
	u16 full = 0;

	for (unsigned r = 0; r < 8; r++)
		full |= (f->ftw & BIT(r) ? tag_of(f->st[r]) : 3) << 2 * r;
	return full;
}

u8 fpu_abridge_tags(u16 full)
{
	u8 ftw = 0;

	for (unsigned r = 0; r < 8; r++)
		ftw |= ((full >> 2 * r & 3) != 3) << r;
	return ftw;
}

/* The two real-mode formats have linear addresses of 20 and 32 bits. */
static u32 linear(u64 off, u16 sel)
{
	return (u32)off + ((u32)sel << 4);
}

void fpu_to_env(const struct fpu *f, void *env, enum env_format fmt)
{
	u32 ip = linear(f->fip, f->fcs), dp = linear(f->fdp, f->fds), e32[7];
	u16 e16[7] = { f->fcw, f->fsw, fpu_full_tags(f) };

	switch (fmt) {
	case ENV_16_REAL:
		e16[3] = ip;
		e16[4] = (ip >> 16 & 0xf) << 12 | f->fop;
		e16[5] = dp;
		e16[6] = (dp >> 16 & 0xf) << 12;
		break;
	case ENV_16:
		e16[3] = f->fip;
		e16[4] = f->fcs;
		e16[5] = f->fdp;
		e16[6] = f->fds;
		break;
	case ENV_32_REAL:
	case ENV_32:
		/* Reserved halves read as ones. */
		for (unsigned k = 0; k < 3; k++)
			e32[k] = 0xffff0000 | e16[k];
		e32[3] = f->fip;
		e32[4] = (u32)f->fop << 16 | f->fcs;
		e32[5] = f->fdp;
		e32[6] = 0xffff0000 | f->fds;
		if (fmt == ENV_32_REAL) {
			e32[3] = 0xffff0000 | (ip & 0xffff);
			e32[4] = ip >> 16 << 12 | f->fop;
			e32[5] = 0xffff0000 | (dp & 0xffff);
			e32[6] = dp >> 16 << 12;
		}
		memcpy(env, e32, sizeof(e32));
		return;
	}
	memcpy(env, e16, sizeof(e16));
}

static void set_control(struct fpu *f, u16 cw, u16 sw, u8 ftw)
{
	f->fcw = (cw & FCW_VALID) | FCW_FIXED;
	f->fsw = sw;
	f->ftw = ftw;
	fpu_summary(f);
}

void fpu_from_env(struct fpu *f, const void *env, enum env_format fmt)
{
	u16 e16[7];
	u32 e32[7];

	memcpy(e16, env, sizeof(e16));
	if (fmt == ENV_32 || fmt == ENV_32_REAL) {
		memcpy(e32, env, sizeof(e32));
		for (unsigned k = 0; k < 3; k++)
			e16[k] = e32[k];
	}
	set_control(f, e16[0], e16[1], fpu_abridge_tags(e16[2]));
	switch (fmt) {
	case ENV_16_REAL:
		f->fip = e16[3] | (u32)(e16[4] >> 12) << 16;
		f->fdp = e16[5] | (u32)(e16[6] >> 12) << 16;
		f->fop = e16[4] & 0x7ff;
		f->fcs = f->fds = 0;
		break;
	case ENV_16:
		f->fip = e16[3];
		f->fcs = e16[4];
		f->fdp = e16[5];
		f->fds = e16[6];
		f->fop = 0;
		break;
	case ENV_32_REAL:
		f->fip = (e32[3] & 0xffff) | (e32[4] >> 12 & 0xffff) << 16;
		f->fdp = (e32[5] & 0xffff) | (e32[6] >> 12 & 0xffff) << 16;
		f->fop = e32[4] & 0x7ff;
		f->fcs = f->fds = 0;
		break;
	case ENV_32:
		f->fip = e32[3];
		f->fcs = e32[4];
		f->fop = e32[4] >> 16 & 0x7ff;
		f->fdp = e32[5];
		f->fds = e32[6];
		break;
	}
}

void fpu_to_fsave(const struct fpu *f, void *image, enum env_format fmt)
{
	u8 *st = (u8 *)image + fpu_env_size(fmt);

	fpu_to_env(f, image, fmt);
	for (unsigned k = 0; k < 8; k++)
		memcpy(st + 10 * k, f->st[(fpu_top(f) + k) & 7], 10);
}

void fpu_from_fsave(struct fpu *f, const void *image, enum env_format fmt)
{
	const u8 *st = (const u8 *)image + fpu_env_size(fmt);

	fpu_from_env(f, image, fmt);
	for (unsigned k = 0; k < 8; k++)
		memcpy(f->st[(fpu_top(f) + k) & 7], st + 10 * k, 10);
}

/* ---- FXSAVE ---- */

void fx_put_x87(const struct fpu *f, u8 *area, enum fx_format fmt)
{
	u64 fip = f->fip, fdp = f->fdp;
	u16 head[4] = { f->fcw, f->fsw, f->ftw, f->fop };

	if (fmt == FX_SELECTORS) {
		fip = (u32)fip | (u64)f->fcs << 32;
		fdp = (u32)fdp | (u64)f->fds << 32;
	}
	memcpy(area, head, 8);
	memcpy(area + 8, &fip, 8);
	memcpy(area + 16, &fdp, 8);
	for (unsigned k = 0; k < 8; k++) {
		u8 *st = area + 32 + 16 * k;

		memcpy(st, f->st[(fpu_top(f) + k) & 7], 10);
		memset(st + 10, 0, 6);
	}
}

void fx_get_x87(struct fpu *f, const u8 *area, enum fx_format fmt)
{
	u16 head[4];

	memcpy(head, area, 8);
	memcpy(&f->fip, area + 8, 8);
	memcpy(&f->fdp, area + 16, 8);
	set_control(f, head[0], head[1], head[2]);
	f->fop = head[3] & 0x7ff;
	f->fcs = f->fds = 0;
	if (fmt == FX_SELECTORS) {
		f->fcs = f->fip >> 32;
		f->fds = f->fdp >> 32;
		f->fip = (u32)f->fip;
		f->fdp = (u32)f->fdp;
	}
	for (unsigned k = 0; k < 8; k++)
		memcpy(f->st[(fpu_top(f) + k) & 7], area + 32 + 16 * k, 10);
}

void fx_put_xmm(const struct fpu *f, u8 *area, unsigned regs)
{
	for (unsigned r = 0; r < regs; r++)
		memcpy(area + 160 + 16 * r, f->vec[r], 16);
}

void fx_get_xmm(struct fpu *f, const u8 *area, unsigned regs)
{
	for (unsigned r = 0; r < regs; r++)
		memcpy(f->vec[r], area + 160 + 16 * r, 16);
}

void fx_put_mxcsr(const struct fpu *f, u8 *area)
{
	u32 v[2] = { f->mxcsr, MXCSR_MASK };

	memcpy(area + 24, v, 8);
}

void fpu_to_fxsave(const struct fpu *f, void *area)
{
	memset(area, 0, FXSAVE_SIZE);
	fx_put_x87(f, area, FX_64);
	fx_put_mxcsr(f, area);
	fx_put_xmm(f, area, 16);
}

void fpu_from_fxsave(struct fpu *f, const void *area)
{
	memcpy(&f->mxcsr, (const u8 *)area + 24, 4);
	f->mxcsr &= MXCSR_MASK;
	fx_get_x87(f, area, FX_64);
	fx_get_xmm(f, area, 16);
}

/* ---- XSAVE ---- */

unsigned xcomp_size(unsigned n)
{
	switch (n) {
	case 2:
		return 256;
	case 5:
		return 64;
	case 6:
		return 512;
	case 7:
		return 1024;
	case 9:
		return 8;
	default:
		return 0;
	}
}

void xcomp_put(const struct fpu *f, unsigned n, void *to, unsigned regs)
{
	u8 *p = to;

	switch (n) {
	case 2:
		for (unsigned r = 0; r < regs; r++)
			memcpy(p + 16 * r, f->vec[r] + 16, 16);
		break;
	case 5:
		memcpy(p, f->opmask, 64);
		break;
	case 6:
		for (unsigned r = 0; r < regs; r++)
			memcpy(p + 32 * r, f->vec[r] + 32, 32);
		break;
	case 7:
		if (regs > 8)
			memcpy(p, f->vec[16], 1024);
		break;
	case 9:
		memcpy(p, &f->pkru, 4);
		memset(p + 4, 0, 4);
		break;
	}
}

void xcomp_get(struct fpu *f, unsigned n, const void *from, unsigned regs)
{
	const u8 *p = from;

	switch (n) {
	case 2:
		for (unsigned r = 0; r < regs; r++)
			memcpy(f->vec[r] + 16, p + 16 * r, 16);
		break;
	case 5:
		memcpy(f->opmask, p, 64);
		break;
	case 6:
		for (unsigned r = 0; r < regs; r++)
			memcpy(f->vec[r] + 32, p + 32 * r, 32);
		break;
	case 7:
		if (regs > 8)
			memcpy(f->vec[16], p, 1024);
		break;
	case 9:
		memcpy(&f->pkru, p, 4);
		break;
	}
}

void xcomp_init(struct fpu *f, unsigned n, unsigned regs)
{
	static const u8 zero[1024];

	xcomp_get(f, n, zero, regs);
}

u32 xcomp_offset(const struct fpu *f, unsigned n, u64 xcomp_bv)
{
	u32 off = XSAVE_EXTENDED;

	if (!(xcomp_bv & XCOMP_COMPACT))
		return f->xoff[n];
	/* None of these components asks to be aligned to 64 bytes (CPUID 0xD, ECX bit 1). */
	for (unsigned k = 2; k < n; k++)
		if (xcomp_bv & BIT64(k))
			off += xcomp_size(k);
	return off;
}

u32 xsave_size(const struct fpu *f, u64 components, bool compact)
{
	u64 bv = compact ? components | XCOMP_COMPACT : 0;
	u32 end = XSAVE_EXTENDED;

	for (unsigned n = 2; n < NR_XCOMP; n++)
		if ((components & BIT64(n)) && xcomp_offset(f, n, bv) + xcomp_size(n) > end)
			end = xcomp_offset(f, n, bv) + xcomp_size(n);
	return end;
}

u64 xsave_supported(const struct fpu *f)
{
	u64 have = XC_X87 | XC_SSE;

	for (unsigned n = 2; n < NR_XCOMP; n++)
		if (f->xoff[n])
			have |= BIT64(n);
	return have;
}

static bool is_zero(const void *p, size_t size)
{
	const u64 *w = p;
	u64 any = 0;

	for (size_t k = 0; k < size / 8; k++)
		any |= w[k];
	return !any;
}

/* Bytes [from, to) of the first n vector registers. */
static bool vec_zero(const struct fpu *f, unsigned first, unsigned n, unsigned from, unsigned to)
{
	for (unsigned r = first; r < first + n; r++)
		if (!is_zero(f->vec[r] + from, to - from))
			return false;
	return true;
}

static bool x87_in_use(const struct fpu *f)
{
	if (f->fcw != FCW_INIT || f->fsw || f->ftw || f->fop || f->fip || f->fdp || f->fcs || f->fds)
		return true;
	/* Above its 80 bits, a register's slot has no meaning. */
	for (unsigned r = 0; r < 8; r++)
		if (!is_zero(f->st[r], 8) || f->st[r][8] || f->st[r][9])
			return true;
	return false;
}

u64 fpu_xinuse(const struct fpu *f)
{
	u64 in_use = 0;

	if (x87_in_use(f))
		in_use |= XC_X87;
	if (!vec_zero(f, 0, 16, 0, 16))
		in_use |= XC_SSE;
	if (!vec_zero(f, 0, 16, 16, 32))
		in_use |= XC_AVX;
	if (!is_zero(f->opmask, sizeof(f->opmask)))
		in_use |= XC_OPMASK;
	if (!vec_zero(f, 0, 16, 32, 64))
		in_use |= XC_ZMM_HI256;
	if (!vec_zero(f, 16, 16, 0, 64))
		in_use |= XC_HI16_ZMM;
	if (f->pkru)
		in_use |= XC_PKRU;
	return in_use;
}

void fpu_init_components(struct fpu *f, u64 components, unsigned regs)
{
	if (components & XC_X87) {
		fpu_finit(f);
		memset(f->st, 0, sizeof(f->st));
	}
	if (components & XC_SSE)
		for (unsigned r = 0; r < regs; r++)
			memset(f->vec[r], 0, 16);
	for (unsigned n = 2; n < NR_XCOMP; n++)
		if (components & BIT64(n))
			xcomp_init(f, n, regs);
}

void fpu_to_xsave(const struct fpu *f, void *area, size_t size)
{
	/* The legacy area is always filled in, so it is always told to be there. */
	u64 bv = XC_X87 | XC_SSE;
	u8 *p = area;

	memset(p, 0, size);
	fpu_to_fxsave(f, p);
	for (unsigned n = 2; n < NR_XCOMP; n++) {
		if (!f->xoff[n] || f->xoff[n] + xcomp_size(n) > size)
			continue;
		xcomp_put(f, n, p + f->xoff[n], 16);
		bv |= fpu_xinuse(f) & BIT64(n);
	}
	memcpy(p + XSAVE_HEADER, &bv, 8);
}

int fpu_from_xsave(struct fpu *f, const void *area, size_t size, u64 allowed_xcr0)
{
	const u8 *p = area;
	u64 head[8], bv;
	u32 mxcsr;

	memcpy(head, p + XSAVE_HEADER, sizeof(head));
	memcpy(&mxcsr, p + 24, 4);
	bv = head[0];
	if (bv & ~(allowed_xcr0 & xsave_supported(f)))
		return -EINVAL;
	for (unsigned k = 1; k < 8; k++)
		if (head[k])
			return -EINVAL;
	if (xsave_size(f, bv, false) > size)
		return -EINVAL;
	if (bv & (XC_SSE | XC_AVX)) {
		if (mxcsr & ~MXCSR_MASK)
			return -EINVAL;
		f->mxcsr = mxcsr;
	} else {
		f->mxcsr = MXCSR_INIT;
	}
	fpu_init_components(f, XC_ALL & ~bv, 16);
	if (bv & XC_X87)
		fx_get_x87(f, p, FX_64);
	if (bv & XC_SSE)
		fx_get_xmm(f, p, 16);
	for (unsigned n = 2; n < NR_XCOMP; n++)
		if (bv & BIT64(n))
			xcomp_get(f, n, p + f->xoff[n], 16);
	return 0;
}

/* ---- the client's own control words and flags ---- */

void fpu_host_enter(struct fpu_host *h)
{
	static const u16 init = FCW_INIT;

	asm volatile("fnstcw %0; fnstsw %1; stmxcsr %2" : "=m"(h->fcw), "=m"(h->fsw), "=m"(h->mxcsr));
	if (h->fcw == FCW_INIT)
		return;
	/* FLDCW would deliver what is pending, which is for the client to take. */
	asm volatile("fnclex; fldcw %0" : : "m"(init));
}

void fpu_host_leave(const struct fpu_host *h)
{
	u16 now, env[14];
	u32 mxcsr;

	asm volatile("fnstsw %0; stmxcsr %1" : "=m"(now), "=m"(mxcsr));
	if (mxcsr != h->mxcsr)
		asm volatile("ldmxcsr %0" : : "m"(h->mxcsr));
	if (h->fcw == FCW_INIT && !((h->fsw ^ now) & (FSW_FLAGS | FSW_SF)))
		return;
	asm volatile("fnstenv %0" : "=m"(env));
	env[0] = h->fcw;
	env[2] = h->fsw;
	asm volatile("fldenv %0" : : "m"(env));
}
