// SPDX-License-Identifier: MIT
/*
 * Two engines agree. The same random machine runs twice: by blocks, which mostly are translated before they run, and
 * one instruction at a time with caches that forget everything in between. After each block of the first (or a few that
 * follow each other without coming back to the run loop) the second must come through the very same state, and at the
 * end memory, dirty logs and what the devices saw must be the same. Devices answer one of the two at once and the other
 * by exits. Along the way each state must be one that a CPU can be in, what is derived from it up to date, every page
 * walk what the model says, and every soft-TLB entry what a walk would give now.
 *
 * A guest may change its page tables and go on with old translations for a while; the two engines then differ by right.
 * So the harness flushes both as soon as a page that served as page table was written, and does not judge the
 * instructions in between.
 */
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/debug.h"
#include "cpu/fpu.h"
#include "insn/insn.h"
#include "interp/interp.h"
#include "mem/code.h"

#include "fuzz.h"
#include "guest.h"
#include "refwalk.h"

#define BLOCKS 160
#define STEPS_MAX 6000 /* a REP instruction by single iterations, at most 4,096 of them within a page */
#define EXITS_MAX 3000

struct machine {
	struct guest *g;
	const char *name;
	bool single;    /* one instruction at a time */
	bool forgetful; /* and flush everything before each */
	bool local;     /* devices are served by cpu_host */
	u32 more;       /* blocks that may follow the one that is asked for */
	bool again;     /* on_poll() only wanted to set ATTN_STEP */
	unsigned polls, steps;
	u64 walked;        /* pages that were used as page tables since the last flush */
	u64 ad_dirty;      /* pages whose log bit came from accessed and dirty bits alone */
	u64 written;       /* dirty-log bits that were taken out of the log */
	u64 accesses, log; /* of devices: how many, and a hash of all of them */
	enum exit_reason last;
	bool random;  /* executed something that may differ */
	bool endless; /* a REP instruction asks a device more often than we have time for */
};

static struct machine *current;

static u64 mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

static void show(const struct machine *m)
{
	const struct cpu *c = &m->g->cpu;

	fprintf(stderr,
		"%s: mode %d cpl %d rip %llx rflags %llx cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx exit %d\n",
		m->name, c->mode, c->cpl, (unsigned long long)c->gpr[R_RIP], (unsigned long long)cpu_rflags(c),
		(unsigned long long)c->cr0, (unsigned long long)c->cr2, (unsigned long long)c->cr3,
		(unsigned long long)c->cr4, (unsigned long long)c->efer, m->last);
	for (unsigned n = 0; n < 16; n++)
		fprintf(stderr, " %016llx%s", (unsigned long long)c->gpr[n], n % 4 == 3 ? "\n" : "");
	for (unsigned n = 0; n < NR_SEG; n++)
		fprintf(stderr, " %x:%llx/%x/%x", c->seg[n].sel, (unsigned long long)c->seg[n].base, c->seg[n].limit,
			c->seg[n].attr);
	fprintf(stderr,
		"\n exc %d %d vector %d; intr %d nmi %d %d %d shadow %d; dr6 %llx dr7 %llx mxcsr %x accesses %llu\n",
		c->ev.exc.pending, c->ev.exc.injected, c->ev.exc.vector, c->ev.intr.injected, c->ev.nmi_pending,
		c->ev.nmi_injected, c->ev.nmi_masked, c->ev.shadow, (unsigned long long)c->dr[6],
		(unsigned long long)c->dr[7], c->fpu.mxcsr, (unsigned long long)m->accesses);
}

/* ---- devices ---- */

static void device(struct machine *m, u64 addr, unsigned size, bool write, void *data)
{
	u64 v = 0;

	m->accesses++;
	if (write) {
		memcpy(&v, data, size);
	} else {
		v = mix(m->accesses, addr);
		memcpy(data, &v, size);
		v = 0;
	}
	m->log = mix(m->log, addr << 8 | size << 1 | write);
	m->log = mix(m->log, v);
}

