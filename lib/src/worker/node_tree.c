/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind node_tree.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/range.h"
#include "base/text.h"
#include "callable/symbol.h"
#include "host/pack.h"
#include "worker/hello.h"
#include "worker/hierarchy.h"
#include "worker/node_tree.h"

#define RANGES_MOST 1024
/* The outer Worker's arena: arguments on their way to the Worker. Reserved, not populated. */
#define OUTER_ARENA_BYTES (64ULL << 20)

static int not_understood(const char *part)
{
	return error_set(-EBADMSG, "the gateway's description of the tree makes no sense: %s",
			 part);
}

/* NULL stands for an empty text in places that need one. */
static const char *text_or_empty(struct unpack *unpack)
{
	const char *text = unpack_text(unpack);

	return text ? text : "";
}

static int unpack_worker(struct unpack *unpack, struct node_tree *tree, struct dw_worker *parent);

/* The array that `options` refers to; the caller frees it. */
static struct dw_chip_options *unpack_chips(struct unpack *unpack, struct dw_worker_options *o)
{
	struct dw_chip_options *chips;

	o->chip_count = unpack_u32(unpack);
	/* A chip has 12 bytes at least. */
	if (unpack->failed || o->chip_count > unpack->left / 12)
		return NULL;
	chips = calloc(o->chip_count + 1, sizeof(*chips));
	for (uint32_t i = 0; chips && i < o->chip_count; i++) {
		chips[i].driver = text_or_empty(unpack);
		chips[i].device = unpack_u32(unpack);
		chips[i].options = unpack_text(unpack);
	}
	o->chips = chips;
	o->chip_size = sizeof(*chips);
	return chips;
}

static int add_worker(struct node_tree *tree, struct dw_worker *worker)
{
	struct dw_worker **grown =
		realloc(tree->workers, (tree->worker_count + 1) * sizeof(struct dw_worker *));

	if (!grown)
		return error_set(-ENOMEM, "no memory for a tree");
	tree->workers = grown;
	grown[tree->worker_count++] = worker;
	return 0;
}

static int make_worker(struct node_tree *tree, struct dw_worker *parent, uint32_t level,
		       const struct dw_worker_options *options)
{
	struct dw_worker *worker;
	int result = dw_worker_create(level, options, &worker);

	if (result < 0)
		return result;
	result = dw_worker_add_child(parent, worker, NULL);
	if (result < 0) {
		dw_worker_destroy(worker);
		return result;
	}
	return add_worker(tree, worker);
}

static int unpack_children(struct unpack *unpack, struct node_tree *tree, struct dw_worker *parent)
{
	uint32_t count = unpack_u32(unpack);
	int result = 0;

	for (uint32_t i = 0; i < count && result == 0; i++)
		result = unpack->failed ? not_understood("it ends within a Worker") :
					  unpack_worker(unpack, tree, parent);
	return result;
}

static int unpack_worker(struct unpack *unpack, struct node_tree *tree, struct dw_worker *parent)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_chip_options *chips;
	uint32_t level, number = tree->worker_count;
	int result;

	options.name = text_or_empty(unpack);
	level = unpack_u32(unpack);
	options.subs = unpack_u32(unpack);
	chips = unpack_chips(unpack, &options);
	if (!chips)
		return not_understood("its chips");
	options.mode = (enum dw_mode)unpack_u32(unpack);
	options.heap_ring_bytes = unpack_u64(unpack);
	options.arena_bytes = unpack_u64(unpack);
	options.mailbox_depth = unpack_u32(unpack);
	options.frame_bytes = unpack_u32(unpack);
	options.timeout_ns = unpack_u64(unpack);
	options.heap_timeout_ns = unpack_u64(unpack);
	options.init_timeout_ns = unpack_u64(unpack);
	options.close_timeout_ns = unpack_u64(unpack);
	options.restart = (enum dw_restart)unpack_u32(unpack);
	options.restart_limit = unpack_u32(unpack);
	options.placement = (enum dw_placement)unpack_u32(unpack);
	options.check_declared = unpack_u32(unpack);
	options.host = unpack_text(unpack);
	options.host_timeout_ns = unpack_u64(unpack);
	options.host_window_bytes = unpack_u64(unpack);
	result = unpack->failed ? not_understood("a Worker's options") :
				  make_worker(tree, parent, level, &options);
	free(chips);
	return result < 0 ? result : unpack_children(unpack, tree, tree->workers[number]);
}

