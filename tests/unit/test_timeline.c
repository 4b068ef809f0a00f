// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Frames that wait for frames of sibling rings, without their parent. */
#include <fcntl.h>
#include "mailbox_rig.h"

/* What the frames of the first child do: its `callable`. */
enum deed { RETURN = 0, FAIL, WAIT_FOR_WORD, DIE };

static int run_frame(const struct frame *frame)
{
	if (frame->callable == WAIT_FOR_WORD)
		while (!atomic_load(&shared->word))
			usleep(100);
	if (frame->callable == DIE)
		_exit(7);
	return frame->callable == FAIL ? -EIO : 0;
}

static int run_child(struct endpoint *endpoint, uint32_t i)
{
	struct frame *frame;
	uint32_t number;

	(void)i;
	do {
		while ((frame = endpoint_next(endpoint, &number))) {
			int result = run_frame(frame);

			/* In the order of their ends: the later ones in the upper digits. */
			atomic_store(&shared->sum, atomic_load(&shared->sum) * 10 + frame->task);
			endpoint_complete(endpoint, number, result, NULL, 0, 0);
		}
	} while (endpoint_wait(endpoint) == 0);
	return 0;
}

static bool open_two(void)
{
	struct hub_options options = { .mailboxes = 2, .depth = 8, .frame_bytes = 256 };

	if (!open_hub_of(&options, run_child))
		return false;
	if (hub_has_timelines(hub))
		return true;
	close_hub();
	return false;
}

/* Posts a frame to ring i; it waits for frame `after` of the other ring, if that is not NULL. */
static uint32_t post_deed(uint32_t i, uint64_t task, enum deed deed, const uint32_t *after)
{
	uint32_t number = 0;
	struct frame *frame = hub_acquire(hub, i, after ? FRAME_WAITS : 0, &number);

	if (!CHECK(frame != NULL))
		return 0;
	frame->task = task;
	frame->callable = deed;
	frame->fail_epoch = hub_fail_epoch(hub, i);
	if (after)
		hub_add_wait(hub, frame, 1 - i, *after);
	if (hub_publish(hub, i))
		hub_mark_wake(hub, i);
	return number;
}

/* Whether the process sleeps in the kernel, and not for its parent. */
static bool blocked(uint32_t i)
{
	uint64_t start_ns = now_ns();
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%d/stat", pids[i]);
	for (;;) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
		const char *state;

		if (fd >= 0)
			close(fd);
		line[got < 0 ? 0 : got] = '\0';
		state = strrchr(line, ')');
		if (state && state[2] == 'S' && !hub_peer_asleep(hub, i))
			return true;
		if (!unit_within(start_ns, HANG_NS))
			return false;
		usleep(1000);
	}
}

/* The next completion of ring i has this state. */
static void expect(uint32_t i, enum completion_state state)
{
	struct completion completion = { .state = 0 };
	uint64_t start_ns = now_ns();
	int result;

	do
		result = hub_harvest(hub, i, &completion, NULL);
	while (result == 0 && (usleep(200), unit_within(start_ns, HANG_NS)));
	CHECK_EQ(result, 1);
	CHECK_EQ(completion.state, state);
}

static void replace(uint32_t i)
{
	end(i);
	hub_end_waits(hub, i);
	CHECK_EQ(hub_rearm(hub, i), 0);
	pids[i] = start(i, run_child);
}

/* -------------------------------------------------------------------- waits */

TEST(frame_runs_after_the_one_of_its_sibling_and_their_parent_does_nothing)
{
	uint32_t first;

	if (!open_two())
		SKIP("the provider has no timelines");
	first = post_deed(0, 1, WAIT_FOR_WORD, NULL);
	post_deed(1, 2, RETURN, &first);
	hub_wake(hub);
	CHECK(blocked(1));
	CHECK_EQ(hub_next_state(hub, 1), 0);
	/* No call of the parent from here on. */
	atomic_store(&shared->word, 1);
	expect(1, COMPLETION_DONE);
	expect(0, COMPLETION_DONE);
	CHECK_EQ(atomic_load(&shared->sum), 12);
	close_hub();
}

TEST(siblings_take_turns_without_their_parent)
{
	uint32_t last = 0;

	if (!open_two())
		SKIP("the provider has no timelines");
	for (int round = 0; round < 500; round++) {
		atomic_store(&shared->sum, 0);
		for (uint32_t k = 0; k < 8; k++)
			last = post_deed(k % 2, k + 1, RETURN, k ? &last : NULL);
		hub_wake(hub);
		for (uint32_t k = 0; k < 8; k++)
			expect(k % 2, COMPLETION_DONE);
		if (!CHECK_EQ(atomic_load(&shared->sum), 12345678))
			break;
	}
	close_hub();
}

