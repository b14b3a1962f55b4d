// SPDX-License-Identifier: MIT
/* Run by ukvm: /dev/kvm is there, by every function and name that a program could use, and nothing else has changed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

static void check(int ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "device.c:%d: %s (errno %d: %s)\n", line, what, errno, strerror(errno));
	failures++;
}
#define CHECK(e) check(!!(e), #e, __LINE__)
#define CHECK_ERRNO(e, err) (errno = 0, check((e) == -1 && errno == (err), #e " is " #err, __LINE__))

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
int __xstat(int version, const char *path, struct stat *st);
int __fxstat64(int version, int fd, struct stat64 *st);

/* Closes the fd; 1 if it was a KVM. */
static int is_kvm(int fd)
{
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);

	close(fd);
	return version == 12;
}

static void test_open(void)
{
	int dev = open("/dev", O_RDONLY | O_DIRECTORY), fd;
	FILE *f;

	CHECK(is_kvm(open("/dev/kvm", O_RDWR)));
	CHECK(is_kvm(open("/dev/kvm", O_RDONLY)));
	CHECK(is_kvm(open64("/dev/kvm", O_RDWR | O_CLOEXEC)));
	CHECK(is_kvm(open("/dev//kvm", O_RDWR)));
	CHECK(is_kvm(open("/dev/./kvm", O_RDWR)));
	CHECK(is_kvm(open("/../dev/kvm", O_RDWR)));
	CHECK(is_kvm(open("/proc/self/root/dev/kvm", O_RDWR)));
	CHECK(is_kvm(openat(AT_FDCWD, "/dev/kvm", O_RDWR)));
	CHECK(is_kvm(openat(dev, "kvm", O_RDWR)));
	CHECK(is_kvm(openat64(dev, "./kvm", O_RDWR)));
	CHECK(is_kvm(__open_2("/dev/kvm", O_RDWR)));
	CHECK(is_kvm(__open64_2("/dev/kvm", O_RDWR)));
	CHECK(is_kvm(__openat_2(dev, "kvm", O_RDWR)));
	CHECK(is_kvm(__openat64_2(-1, "/dev/kvm", O_RDWR)));
	CHECK(is_kvm(creat("/dev/kvm", 0600)));
	CHECK_ERRNO(open("/dev/kvm", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK_ERRNO(open("/dev/kvm", O_RDWR | O_DIRECTORY), ENOTDIR);
	CHECK_ERRNO(open("/tmp/kvm-there-is-none/kvm", O_RDWR), ENOENT);
	CHECK_ERRNO(openat(-1, "kvm", O_RDWR), EBADF);

	f = fopen("/dev/kvm", "r+e");
	CHECK(f && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == 12);
	CHECK(f && (fcntl(fileno(f), F_GETFD) & FD_CLOEXEC));
	CHECK(f && !fclose(f));
	f = fopen("/dev/null", "r");
	f = f ? freopen("/dev/kvm", "r+", f) : NULL;
	CHECK(f && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == 12);
	CHECK(f && !fclose(f));

	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	close(fd);
	fd = open("/dev/kvm", O_RDWR);
	CHECK(fcntl(fd, F_GETFD) == 0);
	close(fd);

	CHECK(!chdir("/dev"));
	CHECK(is_kvm(open("kvm", O_RDWR)));
	CHECK(!chdir("/"));
	CHECK(is_kvm(open("dev/kvm", O_RDWR)));
	close(dev);
}

static int looks_right(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && (st->st_mode & 0777) == 0666 && st->st_rdev == makedev(10, 232) && st->st_size == 0;
}

static void test_stat(void)
{
	int dev = open("/dev", O_PATH), fd = open("/dev/kvm", O_RDWR), copy = dup(fd);
	struct stat st;
	struct stat64 st64;
	struct statx stx;

	CHECK(!stat("/dev/kvm", &st) && looks_right(&st));
	CHECK(!lstat("/dev/kvm", &st) && looks_right(&st));
	CHECK(!fstat(fd, &st) && looks_right(&st));
	CHECK(!fstat(copy, &st) && looks_right(&st));
	CHECK(!fstatat(dev, "kvm", &st, AT_SYMLINK_NOFOLLOW) && looks_right(&st));
	CHECK(!fstatat(fd, "", &st, AT_EMPTY_PATH) && looks_right(&st));
	CHECK(!stat64("/dev/kvm", &st64) && looks_right((struct stat *)&st64));
	CHECK(!fstatat64(AT_FDCWD, "/dev/kvm", &st64, 0) && looks_right((struct stat *)&st64));
	CHECK(!__xstat(1, "/dev/kvm", &st) && looks_right(&st));
	CHECK(!__fxstat64(1, fd, &st64) && looks_right((struct stat *)&st64));
	CHECK(!statx(AT_FDCWD, "/dev/kvm", 0, STATX_BASIC_STATS, &stx) && S_ISCHR(stx.stx_mode) &&
	      stx.stx_rdev_major == 10 && stx.stx_rdev_minor == 232);

	CHECK(!access("/dev/kvm", F_OK));
	CHECK(!access("/dev/kvm", R_OK | W_OK));
	CHECK_ERRNO(access("/dev/kvm", X_OK), EACCES);
	CHECK_ERRNO(access("/dev/kvm", 64), EINVAL);
	CHECK(!faccessat(dev, "kvm", R_OK | W_OK, 0));
	CHECK(!faccessat(AT_FDCWD, "/dev/kvm", R_OK | W_OK, AT_EACCESS));
	CHECK(!euidaccess("/dev/kvm", R_OK | W_OK));
	CHECK(!eaccess("/dev/kvm", R_OK | W_OK));

	close(copy);
	close(fd);
	CHECK_ERRNO(fstat(fd, &st), EBADF);
	fd = open("/dev/null", O_RDWR);
	CHECK(!fstat(fd, &st) && st.st_rdev == makedev(1, 3));
	close(fd);
	close(dev);
}

static void test_names(void)
{
	char buf[4096];
	char *s;

	CHECK_ERRNO((int)readlink("/dev/kvm", buf, sizeof(buf)), EINVAL);
	CHECK(realpath("/dev/../dev//kvm", buf) && !strcmp(buf, "/dev/kvm"));
	s = realpath("/dev/kvm", NULL);
	CHECK(s && !strcmp(s, "/dev/kvm"));
	free(s);
	CHECK_ERRNO(access("/tmp/kvm-there-is-none", F_OK), ENOENT);
	CHECK_ERRNO(open("/tmp", O_RDWR), EISDIR);
}

/* Objects live as long as a descriptor or a mapping does, however they are closed; others' fds are not touched. */
static void test_descriptors(void)
{
	int fd = open("/dev/kvm", O_RDWR), other = open("/dev/null", O_RDWR), vm, vcpu, copy;
	long size = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run;
	struct kvm_regs regs;

	copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	CHECK(copy >= 100 && ioctl(copy, KVM_GET_API_VERSION, 0) == 12);
	CHECK(dup2(copy, 90) == 90 && ioctl(90, KVM_GET_API_VERSION, 0) == 12);
	CHECK(dup3(copy, 91, O_CLOEXEC) == 91 && ioctl(91, KVM_GET_API_VERSION, 0) == 12);
	CHECK(!close_range(90, 110, 0));
	CHECK_ERRNO(ioctl(90, KVM_GET_API_VERSION, 0), EBADF);

	vm = ioctl(fd, KVM_CREATE_VM, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	CHECK(vm >= 0 && vcpu >= 0 && run != MAP_FAILED);
	close(fd);
	close(vm);
	CHECK(!ioctl(vcpu, KVM_GET_REGS, &regs) && regs.rip == 0xfff0);
	CHECK_ERRNO(ioctl(other, KVM_GET_API_VERSION, 0), ENOTTY);
	CHECK_ERRNO(ioctl(vcpu, KVM_CREATE_VM, 0), EINVAL);
	close(vcpu);
	CHECK(!munmap(run, (size_t)size));
	close(other);
	CHECK_ERRNO(ioctl(vm, KVM_CREATE_VCPU, 0), EBADF);
}

/* What ukvm keeps open for itself survives a client that closes everything it does not know. */
static void test_closes_all(void)
{
	int vm, fd = open("/dev/kvm", O_RDWR), vcpu;
	struct kvm_regs regs;

	vm = ioctl(fd, KVM_CREATE_VM, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	CHECK(vcpu >= 0);
	for (int n = vcpu + 1; n < 1024; n++)
		close(n);
	CHECK(!close_range((unsigned)vcpu + 1, ~0u, 0));
	CHECK(!ioctl(vcpu, KVM_GET_REGS, &regs));
	closefrom(vcpu + 1);
	CHECK(!ioctl(vcpu, KVM_GET_REGS, &regs));
	CHECK(ioctl(vm, KVM_CREATE_VCPU, 1) >= 0);
	CHECK(is_kvm(open("/dev/kvm", O_RDWR)));
	closefrom(fd);
}

/* A child that closes descriptors before exec, in its own memory or in ours (vfork), closes them for itself alone. */
static void test_children(void)
{
	int fd = open("/dev/kvm", O_RDWR), vm = ioctl(fd, KVM_CREATE_VM, 0), status;
	char *argv[] = { "true", NULL };
	extern char **environ;
	struct stat st;
	pid_t pid;

	pid = vfork();
	if (pid == 0) {
		close(fd);
		close(vm);
		execvp("true", argv);
		_exit(127);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(!fstat(fd, &st) && looks_right(&st));
	CHECK(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1);

	CHECK(!posix_spawnp(&pid, "true", NULL, NULL, argv, environ));
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);

	pid = fork();
	if (pid == 0) {
		int ok = ioctl(vm, KVM_CREATE_VCPU, 0) == -1 && errno == EIO;

		close(vm);
		close(fd);
		fd = open("/dev/kvm", O_RDWR);
		vm = ioctl(fd, KVM_CREATE_VM, 0);
		_exit(ok && ioctl(vm, KVM_CREATE_VCPU, 0) >= 0 ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(ioctl(vm, KVM_CREATE_VCPU, 0) >= 0);
	closefrom(fd);
}

int main(void)
{
	test_open();
	test_stat();
	test_names();
	test_descriptors();
	test_closes_all();
	test_children();
	return failures != 0;
}
