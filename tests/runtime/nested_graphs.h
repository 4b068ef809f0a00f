/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Random programs over three levels against an oracle that executes them one task after the other:
 * sub tasks, groups whose members wait for each other, and nested orchestrations that do the same
 * with the memory that their task declared. Views overlap; heap tensors, scopes, explicit edges and
 * failures are among them; several runs are in flight.
 */
#ifndef TESTS_NESTED_GRAPHS_H
#define TESTS_NESTED_GRAPHS_H

#include <sched.h>
#include <stdatomic.h>
#include "../unit/engine_test.h"
#include "failure.h"

#define CELLS		48	/* of a run: shared by all tasks of its first level */
#define TEMP_CELLS	16
#define OPS_MOST	40
#define VIEWS_MOST	4
#define REGIONS_MOST	12
#define LEVELS		3
#define RUNS		3	/* in flight */
#define MEMORY		32768	/* cells of the oracle */
#define MEET		8192	/* places where members of groups meet, per run */

struct view {
	uint32_t region, first, count;
	enum dw_tag tag;
};

enum op_kind { OP_TASK, OP_GROUP, OP_NESTED, OP_SCOPE_BEGIN, OP_SCOPE_END, OP_WAIT };

struct op {
	enum op_kind kind;
	uint64_t seed;
	struct view view[2][VIEWS_MOST];	/* of each member */
	uint32_t views[2];
	/* the last view of the first is a new heap tensor */
	bool temp;
	bool fails;
	uint32_t after;				/* an op before this one, or itself: none */
};

