// SPDX-License-Identifier: MIT
/* Run by ukvm: /dev/kvm is there, by every function and name that a program could use, and nothing else has changed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/openat2.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
	return S_ISCHR(st->st_mode) && (st->st_mode & 0777) == 0666 && st->st_rdev == makedev(10, 232) &&
	       st->st_size == 0;
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

/* Links that lead there, wherever they are; and nothing is created through them. */
static void test_links(void)
{
	static const char *const made[] = { "direct", "twice", "dev", "relative", "self", "nowhere" };
	char dir[] = "/tmp/ukvm-device-XXXXXX", buf[4096], byte;
	struct statx stx;
	struct stat st;
	int at, fd;
	FILE *f;

	CHECK(mkdtemp(dir) && !chdir(dir));
	at = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK(!symlink("/dev/kvm", "direct") && !symlink("direct", "twice") && !symlink("/dev", "dev"));
	CHECK(!symlink("dev/kvm", "relative") && !symlink("self", "self") && !symlink("/tmp/ukvm-no/kvm", "nowhere"));
	CHECK(is_kvm(open("direct", O_RDWR)));
	CHECK(is_kvm(open("direct", O_RDWR | O_CREAT, 0600)));
	CHECK(is_kvm(openat(at, "twice", O_RDWR)));
	CHECK(is_kvm(open("relative", O_RDWR | O_CLOEXEC)));
	CHECK(is_kvm(open("dev/kvm", O_RDWR)));
	CHECK_ERRNO(open("direct", O_RDWR | O_NOFOLLOW), ELOOP);
	CHECK_ERRNO(open("self", O_RDWR), ELOOP);
	CHECK_ERRNO(open("nowhere", O_RDWR | O_CREAT, 0600), ENOENT);
	CHECK((f = fopen("direct", "w+")) && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == 12 && !fclose(f));
	CHECK((f = fopen("twice", "r")) && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == 12 && !fclose(f));

	CHECK(!stat("direct", &st) && looks_right(&st));
	CHECK(!fstatat(at, "relative", &st, 0) && looks_right(&st));
	CHECK(!lstat("direct", &st) && S_ISLNK(st.st_mode));
	CHECK(!fstatat(at, "relative", &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode));
	CHECK(!statx(at, "twice", 0, STATX_BASIC_STATS, &stx) && stx.stx_rdev_minor == 232);
	CHECK_ERRNO(stat("nowhere", &st), ENOENT);
	CHECK(!access("direct", R_OK | W_OK) && !faccessat(at, "twice", F_OK, 0) && !eaccess("relative", R_OK));
	CHECK_ERRNO(access("nowhere", F_OK), ENOENT);
	CHECK(realpath("twice", buf) && !strcmp(buf, "/dev/kvm"));
	CHECK(readlink("twice", buf, sizeof(buf)) == 6 && !memcmp(buf, "direct", 6));

	/* An fd that is only a path. */
	fd = open("direct", O_PATH | O_CLOEXEC);
	CHECK(!fstat(fd, &st) && looks_right(&st) && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK_ERRNO(read(fd, &byte, 1), EBADF);
	snprintf(buf, sizeof(buf), "/proc/self/fd/%d", fd);
	CHECK(is_kvm(open(buf, O_RDWR)));
	close(fd);

	for (unsigned n = 0; n < sizeof(made) / sizeof(made[0]); n++)
		CHECK(!unlink(made[n]));
	CHECK(!chdir("/") && !rmdir(dir));
	close(at);
}

/* The links in /proc/self/fd read as they do for the kernel's KVM. */
static void test_proc_names(void)
{
	int fd = open("/dev/kvm", O_RDWR), vm = ioctl(fd, KVM_CREATE_VM, 0), vcpu = ioctl(vm, KVM_CREATE_VCPU, 10);
	static const char *const names[] = { "/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:10" };
	int fds[] = { fd, vm, vcpu };
	char path[32], buf[4096];

	for (int n = 0; n < 3; n++) {
		size_t len = strlen(names[n]);

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[n]);
		CHECK(readlink(path, buf, sizeof(buf)) == (ssize_t)len && !memcmp(buf, names[n], len));
	}
	CHECK(read(fd, buf, 1) <= 0 && write(fd, buf, 1) < 0);
	closefrom(fd);
}

