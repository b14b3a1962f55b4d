// SPDX-License-Identifier: MIT
/* KVM_INTERRUPT, interrupt windows, cr8, apic_base (spec 4.15 and 5). */
#include "guest.h"

static void vector(struct machine *m, u8 vec, u16 ip)
{
	*(u16 *)(m->mem + 4 * vec) = ip;
	*(u16 *)(m->mem + 4 * vec + 2) = 0;
}

static int interrupt(struct machine *m, u32 irq)
{
	struct kvm_interrupt i = { .irq = irq };

	return ioctl(m->vcpu, KVM_INTERRUPT, &i);
}

TEST(interrupt_is_taken_at_once_when_enabled)
{
	struct machine m = machine_new(MIB);

	vector(&m, 0x20, 0x1100);
	CODE(&m, 0x1000, 0xeb, 0xfe);       /* jmp . */
	CODE(&m, 0x1100, 0xb0, 0x77, 0xf4); /* mov al, 0x77; hlt */
	start_real(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 0x202, .rsp = 0x8000 });
	OK(interrupt(&m, 0x20));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax & 0xff, 0x77);
	CHECK_EQ(*(u16 *)(m.mem + 0x8000 - 6), 0x1000);
	CHECK_EQ(m.run->if_flag, 0);
}

TEST(interrupt_waits_for_if)
{
	struct machine m = machine_new(MIB);

	vector(&m, 0x20, 0x1100);
	CODE(&m, 0x1000, 0x40, 0xfb, 0x40, 0x40, 0xf4); /* inc ax; sti; inc ax; inc ax; hlt */
	CODE(&m, 0x1100, 0xf4);
	start_real(&m, 0x1000);
	OK(interrupt(&m, 0x20));
	run_until(&m, KVM_EXIT_HLT);
	/* STI delays by one instruction. */
	CHECK_EQ(get_regs(&m).rip, 0x1101);
	CHECK_EQ(get_regs(&m).rax, 2);
	CHECK_EQ(*(u16 *)(m.mem + 0x8000 - 6), 0x1003);
}

TEST(interrupt_window)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0x40, 0xfb, 0x40, 0x40, 0xf4); /* inc ax; sti; inc ax; inc ax; hlt */
	vector(&m, 0x20, 0x1100);
	CODE(&m, 0x1100, 0xcf); /* iret */
	start_real(&m, 0x1000);
	m.run->request_interrupt_window = 1;
	run_until(&m, KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK_EQ(m.run->ready_for_interrupt_injection, 1);
	CHECK_EQ(m.run->if_flag, 1);
	CHECK_EQ(get_regs(&m).rip, 0x1003);
	CHECK_EQ(get_regs(&m).rax, 2);
	m.run->request_interrupt_window = 0;
	OK(interrupt(&m, 0x20));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax, 3);
	CHECK_EQ(get_regs(&m).rsp & 0xffff, 0x8000);
}

TEST(interrupt_errors)
{
	struct machine m = machine_new(MIB);

	FAILS(interrupt(&m, 256), EINVAL);
	FAILS(ioctl(m.vcpu, KVM_INTERRUPT, NULL), EFAULT);
}

TEST(interrupt_wakes_hlt)
{
	struct machine m = machine_new(MIB);

	vector(&m, 0x20, 0x1100);
	CODE(&m, 0x1000, 0xfb, 0xf4, 0x40, 0xf4); /* sti; hlt; inc ax; hlt */
	CODE(&m, 0x1100, 0xcf);
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.run->ready_for_interrupt_injection, 1);
	OK(interrupt(&m, 0x20));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x1004);
	CHECK_EQ(get_regs(&m).rax, 1);
}

/* Where the window opens: at the first boundary at which an interrupt can be taken, and it stays open. */
static void window_at(const u8 *code, size_t size, u64 rflags, u64 rip)
{
	struct machine m = machine_new(MIB);

	memcpy(m.mem + 0x1000, code, size);
	vector(&m, 0x20, 0x1100);
	CODE(&m, 0x1100, 0xcf); /* iret */
	start_real(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = rflags, .rsp = 0x8000 });
	m.run->request_interrupt_window = 1;
	for (unsigned n = 0; n < 3; n++) {
		run_until(&m, KVM_EXIT_IRQ_WINDOW_OPEN);
		CHECK_EQ(get_regs(&m).rip, rip);
		CHECK_EQ(m.run->ready_for_interrupt_injection, 1);
		CHECK_EQ(m.run->if_flag, 1);
		/* The last time it opens again behind the handler's IRET. */
		if (n == 1)
			OK(interrupt(&m, 0x20));
	}
	m.run->request_interrupt_window = 0;
	run_until(&m, KVM_EXIT_HLT);
}

#define WINDOW_AT(rflags, rip, ...)                                                                                    \
	do {                                                                                                           \
		static const u8 code_[] = { __VA_ARGS__ };                                                             \
		window_at(code_, sizeof(code_), rflags, rip);                                                          \
	} while (0)

