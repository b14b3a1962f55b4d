/* SPDX-License-Identifier: MIT */
/*
 * The functions named in ioctls.def. Each returns a result >= 0, or a negative errno and has then changed nothing.
 * arg: see the argument conventions there. VM handlers take vm->lock themselves; vCPU handlers are called with
 * vcpu->lock held.
 */
#ifndef UKVM_KVM_HANDLERS_H
#define UKVM_KVM_HANDLERS_H

#include "kvm/vm.h"

#define HANDLER_SYS(name) int sys_##name(struct obj *o, void *arg)
#define HANDLER_VM(name) int vm_##name(struct vm *vm, void *arg)
#define HANDLER_VCPU(name) int vcpu_##name(struct vcpu *v, void *arg)

#define IOCTL(class, request, handler, argument, since, text) HANDLER_##class(handler);
#include "kvm/ioctls.def"
#undef IOCTL

#endif
