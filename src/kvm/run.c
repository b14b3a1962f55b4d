// SPDX-License-Identifier: MIT
/*
 * KVM_RUN (api.rst 4.10 and 5): what the client answered goes in, the engine runs, why it stopped comes out.
 *
 * An answer is marked and the engine told to run the instruction that asked before anything else (ATTN_RESUME), so an
 * access is complete after the next KVM_RUN, whatever else that call does; also with immediate_exit or a signal.
 */
#include <string.h>

#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "cpu/tsc.h"
#include "interp/interp.h"
#include "jit/jit.h"
#include "kvm/signal.h"
#include "kvm/stats.h"
#include "kvm/vcpu.h"
#include "mem/code.h"
#include "os/guard.h"
#include "os/sys.h"

/* hardware_entry_failure_reason of a processor that was given a state it cannot run (SDM vol. 3, 27.8). */
#define FAIL_INVALID_GUEST_STATE 0x80000021u
/* SDM vol. 3, appendix C */
#define EXIT_REASON_EPT_MISCONFIG 49

/* Is addr the client's memory under a slot? Asked by the SIGSEGV handler, on the thread of this vCPU. */
static bool owns_memory(void *ctx, u64 addr)
{
	const struct vcpu *v = ctx;
	const struct memmap *m = v->cpu.map;

	for (u32 n = 0; m && n < m->nr_slots; n++)
		if (addr - (u64)(uintptr_t)m->slot[n].hva < m->slot[n].size)
			return true;
	return false;
}

int vcpu_with_memory(struct vcpu *v, int (*fn)(struct vcpu *v, void *arg), void *arg)
{
	struct os_guard g;
	int ret;

	vcpu_enter(v);
	if (os_guard_enter(&g, owns_memory, v)) {
		ret = -EFAULT;
	} else {
		ret = fn(v, arg);
		os_guard_leave(&g);
	}
	vcpu_leave(v);
	return ret;
}

/* ---- in ---- */

