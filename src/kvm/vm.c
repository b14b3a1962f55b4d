// SPDX-License-Identifier: MIT
/* VMs and vCPUs come and go; and the VM ioctls that only keep a value. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/msr.h"
#include "cpu/tsc.h"
#include "kvm/caps.h"
#include "kvm/handlers.h"
#include "kvm/iobus.h"
#include "kvm/memory.h"
#include "kvm/object.h"
#include "kvm/stats.h"
#include "kvm/vcpu.h"
#include "os/guard.h"
#include "os/mem.h"
#include "os/sys.h"

#define RUN_SIZE (UKVM_RUN_PAGES * PAGE_SIZE)
#define TSS_SIZE (3 * PAGE_SIZE)
#define MMU_PAGES_MIN 64 /* the kernel's KVM_MIN_ALLOC_MMU_PAGES */

/* ---- VMs ---- */

static void free_vcpu(struct vcpu *v)
{
	stats_vcpu_gone(v);
	vcpu_fini(v);
	os_free(v->run, RUN_SIZE);
	os_free(v, sizeof(*v));
}

/* Whatever of it there is. */
void vm_destroy(struct vm *vm)
{
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		free_vcpu(vm->vcpus[n]);
	msr_filter_free(vm);
	vm_io_free(vm);
	vm_memory_free(vm);
	os_free(vm, sizeof(*vm));
}

static int init_vm(struct vm *vm)
{
	int ret = vm_memory_init(vm);

	if (!ret)
		ret = vm_io_init(vm);
	/* The client may have replaced our handlers since the last time. */
	if (!ret)
		ret = os_guard_init();
	if (!ret)
		ret = obj_create(&vm->obj, OBJ_VM, "ukvm-vm", 0, true);
	return ret;
}

int sys_create_vm(struct obj *o, void *arg)
{
	struct vm *vm;
	int ret;

	(void)o;
	if (arg)
		return -EINVAL; /* one type of machine */
	kvm_collect_sometimes();
	vm = os_alloc(sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	ret = init_vm(vm);
	if (ret < 0) {
		vm_destroy(vm);
		return ret;
	}
	stats_vm(vm);
	/* kvmclock begins when the VM does. */
	vm->clock_offset = -(s64)host_clock_ns();
	obj_publish(&vm->obj);
	return ret;
}

/* ---- vCPUs ---- */

/* Called with vm->lock held. */
static int check_id(const struct vm *vm, u64 id)
{
	if (id >= UKVM_MAX_VCPU_ID || (vm->max_vcpu_id && id >= vm->max_vcpu_id))
		return -EINVAL;
	if (vm->nr_vcpus >= UKVM_MAX_VCPUS)
		return -EINVAL;
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		if (vm->vcpus[n]->cpu.id == id)
			return -EEXIST;
	return 0;
}

/* The client's view of the boot CPU is in APIC_BASE, here and in kvm_run. */
static void set_bsp(struct vcpu *v)
{
	if (v->cpu.id == v->vm->boot_cpu_id)
		v->cpu.msr.apic_base |= APIC_BASE_BSP;
	else
		v->cpu.msr.apic_base &= ~APIC_BASE_BSP;
	v->run->apic_base = v->apic_base_told = v->cpu.msr.apic_base;
}

/* As in /proc: the kernel says anon_inode:kvm-vcpu:N. */
static const char *vcpu_name(char name[24], u32 id)
{
	static const char prefix[] = "ukvm-vcpu:";
	char *p = name + sizeof(prefix) - 1;
	u32 unit = 1;

	memcpy(name, prefix, sizeof(prefix));
	while (id / unit >= 10)
		unit *= 10;
	for (; unit; unit /= 10)
		*p++ = (char)('0' + id / unit % 10);
	*p = 0;
	return name;
}

/* The client's fd, and what is behind it. */
static int init_vcpu(struct vcpu *v)
{
	char name[24];
	int fd = obj_create(&v->obj, OBJ_VCPU, vcpu_name(name, v->cpu.id), RUN_SIZE, true);

	if (fd < 0)
		return fd;
	v->run = os_mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, v->obj.fd, 0);
	if (v->run && vcpu_init(v) == 0) {
		set_bsp(v);
		return fd;
	}
	obj_abandon(&v->obj, fd);
	os_free(v->run, RUN_SIZE);
	return -ENOMEM;
}

