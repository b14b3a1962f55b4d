// SPDX-License-Identifier: MIT
/* Segments, descriptor tables, control registers, EFER, APIC base. */
#include <string.h>

#include "cpu/cr.h"
#include "interp/debug.h"
#include "kvm/vcpu.h"

/* KVM_SET_SREGS has the same fields as KVM_SET_SREGS2 up to where one has interrupts and the other PDPTEs. */
_Static_assert(offsetof(struct kvm_sregs, apic_base) == offsetof(struct kvm_sregs2, apic_base), "kvm_sregs2 layout");

#define CODE_ACCESSED 1u

static struct kvm_segment seg_to_kvm(const struct seg *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->attr & ATTR_TYPE,
		.s = !!(s->attr & ATTR_S),
		.dpl = (s->attr >> ATTR_DPL_SHIFT) & 3,
		/* Every usable segment is present, and clients take "not present" for "unusable". */
		.present = !(s->attr & ATTR_UNUSABLE),
		.avl = !!(s->attr & ATTR_AVL),
		.l = !!(s->attr & ATTR_L),
		.db = !!(s->attr & ATTR_DB),
		.g = !!(s->attr & ATTR_G),
		.unusable = !!(s->attr & ATTR_UNUSABLE),
	};
}

static struct seg seg_from_kvm(const struct kvm_segment *k)
{
	struct seg s = { .base = k->base, .limit = k->limit, .sel = k->selector };

	s.attr = (k->type & ATTR_TYPE) | (k->dpl & 3u) << ATTR_DPL_SHIFT;
	s.attr |= k->s & 1 ? ATTR_S : 0;
	s.attr |= k->avl & 1 ? ATTR_AVL : 0;
	s.attr |= k->l & 1 ? ATTR_L : 0;
	s.attr |= k->db & 1 ? ATTR_DB : 0;
	s.attr |= k->g & 1 ? ATTR_G : 0;
	s.attr |= k->unusable || !(k->present & 1) ? ATTR_UNUSABLE : ATTR_P;
	/* A loaded segment is an accessed one; old clients reset it to 0, and the kernel corrects them too. */
	if ((s.attr & (ATTR_P | ATTR_S)) == (ATTR_P | ATTR_S))
		s.attr |= CODE_ACCESSED;
	return s;
}

static struct kvm_dtable table_to_kvm(const struct dtable *t)
{
	return (struct kvm_dtable){ .base = t->base, .limit = t->limit };
}

static void get_common(const struct vcpu *v, struct kvm_sregs2 *k)
{
	struct cpu_sregs s;

	cpu_get_sregs(&v->cpu, &s);
	k->cs = seg_to_kvm(&s.seg[SEG_CS]);
	k->ds = seg_to_kvm(&s.seg[SEG_DS]);
	k->es = seg_to_kvm(&s.seg[SEG_ES]);
	k->fs = seg_to_kvm(&s.seg[SEG_FS]);
	k->gs = seg_to_kvm(&s.seg[SEG_GS]);
	k->ss = seg_to_kvm(&s.seg[SEG_SS]);
	k->tr = seg_to_kvm(&s.seg[SEG_TR]);
	k->ldt = seg_to_kvm(&s.seg[SEG_LDTR]);
	k->gdt = table_to_kvm(&s.gdt);
	k->idt = table_to_kvm(&s.idt);
	k->cr0 = s.cr0;
	k->cr2 = s.cr2;
	k->cr3 = s.cr3;
	k->cr4 = s.cr4;
	k->cr8 = s.cr8;
	k->efer = s.efer;
	k->apic_base = s.apic_base;
}

int vcpu_get_sregs(struct vcpu *v, void *arg)
{
	struct kvm_sregs *k = arg;
	const struct events *e = &v->cpu.ev;
	struct kvm_sregs2 common;

	get_common(v, &common);
	memset(k, 0, sizeof(*k));
	memcpy(k, &common, offsetof(struct kvm_sregs, interrupt_bitmap));
	if (e->intr.injected && !e->intr.soft)
		k->interrupt_bitmap[e->intr.vector / 64] = BIT64(e->intr.vector % 64);
	return 0;
}

int vcpu_get_sregs2(struct vcpu *v, void *arg)
{
	struct kvm_sregs2 *k = arg;

	memset(k, 0, sizeof(*k));
	get_common(v, k);
	if (v->cpu.paging == PAGING_PAE) {
		memcpy(k->pdptrs, v->cpu.pdptr, sizeof(k->pdptrs));
		k->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return 0;
}

/* k: the fields that both structures have. */
static void from_common(const struct kvm_sregs2 *k, struct cpu_sregs *s)
{
	*s = (struct cpu_sregs){
		.seg = {
			[SEG_ES] = seg_from_kvm(&k->es),
			[SEG_CS] = seg_from_kvm(&k->cs),
			[SEG_SS] = seg_from_kvm(&k->ss),
			[SEG_DS] = seg_from_kvm(&k->ds),
			[SEG_FS] = seg_from_kvm(&k->fs),
			[SEG_GS] = seg_from_kvm(&k->gs),
			[SEG_LDTR] = seg_from_kvm(&k->ldt),
			[SEG_TR] = seg_from_kvm(&k->tr),
		},
		.gdt = { k->gdt.base, k->gdt.limit },
		.idt = { k->idt.base, k->idt.limit },
		.cr0 = k->cr0,
		.cr2 = k->cr2,
		.cr3 = k->cr3,
		.cr4 = k->cr4,
		.cr8 = k->cr8,
		.efer = k->efer,
		.apic_base = k->apic_base,
	};
}

/* With guest memory accessible: PDPTEs are read from it. */
static int set(struct vcpu *v, void *arg)
{
	const struct cpu_sregs *s = arg;

	cpu_set_sregs(&v->cpu, s);
	return 0;
}

static int set_checked(struct vcpu *v, struct cpu_sregs *s)
{
	bool pae = (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA);
	int err = 0;

	if (!cpu_sregs_valid(&v->cpu, s))
		return -EINVAL;
	if (pae && !s->has_pdptrs)
		err = vcpu_with_memory(v, set, s);
	else
		set(v, s);
	if (err)
		return err;
	debug_update(&v->cpu);
	cpu_events_changed(&v->cpu);
	return 0;
}

int vcpu_set_sregs(struct vcpu *v, void *arg)
{
	const struct kvm_sregs *k = arg;
	struct events *e = &v->cpu.ev;
	struct kvm_sregs2 common;
	struct cpu_sregs s;
	int err;

	memcpy(&common, k, offsetof(struct kvm_sregs, interrupt_bitmap));
	from_common(&common, &s);
	err = set_checked(v, &s);
	if (err)
		return err;
	for (unsigned n = 0; n < ARRAY_SIZE(k->interrupt_bitmap); n++) {
		if (!k->interrupt_bitmap[n])
			continue;
		e->intr.injected = true;
		e->intr.soft = false;
		e->intr.vector = (u8)(64 * n + (unsigned)__builtin_ctzll(k->interrupt_bitmap[n]));
		break;
	}
	return 0;
}

int vcpu_set_sregs2(struct vcpu *v, void *arg)
{
	const struct kvm_sregs2 *k = arg;
	struct cpu_sregs s;

	if (k->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	from_common(k, &s);
	if (k->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
		if (!(s.cr0 & CR0_PG) || !(s.cr4 & CR4_PAE) || (s.efer & EFER_LMA))
			return -EINVAL;
		s.has_pdptrs = true;
		memcpy(s.pdptr, k->pdptrs, sizeof(s.pdptr));
	}
	return set_checked(v, &s);
}
