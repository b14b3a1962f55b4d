/* SPDX-License-Identifier: MIT */
/* Guest writes that do not exit: ioeventfds (api.rst 4.59) and coalesced MMIO (4.116). */
#ifndef UKVM_KVM_IOBUS_H
#define UKVM_KVM_IOBUS_H

#include "kvm/vm.h"

int vm_io_init(struct vm *vm); /* 0 or -ENOMEM */
void vm_io_free(struct vm *vm);

/* cpu_host::mmio and cpu_host::pio; ctx is the vCPU, between vcpu_enter() and vcpu_leave(). */
bool vm_mmio(void *ctx, u64 gpa, unsigned len, bool write, void *data);
bool vm_pio(void *ctx, u16 port, unsigned size, bool write, void *data);

/* Lets the client's mapping of this vCPU show the VM's ring, once there are zones. For vcpu_enter(). */
void vcpu_share_ring(struct vcpu *v);

#endif
