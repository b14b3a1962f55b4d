// SPDX-License-Identifier: MIT
/*
 * Every mode of the CPU and every exception, as the SDM has them (vol. 3, chapters 4 to 7 and 20): the rows of
 * modes_faults.S and modes_system.S, one fault each, and the guest of modes_walk.S that goes through all modes by
 * itself.
 */
#include "modes.h"

#include <cpuid.h>

#include "api.h"

#define NR_VECTORS 256

static void put(struct machine *m, u64 gpa, u64 value, unsigned size)
{
	memcpy(m->mem + gpa, &value, size);
}

static u64 get(struct machine *m, u64 gpa, unsigned size)
{
	u64 value = 0;

	memcpy(&value, m->mem + gpa, size);
	return value;
}

/* ---- descriptors ---- */

/* Descriptor bits 40-47 and 52-55 */
#define P 0x80
#define DPL3 0x60
#define S 0x10
#define CODE_RX (P | S | 0xb)
#define CODE_X (P | S | 0x9)
#define CODE_CONFORMING (P | S | 0xf)
#define DATA_RW (P | S | 0x3)
#define DATA_RO (P | S | 0x1)
#define DATA_DOWN (P | S | 0x7)
#define SYS_LDT 0x2
#define SYS_TSS 0x9
#define SYS_TSS_BUSY 0xb
#define SYS_CALL16 0x4
#define SYS_TASK 0x5
#define SYS_CALL 0xc
#define SYS_INT 0xe
#define WIDE64 0x2
#define WIDE32 0x4
#define GRAN4K 0x8

static u64 descriptor(u32 base, u32 limit, u64 access, u64 flags)
{
	return (limit & 0xffff) | (base & 0xffffffull) << 16 | access << 40 | (limit & 0xf0000ull) << 32 | flags << 52 |
	       (u64)(base >> 24) << 56;
}

static u64 gate(u16 sel, u32 off, u64 access, unsigned params)
{
	return (off & 0xffff) | (u64)sel << 16 | (u64)params << 32 | access << 40 | (off & 0xffff0000ull) << 32;
}

static const struct {
	u16 sel;
	u32 base, limit, access, flags;
} segments[] = {
	{ KCODE, 0, 0xfffff, CODE_RX, WIDE32 | GRAN4K },
	{ KDATA, 0, 0xfffff, DATA_RW, WIDE32 | GRAN4K },
	{ UCODE, 0, 0xfffff, CODE_RX | DPL3, WIDE32 | GRAN4K },
	{ UDATA, 0, 0xfffff, DATA_RW | DPL3, WIDE32 | GRAN4K },
	{ UCODE64, 0, 0xfffff, CODE_RX | DPL3, WIDE64 | GRAN4K },
	{ KCODE64, 0, 0xfffff, CODE_RX, WIDE64 | GRAN4K },
	{ KDATA64, 0, 0xfffff, DATA_RW, WIDE32 | GRAN4K },
	{ KCODE16, 0, 0xffff, CODE_RX, 0 },
	{ KDATA16, 0, 0xffff, DATA_RW, 0 },
	{ SMALL, DATA, 0xfff, DATA_RW, WIDE32 },
	{ DOWN, 0, 0x1fff, DATA_DOWN, WIDE32 },
	{ DOWN16, 0, 0x1fff, DATA_DOWN, 0 },
	{ ABSENT_DATA, 0, 0xfffff, DATA_RW & ~P, WIDE32 | GRAN4K },
	{ ABSENT_CODE, 0, 0xfffff, CODE_RX & ~P, WIDE32 | GRAN4K },
	{ READ_ONLY, 0, 0xfffff, DATA_RO, WIDE32 | GRAN4K },
	{ EXEC_ONLY, 0, 0xfffff, CODE_X, WIDE32 | GRAN4K },
	{ CONFORMING, 0, 0xfffff, CODE_CONFORMING, WIDE32 | GRAN4K },
	{ SEL_LDT, LDT, LDT_LIMIT, P | SYS_LDT, 0 },
	{ SEL_TSS, TSS, TSS_LIMIT, P | SYS_TSS_BUSY, 0 },
	{ SEL_TSS_NEXT, TSS_NEXT, 0x67, P | SYS_TSS, 0 },
	{ SHORT_TSS, TSS_NEXT, 0x66, P | SYS_TSS, 0 },
	{ ABSENT_TSS, TSS_NEXT, 0x67, SYS_TSS, 0 },
	{ BOTH_WIDE, 0, 0xfffff, CODE_RX, WIDE64 | WIDE32 | GRAN4K },
	{ ABSENT_LDT, LDT, LDT_LIMIT, SYS_LDT, 0 },
	{ BAD_TSS, TSS_BAD, 0x67, P | SYS_TSS, 0 },
};

