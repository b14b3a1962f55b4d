/* SPDX-License-Identifier: MIT */
/*
 * Translating one block: what the rules for instructions (rules.c, branch.c) have to work with.
 *
 * Where things are while translated code runs:
 *  - H_CPU: struct cpu. RSP: the host's stack, 16-byte aligned.
 *  - Guest registers: as guest_reg() says, in a host register or in cpu::gpr.
 *  - Status flags: at the start and at the end of a block in cpu::jit.flags; within, as trans::flags says.
 *  - H_ADDR, H_TMP, H_TMP2: anything. After operand_address(), H_ADDR is the operand's host address.
 *  - cpu::gpr[R_BLOCK]: RIP at the start of the block; RIP itself is nowhere.
 */
#ifndef UKVM_JIT_TRANSLATE_H
#define UKVM_JIT_TRANSLATE_H

#include "jit/emit.h"
#include "jit/jit.h"
#include "mem/mem.h"

#define H_CPU H_R15
#define H_ADDR H_RCX
#define H_TMP H_R11
#define H_TMP2 H_R14

/* What is pushed, popped and branched to is that wide; other widths are the handlers'. */
static inline unsigned insn_word(const struct insn *i)
{
	return i->flags & INSN_MODE64 ? SZ_64 : SZ_32;
}

#define CPU_FIELD(field) rm_mem(H_CPU, offsetof(struct cpu, field))

/* Room for any block: twice the most that an instruction and its share of the block have been seen to take. */
#define TRANSLATE_ROOM (BLOCK_MAX_INSNS * 512)

enum flags_at {
	FLAGS_SAVED, /* in cpu::jit.flags */
	FLAGS_LIVE,  /* in the host's RFLAGS */
	FLAGS_BOTH,
	FLAGS_RECIPE, /* to be computed again, if it should be necessary: trans::recipe */
	FLAGS_DEAD,   /* nowhere: nobody will look */
};

/* x87 instructions in a row whose FIP, FDP and so on are not written yet: the last one, the last one with memory. */
struct x87_last {
	const struct insn *insn, *mem;
};

/* Where one instruction leaves for its handler; the handler's way back, if the block goes on. */
struct slow {
	const struct insn *i;
	u8 *site[6];  /* displacements of jumps */
	u8 *fault[2]; /* instructions that access guest memory */
	u8 nr_sites, nr_faults;
	const struct insn *recipe; /* that flags_cook() follows, or NULL */
	bool unsaved;              /* flags are in RFLAGS there: only an access that faults leads there */
	bool rest;                 /* the rest of the block is to be interpreted */
	bool live; /* flags are to be FLAGS_LIVE there */
	u8 simd;   /* and these bits of cpu::jit.simd set */
	bool x87;  /* and cpu::jit.x87 */
	struct x87_last x87_last; /* of instructions before this one */
	u8 *resume;
};

/* What becomes of the status flags behind an instruction. */
enum flag_fate {
	FATE_NEEDED,
	FATE_SHOWN, /* others take their place, but until then there are faults that would show them */
	FATE_DEAD,  /* others take their place */
};

/* What an instruction does with them, found by translating it once: see flags.c. */
struct flag_fact {
	u8 use;      /* enum flag_use */
	bool rule;   /* it is not its handler's */
	bool leaves; /* but may be */
	u8 fate;     /* enum flag_fate */
	bool recipe; /* of those that it makes */
};

/* An instruction's access to memory, found likewise: see group.c. */
struct access {
	u8 nr;   /* 0 or 1, or there are more and they are not grouped */
	u8 base; /* a register as in struct insn, without index or segment; or NO_BASE */
	u8 bytes;
	u8 group; /* 1 to MAX_GROUPS; 0: none */
	bool write, first;
	u16 span; /* of the first one: what the group touches, from base + lo on */
	s32 disp, lo;
};
#define NO_BASE 0xff
#define MAX_GROUPS ARRAY_SIZE(((struct cpu *)NULL)->jit.addend)

