// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind hosts.h. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fd.h"
#include "hosts.h"
#include "tool.h"

void hosts_say_address(const char *address, void *context)
{
	(void)context;
	printf("%s\n", address);
	fflush(stdout);
}

int hosts_follow_stdin(struct dw_node_options *options)
{
	options->stop_fd = fd_move_up(dup(STDIN_FILENO));
	return options->stop_fd < 0 ?
		       tool_fail(TOOL_SYSTEM, "standard input: %s", strerror(errno)) : TOOL_OK;
}

/* The same command line over there: --listen makes a node of it, whatever else it says. */
static int meet(struct hosts *hosts, const struct run_options *options, char **words)
{
	struct dw_launch_options launch = DW_OPTIONS(dw_launch_options);
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int err;

	if (length < 0)
		return tool_fail(TOOL_SYSTEM, "/proc/self/exe: %s", strerror(errno));
	self[length] = '\0';
	launch.hosts = options->hosts;
	launch.program = self;
	launch.verb = "run";
	launch.arguments = (const char *const *)words + 1;
	launch.timeout_ns = options->plan.worker.init_timeout_ns;
	err = dw_launch_create(&launch, &hosts->launch);
	if (!err || (err == -ENOENT && !options->hosts))
		return TOOL_OK;
	return tool_fail(TOOL_NO_TREE, "%s", dw_strerror_last());
}

char **hosts_copy_words(int argc, char **argv)
{
	char **words = calloc((size_t)argc + 1, sizeof(*words));

	if (words)
		memcpy(words, argv, (size_t)argc * sizeof(*words));
	return words;
}

int hosts_meet(struct hosts *hosts, struct run_options *options, char **words)
{
	int status = TOOL_OK;

	if (!words)
		return tool_fail(TOOL_SYSTEM, "no memory for the command line");
	hosts->node = options->node.listen;
	if (!hosts->node)
		status = meet(hosts, options, words);
	if (status || !hosts->launch)
		return status;
	hosts->node = dw_launch_rank(hosts->launch) > 0;
	if (dw_launch_size(hosts->launch) > 1 && options->nodes_by_default)
		options->plan.fanout[0] = dw_launch_size(hosts->launch) - 1;
	return TOOL_OK;
}

struct assignment {
	const struct dw_launch *launch;
	bool each;			/* not L3 Workers alone */
	uint32_t next;			/* rank */
};

static uint32_t count_below(const struct plan *plan)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < plan->child_count; i++)
		if (!plan->children[i]->options.host)
			count += 1 + count_below(plan->children[i]);
	return count;
}

/* The rank that the Worker has now. */
static int take_rank(struct assignment *assignment, struct plan *plan, uint32_t from,
		     uint32_t *rank)
{
	uint32_t size = dw_launch_size(assignment->launch);
	char host[320];

	*rank = assignment->next;
	if (dw_launch_host_from(assignment->launch, *rank, from, host, sizeof(host)))
		return tool_fail(TOOL_NO_TREE, "%s", dw_strerror_last());
	plan->options.host = strdup(host);
	if (!plan->options.host)
		return tool_fail(TOOL_SYSTEM, "no memory for hosts");
	assignment->next = *rank + 1 < size ? *rank + 1 : 1;
	return TOOL_OK;
}

/* `from`: the rank of `plan`. */
static int assign(struct assignment *assignment, struct plan *plan, uint32_t from)
{
	int status = TOOL_OK;

	for (uint32_t i = 0; i < plan->child_count && !status; i++) {
		struct plan *child = plan->children[i];
		uint32_t rank = from;

		if (child->options.host)
			continue;
		if (assignment->each || child->level == DW_LEVEL_NODE)
			status = take_rank(assignment, child, from, &rank);
		if (!status)
			status = assign(assignment, child, rank);
	}
	return status;
}

