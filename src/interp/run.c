// SPDX-License-Identifier: MIT
/*
 * The run loop: look up the block at RIP, run its instructions one after the other, and between two blocks look at
 * cpu::attn. Everything rare hangs off attn, so that the way from block to block stays short.
 */
#include "cpu/cpuid.h"
#include "interp/block.h"
#include "interp/debug.h"
#include "interp/thread.h"
#include "jit/jit.h"

/* About 100 microseconds of guest code: how long a signal that can only be polled for may wait. */
#define POLL_BLOCKS 4096

/* Brings cpu::stats up to date. */
static void stats_fold(struct cpu *c)
{
	stats_add_work(&c->stats, c->work);
	c->work = 0;
	c->stats.blocks += c->quota - c->budget;
	c->quota = c->budget;
}

/* A block ended at its instruction i, which did not complete. What follows the last one has no bytes. */
static __attribute__((noinline)) void uncount(struct cpu *c, const struct insn *i)
{
	unsigned n = 0;

	while (i[n].len)
		n++;
	c->work -= block_work(i, n);
}

static bool want_poll(struct cpu *c)
{
	c->budget = 0;
	stats_fold(c);
	c->quota = POLL_BLOCKS;
	c->budget = POLL_BLOCKS - 1; /* the block that is next has been taken already */
	return c->host && c->host->poll && c->host->poll(c->host_ctx);
}

static enum exit_reason leave(struct cpu *c, enum exit_reason why)
{
	c->exit.reason = why;
	return why;
}

/* RIP back to the start of an instruction that did not complete. */
static void rewind_rip(struct cpu *c, const struct insn *i)
{
	c->gpr[R_RIP] = c->gpr[R_BLOCK] + i->end - i->len;
}

void interp_unwind(struct cpu *c)
{
	c->host_mxcsr = 0;
	if (c->cur)
		rewind_rip(c, c->cur);
	c->cur = NULL;
	io_log_clear(c);
	c->vectoring = 0;
	mem_split_end(c);
	/* It may have been in the middle of an AVX handler. */
	if (cpuid_host_has_ymm())
		asm volatile("vzeroupper");
}

/*
 * What follows an instruction (or a lookup, without one) that did not simply end. ST_OK: go on; ST_EXIT: cpu::exit is
 * for the client.
 */
static int settle(struct cpu *c, const struct insn *i, int st)
{
	switch (st) {
	case ST_FAULT:
		if (i)
			rewind_rip(c, i);
		io_log_clear(c);
		return event_fault(c) == ST_OK ? ST_OK : ST_EXIT;
	case ST_EXIT:
		if (i)
			rewind_rip(c, i);
		return ST_EXIT;
	case ST_EXIT_DONE:
		io_log_clear(c);
		return ST_EXIT;
	case ST_AGAIN:
		rewind_rip(c, i);
		if (i->flags & (INSN_REP | INSN_REPNE))
			c->rep_at = c->gpr[R_RIP];
		return ST_OK;
	default:
		return ST_OK;
	}
}

static int execute(struct cpu *c, const struct insn *i)
{
	int st;

	do
		st = i->fn(c, i);
	while (unlikely(st == ST_SPLIT));
	return st;
}

int thread_step(struct cpu *c, const struct insn *i)
{
	thread_begin(c, i);
	return execute(c, i);
}

int thread_slow(struct cpu *c, const struct insn *i)
{
	int st = thread_step(c, i);

	return likely(st == ST_OK) ? thread_next(c, i) : st;
}

/* Host code for a block that has run often. ST_END: it is gone, and to be looked up again. */
static __attribute__((noinline)) int translate(struct cpu *c, struct block *b)
{
	if (jit_translate(c, b))
		return ST_OK;
	code_flush(c);
	return ST_END;
}

/*
 * Runs the block's instructions until one of them says more than "next"; cpu::cur is that one then. If the block is
 * translated, those of others may follow.
 */
static inline __attribute__((always_inline)) int run_block(struct cpu *c, struct block *b)
{
	if (unlikely(b->heat) && !--b->heat && translate(c, b))
		return ST_END;
	c->gpr[R_BLOCK] = c->gpr[R_RIP];
	c->work += b->work;
	return b->insn[0].run(c, b->insn);
}

/*
 * An instruction that completed with an exit: what is due after it may queue an event, but not hide the exit. Except
 * that of HLT, which is over at once if its single-step trap is due, or what a shadow held back until here (SDM vol. 2,
 * HLT): a client that halts now would wait for something else to come.
 */
