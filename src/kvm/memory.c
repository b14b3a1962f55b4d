// SPDX-License-Identifier: MIT
/*
 * Memory slots (api.rst 4.35; KVM_SET_MEMORY_REGION and KVM_SET_MEMORY_ALIAS of Linux 2.6.22). A change prepares all it
 * needs, then publishes a new struct memmap while the vCPUs rest, then frees what is no longer needed. So a change that
 * fails has changed nothing.
 */
#include "kvm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm/handlers.h"
#include "mem/code.h"
#include "mem/mem.h"
#include "os/mem.h"
#include "os/sys.h"
#include "ukvm/abi.h"

#define SLOT_PAGES_MAX ((1ull << 31) - 1) /* the kernel's KVM_MEM_MAX_NR_PAGES */
#define GPA_END BIT64(52)                 /* of kvm_mmu_max_gfn() */
#define ROOM_MIN 32

/* ---- tables ---- */

static size_t map_bytes(u32 room)
{
	return sizeof(struct memmap) + room * sizeof(struct memslot);
}

static void free_tables(struct vm_memory *m)
{
	os_free(m->slot, m->room * sizeof(struct slot));
	os_free(m->map, map_bytes(m->room));
	os_free(m->spare, map_bytes(m->room));
}

/* Both maps are of the size for m->room slots, so they grow together. */
static int make_tables(struct vm_memory *m, u32 room)
{
	m->room = room;
	m->slot = os_alloc(room * sizeof(struct slot));
	m->map = os_alloc(map_bytes(room));
	m->spare = os_alloc(map_bytes(room));
	if (m->slot && m->map && m->spare)
		return 0;
	free_tables(m);
	return -ENOMEM;
}

int vm_memory_init(struct vm *vm)
{
	vm->memory = os_alloc(sizeof(*vm->memory));
	if (!vm->memory)
		return -ENOMEM;
	if (!make_tables(vm->memory, ROOM_MIN))
		return 0;
	os_free(vm->memory, sizeof(*vm->memory));
	vm->memory = NULL;
	return -ENOMEM;
}

static void free_slot(const struct slot *s)
{
	os_free(s->mem.dirty, dirty_log_size(&s->mem));
	if (s->in_vm)
		os_free(s->mem.hva, s->mem.size);
}

void vm_memory_free(struct vm *vm)
{
	struct vm_memory *m = vm->memory;

	if (!m)
		return;
	for (u32 n = 0; n < m->nr_slots; n++)
		free_slot(&m->slot[n]);
	free_tables(m);
	os_free(m, sizeof(*m));
	vm->memory = NULL;
}

struct slot *slot_find(struct vm_memory *m, u32 id)
{
	for (u32 n = 0; n < m->nr_slots; n++)
		if (m->slot[n].id == id)
			return &m->slot[n];
	return NULL;
}

