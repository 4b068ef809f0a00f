/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs an on-chip orchestration. The orchestration function runs on the call's
 * thread and submits; tasks that are ready run on up to aicpu_thread_num threads: helpers of
 * the pool while there is enough to do for them, and the call's own thread in
 * wait(), at the end, and when too much is queued.
 *
 * Invariant: a thread that makes tasks ready either goes on to look for work itself, or
 * wakes another, or is the submitting thread, which drives before it leaves.
 */
#include <dlfcn.h>
#include "base/text.h"
#include "graph.h"

#define LIVE_MAX 4096	/* tasks; then the submitter works before it submits more */

__attribute__((format(printf, 3, 4)))
static int orch_error(struct graph *graph, int code, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	text_vformat(graph->orch_error.text, sizeof(graph->orch_error.text), format, list);
	va_end(list);
	return code;
}

int graph_edge(struct graph *graph, uint64_t producer, struct task *task)
{
	struct task *from = graph_task(graph, producer);

	if (!from || task->last_producer == producer)
		return 0;
	if (from->consumer_count == from->consumer_space) {
		size_t space = from->consumer_space ? from->consumer_space * 2 : 4;
		struct task **grown = realloc(from->consumers, space * sizeof(struct task *));

		if (!grown)
			return -ENOMEM;
		from->consumers = grown;
		from->consumer_space = space;
	}
	from->consumers[from->consumer_count++] = task;
	task->pending++;
	task->last_producer = producer;
	return 0;
}

/* ---------------------------------------------------------------- running */

static void ready_push(struct graph *graph, struct task *task)
{
	task->next_ready = NULL;
	if (graph->ready_last)
		graph->ready_last->next_ready = task;
	else
		graph->ready_first = task;
	graph->ready_last = task;
	graph->ready_blocks += task->block_dim;
}

static void ready_pop(struct graph *graph)
{
	graph->ready_first = graph->ready_first->next_ready;
	if (!graph->ready_first)
		graph->ready_last = NULL;
}

static void task_finish(struct graph *graph, struct task *task)
{
	for (size_t i = 0; i < task->consumer_count; i++)
		if (--task->consumers[i]->pending == 0)
			ready_push(graph, task->consumers[i]);
	for (size_t i = 0; i < task->tensor_count; i++) {
		struct region *region = task->held[i];

		if (region && --region->holders == 0 && region->scope == 0)
			depend_region_drop(graph, region);
	}
	graph->tasks[task->number - 1] = NULL;
	if (--graph->live == 0 && graph->sleepers)
		pthread_cond_broadcast(&graph->change);
	free(task->consumers);
	free(task);
}

/* Looked up on demand, since that searches the symbol table. */
static const char *task_name(const struct task *task)
{
	const void *address;
	Dl_info info;

	if (task->name[0])
		return task->name;
	memcpy(&address, &task->kernel, sizeof(address));
	return dladdr(address, &info) && info.dli_sname ? info.dli_sname : "a static kernel";
}

/* `text`: the block's own; empty: it gave none. */
static void graph_failed(struct graph *graph, const struct task *task, uint32_t block, int status,
			 const char *text)
{
	if (graph->status && (graph->failed_task < task->number ||
			      (graph->failed_task == task->number && graph->failed_block <= block)))
		return;
	graph->status = status < 0 ? status : -EIO;
	graph->failed_task = task->number;
	graph->failed_block = block;
	if (text[0])
		text_format(graph->failed_text, sizeof(graph->failed_text),
			 "task %llu \"%s\": %s", (unsigned long long)task->number,
			 text_short(task_name(task)), text);
	else
		text_format(graph->failed_text, sizeof(graph->failed_text),
			 "task %llu: kernel \"%s\" returned %d (%s) in block %u of %u",
			 (unsigned long long)task->number, text_short(task_name(task)), status,
			 strerror(-graph->status), block, task->block_dim);
}

static int block_run(struct graph *graph, const struct task *task, uint32_t index,
		     struct block_text *own)
{
	const struct faults *faults = &graph->device->options.faults;
	struct dw_sim_block block = {
		.index = index, .dim = task->block_dim, .core = index,
		.cancelled = graph->orch.cancelled, .fail = block_fail, .driver = own,
	};
	struct dw_chip_error text = { "" };

