// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The provider without the module: one shared mapping made before the forks,
 * futexes on the "asleep" words, an eventfd per side as its bell.
 *
 * The waiter writes "asleep" itself; the waker clears it before its call, so that only one waker
 * makes the call. Peers can write the hub's line here; the damage by a corrupt peer is repaired
 * when the peer is gone. A peer that is killed after it cleared "asleep" and before its call leaves
 * the parent asleep without the bit: the thread that learns of the death kicks the hub, and a kick
 * goes by `waiting`.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/bits.h"
#include "base/fd.h"
#include "base/futex.h"
#include "mailbox/provider.h"
#include "task/error.h"

/*
 * Timelines. `smallest` is the smallest count that a sibling sleeps for; 0: none does. A sibling
 * that waits for a smaller one writes that; the finisher that has reached it clears the word,
 * raises `event` and wakes all, and those that wait for more write theirs again.
 * A sibling reads `event` before it writes `smallest`, and sleeps only while `event` is the same:
 * `smallest` alone may have been cleared and written again by a third between its last look and its
 * sleep, and the wake-up that it needs has been then (tests/model/timeline.pml).
 */
#define ASLEEP_WAITER DISTWORKER_ASLEEP_WAITER
#define ASLEEP_POLLER DISTWORKER_ASLEEP_POLLER

/* Bells are eventfds that do not block: a full one (EAGAIN) rings already. */
static void bell_ring(int fd)
{
	uint64_t one = 1;
	ssize_t written = write(fd, &one, sizeof(one));

	(void)written;
}

static void bell_drain(int fd)
{
	uint64_t value;
	ssize_t got = read(fd, &value, sizeof(value));

	(void)got;
}

/* Takes bits of "asleep" away; returns those that were set. */
static uint32_t take(uint32_t *asleep, uint32_t bits)
{
	return __atomic_fetch_and(asleep, ~bits, __ATOMIC_SEQ_CST) & bits;
}

/* ---------------------------------------------------------------- timelines */

static void wake_sleepers(struct awaited *awaited)
{
	__atomic_add_fetch(&awaited->event, 1, __ATOMIC_SEQ_CST);
	futex_wake(&awaited->event, INT_MAX, FUTEX_SHARED);
}

static void futex_wake_siblings(struct hub *hub, uint32_t i)
{
	/* A peer may have cleared the word and died, or be corrupt: there may be sleepers. */
	__atomic_exchange_n(&hub->awaited[i].smallest, 0, __ATOMIC_SEQ_CST);
	wake_sleepers(&hub->awaited[i]);
}

static void futex_recalled(struct hub *hub, uint32_t i, const struct frame_waits *waits)
{
	uint32_t count = load_relaxed(&waits->count);

	(void)i;
	/* The peer can write there; a false ring costs a wake-up for nothing. */
	for (uint32_t k = 0; k < count && k < WAITS_MOST; k++) {
		uint32_t ring = load_relaxed(&waits->waits[k].ring);

		if (ring < hub->mailboxes)
			futex_wake_siblings(hub, ring);
	}
}

static void futex_peer_wake_siblings(struct endpoint *endpoint)
{
	struct awaited *awaited = endpoint->awaited;

	if (__atomic_exchange_n(&awaited->smallest, 0, __ATOMIC_SEQ_CST))
		wake_sleepers(awaited);
}

/* Leaves the smaller of the word's count and this one there. */
static void await_count(uint32_t *smallest, uint32_t count)
{
	uint32_t value = load_relaxed(smallest), mine = AWAITED(count);

	while (!value || (int32_t)(value - mine) > 0)
		if (__atomic_compare_exchange_n(smallest, &value, mine, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED))
			return;
}

static int futex_sibling_wait(struct endpoint *endpoint, const struct frame_wait *wait,
			      const _Atomic uint32_t *claim)
{
	struct awaited *awaited = &endpoint->all_awaited[wait->ring];
	uint32_t posted = claim_word(endpoint->next, CLAIM_POSTED);
	/* Acquire: before the load of `smallest`; partner: wake_sleepers(). */
	uint32_t event = load_acquire(&awaited->event);

	await_count(&awaited->smallest, wait->count);
	/*
	 * `smallest` before the last look; partner: the barrier before check_notify().
	 */
	full_barrier();
	if (wait_is_over(endpoint, wait) ||
	    atomic_load_explicit(claim, memory_order_relaxed) != posted)
		return 0;
	endpoint->sleeps++;
	futex_wait(&awaited->event, event, DISTWORKER_NO_DEADLINE, FUTEX_SHARED);
	return 0;
}

