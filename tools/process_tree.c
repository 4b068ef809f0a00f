// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Reads /proc. A process or thread that goes away while it is looked at is left
 * out, not an error. No state; any thread.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "process_tree.h"

#define OWN_ATTEMPTS 100

/* The content of a small file of /proc, NUL-terminated; -1: gone. */
static ssize_t read_small(const char *path, char *text, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, bytes - 1);

	if (fd >= 0)
		close(fd);
	if (length >= 0)
		text[length] = '\0';
	return length;
}

static uint64_t number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static bool sample_thread(pid_t pid, pid_t tid, struct thread_sample *thread)
{
	char path[64], text[4096];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	if (read_small(path, text, sizeof(text)) <= 0)
		return false;
	thread->pid = pid;
	thread->tid = tid;
	thread->voluntary = number_after(text, "\nvoluntary_ctxt_switches:");
	thread->involuntary = number_after(text, "\nnonvoluntary_ctxt_switches:");
	return true;
}

/* Makes room for one more element. */
static int grow(void **array, size_t count, size_t *space, size_t bytes)
{
	size_t wanted = *space ? *space * 2 : 64;
	void *larger;

	if (count < *space)
		return 0;
	larger = realloc(*array, wanted * bytes);
	if (!larger)
		return -ENOMEM;
	*array = larger;
	*space = wanted;
	return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec time = { 0 };

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int sample_process(pid_t pid, struct tree_sample *sample)
{
	struct dirent *entry;
	uint64_t watcher;
	char path[64];
	clockid_t clock;
	DIR *dir;
	int err = grow((void **)&sample->processes, sample->process_count, &sample->process_space,
		       sizeof(*sample->processes));

	if (err)
		return err;
	if (clock_getcpuclockid(pid, &clock))
		return 0;
	/* In this order: a process has used at least as much as one of its threads. */
	watcher = pid == getpid() ? clock_ns(CLOCK_THREAD_CPUTIME_ID) : 0;
	sample->processes[sample->process_count].pid = pid;
	sample->processes[sample->process_count++].cpu_ns = clock_ns(clock) - watcher;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && !err && (entry = readdir(dir))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (!isdigit((unsigned char)entry->d_name[0]) || tid == gettid())
			continue;
		err = grow((void **)&sample->threads, sample->thread_count, &sample->thread_space,
			   sizeof(*sample->threads));
		if (!err)
			sample->thread_count += sample_thread(pid, tid,
				&sample->threads[sample->thread_count]);
	}
	if (dir)
		closedir(dir);
	return err;
}

static void sample_own(struct tree_sample *sample)
{
	struct rusage all, watcher, again;
	bool same = false;

	/*
	 * The watcher must not be switched in between. On a busy machine it is at times; under a
	 * tracer each call switches it, and a filter may refuse the call: bounded.
	 */
	for (unsigned i = 0; i < OWN_ATTEMPTS && !same; i++) {
		if (getrusage(RUSAGE_THREAD, &watcher) || getrusage(RUSAGE_SELF, &all) ||
		    getrusage(RUSAGE_THREAD, &again))
			return;
		same = watcher.ru_nvcsw == again.ru_nvcsw && watcher.ru_nivcsw == again.ru_nivcsw;
	}
	sample->own_voluntary = (uint64_t)(all.ru_nvcsw - watcher.ru_nvcsw);
	sample->own_involuntary = (uint64_t)(all.ru_nivcsw - watcher.ru_nivcsw);
}

struct process {
	pid_t pid, parent;
	bool ours;		/* this process or a descendant */
};

/* All processes that we may see; free() them. */
static int list_processes(struct process **list, size_t *count)
{
	DIR *dir = opendir("/proc");
	struct process *all = NULL;
	size_t space = 0;
	struct dirent *entry;

	*count = 0;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		char path[64], text[512];
		const char *close_bracket;
		int parent;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		text_format(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		if (read_small(path, text, sizeof(text)) <= 0)
			continue;
		close_bracket = strrchr(text, ')');
		if (!close_bracket || sscanf(close_bracket + 1, " %*c %d", &parent) != 1)
			continue;
		if (grow((void **)&all, *count, &space, sizeof(*all))) {
			free(all);
			closedir(dir);
			return -ENOMEM;
		}
		all[*count].pid = (pid_t)strtol(entry->d_name, NULL, 10);
		all[*count].parent = parent;
		all[*count].ours = all[*count].pid == getpid();
		++*count;
	}
	closedir(dir);
	*list = all;
	return 0;
}

/* Marks the descendants of those that are marked. */
static void mark_descendants(struct process *list, size_t count)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < count; i++)
			for (size_t n = 0; n < count && !list[i].ours; n++)
				if (list[n].ours && list[n].pid == list[i].parent)
					more = list[i].ours = true;
	}
}

static int compare_threads(const void *a, const void *b)
{
	const struct thread_sample *left = a, *right = b;

	return left->tid < right->tid ? -1 : left->tid > right->tid;
}

static int compare_processes(const void *a, const void *b)
{
	const struct process_sample *left = a, *right = b;

	return left->pid < right->pid ? -1 : left->pid > right->pid;
}

int tree_sample_take(struct tree_sample *sample)
{
	struct process *list = NULL;
	size_t count = 0;
	int err = list_processes(&list, &count);

	sample->thread_count = 0;
	sample->process_count = 0;
	if (!err)
		mark_descendants(list, count);
	for (size_t i = 0; i < count && !err; i++)
		if (list[i].ours)
			err = sample_process(list[i].pid, sample);
	free(list);
	sample_own(sample);
	if (!err && sample->thread_count)
		qsort(sample->threads, sample->thread_count, sizeof(*sample->threads),
		      compare_threads);
	if (!err)
		qsort(sample->processes, sample->process_count, sizeof(*sample->processes),
		      compare_processes);
	return err;
}

void tree_sample_release(struct tree_sample *sample)
{
	free(sample->threads);
	free(sample->processes);
	*sample = (struct tree_sample){ 0 };
}

void tree_sample_compare(const struct tree_sample *before, const struct tree_sample *after,
			 struct tree_change *change)
{
	uint64_t most = 0;

	*change = (struct tree_change){
		.processes = (uint32_t)after->process_count,
		.threads = (uint32_t)after->thread_count,
		.voluntary = after->own_voluntary - before->own_voluntary,
		.involuntary = after->own_involuntary - before->own_involuntary,
	};
	for (size_t a = 0, b = 0; a < after->thread_count; a++) {
		const struct thread_sample *now = &after->threads[a];
		struct thread_sample then = { 0 };
		uint64_t voluntary, involuntary;

		while (b < before->thread_count && before->threads[b].tid < now->tid)
			b++;
		if (b < before->thread_count && before->threads[b].tid == now->tid)
			then = before->threads[b];
		voluntary = now->voluntary - then.voluntary;
		involuntary = now->involuntary - then.involuntary;
		if (voluntary + involuntary > most) {
			most = voluntary + involuntary;
			change->busiest = now->tid;
		}
		if (now->pid == getpid())
			continue;
		change->voluntary += voluntary;
		change->involuntary += involuntary;
	}
	for (size_t a = 0, b = 0; a < after->process_count; a++) {
		const struct process_sample *now = &after->processes[a];
		uint64_t then;

		while (b < before->process_count && before->processes[b].pid < now->pid)
			b++;
		then = b < before->process_count && before->processes[b].pid == now->pid ?
		       before->processes[b].cpu_ns : 0;
		/* The two clocks of our own process are not read at one moment. */
		change->cpu_ns += now->cpu_ns > then ? now->cpu_ns - then : 0;
	}
}
