/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tasks that fail, one that kills its process, and one that is repeated. The program shows the
 * error that each run returns, and that the other tasks go on.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <distworker/distworker.h>

enum wanted { FINE, FAILS, DIES, DIES_ONCE };

static dw_callable work;
static int64_t *cells; /* [0]: results, [1]: attempts of DIES_ONCE */

static int work_task(const struct dw_args *args, void *context)
{
	(void)context;
	switch (dw_args_int(args, 0)) {
	case FAILS:
		return dw_task_fail(EIO, "row %d of the file is cut short", 7);
	case DIES:
		raise(SIGSEGV);
		break;
	case DIES_ONCE:
		if (!cells[1]++)
			raise(SIGKILL);
		break;
	default:
		break;
	}
	++*(int64_t *)dw_args_data(args, 0);
	return 0;
}

static int submit(struct dw_orch *orch, struct dw_tensor *result, enum dw_tag tag,
		  enum wanted wanted, const char *name, uint32_t retries)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *args;
	int error = dw_args_create(&args);

	options.name = name;
	options.retries = retries;
	if (!error)
		error = dw_args_add_tensor(args, result, tag);
	if (!error)
		error = dw_args_add_int(args, wanted);
	if (!error)
		error = dw_submit(orch, work, args, &options, NULL);
	dw_args_destroy(args);
	return error;
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_tensor count, other;
	int error = submit(orch, (dw_tensor_init(&count, &cells[0], DW_INT64, NULL, 0), &count),
			   DW_INOUT, FINE, "first", 0);

	(void)args, (void)config, (void)context;
	dw_tensor_init(&other, &cells[2], DW_INT64, NULL, 0);
	/* Repeated in a replacement of the child that it kills; the next one waits for it. */
	if (!error)
		error = submit(orch, &count, DW_INOUT, DIES_ONCE, "again", 1);
	if (!error)
		error = submit(orch, &count, DW_INOUT, FINE, "after", 0);
	/* Tasks that depend on a failed one are skipped; the others run. */
	if (!error)
		error = submit(orch, &other, DW_INOUT, FAILS, "verify", 0);
	if (!error)
		error = submit(orch, &other, DW_INOUT, FINE, "skipped", 0);
	dw_tensor_init(&other, &cells[3], DW_INT64, NULL, 0);
	if (!error)
		error = submit(orch, &other, DW_INOUT, DIES, "crash", 0);
	return error;
}

int main(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run_error found = DW_OPTIONS(dw_run_error);
	struct dw_worker *node;
	int result;

	options.subs = 2;
	options.restart = DW_RESTART_ON_DEATH;
	if (dw_worker_create(DW_LEVEL_NODE, &options, &node) ||
	    dw_callable_register_sub(node, "work", work_task, NULL, &work) ||
	    dw_buffer_create(node, 4 * sizeof(*cells), (void **)&cells) || dw_worker_init(node)) {
		fprintf(stderr, "%s\n", dw_strerror_last());
		return 1;
	}
	result = dw_worker_run(node, orchestrate, NULL, NULL, NULL);
	printf("the run failed: %s\n", result < 0 ? "yes" : "no");
	for (uint32_t i = 0; dw_run_error(NULL, i, &found) == 0; i++)
		printf("task %s: %s\n", found.name, found.text);
	printf("tasks that went well: %lld\n", (long long)cells[0]);
	dw_worker_destroy(node);
	return 0;
}
