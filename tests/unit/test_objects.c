// SPDX-License-Identifier: MIT
/* Descriptors, their objects, their lifetime, and the ioctl table; through the embedding API. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <ukvm/ukvm.h>

#include "kvm/caps.h"
#include "kvm/ioctl.h"
#include "kvm/object.h"
#include "kvm/version.h"
#include "os/guard.h"

#define RUN_SIZE (UKVM_RUN_PAGES * PAGE_SIZE)
#define BAD_POINTER 8ul

#define assert_errno(call, err)                                                                                        \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		assert_int_equal(call, -1);                                                                            \
		assert_int_equal(errno, err);                                                                          \
	} while (0)

struct vm_fds {
	int sys, vm, vcpu;
};

static struct vm_fds make_vm(void)
{
	struct vm_fds f;

	f.sys = ukvm_open();
	assert_true(f.sys >= 0);
	f.vm = ukvm_ioctl(f.sys, KVM_CREATE_VM, 0);
	assert_true(f.vm >= 0);
	f.vcpu = ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 0);
	assert_true(f.vcpu >= 0);
	return f;
}

static void drop_vm(struct vm_fds f)
{
	ukvm_close(f.vcpu);
	ukvm_close(f.vm);
	ukvm_close(f.sys);
}

/* What the process has of something: entries of a directory, lines of a file. */
static int count_dir(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int count_fds(void)
{
	return count_dir("/proc/self/fd");
}

static int count_maps(const char *what)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	while (fgets(line, sizeof(line), f))
		n += strstr(line, what) != NULL;
	fclose(f);
	return n;
}

/* Pages of address space. */
static long address_space(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages = 0;

	assert_int_equal(fscanf(f, "%ld", &pages), 1);
	fclose(f);
	return pages;
}

/* ---- the table ---- */

static void test_system(void **state)
{
	int fd = ukvm_open();

	(void)state;
	assert_int_equal(ukvm_ioctl(fd, KVM_GET_API_VERSION, 0), 12);
	assert_errno(ukvm_ioctl(fd, KVM_GET_API_VERSION, 1), EINVAL);
	assert_int_equal(ukvm_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0), RUN_SIZE);
	assert_errno(ukvm_ioctl(fd, KVM_CREATE_VM, 1), EINVAL);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ukvm_close(fd);
	fd = kvm_open(O_RDWR);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	ukvm_close(fd);
	assert_string_equal(ukvm_version(), UKVM_VERSION);
}

static void test_wrong_fd(void **state)
{
	struct vm_fds f = make_vm();
	int null = open("/dev/null", O_RDONLY), other = memfd_create("other", 0);

	(void)state;
	assert_errno(ukvm_ioctl(-1, KVM_RUN, 0), EBADF);
	assert_errno(ukvm_ioctl(999, KVM_RUN, 0), EBADF);
	assert_errno(ukvm_ioctl(null, KVM_RUN, 0), ENOTTY);
	assert_errno(ukvm_ioctl(other, KVM_RUN, 0), ENOTTY);
	/* Of the wrong class, or unknown: as the kernel has it for each. */
	assert_errno(ukvm_ioctl(f.sys, KVM_RUN, 0), EINVAL);
	assert_errno(ukvm_ioctl(f.vm, KVM_RUN, 0), ENOTTY);
	assert_errno(ukvm_ioctl(f.vcpu, KVM_CREATE_VCPU, 1), EINVAL);
	assert_errno(ukvm_ioctl(f.sys, _IO(KVMIO, 0xff), 0), EINVAL);
	assert_errno(ukvm_ioctl(f.vm, _IO(KVMIO, 0xff), 0), ENOTTY);
	assert_errno(ukvm_ioctl(f.vcpu, _IO(KVMIO, 0xff), 0), EINVAL);
	/* The same number with another size is another ioctl. */
	assert_errno(ukvm_ioctl(f.vcpu, _IOR(KVMIO, 0x81, char[8]), 0), EINVAL);
	assert_errno(ukvm_ioctl(f.vcpu, KVM_RUN, 1), EINVAL);
	assert_int_equal(kvm_ioctl(f.vm, 0x5401, 0), KVM_NOT_OURS);
	close(null);
	close(other);
	drop_vm(f);
}

static int fd_of_class(struct vm_fds f, enum obj_class class)
{
	return class == OBJ_SYSTEM ? f.sys : class == OBJ_VM ? f.vm : f.vcpu;
}

