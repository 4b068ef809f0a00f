// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind metrics.h. Trees are read at each request; nothing is kept between two. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "metrics.h"
#include "tool.h"
#include "trees.h"

/* A scraper that says nothing for so long is left. */
#define PATIENCE_SECONDS 5

struct worker_row {
	int32_t root;
	uint32_t tree;			/* of this process: 0, 1, … */
	struct dw_tree_worker worker;
	struct dw_engine_stats engine;
};

struct child_row {
	int32_t root;
	uint32_t tree;
	struct dw_tree_child child;
	struct dw_child_stats stats;
};

struct rows {
	struct worker_row *workers;
	struct child_row *children;
	size_t worker_count, child_count;
	int32_t root;			/* of the last tree */
	uint32_t tree;
	bool failed;
};

/* One number of a row; those of one family follow each other. */
struct series {
	const char *name, *type, *help;		/* name NULL: the family of the one before */
	const char *label;			/* 'state="done"', or NULL */
	size_t offset;
	bool is_32;
	double scale;
	bool chips_only;
};

#define WORKER(field) offsetof(struct worker_row, field)
#define CHILD(field) offsetof(struct child_row, field)

static const struct series worker_series[] = {
	{ "distworker_worker_up", "gauge", "Whether the Worker is initialised and alive.", NULL,
	  WORKER(worker.up), true, 1, false },
	{ "distworker_worker_runs", "gauge", "Runs in flight.", NULL, WORKER(worker.runs), true, 1,
	  false },
	{ "distworker_worker_blocked", "gauge",
	  "Why the orchestration function waits: 0 it does not, 1 window, 2 heap.", NULL,
	  WORKER(worker.blocked), true, 1, false },
	{ "distworker_worker_submitted_total", "counter", "Tasks submitted.", NULL,
	  WORKER(engine.submitted), false, 1, false },
	{ "distworker_worker_tasks_total", "counter", "Tasks by final state.", "state=\"done\"",
	  WORKER(engine.done), false, 1, false },
	{ NULL, NULL, NULL, "state=\"failed\"", WORKER(engine.failed), false, 1, false },
	{ NULL, NULL, NULL, "state=\"skipped\"", WORKER(engine.skipped), false, 1, false },
	{ "distworker_worker_retried_total", "counter", "Attempts that were repeated.", NULL,
	  WORKER(engine.retried), false, 1, false },
	{ "distworker_worker_heap_used_bytes", "gauge", "Heap in use, all rings.", NULL,
	  WORKER(engine.heap_used), false, 1, false },
	{ "distworker_worker_heap_bytes", "gauge", "Size of the heap, all rings.", NULL,
	  WORKER(worker.heap_bytes), false, 1, false },
	{ "distworker_worker_wakes_total", "counter", "Wake-ups paid for children.", NULL,
	  WORKER(engine.parent_wakes), false, 1, false },
	{ "distworker_worker_deaths_total", "counter", "Children that died.", NULL,
	  WORKER(engine.deaths), false, 1, false },
	{ "distworker_worker_restarts_total", "counter", "Children that were replaced.", NULL,
	  WORKER(engine.restarts), false, 1, false },
};

static const struct series child_series[] = {
	{ "distworker_child_alive", "gauge", "Whether the child is alive.", NULL,
	  CHILD(stats.alive), true, 1, false },
	{ "distworker_child_busy", "gauge", "Whether the child is in a callable.", NULL,
	  CHILD(child.busy), true, 1, false },
	{ "distworker_child_queued", "gauge", "Tasks in the child's ring.", NULL,
	  CHILD(child.queued), true, 1, false },
	{ "distworker_child_tasks_total", "counter", "Tasks of the child by final state.",
	  "state=\"done\"", CHILD(stats.tasks_done), false, 1, false },
	{ NULL, NULL, NULL, "state=\"failed\"", CHILD(stats.tasks_failed), false, 1, false },
	{ "distworker_child_busy_seconds_total", "counter", "Time in callables.", NULL,
	  CHILD(stats.busy_ns), false, 1e-9, false },
	{ "distworker_child_cpu_seconds_total", "counter", "CPU time of the child.", NULL,
	  CHILD(stats.cpu_ns), false, 1e-9, false },
	{ "distworker_child_wakes_total", "counter", "Wake-ups that the parent paid for it.", NULL,
	  CHILD(stats.wakes), false, 1, false },
	{ "distworker_child_sleeps_total", "counter", "Times that the child slept.", NULL,
	  CHILD(stats.sleeps), false, 1, false },
	{ "distworker_chip_memory_used_bytes", "gauge", "Device memory in use.", NULL,
	  CHILD(stats.memory_used), false, 1, true },
	{ "distworker_chip_memory_bytes", "gauge", "Device memory that there is.", NULL,
	  CHILD(stats.memory_bytes), false, 1, true },
	{ "distworker_chip_copied_bytes_total", "counter", "Bytes between host and device.",
	  "direction=\"in\"", CHILD(stats.copied_in), false, 1, true },
	{ NULL, NULL, NULL, "direction=\"out\"", CHILD(stats.copied_out), false, 1, true },
	{ "distworker_chip_saved_bytes_total", "counter",
	  "Bytes that were not copied, since the device had them.", NULL, CHILD(stats.saved), false,
	  1, true },
};

