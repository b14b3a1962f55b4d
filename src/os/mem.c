// SPDX-License-Identifier: MIT
#include "os/mem.h"

#include <sys/mman.h>

#include "os/sys.h"

void *os_alloc(size_t size)
{
	return os_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void *os_alloc_exec(size_t size)
{
	return os_mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);
}

void os_free(void *p, size_t size)
{
	if (p)
		os_munmap(p, size);
}

void *os_page_wiped_by_fork(void **where)
{
	void *page = __atomic_load_n(where, __ATOMIC_ACQUIRE), *none = NULL;

	if (__builtin_expect(page != NULL, 1))
		return page;
	page = os_alloc(PAGE_SIZE);
	if (!page)
		return NULL;
	os_madvise(page, PAGE_SIZE, MADV_WIPEONFORK);
	if (__atomic_compare_exchange_n(where, &none, page, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return page;
	os_free(page, PAGE_SIZE);
	return none;
}

/* With five-level paging the kernel hands out addresses above 47 bits, but only to those who ask for them. */
unsigned long os_user_end(void)
{
	static unsigned long end; /* the same for all; racing threads store the same */
	unsigned long e = __atomic_load_n(&end, __ATOMIC_RELAXED);
	void *p;

	if (e)
		return e;
	p = os_mmap((void *)(1ul << 48), PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	e = (1ul << ((unsigned long)p >= 1ul << 47 ? 56 : 47)) - PAGE_SIZE;
	os_free(p, PAGE_SIZE);
	__atomic_store_n(&end, e, __ATOMIC_RELAXED);
	return e;
}
