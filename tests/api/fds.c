// SPDX-License-Identifier: MIT
/* File descriptors: lifetime, dup, fork, threads, leaks. */
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

static u64 resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long size, pages = 0;

	if (fscanf(f, "%lu %lu", &size, &pages) != 2)
		pages = 0;
	fclose(f);
	return pages * 4096;
}

/* In one order or another: what goes last frees the VM. */
static void machine_free(struct machine *m, unsigned order)
{
	int fds[] = { m->vcpu, m->vm, m->kvm };

	if (order & 1)
		munmap(m->run, m->run_size);
	for (unsigned n = 0; n < 3; n++)
		close(fds[(order / 2 + n) % 3]);
	if (!(order & 1))
		munmap(m->run, m->run_size);
	munmap(m->mem, m->mem_size);
}

/* A guest that makes the VM keep something of every kind: cached code, a dirty log, an eventfd, a second vCPU. */
static void use_machine(struct machine *m)
{
	struct kvm_ioeventfd e = { .addr = 0x40, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO };
	struct kvm_run *run;
	int fd, vcpu;

	OK(set_slot(m->vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MIB, MIB / 2, m->mem));
	e.fd = fd = (int)OK(eventfd(0, EFD_CLOEXEC));
	OK(ioctl(m->vm, KVM_IOEVENTFD, &e));
	vcpu = machine_vcpu(m, 3, &run);
	CODE(m, 0x1000, 0xc6, 0x06, 0x00, 0x30, 1, 0xe6, 0x40, 0xf4); /* movb [0x3000], 1; out 0x40, al; hlt */
	start_real(m, 0x1000);
	run_until(m, KVM_EXIT_HLT);
	CHECK_EQ(m->mem[0x3000], 1);
	close(vcpu);
	munmap(run, m->run_size);
	close(fd);
}

#if defined(__SANITIZE_ADDRESS__) || defined(THREAD_SANITIZER)
#define SLACK (4 * MIB) /* a sanitizer's own memory: still less than a page for each machine */
#else
#define SLACK (64 * 1024)
#endif

TEST_LIMIT(create_and_destroy_leaks_nothing, 120)
{
	u64 maps = 0, bytes = 0, memory = 0, bytes_now;
	unsigned fds = 0;

	for (unsigned n = 0; n < 1100; n++) {
		struct machine m = machine_new(MIB);

		use_machine(&m);
		machine_free(&m, n);
		if (n == 99) {
			fds = count_fds();
			maps = count_maps(&bytes);
			memory = resident();
		}
	}
	CHECK_EQ(count_fds(), fds);
	CHECK(count_maps(&bytes_now) <= maps + 2);
	CHECK(bytes_now <= bytes + SLACK);
	CHECK(resident() <= memory + SLACK);
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

TEST_LIMIT(two_hundred_vms, 120)
{
	static struct machine m[200];

	for (unsigned n = 0; n < 200; n++) {
		m[n] = machine_new(MIB);
		CODE(&m[n], 0x1000, 0xb0, 0, 0xf4);
		m[n].mem[0x1001] = (u8)n;
		start_real(&m[n], 0x1000);
	}
	for (unsigned n = 0; n < 200; n++) {
		run_until(&m[n], KVM_EXIT_HLT);
		CHECK_EQ(get_regs(&m[n]).rax, n);
	}
}

TEST_LIMIT(as_many_vcpus_as_it_says, 120)
{
	struct machine m = machine_new(MIB);
	unsigned max = (unsigned)OK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS)), n;
	unsigned ids = (unsigned)OK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID));

	FAILS(ioctl(m.vm, KVM_CREATE_VCPU, ids), EINVAL);
	for (n = 1; n < max; n++) {
		int fd = ioctl(m.vm, KVM_CREATE_VCPU, n == max - 1 ? ids - 1 : n);

		if (fd < 0 && errno == EMFILE)
			test_skip("only %u file descriptors", n);
		OK(fd);
	}
	FAILS(ioctl(m.vm, KVM_CREATE_VCPU, n), EINVAL);
	CODE(&m, 0x1000, 0xf4);
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
}

/* ---- other processes ---- */

static void *run_for_ever(void *arg)
{
	struct machine *m = arg;

	while (ioctl(m->vcpu, KVM_RUN, 0) == -1 && errno == EINTR)
		;
	return NULL;
}

