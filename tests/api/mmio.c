// SPDX-License-Identifier: MIT
/*
 * Memory-mapped I/O by every family of instructions (spec 5, KVM_EXIT_MMIO): a device that is plain memory, served by
 * the client, must look like memory to them all. The kernel's KVM emulates such instructions and does not know them
 * all; what it refuses (KVM_EXIT_INTERNAL_ERROR) is skipped.
 */
#include "guest.h"

#define DEVICE (16 * MIB)
#define DEVICE_SIZE 0x4000
#define MAX_ACCESSES 1000

static struct {
	u8 bytes[DEVICE_SIZE];
	unsigned reads, writes;
	struct access {
		u64 offset;
		u32 len;
		bool write;
	} access[MAX_ACCESSES];
} dev;

static void serve_one(struct kvm_run *run)
{
	u64 offset = run->mmio.phys_addr - DEVICE;
	struct access *a = &dev.access[dev.reads + dev.writes];

	CHECK(run->mmio.len >= 1 && run->mmio.len <= 8);
	CHECK(offset + run->mmio.len <= DEVICE_SIZE);
	CHECK(dev.reads + dev.writes < MAX_ACCESSES);
	*a = (struct access){ offset, run->mmio.len, run->mmio.is_write };
	if (run->mmio.is_write) {
		memcpy(dev.bytes + offset, run->mmio.data, run->mmio.len);
		dev.writes++;
	} else {
		memcpy(run->mmio.data, dev.bytes + offset, run->mmio.len);
		dev.reads++;
	}
}

/* Runs code at 0x1000 until HLT. RDI is the device, RSI memory of the guest, RSP a stack in memory. */
static struct kvm_regs serve(struct machine *m)
{
	struct kvm_sregs s;

	start_long(m, 0x1000);
	s = get_sregs(m);
	s.cr4 |= 0x600; /* SSE */
	OK(ioctl(m->vcpu, KVM_SET_SREGS, &s));
	set_regs(m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsp = 0x8000, .rdi = DEVICE, .rsi = 0x20000,
				       .rax = 0x1111111122222222, .rbx = 0x5555, .rcx = 3 });
	for (unsigned n = 0; n < DEVICE_SIZE; n++)
		dev.bytes[n] = (u8)(n * 3);
	for (;;) {
		OK(ioctl(m->vcpu, KVM_RUN, 0));
		if (m->run->exit_reason == KVM_EXIT_HLT)
			return get_regs(m);
		if (m->run->exit_reason == KVM_EXIT_INTERNAL_ERROR && !is_ukvm(m->vm))
			test_skip("not emulated");
		CHECK_EQ(m->run->exit_reason, KVM_EXIT_MMIO);
		serve_one(m->run);
	}
}

#define U32(offset) (*(u32 *)(dev.bytes + (offset)))
#define U64(offset) (*(u64 *)(dev.bytes + (offset)))

#define DEVICE_TEST(name, text, ...)                                                                                   \
	GUEST(name, 64, text "; hlt");                                                                                 \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		struct machine m = machine_new(MIB);                                                                   \
		struct kvm_regs r;                                                                                     \
	\
		LOAD(&m, 0x1000, name);                                                                                \
		r = serve(&m);                                                                                         \
		(void)r;                                                                                               \
		__VA_ARGS__;                                                                                           \
	}

/* ---- integer ---- */
DEVICE_TEST(widening_moves, "movsx rax, byte ptr [rdi+0x50]; movzx ecx, word ptr [rdi+2]; "
	    "movsxd rdx, dword ptr [rdi+4]",
	    CHECK_EQ(r.rax, 0xfffffffffffffff0); CHECK_EQ(r.rcx, 0x0906); CHECK_EQ(r.rdx, 0x15120f0c);
	    CHECK_EQ(dev.reads, 3))
DEVICE_TEST(arithmetic, "add [rdi], eax; sub [rdi+8], rbx; neg byte ptr [rdi+16]; adc rax, [rdi+0x20]",
	    CHECK_EQ(U32(0), 0x09060300 + 0x22222222); CHECK_EQ(dev.writes, 3))
DEVICE_TEST(shifts, "shl dword ptr [rdi], 4; shrd [rdi+8], rax, 8",
	    CHECK_EQ(U32(0), 0x90603000); CHECK_EQ(dev.bytes[15], 0x22))
