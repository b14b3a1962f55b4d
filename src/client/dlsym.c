// SPDX-License-Identifier: MIT
/*
 * dlsym(): programs that call C without having been compiled against it (Python's ctypes, JNA, Julia, ...) open libc by
 * its name and ask it for its functions. They get ours where there are any.
 *
 * RTLD_NEXT and RTLD_DEFAULT depend on who asks, which the next library's dlsym() sees by its return address: those
 * calls are passed on by a jump, so that it is the caller's.
 */
#include "client/preload.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>

void *dlsym_in_library(void *library, const char *name);
void dlsym_find(void);

static __typeof__(&dlsym) next_dlsym __attribute__((used));

/* The version is that of glibc before 2.34 as well. */
__attribute__((used)) void dlsym_find(void)
{
	if (!__atomic_load_n(&next_dlsym, __ATOMIC_RELAXED))
		__atomic_store_n(&next_dlsym, (__typeof__(&dlsym))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"),
				 __ATOMIC_RELAXED);
}

static bool same_library(const void *a, const void *b)
{
	Dl_info x, y;

	return dladdr(a, &x) && dladdr(b, &y) && x.dli_fbase == y.dli_fbase;
}

/* This library, as dlsym() wants it. */
static void *self(void)
{
	static void *handle;
	Dl_info us;

	if (!__atomic_load_n(&handle, __ATOMIC_RELAXED) && dladdr((void *)self, &us))
		__atomic_store_n(&handle, dlopen(us.dli_fname, RTLD_LAZY | RTLD_NOLOAD), __ATOMIC_RELAXED);
	return handle;
}

__attribute__((used)) void *dlsym_in_library(void *library, const char *name)
{
	void *found, *ours;

	dlsym_find();
	found = next_dlsym(library, name);
	if (!found || !same_library(found, (void *)gnu_get_libc_version) || !self())
		return found;
	/* The next library, which looks for what its own function of that name has to call. */
	if (same_library(next_dlsym(RTLD_NEXT, name), __builtin_return_address(0)))
		return found;
	ours = next_dlsym(self(), name);
	return ours && same_library(ours, (void *)self) ? ours : found;
}

/* RTLD_NEXT is -1, RTLD_DEFAULT is 0. */
__asm__(".text\n"
	".globl dlsym\n"
	".type dlsym, @function\n"
	"dlsym:\n"
	"	leaq 1(%rdi), %rax\n"
	"	cmpq $1, %rax\n"
	"	ja dlsym_in_library\n"
	"	cmpq $0, next_dlsym(%rip)\n"
	"	jne 1f\n"
	"	pushq %rdi\n"
	"	pushq %rsi\n"
	"	subq $8, %rsp\n"
	"	call dlsym_find\n"
	"	addq $8, %rsp\n"
	"	popq %rsi\n"
	"	popq %rdi\n"
	"1:	jmp *next_dlsym(%rip)\n"
	".size dlsym, . - dlsym\n");
