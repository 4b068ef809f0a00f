/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault injection for one thread: the kernel lets the n-th thing fail that can (an allocation of
 * the slab or of pages, a copy from or to user space) that this thread asks for, counted from
 * faults_arm(n).
 *
 * Needs FAULT_INJECTION, FAILSLAB, FAIL_PAGE_ALLOC and, better, FAULT_INJECTION_USERCOPY; elsewhere
 * faults_open() says -1 and nothing ever fails.
 */
#ifndef DISTWORKER_FAULTS_H
#define DISTWORKER_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAULTS "/sys/kernel/debug/"

static inline void faults_set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		fprintf(stderr, "# cannot write %s to %s: %s\n", value, file, strerror(errno));
	close(fd);
}

/*
 * Once for the machine: by default allocations that may sleep never fail, and those matter here.
 */
static inline void faults_prepare(void)
{
	static const char *const points[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	char path[128];
	unsigned int i;

	for (i = 0; i < sizeof(points) / sizeof(*points); i++) {
		snprintf(path, sizeof(path), FAULTS "%s/verbose", points[i]);
		faults_set(path, "0");
	}
	faults_set(FAULTS "failslab/ignore-gfp-wait", "N");
	faults_set(FAULTS "fail_page_alloc/ignore-gfp-wait", "N");
	faults_set(FAULTS "fail_page_alloc/ignore-gfp-highmem", "N");
	faults_set(FAULTS "fail_page_alloc/min-order", "0");
}

/* The calling thread's counter, or -1. */
static inline int faults_open(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", (int)syscall(SYS_gettid));
	return open(path, O_RDWR | O_CLOEXEC);
}

static inline void faults_arm(int fd, unsigned int n)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", n);

	/* A second time, since the copy of a second number can fail. */
	if (pwrite(fd, text, length, 0) < 0 && pwrite(fd, text, length, 0) < 0)
		fprintf(stderr, "# cannot write fail-nth: %s\n", strerror(errno));
}

/* Ends it. Has something failed since faults_arm()? */
static inline bool faults_disarm(int fd)
{
	char text[16] = "";
	int saved = errno;
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
	/*
	 * Reading copies, and this copy may be the one that fails: then nothing has failed before.
	 */
	bool failed = got > 0 && atoi(text) == 0;

	faults_arm(fd, 0);
	errno = saved;
	return failed;
}

#endif /* DISTWORKER_FAULTS_H */
