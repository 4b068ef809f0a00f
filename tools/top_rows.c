// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind top_rows.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/text.h"
#include "tool.h"
#include "top_rows.h"
#include "trees.h"

#define NONE SIZE_MAX

struct reading {
	struct top_rows *rows;
	const struct top_rows *before;
	double stuck;
	uint32_t tree;			/* of the process of the last one */
	int32_t root;
};

static struct top_row *add_row(struct top_rows *rows)
{
	if (rows->count == rows->space) {
		size_t space = rows->space ? 2 * rows->space : 64;
		struct top_row *grown = realloc(rows->rows, space * sizeof(*grown));

		if (!grown) {
			rows->failed = true;
			return NULL;
		}
		rows->rows = grown;
		rows->space = space;
	}
	rows->rows[rows->count] = (struct top_row){ .next = NONE, .child = NONE, .age = -1 };
	return &rows->rows[rows->count++];
}

static double seconds_since(uint64_t ns)
{
	double now = tool_now();

	return !ns ? -1 : now > (double)ns / 1e9 ? now - (double)ns / 1e9 : 0;
}

/* The row of the same Worker or child at the moment before; it has a place near this one's. */
static const struct top_row *row_before(const struct top_rows *before, const struct top_row *row,
					size_t hint)
{
	for (size_t i = 0; before && i < before->count; i++) {
		const struct top_row *other = &before->rows[(hint + i) % before->count];

		if (other->root == row->root && other->tree == row->tree &&
		    strcmp(other->path, row->path) == 0)
			return other;
	}
	return NULL;
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
	/* A replacement counts from the beginning. */
	return now >= before ? (double)(now - before) / seconds : -1;
}

static void add_rates(const struct reading *reading, size_t number)
{
	struct top_row *row = &reading->rows->rows[number];
	const struct top_row *old = row_before(reading->before, row, number);
	double seconds = old ? reading->rows->at - reading->before->at : 0;
	uint64_t won = row->spins_won, all = won + row->spins_lost;

	row->tasks = row->cpu = row->sleeping = row->copied = row->paid = -1;
	if (seconds > 0) {
		row->tasks = rate(row->done, old->done, seconds);
		row->cpu = rate(row->cpu_ns, old->cpu_ns, seconds * 1e9);
		row->sleeping = rate(row->sleeps, old->sleeps, seconds);
		row->copied = rate(row->bytes, old->bytes, seconds);
		if (won >= old->spins_won && all >= old->spins_won + old->spins_lost) {
			won -= old->spins_won;
			all -= old->spins_won + old->spins_lost;
		}
	}
	if (all)
		row->paid = (double)won / (double)all;
}

static uint64_t process_cpu(int32_t pid)
{
	struct timespec used;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used))
		return 0;
	return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static void fill_worker(struct top_row *row, const struct dw_tree *tree, uint32_t number,
			double stuck)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);

	dw_tree_worker(tree, number, &worker);
	dw_tree_worker_stats(tree, number, &engine);
	row->is_worker = true;
	row->done = engine.done + engine.failed;
	row->heap_used = engine.heap_used;
	row->heap_bytes = worker.heap_bytes;
	if (!row->path[0]) {
		text_copy(row->path, sizeof(row->path), worker.path);
		row->state = !worker.up ? TOP_DEAD : worker.runs ? TOP_RUNS : TOP_IDLE;
		row->cpu_ns = process_cpu(worker.pid);
		row->sleeps = engine.parent_sleeps;
	}
	if (worker.blocked && row->state != TOP_DEAD && row->state != TOP_STOPPED) {
		row->age = seconds_since(worker.blocked_since_ns);
		row->state = row->age >= stuck ? TOP_STUCK : TOP_BLOCKED;
	}
}

static void fill_child(struct top_row *row, const struct dw_tree *tree, uint32_t number,
		       double stuck, enum dw_child_kind *kind)
{
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_child_stats stats = { .pid = 0 };

	dw_tree_child(tree, number, &child);
	dw_tree_child_stats(tree, number, &stats, sizeof(stats));
	*kind = stats.kind;
	text_copy(row->path, sizeof(row->path), stats.path);
	row->is_chip = stats.kind == DW_CHILD_CHIP;
	row->age = seconds_since(child.since_ns);
	row->state = !stats.alive ? TOP_DEAD : child.stopped ? TOP_STOPPED :
		     !child.busy ? TOP_IDLE : row->age >= stuck ? TOP_STUCK : TOP_RUNS;
	if (child.busy && stats.alive) {
		row->task = child.task;
		text_copy(row->callable, sizeof(row->callable), child.callable);
	}
	row->queued = child.queued;
	row->done = child.ended;
	row->cpu_ns = stats.cpu_ns;
	row->sleeps = stats.sleeps;
	row->spins_won = child.spins_won;
	row->spins_lost = child.spins_lost;
	row->bytes = stats.copied_in + stats.copied_out;
	row->heap_used = stats.memory_used;
	row->heap_bytes = stats.memory_bytes;
}

/* The Worker that this path names; NONE: it is on another host. */
static size_t worker_of(const struct dw_tree *tree, uint32_t count, const char *path)
{
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);

	for (uint32_t i = 0; i < count; i++)
		if (!dw_tree_worker(tree, i, &worker) && !strcmp(worker.path, path))
			return i;
	return NONE;
}

