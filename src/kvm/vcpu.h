/* SPDX-License-Identifier: MIT */
/* What the files that serve vCPU ioctls share. All of it wants vcpu->lock (vcpu_init: nobody else has the vCPU yet). */
#ifndef UKVM_KVM_VCPU_H
#define UKVM_KVM_VCPU_H

#include <errno.h>

#include "kvm/handlers.h"
#include "kvm/vm.h"

/* vm, run, cpu.id and cpu.map are set, vm->lock is held; makes the engine's side of it: 0 or -ENOMEM. */
int vcpu_init(struct vcpu *v);
void vcpu_fini(struct vcpu *v);

/* Is there nothing in the way of KVM_INTERRUPT? (kvm_run::ready_for_interrupt_injection) */
bool vcpu_ready_for_interrupt(const struct vcpu *v);

/* Linear address of the instruction at RIP. */
u64 vcpu_linear_pc(const struct vcpu *v);

/*
 * Calls fn(v, arg) with guest memory accessible, as KVM_RUN has it: the map does not change meanwhile, and memory that
 * the client has taken away gives -EFAULT.
 */
int vcpu_with_memory(struct vcpu *v, int (*fn)(struct vcpu *v, void *arg), void *arg);

/* Brings the guest's kvmclock page up to date (clock.c). Within KVM_RUN, guest memory accessible. */
void vcpu_update_pvclock(struct vcpu *v);

/* Sets the TSC as KVM_SET_MSRS does: in step with the other vCPUs if that may be meant. Wants vm->lock. */
void vcpu_set_tsc(struct vcpu *v, u64 tsc);

/* cpu_host::msr_allowed, cpu_host::msr (vcpu_msr.c) */
bool vcpu_msr_allowed(void *ctx, u32 index, bool write);
int vcpu_msr_refused(void *ctx, u32 index, u64 *data, bool write);

/* May guests access this MSR? (msr_filter.c) */
bool msr_filter_allows(const struct vm *vm, u32 index, bool write);
void msr_filter_free(struct vm *vm);

#endif