/* What a child does: the parent's objects are not its own, but it may have a VM. */
static int child_with_a_vm(struct machine *theirs)
{
	struct kvm_regs r;
	struct machine m;

	if (ioctl(theirs->vcpu, KVM_RUN, 0) != -1 || errno != EIO || ioctl(theirs->vcpu, KVM_GET_REGS, &r) != -1 ||
	    errno != EIO || ioctl(theirs->vm, KVM_CREATE_VCPU, 9) != -1 || errno != EIO)
		return 1;
	close(theirs->vcpu);
	close(theirs->vm);
	if (ioctl(theirs->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return 2;
	m = machine_new(MIB);
	CODE(&m, 0x1000, 0xb0, 9, 0xf4);
	start_real(&m, 0x1000);
	run_until(&m, KVM_EXIT_HLT);
	return get_regs(&m).rax == 9 ? 0 : 3;
}

TEST_LIMIT(fork_while_a_vcpu_runs, 60)
{
	struct machine m = machine_new(MIB);
	volatile u32 *count = (volatile u32 *)(m.mem + 0x3000);
	pthread_t t;

	CODE(&m, 0x1000, 0x66, 0xff, 0x06, 0x00, 0x30, 0xeb, 0xf9); /* inc dword [0x3000]; jmp */
	start_real(&m, 0x1000);
	pthread_create(&t, NULL, run_for_ever, &m);
	for (unsigned n = 0; n < 20; n++) {
		u32 before = *count;
		int status;
		pid_t pid = fork();

		if (!pid)
			_exit(child_with_a_vm(&m));
		OK(waitpid(pid, &status, 0));
		CHECK_EQ(status, 0);
		while (*count == before)
			usleep(100);
	}
	CHECK_EQ(ioctl(m.vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
}

static void send_fd(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec io = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	CHECK_EQ(OK(sendmsg(sock, &msg, 0)), 1);
}

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec io = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int fd = -1;

	CHECK_EQ(OK(recvmsg(sock, &msg, 0)), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* A VM that nothing refers to but a message under way lives on; another process that gets it cannot use it. */
TEST(passed_through_a_socket)
{
	struct machine m = machine_new(MIB);
	struct kvm_regs r = { .rax = 4711, .rflags = 2 };
	int sock[2], status, fd;
	pid_t pid;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	set_regs(&m, r);
	send_fd(sock[0], m.vcpu);
	close(m.vcpu);
	close(m.vm);
	close(m.kvm);
	munmap(m.run, m.run_size);
	OK(close(OK(open("/dev/kvm", O_RDWR)))); /* a chance to free it too early */
	fd = receive_fd(sock[1]);
	r.rax = 0;
	OK(ioctl(fd, KVM_GET_REGS, &r));
	CHECK_EQ(r.rax, 4711);

	pid = fork();
	if (!pid) {
		close(fd);
		fd = receive_fd(sock[1]);
		_exit(ioctl(fd, KVM_GET_REGS, &r) == -1 && errno == EIO ? 0 : 1);
	}
	send_fd(sock[0], fd);
	OK(waitpid(pid, &status, 0));
	CHECK_EQ(status, 0);
	OK(ioctl(fd, KVM_GET_REGS, &r));
}

/* These files have no poll of their own: always ready, and nothing for epoll. */
TEST(poll_and_epoll)
{
	struct machine m = machine_new(MIB);
	struct pollfd p[] = { { m.kvm, POLLIN | POLLOUT, 0 }, { m.vm, POLLIN, 0 }, { m.vcpu, POLLOUT, 0 } };
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = (int)OK(epoll_create1(0));

	CHECK_EQ(OK(poll(p, 3, 0)), 3);
	CHECK_EQ(p[0].revents, POLLIN | POLLOUT);
	CHECK_EQ(p[1].revents, POLLIN);
	CHECK_EQ(p[2].revents, POLLOUT);
	FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, m.vcpu, &ev), EPERM);
	FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, m.kvm, &ev), EPERM);
}

/* There is nothing in these files: the operations that they do not have fail as for any other such file. */
static void check_no_file(int fd, bool device)
{
	struct iovec v = { "x", 1 };
	int pipefd[2], null = (int)OK(open("/dev/null", O_RDWR));
	int no_position = device ? EINVAL : ESPIPE;
	loff_t at = 0;
	char c = 0;

	OK(pipe(pipefd));
	FAILS(read(fd, &c, 1), EINVAL);
	FAILS(readv(fd, &v, 1), EINVAL);
	FAILS(write(fd, &c, 1), EINVAL);
	FAILS(writev(fd, &v, 1), EINVAL);
	FAILS(pread(fd, &c, 1, 0), no_position);
	FAILS(pwrite(fd, &c, 1, 0), no_position);
	FAILS(preadv(fd, &v, 1, 0), no_position);
	FAILS(pwritev(fd, &v, 1, 0), no_position);
	CHECK_EQ(OK(lseek(fd, 100, SEEK_SET)), 0);
	FAILS(lseek(fd, 0, 100), EINVAL);
	FAILS(ftruncate(fd, 0), EINVAL);
	FAILS(fallocate(fd, 0, 0, 4096), ENODEV);
	CHECK_EQ(posix_fallocate(fd, 0, 4096), ENODEV);
	FAILS(fsync(fd), EINVAL);
	FAILS(fdatasync(fd), EINVAL);
	FAILS(sendfile(pipefd[1], fd, NULL, 1), EINVAL);
	FAILS(copy_file_range(fd, NULL, null, NULL, 1, 0), EINVAL);
	FAILS(splice(fd, NULL, pipefd[1], NULL, 1, 0), EINVAL);
	if (!device)
		FAILS(sendfile(pipefd[1], fd, &at, 1), ESPIPE);
	FAILS(fcntl(fd, F_GET_SEALS), EINVAL);
	FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), EINVAL);
	/* Others' do what they always did. */
	CHECK_EQ(OK(write(pipefd[1], "y", 1)), 1);
	CHECK_EQ(OK(read(pipefd[0], &c, 1)), 1);
	CHECK_EQ(c, 'y');
	close(pipefd[0]);
	close(pipefd[1]);
	close(null);
}

