// SPDX-License-Identifier: MIT
/* String instructions and port I/O: pages, directions, devices, the protocol with the client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "exec.h"

#define MEM (4ull << 20)
#define DEVICE 0x10000000ull /* no memory there */
#define REP 0xf3
#define REPNE 0xf2

static int setup(void **state)
{
	struct flat *f = flat_new(MEM);

	flat_prot(f, 0x1000);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	flat_free(*state);
	return 0;
}

static void fill(struct flat *f, u64 from, u64 n)
{
	for (u64 k = 0; k < n; k++)
		f->mem[from + k] = (u8)(k * 7 + (k >> 8));
}

static void set_string(struct cpu *c, u64 si, u64 di, u64 count)
{
	c->gpr[RSI] = si;
	c->gpr[RDI] = di;
	c->gpr[RCX] = count;
}

/* What REP MOVS does, element by element. */
static void reference_movs(u8 *mem, u64 si, u64 di, u64 count, unsigned bytes, bool down)
{
	s64 step = down ? -(s64)bytes : bytes;

	for (; count; count--) {
		u8 v[8];

		memcpy(v, mem + si, bytes);
		memcpy(mem + di, v, bytes);
		si += step;
		di += step;
	}
}

static void movs_any_alignment(void **state)
{
	static const struct {
		u64 si, di, n;
	} cases[] = {
		{ 0x20000, 0x30000, 5000 }, { 0x20ffd, 0x30003, 3000 }, { 0x20ffd, 0x30ffe, 2500 },
		{ 0x20000, 0x20001, 4000 }, { 0x20000, 0x20003, 4000 }, { 0x20010, 0x20000, 4000 },
		{ 0x20000, 0x30000, 1 },    { 0x20000, 0x30000, 0 },    { 0x21fff, 0x31fff, 2 },
	};
	struct flat *f = *state;
	u8 *copy = malloc(MEM);

	for (size_t k = 0; k < ARRAY_SIZE(cases); k++)
		for (unsigned size = 0; size < 3; size++)
			for (unsigned down = 0; down < 2; down++) {
				u64 si = cases[k].si + (down ? 0x8000 : 0), di = cases[k].di + (down ? 0x8000 : 0);
				u64 moved = cases[k].n << size;

				fill(f, 0x10000, 0x40000);
				memcpy(copy, f->mem, MEM);
				reference_movs(copy, si, di, cases[k].n, 1u << size, down);
				set_string(&f->cpu, si, di, cases[k].n);
				f->cpu.rflags = down ? FL_DF : 0;
				if (size == SZ_8)
					assert_int_equal(EXEC_ALL(f, REP, 0xa4), ST_OK);
				else if (size == SZ_16)
					assert_int_equal(EXEC_ALL(f, 0x66, REP, 0xa5), ST_OK);
				else
					assert_int_equal(EXEC_ALL(f, REP, 0xa5), ST_OK);
				assert_memory_equal(f->mem, copy, MEM);
				assert_int_equal(f->cpu.gpr[RCX], 0);
				assert_int_equal(f->cpu.gpr[RSI], down ? si - moved : si + moved);
				assert_int_equal(f->cpu.gpr[RDI], down ? di - moved : di + moved);
			}
	free(copy);
}

static void stos_wraps_in_16_bits(void **state)
{
	struct flat *f = *state;

	flat_real(f, 0x1000);
	f->cpu.cr0 &= ~CR0_PE;
	flat_seg(&f->cpu, SEG_ES, 0x2000, 0x20000, 0xffff, 0x93);
	cpu_update_mode(&f->cpu);
	f->cpu.gpr[RAX] = 0xaa;
	set_string(&f->cpu, 0, 0xdead0000fff0, 0xbeef00000020);
	assert_int_equal(EXEC_ALL(f, REP, 0xaa), ST_OK);
	assert_int_equal(f->mem[0x2ffff], 0xaa);
	assert_int_equal(f->mem[0x30000], 0);
	assert_int_equal(f->mem[0x2000f], 0xaa);
	assert_int_equal(f->mem[0x20010], 0);
	assert_int_equal(f->cpu.gpr[RDI], 0xdead00000010);
	assert_int_equal(f->cpu.gpr[RCX], 0xbeef00000000);
	/* A word does not wrap: it is beyond the limit; what came before is done. */
	set_string(&f->cpu, 0, 0xfffd, 4);
	assert_fault(f, EXEC_ALL(f, REP, 0xab), VEC_GP, 0);
	assert_int_equal(f->cpu.gpr[RDI], 0xffff);
	assert_int_equal(f->cpu.gpr[RCX], 3);
}

