/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A part of a training step that is recorded once and replayed: the graph, and how the scalars of
 * its tasks follow from the minibatch. Belongs to the thread of one Worker's orchestration
 * function.
 */
#ifndef DISTWORKER_JOBS_DIGITS_RECORD_H
#define DISTWORKER_JOBS_DIGITS_RECORD_H

#include <errno.h>
#include <stdlib.h>
#include <distworker/distworker.h>

/* Where in the training a replay is: first row of the minibatch, first shard, step, its number. */
struct moment {
	uint64_t batch, shard, number, step;
};

/* A scalar: the sum of these, each times that of the moment, and the offset. */
struct moving {
	uint64_t batch, shard, number, step, offset;
};

struct recorded_step {
	struct dw_graph *graph;		/* NULL: not recorded yet */
	struct moving *moving;		/* by scalar parameter */
	uint64_t *values;
	size_t count, space;
};

static int step_begin(struct recorded_step *step, struct dw_orch *orch, const char *name,
		      const struct dw_tensor *parameters, size_t count)
{
	struct dw_record_options options = DW_OPTIONS(dw_record_options);

	options.name = name;
	options.parameters = parameters;
	options.parameter_count = count;
	step->count = 0;
	return dw_record_begin(orch, &options);
}

/* A scalar of the task that was submitted last. `step` NULL: nothing is recorded. */
static int step_moves(struct recorded_step *step, struct dw_orch *orch, size_t scalar,
		      struct moving moving)
{
	if (!step)
		return 0;
	if (step->count == step->space) {
		size_t space = step->space ? 2 * step->space : 16;
		struct moving *grown = realloc(step->moving, space * sizeof(*grown));
		uint64_t *values = realloc(step->values, space * sizeof(*values));

		step->moving = grown ? grown : step->moving;
		step->values = values ? values : step->values;
		if (!grown || !values)
			return dw_task_fail(ENOMEM, "no memory for the scalars of a step");
		step->space = space;
	}
	step->moving[step->count] = moving;
	return dw_record_scalar(orch, 0, scalar, step->count++);
}

static int step_replay(struct recorded_step *step, struct dw_orch *orch,
		       const struct dw_tensor *parameters, size_t count,
		       const struct moment *moment)
{
	for (size_t i = 0; i < step->count; i++) {
		const struct moving *moving = &step->moving[i];

		step->values[i] = moving->batch * moment->batch + moving->shard * moment->shard +
				  moving->number * moment->number + moving->step * moment->step +
				  moving->offset;
	}
	return dw_replay(orch, step->graph, parameters, count, step->values, step->count);
}

static void step_release(struct recorded_step *step)
{
	dw_graph_destroy(step->graph);
	free(step->moving);
	free(step->values);
}

#endif
