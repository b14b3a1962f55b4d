// SPDX-License-Identifier: MIT
/* Single step, breakpoints, and the client's guest debugging, through the run loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "interp/debug.h"
#include "machine.h"

#define PUT(f, at, ...)                                                                                                \
	do {                                                                                                           \
		static const u8 code_[] = { __VA_ARGS__ };                                                             \
		memcpy((f)->mem + (at), code_, sizeof(code_));                                                         \
	} while (0)

#define DR7_EXEC0 0x402ull
#define DR7_WRITE0_4 (0x402ull | 1 << 16 | 3 << 18)
#define DR7_PORT0 (0x402ull | 2 << 16)
#define DR7_ACCESS1_1 (0x408ull | 3 << 20)

/* Ring 0 of 64-bit mode; #DB and #BP end in a HLT, through trap gates. */
static struct flat *debug_new(void)
{
	struct flat *f = machine_new(LONG, 0);

	idt_gate(f, VEC_DB, CODE0_64, 15, 0, 0);
	idt_gate(f, VEC_BP, CODE0_64, 15, 0, 0);
	f->mem[HANDLER + VEC_DB] = 0xf4;
	return f;
}

/* Runs to the handler's HLT, and says where the trap came from; -1 if it came from nowhere. */
static u64 trapped(struct flat *f)
{
	struct cpu *c = &f->cpu;

	assert_int_equal(interp_run(c), EXIT_HLT);
	if (c->gpr[R_RIP] != HANDLER + VEC_DB + 1)
		return ~0ull;
	return *(u64_un *)(f->mem + c->gpr[RSP]);
}

static void back(struct flat *f, u64 set_flags)
{
	struct cpu *c = &f->cpu;

	*(u64_un *)(f->mem + c->gpr[RSP] + 16) |= set_flags;
	assert_int_equal(far_iret(c, SZ_64), ST_END);
}

static void trap_flag(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	/* push 0x102; popf; nop; inc eax; hlt: the instruction after POPF is the first that traps */
	PUT(f, CODE, 0x68, 0x02, 0x01, 0, 0, 0x9d, 0x90, 0xff, 0xc0, 0xf4);
	assert_int_equal(trapped(f), CODE + 7);
	assert_int_equal(c->dr[6], DR6_FIXED | DR6_BS);
	assert_false(c->attn & ATTN_STEP);
	back(f, 0);
	assert_int_equal(trapped(f), CODE + 9);
	assert_int_equal(c->gpr[RAX], 1);
	flat_free(f);
}

/* No trap between MOV SS and the instruction behind it, and one trap after that. */
static void trap_flag_and_mov_ss(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x8e, 0xd0, 0xff, 0xc3, 0xf4); /* mov ss, eax; inc ebx; hlt */
	c->gpr[RAX] = DATA0;
	cpu_set_rflags(c, cpu_rflags(c) | FL_TF);
	assert_int_equal(trapped(f), CODE + 4);
	assert_int_equal(c->gpr[RBX], 1);
	flat_free(f);
}

/* INT n clears TF: no trap in the handler, but one after its IRET is over. */
static void trap_flag_and_int(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0xcd, 0x40, 0x90, 0xf4);
	idt_gate(f, 0x40, CODE0_64, 14, 0, 0);
	PUT(f, HANDLER + 0x40, 0xff, 0xc0, 0x48, 0xcf); /* inc eax; iretq */
	cpu_set_rflags(c, cpu_rflags(c) | FL_TF);
	assert_int_equal(trapped(f), CODE + 3);
	assert_int_equal(c->gpr[RAX], 1);
	flat_free(f);
}

