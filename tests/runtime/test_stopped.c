/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Processes that are stopped and not dead. A child that is stopped is seen at once, shown, named in
 * errors and ended by its deadline. A stop of the whole tree is no child's fault: no deadline
 * counts it.
 */
#include <sys/ptrace.h>
#include "cgroup.h"

/* The report of the tree of this process. */
static const char *report(void)
{
	static char text[16384];
	size_t bytes = sizeof(text);

	text[0] = '\0';
	dw_worker_report(chain.worker[0], 1, text, &bytes);
	return text;
}

/*
 * Until the report has, or has not, this part. An event makes it so; the limit is for a library
 * that hangs.
 */
static bool reports(const char *part, bool wanted)
{
	uint64_t begun = now_ns();

	while (!strstr(report(), part) == wanted) {
		if (!unit_within(begun, 20 * SECOND_NS)) {
			printf("# %s \"%s\" in:\n%s", wanted ? "no" : "still", part, report());
			return false;
		}
		pause_ms(5);
	}
	return true;
}

static struct dw_submit_options within(uint64_t ns)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.timeout_ns = ample(ns);
	return options;
}

/* The signal that the tree shows for the child at `path`; -1: there is no such child. */
static int shown_signal(const char *path)
{
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_child_stats stats;
	struct dw_tree *tree;
	int signal = -1;

	if (!CHECK_EQ(dw_tree_open(getpid(), 0, &tree), 0))
		return -1;
	for (uint32_t i = 0; dw_tree_child(tree, i, &child) == 0; i++)
		if (dw_tree_child_stats(tree, i, &stats, sizeof(stats)) == 0 &&
		    strcmp(stats.path, path) == 0)
			signal = child.stopped;
	dw_tree_close(tree);
	return signal;
}

static const struct {
	int number;
	const char *text;
} signals[] = {
	{ SIGSTOP, "stopped by SIGSTOP" }, { SIGTSTP, "stopped by SIGTSTP" },
	{ SIGTTIN, "stopped by SIGTTIN" }, { SIGTTOU, "stopped by SIGTTOU" },
};

/* ------------------------------------------------------------------ a child */

TEST(stop_of_a_child_is_seen_and_its_going_on)
{
	chain_init(2, 1, 0, NULL);
	for (unsigned depth = 0; depth < 2; depth++) {
		char path[160];
		pid_t sub;

		snprintf(path, sizeof(path), "%s/sub0", chain_path(depth));
		sub = pid_of(path);
		for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
			CHECK_EQ(kill(sub, signals[i].number), 0);
			CHECK(reports(signals[i].text, true));
			CHECK_EQ(shown_signal(path), signals[i].number);
			CHECK_EQ(kill(sub, SIGCONT), 0);
			CHECK(reports("stopped by", false));
			CHECK_EQ(shown_signal(path), 0);
		}
	}
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
	chain_destroy();
}

/* The task has begun, or waits in the ring: the report tells which process the tree waits for. */
TEST(stopped_child_is_what_the_tree_waits_for)
{
	struct order order = { .how = BREAK_SLICES, .detail = 10 };
	struct dw_run *run;
	pid_t sub;

	for (int begun = 0; begun < 2; begun++) {
		chain_init(1, 1, 0, NULL);
		sub = pid_of("node0/sub0");
		order.detail = begun ? 2000 : 10;
		if (!begun) {
			kill(sub, SIGSTOP);
			CHECK(reports("stopped by SIGSTOP", true));
		}
		run = chain_start(&order, 0);
		if (begun) {
			CHECK(heard() == sub);
			kill(sub, SIGSTOP);
		}
		CHECK(reports(begun ? "stopped by SIGSTOP, runs task 1, \"break\"" :
			      "stopped by SIGSTOP, has 1 tasks, idle for", true));
		kill(sub, SIGCONT);
		CHECK_EQ(dw_run_wait(run), 0);
		chain_destroy();
	}
}

#define AROUND 50

/* Tasks that any child could run, one after the other and at once. */
static int orch_around(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	int error = 0;

	(void)args, (void)config, (void)context;
	for (unsigned i = 0; i < 2 * AROUND && !error; i++) {
		dw_task task;

		error = submit_one(orch, chain.broken, chain.cells + 2 * (i % AROUND), DW_INOUT,
				   BREAK_NOT, NULL, &task);
		if (!error && i < AROUND)
			error = dw_orch_wait_task(orch, task);
	}
	return error;
}

