/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See copies.h. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "task/error.h"
#include "trace/copies.h"
#include "trace/record.h"

struct copies {
	struct records records;
};

int copies_create(const struct trace_files *files, const char *path, struct copies **copies)
{
	struct copies *made;

	*copies = NULL;
	if (!files->json)
		return 0;
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "%s: no memory for its trace", path);
	if (records_open(&made->records, files->json, path) < 0) {
		free(made);
		return -ENOMEM;
	}
	/* Its lane is named by its parent. */
	record_writer(&made->records, getpid(), gettid(), false, path);
	*copies = made;
	return 0;
}

void copies_destroy(struct copies *copies)
{
	if (!copies)
		return;
	records_close(&copies->records);
	free(copies);
}

void copies_add(struct copies *copies, const struct copied *copied)
{
	static _Atomic uint32_t number;
	uint32_t way = !strcmp(copied->way, "in") ? RECORD_IN :
		       !strcmp(copied->way, "out") ? RECORD_OUT : RECORD_WITHIN;

	if (!copies)
		return;
	record_copy(&copies->records, way,
		    atomic_fetch_add_explicit(&number, 1, memory_order_relaxed), copied->task,
		    copied->tensor, copied->bytes, copied->started, copied->ended);
}
