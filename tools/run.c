// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker run: load a job, build the hierarchy, run, tell.
 *
 * SIGINT and SIGTERM are blocked before the first fork, so that children inherit the
 * mask: Ctrl-C reaches the whole foreground group, but only this process acts on
 * it. No thread is made before dw_worker_init() has forked.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "hosts.h"
#include "job_file.h"
#include "run_options.h"
#include "summary.h"
#include "tool.h"

#define KILL_SECONDS 5.0	/* for the library to see that all its children are dead */
#define STUCK_NS 1000000000ULL	/* for the report on SIGQUIT */
#define AGAIN_SECONDS 0.2	/* earlier it is still the first signal: timeout(1) sends two */

struct session {
	struct run_options options;
	struct job_file file;
	struct hosts hosts;
	struct plan *plan;
	struct distworker_tree *tree;
	void *state;
	bool prepared;
	struct summary summary;
	char hierarchy[256];
	int signals;			/* signalfd */
	FILE *out;			/* where the summary goes */
};

/* The run. */
struct flight {
	struct dw_run *run;
	struct dw_args *args;
	int ended;			/* the run's descriptor */
};

/* --------------------------------------------------- calls of a job */

struct environment {
	struct distworker_job_environment base;
	char *text;			/* ERROR_BYTES; "" until fail is called */
};

static int environment_fail(const struct distworker_job_environment *base, int error,
			    const char *format, ...)
{
	const struct environment *environment = (const struct environment *)base;
	va_list list;

	va_start(list, format);
	text_vformat(environment->text, ERROR_BYTES, format, list);
	va_end(list);
	return -error;
}

struct report {
	struct distworker_job_report base;
	struct summary *summary;
};

static struct result *report_slot(const struct distworker_job_report *base, const char *key,
				  const char *text)
{
	struct summary *summary = ((const struct report *)base)->summary;
	struct result *grown = realloc(summary->results,
				       (summary->result_count + 1) * sizeof(*grown)),
		      *result;

	if (grown)
		summary->results = grown;
	result = grown ? &grown[summary->result_count] : NULL;
	if (result)
		*result = (struct result){ .key = strdup(key), .text = strdup(text) };
	if (!result || !result->key || !result->text) {
		if (result) {
			free(result->key);
			free(result->text);
		}
		summary->results_lost = true;
		return NULL;
	}
	summary->result_count++;
	return result;
}

static void report_number(const struct distworker_job_report *base, const char *key, double value,
			  const char *text)
{
	struct result *result;
	char number[32];

	snprintf(number, sizeof(number), "%.10g", value);
	result = report_slot(base, key, text ? text : number);
	if (result) {
		result->number = value;
		result->is_number = true;
	}
}

static void report_text(const struct distworker_job_report *base, const char *key,
			const char *value)
{
	report_slot(base, key, value);
}

static int report_fail(const struct distworker_job_report *base, int error, const char *format, ...)
{
	struct summary *summary = ((const struct report *)base)->summary;
	va_list list;

	va_start(list, format);
	text_vformat(summary->error, sizeof(summary->error), format, list);
	va_end(list);
	return -error;
}

/* ---------------------------------------------------------------- setting up */

static int make_plan(struct session *session)
{
	const struct run_options *options = &session->options;
	char text[512];
	int err;

	if (options->tree)
		err = plan_from_file(options->tree, &options->plan, &session->plan, text,
				     sizeof(text));
	else
		err = plan_from_options(&options->plan, &session->plan, text, sizeof(text));
	if (err)
		return tool_fail(options->tree ? TOOL_NO_TREE : TOOL_USAGE, "%s", text);
	err = hosts_assign(&session->hosts, session->plan);
	if (err)
		return err;
	plan_describe(session->plan, session->hierarchy, sizeof(session->hierarchy));
	session->summary.hierarchy = session->hierarchy;
	if (plan_build(session->plan))
		return tool_fail(TOOL_NO_TREE, "the hierarchy cannot be built: %s",
				 dw_strerror_last());
	session->tree = plan_tree(session->plan);
	return session->tree ? TOOL_OK : tool_fail(TOOL_SYSTEM, "no memory for the hierarchy");
}

static const char *first_driver(const struct distworker_tree *tree)
{
	for (uint32_t i = 0; i < tree->count; i++)
		if (tree->nodes[i].chip_count)
			return tree->nodes[i].chips[0].driver;
	return NULL;
}