TEST(window_boundaries)
{
	WINDOW_AT(0x202, 0x1000, 0x90, 0xf4);                               /* open from the start */
	WINDOW_AT(0x002, 0x1002, 0xfb, 0x90, 0x90, 0xf4);                   /* sti; nop */
	WINDOW_AT(0x002, 0x1002, 0xfb, 0xfb, 0x90, 0xf4);                   /* sti; sti: the second delays nothing */
	WINDOW_AT(0x002, 0x1004, 0x68, 0x02, 0x02, 0x9d, 0x90, 0xf4);       /* push 0x202; popf */
	WINDOW_AT(0x002, 0x1006, 0x31, 0xc0, 0xfb, 0x8e, 0xd0, 0x90, 0xf4); /* xor ax, ax; sti; mov ss, ax; nop */
}

TEST(window_that_never_opens)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xfb, 0xfa, 0xf4); /* sti; cli; hlt */
	start_real(&m, 0x1000);
	m.run->request_interrupt_window = 1;
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x1003);
	CHECK_EQ(m.run->ready_for_interrupt_injection, 0);
	CHECK_EQ(m.run->if_flag, 0);
}

/* What the client was asked for is complete before the window opens, or an interrupt is taken. */
TEST(port_input_before_interrupts)
{
	struct machine m = machine_new(MIB);

	vector(&m, 0x20, 0x1100);
	CODE(&m, 0x1000, 0xe4, 0x10, 0xe4, 0x11, 0xf4); /* in al, 0x10; in al, 0x11; hlt */
	CODE(&m, 0x1100, 0xf4);
	start_real(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 0x202, .rsp = 0x8000 });
	run_until(&m, KVM_EXIT_IO);
	m.run->request_interrupt_window = 1;
	*((u8 *)m.run + m.run->io.data_offset) = 7;
	run_until(&m, KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK_EQ(get_regs(&m).rip, 0x1002);
	CHECK_EQ(get_regs(&m).rax & 0xff, 7);
	m.run->request_interrupt_window = 0;
	run_until(&m, KVM_EXIT_IO);
	OK(interrupt(&m, 0x20));
	*((u8 *)m.run + m.run->io.data_offset) = 8;
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x1101);
	CHECK_EQ(get_regs(&m).rax & 0xff, 8);
	CHECK_EQ(*(u16 *)(m.mem + 0x8000 - 6), 0x1004);
}

TEST(nmi_is_delivered)
{
	struct machine m = machine_new(MIB);

	if (ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_USER_NMI) <= 0)
		test_skip("no KVM_CAP_USER_NMI");
	vector(&m, 2, 0x1100);
	CODE(&m, 0x1000, 0x40, 0xf4);
	CODE(&m, 0x1100, 0xf4);
	start_real(&m, 0x1000);
	OK(ioctl(m.vcpu, KVM_NMI, 0));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x1101);
}

/* One NMI is taken and one more is remembered, until IRET. */
TEST(two_nmis)
{
	struct machine m = machine_new(MIB);
	struct kvm_vcpu_events e;

	if (ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_USER_NMI) <= 0)
		test_skip("no KVM_CAP_USER_NMI");
	vector(&m, 2, 0x1100);
	CODE(&m, 0x1000, 0x90, 0xf4);
	CODE(&m, 0x1100, 0x43, 0xf4, 0xcf); /* inc bx; hlt; iret */
	start_real(&m, 0x1000);
	for (unsigned n = 0; n < 3; n++)
		OK(ioctl(m.vcpu, KVM_NMI, 0));
	run_until(&m, KVM_EXIT_HLT);
	OK(ioctl(m.vcpu, KVM_GET_VCPU_EVENTS, &e));
	CHECK_EQ(get_regs(&m).rbx, 1);
	CHECK_EQ(e.nmi.masked, 1);
	CHECK_EQ(e.nmi.pending, 1);
	OK(ioctl(m.vcpu, KVM_NMI, 0)); /* no more than one */
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rbx, 2);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rbx, 2);
	CHECK_EQ(get_regs(&m).rip, 0x1002);
}

TEST(cr8_in_and_out)
{
	struct machine m = machine_new(MIB);

	/* mov rax, cr8; mov rbx, rax; mov al, 9; mov cr8, rax; hlt */
	CODE(&m, 0x1000, 0x44, 0x0f, 0x20, 0xc0, 0x48, 0x89, 0xc3, 0xb0, 9, 0x44, 0x0f, 0x22, 0xc0, 0xf4);
	start_long(&m, 0x1000);
	m.run->cr8 = 5;
	OK(ioctl(m.vcpu, KVM_RUN, 0));
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rbx, 5);
	CHECK_EQ(m.run->cr8, 9);
	CHECK_EQ(get_sregs(&m).cr8, 9);
}

TEST(apic_base_out)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xf4);
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.run->apic_base, 0xfee00900);
	CHECK_EQ(get_sregs(&m).apic_base, 0xfee00900);
}

/* In the specification also an input; what another ioctl sets meanwhile is not undone by what kvm_run still says. */
TEST(apic_base_in)
{
	struct machine m = machine_new(MIB);
	struct kvm_sregs s;

	if (!is_ukvm(m.vm))
		test_skip("ignored since Linux 2.6.25");
	CODE(&m, 0x1000, 0xf4);
	start_real(&m, 0x1000);
	m.run->apic_base = 0xfed00900;
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_sregs(&m).apic_base, 0xfed00900);
	CHECK_EQ(m.run->apic_base, 0xfed00900);
	m.run->apic_base = 0; /* a client that clears kvm_run means nothing by it */
	go(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.run->apic_base, 0xfed00900);
	s = get_sregs(&m);
	s.apic_base = 0xfee00900;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	go(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.run->apic_base, 0xfee00900);
}
