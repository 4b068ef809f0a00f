/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See descendants.h. If a child has left no process behind, its tasks become final before the
 * kernel has freed its memory. Otherwise, and without CONFIG_PROC_CHILDREN, they wait for the end
 * of its lifeline.
 *
 * The child's threads fork no more, and all of them are past the point where one would inherit
 * another's children. So a process below it is its child, or a child of such a process, or, once
 * all between them have ended, its spawner's (PR_SET_CHILD_SUBREAPER); a process made with
 * CLONE_PARENT is the spawner's from the start. The kernel moves them only in that direction, so
 * looking at the child first and at the spawner second misses none.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fd.h"
#include "base/text.h"
#include "worker/descendants.h"
#include "worker/hierarchy.h"

/* The most children of the spawner that are read; more would take too long. */
#define MOST 1024

struct pids {
	int pid[MOST];
	uint32_t count;
};

/* Reads the children of one thread. False: they are unknown. */
static bool read_children(pid_t pid, const char *tid, struct pids *children)
{
	char path[64];
	FILE *file;
	bool known;

	text_format(path, sizeof(path), "/proc/%d/task/%s/children", (int)pid, tid);
	file = fd_open_stream(path);
	if (!file)
		return false;
	children->count = 0;
	while (children->count < MOST && fscanf(file, "%d", &children->pid[children->count]) == 1)
		children->count++;
	known = feof(file) && !ferror(file);
	fclose(file);
	return known;
}

static bool has_no_children(pid_t pid)
{
	struct dirent *entry;
	struct pids children;
	bool none = true;
	char path[64];
	DIR *threads;

	text_format(path, sizeof(path), "/proc/%d/task", (int)pid);
	threads = fd_open_folder(path);
	if (!threads)
		return false;
	while (none && (entry = readdir(threads)))
		if (entry->d_name[0] != '.')
			none = read_children(pid, entry->d_name, &children) && children.count == 0;
	closedir(threads);
	return none;
}

/*
 * When an entry is reaped after it was read, the list omits the process behind it; a second list
 * then differs. A dead child in the list was not reaped, so its number was its own all the time.
 */
static bool read_spawned(const struct dw_worker *worker, struct pids *spawned)
{
	struct pids again;
	char tid[16];

	text_format(tid, sizeof(tid), "%d", (int)worker->spawner.pid);
	return read_children(worker->spawner.pid, tid, spawned) &&
	       read_children(worker->spawner.pid, tid, &again) && spawned->count == again.count &&
	       memcmp(spawned->pid, again.pid, again.count * sizeof(again.pid[0])) == 0;
}

static bool is_known(const struct dw_worker *worker, pid_t pid)
{
	for (uint32_t i = 0; i < worker->child_count; i++)
		if (worker->children[i].life.pid == pid)
			return true;
	return false;
}

bool descendants_none(const struct child *child)
{
	struct pids spawned;
	bool seen = false;

	if (!has_no_children(child->life.pid) || !read_spawned(child->owner, &spawned))
		return false;
	for (uint32_t i = 0; i < spawned.count; i++) {
		if (!is_known(child->owner, spawned.pid[i]))
			return false;
		seen |= spawned.pid[i] == child->life.pid;
	}
	return seen;
}