/* KVM_CAP_SYNC_REGS: registers that the client wrote into kvm_run instead of making an ioctl. */
static int take_sync_regs(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct kvm_sync_regs *s = &run->s.regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;

	if ((run->kvm_valid_regs | run->kvm_dirty_regs) & ~KVM_SYNC_X86_VALID_FIELDS)
		return -EINVAL;
	if (run->kvm_dirty_regs & KVM_SYNC_X86_REGS) {
		struct kvm_regs regs = s->regs;

		vcpu_set_regs(v, &regs);
		run->kvm_dirty_regs &= ~KVM_SYNC_X86_REGS;
	}
	/* Copies: the client may write kvm_run while these are being checked. */
	if (run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) {
		sregs = s->sregs;
		if (vcpu_set_sregs(v, &sregs))
			return -EINVAL;
		run->kvm_dirty_regs &= ~KVM_SYNC_X86_SREGS;
	}
	if (run->kvm_dirty_regs & KVM_SYNC_X86_EVENTS) {
		events = s->events;
		if (vcpu_set_vcpu_events(v, &events))
			return -EINVAL;
		run->kvm_dirty_regs &= ~KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

/*
 * The specification has kvm_run::apic_base as an input too. Newer kernels ignore it, so clients leave it alone, or
 * clear all of kvm_run: only another value than was put there, and one that can be, is meant.
 */
static void take_apic_base(struct vcpu *v, u64 base)
{
	if (base && base != v->apic_base_told && cpu_apic_base_valid(&v->cpu, base))
		v->cpu.msr.apic_base = base;
}

static int take_input(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	int err;

	if (unlikely(run->kvm_valid_regs | run->kvm_dirty_regs)) {
		err = take_sync_regs(v);
		if (err)
			return err;
	}
	if (run->cr8 & ~0xfull)
		return -EINVAL;
	v->cpu.cr8 = run->cr8;
	take_apic_base(v, run->apic_base);
	return 0;
}

/* The client moved RIP away from the instruction that asked: nobody wants the answer any more. */
static void drop_answer(struct vcpu *v)
{
	struct cpu *c = &v->cpu;

	io_log_clear(c);
	c->pio.pending = c->pio.answered = false;
	v->msr.answered = false;
	cpu_attn_clear(c, ATTN_RESUME);
	cpu_events_changed(c);
}

static void take_mmio(struct cpu *c, const struct kvm_run *run)
{
	struct io_access *a;

	if (!c->io.n)
		return;
	a = &c->io.acc[c->io.n - 1];
	memcpy(&a->data, run->mmio.data, sizeof(a->data));
	a->answered = true;
}

static void take_answer(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct cpu *c = &v->cpu;
	u32 asked = v->asked;

	if (asked == EXIT_NONE)
		return;
	v->asked = EXIT_NONE;
	if (vcpu_linear_pc(v) != v->asked_pc) {
		drop_answer(v);
		return;
	}
	switch (asked) {
	case EXIT_IO:
		c->pio.answered = true;
		break;
	case EXIT_MMIO:
		take_mmio(c, run);
		break;
	case EXIT_MSR_READ:
	case EXIT_MSR_WRITE:
		v->msr.answered = true;
		v->msr.error = run->msr.error;
		v->msr.write = asked == EXIT_MSR_WRITE;
		v->msr.index = c->exit.msr.index;
		v->msr.data = run->msr.data;
		break;
	case EXIT_HYPERCALL: /* complete but for its result */
		c->gpr[RAX] = run->hypercall.longmode ? run->hypercall.ret : (u32)run->hypercall.ret;
		return;
	}
	cpu_attn(c, ATTN_RESUME);
}

/* ---- the run ---- */

/*
 * States that KVM_SET_SREGS lets pass and no processor can enter: what the client asked for would not be what runs.
 * (SDM vol. 3, 27.3.1)
 */
static bool can_enter(const struct cpu *c)
{
	u32 cs = c->seg[SEG_CS].attr;

	if (cpu_long_mode(c) && (c->rflags & FL_VM))
		return false;
	if (!(c->cr0 & CR0_PE) || (c->rflags & FL_VM))
		return true;
	/* CS must be usable: code, or (unrestricted guest) a read/write data segment; not both 64-bit and 32-bit. */
	if ((cs & ATTR_UNUSABLE) || !(cs & ATTR_S) || (!(cs & 8) && (cs & 0xf) != 3))
		return false;
	return !cpu_long_mode(c) || (cs & (ATTR_L | ATTR_DB)) != (ATTR_L | ATTR_DB);
}

static u64 recover(void *ctx, u64 ip)
{
	const struct vcpu *v = ctx;

	return jit_recover(&v->cpu, ip);
}

/* The engine under its guard. Not inlined: os_guard_enter() returns twice. */
static __attribute__((noinline)) enum exit_reason run_guarded(struct vcpu *v)
{
	struct os_guard g;
	enum exit_reason why;

	if (os_guard_enter(&g, owns_memory, v)) {
		interp_unwind(&v->cpu);
		return EXIT_EFAULT;
	}
	g.recover = recover;
	if (unlikely(v->cpu.clock_due | v->pvclock_stopped))
		vcpu_update_pvclock(v);
	why = interp_run(&v->cpu);
	os_guard_leave(&g);
	return why;
}

static enum exit_reason run_engine(struct vcpu *v)
{
	struct cpu *c = &v->cpu;
	struct fpu_host host;
	enum exit_reason why;

	v->has_run = true;
	c->want_window = v->run->request_interrupt_window;
	if (c->want_window)
		cpu_events_changed(c);
	vcpu_enter(v);
	/* The client may have written code since the last time (design rule 5). */
	code_serialize(c);
	fpu_host_enter(&host);
	if (unlikely(v->stats != NULL)) {
		u64 start = host_clock_ns();

		why = run_guarded(v);
		stats_guest(v, start);
	} else {
		why = run_guarded(v);
	}
	fpu_host_leave(&host);
	vcpu_leave(v);
	return why;
}

/* ---- out ---- */

static void put_io(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;
	struct kvm_run *run = v->run;

	run->io.direction = e->io.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = e->io.size;
	run->io.port = e->io.port;
	run->io.count = e->io.count;
	run->io.data_offset = PAGE_SIZE;
}

static void put_mmio(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;
	struct kvm_run *run = v->run;

	run->mmio.phys_addr = e->mmio.gpa;
	memcpy(run->mmio.data, e->mmio.data, sizeof(run->mmio.data));
	run->mmio.len = e->mmio.len;
	run->mmio.is_write = e->mmio.write;
}

static void put_debug(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;

	v->run->debug.arch = (struct kvm_debug_exit_arch){
		.exception = e->debug.vector,
		.pc = e->debug.pc,
		.dr6 = e->debug.dr6,
		.dr7 = e->debug.dr7,
	};
}

/* KVM_CAP_EXIT_ON_EMULATION_FAILURE's layout; the bytes are there whenever they could be fetched. */
static void put_internal(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;
	struct kvm_run *run = v->run;

	memset(&run->emulation_failure, 0, sizeof(run->emulation_failure));
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 1; /* u64s behind ndata: the flags, then 16 bytes of instruction */
	if (!e->insn.len)
		return;
	run->emulation_failure.ndata = 3;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = e->insn.len;
	memset(run->emulation_failure.insn_bytes, 0x90, sizeof(run->emulation_failure.insn_bytes));
	memcpy(run->emulation_failure.insn_bytes, e->insn.bytes, e->insn.len);
}

/* What the kernel's KVM tells on an Intel host, where a device is a page of which EPT has a misconfigured entry. */
static void put_delivery(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;
	struct kvm_run *run = v->run;
	u32 cpu = 0;

	os_sys(SYS_getcpu, (long)&cpu, 0, 0, 0, 0, 0);
	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 5;
	run->internal.data[0] = e->delivery.vectoring;
	run->internal.data[1] = EXIT_REASON_EPT_MISCONFIG;
	run->internal.data[2] = 0; /* exit qualification: undefined for this reason */
	run->internal.data[3] = e->delivery.gpa;
	run->internal.data[4] = cpu;
}

static void put_msr(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;
	struct kvm_run *run = v->run;

	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = e->msr.why;
	run->msr.index = e->msr.index;
	run->msr.data = e->msr.data;
}

static void put_hypercall(struct vcpu *v)
{
	const struct exit *e = &v->cpu.exit;
	struct kvm_run *run = v->run;

	run->hypercall.nr = e->hypercall.nr;
	memcpy(run->hypercall.args, e->hypercall.args, sizeof(run->hypercall.args));
	run->hypercall.ret = 0;
	run->hypercall.longmode = e->hypercall.longmode;
}

/* Which exit_reason, what to put into kvm_run beside it, and whether the client has to answer. */
static const struct {
	u32 reason;
	bool asks;
	int ret;
	void (*put)(struct vcpu *v);
} exits[] = {
	[EXIT_NONE] = { KVM_EXIT_UNKNOWN },
	[EXIT_IO] = { KVM_EXIT_IO, .asks = true, .put = put_io },
	[EXIT_MMIO] = { KVM_EXIT_MMIO, .asks = true, .put = put_mmio },
	[EXIT_HLT] = { KVM_EXIT_HLT },
	[EXIT_WINDOW] = { KVM_EXIT_IRQ_WINDOW_OPEN },
	[EXIT_SHUTDOWN] = { KVM_EXIT_SHUTDOWN },
	[EXIT_INTR] = { KVM_EXIT_INTR, .ret = -EINTR },
	[EXIT_DEBUG] = { KVM_EXIT_DEBUG, .put = put_debug },
	[EXIT_INTERNAL] = { KVM_EXIT_INTERNAL_ERROR, .put = put_internal },
	[EXIT_DELIVERY] = { KVM_EXIT_INTERNAL_ERROR, .put = put_delivery },
	[EXIT_MSR_READ] = { KVM_EXIT_X86_RDMSR, .asks = true, .put = put_msr },
	[EXIT_MSR_WRITE] = { KVM_EXIT_X86_WRMSR, .asks = true, .put = put_msr },
	[EXIT_HYPERCALL] = { KVM_EXIT_HYPERCALL, .asks = true, .put = put_hypercall },
	[EXIT_EFAULT] = { KVM_EXIT_UNKNOWN, .ret = -EFAULT },
	[EXIT_TPR] = { KVM_EXIT_SET_TPR },
};

static int put_exit(struct vcpu *v, enum exit_reason why)
{
	if (unlikely(v->stats != NULL))
		v->stats->exits[why]++;
	v->run->exit_reason = exits[why].reason;
	if (exits[why].put)
		exits[why].put(v);
	if (exits[why].asks) {
		v->asked = why;
		v->asked_pc = vcpu_linear_pc(v);
	}
	return exits[why].ret;
}

static int put_fail_entry(struct vcpu *v)
{
	if (unlikely(v->stats != NULL))
		v->stats->fail_entry++;
	v->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	v->run->fail_entry.hardware_entry_failure_reason = FAIL_INVALID_GUEST_STATE;
	v->run->fail_entry.cpu = 0;
	return 0;
}

static void put_output(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 want = run->kvm_valid_regs;

	if (unlikely(want & KVM_SYNC_X86_VALID_FIELDS)) {
		if (want & KVM_SYNC_X86_REGS)
			vcpu_get_regs(v, &run->s.regs.regs);
		if (want & KVM_SYNC_X86_SREGS)
			vcpu_get_sregs(v, &run->s.regs.sregs);
		if (want & KVM_SYNC_X86_EVENTS)
			vcpu_get_vcpu_events(v, &run->s.regs.events);
	}
	run->if_flag = !!(v->cpu.rflags & FL_IF);
	run->cr8 = v->cpu.cr8;
	run->apic_base = v->apic_base_told = v->cpu.msr.apic_base;
	run->ready_for_interrupt_injection = vcpu_ready_for_interrupt(v);
}

/* ---- the ioctl ---- */

static int run_until_exit(struct vcpu *v)
{
	enum exit_reason why;
	bool immediate;

	/*
	 * From here on a signal sets ATTN_KICK; only then immediate_exit is read. A client's handler that sets it runs
	 * either before that, or its signal is the kick.
	 */
	signal_run_begin(v);
	immediate = *(volatile u8 *)&v->run->immediate_exit;
	if (immediate)
		cpu_attn(&v->cpu, ATTN_KICK);
	if (unlikely(v->triple_fault) && !immediate) {
		v->triple_fault = false;
		return put_exit(v, EXIT_SHUTDOWN);
	}
	if (unlikely(!can_enter(&v->cpu)) && !immediate)
		return put_fail_entry(v);
	why = run_engine(v);
	/*
	 * Nothing ran: what kvm_run tells is still the exit before, and clients look at it after they completed that.
	 */
	return immediate && why == EXIT_INTR ? -EINTR : put_exit(v, why);
}

static int run_once(struct vcpu *v)
{
	int ret;

	v->run->flags = 0;
	ret = take_input(v);
	if (!ret) {
		take_answer(v);
		ret = run_until_exit(v);
		signal_run_end(v);
	}
	put_output(v);
	return ret;
}

int vcpu_run(struct vcpu *v, void *arg)
{
	u64 start;
	int ret;

	(void)arg;
	if (likely(!v->stats))
		return run_once(v);
	stats_run_begin(v, &start);
	ret = run_once(v);
	stats_run_end(v, start);
	return ret;
}
