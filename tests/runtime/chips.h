/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of chips: a node with chips, images, and batches of calls that one
 * orchestration submits. Paths are those of the build tree.
 */
#ifndef TESTS_CHIPS_H
#define TESTS_CHIPS_H

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <distworker/chip.h>
#include "runtime.h"
#include "../unit/opencl_missing.h"

#define COUNT 1000		/* elements of a vector */
#define PARTS 64		/* results */
#define MS 1000000ULL

static inline const char *fixture(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 100);

	path[length > 0 ? length : 0] = '\0';
	snprintf(strrchr(path, '/'), 90, "/fixtures/%s.so", name);
	return path;
}

/* ------------------------------------------------------------------- a node */

struct rig {
	struct dw_worker *node;
	float *a, *b, *c;		/* c: [PARTS][COUNT] */
};

static inline void rig_create(struct rig *rig, enum dw_mode mode, enum dw_restart restart,
			      const struct dw_chip_options *chips, uint32_t count)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	void *memory;

	options.subs = 1;
	options.mode = mode;
	options.restart = restart;
	/* An OpenCL device compiles before it is ready: on a busy machine longer than 30 s. */
	options.init_timeout_ns = 600000000000ULL;
	options.heap_ring_bytes = 64 << 20;
	options.arena_bytes = 256 << 20;
	options.chips = chips;
	options.chip_count = count;
	options.chip_size = sizeof(struct dw_chip_options);
	memset(rig, 0, sizeof(*rig));
	if (!CHECK_EQ(dw_worker_create(3, &options, &rig->node), 0) ||
	    !CHECK_EQ(dw_buffer_create(rig->node, sizeof(float) * COUNT * (2 + PARTS), &memory),
		      0)) {
		printf("# %s\n", dw_strerror_last());
		exit(1);
	}
	rig->a = memory;
	rig->b = rig->a + COUNT;
	rig->c = rig->b + COUNT;
	for (int i = 0; i < COUNT; i++) {
		rig->a[i] = (float)i * 0.25f;
		rig->b[i] = (float)(COUNT - i);
	}
}

/* 0, or the error with its text printed. */
static inline int rig_init(struct rig *rig)
{
	int result = dw_worker_init(rig->node);

	if (result < 0)
		printf("# init: %s\n", dw_strerror_last());
	return result;
}

static inline void rig_destroy(struct rig *rig)
{
	dw_worker_destroy(rig->node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* Counts the results that are not a + b. */
static inline unsigned wrong(const struct rig *rig, unsigned first, unsigned parts)
{
	unsigned n = 0;

	for (unsigned part = first; part < first + parts; part++)
		for (int i = 0; i < COUNT; i++)
			n += rig->c[part * COUNT + i] != rig->a[i] + rig->b[i];
	return n;
}

static inline struct dw_child_stats chip_stats(struct rig *rig, const char *path)
{
	struct dw_child_stats stats[16], none;
	size_t count = 16;

	CHECK_EQ(dw_worker_stats(rig->node, stats, sizeof(stats[0]), &count), 0);
	for (size_t i = 0; i < count && i < 16; i++)
		if (strcmp(stats[i].path, path) == 0)
			return stats[i];
	memset(&none, 0, sizeof(none));
	printf("# no child %s\n", path);
	unit_failures++;
	return none;
}

/* ------------------------------------------------------------------- images */

static inline dw_callable image_of(struct rig *rig, const char *driver, const char *path,
				   const char *text, const char *entry, const int32_t *signature,
				   size_t count)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable = 0;

	options.driver = driver;
	options.entry = entry;
	options.path = path;
	options.data = text;
	options.bytes = text ? strlen(text) : 0;
	options.signature = signature;
	options.signature_count = count;
	if (!CHECK_EQ(dw_callable_register_image(rig->node, &options, &callable), 0))
		printf("# %s\n", dw_strerror_last());
	return callable;
}

/* A kernel of chip_kernels, on any Worker. */
static inline dw_callable kernel_image(struct dw_worker *worker, const char *entry)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable = 0;

	options.driver = "sim";
	options.entry = entry;
	options.path = fixture("chip_kernels");
	if (!CHECK_EQ(dw_callable_register_image(worker, &options, &callable), 0))
		printf("# %s\n", dw_strerror_last());
	return callable;
}

static inline dw_callable sim_image(struct rig *rig, const char *entry)
{
	return image_of(rig, "sim", fixture("chip_kernels"), NULL, entry, NULL, 0);
}

