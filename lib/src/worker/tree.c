/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Trees seen from outside: the readers' side of status_segment.h. Another process wrote the
 * segment, so nothing in it is trusted but its size, which is sealed; texts are terminated here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "task/options.h"
#include "worker/hierarchy.h"
#include "worker/stats.h"

#define LINK_NAME	"/memfd:" SEGMENT_NAME
#define SEALS		(F_SEAL_SHRINK | F_SEAL_GROW)
#define STUCK_NS	10000000000ULL
#define MIB		1048576.0

struct dw_tree {
	const struct status_segment *segment;
	struct status_segment layout;		/* a checked copy */
};

/* -------------------------------------------------------------------- open */

static bool fits(const struct status_segment *segment, uint64_t offset, uint64_t count,
		 uint64_t size)
{
	return offset % LINE_BYTES == 0 && offset <= segment->bytes &&
	       count <= (segment->bytes - offset) / size;
}

static int check_layout(const struct status_segment *segment, uint64_t bytes)
{
	if (segment->layout != SEGMENT_LAYOUT)
		return error_set(-EPROTO,
				 "the tree of process %d belongs to another version of the library",
				 segment->pid);
	if (segment->bytes != bytes || !segment->worker_count ||
	    !fits(segment, segment->workers, segment->worker_count,
		  sizeof(struct segment_worker)) ||
	    !fits(segment, segment->children, segment->child_count, sizeof(struct segment_child)) ||
	    !fits(segment, segment->stats, segment->child_count, sizeof(struct dw_child_stats)) ||
	    !fits(segment, segment->child_status, segment->child_count,
		  sizeof(struct child_status)))
		return error_set(-EPROTO,
				 "the status segment of the tree of process %d makes no sense",
				 segment->pid);
	return 0;
}

/*
 * 1: it is a tree of process `pid`; 0: it is not (not yet, no longer, or it belongs to the process
 * that forked `pid`).
 */
static int map_tree(int fd, int32_t pid, struct dw_tree *tree)
{
	struct stat status;
	void *memory;
	int result;

	if (fstat(fd, &status) < 0 || (uint64_t)status.st_size < sizeof(struct status_segment) ||
	    (fcntl(fd, F_GET_SEALS) & SEALS) != SEALS)
		return 0;
	memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return error_set(-errno, "cannot map the tree of process %d: %s", pid,
				 error_name(errno));
	tree->segment = memory;
	if (__atomic_load_n(&tree->segment->magic, __ATOMIC_ACQUIRE) != SEGMENT_MAGIC ||
	    tree->segment->pid != pid) {
		munmap(memory, (size_t)status.st_size);
		return 0;
	}
	tree->layout = *tree->segment;
	result = check_layout(&tree->layout, (uint64_t)status.st_size);
	if (result < 0)
		munmap(memory, (size_t)status.st_size);
	return result < 0 ? result : 1;
}

static int open_fd(int32_t pid, const char *name, struct dw_tree *tree)
{
	char path[64], target[64];
	ssize_t length;
	int fd, result;

	snprintf(path, sizeof(path), "/proc/%d/fd/%.16s", pid, name);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < (ssize_t)strlen(LINK_NAME) ||
	    strncmp(target, LINK_NAME, strlen(LINK_NAME)) != 0)
		return 0;
	fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return errno == ENOENT ? 0 : error_set(-errno, "%s: %s", path, error_name(errno));
	result = map_tree(fd, pid, tree);
	close(fd);
	return result;
}

DW_API int dw_tree_open(int32_t pid, uint32_t index, struct dw_tree **tree)
{
	struct dw_tree found = { 0 };
	struct dirent *entry;
	char path[32];
	int result = 0;
	DIR *dir;

	if (!tree || pid <= 0)
		return error_set(-EINVAL, "dw_tree_open: pid is %d; it should be that of a process",
				 pid);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = fd_open_folder(path);
	if (!dir)
		return error_set(errno == ENOENT ? -ENOENT : -errno, "%s: %s", path,
				 error_name(errno));
	while ((entry = readdir(dir))) {
		result = open_fd(pid, entry->d_name, &found);
		if (result != 1 && result != 0)
			break;
		if (result == 1 && index-- == 0)
			break;
		if (result == 1)
			munmap((void *)(uintptr_t)found.segment, found.layout.bytes);
		result = 0;
	}
	closedir(dir);
	if (result < 0)
		return result;
	if (!result)
		return error_set(-ENOENT, "process %d has no %stree", pid,
				 index == UINT32_MAX ? "further " : "");
	*tree = malloc(sizeof(found));
	if (!*tree) {
		munmap((void *)(uintptr_t)found.segment, found.layout.bytes);
		return error_set(-ENOMEM, "no memory for a tree");
	}
	**tree = found;
	return 0;
}

