/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Names of every kind: as long as the limit, one byte shorter, one byte longer. Names with the same
 * beginning stay distinct, and no text ends in the middle of a character.
 *
 * Failed before: names of functions, tasks, symbols, drivers and their options had no limit, and
 * were cut, in the middle of characters, wherever a text had no room for them, with the text that
 * should have followed.
 */
#include <limits.h>
#include <sys/stat.h>
#include <distworker/chip.h>
#include "failure.h"
#include "../unit/pto_objects.h"

#define LONGEST 70000

/*
 * `bytes` bytes, most of them in characters of three, so that a cut at any place but a border
 * shows.
 */
static const char *name_of(size_t bytes, const char *end)
{
	static char names[6][LONGEST + 1];
	static _Atomic unsigned next;	/* children that are threads name things, too */
	char *name = names[next++ % 6];
	size_t used = 0, tail = strlen(end);

	while ((bytes - tail - used) % 3)
		name[used++] = 'n';
	for (; used < bytes - tail; used += 3)
		memcpy(name + used, "€", 3);
	strcpy(name + used, end);
	return name;
}

/* The same as a path of a file that is there, when `file` is: "/tmp/././…/x.so". */
static const char *path_of(size_t bytes, const char *file)
{
	static char paths[3][8192];
	static _Atomic unsigned next;	/* children that are threads name things, too */
	char *path = paths[next++ % 3];
	size_t used = 0, tail = strlen(file);

	while (used + tail < bytes) {
		memcpy(path + used, (bytes - tail - used) % 2 ? "//" : "/.", 2);
		used += (bytes - tail - used) % 2 ? 1 : 2;
	}
	strcpy(path + used, file);
	return path;
}

static bool whole_characters(const char *text)
{
	while (*text) {
		unsigned char lead = (unsigned char)*text++;
		unsigned more = lead < 0x80  ? 0 :
				lead >= 0xf0 ? 3 :
				lead >= 0xe0 ? 2 :
				lead >= 0xc0 ? 1 :
					       9;

		for (; more; more--)
			if (((unsigned char)*text++ & 0xc0) != 0x80)
				return false;
	}
	return true;
}

/* The text names the object, its length and the limit, and shows both ends of the name. */
static bool refused(int result, const char *kind, const char *name, size_t limit)
{
	const char *text = dw_strerror_last();
	size_t length = strlen(name);
	char head[13], number[48];

	snprintf(head, sizeof(head), "%.12s", name);
	if (!whole_characters(head))
		head[9] = '\0';
	if (!CHECK_EQ(result, -ENAMETOOLONG) || !CHECK_STR(text, kind) ||
	    !CHECK(whole_characters(text)) || !CHECK(strlen(text) < 400))
		return false;
	snprintf(number, sizeof(number), "has %zu bytes", length);
	CHECK_STR(text, number);
	snprintf(number, sizeof(number), "at most %zu ", limit);
	CHECK_STR(text, number);
	CHECK_STR(text, "…");
	return CHECK_STR(text, name + length - 9) &&
	       (head[0] & 0x80 || CHECK(strchr(text, head[0])));
}

/* ------------------------------------------------------------------ Workers */

static int create_named(const char *name, struct dw_worker **worker)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	*worker = NULL;
	options.name = name;
	options.subs = 1;
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 16 << 20;
	return dw_worker_create(3, &options, worker);
}

TEST(names_of_workers)
{
	struct dw_worker *worker;

	for (size_t bytes = 46; bytes <= 47; bytes++) {
		CHECK_EQ(create_named(name_of(bytes, "12"), &worker), 0);
		dw_worker_destroy(worker);
	}
	/* It is too short for a "…". */
	CHECK_EQ(create_named(name_of(48, "12"), &worker), -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(), "has 48 bytes; at most 47");
	refused(create_named(name_of(5000, "the end of it"), &worker), "name of a Worker",
		name_of(5000, "the end of it"), 47);
	CHECK_EQ(create_named("a/b", &worker), -EINVAL);
	CHECK_STR(dw_strerror_last(), "\"a/b\", has a '/'");
}

