// SPDX-License-Identifier: MIT
/* Segment registers: descriptors, their checks, and the instructions that load or ask for them. */
#include "cpu/cpuid.h"
#include "interp/desc.h"

/* ---- descriptors ---- */

int desc_load(struct cpu *c, u16 sel, u8 vector, struct desc *d)
{
	u32 off = sel & ~7u;
	u64 base = c->gdt.base;
	u32 limit = c->gdt.limit;

	if (sel & 4) {
		base = c->seg[SEG_LDTR].base;
		limit = c->seg[SEG_LDTR].limit;
		if (c->seg[SEG_LDTR].attr & ATTR_UNUSABLE)
			return fault_sel(c, vector, sel);
	}
	if (unlikely(off + 7 > limit))
		return fault_sel(c, vector, sel);
	d->lin = base + off;
	d->high = 0;
	return sys_read(c, d->lin, &d->raw, 8);
}

int desc_load_system(struct cpu *c, u16 sel, u8 vector, struct desc *d)
{
	u32 limit = sel & 4 ? c->seg[SEG_LDTR].limit : c->gdt.limit;
	int st = desc_load(c, sel, vector, d);

	if (st || !cpu_long_mode(c) || !desc_is_system(d))
		return st;
	if ((sel & ~7u) + 15 > limit)
		return fault_sel(c, vector, sel);
	st = sys_read(c, d->lin + 8, &d->high, 8);
	if (st)
		return st;
	if ((d->high >> 40) & 0x1f)
		return fault_sel(c, vector, sel);
	d->high &= 0xffffffff;
	return ST_OK;
}

void desc_to_seg(const struct desc *d, u16 sel, struct seg *s)
{
	s->base = desc_base(d);
	s->limit = desc_limit(d);
	s->attr = (d->raw >> 40) & 0xf0ff;
	s->sel = sel;
	if (s->attr & ATTR_S)
		s->attr |= TYPE_ACCESSED;
}

/* Bytes 4-7 hold type and base; only byte 5 changes, so that nothing else that others write there can be lost. */
static int write_type(struct cpu *c, const struct desc *d, u8 type)
{
	return sys_write(c, d->lin + 5, &type, 1);
}

int desc_set_accessed(struct cpu *c, const struct desc *d)
{
	if (likely(d->raw & BIT64(40)))
		return ST_OK;
	return write_type(c, d, (u8)(d->raw >> 40) | TYPE_ACCESSED);
}

int desc_set_busy(struct cpu *c, const struct desc *d, bool busy)
{
	u8 type = (u8)(d->raw >> 40);

	return write_type(c, d, busy ? type | TSS_BUSY : type & (u8)~TSS_BUSY);
}

/* ---- checks ---- */

int stack_desc_load(struct cpu *c, u16 sel, unsigned cpl, u8 vector, struct desc *d)
{
	int st = desc_load(c, sel, vector, d);

	if (st)
		return st;
	if ((sel & 3) != cpl || desc_dpl(d) != cpl)
		return fault_sel(c, vector, sel);
	if (desc_is_system(d) || desc_is_code(d) || !(desc_type(d) & TYPE_RW))
		return fault_sel(c, vector, sel);
	if (!desc_present(d))
		return fault_sel(c, VEC_SS, sel);
	return ST_OK;
}

int data_desc_load(struct cpu *c, u16 sel, unsigned cpl, u8 vector, struct desc *d)
{
	int st = desc_load(c, sel, vector, d);
	unsigned dpl;

	if (st)
		return st;
	if (desc_is_system(d) || (desc_is_code(d) && !(desc_type(d) & TYPE_RW)))
		return fault_sel(c, vector, sel);
	dpl = desc_dpl(d);
	if (!(desc_is_code(d) && desc_conforming(d)) && (dpl < cpl || dpl < (sel & 3u)))
		return fault_sel(c, vector, sel);
	if (!desc_present(d))
		return fault_sel(c, VEC_NP, sel);
	return ST_OK;
}

/* ---- loading ---- */

void seg_set_null(struct seg *s, u16 sel, unsigned dpl)
{
	*s = (struct seg){ .attr = ATTR_UNUSABLE | dpl << ATTR_DPL_SHIFT, .sel = sel };
}

/*
 * Real mode changes only base and selector: limits and the D/B bit of protected mode live on ("unreal mode"). In
 * virtual-8086 mode the segment is a 64 KiB one (SDM vol. 3, 20.1.1 and 20.2.1).
 */
