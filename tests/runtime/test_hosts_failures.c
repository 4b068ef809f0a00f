/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Failures of Workers on other hosts: each process on both sides is killed or stopped, tasks hang,
 * runs are cancelled, Workers are replaced, and nodes cannot serve the tree. In every case the
 * tasks there end.
 */
#define UNIT_SECONDS 250
#include <netinet/in.h>
#include <sys/socket.h>
#include "hosts.h"

static struct host_node node;

static void program(struct dw_worker *root)
{
	chain_register(root);
}

static void program_without(struct dw_worker *root)
{
	dw_callable ignored;

	CHECK_EQ(dw_callable_register_sub(root, "break", sub_break, NULL, &ignored), 0);
}

static void up(unsigned levels, const struct dw_worker_options *options)
{
	say_prepare();
	host_start(&node, program, NULL);
	chain_hosts[levels - 1] = node.address;
	chain_init(levels, 1, 0, options);
}

static void down(void)
{
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
	host_stop(&node);
}

static struct order hang(unsigned levels)
{
	return (struct order){ .depth = levels - 1, .how = BREAK_HANG };
}

/* A task hangs there; its sub worker's pid. */
static pid_t start_hanging(unsigned levels, struct dw_run **run)
{
	static struct order order;

	order = hang(levels);
	*run = chain_start(&order, 0);
	return heard();
}

static void runs_again(unsigned levels)
{
	if (!CHECK_EQ(chain_run((struct order){ .depth = levels - 1, .how = BREAK_NOT }), 0))
		printf("# %s\n", dw_strerror_last());
}

