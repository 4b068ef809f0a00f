// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Recorded graphs against an oracle: random graphs are recorded once and replayed many times, with
 * other parameters and scalars, among ordinary submits before, between and after. Memory, and the
 * tasks that were done, failed and skipped, must be the same as after executing all of it one
 * after the other. Views that overlap, groups, explicit edges, blocks of the graph, writes without
 * waiting, retries; which tasks fail is another choice in each replay.
 *
 *   test_record_oracle             some hundred seeds over several shapes
 *   test_record_oracle --seed S    that one, on every shape
 *   test_record_oracle --seeds N [--from S]
 */
#include "engine_rig.h"
#include "seeds.h"
#include "slow.h"

#define FIXED		96		/* cells that recorded tasks use where they are … */
#define SLOTS		12
#define SLOT_CELLS	24		/* … and parts that take the place of parameters */
#define PARAMETERS	3
#define FRESH_CELLS	32		/* written once without waiting: each time others */
#define ROUNDS_MAX	12
#define CELLS		(FIXED + SLOTS * SLOT_CELLS + ROUNDS_MAX * FRESH_CELLS)
#define BLOCK_CELLS	16
#define OPS_MAX		160
#define VIEWS_MAX	5
#define MEMBERS_MAX	3
#define AFTER_MAX	2
#define SCALARS		3		/* of each task that are parameters: seed, failures, slot */
#define ATTEMPTS	((ROUNDS_MAX + 1) * OPS_MAX * 2)

enum region { REGION_CELLS, REGION_PARAMETER, REGION_FRESH, REGION_BLOCK };

struct view {
	enum region region;
	uint32_t index;			/* of the parameter, or the block */
	uint32_t first, count;
	enum dw_tag tag;
	bool makes;			/* the block: an OUTPUT without an address */
};

struct call {
	uint32_t views;
	struct view view[VIEWS_MAX];
};

struct op {
	struct call call[MEMBERS_MAX];
	uint32_t members;
	bool group;
	uint32_t after[AFTER_MAX], after_count;
	uint32_t retries, worker;
	bool node;
};

/* A list of tasks: the recorded ones, or ordinary ones between two replays. */
struct part {
	struct op op[OPS_MAX];
	uint32_t ops, blocks, fresh;
};

/* One execution of a part. */
struct binding {
	uint32_t slot[PARAMETERS];
	uint32_t fresh;			/* first cell of its part */
	uint64_t seed;
	uint32_t fail_chance;		/* per cent */
	uint32_t first_attempt;		/* counters of its tasks */
};

struct round {
	struct binding binding;
	struct part *ordinary;		/* before the replay */
	struct binding ordinary_binding;
	bool waits;
};

struct plan {
	uint64_t seed;
	struct part graph;
	struct round round[ROUNDS_MAX];	/* the first one records */
	uint32_t rounds;
	uint64_t done, failed, skipped;
};

struct shared {
	int64_t cells[CELLS];
	_Atomic int64_t attempts[ATTEMPTS];
};

static uint64_t random_state;

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static uint32_t pick_below(uint32_t limit)
{
	random_state += 0x9E3779B97F4A7C15ULL;
	return (uint32_t)(mix(random_state) % limit);
}

static bool chance(uint32_t percent)
{
	return pick_below(100) < percent;
}

/* -------------------------------------------------------------- the function */

static bool reads(enum dw_tag tag)
{
	return tag == DW_INPUT || tag == DW_INOUT;
}

static bool writes(enum dw_tag tag)
{
	return tag == DW_OUTPUT || tag == DW_INOUT || tag == DW_OUTPUT_EXISTING;
}

static void compute(uint64_t seed, uint32_t views, int64_t *const *data, const uint32_t *counts,
		    const uint8_t *tags)
{
	uint64_t h = mix(seed);

	for (uint32_t i = 0; i < views; i++)
		for (uint32_t k = 0; reads(tags[i]) && k < counts[i]; k++)
			h = mix(h ^ (uint64_t)data[i][k]) + k;
	for (uint32_t i = 0; i < views; i++)
		for (uint32_t k = 0; writes(tags[i]) && k < counts[i]; k++)
			data[i][k] = (int64_t)mix(h + i * 1000 + k);
}