DW_API void dw_tree_close(struct dw_tree *tree)
{
	if (!tree)
		return;
	munmap((void *)(uintptr_t)tree->segment, tree->layout.bytes);
	free(tree);
}

/* -------------------------------------------------------------------- read */

static const struct segment_worker *worker_at(const struct dw_tree *tree, uint32_t number)
{
	const char *base = (const char *)tree->segment + tree->layout.workers;

	return (const struct segment_worker *)base + number;
}

static const struct dw_child_stats *stats_at(const struct dw_tree *tree, uint32_t number)
{
	const char *base = (const char *)tree->segment + tree->layout.stats;

	return (const struct dw_child_stats *)base + number;
}

#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_RELAXED)
#define COPY(to, from, field) ((to)->field = LOAD((from)->field))

static void copy_text(char *to, const char *from, size_t space)
{
	memcpy(to, from, space);
	to[space - 1] = '\0';
}

DW_API int dw_tree_info(const struct dw_tree *tree, struct dw_tree_info *info)
{
	int result = options_check_output(info, "dw_tree_info");
	struct dw_tree_info known;

	if (result < 0)
		return result;
	/* The caller may also read the bytes between the fields. */
	memset(&known, 0, sizeof(known));
	known.pid = tree->layout.pid;
	known.worker_count = tree->layout.worker_count;
	known.child_count = tree->layout.child_count;
	known.started_ns = tree->layout.started;
	options_write(info, &known, sizeof(known));
	return 0;
}

static void copy_engine(struct dw_engine_stats *to, const struct dw_engine_stats *from)
{
	to->size = sizeof(*to);
	COPY(to, from, submitted);
	COPY(to, from, done);
	COPY(to, from, failed);
	COPY(to, from, skipped);
	COPY(to, from, retried);
	COPY(to, from, heap_used);
	COPY(to, from, heap_peak);
	COPY(to, from, deaths);
	COPY(to, from, restarts);
	COPY(to, from, provider);
}

static int check_worker(const struct dw_tree *tree, uint32_t number)
{
	if (number >= tree->layout.worker_count)
		return error_set(-ERANGE, "Worker %u of a tree that has %u", number,
				 tree->layout.worker_count);
	return 0;
}

static void read_worker(const struct dw_tree *tree, uint32_t number, struct dw_tree_worker *worker)
{
	const struct segment_worker *from = worker_at(tree, number);
	uint32_t self;

	memset(worker, 0, sizeof(*worker));
	worker->size = sizeof(*worker);
	copy_text(worker->path, from->path, sizeof(worker->path));
	COPY(worker, from, level);
	COPY(worker, from, pid);
	COPY(worker, from, up);
	COPY(worker, from, first_child);
	COPY(worker, from, child_count);
	COPY(worker, from, heap_bytes);
	worker->runs = LOAD(from->status.runs);
	worker->blocked = LOAD(from->status.blocked);
	worker->blocked_since_ns = LOAD(from->status.blocked_since);
	if (worker->first_child > tree->layout.child_count)
		worker->first_child = tree->layout.child_count;
	if (worker->child_count > tree->layout.child_count - worker->first_child)
		worker->child_count = tree->layout.child_count - worker->first_child;
	self = LOAD(from->self);
	if (self < tree->layout.child_count && !LOAD(stats_at(tree, self)->alive))
		worker->up = 0;
}

