// SPDX-License-Identifier: MIT
/*
 * SSE and AVX instructions, copied with other operands: whatever has vector registers in ModRM and VEX.vvvv, an
 * immediate and a general register beside them at most. The guest's vector registers are in cpu::fpu; an instruction
 * gets its own in XMM0 (ModRM.reg), XMM1 (ModRM.rm) and XMM2 (VEX.vvvv), so the host's are free before and after.
 *
 * The guest's MXCSR is the host's from the first such instruction until translated code is left or calls a handler
 * (cpu::jit.simd): then instructions leave their exception flags there by themselves. That is only done while all
 * exceptions are masked and nothing traps; else handlers do all of it.
 */
#include "cpu/fpu.h"
#include "insn/decode.h"
#include "jit/translate.h"

#define X_REG 0
#define X_RM 1
#define X_VVVV 2

/* Bits of cpu::jit.simd: what may be executed now. */
#define SIMD_SSE 1
#define SIMD_AVX 2

struct copied {
	struct encoding e;
	const struct insn *i;
	bool mem;
	u8 size;           /* of memory */
	bool writes;       /* the first operand is a destination */
	bool stores;       /* and it is memory */
	enum host_reg gpr; /* of the operand in a general register */
};

static struct rm vec_field(unsigned n)
{
	return rm_mem(H_CPU, (s32)(offsetof(struct cpu, fpu.vec) + n * sizeof(((struct cpu *)NULL)->fpu.vec[0])));
}

/* ---- which ones ---- */

/* Those with implicit operands, or accesses that depend on a mask. */
static bool is_odd(unsigned op)
{
	switch (op) {
	case OP_pblendvb:
	case OP_blendvps:
	case OP_blendvpd:
	case OP_sha256rnds2:
	case OP_pcmpestri:
	case OP_pcmpestrm:
	case OP_pcmpistri:
	case OP_pcmpistrm:
	case OP_vpcmpestri:
	case OP_vpcmpestrm:
	case OP_vpcmpistri:
	case OP_vpcmpistrm:
	case OP_maskmovdqu:
	case OP_vmaskmovdqu:
	case OP_vmaskmovps:
	case OP_vmaskmovpd:
	case OP_vpmaskmovd:
	case OP_vpmaskmovq:
		return true;
	default:
		return false;
	}
}

/* Those whose result is flags. */
static bool is_comparison(unsigned op)
{
	switch (op) {
	case OP_comiss:
	case OP_comisd:
	case OP_ucomiss:
	case OP_ucomisd:
	case OP_ptest:
	case OP_vcomiss:
	case OP_vcomisd:
	case OP_vucomiss:
	case OP_vucomisd:
	case OP_vptest:
	case OP_vtestps:
	case OP_vtestpd:
		return true;
	default:
		return false;
	}
}

/* Legacy SSE wants operands of 16 bytes aligned, except these; of the VEX forms only the others do. */
static bool wants_alignment(const struct copied *c)
{
	switch (c->i->op) {
	case OP_movups:
	case OP_movupd:
	case OP_movdqu:
	case OP_lddqu:
		return false;
	case OP_vmovaps:
	case OP_vmovapd:
	case OP_vmovdqa:
	case OP_vmovntps:
	case OP_vmovntpd:
	case OP_vmovntdq:
	case OP_vmovntdqa:
		return true;
	default:
		return !c->e.vex && c->size == SZ_128;
	}
}

/* Does the destination's old value matter? (It never does harm to load it.) */
static bool reads_destination(const struct copied *c)
{
	if (c->e.vex)
		return c->i->feature == FEATURE_FMA;
	switch (c->i->op) {
	case OP_movaps:
	case OP_movups:
	case OP_movapd:
	case OP_movupd:
	case OP_movdqa:
	case OP_movdqu:
	case OP_pshufd:
		return false;
	default:
		return true;
	}
}

static bool is_gpr(unsigned kind)
{
	return kind == REG_GPR || kind == RM_GPR;
}

static bool has_gpr(const struct encoding *e)
{
	return is_gpr(e->kind[0]) || is_gpr(e->kind[1]) || is_gpr(e->kind[2]);
}

