/* SPDX-License-Identifier: MIT */
/*
 * The decoder: prefixes, opcode, the row of opcodes.def that fits, then ModRM, displacement and immediates as that row
 * says. SDM vol. 2, chapter 2 is the description of the format.
 */
#include <string.h>

#include "cpu/cpu.h"
#include "insn/decode.h"

#define MAX_LEN 15

/* ---- the table ---- */

/* What the columns demand of the key: the mask in the upper half, the value in the lower one. */
#define FIT(mask, value) ((u32)(mask) << 16 | (value))
#define FIT_MASK(fit) ((fit) >> 16)
#define FIT_VALUE(fit) ((fit)&0xffff)

#define PREFIX__ FIT(0, 0)
#define PREFIX_NP FIT(KEY_PP, 0 << KEY_PP_SHIFT)
#define PREFIX_66 FIT(KEY_PP, 1 << KEY_PP_SHIFT)
#define PREFIX_F3 FIT(KEY_PP, 2 << KEY_PP_SHIFT)
#define PREFIX_F2 FIT(KEY_PP, 3 << KEY_PP_SHIFT)
#define PREFIX_NF FIT(2 << KEY_PP_SHIFT, 0)

#define MODRM__ FIT(0, 0)
#define MODRM_M FIT(KEY_REG, 0)
#define MODRM_R FIT(KEY_REG, KEY_REG)
#define MODRM_DIGIT(n) FIT(0x38, (n) << 3)
#define MODRM_M_DIGIT(n) FIT(KEY_REG | 0x38, (n) << 3)
#define MODRM_R_DIGIT(n) FIT(KEY_REG | 0x38, KEY_REG | (n) << 3)
#define DIGIT_NAMES(n) MODRM_##n = MODRM_DIGIT(n), MODRM_M##n = MODRM_M_DIGIT(n), MODRM_R##n = MODRM_R_DIGIT(n)
#define BYTE_NAME(hi, lo) MODRM_x##hi##lo = FIT(0xff, 0x##hi##lo)
#define BYTE_NAMES(hi)                                                                                                 \
	BYTE_NAME(hi, 0), BYTE_NAME(hi, 1), BYTE_NAME(hi, 2), BYTE_NAME(hi, 3), BYTE_NAME(hi, 4), BYTE_NAME(hi, 5),    \
		BYTE_NAME(hi, 6), BYTE_NAME(hi, 7), BYTE_NAME(hi, 8), BYTE_NAME(hi, 9), BYTE_NAME(hi, A),              \
		BYTE_NAME(hi, B), BYTE_NAME(hi, C), BYTE_NAME(hi, D), BYTE_NAME(hi, E), BYTE_NAME(hi, F)
enum {
	DIGIT_NAMES(0),
	DIGIT_NAMES(1),
	DIGIT_NAMES(2),
	DIGIT_NAMES(3),
	DIGIT_NAMES(4),
	DIGIT_NAMES(5),
	DIGIT_NAMES(6),
	DIGIT_NAMES(7),
	BYTE_NAMES(C),
	BYTE_NAMES(D),
	BYTE_NAMES(E),
	BYTE_NAMES(F),
};

#define FLAG_MASK(flags)                                                                                               \
	(((flags) & (F_N64 | F_O64) ? KEY_64 : 0) | ((flags)&F_PROT ? KEY_REAL : 0) |                                  \
	 ((flags) & (F_W0 | F_W1) ? KEY_W : 0) | ((flags) & (F_L0 | F_L1) ? KEY_L : 0) | ((flags)&F_B0 ? KEY_B : 0))
#define FLAG_VALUE(flags) (((flags)&F_O64 ? KEY_64 : 0) | ((flags)&F_W1 ? KEY_W : 0) | ((flags)&F_L1 ? KEY_L : 0))