DEVICE_TEST(division, "mov qword ptr [rdi], 3; mov eax, 100; xor edx, edx; div qword ptr [rdi]", CHECK_EQ(r.rax, 33))
DEVICE_TEST(conditional, "xor eax, eax; setz byte ptr [rdi]; cmovz rdx, [rdi+8]", CHECK_EQ(dev.bytes[0], 1);
	    CHECK_EQ(r.rdx, U64(8)))
DEVICE_TEST(bit_tests, "lock bts dword ptr [rdi], 0; btr dword ptr [rdi], ebx; bsf rcx, [rdi+8]",
	    CHECK_EQ(U32(0), 0x09060301); CHECK_EQ(r.rcx, 3))
DEVICE_TEST(far_bits, "mov ebx, 0x4001; bts dword ptr [rdi], ebx", CHECK_EQ(dev.access[0].offset, 0x800))

/* ---- locked ---- */
DEVICE_TEST(exchange, "xchg rax, [rdi]; lock xadd [rdi+8], rbx", CHECK_EQ(U64(0), 0x1111111122222222);
	    CHECK_EQ(r.rax, 0x15120f0c09060300); CHECK_EQ(r.rbx, 0x2d2a2724211e1b18))
DEVICE_TEST(cmpxchg_equal, "mov rax, [rdi]; lock cmpxchg [rdi], rbx", CHECK_EQ(U64(0), 0x5555))
DEVICE_TEST(cmpxchg_different, "lock cmpxchg [rdi], rbx", CHECK_EQ(r.rax, 0x15120f0c09060300); CHECK_EQ(U64(0), r.rax))
DEVICE_TEST(cmpxchg_wide, "mov eax, [rdi]; mov edx, [rdi+4]; mov ecx, 7; lock cmpxchg8b [rdi]",
	    CHECK_EQ(U64(0), 0x700005555))
DEVICE_TEST(cmpxchg_16, "mov rax, [rdi]; mov rdx, [rdi+8]; mov ecx, 7; lock cmpxchg16b [rdi]", CHECK_EQ(U64(0), 0x5555);
	    CHECK_EQ(U64(8), 7))

/* ---- stack and branches ---- */
DEVICE_TEST(push_and_pop, "push rbx; pop qword ptr [rdi]; push qword ptr [rdi+8]; pop rax",
	    CHECK_EQ(U64(0), 0x5555); CHECK_EQ(r.rax, U64(8));
	    CHECK_EQ(r.rsp, 0x8000))
DEVICE_TEST(stack_in_a_device, "lea rsp, [rdi+0x100]; push rbx; call 1f; 1: pop rcx; pop rdx; pushfq; popfq",
	    CHECK_EQ(r.rdx, 0x5555); CHECK_EQ(r.rsp, DEVICE + 0x100))
DEVICE_TEST(enter_and_leave, "lea rsp, [rdi+0x200]; lea rbp, [rdi+0x180]; enter 16, 3; leave",
	    CHECK_EQ(r.rsp, DEVICE + 0x200);
	    CHECK_EQ(r.rbp, DEVICE + 0x180))
DEVICE_TEST(call_through, "lea rax, [rip+1f]; mov [rdi], rax; call qword ptr [rdi]; hlt; 1: pop rax; mov ebx, 77",
	    CHECK_EQ(r.rbx, 77))

/* ---- strings ---- */
DEVICE_TEST(copy_in, "xchg rdi, rsi; mov ecx, 20; rep movsb", CHECK(!memcmp(dev.bytes, m.mem + 0x20000, 20));
	    CHECK_EQ(dev.reads, 20))
DEVICE_TEST(copy_within, "mov rsi, rdi; add rdi, 0x100; rep movsq", CHECK(!memcmp(dev.bytes, dev.bytes + 0x100, 24));
	    CHECK_EQ(dev.reads, 3); CHECK_EQ(dev.writes, 3))
DEVICE_TEST(compare, "mov rsi, rdi; mov ecx, 20; repe cmpsb", CHECK_EQ(r.rcx, 0); CHECK_EQ(dev.reads, 40))
DEVICE_TEST(scan, "mov al, [rdi+9]; mov ecx, 20; repne scasb", CHECK_EQ(r.rcx, 10))
DEVICE_TEST(fill, "rep stosq", CHECK_EQ(U64(16), 0x1111111122222222); CHECK_EQ(dev.writes, 3))
DEVICE_TEST(translate_table, "mov rbx, rdi; mov al, 5; xlatb", CHECK_EQ(r.rax & 0xff, 15))