struct trans {
	struct emit e;
	const struct jit *jit;
	struct cpu *c;
	struct block *b;
	unsigned n; /* the current instruction */
	struct flag_fact fact[BLOCK_MAX_INSNS];
	struct access access[BLOCK_MAX_INSNS];
	bool grouped; /* these have their groups */
	enum flags_at flags;
	const struct insn *recipe; /* of FLAGS_LIVE, if they have one, and of FLAGS_RECIPE */
	bool ended;       /* control does not reach what comes next */
	u8 simd;          /* bits that cpu::jit.simd is known to have (simd.c) */
	bool x87;         /* cpu::jit.x87 is known to be set */
	bool stack32;     /* cpu::stack_size is known to be SZ_32 */
	struct x87_last x87_last;
	struct slow *cur; /* the current instruction's */
	struct slow slow[BLOCK_MAX_INSNS];
	struct {
		u8 *site;
		u16 off;
	} link[4];    /* jumps within the page to where there is no code yet */
	u8 *leave[2 + 2 * BLOCK_MAX_INSNS]; /* jumps with the RIP to go on at in H_ADDR */
	u8 nr_slow, nr_links, nr_leaves;
};

static inline unsigned code_word(const struct trans *t)
{
	return t->b->mode == DECODE_64 ? SZ_64 : SZ_32;
}

/* What an instruction has to do with the status flags. */
enum flag_use {
	USE_NOT,
	USE_SET,    /* defines all of them */
	USE_MERGE,  /* keeps some, or may, and defines others */
	USE_CHANGE, /* the same, and its result depends on them */
	USE_READ,
};

/*
 * How to translate an operation. emit() returns false, before it has emitted anything, for a form that it leaves to the
 * handler.
 */
struct rule {
	bool (*emit)(struct trans *t, const struct insn *i, const struct rule *r);
	u16 opcode; /* or the kind's number: see rules.c */
	u8 digit;
	u8 use; /* enum flag_use */
};

/* Conditions, by the second half of the mnemonics. */
#define CONDITIONS(X) X(o) X(no) X(b) X(nb) X(z) X(nz) X(be) X(nbe) X(s) X(ns) X(p) X(np) X(l) X(nl) X(le) X(nle)

/* NULL if there is none. (rules.c, branch.c) */
const struct rule *rule_find(const struct insn *i);
const struct rule *branch_rule_find(const struct insn *i);

/* ---- SSE and AVX (simd.c) ---- */
/* As rule::emit. */
bool emit_simd(struct trans *t, const struct insn *i);
/* After a handler: makes cpu::jit.simd what it has to be again; ZF if that is not possible. */
void simd_resume(struct trans *t, unsigned need);
void simd_begin_emit(struct emit *e);
void simd_end_emit(struct emit *e, bool avx);

/* ---- x87 (x87.c) ---- */
/* As rule::emit. */
bool emit_x87(struct trans *t, const struct insn *i);
/* Before an instruction of another kind. */
void x87_flush(struct trans *t);
void x87_note_emit(struct trans *t, const struct x87_last *last);
/* After a handler: loads the x87 state again; ZF if that is not possible. */
void x87_resume(struct trans *t);
/* In between two of these, cpu::gpr has all registers and the stack is aligned. */
void x87_load_emit(struct emit *e);
void x87_end_emit(struct emit *e);

/* Of an instruction of the block; false if it has none for insn_encoding(). */
struct encoding;
bool block_encoding(const struct block *b, const struct insn *i, struct encoding *e);

/* ---- registers (operand.c); off is as in struct insn ---- */
/* The host register that holds a guest register, H_NONE for those in cpu::gpr. */
enum host_reg guest_reg(unsigned off);
struct rm gpr_field(unsigned n);
/* AH, BH, DH; CH has no host register. */
static inline bool is_high_byte(unsigned off)
{
	return off & 1;
}

/* A register's value, in the guest's own host register or in scratch (bytes from AH, BH, DH in H_ADDR). */
enum host_reg source(struct trans *t, unsigned off, enum host_reg scratch);
/* The register to compute a result in: with its old value, if it is needed. dest_done() puts it where it belongs. */
enum host_reg dest(struct trans *t, unsigned off, unsigned size, bool old, enum host_reg scratch);
void dest_done(struct trans *t, unsigned off, enum host_reg r);

/* ---- memory operands (operand.c) ---- */
/* Can the operand be translated at all? */
bool operand_ok(const struct insn *i);
/* The effective address as something LEA takes; may use H_TMP and H_TMP2. */
struct rm operand_ea(struct trans *t, const struct insn *i);
/* H_ADDR = host address of the operand of 1 << size bytes, or off to the handler. Flags are saved before. */
void operand_address(struct trans *t, const struct insn *i, unsigned size, enum mem_access how);
/* H_ADDR = host address of the word on the stack at pointer (RSP * 8, RBP * 8) + disp. */
void stack_address(struct trans *t, unsigned pointer, s32 disp, enum mem_access how);
/*
 * H_TMP2 = the soft TLB's entry for the linear address in H_ADDR, or off to the handler if it does not allow this for
 * all of so many bytes. Changes flags.
 */
