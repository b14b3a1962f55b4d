// SPDX-License-Identifier: MIT
/* MSRs, CPUID, time stamps, segment bases, hypercalls. */
#include <errno.h>

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/msr.h"
#include "cpu/pvclock.h"
#include "cpu/tsc.h"
#include "interp/impl.h"
#include "mem/code.h"

#define CPUID_FAULTING 1 /* MISC_FEATURES_ENABLES */

/* Documentation/virt/kvm/x86/hypercalls.rst */
#define KVM_HC_VAPIC_POLL_IRQ 1
#define KVM_HC_MAP_GPA_RANGE 12
#define KVM_ENOSYS 1000
#define KVM_EPERM EPERM
#define KVM_EINVAL EINVAL

static void set_edx_eax(struct cpu *c, u64 v)
{
	c->gpr[RAX] = (u32)v;
	c->gpr[RDX] = v >> 32;
}

static u64 get_edx_eax(const struct cpu *c)
{
	return (u32)c->gpr[RAX] | c->gpr[RDX] << 32;
}

/* ---- MSRs ---- */

static u32 refusal(int err)
{
	return err == -EPERM ? MSR_FILTERED : err == -ENOENT ? MSR_UNKNOWN : MSR_INVALID;
}

/* The last word is the client's, if it wants it; else it is #GP. */
static int refused(struct cpu *c, u32 index, u64 *data, bool write, int err)
{
	int st;

	if (c->host && c->host->msr) {
		c->exit.msr.index = index;
		c->exit.msr.data = write ? *data : 0;
		c->exit.msr.why = refusal(err);
		st = c->host->msr(c->host_ctx, index, data, write);
		if (st >= 0)
			return st;
	}
	return fault_gp(c, 0);
}

static bool filtered(struct cpu *c, u32 index, bool write)
{
	return c->host && c->host->msr_allowed && !c->host->msr_allowed(c->host_ctx, index, write);
}

HANDLER(do_rdmsr)
{
	u32 index = (u32)c->gpr[RCX];
	u64 v = 0;
	int err, st;

	(void)i;
	if (c->cpl)
		return fault_gp(c, 0);
	err = filtered(c, index, false) ? -EPERM : cpu_msr_read(c, index, &v, false);
	if (unlikely(err)) {
		st = refused(c, index, &v, false, err);
		if (st)
			return st;
	}
	set_edx_eax(c, v);
	return ST_OK;
}
IMPL_ANY(rdmsr, do_rdmsr);

HANDLER(do_wrmsr)
{
	u32 index = (u32)c->gpr[RCX];
	u64 v = get_edx_eax(c);
	int err, st;

	(void)i;
	if (c->cpl)
		return fault_gp(c, 0);
	err = filtered(c, index, true) ? -EPERM : cpu_msr_write(c, index, v, false);
	if (unlikely(err)) {
		st = refused(c, index, &v, true, err);
		if (st)
			return st;
	}
	if (c->clock_due)
		pvclock_update(c, false);
	code_serialize(c);
	return ST_END;
}
IMPL_ANY(wrmsr, do_wrmsr);

/* ---- CPUID ---- */

HANDLER(do_cpuid)
{
	u32 r[4];

	(void)i;
	if (c->cpl && (c->msr.misc_features & CPUID_FAULTING))
		return fault_gp(c, 0);
	cpuid_query(c, (u32)c->gpr[RAX], (u32)c->gpr[RCX], r);
	c->gpr[RAX] = r[CPUID_EAX];
	c->gpr[RBX] = r[CPUID_EBX];
	c->gpr[RCX] = r[CPUID_ECX];
	c->gpr[RDX] = r[CPUID_EDX];
	code_serialize(c);
	return ST_END;
}
IMPL_ANY(cpuid, do_cpuid);

/* ---- counters ---- */

static bool tsc_forbidden(const struct cpu *c)
{
	return c->cpl && (c->cr4 & CR4_TSD);
}

HANDLER(do_rdtsc)
{
	(void)i;
	if (tsc_forbidden(c))
		return fault_gp(c, 0);
	set_edx_eax(c, cpu_tsc_read(c));
	return ST_OK;
}
IMPL_ANY(rdtsc, do_rdtsc);

