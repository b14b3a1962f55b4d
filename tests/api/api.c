// SPDX-License-Identifier: MIT
#include "api.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#define EXIT_SKIP 77

#if defined(__SANITIZE_ADDRESS__) || defined(THREAD_SANITIZER)
#define SLOWER 10
#else
#define SLOWER 1
#endif

static struct test *tests, **last = &tests;

void test_register(struct test *t)
{
	*last = t;
	last = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "    %s:%d: ", file, line);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	fflush(NULL);
	_exit(1);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "    skipped: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	fflush(NULL);
	_exit(EXIT_SKIP);
}

/* The child's exit status, or 1 after killing it when its time is up. */
static int wait_for(pid_t pid, const struct test *t)
{
	int status;

	for (unsigned ms = 0; ms < t->seconds * 1000 * SLOWER; ms += 5) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (WIFSIGNALED(status))
				fprintf(stderr, "    killed by signal %d\n", WTERMSIG(status));
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
		}
		usleep(5000);
	}
	fprintf(stderr, "    no end after %u seconds\n", t->seconds * SLOWER);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return 1;
}

static int run_test(const struct test *t)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		t->fn();
		fflush(NULL);
		/* exit(), not _exit(): sanitizers report at exit. */
		exit(0);
	}
	return wait_for(pid, t);
}

int main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0, skipped = 0;

	for (struct test *t = tests; t; t = t->next) {
		int status;

		if (argc > 1 && strcmp(argv[1], t->name))
			continue;
		status = run_test(t);
		printf("%s %s\n", status == 0 ? "ok  " : status == EXIT_SKIP ? "skip" : "FAIL", t->name);
		passed += status == 0;
		skipped += status == EXIT_SKIP;
		failed += status != 0 && status != EXIT_SKIP;
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	if (failed)
		return 1;
	return passed ? 0 : EXIT_SKIP;
}

bool is_ukvm(int vm)
{
	/* KVM_SET_MEMORY_ALIAS of a wrong slot: EINVAL where the ioctl exists, ENOTTY where it was removed. */
	struct {
		u32 slot, flags;
		u64 gpa, size, target;
	} alias = { .slot = ~0u };

	return ioctl(vm, _IOC(_IOC_WRITE, KVMIO, 0x43, sizeof(alias)), &alias) == -1 && errno == EINVAL;
}

int set_slot(int vm, unsigned slot, unsigned flags, u64 gpa, u64 size, void *mem)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

int machine_vcpu(struct machine *m, unsigned id, struct kvm_run **run)
{
	int fd = (int)OK(ioctl(m->vm, KVM_CREATE_VCPU, id));

	*run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(*run != MAP_FAILED);
	return fd;
}

struct machine machine_new(u64 mem_size)
{
	struct machine m = { .mem_size = mem_size };

	m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m.kvm < 0)
		test_skip("/dev/kvm: %s", strerror(errno));
	m.vm = (int)OK(ioctl(m.kvm, KVM_CREATE_VM, 0));
	m.mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(m.mem != MAP_FAILED);
	OK(set_slot(m.vm, 0, 0, 0, mem_size, m.mem));
	m.run_size = (size_t)OK(ioctl(m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	m.vcpu = machine_vcpu(&m, 0, &m.run);
	return m;
}

struct kvm_regs get_regs(struct machine *m)
{
	struct kvm_regs regs;

	OK(ioctl(m->vcpu, KVM_GET_REGS, &regs));
	return regs;
}

void set_regs(struct machine *m, struct kvm_regs regs)
{
	OK(ioctl(m->vcpu, KVM_SET_REGS, &regs));
}

struct kvm_sregs get_sregs(struct machine *m)
{
	struct kvm_sregs sregs;

	OK(ioctl(m->vcpu, KVM_GET_SREGS, &sregs));
	return sregs;
}

static void start(struct machine *m, struct kvm_sregs *s, u64 rip)
{
	OK(ioctl(m->vcpu, KVM_SET_SREGS, s));
	set_regs(m, (struct kvm_regs){ .rip = rip, .rsp = 0x8000, .rflags = 2 });
}

void start_real(struct machine *m, u64 rip)
{
	struct kvm_sregs s = get_sregs(m);

	s.cs.base = 0;
	s.cs.selector = 0;
	start(m, &s, rip);
}

static struct kvm_segment flat_segment(bool code, bool wide)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = code ? 8 : 16,
		.type = code ? 11 : 3,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !(code && wide),
		.l = code && wide,
	};
}

static void set_flat(struct kvm_sregs *s, bool wide)
{
	s->cs = flat_segment(true, wide);
	s->ds = s->es = s->ss = s->fs = s->gs = flat_segment(false, wide);
}

void start_prot(struct machine *m, u64 rip)
{
	struct kvm_sregs s = get_sregs(m);

	set_flat(&s, false);
	s.cr0 = 0x11;
	s.cr4 = 0;
	s.efer = 0;
	start(m, &s, rip);
}

void start_long(struct machine *m, u64 rip)
{
	struct kvm_sregs s = get_sregs(m);
	u64 *pml4 = (u64 *)(m->mem + 0x9000), *pdpt = (u64 *)(m->mem + 0xa000), *pd = (u64 *)(m->mem + 0xb000);

	pml4[0] = 0xa000 | 7;
	pdpt[0] = 0xb000 | 7;
	for (u64 n = 0; n < 512; n++)
		pd[n] = (n << 21) | 0x87;
	set_flat(&s, true);
	s.cr3 = 0x9000;
	s.cr4 |= 0x220;
	s.cr0 = 0x80010033;
	s.efer = 0x501;
	start(m, &s, rip);
}

void run_until(struct machine *m, u32 reason)
{
	OK(ioctl(m->vcpu, KVM_RUN, 0));
	if (m->run->exit_reason != reason) {
		struct kvm_regs r = get_regs(m);

		FAIL("exit reason %u, not %u, at rip 0x%llx", m->run->exit_reason, reason, (unsigned long long)r.rip);
	}
}
