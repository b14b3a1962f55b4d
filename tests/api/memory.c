// SPDX-License-Identifier: MIT
/* Memory slots: spec 4.2, 4.6, 4.8, KVM_SET_USER_MEMORY_REGION. */
#include <pthread.h>
#include <ukvm/abi.h>

#include "api.h"

#define MIB (1ull << 20)

static void *anon(u64 size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

TEST(slot_errors)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(MIB);

	FAILS(set_slot(m.vm, 1, 0, 0x80000, MIB, mem), EEXIST);       /* overlaps slot 0 */
	FAILS(set_slot(m.vm, 1, 0, MIB + 1, MIB, mem), EINVAL);       /* unaligned address */
	FAILS(set_slot(m.vm, 1, 0, MIB, 4095, mem), EINVAL);          /* unaligned size */
	FAILS(set_slot(m.vm, 1, 0, MIB, MIB, mem + 1), EINVAL);       /* unaligned memory */
	FAILS(set_slot(m.vm, 1, 0x80, MIB, MIB, mem), EINVAL);        /* unknown flag */
	FAILS(set_slot(m.vm, 40000, 0, MIB, MIB, mem), EINVAL);       /* slot out of range */
	FAILS(set_slot(m.vm, 7, 0, 0, 0, NULL), EINVAL);              /* deletes what is not there */
	FAILS(set_slot(m.vm, 0, 0, 0, 2 * MIB, m.mem), EINVAL);       /* resized */
	FAILS(set_slot(m.vm, 0, 0, 0, MIB, mem), EINVAL);             /* other memory */
	FAILS(set_slot(m.vm, 1, 0, ~0xfffull, 2 * 4096, mem), EINVAL); /* wraps */
	FAILS(ioctl(m.vm, KVM_SET_USER_MEMORY_REGION, NULL), EFAULT);
	OK(set_slot(m.vm, 1, 0, MIB, MIB, mem));
	OK(set_slot(m.vm, 1, 0, 4 * MIB, MIB, mem));                  /* moved */
	FAILS(set_slot(m.vm, 1, 0, 0, MIB, mem), EEXIST);             /* moved onto another */
	OK(set_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 4 * MIB, MIB, mem));
	OK(set_slot(m.vm, 1, 0, 0, 0, NULL));
	FAILS(set_slot(m.vm, 1, 0, 0, 0, NULL), EINVAL);
}

/* The guest stores 0x5a at the address in EDI and reads it back to AL. */
static void poke(struct machine *m, u64 gpa)
{
	CODE(m, 0x1000, 0xc6, 0x07, 0x5a, 0x8a, 0x07, 0xf4); /* mov byte [edi], 0x5a; mov al, [edi]; hlt */
	start_prot(m, 0x1000);
	set_regs(m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = gpa });
}

TEST(slot_moves_and_goes)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(MIB);

	OK(set_slot(m.vm, 1, 0, 2 * MIB, MIB, mem));
	poke(&m, 2 * MIB + 5);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(mem[5], 0x5a);
	mem[5] = 0;
	OK(set_slot(m.vm, 1, 0, 8 * MIB, MIB, mem));
	poke(&m, 8 * MIB + 5);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(mem[5], 0x5a);
	mem[5] = 0;
	poke(&m, 2 * MIB + 5);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.phys_addr, 2 * MIB + 5);
	CHECK_EQ(m.run->mmio.is_write, 1);
	CHECK_EQ(m.run->mmio.data[0], 0x5a);
	OK(set_slot(m.vm, 1, 0, 0, 0, NULL));
	poke(&m, 8 * MIB + 5);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(mem[5], 0);
}

TEST(readonly_slot)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(MIB);

	mem[5] = 0x77;
	OK(set_slot(m.vm, 1, KVM_MEM_READONLY, 2 * MIB, MIB, mem));
	poke(&m, 2 * MIB + 5);
	run_until(&m, KVM_EXIT_MMIO);
	CHECK_EQ(m.run->mmio.phys_addr, 2 * MIB + 5);
	CHECK_EQ(m.run->mmio.is_write, 1);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax & 0xff, 0x77);
	FAILS(set_slot(m.vm, 1, 0, 2 * MIB, MIB, mem), EINVAL);
}

TEST(lost_memory_is_efault)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(MIB);

	OK(set_slot(m.vm, 1, 0, 2 * MIB, MIB, mem));
	OK(munmap(mem, MIB));
	poke(&m, 2 * MIB + 5);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EFAULT);
	CHECK_EQ(get_regs(&m).rip, 0x1000);
	/* It comes back, and the instruction runs. */
	CHECK(mmap(mem, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == mem);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(mem[5], 0x5a);
}

TEST(truncated_memory_is_efault)
{
	struct machine m = machine_new(MIB);
	int fd = memfd_create("guest", 0);
	u8 *mem;

	OK(ftruncate(fd, MIB));
	mem = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	OK(set_slot(m.vm, 1, 0, 2 * MIB, MIB, mem));
	OK(ftruncate(fd, 0));
	poke(&m, 2 * MIB + 5);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EFAULT);
}