static void scas_and_cmps_stop(void **state)
{
	struct flat *f = *state;

	memset(f->mem + 0x20000, 'x', 0x3000);
	f->mem[0x21234] = 0;
	f->cpu.gpr[RAX] = 0;
	set_string(&f->cpu, 0, 0x20001, 0x7fffffff);
	assert_int_equal(EXEC_ALL(f, REPNE, 0xae), ST_OK);
	assert_int_equal(f->cpu.gpr[RDI], 0x21235);
	assert_int_equal(f->cpu.gpr[RCX], 0x7fffffff - 0x1234);
	assert_true(f->cpu.cc & FL_ZF);

	memset(f->mem + 0x30000, 'x', 0x3000);
	f->mem[0x30100] = 'y';
	set_string(&f->cpu, 0x20000, 0x30000, 0x1000);
	assert_int_equal(EXEC_ALL(f, REP, 0xa6), ST_OK);
	assert_int_equal(f->cpu.gpr[RSI], 0x20101);
	assert_int_equal(f->cpu.gpr[RDI], 0x30101);
	assert_int_equal(f->cpu.cc & (FL_ZF | FL_CF), FL_CF); /* 'x' - 'y' */
	f->cpu.cc = FL_CF;
	set_string(&f->cpu, 0x20000, 0x30000, 0);
	assert_int_equal(EXEC_ALL(f, REP, 0xa6), ST_OK);
	assert_int_equal(f->cpu.cc & FL_STATUS, FL_CF);
}

/* Answers the last access as the client would. */
static void answer_mmio(struct flat *f, u64 data)
{
	struct io_access *a = &f->cpu.io.acc[f->cpu.io.n - 1];

	if (!a->write)
		a->data = data;
	a->answered = true;
}

static void movs_between_devices(void **state)
{
	struct flat *f = *state;

	set_string(&f->cpu, DEVICE, DEVICE + 0x1000, 3);
	for (u32 k = 0, value; k < 3; k++) {
		assert_int_equal(EXEC_ALL(f, REP, 0xa5), ST_EXIT);
		assert_int_equal(f->cpu.exit.reason, EXIT_MMIO);
		assert_int_equal(f->cpu.exit.mmio.gpa, DEVICE + 4 * k);
		assert_false(f->cpu.exit.mmio.write);
		assert_int_equal(f->cpu.gpr[RCX], 3 - k);
		answer_mmio(f, 0x11110000 + k);
		assert_int_equal(EXEC_ALL(f, REP, 0xa5), ST_EXIT);
		assert_int_equal(f->cpu.exit.mmio.gpa, DEVICE + 0x1000 + 4 * k);
		assert_true(f->cpu.exit.mmio.write);
		value = 0x11110000 + k;
		assert_memory_equal(f->cpu.exit.mmio.data, &value, 4);
		answer_mmio(f, 0);
	}
	assert_int_equal(EXEC_ALL(f, REP, 0xa5), ST_OK);
	assert_int_equal(f->cpu.gpr[RCX], 0);
	assert_int_equal(f->cpu.gpr[RSI], DEVICE + 12);
}

static void one_iteration_a_step(void **state)
{
	struct flat *f = *state;

	cpu_attn(&f->cpu, ATTN_STEP);
	set_string(&f->cpu, 0x20000, 0x30000, 3);
	assert_int_equal(EXEC(f, REP, 0xa4), ST_AGAIN);
	assert_int_equal(f->cpu.gpr[RCX], 2);
	assert_int_equal(EXEC(f, REP, 0xa4), ST_AGAIN);
	assert_int_equal(EXEC(f, REP, 0xa4), ST_OK);
	assert_int_equal(f->cpu.gpr[RDI], 0x30003);
}

/* ---- ports ---- */
static void assert_pio(struct flat *f, int st, u16 port, u8 size, bool in, u32 count)
{
	assert_int_equal(st, ST_EXIT);
	assert_int_equal(f->cpu.exit.reason, EXIT_IO);
	assert_int_equal(f->cpu.exit.io.port, port);
	assert_int_equal(f->cpu.exit.io.size, size);
	assert_int_equal(f->cpu.exit.io.in, in);
	assert_int_equal(f->cpu.exit.io.count, count);
}

