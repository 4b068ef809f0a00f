/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Symbols of shared objects that a node does not have: they come from home into its folder
 * (dw_node_options.objects), once for all trees. The node is in a mount namespace in which the
 * folder of the object is empty.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <sched.h>
#include <sys/mount.h>
#include "hosts.h"

static struct host_node node, second;
static char home[96], library[128], kept[96];

/* ------------------------------------------------------------------------ files */

static bool copy(const char *from, const char *to)
{
	static char bytes[1 << 20];
	FILE *file = fopen(from, "re");
	size_t count = file ? fread(bytes, 1, sizeof(bytes), file) : 0;

	if (file)
		fclose(file);
	file = fopen(to, "we");
	if (!file)
		return false;
	return fwrite(bytes, 1, count, file) == count && fclose(file) == 0 && count;
}

static uint32_t files_in(const char *folder, char name[NAME_MAX + 1])
{
	DIR *list = opendir(folder);
	struct dirent *entry;
	uint32_t count = 0;

	while (list && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
		count++;
	}
	if (list)
		closedir(list);
	return count;
}

static ino_t kept_inode(void)
{
	char name[NAME_MAX + 1] = "", path[NAME_MAX + 100];
	struct stat stat;

	CHECK_EQ(files_in(kept, name), 1);
	snprintf(path, sizeof(path), "%s/%s", kept, name);
	CHECK(strncmp(name, "libjob.so.", 10) == 0 && lstat(path, &stat) == 0);
	return stat.st_ino;
}

static void make_folders(void)
{
	snprintf(home, sizeof(home), "%s/home", host_folder);
	snprintf(kept, sizeof(kept), "%s/kept", host_folder);
	snprintf(library, sizeof(library), "%s/libjob.so", home);
	CHECK(mkdir(home, 0755) == 0 && mkdir(kept, 0700) == 0);
	CHECK(copy(beside("fixtures/symbols.so"), library));
}

static void drop_folders(void)
{
	char name[NAME_MAX + 1], path[NAME_MAX + 100];

	while (files_in(kept, name)) {
		snprintf(path, sizeof(path), "%s/%s", kept, name);
		CHECK_EQ(unlink(path), 0);
	}
	unlink(library);
	CHECK(rmdir(home) == 0 && rmdir(kept) == 0);
}

/* ------------------------------------------------------------------------ the node */

static bool hides_kept; /* the folder of the other node, too */

/* Where this host's objects are not. */
static bool hide_home(void)
{
	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)))
		return false;
	mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return mount("none", home, "tmpfs", 0, NULL) == 0 &&
	       (!hides_kept || mount("none", kept, "tmpfs", 0, NULL) == 0);
}

static bool can_hide(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!hide_home());
	waitpid(pid, &status, 0);
	return status == 0;
}

static const char *refusal(void)
{
#ifdef __SANITIZE_THREAD__
	if (geteuid() != 0)
		return "TSan has a thread of its own: a process with threads makes no user "
		       "namespace";
#endif
	return "a mount namespace is refused";
}

/* ------------------------------------------------------------------------ functions */

static dw_callable first, passed;

/* Hands it on, to a Worker below. */
static int orch_pass(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	char symbol[160];
	dw_callable handle;
	int result;

	(void)config;
	(void)context;
	snprintf(symbol, sizeof(symbol), "%s:symbol_orch", library);
	result = dw_orch_find(orch, symbol, &handle);
	return result < 0 ? result :
			    submit_one(orch, handle, dw_args_data(args, 0), DW_INOUT,
				       dw_args_int(args, 0), NULL, NULL);
}

static void program(struct dw_worker *root)
{
	dw_callable add;

	CHECK_EQ(dw_callable_register_sub(root, "add", sub_add, NULL, &add), 0);
	CHECK_EQ(dw_callable_register_orch(root, "pass", orch_pass, NULL, &passed), 0);
}

static void program_there(struct dw_worker *root)
{
	program(root);
	CHECK(hide_home());
	CHECK(access(library, F_OK) < 0);
}

static void start(struct host_node *on, const char *folder)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);

	options.objects = folder;
	host_start(on, program_there, &options);
}

