/* SPDX-License-Identifier: MIT */
/* Segment and system descriptors (SDM vol. 3, 3.4.5, 3.5, 6.11, 6.14), for seg.c, far.c, task.c and event.c. */
#ifndef UKVM_INTERP_DESC_H
#define UKVM_INTERP_DESC_H

#include "interp/interp.h"

struct desc {
	u64 raw;  /* bytes 0-7 */
	u64 high; /* bytes 8-15 of a system descriptor in long mode, else 0 */
	u64 lin;  /* where it is; 0 for IDT entries */
};

/* Types of system descriptors. Bit 3 of a TSS, call, interrupt or trap gate says 32 (in long mode 64) bits. */
enum sys_type {
	SYS_TSS16 = 1,
	SYS_LDT = 2,
	SYS_TSS16_BUSY = 3,
	SYS_CALL16 = 4,
	SYS_TASK_GATE = 5,
	SYS_INT16 = 6,
	SYS_TRAP16 = 7,
	SYS_TSS = 9,
	SYS_TSS_BUSY = 11,
	SYS_CALL = 12,
	SYS_INT = 14,
	SYS_TRAP = 15,
};
#define TSS_BUSY 2u

/* Types of code and data segments */
#define TYPE_ACCESSED 1u
#define TYPE_RW 2u         /* readable code, writable data */
#define TYPE_CONFORMING 4u /* code; expand-down data */
#define TYPE_CODE 8u

static inline unsigned desc_type(const struct desc *d)
{
	return (d->raw >> 40) & 0xf;
}

static inline bool desc_is_system(const struct desc *d)
{
	return !(d->raw & BIT64(44));
}

static inline unsigned desc_dpl(const struct desc *d)
{
	return (d->raw >> 45) & 3;
}

static inline bool desc_present(const struct desc *d)
{
	return d->raw & BIT64(47);
}

static inline bool desc_l(const struct desc *d)
{
	return d->raw & BIT64(53);
}

static inline bool desc_db(const struct desc *d)
{
	return d->raw & BIT64(54);
}

static inline bool desc_is_code(const struct desc *d)
{
	return !desc_is_system(d) && (desc_type(d) & TYPE_CODE);
}

static inline bool desc_conforming(const struct desc *d)
{
	return desc_type(d) & TYPE_CONFORMING;
}

static inline u32 desc_limit(const struct desc *d)
{
	u32 limit = (u32)(d->raw & 0xffff) | (u32)((d->raw >> 32) & 0xf0000);

	return d->raw & BIT64(55) ? limit << 12 | 0xfff : limit;
}

static inline u64 desc_base(const struct desc *d)
{
	return ((d->raw >> 16) & 0xffffff) | (d->raw >> 56) << 24 | d->high << 32;
}

/* Gates */
static inline u16 gate_selector(const struct desc *d)
{
	return (u16)(d->raw >> 16);
}

static inline u64 gate_offset(const struct desc *d)
{
	u64 off = (d->raw & 0xffff) | (d->raw >> 48) << 16 | d->high << 32;

	return desc_type(d) & 8 ? off : off & 0xffff;
}

static inline bool seg_null(u16 sel)
{
	return !(sel & ~3u);
}

static inline unsigned seg_dpl(const struct seg *s)
{
	return (s->attr >> ATTR_DPL_SHIFT) & 3;
}

static inline bool canonical(u64 addr)
{
	return (u64)((s64)(addr << 16) >> 16) == addr;
}

/*
 * mem_read_sys() and mem_write_sys() with the soft TLB asked first: descriptors, gates and kernel stacks are in it
 * nearly always, and interrupts and system calls read many of them.
 */
static inline void *sys_fast(const struct cpu *c, u64 lin, unsigned size, bool write)
{
	const struct tlb_entry *e = tlb_of(c, MMU_SUP) + tlb_index(lin);
	u64 want = ((lin + size - 1) & PAGE_MASK) | c->tlb_gen;

	return likely(want == (write ? e->wr : e->rd)) ? (void *)(uintptr_t)(lin + e->addend) : NULL;
}