/* Every ioctl that takes a pointer. None of them may do more than refuse. */
static void test_bad_pointers(void **state)
{
	struct vm_fds f = make_vm();

	(void)state;
	for (u32 n = 0; n < nr_ioctl_rows; n++) {
		const struct ioctl_row *r = &ioctl_rows[n];

		if (r->arg != ARG_COPY && r->arg != ARG_USER)
			continue;
		errno = 0;
		if (ukvm_ioctl(fd_of_class(f, r->class), r->request, BAD_POINTER) != -1 || errno != EFAULT)
			fail_msg("%s: errno %d", r->name, errno);
		errno = 0;
		if (ukvm_ioctl(fd_of_class(f, r->class), r->request, 1ul << 63) != -1 || errno != EFAULT)
			fail_msg("%s: errno %d", r->name, errno);
	}
	drop_vm(f);
}

/* A structure of which only the first half is there. */
static void test_half_a_structure(void **state)
{
	struct vm_fds f = make_vm();
	u8 *p = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_regs *regs = (void *)(p + PAGE_SIZE - 64), before, after;

	(void)state;
	munmap(p + PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &before), 0);
	memset(p, 0xff, PAGE_SIZE);
	assert_errno(ukvm_ioctl(f.vcpu, KVM_SET_REGS, regs), EFAULT);
	assert_errno(ukvm_ioctl(f.vcpu, KVM_GET_REGS, regs), EFAULT);
	assert_int_equal(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	munmap(p, PAGE_SIZE);
	drop_vm(f);
}

/* What QEMU 7.2 will not start without, and what it would ask for that is not there. */
static void test_caps(void **state)
{
	static const int needed[] = { KVM_CAP_USER_MEMORY,
				      KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
				      KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
				      KVM_CAP_SET_TSS_ADDR,
				      KVM_CAP_EXT_CPUID,
				      KVM_CAP_MP_STATE,
				      KVM_CAP_SYNC_MMU };
	struct vm_fds f = make_vm();

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(needed); n++) {
		assert_true(ukvm_ioctl(f.sys, KVM_CHECK_EXTENSION, needed[n]) > 0);
		assert_true(ukvm_ioctl(f.vm, KVM_CHECK_EXTENSION, needed[n]) > 0);
	}
	assert_int_equal(ukvm_ioctl(f.sys, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP), 0);
	assert_errno(ukvm_ioctl(f.vm, KVM_CREATE_IRQCHIP, 0), ENOTTY);
	assert_int_equal(ukvm_ioctl(f.sys, KVM_CHECK_EXTENSION, 100000), 0);
	assert_int_equal(ukvm_ioctl(f.sys, KVM_CHECK_EXTENSION, -1l), 0);
	assert_int_equal(ukvm_ioctl(f.sys, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO),
			 KVM_COALESCED_MMIO_PAGE_OFFSET);
	drop_vm(f);
}

static int enable(int vm, u32 cap, u64 arg)
{
	struct kvm_enable_cap k = { .cap = cap, .args = { arg } };

	return ukvm_ioctl(vm, KVM_ENABLE_CAP, &k);
}

static void test_enable_cap(void **state)
{
	struct vm_fds f = make_vm();
	struct kvm_enable_cap k = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .flags = 1 };
	int vm;

	(void)state;
	assert_int_equal(enable(f.vm, KVM_CAP_EXCEPTION_PAYLOAD, 1), 0);
	assert_errno(ukvm_ioctl(f.vm, KVM_ENABLE_CAP, &k), EINVAL);
	assert_errno(enable(f.vm, 100000, 0), EINVAL);
	assert_errno(enable(f.vm, KVM_CAP_SPLIT_IRQCHIP, 24), EINVAL);
	assert_errno(enable(f.vm, KVM_CAP_X86_USER_SPACE_MSR, 1ull << 40), EINVAL);
	assert_int_equal(enable(f.vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER), 0);
	assert_errno(enable(f.vm, KVM_CAP_EXIT_HYPERCALL, 1), EINVAL);
	assert_int_equal(enable(f.vm, KVM_CAP_EXIT_HYPERCALL,
				ukvm_ioctl(f.vm, KVM_CHECK_EXTENSION, KVM_CAP_EXIT_HYPERCALL)),
			 0);
	/* vCPU ids can be limited once, and not after the first vCPU. */
	assert_errno(enable(f.vm, KVM_CAP_MAX_VCPU_ID, 4), EINVAL);
	vm = ukvm_ioctl(f.sys, KVM_CREATE_VM, 0);
	assert_int_equal(enable(vm, KVM_CAP_MAX_VCPU_ID, 4), 0);
	assert_errno(enable(vm, KVM_CAP_MAX_VCPU_ID, 5), EINVAL);
	assert_errno(ukvm_ioctl(vm, KVM_CREATE_VCPU, 4), EINVAL);
	ukvm_close(vm);
	drop_vm(f);
}

