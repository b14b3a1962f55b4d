// SPDX-License-Identifier: MIT
/* What an instruction needs in registers and memory to do more than fault. */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "gen.h"

#define PAGE 4096
#define RW1 (DATA_BASE + 0x1000)  /* two pages */
#define RO (DATA_BASE + 0x4000)
#define RW2 (DATA_BASE + 0x5000)  /* right behind RO; nothing follows */
#define STACK (STACK_BASE + 0x1000)

/* ---- memory ---- */

void patch_memory(struct gen *g, u64 linear, const void *data, unsigned size)
{
	for (unsigned n = 0; n < NR_MEM_PAGES; n++) {
		u64 from = linear > mem_pages[n].linear ? linear : mem_pages[n].linear;
		u64 end = linear + size, page_end = (u64)mem_pages[n].linear + PAGE;
		u32 off;

		if (end > page_end)
			end = page_end;
		if (from >= end || g->nr_patched == ARRAY_SIZE(g->patched))
			continue;
		off = n * PAGE + (u32)(from - mem_pages[n].linear);
		memcpy(g->image + off, (const u8 *)data + (from - linear), end - from);
		g->patched[g->nr_patched][0] = off;
		g->patched[g->nr_patched++][1] = (u32)(end - from);
	}
}

static u64 aligned(struct gen *g, u64 at, unsigned size)
{
	switch (below(&g->rng, 4)) {
	case 0:
	case 1:
		return at & ~63ull;
	case 2:
		return at & ~(u64)((size & -size) - 1);
	default:
		return at;
	}
}

/* Before, in, behind or across the edge of what is mapped, or may be written. */
static u64 near_edge(struct gen *g, unsigned size)
{
	static const u32 edges[] = { RW1, RW1 + PAGE, RW1 + 2 * PAGE, RO, RW2, RW2 + PAGE };
	u32 edge = edges[below(&g->rng, ARRAY_SIZE(edges))];

	return edge - size + below(&g->rng, size + 2);
}

u64 pick_address(struct gen *g, unsigned size)
{
	struct rng *r = &g->rng;

	if (size > 512 || (g->careful && size > 256)) /* the CPU may check as much as the host's XCR0 asks for */
		return chance(r, 90) ? (RW1 + 64 + below(r, 2 * PAGE - 3000)) & ~(chance(r, 90) ? 63u : 0) : DATA_BASE;
	switch (below(r, 80)) {
	default:
		return aligned(g, RW1 + 64 + below(r, 2 * PAGE - 1100), size);
	case 30 ... 32:
		return near_edge(g, size);
	case 33:
		return aligned(g, RO + below(r, PAGE - 64), size);
	case 34:
		return aligned(g, RW2 + below(r, PAGE - 64), size);
	case 35:
		return aligned(g, STACK + below(r, 2 * PAGE - 64), size);
	case 36: /* unmapped */
		return DATA_BASE + below(r, 2) * 0x3000 + below(r, PAGE);
	case 37:
		if (g->width != WIDTH_64) /* the CPU runs other bytes there */
			return aligned(g, RO + below(r, PAGE - 64), size);
		return CODE_BASE + below(r, CODE_PAGES * PAGE - 64);
	case 38: /* not canonical, or the kernel's half */
		if (size == 10 || size > 16) /* which of both faults comes first differs */
			return 0x800000000000u + below(r, 16);
		return chance(r, 50) ? 0x800000000000u - 8 + below(r, 16) : 0xffff900000000000u + below(r, PAGE);
	case 39:
		return chance(r, 50) ? rnd(r) : corner_int(r);
	}
}

/* ---- families ---- */

static u64 *gpr(struct gen *g, unsigned n)
{
	return &g->t->in.gpr[n];
}

static bool addresses(const struct enc *e, unsigned reg)
{
	return e->mem && (e->base == reg || e->index == reg);
}

static unsigned modrm_rm(const struct enc *e)
{
	return (e->modrm & 7) | (e->rex & 1) << 3;
}

static unsigned modrm_reg(const struct enc *e)
{
	return ((e->modrm >> 3) & 7) | (e->rex & 4) << 1;
}

static void set_gpr(struct gen *g, const struct enc *e, unsigned reg, u64 v)
{
	if (!addresses(e, reg))
		*gpr(g, reg) = v;
}

/* The operand that ModRM.rm names becomes v. */
static void set_operand(struct gen *g, const struct enc *e, u64 v)
{
	if (e->mem)
		patch_memory(g, e->target, &v, 8);
	else if (e->has_modrm && (e->modrm & 7) != RSP)
		*gpr(g, modrm_rm(e)) = v;
}

