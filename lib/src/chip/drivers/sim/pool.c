/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Helper threads of a device: they sleep until pool_start(), and a helper that wakes up after
 * pool_finish() goes back to sleep. The caller of pool_start() works too, so that it never waits
 * for a helper that has not been scheduled yet.
 */
#include <signal.h>
#include "internal.h"

static void *helper(void *argument)
{
	struct pool *pool = argument;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (!pool->wanted && !pool->stop)
			pthread_cond_wait(&pool->wanted_some, &pool->lock);
		if (pool->stop)
			break;
		pool->wanted--;
		pool->active++;
		pthread_mutex_unlock(&pool->lock);
		pool->work(pool->context);
		pthread_mutex_lock(&pool->lock);
		if (--pool->active == 0)
			pthread_cond_signal(&pool->all_left);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int pool_create(struct pool *pool, uint32_t limit, struct dw_chip_error *error)
{
	pool->limit = limit;
	pool->threads = calloc(limit ? limit : 1, sizeof(*pool->threads));
	if (!pool->threads)
		return kit_fail(error, -ENOMEM, "sim: no memory for %u threads", limit);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted_some, NULL);
	pthread_cond_init(&pool->all_left, NULL);
	return 0;
}

void pool_destroy(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->wanted_some);
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < pool->started; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->all_left);
	pthread_cond_destroy(&pool->wanted_some);
	pthread_mutex_destroy(&pool->lock);
	free(pool->threads);
}

/* A thread that cannot be created is no error: the caller does the work. */
static void helper_start(struct pool *pool)
{
	sigset_t all, before;

	/* Signals are the application's and go to its threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&pool->threads[pool->started], NULL, helper, pool) == 0)
		pool->started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void pool_start(struct pool *pool, pool_work *work, void *context, uint32_t helpers)
{
	if (helpers > pool->limit)
		helpers = pool->limit;
	if (helpers == 0)
		return;
	while (pool->started < helpers) {
		uint32_t before = pool->started;

		helper_start(pool);
		if (pool->started == before)
			break;
	}
	pthread_mutex_lock(&pool->lock);
	pool->work = work;
	pool->context = context;
	pool->wanted = helpers < pool->started ? helpers : pool->started;
	if (pool->wanted == 1)
		pthread_cond_signal(&pool->wanted_some);
	else
		pthread_cond_broadcast(&pool->wanted_some);
	pthread_mutex_unlock(&pool->lock);
}

void pool_finish(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->wanted = 0;
	while (pool->active)
		pthread_cond_wait(&pool->all_left, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}