/* A HLT that traps does not wait: the trap, or what came in its shadow, goes on behind it. */
static void hlt_with_something_due(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0xf4, 0xff, 0xc0, 0xf4); /* hlt; inc eax; hlt */
	idt_gate(f, VEC_NMI, CODE0_64, 14, 0, 0);
	PUT(f, HANDLER + VEC_NMI, 0xff, 0xc3, 0x48, 0xcf); /* inc ebx; iretq */
	cpu_set_rflags(c, cpu_rflags(c) | FL_TF);
	assert_int_equal(trapped(f), CODE + 1);
	assert_int_equal(c->dr[6], DR6_FIXED | DR6_BS);

	c->gpr[R_RIP] = CODE;
	cpu_set_rflags(c, cpu_rflags(c) | FL_IF);
	c->ev.shadow = SHADOW_STI;
	c->ev.nmi_pending = 1;
	cpu_events_changed(c);
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[RBX], 1);
	assert_int_equal(c->gpr[R_RIP], CODE + 4);
	assert_int_equal(c->gpr[RAX], 1);

	/* The client's own step ends at the HLT as before. */
	c->gpr[R_RIP] = CODE;
	c->guest_debug = GUESTDBG_SINGLESTEP;
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[R_RIP], CODE + 1);
	flat_free(f);
}

/* RFLAGS in the handler's frame. */
static u64 pushed(struct flat *f)
{
	return *(u64_un *)(f->mem + f->cpu.gpr[RSP] + 16);
}

/* An instruction that goes on after the handler has RF, so that its own breakpoint does not hit again. */
static void resume_flag_pushed(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	/* mov eax, dr6; rep stosb; hlt */
	PUT(f, CODE, 0x0f, 0x21, 0xf0, 0xf3, 0xaa, 0xf4);
	PUT(f, CODE + 0x100, 0xf1); /* int1: any #DB ends GD */
	c->dr[7] = 0x400 | DR7_GD;
	c->gpr[R_RIP] = CODE + 0x100;
	assert_int_equal(trapped(f), CODE + 0x101);
	assert_false(c->dr[7] & DR7_GD);
	assert_false(pushed(f) & FL_RF);
	c->gpr[R_RIP] = CODE;
	c->dr[7] = 0x400 | DR7_GD;
	assert_int_equal(trapped(f), CODE);
	assert_int_equal(c->dr[6], DR6_FIXED | DR6_BD);
	assert_true(pushed(f) & FL_RF);
	assert_false(c->dr[7] & DR7_GD);
	/* Traps between two iterations, and behind the last one. */
	back(f, FL_TF);
	c->gpr[RCX] = 2;
	c->gpr[RDI] = 0xc000;
	assert_int_equal(trapped(f), CODE + 3);
	assert_false(pushed(f) & FL_RF);
	back(f, 0);
	assert_int_equal(trapped(f), CODE + 3);
	assert_int_equal(c->gpr[RCX], 1);
	assert_true(pushed(f) & FL_RF);
	back(f, 0);
	assert_int_equal(trapped(f), CODE + 5);
	assert_false(pushed(f) & FL_RF);
	flat_free(f);
}

static void queue_interrupt(struct cpu *c)
{
	c->ev.intr.injected = true;
	c->ev.intr.vector = 0x40;
	cpu_events_changed(c);
}

static bool interrupt_at_poll(void *ctx)
{
	queue_interrupt(ctx);
	return false;
}

/* So does one that an interrupt comes into, but not one that it comes before. */
static void interrupted_iterations(void **state)
{
	static const struct cpu_host host = { .poll = interrupt_at_poll };
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0xf3, 0xaa, 0xf4); /* rep stosb; hlt */
	idt_gate(f, 0x40, CODE0_64, 14, 0, 0);
	f->mem[HANDLER + 0x40] = 0xf4;
	c->gpr[RCX] = 10000;
	c->gpr[RDI] = 0xc000;
	queue_interrupt(c);
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[RCX], 10000);
	assert_false(pushed(f) & FL_RF);
	/* The second time that the loop comes round, in the next page. */
	c->gpr[R_RIP] = CODE;
	cpu_set_rflags(c, cpu_rflags(c) | FL_IF);
	c->host = &host;
	c->host_ctx = c;
	c->budget = 1;
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[RCX], 10000 - 4097);
	assert_int_equal(*(u64_un *)(f->mem + c->gpr[RSP]), CODE);
	assert_true(pushed(f) & FL_RF);
	flat_free(f);
}

static void trap_each_iteration(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0xf3, 0xaa, 0x90, 0xf4); /* rep stosb; nop */
	c->gpr[RCX] = 3;
	c->gpr[RDI] = 0xc000;
	cpu_set_rflags(c, cpu_rflags(c) | FL_TF);
	assert_int_equal(trapped(f), CODE);
	assert_int_equal(c->gpr[RCX], 2);
	back(f, 0);
	assert_int_equal(trapped(f), CODE);
	back(f, 0);
	assert_int_equal(trapped(f), CODE + 2);
	assert_int_equal(c->gpr[RCX], 0);
	flat_free(f);
}