HOST_TEST(a_session_that_is_killed_fails_its_task_with_the_host)
{
	struct dw_run *run;
	pid_t sub, session;

	up(2, NULL);
	runs_again(2);
	sub = start_hanging(2, &run);
	session = host_session(&node);
	host_event();
	CHECK_EQ(kill(session, SIGKILL), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	host_took("the session is killed");
	check_text("pod0/node0: task 1 \"deep\" (down): EOWNERDEAD: host ");
	check_text(node.address);
	CHECK(is_over(sub));
	down();
}

HOST_TEST(a_node_that_is_killed_takes_its_sessions_and_their_trees_along)
{
	struct dw_run *run;
	pid_t sub, session;
	int status;

	up(2, NULL);
	sub = start_hanging(2, &run);
	session = host_session(&node);
	host_event();
	CHECK_EQ(kill(node.pid, SIGKILL), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	host_took("the node is killed");
	check_text(node.address);
	CHECK(is_over(sub) && is_over(session));
	CHECK_EQ(waitpid(node.pid, &status, 0), node.pid);
	chain_bystanders--;
	close(node.stop);
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
}

HOST_TEST(a_gateway_that_is_killed_fails_its_task_and_ends_the_session)
{
	struct dw_run *run;
	pid_t sub, session, gateway;

	up(2, NULL);
	sub = start_hanging(2, &run);
	session = host_session(&node);
	gateway = pid_of("pod0/node0");
	host_event();
	CHECK_EQ(kill(gateway, SIGKILL), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	host_took("the gateway is killed");
	check_text("pod0/node0: task 1 \"deep\" (down): EOWNERDEAD: killed by SIGKILL");
	CHECK(is_over(sub) && is_over(session));
	down();
}

HOST_TEST(a_task_that_hangs_there_ends_at_its_deadline)
{
	struct order order = hang(2);
	pid_t sub;

	order.options.size = sizeof(order.options);
	order.options.timeout_ns = 200 * MS;
	order.options_on_the_way = true;
	up(2, NULL);
	host_event();
	CHECK_EQ(chain_run(order), -ETIMEDOUT);
	host_took("a callable hangs, with a deadline of 200 ms");
	check_text("pod0/node0: task 1 \"deep\" (down): ETIMEDOUT");
	sub = heard();
	CHECK(is_over(sub));
	down();
}

/* The child of that process, of which there is one; 0: none. */
static pid_t only_child(pid_t of)
{
	pid_t pids[64], found = 0;
	unsigned count = descendants(pids, 64);

	for (unsigned i = 0; i < count && i < 64; i++)
		if (parent_of(pids[i]) == of)
			found = pids[i];
	return found;
}

static pid_t gateway_process(void)
{
	return pid_of("pod0/node0");
}

static pid_t session_process(void)
{
	return host_session(&node);
}

/* Below the spawner of the session's own. */
static pid_t worker_process(void)
{
	return only_child(only_child(host_session(&node)));
}

HOST_TEST(a_worker_that_is_killed_there_fails_its_task_with_its_signal)
{
	pid_t sub, session, worker;
	struct dw_run *run;

	up(2, NULL);
	sub = start_hanging(2, &run);
	session = host_session(&node);
	worker = worker_process();
	host_event();
	CHECK_EQ(kill(worker, SIGSEGV), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	host_took("the Worker there is killed");
	check_text("pod0/node0: task 1 \"deep\" (down): EOWNERDEAD: host ");
	check_text(node.address);
	check_text("killed by SIGSEGV, pid ");
	CHECK(is_over(sub) && is_over(session));
	down();
}

/* Nothing can be done there; here the run ends at its deadline, and once they go on, they go. */
static void stop_during_a_task(pid_t (*which)(void), const char *event)
{
	struct order order = hang(2);
	struct dw_run *run;
	pid_t sub, session, stopped;

	order.options.size = sizeof(order.options);
	order.options.timeout_ns = 500 * MS;
	order.options_on_the_way = true;
	up(2, NULL);
	runs_again(2);
	host_event();
	run = chain_start(&order, 0);
	sub = heard();
	session = host_session(&node);
	stopped = which();
	CHECK(stopped > 0 && kill(stopped, SIGSTOP) == 0);
	CHECK_EQ(dw_run_wait(run), -ETIMEDOUT);
	host_took(event);
	check_text("pod0/node0: task 1 \"deep\" (down): ETIMEDOUT");
	kill(stopped, SIGCONT);
	CHECK(is_over(sub) && is_over(session));
	down();
}

HOST_TEST(a_gateway_that_is_stopped_ends_at_the_deadline)
{
	stop_during_a_task(gateway_process, "the gateway is stopped, with a deadline of 500 ms");
}

HOST_TEST(a_session_that_is_stopped_ends_at_the_deadline)
{
	stop_during_a_task(session_process, "the session is stopped, with a deadline of 500 ms");
}

HOST_TEST(a_worker_that_is_stopped_there_ends_at_the_deadline)
{
	stop_during_a_task(worker_process,
			   "the Worker there is stopped, with a deadline of 500 ms");
}

/* It serves no new connections meanwhile; those that it has do not need it. */
HOST_TEST(a_node_that_is_stopped_holds_up_no_session)
{
	up(2, NULL);
	CHECK_EQ(kill(node.pid, SIGSTOP), 0);
	runs_again(2);
	CHECK_EQ(kill(node.pid, SIGCONT), 0);
	down();
}

HOST_TEST(a_cancel_reaches_the_callable_there_and_the_tree_goes_on)
{
	struct order order = { .depth = 1, .how = BREAK_ASK };
	struct dw_run *run;

	up(2, NULL);
	run = chain_start(&order, 0);
	CHECK(heard() > 0);
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	runs_again(2);
	down();
}

HOST_TEST(a_session_that_dies_is_replaced_and_its_task_tried_again)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .depth = 1, .how = BREAK_SLOW, .detail = 100 };
	pid_t first;

	options.restart = DW_RESTART_ON_DEATH;
	order.options.size = sizeof(order.options);
	order.options.retries = 1;
	order.options_on_the_way = true;
	up(2, &options);
	for (int i = 0; i < 3; i++) {
		struct dw_run *run = chain_start(&order, 0);

		CHECK(heard() > 0);
		first = host_session(&node);
		CHECK_EQ(kill(first, SIGKILL), 0);
		CHECK(heard() > 0);
		if (!CHECK_EQ(dw_run_wait(run), 0))
			printf("# %s\n", dw_strerror_last());
		CHECK(host_session(&node) != first);
	}
	down();
}

/* At the address of a node that has gone: whoever dials is accepted, and left at once. */
static void leave_one(const char *address)
{
	struct sockaddr_in place = { .sin_family = AF_INET };
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, dialled;

	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	place.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	CHECK_EQ(bind(listening, (struct sockaddr *)&place, sizeof(place)), 0);
	CHECK_EQ(listen(listening, 8), 0);
	dialled = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	CHECK(dialled >= 0);
	close(listening);
	close(dialled);
}

/*
 * A node that begins with an address in the pipe, and leaves with its next byte. Forked before the
 * tree is made, so that its functions have the same handles.
 */
static pid_t fork_later(int word[2])
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	char address[sizeof(node.address)];
	struct dw_worker *root;
	pid_t pid;

	CHECK_EQ(pipe2(word, O_CLOEXEC), 0);
	pid = fork();
	if (pid)
		return pid;
	if (read(word[0], address, sizeof(address)) <= 0)
		_exit(1);
	CHECK_EQ(dw_worker_create(DW_LEVEL_CLUSTER, NULL, &root), 0);
	program(root);
	options.user = host_user();
	options.listen = address;
	options.stop_fd = word[0];
	_exit(dw_node_serve(root, &options) < 0 || unit_failures);
}

HOST_TEST(a_node_that_comes_back_is_dialled_again_and_that_is_one_death)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	int status = 0, word[2];
	struct dw_run *run;
	pid_t later = fork_later(word);

	chain_bystanders++;
	options.restart = DW_RESTART_ON_DEATH;
	up(2, &options);
	start_hanging(2, &run);
	CHECK_EQ(kill(node.pid, SIGKILL), 0);
	CHECK_EQ(waitpid(node.pid, &status, 0), node.pid);
	chain_bystanders--;
	close(node.stop);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	/* Six deaths would be a reason to give up. */
	for (int i = 0; i < 6; i++)
		leave_one(node.address);
	CHECK_EQ(write(word[1], node.address, sizeof(node.address)), sizeof(node.address));
	runs_again(2);
	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	CHECK_EQ(stats.deaths, 1);
	CHECK_EQ(stats.restarts, 1);
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
	CHECK_EQ(write(word[1], "", 1), 1);
	CHECK_EQ(waitpid(later, &status, 0), later);
	CHECK_EQ(status, 0);
	chain_bystanders--;
	close(word[0]);
	close(word[1]);
}

