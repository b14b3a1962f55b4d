/* SPDX-License-Identifier: MIT */
/*
 * The objects behind the file descriptors, and who may touch what:
 * - struct vm: fields marked [lock] are read and written under vm->lock.
 * - struct vcpu: everything under vcpu->lock, which every vCPU ioctl holds for its whole duration (KVM_RUN as well);
 *   other threads only set cpu.attn and wake the vCPU, see vm_rest().
 */
#ifndef UKVM_KVM_VM_H
#define UKVM_KVM_VM_H

#include <linux/kvm.h>

#include "cpu/cpu.h"
#include "mem/map.h"
#include "os/lock.h"

#define UKVM_MAX_VCPUS 288     /* KVM_CAP_MAX_VCPUS */
#define UKVM_MAX_VCPU_ID 4096  /* KVM_CAP_MAX_VCPU_ID */
#define UKVM_MAX_SLOTS 32764   /* KVM_CAP_NR_MEMSLOTS; the kernel's number for user slots */
#define UKVM_RUN_PAGES 3       /* kvm_run, PIO data, coalesced MMIO ring */

enum obj_class { OBJ_NONE, OBJ_SYSTEM, OBJ_VM, OBJ_VCPU, OBJ_DEVICE };

/* What every object has; found from an fd by the inode of its memfd (object.c). */
struct obj {
	enum obj_class class;
	bool closed;       /* [table] no fd and no mapping of it is left */
	int fd;            /* [table], a VM's also [lock]: our own file of the memfd; never given to the client */
	u64 dev, ino;
	struct obj *next;  /* in the process-wide table */
	struct obj *limbo; /* [table] taken out of it, and not freed yet */
	u32 refs;          /* ioctls under way, atomic */
};

struct vm_memory;   /* memory.c: slots, aliases, dirty logs */
struct vm_io;       /* iobus.c: ioeventfds, coalesced zones */

struct vcpu {
	struct obj obj;
	struct vm *vm;
	struct os_lock lock;
	struct kvm_run *run;      /* UKVM_RUN_PAGES pages of the vCPU's memfd */
	u32 mp_state;
	bool sigmask_set;
	u64 sigmask;              /* KVM_SET_SIGNAL_MASK: blocked while running */
	u32 running;              /* futex: not 0 while it uses cpu.map and vm->io; see vm_rest() */
	u64 thread;               /* of which thread that is: the value of %fs */
	u64 apic_base_told;       /* what kvm_run::apic_base was when the client last got to see it */
	bool ring_shared;         /* the client's mapping shows the VM's coalesced MMIO ring; iobus.c */
	struct kvm_guest_debug debug;
	bool pvclock_stopped;     /* KVM_KVMCLOCK_CTRL: tell the guest with the next update */
	bool has_run;             /* CPUID is fixed from here on */
	struct stats_record *stats; /* NULL: nobody asked (stats.h) */
	bool triple_fault;        /* KVM_SET_VCPU_EVENTS: shut down at the next KVM_RUN */
	u32 asked;                /* the exit that awaits an answer (enum exit_reason), EXIT_NONE if none does; run.c */
	u64 asked_pc;             /* linear address of the instruction that asked */
	u64 poll_signals;         /* pending ones of these end KVM_RUN; signal.c */
	struct {
		bool answered, error, write;
		u32 index;
		u64 data;
	} msr;                    /* the client's answer to an MSR exit, until the instruction has run again */
	struct cpu cpu;
};

struct vm {
	struct obj obj;
	struct os_lock lock;
	u32 number;                              /* of this process's VMs, for statistics */
	u32 nr_vcpus;                            /* [lock] */
	struct vcpu *vcpus[UKVM_MAX_VCPUS];      /* [lock] in order of creation; never removed while the VM lives */
	u32 resting;                             /* futex: not 0 while vm_rest() wants all vCPUs at rest */
	struct vm_memory *memory;                /* [lock] */
	struct vm_io *io;                        /* [lock], or by a vCPU between vcpu_enter() and vcpu_leave() */
	u32 boot_cpu_id;                         /* [lock] KVM_SET_BOOT_CPU_ID */
	u32 max_vcpu_id;                         /* [lock] KVM_CAP_MAX_VCPU_ID; 0: never set */
	u32 nr_mmu_pages;                        /* [lock] KVM_SET_NR_MMU_PAGES */
	u64 tss_addr, identity_map_addr;         /* [lock] */
	s64 clock_offset;                        /* [lock] KVM_GET/SET_CLOCK: ns to add to host_clock_ns() */
	u32 tsc_khz;                             /* default for new vCPUs */
	struct {
		bool known;
		u64 offset;
		u32 khz;
	} tsc; /* [lock] the last TSC that was set; others are kept in step, clock.c */
	u64 caps;                                /* atomic: KVM_ENABLE_CAP bits, CAP_EN_*; see vm_cap() */
	u32 msr_exits;                           /* atomic: KVM_CAP_X86_USER_SPACE_MSR: KVM_MSR_EXIT_REASON_* */
	struct msr_filter *msr_filter;           /* [lock] replaced only while all vCPUs rest; msr_filter.c */
};

/*
 * Stops every vCPU that runs at an instruction boundary, calls fn(vm, arg) once while all of them rest, and lets them
 * go on. fn may replace cpu.map and flush TLBs of any vCPU. Microseconds; vm->lock is held by the caller, who must
 * not hold a vcpu->lock. (rest.c)
 */
void vm_rest(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg);
/* The vCPU's side: around every use of cpu.map (KVM_RUN, KVM_TRANSLATE, ...). */
void vcpu_enter(struct vcpu *v);
void vcpu_leave(struct vcpu *v);

#endif