/* Scalars: seed, failing attempts (-1: all), counter of attempts; tags, shared part, ns to spin. */
static int body(const struct dw_args *args)
{
	struct shared *shared = (struct shared *)dw_args_scalar(args, SCALARS + 1);
	size_t views = dw_args_tensor_count(args);
	int64_t fails = dw_args_int(args, 1);
	int64_t *data[VIEWS_MAX];
	uint32_t counts[VIEWS_MAX];
	uint8_t tags[VIEWS_MAX];

	if (dw_args_scalar(args, SCALARS + 2))
		rig_spin(dw_args_scalar(args, SCALARS + 2));
	if (fails < 0 ||
	    atomic_fetch_add(&shared->attempts[dw_args_scalar(args, 2)], 1) < fails)
		return dw_task_fail(EIO, "told to");
	for (size_t i = 0; i < views; i++) {
		data[i] = dw_args_data(args, i);
		counts[i] = dw_args_tensor(args, i)->shape[0];
		tags[i] = (uint8_t)(dw_args_scalar(args, SCALARS) >> (8 * i));
	}
	compute(dw_args_scalar(args, 0), (uint32_t)views, data, counts, tags);
	return 0;
}

static int sub_body(const struct dw_args *args, void *context)
{
	(void)context;
	return body(args);
}

static int node_body(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	(void)context;
	return body(args);
}

static dw_callable sub_handle, node_handle;

/* -------------------------------------------------------------------- plans */

static bool overlaps(const struct view *a, const struct view *b)
{
	return a->region == b->region && a->index == b->index && a->first < b->first + b->count &&
	       b->first < a->first + a->count;
}

/* Members run at the same time: no member may touch cells that another one writes. */
static bool conflicts(const struct op *op, uint32_t member, const struct view *view)
{
	for (uint32_t m = 0; m < member; m++)
		for (uint32_t i = 0; i < op->call[m].views; i++)
			if (overlaps(&op->call[m].view[i], view) &&
			    (writes(op->call[m].view[i].tag) || writes(view->tag)))
				return true;
	return false;
}

static struct view random_view(const struct part *part, bool recorded)
{
	struct view view = { .region = REGION_CELLS };
	uint32_t roll = pick_below(100), space = recorded ? FIXED : FIXED + SLOTS * SLOT_CELLS;

	view.tag = chance(45) ? DW_INPUT : chance(50) ? DW_INOUT : DW_OUTPUT;
	if (recorded && roll < 40) {
		view.region = REGION_PARAMETER;
		view.index = pick_below(PARAMETERS);
		space = SLOT_CELLS;
	} else if (recorded && roll < 55 && part->blocks) {
		view.region = REGION_BLOCK;
		view.index = pick_below(part->blocks);
		space = BLOCK_CELLS;
	} else if (recorded && roll < 62 && part->fresh) {
		view.region = REGION_FRESH;
		view.tag = DW_INPUT;
		view.first = pick_below(part->fresh);
		view.count = 1;
		return view;
	}
	if (chance(4)) {
		view.count = space;
	} else if (chance(60)) {
		view.first = 8 * pick_below(space / 8);
		view.count = 8;
	} else {
		view.first = pick_below(space);
		view.count = 1 + pick_below(space - view.first < 20 ? space - view.first : 20);
	}
	return view;
}

static void plan_call(struct part *part, struct op *op, uint32_t member, bool recorded)
{
	struct call *call = &op->call[member];
	uint32_t wanted = pick_below(VIEWS_MAX);

	while (wanted-- > 0) {
		struct view view = random_view(part, recorded);

		if (!conflicts(op, member, &view))
			call->view[call->views++] = view;
	}
	if (recorded && part->blocks < OPS_MAX && chance(20))
		call->view[call->views++] = (struct view){
			.region = REGION_BLOCK, .index = part->blocks++, .count = BLOCK_CELLS,
			.tag = DW_OUTPUT, .makes = true,
		};
	else if (recorded && part->fresh < FRESH_CELLS && chance(12))
		call->view[call->views++] = (struct view){
			.region = REGION_FRESH, .first = part->fresh++, .count = 1,
			.tag = DW_OUTPUT_EXISTING,
		};
}

