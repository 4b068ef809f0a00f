/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind convert.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "depend/tensor_map.h"
#include "trace/convert.h"
#include "trace/record.h"
#include "trace/text_out.h"

/* A file that says more is none of ours. */
#define WRITERS_MOST	(1u << 22)
#define LANES_MOST	(1u << 16)

/* ------------------------------------------------------------------ fields */

/* What is left of a chunk. */
struct input {
	const unsigned char *at, *end;
	bool failed;			/* it ends in the middle of a record, or is none */
};

static uint64_t take_number(struct input *input)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		if (input->at == input->end)
			break;
		value |= (uint64_t)(*input->at & 0x7f) << shift;
		if (!(*input->at++ & 0x80))
			return value;
	}
	input->failed = true;
	return 0;
}

struct text {
	const char *at;
	size_t length;
};

static struct text take_text(struct input *input)
{
	struct text text = { .at = (const char *)input->at, .length = take_number(input) };

	text.at = (const char *)input->at;
	if (input->failed || text.length > RECORD_TEXT_BYTES ||
	    text.length > (size_t)(input->end - input->at)) {
		input->failed = true;
		return (struct text){ "", 0 };
	}
	input->at += text.length;
	return text;
}

/* ------------------------------------------------------------------- state */

/* A name as it stands in JSON. */
struct name {
	char *text;
	size_t length;
};

struct lane {
	uint32_t pid, tid;
	struct name path;
};

struct converter {
	uint64_t moment;
	uint32_t name_count, lane_count, lane_space;
	struct name names[RECORD_NAMES];
	struct lane own, *lanes;
	struct record_counters shown;
	bool counted;
	uint64_t copied;		/* bytes, so far */
};

struct converter *converter_create(void)
{
	return calloc(1, sizeof(struct converter));
}

static void forget_names(struct converter *converter)
{
	for (uint32_t i = 0; i < converter->name_count; i++)
		free(converter->names[i].text);
	converter->name_count = 0;
}

void converter_destroy(struct converter *converter)
{
	if (!converter)
		return;
	forget_names(converter);
	for (uint32_t i = 0; i < converter->lane_count; i++)
		free(converter->lanes[i].path.text);
	free(converter->lanes);
	free(converter->own.path.text);
	free(converter);
}

/* The line that is begun in `out` has room for it. false: no memory. */
static bool keep_name(struct text_out *out, struct text text, struct name *name)
{
	size_t before;

	out_begin_line(out);
	before = out->used;
	out_escaped(out, text.at, text.length);
	name->length = out->used - before;
	out->used = before;
	name->text = malloc(name->length + 1);
	if (name->text)
		memcpy(name->text, out->text + before, name->length);
	return name->text;
}

static uint64_t take_moment(struct converter *converter, struct input *input)
{
	uint64_t since = take_number(input);

	converter->moment += since >> 1 ^ -(since & 1);
	return converter->moment;
}

static const struct name *take_name(struct converter *converter, struct input *input)
{
	uint64_t number = take_number(input);

	if (!number || number > converter->name_count)
		return NULL;
	return &converter->names[number - 1];
}

static const struct lane *take_lane(struct converter *converter, struct input *input)
{
	uint64_t number = take_number(input);

	if (!number)
		return &converter->own;
	if (number <= converter->lane_count)
		return &converter->lanes[number - 1];
	input->failed = true;
	return &converter->own;
}

static void put_name(struct text_out *out, const struct name *name)
{
	OUT(out, "\"");
	if (name && name->text)
		out_put(out, name->text, name->length);
	OUT(out, "\"");
}

static void put_lane(struct text_out *out, const struct lane *lane)
{
	OUT(out, "\"pid\":");
	out_number(out, lane->pid);
	OUT(out, ",\"tid\":");
	out_number(out, lane->tid);
}

static void put_id(struct text_out *out, const struct converter *converter, uint64_t id)
{
	OUT(out, ",\"id\":\"0x");
	out_hex(out, (uint64_t)converter->own.pid << 32 | (uint32_t)id);
	OUT(out, "\"");
}

/* ----------------------------------------------------------------- records */

