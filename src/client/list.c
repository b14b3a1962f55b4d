// SPDX-License-Identifier: MIT
#include "client/list.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "kvm/caps.h"
#include "kvm/ioctl.h"

enum kind { END, TEXT, DEC, HEX, FLAG };

struct column {
	const char *name;
	enum kind kind;
	int width; /* of the text form; 0 for the last column */
};

/* One value; which member is used follows from the column. */
union value {
	const char *text;
	u64 number;
};

struct table {
	const struct column *columns;
	bool json;
	bool begun;
};

static void json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('"');
}

static void json_row(const struct column *c, const union value *v)
{
	for (const char *sep = "  { "; c->kind != END; c++, v++, sep = ", ") {
		printf("%s\"%s\": ", sep, c->name);
		switch (c->kind) {
		case TEXT:
			json_string(v->text);
			break;
		case FLAG:
			fputs(v->number ? "true" : "false", stdout);
			break;
		default:
			printf("%llu", (unsigned long long)v->number);
		}
	}
	fputs(" }", stdout);
}

static void text_row(const struct column *c, const union value *v)
{
	for (; c->kind != END; c++, v++) {
		char cell[24];
		const char *s = cell;

		if (c->kind == TEXT)
			s = v->text;
		else if (c->kind == FLAG)
			s = v->number ? "yes" : "no";
		else
			snprintf(cell, sizeof(cell), c->kind == HEX ? "0x%llx" : "%llu", (unsigned long long)v->number);
		printf("%-*s%s", c->width, s, c[1].kind == END ? "\n" : " ");
	}
}

static void heading(const struct column *c)
{
	for (; c->kind != END; c++)
		printf("%-*s%s", c->width, c->name, c[1].kind == END ? "\n" : " ");
}

static void row(struct table *t, const union value *v)
{
	if (t->json) {
		fputs(t->begun ? ",\n" : "[\n", stdout);
		json_row(t->columns, v);
	} else {
		if (!t->begun)
			heading(t->columns);
		text_row(t->columns, v);
	}
	t->begun = true;
}

#define ROW(t, ...) row(t, (const union value[]){ __VA_ARGS__ })
#define T(s) { .text = (s) }
#define N(n) { .number = (n) }

/* clang-format off */
static const struct column ioctl_columns[] = {
	{ "name", TEXT, 30 }, { "request", HEX, 10 }, { "fd", TEXT, 8 }, { "argument", TEXT, 8 }, { "size", DEC, 5 },
	{ "direction", TEXT, 9 }, { "since", TEXT, 6 }, { "text", TEXT, 0 }, { 0 },
};
static const struct column cap_columns[] = {
	{ "name", TEXT, 37 }, { "number", DEC, 6 }, { "value", DEC, 10 }, { "text", TEXT, 0 }, { 0 },
};
static const struct column msr_columns[] = {
	{ "first", HEX, 10 }, { "last", HEX, 10 }, { "saved", FLAG, 5 }, { "feature", FLAG, 7 },
	{ "name", TEXT, 0 }, { 0 },
};
static const struct column cpuid_columns[] = {
	{ "leaf", HEX, 10 }, { "subleaf", DEC, 7 }, { "register", TEXT, 8 }, { "bit", DEC, 3 },
	{ "source", TEXT, 6 }, { "supported", FLAG, 9 }, { "name", TEXT, 0 }, { 0 },
};
/* clang-format on */

static void list_ioctls(struct table *t)
{
	static const char *const fds[] = { [OBJ_SYSTEM] = "/dev/kvm", [OBJ_VM] = "VM", [OBJ_VCPU] = "vCPU" };
	static const char *const args[] = { "NONE", "ZERO", "VALUE", "COPY", "USER" };
	static const char *const directions[] = { "-", "in", "out", "in/out" }; /* _IOC_WRITE: the client writes */

	t->columns = ioctl_columns;
	for (u32 n = 0; n < nr_ioctl_rows; n++) {
		const struct ioctl_row *r = &ioctl_rows[n];

		ROW(t, T(r->name), N(r->request), T(fds[r->class]), T(args[r->arg]), N(_IOC_SIZE(r->request)),
		    T(directions[_IOC_DIR(r->request) & 3]), T(r->since), T(r->text));
	}
}

static void list_caps(struct table *t)
{
	t->columns = cap_columns;
	for (u32 n = 0; n < nr_cap_rows; n++)
		ROW(t, T(cap_rows[n].name), N(cap_rows[n].cap), N((u32)cap_value(cap_rows[n].cap)),
		    T(cap_rows[n].text));
}

static void list_msrs(struct table *t)
{
	const struct msr_row *m;

	t->columns = msr_columns;
	for (u32 n = 0; (m = cpu_msr_row(n)); n++)
		ROW(t, N(m->first), N(m->last), N(m->saved), N(m->feature), T(m->name));
}

static bool is_supported(const struct cpuid_bit *b, const struct cpuid_entry *e, u32 nr)
{
	for (; nr--; e++)
		if (e->function == b->leaf && e->index == b->subleaf)
			return (&e->eax)[b->reg] >> b->bit & 1;
	return false;
}

static void list_cpuid(struct table *t)
{
	static const char *const regs[] = { "EAX", "EBX", "ECX", "EDX" };
	static const char *const sources[] = { "never", "host", "ymm", "engine" };
	struct cpuid_entry have[256];
	u32 nr = cpuid_supported(have, ARRAY_SIZE(have));

	t->columns = cpuid_columns;
	for (u32 n = 0; n < nr_cpuid_bits; n++) {
		const struct cpuid_bit *b = &cpuid_bits[n];

		ROW(t, N(b->leaf), N(b->subleaf), T(regs[b->reg]), N(b->bit), T(sources[b->source]),
		    N(is_supported(b, have, nr)), T(b->name));
	}
}

int list_print(const char *what, bool json)
{
	static const struct {
		const char *name;
		void (*fn)(struct table *t);
	} lists[] = {
		{ "ioctls", list_ioctls },
		{ "caps", list_caps },
		{ "msrs", list_msrs },
		{ "cpuid", list_cpuid },
	};
	struct table t = { .json = json };

	for (unsigned n = 0; n < ARRAY_SIZE(lists); n++) {
		if (strcmp(what, lists[n].name))
			continue;
		lists[n].fn(&t);
		if (json)
			puts(t.begun ? "\n]" : "[]");
		return fflush(stdout) || ferror(stdout) ? 1 : 0;
	}
	fprintf(stderr, "ukvm: --list %s: there are lists of ioctls, caps, msrs and cpuid\n", what);
	return 2;
}
