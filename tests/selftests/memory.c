// SPDX-License-Identifier: GPL-2.0-only
/*
 * Access to memory: the mappings that are allowed, that nothing crosses a
 * fork, and that a peer reaches its own mailbox and nothing else.
 */
#include <sys/uio.h>
#include "distworker_test.h"

/* Is the page mapped? Asked of the kernel, without touching it. */
static bool is_mapped(void *address)
{
	unsigned char vector;

	return mincore(address, 1, &vector) == 0;
}

static bool can_map(int fd, size_t bytes, int protection, off_t offset)
{
	void *map = mmap(NULL, bytes, protection, MAP_SHARED, fd, offset);

	if (map == MAP_FAILED)
		return false;
	munmap(map, bytes);
	return true;
}

/* A mailbox bound and attached to the calling process itself; its endpoint. */
static int attach_self(struct hub *hub, unsigned int index)
{
	int endpoint = dw_create(hub->fd, index);
	int ret;

	if (endpoint < 0)
		return endpoint;
	ret = dw_bind(hub->fd, index, getpid(), NULL);
	if (!ret)
		ret = dw_attach(endpoint, NULL);
	return ret ? ret : endpoint;
}

/* ---------------------------------------------------------------- the hub's mapping */

TEST(hub_memory_is_zero_at_first)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 8, 3 * BOX_BYTES));
	for (size_t i = 0; i < hub.setup.mapping_bytes; i++)
		ASSERT_EQ(0, hub.map[i]);
}

TEST(hub_maps_whole_or_in_part_but_not_beyond_its_end)
{
	const size_t page = getpagesize();
	struct hub hub;
	size_t bytes;

	ASSERT_EQ(0, hub_open(&hub, 4, BOX_BYTES));
	bytes = hub.setup.mapping_bytes;
	EXPECT_TRUE(can_map(hub.fd, bytes, PROT_READ | PROT_WRITE, 0));
	EXPECT_TRUE(can_map(hub.fd, bytes, PROT_READ, 0));
	EXPECT_FALSE(can_map(hub.fd, bytes + page, PROT_READ, 0));
	EXPECT_FALSE(can_map(hub.fd, page, PROT_READ, bytes));
	EXPECT_FALSE(can_map(hub.fd, 2 * page, PROT_READ, bytes - page));
	EXPECT_FALSE(can_map(hub.fd, page, PROT_READ, DISTWORKER_HUB_LINE_OFFSET));
	EXPECT_FALSE(can_map(hub.fd, page, PROT_READ, (off_t)1 << 30));
}

TEST(mapping_before_set_up_is_refused)
{
	int fd = device_open();

	ASSERT_LE(0, fd);
	EXPECT_FALSE(can_map(fd, getpagesize(), PROT_READ, 0));
}

TEST(private_mappings_are_refused)
{
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = attach_self(&hub, 0);
	ASSERT_LE(0, endpoint);
	EXPECT_TRUE(mmap(NULL, hub.setup.mapping_bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE, hub.fd, 0) == MAP_FAILED);
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(mmap(NULL, BOX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				   endpoint, 0) == MAP_FAILED);
	EXPECT_EQ(EINVAL, errno);
}

