// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The parent's rings: frames out, completions in. Sleeping and waking is wait.c.
 *
 * Everything here is [owner] (mailbox.h). Data from a peer is first copied out of the shared memory
 * and then checked against the parent's own state: the counts and the slots of struct ring.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include "base/bits.h"
#include "mailbox/provider.h"
#include "task/error.h"

#define DEPTH_LIMIT 32768u
#define FRAME_BYTES_LIMIT (1u << 20)
#define MAILBOXES_LIMIT 65536u
/* From "wake the parent" to "it has posted": the wake-up of an idle CPU in a virtual machine. */
#define REFILL_LEAD_NS 50000u
/* Places for the headers of many mailboxes in their pages. */
#define PLACES_LEAST 8

static int check_options(const struct hub_options *options)
{
	uint64_t bytes;

	if (options->mailboxes == 0 || options->mailboxes > MAILBOXES_LIMIT)
		return error_set(-EINVAL, "mailboxes is %u; 1 to %u are possible",
				 options->mailboxes, MAILBOXES_LIMIT);
	if (options->depth < 2 || options->depth > DEPTH_LIMIT ||
	    (options->depth & (options->depth - 1)))
		return error_set(-EINVAL,
				 "mailbox_depth is %u; it must be a power of two from 2 to %u",
				 options->depth, DEPTH_LIMIT);
	if (options->frame_bytes < FRAME_HEADER_BYTES || options->frame_bytes % 64 ||
	    options->frame_bytes > FRAME_BYTES_LIMIT)
		return error_set(-EINVAL,
				 "frame_bytes is %u; it must be a multiple of 64 from %u to %u",
				 options->frame_bytes, FRAME_HEADER_BYTES, FRAME_BYTES_LIMIT);
	bytes = (uint64_t)options->depth * options->frame_bytes;
	if (bytes > 1u << 30)
		return error_set(-EINVAL, "mailbox_depth %u × frame_bytes %u is more than 1 GiB",
				 options->depth, options->frame_bytes);
	return 0;
}

static void set_layout(struct ring_layout *layout, const struct hub_options *options)
{
	layout->depth = options->depth;
	layout->frame_bytes = options->frame_bytes;
	layout->completions = (uint32_t)sizeof(struct mailbox) +
			      options->depth * options->frame_bytes;
	layout->texts = layout->completions + options->depth * (uint32_t)sizeof(struct completion);
	layout->bytes = layout->texts + options->depth * TEXT_BYTES;
}

/*
 * Headers at one place of their pages share a few sets of each cache, however many there are: the
 * room behind the mailboxes is for places, and a page more where it has too few.
 */
uint32_t hub_wanted_bytes(const struct hub *hub)
{
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE), bytes = hub->layout.bytes;
	uint32_t room = (page - bytes % page) % page, places = room / LINE_BYTES + 1;

	return places < PLACES_LEAST && places < hub->mailboxes ? bytes + room + 1 : bytes;
}

static void free_private(struct hub *hub)
{
	if (hub->rings)
		free(hub->rings[0].slots);
	free(hub->rings);
	free(hub->wait_mask);
	free(hub->active);
	free(hub->watch);
	free(hub->marked);
	free(hub->waking);
	free(hub->changed);
	free(hub->fds);
	free(hub);
}

static int allocate_private(struct hub *hub)
{
	uint8_t *slots;

	hub->rings = calloc(hub->mailboxes, sizeof(*hub->rings));
	slots = calloc(hub->mailboxes, hub->layout.depth);
	if (hub->rings)
		hub->rings[0].slots = slots;
	else
		free(slots);
	hub->wait_mask = calloc(hub->words, sizeof(*hub->wait_mask));
	hub->active = calloc(hub->words, sizeof(*hub->active));
	hub->watch = calloc(hub->words, sizeof(*hub->watch));
	hub->marked = calloc(hub->words, sizeof(*hub->marked));
	hub->waking = calloc(hub->words, sizeof(*hub->waking));
	hub->changed = calloc(hub->words, sizeof(*hub->changed));
	hub->fds = malloc(hub->mailboxes * sizeof(*hub->fds));
	if (!hub->rings || !slots || !hub->wait_mask || !hub->active ||
	    !hub->watch || !hub->marked || !hub->waking || !hub->changed || !hub->fds)
		return error_set(-ENOMEM, "no memory for a hub with %u mailboxes", hub->mailboxes);
	for (uint32_t i = 0; i < hub->mailboxes; i++) {
		hub->rings[i].slots = slots + (size_t)i * hub->layout.depth;
		hub->fds[i] = -1;
		mask_put(hub->watch, i, true);
	}
	return 0;
}