static bool kinds_ok(const struct encoding *e)
{
	bool vec = false;

	for (unsigned n = 0; n < ARRAY_SIZE(e->kind); n++) {
		switch (e->kind[n]) {
		case VEX_VEC:
		case REG_VEC:
		case RM_VEC:
			vec = true;
			break;
		case NONE:
		case IMM_U8:
		case RM_MEM:
			break;
		case REG_GPR:
		case RM_GPR:
			if (n > 1 && !e->vex)
				return false;
			break;
		default:
			return false;
		}
	}
	return vec && e->map != MAP_1;
}

static bool is_vzeroupper(const struct insn *i)
{
	return i->op == OP_vzeroupper && i->feature != FEATURE_ABSENT;
}

bool block_encoding(const struct block *b, const struct insn *i, struct encoding *e)
{
	return insn_encoding(b->page->copy + b->off + i->end - i->len, i->len, b->mode, e);
}

static bool copy_find(const struct block *b, const struct insn *i, struct copied *c)
{
	if (i->feature == FEATURE_ABSENT || i->size > SZ_256 || is_odd(i->op) || !block_encoding(b, i, &c->e) ||
	    !kinds_ok(&c->e))
		return false;
	/* W does not widen general registers outside 64-bit mode, where the copy runs. */
	c->e.w &= b->mode == DECODE_64 || !has_gpr(&c->e);
	c->i = i;
	c->size = c->e.src2 ? i->src2 : i->size;
	c->mem = i->flags & INSN_MEM;
	c->writes = !is_comparison(i->op);
	c->stores = c->writes && c->mem && (c->e.kind[0] == RM_VEC || c->e.kind[0] == RM_MEM || c->e.kind[0] == RM_GPR);
	return !c->mem || operand_ok(i);
}

/* ---- emission ---- */
static const u8 mandatory[] = { 0, 0x66, 0xf3, 0xf2 };

