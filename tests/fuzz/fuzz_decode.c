// SPDX-License-Identifier: MIT
/*
 * The decoder takes any bytes in any mode: it reads no more than it is given, agrees with itself however many bytes
 * follow, and what it returns can be executed without looking whether it makes sense.
 */
#include "cpu/cpu.h"
#include "insn/insn.h"
#include "interp/impl.h"

#include "fuzz.h"

/* Exactly n bytes, so that a sanitizer sees any read behind them. */
static int decode_exactly(const u8 *bytes, size_t n, enum decode_mode mode, struct insn *i)
{
	u8 *copy = malloc(n ? n : 1);
	int len;

	memcpy(copy, bytes, n);
	memset(i, 0xa5, sizeof(*i));
	len = insn_decode(copy, n, mode, i);
	free(copy);
	return len;
}

static void check_insn(const struct insn *i, enum decode_mode mode, int len)
{
	bool ok = i->len == len && i->op > OP_invalid && i->op < NR_OPS && i->form < NR_FORMS && i->size <= SZ_80 &&
		  i->asize >= SZ_16 && i->asize <= SZ_64 && i->seg < NR_SEG_ALL && i->scale <= 3 &&
		  !(i->flags & INSN_MODE64) == (mode != DECODE_64);

	/* Vector instructions may have a vector register as index. */
	if (i->flags & INSN_MEM)
		ok = ok && !(i->base & 7) && i->base / 8 < NR_GPR && (i->index < 16 || !(i->index & 7)) &&
		     i->index / 8 < NR_GPR;
	if (i->form >= FORM_LM)
		ok = ok && (i->flags & INSN_LOCK) && (i->flags & INSN_MEM);
	else
		ok = ok && !(i->flags & INSN_LOCK);
	ok = ok && i->dst < 8 * NR_GPR && i->src < 8 * NR_GPR && i->src2 < 8 * NR_GPR;
	if (!ok)
		fuzz_fail("%s: len %d form %d size %d asize %d seg %d flags %x base %d index %d dst %d src %d src2 %d",
			  insn_op_name(i->op), i->len, i->form, i->size, i->asize, i->seg, i->flags, i->base, i->index,
			  i->dst, i->src, i->src2);
	if (interp_bind(i) == interp_unimplemented)
		fuzz_fail("%s, form %d, size %d has no handler", insn_op_name(i->op), i->form, i->size);
}

static void check_mode(const u8 *bytes, size_t n, enum decode_mode mode)
{
	struct insn i, again;
	int len = decode_exactly(bytes, n, mode, &i);

	if (len > 15 || len > (int)n || !len || (len < 0 && len != DECODE_MORE && len != DECODE_UD && len != DECODE_GP))
		fuzz_fail("mode %d: length %d of %zu bytes", mode, len, n);
	if (len == DECODE_MORE && n >= 15)
		fuzz_fail("mode %d: 15 bytes are not enough", mode);
	if (len == DECODE_GP && n < 15)
		fuzz_fail("mode %d: %zu bytes are too long", mode, n);
	if (len < 0)
		return;
	check_insn(&i, mode, len);
	/* What follows does not matter, and nothing less is an instruction. */
	if (decode_exactly(bytes, (size_t)len, mode, &again) != len || again.op != i.op || again.imm != i.imm ||
	    again.disp != i.disp || again.form != i.form || again.dst != i.dst || again.src != i.src)
		fuzz_fail("mode %d: the bytes behind an instruction change it", mode);
	for (int cut = 0; cut < len; cut++)
		if (decode_exactly(bytes, (size_t)cut, mode, &again) != DECODE_MORE)
			fuzz_fail("mode %d: %d of %d bytes are enough", mode, cut, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 17)
		size = 17;
	for (unsigned mode = DECODE_16_REAL; mode <= DECODE_64; mode++)
		check_mode(data, size, mode);
	return 0;
}
