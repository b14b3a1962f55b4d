// SPDX-License-Identifier: MIT
/*
 * Port I/O in all its forms: sizes, strings, directions, segments, address sizes, pages, devices (spec 5, KVM_EXIT_IO).
 */
#include "guest.h"

static u8 *io_data(struct machine *m)
{
	return (u8 *)m->run + m->run->io.data_offset;
}

/* The guest's whole output to port 0x80, until HLT; count elements of size bytes. */
static void collect(struct machine *m, unsigned size, unsigned count, void *out)
{
	unsigned got = 0;

	while (got < count) {
		run_until(m, KVM_EXIT_IO);
		CHECK_EQ(m->run->io.direction, KVM_EXIT_IO_OUT);
		CHECK_EQ(m->run->io.port, 0x80);
		CHECK_EQ(m->run->io.size, size);
		CHECK(m->run->io.count >= 1 && m->run->io.count <= count - got);
		CHECK(m->run->io.data_offset + (u64)m->run->io.count * size <= m->run_size);
		memcpy((u8 *)out + (u64)got * size, io_data(m), (u64)m->run->io.count * size);
		got += m->run->io.count;
	}
	run_until(m, KVM_EXIT_HLT);
}

/* The other way round. */
static void feed(struct machine *m, unsigned size, unsigned count, const void *in)
{
	unsigned got = 0;

	while (got < count) {
		run_until(m, KVM_EXIT_IO);
		CHECK_EQ(m->run->io.direction, KVM_EXIT_IO_IN);
		CHECK_EQ(m->run->io.size, size);
		CHECK(m->run->io.count >= 1 && m->run->io.count <= count - got);
		CHECK(m->run->io.data_offset + (u64)m->run->io.count * size <= m->run_size);
		memcpy(io_data(m), (const u8 *)in + (u64)got * size, (u64)m->run->io.count * size);
		got += m->run->io.count;
	}
	run_until(m, KVM_EXIT_HLT);
}

GUEST(out_backwards, 16, "std; mov cx, 5; mov si, 0x2004; mov dx, 0x80; rep outsb; hlt");

TEST(backwards_out)
{
	struct machine m = machine_new(MIB);
	char out[5];

	LOAD(&m, 0x1000, out_backwards);
	memcpy(m.mem + 0x2000, "olleh", 5);
	start_real(&m, 0x1000);
	collect(&m, 1, 5, out);
	CHECK(!memcmp(out, "hello", 5));
	CHECK_EQ(get_regs(&m).rsi & 0xffff, 0x1fff);
	CHECK_EQ(get_regs(&m).rcx & 0xffff, 0);
}

GUEST(in_backwards, 16, "std; mov cx, 5; mov di, 0x2004; mov dx, 0x80; rep insb; hlt");

TEST(backwards_in)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, in_backwards);
	start_real(&m, 0x1000);
	feed(&m, 1, 5, "olleh");
	CHECK(!memcmp(m.mem + 0x2000, "hello", 5));
	CHECK_EQ(get_regs(&m).rdi & 0xffff, 0x1fff);
}

GUEST(count_zero, 16, "xor cx, cx; mov dx, 0x80; rep outsb; rep insb; hlt");

TEST(no_iterations_no_exit)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, count_zero);
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
}

GUEST(from_fs, 16, "mov ax, 0x300; mov fs, ax; mov si, 5; mov dx, 0x80; .byte 0x64; outsw; hlt");

TEST(segment_override)
{
	struct machine m = machine_new(MIB);
	u16 out;

	LOAD(&m, 0x1000, from_fs);
	memcpy(m.mem + 0x3005, (u16[]){ 0xbeef }, 2);
	start_real(&m, 0x1000);
	collect(&m, 2, 1, &out);
	CHECK_EQ(out, 0xbeef);
	CHECK_EQ(get_regs(&m).rsi, 7);
}

GUEST(address_32, 16, "mov esi, 0x12345; mov ecx, 2; mov dx, 0x80; .byte 0x67, 0x66, 0xf3, 0x6f; hlt");

TEST(address_size_override)
{
	struct machine m = machine_new(MIB);
	struct kvm_sregs s;
	u32 out[2];

	LOAD(&m, 0x1000, address_32);
	start_real(&m, 0x1000);
	s = get_sregs(&m);
	s.ds.limit = 0xffffffff;
	s.ds.g = 1;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	memcpy(m.mem + 0x12345, (u32[]){ 0x11223344, 0x55667788 }, 8);
	collect(&m, 4, 2, out);
	CHECK_EQ(out[0], 0x11223344);
	CHECK_EQ(out[1], 0x55667788);
	CHECK_EQ(get_regs(&m).rsi, 0x1234d);
}

