// SPDX-License-Identifier: MIT
/* Where operands are: registers, and the way from an effective address to the host's. */
#include "jit/translate.h"

/*
 * RAX, RDX and RBX are themselves, for MUL, DIV, CWD and for AH, DH, BH. RCX is the host's scratch register, since
 * shifts want their count there. Those without a host register are the ones that compilers use least.
 */
static const s8 in_host[16] = {
	[RAX] = H_RAX, [RCX] = H_R13,  [RDX] = H_RDX,  [RBX] = H_RBX,  [RSP] = H_R12,  [RBP] = H_RBP,
	[RSI] = H_RSI, [RDI] = H_RDI,  [R8] = H_R8,    [R9] = H_R9,    [R10] = H_NONE, [R11] = H_NONE,
	[R12] = H_R10, [R13] = H_NONE, [R14] = H_NONE, [R15] = H_NONE,
};

enum host_reg guest_reg(unsigned off)
{
	return off < R_ZERO * 8 ? in_host[off / 8] : H_NONE;
}

struct rm gpr_field(unsigned n)
{
	return rm_mem(H_CPU, (s32)(offsetof(struct cpu, gpr) + n * 8));
}

enum host_reg source(struct trans *t, unsigned off, enum host_reg scratch)
{
	enum host_reg r = guest_reg(off);

	if (is_high_byte(off)) {
		emit_rm(&t->e, SZ_32, OPC_0F | OPC_SAME | 0xb6, H_ADDR, rm_reg(r + 4)); /* movzx from AH, DH, BH */
		return H_ADDR;
	}
	if (r != H_NONE)
		return r;
	emit_load(&t->e, SZ_64, scratch, gpr_field(off / 8));
	return scratch;
}

enum host_reg dest(struct trans *t, unsigned off, unsigned size, bool old, enum host_reg scratch)
{
	enum host_reg r = guest_reg(off);

	if (is_high_byte(off))
		return old ? source(t, off, scratch) : H_ADDR;
	if (r != H_NONE)
		return r;
	if (old || size < SZ_32)
		emit_load(&t->e, SZ_64, scratch, gpr_field(off / 8));
	return scratch;
}

void dest_done(struct trans *t, unsigned off, enum host_reg r)
{
	if (is_high_byte(off))
		emit_rm(&t->e, SZ_32, OPC_SAME | 0x88, r, rm_reg(guest_reg(off) + 4)); /* mov to AH, DH, BH */
	else if (guest_reg(off) == H_NONE)
		emit_store(&t->e, SZ_64, gpr_field(off / 8), r);
}

/* ---- memory ---- */
bool operand_ok(const struct insn *i)
{
	return i->asize >= SZ_32;
}

static enum host_reg address_part(struct trans *t, unsigned off, enum host_reg scratch)
{
	if (off == R_ZERO * 8)
		return H_NONE;
	if (guest_reg(off) != H_NONE)
		return guest_reg(off);
	emit_load(&t->e, SZ_64, scratch, gpr_field(off / 8));
	return scratch;
}

/* RIP-relative operands are block-relative already where the interpreter's threaded code wants them so. */
struct rm operand_ea(struct trans *t, const struct insn *i)
{
	bool rip = i->base == R_RIP * 8;

	return (struct rm){
		.mem = true,
		.base = (s8)address_part(t, rip ? R_BLOCK * 8 : i->base, H_TMP),
		.index = (s8)address_part(t, i->index, H_TMP2),
		.scale = i->scale,
		.disp = i->disp + (rip ? i->end : 0),
	};
}

static struct rm seg_field(unsigned seg, size_t field)
{
	return rm_mem(H_CPU, (s32)(offsetof(struct cpu, seg) + seg * sizeof(struct seg) + field));
}
#define SEG(seg, field) seg_field(seg, offsetof(struct seg, field))

/* mem_fast(): segments have limits outside 64-bit mode, where only FS and GS have a base. */
static void segment_address(struct trans *t, unsigned seg, unsigned size, enum mem_access how)
{
	struct emit *e = &t->e;

	if (seg == SEG_FLAT || seg == SEG_FLAT_SS)
		return;
	if (t->b->mode == DECODE_64) {
		emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_ADD), H_ADDR, SEG(seg, base));
		return;
	}
	emit_lea(e, SZ_64, H_TMP2, rm_mem(H_ADDR, 1 << size));
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_CMP), H_TMP2, how == MEM_READ ? SEG(seg, rd_end) : SEG(seg, wr_end));
	slow_if(t, COND_NBE);
	emit_rm(e, SZ_32, OPC_ALU_LOAD(ALU_ADD), H_ADDR, SEG(seg, base));
}

