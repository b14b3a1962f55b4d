/* SPDX-License-Identifier: MIT */
/* Capabilities: what KVM_CHECK_EXTENSION answers (caps.def has the one table), and KVM_ENABLE_CAP of a VM. */
#ifndef UKVM_KVM_CAPS_H
#define UKVM_KVM_CAPS_H

#include "kvm/vm.h"

/* vm::caps: what the client switched on. */
#define CAP_EN_EXCEPTION_PAYLOAD BIT64(0)
#define CAP_EN_TRIPLE_FAULT_EVENT BIT64(1)
#define CAP_EN_EXIT_ON_EMULATION_FAILURE BIT64(2)
#define CAP_EN_HYPERCALL BIT64(3)

/* Is it on? vCPUs ask without vm->lock. */
static inline bool vm_cap(const struct vm *vm, u64 flag)
{
	return __atomic_load_n(&vm->caps, __ATOMIC_RELAXED) & flag;
}

/* What KVM_CHECK_EXTENSION returns; 0 for everything that is not in the table. */
int cap_value(unsigned long cap);

/* The table, for listings. */
struct cap_row {
	u32 cap;
	const char *name, *text;
};
extern const struct cap_row cap_rows[];
extern const u32 nr_cap_rows;

#endif
