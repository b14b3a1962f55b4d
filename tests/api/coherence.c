// SPDX-License-Identifier: MIT
/* Code that changes under the guest runs as its latest bytes, whoever wrote them. */
#include <pthread.h>
#include <signal.h>

#include "api.h"

#define MIB (1ull << 20)

TEST(client_writes_code_between_runs)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xb0, 0x00, 0xf4);
	start_real(&m, 0x1000);
	for (unsigned n = 0; n < 300; n++) {
		m.mem[0x1001] = (u8)n;
		set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2 });
		run_until(&m, KVM_EXIT_HLT);
		CHECK_EQ(get_regs(&m).rax & 0xff, n & 0xff);
	}
}

TEST(read_into_code)
{
	struct machine m = machine_new(MIB);
	int p[2];

	OK(pipe(p));
	CODE(&m, 0x1000, 0xb0, 0x00, 0xf4);
	start_real(&m, 0x1000);
	for (unsigned n = 0; n < 50; n++) {
		u8 b = (u8)(n * 3);

		CHECK_EQ(write(p[1], &b, 1), 1);
		CHECK_EQ(read(p[0], m.mem + 0x1001, 1), 1);
		set_regs(&m, (struct kvm_regs){ .rip = 0x1000, .rflags = 2 });
		run_until(&m, KVM_EXIT_HLT);
		CHECK_EQ(get_regs(&m).rax & 0xff, b);
	}
}

TEST(guest_modifies_the_next_instruction)
{
	struct machine m = machine_new(MIB);

	/* loop: mov byte [1f+1], cl; 1: mov al, 0; add bl, al; loop; hlt: sums 1..50 */
	CODE(&m, 0x1000, 0xb9, 50, 0,          /* mov cx, 50 */
	     0x88, 0x0e, 0x08, 0x10,           /* mov [0x1008], cl */
	     0xb0, 0x00,                       /* mov al, 0 */
	     0x98, 0x01, 0xc3,                 /* cbw; add bx, ax */
	     0xe2, 0xf5, 0xf4);                /* loop; hlt */
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rbx & 0xffff, 50 * 51 / 2);
}

TEST(guest_modifies_across_a_page)
{
	struct machine m = machine_new(MIB);

	/* mov eax, imm32 whose immediate lies in the next page */
	CODE(&m, 0x1ff8, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x66, 0xb8, 0x11, 0x11, 0x11, 0x11, 0xf4);
	start_real(&m, 0x1ff8);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax, 0x11111111);
	*(u32 *)(m.mem + 0x2000) = 0x22222222;
	set_regs(&m, (struct kvm_regs){ .rip = 0x1ff8, .rflags = 2 });
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax, 0x22222222);
}

/* Another thread writes code while the guest runs, and an interrupt follows: the new code must run. */
struct writer {
	struct machine *m;
	pthread_t vcpu_thread;
	volatile int go;
};

static void kick(int sig)
{
	(void)sig;
}

static void *write_code(void *arg)
{
	struct writer *w = arg;

	while (!w->go)
		;
	usleep(2000);
	w->m->mem[0x1000] = 0xf4; /* jmp . becomes hlt; ... */
	__sync_synchronize();
	pthread_kill(w->vcpu_thread, SIGUSR1);
	return NULL;
}

TEST(other_thread_writes_code)
{
	struct machine m = machine_new(MIB);
	struct writer w = { .m = &m, .vcpu_thread = pthread_self() };
	pthread_t t;
	struct sigaction sa = { .sa_handler = kick };

	sigaction(SIGUSR1, &sa, NULL);
	CODE(&m, 0x1000, 0xeb, 0xfe);
	start_real(&m, 0x1000);
	pthread_create(&t, NULL, write_code, &w);
	w.go = 1;
	while (ioctl(m.vcpu, KVM_RUN, 0) < 0)
		CHECK_EQ(errno, EINTR);
	CHECK_EQ(m.run->exit_reason, KVM_EXIT_HLT);
	pthread_join(t, NULL);
}