static void in_and_out(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->gpr[RDX] = 0x3f8;
	c->gpr[RAX] = 0x1122334455667788;
	assert_pio(f, EXEC(f, 0xee), 0x3f8, 1, false, 1); /* out dx, al */
	assert_int_equal(f->pio_data[0], 0x88);
	c->pio.answered = true;
	assert_int_equal(EXEC(f, 0xee), ST_OK);
	assert_false(c->pio.pending);
	assert_pio(f, EXEC(f, 0xed), 0x3f8, 4, true, 1); /* in eax, dx */
	*(u32 *)f->pio_data = 0xcafebabe;
	c->pio.answered = true;
	assert_int_equal(EXEC(f, 0xed), ST_OK);
	assert_int_equal(c->gpr[RAX], 0xcafebabe);
	assert_pio(f, EXEC(f, 0x66, 0xe5, 0x70), 0x70, 2, true, 1); /* in ax, 0x70 */
	*(u16 *)f->pio_data = 0x1234;
	c->pio.answered = true;
	assert_int_equal(EXEC(f, 0x66, 0xe5, 0x70), ST_OK);
	assert_int_equal(c->gpr[RAX], 0xcafe1234);
	/* An answer to something else is nobody's. */
	assert_pio(f, EXEC(f, 0xe6, 0x71), 0x71, 1, false, 1);
	c->pio.answered = true;
	assert_pio(f, EXEC(f, 0xe6, 0x72), 0x72, 1, false, 1);
}

static void outs_in_batches(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;
	u64 sent = 0;

	fill(f, 0x20000, 0x3000);
	c->gpr[RDX] = 0x1f0;
	set_string(c, 0x20ff0, 0, 0x1000);
	while (sent < 0x2000) {
		u32 n;

		assert_int_equal(EXEC_ALL(f, REP, 0x66, 0x6f), ST_EXIT);
		n = c->exit.io.count;
		assert_pio(f, ST_EXIT, 0x1f0, 2, false, n);
		assert_memory_equal(f->pio_data, f->mem + 0x20ff0 + sent, 2 * n);
		assert_int_equal(c->gpr[RSI], 0x20ff0 + sent);
		sent += 2 * n;
		c->pio.answered = true;
	}
	assert_int_equal(EXEC_ALL(f, REP, 0x66, 0x6f), ST_OK);
	assert_int_equal(c->gpr[RCX], 0);
	assert_int_equal(c->gpr[RSI], 0x20ff0 + 0x2000);
	assert_true(c->stats.pio < 8);
}

static void ins_in_batches(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;
	u32 next = 0;

	c->gpr[RDX] = 0x1f0;
	set_string(c, 0, 0x20ff2, 0x800); /* elements cross the page */
	while (EXEC_ALL(f, REP, 0x6d) == ST_EXIT) {
		assert_pio(f, ST_EXIT, 0x1f0, 4, true, c->exit.io.count);
		for (u32 k = 0; k < c->exit.io.count; k++, next++)
			memcpy(f->pio_data + 4 * k, &next, 4);
		c->pio.answered = true;
	}
	assert_int_equal(next, 0x800);
	assert_int_equal(c->gpr[RCX], 0);
	for (u32 k = 0; k < 0x800; k++)
		assert_memory_equal(f->mem + 0x20ff2 + 4 * k, &k, 4);
	assert_true(c->stats.pio < 8);
}

/* The port's answer waits for that of the device which it is written to. */
static void ins_to_device(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->gpr[RDX] = 0x60;
	set_string(c, 0, DEVICE, 2);
	for (unsigned k = 0; k < 2; k++) {
		assert_pio(f, EXEC_ALL(f, REP, 0x6c), 0x60, 1, true, 1);
		f->pio_data[0] = (u8)(0x40 + k);
		c->pio.answered = true;
		assert_int_equal(EXEC_ALL(f, REP, 0x6c), ST_EXIT);
		assert_int_equal(c->exit.reason, EXIT_MMIO);
		assert_int_equal(c->exit.mmio.gpa, DEVICE + k);
		assert_int_equal(c->exit.mmio.data[0], 0x40 + k);
		answer_mmio(f, 0);
	}
	assert_int_equal(EXEC_ALL(f, REP, 0x6c), ST_OK);
	assert_int_equal(c->gpr[RDI], DEVICE + 2);
	assert_int_equal(c->gpr[RCX], 0);
}