void check_page(struct trans *t, unsigned bytes, enum mem_access how);
/* The stack pointer becomes pointer + disp. */
void stack_set(struct trans *t, enum host_reg pointer, s32 disp);
/* [H_ADDR], in the instruction that is emitted next. */
struct rm guest_memory(struct trans *t);

/* ---- groups (group.c) ---- */
/* The current instruction accesses base + disp. */
void access_note(struct trans *t, unsigned base, s64 disp, unsigned bytes, enum mem_access how);
/* When all of the block has been translated once: are there any? */
bool groups_find(struct trans *t);
/* H_ADDR = host address of the operand, if it belongs to a group. */
bool group_address(struct trans *t);

/* ---- flags (flags.c) ---- */
/* They are to be found from now on, whatever happens to the host's. */
void flags_save(struct trans *t);
/* The same, and something will happen to the host's. */
void flags_clobber(struct trans *t);
void flags_live(struct trans *t);
/* A handler has run. */
void flags_handled(struct trans *t);
/* In a slow path: computes and saves the flags that this instruction made. */
void flags_cook(struct trans *t, const struct insn *i);
/* When all of the block has been translated once: is there anything to gain by doing so again? */
bool flags_judge(struct trans *t);
/* Before and after a host instruction that does to the flags what the guest's does. */
void flags_before(struct trans *t, enum flag_use use);
void flags_after(struct trans *t, enum flag_use use);

/* ---- control (translate.c) ---- */
/* To the handler of the current instruction on a condition. Flags are clobbered before, and before any access. */
void slow_if(struct trans *t, unsigned cond);
/*
 * On to RIP + delta, counted from the start of the block. Flags must be saved. branch: the current instruction jumps
 * there, and its handler knows what to do if that is not straightforward.
 */
void go_to(struct trans *t, s64 delta, bool branch);
/* H_ADDR: a RIP. To the handler if no block is known there; else H_TMP2 is where to go on. H_ADDR stays. */
void look_up(struct trans *t);
/* After look_up(): goes there. */
void go_found(struct trans *t);

/* ---- what there is once per CPU (thunk.c) ---- */
/* Host code for a RIP, under one value of cpu::jit.tag: a short cut to what the jump cache says. */
struct host_jump {
	u64 rip, tag;
	const u8 *host;
	u64 unused;
};

#define MAX_KEYS 8

struct jit {
	int (*enter)(struct cpu *c, const u8 *code); /* runs translated code; returns a status */
	const u8 *slow;        /* called with an instruction in H_ADDR; returns if its handler said ST_OK */
	const u8 *look_up;     /* called with a RIP in H_ADDR: H_TMP2 is where to go on, or 0; may use H_TMP */
	const u8 *simd_begin;  /* called where SIMD instructions follow; may use H_TMP */
	const u8 *x87_begin;   /* called where x87 instructions follow; may use H_TMP, H_TMP2, H_ADDR */
	const u8 *rest; /* with an instruction in H_ADDR: interprets the block from there, and ends with that status */
	const u8 *leave;       /* ends with ST_END at the RIP in H_ADDR */
	const u8 *leave_start; /* at R_BLOCK */
	const u8 *leave_link;  /* the same; H_ADDR: the jit_link it came from */
	insn_fn step, handler, interpret; /* the interpreter's; what translated code calls for j->slow and j->rest */
	struct fault_site {
		u32 at, to; /* from the start of the arena */
	} * faults;         /* ascending */
	u32 nr_faults, max_faults;
	u64 epoch;         /* code_cache::epoch of the tag */
	u64 key[MAX_KEYS]; /* cpu::code_key that there have been in it */
	u32 nr_keys;
	struct host_jump jump[JUMP_SIZE];
};

/* insn::run of a translated block's first instruction. (jit.c) */
int jit_enter(struct cpu *c, const struct insn *i);

/* function(cpu, RSI, ...), when cpu::gpr has all registers and the stack is aligned. */
void emit_call_c(struct emit *e, u64 function);
void thunks_emit(struct emit *e, struct jit *j, struct cpu *c);

#endif
