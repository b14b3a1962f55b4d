/* SPDX-License-Identifier: MIT */
/*
 * The decoder against Zydis: every opcode of every map, with every ModRM byte, behind many sets of prefixes, in every
 * mode. Both must agree on what is an instruction, how long it is, and what its operands are. Where they do not, the
 * tables below say why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <Zydis/Zydis.h>

#include "cpu/cpu.h"
#include "insn/insn.h"

#define MAX_REPORTS 40

struct mode {
	enum decode_mode ours;
	ZydisMachineMode zydis;
	ZydisStackWidth width;
	const char *name;
};

/* Zydis has no real mode with 32-bit code. */
static const struct mode modes[] = {
	{ DECODE_16_REAL, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16, "real16" },
	{ DECODE_16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16, "prot16" },
	{ DECODE_32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32, "prot32" },
	{ DECODE_64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, "long64" },
};

/* One comparison: the bytes, what both decoders made of them. */
struct trial {
	const struct mode *mode;
	u8 bytes[20];
	int len;
	struct insn i;
	bool valid;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	const ZydisDecodedOperand *mem; /* the ModRM memory operand, if there is one */
};

struct fixture {
	ZydisDecoder decoder[ARRAY_SIZE(modes)];
	unsigned reports;
	u64 trials;
	u64 seed;
	char seen[256][64]; /* one report of a kind is enough */
	unsigned nr_seen;
};

static u8 random_byte(struct fixture *f)
{
	f->seed = f->seed * 6364136223846793005ull + 1442695040888963407ull;
	return f->seed >> 56;
}

/* ---- what may differ ---- */

/* Extensions that the table leaves out on purpose: the guest is never told of them, so they are #UD. */
static const u8 left_out[] = {
	ZYDIS_ISA_EXT_AMD3DNOW,  ZYDIS_ISA_EXT_AMD_INVLPGB, ZYDIS_ISA_EXT_AMX_BF16,
	ZYDIS_ISA_EXT_AMX_INT8,  ZYDIS_ISA_EXT_AMX_TILE,    ZYDIS_ISA_EXT_AVX512EVEX,
	ZYDIS_ISA_EXT_AVX512VEX, ZYDIS_ISA_EXT_AVX_VNNI,    ZYDIS_ISA_EXT_CET,
	ZYDIS_ISA_EXT_CLZERO,    ZYDIS_ISA_EXT_ENQCMD,      ZYDIS_ISA_EXT_FMA4,
	ZYDIS_ISA_EXT_HRESET,    ZYDIS_ISA_EXT_KEYLOCKER,   ZYDIS_ISA_EXT_KEYLOCKER_WIDE,
	ZYDIS_ISA_EXT_KNC,       ZYDIS_ISA_EXT_KNCE,        ZYDIS_ISA_EXT_KNCV,
	ZYDIS_ISA_EXT_MCOMMIT,   ZYDIS_ISA_EXT_MONITORX,    ZYDIS_ISA_EXT_MOVDIR,
	ZYDIS_ISA_EXT_MPX,       ZYDIS_ISA_EXT_PADLOCK,     ZYDIS_ISA_EXT_PCONFIG,
	ZYDIS_ISA_EXT_PT,        ZYDIS_ISA_EXT_RDPRU,       ZYDIS_ISA_EXT_RTM,
	ZYDIS_ISA_EXT_SERIALIZE, ZYDIS_ISA_EXT_SGX,         ZYDIS_ISA_EXT_SGX_ENCLV,
	ZYDIS_ISA_EXT_SMX,       ZYDIS_ISA_EXT_SNP,         ZYDIS_ISA_EXT_SSE4A,
	ZYDIS_ISA_EXT_SVM,       ZYDIS_ISA_EXT_TBM,         ZYDIS_ISA_EXT_TDX,
	ZYDIS_ISA_EXT_TSX_LDTRK, ZYDIS_ISA_EXT_UINTR,       ZYDIS_ISA_EXT_VMFUNC,
	ZYDIS_ISA_EXT_VTX,       ZYDIS_ISA_EXT_WAITPKG,     ZYDIS_ISA_EXT_XOP,
};

