// SPDX-License-Identifier: MIT
/*
 * The table of open objects, the process's only state.
 *
 * Is anybody still using an object? Its memfd has two files: one of ours (obj::fd, made by memfd_create()), and the
 * client's, opened through /proc/self/fd, which dup(), mmap(), fork() and SCM_RIGHTS only ever share. The kernel counts
 * open()s for writing in the inode, and grants a read lease only while there are none. memfd_create() is no open(), so
 * a read lease through obj::fd is granted exactly when the client's file is gone: the last descriptor, mapping, message
 * in flight, in this process and others. That is the lifetime the kernel gives to the real thing.
 *
 * Lookups take no lock (one ioctl may be interrupted by a handler that makes another): a reader announces itself in
 * table.readers, and what was taken out of the table stays in limbo until no reader is left that may have seen it.
 */
#include "kvm/object.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include "kvm/signal.h"
#include "os/guard.h"
#include "os/mem.h"
#include "os/proc.h"
#include "os/sys.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define HASH_SIZE 256
#define NR_CACHED_FDS 1024
#define RESERVED_FD_MIN 512 /* our own descriptors are from here on, where the limit allows it */

/* table.owner in this process; the kernel zeroes it in a child. */
#define OWNER_NONE 0
#define OWNER_BUSY 1
#define OWNER_US 2

static struct {
	void *owner;         /* a page that fork() wipes, with a word that is OWNER_* */
	struct os_lock lock; /* for everything but lookups */
	u32 readers;
	u32 unfinished; /* something waits for a reference or a reader to go away */
	u32 count;
	u32 created; /* since the last kvm_collect_sometimes() that did */
	struct obj *hash[HASH_SIZE];
	struct obj *limbo; /* systems and VMs that only late readers may still see */

	/*
	 * fstat() costs more than a whole exit. Where every close() and dup2() is announced (kvm_fd_forget()), what an
	 * fd is needs to be found out only once.
	 */
	bool fds_announced;
	u32 forgotten; /* counts kvm_fd_forget() */
	struct obj *by_fd[NR_CACHED_FDS];
} table;

/* ---- fork ---- */