/* A page that is not there is found before the client is asked. */
static void ins_to_nowhere(void **state)
{
	struct flat *f = *state;

	flat_seg(&f->cpu, SEG_ES, 0x10, 0, 0x20fff, 0x4093);
	cpu_update_mode(&f->cpu);
	f->cpu.gpr[RDX] = 0x60;
	set_string(&f->cpu, 0, 0x21000, 1);
	assert_fault(f, EXEC_ALL(f, REP, 0x6c), VEC_GP, 0);
	assert_false(f->cpu.pio.pending);
}

static u32 local_value;

static bool local_pio(void *ctx, u16 port, unsigned size, bool write, void *data)
{
	(void)ctx;
	if (port != 0x80)
		return false;
	if (write)
		local_value = 0, memcpy(&local_value, data, size);
	else
		memcpy(data, &local_value, size), local_value++;
	return true;
}

static void ports_of_this_process(void **state)
{
	static const struct cpu_host host = { .pio = local_pio };
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	c->host = &host;
	c->gpr[RDX] = 0x80;
	c->gpr[RAX] = 0x55;
	assert_int_equal(EXEC(f, 0xee), ST_OK);
	assert_int_equal(local_value, 0x55);
	set_string(c, 0, 0x20000, 3);
	assert_int_equal(EXEC_ALL(f, REP, 0x6c), ST_OK);
	assert_memory_equal(f->mem + 0x20000, "\x55\x56\x57", 3);
	/* To a device: what was read is not read again. */
	set_string(c, 0, DEVICE, 1);
	assert_int_equal(EXEC_ALL(f, REP, 0x6c), ST_EXIT);
	assert_int_equal(c->exit.reason, EXIT_MMIO);
	assert_int_equal(c->exit.mmio.data[0], 0x58);
	answer_mmio(f, 0);
	assert_int_equal(EXEC_ALL(f, REP, 0x6c), ST_OK);
	assert_int_equal(local_value, 0x59);
	set_string(c, 0x20000, 0, 3);
	assert_int_equal(EXEC_ALL(f, REP, 0x6e), ST_OK);
	assert_int_equal(local_value, 0x57);
	c->gpr[RDX] = 0x81;
	assert_pio(f, EXEC(f, 0xec), 0x81, 1, true, 1);
}

/* Ring 3 with IOPL 0: the bitmap of the TSS decides. */
static void port_permission(void **state)
{
	struct flat *f = *state;
	struct cpu *c = &f->cpu;

	flat_seg(c, SEG_TR, 0x28, 0x3000, 0x68 + 16, 0x8b);
	*(u16 *)(f->mem + 0x3000 + 102) = 0x68;
	memset(f->mem + 0x3068, 0, 17);
	f->mem[0x3068 + 2] = 0x80; /* port 0x17 */
	f->mem[0x3068 + 16] = 0xff;
	for (unsigned s = SEG_ES; s <= SEG_GS; s++)
		c->seg[s].attr |= 3 << ATTR_DPL_SHIFT;
	cpu_update_mode(c);
	assert_int_equal(c->cpl, 3);
	assert_pio(f, EXEC(f, 0xe4, 0x16), 0x16, 1, true, 1);
	assert_fault(f, EXEC(f, 0xe4, 0x17), VEC_GP, 0);
	assert_fault(f, EXEC(f, 0x66, 0xe5, 0x16), VEC_GP, 0);
	assert_pio(f, EXEC(f, 0xe5, 0x18), 0x18, 4, true, 1);
	assert_pio(f, EXEC(f, 0xe4, 0x7f), 0x7f, 1, true, 1);
	assert_fault(f, EXEC(f, 0xe4, 0x88), VEC_GP, 0); /* beyond the limit */
	c->rflags |= FL_IOPL;
	assert_pio(f, EXEC(f, 0xe4, 0x17), 0x17, 1, true, 1);
	c->rflags &= ~FL_IOPL;
	c->seg[SEG_TR].attr = 0x83; /* a 16-bit TSS has no bitmap */
	assert_fault(f, EXEC(f, 0xe4, 0x16), VEC_GP, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(movs_any_alignment),  TEST(stos_wraps_in_16_bits), TEST(scas_and_cmps_stop),
		TEST(movs_between_devices), TEST(one_iteration_a_step),  TEST(in_and_out),
		TEST(outs_in_batches),     TEST(ins_in_batches),        TEST(ins_to_device),
		TEST(ins_to_nowhere),      TEST(ports_of_this_process), TEST(port_permission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
