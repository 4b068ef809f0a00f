/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A child overwrites everything that it shares, except the arena, with nonsense: its parent detects
 * that, kills it and continues; its siblings notice nothing.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <stddef.h>
#include <unistd.h>
#include "failure.h"
#include "mailbox/ring.h"
#include "worker/hierarchy.h"

enum madness { MAD_RANDOM, MAD_ONES, MAD_ZEROES, MAD_ONE_WORD, MAD_KINDS, MAD_COUNT = MAD_KINDS };

/*
 * The word that counts completions, whether the first mailbox begins the mapping or follows the
 * hub's page.
 */
#define DONE_WORD (offsetof(struct mailbox, done) / sizeof(uint32_t))

static uint64_t state;

static uint32_t next_random(void)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33);
}

/* Small shared mappings are the mailbox, timelines and the hub's line; the arena is large. */
static void scribble(enum madness madness)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE) / sizeof(uint32_t);
	unsigned long begin, end;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && fgets(line, sizeof(line), maps)) {
		uint32_t *words;
		size_t count;

		if (!strstr(line, "rw-s") || sscanf(line, "%lx-%lx", &begin, &end) != 2 ||
		    end - begin >= 1 << 20)
			continue;
		words = (uint32_t *)begin;
		count = (end - begin) / sizeof(*words);
		if (madness == MAD_COUNT) {
			/* A mailbox begins with a page. */
			for (size_t at = DONE_WORD; at < count; at += page)
				words[at] = 1 << 30;
			continue;
		}
		if (madness == MAD_ONE_WORD) {
			words[next_random() % (count < 512 ? count : 512)] = next_random();
			continue;
		}
		for (size_t i = 0; i < count; i++)
			words[i] = madness == MAD_RANDOM ? next_random() :
				   madness == MAD_ONES ? 0xffffffff : 0;
	}
	if (maps)
		fclose(maps);
}

static int sub_corrupt(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);
	enum madness madness = (enum madness)(dw_args_int(args, 0) % MAD_KINDS);

	(void)context;
	state = (uint64_t)dw_args_int(args, 0) * 77 + 13;
	*cell = 1;
	for (int i = 0; i < 10; i++)
		scribble(madness);
	return 0;
}

/* Writes nonsense and sends no message: the parent finds it at the deadline. */
static int sub_corrupt_and_stuck(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	scribble(MAD_COUNT);
	for (;;)
		pause();
	return 0;
}

static dw_callable corrupt, add;
static int64_t seed;

static int orch_corrupt(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int result;

	(void)args;
	(void)config;
	(void)context;
	/* A corrupt child may also never return. */
	options.timeout_ns = 300 * MS;
	result = submit_one(orch, corrupt, &chain.cells[0], DW_INOUT, seed, &options, NULL);
	for (int i = 0; i < 60 && result == 0; i++)
		result = submit_one(orch, add, &chain.cells[1 + i % 20], DW_INOUT, 1, &options,
				    NULL);
	return result;
}

static int orch_sane(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 60 && result == 0; i++)
		result = submit_one(orch, add, &chain.cells[30 + i % 20], DW_INOUT, 1, NULL, NULL);
	return result;
}

/*
 * The tree's status was scribbled over as well: our own counters are right, and no reader crashes.
 */
static void check_counters(void)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_child_stats stats[2];
	struct dw_tree *tree;
	char text[8192];
	size_t bytes = sizeof(text), count = 2;

	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &engine), 0);
	CHECK_EQ(engine.submitted, engine.done + engine.failed + engine.skipped);
	CHECK(engine.submitted > 60 && engine.submitted <= 121);
	CHECK_EQ(engine.heap_used, 0);
	CHECK_EQ(dw_worker_stats(chain.worker[0], stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 2);
	CHECK(memchr(stats[0].path, 0, sizeof(stats[0].path)));
	CHECK_EQ(dw_worker_report(chain.worker[0], 0, text, &bytes), 0);
	if (dw_tree_open(getpid(), 0, &tree) == 0) {
		bytes = sizeof(text);
		CHECK_EQ(dw_tree_report(tree, 0, text, &bytes), 0);
		dw_tree_close(tree);
	}
}

