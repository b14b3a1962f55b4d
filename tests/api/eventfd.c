// SPDX-License-Identifier: MIT
/* Guest writes that need not exit: KVM_IOEVENTFD (api.rst 4.59) and the coalesced ring (4.116). */
#include <sys/eventfd.h>

#include "guest.h"

#define PAGE_SIZE PAGE /* that KVM_COALESCED_MMIO_MAX names */
#define DOORBELL (16 * MIB)
#define PORT 0x1234

/* mov [edi], al; mov [edi], ax; mov [edi], eax */
GUEST(store_three, 32, "mov [edi], al; mov [edi], ax; mov [edi], eax; hlt");
GUEST(out_three, 32, "out dx, al; out dx, ax; out dx, eax; hlt");
GUEST(store_and_load, 32, "mov [edi], eax; mov eax, [edi]; hlt");
GUEST(store_n, 32, "1: mov [edi], ecx; loop 1b; hlt");
GUEST(out_string, 32, "rep outsb; hlt");

static int event(void)
{
	return (int)OK(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

static u64 signals(int fd)
{
	u64 n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static int ioeventfd(struct machine *m, int fd, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd e = { .fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match };

	return ioctl(m->vm, KVM_IOEVENTFD, &e);
}

static void begin(struct machine *m, u64 rdi, u64 rax, u64 rcx)
{
	start_prot(m, 0x1000);
	set_regs(m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsp = 0x8000, .rdi = rdi, .rax = rax, .rcx = rcx,
				       .rdx = PORT, .rsi = 0x3000 });
}

TEST(mmio_write_signals)
{
	struct machine m = machine_new(MIB);
	int word = event(), any = event();

	LOAD(&m, 0x1000, store_three);
	OK(ioeventfd(&m, word, DOORBELL, 2, 0, 0));
	begin(&m, DOORBELL, 5, 0);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.len, 1);
	CHECK_EQ(signals(word), 0);
	run_until(&m, KVM_EXIT_MMIO); /* the 2-byte store did not exit */
	CHECK_EQ(m.run->mmio.len, 4);
	CHECK_EQ(signals(word), 1);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(word), 0);
	/* Gone. */
	OK(ioeventfd(&m, word, DOORBELL, 2, KVM_IOEVENTFD_FLAG_DEASSIGN, 0));
	begin(&m, DOORBELL, 5, 0);
	for (unsigned n = 0; n < 3; n++)
		run_until(&m, KVM_EXIT_MMIO);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(word), 0);
	if (cap(&m, KVM_CAP_IOEVENTFD_ANY_LENGTH) <= 0)
		return;
	OK(ioeventfd(&m, any, DOORBELL, 0, 0, 0));
	begin(&m, DOORBELL, 5, 0);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(any), 3);
}

TEST(port_write_signals)
{
	struct machine m = machine_new(MIB);
	int fd = event();

	LOAD(&m, 0x1000, out_three);
	OK(ioeventfd(&m, fd, PORT, 1, KVM_IOEVENTFD_FLAG_PIO, 0));
	begin(&m, 0, 5, 0);
	run_until(&m, KVM_EXIT_IO);
	CHECK_EQ(m.run->io.size, 2);
	run_until(&m, KVM_EXIT_IO);
	CHECK_EQ(m.run->io.size, 4);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(fd), 1);
	/* The same address in memory is something else. */
	LOAD(&m, 0x1000, store_three);
	begin(&m, DOORBELL + PORT, 5, 0);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(signals(fd), 0);
}

TEST(string_output_signals)
{
	struct machine m = machine_new(MIB);
	int fd = event();

	LOAD(&m, 0x1000, out_string);
	OK(ioeventfd(&m, fd, PORT, 1, KVM_IOEVENTFD_FLAG_PIO, 0));
	begin(&m, 0, 0, 5);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(fd), 5);
	CHECK_EQ(get_regs(&m).rsi, 0x3005);
	CHECK_EQ(get_regs(&m).rcx, 0);
}