/* ----------------------------------------------------------------- objects */

static void futex_destroy(struct hub *hub)
{
	/* Not in a process that was forked after MADV_DONTFORK: other things may lie there. */
	if (hub->memory && !(hub->forks_done && getpid() != hub->owner))
		munmap(hub->memory, hub->memory_bytes);
	for (uint32_t i = 0; i < hub->mailboxes; i++)
		if (hub->fds[i] >= 0)
			close(hub->fds[i]);
	if (hub->fd >= 0)
		close(hub->fd);
	free(hub->kick);
}

static int make_bell(int *fd)
{
	int made = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));

	if (made < 0)
		return -errno;
	*fd = made;
	return 0;
}

static int futex_create(struct hub *hub)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), wanted = hub_wanted_bytes(hub);
	uint64_t timelines, awaited;
	int error;

	/* As the module does. */
	hub->stride = (wanted + page - 1) / page * page;
	hub->header_slots = (uint32_t)(hub->stride - wanted) / LINE_BYTES + 1;
	hub->header_step = LINE_BYTES;
	timelines = page * hub->mailboxes;
	awaited = (sizeof(*hub->awaited) * hub->mailboxes + page - 1) / page * page;
	hub->memory_bytes = page + timelines + awaited + hub->stride * hub->mailboxes;
	hub->memory = mmap(NULL, hub->memory_bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (hub->memory == MAP_FAILED) {
		error = -errno;
		hub->memory = NULL;
		return error_set(error, "mmap of %llu bytes for %u mailboxes: %s",
				 (unsigned long long)hub->memory_bytes, hub->mailboxes,
				 strerror(-error));
	}
	/* A core dump delays the report of a death. */
	madvise(hub->memory, hub->memory_bytes, MADV_DONTDUMP);
	hub->line = hub->memory;
	hub->timelines = (unsigned char *)hub->memory + page;
	hub->timeline_step = page;
	hub->awaited = (struct awaited *)(hub->timelines + timelines);
	hub->boxes = hub->timelines + timelines + awaited;
	/* The kick word on a line of its own. */
	error = posix_memalign((void **)&hub->kick, LINE_BYTES,
			       LINE_BYTES + hub->mailboxes * sizeof(*hub->seen));
	if (error) {
		hub->kick = NULL;
		futex_destroy(hub);
		return error_set(-error, "no memory for %u mailboxes", hub->mailboxes);
	}
	memset(hub->kick, 0, LINE_BYTES + hub->mailboxes * sizeof(*hub->seen));
	hub->seen = hub->kick + LINE_BYTES / sizeof(*hub->kick);
	error = make_bell(&hub->fd);
	for (uint32_t i = 0; i < hub->mailboxes && !error; i++)
		error = make_bell(&hub->fds[i]);
	if (error) {
		futex_destroy(hub);
		return error_set(
			error, "eventfd for %u mailboxes: %s%s", hub->mailboxes, strerror(-error),
			error == -EMFILE ?
				"; each takes one descriptor: raise RLIMIT_NOFILE (ulimit -n)" :
				"");
	}
	return 0;
}

static void futex_forks_done(struct hub *hub)
{
	madvise(hub->memory, hub->memory_bytes, MADV_DONTFORK);
}

static int futex_bind(struct hub *hub, uint32_t i, int32_t pid)
{
	(void)hub;
	(void)i;
	(void)pid;
	return 0;
}

static int futex_rearm(struct hub *hub, uint32_t i)
{
	uint32_t *words = (uint32_t *)hub_mailbox(hub, i);

	/* A thread in the foreground may be looking at its words meanwhile. */
	for (uint32_t n = 0; n < hub->layout.bytes / sizeof(*words); n++)
		store_relaxed(&words[n], 0);
	bell_drain(hub->fds[i]);
	return 0;
}

/*
 * The hub's line, which every peer can write. A waiter that has lost its bit of "asleep"
 * is kicked, and the background thread arms its bell again.
 */
static void futex_repair(struct hub *hub)
{
	take(&hub->line->asleep, ~(ASLEEP_WAITER | ASLEEP_POLLER));
	store_relaxed(&hub->line->driving, hub->driving);
	store_relaxed(&hub->line->spin_hint, 0);
	for (uint32_t i = 0; hub->has_waits && i < hub->mailboxes; i++)
		futex_wake_siblings(hub, i);
}

/* -------------------------------------------------------------- the parent */