/* What follows from a row's operands: see the comment in opcodes.def. */
#define ANY_OF(is, a, b, c, d) (is(a) || is(b) || is(c) || is(d))
#define LOCATIONS(a, b, c) (IS_LOCATION(a) + IS_LOCATION(b) + IS_LOCATION(c))
#define FORM_WITH_REG(a, b, c)                                                                                         \
	(ANY_OF(IS_IMPLICIT, a, b, c, 0) || !LOCATIONS(a, b, c) ? FORM_NONE                                            \
	 : LOCATIONS(a, b, c) > 1                               ? FORM_RR                                              \
	 : ANY_OF(IS_IMM, a, b, c, 0)                           ? FORM_RI                                              \
								: FORM_R)
#define FORM_WITH_MEM(a, b, c)                                                                                         \
	(!LOCATIONS(a, b, c)          ? FORM_NONE                                                                      \
	 : LOCATIONS(a, b, c) > 1     ? (IS_RM(a) ? FORM_MR : FORM_RM)                                                 \
	 : ANY_OF(IS_IMM, a, b, c, 0) ? FORM_MI                                                                        \
				      : FORM_M)
#define FIRST_OF(x, y, z) ((x) ? (x) : (y) ? (y) : (z))
#define FIRST_WIDTH(width, a, b, c)                                                                                    \
	(ANY_OF(IS_SIZED_RM, a, b, c, 0)                                                                               \
		 ? FIRST_OF(IS_RM(a) ? width(a) : 0, IS_RM(b) ? width(b) : 0, IS_RM(c) ? width(c) : 0)                 \
		 : FIRST_OF(width(a), width(b), width(c)))
#define ROW_WIDTH(width, a, b, c, flags) ((flags)&F_SRC2 ? width(a) : FIRST_WIDTH(width, a, b, c))
#define ROW_FLAGS(prefix, modrm, a, b, c, d, flags)                                                                    \
	(((flags) & (F_LOCK | F_D64 | F_F64 | F_SRC2 | F_END)) |                                                       \
	 (FIT_MASK(modrm) || ANY_OF(IS_MODRM, a, b, c, d) ? F_MODRM : 0) |                                             \
	 (ANY_OF(IS_VVVV, a, b, c, d) ? F_VVVV : 0) | ((prefix) == PREFIX__ || (prefix) == PREFIX_NF ? F_REP : 0))
#define ROW(name, prefix, modrm, a, b, c, d, cflags, cfeature)                                                         \
	{                                                                                                              \
		.mask = FIT_MASK(prefix) | FIT_MASK(modrm) | FLAG_MASK(cflags),                                        \
		.value = FIT_VALUE(prefix) | FIT_VALUE(modrm) | FLAG_VALUE(cflags),                                    \
		.op = name,                                                                                            \
		.flags = ROW_FLAGS(prefix, modrm, a, b, c, d, cflags),                                                 \
		.operand = { a, b, c, d },                                                                             \
		.form_reg = FORM_WITH_REG(a, b, c),                                                                    \
		.form_mem = FORM_WITH_MEM(a, b, c),                                                                    \
		.width_reg = ROW_WIDTH(OPERAND_WIDTH, a, b, c, cflags),                                                \
		.width_mem = ROW_WIDTH(MEM_WIDTH, a, b, c, cflags),                                                    \
		.width_src2 = (cflags)&F_SRC2 ? MEM_WIDTH(b) : 0,                                                      \
		.feature = cfeature,                                                                                   \
	},