/* By number, as clients do whose language has no wrappers. */
static void test_syscall(void)
{
	struct kernel_action {
		void *handler;
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} act = { .handler = SIG_IGN }, was;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC, 0), vm, vcpu;
	struct open_how how = { .flags = O_RDWR };
	struct kvm_regs regs;
	struct stat st;
	void *page;
	long size;

	CHECK(syscall(SYS_ioctl, fd, KVM_GET_API_VERSION, 0) == 12);
	size = syscall(SYS_ioctl, fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm = (int)syscall(SYS_ioctl, fd, KVM_CREATE_VM, 0);
	vcpu = (int)syscall(SYS_ioctl, vm, KVM_CREATE_VCPU, 0);
	CHECK(!syscall(SYS_ioctl, vcpu, KVM_GET_REGS, &regs) && regs.rip == 0xfff0);
	page = (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	CHECK(page != MAP_FAILED && ((struct kvm_run *)page)->exit_reason == 0);
	CHECK(!syscall(SYS_munmap, page, size));
	CHECK_ERRNO((int)syscall(SYS_ioctl, fd, KVM_RUN, 0), EINVAL);
	CHECK(is_kvm((int)syscall(SYS_open, "/dev/kvm", O_RDWR, 0)));
	CHECK(is_kvm((int)syscall(SYS_openat2, AT_FDCWD, "/dev/kvm", &how, sizeof(how))));
	CHECK(!syscall(SYS_newfstatat, AT_FDCWD, "/dev/kvm", &st, 0) && looks_right(&st));
	CHECK(!syscall(SYS_fstat, fd, &st) && looks_right(&st));
	CHECK(!syscall(SYS_faccessat, AT_FDCWD, "/dev/kvm", R_OK));
	CHECK_ERRNO((int)syscall(SYS_access, "/dev/kvm", X_OK), EACCES);
	CHECK(syscall(SYS_getpid) == getpid());
	CHECK_ERRNO((int)syscall(SYS_close, -1), EBADF);
	CHECK_ERRNO((int)syscall(100000), ENOSYS);
	CHECK(!syscall(SYS_rt_sigaction, SIGUSR1, &act, &was, 8) && was.handler == SIG_DFL);
	CHECK(!syscall(SYS_rt_sigaction, SIGUSR1, &was, &act, 8) && act.handler == SIG_IGN);
	CHECK(!syscall(SYS_close, vcpu) && !syscall(SYS_close, vm) && !syscall(SYS_close, fd));
	CHECK_ERRNO(ioctl(vm, KVM_CREATE_VCPU, 0), EBADF);
}

/* By name, as programs do that call libc without having been compiled against it. */
static void test_lookup(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW);
	int (*find_open)(const char *, int, ...) = dlsym(libc, "open");
	int (*find_open64)(const char *, int, ...) = dlsym(RTLD_DEFAULT, "open64");
	int (*find_ioctl)(int, unsigned long, ...) = dlsym(libc, "ioctl");
	int (*find_close)(int) = dlsym(libc, "close");
	int fd = find_open("/dev/kvm", O_RDWR);

	CHECK(find_ioctl(fd, KVM_GET_API_VERSION, 0) == 12 && !find_close(fd));
	CHECK(is_kvm(find_open64("/dev/kvm", O_RDWR)));
	CHECK(dlsym(libc, "getpid") && !dlsym(libc, "kvm_there_is_none"));
	CHECK(dlerror());
	/* What the next library would be is the caller's affair. */
	CHECK(dlsym(RTLD_NEXT, "strlen") && !dlsym(RTLD_NEXT, "main"));
	dlclose(libc);
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

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 2048; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* What ukvm keeps open for itself survives a client that closes everything it does not know. */
static void test_closes_all(void)
{
	int before = open_fds(), fd = open("/dev/kvm", O_RDWR), vm, vcpu;
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
	CHECK(!syscall(SYS_close_range, vcpu + 1, ~0u, 0));
	for (int n = 500; n < 600; n++)
		CHECK(dup2(0, n) == n);
	CHECK_ERRNO(dup2(-1, 600), EBADF);
	CHECK(!close_range(500, 599, 0));
	CHECK(!ioctl(vcpu, KVM_GET_REGS, &regs));
	CHECK(ioctl(vm, KVM_CREATE_VCPU, 1) >= 0);
	CHECK(is_kvm(open("/dev/kvm", O_RDWR)));
	closefrom(fd);
	CHECK(open_fds() == before); /* and it goes when the client's are closed */
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
	test_links();
	test_proc_names();
	test_syscall();
	test_lookup();
	test_descriptors();
	test_closes_all();
	test_children();
	return failures != 0;
}
