// SPDX-License-Identifier: MIT
/*
 * Instructions that raise an exception or interrupt by themselves: INT n, INT3, INTO, INT1, BOUND, UD. In virtual-8086
 * mode INT n has rules of its own (SDM vol. 3, 20.3.3 and table 20-2).
 */
#include "cpu/debug.h"
#include "interp/debug.h"
#include "interp/impl.h"

/* ---- INT n in virtual-8086 mode ---- */
#define TSS_IO_BASE 102
#define REDIRECTION_BYTES 32 /* right before the I/O permission bitmap; a bit that is clear redirects */

/* *clear: the interrupt goes to the 8086 program's own handler. */
static int redirection_bit(struct cpu *c, u8 vector, bool *clear)
{
	const struct seg *tr = &c->seg[SEG_TR];
	u16 io_base = 0;
	u64 off;
	u8 map = 0;
	int st;

	if (tr->limit < TSS_IO_BASE + 1)
		return fault_gp(c, 0);
	st = mem_read_sys(c, tr->base + TSS_IO_BASE, &io_base, sizeof(io_base));
	if (st)
		return st;
	off = (u64)io_base - REDIRECTION_BYTES + vector / 8;
	if (io_base < REDIRECTION_BYTES || off > tr->limit)
		return fault_gp(c, 0);
	st = mem_read_sys(c, tr->base + off, &map, sizeof(map));
	*clear = !(map >> (vector & 7) & 1);
	return st;
}

/* FLAGS as the 8086 program sees them: with IOPL < 3, VIF stands for IF (methods 5 and 6). */
static u16 flags_8086(const struct cpu *c)
{
	u64 fl = cpu_rflags(c);

	if (cpu_iopl(c) < 3)
		fl = (fl & ~FL_IF) | FL_IOPL | (fl & FL_VIF ? FL_IF : 0);
	return (u16)fl;
}

/* Through the interrupt table at linear address 0, as an 8086 does it. */
static int deliver_8086(struct cpu *c, u8 vector)
{
	u16 frame[3] = { (u16)c->gpr[R_RIP], c->seg[SEG_CS].sel, flags_8086(c) }, entry[2] = { 0 };
	u16 sp = REG16(c, RSP * 8);
	int st = mem_read_sys(c, vector * 4u, entry, sizeof(entry));

	for (int n = 2; n >= 0 && !st; n--) {
		sp -= 2;
		st = mem_write_slow(c, SEG_SS, sp, &frame[n], 2);
	}
	if (st)
		return st;
	REG16(c, RSP * 8) = sp;
	c->gpr[R_RIP] = entry[0];
	c->seg[SEG_CS].sel = entry[1];
	c->seg[SEG_CS].base = (u64)entry[1] << 4;
	c->rflags &= ~(FL_TF | FL_RF | (cpu_iopl(c) < 3 ? FL_VIF : FL_IF));
	cpu_update_mode(c);
	debug_update(c);
	return ST_END;
}

static int int_vm86(struct cpu *c, u8 vector)
{
	bool redirect = false;
	int st = c->cr4 & CR4_VME ? redirection_bit(c, vector, &redirect) : ST_OK;

	if (st)
		return st;
	if (redirect)
		return deliver_8086(c, vector);
	return cpu_iopl(c) < 3 ? fault_gp(c, 0) : event_deliver(c, EVENT_SOFT, vector, false, 0);
}

HANDLER(do_int)
{
	u8 vector = (u8)i->imm;

	return c->mode == CPU_VM86 ? int_vm86(c, vector) : event_deliver(c, EVENT_SOFT, vector, false, 0);
}
IMPL_ANY(int, do_int);

/* ---- the others: IOPL does not matter ---- */
HANDLER(do_int3)
{
	(void)i;
	return event_int3(c);
}
IMPL_ANY(int3, do_int3);

HANDLER(do_int1)
{
	(void)i;
	return event_int1(c);
}
IMPL_ANY(int1, do_int1);

HANDLER(do_into)
{
	(void)i;
	return c->cc & FL_OF ? event_deliver(c, EVENT_SOFT, VEC_OF, false, 0) : ST_END;
}
IMPL_ANY(into, do_into);

/* Memory holds the lower and the upper bound, both inclusive. */
INLINE int bound(struct cpu *c, const struct insn *i, unsigned size)
{
	u64 ea = insn_ea(c, i), lower, upper;
	s64 index = sign_extend(reg_read(c, i->dst, size), size);
	int st = mem_load(c, i->seg, ea, size, &lower);

	if (!st)
		st = mem_load(c, i->seg, (ea + (1u << size)) & size_mask(i->asize), size, &upper);
	if (unlikely(st))
		return st;
	if (index < sign_extend(lower, size) || index > sign_extend(upper, size))
		return fault_noerr(c, VEC_BR);
	return ST_OK;
}

STAMP_WORDS(bound, RM, bound)
IMPL_TABLE(bound, ROW_WORDS(bound, RM));

HANDLER(undefined)
{
	(void)i;
	return fault_ud(c);
}
IMPL_ANY(ud0, undefined);
IMPL_ANY(ud1, undefined);
IMPL_ANY(ud2, undefined);