static int step_exit(struct cpu *c, u8 shadow)
{
	struct exit exit = c->exit;
	int st = event_step_done(c, shadow);

	if (exit.reason == EXIT_HLT && st == ST_OK && event_due(c))
		return ST_OK;
	c->exit = exit;
	return ST_EXIT;
}

/* One instruction alone, with all that hardware looks at between two of them. ST_OK or ST_EXIT. */
static int step(struct cpu *c)
{
	u8 shadow = c->ev.shadow;
	const struct insn *i;
	struct block *b;
	int st;

	c->cur = NULL;
	st = event_step_before(c);
	if (st)
		return settle(c, NULL, st);
	st = block_lookup(c, &b);
	if (st)
		return settle(c, NULL, st);
	i = b->insn;
	c->io.cursor = 0;
	c->gpr[R_BLOCK] = c->gpr[R_RIP];
	thread_begin(c, i);
	st = execute(c, i);
	if (st <= ST_END || st == ST_EXIT_DONE) {
		c->work += insn_work(i);
		io_log_clear(c);
	}
	if (st == ST_EXIT_DONE)
		return step_exit(c, shadow);
	if (settle(c, i, st) != ST_OK)
		return ST_EXIT;
	return st == ST_FAULT ? ST_OK : event_step_done(c, shadow);
}

/*
 * The client answered an access of the instruction at RIP: that comes before everything else, so that the client may
 * rely on "complete after the next KVM_RUN" (api.rst, 5. The kvm_run structure).
 */
static int resume(struct cpu *c)
{
	cpu_attn_clear(c, ATTN_RESUME);
	return step(c);
}

static int take_events(struct cpu *c)
{
	int st;

	cpu_attn_clear(c, ATTN_EVENT);
	c->cur = NULL;
	st = event_poll(c);
	if (st == ST_AGAIN)
		return st;
	if (st == ST_EXIT) /* it is still to be delivered */
		cpu_events_changed(c);
	return st >= ST_EXIT ? ST_EXIT : ST_OK;
}

/* ST_OK: look up the next block. ST_EXIT: leave. */
static int attention(struct cpu *c, u32 attn)
{
	if (attn & ATTN_REQUEST) {
		cpu_attn_clear(c, ATTN_REQUEST);
		if (c->host && c->host->request)
			c->host->request(c->host_ctx);
	}
	if (attn & ATTN_RESUME)
		return resume(c);
	if (attn & ATTN_IO) {
		cpu_attn_clear(c, ATTN_IO);
		io_log_clear(c);
		return ST_OK;
	}
	if (attn & ATTN_KICK) {
		cpu_attn_clear(c, ATTN_KICK);
		leave(c, EXIT_INTR);
		return ST_EXIT;
	}
	if (attn & ATTN_EVENT) {
		int st = take_events(c);

		if (st != ST_AGAIN)
			return st;
		attn = 0; /* there are more, and they count as a block */
	}
	if (!c->budget-- && want_poll(c)) {
		leave(c, EXIT_INTR);
		return ST_EXIT;
	}
	return attn & ATTN_STEP ? step(c) : ST_OK;
}

static enum exit_reason run(struct cpu *c)
{
	struct block *b;
	u32 attn;
	int st;

	c->cur = NULL;
	for (;;) {
		attn = __atomic_load_n(&c->attn, __ATOMIC_ACQUIRE);
		if (unlikely(attn)) {
			if (attention(c, attn) != ST_OK)
				return c->exit.reason;
			continue;
		}
		if (unlikely(!c->budget--) && want_poll(c))
			return leave(c, EXIT_INTR);
		st = block_lookup(c, &b);
		if (likely(st == ST_OK)) {
			st = run_block(c, b);
			if (unlikely(st != ST_END && c->exact_stats))
				uncount(c, c->cur + (st == ST_EXIT_DONE));
		}
		if (unlikely(st != ST_END) && settle(c, c->cur, st) != ST_OK)
			return c->exit.reason;
	}
}

int interp_translate(struct cpu *c)
{
	return jit_init(c, thread_step);
}

enum exit_reason interp_run(struct cpu *c)
{
	enum exit_reason why;

	asm volatile("stmxcsr %0" : "=m"(c->host_mxcsr));
	why = run(c);
	c->host_mxcsr = 0;
	stats_fold(c);
	return why;
}
