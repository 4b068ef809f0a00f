// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Heap rings and scopes: the rules one by one, and random scopes and sizes against a model that
 * knows the owner of every KiB of a ring. --seed, --seeds, --bench.
 */
#include <errno.h>
#include "memory/heap.h"
#include "task/error.h"
#include "engine_test.h"
#include "unit.h"

#define KIB 1024

struct fixture {
	struct arena *arena;
	struct heap *heap;
	uint64_t ring_bytes;
	uint64_t base[HEAP_RINGS];
};

static struct fixture fixture_make(uint64_t ring_bytes)
{
	struct fixture fixture = { .ring_bytes = ring_bytes };

	CHECK_EQ(arena_create(ring_bytes, 0, NULL, &fixture.arena), 0);
	CHECK_EQ(heap_create(fixture.arena, &fixture.heap), 0);
	for (uint32_t i = 0; i < HEAP_RINGS; i++) {
		uint64_t bytes;

		fixture.base[i] = (uintptr_t)arena_ring(fixture.arena, i, &bytes);
		CHECK_EQ(bytes, ring_bytes);
	}
	return fixture;
}

static void fixture_end(struct fixture *fixture)
{
	heap_destroy(fixture->heap);
	arena_destroy(fixture->arena);
}

static struct scope *scope_make(struct scope *outer)
{
	struct scope *scope = NULL;

	CHECK_EQ(scope_create(outer, NULL, &scope), 0);
	return scope;
}

TEST(each_depth_has_its_ring_and_the_deep_ones_share_the_last)
{
	struct fixture fixture = fixture_make(64 * KIB);
	struct scope *scopes[6] = { NULL };
	uint64_t address;

	for (uint32_t i = 0; i < 6; i++) {
		scopes[i] = scope_make(i ? scopes[i - 1] : NULL);
		CHECK_EQ(heap_alloc(fixture.heap, scopes[i], 1, &address), 0);
		CHECK_EQ(address, fixture.base[i < 3 ? i : 3] + (i < 3 ? 0 : (i - 3) * KIB));
	}
	CHECK_EQ(heap_used(fixture.heap), 6 * KIB);
	for (uint32_t i = 6; i-- > 0;)
		scope_put(fixture.heap, scopes[i]);
	CHECK_EQ(heap_used(fixture.heap), 0);
	CHECK_EQ(heap_peak(fixture.heap), 6 * KIB);
	fixture_end(&fixture);
}

TEST(scopes_nest_64_deep_in_a_run)
{
	struct fixture fixture = fixture_make(64 * KIB);
	struct scope *scope = NULL, *inner = NULL;

	for (int i = 0; i <= SCOPE_MAX_DEPTH; i++)
		scope = scope_make(scope);
	CHECK_EQ(scope_create(scope, NULL, &inner), -EOVERFLOW);
	CHECK_STR(error_text(), "64");
	CHECK(!inner);
	while (scope) {
		struct scope *outer = scope->outer;

		scope_put(fixture.heap, scope);
		scope = outer;
	}
	fixture_end(&fixture);
}

TEST(a_request_that_can_never_fit_is_refused_and_one_that_cannot_now_may_wait)
{
	struct fixture fixture = fixture_make(64 * KIB);
	struct scope *scope = scope_make(NULL);
	struct heap_tail tail;
	uint64_t address = 1;

	CHECK_EQ(heap_alloc(fixture.heap, scope, 64 * KIB + 1, &address), -ENOSPC);
	CHECK_STR(error_text(), "65537 bytes");
	CHECK_STR(error_text(), "65536");
	CHECK_EQ(heap_alloc(fixture.heap, scope, UINT64_MAX, &address), -ENOSPC);
	CHECK_EQ(address, 1);
	heap_tail(fixture.heap, scope, &tail);
	CHECK(!tail.scope);
	CHECK_EQ(heap_alloc(fixture.heap, scope, 64 * KIB, &address), 0);
	CHECK_EQ(heap_alloc(fixture.heap, scope, 1, &address), -EAGAIN);
	heap_tail(fixture.heap, scope, &tail);
	CHECK_EQ(tail.ring, 0);
	CHECK(tail.scope == scope);
	CHECK_EQ(tail.used_bytes, 64 * KIB);
	CHECK_EQ(tail.block_bytes, 64 * KIB);
	scope_put(fixture.heap, scope);
	fixture_end(&fixture);
}