/* The operations of an orchestration on the memory that it may touch. */
struct plan {
	uint64_t state;
	uint32_t depth, count, regions;
	uint32_t cells[REGIONS_MOST];
	bool writable[REGIONS_MOST];
	struct op op[OPS_MOST];
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static uint32_t pick(struct plan *plan, uint32_t limit)
{
	plan->state = mix(plan->state + 0x9e3779b97f4a7c15ULL);
	return (uint32_t)(plan->state >> 33) % limit;
}

static bool reads(enum dw_tag tag)
{
	return tag == DW_INPUT || tag == DW_INOUT;
}

static bool writes(enum dw_tag tag)
{
	return tag == DW_OUTPUT || tag == DW_INOUT;
}

/* ------------------------------------------------------------------ programs */

/* Members run at the same time: a member must not touch cells that another one writes. */
static bool conflicts(const struct op *op, const struct view *view)
{
	for (uint32_t i = 0; i < op->views[0]; i++) {
		const struct view *other = &op->view[0][i];

		if (other->region == view->region && other->first < view->first + view->count &&
		    view->first < other->first + other->count &&
		    (writes(other->tag) || writes(view->tag)))
			return true;
	}
	return false;
}

static void plan_views(struct plan *plan, struct op *op, uint32_t member)
{
	uint32_t wanted = 1 + pick(plan, VIEWS_MOST - 1);

	for (uint32_t i = 0; i < wanted; i++) {
		struct view *view = &op->view[member][op->views[member]];
		static const enum dw_tag tags[] = { DW_INPUT, DW_INPUT, DW_OUTPUT,
						    DW_INOUT, DW_INOUT, DW_NO_DEP };

		view->region = pick(plan, plan->regions);
		view->first = pick(plan, plan->cells[view->region]);
		view->count = 1 + pick(plan, plan->cells[view->region] - view->first);
		view->tag = tags[pick(plan, 6)];
		/*
		 * The regions of a nested run may overlap, unseen by conflicts(): its groups only
		 * read them.
		 */
		if (!plan->writable[view->region] || (op->kind == OP_GROUP && plan->depth))
			view->tag = view->tag == DW_NO_DEP ? DW_NO_DEP : DW_INPUT;
		/* A nested run reads everything that it is given, so all of it must be defined. */
		if (op->kind == OP_NESTED && (view->tag == DW_OUTPUT || view->tag == DW_NO_DEP))
			view->tag = view->tag == DW_OUTPUT ? DW_INOUT : DW_INPUT;
		if (!member || !conflicts(op, view))
			op->views[member]++;
	}
}

static void plan_op(struct plan *plan, struct op *op)
{
	uint32_t roll = pick(plan, 100);

	op->kind = roll < 12				 ? OP_GROUP :
		   roll < 45 && plan->depth + 1 < LEVELS ? OP_NESTED :
							   OP_TASK;
	op->fails = op->kind != OP_NESTED && pick(plan, 60) == 0;
	for (uint32_t member = 0; member < (op->kind == OP_GROUP ? 2 : 1); member++)
		plan_views(plan, op, member);
	if (op->kind != OP_NESTED && plan->regions < REGIONS_MOST && pick(plan, 6) == 0) {
		op->temp = true;
		plan->cells[plan->regions] = TEMP_CELLS;
		plan->writable[plan->regions] = true;
		op->view[0][op->views[0]++] =
			(struct view){ plan->regions++, 0, TEMP_CELLS, DW_OUTPUT };
	}
}

/* `plan->regions`, `cells` and `writable` are given. */
static void plan_make(struct plan *plan, uint64_t seed, uint32_t depth)
{
	uint32_t given = plan->regions, open = 0, outer[8];

	plan->state = seed;
	plan->depth = depth;
	plan->count = depth ? 2 + pick(plan, 8) : 5 + pick(plan, OPS_MOST - 5);
	for (uint32_t i = 0; i < plan->count; i++) {
		struct op *op = &plan->op[i];
		uint32_t roll = pick(plan, 100);

		memset(op, 0, sizeof(*op));
		op->seed = mix(seed + i + 1);
		op->after = i;
		if (roll < 8 && open < 8) {
			op->kind = OP_SCOPE_BEGIN;
			outer[open++] = plan->regions;
		} else if (roll < 16 && open) {
			op->kind = OP_SCOPE_END;
			plan->regions = outer[--open];
		} else if (roll < 19) {
			op->kind = OP_WAIT;
		} else {
			plan_op(plan, op);
			if (pick(plan, 8) == 0)
				op->after = pick(plan, i + 1);
		}
		if (op->after != i && plan->op[op->after].kind > OP_NESTED)
			op->after = i;
	}
	plan->regions = given;
}

/* The work of a sub task: every input goes into every output. */
static void compute(uint64_t seed, uint32_t views, int64_t *const *data, const uint32_t *counts,
		    const uint8_t *tags)
{
	uint64_t sum = mix(seed);

	for (uint32_t i = 0; i < views; i++)
		for (uint32_t k = 0; reads(tags[i]) && k < counts[i]; k++)
			sum = mix(sum + (uint64_t)data[i][k]);
	for (uint32_t i = 0; i < views; i++)
		for (uint32_t k = 0; writes(tags[i]) && k < counts[i]; k++)
			data[i][k] = (int64_t)mix(sum + 31 * i + k);
}

/* ----------------------------------------------------------------- the oracle */

struct oracle {
	int64_t memory[MEMORY];
	uint32_t used;
	bool bad[CELLS];		/* of the first level: those of a task that was not done */
};

/*
 * The outputs of a task that was not done are as it left them; on another host they are undefined.
 */
static bool bad_cells_are_undefined;

static bool oracle_run(struct oracle *oracle, uint64_t seed, uint32_t depth, uint32_t regions,
		       const uint32_t *at, const uint32_t *cells, const bool *writable);

/* Was the task done? If not, its outputs are bad. */
static bool oracle_op(struct oracle *oracle, const struct plan *plan, const struct op *op,
		      const uint32_t *at, bool *bad, bool skip)
{
	uint32_t members = op->kind == OP_GROUP ? 2 : 1;
	uint32_t starts[VIEWS_MOST], counts[VIEWS_MOST];
	int64_t *data[VIEWS_MOST];
	uint8_t tags[VIEWS_MOST];
	bool may[VIEWS_MOST], done = false;

	for (uint32_t m = 0; m < members; m++)
		for (uint32_t i = 0; i < op->views[m]; i++) {
			const struct view *view = &op->view[m][i];

			for (uint32_t k = 0; reads(view->tag) && k < view->count; k++)
				skip |= bad[at[view->region] + view->first + k];
		}
	for (uint32_t m = 0; m < members; m++) {
		for (uint32_t i = 0; i < op->views[m]; i++) {
			const struct view *view = &op->view[m][i];

			starts[i] = at[view->region] + view->first;
			data[i] = &oracle->memory[starts[i]];
			counts[i] = view->count;
			tags[i] = (uint8_t)view->tag;
			may[i] = writes(view->tag);
		}
		if (skip || op->fails)
			continue;
		if (op->kind == OP_NESTED) {
			done = oracle_run(oracle, op->seed, plan->depth + 1, op->views[m], starts,
					  counts, may);
		} else {
			compute(op->seed + m, op->views[m], data, counts, tags);
			done = true;
		}
	}
	for (uint32_t m = 0; m < members; m++)
		for (uint32_t i = 0; i < op->views[m]; i++)
			if (writes(op->view[m][i].tag))
				memset(&bad[at[op->view[m][i].region] + op->view[m][i].first],
				       !done, op->view[m][i].count);
	return done;
}

/* Were all tasks done? `at`: where the given regions begin. */
static bool oracle_run(struct oracle *oracle, uint64_t seed, uint32_t depth, uint32_t regions,
		       const uint32_t *at, const uint32_t *cells, const bool *writable)
{
	bool *bad = calloc(MEMORY, 1), all = true, ok[OPS_MOST];
	struct plan *plan = calloc(1, sizeof(*plan));
	uint32_t where[REGIONS_MOST];

	plan->regions = regions;
	memcpy(plan->cells, cells, regions * sizeof(*cells));
	memcpy(plan->writable, writable, regions * sizeof(*writable));
	memcpy(where, at, regions * sizeof(*at));
	plan_make(plan, seed, depth);
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct op *op = &plan->op[i];

		ok[i] = true;
		if (op->kind > OP_NESTED)
			continue;
		if (op->temp) {
			where[op->view[0][op->views[0] - 1].region] = oracle->used;
			oracle->used += TEMP_CELLS;
			if (oracle->used > MEMORY)
				abort();
		}
		ok[i] = oracle_op(oracle, plan, op, where, bad, op->after != i && !ok[op->after]);
		all &= ok[i];
	}
	if (!depth)
		memcpy(oracle->bad, bad, sizeof(oracle->bad));
	free(plan);
	free(bad);
	return all;
}

