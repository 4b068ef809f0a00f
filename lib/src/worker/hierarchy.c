/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See hierarchy.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "engine/nesting.h"
#include "host/address.h"
#include "task/name.h"
#include "task/options.h"
#include "worker/hierarchy.h"

#define GIB (1ULL << 30)
#define SECOND 1000000000ULL

/* ------------------------------------------------------------ names and checks */

const char *worker_child_name(enum dw_child_kind kind)
{
	return kind == DW_CHILD_SUB ? "dw-sub" : kind == DW_CHILD_CHIP ? "dw-chip" : "dw-worker";
}

static const char *level_name(uint32_t level)
{
	static const char *const names[] = { "node", "pod", "supernode", "cluster" };

	return names[level - DW_LEVEL_NODE];
}

struct dw_worker *worker_root(struct dw_worker *worker)
{
	while (worker->parent)
		worker = worker->parent;
	return worker;
}

uint32_t worker_width(const struct dw_worker *worker)
{
	return worker->options.subs + worker->options.chip_count + worker->nested_count;
}

int worker_check(const struct dw_worker *worker, const char *call)
{
	if (!worker)
		return error_set(-EINVAL, "%s: the Worker is NULL", call);
	if (worker->owner_pid != getpid())
		return error_set(-EBADFD, "%s: Worker %s belongs to process %d; this is process %d",
				 call, worker->name, (int)worker->owner_pid, (int)getpid());
	return 0;
}

static bool is_of_tree(const struct engine *engine, bool task, const void *root)
{
	(void)task;
	return worker_root(engine_context(engine)) == root;
}

static bool is_task_of_tree(const struct engine *engine, bool task, const void *root)
{
	return task && is_of_tree(engine, task, root);
}

/* Matches a task of this Worker, or of one below it. */
static bool is_task_below(const struct engine *engine, bool task, const void *worker)
{
	for (const struct dw_worker *at = engine_context(engine); task && at; at = at->parent)
		if (at == worker)
			return true;
	return false;
}

bool worker_inside_task(const struct dw_worker *worker)
{
	return nesting_each(is_task_below, worker);
}

int worker_check_outside(struct dw_worker *worker, const char *call)
{
	if (!nesting_each(is_of_tree, worker_root(worker)))
		return 0;
	return error_set(
		-EDEADLK,
		"%s: the call is made by an orchestration function, a callback or a callable "
		"of Worker %s, and would wait for itself",
		call, worker->path);
}

int worker_check_no_task(struct dw_worker *worker, const char *call)
{
	if (!nesting_each(is_task_of_tree, worker_root(worker)))
		return 0;
	return error_set(
		-EDEADLK,
		"%s: the call is made by a callable of the tree of Worker %s, and could wait "
		"for that one's own task",
		call, worker->path);
}

uint64_t worker_init_budget(const struct dw_worker *worker)
{
	uint64_t own = worker->options.init_timeout_ns, above;

	if (!worker->parent)
		return own;
	above = worker_init_budget(worker->parent);
	above -= above / 4;
	return own < above ? own : above;
}

uint64_t worker_close_budget(const struct dw_worker *worker)
{
	uint64_t own = worker->options.close_timeout_ns, above;

	if (!worker->parent)
		return own;
	above = worker_close_budget(worker->parent) / 2;
	return own < above ? own : above;
}

/* ----------------------------------------------------------- create and free */

static int check_options(uint32_t level, const struct dw_worker_options *o)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct address address;
	int result = 0;

	if (level < DW_LEVEL_NODE || level > DW_LEVEL_CLUSTER)
		return error_set(-EINVAL, "level is %u; a Worker's is 3 (node) to 6 (cluster)",
				 level);
	if (o->chip_count && (!o->chips || !o->chip_size))
		return error_set(
			-EINVAL, "chip_count is %u and %s", o->chip_count,
			!o->chips ? "chips is NULL" :
				    "chip_size is 0; it should be sizeof(struct dw_chip_options)");
	if (o->mode != DW_PROCESS && o->mode != DW_THREAD)
		return error_set(-EINVAL, "mode is %d; it should be DW_PROCESS or DW_THREAD",
				 o->mode);
	if (o->provider > DW_PROVIDER_FUTEX)
		return error_set(-EINVAL, "provider is %d; it should be AUTO, KERNEL or FUTEX",
				 o->provider);
	if (o->mailbox_depth & (o->mailbox_depth - 1) || o->mailbox_depth == 1 ||
	    o->mailbox_depth > 32768)
		return error_set(-EINVAL,
				 "mailbox_depth is %u; it should be a power of two from 2 to 32768",
				 o->mailbox_depth);
	if (o->frame_bytes &&
	    (o->frame_bytes % 64 || o->frame_bytes < 128 || o->frame_bytes > 65536))
		return error_set(-EINVAL,
				 "frame_bytes is %u; it should be a multiple of 64 from 128 "
				 "to 65536",
				 o->frame_bytes);
	if (o->heap_ring_bytes % page || o->arena_bytes % page)
		return error_set(-EINVAL, "heap_ring_bytes (%llu) and arena_bytes (%llu) should be "
				 "multiples of %llu, a page of this machine",
				 (unsigned long long)o->heap_ring_bytes,
				 (unsigned long long)o->arena_bytes, (unsigned long long)page);
	if (o->restart > DW_RESTART_ON_DEATH)
		return error_set(-EINVAL, "restart is %d; it should be NEVER or ON_DEATH",
				 o->restart);
	if (o->placement > DW_PLACE_TOPOLOGY)
		return error_set(-EINVAL, "placement is %d; it should be NONE or TOPOLOGY",
				 o->placement);
	if (o->name && strchr(o->name, '/'))
		return error_set(-EINVAL,
				 "the name of a Worker, \"%s\", has a '/', which separates names "
				 "in paths",
				 text_short(o->name));
	if (o->name)
		result = name_check("the name of a Worker,", o->name, NAME_WORKER_MOST);
	if (result == 0 && o->host)
		result = address_parse("the host of a Worker,", o->host, &address);
	return result;
}

