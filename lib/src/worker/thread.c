/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See thread.h. */
#include <signal.h>
#include "worker/hierarchy.h"

static void *thread_main(void *argument)
{
	struct child *child = argument;
	uint32_t generation = child->life.generation;

	child->owner->entry(child, generation, false);
	pthread_mutex_lock(&child->owner->lock);
	child->thread.over = true;
	pthread_cond_broadcast(&child->owner->changed);
	link_send(child->link.child, LINK_OVER, generation, 0, NULL);
	pthread_mutex_unlock(&child->owner->lock);
	return NULL;
}

/*
 * A thread of the library blocks the application's signals, but not the signals of its own faults.
 */
static void block_signals(sigset_t *before)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
	sigset_t mask;

	sigfillset(&mask);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&mask, own[i]);
	pthread_sigmask(SIG_SETMASK, &mask, before);
}

int thread_start(struct child *child)
{
	sigset_t before;
	int error;

	child->thread.over = false;
	block_signals(&before);
	error = pthread_create(&child->thread.thread, NULL, thread_main, child);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return error_set(-error, "%s: cannot start its thread: %s%s", child->path,
				 error_name(error), error_hint(error));
	child->thread.started = true;
	return 0;
}

void thread_join(struct child *child)
{
	pthread_join(child->thread.thread, NULL);
	child->thread.started = false;
}
