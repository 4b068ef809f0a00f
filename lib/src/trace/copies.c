/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See copies.h. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "task/error.h"
#include "trace/copies.h"

struct copies {
	char *path;
	int32_t pid, tid;
	struct trace_lines lines;
};

int copies_create(const struct trace_files *files, const char *path, struct copies **copies)
{
	struct copies *made;

	*copies = NULL;
	if (!files->json)
		return 0;
	made = calloc(1, sizeof(*made));
	if (made)
		made->path = strdup(path);
	if (!made || !made->path) {
		free(made);
		return error_set(-ENOMEM, "%s: no memory for its trace", path);
	}
	made->pid = getpid();
	made->tid = gettid();
	made->lines.file = files->json;
	trace_file_join(files->json);
	*copies = made;
	return 0;
}

void copies_destroy(struct copies *copies)
{
	if (!copies)
		return;
	lines_flush(&copies->lines);
	trace_file_leave(copies->lines.file);
	free(copies->path);
	free(copies);
}

static void write_end(struct copies *copies, const struct copied *copied, uint64_t id, bool begins)
{
	struct trace_lines *lines = &copies->lines;

	lines_begin(lines);
	lines_add(lines,
		  "{\"ph\":\"%s\",\"cat\":\"copy\",\"id\":\"0x%llx\",\"name\":\"copy %s\","
		  "\"pid\":%d,\"tid\":%d,",
		  begins ? "b" : "e", (unsigned long long)id, copied->way, copies->pid,
		  copies->tid);
	lines_add_time(lines, "ts", begins ? copied->started : copied->ended);
	lines_add(lines, ",\"args\":{\"task\":%llu,\"tensor\":%u,\"bytes\":%llu,\"worker\":",
		  (unsigned long long)copied->task, copied->tensor,
		  (unsigned long long)copied->bytes);
	lines_add_string(lines, copies->path);
	lines_end(lines, "}},");
}

void copies_add(struct copies *copies, const struct copied *copied)
{
	static _Atomic uint32_t number;
	uint64_t id;

	if (!copies)
		return;
	id = (uint64_t)copies->pid << 32 |
	     atomic_fetch_add_explicit(&number, 1, memory_order_relaxed);
	write_end(copies, copied, id, true);
	write_end(copies, copied, id, false);
}
