/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Structs that grow: a program that was compiled with one field less, or with fields
 * that the library does not know, works; every call that takes or fills a struct is tried. Each
 * struct ends at a page that cannot be read, so that a byte too far is a crash.
 */
#include <pwd.h>
#include <stddef.h>
#include "chips.h"
#include "../unit/pto_objects.h"

#define END(type, field) (offsetof(struct type, field) + sizeof(((struct type *)0)->field))

static struct rig rig;
static struct dw_tree *tree;
static struct dw_orch *orch_now;
static dw_callable nothing;
static struct dw_graph *graph_now;

/*
 * `bytes` bytes in front of a page that is not there, filled with `fill`. A few may lie between:
 * structs are aligned.
 */
static void *before_edge(size_t bytes, int fill)
{
	static char *pages;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *start;

	if (!pages) {
		pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
		if (pages == MAP_FAILED || mprotect(pages + 2 * page, page, PROT_NONE) < 0)
			exit(1);
	}
	start = pages + 2 * page - (bytes + 7) / 8 * 8;
	memset(pages, fill, 2 * page);
	return start;
}

/* ------------------------------------------------------------ structs that a call takes */

/*
 * `value` has `known` bytes, which is where the struct ends today, and makes sense; its last field
 * begins at `last`. `call` returns 0 with it.
 */
static void takes(const char *name, const void *value, size_t known, size_t last,
		  int (*call)(const void *options))
{
	size_t sizes[] = { 0, 7, SIZE_MAX, 4097 };
	char *options;

	options = before_edge(last, 0xff);
	memcpy(options, value, last);
	memcpy(options, &last, sizeof(last));
	if (!CHECK_EQ(call(options), 0))
		printf("# %s, a field shorter: %s\n", name, dw_strerror_last());
	options = before_edge(known + 8, 0);
	memcpy(options, value, known);
	memcpy(options, &(size_t){ known + 8 }, sizeof(size_t));
	if (!CHECK_EQ(call(options), 0))
		printf("# %s, a field longer: %s\n", name, dw_strerror_last());
	options[known] = 1;
	CHECK_EQ(call(options), -E2BIG);
	CHECK_STR(dw_strerror_last(), name);
	options[known] = 0;
	options[known + 7] = 1;
	CHECK_EQ(call(options), -E2BIG);
	CHECK_STR(dw_strerror_last(), "is set");
	for (unsigned i = 0; i < 4; i++) {
		options = before_edge(known, 0);
		memcpy(options, value, known);
		memcpy(options, &sizes[i], sizeof(size_t));
		CHECK_EQ(call(options), sizes[i] < 8 ? -EINVAL : -E2BIG);
		CHECK_STR(dw_strerror_last(), name);
	}
}

#define TAKES(type, value, last, call) \
	takes(#type, value, sizeof(struct type), offsetof(struct type, last), call)

static int call_create(const void *options)
{
	struct dw_worker *worker = NULL;
	int result = dw_worker_create(3, options, &worker);

	CHECK(!worker == (result < 0));
	dw_worker_destroy(worker);
	return result;
}

TEST(a_worker_takes_options_of_other_sizes)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.name = "other";
	options.subs = 1;
	TAKES(dw_worker_options, &options, check_declared, call_create);
}

static struct dw_worker *buffers_of;

static int call_buffer(const void *options)
{
	void *address = NULL;
	int result = dw_buffer_create_with(buffers_of, options, &address);

	CHECK(!address == (result < 0));
	return result < 0 ? result : dw_buffer_destroy(buffers_of, address);
}

TEST(buffer_options_of_other_sizes_are_taken)
{
	struct dw_worker_options worker = DW_OPTIONS(dw_worker_options);
	struct dw_buffer_options options = DW_OPTIONS(dw_buffer_options);

	CHECK_EQ(dw_worker_create(3, &worker, &buffers_of), 0);
	options.bytes = 4096;
	TAKES(dw_buffer_options, &options, flags, call_buffer);
	options.flags = DW_BUFFER_KEPT << 1;
	CHECK_EQ(call_buffer(&options), -EINVAL);
	CHECK_STR(dw_strerror_last(), "DW_BUFFER_KEPT");
	dw_worker_destroy(buffers_of);
}

static int call_node(const void *options)
{
	return dw_node_serve(NULL, options);
}

