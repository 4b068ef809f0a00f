/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind record.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "task/error.h"
#include "trace/convert.h"
#include "trace/file.h"
#include "trace/record.h"
#include "trace/text_out.h"

/* ------------------------------------------------------------------ buffer */

static int to_file(void *file, const char *text, size_t bytes)
{
	trace_file_write(file, text, bytes);
	return 0;
}

int records_open(struct records *records, struct trace_file *file, const char *path)
{
	*records = (struct records){ .used = sizeof(struct chunk_head) };
	if (!trace_file_keeps_records(file)) {
		records->converter = converter_create();
		records->out = text_out_create(to_file, file);
		if (!records->converter || !records->out) {
			records_close(records);
			return error_set(-ENOMEM, "%s: no memory for its trace", path);
		}
	}
	records->file = file;
	records->writer = trace_file_join(file);
	return 0;
}

void records_flush(struct records *records)
{
	size_t bytes = records->used - sizeof(struct chunk_head);

	if (!records->file || !bytes)
		return;
	records->used = sizeof(struct chunk_head);
	if (records->converter) {
		converter_take(records->converter, records->bytes + records->used, bytes,
			       records->out);
		text_out_flush(records->out);
		return;
	}
	*(struct chunk_head *)records->bytes = (struct chunk_head){
		.magic = CHUNK_MAGIC, .writer = records->writer, .bytes = (uint32_t)bytes,
	};
	trace_file_append(records->file, records->bytes, sizeof(struct chunk_head) + bytes);
}

static void forget_names(struct records *records)
{
	for (size_t i = 0; i < 2 * RECORD_NAMES; i++)
		free(records->names[i].text);
	memset(records->names, 0, sizeof(records->names));
	records->name_count = 0;
}

void records_close(struct records *records)
{
	records_flush(records);
	if (records->file)
		trace_file_leave(records->file);
	records->file = NULL;
	converter_destroy(records->converter);
	text_out_destroy(records->out);
	records->converter = NULL;
	records->out = NULL;
	forget_names(records);
}

/* ------------------------------------------------------------------ fields */

static void begin(struct records *records, enum record_kind kind)
{
	if (records->used + RECORD_BYTES > CHUNK_BYTES)
		records_flush(records);
	records->bytes[records->used++] = (unsigned char)kind;
}

static void put_number(struct records *records, uint64_t value)
{
	unsigned char *at = records->bytes + records->used;

	while (value >= 0x80) {
		*at++ = (unsigned char)(value | 0x80);
		value >>= 7;
	}
	*at++ = (unsigned char)value;
	records->used = (size_t)(at - records->bytes);
}

static void put_moment(struct records *records, uint64_t ns)
{
	int64_t since = (int64_t)(ns - records->moment);

	put_number(records, since < 0 ? ~((uint64_t)since << 1) : (uint64_t)since << 1);
	records->moment = ns;
}

static void put_text(struct records *records, const char *text)
{
	char room[RECORD_TEXT_BYTES + 1];
	size_t length = strnlen(text, sizeof(room));

	if (length == sizeof(room)) {
		text = text_fit(room, sizeof(room), text);
		length = strlen(text);
	}
	put_number(records, length);
	memcpy(records->bytes + records->used, text, length);
	records->used += length;
}

static uint32_t hash_of(const char *text)
{
	uint32_t hash = 2166136261u;

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 16777619u;
	return hash;
}

/* Its number, with a RECORD_NAME before if it is new; 0: no memory. Not within a record. */
static uint32_t name_number(struct records *records, const char *text)
{
	uint32_t hash = hash_of(text), at = hash;
	struct record_name *name;

	for (;; at++) {
		name = &records->names[at & (2 * RECORD_NAMES - 1)];
		if (!name->text)
			break;
		if (name->hash == hash && strcmp(name->text, text) == 0)
			return name->number;
	}
	name->text = strdup(text);
	if (!name->text)
		return 0;
	name->hash = hash;
	name->number = ++records->name_count;
	begin(records, RECORD_NAME);
	put_text(records, text);
	return name->number;
}

