// SPDX-License-Identifier: MIT
/*
 * One immutable table of both; a change makes a new one and replaces it while all vCPUs rest, so that they look things
 * up without a lock.
 *
 * The kernel shows one ring, that of the VM, in the third page of every vCPU's mapping: some clients empty it through
 * their first vCPU's mapping (QEMU), some through each (kvmtool). Ours is the third page of the first vCPU's memfd,
 * and is put into the client's mappings of the other vCPUs in place of theirs, which nobody has written yet.
 */
#include "kvm/iobus.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "kvm/handlers.h"
#include "kvm/object.h"
#include "os/mem.h"
#include "os/proc.h"
#include "os/sys.h"

#define ZONES_MAX 1000 /* the kernel's NR_IOBUS_DEVS, for each bus */
#define RING_OFFSET (KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE)

enum bus { BUS_MMIO, BUS_PIO };

struct io_event {
	u64 addr, match;
	u32 len; /* 0: any */
	u8 bus;
	bool wildcard; /* any data */
	int fd;        /* ours */
	int id;        /* os_eventfd_id() */
};

struct io_zone {
	u64 addr, size;
	u8 bus;
};

struct io_table {
	size_t size;
	u32 nr_events, nr_zones;
	struct io_event *event; /* sorted by bus and address */
	struct io_zone *zone;   /* in order of registration */
};

struct vm_io {
	struct os_lock ring_lock; /* for the ring's producers */
	struct io_table *table;
};

/* ---- tables ---- */

static struct io_table *table_new(u32 nr_events, u32 nr_zones)
{
	size_t size = sizeof(struct io_table) + nr_events * sizeof(struct io_event) + nr_zones * sizeof(struct io_zone);
	struct io_table *t = os_alloc(size);

	if (!t)
		return NULL;
	t->size = size;
	t->nr_events = nr_events;
	t->nr_zones = nr_zones;
	t->event = (struct io_event *)(t + 1);
	t->zone = (struct io_zone *)(t->event + nr_events);
	return t;
}

