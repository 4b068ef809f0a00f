// SPDX-License-Identifier: GPL-2.0-only
/*
 * Peers that wait for the counts of their siblings, without their owner.
 */
#include "distworker_test.h"

static int dw_timeline_wake(int fd)
{
	return dw_ioctl(fd, DISTWORKER_TIMELINE_WAKE, NULL);
}

/* As the owner, and as a peer see them; the peer's own can be written. */
static struct distworker_timeline *hub_timeline(struct hub *hub, unsigned int index)
{
	return (void *)(hub_box(hub, index) + hub->setup.timeline_offset);
}

static struct distworker_timeline *own_timeline(struct endpoint *endpoint)
{
	return (void *)(endpoint->memory + endpoint->attach.mailbox_bytes - getpagesize());
}

static int open_hub(struct hub *hub, unsigned int mailboxes)
{
	return hub_open_with(hub, DISTWORKER_SETUP_TIMELINES, mailboxes, BOX_BYTES);
}

/* Counts on as the library does. */
static void count_on(struct endpoint *endpoint)
{
	struct distworker_timeline *own = own_timeline(endpoint);
	__u32 awaited;

	store(own->count, own->count + 1);
	full_barrier();
	awaited = load(own->awaited);
	if (awaited && (__s32)((own->count << 1 | 1) - awaited) >= 0)
		CHECK_EQ(0, dw_timeline_wake(endpoint->fd));
}

/* Counts on for each byte, and answers. */
static void peer_counts(struct endpoint *endpoint)
{
	while (sync_receive(endpoint->sync)) {
		count_on(endpoint);
		CHECK(sync_send(endpoint->sync));
	}
}

static bool tell_to_count(struct peer *peer)
{
	return sync_send(peer->sync) && sync_receive(peer->sync);
}

/* One wait, and what is to come of it, in memory that both sides see. */
struct sleep {
	struct distworker_timeline_wait wait;
	int result;
	int returned;
};

static struct sleep *shared_sleeps(void)
{
	void *page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);

	return page == MAP_FAILED ? NULL : page;
}

static void peer_sleeps_once(struct endpoint *endpoint)
{
	struct sleep *sleep = endpoint->argument;
	struct distworker_timeline_wait wait = sleep->wait;

	sleep->result = dw_timeline_wait(endpoint, &wait);
	sleep->wait.events = wait.events;
	store(sleep->returned, 1);
	sync_receive(endpoint->sync);
}

static bool sleeps_still(struct hub *hub, unsigned int index, struct peer *peer,
			 struct sleep *sleep)
{
	return load(hub_mailbox(hub, index)->asleep) == DISTWORKER_ASLEEP_TIMELINE &&
	       task_sleeps(peer->pid) && !load(sleep->returned);
}

#define RETURNS(sleep) WAIT_UNTIL(load((sleep)->returned))

/* ---------------------------------------------------------------- memory and arguments */

static void peer_finds_no_timelines(struct endpoint *endpoint)
{
	struct distworker_timeline_wait wait = { .deadline_ns = soon() };

	CHECK_EQ(-EINVAL, dw_timeline_wait(endpoint, &wait));
	CHECK_EQ(-EINVAL, dw_timeline_wake(endpoint->fd));
	CHECK(mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, endpoint->fd,
		   DISTWORKER_TIMELINE_OFFSET) == MAP_FAILED);
	CHECK_EQ(EINVAL, errno);
}

TEST(hub_has_timelines_only_if_they_were_asked_for)
{
	struct distworker_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, dw_query(hub.fd, &query));
	EXPECT_TRUE(query.features & DISTWORKER_FEATURE_TIMELINES);
	EXPECT_EQ(0, hub.setup.timeline_offset);
	EXPECT_EQ(-EINVAL, dw_wake(hub.fd, DISTWORKER_WAKE_SIBLINGS, 1));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_finds_no_timelines, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(timeline_is_a_page_more_behind_each_mailbox)
{
	const __u32 page = getpagesize(), line = DISTWORKER_LINE_BYTES;
	struct hub hub;

	ASSERT_EQ(0, hub_open_with(&hub, DISTWORKER_SETUP_TIMELINES, 3, 2 * page - 5 * line));
	EXPECT_EQ(3 * page, hub.setup.mailbox_bytes);
	EXPECT_EQ(2 * page, hub.setup.timeline_offset);
	EXPECT_EQ(6, hub.setup.header_slots);
	EXPECT_EQ(hub.setup.mailbox_offset + 3 * hub.setup.mailbox_bytes, hub.setup.mapping_bytes);
}

