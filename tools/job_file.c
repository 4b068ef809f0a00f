// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Finds and loads jobs. Every way in which a file can fail to be a job has its own
 * sentence. Called from the main thread, before any Worker exists.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "job_file.h"
#include "tool.h"

#define FOLDERS_MAX 32
#define JOBS_MAX 64

struct folders {
	char *names[FOLDERS_MAX];
	size_t count;
};

static void folders_add(struct folders *folders, const char *name, size_t length)
{
	if (length && folders->count < FOLDERS_MAX) {
		char *copy = strndup(name, length);

		if (copy)
			folders->names[folders->count++] = copy;
	}
}

static void folders_collect(struct folders *folders)
{
	const char *path = secure_getenv("DW_JOB_PATH");
	char library[PATH_MAX], own[PATH_MAX + 32];
	Dl_info info;

	folders->count = 0;
	while (path && *path) {
		size_t length = strcspn(path, ":");

		folders_add(folders, path, length);
		path += length + (path[length] == ':');
	}
	/* In the build folder; installed, beside the library, wherever that is. */
	if (tool_folder()) {
		snprintf(own, sizeof(own), "%s/jobs", tool_folder());
		folders_add(folders, own, strlen(own));
	}
	if (dladdr(dw_version(), &info) && info.dli_fname && realpath(info.dli_fname, library)) {
		*strrchr(library, '/') = '\0';
		snprintf(own, sizeof(own), "%s/distworker/jobs", library);
		folders_add(folders, own, strlen(own));
	}
	folders_add(folders, DW_DRIVER_DIR "/jobs", strlen(DW_DRIVER_DIR "/jobs"));
}

static void folders_release(struct folders *folders)
{
	while (folders->count)
		free(folders->names[--folders->count]);
}

/* Names of the .so files of a folder, without the ending; each name once. */
static void collect_names(const char *folder, char *names[JOBS_MAX], size_t *count)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t length = strlen(entry->d_name);
		bool known = false;

		if (length < 4 || strcmp(entry->d_name + length - 3, ".so"))
			continue;
		for (size_t i = 0; i < *count && !known; i++)
			known = strlen(names[i]) == length - 3 &&
				!strncmp(names[i], entry->d_name, length - 3);
		if (!known && *count < JOBS_MAX)
			names[*count] = strndup(entry->d_name, length - 3);
		if (!known && *count < JOBS_MAX && names[*count])
			++*count;
	}
	if (dir)
		closedir(dir);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reports that there is no such job, the folders that were searched, and the jobs in them. */
static int fail_unknown(const char *name, const struct folders *folders)
{
	char *names[JOBS_MAX] = { NULL }, places[1024] = "", known[512] = "";
	/* Then its own folder is missing in the list. */
	const char *lost =
		tool_folder() ?
			"" :
			" (the folder of this program is not known, because /proc/self/exe cannot "
			"be read)";
	size_t count = 0, used = 0;
	const char *near;

	for (size_t i = 0; i < folders->count && used < sizeof(places); i++) {
		used += (size_t)snprintf(places + used, sizeof(places) - used, "%s%s",
					 i ? ", " : "", folders->names[i]);
		collect_names(folders->names[i], names, &count);
	}
	qsort(names, count, sizeof(names[0]), compare_names);
	used = 0;
	for (size_t i = 0; i < count && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
					 names[i]);
	near = tool_nearest(name, (const char *const *)names, count);
	if (near)
		tool_fail(TOOL_NO_JOB, "there is no job \"%s\" in %s%s; did you mean \"%s\"?", name,
			  places, lost, near);
	else
		tool_fail(TOOL_NO_JOB, "there is no job \"%s\" in %s%s; %s%s", name, places, lost,
			  count ? "there are: " : "there is none at all", known);
	while (count)
		free(names[--count]);
	return TOOL_NO_JOB;
}

static int locate(const char *name, struct job_file *file)
{
	struct folders folders;
	size_t length = strlen(name);
	char path[PATH_MAX];
	int status;

	if (strchr(name, '/') || (length > 3 && !strcmp(name + length - 3, ".so"))) {
		if (!realpath(name, file->path))
			return tool_fail(TOOL_NO_JOB, "there is no job file %s: %s", name,
					 strerror(errno));
		return TOOL_OK;
	}
	folders_collect(&folders);
	status = TOOL_NO_JOB;
	for (size_t i = 0; i < folders.count && status; i++)
		if (snprintf(path, sizeof(path), "%s/%s.so", folders.names[i], name) < PATH_MAX &&
		    realpath(path, file->path))
			status = TOOL_OK;
	if (status)
		fail_unknown(name, &folders);
	folders_release(&folders);
	return status;
}

static int check(const struct job_file *file)
{
	const struct distworker_job *job = file->job;

	if (!job)
		return tool_fail(TOOL_NO_JOB, "%s: %s() returned NULL", file->path,
				 DISTWORKER_JOB_SYMBOL);
	if (job->abi_version != DISTWORKER_JOB_ABI_VERSION)
		return tool_fail(
			TOOL_NO_JOB,
			"%s was built for version %u of distworker/job.h, this program has version "
			"%d; build it again",
			file->path, job->abi_version, DISTWORKER_JOB_ABI_VERSION);
	if (job->size < offsetof(struct distworker_job, release) + sizeof(job->release))
		return tool_fail(TOOL_NO_JOB,
				 "%s: its struct distworker_job says %zu bytes, %zu are needed",
				 file->path, job->size, sizeof(*job));
	if (!job->name || !job->prepare || !job->run || !job->report)
		return tool_fail(TOOL_NO_JOB, "%s: its job has no %s", file->path,
				 !job->name ? "name" : !job->prepare ? "prepare" :
				 !job->run ? "run" : "report");
	return TOOL_OK;
}

int job_load(const char *name, struct job_file *file)
{
	distworker_job_entry *entry;
	void *handle, *symbol;
	char *slash;
	int status = locate(name, file);

	if (status)
		return status;
	snprintf(file->folder, sizeof(file->folder), "%s", file->path);
	slash = strrchr(file->folder, '/');
	slash[slash == file->folder] = '\0';
	handle = dlopen(file->path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return tool_fail(TOOL_NO_JOB, "the job cannot be loaded: %s", dlerror());
	symbol = dlsym(handle, DISTWORKER_JOB_SYMBOL);
	if (!symbol)
		return tool_fail(TOOL_NO_JOB,
			"%s is not a job: it does not export %s (distworker/job.h says how)",
			file->path, DISTWORKER_JOB_SYMBOL);
	/* ISO C has no conversion between the two kinds of pointers. */
	memcpy(&entry, &symbol, sizeof(entry));
	file->job = entry();
	return check(file);
}

void job_list(FILE *out)
{
	struct folders folders;
	char *names[JOBS_MAX] = { NULL };
	size_t count = 0;

	folders_collect(&folders);
	for (size_t i = 0; i < folders.count; i++)
		collect_names(folders.names[i], names, &count);
	qsort(names, count, sizeof(names[0]), compare_names);
	for (size_t i = 0; i < count; i++) {
		struct job_file file;

		if (!job_load(names[i], &file))
			fprintf(out, "%-12s %s\n", names[i],
				file.job->description ? file.job->description : "");
		free(names[i]);
	}
	for (size_t i = 0; !count && i < folders.count; i++)
		fprintf(stderr, "there is no job in %s\n", folders.names[i]);
	folders_release(&folders);
}