	if (kit_cancelled(block.cancelled))
		return block_fail(&block, -ECANCELED, "cancelled");
	if (faults->by_kernel && index == 0 && fault_kernel(faults, 0, task_name(task), &text) < 0)
		return block_fail(&block, -EIO, "%s", text.text);
	return task->kernel(&block, task->tensors, task->scalars);
}

/* Are the ready blocks, less those that the caller takes, worth another thread? */
static bool graph_worth(const struct graph *graph, uint32_t less)
{
	if (graph->ready_blocks <= less)
		return false;
	return !graph->block_ns || (graph->ready_blocks - less) * graph->block_ns > POOL_WORTH_NS;
}

static void graph_work(void *context);

/* Wakes another thread to help if that pays. `less`: blocks that the caller runs itself. */
static void graph_wake(struct graph *graph, uint32_t less)
{
	uint32_t helpers = (uint32_t)graph->orch.config.aicpu_thread_num - 1;

	if (!graph_worth(graph, less))
		return;
	if (graph->sleepers) {
		pthread_cond_signal(&graph->change);
	} else if (!graph->helped && helpers && graph->device->pool.limit) {
		graph->helped = true;
		pool_start(&graph->device->pool, graph_work, graph, helpers);
	}
}

/*
 * Takes one block of a ready task and runs it. False: nothing is ready. Drops the lock meanwhile.
 */
static bool graph_step(struct graph *graph)
{
	struct task *task = graph->ready_first;
	struct block_text text = { "" };
	uint64_t begin;
	uint32_t index;
	int status;

	if (!task)
		return false;
	if (graph->status) {
		/* The graph has failed: blocks that were not handed out will not run. */
		graph->ready_blocks -= task->block_dim - task->next_block;
		task->next_block = task->block_dim;
		ready_pop(graph);
		if (task->running == 0)
			task_finish(graph, task);
		return true;
	}
	index = task->next_block++;
	graph->ready_blocks--;
	task->running++;
	if (task->next_block == task->block_dim)
		ready_pop(graph);
	graph_wake(graph, 0);
	pthread_mutex_unlock(&graph->lock);
	begin = now_ns();
	status = block_run(graph, task, index, &text);
	begin = now_ns() - begin;
	pthread_mutex_lock(&graph->lock);
	graph->blocks_ns += begin;
	graph->block_ns = graph->blocks_ns / ++graph->blocks_done;
	if (graph->block_ns == 0)
		graph->block_ns = 1;
	if (status)
		graph_failed(graph, task, index, status, text.text);
	task->running--;
	if (task->running == 0 && task->next_block == task->block_dim)
		task_finish(graph, task);
	return true;
}

static void graph_sleep(struct graph *graph)
{
	graph->sleepers++;
	pthread_cond_wait(&graph->change, &graph->lock);
	graph->sleepers--;
}

/* A helper: works until nothing more will be submitted. */
static void graph_work(void *context)
{
	struct graph *graph = context;

	pthread_mutex_lock(&graph->lock);
	while (!graph->closed || graph->live)
		if (!graph_step(graph))
			graph_sleep(graph);
	pthread_mutex_unlock(&graph->lock);
}

/* The call's own thread works until at most `live` tasks are not final. */
static void graph_drive(struct graph *graph, uint64_t live)
{
	while (graph->live > live)
		if (!graph_step(graph))
			graph_sleep(graph);
}

/* ---------------------------------------------------------------- the API */

static int launch_check(struct graph *graph, const struct dw_sim_launch *launch, uint32_t dim)
{
	if (!launch->kernel)
		return orch_error(graph, -EINVAL, "submit: no kernel is given");
	if ((launch->tensor_count && (!launch->tensors || !launch->tags)) ||
	    (launch->scalar_count && !launch->scalars) || (launch->after_count && !launch->after))
		return orch_error(
			graph, -EINVAL,
			"submit: tensors, tags, scalars or after is NULL and its count is not 0");
	if (dim > graph->device->options.cores)
		return orch_error(graph, -EINVAL,
				  "submit: block_dim is %u, the device has %llu cores", dim,
				  (unsigned long long)graph->device->options.cores);
	for (size_t i = 0; i < launch->after_count; i++)
		if (launch->after[i] == 0 || launch->after[i] > graph->count)
			return orch_error(
				graph, -EINVAL,
				"submit: after[%zu] is task %llu, tasks 1 to %llu were submitted",
				i, (unsigned long long)launch->after[i],
				(unsigned long long)graph->count);
	return 0;
}

