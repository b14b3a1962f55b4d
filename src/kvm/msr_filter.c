// SPDX-License-Identifier: MIT
/* KVM_X86_SET_MSR_FILTER (api.rst 4.97): which MSRs guests may access. Accesses of the client are never filtered. */
#include <string.h>

#include "kvm/vcpu.h"
#include "os/guard.h"
#include "os/mem.h"

struct msr_range {
	u32 flags, base, n;
	u64 allowed[KVM_MSR_FILTER_MAX_BITMAP_SIZE / sizeof(u64)];
};

/* Immutable; vCPUs read it without a lock. */
struct msr_filter {
	bool default_allow;
	u32 n;
	struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
};

bool msr_filter_allows(const struct vm *vm, u32 index, bool write)
{
	const struct msr_filter *f = vm->msr_filter;
	u32 type = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;

	/* x2APIC registers are not filtered. */
	if (likely(!f) || (index >= 0x800 && index <= 0x8ff))
		return true;
	for (u32 k = 0; k < f->n; k++) {
		const struct msr_range *r = &f->range[k];
		u32 bit = index - r->base;

		if (bit < r->n && (r->flags & type))
			return r->allowed[bit / 64] & BIT64(bit % 64);
	}
	return f->default_allow;
}

void msr_filter_free(struct vm *vm)
{
	os_free(vm->msr_filter, sizeof(struct msr_filter));
	vm->msr_filter = NULL;
}

static int add_range(struct msr_filter *f, const struct kvm_msr_filter_range *k)
{
	struct msr_range *r = &f->range[f->n];
	u64 bytes = (k->nmsrs + 63ull) / 64 * 8;

	if (!k->nmsrs)
		return 0;
	if (!k->flags || (k->flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)))
		return -EINVAL;
	if (bytes > sizeof(r->allowed))
		return -EINVAL;
	if (os_copy_in(r->allowed, (u64)(uintptr_t)k->bitmap, bytes))
		return -EFAULT;
	r->flags = k->flags;
	r->base = k->base;
	r->n = k->nmsrs;
	f->n++;
	return 0;
}

static int fill(struct msr_filter *f, const struct kvm_msr_filter *k)
{
	int err;

	f->default_allow = !(k->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (unsigned n = 0; n < ARRAY_SIZE(k->ranges); n++) {
		err = add_range(f, &k->ranges[n]);
		if (err)
			return err;
	}
	return f->n || f->default_allow ? 0 : -EINVAL;
}

/* While all vCPUs rest. */
static void replace(struct vm *vm, void *arg)
{
	msr_filter_free(vm);
	vm->msr_filter = arg;
}

int vm_x86_set_msr_filter(struct vm *vm, void *arg)
{
	const struct kvm_msr_filter *k = arg;
	struct msr_filter *f;
	int err;

	if (k->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	f = os_alloc(sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = fill(f, k);
	if (err) {
		os_free(f, sizeof(*f));
		return err;
	}
	os_lock(&vm->lock);
	vm_rest(vm, replace, f);
	os_unlock(&vm->lock);
	return 0;
}
