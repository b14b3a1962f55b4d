/* SPDX-License-Identifier: MIT */
/*
 * The rules of x87, MMX, SSE and AVX state: when an instruction of a family may run at all, and how struct fpu looks in
 * memory (FSTENV, FSAVE, FXSAVE, XSAVE). Execution is in interp/{x87,mmx,sse,xsave,...}.
 *
 * Invariant: FSW.ES and FSW.B tell whether FSW has an exception flag that FCW does not mask; fpu_summary() restores it
 * after either changed. MXCSR holds no bit outside MXCSR_MASK.
 */
#ifndef UKVM_CPU_FPU_H
#define UKVM_CPU_FPU_H

#include "cpu/cpu.h"

/* XCR0, XSTATE_BV: the state components (SDM vol. 1, 13.1) */
#define XC_X87 BIT64(0)
#define XC_SSE BIT64(1)
#define XC_AVX BIT64(2)
#define XC_OPMASK BIT64(5)
#define XC_ZMM_HI256 BIT64(6)
#define XC_HI16_ZMM BIT64(7)
#define XC_PKRU BIT64(9)
#define XC_AVX512 (XC_OPMASK | XC_ZMM_HI256 | XC_HI16_ZMM)
#define XC_ALL (XC_X87 | XC_SSE | XC_AVX | XC_AVX512 | XC_PKRU)

#define FCW_INIT 0x37f
#define FCW_MASKS 0x3f
#define FCW_FIXED 0x40       /* reads as one */
#define FCW_VALID 0x1f7f     /* with the infinity control, which nothing looks at */

#define FSW_FLAGS 0x3f       /* IE DE ZE OE UE PE */
#define FSW_IE 0x01
#define FSW_SF 0x40
#define FSW_ES 0x80
#define FSW_C0 0x100
#define FSW_C1 0x200
#define FSW_C2 0x400
#define FSW_TOP 0x3800
#define FSW_C3 0x4000
#define FSW_CC (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)
#define FSW_B 0x8000

#define MXCSR_INIT 0x1f80u
#define MXCSR_MASK 0xffffu   /* bits that exist; with DAZ, without AMD's misaligned-SSE mode */
#define MXCSR_FLAGS 0x3fu
#define MXCSR_UM BIT(11)
#define MXCSR_MASKS 0x1f80u
#define MXCSR_FTZ BIT(15)

/*
 * The state after RESET as the kernel's KVM has it: that of FNINIT (FCW 0x37f, all registers empty), not the 0x40 and
 * +0.0 of SDM vol. 3, table 9-1. INIT leaves all of it alone. The first call asks the host's CPUID for xoff.
 */
void fpu_reset(struct fpu *f);

/* FNINIT. */
void fpu_finit(struct fpu *f);

/* ---- who may execute ---- */

/* Bits of struct cpu::fpu_trap: an instruction of this family raises #UD or #NM now; fpu_trap() tells which. */
enum fpu_trap {
	FPU_TRAP_X87 = 1 << 0,    /* CR0.EM, CR0.TS; also FXSAVE, FXRSTOR */
	FPU_TRAP_WAIT = 1 << 1,   /* FWAIT: CR0.TS with CR0.MP */
	FPU_TRAP_MMX = 1 << 2,
	FPU_TRAP_SSE = 1 << 3,    /* with CR4.OSFXSR */
	FPU_TRAP_AVX = 1 << 4,    /* with CR4.OSXSAVE and XCR0 */
	FPU_TRAP_AVX512 = 1 << 5,
	FPU_TRAP_XSAVE = 1 << 6,  /* XSAVE, XRSTOR and relatives */
	FPU_TRAP_XCR = 1 << 7,    /* XGETBV, XSETBV: CR4.OSXSAVE alone */
};

/* To be stored in cpu::fpu_trap whenever CR0, CR4 or XCR0 change: cpu_update_mode() does. */
u8 fpu_trap_bits(u64 cr0, u64 cr4, u64 xcr0);

/* Raises what the set bit `why` of cpu::fpu_trap stands for; returns ST_FAULT. */
int fpu_trap(struct cpu *c, enum fpu_trap why);

static inline int fpu_check(struct cpu *c, enum fpu_trap family)
{
	return unlikely(c->fpu_trap & family) ? fpu_trap(c, family) : ST_OK;
}

/* May XSETBV (or KVM_SET_XCRS) set this value? (SDM vol. 1, 13.3) */
bool fpu_xcr0_valid(u64 xcr0, u64 allowed);

/* ---- x87 ---- */

static inline unsigned fpu_top(const struct fpu *f)
{
	return (f->fsw >> 11) & 7;
}

static inline void fpu_set_top(struct fpu *f, unsigned top)
{
	f->fsw = (f->fsw & ~FSW_TOP) | (top & 7) << 11;
}

