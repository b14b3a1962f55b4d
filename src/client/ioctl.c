// SPDX-License-Identifier: MIT
#include "client/preload.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>

#include "kvm/ioctl.h"
#include "kvm/object.h"
#include "os/log.h"

static const char *name_of(u32 request)
{
	for (u32 n = 0; n < nr_ioctl_rows; n++)
		if (ioctl_rows[n].request == request)
			return ioctl_rows[n].name;
	return NULL;
}

static void log_ioctl(int fd, unsigned long request, unsigned long arg, int ret)
{
	const char *name = name_of((u32)request);
	struct os_log l;

	os_log_begin(&l);
	os_log_str(&l, name ? name : "unknown ioctl ");
	if (!name)
		os_log_hex(&l, request);
	os_log_str(&l, " fd ");
	os_log_dec(&l, fd);
	os_log_str(&l, " arg ");
	os_log_hex(&l, arg);
	os_log_str(&l, " = ");
	os_log_dec(&l, ret);
	os_log_end(&l);
}

/*
 * One that is not KVM's. The kernel's KVM answers EINVAL on /dev/kvm and on a vCPU, as for every request that it does
 * not know; our memfds would say ENOTTY.
 */
static int foreign(int fd, unsigned long request, unsigned long arg)
{
	int ret = next()->ioctl_(fd, request, arg);
	enum obj_class class;

	if (ret == -1 && errno == ENOTTY) {
		class = kvm_fd_class(fd);
		errno = class == OBJ_SYSTEM || class == OBJ_VCPU ? EINVAL : ENOTTY;
	}
	return ret;
}

/* Whether the fd is ours is not asked of the bitmap in fd.c: it may have come through a socket or pidfd_getfd(). */
EXPORT int ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);

	if (_IOC_TYPE(request) != KVMIO)
		return foreign(fd, request, arg);
	ret = kvm_ioctl(fd, request, arg);
	if (ret == KVM_NOT_OURS)
		return next()->ioctl_(fd, request, arg);
	if (os_log_on())
		log_ioctl(fd, request, arg, ret);
	if (ret < 0)
		return edge(ret);
	if (request == KVM_CREATE_VM || request == KVM_CREATE_VCPU)
		fd_add(ret);
	quirk_after_ioctl(fd, request, arg);
	return ret;
}
