/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Limits for "it does not hang", in nanoseconds of a machine that is quiet. unit_within(start, ns)
 * stretches them by a control: a fixed amount of work and of sleep that the caller does in the same
 * moment, and the load of the last minute, for a burst that is over. On a quiet machine the factor
 * is 1. UNIT_SLOW=N in the environment, for kernels that watch themselves: N times longer. All of
 * it may be called in a signal handler.
 */
#ifndef SLOW_H
#define SLOW_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SLOW_WORK_NS 20000000ULL	/* of CPU time */
#define SLOW_NAPS 10U
#define SLOW_NAP_NS 1000000ULL

static inline unsigned unit_slow(void)
{
	const char *slow = getenv("UNIT_SLOW");

	return slow && atoi(slow) > 0 ? (unsigned)atoi(slow) : 1;
}

static inline uint64_t slow_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* Runnable threads per CPU in the last minute; 0 without /proc. */
static inline uint64_t slow_load(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char text[32] = "";
	ssize_t n = -1;
	int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	return strtoul(text, NULL, 10) / (cpus > 0 ? (unsigned long)cpus : 1);
}

/* How many times longer than on a quiet machine things take now; at least 1. */
static inline uint64_t unit_busy(void)
{
	uint64_t factor = slow_load(), start = slow_clock(CLOCK_MONOTONIC), wall, began;
	const struct timespec nap = { 0, SLOW_NAP_NS };

	for (began = slow_clock(CLOCK_THREAD_CPUTIME_ID);
	     slow_clock(CLOCK_THREAD_CPUTIME_ID) - began < SLOW_WORK_NS;)
		;
	wall = slow_clock(CLOCK_MONOTONIC) - start;
	if ((wall + SLOW_WORK_NS / 2) / SLOW_WORK_NS > factor)
		factor = (wall + SLOW_WORK_NS / 2) / SLOW_WORK_NS;
	start = slow_clock(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < SLOW_NAPS; i++)
		nanosleep(&nap, NULL);
	wall = slow_clock(CLOCK_MONOTONIC) - start;
	if (wall / (SLOW_NAPS * SLOW_NAP_NS) > factor)
		factor = wall / (SLOW_NAPS * SLOW_NAP_NS);
	return factor ? factor : 1;
}

/*
 * Has less than `ns` passed since `start` (CLOCK_MONOTONIC), in the time of a quiet machine? Keeps
 * errno.
 */
static inline bool unit_within(uint64_t start, uint64_t ns)
{
	uint64_t took = slow_clock(CLOCK_MONOTONIC) - start;
	int saved = errno;
	bool within;

	/* Measure the control only when it decides, since it takes a moment. */
	within = took < ns * unit_slow() || took < ns * unit_slow() * unit_busy();
	errno = saved;
	return within;
}

/* Does one of these events arrive at `fd` within 20 s of a quiet machine? */
static inline bool unit_polled(int fd, short events)
{
	uint64_t start = slow_clock(CLOCK_MONOTONIC);
	struct pollfd poller = { .fd = fd, .events = events };

	do {
		if (poll(&poller, 1, 1000) == 1)
			return true;
	} while (unit_within(start, 20000000000ULL));
	return false;
}

#endif