/* The kernel's own flag for "shared" is not set for such a file: it was refused as if private. */
TEST(hub_that_was_opened_for_reading_can_be_mapped_for_reading)
{
	struct distworker_hub_setup setup;
	int fd = open(DEVICE, O_RDONLY | O_CLOEXEC), endpoint;
	struct distworker_mailbox *box;
	char *map;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, dw_setup(fd, 1, BOX_BYTES, &setup));
	EXPECT_TRUE(mmap(NULL, setup.mapping_bytes, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED);
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(mmap(NULL, setup.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
		    MAP_FAILED);
	EXPECT_EQ(EACCES, errno);
	map = mmap(NULL, setup.mapping_bytes, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_TRUE(map != MAP_FAILED);
	EXPECT_EQ(-1, mprotect(map, setup.mapping_bytes, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	/* It is the memory that the peer has. */
	endpoint = dw_create(fd, 0);
	ASSERT_EQ(0, dw_bind(fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(endpoint, NULL));
	box = mmap(NULL, BOX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	ASSERT_TRUE(box != MAP_FAILED);
	store(box->done, 9);
	EXPECT_EQ(9, ((struct distworker_mailbox *)(map + setup.mailbox_offset))->done);
}

TEST(hub_memory_outlives_its_descriptor_while_it_is_mapped)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	close(hub.fd);
	memset(hub.map + hub.setup.mailbox_offset, 0x55, 2 * BOX_BYTES);
	EXPECT_EQ(0x55, hub.map[hub.setup.mapping_bytes - 1]);
}

TEST(hub_cannot_grow_by_mremap)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	EXPECT_TRUE(mremap(hub.map, hub.setup.mapping_bytes, hub.setup.mapping_bytes + BOX_BYTES,
			   MREMAP_MAYMOVE) == MAP_FAILED);
}

/* ---------------------------------------------------------------- fork */

TEST(hub_mapping_is_absent_in_a_forked_child)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_TRUE(is_mapped(hub.map));
	ASSERT_EQ(0, IN_CHILD({
		CHECK(!is_mapped(hub.map));
		CHECK(!is_mapped(hub.map + hub.setup.state_offset));
		CHECK(!is_mapped(hub.map + hub.setup.mailbox_offset));
		CHECK(!is_mapped(hub.map + hub.setup.mailbox_offset + BOX_BYTES));
	}));
}

TEST(madvise_cannot_bring_the_hub_mapping_into_children)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	EXPECT_EQ(-1, madvise(hub.map, hub.setup.mapping_bytes, MADV_DOFORK));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, madvise(hub.map + hub.setup.mailbox_offset, BOX_BYTES, MADV_DOFORK));
	ASSERT_EQ(0, IN_CHILD({
		CHECK(!is_mapped(hub.map));
		CHECK(!is_mapped(hub.map + hub.setup.mailbox_offset));
	}));
}

static void peer_forks(struct endpoint *endpoint)
{
	__u32 events;

	CHECK(madvise(endpoint->box, endpoint->attach.mailbox_bytes, MADV_DOFORK) < 0);
	CHECK_EQ(EINVAL, errno);
	CHECK(madvise(endpoint->hub_line, getpagesize(), MADV_DOFORK) < 0);
	CHECK_EQ(0, IN_CHILD({
		CHECK(!is_mapped(endpoint->box));
		CHECK(!is_mapped(endpoint->hub_line));
		/* Nor does the descriptor give it anything. */
		CHECK_EQ(-EPERM, dw_endpoint_wait(endpoint->fd, 0, 1, 0, &events));
		CHECK_EQ(-EPERM, dw_endpoint_wake(endpoint->fd));
		CHECK_EQ(-EPERM, dw_detach(endpoint->fd));
		CHECK(dw_attach(endpoint->fd, NULL) < 0);
		CHECK(!can_map(endpoint->fd, BOX_BYTES, PROT_READ, 0));
		CHECK(!can_map(endpoint->fd, getpagesize(), PROT_READ,
			       DISTWORKER_HUB_LINE_OFFSET));
	}));
	/* The peer itself is as it was. */
	endpoint->box->done = 7;
	CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
}

TEST(child_of_a_peer_gets_neither_memory_nor_calls)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_forks, NULL));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(7, hub_mailbox(&hub, 0)->done);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(peer.pid, query.pid);
}

TEST(fork_before_and_after_each_step_leaves_the_mailbox_to_the_bound_process)
{
	struct distworker_mailbox_query query;
	struct distworker_mailbox *box;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, IN_CHILD(CHECK(!is_mapped(hub.map))));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, IN_CHILD(CHECK_EQ(-ENOTCONN, dw_attach(endpoint, NULL))));
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, IN_CHILD(CHECK_EQ(-EPERM, dw_attach(endpoint, NULL))));
	ASSERT_EQ(0, dw_attach(endpoint, NULL));
	ASSERT_EQ(0, IN_CHILD({
		CHECK(dw_attach(endpoint, NULL) < 0);
		CHECK(!can_map(endpoint, BOX_BYTES, PROT_READ, 0));
	}));
	box = mmap(NULL, BOX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	ASSERT_TRUE(box != MAP_FAILED);
	ASSERT_EQ(0, IN_CHILD(CHECK(!is_mapped(box))));
	/* None of those deaths was the peer's. */
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(getpid(), query.pid);
	EXPECT_EQ(0, dw_endpoint_wake(endpoint));
}