/* Our name, Zydis' names: where an operation has not just its mnemonic as its name (see opcodes.def). */
static const char *const names[][2] = {
	{ "push_sreg", "push" },
	{ "push_imm", "push" },
	{ "pop_sreg", "pop" },
	{ "imul_imm", "imul" },
	{ "mov_from_sreg", "mov" },
	{ "mov_to_sreg", "mov" },
	{ "mov_from_cr", "mov" },
	{ "mov_to_cr", "mov" },
	{ "mov_from_dr", "mov" },
	{ "mov_to_dr", "mov" },
	{ "mov_moffs_load", "mov" },
	{ "mov_moffs_store", "mov" },
	{ "movd_to_mmx", "movd movq" },
	{ "movd_from_mmx", "movd movq" },
	{ "movd_to_xmm", "movd movq" },
	{ "movd_from_xmm", "movd movq" },
	{ "shld_cl", "shld" },
	{ "shrd_cl", "shrd" },
	{ "call_rel", "call" },
	{ "call_rm", "call" },
	{ "call_far_ptr", "call" },
	{ "call_far_m", "call" },
	{ "jmp_rel", "jmp" },
	{ "jmp_rm", "jmp" },
	{ "jmp_far_ptr", "jmp" },
	{ "jmp_far_m", "jmp" },
	{ "retf", "ret" },
	{ "vmovd_to_xmm", "vmovd vmovq" },
	{ "vmovd_from_xmm", "vmovd vmovq" },
	{ "fstp", "fstpnce" },
	{ "fnop", "feni8087_nop fdisi8087_nop fsetpm287_nop" },
	{ "movs", "movsb movsw movsd movsq" },
	{ "cmps", "cmpsb cmpsw cmpsd cmpsq" },
	{ "stos", "stosb stosw stosd stosq" },
	{ "lods", "lodsb lodsw lodsd lodsq" },
	{ "scas", "scasb scasw scasd scasq" },
	{ "ins", "insb insw insd" },
	{ "outs", "outsb outsw outsd" },
	{ "movsd_xmm", "movsd" },
	{ "cmpsd_xmm", "cmpsd" },
	{ "cbw", "cwde cdqe" },
	{ "cwd", "cdq cqo" },
	{ "pusha", "pushad" },
	{ "popa", "popad" },
	{ "pushf", "pushfd pushfq" },
	{ "popf", "popfd popfq" },
	{ "iret", "iretd iretq" },
	{ "jcxz", "jecxz jrcxz" },
	{ "nop", "prefetch prefetchw prefetchwt1 prefetchnta prefetcht0 prefetcht1 prefetcht2" },
	{ "fxsave", "fxsave64" },
	{ "fxrstor", "fxrstor64" },
	{ "xsave", "xsave64" },
	{ "xrstor", "xrstor64" },
	{ "xsaveopt", "xsaveopt64" },
	{ "xsavec", "xsavec64" },
	{ "xsaves", "xsaves64" },
	{ "xrstors", "xrstors64" },
	{ "sysret", "sysretq" },
	{ "sysexit", "sysexitq" },
};

/* Memory operands that are not size wide: see opcodes.def. Some are never accessed (lea, nop, ud0). */
static const u16 own_width[] = {
	OP_lea,        OP_nop,        OP_ud0,        OP_ud1,        OP_invlpg,     OP_clflush,    OP_clflushopt,
	OP_clwb,       OP_lgdt,       OP_lidt,       OP_sgdt,       OP_sidt,       OP_les,        OP_lds,
	OP_lss,        OP_lfs,        OP_lgs,        OP_bound,      OP_call_far_m, OP_jmp_far_m,  OP_fldenv,
	OP_fnstenv,    OP_fnsave,     OP_frstor,     OP_vpgatherdd, OP_vpgatherdq, OP_vpgatherqd, OP_vpgatherqq,
	OP_vgatherdps, OP_vgatherdpd, OP_vgatherqps, OP_vgatherqpd, OP_fxsave,     OP_fxrstor,    OP_xsave,
	OP_xrstor,     OP_xsaveopt,   OP_xsavec,     OP_xsaves,     OP_xrstors,
};

/* Instructions that are protected mode's only, but whose handlers raise #GP rather than #UD in real mode. */
static const u16 real_gp[] = { OP_sysenter, OP_sysexit, OP_sysret };

static bool contains(const u16 *set, size_t n, u16 op)
{
	while (n--) {
		if (set[n] == op)
			return true;
	}
	return false;
}

static bool is_left_out(const struct trial *t)
{
	for (size_t n = 0; n < ARRAY_SIZE(left_out); n++) {
		if (t->z.meta.isa_ext == left_out[n])
			return true;
	}
	return false;
}

