/* SPDX-License-Identifier: MIT */
/* x87 control instructions. They leave FIP, FDP and FOP alone; those with an N do not look for pending exceptions. */
#include "interp/x87.h"

static enum env_format env_format(const struct cpu *c, const struct insn *i)
{
	bool real = c->mode == CPU_REAL || c->mode == CPU_VM86;

	if (i->size == SZ_16)
		return real ? ENV_16_REAL : ENV_16;
	return real ? ENV_32_REAL : ENV_32;
}

INLINE int x87_nowait(struct cpu *c)
{
	return fpu_check(c, FPU_TRAP_X87);
}

HANDLER(do_fnstcw)
{
	if (x87_nowait(c))
		return ST_FAULT;
	return mem_write(c, i->seg, insn_ea(c, i), &c->fpu.fcw, 2);
}
IMPL_ANY(fnstcw, do_fnstcw);

HANDLER(do_fldcw)
{
	u16 cw;
	int st;

	if (x87_begin(c))
		return ST_FAULT;
	st = mem_read(c, i->seg, insn_ea(c, i), &cw, 2);
	if (unlikely(st))
		return st;
	c->fpu.fcw = (cw & FCW_VALID) | FCW_FIXED;
	fpu_summary(&c->fpu);
	return ST_OK;
}
IMPL_ANY(fldcw, do_fldcw);

HANDLER(do_fnstsw)
{
	if (x87_nowait(c))
		return ST_FAULT;
	if (i->flags & INSN_MEM)
		return mem_write(c, i->seg, insn_ea(c, i), &c->fpu.fsw, 2);
	REG16(c, i->dst) = c->fpu.fsw;
	return ST_OK;
}
IMPL_ANY(fnstsw, do_fnstsw);

HANDLER(do_fnclex)
{
	(void)i;
	if (x87_nowait(c))
		return ST_FAULT;
	c->fpu.fsw &= ~(FSW_FLAGS | FSW_SF | FSW_ES | FSW_B);
	return ST_OK;
}
IMPL_ANY(fnclex, do_fnclex);

HANDLER(do_fninit)
{
	(void)i;
	if (x87_nowait(c))
		return ST_FAULT;
	fpu_finit(&c->fpu);
	return ST_OK;
}
IMPL_ANY(fninit, do_fninit);

HANDLER(do_fwait)
{
	(void)i;
	if (unlikely(c->fpu_trap & FPU_TRAP_WAIT))
		return fpu_trap(c, FPU_TRAP_WAIT);
	return x87_pending(c);
}
IMPL_ANY(fwait, do_fwait);

/* Environments and images are words or double words to an alignment check (SDM vol. 3, table 6-7). */
static int check_image(struct cpu *c, const struct insn *i, u64 ea, unsigned size, enum mem_access how)
{
	u64 lin;
	int st = seg_check(c, i->seg, ea, size, how, &lin);

	return st ? st : mem_check_alignment(c, i->seg, ea, i->size == SZ_16 ? 2 : 4);
}

static int read_image(struct cpu *c, const struct insn *i, void *image, unsigned size)
{
	u64 ea = insn_ea(c, i);
	int st = check_image(c, i, ea, size, MEM_READ);

	return unlikely(st) ? st : mem_read_bulk(c, i->seg, ea, image, size);
}

static int write_image(struct cpu *c, const struct insn *i, const void *image, unsigned size)
{
	u64 ea = insn_ea(c, i);
	int st = check_image(c, i, ea, size, MEM_WRITE);

	return unlikely(st) ? st : mem_write_bulk(c, i->seg, ea, image, size);
}

HANDLER(do_fnstenv)
{
	enum env_format fmt = env_format(c, i);
	u8 env[ENV_MAX];
	int st;

	if (x87_nowait(c))
		return ST_FAULT;
	fpu_to_env(&c->fpu, env, fmt);
	st = write_image(c, i, env, fpu_env_size(fmt));
	if (unlikely(st))
		return st;
	c->fpu.fcw |= FCW_MASKS;
	fpu_summary(&c->fpu);
	return ST_OK;
}
IMPL_ANY(fnstenv, do_fnstenv);

HANDLER(do_fldenv)
{
	enum env_format fmt = env_format(c, i);
	u8 env[ENV_MAX];
	int st;

	if (x87_begin(c))
		return ST_FAULT;
	st = read_image(c, i, env, fpu_env_size(fmt));
	if (unlikely(st))
		return st;
	fpu_from_env(&c->fpu, env, fmt);
	return ST_OK;
}
IMPL_ANY(fldenv, do_fldenv);

HANDLER(do_fnsave)
{
	enum env_format fmt = env_format(c, i);
	u8 image[FSAVE_MAX];
	int st;

	if (x87_nowait(c))
		return ST_FAULT;
	fpu_to_fsave(&c->fpu, image, fmt);
	st = write_image(c, i, image, fpu_env_size(fmt) + 80);
	if (unlikely(st))
		return st;
	fpu_finit(&c->fpu);
	return ST_OK;
}
IMPL_ANY(fnsave, do_fnsave);

HANDLER(do_frstor)
{
	enum env_format fmt = env_format(c, i);
	u8 image[FSAVE_MAX];
	int st;

	if (x87_begin(c))
		return ST_FAULT;
	st = read_image(c, i, image, fpu_env_size(fmt) + 80);
	if (unlikely(st))
		return st;
	fpu_from_fsave(&c->fpu, image, fmt);
	return ST_OK;
}
IMPL_ANY(frstor, do_frstor);
