// SPDX-License-Identifier: MIT
/* Exits: port I/O, MMIO, HLT, shutdown (spec 5). */
#include "guest.h"

static u8 *io_data(struct machine *m)
{
	return (u8 *)m->run + m->run->io.data_offset;
}

TEST(reset_vector)
{
	struct machine m = machine_new(MIB);
	u8 *rom = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	rom[0xfff0] = 0xf4;
	OK(set_slot(m.vm, 1, 0, 0xffff0000, 0x10000, rom));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0xfff1);
}

TEST(out_and_in)
{
	struct machine m = machine_new(MIB);

	/* mov al, 0x41; out 0x10, al; in ax, dx; out dx, eax; hlt */
	CODE(&m, 0x1000, 0xb0, 0x41, 0xe6, 0x10, 0xba, 0x34, 0x12, 0xed, 0x66, 0xef, 0xf4);
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_IO);
	CHECK_EQ(m.run->io.direction, KVM_EXIT_IO_OUT);
	CHECK_EQ(m.run->io.port, 0x10);
	CHECK_EQ(m.run->io.size, 1);
	CHECK_EQ(m.run->io.count, 1);
	CHECK_EQ(io_data(&m)[0], 0x41);
	run_until(&m, KVM_EXIT_IO);
	CHECK_EQ(m.run->io.direction, KVM_EXIT_IO_IN);
	CHECK_EQ(m.run->io.port, 0x1234);
	CHECK_EQ(m.run->io.size, 2);
	memcpy(io_data(&m), "\xcd\xab", 2);
	run_until(&m, KVM_EXIT_IO);
	CHECK_EQ(m.run->io.direction, KVM_EXIT_IO_OUT);
	CHECK_EQ(m.run->io.size, 4);
	CHECK_EQ(get_regs(&m).rax, 0xabcd);
	run_until(&m, KVM_EXIT_HLT);
}

TEST(string_io)
{
	struct machine m = machine_new(MIB);
	unsigned got = 0;

	/* mov cx, 5; mov si, 0x2000; mov dx, 0x3f8; rep outsb; mov cx, 6; mov di, 0x3000; rep insw; hlt */
	CODE(&m, 0x1000, 0xb9, 5, 0, 0xbe, 0x00, 0x20, 0xba, 0xf8, 0x03, 0xf3, 0x6e, 0xb9, 6, 0, 0xbf, 0x00, 0x30,
	     0xf3, 0x6d, 0xf4);
	memcpy(m.mem + 0x2000, "hello", 5);
	start_real(&m, 0x1000);
	while (got < 5) {
		run_until(&m, KVM_EXIT_IO);
		CHECK_EQ(m.run->io.direction, KVM_EXIT_IO_OUT);
		CHECK_EQ(m.run->io.size, 1);
		CHECK(m.run->io.count >= 1 && m.run->io.count <= 5 - got);
		CHECK(!memcmp(io_data(&m), &"hello"[got], m.run->io.count));
		got += m.run->io.count;
	}
	for (got = 0; got < 6;) {
		run_until(&m, KVM_EXIT_IO);
		CHECK_EQ(m.run->io.direction, KVM_EXIT_IO_IN);
		CHECK_EQ(m.run->io.size, 2);
		CHECK(m.run->io.count >= 1 && m.run->io.count <= 6 - got);
		for (unsigned n = 0; n < m.run->io.count; n++) {
			u16 v = (u16)(0x100 + got++);

			memcpy(io_data(&m) + 2 * n, &v, 2);
		}
	}
	run_until(&m, KVM_EXIT_HLT);
	for (unsigned n = 0; n < 6; n++)
		CHECK_EQ(*(u16 *)(m.mem + 0x3000 + 2 * n), 0x100 + n);
	CHECK_EQ(get_regs(&m).rdi & 0xffff, 0x300c);
	CHECK_EQ(get_regs(&m).rcx & 0xffff, 0);
}

/* Runs until HLT, answering every MMIO read with the bytes of its address; collects what was written where. */
struct device {
	u8 bytes[65536];
	unsigned reads, writes;
};

static void serve(struct machine *m, struct device *d, u64 base)
{
	for (;;) {
		OK(ioctl(m->vcpu, KVM_RUN, 0));
		if (m->run->exit_reason == KVM_EXIT_HLT)
			return;
		CHECK_EQ(m->run->exit_reason, KVM_EXIT_MMIO);
		CHECK(m->run->mmio.len >= 1 && m->run->mmio.len <= 8);
		CHECK(m->run->mmio.phys_addr - base < sizeof(d->bytes) - 8);
		if (m->run->mmio.is_write) {
			memcpy(d->bytes + (m->run->mmio.phys_addr - base), m->run->mmio.data, m->run->mmio.len);
			d->writes++;
		} else {
			memcpy(m->run->mmio.data, d->bytes + (m->run->mmio.phys_addr - base), m->run->mmio.len);
			d->reads++;
		}
	}
}