static bool uses_mmx(const struct trial *t)
{
	for (unsigned n = 0; n < t->z.operand_count_visible; n++) {
		if (t->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(t->op[n].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	}
	return false;
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = strstr(list, word); at; at = strstr(at + 1, word)) {
		if ((at == list || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return true;
	}
	return false;
}

static bool same_name(const struct trial *t)
{
	const char *ours = insn_op_name(t->i.op), *theirs = ZydisMnemonicGetString(t->z.mnemonic);
	size_t len = strlen(theirs);

	if (!strcmp(ours, theirs))
		return true;
	if (!strncmp(ours, theirs, len) && !strcmp(ours + len, "_mmx"))
		return uses_mmx(t);
	if (!strncmp(ours, theirs, len) && !strcmp(ours + len, "_imm"))
		return true;
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		if (!strcmp(ours, names[n][0]) && has_word(names[n][1], theirs))
			return true;
	}
	return false;
}

/* ---- comparing ---- */

static void report(struct fixture *f, const struct trial *t, const char *what)
{
	char kind[64], text[96] = "-";

	snprintf(kind, sizeof(kind), "%s %s %s", what, t->len > 0 ? insn_op_name(t->i.op) : "?",
		 t->valid ? ZydisMnemonicGetString(t->z.mnemonic) : "?");
	for (unsigned n = 0; n < f->nr_seen; n++) {
		if (!strcmp(kind, f->seen[n]))
			return;
	}
	if (f->nr_seen < ARRAY_SIZE(f->seen))
		strcpy(f->seen[f->nr_seen++], kind);
	if (f->reports++ >= MAX_REPORTS)
		return;
	if (t->valid) {
		ZydisFormatter fmt;

		ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
		ZydisFormatterFormatInstruction(&fmt, &t->z, t->op, t->z.operand_count_visible, text, sizeof(text), 0,
						NULL);
	}
	fprintf(stderr, "%s %s:", t->mode->name, what);
	for (int n = 0; n < 15; n++)
		fprintf(stderr, " %02x", t->bytes[n]);
	fprintf(stderr,
		": %s len %d form %d size %d dst %d src %d src2 %d imm %llx base %d index %d disp %x seg %d; "
		"Zydis %s (%d)\n",
		t->len > 0 ? insn_op_name(t->i.op) : "-", t->len, t->i.form, t->i.size, t->i.dst, t->i.src, t->i.src2,
		(unsigned long long)t->i.imm, t->i.base, t->i.index, t->i.disp, t->i.seg, text,
		t->valid ? t->z.length : 0);
}

/* The register as struct insn has it. */
static u8 register_operand(ZydisRegister reg)
{
	int id = ZydisRegisterGetId(reg);

	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8:
		if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
			return 8 * (reg - ZYDIS_REGISTER_AH) + 1;
		return reg < ZYDIS_REGISTER_AH ? 8 * (reg - ZYDIS_REGISTER_AL) : 8 * (reg - ZYDIS_REGISTER_SPL + RSP);
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return 8 * id;
	case ZYDIS_REGCLASS_IP:
		return 8 * R_RIP;
	case ZYDIS_REGCLASS_INVALID:
		return 8 * R_ZERO;
	default:
		return id;
	}
}

static u8 effective_segment(const struct trial *t)
{
	u8 seg = ZydisRegisterGetId(t->mem->mem.segment);

	if (t->mode->ours != DECODE_64 || seg >= SEG_FS)
		return seg;
	return seg == SEG_SS ? SEG_FLAT_SS : SEG_FLAT;
}

static void compare_memory(struct fixture *f, const struct trial *t)
{
	const ZydisDecodedOperandMem *m = &t->mem->mem;
	unsigned scale = m->index && m->scale ? __builtin_ctz(m->scale) : 0;
	bool no_base = t->z.raw.modrm.mod == 0 && t->z.raw.modrm.rm == 4 && t->z.raw.sib.base == 5;

	if (!(t->i.flags & INSN_MEM)) {
		report(f, t, "no memory");
		return;
	}
	if (t->i.index != register_operand(m->index))
		report(f, t, "index");
	/* Zydis 4.0 takes such a SIB byte's base for R13 if REX.B is set, and drops the displacement; CPUs do not. */
	if (no_base && ZydisRegisterGetId(m->base) == R13) {
		assert_int_equal(t->i.base, 8 * R_ZERO);
		return;
	}
	if (t->i.base != register_operand(m->base))
		report(f, t, "base");
	if (m->index && t->i.scale != scale)
		report(f, t, "scale");
	if (t->i.disp != (m->disp.has_displacement ? (s32)m->disp.value : 0))
		report(f, t, "displacement");
	if (t->i.op != OP_lea && t->i.seg != effective_segment(t))
		report(f, t, "segment");
	if (8u << t->i.asize != t->z.address_width)
		report(f, t, "address size");
}

static void compare_registers(struct fixture *f, const struct trial *t)
{
	u8 ours[] = { t->i.dst, t->i.src, t->i.src2 };

	if (t->i.op == OP_nop)
		return;
	if (t->i.op == OP_shld_cl || t->i.op == OP_shrd_cl) /* CL is not named */
		ours[2] = 8 * RCX;
	if (t->i.form == FORM_RR && t->z.operand_count_visible == 1) /* ST(0) is not named by Zydis */
		ours[0] = t->i.src;
	for (unsigned n = 0; n < t->z.operand_count_visible && n < 3; n++) {
		if (t->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER && ours[n] != register_operand(t->op[n].reg.value))
			report(f, t, n == 0 ? "dst" : n == 1 ? "src" : "src2");
	}
}

static void compare_immediates(struct fixture *f, const struct trial *t)
{
	u64 imm = 0, mask = ~0ull;

	/* Bits above the operand size are of no meaning. */
	if ((t->i.form == FORM_RI || t->i.form == FORM_MI || t->i.form == FORM_LMI) && t->i.size < SZ_64)
		mask = (1ull << (8u << t->i.size)) - 1;
	for (unsigned n = 0; n < t->z.operand_count_visible; n++) {
		if (n == 3 && t->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER)
			imm = register_operand(t->op[n].reg.value);
		if (t->op[n].type == ZYDIS_OPERAND_TYPE_POINTER)
			imm = t->op[n].ptr.offset | (u64)t->op[n].ptr.segment << 32;
		if (t->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY && &t->op[n] != t->mem)
			imm = t->op[n].mem.disp.value & (~0ull >> (64 - t->z.address_width));
		if (t->op[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			imm |= t->op[n].imm.value.u << (n == 1 && t->i.op == OP_enter ? 16 : 0);
	}
	if ((t->i.imm & mask) != (imm & mask))
		report(f, t, "immediate");
}

/* One or two operands, and they are general registers. */
static bool all_gpr(const struct trial *t)
{
	for (unsigned n = 0; n < t->z.operand_count_visible; n++) {
		ZydisRegisterClass class = t->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER
						   ? ZydisRegisterGetClass(t->op[n].reg.value)
						   : ZYDIS_REGCLASS_INVALID;

		if (class < ZYDIS_REGCLASS_GPR8 || class > ZYDIS_REGCLASS_GPR64)
			return false;
	}
	return t->z.operand_count_visible == 1 || t->z.operand_count_visible == 2;
}

/* R, M and I for the operands that Zydis shows, in its order. */
static void operand_letters(const struct trial *t, char *letters)
{
	for (unsigned n = 0; n < t->z.operand_count_visible; n++) {
		switch (t->op[n].type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			*letters++ = 'R';
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			*letters++ = &t->op[n] == t->mem ? 'M' : '*';
			break;
		default:
			*letters++ = 'I';
		}
	}
	*letters = 0;
}

/* What each form may look like. */
static const char *const forms[NR_FORMS][7] = {
	[FORM_NONE] = { "", "I", "II", "*", "R*", "*R", "**" },
	[FORM_R] = { "R" },
	[FORM_M] = { "M" },
	[FORM_LM] = { "M" },
	[FORM_RR] = { "RR", "RRR", "RRI", "RRRI", "RRRR" },
	[FORM_RM] = { "RM", "RMI", "RRM", "RMR", "RRMI", "RRMR" },
	[FORM_MR] = { "MR", "MRI", "MRR" },
	[FORM_LMR] = { "MR" },
	[FORM_RI] = { "RI", "IR" },
	[FORM_MI] = { "MI" },
	[FORM_LMI] = { "MI" },
};

static void compare_form(struct fixture *f, const struct trial *t)
{
	char letters[ZYDIS_MAX_OPERAND_COUNT + 1];
	bool lock = t->z.attributes & ZYDIS_ATTRIB_HAS_LOCK;

	operand_letters(t, letters);
	if (lock != (t->i.form >= FORM_LM) || lock != !!(t->i.flags & INSN_LOCK))
		report(f, t, "lock");
	if (t->i.op == OP_nop || t->i.op == OP_outs || t->i.op == OP_ins) /* operands that are implicit to us */
		return;
	if (t->z.operand_count_visible == 1 && t->z.meta.isa_ext == ZYDIS_ISA_EXT_X87 && t->i.form == FORM_RR)
		return; /* ST(0) is not named by Zydis */
	for (unsigned n = 0; n < ARRAY_SIZE(forms[0]); n++) {
		if (forms[t->i.form][n] && !strcmp(forms[t->i.form][n], letters))
			return;
	}
	report(f, t, "form");
}

static void compare_size(struct fixture *f, const struct trial *t)
{
	unsigned size = t->i.size;

	if (contains(own_width, ARRAY_SIZE(own_width), t->i.op))
		return;
	if (!t->mem && all_gpr(t) && t->i.op != OP_out && t->op[0].size != 8 * size_bytes(size))
		report(f, t, "register size");
	if (!t->mem)
		return;
	switch (t->i.op) {
	case OP_movsxd:
		/* MOVSXD r16 has a source of 16 bits in the SDM, of 32 in Zydis and on AMD. */
		if (t->i.size == SZ_16)
			return;
		/* fallthrough */
	case OP_movzx:
	case OP_movsx:
	case OP_lar:
	case OP_lsl:
	case OP_crc32:
	case OP_cvtss2si:
	case OP_cvtsd2si:
	case OP_cvttss2si:
	case OP_cvttsd2si:
	case OP_vcvtss2si:
	case OP_vcvtsd2si:
	case OP_vcvttss2si:
	case OP_vcvttsd2si:
		size = t->i.src2;
	}
	if (t->mem->size != 8 * size_bytes(size))
		report(f, t, "size");
}

static void compare(struct fixture *f, struct trial *t)
{
	struct insn cut;

	f->trials++;
	memset(&t->i, 0, sizeof(t->i));
	t->len = insn_decode(t->bytes, 15, t->mode->ours, &t->i);
	t->valid = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&f->decoder[t->mode - modes], t->bytes, 15, &t->z, t->op));
	t->mem = NULL;
	if (t->len <= 0 && (!t->valid || is_left_out(t)))
		return;
	if (!t->valid && t->mode->ours == DECODE_16_REAL && contains(real_gp, ARRAY_SIZE(real_gp), t->i.op))
		return;
	if (t->len <= 0 || !t->valid) {
		report(f, t, t->valid ? "we refuse" : "Zydis refuses");
		return;
	}
	if (t->len != t->z.length || t->i.len != t->len) {
		report(f, t, "length");
		return;
	}
	if (f->trials % 16 == 0 && insn_decode(t->bytes, random_byte(f) % t->len, t->mode->ours, &cut) != DECODE_MORE)
		report(f, t, "cut off");
	/* F3 41 90: Zydis sees PAUSE, CPUs exchange R8 and RAX. */
	if (t->z.mnemonic == ZYDIS_MNEMONIC_PAUSE && t->i.op == OP_xchg && t->z.raw.rex.B)
		return;
	if (!same_name(t)) {
		report(f, t, "name");
		return;
	}
	for (unsigned n = 0; n < t->z.operand_count_visible; n++) {
		if (t->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY && t->op[n].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			t->mem = &t->op[n];
	}
	if (t->mem)
		compare_memory(f, t);
	compare_form(f, t);
	compare_registers(f, t);
	compare_immediates(f, t);
	compare_size(f, t);
}

/* ---- enumerating ---- */

struct prefixes {
	u8 len;
	u8 bytes[6];
};
#define P(...)                                                                                                         \
	{                                                                                                              \
		sizeof((u8[]){ __VA_ARGS__ }),                                                                         \
		{                                                                                                      \
			__VA_ARGS__                                                                                    \
		}                                                                                                      \
	}

/* In modes other than 64-bit, 40-4F are opcodes: those sets are left to the tests of 64-bit mode. */
static const struct prefixes prefix_sets[] = {
	{ 0, { 0 } },
	P(0x66),
	P(0xf2),
	P(0xf3),
	P(0x67),
	P(0xf0),
	P(0x66, 0xf2),
	P(0x66, 0xf3),
	P(0xf3, 0x66),
	P(0xf2, 0xf3),
	P(0xf3, 0xf2),
	P(0xf0, 0x66),
	P(0xf0, 0xf2),
	P(0xf0, 0xf3),
	P(0x67, 0x66),
	P(0x26),
	P(0x2e),
	P(0x36),
	P(0x3e),
	P(0x64),
	P(0x65),
	P(0x64, 0x2e),
	P(0x2e, 0x65),
	P(0x48),
	P(0x40),
	P(0x41),
	P(0x42),
	P(0x44),
	P(0x4f),
	P(0x66, 0x48),
	P(0xf3, 0x48),
	P(0xf2, 0x48),
	P(0x66, 0xf2, 0x48),
	P(0x66, 0xf3, 0x4f),
	P(0xf0, 0x48),
	P(0x67, 0x47),
	P(0x64, 0x4d),
	P(0x48, 0x66),
	P(0x4c, 0xf3),
};

static const struct prefixes maps[] = { { 0, { 0 } }, P(0x0f), P(0x0f, 0x38), P(0x0f, 0x3a) };

static bool has_rex(const struct prefixes *p)
{
	for (unsigned n = 0; n < p->len; n++) {
		if ((p->bytes[n] & 0xf0) == 0x40)
			return true;
	}
	return false;
}

static unsigned append(u8 *to, unsigned at, const struct prefixes *p)
{
	memcpy(to + at, p->bytes, p->len);
	return at + p->len;
}

static void try_opcode(struct fixture *f, const struct mode *mode, const struct prefixes *p, const struct prefixes *map,
		       u8 opcode)
{
	struct trial t = { .mode = mode };
	unsigned at = append(t.bytes, 0, p);

	at = append(t.bytes, at, map);
	t.bytes[at++] = opcode;
	for (unsigned n = at; n < sizeof(t.bytes); n++)
		t.bytes[n] = random_byte(f);
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		t.bytes[at] = modrm;
		t.bytes[at + 1] = random_byte(f);
		compare(f, &t);
	}
}

static void done(struct fixture *f)
{
	fprintf(stderr, "%llu instructions compared\n", (unsigned long long)f->trials);
	assert_int_equal(f->reports, 0);
}

static void test_legacy(void **state)
{
	struct fixture *f = *state;

	for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
		for (size_t p = 0; p < ARRAY_SIZE(prefix_sets); p++) {
			if (has_rex(&prefix_sets[p]) && modes[m].ours != DECODE_64)
				continue;
			for (size_t map = 0; map < ARRAY_SIZE(maps); map++) {
				for (unsigned opcode = 0; opcode < 256; opcode++)
					try_opcode(f, &modes[m], &prefix_sets[p], &maps[map], opcode);
			}
		}
	}
	done(f);
}

