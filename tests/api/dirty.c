// SPDX-License-Identifier: MIT
/* The dirty log (spec 4.7): all that the guest wrote, and only that; while it runs, too. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "guest.h"

#define PAGES 64
#define LOGGED (2 * MIB) /* where the logged slot is; code and stack are elsewhere */

static u64 dirty(struct machine *m, u32 slot)
{
	u64 bitmap[4] = { 0 };
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	OK(ioctl(m->vm, KVM_GET_DIRTY_LOG, &log));
	return bitmap[0];
}

/* A machine in 32-bit mode with 64 logged pages at LOGGED. */
static struct machine logged(u8 **mem)
{
	struct machine m = machine_new(MIB);

	*mem = anon(PAGES * PAGE);
	OK(set_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, LOGGED, PAGES * PAGE, *mem));
	start_prot(&m, 0x1000);
	return m;
}

static u64 page(unsigned n)
{
	return LOGGED + n * PAGE;
}

GUEST(writes, 32,
      "lock add dword ptr [edi + 1 * 4096], 1\n" /* 1 */
      "xchg [edi + 2 * 4096], eax\n"             /* 2 */
      "mov [edi + 4 * 4096 - 2], eax\n"          /* 3, 4 */
      "lock inc dword ptr [edi + 6 * 4096 - 1]\n" /* 5, 6 */
      "movups [edi + 8 * 4096 - 8], xmm0\n"      /* 7, 8 */
      "bts dword ptr [edi + 9 * 4096], 33\n"
      "mov ebx, 4096 * 8 * 2\n"
      "bts [edi + 9 * 4096], ebx\n"              /* 9, and two pages on: 11 */
      "push [edi + 13 * 4096]\n"                 /* a read of 13; the stack is elsewhere */
      "pop dword ptr [edi + 12 * 4096]\n"        /* 12 */
      "cmp dword ptr [edi + 14 * 4096], 5\n"
      "fnstenv [edi + 16 * 4096 - 14]\n"         /* 15, 16 */
      "hlt");

TEST(by_every_kind_of_write)
{
	u8 *mem;
	struct machine m = logged(&mem);
	struct kvm_sregs s = get_sregs(&m);

	s.cr4 |= 0x200;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	LOAD(&m, 0x1000, writes);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsp = 0x8000, .rdi = LOGGED });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 0x19bfe);
	CHECK_EQ(dirty(&m, 1), 0);
}

/* A comparison that fails writes back what was there: hardware dirties the page, and so does KVM. */
GUEST(failing_cmpxchg, 32, "lock cmpxchg [edi], ebx; hlt");

TEST(by_a_failing_cmpxchg)
{
	u8 *mem;
	struct machine m = logged(&mem);

	LOAD(&m, 0x1000, failing_cmpxchg);
	mem[0] = 1;
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = LOGGED, .rbx = 5 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 1);
	CHECK_EQ(mem[0], 1);
}

GUEST(repeated, 32,
      "mov ecx, 4096 * 2; rep movsb; std; mov ecx, 1024; mov edi, ebx; rep stosd; cld; mov edx, 16; mov ecx, 4;"
      "mov edi, ebp; rep insb; hlt");

TEST(by_string_instructions)
{
	u8 *mem;
	struct machine m = logged(&mem);

	LOAD(&m, 0x1000, repeated);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsi = 0x2000, .rdi = page(3) + 100,
					.rbx = page(20) + 100, .rbp = page(31) - 2 });
	for (;;) {
		OK(ioctl(m.vcpu, KVM_RUN, 0));
		if (m.run->exit_reason == KVM_EXIT_HLT)
			break;
		CHECK_EQ(m.run->exit_reason, KVM_EXIT_IO);
	}
	CHECK_EQ(dirty(&m, 1), (7ull << 3) | (3ull << 19) | (3ull << 30));
}

/* ---- by the CPU itself ---- */
#define GDT 5
#define IDT 6
#define STACK 9

static void descriptor(u8 *table, unsigned n, u64 d)
{
	memcpy(table + 8 * n, &d, 8);
}

static struct machine with_tables(u8 **mem)
{
	struct machine m = logged(mem);
	struct kvm_sregs s = get_sregs(&m);
	u8 *gdt = *mem + GDT * PAGE, *idt = *mem + IDT * PAGE;

	descriptor(gdt, 1, 0x00cf9b000000ffff); /* code and data, accessed */
	descriptor(gdt, 2, 0x00cf93000000ffff);
	descriptor(gdt, 3, 0x00cf92000000ffff); /* data, not yet accessed */
	descriptor(idt, 3, 0x00008e0000081100); /* #BP: 8:0x1100 */
	descriptor(idt, 6, 0x00008e0000081100);
	s.gdt = (struct kvm_dtable){ .base = page(GDT), .limit = 31 };
	s.idt = (struct kvm_dtable){ .base = page(IDT), .limit = 255 };
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	CODE(&m, 0x1100, 0xf4);
	return m;
}

GUEST(load_ds, 32, "mov eax, 16; mov ds, eax; hlt; mov eax, 24; mov ds, eax; hlt; mov ds, eax; hlt");

TEST(by_descriptor_accessed_bits)
{
	u8 *mem;
	struct machine m = with_tables(&mem);

	LOAD(&m, 0x1000, load_ds);
	go(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 0);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 1 << GDT);
	CHECK_EQ(mem[GDT * PAGE + 3 * 8 + 5], 0x93);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 0);
}

GUEST(ud2, 32, "ud2");

