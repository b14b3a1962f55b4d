// SPDX-License-Identifier: MIT
/*
 * String instructions. A repeated one commits its registers after each iteration, or after a run of them within a page,
 * and returns ST_AGAIN now and then for the run loop to look at cpu::attn: so faults are precise, and interrupts and
 * kicks wait no longer than a page takes.
 */
#include <string.h>

#include "interp/impl.h"

/* Iterations one by one until ST_AGAIN. */
#define SLICE 256

/*
 * Does between 1 and max iterations and advances RSI and RDI; *done counts those that are committed, also if it fails
 * after them.
 */
typedef int (*string_step)(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done);

INLINE u64 string_reg(const struct cpu *c, const struct insn *i, unsigned reg)
{
	return c->gpr[reg] & size_mask(i->asize);
}

INLINE void string_advance(struct cpu *c, const struct insn *i, unsigned size, unsigned reg, u64 n)
{
	u64 bytes = n << size;

	reg_write(c, reg * 8, i->asize, c->gpr[reg] + (c->rflags & FL_DF ? -bytes : bytes));
}

/* The destination is always in ES. */
INLINE unsigned string_es(const struct insn *i)
{
	return i->flags & INSN_MODE64 ? SEG_FLAT : SEG_ES;
}

INLINE bool repeated(const struct insn *i)
{
	return i->flags & (INSN_REP | INSN_REPNE);
}

/* REPE ends with ZF clear, REPNE with ZF set. */
INLINE bool compare_ends(const struct cpu *c, const struct insn *i)
{
	return FLAG_BIT(c->cc, FL_ZF) == !(i->flags & INSN_REP);
}

INLINE int string_repeat(struct cpu *c, const struct insn *i, unsigned size, string_step step, bool compare)
{
	u64 count, done = 0;

	if (likely(!repeated(i)))
		return step(c, i, size, 1, &done);
	c->rep_at = REP_NOWHERE;
	count = string_reg(c, i, RCX);
	for (unsigned n = 0; count; n++) {
		int st = step(c, i, size, count, &done);

		count -= done;
		if (done)
			reg_write(c, RCX * 8, i->asize, count);
		if (unlikely(st))
			return st;
		/* What the client answered belongs to iterations that are over. */
		io_log_clear(c);
		if (!count || (compare && compare_ends(c, i)))
			break;
		if (done > 1 || n == SLICE || __atomic_load_n(&c->attn, __ATOMIC_RELAXED))
			return ST_AGAIN;
		done = 0;
	}
	return ST_OK;
}

/*
 * The host address of RSI's or RDI's memory, if it goes forward; *n is reduced to the elements that are in the page and
 * below the end of the address size. NULL: one by one, as it also must be with a debug trap after each iteration.
 */
INLINE void *string_span(struct cpu *c, const struct insn *i, unsigned size, unsigned seg, unsigned reg,
			 enum mem_access how, u64 *n)
{
	u64 ea = string_reg(c, i, reg), forward, backward;
	void *p;

	if ((c->rflags & FL_DF) || (__atomic_load_n(&c->attn, __ATOMIC_RELAXED) & ATTN_STEP))
		return NULL;
	p = mem_span(c, seg, ea, how, &forward, &backward);
	if (!p)
		return NULL;
	if (i->asize != SZ_64)
		forward = min_u64(forward, size_mask(i->asize) + 1 - ea);
	*n = min_u64(*n, forward >> size);
	return *n ? p : NULL;
}

/* ---- MOVS ---- */
#define BY_SIZE(size, text, ...)										       \
	do {													       \
		switch (size) {											       \
		case SZ_8:											       \
			asm volatile(text "b" __VA_ARGS__);							       \
			break;											       \
		case SZ_16:											       \
			asm volatile(text "w" __VA_ARGS__);							       \
			break;											       \
		case SZ_32:											       \
			asm volatile(text "l" __VA_ARGS__);							       \
			break;											       \
		default:											       \
			asm volatile(text "q" __VA_ARGS__);							       \
		}												       \
	} while (0)

