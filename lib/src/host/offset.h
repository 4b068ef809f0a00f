/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * offset: the difference between the clocks of two hosts, and the round trip between them, from
 * messages that travel anyway. A sample is a message and its answer, with four time stamps.
 *
 * Each sample bounds the difference on both sides: no message arrives before it was sent. The
 * bounds of all samples are intersected, so the quickest messages of each direction count. Bounds
 * grow by OFFSET_PPM of their age, which is more than two clocks drift apart.
 *
 * The difference in use is the middle of the bounds when these have become half as wide, and else
 * stays as it is as long as it is within them. A new one holds from the latest moment there on
 * that was converted before. Earlier moments are converted as before, whenever they are told.
 *
 * Invariants: no message that a sample has seen arrives before it was sent, so that what one host
 * did because of a message of the other comes after the cause. Moments of the other host keep
 * their order, in whatever order they are converted.
 *
 * Owns: struct offset. One thread.
 */
#ifndef DW_HOST_OFFSET_H
#define DW_HOST_OFFSET_H

#include <stdbool.h>
#include <stdint.h>

#define OFFSET_PPM 100
/* The round trip is the shortest of so many samples, up to twice as many. */
#define OFFSET_SAMPLES 64

struct offset_sample {
	uint64_t sent_ns; /* by the clock here */
	uint64_t got_ns, answered_ns; /* by the clock there */
	uint64_t received_ns; /* here */
};

/* Moments there from `from_ns` on; none of them is before `least_ns` here. */
struct offset_step {
	uint64_t from_ns, least_ns;
	int64_t ahead;
};

#define OFFSET_STEPS 32

struct offset {
	bool known;
	int64_t low, high; /* the clock there is ahead by so much, at `at_ns` */
	int64_t used, width; /* the one in use, and high - low when it was chosen */
	uint64_t told_ns; /* the latest moment there that was converted */
	struct offset_step steps[OFFSET_STEPS]; /* by time; the last one has `used` */
	uint32_t step_count;
	uint64_t at_ns; /* of the last sample, here */
	uint64_t present, before; /* shortest round trips; UINT64_MAX: no sample */
	uint32_t samples; /* of `present` */
};

/* A sample whose times contradict each other is left out. */
void offset_take(struct offset *offset, const struct offset_sample *sample);
/*
 * Converts a time of the other host to the clock here; returns `there_ns` itself before the first
 * sample.
 */
uint64_t offset_here(struct offset *offset, uint64_t there_ns);
/* How far the clock there is ahead. */
int64_t offset_ahead(const struct offset *offset);
/* By how much that may be wrong now; UINT64_MAX: there is no sample. */
uint64_t offset_error(const struct offset *offset, uint64_t now_ns);
/* The shortest of the last samples; 0: there was none. */
uint64_t offset_round_trip(const struct offset *offset);

#endif