static void read_engine(const struct dw_tree *tree, uint32_t number, struct dw_engine_stats *engine)
{
	struct dw_tree_worker worker;

	read_worker(tree, number, &worker);
	memset(engine, 0, sizeof(*engine));
	copy_engine(engine, &worker_at(tree, number)->status.stats);
	for (uint32_t i = 0; i < worker.child_count; i++)
		engine->parent_wakes += LOAD(stats_at(tree, worker.first_child + i)->wakes);
}

DW_API int dw_tree_worker(const struct dw_tree *tree, uint32_t number,
			  struct dw_tree_worker *worker)
{
	int result = options_check_output(worker, "dw_tree_worker");
	struct dw_tree_worker now;

	if (result == 0)
		result = check_worker(tree, number);
	if (result < 0)
		return result;
	read_worker(tree, number, &now);
	options_write(worker, &now, sizeof(now));
	return 0;
}

DW_API int dw_tree_worker_stats(const struct dw_tree *tree, uint32_t number,
				struct dw_engine_stats *stats)
{
	int result = options_check_output(stats, "dw_engine_stats");
	struct dw_engine_stats now;

	if (result == 0)
		result = check_worker(tree, number);
	if (result < 0)
		return result;
	read_engine(tree, number, &now);
	options_write(stats, &now, sizeof(now));
	return 0;
}

static int check_child(const struct dw_tree *tree, uint32_t number)
{
	if (number >= tree->layout.child_count)
		return error_set(-ERANGE, "child %u of a tree that has %u", number,
				 tree->layout.child_count);
	return 0;
}

static const struct child_status *status_at(const struct dw_tree *tree, uint32_t number)
{
	return (const struct child_status *)((const char *)tree->segment +
					     tree->layout.child_status) +
	       number;
}

static const struct segment_child *rest_at(const struct dw_tree *tree, uint32_t number)
{
	return (const struct segment_child *)((const char *)tree->segment + tree->layout.children) +
	       number;
}

static void read_stats(const struct dw_tree *tree, uint32_t number, struct dw_child_stats *stats)
{
	stats_copy(stats, stats_at(tree, number), status_at(tree, number), rest_at(tree, number));
}

static void read_child(const struct dw_tree *tree, uint32_t number, struct dw_tree_child *child)
{
	const struct child_status *now = status_at(tree, number);
	const struct segment_child *rest = rest_at(tree, number);

	memset(child, 0, sizeof(*child));
	child->size = sizeof(*child);
	COPY(child, now, tid);
	COPY(child, rest, stopped);
	child->queued = LOAD(now->in_ring);
	COPY(child, now, busy);
	COPY(child, now, task);
	COPY(child, now, ended);
	COPY(child, now, spins_won);
	COPY(child, now, spins_lost);
	child->since_ns = LOAD(now->since);
	copy_text(child->callable, now->name, sizeof(child->callable));
	copy_text(child->cause, rest->cause, sizeof(child->cause));
}

DW_API int dw_tree_child(const struct dw_tree *tree, uint32_t number, struct dw_tree_child *child)
{
	int result = options_check_output(child, "dw_tree_child");
	struct dw_tree_child now;

	if (result == 0)
		result = check_child(tree, number);
	if (result < 0)
		return result;
	read_child(tree, number, &now);
	options_write(child, &now, sizeof(now));
	return 0;
}

DW_API int dw_tree_child_stats(const struct dw_tree *tree, uint32_t number,
			       struct dw_child_stats *stats, size_t size)
{
	int result = options_check_size(size, "dw_child_stats");
	struct dw_child_stats now;

	if (result == 0 && !stats)
		result = error_set(-EINVAL, "dw_tree_child_stats: `stats` is NULL");
	if (result == 0)
		result = check_child(tree, number);
	if (result < 0)
		return result;
	read_stats(tree, number, &now);
	options_fill(stats, size, &now, sizeof(now));
	return 0;
}

/* ------------------------------------------------------------------ report */

struct report {
	char *text;
	size_t space, used;
	uint64_t now, stuck_ns;
	uint32_t stuck;
};