static const struct row rows[] = {
#define INSN(map, opcode, prefix, modrm, name, a, b, c, d, flags, feature)                                             \
	ROW(OP_##name, PREFIX_##prefix, MODRM_##modrm, OPERAND_##a, OPERAND_##b, OPERAND_##c, OPERAND_##d, (flags),    \
	    FEATURE_##feature)
#include "insn/opcodes.def"
#undef INSN
};

static const struct row_range ranges[NR_MAPS * 256] = {
#include "insn/index.inc" /* made from opcodes.def by gen.py */
};

static const char *const op_names[NR_OPS] = {
	[OP_invalid] = "invalid",
#define OP(name) [OP_##name] = #name,
#include "insn/ops.inc"
#undef OP
};

const char *insn_op_name(unsigned op)
{
	return op < NR_OPS ? op_names[op] : "invalid";
}

enum { EAX, EBX, ECX, EDX };
const struct feature_bit insn_features[NR_FEATURES] = {
	[FEATURE_BASE] = { .name = "BASE" },
	[FEATURE_FPU] = { .name = "FPU" },
#define FEATURE(name, leaf, subleaf, reg, bit) [FEATURE_##name] = { #name, leaf, subleaf, reg, bit },
#include "insn/features.def"
#undef FEATURE
};

/* ---- the decoder ---- */

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

struct decoder {
	const u8 *p, *end;
	int short_error; /* what it means to run into end */
	int err;         /* enum decode_error, 0 so far */
	bool mode64, real, code32;
	bool opsize66, addr67, lock, vex;
	u8 rep; /* F2, F3 or 0 */
	u8 rex; /* the REX byte, or one made from VEX; 0 if there is none */
	u8 pp;  /* as in VEX.pp */
	u8 vvvv, l;
	u8 map;
	u8 opcode;
	u8 modrm;
	u8 opsize; /* SZ_16, SZ_32 or SZ_64 */
	u8 seg;    /* the overriding segment, or the default one */
	bool seg_override;
	bool mem; /* ModRM has a memory operand */
};

/* The first error counts: what is cut off may yet turn out to be an instruction. */
static void fail(struct decoder *d, int err)
{
	if (!d->err)
		d->err = err;
}

/* The next n bytes; NULL, and an error, if they are not there. */
static inline const u8 *take(struct decoder *d, size_t n)
{
	const u8 *p = d->p;

	if (unlikely((size_t)(d->end - p) < n)) {
		fail(d, d->short_error);
		return NULL;
	}
	d->p = p + n;
	return p;
}

/* The next 8 to 64 bits (size is an enum opsize), sign-extended; 0, and an error, if they are not there. */
static s64 take_signed(struct decoder *d, unsigned size)
{
	const u8 *p = take(d, 1u << size);
	s16 v16;
	s32 v32;
	s64 v64;

	if (unlikely(!p))
		return 0;
	switch (size) {
	case SZ_8:
		return (s8)*p;
	case SZ_16:
		memcpy(&v16, p, 2);
		return v16;
	case SZ_32:
		memcpy(&v32, p, 4);
		return v32;
	default:
		memcpy(&v64, p, 8);
		return v64;
	}
}

/* The same as an unsigned number. */
static u64 take_unsigned(struct decoder *d, unsigned size)
{
	s64 v = take_signed(d, size);

	return size == SZ_64 ? (u64)v : (u64)v & ((1ull << (8u << size)) - 1);
}

static void override_segment(struct decoder *d, u8 seg)
{
	/* In 64-bit mode the others are ignored; they do not even cancel an FS or GS prefix before them. */
	if (d->mode64 && seg < SEG_FS)
		return;
	d->seg = seg;
	d->seg_override = true;
}

/* Legacy prefixes in any order and number, then REX; leaves the first opcode byte in d->opcode. */
static void decode_prefixes(struct decoder *d)
{
	for (;;) {
		const u8 *p = take(d, 1);

		if (unlikely(!p))
			return;
		switch (*p) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			override_segment(d, (*p >> 3) & 3);
			break;
		case 0x64:
		case 0x65:
			override_segment(d, *p & 7);
			break;
		case 0x66:
			d->opsize66 = true;
			break;
		case 0x67:
			d->addr67 = true;
			break;
		case 0xf0:
			d->lock = true;
			break;
		case 0xf2:
		case 0xf3:
			d->rep = *p;
			break;
		case 0x40 ... 0x4f:
			if (d->mode64) {
				d->rex = *p;
				continue;
			}
			/* fallthrough */
		default:
			d->opcode = *p;
			return;
		}
		d->rex = 0; /* a REX prefix counts only right before the opcode */
	}
}

/* C4 and C5 are VEX in 64-bit mode, and in other protected modes if LES and LDS would have no memory operand. */
static bool is_vex(struct decoder *d)
{
	if ((d->opcode != 0xc4 && d->opcode != 0xc5) || d->real)
		return false;
	if (d->p == d->end)
		fail(d, d->short_error);
	return d->mode64 || (!d->err && *d->p >= 0xc0);
}