static bool on_mmio(void *ctx, u64 gpa, unsigned len, bool write, void *data)
{
	struct machine *m = ctx;

	if (m->local)
		device(m, gpa, len, write, data);
	return m->local;
}

static bool on_pio(void *ctx, u16 port, unsigned size, bool write, void *data)
{
	struct machine *m = ctx;

	if (m->local)
		device(m, 1ull << 60 | port, size, write, data);
	return m->local;
}

static void answer(struct machine *m)
{
	struct cpu *c = &m->g->cpu;

	if (m->last == EXIT_MMIO) {
		struct io_access *a = &c->io.acc[c->io.n - 1];

		if (!c->io.n || a->answered || a->gpa != c->exit.mmio.gpa || a->len != c->exit.mmio.len)
			fuzz_fail("%s: an MMIO exit without its access in the log", m->name);
		device(m, c->exit.mmio.gpa, c->exit.mmio.len, c->exit.mmio.write,
		       c->exit.mmio.write ? c->exit.mmio.data : (u8 *)&a->data);
		a->answered = true;
	} else {
		for (u32 n = 0; n < c->exit.io.count; n++)
			device(m, 1ull << 60 | c->exit.io.port, c->exit.io.size, !c->exit.io.in,
			       c->pio.data + (u64)n * c->exit.io.size);
		c->pio.answered = true;
	}
	cpu_attn(c, ATTN_RESUME);
}

/* ---- page walks: each is compared with the model ---- */

int __real_cpu_walk(struct cpu *c, u64 lin, unsigned access, unsigned flags, struct walk *w);
int __wrap_cpu_walk(struct cpu *c, u64 lin, unsigned access, unsigned flags, struct walk *w);

/* The log's bits for accessed and dirty bits that the walk itself sets are put aside. */
static void set_aside(struct machine *m, u64 before)
{
	u64 now = guest_dirty(m->g) & ~before;

	m->ad_dirty |= now;
	m->g->dirty[0] &= ~now;
	m->g->dirty[1] &= ~(now >> (HOLE_END >> PAGE_SHIFT));
}

int __wrap_cpu_walk(struct cpu *c, u64 lin, unsigned access, unsigned flags, struct walk *w)
{
	struct machine *m = current;
	struct refwalk_access a = { lin, access & PF_W, access & PF_U, access & PF_I, flags & WALK_SMAP_LIFTED };
	struct refwalk r = refwalk(c, &a);
	u64 before = guest_dirty(m->g);
	int st = __real_cpu_walk(c, lin, access, flags, w);

	for (unsigned n = 0; n < r.n; n++)
		if (guest_page(m->g, r.at[n]) >= 0)
			m->walked |= BIT64(guest_page(m->g, r.at[n]));
	set_aside(m, before);
	if (r.gave_up || st == ST_EXIT || (flags & WALK_NO_CHECK))
		return st;
	if (st != (r.fault ? ST_FAULT : ST_OK))
		fuzz_fail("%s: walk of %llx for %x: status %d, fault in the model %d (%x)", m->name,
			  (unsigned long long)lin, access, st, r.fault, r.error);
	if (r.fault && (c->fault.vector != VEC_PF || c->fault.error != r.error || c->fault.addr != lin))
		fuzz_fail("%s: walk of %llx for %x: #PF %x at %llx instead of %x", m->name, (unsigned long long)lin,
			  access, c->fault.error, (unsigned long long)c->fault.addr, r.error);
	if (!r.fault && (w->gpa != r.gpa || w->shift != r.shift || !!(w->prot & PF_W) != r.may_write ||
			 !!(w->prot & PF_I) != r.may_exec))
		fuzz_fail("%s: walk of %llx for %x: %llx shift %u prot %x instead of %llx, %u, w %d x %d", m->name,
			  (unsigned long long)lin, access, (unsigned long long)w->gpa, w->shift, w->prot,
			  (unsigned long long)r.gpa, r.shift, r.may_write, r.may_exec);
	return st;
}