static void code_breakpoint(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x90, 0xff, 0xc0, 0xeb, 0xfb); /* nop; l: inc eax; jmp CODE */
	c->dr[0] = CODE + 1;
	c->dr[7] = DR7_EXEC0;
	debug_update(c);
	assert_int_equal(trapped(f), CODE + 1);
	assert_int_equal(c->dr[6], DR6_FIXED | 1);
	assert_int_equal(c->gpr[RAX], 0);
	/* With RF the handler gets past it once. */
	back(f, FL_RF);
	assert_int_equal(trapped(f), CODE + 1);
	assert_int_equal(c->gpr[RAX], 1);
	/* Without, it hits at once. */
	back(f, 0);
	assert_int_equal(trapped(f), CODE + 1);
	assert_int_equal(c->gpr[RAX], 1);
	flat_free(f);
}

/* RF holds for one instruction, also if nothing else makes the run loop step. */
static void resume_flag_expires(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x90, 0xff, 0xc0, 0xf4); /* nop; inc eax; hlt */
	PUT(f, CODE + 0x100, 0xcd, 0x40);     /* int 0x40 */
	idt_gate(f, 0x40, CODE0_64, 14, 0, 0);
	f->mem[HANDLER + 0x40] = 0xf4;
	cpu_set_rflags(c, cpu_rflags(c) | FL_RF);
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[RAX], 1);
	assert_false(c->rflags & FL_RF);
	assert_false(c->attn & ATTN_STEP);
	/* It is there while the first instruction executes. */
	c->gpr[R_RIP] = CODE + 0x100;
	cpu_set_rflags(c, cpu_rflags(c) | FL_RF);
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_true(*(u64_un *)(f->mem + c->gpr[RSP] + 16) & FL_RF);
	assert_false(c->rflags & FL_RF);
	flat_free(f);
}

/* A TF that SYSRET loads traps behind SYSRET, whether the run loop stepped before or not. */
static void trap_flag_of_sysret(void **state)
{
	(void)state;
	for (int stepped = 0; stepped < 2; stepped++) {
		struct flat *f = debug_new();
		struct cpu *c = &f->cpu;

		PUT(f, CODE, 0x90, 0x48, 0x0f, 0x07); /* nop; sysretq */
		PUT(f, CODE + 0x100, 0xff, 0xc0, 0xf4);
		c->msr.star = (u64)(CODE3_64 - 16) << 48;
		c->gpr[RCX] = CODE + 0x100;
		c->gpr[R11] = FL_TF;
		if (stepped) {
			c->dr[0] = 0xc000;
			c->dr[7] = DR7_WRITE0_4;
			debug_update(c);
		}
		assert_int_equal(trapped(f), CODE + 0x100);
		assert_int_equal(c->dr[6], DR6_FIXED | DR6_BS);
		assert_int_equal(c->gpr[RAX], 0);
		flat_free(f);
	}
}

static void watchpoint(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	/* mov eax, [rbx]; mov [rbx+8], al; mov [rbx+3], al; hlt */
	PUT(f, CODE, 0x8b, 0x03, 0x88, 0x43, 0x08, 0x88, 0x43, 0x03, 0xf4);
	c->gpr[RBX] = 0xc000;
	/* Fill the TLB first. */
	assert_int_equal(interp_run(c), EXIT_HLT);
	c->gpr[R_RIP] = CODE;
	c->dr[0] = 0xc000;
	c->dr[7] = DR7_WRITE0_4;
	debug_update(c);
	assert_int_equal(trapped(f), CODE + 8);
	assert_int_equal(c->dr[6], DR6_FIXED | 1);
	/* Reads too, of one byte. */
	c->dr[1] = 0xc002;
	c->dr[7] = DR7_ACCESS1_1;
	debug_update(c);
	c->gpr[R_RIP] = CODE;
	assert_int_equal(trapped(f), CODE + 2);
	assert_int_equal(c->dr[6] & DR6_TRAPS, 2);
	c->dr[7] = 0x400;
	debug_update(c);
	assert_false(c->attn & ATTN_STEP);
	flat_free(f);
}

