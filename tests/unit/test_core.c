// SPDX-License-Identifier: MIT
/* The run loop, the soft TLB, the code cache and the MMIO log, on a guest without a client. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "flat.h"

#define MEM (4ull << 20)

static void put(struct flat *f, u64 gpa, const void *code, size_t n)
{
	memcpy(f->mem + gpa, code, n);
}
#define PUT(f, gpa, ...)                                                                                               \
	do {                                                                                                           \
		static const u8 code_[] = { __VA_ARGS__ };                                                             \
		put(f, gpa, code_, sizeof(code_));                                                                     \
	} while (0)

static void run_to_hlt(struct flat *f)
{
	assert_int_equal(interp_run(&f->cpu), EXIT_HLT);
}

static void real_mode_loop(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	/* mov cx, 1000; l: add ax, cx; loop l; hlt */
	PUT(f, 0x1000, 0xb9, 0xe8, 0x03, 0x01, 0xc8, 0xe2, 0xfc, 0xf4);
	flat_real(f, 0x1000);
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RAX], 500500 & 0xffff);
	flat_free(f);
}

static void long_mode_memory(void **state)
{
	struct flat *f = flat_new(MEM);
	u64 stored;

	(void)state;
	/* mov [rdi], rax; mov rbx, [rdi+4]; add qword [rdi], 1; hlt */
	PUT(f, 0x1000, 0x48, 0x89, 0x07, 0x48, 0x8b, 0x5f, 0x04, 0x48, 0x83, 0x07, 0x01, 0xf4);
	flat_long(f, 0x1000);
	f->cpu.gpr[RAX] = 0x1122334455667788;
	f->cpu.gpr[RDI] = 0x2ffc; /* the store crosses a page */
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RBX], 0x11223344);
	memcpy(&stored, f->mem + 0x2ffc, sizeof(stored));
	assert_int_equal(stored, 0x1122334455667789);
	flat_free(f);
}

static void self_modifying(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	/* mov cx, 50; l: mov [imm], cl; mov al, 0 (imm); cbw; add bx, ax; loop l; hlt */
	PUT(f, 0x1000, 0xb9, 50, 0, 0x88, 0x0e, 0x08, 0x10, 0xb0, 0x00, 0x98, 0x01, 0xc3, 0xe2, 0xf5, 0xf4);
	flat_real(f, 0x1000);
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RBX], 1275);
	flat_free(f);
}

/* The client changes code: seen after code_serialize(), and the copy comparison finds it. */
static void outside_store(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	PUT(f, 0x1000, 0xb0, 0x01, 0xf4);
	flat_real(f, 0x1000);
	run_to_hlt(f);
	f->mem[0x1001] = 2;
	code_serialize(&f->cpu);
	f->cpu.gpr[R_RIP] = 0x1000;
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RAX] & 0xff, 2);
	flat_free(f);
}

/* Stores into a line of code reach memory, and the line gives up being cached when it happens all the time. */
static void code_line_that_changes_for_ever(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	/* mov cx, 1000; l: inc byte [imm]; mov al, 0 (imm); loop l; hlt */
	PUT(f, 0x1000, 0xb9, 0xe8, 0x03, 0xfe, 0x06, 0x08, 0x10, 0xb0, 0x00, 0xe2, 0xf8, 0xf4);
	flat_real(f, 0x1000);
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RAX] & 0xff, 1000 & 0xff);
	assert_true(f->cpu.stats.invalidations <= CODE_MAX_DROPS + 1);
	flat_free(f);
}

/* What lies beside such a line stays cached; and the line itself is, again, when it has been left alone for long. */
static void code_beside_a_line_that_changes(void **state)
{
	struct flat *f = flat_new(MEM);
	const struct code_page *p;

	(void)state;
	/* mov cx, 1000; l: inc byte [1041]; call 1040; call 1080; loop l; hlt */
	PUT(f, 0x1000, 0xb9, 0xe8, 0x03, 0xfe, 0x06, 0x41, 0x10, 0xe8, 0x36, 0x00, 0xe8, 0x73, 0x00, 0xe2, 0xf4, 0xf4);
	PUT(f, 0x1040, 0xb0, 0x00, 0xc3); /* mov al, imm; ret */
	PUT(f, 0x1080, 0x40, 0x43, 0x41, 0x49, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3);
	flat_real(f, 0x1000);
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RBX] & 0xffff, 1000);
	assert_int_equal(f->cpu.gpr[RAX] & 0xff, (1000 & 0xff) + 1);
	/* Of its two instructions one changes each time, the other one is known by its bytes. */
	assert_in_range(f->cpu.stats.decodes, 1000, 1000 + 100);
	p = code_page_find(f->cpu.code, f->mem + 0x1000);
	assert_int_equal(p->hot, BIT64(1));

	PUT(f, 0x1000, 0xb9, 0x00, 0xc0, 0x90, 0x90, 0x90, 0x90); /* mov cx, 49152; nops instead of the INC */
	code_serialize(&f->cpu);
	f->cpu.gpr[R_RIP] = 0x1000;
	run_to_hlt(f);
	assert_int_equal(p->hot, 0);
	assert_in_range(f->cpu.stats.decodes, 1000, 1000 + 200);
	flat_free(f);
}

