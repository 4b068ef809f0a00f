// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind graph_file.h. A line is a task, in the box of its run, or a dependency (trace/dot.c). */
#include <errno.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "graph_file.h"
#include "tool.h"

/* A picture with more tasks is as good as none. */
#define TASKS_IN_A_PICTURE 200

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The name in the quotes at `text`, ended there; *rest is behind it. NULL: there is no name. */
static char *take_name(char *text, char **rest)
{
	char *end = *text == '"' ? strchr(text + 1, '"') : NULL;

	if (!end)
		return NULL;
	*end = '\0';
	*rest = end + 1;
	return text + 1;
}

/* A task's name, of a line that is cut into pieces; NULL: the line is none, or is not wanted. */
static const char *wanted_task(char *line, const char *owner, uint64_t most)
{
	char *label = strstr(line, "{ label="), *name, *part, *path, *rest, *run;

	if (strncmp(line, "subgraph ", 9) != 0 || !label)
		return NULL;
	path = take_name(label + 8, &rest);
	run = path ? strstr(path, " run ") : NULL;
	/* In the box of its recording, or replay, within its run's; quotes in that are escaped. */
	part = run ? strstr(rest, "{ label=") : NULL;
	part = part ? strstr(part, "\"; \"") : NULL;
	rest = run ? strchr(part ? part + 1 : rest, '"') : NULL;
	name = rest ? take_name(rest, &rest) : NULL;
	if (!name || !strrchr(name, '.'))
		return NULL;
	*run = '\0';
	if ((owner && strcmp(path, owner) != 0) ||
	    (most && strtoull(strrchr(name, '.') + 1, NULL, 10) > most))
		return NULL;
	return name;
}

/* The names of all tasks that are wanted, for tfind(). */
static int collect(FILE *file, const char *owner, uint64_t most, void **names)
{
	char *line = NULL;
	size_t space = 0;
	int status = TOOL_OK;

	while (status == TOOL_OK && getline(&line, &space, file) > 0) {
		const char *name = wanted_task(line, owner, most);
		char *copy = name ? strdup(name) : NULL;

		if (name && (!copy || !tsearch(copy, names, compare)))
			status = tool_fail(TOOL_SYSTEM, "no memory");
	}
	free(line);
	return status;
}

static bool is_kept(char *copy, const char *owner, uint64_t most, void *const *names)
{
	char *from, *to, *rest;

	if (!strncmp(copy, "subgraph ", 9))
		return wanted_task(copy, owner, most) != NULL;
	from = take_name(copy, &rest);
	if (!from)
		return true;
	to = strncmp(rest, " -> ", 4) ? NULL : take_name(rest + 4, &rest);
	return to && tfind(from, names, compare) && tfind(to, names, compare);
}

static int copy_kept(FILE *from, FILE *to, const char *owner, uint64_t most, void *const *names)
{
	char *line = NULL, *copy;
	size_t space = 0;
	int status = TOOL_OK;

	while (status == TOOL_OK && getline(&line, &space, from) > 0) {
		copy = strdup(line);
		if (!copy)
			status = tool_fail(TOOL_SYSTEM, "no memory");
		else if (is_kept(copy, owner, most, names))
			fputs(line, to);
		free(copy);
	}
	free(line);
	return status;
}

int graph_file_cut(const char *path, const char *owner, uint64_t most)
{
	char *other = NULL;
	FILE *from = fopen(path, "r"), *to;
	void *names = NULL;
	int status;

	if (!from)
		return tool_fail(TOOL_NO_TRACE, "%s: %s", path, strerror(errno));
	if (asprintf(&other, "%s.part", path) < 0) {
		fclose(from);
		return tool_fail(TOOL_SYSTEM, "no memory");
	}
	status = collect(from, owner, most, &names);
	if (status == TOOL_OK && !names)
		status = tool_fail(TOOL_NO_TRACE, "%s has no task of a Worker \"%s\"", path,
				   owner ? owner : "");
	rewind(from);
	to = status ? NULL : fopen(other, "w");
	if (!status && !to)
		status = tool_fail(TOOL_SYSTEM, "%s: %s", other, strerror(errno));
	if (to) {
		status = copy_kept(from, to, owner, most, &names);
		if (fclose(to) && !status)
			status = tool_fail(TOOL_SYSTEM, "%s: %s", other, strerror(errno));
		if (!status && rename(other, path))
			status = tool_fail(TOOL_SYSTEM, "%s: %s", path, strerror(errno));
		if (status)
			remove(other);
	}
	fclose(from);
	tdestroy(names, free);
	free(other);
	return status;
}

int graph_file_count(const char *path)
{
	static const char *const reasons[] = { "RAW", "WAR", "WAW", "explicit" };
	size_t nodes = 0, edges = 0, by_reason[COUNT_OF(reasons)] = { 0 }, space = 0;
	FILE *file = fopen(path, "r");
	char *line = NULL;

	if (!file)
		return tool_fail(TOOL_NO_TRACE, "%s: %s", path, strerror(errno));
	while (getline(&line, &space, file) > 0) {
		char *arrow = strstr(line, "\" -> \"");

		nodes += !strncmp(line, "subgraph ", 9);
		if (!arrow)
			continue;
		edges++;
		for (size_t i = 0; i < COUNT_OF(reasons); i++)
			by_reason[i] += strstr(arrow, reasons[i]) != NULL;
	}
	free(line);
	fclose(file);
	printf("%s: %zu tasks, %zu dependencies (%zu RAW, %zu WAR, %zu WAW, %zu explicit); "
	       "to draw it: dot -Tsvg -O %s\n",
	       path, nodes, edges, by_reason[0], by_reason[1], by_reason[2], by_reason[3], path);
	if (nodes > TASKS_IN_A_PICTURE)
		printf("These are too many tasks for a picture. --worker PATH keeps those of one "
		       "Worker, --first N the first of each run; sfdp -Tsvg -O %s draws thousands "
		       "as a cloud; the critical path is in `distworker trace`.\n", path);
	return TOOL_OK;
}
