/* SPDX-License-Identifier: MIT */
/*
 * How the integer families make handlers. Three layers:
 *  - a core is the host instruction itself on host operands, with the guest's flags loaded before and stored after;
 *  - a template is an ordinary inline function that fetches operands of one form, runs a core, and commits;
 *  - STAMP() makes one handler per operand size of a template, by giving it a constant size.
 * Cores and templates are always inlined, so that a handler has neither a switch nor an indirect call in it.
 *
 * Where it matters, a template with a memory operand takes its host address p. STAMP_MEM() makes two functions of it:
 * the handler, with the p that the soft TLB gave, and a cold twin with NULL, in which the template goes the slow way.
 * The handler ends in a jump to its twin, and so needs no stack frame.
 */
#ifndef UKVM_INTERP_IMPL_H
#define UKVM_INTERP_IMPL_H

#include "interp/thread.h"

#define INLINE static inline __attribute__((always_inline))

#define HANDLER(name) static int name(struct cpu *c, const struct insn *i)

/* ---- making handlers ---- */
#define STAMP_SIZE(name, form, bits, tmpl, ...)									       \
	HANDLER(name##_##form##_##bits)										       \
	{													       \
		return tmpl(c, i, SZ_##bits, ##__VA_ARGS__);							       \
	}
#define STAMP_WORDS(name, form, tmpl, ...)									       \
	STAMP_SIZE(name, form, 16, tmpl, ##__VA_ARGS__)								       \
	STAMP_DWORDS(name, form, tmpl, ##__VA_ARGS__)
#define STAMP_DWORDS(name, form, tmpl, ...)									       \
	STAMP_SIZE(name, form, 32, tmpl, ##__VA_ARGS__)								       \
	STAMP_SIZE(name, form, 64, tmpl, ##__VA_ARGS__)
#define STAMP(name, form, tmpl, ...)										       \
	STAMP_SIZE(name, form, 8, tmpl, ##__VA_ARGS__)								       \
	STAMP_WORDS(name, form, tmpl, ##__VA_ARGS__)

/* The same and a twin for insn::run: for templates without a memory operand that do not look at RIP. */
#define STAMP_REG_SIZE(name, form, bits, tmpl, ...)								       \
	STAMP_SIZE(name, form, bits, tmpl, ##__VA_ARGS__)							       \
	HANDLER(name##_##form##_##bits##_run)									       \
	{													       \
		return thread_status(c, i, tmpl(c, i, SZ_##bits, ##__VA_ARGS__));				       \
	}
#define STAMP_REG_WORDS(name, form, tmpl, ...)									       \
	STAMP_REG_SIZE(name, form, 16, tmpl, ##__VA_ARGS__)							       \
	STAMP_REG_SIZE(name, form, 32, tmpl, ##__VA_ARGS__)							       \
	STAMP_REG_SIZE(name, form, 64, tmpl, ##__VA_ARGS__)
#define STAMP_REG(name, form, tmpl, ...)									       \
	STAMP_REG_SIZE(name, form, 8, tmpl, ##__VA_ARGS__)							       \
	STAMP_REG_WORDS(name, form, tmpl, ##__VA_ARGS__)

/* What the template does with its memory operand. */
enum mem_use { USE_LOAD, USE_STORE, USE_UPDATE };

#define STAMP_MEM_FN_SIZE(name, form, bits, use, tmpl, ...)							       \
	static __attribute__((noinline, cold)) int name##_##form##_##bits##_slow(struct cpu *c, const struct insn *i)  \
	{													       \
		return tmpl(c, i, SZ_##bits, NULL, ##__VA_ARGS__);						       \
	}													       \
	HANDLER(name##_##form##_##bits)										       \
	{													       \
		void *p = operand_fast(c, i, SZ_##bits, use);							       \
														       \
		return likely(p) ? tmpl(c, i, SZ_##bits, p, ##__VA_ARGS__) : name##_##form##_##bits##_slow(c, i);      \
	}
#define STAMP_MEM_TWIN(handler, operand, bits, use, tmpl, ...)							       \
	HANDLER(handler)											       \
	{													       \
		void *p = operand(c, i, SZ_##bits, use == USE_LOAD ? MEM_READ : MEM_WRITE);			       \
														       \
		return likely(p) ? thread_status(c, i, tmpl(c, i, SZ_##bits, p, ##__VA_ARGS__)) : thread_slow(c, i);   \
	}
#define STAMP_MEM_SIZE(name, form, bits, use, tmpl, ...)							       \
	STAMP_MEM_FN_SIZE(name, form, bits, use, tmpl, ##__VA_ARGS__)						       \
	STAMP_MEM_TWIN(name##_##form##_##bits##_run, thread_operand, bits, use, tmpl, ##__VA_ARGS__)		       \
	STAMP_MEM_TWIN(name##_##form##_##bits##_seg, thread_operand_seg, bits, use, tmpl, ##__VA_ARGS__)
#define STAMP_MEM_WORDS(name, form, use, tmpl, ...)								       \
	STAMP_MEM_SIZE(name, form, 16, use, tmpl, ##__VA_ARGS__)						       \
	STAMP_MEM_SIZE(name, form, 32, use, tmpl, ##__VA_ARGS__)						       \
	STAMP_MEM_SIZE(name, form, 64, use, tmpl, ##__VA_ARGS__)
#define STAMP_MEM(name, form, use, tmpl, ...)									       \
	STAMP_MEM_SIZE(name, form, 8, use, tmpl, ##__VA_ARGS__)							       \
	STAMP_MEM_WORDS(name, form, use, tmpl, ##__VA_ARGS__)

/*
 * Rows of an impl's table: all sizes; 16 to 64 bits; 32 and 64 bits. RUN rows are those of STAMP_REG(), SEG rows those
 * of STAMP_MEM(), which have the twins.
 */
#define ROW(name, form)												       \
	[FORM_##form] = { { name##_##form##_8 }, { name##_##form##_16 }, { name##_##form##_32 },		       \
			  { name##_##form##_64 } }
#define ROW_WORDS(name, form)											       \
	[FORM_##form] = { { NULL }, { name##_##form##_16 }, { name##_##form##_32 }, { name##_##form##_64 } }
#define ROW_DWORDS(name, form) [FORM_##form] = { { NULL }, { NULL }, { name##_##form##_32 }, { name##_##form##_64 } }

#define WITH_RUN(handler) { handler, handler##_run }
#define RUN_ROW(name, form)											       \
	[FORM_##form] = { WITH_RUN(name##_##form##_8), WITH_RUN(name##_##form##_16), WITH_RUN(name##_##form##_32),     \
			  WITH_RUN(name##_##form##_64) }
#define RUN_ROW_WORDS(name, form)										       \
	[FORM_##form] = { { NULL }, WITH_RUN(name##_##form##_16), WITH_RUN(name##_##form##_32),			       \
			  WITH_RUN(name##_##form##_64) }

#define WITH_SEG(handler) { handler, handler##_run, handler##_seg }
#define SEG_ROW(name, form)											       \
	[FORM_##form] = { WITH_SEG(name##_##form##_8), WITH_SEG(name##_##form##_16), WITH_SEG(name##_##form##_32),     \
			  WITH_SEG(name##_##form##_64) }
#define SEG_ROW_WORDS(name, form)										       \
	[FORM_##form] = { { NULL }, WITH_SEG(name##_##form##_16), WITH_SEG(name##_##form##_32),			       \
			  WITH_SEG(name##_##form##_64) }

#define IMPL_TABLE(name, ...)											       \
	static const struct handler name##_table[NR_FORMS][4] = { __VA_ARGS__ };				       \
	const struct impl impl_##name = { .sized = name##_table }
#define IMPL_ANY(name, handler) const struct impl impl_##name = { .any = handler }

/*
 * ---- host flags in cores ----
 * Each kind has the text before and after the instruction, the constraint of operand [fl], and a preparation of fl,
 * which comes in as cpu::cc and goes out as the new cpu::cc. FLAGS_OUT makes it in RAX, with OF at bit 11, in half the
 * time that PUSHF takes; where RAX is not free, FLAGS_OUT_STACK serves.
 */
#define FLAGS_OUT "\n\tlahf\n\tseto %%al\n\tshlb $3, %%al\n\trolw $8, %%ax"
#define FLAGS_OUT_STACK "\n\tpushfq\n\tpopq %[fl]"

/* KEEP: the instruction has nothing to do with flags. */
#define TEXT_KEEP ""
#define AFTER_KEEP ""
#define OUT_KEEP(x) [fl] "+r"(x)
#define PREP_KEEP(x) ((void)(x))

/* NONE: the host instruction defines all status flags. */
#define TEXT_NONE ""
#define AFTER_NONE FLAGS_OUT
#define OUT_NONE(x) [fl] "=a"(x)
#define PREP_NONE(x) ((void)(x))

/* CARRY: it reads or keeps CF, and defines the others. */
#define TEXT_CARRY "btl $0, %k[fl]\n\t"
#define AFTER_CARRY FLAGS_OUT
#define OUT_CARRY(x) [fl] "+a"(x)
#define PREP_CARRY(x) ((void)(x))

/* ALL: it keeps flags, or leaves some undefined: then what this host makes of the old ones is as good as any. */
#define TEXT_ALL "addb $0x7f, %%al\n\tsahf\n\t"
#define AFTER_ALL FLAGS_OUT
#define OUT_ALL(x) [fl] "+a"(x)
#define PREP_ALL(x) ((x) = flags_for_sahf(x))

/* AH = SF ZF AF PF CF; AL = OF, which adding 0x7f makes an overflow. */
INLINE u64 flags_for_sahf(u64 cc)
{
	return (cc & 0xff) << 8 | ((cc >> 11) & 1);
}

#define FLAG_BIT(cc, flag) (((cc) & (flag)) != 0)

/*
 * ---- cores ----
 * One host instruction in all operand sizes. S8 to S64 name the source operand in the assembler's words with a comma
 * behind it (SOURCE, COUNT), or are empty (NO_SOURCE); SC is the source's constraint. The memory operand's type is of
 * no matter: the clobber covers what is written.
 */
typedef u64 (*reg_core)(u64 d, u64 s, unsigned size, u64 *fl);
typedef void (*mem_core)(void *p, u64 s, unsigned size, u64 *fl);

#define SOURCE "q", "%b[s], ", "%w[s], ", "%k[s], ", "%q[s], "
#define COUNT "c", "%b[s], ", "%b[s], ", "%b[s], ", "%b[s], "
#define NO_SOURCE "q", "", "", "", ""

#define REG_CASE(bits, text, FL, SC)										       \
	case SZ_##bits:												       \
		asm(TEXT_##FL text AFTER_##FL : [d] "+q"(d), OUT_##FL(*fl) : [s] SC(s) : "cc");			       \
		break;
#define REG_CASES_DWORDS(mnem, FL, SC, S32, S64)								       \
	REG_CASE(32, mnem "l " S32 "%k[d]", FL, SC)								       \
	REG_CASE(64, mnem "q " S64 "%q[d]", FL, SC)
#define REG_SHELL(name, FL, cases)										       \
	INLINE u64 name(u64 d, u64 s, unsigned size, u64 *fl)							       \
	{													       \
		PREP_##FL(*fl);											       \
		switch (size) {											       \
			cases											       \
		}												       \
		return d;											       \
	}

#define MEM_CASE(bits, text, FL, SC)										       \
	case SZ_##bits:												       \
		asm volatile(TEXT_##FL text AFTER_##FL								       \
			     : [m] "+m"(*(u8 *)p), OUT_##FL(*fl) : [s] SC(s) : "cc", "memory");			       \
		break;
#define MEM_CASES_WORDS(mnem, FL, SC, S16, S32, S64)								       \
	MEM_CASE(16, mnem "w " S16 "%[m]", FL, SC)								       \
	MEM_CASE(32, mnem "l " S32 "%[m]", FL, SC)								       \
	MEM_CASE(64, mnem "q " S64 "%[m]", FL, SC)
#define MEM_SHELL(name, FL, cases)										       \
	INLINE void name(void *p, u64 s, unsigned size, u64 *fl)						       \
	{													       \
		PREP_##FL(*fl);											       \
		switch (size) {											       \
			cases											       \
		}												       \
	}

/* All sizes; 16 to 64 bits; 32 and 64 bits. */
#define REG_CORE(...) REG_CORE_ALL(__VA_ARGS__)
#define REG_CORE_ALL(name, mnem, FL, SC, S8, S16, S32, S64)							       \
	REG_SHELL(name, FL,											       \
		  REG_CASE(8, mnem "b " S8 "%b[d]", FL, SC)							       \
		  REG_CASE(16, mnem "w " S16 "%w[d]", FL, SC)							       \
		  REG_CASES_DWORDS(mnem, FL, SC, S32, S64))
#define REG_CORE_WORDS(...) REG_CORE_16(__VA_ARGS__)
#define REG_CORE_16(name, mnem, FL, SC, S8, S16, S32, S64)							       \
	REG_SHELL(name, FL,											       \
		  REG_CASE(16, mnem "w " S16 "%w[d]", FL, SC)							       \
		  REG_CASES_DWORDS(mnem, FL, SC, S32, S64))
#define REG_CORE_DWORDS(...) REG_CORE_32(__VA_ARGS__)
#define REG_CORE_32(name, mnem, FL, SC, S8, S16, S32, S64)							       \
	REG_SHELL(name, FL, REG_CASES_DWORDS(mnem, FL, SC, S32, S64))

#define MEM_CORE(...) MEM_CORE_ALL(__VA_ARGS__)
#define MEM_CORE_ALL(name, mnem, FL, SC, S8, S16, S32, S64)							       \
	MEM_SHELL(name, FL,											       \
		  MEM_CASE(8, mnem "b " S8 "%[m]", FL, SC)							       \
		  MEM_CASES_WORDS(mnem, FL, SC, S16, S32, S64))
#define MEM_CORE_WORDS(...) MEM_CORE_16(__VA_ARGS__)
#define MEM_CORE_16(name, mnem, FL, SC, S8, S16, S32, S64)							       \
	MEM_SHELL(name, FL, MEM_CASES_WORDS(mnem, FL, SC, S16, S32, S64))

/* ---- operands in memory ---- */
GUEST_COPY u64 host_load(const void *p, unsigned size)
{
	switch (size) {
	case SZ_8:
		return *(const volatile u8 *)p;
	case SZ_16:
		return *(const volatile u16_un *)p;
	case SZ_32:
		return *(const volatile u32_un *)p;
	default:
		return *(const volatile u64_un *)p;
	}
}

GUEST_COPY void host_store(void *p, unsigned size, u64 v)
{
	switch (size) {
	case SZ_8:
		*(volatile u8 *)p = (u8)v;
		break;
	case SZ_16:
		*(volatile u16_un *)p = (u16)v;
		break;
	case SZ_32:
		*(volatile u32_un *)p = (u32)v;
		break;
	default:
		*(volatile u64_un *)p = v;
	}
}

/* mem_read() and mem_write() of a value of a size index; the value stays in a register on the fast path. */
INLINE int mem_load(struct cpu *c, unsigned seg, u64 ea, unsigned size, u64 *v)
{
	const void *p = mem_fast(c, seg, ea, 1u << size, MEM_READ);
	u64 slow = 0;
	int st;

	if (likely(p)) {
		*v = host_load(p, size);
		return ST_OK;
	}
	st = mem_read_slow(c, seg, ea, &slow, 1u << size);
	*v = slow;
	return st;
}

INLINE int mem_store(struct cpu *c, unsigned seg, u64 ea, unsigned size, u64 v)
{
	void *p = mem_fast(c, seg, ea, 1u << size, MEM_WRITE);
	u64 slow = v;

	if (unlikely(!p))
		return mem_write_slow(c, seg, ea, &slow, 1u << size);
	host_store(p, size, v);
	return ST_OK;
}

/* The same for an instruction's ModRM operand. */
INLINE int load_operand(struct cpu *c, const struct insn *i, unsigned size, u64 *v)
{
	return mem_load(c, i->seg, insn_ea(c, i), size, v);
}

INLINE int store_operand(struct cpu *c, const struct insn *i, unsigned size, u64 v)
{
	return mem_store(c, i->seg, insn_ea(c, i), size, v);
}

/* ---- for STAMP_MEM(): p is the operand's host address, or NULL for the slow way ---- */
INLINE void *operand_fast(struct cpu *c, const struct insn *i, unsigned size, enum mem_use use)
{
	/* What may be written, by its page and by its segment, may be read, too. */
	return mem_fast(c, i->seg, insn_ea(c, i), 1u << size, use == USE_LOAD ? MEM_READ : MEM_WRITE);
}

INLINE int load_at(struct cpu *c, const struct insn *i, unsigned size, void *p, u64 *v)
{
	if (p) {
		*v = host_load(p, size);
		return ST_OK;
	}
	*v = 0;
	return mem_read_slow(c, i->seg, insn_ea(c, i), v, 1u << size);
}

INLINE int store_at(struct cpu *c, const struct insn *i, unsigned size, void *p, u64 v)
{
	if (!p)
		return mem_write_slow(c, i->seg, insn_ea(c, i), &v, 1u << size);
	host_store(p, size, v);
	return ST_OK;
}

/* ---- templates that several families share ---- */
INLINE int update_reg(struct cpu *c, const struct insn *i, unsigned size, u64 s, reg_core op)
{
	u64 fl = c->cc;
	u64 d = op(reg_read(c, i->dst, size), s, size, &fl);

	reg_write(c, i->dst, size, d);
	c->cc = fl;
	return ST_OK;
}

INLINE int update_mem_at(struct cpu *c, unsigned seg, u64 ea, unsigned size, u64 s, mem_core op)
{
	u64 fl = c->cc;
	struct mem_rmw a;
	int st = mem_rmw(c, seg, ea, 1u << size, &a);

	if (unlikely(st))
		return st;
	op(a.p, s, size, &fl);
	st = mem_rmw_done(c, &a);
	if (unlikely(st))
		return st;
	c->cc = fl;
	return ST_OK;
}

INLINE int update_mem(struct cpu *c, const struct insn *i, unsigned size, void *p, u64 s, mem_core op)
{
	u64 fl = c->cc;

	if (!p)
		return update_mem_at(c, i->seg, insn_ea(c, i), size, s, op);
	op(p, s, size, &fl);
	c->cc = fl;
	return ST_OK;
}

/* ---- small things ---- */
INLINE u64 size_mask(unsigned size)
{
	return size == SZ_64 ? ~0ull : (1ull << (8u << size)) - 1;
}

INLINE s64 sign_extend(u64 v, unsigned size)
{
	switch (size) {
	case SZ_8:
		return (s8)v;
	case SZ_16:
		return (s16)v;
	case SZ_32:
		return (s32)v;
	default:
		return (s64)v;
	}
}

/*
 * The stack pointer is as wide as the stack segment says (cpu::stack_size), whatever the operand size; in 64-bit mode
 * it has 64 bits and SS is flat. A 64-bit operand exists only there.
 */
INLINE unsigned stack_seg(const struct cpu *c, unsigned size)
{
	return size == SZ_64 || c->stack_size == SZ_64 ? SEG_FLAT_SS : SEG_SS;
}

INLINE u64 stack_wrap(const struct cpu *c, unsigned size, u64 sp)
{
	return size == SZ_64 ? sp : sp & size_mask(c->stack_size);
}

INLINE void stack_set_pointer(struct cpu *c, unsigned size, u64 sp)
{
	if (size == SZ_64)
		c->gpr[RSP] = sp;
	else
		reg_write(c, RSP * 8, c->stack_size, sp);
}

/* The host address where a push would store, with *sp the pointer after it; NULL for the slow way: stack_push(). */
INLINE void *stack_push_fast(struct cpu *c, unsigned size, u64 *sp)
{
	*sp = stack_wrap(c, size, c->gpr[RSP] - (1u << size));
	if (size == SZ_64)
		return mem_flat(c, *sp, 8, MEM_WRITE);
	return mem_fast(c, stack_seg(c, size), *sp, 1u << size, MEM_WRITE);
}

/* Where a pop would load; NULL: stack_peek(). */
INLINE void *stack_pop_fast(struct cpu *c, unsigned size, u64 *sp)
{
	*sp = stack_wrap(c, size, c->gpr[RSP] + (1u << size));
	if (size == SZ_64)
		return mem_flat(c, c->gpr[RSP], 8, MEM_READ);
	return mem_fast(c, stack_seg(c, size), stack_wrap(c, size, c->gpr[RSP]), 1u << size, MEM_READ);
}

/* Conditions, by the second half of the mnemonics: X(name, expression of cc). */
#define CONDITIONS(X)												       \
	X(o, cc & FL_OF)											       \
	X(no, !(cc & FL_OF))											       \
	X(b, cc & FL_CF)											       \
	X(nb, !(cc & FL_CF))											       \
	X(z, cc & FL_ZF)											       \
	X(nz, !(cc & FL_ZF))											       \
	X(be, cc & (FL_CF | FL_ZF))										       \
	X(nbe, !(cc & (FL_CF | FL_ZF)))										       \
	X(s, cc & FL_SF)											       \
	X(ns, !(cc & FL_SF))											       \
	X(p, cc & FL_PF)											       \
	X(np, !(cc & FL_PF))											       \
	X(l, (cc ^ (cc >> 4)) & FL_SF)										       \
	X(nl, !((cc ^ (cc >> 4)) & FL_SF))									       \
	X(le, ((cc ^ (cc >> 4)) & FL_SF) || (cc & FL_ZF))							       \
	X(nle, !((cc ^ (cc >> 4)) & FL_SF) && !(cc & FL_ZF))

#define CONDITION(name, expr)											       \
	INLINE bool condition_##name(u64 cc)									       \
	{													       \
		return expr;											       \
	}
CONDITIONS(CONDITION)

/* ---- between the families' files ---- */
/* An instruction that the engine does not have: EXIT_INTERNAL (table.c). */
int interp_unimplemented(struct cpu *c, const struct insn *i);
/* Is there a handler for every form of the operation that the opcode table can make? For tests (table.c). */
bool interp_has(unsigned op);

/* Where a branch goes: truncates *rip to the operand size and checks it, but does not change RIP yet (branch.c). */
int branch_target(struct cpu *c, u64 *rip, unsigned size);

/* The value that a pop would give, and in *sp the stack pointer after it (stack.c). */
int stack_peek(struct cpu *c, unsigned size, u64 *v, u64 *sp);

/*
 * Port accesses that the client answers (io.c). pio_answered() is the number of elements, at most max, of the answer to
 * this very access in cpu::pio, 0 if there is none. pio_consume() takes the first n away. pio_ask() asks for count
 * elements, which the caller has put to cpu::pio.data for OUT: ST_EXIT.
 */
u32 pio_answered(struct cpu *c, u16 port, unsigned bytes, bool in, u64 max);
void pio_consume(struct cpu *c, u32 n);
int pio_ask(struct cpu *c, u16 port, unsigned bytes, bool in, u32 count);
/* Offers the access to the devices that live here: true if one took it. */
bool pio_local(struct cpu *c, u16 port, unsigned bytes, bool in, u32 *data);

#endif