/* ---------------------------------------------------------------- the endpoint's mapping */

static void peer_maps_what_it_may(struct endpoint *endpoint)
{
	const size_t page = getpagesize(), bytes = endpoint->attach.mailbox_bytes;
	const off_t line = DISTWORKER_HUB_LINE_OFFSET;
	const int both = PROT_READ | PROT_WRITE;

	CHECK(can_map(endpoint->fd, bytes, both, 0));
	CHECK(can_map(endpoint->fd, bytes, PROT_READ, 0));
	CHECK(!can_map(endpoint->fd, bytes + page, both, 0));
	for (off_t offset = bytes; offset < (off_t)(16 * bytes); offset += page)
		CHECK(!can_map(endpoint->fd, page, PROT_READ, offset));

	CHECK(can_map(endpoint->fd, page, PROT_READ, line));
	CHECK(!can_map(endpoint->fd, page, both, line));
	CHECK(!can_map(endpoint->fd, page, PROT_WRITE, line));
	CHECK(!can_map(endpoint->fd, 2 * page, PROT_READ, line));
	CHECK(!can_map(endpoint->fd, page, PROT_READ, line + page));
	CHECK(!can_map(endpoint->fd, page, PROT_READ, line - page));
	CHECK(!can_map(endpoint->fd, page, PROT_READ, 2 * line));
}

TEST(endpoint_maps_its_mailbox_and_the_hub_line_and_no_other_offset)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 4, 2 * BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_maps_what_it_may, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

static void peer_writes_to_hub_line(struct endpoint *endpoint)
{
	CHECK(mprotect(endpoint->hub_line, getpagesize(), PROT_READ | PROT_WRITE) < 0);
	CHECK_EQ(EACCES, errno);
	endpoint->hub_line->driving = 1;
}

TEST(hub_line_is_read_only_for_a_peer_whatever_it_does)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;
	int status;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_writes_to_hub_line, NULL));
	status = peer_join(&peer);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_EQ(0, hub.line->driving);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(SIGSEGV, query.status & 0x7f);
}

/* Through /proc/self/mem, which overrides page protection where it can. */
static void peer_writes_to_hub_line_by_proc(struct endpoint *endpoint)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	__u32 value = 1;

	CHECK(fd >= 0);
	CHECK(pwrite64(fd, &value, sizeof(value),
		       (off64_t)(uintptr_t)&endpoint->hub_line->driving) < 0);
}

TEST(hub_line_is_read_only_through_proc_mem_too)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_writes_to_hub_line_by_proc, NULL));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(0, hub.line->driving);
}

static void peer_sees_what_the_owner_wrote(struct endpoint *endpoint)
{
	CHECK_EQ(0x11111111, endpoint->box->post);
	CHECK_EQ(0x22222222, endpoint->hub_line->driving);
	endpoint->box->done = 0x33333333;
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(both_sides_see_the_same_memory)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, BOX_BYTES));
	hub_mailbox(&hub, 2)->post = 0x11111111;
	hub.line->driving = 0x22222222;
	ASSERT_EQ(0, peer_start(&peer, &hub, 2, peer_sees_what_the_owner_wrote, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	EXPECT_EQ(0x33333333, hub_mailbox(&hub, 2)->done);
	EXPECT_EQ(0, hub_mailbox(&hub, 1)->done);
	EXPECT_EQ(0, peer_join(&peer));
}

static void peer_drops_its_pages(struct endpoint *endpoint)
{
	endpoint->box->done = 5;
	/* Refused; if it were not, the same memory had to come back. */
	CHECK_EQ(-1, madvise(endpoint->box, endpoint->attach.mailbox_bytes, MADV_DONTNEED));
	CHECK_EQ(-1, madvise(endpoint->hub_line, getpagesize(), MADV_DONTNEED));
	CHECK_EQ(5, endpoint->box->done);
	CHECK_EQ(6, endpoint->box->post);
	CHECK_EQ(7, endpoint->hub_line->driving);
	CHECK_EQ(8, ((char *)endpoint->box)[endpoint->attach.mailbox_bytes - 1]);
}

TEST(pages_are_not_dropped_by_madvise)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, 2 * BOX_BYTES));
	hub_mailbox(&hub, 1)->post = 6;
	((char *)hub_mailbox(&hub, 1))[2 * BOX_BYTES - 1] = 8;
	hub.line->driving = 7;
	madvise(hub.map, hub.setup.mapping_bytes, MADV_DONTNEED);
	EXPECT_EQ(7, hub.line->driving);
	EXPECT_EQ(6, hub_mailbox(&hub, 1)->post);
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_drops_its_pages, NULL));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(5, hub_mailbox(&hub, 1)->done);
}

