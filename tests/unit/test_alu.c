// SPDX-License-Identifier: MIT
/*
 * Integer instructions against the host CPU: random encodings of each are decoded, executed by their handlers and by
 * the host, on the same registers, flags and memory; everything must be equal, undefined flags too. Guest memory is
 * mapped where its guest address is, so that addresses are the same on both sides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "mem/map.h"

#include "flat.h"
#include "native.h"

#define DATA_BASE 0x10000000ull
#define DATA_SIZE 0x4000ull
#define OPERAND (DATA_BASE + 0x2000) /* where memory operands are */
#define WINDOW 64                    /* bytes around it that are random, and compared */
#define ROUNDS 300

/* ---- one instruction of the list ---- */
enum {
	BYTE = 1 << 0,     /* operand size is 8 bits, no prefixes of size */
	NO_66 = 1 << 1,
	NO_W = 1 << 2,
	NO_REG = 1 << 3,   /* memory only */
	NO_MEM = 1 << 4,
	LOCKABLE = 1 << 5,
	NO_MODRM = 1 << 6,
	BITSTRING = 1 << 7, /* the register is a bit offset: keep it small for memory */
	WIDE_DIV = 1 << 8,  /* a quotient that fits now and then */
	LOW_REG = 1 << 9,   /* opcode + register */
	ALIGNED = 1 << 10,
};

struct item {
	const char *name;
	u8 map;            /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A; VEX if vex is set */
	u8 opcode;
	s8 digit;          /* ModRM.reg, -1: a register */
	u8 imm;            /* bytes of immediate; 4: as wide as the operand, at most 4; 8: as wide as the operand */
	u16 how;
	u8 prefix;         /* mandatory prefix, 0: none; for VEX: pp */
	bool vex;
	const char *feature;
};

#define ALU_ITEMS(n, base, d) \
	{ n, 0, (base) + 0, -1, 0, BYTE | LOCKABLE, 0, false, 0 }, { n, 0, (base) + 1, -1, 0, LOCKABLE, 0, false, 0 }, \
	{ n, 0, (base) + 2, -1, 0, BYTE, 0, false, 0 }, { n, 0, (base) + 3, -1, 0, 0, 0, false, 0 }, \
	{ n, 0, (base) + 4, 0, 1, BYTE | NO_MODRM, 0, false, 0 }, { n, 0, (base) + 5, 0, 4, NO_MODRM, 0, false, 0 }, \
	{ n, 0, 0x80, d, 1, BYTE | LOCKABLE, 0, false, 0 }, { n, 0, 0x81, d, 4, LOCKABLE, 0, false, 0 }, \
	{ n, 0, 0x83, d, 1, LOCKABLE, 0, false, 0 }
#define SHIFT_ITEMS(n, d) \
	{ n, 0, 0xc0, d, 1, BYTE, 0, false, 0 }, { n, 0, 0xc1, d, 1, 0, 0, false, 0 }, \
	{ n, 0, 0xd0, d, 0, BYTE, 0, false, 0 }, { n, 0, 0xd1, d, 0, 0, 0, false, 0 }, \
	{ n, 0, 0xd2, d, 0, BYTE, 0, false, 0 }, { n, 0, 0xd3, d, 0, 0, 0, false, 0 }
#define UNARY_ITEMS(n, op, d, how) \
	{ n, 0, op, d, 0, BYTE | (how), 0, false, 0 }, { n, 0, (op) + 1, d, 0, how, 0, false, 0 }
