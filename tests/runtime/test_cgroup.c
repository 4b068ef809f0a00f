/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Limits of a control group: processes (pids.max) and memory. A fork that the kernel refuses and a
 * process that it kills are errors with their cause; nothing is left, and the Worker can be closed.
 * Each test makes its own group, in version 1 or 2 of the interface, and is skipped if it may not.
 */
#include "cgroup.h"

/* ---------------------------------------------------------------- processes */

static void no_processes(void)
{
	enter_group();
	/* This process, spawners and children: 1 + 1 + 4 and 1 + 3 more in the nested Worker. */
	chain_create(2, 3, 0, NULL);
	CHECK_EQ(dw_worker_init(chain.worker[0]), -EAGAIN);
	check_text("EAGAIN");
	check_text("pids.max");
	CHECK_EQ(descendants(NULL, 0), 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	dw_worker_destroy(chain.worker[0]);

	/* A tree within the limit works. */
	chain_init(1, 1, 0, NULL);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}

TEST(limit_of_processes_is_the_error_of_init)
{
	if (!make_group("pids", "pids.max", "pids.max"))
		SKIP("no control group for pids can be made here");
	CHECK(write_file("pids.max", "8"));
	apart(no_processes);
	remove_group();
}

/* ------------------------------------------------------------------- memory */

#define LIMIT_TEXT	"100663296"	/* 96 MiB */
#define EATS_BYTES	(512u << 20)

static int sub_eat(const struct dw_args *args, void *context)
{
	char *memory = malloc(EATS_BYTES);

	(void)args;
	(void)context;
	for (size_t i = 0; memory && i < EATS_BYTES; i += 4096)
		((volatile char *)memory)[i] = 1;
	free(memory);
	return 0;
}

static int orch_eat(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(dw_callable *)context, chain.cells, DW_INOUT, 0, NULL, NULL);
}

static void no_memory(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	dw_callable eat;

	enter_group();
	options.restart = DW_RESTART_ON_DEATH;
	options.restart_limit = 100;
	chain_create(1, 2, 0, &options);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "eat", sub_eat, NULL, &eat), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	for (int i = 1; i <= 3; i++) {
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_eat, NULL, NULL, &eat), -EOWNERDEAD);
		check_text("killed by SIGKILL, pid ");
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
		CHECK_EQ(chain.cells[0], i);
	}
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	CHECK_EQ(descendants(NULL, 0), 0);
	dw_worker_destroy(chain.worker[0]);
}

TEST(memory_limit_kills_the_child_that_eats_and_nothing_else)
{
	if (!make_group("memory", "memory.limit_in_bytes", "memory.max"))
		SKIP("no control group for memory can be made here");
	CHECK(write_file(is_there("memory.max") ? "memory.max" : "memory.limit_in_bytes",
			 LIMIT_TEXT));
	/* Swap, if there is any, is limited, too. */
	if (is_there("memory.swap.max"))
		write_file("memory.swap.max", "0");
	else
		write_file("memory.memsw.limit_in_bytes", LIMIT_TEXT);
	apart(no_memory);
	remove_group();
}
