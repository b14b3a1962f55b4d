/* SPDX-License-Identifier: MIT */
/*
 * Cached decodings of guest code, and their coherence with memory (docs/architecture.md). One cache per vCPU, no locks.
 *
 * Code is cached by the host page that holds it, so every guest-physical or linear alias of a page shares it. A page
 * with cached code has no write tag in this vCPU's soft TLB: its own stores arrive at code_written() and are exact.
 * Stores by anybody else (the client, other vCPUs, read(2)) are found by comparing the page with the copy of its bytes
 * from which the decodings were made. The comparison happens at the first transfer into a page after the epoch
 * advanced: code_serialize() is called wherever a real CPU would see the new bytes for sure.
 */
#ifndef UKVM_MEM_CODE_H
#define UKVM_MEM_CODE_H

#include "cpu/cpu.h"
#include "insn/insn.h"

#define CODE_LINE_SHIFT 6
#define BLOCK_MAX_INSNS 32
#define INSN_MAX_BYTES 15

struct code_page;

/* Straight-line code within one page; a pseudo-instruction that ends the block follows the last one. */
struct block {
	struct code_page *page; /* NULL: that of a struct single; code_cache::nowhere: dropped */
	struct block *next;     /* of the same start line */
	u16 off;                /* of the first byte in its page */
	u16 bytes;
	u8 mode;                /* enum decode_mode */
	u8 n;
	u64 work;               /* of all of it: cpu/stats.h */
	u32 heat;               /* executions until it is translated; see code_cache::heat */
	u8 *host;               /* its host code, entered from other blocks'; NULL: there is none */
	u8 *body;               /* the same, entered from the run loop */
	insn_fn threaded;       /* insn[0].run as it was before */
	u32 missed;             /* when its groups of accesses last were not in one page (jit/group.c) */
	u8 misses;              /* and how often that has happened lately */
	bool apart;             /* so they are no groups any more */
	struct insn insn[];
};

struct code_page {
	u8 *host;
	struct code_page *next; /* hash chain */
	u64 epoch;              /* validated in this epoch */
	u64 lines;              /* bit n: cached code comes from line n */
	u64 hot;                /* bit n: line n is written all the time; its code is decoded without being cached */
	u32 singles;            /* instructions decoded so */
	struct block *blocks[PAGE_SIZE >> CODE_LINE_SHIFT];
	u8 drops[PAGE_SIZE >> CODE_LINE_SHIFT]; /* how often a line's code had to be dropped */
	u8 copy[PAGE_SIZE];
};

/* A line whose code was dropped this often is hot, until so many instructions of its page were decoded one by one. */
#define CODE_MAX_DROPS 64
#define CODE_HOT_SINGLES 65536

/* A block of one instruction by its bytes, wherever they are; valid for one execution. See code_single(). */
struct single {
	u8 bytes[INSN_MAX_BYTES];
	u8 len; /* 0: none */
	u8 mode;
	u8 block[sizeof(struct block) + 2 * sizeof(struct insn)] __attribute__((aligned(8)));
};

static inline struct block *single_block(struct single *s)
{
	return (struct block *)s->block;
}

struct jump_entry {
	u64 lin, key, stamp;
	struct block *block;
};
#define JUMP_BITS 12
#define JUMP_SIZE (1u << JUMP_BITS)

struct code_cache {
	u64 epoch;
	u64 stamp;                    /* jump entries of another stamp are void, or another address space's (tlb.c) */
	u64 last_stamp, floor;        /* the last one given out; those below floor are void for good */
	struct jump_entry *jump;      /* [JUMP_SIZE]: the stamp's window, see space_window() */
	u64 jump_pages[16];           /* a bit for each (hashed) linear page that has a jump entry */
	u64 jump_mib4[16];            /* likewise for each 4 MiB */
	struct code_page **hash;      /* [1 << CODE_HASH_BITS] */
	u8 *arena;
	size_t used, size;
	/* Host code of blocks, see jit/. What is below host_floor stays. */
	u8 *host_arena;
	size_t host_floor, host_used, host_size;
	const u8 *host_stale;         /* where the code of a dropped block leads */
	u32 heat;                     /* a new block's; 0: never */
	struct single *single;        /* [NR_SINGLES] */
	u64 *writable;                /* [WRITABLE_WORDS]: a bit for each (hashed) host page that may have write tags */
	struct code_page *nowhere;    /* where dropped blocks are: a page that is never valid */
};
#define CODE_HASH_BITS 12
#define NR_SINGLES 256
#define WRITABLE_WORDS 512

int code_init(struct cpu *c); /* 0 or -ENOMEM */
void code_free(struct cpu *c);

/* Forgets everything (the slots changed). Only between two blocks, or while the vCPU rests. */
void code_flush(struct cpu *c);

/* Linear addresses may mean other code now: all of them, or those in one page. */
void code_forget_jumps(struct code_cache *code);
/* Those to the page of this size around lin. */
void code_forget_jumps_to(struct code_cache *code, u64 lin, unsigned shift);
/* Another address space: its jumps have that stamp, if it is not void; 0 for one without any. */
void code_switch_jumps(struct code_cache *code, u64 stamp);
/* Enters where lin leads. */
void code_remember_jump(struct code_cache *code, struct jump_entry *j, u64 lin, u64 key, struct block *b);

/* From here on, code that anybody wrote before must be seen: serializing instructions, interrupts, KVM_RUN entry. */
void code_serialize(struct cpu *c);

/* The page at host if it holds cached code, else NULL. */
struct code_page *code_page_find(const struct code_cache *code, const u8 *host);
/* The same, made if it is missing. NULL if the arena is full. */
struct code_page *code_page_get(struct cpu *c, u8 *host);
/* The soft TLB has a write tag that reaches the page at host. */
void code_note_writable(struct code_cache *code, const u8 *host);
/* Before code of the page is cached: takes its write tags away. */
void code_page_protect(struct cpu *c, struct code_page *p);
/* An instruction of a hot line was decoded. What was hot need not stay so: after many of them caching starts anew. */
void code_page_cool(struct code_page *p);
/* Compares the page with memory if that is due; drops the blocks that are stale. */
void code_page_validate(struct cpu *c, struct code_page *p);
/* The guest is about to write [off, off + size) of a page with code: drops the blocks that come from there. */
void code_written(struct cpu *c, struct code_page *p, unsigned off, unsigned size);

/* Where the instruction at this host address is kept, or another one. */
struct single *code_single(const struct code_cache *code, const u8 *host);

/* Room for a block of n instructions, NULL if the arena is full (then code_flush() and start again). */
struct block *block_alloc(struct code_cache *code, unsigned n);
void block_insert(struct code_page *p, struct block *b);
struct block *block_find(const struct code_page *p, unsigned off, unsigned mode);

/* The block has no host code any more, until the next time that it runs. */
void block_untranslate(struct code_cache *code, struct block *b);

/* Handler of the instructions of dropped blocks: look the code up again. */
int block_stale(struct cpu *c, const struct insn *i);

#endif