/* ---- what Zydis has no word for ---- */

/* The bytes of a string literal in a mode; fails if they are not one instruction. */
#define DECODE(mode, bytes) decode_all(mode, (const u8 *)(bytes), sizeof(bytes) - 1)
static struct insn decode_all(enum decode_mode mode, const u8 *bytes, int n)
{
	struct insn i;

	assert_int_equal(insn_decode(bytes, n, mode, &i), n);
	assert_int_equal(i.len, n);
	return i;
}

static void test_ports(void **state)
{
	struct insn i = DECODE(DECODE_32, "\xe4\x71"); /* in al, 0x71 */

	(void)state;
	assert_true(i.op == OP_in && i.form == FORM_RI && i.size == SZ_8 && i.dst == 8 * RAX && i.imm == 0x71);
	i = DECODE(DECODE_32, "\xe7\xf0"); /* out 0xf0, eax */
	assert_true(i.op == OP_out && i.form == FORM_RI && i.size == SZ_32 && i.dst == 8 * RAX && i.imm == 0xf0);
	i = DECODE(DECODE_64, "\x48\xed"); /* in eax, dx: REX.W does nothing */
	assert_true(i.op == OP_in && i.form == FORM_RR && i.size == SZ_32 && i.dst == 8 * RAX && i.src == 8 * RDX);
	i = DECODE(DECODE_32, "\x66\xef"); /* out dx, ax */
	assert_true(i.op == OP_out && i.form == FORM_RR && i.size == SZ_16 && i.dst == 8 * RDX && i.src == 8 * RAX);
	i = DECODE(DECODE_64, "\xf3\x64\x48\x6f"); /* rep outs dx, dword ptr fs:[rsi] */
	assert_true(i.op == OP_outs && i.form == FORM_NONE && i.size == SZ_32 && i.seg == SEG_FS);
	assert_true(i.flags & INSN_REP && i.asize == SZ_64);
}