/* -------------------------------------------------------------- the execution */

struct shared {
	int64_t cells[CELLS];
	_Atomic uint32_t meet[MEET];
	_Atomic uint32_t alone;		/* members whose group did not come */
};

static dw_callable sub_handle, nested_handle;

/*
 * Scalars: seed, tags of the views, whether it fails, the address of the run's shared memory, and
 * the meeting place of a group's two members, else 0.
 */
static int sub_body(const struct dw_args *args, void *context)
{
	struct shared *shared = (struct shared *)(uintptr_t)dw_args_scalar(args, 3);
	uint32_t views = (uint32_t)dw_args_tensor_count(args),
		 place = (uint32_t)dw_args_scalar(args, 4);
	uint64_t begun = now_ns();
	int64_t *data[VIEWS_MOST];
	uint32_t counts[VIEWS_MOST];
	uint8_t tags[VIEWS_MOST];

	(void)context;
	for (uint32_t i = 0; i < views; i++) {
		data[i] = dw_args_data(args, i);
		counts[i] = dw_args_tensor(args, i)->shape[0];
		tags[i] = (uint8_t)(dw_args_scalar(args, 1) >> 8 * i);
	}
	if (place) {
		atomic_fetch_add(&shared->meet[place], 1);
		while (atomic_load(&shared->meet[place]) < 2 && !dw_task_cancelled()) {
			if (!unit_within(begun, 10 * SECOND_NS)) {
				atomic_fetch_add(&shared->alone, 1);
				break;
			}
			sched_yield();
		}
	}
	if (dw_args_scalar(args, 2))
		return dw_task_fail(EIO, "it was to fail");
	compute(dw_args_scalar(args, 0), views, data, counts, tags);
	return 0;
}