static void name_lane(struct text_out *out, const struct lane *lane, bool process)
{
	if (process) {
		out_begin_line(out);
		OUT(out, "{\"ph\":\"M\",\"pid\":");
		out_number(out, lane->pid);
		OUT(out, ",\"name\":\"process_name\",\"args\":{\"name\":");
		put_name(out, &lane->path);
		OUT(out, "}},\n");
	}
	out_begin_line(out);
	OUT(out, "{\"ph\":\"M\",");
	put_lane(out, lane);
	OUT(out, ",\"name\":\"thread_name\",\"args\":{\"name\":");
	put_name(out, &lane->path);
	OUT(out, "}},\n");
}

static void take_lane_record(struct converter *converter, struct input *input, struct text_out *out,
			     bool own)
{
	struct lane lane = { .pid = (uint32_t)take_number(input) };
	bool named;
	struct text path;

	lane.tid = (uint32_t)take_number(input);
	named = take_number(input);
	path = take_text(input);
	if (!own && converter->lane_count == converter->lane_space) {
		uint32_t space = converter->lane_space ? 2 * converter->lane_space : 16;
		struct lane *grown = space > LANES_MOST ? NULL :
			realloc(converter->lanes, space * sizeof(*grown));

		input->failed |= !grown;
		if (grown) {
			converter->lanes = grown;
			converter->lane_space = space;
		}
	}
	if (input->failed || !keep_name(out, path, &lane.path)) {
		input->failed = true;
		return;
	}
	if (own) {
		free(converter->own.path.text);
		converter->own = lane;
	} else {
		converter->lanes[converter->lane_count++] = lane;
	}
	if (!own || named)
		name_lane(out, &lane, named);
}

static void take_name_record(struct converter *converter, struct input *input, struct text_out *out)
{
	struct text text = take_text(input);

	if (converter->name_count == RECORD_NAMES)
		input->failed = true;
	if (input->failed)
		return;
	if (keep_name(out, text, &converter->names[converter->name_count]))
		converter->name_count++;
	else
		input->failed = true;
}

struct task {
	uint64_t flags, number, run, submitted, later[5], member, attempt, because_of;
	const struct name *name, *callable;
	const struct lane *lane;
};

static void put_task(struct text_out *out, const struct converter *converter,
		     const struct task *task, uint64_t started, uint64_t duration)
{
	static const char *const states[] = { "done", "failed", "skipped", "skipped" };
	const char *state = states[task->flags & RECORD_STATE];

	out_begin_line(out);
	OUT(out, "{\"ph\":\"X\",\"name\":");
	put_name(out, task->name ? task->name : task->callable);
	OUT(out, ",\"cat\":\"");
	out_put(out, state, strlen(state));
	OUT(out, "\",");
	put_lane(out, task->lane);
	OUT(out, ",\"ts\":");
	out_time(out, started);
	OUT(out, ",\"dur\":");
	out_time(out, duration);
	OUT(out, ",\"args\":{\"task\":");
	out_number(out, task->number);
	OUT(out, ",\"run\":");
	out_number(out, task->run);
	OUT(out, ",\"state\":\"");
	out_put(out, state, strlen(state));
	OUT(out, "\",\"owner\":");
	put_name(out, &converter->own.path);
	OUT(out, ",\"callable\":");
	put_name(out, task->callable);
	OUT(out, ",\"submitted\":");
	out_time(out, task->submitted);
}

static void put_ran(struct text_out *out, const struct converter *converter,
		    const struct task *task)
{
	static const char *const keys[] = {
		",\"ready\":", ",\"dispatched\":", ",\"started\":", ",\"ended\":",
		",\"completed\":",
	};
	uint64_t stamp = task->submitted;

	put_task(out, converter, task,
		 task->submitted + task->later[0] + task->later[1] + task->later[2],
		 task->later[3]);
	for (int i = 0; i < 5; i++) {
		stamp += task->later[i];
		out_put(out, keys[i], strlen(keys[i]));
		out_time(out, stamp);
	}
	OUT(out, ",\"worker\":");
	put_name(out, &task->lane->path);
	if (task->member) {
		OUT(out, ",\"member\":");
		out_number(out, task->member - 1);
	}
	if (task->attempt) {
		OUT(out, ",\"attempt\":");
		out_number(out, task->attempt);
	}
	OUT(out, "}},\n");
}