static void test_segments(void **state)
{
	(void)state;
	assert_int_equal(DECODE(DECODE_64, "\x8b\x04\x24").seg, SEG_FLAT_SS);     /* [rsp] */
	assert_int_equal(DECODE(DECODE_64, "\x41\x8b\x04\x24").seg, SEG_FLAT);    /* [r12] */
	assert_int_equal(DECODE(DECODE_64, "\x2e\x8b\x45\x00").seg, SEG_FLAT_SS); /* cs:[rbp] */
	assert_int_equal(DECODE(DECODE_64, "\x65\x2e\x8b\x45\x00").seg, SEG_GS);  /* gs: cs:[rbp] */
	assert_int_equal(DECODE(DECODE_32, "\x8b\x45\x00").seg, SEG_SS);
	assert_int_equal(DECODE(DECODE_32, "\x3e\x8b\x45\x00").seg, SEG_DS);
	assert_int_equal(DECODE(DECODE_32, "\x65\x2e\x8b\x45\x00").seg, SEG_CS);
	assert_int_equal(DECODE(DECODE_16, "\x8b\x42\x00").seg, SEG_SS); /* [bp+si] */
	assert_int_equal(DECODE(DECODE_16, "\xa4").seg, SEG_DS);         /* movsb */
	assert_int_equal(DECODE(DECODE_16, "\x26\xa4").seg, SEG_ES);
	assert_int_equal(DECODE(DECODE_64, "\xa4").seg, SEG_FLAT);
}

