// SPDX-License-Identifier: MIT
/* vCPU ioctls and KVM_RUN, through the same door as the preloaded library: kvm_open() and kvm_ioctl(). */
#include "client.h"

/* ---- state ---- */

static void regs_round_trip(void **state)
{
	struct machine *m = *state;
	struct kvm_regs a = { .rax = 1, .rbx = 2, .rcx = 3, .rdx = 4, .rsi = 5, .rdi = 6, .rsp = 7, .rbp = 8, .r8 = 9,
			      .r9 = 10, .r10 = 11, .r11 = 12, .r12 = 13, .r13 = 14, .r14 = 15, .r15 = ~0ull,
			      .rip = 0x1234, .rflags = 0x246 };
	struct kvm_regs b;

	guards_first();
	assert_int_equal(regs(m).rip, 0xfff0);
	assert_int_equal(regs(m).rflags, 2);
	assert_int_equal(call(m->vcpu, KVM_SET_REGS, &a), 0);
	b = regs(m);
	assert_memory_equal(&a, &b, sizeof(a));
	a.rflags = 0;
	assert_int_equal(call(m->vcpu, KVM_SET_REGS, &a), 0);
	assert_int_equal(regs(m).rflags, 2);
	assert_int_equal(call(m->vcpu, KVM_SET_REGS, NULL), -EFAULT);
}

static void sregs_round_trip(void **state)
{
	struct machine *m = *state;
	struct kvm_sregs a, b;
	struct kvm_sregs2 c;

	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &a), 0);
	assert_int_equal(a.cs.selector, 0xf000);
	assert_int_equal(a.cs.base, 0xffff0000);
	assert_int_equal(a.cr0, 0x60000010);
	assert_int_equal(a.apic_base, 0xfee00900);
	a.ds.base = 0x12340;
	a.ds.selector = 0x1234;
	a.fs.unusable = 1;
	a.fs.present = 0;
	a.gdt = (struct kvm_dtable){ .base = 0x1111, .limit = 0x22 };
	a.cr2 = 0xdeadbeef;
	a.cr8 = 5;
	a.interrupt_bitmap[1] = BIT64(3);
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &a), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS2, &c), 0);
	assert_int_equal(c.flags, 0);
	assert_memory_equal(&a, &c, offsetof(struct kvm_sregs, interrupt_bitmap));
}

static void sregs_invalid(void **state)
{
	struct machine *m = *state;
	struct kvm_sregs good, bad, now;
	struct kvm_sregs2 two;

	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &good), 0);
	bad = good;
	bad.cr0 = 0x80000010; /* PG without PE */
	bad.cr2 = 1;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &bad), -EINVAL);
	bad = good;
	bad.efer = 0x500; /* LMA without paging */
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &bad), -EINVAL);
	bad = good;
	bad.efer = 0x500; /* long mode without PAE */
	bad.cr0 = 0x80000011;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &bad), -EINVAL);
	bad = good;
	bad.cs.l = 1;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &bad), -EINVAL);
	bad = good;
	bad.cr4 = BIT64(63);
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &bad), -EINVAL);
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &now), 0);
	assert_memory_equal(&good, &now, sizeof(now));
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS2, &two), 0);
	two.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID; /* without PAE paging */
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS2, &two), -EINVAL);
	two.flags = 2;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS2, &two), -EINVAL);
}