/* Where (bus, addr) is in the events, or would be. */
static u32 event_lower_bound(const struct io_table *t, u8 bus, u64 addr)
{
	u32 lo = 0, hi = t->nr_events;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;
		const struct io_event *e = &t->event[mid];

		if (e->bus < bus || (e->bus == bus && e->addr < addr))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool event_at(const struct io_table *t, u32 n, u8 bus, u64 addr)
{
	return n < t->nr_events && t->event[n].bus == bus && t->event[n].addr == addr;
}

static void swap_table(struct vm *vm, void *arg)
{
	vm->io->table = arg;
}

/* Called with vm->lock held. */
static void publish(struct vm *vm, struct io_table *t)
{
	struct io_table *old = vm->io->table;

	vm_rest(vm, swap_table, t);
	os_free(old, old->size);
}

int vm_io_init(struct vm *vm)
{
	vm->io = os_alloc(sizeof(*vm->io));
	if (!vm->io)
		return -ENOMEM;
	vm->io->table = table_new(0, 0);
	if (vm->io->table)
		return 0;
	os_free(vm->io, sizeof(*vm->io));
	vm->io = NULL;
	return -ENOMEM;
}

void vm_io_free(struct vm *vm)
{
	struct io_table *t;

	if (!vm->io)
		return;
	t = vm->io->table;
	for (u32 n = 0; n < t->nr_events; n++)
		os_close(t->event[n].fd);
	os_free(t, t->size);
	os_free(vm->io, sizeof(*vm->io));
	vm->io = NULL;
}

/* ---- ioeventfd ---- */

/* Would one write signal both? */
static bool events_collide(const struct io_event *a, const struct io_event *b)
{
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (a->wildcard || b->wildcard || a->match == b->match);
}

static int event_add(struct vm *vm, const struct io_event *e)
{
	const struct io_table *old = vm->io->table;
	u32 at = event_lower_bound(old, e->bus, e->addr);
	struct io_table *t;

	for (u32 n = at; event_at(old, n, e->bus, e->addr); n++)
		if (events_collide(&old->event[n], e))
			return -EEXIST;
	t = table_new(old->nr_events + 1, old->nr_zones);
	if (!t)
		return -ENOMEM;
	memcpy(t->event, old->event, at * sizeof(*e));
	t->event[at] = *e;
	memcpy(t->event + at + 1, old->event + at, (old->nr_events - at) * sizeof(*e));
	memcpy(t->zone, old->zone, old->nr_zones * sizeof(*t->zone));
	publish(vm, t);
	return 0;
}

static bool same_event(const struct io_event *a, const struct io_event *b)
{
	return a->id == b->id && a->len == b->len && a->wildcard == b->wildcard &&
	       (a->wildcard || a->match == b->match);
}

static int event_remove(struct vm *vm, const struct io_event *e)
{
	const struct io_table *old = vm->io->table;
	u32 n = event_lower_bound(old, e->bus, e->addr);
	struct io_table *t;
	int fd;

	while (event_at(old, n, e->bus, e->addr) && !same_event(&old->event[n], e))
		n++;
	if (!event_at(old, n, e->bus, e->addr))
		return -ENOENT;
	fd = old->event[n].fd;
	t = table_new(old->nr_events - 1, old->nr_zones);
	if (!t)
		return -ENOMEM;
	memcpy(t->event, old->event, n * sizeof(*e));
	memcpy(t->event + n, old->event + n + 1, (old->nr_events - n - 1) * sizeof(*e));
	memcpy(t->zone, old->zone, old->nr_zones * sizeof(*t->zone));
	publish(vm, t);
	os_close(fd);
	return 0;
}

static int check_ioeventfd(const struct kvm_ioeventfd *k)
{
	if (k->len > 8 || (k->len & (k->len - 1)))
		return -EINVAL;
	if (k->addr + k->len < k->addr)
		return -EINVAL;
	if (k->flags & ~KVM_IOEVENTFD_VALID_FLAG_MASK)
		return -EINVAL;
	if (!k->len && (k->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	/* A bus that only s390 has. */
	return k->flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY ? -EINVAL : 0;
}

static int assign(struct vm *vm, struct io_event *e, int fd)
{
	int ret;

	e->fd = fd_reserve(fd);
	if (e->fd < 0)
		return e->fd;
	os_lock(&vm->lock);
	ret = event_add(vm, e);
	os_unlock(&vm->lock);
	if (ret)
		os_close(e->fd);
	return ret;
}

int vm_ioeventfd(struct vm *vm, void *arg)
{
	const struct kvm_ioeventfd *k = arg;
	bool deassign = k->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	struct io_event e = {
		.addr = k->addr,
		.match = k->datamatch,
		.len = k->len,
		.bus = k->flags & KVM_IOEVENTFD_FLAG_PIO ? BUS_PIO : BUS_MMIO,
		.wildcard = !(k->flags & KVM_IOEVENTFD_FLAG_DATAMATCH),
	};
	int ret = deassign ? 0 : check_ioeventfd(k);

	if (ret)
		return ret;
	e.id = os_eventfd_id(k->fd);
	if (e.id < 0)
		return e.id;
	if (!deassign)
		return assign(vm, &e, k->fd);
	os_lock(&vm->lock);
	ret = event_remove(vm, &e);
	os_unlock(&vm->lock);
	return ret;
}

/* ---- coalesced zones ---- */

static struct io_table *copy_events(const struct io_table *old, u32 nr_zones)
{
	struct io_table *t = table_new(old->nr_events, nr_zones);

	if (t)
		memcpy(t->event, old->event, old->nr_events * sizeof(*t->event));
	return t;
}

static bool zone_contains(const struct io_zone *z, u8 bus, u64 addr, u64 size)
{
	return z->bus == bus && addr >= z->addr && addr + size >= addr && addr + size <= z->addr + z->size;
}

static int zone_add(struct vm *vm, const struct io_zone *z)
{
	const struct io_table *old = vm->io->table;
	struct io_table *t;
	u32 same_bus = 0;

	for (u32 n = 0; n < old->nr_zones; n++)
		same_bus += old->zone[n].bus == z->bus;
	if (same_bus >= ZONES_MAX)
		return -ENOSPC;
	t = copy_events(old, old->nr_zones + 1);
	if (!t)
		return -ENOMEM;
	memcpy(t->zone, old->zone, old->nr_zones * sizeof(*z));
	t->zone[old->nr_zones] = *z;
	publish(vm, t);
	return 0;
}

/* Every zone that the given one lies in goes away; none is no error (kvm_vm_ioctl_unregister_coalesced_mmio()). */
static int zone_remove(struct vm *vm, const struct io_zone *z)
{
	const struct io_table *old = vm->io->table;
	struct io_table *t = copy_events(old, old->nr_zones);
	u32 kept = 0;

	if (!t)
		return -ENOMEM;
	for (u32 n = 0; n < old->nr_zones; n++)
		if (!zone_contains(&old->zone[n], z->bus, z->addr, z->size))
			t->zone[kept++] = old->zone[n];
	t->nr_zones = kept;
	publish(vm, t);
	return 0;
}

static int change_zone(struct vm *vm, const struct kvm_coalesced_mmio_zone *k,
		       int (*change)(struct vm *vm, const struct io_zone *z))
{
	struct io_zone z = { .addr = k->addr, .size = k->size, .bus = k->pio ? BUS_PIO : BUS_MMIO };
	int ret;

	if (k->pio > 1)
		return -EINVAL;
	os_lock(&vm->lock);
	ret = change(vm, &z);
	os_unlock(&vm->lock);
	return ret;
}

int vm_register_coalesced_mmio(struct vm *vm, void *arg)
{
	return change_zone(vm, arg, zone_add);
}

int vm_unregister_coalesced_mmio(struct vm *vm, void *arg)
{
	return change_zone(vm, arg, zone_remove);
}

/* ---- the ring ---- */

/* Where the client shows the third page of a vCPU's memfd, and how. */
struct ring_page {
	u64 at;
	int prot;
};

static void map_ring(int fd, void *arg)
{
	const struct ring_page *p = arg;

	os_mmap((void *)(uintptr_t)p->at, PAGE_SIZE, p->prot, MAP_SHARED | MAP_FIXED, fd, RING_OFFSET);
}

/* A mapping of the client's that may show the third page of v's memfd. */
static void share_mapping(const struct os_mapping *m, void *arg)
{
	struct vcpu *v = arg;
	struct ring_page p = { .at = m->start + RING_OFFSET - m->off, .prot = m->prot };

	if (m->ino != v->obj.ino || m->major != major(v->obj.dev) || m->minor != minor(v->obj.dev))
		return;
	if (m->start == (u64)(uintptr_t)v->run || !m->shared || m->off > RING_OFFSET || p.at >= m->end)
		return;
	obj_with_fd(&v->vm->vcpus[0]->obj, map_ring, &p);
}

void vcpu_share_ring(struct vcpu *v)
{
	if (!v->vm->io->table->nr_zones)
		return;
	v->ring_shared = true;
	if (v != v->vm->vcpus[0])
		os_maps_each(share_mapping, v);
}

/* False if the ring is full, or what the client left in it makes no sense: then the write exits. */
static bool ring_put(struct vm *vm, u8 bus, u64 addr, u32 len, const void *data)
{
	struct kvm_coalesced_mmio_ring *ring = (void *)((u8 *)vm->vcpus[0]->run + RING_OFFSET);
	struct kvm_coalesced_mmio *slot;
	u32 last, next;
	bool room;

	os_lock(&vm->io->ring_lock);
	last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	next = (last + 1) % KVM_COALESCED_MMIO_MAX; /* one entry is always free */
	room = last < KVM_COALESCED_MMIO_MAX && next != __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
	if (room) {
		slot = &ring->coalesced_mmio[last];
		slot->phys_addr = addr;
		slot->len = len;
		slot->pio = bus == BUS_PIO;
		memcpy(slot->data, data, len);
		__atomic_store_n(&ring->last, next, __ATOMIC_RELEASE);
	}
	os_unlock(&vm->io->ring_lock);
	return room;
}

/* ---- the vCPU's side ---- */

static bool event_hit(const struct io_event *e, u32 len, u64 val)
{
	return !e->len || (e->len == len && (e->wildcard || e->match == val));
}

static bool bus_write(struct vcpu *v, u8 bus, u64 addr, u32 len, const void *data)
{
	const struct io_table *t = v->vm->io->table;
	u64 val = 0, one = 1;

	memcpy(&val, data, len);
	for (u32 n = event_lower_bound(t, bus, addr); event_at(t, n, bus, addr); n++) {
		if (event_hit(&t->event[n], len, val)) {
			os_write(t->event[n].fd, &one, sizeof(one));
			return true;
		}
	}
	for (u32 n = 0; n < t->nr_zones; n++)
		if (zone_contains(&t->zone[n], bus, addr, len))
			return ring_put(v->vm, bus, addr, len, data);
	return false;
}

bool vm_mmio(void *ctx, u64 gpa, unsigned len, bool write, void *data)
{
	return write && len <= 8 && bus_write(ctx, BUS_MMIO, gpa, len, data);
}

bool vm_pio(void *ctx, u16 port, unsigned size, bool write, void *data)
{
	return write && size <= 8 && bus_write(ctx, BUS_PIO, port, size, data);
}