static inline int sys_read(struct cpu *c, u64 lin, void *out, unsigned size)
{
	const void *p = sys_fast(c, lin, size, false);

	if (unlikely(!p))
		return mem_read_sys(c, lin, out, size);
	guest_copy(out, p, size);
	return ST_OK;
}

static inline int sys_write(struct cpu *c, u64 lin, const void *in, unsigned size)
{
	void *p = sys_fast(c, lin, size, true);

	if (unlikely(!p))
		return mem_write_sys(c, lin, in, size);
	guest_copy(p, in, size);
	return ST_OK;
}

/* A fault whose error code is a selector (SDM vol. 3, 6.13). */
static inline int fault_sel(struct cpu *c, u8 vector, u16 sel)
{
	return fault_err(c, vector, sel & ~3u);
}

/*
 * Reads the descriptor of a selector that is not null. ST_OK, ST_EXIT or ST_FAULT; a selector outside its table is the
 * fault vector(sel).
 */
int desc_load(struct cpu *c, u16 sel, u8 vector, struct desc *d);
/* Also the upper half that a system descriptor has in long mode; a type that is not 0 there is vector(sel). */
int desc_load_system(struct cpu *c, u16 sel, u8 vector, struct desc *d);

/* What the segment register will hold. */
void desc_to_seg(const struct desc *d, u16 sel, struct seg *s);
/* Sets the accessed bit in memory where it is clear; the last step that may fail before a segment register is set. */
int desc_set_accessed(struct cpu *c, const struct desc *d);
/* Sets or clears the busy bit of a TSS descriptor. */
int desc_set_busy(struct cpu *c, const struct desc *d, bool busy);

/* Checks of SS for a stack at privilege level cpl: violations are vector(sel), not present is #SS(sel). */
int stack_desc_load(struct cpu *c, u16 sel, unsigned cpl, u8 vector, struct desc *d);
/* Checks of DS, ES, FS, GS. Not present is #NP(sel). */
int data_desc_load(struct cpu *c, u16 sel, unsigned cpl, u8 vector, struct desc *d);

/* The segment register of a null selector. */
void seg_set_null(struct seg *s, u16 sel, unsigned dpl);
/* What a selector means in real and virtual-8086 mode. */
void seg_set_real(struct seg *s, bool vm86, bool code, u16 sel);
/* The m16:16, m16:32 or m16:64 operand of an instruction; *size is the operand size (SZ_*) that it stands for. */
int far_pointer_read(struct cpu *c, const struct insn *i, u16 *sel, u64 *off, unsigned *size);
/* LDTR from a selector: violations are vector(sel), not present is vector_np(sel). */
int ldt_load(struct cpu *c, u16 sel, u8 vector, u8 vector_np);

/* Privileges have dropped to c->cpl: data segments out of reach become null (SDM vol. 3, 5.8.6). */
void seg_drop_unreachable(struct cpu *c);

/* The code segment and RIP of a transfer that is certain: all registers that follow from them. */
void far_commit(struct cpu *c, const struct seg *cs, u64 rip);

/* Stack pointers in the current TSS: ring 0-2 in protected mode (with SS), ring 0-2 or IST 1-7 in long mode. */
int tss_stack(struct cpu *c, unsigned level, u16 *ss, u64 *sp);
int tss_rsp(struct cpu *c, unsigned offset, u64 *rsp);
#define TSS64_RSP(level) (4 + 8 * (level))
#define TSS64_IST(n) (36 + 8 * ((n)-1))

/* Hardware task switches (task.c). */
enum task_why { TASK_JUMP, TASK_CALL, TASK_IRET };
struct task_event { /* an event that is delivered through a task gate */
	bool has_error;
	u32 error;
};
/*
 * Switches to the task of sel; flags is what is saved as the old task's RFLAGS. ST_END; ST_FAULT, ST_EXIT: nothing has
 * happened; TASK_FAULT: the fault in cpu::fault belongs to the new task, which is the current one now.
 */
#define TASK_FAULT 100
int task_switch(struct cpu *c, u16 sel, enum task_why why, u64 flags, const struct task_event *ev);
/* TASK_FAULT inside an instruction: the instruction is over, and the new task has the exception. */
int task_settle(struct cpu *c, int st);

#endif