static int tensor_size(struct graph *graph, const struct dw_tensor *tensor, size_t i,
		       uint64_t *bytes)
{
	uint64_t total = kit_dtype_bytes(tensor->dtype);

	if (total == 0)
		return orch_error(graph, -EINVAL, "tensor %zu has the unknown element type %u", i,
				  tensor->dtype);
	if (tensor->ndims > DW_TENSOR_MAX_DIMS)
		return orch_error(graph, -EINVAL,
				  "tensor %zu has %u dimensions: at most %u are possible", i,
				  tensor->ndims, DW_TENSOR_MAX_DIMS);
	for (uint32_t j = 0; j < tensor->ndims; j++)
		if (__builtin_mul_overflow(total, tensor->shape[j], &total))
			return orch_error(graph, -EINVAL, "tensor %zu has more than 2^64 bytes", i);
	*bytes = total;
	return 0;
}

static int region_alloc(struct graph *graph, uint64_t bytes, struct region **region)
{
	struct extent *extent = memory_alloc(&graph->device->memory, bytes);
	uint64_t address;

	if (!extent && graph->live) {
		/* Tasks that have yet to end may free memory. */
		graph_drive(graph, 0);
		extent = memory_alloc(&graph->device->memory, bytes);
	}
	if (!extent)
		return orch_error(
			graph, -ENOMEM,
			"no room for %llu bytes on the device: %llu of %llu are in use (driver "
			"option memory=)",
			(unsigned long long)bytes,
			(unsigned long long)memory_used(&graph->device->memory),
			(unsigned long long)graph->device->memory.bytes);
	address = memory_address(&graph->device->memory, extent);
	if (depend_region_add(graph, address, address + extent->bytes, extent, region) < 0) {
		memory_free(&graph->device->memory, extent);
		return orch_error(graph, -ENOMEM, "no memory for the task graph");
	}
	return 0;
}

/* The argument's region; an OUTPUT without an address gets one. */
static int tensor_place(struct graph *graph, struct dw_tensor *tensor, enum dw_tag tag, size_t i,
			uint64_t *bytes, struct region **region)
{
	int status = tensor_size(graph, tensor, i, bytes);

	*region = NULL;
	if (status < 0)
		return status;
	if ((unsigned int)tag > DW_NO_DEP)
		return orch_error(graph, -EINVAL, "tensor %zu has the unknown tag %d", i, tag);
	if (tensor->data == 0 && tag == DW_OUTPUT) {
		status = region_alloc(graph, *bytes, region);
		if (status == 0)
			tensor->data = (*region)->begin;
		return status;
	}
	if (*bytes == 0)
		return 0;
	*region = depend_region_find(graph, tensor->data, *bytes);
	if (!*region)
		return orch_error(
			graph, -EFAULT,
			"tensor %zu at %#llx of %llu bytes lies neither in an argument of the call "
			"nor in memory of alloc",
			i, (unsigned long long)tensor->data, (unsigned long long)*bytes);
	if ((*region)->scope == 0)
		return orch_error(graph, -EFAULT,
				  "tensor %zu at %#llx was allocated in a scope that has ended", i,
				  (unsigned long long)tensor->data);
	return 0;
}

static struct task *task_create(const struct dw_sim_launch *launch)
{
	size_t tensors = launch->tensor_count, scalars = launch->scalar_count;
	struct task *task = calloc(1, sizeof(*task) + tensors * (sizeof(struct dw_tensor) +
				   sizeof(struct region *)) + scalars * sizeof(uint64_t));

	if (!task)
		return NULL;
	task->tensors = (struct dw_tensor *)(task + 1);
	task->scalars = (uint64_t *)(task->tensors + tensors);
	task->held = (struct region **)(task->scalars + scalars);
	task->kernel = launch->kernel;
	if (launch->name)
		text_fit(task->name, sizeof(task->name), launch->name);
	task->tensor_count = tensors;
	task->scalar_count = scalars;
	if (scalars)
		memcpy(task->scalars, launch->scalars, scalars * sizeof(uint64_t));
	return task;
}

static int tasks_grow(struct graph *graph)
{
	uint64_t space = graph->space ? graph->space * 2 : 64;
	struct task **grown;

	if (graph->count < graph->space)
		return 0;
	grown = realloc(graph->tasks, space * sizeof(struct task *));
	if (!grown)
		return -ENOMEM;
	graph->tasks = grown;
	graph->space = space;
	return 0;
}

