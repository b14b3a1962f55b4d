/* SPDX-License-Identifier: MIT */
/*
 * Guest-virtual memory for the engine. Every function returns an enum status: ST_OK; ST_FAULT with cpu::fault filled
 * (segment limit, page fault, #AC, ...); ST_EXIT with cpu::exit filled (the client's device must answer first; the
 * instruction will run again and find the answer in cpu::io).
 *
 * Handlers must read all their memory operands before they change any register, and write memory before they commit
 * registers and flags, so that an instruction that faults or exits had no effect.
 */
#ifndef UKVM_MEM_MEM_H
#define UKVM_MEM_MEM_H

#include "cpu/cpu.h"
#include "insn/insn.h"

enum mem_access {
	MEM_READ,
	MEM_WRITE,
	MEM_EXEC,
};

/* An operand that is read, changed and written back; see mem_rmw(). */
struct mem_rmw {
	void *p;      /* operate here: guest memory itself, or cpu::bounce */
	bool bounce;
	u8 size, seg;
	u64 ea;
};

/* Slow paths of the inline functions below: any segment, any alignment, any kind of page. size is 1 to 64. */
int mem_read_slow(struct cpu *c, unsigned seg, u64 ea, void *out, unsigned size);
int mem_write_slow(struct cpu *c, unsigned seg, u64 ea, const void *in, unsigned size);
int mem_rmw_slow(struct cpu *c, unsigned seg, u64 ea, unsigned size, struct mem_rmw *a);
int mem_rmw_finish(struct cpu *c, struct mem_rmw *a);
/* After an access that did not get to its end because memory was lost. */
void mem_split_end(struct cpu *c);

/*
 * Unaligned, possibly racing access to guest memory: what the hardware's plain MOV does. Guest memory is written by
 * other vCPUs and by the client at any time, so these are the only places that touch it outside inline assembly.
 */
#define GUEST_ACCESS __attribute__((no_sanitize("thread", "alignment"))) static inline
#ifdef THREAD_SANITIZER /* what is inlined gets its caller's instrumentation */
#define GUEST_COPY __attribute__((no_sanitize("thread", "alignment"), noinline, unused)) static
#else
#define GUEST_COPY GUEST_ACCESS __attribute__((always_inline))
#endif
typedef u16 __attribute__((aligned(1), may_alias)) u16_un;
typedef u32 __attribute__((aligned(1), may_alias)) u32_un;
typedef u64 __attribute__((aligned(1), may_alias)) u64_un;

GUEST_COPY void guest_copy(void *to, const void *from, unsigned size)
{
	switch (size) {
	case 1:
		*(volatile u8 *)to = *(const volatile u8 *)from;
		break;
	case 2:
		*(volatile u16_un *)to = *(const volatile u16_un *)from;
		break;
	case 4:
		*(volatile u32_un *)to = *(const volatile u32_un *)from;
		break;
	case 8:
		*(volatile u64_un *)to = *(const volatile u64_un *)from;
		break;
	default:
#ifdef THREAD_SANITIZER
		for (unsigned n = 0; n < size; n++) /* it looks into memcpy() */
			((volatile u8 *)to)[n] = ((const volatile u8 *)from)[n];
#else
		__builtin_memcpy(to, from, size);
#endif
	}
}

/* The host address of [ea, ea + size) if the soft TLB has it for this access, else NULL. */
static inline __attribute__((always_inline)) void *mem_fast(struct cpu *c, unsigned seg, u64 ea, unsigned size,
							    enum mem_access how)
{
	const struct seg *s = &c->seg[seg];
	u64 lin = (s->base + ea) & c->lin_mask;
	const struct tlb_entry *e = c->tlb_cur + tlb_index(lin);
	u64 want = ((lin + size - 1) & PAGE_MASK) | c->tlb_gen;
	void *p = (void *)(uintptr_t)(lin + e->addend);

