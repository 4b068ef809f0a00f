/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Frames and completions, as they lie in a ring: the parent writes frames, the peer claims them and
 * writes one completion each. Both sizes are a part of the layout that both processes share.
 */
#ifndef DW_MAILBOX_FRAME_H
#define DW_MAILBOX_FRAME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <distworker/distworker.h>

#define FRAME_HEADER_BYTES 64
#define TEXT_BYTES 384

enum frame_kind {
	FRAME_TASK = 1,
	FRAME_CONTROL = 2,	/* `callable` says which; meaning belongs to the worker layer */
};

/*
 * The claim word: frame number << 2 | state. The side that moves it from POSTED by compare-and-swap
 * owns the frame: the peer (CLAIMED) or the parent (REVOKED).
 */
enum frame_claim { CLAIM_EMPTY = 0, CLAIM_POSTED = 1, CLAIM_CLAIMED = 2, CLAIM_REVOKED = 3 };

/*
 * Posted behind producers that have not finished: the peer returns it unstarted when a frame before
 * it failed, or a FRAME_WAITS was returned, that the parent did not know of (fail_epoch).
 */
#define FRAME_CHAINED (1u << 0)
/* The names of its tensors, and its tags (struct frame_names, one each), follow the arguments. */
#define FRAME_NAMED (1u << 1)
/* It waits for frames of other rings (timeline.h). */
#define FRAME_WAITS (1u << 2)

struct frame {
	_Atomic uint32_t claim;
	uint8_t kind;			/* enum frame_kind */
	uint8_t flags;			/* FRAME_* */
	/* parent: so many frames behind is one that writes the same again (hub_supersede()) */
	_Atomic uint16_t superseded;
	uint32_t fail_epoch; /* failures of this peer that the parent knew of when it posted */
	_Atomic uint32_t cancel;	/* parent: 1 when the task was cancelled */
	uint64_t task;			/* number of the task, for messages and status */
	uint64_t callable;
	uint64_t args; /* arena address of the wire blob; 0: it follows the header */
	uint32_t args_bytes;
	struct dw_config config;
};
_Static_assert(sizeof(struct frame) == FRAME_HEADER_BYTES, "one cache line");

/*
 * Names of the contents of a tensor, for a peer with memory of its own: bytes that it has under
 * the name which it `sees` need not be fetched. 0: unknown.
 */
struct frame_names {
	uint64_t sees;			/* what the task finds there, before it runs */
	uint64_t makes;			/* what it leaves there, once it is done */
	uint32_t tag;			/* enum dw_tag: what the task does there */
	uint32_t zero;
};
_Static_assert(sizeof(struct frame_names) == 24, "it travels between hosts");

enum completion_state {
	COMPLETION_DONE = 1,
	COMPLETION_FAILED = 2,		/* error, text */
	/* Done; what a frame behind it writes again is with the peer, and not in host memory. */
	COMPLETION_KEPT = 3,
	COMPLETION_REVOKED = 4,		/* the parent had revoked the frame */
	/* FRAME_CHAINED or FRAME_WAITS, not started: one that it follows failed, or did not run. */
	COMPLETION_RETURNED = 5,
};

/* Whether the peer ran it, so that the completion has times. */
static inline bool completion_has_run(uint16_t state) { return state <= COMPLETION_KEPT; }

struct completion {
	uint32_t number;		/* of the frame */
	uint16_t state;			/* enum completion_state */
	uint16_t text_bytes;		/* of the text in the same slot, without NUL */
	int32_t error;			/* -errno */
	uint32_t blocked; /* ns before `started` in which it was the next and waited for siblings */
	uint64_t started;		/* CLOCK_MONOTONIC, ns */
	uint64_t ended;
};
_Static_assert(sizeof(struct completion) == 32, "two to a cache line");

#endif