static void peer_looks(struct endpoint *endpoint)
{
	const size_t page = getpagesize();
	char *all = mmap(NULL, 3 * page, PROT_READ, MAP_SHARED, endpoint->fd,
			 DISTWORKER_TIMELINE_OFFSET),
	     *third;

	CHECK(all != MAP_FAILED);
	for (unsigned int i = 0; i < 3; i++)
		CHECK_EQ(100 + i, ((struct distworker_timeline *)(all + i * page))->user1[0]);
	own_timeline(endpoint)->user0[30] = 77;
	CHECK_EQ(77, ((struct distworker_timeline *)(all + page))->user0[30]);
	CHECK_EQ(-1, mprotect(all, page, PROT_READ | PROT_WRITE));
	CHECK_EQ(EACCES, errno);
	CHECK(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint->fd,
		   DISTWORKER_TIMELINE_OFFSET + page) == MAP_FAILED);
	CHECK_EQ(EACCES, errno);
	CHECK(mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, endpoint->fd,
		   DISTWORKER_TIMELINE_OFFSET) == MAP_FAILED);
	CHECK_EQ(EINVAL, errno);
	third = mmap(NULL, page, PROT_READ, MAP_SHARED, endpoint->fd,
		     DISTWORKER_TIMELINE_OFFSET + 2 * page);
	CHECK(third != MAP_FAILED);
	CHECK_EQ(102, ((struct distworker_timeline *)third)->user1[0]);
}

TEST(peer_reads_all_timelines_and_writes_its_own)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, open_hub(&hub, 3));
	for (unsigned int i = 0; i < 3; i++)
		hub_timeline(&hub, i)->user1[0] = 100 + i;
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_looks, NULL));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(77, hub_timeline(&hub, 1)->user0[30]);
}

static void peer_makes_wrong_calls(struct endpoint *endpoint)
{
	static const struct distworker_timeline_wait wrong[] = {
		{ .index = 2 },	       { .index = ~0u },  { .flags = DISTWORKER_WAIT_WAKE },
		{ .flags = 1u << 31 }, { .reserved = 1 },
	};
	struct distworker_timeline_wait wait;

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		wait = wrong[i];
		wait.deadline_ns = soon();
		CHECK_EQ(-EINVAL, dw_timeline_wait(endpoint, &wait));
		CHECK_EQ(POISON32, wait.events);
	}
	wait = (struct distworker_timeline_wait){ .count = 1 };
	CHECK_EQ(-ETIMEDOUT, dw_timeline_wait(endpoint, &wait));
	wait.deadline_ns = now_ns() + NSEC_PER_MSEC;
	CHECK_EQ(-ETIMEDOUT, dw_timeline_wait(endpoint, &wait));
	CHECK_EQ(0, load(endpoint->box->asleep));
}

TEST(wrong_arguments_are_refused_and_deadlines_end_a_wait)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, open_hub(&hub, 2));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_makes_wrong_calls, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- what ends a wait */

static void peer_finds_counts_reached(struct endpoint *endpoint)
{
	static const struct {
		__u32 count;
		int result;
	} waits[] = {
		{ 5, 0 },
		{ 4, 0 },
		{ 0xfffffff0, 0 },
		{ 6, -ETIMEDOUT },
		{ 0x20000000, -ETIMEDOUT },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(waits); i++) {
		struct distworker_timeline_wait wait = { .index = 1, .count = waits[i].count };

		CHECK_EQ(waits[i].result, dw_timeline_wait(endpoint, &wait));
		CHECK_EQ(waits[i].result ? POISON32 : DISTWORKER_EVENT_COUNT, wait.events);
	}
}