static void decode_vex(struct decoder *d)
{
	const u8 *p = take(d, d->opcode == 0xc4 ? 3 : 2);
	unsigned map = 1;
	u8 last, rex = d->rex;

	if (!p)
		return;
	last = *p;
	d->rex = *p & 0x80 ? 0 : REX_R;
	if (d->opcode == 0xc4) {
		map = *p & 0x1f;
		last = *++p;
		d->rex = ((~p[-1] >> 5) & (REX_R | REX_X | REX_B)) | (last & 0x80 ? REX_W : 0);
	}
	if (map < 1 || map > 3 || d->opsize66 || d->rep || d->lock || rex)
		fail(d, DECODE_UD);
	d->vex = true;
	d->map = MAP_V0F + map - 1;
	d->vvvv = (~last >> 3) & 15;
	d->l = (last >> 2) & 1;
	d->pp = last & 3;
	d->opcode = *++p;
	if (!d->mode64)
		d->rex &= REX_W;
}

static void decode_opcode(struct decoder *d)
{
	const u8 *p;

	if (is_vex(d)) {
		decode_vex(d);
		return;
	}
	d->pp = d->rep ? (d->rep == 0xf3 ? 2 : 3) : d->opsize66;
	if (d->opcode != 0x0f)
		return;
	d->map = MAP_0F;
	p = take(d, 1);
	if (p && (*p == 0x38 || *p == 0x3a)) {
		d->map = *p == 0x38 ? MAP_0F38 : MAP_0F3A;
		p = take(d, 1);
	}
	if (p)
		d->opcode = *p;
}

/* The row for what is decoded so far and the coming ModRM byte, which is left in d->modrm; NULL with an error. */
static const struct row *find_row(struct decoder *d)
{
	struct row_range range = ranges[d->map * 256 + d->opcode];
	const struct row *row = &rows[range.first];
	u32 key = (u32)d->pp << KEY_PP_SHIFT;

	if (range.count && row->flags & F_MODRM) {
		const u8 *p = take(d, 1);

		if (!p)
			return NULL;
		d->modrm = *p;
		key |= d->modrm;
		if (d->modrm >= 0xc0)
			key |= KEY_REG;
	}
	if (d->mode64)
		key |= KEY_64;
	if (d->real)
		key |= KEY_REAL;
	if (d->rex & REX_W)
		key |= KEY_W;
	if (d->rex & REX_B)
		key |= KEY_B;
	if (d->l)
		key |= KEY_L;
	for (unsigned n = range.count; n; n--, row++) {
		if ((key & row->mask) == row->value)
			return row;
	}
	fail(d, DECODE_UD);
	return NULL;
}

static u8 operand_size(const struct decoder *d, const struct row *row)
{
	if (!d->mode64)
		return d->code32 != d->opsize66 ? SZ_32 : SZ_16;
	if (d->rex & REX_W || row->flags & F_F64)
		return SZ_64;
	if (d->opsize66)
		return SZ_16;
	return row->flags & F_D64 ? SZ_64 : SZ_32;
}

static u8 address_size(const struct decoder *d)
{
	if (d->mode64)
		return d->addr67 ? SZ_32 : SZ_64;
	return d->code32 != d->addr67 ? SZ_32 : SZ_16;
}

static u8 width_size(const struct decoder *d, unsigned width)
{
	static const u8 fixed[] = {
		[WIDTH_B] = SZ_8,    [WIDTH_W] = SZ_16,   [WIDTH_D] = SZ_32, [WIDTH_Q] = SZ_64,
		[WIDTH_DQ] = SZ_128, [WIDTH_QQ] = SZ_256, [WIDTH_T] = SZ_80,
	};

	switch (width) {
	case WIDTH_0:
	case WIDTH_V:
		return d->opsize;
	case WIDTH_Z:
		return d->opsize == SZ_16 ? SZ_16 : SZ_32;
	case WIDTH_Y:
		return d->mode64 && d->rex & REX_W ? SZ_64 : SZ_32;
	case WIDTH_M:
		return d->mode64 ? SZ_64 : SZ_32;
	case WIDTH_S:
		return d->mode64 ? SZ_64 : d->opsize;
	case WIDTH_X:
		return SZ_128 + d->l;
	case WIDTH_H:
		return SZ_64 + d->l;
	case WIDTH_F:
		return SZ_32 + d->l;
	case WIDTH_E:
		return SZ_16 + d->l;
	default:
		return fixed[width];
	}
}

