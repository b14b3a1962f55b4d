/* SPDX-License-Identifier: MIT */
/*
 * How x87 instructions run: the host's x87 executes the same instruction. Each has a core, which is made from one line
 * of assembly and has two entries:
 *
 *  - fast: all exceptions are masked (by the guest's control word, which the host gets for the moment) and no register
 *    that is read is empty, none that is pushed into is full. Then nothing but a result, C0-C3 and sticky flags can
 *    come out, and only the operands are loaded.
 *  - exact: everything else. The host gets an FSAVE image of the guest's control word and those registers, empty ones
 *    too, and what it makes of them is taken back: stack faults, unmasked exceptions, pushes and pops.
 *
 * On the host, `a` is ST(0) and `b` is ST(1), whichever registers they are in the guest. Between two cores the host's
 * stack is empty and its control word FCW_INIT (fpu_host_enter()).
 *
 * With CR0.NE = 0 a pending exception would go out as FERR# and come back as IRQ 13, if the machine has wires for that.
 * The client has none: it is as if IGNNE# were always asserted, the program goes on.
 */
#ifndef UKVM_INTERP_X87_H
#define UKVM_INTERP_X87_H

#include <string.h>

#include "cpu/fpu.h"
#include "interp/impl.h"

#define X87_CLOBBERS "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "cc", "memory"

/* The image of FNSAVE in the 32-bit format. */
struct x87_image {
	u32 fcw, fsw, ftw, fip, fcs, fdp, fds;
	u8 st[8][10]; /* from TOP on */
};

struct x87_core {
	u16 (*fast)(const struct fpu *f, void *a, void *b, void *mem); /* returns FSW */
	void (*exact)(struct x87_image *im, void *mem);
};

extern const u16 x87_host_cw;

/* What a core loads before and stores after its instruction on the fast path. */
#define LOAD_NONE ""
#define LOAD_A "fldt (%[a])\n\t"
#define LOAD_AB "fldt (%[b])\n\tfldt (%[a])\n\t"
#define STORE_NONE ""
#define STORE_A "fstpt (%[a])\n\t"
#define STORE_A_DROP_B "fstpt (%[a])\n\tfstp %%st(0)\n\t"
#define STORE_B "fstpt (%[b])\n\t"
#define DROP_A "fstp %%st(0)\n\t"
#define DROP_AB "fstp %%st(0)\n\tfstp %%st(0)\n\t"

#define X87_FAST(name, load, text, store)                                                                              \
	static u16 name##_fast(const struct fpu *f, void *a, void *b, void *mem)                                       \
	{                                                                                                              \
		u16 sw;                                                                                                \
	\
		asm volatile("fldcw %[cw]\n\t" load text "\n\tfnstsw %%ax\n\t" store "fldcw %[host]"                   \
			     : "=&a"(sw)                                                                               \
			     : [cw] "m"(f->fcw), [host] "m"(x87_host_cw), [a] "r"(a), [b] "r"(b), [mem] "r"(mem)       \
			     : X87_CLOBBERS);                                                                          \
		return sw;                                                                                             \
	}
#define X87_EXACT(name, text)                                                                                          \
	static void name##_exact(struct x87_image *im, void *mem)                                                      \
	{                                                                                                              \
		asm volatile("frstor %[im]\n\t" text "\n\tfnsave %[im]"                                                \
			     : [im] "+m"(*im)                                                                          \
			     : [mem] "r"(mem)                                                                          \
			     : "rax", X87_CLOBBERS);                                                                   \
	}