TEST(mmio_widths)
{
	struct machine m = machine_new(MIB);
	static struct device d;

	/* rdi = device: mov [rdi+8], al; mov [rdi+16], ax; mov [rdi+24], eax; mov [rdi+32], rax; mov rbx, [rdi];
	 * movzx ecx, byte [rdi+2]; hlt */
	CODE(&m, 0x1000, 0x88, 0x47, 8, 0x66, 0x89, 0x47, 16, 0x89, 0x47, 24, 0x48, 0x89, 0x47, 32, 0x48, 0x8b, 0x1f,
	     0x0f, 0xb6, 0x4f, 2, 0xf4);
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 16 * MIB, .rax = 0x1122334455667788 });
	memcpy(d.bytes, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
	serve(&m, &d, 16 * MIB);
	CHECK_EQ(*(u64 *)(d.bytes + 8), 0x88);
	CHECK_EQ(*(u64 *)(d.bytes + 16), 0x7788);
	CHECK_EQ(*(u64 *)(d.bytes + 24), 0x55667788);
	CHECK_EQ(*(u64 *)(d.bytes + 32), 0x1122334455667788);
	CHECK_EQ(get_regs(&m).rbx, 0x0807060504030201);
	CHECK_EQ(get_regs(&m).rcx, 3);
	CHECK_EQ(d.writes, 4);
	CHECK_EQ(d.reads, 2);
}

TEST(mmio_by_any_instruction)
{
	struct machine m = machine_new(MIB);
	static struct device d;

	/* add [rdi], eax; lock inc dword [rdi+8]; push [rdi]; pop [rdi+16]; xchg [rdi+24], rax; movups xmm0, [rdi];
	 * movups [rdi+32], xmm0; mov rsi, rdi; add rdi, 64; mov ecx, 8; rep movsb; hlt */
	CODE(&m, 0x1000, 0x01, 0x07, 0xf0, 0xff, 0x47, 8, 0xff, 0x37, 0x8f, 0x47, 16, 0x48, 0x87, 0x47, 24, 0x0f, 0x10,
	     0x07, 0x0f, 0x11, 0x47, 32, 0x48, 0x89, 0xfe, 0x48, 0x83, 0xc7, 64, 0xb9, 8, 0, 0, 0, 0xf3, 0xa4, 0xf4);
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){
			     .rip = 0x1000, .rsp = 0x8000, .rflags = 2, .rdi = 16 * MIB, .rax = 0x100000005 });
	*(u64 *)d.bytes = 7;
	*(u64 *)(d.bytes + 8) = 41;
	*(u64 *)(d.bytes + 24) = 99;
	serve(&m, &d, 16 * MIB);
	CHECK_EQ(*(u64 *)d.bytes, 12);
	CHECK_EQ(*(u64 *)(d.bytes + 8), 42);
	CHECK_EQ(*(u64 *)(d.bytes + 16), 12);
	CHECK_EQ(*(u64 *)(d.bytes + 24), 0x100000005);
	CHECK_EQ(get_regs(&m).rax, 99);
	CHECK(!memcmp(d.bytes + 32, d.bytes, 16));
	CHECK_EQ(*(u64 *)(d.bytes + 64), 12);
}

/* Half of the access is memory, half a device: the memory half of an add must be added to once. */
TEST(mmio_across_a_page)
{
	struct machine m = machine_new(MIB);
	static struct device d;

	/* add [rdi], rax; mov rbx, [rdi]; hlt */
	CODE(&m, 0x1000, 0x48, 0x01, 0x07, 0x48, 0x8b, 0x1f, 0xf4);
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = MIB - 4, .rax = 0x0000000100000001 });
	*(u32 *)(m.mem + MIB - 4) = 10;
	*(u32 *)d.bytes = 20;
	serve(&m, &d, MIB);
	CHECK_EQ(*(u32 *)(m.mem + MIB - 4), 11);
	CHECK_EQ(*(u32 *)d.bytes, 21);
	CHECK_EQ(get_regs(&m).rbx, 0x000000150000000b);
}

TEST(pending_io_completes_with_immediate_exit)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xe4, 0x10, 0xf4); /* in al, 0x10; hlt */
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_IO);
	io_data(&m)[0] = 0x99;
	m.run->immediate_exit = 1;
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(get_regs(&m).rip, 0x1002);
	CHECK_EQ(get_regs(&m).rax & 0xff, 0x99);
	m.run->immediate_exit = 0;
	run_until(&m, KVM_EXIT_HLT);
}

