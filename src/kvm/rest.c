// SPDX-License-Identifier: MIT
/*
 * Stopping the world, for microseconds. A vCPU announces itself in vcpu::running and then looks at vm::resting; the VM
 * sets vm::resting and then looks at every vcpu::running. All four are sequentially consistent, so at least one of the
 * two sees the other.
 */
#include "kvm/rest.h"

#include "kvm/iobus.h"

#define SPINS 1000 /* a block takes less; a vCPU whose thread does not run at the moment takes longer */

static u64 this_thread(void)
{
	u64 tp;

	__asm__("mov %%fs:0, %0" : "=r"(tp));
	return tp;
}

static u32 load(const u32 *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(u32 *word, u32 val)
{
	__atomic_store_n(word, val, __ATOMIC_SEQ_CST);
}

void vcpu_enter(struct vcpu *v)
{
	struct vm *vm = v->vm;

	v->thread = this_thread();
	for (;;) {
		store(&v->running, 1);
		if (likely(!load(&vm->resting)))
			break;
		store(&v->running, 0);
		os_futex_wake(&v->running);
		os_futex_wait(&vm->resting, 1, 0);
	}
	if (unlikely(!v->ring_shared))
		vcpu_share_ring(v);
}

void vcpu_leave(struct vcpu *v)
{
	store(&v->running, 0);
	if (unlikely(load(&v->vm->resting)))
		os_futex_wake(&v->running);
}

void vcpu_request(void *ctx)
{
	struct vcpu *v = ctx;

	cpu_attn_clear(&v->cpu, ATTN_REQUEST);
	vcpu_leave(v);
	vcpu_enter(v);
}

static void wait_for(struct vcpu *v)
{
	for (unsigned n = 0; n < SPINS && load(&v->running); n++)
		__builtin_ia32_pause();
	while (load(&v->running))
		os_futex_wait(&v->running, 1, 0);
}

/*
 * A signal handler of the client's that runs in the middle of KVM_RUN (see signal.h: hardly ever) may make VM ioctls.
 * The vCPU below it on this very stack will not touch the VM before the handler returns, so it is at rest; what it may
 * still hold in registers is why memory.c keeps the last map for a while.
 */
static bool must_wait(const struct vcpu *v)
{
	return load(&v->running) && v->thread != this_thread();
}

void vm_rest(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
	store(&vm->resting, 1);
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		if (load(&vm->vcpus[n]->running))
			cpu_attn(&vm->vcpus[n]->cpu, ATTN_REQUEST);
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		if (must_wait(vm->vcpus[n]))
			wait_for(vm->vcpus[n]);
	fn(vm, arg);
	store(&vm->resting, 0);
	os_futex_wake(&vm->resting);
}