static void plan_part(struct part *part, uint32_t ops, const struct rig_options *shape,
		      bool recorded)
{
	memset(part, 0, sizeof(*part));
	while (part->ops < ops) {
		struct op *op = &part->op[part->ops];
		uint32_t most;

		op->node = shape->nested && (!shape->subs || chance(40));
		most = op->node ? shape->nested : shape->subs;
		op->group = chance(10);
		op->members = op->group ? 1 + pick_below(most < MEMBERS_MAX ? most : MEMBERS_MAX) :
					  1;
		op->worker = op->node && !op->group && chance(50) ? pick_below(shape->nested) :
								    DW_ANY;
		op->retries = op->members == 1 && chance(15) ? 1 + pick_below(2) : 0;
		for (uint32_t m = 0; m < op->members; m++)
			plan_call(part, op, m, recorded);
		while (part->ops && op->after_count < AFTER_MAX && chance(8))
			op->after[op->after_count++] = pick_below(part->ops);
		part->ops++;
	}
}

static void plan_binding(struct binding *binding, uint32_t round, uint32_t first_attempt)
{
	bool taken[SLOTS] = { false };

	binding->seed = mix(random_state + round);
	binding->fresh = FIXED + SLOTS * SLOT_CELLS + round * FRESH_CELLS;
	binding->fail_chance = chance(60) ? 0 : 1 + pick_below(6);
	binding->first_attempt = first_attempt;
	for (uint32_t i = 0; i < PARAMETERS; i++) {
		do
			binding->slot[i] = pick_below(SLOTS);
		while (taken[binding->slot[i]]);
		taken[binding->slot[i]] = true;
	}
}

static void plan_make(struct plan *plan, uint64_t seed, const struct rig_options *shape)
{
	memset(plan, 0, sizeof(*plan));
	plan->seed = seed;
	random_state = mix(seed);
	plan_part(&plan->graph, 1 + pick_below(chance(30) ? OPS_MAX : 40), shape, true);
	plan->rounds = 2 + pick_below(ROUNDS_MAX - 2);
	for (uint32_t i = 0; i < plan->rounds; i++) {
		struct round *round = &plan->round[i];

		round->ordinary = calloc(1, sizeof(*round->ordinary));
		if (chance(70))
			plan_part(round->ordinary, pick_below(25), shape, false);
		plan_binding(&round->binding, i, 2 * i * OPS_MAX);
		plan_binding(&round->ordinary_binding, i, (2 * i + 1) * OPS_MAX);
		round->waits = chance(15);
	}
}

static uint64_t op_seed(const struct binding *binding, uint32_t index, uint32_t member)
{
	return mix(binding->seed + index * 16 + member);
}

/* -1: it fails for good; else so many attempts fail. */
static int64_t op_fails(const struct binding *binding, const struct op *op, uint32_t index)
{
	uint64_t roll = mix(binding->seed ^ (index + 1) * 0x9E3779B97F4A7C15ULL);

	if (roll % 100 < binding->fail_chance)
		return -1;
	return op->retries ? (int64_t)(roll / 100 % (op->retries + 1)) : 0;
}

/* --------------------------------------------------------------- the oracle */

struct model {
	int64_t cells[CELLS], blocks[OPS_MAX * MEMBERS_MAX][BLOCK_CELLS];
	bool cells_bad[CELLS], blocks_bad[OPS_MAX * MEMBERS_MAX][BLOCK_CELLS];
	bool bad[OPS_MAX];
};

static uint32_t view_cell(const struct binding *binding, const struct view *view)
{
	switch (view->region) {
	case REGION_PARAMETER:
		return FIXED + binding->slot[view->index] * SLOT_CELLS + view->first;
	case REGION_FRESH:
		return binding->fresh + view->first;
	default:
		return view->first;
	}
}

static int64_t *model_data(struct model *model, const struct binding *binding,
			   const struct view *view, bool **bad)
{
	uint32_t cell;

	if (view->region == REGION_BLOCK) {
		*bad = &model->blocks_bad[view->index][view->first];
		return &model->blocks[view->index][view->first];
	}
	cell = view_cell(binding, view);
	*bad = &model->cells_bad[cell];
	return &model->cells[cell];
}