static void test_vcpu_ids(void **state)
{
	struct vm_fds f = make_vm();
	int last = ukvm_ioctl(f.vm, KVM_CREATE_VCPU, UKVM_MAX_VCPU_ID - 1);

	(void)state;
	assert_true(last >= 0);
	assert_int_equal(fcntl(last, F_GETFD), FD_CLOEXEC);
	assert_errno(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 0), EEXIST);
	assert_errno(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, UKVM_MAX_VCPU_ID), EINVAL);
	assert_errno(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, -1), EINVAL);
	/* A vCPU stays in its VM when its fd is closed. */
	ukvm_close(last);
	assert_errno(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, UKVM_MAX_VCPU_ID - 1), EEXIST);
	drop_vm(f);
}

static void test_values(void **state)
{
	struct vm_fds f = make_vm();
	int vm = ukvm_ioctl(f.sys, KVM_CREATE_VM, 0);
	u64 addr = 0xfeffc000;

	(void)state;
	assert_int_equal(ukvm_ioctl(f.vm, KVM_SET_TSS_ADDR, 0xfffbd000ul), 0);
	assert_errno(ukvm_ioctl(f.vm, KVM_SET_TSS_ADDR, 0xfffffffful), EINVAL);
	assert_errno(ukvm_ioctl(f.vm, KVM_SET_TSS_ADDR, 1ul << 32), EINVAL);
	assert_int_equal(ukvm_ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &addr), 0);
	assert_errno(ukvm_ioctl(f.vm, KVM_SET_IDENTITY_MAP_ADDR, &addr), EINVAL); /* it has a vCPU */
	assert_int_equal(ukvm_ioctl(vm, KVM_SET_BOOT_CPU_ID, 1), 0);
	assert_errno(ukvm_ioctl(f.vm, KVM_SET_BOOT_CPU_ID, 1), EBUSY);
	assert_errno(ukvm_ioctl(f.vm, KVM_SET_NR_MMU_PAGES, 1), EINVAL);
	assert_int_equal(ukvm_ioctl(f.vm, KVM_SET_NR_MMU_PAGES, 100), 0);
	assert_int_equal(ukvm_ioctl(f.vm, KVM_GET_NR_MMU_PAGES, 0), 100);
	/* What would be an errno as a result. */
	assert_int_equal(ukvm_ioctl(f.vm, KVM_SET_NR_MMU_PAGES, 0xfffffffe), 0);
	assert_int_equal(ukvm_ioctl(f.vm, KVM_GET_NR_MMU_PAGES, 0), INT_MAX);
	assert_int_equal(ukvm_ioctl(f.vm, KVM_SET_TSC_KHZ, ukvm_ioctl(f.vm, KVM_GET_TSC_KHZ, 0) / 2), 0);
	assert_errno(ukvm_ioctl(f.vm, KVM_SET_TSC_KHZ, 1), EINVAL);
	ukvm_close(vm);
	drop_vm(f);
}

/* KVM_SET_BOOT_CPU_ID decides which APIC base has the BSP bit. */
static void test_boot_cpu(void **state)
{
	int sys = ukvm_open(), vm = ukvm_ioctl(sys, KVM_CREATE_VM, 0);

	(void)state;
	assert_int_equal(ukvm_ioctl(vm, KVM_SET_BOOT_CPU_ID, 1), 0);
	for (int id = 0; id < 2; id++) {
		int vcpu = ukvm_ioctl(vm, KVM_CREATE_VCPU, id);
		struct kvm_sregs s;

		assert_int_equal(ukvm_ioctl(vcpu, KVM_GET_SREGS, &s), 0);
		assert_int_equal(s.apic_base >> 8 & 1, id);
		ukvm_close(vcpu);
	}
	ukvm_close(vm);
	ukvm_close(sys);
}

/* ---- lifetime ---- */