TEST(no_contents)
{
	struct machine m = machine_new(MIB);
	struct stat st;
	struct statx stx;
	int copy = (int)OK(dup(m.vcpu));

	check_no_file(m.kvm, true);
	check_no_file(m.vm, false);
	check_no_file(copy, false);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, m.kvm, 0) == MAP_FAILED && errno == ENODEV);
	OK(fstat(m.kvm, &st));
	CHECK(S_ISCHR(st.st_mode));
	OK(fstat(m.vm, &st));
	CHECK_EQ(st.st_mode, 0600); /* an anonymous inode */
	CHECK_EQ(st.st_size, 0);
	OK(fstatat(copy, "", &st, AT_EMPTY_PATH));
	CHECK_EQ(st.st_mode, 0600);
	OK(statx(m.vcpu, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	CHECK_EQ(stx.stx_mode, 0600);
	CHECK_EQ(stx.stx_size, 0);
	CHECK_EQ(OK(fcntl(m.vm, F_GETFL)), O_RDWR);
	CHECK_EQ(OK(fcntl(m.vcpu, F_GETFL)), O_RDWR);
	CHECK_EQ(OK(fcntl(m.vcpu, F_SETFL, O_NONBLOCK)), 0);
	CHECK_EQ(OK(fcntl(m.vcpu, F_GETFL)), O_RDWR | O_NONBLOCK);
}

TEST(close_on_exec)
{
	struct machine m = machine_new(MIB);
	int kept = (int)OK(open("/dev/kvm", O_RDWR)), closed = (int)OK(open("/dev/kvm", O_RDWR | O_CLOEXEC));

	CHECK_EQ(OK(fcntl(kept, F_GETFD)), 0);
	CHECK_EQ(OK(fcntl(closed, F_GETFD)), FD_CLOEXEC);
	CHECK_EQ(OK(fcntl(m.vm, F_GETFD)), FD_CLOEXEC);
	CHECK_EQ(OK(fcntl(m.vcpu, F_GETFD)), FD_CLOEXEC);
	CHECK_EQ(OK(fcntl(kept, F_GETFL)) & O_ACCMODE, O_RDWR);
}

TEST(bad_pointers)
{
	struct machine m = machine_new(MIB);

	FAILS(ioctl(m.vcpu, KVM_GET_REGS, NULL), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_SET_REGS, (void *)8), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_GET_SREGS, (void *)-8l), EFAULT);
	FAILS(ioctl(m.vcpu, KVM_SET_FPU, (void *)8), EFAULT);
}
