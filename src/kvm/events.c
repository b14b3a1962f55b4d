// SPDX-License-Identifier: MIT
/* What waits to be taken: exceptions, interrupts, NMIs, machine checks. */
#include <string.h>

#include "cpu/msr.h"
#include "interp/debug.h"
#include "kvm/caps.h"
#include "kvm/vcpu.h"

#define MCG_STATUS_MCIP BIT64(2)
#define MCI_STATUS_VAL BIT64(63)
#define MCI_STATUS_OVER BIT64(62)
#define MCI_STATUS_UC BIT64(61)

bool vcpu_ready_for_interrupt(const struct vcpu *v)
{
	const struct events *e = &v->cpu.ev;

	return (v->cpu.rflags & FL_IF) && !e->shadow && !e->exc.pending && !e->exc.injected && !e->intr.injected &&
	       !e->nmi_injected;
}

int vcpu_interrupt(struct vcpu *v, void *arg)
{
	const struct kvm_interrupt *i = arg;

	if (i->irq > 255)
		return -EINVAL;
	v->cpu.ev.intr.injected = true;
	v->cpu.ev.intr.soft = false;
	v->cpu.ev.intr.vector = (u8)i->irq;
	cpu_events_changed(&v->cpu);
	return 0;
}

int vcpu_nmi(struct vcpu *v, void *arg)
{
	struct events *e = &v->cpu.ev;

	(void)arg;
	/* One is remembered while another is being handled (SDM vol. 3, 6.7.1); else the first is taken at once. */
	if (e->nmi_pending < (e->nmi_masked || e->nmi_injected ? 1 : 2))
		e->nmi_pending++;
	cpu_events_changed(&v->cpu);
	return 0;
}

/*
 * The payload of a pending exception goes to CR2 or DR6 when it is delivered. A client that does not know of payloads
 * (KVM_CAP_EXCEPTION_PAYLOAD) reads those registers instead, so it must be there before it looks.
 */
static void deliver_payload(struct cpu *c)
{
	if (c->ev.exc.vector == VEC_PF)
		c->cr2 = c->ev.exc.payload;
	else if (c->ev.exc.vector == VEC_DB)
		debug_set_dr6(c, c->ev.exc.payload);
	c->ev.exc.has_payload = false;
	c->ev.exc.payload = 0;
}