static void put_gdt(struct machine *m, bool wide)
{
	for (unsigned n = 0; n < sizeof(segments) / sizeof(segments[0]); n++)
		put(m, GDT + (segments[n].sel & ~7),
		    descriptor(segments[n].base, segments[n].limit, segments[n].access, segments[n].flags), 8);
	put(m, GDT + CALL_GATE, gate(wide ? KCODE64 : KCODE, HANDLERS + CALLED, P | DPL3 | SYS_CALL, wide ? 0 : 2), 8);
	put(m, GDT + CALL_GATE0, gate(wide ? KCODE64 : KCODE, HANDLERS + CALLED, P | SYS_CALL, 0), 8);
	put(m, GDT + ABSENT_GATE, gate(KCODE, HANDLERS + CALLED, DPL3 | SYS_CALL, 0), 8);
	put(m, GDT + TASK_GATE, gate(SEL_TSS_NEXT, 0, P | SYS_TASK, 0), 8);
	put(m, GDT + CALL_GATE16, gate(KCODE, HANDLERS + CALLED, P | DPL3 | SYS_CALL16, 0), 8);
	put(m, LDT + 8, descriptor(0, 0xfffff, DATA_RW, WIDE32 | GRAN4K), 8);
}

static void put_idt(struct machine *m, u64 idt, bool wide)
{
	static const struct {
		u8 vector;
		u16 sel, access;
	} special[] = {
		{ INT_ABSENT, KCODE, DPL3 | SYS_INT },
		{ INT_NULL, 0, P | SYS_INT },
		{ INT_DATA, KDATA, P | SYS_INT },
		{ INT_ABSENT_CODE, ABSENT_CODE, P | SYS_INT },
		{ INT_CODE32, KCODE, P | SYS_INT },
		{ INT_TSS, KCODE, P | SYS_TSS },
		{ INT_USER_CODE, UCODE, P | SYS_INT },
	};
	unsigned size = wide ? 16 : 8;

	for (unsigned v = 0; v < NR_VECTORS; v++) {
		bool user = v == BP || v == OF || v == INT_USER;

		put(m, idt + v * size, gate(wide ? KCODE64 : KCODE, HANDLERS + v, P | SYS_INT | (user ? DPL3 : 0), 0),
		    8);
	}
	for (unsigned n = 0; n < sizeof(special) / sizeof(special[0]); n++)
		put(m, idt + special[n].vector * size,
		    gate(special[n].sel, HANDLERS + special[n].vector, special[n].access, 0), 8);
	if (wide)
		put(m, idt + DF * 16 + 4, 1, 1); /* IST 1 */
}

/* ---- TSSs ---- */

static void put_task(struct machine *m, u64 gpa, u32 eip, u16 ds)
{
	put(m, gpa + 0x20, eip, 4);
	put(m, gpa + 0x24, 2, 4);
	put(m, gpa + 0x38, STACK0, 4);
	put(m, gpa + 0x4c, KCODE, 2);
	put(m, gpa + 0x50, KDATA, 2);
	put(m, gpa + 0x54, ds, 2);
}

