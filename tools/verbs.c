// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind verbs.h. */
#include <stdio.h>
#include <string.h>
#include "tool.h"
#include "verbs.h"

extern const struct argp run_argp, list_argp, top_argp, trace_argp, graph_argp, info_argp,
	chips_argp, node_argp, doctor_argp, completion_argp, manual_argp, image_sim_argp,
	image_pto_argp;

const struct verb verbs[] = {
	{ "run", verb_run, "build a hierarchy and run a job on it", &run_argp },
	{ "list", verb_list, "the trees on this machine", &list_argp },
	{ "top", verb_top, "the state of these trees, and everything that is stuck", &top_argp },
	{ "trace", verb_trace, "run a job, and tell where its tasks' time went", &trace_argp },
	{ "graph", verb_graph, "run a job, and write the graph of its tasks", &graph_argp },
	{ "info", verb_info, "versions, provider, limits, drivers", &info_argp },
	{ "chips", verb_chips, "chip drivers, their devices and properties", &chips_argp },
	{ "image", verb_image, "make an image for a chip driver", NULL },
	{ "node", verb_node, "serve as a node of trees on other hosts", &node_argp },
	{ "doctor", verb_doctor, "missing things on this machine, each with a remedy",
	  &doctor_argp },
	{ "completion", verb_completion, "completion of this command line for a shell",
	  &completion_argp },
	{ "manual", verb_manual, "the manual page of a verb", &manual_argp },
};
const size_t verb_count = COUNT_OF(verbs);

const struct verb image_parts[] = {
	{ "sim", NULL, "an image of the simulated chip, from C and C++", &image_sim_argp },
	{ "pto", NULL, "an image of the pto runtime, from objects", &image_pto_argp },
};
const size_t image_part_count = COUNT_OF(image_parts);

enum operand operand_of(const char *text)
{
	static const char *const files[] = { "FILE", "FOLDER", "IMAGE", "SOURCE" };

	if (!text)
		return OPERAND_NONE;
	while (*text == '[')
		text++;
	if (strchr(text, '|'))
		return strstr(text, "FILE") ? OPERAND_WORDS_OR_FILE : OPERAND_WORDS;
	if (!strncmp(text, "JOB", 3))
		return OPERAND_JOB;
	if (!strncmp(text, "PID", 3))
		return OPERAND_PID;
	for (size_t i = 0; i < COUNT_OF(files); i++)
		if (!strncmp(text, files[i], strlen(files[i])))
			return OPERAND_FILE;
	return OPERAND_NONE;
}

void operand_words(const char *text, char *words, size_t bytes)
{
	size_t used = 0;

	words[0] = '\0';
	while (*text == '[')
		text++;
	while (*text && *text != ']' && *text != '.' && used < bytes) {
		size_t length = strcspn(text, "|].");

		if (length != 4 || strncmp(text, "FILE", 4))
			used += (size_t)snprintf(words + used, bytes - used, "%s%.*s",
						 used ? " " : "", (int)length, text);
		text += length + (text[length] == '|');
	}
}

bool verb_passes_on(const struct verb *verb)
{
	return verb->run == verb_trace || verb->run == verb_graph;
}