static void model_op(struct plan *plan, struct model *model, const struct part *part,
		     const struct binding *binding, uint32_t index)
{
	const struct op *op = &part->op[index];
	int64_t *data[VIEWS_MAX];
	uint32_t counts[VIEWS_MAX];
	uint8_t tags[VIEWS_MAX];
	bool skip = false, *bad;

	for (uint32_t i = 0; i < op->after_count; i++)
		skip |= model->bad[op->after[i]];
	for (uint32_t m = 0; m < op->members; m++)
		for (uint32_t i = 0; i < op->call[m].views; i++) {
			const struct view *view = &op->call[m].view[i];

			model_data(model, binding, view, &bad);
			for (uint32_t k = 0; reads(view->tag) && k < view->count; k++)
				skip |= bad[k];
		}
	model->bad[index] = skip || op_fails(binding, op, index) < 0;
	if (skip)
		plan->skipped++;
	else if (model->bad[index])
		plan->failed++;
	else
		plan->done++;
	for (uint32_t m = 0; m < op->members; m++) {
		for (uint32_t i = 0; i < op->call[m].views; i++) {
			const struct view *view = &op->call[m].view[i];

			data[i] = model_data(model, binding, view, &bad);
			counts[i] = view->count;
			tags[i] = (uint8_t)view->tag;
			if (writes(view->tag))
				memset(bad, model->bad[index], view->count);
		}
		if (!model->bad[index])
			compute(op_seed(binding, index, m), op->call[m].views, data, counts, tags);
	}
}

static struct model *model_run(struct plan *plan)
{
	struct model *model = calloc(1, sizeof(*model));

	for (uint32_t i = 0; i < CELLS; i++)
		model->cells[i] = (int64_t)mix(i);
	for (uint32_t r = 0; r < plan->rounds; r++) {
		const struct round *round = &plan->round[r];

		for (uint32_t i = 0; i < round->ordinary->ops; i++)
			model_op(plan, model, round->ordinary, &round->ordinary_binding, i);
		for (uint32_t i = 0; i < plan->graph.ops; i++)
			model_op(plan, model, &plan->graph, &round->binding, i);
	}
	return model;
}

/* ------------------------------------------------------------- the execution */

struct execution {
	struct plan *plan;
	struct shared *shared;
	struct dw_graph *graph;
	int64_t *blocks[OPS_MAX * MEMBERS_MAX];
	dw_task tasks[OPS_MAX];
	struct dw_args *args[MEMBERS_MAX];
	int error;
};

static void make_args(struct execution *run, const struct part *part, const struct binding *binding,
		      uint32_t index, uint32_t m)
{
	const struct call *call = &part->op[index].call[m];
	struct dw_args *args = run->args[m];
	uint64_t tags = 0;

	dw_args_reset(args);
	for (uint32_t i = 0; i < call->views; i++) {
		const struct view *view = &call->view[i];
		int64_t *data = view->makes ? NULL :
				view->region == REGION_BLOCK ?
				run->blocks[view->index] + view->first :
				&run->shared->cells[view_cell(binding, view)];

		rig_add(args, data, view->count, view->tag);
		tags |= (uint64_t)view->tag << (8 * i);
	}
	dw_args_add_scalar(args, op_seed(binding, index, m));
	dw_args_add_int(args, op_fails(binding, &part->op[index], index));
	dw_args_add_scalar(args, binding->first_attempt + index);
	dw_args_add_scalar(args, tags);
	dw_args_add_scalar(args, (uint64_t)(uintptr_t)run->shared);
	dw_args_add_scalar(args, binding->seed >> 7 & 1 ? op_seed(binding, index, m) % 3000 : 0);
}

static int submit_op(struct execution *run, struct dw_orch *orch, const struct part *part,
		     const struct binding *binding, uint32_t index, bool recorded)
{
	const struct op *op = &part->op[index];
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	dw_callable callable = op->node ? node_handle : sub_handle;
	dw_task after[AFTER_MAX];
	int result;

	for (uint32_t m = 0; m < op->members; m++)
		make_args(run, part, binding, index, m);
	for (uint32_t i = 0; i < op->after_count; i++)
		after[i] = run->tasks[op->after[i]];
	options.after = after;
	options.after_count = op->after_count;
	options.retries = op->retries;
	options.place = DW_PLACE(op->worker);
	result = op->group ? dw_submit_group(orch, callable, run->args, op->members, NULL, &options,
					     &run->tasks[index]) :
			     dw_submit(orch, callable, run->args[0], &options, &run->tasks[index]);
	for (uint32_t m = 0; result == 0 && m < op->members; m++) {
		for (uint32_t i = 0; i < op->call[m].views; i++)
			if (op->call[m].view[i].makes)
				run->blocks[op->call[m].view[i].index] =
					dw_args_data(run->args[m], i);
		for (uint32_t s = 0; recorded && s < SCALARS && result == 0; s++)
			result = dw_record_scalar(orch, m, s,
						  (index * MEMBERS_MAX + m) * SCALARS + s);
	}
	return result;
}

