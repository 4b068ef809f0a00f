/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See timer.h.
 */
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/fd.h"
#include "engine/timer.h"

int timer_open(struct timer *timer)
{
	timer->fd = fd_move_up(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	return timer->fd < 0 ? -1 : 0;
}

void timer_close(struct timer *timer)
{
	if (timer->fd >= 0)
		close(timer->fd);
	timer->fd = -1;
}

uint64_t running_now(const struct timer *timer)
{
	return now_ns() - timer->late_ns;
}

/* The lateness of the last stop does not count for time stamps from before it. */
uint64_t running_at(const struct timer *timer, uint64_t monotonic_ns)
{
	uint64_t late_ns = timer->late_ns;

	if (monotonic_ns < timer->late_until) {
		late_ns -= timer->late_until - timer->late_from;
		if (monotonic_ns > timer->late_from)
			monotonic_ns = timer->late_from;
	}
	return monotonic_ns > late_ns ? monotonic_ns - late_ns : 0;
}

uint64_t running_deadline(const struct timer *timer, uint64_t ns)
{
	uint64_t now = running_now(timer);

	return ns < NEVER - now ? now + ns : NEVER;
}

void timer_at_most(struct timer *timer, uint64_t at_ns, uint64_t now)
{
	struct itimerspec spec;

	/* A deadline that has passed already does not make the timer late. */
	if (at_ns < now)
		at_ns = now;
	if (at_ns >= timer->at || timer->fd < 0)
		return;
	spec = (struct itimerspec){
		.it_value = { .tv_sec = (time_t)(at_ns / 1000000000),
			      .tv_nsec = (long)(at_ns % 1000000000) + (at_ns % 1000000000 == 0) },
	};
	timer->at = at_ns;
	timerfd_settime(timer->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

void timer_deadline(struct timer *timer, uint64_t deadline)
{
	uint64_t now = now_ns();

	if (deadline < NEVER - timer->late_ns)
		timer_at_most(timer, deadline_half(deadline + timer->late_ns, now), now);
}

uint64_t timer_expired(struct timer *timer, uint64_t now)
{
	if (now > timer->at) {
		timer->late_from = timer->at;
		timer->late_until = now;
		timer->late_ns += now - timer->at;
	}
	timer->at = NEVER;
	return now - timer->late_ns;
}