static void put_tss(struct machine *m, bool wide)
{
	if (wide) {
		put(m, TSS + 4, STACK0, 8);
		put(m, TSS + 36, STACK_IST, 8);
	} else {
		put(m, TSS + 4, STACK0, 4);
		put(m, TSS + 8, KDATA, 2);
		put_task(m, TSS_NEXT, HANDLERS + CALLED, KDATA);
		put_task(m, TSS_BAD, 0x1234, GDT_LIMIT + 1);
	}
	put(m, TSS + 0x66, TSS_IO, 2);
	/* All interrupts of virtual-8086 mode go through the IDT, but 0x60; all ports are open, but one. */
	memset(m->mem + TSS + TSS_IO - 32, 0xff, 32);
	m->mem[TSS + TSS_IO - 32 + 0x60 / 8] = 0xfe;
	m->mem[TSS + TSS_IO + CLOSED_PORT / 8] = 1 << CLOSED_PORT % 8;
	m->mem[TSS + TSS_LIMIT] = 0xff;
}

/* ---- page tables ---- */

#define PTE_P 1
#define PTE_W 2
#define PTE_U 4
#define PTE_A 0x20
#define PTE_D 0x40
#define PTE_PS 0x80
#define PTE_NX (1ull << 63)

/* Ring 3's rows see their code, data and stack; those of ring 0 run with SMEP and SMAP and own what they use. */
static u64 identity(u64 page, bool user)
{
	u64 rights = PTE_P | PTE_W | PTE_A | PTE_D;

	return page | rights | (user && (page == TEXT || page == DATA || page == STACK - 0x1000) ? PTE_U : 0);
}

static void put_pages(struct machine *m, u64 table, unsigned size, bool user, bool nx)
{
	const u64 all = DATA | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;

	for (u64 n = 0; n < 4096 / size; n++)
		put(m, table + n * size, identity(n << 12, user), size);
	put(m, table + (V_ABSENT >> 12) * size, 0, size);
	put(m, table + (V_READONLY >> 12) * size, all & ~(u64)PTE_W, size);
	put(m, table + (V_SUPER >> 12) * size, all & ~(u64)PTE_U, size);
	put(m, table + (V_NX >> 12) * size, all | (nx ? PTE_NX : 0), size);
	put(m, table + (V_USER >> 12) * size, all, size);
	put(m, table + (V_FRESH >> 12) * size, all & ~(u64)(PTE_A | PTE_D), size);
}

#define TABLE (PTE_P | PTE_W | PTE_U)
#define LARGE (PTE_P | PTE_W | PTE_U | PTE_PS)

static void put_tables_32(struct machine *m, bool user)
{
	put(m, TABLES_32, (TABLES_32 + 0x1000) | TABLE, 4);
	put(m, TABLES_32 + (V_LARGE >> 22) * 4, V_LARGE | LARGE, 4);
	put(m, TABLES_32 + (V_RESERVED >> 22) * 4, V_RESERVED | LARGE | 1 << 21, 4);
	put_pages(m, TABLES_32 + 0x1000, 4, user, false);
}

/* The lower two levels of both; the table itself maps 2 MiB. */
static void put_directory(struct machine *m, u64 directory, bool user)
{
	put(m, directory, (directory + 0x1000) | TABLE, 8);
	put(m, directory + (V_LARGE >> 21) * 8, V_LARGE | LARGE, 8);
	put(m, directory + (V_RESERVED >> 21) * 8, V_RESERVED | LARGE | 1 << 13, 8);
	put_pages(m, directory + 0x1000, 8, user, true);
}

static void put_tables_pae(struct machine *m, bool user)
{
	put(m, TABLES_PAE, (TABLES_PAE + 0x1000) | PTE_P, 8);
	put_directory(m, TABLES_PAE + 0x1000, user);
}

static void put_tables_4l(struct machine *m, bool user)
{
	put(m, TABLES_4L, (TABLES_4L + 0x1000) | TABLE, 8);
	put(m, TABLES_4L + 0x1000, (TABLES_4L + 0x2000) | TABLE, 8);
	put_directory(m, TABLES_4L + 0x2000, user);
}

