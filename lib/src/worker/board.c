/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Behind board.h: the writers' side. Without memfd_create() (a sandbox) the
 * memory is anonymous: everything works, but nobody sees the tree from outside.
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
#include "worker/board.h"

static void count(const struct dw_worker *worker, uint32_t *workers, uint32_t *children)
{
	*workers += 1;
	*children += worker->options.subs + worker->options.chip_count + worker->nested_count;
	for (uint32_t i = 0; i < worker->nested_count; i++)
		count(worker->nested[i], workers, children);
}

static int make_memory(size_t bytes, int *fd, void **memory)
{
	int error = 0;

	*fd = fd_move_up(memfd_create(BOARD_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING));
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
	*memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (*fd < 0 ? MAP_ANONYMOUS : 0),
		       *fd, 0);
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

	*at = (offset + bytes + 63) / 64 * 64;
	return offset;
}

/* Depth first: a Worker, its children, then their subtrees. */
static void assign(const struct board *layout, char *memory, struct dw_worker *worker, uint32_t self, uint32_t *next_worker,
		   uint32_t *next_child)
{
	uint32_t own = worker->options.subs + worker->options.chip_count + worker->nested_count;
	struct board_worker *entry = (struct board_worker *)(memory + layout->workers) + (*next_worker)++;
	uint32_t first = *next_child;

	snprintf(entry->path, sizeof(entry->path), "%s", worker->path);
	entry->level = worker->level;
	entry->first_child = first;
	entry->child_count = own;
	entry->self = self;
	entry->heap_bytes = 4 * worker->options.heap_ring_bytes;
	worker->board = entry;
	worker->board_children = (struct board_child *)(memory + layout->children) + first;
	worker->stats = (struct dw_child_stats *)(memory + layout->stats) + first;
	worker->now = (struct child_status *)(memory + layout->now) + first;
	*next_child += own;
	for (uint32_t i = 0; i < worker->nested_count; i++)
		assign(layout, memory, worker->nested[i], first + own - worker->nested_count + i, next_worker,
		       next_child);
}

static void close_fd(struct dw_worker *root)
{
	if (root->board_fd >= 0)
		close(root->board_fd);
	root->board_fd = -1;
}

int board_create(struct dw_worker *root)
{
	uint32_t workers = 0, children = 0, next_worker = 0, next_child = 0;
	struct board layout = { .layout = BOARD_LAYOUT, .pid = getpid(), .started = now_ns() };
	uint64_t bytes = 0;
	void *memory;
	int result;

	count(root, &workers, &children);
	layout.worker_count = workers;
	layout.child_count = children;
	place(&bytes, sizeof(layout));
	layout.workers = place(&bytes, workers * sizeof(struct board_worker));
	layout.children = place(&bytes, children * sizeof(struct board_child));
	layout.stats = place(&bytes, children * sizeof(struct dw_child_stats));
	layout.now = place(&bytes, children * sizeof(struct child_status));
	layout.bytes = bytes;
	result = make_memory(bytes, &root->board_fd, &memory);
	if (result < 0)
		return result;
	root->board_layout = malloc(sizeof(layout));
	if (!root->board_layout) {
		munmap(memory, bytes);
		close_fd(root);
		return error_set(-ENOMEM, "no memory for counters");
	}
	*root->board_layout = layout;
	memcpy(memory, &layout, sizeof(layout));
	root->board_memory = memory;
	assign(root->board_layout, memory, root, UINT32_MAX, &next_worker, &next_child);
	/* Who finds it by its name sees it from here on. */
	__atomic_store_n(&root->board_memory->magic, BOARD_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

static void forget(struct dw_worker *worker)
{
	worker->board = NULL;
	worker->board_children = NULL;
	worker->stats = NULL;
	worker->now = NULL;
	for (uint32_t i = 0; i < worker->nested_count; i++)
		forget(worker->nested[i]);
}

void board_destroy(struct dw_worker *root)
{
	if (root->board_memory)
		munmap(root->board_memory, root->board_layout->bytes);
	root->board_memory = NULL;
	free(root->board_layout);
	root->board_layout = NULL;
	close_fd(root);
	forget(root);
}

void board_up(struct dw_worker *worker, bool up)
{
	if (!worker->board)
		return;
	__atomic_store_n(&worker->board->pid, getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&worker->board->up, up, __ATOMIC_RELAXED);
}

void board_stopped(struct dw_worker *worker, uint32_t child, int signal)
{
	__atomic_store_n(&worker->board_children[child].stopped, signal, __ATOMIC_RELAXED);
}

/* A reader may see half of it; its end is always there. */
static void copy_text(char *to, size_t space, const char *text)
{
	size_t length = strnlen(text, space - 1);

	memcpy(to, text, length);
	memset(to + length, 0, space - length);
}

void board_death(struct dw_worker *worker, uint32_t child, const char *cause)
{
	copy_text(worker->board_children[child].cause, sizeof(worker->board_children[child].cause),
		  cause);
	board_stopped(worker, child, 0);
	__atomic_store_n(&worker->now[child].busy, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&worker->now[child].since, now_ns(), __ATOMIC_RELAXED);
}

void child_works(struct child *child, const struct callable *callable, uint64_t task, uint64_t since)
{
	struct child_status *now = &child->owner->now[child->index];

	if (child->shown != callable->handle) {
		child->shown = callable->handle;
		copy_text(now->name, sizeof(now->name), callable_title(callable));
	}
	__atomic_store_n(&now->task, task, __ATOMIC_RELAXED);
	__atomic_store_n(&now->since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&now->busy, 1, __ATOMIC_RELAXED);
}