static void translate(void **state)
{
	struct machine *m = *state;
	struct kvm_translation t = { .linear_address = 0x12345 };
	struct kvm_sregs s;

	assert_int_equal(call(m->vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 1);
	assert_int_equal(t.physical_address, 0x12345);
	assert_int_equal(t.writeable, 1);
	assert_int_equal(t.usermode, 0);

	/* 32-bit paging: directory at 0x2000, table at 0x3000, linear 0x400000 -> 0x5000. */
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &s), 0);
	s.cr0 = 0x80000011;
	s.cr3 = 0x2000;
	*(u32 *)(m->mem + 0x2004) = 0x3000 | 7;
	*(u32 *)(m->mem + 0x3000) = 0x5000 | 7;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &s), 0);
	t.linear_address = 0x400123;
	assert_int_equal(call(m->vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 1);
	assert_int_equal(t.physical_address, 0x5123);
	t.linear_address = 0x401000;
	assert_int_equal(call(m->vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 0);
	assert_true(t.physical_address == ~0ull);
	/* Looking does not set accessed bits. */
	assert_int_equal(*(u32 *)(m->mem + 0x3000), 0x5000 | 7);
}

static void events(void **state)
{
	struct machine *m = *state;
	struct kvm_vcpu_events e;
	struct kvm_interrupt irq = { .irq = 256 };
	struct kvm_sregs s;

	assert_int_equal(call(m->vcpu, KVM_INTERRUPT, &irq), -EINVAL);
	irq.irq = 0x42;
	assert_int_equal(call(m->vcpu, KVM_INTERRUPT, &irq), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &s), 0);
	assert_true(s.interrupt_bitmap[1] == BIT64(2));
	assert_int_equal(call(m->vcpu, KVM_NMI, NULL), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_VCPU_EVENTS, &e), 0);
	assert_int_equal(e.interrupt.injected, 1);
	assert_int_equal(e.interrupt.nr, 0x42);
	assert_int_equal(e.nmi.pending, 1);

	e.flags = 0x80000000;
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD; /* not enabled */
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = 0;
	e.exception.injected = 1;
	e.exception.nr = 2;
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.exception.nr = 32;
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.exception.nr = 13;
	e.exception.has_error_code = 1;
	e.exception.error_code = 0x18;
	e.flags = KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_NMI_PENDING;
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e.interrupt.injected = 0;
	e.nmi.pending = 0;
	e.nmi.masked = 1;
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), 0);
	memset(&e, 0, sizeof(e));
	assert_int_equal(call(m->vcpu, KVM_GET_VCPU_EVENTS, &e), 0);
	assert_int_equal(e.exception.injected, 1);
	assert_int_equal(e.exception.nr, 13);
	assert_int_equal(e.exception.error_code, 0x18);
	assert_int_equal(e.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
	assert_int_equal(e.interrupt.injected, 0);
	assert_int_equal(e.nmi.pending, 0);
	assert_int_equal(e.nmi.masked, 1);
}

static void msrs(void **state)
{
	struct machine *m = *state;
	struct {
		u32 n, pad;
		struct kvm_msr_entry e[4];
	} l = { .n = 4 };

	l.e[0].index = 0xc0000081; /* STAR */
	l.e[0].data = 0x1122334455667788;
	l.e[1].index = 0xc0000082; /* LSTAR */
	l.e[1].data = 0xffffffff81000000;
	l.e[2].index = 0xdead0000; /* no such MSR */
	l.e[3].index = 0xc0000084;
	assert_int_equal(call(m->vcpu, KVM_SET_MSRS, &l), 2);
	l.e[0].data = l.e[1].data = 0;
	assert_int_equal(call(m->vcpu, KVM_GET_MSRS, &l), 2);
	assert_true(l.e[0].data == 0x1122334455667788);
	assert_true(l.e[1].data == 0xffffffff81000000);
	l.n = 256;
	assert_int_equal(call(m->vcpu, KVM_GET_MSRS, &l), -E2BIG);
	l.n = 0;
	assert_int_equal(call(m->vcpu, KVM_GET_MSRS, &l), 0);
}

static void lists(void **state)
{
	struct machine *m = *state;
	struct {
		u32 n, index[600];
	} l = { .n = 0 };
	struct {
		u32 n, pad;
		struct kvm_cpuid_entry2 e[256];
	} *c = calloc(1, sizeof(*c)), *d = calloc(1, sizeof(*d));

	assert_int_equal(call(m->sys, KVM_GET_MSR_INDEX_LIST, &l), -E2BIG);
	assert_true(l.n > 10);
	assert_int_equal(call(m->sys, KVM_GET_MSR_INDEX_LIST, &l), 0);
	assert_true(l.index[0] != 0);

	assert_int_equal(call(m->sys, KVM_GET_SUPPORTED_CPUID, c), -E2BIG);
	c->n = 1;
	assert_int_equal(call(m->sys, KVM_GET_SUPPORTED_CPUID, c), -E2BIG);
	c->n = 256;
	assert_int_equal(call(m->sys, KVM_GET_SUPPORTED_CPUID, c), 0);
	assert_true(c->n > 5 && c->n < 256);
	assert_int_equal(call(m->vcpu, KVM_SET_CPUID2, c), 0);
	d->n = c->n - 1;
	assert_int_equal(call(m->vcpu, KVM_GET_CPUID2, d), -E2BIG);
	d->n = 256;
	assert_int_equal(call(m->vcpu, KVM_GET_CPUID2, d), 0);
	assert_int_equal(d->n, c->n);
	/* The sizes in leaf 0xd are those of the current XCR0. */
	for (u32 n = 0; n < c->n; n++)
		if (c->e[n].function != 0xd)
			assert_memory_equal(&c->e[n], &d->e[n], sizeof(c->e[n]));
	c->n = 257;
	assert_int_equal(call(m->vcpu, KVM_SET_CPUID2, c), -E2BIG);
	free(c);
	free(d);
}