TEST(datamatch)
{
	struct machine m = machine_new(MIB);
	int one = event(), two = event();

	LOAD(&m, 0x1000, store_n);
	OK(ioeventfd(&m, one, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DATAMATCH, 1));
	OK(ioeventfd(&m, two, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DATAMATCH, 2));
	begin(&m, DOORBELL, 0, 3);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.data[0], 3);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(one), 1);
	CHECK_EQ(signals(two), 1);
	/* What is removed must be named exactly. */
	FAILS(ioeventfd(&m, one, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN | KVM_IOEVENTFD_FLAG_DATAMATCH, 2), ENOENT);
	FAILS(ioeventfd(&m, one, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN, 1), ENOENT);
	OK(ioeventfd(&m, one, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN | KVM_IOEVENTFD_FLAG_DATAMATCH, 1));
	FAILS(ioeventfd(&m, one, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN | KVM_IOEVENTFD_FLAG_DATAMATCH, 1), ENOENT);
}

TEST(ioeventfd_errors)
{
	struct machine m = machine_new(MIB);
	int fd = event(), other = event();

	FAILS(ioeventfd(&m, fd, DOORBELL, 3, 0, 0), EINVAL);
	FAILS(ioeventfd(&m, fd, DOORBELL, 16, 0, 0), EINVAL);
	FAILS(ioeventfd(&m, fd, DOORBELL, 4, 0x100, 0), EINVAL);
	FAILS(ioeventfd(&m, fd, ~0ull, 4, 0, 0), EINVAL);
	FAILS(ioeventfd(&m, fd, DOORBELL, 0, KVM_IOEVENTFD_FLAG_DATAMATCH, 0), EINVAL);
	FAILS(ioeventfd(&m, -1, DOORBELL, 4, 0, 0), EBADF);
	FAILS(ioeventfd(&m, m.kvm, DOORBELL, 4, 0, 0), EINVAL);
	FAILS(ioeventfd(&m, fd, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN, 0), ENOENT);
	OK(ioeventfd(&m, fd, DOORBELL, 4, 0, 0));
	FAILS(ioeventfd(&m, other, DOORBELL, 4, 0, 0), EEXIST);
	FAILS(ioeventfd(&m, other, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DATAMATCH, 7), EEXIST);
	FAILS(ioeventfd(&m, other, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN, 0), ENOENT);
	OK(ioeventfd(&m, other, DOORBELL, 8, 0, 0));
	OK(ioeventfd(&m, other, DOORBELL, 4, KVM_IOEVENTFD_FLAG_PIO, 0));
}

/* The VM has the event, not the number: the client may close it. Reads exit all the same; memory is memory. */
TEST(eventfd_is_held)
{
	struct machine m = machine_new(MIB);
	int fd = event(), copy = (int)OK(dup(fd));

	LOAD(&m, 0x1000, store_and_load);
	OK(ioeventfd(&m, fd, DOORBELL, 4, 0, 0));
	OK(ioeventfd(&m, fd, 0x5000, 4, 0, 0));
	close(fd);
	begin(&m, DOORBELL, 7, 0);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.is_write, 0);
	CHECK_EQ(signals(copy), 1);
	run_until(&m, KVM_EXIT_HLT);
	begin(&m, 0x5000, 7, 0);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(signals(copy), 0);
	CHECK_EQ(*(u32 *)(m.mem + 0x5000), 7);
	OK(ioeventfd(&m, copy, DOORBELL, 4, KVM_IOEVENTFD_FLAG_DEASSIGN, 0));
}

/* ---- the ring ---- */

static struct kvm_coalesced_mmio_ring *ring_of(struct machine *m)
{
	long page = cap(m, KVM_CAP_COALESCED_MMIO);

	if (page <= 0)
		test_skip("no KVM_CAP_COALESCED_MMIO");
	return (void *)((u8 *)m->run + (u64)page * PAGE);
}

static int zone(struct machine *m, unsigned long request, u64 addr, u32 size, u32 pio)
{
	struct kvm_coalesced_mmio_zone z = { .addr = addr, .size = size, .pio = pio };

	return ioctl(m->vm, request, &z);
}

