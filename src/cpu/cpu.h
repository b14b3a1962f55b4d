/* SPDX-License-Identifier: MIT */
/*
 * The guest CPU: its architectural state, and what the engine keeps beside it. Nothing here knows of ioctls, file
 * descriptors or threads; a unit test can have one on its stack, with a flat array as memory.
 */
#ifndef UKVM_CPU_CPU_H
#define UKVM_CPU_CPU_H

#include "cpu/exit.h"
#include "cpu/fault.h"
#include "cpu/stats.h"
#include "cpu/status.h"
#include "cpu/types.h"

/* Indices of cpu::gpr: the encoding of instructions, then two that only the engine uses. */
enum gpr {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI,
	R8, R9, R10, R11, R12, R13, R14, R15,
	R_ZERO, /* always 0: "no base", "no index" */
	R_RIP,  /* while an instruction executes by insn::fn: the address of the next one */
	R_BLOCK, /* RIP at the start of the block that runs */
	NR_GPR,
};

/* Segment registers in their instruction encoding, then the two system ones. */
enum sreg {
	SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS,
	SEG_LDTR,
	SEG_TR,
	NR_SEG,
	/* What the decoder names in 64-bit mode, where only FS and GS have a base: never checked, base 0. */
	SEG_FLAT = NR_SEG,
	SEG_FLAT_SS, /* the same; a non-canonical address is #SS instead of #GP */
	NR_SEG_ALL,
};

/* RFLAGS */
#define FL_CF BIT64(0)
#define FL_1 BIT64(1)
#define FL_PF BIT64(2)
#define FL_AF BIT64(4)
#define FL_ZF BIT64(6)
#define FL_SF BIT64(7)
#define FL_TF BIT64(8)
#define FL_IF BIT64(9)
#define FL_DF BIT64(10)
#define FL_OF BIT64(11)
#define FL_IOPL (3ull << 12)
#define FL_NT BIT64(14)
#define FL_RF BIT64(16)
#define FL_VM BIT64(17)
#define FL_AC BIT64(18)
#define FL_VIF BIT64(19)
#define FL_VIP BIT64(20)
#define FL_ID BIT64(21)
#define FL_STATUS (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)
#define FL_VALID                                                                                                       \
	(FL_STATUS | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)

/* Control registers */
#define CR0_PE BIT64(0)
#define CR0_MP BIT64(1)
#define CR0_EM BIT64(2)
#define CR0_TS BIT64(3)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_WP BIT64(16)
#define CR0_AM BIT64(18)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define CR0_PG BIT64(31)

#define CR4_VME BIT64(0)
#define CR4_PVI BIT64(1)
#define CR4_TSD BIT64(2)
#define CR4_DE BIT64(3)
#define CR4_PSE BIT64(4)
#define CR4_PAE BIT64(5)
#define CR4_MCE BIT64(6)
#define CR4_PGE BIT64(7)
#define CR4_PCE BIT64(8)
#define CR4_OSFXSR BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP BIT64(11)
#define CR4_FSGSBASE BIT64(16)
#define CR4_PCIDE BIT64(17)
#define CR4_OSXSAVE BIT64(18)
#define CR4_SMEP BIT64(20)
#define CR4_SMAP BIT64(21)
#define CR4_PKE BIT64(22)

#define EFER_SCE BIT64(0)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define EFER_NX BIT64(11)

/*
 * A segment register with its hidden part. attr has the bits of a descriptor's bytes 5 and 6: type in 3:0, S 4,
 * DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15; and ATTR_UNUSABLE for a null selector. limit is in bytes (G is applied).
 */
#define ATTR_TYPE 0xfu
#define ATTR_S BIT(4)
#define ATTR_DPL_SHIFT 5
#define ATTR_P BIT(7)
#define ATTR_AVL BIT(12)
#define ATTR_L BIT(13)
#define ATTR_DB BIT(14)
#define ATTR_G BIT(15)
#define ATTR_UNUSABLE BIT(16)

struct seg {
	u64 base;
	u64 rd_end; /* an access at offset ea of n bytes is allowed if ea + n <= rd_end; else seg_check() tells */
	u64 wr_end; /* likewise for writes; both derived by cpu_update_mode() */
	u32 limit;
	u32 attr;
	u16 sel;
};

struct dtable {
	u64 base;
	u16 limit;
};