static void small_state(void **state)
{
	struct machine *m = *state;
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };
	struct kvm_debugregs dr = { .dr6 = BIT64(32) }, dr2;
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = 0 } };
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	struct kvm_clock_data clock, clock2;
	u64 offset = 12345, got;
	u8 mask[12] = { 4 };

	assert_int_equal(call(m->vcpu, KVM_SET_MP_STATE, &mp), -EINVAL);
	assert_int_equal(call(m->vcpu, KVM_GET_MP_STATE, &mp), 0);
	assert_int_equal(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	assert_int_equal(call(m->vcpu, KVM_SET_MP_STATE, &mp), 0);

	assert_int_equal(call(m->vcpu, KVM_SET_DEBUGREGS, &dr), -EINVAL);
	dr = (struct kvm_debugregs){ .db = { 1, 2, 3, 4 }, .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	assert_int_equal(call(m->vcpu, KVM_SET_DEBUGREGS, &dr), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_DEBUGREGS, &dr2), 0);
	assert_memory_equal(&dr, &dr2, sizeof(dr));

	assert_int_equal(call(m->vcpu, KVM_SET_XCRS, &x), -EINVAL);
	x.xcrs[0].value = 1;
	assert_int_equal(call(m->vcpu, KVM_SET_XCRS, &x), 0);

	assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, mask), -EINVAL);
	mask[0] = 8;
	assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, mask), 0);
	assert_int_equal(call(m->vcpu, KVM_SET_SIGNAL_MASK, NULL), 0);

	assert_true(call(m->vcpu, KVM_GET_TSC_KHZ, NULL) > 1000);
	assert_int_equal(kvm_ioctl(m->vcpu, KVM_SET_TSC_KHZ, 1000000), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_TSC_KHZ, NULL), 1000000);
	assert_int_equal(kvm_ioctl(m->vcpu, KVM_SET_TSC_KHZ, 0), 0);

	attr.addr = (u64)(uintptr_t)&offset;
	assert_int_equal(call(m->vcpu, KVM_SET_DEVICE_ATTR, &attr), 0);
	attr.addr = (u64)(uintptr_t)&got;
	assert_int_equal(call(m->vcpu, KVM_GET_DEVICE_ATTR, &attr), 0);
	assert_int_equal(got, offset);
	attr.attr = 7;
	assert_int_equal(call(m->vcpu, KVM_HAS_DEVICE_ATTR, &attr), -ENXIO);

	assert_int_equal(call(m->vm, KVM_GET_CLOCK, &clock), 0);
	assert_true(clock.flags & KVM_CLOCK_TSC_STABLE);
	assert_true(clock.clock < 10000000000ull);
	clock.clock = 1ull << 50;
	clock.flags = 0;
	assert_int_equal(call(m->vm, KVM_SET_CLOCK, &clock), 0);
	assert_int_equal(call(m->vm, KVM_GET_CLOCK, &clock2), 0);
	assert_true(clock2.clock - clock.clock < 1000000000ull);
	clock.flags = 1;
	assert_int_equal(call(m->vm, KVM_SET_CLOCK, &clock), -EINVAL);
	assert_int_equal(call(m->vcpu, KVM_KVMCLOCK_CTRL, NULL), -EINVAL);
	assert_int_equal(call(m->vcpu, KVM_DEBUG_GUEST, NULL), -EINVAL);
}

