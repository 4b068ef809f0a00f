/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The cost of a small chip task, end to end, and that idle chips cost nothing. Prints the figures;
 * the bounds are generous, since test machines are busy.
 */
#include "chips.h"

#define FLOATS 16384
#define ROUNDS 2000
#define LIMIT_NS (2000 * MS)		/* an emulated machine is 300 times as slow */

struct timing {
	dw_callable add;
	float *a, *b, *c;
	int block_dim, at_once, rounds;
	double us[ROUNDS];
};

static int orch_timing(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct timing *timing = context;
	struct call call = { .callable = timing->add, .options = DW_OPTIONS(dw_submit_options) };
	int result, round;
	uint64_t end;

	(void)args;
	(void)config;
	call_tensor(&call, timing->a, DW_FLOAT32, FLOATS, DW_INPUT);
	call_tensor(&call, timing->b, DW_FLOAT32, FLOATS, DW_INPUT);
	call_tensor(&call, timing->c, DW_FLOAT32, FLOATS, DW_OUTPUT);
	call.options.config.block_dim = timing->block_dim;
	/* The first one compiles, or loads. */
	result = submit_call(orch, &call, NULL);
	if (!result)
		result = dw_orch_wait(orch);
	end = now_ns() + LIMIT_NS;
	for (round = 0; round < ROUNDS && !result && now_ns() < end; round++) {
		uint64_t start = now_ns();

		for (int i = 0; i < timing->at_once && !result; i++)
			result = submit_call(orch, &call, NULL);
		if (!result)
			result = dw_orch_wait(orch);
		timing->us[round] = (double)(now_ns() - start) / 1000 / timing->at_once;
	}
	timing->rounds = round;
	return result;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static struct timing timing;

static void measure(struct rig *rig, const char *driver, int block_dim, int at_once)
{
	timing.block_dim = block_dim;
	timing.at_once = at_once;
	memset(timing.c, 0, FLOATS * sizeof(float));
	if (!CHECK_EQ(dw_worker_run(rig->node, orch_timing, NULL, NULL, &timing), 0))
		printf("# %s\n", dw_strerror_last());
	for (int i = 0; i < FLOATS; i++)
		REQUIRE(timing.c[i] == timing.a[i] + timing.b[i]);
	qsort(timing.us, (size_t)timing.rounds, sizeof(timing.us[0]), compare);
	printf("# %s, block_dim %d, %d at once: %.1f us per task (median; 90 %%: %.1f)\n", driver,
	       block_dim, at_once, timing.us[timing.rounds / 2], timing.us[timing.rounds * 9 / 10]);
	/* The reference system's simulated chip takes 36,000 with one block, 177,000 with three. */
	CHECK(timing.us[timing.rounds / 2] < 20000.0 * (double)unit_busy());
}

/*
 * The same add with its inputs on the chip, and with its output there too, in one run, alternating
 * with the add that copies everything.
 */
enum resident { COPIED, INPUTS, ALL, KINDS };

static struct {
	struct dw_tensor tensors[KINDS][3];
	double us[KINDS][ROUNDS];
	uint64_t copied[KINDS];
} residence;

static uint64_t copied_bytes(struct dw_worker *node)
{
	struct dw_child_stats stats[4];
	size_t count = 4;

	dw_worker_stats(node, stats, sizeof(stats[0]), &count);
	return count > 1 ? stats[1].copied_in + stats[1].copied_out : 0;
}

static int add_once(struct dw_orch *orch, enum resident kind, int round)
{
	struct call call = { .callable = timing.add, .options = DW_OPTIONS(dw_submit_options) };
	uint64_t start, before = copied_bytes(dw_orch_worker(orch));
	int result;

	for (int i = 0; i < 3; i++) {
		call.tensor[i] = residence.tensors[kind][i];
		call.tag[i] = i < 2 ? DW_INPUT : DW_OUTPUT;
	}
	call.tensors = 3;
	call.options.place = DW_PLACE(0);
	start = now_ns();
	result = submit_call(orch, &call, NULL);
	if (!result)
		result = dw_orch_wait(orch);
	residence.us[kind][round] = (double)(now_ns() - start) / 1000;
	residence.copied[kind] += copied_bytes(dw_orch_worker(orch)) - before;
	return result;
}

static int orch_residence(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	uint64_t end = now_ns() + LIMIT_NS;
	int result = 0, round;

	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 2 && !result; i++)
		result = dw_submit_copy(orch, &residence.tensors[INPUTS][i],
					&residence.tensors[COPIED][i], NULL, NULL);
	if (!result)
		result = dw_orch_wait(orch);
	for (round = 0; round < ROUNDS && !result && now_ns() < end; round++)
		for (int kind = COPIED; kind < KINDS && !result; kind++)
			result = add_once(orch, (enum resident)kind, round);
	timing.rounds = round;
	return result;
}