/*
 * Failed before: a child that was stopped while it had nothing to do looked free, and the tasks
 * that it was given waited for it although another was there.
 */
TEST(stopped_child_gets_no_task_while_another_is_free)
{
	struct dw_run *run;
	pid_t subs[2];

	for (unsigned stopped = 0; stopped < 2; stopped++) {
		chain_init(1, 2, 0, NULL);
		subs[0] = pid_of("node0/sub0");
		subs[1] = pid_of("node0/sub1");
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
		kill(subs[stopped], SIGSTOP);
		CHECK(reports("stopped by SIGSTOP", true));
		CHECK_EQ(dw_worker_start(chain.worker[0], orch_around, NULL, NULL, NULL, NULL,
					 &run), 0);
		CHECK_EQ(dw_run_wait_for(run, ample(5 * SECOND_NS)), 0);
		/* Alone, it gets them as before, and runs them when it goes on. */
		kill(subs[!stopped], SIGKILL);
		CHECK(reports("killed by SIGKILL", true));
		kill(subs[stopped], SIGCONT);
		CHECK_EQ(dw_run_wait(run), 0);
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
		CHECK_EQ(chain.cells[0], 4);
		chain_destroy();
	}
}

TEST(deadline_of_a_task_names_the_stop)
{
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct order order = { .how = BREAK_HANG, .options = within(1500 * MS) };
		struct dw_run *run;
		char text[64];
		pid_t sub;

		chain_init(1, 1, 0, NULL);
		run = chain_start(&order, 0);
		sub = heard();
		CHECK_EQ(kill(sub, signals[i].number), 0);
		CHECK_EQ(dw_run_wait(run), -ETIMEDOUT);
		snprintf(text, sizeof(text), "was %s, ran longer than its deadline of ",
			 signals[i].text);
		check_text(text);
		CHECK(is_over(sub));
		CHECK(reports("(it was stopped by", true));
		chain_destroy();
	}
}

/* The child has not begun its task, which goes to the next process. */
TEST(deadline_of_a_task_that_did_not_start_names_the_stop)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_NOT, .options = within(1000 * MS) };
	struct dw_run *run;

	options.restart = DW_RESTART_ON_DEATH;
	chain_init(1, 1, 0, &options);
	kill(pid_of("node0/sub0"), SIGSTOP);
	CHECK(reports("stopped by SIGSTOP", true));
	run = chain_start(&order, 0);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(chain.cells[0], 1);
	CHECK_EQ(shown_signal("node0/sub0"), 0);
	chain_destroy();

	chain_init(1, 1, 0, NULL);
	kill(pid_of("node0/sub0"), SIGSTOP);
	CHECK(reports("stopped by SIGSTOP", true));
	CHECK_EQ(chain_run(order), -ENODEV);
	check_text("it was stopped by SIGSTOP, and did not start its next task");
	chain_destroy();
}

TEST(death_of_a_stopped_child_names_the_stop)
{
	struct order order = { .how = BREAK_HANG };
	struct dw_run *run;
	pid_t sub;

	chain_init(1, 1, 0, NULL);
	run = chain_start(&order, 0);
	sub = heard();
	kill(sub, SIGTSTP);
	CHECK(reports("stopped by SIGTSTP", true));
	kill(sub, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	check_text("(it was stopped by SIGTSTP)");
	chain_destroy();
}

TEST(close_names_the_stop)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.close_timeout_ns = 500 * MS;
	chain_init(1, 2, 0, &options);
	kill(pid_of("node0/sub1"), SIGSTOP);
	CHECK(reports("stopped by SIGSTOP", true));
	CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
	check_text("node0/sub1 (stopped by SIGSTOP)");
	chain_destroy();
}

/* ---------------------------------------------------------------- a spawner */

/*
 * While the spawner is stopped, the child's own pidfd alone shows its death. Before, the run went
 * on until the spawner was continued.
 */
TEST(spawner_that_is_stopped_reports_a_death)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_HANG };
	struct dw_run *run;
	pid_t sub, spawner;

	options.restart = DW_RESTART_ON_DEATH;
	chain_init(1, 1, 0, &options);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		run = chain_start(&order, 0);
		sub = heard();
		spawner = parent_of(sub);
		CHECK_EQ(kill(spawner, signals[i].number), 0);
		CHECK_EQ(kill(sub, SIGKILL), 0);
		CHECK_EQ(dw_run_wait_for(run, ample(3 * SECOND_NS)), 0);
		kill(spawner, SIGCONT);
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	}
	/* And it forks replacements. */
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}