static void test_dup(void **state)
{
	struct vm_fds f = make_vm();
	int copy = dup(f.vcpu), more;
	struct kvm_regs regs;

	(void)state;
	ukvm_close(f.vcpu);
	assert_int_equal(ukvm_ioctl(copy, KVM_GET_REGS, &regs), 0);
	assert_errno(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &regs), EBADF);
	more = ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 1);
	assert_true(more >= 0);
	ukvm_close(more);
	f.vcpu = copy;
	drop_vm(f);
}

static void test_vm_lives_by_its_vcpu(void **state)
{
	struct vm_fds f = make_vm();
	struct kvm_regs regs;

	(void)state;
	ukvm_close(f.vm);
	ukvm_close(f.sys);
	assert_int_equal(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &regs), 0);
	ukvm_close(f.vcpu);
}

static void test_vcpu_lives_by_its_mapping(void **state)
{
	int fds = count_fds(), maps = count_maps("ukvm-vcpu");
	struct vm_fds f = make_vm();
	void *run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.vcpu, 0);

	(void)state;
	assert_true(run != MAP_FAILED);
	drop_vm(f);
	assert_true(count_fds() > fds); /* ours, of a VM that is still there */
	memset(run, 0, RUN_SIZE);
	munmap(run, RUN_SIZE);
	kvm_collect();
	assert_int_equal(count_fds(), fds);
	assert_int_equal(count_maps("ukvm-vcpu"), maps);
}

/* In flight through a socket, an fd is in no process. */
static void test_lives_in_a_message(void **state)
{
	int pair[2], fds = count_fds(), vm;
	struct vm_fds f = make_vm();
	char data = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &data, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	(void)state;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &f.vm, sizeof(int));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
	drop_vm(f);
	assert_int_equal(recvmsg(pair[1], &msg, 0), 1);
	memcpy(&vm, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	assert_errno(ukvm_ioctl(vm, KVM_CREATE_VCPU, 0), EEXIST);
	ukvm_close(vm);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(count_fds(), fds);
}

/* Closing an fd does not pull a VM away from under an ioctl in another thread; what is left is freed by that. */
static void *get_regs_for_a_while(void *arg)
{
	struct kvm_regs regs;

	while (ukvm_ioctl(*(int *)arg, KVM_GET_REGS, &regs) == 0)
		;
	return NULL;
}

static void test_close_under_an_ioctl(void **state)
{
	int fds = count_fds();

	(void)state;
	for (int n = 0; n < 50; n++) {
		struct vm_fds f = make_vm();
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, get_regs_for_a_while, &f.vcpu), 0);
		usleep(200);
		drop_vm(f);
		pthread_join(t, NULL);
	}
	kvm_collect();
	assert_int_equal(count_fds(), fds);
}

static void cycle(void)
{
	struct vm_fds f = make_vm();
	struct kvm_userspace_memory_region slot = { .memory_size = PAGE_SIZE, .flags = KVM_MEM_LOG_DIRTY_PAGES };
	void *mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.vcpu, 0);
	struct kvm_memory_region in_vm = { .slot = 1, .guest_phys_addr = 1 << 20, .memory_size = 1 << 20 };

	slot.userspace_addr = (u64)(uintptr_t)mem;
	assert_int_equal(ukvm_ioctl(f.vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	assert_int_equal(ukvm_ioctl(f.vm, KVM_SET_MEMORY_REGION, &in_vm), 0);
	munmap(run, RUN_SIZE);
	drop_vm(f);
	munmap(mem, PAGE_SIZE);
}

static void test_no_leaks(void **state)
{
	int fds, maps;
	long pages;

	(void)state;
	for (int n = 0; n < 10; n++) /* libc and sanitizers settle down */
		cycle();
	fds = count_fds();
	maps = count_maps("");
	pages = address_space();
	for (int n = 0; n < 1000; n++)
		cycle();
	assert_int_equal(count_fds(), fds);
	assert_true(count_maps("") <= maps + 1);
	assert_true(address_space() <= pages + 64);
}

static void *cycles(void *arg)
{
	for (int n = 0; n < 100; n++)
		cycle();
	return arg;
}

static void test_threads(void **state)
{
	int fds = count_fds();
	pthread_t t[4];

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(t); n++)
		assert_int_equal(pthread_create(&t[n], NULL, cycles, NULL), 0);
	for (unsigned n = 0; n < ARRAY_SIZE(t); n++)
		pthread_join(t[n], NULL);
	kvm_collect();
	assert_int_equal(count_fds(), fds);
}

static void *open_and_close(void *stop)
{
	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED))
		ukvm_close(ukvm_open());
	return NULL;
}

