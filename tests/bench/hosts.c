/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A Worker on another host, over loopback, beside one on this host and beside bare TCP.
 *
 * hosts tcp|local|remote [--count N] [--bytes N]: round trips; with --bytes, of that many bytes
 * there and as many back, each time: an INPUT and an OUTPUT of a task, whose function does nothing.
 * hosts idle [--seconds N]: what a tree with two nodes does after such trips.
 * hosts growth [--nodes N]: the time of dw_worker_init() with N nodes, and then, by kind of process
 * (the root, its spawner, a gateway, all of a node but its daemon), descriptors, threads and KiB:
 * the mean of its processes, with memory that is shared divided by those that share it.
 * --busy N: so many processes use the CPUs meanwhile.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <distworker/distworker.h>
#include <distworker/node.h>
#include "bench.h"

#define TCP_BYTES 512
#define ADDRESS 300
#define NODES_MOST 64

struct trips {
	uint64_t count;
	uint64_t bytes;		/* there, and back; 0: none */
	double *us;
	dw_callable nothing;
	struct dw_worker *worker;
	unsigned char *in, *out;
};

static void report(struct trips *trips)
{
	print("median_us", percentile(trips->us, trips->count, 0.5));
	print("p99_us", percentile(trips->us, trips->count, 0.99));
	if (trips->bytes)
		print("gib_per_s", 2 * (double)trips->bytes / (1 << 30) /
			(percentile(trips->us, trips->count, 0.5) / 1e6));
}

/* ---------------------------------------------------------------------- bare TCP */

static void move_all(int fd, void *data, size_t bytes, bool out)
{
	for (unsigned char *at = data; bytes;) {
		ssize_t n = out ? send(fd, at, bytes, MSG_NOSIGNAL) : recv(fd, at, bytes, 0);

		if (n <= 0)
			exit(n < 0);
		at += n;
		bytes -= (size_t)n;
	}
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void answer(int listening, void *data, size_t bytes)
{
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

	no_delay(fd);
	for (;;) {
		move_all(fd, data, bytes, false);
		move_all(fd, data, bytes, true);
	}
}

static void tcp_trips(struct trips *trips)
{
	size_t bytes = trips->bytes ? trips->bytes : TCP_BYTES;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	void *data = calloc(1, bytes);
	pid_t pid;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!data || bind(listening, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listening, 1) || getsockname(listening, (struct sockaddr *)&address, &length)) {
		perror("hosts tcp");
		exit(1);
	}
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		answer(listening, data, bytes);
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror("hosts tcp: connect");
		exit(1);
	}
	no_delay(fd);
	for (uint64_t i = 0; i < trips->count; i++) {
		uint64_t start = now_ns();

		move_all(fd, data, bytes, true);
		move_all(fd, data, bytes, false);
		trips->us[i] = (double)(now_ns() - start) / 1000;
	}
	end_process(pid);
}

/* ------------------------------------------------------------------------- a tree */

static int nothing(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		   void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

static dw_callable register_nothing(struct dw_worker *root)
{
	dw_callable handle;

	if (dw_callable_register_orch(root, "nothing", nothing, NULL, &handle))
		fail("dw_callable_register_orch");
	return handle;
}

static int make_trip(struct dw_orch *orch, const struct trips *trips, struct dw_args *args)
{
	struct dw_tensor in, out;
	dw_task task;

	if (trips->bytes) {
		in = bytes_tensor(trips->in, (uint32_t)trips->bytes);
		out = bytes_tensor(trips->out, (uint32_t)trips->bytes);
		dw_args_add_tensor(args, &in, DW_INPUT);
		dw_args_add_tensor(args, &out, DW_OUTPUT);
	}
	if (dw_submit(orch, trips->nothing, args, NULL, &task))
		return -1;
	return dw_orch_wait_task(orch, task);
}

static int make_trips(struct dw_orch *orch, const struct dw_args *unused,
		      const struct dw_config *config, void *context)
{
	struct trips *trips = context;
	struct dw_args *args;
	int result = dw_args_create(&args);

	(void)config;
	(void)unused;
	for (uint64_t i = 0; i < trips->count && result == 0; i++) {
		uint64_t start = now_ns();

		result = make_trip(orch, trips, args);
		trips->us[i] = (double)(now_ns() - start) / 1000;
		dw_args_reset(args);
	}
	dw_args_destroy(args);
	return result;
}

/* One Worker on each host; NULL: on this one. */
static struct dw_worker *make_tree(struct trips *trips, char hosts[][ADDRESS], uint32_t count)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *root, *worker;
	void *in = NULL, *out = NULL;

	if (dw_worker_create(4, NULL, &root))
		fail("dw_worker_create");
	for (uint32_t i = 0; i < count; i++) {
		options.host = hosts ? hosts[i] : NULL;
		options.subs = hosts ? 2 : 0;
		if (dw_worker_create(3, &options, &worker) ||
		    dw_worker_add_child(root, worker, NULL))
			fail("dw_worker_create");
	}
	trips->nothing = register_nothing(root);
	if (trips->bytes && (dw_buffer_create(root, trips->bytes, &in) ||
			     dw_buffer_create(root, trips->bytes, &out)))
		fail("dw_buffer_create");
	trips->in = in;
	trips->out = out;
	return root;
}

