// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Behind trees.h. A process whose /proc/PID/fd cannot be opened belongs to another user: it is
 * passed over, unless it was asked for by its number.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tool.h"
#include "trees.h"

static int each_of(int32_t pid, int (*visit)(const struct dw_tree *tree, void *context),
		   void *context, unsigned int *found)
{
	struct dw_tree *tree;
	int result = 0;

	for (uint32_t i = 0; result == 0; i++) {
		result = dw_tree_open(pid, i, &tree);
		if (result < 0)
			return result == -ENOENT && i ? 0 : result;
		++*found;
		result = visit(tree, context);
		dw_tree_close(tree);
	}
	return result;
}

int trees_each(int32_t pid, int (*visit)(const struct dw_tree *tree, void *context), void *context,
	       unsigned int *found)
{
	struct dirent *entry;
	int result = 0;
	DIR *dir;

	*found = 0;
	if (pid)
		return each_of(pid, visit, context, found);
	dir = opendir("/proc");
	if (!dir)
		return -errno;
	while (result <= 0 && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			result = each_of(atoi(entry->d_name), visit, context, found);
	closedir(dir);
	return result > 0 ? result : 0;
}

void trees_command(int32_t pid, char *text, size_t space)
{
	char path[32];
	FILE *file;

	text[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "r");
	if (!file)
		return;
	if (fgets(text, (int)space, file))
		text[strcspn(text, "\n")] = '\0';
	fclose(file);
}