void seg_set_real(struct seg *s, bool vm86, bool code, u16 sel)
{
	s->sel = sel;
	s->base = (u64)sel << 4;
	if (vm86) {
		s->limit = 0xffff;
		s->attr = ATTR_P | 3 << ATTR_DPL_SHIFT | ATTR_S | TYPE_RW | TYPE_ACCESSED;
		return;
	}
	s->attr &= ATTR_DB | ATTR_G;
	s->attr |= ATTR_P | ATTR_S | TYPE_RW | TYPE_ACCESSED;
	if (code)
		s->attr |= TYPE_CODE;
}

static void seg_commit(struct cpu *c, unsigned s, const struct seg *new)
{
	bool stack_changes = s == SEG_SS && ((c->seg[SEG_SS].attr ^ new->attr) & (ATTR_DB | 3 << ATTR_DPL_SHIFT));

	c->seg[s] = *new;
	if (unlikely(stack_changes))
		cpu_update_mode(c);
	else
		cpu_update_seg(c, s);
}

static int load_null(struct cpu *c, unsigned s, u16 sel)
{
	struct seg new;

	/* Only 64-bit mode outside ring 3 may have a null SS (SDM vol. 2, MOV). */
	if (s == SEG_SS && (c->mode != CPU_LONG || c->cpl == 3 || (sel & 3) != c->cpl))
		return fault_gp(c, 0);
	seg_set_null(&new, sel, s == SEG_SS ? c->cpl : 0);
	seg_commit(c, s, &new);
	return ST_OK;
}

int seg_load(struct cpu *c, unsigned s, u16 sel)
{
	struct desc d;
	struct seg new;
	int st;

	if (c->mode < CPU_PROT) {
		new = c->seg[s];
		seg_set_real(&new, c->mode == CPU_VM86, false, sel);
		seg_commit(c, s, &new);
		return ST_OK;
	}
	if (seg_null(sel))
		return load_null(c, s, sel);
	st = s == SEG_SS ? stack_desc_load(c, sel, c->cpl, VEC_GP, &d) : data_desc_load(c, sel, c->cpl, VEC_GP, &d);
	if (!st)
		st = desc_set_accessed(c, &d);
	if (st)
		return st;
	desc_to_seg(&d, sel, &new);
	seg_commit(c, s, &new);
	return ST_OK;
}

static bool reachable(const struct cpu *c, const struct seg *s)
{
	bool conforming = (s->attr & (TYPE_CODE | TYPE_CONFORMING)) == (TYPE_CODE | TYPE_CONFORMING);

	return conforming || seg_dpl(s) >= c->cpl;
}

void seg_drop_unreachable(struct cpu *c)
{
	static const u8 data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
		struct seg *s = &c->seg[data[n]];
		u64 base = s->base;

		if (s->attr & ATTR_UNUSABLE ? !s->sel : reachable(c, s))
			continue;
		/* A null selector with an RPL becomes 0 too, and bases stay, as 64-bit code finds with FS and GS. */
		seg_set_null(s, 0, 0);
		s->base = base;
		cpu_update_seg(c, data[n]);
	}
}

int ldt_load(struct cpu *c, u16 sel, u8 vector, u8 vector_np)
{
	struct desc d;
	int st;

	if (seg_null(sel)) {
		seg_set_null(&c->seg[SEG_LDTR], sel, 0);
		return ST_OK;
	}
	if (sel & 4)
		return fault_sel(c, vector, sel);
	st = desc_load_system(c, sel, vector, &d);
	if (st)
		return st;
	if (!desc_is_system(&d) || desc_type(&d) != SYS_LDT)
		return fault_sel(c, vector, sel);
	if (!desc_present(&d))
		return fault_sel(c, vector_np, sel);
	if (!canonical(desc_base(&d)))
		return fault_sel(c, vector, sel);
	desc_to_seg(&d, sel, &c->seg[SEG_LDTR]);
	return ST_OK;
}

/* ---- instructions ---- */

/* A 16-bit source operand: register or memory. */
static int read_source16(struct cpu *c, const struct insn *i, unsigned reg, u16 *v)
{
	if (i->flags & INSN_MEM)
		return mem_read(c, i->seg, insn_ea(c, i), v, 2);
	*v = REG16(c, reg);
	return ST_OK;
}

/* No interrupt, and no debug trap, between a load of SS and the one of ESP that follows (SDM vol. 3, 6.8.3). */
static int load_and_shadow(struct cpu *c, unsigned s, u16 sel)
{
	int st = seg_load(c, s, sel);

	if (st || s != SEG_SS)
		return st;
	c->ev.shadow = SHADOW_MOV_SS;
	cpu_events_changed(c);
	return ST_END;
}

static int mov_to_sreg(struct cpu *c, const struct insn *i)
{
	u16 sel;
	int st = read_source16(c, i, i->src, &sel);

	return st ? st : load_and_shadow(c, i->dst, sel);
}
const struct impl impl_mov_to_sreg = { .any = mov_to_sreg };

