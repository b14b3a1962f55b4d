// SPDX-License-Identifier: MIT
/* Time: kvmclock of the VM, the TSC of a vCPU. */
#include <time.h>

#include "cpu/pvclock.h"
#include "cpu/tsc.h"
#include "kvm/vcpu.h"
#include "os/guard.h"
#include "os/sys.h"

#define NS_PER_S 1000000000ull
#define CLOCK_FLAGS (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)

static u64 realtime_ns(void)
{
	struct timespec ts;

	os_sys(SYS_clock_gettime, CLOCK_REALTIME, (long)&ts, 0, 0, 0, 0);
	return (u64)ts.tv_sec * NS_PER_S + (u64)ts.tv_nsec;
}

/* The wall clock and the TSC of the same moment: the TSC is that of the middle of the system call. */
static u64 realtime_and_tsc(u64 *tsc)
{
	u64 before = host_tsc();
	u64 ns = realtime_ns();

	*tsc = before + (host_tsc() - before) / 2;
	return ns;
}

int vm_get_clock(struct vm *vm, void *arg)
{
	struct kvm_clock_data *k = arg;
	u64 tsc, ns = realtime_and_tsc(&tsc);

	os_lock(&vm->lock);
	*k = (struct kvm_clock_data){
		.clock = host_clock_at(tsc) + (u64)vm->clock_offset,
		.flags = CLOCK_FLAGS,
		.realtime = ns,
		.host_tsc = tsc,
	};
	os_unlock(&vm->lock);
	return 0;
}

/* While all vCPUs rest; each writes the guest's page itself before it goes on. */
static void clock_changed(struct vm *vm, void *arg)
{
	(void)arg;
	for (u32 n = 0; n < vm->nr_vcpus; n++) {
		struct cpu *c = &vm->vcpus[n]->cpu;

		c->clock_offset = vm->clock_offset;
		pvclock_want(c, CLOCK_SYSTEM);
	}
}

int vm_set_clock(struct vm *vm, void *arg)
{
	const struct kvm_clock_data *k = arg;
	u64 clock = k->clock, now;

	if (k->flags & ~CLOCK_FLAGS)
		return -EINVAL;
	os_lock(&vm->lock);
	if (k->flags & KVM_CLOCK_REALTIME) {
		/* Time has passed since the value was read, elsewhere perhaps; it never goes back. */
		now = realtime_ns();
		if (now > k->realtime)
			clock += now - k->realtime;
	}
	vm->clock_offset = (s64)(clock - host_clock_ns());
	vm_rest(vm, clock_changed, NULL);
	os_unlock(&vm->lock);
	return 0;
}

void vcpu_update_pvclock(struct vcpu *v)
{
	pvclock_update(&v->cpu, v->pvclock_stopped);
	v->pvclock_stopped = false;
}

int vcpu_kvmclock_ctrl(struct vcpu *v, void *arg)
{
	(void)arg;
	if (!pvclock_enabled(&v->cpu))
		return -EINVAL;
	v->pvclock_stopped = true;
	pvclock_want(&v->cpu, CLOCK_SYSTEM);
	return 0;
}

/*
 * The TSCs of a VM's vCPUs are to be equal, but clients set them one after the other. As in the kernel: a value that is
 * within a second of what the VM's TSC shows by now means that TSC, and so does 0, which is what a reset writes.
 */
void vcpu_set_tsc(struct vcpu *v, u64 tsc)
{
	struct vm *vm = v->vm;
	struct cpu *c = &v->cpu;
	u64 own = c->tsc_offset, second = c->tsc_khz * 1000ull;

	if (vm->tsc.known && vm->tsc.khz == c->tsc_khz) {
		c->tsc_offset = vm->tsc.offset;
		if (!tsc || cpu_tsc_read(c) - tsc + second < 2 * second)
			goto out;
		c->tsc_offset = own;
	}
	cpu_tsc_set(c, tsc);
	vm->tsc.known = true;
	vm->tsc.khz = c->tsc_khz;
	vm->tsc.offset = c->tsc_offset;
out:
	pvclock_want(c, CLOCK_SYSTEM);
}

int vcpu_set_tsc_khz(struct vcpu *v, void *arg)
{
	int err = cpu_set_tsc_khz(&v->cpu, (u32)(uintptr_t)arg);

	if (!err)
		pvclock_want(&v->cpu, CLOCK_SYSTEM);
	return err;
}

int vcpu_get_tsc_khz(struct vcpu *v, void *arg)
{
	(void)arg;
	return (int)v->cpu.tsc_khz;
}

/* ---- the device attribute KVM_VCPU_TSC_CTRL / KVM_VCPU_TSC_OFFSET (Documentation/virt/kvm/devices/vcpu.rst) ---- */

int vcpu_has_device_attr(struct vcpu *v, void *arg)
{
	const struct kvm_device_attr *k = arg;

	(void)v;
	return k->group == KVM_VCPU_TSC_CTRL && k->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

int vcpu_get_device_attr(struct vcpu *v, void *arg)
{
	const struct kvm_device_attr *k = arg;
	int err = vcpu_has_device_attr(v, arg);

	return err ? err : os_copy_out(k->addr, &v->cpu.tsc_offset, sizeof(v->cpu.tsc_offset));
}

int vcpu_set_device_attr(struct vcpu *v, void *arg)
{
	const struct kvm_device_attr *k = arg;
	int err = vcpu_has_device_attr(v, arg);
	u64 offset;

	if (!err)
		err = os_copy_in(&offset, k->addr, sizeof(offset));
	if (err)
		return err;
	v->cpu.tsc_offset = offset;
	pvclock_want(&v->cpu, CLOCK_SYSTEM);
	return 0;
}
