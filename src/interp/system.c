// SPDX-License-Identifier: MIT
/* Control and debug registers, descriptor tables, translations and caches, HLT. */
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/debug.h"
#include "cpu/fpu.h"
#include "interp/debug.h"
#include "interp/impl.h"
#include "mem/code.h"

#define DR6_WRITABLE (DR6_TRAPS | DR6_BD | DR6_BS | DR6_BT)
#define DR7_WRITABLE 0xffff23ffull
#define LMSW_BITS (CR0_PE | CR0_MP | CR0_EM | CR0_TS)

/* After an instruction that changed how code is fetched, or that serializes: the next one is looked up anew. */
static int serialized(struct cpu *c, int st)
{
	if (st)
		return st;
	code_serialize(c);
	return ST_END;
}

/* ---- control registers ---- */

static u64 *control_register(struct cpu *c, unsigned n)
{
	switch (n) {
	case 0:
		return &c->cr0;
	case 2:
		return &c->cr2;
	case 3:
		return &c->cr3;
	case 4:
		return &c->cr4;
	case 8:
		return &c->cr8;
	default:
		return NULL;
	}
}

HANDLER(do_mov_from_cr)
{
	const u64 *cr = control_register(c, i->src);

	if (!cr)
		return fault_ud(c);
	if (c->cpl)
		return fault_gp(c, 0);
	reg_write(c, i->dst, i->size, *cr);
	return ST_OK;
}
IMPL_ANY(mov_from_cr, do_mov_from_cr);

/* A client with its own APIC wants to know when the task priority drops (KVM_EXIT_SET_TPR). */
static int write_cr8(struct cpu *c, u64 v)
{
	u64 old = c->cr8;
	int st = cpu_write_cr8(c, v);

	if (st || v >= old)
		return st;
	c->exit.reason = EXIT_TPR;
	return ST_EXIT_DONE;
}

HANDLER(do_mov_to_cr)
{
	u64 v = reg_read(c, i->src, i->size);

	if (!control_register(c, i->dst))
		return fault_ud(c);
	if (c->cpl)
		return fault_gp(c, 0);
	switch (i->dst) {
	case 0:
		return serialized(c, cpu_write_cr0(c, v));
	case 2:
		c->cr2 = v;
		return ST_OK;
	case 3:
		return serialized(c, cpu_write_cr3(c, v));
	case 4:
		return serialized(c, cpu_write_cr4(c, v));
	default:
		return write_cr8(c, v);
	}
}
IMPL_ANY(mov_to_cr, do_mov_to_cr);

HANDLER(do_clts)
{
	(void)i;
	if (c->cpl)
		return fault_gp(c, 0);
	c->cr0 &= ~CR0_TS;
	c->fpu_trap = fpu_trap_bits(c->cr0, c->cr4, c->fpu.xcr0);
	return ST_END;
}
IMPL_ANY(clts, do_clts);

/* A register gets as much of CR0 as it holds, memory always a word. */
HANDLER(do_smsw)
{
	if (c->cpl && (c->cr4 & CR4_UMIP))
		return fault_gp(c, 0);
	if (i->form == FORM_M)
		return store_operand(c, i, SZ_16, c->cr0 & 0xffff);
	reg_write(c, i->dst, i->size, c->cr0);
	return ST_OK;
}
IMPL_ANY(smsw, do_smsw);

/* Sets PE, but cannot clear it. */
HANDLER(do_lmsw)
{
	u64 v;
	int st = ST_OK;

	if (c->cpl)
		return fault_gp(c, 0);
	if (i->form == FORM_M)
		st = load_operand(c, i, SZ_16, &v);
	else
		v = REG16(c, i->dst);
	if (st)
		return st;
	v = (c->cr0 & ~(LMSW_BITS & ~CR0_PE)) | (v & LMSW_BITS);
	return serialized(c, cpu_write_cr0(c, v));
}
IMPL_ANY(lmsw, do_lmsw);

/* ---- debug registers ---- */

/* ST_OK and the register, with 4 and 5 being 6 and 7 unless CR4.DE; else the fault (SDM vol. 3, 17.2.2 and 17.2.4). */
static int debug_register(struct cpu *c, unsigned encoded, unsigned *n)
{
	*n = encoded;
	if (encoded > 7)
		return fault_ud(c);
	if (encoded == 4 || encoded == 5) {
		if (c->cr4 & CR4_DE)
			return fault_ud(c);
		*n = encoded + 2;
	}
	if (c->cpl)
		return fault_gp(c, 0);
	return event_general_detect(c);
}

HANDLER(do_mov_from_dr)
{
	unsigned n;
	int st = debug_register(c, i->src, &n);

	if (st)
		return st;
	reg_write(c, i->dst, i->size, c->dr[n]);
	return ST_OK;
}
IMPL_ANY(mov_from_dr, do_mov_from_dr);

HANDLER(do_mov_to_dr)
{
	u64 v = reg_read(c, i->src, i->size);
	unsigned n;
	int st = debug_register(c, i->dst, &n);

	if (st)
		return st;
	if (n >= 6 && v >> 32)
		return fault_gp(c, 0);
	if (n == 6)
		v = (v & DR6_WRITABLE) | DR6_FIXED;
	else if (n == 7)
		v = (v & DR7_WRITABLE) | DR7_FIXED;
	c->dr[n] = v;
	debug_update(c);
	return ST_END;
}
IMPL_ANY(mov_to_dr, do_mov_to_dr);

/* ---- descriptor tables ---- */

