/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A node whose process has something else at an address of the tree's memory: its session starts
 * the node's program again, until the address is free there. The node is this program, executed
 * with NODE in the environment, and takes the address itself in its first starts.
 */
#include <sys/mman.h>
#include <distworker/launch.h>
#include "hosts.h"

#define NODE "TEST_HOSTS_AGAIN"
#define BYTES (4u << 20)
/* From the test to the node, over all of its starts. */
#define ADDRESS_FD 200
#define STARTS_FD 201
#define STOP_FD 202
/* Ranks of a launcher have this in the environment, and memory where arenas lie (arena.c). */
#define RANKED "TEST_HOSTS_AGAIN_RANKS"
#ifdef __SANITIZE_THREAD__
#define RANKS_ADDRESS 0x1a50000000ULL
#else
#define RANKS_ADDRESS 0x2a5000000000ULL
#endif

static dw_callable add;

/* Tensor 0 becomes itself and the scalar. The memory is the tree's, at its addresses. */
static int orch_add(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	unsigned char *bytes = dw_args_data(args, 0);

	(void)orch;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < BYTES; i++)
		bytes[i] = (unsigned char)(bytes[i] + dw_args_int(args, 0));
	return 0;
}

static void program(struct dw_worker *root)
{
	CHECK_EQ(dw_callable_register_orch(root, "add", orch_add, NULL, &add), 0);
}

/* ------------------------------------------------------------------------- the node */

/* NODE has the address, and in how many starts it is taken, this one included. */
static void take_address(const char *text)
{
	unsigned long long address, times;
	char next[64];
	void *taken;

	if (sscanf(text, "%llx %llu", &address, &times) != 2)
		_exit(1);
	if (!times)
		return;
	taken = mmap((void *)(uintptr_t)(address + BYTES / 2), 4096, PROT_READ,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (taken == MAP_FAILED && errno != EEXIST)
		_exit(1);
	snprintf(next, sizeof(next), "%llx %llu", address, times - 1);
	setenv(NODE, next, 1);
}

static void serve_node(void)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	struct dw_worker *root;
	int address = ADDRESS_FD;

	if (write(STARTS_FD, "s", 1) != 1 || dw_worker_create(DW_LEVEL_CLUSTER, NULL, &root) < 0)
		_exit(1);
	program(root);
	options.user = host_user();
	options.listen = "127.0.0.1:0";
	options.stop_fd = STOP_FD;
	options.listening = host_listening;
	options.context = &address;
	if (dw_node_serve(root, &options) < 0)
		printf("# node: %s\n", dw_strerror_last());
	_exit(unit_failures != 0);
}

static void be_rank(void);

/* Before main(), which would run the tests. */
__attribute__((constructor)) static void be_another(void)
{
	if (getenv(NODE))
		take_address(getenv(NODE));
	if (getenv(RANKED))
		be_rank();
	else if (getenv(NODE))
		serve_node();
}

static int starts; /* a pipe: a byte for each */