TEST(count_is_reached_modulo_the_word)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, open_hub(&hub, 2));
	store(hub_timeline(&hub, 1)->count, 5);
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_finds_counts_reached, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(only_reached_counts_are_woken)
{
	const __u32 first = 0xfffffffe; /* so that it wraps */
	struct sleep *sleeps = shared_sleeps();
	struct peer counter, peers[3];
	struct distworker_timeline *timeline;
	struct hub hub;

	ASSERT_TRUE(sleeps != NULL);
	ASSERT_EQ(0, open_hub(&hub, 4));
	timeline = hub_timeline(&hub, 3);
	store(timeline->count, first);
	ASSERT_EQ(0, peer_start(&counter, &hub, 3, peer_counts, NULL));
	for (int i = 2; i >= 0; i--) {
		sleeps[i].wait = (struct distworker_timeline_wait){
			.index = 3,
			.count = first + 1 + i,
			.deadline_ns = soon(),
		};
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_sleeps_once, &sleeps[i]));
		ASSERT_TRUE(WAIT_UNTIL(sleeps_still(&hub, i, &peers[i], &sleeps[i])));
		EXPECT_EQ((first + 1 + i) << 1 | 1, load(timeline->awaited));
	}
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(tell_to_count(&counter));
		EXPECT_TRUE(RETURNS(&sleeps[i]));
		EXPECT_EQ(0, sleeps[i].result);
		EXPECT_EQ(DISTWORKER_EVENT_COUNT, sleeps[i].wait.events);
		for (int later = i + 1; later < 3; later++)
			EXPECT_TRUE(sleeps_still(&hub, later, &peers[later], &sleeps[later]));
		EXPECT_EQ(i == 2 ? 0 : (first + 2 + i) << 1 | 1, load(timeline->awaited));
		EXPECT_EQ(0, load(hub_mailbox(&hub, i)->asleep));
		EXPECT_EQ(0, peer_join(&peers[i]));
	}
	EXPECT_EQ(0, peer_join(&counter));
}

/* Mailbox 0 has slept for mailbox 1 until this. */
FIXTURE(sleeper)
{
	struct hub hub;
	struct sleep *sleep;
	struct peer peer;
};

FIXTURE_SETUP(sleeper)
{
	self->sleep = shared_sleeps();
	ASSERT_TRUE(self->sleep != NULL);
	ASSERT_EQ(0, open_hub(&self->hub, 2));
	hub_timeline(&self->hub, 1)->generation = 7;
	hub_mailbox(&self->hub, 0)->recall = 9;
	self->sleep->wait = (struct distworker_timeline_wait){
		.index = 1,
		.count = 1,
		.generation = 7,
		.recall = 9,
		.deadline_ns = soon(),
	};
	ASSERT_EQ(0, peer_start(&self->peer, &self->hub, 0, peer_sleeps_once, self->sleep));
	ASSERT_TRUE(WAIT_UNTIL(sleeps_still(&self->hub, 0, &self->peer, self->sleep)));
}

FIXTURE_TEARDOWN(sleeper)
{
}

#define EXPECT_RETURN(ret, event) \
	do { \
		EXPECT_TRUE(RETURNS(self->sleep)); \
		EXPECT_EQ(ret, self->sleep->result); \
		EXPECT_EQ(event, self->sleep->wait.events); \
		EXPECT_EQ(0, load(hub_mailbox(&self->hub, 0)->asleep)); \
		EXPECT_EQ(0, peer_join(&self->peer)); \
	} while (0)

TEST_F(sleeper, returns_when_the_owner_ends_the_generation)
{
	store(hub_timeline(&self->hub, 1)->generation, 8);
	EXPECT_EQ(1, dw_wake(self->hub.fd, DISTWORKER_WAKE_SIBLINGS, 2));
	EXPECT_RETURN(0, DISTWORKER_EVENT_RECALL);
}

TEST_F(sleeper, returns_when_its_frame_is_recalled)
{
	store(hub_mailbox(&self->hub, 0)->recall, 10);
	EXPECT_EQ(1, dw_wake(self->hub.fd, 0, 1));
	EXPECT_RETURN(0, DISTWORKER_EVENT_RECALL);
}