static void instruction_across_pages(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	/* mov ecx, 1000; l: mov eax, imm; loop l; hlt */
	PUT(f, 0x1ff8, 0xb9, 0xe8, 0x03, 0x00, 0x00, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xe2, 0xf9, 0xf4);
	flat_prot(f, 0x1ff8);
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RAX], 0x12345678);
	assert_true(f->cpu.stats.decodes < 20);
	f->mem[0x2001] = 0x99; /* without any serialization: its bytes are fetched each time */
	f->cpu.gpr[R_RIP] = 0x1ff8;
	run_to_hlt(f);
	assert_int_equal(f->cpu.gpr[RAX], 0x99345678);
	flat_free(f);
}

/* Answers MMIO as a client does: marks the last access answered and runs again. */
static enum exit_reason answer(struct flat *f, u64 data)
{
	struct io_log *io = &f->cpu.io;

	io->acc[io->n - 1].data = data;
	io->acc[io->n - 1].answered = true;
	cpu_attn(&f->cpu, ATTN_RESUME);
	return interp_run(&f->cpu);
}

static void mmio_read_modify_write(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	/* add dword [edi], 5; hlt */
	PUT(f, 0x1000, 0x83, 0x07, 0x05, 0xf4);
	flat_prot(f, 0x1000);
	f->cpu.gpr[RDI] = 16 << 20;
	assert_int_equal(interp_run(&f->cpu), EXIT_MMIO);
	assert_false(f->cpu.exit.mmio.write);
	assert_int_equal(f->cpu.gpr[R_RIP], 0x1000);
	assert_int_equal(answer(f, 37), EXIT_MMIO);
	assert_true(f->cpu.exit.mmio.write);
	assert_int_equal(f->cpu.exit.mmio.data[0], 42);
	assert_int_equal(answer(f, 0), EXIT_HLT);
	assert_int_equal(f->cpu.io.n, 0);
	flat_free(f);
}

/* A write to a code page that lies in both linear aliases of one physical page. */
/* ---- read-modify-write on two pages that are apart in host memory ---- */
#define SPLIT 0x10ffeu /* the second half of the operand is in the next page */
#define LOW 0x20ffeu   /* where the halves are */
#define HIGH 0x30000u

static struct flat *split_new(void)
{
	struct flat *f = flat_new(MEM);

	free(f->map);
	f->map = calloc(1, sizeof(*f->map) + 3 * sizeof(struct memslot));
	f->map->nr_slots = 3;
	f->map->slot[0] = (struct memslot){ .size = 0x10000, .hva = f->mem };
	f->map->slot[1] = (struct memslot){ .gpa = 0x10000, .size = 0x1000, .hva = f->mem + 0x20000 };
	f->map->slot[2] = (struct memslot){ .gpa = 0x11000, .size = 0x1000, .hva = f->mem + 0x30000 };
	f->cpu.map = f->map;
	flat_prot(f, 0x1000);
	return f;
}

static u16 *half(struct flat *f, u32 at)
{
	return (u16 *)(f->mem + at);
}

