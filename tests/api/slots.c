// SPDX-License-Identifier: MIT
/*
 * Slots at their limits, the VM fd's memory over its life, aliases, and all of it while vCPUs run (spec 4.2, 4.6, 4.8).
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <ukvm/abi.h>

#include "guest.h"

#define GPA_END (1ull << 52)

GUEST(poke, 32, "mov byte ptr [edi], 0x5a; mov al, [edi]; hlt");

static void poke(struct machine *m, u64 gpa)
{
	LOAD(m, 0x1000, poke);
	start_prot(m, 0x1000);
	set_regs(m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = gpa });
}

TEST(slot_limits)
{
	struct machine m = machine_new(MIB);
	u64 big = 1ull << 40;
	u8 *p = anon(MIB), *b = mmap(NULL, big, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (b == MAP_FAILED)
		test_skip("no address space: %s", strerror(errno));
	FAILS(set_slot(m.vm, 0x20001, 0, 2 * MIB, MIB, p), EINVAL); /* address space 2 */
	FAILS(set_slot(m.vm, 1, 0, GPA_END, MIB, p), EINVAL);
	FAILS(set_slot(m.vm, 1, 0, GPA_END - 4096, MIB, p), EINVAL);
	FAILS(set_slot(m.vm, 1, 0, MIB, 1ull << 63, NULL), EINVAL);
	FAILS(set_slot(m.vm, 1, 0, MIB, MIB, (void *)-4096ul), EINVAL);
	FAILS(set_slot(m.vm, 1, 0x40, 0, 0, NULL), EINVAL);
	/* Memory that is not mapped yet is fine. */
	OK(set_slot(m.vm, 1, 0, MIB, MIB, (void *)0x10000000000));
	OK(set_slot(m.vm, 1, 0, 0, 0, NULL));
	OK(set_slot(m.vm, 1, 0, big, big, b));
	/* What a deletion says besides the slot does not matter. */
	OK(set_slot(m.vm, 1, 0, 0x123000, 0, b));
	OK(set_slot(m.vm, 1, KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES, 2 * MIB, MIB, p));
}

/* A slot may move onto where it is itself, and a move that fails leaves it where it was. */
TEST(slot_moves_over_itself)
{
	struct machine m = machine_new(MIB);
	u8 *p = anon(MIB);

	/* Two slots may show the same memory. */
	OK(set_slot(m.vm, 1, 0, 2 * MIB, MIB, p));
	OK(set_slot(m.vm, 2, 0, 3 * MIB, MIB, p));
	OK(set_slot(m.vm, 2, 0, 3 * MIB + 0x1000, MIB, p));
	OK(set_slot(m.vm, 2, 0, 3 * MIB, MIB, p));
	FAILS(set_slot(m.vm, 2, 0, 2 * MIB + 0x1000, MIB, p), EEXIST);
	poke(&m, 3 * MIB + 7);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(p[7], 0x5a);
}

TEST(many_slots)
{
	struct machine m = machine_new(MIB);
	long max = cap(&m, KVM_CAP_NR_MEMSLOTS);
	u32 count = max < 2000 ? (u32)max : 2000;
	u8 *p = anon(PAGE);

	FAILS(set_slot(m.vm, (u32)max, 0, 0xfffff000, PAGE, p), EINVAL);
	OK(set_slot(m.vm, (u32)max - 1, 0, 0xfffff000, PAGE, p));
	for (u32 n = 1; n < count - 1; n++)
		OK(set_slot(m.vm, n, 0, 16 * MIB + 2 * PAGE * n, PAGE, p));
	poke(&m, 16 * MIB + 2 * PAGE * (count - 2) + 7);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(p[7], 0x5a);
	for (u32 n = 1; n < count - 1; n += 2)
		OK(set_slot(m.vm, n, 0, 0, 0, NULL));
	poke(&m, 16 * MIB + 2 * PAGE * 3);
	run_until(&m, KVM_EXIT_MMIO);
	poke(&m, 16 * MIB + 2 * PAGE * 2 + 9);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(p[9], 0x5a);
}

/* ---- the VM fd ---- */
static int region(int vm, u32 slot, u64 gpa, u64 size)
{
	struct kvm_memory_region r = { .slot = slot, .guest_phys_addr = gpa, .memory_size = size };

	return ioctl(vm, KVM_SET_MEMORY_REGION, &r);
}

