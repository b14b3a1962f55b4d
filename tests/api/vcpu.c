// SPDX-License-Identifier: MIT
/* vCPUs and their state: spec 4.6 (KVM_CREATE_VCPU), 4.10 to 4.14, 4.16 to 4.22. */
#include <ukvm/abi.h>

#include "guest.h"

#define MIB (1ull << 20)

TEST(vcpu_ids)
{
	struct machine m = machine_new(MIB);
	long max_id = ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);

	FAILS(ioctl(m.vm, KVM_CREATE_VCPU, 0), EEXIST);
	OK(ioctl(m.vm, KVM_CREATE_VCPU, 7));
	OK(ioctl(m.vm, KVM_CREATE_VCPU, 3));
	FAILS(ioctl(m.vm, KVM_CREATE_VCPU, 7), EEXIST);
	FAILS(ioctl(m.vm, KVM_CREATE_VCPU, max_id), EINVAL);
	FAILS(ioctl(m.vm, KVM_CREATE_VCPU, -1), EINVAL);
}

TEST(reset_state)
{
	struct machine m = machine_new(MIB);
	struct kvm_regs r = get_regs(&m);
	struct kvm_sregs s = get_sregs(&m);

	CHECK_EQ(r.rip, 0xfff0);
	CHECK_EQ(r.rflags, 2);
	CHECK_EQ(r.rax, 0);
	CHECK_EQ(s.cs.base, 0xffff0000);
	CHECK_EQ(s.cs.selector, 0xf000);
	CHECK_EQ(s.cs.limit, 0xffff);
	CHECK_EQ(s.ds.limit, 0xffff);
	CHECK_EQ(s.cr0, 0x60000010);
	CHECK_EQ(s.cr3, 0);
	CHECK_EQ(s.cr4, 0);
	CHECK_EQ(s.efer, 0);
	CHECK_EQ(s.idt.limit, 0xffff);
	CHECK_EQ(s.apic_base, 0xfee00900);
}

TEST(regs_round_trip)
{
	struct machine m = machine_new(MIB);
	struct kvm_regs r, back;
	u64 *v = (u64 *)&r;

	for (unsigned n = 0; n < sizeof(r) / 8; n++)
		v[n] = 0x1111111111111111ull * (n % 15) + n;
	r.rflags = 0x246;
	set_regs(&m, r);
	back = get_regs(&m);
	CHECK(!memcmp(&r, &back, sizeof(r)));
}

TEST(sregs_round_trip)
{
	struct machine m = machine_new(MIB);
	struct kvm_sregs s, back;

	start_long(&m, 0x1000);
	s = get_sregs(&m);
	s.fs.base = 0x123456789000;
	s.gs.base = 0xffff888000000000;
	s.gdt.base = 0xffffffff81000000;
	s.gdt.limit = 0x7f;
	s.cr2 = 0xdeadbeef;
	s.cr8 = 7;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	back = get_sregs(&m);
	CHECK(!memcmp(&s, &back, sizeof(s)));
}

static void refuse(struct machine *m, struct kvm_sregs *s)
{
	struct kvm_sregs before = get_sregs(m), after;

	FAILS(ioctl(m->vcpu, KVM_SET_SREGS, s), EINVAL);
	after = get_sregs(m);
	CHECK(!memcmp(&before, &after, sizeof(before)));
}

TEST(impossible_sregs)
{
	struct machine m = machine_new(MIB);
	struct kvm_sregs good, s;

	start_long(&m, 0x1000);
	good = get_sregs(&m);
	s = good, s.cr0 &= ~1ull;
	refuse(&m, &s); /* PG without PE */
	s = good, s.cr4 &= ~0x20ull;
	refuse(&m, &s); /* LMA without PAE */
	s = good, s.efer &= ~0x400ull;
	refuse(&m, &s); /* PG and LME without LMA */
	s = good, s.efer |= 1ull << 40;
	refuse(&m, &s); /* reserved bits */
	s = good, s.cr4 |= 1ull << 40;
	refuse(&m, &s);
	s = good, s.cr0 |= 1ull << 40;
	refuse(&m, &s);
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &good));
}