TEST_F(sleeper, goes_on_sleeping_when_it_is_woken_for_nothing)
{
	struct distworker_mailbox_query before, after;

	for (__u32 flags = 0; flags <= DISTWORKER_WAKE_SIBLINGS;
	     flags += DISTWORKER_WAKE_SIBLINGS) {
		ASSERT_EQ(0, dw_mailbox(self->hub.fd, 0, &before));
		hub_mailbox(&self->hub, 0)->post++;
		hub_mailbox(&self->hub, 0)->stop++;
		EXPECT_EQ(1, dw_wake(self->hub.fd, flags, flags ? 2 : 1));
		EXPECT_TRUE(WAIT_UNTIL(dw_mailbox(self->hub.fd, 0, &after) == 0 &&
				       after.sleeps > before.sleeps));
		EXPECT_TRUE(WAIT_UNTIL(sleeps_still(&self->hub, 0, &self->peer, self->sleep)));
	}
	store(hub_timeline(&self->hub, 1)->count, 1);
	EXPECT_EQ(1, dw_wake(self->hub.fd, DISTWORKER_WAKE_SIBLINGS, 2));
	EXPECT_RETURN(0, DISTWORKER_EVENT_COUNT);
}

TEST_F(sleeper, is_not_ended_by_the_siblings_death_and_lives_through_its_rearming)
{
	struct distworker_timeline *timeline = hub_timeline(&self->hub, 1);
	struct peer counter;

	ASSERT_EQ(0, peer_start(&counter, &self->hub, 1, peer_counts, NULL));
	timeline->user0[0] = 5;
	timeline->user1[0] = 6;
	((char *)timeline)[getpagesize() - 1] = 1;
	hub_drain_state(&self->hub);
	ASSERT_EQ(SIGKILL, peer_kill(&counter));
	ASSERT_EQ(0, wait_for_state(&self->hub, 1));
	EXPECT_TRUE(sleeps_still(&self->hub, 0, &self->peer, self->sleep));
	ASSERT_EQ(0, dw_rearm(self->hub.fd, 1, NULL));
	EXPECT_EQ(0, timeline->user0[0]);
	EXPECT_EQ(0, ((char *)timeline)[getpagesize() - 1]);
	EXPECT_EQ(7, timeline->generation);
	EXPECT_EQ(6, timeline->user1[0]);
	EXPECT_EQ(1 << 1 | 1, load(timeline->awaited));
	ASSERT_EQ(0, peer_start(&counter, &self->hub, 1, peer_counts, NULL));
	ASSERT_TRUE(tell_to_count(&counter));
	EXPECT_RETURN(0, DISTWORKER_EVENT_COUNT);
	EXPECT_EQ(0, peer_join(&counter));
}

TEST_F(sleeper, dies_and_leaves_nothing_behind)
{
	struct peer counter;

	ASSERT_EQ(0, peer_start(&counter, &self->hub, 1, peer_counts, NULL));
	ASSERT_EQ(SIGKILL, peer_kill(&self->peer));
	/* "awaited" may still say that it sleeps: one call for nothing sets it right. */
	ASSERT_TRUE(tell_to_count(&counter));
	EXPECT_EQ(0, load(hub_timeline(&self->hub, 1)->awaited));
	EXPECT_EQ(0, peer_join(&counter));
}

static void on_alarm(int signal)
{
}

static void peer_is_interrupted(struct endpoint *endpoint)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct distworker_timeline_wait wait = { .index = 1, .count = 1, .deadline_ns = soon() };

	CHECK_EQ(0, sigaction(SIGALRM, &action, NULL));
	CHECK_EQ(0, alarm_every(1000));
	CHECK_EQ(-EINTR, dw_timeline_wait(endpoint, &wait));
	CHECK_EQ(0, alarm_every(0));
	CHECK_EQ(0, load(endpoint->box->asleep));
}

TEST(signal_ends_a_wait_for_a_sibling)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, open_hub(&hub, 2));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_is_interrupted, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- a peer with two threads */

static void *thread_detaches(void *argument)
{
	struct endpoint *endpoint = argument;

	CHECK(WAIT_UNTIL(load(endpoint->box->asleep) == DISTWORKER_ASLEEP_TIMELINE));
	munmap(endpoint->memory, endpoint->attach.mailbox_bytes);
	CHECK_EQ(0, dw_detach(endpoint->fd));
	return NULL;
}

static void peer_detaches_while_it_waits(struct endpoint *endpoint)
{
	struct distworker_timeline_wait wait = { .index = 1, .count = 1, .deadline_ns = soon() };
	pthread_t thread;

	CHECK_EQ(0, pthread_create(&thread, NULL, thread_detaches, endpoint));
	CHECK_EQ(-ENOTCONN, dw_timeline_wait(endpoint, &wait));
	CHECK_EQ(0, pthread_join(thread, NULL));
}

