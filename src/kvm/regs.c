// SPDX-License-Identifier: MIT
/* General registers; KVM_TRANSLATE. */
#include "kvm/vcpu.h"
#include "mem/mem.h"

u64 vcpu_linear_pc(const struct vcpu *v)
{
	const struct cpu *c = &v->cpu;

	return ((c->mode == CPU_LONG ? 0 : c->seg[SEG_CS].base) + c->gpr[R_RIP]) & c->lin_mask;
}

int vcpu_get_regs(struct vcpu *v, void *arg)
{
	const u64 *r = v->cpu.gpr;
	struct kvm_regs *k = arg;

	*k = (struct kvm_regs){
		.rax = r[RAX], .rbx = r[RBX], .rcx = r[RCX], .rdx = r[RDX],
		.rsi = r[RSI], .rdi = r[RDI], .rsp = r[RSP], .rbp = r[RBP],
		.r8 = r[R8], .r9 = r[R9], .r10 = r[R10], .r11 = r[R11],
		.r12 = r[R12], .r13 = r[R13], .r14 = r[R14], .r15 = r[R15],
		.rip = r[R_RIP], .rflags = cpu_rflags(&v->cpu),
	};
	return 0;
}

int vcpu_set_regs(struct vcpu *v, void *arg)
{
	const struct kvm_regs *k = arg;
	u64 *r = v->cpu.gpr;

	r[RAX] = k->rax;
	r[RBX] = k->rbx;
	r[RCX] = k->rcx;
	r[RDX] = k->rdx;
	r[RSI] = k->rsi;
	r[RDI] = k->rdi;
	r[RSP] = k->rsp;
	r[RBP] = k->rbp;
	r[R8] = k->r8;
	r[R9] = k->r9;
	r[R10] = k->r10;
	r[R11] = k->r11;
	r[R12] = k->r12;
	r[R13] = k->r13;
	r[R14] = k->r14;
	r[R15] = k->r15;
	r[R_RIP] = k->rip;
	cpu_set_rflags(&v->cpu, (k->rflags & FL_VALID) | FL_1);
	/* As in the kernel: an exception that was raised at the old RIP is not delivered at the new one. */
	v->cpu.ev.exc.pending = false;
	cpu_events_changed(&v->cpu);
	return 0;
}

static int translate(struct vcpu *v, void *arg)
{
	struct kvm_translation *t = arg;
	struct fault fault = v->cpu.fault; /* a question of the client leaves no trace */
	struct walk w;

	if (cpu_walk(&v->cpu, t->linear_address, 0, WALK_NO_CHECK, &w) == ST_OK) {
		t->valid = 1;
		t->physical_address = w.gpa;
	}
	v->cpu.fault = fault;
	return 0;
}

/*
 * The kernel answers 1 and 0 for writeable and usermode, whatever the page tables say, and clients know that. Page
 * tables in memory that the client has taken away are as good as none.
 */
int vcpu_translate(struct vcpu *v, void *arg)
{
	struct kvm_translation *t = arg;

	t->valid = 0;
	t->physical_address = ~0ull;
	t->writeable = 1;
	t->usermode = 0;
	(void)vcpu_with_memory(v, translate, t);
	return 0;
}