/* ---- stages ---- */

static const struct stage {
	const char *name;
	u16 cs, ss;
	u32 cr0, cr3, cr4, efer, flags;
} stages[] = {
	[REAL] = { "real mode" },
	[PROT16] = { "16-bit protected mode", KCODE16, KDATA16, CR0_PE },
	[PROT] = { "protected mode, ring 0", KCODE, KDATA, CR0_PE },
	[PROT_USER] = { "protected mode, ring 3", UCODE, UDATA, CR0_PE },
	[VM86] = { "virtual-8086 mode", 0, 0, CR0_PE, .flags = FL_VM },
	[PAGED] = { "32-bit paging, ring 0", KCODE, KDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_32, CR4_PSE },
	[PAGED_USER] = { "32-bit paging, ring 3", UCODE, UDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_32, CR4_PSE },
	[PAE] = { "PAE, ring 0", KCODE, KDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_PAE, CR4_PAE, EFER_NX },
	[PAE_USER] = { "PAE, ring 3", UCODE, UDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_PAE, CR4_PAE, EFER_NX },
	[COMPAT] = { "compatibility mode", UCODE, UDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_4L, CR4_PAE,
		     EFER_LME | EFER_LMA | EFER_NX },
	[LONG] = { "64-bit mode, ring 0", KCODE64, KDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_4L, CR4_PAE,
		   EFER_LME | EFER_LMA | EFER_NX },
	[LONG_USER] = { "64-bit mode, ring 3", UCODE64, UDATA, CR0_PE | CR0_PG | CR0_WP, TABLES_4L, CR4_PAE,
			EFER_LME | EFER_LMA | EFER_NX },
};

static bool is_long(const struct stage *s)
{
	return s->efer & EFER_LMA;
}

static bool is_user(const struct stage *s)
{
	return (s->cs & 3) == 3 || (s->flags & FL_VM);
}

/* What the segment register holds after loading sel from the GDT. */
static struct kvm_segment load(struct machine *m, u16 sel)
{
	u64 d = get(m, GDT + (sel & ~7), 8);
	u32 limit = (u32)((d & 0xffff) | ((d >> 32) & 0xf0000));

	return (struct kvm_segment){
		.selector = sel,
		.base = ((d >> 16) & 0xffffff) | (d >> 56) << 24,
		.limit = d >> 55 & 1 ? limit << 12 | 0xfff : limit,
		.type = d >> 40 & 0xf,
		.s = d >> 44 & 1,
		.dpl = d >> 45 & 3,
		.present = d >> 47 & 1,
		.avl = d >> 52 & 1,
		.l = d >> 53 & 1,
		.db = d >> 54 & 1,
		.g = d >> 55 & 1,
	};
}

static struct kvm_segment segment_8086(unsigned dpl, unsigned type)
{
	return (struct kvm_segment){ .limit = 0xffff, .type = (u8)type, .s = 1, .dpl = (u8)dpl, .present = 1 };
}

static void put_machine(struct machine *m, const struct stage *s)
{
	bool user = is_user(s);

	memset(m->mem + HANDLERS, 0xf4, NR_VECTORS);
	for (unsigned v = 0; v < NR_VECTORS; v++)
		put(m, v * 4, HANDLERS + v, 4);
	put_gdt(m, is_long(s));
	put_idt(m, IDT, is_long(s));
	put_tss(m, is_long(s));
	put_tables_32(m, user);
	put_tables_pae(m, user);
	put_tables_4l(m, user);
}