	if (unlikely(ea + size > (how == MEM_READ ? s->rd_end : s->wr_end)))
		return NULL;
	if (unlikely(want != (how == MEM_READ ? e->rd : e->wr)))
		return NULL;
	if (!p)
		__builtin_unreachable(); /* so that callers need not test the result again */
	return p;
}

/* The same for a segment without base or limit in 64-bit mode. */
static inline __attribute__((always_inline)) void *mem_flat(struct cpu *c, u64 lin, unsigned size, enum mem_access how)
{
	const struct tlb_entry *e = c->tlb_cur + tlb_index(lin);
	u64 want = ((lin + size - 1) & PAGE_MASK) | c->tlb_gen;
	void *p = (void *)(uintptr_t)(lin + e->addend);

	if (unlikely(want != (how == MEM_READ ? e->rd : e->wr)))
		return NULL;
	if (!p)
		__builtin_unreachable();
	return p;
}

/* Reads size bytes at seg:ea. size should be a constant. */
static inline __attribute__((always_inline)) int mem_read(struct cpu *c, unsigned seg, u64 ea, void *out,
							  unsigned size)
{
	const void *p = mem_fast(c, seg, ea, size, MEM_READ);

	if (unlikely(!p))
		return mem_read_slow(c, seg, ea, out, size);
	guest_copy(out, p, size);
	return ST_OK;
}

static inline __attribute__((always_inline)) int mem_write(struct cpu *c, unsigned seg, u64 ea, const void *in,
							   unsigned size)
{
	void *p = mem_fast(c, seg, ea, size, MEM_WRITE);

	if (unlikely(!p))
		return mem_write_slow(c, seg, ea, in, size);
	guest_copy(p, in, size);
	return ST_OK;
}

/*
 * Read-modify-write: gives a->p, on which the caller performs the operation with a host instruction (a LOCKed one is
 * then atomic for other vCPUs and the client as well), and then calls mem_rmw_done(). Flags and registers may be
 * committed only after that returned ST_OK.
 */
static inline __attribute__((always_inline)) int mem_rmw(struct cpu *c, unsigned seg, u64 ea, unsigned size,
							 struct mem_rmw *a)
{
	/* A page with a write tag always has a read tag too. */
	a->p = mem_fast(c, seg, ea, size, MEM_WRITE);
	a->bounce = false;
	if (unlikely(!a->p || ea + size > c->seg[seg].rd_end))
		return mem_rmw_slow(c, seg, ea, size, a);
	return ST_OK;
}

static inline __attribute__((always_inline)) int mem_rmw_done(struct cpu *c, struct mem_rmw *a)
{
	return unlikely(a->bounce) ? mem_rmw_finish(c, a) : ST_OK;
}

/* The effective address of an instruction's memory operand, truncated to its address size. */
static inline u64 insn_ea(const struct cpu *c, const struct insn *i)
{
	static const u64 mask[4] = { 0, 0xffff, 0xffffffff, ~0ull };
	const char *g = (const char *)c->gpr;

	return (*(const u64 *)(g + i->base) + (*(const u64 *)(g + i->index) << i->scale) + (s64)i->disp) &
	       mask[i->asize];
}

/* Any size (up to a page or more), by bytes where it must be: XSAVE areas, strings, task state. */
int mem_read_bulk(struct cpu *c, unsigned seg, u64 ea, void *out, size_t size);
int mem_write_bulk(struct cpu *c, unsigned seg, u64 ea, const void *in, size_t size);

/* Checks that an access would not fault, without making it (INS, ENTER, far calls). Never exits. */
int mem_probe(struct cpu *c, unsigned seg, u64 ea, size_t size, enum mem_access how);

/*
 * The same for a masked store: all of the operand is checked, also where nothing will be stored (SDM vol. 2,
 * MASKMOVDQU, leaves that to the CPU), and an alignment to 8 bytes.
 */
int mem_probe_masked(struct cpu *c, unsigned seg, u64 ea, size_t size);

