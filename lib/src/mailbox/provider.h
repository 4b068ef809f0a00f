/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Internal to mailbox: the objects, and the parts that a provider supplies: memory, attaching,
 * sleeping, waking, bells, changes of state. Rings, notification and spinning are the same for all
 * providers (hub.c, wait.c, endpoint.c).
 *
 * The comment at each field says which threads may access it. "[owner]" is the engine's lock, as in
 * mailbox.h; words that other threads read as well are atomic.
 */
#ifndef DW_MAILBOX_PROVIDER_H
#define DW_MAILBOX_PROVIDER_H

#include "base/likely.h"
#include "mailbox/mailbox.h"
#include "mailbox/ring.h"
#include "mailbox/spin.h"
#include "mailbox/timeline.h"

/* The parent's own flags of a slot. */
#define SLOT_CHAINED (1u << 0)
#define SLOT_REVOKED (1u << 1)
#define SLOT_SUPERSEDED (1u << 2)
#define SLOT_WAITS (1u << 3)

/* The parent's private state of one ring. [owner] */
struct ring {
	struct mailbox *mailbox;
	uint32_t acquired;		/* frames handed out by hub_acquire() */
	uint32_t published;
	uint32_t harvested;
	uint32_t done;			/* the peer's count, checked; harvested … published */
	uint32_t fail_epoch;		/* as endpoint.failed, of those that were harvested */
	uint32_t unrun;			/* the same and REVOKED ones: for timelines */
	uint32_t frame_ns;		/* average duration of a frame */
	uint32_t notify;		/* value of `notify`, if has_notify */
	bool has_notify;
	bool broken;			/* the peer wrote invalid data */
	uint8_t *slots;			/* SLOT_*, one per slot */
};

/* Bit i is mailbox i. */
typedef _Atomic uint64_t peer_mask;

struct hub {
	const struct provider_ops *ops;
	struct ring_layout layout;
	int32_t owner;			/* process that created it */
	uint32_t mailboxes;
	uint32_t words;			/* of each peer_mask */
	uint32_t cpus;
	uint64_t stride;		/* of mailboxes, whole pages */
	uint32_t header_slots;		/* places of a mailbox in its pages … */
	uint32_t header_step;		/* … so many bytes apart */

	/* The provider's. NULL and -1 in a child, once its endpoint has taken them. */
	void *memory;
	uint64_t memory_bytes;
	struct hub_line *line;
	unsigned char *boxes;
	unsigned char *timelines;	/* of the peers; NULL: the provider has none … */
	uint64_t timeline_step;		/* … so many bytes apart */
	struct awaited *awaited;	/* futex: one for each timeline */
	bool has_waits;			/* [owner] a frame has waited for siblings */
	uint32_t *kick;			/* any thread counts up */
	uint32_t *seen;			/* written by [owner], read by waiters */
	int fd;				/* kernel: the hub; futex: the parent's bell */
	int *fds;			/* kernel: endpoints; futex: the peers' bells */
	bool forks_done;
	bool driving;			/* [owner] proper value in the line */

	struct ring *rings;		/* [owner] */
	uint32_t active_count;		/* [owner] */

	peer_mask *active;		/* frames outstanding and not broken; written by [owner] */
	peer_mask *watch;		/* all but the broken ones; written by [owner] */
	peer_mask *marked;		/* to be woken */
	peer_mask *waking;		/* woken, and nothing completed since */
	peer_mask *changed;		/* state changes that were not queried yet */
	atomic_bool any_marked;
	atomic_bool any_changed;
	atomic_uint waiting; /* futex: the foreground thread is about to sleep, or sleeps */

	/* The foreground thread's. */
	struct spin spin;
	uint64_t *wait_mask;
	uint32_t kick_seen;

	atomic_ullong wakes, woken, sleeps;
};

struct endpoint {
	const struct provider_ops *ops;
	struct ring_layout layout;
	int32_t owner;			/* process that attached */
	bool thread;			/* of the parent's process: memory and fds are the hub's */
	uint32_t index;
	struct hub_line *line;
	struct mailbox *mailbox;
	void *line_map;			/* mapping that detach unmaps, unless `thread` */
	uint64_t line_bytes;
	void *box;			/* the pages that the mailbox lies in */
	uint64_t box_bytes;
	int fd;				/* kernel: the endpoint; futex: this peer's bell */
	int hub_bell;			/* futex: the parent's bell */

	uint32_t posted;		/* the parent's count, as of the last look */
	uint32_t next;			/* to claim */
	uint32_t done;			/* value in the mailbox */
	uint32_t checked;		/* value of done when `notify` was last looked at */
	uint32_t dry_checked; /* value of done when the parent was last told of a dry ring */
	uint32_t failed;		/* FAILED, and FRAME_WAITS that were RETURNED */
	uint32_t poll_count;		/* hub_line.poll_count at the last look … */
	uint32_t frames_since_poll;		/* … and looks since it changed */
	bool stopping;
	bool parked;			/* the next frame waits for those in flight */
	bool blocked;			/* a FRAME_WAITS waits for siblings */
	uint32_t blocked_number;	/* the last one of these … */
	uint64_t blocked_since;		/* … and when that was seen; 0: it has been completed */
	bool failure_unreported; /* a frame failed since check_notify() last ran */
	uint8_t *resolved;		/* one per slot: completed before an earlier frame was */

	struct timeline *timeline;	/* this peer's; NULL: the provider has none */
	const unsigned char *timelines;	/* of all */
	uint64_t timeline_step;
	uint64_t timelines_bytes;	/* kernel: a mapping of their own */
	struct awaited *awaited;	/* of this peer's timeline; futex: and … */
	struct awaited *all_awaited;	/* … those of all */

