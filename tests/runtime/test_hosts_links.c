/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Workers on other hosts whose network breaks: the node has a network namespace of its own, with a
 * link to the tree's. Both sides must notice without a packet that tells them, and everything that
 * ran there must end. Skipped where no namespace can be made, or iproute2 is missing.
 */
#define UNIT_SECONDS 250
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include "hosts.h"

#define HERE "10.77.0.1"
#define THERE "10.77.0.2"

static struct host_node node;
#define SLOW_BYTES (10u << 20)

static dw_callable take;
static int other_net = -1;		/* the node's network namespace */
static pid_t keeper;			/* the process that it was made by */

static void program(struct dw_worker *root)
{
	chain_register(root);
	CHECK_EQ(dw_callable_register_orch(root, "take", orch_nothing, NULL, &take), 0);
}

/* In the node's process, before it listens. */
static void program_there(struct dw_worker *root)
{
	CHECK_EQ(setns(other_net, CLONE_NEWNET), 0);
	program(root);
}

static void here(const char *command)
{
	if (!CHECK_EQ(system(command), 0))
		printf("# %s\n", command);
}

static void there(const char *command)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(setns(other_net, CLONE_NEWNET) || system(command) ? 1 : 0);
	waitpid(pid, &status, 0);
	if (!CHECK_EQ(status, 0))
		printf("# there: %s\n", command);
}

static bool make_net(void)
{
	char command[256], path[64];
	int ready[2];
	char byte;

	CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
	keeper = fork();
	if (keeper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (!CHECK_EQ(read(ready[0], &byte, 1), 1))
		return false;
	close(ready[0]);
	close(ready[1]);
	chain_bystanders++;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)keeper);
	other_net = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(command, sizeof(command),
		 "ip link set lo up && ip link add here type veth peer name there netns %d && "
		 "ip addr add " HERE "/24 dev here && ip link set here up",
		 (int)keeper);
	here(command);
	there("ip link set lo up && ip addr add " THERE "/24 dev there && ip link set there up");
	return other_net >= 0;
}

static void drop_net(void)
{
	kill(keeper, SIGKILL);
	waitpid(keeper, NULL, 0);
	chain_bystanders--;
	close(other_net);
}

/* A chain whose node is there, with a timeout of a second. */
static void up(enum dw_restart restart)
{
	struct dw_node_options there_options = DW_OPTIONS(dw_node_options);
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	say_prepare();
	if (!make_net())
		return;
	there_options.listen = THERE ":0";
	host_start(&node, program_there, &there_options);
	options.host_timeout_ns = SECOND_NS;
	options.init_timeout_ns = 120 * SECOND_NS;
	options.restart = restart;
	options.restart_limit = 2;
	chain_hosts[1] = node.address;
	chain_init(2, 1, 0, &options);
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
}

static void down(void)
{
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
	host_stop(&node);
	drop_net();
}

/* While a task hangs there: nothing is on its way but the kernels' probes. */
static void breaks(void (*how)(void), const char *event, const char *text)
{
	struct order order = { .depth = 1, .how = BREAK_HANG };
	struct dw_run *run;
	pid_t sub, session;

	up(DW_RESTART_NEVER);
	run = chain_start(&order, 0);
	sub = heard();
	session = host_session(&node);
	how();
	host_event();
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	host_took(event);
	check_text("pod0/node0: task 1 \"deep\" (down): EOWNERDEAD: host " THERE);
	check_text(text);
	CHECK(is_over(sub) && is_over(session));
	down();
}

static void link_goes_down(void)
{
	there("ip link set there down");
}

static void answers_are_lost(void)
{
	there("ip route add blackhole " HERE "/32");
}

static void questions_are_lost(void)
{
	here("ip route add blackhole " THERE "/32");
}

static void body_down(void)
{
	breaks(link_goes_down, "the link goes down while a task runs, host_timeout_ns 1 s",
	       "no answer for 1.0 s");
}

static void body_answers(void)
{
	breaks(answers_are_lost, "answers are lost, host_timeout_ns 1 s", "no answer for 1.0 s");
}

static void body_questions(void)
{
	/* The node gives up equally early, and its last message may arrive first. */
	breaks(questions_are_lost, "questions are lost, host_timeout_ns 1 s", "host " THERE);
}

static void connection_is_killed(void)
{
	here("ss -K -tn dst " THERE " >/dev/null");
}

