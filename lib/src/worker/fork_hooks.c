/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See fork_hooks.h. The lock guards the list, and is held over a fork as others are. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "callable/symbol.h"
#include "task/error.h"
#include "task/options.h"
#include "task/running.h"
#include "worker/fork_hooks.h"

static pthread_mutex_t hooks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct dw_fork_hooks *hooks;
static size_t hook_count;

/* ------------------------------------------------------------------- the list */

static int read_hooks(struct dw_fork_hooks *read, const struct dw_fork_hooks *given,
		      const char *call)
{
	int result = options_read(read, sizeof(*read), given, "dw_fork_hooks");

	if (result == 0 && !read->prepare && !read->parent && !read->child && !read->start)
		result = error_set(-EINVAL, "%s: no function is set", call);
	return result;
}

static bool is_same(const struct dw_fork_hooks *a, const struct dw_fork_hooks *b)
{
	return a->prepare == b->prepare && a->parent == b->parent && a->child == b->child &&
	       a->start == b->start && a->context == b->context;
}

DW_API int dw_fork_hooks_add(const struct dw_fork_hooks *given)
{
	struct dw_fork_hooks added, *grown;
	int result = read_hooks(&added, given, "dw_fork_hooks_add");

	if (result < 0)
		return result;
	pthread_mutex_lock(&hooks_lock);
	grown = realloc(hooks, (hook_count + 1) * sizeof(*grown));
	if (grown) {
		hooks = grown;
		hooks[hook_count++] = added;
	}
	pthread_mutex_unlock(&hooks_lock);
	return grown ? 0 : error_set(-ENOMEM, "no memory for hooks around forks");
}

DW_API int dw_fork_hooks_remove(const struct dw_fork_hooks *given)
{
	struct dw_fork_hooks removed;
	int result = read_hooks(&removed, given, "dw_fork_hooks_remove");
	size_t i;

	if (result < 0)
		return result;
	pthread_mutex_lock(&hooks_lock);
	for (i = hook_count; i > 0 && !is_same(&hooks[i - 1], &removed); i--)
		;
	if (i) {
		memmove(&hooks[i - 1], &hooks[i], (hook_count - i) * sizeof(*hooks));
		hook_count--;
	}
	pthread_mutex_unlock(&hooks_lock);
	return i ? 0 : error_set(-ENOENT, "dw_fork_hooks_remove: these hooks were not added");
}

static bool copy_hooks(struct fork_hooks *copy)
{
	*copy = (struct fork_hooks){ 0 };
	pthread_mutex_lock(&hooks_lock);
	if (hook_count) {
		copy->hooks = malloc(hook_count * sizeof(*hooks));
		if (copy->hooks) {
			memcpy(copy->hooks, hooks, hook_count * sizeof(*hooks));
			copy->count = hook_count;
		}
	}
	pthread_mutex_unlock(&hooks_lock);
	return copy->count == hook_count;
}

/* ----------------------------------------------------------------------- calls */

int fork_hooks_prepare(struct fork_hooks *fork)
{
	if (!copy_hooks(fork))
		return error_set(-ENOMEM, "no memory for the hooks around a fork");
	for (size_t i = fork->count; i > 0; i--)
		if (fork->hooks[i - 1].prepare)
			fork->hooks[i - 1].prepare(fork->hooks[i - 1].context);
	return 0;
}

void fork_hooks_parent(struct fork_hooks *fork)
{
	for (size_t i = 0; i < fork->count; i++)
		if (fork->hooks[i].parent)
			fork->hooks[i].parent(fork->hooks[i].context);
	free(fork->hooks);
}

void fork_hooks_child(struct fork_hooks *fork)
{
	for (size_t i = 0; i < fork->count; i++)
		if (fork->hooks[i].child)
			fork->hooks[i].child(fork->hooks[i].context);
	free(fork->hooks);
}

pid_t fork_hooks_fork(void)
{
	pid_t pid;
	int error;

	symbol_lock();
	callable_lock();
	pthread_mutex_lock(&hooks_lock);
	pid = fork();
	error = errno;
	pthread_mutex_unlock(&hooks_lock);
	callable_unlock();
	symbol_unlock();
	errno = error;
	return pid;
}

int fork_hooks_start(const struct dw_child_start *start)
{
	struct running_task task;
	struct fork_hooks copy;
	int result = 0;

	if (!copy_hooks(&copy))
		return error_set(-ENOMEM, "no memory for the hooks of its start");
	for (size_t i = 0; i < copy.count && result == 0; i++) {
		if (!copy.hooks[i].start)
			continue;
		running_push(&task, NULL);
		result = running_pop(&task, copy.hooks[i].start(start, copy.hooks[i].context));
	}
	free(copy.hooks);
	return result < 0 ? error_prefix(result, "a hook at its start: ") : 0;
}