/*
 * The task's edges, and its place in the graph. On -ENOMEM edges may be there:
 * the graph has failed then, and the task is skipped like all others.
 */
static int task_link(struct graph *graph, struct task *task, const struct dw_sim_launch *launch,
		     const uint64_t *bytes)
{
	int status = 0;

	task->number = ++graph->count;
	graph->tasks[task->number - 1] = task;
	graph->live++;
	for (size_t i = 0; i < task->tensor_count; i++)
		if (task->held[i])
			task->held[i]->holders++;
	for (size_t i = 0; i < task->tensor_count && status == 0; i++)
		if (task->held[i])
			status = depend_access(graph, task->held[i], task->tensors[i].data,
					       task->tensors[i].data + bytes[i], launch->tags[i],
					       task);
	for (size_t i = 0; i < launch->after_count && status == 0; i++)
		status = graph_edge(graph, launch->after[i], task);
	if (status < 0)
		graph_failed(graph, task, 0, status, "");
	if (task->pending == 0)
		ready_push(graph, task);
	return status;
}

static int submit_locked(struct graph *graph, const struct dw_sim_launch *launch, uint64_t *number)
{
	uint32_t dim = launch->block_dim ? launch->block_dim :
					   (uint32_t)graph->orch.config.block_dim;
	uint64_t *bytes;
	struct task *task;
	int status;

	if (kit_cancelled(graph->orch.cancelled))
		return orch_error(graph, -ECANCELED, "cancelled");
	if (graph->status)
		return orch_error(graph, -ECANCELED,
				  "submit: an earlier task of the call has failed");
	status = launch_check(graph, launch, dim);
	if (status < 0)
		return status;
	if (graph->live >= LIVE_MAX)
		graph_drive(graph, LIVE_MAX / 2);
	bytes = calloc(launch->tensor_count ? launch->tensor_count : 1, sizeof(*bytes));
	task = task_create(launch);
	if (!bytes || !task || tasks_grow(graph) < 0) {
		status = orch_error(graph, -ENOMEM, "no memory for the task graph");
		goto fail;
	}
	task->block_dim = dim;
	for (size_t i = 0; i < launch->tensor_count; i++) {
		task->tensors[i] = launch->tensors[i];
		status = tensor_place(graph, &task->tensors[i], launch->tags[i], i, &bytes[i],
				      &task->held[i]);
		if (status < 0)
			goto fail_places;
	}
	for (size_t i = 0; i < launch->tensor_count; i++)
		launch->tensors[i].data = task->tensors[i].data;
	if (number)
		*number = graph->count + 1;
	status = task_link(graph, task, launch, bytes);
	free(bytes);
	graph_wake(graph, 0);
	return status;
fail_places:
	/* Memory that was allocated for this task alone has no other user. */
	for (size_t i = 0; i < launch->tensor_count; i++)
		if (task->held[i] && launch->tensors[i].data == 0)
			depend_region_drop(graph, task->held[i]);
fail:
	free(bytes);
	free(task);
	return status;
}

static int api_submit(struct dw_sim_orch *orch, const struct dw_sim_launch *launch, uint64_t *task)
{
	struct graph *graph = (struct graph *)orch;
	struct dw_chip_error error = { "" };
	struct dw_sim_launch room;
	int status = 0;

	if (launch->size != sizeof(*launch))
		status = kit_take(&room, sizeof(room), launch, "dw_sim_launch", &error);
	pthread_mutex_lock(&graph->lock);
	if (status < 0)
		status = orch_error(graph, status, "submit: %s", error.text);
	else
		status = submit_locked(graph, launch->size == sizeof(*launch) ? launch : &room,
				       task);
	pthread_mutex_unlock(&graph->lock);
	return status;
}

static int api_alloc(struct dw_sim_orch *orch, int dtype, const uint32_t *shape, uint32_t ndims,
		     struct dw_tensor *result)
{
	struct graph *graph = (struct graph *)orch;
	struct dw_tensor tensor = { .dtype = (uint8_t)dtype, .ndims = ndims };
	struct region *region;
	uint64_t bytes;
	int status;

	if (ndims <= DW_TENSOR_MAX_DIMS && ndims)
		memcpy(tensor.shape, shape, ndims * sizeof(*shape));
	pthread_mutex_lock(&graph->lock);
	status = tensor_size(graph, &tensor, 0, &bytes);
	if (status == 0)
		status = region_alloc(graph, bytes, &region);
	if (status == 0) {
		tensor.data = region->begin;
		*result = tensor;
	}
	pthread_mutex_unlock(&graph->lock);
	return status;
}