static int init_path(size_t root_bytes, size_t child_bytes)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *root, *child;
	int result;

	options.name = name_of(root_bytes, "");
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 16 << 20;
	if (!CHECK_EQ(dw_worker_create(4, &options, &root), 0) ||
	    !CHECK_EQ(create_named(name_of(child_bytes, "1"), &child), 0) ||
	    !CHECK_EQ(dw_worker_add_child(root, child, NULL), 0))
		return -1;
	result = dw_worker_init(root);
	dw_worker_destroy(root);
	return result;
}

TEST(paths_of_workers)
{
	CHECK_EQ(init_path(40, 38), 0);
	CHECK_EQ(init_path(40, 39), 0);
	CHECK_EQ(init_path(40, 40), -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(), "has 81 bytes; at most 80");
	CHECK(whole_characters(dw_strerror_last()));
	CHECK_EQ(init_path(47, 47), -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(), "has 95 bytes; at most 80");
	CHECK(whole_characters(dw_strerror_last()));
}

/* ------------------------------------------------------- functions and tasks */

static int orch_idle(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

TEST(names_of_functions)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);
	dw_callable one = 0, two = 0, found = 0;

	CHECK_EQ(dw_callable_register_sub(node, name_of(254, "1"), sub_nothing, NULL, &one), 0);
	CHECK_EQ(dw_callable_register_sub(node, name_of(255, "1"), sub_nothing, NULL, &one), 0);
	CHECK_EQ(dw_callable_register_orch(node, name_of(255, "2"), orch_idle, NULL, &two), 0);
	CHECK(one != two);
	CHECK_EQ(dw_callable_find(node, name_of(255, "1"), &found), 0);
	CHECK(found == one);
	CHECK_EQ(dw_callable_find(node, name_of(255, "2"), &found), 0);
	CHECK(found == two);
	refused(dw_callable_register_sub(node, name_of(256, "1"), sub_nothing, NULL, &one),
		"name of a function", name_of(256, "1"), 255);
	refused(dw_callable_register_orch(node, name_of(60000, "1"), orch_idle, NULL, &one),
		"name of a function", name_of(60000, "1"), 255);
	/* Neither a text about two of them nor one about a name that is not there loses its end. */
	CHECK_EQ(dw_callable_register_sub(node, name_of(255, "1"), sub_nothing, NULL, &one),
		 -EEXIST);
	CHECK_STR(dw_strerror_last(), "is registered already");
	CHECK_EQ(dw_callable_find(node, name_of(60000, "3"), &found), -ENOENT);
	CHECK_STR(dw_strerror_last(), "€3");
	CHECK(whole_characters(dw_strerror_last()));
	dw_worker_destroy(node);
}

/* Fails with a text of three-byte characters, and more of them than an error has room for. */
static int sub_says_much(const struct dw_args *args, void *context)
{
	(void)context;
	return dw_task_fail(EIO, "%s", name_of((size_t)dw_args_int(args, 0), "the end of it"));
}

struct naming {
	dw_callable callable;
	int64_t *cells;
	int short_one, limit, longer, group;
	char text[512];
	size_t said;
	uint32_t retries;
};

static int submit_named(struct dw_orch *orch, const struct naming *naming, unsigned cell,
			const char *name)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.name = name;
	options.retries = naming->retries;
	return submit_one(orch, naming->callable, naming->cells + cell, DW_INOUT,
			  (int64_t)naming->said, &options, NULL);
}

static int orch_names(struct dw_orch *orch, const struct dw_args *unused,
		      const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct naming *naming = context;
	struct dw_args *args;

	(void)unused;
	(void)config;
	naming->short_one = submit_named(orch, naming, 0, name_of(254, "one"));
	naming->limit = submit_named(orch, naming, 1, name_of(255, "two"));
	submit_named(orch, naming, 2, name_of(255, "three"));
	naming->longer = submit_named(orch, naming, 3, name_of(256, "four"));
	snprintf(naming->text, sizeof(naming->text), "%s", dw_strerror_last());
	dw_args_create(&args);
	dw_args_add_int(args, 100);
	options.name = name_of(256, "five");
	naming->group = dw_submit_group(orch, naming->callable, &args, 1, NULL, &options, NULL);
	dw_args_destroy(args);
	return 0;
}