/* Its time to connect is ten minutes, and that of the close an hour: neither is waited for. */
HOST_TEST(a_close_does_not_wait_for_a_gateway_that_dials_again)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run *run;
	int status = 0;

	options.restart = DW_RESTART_ON_DEATH;
	options.init_timeout_ns = 600 * SECOND_NS;
	options.close_timeout_ns = 3600 * SECOND_NS;
	up(2, &options);
	start_hanging(2, &run);
	CHECK_EQ(kill(node.pid, SIGKILL), 0);
	CHECK_EQ(waitpid(node.pid, &status, 0), node.pid);
	chain_bystanders--;
	close(node.stop);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	/* It dials, and goes on doing so. */
	leave_one(node.address);
	leave_one(node.address);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
}

HOST_TEST(a_death_of_the_worker_there_is_one_here)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .depth = 1, .how = BREAK_SIGNAL, .detail = SIGSEGV };

	options.restart = DW_RESTART_ON_DEATH;
	up(2, &options);
	/* A sub worker's death stays below the Worker there, which replaces it. */
	CHECK_EQ(chain_run(order), -EOWNERDEAD);
	check_text("pod0/node0/sub0: task 1 \"deep\" (break): EOWNERDEAD: killed by SIGSEGV");
	check_text(node.address);
	runs_again(2);
	down();
}

/* Each has a connection of its own; of the odd ones the session is killed. */
HOST_TEST(a_hundred_trees_come_and_go_and_the_node_stays_as_it_was)
{
	char path[64];
	unsigned before;
	uint64_t start;

	say_prepare();
	host_start(&node, program, NULL);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)node.pid);
	before = count_dir(path);
	for (int i = 0; i < 100; i++) {
		chain_hosts[1] = node.address;
		chain_init(2, 1, 0, NULL);
		if (i % 2)
			CHECK_EQ(kill(host_session(&node), SIGKILL), 0);
		chain_destroy();
	}
	/* It hears of the last one's end as soon as it runs, and closes the pidfd after that. */
	start = slow_clock(CLOCK_MONOTONIC);
	while (count_dir(path) != before && unit_within(start, 10 * SECOND_NS))
		pause_ms(1);
	CHECK_EQ(count_dir(path), before);
	CHECK_EQ(only_child(node.pid), 0);
	memset(chain_hosts, 0, sizeof(chain_hosts));
	host_stop(&node);
}

