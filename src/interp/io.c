// SPDX-License-Identifier: MIT
/*
 * Port I/O: permission, IN and OUT, and the protocol with the client. An access that no device in this process takes is
 * put to cpu::pio and ends KVM_RUN; the client's next KVM_RUN is the answer, and the instruction, executed again, finds
 * it. The repeated forms are in string.c.
 */
#include <string.h>

#include "cpu/debug.h"
#include "interp/impl.h"

/* ---- permission (SDM vol. 1, 19.5.2) ---- */
#define TSS_IO_BASE 102 /* offset of the bitmap's offset in a 32- and 64-bit TSS */
#define TSS_IO_MIN_LIMIT 103

static int check_bitmap(struct cpu *c, u16 port, unsigned bytes)
{
	const struct seg *tr = &c->seg[SEG_TR];
	u16 base = 0, map = 0;
	int st;

	/* 16-bit TSSs have no bitmap: available 32-bit is type 9, busy 11. */
	if ((tr->attr & ATTR_UNUSABLE) || (tr->attr & 0xd) != 9 || tr->limit < TSS_IO_MIN_LIMIT)
		return fault_gp(c, 0);
	st = mem_read_sys(c, tr->base + TSS_IO_BASE, &base, sizeof(base));
	if (st)
		return st;
	/* Two bytes are read always, and have to be within the segment. */
	if ((u64)base + port / 8 + 1 > tr->limit)
		return fault_gp(c, 0);
	st = mem_read_sys(c, tr->base + base + port / 8, &map, sizeof(map));
	if (st)
		return st;
	return (map >> (port & 7)) & ((1u << bytes) - 1) ? fault_gp(c, 0) : ST_OK;
}

int port_check(struct cpu *c, u16 port, unsigned bytes)
{
	if (c->mode == CPU_REAL || (c->mode != CPU_VM86 && c->cpl <= cpu_iopl(c)))
		return ST_OK;
	return check_bitmap(c, port, bytes);
}

/* ---- the client ---- */
u32 pio_answered(struct cpu *c, u16 port, unsigned bytes, bool in, u64 max)
{
	struct pio *p = &c->pio;

	if (!p->pending)
		return 0;
	if (p->answered && p->port == port && p->size == bytes && p->in == in && p->count <= max)
		return p->count;
	/* Somebody moved the guest on meanwhile. */
	p->pending = p->answered = false;
	return 0;
}

void pio_consume(struct cpu *c, u32 n)
{
	struct pio *p = &c->pio;

	if (unlikely(c->bp.port))
		debug_port(c, p->port, p->size);
	p->count -= n;
	if (p->count)
		memmove(p->data, p->data + n * p->size, p->count * p->size);
	else
		p->pending = p->answered = false;
}

int pio_ask(struct cpu *c, u16 port, unsigned bytes, bool in, u32 count)
{
	struct pio *p = &c->pio;

	p->port = port;
	p->size = (u8)bytes;
	p->in = in;
	p->count = count;
	p->pending = true;
	p->answered = false;
	c->exit.reason = EXIT_IO;
	c->exit.io.port = port;
	c->exit.io.size = (u8)bytes;
	c->exit.io.in = in;
	c->exit.io.count = count;
	c->stats.pio++;
	return ST_EXIT;
}

bool pio_local(struct cpu *c, u16 port, unsigned bytes, bool in, u32 *data)
{
	if (!c->host || !c->host->pio || !c->host->pio(c->host_ctx, port, bytes, !in, data))
		return false;
	if (unlikely(c->bp.port))
		debug_port(c, port, bytes);
	return true;
}

int port_in(struct cpu *c, u16 port, unsigned bytes, u32 *data)
{
	*data = 0;
	if (pio_answered(c, port, bytes, true, 1)) {
		memcpy(data, c->pio.data, bytes);
		pio_consume(c, 1);
		return ST_OK;
	}
	return pio_local(c, port, bytes, true, data) ? ST_OK : pio_ask(c, port, bytes, true, 1);
}

int port_out(struct cpu *c, u16 port, unsigned bytes, u32 data)
{
	if (pio_answered(c, port, bytes, false, 1)) {
		pio_consume(c, 1);
		return ST_OK;
	}
	if (pio_local(c, port, bytes, false, &data))
		return ST_OK;
	memcpy(c->pio.data, &data, bytes);
	return pio_ask(c, port, bytes, false, 1);
}

/* ---- IN, OUT: the port is the immediate (FORM_RI) or in DX ---- */
static u16 port_operand(const struct cpu *c, const struct insn *i)
{
	return i->form == FORM_RI ? (u16)i->imm : REG16(c, RDX * 8);
}

HANDLER(do_in)
{
	u16 port = port_operand(c, i);
	u32 data;
	int st = port_check(c, port, 1u << i->size);

	if (!st)
		st = port_in(c, port, 1u << i->size, &data);
	if (unlikely(st))
		return st;
	reg_write(c, RAX * 8, i->size, data);
	return ST_OK;
}
IMPL_ANY(in, do_in);

HANDLER(do_out)
{
	u16 port = port_operand(c, i);
	int st = port_check(c, port, 1u << i->size);

	return st ? st : port_out(c, port, 1u << i->size, (u32)reg_read(c, RAX * 8, i->size));
}
IMPL_ANY(out, do_out);