/* Where #AC is possible now: ST_OK if seg:ea is aligned so. Accesses of one element check that by themselves. */
int mem_check_alignment(struct cpu *c, unsigned seg, u64 ea, unsigned alignment);

/*
 * For string instructions: the host address of seg:ea if it is ordinary memory that may be accessed so, with *left the
 * bytes until the end of the page (forward) or from its start (backward), limits included; else NULL (then use
 * mem_read / mem_write by elements, which fault or exit as they must).
 */
void *mem_span(struct cpu *c, unsigned seg, u64 ea, enum mem_access how, u64 *forward, u64 *backward);

/* By linear address, with the rights of an enum mmu_index. */
int mem_read_lin(struct cpu *c, unsigned mmu, u64 lin, void *out, unsigned size);
int mem_write_lin(struct cpu *c, unsigned mmu, u64 lin, const void *in, unsigned size);

/* Implicit supervisor accesses: descriptor tables, TSS. EFLAGS.AC does not lift SMAP for them (SDM vol. 3, 4.6). */
static inline int mem_read_sys(struct cpu *c, u64 lin, void *out, unsigned size)
{
	return mem_read_lin(c, MMU_SUP, lin, out, size);
}

static inline int mem_write_sys(struct cpu *c, u64 lin, const void *in, unsigned size)
{
	return mem_write_lin(c, MMU_SUP, lin, in, size);
}

/*
 * An entry of a paging structure, which does not cross a page. False: there is no memory, and the entry counts as not
 * present, as in the kernel's KVM: a client is asked for what instructions access, and has no answer for a page walk.
 */
bool phys_read_table(struct cpu *c, u64 gpa, void *out, unsigned size);
/* Guest-physical access by the CPU itself (SMM, PV structures). Marks dirty pages, may ST_EXIT. */
int phys_read(struct cpu *c, u64 gpa, void *out, unsigned size);
int phys_write(struct cpu *c, u64 gpa, const void *in, unsigned size);
/* Sets bits in the 4- or 8-byte page-table entry at gpa if it still is old; *now is what was there. */
int phys_cmpxchg(struct cpu *c, u64 gpa, unsigned size, u64 old, u64 new, u64 *now);

/* Segment check as SDM vol. 3, 5.3 has it, for [ea, ea + size): ST_OK and *lin, or a #GP/#SS. */
int seg_check(struct cpu *c, unsigned seg, u64 ea, u64 size, enum mem_access how, u64 *lin);

/* The soft TLB. */
int tlb_init(struct cpu *c); /* allocates; 0 or -ENOMEM */
void tlb_free(struct cpu *c);
void tlb_flush(struct cpu *c);              /* all of it */
/* CR4.PCIDE: another address space, with what the TLB still has of it (keep), or anew. */
void tlb_switch(struct cpu *c, unsigned from, unsigned to, bool keep);
void tlb_flush_space(struct cpu *c, unsigned current, unsigned pcid); /* all of a PCID */
void tlb_flush_page(struct cpu *c, u64 lin); /* INVLPG: also the whole large page around it */

/*
 * Page walk (cpu/paging.c): translates lin for the access described by PF_W, PF_U, PF_I bits of access, in the CPU's
 * current mode. On ST_OK *gpa is the physical address of lin, *prot what the translation allows (PF_W, PF_U set;
 * PF_I set if it may be executed), *shift the page size. With set_ad the accessed and dirty bits are set as the access
 * demands. ac: SMAP is lifted.
 */
#define WALK_SET_AD 1
#define WALK_SMAP_LIFTED 2
#define WALK_NO_CHECK 4 /* only translate; for KVM_TRANSLATE and debuggers */
struct walk {
	u64 gpa;
	u8 prot;   /* PF_W | PF_U | PF_I */
	u8 shift;
	bool dirty; /* the leaf's dirty bit is set */
	bool global;
};
int cpu_walk(struct cpu *c, u64 lin, unsigned access, unsigned flags, struct walk *w);

#endif