static void parameters_of(const struct execution *run, const struct binding *binding,
			  struct dw_tensor *tensors)
{
	for (uint32_t i = 0; i <= PARAMETERS; i++) {
		uint32_t count = i < PARAMETERS ? SLOT_CELLS : FRESH_CELLS;
		int64_t *data = &run->shared->cells[i < PARAMETERS ?
			FIXED + binding->slot[i] * SLOT_CELLS : binding->fresh];

		dw_tensor_init(&tensors[i], data, DW_INT64, &count, 1);
	}
}

static int record(struct execution *run, struct dw_orch *orch, const struct binding *binding)
{
	struct dw_record_options options = DW_OPTIONS(dw_record_options);
	struct dw_tensor parameters[PARAMETERS + 1];
	int result;

	parameters_of(run, binding, parameters);
	options.parameters = parameters;
	options.parameter_count = PARAMETERS + 1;
	result = dw_record_begin(orch, &options);
	for (uint32_t i = 0; i < run->plan->graph.ops && result == 0; i++)
		result = submit_op(run, orch, &run->plan->graph, binding, i, true);
	return result < 0 ? result : dw_record_end(orch, &run->graph);
}

static int replay(struct execution *run, struct dw_orch *orch, const struct binding *binding)
{
	static uint64_t scalars[OPS_MAX * MEMBERS_MAX * SCALARS];
	struct dw_graph_info info = DW_OPTIONS(dw_graph_info);
	struct dw_tensor parameters[PARAMETERS + 1];

	parameters_of(run, binding, parameters);
	for (uint32_t i = 0; i < run->plan->graph.ops; i++)
		for (uint32_t m = 0; m < run->plan->graph.op[i].members; m++) {
			uint64_t *at = &scalars[(i * MEMBERS_MAX + m) * SCALARS];

			at[0] = op_seed(binding, i, m);
			at[1] = (uint64_t)op_fails(binding, &run->plan->graph.op[i], i);
			at[2] = binding->first_attempt + i;
		}
	dw_graph_query(run->graph, &info);
	return dw_replay(orch, run->graph, parameters, PARAMETERS + 1, scalars, info.scalars);
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct execution *run = context;
	int result = 0;

	(void)args;
	(void)config;
	for (uint32_t r = 0; r < run->plan->rounds && result == 0; r++) {
		const struct round *round = &run->plan->round[r];

		for (uint32_t i = 0; i < round->ordinary->ops && result == 0; i++)
			result = submit_op(run, orch, round->ordinary, &round->ordinary_binding, i,
					   false);
		if (result == 0 && round->waits)
			dw_orch_wait(orch);
		if (result == 0)
			result = r ? replay(run, orch, &round->binding) :
				     record(run, orch, &round->binding);
	}
	if (result < 0) {
		run->error = result;
		printf("# seed %llu: %s\n", (unsigned long long)run->plan->seed,
		       dw_strerror_last());
	}
	return result;
}

static int compare(const struct plan *plan, const struct model *model, const struct shared *shared,
		   const struct dw_engine_stats *before, const struct dw_engine_stats *after,
		   int result)
{
	int wrong = 0;

	for (uint32_t i = 0; i < CELLS && wrong < 3; i++)
		if (!model->cells_bad[i] && shared->cells[i] != model->cells[i]) {
			printf("# cell %u is %llx, not %llx\n", i, (long long)shared->cells[i],
			       (long long)model->cells[i]);
			wrong++;
		}
	if (after->done - before->done != plan->done ||
	    after->failed - before->failed != plan->failed ||
	    after->skipped - before->skipped != plan->skipped) {
		printf("# done, failed, skipped: %llu %llu %llu, not %llu %llu %llu\n",
		       (unsigned long long)(after->done - before->done),
		       (unsigned long long)(after->failed - before->failed),
		       (unsigned long long)(after->skipped - before->skipped),
		       (unsigned long long)plan->done, (unsigned long long)plan->failed,
		       (unsigned long long)plan->skipped);
		wrong++;
	}
	if (result != (plan->failed ? -EIO : 0)) {
		printf("# the run returned %d: %s\n", result, dw_strerror_last());
		wrong++;
	}
	return wrong;
}