/* The first slot that is not wholly below gpa. */
static u32 slot_position(const struct vm_memory *m, u64 gpa)
{
	u32 lo = 0, hi = m->nr_slots;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (m->slot[mid].mem.gpa + m->slot[mid].mem.size <= gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool overlaps(const struct vm_memory *m, const struct slot *new, const struct slot *except)
{
	for (u32 n = slot_position(m, new->mem.gpa); n < m->nr_slots; n++) {
		if (m->slot[n].mem.gpa >= new->mem.gpa + new->mem.size)
			break;
		if (&m->slot[n] != except)
			return true;
	}
	return false;
}

static void slot_remove(struct vm_memory *m, struct slot *s)
{
	m->nr_slots--;
	memmove(s, s + 1, (size_t)((char *)(m->slot + m->nr_slots) - (char *)s));
}

/* There is room for it. */
static void slot_insert(struct vm_memory *m, const struct slot *new)
{
	u32 at = slot_position(m, new->mem.gpa);

	memmove(&m->slot[at + 1], &m->slot[at], (m->nr_slots - at) * sizeof(*new));
	m->slot[at] = *new;
	m->nr_slots++;
}

/* ---- publishing ---- */

struct change {
	struct memmap *map;
	bool code;                                     /* cached code may come from memory that goes away */
	int (*before)(struct vm *vm, const void *arg); /* done at rest, before the map changes; may be NULL */
	const void *arg;
	int ret;
};

static void install(struct vm *vm, void *arg)
{
	struct change *c = arg;

	if (c->before)
		c->ret = c->before(vm, c->arg);
	for (u32 n = 0; n < vm->nr_vcpus && !c->ret; n++) {
		struct cpu *cpu = &vm->vcpus[n]->cpu;

		cpu->map = c->map;
		tlb_flush(cpu);
		if (c->code)
			code_flush(cpu);
	}
}

/* Builds a map from slots and aliases, and gives it to the vCPUs, unless c->before fails. */
static int publish_change(struct vm *vm, struct change *c)
{
	struct vm_memory *m = vm->memory;

	c->map = m->spare;
	c->map->nr_slots = m->nr_slots;
	for (u32 n = 0; n < m->nr_slots; n++)
		c->map->slot[n] = m->slot[n].mem;
	c->map->nr_aliases = 0;
	for (u32 n = 0; n < MAX_ALIASES; n++)
		if (m->alias[n].size)
			c->map->alias[c->map->nr_aliases++] = m->alias[n];
	vm_rest(vm, install, c);
	if (c->ret)
		return c->ret;
	m->spare = m->map;
	m->map = c->map;
	return 0;
}

static void publish(struct vm *vm, bool code)
{
	struct change c = { .code = code };

	publish_change(vm, &c);
}

/* Room for one more slot. */
static int grow(struct vm *vm)
{
	struct vm_memory *m = vm->memory, old = *m;

	if (m->nr_slots < m->room)
		return 0;
	if (make_tables(m, old.room * 2)) {
		*m = old;
		return -ENOMEM;
	}
	memcpy(m->slot, old.slot, old.nr_slots * sizeof(*m->slot));
	publish(vm, false);
	free_tables(&old);
	return 0;
}

/* ---- memory of the VM fd ---- */

static u64 in_vm_end(const struct vm_memory *m)
{
	u64 end = 0;

	for (u32 n = 0; n < m->nr_slots; n++)
		if (m->slot[n].in_vm && m->slot[n].mem.gpa + m->slot[n].mem.size > end)
			end = m->slot[n].mem.gpa + m->slot[n].mem.size;
	return end;
}

/* The memfd ends where its memory ends, so that touching a mapping behind that is a SIGBUS. */
static void trim(struct vm *vm)
{
	os_ftruncate(vm->obj.fd, in_vm_end(vm->memory));
}

static void punch(struct vm *vm, u64 from, u64 to)
{
	if (from < to)
		os_fallocate(vm->obj.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from);
}

/* Maps [gpa, gpa + size) of the memfd, which grows as needed. */
static int map_in_vm(struct vm *vm, struct slot *s)
{
	u64 end = s->mem.gpa + s->mem.size;
	struct stat st;
	int ret = os_fstat(vm->obj.fd, &st);

	if (!ret && (u64)st.st_size < end)
		ret = os_ftruncate(vm->obj.fd, end);
	if (ret)
		return ret;
	s->mem.hva =
		os_mmap(NULL, s->mem.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, vm->obj.fd, s->mem.gpa);
	return s->mem.hva ? 0 : -ENOMEM;
}

#define CHUNK (64 * 1024ull)

static bool all_zero(const u8 *p, size_t size)
{
	return !size || (!p[0] && !memcmp(p, p + 1, size - 1));
}

/* Copies within the memfd; holes stay holes. */
static int copy_chunk(struct vm *vm, u8 *buf, u64 from, u64 to, u64 size)
{
	int fd = vm->obj.fd;
	long n = os_sys(SYS_pread64, fd, (long)buf, (long)size, (long)from, 0, 0);

	if (n < 0)
		return (int)n;
	memset(buf + n, 0, size - (u64)n);
	if (all_zero(buf, size)) {
		punch(vm, to, to + size);
		return 0;
	}
	n = os_sys(SYS_pwrite64, fd, (long)buf, (long)size, (long)to, 0, 0);
	return n < 0 ? (int)n : 0;
}

/* A slot of the VM fd moves: its contents follow. The ranges may overlap. */
static int move_contents(struct vm *vm, u64 from, u64 to, u64 size)
{
	u8 *buf = os_alloc(CHUNK);
	int ret = buf ? 0 : -ENOMEM;

	for (u64 done = 0, n; done < size && !ret; done += n) {
		n = min_u64(CHUNK, size - done);
		if (to < from)
			ret = copy_chunk(vm, buf, from + done, to + done, n);
		else
			ret = copy_chunk(vm, buf, from + size - done - n, to + size - done - n, n);
	}
	os_free(buf, CHUNK);
	return ret;
}

struct move {
	u64 from, to, size;
};

static int move_at_rest(struct vm *vm, const void *arg)
{
	const struct move *mv = arg;
	u64 end = mv->from + mv->size;
	int ret = move_contents(vm, mv->from, mv->to, mv->size);

	if (ret)
		return ret;
	/* What of the old place is not part of the new one is no memory any more. */
	if (mv->to > mv->from)
		punch(vm, mv->from, min_u64(end, mv->to));
	else
		punch(vm, mv->to + mv->size > mv->from ? mv->to + mv->size : mv->from, end);
	return 0;
}

/* ---- the four kinds of change ---- */

static int alloc_dirty_log(struct slot *s)
{
	s->mem.dirty = os_alloc(dirty_log_size(&s->mem));
	return s->mem.dirty ? 0 : -ENOMEM;
}

static int slot_create(struct vm *vm, struct slot *new)
{
	int ret = grow(vm);

	if (!ret && (new->flags & KVM_MEM_LOG_DIRTY_PAGES))
		ret = alloc_dirty_log(new);
	if (!ret && new->in_vm) {
		ret = map_in_vm(vm, new);
		/* The client may have written here through its mapping while this was no memory. */
		if (!ret)
			punch(vm, new->mem.gpa, new->mem.gpa + new->mem.size);
	}
	if (ret) {
		os_free(new->mem.dirty, dirty_log_size(&new->mem));
		return ret;
	}
	slot_insert(vm->memory, new);
	publish(vm, false);
	return 0;
}

static int slot_delete(struct vm *vm, struct slot *s)
{
	struct slot old = *s;

	slot_remove(vm->memory, s);
	publish(vm, true);
	free_slot(&old);
	if (old.in_vm) {
		punch(vm, old.mem.gpa, old.mem.gpa + old.mem.size);
		trim(vm);
	}
	return 0;
}

/* The log as new->flags want it; *drop is one to free when the vCPUs have forgotten it. */
static int change_log(const struct slot *old, struct slot *new, u64 **drop)
{
	*drop = NULL;
	if (!(new->flags & KVM_MEM_LOG_DIRTY_PAGES))
		*drop = old->mem.dirty;
	else if (old->mem.dirty)
		new->mem.dirty = old->mem.dirty;
	else
		return alloc_dirty_log(new);
	return 0;
}

static void slot_replace(struct vm_memory *m, u32 id, const struct slot *new)
{
	slot_remove(m, slot_find(m, id));
	slot_insert(m, new);
}

/* A slot of the VM fd gets another offset: its contents follow while no vCPU can write them. */
static int slot_move_in_vm(struct vm *vm, const struct slot *old, struct slot *new)
{
	struct move mv = { .from = old->mem.gpa, .to = new->mem.gpa, .size = old->mem.size };
	struct change c = { .code = true, .before = move_at_rest, .arg = &mv };
	int ret = map_in_vm(vm, new);

	if (ret)
		return ret;
	slot_replace(vm->memory, old->id, new);
	ret = publish_change(vm, &c);
	if (ret)
		slot_replace(vm->memory, old->id, old);
	os_free(ret ? new->mem.hva : old->mem.hva, old->mem.size);
	trim(vm);
	return ret;
}

/* A move, or other flags, or both. */
static int slot_modify(struct vm *vm, const struct slot *s, struct slot *new)
{
	const struct slot old = *s;
	u64 *drop;
	int ret = change_log(&old, new, &drop);

	if (ret)
		return ret;
	if (new->in_vm && new->mem.gpa != old.mem.gpa) {
		ret = slot_move_in_vm(vm, &old, new);
	} else {
		slot_replace(vm->memory, old.id, new);
		publish(vm, false);
	}
	if (ret && new->mem.dirty != old.mem.dirty)
		drop = new->mem.dirty;
	else if (ret)
		drop = NULL;
	os_free(drop, dirty_log_size(&old.mem));
	return ret;
}

/* Everything after the checks that do not depend on what there is. Called with vm->lock held. */
static int slot_set(struct vm *vm, struct slot *new)
{
	struct slot *old = slot_find(vm->memory, new->id);

	if (!new->mem.size)
		return old ? slot_delete(vm, old) : -EINVAL;
	if (old) {
		if (old->in_vm != new->in_vm || old->mem.size != new->mem.size ||
		    ((old->flags ^ new->flags) & KVM_MEM_READONLY))
			return -EINVAL;
		if (new->in_vm)
			new->mem.hva = old->mem.hva;
		else if (new->mem.hva != old->mem.hva)
			return -EINVAL;
		if (old->mem.gpa == new->mem.gpa && old->flags == new->flags)
			return 0;
	}
	if ((!old || old->mem.gpa != new->mem.gpa) && overlaps(vm->memory, new, old))
		return -EEXIST;
	if (new->mem.gpa + new->mem.size > GPA_END)
		return -EINVAL;
	return old ? slot_modify(vm, old, new) : slot_create(vm, new);
}

/* ---- ioctls ---- */

/* The order of checks is that of __kvm_set_memory_region(). */
static int set_region(struct vm *vm, struct slot *new)
{
	u64 hva = (u64)(uintptr_t)new->mem.hva;
	int ret;

	if ((new->mem.size | new->mem.gpa | hva) & ~PAGE_MASK)
		return -EINVAL;
	if (new->mem.size > os_user_end() || hva > os_user_end() - new->mem.size)
		return -EINVAL;
	/* One address space: the upper half of the number is 0. */
	if (new->id >= UKVM_MAX_SLOTS)
		return -EINVAL;
	if (new->mem.gpa + new->mem.size < new->mem.gpa || new->mem.size >> PAGE_SHIFT > SLOT_PAGES_MAX)
		return -EINVAL;
	os_lock(&vm->lock);
	ret = slot_set(vm, new);
	os_unlock(&vm->lock);
	return ret;
}

int vm_set_user_memory_region(struct vm *vm, void *arg)
{
	const struct kvm_userspace_memory_region *k = arg;
	struct slot new = {
		.mem = {
			.gpa = k->guest_phys_addr,
			.size = k->memory_size,
			.hva = (u8 *)(uintptr_t)k->userspace_addr,
			.readonly = k->flags & KVM_MEM_READONLY,
		},
		.id = k->slot,
		.flags = k->flags,
	};

	if (k->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	return set_region(vm, &new);
}

int vm_set_memory_region(struct vm *vm, void *arg)
{
	const struct kvm_memory_region *k = arg;
	struct slot new = {
		.mem = { .gpa = k->guest_phys_addr, .size = k->memory_size },
		.id = k->slot,
		.flags = k->flags,
		.in_vm = true,
	};

	if (k->flags & ~KVM_MEM_LOG_DIRTY_PAGES)
		return -EINVAL;
	return set_region(vm, &new);
}

int vm_set_memory_alias(struct vm *vm, void *arg)
{
	const struct kvm_memory_alias *k = arg;

	if (k->slot >= MAX_ALIASES || k->flags)
		return -EINVAL;
	if ((k->memory_size | k->guest_phys_addr | k->target_phys_addr) & ~PAGE_MASK)
		return -EINVAL;
	if (k->guest_phys_addr + k->memory_size < k->guest_phys_addr ||
	    k->target_phys_addr + k->memory_size < k->target_phys_addr)
		return -EINVAL;
	os_lock(&vm->lock);
	vm->memory->alias[k->slot] = (struct memalias){
		.gpa = k->guest_phys_addr,
		.size = k->memory_size,
		.target = k->target_phys_addr,
	};
	publish(vm, false);
	os_unlock(&vm->lock);
	return 0;
}
