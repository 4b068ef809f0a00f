// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The rings, both sides in one process: order, wrap, taking back, frames posted ahead,
 * notification, and the parent's reaction to a peer that writes nonsense.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include "mailbox/provider.h"
#include "task/error.h"
#include "unit.h"

static struct hub *hub;
static struct endpoint *endpoint;

static bool open_hub(enum dw_provider provider, uint32_t mailboxes, uint32_t depth)
{
	struct hub_options options = {
		.provider = provider, .mailboxes = mailboxes, .depth = depth, .frame_bytes = 128,
	};

	if (!CHECK_EQ(hub_create(&options, &hub), 0)) {
		printf("# %s\n", dw_strerror_last());
		return false;
	}
	for (uint32_t i = 0; i < mailboxes; i++)
		CHECK_EQ(hub_bind(hub, i, getpid()), 0);
	return true;
}

static bool open_pair(uint32_t depth)
{
	return open_hub(DW_PROVIDER_AUTO, 2, depth) &&
	       CHECK_EQ(endpoint_attach(hub, 0, &endpoint), 0);
}

static void close_pair(void)
{
	endpoint_detach(endpoint);
	hub_destroy(hub);
}

static uint32_t post(uint64_t task, uint8_t flags)
{
	uint32_t number;
	struct frame *frame = hub_acquire(hub, 0, flags, &number);

	if (!CHECK(frame != NULL))
		return 0;
	frame->kind = FRAME_TASK;
	frame->fail_epoch = hub_fail_epoch(hub, 0);
	frame->task = task;
	memset(frame + 1, (int)task, hub_frame_payload(hub));
	hub_publish(hub, 0);
	return number;
}

/* Runs one frame as the peer; false: there was none. */
static bool run_one(uint64_t task, int error, const char *text)
{
	uint32_t number;
	struct frame *frame = endpoint_next(endpoint, &number);

	if (!frame)
		return false;
	CHECK_EQ(frame->task, task);
	CHECK_EQ(*(unsigned char *)(frame + 1), task & 0xff);
	endpoint_complete(endpoint, number, error, text, 1, 2);
	return true;
}

static char text[TEXT_BYTES];
static struct completion completion;

static bool harvested(uint32_t number, enum completion_state state)
{
	return CHECK_EQ(hub_harvest(hub, 0, &completion, text), 1) &&
	       CHECK_EQ(completion.number, number) && CHECK_EQ(completion.state, state);
}

static bool nothing_to_harvest(void)
{
	return CHECK_EQ(hub_harvest(hub, 0, &completion, text), 0);
}