TEST(spawner_that_is_stopped_holds_up_no_close)
{
	pid_t spawner;

	chain_init(1, 2, 0, NULL);
	spawner = parent_of(pid_of("node0/sub0"));
	CHECK_EQ(kill(spawner, SIGSTOP), 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	CHECK(is_over(spawner));
	chain_destroy();
}

/* ------------------------------------------------------------- on the way up */

static struct dw_worker *with_chip(const char *options, uint64_t init_ns)
{
	static struct dw_chip_options chip;
	struct dw_worker_options o = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	chip = (struct dw_chip_options){ .driver = beside("fixtures/bad_chip.so"),
					 .options = options };
	set_small(&o);
	o.chips = &chip;
	o.chip_count = 1;
	o.chip_size = sizeof(chip);
	o.init_timeout_ns = init_ns;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &o, &worker), 0);
	return worker;
}

static void init_with_a_stopped_sub(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.init_timeout_ns = ample(1500 * MS);
	chain_create(1, 1, 0, &options);
	CHECK_EQ(dw_worker_init(chain.worker[0]), -ETIMEDOUT);
	check_text("node0/sub0: not ready after ");
	check_text("it was stopped by SIGSTOP");
	CHECK_EQ(descendants(NULL, 0), 0);
	dw_worker_destroy(chain.worker[0]);
}

/* The next stop of this tracee; false when it ended, or there is none. */
static bool next_stop(pid_t pid, int *status)
{
	return waitpid(pid, status, __WALL) == pid && WIFSTOPPED(*status);
}

/*
 * Lets a tracee run until it forks; the new process has not run a single instruction. 0: it did
 * not.
 */
static pid_t forked_by(pid_t pid)
{
	unsigned long forked;
	int status, signal = 0;

	while (ptrace(PTRACE_CONT, pid, NULL, signal) == 0 && next_stop(pid, &status)) {
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8)) {
			ptrace(PTRACE_GETEVENTMSG, pid, NULL, &forked);
			return next_stop((pid_t)forked, &status) ? (pid_t)forked : 0;
		}
		signal = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
	}
	return 0;
}

/*
 * glibc's fork() is a clone() with SIGCHLD, which the kernel counts as a fork. The program forks
 * its spawner, and that the sub.
 */
TEST(child_that_is_stopped_before_its_first_instruction_is_named)
{
	pid_t program, spawner, sub;
	int status;

	fflush(stdout);
	program = fork();
	if (program == 0) {
		unit_failures = 0;
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		init_with_a_stopped_sub();
		fflush(stdout);
		_exit(unit_failures);
	}
	REQUIRE(next_stop(program, &status));
	CHECK_EQ(ptrace(PTRACE_SETOPTIONS, program, NULL, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL),
		 0);
	spawner = forked_by(program);
	CHECK(spawner > 0);
	CHECK_EQ(ptrace(PTRACE_DETACH, program, NULL, 0), 0);
	sub = forked_by(spawner);
	CHECK(sub > 0);
	CHECK_EQ(ptrace(PTRACE_DETACH, sub, NULL, SIGSTOP), 0);
	CHECK_EQ(ptrace(PTRACE_DETACH, spawner, NULL, 0), 0);
	CHECK_EQ(waitpid(program, &status, 0), program);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(is_over(sub));
}

static void init_with_a_stopped_chip(void)
{
	struct dw_worker *worker = with_chip("open=hang", ample(3000 * MS));

	CHECK_EQ(dw_worker_init(worker), -ETIMEDOUT);
	check_text("node0/chip0: not ready after ");
	check_text("it was stopped by SIGSTOP");
	CHECK_EQ(descendants(NULL, 0), 0);
	dw_worker_destroy(worker);
}

