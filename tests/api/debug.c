// SPDX-License-Identifier: MIT
/* KVM_SET_GUEST_DEBUG: what the client sees instead of the guest (api.rst 4.87, KVM_EXIT_DEBUG). */
#include "guest.h"

#define GUESTDBG_HW (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP)
#define GUESTDBG_STEP (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP)
#define DR6_NONE 0xffff0ff0ull
#define DR6_BD (1ull << 13)
#define DR6_BS (1ull << 14)

static void debug(struct machine *m, u32 control, unsigned n, u64 addr, u64 dr7)
{
	struct kvm_guest_debug d = { .control = control };

	d.arch.debugreg[n] = addr;
	d.arch.debugreg[7] = dr7;
	OK(ioctl(m->vcpu, KVM_SET_GUEST_DEBUG, &d));
}

static void expect_debug(struct machine *m, u64 pc, u64 dr6)
{
	run_until(m, KVM_EXIT_DEBUG);
	CHECK_EQ(m->run->debug.arch.exception, 1);
	CHECK_EQ(m->run->debug.arch.pc, pc);
	CHECK_EQ(m->run->debug.arch.dr6, dr6);
	CHECK_EQ(get_regs(m).rip, pc);
}

GUEST(store_twice, 64, "mov [rdi], rax; nop; mov [rdi], rax; nop; hlt");

TEST(data_breakpoints)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, store_twice);
	start_long(&m, 0x1000);
	for (unsigned n = 0; n < 4; n++) {
		set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 0x20000 });
		debug(&m, GUESTDBG_HW, n, 0x20000, 0x400 | 2ull << 2 * n | 0xdull << (16 + 4 * n));
		expect_debug(&m, 0x1003, DR6_NONE | 1ull << n);
		expect_debug(&m, 0x1007, DR6_NONE | 1ull << n);
		debug(&m, 0, 0, 0, 0);
		run_until(&m, KVM_EXIT_HLT);
	}
}

GUEST(touch_dr, 64, "mov rax, dr0; hlt");

/* The client's DR7.GD is in force while it has breakpoints of its own, and the guest's is not. */
TEST(general_detect)
{
	struct machine m = machine_new(MIB);
	struct kvm_debugregs dr = { .dr6 = DR6_NONE, .dr7 = 0x2400 };

	LOAD(&m, 0x1000, touch_dr);
	start_long(&m, 0x1000);
	debug(&m, GUESTDBG_HW, 0, 0, 0x2400);
	expect_debug(&m, 0x1000, DR6_NONE | DR6_BD);
	expect_debug(&m, 0x1000, DR6_NONE | DR6_BD);
	OK(ioctl(m.vcpu, KVM_SET_DEBUGREGS, &dr));
	debug(&m, GUESTDBG_HW, 0, 0, 0x400);
	run_until(&m, KVM_EXIT_HLT);
}

GUEST(icebp, 64, ".byte 0xf1; hlt");

TEST(int1_goes_to_the_client)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, icebp);
	start_long(&m, 0x1000);
	debug(&m, GUESTDBG_HW, 0, 0, 0x400);
	run_until(&m, KVM_EXIT_DEBUG);
	CHECK_EQ(m.run->debug.arch.exception, 1);
}

/* cpuid and rdmsr are emulated on real KVMs; sti opens a window that stepping must not lose. */
GUEST(mixed, 64, "sti; xor eax, eax; cpuid; mov ecx, 0x1a0; rdmsr; cli; nop; hlt");

TEST(single_step_through_anything)
{
	static const u8 length[] = { 1, 2, 2, 5, 2, 1, 1 };
	struct machine m = machine_new(MIB);
	u64 rip = 0x1000;

	LOAD(&m, 0x1000, mixed);
	start_long(&m, 0x1000);
	debug(&m, GUESTDBG_STEP, 0, 0, 0);
	for (unsigned n = 0; n < sizeof(length); n++) {
		rip += length[n];
		expect_debug(&m, rip, DR6_NONE | DR6_BS);
	}
	/* The guest has no trap flag of its own. */
	CHECK_EQ(get_regs(&m).rflags & 0x100, 0);
	debug(&m, 0, 0, 0, 0);
	run_until(&m, KVM_EXIT_HLT);
}

GUEST(out_and_copy, 64, "out 0x10, al; mov ecx, 3; rep movsb; hlt");

TEST(single_step_over_exits_and_repeats)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, out_and_copy);
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsi = 0x20000, .rdi = 0x30000 });
	debug(&m, GUESTDBG_STEP, 0, 0, 0);
	run_until(&m, KVM_EXIT_IO);
	expect_debug(&m, 0x1002, DR6_NONE | DR6_BS);
	expect_debug(&m, 0x1007, DR6_NONE | DR6_BS);
	for (unsigned n = 1; n < 3; n++) {
		expect_debug(&m, 0x1007, DR6_NONE | DR6_BS);
		CHECK_EQ(get_regs(&m).rcx, 3 - n);
	}
	expect_debug(&m, 0x1009, DR6_NONE | DR6_BS);
	CHECK_EQ(get_regs(&m).rcx, 0);
}

TEST(guest_debug_errors)
{
	struct machine m = machine_new(MIB);
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP };

	OK(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, &d));
	/* An exception is pending already. */
	FAILS(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, &d), EBUSY);
	FAILS(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, NULL), EFAULT);
}