static u8 shadow_to_kvm(u8 shadow)
{
	return (shadow & SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0) |
	       (shadow & SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
}

/* Like VMX, which has one of them at a time. */
static u8 shadow_from_kvm(u8 shadow)
{
	if (shadow & KVM_X86_SHADOW_INT_MOV_SS)
		return SHADOW_MOV_SS;
	return shadow & KVM_X86_SHADOW_INT_STI ? SHADOW_STI : 0;
}

static void get_exception(struct vcpu *v, struct kvm_vcpu_events *k, bool payloads)
{
	struct events *e = &v->cpu.ev;

	if (!payloads && e->exc.pending && e->exc.has_payload)
		deliver_payload(&v->cpu);
	/* INT3 and INTO happen again when the guest goes on: RIP is still in front of them. */
	if (e->exc.vector != VEC_BP && e->exc.vector != VEC_OF) {
		k->exception.injected = e->exc.injected || (e->exc.pending && !payloads);
		k->exception.pending = e->exc.pending;
	}
	k->exception.nr = e->exc.vector;
	k->exception.has_error_code = e->exc.has_error;
	k->exception.error_code = e->exc.error;
	k->exception_has_payload = e->exc.has_payload;
	k->exception_payload = e->exc.payload;
}

int vcpu_get_vcpu_events(struct vcpu *v, void *arg)
{
	struct kvm_vcpu_events *k = arg;
	struct events *e = &v->cpu.ev;
	bool payloads = vm_cap(v->vm, CAP_EN_EXCEPTION_PAYLOAD);

	memset(k, 0, sizeof(*k));
	get_exception(v, k, payloads);
	k->interrupt.injected = e->intr.injected && !e->intr.soft;
	k->interrupt.nr = e->intr.vector;
	k->interrupt.shadow = shadow_to_kvm(e->shadow);
	k->nmi.injected = e->nmi_injected;
	k->nmi.pending = e->nmi_pending != 0;
	k->nmi.masked = e->nmi_masked;
	k->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	if (payloads)
		k->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (vm_cap(v->vm, CAP_EN_TRIPLE_FAULT_EVENT)) {
		k->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
		k->triple_fault.pending = v->triple_fault;
	}
	return 0;
}

/* EINVAL, or 0 with the fields that the flags do not make valid corrected in k. */
static int check_events(const struct vcpu *v, struct kvm_vcpu_events *k)
{
	if (k->flags & ~(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD |
			 KVM_VCPUEVENT_VALID_TRIPLE_FAULT))
		return -EINVAL;
	if (k->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		if (!vm_cap(v->vm, CAP_EN_EXCEPTION_PAYLOAD))
			return -EINVAL;
		if (k->exception.pending)
			k->exception.injected = 0;
		else
			k->exception_has_payload = 0;
	} else {
		k->exception.pending = 0;
		k->exception_has_payload = 0;
	}
	if ((k->exception.injected || k->exception.pending) && (k->exception.nr > 31 || k->exception.nr == VEC_NMI))
		return -EINVAL;
	/* There is no system-management mode here (KVM_CAP_X86_SMM is 0). */
	if ((k->flags & KVM_VCPUEVENT_VALID_SMM) && (k->smi.smm || k->smi.pending || k->smi.smm_inside_nmi))
		return -EINVAL;
	if ((k->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !vm_cap(v->vm, CAP_EN_TRIPLE_FAULT_EVENT))
		return -EINVAL;
	return 0;
}

int vcpu_set_vcpu_events(struct vcpu *v, void *arg)
{
	struct kvm_vcpu_events *k = arg;
	struct events *e = &v->cpu.ev;
	int err = check_events(v, k);

	if (err)
		return err;
	e->exc.injected = k->exception.injected;
	e->exc.pending = k->exception.pending;
	e->exc.vector = k->exception.nr;
	e->exc.has_error = k->exception.has_error_code;
	e->exc.error = k->exception.error_code;
	e->exc.has_payload = k->exception_has_payload;
	e->exc.payload = k->exception_payload;
	e->intr.injected = k->interrupt.injected;
	e->intr.vector = k->interrupt.nr;
	e->intr.soft = k->interrupt.soft;
	if (k->flags & KVM_VCPUEVENT_VALID_SHADOW)
		e->shadow = shadow_from_kvm(k->interrupt.shadow);
	e->nmi_injected = k->nmi.injected;
	if (k->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		e->nmi_pending = (u8)min_u64(k->nmi.pending, 2);
	e->nmi_masked = k->nmi.masked;
	if (k->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		v->triple_fault = k->triple_fault.pending;
	debug_update(&v->cpu);
	cpu_events_changed(&v->cpu);
	return 0;
}

int vcpu_x86_setup_mce(struct vcpu *v, void *arg)
{
	return cpu_setup_mce(&v->cpu, *(const u64 *)arg);
}

/* An uncorrected error is fatal to a guest that is in another one, or has not enabled machine checks. */
static int uncorrected(struct vcpu *v, const struct kvm_x86_mce *k, u64 *bank)
{
	struct cpu *c = &v->cpu;
	struct msr_state *m = &c->msr;

	if ((m->mcg_cap & MCG_CTL_P) && m->mcg_ctl != ~0ull)
		return 0;
	if (bank[0] != ~0ull)
		return 0;
	if ((m->mcg_status & MCG_STATUS_MCIP) || !(c->cr4 & CR4_MCE)) {
		v->triple_fault = true;
		return 0;
	}
	bank[1] = k->status | (bank[1] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0);
	bank[2] = k->addr;
	bank[3] = k->misc;
	m->mcg_status = k->mcg_status;
	c->ev.exc.pending = true;
	c->ev.exc.injected = false;
	c->ev.exc.vector = VEC_MC;
	c->ev.exc.has_error = false;
	c->ev.exc.has_payload = false;
	cpu_events_changed(c);
	return 0;
}

int vcpu_x86_set_mce(struct vcpu *v, void *arg)
{
	const struct kvm_x86_mce *k = arg;
	struct msr_state *m = &v->cpu.msr;
	u64 *bank;

	if (k->bank >= (m->mcg_cap & 0xff) || !(k->status & MCI_STATUS_VAL))
		return -EINVAL;
	bank = &m->mc_bank[4 * k->bank];
	if (k->status & MCI_STATUS_UC)
		return uncorrected(v, k, bank);
	/* A corrected error does not overwrite one that was not. */
	if ((bank[1] & MCI_STATUS_VAL) && (bank[1] & MCI_STATUS_UC)) {
		bank[1] |= MCI_STATUS_OVER;
		return 0;
	}
	bank[1] = k->status | (bank[1] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0);
	bank[2] = k->addr;
	bank[3] = k->misc;
	return 0;
}