static void add_children(struct reading *reading, const struct dw_tree *tree, uint32_t count,
			 uint32_t number, size_t parent)
{
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);
	struct top_rows *rows = reading->rows;
	size_t last = NONE;

	if (dw_tree_worker(tree, number, &worker))
		return;
	for (uint32_t i = 0; i < worker.child_count; i++) {
		size_t own = rows->count, nested = NONE;
		struct top_row *row = add_row(rows);
		enum dw_child_kind kind;

		if (!row)
			return;
		row->root = reading->root;
		row->tree = reading->tree;
		row->parent = parent;
		row->depth = rows->rows[parent].depth + 1;
		fill_child(row, tree, worker.first_child + i, reading->stuck, &kind);
		if (kind == DW_CHILD_WORKER)
			nested = worker_of(tree, count, row->path);
		/* A Worker knows its parents alone; paths are those of children. */
		if (nested != NONE && nested != number)
			fill_worker(row, tree, (uint32_t)nested, reading->stuck);
		add_rates(reading, own);
		*(last == NONE ? &rows->rows[parent].child : &rows->rows[last].next) = own;
		last = own;
		if (nested != NONE && nested > number) {
			rows->workers++;
			add_children(reading, tree, count, (uint32_t)nested, own);
		}
	}
}

static int add_tree(const struct dw_tree *tree, void *context)
{
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	struct reading *reading = context;
	size_t own = reading->rows->count;
	struct top_row *row = add_row(reading->rows);

	if (!row)
		return 1;
	dw_tree_info(tree, &info);
	/* Those of one process come one after the other. */
	reading->tree = info.pid == reading->root ? reading->tree + 1 : 0;
	reading->root = info.pid;
	row->root = info.pid;
	row->tree = reading->tree;
	row->parent = NONE;
	trees_command(info.pid, row->command, sizeof(row->command));
	fill_worker(row, tree, 0, reading->stuck);
	reading->rows->trees++;
	reading->rows->workers++;
	add_rates(reading, own);
	add_children(reading, tree, info.worker_count, 0, own);
	return 0;
}

void top_rows_read(struct top_rows *rows, int32_t pid, double stuck, const struct top_rows *before)
{
	struct reading reading = { .rows = rows, .before = before, .stuck = stuck };
	unsigned int found;

	*rows = (struct top_rows){ .at = tool_now() };
	rows->error = trees_each(pid, add_tree, &reading, &found);
	/* Roots are siblings, too. */
	for (size_t i = 0, last = NONE; i < rows->count; i++) {
		if (rows->rows[i].parent != NONE)
			continue;
		if (last != NONE)
			rows->rows[last].next = i;
		last = i;
	}
}

void top_rows_release(struct top_rows *rows)
{
	free(rows->rows);
	*rows = (struct top_rows){ 0 };
}

/* -------------------------------------------------------------------- order */

struct order {
	const struct top_rows *rows;
	enum top_column column;
	int sign;
};

static double key_of(const struct top_row *row, enum top_column column)
{
	switch (column) {
	case TOP_STATE: return row->state;
	case TOP_TASK: return (double)row->task;
	case TOP_AGE: return row->state == TOP_IDLE ? -1 : row->age;
	case TOP_QUEUED: return row->queued;
	case TOP_TASKS: return row->tasks;
	case TOP_CPU: return row->cpu;
	case TOP_SLEEPS: return row->sleeping;
	case TOP_PAID: return row->paid;
	case TOP_HEAP: return (double)row->heap_used;
	case TOP_COPIED: return row->copied;
	default: return 0;
	}
}

/* The largest first; equal ones as they stand in the tree. */
static int by_key(const void *a, const void *b, void *context)
{
	const struct order *order = context;
	size_t one = *(const size_t *)a, other = *(const size_t *)b;
	double left = key_of(&order->rows->rows[one], order->column);
	double right = key_of(&order->rows->rows[other], order->column);

	if (left < right || left > right)
		return left < right ? order->sign : -order->sign;
	return (one < other ? -1 : 1) * (order->column == TOP_PATH ? order->sign : 1);
}

/* The list that begins with `*first`. */
static void sort_list(struct top_rows *rows, size_t *numbers, size_t *first, struct order *order)
{
	size_t count = 0;

	for (size_t i = *first; i != NONE; i = rows->rows[i].next)
		numbers[count++] = i;
	if (!count)
		return;
	qsort_r(numbers, count, sizeof(*numbers), by_key, order);
	*first = numbers[0];
	for (size_t i = 0; i < count; i++)
		rows->rows[numbers[i]].next = i + 1 < count ? numbers[i + 1] : NONE;
}

void top_rows_sort(struct top_rows *rows, enum top_column column, bool reverse)
{
	struct order order = { .rows = rows, .column = column, .sign = reverse ? -1 : 1 };
	size_t *numbers = calloc(rows->count + 1, sizeof(*numbers));

	for (size_t i = 0; numbers && i < rows->count; i++)
		sort_list(rows, numbers, &rows->rows[i].child, &order);
	free(numbers);
}