TEST(triple_fault_is_shutdown)
{
	struct machine m = machine_new(MIB);
	struct kvm_sregs s;

	CODE(&m, 0x1000, 0x0f, 0x0b); /* ud2, with an IDT of no entries */
	start_prot(&m, 0x1000);
	s = get_sregs(&m);
	s.idt.limit = 0;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	run_until(&m, KVM_EXIT_SHUTDOWN);
}

/*
 * An event whose way leads through a device: the kernel's KVM does not emulate that, and tells so, at last on Intel
 * hosts and in Linux 6.14. The event is kept, so a client may help and go on.
 */
static void delivery_fails(struct machine *m, u32 vectoring, u64 gpa)
{
	OK(ioctl(m->vcpu, KVM_RUN, 0));
	if (!is_ukvm(m->vm) && (m->run->exit_reason != KVM_EXIT_INTERNAL_ERROR || m->run->internal.data[3] != gpa))
		test_skip("exit reason %u", m->run->exit_reason);
	CHECK_EQ(m->run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
	CHECK_EQ(m->run->internal.suberror, KVM_INTERNAL_ERROR_DELIVERY_EV);
	CHECK_EQ(m->run->internal.ndata, 5);
	CHECK_EQ(m->run->internal.data[0], vectoring);
	CHECK_EQ(m->run->internal.data[1], 49); /* EPT misconfiguration */
	CHECK_EQ(m->run->internal.data[3], gpa);
}

TEST(interrupt_table_in_a_device)
{
	struct machine m = machine_new(MIB);
	struct kvm_vcpu_events ev;
	struct kvm_sregs s;

	CODE(&m, 0x1000, 0x0f, 0x0b); /* ud2 */
	CODE(&m, 6 * 4, 0x00, 0x20, 0x00, 0x00);
	CODE(&m, 0x2000, 0xf4);
	start_real(&m, 0x1000);
	s = get_sregs(&m);
	s.idt.base = 16 * MIB;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	for (unsigned n = 0; n < 2; n++) {
		delivery_fails(&m, 0x80000306, 16 * MIB + 6 * 4);
		CHECK_EQ(get_regs(&m).rip, 0x1000);
		OK(ioctl(m.vcpu, KVM_GET_VCPU_EVENTS, &ev));
		CHECK_EQ(ev.exception.injected, 1);
		CHECK_EQ(ev.exception.nr, 6);
	}
	s.idt.base = 0;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x2001);
}

TEST(interrupt_stack_in_a_device)
{
	struct machine m = machine_new(MIB);
	struct kvm_interrupt irq = { 0x20 };
	struct kvm_sregs s;

	CODE(&m, 0x1000, 0x90, 0xf4);
	CODE(&m, 0x20 * 4, 0x00, 0x20, 0x00, 0x00);
	CODE(&m, 0x2000, 0xf4);
	start_real(&m, 0x1000);
	s = get_sregs(&m);
	s.ss.base = 16 * MIB;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 0x202, .rsp = 0x106 });
	OK(ioctl(m.vcpu, KVM_INTERRUPT, &irq));
	delivery_fails(&m, 0x80000020, 16 * MIB + 0x100);
	CHECK_EQ(get_regs(&m).rsp, 0x106);
	/* The client puts memory there. */
	OK(set_slot(m.vm, 1, 0, 16 * MIB, MIB, anon(MIB)));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x2001);
	CHECK_EQ(get_regs(&m).rsp, 0x100);
}

TEST(hlt_resumes_behind)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xf4, 0x40, 0xf4); /* hlt; inc ax; hlt */
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x1001);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax, 1);
}

/* Code in a device: nothing to execute there. The client is told, not misled. */
TEST(code_nowhere)
{
	struct machine m = machine_new(MIB);

	start_prot(&m, 16 * MIB);
	OK(ioctl(m.vcpu, KVM_RUN, 0));
	CHECK(m.run->exit_reason == KVM_EXIT_INTERNAL_ERROR || m.run->exit_reason == KVM_EXIT_MMIO);
}

/* Virtual-8086 mode in long mode: KVM_SET_REGS takes it, and no processor can enter it. */
TEST(impossible_state_fails_entry)
{
	struct machine m = machine_new(MIB);
	struct kvm_regs r;

	CODE(&m, 0x1000, 0x90, 0xf4);
	start_long(&m, 0x1000);
	r = get_regs(&m);
	r.rflags = 0x20002;
	set_regs(&m, r);
	OK(ioctl(m.vcpu, KVM_RUN, 0));
	if (m.run->exit_reason != KVM_EXIT_FAIL_ENTRY && !is_ukvm(m.vm))
		test_skip("exit reason %u", m.run->exit_reason);
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_FAIL_ENTRY);
	CHECK(m.run->fail_entry.hardware_entry_failure_reason != 0);
	CHECK_EQ(get_regs(&m).rip, 0x1000);
	r.rflags = 2;
	set_regs(&m, r);
	run_until(&m, KVM_EXIT_HLT);
}