TEST(a_block_never_wraps_and_an_empty_ring_starts_over)
{
	struct fixture fixture = fixture_make(64 * KIB);
	struct scope *a = scope_make(NULL), *b = scope_make(NULL), *c = scope_make(NULL);
	uint64_t address, base = fixture.base[0];

	CHECK_EQ(heap_alloc(fixture.heap, a, 30 * KIB, &address), 0);
	CHECK_EQ(heap_alloc(fixture.heap, b, 20 * KIB, &address), 0);
	CHECK_EQ(address, base + 30 * KIB);
	CHECK_EQ(heap_alloc(fixture.heap, c, 20 * KIB, &address), -EAGAIN);
	CHECK(scope_put(fixture.heap, a));
	CHECK_EQ(heap_alloc(fixture.heap, c, 20 * KIB, &address), 0);
	CHECK_EQ(address, base);
	/* 14 KiB at the end were skipped. */
	CHECK_EQ(heap_used(fixture.heap), 54 * KIB);
	CHECK(scope_put(fixture.heap, b));
	CHECK_EQ(heap_used(fixture.heap), 20 * KIB);
	CHECK_EQ(heap_alloc(fixture.heap, c, 44 * KIB, &address), 0);
	CHECK_EQ(address, base + 20 * KIB);
	CHECK(scope_put(fixture.heap, c));
	a = scope_make(NULL);
	CHECK_EQ(heap_alloc(fixture.heap, a, KIB, &address), 0);
	CHECK_EQ(address, base);
	scope_put(fixture.heap, a);
	fixture_end(&fixture);
}

TEST(a_scope_keeps_its_blocks_while_tasks_and_inner_scopes_live)
{
	struct fixture fixture = fixture_make(64 * KIB);
	struct scope *outer = scope_make(NULL), *inner = scope_make(outer);
	uint64_t address;

	CHECK_EQ(heap_alloc(fixture.heap, outer, KIB, &address), 0);
	CHECK_EQ(heap_alloc(fixture.heap, inner, KIB, &address), 0);
	scope_get(inner);				/* a task */
	CHECK(!scope_put(fixture.heap, inner));		/* the scope ends */
	CHECK(!scope_put(fixture.heap, outer));
	CHECK_EQ(heap_used(fixture.heap), 2 * KIB);
	CHECK(scope_put(fixture.heap, inner));		/* the task ends, and with it both scopes */
	CHECK_EQ(heap_used(fixture.heap), 0);
	fixture_end(&fixture);
}

TEST(a_finished_scope_waits_behind_an_older_one)
{
	struct fixture fixture = fixture_make(64 * KIB);
	struct scope *old = scope_make(NULL), *young = scope_make(NULL);
	struct heap_tail tail;
	uint64_t address;

	CHECK_EQ(heap_alloc(fixture.heap, old, KIB, &address), 0);
	CHECK_EQ(heap_alloc(fixture.heap, young, 63 * KIB, &address), 0);
	CHECK(!scope_put(fixture.heap, young));
	CHECK_EQ(heap_used(fixture.heap), 64 * KIB);
	heap_tail(fixture.heap, old, &tail);
	CHECK(tail.scope == old);
	CHECK_EQ(tail.block_bytes, KIB);
	CHECK(scope_put(fixture.heap, old));
	CHECK_EQ(heap_used(fixture.heap), 0);
	fixture_end(&fixture);
}

/* ------------------------------------------------------------------- model */

#define SCOPES 24
#define MODEL_KIB 256

struct model_scope {
	struct scope *scope;
	int puts;		/* still to come, without those of inner scopes */
	int outer;
};

struct model_block {
	int scope;
	uint32_t ring, begin, kib;	/* KiB */
	bool given_back;
};

struct model {
	struct fixture fixture;
	uint32_t kib;
	struct model_scope scopes[SCOPES];
	struct model_block *blocks;	/* in the order in which they were made */
	size_t first[HEAP_RINGS], count;
	int8_t owner[HEAP_RINGS][MODEL_KIB];	/* scope, or -1 */
	uint64_t seed;
	int errors;
};

