// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The cost of the engine's paths, on this machine, now. Without --bench a short run that only has
 * to end.
 *
 *   test_engine_bench --bench [burst|chain|submit|hop …]
 */
#include "engine_rig.h"

static int noop(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

static int node_noop(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

static dw_callable noop_handle, node_handle;

struct bench {
	uint64_t count;
	int64_t *x;
	uint64_t submit_ns;
	uint32_t hops;
};

static int burst(struct dw_orch *orch, const struct dw_args *args,
		 const struct dw_config *config, void *context)
{
	struct bench *bench = context;
	struct dw_args *own;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (uint64_t i = 0; i < bench->count; i++)
		dw_submit(orch, noop_handle, own, NULL, NULL);
	dw_args_destroy(own);
	return 0;
}

static int chain(struct dw_orch *orch, const struct dw_args *args,
		 const struct dw_config *config, void *context)
{
	struct bench *bench = context;
	struct dw_args *own;

	(void)args;
	(void)config;
	dw_args_create(&own);
	rig_add(own, bench->x, 1, DW_INOUT);
	for (uint64_t i = 0; i < bench->count; i++)
		dw_submit(orch, noop_handle, own, NULL, NULL);
	dw_args_destroy(own);
	return 0;
}

static int hops(struct dw_orch *orch, const struct dw_args *args,
		const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct bench *bench = context;
	struct dw_args *own;

	(void)args;
	(void)config;
	dw_args_create(&own);
	rig_add(own, bench->x, 1, DW_INOUT);
	for (uint64_t i = 0; i < bench->count; i++) {
		options.place = DW_PLACE(i % bench->hops);
		dw_submit(orch, node_handle, own, &options, NULL);
	}
	dw_args_destroy(own);
	return 0;
}

static int round_trips(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct bench *bench = context;
	struct dw_args *own;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (uint64_t i = 0; i < bench->count; i++) {
		dw_submit(orch, noop_handle, own, NULL, NULL);
		dw_orch_wait(orch);
	}
	dw_args_destroy(own);
	return 0;
}

/* Two tensors in, one out, few enough that no ring fills: the call alone. */
static int submits(struct dw_orch *orch, const struct dw_args *args,
		   const struct dw_config *config, void *context)
{
	struct bench *bench = context;
	struct dw_args *own;
	uint64_t begin;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (uint64_t i = 0; i < bench->count; i += 16) {
		begin = rig_now();
		for (uint64_t k = i; k < i + 16; k++) {
			dw_args_reset(own);
			rig_add(own, bench->x + 8 * (k % 1000), 8, DW_INPUT);
			rig_add(own, bench->x + 8 * ((k + 7) % 1000), 8, DW_INPUT);
			rig_add(own, bench->x + 8 * (1000 + k % 1000), 8, DW_OUTPUT);
			dw_submit(orch, noop_handle, own, NULL, NULL);
		}
		bench->submit_ns += rig_now() - begin;
		dw_orch_wait(orch);
	}
	dw_args_destroy(own);
	return 0;
}

static double measure(struct rig *rig, dw_orch_fn *fn, struct bench *bench)
{
	uint64_t begin = rig_now();

	if (rig_run(rig, fn, bench) < 0)
		printf("# %s\n", dw_strerror_last());
	return (double)(rig_now() - begin) / (double)bench->count;
}

static bool wanted(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc <= 2;
}

static void report(struct rig *rig, const char *name, dw_orch_fn *fn, struct bench *bench,
		   int repeats)
{
	struct hub_counters before, after;

	for (int i = 0; i < repeats; i++) {
		double ns;

		struct timespec cpu;
		double own;

		hub_counters(rig->hub, &before);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
		own = (double)cpu.tv_sec * 1e9 + (double)cpu.tv_nsec;
		ns = measure(rig, fn, bench);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
		own = ((double)cpu.tv_sec * 1e9 + (double)cpu.tv_nsec - own) / (double)bench->count;
		hub_counters(rig->hub, &after);
		printf("%-22s %9.1f ns per task (own CPU %6.1f)  %6.3f M/s  wakes %llu woken %llu "
		       "sleeps %llu\n",
		       name, ns, own, 1e3 / ns, (unsigned long long)(after.wakes - before.wakes),
		       (unsigned long long)(after.woken - before.woken),
		       (unsigned long long)(after.sleeps - before.sleeps));
	}
}

int main(int argc, char **argv)
{
	bool full = argc > 1 && !strcmp(argv[1], "--bench");
	uint64_t scale = full ? 1 : 50;
	const char *limit = getenv("BENCH_SUBS");
	uint32_t most = limit ? (uint32_t)atoi(limit) : 16;
	int repeats = full ? 3 : 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(300);
	noop_handle = rig_sub("noop", noop);
	node_handle = rig_node("node_noop", node_noop);
	for (uint32_t subs = 1; subs <= most; subs *= 4) {
		struct rig *rig = rig_open((struct rig_options){ .subs = subs, .nested = 4 });
		struct bench bench = { .x = rig_buffer(rig, 1 << 20), .hops = 4 };
		char name[64];

		snprintf(name, sizeof(name), "burst, %u subs", subs);
		bench.count = 2000000 / scale;
		if (wanted(argc, argv, "burst"))
			report(rig, name, burst, &bench, repeats);
		snprintf(name, sizeof(name), "chain, %u subs", subs);
		bench.count = 1000000 / scale;
		if (wanted(argc, argv, "chain"))
			report(rig, name, chain, &bench, repeats);
		snprintf(name, sizeof(name), "round trip, %u subs", subs);
		bench.count = 20000 / scale;
		if (wanted(argc, argv, "round"))
			report(rig, name, round_trips, &bench, repeats);
		if (subs == 1 && wanted(argc, argv, "hop")) {
			bench.count = 20000 / scale;
			report(rig, "hops over 4 children", hops, &bench, repeats);
		}
		bench.count = 160000 / scale;
		for (int i = 0; subs == 1 && wanted(argc, argv, "submit") && i < repeats; i++) {
			bench.submit_ns = 0;
			measure(rig, submits, &bench);
			printf("submit, 2 in 1 out     %9.1f ns per call\n",
			       (double)bench.submit_ns / (double)bench.count);
		}
		rig_close(rig);
	}
	printf("1 passed, 0 failed\n");
	return 0;
}
