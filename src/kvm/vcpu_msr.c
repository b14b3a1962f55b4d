// SPDX-License-Identifier: MIT
/* KVM_GET_MSRS and KVM_SET_MSRS; the guest's accesses that the client decides. */
#include "cpu/msr.h"
#include "kvm/vcpu.h"
#include "os/guard.h"

/* The kernel's MAX_IO_MSRS; as many and more are E2BIG. */
#define MSRS_MAX 256

#define MSR_TSC 0x10

/* The client's list: its head and the entries, complete before the first MSR is touched. 0 or a negative errno. */
static int copy_list(u64 addr, u32 *n, struct kvm_msr_entry *entries)
{
	struct kvm_msrs head;

	if (os_copy_in(&head, addr, sizeof(head)))
		return -EFAULT;
	if (head.nmsrs >= MSRS_MAX)
		return -E2BIG;
	*n = head.nmsrs;
	return os_copy_in(entries, addr + sizeof(head), head.nmsrs * sizeof(entries[0]));
}

int vcpu_get_msrs(struct vcpu *v, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg, val;
	struct kvm_msr_entry entries[MSRS_MAX];
	u32 n, done;
	int err = copy_list(addr, &n, entries);

	if (err)
		return err;
	for (done = 0; done < n; done++) {
		if (cpu_msr_read(&v->cpu, entries[done].index, &val, true))
			break;
		entries[done].data = val;
	}
	if (os_copy_out(addr + sizeof(struct kvm_msrs), entries, n * sizeof(entries[0])))
		return -EFAULT;
	return (int)done;
}

static int set_msr(struct vcpu *v, u32 index, u64 val)
{
	if (index != MSR_TSC)
		return cpu_msr_write(&v->cpu, index, val, true);
	os_lock(&v->vm->lock);
	vcpu_set_tsc(v, val);
	os_unlock(&v->vm->lock);
	return 0;
}

int vcpu_set_msrs(struct vcpu *v, void *arg)
{
	struct kvm_msr_entry entries[MSRS_MAX];
	u32 n, done;
	int err = copy_list((u64)(uintptr_t)arg, &n, entries);

	if (err)
		return err;
	for (done = 0; done < n; done++)
		if (set_msr(v, entries[done].index, entries[done].data))
			break;
	return (int)done;
}

/* On the system fd: the MSRs that describe the host (4.17 and later). What cannot be read reads as 0, and ends it. */
int sys_get_msrs(struct obj *o, void *arg)
{
	u64 addr = (u64)(uintptr_t)arg;
	struct kvm_msr_entry entries[MSRS_MAX];
	u32 n, done;
	u64 val;
	int err = copy_list(addr, &n, entries);

	(void)o;
	if (err)
		return err;
	for (done = 0; done < n; done++) {
		entries[done].data = 0;
		if (cpu_msr_feature(entries[done].index, &val))
			break;
		entries[done].data = val;
	}
	if (os_copy_out(addr + sizeof(struct kvm_msrs), entries, n * sizeof(entries[0])))
		return -EFAULT;
	return (int)done;
}

bool vcpu_msr_allowed(void *ctx, u32 index, bool write)
{
	const struct vcpu *v = ctx;

	return msr_filter_allows(v->vm, index, write);
}

/* KVM_CAP_X86_USER_SPACE_MSR: the client asked to decide this kind of #GP itself. */
int vcpu_msr_refused(void *ctx, u32 index, u64 *data, bool write)
{
	struct vcpu *v = ctx;
	struct cpu *c = &v->cpu;

	if (v->msr.answered && v->msr.index == index && v->msr.write == write) {
		v->msr.answered = false;
		if (v->msr.error)
			return -EINVAL;
		*data = v->msr.data;
		return 0;
	}
	if (!(__atomic_load_n(&v->vm->msr_exits, __ATOMIC_RELAXED) & c->exit.msr.why))
		return -EINVAL;
	c->exit.reason = write ? EXIT_MSR_WRITE : EXIT_MSR_READ;
	return ST_EXIT;
}
