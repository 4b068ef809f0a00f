// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker node: this host as a node of trees whose roots are elsewhere (docs/hosts.md).
 */
#include <stdlib.h>
#include <string.h>
#include <distworker/distworker.h>
#include "hosts.h"
#include "tool.h"

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct dw_node_options *options = state->input;
	uint64_t count;
	double seconds;

	switch (key) {
	case 'l':
		options->listen = text;
		break;
	case 'k':
		options->key = text;
		break;
	case 'u':
		options->user = text;
		break;
	case 's':
		if (tool_count(text, 1, UINT32_MAX, &count))
			argp_error(state, "--sessions: \"%s\" is not a number from 1 on", text);
		options->sessions = (uint32_t)count;
		break;
	case 'i':
		if (tool_seconds(text, &seconds) || seconds > 1e9)
			argp_error(state, "--idle-timeout: \"%s\" is not a number of seconds",
				   text);
		options->idle_timeout_ns = (uint64_t)(seconds * 1e9);
		break;
	case 'c':
		if (tool_count(text, 1, UINT64_MAX >> 20, &count))
			argp_error(state, "--cache: \"%s\" is not a number of MiB, 1 or more",
				   text);
		options->cache_bytes = count << 20;
		break;
	case 'o':
		options->objects = text;
		break;
	case ARGP_KEY_ARG:
		argp_error(state, "node takes no argument, \"%s\" is one", text);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option node_options[] = {
	{ "listen", 'l', "ADDRESS[:PORT]", 0,
	  "where to listen (all addresses, port 7733); port 0: any free one", 0 },
	{ "key", 'k', "FILE", 0,
	  "the key that the trees have too (DW_HOST_KEY names it); -: the first line of "
	  "standard input, whose end then ends the node",
	  0 },
	{ "user", 'u', "NAME", 0, "serve as this user; root has to name one", 0 },
	{ "sessions", 's', "N", 0, "leave when N connections have ended", 0 },
	{ "idle-timeout", 'i', "SECONDS", 0,
	  "leave when no tree has been connected for so long", 0 },
	{ "cache", 'c', "MIB", 0,
	  "memory for tensors that are kept between tasks, for each tree (half of this "
	  "machine's)",
	  0 },
	{ "objects", 'o', "FOLDER", 0,
	  "take shared objects that this host does not have from the trees, and keep them "
	  "in this folder, to which the user that serves alone may write",
	  0 },
	{ 0 },
};

const struct argp node_argp = {
	.options = node_options,
	.parser = parse,
	.doc = "Serve as a node: trees on other hosts run Workers here. Prints the address "
	       "that it listens on, and serves until it is killed.\vWhoever has the key "
	       "can run any program here, as the user that serves. A tree names this host "
	       "in its hierarchy file. Functions of a job are in a node that `distworker "
	       "run JOB --listen` makes; docs/hosts.md is the guide.\n\nExit "
	       "status: 0; 1 it cannot serve; 2 usage.\n\nExample:\n  "
	       "distworker node --listen 10.0.0.7 --key ~/.distworker-key\n",
};

int verb_node(int argc, char **argv)
{
	struct dw_node_options node = DW_OPTIONS(dw_node_options);

	argp_parse(&node_argp, argc, argv, 0, NULL, &node);
	node.listening = hosts_say_address;
	if (node.key && strcmp(node.key, "-") == 0 && hosts_follow_stdin(&node) != TOOL_OK)
		return TOOL_SYSTEM;
	if (dw_node_serve(NULL, &node) < 0)
		return tool_fail(TOOL_FAILED, "%s", dw_strerror_last());
	return TOOL_OK;
}