TEST_IN_BOTH_MODES(names_of_tasks)
{
	struct dw_worker *node = make_worker(3, 1, mode);
	struct naming naming = { .said = 100, .retries = 1 };
	struct dw_run_error errors[3];
	uint64_t count = 0;
	void *memory;

	CHECK_EQ(dw_callable_register_sub(node, name_of(255, "says much"), sub_says_much, NULL,
					  &naming.callable),
		 0);
	CHECK_EQ(dw_buffer_create(node, 4096, &memory), 0);
	naming.cells = memory;
	CHECK_EQ(dw_worker_init(node), 0);
	for (naming.said = 100; naming.said < 1200; naming.said += 361) {
		CHECK_EQ(dw_worker_run(node, orch_names, NULL, NULL, &naming), -EIO);
		CHECK_EQ(naming.short_one, 0);
		CHECK_EQ(naming.limit, 0);
		CHECK_EQ(naming.longer, -ENAMETOOLONG);
		CHECK_EQ(naming.group, -ENAMETOOLONG);
		CHECK_STR(naming.text, "four\" has 256 bytes; at most 255");
		CHECK(whole_characters(naming.text));
		/* All but the refused ones are tasks. */
		CHECK_EQ(dw_run_error_count(NULL, &count, NULL), 0);
		CHECK_EQ(count, 3);
		for (uint32_t i = 0; i < 3; i++) {
			static const char *const ends[] = { "one", "two", "three" };
			const char *name = errors[i].name, *callable = errors[i].callable;

			errors[i] = DW_OPTIONS(dw_run_error);
			CHECK_EQ(dw_run_error(NULL, i, &errors[i]), 0);
			/* The task, the callable, its text, and behind that the attempt. */
			CHECK_STR(errors[i].text, ends[i]);
			CHECK_STR(errors[i].text, "says much)");
			CHECK_STR(errors[i].text, "(attempt 2)");
			CHECK_STR(errors[i].text, naming.said > 300 ? "€… (a" : "the end of it (a");
			CHECK_STR(name, ends[i]);
			CHECK_STR(callable, "says much");
			CHECK(whole_characters(errors[i].text) && whole_characters(name) &&
			      whole_characters(callable));
		}
		CHECK(strcmp(errors[1].name, errors[2].name) != 0);
	}
	dw_worker_destroy(node);
}

/* The name of a callable that other processes see has room for 31 bytes. */
TEST(names_in_reports)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);
	struct naming naming = { .said = 100 };
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_tree *tree = NULL;
	void *memory;

	CHECK_EQ(dw_callable_register_sub(node, name_of(255, "says much"), sub_says_much, NULL,
					  &naming.callable),
		 0);
	CHECK_EQ(dw_buffer_create(node, 4096, &memory), 0);
	naming.cells = memory;
	CHECK_EQ(dw_worker_init(node), 0);
	dw_worker_run(node, orch_names, NULL, NULL, &naming);
	CHECK_EQ(dw_tree_open(getpid(), 0, &tree), 0);
	CHECK_EQ(dw_tree_child(tree, 0, &child), 0);
	CHECK(whole_characters(child.callable));
	CHECK_STR(child.callable, "…");
	CHECK_STR(child.callable, "says much");
	dw_tree_close(tree);
	dw_worker_destroy(node);
}

/* --------------------------------------------------------- symbols and images */