static void set_defaults(struct dw_worker_options *o)
{
	if (!o->heap_ring_bytes)
		o->heap_ring_bytes = GIB;
	if (!o->arena_bytes)
		o->arena_bytes = 4 * GIB;
	if (!o->mailbox_depth)
		o->mailbox_depth = 64;
	if (!o->frame_bytes)
		o->frame_bytes = 512;
	if (!o->heap_timeout_ns)
		o->heap_timeout_ns = 10 * SECOND;
	if (!o->init_timeout_ns)
		o->init_timeout_ns = 30 * SECOND;
	if (!o->close_timeout_ns)
		o->close_timeout_ns = 5 * SECOND;
	if (!o->restart_limit)
		o->restart_limit = 5;
	if (!o->host_timeout_ns)
		o->host_timeout_ns = 5 * SECOND;
	if (!o->host_window_bytes)
		o->host_window_bytes = GIB / 4;
}

static int copy_chip(struct dw_chip_options *to, const struct dw_worker_options *options,
		     uint32_t i)
{
	const char *element = (const char *)options->chips + i * options->chip_size;
	struct dw_chip_options chip;
	char where[32];
	int result =
		options_copy(&chip, sizeof(chip), element, options->chip_size, "dw_chip_options");

	if (result < 0)
		return error_prefix(result, "chips[%u]: ", i);
	text_format(where, sizeof(where), "chips[%u].driver", i);
	result = name_check_driver(where, chip.driver);
	text_format(where, sizeof(where), "chips[%u].options", i);
	if (result == 0 && chip.options)
		result = name_check(where, chip.options, NAME_DRIVER_OPTIONS_MOST);
	if (result < 0)
		return result;
	*to = chip;
	to->driver = strdup(chip.driver);
	to->options = chip.options ? strdup(chip.options) : NULL;
	if (!to->driver || (chip.options && !to->options))
		return error_set(-ENOMEM, "no memory for a Worker's chips");
	return 0;
}

static int copy_chips(struct dw_worker *worker, const struct dw_worker_options *options)
{
	int result = 0;

	worker->chips = calloc(options->chip_count + 1, sizeof(*worker->chips));
	if (!worker->chips)
		return error_set(-ENOMEM, "no memory for a Worker's chips");
	for (uint32_t i = 0; i < options->chip_count && result == 0; i++)
		result = copy_chip(&worker->chips[i], options, i);
	return result;
}

void hierarchy_free(struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->chips && i < worker->options.chip_count; i++) {
		free((char *)worker->chips[i].driver);
		free((char *)worker->chips[i].options);
	}
	free(worker->chips);
	free(worker->nested);
	free((char *)worker->options.host);
	free((char *)worker->options.host_key);
	pthread_cond_destroy(&worker->changed);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}

static int copy_host(struct dw_worker *worker, const struct dw_worker_options *options)
{
	worker->options.host = options->host ? strdup(options->host) : NULL;
	worker->options.host_key = options->host_key ? strdup(options->host_key) : NULL;
	if (!worker->options.host == !options->host &&
	    !worker->options.host_key == !options->host_key)
		return 0;
	return error_set(-ENOMEM, "no memory for the host of a Worker");
}

static void make_locks(struct dw_worker *worker)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&worker->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&worker->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int hierarchy_create(uint32_t level, const struct dw_worker_options *options, child_entry *entry,
		     struct dw_worker **result)
{
	struct dw_worker_options full = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker;
	int error = options ? options_read(&full, sizeof(full), options, "dw_worker_options") : 0;