static int run_seed(struct rig *rig, struct shared *shared, uint64_t seed)
{
	struct dw_engine_stats before = DW_OPTIONS(dw_engine_stats);
	struct dw_engine_stats after = DW_OPTIONS(dw_engine_stats);
	uint64_t arena = arena_used(rig->arena);
	static struct execution run;
	static struct plan plan;
	struct model *model;
	int result, wrong;

	plan_make(&plan, seed, &rig->options);
	model = model_run(&plan);
	memset(shared, 0, sizeof(*shared));
	for (uint32_t i = 0; i < CELLS; i++)
		shared->cells[i] = (int64_t)mix(i);
	memset(&run, 0, sizeof(run));
	run.plan = &plan;
	run.shared = shared;
	for (uint32_t m = 0; m < MEMBERS_MAX; m++)
		dw_args_create(&run.args[m]);
	engine_stats(rig->engine, &before);
	result = rig_run(rig, orchestrate, &run);
	engine_stats(rig->engine, &after);
	wrong = run.error ? 1 : compare(&plan, model, shared, &before, &after, result);
	dw_graph_destroy(run.graph);
	if (rig->engine->graph.tasks.live || after.heap_used || arena_used(rig->arena) != arena) {
		printf("# %llu tasks, %llu bytes of heap, %llu bytes of the arena are left\n",
		       (unsigned long long)rig->engine->graph.tasks.live,
		       (unsigned long long)after.heap_used,
		       (unsigned long long)(arena_used(rig->arena) - arena));
		wrong++;
	}
	if (wrong)
		printf("not ok - seed %llu, %u subs, %u nodes, depth %u: %u tasks, %u rounds\n",
		       (unsigned long long)seed, rig->options.subs, rig->options.nested,
		       rig->options.depth, plan.graph.ops, plan.rounds);
	for (uint32_t m = 0; m < MEMBERS_MAX; m++)
		dw_args_destroy(run.args[m]);
	for (uint32_t i = 0; i < plan.rounds; i++)
		free(plan.round[i].ordinary);
	free(model);
	return wrong != 0;
}

/* --------------------------------------------------------------------- main */

static void hangs(int signal)
{
	static const char text[] = "not ok - it hangs\n0 passed, 1 failed\n";

	(void)signal;
	if (write(STDOUT_FILENO, text, sizeof(text) - 1))
		_exit(1);
	_exit(1);
}

int main(int argc, char **argv)
{
	static const struct {
		struct rig_options rig;
		bool names;		/* the engine has names: edges are found anew */
	} shapes[] = {
		{ .rig = { .subs = 1 } },
		{ .rig = { .subs = 4, .nested = 2 } },
		{ .rig = { .subs = 2, .nested = 3, .depth = 2 } },
		{ .rig = { .subs = 3, .nested = 1, .depth = 4, .threads = true } },
		{ .rig = { .subs = 3, .nested = 2 }, .names = true },
	};
	uint64_t from = unit_first_seed(), seeds = 100, failed = 0, passed = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seed")) {
			from = strtoull(argv[i + 1], NULL, 0);
			seeds = 1;
		} else if (!strcmp(argv[i], "--seeds")) {
			seeds = strtoull(argv[i + 1], NULL, 0);
		} else if (!strcmp(argv[i], "--from")) {
			from = strtoull(argv[i + 1], NULL, 0);
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGALRM, hangs);
	sub_handle = rig_sub("sub_body", sub_body);
	node_handle = rig_node("node_body", node_body);
	for (uint32_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
		struct rig_options shape = shapes[k].rig;
		struct shared *shared;
		struct rig *rig;

		shape.heap_ring_bytes = 1 << 20;
		rig = rig_open(shape);
		if (!rig)
			return 1;
		rig->engine->graph.names.on = shapes[k].names;
		shared = rig_buffer(rig, sizeof(*shared));
		for (uint64_t seed = from; seed < from + seeds; seed++) {
			alarm(60 * unit_slow());
			if (run_seed(rig, shared, seed))
				failed++;
			else
				passed++;
		}
		rig_close(rig);
	}
	printf("%llu passed, %llu failed\n", (unsigned long long)passed,
	       (unsigned long long)failed);
	return failed != 0;
}
