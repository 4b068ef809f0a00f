/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The writers' side: see status_segment.h. Without memfd_create() (in a sandbox) the memory is
 * anonymous: everything works, but the tree cannot be seen from outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "worker/hierarchy.h"

static void count(const struct dw_worker *worker, uint32_t *workers, uint32_t *children)
{
	*workers += 1;
	*children += worker_width(worker);
	for (uint32_t i = 0; i < worker->nested_count; i++)
		if (!worker_is_elsewhere(worker->nested[i]))
			count(worker->nested[i], workers, children);
}

static int make_memory(size_t bytes, int *fd, void **memory)
{
	int error = 0;

	*fd = fd_move_up(memfd_create(SEGMENT_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING));
	if (*fd < 0)
		error = -errno;
	else
		error = file_resize(*fd, bytes);
	if (error == 0 && fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		error = -errno;
	if (error && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	if (error)
		log_at(LOG_WARN, "this tree cannot be seen from outside: memfd: %s%s",
		       error_name(error), error_hint(-error));
	*memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (*fd < 0 ? MAP_ANONYMOUS : 0), *fd, 0);
	if (*memory != MAP_FAILED)
		return 0;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return error_set(-ENOMEM, "no memory for %zu bytes of counters", bytes);
}

static uint64_t place(uint64_t *at, uint64_t bytes)
{
	uint64_t offset = *at;

	*at = (offset + bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	return offset;
}

/* Depth first: a Worker, its children, then their subtrees, but for those on other hosts. */
static void assign(const struct status_segment *layout, char *memory, struct dw_worker *worker,
		   uint32_t self, uint32_t *next_worker, uint32_t *next_child)
{
	uint32_t own = worker_width(worker);
	struct segment_worker *entry =
		(struct segment_worker *)(memory + layout->workers) + (*next_worker)++;
	uint32_t first = *next_child;

	text_copy(entry->path, sizeof(entry->path), worker->path);
	entry->level = worker->level;
	entry->first_child = first;
	entry->child_count = own;
	entry->self = self;
	entry->heap_bytes = 4 * worker->options.heap_ring_bytes;
	worker->segment.worker = entry;
	worker->segment.children = (struct segment_child *)(memory + layout->children) + first;
	worker->segment.stats = (struct dw_child_stats *)(memory + layout->stats) + first;
	worker->segment.status = (struct child_status *)(memory + layout->child_status) + first;
	*next_child += own;
	for (uint32_t i = 0; i < worker->nested_count; i++)
		if (!worker_is_elsewhere(worker->nested[i]))
			assign(layout, memory, worker->nested[i],
			       first + own - worker->nested_count + i, next_worker, next_child);
}

static void close_fd(struct dw_worker *root)
{
	if (root->segment.fd >= 0)
		close(root->segment.fd);
	root->segment.fd = -1;
}

void segment_init(struct dw_worker *worker)
{
	worker->segment = (struct status_places){ .fd = -1 };
}

int segment_create(struct dw_worker *root)
{
	uint32_t workers = 0, children = 0, next_worker = 0, next_child = 0;
	struct status_segment layout = { .layout = SEGMENT_LAYOUT,
					 .pid = getpid(),
					 .started = now_ns() };
	uint64_t bytes = 0;
	void *memory;
	int result;

	count(root, &workers, &children);
	layout.worker_count = workers;
	layout.child_count = children;
	place(&bytes, sizeof(layout));
	layout.workers = place(&bytes, workers * sizeof(struct segment_worker));
	layout.children = place(&bytes, children * sizeof(struct segment_child));
	layout.stats = place(&bytes, children * sizeof(struct dw_child_stats));
	layout.child_status = place(&bytes, children * sizeof(struct child_status));
	layout.bytes = bytes;
	result = make_memory(bytes, &root->segment.fd, &memory);
	if (result < 0)
		return result;
	root->segment.layout = malloc(sizeof(layout));
	if (!root->segment.layout) {
		munmap(memory, bytes);
		close_fd(root);
		return error_set(-ENOMEM, "no memory for counters");
	}
	*root->segment.layout = layout;
	memcpy(memory, &layout, sizeof(layout));
	root->segment.memory = memory;
	assign(root->segment.layout, memory, root, UINT32_MAX, &next_worker, &next_child);
	/* From here on, readers that look for its name find the tree. */
	__atomic_store_n(&root->segment.memory->magic, SEGMENT_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

static void forget(struct dw_worker *worker)
{
	worker->segment.worker = NULL;
	worker->segment.children = NULL;
	worker->segment.stats = NULL;
	worker->segment.status = NULL;
	for (uint32_t i = 0; i < worker->nested_count; i++)
		forget(worker->nested[i]);
}

void segment_destroy(struct dw_worker *root)
{
	if (root->segment.memory)
		munmap(root->segment.memory, root->segment.layout->bytes);
	root->segment.memory = NULL;
	free(root->segment.layout);
	root->segment.layout = NULL;
	close_fd(root);
	forget(root);
}

void segment_up(struct dw_worker *worker, bool up)
{
	if (!worker->segment.worker)
		return;
	__atomic_store_n(&worker->segment.worker->pid, getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&worker->segment.worker->up, up, __ATOMIC_RELAXED);
}

void segment_describe(struct dw_worker *worker, uint32_t child, enum dw_child_kind kind,
		      uint32_t level, const char *path, const char *host)
{
	struct dw_child_stats *stats = &worker->segment.stats[child];

	memset(stats, 0, sizeof(*stats));
	text_copy(stats->path, sizeof(stats->path), path);
	text_copy(stats->host, sizeof(stats->host), host ? host : "");
	stats->kind = kind;
	stats->level = level;
}

void segment_ready(struct dw_worker *worker, uint32_t child, pid_t pid)
{
	__atomic_store_n(&worker->segment.stats[child].pid, pid, __ATOMIC_RELAXED);
	__atomic_store_n(&worker->segment.stats[child].alive, 1, __ATOMIC_RELAXED);
}

void segment_stopped(struct dw_worker *worker, uint32_t child, int signal)
{
	__atomic_store_n(&worker->segment.children[child].stopped, signal, __ATOMIC_RELAXED);
}

#define STATUS_TEXT_BYTES 96	/* the most that is shown */

/* A reader may see half of a change, but the text is always terminated. */
static void copy_text(char *to, size_t space, const char *text)
{
	char shown[STATUS_TEXT_BYTES] = "";

	text_copy(shown, space, text);
	memcpy(to, shown, space);
}

void segment_death(struct dw_worker *worker, uint32_t child, const char *cause)
{
	copy_text(worker->segment.children[child].cause,
		  sizeof(worker->segment.children[child].cause), cause);
	segment_stopped(worker, child, 0);
	__atomic_store_n(&worker->segment.stats[child].alive, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&worker->segment.status[child].busy, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&worker->segment.children[child].chip.memory_used, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&worker->segment.status[child].since, now_ns(), __ATOMIC_RELAXED);
}

void status_begin(struct status_writer *writer, const struct status_places *places, uint32_t child)
{
	writer->status = &places->status[child];
	writer->shown = 0;
	writer->chip = &places->children[child].chip;
	writer->remote = &places->children[child].remote;
	writer->copied_in = __atomic_load_n(&writer->chip->copied_in, __ATOMIC_RELAXED);
	writer->copied_out = __atomic_load_n(&writer->chip->copied_out, __ATOMIC_RELAXED);
	writer->saved = __atomic_load_n(&writer->chip->saved, __ATOMIC_RELAXED);
	__atomic_store_n(&writer->status->tid, gettid(), __ATOMIC_RELAXED);
	status_waits(writer, now_ns());
}

void status_works(struct status_writer *writer, const struct callable *callable, uint64_t task,
		  uint64_t since)
{
	struct child_status *status = writer->status;

	if (writer->shown != callable->handle) {
		char name[sizeof(status->name)];

		writer->shown = callable->handle;
		copy_text(status->name, sizeof(status->name),
			  text_fit(name, sizeof(name), callable_title(callable)));
	}
	__atomic_store_n(&status->task, task, __ATOMIC_RELAXED);
	__atomic_store_n(&status->since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&status->busy, 1, __ATOMIC_RELAXED);
}

void status_since(struct status_writer *writer, uint64_t since)
{
	__atomic_store_n(&writer->status->since, since, __ATOMIC_RELAXED);
}

static void store_changed(uint64_t *place, uint64_t value)
{
	if (__atomic_load_n(place, __ATOMIC_RELAXED) != value)
		__atomic_store_n(place, value, __ATOMIC_RELAXED);
}

void status_chip(struct status_writer *writer, const struct chip_status *now)
{
	struct chip_status *chip = writer->chip;

	store_changed(&chip->memory_bytes, now->memory_bytes);
	store_changed(&chip->memory_used, now->memory_used);
	store_changed(&chip->copied_in, writer->copied_in + now->copied_in);
	store_changed(&chip->copied_out, writer->copied_out + now->copied_out);
	store_changed(&chip->saved, writer->saved + now->saved);
}

void status_remote(struct status_writer *writer, const struct remote_status *now)
{
	struct remote_status *remote = writer->remote;

	store_changed(&remote->round_trip_ns, now->round_trip_ns);
	store_changed(&remote->window_used, now->window_used);
	store_changed(&remote->window_bytes, now->window_bytes);
	if (memcmp(remote->address, now->address, sizeof(remote->address)) != 0)
		memcpy(remote->address, now->address, sizeof(remote->address));
}