/*
 * If the chosen provider cannot create the hub, another one may, where the choice is the library's.
 */
static int create_with(struct hub *hub, const struct provider_ops *ops, bool forced)
{
	int error;

	hub->ops = ops;
	spin_init(&hub->spin, ops->spin_limit_ns);
	error = ops->create(hub);
	if (!error || ops == &futex_provider)
		return error;
	if (forced)
		return error_prefix(error, "provider \"kernel\": ");
	log_at(LOG_INFO, "using futexes: %s", error_text());
	return create_with(hub, &futex_provider, true);
}

int hub_create(const struct hub_options *options, struct hub **hub)
{
	const struct provider_ops *ops;
	struct hub *made;
	bool forced;
	int error;

	error = check_options(options);
	if (error)
		return error;
	error = provider_choose(options->provider, &ops, &forced);
	if (error)
		return error;
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "no memory for a hub");
	made->owner = getpid();
	made->fd = -1;
	made->mailboxes = options->mailboxes;
	made->words = (options->mailboxes + 63) / 64;
	made->cpus = spin_cpus();
	set_layout(&made->layout, options);
	error = allocate_private(made);
	if (!error)
		error = create_with(made, ops, forced);
	if (error) {
		free_private(made);
		return error;
	}
	for (uint32_t i = 0; i < made->mailboxes; i++)
		made->rings[i].mailbox = (struct mailbox *)(hub_box(made, i) +
							    hub_header_offset(made, i));
	*hub = made;
	return 0;
}

void hub_destroy(struct hub *hub)
{
	if (!hub)
		return;
	hub->ops->destroy(hub);
	free_private(hub);
}

void hub_forks_done(struct hub *hub)
{
	hub->ops->forks_done(hub);
	hub->forks_done = true;
}

enum dw_provider hub_provider(const struct hub *hub)
{
	return hub->ops->provider;
}

uint32_t hub_frame_payload(const struct hub *hub)
{
	return hub->layout.frame_bytes - FRAME_HEADER_BYTES;
}

uint32_t hub_depth(const struct hub *hub)
{
	return hub->layout.depth;
}

int hub_bind(struct hub *hub, uint32_t i, int32_t pid)
{
	return hub->ops->bind(hub, i, pid);
}

/* `active` differs from the present bit. */
static inline void set_active(struct hub *hub, uint32_t i, bool active)
{
	bool oversubscribed, crowded;

	mask_put(hub->active, i, active);
	hub->active_count += active ? 1 : -1u;
	crowded = hub->active_count > hub->cpus;
	if (crowded != load_relaxed(&hub->line->crowded))
		store_relaxed(&hub->line->crowded, crowded);
	oversubscribed = hub->active_count + 1 > hub->cpus;
	if (oversubscribed != load_relaxed(&hub->line->oversubscribed))
		store_relaxed(&hub->line->oversubscribed, oversubscribed);
}

/* An empty ring whose next frame is `number`. */
static void reset_ring(struct hub *hub, uint32_t i, uint32_t number)
{
	struct ring *ring = &hub->rings[i];

	ring->acquired = number;
	ring->published = number;
	ring->harvested = number;
	ring->done = number;
	ring->fail_epoch = 0;
	ring->unrun = 0;
	timeline_rearm(hub, i, number);
	ring->frame_ns = 0;
	ring->has_notify = false;
	ring->broken = false;
	store_relaxed(&hub->seen[i], number);
	store_relaxed(&ring->mailbox->notify, number);
	store_relaxed(&ring->mailbox->refill, number);
	if (mask_test(hub->active, i))
		set_active(hub, i, false);
	mask_put(hub->watch, i, true);
	mask_clear(hub->waking, i);
	mask_clear(hub->marked, i);
}