#define CC_ITEMS(cc) \
	{ "set" #cc, 1, 0x90 + 0x##cc, 0, 0, BYTE, 0, false, 0 }, \
	{ "cmov" #cc, 1, 0x40 + 0x##cc, -1, 0, 0, 0, false, 0 }

static const struct item items[] = {
	ALU_ITEMS("add", 0x00, 0), ALU_ITEMS("or", 0x08, 1), ALU_ITEMS("adc", 0x10, 2), ALU_ITEMS("sbb", 0x18, 3),
	ALU_ITEMS("and", 0x20, 4), ALU_ITEMS("sub", 0x28, 5), ALU_ITEMS("xor", 0x30, 6),
	{ "cmp", 0, 0x38, -1, 0, BYTE, 0, false, 0 }, { "cmp", 0, 0x39, -1, 0, 0, 0, false, 0 },
	{ "cmp", 0, 0x3a, -1, 0, BYTE, 0, false, 0 }, { "cmp", 0, 0x3b, -1, 0, 0, 0, false, 0 },
	{ "cmp", 0, 0x80, 7, 1, BYTE, 0, false, 0 }, { "cmp", 0, 0x81, 7, 4, 0, 0, false, 0 },
	{ "test", 0, 0x84, -1, 0, BYTE, 0, false, 0 }, { "test", 0, 0x85, -1, 0, 0, 0, false, 0 },
	{ "test", 0, 0xa8, 0, 1, BYTE | NO_MODRM, 0, false, 0 }, { "test", 0, 0xa9, 0, 4, NO_MODRM, 0, false, 0 },
	{ "test", 0, 0xf6, 0, 1, BYTE, 0, false, 0 }, { "test", 0, 0xf7, 0, 4, 0, 0, false, 0 },
	UNARY_ITEMS("inc", 0xfe, 0, LOCKABLE), UNARY_ITEMS("dec", 0xfe, 1, LOCKABLE),
	UNARY_ITEMS("not", 0xf6, 2, LOCKABLE), UNARY_ITEMS("neg", 0xf6, 3, LOCKABLE),
	UNARY_ITEMS("mul", 0xf6, 4, 0), UNARY_ITEMS("imul", 0xf6, 5, 0),
	UNARY_ITEMS("div", 0xf6, 6, WIDE_DIV), UNARY_ITEMS("idiv", 0xf6, 7, WIDE_DIV),
	{ "imul", 1, 0xaf, -1, 0, 0, 0, false, 0 }, { "imul", 0, 0x69, -1, 4, 0, 0, false, 0 },
	{ "imul", 0, 0x6b, -1, 1, 0, 0, false, 0 },
	SHIFT_ITEMS("rol", 0), SHIFT_ITEMS("ror", 1), SHIFT_ITEMS("rcl", 2), SHIFT_ITEMS("rcr", 3),
	SHIFT_ITEMS("shl", 4), SHIFT_ITEMS("shr", 5), SHIFT_ITEMS("sal", 6), SHIFT_ITEMS("sar", 7),
	{ "shld", 1, 0xa4, -1, 1, 0, 0, false, 0 }, { "shld", 1, 0xa5, -1, 0, 0, 0, false, 0 },
	{ "shrd", 1, 0xac, -1, 1, 0, 0, false, 0 }, { "shrd", 1, 0xad, -1, 0, 0, 0, false, 0 },
	{ "mov", 0, 0x88, -1, 0, BYTE, 0, false, 0 }, { "mov", 0, 0x89, -1, 0, 0, 0, false, 0 },
	{ "mov", 0, 0x8a, -1, 0, BYTE, 0, false, 0 }, { "mov", 0, 0x8b, -1, 0, 0, 0, false, 0 },
	{ "mov", 0, 0xb0, 0, 1, BYTE | LOW_REG, 0, false, 0 }, { "mov", 0, 0xb8, 0, 8, LOW_REG, 0, false, 0 },
	{ "mov", 0, 0xc6, 0, 1, BYTE, 0, false, 0 }, { "mov", 0, 0xc7, 0, 4, 0, 0, false, 0 },
	{ "movsxd", 0, 0x63, -1, 0, 0, 0, false, 0 }, { "movnti", 1, 0xc3, -1, 0, NO_66 | NO_REG, 0, false, 0 },
	{ "movzx", 1, 0xb6, -1, 0, 0, 0, false, 0 }, { "movzx", 1, 0xb7, -1, 0, 0, 0, false, 0 },
	{ "movsx", 1, 0xbe, -1, 0, 0, 0, false, 0 }, { "movsx", 1, 0xbf, -1, 0, 0, 0, false, 0 },
	{ "lea", 0, 0x8d, -1, 0, NO_REG, 0, false, 0 }, { "bswap", 1, 0xc8, 0, 0, LOW_REG, 0, false, 0 },
	{ "cbw", 0, 0x98, 0, 0, NO_MODRM, 0, false, 0 }, { "cwd", 0, 0x99, 0, 0, NO_MODRM, 0, false, 0 },
	{ "lahf", 0, 0x9f, 0, 0, NO_MODRM, 0, false, 0 }, { "sahf", 0, 0x9e, 0, 0, NO_MODRM, 0, false, 0 },
	{ "clc", 0, 0xf8, 0, 0, NO_MODRM, 0, false, 0 }, { "stc", 0, 0xf9, 0, 0, NO_MODRM, 0, false, 0 },
	{ "cmc", 0, 0xf5, 0, 0, NO_MODRM, 0, false, 0 },
	{ "xchg", 0, 0x86, -1, 0, BYTE | LOCKABLE, 0, false, 0 }, { "xchg", 0, 0x87, -1, 0, LOCKABLE, 0, false, 0 },
	{ "xchg", 0, 0x90, 0, 0, LOW_REG, 0, false, 0 },
	{ "xadd", 1, 0xc0, -1, 0, BYTE | LOCKABLE, 0, false, 0 }, { "xadd", 1, 0xc1, -1, 0, LOCKABLE, 0, false, 0 },
	{ "cmpxchg", 1, 0xb0, -1, 0, BYTE | LOCKABLE, 0, false, 0 },
	{ "cmpxchg", 1, 0xb1, -1, 0, LOCKABLE, 0, false, 0 },
	{ "cmpxchg8b", 1, 0xc7, 1, 0, NO_66 | NO_REG | LOCKABLE | ALIGNED, 0, false, "cx16" },
	{ "bt", 1, 0xa3, -1, 0, BITSTRING, 0, false, 0 }, { "bt", 1, 0xba, 4, 1, 0, 0, false, 0 },
	{ "bts", 1, 0xab, -1, 0, BITSTRING | LOCKABLE, 0, false, 0 }, { "bts", 1, 0xba, 5, 1, LOCKABLE, 0, false, 0 },
	{ "btr", 1, 0xb3, -1, 0, BITSTRING | LOCKABLE, 0, false, 0 }, { "btr", 1, 0xba, 6, 1, LOCKABLE, 0, false, 0 },
	{ "btc", 1, 0xbb, -1, 0, BITSTRING | LOCKABLE, 0, false, 0 }, { "btc", 1, 0xba, 7, 1, LOCKABLE, 0, false, 0 },
	{ "bsf", 1, 0xbc, -1, 0, 0, 0, false, 0 }, { "bsr", 1, 0xbd, -1, 0, 0, 0, false, 0 },
	{ "popcnt", 1, 0xb8, -1, 0, 0, 0xf3, false, "popcnt" }, { "tzcnt", 1, 0xbc, -1, 0, 0, 0xf3, false, 0 },
	{ "lzcnt", 1, 0xbd, -1, 0, 0, 0xf3, false, 0 },
	{ "movbe", 2, 0xf0, -1, 0, NO_REG, 0, false, "movbe" }, { "movbe", 2, 0xf1, -1, 0, NO_REG, 0, false, "movbe" },
	{ "crc32", 2, 0xf0, -1, 0, NO_66, 0xf2, false, "sse4_2" },
	{ "crc32", 2, 0xf1, -1, 0, 0, 0xf2, false, "sse4_2" },
	{ "adcx", 2, 0xf6, -1, 0, NO_66, 0x66, false, "adx" }, { "adox", 2, 0xf6, -1, 0, NO_66, 0xf3, false, "adx" },
	{ "andn", 2, 0xf2, -1, 0, NO_66, 0, true, "bmi1" }, { "blsr", 2, 0xf3, 1, 0, NO_66, 0, true, "bmi1" },
	{ "blsmsk", 2, 0xf3, 2, 0, NO_66, 0, true, "bmi1" }, { "blsi", 2, 0xf3, 3, 0, NO_66, 0, true, "bmi1" },
	{ "bzhi", 2, 0xf5, -1, 0, NO_66, 0, true, "bmi2" }, { "pext", 2, 0xf5, -1, 0, NO_66, 2, true, "bmi2" },
	{ "pdep", 2, 0xf5, -1, 0, NO_66, 3, true, "bmi2" }, { "mulx", 2, 0xf6, -1, 0, NO_66, 3, true, "bmi2" },
	{ "bextr", 2, 0xf7, -1, 0, NO_66, 0, true, "bmi1" }, { "shlx", 2, 0xf7, -1, 0, NO_66, 1, true, "bmi2" },
	{ "sarx", 2, 0xf7, -1, 0, NO_66, 2, true, "bmi2" }, { "shrx", 2, 0xf7, -1, 0, NO_66, 3, true, "bmi2" },
	{ "rorx", 3, 0xf0, -1, 1, NO_66, 3, true, "bmi2" },
	{ "push", 0, 0x50, 0, 0, LOW_REG, 0, false, 0 }, { "pop", 0, 0x58, 0, 0, LOW_REG, 0, false, 0 },
	{ "push", 0, 0xff, 6, 0, 0, 0, false, 0 }, { "pop", 0, 0x8f, 0, 0, 0, 0, false, 0 },
	{ "push", 0, 0x68, 0, 4, NO_MODRM, 0, false, 0 }, { "push", 0, 0x6a, 0, 1, NO_MODRM, 0, false, 0 },
	{ "pushf", 0, 0x9c, 0, 0, NO_MODRM, 0, false, 0 }, { "leave", 0, 0xc9, 0, 0, NO_MODRM, 0, false, 0 },
	{ "xlat", 0, 0xd7, 0, 0, NO_MODRM, 0, false, 0 }, { "nop", 1, 0x1f, 0, 0, 0, 0, false, 0 },
	{ "movs", 0, 0xa4, 0, 0, BYTE | NO_MODRM, 0, false, 0 }, { "movs", 0, 0xa5, 0, 0, NO_MODRM, 0, false, 0 },
	{ "cmps", 0, 0xa6, 0, 0, BYTE | NO_MODRM, 0, false, 0 }, { "cmps", 0, 0xa7, 0, 0, NO_MODRM, 0, false, 0 },
	{ "stos", 0, 0xaa, 0, 0, BYTE | NO_MODRM, 0, false, 0 }, { "stos", 0, 0xab, 0, 0, NO_MODRM, 0, false, 0 },
	{ "lods", 0, 0xac, 0, 0, BYTE | NO_MODRM, 0, false, 0 }, { "lods", 0, 0xad, 0, 0, NO_MODRM, 0, false, 0 },
	{ "scas", 0, 0xae, 0, 0, BYTE | NO_MODRM, 0, false, 0 }, { "scas", 0, 0xaf, 0, 0, NO_MODRM, 0, false, 0 },
	CC_ITEMS(0), CC_ITEMS(1), CC_ITEMS(2), CC_ITEMS(3), CC_ITEMS(4), CC_ITEMS(5), CC_ITEMS(6), CC_ITEMS(7),
	CC_ITEMS(8), CC_ITEMS(9), CC_ITEMS(a), CC_ITEMS(b), CC_ITEMS(c), CC_ITEMS(d), CC_ITEMS(e), CC_ITEMS(f),
};

/* ---- random numbers, the same ones each time ---- */
static u64 seed = 88172645463325252ull;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Random, but often near an edge. */
static u64 rnd_value(void)
{
	u64 v = rnd();

	switch (rnd() % 8) {
	case 0:
		return v & 0xff;
	case 1:
		return 0;
	case 2:
		return ~0ull << (v & 63);
	case 3:
		return 1ull << (v & 63);
	case 4:
		return (s64)v >> (rnd() & 63);
	default:
		return v;
	}
}

/* ---- encodings ---- */
struct encoding {
	u8 bytes[16];
	unsigned len;
	bool mem, w, p66, lock;
};

static void emit(struct encoding *e, unsigned v)
{
	e->bytes[e->len++] = (u8)v;
}

/* Any register but those that hold addresses: RSP, RBX. */
static unsigned rnd_reg(const struct item *it, const struct encoding *e)
{
	unsigned r;

	do {
		r = rnd() & 15;
	} while (r == 4 || r == 3 || ((it->how & BITSTRING) && e->mem && r != 9) ||
		 (it->map == 0 && r == 5 && it->opcode == 0xc9));
	return r;
}

/* ModRM (and displacement) of register reg and a random operand; *rm for the REX or VEX prefix. */
static void emit_modrm(struct encoding *e, unsigned reg, unsigned rm)
{
	if (!e->mem) {
		emit(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
		return;
	}
	emit(e, 0x40 | (reg & 7) << 3 | 3); /* disp8(%rbx) */
	emit(e, 8);
}

static void emit_imm(struct encoding *e, const struct item *it)
{
	unsigned n = it->imm;
	u64 v = rnd_value();

	if (n == 4 && e->p66 && !e->w)
		n = 2;
	if (n == 8)
		n = e->w ? 8 : e->p66 ? 2 : 4;
	for (; n; n--, v >>= 8)
		emit(e, v & 0xff);
}

static void emit_opcode(struct encoding *e, const struct item *it, unsigned reg, unsigned rm)
{
	bool high = rnd() & 1; /* REX also without need */
	unsigned rex = (e->w ? 8 : 0) | (reg & 8 ? 4 : 0) | (rm & 8 ? 1 : 0);

	if (it->vex) {
		unsigned vvvv = it->digit >= 0 ? rnd_reg(it, e)
					: it->opcode == 0xf0 && it->map == 3 ? 0 : rnd_reg(it, e);

		emit(e, 0xc4);
		emit(e, (reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | it->map);
		emit(e, (e->w ? 0x80 : 0) | (~vvvv & 15) << 3 | it->prefix);
		emit(e, it->opcode);
		return;
	}
	if (rex || high)
		emit(e, 0x40 | rex);
	if (it->map)
		emit(e, 0x0f);
	if (it->map == 2)
		emit(e, 0x38);
	if (it->map == 3)
		emit(e, 0x3a);
	emit(e, it->opcode | (it->how & LOW_REG ? rm & 7 : 0));
}

static void encode(const struct item *it, struct encoding *e)
{
	unsigned reg, rm;

	memset(e, 0, sizeof(*e));
	e->mem = !(it->how & (NO_MEM | NO_MODRM | LOW_REG)) && ((it->how & NO_REG) || (rnd() & 1));
	e->w = !(it->how & (NO_W | BYTE)) && (rnd() % 3 == 0);
	e->p66 = !(it->how & (NO_66 | BYTE)) && (rnd() % 3 == 0);
	e->lock = e->mem && (it->how & LOCKABLE) && (rnd() & 1);
	reg = it->digit >= 0 ? (unsigned)it->digit : rnd_reg(it, e);
	rm = e->mem || (it->how & NO_MODRM) ? 0 : rnd_reg(it, e);
	if (e->p66)
		emit(e, 0x66);
	if (it->map == 0 && it->opcode >= 0xa4 && it->opcode <= 0xaf && (it->opcode & ~1) != 0xa8 && (rnd() & 1))
		emit(e, rnd() & 1 ? 0xf2 : 0xf3);
	if (it->prefix && !it->vex)
		emit(e, it->prefix);
	if (e->lock)
		emit(e, 0xf0);
	emit_opcode(e, it, reg, rm);
	if (!(it->how & (NO_MODRM | LOW_REG)))
		emit_modrm(e, reg, rm);
	emit_imm(e, it);
}

/* ---- the comparison ---- */
static struct flat *guest;
static u8 *data;

/* A second slot where guest and host addresses are equal. */
static int setup(void **state)
{
	struct memmap *map = calloc(1, sizeof(*map) + 2 * sizeof(struct memslot));

	(void)state;
	guest = flat_new(4 << 20);
	data = mmap((void *)DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (data != (u8 *)DATA_BASE)
		return -1;
	map->nr_slots = 2;
	map->slot[0] = guest->map->slot[0];
	map->slot[1] = (struct memslot){ .gpa = DATA_BASE, .size = DATA_SIZE, .hva = data };
	free(guest->map);
	guest->map = map;
	guest->cpu.map = map;
	flat_long(guest, 0x1000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	flat_free(guest);
	munmap(data, DATA_SIZE);
	return 0;
}

static void random_state(const struct item *it, const struct encoding *e, u64 *gpr)
{
	for (unsigned r = 0; r < 16; r++)
		gpr[r] = rnd_value();
	gpr[RBX] = OPERAND + (it->how & ALIGNED ? 8 : rnd() % 16) - 16;
	gpr[RSP] = DATA_BASE + 0x3000;
	if (it->how & BITSTRING)
		gpr[R9] = rnd() % 200 - 100 + (e->w ? 0 : rnd() << 32);
	if (it->how & WIDE_DIV) {
		gpr[RDX] = (u64)((s64)rnd() >> (rnd() & 63));
		gpr[RDX] = rnd() & 1 ? gpr[RDX] : 0;
		if (rnd() & 1)
			gpr[RDX] = (s64)gpr[RAX] >> 63;
	}
	if (it->map == 0 && it->opcode == 0xc9)
		gpr[RBP] = DATA_BASE + 0x2fe0;
	if (it->map == 0 && it->opcode >= 0xa4 && it->opcode <= 0xaf) {
		gpr[RSI] = OPERAND - 8 + rnd() % 24;
		gpr[RDI] = OPERAND - 8 + rnd() % 24;
		gpr[RCX] = rnd() % 9;
	}
}

static void random_memory(void)
{
	for (u64 n = 0; n < WINDOW; n++)
		data[OPERAND - DATA_BASE - WINDOW / 2 + n] = rnd() & 3 ? (u8)rnd_value() : 0;
	memset(data + 0x2fc0, 0x5a, 0x80);
}

/* Runs the handler until it does not ask to be called again. */
static int interpret(struct insn *i, struct cpu *c)
{
	int st;

	do {
		c->gpr[R_RIP] = 0x1000 + i->len;
		c->cur = i;
		st = i->fn(c, i);
	} while (st == ST_AGAIN);
	return st;
}

static void describe(const struct item *it, const struct encoding *e, const u64 *before, u64 flags)
{
	print_message("%s, mem %d:", it->name, e->mem);
	for (unsigned n = 0; n < e->len; n++)
		print_message(" %02x", e->bytes[n]);
	print_message("\nflags %lx rax %lx rcx %lx rdx %lx\n", flags, before[RAX], before[RCX], before[RDX]);
	for (unsigned r = 0; r < 16; r++)
		print_message("r%u: before %lx host %lx guest %lx\n", r, before[r], native_state.gpr[r],
			      guest->cpu.gpr[r]);
	print_message("flags: host %llx guest %llx\n", native_state.flags & FL_STATUS, guest->cpu.cc & FL_STATUS);
}

static void compare(const struct item *it, const struct encoding *e, const u64 *gpr, u64 flags)
{
	static u8 before[DATA_SIZE], native_data[DATA_SIZE];
	struct cpu *c = &guest->cpu;
	struct insn insn;
	int sig, st, len;

	memcpy(before, data, DATA_SIZE);
	memcpy(native_state.gpr, gpr, sizeof(native_state.gpr));
	native_state.flags = flags | FL_1 | FL_IF;
	sig = native_run(e->bytes, e->len);
	memcpy(native_data, data, DATA_SIZE);
	memcpy(data, before, DATA_SIZE);

	memcpy(c->gpr, gpr, 16 * sizeof(u64));
	c->cc = flags;
	c->rflags = FL_IF | (flags & FL_DF);
	len = insn_decode(e->bytes, e->len, DECODE_64, &insn);
	if (len != (int)e->len) {
		describe(it, e, gpr, flags);
		fail_msg("decoded as %d bytes", len);
	}
	insn.fn = interp_bind(&insn);
	st = interpret(&insn, c);
	if (sig == SIGFPE || sig == SIGILL) {
		u8 vector = sig == SIGFPE ? VEC_DE : VEC_UD;

		if (st != ST_FAULT || c->fault.vector != vector || memcmp(c->gpr, gpr, 16 * sizeof(u64))) {
			describe(it, e, gpr, flags);
			fail_msg("the host raised signal %d", sig);
		}
		return;
	}
	/* PUSHF stores what the host has on besides. */
	if (it->opcode == 0x9c && !it->map)
		memcpy(native_data, data, DATA_SIZE);
	if (st != ST_OK || memcmp(c->gpr, native_state.gpr, 16 * sizeof(u64)) ||
	    ((c->cc ^ native_state.flags) & FL_STATUS) || memcmp(data, native_data, DATA_SIZE)) {
		describe(it, e, gpr, flags);
		fail_msg("status %d, memory %s", st, memcmp(data, native_data, DATA_SIZE) ? "differs" : "is equal");
	}
}

static bool host_has(const char *feature)
{
	char line[4096], word[64];
	FILE *f = fopen("/proc/cpuinfo", "r");
	bool found = false;

	snprintf(word, sizeof(word), " %s ", feature);
	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "flags", 5) && (line[strcspn(line, "\n")] = ' ') && strstr(line, word);
	if (f)
		fclose(f);
	return found;
}

static void host_is_the_oracle(void **state)
{
	(void)state;
	native_init();
	for (size_t n = 0; n < ARRAY_SIZE(items); n++) {
		const struct item *it = &items[n];

		if (it->feature && !host_has(it->feature))
			continue;
		for (unsigned round = 0; round < ROUNDS; round++) {
			struct encoding e;
			u64 gpr[16], flags = rnd() & FL_STATUS;

			if (it->map == 0 && it->opcode >= 0xa4 && it->opcode <= 0xaf && (it->opcode & ~1) != 0xa8)
				flags |= rnd() & FL_DF;
			encode(it, &e);
			random_state(it, &e, gpr);
			random_memory();
			compare(it, &e, gpr, flags);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(host_is_the_oracle, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
