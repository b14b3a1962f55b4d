// SPDX-License-Identifier: MIT
/*
 * The dynamic loader has to load our library into the program: so it must be a dynamically linked x86-64 program of
 * this libc, and must not gain privileges, since the loader then drops LD_PRELOAD.
 */
#include "client/fit.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_SCRIPTS 5 /* interpreters that are scripts: the kernel's limit */

/* Executable as execve() sees it: 0 or an errno. */
static int probe(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? EISDIR : EACCES;
	return access(path, X_OK) ? errno : 0;
}

static int verdict(int err, bool in_path, const char **why)
{
	switch (err) {
	case 0:
		return 0;
	case ENOENT:
	case ENOTDIR:
		*why = in_path ? "command not found" : "no such file";
		return EXIT_MISSING;
	case EISDIR:
		*why = "is a directory";
		return EXIT_UNFIT;
	case EACCES:
		*why = "not executable; see its permissions";
		return EXIT_UNFIT;
	default:
		*why = strerror(err);
		return EXIT_UNFIT;
	}
}

int fit_find(const char *cmd, char *path, size_t size, const char **why)
{
	const char *dir = getenv("PATH");
	int err = ENOENT;

	if (!*cmd)
		return verdict(ENOENT, true, why);
	if (strchr(cmd, '/')) {
		snprintf(path, size, "%s", cmd);
		return verdict(probe(path), false, why);
	}
	for (dir = dir ? dir : "/bin:/usr/bin"; dir; dir = strchr(dir, ':') ? strchr(dir, ':') + 1 : NULL) {
		int n = (int)strcspn(dir, ":");
		int e;

		if (snprintf(path, size, "%.*s%s%s", n, dir, n ? "/" : "", cmd) >= (int)size)
			continue;
		e = probe(path);
		if (!e)
			return 0;
		if (e == EACCES) /* remembered, while the search goes on */
			err = e;
	}
	snprintf(path, size, "%s", cmd);
	return verdict(err, true, why);
}

static const char *check_privileges(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return strerror(errno);
	if (st.st_mode & S_ISUID || (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		return "is setuid or setgid, and such programs do not load our library; run a copy without that bit";
	if (fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return "has file capabilities, and such programs do not load our library; run a copy without them";
	return NULL;
}

/* The loader that PT_INTERP names. */
static const char *check_loader(int fd, const Elf64_Phdr *ph)
{
	char loader[PATH_MAX] = "";

	if (ph->p_filesz >= sizeof(loader) || pread(fd, loader, ph->p_filesz, (off_t)ph->p_offset) < 0)
		return "its program interpreter cannot be read";
	if (!strstr(loader, "ld-linux-x86-64"))
		return "is linked with another C library than glibc, with which our library does not work; "
		       "use a build for glibc";
	return NULL;
}

/* The loader itself as the command, which then loads a program, and our library with it. */
static bool is_loader(int fd)
{
	char link[32], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = 0;
	return strstr(path, "/ld-linux-x86-64") || strstr(path, "/ld-2.");
}

static const char *check_headers(int fd, const Elf64_Ehdr *eh)
{
	for (unsigned n = 0; n < eh->e_phnum; n++) {
		Elf64_Phdr ph;

		if (pread(fd, &ph, sizeof(ph), (off_t)(eh->e_phoff + n * eh->e_phentsize)) != sizeof(ph))
			return "its program headers cannot be read";
		if (ph.p_type == PT_INTERP)
			return check_loader(fd, &ph);
	}
	if (is_loader(fd))
		return NULL;
	return "is statically linked and so cannot load our library; "
	       "use a dynamically linked build, or link it with libukvm";
}

static const char *check_elf(int fd, const Elf64_Ehdr *eh)
{
	if (eh->e_machine == EM_386)
		return "is a 32-bit x86 program, and ukvm runs in 64-bit ones; "
		       "use its amd64 build (the guest may be 32-bit)";
	if (eh->e_machine != EM_X86_64)
		return "is for another architecture than this machine's; use its amd64 build";
	if (eh->e_ident[EI_CLASS] != ELFCLASS64)
		return "is an x32 program, and ukvm runs in amd64 ones; use its amd64 build";
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return "is not a program";
	return check_headers(fd, eh);
}

/* "#! interpreter argument": its first word. */
static const char *script_interpreter(char *line)
{
	line += strspn(line, " \t");
	line[strcspn(line, " \t\r\n")] = 0;
	return *line ? line : "/bin/sh";
}

int fit_check(const char *path, char *culprit, size_t size, const char **why)
{
	char head[PATH_MAX + 1];
	int fd;

	snprintf(culprit, size, "%s", path);
	for (int scripts = 0; scripts < MAX_SCRIPTS; scripts++) {
		Elf64_Ehdr eh;
		ssize_t n;

		fd = open(culprit, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return errno == EACCES ? 0 : verdict(errno, false, why); /* executable, unreadable: a try */
		n = read(fd, head, sizeof(head) - 1);
		head[n < 0 ? 0 : n] = 0;
		*why = check_privileges(fd);
		if (!*why && n >= (ssize_t)sizeof(eh) && !memcmp(head, ELFMAG, SELFMAG)) {
			memcpy(&eh, head, sizeof(eh));
			*why = check_elf(fd, &eh);
			close(fd);
			return *why ? EXIT_UNFIT : 0;
		}
		close(fd);
		if (*why)
			return EXIT_UNFIT;
		if (head[0] != '#' || head[1] != '!')
			return 0; /* execvp() gives it to a shell */
		snprintf(culprit, size, "%s", script_interpreter(head + 2));
	}
	*why = "too many interpreters of interpreters";
	return EXIT_UNFIT;
}
