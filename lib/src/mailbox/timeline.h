/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * timeline: a frame that waits for frames of sibling rings, without their parent.
 *
 * Owns: a page for each peer with its timeline, the count of its completed frames, which its
 * siblings read; and, in a frame with FRAME_WAITS, the counts that it waits for. The frame is
 * claimed when all are reached, and returned unstarted if another frame of those rings did not run
 * or failed after this one was posted, or if the ring has begun anew.
 *
 * Order. A pair names a frame that was published before the waiting one, so that the waits form no
 * circle. `unrun` is stored before `count`, and read after the claim: the parent takes a frame back
 * that another waits for in any order. The parent raises `generation` before a ring begins anew.
 */
#ifndef DW_MAILBOX_TIMELINE_H
#define DW_MAILBOX_TIMELINE_H

#include "mailbox/ring.h"

/* What siblings read of a peer: its first lines; the rest of its page is unused. */
struct timeline {
	/* The peer. */
	uint32_t count;			/* as `done` in its mailbox */
	uint32_t unrun;			/* completions other than DONE and KEPT */
	uint32_t reserved0[30];
	/* The parent. */
	uint32_t generation;		/* of the frames that can be waited for */
	uint32_t reserved1[31];
};
_Static_assert(offsetof(struct timeline, generation) == LINE_BYTES, "one writer per line");
_Static_assert(offsetof(struct timeline, count) == offsetof(struct distworker_timeline, count) &&
	       offsetof(struct timeline, generation) ==
		       offsetof(struct distworker_timeline, generation) &&
	       sizeof(struct timeline) == offsetof(struct distworker_timeline, awaited),
	       "the kernel's words, and its own behind them");

/*
 * How siblings sleep for a timeline. Over futexes all of them write here: see futex.c. The module
 * has the first word in the timeline's page, and writes it.
 */
struct awaited {
	uint32_t smallest;		/* AWAITED(): a sibling sleeps for it; 0: none does */
	uint32_t event;			/* they sleep on it; raised when they have to look again */
	uint32_t reserved[30];
};
#define AWAITED(count) ((count) << 1 | 1)
_Static_assert(sizeof(struct awaited) == LINE_BYTES, "a line for each timeline");

/* Frames of other rings that a frame can wait for. */
#define WAITS_MOST 4

struct frame_wait {
	uint32_t ring;
	uint32_t generation;
	uint32_t count;			/* of the ring's timeline, once the frame is complete */
	uint32_t unrun;			/* those that the parent knew of when it posted */
};

/* At the end of a frame with FRAME_WAITS. */
struct frame_waits {
	uint32_t count;
	uint32_t zero[3];
	struct frame_wait waits[WAITS_MOST];
};

static inline struct frame_waits *waits_of(const struct ring_layout *layout, struct frame *frame)
{
	return (struct frame_waits *)((unsigned char *)frame + layout->frame_bytes -
				      sizeof(struct frame_waits));
}

/* Whether `count` is `wanted` or beyond it. */
static inline bool count_reached(uint32_t count, uint32_t wanted)
{
	return (int32_t)(count - wanted) >= 0;
}

/* ------------------------------------------------------------------ parent */

/* Whether the provider has timelines; and the room for arguments in a frame that waits. */
bool hub_has_timelines(const struct hub *hub);
uint32_t hub_waits_payload(const struct hub *hub);
/*
 * [owner] The frame, acquired with FRAME_WAITS and not published, waits for frame `number` of ring
 * `other`, which is published. WAITS_MOST times at most.
 */
void hub_add_wait(struct hub *hub, struct frame *frame, uint32_t other, uint32_t number);
/* [owner] What waits for frames of ring i is returned: they may never complete. */
void hub_end_waits(struct hub *hub, uint32_t i);
/* [owner] The state that the next completion of ring i claims; 0: it is not there. */
uint16_t hub_next_state(const struct hub *hub, uint32_t i);
/* [owner] Ignores the peer of ring i until hub_rearm(). */
void hub_distrust(struct hub *hub, uint32_t i);

/* For hub.c. The ring of mailbox i begins anew at frame `number`. */
void timeline_rearm(struct hub *hub, uint32_t i, uint32_t number);
/* For hub.c. A frame of ring i that waits was taken back. */
void timeline_recall(struct hub *hub, uint32_t i, struct frame *frame);

/* --------------------------------------------------------- peer: endpoint.c */

/* The first wait of the frame that is not over; NULL: it can be claimed. */
const struct frame_wait *timeline_blocks(const struct endpoint *endpoint, struct frame *frame);
/* After the claim: whether all that it waited for has run. */
bool timeline_has_run(const struct endpoint *endpoint, struct frame *frame);
/*
 * Waits until the frame, which is next, may be claimed or was taken back, or for less. 0, or
 * -EOWNERDEAD with a text.
 */
int timeline_wait(struct endpoint *endpoint, struct frame *frame);
/* Whether a sibling sleeps for this count, or for a smaller one. */
static inline bool timeline_is_awaited(const struct awaited *awaited, uint32_t done)
{
	uint32_t smallest = load_relaxed(&awaited->smallest);

	return smallest && (int32_t)(AWAITED(done) - smallest) >= 0;
}
/* The peer's count, after the completions that it counts. */
static inline void timeline_publish(struct timeline *timeline, uint32_t done)
{
	/* Release: the results, and `unrun`, before the count; partner: wait_is_over(). */
	store_release(&timeline->count, done);
}
static inline void timeline_count_unrun(struct timeline *timeline)
{
	store_relaxed(&timeline->unrun, timeline->unrun + 1);
}

#endif
