// SPDX-License-Identifier: MIT
/* Instructions that do nothing here, or nothing but order memory accesses. */
#include "interp/impl.h"

HANDLER(do_nothing)
{
	(void)c;
	(void)i;
	return ST_OK;
}
IMPL_ANY(nop, do_nothing);
IMPL_ANY(pause, do_nothing);

/* Guest accesses are host accesses, so the host's fences are the guest's. */
#define FENCE(name)												       \
	HANDLER(do_##name)											       \
	{													       \
		(void)c;											       \
		(void)i;											       \
		asm volatile(#name : : : "memory");								       \
		return ST_OK;											       \
	}													       \
	IMPL_ANY(name, do_##name)
FENCE(mfence);
FENCE(lfence);
FENCE(sfence);

/* Caches are the host's business; but the address is checked like that of a byte load (SDM vol. 2, CLFLUSH). */
HANDLER(flush_line)
{
	return mem_probe(c, i->seg, insn_ea(c, i), 1, MEM_READ);
}
IMPL_ANY(clflush, flush_line);
IMPL_ANY(clflushopt, flush_line);
IMPL_ANY(clwb, flush_line);