struct execution {
	const struct plan *plan;
	struct shared *shared;
	uint32_t place;			/* of the first op's group */
	int64_t *at[REGIONS_MOST];
	dw_task task[OPS_MOST];
};

static void fill(struct execution *run, const struct op *op, uint32_t member, uint32_t place,
		 struct dw_args *args)
{
	uint64_t tags = 0;

	dw_args_reset(args);
	for (uint32_t i = 0; i < op->views[member]; i++) {
		const struct view *view = &op->view[member][i];
		bool fresh = op->temp && member == 0 && i + 1 == op->views[0];
		struct dw_tensor tensor;

		dw_tensor_init(&tensor, fresh ? NULL : run->at[view->region] + view->first,
			       DW_INT64, &view->count, 1);
		dw_args_add_tensor(args, &tensor, view->tag);
		tags |= (uint64_t)view->tag << 8 * i;
	}
	dw_args_add_scalar(args, op->seed + member);
	dw_args_add_scalar(args, tags);
	dw_args_add_scalar(args, op->fails);
	dw_args_add_scalar(args, (uint64_t)(uintptr_t)run->shared);
	dw_args_add_scalar(args, place);
}

static int submit_op(struct execution *run, struct dw_orch *orch, uint32_t number,
		     struct dw_args **args)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	const struct op *op = &run->plan->op[number];
	/* Unique in the run: a run at depth d + 1 has those behind its task's. */
	uint32_t step =
		run->plan->depth ? run->plan->depth == 1 ? OPS_MOST / 4 : 1 : MEET / OPS_MOST;
	uint32_t place = run->place + number * step;
	int result;

	options.after = &run->task[op->after];
	options.after_count = op->after != number;
	fill(run, op, 0, op->kind == OP_TASK ? 0 : place + 1, args[0]);
	if (op->kind == OP_GROUP) {
		fill(run, op, 1, place + 1, args[1]);
		result = dw_submit_group(orch, sub_handle, args, 2, NULL, &options,
					 &run->task[number]);
	} else {
		result = dw_submit(orch, op->kind == OP_NESTED ? nested_handle : sub_handle,
				   args[0], &options, &run->task[number]);
	}
	if (!result && op->temp)
		run->at[op->view[0][op->views[0] - 1].region] =
			dw_args_data(args[0], op->views[0] - 1);
	return result;
}

static int execute(struct dw_orch *orch, struct execution *run)
{
	struct dw_args *args[2];
	int result = 0;

	dw_args_create(&args[0]);
	dw_args_create(&args[1]);
	for (uint32_t i = 0; i < run->plan->count && !result; i++) {
		switch (run->plan->op[i].kind) {
		case OP_SCOPE_BEGIN:
			result = dw_scope_begin(orch);
			break;
		case OP_SCOPE_END:
			result = dw_scope_end(orch);
			break;
		case OP_WAIT:
			dw_orch_wait(orch);
			break;
		default:
			result = submit_op(run, orch, i, args);
		}
	}
	dw_args_destroy(args[0]);
	dw_args_destroy(args[1]);
	return result;
}

static int execute_plan(struct dw_orch *orch, struct execution *run, struct plan *plan,
			uint64_t seed, uint32_t depth)
{
	int result;

	plan_make(plan, seed, depth);
	run->plan = plan;
	result = execute(orch, run);
	free(plan);
	return result;
}