static void connection_is_killed_there(void)
{
	there("ss -K -tn dst " HERE " >/dev/null");
}

static void body_killed(void)
{
	breaks(connection_is_killed, "the connection is ended here (ss -K)",
	       "Software caused connection abort");
}

static void body_killed_there(void)
{
	breaks(connection_is_killed_there, "the connection is ended there (ss -K)", "");
}

/* With data on its way. The node may have got part of it. */
static void body_busy(void)
{
	struct order order = { .depth = 1, .how = BREAK_NOT };
	pid_t session;

	up(DW_RESTART_NEVER);
	session = host_session(&node);
	link_goes_down();
	host_event();
	CHECK_EQ(chain_run(order), -EOWNERDEAD);
	host_took("the link is down when a task is sent, host_timeout_ns 1 s");
	check_text("no answer for 1.0 s");
	CHECK(is_over(session));
	down();
}

/*
 * Sockets of this network namespace in that state whose peer is the node's host; *rto_ms is how
 * long the kernel waits before it sends again, of one of them.
 */
static unsigned sockets_in(unsigned wanted, unsigned *rto_ms)
{
	FILE *file = fopen("/proc/net/tcp", "re");
	unsigned count = 0, peer, state, ticks;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*u: %*s %x:%*x %x %*s %*s %*s %*u %*u %*u %*u %*s %u", &peer,
			   &state, &ticks) != 3 || peer != inet_addr(THERE) || state != wanted)
			continue;
		count++;
		*rto_ms = ticks * 1000 / (unsigned)sysconf(_SC_CLK_TCK);
	}
	if (file)
		fclose(file);
	return count;
}

/* Answers the question for the hardware address once it was asked in vain: a second later. */
static pid_t answer_late(void)
{
	unsigned rto_ms;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!sockets_in(TCP_SYN_SENT, &rto_ms))
			pause_ms(1);
		there("ip link set there arp on");
		_exit(unit_failures ? 1 : 0);
	}
	chain_bystanders++;
	return pid;
}

/*
 * The kernel counts its timeout from the first packet that it sends again, and it waits with that
 * for as long as its estimate of the round trip says: with a first one of a second it gave up after
 * 3.8 to 4.6 s. The proof that it did not give up is the socket that the gateway has left.
 */
static void body_late(void)
{
	struct dw_node_options there_options = DW_OPTIONS(dw_node_options);
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .depth = 1, .how = BREAK_NOT };
	unsigned rto_ms = 0;
	int status = -1;
	pid_t late;

	say_prepare();
	if (!make_net())
		return;
	there_options.listen = THERE ":0";
	host_start(&node, program_there, &there_options);
	there("ip link set there arp off");
	late = answer_late();
	options.host_timeout_ns = SECOND_NS;
	options.init_timeout_ns = 120 * SECOND_NS;
	chain_hosts[1] = node.address;
	chain_init(2, 1, 0, &options);
	CHECK_EQ(waitpid(late, &status, 0), late);
	CHECK_EQ(status, 0);
	chain_bystanders--;
	CHECK_EQ(sockets_in(TCP_ESTABLISHED, &rto_ms), 1);
	CHECK(rto_ms > 1500);
	link_goes_down();
	host_event();
	CHECK_EQ(chain_run(order), -EOWNERDEAD);
	CHECK_EQ(sockets_in(TCP_FIN_WAIT1, &rto_ms), 1);
	host_took("the link is down when a task is sent, after a first round trip of 1 s");
	check_text("no answer for 1.0 s");
	down();
}

/* It heals before the timeout: nothing is lost. */
static void body_heals(void)
{
	struct order order = { .depth = 1, .how = BREAK_SLOW, .detail = 300 };
	struct dw_run *run;

	up(DW_RESTART_NEVER);
	run = chain_start(&order, 0);
	heard();
	there("ip link set there down");
	there("ip link set there up");
	if (!CHECK_EQ(dw_run_wait(run), 0))
		printf("# %s\n", dw_strerror_last());
	down();
}

/* Connections of this network namespace that were tried, and did not come about. */
static unsigned long failed_attempts(void)
{
	FILE *file = fopen("/proc/net/snmp", "re");
	unsigned long failed = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Tcp: %*d %*d %*d %*d %*d %*d %lu", &failed);
	if (file)
		fclose(file);
	return failed;
}