	struct spin spin, sibling_spin;	/* for the parent, for siblings */
	uint64_t wakes, sleeps;
};

struct provider_ops {
	enum dw_provider provider;
	/*
	 * A wake-up and a wait are one call, which knows better than user space how long to spin.
	 */
	bool wake_and_wait;
	uint32_t spin_limit_ns;		/* at most this long in user space */

	/* Fills memory, line, boxes, stride, header_*, kick, seen, fd, fds; the layout is set. */
	int (*create)(struct hub *hub);
	void (*destroy)(struct hub *hub);
	void (*forks_done)(struct hub *hub);
	int (*bind)(struct hub *hub, uint32_t i, int32_t pid);
	int (*rearm)(struct hub *hub, uint32_t i);
	/* Repairs the memory outside their mailboxes that peers can write; NULL: there is none. */
	void (*repair)(struct hub *hub);
	/*
	 * Wakes `wake` (or NULL), sleeps until hub_completions_pending() or a change; no spinning
	 * in user space.
	 */
	int (*wait)(struct hub *hub, const uint64_t *wake, uint64_t deadline_ns);
	void (*wake)(struct hub *hub, const uint64_t *wake);
	/* After `kick` was counted up. */
	void (*kicked)(struct hub *hub);
	bool (*bell_arm)(struct hub *hub);
	void (*bell_clear)(struct hub *hub, uint32_t events);
	int (*query)(struct hub *hub, uint32_t i, struct hub_change *change);

	/* Fills line, mailbox, the maps and fds of an endpoint; drops the siblings' resources. */
	int (*attach)(struct hub *hub, struct endpoint *endpoint);
	void (*detach)(struct endpoint *endpoint);
	/* Wakes the parent if `wake`; sleeps while `post` is `seen`, without `stop`. -EOWNERDEAD */
	int (*peer_wait)(struct endpoint *endpoint, uint32_t seen, bool wake);
	void (*peer_wake)(struct endpoint *endpoint);
	/* Those that sleep until this peer's timeline has a count which it has now. */
	void (*peer_wake_siblings)(struct endpoint *endpoint);
	/* The same of the parent: all that sleep until timeline i goes on. */
	void (*wake_siblings)(struct hub *hub, uint32_t i);
	/* That sleeps for one of the timelines, for a frame of ring i that was taken back. */
	void (*recalled)(struct hub *hub, uint32_t i, const struct frame_waits *waits);
	/* Sleeps until wait_is_over(), or the claim is revoked, or less. 0, -EOWNERDEAD. */
	int (*sibling_wait)(struct endpoint *endpoint, const struct frame_wait *wait,
			    const _Atomic uint32_t *claim);
	bool (*peer_bell_arm)(struct endpoint *endpoint, uint32_t seen);
	void (*peer_bell_clear)(struct endpoint *endpoint, uint32_t events);
};

extern const struct provider_ops kernel_provider;
extern const struct provider_ops futex_provider;

/* Queries the device at `path`: 0 and *query, or -errno with a text. */
int kernel_probe(const char *path, struct distworker_query *query);
/*
 * Chooses: 0 and *ops, or -errno with a text. *forced: the caller or DW_PROVIDER named the
 * provider, so that no other one may stand in when it cannot create a hub.
 */
int provider_choose(enum dw_provider wanted, const struct provider_ops **ops, bool *forced);
/* dw_provider_query() for a device at `path`. */
int provider_describe(const char *path, struct dw_provider_info *info);

bool wait_is_over(const struct endpoint *endpoint, const struct frame_wait *wait);
/* Whether a watched ring has completions that were not harvested. Any thread. */
bool hub_completions_pending(struct hub *hub);
/* State changes that a provider was told of. Any thread. */
void hub_add_changes(struct hub *hub, const uint64_t *mask);

/*
 * For tests: the next generation of mailbox i starts at frame `number`; before the peer attaches.
 */
void hub_start_at(struct hub *hub, uint32_t i, uint32_t number);

static inline struct mailbox *hub_mailbox(const struct hub *hub, uint32_t i)
{
	return hub->rings[i].mailbox;
}

/* What each mailbox's pages must have room for: the mailbox, and some places for it. */
uint32_t hub_wanted_bytes(const struct hub *hub);

/* The pages of mailbox i, and how far from their beginning it lies. */
static inline unsigned char *hub_box(const struct hub *hub, uint32_t i)
{
	return hub->boxes + i * hub->stride;
}

static inline uint32_t hub_header_offset(const struct hub *hub, uint32_t i)
{
	return i % hub->header_slots * hub->header_step;
}

static inline bool mask_test(const peer_mask *mask, uint32_t i)
{
	return atomic_load_explicit(&mask[i / 64], memory_order_relaxed) >> (i % 64) & 1;
}

/* For masks that several threads write. Returns whether the bit was clear. */
static inline bool mask_set(peer_mask *mask, uint32_t i)
{
	uint64_t bit = 1ull << (i % 64);

	return !(atomic_fetch_or_explicit(&mask[i / 64], bit, memory_order_seq_cst) & bit);
}

static inline void mask_clear(peer_mask *mask, uint32_t i)
{
	atomic_fetch_and_explicit(&mask[i / 64], ~(1ull << (i % 64)), memory_order_seq_cst);
}

/* For masks that [owner] alone writes: no locked instruction. */
static inline void mask_put(peer_mask *mask, uint32_t i, bool set)
{
	uint64_t bit = 1ull << (i % 64);
	uint64_t old = atomic_load_explicit(&mask[i / 64], memory_order_relaxed);

	atomic_store_explicit(&mask[i / 64], set ? old | bit : old & ~bit, memory_order_relaxed);
}

#endif