/* ---------------------------------------------------------------- a peer that goes mad */

static void peer_scribbles(struct endpoint *endpoint)
{
	unsigned int byte = 0x0badf00d;

	CHECK(sync_receive(endpoint->sync));
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < endpoint->attach.mailbox_bytes; i++) {
			byte = byte * 1103515245 + 12345;
			((volatile unsigned char *)endpoint->box)[i] = byte >> 16;
		}
		CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
		dw_endpoint_wait(endpoint->fd, 0, byte, now_ns() + 1000, NULL);
	}
}

TEST(peer_that_scribbles_over_its_mapping_damages_no_other_memory)
{
	struct distworker_mailbox_query query;
	struct peer mad, sane;
	struct hub_wait wait;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, 2 * BOX_BYTES));
	memset(hub_mailbox(&hub, 0), 0x5a, 2 * BOX_BYTES);
	memset(hub_mailbox(&hub, 2), 0, 2 * BOX_BYTES);
	ASSERT_EQ(0, peer_start(&mad, &hub, 1, peer_scribbles, NULL));
	ASSERT_EQ(0, peer_start(&sane, &hub, 2, peer_waits_for_post, NULL));
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 2, sane.pid)));
	hub_drain_state(&hub);
	ASSERT_TRUE(sync_send(mad.sync));
	do {
		wait = (struct hub_wait){ .watch = 7, .deadline = soon() };
		hub.state->seen[0] = 0x5a5a5a5a;
		hub.state->seen[1] = load(hub_mailbox(&hub, 1)->done);
		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		/* It can cause a needless wake-up of its owner, and nothing worse. */
		EXPECT_EQ(0, wait.ready & ~2ULL);
		dw_wake(hub.fd, 0, 2);
	} while (!(wait.events & DISTWORKER_EVENT_STATE));
	EXPECT_EQ(2, wait.state);
	EXPECT_EQ(0, peer_join(&mad));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 1, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	EXPECT_EQ(0, query.status);

	for (size_t i = 0; i < 2 * BOX_BYTES; i++)
		ASSERT_EQ(0x5a, ((char *)hub_mailbox(&hub, 0))[i]);
	EXPECT_EQ(1, hub_post(&hub, 2));
	EXPECT_EQ(0, peer_join(&sane));
}

static void *thread_flips_asleep(void *argument)
{
	struct endpoint *endpoint = argument;

	for (;;)
		store(endpoint->box->asleep, endpoint->box->asleep ? 0 : ~0u);
	return NULL;
}

static void peer_lies_about_being_asleep(struct endpoint *endpoint)
{
	pthread_t thread;
	__u32 seen = 0;

	CHECK_EQ(0, pthread_create(&thread, NULL, thread_flips_asleep, endpoint));
	while (!load(endpoint->box->stop)) {
		dw_endpoint_wait(endpoint->fd, 0, seen, now_ns() + NSEC_PER_MSEC, NULL);
		seen = load(endpoint->box->post);
	}
}