TEST(mad_child_is_killed_and_replaced_and_nobody_else_notices)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	unsigned bad = 0;

	options.restart = DW_RESTART_ON_DEATH;
	options.restart_limit = 1000;
	for (int round = 0; round < 24; round++) {
		int64_t sum = 0;
		int result;

		seed = round;
		chain_create(1, 2, 0, &options);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "corrupt", sub_corrupt, NULL,
						  &corrupt),
			 0);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "add", sub_add, NULL, &add), 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		result = dw_worker_run(chain.worker[0], orch_corrupt, NULL, NULL, NULL);
		/* If it makes up an error that is plausible, its task gets that error. */
		CHECK(result <= 0);
		if (result)
			CHECK_STR(dw_strerror_last(), "node0/sub");
		bad += result != 0;
		/* Some frames may never be started: only tasks of the corrupt child are lost. */
		if (!CHECK_EQ(dw_worker_run(chain.worker[0], orch_sane, NULL, NULL, NULL), 0))
			printf("# seed %d: %s\n", round, dw_strerror_last());
		for (int i = 0; i < 20; i++)
			sum += chain.cells[30 + i];
		CHECK_EQ(sum, 60);
		check_counters();
		/* A corrupt child that was not detected may also be unable to leave. */
		result = dw_worker_close(chain.worker[0]);
		CHECK(result == 0 || result == -ETIMEDOUT);
		chain_destroy();
	}
	printf("# %u of 24 corrupt children were found out\n", bad);
	CHECK(bad > 6);
}

static int orch_only_corrupt(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	(void)args;
	(void)config;
	(void)context;
	options.timeout_ns = 500 * MS;
	return submit_one(orch, corrupt, &chain.cells[0], DW_INOUT, 0, &options, NULL);
}

TEST(mad_child_is_reported_as_such)
{
	int result;

	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "corrupt", sub_corrupt_and_stuck, NULL,
					  &corrupt),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	result = dw_worker_run(chain.worker[0], orch_only_corrupt, NULL, NULL, NULL);
	CHECK_EQ(result, -EOWNERDEAD);
	check_text("node0/sub0: task 1 (corrupt): EOWNERDEAD: killed by SIGKILL, pid ");
	check_text("(mailbox 0: ");
	chain_destroy();
}

/* ------------------------------------------------------------------- links */

/* To every socket: the child's end of its link is one of them. */
static void write_links(enum link_kind kind, int error, bool for_ever)
{
	struct link_message message = {
		.kind = kind, .generation = 1, .error = error, .text = "boo"
	};
	struct stat status;

	do
		for (int fd = 3; fd < 200; fd++)
			if (fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode))
				send(fd, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
	while (for_ever);
}

static int sub_writes_link(const struct dw_args *args, void *context)
{
	int64_t error = dw_args_int(args, 0);

	(void)context;
	if (dw_args_int(args, 1) == LINK_OVER)
		write_links(LINK_ERROR, -EIO, false);
	write_links((enum link_kind)dw_args_int(args, 1), (int)error, false);
	say();
	for (;;)
		pause();
	return 0;
}

static int sub_floods_link(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	say();
	write_links(LINK_GO, 0, true);
	return 0;
}

static struct { int64_t error, kind; } lie;

static int orch_link(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_args *own;
	int result;

	(void)args;
	(void)config;
	(void)context;
	dw_args_create(&own);
	dw_args_add_int(own, lie.error);
	dw_args_add_int(own, lie.kind);
	result = dw_submit(orch, corrupt, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

static void check_lie(int kind, int error)
{
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "corrupt", sub_writes_link, NULL,
					  &corrupt),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	lie.kind = kind;
	lie.error = error;
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_link, NULL, NULL, NULL), -EPROTO);
	check_text("node0/sub0: task 1 (corrupt): EPROTO: killed by SIGKILL, pid ");
	check_text("(its message to its parent makes no sense)");
	chain_destroy();
}

TEST(mad_child_that_says_what_only_a_thread_says_is_killed)
{
	check_lie(LINK_OVER, 0);
}

TEST(mad_child_whose_last_words_have_no_error_is_killed)
{
	check_lie(LINK_ERROR, 7);
	check_lie(LINK_ERROR, 0);
	check_lie(LINK_ERROR, -4096);
	check_lie(LINK_ERROR, INT_MIN);
}

TEST(mad_child_that_is_ready_again_is_killed)
{
	check_lie(LINK_READY, 0);
	check_lie(99, 0);
}

TEST(mad_child_that_never_stops_talking_is_killed)
{
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "corrupt", sub_floods_link, NULL,
					  &corrupt),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_link, NULL, NULL, NULL), -EPROTO);
	chain_destroy();
}
