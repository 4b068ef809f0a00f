// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Reads a file of DW_TRACE line by line: the file may be too large to keep in memory as JSON. Lines
 * that are no events (the brackets, torn lines of a killed process) are skipped. Where the root of
 * its tree was killed, its records are still beside it, and are made lines first.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "base/text.h"
#include "tool.h"
#include "trace/convert.h"
#include "trace_file.h"

static size_t hash(const char *text)
{
	size_t value = 14695981039346656037ULL;

	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * 1099511628211ULL;
	return value;
}

static bool names_grow(struct traced *traced)
{
	size_t space = traced->name_space ? 2 * traced->name_space : 256;
	char **names = calloc(space, sizeof(*names));

	if (!names)
		return false;
	for (size_t i = 0; i < traced->name_space; i++) {
		size_t at;

		if (!traced->names[i])
			continue;
		for (at = hash(traced->names[i]) & (space - 1); names[at];
		     at = (at + 1) & (space - 1))
			;
		names[at] = traced->names[i];
	}
	free(traced->names);
	traced->names = names;
	traced->name_space = space;
	return true;
}

/* The same pointer for the same text; NULL: no memory. */
static const char *intern(struct traced *traced, const char *text)
{
	size_t at;

	if (2 * (traced->name_count + 1) > traced->name_space && !names_grow(traced))
		return NULL;
	for (at = hash(text) & (traced->name_space - 1); traced->names[at];
	     at = (at + 1) & (traced->name_space - 1))
		if (!strcmp(traced->names[at], text))
			return traced->names[at];
	traced->names[at] = strdup(text);
	traced->name_count += traced->names[at] != NULL;
	return traced->names[at];
}

static const char *text_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "";
}

static uint64_t count_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

static uint64_t time_of(struct json_object *object, const char *key)
{
	struct json_object *value;
	double ns;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	ns = json_object_get_double(value) * 1000 + 0.5;
	return ns > 0 && ns < 9e18 ? (uint64_t)ns : 0;
}

/* Makes room for one more element of `size` bytes. */
static bool room(void **array, size_t count, size_t *space, size_t size)
{
	size_t wanted = *space ? 2 * *space : 1024;
	void *grown;

	if (count < *space)
		return true;
	grown = realloc(*array, wanted * size);
	if (!grown)
		return false;
	*array = grown;
	*space = wanted;
	return true;
}

static bool add_task(struct traced *traced, struct json_object *event, struct json_object *args)
{
	static const char *const keys[STAMPS] = {
		"submitted", "ready", "dispatched", "started", "ended", "completed",
	};
	const char *state = text_of(args, "state");
	struct traced_task *task;

	if (!room((void **)&traced->tasks, traced->task_count, &traced->task_space, sizeof(*task)))
		return false;
	task = &traced->tasks[traced->task_count++];
	*task = (struct traced_task){
		.name = intern(traced, text_of(event, "name")),
		.callable = intern(traced, text_of(args, "callable")),
		.owner = intern(traced, text_of(args, "owner")),
		.worker = intern(traced, text_of(args, "worker")),
		.run = count_of(args, "run"), .task = count_of(args, "task"),
		.state = !strcmp(state, "done") ? TRACED_DONE :
			 !strcmp(state, "failed") ? TRACED_FAILED : TRACED_SKIPPED,
	};
	for (int i = 0; i < STAMPS; i++)
		task->stamps[i] = time_of(args, keys[i]);
	return task->name && task->callable && task->owner && task->worker;
}

static bool add_edge(struct traced *traced, struct json_object *args)
{
	struct traced_edge *edge;

	if (!room((void **)&traced->edges, traced->edge_count, &traced->edge_space, sizeof(*edge)))
		return false;
	edge = &traced->edges[traced->edge_count++];
	*edge = (struct traced_edge){
		.owner = intern(traced, text_of(args, "owner")), .run = count_of(args, "run"),
		.from = count_of(args, "from"), .to = count_of(args, "to"),
	};
	return edge->owner;
}