TEST(frames_are_completed_in_order_with_error_and_text)
{
	char longer[2 * TEXT_BYTES];
	uint32_t number;

	REQUIRE(open_pair(8));
	CHECK_EQ(hub_frame_payload(hub), 64);
	CHECK_EQ(hub_depth(hub), 8);
	CHECK(endpoint_next(endpoint, &number) == NULL);
	CHECK(nothing_to_harvest());
	for (uint32_t i = 0; i < 4; i++)
		CHECK_EQ(post(i, 0), i);
	CHECK_EQ(hub_outstanding(hub, 0), 4);
	CHECK_EQ(hub_next_ready(hub, 0), UINT32_MAX);
	memset(longer, 'y', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	CHECK(run_one(0, 0, NULL));
	CHECK_EQ(hub_next_ready(hub, 0), 0);
	CHECK_EQ(hub_next_ready(hub, 1), UINT32_MAX);
	CHECK(run_one(1, -EIO, "short read"));
	CHECK(run_one(2, -ENOSPC, longer));
	CHECK(run_one(3, -EPERM, NULL));
	CHECK(!run_one(4, 0, NULL));
	CHECK(harvested(0, COMPLETION_DONE));
	CHECK_EQ(completion.error, 0);
	CHECK_EQ(completion.started, 1);
	CHECK_EQ(completion.ended, 2);
	CHECK(harvested(1, COMPLETION_FAILED));
	CHECK_EQ(completion.error, -EIO);
	CHECK(!strcmp(text, "short read"));
	CHECK_EQ(hub_fail_epoch(hub, 0), 1);
	CHECK(harvested(2, COMPLETION_FAILED));
	CHECK_EQ(strlen(text), TEXT_BYTES - 1);
	CHECK(harvested(3, COMPLETION_FAILED));
	CHECK(!strcmp(text, ""));
	CHECK_EQ(hub_fail_epoch(hub, 0), 3);
	CHECK(nothing_to_harvest());
	CHECK_EQ(hub_outstanding(hub, 0), 0);
	close_pair();
}

TEST(a_full_ring_takes_no_frame_until_a_completion_is_harvested)
{
	uint32_t number;

	REQUIRE(open_pair(4));
	for (uint32_t i = 0; i < 4; i++)
		post(i, 0);
	CHECK(hub_acquire(hub, 0, 0, &number) == NULL);
	CHECK(run_one(0, 0, NULL));
	CHECK(hub_acquire(hub, 0, 0, &number) == NULL);
	CHECK(harvested(0, COMPLETION_DONE));
	CHECK_EQ(post(4, 0), 4);
	CHECK(hub_acquire(hub, 0, 0, &number) == NULL);
	close_pair();
}

TEST(several_frames_become_visible_with_one_publication)
{
	uint32_t number;

	REQUIRE(open_pair(8));
	for (uint32_t i = 0; i < 3; i++) {
		struct frame *frame = hub_acquire(hub, 0, 0, &number);

		REQUIRE(frame);
		frame->task = i;
		memset(frame + 1, (int)i, 64);
		CHECK(endpoint_next(endpoint, &number) == NULL);
		CHECK_EQ(hub_outstanding(hub, 0), 0);
	}
	CHECK(!hub_publish(hub, 0));
	CHECK(!hub_publish(hub, 0));
	CHECK_EQ(hub_outstanding(hub, 0), 3);
	for (uint32_t i = 0; i < 3; i++)
		CHECK(run_one(i, 0, NULL));
	close_pair();
}

TEST(frame_numbers_wrap_at_32_bits)
{
	uint32_t first = UINT32_MAX - 50;

	REQUIRE(open_hub(DW_PROVIDER_AUTO, 2, 8));
	hub_start_at(hub, 0, first);
	REQUIRE(endpoint_attach(hub, 0, &endpoint) == 0);
	for (uint32_t i = 0; i < 200; i++) {
		CHECK_EQ(post(2 * i, 0), (uint32_t)(first + 2 * i));
		CHECK_EQ(post(2 * i + 1, 0), (uint32_t)(first + 2 * i + 1));
		CHECK(!hub_request_notify(hub, 0, first + 2 * i + 1));
		CHECK(run_one(2 * i, 0, NULL));
		CHECK(hub_revoke(hub, 0, first + 2 * i + 1));
		CHECK(!run_one(0, 0, NULL));
		CHECK(hub_request_notify(hub, 0, first + 2 * i + 1));
		CHECK(harvested(first + 2 * i, COMPLETION_DONE));
		CHECK(harvested(first + 2 * i + 1, COMPLETION_REVOKED));
		CHECK(nothing_to_harvest());
	}
	close_pair();
}

TEST(frames_that_were_not_started_can_be_taken_back)
{
	uint32_t number;
	struct frame *frame;

	REQUIRE(open_pair(8));
	for (uint32_t i = 0; i < 4; i++)
		post(i, 0);
	CHECK(!hub_started(hub, 0, 0));
	frame = endpoint_next(endpoint, &number);
	REQUIRE(frame);
	CHECK(hub_started(hub, 0, 0));
	CHECK(!hub_started(hub, 0, 1));
	CHECK(!hub_revoke(hub, 0, 0));
	CHECK(hub_revoke(hub, 0, 1));
	CHECK(!hub_revoke(hub, 0, 1));
	CHECK(hub_revoke(hub, 0, 3));
	CHECK(!hub_revoke(hub, 0, 4));
	CHECK(!hub_started(hub, 0, 1));
	CHECK(!hub_started(hub, 0, 4));
	endpoint_complete(endpoint, number, 0, NULL, 0, 0);
	CHECK(run_one(2, 0, NULL));
	CHECK(!run_one(0, 0, NULL));
	CHECK(harvested(0, COMPLETION_DONE));
	CHECK(!hub_revoke(hub, 0, 0));
	CHECK(harvested(1, COMPLETION_REVOKED));
	CHECK(harvested(2, COMPLETION_DONE));
	CHECK(harvested(3, COMPLETION_REVOKED));
	CHECK(nothing_to_harvest());
	/* The slots can be used again. */
	for (uint32_t i = 4; i < 12; i++)
		CHECK_EQ(post(i, 0), i);
	for (uint32_t i = 4; i < 12; i++)
		CHECK(run_one(i, 0, NULL));
	for (uint32_t i = 4; i < 12; i++)
		CHECK(harvested(i, COMPLETION_DONE));
	close_pair();
}

TEST(frames_posted_ahead_come_back_when_one_before_them_failed)
{
	REQUIRE(open_pair(8));
	post(0, 0);
	post(1, FRAME_CHAINED);
	post(2, FRAME_CHAINED);
	post(3, 0);
	CHECK(run_one(0, -EIO, "first"));
	/* 1 and 2 are returned on the way. */
	CHECK(run_one(3, 0, NULL));
	CHECK(harvested(0, COMPLETION_FAILED));
	CHECK(harvested(1, COMPLETION_RETURNED));
	CHECK(harvested(2, COMPLETION_RETURNED));
	CHECK(harvested(3, COMPLETION_DONE));
	/* Now the parent knows of that failure. */
	post(4, FRAME_CHAINED);
	CHECK(run_one(4, 0, NULL));
	CHECK(harvested(4, COMPLETION_DONE));
	/* It does not know of this one when it posts. */
	post(5, 0);
	CHECK(run_one(5, -EIO, NULL));
	post(6, FRAME_CHAINED);
	CHECK(!run_one(0, 0, NULL));
	CHECK(harvested(5, COMPLETION_FAILED));
	CHECK(harvested(6, COMPLETION_RETURNED));
	close_pair();
}

TEST(frames_in_flight_complete_in_order_whatever_finishes_first)
{
	uint32_t a, b, c, number;

	REQUIRE(open_pair(8));
	for (uint32_t i = 0; i < 6; i++)
		post(i, i == 4 ? FRAME_CHAINED : 0);
	REQUIRE(endpoint_next(endpoint, &a));
	REQUIRE(endpoint_next(endpoint, &b));
	CHECK(hub_revoke(hub, 0, 2));
	/* 2 is resolved on the way, behind a and b. */
	REQUIRE(endpoint_next(endpoint, &c));
	CHECK_EQ(c, 3);
	endpoint_complete(endpoint, c, -EIO, "c", 0, 0);
	CHECK(nothing_to_harvest());
	/* A chained frame is not given while others are in flight. */
	CHECK(endpoint_next(endpoint, &number) == NULL);
	CHECK(!endpoint_bell_arm(endpoint));
	endpoint_complete(endpoint, a, 0, NULL, 0, 0);
	CHECK(harvested(0, COMPLETION_DONE));
	CHECK(nothing_to_harvest());
	CHECK(endpoint_next(endpoint, &number) == NULL);
	endpoint_complete(endpoint, b, 0, NULL, 0, 0);
	CHECK(harvested(1, COMPLETION_DONE));
	CHECK(harvested(2, COMPLETION_REVOKED));
	CHECK(harvested(3, COMPLETION_FAILED));
	CHECK(nothing_to_harvest());
	CHECK(run_one(5, 0, NULL));
	CHECK(harvested(4, COMPLETION_RETURNED));
	CHECK(harvested(5, COMPLETION_DONE));
	close_pair();
}

TEST(a_running_callable_sees_cancel_and_the_next_frame_does_not)
{
	uint32_t number;
	struct frame *frame;

	REQUIRE(open_pair(2));
	post(0, 0);
	frame = endpoint_next(endpoint, &number);
	REQUIRE(frame);
	CHECK_EQ(atomic_load(&frame->cancel), 0);
	hub_cancel(hub, 0, 0);
	CHECK_EQ(atomic_load(&frame->cancel), 1);
	endpoint_complete(endpoint, number, -ECANCELED, NULL, 0, 0);
	CHECK(harvested(0, COMPLETION_FAILED));
	hub_cancel(hub, 0, 0);
	post(1, 0);
	CHECK(run_one(1, 0, NULL));
	CHECK(harvested(1, COMPLETION_DONE));
	post(2, 0);
	frame = endpoint_next(endpoint, &number);
	REQUIRE(frame);
	CHECK_EQ(atomic_load(&frame->cancel), 0);
	close_pair();
}

/* ------------------------------------------------------------ notification */

static int rung;

static void count_wake(struct endpoint *unused)
{
	(void)unused;
	rung++;
}

/* A pair whose parent looks asleep, which counts attempts to wake it. Futex provider. */
static struct provider_ops counting;
static bool open_counting(uint32_t depth)
{
	if (!open_hub(DW_PROVIDER_FUTEX, 2, depth) ||
	    !CHECK_EQ(endpoint_attach(hub, 0, &endpoint), 0))
		return false;
	counting = futex_provider;
	counting.peer_wake = count_wake;
	endpoint->ops = &counting;
	store_relaxed(&hub->line->asleep, DISTWORKER_ASLEEP_WAITER);
	rung = 0;
	return true;
}

/* Runs n frames and asks for the next, as a peer does. */
static void run_frames(int n)
{
	uint32_t number;

	for (int i = 0; i < n; i++) {
		if (CHECK(endpoint_next(endpoint, &number) != NULL))
			endpoint_complete(endpoint, number, 0, NULL, 0, 0);
	}
}

TEST(the_parent_is_woken_when_the_ring_runs_dry_and_once)
{
	uint32_t number;

	REQUIRE(open_counting(16));
	for (uint32_t i = 0; i < 8; i++)
		post(i, 0);
	run_frames(8);
	CHECK_EQ(rung, 0);
	CHECK(endpoint_next(endpoint, &number) == NULL);
	CHECK(!endpoint_bell_arm(endpoint));
	CHECK_EQ(rung, 1);
	CHECK(!endpoint_bell_arm(endpoint));
	CHECK_EQ(rung, 1);
	close_pair();
}

TEST(a_requested_notification_wakes_the_parent_before_the_next_one_runs)
{
	uint32_t number;

	REQUIRE(open_counting(16));
	for (uint32_t i = 0; i < 8; i++)
		post(i, 0);
	CHECK(!hub_request_notify(hub, 0, 5));
	/* The earlier of two is kept, and the later one does not undo it. */
	CHECK(!hub_request_notify(hub, 0, 2));
	CHECK(!hub_request_notify(hub, 0, 4));
	run_frames(3);
	CHECK_EQ(rung, 0);
	REQUIRE(endpoint_next(endpoint, &number));
	CHECK_EQ(rung, 1);
	endpoint_complete(endpoint, number, 0, NULL, 0, 0);
	CHECK(hub_request_notify(hub, 0, 3));
	CHECK(!hub_request_notify(hub, 0, 6));
	run_frames(3);
	CHECK_EQ(rung, 1);
	REQUIRE(endpoint_next(endpoint, &number));
	CHECK_EQ(rung, 2);
	/* Harvested, and not posted: both are complete. */
	CHECK(harvested(0, COMPLETION_DONE));
	CHECK(hub_request_notify(hub, 0, 0));
	CHECK(hub_request_notify(hub, 0, 100));
	close_pair();
}

TEST(a_request_with_frames_in_flight_wakes_at_once)
{
	uint32_t a, b;

	REQUIRE(open_counting(16));
	for (uint32_t i = 0; i < 4; i++)
		post(i, 0);
	REQUIRE(endpoint_next(endpoint, &a));
	REQUIRE(endpoint_next(endpoint, &b));
	CHECK(!hub_request_notify(hub, 0, 0));
	endpoint_complete(endpoint, a, 0, NULL, 0, 0);
	CHECK_EQ(rung, 1);
	close_pair();
}

/* Runs and harvests n frames of `ns` each. */
static void run_long_frames(int n, uint64_t ns)
{
	uint32_t number;

	for (int i = 0; i < n; i++) {
		post(0, 0);
		if (CHECK(endpoint_next(endpoint, &number) != NULL))
			endpoint_complete(endpoint, number, 0, NULL, 1000, 1000 + ns);
		CHECK_EQ(hub_harvest(hub, 0, &completion, text), 1);
	}
}

TEST(a_full_ring_of_long_frames_is_refilled_before_it_runs_dry)
{
	uint32_t number;

	REQUIRE(open_counting(16));
	/* 1 + 50 / 20: the wake-up is due when 3 are left. */
	run_long_frames(100, 20000);
	rung = 0;
	for (uint32_t i = 0; i < 16; i++)
		post(i, 0);
	run_frames(13);
	CHECK_EQ(rung, 0);
	CHECK(endpoint_next(endpoint, &number) != NULL);
	CHECK_EQ(rung, 1);
	close_pair();
}

/* Their completions have no times: taken for durations of 0, they had the parent woken too late. */
TEST(frames_that_did_not_run_do_not_count_as_short_ones)
{
	uint32_t number;

	REQUIRE(open_counting(16));
	run_long_frames(100, 20000);
	for (uint32_t i = 0; i < 16; i++) {
		number = post(i, 0);
		CHECK(hub_revoke(hub, 0, number));
		CHECK(endpoint_next(endpoint, &number) == NULL);
		CHECK(harvested(number, COMPLETION_REVOKED));
	}
	rung = 0;
	for (uint32_t i = 0; i < 16; i++)
		post(i, 0);
	run_frames(13);
	CHECK_EQ(rung, 0);
	CHECK(endpoint_next(endpoint, &number) != NULL);
	CHECK_EQ(rung, 1);
	close_pair();
}

TEST(a_full_ring_of_short_frames_runs_dry)
{
	REQUIRE(open_counting(16));
	run_long_frames(100, 300);
	rung = 0;
	for (uint32_t i = 0; i < 16; i++)
		post(i, 0);
	run_frames(16);
	CHECK_EQ(rung, 0);
	close_pair();
}

TEST(nobody_is_woken_who_is_awake_or_whose_foreground_drives)
{
	REQUIRE(open_counting(16));
	store_relaxed(&hub->line->asleep, 0);
	post(0, 0);
	run_frames(1);
	CHECK(!endpoint_bell_arm(endpoint));
	CHECK_EQ(rung, 0);
	store_relaxed(&hub->line->asleep, DISTWORKER_ASLEEP_POLLER);
	hub_drive_begin(hub);
	post(1, 0);
	run_frames(1);
	CHECK(!endpoint_bell_arm(endpoint));
	CHECK_EQ(rung, 0);
	hub_drive_end(hub);
	post(2, 0);
	run_frames(1);
	CHECK(!endpoint_bell_arm(endpoint));
	CHECK_EQ(rung, 1);
	close_pair();
}

/* ------------------------------------------------------------ a corrupt peer */

struct nonsense {
	const char *text;
	void (*write)(struct mailbox *mailbox, struct completion *at);
};

static void far_ahead(struct mailbox *m, struct completion *c) { (void)c; m->done = 1000; }
static void beyond(struct mailbox *m, struct completion *c) { (void)c; m->done += 2; }
static void backwards(struct mailbox *m, struct completion *c) { (void)c; m->done -= 2; }
static void bad_number(struct mailbox *m, struct completion *c) { (void)m; c->number++; }
static void state_0(struct mailbox *m, struct completion *c) { (void)m; c->state = 0; }
static void state_6(struct mailbox *m, struct completion *c) { (void)m; c->state = 6; }
static void text_long(struct mailbox *m, struct completion *c)
{
	(void)m;
	c->text_bytes = TEXT_BYTES;
}
static void text_max(struct mailbox *m, struct completion *c) { (void)m; c->text_bytes = 65535; }
static void not_revoked(struct mailbox *m, struct completion *c)
{
	(void)m;
	c->state = COMPLETION_REVOKED;
}
static void not_chained(struct mailbox *m, struct completion *c)
{
	(void)m;
	c->state = COMPLETION_RETURNED;
}
static void not_superseded(struct mailbox *m, struct completion *c)
{
	(void)m;
	c->state = COMPLETION_KEPT;
}
static void error_done(struct mailbox *m, struct completion *c) { (void)m; c->error = -EIO; }
static void error_none(struct mailbox *m, struct completion *c)
{
	(void)m;
	c->state = COMPLETION_FAILED;
}
static void error_huge(struct mailbox *m, struct completion *c)
{
	(void)m;
	c->state = COMPLETION_FAILED;
	c->error = INT_MIN;
}

static const struct nonsense nonsenses[] = {
	{ "done is 1000", far_ahead }, { "done is 5; it was 2 and 3 are posted", beyond },
	{ "done is 1; it was 2", backwards }, { "completion of frame 3 where frame 2", bad_number },
	{ "state 0", state_0 }, { "state 6", state_6 }, { "text_bytes 384", text_long },
	{ "text_bytes 65535", text_max }, { "not revoked", not_revoked },
	{ "not chained", not_chained }, { "no frame supersedes it", not_superseded },
	{ "DONE with error -5", error_done },
	{ "FAILED with error 0", error_none }, { "FAILED with error -2147483648", error_huge },
};

TEST(nonsense_from_a_peer_is_refused_by_name_and_harms_no_other)
{
	for (size_t i = 0; i < sizeof(nonsenses) / sizeof(nonsenses[0]); i++) {
		struct completion other;
		uint32_t number;

		REQUIRE(open_pair(8));
		for (uint32_t k = 0; k < 3; k++)
			post(k, 0);
		run_frames(3);
		CHECK(harvested(0, COMPLETION_DONE));
		CHECK(harvested(1, COMPLETION_DONE));
		/* As if it had completed two so far. */
		hub->rings[0].done = 2;
		nonsenses[i].write(endpoint->mailbox,
				   completion_at(&hub->layout, endpoint->mailbox, 2));
		memset(&completion, 0xcc, sizeof(completion));
		CHECK_EQ(hub_harvest(hub, 0, &completion, text), -EPROTO);
		CHECK_EQ(completion.number, 0xcccccccc);
		CHECK_STR(dw_strerror_last(), nonsenses[i].text);
		CHECK_STR(dw_strerror_last(), "mailbox 0");
		/* The mailbox stays unusable: it keeps no thread awake, and takes no frames. */
		CHECK_EQ(hub_harvest(hub, 0, &completion, text), -EPROTO);
		CHECK(hub_acquire(hub, 0, 0, &number) == NULL);
		CHECK(!hub_completions_pending(hub));
		CHECK_EQ(hub_next_ready(hub, 0), UINT32_MAX);
		CHECK_EQ(hub_harvest(hub, 1, &other, text), 0);
		/* A new generation starts from nothing. */
		endpoint_detach(endpoint);
		CHECK_EQ(hub_rearm(hub, 0), 0);
		CHECK_EQ(hub_bind(hub, 0, getpid()), 0);
		REQUIRE(endpoint_attach(hub, 0, &endpoint) == 0);
		CHECK_EQ(post(0, 0), 0);
		CHECK(run_one(0, 0, NULL));
		CHECK(harvested(0, COMPLETION_DONE));
		CHECK_EQ(hub_fail_epoch(hub, 0), 0);
		close_pair();
	}
}

/* The peer overwrites the flags before the frame is published: the posted flags count. */
TEST(a_peer_that_writes_the_flags_of_a_frame_gains_nothing)
{
	static const uint8_t posted[] = { FRAME_CHAINED, 0 };

	for (int i = 0; i < 2; i++) {
		uint32_t number;
		struct frame *frame;

		REQUIRE(open_pair(8));
		post(0, 0);
		frame = hub_acquire(hub, 0, posted[i], &number);
		REQUIRE(frame);
		CHECK_EQ(frame->flags, posted[i]);
		frame->flags = posted[!i];
		hub_publish(hub, 0);
		run_frames(2);
		completion_at(&hub->layout, endpoint->mailbox, 1)->state = COMPLETION_RETURNED;
		CHECK(harvested(0, COMPLETION_DONE));
		CHECK_EQ(hub_harvest(hub, 0, &completion, text), posted[i] ? 1 : -EPROTO);
		close_pair();
	}
}

TEST(a_completion_that_hides_a_frame_taken_back_is_refused)
{
	REQUIRE(open_pair(8));
	post(0, 0);
	CHECK(hub_revoke(hub, 0, 0));
	CHECK(!run_one(0, 0, NULL));
	completion_at(&hub->layout, endpoint->mailbox, 0)->state = COMPLETION_DONE;
	CHECK_EQ(hub_harvest(hub, 0, &completion, text), -EPROTO);
	CHECK_STR(dw_strerror_last(), "was revoked");
	close_pair();
}

static atomic_bool scribbling;

static void *scribble(void *argument)
{
	struct mailbox *mailbox = argument;
	uint64_t random = 88172645463325252ull;
	size_t words = hub->layout.bytes / 4;

	while (atomic_load(&scribbling)) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		/* Mostly small changes of the words that matter. */
		if (random & 1)
			__atomic_fetch_add(&mailbox->done, (random >> 8) % 3, __ATOMIC_RELAXED);
		else
			__atomic_store_n((uint32_t *)mailbox + (random >> 8) % words,
					 (uint32_t)(random >> 40), __ATOMIC_RELAXED);
	}
	return NULL;
}