static u64 string_segment(const struct enc *e)
{
	return e->seg == SEG_FS ? FS_BASE : e->seg == SEG_GS ? GS_BASE : 0;
}

static void setup_string(struct gen *g, struct enc *e)
{
	unsigned size = 1u << (e->row->opcode & 1 ? e->opsize : SZ_8);
	u64 count = below(&g->rng, 24);

	if (chance(&g->rng, 5))
		count = corner_int(&g->rng);
	if (e->addr67 && chance(&g->rng, 50))
		count |= rnd(&g->rng) << 32;
	if (e->rep || chance(&g->rng, 20))
		*gpr(g, RCX) = count;
	*gpr(g, RSI) = pick_address(g, size) - string_segment(e);
	*gpr(g, RDI) = pick_address(g, size);
	if (chance(&g->rng, 15)) /* overlapping */
		*gpr(g, RDI) = *gpr(g, RSI) + string_segment(e) + (s64)(s8)rnd(&g->rng) / 4;
	if (chance(&g->rng, 40)) { /* equal for a while */
		u8 fill[64], byte = (u8)*gpr(g, RAX);

		memset(fill, byte, sizeof(fill));
		for (unsigned n = 0; n < 16; n++)
			memcpy(fill + 4 * n, gpr(g, RAX), size < 4 ? size : 4);
		if (size == 1)
			memset(fill, byte, sizeof(fill));
		patch_memory(g, *gpr(g, RSI) + string_segment(e) - 20, fill, 40 + below(&g->rng, 20));
		patch_memory(g, *gpr(g, RDI) - 20, fill, 40 + below(&g->rng, 20));
	}
}

static u16 random_selector(struct gen *g)
{
	static const u16 known[] = { 0, 3, 0x28, 0x2b, 0x2b, 0x30, 0x33, 0x10, 0x18, 0x20, 0x23, 0x40, 0x07 };
	u16 sel = chance(&g->rng, 85) ? known[below(&g->rng, ARRAY_SIZE(known))] : (u16)rnd(&g->rng);

	/* The kernel keeps the number of the CPU and of its node in this one. */
	return (sel & 0xfffc) == 0x78 ? 0x2b : sel;
}

static u64 dividend_high(struct gen *g)
{
	switch (below(&g->rng, 4)) {
	case 0:
		return 0;
	case 1:
		return ~0ull;
	case 2:
		return below(&g->rng, 256);
	default:
		return corner_int(&g->rng);
	}
}

static void setup_divide(struct gen *g, struct enc *e)
{
	u64 high = dividend_high(g);

	if (e->row->opcode == 0xf6) {
		set_gpr(g, e, RAX, (*gpr(g, RAX) & ~0xff00ull) | (high & 0xff) << 8);
		return;
	}
	if (!(e->modrm >= 0xc0 && modrm_rm(e) == RDX))
		set_gpr(g, e, RDX, high);
}

/* ---- control transfers ---- */

static u64 transfer_target(struct gen *g, u64 wanted)
{
	switch (below(&g->rng, 20)) {
	case 0:
		return DATA_BASE + 0x1000 + below(&g->rng, PAGE); /* not executable */
	case 1:
		return corner_int(&g->rng);
	case 2:
		return EXIT_BASE + EXIT_SPACING * 3;
	default:
		return wanted;
	}
}

static void set_displacement(struct gen *g, struct enc *e, u64 next, u64 target)
{
	s64 rel = (s64)(target - next);
	unsigned size = e->imm_len - (unsigned)e->rel_at;

	if (g->width == WIDTH_64 && chance(&g->rng, 2)) { /* anywhere, but not into the case's own code */
		s64 there = 0;

		memcpy(&there, e->out + e->len - e->imm_len + e->rel_at, size);
		there = size == 1 ? (s8)there : (s32)there;
		if (there > 80 || there < -64)
			return;
	}
	memcpy(e->out + e->len - e->imm_len + e->rel_at, &rel, size);
}

static void setup_far_pointer(struct gen *g, struct enc *e, u64 target)
{
	unsigned size = 1u << e->opsize;
	u8 pointer[10];
	u64 off = transfer_target(g, target);
	u16 sel = chance(&g->rng, 60) ? 0x33 : random_selector(g);

	memcpy(pointer, &off, 8);
	memcpy(pointer + size, &sel, 2);
	patch_memory(g, e->target, pointer, size + 2);
}