TEST(detaching_ends_the_wait_of_another_thread)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, open_hub(&hub, 2));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_detaches_while_it_waits, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- lost wake-ups */

#define RUNNERS 4

/* In memory that all runners see. */
struct relay {
	__u32 rounds;		/* less, once the time is over */
	__u32 flags;
	__u64 end;
};

static struct relay *shared_relay(__u32 flags)
{
	struct relay *relay = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (relay == MAP_FAILED)
		return NULL;
	relay->rounds = handovers_at_most(4000);
	relay->flags = flags;
	relay->end = now_ns() + HUNT_NS;
	return relay;
}

/* Round r begins when the runner before has counted to it; the first one waits for the last. */
static void peer_runs_relay(struct endpoint *endpoint)
{
	struct relay *relay = endpoint->argument;
	__u32 before = (endpoint->index + RUNNERS - 1) % RUNNERS;

	for (__u32 round = 1; round <= load(relay->rounds); round++) {
		struct distworker_timeline_wait wait = {
			.flags = relay->flags,
			.index = before,
			.count = endpoint->index ? round : round - 1,
			.deadline_ns = soon(),
		};

		CHECK_EQ(0, dw_timeline_wait(endpoint, &wait));
		for (volatile __u32 i = round * 2654435761u >> 22; i; i--)
			;
		/* As many as a slow machine can do: all count to this round, and no further. */
		if (!endpoint->index && now_ns() > relay->end)
			store(relay->rounds, round);
		count_on(endpoint);
	}
	/* The mapping is needed until the last one has seen the count. */
	sync_receive(endpoint->sync);
}

static void run_relay(struct __test_metadata *_metadata, __u32 flags)
{
	struct relay *relay = shared_relay(flags);
	struct peer peers[RUNNERS];
	struct hub hub;

	ASSERT_TRUE(relay != NULL);
	ASSERT_EQ(0, open_hub(&hub, RUNNERS));
	for (unsigned int i = 0; i < RUNNERS; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_runs_relay, relay));
	EXPECT_TRUE(WAIT_UNTIL(load(hub_timeline(&hub, RUNNERS - 1)->count) ==
			       load(relay->rounds)));
	for (unsigned int i = 0; i < RUNNERS; i++)
		EXPECT_EQ(0, peer_join(&peers[i]));
	ksft_print_msg("%u rounds\n", relay->rounds);
	fflush(stdout);
}

TEST(relay_of_siblings_loses_no_wake_up)
{
	run_relay(_metadata, DISTWORKER_WAIT_NOSPIN);
}

TEST(relay_of_siblings_that_spin_loses_no_wake_up)
{
	run_relay(_metadata, 0);
}

/* All wait for every count of one that does not wait for them, each from another one on. */
static void peer_follows(struct endpoint *endpoint)
{
	struct relay *relay = endpoint->argument;

	for (__u32 round = 1 + endpoint->index; round <= relay->rounds;
	     round += 1 + endpoint->index) {
		struct distworker_timeline_wait wait = {
			.flags = DISTWORKER_WAIT_NOSPIN,
			.index = RUNNERS - 1,
			.count = round,
			.deadline_ns = soon(),
		};

		CHECK_EQ(0, dw_timeline_wait(endpoint, &wait));
	}
}

static void peer_leads(struct endpoint *endpoint)
{
	struct relay *relay = endpoint->argument;

	for (__u32 round = 1; round <= relay->rounds; round++) {
		for (volatile __u32 i = round * 2654435761u >> 20; i; i--)
			;
		if (now_ns() > relay->end) {
			/* All that is left, in one step. */
			store(own_timeline(endpoint)->count, relay->rounds - 1);
			round = relay->rounds;
		}
		count_on(endpoint);
	}
	sync_receive(endpoint->sync);
}

TEST(followers_of_different_counts_lose_no_wake_up)
{
	struct relay *relay = shared_relay(0);
	struct peer peers[RUNNERS];
	struct hub hub;

	ASSERT_TRUE(relay != NULL);
	ASSERT_EQ(0, open_hub(&hub, RUNNERS));
	for (unsigned int i = 0; i < RUNNERS; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i,
					i == RUNNERS - 1 ? peer_leads : peer_follows, relay));
	for (unsigned int i = 0; i < RUNNERS; i++)
		EXPECT_EQ(0, peer_join(&peers[i]));
}

TEST_HARNESS_MAIN
