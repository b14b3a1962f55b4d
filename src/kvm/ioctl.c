// SPDX-License-Identifier: MIT
/* From an ioctl to its handler, by the table in ioctls.def. */
#include "kvm/ioctl.h"

#include <errno.h>
#include <string.h>

#include "kvm/handlers.h"
#include "kvm/object.h"
#include "kvm/signal.h"
#include "os/guard.h"
#include "ukvm/abi.h"

#define OBJ_CLASS_SYS OBJ_SYSTEM
#define OBJ_CLASS_VM OBJ_VM
#define OBJ_CLASS_VCPU OBJ_VCPU

const struct ioctl_row ioctl_rows[] = {
#define IOCTL(class, request, handler, argument, since, text)                                                          \
	{ request, OBJ_CLASS_##class, ARG_##argument, #request, since, text },
#include "kvm/ioctls.def"
#undef IOCTL
};
const u32 nr_ioctl_rows = ARRAY_SIZE(ioctl_rows);

/* The same order, without what only listings want. */
static const union {
	int (*SYS)(struct obj *o, void *arg);
	int (*VM)(struct vm *vm, void *arg);
	int (*VCPU)(struct vcpu *v, void *arg);
} handlers[] = {
#define IOCTL(class, request, handler, argument, since, text) { .class = HANDLER_NAME_##class(handler) },
#define HANDLER_NAME_SYS(name) sys_##name
#define HANDLER_NAME_VM(name) vm_##name
#define HANDLER_NAME_VCPU(name) vcpu_##name
#include "kvm/ioctls.def"
#undef IOCTL
};

enum row {
#define IOCTL(class, request, handler, argument, since, text) ROW_##class##_##handler,
#include "kvm/ioctls.def"
#undef IOCTL
	ROW_NONE,
};

/* A class and a request in one number, for a switch: the compiler makes a search tree of it, and refuses duplicates. */
#define KEY(class, request) ((u64)(class) << 32 | (u32)(request))

static enum row find_row(enum obj_class class, u32 request)
{
	switch (KEY(class, request)) {
#define IOCTL(class, request, handler, argument, since, text)                                                          \
	case KEY(OBJ_CLASS_##class, request):                                                                          \
		return ROW_##class##_##handler;
#include "kvm/ioctls.def"
#undef IOCTL
	default:
		return ROW_NONE;
	}
}

static int call(struct obj *o, enum row row, void *arg)
{
	switch (o->class) {
	case OBJ_SYSTEM:
		return handlers[row].SYS(o, arg);
	case OBJ_VM:
		return handlers[row].VM(container_of(o, struct vm, obj), arg);
	default:
		return handlers[row].VCPU(container_of(o, struct vcpu, obj), arg);
	}
}

/* Room for any structure of fixed size. */
#define COPY_MAX sizeof(struct kvm_xsave)
#define IOCTL(class, request, handler, argument, since, text)                                                          \
	_Static_assert(ARG_##argument != ARG_COPY || _IOC_SIZE(request) <= COPY_MAX, #request);
#include "kvm/ioctls.def"
#undef IOCTL

static __attribute__((noinline)) int call_copy(struct obj *o, enum row row, u64 addr)
{
	u32 request = ioctl_rows[row].request, size = _IOC_SIZE(request);
	u8 copy[COPY_MAX] __attribute__((aligned(64)));
	int ret;

	if (_IOC_DIR(request) & _IOC_WRITE) {
		ret = os_copy_in(copy, addr, size);
		if (ret)
			return ret;
	} else {
		memset(copy, 0, size);
	}
	ret = call(o, row, copy);
	if (ret >= 0 && (_IOC_DIR(request) & _IOC_READ) && os_copy_out(addr, copy, size))
		return -EFAULT;
	return ret;
}

static int dispatch(struct obj *o, u32 request, unsigned long arg)
{
	enum row row = find_row(o->class, request);

	/* kvm_arch_vm_ioctl() ends with ENOTTY, kvm_arch_dev_ioctl() and kvm_arch_vcpu_ioctl() with EINVAL. */
	if (row == ROW_NONE)
		return o->class == OBJ_VM ? -ENOTTY : -EINVAL;
	switch (ioctl_rows[row].arg) {
	case ARG_COPY:
		return call_copy(o, row, arg);
	case ARG_ZERO:
		if (arg)
			return -EINVAL;
		break;
	default:
		break;
	}
	return call(o, row, (void *)arg);
}

static int dispatch_locked(struct obj *o, u32 request, unsigned long arg)
{
	struct vcpu *v = container_of(o, struct vcpu, obj);
	int ret;

	if (o->class != OBJ_VCPU)
		return dispatch(o, request, arg);
	os_lock(&v->lock);
	ret = dispatch(o, request, arg);
	os_unlock(&v->lock);
	return ret;
}

int kvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
	struct obj *o;
	int ret;

	if (_IOC_TYPE(request) != KVMIO)
		return KVM_NOT_OURS;
	kvm_signal_enter();
	ret = obj_get(fd, &o);
	if (likely(!ret)) {
		ret = dispatch_locked(o, (u32)request, arg);
		obj_put(o);
	} else if (ret == -EBADF || ret == -ENOTTY) {
		ret = KVM_NOT_OURS;
	}
	kvm_signal_leave();
	return ret;
}