__attribute__((format(printf, 2, 3))) static void say(struct report *report, const char *format,
						      ...)
{
	size_t left = report->used < report->space ? report->space - report->used : 0;
	va_list list;
	int length;

	va_start(list, format);
	length = text_vformat(left ? report->text + report->used : NULL, left, format, list);
	va_end(list);
	if (length > 0)
		report->used += (size_t)length;
}

static void say_time(struct report *report, uint64_t since)
{
	uint64_t ns = since && report->now > since ? report->now - since : 0;

	if (ns < 1000000000)
		say(report, "%.1f ms", (double)ns / 1e6);
	else
		say(report, "%.1f s", (double)ns / 1e9);
}

static uint64_t live_tasks(const struct dw_engine_stats *engine)
{
	uint64_t final = engine->done + engine->failed + engine->skipped;

	return engine->submitted > final ? engine->submitted - final : 0;
}

static bool is_long(const struct report *report, uint64_t since)
{
	return since && report->now > since && report->now - since >= report->stuck_ns;
}

static void say_device(struct report *report, const struct dw_child_stats *stats)
{
	if (stats->host[0]) {
		say(report, "; on host %s", stats->host);
		if (stats->address[0])
			say(report, " (%s), round trip %.3f ms", stats->address,
			    (double)stats->round_trip_ns / 1e6);
		say(report,
		    ", %.1f MiB sent, %.1f received, %.1f saved, %.1f of %.1f in its window",
		    (double)stats->copied_in / MIB, (double)stats->copied_out / MIB,
		    (double)stats->saved / MIB, (double)stats->window_used / MIB,
		    (double)stats->window_bytes / MIB);
		return;
	}
	say(report, "; %.1f ", (double)stats->memory_used / MIB);
	if (stats->memory_bytes)
		say(report, "of %llu ", (unsigned long long)(stats->memory_bytes >> 20));
	say(report, "MiB of memory in use, %.1f MiB copied in, %.1f out, %.1f saved",
	    (double)stats->copied_in / MIB, (double)stats->copied_out / MIB,
	    (double)stats->saved / MIB);
}

static void say_child(struct report *report, const struct dw_tree_child *child,
		      const struct dw_child_stats *stats)
{
	say(report, "  %-28s pid %-8d ", stats->path, stats->pid);
	if (!stats->alive)
		say(report, "dead%s%s", child->cause[0] ? ": " : "", child->cause);
	else if (child->busy)
		say(report, "runs task %llu, \"%s\", for ", (unsigned long long)child->task,
		    child->callable);
	else
		say(report, "idle for ");
	if (stats->alive)
		say_time(report, child->since_ns);
	if (child->stopped)
		say(report, ", stopped by %s", error_signal_name(child->stopped));
	say(report, ", %u in its ring, %llu done, %llu failed", child->queued,
	    (unsigned long long)stats->tasks_done, (unsigned long long)stats->tasks_failed);
	if (stats->host[0] || stats->memory_bytes || stats->memory_used || stats->copied_in ||
	    stats->copied_out)
		say_device(report, stats);
	say(report, "\n");
}

static void say_worker(struct report *report, const struct dw_tree_worker *worker,
		       const struct dw_engine_stats *engine)
{
	static const char *const blocked[] = {
		[DW_BLOCKED_WINDOW] = "until fewer of its tasks are unfinished",
		[DW_BLOCKED_HEAP] = "for room in the heap",
	};

	say(report,
	    "%s (L%u, pid %d)%s: %u runs, %llu tasks: %llu done, %llu failed, %llu skipped, %llu "
	    "alive; "
	    "heap %llu of %llu MiB; %llu wake-ups\n",
	    worker->path, worker->level, worker->pid, worker->up ? "" : " is not up", worker->runs,
	    (unsigned long long)engine->submitted, (unsigned long long)engine->done,
	    (unsigned long long)engine->failed, (unsigned long long)engine->skipped,
	    (unsigned long long)live_tasks(engine), (unsigned long long)(engine->heap_used >> 20),
	    (unsigned long long)(worker->heap_bytes >> 20),
	    (unsigned long long)engine->parent_wakes);
	if (worker->blocked == DW_BLOCKED_WINDOW || worker->blocked == DW_BLOCKED_HEAP) {
		say(report, "  its orchestration waits %s, for ", blocked[worker->blocked]);
		say_time(report, worker->blocked_since_ns);
		say(report, "\n");
	}
}

