// SPDX-License-Identifier: MIT
/* Instructions that do nothing here, or little: order memory accesses, let others run. */
#include "cpu/tsc.h"
#include "interp/impl.h"
#include "os/sys.h"

/*
 * A loop of PAUSEs waits for another vCPU, or for the client; and with more threads than processors that thread may be
 * waiting for this processor. As on hardware with PAUSE-loop exiting (SDM vol. 3, 25.6.13): PAUSEs no further apart
 * than GAP are of one loop, and a loop that lasts for WINDOW gives way.
 */
#define SPIN_GAP 2000
#define SPIN_WINDOW 10000

HANDLER(do_nothing)
{
	(void)c;
	(void)i;
	return ST_OK;
}
IMPL_ANY(nop, do_nothing);

HANDLER(do_pause)
{
	u64 now = host_tsc();

	(void)i;
	if (now - c->spin.last > SPIN_GAP)
		c->spin.since = now;
	if (now - c->spin.since > SPIN_WINDOW) {
		os_yield();
		now = c->spin.since = host_tsc();
	}
	c->spin.last = now;
	return ST_OK;
}
IMPL_ANY(pause, do_pause);

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