/* Whoever looks an object up while its neighbour in the table goes away finds it. */
static void test_lookups_while_others_close(void **state)
{
	struct vm_fds f[40];
	bool stop = false;
	pthread_t t;

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(f); n++)
		f[n] = make_vm();
	assert_int_equal(pthread_create(&t, NULL, open_and_close, &stop), 0);
	for (unsigned n = 0; n < 100000; n++)
		assert_true(ukvm_ioctl(f[n % ARRAY_SIZE(f)].vm, KVM_GET_NR_MMU_PAGES, 0) >= 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	for (unsigned n = 0; n < ARRAY_SIZE(f); n++)
		drop_vm(f[n]);
}

/* An object that cannot be made is not half there. */
static void test_out_of_fds(void **state)
{
	struct vm_fds f = make_vm();
	int fds = count_fds(), filler[1024], n = 0;
	struct rlimit limit, low;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = ARRAY_SIZE(filler);
	setrlimit(RLIMIT_NOFILE, &low);
	while ((filler[n] = dup(0)) >= 0)
		n++;
	assert_errno(ukvm_open(), EMFILE);
	assert_errno(ukvm_ioctl(f.sys, KVM_CREATE_VM, 0), EMFILE);
	assert_errno(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 1), EMFILE);
	while (n)
		close(filler[--n]);
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(ukvm_close(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 1)), 0);
	drop_vm(f);
}

static void test_reserved(void **state)
{
	struct vm_fds f = make_vm();
	int reserved = 0;

	(void)state;
	assert_int_equal(kvm_fd_class(f.sys), OBJ_SYSTEM);
	assert_int_equal(kvm_fd_class(f.vm), OBJ_VM);
	assert_int_equal(kvm_fd_class(f.vcpu), OBJ_VCPU);
	assert_int_equal(kvm_fd_class(0), OBJ_NONE);
	assert_int_equal(kvm_fd_class(-1), OBJ_NONE);
	assert_false(kvm_fd_reserved(f.vm));
	for (int fd = 0; fd < 1024; fd++)
		reserved += kvm_fd_reserved(fd);
	assert_int_equal(reserved, 3);
	drop_vm(f);
}

/* The kernel's objects cannot be truncated; a client that tries must not take kvm_run from under us. */
static void test_truncate(void **state)
{
	struct vm_fds f = make_vm();
	struct kvm_regs regs;

	(void)state;
	assert_int_equal(ftruncate(f.vcpu, 0), -1);
	assert_int_equal(ftruncate(f.sys, 1), -1);
	assert_int_equal(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &regs), 0);
	drop_vm(f);
}

/* ---- other processes ---- */

static int in_child(int (*fn)(struct vm_fds f), struct vm_fds f)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn(f));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int fails_with(int ret, int err)
{
	return ret == -1 && errno == err;
}

static int child_is_refused(struct vm_fds f)
{
	struct kvm_regs regs;

	if (!fails_with(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &regs), EIO))
		return 1;
	if (!fails_with(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 1), EIO))
		return 2;
	return ukvm_ioctl(f.sys, KVM_GET_API_VERSION, 0) == KVM_API_VERSION ? 0 : 3;
}

static int child_makes_its_own(struct vm_fds f)
{
	int vm = ukvm_ioctl(f.sys, KVM_CREATE_VM, 0), vcpu = ukvm_ioctl(vm, KVM_CREATE_VCPU, 0);
	struct kvm_regs regs;

	if (ukvm_ioctl(vcpu, KVM_GET_REGS, &regs))
		return 1;
	ukvm_close(vcpu);
	ukvm_close(vm);
	ukvm_close(f.sys);
	return fails_with(ukvm_ioctl(f.vm, KVM_CREATE_VCPU, 1), EIO) ? 0 : 2;
}

/* A child that closes what it inherited, as many do. */
static int child_closes(struct vm_fds f)
{
	drop_vm(f);
	kvm_collect();
	return 0;
}

static void test_fork(void **state)
{
	int fds = count_fds();
	struct vm_fds f = make_vm();
	struct kvm_regs regs;

	(void)state;
	assert_int_equal(in_child(child_is_refused, f), 0);
	assert_int_equal(in_child(child_makes_its_own, f), 0);
	assert_int_equal(in_child(child_closes, f), 0);
	assert_int_equal(ukvm_ioctl(f.vcpu, KVM_GET_REGS, &regs), 0);
	drop_vm(f);
	assert_int_equal(count_fds(), fds);
}

