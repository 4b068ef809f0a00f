// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The tensor map against two oracles: one keeps writer, readers and earlier writers of
 * every single byte and must agree exactly; the other knows only which live tasks conflict, and
 * wants a path of edges between them. Memory runs out now and then. --seed N runs one seed,
 * --seeds N that many.
 */
#include <errno.h>
#include "depend/tensor_map.h"
#include "engine_test.h"
#include "unit.h"

/* Allocations that still succeed; below 0: all. */
static int allocations_left = -1;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
void *__libc_malloc(size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static bool refused(void)
{
	if (allocations_left > 0)
		allocations_left--;
	else
		return allocations_left == 0;
	return false;
}

void *malloc(size_t bytes)
{
	return refused() ? NULL : __libc_malloc(bytes);
}

void *realloc(void *old, size_t bytes)
{
	return refused() ? NULL : __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
	return refused() ? NULL : __libc_memalign(align, bytes);
}
#endif

static struct task_ref start(struct task_head *head)
{
	head->generation++;
	head->state = TASK_PENDING;
	return (struct task_ref){ .task = (struct task *)head, .generation = head->generation };
}

#define TASKS 64		/* alive at once; sets of them are 64-bit words */
#define UNITS 2048

struct access {
	uint32_t begin, end;
	enum dw_tag tag;
};

struct model_task {
	struct task_head head;
	struct task_ref ref;
	uint64_t number;
	bool skip;
	uint64_t waits;		/* tasks that it waits for, directly */
	uint64_t before;	/* tasks that are final before it */
	uint64_t raw;
	struct access accesses[6];
	int access_count;
};

struct model {
	struct tensor_map *map;
	uint32_t units, scale, tile;
	uint64_t base, numbers;
	uint64_t live;
	struct model_task tasks[TASKS];
	/* per unit; readers and earlier writers may name final tasks, which are masked */
	int8_t writer[UNITS];
	uint64_t readers[UNITS], earlier[UNITS], poison[UNITS];
	/* the map's report for the task that is being submitted */
	uint8_t got[TASKS], want[TASKS];
	uint64_t seed;
	int errors, refused;
};

static uint64_t refused_sum;

static void model_error(struct model *model, const char *what, uint64_t got, uint64_t want)
{
	if (!model->errors++)
		printf("# seed %llu: %s: got %#llx, want %#llx\n",
			(unsigned long long)model->seed, what, (unsigned long long)got,
			(unsigned long long)want);
}

static void report(struct task *producer, enum edge_reason reason, void *context)
{
	struct model *model = context;
	size_t i = (struct model_task *)producer - model->tasks;

	if (i >= TASKS || !(model->live >> i & 1))
		model_error(model, "an edge to a task that is not live", i, 0);
	else
		model->got[i] |= reason;
}

static void random_range(struct model *model, struct access *access)
{
	uint32_t units = model->units;

	if (below(4)) {
		uint32_t tile = below(units / model->tile);

		access->begin = tile * model->tile;
		access->end = access->begin + model->tile;
	} else {
		access->begin = below(units);
		access->end = access->begin + 1 + below(below(4) ? 2 * model->tile : units);
		if (access->end > units)
			access->end = units;
	}
}

static void want_all(struct model *model, uint64_t set, uint64_t self, int reason)
{
	set &= model->live & ~self;
	for (; set; set &= set - 1)
		model->want[__builtin_ctzll(set)] |= reason;
}

/* One access in the model; the poisons that may be reported go into `poisons`. */
static void model_access(struct model *model, int index, const struct access *access,
			 uint64_t *poisons, int *poison_count)
{
	uint64_t self = 1ull << index;
	enum dw_tag tag = access->tag;

	for (uint32_t i = access->begin; i < access->end && tag != DW_NO_DEP; i++) {
		uint64_t writer = model->writer[i] < 0 ? 0 : 1ull << model->writer[i];

		if (tag == DW_INPUT && writer == self)
			continue;
		if (tag == DW_INPUT || tag == DW_INOUT) {
			want_all(model, writer, self, EDGE_RAW);
			if (model->poison[i])
				poisons[(*poison_count)++] = model->poison[i];
		}
		if (tag == DW_INPUT) {
			model->readers[i] |= self;
			continue;
		}
		if (tag == DW_OUTPUT_EXISTING) {
			if (writer != self)
				model->earlier[i] |= writer & model->live;
		} else {
			want_all(model, writer | model->earlier[i], self, EDGE_WAW);
			want_all(model, model->readers[i], self, EDGE_WAR);
			model->readers[i] = 0;
			model->earlier[i] = 0;
		}
		model->writer[i] = index;
		model->poison[i] = 0;
	}
}

/*
 * Did an OUTPUT_EXISTING pass the writer `other` of a byte, or one that waits for it? Then a reader
 * of the byte need not wait for it.
 */
static bool overwritten(const struct model *model, uint32_t unit, int other)
{
	uint64_t set = model->earlier[unit] & model->live;
	uint64_t hidden = set;

	for (; set; set &= set - 1)
		hidden |= model->tasks[__builtin_ctzll(set)].before;
	return hidden >> other & 1;
}

/* Every live task that conflicts with task `index` must be final before it. */
static void check_conflicts(struct model *model, int index, const struct access *access)
{
	uint64_t before = model->tasks[index].before;
	bool writes = access->tag != DW_INPUT;

	if (access->tag == DW_OUTPUT_EXISTING || access->tag == DW_NO_DEP)
		return;
	for (uint64_t set = model->live & ~(1ull << index); set; set &= set - 1) {
		int other = __builtin_ctzll(set);
		const struct model_task *task = &model->tasks[other];

		for (int k = 0; k < task->access_count; k++) {
			const struct access *old = &task->accesses[k];
			uint32_t begin = old->begin > access->begin ? old->begin : access->begin;
			uint32_t end = old->end < access->end ? old->end : access->end;
			bool passed_by = true;

			if (begin >= end || old->tag == DW_NO_DEP ||
			    (!writes && old->tag == DW_INPUT) || before >> other & 1)
				continue;
			for (uint32_t i = begin; i < end; i++)
				passed_by &= overwritten(model, i, other);
			if (writes || !passed_by)
				model_error(model, "no path to a conflicting task", other, index);
		}
	}
}

static void forget_index(struct model *model, int index)
{
	for (uint32_t i = 0; i < model->units; i++) {
		if (model->writer[i] == index)
			model->writer[i] = -1;
		model->readers[i] &= ~(1ull << index);
		model->earlier[i] &= ~(1ull << index);
	}
}

/* Makes an access; sometimes first one without memory, which must change nothing. */
static void submit_access(struct model *model, const struct access *access, struct task_ref task,
			  uint64_t *poison)
{
	uint64_t begin = model->base + access->begin * model->scale, before = *poison;
	uint64_t end = model->base + access->end * model->scale;
	uint8_t got[TASKS];
	int result;

	if (below(4) == 0) {
		memcpy(got, model->got, sizeof(got));
		allocations_left = below(4);
		result = tensor_map_access(model->map, begin, end, access->tag, task, report,
					   model, poison);
		allocations_left = -1;
		if (!result)
			return;
		model->refused++;
		if (result != -ENOMEM || memcmp(got, model->got, sizeof(got)) || *poison != before)
			model_error(model, "an access without memory", result, -ENOMEM);
	}
	if (tensor_map_access(model->map, begin, end, access->tag, task, report, model, poison))
		model_error(model, "an access failed", begin, end);
}

static void model_submit(struct model *model)
{
	static uint64_t poisons[6 * UNITS];
	int index = 0, poison_count = 0;
	struct model_task *task;
	uint64_t poison = 0;
	bool found = false;

	if (!~model->live)
		return;
	while (model->live >> index & 1)
		index++;
	/* The task is used again, with a new generation. */
	forget_index(model, index);
	task = &model->tasks[index];
	task->ref = start(&task->head);
	task->number = ++model->numbers;
	task->skip = false;
	task->access_count = 1 + below(below(3) ? 3 : 6);
	for (int i = 0; i < task->access_count; i++) {
		random_range(model, &task->accesses[i]);
		task->accesses[i].tag = below(20) ? below(4) : DW_NO_DEP;
	}
	/* Those that read first. */
	for (int i = 1; i < task->access_count; i++) {
		for (int k = i; k > 0; k--) {
			struct access *a = &task->accesses[k - 1], *b = a + 1, swap = *a;
			bool a_reads = a->tag == DW_INPUT || a->tag == DW_INOUT;
			bool b_reads = b->tag == DW_INPUT || b->tag == DW_INOUT;

			if (b_reads && !a_reads) {
				*a = *b;
				*b = swap;
			}
		}
	}
	memset(model->got, 0, sizeof(model->got));
	memset(model->want, 0, sizeof(model->want));
	for (int i = 0; i < task->access_count; i++) {
		const struct access *access = &task->accesses[i];

		submit_access(model, access, task->ref, &poison);
		model_access(model, index, access, poisons, &poison_count);
	}
	task->waits = 0;
	task->raw = 0;
	task->before = 0;
	for (int i = 0; i < TASKS; i++) {
		if (model->got[i] != model->want[i])
			model_error(model, "edge", model->got[i], model->want[i]);
		if (!model->want[i])
			continue;
		task->waits |= 1ull << i;
		task->before |= 1ull << i | model->tasks[i].before;
		if (model->want[i] & EDGE_RAW)
			task->raw |= 1ull << i;
	}
	for (int i = 0; i < poison_count; i++)
		found |= poisons[i] == poison;
	if (poison ? !found : poison_count)
		model_error(model, "poison", poison, poison_count ? poisons[0] : 0);
	task->skip = poison;
	model->live |= 1ull << index;
	for (int i = 0; i < task->access_count; i++)
		check_conflicts(model, index, &task->accesses[i]);
}

static void model_poison(struct model *model, int index, uint32_t begin, uint32_t end)
{
	struct model_task *task = &model->tasks[index];

	tensor_map_poison(model->map, model->base + begin * model->scale,
			  model->base + end * model->scale, task->ref, task->number);
	for (uint32_t i = begin; i < end; i++)
		if (model->writer[i] == index)
			model->poison[i] = task->number;
}

/* A task that waits for nothing that is live becomes final. */
static void model_finish(struct model *model)
{
	int index = below(TASKS), tries = 0;
	struct model_task *task;
	bool failed;

	while (!(model->live >> index & 1) || model->tasks[index].waits & model->live) {
		index = (index + 1) % TASKS;
		if (++tries == TASKS)
			return;
	}
	task = &model->tasks[index];
	failed = task->skip || below(8) == 0;
	task->head.state = task->skip ? TASK_SKIPPED : failed ? TASK_FAILED : TASK_DONE;
	model->live &= ~(1ull << index);
	for (int i = 0; i < TASKS; i++) {
		model->tasks[i].before &= ~(1ull << index);
		if (failed && model->live >> i & 1 && model->tasks[i].raw >> index & 1)
			model->tasks[i].skip = true;
		model->tasks[i].waits &= ~(1ull << index);
		model->tasks[i].raw &= ~(1ull << index);
	}
	for (int i = 0; failed && i < task->access_count; i++) {
		struct access *access = &task->accesses[i];

		if (access->tag == DW_INPUT || access->tag == DW_NO_DEP)
			continue;
		if (below(8) == 0)
			random_range(model, access);
		model_poison(model, index, access->begin, access->end);
	}
}

/* Memory is given back only when no task uses it. */
static void model_forget(struct model *model)
{
	struct access access;

	random_range(model, &access);
	for (uint64_t set = model->live; set; set &= set - 1) {
		const struct model_task *task = &model->tasks[__builtin_ctzll(set)];

		for (int k = 0; k < task->access_count; k++)
			if (task->accesses[k].begin < access.end &&
			    task->accesses[k].end > access.begin)
				return;
	}
	tensor_map_forget(model->map, model->base + access.begin * model->scale,
			  model->base + access.end * model->scale);
	for (uint32_t i = access.begin; i < access.end; i++) {
		model->writer[i] = -1;
		model->readers[i] = 0;
		model->earlier[i] = 0;
		model->poison[i] = 0;
	}
}

static int run_seed(uint64_t seed)
{
	static const uint32_t units[] = { 16, 64, 256, UNITS };
	struct model *model = calloc(1, sizeof(*model));
	uint32_t steps = 400, load;
	int errors;

	model->seed = seed;
	model->units = units[below(4)];
	model->scale = below(2) ? 1 : 1 + below(5000);
	model->tile = 1 + below(model->units / 4);
	model->base = random_next() >> 20;
	load = 2 + below(6);
	if (model->units == UNITS) {
		model->tile = 1 + below(8);
		steps = 1500;
	}
	memset(model->writer, -1, sizeof(model->writer));
	tensor_map_create(&model->map);
	for (uint32_t i = 0; i < steps && !model->errors; i++) {
		if (below(8) < load)
			model_submit(model);
		else
			model_finish(model);
		if (below(16) == 0)
			model_forget(model);
		/* Ends all of them now and then: the next ones see poison and dead references. */
		if (below(100) == 0)
			for (int k = 0; k < 4 * TASKS && model->live; k++)
				model_finish(model);
	}
	if (tensor_map_segments(model->map) > model->units)
		model_error(model, "segments", tensor_map_segments(model->map), model->units);
	errors = model->errors;
	refused_sum += model->refused;
	tensor_map_destroy(model->map);
	free(model);
	return errors;
}

TEST(edges_and_poison_are_those_of_the_byte_by_byte_oracle)
{
	CHECK_EQ(run_seeds(run_seed, 3000), 0);
	printf("# %llu accesses found no memory first\n", (unsigned long long)refused_sum);
}