/* A frame is all there, or not at all: the order in which its parts are read and checked differs between CPUs. */
static void whole_frame(struct gen *g)
{
	u64 sp = *gpr(g, RSP);

	g->t->in.rflags &= ~FL_AC;
	if (sp - STACK >= 0x1800)
		*gpr(g, RSP) = chance(&g->rng, 20) ? STACK_BASE + 0x400 : STACK + 0x800 + (sp & 0x7ff);
}

/* Return frames: RIP, CS, flags, RSP, SS in slots of the operand size. */
static void setup_frame(struct gen *g, struct enc *e, u64 target, unsigned slots)
{
	unsigned size = 1u << e->opsize;
	u64 v[5] = { target, 0x33, 0, 0, 0x2b };
	u64 sp = *gpr(g, RSP);

	/* One mistake at most: the order of the checks differs between CPUs. */
	switch (below(&g->rng, 4)) {
	case 0:
		v[0] = transfer_target(g, target);
		break;
	case 1:
		v[1] = random_selector(g);
		break;
	case 2:
		v[4] = random_selector(g);
		break;
	}
	v[2] = (rnd(&g->rng) & 0x277fd7) & ~(chance(&g->rng, 90) ? FL_TF : 0) & ~(g->careful ? FL_AC : 0);
	v[3] = STACK + 0x800 + below(&g->rng, 0x400);
	for (unsigned n = 0; n < slots; n++)
		patch_memory(g, sp + n * size, &v[n], size);
}

static void setup_flags(struct gen *g, struct enc *e)
{
	u64 v = rnd(&g->rng) & ~(chance(&g->rng, 80) ? FL_TF : 0) & ~(g->careful ? FL_AC : 0);

	patch_memory(g, *gpr(g, RSP), &v, 1u << e->opsize);
}

static void setup_enter(struct gen *g, struct enc *e)
{
	u16 size = chance(&g->rng, 80) ? (u16)below(&g->rng, 256) : (u16)corner_int(&g->rng);
	u8 level = chance(&g->rng, 60) ? (u8)below(&g->rng, 3) : (u8)rnd(&g->rng);

	memcpy(e->out + e->len - 3, &size, 2);
	e->out[e->len - 1] = level;
	if (chance(&g->rng, 90))
		*gpr(g, RBP) = STACK + 0x600 + below(&g->rng, 0x800);
}

/* ---- x87 and vector state ---- */

static u16 random_fcw(struct gen *g)
{
	return (u16)(chance(&g->rng, 80) ? (rnd(&g->rng) & 0x0f00) | 0x7f : rnd(&g->rng));
}

static void setup_x87_image(struct gen *g, struct enc *e)
{
	bool short_format = e->opsize == SZ_16;
	u8 image[108];
	u16 fcw = random_fcw(g), fsw = (u16)rnd(&g->rng);

	for (unsigned n = 0; n < sizeof(image); n += 4) {
		u32 v = (u32)rnd(&g->rng);

		memcpy(image + n, &v, 4);
	}
	if (chance(&g->rng, 70))
		fsw &= ~FSW_FLAGS;
	memcpy(image, &fcw, 2);
	memcpy(image + (short_format ? 2 : 4), &fsw, 2);
	for (unsigned n = 0; n < 8; n++)
		corner_f80(&g->rng, image + (short_format ? 14 : 28) + 10 * n);
	patch_memory(g, e->target, image, short_format ? 94 : 108);
}

static void setup_restore(struct gen *g, struct enc *e)
{
	u8 image[XSAVE_IMAGE];
	u64 bv = rnd(&g->rng) & 7;

	corner_fpu(&g->rng, image);
	memcpy(image + XSAVE_HEADER, &bv, 8);
	if (chance(&g->rng, 10)) /* compacted: the same layout, since the first three components lie without a gap */
		image[XSAVE_XCOMP + 7] = 0x80, image[XSAVE_XCOMP] = 7;
	if (chance(&g->rng, 4)) {
		unsigned at = below(&g->rng, 64), component = at < 16 ? 8 * (at % 8) : 64;

		/* No bit of AVX-512, or of what came after it: the host's XCR0 may have it, the engine's has not. */
		image[XSAVE_HEADER + at] = (u8)(rnd(&g->rng) & (component == 0 ? 0x1f : component < 24 ? 0 : 0xff));
	}
	if (chance(&g->rng, 4))
		image[24 + below(&g->rng, 4)] = (u8)rnd(&g->rng);
	image[26] &= 0xfd; /* MXCSR.MM is AMD's own, and not in the guest's MXCSR_MASK */
	patch_memory(g, e->target, image, e->row->op == OP_fxrstor ? 512 : XSAVE_IMAGE);
}

