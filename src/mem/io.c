// SPDX-License-Identifier: MIT
/*
 * Memory-mapped I/O. An instruction that touches a device of the client runs once more for each answer, and finds the
 * earlier answers in cpu::io (design rule 4). Entries are matched by what they are, not only by their place: slots may
 * have changed meanwhile.
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
	struct io_access *a;

	if (io->n == IO_LOG_MAX)
		return NULL;
	a = &io->acc[io->n++];
	*a = (struct io_access){ .gpa = gpa, .len = (u8)len, .write = write };
	io->cursor = io->n;
	return a;
}

/* An unanswered entry is one that the client never came back for, or that its register changes made obsolete. */
static void io_drop_unanswered(struct io_log *io)
{
	if (io->n && !io->acc[io->n - 1].answered)
		io->n--;
	if (io->cursor > io->n)
		io->cursor = io->n;
}

/* One fragment: at most 8 bytes. */
static int mmio_fragment(struct cpu *c, u64 gpa, u8 *data, unsigned len, bool write)
{
	struct io_access *a;

	io_drop_unanswered(&c->io);
	a = io_find(&c->io, gpa, len, write);
	if (a) {
		if (!write)
			memcpy(data, &a->data, len);
		return ST_OK;
	}
	if (c->host && c->host->mmio && c->host->mmio(c->host_ctx, gpa, len, write, data)) {
		/* Remembered only where the instruction is going to run again anyway. */
		a = c->io.n ? io_append(&c->io, gpa, len, write) : NULL;
		if (a) {
			a->answered = true;
			memcpy(&a->data, data, len);
		}
		return ST_OK;
	}
	a = io_append(&c->io, gpa, len, write);
	if (!a) {
		c->exit = (struct exit){ .reason = EXIT_INTERNAL };
		return ST_EXIT;
	}
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

int mmio_access(struct cpu *c, u64 gpa, void *data, unsigned size, bool write)
{
	u8 *p = data;
	int st;

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