TEST(names_of_symbols)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);
	char file[PATH_MAX], symbol[20000];
	dw_callable one = 0, two = 0;

	snprintf(file, sizeof(file), "%s", beside("fixtures/symbols.so"));
	for (size_t bytes = 4094; bytes <= 4096; bytes++) {
		snprintf(symbol, sizeof(symbol), "%s:symbol_add", path_of(bytes, file));
		if (bytes < 4096)
			CHECK_EQ(dw_callable_register_symbol(node, symbol, DW_SYMBOL_SUB,
							     bytes == 4094 ? &one : &two),
				 0);
	}
	CHECK(one != two);
	CHECK_EQ(dw_callable_register_symbol(node, symbol, DW_SYMBOL_SUB, &one), -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(), "has 4096 bytes; at most 4095");
	CHECK_STR(dw_strerror_last(), ":symbol_add\"");
	for (size_t bytes = 4094; bytes <= 4095; bytes++) {
		snprintf(symbol, sizeof(symbol), "%s:%s", path_of(4000, file),
			 name_of(bytes, "is not there"));
		CHECK_EQ(dw_callable_register_symbol(node, symbol, DW_SYMBOL_SUB, &one), -ESRCH);
		CHECK_STR(dw_strerror_last(), "symbols.so defines no symbol");
		CHECK_STR(dw_strerror_last(), "is not there");
		CHECK(whole_characters(dw_strerror_last()));
	}
	snprintf(symbol, sizeof(symbol), "%s:%s", file, name_of(4096, "is not there"));
	refused(dw_callable_register_symbol(node, symbol, DW_SYMBOL_SUB, &one), "symbol",
		strrchr(symbol, ':') + 1, 4095);
	/* No file: the path is shortened, and the reason stays. */
	snprintf(symbol, sizeof(symbol), "%s:f", path_of(4000, "/nobody has this.so"));
	CHECK_EQ(dw_callable_register_symbol(node, symbol, DW_SYMBOL_SUB, &one), -ENOENT);
	CHECK_STR(dw_strerror_last(), "nobody has this.so: No such file");
	dw_worker_destroy(node);
}

static int add_image(struct dw_worker *node, const char *driver, const char *entry,
		     const char *path, dw_callable *callable)
{
	struct dw_image_options image = DW_OPTIONS(dw_image_options);

	image.driver = driver;
	image.entry = entry;
	image.path = path;
	if (!path) {
		image.data = "1";
		image.bytes = 1;
	}
	return dw_callable_register_image(node, &image, callable);
}

TEST(names_of_images)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);
	dw_callable one = 0, two = 0;
	char file[PATH_MAX];

	CHECK_EQ(add_image(node, "sim", name_of(254, "1"), NULL, &one), 0);
	CHECK_EQ(add_image(node, "sim", name_of(255, "1"), NULL, &one), 0);
	CHECK_EQ(add_image(node, "sim", name_of(255, "2"), NULL, &two), 0);
	CHECK(one != two);
	refused(add_image(node, "sim", name_of(256, "1"), NULL, &one), "entry", name_of(256, "1"),
		255);
	snprintf(file, sizeof(file), "%s", beside("fixtures/chip_kernels.so"));
	CHECK_EQ(add_image(node, "sim", "e", path_of(4094, file), &one), 0);
	CHECK_EQ(add_image(node, "sim", "e", path_of(4095, file), &one), 0);
	refused(add_image(node, "sim", "e", path_of(4096, file), &one), "path", path_of(4096, file),
		4095);
	CHECK_EQ(add_image(node, "sim", "e", path_of(4000, "/nobody has this.so"), &one), -ENOENT);
	CHECK_STR(dw_strerror_last(), "nobody has this.so: No such file");
	/* Drivers: of their form alone, since they are looked for by their chips. */
	CHECK_EQ(add_image(node, "n234567890123456789012345678901", "e", NULL, &one), 0);
	CHECK_EQ(add_image(node, path_of(4095, "/x.so"), "e", NULL, &two), 0);
	refused(add_image(node, path_of(4096, "/x.so"), "e", NULL, &one), "driver",
		path_of(4096, "/x.so"), 4095);
	CHECK_EQ(add_image(node, "n2345678901234567890123456789012", "e", NULL, &one),
		 -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(), "has 32 bytes; at most 31");
	CHECK_EQ(add_image(node, "no name", "e", NULL, &one), -EINVAL);
	CHECK_STR(dw_strerror_last(), "neither a name");
	dw_worker_destroy(node);
}