/* ---- x87 and SSE ---- */
DEVICE_TEST(x87_operands, "fninit; fld tbyte ptr [rdi]; fstp tbyte ptr [rdi+0x20]; fild qword ptr [rdi+0x40]; "
	    "fistp qword ptr [rdi+0x50]",
	    CHECK(!memcmp(dev.bytes, dev.bytes + 0x20, 10)); CHECK_EQ(U64(0x40), U64(0x50)))
DEVICE_TEST(x87_state, "fninit; fld1; fnsave [rdi]; frstor [rdi]; fstp qword ptr [rsi]",
	    CHECK_EQ(*(u64 *)(m.mem + 0x20000), 0x3ff0000000000000))
DEVICE_TEST(sse_state, "movq xmm3, rax; fxsave [rdi]; pxor xmm3, xmm3; fxrstor [rdi]; movq rbx, xmm3",
	    CHECK_EQ(r.rbx, r.rax))
DEVICE_TEST(sse_moves, "movups xmm0, [rdi+3]; movups [rdi+0x103], xmm0; movnti [rdi+0x200], rax",
	    CHECK(!memcmp(dev.bytes + 3, dev.bytes + 0x103, 16)); CHECK_EQ(dev.access[0].len, 8);
	    CHECK_EQ(dev.access[1].len, 8);
	    CHECK_EQ(dev.access[1].offset, 11))
DEVICE_TEST(masked_move, "pcmpeqb xmm1, xmm1; movq xmm0, rax; maskmovq mm0, mm0; maskmovdqu xmm0, xmm1",
	    CHECK_EQ(U64(0), 0x1111111122222222))

/* ---- shapes of an access ---- */
DEVICE_TEST(across_pages, "mov rax, [rdi+0xffd]; mov [rdi+0x1ffb], rax; movups xmm0, [rdi+0xff9]; "
	    "movups [rdi+0x2ff3], xmm0",
	    CHECK_EQ(dev.access[0].len, 3); CHECK_EQ(dev.access[1].len, 5); CHECK_EQ(dev.access[1].offset, 0x1000);
	    CHECK(!memcmp(dev.bytes + 0xff9, dev.bytes + 0x2ff3, 16)))
DEVICE_TEST(no_access, "prefetcht0 [rdi]; lea rax, [rdi]; nop dword ptr [rdi]", CHECK_EQ(dev.reads + dev.writes, 0))
DEVICE_TEST(tables, "sgdt [rdi]; lgdt [rdi]; sidt [rdi+16]; lidt [rdi+16]; mov word ptr [rdi], 0; "
	    "mov ds, [rdi]; lldt [rdi]",
	    CHECK_EQ(dev.bytes[0], 0))

/* Until the client comes back nothing has happened, and it may never come back. */
GUEST(load_store, 64, "mov rax, [rdi]; mov [rdi+8], rax; hlt");

TEST(abandoned_accesses)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, load_store);
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = DEVICE, .rax = 5 });
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(get_regs(&m).rip, 0x1000);
	CHECK_EQ(get_regs(&m).rax, 5);
	/* Elsewhere, as if that had never been. */
	CODE(&m, 0x2000, 0x90, 0xf4);
	go(&m, 0x2000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x2002);
	CHECK_EQ(get_regs(&m).rax, 0);
}

/* The slot appears between the exit and its completion. */
TEST(memory_instead_of_the_device)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(MIB);

	LOAD(&m, 0x1000, load_store);
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = DEVICE });
	run_until(&m, KVM_EXIT_MMIO);
	memset(m.run->mmio.data, 0x11, 8);
	OK(set_slot(m.vm, 1, 0, DEVICE, MIB, mem));
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(*(u64 *)(mem + 8), get_regs(&m).rax);
}

/* Nothing can be executed from a device: told with the state of before, also half-way into an instruction. */
TEST(code_in_a_device)
{
	struct machine m = machine_new(MIB);

	start_prot(&m, DEVICE);
	for (unsigned n = 0; n < 2; n++) {
		run_until(&m, KVM_EXIT_INTERNAL_ERROR);
		CHECK_EQ(m.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
		CHECK_EQ(get_regs(&m).rip, DEVICE);
	}
	m.mem[MIB - 1] = 0x66; /* a prefix, and then no memory */
	start_prot(&m, MIB - 1);
	run_until(&m, KVM_EXIT_INTERNAL_ERROR);
	CHECK_EQ(get_regs(&m).rip, MIB - 1);
}
