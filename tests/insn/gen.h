/* SPDX-License-Identifier: MIT */
/* Makes cases: bytes from a row of the opcode table, and a state that makes something of them. */
#ifndef UKVM_TESTS_INSN_GEN_H
#define UKVM_TESTS_INSN_GEN_H

#include "rows.h"

/* ---- random numbers ---- */
struct rng {
	u64 s;
};

static inline u64 rnd(struct rng *r)
{
	u64 z = r->s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline u32 below(struct rng *r, u32 n)
{
	return (u32)((rnd(r) >> 32) * n >> 32);
}

static inline bool chance(struct rng *r, u32 percent)
{
	return below(r, 100) < percent;
}

/* Values at the edges of something; values.c. */
u64 corner_int(struct rng *r);
u32 corner_f32(struct rng *r);
u64 corner_f64(struct rng *r);
void corner_f80(struct rng *r, u8 *to);
void corner_vector(struct rng *r, u8 *to, unsigned bytes);
void corner_fpu(struct rng *r, u8 *xsave);

/* ---- an instruction ---- */
struct enc {
	const struct row_info *row;
	u8 prefix[16];           /* legacy prefixes in order */
	u8 nr_prefix;
	bool op66, addr67, lock;
	u8 rep;
	u8 seg;                  /* SEG_FS, SEG_GS or 0 */
	u8 rex;                  /* W, R, X, B; never in narrow code */
	bool has_rex;
	u8 opcode;               /* with a register in its lower bits, or not */
	u8 l, vvvv;
	bool has_modrm, mem;
	u8 modrm, sib;
	bool has_sib;
	u8 disp_size;
	s32 disp;
	bool rip_relative;       /* disp is filled in when the length is known */
	bool addr16;             /* narrow code: a 16-bit address */
	u64 target;              /* of the memory operand, linear */
	u8 imm[16];
	u8 imm_len;
	u8 base, index;          /* general registers of the memory operand; NO_REG */
	u8 vindex;
	unsigned bytes;          /* how wide the memory operand is */
	u8 opsize;               /* SZ_16 to SZ_64 */
	u8 out[32];
	u8 len;
	s8 rel_at;               /* where in imm a branch displacement is; -1: none */
};
#define NO_REG 0xff

struct gen {
	struct rng rng;
	struct test_case *t;
	u8 *image;               /* the memory image */
	u32 patched[64][2];      /* offset, length */
	u32 nr_patched;
	bool sequence;           /* several instructions: operands do not rely on registers */
	const u8 *usable;        /* [nr_rows] */
	bool careful;            /* the CPU is not AMD's: see gen_init() */
	enum width width;        /* of the case */
};

/* The number of a register that code of this width can name. */
static inline u8 any_reg(struct gen *g)
{
	return (u8)below(&g->rng, g->width == WIDTH_64 ? 16 : 8);
}

/* Encodes the row at the address rip; false if it could not. gen.c */
bool encode(struct gen *g, struct enc *e, const struct row_info *row, u64 rip);
/* Registers and memory that the instruction needs to do something. setup.c */
void setup_operands(struct gen *g, struct enc *e, u64 rip, u64 branch_target);
/* An address where size bytes might be accessed. */
u64 pick_address(struct gen *g, unsigned size);
/* Writes to the memory image, as far as linear is in it. */
void patch_memory(struct gen *g, u64 linear, const void *data, unsigned size);

/* What of encode() narrow.c needs, too. */
bool is_vex(const struct row_info *row);
int mandatory_prefix(const struct row_info *row); /* as in VEX.pp; -1: any */
unsigned find_operand(const struct row_info *row, unsigned first_kind, unsigned last_kind);

/* Code of 16- and 32-bit segments, and the 64-bit code that does the same; narrow.c. */
const char *narrow_reason(const struct row_info *row, enum width width);
/* The memory operand, as a 16-bit address. */
void narrow_memory16(struct gen *g, struct enc *e);
/* The base that a memory operand of this segment is relative to, in the engine. */
u64 segment_base(const struct gen *g, const struct enc *e);
/* An address that code of this width reaches, in place of one that it may not reach. */
u64 narrow_address(struct gen *g, const struct enc *e, u64 target);
/* The 64-bit twin of what encode() made. Returns its length, 0 if there is none. */
unsigned narrow_twin(const struct enc *e, u8 *to);
/* 32 bits of each register, and no implicit address that is out of reach. */
void narrow_registers(struct gen *g, const struct enc *e);

/* A whole case: image is the memory that it starts with, until gen_undo(). case.c */
void gen_init(struct gen *g, u8 *image, const u8 *usable);
bool gen_case(struct gen *g, struct test_case *t, u32 row, u64 seed);
void gen_undo(struct gen *g);

#endif