/* ---- invariants ---- */

static void check_tlb_entry(struct machine *m, unsigned mmu, const struct tlb_entry *e, u64 tag, enum mem_access how)
{
	struct cpu *c = &m->g->cpu;
	struct refwalk_access a = { tag & PAGE_MASK, how == MEM_WRITE, mmu == MMU_USER, how == MEM_EXEC,
				    mmu == MMU_SUP_AC };
	struct refwalk w;
	const struct memslot *s;
	u64 off;

	if ((tag & ~PAGE_MASK) != c->tlb_gen)
		return;
	w = refwalk(c, &a);
	for (unsigned n = 0; n < w.n; n++)
		if (guest_page(m->g, w.at[n]) < 0 || (guest_dirty(m->g) >> guest_page(m->g, w.at[n]) & 1))
			return;
	if (w.fault)
		fuzz_fail("%s: soft TLB %u has %llx for access %d, but a walk faults (%x)", m->name, mmu,
			  (unsigned long long)a.lin, how, w.error);
	s = map_find(c->map, w.gpa, &off);
	if (!s || (u64)(uintptr_t)(s->hva + off) != a.lin + e->addend)
		fuzz_fail("%s: soft TLB %u has %llx elsewhere than at %llx", m->name, mmu, (unsigned long long)a.lin,
			  (unsigned long long)w.gpa);
	if (debug_page_watched(c, a.lin))
		fuzz_fail("%s: soft TLB %u has %llx, which is watched", m->name, mmu, (unsigned long long)a.lin);
	for (unsigned n = 0; n < w.n; n++)
		if (!(w.entry[n] & 0x20))
			fuzz_fail("%s: soft TLB %u has %llx, whose accessed bit is clear", m->name, mmu,
				  (unsigned long long)a.lin);
	if (how != MEM_WRITE)
		return;
	if (w.n && !(w.entry[w.n - 1] & 0x40))
		fuzz_fail("%s: soft TLB %u lets %llx be written, whose dirty bit is clear", m->name, mmu,
			  (unsigned long long)a.lin);
	if (s->readonly || !(guest_dirty(m->g) >> guest_page(m->g, w.gpa) & 1))
		fuzz_fail("%s: soft TLB %u lets %llx be written, which is read-only or not in the log", m->name, mmu,
			  (unsigned long long)a.lin);
	if (e->rd != e->wr)
		fuzz_fail("%s: soft TLB %u lets %llx be written but not read", m->name, mmu, (unsigned long long)a.lin);
	{
		struct code_page *p = code_page_find(c->code, s->hva + off);

		if (p && p->lines)
			fuzz_fail("%s: soft TLB %u lets %llx be written, where code is cached", m->name, mmu,
				  (unsigned long long)a.lin);
	}
}

static void check_tlb(struct machine *m)
{
	struct cpu *c = &m->g->cpu;

	for (unsigned n = 0; n < NR_MMU * TLB_SPAN; n++) {
		const struct tlb_entry *e = &c->tlb[n];

		if (!(e->rd | e->wr | e->ex))
			continue;
		check_tlb_entry(m, n / TLB_SPAN, e, e->rd, MEM_READ);
		check_tlb_entry(m, n / TLB_SPAN, e, e->wr, MEM_WRITE);
		check_tlb_entry(m, n / TLB_SPAN, e, e->ex, MEM_EXEC);
	}
}

struct derived {
	u8 cpl, mode, code_mode, stack_size, mmu, paging, fpu_trap, step;
	u64 code_key, lin_mask;
	struct tlb_entry *tlb_cur;
	struct seg seg[NR_SEG_ALL];
	u8 bp[4];
	bool stepping;
};

static struct derived derived(const struct cpu *c)
{
	struct derived d;