static int translate(struct machine *m, u64 lin, struct kvm_translation *t)
{
	*t = (struct kvm_translation){ .linear_address = lin };
	return ioctl(m->vcpu, KVM_TRANSLATE, t);
}

TEST(translate_modes)
{
	struct machine m = machine_new(MIB);
	struct kvm_translation t;
	struct kvm_sregs s;

	start_real(&m, 0x1000);
	OK(translate(&m, 0x12345, &t));
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x12345);
	start_long(&m, 0x1000);
	OK(translate(&m, 0x212345, &t));
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x212345);
	OK(translate(&m, 0x7fff00000000, &t));
	CHECK_EQ(t.valid, 0);
	/* 32-bit paging: one 4 MiB page at 0xc0000000, one 4 KiB page at 0. */
	start_prot(&m, 0x1000);
	memset(m.mem + 0x9000, 0, 0x3000);
	*(u32 *)(m.mem + 0x9000) = 0xa003;
	*(u32 *)(m.mem + 0xa000 + 4) = 0x55003;
	*(u32 *)(m.mem + 0x9000 + 4 * 0x300) = 0x800083;
	s = get_sregs(&m);
	s.cr3 = 0x9000;
	s.cr4 = 0x10;
	s.cr0 |= 0x80000000;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	OK(translate(&m, 0x1234, &t));
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x55234);
	OK(translate(&m, 0xc0001234, &t));
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x801234);
	OK(translate(&m, 0x5000, &t));
	CHECK_EQ(t.valid, 0);
}

TEST(debug_guest_was_removed)
{
	struct machine m = machine_new(MIB);
	u8 arg[256] = { 0 };

	CHECK_EQ(ioctl(m.vcpu, KVM_DEBUG_GUEST, arg), -1);
}

TEST(msrs_stop_at_the_first_refused)
{
	struct machine m = machine_new(MIB);
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e[4];
	} msrs = { .h.nmsrs = 4,
		   .e = { { .index = 0x174, .data = 0x10 },
			  { .index = 0x175, .data = 0x1000 },
			  { .index = 0x12345678 },
			  { .index = 0x176 } } };

	CHECK_EQ(OK(ioctl(m.vcpu, KVM_SET_MSRS, &msrs)), 2);
	msrs.e[0].data = msrs.e[1].data = 0;
	CHECK_EQ(OK(ioctl(m.vcpu, KVM_GET_MSRS, &msrs)), 2);
	CHECK_EQ(msrs.e[0].data, 0x10);
	CHECK_EQ(msrs.e[1].data, 0x1000);
	msrs.h.nmsrs = 1000000;
	FAILS(ioctl(m.vcpu, KVM_GET_MSRS, &msrs), E2BIG);
	FAILS(ioctl(m.vcpu, KVM_GET_MSRS, (void *)8), EFAULT);
}

TEST(every_listed_msr_reads_and_writes_back)
{
	struct machine m = machine_new(MIB);
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 1024 * sizeof(u32));
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e[1];
	} one = { .h.nmsrs = 1 };

	cpuid->nent = 256;
	OK(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	OK(ioctl(m.vcpu, KVM_SET_CPUID2, cpuid));
	list->nmsrs = 1024;
	OK(ioctl(m.kvm, KVM_GET_MSR_INDEX_LIST, list));
	for (u32 n = 0; n < list->nmsrs; n++) {
		one.e[0].index = list->indices[n];
		if (OK(ioctl(m.vcpu, KVM_GET_MSRS, &one)) != 1)
			FAIL("MSR 0x%x cannot be read", list->indices[n]);
		if (OK(ioctl(m.vcpu, KVM_SET_MSRS, &one)) != 1)
			FAIL("MSR 0x%x cannot be written back", list->indices[n]);
	}
}

/* CPUID with the leaf of EAX, subleaf of ECX. */
static struct kvm_regs guest_cpuid(struct machine *m, u32 leaf, u32 sub)
{
	CODE(m, 0x1000, 0x0f, 0xa2, 0xf4);
	start_prot(m, 0x1000);
	set_regs(m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rax = leaf, .rcx = sub });
	run_until(m, KVM_EXIT_HLT);
	return get_regs(m);
}