TEST(peer_that_overwrites_the_kernels_word_hurts_itself_at_most)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_lies_about_being_asleep, NULL));
	for (int i = 0; i < 2000; i++) {
		int woken;

		store(hub_mailbox(&hub, 0)->post, i);
		woken = dw_wake(hub.fd, 0, 1);
		ASSERT_LE(0, woken);
		ASSERT_GE(1, woken);
	}
	store(hub_mailbox(&hub, 0)->stop, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- generations */

TEST(rearm_zeroes_the_mailbox_and_counts_the_generation)
{
	struct distworker_mailbox_query query;
	__u64 first, second;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, BOX_BYTES));
	memset(hub_mailbox(&hub, 0), 0x77, BOX_BYTES);
	memset(hub_mailbox(&hub, 2), 0x77, BOX_BYTES);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 1, &query));
	first = query.generation;
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_idles, NULL));
	memset(hub_mailbox(&hub, 1), 0x77, BOX_BYTES);
	ASSERT_EQ(0, peer_join(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 1, &query));
	EXPECT_EQ(first, query.generation);
	/* Until then the owner can read the dead peer's memory. */
	EXPECT_EQ(0x77777777, hub_mailbox(&hub, 1)->done);

	ASSERT_EQ(0, dw_rearm(hub.fd, 1, &second));
	EXPECT_EQ(first + 1, second);
	for (size_t i = 0; i < BOX_BYTES; i++) {
		ASSERT_EQ(0, ((char *)hub_mailbox(&hub, 1))[i]);
		ASSERT_EQ(0x77, ((char *)hub_mailbox(&hub, 0))[i]);
		ASSERT_EQ(0x77, ((char *)hub_mailbox(&hub, 2))[i]);
	}
	ASSERT_EQ(0, dw_mailbox(hub.fd, 1, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_FREE, query.state);
	EXPECT_EQ(second, query.generation);
	EXPECT_EQ(DISTWORKER_DEATH_NONE, query.cause);
	EXPECT_EQ(0, query.pid);
	EXPECT_EQ(0, query.status);
}

/* Mapping and zeroing go in steps where there is much of it. */
TEST(a_big_mailbox_is_mapped_and_zeroed_to_its_end)
{
	const size_t bytes = (9 << 20) + BOX_BYTES;
	struct hub hub;
	int endpoint;
	char *box;

	ASSERT_EQ(0, hub_open(&hub, 2, bytes));
	endpoint = attach_self(&hub, 1);
	ASSERT_LE(0, endpoint);
	box = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	ASSERT_TRUE(box != MAP_FAILED);
	memset(hub_mailbox(&hub, 0), 0x77, bytes);
	for (size_t at = 0; at < bytes; at += BOX_BYTES) {
		box[at] = 0x55;
		box[at + BOX_BYTES - 1] = 0x66;
	}
	ASSERT_EQ(0x55, ((char *)hub_mailbox(&hub, 1))[bytes - BOX_BYTES]);
	ASSERT_EQ(0x66, ((char *)hub_mailbox(&hub, 1))[bytes - 1]);
	ASSERT_EQ(0, munmap(box, bytes));
	ASSERT_EQ(0, dw_detach(endpoint));
	ASSERT_EQ(0, dw_rearm(hub.fd, 1, NULL));
	for (size_t i = 0; i < bytes; i++)
		ASSERT_EQ(0, ((char *)hub_mailbox(&hub, 1))[i]);
	EXPECT_EQ(0x77, ((char *)hub_mailbox(&hub, 0))[0]);
	EXPECT_EQ(0x77, ((char *)hub_mailbox(&hub, 0))[bytes - 1]);
}

