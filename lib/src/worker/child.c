/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See child.h. */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "engine/nesting.h"
#include "worker/child.h"
#include "worker/fork_hooks.h"
#include "worker/hierarchy.h"
#include "worker/placement.h"
#include "worker/role.h"

static const struct role *const roles[] = {
	[DW_CHILD_SUB] = &role_sub,
	[DW_CHILD_CHIP] = &role_chip,
	[DW_CHILD_WORKER] = &role_nested,
};

static const struct role *role_of(const struct child *child)
{
	return worker_is_elsewhere(child->nested) ? &role_remote : roles[child->kind];
}

/* The parent has bound the mailbox to this process once GO is here. */
static int wait_for_go(struct child *child, uint32_t generation)
{
	struct link_message message;
	int result;

	for (;;) {
		result = link_receive(child->link.child, &message, true);
		if (result < 0)
			return error_set(result, "%s: cannot wait for its parent: recv: %s",
					 child->path, error_name(-result));
		if (result <= 0)
			return -EOWNERDEAD;
		if (message.generation == generation)
			return message.kind == LINK_GO ? 0 : -ECANCELED;
	}
}

static int call_start_hooks(const struct child *child, uint32_t generation)
{
	const struct dw_child_start start = {
		.size = sizeof(start),
		.path = child->path,
		.kind = child->kind,
		.mode = child->owner->options.mode,
		.generation = generation,
	};
	int result = fork_hooks_start(&start);

	return result < 0 ? error_prefix(result, "%s: ", child->path) : 0;
}

/* An error's text begins with the child's path. */
static int get_ready(struct child *child, uint32_t generation, bool process, void **state)
{
	const struct role *role = role_of(child);
	int result = role->elsewhere ? 0 : call_start_hooks(child, generation);

	if (result < 0 || !role->start)
		return result;
	result = role->start(child, generation, process, state);
	return result < 0 && !role->text_has_path ? error_prefix(result, "%s: ", child->path) :
						    result;
}

static void begin(struct child *child, bool process)
{
	if (process) {
		/* Not prctl(): AddressSanitizer's interceptor of it takes a lock. */
		syscall(SYS_prctl, PR_SET_NAME, worker_child_name(child->kind));
		nesting_forget();
	} else {
		nesting_serve(child->owner->life.engine, child->index);
	}
	if (child->owner->options.placement == DW_PLACE_TOPOLOGY)
		placement_apply(child->index, child->owner->child_count, process, child->path);
	status_begin(&child->status, &child->owner->segment, child->index);
}

static int fail(const struct child *child, uint32_t generation, int error)
{
	link_send(child->link.child, LINK_ERROR, generation, error, error_text());
	return 1;
}

int child_main(struct child *child, uint32_t generation, bool process)
{
	const struct role *role = role_of(child);
	struct endpoint *endpoint;
	void *state = NULL;
	int result;

	begin(child, process);
	result = wait_for_go(child, generation);
	if (result < 0)
		return result == -EOWNERDEAD || result == -ECANCELED ? 1 :
		       fail(child, generation, result);
	result = endpoint_attach(child->owner->life.hub, child->index, &endpoint);
	if (result < 0) {
		error_prefix(result, "%s: ", child->path);
		return fail(child, generation, result);
	}
	result = get_ready(child, generation, process, &state);
	if (result < 0) {
		endpoint_detach(endpoint);
		return fail(child, generation, result);
	}
	link_send(child->link.child, LINK_READY, generation, 0, NULL);
	result = role->serve(child, generation, endpoint, state);
	if (role->stop)
		role->stop(child, process, result, state);
	endpoint_detach(endpoint);
	return result < 0 ? 1 : 0;
}