int hub_rearm(struct hub *hub, uint32_t i)
{
	int error = hub->ops->rearm(hub, i);

	if (!error)
		reset_ring(hub, i, 0);
	return error;
}

void hub_start_at(struct hub *hub, uint32_t i, uint32_t number)
{
	struct mailbox *mailbox = hub->rings[i].mailbox;

	reset_ring(hub, i, number);
	store_relaxed(&mailbox->done, number);
	store_release(&mailbox->post, number);
}

struct frame *hub_acquire(struct hub *hub, uint32_t i, uint8_t flags, uint32_t *number)
{
	struct ring *ring = &hub->rings[i];
	struct frame *frame;

	if (ring->acquired - ring->harvested == hub->layout.depth || ring->broken)
		return NULL;
	frame = frame_at(&hub->layout, ring->mailbox, ring->acquired);
	atomic_store_explicit(&frame->cancel, 0, memory_order_relaxed);
	atomic_store_explicit(&frame->superseded, 0, memory_order_relaxed);
	frame->flags = flags;
	if (UNLIKELY(flags & FRAME_WAITS))
		waits_of(&hub->layout, frame)->count = 0;
	/*
	 * The peer can write into the frame at any time: its completion is checked against this
	 * copy.
	 */
	ring->slots[ring->acquired & (hub->layout.depth - 1)] =
		(flags & FRAME_CHAINED ? SLOT_CHAINED : 0) | (flags & FRAME_WAITS ? SLOT_WAITS : 0);
	*number = ring->acquired++;
	return frame;
}

/*
 * A full ring should be refilled before it runs dry: the parent is woken when the remaining frames
 * last as long as its wake-up. With short frames that would be most of the ring, and a wake-up for
 * each half costs more than it saves; then only the dry ring wakes the parent.
 */
static void set_refill(struct ring *ring, uint32_t depth)
{
	uint32_t left;

	if (ring->frame_ns == 0)
		return;
	left = 1 + REFILL_LEAD_NS / ring->frame_ns;
	if (left <= depth / 2)
		store_relaxed(&ring->mailbox->refill, ring->published - left);
}

bool hub_publish(struct hub *hub, uint32_t i)
{
	struct ring *ring = &hub->rings[i];
	struct mailbox *mailbox = ring->mailbox;
	uint32_t number = ring->published;

	if (number == ring->acquired)
		return peer_is_asleep(mailbox);
	for (; number != ring->acquired; number++) {
		atomic_store_explicit(&frame_at(&hub->layout, mailbox, number)->claim,
				      claim_word(number, CLAIM_POSTED), memory_order_relaxed);
	}
	ring->published = number;
	if (!mask_test(hub->active, i))
		set_active(hub, i, true);
	/* A full ring: the parent probably has more frames. */
	if (number - ring->harvested == hub->layout.depth)
		set_refill(ring, hub->layout.depth);
	/*
	 * Release: the frames, claims and `refill` before the count that shows
	 * them; partner: the acquire in endpoint's read_post().
	 */
	store_release(&mailbox->post, number);
	/*
	 * The count before "asleep"; partner: the barrier between "asleep" and the
	 * count in the peer's going to sleep (futex.c, or the kernel's). Either the
	 * peer sees the count and stays awake, or it is seen asleep here and the
	 * caller wakes it.
	 */
	full_barrier();
	return peer_is_asleep(mailbox);
}

uint32_t hub_outstanding(const struct hub *hub, uint32_t i)
{
	return hub->rings[i].published - hub->rings[i].harvested;
}

uint32_t hub_fail_epoch(const struct hub *hub, uint32_t i)
{
	return hub->rings[i].fail_epoch;
}

bool hub_peer_asleep(const struct hub *hub, uint32_t i)
{
	return peer_is_asleep(hub->rings[i].mailbox);
}

