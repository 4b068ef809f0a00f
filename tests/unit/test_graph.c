// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Random graphs against an oracle: memory after parallel execution, and the tasks that were done,
 * failed and skipped, must be the same as after executing the tasks one after the other. Buffers,
 * overlapping views, tags, scopes, heap tensors, groups with a barrier in them, explicit edges,
 * fan-in, failures, retries.
 *
 *   test_graph                     some hundred seeds over several shapes
 *   test_graph --seed S            that one, on every shape
 *   test_graph --seeds N [--from S]
 *   test_graph --kill              children are killed at random while tasks are idempotent
 *   test_graph --lose              the same without retries: what runs finds the right inputs
 */
#include "engine_rig.h"
#include "seeds.h"
#include "slow.h"

#define CELLS		256		/* persistent cells, shared by all tasks */
#define FRESH		4096		/* cells that are written once, without waiting */
#define HEAP_CELLS	64
#define OPS_MAX		600
#define TENSORS_MAX	6
#define MEMBERS_MAX	4
#define AFTER_MAX	3

enum op_kind { OP_TASK, OP_GROUP, OP_SCOPE_BEGIN, OP_SCOPE_END, OP_WAIT };
enum region { REGION_CELLS, REGION_FRESH, REGION_HEAP };

struct view {
	enum region region;
	uint32_t heap;			/* index of the heap tensor */
	uint32_t first, count;
	enum dw_tag tag;
};

struct call {
	uint64_t seed;
	uint64_t inputs;		/* a hash of them */
	uint32_t views;
	struct view view[TENSORS_MAX];
};

struct op {
	enum op_kind kind;
	struct call call[MEMBERS_MAX];
	uint32_t members;
	uint32_t after[AFTER_MAX], after_count;
	bool fails;
	uint32_t fail_attempts, retries;
	bool node;			/* goes to a nested Worker; false: to a sub */
	uint32_t worker;
	uint32_t spin_ns;
	uint32_t heap_first;		/* heap tensors that the task makes: one per new view */
	/* results */
	bool bad;
};

struct plan {
	uint64_t seed;
	struct op op[OPS_MAX];
	uint32_t ops, heaps, fresh;
	uint64_t done, failed, skipped;
	bool idempotent;		/* tasks have retries */
	bool lossy;			/* tasks are lost with their workers */
};