static int pop_sreg(struct cpu *c, const struct insn *i)
{
	u64 old = c->gpr[RSP], sp, sel;
	int st = stack_pop(c, i->size, &sel);

	if (st)
		return st;
	/* The new SS may have another stack size, but SP moves by the old one. */
	sp = c->gpr[RSP];
	c->gpr[RSP] = old;
	st = load_and_shadow(c, i->dst, (u16)sel);
	if (st == ST_OK || st == ST_END)
		c->gpr[RSP] = sp;
	return st;
}
const struct impl impl_pop_sreg = { .any = pop_sreg };

/*
 * AMD's CPUs have no m16:64 (APM vol. 3, JMP far): REX.W means nothing to them there. But a pointer in a device is one
 * that the kernel's KVM reads instead of them, and it knows REX.W on every CPU.
 */
int far_pointer_read(struct cpu *c, const struct insn *i, u16 *sel, u64 *off, unsigned *size)
{
	static const u64 mask[] = { [SZ_16] = 0xffff, [SZ_32] = 0xffffffff, [SZ_64] = ~0ull };
	bool narrow = i->size == SZ_64 && cpu_has(c, FEAT_AMD);
	u32 devices = c->io.cursor;
	u64 ea = insn_ea(c, i);
	int st;

	*off = 0;
	*size = narrow ? SZ_32 : i->size;
	st = mem_read(c, i->seg, ea, off, size_bytes(*size));
	if (!st && narrow && c->io.cursor != devices) {
		*size = SZ_64;
		st = mem_read(c, i->seg, (ea + 4) & mask[i->asize], (u8 *)off + 4, 4);
	}
	return st ? st : mem_read(c, i->seg, (ea + size_bytes(*size)) & mask[i->asize], sel, 2);
}

static int load_far_pointer(struct cpu *c, const struct insn *i, unsigned s)
{
	unsigned size;
	u64 off;
	u16 sel;
	int st = far_pointer_read(c, i, &sel, &off, &size);

	if (!st)
		st = seg_load(c, s, sel);
	if (!st)
		reg_write(c, i->dst, size, off);
	return st;
}

#define LOAD_FAR_POINTER(name, s)                                                                                      \
	static int name(struct cpu *c, const struct insn *i)                                                           \
	{                                                                                                              \
		return load_far_pointer(c, i, s);                                                                      \
	}                                                                                                              \
	const struct impl impl_##name = { .any = name }
LOAD_FAR_POINTER(lds, SEG_DS);
LOAD_FAR_POINTER(les, SEG_ES);
LOAD_FAR_POINTER(lfs, SEG_FS);
LOAD_FAR_POINTER(lgs, SEG_GS);
LOAD_FAR_POINTER(lss, SEG_SS);

static int lldt(struct cpu *c, const struct insn *i)
{
	u16 sel;
	int st;

	if (c->cpl)
		return fault_gp(c, 0);
	st = read_source16(c, i, i->dst, &sel);
	return st ? st : ldt_load(c, sel, VEC_GP, VEC_NP);
}
const struct impl impl_lldt = { .any = lldt };

static int tss_available(struct cpu *c, u16 sel, struct desc *d)
{
	int st;

	if (seg_null(sel) || (sel & 4))
		return fault_sel(c, VEC_GP, sel);
	st = desc_load_system(c, sel, VEC_GP, d);
	if (st)
		return st;
	if (!desc_is_system(d) || (desc_type(d) != SYS_TSS && (cpu_long_mode(c) || desc_type(d) != SYS_TSS16)))
		return fault_sel(c, VEC_GP, sel);
	if (!desc_present(d))
		return fault_sel(c, VEC_NP, sel);
	return canonical(desc_base(d)) ? ST_OK : fault_sel(c, VEC_GP, sel);
}

static int ltr(struct cpu *c, const struct insn *i)
{
	struct desc d;
	u16 sel;
	int st;

	if (c->cpl)
		return fault_gp(c, 0);
	st = read_source16(c, i, i->dst, &sel);
	if (!st)
		st = tss_available(c, sel, &d);
	if (!st)
		st = desc_set_busy(c, &d, true);
	if (st)
		return st;
	desc_to_seg(&d, sel, &c->seg[SEG_TR]);
	c->seg[SEG_TR].attr |= TSS_BUSY;
	return ST_OK;
}
const struct impl impl_ltr = { .any = ltr };

static int store_selector(struct cpu *c, const struct insn *i, u16 sel)
{
	if ((c->cr4 & CR4_UMIP) && c->cpl)
		return fault_gp(c, 0);
	if (i->flags & INSN_MEM)
		return mem_write(c, i->seg, insn_ea(c, i), &sel, 2);
	reg_write(c, i->dst, i->size, sel);
	return ST_OK;
}

