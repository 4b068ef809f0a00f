/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See silence.h. */
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fd.h"
#include "host/silence.h"
#include "task/error.h"

/* Acknowledgements are delayed by up to 200 ms. */
#define PERIOD_LEAST_NS 250000000ULL
#define PERIOD_MOST_NS 500000000ULL

int silence_begin(struct silence *silence, uint64_t timeout_ns)
{
	*silence = (struct silence){
		.fd = fd_move_up(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)),
	};
	if (silence->fd < 0)
		return error_set(-errno, "timerfd: %s%s", strerror(errno), error_hint(errno));
	silence_set_timeout(silence, timeout_ns);
	return 0;
}

void silence_end(struct silence *silence)
{
	close(silence->fd);
}

/* One look more than the timeout has: the kernel, which sends again meanwhile, is mostly first. */
void silence_set_timeout(struct silence *silence, uint64_t timeout_ns)
{
	uint64_t period = timeout_ns / 4;

	period = period < PERIOD_LEAST_NS ? PERIOD_LEAST_NS : period;
	period = period > PERIOD_MOST_NS ? PERIOD_MOST_NS : period;
	silence->period_ns = period;
	silence->most = (uint32_t)((timeout_ns + period - 1) / period) + 1;
}

/* The clock is read first: once the timer has expired, the look is due. */
static void arm(struct silence *silence)
{
	const struct itimerspec time = { .it_value = clock_timespec(silence->period_ns) };

	silence->armed = true;
	silence->due_ns = now_ns() + silence->period_ns;
	timerfd_settime(silence->fd, 0, &time, NULL);
}

static void disarm(struct silence *silence)
{
	const struct itimerspec never = { .it_value = { 0 } };

	silence->armed = false;
	timerfd_settime(silence->fd, 0, &never, NULL);
}

/* Bytes that the kernel still has, since the other end has not acknowledged them. */
static uint64_t kept(int socket)
{
	int bytes = 0;

	return ioctl(socket, SIOCOUTQ, &bytes) < 0 || bytes < 0 ? 0 : (uint64_t)bytes;
}

void silence_sent(struct silence *silence, int socket, size_t bytes)
{
	silence->sent += bytes;
	if (silence->armed)
		return;
	silence->looks = 0;
	silence->acknowledged = silence->sent - kept(socket);
	arm(silence);
}

int silence_look(struct silence *silence, int socket)
{
	uint64_t left, acknowledged;

	if (!silence->armed || now_ns() < silence->due_ns)
		return 0;
	left = kept(socket);
	if (!left) {
		disarm(silence);
		return 0;
	}
	acknowledged = silence->sent - left;
	silence->looks = acknowledged == silence->acknowledged ? silence->looks + 1 : 0;
	silence->acknowledged = acknowledged;
	arm(silence);
	return silence->looks < silence->most ? 0 : -ETIMEDOUT;
}
