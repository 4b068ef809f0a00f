/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Deadlines of tasks and runs, and stragglers: one timerfd, read by the background
 * thread. It is armed while something that it stands for is in a ring, and lazily: when
 * it expires too early, it is armed again for what is next.
 *
 * A task's time begins when its frame comes to the head of the ring, since only
 * then it can start; when the deadline finds it not started, it begins anew.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include "engine/internal.h"

#define STRAGGLER_MAX_NS 16000000

void timer_at_most(struct engine *engine, uint64_t at_ns)
{
	struct itimerspec timer = {
		.it_value = { .tv_sec = (time_t)(at_ns / 1000000000),
			      .tv_nsec = (long)(at_ns % 1000000000) + (at_ns % 1000000000 == 0) },
	};

	if (at_ns >= engine->timer_at || engine->timer_fd < 0)
		return;
	engine->timer_at = at_ns;
	timerfd_settime(engine->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

void peer_head_changed(struct engine *engine, struct peer *peer, uint64_t since_ns)
{
	struct entry *entry = peer_entry(engine, peer, peer->head);

	peer->head_since = since_ns;
	if (entry->flags & ENTRY_TIMED && entry->timeout_ns < NEVER - since_ns)
		timer_at_most(engine, since_ns + entry->timeout_ns);
}

/* The frame at the head has run too long. */
static void expire(struct engine *engine, struct peer *peer, struct entry *entry)
{
	char what[ERROR_TEXT_BYTES / 2], why[ERROR_TEXT_BYTES];

	entry->flags &= (uint8_t)~ENTRY_TIMED;
	peer->timed--;
	entry->slot->flags |= SLOT_DEADLINE;
	task_describe(entry->slot, what, sizeof(what));
	snprintf(why, sizeof(why), "%s ran longer than its deadline of %llu ns", what,
		 (unsigned long long)entry->timeout_ns);
	hub_cancel(engine->hub, peer->index, peer->head);
	if (engine->ops && engine->ops->cancelled)
		engine->ops->cancelled(engine->ops_context, peer->index);
	peer_kill(engine, peer, why);
}

static void expire_head(struct engine *engine, struct peer *peer, uint64_t now)
{
	struct entry *entry;
	uint64_t deadline;

	if (peer->head == peer->tail)
		return;
	entry = peer_entry(engine, peer, peer->head);
	if (!(entry->flags & ENTRY_TIMED) || !entry->slot)
		return;
	/* A child's clock is the same; a child that lies about it gains nothing. */
	if (peer->head_since > now)
		peer->head_since = now;
	deadline = peer->head_since + entry->timeout_ns;
	if (deadline < peer->head_since)
		return;
	if (now < deadline)
		timer_at_most(engine, deadline);
	else if (hub_started(engine->hub, peer->index, peer->head))
		expire(engine, peer, entry);
	else
		peer_head_changed(engine, peer, now);
}

static bool has_idle(const struct engine *engine, const struct pool *pool)
{
	for (uint32_t word = 0; word < engine->words; word++)
		if (pool->idle[word] & pool->open[word])
			return true;
	return false;
}

static void straggler_arm(struct engine *engine, uint64_t now)
{
	engine->straggler = true;
	for (uint32_t i = 0; i < engine->worker_count; i++)
		engine->peers[i].straggler_head = engine->peers[i].head;
	timer_at_most(engine, now + engine->straggler_ns);
}

/* A task was put behind another while somebody has nothing to do: it shall not stick there. */
void straggler_watch(struct engine *engine, struct pool *pool)
{
	if (LIKELY(engine->straggler) || pool->up < 2 || !has_idle(engine, pool))
		return;
	engine->straggler_ns = STRAGGLER_NS;
	straggler_arm(engine, now_ns());
}

static void stragglers_expired(struct engine *engine, uint64_t now)
{
	bool again = false;

	engine->straggler = false;
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct peer *peer = &engine->peers[i];
		struct pool *pool = &engine->pools[peer->pool];

		if (!peer->any_waiting || !has_idle(engine, pool))
			continue;
		if (peer->straggler_head == peer->head)
			unstick(engine, peer, engine->straggler_ns);
		else
			again = true;
	}
	if (!again)
		return;
	if (engine->straggler_ns < STRAGGLER_MAX_NS)
		engine->straggler_ns *= 2;
	straggler_arm(engine, now);
}

/* With the lock, by the background thread. */
void timer_expired(struct engine *engine)
{
	uint64_t now = now_ns();
	struct dw_run *run, *next;

	engine->timer_at = NEVER;
	engine_work(engine);
	for (run = engine->runs; run; run = next) {
		next = run->next;
		if (run->cancelled || run->deadline == NEVER)
			continue;
		if (now >= run->deadline)
			run_cancel_locked(run, -ETIMEDOUT, "the run's deadline has passed");
		else
			timer_at_most(engine, run->deadline);
	}
	for (uint32_t i = 0; i < engine->worker_count; i++)
		if (engine->peers[i].timed)
			expire_head(engine, &engine->peers[i], now);
	if (engine->straggler)
		stragglers_expired(engine, now);
	engine_work(engine);
}
