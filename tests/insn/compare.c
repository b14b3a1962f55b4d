// SPDX-License-Identifier: MIT
#include "compare.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cpu/fpu.h"

static char text[256];

static __attribute__((format(printf, 1, 2))) const char *differs(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return text;
}

/* ---- the fault ---- */

/* Linux says of every address in its own half that there is a page. */
static u32 shown_error(const struct outcome *o)
{
	return o->vector == VEC_PF && o->cr2 >= 0x7ffffffff000 ? o->error | PF_P : o->error;
}

/* In one large operand, on the same page or across the end of the address space. */
static bool near_each_other(u64 a, u64 b)
{
	return (u32)(a - b + 1024) <= 2048 || !((a ^ b) >> 12);
}

static const char *compare_fault(const struct test_case *t, const struct outcome *a, const struct outcome *b)
{
	bool other_page;

	if (a->vector != b->vector)
		return differs("vector %d, not %d (its error code %#x, cr2 %#llx, rip %#llx)", b->vector, a->vector,
			       b->error, (unsigned long long)b->cr2, (unsigned long long)b->s.rip);
	other_page = t->coarse_cr2 && (a->cr2 ^ b->cr2) >> 12;
	if (shown_error(a) != shown_error(b) && !other_page)
		return differs("error code %#x, not %#x (vector %d)", b->error, a->error, a->vector);
	if (a->cr2 != b->cr2 && !(t->coarse_cr2 && near_each_other(a->cr2, b->cr2)))
		return differs("cr2 %#llx, not %#llx", (unsigned long long)b->cr2, (unsigned long long)a->cr2);
	if (a->exit != b->exit)
		return differs("end %u, not %u", b->exit, a->exit);
	if (a->s.rip != b->s.rip)
		return differs("rip %#llx, not %#llx (vector %d)", (unsigned long long)b->s.rip,
			       (unsigned long long)a->s.rip, a->vector);
	return NULL;
}

/* ---- registers ---- */

/*
 * NT: a host that is a virtual machine itself may lose it in an exception or interrupt. RF: the engine keeps one that
 * IRET loaded only where there is a breakpoint to be ignored; a fault sets it anyway.
 */
static u64 ignored_flags(const struct outcome *o)
{
	return o->vector == VEC_DB || o->vector == VEC_BP || o->vector == VEC_OF ? FL_NT | FL_RF : FL_NT;
}

static const char *compare_integer(const struct state *a, const struct state *b, u64 ignored)
{
	static const char *const names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
	static const char *const segs[6] = { "es", "cs", "ss", "ds", "fs", "gs" };

	for (unsigned n = 0; n < 16; n++)
		if (a->gpr[n] != b->gpr[n])
			return differs("%s %#llx, not %#llx", names[n], (unsigned long long)b->gpr[n],
				       (unsigned long long)a->gpr[n]);
	if ((a->rflags ^ b->rflags) & ~ignored)
		return differs("rflags %#llx, not %#llx", (unsigned long long)b->rflags,
			       (unsigned long long)a->rflags);
	for (unsigned n = 0; n < 6; n++)
		if (a->sel[n] != b->sel[n] && (a->sel[n] | b->sel[n]) > 3) /* Linux makes 0 of other null selectors */
			return differs("%s %#x, not %#x", segs[n], b->sel[n], a->sel[n]);
	return NULL;
}

struct field {
	const char *name;
	u16 off, size;
	bool pointer;
};

static const char *hex(char *to, const u8 *from, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		sprintf(to + 2 * k, "%02x", from[n - 1 - k]);
	return to;
}

static const char *field_differs(const char *name, const u8 *a, const u8 *b, unsigned n)
{
	char was[40], should[40];

	return differs("%s %s, not %s", name, hex(was, b, n), hex(should, a, n));
}

/*
 * An unmasked overflow or underflow stops before the result is made to fit, and PE tells whether that one is exact; the
 * engine sees the host's masked result, which is not.
 */
static u32 ignored_mxcsr(const struct outcome *o)
{
	u32 mxcsr;

	memcpy(&mxcsr, o->s.xsave + 24, 4);
	return o->vector == VEC_XM && mxcsr & ~(mxcsr >> 7) & 0x18 ? 0x20 : 0;
}