/* PAE paging: the page-directory pointers come from memory, or from the client. */
static void pdptrs(void **state)
{
	struct machine *m = *state;
	struct kvm_sregs s;
	struct kvm_sregs2 two;
	struct kvm_translation t = { .linear_address = 0x200123 };

	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &s), 0);
	*(u64 *)(m->mem + 0x2000) = 0x3001;
	*(u64 *)(m->mem + 0x3008) = 0x4003; /* directory, entry 1 */
	*(u64 *)(m->mem + 0x4000) = 0x5003; /* table, entry 0 */
	s.cr0 = 0x80000011;
	s.cr3 = 0x2000;
	s.cr4 = 0x20;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS2, &two), 0);
	assert_int_equal(two.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	assert_int_equal(two.pdptrs[0], 0x3001);
	assert_int_equal(call(m->vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.physical_address, 0x5123);
	*(u64 *)(m->mem + 0x6008) = 0x4003;
	*(u64 *)(m->mem + 0x4000) = 0x7003;
	two.pdptrs[0] = 0x6001;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS2, &two), 0);
	assert_int_equal(call(m->vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.physical_address, 0x7123);
	assert_int_equal(*(u64 *)(m->mem + 0x2000), 0x3001);
}

static u64 tsc_offset(int vcpu)
{
	u64 offset = 0;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET,
					.addr = (u64)(uintptr_t)&offset };

	assert_int_equal(call(vcpu, KVM_GET_DEVICE_ATTR, &attr), 0);
	return offset;
}

static void set_msr(int vcpu, u32 index, u64 data)
{
	struct {
		u32 n, pad;
		struct kvm_msr_entry e;
	} l = { .n = 1, .e = { .index = index, .data = data } };

	assert_int_equal(call(vcpu, KVM_SET_MSRS, &l), 1);
}

/* The TSCs of a VM are equal although the client sets them one after the other. */
static void tsc_in_step(void **state)
{
	struct machine *m = *state;
	int other = kvm_ioctl(m->vm, KVM_CREATE_VCPU, 1);
	u64 first = tsc_offset(m->vcpu);

	assert_true(other >= 0);
	assert_true(tsc_offset(other) == first);
	set_msr(m->vcpu, 0x10, 1ull << 50);
	assert_true(tsc_offset(m->vcpu) != first);
	set_msr(other, 0x10, 1ull << 50);
	assert_true(tsc_offset(other) == tsc_offset(m->vcpu));
	set_msr(other, 0x10, 1ull << 51);
	assert_true(tsc_offset(other) != tsc_offset(m->vcpu));
	close(other);
}

/* What a guest computes from the page that kvmclock shows it (asm/pvclock.h), with the TSC of now. */
static u64 guest_clock(const u8 *page, u64 offset)
{
	struct {
		u32 version, pad;
		u64 tsc, ns;
		u32 mul;
		s8 shift;
		u8 flags, pad2[2];
	} t;
	u64 delta;

	memcpy(&t, page, sizeof(t));
	delta = __builtin_ia32_rdtsc() + offset - t.tsc;
	delta = t.shift < 0 ? delta >> -t.shift : delta << t.shift;
	return t.ns + (u64)(((unsigned __int128)delta * t.mul) >> 32);
}

/* The page follows what the client does. */
static void kvmclock(void **state)
{
	struct machine *m = *state;
	static const u8 code[] = { 0xf4, 0xf4, 0xf4, 0xf4 };
	struct kvm_clock_data clock = { .clock = 1ull << 52 };
	const u8 *page = m->mem + 0x3000;
	u64 offset = tsc_offset(m->vcpu), ns;

	load(m, code, sizeof(code));
	set_msr(m->vcpu, 0x4b564d01, 0x3001);
	assert_int_equal(run(m), 0);
	ns = guest_clock(page, offset);
	assert_true(ns > 0 && ns < 10000000000ull);
	assert_int_equal(call(m->vm, KVM_GET_CLOCK, &clock), 0);
	assert_true(clock.clock - ns < 100000000);
	assert_int_equal(page[0] & 1, 0);
	assert_int_equal(page[29], 1); /* the TSC is stable */
	clock = (struct kvm_clock_data){ .clock = 1ull << 52 };
	assert_int_equal(call(m->vm, KVM_SET_CLOCK, &clock), 0);
	assert_int_equal(call(m->vcpu, KVM_KVMCLOCK_CTRL, NULL), 0);
	assert_int_equal(run(m), 0);
	ns = guest_clock(page, offset);
	assert_true(ns - (1ull << 52) < 10000000000ull);
	assert_int_equal(page[29], 3); /* and the guest was stopped */
}