static void model_error(struct model *model, const char *what, uint64_t got, uint64_t want)
{
	if (!model->errors++)
		printf("# seed %llu: %s: got %#llx, want %#llx\n",
		       (unsigned long long)model->seed, what, (unsigned long long)got,
		       (unsigned long long)want);
}

/* `run` carries the number of the scope. */
static void released(struct run_graph *run, uint64_t begin, uint64_t end, void *context)
{
	struct model *model = context;
	int scope = (int)(uintptr_t)run - 1;

	for (uint32_t ring = 0; ring < HEAP_RINGS; ring++) {
		uint64_t base = model->fixture.base[ring];

		if (begin < base || begin >= base + model->kib * KIB)
			continue;
		for (uint64_t i = (begin - base) / KIB; i < (end - base) / KIB; i++) {
			if (model->owner[ring][i] != scope)
				model_error(model, "released a KiB of another scope",
					    model->owner[ring][i], scope);
			model->owner[ring][i] = -1;
		}
	}
	for (size_t i = 0; i < model->count; i++)
		if (model->blocks[i].scope == scope)
			model->blocks[i].given_back = true;
}

/* Blocks of one ring that still stand, oldest first, and their span. */
static uint32_t model_span(struct model *model, uint32_t ring, uint32_t *head, uint32_t *tail)
{
	size_t i = model->first[ring];
	bool any = false;

	*head = 0;
	*tail = 0;
	while (i < model->count && (model->blocks[i].ring != ring || model->blocks[i].given_back))
		i++;
	model->first[ring] = i;
	for (; i < model->count; i++) {
		struct model_block *block = &model->blocks[i];

		if (block->ring != ring)
			continue;
		if (!any)
			*tail = block->begin;
		any = true;
		*head = block->begin + block->kib;
	}
	if (!any)
		return 0;
	return *head > *tail ? *head - *tail : model->kib - *tail + *head;
}

static void model_alloc(struct model *model, int index)
{
	struct scope *scope = model->scopes[index].scope;
	uint32_t ring = scope->depth < 3 ? scope->depth : 3, head, tail, want, used;
	uint32_t kib = below(8) ? 1 + below(model->kib / 16 + 1) : 1 + below(model->kib);
	uint64_t bytes = (uint64_t)kib * KIB - below(KIB), address = 0;
	bool fits = true;
	int result;

	used = model_span(model, ring, &head, &tail);
	want = head;
	if (used && head <= tail)
		fits = head + kib <= tail;
	else if (head + kib > model->kib) {
		want = 0;
		fits = kib <= tail;
	}
	result = heap_alloc(model->fixture.heap, scope, bytes, &address);
	if (result != (fits ? 0 : -EAGAIN)) {
		model_error(model, "alloc", result, fits ? 0 : -EAGAIN);
		return;
	}
	if (!fits)
		return;
	if (address != model->fixture.base[ring] + (uint64_t)want * KIB) {
		model_error(model, "address", address, model->fixture.base[ring] + want * KIB);
		return;
	}
	for (uint32_t i = want; i < want + kib; i++) {
		if (model->owner[ring][i] >= 0)
			model_error(model, "overlap", i, model->owner[ring][i]);
		model->owner[ring][i] = index;
	}
	model->blocks[model->count++] = (struct model_block){
		.scope = index, .ring = ring, .begin = want, .kib = kib,
	};
}

static void model_begin(struct model *model)
{
	int index = 0, outer = below(SCOPES);
	struct scope *scope;

	while (index < SCOPES && model->scopes[index].scope)
		index++;
	if (index == SCOPES)
		return;
	/* Only an open scope can get inner ones: one that still has its first count. */
	if (!model->scopes[outer].scope || !model->scopes[outer].scope->open)
		outer = -1;
	if (scope_create(outer < 0 ? NULL : model->scopes[outer].scope,
			 (struct run_graph *)(uintptr_t)(index + 1), &scope)) {
		model_error(model, "scope_create", 1, 0);
		return;
	}
	model->scopes[index] = (struct model_scope){ .scope = scope, .puts = 1, .outer = outer };
}

