/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ring, continued: control frames. See ring_flow.h.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/ring_flow.h"

struct control *control_new(uint64_t code, const void *blob, uint32_t bytes,
			    const struct engine_control_limits *limits)
{
	struct control *control = malloc(sizeof(*control) + bytes);

	if (!control)
		return NULL;
	*control = (struct control){ .code = code, .blob = control + 1, .bytes = bytes };
	if (limits) {
		control->what = limits->what;
		control->timeout_ns = limits->timeout_ns;
		control->run = limits->run;
	}
	memcpy(control + 1, blob, bytes);
	return control;
}

int control_prepare(struct ring_set *rings, struct control *control)
{
	int result;

	if (control->bytes <= rings->payload)
		return 0;
	result = arena_alloc(rings->arena, control->bytes, &control->arena_blob);
	if (result == 0)
		memcpy(control->arena_blob, control->blob, control->bytes);
	return result;
}

struct control *control_split(struct control *control)
{
	struct control *owner = control->arena_blob ? calloc(1, sizeof(*owner)) : NULL;

	if (owner) {
		owner->detached = true;
		owner->arena_blob = control->arena_blob;
	}
	control->arena_blob = NULL;
	return owner;
}

static void free_blob(struct ring_set *rings, struct control *control)
{
	if (control->arena_blob)
		arena_free(rings->arena, control->arena_blob);
	control->arena_blob = NULL;
}

void control_free(struct ring_set *rings, struct control *control)
{
	free_blob(rings, control);
	free(control);
}

void control_done(struct ring_set *rings, struct control *control, int result, const char *text)
{
	control->done = true;
	control->result = result;
	text_copy(control->text, sizeof(control->text), text);
	free_blob(rings, control);
	if (control->detached)
		free(control);
}

void ring_queue_control(struct ring_set *rings, struct worker_ring *ring, struct control *control)
{
	control->next = NULL;
	if (ring->controls)
		ring->last_control->next = control;
	else
		ring->controls = control;
	ring->last_control = control;
	ring_post_controls(rings, ring);
}

void ring_fail_controls(struct ring_set *rings, struct worker_ring *ring,
			const struct run_graph *run, bool waited, int error, const char *text)
{
	struct control **link = &ring->controls, *control, *last = NULL;

	while ((control = *link)) {
		if ((run && control->run != run) || (waited && control->detached)) {
			last = control;
			link = &control->next;
			continue;
		}
		*link = control->next;
		control_done(rings, control, error, text);
	}
	ring->last_control = last;
}

bool entry_is_call(const struct entry *entry, const struct run_graph *run)
{
	return entry->control ? entry->control->run == run :
	       entry->task && entry->task->run == run && entry->task->callable->control;
}

bool ring_cancel_controls(struct ring_set *rings, struct worker_ring *ring,
			  const struct run_graph *run, int error, const char *text)
{
	struct control *control;
	bool started = false;

	ring_fail_controls(rings, ring, run, false, error, text);
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(rings, ring, number);

		if (!entry_is_call(entry, run))
			continue;
		if (entry->control && !ring->corrupt && ring->state == RING_UP &&
		    hub_revoke(rings->hub, ring->index, number)) {
			control = entry->control;
			entry->control = NULL;
			entry->flags |= ENTRY_REVOKED;
			control_done(rings, control, error, text);
		} else {
			started = true;
		}
	}
	return started;
}