/* Makes ES and B follow from flags and masks. */
static inline void fpu_summary(struct fpu *f)
{
	f->fsw &= ~(FSW_ES | FSW_B);
	if (f->fsw & ~f->fcw & FSW_FLAGS)
		f->fsw |= FSW_ES | FSW_B;
}

/* The full tag word, two bits a register: valid, zero, special, empty. And back: only "empty" matters. */
u16 fpu_full_tags(const struct fpu *f);
u8 fpu_abridge_tags(u16 full);

/* The environment of FNSTENV and FLDENV, which begins the image of FNSAVE and FRSTOR. */
enum env_format { ENV_16_REAL, ENV_32_REAL, ENV_16, ENV_32 };
#define ENV_MAX 28
#define FSAVE_MAX 108

static inline unsigned fpu_env_size(enum env_format fmt)
{
	return fmt & 1 ? 28 : 14;
}

void fpu_to_env(const struct fpu *f, void *env, enum env_format fmt);
void fpu_from_env(struct fpu *f, const void *env, enum env_format fmt);
/* fpu_env_size() + 80 bytes. */
void fpu_to_fsave(const struct fpu *f, void *image, enum env_format fmt);
void fpu_from_fsave(struct fpu *f, const void *image, enum env_format fmt);

/* ---- FXSAVE, XSAVE ---- */

#define FXSAVE_SIZE 512
#define FXSAVE_USED 416      /* the rest is the operating system's; neither written nor read */
#define XSAVE_HEADER 512     /* offset of XSTATE_BV */
#define XSAVE_XCOMP 520
#define XSAVE_EXTENDED 576
#define XSAVE_MAX 4096
#define XCOMP_COMPACT BIT64(63)

/* The bits [63:32] of FIP and FDP: of the offset (64-bit format), or the selectors. */
enum fx_format { FX_SELECTORS, FX_64 };

/* Parts of the legacy area. regs is how many XMM registers the mode has: 8 or 16. */
void fx_put_x87(const struct fpu *f, u8 *area, enum fx_format fmt);
void fx_get_x87(struct fpu *f, const u8 *area, enum fx_format fmt);
void fx_put_xmm(const struct fpu *f, u8 *area, unsigned regs);
void fx_get_xmm(struct fpu *f, const u8 *area, unsigned regs);
void fx_put_mxcsr(const struct fpu *f, u8 *area); /* with MXCSR_MASK */

/* One extended component (2-9), to or from the place where it lies. */
void xcomp_put(const struct fpu *f, unsigned n, void *to, unsigned regs);
void xcomp_get(struct fpu *f, unsigned n, const void *from, unsigned regs);
void xcomp_init(struct fpu *f, unsigned n, unsigned regs);
unsigned xcomp_size(unsigned n);
/* Where component n (2-9) lies in a standard area, or in a compacted one with room for the components of xcomp_bv. */
u32 xcomp_offset(const struct fpu *f, unsigned n, u64 xcomp_bv);
/* The size of an area for these components: what CPUID 0xD tells. */
u32 xsave_size(const struct fpu *f, u64 components, bool compact);
/* The components that the host's CPU has a place for (the host's XSAVE geometry is the guest's). */
u64 xsave_supported(const struct fpu *f);

/* XINUSE: the components that are not in their initial state. */
u64 fpu_xinuse(const struct fpu *f);
/* Back to the initial configuration: XRSTOR without a component's bit in XSTATE_BV. MXCSR is not touched. */
void fpu_init_components(struct fpu *f, u64 components, unsigned regs);

/*
 * Whole images for the client, 64-bit format, all 16 XMM registers. fpu_from_fxsave() drops reserved MXCSR bits.
 * fpu_to_xsave() makes the standard format, as much as fits; -EINVAL if an image of allowed_xcr0 would not fit in size,
 * has components outside allowed_xcr0, is not in standard format or has reserved MXCSR bits: then nothing changes.
 */
void fpu_to_fxsave(const struct fpu *f, void *area);
void fpu_from_fxsave(struct fpu *f, const void *area);
void fpu_to_xsave(const struct fpu *f, void *area, size_t size);
int fpu_from_xsave(struct fpu *f, const void *area, size_t size, u64 allowed_xcr0);

/* ---- the client's own control words and flags ---- */

/*
 * Handlers run on the host's x87 with the stack empty and FCW = FCW_INIT, and each leaves both so, as well as the
 * control bits of MXCSR; but they leave sticky flags behind in FSW and MXCSR. KVM_RUN puts these around the engine, so
 * that the client's control words and sticky flags survive.
 */
struct fpu_host {
	u16 fcw, fsw;
	u32 mxcsr;
};
void fpu_host_enter(struct fpu_host *h);
void fpu_host_leave(const struct fpu_host *h);

#endif