/* What others do to one half meanwhile is not lost. */
static void split_operand(void **state)
{
	struct flat *f = split_new();
	struct cpu *c = &f->cpu;
	struct mem_rmw a;
	u32 *p;

	(void)state;
	*half(f, LOW) = 0xfffe;
	*half(f, HIGH) = 7;
	for (unsigned n = 0; n < 3; n++) {
		assert_int_equal(mem_rmw(c, SEG_DS, SPLIT, 4, &a), ST_OK);
		p = a.p;
		assert_int_equal(*p, n == 0 ? 0x7fffe : n == 1 ? 0x7ffff : 0x8ffff);
		*p += 3;
		if (n < 2)
			++*half(f, n ? HIGH : LOW);
		assert_int_equal(mem_rmw_done(c, &a), n < 2 ? ST_SPLIT : ST_OK);
	}
	assert_int_equal(*half(f, LOW), 2);
	assert_int_equal(*half(f, HIGH), 9);
	/* A comparison that was right when the first half was written, and is wrong now. */
	assert_int_equal(mem_rmw(c, SEG_DS, SPLIT, 4, &a), ST_OK);
	p = a.p;
	*p = 0x12345678;
	*half(f, HIGH) = 10;
	assert_int_equal(mem_rmw_done(c, &a), ST_SPLIT);
	assert_int_equal(*half(f, LOW), 0x5678);
	assert_int_equal(mem_rmw(c, SEG_DS, SPLIT, 4, &a), ST_OK);
	p = a.p;
	assert_int_equal(*p, 0xa0002);
	assert_int_equal(mem_rmw_done(c, &a), ST_OK);
	assert_int_equal(*half(f, LOW), 2);
	assert_int_equal(*half(f, HIGH), 10);
	flat_free(f);
}

#define TIMES 50000u