/* Which components: never one that this engine has not and the host has. */
static void setup_components(struct gen *g, struct enc *e)
{
	u64 mask = rnd(&g->rng) & 7;

	*gpr(g, RAX) = mask;
	*gpr(g, RDX) = 0;
	if (addresses(e, RAX) || addresses(e, RDX))
		e->len = 0;
}

static void setup_vsib(struct gen *g, struct enc *e)
{
	u8 *low = g->t->in.xsave + 160 + 16 * e->vindex, *high = g->t->in.xsave + XSAVE_EXTENDED + 16 * e->vindex;
	bool qword = e->row->opcode & 1;

	/* AMD's CPUs let the trap come in place of the fault of a later element. */
	g->t->in.rflags &= ~FL_TF;

	for (unsigned n = 0; n < 32; n += qword ? 8 : 4) {
		s64 v = (s64)below(&g->rng, 128) - 64;

		if (chance(&g->rng, 3))
			v = (s64)corner_int(&g->rng);
		memcpy((n < 16 ? low : high) + (n & 15), &v, qword ? 8 : 4);
	}
}

static void setup_memory_value(struct gen *g, struct enc *e)
{
	u8 v[64];

	if (e->bytes == 10) {
		corner_f80(&g->rng, v);
		if (e->row->op == OP_fbld)
			for (unsigned n = 0; n < 10; n++)
				v[n] = (u8)(chance(&g->rng, 90) ? below(&g->rng, 10) | below(&g->rng, 10) << 4
								: rnd(&g->rng));
		patch_memory(g, e->target, v, 10);
		return;
	}
	corner_vector(&g->rng, v, sizeof(v));
	patch_memory(g, e->target, v, e->bytes < 64 ? e->bytes : 64);
}

/* ---- by operation ---- */

static void setup_compare_exchange(struct gen *g, struct enc *e)
{
	u64 pair[2] = { *gpr(g, RAX), *gpr(g, RDX) };

	if (chance(&g->rng, 50))
		return;
	if (e->row->op == OP_cmpxchg)
		set_operand(g, e, *gpr(g, RAX));
	else if (e->row->op == OP_cmpxchg16b)
		patch_memory(g, e->target, pair, 16);
	else
		patch_memory(g, e->target, (u32[]){ (u32)pair[0], (u32)pair[1] }, 8);
}

static void setup_bit(struct gen *g, struct enc *e)
{
	if (e->mem && !addresses(e, modrm_reg(e)) && e->row->opcode != 0xba && chance(&g->rng, 90))
		*gpr(g, modrm_reg(e)) = (u64)((s64)below(&g->rng, 4096) - 2048);
}

static void setup_selector(struct gen *g, struct enc *e)
{
	u64 v = random_selector(g) | (chance(&g->rng, 50) ? rnd(&g->rng) << 16 : 0);

	if (e->row->op == OP_pop_sreg)
		patch_memory(g, *gpr(g, RSP), &v, 8);
	else if (e->mem || (e->modrm & 7) != RSP)
		set_operand(g, e, v);
	else
		*gpr(g, modrm_rm(e)) = v;
	g->t->loads_seg = true;
}