static void take_task(struct converter *converter, struct input *input, struct text_out *out)
{
	struct task task = { .flags = take_number(input), .lane = &converter->own };

	task.number = take_number(input);
	task.run = take_number(input);
	task.name = take_name(converter, input);
	task.callable = take_name(converter, input);
	task.submitted = take_moment(converter, input);
	if (task.flags & RECORD_RAN) {
		task.lane = take_lane(converter, input);
		for (int i = 0; i < 5; i++)
			task.later[i] = take_number(input);
		task.member = take_number(input);
		task.attempt = take_number(input);
		if (!input->failed)
			put_ran(out, converter, &task);
		return;
	}
	task.later[0] = take_number(input);
	task.because_of = take_number(input);
	if (input->failed)
		return;
	put_task(out, converter, &task, task.submitted + task.later[0], 0);
	OUT(out, ",\"completed\":");
	out_time(out, task.submitted + task.later[0]);
	if (task.because_of) {
		OUT(out, ",\"because_of\":");
		out_number(out, task.because_of);
	}
	OUT(out, "}},\n");
}

static void take_blocked(struct converter *converter, struct input *input, struct text_out *out)
{
	const struct lane *lane = take_lane(converter, input);
	uint64_t task = take_number(input), run = take_number(input);
	uint64_t begun = take_moment(converter, input), ns = take_number(input);

	if (input->failed)
		return;
	out_begin_line(out);
	OUT(out, "{\"ph\":\"X\",\"name\":\"blocked\",\"cat\":\"blocked\",");
	put_lane(out, lane);
	OUT(out, ",\"ts\":");
	out_time(out, begun);
	OUT(out, ",\"dur\":");
	/* Arrows to the task are bound to the slice that begins where this one ends. */
	out_time(out, ns - (ns > 0));
	OUT(out, ",\"args\":{\"task\":");
	out_number(out, task);
	OUT(out, ",\"run\":");
	out_number(out, run);
	OUT(out, ",\"owner\":");
	put_name(out, &converter->own.path);
	OUT(out, ",\"worker\":");
	put_name(out, &lane->path);
	OUT(out, "}},\n");
}

static void put_reasons(struct text_out *out, uint64_t reasons)
{
	static const struct { uint8_t reason; const char *name; } all[] = {
		{ EDGE_RAW, "RAW" }, { EDGE_WAR, "WAR" }, { EDGE_WAW, "WAW" },
		{ EDGE_EXPLICIT, "explicit" },
	};
	bool first = true;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (!(reasons & all[i].reason))
			continue;
		if (!first)
			OUT(out, "+");
		out_put(out, all[i].name, strlen(all[i].name));
		first = false;
	}
}

static void take_arrow(struct converter *converter, struct input *input, struct text_out *out,
		       bool begins)
{
	uint64_t id = take_number(input), reasons = take_number(input), at, from = 0, to = 0;
	const struct lane *lane = take_lane(converter, input);
	uint64_t run = 0;

	at = take_moment(converter, input);
	if (begins) {
		from = take_number(input);
		to = take_number(input);
		run = take_number(input);
	}
	if (input->failed)
		return;
	out_begin_line(out);
	if (begins)
		OUT(out, "{\"ph\":\"s\",\"cat\":\"dependency\",\"name\":\"");
	else
		OUT(out, "{\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"dependency\",\"name\":\"");
	put_reasons(out, reasons);
	OUT(out, "\"");
	put_id(out, converter, id);
	OUT(out, ",");
	put_lane(out, lane);
	OUT(out, ",\"ts\":");
	out_time(out, at);
	if (begins) {
		OUT(out, ",\"args\":{\"from\":");
		out_number(out, from);
		OUT(out, ",\"to\":");
		out_number(out, to);
		OUT(out, ",\"run\":");
		out_number(out, run);
		OUT(out, ",\"owner\":");
		put_name(out, &converter->own.path);
		OUT(out, "}");
	}
	OUT(out, "},\n");
}

static void take_run(struct converter *converter, struct input *input, struct text_out *out)
{
	uint64_t run = take_number(input), id = take_number(input);
	uint64_t begun = take_moment(converter, input), ended = begun + take_number(input);
	uint64_t tasks = take_number(input), error = take_number(input);

	for (int end = 0; end < 2 && !input->failed; end++) {
		out_begin_line(out);
		OUT(out, "{\"ph\":\"");
		out_put(out, end ? "e" : "b", 1);
		OUT(out, "\",\"cat\":\"run\",\"name\":\"run\"");
		put_id(out, converter, id);
		OUT(out, ",");
		put_lane(out, &converter->own);
		OUT(out, ",\"ts\":");
		out_time(out, end ? ended : begun);
		OUT(out, ",\"args\":{\"run\":");
		out_number(out, run);
		OUT(out, ",\"owner\":");
		put_name(out, &converter->own.path);
		OUT(out, ",\"tasks\":");
		out_number(out, tasks);
		OUT(out, ",\"error\":");
		out_number(out, error);
		OUT(out, "}},\n");
	}
}