static void *count_high(void *arg)
{
	for (unsigned n = 0; n < TIMES; n++)
		__atomic_fetch_add(half(arg, HIGH), 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void split_lock_and_others(void **state)
{
	struct flat *f = split_new();
	pthread_t other;

	(void)state;
	/* l: lock add dword [SPLIT], 0x10001; loop l; hlt */
	PUT(f, 0x1000, 0xf0, 0x81, 0x05, 0xfe, 0x0f, 0x01, 0x00, 0x01, 0x00, 0x01, 0x00, 0xe2, 0xf3, 0xf4);
	f->cpu.gpr[RCX] = TIMES;
	assert_int_equal(pthread_create(&other, NULL, count_high, f), 0);
	run_to_hlt(f);
	pthread_join(other, NULL);
	assert_int_equal(*half(f, LOW), TIMES);
	assert_int_equal(*half(f, HIGH), (u16)(2 * TIMES));
	flat_free(f);
}

static void alias_of_code(void **state)
{
	struct flat *f = flat_new(MEM);
	u64 *pd;

	(void)state;
	flat_long(f, 0x1000);
	pd = (u64 *)(f->mem + MEM - PAGE_SIZE);
	pd[100] = 0x87; /* 200 MiB is another view of 0 */
	/* mov byte [rdi], cl; jmp 0x1010; 0x1010: mov al, 0; hlt */
	PUT(f, 0x1000, 0x88, 0x0f, 0xeb, 0x0c);
	PUT(f, 0x1010, 0xb0, 0x00, 0xf4);
	for (u64 n = 1; n < 5; n++) {
		f->cpu.gpr[R_RIP] = 0x1000;
		f->cpu.gpr[RDI] = (200ull << 20) + 0x1011;
		f->cpu.gpr[RCX] = n;
		run_to_hlt(f);
		assert_int_equal(f->cpu.gpr[RAX] & 0xff, n);
	}
	flat_free(f);
}

static void kick_ends_a_loop(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	PUT(f, 0x1000, 0xeb, 0xfe);
	flat_real(f, 0x1000);
	cpu_attn(&f->cpu, ATTN_KICK);
	assert_int_equal(interp_run(&f->cpu), EXIT_INTR);
	assert_int_equal(f->cpu.gpr[R_RIP], 0x1000);
	flat_free(f);
}

static void unmapped_page_faults(void **state)
{
	struct flat *f = flat_new(MEM);
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, 0x1000, 0x8b, 0x07); /* mov eax, [rdi] */
	flat_long(f, 0x1000);
	c->gpr[RDI] = 0x7fff12345678;
	c->idt.limit = 0; /* then nothing can be delivered */
	assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
	flat_free(f);
}

/* Behind the lower half of the addresses there is nothing: #GP, and no page that only looks the same. */
static void code_ends_with_the_canonical(void **state)
{
	static const u64 starts[] = { BIT64(47), BIT64(47) - 1, BIT64(47) - 2 };
	struct flat *f = flat_new(MEM);
	struct cpu *c = &f->cpu;
	u64 *pml4;

	(void)state;
	flat_long(f, 0);
	pml4 = (u64 *)(f->mem + c->cr3);
	pml4[255] = pml4[256] = pml4[0]; /* the page above the end, and the last 2 MiB below it */
	((u64 *)(f->mem + c->cr3 + PAGE_SIZE))[511] = ((u64 *)(f->mem + c->cr3 + PAGE_SIZE))[0];
	((u64 *)(f->mem + c->cr3 + 2 * PAGE_SIZE))[511] = 0x87;
	PUT(f, 0x1ffffe, 0x90, 0x90); /* nop; nop */
	for (unsigned n = 0; n < ARRAY_SIZE(starts); n++) {
		c->gpr[R_RIP] = starts[n];
		c->idt.limit = 0;
		assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
		assert_int_equal(c->gpr[R_RIP], BIT64(47));
		assert_int_equal(c->fault.vector, VEC_GP);
	}
	code_serialize(c);
	PUT(f, 0x1ffffe, 0x90, 0xb0); /* mov al, imm8, across the end */
	c->gpr[R_RIP] = BIT64(47) - 2;
	assert_int_equal(interp_run(c), EXIT_SHUTDOWN);
	assert_int_equal(c->gpr[R_RIP], BIT64(47) - 1);
	flat_free(f);
}

static void tlb_generations_wrap(void **state)
{
	struct flat *f = flat_new(MEM);

	(void)state;
	PUT(f, 0x1000, 0x8a, 0x07, 0xf4);
	flat_long(f, 0x1000);
	for (unsigned n = 0; n < 10000; n++) {
		f->mem[0x3000] = (u8)n;
		f->cpu.gpr[R_RIP] = 0x1000;
		f->cpu.gpr[RDI] = 0x3000;
		tlb_flush(&f->cpu);
		run_to_hlt(f);
		assert_int_equal(f->cpu.gpr[RAX] & 0xff, n & 0xff);
	}
	flat_free(f);
}

/* mov eax, n; hlt, called through one jump from elsewhere again and again: what RAX is then. */
static u64 call_code(struct flat *f)
{
	f->cpu.gpr[R_RIP] = 0x1000;
	f->cpu.gpr[RAX] = 0;
	run_to_hlt(f);
	return f->cpu.gpr[RAX];
}

static void put_answer(struct flat *f, u64 gpa, u8 n)
{
	const u8 code[] = { 0xb8, n, 0, 0, 0, 0xf4 };

	put(f, gpa, code, sizeof(code));
}

/* A jump that a flush made void leads where it did only if the page, and the code in it, are the same as before. */
static void jumps_after_a_flush(void **state)
{
	struct flat *f = flat_new(MEM);
	u64 *pd = (u64 *)(f->mem + MEM - PAGE_SIZE);
	u64 decodes;

	(void)state;
	put_answer(f, 0x1000, 1);
	put_answer(f, 0x201000, 2);
	flat_long(f, 0x1000);
	assert_int_equal(call_code(f), 1);
	decodes = f->cpu.stats.decodes;
	tlb_flush(&f->cpu);
	assert_int_equal(call_code(f), 1);
	assert_int_equal(f->cpu.stats.decodes, decodes);
	/* another page */
	pd[0] = 0x200087;
	tlb_flush(&f->cpu);
	assert_int_equal(call_code(f), 2);
	pd[0] = 0x87;
	tlb_flush(&f->cpu);
	assert_int_equal(call_code(f), 1);
	/* other bytes */
	put_answer(f, 0x1000, 3);
	tlb_flush(&f->cpu);
	code_serialize(&f->cpu);
	assert_int_equal(call_code(f), 3);
	/* all of the cache anew */
	put_answer(f, 0x1000, 4);
	code_flush(&f->cpu);
	assert_int_equal(call_code(f), 4);
	/* no longer executable */
	pd[0] = 0x87 | BIT64(63);
	tlb_flush(&f->cpu);
	f->cpu.gpr[R_RIP] = 0x1000;
	assert_int_equal(interp_run(&f->cpu), EXIT_SHUTDOWN);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode_loop),
		cmocka_unit_test(long_mode_memory),
		cmocka_unit_test(self_modifying),
		cmocka_unit_test(outside_store),
		cmocka_unit_test(code_line_that_changes_for_ever),
		cmocka_unit_test(code_beside_a_line_that_changes),
		cmocka_unit_test(instruction_across_pages),
		cmocka_unit_test(mmio_read_modify_write),
		cmocka_unit_test(split_operand),
		cmocka_unit_test(split_lock_and_others),
		cmocka_unit_test(alias_of_code),
		cmocka_unit_test(kick_ends_a_loop),
		cmocka_unit_test(unmapped_page_faults),
		cmocka_unit_test(code_ends_with_the_canonical),
		cmocka_unit_test(tlb_generations_wrap),
		cmocka_unit_test(jumps_after_a_flush),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