static void setup_by_operation(struct gen *g, struct enc *e, u64 target)
{
	u64 v;

	switch (e->row->op) {
	case OP_ins: /* a hypervisor below the host emulates it in its last page, and then #PF comes before #GP */
		setup_string(g, e);
		if (*gpr(g, RDI) >> 12 == 0x7ffffffff)
			*gpr(g, RDI) = 0;
		break;
	case OP_movs: case OP_cmps: case OP_stos: case OP_lods: case OP_scas: case OP_outs:
		setup_string(g, e);
		break;
	case OP_div: case OP_idiv:
		setup_divide(g, e);
		break;
	case OP_call_rm: /* a bad target, or a bad stack: which comes first differs between CPUs */
		*gpr(g, RSP) = STACK + 0x800 + (*gpr(g, RSP) & 0x7ff);
		g->t->in.rflags &= ~FL_AC;
		/* fallthrough */
	case OP_jmp_rm:
		set_operand(g, e, transfer_target(g, target));
		break;
	case OP_jmp_far_m: case OP_call_far_m:
		setup_far_pointer(g, e, target);
		break;
	case OP_lss: case OP_lfs: case OP_lgs:
		setup_far_pointer(g, e, target);
		v = random_selector(g);
		patch_memory(g, e->target + (1u << e->opsize), &v, 2);
		g->t->loads_seg = true;
		break;
	case OP_ret:
		v = transfer_target(g, target);
		patch_memory(g, *gpr(g, RSP), &v, 8);
		break;
	case OP_retf:
		whole_frame(g);
		if (e->imm_len)
			e->out[e->len - 1] = 0;
		setup_frame(g, e, target, 2);
		break;
	case OP_iret:
		whole_frame(g);
		setup_frame(g, e, target, 5);
		break;
	case OP_popf:
		setup_flags(g, e);
		break;
	case OP_enter:
		setup_enter(g, e);
		break;
	case OP_leave:
		if (chance(&g->rng, 90))
			*gpr(g, RBP) = STACK + 0x400 + below(&g->rng, 0x1000);
		break;
	case OP_loop: case OP_loope: case OP_loopne: case OP_jcxz:
		*gpr(g, RCX) = below(&g->rng, 3) | (chance(&g->rng, 40) ? rnd(&g->rng) << 32 : 0);
		break;
	case OP_xlat:
		*gpr(g, RBX) = pick_address(g, 1) - string_segment(e) - (*gpr(g, RAX) & 0xff);
		break;
	case OP_maskmovq: /* CPUs may leave the x87's stack changed when it faults */
		if (e->seg && e->addr67)
			e->len = 0;
		*gpr(g, RDI) = ((RW1 + 64 + below(&g->rng, PAGE)) & ~7u) - string_segment(e);
		break;
	case OP_maskmovdqu: case OP_vmaskmovdqu:
		*gpr(g, RDI) = RW1 + 64 + below(&g->rng, PAGE) - string_segment(e);
		if (!g->careful && chance(&g->rng, 20))
			*gpr(g, RDI) = near_edge(g, 16) - string_segment(e);
		break;
	case OP_cmpxchg: case OP_cmpxchg8b: case OP_cmpxchg16b:
		setup_compare_exchange(g, e);
		break;
	case OP_bt: case OP_bts: case OP_btr: case OP_btc:
		setup_bit(g, e);
		break;
	case OP_lar: case OP_lsl: case OP_verr: case OP_verw: case OP_mov_to_sreg: case OP_pop_sreg:
		setup_selector(g, e);
		break;
	case OP_fldenv: case OP_frstor:
		setup_x87_image(g, e);
		break;
	case OP_fldcw:
		patch_memory(g, e->target, (u16[]){ random_fcw(g) }, 2);
		break;
	case OP_ldmxcsr: case OP_vldmxcsr:
		v = rnd(&g->rng) & (chance(&g->rng, 90) ? MXCSR_MASK : 0xfffdffff);
		patch_memory(g, e->target, &v, 4);
		break;
	case OP_fxrstor:
		setup_restore(g, e);
		break;
	case OP_xrstor:
		setup_restore(g, e);
		setup_components(g, e);
		break;
	case OP_xsave: case OP_xsaveopt: case OP_xsavec: case OP_xsaves: case OP_xrstors:
		setup_components(g, e);
		break;
	case OP_rdfsbase: case OP_wrfsbase: case OP_wrgsbase:
		g->t->loads_seg = true;
		break;
	default:
		break;
	}
}

static bool many_accesses(const struct row_info *row)
{
	switch (row->op) {
	case OP_retf: case OP_iret: case OP_maskmovq: case OP_maskmovdqu: case OP_vmaskmovdqu: case OP_jmp_far_m:
	case OP_call_far_m:
		return true;
	default:
		return false;
	}
}

void setup_operands(struct gen *g, struct enc *e, u64 rip, u64 branch_target)
{
	if (e->mem && e->bytes <= 64 && chance(&g->rng, 80))
		setup_memory_value(g, e);
	if ((e->mem && e->bytes > 16 && e->vindex == NO_REG) || many_accesses(e->row))
		g->t->coarse_cr2 = true;
	if (e->mem && e->bytes >= 512)
		g->t->mxcsr_mask_at = e->target + 28;
	if (e->vindex != NO_REG)
		setup_vsib(g, e);
	if (e->rel_at >= 0)
		set_displacement(g, e, rip + e->len, branch_target);
	setup_by_operation(g, e, branch_target);
	if (e->row->op == OP_dpps || e->row->op == OP_dppd || e->row->op == OP_vdpps || e->row->op == OP_vdppd)
		g->t->steps = true;
	if (e->seg == SEG_FS)
		g->t->uses_fs = true;
}