static void peer_detaches_when_all_is_unmapped(struct endpoint *endpoint)
{
	const size_t page = getpagesize();
	void *elsewhere = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *box = endpoint->box;

	CHECK_EQ(-EBUSY, dw_detach(endpoint->fd));
	/* In part, or moved elsewhere, it is mapped still. */
	CHECK_EQ(0, munmap(box, page));
	CHECK_EQ(-EBUSY, dw_detach(endpoint->fd));
	box = mremap((char *)box + page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
	CHECK(box == elsewhere);
	CHECK_EQ(-EBUSY, dw_detach(endpoint->fd));
	CHECK_EQ(0, munmap(box, page));
	CHECK_EQ(0, dw_detach(endpoint->fd));
	CHECK(!can_map(endpoint->fd, BOX_BYTES, PROT_READ, 0));
	CHECK(sync_send(endpoint->sync));
	CHECK(sync_receive(endpoint->sync));
	CHECK(!is_mapped(box));
	/* The line of the hub stays: it can do no harm. */
	CHECK_EQ(0, endpoint->hub_line->driving);
	CHECK(!can_map(endpoint->fd, BOX_BYTES, PROT_READ, 0));
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

static void peer_finds_zeroes(struct endpoint *endpoint)
{
	for (size_t i = 0; i < endpoint->attach.mailbox_bytes; i++)
		CHECK_EQ(0, ((char *)endpoint->box)[i]);
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(no_mapping_of_a_generation_outlives_it)
{
	struct distworker_mailbox_query query;
	struct peer old, new;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, 2 * BOX_BYTES));
	ASSERT_EQ(0, peer_start(&old, &hub, 0, peer_detaches_when_all_is_unmapped, NULL));
	ASSERT_TRUE(sync_receive(old.sync));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	ASSERT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	ASSERT_EQ(DISTWORKER_DEATH_DETACH, query.cause);
	ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	ASSERT_EQ(0, peer_start(&new, &hub, 0, peer_finds_zeroes, NULL));
	ASSERT_TRUE(sync_receive(new.sync));
	ASSERT_TRUE(sync_send(old.sync));
	ASSERT_TRUE(sync_receive(old.sync));
	for (size_t i = 0; i < BOX_BYTES; i++)
		ASSERT_EQ(0, ((char *)hub_mailbox(&hub, 0))[i]);
	EXPECT_EQ(0, peer_join(&new));
	EXPECT_EQ(0, peer_join(&old));
}

TEST(old_endpoint_of_a_dead_generation_has_no_power_over_the_next)
{
	struct distworker_mailbox_query query;
	struct peer second;
	struct hub hub;
	int endpoint;
	__u32 events;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = attach_self(&hub, 0);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, dw_detach(endpoint));
	ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	ASSERT_EQ(0, peer_start_on(&second, &hub, 0, dup(endpoint), peer_idles, NULL));
	EXPECT_EQ(-EPERM, dw_detach(endpoint));
	EXPECT_EQ(-EPERM, dw_endpoint_wake(endpoint));
	EXPECT_EQ(-EPERM, dw_endpoint_wait(endpoint, 0, 1, 0, &events));
	EXPECT_FALSE(can_map(endpoint, BOX_BYTES, PROT_READ, 0));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(second.pid, query.pid);
	EXPECT_EQ(0, peer_join(&second));
}

/* ---------------------------------------------------------------- pinning */

/* 0 if the page can be pinned in a pipe, or -errno. */
static int pin_by_vmsplice(void *address)
{
	struct iovec page = { .iov_base = address, .iov_len = getpagesize() };
	int pair[2], ret;

	CHECK_EQ(0, pipe(pair));
	ret = vmsplice(pair[1], &page, 1, SPLICE_F_NONBLOCK) < 0 ? -errno : 0;
	close(pair[0]);
	close(pair[1]);
	return ret;
}

static void peer_pins_what_it_has(struct endpoint *endpoint)
{
	/* Memory that can be pinned, and memory that is there for certain. */
	CHECK_EQ(0, pin_by_vmsplice(mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	store(endpoint->box->done, 1);
	CHECK_EQ(0, load(endpoint->hub_line->driving));
	CHECK_EQ(-EFAULT, pin_by_vmsplice(endpoint->box));
	CHECK_EQ(-EFAULT, pin_by_vmsplice((char *)endpoint->box + getpagesize()));
	CHECK_EQ(-EFAULT, pin_by_vmsplice(endpoint->hub_line));
}

/* It went through: a page in a pipe showed an old peer the next generation. */
TEST(no_page_can_be_pinned_and_so_outlive_its_generation)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, 2 * BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_pins_what_it_has, NULL));
	EXPECT_EQ(0, peer_join(&peer));
	for (size_t at = 0; at < hub.setup.mapping_bytes; at += getpagesize())
		EXPECT_EQ(-EFAULT, pin_by_vmsplice(hub.map + at));
}

/* ---------------------------------------------------------------- properties of the memory */

static bool smaps_flags(void *address, char *flags, size_t bytes)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	char line[256];
	bool here = false;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 &&
		    strchr(line, '-') < strchr(line, ' '))
			here = start == (uintptr_t)address;
		else if (here && !strncmp(line, "VmFlags:", 8)) {
			strncpy(flags, line + 8, bytes - 1);
			flags[bytes - 1] = 0;
			fclose(file);
			return true;
		}
	}
	return false;
}

