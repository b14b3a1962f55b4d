// SPDX-License-Identifier: MIT
#include "kvm/caps.h"

#include <errno.h>
#include <linux/kvm_para.h>

#include "cpu/msr.h"
#include "kvm/handlers.h"
#include "os/sys.h"

#define GUESTDBG_FLAGS                                                                                                 \
	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP |             \
	 KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ)

#define HYPERCALL_EXITS BIT(KVM_HC_MAP_GPA_RANGE)

const struct cap_row cap_rows[] = {
#define CAP(capability, value, text) { capability, #capability, text },
#include "kvm/caps.def"
#undef CAP
};
const u32 nr_cap_rows = ARRAY_SIZE(cap_rows);

/* How many CPUs this process may use, which is what counts in a container. */
static int host_cpus(void)
{
	u64 mask[128] = { 0 };
	int n = 0;

	os_sys(SYS_sched_getaffinity, 0, sizeof(mask), (long)mask, 0, 0, 0);
	for (unsigned k = 0; k < ARRAY_SIZE(mask); k++)
		n += __builtin_popcountll(mask[k]);
	return n < 1 ? 1 : n > UKVM_MAX_VCPUS ? UKVM_MAX_VCPUS : n;
}

int cap_value(unsigned long cap)
{
	switch (cap) {
#define CAP(capability, value, text)                                                                                   \
	case capability:                                                                                               \
		return value;
#include "kvm/caps.def"
#undef CAP
	default:
		return 0;
	}
}

int sys_check_extension(struct obj *o, void *arg)
{
	(void)o;
	return cap_value((unsigned long)arg);
}

int vm_check_extension(struct vm *vm, void *arg)
{
	(void)vm;
	return cap_value((unsigned long)arg);
}

/* ---- KVM_ENABLE_CAP (api.rst 4.37, 7) ---- */

static int enable_flag(struct vm *vm, u64 flag, u64 on)
{
	if (on)
		__atomic_fetch_or(&vm->caps, flag, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&vm->caps, ~flag, __ATOMIC_RELAXED);
	return 0;
}

static int enable_user_space_msr(struct vm *vm, u64 reasons)
{
	if (reasons & ~(u64)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER))
		return -EINVAL;
	__atomic_store_n(&vm->msr_exits, (u32)reasons, __ATOMIC_RELAXED);
	return 0;
}

/* While all vCPUs rest. */
static void set_hypercall_exits(struct vm *vm, void *arg)
{
	(void)arg;
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		vm->vcpus[n]->cpu.hypercall_exits = vm_cap(vm, CAP_EN_HYPERCALL);
}

static int enable_hypercall_exits(struct vm *vm, u64 which)
{
	if (which & ~(u64)HYPERCALL_EXITS)
		return -EINVAL;
	enable_flag(vm, CAP_EN_HYPERCALL, which);
	vm_rest(vm, set_hypercall_exits, NULL);
	return 0;
}

/* Once, or again to the same (api.rst 7.32). */
static int enable_max_vcpu_id(struct vm *vm, u64 max)
{
	/* The first vCPU settles it. */
	u64 now = vm->nr_vcpus && !vm->max_vcpu_id ? UKVM_MAX_VCPU_ID : vm->max_vcpu_id;

	if (max > UKVM_MAX_VCPU_ID || (now && now != max))
		return -EINVAL;
	vm->max_vcpu_id = (u32)max;
	return 0;
}

static int enable(struct vm *vm, const struct kvm_enable_cap *k)
{
	u64 arg = k->args[0];

	if (k->flags)
		return -EINVAL;
	switch (k->cap) {
	case KVM_CAP_EXCEPTION_PAYLOAD:
		return enable_flag(vm, CAP_EN_EXCEPTION_PAYLOAD, arg);
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		return enable_flag(vm, CAP_EN_TRIPLE_FAULT_EVENT, arg);
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		return arg & ~1ull ? -EINVAL : enable_flag(vm, CAP_EN_EXIT_ON_EMULATION_FAILURE, arg);
	case KVM_CAP_X86_USER_SPACE_MSR:
		return enable_user_space_msr(vm, arg);
	case KVM_CAP_EXIT_HYPERCALL:
		return enable_hypercall_exits(vm, arg);
	case KVM_CAP_MAX_VCPU_ID:
		return enable_max_vcpu_id(vm, arg);
	default:
		return -EINVAL;
	}
}

int vm_enable_cap(struct vm *vm, void *arg)
{
	int ret;

	os_lock(&vm->lock);
	ret = enable(vm, arg);
	os_unlock(&vm->lock);
	return ret;
}