struct shared {
	int64_t cells[CELLS];
	int64_t fresh[FRESH];
	_Atomic int64_t attempts[OPS_MAX];
	_Atomic int64_t barrier[OPS_MAX];
	_Atomic int64_t broken;		/* barriers that timed out */
	_Atomic int64_t misled;		/* tasks that have found other inputs than the oracle's */
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

/* Returns a hash of the inputs. */
static uint64_t compute(uint64_t seed, uint32_t views, int64_t *const *data, const uint32_t *counts,
			const uint8_t *tags)
{
	uint64_t h = mix(seed);

	for (uint32_t i = 0; i < views; i++)
		for (uint32_t k = 0; reads(tags[i]) && k < counts[i]; k++)
			h = mix(h ^ (uint64_t)data[i][k]) + k;
	for (uint32_t i = 0; i < views; i++)
		for (uint32_t k = 0; writes(tags[i]) && k < counts[i]; k++)
			data[i][k] = (int64_t)mix(h + i * 1000 + k);
	return h;
}

/*
 * Scalars: seed, packed tags, address of the shared part, operation, failing
 * attempts (-1: all), members, ns to spin, the hash of the inputs (0: any).
 */
static int body(const struct dw_args *args)
{
	struct shared *shared = (struct shared *)dw_args_scalar(args, 2);
	uint64_t op = dw_args_scalar(args, 3), members = dw_args_scalar(args, 5);
	int64_t fails = dw_args_int(args, 4), attempt;
	size_t views = dw_args_tensor_count(args);
	int64_t *data[TENSORS_MAX];
	uint32_t counts[TENSORS_MAX];
	uint8_t tags[TENSORS_MAX];
	uint64_t inputs;

	attempt = atomic_fetch_add(&shared->attempts[op], 1);
	if (dw_args_scalar(args, 6))
		rig_spin(dw_args_scalar(args, 6));
	if (fails < 0 || attempt < fails)
		return dw_task_fail(EIO, "told to");
	if (members > 1) {
		uint64_t begun = rig_now();

		atomic_fetch_add(&shared->barrier[op], 1);
		while (atomic_load(&shared->barrier[op]) % (int64_t)members != 0 &&
		       atomic_load(&shared->barrier[op]) < (int64_t)members) {
			if (dw_task_cancelled())
				return -ECANCELED;
			if (!unit_within(begun, 20000000000ULL)) {
				atomic_fetch_add(&shared->broken, 1);
				return -ETIMEDOUT;
			}
			sched_yield();
		}
	}
	for (size_t i = 0; i < views; i++) {
		data[i] = dw_args_data(args, i);
		counts[i] = dw_args_tensor(args, i)->shape[0];
		tags[i] = (uint8_t)(dw_args_scalar(args, 1) >> (8 * i));
	}
	inputs = compute(dw_args_scalar(args, 0), (uint32_t)views, data, counts, tags);
	if (dw_args_scalar(args, 7) && inputs != dw_args_scalar(args, 7))
		atomic_fetch_add(&shared->misled, 1);
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

struct open_scope {
	uint32_t heap[64], heaps;
};

/* Cells that a task may touch: in idempotent plans a task never reads its output. */
static struct view random_view(struct plan *plan, const struct call *call,
			       const struct open_scope *scopes, uint32_t depth)
{
	struct view view = { .region = REGION_CELLS };
	uint32_t roll = pick_below(100);

	if (roll < 12) {
		for (uint32_t i = depth + 1; i-- > 0;) {
			if (!scopes[i].heaps)
				continue;
			view.region = REGION_HEAP;
			view.heap = scopes[i].heap[pick_below(scopes[i].heaps)];
			view.first = pick_below(HEAP_CELLS / 2);
			view.count = 1 + pick_below(HEAP_CELLS / 2);
			break;
		}
	}
	if (view.region == REGION_CELLS && plan->fresh && roll >= 12 && roll < 18) {
		view.region = REGION_FRESH;
		view.first = pick_below(plan->fresh);
		view.count = 1;
		view.tag = DW_INPUT;
		return view;
	}
	if (view.region == REGION_CELLS) {
		if (chance(3)) {
			view.first = 0;
			view.count = CELLS;
		} else if (chance(60)) {
			view.first = 16 * pick_below(CELLS / 16);
			view.count = 16;
		} else {
			view.first = pick_below(CELLS);
			view.count =
				1 + pick_below(CELLS - view.first < 40 ? CELLS - view.first : 40);
		}
	}
	view.tag = chance(50) ? DW_INPUT : chance(50) ? DW_INOUT : DW_OUTPUT;
	if (plan->idempotent) {
		view.tag = chance(60) ? DW_INPUT : DW_OUTPUT;
		for (uint32_t i = 0; i < call->views; i++) {
			const struct view *other = &call->view[i];

			if (other->region == view.region && other->heap == view.heap &&
			    other->first < view.first + view.count &&
			    view.first < other->first + other->count)
				view.tag = other->tag;
		}
		for (uint32_t i = 0; i < call->views; i++) {
			const struct view *other = &call->view[i];

			if (other->region == view.region && other->heap == view.heap &&
			    other->first < view.first + view.count &&
			    view.first < other->first + other->count && other->tag != view.tag) {
				view.count = 1;
				view.first = other->first;
				view.tag = other->tag;
				break;
			}
		}
	}
	return view;
}

static bool overlaps(const struct view *a, const struct view *b)
{
	return a->region == b->region && a->heap == b->heap && a->first < b->first + b->count &&
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

static bool mixed(const struct call *call, const struct view *view)
{
	for (uint32_t i = 0; i < call->views; i++)
		if (overlaps(&call->view[i], view) && call->view[i].tag != view->tag)
			return true;
	return false;
}

static void plan_call(struct plan *plan, struct op *op, uint32_t member, struct open_scope *scopes,
		      uint32_t depth)
{
	struct call *call = &op->call[member];
	uint32_t wanted = pick_below(TENSORS_MAX);

	call->seed = mix(plan->seed + plan->ops * 100 + member);
	for (uint32_t i = 0; i < wanted; i++) {
		struct view view = random_view(plan, call, scopes, depth);

		if (conflicts(op, member, &view) || (plan->idempotent && mixed(call, &view)))
			continue;
		call->view[call->views++] = view;
	}
	if (call->views < TENSORS_MAX && depth && scopes[depth].heaps < 64 && chance(25)) {
		/* A new tensor of the heap. */
		scopes[depth].heap[scopes[depth].heaps++] = plan->heaps;
		call->view[call->views++] = (struct view){
			.region = REGION_HEAP, .heap = plan->heaps++, .first = 0,
			.count = HEAP_CELLS, .tag = DW_OUTPUT,
		};
	} else if (call->views < TENSORS_MAX && plan->fresh < FRESH && chance(15)) {
		call->view[call->views++] = (struct view){
			.region = REGION_FRESH, .first = plan->fresh++, .count = 1,
			.tag = DW_OUTPUT_EXISTING,
		};
	}
}

enum losses { LOSES_NOTHING, LOSES_ATTEMPTS, LOSES_TASKS };

static void plan_make(struct plan *plan, uint64_t seed, const struct rig_options *shape,
		      enum losses losses)
{
	struct open_scope scopes[8] = { 0 };
	bool idempotent = losses == LOSES_ATTEMPTS, lossy = losses == LOSES_TASKS;
	uint32_t depth = 0, wanted, failing;

	memset(plan, 0, sizeof(*plan));
	plan->seed = seed;
	plan->idempotent = idempotent;
	plan->lossy = lossy;
	random_state = mix(seed);
	wanted = 20 + pick_below(chance(20) ? OPS_MAX - 20 : 150);
	failing = chance(40) ? 0 : pick_below(8);
	while (plan->ops < wanted) {
		struct op *op = &plan->op[plan->ops];
		uint32_t roll = pick_below(100);

		op->heap_first = plan->heaps;
		if (roll < 6 && depth < 6) {
			op->kind = OP_SCOPE_BEGIN;
			scopes[++depth].heaps = 0;
		} else if (roll < 12 && depth) {
			op->kind = OP_SCOPE_END;
			depth--;
		} else if (roll < 14) {
			op->kind = OP_WAIT;
		} else {
			op->node = shape->nested && (!shape->subs || chance(40));
			op->worker = op->node && chance(50) ? pick_below(shape->nested) : DW_ANY;
			op->members = 1;
			if (roll < 22) {
				uint32_t most = op->node ? shape->nested : shape->subs;

				op->kind = OP_GROUP;
				op->members =
					1 + pick_below(most < MEMBERS_MAX ? most : MEMBERS_MAX);
				op->worker = DW_ANY;
			}
			op->spin_ns = chance(5)	 ? pick_below(200000) :
				      chance(30) ? pick_below(5000) :
						   0;
			op->fails = !idempotent && !lossy && chance(failing);
			op->retries = idempotent ? 1000 :
				      !lossy && chance(10) ? pick_below(3) : 0;
			if (!op->fails && !idempotent && op->retries && op->members == 1)
				op->fail_attempts = pick_below(op->retries + 1);
			for (uint32_t m = 0; m < op->members; m++)
				plan_call(plan, op, m, scopes, depth);
			while (plan->ops && op->after_count < AFTER_MAX && chance(10)) {
				uint32_t other = pick_below(plan->ops);

				if (plan->op[other].kind <= OP_GROUP)
					op->after[op->after_count++] = other;
			}
		}
		plan->ops++;
	}
}

/* --------------------------------------------------------------- the oracle */

struct model {
	int64_t cells[CELLS], fresh[FRESH];
	bool cells_bad[CELLS], fresh_bad[FRESH];
	int64_t (*heap)[HEAP_CELLS];
	bool (*heap_bad)[HEAP_CELLS];
};

static int64_t *model_data(struct model *model, const struct view *view, bool **bad)
{
	switch (view->region) {
	case REGION_CELLS:
		*bad = &model->cells_bad[view->first];
		return &model->cells[view->first];
	case REGION_FRESH:
		*bad = &model->fresh_bad[view->first];
		return &model->fresh[view->first];
	default:
		*bad = &model->heap_bad[view->heap][view->first];
		return &model->heap[view->heap][view->first];
	}
}

static void model_op(struct plan *plan, struct model *model, struct op *op)
{
	bool skip = false, *bad;

	for (uint32_t i = 0; i < op->after_count; i++)
		skip |= plan->op[op->after[i]].bad;
	for (uint32_t m = 0; m < op->members; m++)
		for (uint32_t i = 0; i < op->call[m].views; i++) {
			const struct view *view = &op->call[m].view[i];

			model_data(model, view, &bad);
			for (uint32_t k = 0; reads(view->tag) && k < view->count; k++)
				skip |= bad[k];
		}
	op->bad = skip || op->fails;
	if (skip)
		plan->skipped++;
	else if (op->fails)
		plan->failed++;
	else
		plan->done++;
	for (uint32_t m = 0; m < op->members; m++) {
		int64_t *data[TENSORS_MAX];
		uint32_t counts[TENSORS_MAX];
		uint8_t tags[TENSORS_MAX];

		for (uint32_t i = 0; i < op->call[m].views; i++) {
			const struct view *view = &op->call[m].view[i];

			data[i] = model_data(model, view, &bad);
			counts[i] = view->count;
			tags[i] = (uint8_t)view->tag;
			if (writes(view->tag))
				memset(bad, op->bad, view->count);
		}
		if (!op->bad)
			op->call[m].inputs = compute(op->call[m].seed, op->call[m].views, data,
						     counts, tags);
	}
}

static struct model *model_run(struct plan *plan)
{
	struct model *model = calloc(1, sizeof(*model));

	model->heap = calloc(plan->heaps + 1, sizeof(*model->heap));
	model->heap_bad = calloc(plan->heaps + 1, sizeof(*model->heap_bad));
	for (uint32_t i = 0; i < CELLS; i++)
		model->cells[i] = (int64_t)mix(i);
	for (uint32_t i = 0; i < plan->ops; i++)
		if (plan->op[i].kind <= OP_GROUP)
			model_op(plan, model, &plan->op[i]);
	return model;
}

/* ------------------------------------------------------------- the execution */

struct execution {
	struct plan *plan;
	struct shared *shared;
	int64_t **heap;
	dw_task *tasks;
	struct dw_args *args[MEMBERS_MAX];
	int error;
};

static int64_t *view_address(struct execution *run, const struct view *view)
{
	if (view->region == REGION_CELLS)
		return &run->shared->cells[view->first];
	if (view->region == REGION_FRESH)
		return &run->shared->fresh[view->first];
	return run->heap[view->heap] ? run->heap[view->heap] + view->first : NULL;
}

static void make_args(struct execution *run, const struct op *op, uint32_t index, uint32_t m)
{
	const struct call *call = &op->call[m];
	struct dw_args *args = run->args[m];
	uint64_t tags = 0;

	dw_args_reset(args);
	for (uint32_t i = 0; i < call->views; i++) {
		rig_add(args, view_address(run, &call->view[i]), call->view[i].count,
			call->view[i].tag);
		tags |= (uint64_t)call->view[i].tag << (8 * i);
	}
	dw_args_add_scalar(args, call->seed);
	dw_args_add_scalar(args, tags);
	dw_args_add_scalar(args, (uint64_t)(uintptr_t)run->shared);
	dw_args_add_scalar(args, index);
	dw_args_add_int(args, op->fails ? -1 : (int64_t)op->fail_attempts);
	dw_args_add_scalar(args, run->plan->idempotent ? 1 : op->members);
	dw_args_add_scalar(args, op->spin_ns);
	dw_args_add_scalar(args, run->plan->lossy ? call->inputs : 0);
}

static int submit_op(struct execution *run, struct dw_orch *orch, uint32_t index)
{
	struct op *op = &run->plan->op[index];
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	dw_callable callable = op->node ? node_handle : sub_handle;
	dw_task after[AFTER_MAX];
	int result;

	for (uint32_t m = 0; m < op->members; m++)
		make_args(run, op, index, m);
	for (uint32_t i = 0; i < op->after_count; i++)
		after[i] = run->tasks[op->after[i]];
	options.after = after;
	options.after_count = op->after_count;
	options.retries = op->retries;
	options.place = DW_PLACE(op->worker);
	result = op->kind == OP_GROUP ?
		 dw_submit_group(orch, callable, run->args, op->members, NULL, &options,
				 &run->tasks[index]) :
		 dw_submit(orch, callable, run->args[0], &options, &run->tasks[index]);
	for (uint32_t m = 0; result == 0 && m < op->members; m++)
		for (uint32_t i = 0; i < op->call[m].views; i++)
			if (op->call[m].view[i].region == REGION_HEAP &&
			    !run->heap[op->call[m].view[i].heap])
				run->heap[op->call[m].view[i].heap] = dw_args_data(run->args[m], i);
	return result;
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct execution *run = context;
	int result = 0;

	(void)args;
	(void)config;
	for (uint32_t i = 0; i < run->plan->ops && result == 0; i++) {
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
			result = submit_op(run, orch, i);
			break;
		}
	}
	if (result < 0) {
		run->error = result;
		printf("# seed %llu: submit: %s\n", (unsigned long long)run->plan->seed,
		       dw_strerror_last());
	}
	return result;
}

/* Some tasks are lost, and those that need them; each that has run found the right inputs. */
static int compare_lossy(const struct plan *plan, struct shared *shared,
			 const struct dw_engine_stats *before, const struct dw_engine_stats *after)
{
	uint64_t ended = after->done + after->failed + after->skipped;
	uint64_t had = before->done + before->failed + before->skipped;
	int wrong = 0;

	if (atomic_load(&shared->misled)) {
		printf("# %lld tasks had wrong inputs\n", (long long)atomic_load(&shared->misled));
		wrong++;
	}
	if (ended - had != plan->done + plan->failed + plan->skipped) {
		printf("# %llu tasks have ended, not %llu\n", (unsigned long long)(ended - had),
		       (unsigned long long)(plan->done + plan->failed + plan->skipped));
		wrong++;
	}
	return wrong;
}

static int compare(const struct plan *plan, const struct model *model,
		   struct shared *shared, const struct dw_engine_stats *before,
		   const struct dw_engine_stats *after, int result)
{
	int wrong = 0;

	if (plan->lossy)
		return compare_lossy(plan, shared, before, after);
	for (uint32_t i = 0; i < CELLS && wrong < 3; i++)
		if (shared->cells[i] != model->cells[i]) {
			printf("# cell %u is %llx, not %llx\n", i, (long long)shared->cells[i],
			       (long long)model->cells[i]);
			wrong++;
		}
	for (uint32_t i = 0; i < plan->fresh && wrong < 3; i++)
		if (shared->fresh[i] != model->fresh[i]) {
			printf("# fresh cell %u differs\n", i);
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
	if (atomic_load(&shared->broken)) {
		printf("# %lld members waited in vain for their group\n",
		       (long long)atomic_load(&shared->broken));
		wrong++;
	}
	return wrong;
}

static int run_seed(struct rig *rig, struct shared *shared, uint64_t seed, enum losses losses)
{
	struct dw_engine_stats before = DW_OPTIONS(dw_engine_stats);
	struct dw_engine_stats after = DW_OPTIONS(dw_engine_stats);
	static struct plan plan;
	struct execution run = { .plan = &plan, .shared = shared };
	struct model *model;
	int result, wrong;

	plan_make(&plan, seed, &rig->options, losses);
	model = model_run(&plan);
	memset(shared, 0, sizeof(*shared));
	for (uint32_t i = 0; i < CELLS; i++)
		shared->cells[i] = (int64_t)mix(i);
	run.heap = calloc(plan.heaps + 1, sizeof(*run.heap));
	run.tasks = calloc(plan.ops, sizeof(*run.tasks));
	for (uint32_t m = 0; m < MEMBERS_MAX; m++)
		dw_args_create(&run.args[m]);
	engine_stats(rig->engine, &before);
	result = rig_run(rig, orchestrate, &run);
	engine_stats(rig->engine, &after);
	wrong = run.error ? 1 : compare(&plan, model, shared, &before, &after, result);
	if (rig->engine->graph.tasks.live || (losses == LOSES_NOTHING && after.heap_used)) {
		printf("# %llu tasks, %llu bytes of heap are left\n",
		       (unsigned long long)rig->engine->graph.tasks.live,
		       (unsigned long long)after.heap_used);
		wrong++;
	}
	if (wrong)
		printf("not ok - seed %llu, %u subs, %u nodes, depth %u, %u operations\n",
		       (unsigned long long)seed, rig->options.subs, rig->options.nested,
		       rig->options.depth, plan.ops);
	for (uint32_t m = 0; m < MEMBERS_MAX; m++)
		dw_args_destroy(run.args[m]);
	free(run.heap);
	free(run.tasks);
	free(model->heap);
	free(model->heap_bad);
	free(model);
	return wrong != 0;
}

/* --------------------------------------------------------------------- main */

struct killer {
	struct rig *rig;
	_Atomic bool stop;
	uint32_t kills;
};

static void *kill_at_random(void *argument)
{
	struct killer *killer = argument;
	uint64_t state = 12345;

	while (!atomic_load(&killer->stop)) {
		uint32_t i;

		state = mix(state + 1);
		rig_sleep(1000000 + state % 10000000);
		i = (uint32_t)(state >> 32) % killer->rig->count;
		if (killer->rig->pids[i] > 0 && atomic_load(&killer->rig->go[i]) == 2) {
			kill(killer->rig->pids[i], SIGKILL);
			killer->kills++;
		}
	}
	return NULL;
}

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
	static const struct rig_options shapes[] = {
		{ .subs = 1 },
		{ .subs = 4, .nested = 2 },
		{ .subs = 2, .nested = 3, .depth = 2 },
		{ .subs = 6, .depth = 8 },
		{ .subs = 3, .nested = 1, .depth = 4, .threads = true },
	};
	uint64_t from = unit_first_seed(), seeds = 150, failed = 0, passed = 0;
	enum losses losses = LOSES_NOTHING;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--kill")) {
			losses = LOSES_ATTEMPTS;
		} else if (!strcmp(argv[i], "--lose")) {
			losses = LOSES_TASKS;
		} else if (i + 1 < argc && !strcmp(argv[i], "--seed")) {
			from = strtoull(argv[++i], NULL, 0);
			seeds = 1;
		} else if (i + 1 < argc && !strcmp(argv[i], "--seeds")) {
			seeds = strtoull(argv[++i], NULL, 0);
		} else if (i + 1 < argc && !strcmp(argv[i], "--from")) {
			from = strtoull(argv[++i], NULL, 0);
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGALRM, hangs);
	sub_handle = rig_sub("sub_body", sub_body);
	node_handle = rig_node("node_body", node_body);
	for (uint32_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
		struct rig_options shape = shapes[k];
		struct killer killer = { 0 };
		struct shared *shared;
		pthread_t thread;
		struct rig *rig;

		if (losses && shape.threads)
			continue;
		shape.heap_ring_bytes = 1 << 20;
		shape.restart = losses;
		rig = rig_open(shape);
		if (!rig)
			return 1;
		shared = rig_buffer(rig, sizeof(*shared));
		killer.rig = rig;
		if (losses)
			pthread_create(&thread, NULL, kill_at_random, &killer);
		for (uint64_t seed = from; seed < from + seeds; seed++) {
			alarm(60);
			if (run_seed(rig, shared, seed, losses))
				failed++;
			else
				passed++;
		}
		if (losses) {
			atomic_store(&killer.stop, true);
			pthread_join(thread, NULL);
			printf("# %u kills, %llu retries\n", killer.kills,
			       (unsigned long long)rig->engine->counters.stats.retried);
			/* The child that was killed last is replaced before the end. */
			rig_sleep(200000000);
		}
		rig_close(rig);
	}
	printf("%llu passed, %llu failed\n", (unsigned long long)passed,
	       (unsigned long long)failed);
	return failed != 0;
}