static bool add_event(struct traced *traced, struct json_object *event)
{
	const char *phase = text_of(event, "ph");
	struct json_object *args;

	if (!json_object_object_get_ex(event, "args", &args))
		return true;
	if (!strcmp(phase, "X") && !strcmp(text_of(event, "cat"), "blocked")) {
		traced->blocked += time_of(event, "dur");
		return true;
	}
	if (!strcmp(phase, "X"))
		return add_task(traced, event, args);
	return strcmp(phase, "s") ? true : add_edge(traced, args);
}

/* Until the file ends; false: no memory. */
static bool read_lines(FILE *file, struct json_tokener *tokener, struct traced *traced)
{
	struct json_object *event;
	size_t space = 0;
	char *line = NULL;
	ssize_t length;
	bool good = true;

	while (good && (length = getline(&line, &space, file)) > 0) {
		if (line[0] != '{')
			continue;
		json_tokener_reset(tokener);
		event = json_tokener_parse_ex(tokener, line, (int)length);
		if (!event)
			continue;
		good = add_event(traced, event);
		json_object_put(event);
	}
	free(line);
	return good;
}

static int write_text(void *context, const char *text, size_t bytes)
{
	return fwrite(text, 1, bytes, context) == bytes ? 0 : -errno;
}

static int finish_into(const char *path, int records, FILE *file)
{
	int error = 0;

	if (flock(fileno(file), LOCK_EX | LOCK_NB))
		return tool_fail(TOOL_NO_TRACE, "%s: its tree still runs, and writes to %s%s", path,
				 path, TRACE_RECORDS_SUFFIX);
	if (ftruncate(fileno(file), 0))
		error = -errno;
	if (!error)
		error = write_text(file, TRACE_FIRST_LINE, strlen(TRACE_FIRST_LINE));
	if (!error)
		error = convert_file(records, write_text, file);
	if (!error)
		error = write_text(file, TRACE_LAST_LINE, strlen(TRACE_LAST_LINE));
	if (!error && fflush(file))
		error = -errno;
	return error ? tool_fail(TOOL_SYSTEM, "%s cannot be made from its records: %s", path,
				 strerror(-error)) : TOOL_OK;
}

/* Where there are records beside the file, it becomes what they say. */
static int finish(const char *path)
{
	char name[PATH_MAX];
	int records, result;
	FILE *file;

	if (text_format(name, sizeof(name), "%s%s", path, TRACE_RECORDS_SUFFIX) >= PATH_MAX)
		return TOOL_OK;
	records = open(name, O_RDONLY | O_CLOEXEC);
	if (records < 0)
		return TOOL_OK;
	file = fopen(path, "ae");
	result = file ? finish_into(path, records, file) :
			tool_fail(TOOL_NO_TRACE, "%s: %s", path, strerror(errno));
	if (file)
		fclose(file);
	close(records);
	if (result == TOOL_OK)
		unlink(name);
	return result;
}

int traced_read(const char *path, struct traced *traced)
{
	struct json_tokener *tokener;
	FILE *file;
	bool good;
	int result = finish(path);

	*traced = (struct traced){ 0 };
	if (result)
		return result;
	file = fopen(path, "r");
	if (!file)
		return tool_fail(TOOL_NO_TRACE, "%s: %s", path, strerror(errno));
	tokener = json_tokener_new();
	good = tokener && read_lines(file, tokener, traced);
	if (tokener)
		json_tokener_free(tokener);
	fclose(file);
	if (!good)
		return tool_fail(TOOL_SYSTEM, "no memory for %s", path);
	if (!traced->task_count)
		return tool_fail(TOOL_NO_TRACE, "%s has no tasks; it should be a file of DW_TRACE",
				 path);
	return TOOL_OK;
}

void traced_release(struct traced *traced)
{
	for (size_t i = 0; i < traced->name_space; i++)
		free(traced->names[i]);
	free(traced->names);
	free(traced->tasks);
	free(traced->edges);
}