static void test_rip_relative(void **state)
{
	struct insn i = DECODE(DECODE_64, "\xc7\x05\xfc\xff\xff\xff\x44\x33\x22\x11");

	(void)state;
	assert_true(i.base == 8 * R_RIP && i.index == 8 * R_ZERO && i.disp == -4 && i.imm == 0x11223344);
	i = DECODE(DECODE_32, "\x8b\x05\xfc\xff\xff\xff");
	assert_true(i.base == 8 * R_ZERO && i.disp == -4);
}

static void test_rep(void **state)
{
	(void)state;
	assert_int_equal(DECODE(DECODE_64, "\xf2\xf3\xa6").flags & (INSN_REP | INSN_REPNE), INSN_REP);
	assert_int_equal(DECODE(DECODE_64, "\xf3\xf2\xa6").flags & (INSN_REP | INSN_REPNE), INSN_REPNE);
	assert_int_equal(DECODE(DECODE_64, "\xf3\x0f\x10\xc0").flags & INSN_REP, 0); /* movss */
	assert_int_equal(DECODE(DECODE_64, "\xf3\xc3").flags & INSN_REP, INSN_REP);  /* rep ret */
}

/* Every cut of an instruction asks for more; what is longer than 15 bytes is #GP. */
static void test_length(void **state)
{
	/* gs: cs: ds: lock add dword ptr gs:[eax + 4*eax + disp32], imm32, and one prefix more than fits */
	static const u8 longest[] = { 0x65, 0x65, 0x2e, 0x3e, 0xf0, 0x81, 0x84, 0x80, 1, 2, 3, 4, 5, 6, 7, 8 };
	static const u8 prefixes[] = { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
				       0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90 };
	static const u8 vex[] = { 0xc4, 0xe3, 0x79, 0x4a, 0x44, 0x24, 0x10, 0x50 };
	struct insn i;

	(void)state;
	for (size_t n = 0; n < sizeof(longest); n++)
		assert_int_equal(insn_decode(longest + 1, n, DECODE_32, &i), n < 15 ? DECODE_MORE : 15);
	assert_int_equal(insn_decode(longest, sizeof(longest), DECODE_32, &i), DECODE_GP);
	assert_int_equal(insn_decode(longest, 14, DECODE_32, &i), DECODE_MORE);
	for (size_t n = 0; n <= sizeof(vex); n++)
		assert_int_equal(insn_decode(vex, n, DECODE_64, &i), n < 8 ? DECODE_MORE : 8);
	assert_int_equal(insn_decode(prefixes, 16, DECODE_64, &i), DECODE_GP);
	assert_int_equal(insn_decode(prefixes + 1, 15, DECODE_64, &i), 15);
}