TEST(by_stack_pushes_of_exceptions)
{
	u8 *mem;
	struct machine m = with_tables(&mem);

	LOAD(&m, 0x1000, ud2);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsp = page(STACK) + 100 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rip, 0x1101);
	CHECK_EQ(dirty(&m, 1), 1 << STACK);
	/* A frame across two pages. */
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsp = page(STACK) + 4 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 3 << (STACK - 1));
}

/* 32-bit paging with the tables in the log: the directory's and the table's A bits, then only the table's D. */
GUEST(read_then_write, 32, "mov al, [edi]; hlt; mov [edi], al; hlt; mov [edi], al; mov al, [edi]; hlt");

TEST(by_page_table_bits)
{
	u8 *mem;
	struct machine m = logged(&mem);
	struct kvm_sregs s = get_sregs(&m);
	u32 *dir = (u32 *)(mem + 30 * PAGE), *table = (u32 *)(mem + 31 * PAGE);

	LOAD(&m, 0x1000, read_then_write);
	dir[0] = 0xe3; /* 4 MiB: code, identity-mapped, all bits set */
	dir[1] = (u32)page(31) | 3;
	table[0] = (u32)page(33) | 3;
	s.cr3 = page(30);
	s.cr4 = 0x10;
	s.cr0 |= 0x80000000;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 4 * MIB });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 3ull << 30);
	CHECK_EQ(table[0] & 0x60, 0x20);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), (1ull << 31) | (1ull << 33));
	CHECK_EQ(table[0] & 0x60, 0x60);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty(&m, 1), 1ull << 33);
}

TEST(by_nobody)
{
	u8 *mem;
	struct machine m = logged(&mem);
	struct kvm_regs r;
	struct kvm_translation t = { .linear_address = LOGGED };

	/* Ioctls that look at memory are not the guest. */
	OK(ioctl(m.vcpu, KVM_TRANSLATE, &t));
	OK(ioctl(m.vcpu, KVM_GET_REGS, &r));
	CHECK_EQ(dirty(&m, 1), 0);
}

/* Off and on again begins with an empty log; a moved slot keeps its own. */
GUEST(store, 32, "mov [edi], eax; hlt");

static void store_at(struct machine *m, u64 gpa)
{
	LOAD(m, 0x1000, store);
	set_regs(m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = gpa });
	run_until(m, KVM_EXIT_HLT);
}

TEST(off_and_on)
{
	u8 *mem;
	struct machine m = logged(&mem);
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &(u64){ 0 } };

	store_at(&m, page(1));
	OK(set_slot(m.vm, 1, 0, LOGGED, PAGES * PAGE, mem));
	FAILS(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
	store_at(&m, page(2));
	OK(set_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, LOGGED, PAGES * PAGE, mem));
	CHECK_EQ(dirty(&m, 1), 0);
	store_at(&m, page(2));
	CHECK_EQ(dirty(&m, 1), 4);
}

/* ---- as migration does it: the copy that the log made is the memory, in the end ---- */
GUEST(increment_all, 32,
      "1: mov edi, esi; mov ecx, 64\n"
      "2: inc dword ptr [edi]; add edi, 4096; loop 2b; jmp 1b");

struct runner {
	struct machine *m;
	atomic_bool stop;
};

static void ignore(int sig)
{
	(void)sig;
}

static void *run_guest(void *arg)
{
	struct runner *r = arg;

	while (!atomic_load(&r->stop)) {
		FAILS(ioctl(r->m->vcpu, KVM_RUN, 0), EINTR);
		r->m->run->immediate_exit = 0;
	}
	return NULL;
}

static u32 value(const u8 *mem, unsigned n)
{
	return __atomic_load_n((const u32 *)(mem + n * PAGE), __ATOMIC_RELAXED);
}

static void copy_dirty(struct machine *m, const u8 *mem, u32 *copy)
{
	u64 bits = dirty(m, 1);

	for (unsigned n = 0; n < PAGES; n++)
		if (bits >> n & 1)
			copy[n] = value(mem, n);
}

static void stop(struct runner *r, pthread_t t)
{
	atomic_store(&r->stop, true);
	r->m->run->immediate_exit = 1;
	pthread_kill(t, SIGUSR1);
	pthread_join(t, NULL);
}

TEST(no_write_is_lost_while_running)
{
	u8 *mem;
	struct machine m = logged(&mem);
	u32 copy[PAGES] = { 0 };
	pthread_t t;

	LOAD(&m, 0x1000, increment_all);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsi = LOGGED });
	signal(SIGUSR1, ignore);
	for (unsigned round = 0; round < 20; round++) {
		struct runner r = { .m = &m };

		pthread_create(&t, NULL, run_guest, &r);
		for (unsigned n = 0; n < 50; n++) {
			copy_dirty(&m, mem, copy);
			usleep(20);
		}
		/* The log goes away and comes back: from then on all is to be copied once. */
		OK(set_slot(m.vm, 1, 0, LOGGED, PAGES * PAGE, mem));
		usleep(100);
		OK(set_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, LOGGED, PAGES * PAGE, mem));
		for (unsigned n = 0; n < PAGES; n++)
			copy[n] = value(mem, n);
		usleep(100);
		stop(&r, t);
		copy_dirty(&m, mem, copy);
		for (unsigned n = 0; n < PAGES; n++)
			CHECK_EQ(copy[n], value(mem, n));
		CHECK_EQ(dirty(&m, 1), 0);
	}
	CHECK(value(mem, 0) > 0);
}