/* Reports the stuck tasks of one Worker, and the children that it waits for. */
static void say_stuck(struct report *report, const struct dw_tree *tree,
		      const struct dw_tree_worker *worker, const struct dw_engine_stats *engine)
{
	struct dw_child_stats stats;
	struct dw_tree_child child;
	uint64_t idle_since = 0;
	bool works = false, first = true;

	if (!worker->up || !live_tasks(engine))
		return;
	for (uint32_t i = 0; i < worker->child_count; i++) {
		read_child(tree, worker->first_child + i, &child);
		read_stats(tree, worker->first_child + i, &stats);
		if (child.since_ns > idle_since)
			idle_since = child.since_ns;
		works = works || (stats.alive && child.busy);
		/* A stopped child does not start its queued tasks. */
		if (!stats.alive || !(child.busy || (child.stopped && child.queued)) ||
		    !is_long(report, child.since_ns))
			continue;
		if (first)
			say(report, "%s waits for:\n", worker->path);
		first = false;
		report->stuck++;
		say(report, "  %s (pid %d): ", stats.path, stats.pid);
		if (child.stopped)
			say(report, "stopped by %s, ", error_signal_name(child.stopped));
		if (child.busy)
			say(report, "runs task %llu, \"%s\", for ", (unsigned long long)child.task,
			    child.callable);
		else
			say(report, "has %u tasks, idle for ", child.queued);
		say_time(report, child.since_ns);
		say(report, "\n");
	}
	if (works || !is_long(report, idle_since))
		return;
	report->stuck++;
	say(report, "%s: %llu tasks are not finished, and no child has worked for ", worker->path,
	    (unsigned long long)live_tasks(engine));
	say_time(report, idle_since);
	say(report, "\n");
}

static int make_report(const struct dw_tree *tree, struct report *report)
{
	struct dw_engine_stats engine;
	struct dw_child_stats stats;
	struct dw_tree_worker worker;
	struct dw_tree_child child;

	say(report, "tree of process %d, up for ", tree->layout.pid);
	say_time(report, tree->layout.started);
	say(report, "\n");
	for (uint32_t i = 0; i < tree->layout.worker_count; i++) {
		read_worker(tree, i, &worker);
		read_engine(tree, i, &engine);
		say_worker(report, &worker, &engine);
		for (uint32_t k = 0; k < worker.child_count; k++) {
			read_child(tree, worker.first_child + k, &child);
			read_stats(tree, worker.first_child + k, &stats);
			say_child(report, &child, &stats);
		}
	}
	say(report, "stuck for %.3g s or longer:\n", (double)report->stuck_ns / 1e9);
	for (uint32_t i = 0; i < tree->layout.worker_count; i++) {
		read_worker(tree, i, &worker);
		read_engine(tree, i, &engine);
		say_stuck(report, tree, &worker, &engine);
	}
	if (!report->stuck)
		say(report, "nothing\n");
	return 0;
}

DW_API int dw_tree_report(const struct dw_tree *tree, uint64_t stuck_ns, char *text, size_t *bytes)
{
	struct report report = { .text = text, .now = now_ns(),
				 .stuck_ns = stuck_ns ? stuck_ns : STUCK_NS };

	if (!bytes || (*bytes && !text))
		return error_set(-EINVAL, "the report: `bytes` or `text` is NULL");
	report.space = *bytes;
	make_report(tree, &report);
	*bytes = report.used + 1;
	return 0;
}

DW_API int dw_worker_report(struct dw_worker *worker, uint64_t stuck_ns, char *text, size_t *bytes)
{
	struct dw_tree tree = { 0 };
	int result = worker_check(worker, "dw_worker_report");

	if (result < 0)
		return result;
	worker = worker_root(worker);
	if (!worker->segment.memory)
		return error_set(-ENOTCONN, "dw_worker_report: Worker %s was never initialised",
				 worker->name);
	tree.segment = worker->segment.memory;
	tree.layout = *worker->segment.layout;
	return dw_tree_report(&tree, stuck_ns, text, bytes);
}
