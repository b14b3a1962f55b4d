/* SPDX-License-Identifier: MIT */
/* Zeroed, page-aligned memory straight from the host kernel; untouched pages cost nothing. */
#ifndef UKVM_OS_MEM_H
#define UKVM_OS_MEM_H

#include <stddef.h>

void *os_alloc(size_t size);        /* NULL if there is none */
void *os_alloc_exec(size_t size);   /* to be executed, too; NULL also where that is forbidden */
void os_free(void *p, size_t size); /* p may be NULL */

/*
 * The page at *where, made by the first caller (*where is NULL before). In a forked child it is all zero again, which
 * is what a lock should be there, whatever the parent's other threads were doing. NULL if there is no memory.
 */
void *os_page_wiped_by_fork(void **where);

/* Where the address space ends that the host kernel gives to processes. */
unsigned long os_user_end(void);

#endif
