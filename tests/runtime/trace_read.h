/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Reads a file of DW_TRACE with a parser that is not ours, for tests of its contents. */
#ifndef TESTS_TRACE_READ_H
#define TESTS_TRACE_READ_H

#include <json-c/json.h>
#include "runtime.h"

/* One slice or end of an arrow; times in ns. */
#define BLOCKED 'w'
struct event {
	char phase;			/* as in the file; of a blocked worker's slice BLOCKED */
	char name[256], state[16], path[96], id[32];
	int pid, tid;
	uint64_t at, duration;
	uint64_t run, task, stamps[6];
	unsigned stamp_count;
	bool hit;
};

struct trace_read {
	struct event *events;
	unsigned count;
	json_object *json;
};

static const char *const stamp_names[] = {
	"submitted", "ready", "dispatched", "started", "ended", "completed",
};

static inline uint64_t read_time(json_object *object, const char *key)
{
	json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	return (uint64_t)(json_object_get_double(value) * 1000 + 0.5);
}

static inline const char *read_text(json_object *object, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "";
}

static inline void read_event(json_object *object, struct event *event)
{
	json_object *args;

	event->phase = read_text(object, "ph")[0];
	if (!strcmp(read_text(object, "cat"), "blocked"))
		event->phase = BLOCKED;
	snprintf(event->name, sizeof(event->name), "%s", read_text(object, "name"));
	snprintf(event->id, sizeof(event->id), "%s", read_text(object, "id"));
	event->pid = atoi(read_text(object, "pid"));
	event->tid = atoi(read_text(object, "tid"));
	event->at = read_time(object, "ts");
	event->duration = read_time(object, "dur");
	if (!json_object_object_get_ex(object, "args", &args))
		return;
	snprintf(event->state, sizeof(event->state), "%s", read_text(args, "state"));
	snprintf(event->path, sizeof(event->path), "%s",
		 event->phase == 'M' ? read_text(args, "name") : read_text(args, "worker"));
	event->run = (uint64_t)atoll(read_text(args, "run"));
	event->task = (uint64_t)atoll(read_text(args, "task"));
	for (unsigned i = 0; i < 6; i++) {
		json_object *value;

		if (!json_object_object_get_ex(args, stamp_names[i], &value))
			continue;
		event->stamps[event->stamp_count++] = read_time(args, stamp_names[i]);
	}
}

static inline bool trace_read(const char *path, struct trace_read *trace)
{
	memset(trace, 0, sizeof(*trace));
	trace->json = json_object_from_file(path);
	if (!trace->json || !json_object_is_type(trace->json, json_type_array)) {
		printf("# %s: %s\n", path, trace->json ? "no array" : json_util_get_last_err());
		return false;
	}
	trace->count = (unsigned)json_object_array_length(trace->json);
	trace->events = calloc(trace->count, sizeof(*trace->events));
	for (unsigned i = 0; i < trace->count; i++)
		read_event(json_object_array_get_idx(trace->json, i), &trace->events[i]);
	return true;
}

static inline void trace_free(struct trace_read *trace)
{
	json_object_put(trace->json);
	free(trace->events);
}

static inline unsigned trace_slices(const struct trace_read *trace)
{
	unsigned count = 0;

	for (unsigned i = 0; i < trace->count; i++)
		count += trace->events[i].phase == 'X';
	return count;
}

/* The slice of a task, by its name. */
static inline struct event *trace_find(const struct trace_read *trace, const char *name)
{
	for (unsigned i = 0; i < trace->count; i++)
		if (trace->events[i].phase == 'X' && !strcmp(trace->events[i].name, name))
			return &trace->events[i];
	return NULL;
}

/* The slice that an end of an arrow is bound to, as viewers do it. */
static inline struct event *trace_bound(const struct trace_read *trace, const struct event *end)
{
	for (unsigned i = 0; i < trace->count; i++) {
		struct event *slice = &trace->events[i];

		if (slice->phase == 'X' && slice->pid == end->pid && slice->tid == end->tid &&
		    slice->at <= end->at && end->at <= slice->at + slice->duration)
			return slice;
	}
	return NULL;
}

/* Checks that the stamps are in order, with the slice between `started` and `ended`. */
static inline void check_stamps(const struct trace_read *trace)
{
	for (unsigned i = 0; i < trace->count; i++) {
		const struct event *event = &trace->events[i];

		if (event->phase != 'X')
			continue;
		if (!strcmp(event->state, "skipped")) {
			CHECK_EQ(event->stamp_count, 2);
		} else if (CHECK_EQ(event->stamp_count, 6)) {
			CHECK_EQ(event->at, event->stamps[3]);
			CHECK(event->at + event->duration <= event->stamps[4] + 1 &&
			      event->at + event->duration + 1 >= event->stamps[4]);
		}
		for (unsigned k = 1; k < event->stamp_count; k++)
			if (!CHECK(event->stamps[k - 1] <= event->stamps[k]))
				printf("# task \"%s\": stamp %u\n", event->name, k);
	}
}

#endif
