// SPDX-License-Identifier: MIT
/* ioctls of /dev/kvm. Those that answer with lists are in sys_lists.c, KVM_CREATE_VM is in vm.c. */
#include <errno.h>

#include "cpu/cpuid.h"
#include "kvm/handlers.h"
#include "os/guard.h"

int sys_get_api_version(struct obj *o, void *arg)
{
	(void)o;
	(void)arg;
	return KVM_API_VERSION;
}

int sys_get_vcpu_mmap_size(struct obj *o, void *arg)
{
	(void)o;
	(void)arg;
	return UKVM_RUN_PAGES * PAGE_SIZE;
}

/* kvmtrace, of Linux 2.6.26 to 2.6.30. */
int sys_trace_enable(struct obj *o, void *arg)
{
	(void)o;
	(void)arg;
	return -EOPNOTSUPP;
}

int sys_trace_pause(struct obj *o, void *arg)
{
	return sys_trace_enable(o, arg);
}

int sys_trace_disable(struct obj *o, void *arg)
{
	return sys_trace_enable(o, arg);
}

/* Group 0, attribute KVM_X86_XCOMP_GUEST_SUPP: the XCR0 bits that guests can have (api.rst 4.144). */
int sys_has_device_attr(struct obj *o, void *arg)
{
	const struct kvm_device_attr *k = arg;

	(void)o;
	return k->group || k->attr != KVM_X86_XCOMP_GUEST_SUPP ? -ENXIO : 0;
}

int sys_get_device_attr(struct obj *o, void *arg)
{
	const struct kvm_device_attr *k = arg;
	u64 xcr0 = cpuid_supported_xcr0();
	int ret = sys_has_device_attr(o, arg);

	return ret ? ret : os_copy_out(k->addr, &xcr0, sizeof(xcr0));
}