static void *lock_and_unlock(void *stop)
{
	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED))
		ukvm_close(ukvm_open());
	return NULL;
}

/* fork() while another thread is in the middle of everything. */
static void test_fork_in_the_middle(void **state)
{
	struct vm_fds f;
	bool stop = false;
	pthread_t t;

	(void)state;
#ifdef THREAD_SANITIZER
	skip(); /* it does not support this */
#endif
	f = make_vm();
	assert_int_equal(pthread_create(&t, NULL, lock_and_unlock, &stop), 0);
	for (int n = 0; n < 200; n++)
		assert_int_equal(in_child(child_makes_its_own, f), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	drop_vm(f);
}

/* ---- guards ---- */

static volatile sig_atomic_t client_faults;

static void client_handler(int sig, siginfo_t *info, void *uc)
{
	(void)sig;
	(void)uc;
	client_faults++;
	mprotect((void *)((u64)(uintptr_t)info->si_addr & PAGE_MASK), PAGE_SIZE, PROT_READ | PROT_WRITE);
}

/* The client's own faults are the client's, also with our handlers installed. */
static void test_client_faults(void **state)
{
	struct vm_fds f = make_vm();
	struct sigaction sa = { .sa_sigaction = client_handler, .sa_flags = SA_SIGINFO | SA_RESTART }, old;
	volatile u8 *p = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u8 byte;

	(void)state;
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR1);
	assert_int_equal(os_guard_sigaction(SIGSEGV, &sa, &old), 0);
	assert_int_equal(os_copy_in(&byte, (u64)(uintptr_t)p, 1), -EFAULT);
	assert_int_equal(client_faults, 0);
	p[0] = 1;
	assert_int_equal(client_faults, 1);
	assert_int_equal(os_copy_in(&byte, (u64)(uintptr_t)p, 1), 0);
	assert_int_equal(os_guard_sigaction(SIGSEGV, &old, &sa), 0);
	assert_true(sa.sa_sigaction == client_handler);
	assert_int_equal(sa.sa_flags, SA_SIGINFO | SA_RESTART);
	assert_true(sigismember(&sa.sa_mask, SIGUSR1));
	assert_false(sigismember(&sa.sa_mask, SIGUSR2));
	munmap((void *)p, PAGE_SIZE);
	drop_vm(f);
}

static int child_segfaults(struct vm_fds f)
{
	volatile u64 addr = BAD_POINTER; /* which compilers would warn of */

	(void)f;
	*(volatile int *)(uintptr_t)addr = 1;
	return 0;
}

static int child_is_killed(struct vm_fds f)
{
	(void)f;
	raise(SIGBUS);
	return 0;
}

static int child_ignores(struct vm_fds f)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };

	(void)f;
	os_guard_sigaction(SIGSEGV, &sa, NULL);
	raise(SIGSEGV);
	return 42;
}

static void test_default_action(void **state)
{
	struct vm_fds f = make_vm();
	struct sigaction dfl = { .sa_handler = SIG_DFL }, old[2];

	(void)state;
	os_guard_sigaction(SIGSEGV, &dfl, &old[0]);
	os_guard_sigaction(SIGBUS, &dfl, &old[1]);
	assert_int_equal(in_child(child_segfaults, f), 255);
	assert_int_equal(in_child(child_is_killed, f), 255);
	assert_int_equal(in_child(child_ignores, f), 42);
	os_guard_sigaction(SIGSEGV, &old[0], NULL);
	os_guard_sigaction(SIGBUS, &old[1], NULL);
	drop_vm(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_system),
		cmocka_unit_test(test_wrong_fd),
		cmocka_unit_test(test_bad_pointers),
		cmocka_unit_test(test_half_a_structure),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_enable_cap),
		cmocka_unit_test(test_vcpu_ids),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_boot_cpu),
		cmocka_unit_test(test_dup),
		cmocka_unit_test(test_vm_lives_by_its_vcpu),
		cmocka_unit_test(test_vcpu_lives_by_its_mapping),
		cmocka_unit_test(test_lives_in_a_message),
		cmocka_unit_test(test_close_under_an_ioctl),
		cmocka_unit_test(test_no_leaks),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_lookups_while_others_close),
		cmocka_unit_test(test_out_of_fds),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_truncate),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_fork_in_the_middle),
		cmocka_unit_test(test_client_faults),
		cmocka_unit_test(test_default_action),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