HOST_TEST(three_levels_on_three_hosts_fail_as_on_one)
{
	struct host_node second;
	struct dw_run *run;
	pid_t sub;

	say_prepare();
	host_start(&node, program, NULL);
	host_start(&second, program, NULL);
	chain_hosts[1] = node.address;
	chain_hosts[2] = second.address;
	chain_init(3, 1, 0, NULL);
	runs_again(3);
	CHECK_EQ(chain_run((struct order){ .depth = 2, .how = BREAK_ERROR, .detail = EIO }), -EIO);
	check_text("supernode0/pod0/node0/sub0: task 1 \"deep\" (break): EIO: as it was told");
	check_text(node.address);
	check_text(second.address);
	sub = start_hanging(3, &run);
	CHECK_EQ(kill(host_session(&second), SIGKILL), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	check_text("supernode0/pod0/node0: task 1 \"deep\" (down): EOWNERDEAD: host ");
	CHECK(is_over(sub));
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
	host_stop(&second);
	host_stop(&node);
}

/* ------------------------------------------------------------------ no tree at all */

static void expect_no_init(int error, const char *text)
{
	chain_create(2, 1, 0, NULL);
	host_event();
	CHECK_EQ(dw_worker_init(chain.worker[0]), error);
	check_text("pod0/node0: host ");
	check_text(text);
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
}

HOST_TEST(a_host_without_a_node_fails_the_init_by_name)
{
	chain_hosts[1] = "127.0.0.1:1";
	expect_no_init(-ECONNREFUSED, "127.0.0.1:1");
	host_took("init: nothing listens there");
	chain_hosts[1] = "no-such-host.invalid";
	expect_no_init(-EHOSTUNREACH, "host \"no-such-host.invalid\" has no address");
}

HOST_TEST(a_node_with_another_key_is_refused)
{
	char other[96], own[96];
	FILE *file;

	up(2, NULL);
	runs_again(2);
	snprintf(own, sizeof(own), "%s", getenv("DW_HOST_KEY"));
	snprintf(other, sizeof(other), "%s/other", host_folder);
	file = fopen(other, "we");
	CHECK(file && fputs("another key, of as many bytes\n", file) > 0 && fclose(file) == 0);
	CHECK_EQ(chmod(other, 0600), 0);
	chain_destroy();
	setenv("DW_HOST_KEY", other, 1);
	expect_no_init(-EKEYREJECTED, "another key");
	host_took("init: the node has another key");
	setenv("DW_HOST_KEY", own, 1);
	unlink(other);
	host_stop(&node);
}

/* "down" has the handle here that "other" has there. */
static void program_in_another_order(struct dw_worker *root)
{
	dw_callable ignored;

	CHECK_EQ(dw_callable_register_sub(root, "break", sub_break, NULL, &ignored), 0);
	CHECK_EQ(dw_callable_register_orch(root, "other", orch_down_chain, NULL, &ignored), 0);
	CHECK_EQ(dw_callable_register_orch(root, "down", orch_down_chain, NULL, &ignored), 0);
}

static void order_body(void)
{
	say_prepare();
	host_start(&node, program_in_another_order, NULL);
	chain_hosts[1] = node.address;
	expect_no_init(-ESTALE, "\"other\" has it in the node's");
	host_stop(&node);
}

/* In a process whose handles are as fresh as the node's. */
HOST_TEST(a_program_in_which_a_handle_means_another_function_is_refused)
{
	apart(order_body);
}

HOST_TEST(a_program_that_lacks_a_function_is_refused)
{
	say_prepare();
	host_start(&node, program_without, NULL);
	chain_hosts[1] = node.address;
	expect_no_init(-ENOENT, "orchestration function \"down\" is not registered");
	host_took("init: the node's program lacks a function");
	host_stop(&node);
}

/* A node runs whatever those tell it to who have the key. */
HOST_TEST(a_node_does_not_serve_as_root_unless_it_is_told_to)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);

	if (geteuid())
		SKIP("this is not root");
	options.listen = "127.0.0.1:0";
	options.idle_timeout_ns = 1;
	CHECK_EQ(dw_node_serve(NULL, &options), -EPERM);
	check_text("options.user (distworker node --user) should name a user to serve as");
	options.user = "no such user";
	CHECK_EQ(dw_node_serve(NULL, &options), -ENOENT);
	check_text("there is no user \"no such user\" to serve as");
	options.user = "root";
	CHECK_EQ(dw_node_serve(NULL, &options), 0);
}

HOST_TEST(a_tree_without_a_key_says_where_one_should_be)
{
	char own[96];

	snprintf(own, sizeof(own), "%s", getenv("DW_HOST_KEY"));
	unsetenv("DW_HOST_KEY");
	chain_hosts[1] = "127.0.0.1:1";
	expect_no_init(-ENOKEY, "DW_HOST_KEY");
	setenv("DW_HOST_KEY", own, 1);
}

HOST_TEST(only_a_child_of_processes_may_be_elsewhere)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *pod, *child;

	options.host = "127.0.0.1:1";
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &child), 0);
	CHECK_EQ(dw_worker_init(child), -EINVAL);
	check_text("only a child Worker can be on another host");
	options.host = NULL;
	options.mode = DW_THREAD;
	CHECK_EQ(dw_worker_create(DW_LEVEL_POD, &options, &pod), 0);
	CHECK_EQ(dw_worker_add_child(pod, child, NULL), -EINVAL);
	check_text("DW_PROCESS");
	dw_worker_destroy(pod);
	dw_worker_destroy(child);
	options.host = "a:99999";
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &child), -EINVAL);
	check_text("the host of a Worker");
}
