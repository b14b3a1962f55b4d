// SPDX-License-Identifier: MIT
/* A vCPU's engine: what it is made of, and what it asks of us. */
#include "kvm/vcpu.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/pvclock.h"
#include "cpu/tsc.h"
#include "interp/interp.h"
#include "jit/jit.h"
#include "kvm/iobus.h"
#include "kvm/rest.h"
#include "kvm/signal.h"
#include "kvm/stats.h"
#include "mem/code.h"
#include "mem/mem.h"

static bool host_poll(void *ctx)
{
	struct vcpu *v = ctx;

	if (unlikely(v->stats != NULL))
		stats_publish(v);
	return signal_run_poll(v);
}

/* Another thread wants all vCPUs at rest. The clock may be what it changed; guest memory is accessible again after. */
static void host_request(void *ctx)
{
	struct vcpu *v = ctx;

	vcpu_request(v);
	if (v->cpu.clock_due)
		vcpu_update_pvclock(v);
}

static const struct cpu_host host = {
	.mmio = vm_mmio,
	.pio = vm_pio,
	.request = host_request,
	.poll = host_poll,
	.msr_allowed = vcpu_msr_allowed,
	.msr = vcpu_msr_refused,
};

static bool interpret_only(void)
{
	const char *s = getenv("UKVM_INTERPRET");

	return s && *s && strcmp(s, "0");
}

int vcpu_init(struct vcpu *v)
{
	struct cpu *c = &v->cpu;

	c->host = &host;
	c->host_ctx = v;
	c->nr_cpuid = 0;
	if (tlb_init(c))
		return -ENOMEM;
	if (code_init(c)) {
		tlb_free(c);
		return -ENOMEM;
	}
	if (!interpret_only())
		interp_translate(c); /* if there is no memory for it, all is interpreted */
	cpuid_changed(c);
	cpu_set_tsc_khz(c, v->vm->tsc_khz);
	cpu_reset(c);
	vcpu_set_tsc(v, 0);
	c->clock_offset = v->vm->clock_offset;
	c->pio.data = (u8 *)v->run + PAGE_SIZE;
	c->pio.data_size = PAGE_SIZE;
	v->mp_state = KVM_MP_STATE_RUNNABLE;
	v->asked = EXIT_NONE;
	/* kvm_run is in and out: what a client that never looks at it hands in must be what is. */
	v->run->cr8 = c->cr8;
	v->run->apic_base = c->msr.apic_base;
	return 0;
}

void vcpu_fini(struct vcpu *v)
{
	jit_free(&v->cpu);
	code_free(&v->cpu);
	tlb_free(&v->cpu);
}