static void measure_residence(struct rig *rig, const char *driver)
{
	static const char *const names[] = { "all copied", "inputs resident", "all resident" };
	float *const data[3] = { timing.a, timing.b, timing.c };
	const uint64_t bytes = FLOATS * sizeof(float);
	uint32_t count = FLOATS;

	memset(&residence, 0, sizeof(residence));
	for (int i = 0; i < 3; i++) {
		struct dw_tensor kept;

		REQUIRE(dw_chip_memory_create(rig->node, 0, DW_FLOAT32, &count, 1, &kept) == 0);
		dw_tensor_init(&residence.tensors[COPIED][i], data[i], DW_FLOAT32, &count, 1);
		residence.tensors[INPUTS][i] = i < 2 ? kept : residence.tensors[COPIED][i];
		residence.tensors[ALL][i] = kept;
	}
	memset(timing.c, 0, bytes);
	if (!CHECK_EQ(dw_worker_run(rig->node, orch_residence, NULL, NULL, NULL), 0))
		printf("# %s\n", dw_strerror_last());
	for (int i = 0; i < FLOATS; i++)
		REQUIRE(timing.c[i] == timing.a[i] + timing.b[i]);
	for (int kind = COPIED; kind < KINDS; kind++) {
		qsort(residence.us[kind], (size_t)timing.rounds, sizeof(double), compare);
		printf("# %s, %s: %.1f us per task (median; 90 %%: %.1f), %llu bytes copied\n",
		       driver, names[kind], residence.us[kind][timing.rounds / 2],
		       residence.us[kind][timing.rounds * 9 / 10],
		       (unsigned long long)residence.copied[kind] /
			       (unsigned long long)timing.rounds);
	}
	CHECK_EQ(residence.copied[COPIED], 3 * bytes * (uint64_t)timing.rounds);
	CHECK_EQ(residence.copied[INPUTS], bytes * (uint64_t)timing.rounds);
	CHECK_EQ(residence.copied[ALL], 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(dw_chip_memory_destroy(rig->node, &residence.tensors[ALL][i]), 0);
}

/* Context switches and CPU ticks of every thread of a process. */
static void activity(pid_t pid, unsigned long long *switches, unsigned long long *ticks)
{
	char path[96], line[1024], *end;
	unsigned long long n, user, system;
	struct dirent *entry;
	DIR *tasks;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", (int)pid, entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			if (strstr(line, "voluntary_ctxt_switches") && (end = strchr(line, ':')) &&
			    sscanf(end + 1, "%llu", &n) == 1)
				*switches += n;
		if (file)
			fclose(file);
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/stat", (int)pid, entry->d_name);
		file = fopen(path, "re");
		if (file && fgets(line, sizeof(line), file) && (end = strrchr(line, ')')) &&
		    sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			   &system) == 2)
			*ticks += user + system;
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
}

/* The chips' processes, and this one without the measuring thread. */
static void idle(struct rig *rig, uint32_t chips)
{
	unsigned long long before[2] = { 0 }, after[2] = { 0 };

	pause_ms(200);		/* by now, threads that spin briefly have stopped */
	for (int look = 0; look < 2; look++) {
		if (look)
			pause_ms(2000);
		for (uint32_t i = 0; i < chips; i++) {
			char path[32];

			snprintf(path, sizeof(path), "node0/chip%u", i);
			activity(chip_stats(rig, path).pid, look ? &after[0] : &before[0],
				 look ? &after[1] : &before[1]);
		}
	}
	printf("# idle for 2 s: %llu context switches, %llu ticks of CPU over %u chips\n",
	       after[0] - before[0], after[1] - before[1], chips);
	CHECK_EQ(after[0] - before[0], 0);
	CHECK_EQ(after[1] - before[1], 0);
}

static void speed_of(const char *driver, const char *path, const char *text, const char *options)
{
	struct dw_chip_options chips[3];
	struct rig rig;
	void *memory;

	for (uint32_t i = 0; i < 3; i++)
		chips[i] = (struct dw_chip_options){
			.driver = driver, .device = path ? i : 0, .options = options };
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, path ? 3 : 1);
	timing.add = image_of(&rig, driver, path, text, "vector_add", signature_add, 3);
	CHECK_EQ(dw_buffer_create(rig.node, 3 * FLOATS * sizeof(float), &memory), 0);
	timing.a = memory;
	timing.b = timing.a + FLOATS;
	timing.c = timing.b + FLOATS;
	for (int i = 0; i < FLOATS; i++) {
		timing.a[i] = (float)i;
		timing.b[i] = (float)i * 0.5f;
	}
	REQUIRE(rig_init(&rig) == 0);
	measure(&rig, driver, 1, 1);
	measure(&rig, driver, 3, 1);
	measure(&rig, driver, 1, 32);
	measure(&rig, driver, 3, 32);
	measure_residence(&rig, driver);
	idle(&rig, path ? 3 : 1);
	rig_destroy(&rig);
}

TEST(sim_vector_add_costs_microseconds_and_idle_chips_nothing)
{
	speed_of("sim", fixture("chip_kernels"), NULL, NULL);
}

TEST(asynchronous_sim_chips_that_are_idle_cost_nothing)
{
	speed_of("sim", fixture("chip_kernels"), NULL, "async=1");
}

TEST(opencl_vector_add_costs_microseconds_and_an_idle_chip_nothing)
{
	static char source[sizeof(opencl_add)];
	char *bound;

	if (opencl_missing())
		SKIP(opencl_missing());
	/* The same kernel for more elements. */
	strcpy(source, opencl_add);
	bound = strstr(source, "i < 1000;");
	REQUIRE(bound != NULL);
	memcpy(bound, "i <16384;", 9);
	speed_of("opencl", NULL, source, NULL);
}