/* Counts of 32 bits wrap, and the futex word has 31 of them. */
TEST(counts_wrap)
{
	static const uint32_t begins[] = { 0x7ffffffc, 0xfffffffc, 0x3ffffffd };
	struct hub_options options = { .mailboxes = 2, .depth = 8, .frame_bytes = 256 };

	for (size_t k = 0; k < 3; k++) {
		uint32_t last = 0;

		REQUIRE(open_hub_of(&options, NULL));
		if (!hub_has_timelines(hub)) {
			close_hub();
			SKIP("the provider has no timelines");
		}
		for (uint32_t i = 0; i < 2; i++) {
			hub_start_at(hub, i, begins[(k + i) % 3]);
			pids[i] = start(i, run_child);
		}
		for (int round = 0; round < 4; round++) {
			atomic_store(&shared->word, 0);
			atomic_store(&shared->sum, 0);
			last = post_deed(0, 1, WAIT_FOR_WORD, round ? &last : NULL);
			post_deed(1, 2, RETURN, &last);
			hub_wake(hub);
			CHECK(blocked(1));
			atomic_store(&shared->word, 1);
			expect(0, COMPLETION_DONE);
			last = hub->rings[1].harvested;
			expect(1, COMPLETION_DONE);
			CHECK_EQ(atomic_load(&shared->sum), 12);
			/* Its next frame waits for one that was harvested: that is over at once. */
		}
		close_hub();
	}
}

/* ---------------------------------------------------------------- no results */

TEST(frame_comes_back_when_what_it_waits_for_fails)
{
	uint32_t first, second;

	if (!open_two())
		SKIP("the provider has no timelines");
	first = post_deed(0, 1, FAIL, NULL);
	second = post_deed(1, 2, RETURN, &first);
	/* And so does one that waits for this one. */
	post_deed(0, 3, RETURN, &second);
	hub_wake(hub);
	expect(0, COMPLETION_FAILED);
	expect(1, COMPLETION_RETURNED);
	expect(0, COMPLETION_RETURNED);
	CHECK_EQ(atomic_load(&shared->sum), 1);
	/* The failure is known now. */
	first = post_deed(0, 4, RETURN, NULL);
	post_deed(1, 5, RETURN, &first);
	hub_wake(hub);
	expect(0, COMPLETION_DONE);
	expect(1, COMPLETION_DONE);
	CHECK_EQ(atomic_load(&shared->sum), 145);
	close_hub();
}

TEST(frame_comes_back_when_what_it_waits_for_is_revoked)
{
	uint32_t first, second;

	if (!open_two())
		SKIP("the provider has no timelines");
	post_deed(0, 1, WAIT_FOR_WORD, NULL);
	second = post_deed(0, 2, RETURN, NULL);
	first = post_deed(1, 3, RETURN, &second);
	hub_wake(hub);
	CHECK(blocked(1));
	CHECK(hub_revoke(hub, 0, second));
	CHECK_EQ(hub_started(hub, 1, first), false);
	atomic_store(&shared->word, 1);
	expect(0, COMPLETION_DONE);
	expect(0, COMPLETION_REVOKED);
	expect(1, COMPLETION_RETURNED);
	CHECK_EQ(atomic_load(&shared->sum), 1);
	close_hub();
}

TEST(frame_that_waits_can_be_revoked_and_its_child_goes_on)
{
	uint32_t first, waits;

	if (!open_two())
		SKIP("the provider has no timelines");
	first = post_deed(0, 1, WAIT_FOR_WORD, NULL);
	waits = post_deed(1, 2, RETURN, &first);
	post_deed(1, 3, RETURN, NULL);
	hub_wake(hub);
	CHECK(blocked(1));
	CHECK(hub_revoke(hub, 1, waits));
	expect(1, COMPLETION_REVOKED);
	expect(1, COMPLETION_DONE);
	CHECK_EQ(atomic_load(&shared->sum), 3);
	atomic_store(&shared->word, 1);
	expect(0, COMPLETION_DONE);
	close_hub();
}

TEST(frame_comes_back_when_the_sibling_dies)
{
	uint32_t first;

	if (!open_two())
		SKIP("the provider has no timelines");
	for (int round = 0; round < 5; round++) {
		atomic_store(&shared->word, 0);
		post_deed(0, 1, WAIT_FOR_WORD, NULL);
		first = post_deed(0, 2, DIE, NULL);
		post_deed(1, 3, RETURN, &first);
		hub_wake(hub);
		CHECK(blocked(1));
		atomic_store(&shared->word, 1);
		expect(0, COMPLETION_DONE);
		replace(0);
		/* It does not wait for the frame of that number in the next generation. */
		expect(1, COMPLETION_RETURNED);
	}
	close_hub();
}

/* ---------------------------------------------------------------- isolation */

static int write_siblings(struct endpoint *endpoint, uint32_t i)
{
	const unsigned char *other = endpoint->timelines + (1 - i) * endpoint->timeline_step;
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int own = read(zero, endpoint->timeline, 4) == 4 ? 1 : 0;

	/* The kernel refuses to write where the process may not. */
	if (read(zero, (void *)(uintptr_t)other, 4) < 0 && errno == EFAULT)
		own += 2;
	atomic_fetch_add(&shared->sum, (uint64_t)own);
	return run_child(endpoint, i);
}

TEST(child_cannot_write_the_timeline_of_its_sibling)
{
	struct hub_options options = { .mailboxes = 2, .depth = 8, .frame_bytes = 256 };
	uint64_t start_ns = now_ns();

	REQUIRE(open_hub_of(&options, write_siblings));
	while (atomic_load(&shared->sum) < 6 && unit_within(start_ns, HANG_NS))
		usleep(1000);
	CHECK_EQ(atomic_load(&shared->sum), 6);
	close_hub();
}
