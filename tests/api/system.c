// SPDX-License-Identifier: MIT
/* System ioctls: spec 4.1 to 4.5, and what an unknown or misplaced ioctl gets. */
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "api.h"

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		test_skip("/dev/kvm: %s", strerror(errno));
	return fd;
}

TEST(api_version_is_12)
{
	CHECK_EQ(OK(ioctl(open_kvm(), KVM_GET_API_VERSION, 0)), 12);
}

TEST(api_version_takes_no_argument)
{
	FAILS(ioctl(open_kvm(), KVM_GET_API_VERSION, 1), EINVAL);
}

TEST(device_looks_like_one)
{
	struct stat st;
	int fd = open_kvm();

	CHECK_EQ(access("/dev/kvm", R_OK | W_OK), 0);
	OK(stat("/dev/kvm", &st));
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(minor(st.st_rdev), 232);
	OK(fstat(fd, &st));
	CHECK(S_ISCHR(st.st_mode));
}

TEST(device_opens_by_every_name)
{
	int dir = (int)OK(open("/dev", O_RDONLY | O_DIRECTORY));
	FILE *f;
	int fd;

	open_kvm();
	fd = (int)OK(openat(dir, "kvm", O_RDWR));
	CHECK_EQ(OK(ioctl(fd, KVM_GET_API_VERSION, 0)), 12);
	CHECK(!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
	fd = (int)OK(openat(AT_FDCWD, "/dev//kvm", O_RDWR | O_CLOEXEC));
	CHECK_EQ(OK(ioctl(fd, KVM_GET_API_VERSION, 0)), 12);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	fd = (int)OK(open64("/dev/kvm", O_RDWR));
	CHECK_EQ(OK(ioctl(fd, KVM_GET_API_VERSION, 0)), 12);
	f = fopen("/dev/kvm", "r+");
	CHECK(f);
	CHECK_EQ(OK(ioctl(fileno(f), KVM_GET_API_VERSION, 0)), 12);
	fclose(f);
}

TEST(unknown_ioctls)
{
	int kvm = open_kvm(), vm = (int)OK(ioctl(kvm, KVM_CREATE_VM, 0)), vcpu = (int)OK(ioctl(vm, KVM_CREATE_VCPU, 0));
	struct kvm_regs regs;

	FAILS(ioctl(kvm, _IO(KVMIO, 0xff), 0), EINVAL);
	FAILS(ioctl(vm, _IO(KVMIO, 0xff), 0), ENOTTY);
	FAILS(ioctl(vcpu, _IO(KVMIO, 0xff), 0), EINVAL);
	/* A known one on an fd of another class. */
	FAILS(ioctl(kvm, KVM_GET_REGS, &regs), EINVAL);
	FAILS(ioctl(vm, KVM_GET_REGS, &regs), ENOTTY);
	FAILS(ioctl(vcpu, KVM_CREATE_VM, 0), EINVAL);
	/* One that there was. */
	FAILS(ioctl(kvm, KVM_TRACE_ENABLE, &regs), EOPNOTSUPP);
	FAILS(ioctl(kvm, KVM_TRACE_PAUSE, 0), EOPNOTSUPP);
	FAILS(ioctl(kvm, KVM_TRACE_DISABLE, 0), EOPNOTSUPP);
	FAILS(ioctl(vm, KVM_TRACE_PAUSE, 0), ENOTTY);
	FAILS(ioctl(-1, KVM_CREATE_VM, 0), EBADF);
	FAILS(ioctl(99, KVM_CREATE_VM, 0), EBADF);
}

TEST(mmap_size)
{
	long size = OK(ioctl(open_kvm(), KVM_GET_VCPU_MMAP_SIZE, 0));

	CHECK(size >= (long)sizeof(struct kvm_run));
	CHECK_EQ(size % 4096, 0);
}

TEST(create_vm_rejects_unknown_type)
{
	FAILS(ioctl(open_kvm(), KVM_CREATE_VM, 12345), EINVAL);
}

TEST(vm_fds_close_on_exec)
{
	int vm = (int)OK(ioctl(open_kvm(), KVM_CREATE_VM, 0));

	CHECK(fcntl(vm, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl((int)OK(ioctl(vm, KVM_CREATE_VCPU, 0)), F_GETFD) & FD_CLOEXEC);
}

TEST(check_extension)
{
	int kvm = open_kvm(), vm = (int)OK(ioctl(kvm, KVM_CREATE_VM, 0));

	CHECK_EQ(OK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY)), 1);
	CHECK(OK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS)) >= 32);
	CHECK(OK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS)) >= 4);
	CHECK_EQ(OK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT)), 1);
	CHECK_EQ(OK(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY)), 1);
	CHECK_EQ(OK(ioctl(kvm, KVM_CHECK_EXTENSION, 99999)), 0);
	CHECK_EQ(OK(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_S390_PSW)), 0);
}

TEST(msr_index_list)
{
	int kvm = open_kvm();
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 1024 * sizeof(u32));
	u32 n;

	list->nmsrs = 1;
	FAILS(ioctl(kvm, KVM_GET_MSR_INDEX_LIST, list), E2BIG);
	n = list->nmsrs;
	CHECK(n > 10 && n < 1024);
	list->nmsrs = 1024;
	OK(ioctl(kvm, KVM_GET_MSR_INDEX_LIST, list));
	CHECK_EQ(list->nmsrs, n);
	for (u32 i = 0; i < n; i++)
		for (u32 j = 0; j < i; j++)
			CHECK(list->indices[i] != list->indices[j]);
	FAILS(ioctl(kvm, KVM_GET_MSR_INDEX_LIST, NULL), EFAULT);
	FAILS(ioctl(kvm, KVM_GET_MSR_INDEX_LIST, (void *)16), EFAULT);
}

TEST(supported_cpuid)
{
	int kvm = open_kvm();
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	bool leaf1 = false;

	c->nent = 1;
	FAILS(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c), E2BIG);
	c->nent = 256;
	OK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c));
	CHECK(c->nent > 5 && c->nent < 256);
	for (u32 i = 0; i < c->nent; i++)
		if (c->entries[i].function == 1) {
			leaf1 = true;
			CHECK(c->entries[i].edx & (1 << 25)); /* SSE: a floor for x86-64 */
		}
	CHECK(leaf1);
	FAILS(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, (void *)8), EFAULT);
}

TEST(no_routes_without_interrupt_controllers)
{
	struct kvm_irq_routing routes = { 0 };
	int vm = (int)OK(ioctl(open_kvm(), KVM_CREATE_VM, 0));

	FAILS(ioctl(vm, KVM_SET_GSI_ROUTING, &routes), EINVAL);
	FAILS(ioctl(vm, KVM_SET_GSI_ROUTING, 8), EFAULT);
}