TEST(cpuid_is_what_was_set)
{
	struct machine m = machine_new(MIB);
	struct {
		struct kvm_cpuid h;
		struct kvm_cpuid_entry e[2];
	} old = { .h.nent = 2,
		  .e = { { .function = 0, .eax = 1, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 },
			 { .function = 1, .eax = 0x12345, .ebx = 0x100, .ecx = 0x80000001, .edx = 0x0783fbfd } } };
	struct {
		struct kvm_cpuid2 h;
		struct kvm_cpuid_entry2 e[2];
	} new = { .h.nent = 2,
		  .e = { { .function = 0, .eax = 4, .ebx = 1, .ecx = 2, .edx = 3 },
			 { .function = 4, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 77 } } };
	struct kvm_regs r;

	OK(ioctl(m.vcpu, KVM_SET_CPUID, &old));
	r = guest_cpuid(&m, 0, 0);
	CHECK_EQ(r.rbx, 0x756e6547);
	CHECK_EQ(guest_cpuid(&m, 1, 0).rax, 0x12345);
	old.h.nent = 100000;
	FAILS(ioctl(m.vcpu, KVM_SET_CPUID, &old), E2BIG);
	m = machine_new(MIB);
	OK(ioctl(m.vcpu, KVM_SET_CPUID2, &new));
	CHECK_EQ(guest_cpuid(&m, 4, 1).rax, 77);
	CHECK_EQ(guest_cpuid(&m, 4, 0).rax, 0);
	FAILS(ioctl(m.vcpu, KVM_SET_CPUID2, (void *)8), EFAULT);
}

/* KVM_GET_CPUID2 tells what the guest sees, with what depends on its state; setting that again is no change. */
TEST(cpuid_follows_the_state)
{
	struct machine m = machine_new(MIB);
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	struct kvm_sregs s;

	c->nent = 256;
	OK(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, c));
	OK(ioctl(m.vcpu, KVM_SET_CPUID2, c));
	CODE(&m, 0x1000, 0x0f, 0xa2, 0xf4);
	start_long(&m, 0x1000);
	for (unsigned osxsave = 0; osxsave < 2; osxsave++) {
		s = get_sregs(&m);
		s.cr4 |= osxsave << 18;
		if (ioctl(m.vcpu, KVM_SET_SREGS, &s))
			test_skip("no XSAVE");
		c->nent = 256;
		OK(ioctl(m.vcpu, KVM_GET_CPUID2, c));
		for (u32 n = 0; n < c->nent; n++) {
			const struct kvm_cpuid_entry2 *e = &c->entries[n];
			struct kvm_regs r = { .rip = 0x1000, .rflags = 2, .rax = e->function, .rcx = e->index };

			set_regs(&m, r);
			run_until(&m, KVM_EXIT_HLT);
			r = get_regs(&m);
			CHECK_EQ(r.rax, e->eax);
			CHECK_EQ(r.rbx, e->ebx);
			CHECK_EQ(r.rcx, e->ecx);
			CHECK_EQ(r.rdx, e->edx);
			if (e->function == 1)
				CHECK_EQ(e->ecx >> 27 & 1, osxsave);
		}
		OK(ioctl(m.vcpu, KVM_SET_CPUID2, c));
	}
	c->entries[0].eax ^= 1;
	FAILS(ioctl(m.vcpu, KVM_SET_CPUID2, c), EINVAL);
}

TEST(fpu_round_trip)
{
	struct machine m = machine_new(MIB);
	struct kvm_fpu f, back;

	memset(&f, 0, sizeof(f));
	for (unsigned n = 0; n < 8; n++)
		for (unsigned b = 0; b < 10; b++)
			f.fpr[n][b] = (u8)(n * 16 + b);
	for (unsigned n = 0; n < 16; n++)
		memset(f.xmm[n], (int)n + 1, 16);
	f.fcw = 0x27f;
	f.fsw = 0x3800;
	f.ftwx = 0x81;
	f.last_opcode = 0x123;
	f.last_ip = 0x1000;
	f.last_dp = 0x2000;
	f.mxcsr = 0x1fa0;
	OK(ioctl(m.vcpu, KVM_SET_FPU, &f));
	memset(&back, 0xff, sizeof(back));
	OK(ioctl(m.vcpu, KVM_GET_FPU, &back));
	back.pad1 = 0;
	back.pad2 = 0;
	CHECK(!memcmp(&f, &back, sizeof(f)));
}