/* What an instruction has hit before it asks the client is reported when it has completed. */
static void watchpoint_and_exit(void **state)
{
	static const struct {
		u8 code;
		enum exit_reason why;
	} rows[] = { { 0x6e, EXIT_IO }, { 0xa4, EXIT_MMIO } }; /* outsb; movsb */

	(void)state;
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		struct flat *f = debug_new();
		struct cpu *c = &f->cpu;

		PUT(f, CODE, 0, 0xf4);
		f->mem[CODE] = rows[n].code;
		c->gpr[RSI] = 0xc000;
		c->gpr[RDI] = 8ull << 20; /* no memory there */
		c->dr[0] = 0xc000;
		c->dr[1] = 0xc000;
		c->dr[7] = DR7_ACCESS1_1;
		debug_update(c);
		assert_int_equal(interp_run(c), rows[n].why);
		if (rows[n].why == EXIT_IO)
			c->pio.answered = true;
		else
			c->io.acc[0].answered = true;
		cpu_attn(c, ATTN_RESUME);
		assert_int_equal(trapped(f), CODE + 1);
		assert_int_equal(c->dr[6] & DR6_TRAPS, 2);
		flat_free(f);
	}
}

static void watchpoint_at_mov_ss(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x8e, 0x13, 0xff, 0xc0, 0xf4); /* mov ss, [rbx]; inc eax; hlt */
	c->gpr[RBX] = 0xc000;
	*(u16 *)(f->mem + 0xc000) = DATA0;
	c->dr[1] = 0xc000;
	c->dr[7] = DR7_ACCESS1_1;
	debug_update(c);
	assert_int_equal(trapped(f), CODE + 4);
	assert_int_equal(c->dr[6] & DR6_TRAPS, 2);
	flat_free(f);
}

/* MOV SS keeps the next instruction's breakpoint from hitting on Intel's CPUs, and only there. */
static void code_breakpoint_after_mov_ss(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x8e, 0x13, 0xff, 0xc0, 0xf4); /* mov ss, [rbx]; inc eax; hlt */
	*(u16 *)(f->mem + 0xc000) = DATA0;
	c->dr[0] = CODE + 2;
	c->dr[1] = 0xc000;
	c->dr[7] = DR7_EXEC0 | DR7_ACCESS1_1;
	for (unsigned intel = 0; intel < 2; intel++) {
		c->feat = (c->feat & ~(FEAT_AMD | FEAT_INTEL)) | (intel ? FEAT_INTEL : FEAT_AMD);
		c->gpr[R_RIP] = CODE;
		c->gpr[RBX] = 0xc000;
		c->dr[6] = DR6_FIXED;
		debug_update(c);
		assert_int_equal(trapped(f), intel ? CODE + 4 : CODE + 2);
		assert_int_equal(c->dr[6] & DR6_TRAPS, intel ? 2 : 3);
	}
	flat_free(f);
}

static void port_breakpoint(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0xe6, 0x80, 0x90, 0xf4); /* out 0x80, al */
	c->cr4 |= CR4_DE;
	c->dr[0] = 0x80;
	c->dr[7] = DR7_PORT0;
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_IO);
	assert_int_equal(c->gpr[R_RIP], CODE);
	c->pio.answered = true;
	cpu_attn(c, ATTN_RESUME);
	assert_int_equal(trapped(f), CODE + 2);
	assert_int_equal(c->dr[6] & DR6_TRAPS, 1);
	flat_free(f);
}

static void client_steps(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x90, 0x8e, 0xd0, 0x90, 0xff, 0xc0, 0xf4); /* nop; mov ss, eax; nop; inc eax; hlt */
	c->gpr[RAX] = DATA0;
	c->guest_debug = GUESTDBG_ENABLE | GUESTDBG_SINGLESTEP;
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_DEBUG);
	assert_int_equal(c->exit.debug.vector, VEC_DB);
	assert_int_equal(c->exit.debug.pc, CODE + 1);
	assert_int_equal(c->exit.debug.dr6, DR6_FIXED | DR6_BS);
	assert_int_equal(interp_run(c), EXIT_DEBUG);
	assert_int_equal(c->exit.debug.pc, CODE + 4);
	c->guest_debug = 0;
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_HLT);
	assert_int_equal(c->gpr[RAX], DATA0 + 1);
	assert_false(c->rflags & FL_TF);
	flat_free(f);
}