/* Real mode with 32-bit code is 32-bit code without VEX and without the instructions of protected mode. */
static void test_real32(void **state)
{
	struct insn i = DECODE(DECODE_32_REAL, "\x8b\x44\x24\x08");

	(void)state;
	assert_true(i.op == OP_mov && i.base == 8 * RSP && i.asize == SZ_32 && i.size == SZ_32 && i.seg == SEG_SS);
	assert_int_equal(insn_decode((const u8 *)"\xc5\xf8\x77", 3, DECODE_32_REAL, &i), DECODE_UD);
	assert_int_equal(insn_decode((const u8 *)"\xc5\xf8\x77", 3, DECODE_32, &i), 3);
	assert_int_equal(insn_decode((const u8 *)"\x0f\x02\xc0", 3, DECODE_32_REAL, &i), DECODE_UD);
	assert_int_equal(insn_decode((const u8 *)"\x0f\x02\xc0", 3, DECODE_32, &i), 3);
}

/* MPX, CET and hints are nops to us. */
static void init_decoder(ZydisDecoder *d, const struct mode *mode)
{
	ZydisDecoderInit(d, mode->zydis, mode->width);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
}

static void try_vex(struct fixture *f, const struct mode *mode, u8 map, u8 last, u8 opcode)
{
	struct trial t = { .mode = mode };

	for (unsigned n = 0; n < sizeof(t.bytes); n++)
		t.bytes[n] = random_byte(f);
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		u8 rxb = random_byte(f) & 0xe0;
		unsigned at = 0;

		if (mode->ours != DECODE_64)
			rxb |= 0xc0;
		if (map == 1 && random_byte(f) & 1) {
			t.bytes[at++] = 0xc5;
			t.bytes[at++] = mode->ours == DECODE_64 ? last : last | 0xc0;
		} else {
			t.bytes[at++] = 0xc4;
			t.bytes[at++] = rxb | map;
			t.bytes[at++] = last;
		}
		t.bytes[at++] = opcode;
		t.bytes[at++] = modrm;
		t.bytes[at] = random_byte(f);
		compare(f, &t);
	}
}