uint32_t hub_next_ready(const struct hub *hub, uint32_t from)
{
	for (uint32_t word = from / 64; word < hub->words; word++) {
		uint64_t bits = atomic_load_explicit(&hub->active[word], memory_order_relaxed);

		if (word == from / 64)
			bits &= ~0ull << (from % 64);
		for (uint32_t i; bits_next(&bits, word, &i);) {
			if (load_relaxed(&hub->rings[i].mailbox->done) != hub->rings[i].harvested)
				return i;
		}
	}
	return UINT32_MAX;
}

/* Ignores this peer until hub_rearm(). */
static int broken(struct hub *hub, uint32_t i)
{
	hub->rings[i].broken = true;
	if (mask_test(hub->active, i))
		set_active(hub, i, false);
	mask_put(hub->watch, i, false);
	/*
	 * poll on the module's hub looks at all mailboxes: marks the present count of this one as
	 * seen.
	 */
	store_relaxed(&hub->seen[i], load_relaxed(&hub->rings[i].mailbox->done));
	return -EPROTO;
}

/* Reads the peer's count: 1 when there is something to harvest, 0, -EPROTO. */
static int read_done(struct hub *hub, uint32_t i)
{
	struct ring *ring = &hub->rings[i];
	/* Acquire: partner is the release in the endpoint's publish_done(). */
	uint32_t done = load_acquire(&ring->mailbox->done);

	if (done - ring->harvested > ring->published - ring->harvested) {
		error_set(-EPROTO, "mailbox %u: done is %u; it was %u and %u are posted",
			  i, done, ring->done, ring->published);
		return broken(hub, i);
	}
	ring->done = done;
	return done != ring->harvested;
}

static int check_completion(const struct ring *ring, uint32_t i, uint8_t slot,
			    const struct completion *completion)
{
	uint32_t n = ring->harvested;

	if (completion->number != n)
		return error_set(-EPROTO,
				 "mailbox %u: completion of frame %u where frame %u is due", i,
				 completion->number, n);
	if (completion->text_bytes >= TEXT_BYTES)
		return error_set(-EPROTO,
				 "mailbox %u: completion %u has text_bytes %u; the most are %u", i,
				 n, completion->text_bytes, TEXT_BYTES - 1);
	switch (completion->state) {
	case COMPLETION_DONE:
		if (completion->error != 0)
			return error_set(-EPROTO, "mailbox %u: completion %u is DONE with error %d",
					 i, n, completion->error);
		break;
	case COMPLETION_FAILED:
		if (completion->error >= 0 || completion->error < -4095)
			return error_set(-EPROTO,
					 "mailbox %u: completion %u is FAILED with error %d", i, n,
					 completion->error);
		break;
	case COMPLETION_KEPT:
		if (completion->error != 0 || !(slot & SLOT_SUPERSEDED))
			return error_set(-EPROTO,
					 "mailbox %u: completion %u is KEPT with error %d, and %s "
					 "frame supersedes it",
					 i, n, completion->error,
					 slot & SLOT_SUPERSEDED ? "a" : "no");
		break;
	case COMPLETION_REVOKED:
		break;
	case COMPLETION_RETURNED:
		if (!(slot & (SLOT_CHAINED | SLOT_WAITS)))
			return error_set(
				-EPROTO,
				"mailbox %u: completion %u is RETURNED, but was not chained", i, n);
		break;
	default:
		return error_set(-EPROTO, "mailbox %u: completion %u has state %u", i, n,
				 completion->state);
	}
	if (!(slot & SLOT_REVOKED) != (completion->state != COMPLETION_REVOKED))
		return error_set(
			-EPROTO,
			"mailbox %u: completion %u has state %u, but the frame was %srevoked", i, n,
			completion->state, slot & SLOT_REVOKED ? "" : "not ");
	return 0;
}

/*
 * The duration of a frame, smoothed. False times of a peer only move its own wake-ups. A frame that
 * did not run has no times.
 */