int hosts_assign(const struct hosts *hosts, struct plan *plan)
{
	struct assignment assignment = { .launch = hosts->launch, .next = 1 };

	if (!hosts->launch || hosts->node || dw_launch_size(hosts->launch) == 1)
		return TOOL_OK;
	if (!plan->child_count)
		return tool_fail(TOOL_USAGE, "the root of %u processes has no Workers below it: a "
					     "--level above 3 would be right",
				 dw_launch_size(hosts->launch));
	assignment.each = count_below(plan) < dw_launch_size(hosts->launch);
	return assign(&assignment, plan, 0);
}

int hosts_serve(const struct hosts *hosts, const struct run_options *options,
		struct dw_worker *worker)
{
	struct dw_node_options node = options->node;
	int err;

	node.listening = hosts_say_address;
	if (hosts->launch) {
		node.listening = NULL;
		node.key = NULL;
		node.idle_timeout_ns = options->plan.worker.init_timeout_ns;
		err = dw_launch_serve(hosts->launch, worker, &node);
	} else {
		if (node.key && !strcmp(node.key, "-") && hosts_follow_stdin(&node))
			return TOOL_SYSTEM;
		err = dw_node_serve(worker, &node);
	}
	return err ? tool_fail(TOOL_FAILED, "%s", dw_strerror_last()) : TOOL_OK;
}

/* ------------------------------------------------------------- what nodes print */

struct forwarder {
	pthread_t thread;
	int stop[2];
	uint32_t count;
	struct pollfd *polls;		/* the last is `stop` */
};

/* What is there now; at its end the entry is left out from then on. */
static void pass_on(struct pollfd *from, int to)
{
	char bytes[4096];
	ssize_t got;

	while (from->fd >= 0 && (got = read(from->fd, bytes, sizeof(bytes))) != 0) {
		if (got < 0)
			return;
		if (write(to, bytes, (size_t)got) < 0)
			break;
	}
	from->fd = -1;
}

static void *forward(void *argument)
{
	struct forwarder *forwarder = argument;
	struct pollfd *stop = &forwarder->polls[forwarder->count];

	while (!stop->revents) {
		poll(forwarder->polls, forwarder->count + 1, -1);
		for (uint32_t i = 0; i < forwarder->count; i++)
			pass_on(&forwarder->polls[i], i % 2 ? STDERR_FILENO : STDOUT_FILENO);
	}
	return NULL;
}

void hosts_forward(struct hosts *hosts)
{
	uint32_t size = hosts->launch ? dw_launch_size(hosts->launch) : 0;
	struct forwarder *forwarder;
	int out, errors;

	if (size < 2 || dw_launch_output(hosts->launch, 1, &out, &errors))
		return;
	forwarder = calloc(1, sizeof(*forwarder));
	if (!forwarder)
		return;
	forwarder->polls = calloc(2 * (size_t)size, sizeof(*forwarder->polls));
	if (!forwarder->polls || pipe2(forwarder->stop, O_CLOEXEC))
		goto out;
	for (uint32_t rank = 1; rank < size; rank++) {
		if (dw_launch_output(hosts->launch, rank, &out, &errors))
			continue;
		forwarder->polls[forwarder->count++] =
			(struct pollfd){ .fd = out, .events = POLLIN };
		forwarder->polls[forwarder->count++] =
			(struct pollfd){ .fd = errors, .events = POLLIN };
	}
	forwarder->polls[forwarder->count] =
		(struct pollfd){ .fd = forwarder->stop[0], .events = POLLIN };
	if (!pthread_create(&forwarder->thread, NULL, forward, forwarder)) {
		hosts->forwarder = forwarder;
		return;
	}
	close(forwarder->stop[0]);
	close(forwarder->stop[1]);
out:
	free(forwarder->polls);
	free(forwarder);
}

void hosts_release(struct hosts *hosts)
{
	struct forwarder *forwarder = hosts->forwarder;

	if (forwarder) {
		close(forwarder->stop[1]);
		pthread_join(forwarder->thread, NULL);
		close(forwarder->stop[0]);
		free(forwarder->polls);
		free(forwarder);
	}
	dw_launch_destroy(hosts->launch);
}
