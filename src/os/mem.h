/* SPDX-License-Identifier: MIT */
/* Zeroed, page-aligned memory straight from the host kernel; untouched pages cost nothing. */
#ifndef UKVM_OS_MEM_H
#define UKVM_OS_MEM_H

#include <stddef.h>

void *os_alloc(size_t size); /* NULL if there is none */
void os_free(void *p, size_t size); /* p may be NULL */

/* Where the address space ends that the host kernel gives to processes. */
unsigned long os_user_end(void);

#endif