/* ... also when code is fetched from there, or the page tables are there. */
TEST(lost_code_and_page_tables)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(MIB);
	struct kvm_translation t = { .linear_address = 0x1000 };
	struct kvm_sregs s;

	OK(set_slot(m.vm, 1, 0, 2 * MIB, MIB, mem));
	OK(munmap(mem, MIB));
	start_prot(&m, 2 * MIB);
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EFAULT);
	CHECK_EQ(get_regs(&m).rip, 2 * MIB);
	start_long(&m, 0x1000);
	s = get_sregs(&m);
	s.cr3 = 2 * MIB;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EFAULT);
	CHECK_EQ(get_regs(&m).rip, 0x1000);
	/* A question about them is answered. */
	OK(ioctl(m.vcpu, KVM_TRANSLATE, &t));
	CHECK_EQ(t.valid, 0);
}

/* Page tables where no memory is are none: the page fault ends in a triple fault, and no client is asked. */
TEST(page_tables_nowhere)
{
	struct machine m = machine_new(MIB);
	struct kvm_sregs s;

	start_long(&m, 0x1000);
	s = get_sregs(&m);
	s.cr3 = 16 * MIB;
	OK(ioctl(m.vcpu, KVM_SET_SREGS, &s));
	OK(ioctl(m.vcpu, KVM_RUN, 0));
	CHECK(m.run->exit_reason == KVM_EXIT_SHUTDOWN || m.run->exit_reason == KVM_EXIT_INTERNAL_ERROR);
}

/* The same when all memory goes away while the vCPU runs. */
static void *keep_running(void *arg)
{
	struct machine *m = arg;

	OK(ioctl(m->vcpu, KVM_RUN, 0));
	return NULL;
}

TEST(all_slots_go_while_running)
{
	struct machine m = machine_new(MIB);
	pthread_t t;

	CODE(&m, 0x1000, 0xff, 0x07, 0xeb, 0xfc); /* inc dword [rdi]; jmp -4 */
	start_long(&m, 0x1000);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 0x20000 });
	OK(pthread_create(&t, NULL, keep_running, &m));
	while (!*(volatile u32 *)(m.mem + 0x20000))
		usleep(1000);
	OK(set_slot(m.vm, 0, 0, 0, 0, NULL));
	OK(pthread_join(t, NULL));
	CHECK(m.run->exit_reason == KVM_EXIT_SHUTDOWN || m.run->exit_reason == KVM_EXIT_INTERNAL_ERROR);
}

/* ---- what Linux has removed since 2.6.22 ---- */
static int set_region(int vm, u32 slot, u32 flags, u64 gpa, u64 size)
{
	struct kvm_memory_region r = { .slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size };

	return ioctl(vm, KVM_SET_MEMORY_REGION, &r);
}

static int set_alias(int vm, u32 slot, u64 gpa, u64 size, u64 target)
{
	struct kvm_memory_alias a = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size, .target_phys_addr = target
	};

	return ioctl(vm, KVM_SET_MEMORY_ALIAS, &a);
}

static void need_ukvm(struct machine *m)
{
	if (!is_ukvm(m->vm))
		test_skip("removed from Linux");
}

TEST(vm_fd_maps_guest_memory)
{
	struct machine m = machine_new(MIB);
	u8 *mem;

	need_ukvm(&m);
	OK(set_region(m.vm, 1, 0, 16 * MIB, MIB));
	mem = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, m.vm, 16 * MIB);
	CHECK(mem != MAP_FAILED);
	for (u64 n = 0; n < MIB; n++)
		CHECK_EQ(mem[n], 0);
	poke(&m, 16 * MIB + 123);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(mem[123], 0x5a);
	mem[123] = 9;
	CODE(&m, 0x1000, 0x8a, 0x07, 0xf4); /* mov al, [edi]; hlt */
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 16 * MIB + 123 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax & 0xff, 9);
}

TEST(region_errors)
{
	struct machine m = machine_new(MIB);

	need_ukvm(&m);
	FAILS(set_region(m.vm, 1, 0, 0, MIB), EEXIST);
	FAILS(set_region(m.vm, 1, 0, 16 * MIB + 1, MIB), EINVAL);
	FAILS(set_region(m.vm, 1, 2, 16 * MIB, MIB), EINVAL);
	OK(set_region(m.vm, 1, 0, 16 * MIB, MIB));
	FAILS(set_region(m.vm, 1, 0, 16 * MIB, 2 * MIB), EINVAL);
	OK(set_region(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 16 * MIB, MIB));
	OK(set_region(m.vm, 1, 0, 0, 0));
}

TEST(region_moves_with_its_contents)
{
	struct machine m = machine_new(MIB);
	u8 *mem;

	need_ukvm(&m);
	OK(set_region(m.vm, 1, 0, 16 * MIB, MIB));
	poke(&m, 16 * MIB + 123);
	run_until(&m, KVM_EXIT_HLT);
	OK(set_region(m.vm, 1, 0, 32 * MIB, MIB));
	mem = mmap(NULL, MIB, PROT_READ, MAP_SHARED, m.vm, 32 * MIB);
	CHECK(mem != MAP_FAILED);
	CHECK_EQ(mem[123], 0x5a);
	poke(&m, 16 * MIB + 123);
	run_until(&m, KVM_EXIT_MMIO);
}