/* Elements that lie across pages, and more of them than the data page holds. */
#define LONG_COUNT 3000u
GUEST(long_out, 64, "mov esi, 0x20ffd; mov ecx, 3000; mov edx, 0x80; rep outsd; hlt");
GUEST(long_in, 64, "mov edi, 0x20ffd; mov ecx, 3000; mov edx, 0x80; rep insd; hlt");

static void pattern(u8 *p)
{
	for (unsigned n = 0; n < 4 * LONG_COUNT; n++)
		p[n] = (u8)(n * 7 + (n >> 8));
}

TEST(long_strings)
{
	static u8 data[4 * LONG_COUNT], out[4 * LONG_COUNT];
	struct machine m = machine_new(MIB);

	pattern(data);
	LOAD(&m, 0x1000, long_out);
	start_long(&m, 0x1000);
	memcpy(m.mem + 0x20ffd, data, sizeof(data));
	collect(&m, 4, LONG_COUNT, out);
	CHECK(!memcmp(out, data, sizeof(data)));
	CHECK_EQ(get_regs(&m).rsi, 0x20ffd + sizeof(data));
	LOAD(&m, 0x1000, long_in);
	go(&m, 0x1000);
	memset(m.mem + 0x20ffd, 0, sizeof(data));
	feed(&m, 4, LONG_COUNT, data);
	CHECK(!memcmp(m.mem + 0x20ffd, data, sizeof(data)));
}

/* Between a port and a device: both are the client's, and each element takes both. */
GUEST(port_to_device, 64, "mov edi, 0x1000000; mov ecx, 3; mov edx, 0x80; rep insw; hlt");
GUEST(device_to_port, 64, "mov esi, 0x1000000; mov ecx, 3; mov edx, 0x80; rep outsw; hlt");

static void between(struct machine *m, unsigned *ports, unsigned *accesses)
{
	static const u16 value[] = { 0x100, 0x101, 0x102 };
	struct kvm_run *run = m->run;

	for (;;) {
		OK(ioctl(m->vcpu, KVM_RUN, 0));
		if (run->exit_reason == KVM_EXIT_HLT)
			return;
		if (run->exit_reason == KVM_EXIT_IO) {
			CHECK(*ports + run->io.count <= 3);
			if (run->io.direction == KVM_EXIT_IO_IN)
				memcpy(io_data(m), value + *ports, 2 * run->io.count);
			else
				CHECK(!memcmp(io_data(m), value + *ports, 2 * run->io.count));
			*ports += run->io.count;
			continue;
		}
		CHECK_EQ(run->exit_reason, KVM_EXIT_MMIO);
		CHECK_EQ(run->mmio.len, 2);
		CHECK_EQ(run->mmio.phys_addr, 16 * MIB + 2 * *accesses);
		if (run->mmio.is_write)
			CHECK(!memcmp(run->mmio.data, value + *accesses, 2));
		else
			memcpy(run->mmio.data, value + *accesses, 2);
		++*accesses;
	}
}

TEST(strings_between_port_and_device)
{
	struct machine m = machine_new(MIB);
	unsigned ports = 0, accesses = 0;

	LOAD(&m, 0x1000, port_to_device);
	start_long(&m, 0x1000);
	between(&m, &ports, &accesses);
	CHECK_EQ(ports, 3);
	CHECK_EQ(accesses, 3);
	ports = accesses = 0;
	LOAD(&m, 0x1000, device_to_port);
	go(&m, 0x1000);
	between(&m, &ports, &accesses);
	CHECK_EQ(ports, 3);
	CHECK_EQ(accesses, 3);
}

/* INS looks at its destination before it asks the port: nothing is lost to a page fault. */
GUEST(in_nowhere, 64, "mov rdi, 0x40000000; mov edx, 0x80; insb; hlt");

TEST(faulting_in_does_not_read_the_port)
{
	struct machine m = machine_new(MIB);

	LOAD(&m, 0x1000, in_nowhere);
	start_long(&m, 0x1000);
	OK(ioctl(m.vcpu, KVM_RUN, 0));
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_SHUTDOWN);
}
