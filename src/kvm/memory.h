/* SPDX-License-Identifier: MIT */
/* Memory slots and aliases of a VM (memory.c), and their dirty logs (dirty.c). */
#ifndef UKVM_KVM_MEMORY_H
#define UKVM_KVM_MEMORY_H

#include "kvm/vm.h"

/* What a client calls a slot. */
struct slot {
	struct memslot mem;
	u32 id;
	u32 flags;  /* KVM_MEM_* */
	bool in_vm; /* KVM_SET_MEMORY_REGION: the memory is the VM fd's, at offset gpa */
};

/* Under vm->lock. */
struct vm_memory {
	u32 nr_slots, room;
	struct slot *slot;                  /* sorted by gpa; [room] */
	struct memalias alias[MAX_ALIASES]; /* size 0: not in use */
	/*
	 * What the vCPUs have, and what they had before; the next map is built in the latter. It is not freed at once
	 * because of rest.c's must_wait().
	 */
	struct memmap *map, *spare;
};

int vm_memory_init(struct vm *vm); /* 0 or -ENOMEM */
void vm_memory_free(struct vm *vm);

/* NULL if there is no such slot. Under vm->lock. */
struct slot *slot_find(struct vm_memory *m, u32 id);

/* Bytes of a slot's log, as KVM_GET_DIRTY_LOG gives it: whole u64s. */
static inline u64 dirty_log_size(const struct memslot *s)
{
	return ((s->size >> PAGE_SHIFT) + 63) / 64 * sizeof(u64);
}

#endif