	memset(&d, 0, sizeof(d));
	d.cpl = c->cpl;
	d.mode = c->mode;
	d.code_mode = c->code_mode;
	d.stack_size = c->stack_size;
	d.mmu = c->mmu;
	d.paging = c->paging;
	d.fpu_trap = c->fpu_trap;
	d.step = c->step & (u8) ~(STEP_WAS_TF | STEP_WAS_RF);
	d.code_key = c->code_key;
	d.lin_mask = c->lin_mask;
	d.tlb_cur = c->tlb_cur;
	memcpy(d.seg, c->seg, sizeof(d.seg));
	/* Nobody asks for those of the system segments. */
	d.seg[SEG_LDTR].rd_end = d.seg[SEG_LDTR].wr_end = d.seg[SEG_TR].rd_end = d.seg[SEG_TR].wr_end = 0;
	memcpy(d.bp, (u8[]){ c->bp.exec, c->bp.write, c->bp.access, c->bp.port }, 4);
	d.stepping = c->step && (c->attn & ATTN_STEP);
	return d;
}

static void check_derived(struct machine *m)
{
	struct cpu *c = &m->g->cpu;
	struct derived before = derived(c), after;

	cpu_update_mode(c);
	debug_update(c);
	after = derived(c);
#define SAME(what)                                                                                                     \
	if (memcmp(&before.what, &after.what, sizeof(before.what)))                                                    \
	fuzz_fail("%s: derived state is stale: " #what ", mode %d, RIP %llx", m->name, c->mode,                        \
		  (unsigned long long)c->gpr[R_RIP])
	SAME(cpl);
	SAME(mode);
	SAME(code_mode);
	SAME(stack_size);
	SAME(mmu);
	SAME(paging);
	SAME(fpu_trap);
	SAME(step);
	SAME(code_key);
	SAME(lin_mask);
	SAME(tlb_cur);
	SAME(seg);
	SAME(bp);
	SAME(stepping);
#undef SAME
}

#define RULE(ok)                                                                                                       \
	if (!(ok) && (show(m), true))                                                                                  \
	fuzz_fail("%s: no CPU is in such a state: not %s; mode %d, RIP %llx", m->name, #ok, c->mode,                   \
		  (unsigned long long)c->gpr[R_RIP])

static void check_state(struct machine *m)
{
	struct cpu *c = &m->g->cpu;
	const struct fpu *f = &c->fpu;
	struct fpu summary = *f;
	struct cpu_sregs s;

	RULE(!c->gpr[R_ZERO]);
	RULE(!(c->rflags & ~(FL_VALID & ~FL_STATUS)));
	/* Straight-line code may run over the edge. */
	RULE(c->mode == CPU_LONG || c->gpr[R_RIP] <= BIT64(32));
	RULE(is_canonical(c->gpr[R_RIP]) || (c->gpr[R_RIP] - BIT64(47)) < 15);
	RULE(!(c->rflags & FL_VM) || (c->mode == CPU_VM86 && c->cpl == 3));
	RULE(!(c->cr8 & ~15ull));
	RULE(!(c->cr3 & cpu_gpa_reserved(c)));
	RULE(!(f->mxcsr & ~MXCSR_MASK));
	RULE(f->fcw & FCW_FIXED);
	RULE(fpu_xcr0_valid(f->xcr0, c->xcr0_allowed));
	fpu_summary(&summary);
	RULE(summary.fsw == f->fsw);
	RULE((c->dr[6] & DR6_FIXED) == DR6_FIXED && !(c->dr[6] >> 32));
	RULE((c->dr[7] & DR7_FIXED) && !(c->dr[7] >> 32));
	RULE(!(c->ev.exc.pending && c->ev.exc.injected));
	RULE(is_canonical(c->msr.lstar) && is_canonical(c->msr.cstar) && is_canonical(c->msr.kernel_gs_base));
	cpu_get_sregs(c, &s);
	if (!cpu_long_mode(c)) /* which the CPU ignores in a descriptor, but KVM_SET_SREGS does not */
		s.seg[SEG_CS].attr &= ~ATTR_L;
	RULE(cpu_sregs_valid(c, &s));
	for (unsigned n = 0; c->mode == CPU_VM86 && n <= SEG_GS; n++)
		RULE(c->seg[n].base == (u64)c->seg[n].sel << 4 && c->seg[n].limit == 0xffff);
	if (c->mode < CPU_PROT)
		return;
	/* A task switch has loaded selectors when the delivery of a fault with its descriptors ends in a device. */
	if (m->last == EXIT_DELIVERY)
		return;
	RULE(!(c->seg[SEG_CS].attr & ATTR_UNUSABLE) && (c->seg[SEG_CS].attr & ATTR_S));
	RULE(!cpu_long_mode(c) || (c->seg[SEG_CS].attr & (ATTR_L | ATTR_DB)) != (ATTR_L | ATTR_DB));
	RULE((c->seg[SEG_CS].sel & 3) == c->cpl || !(c->seg[SEG_CS].attr & 8) || c->mode == CPU_PROT);
	for (unsigned n = SEG_ES; n <= SEG_GS; n++) {
		const struct seg *sg = &c->seg[n];

		RULE((sg->attr & ATTR_UNUSABLE) || ((sg->attr & ATTR_S) && (sg->attr & ATTR_P)));
		RULE((sg->attr & ATTR_UNUSABLE) || !(sg->attr & ATTR_G) || (sg->limit & 0xfff) == 0xfff);
		RULE((sg->attr & ATTR_UNUSABLE) || (sg->attr & ATTR_G) || !(sg->limit >> 20));
	}
}

