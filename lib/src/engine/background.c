/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See background.h.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/fd.h"
#include "engine/expire.h"
#include "engine/progress.h"
#include "engine/run_progress.h"
#include "engine/state.h"

enum source { SOURCE_BELL, SOURCE_TIMER, SOURCE_KICK, SOURCE_EXTRA };

static void drain_fd(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
}

static void background_event(struct engine *engine, const struct epoll_event *event)
{
	switch ((enum source)event->data.u32) {
	case SOURCE_BELL:
		hub_bell_clear(engine->rings.hub, event->events);
		break;
	case SOURCE_TIMER:
		drain_fd(engine->timer.fd);
		lock_take(&engine->lock);
		engine_expire(engine);
		engine_unlock_and_wake(engine);
		break;
	case SOURCE_KICK:
		drain_fd(engine->background.kick_fd);
		break;
	case SOURCE_EXTRA:
		engine->rings.ops->extra_readable(engine->rings.ops_context);
		break;
	}
}

static void *serve(void *argument)
{
	struct engine *engine = argument;
	struct epoll_event events[4];
	uint64_t submits = 0;
	bool pending, stop;
	int count;

	for (;;) {
		lock_take(&engine->lock);
		stop = engine->background.stopping;
		engine_work(engine);
		/* No thread has submitted since the last pass: only this one refills the rings. */
		if (submits == engine->progress.submits && !engine->progress.foreground)
			schedule_refill(&engine->schedule);
		submits = engine->progress.submits;
		pending = engine->rings.any_pending;
		engine_unlock_and_wake(engine);
		if (stop)
			return NULL;
		if (engine->rings.hub)
			engine_pass_changes(engine);
		/* True: completions are pending already, and the bell would not ring for them. */
		if (engine->rings.hub && hub_bell_arm(engine->rings.hub))
			pending = true;
		count = epoll_wait(engine->background.epoll_fd, events, 4, pending ? 0 : -1);
		if (count < 0 && errno != EINTR) {
			if (engine->rings.ops->deaf)
				engine->rings.ops->deaf(engine->rings.ops_context, errno);
			return NULL;
		}
		for (int i = 0; i < count; i++)
			background_event(engine, &events[i]);
	}
}

static int watch(struct engine *engine, int fd, enum source source)
{
	/* Only the bell has exceptional conditions: changes of state. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI, .data.u32 = source };

	return epoll_ctl(engine->background.epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int open_descriptors(struct engine *engine)
{
	struct background *background = &engine->background;

	background->epoll_fd = fd_move_up(epoll_create1(EPOLL_CLOEXEC));
	background->kick_fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (timer_open(&engine->timer) < 0 || background->epoll_fd < 0 || background->kick_fd < 0 ||
	    watch(engine, engine->timer.fd, SOURCE_TIMER) < 0 ||
	    watch(engine, background->kick_fd, SOURCE_KICK) < 0 ||
	    (engine->rings.hub && watch(engine, hub_bell_fd(engine->rings.hub), SOURCE_BELL) < 0) ||
	    (background->extra_fd >= 0 && watch(engine, background->extra_fd, SOURCE_EXTRA) < 0))
		return error_set(-errno, "%s: descriptors of its background thread: %s%s",
				 engine->path, error_name(errno), error_hint(errno));
	return 0;
}

static void close_descriptors(struct engine *engine)
{
	struct background *background = &engine->background;

	if (background->epoll_fd >= 0)
		close(background->epoll_fd);
	if (background->kick_fd >= 0)
		close(background->kick_fd);
	background->epoll_fd = -1;
	background->kick_fd = -1;
	timer_close(&engine->timer);
}

int background_start(struct engine *engine)
{
	int result = open_descriptors(engine);

	if (result == 0) {
		result = run_start_thread(&engine->background.thread, serve, engine);
		if (result)
			result = error_set(-result, "%s: no background thread: %s%s", engine->path,
					   error_name(result), error_hint(result));
	}
	if (result < 0)
		close_descriptors(engine);
	else
		engine->background.runs = true;
	return result;
}

/* Wakes the thread; by the timer where a filter refuses write(). */
static bool kick(struct engine *engine)
{
	const struct itimerspec now = { .it_value = { .tv_nsec = 1 } };
	uint64_t one = 1;

	return write(engine->background.kick_fd, &one, sizeof(one)) == sizeof(one) ||
	       timerfd_settime(engine->timer.fd, 0, &now, NULL) == 0;
}

void background_stop(struct engine *engine, bool own_process)
{
	struct background *background = &engine->background;

	if (background->runs && own_process) {
		lock_take(&engine->lock);
		background->stopping = true;
		lock_give(&engine->lock);
		/* A thread that cannot be woken stays, with the engine that it uses. */
		if (!kick(engine))
			return;
		pthread_join(background->thread, NULL);
	}
	background->runs = false;
	close_descriptors(engine);
}