static void need_ukvm(struct machine *m)
{
	if (!is_ukvm(m->vm))
		test_skip("removed from Linux");
}

static sigjmp_buf nowhere;

static void on_sigbus(int sig)
{
	siglongjmp(nowhere, sig);
}

static bool is_memory(volatile u8 *p)
{
	if (sigsetjmp(nowhere, 1))
		return false;
	*p = *p;
	return true;
}

TEST(vm_fd_before_and_after)
{
	struct machine m = machine_new(MIB);
	u8 *all, *page, *private;

	need_ukvm(&m);
	signal(SIGBUS, on_sigbus);
	all = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, m.vm, 0);
	CHECK(all != MAP_FAILED);
	CHECK(!is_memory(all + 16 * MIB));
	OK(region(m.vm, 1, 16 * MIB, MIB));
	CHECK(is_memory(all + 16 * MIB));
	CHECK(!is_memory(all + 17 * MIB));
	all[16 * MIB + 5] = 9;
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, m.vm, 16 * MIB);
	private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, m.vm, 16 * MIB);
	CHECK(page != MAP_FAILED && private != MAP_FAILED);
	private[5] = 1;
	CHECK_EQ(page[5], 9);
	/* Gone, and new: zeroed. It makes no difference which ioctl removes it. */
	OK(set_slot(m.vm, 1, 0, 0, 0, NULL));
	CHECK(!is_memory(all + 16 * MIB));
	FAILS(region(m.vm, 1, 0, 0), EINVAL);
	OK(region(m.vm, 1, 16 * MIB, MIB));
	CHECK_EQ(all[16 * MIB + 5], 0);
	CHECK_EQ(page[5], 0);
	/* A slot is of one kind. */
	FAILS(set_slot(m.vm, 1, 0, 16 * MIB, MIB, all), EINVAL);
	FAILS(region(m.vm, 2, 17 * MIB - 4096, MIB), EEXIST);
	OK(region(m.vm, 2, 1ull << 33, 8ull << 30));
	/* The memory lives as long as the mapping. */
	all[16 * MIB + 7] = 3;
	close(m.vcpu);
	close(m.vm);
	CHECK_EQ(all[16 * MIB + 7], 3);
}

TEST(region_moves_over_itself)
{
	static const u64 where[] = { 17 * MIB, 16 * MIB + 0x3000, 40 * MIB, 16 * MIB };
	struct machine m = machine_new(MIB);
	u8 *all;

	need_ukvm(&m);
	OK(region(m.vm, 1, 16 * MIB, 2 * MIB));
	all = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, m.vm, 0);
	for (u32 n = 0; n < 512; n++)
		*(u32 *)(all + 16 * MIB + PAGE * n) = n + 1;
	for (unsigned k = 0; k < 4; k++) {
		OK(region(m.vm, 1, where[k], 2 * MIB));
		for (u32 n = 0; n < 512; n++)
			CHECK_EQ(*(u32 *)(all + where[k] + PAGE * n), n + 1);
	}
}

/* ---- aliases ---- */
static int alias(int vm, u32 slot, u64 gpa, u64 size, u64 target)
{
	struct kvm_memory_alias a = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size, .target_phys_addr = target
	};

	return ioctl(vm, KVM_SET_MEMORY_ALIAS, &a);
}

TEST(four_aliases)
{
	struct machine m = machine_new(MIB);

	need_ukvm(&m);
	for (u32 n = 0; n < 4; n++)
		OK(alias(m.vm, n, 0xf00000 + n * 0x10000, 0x1000, 0x20000 + n * 0x1000));
	for (u32 n = 0; n < 4; n++) {
		poke(&m, 0xf00000 + n * 0x10000 + n);
		run_until(&m, KVM_EXIT_HLT);
		CHECK_EQ(m.mem[0x20000 + n * 0x1001], 0x5a);
	}
	OK(alias(m.vm, 1, 0, 0, 0));
	poke(&m, 0xf10001);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.phys_addr, 0xf10001);
	m.mem[0x22002] = 0;
	poke(&m, 0xf20002);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.mem[0x22002], 0x5a);
}

GUEST(store_across, 32, "mov dword ptr [edi], 0x44332211; mov eax, [edi]; hlt");

