// SPDX-License-Identifier: MIT
#include "os/mem.h"

#include <sys/mman.h>

#include "os/sys.h"

void *os_alloc(size_t size)
{
	return os_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void os_free(void *p, size_t size)
{
	if (p)
		os_munmap(p, size);
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