static void xstate(void **state)
{
	struct machine *m = *state;
	struct kvm_fpu a, b;
	struct kvm_xsave *x = aligned_alloc(64, sizeof(*x)), *y = aligned_alloc(64, sizeof(*y));

	assert_int_equal(call(m->vcpu, KVM_GET_FPU, &a), 0);
	assert_int_equal(a.fcw, 0x37f);
	assert_int_equal(a.ftwx, 0);
	memset(a.xmm, 0x5a, sizeof(a.xmm));
	memset(a.fpr[0], 0x11, 10);
	a.ftwx = 1;
	a.fcw = 0x27f;
	assert_int_equal(call(m->vcpu, KVM_SET_FPU, &a), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_FPU, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));

	assert_int_equal(call(m->vcpu, KVM_GET_XSAVE, x), 0);
	assert_memory_equal((u8 *)x->region + 160, a.xmm, sizeof(a.xmm));
	memset((u8 *)x->region + 160, 0x77, 16);
	assert_int_equal(call(m->vcpu, KVM_SET_XSAVE, x), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_XSAVE, y), 0);
	assert_memory_equal(x, y, sizeof(*x));
	x->region[6] = 0xffffffff; /* reserved MXCSR bits */
	assert_int_equal(call(m->vcpu, KVM_SET_XSAVE, x), -EINVAL);
	free(x);
	free(y);
}

/* ---- runs ---- */

static void run_out_in_hlt(void **state)
{
	struct machine *m = *state;
	/* mov al,42h; out 10h,al; in ax,20h; hlt */
	static const u8 code[] = { 0xb0, 0x42, 0xe6, 0x10, 0xe5, 0x20, 0xf4 };

	load(m, code, sizeof(code));
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(m->run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(m->run->io.size, 1);
	assert_int_equal(m->run->io.port, 0x10);
	assert_int_equal(m->run->io.count, 1);
	assert_int_equal(*((u8 *)m->run + m->run->io.data_offset), 0x42);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(m->run->io.direction, KVM_EXIT_IO_IN);
	assert_int_equal(m->run->io.size, 2);
	*(u16 *)((u8 *)m->run + m->run->io.data_offset) = 0xbeef;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rax, 0xbeef);
	assert_int_equal(regs(m).rip, CODE + sizeof(code));
}

static void run_mmio(void **state)
{
	struct machine *m = *state;
	/* mov ax,2000h; mov ds,ax; mov eax,[0]; inc eax; mov [4],eax; lock inc byte [8]; hlt */
	static const u8 code[] = { 0xb8, 0x00, 0x20, 0x8e, 0xd8, 0x66, 0xa1, 0x00, 0x00, 0x66, 0x40,
				   0x66, 0xa3, 0x04, 0x00, 0xf0, 0xfe, 0x06, 0x08, 0x00, 0xf4 };

	load(m, code, sizeof(code));
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(m->run->mmio.phys_addr, MMIO_GPA);
	assert_int_equal(m->run->mmio.len, 4);
	assert_int_equal(m->run->mmio.is_write, 0);
	*(u32 *)m->run->mmio.data = 0x12345677;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(m->run->mmio.phys_addr, MMIO_GPA + 4);
	assert_int_equal(m->run->mmio.is_write, 1);
	assert_int_equal(*(u32 *)m->run->mmio.data, 0x12345678);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(m->run->mmio.phys_addr, MMIO_GPA + 8);
	assert_int_equal(m->run->mmio.is_write, 0);
	m->run->mmio.data[0] = 0x7f;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(m->run->mmio.is_write, 1);
	assert_int_equal(m->run->mmio.data[0], 0x80);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rax, 0x12345678);
}

/* immediate_exit finishes what is pending, and nothing else. */
static void run_immediate_exit(void **state)
{
	struct machine *m = *state;
	/* in al,10h; inc bx; hlt */
	static const u8 code[] = { 0xe4, 0x10, 0x43, 0xf4 };

	load(m, code, sizeof(code));
	m->run->immediate_exit = 1;
	assert_int_equal(run(m), -EINTR);
	assert_int_equal(regs(m).rip, CODE);
	m->run->immediate_exit = 0;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(regs(m).rip, CODE);
	*((u8 *)m->run + m->run->io.data_offset) = 0x99;
	m->run->immediate_exit = 1;
	assert_int_equal(run(m), -EINTR);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IO); /* nothing ran that would have exited */
	assert_int_equal(regs(m).rip, CODE + 2);
	assert_int_equal(regs(m).rax, 0x99);
	assert_int_equal(regs(m).rbx, 0);
	m->run->immediate_exit = 0;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rbx, 1);
}