static bool is_chip(pid_t pid)
{
	char path[64], name[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (!file || !fgets(name, sizeof(name), file))
		name[0] = '\0';
	if (file)
		fclose(file);
	return strstr(name, "chip") != NULL;
}

static pid_t find_chip(void)
{
	uint64_t begun = now_ns();
	pid_t pids[16];

	while (unit_within(begun, 20 * SECOND_NS)) {
		unsigned count = descendants(pids, 16);

		for (unsigned i = 0; i < count && i < 16; i++)
			if (is_chip(pids[i]))
				return pids[i];
		pause_ms(1);
	}
	return 0;
}

TEST(child_that_is_stopped_before_it_is_ready_is_named)
{
	pid_t program, chip;
	int status;

	fflush(stdout);
	program = fork();
	if (program == 0) {
		unit_failures = 0;
		init_with_a_stopped_chip();
		fflush(stdout);
		_exit(unit_failures);
	}
	chip = find_chip();
	REQUIRE(chip > 0);
	CHECK_EQ(kill(chip, SIGSTOP), 0);
	CHECK_EQ(waitpid(program, &status, 0), program);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(is_over(chip));
}

/* ------------------------------------------------------------- the whole tree */

/* Each with a deadline of 4 s and work of 0.6 s; after 5 s in which no process ran. */
static unsigned busy = 1;
#define DEADLINE (4 * SECOND_NS * unit_slow() * busy)
#define WORK_MS (600 * unit_slow())
#define STOP_MS (5000 * unit_slow() * busy)
#define BUSY_MOST 3

/* To and from a program: it is ready, it may begin, it has begun. */
struct program {
	const char *name;
	int (*body)(struct program *self);
	int wanted;
	pid_t pid;
	int up[2], down[2];
};

static void program_says(struct program *self)
{
	char c = 0;

	if (write(self->up[1], &c, 1) != 1)
		_exit(120);
}

static void program_waits(struct program *self)
{
	char c;

	program_says(self);
	if (read(self->down[0], &c, 1) != 1)
		_exit(121);
}

static int run_of(struct program *self, struct order order, uint64_t run_timeout)
{
	struct dw_run *run;
	int result;

	program_waits(self);
	run = chain_start(&order, run_timeout);
	heard();
	program_says(self);
	result = dw_run_wait(run);
	chain_destroy();
	return result;
}

static int task_in_time(struct program *self)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	/* On both levels. */
	options.timeout_ns = DEADLINE;
	chain_init(2, 1, 0, &options);
	return run_of(self, (struct order){ .depth = 1, .how = BREAK_SLICES, .detail = WORK_MS },
		      0);
}

static int task_that_hangs(struct program *self)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.timeout_ns = DEADLINE;
	chain_init(1, 1, 0, &options);
	return run_of(self, (struct order){ .how = BREAK_HANG }, 0);
}

static int run_in_time(struct program *self)
{
	chain_init(1, 1, 0, NULL);
	return run_of(self, (struct order){ .how = BREAK_SLICES, .detail = WORK_MS }, DEADLINE);
}

static int wait_in_time(struct program *self)
{
	struct order order = { .how = BREAK_SLICES, .detail = WORK_MS };
	struct dw_run *run;
	int result;

	chain_init(1, 1, 0, NULL);
	program_waits(self);
	run = chain_start(&order, 0);
	heard();
	program_says(self);
	result = dw_run_wait_for(run, DEADLINE);
	dw_run_wait(run);
	chain_destroy();
	return result;
}

/* Of a callable that a task uses. */
static int unregister_in_time(struct program *self)
{
	struct order order = { .how = BREAK_SLICES, .detail = WORK_MS };
	struct dw_run *run;
	int result;

	chain_init(1, 1, 0, NULL);
	program_waits(self);
	run = chain_start(&order, 0);
	heard();
	program_says(self);
	result = dw_callable_unregister_for(chain.worker[0], chain.broken, DEADLINE);
	dw_run_wait(run);
	chain_destroy();
	return result;
}

static int close_in_time(struct program *self)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_SLICES, .detail = WORK_MS };
	struct dw_run *run;
	int result;

	options.close_timeout_ns = DEADLINE;
	chain_init(1, 1, 0, &options);
	program_waits(self);
	run = chain_start(&order, 0);
	heard();
	program_says(self);
	result = dw_worker_close(chain.worker[0]);
	dw_run_wait(run);
	chain_destroy();
	return result;
}

static int init_in_time(struct program *self)
{
	struct dw_worker *worker = with_chip("open=slow", DEADLINE);
	int result;

	program_waits(self);
	program_says(self);
	result = dw_worker_init(worker);
	dw_worker_destroy(worker);
	return result;
}

/* The first task has most of the heap until it ends. */
static int fill_heap(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct program *self = context;
	struct dw_tensor tensor;
	struct dw_args *own;
	uint32_t shape = 12 << 17;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 2 && result == 0; i++) {
		dw_scope_begin(orch);
		result = dw_alloc(orch, DW_INT64, &shape, 1, &tensor);
		if (result == 0 && i == 0) {
			dw_args_create(&own);
			dw_args_add_tensor(own, &tensor, DW_INOUT);
			dw_args_add_int(own, BREAK_SLICES);
			dw_args_add_int(own, WORK_MS);
			result = dw_submit(orch, chain.broken, own, NULL, NULL);
			dw_args_destroy(own);
			heard();
			program_says(self);
		}
		dw_scope_end(orch);
	}
	return result;
}

