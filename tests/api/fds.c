// SPDX-License-Identifier: MIT
/* File descriptors: lifetime, dup, fork, threads, leaks. */
#include <dirent.h>
#include <pthread.h>
#include <sys/wait.h>

#include "api.h"

#define MIB (1ull << 20)

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static u64 count_maps(u64 *bytes)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512];
	u64 n = 0;

	for (*bytes = 0; fgets(line, sizeof(line), f); n++)
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			*bytes += to - from;
	fclose(f);
	return n;
}

static void machine_free(struct machine *m)
{
	munmap(m->run, m->run_size);
	munmap(m->mem, m->mem_size);
	close(m->vcpu);
	close(m->vm);
	close(m->kvm);
}

TEST_LIMIT(create_and_destroy_leaks_nothing, 120)
{
	u64 maps = 0, bytes = 0, maps_now, bytes_now;
	unsigned fds = 0;

	for (unsigned n = 0; n < 1010; n++) {
		struct machine m = machine_new(MIB);

		CODE(&m, 0x1000, 0xf4);
		start_real(&m, 0x1000);
		run_until(&m, KVM_EXIT_HLT);
		machine_free(&m);
		if (n == 9) {
			fds = count_fds();
			maps = count_maps(&bytes);
		}
	}
	CHECK_EQ(count_fds(), fds);
	maps_now = count_maps(&bytes_now);
	CHECK(maps_now <= maps + 2);
	CHECK(bytes_now <= bytes + 256 * 1024);
}

TEST(dup_is_the_same_object)
{
	struct machine m = machine_new(MIB);
	int fd = (int)OK(dup(m.vcpu)), vm2 = (int)OK(fcntl(m.vm, F_DUPFD_CLOEXEC, 100));
	struct kvm_regs r = { .rax = 77, .rflags = 2 };

	OK(ioctl(fd, KVM_SET_REGS, &r));
	CHECK_EQ(get_regs(&m).rax, 77);
	FAILS(ioctl(vm2, KVM_CREATE_VCPU, 0), EEXIST);
	close(m.vcpu);
	OK(ioctl(fd, KVM_GET_REGS, &r));
	CHECK_EQ(r.rax, 77);
	FAILS(ioctl(m.vcpu, KVM_GET_REGS, &r), EBADF);
}

TEST(closed_number_is_reused)
{
	struct machine m = machine_new(MIB);
	struct kvm_regs r;
	int fd = m.vcpu;

	OK(ioctl(fd, KVM_GET_REGS, &r));
	close(fd);
	CHECK_EQ(dup2(m.vm, fd), fd);
	FAILS(ioctl(fd, KVM_GET_REGS, &r), ENOTTY);
	CHECK(dup2(open("/dev/null", O_RDONLY), fd) == fd);
	CHECK_EQ(ioctl(fd, KVM_GET_REGS, &r), -1);
}

TEST(vcpu_outlives_vm_fd)
{
	struct machine m = machine_new(MIB);

	CODE(&m, 0x1000, 0xb0, 5, 0xf4);
	start_real(&m, 0x1000);
	close(m.vm);
	close(m.kvm);
	run_until(&m, KVM_EXIT_HLT);
	CHECK_EQ(get_regs(&m).rax, 5);
}

TEST(run_mapping_outlives_fd)
{
	struct machine m = machine_new(MIB);

	m.run->immediate_exit = 1;
	close(m.vcpu);
	close(m.vm);
	CHECK_EQ(m.run->immediate_exit, 1);
	m.run->immediate_exit = 0;
}

TEST(fork_gets_eio)
{
	struct machine m = machine_new(MIB);
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct kvm_regs r;

		if (ioctl(m.vcpu, KVM_GET_REGS, &r) != -1 || errno != EIO)
			_exit(1);
		if (ioctl(m.vm, KVM_CREATE_VCPU, 5) != -1 || errno != EIO)
			_exit(2);
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	CHECK_EQ(status, 0);
	get_regs(&m);
}

static void *get_from_thread(void *arg)
{
	struct machine *m = arg;

	return (void *)(uintptr_t)get_regs(m).rax;
}

TEST(other_threads_may_use_a_vcpu)
{
	struct machine m = machine_new(MIB);
	pthread_t t;
	void *ret;

	set_regs(&m, (struct kvm_regs){ .rax = 99, .rflags = 2 });
	pthread_create(&t, NULL, get_from_thread, &m);
	pthread_join(t, &ret);
	CHECK_EQ((uintptr_t)ret, 99);
}

TEST(several_vms)
{
	struct machine m[8];

	for (unsigned n = 0; n < 8; n++) {
		m[n] = machine_new(MIB);
		CODE(&m[n], 0x1000, 0xb0, 0, 0xf4);
		m[n].mem[0x1001] = (u8)n;
		start_real(&m[n], 0x1000);
	}
	for (unsigned n = 0; n < 8; n++) {
		run_until(&m[n], KVM_EXIT_HLT);
		CHECK_EQ(get_regs(&m[n]).rax, n);
	}
}

TEST(bad_pointers)
{
	struct machine m = machine_new(MIB);

	FAILS(ioctl(m.vcpu, KVM_GET_REGS, NULL), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_SET_REGS, (void *)8), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_GET_SREGS, (void *)-8l), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_SET_FPU, (void *)8), EFAULT);
}