TEST(coalesced_writes_wait_in_the_ring)
{
	struct machine m = machine_new(MIB);
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m);

	LOAD(&m, 0x1000, store_three);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL, 4096, 0));
	begin(&m, DOORBELL + 8, 0x11223344, 0);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(ring->first, 0);
	CHECK_EQ(ring->last, 3);
	for (unsigned n = 0; n < 3; n++) {
		CHECK_EQ(ring->coalesced_mmio[n].phys_addr, DOORBELL + 8);
		CHECK_EQ(ring->coalesced_mmio[n].len, 1u << n);
		CHECK_EQ(ring->coalesced_mmio[n].pio, 0);
		CHECK(!memcmp(ring->coalesced_mmio[n].data, "\x44\x33\x22\x11", 1u << n));
	}
	/* A read exits, and one that is partly outside too. */
	ring->first = ring->last;
	LOAD(&m, 0x1000, store_and_load);
	begin(&m, DOORBELL + 8, 1, 0);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.is_write, 0);
	OK(zone(&m, KVM_UNREGISTER_COALESCED_MMIO, DOORBELL, 4096, 0));
	begin(&m, DOORBELL + 8, 1, 0);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.is_write, 1);
}

/*
 * One instruction with accesses that wait in the ring and others that exit: the client sees each byte once, whichever
 * way, however often the instruction has to start again.
 */
GUEST(pusha, 32, "pusha; hlt");
GUEST(store_16, 32, "movups [edi], xmm0; hlt");
GUEST(move_string, 32, "rep movsd; hlt");
GUEST(save_state, 32, "fxsave [edi]; hlt");
GUEST(push_twice, 64, "push rax; add rsp, 8; push rax; add rsp, 8; mov [rdi+0x100], eax; mov [rdi], eax; hlt");

/* Runs until HLT; how often each byte of the device was written by an exit or through the ring. */
static void count_writes(struct machine *m, u8 *seen, u64 size)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(m);
	u64 at;

	memset(seen, 0, size);
	for (;;) {
		OK(ioctl(m->vcpu, KVM_RUN, 0));
		for (; ring->first != ring->last; ring->first = (ring->first + 1) % KVM_COALESCED_MMIO_MAX)
			for (u32 n = 0; n < ring->coalesced_mmio[ring->first].len; n++) {
				at = ring->coalesced_mmio[ring->first].phys_addr + n - DOORBELL;
				CHECK(at < size);
				seen[at]++;
			}
		if (m->run->exit_reason == KVM_EXIT_HLT)
			return;
		CHECK_EQ(m->run->exit_reason, KVM_EXIT_MMIO);
		for (u32 n = 0; n < m->run->mmio.len && m->run->mmio.is_write; n++) {
			at = m->run->mmio.phys_addr + n - DOORBELL;
			CHECK(at < size);
			seen[at]++;
		}
	}
}

static void check_once(const u8 *seen, unsigned from, unsigned to)
{
	for (unsigned n = from; n < to; n++)
		if (seen[n] != 1)
			FAIL("byte %u was written %u times", n, seen[n]);
}

TEST(each_access_once)
{
	struct machine m = machine_new(MIB);
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2 };
	struct kvm_sregs s;
	u8 seen[1024];

	/* The upper half of what is pushed, which comes first. */
	LOAD(&m, 0x1000, pusha);
	start_prot(&m, 0x1000);
	s = get_sregs(&m);
	s.cr4 |= 0x600; /* SSE */
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL + 16, 16, 0));
	r.rsp = DOORBELL + 32;
	set_regs(&m, r);
	count_writes(&m, seen, 32);
	check_once(seen, 0, 32);
	CHECK_EQ(get_regs(&m).rsp, DOORBELL);
	/* The first half of one operand; then all of it within a larger one. */
	LOAD(&m, 0x1000, store_16);
	r.rdi = DOORBELL + 24;
	set_regs(&m, r);
	count_writes(&m, seen, 40);
	check_once(seen, 24, 40);
	/* Read by an exit, written to the ring, and the other way round. */
	LOAD(&m, 0x1000, move_string);
	r.rsi = DOORBELL + 64;
	r.rdi = DOORBELL + 12;
	r.rcx = 6;
	set_regs(&m, r);
	count_writes(&m, seen, 40);
	check_once(seen, 12, 36);
	LOAD(&m, 0x1000, save_state);
	r.rdi = DOORBELL;
	set_regs(&m, r);
	count_writes(&m, seen, 512);
	check_once(seen, 0, 288);
}

