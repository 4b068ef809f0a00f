/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See hello.h. */
#include <string.h>
#include "base/text.h"
#include "callable/symbol.h"
#include "worker/hello.h"
#include "worker/hierarchy.h"

/* The numbers go on over several calls. */
static bool find_below(const struct dw_worker *worker, const void *wanted, int64_t *number)
{
	for (uint32_t i = 0; i < worker->nested_count; i++) {
		++*number;
		if (worker->nested[i] == wanted || find_below(worker->nested[i], wanted, number))
			return true;
	}
	return false;
}

int64_t hello_owner(const struct dw_worker *remote, const void *owner)
{
	int64_t number = 0;

	for (const struct dw_worker *at = remote; at; at = at->parent)
		if (at == owner)
			return 0;
	return find_below(remote, owner, &number) ? number : -1;
}

static void pack_chips(struct pack *pack, const struct dw_worker *worker)
{
	pack_u32(pack, worker->options.chip_count);
	for (uint32_t i = 0; i < worker->options.chip_count; i++) {
		pack_text(pack, worker->chips[i].driver);
		pack_u32(pack, worker->chips[i].device);
		pack_text(pack, worker->chips[i].options);
	}
}

/*
 * The node chooses the provider, since it may or may not have the module. Its time limits are what
 * remains of those at home, since its parent there sets none.
 */
static void pack_worker(struct pack *pack, const struct dw_worker *worker, bool remote)
{
	const struct dw_worker_options *o = &worker->options;

	pack_text(pack, worker->name);
	pack_u32(pack, worker->level);
	pack_u32(pack, o->subs);
	pack_chips(pack, worker);
	pack_u32(pack, o->mode);
	pack_u64(pack, o->heap_ring_bytes);
	pack_u64(pack, o->arena_bytes);
	pack_u32(pack, o->mailbox_depth);
	pack_u32(pack, o->frame_bytes);
	pack_u64(pack, o->timeout_ns);
	pack_u64(pack, o->heap_timeout_ns);
	pack_u64(pack, worker_init_budget(worker));
	pack_u64(pack, worker_close_budget(worker));
	pack_u32(pack, o->restart);
	pack_u32(pack, o->restart_limit);
	pack_u32(pack, o->placement);
	pack_u32(pack, o->check_declared);
	pack_text(pack, remote ? NULL : o->host);
	pack_u64(pack, o->host_timeout_ns);
	pack_u64(pack, o->host_window_bytes);
	pack_u32(pack, worker->nested_count);
	for (uint32_t i = 0; i < worker->nested_count; i++)
		pack_worker(pack, worker->nested[i], false);
}

static int pack_range(uint64_t begin, uint64_t end, bool registered, void *pack)
{
	pack_u64(pack, begin);
	pack_u64(pack, end);
	pack_u32(pack, registered);
	return 0;
}

static int count_range(uint64_t begin, uint64_t end, bool registered, void *count)
{
	(void)begin;
	(void)end;
	(void)registered;
	++*(uint32_t *)count;
	return 0;
}

struct packed_functions {
	struct pack *pack;
	const struct dw_worker *remote;
};

static int pack_function(struct callable *callable, void *context)
{
	struct packed_functions *functions = context;
	int64_t owner = hello_owner(functions->remote, callable->owner);
	uint8_t identity[HELLO_IDENTITY_BYTES];

	if (!hello_is_function(callable) || owner < 0)
		return 0;
	symbol_identify_address(hello_address(callable), identity);
	pack_u32(functions->pack, callable->kind);
	pack_u64(functions->pack, callable->handle);
	pack_u32(functions->pack, (uint32_t)owner);
	pack_text(functions->pack, callable->name);
	pack_bytes(functions->pack, identity, sizeof(identity));
	return 0;
}

void hello_encode(const struct child *child, struct pack *pack)
{
	const struct dw_worker *outer = child->owner, *remote = child->nested;
	struct packed_functions functions = { pack, remote };
	char above[PATH_BYTES];
	uint32_t ranges = 0;

	/* The path without the name, and without the '/' between the two. */
	text_copy(above, sizeof(above), outer->path);
	above[strlen(above) > strlen(outer->name) ? strlen(above) - strlen(outer->name) - 1 : 0] =
		'\0';
	pack_text(pack, above[0] ? above : NULL);
	pack_text(pack, outer->name);
	pack_u32(pack, outer->level);
	pack_u32(pack, outer->options.mailbox_depth);
	pack_u32(pack, outer->options.frame_bytes);
	pack_u64(pack, worker_init_budget(remote));
	pack_u64(pack, worker_close_budget(remote));
	pack_u64(pack, remote->options.host_timeout_ns);
	pack_u32(pack, worker_root(child->owner)->life.trace_files.json != NULL);
	pack_worker(pack, remote, true);
	arena_each(outer->arena, count_range, &ranges);
	pack_u32(pack, ranges);
	arena_each(outer->arena, pack_range, pack);
	/* The list ends with an entry of kind 0. */
	callable_each(pack_function, &functions);
	pack_u32(pack, 0);
}
