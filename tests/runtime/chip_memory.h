/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Shared by the tests of chip memory: runs of copies and calls. */
#ifndef TESTS_CHIP_MEMORY_H
#define TESTS_CHIP_MEMORY_H

#include "chips.h"

static inline struct dw_tensor memory_on(struct dw_worker *worker, uint32_t id, int dtype,
					 uint32_t count)
{
	struct dw_tensor tensor = { 0 };

	if (!CHECK_EQ(dw_chip_memory_create(worker, id, dtype, &count, 1, &tensor), 0))
		printf("# %s\n", dw_strerror_last());
	return tensor;
}

static inline void give_back(struct dw_worker *worker, const struct dw_tensor *tensor)
{
	if (!CHECK_EQ(dw_chip_memory_destroy(worker, tensor), 0))
		printf("# %s\n", dw_strerror_last());
}

static inline struct dw_tensor host_tensor(void *data, int dtype, uint32_t count)
{
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, data, dtype, &count, 1);
	return tensor;
}

/* Steps of an orchestration: a copy, or a call; the first error ends it. */
struct step {
	struct dw_tensor *to;		/* a copy … */
	const struct dw_tensor *from;
	const struct call *call;	/* … or a call */
	const char *name;
};

struct steps {
	const struct step *all;
	size_t count;
	int result;			/* of a submit */
	char text[512];
};

static inline int orch_steps(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct steps *steps = context;

	(void)args;
	(void)config;
	for (size_t i = 0; i < steps->count && !steps->result; i++) {
		const struct step *step = &steps->all[i];

		options.name = step->name;
		steps->result = step->call ? submit_call(orch, step->call, NULL) :
				dw_submit_copy(orch, step->to, step->from, &options, NULL);
	}
	if (steps->result)
		snprintf(steps->text, sizeof(steps->text), "%s", dw_strerror_last());
	return steps->result;
}

static inline int run_steps(struct dw_worker *worker, struct steps *steps)
{
	int result;

	steps->result = 0;
	result = dw_worker_run(worker, orch_steps, NULL, NULL, steps);
	snprintf(steps->text, sizeof(steps->text), "%s", result ? dw_strerror_last() : "");
	return result;
}

static inline int run_copy(struct dw_worker *worker, struct dw_tensor *to,
			   const struct dw_tensor *from)
{
	struct step step = { .to = to, .from = from };
	struct steps steps = { .all = &step, .count = 1 };

	return run_steps(worker, &steps);
}

#define RUN(worker, ...) \
	run_steps(worker, &(struct steps){ .all = (struct step[]){ __VA_ARGS__ }, \
		.count = sizeof((struct step[]){ __VA_ARGS__ }) / sizeof(struct step) })

#endif