/* Before the names of a record: all of them are then there when it is written. */
static void make_room_for_names(struct records *records, uint32_t count)
{
	if (records->name_count + count <= RECORD_NAMES)
		return;
	forget_names(records);
	begin(records, RECORD_FORGET);
}

/* ----------------------------------------------------------------- records */

void record_writer(struct records *records, int32_t pid, int32_t tid, bool named, const char *path)
{
	begin(records, RECORD_WRITER);
	put_number(records, (uint32_t)pid);
	put_number(records, (uint32_t)tid);
	put_number(records, named);
	put_text(records, path);
}

uint32_t record_lane(struct records *records, int32_t pid, int32_t tid, bool process,
		     const char *path)
{
	begin(records, RECORD_LANE);
	put_number(records, (uint32_t)pid);
	put_number(records, (uint32_t)tid);
	put_number(records, process);
	put_text(records, path);
	return ++records->lane_count;
}

void record_task(struct records *records, const struct record_task *task)
{
	uint32_t name = 0, callable;

	make_room_for_names(records, 2);
	if (task->name)
		name = name_number(records, task->name);
	callable = name_number(records, task->callable);
	begin(records, RECORD_TASK);
	put_number(records, task->flags);
	put_number(records, task->task);
	put_number(records, task->run);
	put_number(records, name);
	put_number(records, callable);
	put_moment(records, task->submitted);
	if (task->flags & RECORD_RAN) {
		put_number(records, task->lane);
		put_number(records, task->ready - task->submitted);
		put_number(records, task->dispatched - task->ready);
		put_number(records, task->started - task->dispatched);
		put_number(records, task->ended - task->started);
		put_number(records, task->completed - task->ended);
		put_number(records, task->member);
		put_number(records, task->attempt);
	} else {
		put_number(records, task->completed - task->submitted);
		put_number(records, task->because_of);
	}
}

void record_blocked(struct records *records, const struct record_task *task, uint32_t ns)
{
	begin(records, RECORD_BLOCKED);
	put_number(records, task->lane);
	put_number(records, task->task);
	put_number(records, task->run);
	put_moment(records, task->started - ns);
	put_number(records, ns);
}

void record_arrow(struct records *records, const struct record_arrow *arrow)
{
	begin(records, arrow->to ? RECORD_ARROW_BEGINS : RECORD_ARROW_ENDS);
	put_number(records, arrow->id);
	put_number(records, arrow->reasons);
	put_number(records, arrow->lane);
	put_moment(records, arrow->at);
	if (!arrow->to)
		return;
	put_number(records, arrow->from);
	put_number(records, arrow->to);
	put_number(records, arrow->run);
}

void record_run(struct records *records, uint64_t run, uint32_t id, uint64_t begun, uint64_t ended,
		uint64_t tasks, int error)
{
	begin(records, RECORD_RUN);
	put_number(records, run);
	put_number(records, id);
	put_moment(records, begun);
	put_number(records, ended - begun);
	put_number(records, tasks);
	put_number(records, (uint32_t)error);
}

void record_copy(struct records *records, uint32_t way, uint32_t id, uint64_t task, uint32_t tensor,
		 uint64_t bytes, uint64_t started, uint64_t ended)
{
	begin(records, RECORD_COPY);
	put_number(records, way);
	put_number(records, id);
	put_number(records, task);
	put_number(records, tensor);
	put_number(records, bytes);
	put_moment(records, started);
	put_number(records, ended > started ? ended - started : 0);
}

void record_counters(struct records *records, uint64_t at, const struct record_counters *counters)
{
	begin(records, RECORD_COUNTERS);
	put_moment(records, at);
	put_number(records, counters->ready);
	put_number(records, counters->heap);
	put_number(records, counters->wakes);
}