/* In the stage's mode, at TEXT, with these bits set in addition. */
static void enter(struct machine *m, const struct stage *s, u32 cr0, u32 cr4, u32 flags)
{
	struct kvm_sregs r = get_sregs(m);

	if (!(s->cr0 & CR0_PE) || (s->flags & FL_VM)) {
		r.cs = segment_8086(s->flags & FL_VM ? 3 : 0, s->flags & FL_VM ? 3 : 11);
		r.ds = r.es = r.fs = r.gs = r.ss = segment_8086(s->flags & FL_VM ? 3 : 0, 3);
	} else {
		r.cs = load(m, s->cs);
		r.ds = r.es = r.fs = r.gs = r.ss = load(m, s->ss);
	}
	if (s->cr0 & CR0_PE) {
		r.gdt.base = GDT;
		r.gdt.limit = GDT_LIMIT;
		r.idt.base = IDT;
		r.idt.limit = NR_VECTORS * (is_long(s) ? 16 : 8) - 1;
		r.ldt = load(m, SEL_LDT);
		r.tr = load(m, SEL_TSS);
	} else {
		r.idt.limit = 0x3ff;
	}
	r.cr0 = s->cr0 | cr0 | CR0_ET | CR0_NE;
	r.cr3 = s->cr3;
	r.cr4 = s->cr4 | cr4;
	r.efer = s->efer;
	OK(ioctl(m->vcpu, KVM_SET_SREGS, &r));
	set_regs(m, (struct kvm_regs){ .rip = TEXT, .rsp = STACK, .rflags = s->flags | flags | 2 });
}