TEST(alias_reads_writes_and_runs)
{
	struct machine m = machine_new(MIB);

	need_ukvm(&m);
	OK(set_alias(m.vm, 0, 0xf00000, 0x10000, 0x20000));
	poke(&m, 0xf00005);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(m.mem[0x20005], 0x5a);
	CHECK_EQ(get_regs(&m).rax & 0xff, 0x5a);
	/* Code through the alias. */
	CODE(&m, 0x20100, 0xb0, 0x33, 0xf4); /* mov al, 0x33; hlt */
	set_regs(&m, (struct kvm_regs){ .rip = 0xf00100, .rflags = 2 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax & 0xff, 0x33);
	/* Gone. */
	OK(set_alias(m.vm, 0, 0, 0, 0));
	poke(&m, 0xf00005);
	run_until(&m, KVM_EXIT_MMIO);
}

TEST(alias_errors)
{
	struct machine m = machine_new(MIB);

	need_ukvm(&m);
	FAILS(set_alias(m.vm, 4, 0xf00000, 0x1000, 0), EINVAL);
	FAILS(set_alias(m.vm, 0, 0xf00001, 0x1000, 0), EINVAL);
	FAILS(set_alias(m.vm, 0, 0xf00000, 0x1001, 0), EINVAL);
	FAILS(set_alias(m.vm, 0, ~0xfffull, 0x2000, 0), EINVAL);
	FAILS(set_alias(m.vm, 0, 0xf00000, 0x2000, ~0xfffull), EINVAL);
	for (u32 n = 0; n < 4; n++)
		OK(set_alias(m.vm, n, 0xf00000 + n * 0x10000, 0x1000, 0x2000));
}

/* ---- dirty log ---- */
static u64 dirty_word(struct machine *m, u32 slot)
{
	static u64 bitmap[4096 / 8];
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	memset(bitmap, 0, sizeof(bitmap));
	OK(ioctl(m->vm, KVM_GET_DIRTY_LOG, &log));
	return bitmap[0];
}

TEST(dirty_log_is_exact)
{
	struct machine m = machine_new(MIB);
	u8 *mem = anon(64 * 4096);

	OK(set_slot(m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 2 * MIB, 64 * 4096, mem));
	CHECK_EQ(dirty_word(&m, 1), 0);
	mem[0] = 1; /* the client's own writes are not in it */
	CHECK_EQ(dirty_word(&m, 1), 0);
	poke(&m, 2 * MIB + 3 * 4096);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty_word(&m, 1), 1 << 3);
	CHECK_EQ(dirty_word(&m, 1), 0);
	poke(&m, 2 * MIB + 3 * 4096);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty_word(&m, 1), 1 << 3);
	/* A write across two pages; a read. */
	CODE(&m, 0x1000, 0x89, 0x07, 0x8b, 0x06, 0xf4); /* mov [edi], eax; mov eax, [esi]; hlt */
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 2 * MIB + 7 * 4096 - 2,
					.rsi = 2 * MIB + 20 * 4096 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty_word(&m, 1), 3 << 6);
	/* REP STOSB over three pages, a locked add. */
	CODE(&m, 0x1000, 0xf3, 0xaa, 0xf0, 0x83, 0x06, 0x01, 0xf4);
	set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rdi = 2 * MIB + 10 * 4096, .rcx = 3 * 4096,
					.rsi = 2 * MIB + 30 * 4096 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty_word(&m, 1), (7ull << 10) | (1ull << 30));
}

TEST(dirty_log_errors)
{
	struct machine m = machine_new(MIB);
	u64 bitmap[64];
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bitmap };

	FAILS(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
	log.slot = 5;
	FAILS(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
	log.slot = 60000;
	FAILS(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log), EINVAL);
	OK(set_slot(m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MIB, m.mem));
	log.slot = 0;
	log.dirty_bitmap = (void *)8;
	FAILS(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log), EFAULT);
}

TEST(dirty_log_of_page_tables)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0x8a, 0x07, 0xf4); /* mov al, [rdi]; hlt */
	start_long(&m, 0x1000);
	OK(set_slot(m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MIB, m.mem));
	dirty_word(&m, 0);
	run_until(&m, KVM_EXIT_HLT);
	/* Accessed bits of all three levels, and nothing else. */
	CHECK_EQ(dirty_word(&m, 0), 7 << 9);
}

TEST(dirty_log_through_alias)
{
	struct machine m = machine_new(MIB);

	need_ukvm(&m);
	OK(set_alias(m.vm, 0, 0xf00000, 0x10000, 0x20000));
	OK(set_slot(m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MIB, m.mem));
	poke(&m, 0xf01005);
	dirty_word(&m, 0);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(dirty_word(&m, 0), 1ull << 0x21);
}