/* The network stays silent for longer than a connection is tried, and heals then. */
static void body_redial(void)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct order order = { .depth = 1, .how = BREAK_HANG };
	unsigned long before = failed_attempts();
	struct dw_run *run;

	up(DW_RESTART_ON_DEATH);
	run = chain_start(&order, 0);
	CHECK(heard() > 0);
	answers_are_lost();
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	while (failed_attempts() == before)
		pause_ms(10);
	there("ip route del blackhole " HERE "/32");
	if (!CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	CHECK_EQ(stats.deaths, 1);
	CHECK_EQ(stats.restarts, 1);
	down();
}

/* Bytes that have left for the node, those of the headers included. */
static uint64_t sent_there(void)
{
	FILE *file = fopen("/proc/self/net/dev", "re");
	unsigned long long sent = 0;
	char line[512], *fields;

	while (file && fgets(line, sizeof(line), file)) {
		fields = strchr(line, ':');
		if (fields && strstr(line, " here:"))
			sscanf(fields + 1, "%*u %*u %*u %*u %*u %*u %*u %*u %llu", &sent);
	}
	if (file)
		fclose(file);
	return sent;
}

struct slow {
	void *memory;
	uint32_t bytes;
};

static int orch_slow(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	const struct slow *slow = context;
	struct dw_tensor tensor;
	struct dw_args *own;

	(void)args;
	(void)config;
	CHECK_EQ(dw_tensor_init(&tensor, slow->memory, DW_UINT8, &slow->bytes, 1), 0);
	CHECK_EQ(dw_args_create(&own), 0);
	CHECK_EQ(dw_args_add_tensor(own, &tensor, DW_INPUT), 0);
	CHECK_EQ(dw_submit(orch, take, own, NULL, NULL), 0);
	dw_args_destroy(own);
	return 0;
}

/* The task's input takes four seconds: its run is cancelled when the first bytes have left. */
static void body_slow(void)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	struct dw_worker *root;
	struct dw_run *run = NULL;
	uint64_t before;
	struct slow slow = { .bytes = SLOW_BYTES };

	if (!make_net())
		return;
	options.listen = THERE ":0";
	host_start(&node, program_there, &options);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	host_worker(root, DW_LEVEL_NODE, 0, &node);
	CHECK_EQ(dw_buffer_create(root, slow.bytes, &slow.memory), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	here("tc qdisc add dev here root tbf rate 20mbit burst 64kbit latency 5s");
	before = sent_there();
	CHECK_EQ(dw_worker_start(root, orch_slow, NULL, NULL, &slow, NULL, &run), 0);
	while (sent_there() - before < SLOW_BYTES / 100)
		pause_ms(1);
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK(sent_there() - before < SLOW_BYTES / 2);
	here("tc qdisc del dev here root");
	if (!CHECK_EQ(dw_worker_run(root, orch_slow, NULL, NULL, &slow), 0))
		printf("# %s\n", dw_strerror_last());
	dw_worker_destroy(root);
	host_stop(&node);
	drop_net();
}

static const char *why_not;

static void try_namespace(void)
{
	/* The ip of busybox moves no link to another namespace. */
	CHECK(unshare(CLONE_NEWNET) == 0 &&
	      system("(ip -V | grep iproute2 && ip link add type veth) 2>/dev/null") == 0);
}

/* Of a function with checks, which are not the test's. */
static bool passes(void (*function)(void))
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int out = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(out, STDOUT_FILENO);
		unit_failures = 0;
		function();
		_exit(unit_failures);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

static bool can_make_net(void)
{
	why_not = "no network namespace with links can be made, or iproute2 is not installed";
	return passes(try_namespace);
}

static void (*net_body)(void);

static void in_net(void)
{
	CHECK_EQ(unshare(CLONE_NEWNET), 0);
	net_body();
}

#define LINK_TEST(test_name, body) \
	HOST_TEST(test_name) \
	{ \
		if (!can_make_net()) \
			SKIP(why_not); \
		net_body = body; \
		apart(in_net); \
	}

LINK_TEST(a_link_that_goes_down_ends_the_task_and_the_tree_there, body_down)
LINK_TEST(lost_answers_end_the_task_and_the_tree_there, body_answers)
LINK_TEST(lost_questions_end_the_task_and_the_tree_there, body_questions)
LINK_TEST(a_link_that_is_down_ends_a_task_on_its_way, body_busy)
LINK_TEST(a_slow_first_round_trip_does_not_delay_the_end_of_a_silent_host, body_late)
LINK_TEST(a_link_that_comes_back_in_time_loses_nothing, body_heals)
LINK_TEST(a_silence_that_outlasts_a_dial_is_one_death, body_redial)