/* The CPU of this machine; ukvm can play an Intel or AMD one everywhere. */
static void set_cpuid(struct machine *m, u32 need)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	OK(ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	for (u32 n = 0; n < cpuid->nent && (need & (NEED_INTEL | NEED_AMD)); n++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[n];
		bool intel = need & NEED_INTEL;

		if (e->function)
			continue;
		e->ebx = intel ? signature_INTEL_ebx : signature_AMD_ebx;
		e->edx = intel ? signature_INTEL_edx : signature_AMD_edx;
		e->ecx = intel ? signature_INTEL_ecx : signature_AMD_ecx;
	}
	OK(ioctl(m->vcpu, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

static struct machine machine(const struct stage *s, u32 need)
{
	struct machine m = machine_new(MEMORY);

	set_cpuid(&m, need);
	put_machine(&m, s);
	return m;
}

static void machine_free(struct machine *m)
{
	munmap(m->run, m->run_size);
	munmap(m->mem, m->mem_size);
	close(m->vcpu);
	close(m->vm);
	close(m->kvm);
}

/* ---- the CPU's features ---- */

static u32 cpuid_bit(struct machine *m, u32 leaf, unsigned reg, unsigned bit)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	u32 found = 0;

	cpuid->nent = 256;
	OK(ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	for (u32 n = 0; n < cpuid->nent; n++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[n];
		const u32 regs[] = { e->eax, e->ebx, e->ecx, e->edx };

		if (e->function == leaf && e->index == 0)
			found = regs[reg] >> bit & 1;
	}
	free(cpuid);
	return found;
}

static u32 vendor(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(0, &a, &b, &c, &d))
		return 0;
	return b == signature_INTEL_ebx ? NEED_INTEL : b == signature_AMD_ebx ? NEED_AMD : 0;
}

/* NEED_* that are there. */
static u32 features(struct machine *m)
{
	return (cpuid_bit(m, 7, 1, 7) ? NEED_SMEP : 0) | (cpuid_bit(m, 7, 1, 20) ? NEED_SMAP : 0) |
	       (cpuid_bit(m, 7, 2, 2) ? NEED_UMIP : 0) | (cpuid_bit(m, 1, 2, 26) ? NEED_XSAVE : 0) |
	       (cpuid_bit(m, 1, 2, 17) ? NEED_PCID : 0) | (cpuid_bit(m, 7, 1, 10) ? NEED_INVPCID : 0) |
	       (cpuid_bit(m, 0x80000001, 3, 26) ? NEED_GBPAGES : 0) | vendor() |
	       (is_ukvm(m->vm) ? NEED_INTEL | NEED_AMD | NEED_UKVM : 0);
}

/* ---- the rows of modes_faults.S and modes_system.S ---- */

struct row {
	const char *name;
	const u8 *code, *mark, *end;
	u64 ip, sp, cr2, dr6, eax;
	u32 stage, vector;
	int error;
	u32 cs, cr0, cr4, flags, need;
	int rf, unused;
};
extern const struct row __start_fault_rows[], __stop_fault_rows[];

static unsigned differences;

static void compare(const struct row *r, const char *what, u64 got, u64 want)
{
	if (got == want)
		return;
	differences++;
	fprintf(stderr, "    %s: \"%s\": %s is 0x%llx, not 0x%llx\n", stages[r->stage].name, r->name, what,
		(unsigned long long)got, (unsigned long long)want);
}

/* Faults that leave RF set in the saved flags (SDM vol. 3, 17.3.1.1); the others are traps, or #DB. */
static bool sets_rf(u32 vector)
{
	return vector < 32 && vector != DB && vector != NMI && vector != BP && vector != OF && vector != DF;
}

/* What the handler found on its stack. */
static void compare_frame(const struct row *r, struct machine *m, const struct kvm_regs *regs, u64 ip)
{
	const struct stage *s = &stages[r->stage];
	struct kvm_sregs sregs = get_sregs(m);
	unsigned size = is_long(s) ? 8 : s->cr0 & CR0_PE ? 4 : 2;
	bool call = r->vector == CALLED, wide_stack = sregs.ss.db || is_long(s);
	u64 sp = is_long(s) ? regs->rsp : sregs.ss.base + (wide_stack ? (u32)regs->rsp : (u16)regs->rsp);
	u64 flags;

	if (r->error >= 0) {
		compare(r, "error code", get(m, sp, 4), (u32)r->error);
		sp += size;
	}
	compare(r, "saved IP", get(m, sp, size), ip);
	compare(r, "saved CS", get(m, sp + size, 2), r->cs ? r->cs : s->cs);
	if (call)
		return;
	flags = get(m, sp + 2 * size, size);
	if (size > 2) {
		compare(r, "saved RF", !!(flags & FL_RF), r->rf < 0 ? sets_rf(r->vector) : (u64)r->rf);
		compare(r, "saved VM", flags & FL_VM, s->flags & FL_VM);
	}
	compare(r, "IF, TF, NT, RF and VM in the handler", regs->rflags & (FL_IF | FL_TF | FL_NT | FL_RF | FL_VM), 0);
	if (r->sp != ~0ull)
		compare(r, "saved SP", get(m, sp + 3 * size, size), r->sp);
	if (size > 2 && is_user(s))
		compare(r, "end of the frame", sp + (s->flags & FL_VM ? 9 : 5) * size, STACK0);
	if (size == 8)
		compare(r, "alignment of the frame", (sp + 5 * size) & 15, 0);
}

static u64 get_dr6(struct machine *m)
{
	struct kvm_debugregs d;

	OK(ioctl(m->vcpu, KVM_GET_DEBUGREGS, &d));
	return d.dr6;
}

/* KVM_RUN until the guest does more than write to ports; the exit reason. */
static u32 run(struct machine *m)
{
	do
		OK(ioctl(m->vcpu, KVM_RUN, 0));
	while (m->run->exit_reason == KVM_EXIT_IO);
	return m->run->exit_reason;
}

static void check_row(const struct row *r, struct machine *m)
{
	u64 ip = r->ip ? r->ip : TEXT + (u64)(r->mark - r->code);
	u32 reason = run(m), want = r->vector == SHUTDOWN ? KVM_EXIT_SHUTDOWN : KVM_EXIT_HLT;
	struct kvm_regs regs = get_regs(m);

	compare(r, "exit reason", reason, want);
	if (reason != want || want == KVM_EXIT_SHUTDOWN)
		return;
	if (r->vector == NONE) {
		compare(r, "RIP", regs.rip, ip + 1);
	} else if (regs.rip - 1 - HANDLERS != r->vector) {
		compare(r, "vector (or RIP)", regs.rip - 1 - HANDLERS, r->vector);
		return;
	} else if (r->ip != ~0ull) {
		compare_frame(r, m, &regs, ip);
	}
	if (r->eax != ~0ull)
		compare(r, "EAX", (u32)regs.rax, r->eax);
	if (r->cr2 != ~0ull)
		compare(r, "CR2", get_sregs(m).cr2, r->cr2);
	if (r->dr6 != ~0ull)
		compare(r, "DR6", get_dr6(m), r->dr6);
}

static void check_stage(unsigned stage)
{
	const struct stage *s = &stages[stage];
	unsigned rows = 0;

	for (const struct row *r = __start_fault_rows; r < __stop_fault_rows; r++) {
		struct machine m;

		if (r->stage != stage)
			continue;
		m = machine(s, r->need);
		if (!(r->need & ~features(&m))) {
			memcpy(m.mem + TEXT, r->code, (size_t)(r->end - r->code));
			enter(&m, s, r->cr0, r->cr4, r->flags);
			check_row(r, &m);
			rows++;
		}
		machine_free(&m);
	}
	CHECK(rows);
	if (differences)
		FAIL("%u differences in %u rows of %s", differences, rows, s->name);
}

#define STAGE(name, stage)                                                                                             \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		check_stage(stage);                                                                                    \
	}
STAGE(faults_real, REAL)
STAGE(faults_protected_16, PROT16)
STAGE(faults_protected, PROT)
STAGE(faults_protected_user, PROT_USER)
STAGE(faults_vm86, VM86)
STAGE(faults_paged, PAGED)
STAGE(faults_paged_user, PAGED_USER)
STAGE(faults_pae, PAE)
STAGE(faults_pae_user, PAE_USER)
STAGE(faults_compat, COMPAT)
STAGE(faults_long, LONG)
STAGE(faults_long_user, LONG_USER)

/* ---- the guest of modes_walk.S ---- */

extern const u8 walk_code[], walk_code_end[];
extern const u32 __start_walk_checks[], __stop_walk_checks[];
#define WALK_LINES 2000

struct walk {
	u32 line, got;
	bool seen[WALK_LINES];
};

static void take_out(struct walk *w, struct machine *m)
{
	u32 value = 0;

	memcpy(&value, (u8 *)m->run + m->run->io.data_offset, m->run->io.size);
	switch (m->run->io.port) {
	case PORT_LINE:
		w->line = value;
		break;
	case PORT_GOT:
		w->got = value;
		break;
	case PORT_WANT:
		if (w->got != value)
			FAIL("modes_walk.S:%u: 0x%x, not 0x%x", w->line, w->got, value);
		CHECK(w->line < WALK_LINES);
		w->seen[w->line] = true;
		break;
	case PORT_NMI:
		OK(ioctl(m->vcpu, KVM_NMI));
		break;
	default:
		FAIL("modes_walk.S:%u: port 0x%x", w->line, m->run->io.port);
	}
}

TEST(walk_through_all_modes)
{
	struct machine m = machine(&stages[REAL], 0);
	struct kvm_regs regs;
	struct walk w = { 0 };

	put_idt(&m, WALK_IDT64, true);
	CHECK(walk_code_end - walk_code <= WALK_END - WALK);
	memcpy(m.mem + WALK, walk_code, (size_t)(walk_code_end - walk_code));
	enter(&m, &stages[REAL], 0, 0, 0);
	regs = get_regs(&m);
	regs.rip = WALK;
	set_regs(&m, regs);
	for (;;) {
		OK(ioctl(m.vcpu, KVM_RUN, 0));
		if (m.run->exit_reason != KVM_EXIT_IO)
			break;
		take_out(&w, &m);
	}
	regs = get_regs(&m);
	if (m.run->exit_reason != KVM_EXIT_SHUTDOWN)
		FAIL("exit %u at 0x%llx, after modes_walk.S:%u", m.run->exit_reason, (unsigned long long)regs.rip,
		     w.line);
	for (const u32 *line = __start_walk_checks; line < __stop_walk_checks; line++)
		if (!w.seen[*line])
			FAIL("modes_walk.S:%u was never reached", *line);
}