static int prepare(struct session *session, struct environment *environment)
{
	const struct distworker_job *job = session->file.job;
	char *text = session->summary.error;
	int err;

	*environment = (struct environment){
		.base = {
			.size = sizeof(environment->base), .root = session->plan->worker,
			.tree = session->tree, .folder = session->file.folder,
			.driver = first_driver(session->tree),
			.argc = session->options.job_argc, .argv = session->options.job_argv,
			.fail = environment_fail,
		},
		.text = text,
	};
	session->prepared = true;
	err = job->prepare(&environment->base, &session->state);
	if (!err)
		return TOOL_OK;
	/* The job's own text is about its options; otherwise the library has the cause. */
	tool_fail(0, "%s: %s", job->name, text[0] ? text : dw_strerror_last());
	return text[0] && err == -EINVAL ? TOOL_USAGE : TOOL_FAILED;
}

static int block_signals(struct session *session)
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGQUIT);
	err = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (err)
		return tool_fail(TOOL_SYSTEM, "signals cannot be blocked: %s", strerror(err));
	session->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (session->signals < 0)
		return tool_fail(TOOL_SYSTEM, "signalfd: %s", strerror(errno));
	return TOOL_OK;
}

/* The state of the tree, and everything that is stuck: Ctrl-\ asks for it. */
static void report_tree(const struct session *session)
{
	size_t bytes = 0;
	char *text;

	if (dw_worker_report(session->plan->worker, STUCK_NS, NULL, &bytes))
		return;
	/* It may say more the next time. */
	bytes += 4096;
	text = malloc(bytes);
	if (text && !dw_worker_report(session->plan->worker, STUCK_NS, text, &bytes))
		fprintf(stderr, "\n%s", text);
	free(text);
}

