// SPDX-License-Identifier: MIT
/*
 * Stopping the world, for microseconds. A vCPU announces itself in vcpu::running and then looks at vm::resting; the VM
 * sets vm::resting and then looks at every vcpu::running. All four are sequentially consistent, so at least one of the
 * two sees the other. Both words become ASLEEP when somebody waits for them in the kernel.
 */
#include "kvm/rest.h"

#include "kvm/iobus.h"

#define SPINS 500 /* about what a block takes, or what is done at rest */

enum { OUT, IN, ASLEEP };

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

static void set_in(u32 *word)
{
	__atomic_store_n(word, IN, __ATOMIC_SEQ_CST);
}

static void set_out(u32 *word)
{
	if (unlikely(__atomic_exchange_n(word, OUT, __ATOMIC_SEQ_CST) == ASLEEP))
		os_futex_wake(word);
}

static void wait_out(u32 *word)
{
	u32 in = IN;

	for (unsigned n = 0; n < SPINS; n++) {
		if (load(word) == OUT)
			return;
		__builtin_ia32_pause();
	}
	while (__atomic_compare_exchange_n(word, &in, ASLEEP, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ||
	       in == ASLEEP) {
		os_futex_wait(word, ASLEEP, 0);
		in = IN;
	}
}

void vcpu_enter(struct vcpu *v)
{
	struct vm *vm = v->vm;

	__atomic_store_n(&v->thread, this_thread(), __ATOMIC_RELAXED);
	for (;;) {
		set_in(&v->running);
		if (likely(load(&vm->resting) == OUT))
			break;
		set_out(&v->running);
		wait_out(&vm->resting);
	}
	if (unlikely(!v->ring_shared))
		vcpu_share_ring(v);
}

void vcpu_leave(struct vcpu *v)
{
	set_out(&v->running);
}

void vcpu_request(void *ctx)
{
	struct vcpu *v = ctx;

	cpu_attn_clear(&v->cpu, ATTN_REQUEST);
	vcpu_leave(v);
	vcpu_enter(v);
}

/*
 * A signal handler of the client's that runs in the middle of KVM_RUN (see signal.h: hardly ever) may make VM ioctls.
 * The vCPU below it on this very stack will not touch the VM before the handler returns, so it is at rest; what it may
 * still hold in registers is why memory.c keeps the last map for a while.
 */
static bool must_wait(const struct vcpu *v)
{
	return load(&v->running) && __atomic_load_n(&v->thread, __ATOMIC_RELAXED) != this_thread();
}

void vm_rest(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
	set_in(&vm->resting);
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		if (load(&vm->vcpus[n]->running))
			cpu_attn(&vm->vcpus[n]->cpu, ATTN_REQUEST);
	for (u32 n = 0; n < vm->nr_vcpus; n++)
		if (must_wait(vm->vcpus[n]))
			wait_out(&vm->vcpus[n]->running);
	fn(vm, arg);
	set_out(&vm->resting);
}