/* ---- running ---- */

static bool on_poll(void *ctx)
{
	struct machine *m = ctx;
	struct cpu *c = &m->g->cpu;

	c->budget = m->more;
	if (++m->polls > 1)
		return true;
	if (!m->single || (c->attn & ATTN_STEP))
		return false;
	/* The run loop has looked at attn already. */
	m->polls = 0;
	m->again = true;
	cpu_attn(c, ATTN_STEP);
	return true;
}

static const struct cpu_host host = { .mmio = on_mmio, .pio = on_pio, .poll = on_poll };

static bool is_over(enum exit_reason why)
{
	return why == EXIT_SHUTDOWN || why == EXIT_INTERNAL || why == EXIT_DELIVERY;
}

/* A block, or an instruction; with all exits that it makes. False: the guest is at its end. */
static bool advance(struct machine *m)
{
	struct cpu *c = &m->g->cpu;

	current = m;
	m->polls = 0;
	c->budget = 0;
	if (m->forgetful) {
		tlb_flush(c);
		if (!(m->steps++ & 7))
			code_flush(c);
		m->walked = 0;
	}
	for (unsigned n = 0, same = 0; n < EXITS_MAX; n++) {
		u64 count = c->gpr[RCX];

		m->again = false;
		if (m->single)
			cpu_attn(c, ATTN_STEP);
		m->last = interp_run(c);
		if (m->last == EXIT_INTR && m->again)
			continue;
		/* These give two machines different answers. */
		if ((c->cur && (c->cur->op == OP_rdrand || c->cur->op == OP_rdseed)) || c->msr.kvm_wall_clock ||
		    c->msr.kvm_system_time)
			m->random = true;
		if (m->last == EXIT_INTR)
			return true;
		if (m->last == EXIT_MMIO || m->last == EXIT_IO) {
			answer(m);
			/* Only REP instructions ask again and again. */
			same = count == c->gpr[RCX] ? same + 1 : 0;
			if (same > 2 * IO_LOG_MAX)
				fuzz_fail("%s: an instruction that asks for ever, RIP %llx", m->name,
					  (unsigned long long)c->gpr[R_RIP]);
			continue;
		}
		c->want_window = false;
		m->log = mix(m->log, m->last);
		if (m->last == EXIT_INTERNAL && c->exit.insn.len)
			fuzz_fail("%s: an instruction that the engine does not have", m->name);
		/* A task switch cannot wait for a device. */
		m->random = m->random || (m->last == EXIT_INTERNAL && !m->local);
		if (is_over(m->last))
			return false;
		if (m->last == EXIT_NONE || m->last > EXIT_TPR || m->last == EXIT_EFAULT)
			fuzz_fail("%s: exit %d", m->name, m->last);
		return true;
	}
	m->endless = true;
	return false;
}