/* The same access again is another one, in one run of code and in the next. */
TEST(equal_accesses_are_many)
{
	struct machine m = machine_new(MIB);
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m);

	LOAD(&m, 0x1000, push_twice);
	start_long(&m, 0x1000);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL, 16, 0));
	for (unsigned n = 1; n < 4; n++) {
		set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = DOORBELL, .rsp = DOORBELL + 8 });
		run_until(&m, KVM_EXIT_MMIO);
		CHECK_EQ(m.run->mmio.phys_addr, DOORBELL + 0x100);
		CHECK_EQ(ring->last, 3 * n - 1);
		run_until(&m, KVM_EXIT_HLT);
		CHECK_EQ(ring->last, 3 * n);
	}
}

/* The client goes elsewhere in the middle of an instruction, and later starts it anew. */
TEST(abandoned_in_the_middle)
{
	struct machine m = machine_new(MIB);
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m);
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2, .rsp = DOORBELL + 32 };

	LOAD(&m, 0x1000, pusha);
	CODE(&m, 0x2000, 0xf4);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL + 28, 4, 0));
	for (unsigned n = 1; n < 3; n++) {
		start_prot(&m, 0x1000);
		set_regs(&m, r);
		run_until(&m, KVM_EXIT_MMIO);
		CHECK_EQ(ring->last, n);
		go(&m, 0x2000);
		run_until(&m, KVM_EXIT_HLT);
	}
}

TEST(full_ring_exits)
{
	struct machine m = machine_new(MIB);
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m);
	u32 max = KVM_COALESCED_MMIO_MAX;

	LOAD(&m, 0x1000, store_n);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL, 4, 0));
	begin(&m, DOORBELL, 0, 2 * max);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(ring->last, max - 1);
	CHECK_EQ(m.run->mmio.data[0], (u8)(2 * max - (max - 1)));
	ring->first = ring->last;
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ((ring->last + 1) % max, ring->first);
	ring->first = ring->last;
	run_until(&m, KVM_EXIT_HLT);
}

/* The client may write the ring's indices, so they may be anything. */
TEST(nonsense_in_the_ring)
{
	struct machine m = machine_new(MIB);
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m);

	LOAD(&m, 0x1000, store_n);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL, 4, 0));
	ring->last = 0x7fffffff;
	begin(&m, DOORBELL, 0, 1);
	run_until(&m, KVM_EXIT_MMIO);
	run_until(&m, KVM_EXIT_HLT);
	ring->last = 0xffffffff;
	ring->first = 0xfffffff0;
	begin(&m, DOORBELL, 0, 1);
	run_until(&m, KVM_EXIT_MMIO);
	run_until(&m, KVM_EXIT_HLT);
}

TEST(coalesced_ports)
{
	struct machine m = machine_new(MIB);
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m);

	if (cap(&m, KVM_CAP_COALESCED_PIO) <= 0)
		test_skip("no KVM_CAP_COALESCED_PIO");
	LOAD(&m, 0x1000, out_three);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, PORT, 4, 1));
	begin(&m, 0, 0x11223344, 0);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(ring->last, 3);
	CHECK_EQ(ring->coalesced_mmio[2].pio, 1);
	CHECK_EQ(ring->coalesced_mmio[2].phys_addr, PORT);
	CHECK_EQ(*(u32 *)ring->coalesced_mmio[2].data, 0x11223344);
	FAILS(zone(&m, KVM_REGISTER_COALESCED_MMIO, PORT, 4, 2), EINVAL);
	FAILS(zone(&m, KVM_UNREGISTER_COALESCED_MMIO, PORT, 4, 2), EINVAL);
	OK(zone(&m, KVM_UNREGISTER_COALESCED_MMIO, PORT, 4, 1));
	begin(&m, 0, 0, 0);
	run_until(&m, KVM_EXIT_IO);
}

/* There is one ring; the second vCPU's mapping shows it as well. */
TEST(ring_is_that_of_the_vm)
{
	struct machine m = machine_new(MIB), second = m;
	struct kvm_coalesced_mmio_ring *ring = ring_of(&m), *ring2;

	second.vcpu = machine_vcpu(&m, 1, &second.run);
	ring2 = ring_of(&second);
	LOAD(&m, 0x1000, store_three);
	OK(zone(&m, KVM_REGISTER_COALESCED_MMIO, DOORBELL, 4096, 0));
	begin(&second, DOORBELL, 5, 0);
	run_until(&second, KVM_EXIT_HLT);
	CHECK_EQ(ring->last, 3);
	CHECK_EQ(ring2->last, 3);
	ring2->first = 3;
	CHECK_EQ(ring->first, 3);
}