TEST(a_peer_that_scribbles_is_found_and_nothing_else_happens)
{
#ifdef __SANITIZE_THREAD__
	SKIP("it is a race on purpose");
#endif
	pthread_t thread;
	int found = 0;

	REQUIRE(open_pair(8));
	atomic_store(&scribbling, true);
	REQUIRE(pthread_create(&thread, NULL, scribble, endpoint->mailbox) == 0);
	/* Until it was found often: the other thread needs time to run. */
	for (uint32_t i = 0; i < 50000 || found < 100; i++) {
		uint32_t number;
		struct frame *frame = hub_acquire(hub, 0, i & 1, &number);
		int result;

		if (frame) {
			hub_publish(hub, 0);
			hub_revoke(hub, 0, number - i % 8);
			hub_started(hub, 0, number - i % 8);
			hub_cancel(hub, 0, number - i % 8);
			hub_request_notify(hub, 0, number - i % 8);
		}
		do {
			result = hub_harvest(hub, 0, &completion, text);
			if (result == 1) {
				CHECK(completion.state >= 1 && completion.state <= 4);
				CHECK(memchr(text, 0, TEXT_BYTES) != NULL);
			}
		} while (result == 1);
		if (result == -EPROTO) {
			found++;
			hub_start_at(hub, 0, i);
		}
	}
	atomic_store(&scribbling, false);
	pthread_join(thread, NULL);
	close_pair();
}