/* Was a page table written? Then old translations may be in use. */
static bool tainted(const struct machine *m)
{
	return m->walked & guest_dirty(m->g);
}

/* Takes the log, as the client does. */
static void take_log(struct machine *m)
{
	m->written |= guest_dirty(m->g);
	m->g->dirty[0] = m->g->dirty[1] = 0;
	tlb_flush(&m->g->cpu);
	m->walked = 0;
}

/* ---- comparing ---- */

#define CORE(X)                                                                                                        \
	X(rflags)                                                                                                      \
	X(cr0) X(cr2) X(cr3) X(cr4) X(cr8) X(efer) X(pdptr) X(dr) X(msr) X(mode) X(cpl) X(tsc_offset) X(fpu.st)        \
		X(fpu.vec) X(fpu.opmask) X(fpu.fip) X(fpu.fdp) X(fpu.fcw) X(fpu.fsw) X(fpu.fop) X(fpu.fcs) X(fpu.fds)  \
			X(fpu.ftw) X(fpu.mxcsr) X(fpu.pkru) X(fpu.xcr0) X(fpu.xss) X(gdt.base) X(gdt.limit)            \
				X(idt.base) X(idt.limit) X(ev.exc.pending) X(ev.exc.injected) X(ev.intr.injected)      \
					X(ev.nmi_pending) X(ev.nmi_injected) X(ev.nmi_masked) X(ev.shadow)

/* The first thing that differs, or NULL. */
static const char *difference(const struct cpu *a, const struct cpu *b)
{
#define DIFFERS(what)                                                                                                  \
	if (memcmp(&a->what, &b->what, sizeof(a->what)))                                                               \
		return #what;
	CORE(DIFFERS)
#undef DIFFERS
	if (memcmp(a->gpr, b->gpr, 16 * sizeof(a->gpr[0])) || a->gpr[R_RIP] != b->gpr[R_RIP])
		return "general registers";
	if ((a->cc ^ b->cc) & FL_STATUS)
		return "status flags";
	for (unsigned n = 0; n < NR_SEG; n++)
		if (a->seg[n].base != b->seg[n].base || a->seg[n].limit != b->seg[n].limit ||
		    a->seg[n].attr != b->seg[n].attr || a->seg[n].sel != b->seg[n].sel)
			return "segments";
	return NULL;
}

struct pair {
	struct machine a, b;
	struct cpu start; /* where the block that is being compared began */
	bool trace;
	u64 trail[64];         /* RIPs that b came through since then */
	unsigned steps, moves; /* how many, and how many of them were not iterations of a REP instruction */
	bool itself;           /* an instruction of several iterations, or with exits, may have overwritten itself */
	u64 accesses;
};

static void show_code(const struct machine *m, u64 rip)
{
	const struct cpu *c = &m->g->cpu;
	struct refwalk_access a = { (rip + (c->mode == CPU_LONG ? 0 : c->seg[SEG_CS].base)) & c->lin_mask,
				    .exec = true };
	struct refwalk w = refwalk(c, &a);
	u64 off;
	const struct memslot *s = map_find(c->map, w.gpa, &off);

	for (unsigned n = 0; !w.fault && s && n < 15 && off + n < s->size; n++)
		fprintf(stderr, "%02x ", s->hva[off + n]);
	fprintf(stderr, "\n");
}