static const char *compare_vectors(const u8 *a, u8 *b, u32 ignored, bool pointers)
{
	static const struct field fields[] = {
		{ "fcw", 0, 2, false }, { "fsw", 2, 2, false }, { "ftw", 4, 1, false },   { "fop", 6, 2, true },
		{ "fip", 8, 4, true },  { "fdp", 16, 4, true }, { "mxcsr", 24, 4, false },
	};
	char name[8];

	b[24] = (u8)((b[24] & ~ignored) | (a[24] & ignored));
	for (unsigned n = 0; n < ARRAY_SIZE(fields); n++) {
		/* AMD's CPUs save the pointers to an instruction only if its exception is still pending. */
		if (fields[n].pointer && !(pointers && a[2] & FSW_ES))
			continue;
		if (memcmp(a + fields[n].off, b + fields[n].off, fields[n].size))
			return field_differs(fields[n].name, a + fields[n].off, b + fields[n].off, fields[n].size);
	}
	for (unsigned n = 0; n < 8; n++) {
		unsigned off = 32 + 16 * n;

		snprintf(name, sizeof(name), "st%u", n);
		if (memcmp(a + off, b + off, 10))
			return field_differs(name, a + off, b + off, 10);
	}
	for (unsigned n = 0; n < 32; n++) {
		unsigned off = n < 16 ? 160 + 16 * n : 576 + 16 * (n - 16);

		snprintf(name, sizeof(name), "%s%u", n < 16 ? "xmm" : "ymmh", n & 15);
		if (memcmp(a + off, b + off, 16))
			return field_differs(name, a + off, b + off, 16);
	}
	return NULL;
}

/* What is at this address (4 bytes) is not to be compared. */
static void hide(u64 linear, u8 *mem)
{
	for (unsigned n = 0; n < 4; n++, linear++)
		for (unsigned k = 0; k < NR_MEM_PAGES; k++)
			if (linear >> 12 == mem_pages[k].linear >> 12)
				mem[k * 4096 + (linear & 4095)] = 0;
}

static const char *compare_memory(const struct test_case *t, u8 *a, u8 *b)
{
	unsigned n = 0;

	if (t->mxcsr_mask_at) {
		hide(t->mxcsr_mask_at, a);
		hide(t->mxcsr_mask_at, b);
	}
	if (!memcmp(a, b, MEM_SIZE))
		return NULL;
	while (a[n] == b[n])
		n++;
	return differs("memory at %#x: %02x, not %02x", mem_pages[n / 4096].linear + n % 4096, b[n], a[n]);
}

const char *compare(const struct test_case *t, const struct outcome *cpu, struct outcome *engine,
		    u8 *cpu_mem, u8 *engine_mem)
{
	const char *d;

	/* It found its way to where the native side has something, and the engine has not; or was stepping there. */
	if (engine->vector == VEC_PF && engine->cr2 >> 12 == EXIT_BASE >> 12)
		return NULL;
	if (cpu->vector == VEC_DB && cpu->s.rip >> 12 == EXIT_BASE >> 12 && cpu->s.rip % EXIT_SPACING)
		return NULL;
	/* The engine looks at the flags of a dot product when all of its steps are done, and at its last result. */
	if (t->steps && cpu->vector == VEC_XM)
		return NULL;
	d = compare_fault(t, cpu, engine);

	if (!d)
		d = compare_integer(&cpu->s, &engine->s, ignored_flags(cpu));
	if (!d)
		d = compare_vectors(cpu->s.xsave, engine->s.xsave, ignored_mxcsr(cpu),
				    t->width == WIDTH_64);
	return d ? d : compare_memory(t, cpu_mem, engine_mem);
}

const char *compare_engines(const struct test_case *t, const struct outcome *memory, struct outcome *devices,
			    u8 *memory_image, u8 *device_image)
{
	const struct state *a = &memory->s, *b = &devices->s;
	const char *d = compare_fault(t, memory, devices);

	if (!d)
		d = compare_integer(a, b, 0);
	if (!d && memcmp(a->xsave, b->xsave, sizeof(a->xsave)))
		d = compare_vectors(a->xsave, devices->s.xsave, 0, true) ?: differs("x87 pointers");
	if (!d && memcmp(memory_image, device_image, MEM_SIZE))
		d = compare_memory(t, memory_image, device_image);
	return d;
}