/* ------------------------------------------------------------------------ the tree */

static struct dw_worker *root;
static int64_t *value;

/* Of two levels, the lower one on a node; or of three, on three hosts. */
static void create_tree(bool three)
{
	struct dw_worker *worker;

	root = make_worker(three ? DW_LEVEL_SUPERNODE : DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	CHECK_EQ(dw_buffer_create(root, sizeof(*value), (void **)&value), 0);
	worker = three ? host_worker(root, DW_LEVEL_POD, 1, &node) : root;
	host_worker(worker, DW_LEVEL_NODE, 1, three ? &second : &node);
}

static void destroy_tree(void)
{
	CHECK_EQ(dw_worker_close(root), 0);
	dw_worker_destroy(root);
}

static int register_symbol(void)
{
	char symbol[160];

	snprintf(symbol, sizeof(symbol), "%s:symbol_orch", library);
	return dw_callable_register_symbol(root, symbol, DW_SYMBOL_ORCH, &first);
}

static int run_orch(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(dw_callable *)context, value, DW_INOUT, 5, NULL, NULL);
}

static void runs(dw_callable callable)
{
	*value = 1;
	if (!CHECK_EQ(dw_worker_run(root, run_orch, NULL, NULL, &callable), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(*value, 6);
}

#define OBJECT_TEST(test_name) \
	static void test_name##_in_folders(void); \
	HOST_TEST(test_name) \
	{ \
		bool possible; \
\
		make_folders(); \
		possible = can_hide(); \
		if (possible) \
			test_name##_in_folders(); \
		drop_folders(); \
		if (!possible) \
			SKIP(refusal()); \
	} \
	static void test_name##_in_folders(void)

OBJECT_TEST(an_object_that_a_node_lacks_comes_from_home_once_for_all_trees)
{
	ino_t there;

	start(&node, kept);
	create_tree(false);
	CHECK_EQ(register_symbol(), 0);
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	runs(first);
	there = kept_inode();
	destroy_tree();
	/* What is kept needs no file at home. */
	create_tree(false);
	CHECK_EQ(register_symbol(), 0);
	CHECK_EQ(unlink(library), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	runs(first);
	CHECK_EQ(kept_inode(), there);
	destroy_tree();
	host_stop(&node);
}

OBJECT_TEST(a_symbol_that_is_registered_later_brings_its_object)
{
	char symbol[160];
	dw_callable handle;

	start(&node, kept);
	create_tree(false);
	CHECK_EQ(dw_worker_init(root), 0);
	if (!CHECK_EQ(register_symbol(), 0))
		printf("# %s\n", dw_strerror_last());
	runs(first);
	kept_inode();
	/* The same file; then another one under the same path. */
	CHECK_EQ(register_symbol(), 0);
	CHECK_EQ(dw_callable_unregister(root, first), 0);
	CHECK_EQ(unlink(library), 0);
	CHECK(copy(beside("fixtures/symbols_other.so"), library));
	snprintf(symbol, sizeof(symbol), "%s:symbol_add", library);
	CHECK_EQ(dw_callable_register_symbol(root, symbol, DW_SYMBOL_SUB, &handle), 0);
	CHECK_EQ(files_in(kept, (char[NAME_MAX + 1]){ 0 }), 2);
	destroy_tree();
	host_stop(&node);
}

OBJECT_TEST(an_object_crosses_two_borders)
{
	char folder[112], path[NAME_MAX + 120], name[NAME_MAX + 1];

	snprintf(folder, sizeof(folder), "%s/second", host_folder);
	CHECK_EQ(mkdir(folder, 0700), 0);
	start(&node, kept);
	hides_kept = true;
	start(&second, folder);
	hides_kept = false;
	create_tree(true);
	CHECK_EQ(register_symbol(), 0);
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	runs(passed);
	CHECK_EQ(files_in(folder, name), 1);
	destroy_tree();
	host_stop(&second);
	host_stop(&node);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(rmdir(folder), 0);
}

OBJECT_TEST(a_node_without_a_folder_refuses_the_symbol)
{
	start(&node, NULL);
	create_tree(false);
	CHECK_EQ(dw_worker_init(root), 0);
	CHECK_EQ(register_symbol(), -ENOENT);
	check_text("libjob.so: No such file or directory");
	check_text("(on host 127.0.0.1:");
	destroy_tree();
	host_stop(&node);
}

/* ------------------------------------------------------------------------ refusals */

OBJECT_TEST(an_object_that_has_changed_at_home_is_refused)
{
	start(&node, kept);
	create_tree(false);
	CHECK_EQ(register_symbol(), 0);
	CHECK_EQ(unlink(library), 0);
	CHECK_EQ(dw_worker_init(root), -ENOENT);
	check_text("host 127.0.0.1:");
	check_text("at home: shared object ");
	CHECK(copy(beside("fixtures/symbols_other.so"), library));
	CHECK_EQ(dw_worker_init(root), -ESTALE);
	check_text("libjob.so has changed since \"symbol_orch\" was registered");
	CHECK(copy(beside("fixtures/symbols.so"), library));
	CHECK_EQ(truncate(library, (64 << 20) + 1), 0);
	CHECK_EQ(dw_worker_init(root), -EFBIG);
	check_text("67108865 bytes; at most 67104768 travel");
	CHECK_EQ(files_in(kept, (char[NAME_MAX + 1]){ 0 }), 0);
	CHECK_EQ(truncate(library, 60 << 20), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	runs(first);
	destroy_tree();
	host_stop(&node);
}

static int serve_with(const char *folder)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);

	options.user = host_user();
	options.listen = "127.0.0.1:0";
	options.idle_timeout_ns = 1;
	options.objects = folder;
	return dw_node_serve(NULL, &options);
}

/* ------------------------------------------------------------- functions of the program */

static const char *build; /* the file that the program's function is in */

static void program_of_build(struct dw_worker *of)
{
	void *object = dlopen(beside(build), RTLD_LAZY | RTLD_LOCAL);
	dw_sub_fn *add = NULL;
	dw_callable handle;

	if (CHECK(object != NULL))
		*(void **)&add = dlsym(object, "symbol_add");
	CHECK_EQ(dw_callable_register_sub(of, "add", add, NULL, &handle), 0);
}

/* In processes of their own, whose handles are as fresh as the node's. */
static void body_of_builds(void)
{
	char there[41] = "", own[41] = "";
	const char *text;

	build = "fixtures/symbols_other.so";
	host_start(&node, program_of_build, NULL);
	build = "fixtures/symbols.so";
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program_of_build(root);
	host_worker(root, DW_LEVEL_NODE, 1, &node);
	CHECK_EQ(dw_worker_init(root), -ESTALE);
	check_text(node.address);
	text = strstr(dw_strerror_last(), "function \"add\"");
	CHECK(text && sscanf(text,
			     "function \"add\" is of another program here, with build-id "
			     "%40[0-9a-f]; that of the tree has %40[0-9a-f]: both hosts need",
			     there, own) == 2);
	CHECK_EQ(strlen(there), 40);
	CHECK_EQ(strlen(own), 40);
	CHECK(strcmp(there, own) != 0);
	destroy_tree();
	host_stop(&node);
}

HOST_TEST(a_function_of_another_build_is_refused_with_both_build_ids)
{
	apart(body_of_builds);
}

/* ------------------------------------------------------------------------ folders */

HOST_TEST(a_folder_that_others_may_write_to_is_refused)
{
	make_folders();
	CHECK_EQ(serve_with(kept), 0);
	CHECK_EQ(chmod(kept, 0770), 0);
	CHECK_EQ(serve_with(kept), -EACCES);
	check_text("with mode 770: this process loads what is in it");
	CHECK_EQ(chmod(kept, 0700), 0);
	CHECK_EQ(serve_with(library), -ENOTDIR);
	CHECK_EQ(serve_with("/nowhere/at/all"), -ENOENT);
	check_text("the folder for shared objects, /nowhere/at/all: No such file");
	if (geteuid() == 0) {
		CHECK_EQ(chown(kept, 65534, 65534), 0);
		CHECK_EQ(serve_with(kept), -EACCES);
		check_text("is of user 65534");
	}
	drop_folders();
}