static void test_vex(void **state)
{
	static const u8 vvvv[] = { 15, 0, 5, 8 };
	struct fixture *f = *state;

	for (size_t m = 1; m < ARRAY_SIZE(modes); m++) {
		for (unsigned n = 0; n < 16 * ARRAY_SIZE(vvvv) * 5; n++) {
			u8 last = (n & 7) | (n & 8) << 4 | vvvv[n / 16 % ARRAY_SIZE(vvvv)] << 3;
			u8 map = n / 16 / ARRAY_SIZE(vvvv);

			for (unsigned opcode = 0; opcode < 256; opcode++)
				try_vex(f, &modes[m], map, last, opcode);
		}
	}
	done(f);
}

/* Behind 66, F2, F3, LOCK or REX a VEX prefix is #UD; behind others it is not. All of vvvv and of the map field. */
static void test_vex_fields(void **state)
{
	static const u8 before[] = { 0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x40, 0x67, 0x2e, 0x64, 0x65, 0x36 };
	struct fixture *f = *state;

	for (size_t m = 1; m < ARRAY_SIZE(modes); m++) {
		for (unsigned n = 0; n < 300000; n++) {
			struct trial t = { .mode = &modes[m] };
			bool wide = modes[m].ours == DECODE_64, two = random_byte(f) & 1;
			unsigned at = 0;

			for (unsigned k = 0; k < sizeof(t.bytes); k++)
				t.bytes[k] = random_byte(f);
			for (unsigned k = random_byte(f) % 3; k; k--) {
				u8 p = before[random_byte(f) % ARRAY_SIZE(before)];

				if (wide || (p & 0xf0) != 0x40)
					t.bytes[at++] = p;
			}
			t.bytes[at++] = two ? 0xc5 : 0xc4;
			if (!wide)
				t.bytes[at] |= 0xc0;
			/* Half of them with a map that exists. */
			if (!two && random_byte(f) & 1)
				t.bytes[at] = (t.bytes[at] & 0xe0) | (1 + random_byte(f) % 3);
			compare(f, &t);
		}
	}
	done(f);
}

/* EVEX is no instruction to us, with any payload; in 32- and 16-bit code 62 with a memory operand is BOUND. */
static void test_evex(void **state)
{
	struct fixture *f = *state;

	for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
		for (unsigned opcode = 0; opcode < 256; opcode++) {
			for (unsigned n = 0; n < 1024; n++) {
				struct trial t = { .mode = &modes[m] };

				for (unsigned k = 0; k < sizeof(t.bytes); k++)
					t.bytes[k] = random_byte(f);
				t.bytes[0] = 0x62;
				/* A payload that is one: P0[3] = 0, P1[2] = 1, and outside 64-bit mode R, X = 1. */
				if (n & 1)
					t.bytes[1] = (u8)((t.bytes[1] & 0xf0) | (1 + n % 3) |
							  (modes[m].ours == DECODE_64 ? 0 : 0xc0));
				t.bytes[2] |= 4;
				t.bytes[4] = (u8)opcode;
				compare(f, &t);
				if (t.len > 0)
					assert_true(t.i.op == OP_bound && modes[m].ours != DECODE_64);
			}
		}
	}
	done(f);
}

/* Any number of prefixes in any order, REX among them and not always last; and then any opcode. */
static void test_prefix_order(void **state)
{
	static const u8 legacy[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65 };
	struct fixture *f = *state;

	for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
		for (unsigned n = 0; n < 1000000; n++) {
			struct trial t = { .mode = &modes[m] };
			unsigned count = random_byte(f) % 32 ? random_byte(f) % 5 : random_byte(f) % 16, at = 0;

			for (unsigned k = 0; k < sizeof(t.bytes); k++)
				t.bytes[k] = random_byte(f);
			while (at < count)
				t.bytes[at++] = modes[m].ours == DECODE_64 && random_byte(f) % 4 == 0
							? (u8)(0x40 | (random_byte(f) & 15))
							: legacy[random_byte(f) % ARRAY_SIZE(legacy)];
			if (random_byte(f) & 1)
				t.bytes[at++] = 0x0f;
			compare(f, &t);
		}
	}
	done(f);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->seed = 1;
	for (size_t n = 0; n < ARRAY_SIZE(modes); n++)
		init_decoder(&f->decoder[n], &modes[n]);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_legacy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vex, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vex_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evex, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefix_order, setup, teardown),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_rip_relative),
		cmocka_unit_test(test_rep),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_real32),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