static int unpack_outer(struct unpack *unpack, struct node_tree *tree)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	const char *above = unpack_text(unpack);
	uint32_t level;
	int result;

	options.name = text_or_empty(unpack);
	level = unpack_u32(unpack);
	options.mailbox_depth = unpack_u32(unpack);
	options.frame_bytes = unpack_u32(unpack);
	options.init_timeout_ns = unpack_u64(unpack);
	options.close_timeout_ns = unpack_u64(unpack);
	options.heap_ring_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	options.arena_bytes = OUTER_ARENA_BYTES;
	/* What a task of another host did not declare is not there. */
	options.check_declared = 1;
	tree->timeout_ns = unpack_u64(unpack);
	tree->traced = unpack_u32(unpack);
	if (unpack->failed || (above && strlen(above) >= sizeof(tree->outer->above)))
		return not_understood("its outer Worker");
	result = dw_worker_create(level, &options, &tree->outer);
	if (result == 0 && above)
		text_copy(tree->outer->above, sizeof(tree->outer->above), above);
	return result;
}

/* ---------------------------------------------------------------- its memory */

struct memory {
	uint32_t count, registered_count;
	struct range ranges[RANGES_MOST], registered[RANGES_MOST];
};

static int by_begin(const void *a, const void *b)
{
	const struct range *one = a, *other = b;

	return one->begin < other->begin ? -1 : one->begin > other->begin;
}

static int read_memory(struct unpack *unpack, struct memory *memory)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint32_t count = unpack_u32(unpack);

	if (unpack->failed || count > RANGES_MOST)
		return error_set(-E2BIG, "the tree's memory has %u ranges; at most %d are possible",
				 count, RANGES_MOST);
	for (uint32_t i = 0; i < count; i++) {
		struct range range = { .begin = unpack_u64(unpack) };
		bool registered;

		range.end = unpack_u64(unpack);
		registered = unpack_u32(unpack);
		if (unpack->failed || range.begin >= range.end)
			return not_understood("its memory");
		if (registered)
			memory->registered[memory->registered_count++] = range;
		memory->ranges[memory->count++] =
			(struct range){ range.begin & -page, (range.end + page - 1) & -page };
	}
	qsort(memory->ranges, memory->count, sizeof(memory->ranges[0]), by_begin);
	return 0;
}

/* Ranges that share a page, or lie within others, are one mapping. */
static int map_memory(const struct memory *memory, struct node_tree *tree)
{
	int result = 0;

	for (uint32_t i = 0; i < memory->count && result == 0;) {
		struct range range = memory->ranges[i++];

		for (; i < memory->count && memory->ranges[i].begin <= range.end; i++)
			if (memory->ranges[i].end > range.end)
				range.end = memory->ranges[i].end;
		result = arena_map(range.begin, range.end, tree->memory, &tree->memory);
		tree->collides = result == -EEXIST;
	}
	for (uint32_t i = 0; i < memory->registered_count && result == 0; i++) {
		const struct range *range = &memory->registered[i];

		result = arena_register(tree->memory, (void *)(uintptr_t)range->begin,
					range->end - range->begin);
	}
	return result;
}

static int unpack_memory(struct unpack *unpack, struct node_tree *tree)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	int result;

	if (!memory)
		return error_set(-ENOMEM, "no memory for a tree");
	result = read_memory(unpack, memory);
	if (result == 0)
		result = map_memory(memory, tree);
	free(memory);
	return result;
}

/* ------------------------------------------------------------- its functions */

/* A function of this program. */
struct function {
	struct function *next;
	dw_callable handle; /* before it moves */
	enum callable_kind kind;
	union {
		dw_orch_fn *orch;
		dw_sub_fn *sub;
	};
	void *context;
	char name[];
};

struct functions {
	const struct dw_worker *program;
	struct function *first, **last;
};

static bool is_of(const struct callable *callable, const struct dw_worker *program)
{
	const struct dw_worker *owner = callable->owner;

	while (owner && owner != program)
		owner = owner->parent;
	return owner && hello_is_function(callable);
}

static int keep_function(struct callable *callable, void *context)
{
	struct functions *functions = context;
	struct function *function;
	size_t bytes = strlen(callable->name) + 1;

	if (!is_of(callable, functions->program))
		return 0;
	function = calloc(1, sizeof(*function) + bytes);
	if (!function)
		return error_set(-ENOMEM, "no memory for a list of functions");
	function->handle = callable->handle;
	function->kind = callable->kind;
	if (callable->kind == CALLABLE_ORCH)
		function->orch = callable->orch;
	else
		function->sub = callable->sub;
	function->context = callable->context;
	memcpy(function->name, callable->name, bytes);
	*functions->last = function;
	functions->last = &function->next;
	return 0;
}