HANDLER(do_rdtscp)
{
	(void)i;
	if (!cpu_has(c, FEAT_RDTSCP))
		return fault_ud(c);
	if (tsc_forbidden(c))
		return fault_gp(c, 0);
	set_edx_eax(c, cpu_tsc_read(c));
	c->gpr[RCX] = (u32)c->msr.tsc_aux;
	return ST_OK;
}
IMPL_ANY(rdtscp, do_rdtscp);

HANDLER(do_rdpid)
{
	if (!cpu_has(c, FEAT_RDPID))
		return fault_ud(c);
	reg_write(c, i->dst, i->size, (u32)c->msr.tsc_aux);
	return ST_OK;
}
IMPL_ANY(rdpid, do_rdpid);

/* There are no performance counters: no index is valid, at any privilege. */
HANDLER(do_rdpmc)
{
	(void)i;
	return fault_gp(c, 0);
}
IMPL_ANY(rdpmc, do_rdpmc);

/* ---- segment bases ---- */

HANDLER(do_swapgs)
{
	u64 base = c->seg[SEG_GS].base;

	(void)i;
	if (c->cpl)
		return fault_gp(c, 0);
	c->seg[SEG_GS].base = c->msr.kernel_gs_base;
	c->msr.kernel_gs_base = base;
	return ST_OK;
}
IMPL_ANY(swapgs, do_swapgs);

static int read_base(struct cpu *c, const struct insn *i, unsigned seg)
{
	if (!(c->cr4 & CR4_FSGSBASE))
		return fault_ud(c);
	reg_write(c, i->dst, i->size, c->seg[seg].base);
	return ST_OK;
}

static int write_base(struct cpu *c, const struct insn *i, unsigned seg)
{
	u64 base = reg_read(c, i->dst, i->size);

	if (!(c->cr4 & CR4_FSGSBASE))
		return fault_ud(c);
	if (!is_canonical(base))
		return fault_gp(c, 0);
	c->seg[seg].base = base;
	return ST_OK;
}

#define BASE_INSN(name, body, seg)										       \
	HANDLER(do_##name)											       \
	{													       \
		return body(c, i, seg);										       \
	}													       \
	IMPL_ANY(name, do_##name)

BASE_INSN(rdfsbase, read_base, SEG_FS);
BASE_INSN(rdgsbase, read_base, SEG_GS);
BASE_INSN(wrfsbase, write_base, SEG_FS);
BASE_INSN(wrgsbase, write_base, SEG_GS);

/* ---- hypercalls ---- */

static int map_gpa_range(struct cpu *c, u64 gpa, u64 pages, u64 attrs, s64 *ret)
{
	*ret = -KVM_ENOSYS;
	if (!c->hypercall_exits)
		return ST_OK;
	*ret = -KVM_EINVAL;
	if ((gpa & ~PAGE_MASK) || !pages || (gpa >> PAGE_SHIFT) + pages <= gpa >> PAGE_SHIFT)
		return ST_OK;
	c->exit = (struct exit){ .reason = EXIT_HYPERCALL };
	c->exit.hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	c->exit.hypercall.args[0] = gpa;
	c->exit.hypercall.args[1] = pages;
	c->exit.hypercall.args[2] = attrs;
	c->exit.hypercall.longmode = c->mode == CPU_LONG;
	return ST_EXIT_DONE; /* the client gives the result */
}

/* VMCALL and VMMCALL: KVM's paravirtual calls. What CPUID does not report answers that it does not exist. */
HANDLER(do_vmcall)
{
	u64 mask = c->mode == CPU_LONG ? ~0ull : 0xffffffff;
	s64 ret = -KVM_ENOSYS;
	int st = ST_OK;

	(void)i;
	if (c->cpl)
		ret = -KVM_EPERM;
	else if ((c->gpr[RAX] & mask) == KVM_HC_VAPIC_POLL_IRQ)
		ret = 0;
	else if ((c->gpr[RAX] & mask) == KVM_HC_MAP_GPA_RANGE)
		st = map_gpa_range(c, c->gpr[RBX] & mask, c->gpr[RCX] & mask, c->gpr[RDX] & mask, &ret);
	if (st == ST_OK)
		c->gpr[RAX] = (u64)ret & mask;
	return st;
}
IMPL_ANY(vmcall, do_vmcall);
IMPL_ANY(vmmcall, do_vmcall);
