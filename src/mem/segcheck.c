// SPDX-License-Identifier: MIT
/* The segment's word in an access (SDM vol. 3, 5.3 to 5.5), exactly; the fast path only asks rd_end and wr_end. */
#include "mem/mem.h"

#define TYPE_CODE BIT(3)
#define TYPE_EXPAND_DOWN BIT(2) /* data segments */
#define TYPE_WRITABLE BIT(1)    /* data segments */
#define TYPE_READABLE BIT(1)    /* code segments */

static bool type_allows(const struct seg *s, enum mem_access how)
{
	if (s->attr & ATTR_UNUSABLE)
		return false;
	if (s->attr & TYPE_CODE)
		return how == MEM_EXEC || (how == MEM_READ && (s->attr & TYPE_READABLE));
	return how == MEM_READ || (how == MEM_WRITE && (s->attr & TYPE_WRITABLE));
}

static bool limit_allows(const struct seg *s, u64 ea, u64 size)
{
	u64 last = ea + size - 1;

	if (!(s->attr & TYPE_CODE) && (s->attr & TYPE_EXPAND_DOWN))
		return ea > s->limit && last <= (s->attr & ATTR_DB ? 0xffffffffu : 0xffffu);
	return last <= s->limit;
}

static bool canonical(u64 lin)
{
	return (u64)((s64)(lin << 16) >> 16) == lin;
}

int seg_check(struct cpu *c, unsigned seg, u64 ea, u64 size, enum mem_access how, u64 *lin)
{
	const struct seg *s = &c->seg[seg];
	bool ok;

	*lin = (s->base + ea) & c->lin_mask;
	if (c->mode == CPU_LONG) {
		ok = canonical(*lin) && canonical(*lin + size - 1);
	} else {
		ok = limit_allows(s, ea, size);
		if (c->mode >= CPU_PROT)
			ok = ok && type_allows(s, how);
	}
	if (likely(ok))
		return ST_OK;
	return fault_err(c, seg == SEG_SS || seg == SEG_FLAT_SS ? VEC_SS : VEC_GP, 0);
}
