// SPDX-License-Identifier: MIT
/* KVM_GET/SET_MP_STATE. Without a local APIC of ours a vCPU is always runnable: HLT is the client's (KVM_EXIT_HLT). */
#include "kvm/vcpu.h"

int vcpu_get_mp_state(struct vcpu *v, void *arg)
{
	struct kvm_mp_state *mp = arg;

	mp->mp_state = v->mp_state;
	return 0;
}

int vcpu_set_mp_state(struct vcpu *v, void *arg)
{
	const struct kvm_mp_state *mp = arg;

	if (mp->mp_state != KVM_MP_STATE_RUNNABLE)
		return -EINVAL;
	v->mp_state = mp->mp_state;
	cpu_events_changed(&v->cpu);
	return 0;
}
