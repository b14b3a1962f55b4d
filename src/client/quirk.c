// SPDX-License-Identifier: MIT
/*
 * QEMU up to 7.2.22 (Debian 12's) with its own APIC, as with any KVM without one: apic_sipi() leaves the request
 * CPU_INTERRUPT_SIPI pending for ever ("i386/cpu: Prevent delivering SIPI during SMM in TCG mode" took its reset out of
 * the way that KVM goes). So once a started vCPU halts, "it has work", its thread spins in kvm_cpu_exec() with QEMU's
 * big lock held, and the machine is dead; and at the next INIT the vCPU would start where the last SIPI said.
 *
 * QEMU exports its functions, for its modules; so when a vCPU halts for the first time after a SIPI, which it has seen
 * then for sure, we take the request back as QEMU means to. In a QEMU without the bug this changes nothing.
 */
#include "client/preload.h"

#include <dlfcn.h>

#include "kvm/object.h"

#define CPU_INTERRUPT_SIPI 0x800 /* QEMU: CPU_INTERRUPT_TGT_INT_1 */

static __thread bool sipi __attribute__((tls_model("initial-exec"))); /* this thread's vCPU was started by one */

/*
 * What cpu_x86_load_seg_cache_sipi() makes: real mode at the start of a page below 1 MiB, the first included. A vCPU
 * after RESET is not. One that came there by itself loses nothing: no SIPI waits for a vCPU that runs.
 */
static bool looks_like_sipi(const struct kvm_sregs *s)
{
	return !(s->cr0 & 1) && s->cs.base == (u64)s->cs.selector << 4 && !(s->cs.base & 0xfff);
}

static void take_back(void)
{
	void (*cpu_reset_interrupt)(void *cpu, int mask) = dlsym(RTLD_DEFAULT, "cpu_reset_interrupt");
	void **current_cpu = dlsym(RTLD_DEFAULT, "current_cpu"); /* this thread's */

	if (cpu_reset_interrupt && current_cpu && *current_cpu)
		cpu_reset_interrupt(*current_cpu, CPU_INTERRUPT_SIPI); /* takes the big lock if need be */
}

static bool has_halted(int fd)
{
	struct obj *o;
	bool ret;

	if (obj_get(fd, &o))
		return false;
	ret = o->class == OBJ_VCPU && container_of(o, struct vcpu, obj)->run->exit_reason == KVM_EXIT_HLT;
	obj_put(o);
	return ret;
}

void quirk_after_ioctl(int fd, unsigned long request, unsigned long arg)
{
	switch (request) {
	case KVM_SET_SREGS:
	case KVM_SET_SREGS2: /* begins with the same fields */
		sipi |= looks_like_sipi((const struct kvm_sregs *)arg);
		break;
	case KVM_RUN:
		if (unlikely(sipi) && has_halted(fd)) {
			sipi = false;
			take_back();
		}
		break;
	}
}
