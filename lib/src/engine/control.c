/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * control: control frames of the worker layer, and of the engine itself, to one worker: the
 * engine_control calls of engine.h. They take the engine's lock.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/progress.h"
#include "engine/state.h"

static bool control_answered(const struct waiter *waiter)
{
	return waiter->control->done;
}

static void queue_control(struct engine *engine, struct worker_ring *ring, struct control *control)
{
	schedule_want_ring(&engine->schedule, ring);
	ring_queue_control(&engine->rings, ring, control);
}

static int control_refused(const struct worker_ring *ring)
{
	return error_set(ring->state == RING_STUCK ? -ETIMEDOUT : -EOWNERDEAD, "%s: %s", ring->path,
			 ring_cause(ring, "dead"));
}

/* With its own copy of the blob. NULL, and -errno in *result. */
static struct control *make_control(struct engine *engine, const struct worker_ring *ring,
				    uint64_t code, const void *blob, uint32_t bytes,
				    const struct engine_control_limits *limits, int *result)
{
	struct control *control = control_new(code, blob, bytes, limits);

	*result = control ? control_prepare(&engine->rings, control) :
		  error_set(-ENOMEM, "%s: no memory for a control frame", ring->path);
	if (*result < 0) {
		free(control);
		return NULL;
	}
	return control;
}

int engine_control_until(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
			 uint32_t bytes, const struct engine_control_limits *limits,
			 uint64_t deadline_ns)
{
	struct worker_ring *ring = &engine->rings.all[worker];
	struct waiter waiter = { .ready = control_answered, .engine = engine };
	struct deadline deadline = deadline_at(deadline_ns);
	struct control *control;
	int result;

	control = make_control(engine, ring, code, blob, bytes, limits, &result);
	if (!control)
		return result;
	waiter.control = control;
	lock_take(&engine->lock);
	if (control->run && control->run->cancelled) {
		result = error_set(control->run->error, "%s", control->run->text);
	} else if (ring_is_lost(ring) ||
		   (ring->state == RING_RETURNING && !(limits && limits->returning))) {
		result = control_refused(ring);
	} else {
		queue_control(engine, ring, control);
		result = wait_locked(engine, &waiter, &deadline);
		if (result < 0) {
			control_detach(control);
			control = NULL;
			error_set(result, "%s: still at the tasks before it", ring->path);
		} else {
			result = control->result;
			if (result)
				error_set(result, "%s", control->text);
		}
	}
	engine_unlock_and_wake(engine);
	if (control)
		control_free(&engine->rings, control);
	return result;
}

int engine_control(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
		   uint32_t bytes, const struct engine_control_limits *limits)
{
	return engine_control_until(engine, worker, code, blob, bytes, limits, NEVER);
}

int engine_control_send(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
			uint32_t bytes, const struct engine_control_limits *limits)
{
	struct worker_ring *ring = &engine->rings.all[worker];
	struct control *control;
	int result;

	control = make_control(engine, ring, code, blob, bytes, limits, &result);
	if (!control)
		return result;
	control_detach(control);
	lock_take(&engine->lock);
	if (ring->state == RING_DEAD)
		result = control_refused(ring);
	else
		queue_control(engine, ring, control);
	engine_unlock_and_wake(engine);
	if (result < 0)
		control_free(&engine->rings, control);
	return result;
}
