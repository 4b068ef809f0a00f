/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A hub and children that are processes, for tests of mailboxes.
 */
#ifndef MAILBOX_RIG_H
#define MAILBOX_RIG_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "mailbox/provider.h"
#include "task/error.h"
#include "unit.h"

#define UNUSED __attribute__((unused))

static struct hub *hub;
static pid_t pids[256];
static uint32_t count;

/* Shared with the children: the go after hub_bind(), and their results. */
static struct {
	_Atomic uint32_t go[256];
	_Atomic uint64_t sum;
	_Atomic uint32_t word;
} *shared;

UNUSED static void serve(struct endpoint *endpoint)
{
	struct frame *frame;
	uint32_t number;

	do {
		while ((frame = endpoint_next(endpoint, &number))) {
			atomic_fetch_add(&shared->sum, frame->task);
			endpoint_complete(endpoint, number, 0, NULL, 0, 0);
		}
	} while (endpoint_wait(endpoint) == 0);
}

typedef int child_fn(struct endpoint *endpoint, uint32_t i);

UNUSED static int serve_child(struct endpoint *endpoint, uint32_t i)
{
	(void)i;
	serve(endpoint);
	return 0;
}

/* Forks the child of mailbox i, which exits with the result of `run`. */
static pid_t start(uint32_t i, child_fn *run)
{
	struct endpoint *endpoint;
	pid_t pid;
	int result;

	atomic_store(&shared->go[i], 0);
	pid = fork();
	if (pid != 0) {
		if (hub_bind(hub, i, pid))
			printf("# %s\n", dw_strerror_last());
		atomic_store(&shared->go[i], 1);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&shared->go[i]))
		usleep(100);
	if (endpoint_attach(hub, i, &endpoint))
		_exit(99);
	result = run(endpoint, i);
	endpoint_detach(endpoint);
	hub_destroy(hub);
	_exit(result);
}

/* As open_hub(). */
static bool open_hub_of(const struct hub_options *options, child_fn *run)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (!CHECK(shared != MAP_FAILED) || !CHECK_EQ(hub_create(options, &hub), 0)) {
		printf("# %s\n", dw_strerror_last());
		return false;
	}
	count = options->mailboxes;
	for (uint32_t i = 0; i < count; i++)
		pids[i] = run ? start(i, run) : 0;
	return true;
}

/* A hub with a child for each mailbox; NULL: none. */
UNUSED static bool open_hub(uint32_t mailboxes, uint32_t depth, child_fn *run)
{
	struct hub_options options = { .mailboxes = mailboxes, .depth = depth, .frame_bytes = 128 };

	return open_hub_of(&options, run);
}

static int end(uint32_t i)
{
	int status = -1;

	waitpid(pids[i], &status, 0);
	pids[i] = 0;
	return status;
}

static void close_hub(void)
{
	for (uint32_t i = 0; i < count; i++)
		if (pids[i])
			hub_stop(hub, i);
	for (uint32_t i = 0; i < count; i++)
		if (pids[i])
			CHECK_EQ(end(i), 0);
	hub_destroy(hub);
	munmap(shared, sizeof(*shared));
}

UNUSED static void post(uint32_t i, uint64_t task)
{
	uint32_t number;
	struct frame *frame = hub_acquire(hub, i, 0, &number);

	if (!CHECK(frame != NULL))
		return;
	frame->task = task;
	if (hub_publish(hub, i))
		hub_mark_wake(hub, i);
}

UNUSED static uint32_t harvest_all(void)
{
	struct completion completion;
	uint32_t done = 0;

	for (uint32_t i = hub_next_ready(hub, 0); i != UINT32_MAX; i = hub_next_ready(hub, i)) {
		int result = hub_harvest(hub, i, &completion, NULL);

		if (!CHECK_EQ(result, 1))
			return done;
		done++;
	}
	return done;
}

/* A wait that does not hang takes less than this on a quiet machine. */
#define HANG_NS 20000000000ull

/* A wait whose deadline passes only if the event does not come. */
static int wait_long(void)
{
	uint64_t start_ns = now_ns();
	int result;

	do
		result = hub_wait(hub, now_ns() + HANG_NS / 8);
	while (result == -ETIMEDOUT && unit_within(start_ns, HANG_NS));
	return result;
}

/* Waits until `wanted` completions are there. */
UNUSED static bool drain(uint32_t wanted)
{
	uint32_t done = 0;
	int result = 0;

	hub_drive_begin(hub);
	while ((done += harvest_all()) < wanted && result != -ETIMEDOUT)
		result = wait_long();
	hub_drive_end(hub);
	done += harvest_all();
	return CHECK_EQ(done, wanted);
}

UNUSED static bool asleep(uint32_t i)
{
	uint64_t start_ns = now_ns();

	while (!hub_peer_asleep(hub, i)) {
		if (!unit_within(start_ns, HANG_NS))
			return false;
		usleep(1000);
	}
	return true;
}

#endif
