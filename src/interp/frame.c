// SPDX-License-Identifier: MIT
#include "interp/frame.h"

/* Elements that are packed into one access, so that a frame within a page costs one. */
#define FRAME_MAX 64

static const u64 stack_mask[] = { [SZ_16] = 0xffff, [SZ_32] = 0xffffffff, [SZ_64] = ~0ull };

void frame_current(const struct cpu *c, struct frame *f, unsigned size)
{
	f->ss = c->mode == CPU_LONG ? NULL : &c->seg[SEG_SS];
	f->mask = stack_mask[c->stack_size];
	f->sp = c->mode == CPU_LONG ? c->gpr[RSP] : (u32)c->gpr[RSP];
	f->error = 0;
	f->size = (u8)frame_bytes(size);
	f->user = c->cpl == 3;
}

void frame_inner(struct frame *f, const struct seg *ss, u64 sp, unsigned size)
{
	f->ss = ss;
	f->mask = ss->attr & ATTR_DB ? 0xffffffff : 0xffff;
	f->sp = sp;
	f->error = ss->sel & ~3u;
	f->size = (u8)frame_bytes(size);
	f->user = false;
}

void frame_flat(struct frame *f, u64 rsp, unsigned cpl)
{
	f->ss = NULL;
	f->mask = ~0ull;
	f->sp = rsp;
	f->error = 0;
	f->size = 8;
	f->user = cpl == 3;
}

/* SDM vol. 3, 5.3; SS is always writable. */
static bool stack_holds(const struct seg *ss, u64 off, unsigned size)
{
	u64 last = off + size - 1;

	if (ss->attr & ATTR_UNUSABLE)
		return false;
	if ((ss->attr & (TYPE_CODE | TYPE_CONFORMING)) == TYPE_CONFORMING)
		return off > ss->limit && last <= (ss->attr & ATTR_DB ? 0xffffffffu : 0xffffu);
	return last <= ss->limit;
}

static int frame_check(struct cpu *c, const struct frame *f, u64 off, unsigned size, u64 *lin)
{
	bool ok;

	if (f->ss) {
		ok = stack_holds(f->ss, off, size);
		*lin = (f->ss->base + off) & 0xffffffff;
	} else {
		ok = canonical(off) && canonical(off + size - 1);
		*lin = off;
	}
	return likely(ok) ? ST_OK : fault_err(c, VEC_SS, f->error);
}

/*
 * At CPL 3 the stack is the current one, and the access is one of the user's. Otherwise it is an explicit one of the
 * supervisor's, for which EFLAGS.AC lifts SMAP; but not the user's AC, when an event has not changed the CPL yet.
 */
static int frame_write(struct cpu *c, const struct frame *f, u64 off, const void *data, unsigned size)
{
	u64 lin;
	int st;

	if (f->user)
		return mem_write_slow(c, f->ss ? SEG_SS : SEG_FLAT_SS, off, data, size);
	st = frame_check(c, f, off, size, &lin);
	if (unlikely(st))
		return st;
	return unlikely(c->mmu == MMU_SUP_AC) ? mem_write_lin(c, MMU_SUP_AC, lin, data, size) :
						sys_write(c, lin, data, size);
}

static int frame_read(struct cpu *c, const struct frame *f, u64 off, void *data, unsigned size)
{
	u64 lin;
	int st;

	if (f->user)
		return mem_read_slow(c, f->ss ? SEG_SS : SEG_FLAT_SS, off, data, size);
	st = frame_check(c, f, off, size, &lin);
	if (unlikely(st))
		return st;
	return unlikely(c->mmu == MMU_SUP_AC) ? mem_read_lin(c, MMU_SUP_AC, lin, data, size) :
						sys_read(c, lin, data, size);
}

/*
 * May [sp, sp + bytes) be one access? It must not wrap around, nor tell of a fault in its middle out of order, nor need
 * an alignment check of its elements.
 */
static bool one_piece(const struct cpu *c, const struct frame *f, u64 sp, unsigned bytes)
{
	u64 off = sp & f->mask;
	u64 lin = (f->ss ? f->ss->base : 0) + off;

	if (f->user && (c->rflags & FL_AC))
		return false;
	return bytes <= FRAME_MAX && off + bytes - 1 <= f->mask && !((lin ^ (lin + bytes - 1)) & PAGE_MASK);
}

/* Elements as they lie in memory. */
union image {
	u16 w[FRAME_MAX / 2];
	u32 d[FRAME_MAX / 4];
	u64 q[FRAME_MAX / 8];
};

static void image_put(union image *m, unsigned size, unsigned k, u64 v)
{
	if (size == 8)
		m->q[k] = v;
	else if (size == 4)
		m->d[k] = (u32)v;
	else
		m->w[k] = (u16)v;
}

static u64 image_get(const union image *m, unsigned size, unsigned k)
{
	return size == 8 ? m->q[k] : size == 4 ? m->d[k] : m->w[k];
}

/* All elements at once; ST_FAULT says nothing yet of where. */
static int push_piece(struct cpu *c, struct frame *f, const u64 *v, unsigned n, u64 *sp)
{
	union image m;

	for (unsigned k = 0; k < n; k++)
		image_put(&m, f->size, n - 1 - k, v[k]);
	*sp = (f->sp & ~f->mask) | ((f->sp - n * f->size) & f->mask);
	return frame_write(c, f, *sp & f->mask, &m, n * f->size);
}

static int push_each(struct cpu *c, struct frame *f, const u64 *v, unsigned n, u64 *sp)
{
	int st = ST_OK;

	*sp = f->sp;
	for (unsigned k = 0; k < n && !st; k++) {
		*sp = (*sp & ~f->mask) | ((*sp - f->size) & f->mask);
		st = frame_write(c, f, *sp & f->mask, &v[k], f->size);
	}
	return st;
}

int frame_push(struct cpu *c, struct frame *f, const u64 *v, unsigned n)
{
	int st = ST_FAULT;
	u64 sp;

	if (one_piece(c, f, f->sp - n * f->size, n * f->size))
		st = push_piece(c, f, v, n, &sp);
	/* In the order of the pushes, so that CR2 is where the first of them failed. */
	if (st == ST_FAULT)
		st = push_each(c, f, v, n, &sp);
	if (!st)
		f->sp = sp;
	return st;
}

int frame_pop(struct cpu *c, struct frame *f, u64 *v, unsigned n)
{
	union image m;
	u64 sp = f->sp;
	int st = ST_OK;

	if (one_piece(c, f, sp, n * f->size)) {
		st = frame_read(c, f, sp & f->mask, &m, n * f->size);
		for (unsigned k = 0; k < n && !st; k++)
			v[k] = image_get(&m, f->size, k);
		sp = (sp & ~f->mask) | ((sp + n * f->size) & f->mask);
	} else {
		for (unsigned k = 0; k < n && !st; k++) {
			v[k] = 0;
			st = frame_read(c, f, sp & f->mask, &v[k], f->size);
			sp = (sp & ~f->mask) | ((sp + f->size) & f->mask);
		}
	}
	if (!st)
		f->sp = sp;
	return st;
}