/* A client that moves RIP away does not want its answer to be used any more. */
static void run_answer_dropped(void **state)
{
	struct machine *m = *state;
	/* in al,10h; hlt; hlt */
	static const u8 code[] = { 0xe4, 0x10, 0xf4, 0xf4 };
	struct kvm_regs r;

	load(m, code, sizeof(code));
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IO);
	*((u8 *)m->run + m->run->io.data_offset) = 0x99;
	r = regs(m);
	r.rip = CODE + 3;
	assert_int_equal(call(m->vcpu, KVM_SET_REGS, &r), 0);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rax, 0);
	assert_int_equal(regs(m).rip, CODE + 4);
}

static void run_inputs(void **state)
{
	struct machine *m = *state;
	static const u8 code[] = { 0xf4 };

	load(m, code, sizeof(code));
	assert_int_equal(kvm_ioctl(m->vcpu, KVM_RUN, 1), -EINVAL);
	m->run->cr8 = 16;
	assert_int_equal(run(m), -EINVAL);
	assert_int_equal(m->run->cr8, 0);
	m->run->kvm_valid_regs = 8;
	assert_int_equal(run(m), -EINVAL);
	m->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	m->run->cr8 = 3;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(m->run->cr8, 3);
	assert_int_equal(m->run->s.regs.sregs.cr8, 3);
	assert_int_equal(m->run->s.regs.regs.rip, CODE + 1);
	assert_int_equal(m->run->apic_base, 0xfee00900);
	m->run->s.regs.regs.rip = CODE;
	m->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->kvm_dirty_regs, 0);
	assert_int_equal(m->run->s.regs.regs.rip, CODE + 1);
}

static void run_window_and_interrupt(void **state)
{
	struct machine *m = *state;
	/* cli; sti; nop; nop; hlt ... handler at 0x2000: mov bl,1; iret */
	static const u8 code[] = { 0xfa, 0xfb, 0x90, 0x90, 0xf4 };
	static const u8 handler[] = { 0xb3, 0x01, 0xcf };
	struct kvm_interrupt irq = { .irq = 0x20 };

	load(m, code, sizeof(code));
	memcpy(m->mem + 0x2000, handler, sizeof(handler));
	*(u32 *)(m->mem + 0x20 * 4) = 0x2000;
	m->run->request_interrupt_window = 1;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_IRQ_WINDOW_OPEN);
	assert_int_equal(m->run->ready_for_interrupt_injection, 1);
	assert_int_equal(m->run->if_flag, 1);
	assert_int_equal(regs(m).rip, CODE + 3); /* one instruction after STI */
	m->run->request_interrupt_window = 0;
	assert_int_equal(call(m->vcpu, KVM_INTERRUPT, &irq), 0);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rbx, 1);
}

static void run_shutdown(void **state)
{
	struct machine *m = *state;
	static const u8 code[] = { 0x0f, 0x0b }; /* ud2, and no IDT */
	struct kvm_sregs s;

	load(m, code, sizeof(code));
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &s), 0);
	s.idt.limit = 0;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_SHUTDOWN);
}

static void run_lost_memory(void **state)
{
	struct machine *m = *state;
	/* mov ax,[5000h]; hlt */
	static const u8 code[] = { 0xa1, 0x00, 0x50, 0xf4 };

	guards_first();
	load(m, code, sizeof(code));
	munmap(m->mem + 0x5000, 0x1000);
	assert_int_equal(run(m), -EFAULT);
	assert_int_equal(regs(m).rip, CODE);
	mmap(m->mem + 0x5000, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	*(u16 *)(m->mem + 0x5000) = 0x77;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rax, 0x77);
}

static void enable_cap(struct machine *m, u32 cap, u64 arg)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	assert_int_equal(call(m->vm, KVM_ENABLE_CAP, &c), 0);
}

static void run_msr_exits(void **state)
{
	struct machine *m = *state;
	/* mov ecx,12345678h; rdmsr; wrmsr; hlt. #GP goes to 0x2000: mov bl,1; hlt */
	static const u8 code[] = { 0x66, 0xb9, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x32, 0x0f, 0x30, 0xf4 };
	static const u8 handler[] = { 0xb3, 0x01, 0xf4 };

	enable_cap(m, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
	load(m, code, sizeof(code));
	memcpy(m->mem + 0x2000, handler, sizeof(handler));
	*(u32 *)(m->mem + 13 * 4) = 0x2000;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_X86_RDMSR);
	assert_int_equal(m->run->msr.index, 0x12345678);
	assert_int_equal(m->run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	m->run->msr.data = 0x1111222233334444;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_X86_WRMSR);
	assert_true(m->run->msr.data == 0x1111222233334444);
	assert_int_equal(regs(m).rax, 0x33334444);
	assert_int_equal(regs(m).rdx, 0x11112222);
	m->run->msr.error = 1;
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(regs(m).rbx, 1);
}