/* It leaves at once, since no gateway dials. */
TEST(a_node_takes_options_of_other_sizes)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	char key[] = "/tmp/dw-options-XXXXXX";
	int fd = mkstemp(key), result;

	CHECK(fd >= 0 && write(fd, "a key of some bytes", 19) == 19);
	close(fd);
	options.key = key;
	options.user = getpwuid(geteuid())->pw_name;
	options.listen = "127.0.0.1:0";
	options.idle_timeout_ns = 1;
	result = dw_node_serve(NULL, &options);
	if (result != -ENOSYS)
		TAKES(dw_node_options, &options, context, call_node);
	unlink(key);
	if (result == -ENOSYS)
		SKIP("libcrypto 3 is not installed");
}

/* Without hosts and without a launcher, none can be made. */
static int call_launch(const void *options)
{
	struct dw_launch *launch = NULL;
	int result = dw_launch_create(options, &launch);

	CHECK(!launch);
	return result == -ENOENT ? 0 : result;
}

TEST(a_launch_takes_options_of_other_sizes)
{
	struct dw_launch_options options = DW_OPTIONS(dw_launch_options);

	TAKES(dw_launch_options, &options, timeout_ns, call_launch);
}

static unsigned findings;
static void *findings_context;

static void found(const struct dw_host_finding *finding, void *context)
{
	CHECK_EQ(finding->size, sizeof(struct dw_host_finding));
	CHECK(*finding->subject && *finding->text);
	findings++;
	findings_context = context;
}

/* The name, and the port, at which nothing listens. */
static int call_examine(const void *options)
{
	return dw_host_examine("127.0.0.1:1", options);
}

TEST(an_examination_takes_options_of_other_sizes)
{
	struct dw_host_examine_options options = DW_OPTIONS(dw_host_examine_options);

	options.found = found;
	options.context = &options;
	TAKES(dw_host_examine_options, &options, context, call_examine);
	findings = 0;
	CHECK_EQ(call_examine(&options), 0);
	CHECK_EQ(findings, 2);
	CHECK(findings_context == &options);
	options.found = NULL;
	CHECK_EQ(call_examine(&options), -EINVAL);
	CHECK_EQ(dw_host_examine(NULL, &options), -EINVAL);
	CHECK_EQ(dw_host_examine("b:x", &options), -EINVAL);
	CHECK_EQ(dw_host_examine("127.0.0.1", NULL), -EINVAL);
}

static void hook(void *context)
{
	(void)context;
}

static int call_hooks(const void *hooks)
{
	int result = dw_fork_hooks_add(hooks);

	return result < 0 ? result : dw_fork_hooks_remove(hooks);
}

TEST(fork_hooks_of_other_sizes_are_taken)
{
	struct dw_fork_hooks hooks = DW_OPTIONS(dw_fork_hooks);

	hooks.prepare = hook;
	TAKES(dw_fork_hooks, &hooks, context, call_hooks);
}

static char *chip_bytes;
static size_t chip_size;

static int call_chips(const void *unused)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;
	uint32_t id;
	int result;

	(void)unused;
	options.chips = (const void *)chip_bytes;
	options.chip_size = chip_size;
	options.chip_count = 3;
	result = dw_worker_create(3, &options, &worker);
	if (result == 0) {
		CHECK_EQ(dw_worker_chip_id(worker, 2, &id), 0);
		dw_worker_destroy(worker);
	}
	return result;
}

static void fill_chips(size_t size)
{
	const struct dw_chip_options chip = { .driver = "sim", .options = "async=1" };

	chip_size = size;
	chip_bytes = before_edge(3 * size, size < sizeof(chip) ? 0xff : 0);
	for (unsigned i = 0; i < 3; i++)
		memcpy(chip_bytes + i * size, &chip, size < sizeof(chip) ? size : sizeof(chip));
}