static void futex_wake_peers(struct hub *hub, const uint64_t *wake)
{
	for (uint32_t word = 0; word < hub->words; word++) {
		uint64_t bits = wake[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			uint32_t *asleep = &hub_mailbox(hub, i)->asleep;
			uint32_t was = take(asleep, ASLEEP_WAITER | ASLEEP_POLLER);

			if (was & ASLEEP_WAITER)
				futex_wake(asleep, 1, FUTEX_SHARED);
			if (was & ASLEEP_POLLER)
				bell_ring(hub->fds[i]);
		}
	}
}

static int futex_hub_wait(struct hub *hub, const uint64_t *wake, uint64_t deadline_ns)
{
	uint32_t *asleep = &hub->line->asleep;
	uint32_t value;
	int result = 0;

	if (wake)
		futex_wake_peers(hub, wake);
	atomic_store_explicit(&hub->waiting, 1, memory_order_seq_cst);
	value = __atomic_fetch_or(asleep, ASLEEP_WAITER, __ATOMIC_SEQ_CST) | ASLEEP_WAITER;
	/*
	 * "asleep" and `waiting` before the last look; partners: the barriers in
	 * the endpoint (check_notify()) and in hub_kick().
	 */
	full_barrier_after_rmw();
	if (load_relaxed(hub->kick) == hub->kick_seen && !hub_completions_pending(hub))
		result = futex_wait(asleep, value, deadline_ns, FUTEX_SHARED);
	take(asleep, ASLEEP_WAITER);
	atomic_store_explicit(&hub->waiting, 0, memory_order_relaxed);
	return result == -EAGAIN ? 0 : result;
}

static void futex_kicked(struct hub *hub)
{
	/*
	 * Not by "asleep", which a peer may have taken away just before it died.
	 * A waiter that sets it again after this has read it here first, and sees the kick.
	 */
	if (!atomic_load_explicit(&hub->waiting, memory_order_seq_cst))
		return;
	take(&hub->line->asleep, ASLEEP_WAITER);
	futex_wake(&hub->line->asleep, 1, FUTEX_SHARED);
}

static bool futex_bell_arm(struct hub *hub)
{
	__atomic_fetch_or(&hub->line->asleep, ASLEEP_POLLER, __ATOMIC_SEQ_CST);
	/*
	 * "asleep" before the last look; partner: the barrier before the endpoint's check_notify().
	 */
	full_barrier_after_rmw();
	if (!hub_completions_pending(hub))
		return false;
	take(&hub->line->asleep, ASLEEP_POLLER);
	return true;
}

static void futex_bell_clear(struct hub *hub, uint32_t events)
{
	(void)events;
	take(&hub->line->asleep, ASLEEP_POLLER);
	bell_drain(hub->fd);
}

static int futex_query(struct hub *hub, uint32_t i, struct hub_change *change)
{
	(void)hub;
	(void)i;
	(void)change;
	return -ENOSYS;
}

/* ---------------------------------------------------------------- the peer */

/* Siblings read each other's timelines. */
static void protect_timelines(const struct hub *hub, uint32_t mine)
{
	unsigned char *own = hub->timelines + mine * hub->timeline_step;
	unsigned char *end = hub->timelines + hub->mailboxes * hub->timeline_step;

	if (own > hub->timelines)
		mprotect(hub->timelines, (size_t)(own - hub->timelines), PROT_READ);
	own += hub->timeline_step;
	if (own < end)
		mprotect(own, (size_t)(end - own), PROT_READ);
}

/* The child keeps the hub's line and its own mailbox. */
static void drop_siblings(struct hub *hub, uint32_t mine)
{
	unsigned char *box = hub_box(hub, mine);
	unsigned char *end = hub->boxes + hub->stride * hub->mailboxes;

	if (box > hub->boxes)
		munmap(hub->boxes, (size_t)(box - hub->boxes));
	if (box + hub->stride < end)
		munmap(box + hub->stride, (size_t)(end - box) - hub->stride);
	for (uint32_t i = 0; i < hub->mailboxes; i++) {
		if (i != mine && hub->fds[i] >= 0)
			close(hub->fds[i]);
		hub->fds[i] = -1;
	}
	hub->memory = NULL;
	hub->fd = -1;
}

