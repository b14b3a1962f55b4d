// SPDX-License-Identifier: MIT
/* x87, SSE and extended state in the client's formats. */
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/fpu.h"
#include "kvm/vcpu.h"
#include "mem/mem.h"

/* struct kvm_fpu has the fields of an FXSAVE area in another order; TOP-relative registers, abridged tags. */
int vcpu_get_fpu(struct vcpu *v, void *arg)
{
	struct kvm_fpu *k = arg;
	struct fpu *f = &v->cpu.fpu;
	u8 area[FXSAVE_SIZE] = { 0 };

	fpu_to_fxsave(f, area);
	memset(k, 0, sizeof(*k));
	for (int n = 0; n < 8; n++)
		memcpy(k->fpr[n], area + 32 + 16 * n, 16);
	k->fcw = f->fcw;
	k->fsw = f->fsw;
	k->ftwx = area[4];
	k->last_opcode = f->fop;
	k->last_ip = f->fip;
	k->last_dp = f->fdp;
	memcpy(k->xmm, area + 160, sizeof(k->xmm));
	k->mxcsr = f->mxcsr;
	return 0;
}

int vcpu_set_fpu(struct vcpu *v, void *arg)
{
	const struct kvm_fpu *k = arg;
	struct fpu *f = &v->cpu.fpu;
	u8 area[FXSAVE_SIZE] = { 0 };
	u32 mxcsr;

	memcpy(area, &k->fcw, 2);
	memcpy(area + 2, &k->fsw, 2);
	area[4] = k->ftwx;
	memcpy(area + 6, &k->last_opcode, 2);
	memcpy(area + 8, &k->last_ip, 8);
	memcpy(area + 16, &k->last_dp, 8);
	/*
	 * The kernel ignores this field, and clients leave it 0, which would unmask every SIMD exception. So 0 keeps
	 * MXCSR as it is, and any other value is taken as the specification has it.
	 */
	mxcsr = k->mxcsr ? k->mxcsr & MXCSR_MASK : f->mxcsr;
	memcpy(area + 24, &mxcsr, 4);
	for (int n = 0; n < 8; n++)
		memcpy(area + 32 + 16 * n, k->fpr[n], 16);
	memcpy(area + 160, k->xmm, sizeof(k->xmm));
	fpu_from_fxsave(f, area);
	return 0;
}

int vcpu_get_xsave(struct vcpu *v, void *arg)
{
	memset(arg, 0, XSAVE_MAX);
	fpu_to_xsave(&v->cpu.fpu, arg, XSAVE_MAX);
	return 0;
}

/* The same area: nothing here is larger (no AMX). KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2) says so. */
int vcpu_get_xsave2(struct vcpu *v, void *arg)
{
	return vcpu_get_xsave(v, arg);
}

int vcpu_set_xsave(struct vcpu *v, void *arg)
{
	struct cpu *c = &v->cpu;
	u32 pkru = c->fpu.pkru;
	int ret = fpu_from_xsave(&c->fpu, arg, XSAVE_MAX, cpuid_supported_xcr0() | XC_SSE);

	if (c->fpu.pkru != pkru)
		tlb_flush(c); /* what the soft TLB has is what the keys allowed */
	return ret;
}

int vcpu_get_xcrs(struct vcpu *v, void *arg)
{
	struct kvm_xcrs *k = arg;

	memset(k, 0, sizeof(*k));
	k->nr_xcrs = 1;
	k->xcrs[0].xcr = 0;
	k->xcrs[0].value = v->cpu.fpu.xcr0;
	return 0;
}

int vcpu_set_xcrs(struct vcpu *v, void *arg)
{
	const struct kvm_xcrs *k = arg;

	if (k->nr_xcrs > KVM_MAX_XCRS || k->flags)
		return -EINVAL;
	for (u32 n = 0; n < k->nr_xcrs; n++)
		if (k->xcrs[n].xcr == 0)
			return cpu_write_xcr0(&v->cpu, k->xcrs[n].value);
	return 0;
}