/* ---- memory operands ---- */

static void set_base(const struct decoder *d, struct insn *out, unsigned base)
{
	out->base = 8 * base;
	if ((base == RSP || base == RBP) && !d->seg_override)
		out->seg = d->mode64 ? SEG_FLAT_SS : SEG_SS;
}

/* SDM vol. 2, table 2-1 */
static void decode_mem16(struct decoder *d, struct insn *out)
{
	static const u8 bases[8] = { RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX };
	static const u8 indices[8] = { RSI, RDI, RSI, RDI, R_ZERO, R_ZERO, R_ZERO, R_ZERO };
	unsigned mod = d->modrm >> 6, rm = d->modrm & 7;

	if (mod == 0 && rm == 6) {
		mod = 2;
	} else {
		set_base(d, out, bases[rm]);
		out->index = 8 * indices[rm];
	}
	if (mod)
		out->disp = take_signed(d, mod == 1 ? SZ_8 : SZ_16);
}

/* SDM vol. 2, tables 2-2 and 2-3. vsib: the index is a vector register, and number 4 is one as well. */
static void decode_mem(struct decoder *d, struct insn *out, bool vsib)
{
	unsigned mod = d->modrm >> 6, base = d->modrm & 7;
	bool sib = base == 4;

	if (sib) {
		unsigned byte = take_unsigned(d, SZ_8);
		unsigned index = ((byte >> 3) & 7) | (d->rex & REX_X) << 2;

		base = byte & 7;
		out->scale = byte >> 6;
		if (vsib)
			out->index = index;
		else if (index != 4)
			out->index = 8 * index;
	} else if (vsib) {
		fail(d, DECODE_UD);
	}
	if (mod == 0 && base == 5) {
		if (d->mode64 && !sib)
			out->base = 8 * R_RIP;
		mod = 2;
	} else {
		set_base(d, out, base | (d->rex & REX_B) << 3);
	}
	if (mod)
		out->disp = take_signed(d, mod == 1 ? SZ_8 : SZ_32);
}

/* ---- operands ---- */

static u8 gpr_offset(const struct decoder *d, unsigned reg, unsigned width)
{
	if (width == WIDTH_B && !d->rex && reg >= 4)
		return 8 * (reg - 4) + 1;
	return 8 * reg;
}

static u64 decode_imm(struct decoder *d, const struct insn *out, unsigned kind)
{
	unsigned z = d->opsize == SZ_16 ? SZ_16 : SZ_32;
	u64 v;

	switch (kind) {
	case IMM_U8:
		/* ENTER has two immediates; the second one is in bits 23:16. */
		return out->op == OP_enter ? out->imm | take_unsigned(d, SZ_8) << 16 : take_unsigned(d, SZ_8);
	case IMM_S8:
		return take_signed(d, SZ_8);
	case IMM_VEC:
		return (take_unsigned(d, SZ_8) >> 4) & (d->mode64 ? 15 : 7);
	case IMM_U16:
		return take_unsigned(d, SZ_16);
	case IMM_Z:
	case IMM_JZ:
		return take_signed(d, z);
	case IMM_V:
		return take_unsigned(d, d->opsize);
	case IMM_FAR:
		v = take_unsigned(d, z);
		return v | take_unsigned(d, SZ_16) << 32;
	case MOFFS:
		return take_unsigned(d, out->asize);
	default: /* IMM_ONE */
		return 1;
	}
}