static int collect_one(const struct dw_tree *tree, void *context)
{
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	struct rows *rows = context;
	struct worker_row *workers;
	struct child_row *children;

	dw_tree_info(tree, &info);
	/* Those of one process come one after the other. */
	rows->tree = info.pid == rows->root ? rows->tree + 1 : 0;
	rows->root = info.pid;
	workers = realloc(rows->workers,
			  (rows->worker_count + info.worker_count + 1) * sizeof(*workers));
	rows->workers = workers ? workers : rows->workers;
	children = realloc(rows->children,
			   (rows->child_count + info.child_count + 1) * sizeof(*children));
	rows->children = children ? children : rows->children;
	rows->failed = rows->failed || !workers || !children;
	for (uint32_t i = 0; i < info.worker_count && !rows->failed; i++) {
		struct worker_row *row = &workers[rows->worker_count];

		*row = (struct worker_row){ .root = info.pid,
					    .tree = rows->tree,
					    .worker = DW_OPTIONS(dw_tree_worker),
					    .engine = DW_OPTIONS(dw_engine_stats) };
		rows->worker_count += !dw_tree_worker(tree, i, &row->worker) &&
				      !dw_tree_worker_stats(tree, i, &row->engine);
	}
	for (uint32_t i = 0; i < info.child_count && !rows->failed; i++) {
		struct child_row *row = &children[rows->child_count];

		*row = (struct child_row){ .root = info.pid,
					   .tree = rows->tree,
					   .child = DW_OPTIONS(dw_tree_child) };
		rows->child_count +=
			!dw_tree_child(tree, i, &row->child) &&
			!dw_tree_child_stats(tree, i, &row->stats, sizeof(row->stats));
	}
	return 0;
}

/* A label's value: any byte but these three stands as it is. */
static void print_value(FILE *out, const char *text)
{
	for (; *text; text++)
		if (*text == '\n')
			fputs("\\n", out);
		else
			fprintf(out, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
}

static void print_sample(FILE *out, const char *name, const struct series *series,
			 const void *row, int32_t root, uint32_t tree, const char *path,
			 const char *kind)
{
	const char *place = (const char *)row + series->offset;
	uint64_t number;
	uint32_t half;

	memcpy(&number, place, sizeof(number));
	memcpy(&half, place, sizeof(half));
	if (series->is_32)
		number = half;
	fprintf(out, "%s{pid=\"%d\",tree=\"%u\",path=\"", name, root, tree);
	print_value(out, path);
	fprintf(out, "\"%s%s%s%s%s} ", kind ? ",kind=\"" : "", kind ? kind : "", kind ? "\"" : "",
		series->label ? "," : "", series->label ? series->label : "");
	if (series->scale < 1)
		fprintf(out, "%.9f\n", (double)number * series->scale);
	else
		fprintf(out, "%llu\n", (unsigned long long)number);
}

static void print_workers(FILE *out, const struct rows *rows)
{
	const char *name = NULL;

	for (size_t i = 0; i < COUNT_OF(worker_series); i++) {
		const struct series *series = &worker_series[i];

		if (series->name)
			fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", series->name, series->help,
				series->name, series->type);
		name = series->name ? series->name : name;
		for (size_t k = 0; k < rows->worker_count; k++)
			print_sample(out, name, series, &rows->workers[k], rows->workers[k].root,
				     rows->workers[k].tree, rows->workers[k].worker.path, NULL);
	}
}

