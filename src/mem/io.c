// SPDX-License-Identifier: MIT
/*
 * Memory-mapped I/O. An instruction that touches a device of the client runs once more for each answer, and finds the
 * earlier answers in cpu::io (design rule 4). Entries are matched by what they are, not only by their place: slots may
 * have changed meanwhile.
 *
 * Writes that are served here (ioeventfds, coalesced MMIO) are noted as well, so that they are not made again if a
 * later access of the same instruction needs the client. Nobody tells that an instruction within a block is complete:
 * that another one makes an access is seen by its RIP, of which there is one in a block, and between two blocks ATTN_IO
 * empties the log.
 */
#include <string.h>

#include "mem/tlb.h"

static struct io_access *io_find(struct io_log *io, u64 gpa, unsigned len, bool write)
{
	for (u32 n = io->cursor; n < io->n; n++) {
		struct io_access *a = &io->acc[n];

		if (a->gpa == gpa && a->len == len && a->write == write && a->answered) {
			io->cursor = n + 1;
			return a;
		}
	}
	return NULL;
}

static struct io_access *io_append(struct io_log *io, u64 gpa, unsigned len, bool write)
{
	struct io_access *a = &io->acc[io->n++];

	*a = (struct io_access){ .gpa = gpa, .len = (u8)len, .write = write };
	io->cursor = io->n;
	return a;
}

/* The log as this instruction has to see it. */
static struct io_log *io_log_of_insn(struct cpu *c)
{
	struct io_log *io = &c->io;

	if (io->rip != c->gpr[R_RIP])
		io_log_clear(c);
	io->rip = c->gpr[R_RIP];
	/* One that is unanswered: the client never came back for it, or its register changes made it obsolete. */
	if (io->n && !io->acc[io->n - 1].answered)
		io->n--;
	if (io->cursor > io->n)
		io->cursor = io->n;
	return io;
}

/* Does a device in this process take it? */
static bool io_local(struct cpu *c, u64 gpa, u8 *data, unsigned len, bool write)
{
	struct io_access *a;

	if (!c->host || !c->host->mmio || !c->host->mmio(c->host_ctx, gpa, len, write, data))
		return false;
	a = io_append(&c->io, gpa, len, write);
	memcpy(&a->data, data, len);
	a->answered = true;
	cpu_attn(c, ATTN_IO);
	return true;
}

static int io_ask(struct cpu *c, u64 gpa, const u8 *data, unsigned len, bool write)
{
	io_append(&c->io, gpa, len, write);
	c->exit.reason = EXIT_MMIO;
	c->exit.mmio.gpa = gpa;
	c->exit.mmio.len = len;
	c->exit.mmio.write = write;
	memset(c->exit.mmio.data, 0, sizeof(c->exit.mmio.data));
	if (write)
		memcpy(c->exit.mmio.data, data, len);
	c->stats.mmio++;
	return ST_EXIT;
}

/* One fragment: at most 8 bytes. */
static int mmio_fragment(struct cpu *c, u64 gpa, u8 *data, unsigned len, bool write)
{
	struct io_log *io = io_log_of_insn(c);
	struct io_access *a = io_find(io, gpa, len, write);

	if (a) {
		if (!write)
			memcpy(data, &a->data, len);
		return ST_OK;
	}
	if (io->n == IO_LOG_MAX) {
		c->exit = (struct exit){ .reason = EXIT_INTERNAL };
		return ST_EXIT;
	}
	return io_local(c, gpa, data, len, write) ? ST_OK : io_ask(c, gpa, data, len, write);
}

/*
 * The IDT, a TSS or the stack of an event on its way is a device. The kernel's KVM emulates instructions, but not this:
 * KVM_INTERNAL_ERROR_DELIVERY_EV, with the event still to be delivered.
 */
static int delivery_fails(struct cpu *c, u64 gpa)
{
	c->exit = (struct exit){ .reason = EXIT_DELIVERY, .delivery = { c->vectoring, gpa } };
	return ST_EXIT;
}

int mmio_access(struct cpu *c, u64 gpa, void *data, unsigned size, bool write)
{
	u8 *p = data;
	int st;

	if (unlikely(c->vectoring))
		return delivery_fails(c, gpa);
	while (size) {
		unsigned len = size < 8 ? size : 8;

		st = mmio_fragment(c, gpa, p, len, write);
		if (st)
			return st;
		gpa += len;
		p += len;
		size -= len;
	}
	return ST_OK;
}