/* The segment, control and debug registers that there are. LOCK MOV CR0 is not CR8 here: that is AMD's only. */
static bool valid_sreg(const struct insn *out, unsigned reg)
{
	return reg <= SEG_GS && !(reg == SEG_CS && out->op == OP_mov_to_sreg);
}

static bool valid_cr(unsigned reg)
{
	return reg <= 8 && (1u << reg & (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(8)));
}

static unsigned checked(struct decoder *d, unsigned reg, bool valid)
{
	if (!valid)
		fail(d, DECODE_UD);
	return reg;
}

/* The number (or offset) of a register operand; 0 for other operands. */
static u8 decode_operand(struct decoder *d, struct insn *out, unsigned operand)
{
	unsigned kind = OPERAND_KIND(operand), width = OPERAND_WIDTH(operand);
	unsigned reg = ((d->modrm >> 3) & 7) | (d->rex & REX_R) << 1;
	unsigned rm = (d->modrm & 7) | (d->rex & REX_B) << 3;

	switch (kind) {
	case NONE:
		return 0;
	case REG_GPR:
		return gpr_offset(d, reg, width);
	case RM_GPR:
	case RM_GPR_MB:
	case RM_GPR_MW:
		return d->mem ? 0 : gpr_offset(d, rm, width);
	case RM_ALWAYS_GPR:
		return 8 * rm;
	case OPC_GPR:
		return gpr_offset(d, (d->opcode & 7) | (d->rex & REX_B) << 3, width);
	case VEX_GPR:
		return 8 * (d->mode64 ? d->vvvv : d->vvvv & 7);
	case VEX_VEC:
		return d->mode64 ? d->vvvv : d->vvvv & 7;
	case REG_VEC:
		return reg;
	case RM_VEC:
		return d->mem ? 0 : rm;
	case REG_MMX:
		return reg & 7;
	case RM_MMX:
	case RM_ST:
		return d->mem ? 0 : rm & 7;
	case REG_SEG:
		return checked(d, reg & 7, valid_sreg(out, reg & 7));
	case REG_CR:
		return checked(d, reg, valid_cr(reg));
	case REG_DR:
		return checked(d, reg, reg < 8);
	case FIXED_C:
		return 8 * RCX;
	case FIXED_D:
		return 8 * RDX;
	case FIXED_ES:
	case FIXED_CS:
	case FIXED_SS:
	case FIXED_DS:
	case FIXED_FS:
	case FIXED_GS:
		return kind - FIXED_ES + SEG_ES;
	case FIXED_A:
	case FIXED_ST0:
	case RM_MEM:
	case RM_VSIB:
	case STRING:
		return 0;
	default:
		out->imm = decode_imm(d, out, kind);
		return 0;
	}
}

static void apply_lock(struct decoder *d, const struct row *row, struct insn *out)
{
	if (row->flags & F_LOCK && out->form == FORM_M)
		out->form = FORM_LM;
	else if (row->flags & F_LOCK && out->form == FORM_MR)
		out->form = FORM_LMR;
	else if (row->flags & F_LOCK && out->form == FORM_MI)
		out->form = FORM_LMI;
	else
		fail(d, DECODE_UD);
	out->flags |= INSN_LOCK;
}

static u8 insn_flags(const struct decoder *d, const struct row *row)
{
	u8 flags = 0;

	if (d->rep && row->flags & F_REP)
		flags |= d->rep == 0xf3 ? INSN_REP : INSN_REPNE;
	if (d->rex & REX_W)
		flags |= INSN_REX_W;
	if (d->opsize66)
		flags |= INSN_OPSIZE;
	if (row->flags & F_END)
		flags |= INSN_END;
	if (d->mem)
		flags |= INSN_MEM;
	if (d->mode64)
		flags |= INSN_MODE64;
	return flags;
}

static bool has_memory(const struct decoder *d, const struct row *row)
{
	if (!(row->flags & F_MODRM) || d->modrm >= 0xc0)
		return false;
	return OPERAND_KIND(row->operand[0]) != RM_ALWAYS_GPR && OPERAND_KIND(row->operand[1]) != RM_ALWAYS_GPR;
}