static void free_functions(struct function *function)
{
	struct function *next;

	for (; function; function = next) {
		next = function->next;
		free(function);
	}
}

static const struct function *find_function(const struct function *first, uint32_t kind,
					    const char *name)
{
	while (first && ((uint32_t)first->kind != kind || strcmp(first->name, name) != 0))
		first = first->next;
	return first;
}

/* A build-id of 20 bytes is usual; zeros stand for none. */
static void hex(const uint8_t identity[HELLO_IDENTITY_BYTES], char text[41])
{
	static const uint8_t none[HELLO_IDENTITY_BYTES];

	if (memcmp(identity, none, sizeof(none)) == 0) {
		strcpy(text, "none");
		return;
	}
	for (size_t i = 0; i < 20; i++)
		text_format(text + 2 * i, 41 - 2 * i, "%02x", identity[i]);
}

static int check_identity(const char *name, const void *address, const uint8_t *wanted)
{
	uint8_t identity[HELLO_IDENTITY_BYTES];
	char here[41], home[41];

	symbol_identify_address(address, identity);
	if (memcmp(identity, wanted, sizeof(identity)) == 0)
		return 0;
	hex(identity, here);
	hex(wanted, home);
	return error_set(-ESTALE,
			 "function \"%s\" is of another program here, with build-id %s; that of "
			 "the tree has %s: both hosts need the same program",
			 text_short(name), here, home);
}

/* A program that keeps handles in variables would call the other function. */
static int check_handle(const struct function *first, dw_callable handle, const char *name)
{
	for (; first; first = first->next)
		if (first->handle == handle && strcmp(first->name, name) != 0)
			return error_set(-ESTALE,
					 "function \"%s\" has handle %#llx in the tree's process, "
					 "and \"%s\" has it in the node's: both should register "
					 "the same functions in the same order",
					 text_short(name), (unsigned long long)handle,
					 text_short(first->name));
	return 0;
}

static int take_function(struct unpack *unpack, const struct node_tree *tree, uint32_t kind,
			 const struct function *first)
{
	dw_callable handle = unpack_u64(unpack);
	uint32_t owner = unpack_u32(unpack);
	const char *name = text_or_empty(unpack);
	const uint8_t *identity = unpack_bytes(unpack, HELLO_IDENTITY_BYTES);
	const struct function *function;
	struct callable callable;
	int result;

	if (unpack->failed || owner >= tree->worker_count)
		return not_understood("its functions");
	function = find_function(first, kind, name);
	if (!function)
		return error_set(-ENOENT,
				 "%s function \"%s\" is not registered in the node's program",
				 kind == CALLABLE_ORCH ? "orchestration" : "sub", text_short(name));
	callable = (struct callable){
		.handle = handle,
		.kind = function->kind,
		.name = (char *)(uintptr_t)name,
		.context = function->context,
		.owner = tree->workers[owner],
	};
	if (callable.kind == CALLABLE_ORCH)
		callable.orch = function->orch;
	else
		callable.sub = function->sub;
	result = check_identity(name, hello_address(&callable), identity);
	if (result == 0)
		result = check_handle(first, handle, name);
	return result < 0 ? result : callable_add(&callable, &handle);
}

static int unpack_functions(struct unpack *unpack, const struct dw_worker *program,
			    const struct node_tree *tree)
{
	struct functions functions = { .program = program, .last = &functions.first };
	int result = callable_each(keep_function, &functions);
	uint32_t kind;

	if (result == 0)
		callable_forget_all();
	while (result == 0 && (kind = unpack_u32(unpack)))
		result = take_function(unpack, tree, kind, functions.first);
	free_functions(functions.first);
	if (result == 0 && !unpack_done(unpack))
		result = not_understood("its end");
	return result;
}

int node_tree_read(const void *payload, size_t bytes, const struct dw_worker *program,
		   struct node_tree *tree)
{
	struct unpack unpack = { .at = payload, .left = bytes };
	int result = unpack_outer(&unpack, tree);

	if (result == 0)
		result = unpack_worker(&unpack, tree, tree->outer);
	if (result == 0)
		result = unpack_memory(&unpack, tree);
	if (result == 0)
		result = unpack_functions(&unpack, program, tree);
	return result < 0 ? result : hierarchy_make_arena(tree->outer, tree->memory);
}
