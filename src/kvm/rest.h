/* SPDX-License-Identifier: MIT */
/* See vm_rest() in vm.h. */
#ifndef UKVM_KVM_REST_H
#define UKVM_KVM_REST_H

#include "kvm/vm.h"

/* cpu_host::request; ctx is the vCPU. */
void vcpu_request(void *ctx);

#endif