/* x87, MMX, SSE, AVX state. The x87 registers are physical (not relative to TOP): MMn is the low half of st[n]. */
struct fpu {
	u8 st[8][16];     /* 80 bits used */
	u8 vec[32][64];   /* xmm/ymm/zmm 0-31 */
	u64 opmask[8];
	u64 fip, fdp;
	u16 fcw, fsw;     /* TOP is in fsw */
	u16 fop;
	u16 fcs, fds;
	u8 ftw;           /* abridged: bit n set if physical register n is not empty */
	u32 mxcsr;
	u32 pkru;
	u64 xcr0;
	u64 xss;
	u64 xstate_bv;    /* unused: fpu_xinuse() computes it */
	u16 xoff[10];     /* where components lie in the host's standard XSAVE format; 0: not at all. See fpu_reset() */
};

/* MSRs that are plain storage; msr.c says what each may hold. */
struct msr_state {
	u64 star, lstar, cstar, sfmask;
	u64 kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pat;
	u64 mtrr_def_type, mtrr_fix[11], mtrr_var[16];
	u64 tsc_aux;
	u64 tsc_adjust;
	u64 tsc_deadline;
	u64 apic_base;
	u64 misc_enable;
	u64 smbase;
	u64 debugctl;
	u64 mcg_cap, mcg_status, mcg_ctl, mcg_ext_ctl;
	u64 mc_bank[32 * 4];
	u64 feature_control;
	u64 spec_ctrl;
	u64 arch_capabilities;
	u64 perf_capabilities;
	u64 ucode_rev;
	u64 hwcr, vm_hsave_pa, de_cfg, osvw_len, osvw_status;
	u64 platform_info, misc_features, power_ctl;
	u64 kvm_wall_clock, kvm_system_time, kvm_steal_time, kvm_async_pf, kvm_pv_eoi, kvm_poll_control;
};

/* A CPUID answer; the layout of struct kvm_cpuid_entry2. */
struct cpuid_entry {
	u32 function, index, flags;
	u32 eax, ebx, ecx, edx;
	u32 padding[3];
};
#define CPUID_MAX_ENTRIES 256

/* Events that wait to be taken, in the terms of struct kvm_vcpu_events. */
struct events {
	struct {
		bool pending, injected, has_error;
		u8 vector;
		u32 error;
		bool has_payload;
		u64 payload; /* CR2 for #PF, DR6 bits for #DB */
	} exc;
	struct {
		bool injected, soft;
		u8 vector;
		u8 len; /* soft: INT n; bytes of the instruction */
	} intr;
	u8 nmi_pending; /* how many: one that can be taken, and one behind it */
	bool nmi_injected, nmi_masked;
	bool smi_pending, smm;
	u8 shadow; /* SHADOW_*: no interrupt at the coming boundary */
};
#define SHADOW_STI 1
#define SHADOW_MOV_SS 2

#define REP_NOWHERE (~0ull) /* no instruction has room there */

/*
 * Accesses to the client's devices that the instruction at RIP has made so far. The instruction runs again for each
 * answer, takes what is already answered from here, and the list is emptied when it commits (design rule 4).
 */
struct io_access {
	u64 gpa;
	u64 data;
	u8 len;
	bool write, answered;
};
#define IO_LOG_MAX 384 /* the XSAVE area is the largest operand: 2,696 bytes */
struct io_log {
	u32 n, cursor;
	u64 rip; /* gpr[R_RIP] while the instruction runs that the accesses belong to: see mem/io.c */
	struct io_access acc[IO_LOG_MAX];
};

/* A port access that the client answers; data is a packed array in the client's kvm_run pages. */
struct pio {
	u8 *data;
	u32 data_size;
	u32 count;
	u16 port;
	u8 size;
	bool in, pending, answered;
};

/* Soft TLB: see mem/tlb.h. */
struct tlb_entry {
	u64 rd, wr, ex; /* page address | generation; 0 is never valid */
	u64 addend;     /* host address = linear address + addend */
};
#define TLB_BITS 12
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_SPAN (2 * TLB_SIZE)
/*
 * Address spaces (generations, stamps) that are used in turn have their entries for one address in different places:
 * each has its own window of size entries in a table of twice that, at this offset.
 */
static inline unsigned space_window(u64 space, unsigned size)
{
	return (unsigned)(space * 37) % 64 * (size / 64);
}