	if (error == 0)
		error = check_options(level, &full);
	if (error < 0)
		return error;
	worker = calloc(1, sizeof(*worker));
	if (!worker)
		return error_set(-ENOMEM, "no memory for a Worker");
	worker->level = level;
	worker->options = full;
	worker->options.chips = NULL;
	set_defaults(&worker->options);
	text_copy(worker->name, sizeof(worker->name), full.name ? full.name : "");
	worker->options.name = NULL;
	worker->owner_pid = getpid();
	worker->entry = entry;
	make_locks(worker);
	error = copy_host(worker, &full);
	if (error == 0)
		error = copy_chips(worker, &full);
	if (error < 0) {
		hierarchy_free(worker);
		return error;
	}
	*result = worker;
	return 0;
}

/* ------------------------------------------------------------------- the shape */

static const char *default_name(uint32_t level, uint32_t number, char name[NAME_BYTES])
{
	text_format(name, NAME_BYTES, "%s%u", level_name(level), number);
	return name;
}

/* The name that a child has, or will get; its place among its siblings is final. */
static const char *nested_name(const struct dw_worker *child, uint32_t number,
			       char name[NAME_BYTES])
{
	return child->name[0] ? child->name : default_name(child->level, number, name);
}

/* Is `name` one of "sub0" … "sub<count - 1>", or of the same for chips? */
static bool is_numbered(const char *name, const char *kind, uint32_t count)
{
	size_t length = strlen(kind);
	char wanted[32], *end;
	unsigned long number;

	if (strncmp(name, kind, length) != 0)
		return false;
	number = strtoul(name + length, &end, 10);
	if (*end || number >= count)
		return false;
	text_format(wanted, sizeof(wanted), "%s%lu", kind, number);
	return strcmp(name, wanted) == 0;
}

/* Paths name one child each: in messages, statistics and traces. */
static int check_sibling_names(const struct dw_worker *parent, const struct dw_worker *child)
{
	uint32_t number = parent->nested_count;
	char own[NAME_BYTES], other[NAME_BYTES];
	const char *name = nested_name(child, number, own);
	const char *whose = child->name[0] ? "" : " by default";

	for (uint32_t i = 0; i < number; i++) {
		const struct dw_worker *sibling = parent->nested[i];

		if (strcmp(name, nested_name(sibling, i, other)) == 0)
			return error_set(-EEXIST,
					 "child Worker %u would be named \"%s\"%s, which is the "
					 "name of child Worker %u%s: give one of them another name",
					 number, name, whose, i,
					 sibling->name[0] ? "" : " by default");
	}
	if (is_numbered(name, "sub", parent->options.subs))
		return error_set(
			-EEXIST,
			"child Worker %u would be named \"%s\", which is the name of a sub "
			"worker of the same parent: give it another name",
			number, name);
	if (is_numbered(name, "chip", parent->options.chip_count))
		return error_set(-EEXIST,
				 "child Worker %u would be named \"%s\", which is the name of a "
				 "chip of the same parent: give it another name",
				 number, name);
	return 0;
}

int hierarchy_add(struct dw_worker *parent, struct dw_worker *child)
{
	struct dw_worker **grown;
	int result;

	for (struct dw_worker *w = parent; w; w = w->parent)
		if (w == child)
			return error_set(-ELOOP,
					 "Worker %s is an ancestor of the parent, or the parent "
					 "itself",
					 child->name);
	if (child->parent)
		return error_set(-EEXIST, "Worker %s is a child already; a Worker has one parent",
				 child->name);
	if (child->level >= parent->level)
		return error_set(-EINVAL,
				 "a child of level %u in a parent of level %u; it should be "
				 "from 3 to %u",
				 child->level, parent->level, parent->level - 1);
	if (worker_root(parent)->life.state != WORKER_NEW || child->life.state != WORKER_NEW)
		return error_set(-EBUSY,
				 "Worker %s was initialised already; children are added before "
				 "init",
				 child->life.state != WORKER_NEW ? child->name : parent->name);
	if (child->arena)
		return error_set(-EBUSY,
				 "Worker %s has buffers of its own; buffers belong to the root",
				 child->name);
	if (worker_is_elsewhere(child) && parent->options.mode == DW_THREAD)
		return error_set(-EINVAL,
				 "Worker %s is on host %s, and its parent's mode is DW_THREAD: it "
				 "should be DW_PROCESS, since a process serves the connection",
				 child->name, child->options.host);
	result = check_sibling_names(parent, child);
	if (result < 0)
		return result;
	grown = realloc(parent->nested, (parent->nested_count + 1) * sizeof(*grown));
	if (!grown)
		return error_set(-ENOMEM, "no memory for a child");
	parent->nested = grown;
	grown[parent->nested_count++] = child;
	child->parent = parent;
	child->id = parent->options.chip_count + parent->nested_count - 1;
	return 0;
}

