// SPDX-License-Identifier: MIT
/* The embedding API: the edge where negative errnos become -1 and errno. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <ukvm/ukvm.h>

#include "kvm/ioctl.h"
#include "kvm/object.h"
#include "kvm/stats.h"
#include "kvm/version.h"
#include "os/sys.h"

static int edge(int ret)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}

int ukvm_open(void)
{
	stats_open();
	return edge(kvm_open(O_RDWR | O_CLOEXEC));
}

int ukvm_ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	ret = kvm_ioctl(fd, request, arg);
	if (ret == KVM_NOT_OURS)
		ret = os_fcntl(fd, F_GETFD, 0) == -EBADF ? -EBADF : -ENOTTY;
	return edge(ret);
}

int ukvm_close(int fd)
{
	int ret = os_close(fd);

	kvm_collect();
	return edge(ret);
}

const char *ukvm_version(void)
{
	return UKVM_VERSION;
}