/* Drops one count of a scope; scopes that end with it are freed in the model, too. */
static void model_put(struct model *model, int index)
{
	uint64_t before = heap_used(model->fixture.heap);
	struct scope *scope = model->scopes[index].scope;
	bool freed;

	if (scope->open && (model->scopes[index].puts == 1 || below(2)))
		scope->open = false;
	model->scopes[index].puts--;
	for (int i = index; i >= 0; i = model->scopes[i].outer) {
		struct model_scope *at = &model->scopes[i];

		if (at->scope->alive != 1)
			break;
		at->scope = NULL;
	}
	freed = scope_put(model->fixture.heap, scope);
	if (freed != (heap_used(model->fixture.heap) < before))
		model_error(model, "scope_put", freed, !freed);
}

static int run_seed(uint64_t seed)
{
	struct model *model = calloc(1, sizeof(*model));
	uint32_t steps = 600, load = 2 + below(5), head, tail;
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE) / KIB;
	int errors;

	model->seed = seed;
	/* Rings are whole pages. */
	model->kib = page * (1 + below(MODEL_KIB / page));
	model->fixture = fixture_make(model->kib * KIB);
	model->blocks = calloc(steps, sizeof(*model->blocks));
	memset(model->owner, -1, sizeof(model->owner));
	heap_on_release(model->fixture.heap, released, model);
	for (uint32_t i = 0; i < steps && !model->errors; i++) {
		int index = below(SCOPES);
		uint64_t used = 0;

		if (below(10) == 0)
			model_begin(model);
		if (model->scopes[index].scope && model->scopes[index].puts) {
			if (below(8) < load) {
				if (model->scopes[index].scope->open)
					model_alloc(model, index);
			} else if (below(2) && model->scopes[index].scope->open) {
				scope_get(model->scopes[index].scope);
				model->scopes[index].puts++;
			} else {
				model_put(model, index);
			}
		}
		for (uint32_t ring = 0; ring < HEAP_RINGS; ring++)
			used += model_span(model, ring, &head, &tail);
		if (used * KIB != heap_used(model->fixture.heap))
			model_error(model, "used", heap_used(model->fixture.heap), used * KIB);
	}
	for (int i = 0; i < SCOPES; i++)
		while (model->scopes[i].scope && model->scopes[i].puts)
			model_put(model, i);
	for (int i = 0; i < SCOPES; i++)
		if (model->scopes[i].scope)
			model_error(model, "a scope is left", i, 0);
	if (heap_used(model->fixture.heap))
		model_error(model, "used in the end", heap_used(model->fixture.heap), 0);
	for (uint32_t ring = 0; ring < HEAP_RINGS; ring++)
		for (uint32_t i = 0; i < model->kib; i++)
			if (model->owner[ring][i] >= 0)
				model_error(model, "never released", i, model->owner[ring][i]);
	errors = model->errors;
	fixture_end(&model->fixture);
	free(model->blocks);
	free(model);
	return errors;
}

TEST(blocks_are_where_the_model_says_and_all_come_back)
{
	CHECK_EQ(run_seeds(run_seed, 3000), 0);
}

/* --------------------------------------------------------------- benchmark */

static void bench(const char *what, uint64_t count, uint32_t scopes, uint32_t per_scope)
{
	struct fixture fixture = fixture_make(64 << 20);
	struct scope *open[64] = { NULL };
	uint64_t address, sum = 0, begin = cpu_ns();

	for (uint64_t i = 0; i < count; i++) {
		struct scope **scope = &open[i % scopes];

		if (*scope && (*scope)->blocks == per_scope) {
			scope_put(fixture.heap, *scope);
			*scope = NULL;
		}
		if (!*scope)
			*scope = scope_make(NULL);
		if (!heap_alloc(fixture.heap, *scope, 1000, &address))
			sum += address;
	}
	begin = cpu_ns() - begin;
	CHECK(sum);
	printf("# %s: %.1f ns per heap_alloc, with its share of the scope\n", what,
	       (double)begin / count);
	for (uint32_t i = 0; i < scopes; i++)
		if (open[i])
			scope_put(fixture.heap, open[i]);
	CHECK_EQ(heap_used(fixture.heap), 0);
	fixture_end(&fixture);
}

TEST(what_a_block_costs)
{
	bench("1 scope of 1000 blocks at a time", rounds(20000000), 1, 1000);
	bench("16 scopes of 100 blocks in turns", rounds(20000000), 16, 100);
	bench("1 scope for each block", rounds(20000000), 1, 1);
}