static struct dw_worker *tree_trips(struct trips *trips, char hosts[][ADDRESS], uint32_t count)
{
	struct dw_worker *root = make_tree(trips, hosts, count);

	if (dw_worker_init(root))
		fail("dw_worker_init");
	if (dw_worker_run(root, make_trips, NULL, NULL, trips))
		fail("dw_worker_run");
	return root;
}

/* ------------------------------------------------------------------------- a node */

static void say_address(const char *address, void *context)
{
	if (write(*(int *)context, address, strlen(address) + 1) < 0)
		exit(1);
}

/* Its key lies in a folder of its own. */
static pid_t start_node(char *address, size_t space)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	const struct passwd *user = getpwuid(geteuid());
	struct dw_worker *root;
	int said[2];
	pid_t pid;

	if (pipe2(said, O_CLOEXEC))
		exit(1);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (dw_worker_create(4, NULL, &root))
			fail("dw_worker_create");
		register_nothing(root);
		options.user = user ? user->pw_name : "root";
		options.listen = "127.0.0.1:0";
		options.listening = say_address;
		options.context = &said[1];
		if (dw_node_serve(root, &options) < 0)
			fail("dw_node_serve");
		_exit(0);
	}
	close(said[1]);
	if (read(said[0], address, space) <= 0)
		exit(1);
	close(said[0]);
	return pid;
}

static void make_key(const char *path)
{
	static const char key[] = "the key of the benchmark, which is long enough\n";
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, key, strlen(key)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
	setenv("DW_HOST_KEY", path, 1);
}

/* So many nodes, and the key that they and this process have, in a folder of its own. */
struct hosts {
	char folder[32], path[64], addresses[NODES_MOST][ADDRESS];
	pid_t pids[NODES_MOST];
	uint32_t count;
};

static void start_nodes(struct hosts *hosts, uint32_t count)
{
	strcpy(hosts->folder, "/tmp/dw-bench-XXXXXX");
	if (!mkdtemp(hosts->folder)) {
		perror(hosts->folder);
		exit(1);
	}
	snprintf(hosts->path, sizeof(hosts->path), "%s/key", hosts->folder);
	make_key(hosts->path);
	for (hosts->count = 0; hosts->count < count; hosts->count++)
		hosts->pids[hosts->count] =
			start_node(hosts->addresses[hosts->count], ADDRESS);
}

/* Once the tree is there. */
static void drop_key(const struct hosts *hosts)
{
	unlink(hosts->path);
	rmdir(hosts->folder);
}

static void end_nodes(const struct hosts *hosts)
{
	for (uint32_t i = 0; i < hosts->count; i++) {
		kill(hosts->pids[i], SIGTERM);
		waitpid(hosts->pids[i], NULL, 0);
	}
}

/* `ready`: the tree stays, and a byte says that it is there; -1: it goes. */
static void remote_trips(struct trips *trips, uint32_t count, int ready)
{
	static struct hosts hosts;
	struct dw_worker *root;

	start_nodes(&hosts, count);
	root = tree_trips(trips, hosts.addresses, count);
	drop_key(&hosts);
	if (ready >= 0 && write(ready, "", 1) == 1)
		for (;;)
			pause();
	dw_worker_destroy(root);
	end_nodes(&hosts);
}