#define X87_CORE(name, load, text, store)                                                                              \
	X87_FAST(name, load, text, store)                                                                              \
	X87_EXACT(name, text)                                                                                          \
	static const struct x87_core name = { name##_fast, name##_exact }
/* An instruction that always takes the exact path, or whose fast path is a few lines of C. */
#define X87_CORE_EXACT(name, text)                                                                                     \
	X87_EXACT(name, text)                                                                                          \
	static const struct x87_core name = { .exact = name##_exact }

#define X87_HANDLER(name, call)                                                                                        \
	HANDLER(do_##name)                                                                                             \
	{                                                                                                              \
		return call;                                                                                           \
	}                                                                                                              \
	IMPL_ANY(name, do_##name)

/* Pending exceptions of the guest: what every waiting instruction looks at first. */
INLINE int x87_pending(struct cpu *c)
{
	if (unlikely(c->fpu.fsw & FSW_ES) && (c->cr0 & CR0_NE))
		return fault_noerr(c, VEC_MF);
	return ST_OK;
}

INLINE int x87_begin(struct cpu *c)
{
	if (unlikely(c->fpu_trap & FPU_TRAP_X87))
		return fpu_trap(c, FPU_TRAP_X87);
	return x87_pending(c);
}

/* Remembers a non-control instruction for FIP, FDP, FOP. */
INLINE void x87_note(struct cpu *c, const struct insn *i)
{
	struct fpu *f = &c->fpu;

	f->fip = c->gpr[R_RIP] - i->len;
	f->fcs = c->seg[SEG_CS].sel;
	f->fop = (i->opcode & 7) << 8 | i->modrm;
	if (i->flags & INSN_MEM) {
		f->fdp = insn_ea(c, i);
		f->fds = c->seg[i->seg == SEG_FLAT ? SEG_DS : i->seg == SEG_FLAT_SS ? SEG_SS : i->seg].sel;
	}
}

/* The physical register of ST(n). */
INLINE unsigned x87_reg(const struct fpu *f, unsigned n)
{
	return (fpu_top(f) + n) & 7;
}

/* May the fast path be taken, if the registers in `full` must not and those in `empty` must be empty? */
INLINE bool x87_is_fast(const struct fpu *f, unsigned full, unsigned empty)
{
	return likely((f->fcw & FCW_MASKS) == FCW_MASKS && (f->ftw & full) == full && !(f->ftw & empty));
}

/*
 * Runs the fast entry and returns its FSW. Clearing the host's sticky flags is the most expensive thing here, and
 * rarely needed: flags that the guest's FSW has already may stay, as the new ones are ORed to them anyway.
 */
INLINE u16 x87_fast(const struct fpu *f, const struct x87_core *core, void *a, void *b, void *mem)
{
	u16 sw;

	asm volatile("fnstsw %0" : "=a"(sw));
	if (unlikely(sw & ~f->fsw & (FSW_FLAGS | FSW_SF)))
		asm volatile("fnclex");
	return core->fast(f, a, b, mem);
}

/* Takes over flags, and those of C0-C3 that the instruction defines. For the fast path: no flag is unmasked. */
INLINE void x87_merge(struct fpu *f, u16 sw, u16 cc)
{
	f->fsw = (f->fsw & ~cc) | (sw & (cc | FSW_FLAGS));
}

/* TOP + 1: the register that was ST(0) becomes empty. */
INLINE void x87_pop(struct fpu *f)
{
	unsigned top = fpu_top(f);

	f->ftw &= ~BIT(top);
	fpu_set_top(f, top + 1);
}

/* The exact path in two steps, as a store must happen between them. a and b are physical registers. */
void x87_exact_run(const struct fpu *f, const struct x87_core *core, unsigned a, unsigned b, void *mem,
		   struct x87_image *im);
/* Flags and C0-C3 only. Returns the unmasked exceptions that the instruction raised. */
u16 x87_exact_flags(struct fpu *f, const struct x87_image *im);
/* Registers, tags and TOP as well. */
u16 x87_exact_commit(struct fpu *f, unsigned a, unsigned b, const struct x87_image *im);
u16 x87_exact(struct fpu *f, const struct x87_core *core, unsigned a, unsigned b, void *mem);

/* Unmasked, these leave operands and the stack as they were. */
#define X87_PRE_FAULTS 0x07

#endif
