// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker doctor --host: the way to a node on another host, and the node. The library looks
 * (dw_host_examine()); with --ssh a node is started first, as `distworker run --hosts` does.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include "doctor.h"
#include "tool.h"

static void found(const struct dw_host_finding *finding, void *context)
{
	doctor_say(context, finding->verdict, finding->subject, finding->remedy, "%s",
		   finding->text);
}

/* NULL: no node, which a line has said. */
static const char *start_node(struct visit *visit, const struct doctor_options *options,
			      const char *self, struct dw_launch **launch)
{
	struct dw_launch_options ssh = DW_OPTIONS(dw_launch_options);
	const char *arguments[] = { options->user ? "--user" : NULL, options->user, NULL };

	ssh.hosts = options->host;
	ssh.program = self;
	ssh.verb = "node";
	ssh.arguments = arguments;
	ssh.timeout_ns = (uint64_t)(options->timeout * 1e9);
	if (dw_launch_create(&ssh, launch)) {
		doctor_say(visit, DW_VERDICT_FAIL, "ssh",
			   "`ssh -o BatchMode=yes HOST true` has to work (ssh-copy-id; DW_SSH is "
			   "another command), and distworker to lie under the same path there",
			   "%s", dw_strerror_last());
		return NULL;
	}
	doctor_say(visit, DW_VERDICT_OK, "ssh", "", "it starts %s there, which listens at %s", self,
		   dw_launch_host(*launch, 1));
	return dw_launch_host(*launch, 1);
}

int doctor_host(struct visit *visit, const struct doctor_options *options)
{
	struct dw_host_examine_options examine = DW_OPTIONS(dw_host_examine_options);
	const char *host = options->host;
	struct dw_launch *launch = NULL;
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status = TOOL_OK;

	if (length < 0)
		return tool_fail(TOOL_SYSTEM, "/proc/self/exe: %s", strerror(errno));
	self[length] = '\0';
	if (options->ssh)
		host = start_node(visit, options, self, &launch);
	examine.key = options->key;
	examine.user = options->user;
	examine.timeout_ns = (uint64_t)(options->timeout * 1e9);
	examine.found = found;
	examine.context = visit;
	if (host && dw_host_examine(host, &examine))
		status = tool_fail(TOOL_USAGE, "%s", dw_strerror_last());
	dw_launch_destroy(launch);
	return status;
}
