/* SPDX-License-Identifier: MIT */
/* Can a program be given our /dev/kvm? */
#ifndef UKVM_CLIENT_FIT_H
#define UKVM_CLIENT_FIT_H

#include <stddef.h>

#define EXIT_UNFIT 126 /* as shells: found, but cannot be run */
#define EXIT_MISSING 127

/* Finds cmd as execvp() does: 0 and its path, or EXIT_MISSING, EXIT_UNFIT (not executable) and why. */
int fit_find(const char *cmd, char *path, size_t size, const char **why);

/* 0, or EXIT_UNFIT and why not and what to do, to follow the path. `culprit` is the path, or a script's interpreter. */
int fit_check(const char *path, char *culprit, size_t size, const char **why);

#endif
