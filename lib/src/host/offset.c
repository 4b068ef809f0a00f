/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See offset.h. */
#include <string.h>
#include "host/offset.h"

static int64_t drift(uint64_t age_ns)
{
	return (int64_t)(age_ns / (1000000 / OFFSET_PPM));
}

static void note_round_trip(struct offset *offset, uint64_t trip)
{
	if (!offset->known || offset->samples == OFFSET_SAMPLES) {
		offset->before = offset->known ? offset->present : UINT64_MAX;
		offset->present = UINT64_MAX;
		offset->samples = 0;
	}
	offset->samples++;
	if (trip < offset->present)
		offset->present = trip;
}

static uint64_t convert(const struct offset_step *step, uint64_t there_ns)
{
	uint64_t here = there_ns - (uint64_t)step->ahead;

	return (int64_t)(here - step->least_ns) < 0 ? step->least_ns : here;
}

/* From the latest moment that was converted on. A step in which none was is replaced. */
static void add_step(struct offset *offset)
{
	struct offset_step *step;

	if (!offset->known)
		offset->told_ns = 0;
	if (!offset->told_ns)
		offset->step_count = 0;
	else if (offset->steps[offset->step_count - 1].ahead == offset->used)
		return;
	else if (offset->steps[offset->step_count - 1].from_ns == offset->told_ns)
		offset->step_count--;
	if (offset->step_count == OFFSET_STEPS) {
		/* Only moments long ago had it. */
		memmove(offset->steps, offset->steps + 1,
			(OFFSET_STEPS - 1) * sizeof(offset->steps[0]));
		offset->step_count--;
	}
	step = &offset->steps[offset->step_count];
	*step = (struct offset_step){ .from_ns = offset->told_ns, .ahead = offset->used };
	step->least_ns = offset->step_count++ ? convert(step - 1, step->from_ns) :
						step->from_ns - (uint64_t)offset->used;
}

static void choose(struct offset *offset)
{
	int64_t width = offset->high - offset->low;

	if (!offset->known || width <= offset->width / 2) {
		offset->used = offset->low + width / 2;
		offset->width = width;
	} else if (offset->used < offset->low) {
		offset->used = offset->low;
	} else if (offset->used > offset->high) {
		offset->used = offset->high;
	}
}

void offset_take(struct offset *offset, const struct offset_sample *s)
{
	uint64_t there = s->answered_ns - s->got_ns, here = s->received_ns - s->sent_ns;
	/* On the way there, and on the way back. */
	int64_t high = (int64_t)(s->got_ns - s->sent_ns);
	int64_t low = (int64_t)(s->answered_ns - s->received_ns);
	int64_t wider;

	if (s->answered_ns < s->got_ns || s->received_ns < s->sent_ns || there > here)
		return;
	note_round_trip(offset, here - there);
	wider = offset->known && s->received_ns > offset->at_ns ?
			drift(s->received_ns - offset->at_ns) :
			0;
	if (offset->known && offset->low - wider > low)
		low = offset->low - wider;
	if (offset->known && offset->high + wider < high)
		high = offset->high + wider;
	if (low > high) {
		/* A clock stood still or was set: only this sample counts. */
		high = (int64_t)(s->got_ns - s->sent_ns);
		low = (int64_t)(s->answered_ns - s->received_ns);
		offset->known = false;
	}
	offset->low = low;
	offset->high = high;
	offset->at_ns = s->received_ns;
	choose(offset);
	add_step(offset);
	offset->known = true;
}

int64_t offset_ahead(const struct offset *offset)
{
	return offset->used;
}

uint64_t offset_here(struct offset *offset, uint64_t there_ns)
{
	uint32_t i = offset->step_count;

	if (!i)
		return there_ns;
	if (there_ns > offset->told_ns)
		offset->told_ns = there_ns;
	while (i > 1 && offset->steps[i - 1].from_ns > there_ns)
		i--;
	return convert(&offset->steps[i - 1], there_ns);
}

uint64_t offset_error(const struct offset *offset, uint64_t now_ns)
{
	uint64_t age = now_ns > offset->at_ns ? now_ns - offset->at_ns : 0;
	int64_t above = offset->high - offset->used, below = offset->used - offset->low;

	if (!offset->known)
		return UINT64_MAX;
	return (uint64_t)(above > below ? above : below) + (uint64_t)drift(age);
}

uint64_t offset_round_trip(const struct offset *offset)
{
	if (!offset->known)
		return 0;
	return offset->before < offset->present ? offset->before : offset->present;
}