/* Its memory is taken in the node's first `times` starts. */
static void start_node(struct host_node *node, void *memory, unsigned times)
{
	int address[2], stop[2], counted[2];
	char text[64];

	CHECK_EQ(pipe2(address, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(stop, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(counted, O_CLOEXEC | O_NONBLOCK), 0);
	fflush(stdout);
	node->pid = fork();
	if (node->pid == 0) {
		snprintf(text, sizeof(text), "%llx %u", (unsigned long long)(uintptr_t)memory,
			 times);
		setenv(NODE, text, 1);
		if (dup2(address[1], ADDRESS_FD) < 0 || dup2(counted[1], STARTS_FD) < 0 ||
		    dup2(stop[0], STOP_FD) < 0)
			_exit(1);
		execl("/proc/self/exe", "test_hosts_again", NULL);
		_exit(1);
	}
	chain_bystanders++;
	close(address[1]);
	close(stop[0]);
	close(counted[1]);
	starts = counted[0];
	node->stop = stop[1];
	CHECK(read(address[0], node->address, sizeof(node->address)) > 0);
	close(address[0]);
}

static int count_starts(void)
{
	char bytes[64];

	return (int)read(starts, bytes, sizeof(bytes));
}

/* ----------------------------------------------------------------------- the tree */

static struct dw_worker *make_tree(const struct host_node *node, void *memory)
{
	struct dw_worker *root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);

	program(root);
	host_worker(root, DW_LEVEL_NODE, 0, node);
	CHECK_EQ(dw_buffer_register(root, memory, BYTES), 0);
	return root;
}

/* At that place; NULL: anywhere. */
static void *map_memory(void *place)
{
	void *memory = mmap(place, BYTES, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | (place ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

static int orch_tree(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	uint32_t bytes = BYTES;
	struct dw_tensor tensor;
	struct dw_args *own;
	int result;

	(void)args;
	(void)config;
	CHECK_EQ(dw_tensor_init(&tensor, context, DW_UINT8, &bytes, 1), 0);
	CHECK_EQ(dw_args_create(&own), 0);
	dw_args_add_tensor(own, &tensor, DW_INOUT);
	dw_args_add_int(own, 7);
	result = dw_submit(orch, add, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

/* A task changes each byte of the memory, on the other host. */
static void init_and_run(struct dw_worker *root, unsigned char *memory)
{
	uint32_t wrong = 0;

	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < BYTES; i++)
		memory[i] = (unsigned char)(i % 251);
	if (!CHECK_EQ(dw_worker_run(root, orch_tree, NULL, NULL, memory), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < BYTES; i++)
		wrong += memory[i] != (unsigned char)(i % 251 + 7);
	CHECK_EQ(wrong, 0);
}

static void serves_after(unsigned times)
{
	unsigned char *memory = map_memory(NULL);
	struct dw_worker *root;
	struct host_node node;
	pid_t session;

	start_node(&node, memory, times);
	root = make_tree(&node, memory);
	init_and_run(root, memory);
	CHECK_EQ(count_starts(), times + 1);
	/* It is the node's child, as it was, and ends with its connection. */
	session = host_session(&node);
	CHECK(session > 0);
	dw_worker_destroy(root);
	CHECK(is_over(session));
	host_stop(&node);
	close(starts);
	munmap(memory, BYTES);
}

HOST_TEST(a_session_whose_addresses_are_taken_starts_its_program_again)
{
	serves_after(1);
}

HOST_TEST(a_session_tries_eight_times_more)
{
	serves_after(8);
}

HOST_TEST(a_session_whose_addresses_stay_taken_refuses_the_tree_by_name)
{
	unsigned char *memory = map_memory(NULL);
	struct dw_worker *root;
	struct host_node node;
	char range[64];

	start_node(&node, memory, 100);
	root = make_tree(&node, memory);
	CHECK_EQ(dw_worker_init(root), -EEXIST);
	check_text("pod0/node0: host ");
	check_text(node.address);
	snprintf(range, sizeof(range), "cannot map the tree's memory, %#llx to %#llx",
		 (unsigned long long)(uintptr_t)memory,
		 (unsigned long long)(uintptr_t)memory + BYTES);
	check_text(range);
	check_text("this session has started its program again 8 times");
	CHECK_EQ(count_starts(), 9);
	dw_worker_destroy(root);
	host_stop(&node);
	close(starts);
	munmap(memory, BYTES);
}

/* The session goes without its tree, and the node's death takes it along, as any other. */
HOST_TEST(a_session_that_has_started_again_dies_with_its_node)
{
	unsigned char *memory = map_memory(NULL);
	struct dw_worker *root;
	struct host_node node;
	pid_t session;

	start_node(&node, memory, 1);
	root = make_tree(&node, memory);
	CHECK_EQ(dw_worker_init(root), 0);
	session = host_session(&node);
	CHECK_EQ(kill(node.pid, SIGKILL), 0);
	CHECK_EQ(waitpid(node.pid, NULL, 0), node.pid);
	chain_bystanders--;
	CHECK(is_over(session));
	dw_worker_destroy(root);
	close(node.stop);
	close(starts);
	munmap(memory, BYTES);
}

/* ------------------------------------------------------------------------ a launcher */

/* One of two processes of mpirun: rank 1 is the node, and its first start has the address taken. */
static void be_rank(void)
{
	struct host_node node = { .pid = 0 };
	struct dw_launch *launch;
	char text[64];
	struct dw_worker *root;
	struct dw_node_options options = DW_OPTIONS(dw_node_options);

	unit_bound(UNIT_SECONDS);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!CHECK_EQ(dw_launch_create(NULL, &launch), 0)) {
		printf("# %s\n", dw_strerror_last());
		_exit(1);
	}
	CHECK_EQ(dw_launch_size(launch), 2);
	if (dw_launch_rank(launch)) {
		printf("rank %u starts\n", dw_launch_rank(launch));
		if (!getenv(NODE)) {
			snprintf(text, sizeof(text), "%llx 1", RANKS_ADDRESS);
			take_address(text);
		}
		CHECK_EQ(dw_worker_create(DW_LEVEL_CLUSTER, NULL, &root), 0);
		program(root);
		options.user = host_user();
		if (!CHECK_EQ(dw_launch_serve(launch, root, &options), 0))
			printf("# %s\n", dw_strerror_last());
		_exit(unit_failures != 0);
	}
	snprintf(node.address, sizeof(node.address), "%s", dw_launch_host(launch, 1));
	root = make_tree(&node, map_memory((void *)RANKS_ADDRESS));
	init_and_run(root, (void *)RANKS_ADDRESS);
	dw_worker_destroy(root);
	_exit(unit_failures != 0);
}

HOST_TEST(a_rank_whose_addresses_are_taken_starts_its_program_again)
{
	char self[1024], command[2048], line[512];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int counted = 0;
	FILE *out;

	if (system("command -v mpirun >/dev/null") != 0)
		SKIP("mpirun (openmpi-bin) is not installed");
	REQUIRE(length > 0);
	self[length] = '\0';
	snprintf(command, sizeof(command),
		 RANKED "=1 mpirun --allow-run-as-root --oversubscribe -n 2 '%s' 2>&1", self);
	out = popen(command, "re");
	REQUIRE(out != NULL);
	while (fgets(line, sizeof(line), out)) {
		counted += strcmp(line, "rank 1 starts\n") == 0;
		if (line[0] == '#')
			fputs(line, stdout);
	}
	CHECK_EQ(pclose(out), 0);
	/* Without a second look for the launcher, which a rank meets once. */
	CHECK_EQ(counted, 2);
}