#define TLB(field) rm_mem(H_TMP2, offsetof(struct tlb_entry, field))

/* The page of the last byte is compared with the entry of the first, so an access of two pages misses. */
void check_page(struct trans *t, unsigned bytes, enum mem_access how)
{
	struct emit *e = &t->e;

	_Static_assert(sizeof(struct tlb_entry) == 32, "the shift below");
	emit_mov(e, H_TMP2, H_ADDR);
	emit_ext(e, SZ_64, 0xc1, 5, rm_reg(H_TMP2)); /* shr */
	emit8(e, PAGE_SHIFT - 5);
	emit_alu_imm(e, SZ_32, ALU_AND, rm_reg(H_TMP2), (TLB_SIZE - 1) << 5);
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_ADD), H_TMP2, CPU_FIELD(tlb_cur));
	emit_lea(e, SZ_64, H_TMP, rm_mem(H_ADDR, (s32)bytes - 1));
	emit_alu_imm(e, SZ_64, ALU_AND, rm_reg(H_TMP), PAGE_MASK);
	emit_rm(e, SZ_64, OPC_ALU_LOAD(ALU_OR), H_TMP, CPU_FIELD(tlb_gen));
	emit_rm(e, SZ_64, OPC_ALU_STORE(ALU_CMP), H_TMP, how == MEM_READ ? TLB(rd) : TLB(wr));
	slow_if(t, COND_NZ);
}

/* The offset in seg that H_ADDR holds becomes a host address. */
static void check_address(struct trans *t, unsigned seg, unsigned size, enum mem_access how)
{
	flags_clobber(t);
	segment_address(t, seg, size, how);
	check_page(t, 1u << size, how);
	emit_rm(&t->e, SZ_64, OPC_ALU_LOAD(ALU_ADD), H_ADDR, TLB(addend));
}

static bool is_flat(const struct trans *t, const struct insn *i)
{
	return t->b->mode == DECODE_64 && (i->seg == SEG_FLAT || i->seg == SEG_FLAT_SS) && i->asize == SZ_64 &&
	       i->index == R_ZERO * 8 && i->base < R_ZERO * 8;
}

void operand_address(struct trans *t, const struct insn *i, unsigned size, enum mem_access how)
{
	access_note(t, is_flat(t, i) ? i->base : NO_BASE, i->disp, 1u << size, how);
	if (group_address(t))
		return;
	flags_save(t);
	emit_lea(&t->e, i->asize, H_ADDR, operand_ea(t, i));
	check_address(t, i->seg, size, how);
}

/* ---- the stack: words of the mode's width ---- */
void stack_address(struct trans *t, unsigned pointer, s32 disp, enum mem_access how)
{
	unsigned word = code_word(t);

	access_note(t, word == SZ_64 ? pointer : NO_BASE, disp, 1u << word, how);
	if (group_address(t))
		return;
	flags_save(t);
	if (word == SZ_32 && !t->stack32) { /* SS.B */
		flags_clobber(t);
		emit_ext(&t->e, SZ_8, OPC_ALU_IMM, ALU_CMP, CPU_FIELD(stack_size));
		emit8(&t->e, SZ_32);
		slow_if(t, COND_NZ);
		t->stack32 = true;
	}
	emit_lea(&t->e, word, H_ADDR, rm_mem(guest_reg(pointer), disp));
	check_address(t, word == SZ_64 ? SEG_FLAT_SS : SEG_SS, word, how);
}

void stack_set(struct trans *t, enum host_reg pointer, s32 disp)
{
	emit_lea(&t->e, code_word(t), guest_reg(RSP * 8), rm_mem(pointer, disp));
}

struct rm guest_memory(struct trans *t)
{
	t->cur->unsaved = t->flags == FLAGS_LIVE;
	t->cur->fault[t->cur->nr_faults++] = t->e.at;
	return rm_mem(H_ADDR, 0);
}