/* The host's REP MOVS treats overlap as the guest's would. */
INLINE void host_movs(void *to, const void *from, u64 n, unsigned size)
{
	BY_SIZE(size, "rep movs", : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

INLINE bool movs_run(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u64 n = max;
	const void *from = string_span(c, i, size, i->seg, RSI, MEM_READ, &n);
	void *to = from ? string_span(c, i, size, string_es(i), RDI, MEM_WRITE, &n) : NULL;

	if (!to)
		return false;
	host_movs(to, from, n, size);
	*done = n;
	return true;
}

INLINE int movs_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u64 v;
	int st;

	if (max == 1 || !movs_run(c, i, size, max, done)) {
		st = mem_load(c, i->seg, string_reg(c, i, RSI), size, &v);
		if (!st)
			st = mem_store(c, string_es(i), string_reg(c, i, RDI), size, v);
		if (unlikely(st))
			return st;
		*done = 1;
	}
	string_advance(c, i, size, RSI, *done);
	string_advance(c, i, size, RDI, *done);
	return ST_OK;
}

/* ---- STOS ---- */
INLINE void host_stos(void *to, u64 v, u64 n, unsigned size)
{
	BY_SIZE(size, "rep stos", : "+D"(to), "+c"(n) : "a"(v) : "memory");
}

INLINE bool stos_run(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u64 n = max;
	void *to = string_span(c, i, size, string_es(i), RDI, MEM_WRITE, &n);

	if (!to)
		return false;
	host_stos(to, c->gpr[RAX], n, size);
	*done = n;
	return true;
}

INLINE int stos_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	int st;

	if (max == 1 || !stos_run(c, i, size, max, done)) {
		st = mem_store(c, string_es(i), string_reg(c, i, RDI), size, c->gpr[RAX]);
		if (unlikely(st))
			return st;
		*done = 1;
	}
	string_advance(c, i, size, RDI, *done);
	return ST_OK;
}

/* ---- LODS ---- */
INLINE int lods_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u64 v;
	int st = mem_load(c, i->seg, string_reg(c, i, RSI), size, &v);

	(void)max;
	if (unlikely(st))
		return st;
	reg_write(c, RAX * 8, size, v);
	string_advance(c, i, size, RSI, 1);
	*done = 1;
	return ST_OK;
}

/* ---- SCAS: the accumulator minus memory ---- */
INLINE u64 host_scas(const void *p, u64 v, u64 n, unsigned size, bool equal, u64 *fl)
{
	u64 left = n;

	if (equal)
		BY_SIZE(size, "repe scas", FLAGS_OUT_STACK
			: "+D"(p), "+c"(left), [fl] "=r"(*fl) : "a"(v) : "cc", "memory");
	else
		BY_SIZE(size, "repne scas", FLAGS_OUT_STACK
			: "+D"(p), "+c"(left), [fl] "=r"(*fl) : "a"(v) : "cc", "memory");
	return n - left;
}

REG_CORE(compare_values, "cmp", NONE, SOURCE)

INLINE int scas_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u64 n = max, v, fl;
	const void *p = max == 1 ? NULL : string_span(c, i, size, string_es(i), RDI, MEM_READ, &n);

	if (p) {
		*done = host_scas(p, c->gpr[RAX], n, size, i->flags & INSN_REP, &fl);
	} else {
		int st = mem_load(c, string_es(i), string_reg(c, i, RDI), size, &v);

		if (unlikely(st))
			return st;
		compare_values(c->gpr[RAX], v, size, &fl);
		*done = 1;
	}
	c->cc = fl;
	string_advance(c, i, size, RDI, *done);
	return ST_OK;
}

/* ---- CMPS: DS:rSI minus ES:rDI ---- */
INLINE u64 host_cmps(const void *a, const void *b, u64 n, unsigned size, bool equal, u64 *fl)
{
	u64 left = n;

	if (equal)
		BY_SIZE(size, "repe cmps", FLAGS_OUT
			: "+S"(a), "+D"(b), "+c"(left), [fl] "=a"(*fl) : : "cc", "memory");
	else
		BY_SIZE(size, "repne cmps", FLAGS_OUT
			: "+S"(a), "+D"(b), "+c"(left), [fl] "=a"(*fl) : : "cc", "memory");
	return n - left;
}

INLINE int cmps_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u64 n = max, x, y, fl;
	const void *a = max == 1 ? NULL : string_span(c, i, size, i->seg, RSI, MEM_READ, &n);
	const void *b = a ? string_span(c, i, size, string_es(i), RDI, MEM_READ, &n) : NULL;

	if (b) {
		*done = host_cmps(a, b, n, size, i->flags & INSN_REP, &fl);
	} else {
		int st = mem_load(c, i->seg, string_reg(c, i, RSI), size, &x);

		if (!st)
			st = mem_load(c, string_es(i), string_reg(c, i, RDI), size, &y);
		if (unlikely(st))
			return st;
		compare_values(x, y, size, &fl);
		*done = 1;
	}
	c->cc = fl;
	string_advance(c, i, size, RSI, *done);
	string_advance(c, i, size, RDI, *done);
	return ST_OK;
}