static int load_table(struct cpu *c, const struct insn *i, struct dtable *t)
{
	u8 image[10];
	u64 base = 0;
	u16 limit;
	int st;

	if (c->cpl)
		return fault_gp(c, 0);
	if (i->size == SZ_64)
		st = mem_read(c, i->seg, insn_ea(c, i), image, 10);
	else
		st = mem_read(c, i->seg, insn_ea(c, i), image, 6);
	if (st)
		return st;
	__builtin_memcpy(&limit, image, 2);
	__builtin_memcpy(&base, image + 2, i->size == SZ_64 ? 8 : 4);
	if (i->size == SZ_16)
		base &= 0xffffff;
	if (!is_canonical(base))
		return fault_gp(c, 0);
	*t = (struct dtable){ base, limit };
	return serialized(c, ST_OK);
}

/* All of the base is stored, also with 16-bit operands, whatever the SDM says of the 80286's way. */
static int store_table(struct cpu *c, const struct insn *i, const struct dtable *t)
{
	u8 image[10];

	if (c->cpl && (c->cr4 & CR4_UMIP))
		return fault_gp(c, 0);
	__builtin_memcpy(image, &t->limit, 2);
	__builtin_memcpy(image + 2, &t->base, 8);
	if (i->size == SZ_64)
		return mem_write(c, i->seg, insn_ea(c, i), image, 10);
	return mem_write(c, i->seg, insn_ea(c, i), image, 6);
}

HANDLER(do_lgdt)
{
	return load_table(c, i, &c->gdt);
}
IMPL_ANY(lgdt, do_lgdt);

HANDLER(do_lidt)
{
	return load_table(c, i, &c->idt);
}
IMPL_ANY(lidt, do_lidt);

HANDLER(do_sgdt)
{
	return store_table(c, i, &c->gdt);
}
IMPL_ANY(sgdt, do_sgdt);

HANDLER(do_sidt)
{
	return store_table(c, i, &c->idt);
}
IMPL_ANY(sidt, do_sidt);

/* ---- translations and caches ---- */

HANDLER(do_invlpg)
{
	u64 lin = (c->seg[i->seg].base + insn_ea(c, i)) & c->lin_mask;

	if (c->cpl)
		return fault_gp(c, 0);
	if (is_canonical(lin))
		tlb_flush_page(c, lin);
	return serialized(c, ST_OK);
}
IMPL_ANY(invlpg, do_invlpg);

enum invpcid_type { INVPCID_ADDRESS, INVPCID_SPACE, INVPCID_ALL, INVPCID_ALL_BUT_GLOBAL, NR_INVPCID_TYPES };

static bool invpcid_ok(const struct cpu *c, u64 type, u64 pcid, u64 lin)
{
	if (type >= NR_INVPCID_TYPES || pcid >> 12)
		return false;
	if (type <= INVPCID_SPACE && pcid && !(c->cr4 & CR4_PCIDE))
		return false;
	return type != INVPCID_ADDRESS || is_canonical(lin);
}

/* The descriptor is a PCID and a linear address. More is invalidated than need be; global pages too, that is. */
HANDLER(do_invpcid)
{
	u64 type = reg_read(c, i->dst, c->mode == CPU_LONG ? SZ_64 : SZ_32), desc[2];
	int st;

	if (!cpu_has(c, FEAT_INVPCID))
		return fault_ud(c);
	if (c->cpl)
		return fault_gp(c, 0);
	st = mem_read(c, i->seg, insn_ea(c, i), desc, sizeof(desc));
	if (st)
		return st;
	if (!invpcid_ok(c, type, desc[0], desc[1]))
		return fault_gp(c, 0);
	if (type == INVPCID_ADDRESS)
		tlb_flush_page(c, desc[1]);
	else if (type == INVPCID_SPACE && (c->cr4 & CR4_PCIDE))
		tlb_flush_space(c, c->cr3 & 0xfff, (unsigned)desc[0]);
	else
		tlb_flush(c);
	return serialized(c, ST_OK);
}
IMPL_ANY(invpcid, do_invpcid);

/* Guest memory is always coherent: nothing to write back. WBNOINVD decodes to the same. */
HANDLER(do_wbinvd)
{
	(void)i;
	return c->cpl ? fault_gp(c, 0) : serialized(c, ST_OK);
}
IMPL_ANY(wbinvd, do_wbinvd);
IMPL_ANY(invd, do_wbinvd);

/* ---- waiting ---- */

HANDLER(do_hlt)
{
	(void)i;
	if (c->cpl)
		return fault_gp(c, 0);
	c->exit.reason = EXIT_HLT;
	return ST_EXIT_DONE;
}
IMPL_ANY(hlt, do_hlt);

/* Not reported by CPUID, and yet some guests use them without asking: like the kernel's KVM, do nothing at CPL 0. */
HANDLER(do_monitor)
{
	(void)i;
	if (c->cpl)
		return fault_ud(c);
	return (u32)c->gpr[RCX] ? fault_gp(c, 0) : ST_OK;
}
IMPL_ANY(monitor, do_monitor);

HANDLER(do_mwait)
{
	(void)i;
	return c->cpl ? fault_ud(c) : ST_OK;
}
IMPL_ANY(mwait, do_mwait);

/* ---- SMAP ---- */

static int set_ac(struct cpu *c, bool on)
{
	if (c->cpl || !cpu_has(c, FEAT_SMAP))
		return fault_ud(c);
	cpu_set_ac(c, on);
	return ST_OK;
}

HANDLER(do_stac)
{
	(void)i;
	return set_ac(c, true);
}
IMPL_ANY(stac, do_stac);

HANDLER(do_clac)
{
	(void)i;
	return set_ac(c, false);
}
IMPL_ANY(clac, do_clac);

/* ---- what no guest of ours has: RSM outside SMM ---- */

HANDLER(do_undefined)
{
	(void)i;
	return fault_ud(c);
}
IMPL_ANY(rsm, do_undefined);