/* Names and paths of the whole tree, once the shape is final. */
int hierarchy_name(struct dw_worker *worker)
{
	int n;

	if (!worker->name[0])
		default_name(worker->level,
			     worker->parent ? worker->id - worker->parent->options.chip_count : 0,
			     worker->name);
	if (worker->parent)
		n = text_format(worker->path, sizeof(worker->path), "%s/%s", worker->parent->path,
			     worker->name);
	else
		n = text_format(worker->path, sizeof(worker->path), "%s%s%s", worker->above,
				worker->above[0] ? "/" : "", worker->name);
	if (n + 16 > (int)sizeof(worker->path))
		return error_set(-ENAMETOOLONG,
				 "the path %s has %d bytes; at most %zu are possible: use shorter "
				 "names",
				 worker->path, n, sizeof(worker->path) - 16);
	for (uint32_t i = 0; i < worker->nested_count; i++) {
		n = hierarchy_name(worker->nested[i]);
		if (n < 0)
			return n;
	}
	return 0;
}

/* ---------------------------------------------------------- children and arena */

/* Does it have chips, or another host's memory? */
static bool has_spaces(const struct dw_worker *worker)
{
	bool any = worker->options.chip_count > 0 || worker_is_elsewhere(worker);

	for (uint32_t i = 0; i < worker->nested_count && !any; i++)
		any = has_spaces(worker->nested[i]);
	return any;
}

static bool has_memory(const struct child *child)
{
	return child->kind == DW_CHILD_CHIP || (child->nested && has_spaces(child->nested));
}

static void set_child(struct dw_worker *worker, uint32_t i, enum dw_child_kind kind,
		      uint32_t number)
{
	static const char *const names[] = { "sub", "chip" };
	struct child *child = &worker->children[i];

	child->owner = worker;
	child->index = i;
	child->kind = kind;
	child->link = link_closed;
	if (kind == DW_CHILD_WORKER) {
		child->nested = worker->nested[number];
		text_copy(child->path, sizeof(child->path), child->nested->path);
	} else {
		text_format(child->path, sizeof(child->path), "%.*s/%s%u", PATH_BYTES - 16,
			    worker->path, names[kind], number);
	}
	if (kind == DW_CHILD_CHIP)
		child->chip = &worker->chips[number];
	worker->engine_workers[i] = (struct engine_worker){
		.kind = kind,
		.driver = kind == DW_CHILD_CHIP ? child->chip->driver : NULL,
		.path = child->path,
		.nested_text = kind == DW_CHILD_WORKER,
		.elsewhere = worker_is_elsewhere(child->nested),
		.has_memory = has_memory(child),
	};
}

int hierarchy_make_children(struct dw_worker *worker)
{
	uint32_t count = worker_width(worker), i = 0;

	/* One more than needed: a Worker may have no children. */
	worker->children = calloc(count + 1, sizeof(*worker->children));
	worker->engine_workers = calloc(count + 1, sizeof(*worker->engine_workers));
	if (!worker->children || !worker->engine_workers)
		return error_set(-ENOMEM, "%s: no memory for %u children", worker->path, count);
	/* Only now: closing relies on the fields of the children. */
	worker->child_count = count;
	for (uint32_t n = 0; n < worker->options.subs; n++)
		set_child(worker, i++, DW_CHILD_SUB, n);
	for (uint32_t n = 0; n < worker->options.chip_count; n++)
		set_child(worker, i++, DW_CHILD_CHIP, n);
	for (uint32_t n = 0; n < worker->nested_count; n++)
		set_child(worker, i++, DW_CHILD_WORKER, n);
	return 0;
}

void hierarchy_drop_children(struct dw_worker *worker)
{
	free(worker->children);
	free(worker->engine_workers);
	worker->children = NULL;
	worker->engine_workers = NULL;
	worker->child_count = 0;
}

int hierarchy_make_arena(struct dw_worker *worker, struct arena *outer)
{
	int result = 0;

	pthread_mutex_lock(&worker->lock);
	if (!worker->arena)
		result = arena_create(worker->options.heap_ring_bytes, worker->options.arena_bytes,
				      outer, &worker->arena);
	pthread_mutex_unlock(&worker->lock);
	return result;
}

void hierarchy_drop_arena(struct dw_worker *worker)
{
	arena_destroy(worker->arena);
	worker->arena = NULL;
}

void hierarchy_enter_process(struct dw_worker *nested)
{
	nested->owner_pid = getpid();
}