/* ---- INS, OUTS: the client gets as many elements at once as are in the page and in its buffer ---- */
INLINE u64 port_batch(const struct cpu *c, unsigned size, u64 max)
{
	return min_u64(max, c->pio.data_size >> size);
}

/* Stores what the client answered; the rest stays in cpu::pio if a store faults, or is a device's and has to wait. */
static int ins_store(struct cpu *c, const struct insn *i, unsigned size, u32 n, u64 *done)
{
	int st = ST_OK;
	u32 k;

	for (k = 0; k < n; k++) {
		st = mem_write_slow(c, string_es(i), string_reg(c, i, RDI), c->pio.data + ((u64)k << size), 1u << size);
		if (unlikely(st))
			break;
		string_advance(c, i, size, RDI, 1);
		if (k + 1 < n)
			io_log_clear(c);
	}
	if (k)
		pio_consume(c, k);
	*done = k;
	return st;
}

/* A device in this process has answered; if memory cannot take it now, it becomes an answer that waits. */
static int ins_local(struct cpu *c, const struct insn *i, unsigned size, u32 data, u64 *done)
{
	int st = mem_write_slow(c, string_es(i), string_reg(c, i, RDI), &data, 1u << size);

	if (unlikely(st)) {
		struct exit exit = c->exit;

		pio_ask(c, REG16(c, RDX * 8), 1u << size, true, 1);
		c->pio.answered = true;
		memcpy(c->pio.data, &data, 1u << size);
		c->exit = exit;
		return st;
	}
	string_advance(c, i, size, RDI, 1);
	*done = 1;
	return ST_OK;
}

INLINE int ins_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u16 port = REG16(c, RDX * 8);
	u64 n = max;
	u32 answered, data = 0;
	int st = port_check(c, port, 1u << size);

	if (unlikely(st))
		return st;
	answered = pio_answered(c, port, 1u << size, true, max);
	if (answered)
		return ins_store(c, i, size, answered, done);
	/* No answer may be lost because memory cannot be written. */
	st = mem_probe(c, string_es(i), string_reg(c, i, RDI), 1u << size, MEM_WRITE);
	if (unlikely(st))
		return st;
	if (pio_local(c, port, 1u << size, true, &data))
		return ins_local(c, i, size, data, done);
	if (!string_span(c, i, size, string_es(i), RDI, MEM_WRITE, &n))
		n = 1;
	return pio_ask(c, port, 1u << size, true, (u32)port_batch(c, size, n));
}

INLINE int outs_done(struct cpu *c, const struct insn *i, unsigned size, u64 n, u64 *done)
{
	string_advance(c, i, size, RSI, n);
	*done = n;
	return ST_OK;
}

INLINE int outs_step(struct cpu *c, const struct insn *i, unsigned size, u64 max, u64 *done)
{
	u16 port = REG16(c, RDX * 8);
	u64 n = max, v;
	u32 answered, data;
	const void *p;
	int st = port_check(c, port, 1u << size);

	if (unlikely(st))
		return st;
	answered = pio_answered(c, port, 1u << size, false, max);
	if (answered) {
		pio_consume(c, answered);
		return outs_done(c, i, size, answered, done);
	}
	st = mem_load(c, i->seg, string_reg(c, i, RSI), size, &v);
	if (unlikely(st))
		return st;
	data = (u32)v;
	if (pio_local(c, port, 1u << size, false, &data))
		return outs_done(c, i, size, 1, done);
	p = string_span(c, i, size, i->seg, RSI, MEM_READ, &n);
	n = p ? port_batch(c, size, n) : 1;
	memcpy(c->pio.data, p ? p : &data, n << size);
	return pio_ask(c, port, 1u << size, false, (u32)n);
}

#define STRING(name, compare)											       \
	STAMP(name, NONE, string_repeat, name##_step, compare)							       \
	IMPL_TABLE(name, ROW(name, NONE))

STRING(movs, false);
STRING(stos, false);
STRING(lods, false);
STRING(scas, true);
STRING(cmps, true);

/* The port is checked even if the count is 0. */
INLINE int port_repeat(struct cpu *c, const struct insn *i, unsigned size, string_step step, bool compare)
{
	int st = port_check(c, REG16(c, RDX * 8), 1u << size);

	return unlikely(st) ? st : string_repeat(c, i, size, step, compare);
}

#define PORT_STRING(name)											       \
	STAMP(name, NONE, port_repeat, name##_step, false)							       \
	IMPL_TABLE(name, ROW(name, NONE))

PORT_STRING(ins);
PORT_STRING(outs);