static void mismatch(struct pair *p, const char *what)
{
	show_code(&p->a, p->start.gpr[R_RIP]);
	fprintf(stderr, "from rip %llx mode %d, %u steps:", (unsigned long long)p->start.gpr[R_RIP], p->start.mode,
		p->steps);
	for (unsigned n = 0; n < p->steps && n < ARRAY_SIZE(p->trail); n++)
		fprintf(stderr, " %llx", (unsigned long long)p->trail[n]);
	fprintf(stderr, "\n");
	show(&p->a);
	show(&p->b);
	fuzz_fail("the two engines differ: %s", what);
}

static void check_machine(struct machine *m, bool tlb)
{
	current = m;
	if (m->last == EXIT_SHUTDOWN) /* for example in the middle of a task switch */
		return;
	check_state(m);
	check_derived(m);
	if (tlb)
		check_tlb(m);
}

/* From here on the two need not agree. */
static bool given_up(const struct pair *p)
{
	return p->itself || p->a.random || p->b.random || p->a.endless || p->b.endless || tainted(&p->a) ||
	       tainted(&p->b);
}

static u64 all_written(const struct machine *m)
{
	return m->written | m->ad_dirty | guest_dirty(m->g);
}

/* Where the page of that number is in guest::mem; ~0: it is none. */
static u64 page_offset(const struct machine *m, unsigned page)
{
	u64 off;
	const struct memslot *s = map_find(m->g->map, (u64)page << PAGE_SHIFT, &off);

	return s ? (u64)(s->hva + off - m->g->mem) : ~0ull;
}

/* Of the pages that were written: a loop may come through the same registers more than once. */
static bool same_memory(const struct pair *p)
{
	for (u64 pages = all_written(&p->a) | all_written(&p->b); pages; pages &= pages - 1) {
		u64 off = page_offset(&p->a, (unsigned)__builtin_ctzll(pages));

		if (memcmp(p->a.g->mem + off, p->b.g->mem + off, PAGE_SIZE))
			return false;
	}
	return true;
}

/*
 * A REP INS over the I/O permissions in its own TSS: they are looked at as often as the client is asked, which is once
 * for many elements, or for each when it steps.
 */
static bool wrote_permissions(const struct pair *p)
{
	u64 tss = p->b.g->cpu.seg[SEG_TR].base >> PAGE_SHIFT;

	return p->a.accesses - p->accesses > 1 && tss < 64 && (all_written(&p->a) | all_written(&p->b)) & BIT64(tss);
}

/* One block of a, then b until it is where a is. False: nothing more to compare. */
static bool compare_block(struct pair *p, bool tlb)
{
	bool more = advance(&p->a), b_more = true;
	const char *what = NULL;

	check_machine(&p->a, tlb && more);
	p->moves = 0;
	for (p->steps = 0; p->steps < STEPS_MAX * (1 + p->a.more) && p->moves < (2 + p->a.more) * BLOCK_MAX_INSNS;
	     p->steps++) {
		u64 before = p->b.g->cpu.gpr[R_RIP];

		if (p->steps < ARRAY_SIZE(p->trail))
			p->trail[p->steps] = before;
		b_more = advance(&p->b);
		check_machine(&p->b, false);
		if (given_up(p))
			return false;
		what = difference(&p->a.g->cpu, &p->b.g->cpu);
		if (!what && p->a.log != p->b.log)
			what = "what devices saw, exits";
		if (!what && more != b_more)
			what = "one is at its end";
		if (!what && !same_memory(p))
			what = "memory";
		if (!what || !b_more)
			break;
		if (p->trace)
			fprintf(stderr, "step %u: %s\n", p->steps, what);
		p->moves += p->b.g->cpu.gpr[R_RIP] != before;
	}
	if (what && p->a.g->cpu.stats.invalidations != p->start.stats.invalidations &&
	    (p->steps > p->moves || p->a.accesses != p->accesses))
		p->itself = true;
	else if (what && wrote_permissions(p))
		p->itself = true;
	else if (what)
		mismatch(p, what);
	return more && !p->itself;
}