static void emit_vex(struct emit *e, unsigned map, bool w, unsigned vvvv, bool l, unsigned pp, bool r, bool b)
{
	emit8(e, 0xc4);
	emit8(e, !r << 7 | 1 << 6 | !b << 5 | map);
	emit8(e, w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
}

/* MOVAPS, or VMOVDQA of 16 or 32 bytes. */
static void emit_vec_move(struct emit *e, unsigned opcode_sse, unsigned opcode_avx, unsigned x, unsigned n, bool vex,
			  bool l)
{
	struct rm rm = vec_field(n);

	if (vex) {
		emit_vex(e, 1, false, 0, l, 1, false, H_CPU >> 3);
		emit8(e, opcode_avx);
	} else {
		emit8(e, 0x40 | H_CPU >> 3);
		emit8(e, 0x0f);
		emit8(e, opcode_sse);
	}
	emit_modrm(e, x, &rm);
}

static void load_vec(struct trans *t, const struct copied *c, unsigned x, unsigned n)
{
	emit_vec_move(&t->e, 0x28, 0x6f, x, n, c->e.vex, c->e.l);
}

/* A VEX instruction has cleared what is above its result. */
static void store_vec(struct trans *t, const struct copied *c, unsigned x, unsigned n)
{
	emit_vec_move(&t->e, 0x29, 0x7f, x, n, c->e.vex, true);
}

static void load_operands(struct trans *t, const struct copied *c)
{
	bool old = reads_destination(c) || !c->writes;

	for (unsigned n = 0; n < ARRAY_SIZE(c->e.kind); n++) {
		if (c->e.kind[n] == REG_VEC && (n || old))
			load_vec(t, c, X_REG, c->e.reg);
		if (c->e.kind[n] == RM_VEC && !c->mem && (n || old))
			load_vec(t, c, X_RM, c->e.rm);
		if (c->e.kind[n] == VEX_VEC && (n || old))
			load_vec(t, c, X_VVVV, c->e.vvvv);
	}
}

static void store_result(struct trans *t, const struct copied *c)
{
	if (!c->writes || c->stores)
		return;
	switch (c->e.kind[0]) {
	case REG_VEC:
		store_vec(t, c, X_REG, c->e.reg);
		break;
	case RM_VEC:
		store_vec(t, c, X_RM, c->e.rm);
		break;
	case VEX_VEC:
		store_vec(t, c, X_VVVV, c->e.vvvv);
		break;
	default:
		dest_done(t, c->i->dst, c->gpr);
	}
}

/* The instruction itself, with the operands where load_operands() has put them. */
static void emit_copy(struct trans *t, const struct copied *c)
{
	const struct encoding *k = &c->e;
	struct emit *e = &t->e;
	unsigned reg = k->digit;
	struct rm rm = rm_reg((enum host_reg)X_RM);
	bool has_imm = false, vvvv = false;

	for (unsigned n = 0; n < ARRAY_SIZE(k->kind); n++) {
		has_imm |= k->kind[n] == IMM_U8;
		vvvv |= k->kind[n] == VEX_VEC;
		if (k->kind[n] == REG_VEC)
			reg = X_REG;
		if (k->kind[n] == REG_GPR)
			reg = (unsigned)c->gpr;
		if (k->kind[n] == RM_GPR && !c->mem)
			rm = rm_reg(c->gpr);
	}
	if (c->mem)
		rm = guest_memory(t);
	if (k->vex) {
		emit_vex(e, k->map - MAP_V0F + 1u, k->w, vvvv ? X_VVVV : 0, k->l, k->pp, reg >> 3,
			 (unsigned)rm.base >> 3);
	} else {
		unsigned rex = k->w << 3 | reg >> 3 << 2 | (unsigned)rm.base >> 3;

		if (k->pp)
			emit8(e, mandatory[k->pp]);
		if (rex)
			emit8(e, 0x40 | rex);
		emit8(e, 0x0f);
		if (k->map != MAP_0F)
			emit8(e, k->map == MAP_0F38 ? 0x38 : 0x3a);
	}
	emit8(e, k->opcode);
	emit_modrm(e, reg, &rm);
	if (has_imm)
		emit8(e, (u8)c->i->imm);
}

/* The general register: a source is fetched, a destination chosen. Only one of the operands is one. */
static void find_gpr(struct trans *t, struct copied *c)
{
	c->gpr = H_NONE;
	if (is_gpr(c->e.kind[0]) && !(c->mem && c->e.kind[0] == RM_GPR))
		c->gpr = dest(t, c->i->dst, SZ_64, false, H_TMP);
	for (unsigned n = 1; n < 3; n++)
		if (is_gpr(c->e.kind[n]) && !(c->mem && c->e.kind[n] == RM_GPR))
			c->gpr = source(t, n == 1 ? c->i->src : c->i->src2, H_TMP2);
}

static void check_alignment(struct trans *t, unsigned bytes)
{
	flags_clobber(t);
	emit_ext(&t->e, SZ_8, 0xf7, 0, rm_reg(H_ADDR)); /* test cl, imm8 */
	emit8(&t->e, bytes - 1);
	slow_if(t, COND_NZ);
}

/* ---- the host's state ---- */
/* AVX implies SSE. */
static void test_simd(struct emit *e, unsigned need)
{
	emit_ext(e, SZ_8, 0xf7, 0, CPU_FIELD(jit.simd));
	emit8(e, need & SIMD_AVX ? SIMD_AVX : SIMD_SSE);
}

void simd_resume(struct trans *t, unsigned need)
{
	emit_target(emit_call(&t->e), t->jit->simd_begin);
	test_simd(&t->e, need);
}

static void simd_ready(struct trans *t, unsigned need)
{
	u8 *ready;

	if ((t->simd & need) == need)
		return;
	flags_clobber(t);
	test_simd(&t->e, need);
	ready = emit_jcc(&t->e, COND_NZ);
	simd_resume(t, need);
	slow_if(t, COND_Z);
	emit_here(&t->e, ready);
	t->simd |= (u8)need;
}

static void emit_mxcsr(struct emit *e, unsigned digit, struct rm rm)
{
	emit_ext(e, SZ_32, OPC_0F | OPC_SAME | 0xae, digit, rm);
}

/* Loads MXCSR if that may be, and is not done already: then it has flags of its own. Changes H_TMP and flags. */
void simd_begin_emit(struct emit *e)
{
	u8 *out[4];

	emit_ext(e, SZ_8, OPC_ALU_IMM, ALU_CMP, CPU_FIELD(jit.simd));
	emit8(e, 0);
	out[3] = emit_jcc(e, COND_NZ);
	emit_load(e, SZ_32, H_TMP, CPU_FIELD(fpu.mxcsr));
	emit_ext(e, SZ_32, 0xf7, 2, rm_reg(H_TMP)); /* not */
	emit_ext(e, SZ_32, 0xf7, 0, rm_reg(H_TMP)); /* test */
	emit32(e, MXCSR_MASKS);
	out[0] = emit_jcc(e, COND_NZ);
	emit_ext(e, SZ_8, 0xf7, 0, CPU_FIELD(fpu_trap));
	emit8(e, FPU_TRAP_SSE);
	out[1] = emit_jcc(e, COND_NZ);
	emit_mxcsr(e, 2, CPU_FIELD(fpu.mxcsr)); /* ldmxcsr */
	emit_ext(e, SZ_8, 0xc7, 0, CPU_FIELD(jit.simd));
	emit8(e, SIMD_SSE);
	emit_ext(e, SZ_8, 0xf7, 0, CPU_FIELD(fpu_trap));
	emit8(e, FPU_TRAP_AVX);
	out[2] = emit_jcc(e, COND_NZ);
	emit_ext(e, SZ_8, 0xc7, 0, CPU_FIELD(jit.simd));
	emit8(e, SIMD_SSE | SIMD_AVX);
	for (unsigned n = 0; n < ARRAY_SIZE(out); n++)
		emit_here(e, out[n]);
	emit8(e, 0xc3);
}

/* Before anything but translated code runs: the guest's flags are the guest's, and MXCSR the client's. */
void simd_end_emit(struct emit *e, bool avx)
{
	u8 *out;

	emit_ext(e, SZ_8, OPC_ALU_IMM, ALU_CMP, CPU_FIELD(jit.simd));
	emit8(e, 0);
	out = emit_jcc(e, COND_Z);
	emit_mxcsr(e, 3, CPU_FIELD(fpu.mxcsr));  /* stmxcsr */
	emit_mxcsr(e, 2, CPU_FIELD(host_mxcsr)); /* ldmxcsr */
	if (avx) {                               /* vzeroupper */
		emit8(e, 0xc5);
		emit8(e, 0xf8);
		emit8(e, 0x77);
	}
	emit_ext(e, SZ_8, 0xc7, 0, CPU_FIELD(jit.simd));
	emit8(e, 0);
	emit_here(e, out);
}

/* At the end of most functions with AVX. */
static void emit_vzeroupper(struct trans *t)
{
	struct emit *e = &t->e;

	simd_ready(t, SIMD_AVX);
	emit_vex(e, 1, false, 0, false, 0, false, false); /* vxorps xmm0, xmm0, xmm0 */
	emit8(e, 0x57);
	emit8(e, 0xc0);
	for (unsigned n = 0; n < 16; n++) {
		struct rm upper = vec_field(n);

		upper.disp += 16;
		emit_vex(e, 1, false, 0, false, 1, false, H_CPU >> 3); /* vmovdqa */
		emit8(e, 0x7f);
		emit_modrm(e, 0, &upper);
	}
}

bool emit_simd(struct trans *t, const struct insn *i)
{
	struct copied c;

	if (is_vzeroupper(i)) {
		emit_vzeroupper(t);
		return true;
	}
	if (!copy_find(t->b, i, &c))
		return false;
	simd_ready(t, c.e.vex ? SIMD_AVX : SIMD_SSE);
	if (c.mem) {
		operand_address(t, i, c.size, c.stores ? MEM_WRITE : MEM_READ);
		if (wants_alignment(&c))
			check_alignment(t, 1u << c.size);
	}
	load_operands(t, &c);
	find_gpr(t, &c);
	emit_copy(t, &c);
	if (!c.writes)
		flags_after(t, USE_SET);
	store_result(t, &c);
	return true;
}