/* ------------------------------------------------------------------- races */

#define RACE_FRAMES 300000u
static unsigned char *ran;

static void *race_peer(void *unused)
{
	struct endpoint *mine;
	struct frame *frame;
	uint32_t number;

	(void)unused;
	if (endpoint_attach(hub, 0, &mine))
		return (void *)1;
	do {
		while ((frame = endpoint_next(mine, &number))) {
			ran[frame->task]++;
			endpoint_complete(mine, number, 0, NULL, 0, 0);
		}
	} while (endpoint_wait(mine) == 0);
	endpoint_detach(mine);
	return NULL;
}

TEST(each_frame_is_run_once_or_taken_back_and_never_both)
{
	unsigned char *taken = calloc(RACE_FRAMES, 1);
	uint64_t random = 1, posted = 0, took = 0;
	pthread_t thread;
	void *result;

	ran = calloc(RACE_FRAMES, 1);
	REQUIRE(ran && taken && open_hub(DW_PROVIDER_AUTO, 1, 16));
	hub_start_at(hub, 0, (uint32_t)-1000);
	REQUIRE(pthread_create(&thread, NULL, race_peer, NULL) == 0);
	hub_drive_begin(hub);
	for (uint64_t done = 0; done < RACE_FRAMES;) {
		uint32_t number, last = 0;
		struct frame *frame;
		uint64_t slot_task[16];
		bool any = false;

		while (posted < RACE_FRAMES && (frame = hub_acquire(hub, 0, 0, &number))) {
			frame->task = posted++;
			last = number;
			any = true;
		}
		if (any && hub_publish(hub, 0)) {
			hub_mark_wake(hub, 0);
			hub_wake(hub);
		}
		random = random * 6364136223846793005ull + 1;
		for (uint32_t k = 0; any && k < (random >> 60); k++) {
			uint32_t victim = last - k;

			/* The task was written by this side and is only read by the other. */
			slot_task[k] = frame_at(&hub->layout, hub->rings[0].mailbox, victim)->task;
			if (hub_revoke(hub, 0, victim)) {
				taken[slot_task[k]]++;
				took++;
			}
		}
		while (hub_harvest(hub, 0, &completion, NULL) == 1) {
			any = true;
			done++;
		}
		if (!any)
			hub_wait(hub, DISTWORKER_NO_DEADLINE);
	}
	hub_drive_end(hub);
	hub_stop(hub, 0);
	pthread_join(thread, &result);
	CHECK(result == NULL);
	for (uint32_t i = 0; i < RACE_FRAMES; i++)
		if (!CHECK_EQ(ran[i] + taken[i], 1))
			break;
	CHECK(took > 0 && took < RACE_FRAMES);
	free(ran);
	free(taken);
	hub_destroy(hub);
}