static bool is_gather(const struct row *row)
{
	return OPERAND_KIND(row->operand[1]) == RM_VSIB;
}

static void decode_rest(struct decoder *d, const struct row *row, struct insn *out)
{
	d->opsize = operand_size(d, row);
	d->mem = has_memory(d, row);
	out->op = row->op;
	out->feature = row->feature != FEATURE_AVX_AVX2 ? row->feature : d->l ? FEATURE_AVX2 : FEATURE_AVX;
	out->form = d->mem ? row->form_mem : row->form_reg;
	out->size = width_size(d, d->mem ? row->width_mem : row->width_reg);
	out->asize = address_size(d);
	out->seg = d->seg;
	out->base = 8 * R_ZERO;
	out->index = 8 * R_ZERO;
	out->modrm = d->modrm;
	out->opcode = d->opcode;
	out->flags = insn_flags(d, row);
	if (d->vex) {
		out->vex = 0x80 | d->l;
		if (d->vvvv && !(row->flags & F_VVVV))
			fail(d, DECODE_UD);
	}
	if (d->mem && out->asize == SZ_16)
		decode_mem16(d, out);
	else if (d->mem)
		decode_mem(d, out, is_gather(row));
	out->dst = decode_operand(d, out, row->operand[0]);
	out->src = decode_operand(d, out, row->operand[1]);
	out->src2 = decode_operand(d, out, row->operand[2]);
	decode_operand(d, out, row->operand[3]);
	if (row->width_src2)
		out->src2 = width_size(d, row->width_src2);
	/* Gathers need a SIB byte, so no 16-bit addresses, and three different registers. */
	if (is_gather(row) &&
	    (out->asize == SZ_16 || out->dst == out->index || out->dst == out->src2 || out->src2 == out->index))
		fail(d, DECODE_UD);
	if (unlikely(d->lock))
		apply_lock(d, row, out);
}

/* As far as the row; NULL if there is none. */
static const struct row *decode_row(struct decoder *d, const u8 *bytes, size_t n, enum decode_mode mode)
{
	*d = (struct decoder){
		.p = bytes,
		.end = bytes + (n < MAX_LEN ? n : MAX_LEN),
		.short_error = n < MAX_LEN ? DECODE_MORE : DECODE_GP,
		.mode64 = mode == DECODE_64,
		.real = mode <= DECODE_32_REAL,
		.code32 = mode == DECODE_32 || mode == DECODE_32_REAL,
		.seg = mode == DECODE_64 ? SEG_FLAT : SEG_DS,
	};
	decode_prefixes(d);
	if (!d->err)
		decode_opcode(d);
	return d->err ? NULL : find_row(d);
}

bool insn_encoding(const u8 *bytes, size_t n, enum decode_mode mode, struct encoding *out)
{
	struct decoder d;
	const struct row *row = decode_row(&d, bytes, n, mode);

	if (!row)
		return false;
	*out = (struct encoding){
		.vex = d.vex,
		.src2 = row->width_src2,
		.map = d.map,
		.pp = d.pp,
		.opcode = d.opcode,
		.w = d.rex & REX_W,
		.l = d.l,
		.digit = d.modrm >> 3 & 7,
		.reg = (u8)((d.modrm >> 3 & 7) | (d.rex & REX_R ? 8 : 0)),
		.rm = (u8)((d.modrm & 7) | (d.rex & REX_B ? 8 : 0)),
		.vvvv = d.mode64 ? d.vvvv : d.vvvv & 7,
	};
	for (unsigned k = 0; k < ARRAY_SIZE(out->kind); k++)
		out->kind[k] = OPERAND_KIND(row->operand[k]);
	return true;
}

int insn_decode(const u8 *bytes, size_t n, enum decode_mode mode, struct insn *out)
{
	struct decoder d;
	const struct row *row = decode_row(&d, bytes, n, mode);

	*out = (struct insn){ .fn = NULL };
	if (row)
		decode_rest(&d, row, out);
	if (unlikely(d.err))
		return d.err;
	out->len = d.p - bytes;
	return out->len;
}
