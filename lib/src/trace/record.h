/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * record: a trace while its tree runs: binary records, some 40 bytes for a task. convert.h makes
 * JSON of them. Each writer (a Worker's engine, a chip) has a buffer, and appends it to the file as
 * one chunk; what a chunk says builds on the chunks of the same writer before it.
 *
 *   chunk    struct chunk_head, then records
 *   record   one byte of enum record_kind, then its fields in the order of the table below
 *   number   7 bits a byte, the lowest first; bit 7: another byte follows
 *   text     a number of bytes, and these
 *   moment   ns since the moment of the writer's record before, as a number: 2 n, or -2 n - 1
 *   later    ns since the field before, as a number
 *   name     a number: 0: none; else the RECORD_NAME of this writer, from 1 on
 *   lane     a number: 0: the writer's own; else its RECORD_LANE, from 1 on
 *
 * Owns: struct records, guarded by its writer's lock.
 */
#ifndef DW_TRACE_RECORD_H
#define DW_TRACE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind {
	RECORD_WRITER = 1,	/* process, thread, whether its lane gets a name, text: its path */
	RECORD_NAME,		/* text */
	RECORD_FORGET,		/* all names: numbers begin again */
	RECORD_LANE,		/* process, thread, whether the process gets a name, text */
	/*
	 * flags, task, run, name (0: the callable's), callable, submitted (moment); RECORD_RAN:
	 * lane, ready … completed (later), member + 1 or 0, attempt or 0;
	 * else: completed (later), because_of or 0
	 */
	RECORD_TASK,
	RECORD_ARROW_BEGINS,	/* id, reasons, lane, moment, from, to, run */
	RECORD_ARROW_ENDS,	/* id, reasons, lane, moment */
	RECORD_RUN,		/* run, id, begun (moment), ended (later), tasks, errno */
	RECORD_COPY,		/* way, id, task, tensor, bytes, started (moment), ended (later) */
	RECORD_COUNTERS,	/* moment, ready tasks, heap bytes, wake-ups */
	RECORD_BLOCKED,		/* lane, task, run, begun (moment), ended (later) */
	RECORD_LINES,		/* text of whole lines of JSON, to the end of the chunk */
};

/* RECORD_TASK. */
enum { RECORD_STATE = 3, RECORD_DONE = 0, RECORD_FAILED = 1, RECORD_SKIPPED = 2, RECORD_RAN = 4 };
enum { RECORD_IN, RECORD_OUT, RECORD_WITHIN };

#define CHUNK_MAGIC	0x0a1a6b6e75684357ULL	/* "WChunk", ^Z, a newline */
struct chunk_head {
	uint64_t magic;
	uint32_t writer;
	uint32_t bytes;			/* of the records behind it */
};
#define CHUNK_BYTES	((size_t)65536 + 64)	/* with its head, at most */
#define RECORD_BYTES	((size_t)512)	/* of a record but RECORD_LINES, at most */
#define RECORD_TEXT_BYTES 255		/* of a text, at most; it is shortened in the middle */

#define RECORD_NAMES	((size_t)512)	/* in use at a time; a power of two */
struct record_name {
	char *text;			/* NULL: unused */
	uint32_t hash, number;
};

struct trace_file;
struct text_out;
struct converter;

struct records {
	struct trace_file *file;	/* NULL: nothing is kept */
	uint32_t writer;
	uint64_t moment;
	uint32_t name_count, lane_count;
	size_t used;			/* of bytes */
	struct converter *converter;	/* where JSON is written at once, … */
	struct text_out *out;
	struct record_name names[2 * RECORD_NAMES];
	_Alignas(8) unsigned char bytes[CHUNK_BYTES];
};

/* The file has one writer more. -ENOMEM, with text. */
int records_open(struct records *records, struct trace_file *file, const char *path);
/* Writes the rest; nothing is kept any more. */
void records_close(struct records *records);
void records_flush(struct records *records);

void record_writer(struct records *records, int32_t pid, int32_t tid, bool named,
		   const char *path);
/* Its number. */
uint32_t record_lane(struct records *records, int32_t pid, int32_t tid, bool process,
		     const char *path);

struct record_task {
	uint32_t flags;			/* state, RECORD_RAN */
	uint64_t task, run;
	const char *name, *callable;	/* name NULL: the callable's */
	uint64_t submitted, ready, dispatched, started, ended, completed;
	uint32_t lane;
	uint32_t member, attempt;	/* from 1; 0: of no group, the only one */
	uint64_t because_of;
};
void record_task(struct records *records, const struct record_task *task);
/* The worker waited for siblings so many ns, before it started the task. */
void record_blocked(struct records *records, const struct record_task *task, uint32_t ns);

struct record_arrow {
	uint32_t id, lane;
	uint8_t reasons;		/* enum edge_reason */
	uint64_t at, from, to, run;	/* `to` 0: it ends */
};
void record_arrow(struct records *records, const struct record_arrow *arrow);

void record_run(struct records *records, uint64_t run, uint32_t id, uint64_t begun, uint64_t ended,
		uint64_t tasks, int error);
void record_copy(struct records *records, uint32_t way, uint32_t id, uint64_t task, uint32_t tensor,
		 uint64_t bytes, uint64_t started, uint64_t ended);

struct record_counters {
	uint64_t ready, heap, wakes;
};
void record_counters(struct records *records, uint64_t at, const struct record_counters *counters);

#endif
