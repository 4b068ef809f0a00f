/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind relay.h. The lines are those that trace.c and copies.c write. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "task/error.h"
#include "trace/relay.h"
#include "trace/text_out.h"

/* Processes of the other host, with those that had died. */
#define LANES_MOST 65536

struct lane {
	int32_t there, here;
};

struct relay {
	char *host;
	int32_t self; /* this process */
	struct lane *lanes;
	uint32_t count, room;
	struct trace_lines lines;
};

int relay_create(const struct trace_files *files, const char *host, struct relay **relay)
{
	struct relay *made;

	*relay = NULL;
	if (!files->json)
		return 0;
	made = calloc(1, sizeof(*made));
	if (made)
		made->host = strdup(host);
	if (!made || !made->host) {
		free(made);
		return error_set(-ENOMEM, "no memory for the trace of host %s", host);
	}
	made->self = getpid();
	made->lines.file = files->json;
	trace_file_join(files->json);
	*relay = made;
	return 0;
}

/* ------------------------------------------------------------------------- lanes */

static struct lane *find_lane(const struct relay *relay, int32_t there)
{
	for (uint32_t i = relay->count; i-- > 0;)
		if (relay->lanes[i].there == there)
			return &relay->lanes[i];
	return NULL;
}

static bool add_lane(struct relay *relay, int32_t there, int32_t here)
{
	uint32_t room = relay->room ? 2 * relay->room : 16;
	struct lane *grown = relay->lanes;

	if (relay->count == LANES_MOST)
		return false;
	if (relay->count == relay->room) {
		grown = realloc(relay->lanes, room * sizeof(*grown));
		if (!grown)
			return false;
		relay->room = room;
	}
	relay->lanes = grown;
	relay->lanes[relay->count++] = (struct lane){ there, here };
	return true;
}

/* Viewers show the label beside the process. */
static void label_lane(struct relay *relay, int32_t here)
{
	struct trace_lines *lines = &relay->lines;

	lines_begin(lines);
	lines_add(lines,
		  "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_labels\",\"args\":{\"labels\":",
		  here);
	lines_add_string(lines, relay->host);
	lines_end(lines, "}},");
}

/* The number here of a process there; 0: there is no room. */
static int32_t lane_of(struct relay *relay, int32_t there)
{
	const struct lane *lane = find_lane(relay, there);
	int32_t here;

	if (lane)
		return lane->here;
	here = trace_file_lane(relay->lines.file);
	if (!add_lane(relay, there, here))
		return 0;
	label_lane(relay, here);
	return here;
}

/* Of the Worker itself, which is another process when it has died and was made again. */
static bool know_worker(struct relay *relay, int32_t worker)
{
	return find_lane(relay, worker) || add_lane(relay, worker, relay->self);
}

/* ------------------------------------------------------------------------- lines */

/* What is known of a line while it is copied. */
struct line {
	const char *at, *end;
	const struct relay_clock *clock;
	int32_t pid; /* there; 0: not seen yet */
	uint64_t there_ns, here_ns; /* of 'ts' */
	char text[TRACE_LINE_BYTES];
	size_t used;
	bool failed;
};

static void put(struct line *line, const char *text, size_t bytes)
{
	if (bytes > sizeof(line->text) - line->used) {
		line->failed = true;
		return;
	}
	memcpy(line->text + line->used, text, bytes);
	line->used += bytes;
}

__attribute__((format(printf, 2, 3))) static void put_format(struct line *line,
							     const char *format, ...)
{
	char text[64] = "";
	va_list list;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	put(line, text, strlen(text));
}

/* A number of decimal digits, at which `line` stands; 0 without one. */
static uint64_t take_number(struct line *line)
{
	uint64_t value = 0;

	while (line->at < line->end && *line->at >= '0' && *line->at <= '9')
		value = value * 10 + (uint64_t)(*line->at++ - '0');
	return value;
}

/* Microseconds with three decimals, in ns. */
static uint64_t take_time(struct line *line)
{
	uint64_t ns = take_number(line) * 1000;

	if (line->end - line->at < 4 || *line->at != '.') {
		line->failed = true;
		return 0;
	}
	line->at++;
	return ns + take_number(line);
}

static void put_time(struct line *line, uint64_t ns)
{
	put_format(line, "%llu.%03u", (unsigned long long)(ns / 1000), (unsigned int)(ns % 1000));
}

static uint64_t moment_here(const struct line *line, uint64_t ns)
{
	ns = line->clock->here(line->clock->context, ns);
	/* Before the clock here began. */
	return (int64_t)ns < 0 ? 0 : ns;
}

static void copy_time(struct line *line, bool is_begin)
{
	uint64_t there = take_time(line), here = moment_here(line, there);

	if (is_begin) {
		line->there_ns = there;
		line->here_ns = here;
	}
	put_time(line, here);
}

