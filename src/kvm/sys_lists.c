// SPDX-License-Identifier: MIT
/* What /dev/kvm tells of CPUID and MSRs. */
#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "kvm/vcpu.h"
#include "os/guard.h"

#define MSRS_MAX 512

typedef u32 (*cpuid_list_fn)(struct cpuid_entry *out, u32 max);
typedef u32 (*msr_list_fn)(u32 *out, u32 max);

/* The client says in nent how many entries it has room for, and learns how many there are. */
static int get_cpuid_list(u64 addr, cpuid_list_fn list)
{
	struct cpuid_entry e[CPUID_MAX_ENTRIES];
	struct kvm_cpuid2 head;
	u32 n;

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	if (head.nent < 1)
		return -E2BIG;
	n = list(e, CPUID_MAX_ENTRIES);
	if (n > head.nent || n > CPUID_MAX_ENTRIES)
		return -E2BIG;
	head.nent = n;
	if (os_copy_out(addr + sizeof(head), e, n * sizeof(e[0])))
		return -EFAULT;
	return os_copy_out(addr, &head, sizeof(head));
}

int sys_get_supported_cpuid(struct obj *o, void *arg)
{
	(void)o;
	return get_cpuid_list((u64)(uintptr_t)arg, cpuid_supported);
}

/* The padding of the client's entries must be 0, up to as many as can be looked at (kernel: 3.13). */
static int check_padding(u64 addr)
{
	struct cpuid_entry e;
	struct kvm_cpuid2 head;

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	for (u32 n = 0; n < min_u64(head.nent, CPUID_MAX_ENTRIES); n++) {
		if (os_copy_in(&e, addr + sizeof(head) + n * sizeof(e), sizeof(e)))
			return -EINVAL;
		if (e.padding[0] || e.padding[1] || e.padding[2])
			return -EINVAL;
	}
	return 0;
}

int sys_get_emulated_cpuid(struct obj *o, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;
	int err = check_padding(addr);

	(void)o;
	return err ? err : get_cpuid_list(addr, cpuid_emulated);
}

/* nmsrs comes back as the number there is also with E2BIG, so that the client can ask again. */
static int get_msr_list(u64 addr, msr_list_fn list)
{
	u32 index[MSRS_MAX];
	struct kvm_msr_list head;
	u32 room, n = list(index, MSRS_MAX);

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	room = head.nmsrs;
	head.nmsrs = n;
	if (os_copy_out(addr, &head, sizeof(head)))
		return -EFAULT;
	if (n > room || n > MSRS_MAX)
		return -E2BIG;
	return os_copy_out(addr + sizeof(head), index, n * sizeof(index[0]));
}

int sys_get_msr_index_list(struct obj *o, void *arg)
{
	(void)o;
	return get_msr_list((u64)(uintptr_t)arg, cpu_msr_list);
}

int sys_get_msr_feature_index_list(struct obj *o, void *arg)
{
	(void)o;
	return get_msr_list((u64)(uintptr_t)arg, cpu_msr_feature_list);
}

int sys_x86_get_mce_cap_supported(struct obj *o, void *arg)
{
	(void)o;
	*(u64 *)arg = MCE_CAP_SUPPORTED;
	return 0;
}