/* -------------------------------------------------------------------- calls */

struct call {
	dw_callable callable;
	struct dw_tensor tensor[20];
	enum dw_tag tag[20];
	uint32_t tensors;
	uint64_t scalar[8];
	uint32_t scalars;
	struct dw_submit_options options;
};

struct batch {
	struct call *calls;
	unsigned count;
	unsigned times;			/* each; 0: once */
	unsigned submitted;
	int submit_error;		/* the first error of submit itself */
	char text[512];			/* its text */
};

static inline void call_tensor(struct call *call, void *data, int dtype, uint32_t count,
			       enum dw_tag tag)
{
	dw_tensor_init(&call->tensor[call->tensors], data, dtype, &count, 1);
	call->tag[call->tensors++] = tag;
}

/* c[part] = a + b */
static inline struct call add_call(const struct rig *rig, dw_callable callable, unsigned part)
{
	struct call call = { .callable = callable, .options = DW_OPTIONS(dw_submit_options) };

	call_tensor(&call, rig->a, DW_FLOAT32, COUNT, DW_INPUT);
	call_tensor(&call, rig->b, DW_FLOAT32, COUNT, DW_INPUT);
	call_tensor(&call, rig->c + part * COUNT, DW_FLOAT32, COUNT, DW_OUTPUT);
	return call;
}

static inline struct call out_call(const struct rig *rig, dw_callable callable, unsigned part)
{
	struct call call = { .callable = callable, .options = DW_OPTIONS(dw_submit_options) };

	call_tensor(&call, rig->c + part * COUNT, DW_UINT32, COUNT, DW_OUTPUT);
	return call;
}

static inline int submit_call(struct dw_orch *orch, const struct call *call, dw_task *task)
{
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	for (uint32_t i = 0; i < call->tensors; i++)
		dw_args_add_tensor(args, &call->tensor[i], call->tag[i]);
	for (uint32_t i = 0; i < call->scalars; i++)
		dw_args_add_scalar(args, call->scalar[i]);
	result = dw_submit(orch, call->callable, args, &call->options, task);
	dw_args_destroy(args);
	return result;
}

static inline int orch_batch(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	struct batch *batch = context;

	(void)args;
	(void)config;
	for (unsigned time = 0; time < (batch->times ? batch->times : 1); time++)
		for (unsigned i = 0; i < batch->count; i++) {
			int result = submit_call(orch, &batch->calls[i], NULL);

			if (result < 0) {
				batch->submit_error = result;
				snprintf(batch->text, sizeof(batch->text), "%s",
					 dw_strerror_last());
				return result;
			}
			batch->submitted++;
		}
	return 0;
}

/* Submits `count` calls and waits; the run's result. */
static inline int run_calls(struct rig *rig, struct call *calls, unsigned count)
{
	struct batch batch = { .calls = calls, .count = count };

	return dw_worker_run(rig->node, orch_batch, NULL, NULL, &batch);
}

/* Checks that the text of the last error contains `part`. */
static inline void check_text(const char *part)
{
	const char *text = dw_strerror_last();

	if (!strstr(text, part)) {
		unit_failures++;
		printf("# %s: \"%s\" is missing in: %s\n", unit_now, part, text);
	}
}

/* ----------------------------------------------------------- from the chips */

/* A pipe made before the first fork: a kernel writes its pid, the test reads it. */
static int said[2] = { -1, -1 };

static inline void say_prepare(void)
{
	if (said[0] < 0 && pipe2(said, O_CLOEXEC) < 0)
		abort();
}

/* Reads the pid that the next kernel writes; 0: none does. */
static inline pid_t heard(void)
{
	pid_t pid = 0;

	if (!unit_polled(said[0], POLLIN) || read(said[0], &pid, sizeof(pid)) != sizeof(pid))
		return 0;
	return pid;
}

static inline void pause_ms(unsigned ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* ------------------------------------------------------------------- opencl */

static const char opencl_add[] =
	"#pragma OPENCL FP_CONTRACT OFF\n"
	"kernel void vector_add(global const float *a, global const float *b, global float *c)\n"
	"{\n"
	"	for (size_t i = get_global_id(0); i < 1000; i += get_global_size(0))\n"
	"		c[i] = a[i] + b[i];\n"
	"}\n"
	"kernel void spin(global volatile int *x)\n"
	"{\n"
	"	while (x[0] != 12345)\n"
	"		x[1]++;\n"
	"}\n";

static const int32_t signature_add[] = { DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT };

#endif
