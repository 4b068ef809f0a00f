/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * launcher: dw_launch_*: the processes of one run on several hosts.
 *
 * Owns: struct dw_launch: the addresses of the nodes, those that ssh has started, and the socket
 * of a node that a launcher has started. One thread at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/text.h"
#include "host/key.h"
#include "host/launch.h"
#include "host/reach.h"
#include "host/ssh.h"
#include "task/options.h"
#include "worker/hierarchy.h"
#include "worker/node.h"
#include "worker/node_again.h"

#define TIMEOUT_NS (30 * NS_PER_S)
#define IDLE_NS (60 * NS_PER_S)
#define KEY_BYTES 32
#define HOST_BYTES (ADDRESS_BYTES + 16)

struct member {
	char host[HOST_BYTES];
	char *offer; /* of one that a launcher has started: where it says that it can be reached */
	struct ssh_node *node; /* NULL: a launcher has started it */
};

struct dw_launch {
	uint32_t rank, size;
	struct member *members; /* of the root: size, the first of which is unused */
	int listening; /* of a node; -1 */
	bool again; /* a session of a node, which has started itself again */
};

static void write_host(char host[HOST_BYTES], const struct address *address)
{
	text_format(host, HOST_BYTES, strchr(address->host, ':') ? "[%s]:%s" : "%s:%s",
		    address->host, address->port);
}

static int make_members(struct dw_launch *launch, uint32_t size)
{
	launch->members = calloc(size, sizeof(*launch->members));
	launch->size = launch->members ? size : 0;
	return launch->members ? 0 : error_set(-ENOMEM, "no memory for %u hosts", size);
}

/* ------------------------------------------------------------------------ a launcher */

/* The root offers no address. */
static int offer(struct dw_launch *launch, char text[REACH_BYTES])
{
	static const struct address any = { .host = "", .port = "0" };

	if (!launch->rank) {
		strcpy(text, "root");
		return 0;
	}
	launch->listening = address_listen(&any);
	return launch->listening < 0 ? launch->listening :
				       reach_offer(launch->listening, NULL, text);
}

static int read_offer(struct dw_launch *launch, const struct launch *met, uint32_t rank)
{
	char text[REACH_BYTES], who[32];
	struct address address;
	size_t bytes;
	const char *blob = launch_blob(met, rank, &bytes);
	int result;

	text_format(who, sizeof(who), "rank %u", rank);
	text_format(text, sizeof(text), "%.*s", (int)bytes, blob);
	launch->members[rank].offer = strdup(text);
	result = launch->members[rank].offer ? reach_choose(text, who, &address) :
					       error_set(-ENOMEM, "no memory for an address");
	if (result == 0)
		write_host(launch->members[rank].host, &address);
	return result;
}

static int meet(struct dw_launch *launch, const struct dw_launch_options *options)
{
	uint64_t deadline = deadline_in(options->timeout_ns);
	struct launch *met = NULL;
	char text[REACH_BYTES];
	int result = launch_begin(&met);

	if (result < 0)
		return result;
	launch->rank = launch_rank(met);
	result = make_members(launch, launch_size(met));
	if (result == 0)
		result = offer(launch, text);
	if (result == 0)
		result = launch_exchange(met, text, strlen(text) + 1, deadline);
	for (uint32_t i = 1; result == 0 && !launch->rank && i < launch->size; i++)
		result = read_offer(launch, met, i);
	if (result == 0)
		result = key_keep(launch_key(met), LAUNCH_KEY_BYTES);
	if (result == 0)
		again_set_rank(launch->rank, launch->size);
	launch_end(met);
	return result;
}

/* ------------------------------------------------------------------------------- ssh */

static int make_key(char key[2 * KEY_BYTES + 1])
{
	unsigned char bytes[KEY_BYTES];
	int result = secret_random(bytes, sizeof(bytes));

	for (size_t i = 0; result == 0 && i < KEY_BYTES; i++)
		text_format(key + 2 * i, 3, "%02x", bytes[i]);
	explicit_bzero(bytes, sizeof(bytes));
	return result;
}

static int start_nodes(struct dw_launch *launch, const struct dw_launch_options *options,
		       const char *key, char *names)
{
	char *rest;
	const struct ssh_options over_ssh = {
		.program = options->program,
		.verb = options->verb,
		.arguments = options->arguments,
		.key = key,
	};
	uint32_t rank = 0;
	int result = 0;

	for (char *name = strtok_r(names, ",", &rest); name && result == 0;
	     name = strtok_r(NULL, ",", &rest))
		result = ssh_start(name, &over_ssh, &launch->members[++rank].node);
	launch->size = rank + 1;
	return result;
}

static int start_all(struct dw_launch *launch, const struct dw_launch_options *options)
{
	uint64_t deadline = deadline_in(options->timeout_ns);
	char *names = strdup(options->hosts), key[2 * KEY_BYTES + 1];
	struct address address;
	uint32_t most = 2;
	int result;

	for (const char *at = options->hosts; *at; at++)
		most += *at == ',';
	result = launch_alone();
	if (result < 0) {
		free(names);
		return result;
	}
	result = names ? make_members(launch, most) : error_set(-ENOMEM, "no memory for hosts");
	if (result == 0)
		result = make_key(key);
	if (result == 0)
		result = start_nodes(launch, options, key, names);
	free(names);
	if (result == 0 && launch->size == 1)
		result = error_set(-EINVAL, "dw_launch_create: options.hosts is \"%s\": names of "
					    "hosts, separated by commas, would be right",
				   options->hosts);
	for (uint32_t i = 1; result == 0 && i < launch->size; i++) {
		result = ssh_address(launch->members[i].node, deadline, &address);
		if (result == 0)
			write_host(launch->members[i].host, &address);
	}
	/* After a failure this process has the key of before. */
	if (result == 0)
		result = key_keep(key, (size_t)2 * KEY_BYTES);
	explicit_bzero(key, sizeof(key));
	return result;
}