static void client_breakpoints(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	PUT(f, CODE, 0x90, 0xff, 0xc0, 0xcc, 0xf4); /* nop; inc eax; int3; hlt */
	c->guest_debug = GUESTDBG_ENABLE | GUESTDBG_USE_HW_BP | GUESTDBG_USE_SW_BP;
	c->guest_dr[0] = CODE + 1;
	c->guest_dr[7] = DR7_EXEC0;
	c->dr[0] = CODE; /* the guest's own are out of force */
	c->dr[7] = DR7_EXEC0;
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_DEBUG);
	assert_int_equal(c->exit.debug.pc, CODE + 1);
	assert_int_equal(c->exit.debug.dr6, DR6_FIXED | 1);
	assert_int_equal(c->exit.debug.dr7, DR7_EXEC0);
	assert_int_equal(c->gpr[R_RIP], CODE + 1);
	c->guest_dr[7] = 0x400;
	debug_update(c);
	assert_int_equal(interp_run(c), EXIT_DEBUG);
	assert_int_equal(c->exit.debug.vector, VEC_BP);
	assert_int_equal(c->exit.debug.pc, CODE + 3);
	assert_int_equal(c->gpr[R_RIP], CODE + 3);
	assert_int_equal(c->gpr[RAX], 1);
	flat_free(f);
}

/* DEBUGCTL.BTF: from one taken branch to the next, and once only (SDM vol. 3, 17.4.3). */
static void trap_at_branches(void **state)
{
	struct flat *f = debug_new();
	struct cpu *c = &f->cpu;

	(void)state;
	/* nop; rep stosb; cmp eax, eax; jnz .; jz 1f; nop; 1: nop; jmp 2f; 2: hlt */
	PUT(f, CODE, 0x90, 0xf3, 0xaa, 0x39, 0xc0, 0x75, 0xfe, 0x74, 0x01, 0x90, 0x90, 0xeb, 0x00, 0xf4);
	c->gpr[RCX] = 3;
	c->gpr[RDI] = 0xc000;
	assert_int_equal(cpu_msr_write(c, 0x1d9, DEBUGCTL_BTF, false), 0);
	cpu_set_rflags(c, cpu_rflags(c) | FL_TF);
	assert_int_equal(trapped(f), CODE + 10);
	assert_int_equal(c->dr[6], DR6_FIXED | DR6_BS);
	assert_int_equal(c->msr.debugctl, 0);
	assert_int_equal(cpu_msr_write(c, 0x1d9, DEBUGCTL_BTF, false), 0);
	back(f, 0);
	assert_int_equal(trapped(f), CODE + 13); /* a jump to the next instruction is one, too */
	c->gpr[R_RIP] = CODE;
	c->gpr[RCX] = 1;
	c->dr[6] = DR6_FIXED;
	cpu_set_rflags(c, cpu_rflags(c) | FL_TF);
	assert_int_equal(trapped(f), CODE + 1); /* BTF is off again */
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap_flag),
		cmocka_unit_test(trap_flag_and_mov_ss),
		cmocka_unit_test(trap_flag_and_int),
		cmocka_unit_test(hlt_with_something_due),
		cmocka_unit_test(resume_flag_pushed),
		cmocka_unit_test(interrupted_iterations),
		cmocka_unit_test(trap_each_iteration),
		cmocka_unit_test(trap_at_branches),
		cmocka_unit_test(code_breakpoint),
		cmocka_unit_test(resume_flag_expires),
		cmocka_unit_test(trap_flag_of_sysret),
		cmocka_unit_test(watchpoint),
		cmocka_unit_test(watchpoint_and_exit),
		cmocka_unit_test(watchpoint_at_mov_ss),
		cmocka_unit_test(code_breakpoint_after_mov_ss),
		cmocka_unit_test(port_breakpoint),
		cmocka_unit_test(client_steps),
		cmocka_unit_test(client_breakpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