TEST(fpu_reaches_the_guest)
{
	struct machine m = machine_new(MIB);
	struct kvm_fpu f;

	/* paddd xmm0, xmm1; movd eax, xmm0; fld1; fadd st(0), st(1)...: fld1; faddp; fistp dword [0x2000]; hlt */
	CODE(&m, 0x1000, 0x66, 0x0f, 0xfe, 0xc1, 0x66, 0x0f, 0x7e, 0xc0, 0xd9, 0xe8, 0xde, 0xc1, 0xdb, 0x1c, 0x25, 0x00,
	     0x20, 0x00, 0x00, 0xf4);
	start_long(&m, 0x1000);
	OK(ioctl(m.vcpu, KVM_GET_FPU, &f));
	*(u32 *)f.xmm[0] = 40;
	*(u32 *)f.xmm[1] = 2;
	/* ST(0) = 6.0 */
	memcpy(f.fpr[0], "\0\0\0\0\0\0\0\xc0\x01\x40", 10);
	f.fcw = 0x37f;
	f.fsw = 7 << 11;
	f.ftwx = 0x80;
	OK(ioctl(m.vcpu, KVM_SET_FPU, &f));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax, 42);
	CHECK_EQ(*(u32 *)(m.mem + 0x2000), 7);
}

TEST(events_round_trip)
{
	struct machine m = machine_new(MIB);
	struct kvm_vcpu_events e, back;

	OK(ioctl(m.vcpu, KVM_GET_VCPU_EVENTS, &e));
	e.nmi.pending = 1;
	e.nmi.masked = 1;
	e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	e.interrupt.shadow = 1;
	OK(ioctl(m.vcpu, KVM_SET_VCPU_EVENTS, &e));
	OK(ioctl(m.vcpu, KVM_GET_VCPU_EVENTS, &back));
	CHECK_EQ(back.nmi.pending, 1);
	CHECK_EQ(back.nmi.masked, 1);
	CHECK_EQ(back.interrupt.shadow, 1);
	e.flags = 0x8000;
	FAILS(ioctl(m.vcpu, KVM_SET_VCPU_EVENTS, &e), EINVAL);
}

TEST(single_step)
{
	struct machine m = machine_new(MIB);
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

	CODE(&m, 0x1000, 0x40, 0x40, 0x40, 0xf4);
	start_real(&m, 0x1000);
	OK(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, &d));
	for (unsigned n = 1; n <= 3; n++) {
		run_until(&m, KVM_EXIT_DEBUG);
		CHECK_EQ(get_regs(&m).rip, 0x1000 + n);
		CHECK_EQ(get_regs(&m).rax, n);
		CHECK_EQ(m.run->debug.arch.exception, 1);
	}
	d.control = 0;
	OK(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, &d));
	run_until(&m, KVM_EXIT_HLT);
}

TEST(software_breakpoint)
{
	struct machine m = machine_new(MIB);
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP };

	CODE(&m, 0x1000, 0x40, 0xcc, 0xf4);
	start_real(&m, 0x1000);
	OK(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, &d));
	run_until(&m, KVM_EXIT_DEBUG);
	CHECK_EQ(m.run->debug.arch.exception, 3);
	CHECK_EQ(m.run->debug.arch.pc, 0x1001);
	CHECK_EQ(get_regs(&m).rip, 0x1001);
}