static bool same_inode(int fd, u64 dev, u64 ino)
{
	struct stat st;

	return os_fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* Closes our own file, unless the client closed it and something else has the number now. */
static void close_own(struct obj *o)
{
	if (o->fd >= 0 && same_inode(o->fd, o->dev, o->ino))
		os_close(o->fd);
	__atomic_store_n(&o->fd, -1, __ATOMIC_RELAXED);
}

/*
 * In a forked child: the table is the parent's, as it was in the middle of whatever the parent's threads were doing.
 * The objects are the parent's too; their memory is a copy that only costs address space. obj_get() recognizes their
 * descriptors by name.
 */
static void table_forget(void)
{
	table.lock.word = 0;
	table.readers = 0;
	table.unfinished = 0;
	table.count = 0;
	table.limbo = NULL;
	for (unsigned n = 0; n < HASH_SIZE; n++) {
		for (struct obj *o = table.hash[n]; o; o = o->next)
			close_own(o);
		table.hash[n] = NULL;
	}
	for (unsigned n = 0; n < NR_CACHED_FDS; n++)
		table.by_fd[n] = NULL;
}

static void table_claim(u32 *page)
{
	u32 none = OWNER_NONE;

	if (__atomic_compare_exchange_n(page, &none, OWNER_BUSY, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		table_forget();
		__atomic_store_n(page, OWNER_US, __ATOMIC_RELEASE);
		os_futex_wake(page);
		return;
	}
	while (__atomic_load_n(page, __ATOMIC_ACQUIRE) != OWNER_US)
		os_futex_wait(page, OWNER_BUSY, 0);
}

static int table_ready(void)
{
	u32 *page = os_page_wiped_by_fork(&table.owner);

	if (!page)
		return -ENOMEM;
	if (unlikely(__atomic_load_n(page, __ATOMIC_ACQUIRE) != OWNER_US))
		table_claim(page);
	return 0;
}

/* No handler of the client may run while this thread holds the lock. */
static void table_lock(void)
{
	kvm_signal_enter();
	os_lock(&table.lock);
}

static void table_unlock(void)
{
	os_unlock(&table.lock);
	kvm_signal_leave();
}

static struct obj **bucket(u64 ino)
{
	return &table.hash[ino % HASH_SIZE];
}

/* ---- creation ---- */

int fd_reserve(int fd)
{
	int ret = os_fcntl(fd, F_DUPFD_CLOEXEC, RESERVED_FD_MIN);

	return ret < 0 ? os_fcntl(fd, F_DUPFD_CLOEXEC, 0) : ret;
}

static int create_memfd(const char *name)
{
	int fd = os_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	/* Before Linux 6.3 the flag is not known; afterwards an administrator may have made it mandatory. */
	return fd == -EINVAL ? os_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static int open_client_fd(int own, bool cloexec)
{
	char path[OS_PROC_PATH_MAX];
	int fd = os_open(os_proc_path(path, "fd", own), O_RDWR | (cloexec ? O_CLOEXEC : 0));

	return fd == -ENOENT ? -ENOSYS : fd; /* no /proc */
}

static int seal(int fd, u64 size)
{
	int ret = os_ftruncate(fd, size);

	return ret ? ret : os_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

int obj_create(struct obj *o, enum obj_class class, const char *name, u64 size, bool cloexec)
{
	struct stat st;
	int fd, ret;

	ret = table_ready();
	if (ret)
		return ret;
	fd = create_memfd(name);
	if (fd < 0)
		return fd;
	o->class = class;
	o->fd = fd_reserve(fd);
	os_close(fd); /* this number is the client's */
	if (o->fd < 0)
		return o->fd;
	ret = os_fstat(o->fd, &st);
	if (!ret && size)
		ret = seal(o->fd, size);
	if (!ret)
		ret = open_client_fd(o->fd, cloexec);
	if (ret < 0) {
		os_close(o->fd);
		return ret;
	}
	o->dev = st.st_dev;
	o->ino = st.st_ino;
	return ret;
}

void obj_publish(struct obj *o)
{
	struct obj **b = bucket(o->ino);

	table_lock();
	o->next = *b;
	__atomic_store_n(b, o, __ATOMIC_RELEASE);
	__atomic_fetch_add(&table.count, 1, __ATOMIC_RELAXED);
	table_unlock();
}

void obj_abandon(struct obj *o, int fd)
{
	if (fd >= 0)
		os_close(fd);
	close_own(o);
}

/* The names are seen in /proc; client/open.c makes the kernel's of them where a client reads them. */
#define NAME_SYSTEM "ukvm"

int kvm_open(int flags)
{
	struct obj *o;
	int fd = table_ready();

	/* ioctls read the client's memory from now on. */
	if (!fd)
		fd = os_guard_init();
	if (fd)
		return fd;
	kvm_collect_sometimes();
	o = os_alloc(sizeof(*o));
	if (!o)
		return -ENOMEM;
	fd = obj_create(o, OBJ_SYSTEM, NAME_SYSTEM, 0, flags & O_CLOEXEC);
	if (fd < 0) {
		os_free(o, sizeof(*o));
		return fd;
	}
	/* A device without contents: nothing to be read, nothing can be written. */
	os_fcntl(o->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	obj_publish(o);
	return fd;
}

/* ---- lookup ---- */

static bool starts_with(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return false;
	return true;
}

/* What an fd is that came from a parent or another process. */
static enum obj_class foreign_class(int fd)
{
	char path[OS_PROC_PATH_MAX], link[64];
	long n = os_readlink(os_proc_path(path, "fd", fd), link, sizeof(link) - 1);

	if (n <= 0)
		return OBJ_NONE;
	link[n] = 0;
	if (starts_with(link, "/memfd:ukvm-vcpu:"))
		return OBJ_VCPU;
	if (starts_with(link, "/memfd:ukvm-vm "))
		return OBJ_VM;
	return starts_with(link, "/memfd:" NAME_SYSTEM " ") ? OBJ_SYSTEM : OBJ_NONE;
}

/*
 * /dev/kvm works in every process that has it open. Our own file is opened read-only here, which does not count.
 * EAGAIN: the descriptor is not that file any more.
 */
static int adopt_system(int fd, const struct stat *st)
{
	struct obj *o = os_alloc(sizeof(*o));
	char path[OS_PROC_PATH_MAX];
	int own;

	if (!o)
		return -ENOMEM;
	own = os_guard_init();
	if (!own)
		own = os_open(os_proc_path(path, "fd", fd), O_RDONLY | O_CLOEXEC);
	if (own >= 0) {
		o->fd = fd_reserve(own);
		os_close(own);
		own = o->fd;
	}
	if (own >= 0 && !same_inode(own, st->st_dev, st->st_ino)) { /* another thread closed fd, and opened something */
		os_close(own);
		own = -EAGAIN;
	}
	if (own < 0) {
		os_free(o, sizeof(*o));
		return own;
	}
	o->class = OBJ_SYSTEM;
	o->dev = st->st_dev;
	o->ino = st->st_ino;
	obj_publish(o);
	return 0;
}

static struct obj *find(const struct stat *st)
{
	struct obj *o;

	__atomic_fetch_add(&table.readers, 1, __ATOMIC_SEQ_CST);
	for (o = __atomic_load_n(bucket(st->st_ino), __ATOMIC_ACQUIRE); o;
	     o = __atomic_load_n(&o->next, __ATOMIC_ACQUIRE))
		if (o->ino == st->st_ino && o->dev == st->st_dev)
			break;
	if (o)
		__atomic_fetch_add(&o->refs, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&table.readers, 1, __ATOMIC_SEQ_CST);
	return o;
}

void kvm_fds_announced(void)
{
	table.fds_announced = true;
}

void kvm_fd_forget(int fd)
{
	if ((u32)fd >= NR_CACHED_FDS)
		return;
	__atomic_fetch_add(&table.forgotten, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&table.by_fd[fd], NULL, __ATOMIC_SEQ_CST);
}

/* Remembers what fd is, unless it was closed meanwhile: then kvm_fd_forget() came before us and must win. */
static void remember(int fd, struct obj *o, u32 forgotten)
{
	if ((u32)fd >= NR_CACHED_FDS || !table.fds_announced)
		return;
	__atomic_store_n(&table.by_fd[fd], o, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&table.forgotten, __ATOMIC_SEQ_CST) != forgotten)
		__atomic_store_n(&table.by_fd[fd], NULL, __ATOMIC_SEQ_CST);
}

static struct obj *recall(int fd)
{
	struct obj *o;

	if ((u32)fd >= NR_CACHED_FDS || !__atomic_load_n(&table.by_fd[fd], __ATOMIC_RELAXED))
		return NULL;
	__atomic_fetch_add(&table.readers, 1, __ATOMIC_SEQ_CST);
	o = __atomic_load_n(&table.by_fd[fd], __ATOMIC_SEQ_CST);
	if (o)
		__atomic_fetch_add(&o->refs, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&table.readers, 1, __ATOMIC_SEQ_CST);
	return o;
}

int obj_get(int fd, struct obj **o)
{
	u32 forgotten = __atomic_load_n(&table.forgotten, __ATOMIC_SEQ_CST);
	enum obj_class class;
	struct stat st;
	int ret;

	if (unlikely(table_ready()))
		return -ENOMEM;
	*o = recall(fd);
	if (likely(*o != NULL))
		return 0;
	for (;;) {
		ret = os_fstat(fd, &st);
		if (unlikely(ret))
			return ret;
		*o = find(&st);
		if (likely(*o != NULL)) {
			remember(fd, *o, forgotten);
			return 0;
		}
		class = foreign_class(fd);
		if (class == OBJ_NONE)
			return -ENOTTY;
		/* Another thread may have closed it meanwhile, and the number is another file's now. */
		if (!same_inode(fd, st.st_dev, st.st_ino))
			continue;
		if (class != OBJ_SYSTEM)
			return -EIO;
		ret = adopt_system(fd, &st);
		if (ret && ret != -EAGAIN)
			return ret;
	}
}

void obj_put(struct obj *o)
{
	if (__atomic_sub_fetch(&o->refs, 1, __ATOMIC_SEQ_CST) == 0 &&
	    unlikely(__atomic_load_n(&table.unfinished, __ATOMIC_SEQ_CST)))
		kvm_collect();
}

enum obj_class kvm_fd_class(int fd)
{
	enum obj_class class;
	struct obj *o = NULL;
	struct stat st;

	/* Most descriptors are something else: a memfd is a regular file without a name. */
	if (os_fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink)
		return OBJ_NONE;
	if (__atomic_load_n(&table.owner, __ATOMIC_ACQUIRE) && !table_ready())
		o = find(&st);
	if (!o)
		return foreign_class(fd);
	class = o->class;
	obj_put(o);
	return class;
}

/* Who holds no lock: kvm_fd_make_room() may change it. */
static int own_fd(const struct obj *o)
{
	return __atomic_load_n(&o->fd, __ATOMIC_RELAXED);
}

bool kvm_fd_reserved(int fd)
{
	struct stat st;
	struct obj *o;
	bool ret;

	if (!__atomic_load_n(&table.count, __ATOMIC_RELAXED) || os_fstat(fd, &st) || table_ready())
		return false;
	o = find(&st);
	if (!o)
		return false;
	ret = own_fd(o) == fd;
	obj_put(o);
	return ret;
}

int kvm_fd_next_reserved(int from)
{
	int next = -1;

	if (!__atomic_load_n(&table.count, __ATOMIC_RELAXED) || table_ready())
		return -1;
	__atomic_fetch_add(&table.readers, 1, __ATOMIC_SEQ_CST);
	for (unsigned n = 0; n < HASH_SIZE; n++)
		for (struct obj *o = __atomic_load_n(&table.hash[n], __ATOMIC_ACQUIRE); o;
		     o = __atomic_load_n(&o->next, __ATOMIC_ACQUIRE)) {
			int own = own_fd(o);

			if (own >= from && (next < 0 || own < next))
				next = own;
		}
	__atomic_fetch_sub(&table.readers, 1, __ATOMIC_SEQ_CST);
	return next;
}

static void move_own_fd(struct obj *o, int fd)
{
	int elsewhere;

	table_lock();
	if (o->fd == fd) {
		elsewhere = fd_reserve(fd);
		if (elsewhere >= 0)
			__atomic_store_n(&o->fd, elsewhere, __ATOMIC_RELAXED);
	}
	table_unlock();
}

void kvm_fd_make_room(int fd)
{
	struct vm *vm;
	struct stat st;
	struct obj *o;

	if (!kvm_fd_reserved(fd) || os_fstat(fd, &st))
		return;
	kvm_signal_enter();
	o = find(&st);
	if (o && o->class == OBJ_VM) {
		/* Whoever resizes the VM's memory by the old number is to be ready before that is another file's. */
		vm = container_of(o, struct vm, obj);
		os_lock(&vm->lock);
		move_own_fd(o, fd);
		os_unlock(&vm->lock);
	} else if (o) {
		move_own_fd(o, fd);
	}
	if (o)
		obj_put(o);
	kvm_signal_leave();
}

void obj_with_fd(const struct obj *o, void (*fn)(int fd, void *arg), void *arg)
{
	table_lock();
	fn(o->fd, arg);
	table_unlock();
}

/* ---- the end ---- */

/* Is the client's file still open? If our own was closed behind our back nobody can tell, and the object stays. */
static bool obj_open(const struct obj *o)
{
	return !same_inode(o->fd, o->dev, o->ino) || os_fcntl(o->fd, F_SETLEASE, F_RDLCK) != 0;
}

static void unlink_closed(struct obj **link)
{
	struct obj *o = *link;

	o->closed = true;
	for (unsigned n = 0; n < NR_CACHED_FDS; n++)
		if (__atomic_load_n(&table.by_fd[n], __ATOMIC_RELAXED) == o)
			__atomic_store_n(&table.by_fd[n], NULL, __ATOMIC_SEQ_CST);
	/* Before table.readers is looked at: who is not counted there does not see it any more. */
	__atomic_store_n(link, o->next, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&table.count, 1, __ATOMIC_RELAXED);
	close_own(o);
	/* A vCPU goes with its VM. o->next stays: a late reader may be just here, on its way to what is behind it. */
	if (o->class != OBJ_VCPU) {
		o->limbo = table.limbo;
		table.limbo = o;
	}
}

/* Takes closed objects out of the table. True if one is left for the next time, because an ioctl uses it. */
static bool unlink_all_closed(void)
{
	bool left = false;

	for (unsigned n = 0; n < HASH_SIZE; n++) {
		struct obj **link = &table.hash[n];

		while (*link) {
			struct obj *o = *link;

			if (obj_open(o)) {
				link = &o->next;
			} else if (__atomic_load_n(&o->refs, __ATOMIC_SEQ_CST)) {
				left = true;
				link = &o->next;
			} else {
				unlink_closed(link);
			}
		}
	}
	return left;
}

static bool obj_unused(const struct obj *o)
{
	return o->closed && !__atomic_load_n(&o->refs, __ATOMIC_SEQ_CST);
}

/* A VM lives while one of its vCPUs does. */
static bool can_free(const struct obj *o)
{
	const struct vm *vm = container_of(o, const struct vm, obj);

	if (!obj_unused(o))
		return false;
	for (u32 n = 0; o->class == OBJ_VM && n < vm->nr_vcpus; n++)
		if (!obj_unused(&vm->vcpus[n]->obj))
			return false;
	return true;
}

/* What may be freed now. *left if something has to wait for a reference to go away. */
static struct obj *take_from_limbo(bool *left)
{
	struct obj **link = &table.limbo, *free = NULL;
	bool readers = __atomic_load_n(&table.readers, __ATOMIC_SEQ_CST);

	while (*link) {
		struct obj *o = *link;

		if (readers || !can_free(o)) {
			/* An open vCPU will be closed, and collected then; anything else is a matter of moments. */
			*left |= readers || __atomic_load_n(&o->refs, __ATOMIC_RELAXED);
			link = &o->limbo;
			continue;
		}
		*link = o->limbo;
		o->limbo = free;
		free = o;
	}
	return free;
}

void kvm_collect(void)
{
	struct obj *free;
	bool left;

	if (!__atomic_load_n(&table.owner, __ATOMIC_ACQUIRE) || table_ready())
		return;
	table_lock();
	/* Before any count is looked at: whoever drops one meanwhile then comes here too, and waits for the lock. */
	__atomic_store_n(&table.unfinished, 1, __ATOMIC_SEQ_CST);
	left = unlink_all_closed();
	free = take_from_limbo(&left);
	__atomic_store_n(&table.unfinished, left, __ATOMIC_SEQ_CST);
	table_unlock();
	while (free) {
		struct obj *next = free->limbo;

		if (free->class == OBJ_VM)
			vm_destroy(container_of(free, struct vm, obj));
		else
			os_free(free, sizeof(*free));
		free = next;
	}
}

void kvm_collect_sometimes(void)
{
	if (__atomic_add_fetch(&table.created, 1, __ATOMIC_RELAXED) <
	    __atomic_load_n(&table.count, __ATOMIC_RELAXED) / 4)
		return;
	__atomic_store_n(&table.created, 0, __ATOMIC_RELAXED);
	kvm_collect();
}