static int futex_attach(struct hub *hub, struct endpoint *endpoint)
{
	struct mailbox *mailbox;
	uint32_t free_word = 0;

	if (!hub->memory)
		return error_set(-EBUSY, "mailbox %u: this process has attached to another one",
				 endpoint->index);
	mailbox = hub_mailbox(hub, endpoint->index);
	if (!__atomic_compare_exchange_n(&mailbox->attached, &free_word, (uint32_t)endpoint->owner,
					 false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return error_set(-EBUSY, "mailbox %u: process %u is attached", endpoint->index,
				 free_word);
	endpoint->line = hub->line;
	endpoint->mailbox = mailbox;
	endpoint->timelines = hub->timelines;
	endpoint->timeline_step = hub->timeline_step;
	endpoint->timeline = (struct timeline *)(hub->timelines +
						 endpoint->index * hub->timeline_step);
	endpoint->all_awaited = hub->awaited;
	endpoint->awaited = &hub->awaited[endpoint->index];
	if (!endpoint->thread)
		protect_timelines(hub, endpoint->index);
	endpoint->line_map = hub->memory;
	endpoint->line_bytes = (uint64_t)(hub->boxes - (unsigned char *)hub->memory);
	endpoint->box = hub_box(hub, endpoint->index);
	endpoint->box_bytes = hub->stride;
	endpoint->fd = hub->fds[endpoint->index];
	endpoint->hub_bell = hub->fd;
	if (!endpoint->thread)
		drop_siblings(hub, endpoint->index);
	return 0;
}

static void futex_detach(struct endpoint *endpoint)
{
	if (getpid() == endpoint->owner)
		__atomic_store_n(&endpoint->mailbox->attached, 0, __ATOMIC_RELEASE);
	if (endpoint->thread)
		return;
	munmap(endpoint->box, endpoint->box_bytes);
	munmap(endpoint->line_map, endpoint->line_bytes);
	close(endpoint->fd);
	close(endpoint->hub_bell);
}

static void futex_peer_wake(struct endpoint *endpoint)
{
	struct hub_line *line = endpoint->line;

	if (take(&line->asleep, ASLEEP_WAITER))
		futex_wake(&line->asleep, 1, FUTEX_SHARED);
	else if (!load_relaxed(&line->driving) && take(&line->asleep, ASLEEP_POLLER))
		bell_ring(endpoint->hub_bell);
}

static int futex_peer_wait(struct endpoint *endpoint, uint32_t seen, bool wake)
{
	struct mailbox *mailbox = endpoint->mailbox;

	if (wake)
		futex_peer_wake(endpoint);
	__atomic_exchange_n(&mailbox->asleep, ASLEEP_WAITER, __ATOMIC_SEQ_CST);
	/* "asleep" before the last look; partners: the barriers in hub_publish() and hub_stop(). */
	full_barrier_after_rmw();
	if (load_relaxed(&mailbox->post) == seen && !load_relaxed(&mailbox->stop))
		futex_wait(&mailbox->asleep, ASLEEP_WAITER, DISTWORKER_NO_DEADLINE, FUTEX_SHARED);
	store_relaxed(&mailbox->asleep, 0);
	return 0;
}

static bool futex_peer_bell_arm(struct endpoint *endpoint, uint32_t seen)
{
	struct mailbox *mailbox = endpoint->mailbox;

	__atomic_exchange_n(&mailbox->asleep, ASLEEP_POLLER, __ATOMIC_SEQ_CST);
	/* As in futex_peer_wait(). */
	full_barrier_after_rmw();
	if (load_relaxed(&mailbox->post) == seen &&
	    (endpoint->stopping || !load_relaxed(&mailbox->stop)))
		return false;
	store_relaxed(&mailbox->asleep, 0);
	return true;
}

/* A ring that comes after `events` were seen stays for the next poll. */
static void futex_peer_bell_clear(struct endpoint *endpoint, uint32_t events)
{
	store_relaxed(&endpoint->mailbox->asleep, 0);
	if (events)
		bell_drain(endpoint->fd);
}

const struct provider_ops futex_provider = {
	.provider = DW_PROVIDER_FUTEX,
	.wake_and_wait = false,
	.spin_limit_ns = 20000,
	.create = futex_create,
	.destroy = futex_destroy,
	.forks_done = futex_forks_done,
	.bind = futex_bind,
	.rearm = futex_rearm,
	.repair = futex_repair,
	.wait = futex_hub_wait,
	.wake = futex_wake_peers,
	.kicked = futex_kicked,
	.bell_arm = futex_bell_arm,
	.bell_clear = futex_bell_clear,
	.query = futex_query,
	.attach = futex_attach,
	.detach = futex_detach,
	.peer_wait = futex_peer_wait,
	.peer_wake = futex_peer_wake,
	.peer_wake_siblings = futex_peer_wake_siblings,
	.wake_siblings = futex_wake_siblings,
	.recalled = futex_recalled,
	.sibling_wait = futex_sibling_wait,
	.peer_bell_arm = futex_peer_bell_arm,
	.peer_bell_clear = futex_peer_bell_clear,
};