TEST(names_in_images_of_pto)
{
	struct dw_pto_image_options options = DW_OPTIONS(dw_pto_image_options);
	unsigned char *object = NULL;
	void *image = NULL;
	size_t bytes;

	options.bytes = 600;
	for (size_t length = 62; length <= 63; length++) {
		options.entry = options.config_entry = name_of(length, "1");
		free(object);
		options.data = object = pto_object_make(options.entry, options.bytes, 0);
		CHECK_EQ(dw_pto_image_build(&options, &image, &bytes), 0);
		free(image);
	}
	options.config_entry = name_of(64, "1");
	CHECK_EQ(dw_pto_image_build(&options, &image, &bytes), -E2BIG);
	CHECK_STR(dw_strerror_last(), "has 64 bytes, at most 63");
	options.entry = name_of(3000, "1");
	CHECK_EQ(dw_pto_image_build(&options, &image, &bytes), -E2BIG);
	CHECK_STR(dw_strerror_last(), "has 3000 bytes, at most 63");
	CHECK(whole_characters(dw_strerror_last()));
	free(object);
}

/* -------------------------------------------------------------------- drivers */

static int create_with_chip(const char *driver, const char *chip_options)
{
	const struct dw_chip_options chip = { .driver = driver, .options = chip_options };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;
	int result;

	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	result = dw_worker_create(3, &options, &worker);
	dw_worker_destroy(worker);
	return result;
}

TEST(names_of_drivers)
{
	struct dw_chip_driver_info info = DW_OPTIONS(dw_chip_driver_info);
	char file[PATH_MAX];
	size_t count = 0;

	CHECK_EQ(create_with_chip("n23456789012345678901234567890", NULL), 0);
	CHECK_EQ(create_with_chip("n234567890123456789012345678901", NULL), 0);
	CHECK_EQ(create_with_chip("n2345678901234567890123456789012", NULL), -ENAMETOOLONG);
	CHECK_STR(dw_strerror_last(),
		  "chips[0].driver \"n2345678901234567890123456789012\" has 32 bytes; at most 31");
	CHECK_EQ(create_with_chip(name_of(3000, "1"), NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "neither a name");
	CHECK(whole_characters(dw_strerror_last()));
	CHECK_EQ(create_with_chip(path_of(4094, "/x.so"), NULL), 0);
	CHECK_EQ(create_with_chip(path_of(4095, "/x.so"), NULL), 0);
	refused(create_with_chip(path_of(4096, "/x.so"), NULL), "chips[0].driver",
		path_of(4096, "/x.so"), 4095);
	CHECK_EQ(create_with_chip("sim", name_of(65534, "1")), 0);
	CHECK_EQ(create_with_chip("sim", name_of(65535, "1")), 0);
	refused(create_with_chip("sim", name_of(65536, "1")), "chips[0].options",
		name_of(65536, "1"), 65535);

	CHECK_EQ(dw_chip_driver_query("n2345678901234567890123456789012", &info), -ENAMETOOLONG);
	CHECK_EQ(dw_chip_driver_query("n234567890123456789012345678901", &info), -ENOENT);
	refused(dw_chip_enumerate(path_of(4096, "/x.so"), NULL, NULL,
				  sizeof(struct dw_chip_properties), &count),
		"chip driver", path_of(4096, "/x.so"), 4095);
	refused(dw_chip_enumerate("sim", name_of(65536, "1"), NULL,
				  sizeof(struct dw_chip_properties), &count),
		"options", name_of(65536, "1"), 65535);
	CHECK_EQ(dw_chip_enumerate(path_of(4000, "/nobody has this.so"), NULL, NULL,
				   sizeof(struct dw_chip_properties), &count),
		 -ENOENT);
	CHECK_STR(dw_strerror_last(), "nobody has this.so: No such file");
	/* It is another's path that is shown, as far as there is room. */
	snprintf(file, sizeof(file), "%s", beside("fixtures/chip_kernels.so"));
	CHECK_EQ(dw_chip_driver_query(path_of(4095, file), &info), -ELIBBAD);
	CHECK_STR(dw_strerror_last(), "is no chip driver");
}

static int enumerate_sim(const char *options)
{
	size_t count = 0;

	return dw_chip_enumerate("sim", options, NULL, sizeof(struct dw_chip_properties), &count);
}

TEST(options_of_drivers)
{
	char options[9000];

	for (size_t bytes = 4094; bytes <= 4096; bytes++) {
		snprintf(options, sizeof(options), "devices=%s", name_of(bytes, "1"));
		CHECK_EQ(enumerate_sim(options), -EINVAL);
		CHECK_STR(dw_strerror_last(),
			  bytes > 4095 ? "longer than 4095 bytes" : "whole number");
		CHECK(whole_characters(dw_strerror_last()));
	}
	for (size_t bytes = 30; bytes <= 32; bytes++) {
		snprintf(options, sizeof(options), "%s=1", name_of(bytes, "1"));
		CHECK_EQ(enumerate_sim(options), -EINVAL);
		CHECK_STR(dw_strerror_last(),
			  bytes > 31 ? "has a key of 32 bytes: 1 to 31" : "unknown");
		CHECK(whole_characters(dw_strerror_last()));
	}
	snprintf(options, sizeof(options), "%s", name_of(3000, "1"));
	CHECK_EQ(enumerate_sim(options), -EINVAL);
	CHECK_STR(dw_strerror_last(), "has no value: write");
	CHECK(whole_characters(dw_strerror_last()));
}

/* ---------------------------------------------------------------- trace and log */

static int init_with(const char *variable, const char *path)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);
	int result;

	setenv(variable, path, 1);
	result = dw_worker_init(node);
	unsetenv(variable);
	dw_worker_destroy(node);
	return result;
}