static void print_children(FILE *out, const struct rows *rows)
{
	static const char *const kinds[] = { "sub", "chip", "worker" };
	const char *name = NULL;

	for (size_t i = 0; i < COUNT_OF(child_series); i++) {
		const struct series *series = &child_series[i];

		if (series->name)
			fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", series->name, series->help,
				series->name, series->type);
		name = series->name ? series->name : name;
		for (size_t k = 0; k < rows->child_count; k++) {
			const struct child_row *row = &rows->children[k];

			if (series->chips_only && row->stats.kind != DW_CHILD_CHIP)
				continue;
			print_sample(out, name, series, row, row->root, row->tree, row->stats.path,
				     row->stats.kind < COUNT_OF(kinds) ? kinds[row->stats.kind] :
									 "?");
		}
	}
}

int metrics_print(int32_t pid, FILE *out)
{
	struct rows rows = { NULL };
	unsigned int found;
	int result = trees_each(pid, collect_one, &rows, &found);

	if (result >= 0 && !rows.failed) {
		fprintf(out, "# HELP distworker_trees Trees that this user may see.\n"
			     "# TYPE distworker_trees gauge\ndistworker_trees %u\n", found);
		print_workers(out, &rows);
		print_children(out, &rows);
	}
	free(rows.workers);
	free(rows.children);
	if (rows.failed)
		return tool_fail(TOOL_SYSTEM, "no memory");
	return result < 0 ? tool_fail(TOOL_NOT_SEEN, "%s", dw_strerror_last()) : TOOL_OK;
}

/* -------------------------------------------------------------------- HTTP */

/* Up to the empty line behind the head. False: no request, or none in time. */
static bool read_request(int connection, char *request, size_t bytes)
{
	size_t used = 0;

	while (used < bytes - 1) {
		ssize_t got = recv(connection, request + used, bytes - 1 - used, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		used += (size_t)got;
		request[used] = '\0';
		if (strstr(request, "\r\n\r\n") || strstr(request, "\n\n"))
			return true;
	}
	return false;
}

static void send_all(int connection, const char *text, size_t bytes)
{
	while (bytes) {
		ssize_t sent = send(connection, text, bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return;
		text += sent;
		bytes -= (size_t)sent;
	}
}

static void answer(int connection, int32_t pid)
{
	struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
	char request[4096], head[256], *text = NULL;
	size_t bytes = 0;
	bool wanted;
	FILE *out;

	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!read_request(connection, request, sizeof(request)))
		return;
	wanted = !strncmp(request, "GET /metrics ", 13) || !strncmp(request, "GET / ", 6);
	out = open_memstream(&text, &bytes);
	if (!out)
		return;
	if (!wanted)
		fputs("GET /metrics\n", out);
	else if (metrics_print(pid, out) != TOOL_OK)
		wanted = false;
	if (!fclose(out)) {
		snprintf(head, sizeof(head),
			 "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n",
			 wanted ? "200 OK" : "404 Not Found", bytes);
		send_all(connection, head, strlen(head));
		send_all(connection, text, bytes);
	}
	free(text);
}

int metrics_serve(int32_t pid, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, connection;
	socklen_t length = sizeof(address);

	if (listener < 0)
		return tool_fail(TOOL_SYSTEM, "no socket: %s", strerror(errno));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16) ||
	    getsockname(listener, (struct sockaddr *)&address, &length)) {
		close(listener);
		return tool_fail(TOOL_SYSTEM, "127.0.0.1:%u: %s", port, strerror(errno));
	}
	printf("http://127.0.0.1:%u/metrics\n", ntohs(address.sin_port));
	if (tool_flush(TOOL_OK))
		return TOOL_SYSTEM;
	for (;;) {
		connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection >= 0) {
			answer(connection, pid);
			close(connection);
		} else if (errno != EINTR && errno != ECONNABORTED) {
			close(listener);
			return tool_fail(TOOL_SYSTEM, "accept: %s", strerror(errno));
		}
	}
}