enum mmu_index {
	MMU_SUP,    /* CPL < 3, SMAP enforced if on */
	MMU_USER,   /* CPL 3 */
	MMU_SUP_AC, /* CPL < 3 with EFLAGS.AC: SMAP lifted */
	NR_MMU,
};

/* cpu::attn: why the run loop must look up between two blocks. Set by any thread (atomically). */
enum attn {
	ATTN_KICK = 1 << 0,  /* a signal, or another thread: leave with EXIT_INTR */
	ATTN_EVENT = 1 << 1, /* an exception, NMI or interrupt may be deliverable now, or a window is asked for */
	ATTN_STEP = 1 << 2, /* single step (TF), shadow, guest debugging, code breakpoints: one instruction at a time */
	ATTN_REQUEST = 1 << 3, /* the VM wants this vCPU at rest for a moment (slots, dirty log): cpu_host::request */
	ATTN_RESUME = 1 << 4,  /* the io log or pio holds answers: run the one instruction that asked, first */
	ATTN_IO = 1 << 5,      /* the io log holds accesses of an instruction that may be complete: empty it */
};

/* cpu::step */
enum step {
	STEP_TF = 1 << 0,       /* RFLAGS.TF */
	STEP_SHADOW = 1 << 1,   /* an interrupt shadow ends after the coming instruction */
	STEP_GUESTDBG = 1 << 2, /* the client single-steps */
	STEP_BREAK = 1 << 3,    /* code or data breakpoints are armed */
	STEP_IO = 1 << 4,       /* port breakpoints are armed */
	/* Not reasons to step: what was so when the instruction that executes began (event_step_before()). */
	STEP_WAS_TF = 1 << 5,
	STEP_WAS_RF = 1 << 6,
	STEP_RF = 1 << 7,       /* RFLAGS.RF, which the coming instruction clears */
};

/* cpu::vectoring, which a client may see: the IDT-vectoring information of SDM vol. 3, 25.9.3. */
#define VECTORING_TYPE_SHIFT 8
#define VECTORING_HAS_ERROR BIT(11)
#define VECTORING_VALID BIT(31)

struct memmap;
struct code_cache;
struct cpu_host;
struct block;
struct jit;

struct cpu {
	/* What every instruction touches comes first. */
	u64 gpr[NR_GPR];
	u64 cc;             /* status flags (FL_STATUS), as PUSHF left them: other bits are junk */
	u64 rflags;         /* all other flags; status bits are 0. See cpu_rflags(), cpu_set_rflags() */
	u64 tlb_gen;        /* 1..4095 */
	u32 attn;
	u32 budget;                /* blocks until cpu_host::poll is asked */
	struct tlb_entry *tlb_cur; /* of the current mmu_index and generation; see cpu_update_mode() */
	const struct insn *cur;    /* the instruction that executes */
	u64 lin_mask;       /* ~0 in 64-bit mode, 0xffffffff else */
	u64 work;           /* done since the last stats_fold() */
	u64 code_base;      /* linear address = RIP + this, with lin_mask */
	u64 code_key;       /* changes whenever the same RIP may mean other code: mode, privilege, translations */
	struct {            /* the translator's (jit/translate.h) */
		u64 flags;  /* while translated code runs: status flags as LAHF and SETO AL leave them in AX */
		u64 rip, code; /* where a branch is about to go */
		u64 tag;       /* of the jumps that are good now: see set_tag() in jit/jit.c */
		void *jump;    /* the struct host_jump that was looked at */
		u64 addend[4]; /* host address = linear address + addend, for groups of accesses */
		const u8 *link;   /* a struct jit_link, at any address */
		u8 simd;          /* nonzero: the host's MXCSR is the guest's (jit/simd.c) */
		u8 x87;           /* nonzero: the host's x87 state is the guest's (jit/x87.c) */
		struct jit *unit; /* NULL: nothing is translated */
	} jit;
	u32 host_mxcsr;     /* within interp_run(): the host's own; 0: to be asked */
	struct seg seg[NR_SEG_ALL];

	/* Derived from the registers by cpu_update_mode(). */
	u8 cpl;
	u8 mode;            /* enum cpu_mode */
	u8 code_mode;       /* enum decode_mode */
	u8 stack_size;      /* SZ_16, SZ_32, SZ_64: of the stack pointer */
	u8 mmu;             /* enum mmu_index */
	u8 paging;          /* enum paging */
	u8 fpu_trap;        /* FPU_TRAP_*: which families raise #UD or #NM now; fpu_trap_bits() in fpu.h */
	u8 step;            /* why ATTN_STEP is on, as STEP_* bits; 0 if it is off */