static void average_in(struct ring *ring, const struct completion *completion)
{
	uint64_t ns = completion->ended - completion->started;

	if (!completion_has_run(completion->state))
		return;
	if (ns > UINT32_MAX / 2)
		ns = UINT32_MAX / 2;
	ring->frame_ns = (uint32_t)(((uint64_t)ring->frame_ns * 7 + ns) / 8);
}

static void copy_text(const struct hub *hub, const struct ring *ring, uint32_t bytes, char *text)
{
	/*
	 * The peer may have changed its text since then: it is cut at the length that was checked.
	 */
	memcpy(text, text_at(&hub->layout, ring->mailbox, ring->harvested), bytes);
	text[bytes] = '\0';
}

static int take_completion(struct hub *hub, uint32_t i, struct completion *completion, char *text)
{
	struct ring *ring = &hub->rings[i];
	struct completion copy;
	uint8_t slot;
	int result;

	memcpy(&copy, completion_at(&hub->layout, ring->mailbox, ring->harvested), sizeof(copy));
	/* The copy is checked below: the compiler must not read the shared memory again. */
	atomic_signal_fence(memory_order_seq_cst);
	slot = ring->slots[ring->harvested & (hub->layout.depth - 1)];
	result = check_completion(ring, i, slot, &copy);
	if (result) {
		ring->done = ring->harvested;
		return broken(hub, i);
	}
	if (!completion_has_run(copy.state) || copy.state == COMPLETION_FAILED) {
		ring->unrun++;
		ring->fail_epoch += copy.state == COMPLETION_FAILED ||
				    (copy.state == COMPLETION_RETURNED && slot & SLOT_WAITS);
	}
	average_in(ring, &copy);
	if (text)
		copy_text(hub, ring, copy.state == COMPLETION_FAILED ? copy.text_bytes : 0, text);
	ring->harvested++;
	store_relaxed(&hub->seen[i], ring->harvested);
	if (ring->harvested == ring->published) {
		set_active(hub, i, false);
		ring->has_notify = false;
	}
	if (mask_test(hub->waking, i))
		mask_clear(hub->waking, i);
	*completion = copy;
	return 1;
}

int hub_harvest(struct hub *hub, uint32_t i, struct completion *completion, char text[TEXT_BYTES])
{
	struct ring *ring = &hub->rings[i];
	int result;

	if (ring->done == ring->harvested) {
		if (ring->broken)
			return error_set(-EPROTO,
					 "mailbox %u: its peer is not to be trusted any more", i);
		if (load_relaxed(&ring->mailbox->done) == ring->harvested)
			return 0;
		result = read_done(hub, i);
		if (result <= 0)
			return result;
	}
	return take_completion(hub, i, completion, text);
}

uint16_t hub_next_state(const struct hub *hub, uint32_t i)
{
	const struct ring *ring = &hub->rings[i];
	const struct completion *completion;

	if (ring->broken || load_acquire(&ring->mailbox->done) == ring->harvested)
		return 0;
	completion = completion_at(&hub->layout, ring->mailbox, ring->harvested);
	return __atomic_load_n(&completion->state, __ATOMIC_RELAXED);
}

void hub_distrust(struct hub *hub, uint32_t i)
{
	broken(hub, i);
}

/* Whether the frame is one of those that are posted and not harvested. */
static bool is_outstanding(const struct ring *ring, uint32_t number)
{
	return number - ring->harvested < ring->published - ring->harvested;
}

bool hub_revoke(struct hub *hub, uint32_t i, uint32_t number)
{
	struct ring *ring = &hub->rings[i];
	uint32_t expected = claim_word(number, CLAIM_POSTED);
	struct frame *frame;

	if (!is_outstanding(ring, number))
		return false;
	frame = frame_at(&hub->layout, ring->mailbox, number);
	/* Partner: the peer's compare-and-swap in endpoint_next(); exactly one of the two wins. */
	if (!atomic_compare_exchange_strong_explicit(&frame->claim, &expected,
						     claim_word(number, CLAIM_REVOKED),
						     memory_order_acq_rel, memory_order_relaxed))
		return false;
	ring->slots[number & (hub->layout.depth - 1)] |= SLOT_REVOKED;
	if (UNLIKELY(frame->flags & FRAME_WAITS))
		timeline_recall(hub, i, frame);
	return true;
}