static int sldt(struct cpu *c, const struct insn *i)
{
	return store_selector(c, i, c->seg[SEG_LDTR].sel);
}
const struct impl impl_sldt = { .any = sldt };

static int str(struct cpu *c, const struct insn *i)
{
	return store_selector(c, i, c->seg[SEG_TR].sel);
}
const struct impl impl_str = { .any = str };

/* ---- instructions that ask about a selector: the answer is ZF ---- */

static int answer(struct cpu *c, bool yes)
{
	c->cc = yes ? c->cc | FL_ZF : c->cc & ~FL_ZF;
	return ST_OK;
}

/* ST_OK with *found telling if there is such a descriptor; asking about one that is not there is no fault. */
static int look_up(struct cpu *c, u16 sel, struct desc *d, bool *found)
{
	const struct seg *ldt = &c->seg[SEG_LDTR];
	u32 limit = sel & 4 ? ldt->limit : c->gdt.limit;
	bool table = !(sel & 4) || !(ldt->attr & ATTR_UNUSABLE);

	*found = !seg_null(sel) && table && (sel & ~7u) + 7 <= limit;
	return *found ? desc_load(c, sel, VEC_GP, d) : ST_OK;
}

/* May code at CPL with the selector's RPL see it? (SDM vol. 2, LAR) */
static bool visible(const struct cpu *c, u16 sel, const struct desc *d)
{
	if (desc_is_code(d) && desc_conforming(d))
		return true;
	return desc_dpl(d) >= c->cpl && desc_dpl(d) >= (sel & 3u);
}

#define LAR_LEGACY                                                                                                     \
	(BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16_BUSY) | BIT(SYS_CALL16) | BIT(SYS_TASK_GATE) | BIT(SYS_TSS) |   \
	 BIT(SYS_TSS_BUSY) | BIT(SYS_CALL))
#define LAR_LONG (BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY) | BIT(SYS_CALL))
#define LSL_LEGACY (BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16_BUSY) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY))
#define LSL_LONG (BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY))

static int ask(struct cpu *c, const struct insn *i, u32 system_types, bool limit)
{
	struct desc d;
	bool found;
	u16 sel;
	int st = read_source16(c, i, i->src, &sel);

	if (!st)
		st = look_up(c, sel, &d, &found);
	if (st)
		return st;
	if (found && desc_is_system(&d))
		found = system_types & BIT(desc_type(&d));
	if (!found || !visible(c, sel, &d))
		return answer(c, false);
	/* Bits 19:16 are undefined (SDM vol. 2, LAR); CPUs show those of the limit. */
	reg_write(c, i->dst, i->size, limit ? desc_limit(&d) : (d.raw >> 32) & (i->size == SZ_16 ? 0xff00 : 0xffff00));
	return answer(c, true);
}

static int lar(struct cpu *c, const struct insn *i)
{
	return ask(c, i, cpu_long_mode(c) ? LAR_LONG : LAR_LEGACY, false);
}
const struct impl impl_lar = { .any = lar };

static int lsl(struct cpu *c, const struct insn *i)
{
	return ask(c, i, cpu_long_mode(c) ? LSL_LONG : LSL_LEGACY, true);
}
const struct impl impl_lsl = { .any = lsl };

static int verify(struct cpu *c, const struct insn *i, bool write)
{
	struct desc d;
	bool found;
	u16 sel;
	int st = read_source16(c, i, i->dst, &sel);

	if (!st)
		st = look_up(c, sel, &d, &found);
	if (st)
		return st;
	if (!found || desc_is_system(&d) || !visible(c, sel, &d))
		return answer(c, false);
	if (desc_is_code(&d))
		return answer(c, !write && (desc_type(&d) & TYPE_RW));
	return answer(c, !write || (desc_type(&d) & TYPE_RW));
}

static int verr(struct cpu *c, const struct insn *i)
{
	return verify(c, i, false);
}
const struct impl impl_verr = { .any = verr };

static int verw(struct cpu *c, const struct insn *i)
{
	return verify(c, i, true);
}
const struct impl impl_verw = { .any = verw };

/* Raises the RPL of a selector to that of another: no use in 64-bit mode, where its opcode is MOVSXD. */
static int arpl(struct cpu *c, const struct insn *i)
{
	u16 rpl = REG16(c, i->src) & 3, sel;
	int st = read_source16(c, i, i->dst, &sel);

	if (st)
		return st;
	if ((sel & 3) >= rpl)
		return answer(c, false);
	sel = (u16)((sel & ~3u) | rpl);
	if (i->flags & INSN_MEM)
		st = mem_write(c, i->seg, insn_ea(c, i), &sel, 2);
	else
		REG16(c, i->dst) = sel;
	return st ? st : answer(c, true);
}
const struct impl impl_arpl = { .any = arpl };