/* A track of the process, with the Worker's name: several Workers may be threads of one. */
static void put_counter(struct text_out *out, const struct converter *converter, uint64_t at,
			const char *what, uint64_t value)
{
	out_begin_line(out);
	OUT(out, "{\"ph\":\"C\",");
	put_lane(out, &converter->own);
	OUT(out, ",\"name\":\"");
	if (converter->own.path.text)
		out_put(out, converter->own.path.text, converter->own.path.length);
	OUT(out, " ");
	out_put(out, what, strlen(what));
	OUT(out, "\",\"ts\":");
	out_time(out, at);
	OUT(out, ",\"args\":{\"");
	out_put(out, what, strlen(what));
	OUT(out, "\":");
	out_number(out, value);
	OUT(out, "}},\n");
}

static void take_copy(struct converter *converter, struct input *input, struct text_out *out)
{
	static const char *const ways[] = {
		[RECORD_IN] = "in", [RECORD_OUT] = "out", [RECORD_WITHIN] = "within",
	};
	uint64_t way = take_number(input), id = take_number(input), task = take_number(input);
	uint64_t tensor = take_number(input), bytes = take_number(input);
	uint64_t started = take_moment(converter, input), ended = started + take_number(input);

	input->failed |= way > RECORD_WITHIN;
	for (int end = 0; end < 2 && !input->failed; end++) {
		out_begin_line(out);
		OUT(out, "{\"ph\":\"");
		out_put(out, end ? "e" : "b", 1);
		OUT(out, "\",\"cat\":\"copy\"");
		put_id(out, converter, id);
		OUT(out, ",\"name\":\"copy ");
		out_put(out, ways[way], strlen(ways[way]));
		OUT(out, "\",");
		put_lane(out, &converter->own);
		OUT(out, ",\"ts\":");
		out_time(out, end ? ended : started);
		OUT(out, ",\"args\":{\"task\":");
		out_number(out, task);
		OUT(out, ",\"tensor\":");
		out_number(out, tensor);
		OUT(out, ",\"bytes\":");
		out_number(out, bytes);
		OUT(out, ",\"worker\":");
		put_name(out, &converter->own.path);
		OUT(out, "}},\n");
	}
	if (input->failed)
		return;
	converter->copied += bytes;
	put_counter(out, converter, ended, "bytes copied", converter->copied);
}

static void take_counters(struct converter *converter, struct input *input, struct text_out *out)
{
	uint64_t at = take_moment(converter, input);
	struct record_counters now = { .ready = take_number(input) };
	const struct record_counters before = converter->shown;
	bool first = !converter->counted;

	now.heap = take_number(input);
	now.wakes = take_number(input);
	if (input->failed)
		return;
	if (first || now.ready != before.ready)
		put_counter(out, converter, at, "ready tasks", now.ready);
	if (first || now.heap != before.heap)
		put_counter(out, converter, at, "heap bytes", now.heap);
	if (first || now.wakes != before.wakes)
		put_counter(out, converter, at, "wake-ups", now.wakes);
	converter->shown = now;
	converter->counted = true;
}

static void take_lines(struct input *input, struct text_out *out)
{
	const char *line = (const char *)input->at, *end = (const char *)input->end, *newline;

	for (; line < end; line = newline + 1) {
		size_t length;

		newline = memchr(line, '\n', (size_t)(end - line));
		if (!newline)
			break;
		length = (size_t)(newline - line);
		if (length >= OUT_LINE_BYTES - 2 || !trace_line_is_whole(line, length, ','))
			continue;
		out_begin_line(out);
		out_put(out, line, length + 1);
	}
	input->at = input->end;
}

void converter_take(struct converter *converter, const unsigned char *records, size_t bytes,
		    struct text_out *out)
{
	struct input input = { .at = records, .end = records + bytes };