static int heap_in_time(struct program *self)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	int result;

	options.heap_timeout_ns = DEADLINE;
	chain_init(1, 1, 0, &options);
	program_waits(self);
	result = dw_worker_run(chain.worker[0], fill_heap, NULL, NULL, self);
	chain_destroy();
	return result;
}

static void program_start(struct program *program, bool in_group)
{
	CHECK_EQ(pipe2(program->up, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(program->down, O_CLOEXEC), 0);
	fflush(stdout);
	program->pid = fork();
	if (program->pid)
		return;
	unit_failures = 0;
	/* Not the pipe of an earlier test: one program would hear the callables of another. */
	if (said[0] >= 0) {
		close(said[0]);
		close(said[1]);
		said[0] = -1;
	}
	if (in_group)
		enter_group();
	if (!CHECK_EQ(program->body(program), program->wanted))
		printf("# %s: %s\n", program->name, dw_strerror_last());
	fflush(stdout);
	_exit(unit_failures);
}

static void wait_for(struct program *program, const char *what)
{
	char c;

	if (!CHECK(unit_polled(program->up[0], POLLIN)) ||
	    !CHECK_EQ(read(program->up[0], &c, 1), 1))
		printf("# %s is not %s\n", program->name, what);
}

static void signal_all(int signal)
{
	static pid_t pids[256];
	unsigned count = descendants(pids, 256);

	for (unsigned i = 0; i < count && i < 256; i++)
		kill(pids[i], signal);
}

/*
 * The file to write to, and the texts that stop and continue a group: version 2 of the interface,
 * version 1.
 */
static const char *const freezers[][3] = {
	{ "cgroup.freeze", "1", "0" }, { "freezer.state", "FROZEN", "THAWED" },
};

/* Which of them; -1: signals. */
static int freezer = -1;

static void stop_all(bool stop)
{
	if (freezer < 0)
		signal_all(stop ? SIGSTOP : SIGCONT);
	else
		CHECK(write_file(freezers[freezer][0], freezers[freezer][stop ? 1 : 2]));
}

/* Measured before: 5 s frozen, 1.5 s of work and a deadline of 4 s gave ETIMEDOUT. */
static void stop_for_a_while(void)
{
	struct program programs[] = {
		{ .name = "a task", .body = task_in_time },
		{ .name = "a run", .body = run_in_time },
		{ .name = "a wait", .body = wait_in_time },
		{ .name = "unregister", .body = unregister_in_time },
		{ .name = "close", .body = close_in_time },
		{ .name = "init", .body = init_in_time },
		{ .name = "the heap", .body = heap_in_time },
		/* A task that hangs is ended nevertheless. */
		{ .name = "a task that hangs", .body = task_that_hangs, .wanted = -ETIMEDOUT },
	};
	const size_t count = sizeof(programs) / sizeof(programs[0]);
	uint64_t factor = unit_busy();
	int status;

	busy = factor < BUSY_MOST ? (unsigned)factor : BUSY_MOST;
	for (size_t i = 0; i < count; i++)
		program_start(&programs[i], freezer >= 0);
	for (size_t i = 0; i < count; i++)
		wait_for(&programs[i], "up");
	for (size_t i = 0; i < count; i++)
		CHECK_EQ(write(programs[i].down[1], "", 1), 1);
	for (size_t i = 0; i < count; i++)
		wait_for(&programs[i], "at work");
	pause_ms(50);
	stop_all(true);
	pause_ms(STOP_MS);
	stop_all(false);
	for (size_t i = 0; i < count; i++) {
		CHECK_EQ(waitpid(programs[i].pid, &status, 0), programs[i].pid);
		if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0))
			printf("# %s: status %#x\n", programs[i].name, (unsigned)status);
		close(programs[i].up[0]);
		close(programs[i].up[1]);
		close(programs[i].down[0]);
		close(programs[i].down[1]);
	}
}

TEST(stop_of_the_whole_tree_is_in_no_deadline)
{
	stop_for_a_while();
}

TEST(frozen_group_is_in_no_deadline)
{
	if (!make_group("freezer", "freezer.state", "cgroup.freeze"))
		SKIP("no control group that can be frozen can be made here");
	freezer = is_there(freezers[0][0]) ? 0 : 1;
	stop_for_a_while();
	remove_group();
	freezer = -1;
}