bool hub_started(const struct hub *hub, uint32_t i, uint32_t number)
{
	const struct ring *ring = &hub->rings[i];
	const struct frame *frame;

	if (!is_outstanding(ring, number))
		return false;
	frame = frame_at(&hub->layout, ring->mailbox, number);
	return atomic_load_explicit(&frame->claim, memory_order_acquire) ==
	       claim_word(number, CLAIM_CLAIMED);
}

void hub_cancel(struct hub *hub, uint32_t i, uint32_t number)
{
	struct ring *ring = &hub->rings[i];

	/* Release: after those behind it; partner: the acquire before endpoint_return(). */
	if (is_outstanding(ring, number))
		atomic_store_explicit(&frame_at(&hub->layout, ring->mailbox, number)->cancel, 1,
				      memory_order_release);
}

bool hub_supersede(struct hub *hub, uint32_t i, uint32_t number, uint32_t by)
{
	struct ring *ring = &hub->rings[i];
	uint8_t *slot = &ring->slots[number & (hub->layout.depth - 1)];

	if (*slot & SLOT_SUPERSEDED || by - number > UINT16_MAX)
		return false;
	*slot |= SLOT_SUPERSEDED;
	/* The peer looks whether that frame is posted: this may come before it, or late. */
	atomic_store_explicit(&frame_at(&hub->layout, ring->mailbox, number)->superseded,
			      (uint16_t)(by - number), memory_order_relaxed);
	return true;
}

bool hub_request_notify(struct hub *hub, uint32_t i, uint32_t number)
{
	struct ring *ring = &hub->rings[i];
	uint32_t mark = number + 1, posted = ring->published - ring->harvested, done;

	if (!is_outstanding(ring, number))
		return true;
	/* Keeps the earlier mark, unless the peer has passed it already. */
	done = load_relaxed(&ring->mailbox->done) - ring->harvested;
	if (!ring->has_notify || ring->notify - ring->harvested <= done ||
	    ring->notify - ring->harvested > posted ||
	    mark - ring->harvested < ring->notify - ring->harvested) {
		ring->has_notify = true;
		ring->notify = mark;
		store_relaxed(&ring->mailbox->notify, mark);
	}
	/*
	 * `notify` before `done`; partner: the barrier between done and notify in
	 * the endpoint's check_notify(). Either the peer sees the mark when it
	 * passes it, or its count is seen here.
	 */
	full_barrier();
	done = load_acquire(&ring->mailbox->done) - ring->harvested;
	return done >= mark - ring->harvested;
}

void hub_stop(struct hub *hub, uint32_t i)
{
	struct mailbox *mailbox = hub->rings[i].mailbox;
	uint64_t mask[hub->words];	/* a bit per mailbox; hub_wake() may be at work beside us */

	/* Release: after the frames; partner: the acquire in endpoint_wait(). */
	store_release(&mailbox->stop, 1);
	/* As in hub_publish(): the peer looks at both words before it sleeps. */
	full_barrier();
	if (peer_is_asleep(mailbox)) {
		memset(mask, 0, sizeof(mask));
		mask[i / 64] = 1ull << (i % 64);
		hub->ops->wake(hub, mask);
	}
}

void hub_peer_counters(const struct hub *hub, uint32_t i, struct endpoint_counters *counters)
{
	const struct mailbox *mailbox = hub->rings[i].mailbox;

	counters->wakes = __atomic_load_n(&mailbox->wakes, __ATOMIC_RELAXED);
	counters->sleeps = __atomic_load_n(&mailbox->sleeps, __ATOMIC_RELAXED);
	counters->spins_won = __atomic_load_n(&mailbox->spins_won, __ATOMIC_RELAXED);
	counters->spins_lost = __atomic_load_n(&mailbox->spins_lost, __ATOMIC_RELAXED);
}
