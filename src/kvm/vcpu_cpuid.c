// SPDX-License-Identifier: MIT
/* What the client wants CPUID to answer. */
#include "cpu/cpuid.h"

#include <string.h>

#include "kvm/vcpu.h"
#include "os/guard.h"

_Static_assert(sizeof(struct cpuid_entry) == sizeof(struct kvm_cpuid_entry2), "the layout is KVM's");

#define LEAF_ADDRESS_SIZES 0x80000008u

static bool valid(const struct cpuid_entry *e, u32 n)
{
	for (u32 k = 0; k < n; k++) {
		u32 linear = (e[k].eax >> 8) & 0xff;

		if (e[k].function == LEAF_ADDRESS_SIZES && linear != 48 && linear != 57 && linear != 0)
			return false;
	}
	return true;
}

static bool same(const struct cpu *c, const struct cpuid_entry *e, u32 n)
{
	if (n != c->nr_cpuid)
		return false;
	for (u32 k = 0; k < n; k++) {
		struct cpuid_entry now = c->cpuid[k], then = e[k];

		cpuid_apply_state(c, &now);
		cpuid_apply_state(c, &then);
		if (memcmp(&now, &then, offsetof(struct cpuid_entry, padding)))
			return false;
	}
	return true;
}

/* As in the kernel (5.16): a vCPU that has run keeps the CPUID it has seen; setting the same again is fine. */
static int set(struct vcpu *v, const struct cpuid_entry *e, u32 n)
{
	struct cpu *c = &v->cpu;

	if (v->has_run)
		return same(c, e, n) ? 0 : -EINVAL;
	if (!valid(e, n))
		return -EINVAL;
	memcpy(c->cpuid, e, n * sizeof(*e));
	c->nr_cpuid = n;
	cpuid_changed(c);
	cpu_update_mode(c);
	return 0;
}

int vcpu_set_cpuid2(struct vcpu *v, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;
	struct cpuid_entry e[CPUID_MAX_ENTRIES];
	struct kvm_cpuid2 head;

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	if (head.nent > CPUID_MAX_ENTRIES)
		return -E2BIG;
	if (os_copy_in(e, addr + sizeof(head), head.nent * sizeof(e[0])))
		return -EFAULT;
	return set(v, e, head.nent);
}

/* The entries of 2.6.22, without subleaves. */
int vcpu_set_cpuid(struct vcpu *v, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;
	struct cpuid_entry e[CPUID_MAX_ENTRIES];
	struct kvm_cpuid_entry old;
	struct kvm_cpuid head;

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	if (head.nent > CPUID_MAX_ENTRIES)
		return -E2BIG;
	for (u32 n = 0; n < head.nent; n++) {
		if (os_copy_in(&old, addr + sizeof(head) + n * sizeof(old), sizeof(old)))
			return -EFAULT;
		e[n] = (struct cpuid_entry){
			.function = old.function, .eax = old.eax, .ebx = old.ebx, .ecx = old.ecx, .edx = old.edx
		};
	}
	return set(v, e, head.nent);
}

int vcpu_get_cpuid2(struct vcpu *v, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;
	const struct cpu *c = &v->cpu;
	struct cpuid_entry e[CPUID_MAX_ENTRIES];
	struct kvm_cpuid2 head;

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	if (head.nent < c->nr_cpuid)
		return -E2BIG;
	head.nent = c->nr_cpuid;
	/* What the guest would see, as in the kernel. */
	for (u32 n = 0; n < c->nr_cpuid; n++) {
		e[n] = c->cpuid[n];
		cpuid_apply_state(c, &e[n]);
	}
	if (os_copy_out(addr + sizeof(head), e, c->nr_cpuid * sizeof(e[0])))
		return -EFAULT;
	return os_copy_out(addr, &head, sizeof(head));
}