static void run_msr_filter(void **state)
{
	struct machine *m = *state;
	/* mov ecx,0c0000081h; rdmsr; hlt */
	static const u8 code[] = { 0x66, 0xb9, 0x81, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0xf4 };
	u64 bitmap = 0;
	struct kvm_msr_filter f = { .flags = 2 };

	assert_int_equal(call(m->vm, KVM_X86_SET_MSR_FILTER, &f), -EINVAL);
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	assert_int_equal(call(m->vm, KVM_X86_SET_MSR_FILTER, &f), -EINVAL); /* denies all, without a range */
	f.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
	f.ranges[0] = (struct kvm_msr_filter_range){ .nmsrs = 8, .base = 0xc0000080, .bitmap = (u8 *)&bitmap };
	assert_int_equal(call(m->vm, KVM_X86_SET_MSR_FILTER, &f), -EINVAL); /* neither read nor write */
	f.ranges[0].flags = KVM_MSR_FILTER_READ;
	assert_int_equal(call(m->vm, KVM_X86_SET_MSR_FILTER, &f), 0);
	enable_cap(m, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	load(m, code, sizeof(code));
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_X86_RDMSR);
	assert_int_equal(m->run->msr.reason, KVM_MSR_EXIT_REASON_FILTER);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_HLT);
}

static void run_single_step(void **state)
{
	struct machine *m = *state;
	static const u8 code[] = { 0x40, 0x43, 0xcc, 0xf4 }; /* inc ax; inc bx; int3; hlt */
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

	load(m, code, sizeof(code));
	assert_int_equal(call(m->vcpu, KVM_SET_GUEST_DEBUG, &d), 0);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_DEBUG);
	assert_int_equal(m->run->debug.arch.exception, 1);
	assert_int_equal(m->run->debug.arch.pc, CODE + 1);
	assert_true(m->run->debug.arch.dr6 & 0x4000);
	assert_int_equal(regs(m).rflags, 2); /* no TF of ours */
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	assert_int_equal(call(m->vcpu, KVM_SET_GUEST_DEBUG, &d), 0);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_DEBUG);
	assert_int_equal(m->run->debug.arch.exception, 3);
	assert_int_equal(m->run->debug.arch.pc, CODE + 2);
	assert_int_equal(regs(m).rip, CODE + 2);
}

/* A triple fault that KVM_SET_VCPU_EVENTS brings back; a state that no CPU can enter. */
static void run_refused(void **state)
{
	struct machine *m = *state;
	static const u8 code[] = { 0xf4 };
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT, .triple_fault.pending = 1 };
	struct kvm_sregs s;

	load(m, code, sizeof(code));
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	enable_cap(m, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
	assert_int_equal(call(m->vcpu, KVM_SET_VCPU_EVENTS, &e), 0);
	assert_int_equal(call(m->vcpu, KVM_GET_VCPU_EVENTS, &e), 0);
	assert_int_equal(e.triple_fault.pending, 1);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_SHUTDOWN);
	assert_int_equal(call(m->vcpu, KVM_GET_SREGS, &s), 0);
	s.cr0 |= 1;
	s.cs.unusable = 1;
	assert_int_equal(call(m->vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(run(m), 0);
	assert_int_equal(m->run->exit_reason, KVM_EXIT_FAIL_ENTRY);
	assert_true(m->run->fail_entry.hardware_entry_failure_reason == 0x80000021);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(regs_round_trip), TEST(sregs_round_trip), TEST(sregs_invalid), TEST(translate), TEST(events),
		TEST(msrs), TEST(lists), TEST(small_state), TEST(xstate),
		TEST(pdptrs), TEST(tsc_in_step), TEST(kvmclock),
		TEST(run_out_in_hlt), TEST(run_mmio), TEST(run_immediate_exit), TEST(run_answer_dropped),
		TEST(run_inputs), TEST(run_window_and_interrupt), TEST(run_shutdown), TEST(run_lost_memory),
		TEST(run_msr_exits), TEST(run_msr_filter), TEST(run_single_step), TEST(run_refused),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