TEST(chips_of_other_sizes_are_where_the_program_put_them)
{
	fill_chips(offsetof(struct dw_chip_options, options));
	CHECK_EQ(call_chips(NULL), 0);
	fill_chips(sizeof(struct dw_chip_options) + 8);
	CHECK_EQ(call_chips(NULL), 0);
	chip_bytes[2 * chip_size + sizeof(struct dw_chip_options)] = 1;
	CHECK_EQ(call_chips(NULL), -E2BIG);
	CHECK_STR(dw_strerror_last(), "chips[2]: struct dw_chip_options");
	chip_size = 0;
	CHECK_EQ(call_chips(NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "sizeof(struct dw_chip_options)");
	chip_size = SIZE_MAX;
	CHECK_EQ(call_chips(NULL), -E2BIG);
}

/* ------------------------------------------------------------------- with a tree */

static int call_image(const void *options)
{
	dw_callable callable;

	return dw_callable_register_image(rig.node, options, &callable);
}

static int orch_nothing(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

static int call_start(const void *options)
{
	struct dw_run *run;
	int result = dw_worker_start(rig.node, orch_nothing, NULL, NULL, NULL, options, &run);

	return result < 0 ? result : dw_run_wait(run);
}

static int call_submit(const void *options)
{
	struct dw_args *args;
	dw_task task = 0;
	int result;

	dw_args_create(&args);
	result = dw_submit(orch_now, nothing, args, options, &task);
	dw_args_destroy(args);
	CHECK(!task == (result < 0));
	return result < 0 ? result : dw_orch_wait(orch_now);
}

static int call_group(const void *options)
{
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	result = dw_submit_group(orch_now, nothing, &args, 1, NULL, options, NULL);
	dw_args_destroy(args);
	return result < 0 ? result : dw_orch_wait(orch_now);
}

static int call_record(const void *options)
{
	struct dw_graph *graph = NULL;
	int result = dw_record_begin(orch_now, options);

	if (!result)
		result = dw_record_end(orch_now, &graph);
	dw_graph_destroy(graph);
	return result;
}

static int orch_submits(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_record_options record = DW_OPTIONS(dw_record_options);

	(void)args;
	(void)config;
	(void)context;
	options.name = "a task";
	orch_now = orch;
	TAKES(dw_submit_options, &options, after_count, call_submit);
	TAKES(dw_submit_options, &options, after_count, call_group);
	record.name = "a graph";
	TAKES(dw_record_options, &record, parameter_count, call_record);
	CHECK_EQ(dw_record_begin(orch, &record), 0);
	return dw_record_end(orch, &graph_now);
}

/* -------------------------------------------------------------- structs that a call fills */

/* `sized`: the struct begins with its size; else the size is an argument. */
struct filled {
	const char *name;
	bool sized;
	size_t known;		/* where the struct ends today */
	/* the bytes before it are the same in two calls with nothing in between */
	size_t steady;
	int (*call)(void *struct_, size_t size);
};

/* Padding that a call leaves uninitialised has another value each time. */
__attribute__((noinline)) static void stain_stack(void)
{
	static unsigned char stain;
	volatile unsigned char stack[4096];

	stain++;
	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = stain;
}

static int call_sized(const struct filled *f, unsigned char *bytes, size_t size)
{
	memcpy(bytes, &size, f->sized ? sizeof(size) : 0);
	stain_stack();
	return f->call(bytes, size);
}

/*
 * A struct of `size` bytes, from a call between two of the known size. The counters of a tree go on
 * while its threads go to sleep: all three are called again until the two around it are the same.
 */
static unsigned char *fill_as_known(const struct filled *f, size_t size)
{
	unsigned char *before = calloc(1, f->known), *after = calloc(1, f->known), *bytes;
	size_t begin = f->sized ? sizeof(size_t) : 0, end = size < f->steady ? size : f->steady;
	uint64_t start = now_ns();
	bool same;

	do {
		CHECK_EQ(call_sized(f, before, f->known), 0);
		bytes = before_edge(size, 0xcc);
		if (!CHECK_EQ(call_sized(f, bytes, size), 0))
			printf("# %s of %zu bytes: %s\n", f->name, size, dw_strerror_last());
		CHECK_EQ(call_sized(f, after, f->known), 0);
		same = memcmp(before, after, f->steady) == 0;
	} while (!same && unit_within(start, 20000 * MS));
	if (!CHECK(same))
		printf("# %s: no two are the same\n", f->name);
	else if (!CHECK(memcmp(bytes + begin, before + begin, end - begin) == 0))
		printf("# %s of %zu bytes\n", f->name, size);
	free(before);
	free(after);
	return bytes;
}

static void fills(const struct filled *f, size_t last)
{
	size_t begin = f->sized ? sizeof(size_t) : 0, sizes[] = { 0, 7, SIZE_MAX, 4097 },
	       known = f->known;
	unsigned char *bytes;

	fill_as_known(f, last);
	bytes = fill_as_known(f, known + 16);
	for (size_t i = known; i < known + 16; i++)
		CHECK_EQ(bytes[i], 0);
	if (f->sized)
		CHECK_EQ(*(size_t *)(void *)bytes, known + 16);
	for (unsigned i = 0; i < 4; i++) {
		bytes = before_edge(known, 0xcc);
		CHECK_EQ(call_sized(f, bytes, sizes[i]), sizes[i] < 8 ? -EINVAL : -E2BIG);
		CHECK_STR(dw_strerror_last(), f->name);
		for (size_t k = begin; k < known; k++)
			CHECK_EQ(bytes[k], 0xcc);
	}
}

#define FILLS(type, last, call) \
	fills(&(struct filled){ #type, true, sizeof(struct type), END(type, last), call }, \
	      offsetof(struct type, last))

/* Without a size of its own, and with a last field that goes on. */
#define FILLS_BEFORE(type, last, call) \
	fills(&(struct filled){ #type, false, sizeof(struct type), offsetof(struct type, last), \
				call }, \
	      offsetof(struct type, last))

static int call_engine(void *stats, size_t size)
{
	(void)size;
	return dw_worker_engine_stats(rig.node, stats);
}

static int call_tree_info(void *info, size_t size)
{
	(void)size;
	return dw_tree_info(tree, info);
}

static int call_tree_worker(void *worker, size_t size)
{
	(void)size;
	return dw_tree_worker(tree, 0, worker);
}

static int call_tree_worker_stats(void *stats, size_t size)
{
	(void)size;
	return dw_tree_worker_stats(tree, 0, stats);
}

static int call_tree_child(void *child, size_t size)
{
	(void)size;
	return dw_tree_child(tree, 1, child);
}

static int call_graph(void *info, size_t size)
{
	(void)size;
	return dw_graph_query(graph_now, info);
}

static int call_tree_child_stats(void *stats, size_t size)
{
	return dw_tree_child_stats(tree, 1, stats, size);
}

static int call_stats(void *stats, size_t size)
{
	size_t count = 1;

	return dw_worker_stats(rig.node, stats, size, &count);
}

static int call_provider(void *info, size_t size)
{
	(void)size;
	return dw_provider_query(info);
}

static int call_driver(void *info, size_t size)
{
	(void)size;
	return dw_chip_driver_query("sim", info);
}

static int call_devices(void *properties, size_t size)
{
	size_t count = 1;

	return dw_chip_enumerate("sim", NULL, properties, size, &count);
}

/* The second element is where the program's own size puts it. */
static void steps(size_t size)
{
	size_t count = 2;
	char *stats = before_edge(2 * size, 0xcc);

	CHECK_EQ(dw_worker_stats(rig.node, (void *)stats, size, &count), 0);
	CHECK_EQ(count, 2);
	CHECK_STR(stats, "node0/sub0");
	CHECK_STR(stats + size, "node0/chip0");
}

static void steps_of_devices(size_t size)
{
	size_t count = 2;
	char *devices = before_edge(2 * size, 0xcc);

	CHECK_EQ(dw_chip_enumerate("sim", "devices=2", (void *)devices, size, &count), 0);
	CHECK_EQ(count, 2);
	CHECK_STR(devices + offsetof(struct dw_chip_properties, name), "sim0");
	CHECK_STR(devices + size + offsetof(struct dw_chip_properties, name), "sim1");
	CHECK_EQ(((struct dw_chip_properties *)(void *)(devices + size))->size, size);
}

TEST(every_call_on_a_tree_takes_and_fills_structs_of_other_sizes)
{
	struct dw_chip_options chips[1] = { { .driver = "sim" } };
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	struct dw_run_options run = DW_OPTIONS(dw_run_options);

	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 1);
	CHECK_EQ(dw_callable_register_sub(rig.node, "nothing", sub_nothing, NULL, &nothing), 0);
	REQUIRE(rig_init(&rig) == 0);
	REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
	image.driver = "sim";
	image.entry = "vector_add";
	image.path = fixture("chip_kernels");
	TAKES(dw_image_options, &image, signature_count, call_image);
	TAKES(dw_run_options, &run, progress_context, call_start);
	CHECK_EQ(dw_worker_run(rig.node, orch_submits, NULL, NULL, NULL), 0);
	FILLS(dw_engine_stats, provider, call_engine);
	FILLS(dw_tree_info, started_ns, call_tree_info);
	FILLS(dw_tree_worker, heap_bytes, call_tree_worker);
	FILLS(dw_engine_stats, provider, call_tree_worker_stats);
	FILLS(dw_tree_child, cause, call_tree_child);
	FILLS(dw_provider_info, reason, call_provider);
	FILLS(dw_graph_info, replays, call_graph);
	dw_graph_destroy(graph_now);
	FILLS_BEFORE(dw_child_stats, cpu_ns, call_tree_child_stats);
	FILLS_BEFORE(dw_child_stats, cpu_ns, call_stats);
	steps(offsetof(struct dw_child_stats, cpu_ns));
	steps(sizeof(struct dw_child_stats) + 16);
	dw_tree_close(tree);
	rig_destroy(&rig);
}

/* Drivers are asked in a process that makes no Workers. */
TEST(drivers_are_asked_with_structs_of_other_sizes)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		unit_failures = 0;
		FILLS(dw_chip_driver_info, path, call_driver);
		fills(&(struct filled){ "dw_chip_properties", true,
					sizeof(struct dw_chip_properties),
					offsetof(struct dw_chip_properties, default_block_dim),
					call_devices },
		      offsetof(struct dw_chip_properties, default_block_dim));
		steps_of_devices(offsetof(struct dw_chip_properties, default_block_dim));
		steps_of_devices(sizeof(struct dw_chip_properties) + 16);
		fflush(stdout);
		_exit(unit_failures != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/*
 * Failed before: 600 bytes were taken. Two such of one beginning made an endless loop: a free
 * number was cut off.
 */
TEST(image_entries_have_a_limit_and_names_of_their_own)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	dw_callable first = 0, second = 0, found = 0;
	char entry[601], name[700];

	memset(entry, 'x', sizeof(entry));
	entry[600] = '\0';
	image.driver = "sim";
	image.entry = entry;
	image.data = "1";
	image.bytes = 1;
	CHECK_EQ(dw_callable_register_image(node, &image, &first), -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(), "has 600 bytes; at most 255");
	entry[255] = '\0';
	CHECK_EQ(dw_callable_register_image(node, &image, &first), 0);
	image.data = "2";
	CHECK_EQ(dw_callable_register_image(node, &image, &second), 0);
	CHECK(first != second);
	snprintf(name, sizeof(name), "sim:%s#2", entry);
	CHECK_EQ(dw_callable_find(node, name, &found), 0);
	CHECK(found == second);
	dw_worker_destroy(node);
}

/* ------------------------------------------------------------------------- pto images */

static int call_pto(const void *options)
{
	void *image = NULL;
	size_t bytes;
	int result = dw_pto_image_build(options, &image, &bytes);

	free(image);
	return result;
}

/* An orchestration object that exports "entry". */
static const void *pto_entry_object(void)
{
	static unsigned char *object;

	if (!object)
		object = pto_object_make("entry", 600, 0);
	return object;
}

static int call_core(const void *core)
{
	struct dw_pto_image_options options = DW_OPTIONS(dw_pto_image_options);

	options.data = pto_entry_object();
	options.bytes = 600;
	options.entry = "entry";
	options.cores = core;
	options.core_count = 1;
	return call_pto(&options);
}

TEST(pto_images_are_built_from_structs_of_other_sizes)
{
	struct dw_pto_image_options options = DW_OPTIONS(dw_pto_image_options);
	struct dw_pto_core core = DW_OPTIONS(dw_pto_core);
	char *cores;

	options.data = pto_entry_object();
	options.bytes = 600;
	options.entry = "entry";
	TAKES(dw_pto_image_options, &options, core_count, call_pto);
	core.data = "core";
	core.bytes = 4;
	TAKES(dw_pto_core, &core, signature, call_core);
	/* Two of a larger size. */
	core.size = sizeof(core) + 8;
	cores = before_edge(2 * core.size, 0);
	memcpy(cores, &core, sizeof(core));
	core.function = 1;
	memcpy(cores + core.size, &core, sizeof(core));
	options.cores = (const void *)cores;
	options.core_count = 2;
	CHECK_EQ(call_pto(&options), 0);
	core.size = sizeof(core);
	memcpy(cores + core.size + 8, &core, sizeof(core));
	CHECK_EQ(call_pto(&options), -EINVAL);
	CHECK_STR(dw_strerror_last(), "core function 1");
}