/* The window of the VGA: over memory, moved from bank to bank, and onto nothing. */
TEST(alias_over_memory)
{
	struct machine m = machine_new(MIB);
	u8 *p = anon(MIB);

	need_ukvm(&m);
	OK(alias(m.vm, 0, 0xa0000, 0x1000, 0x40000));
	poke(&m, 0xa0010);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.mem[0x40010], 0x5a);
	CHECK_EQ(m.mem[0xa0010], 0);
	OK(alias(m.vm, 0, 0xa0000, 0x1000, 0x50000));
	LOAD(&m, 0x1000, store_across);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 0xa0ffe });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(*(u16 *)(m.mem + 0x50ffe), 0x2211);
	CHECK_EQ(*(u16 *)(m.mem + 0xa1000), 0x4433);
	CHECK_EQ(get_regs(&m).rax, 0x44332211);
	OK(alias(m.vm, 0, 0xa0000, 0x1000, 16 * MIB));
	poke(&m, 0xa0010);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.phys_addr, 0xa0010);
	OK(set_slot(m.vm, 1, 0, 16 * MIB, MIB, p));
	poke(&m, 0xa0010);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(p[0x10], 0x5a);
}

/* Seven bytes, then the instruction whose second byte they change. */
GUEST(patch, 32, "mov byte ptr [0x60008], 0x77; mov al, 0x11; hlt");

TEST(code_and_page_tables_through_an_alias)
{
	struct machine m = machine_new(MIB);
	struct kvm_translation t = { .linear_address = 0x201234 };
	struct kvm_sregs s;

	need_ukvm(&m);
	/* Code that modifies itself under its other address. */
	OK(alias(m.vm, 0, 0xe01000, 0x1000, 0x60000));
	LOAD(&m, 0x60000, patch);
	start_prot(&m, 0xe01000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax & 0xff, 0x77);
	start_long(&m, 0x1000);
	OK(alias(m.vm, 1, 0xd00000, 0x4000, 0x9000));
	s = get_sregs(&m);
	s.cr3 = 0xd00000;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	CODE(&m, 0x1000, 0xf4);
	run_until(&m, KVM_EXIT_HLT);
	OK(ioctl(m.vcpu, KVM_TRANSLATE, &t));
	CHECK_EQ(t.valid, 1);
	CHECK_EQ(t.physical_address, 0x201234);
}

/* ---- while vCPUs run ---- */
static volatile bool stop;

static void *run_on(void *arg)
{
	struct machine *m = arg;

	while (!stop) {
		int ret = ioctl(m->vcpu, KVM_RUN, 0);

		CHECK(!ret || errno == EINTR);
		CHECK(ret || m->run->exit_reason == KVM_EXIT_MMIO);
	}
	return NULL;
}

static void ignore(int sig)
{
	(void)sig;
}

GUEST(count_and_touch, 64, "1: inc qword ptr [rdi]; mov rax, [rsi]; mov [rsi], rax; jmp 1b");

TEST(slots_change_while_running)
{
	struct machine m = machine_new(4 * MIB), other = m;
	volatile u64 *count = (u64 *)(m.mem + 0x20000);
	u8 *p = anon(MIB);
	pthread_t t[2];

	signal(SIGUSR1, ignore);
	LOAD(&m, 0x1000, count_and_touch);
	other.vcpu = machine_vcpu(&m, 1, &other.run);
	for (unsigned n = 0; n < 2; n++) {
		struct machine *v = n ? &other : &m;

		start_long(v, 0x1000);
		set_regs(v, (struct kvm_regs){
				    .rip = 0x1000, .rflags = 2, .rdi = 0x20000 + 8 * n, .rsi = 16 * MIB + 8 * n });
		OK(pthread_create(&t[n], NULL, run_on, v));
	}
	for (unsigned n = 0; n < 2000; n++) {
		OK(set_slot(m.vm, 1, n & 1, 16 * MIB, MIB, p));
		OK(set_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 17 * MIB, MIB, p));
		OK(set_slot(m.vm, 1, 0, 16 * MIB, MIB, p));
		OK(set_slot(m.vm, 1, 0, 0, 0, NULL));
	}
	while (count[0] < 10 || count[1] < 10)
		usleep(1000);
	stop = true;
	for (unsigned n = 0; n < 2; n++) {
		(n ? &other : &m)->run->immediate_exit = 1;
		pthread_kill(t[n], SIGUSR1);
		OK(pthread_join(t[n], NULL));
	}
}