TEST(hardware_breakpoint)
{
	struct machine m = machine_new(MIB);
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };

	CODE(&m, 0x1000, 0x40, 0x40, 0x40, 0xf4);
	start_real(&m, 0x1000);
	d.arch.debugreg[0] = 0x1002;
	d.arch.debugreg[7] = 0x402;
	OK(ioctl(m.vcpu, KVM_SET_GUEST_DEBUG, &d));
	run_until(&m, KVM_EXIT_DEBUG);
	CHECK_EQ(get_regs(&m).rip, 0x1002);
	CHECK_EQ(m.run->debug.arch.dr6 & 15, 1);
}

TEST(xsave_round_trip)
{
	struct machine m = machine_new(MIB);
	struct kvm_xsave *x = aligned_alloc(4096, 8192), *y = aligned_alloc(4096, 8192);

	memset(x, 0, 8192);
	memset(y, 0, 8192);
	OK(ioctl(m.vcpu, KVM_GET_XSAVE, x));
	x->region[160 / 4] = 0x11223344; /* xmm0 */
	x->region[512 / 4] |= 3;         /* XSTATE_BV: x87 and SSE */
	OK(ioctl(m.vcpu, KVM_SET_XSAVE, x));
	OK(ioctl(m.vcpu, KVM_GET_XSAVE, y));
	CHECK_EQ(y->region[160 / 4], 0x11223344);
	x->region[512 / 4] |= 0x400; /* a component that nobody has */
	FAILS(ioctl(m.vcpu, KVM_SET_XSAVE, x), EINVAL);
}

/*
 * The guest turns AVX on, adds YMM registers that KVM_SET_XSAVE filled, and asks CPUID for the size of the area before
 * and after.
 */
GUEST(ymm, 64,
      "mov eax, 13; xor ecx, ecx; cpuid; mov esi, ebx\n"
      "xor ecx, ecx; xgetbv; or eax, 7; xsetbv\n"
      "mov eax, 13; xor ecx, ecx; cpuid; mov edi, ebx\n"
      "vpaddd ymm0, ymm1, ymm1; vpaddd xmm2, xmm1, xmm1; hlt");

TEST(ymm_reaches_the_guest)
{
	struct machine m = machine_new(MIB);
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + 256 * sizeof(list->entries[0]));
	u32 *x = aligned_alloc(4096, 8192), *y = aligned_alloc(4096, 8192), at = 0;
	struct kvm_sregs sregs;

	list->nent = 256;
	OK(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, list));
	for (u32 n = 0; n < list->nent; n++)
		if (list->entries[n].function == 0xd && list->entries[n].index == 2)
			at = list->entries[n].ebx;
	if (!at)
		test_skip("no AVX on this host");
	OK(ioctl(m.vcpu, KVM_SET_CPUID2, list));
	LOAD(&m, 0x1000, ymm);
	start_long(&m, 0x1000);
	sregs = get_sregs(&m);
	sregs.cr4 |= 1 << 18; /* OSXSAVE */
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &sregs));
	memset(x, 0, 8192);
	memset(y, 0, 8192);
	OK(ioctl(m.vcpu, KVM_GET_XSAVE, x));
	for (u32 k = 0; k < 4; k++) {
		x[160 / 4 + 4 + k] = 10 + k; /* xmm1 */
		x[at / 4 + 4 + k] = 20 + k;  /* its upper half */
		x[at / 4 + 8 + k] = 0x55;    /* that of ymm2 */
	}
	x[512 / 4] |= 7;
	OK(ioctl(m.vcpu, KVM_SET_XSAVE, x));
	run_until(&m, KVM_EXIT_HLT);
	OK(ioctl(m.vcpu, KVM_GET_XSAVE, y));
	CHECK_EQ(y[512 / 4] & 4, 4);
	for (u32 k = 0; k < 4; k++) {
		CHECK_EQ(y[160 / 4 + k], 2 * (10 + k));
		CHECK_EQ(y[at / 4 + k], 2 * (20 + k));
		CHECK_EQ(y[160 / 4 + 8 + k], 2 * (10 + k));
		CHECK_EQ(y[at / 4 + 8 + k], 0);
	}
	CHECK_EQ(get_regs(&m).rsi, 576);
	CHECK_EQ(get_regs(&m).rdi, at + 256);
}