	while (input.at < input.end && !input.failed) {
		switch (*input.at++) {
		case RECORD_WRITER: take_lane_record(converter, &input, out, true); break;
		case RECORD_NAME: take_name_record(converter, &input, out); break;
		case RECORD_FORGET: forget_names(converter); break;
		case RECORD_LANE: take_lane_record(converter, &input, out, false); break;
		case RECORD_TASK: take_task(converter, &input, out); break;
		case RECORD_ARROW_BEGINS: take_arrow(converter, &input, out, true); break;
		case RECORD_ARROW_ENDS: take_arrow(converter, &input, out, false); break;
		case RECORD_RUN: take_run(converter, &input, out); break;
		case RECORD_COPY: take_copy(converter, &input, out); break;
		case RECORD_COUNTERS: take_counters(converter, &input, out); break;
		case RECORD_BLOCKED: take_blocked(converter, &input, out); break;
		case RECORD_LINES: take_lines(&input, out); break;
		default: input.failed = true; break;
		}
	}
}

/* -------------------------------------------------------------------- file */

struct conversion {
	int fd;
	struct text_out *out;
	struct converter **writers;
	uint32_t count;
	_Alignas(8) unsigned char bytes[2 * CHUNK_BYTES];
};

static struct converter *writer_of(struct conversion *conversion, uint32_t number)
{
	uint32_t count = conversion->count ? conversion->count : 16;
	struct converter **grown;

	if (number >= WRITERS_MOST)
		return NULL;
	while (count <= number)
		count *= 2;
	if (count > conversion->count) {
		grown = realloc(conversion->writers, count * sizeof(*grown));
		if (!grown)
			return NULL;
		memset(grown + conversion->count, 0, (count - conversion->count) * sizeof(*grown));
		conversion->writers = grown;
		conversion->count = count;
	}
	if (!conversion->writers[number])
		conversion->writers[number] = converter_create();
	return conversion->writers[number];
}

/* Where the next chunk begins, from the byte `from` on; `bytes`: nowhere. */
static size_t next_chunk(const unsigned char *text, size_t from, size_t bytes)
{
	const uint64_t magic = CHUNK_MAGIC;
	const unsigned char *found = from < bytes ?
		memmem(text + from, bytes - from, &magic, sizeof(magic)) : NULL;

	return found ? (size_t)(found - text) : bytes;
}

/* How many bytes the chunk at the beginning has, its head included; 0: there is none. */
static size_t take_chunk(struct conversion *conversion, size_t bytes)
{
	const struct chunk_head *head = (const void *)conversion->bytes;
	struct converter *writer;
	uint64_t magic = 0;
	size_t end;

	if (bytes < sizeof(*head) || head->magic != CHUNK_MAGIC ||
	    head->bytes > CHUNK_BYTES - sizeof(*head))
		return 0;
	end = sizeof(*head) + head->bytes;
	if (bytes >= end + sizeof(magic))
		memcpy(&magic, conversion->bytes + end, sizeof(magic));
	/* A torn one ends where the next begins. */
	if (end > bytes || (end < bytes && magic != CHUNK_MAGIC))
		end = next_chunk(conversion->bytes, sizeof(*head), bytes);
	writer = writer_of(conversion, head->writer);
	if (writer)
		converter_take(writer, conversion->bytes + sizeof(*head), end - sizeof(*head),
			       conversion->out);
	return end;
}

static int take_all(struct conversion *conversion)
{
	off_t at = 0;
	ssize_t got;

	while ((got = pread(conversion->fd, conversion->bytes, sizeof(conversion->bytes), at)) >
	       0) {
		size_t taken = take_chunk(conversion, (size_t)got);

		if (!taken)
			taken = next_chunk(conversion->bytes, 1, (size_t)got);
		/* A chunk may begin in the last bytes that were read. */
		if (taken == (size_t)got && taken == sizeof(conversion->bytes))
			taken -= sizeof(uint64_t);
		at += (off_t)taken;
		if (conversion->out->error)
			return conversion->out->error;
	}
	if (got < 0)
		return -errno;
	return text_out_flush(conversion->out);
}

int convert_file(int fd, int (*write)(void *context, const char *text, size_t bytes),
		 void *context)
{
	struct conversion *conversion = calloc(1, sizeof(*conversion));
	int result = -ENOMEM;

	if (!conversion)
		return result;
	conversion->fd = fd;
	conversion->out = text_out_create(write, context);
	if (conversion->out)
		result = take_all(conversion);
	for (uint32_t i = 0; i < conversion->count; i++)
		converter_destroy(conversion->writers[i]);
	free(conversion->writers);
	text_out_destroy(conversion->out);
	free(conversion);
	return result;
}
