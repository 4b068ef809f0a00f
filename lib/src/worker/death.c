/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See death.h. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "base/text.h"
#include "worker/hierarchy.h"

#define SECOND 1000000000ULL
#define WINDOW (sizeof(((struct death_record *)0)->window) / sizeof(uint32_t))

struct why_call {
	struct child *child;
	char why[sizeof(((struct death_record *)0)->why)];
};

static void take_why(void *context)
{
	struct why_call *call = context;

	memcpy(call->why, call->child->death.why, sizeof(call->why));
	call->child->death.why[0] = '\0';
}

static void set_why(void *context)
{
	struct why_call *call = context;

	if (!call->child->death.why[0])
		memcpy(call->child->death.why, call->why, sizeof(call->why));
}

void death_because(struct child *child, const char *why)
{
	struct why_call call = { .child = child };

	text_copy(call.why, sizeof(call.why), why);
	engine_locked(child->owner->life.engine, set_why, &call);
}

void death_because_engine_locked(struct child *child, const char *why)
{
	text_copy(child->death.why, sizeof(child->death.why), why);
}

void death_take_why(struct child *child, char *text, size_t space)
{
	struct why_call call = { .child = child };

	engine_locked(child->owner->life.engine, take_why, &call);
	text_copy(text, space, call.why);
}

void death_describe(struct child *child, int status, char *text, size_t space)
{
	struct why_call call = { .child = child };

	engine_locked(child->owner->life.engine, take_why, &call);
	if (!call.why[0] && child->life.stopped)
		text_format(call.why, sizeof(call.why), "it was stopped by %s",
			 error_signal_name(child->life.stopped));
	if (WIFSIGNALED(status))
		text_format(text, space, "killed by %s, pid %d%s%s%s",
			 error_signal_name(WTERMSIG(status)), (int)child->life.pid,
			 call.why[0] ? " (" : "", call.why, call.why[0] ? ")" : "");
	else if (child->life.error)
		text_copy(text, space, child->life.error_text);
	else
		text_format(text, space, "exited with status %d, pid %d", WEXITSTATUS(status),
			 (int)child->life.pid);
}

/* Moves the window of 60 s so that `second` is its last one. */
static void move_window(struct child *child, uint64_t second)
{
	uint64_t gone = second - child->death.window_second;

	if (gone >= WINDOW)
		memset(child->death.window, 0, sizeof(child->death.window));
	else
		for (uint64_t s = child->death.window_second + 1; s <= second; s++)
			child->death.window[s % WINDOW] = 0;
	child->death.window_second = second;
}

bool death_is_loop(struct child *child, const char *cause)
{
	struct death *death = &child->death.history[child->death.count++ % DEATH_HISTORY];
	uint64_t recent = 0;

	death->at = now_ns();
	text_copy(death->cause, sizeof(death->cause), cause);
	move_window(child, death->at / SECOND);
	child->death.window[child->death.window_second % WINDOW]++;
	for (size_t i = 0; i < WINDOW; i++)
		recent += child->death.window[i];
	return recent >= child->owner->options.restart_limit;
}

void death_history(const struct child *child, char *text, size_t space)
{
	uint32_t known = child->death.count < DEATH_HISTORY ? child->death.count : DEATH_HISTORY;
	size_t used = strlen(text);
	uint64_t now = now_ns();

	used += (size_t)text_format(text + used, space - used,
				    "; given up after %u deaths within 60 s",
				    child->owner->options.restart_limit);
	/* The newest comes first. */
	for (uint32_t back = 2; back <= known && used < space; back++) {
		const struct death *death =
			&child->death.history[(child->death.count - back) % DEATH_HISTORY];

		used += (size_t)text_format(text + used, space - used, "%s%s %.1f s ago",
					 back == 2 ? ": before it " : ", ", death->cause,
					 (double)(now - death->at) / SECOND);
	}
}