static int orch_nested(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct execution run = {
		.shared = (struct shared *)(uintptr_t)dw_args_scalar(args, 3),
		.place = (uint32_t)dw_args_scalar(args, 4),
	};
	struct plan *plan = calloc(1, sizeof(*plan));

	(void)config;
	(void)context;
	plan->regions = (uint32_t)dw_args_tensor_count(args);
	for (uint32_t i = 0; i < plan->regions; i++) {
		run.at[i] = dw_args_data(args, i);
		plan->cells[i] = dw_args_tensor(args, i)->shape[0];
		plan->writable[i] = writes((enum dw_tag)(dw_args_scalar(args, 1) >> 8 * i & 0xff));
	}
	return execute_plan(orch, &run, plan, dw_args_scalar(args, 0),
			    dw_orch_worker_count(orch) ? 1 : 2);
}

struct program {
	uint64_t seed;
	struct shared *shared;
	struct dw_run *run;
};

static int orch_program(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct program *program = context;
	struct execution run = { .shared = program->shared, .at = { program->shared->cells } };
	struct plan *plan = calloc(1, sizeof(*plan));

	(void)args;
	(void)config;
	plan->regions = 1;
	plan->cells[0] = CELLS;
	plan->writable[0] = true;
	return execute_plan(orch, &run, plan, program->seed, 0);
}

/* ----------------------------------------------------------------- comparing */

static int wait_and_compare(struct program *program)
{
	static const uint32_t at = 0, cells = CELLS;
	static const bool writable = true;
	struct oracle *oracle = calloc(1, sizeof(*oracle));
	int wrong = 0, result = dw_run_wait(program->run), wanted;

	oracle->used = CELLS;
	for (int i = 0; i < CELLS; i++)
		oracle->memory[i] = i;
	wanted = oracle_run(oracle, program->seed, 0, 1, &at, &cells, &writable) ? 0 : -EIO;
	wrong += !CHECK_EQ(result, wanted);
	if (wrong)
		printf("# %s\n", dw_strerror_last());
	for (int i = 0; i < CELLS && !wrong; i++)
		if (program->shared->cells[i] != oracle->memory[i] &&
		    !(oracle->bad[i] && bad_cells_are_undefined))
			wrong += !CHECK_EQ(i, -1);
	wrong += !CHECK_EQ(program->shared->alone, 0);
	free(oracle);
	return wrong;
}

static struct program programs[RUNS];

static int run_seed(uint64_t seed)
{
	int wrong = 0;

	for (uint32_t i = 0; i < RUNS; i++) {
		struct program *program = &programs[i];

		program->seed = mix(seed * RUNS + i);
		memset(program->shared, 0, sizeof(*program->shared));
		for (int k = 0; k < CELLS; k++)
			program->shared->cells[k] = k;
		program->run = NULL;
		if (!CHECK_EQ(dw_worker_start(chain.worker[0], orch_program, NULL, NULL, program,
					      NULL, &program->run),
			      0))
			printf("# %s\n", dw_strerror_last());
	}
	for (uint32_t i = 0; i < RUNS; i++)
		wrong += wait_and_compare(&programs[i]);
	if (wrong)
		printf("# %s --seed %llu\n", unit_now, (unsigned long long)seed);
	return wrong;
}

static void nested_graphs_register(struct dw_worker *root)
{
	CHECK_EQ(dw_callable_register_sub(root, "body", sub_body, NULL, &sub_handle), 0);
	CHECK_EQ(dw_callable_register_orch(root, "nested", orch_nested, NULL, &nested_handle), 0);
}

/* Runs on a chain that it creates, with `options` for all levels, and then destroys. */
static void nested_graphs_run(uint64_t seeds)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	nested_graphs_register(chain.worker[0]);
	for (uint32_t i = 0; i < RUNS; i++)
		CHECK_EQ(dw_buffer_create(chain.worker[0], sizeof(*programs[i].shared),
					  (void **)&programs[i].shared), 0);
	if (!CHECK_EQ(dw_worker_init(chain.worker[0]), 0)) {
		printf("# %s\n", dw_strerror_last());
		chain_destroy();
		return;
	}
	CHECK_EQ(run_seeds(run_seed, seeds), 0);
	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	CHECK_EQ(stats.heap_used, 0);
	chain_destroy();
}

#endif