/* ------------------------------------------------------------------------- the calls */

DW_API int dw_launch_create(const struct dw_launch_options *options, struct dw_launch **result)
{
	struct dw_launch_options own = DW_OPTIONS(dw_launch_options);
	struct dw_launch *launch;
	int error = options ? options_read(&own, sizeof(own), options, "dw_launch_options") : 0;

	if (error < 0)
		return error;
	own.timeout_ns = own.timeout_ns ? own.timeout_ns : TIMEOUT_NS;
	launch = calloc(1, sizeof(*launch));
	if (!launch)
		return error_set(-ENOMEM, "no memory for a launch");
	launch->listening = -1;
	error = again_find();
	if (error > 0) {
		launch->rank = again_rank(&launch->size);
		launch->again = true;
		error = 0;
	} else if (error == 0) {
		error = own.hosts ? start_all(launch, &own) : meet(launch, &own);
	}
	if (error == 0)
		*result = launch;
	else
		dw_launch_destroy(launch);
	return error;
}

DW_API uint32_t dw_launch_rank(const struct dw_launch *launch)
{
	return launch->rank;
}

DW_API uint32_t dw_launch_size(const struct dw_launch *launch)
{
	return launch->size;
}

static const struct member *member_of(const struct dw_launch *launch, uint32_t rank)
{
	return !launch->rank && rank && rank < launch->size ? &launch->members[rank] : NULL;
}

DW_API const char *dw_launch_host(const struct dw_launch *launch, uint32_t rank)
{
	const struct member *member = member_of(launch, rank);

	return member ? member->host : NULL;
}

static bool is_loopback(const char *host)
{
	return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0;
}

/* As seen from a node. What ssh has started is known by the address that it has for the root. */
static int host_from(const struct member *member, uint32_t rank, const struct member *from,
		     char host[HOST_BYTES])
{
	struct address address;
	char who[32];
	int result = 0;

	text_format(who, sizeof(who), "rank %u", rank);
	if (member->offer && from->offer)
		result = reach_choose_from(from->offer, member->offer, who, &address);
	else if (is_loopback(member->host) && !is_loopback(from->host))
		return error_set(-ENETUNREACH,
				 "%s is known here as %s, which does not lead there from %s: "
				 "options.hosts (--hosts) should have an address of a network that "
				 "both are in",
				 who, member->host, from->host);
	if (result == 0 && member->offer && from->offer)
		write_host(host, &address);
	else if (result == 0)
		text_copy(host, HOST_BYTES, member->host);
	return result;
}

DW_API int dw_launch_host_from(const struct dw_launch *launch, uint32_t rank, uint32_t from,
			       char *host, size_t bytes)
{
	const struct member *member = member_of(launch, rank), *dials = member_of(launch, from);
	char found[HOST_BYTES];
	int result = 0;

	if (!member || (from && !dials))
		return error_set(-ENOENT, "dw_launch_host_from: rank %u or %u is no rank of a "
					  "node, or this process is not the root",
				 rank, from);
	if (!host)
		return error_set(-EINVAL, "dw_launch_host_from: `host` is NULL");
	if (from)
		result = host_from(member, rank, dials, found);
	else
		text_copy(found, sizeof(found), member->host);
	if (result == 0 && strlen(found) >= bytes)
		return error_set(-ENOSPC, "dw_launch_host_from: \"%s\" does not fit into %zu bytes",
				 found, bytes);
	if (result == 0)
		text_copy(host, bytes, found);
	return result;
}

DW_API int dw_launch_output(const struct dw_launch *launch, uint32_t rank, int *output,
			    int *errors)
{
	const struct member *member = member_of(launch, rank);

	if (!member || !member->node)
		return error_set(-ENOENT, "dw_launch_output: rank %u is no node that ssh has "
					  "started",
				 rank);
	*output = ssh_output(member->node);
	*errors = ssh_errors(member->node);
	return 0;
}

DW_API int dw_launch_serve(struct dw_launch *launch, struct dw_worker *worker,
			   const struct dw_node_options *options)
{
	struct dw_node_options own = DW_OPTIONS(dw_node_options);
	int listening = launch->listening, result = 0;

	if (options)
		result = options_read(&own, sizeof(own), options, "dw_node_options");
	if (result < 0)
		return result;
	if (listening < 0 && !launch->again)
		return error_set(-EBUSY, "dw_launch_serve: rank %u is the root, or has served "
					 "before",
				 launch->rank);
	if (own.listen || own.key)
		return error_set(-EINVAL, "dw_launch_serve: options.%s is set: the launch has it",
				 own.listen ? "listen" : "key");
	own.idle_timeout_ns = own.idle_timeout_ns ? own.idle_timeout_ns : IDLE_NS;
	launch->listening = -1;
	return node_serve(worker, &own, listening);
}

DW_API void dw_launch_destroy(struct dw_launch *launch)
{
	if (!launch)
		return;
	for (uint32_t i = 1; launch->members && i < launch->size; i++)
		if (launch->members[i].node)
			ssh_end(launch->members[i].node);
	for (uint32_t i = 1; launch->members && i < launch->size; i++)
		ssh_destroy(launch->members[i].node);
	for (uint32_t i = 1; launch->members && i < launch->size; i++)
		free(launch->members[i].offer);
	if (launch->listening >= 0)
		close(launch->listening);
	free(launch->members);
	free(launch);
}