/* The signal that came, or 0; SIGQUIT is answered here. */
static int next_signal(const struct session *session)
{
	struct signalfd_siginfo info;

	if (read(session->signals, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (info.ssi_signo != SIGQUIT)
		return (int)info.ssi_signo;
	report_tree(session);
	return 0;
}

static int signal_status(int signal)
{
	return signal == SIGTERM ? TOOL_TERMINATED : signal ? TOOL_INTERRUPTED : TOOL_OK;
}

static int bring_up(struct session *session)
{
	double began = tool_now();
	int err;

	/* Every child would write the present contents of a buffer again. */
	fflush(NULL);
	err = dw_worker_init(session->plan->worker);
	session->summary.init_seconds = tool_now() - began;
	if (err)
		return tool_fail(TOOL_NO_TREE, "the hierarchy did not come up: %s",
				 dw_strerror_last());
	return TOOL_OK;
}

/* ------------------------------------------------------------------- the run */

static int take_off(struct session *session, struct flight *flight)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	int err;

	*flight = (struct flight){ .ended = -1 };
	options.timeout_ns = session->options.timeout_ns;
	err = dw_args_create(&flight->args);
	if (!err)
		err = dw_worker_start(session->plan->worker, session->file.job->run, flight->args,
				      NULL, session->state, &options, &flight->run);
	if (err)
		return tool_fail(TOOL_FAILED, "the run cannot be started: %s", dw_strerror_last());
	err = dw_run_fd(flight->run, &flight->ended);
	if (!err)
		return TOOL_OK;
	tool_fail(0, "%s", dw_strerror_last());
	dw_run_cancel(flight->run);
	dw_run_wait(flight->run);
	return TOOL_SYSTEM;
}

/* True when the run has ended; at the latest after `ms`, or when a signal is there. */
static bool wait_a_while(const struct session *session, const struct flight *flight, int ms)
{
	struct pollfd fds[] = {
		{ .fd = flight->ended, .events = POLLIN },
		{ .fd = session->signals, .events = POLLIN },
	};

	poll(fds, COUNT_OF(fds), ms);
	return fds[0].revents & POLLIN;
}

/* Kills every process of the tree but this one. Its threads end with this process. */
static void kill_children(struct session *session)
{
	struct summary now = { 0 };

	if (!summary_collect(&now, session->plan->worker))
		for (size_t i = 0; i < now.child_count; i++)
			if (now.children[i].alive && now.children[i].pid > 0 &&
			    now.children[i].pid != getpid())
				kill(now.children[i].pid, SIGKILL);
	summary_release(&now);
}

static void show(struct session *session, struct progress *progress)
{
	const struct distworker_job *job = session->file.job;
	char text[160] = "";
	double fraction = job->status ? job->status(session->state, text, sizeof(text)) : 0;

	/* Counters lie in shared memory: reading them costs the tree nothing. */
	if (!summary_collect(&session->summary, session->plan->worker))
		progress_update(progress, fraction, text,
				session->summary.ended);
}

/* The reason to end the run now, as a status; TOOL_OK: there is none. */
static int stop_reason(const struct session *session, int signal, double began)
{
	double timeout = (double)session->options.timeout_ns * 1e-9;

	if (signal)
		return signal_status(signal);
	return timeout > 0 && tool_now() >= began + timeout ? TOOL_FAILED : TOOL_OK;
}

static void cancel(struct session *session, int reason)
{
	fprintf(stderr, "%s: waiting %.0f s for the tasks that have started%s\n",
		reason == TOOL_FAILED ? "the run takes too long" : "cancelled",
		session->options.drain_seconds,
		reason == TOOL_FAILED ? "" : "; once more kills them");
	dw_worker_cancel(session->plan->worker);
}

/* Milliseconds until something is due: a picture, the end of the patience, the run's deadline. */
static int next_due(const struct session *session, const struct progress *progress, double began,
		    double limit)
{
	double end = limit ? limit : session->options.timeout_ns ?
		     began + (double)session->options.timeout_ns * 1e-9 : 0;
	double left = (end - tool_now()) * 1000;
	int due = progress_due(progress);

	if (!end || (due >= 0 && due < left))
		return due;
	return left > 1e6 ? 1000000 : left > 0 ? (int)left + 1 : 0;
}

/*
 * Waits for the end. TOOL_OK: the run ended by itself; else why it was ended.
 * *ended is false when even dead children did not end it.
 */
static int fly(struct session *session, struct flight *flight, bool *ended)
{
	struct progress progress;
	double began = tool_now();
	double limit = 0;		/* end of the patience, once the run was cancelled */
	double heard = 0;
	int status = TOOL_OK;

	progress_begin(&progress, session->options.progress);
	*ended = false;
	while (!*ended) {
		int signal, reason;

		*ended = wait_a_while(session, flight,
				      next_due(session, &progress, began, limit));
		signal = next_signal(session);
		if (status && tool_now() - heard < AGAIN_SECONDS)
			signal = 0;
		if (*ended)
			break;
		reason = stop_reason(session, signal, began);
		if (!status && reason) {
			progress_clear(&progress);
			status = reason;
			heard = tool_now();
			limit = heard + session->options.drain_seconds;
			cancel(session, reason);
		} else if (status && status != TOOL_KILLED && (signal || tool_now() >= limit)) {
			progress_clear(&progress);
			fprintf(stderr, "killing all children\n");
			status = TOOL_KILLED;
			limit = tool_now() + KILL_SECONDS;
			kill_children(session);
		} else if (status == TOOL_KILLED && tool_now() >= limit) {
			break;
		} else {
			show(session, &progress);
		}
	}
	progress_clear(&progress);
	return status;
}

/*
 * Idle for a while, and what the tree did meanwhile. A signal ends it early and is returned; else
 * 0.
 */
static int measure_idle(struct session *session)
{
	struct tree_sample before = { 0 }, after = { 0 };
	struct pollfd fd = { .fd = session->signals, .events = POLLIN };
	struct timespec settle = { .tv_nsec = 200000000 };
	double began, left;
	int signal = 0;

	/* The last wake-ups of the run belong to the run. */
	nanosleep(&settle, NULL);
	if (!tree_sample_take(&before)) {
		began = tool_now();
		while (!signal && (left = began + session->options.idle_seconds - tool_now()) > 0 &&
		       poll(&fd, 1, (int)(left * 1000) + 1) > 0)
			signal = next_signal(session);
		if (!tree_sample_take(&after)) {
			session->summary.idle_seconds = tool_now() - began;
			tree_sample_compare(&before, &after, &session->summary.idle);
		}
	}
	tree_sample_release(&before);
	tree_sample_release(&after);
	return signal;
}

static int ask_job(struct session *session)
{
	struct report report = {
		.base = { .size = sizeof(report.base), .number = report_number, .text = report_text,
			  .fail = report_fail },
		.summary = &session->summary,
	};
	int err = session->file.job->report(session->state, &report.base);

	if (err && !session->summary.error[0])
		text_format(session->summary.error, sizeof(session->summary.error),
			 "the job rejects its result: %s", strerror(-err));
	if (session->summary.results_lost)
		return tool_fail(TOOL_SYSTEM, "no memory for the results of the job");
	return err ? TOOL_REJECTED : TOOL_OK;
}

static int run(struct session *session, bool *ended)
{
	struct tree_sample before = { 0 }, after = { 0 };
	struct summary *summary = &session->summary;
	double began = tool_now();
	struct flight flight;
	int status, err;

	tree_sample_take(&before);
	status = take_off(session, &flight);
	if (status)
		return status;
	status = fly(session, &flight, ended);
	if (!*ended)
		return status;
	err = dw_run_wait(flight.run);
	if (err) {
		text_copy(summary->error, sizeof(summary->error), dw_strerror_last());
		summary_keep_errors(summary);
	}
	summary->seconds = tool_now() - began;
	tree_sample_take(&after);
	tree_sample_compare(&before, &after, &summary->busy);
	tree_sample_release(&before);
	tree_sample_release(&after);
	summary_collect(summary, session->plan->worker);
	dw_args_destroy(flight.args);
	if (err)
		return status ? status : TOOL_FAILED;
	status = ask_job(session);
	if (session->options.idle_seconds > 0) {
		int signal = measure_idle(session);

		status = status ? status : signal_status(signal);
	}
	return status;
}

/* ----------------------------------------------------------------------- end */

static int tell(struct session *session, int status)
{
	session->summary.status = status;
	if (session->summary.error[0])
		tool_fail(status, "%s: %s", session->summary.job, session->summary.error);
	if (!session->options.json)
		summary_text(&session->summary, session->out);
	else if (summary_json(&session->summary, session->out))
		return tool_fail(TOOL_SYSTEM, "no memory for the summary");
	return status;
}

static int take_down(struct session *session, int status)
{
	int err = dw_worker_close(session->plan->worker);

	if (err && !status)
		status = tool_fail(TOOL_FAILED, "the hierarchy did not close: %s",
				   dw_strerror_last());
	return status;
}

static int execute(struct session *session)
{
	struct environment environment;
	bool ended = true;
	int status = session->hosts.node ? TOOL_OK : block_signals(session);

	if (!status)
		status = make_plan(session);
	if (!status)
		status = prepare(session, &environment);
	if (!status && session->hosts.node)
		return hosts_serve(&session->hosts, &session->options, session->plan->worker);
	if (!status)
		status = bring_up(session);
	if (status)
		return status;
	hosts_forward(&session->hosts);
	status = run(session, &ended);
	if (!ended) {
		/* Memory that a stuck thread uses must stay; the end of the process frees it. */
		tool_fail(0, "the run did not end after its children were killed; leaving");
		_exit(TOOL_KILLED);
	}
	status = take_down(session, tell(session, status));
	/* One that came after the run, to us alone, ended nothing, and is not lost. */
	return status ? status : signal_status(next_signal(session));
}

static int show_job_help(const struct distworker_job *job)
{
	printf("Usage: distworker run %s [OPTION...] [-- JOB-OPTION...]\n%s\n\nOptions of the "
	       "job:\n%s",
	       job->name, job->description ? job->description : "",
	       job->usage ? job->usage : "  none\n");
	return TOOL_OK;
}

static bool wants_help(const struct run_options *options)
{
	for (int i = 1; i < options->job_argc; i++)
		if (!strcmp(options->job_argv[i], "--help") || !strcmp(options->job_argv[i], "-h"))
			return true;
	return false;
}

int verb_run(int argc, char **argv)
{
	struct session session = { .signals = -1 };
	char **words = hosts_copy_words(argc, argv);
	int status = run_options_parse(argc, argv, &session.options);

	if (!status && session.options.list) {
		job_list(stdout);
		return TOOL_OK;
	}
	/* Under `trace --json` it is the trace's summary that goes to stdout. */
	session.out = tool_results() == stdout ? NULL : stdout;
	if (!status && session.options.json)
		status = tool_json_only();
	session.out = session.out ? session.out : tool_results();
	if (!status)
		status = job_load(session.options.job, &session.file);
	if (!status && wants_help(&session.options))
		return show_job_help(session.file.job);
	if (!status)
		status = hosts_meet(&session.hosts, &session.options, words);
	if (status)
		return status;
	session.summary.job = session.file.job->name;
	/* The job's name, also where it was given as a path. */
	session.options.job_argv[0] = (char *)session.file.job->name;
	status = execute(&session);
	if (session.plan && session.plan->worker)
		dw_worker_destroy(session.plan->worker);
	if (session.prepared && session.file.job->release)
		session.file.job->release(session.state);
	summary_release(&session.summary);
	free(session.tree);
	plan_destroy(session.plan);
	hosts_release(&session.hosts);
	free(words);
	if (session.signals >= 0)
		close(session.signals);
	return status;
}
