// SPDX-License-Identifier: MIT
/*
 * KVM_GET_DIRTY_LOG (api.rst 4.8). A page with a set bit may have a write tag in soft TLBs, so that stores to it go
 * unnoticed. To clear bits therefore means: while all vCPUs rest, take the bits and flush the TLBs; the next store to
 * each page sets its bit again.
 */
#include <errno.h>

#include "kvm/handlers.h"
#include "kvm/memory.h"
#include "mem/mem.h"
#include "os/guard.h"
#include "os/mem.h"

struct take {
	u64 *log, *out;
	u64 words;
};

static void take_at_rest(struct vm *vm, void *arg)
{
	const struct take *t = arg;
	bool any = false;

	for (u64 n = 0; n < t->words; n++) {
		if (!__atomic_load_n(&t->log[n], __ATOMIC_RELAXED))
			continue;
		t->out[n] = __atomic_exchange_n(&t->log[n], 0, __ATOMIC_SEQ_CST);
		any = true;
	}
	for (u32 n = 0; n < vm->nr_vcpus && any; n++)
		tlb_flush(&vm->vcpus[n]->cpu);
}

/* The client could not be told: the pages are still to be reported. */
static void put_back(const struct take *t)
{
	for (u64 n = 0; n < t->words; n++)
		if (t->out[n])
			__atomic_fetch_or(&t->log[n], t->out[n], __ATOMIC_SEQ_CST);
}

/* Called with vm->lock held. */
static int get_log(struct vm *vm, const struct memslot *s, u64 addr)
{
	u64 size = dirty_log_size(s);
	struct take t = { .log = s->dirty, .words = size / sizeof(u64) };
	int ret;

	t.out = os_alloc(size);
	if (!t.out)
		return -ENOMEM;
	vm_rest(vm, take_at_rest, &t);
	ret = os_copy_out(addr, t.out, size);
	if (ret)
		put_back(&t);
	os_free(t.out, size);
	return ret;
}

int vm_get_dirty_log(struct vm *vm, void *arg)
{
	const struct kvm_dirty_log *k = arg;
	const struct slot *s;
	int ret;

	if (k->slot >= UKVM_MAX_SLOTS)
		return -EINVAL;
	os_lock(&vm->lock);
	s = slot_find(vm->memory, k->slot);
	ret = s && s->mem.dirty ? get_log(vm, &s->mem, (u64)(uintptr_t)k->dirty_bitmap) : -ENOENT;
	os_unlock(&vm->lock);
	return ret;
}
