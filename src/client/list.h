/* SPDX-License-Identifier: MIT */
/* `ukvm --list`: the tables that the code itself works from. */
#ifndef UKVM_CLIENT_LIST_H
#define UKVM_CLIENT_LIST_H

#include <stdbool.h>

/* what: ioctls, caps, msrs or cpuid, to standard output. An exit status. */
int list_print(const char *what, bool json);

#endif