/* Called with vm->lock held. */
static int create_vcpu(struct vm *vm, u32 id)
{
	struct vcpu *v = os_alloc(sizeof(*v));
	int fd;

	if (!v)
		return -ENOMEM;
	v->vm = vm;
	v->cpu.id = id;
	v->cpu.map = vm->memory->map;
	v->cpu.hypercall_exits = vm_cap(vm, CAP_EN_HYPERCALL);
	fd = init_vcpu(v);
	if (fd < 0) {
		os_free(v, sizeof(*v));
		return fd;
	}
	stats_vcpu(v);
	vm->vcpus[vm->nr_vcpus++] = v;
	obj_publish(&v->obj);
	return fd;
}

int vm_create_vcpu(struct vm *vm, void *arg)
{
	u64 id = (u32)(uintptr_t)arg;
	int ret;

	kvm_collect_sometimes();
	os_lock(&vm->lock);
	ret = check_id(vm, id);
	if (!ret)
		ret = create_vcpu(vm, (u32)id);
	os_unlock(&vm->lock);
	return ret;
}

/* ---- values ---- */

int vm_set_tss_addr(struct vm *vm, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;

	if (addr > (u32)-TSS_SIZE)
		return -EINVAL;
	os_lock(&vm->lock);
	vm->tss_addr = addr;
	os_unlock(&vm->lock);
	return 0;
}

/* Routes lead to interrupt controllers, and no VM has any: kvm_arch_can_set_irq_routing() is false. */
int vm_set_gsi_routing(struct vm *vm, void *arg)
{
	(void)vm;
	(void)arg;
	return -EINVAL;
}

int vm_set_identity_map_addr(struct vm *vm, void *arg)
{
	const u64 *addr = arg;
	int ret = -EINVAL;

	os_lock(&vm->lock);
	if (!vm->nr_vcpus) {
		vm->identity_map_addr = *addr;
		ret = 0;
	}
	os_unlock(&vm->lock);
	return ret;
}

int vm_set_boot_cpu_id(struct vm *vm, void *arg)
{
	int ret = -EBUSY;

	os_lock(&vm->lock);
	if (!vm->nr_vcpus) {
		vm->boot_cpu_id = (u32)(uintptr_t)arg;
		ret = 0;
	}
	os_unlock(&vm->lock);
	return ret;
}

int vm_set_nr_mmu_pages(struct vm *vm, void *arg)
{
	u32 n = (u32)(uintptr_t)arg;

	if (n < MMU_PAGES_MIN)
		return -EINVAL;
	os_lock(&vm->lock);
	vm->nr_mmu_pages = n < INT_MAX ? n : INT_MAX; /* a result is never negative */
	os_unlock(&vm->lock);
	return 0;
}

int vm_get_nr_mmu_pages(struct vm *vm, void *arg)
{
	int n;

	(void)arg;
	os_lock(&vm->lock);
	n = (int)vm->nr_mmu_pages;
	os_unlock(&vm->lock);
	return n;
}

int vm_set_tsc_khz(struct vm *vm, void *arg)
{
	u32 khz = (u32)(uintptr_t)arg;

	if (khz && !tsc_khz_valid(khz))
		return -EINVAL;
	os_lock(&vm->lock);
	vm->tsc_khz = khz;
	os_unlock(&vm->lock);
	return 0;
}

int vm_get_tsc_khz(struct vm *vm, void *arg)
{
	u32 khz;

	(void)arg;
	os_lock(&vm->lock);
	khz = vm->tsc_khz;
	os_unlock(&vm->lock);
	return (int)(khz ? khz : host_tsc_khz());
}