	u64 cr0, cr2, cr3, cr4, cr8, efer;
	u64 pdptr[4];       /* PAE: loaded with CR3 */
	u64 dr[8];          /* 4 and 5 unused */
	struct dtable gdt, idt;
	struct msr_state msr;
	struct events ev;
	struct fault fault; /* valid after ST_FAULT */
	struct exit exit;   /* valid after ST_EXIT, ST_EXIT_DONE */
	struct pio pio;
	struct io_log io;
	struct fpu fpu __attribute__((aligned(64)));

	/* CPUID, and what follows from it (cpuid.c) */
	struct cpuid_entry cpuid[CPUID_MAX_ENTRIES];
	u32 nr_cpuid;
	u8 phys_bits;
	u64 feat;           /* enum feat bits: what CR4, EFER, paging may use */
	u64 xcr0_allowed;

	/* Time */
	u64 tsc_offset;     /* guest TSC = (host TSC * tsc_ratio >> 48) + tsc_offset */
	u64 tsc_ratio;      /* 16.48 fixed point */
	u32 tsc_khz;
	s64 clock_offset;   /* kvmclock = host_clock_ns() + this (tsc.h, pvclock.h) */
	u8 clock_due;       /* CLOCK_*: what pvclock_update() has to write for the guest */
	struct {
		u64 since, last; /* host TSC: the first PAUSE of a loop, and the latest */
	} spin;

	/* The engine's own */
	struct tlb_entry *tlb; /* [NR_MMU + 1][TLB_SPAN], see tlb_of(); the last is always empty */
	struct {
		u64 mib4[64]; /* a bit for each 4 MiB (hashed) that may have pieces of a 2 or 4 MiB page in the TLB */
		u64 gib;      /* likewise for each GiB and 1 GiB pages */
		u64 pieces[NR_MMU][TLB_SPAN / 64]; /* the entries that may be such pieces */
	} large;
	struct {
		struct {
			u16 pcid;
			u16 gen;   /* 0: none, as is one below floor */
			u64 stamp; /* code_cache::stamp */
		} kept[16];        /* address spaces that are not current but may still have entries (PCIDs) */
		u16 last, floor;   /* generations: the last one given out; older ones than floor are void */
	} spaces;
	const struct memmap *map;      /* guest physical memory; replaced only while the vCPU rests */
	struct code_cache *code;
	struct block *cur_block;
	const struct cpu_host *host;
	void *host_ctx;
	u32 id;                        /* vCPU id = initial APIC id */
	bool want_window;              /* kvm_run::request_interrupt_window */
	u64 rep_at;                    /* RIP of a string instruction between two of its iterations; REP_NOWHERE */
	u32 vectoring;                 /* the event that is being delivered, as VECTORING_*; 0: none */
	bool hypercall_exits, msr_exits;
	u32 guest_debug;               /* KVM_GUESTDBG_* */
	u64 guest_dr[8];
	/* The breakpoints in force, DR0-3 of the guest or of its debugger; derived by debug_update(), see debug.h. */
	struct {
		u64 addr[4];
		u8 size[4];                    /* bytes */
		u8 exec, write, access, port;  /* masks of the four; access: reads and writes */
		u8 hits;                       /* data and port breakpoints that were hit and not yet reported */
		u64 start;                     /* RIP when the instruction that executes began */
	} bp;
	struct {                       /* a read-modify-write on two pages that are apart on the host (mem/access.c) */
		bool held;             /* there is one: this vCPU holds memmap::split */
		bool written;          /* the first page's part is written already, with `put` */
		u8 n;                  /* bytes in the first page */
		u8 *host[2];
		u8 old[8], put[8];
	} split;
	u64 bounce[8 * 64 / 8] __attribute__((aligned(64))); /* RMW on memory that has no single host address */

	struct cpu_stats stats;
	u32 quota;                     /* what budget was when stats::blocks was up to date */
	bool exact_stats;              /* instructions of a block that were not reached are not counted */
};