static void idle(struct trips *trips, uint64_t seconds)
{
	int ready[2];
	pid_t owner;
	char byte;

	if (pipe(ready))
		exit(1);
	owner = fork();
	if (owner == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		remote_trips(trips, 2, ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		exit(1);
	measure_idle(owner, seconds);
	end_process(owner);
}

/* ------------------------------------------------------------------------- growth */

struct sizes {
	uint64_t processes, fds, threads, kib;
};

static uint64_t entries(pid_t pid, const char *folder)
{
	uint64_t count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, folder);
	dir = opendir(path);
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count > 2 ? count - 2 : 0;
}

static uint64_t kib_of(pid_t pid)
{
	unsigned long long kib = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "Pss: %llu", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib;
}

static void add_process(struct sizes *sizes, pid_t pid)
{
	sizes->processes++;
	sizes->fds += entries(pid, "fd");
	sizes->threads += entries(pid, "task");
	sizes->kib += kib_of(pid);
}

/* Of all threads of the process; at most `most`. */
static unsigned children_of(pid_t pid, pid_t *children, unsigned most)
{
	unsigned count = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	file = fopen(path, "re");
	while (file && count < most && fscanf(file, "%d", &children[count]) == 1)
		count++;
	if (file)
		fclose(file);
	return count;
}

static void add_all(struct sizes *sizes, pid_t pid)
{
	pid_t children[NODES_MOST];
	unsigned count = children_of(pid, children, NODES_MOST);

	add_process(sizes, pid);
	for (unsigned i = 0; i < count; i++)
		add_all(sizes, children[i]);
}

/* Per process of that kind, or per `each` where one is made of several. */
static void print_sizes(const char *name, const struct sizes *sizes, uint64_t each)
{
	char key[64];

	snprintf(key, sizeof(key), "%s_processes", name);
	print(key, (double)sizes->processes / (double)each);
	snprintf(key, sizeof(key), "%s_fds", name);
	print(key, (double)sizes->fds / (double)each);
	snprintf(key, sizeof(key), "%s_threads", name);
	print(key, (double)sizes->threads / (double)each);
	snprintf(key, sizeof(key), "%s_kib", name);
	print(key, (double)sizes->kib / (double)each);
}

/* The root's children: its spawner, which has the gateways, and the nodes. */
static void print_growth(const pid_t *nodes, uint32_t count)
{
	struct sizes root = { 0 }, spawner = { 0 }, gateways = { 0 }, sessions = { 0 };
	pid_t own[2 * NODES_MOST], below[NODES_MOST];
	unsigned all = children_of(getpid(), own, 2 * NODES_MOST), found;

	add_process(&root, getpid());
	for (unsigned i = 0; i < all; i++) {
		bool is_node = false;

		for (uint32_t k = 0; k < count; k++)
			is_node = is_node || own[i] == nodes[k];
		found = children_of(own[i], below, NODES_MOST);
		if (!is_node)
			add_process(&spawner, own[i]);
		for (unsigned k = 0; k < found; k++)
			if (is_node)
				add_all(&sessions, below[k]);
			else
				add_process(&gateways, below[k]);
	}
	print_sizes("root", &root, 1);
	print_sizes("spawner", &spawner, 1);
	print_sizes("gateway", &gateways, count);
	print_sizes("node", &sessions, count);
}

static void growth(struct trips *trips, uint32_t count)
{
	static struct hosts hosts;
	struct dw_worker *root;
	uint64_t start;

	if (count < 1 || count > NODES_MOST)
		exit(2);
	start_nodes(&hosts, count);
	root = make_tree(trips, hosts.addresses, count);
	start = now_ns();
	if (dw_worker_init(root))
		fail("dw_worker_init");
	print("init_ms", (double)(now_ns() - start) / 1e6);
	drop_key(&hosts);
	if (dw_worker_run(root, make_trips, NULL, NULL, trips))
		fail("dw_worker_run");
	print_growth(hosts.pids, count);
	start = now_ns();
	dw_worker_destroy(root);
	print("close_ms", (double)(now_ns() - start) / 1e6);
	end_nodes(&hosts);
}

int main(int argc, char **argv)
{
	struct trips trips = {
		.count = argument(argc, argv, "count", 20000),
		.bytes = argument(argc, argv, "bytes", 0),
	};
	uint64_t busy = argument(argc, argv, "busy", 0);

	trips.us = calloc(trips.count, sizeof(*trips.us));
	if (argc < 2 || !trips.us)
		return 2;
	for (uint64_t i = 0; i < busy; i++)
		start_burner(-1);
	if (!strcmp(argv[1], "tcp")) {
		tcp_trips(&trips);
	} else if (!strcmp(argv[1], "local")) {
		dw_worker_destroy(tree_trips(&trips, NULL, 1));
	} else if (!strcmp(argv[1], "remote")) {
		remote_trips(&trips, 1, -1);
	} else if (!strcmp(argv[1], "idle")) {
		trips.count = 1000;
		idle(&trips, argument(argc, argv, "seconds", 10));
		return 0;
	} else if (!strcmp(argv[1], "growth")) {
		trips.count = 100;
		growth(&trips, (uint32_t)argument(argc, argv, "nodes", 1));
		return 0;
	} else {
		return 2;
	}
	report(&trips);
	return 0;
}