/* Whether this kernel ends a connection for ss -K. */
static void try_kill(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t bytes = sizeof(address);
	int listening, dialled;
	char byte;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(unshare(CLONE_NEWNET) == 0 && system("ip link set lo up") == 0);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	dialled = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(bind(listening, (struct sockaddr *)&address, bytes), 0);
	CHECK_EQ(listen(listening, 1), 0);
	CHECK_EQ(getsockname(listening, (struct sockaddr *)&address, &bytes), 0);
	CHECK_EQ(connect(dialled, (struct sockaddr *)&address, bytes), 0);
	CHECK_EQ(system("ss -K -tn dst 127.0.0.1 >/dev/null 2>&1"), 0);
	CHECK(recv(dialled, &byte, 1, MSG_DONTWAIT) < 0 && errno != EAGAIN);
}

#define KILL_TEST(test_name, body) \
	HOST_TEST(test_name) \
	{ \
		if (!can_make_net()) \
			SKIP(why_not); \
		if (!passes(try_kill)) \
			SKIP("this kernel ends no connection for ss -K, or there is no ss(8)"); \
		net_body = body; \
		apart(in_net); \
	}

KILL_TEST(a_connection_that_is_killed_here_ends_the_task_and_the_tree_there, body_killed)
KILL_TEST(a_connection_that_is_killed_there_ends_the_task_and_the_tree_there, body_killed_there)

/* The most that the kernel keeps for a connection at one end: the third number of the file. */
static uint32_t kept_by_kernel(const char *path)
{
	unsigned long most = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return SLOW_BYTES;
	if (fscanf(file, "%*u %*u %lu", &most) != 1 || most > 1u << 30)
		most = 1u << 30;
	fclose(file);
	return (uint32_t)most;
}

/* Its kernel answers, and takes no more: with data on its way that counts as silence. */
HOST_TEST(a_session_that_is_stopped_while_data_comes_counts_as_dead)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *root, *remote;
	pid_t session;
	struct slow slow = { .bytes = SLOW_BYTES };

	/* More than a connection over loopback can grow to take while nobody reads. */
	slow.bytes += kept_by_kernel("/proc/sys/net/ipv4/tcp_rmem") +
		      kept_by_kernel("/proc/sys/net/ipv4/tcp_wmem");
	if (slow.bytes > 1u << 28)
		SKIP("the kernel keeps more than 256 MiB for a connection");
	host_start(&node, program, NULL);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	options.host = node.address;
	options.host_timeout_ns = SECOND_NS;
	options.host_window_bytes = 2 * (uint64_t)slow.bytes;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &remote), 0);
	CHECK_EQ(dw_worker_add_child(root, remote, NULL), 0);
	CHECK_EQ(dw_buffer_create(root, slow.bytes, &slow.memory), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	CHECK_EQ(dw_worker_run(root, orch_slow, NULL, NULL, &slow), 0);
	memset(slow.memory, 1, slow.bytes);
	session = host_session(&node);
	CHECK_EQ(kill(session, SIGSTOP), 0);
	host_event();
	CHECK_EQ(dw_worker_run(root, orch_slow, NULL, NULL, &slow), -EOWNERDEAD);
	host_took("the session is stopped while data comes, host_timeout_ns 1 s");
	check_text("pod0/node0: task 1 (take): EOWNERDEAD: host 127.0.0.1");
	check_text("no answer for 1.0 s");
	CHECK_EQ(kill(session, SIGCONT), 0);
	CHECK(is_over(session));
	dw_worker_destroy(root);
	host_stop(&node);
}

static bool can_slow_links(void)
{
	return system("unshare -n sh -c 'ip link set lo up && tc qdisc add dev lo root tbf "
		      "rate 1mbit burst 64kbit latency 1s' 2>/dev/null") == 0;
}

HOST_TEST(a_cancellation_does_not_wait_for_the_data_of_a_slow_link)
{
	if (!can_make_net())
		SKIP(why_not);
	if (!can_slow_links())
		SKIP("this kernel limits no link (sch_tbf)");
	net_body = body_slow;
	apart(in_net);
}