static int api_scope_begin(struct dw_sim_orch *orch)
{
	struct graph *graph = (struct graph *)orch;

	if (graph->scope == SCOPES_MAX)
		return orch_error(graph, -EOVERFLOW,
				  "scope_begin: %u scopes are open, that is the most", SCOPES_MAX);
	graph->scope++;
	return 0;
}

static int api_scope_end(struct dw_sim_orch *orch)
{
	struct graph *graph = (struct graph *)orch;

	if (graph->scope == 1)
		return orch_error(graph, -EINVAL, "scope_end: no scope is open");
	pthread_mutex_lock(&graph->lock);
	for (size_t i = graph->region_count; i-- > 0;) {
		struct region *region = graph->regions[i];

		if (!region->extent || region->scope != graph->scope)
			continue;
		region->scope = 0;
		if (region->holders == 0)
			depend_region_drop(graph, region);
	}
	graph->scope--;
	pthread_mutex_unlock(&graph->lock);
	return 0;
}

static int api_wait(struct dw_sim_orch *orch)
{
	struct graph *graph = (struct graph *)orch;
	int status;

	pthread_mutex_lock(&graph->lock);
	graph_drive(graph, 0);
	status = graph->status;
	pthread_mutex_unlock(&graph->lock);
	return status;
}

static int api_fail(struct dw_sim_orch *orch, int error, const char *format, ...)
{
	struct graph *graph = (struct graph *)orch;
	va_list list;

	va_start(list, format);
	text_vformat(graph->orch_error.text, sizeof(graph->orch_error.text), format, list);
	va_end(list);
	return error > 0 ? -error : error;
}

/* ---------------------------------------------------------------- the call */

static void graph_close(struct graph *graph)
{
	pthread_mutex_lock(&graph->lock);
	graph_drive(graph, 0);
	graph->closed = true;
	pthread_cond_broadcast(&graph->change);
	pthread_mutex_unlock(&graph->lock);
	if (graph->helped)
		pool_finish(&graph->device->pool);
	graph->call->image->block_ns = graph->block_ns;
}

static int graph_result(const struct graph *graph, int status, struct dw_chip_error *error)
{
	const char *entry = graph->call->image->entry;

	if (graph->status)
		return kit_fail(error, graph->status, "\"%s\": %s", text_short(entry),
				graph->failed_text);
	if (status == 0)
		return 0;
	if (graph->orch_error.text[0])
		return kit_fail(error, status < 0 ? status : -EIO,
				"orchestration \"%s\": %s", text_short(entry),
				graph->orch_error.text);
	return kit_fail(error, status < 0 ? status : -EIO,
			"orchestration \"%s\" returned %d (%s)", text_short(entry), status,
			strerror(status < 0 ? -status : EIO));
}

int graph_run(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error)
{
	struct graph *graph = calloc(1, sizeof(*graph));
	int status;

	if (!graph)
		return kit_fail(error, -ENOMEM, "no memory for the task graph of \"%s\"",
				call->image->entry);
	graph->orch = (struct dw_sim_orch){
		.size = sizeof(struct dw_sim_orch), .config = call->config,
		.cancelled = call->cancelled, .driver = graph,
		.submit = api_submit, .alloc = api_alloc, .scope_begin = api_scope_begin,
		.scope_end = api_scope_end, .wait = api_wait, .fail = api_fail,
	};
	graph->device = device;
	graph->call = call;
	graph->scope = 1;
	graph->block_ns = call->image->block_ns;
	pthread_mutex_init(&graph->lock, NULL);
	pthread_cond_init(&graph->change, NULL);
	if (depend_arguments(graph) < 0) {
		status = kit_fail(error, -ENOMEM, "no memory for the task graph of \"%s\"",
				  call->image->entry);
	} else {
		status = call->image->orchestration(&graph->orch, call->tensors, call->tensor_count,
						    call->scalars, call->scalar_count);
		graph_close(graph);
		status = graph_result(graph, status, error);
	}
	depend_fini(graph);
	free(graph->tasks);
	pthread_cond_destroy(&graph->change);
	pthread_mutex_destroy(&graph->lock);
	free(graph);
	return status;
}