TEST(mapping_is_kept_out_of_forks_growth_and_core_dumps)
{
	char flags[256];
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	if (!smaps_flags(hub.map, flags, sizeof(flags)))
		SKIP(return, "no /proc/self/smaps in this kernel");
	EXPECT_TRUE(strstr(flags, " dc") != NULL);	/* not copied on fork */
	EXPECT_TRUE(strstr(flags, " de") != NULL);	/* not expanded by mremap */
	EXPECT_TRUE(strstr(flags, " dd") != NULL);	/* not dumped */
	EXPECT_TRUE(strstr(flags, " me") == NULL);	/* may not become executable */
}

/* mprotect() made it executable where /dev is not mounted noexec. */
TEST(mapping_cannot_be_executable)
{
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = attach_self(&hub, 0);
	EXPECT_FALSE(can_map(hub.fd, getpagesize(), PROT_READ | PROT_EXEC, 0));
	EXPECT_FALSE(can_map(endpoint, getpagesize(), PROT_READ | PROT_EXEC, 0));
	EXPECT_EQ(-1, mprotect(hub.map, getpagesize(), PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
}

/* ---------------------------------------------------------------- debuggers */

static bool look_by_proc(pid_t pid, void *address, void *buffer, size_t bytes, bool write)
{
	char path[64];
	ssize_t done;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* An off_t of 32 bits is too short for the upper half of the addresses. */
	done = write ? pwrite64(fd, buffer, bytes, (off64_t)(uintptr_t)address) :
		       pread64(fd, buffer, bytes, (off64_t)(uintptr_t)address);
	close(fd);
	return done == (ssize_t)bytes;
}

/*
 * A kernel without HAVE_IOREMAP_PROT (of arm64 before 6.0, of riscv) asks no driver for memory that
 * it has no pages of. This function is there with it alone.
 */
static bool kernel_asks_drivers(void)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	bool found = !symbols;
	char line[256];

	while (!found && fgets(line, sizeof(line), symbols))
		found = strstr(line, " generic_access_phys\n") != NULL;
	if (symbols)
		fclose(symbols);
	return found;
}

/* gdb could not show the contents of a mailbox: the kernel had no way to it. */
TEST(debuggers_read_and_write_hub_and_mailbox_to_their_ends_and_not_beyond)
{
	const size_t page = getpagesize();
	struct distworker_mailbox *box;
	char byte, bytes[300];
	struct hub hub;
	int endpoint;
	__u32 word;

	if (!kernel_asks_drivers())
		SKIP(return, "this kernel asks no driver for such memory");
	ASSERT_EQ(0, hub_open(&hub, 2, 2 * page));
	endpoint = attach_self(&hub, 1);
	box = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	ASSERT_TRUE(box != MAP_FAILED);
	box->done = 77;
	EXPECT_TRUE(look_by_proc(getpid(), &box->done, &word, sizeof(word), false));
	EXPECT_EQ(77, word);
	EXPECT_TRUE(
		look_by_proc(getpid(), &hub_mailbox(&hub, 1)->done, &word, sizeof(word), false));
	EXPECT_EQ(77, word);
	word = 78;
	EXPECT_TRUE(look_by_proc(getpid(), &box->done, &word, sizeof(word), true));
	EXPECT_EQ(78, hub_mailbox(&hub, 1)->done);
	word = 79;
	EXPECT_TRUE(look_by_proc(getpid(), &hub_mailbox(&hub, 1)->done, &word, sizeof(word), true));
	EXPECT_EQ(79, box->done);
	/* Over the border of a page, and at the end. */
	memset((char *)box + page - 100, 0x33, 300);
	EXPECT_TRUE(look_by_proc(getpid(), (char *)box + page - 100, bytes, 300, false));
	EXPECT_EQ(0, memcmp((char *)box + page - 100, bytes, 300));
	((char *)box)[2 * page - 1] = 5;
	EXPECT_TRUE(look_by_proc(getpid(), (char *)box + 2 * page - 1, &byte, 1, false));
	EXPECT_EQ(5, byte);
	munmap((char *)box + page, page);
	EXPECT_FALSE(look_by_proc(getpid(), (char *)box + page - 1, bytes, 2, false));
}

TEST_HARNESS_MAIN