TEST(paths_of_traces)
{
	static const char *const variables[] = { "DW_TRACE", "DW_GRAPH" };
	char file[80], folder[64];

	snprintf(folder, sizeof(folder), "/tmp/distworker-names-%d", (int)getpid());
	CHECK_EQ(mkdir(folder, 0700), 0);
	snprintf(file, sizeof(file), "%s/t", folder);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(init_with(variables[i], path_of(4094, file)), 0);
		unlink(file);
		CHECK_EQ(init_with(variables[i], path_of(4095, file)), 0);
		unlink(file);
		/* The second tree that writes there puts its number into the name. */
		CHECK_EQ(init_with(variables[i], path_of(4095, file)), -ENAMETOOLONG);
		CHECK_STR(dw_strerror_last(), "at most 4095 ");
		refused(init_with(variables[i], path_of(4096, file)), variables[i],
			path_of(4096, file), 4095);
		CHECK_EQ(init_with(variables[i], path_of(4000, "/nobody has this/t")), -ENOENT);
		CHECK_STR(dw_strerror_last(), "nobody has this/t: cannot write this file");
		CHECK(access(file, F_OK) < 0);
	}
	CHECK_EQ(rmdir(folder), 0);
}

/* The log says it when the library is loaded. */
TEST(names_in_the_log)
{
	char exe[PATH_MAX], command[PATH_MAX + 3000], line[2048] = "";
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	FILE *output;

	exe[n > 0 ? n : 0] = '\0';
	for (size_t bytes = 500; bytes <= 2500; bytes += 500) {
		snprintf(command, sizeof(command), "DW_LOG='%s' %s nothing 2>&1 >/dev/null",
			 name_of(bytes, "loud"), exe);
		output = popen(command, "re");
		REQUIRE(output);
		CHECK(fgets(line, sizeof(line), output));
		CHECK_STR(line, "loud\"; it can be error, warn");
		CHECK(whole_characters(line));
		pclose(output);
	}
}
