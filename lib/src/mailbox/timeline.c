/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See timeline.h. The parent's calls are [owner]; the peer's belong to its thread.
 */
#include "mailbox/provider.h"

/* ------------------------------------------------------------------ parent */

bool hub_has_timelines(const struct hub *hub)
{
	return hub->timelines != NULL;
}

static struct timeline *timeline_at(const struct hub *hub, uint32_t i)
{
	return (struct timeline *)(hub->timelines + i * hub->timeline_step);
}

uint32_t hub_waits_payload(const struct hub *hub)
{
	uint32_t payload = hub_frame_payload(hub), waits = (uint32_t)sizeof(struct frame_waits);

	return payload > waits ? payload - waits : 0;
}

void hub_add_wait(struct hub *hub, struct frame *frame, uint32_t other, uint32_t number)
{
	const struct ring *ring = &hub->rings[other];
	struct frame_waits *waits = waits_of(&hub->layout, frame);

	hub->has_waits = true;
	waits->waits[waits->count++] = (struct frame_wait){
		.ring = other,
		.generation = load_relaxed(&timeline_at(hub, other)->generation),
		.count = number + 1,
		.unrun = ring->unrun,
	};
}

void hub_end_waits(struct hub *hub, uint32_t i)
{
	struct timeline *timeline;

	if (!hub->has_waits)
		return;
	timeline = timeline_at(hub, i);
	/*
	 * Release: before a count of the next generation; partner: wait_is_over(). Nor does a
	 * sleeper miss it: this wakes without a look at who sleeps.
	 */
	store_release(&timeline->generation, timeline->generation + 1);
	hub->ops->wake_siblings(hub, i);
}

void timeline_rearm(struct hub *hub, uint32_t i, uint32_t number)
{
	struct timeline *timeline;

	if (!hub->timelines)
		return;
	hub_end_waits(hub, i);
	timeline = timeline_at(hub, i);
	store_release(&timeline->unrun, 0);
	store_release(&timeline->count, number);
}

void timeline_recall(struct hub *hub, uint32_t i, struct frame *frame)
{
	uint32_t *recall = &hub->rings[i].mailbox->recall;

	/* Release: after the claim word; partner: the provider's sibling_wait(). */
	store_release(recall, *recall + 1);
	/* Both before the look for sleepers; the same partner. */
	full_barrier();
	hub->ops->recalled(hub, i, waits_of(&hub->layout, frame));
}

/* ------------------------------------------------------------------ the peer */

static const struct timeline *sibling(const struct endpoint *endpoint,
				      const struct frame_wait *wait)
{
	return (const struct timeline *)(endpoint->timelines +
					 wait->ring * endpoint->timeline_step);
}

bool wait_is_over(const struct endpoint *endpoint, const struct frame_wait *wait)
{
	const struct timeline *timeline = sibling(endpoint, wait);
	/*
	 * Acquire: what the sibling did before it counted; partner: the release in
	 * timeline_publish(). The generation is read after the count, and changes before it.
	 */
	uint32_t count = load_acquire(&timeline->count);

	return count_reached(count, wait->count) ||
	       load_acquire(&timeline->generation) != wait->generation;
}

const struct frame_wait *timeline_blocks(const struct endpoint *endpoint, struct frame *frame)
{
	const struct frame_waits *waits = waits_of(&endpoint->layout, frame);

	for (uint32_t k = 0; k < waits->count; k++)
		if (!wait_is_over(endpoint, &waits->waits[k]))
			return &waits->waits[k];
	return NULL;
}

bool timeline_has_run(const struct endpoint *endpoint, struct frame *frame)
{
	const struct frame_waits *waits = waits_of(&endpoint->layout, frame);

	for (uint32_t k = 0; k < waits->count; k++) {
		const struct timeline *timeline = sibling(endpoint, &waits->waits[k]);

		/*
		 * Acquire: partner is the release in timeline_rearm(). A new generation counts from
		 * 0 again, so its own count is looked at after this.
		 */
		if (load_acquire(&timeline->unrun) != waits->waits[k].unrun ||
		    load_relaxed(&timeline->generation) != waits->waits[k].generation)
			return false;
	}
	return true;
}

struct sibling_look {
	const struct endpoint *endpoint;
	const struct frame_wait *wait;
};

static bool look_is_over(void *context)
{
	const struct sibling_look *look = context;

	return wait_is_over(look->endpoint, look->wait);
}

int timeline_wait(struct endpoint *endpoint, struct frame *frame)
{
	const struct frame_wait *wait = timeline_blocks(endpoint, frame);
	struct sibling_look look = { endpoint, wait };
	bool crowded = load_relaxed(&endpoint->line->crowded) != 0;
	uint32_t window;

	if (!wait)
		return 0;
	window = spin_window(&endpoint->sibling_spin, SPIN_AWAKE, crowded, false);
	if (window && spin_until(&endpoint->sibling_spin, SPIN_AWAKE, window, look_is_over, &look))
		return 0;
	spin_slept(&endpoint->sibling_spin);
	return endpoint->ops->sibling_wait(endpoint, wait, &frame->claim);
}
