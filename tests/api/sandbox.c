// SPDX-License-Identifier: MIT
/*
 * A client whose vCPU threads may make few system calls (seccomp): in the kernel's KVM it takes ioctl() to run a guest.
 * Here the thread that runs it makes some more; ukvm(1) has the list, and this is the same.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "guest.h"

/* What ukvm(1) names, and what a thread needs to come to its end. */
static const int allowed[] = {
	SYS_ioctl, SYS_clock_gettime, SYS_fstat, SYS_futex, SYS_getpid, SYS_gettid, SYS_mmap, SYS_munmap,
	SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_tgsigqueueinfo, SYS_sched_yield,
	SYS_write,
	SYS_exit, SYS_exit_group, SYS_madvise,
};
#define NR_ALLOWED (sizeof(allowed) / sizeof(allowed[0]))

static void enter_sandbox(void)
{
	struct sock_filter f[NR_ALLOWED + 3] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog prog = { NR_ALLOWED + 3, f };

	for (unsigned n = 0; n < NR_ALLOWED; n++)
		f[n + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (u32)allowed[n],
							(u8)(NR_ALLOWED - n), 0);
	f[NR_ALLOWED + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[NR_ALLOWED + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static struct machine m;
static volatile int phase, handled;

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

/* out; load from a device; HLT; then for ever. */
GUEST(all_exits, 32,
      "out dx, al; mov eax, [0x1000000]; mov [0x2000], eax; hlt; 1: inc dword ptr [0x2000]; pause; jmp 1b");

static void *vcpu_thread(void *arg)
{
	struct kvm_regs r;

	enter_sandbox();
	run_until(&m, KVM_EXIT_IO);
	run_until(&m, KVM_EXIT_MMIO);
	run_until(&m, KVM_EXIT_HLT);
	r = get_regs(&m);
	set_regs(&m, r);
	phase = 1;
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(handled, 1);
	phase = 2;
	/* The memory goes away under the guest. */
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EFAULT);
	return arg;
}

static void wait_for(int value)
{
	struct timespec ms = { 0, 1000000 };

	while (phase != value)
		nanosleep(&ms, NULL);
	for (unsigned n = 0; n < 20; n++)
		nanosleep(&ms, NULL);
}

TEST(vcpu_thread_in_a_sandbox)
{
	struct sigaction sa = { .sa_handler = on_signal };
	pthread_t t;

	m = machine_new(MIB);
	LOAD(&m, 0x1000, all_exits);
	start_prot(&m, 0x1000);
	OK(sigaction(SIGUSR1, &sa, NULL));
	CHECK(!pthread_create(&t, NULL, vcpu_thread, NULL));
	wait_for(1);
	pthread_kill(t, SIGUSR1);
	wait_for(2);
	OK(munmap(m.mem, m.mem_size));
	CHECK(!pthread_join(t, NULL));
}

/* With the kicks of KVM_SET_SIGNAL_MASK, which are polled for. */
static void *masked_thread(void *arg)
{
	struct {
		struct kvm_signal_mask h;
		u8 set[8];
	} mask = { .h.len = 8 };
	sigset_t usr1;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	OK(ioctl(m.vcpu, KVM_SET_SIGNAL_MASK, &mask));
	enter_sandbox();
	phase = 1;
	FAILS(ioctl(m.vcpu, KVM_RUN, 0), EINTR);
	CHECK_EQ(handled, 0);
	return arg;
}

TEST(signal_mask_in_a_sandbox)
{
	struct sigaction sa = { .sa_handler = on_signal };
	pthread_t t;

	m = machine_new(MIB);
	CODE(&m, 0x1000, 0xeb, 0xfe);
	start_prot(&m, 0x1000);
	OK(sigaction(SIGUSR1, &sa, NULL));
	CHECK(!pthread_create(&t, NULL, masked_thread, NULL));
	wait_for(1);
	pthread_kill(t, SIGUSR1);
	CHECK(!pthread_join(t, NULL));
}
