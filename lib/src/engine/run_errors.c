/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See run_errors.h.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/run_errors.h"
#include "engine/task.h"

/* ------------------------------------------------------------------ collect */

void run_errors_add(struct run_errors *errors, const struct task *task, const char *path, int error,
		    const char *text)
{
	struct dw_run_error *entry;

	errors->count++;
	if (errors->kept == RUN_ERRORS_KEPT)
		return;
	if (!errors->entries)
		errors->entries = calloc(RUN_ERRORS_KEPT, sizeof(*errors->entries));
	if (!errors->entries)
		return;
	entry = &errors->entries[errors->kept++];
	entry->size = sizeof(*entry);
	entry->error = error;
	text_copy(entry->path, sizeof(entry->path), path);
	text_copy(entry->text, sizeof(entry->text), text);
	if (!task)
		return;
	entry->task = task->head.number;
	entry->attempts = task->attempts + 1u;
	text_fit(entry->name, sizeof(entry->name), task->name ? task->name : "");
	text_fit(entry->callable, sizeof(entry->callable), callable_title(task->callable));
}

const struct dw_run_error *run_errors_find(const struct run_errors *errors, uint64_t number)
{
	for (uint32_t i = 0; i < errors->kept; i++)
		if (errors->entries[i].task == number)
			return &errors->entries[i];
	return NULL;
}

void run_errors_free(struct run_errors *errors)
{
	free(errors->entries);
	*errors = (struct run_errors){ 0 };
}

/* --------------------------------------------------------- of a thread's last */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;
static _Thread_local struct run_errors last;

/* The thread ends: `value` is its own `last`. */
static void forget(void *value)
{
	run_errors_free(value);
}

static void make_key(void)
{
	has_key = pthread_key_create(&key, forget) == 0;
}

void run_errors_keep(struct run_errors *errors)
{
	run_errors_free(&last);
	if (!errors->count)
		return;
	if (errors->entries) {
		pthread_once(&once, make_key);
		/* Without it the texts would outlive the thread: the count stays. */
		if (!has_key || pthread_setspecific(key, &last)) {
			free(errors->entries);
			errors->entries = NULL;
			errors->kept = 0;
		}
	}
	last = *errors;
	*errors = (struct run_errors){ 0 };
}

const struct run_errors *run_errors_last(void)
{
	return &last;
}
