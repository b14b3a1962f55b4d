/* SPDX-License-Identifier: MIT */
/*
 * The part of the KVM ABI of Linux 2.6.22 that <linux/kvm.h> has lost since: ioctls that newer kernels refuse, and
 * that ukvm serves. Headers of Linux up to 6.2 still name them; then this adds nothing. See docs/api.md.
 */
#ifndef UKVM_ABI_H
#define UKVM_ABI_H

#include <linux/kvm.h>

#ifndef KVM_SET_MEMORY_REGION
/* A slot whose memory the VM owns: mmap() of the VM fd reaches it at offset guest_phys_addr. */
struct kvm_memory_region {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size; /* bytes; 0 removes the slot */
};
#define KVM_SET_MEMORY_REGION _IOW(KVMIO, 0x40, struct kvm_memory_region)
#endif

#ifndef KVM_SET_MEMORY_ALIAS
/* Guest physical [guest_phys_addr, +memory_size) shows what is at target_phys_addr. */
struct kvm_memory_alias {
	__u32 slot; /* 0 to 3; not the number of a memory slot */
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size; /* bytes; 0 removes the alias */
	__u64 target_phys_addr;
};
#define KVM_SET_MEMORY_ALIAS _IOW(KVMIO, 0x43, struct kvm_memory_alias)
#endif

#ifndef KVM_TRACE_ENABLE
struct kvm_user_trace_setup {
	__u32 buf_size;
	__u32 buf_nr;
};
#define KVM_TRACE_ENABLE _IOW(KVMIO, 0x06, struct kvm_user_trace_setup)
#define KVM_TRACE_PAUSE _IO(KVMIO, 0x07)
#define KVM_TRACE_DISABLE _IO(KVMIO, 0x08)
#endif

#ifndef KVM_GET_NR_MMU_PAGES
#define KVM_GET_NR_MMU_PAGES _IO(KVMIO, 0x45)
#endif

#ifndef KVM_DEBUG_GUEST
struct kvm_debug_guest {
	__u32 enabled;
	__u32 pad;
	struct {
		__u32 enabled;
		__u32 pad;
		__u64 address;
	} breakpoints[4];
	__u32 singlestep;
};
#define KVM_DEBUG_GUEST _IOW(KVMIO, 0x87, struct kvm_debug_guest)
#endif

#endif
