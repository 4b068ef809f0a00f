// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Finds and loads jobs. Every way in which a file can fail to be a job has its own
 * sentence. Called from the main thread, before any Worker exists.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/library.h"
#include "base/strings.h"
#include "base/text.h"
#include "base/variables.h"
#include "job_file.h"
#include "tool.h"

static int no_memory(void)
{
	return tool_fail(TOOL_SYSTEM, "no memory for the names of jobs");
}

/* The folders that are searched, in this order. A tool_exit. */
static int folders_collect(struct strings *folders)
{
	const char *path = variable_text(VARIABLE_JOB_PATH);
	char library[PATH_MAX], own[PATH_MAX + 32];
	Dl_info info;
	int err = 0;

	while (path && *path) {
		size_t length = strcspn(path, ":");

		if (length)
			err |= strings_add(folders, path, length);
		path += length + (path[length] == ':');
	}
	/* In the build folder; installed, beside the library, wherever that is. */
	if (tool_folder()) {
		snprintf(own, sizeof(own), "%s/jobs", tool_folder());
		err |= strings_add(folders, own, strlen(own));
	}
	if (dladdr(dw_version(), &info) && info.dli_fname && realpath(info.dli_fname, library)) {
		*strrchr(library, '/') = '\0';
		snprintf(own, sizeof(own), "%s/distworker/jobs", library);
		err |= strings_add(folders, own, strlen(own));
	}
	err |= strings_add(folders, DW_DRIVER_DIR "/jobs", strlen(DW_DRIVER_DIR "/jobs"));
	return err ? no_memory() : TOOL_OK;
}

/* Names of the .so files of all folders, without the ending, sorted. A tool_exit. */
static int collect_names(const struct strings *folders, struct strings *names)
{
	int err = 0;

	for (size_t i = 0; i < folders->count; i++) {
		DIR *dir = opendir(folders->items[i]);
		struct dirent *entry;

		while (dir && !err && (entry = readdir(dir))) {
			size_t length = strlen(entry->d_name);

			if (length > 3 && !strcmp(entry->d_name + length - 3, ".so"))
				err = strings_add(names, entry->d_name, length - 3);
		}
		if (dir)
			closedir(dir);
	}
	strings_sort(names);
	return err ? no_memory() : TOOL_OK;
}

/* "a, b, c" in memory of its own; NULL: no memory. */
static char *join(const struct strings *strings)
{
	size_t bytes = 1;
	char *text, *end;

	for (size_t i = 0; i < strings->count; i++)
		bytes += strlen(strings->items[i]) + 2;
	text = end = calloc(1, bytes);
	for (size_t i = 0; text && i < strings->count; i++) {
		end = stpcpy(end, i ? ", " : "");
		end = stpcpy(end, strings->items[i]);
	}
	return text;
}

/* Reports that there is no such job, the folders that were searched, and the jobs in them. */
static int fail_unknown(const char *name, const struct strings *folders)
{
	/* Then its own folder is missing in the list. */
	const char *lost =
		tool_folder() ?
			"" :
			" (the folder of this program is not known, because /proc/self/exe cannot "
			"be read: ";
	const char *why = tool_folder() ? "" : tool_folder_error(), *end = tool_folder() ? "" : ")";
	struct strings names = { 0 };
	int status = collect_names(folders, &names);
	char *places = join(folders), *known = join(&names);
	const char *near = tool_nearest(name, (const char *const *)names.items, names.count);

	if (status == TOOL_OK && (!places || !known))
		status = no_memory();
	if (status == TOOL_OK && near)
		status = tool_fail(TOOL_NO_JOB,
				   "there is no job \"%s\" in %s%s%s%s; did you mean \"%s\"?",
				   text_short(name), places, lost, why, end, near);
	else if (status == TOOL_OK)
		status = tool_fail(TOOL_NO_JOB, "there is no job \"%s\" in %s%s%s%s; %s%s",
				   text_short(name), places, lost, why, end,
				   names.count ? "there are: " : "there is none at all", known);
	free(places);
	free(known);
	strings_release(&names);
	return status;
}

static int locate(const char *name, struct job_file *file)
{
	struct strings folders = { 0 };
	size_t length = strlen(name);
	char path[PATH_MAX];
	int status;

	if (strchr(name, '/') || (length > 3 && !strcmp(name + length - 3, ".so"))) {
		if (!realpath(name, file->path))
			return tool_fail(TOOL_NO_JOB, "there is no job file %s: %s",
					 text_short(name), strerror(errno));
		return TOOL_OK;
	}
	status = folders_collect(&folders);
	if (status == TOOL_OK)
		status = TOOL_NO_JOB;
	for (size_t i = 0; i < folders.count && status == TOOL_NO_JOB; i++)
		if (snprintf(path, sizeof(path), "%s/%s.so", folders.items[i], name) < PATH_MAX &&
		    realpath(path, file->path))
			status = TOOL_OK;
	if (status == TOOL_NO_JOB)
		status = fail_unknown(name, &folders);
	strings_release(&folders);
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
	char *slash, why[LIBRARY_WHY_BYTES];
	void *handle, *symbol;
	int status = locate(name, file);

	if (status)
		return status;
	strcpy(file->folder, file->path);
	slash = strrchr(file->folder, '/');
	slash[slash == file->folder] = '\0';
	handle = library_open(file->path, RTLD_NOW | RTLD_LOCAL, why);
	if (!handle)
		return tool_fail(TOOL_NO_JOB, "the job cannot be loaded: %s", why);
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
	struct strings folders = { 0 }, names = { 0 };
	int status = folders_collect(&folders);

	if (status == TOOL_OK)
		status = collect_names(&folders, &names);
	for (size_t i = 0; i < names.count; i++) {
		struct job_file file;

		if (!job_load(names.items[i], &file))
			fprintf(out, "%-12s %s\n", names.items[i],
				file.job->description ? file.job->description : "");
	}
	for (size_t i = 0; status == TOOL_OK && !names.count && i < folders.count; i++)
		fprintf(stderr, "there is no job in %s\n", folders.items[i]);
	strings_release(&names);
	strings_release(&folders);
}
