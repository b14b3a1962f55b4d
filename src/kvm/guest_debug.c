// SPDX-License-Identifier: MIT
/* Debug registers, and debugging of the guest by the client (KVM_SET_GUEST_DEBUG; api.rst 4.87). */
#include <string.h>

#include "interp/debug.h"
#include "kvm/vcpu.h"

int vcpu_get_debugregs(struct vcpu *v, void *arg)
{
	struct kvm_debugregs *k = arg;

	memset(k, 0, sizeof(*k));
	memcpy(k->db, v->cpu.dr, sizeof(k->db));
	k->dr6 = v->cpu.dr[6];
	k->dr7 = v->cpu.dr[7];
	return 0;
}

int vcpu_set_debugregs(struct vcpu *v, void *arg)
{
	const struct kvm_debugregs *k = arg;

	if (k->flags || k->dr6 >> 32 || k->dr7 >> 32)
		return -EINVAL;
	memcpy(v->cpu.dr, k->db, sizeof(k->db));
	v->cpu.dr[6] = k->dr6;
	v->cpu.dr[7] = k->dr7;
	debug_update(&v->cpu);
	return 0;
}

/* KVM_GUESTDBG_INJECT_*: the guest is to see the exception itself. */
static int inject(struct vcpu *v, u8 vector)
{
	struct events *e = &v->cpu.ev;

	if (e->exc.pending)
		return -EBUSY;
	e->exc.pending = true;
	e->exc.injected = false;
	e->exc.vector = vector;
	e->exc.has_error = false;
	e->exc.error = 0;
	e->exc.has_payload = false;
	e->exc.payload = 0;
	cpu_events_changed(&v->cpu);
	return 0;
}

int vcpu_set_guest_debug(struct vcpu *v, void *arg)
{
	const struct kvm_guest_debug *k = arg;
	int err = 0;

	if (k->control & KVM_GUESTDBG_INJECT_DB)
		err = inject(v, VEC_DB);
	else if (k->control & KVM_GUESTDBG_INJECT_BP)
		err = inject(v, VEC_BP);
	if (err)
		return err;
	v->debug = *k;
	v->cpu.guest_debug = k->control & KVM_GUESTDBG_ENABLE ? k->control : 0;
	memcpy(v->cpu.guest_dr, k->arch.debugreg, sizeof(v->cpu.guest_dr));
	debug_update(&v->cpu);
	return 0;
}

/* What Linux 2.6.22 had before KVM_SET_GUEST_DEBUG; every kernel since refuses it (spec 4.16). */
int vcpu_debug_guest(struct vcpu *v, void *arg)
{
	(void)v;
	(void)arg;
	return -EINVAL;
}