/* A slice ends here where its end is, behind its `ts`. */
static void copy_duration(struct line *line)
{
	uint64_t there = take_time(line);

	put_time(line, moment_here(line, line->there_ns + there) - line->here_ns);
}

/* The main thread's number is that of its process; the others' are unique within it. */
static void copy_number(struct relay *relay, struct line *line, bool thread)
{
	int32_t there = (int32_t)take_number(line);
	bool other = thread && there != line->pid;
	int32_t here = other ? there : lane_of(relay, there);

	if (!thread)
		line->pid = there;
	line->failed |= !other && !here;
	put_format(line, "%d", here);
}

/* "0x…": a process, and a number of its own; or a number alone. */
static void copy_id(struct relay *relay, struct line *line)
{
	uint64_t id = 0;
	int32_t here = 0;

	if (line->end - line->at < 3 || memcmp(line->at, "\"0x", 3) != 0) {
		line->failed = true;
		return;
	}
	for (line->at += 3; line->at < line->end && *line->at != '"'; line->at++)
		id = id << 4 | (uint64_t)(*line->at <= '9' ? *line->at - '0' :
							      (*line->at & 15) + 9);
	if (id >> 32) {
		here = lane_of(relay, (int32_t)(id >> 32));
		line->failed |= !here;
	}
	put_format(line, "\"0x%llx", (unsigned long long)here << 32 | (id & UINT32_MAX));
}

static bool is_next(const struct line *line, const char *key)
{
	size_t bytes = strlen(key);

	return (size_t)(line->end - line->at) >= bytes && memcmp(line->at, key, bytes) == 0;
}

/* The value behind a key that has to be changed. A key within a text has its quotes escaped. */
static void copy_value(struct relay *relay, struct line *line)
{
	static const char *const times[] = {
		"\"ts\":",	     "\"submitted\":", "\"ready\":",	    "\"dispatched\":",
		"\"started\":", "\"ended\":",     "\"completed\":",
	};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (is_next(line, times[i])) {
			put(line, times[i], strlen(times[i]));
			line->at += strlen(times[i]);
			copy_time(line, i == 0);
			return;
		}
	if (is_next(line, "\"pid\":") || is_next(line, "\"tid\":")) {
		bool thread = line->at[1] == 't';

		put(line, line->at, 6);
		line->at += 6;
		copy_number(relay, line, thread);
	} else if (is_next(line, "\"dur\":")) {
		put(line, line->at, 6);
		line->at += 6;
		copy_duration(line);
	} else if (is_next(line, "\"id\":")) {
		put(line, line->at, 5);
		line->at += 5;
		copy_id(relay, line);
	} else {
		put(line, line->at++, 1);
	}
}

static void relay_line(struct relay *relay, const struct relay_clock *clock, const char *text,
		       size_t bytes)
{
	struct line line = { .at = text, .end = text + bytes, .clock = clock };
	bool escaped = false;

	if (!trace_line_is_whole(text, bytes, ','))
		return;
	while (line.at < line.end && !line.failed) {
		if (*line.at == '"' && !escaped) {
			copy_value(relay, &line);
			continue;
		}
		escaped = *line.at == '\\' && !escaped;
		put(&line, line.at++, 1);
	}
	if (line.failed || line.used >= TRACE_LINE_BYTES - 64)
		return;
	lines_begin(&relay->lines);
	lines_add(&relay->lines, "%.*s", (int)line.used, line.text);
	lines_end(&relay->lines, "");
}

void relay_lines(struct relay *relay, int32_t worker, const struct relay_clock *clock,
		 const char *lines, size_t bytes)
{
	const char *end = lines + bytes, *newline;

	if (!relay || !know_worker(relay, worker))
		return;
	for (; lines < end; lines = newline + 1) {
		newline = memchr(lines, '\n', (size_t)(end - lines));
		if (!newline)
			break;
		if (newline > lines)
			relay_line(relay, clock, lines, (size_t)(newline - lines));
	}
	/* This process may be killed before there are more. */
	lines_flush(&relay->lines);
}

void relay_destroy(struct relay *relay, const struct relay_clock *clock)
{
	struct trace_lines *lines;

	if (!relay)
		return;
	lines = &relay->lines;
	lines_begin(lines);
	lines_add(lines, "{\"ph\":\"M\",\"pid\":%d,\"name\":\"clock\",\"args\":{\"host\":",
		  relay->self);
	lines_add_string(lines, relay->host);
	lines_add(lines, ",\"ahead_ns\":%lld,\"error_ns\":%llu,\"round_trip_ns\":%llu",
		  (long long)clock->ahead_ns, (unsigned long long)clock->error_ns,
		  (unsigned long long)clock->round_trip_ns);
	lines_end(lines, "}},");
	lines_flush(lines);
	trace_file_leave(lines->file);
	free(relay->lanes);
	free(relay->host);
	free(relay);
}