/* Memory and logs. */
static void compare_memory(struct pair *p, const u8 *start)
{
	u64 a = all_written(&p->a), b = all_written(&p->b);

	for (unsigned page = 0; page < GUEST_PAGES; page++) {
		u64 off = page_offset(&p->a, page);
		const u8 *x, *y;

		if (off == ~0ull)
			continue;
		x = p->a.g->mem + off;
		y = p->b.g->mem + off;
		for (unsigned n = 0; memcmp(x, y, PAGE_SIZE) && n < PAGE_SIZE; n++)
			if (x[n] != y[n])
				fprintf(stderr, "%x: %02x %02x\n", (page << PAGE_SHIFT) + n, x[n], y[n]);
		if (memcmp(x, y, PAGE_SIZE))
			mismatch(p, "memory");
		if (memcmp(x, start + off, PAGE_SIZE) && !(a >> page & 1))
			fuzz_fail("page %x was written, but the log does not have it", page);
	}
	if (a != b)
		fuzz_fail("the two engines differ: dirty logs %llx, %llx", (unsigned long long)a,
			  (unsigned long long)b);
}

/* Something from outside, for both. */
static void happen(struct pair *p, struct choices *in)
{
	struct cpu *a = &p->a.g->cpu, *b = &p->b.g->cpu;
	u8 vector = one_in(in, 4) ? pick8(in) : (u8)(32 + pick(in, 32));

	switch (pick(in, 24)) {
	case 0:
		if (a->ev.exc.pending | a->ev.exc.injected | a->ev.intr.injected | a->ev.nmi_injected)
			break;
		a->ev.intr.injected = b->ev.intr.injected = true;
		a->ev.intr.soft = b->ev.intr.soft = false;
		a->ev.intr.vector = b->ev.intr.vector = vector;
		cpu_events_changed(a);
		cpu_events_changed(b);
		break;
	case 1:
		a->ev.nmi_pending = b->ev.nmi_pending = true;
		cpu_events_changed(a);
		cpu_events_changed(b);
		break;
	case 2:
		a->want_window = b->want_window = !a->want_window;
		cpu_events_changed(a);
		cpu_events_changed(b);
		break;
	case 3:
		code_serialize(a);
		code_serialize(b);
		break;
	case 4:
		take_log(&p->a);
		take_log(&p->b);
		break;
	}
}

static void start(struct pair *p, struct choices *in)
{
	static struct guest *g[2];

	for (unsigned n = 0; n < 2; n++)
		if (!g[n])
			g[n] = guest_new();
	memset(p, 0, sizeof(*p));
	p->a = (struct machine){ .g = g[0], .name = "blocks", .local = one_in(in, 2) };
	p->b = (struct machine){ .g = g[1], .name = "steps", .single = true, .local = one_in(in, 2) };
	p->b.forgetful = !one_in(in, 3);
	p->a.more = one_in(in, 2) ? pick(in, 6) : 0;
	g[0]->cpu.code->heat = one_in(in, 4) ? 0 : 1 + pick(in, 2);
	guest_make(g[0], in);
	guest_copy_of(g[1], g[0]);
	for (unsigned n = 0; n < 2; n++) {
		g[n]->cpu.host = &host;
		g[n]->cpu.host_ctx = n ? &p->b : &p->a;
	}
	p->trace = getenv("FUZZ_TRACE");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pair p;
	static u8 memory[GUEST_BYTES];
	struct choices in;

	choices_start(&in, data, size);
	start(&p, &in);
	memcpy(memory, p.a.g->mem, GUEST_BYTES);
	for (unsigned n = 0; n < BLOCKS; n++) {
		p.start = p.a.g->cpu;
		p.accesses = p.a.accesses;
		if (p.trace)
			show(&p.a);
		if (!compare_block(&p, n % 16 == 15)) {
			if (given_up(&p))
				return 0;
			break;
		}
		if (p.trace)
			compare_memory(&p, memory);
		happen(&p, &in);
	}
	check_tlb(&p.a);
	compare_memory(&p, memory);
	return 0;
}
