/* SPDX-License-Identifier: MIT */
/* The way in for the preloaded library and the embedding API. */
#ifndef UKVM_KVM_IOCTL_H
#define UKVM_KVM_IOCTL_H

#include "kvm/vm.h"

/* What kvm_ioctl() returns for an fd or a request that is not ours: the real ioctl() is to have it. Not an errno. */
#define KVM_NOT_OURS (-0x10000)

/* ioctl(2): a result >= 0, a negative errno, or KVM_NOT_OURS. */
int kvm_ioctl(int fd, unsigned long request, unsigned long arg);

/* ioctls.def for listings. */
enum ioctl_arg { ARG_NONE, ARG_ZERO, ARG_VALUE, ARG_COPY, ARG_USER };
struct ioctl_row {
	u32 request;
	enum obj_class class;
	enum ioctl_arg arg;
	const char *name, *since, *text;
};
extern const struct ioctl_row ioctl_rows[];
extern const u32 nr_ioctl_rows;

#endif