/* What the engine asks of whoever embeds it. All may be NULL; ctx is cpu::host_ctx. */
struct cpu_host {
	/*
	 * A device that is served here and not by the client (ioeventfd, coalesced MMIO): true if it took the access.
	 */
	bool (*mmio)(void *ctx, u64 gpa, unsigned len, bool write, void *data);
	bool (*pio)(void *ctx, u16 port, unsigned size, bool write, void *data);
	/* ATTN_REQUEST: rest until the VM is done; may replace cpu::map. */
	void (*request)(void *ctx);
	/* Every few thousand blocks: must KVM_RUN end (a pending signal)? */
	bool (*poll)(void *ctx);
	/* May the guest access this MSR (KVM_X86_SET_MSR_FILTER)? */
	bool (*msr_allowed)(void *ctx, u32 index, bool write);
	/*
	 * RDMSR or WRMSR would raise #GP; cpu::exit.msr has index, data and KVM_MSR_EXIT_REASON_* why. 0: handled
	 * (*data is the answer); < 0: #GP; ST_EXIT: the client is asked, and the instruction runs again with its
	 * answer.
	 */
	int (*msr)(void *ctx, u32 index, u64 *data, bool write);
};

enum cpu_mode {
	CPU_REAL,
	CPU_VM86,
	CPU_PROT,
	CPU_COMPAT, /* long mode, CS.L = 0 */
	CPU_LONG,   /* 64-bit mode */
};

enum paging {
	PAGING_NONE,
	PAGING_32,
	PAGING_PAE,
	PAGING_4LEVEL,
};

static inline u64 cpu_rflags(const struct cpu *c)
{
	return c->rflags | (c->cc & FL_STATUS) | FL_1;
}

static inline bool cpu_long_mode(const struct cpu *c)
{
	return c->efer & EFER_LMA;
}

static inline unsigned cpu_iopl(const struct cpu *c)
{
	return (c->rflags >> 12) & 3;
}

static inline void io_log_clear(struct cpu *c)
{
	c->io.n = c->io.cursor = 0;
}

/* The soft TLB of one mmu_index, or the empty one (NR_MMU): TLB_SIZE entries for the current generation. */
static inline struct tlb_entry *tlb_of(const struct cpu *c, unsigned mmu)
{
	return c->tlb + mmu * TLB_SPAN + space_window(c->tlb_gen, TLB_SIZE);
}

static inline unsigned tlb_index(u64 lin)
{
	return (lin >> 12) & (TLB_SIZE - 1);
}

static inline void cpu_attn(struct cpu *c, u32 why)
{
	__atomic_fetch_or(&c->attn, why, __ATOMIC_SEQ_CST);
}

static inline void cpu_attn_clear(struct cpu *c, u32 why)
{
	__atomic_fetch_and(&c->attn, ~why, __ATOMIC_SEQ_CST);
}

/* State after RESET (SDM vol. 3, table 9-1). Keeps CPUID, id, host, map, TLB memory. */
void cpu_reset(struct cpu *c);

/* Recomputes everything derived (see struct cpu). To be called after any change of CR0, CR4, EFER, RFLAGS.VM, CPL or
 * a segment register other than by seg_load(). Does not flush the TLB. */
void cpu_update_mode(struct cpu *c);

/* Recomputes rd_end and wr_end of one segment register. */
void cpu_update_seg(struct cpu *c, unsigned s);

/* Replaces RFLAGS as a whole; sets ATTN_* as TF and IF demand. */
void cpu_set_rflags(struct cpu *c, u64 rflags);

/* STAC and CLAC: only AC, at CPL 0. */
void cpu_set_ac(struct cpu *c, bool on);

/* Something about deliverable events changed (IF, shadow, queue): the run loop will look. */
static inline void cpu_events_changed(struct cpu *c)
{
	cpu_attn(c, ATTN_EVENT);
}

/* Raise a fault: fills cpu::fault and returns ST_FAULT. */
static inline int fault_noerr(struct cpu *c, u8 vector)
{
	c->fault = (struct fault){ .vector = vector };
	return ST_FAULT;
}

static inline int fault_err(struct cpu *c, u8 vector, u32 error)
{
	c->fault = (struct fault){ .vector = vector, .has_error = true, .error = error };
	return ST_FAULT;
}

static inline int fault_ud(struct cpu *c)
{
	return fault_noerr(c, VEC_UD);
}

static inline int fault_gp(struct cpu *c, u32 error)
{
	return fault_err(c, VEC_GP, error);
}

static inline int fault_page(struct cpu *c, u64 addr, u32 error)
{
	c->fault = (struct fault){ .vector = VEC_PF, .has_error = true, .error = error, .addr = addr };
	return ST_FAULT;
}

#endif
