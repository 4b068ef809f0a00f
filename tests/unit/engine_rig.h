/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * An engine with children for tests: a hub (on the futex provider), an arena, an
 * engine, and children (processes, or threads) that loop on endpoint_next() as the worker
 * layer's do. Subs run dw_sub_fn; "nested Workers" call their dw_orch_fn with no
 * Orchestrator, so that directed tasks can be tested without a worker layer.
 */
#ifndef ENGINE_RIG_H
#define ENGINE_RIG_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/deadline.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/submit.h"
#include "task/running.h"

#define RIG_WORKERS 64

struct rig_options {
	uint32_t subs, nested, depth, frame_bytes;
	uint64_t heap_ring_bytes, heap_timeout_ns, timeout_ns;
	bool threads, restart, check_declared;
};

struct rig {
	struct rig_options options;
	struct hub *hub;
	struct arena *arena;
	struct engine *engine;
	uint32_t count;
	_Atomic pid_t pids[RIG_WORKERS];
	pthread_t threads[RIG_WORKERS];
	char paths[RIG_WORKERS][32];
	pthread_t reaper;
	_Atomic bool closing;
	_Atomic uint32_t kills, cancels;
	_Atomic uint32_t *go;		/* shared, per worker: bound */
};

__attribute__((unused)) static uint64_t rig_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

__attribute__((unused)) static void rig_sleep(uint64_t ns)
{
	struct timespec time = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	nanosleep(&time, NULL);
}

/* Burns CPU for `ns` nanoseconds. */
__attribute__((unused)) static void rig_spin(uint64_t ns)
{
	uint64_t end = rig_now() + ns;

	while (rig_now() < end)
		;
}

/* This child's endpoint, for callables that misbehave. */
static struct endpoint *rig_endpoint;

static void rig_frame(struct endpoint *endpoint, struct frame *frame, uint32_t number,
		      uint64_t started)
{
	void *blob = frame->args ? (void *)(uintptr_t)frame->args : (void *)(frame + 1);
	struct running_task running;
	struct callable *callable;
	struct dw_args args;
	int result;

	if (frame->kind == FRAME_CONTROL) {
		result = frame->callable == 7 ? error_set(-EIO, "control 7 fails") : 0;
		endpoint_complete(endpoint, number, result, error_text(), started, rig_now());
		return;
	}
	result = wire_decode(blob, frame->args_bytes, &args);
	if (result == 0)
		result = callable_get(frame->callable, &callable);
	if (result == 0) {
		running_push(&running, &frame->cancel);
		result = callable->kind == CALLABLE_SUB ?
			 callable->sub(&args, callable->context) :
			 callable->orch(NULL, &args, &frame->config, callable->context);
		result = running_pop(&running, result);
	}
	endpoint_complete(endpoint, number, result, result ? error_text() : NULL, started,
			  rig_now());
}

static void rig_serve(struct hub *hub, uint32_t i, _Atomic uint32_t *go)
{
	uint64_t started;
	struct endpoint *endpoint;
	struct frame *frame;
	uint32_t number;
	int result;

	while (!atomic_load(&go[i]))
		rig_sleep(100000);
	result = endpoint_attach(hub, i, &endpoint);
	if (result < 0) {
		fprintf(stderr, "# attach: %s\n", error_text());
		return;
	}
	atomic_store(&go[i], 2);
	if ((uint32_t)getpid() != atomic_load(&go[RIG_WORKERS]))
		rig_endpoint = endpoint;
	started = rig_now();
	for (;;) {
		while ((frame = endpoint_next(endpoint, &number))) {
			rig_frame(endpoint, frame, number, started);
			started = rig_now();
		}
		result = endpoint_wait(endpoint);
		if (result == -ESHUTDOWN || result == -EOWNERDEAD)
			break;
		started = rig_now();
	}
	endpoint_detach(endpoint);
}

struct rig_thread {
	struct rig *rig;
	uint32_t index;
};

static void *rig_thread_main(void *argument)
{
	struct rig_thread thread = *(struct rig_thread *)argument;

	free(argument);
	rig_serve(thread.rig->hub, thread.index, thread.rig->go);
	return NULL;
}

static void rig_bind(struct rig *rig, uint32_t i)
{
	if (hub_bind(rig->hub, i, rig->options.threads ? getpid() : rig->pids[i]) < 0)
		fprintf(stderr, "# bind: %s\n", error_text());
}

static void rig_fork(struct rig *rig, uint32_t i)
{
	pid_t parent = getpid();

	rig->pids[i] = fork();
	if (rig->pids[i])
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	rig_serve(rig->hub, i, rig->go);
	_exit(0);
}

static void rig_wait_attached(struct rig *rig, uint32_t i)
{
	atomic_store(&rig->go[i], 1);
	while (atomic_load(&rig->go[i]) != 2)
		rig_sleep(50000);
}

struct rig_call {
	struct rig *rig;
	uint32_t index;
};

static void rig_rearm(void *context)
{
	struct rig_call *call = context;

	if (hub_rearm(call->rig->hub, call->index) < 0)
		fprintf(stderr, "# rearm: %s\n", error_text());
	rig_bind(call->rig, call->index);
}

static void *rig_reap(void *argument)
{
	struct rig *rig = argument;
	int status;
	pid_t pid;

	while (!atomic_load(&rig->closing)) {
		pid = waitpid(-1, &status, 0);
		if (pid < 0) {
			if (errno == ECHILD && atomic_load(&rig->closing))
				break;
			rig_sleep(1000000);
			continue;
		}
		for (uint32_t i = 0; i < rig->count; i++) {
			char cause[64];
			bool returns = rig->options.restart && !atomic_load(&rig->closing);

			if (rig->pids[i] != pid)
				continue;
			rig->pids[i] = 0;
			if (atomic_load(&rig->closing))
				break;
			snprintf(cause, sizeof(cause), "killed by %s, pid %d",
				 WIFSIGNALED(status) ? error_signal_name(WTERMSIG(status)) : "exit",
				 (int)pid);
			engine_worker_dead(rig->engine, i, returns, -EOWNERDEAD, cause);
			rig_sleep(1000000);
			engine_worker_gone(rig->engine, i);
			if (returns) {
				struct rig_call call = { rig, i };

				atomic_store(&rig->go[i], 0);
				rig_fork(rig, i);
				engine_locked(rig->engine, rig_rearm, &call);
				rig_wait_attached(rig, i);
				engine_worker_up(rig->engine, i);
			}
			break;
		}
	}
	return NULL;
}

static bool rig_op_kill(void *context, uint32_t worker, const char *why)
{
	struct rig *rig = context;

	(void)why;
	atomic_fetch_add(&rig->kills, 1);
	if (rig->pids[worker])
		kill(rig->pids[worker], SIGKILL);
	return true;
}

static void rig_op_cancelled(void *context, uint32_t worker)
{
	struct rig *rig = context;

	(void)worker;
	atomic_fetch_add(&rig->cancels, 1);
}

static const struct engine_ops rig_ops = { .kill = rig_op_kill, .cancelled = rig_op_cancelled };

/* Register callables before. NULL, with a message, on an error. */
__attribute__((unused)) static struct rig *rig_open(struct rig_options options)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct engine_worker workers[RIG_WORKERS];
	struct hub_options hub = {
		/* In a guest, that of the environment: see tests/runtime/guest. */
		.provider = getenv("DW_PROVIDER") ? DW_PROVIDER_AUTO : DW_PROVIDER_FUTEX,
		.mailboxes = options.subs + options.nested,
		.depth = options.depth ? options.depth : 64,
		.frame_bytes = options.frame_bytes ? options.frame_bytes : 512,
	};
	struct engine_options engine = {
		.path = "top", .workers = workers, .extra_fd = -1, .ops = &rig_ops,
		.ops_context = rig, .heap_timeout_ns = options.heap_timeout_ns,
		.timeout_ns = options.timeout_ns,
	};

	rig->options = options;
	rig->count = options.subs + options.nested;
	rig->go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	atomic_store(&rig->go[RIG_WORKERS], (uint32_t)getpid());
	if (arena_create(options.heap_ring_bytes ? options.heap_ring_bytes : 64 << 20, 256 << 20,
			 NULL, &rig->arena) < 0 || hub_create(&hub, &rig->hub) < 0)
		goto fail;
	for (uint32_t i = 0; i < rig->count; i++) {
		bool sub = i < options.subs;

		snprintf(rig->paths[i], sizeof(rig->paths[i]), "top/%s%u", sub ? "sub" : "node",
			 sub ? i : i - options.subs);
		workers[i] = (struct engine_worker){
			.kind = sub ? DW_CHILD_SUB : DW_CHILD_WORKER, .path = rig->paths[i],
		};
	}
	engine.hub = rig->hub;
	engine.arena = rig->arena;
	engine.worker_count = rig->count;
	if (engine_create(&engine, &rig->engine) < 0)
		goto fail;
	for (uint32_t i = 0; i < rig->count && !options.threads; i++)
		rig_fork(rig, i);
	for (uint32_t i = 0; i < rig->count; i++) {
		rig_bind(rig, i);
		if (options.threads) {
			struct rig_thread *thread = malloc(sizeof(*thread));

			*thread = (struct rig_thread){ rig, i };
			pthread_create(&rig->threads[i], NULL, rig_thread_main, thread);
		}
	}
	if (engine_start(rig->engine) < 0)
		goto fail;
	if (!options.threads)
		pthread_create(&rig->reaper, NULL, rig_reap, rig);
	for (uint32_t i = 0; i < rig->count; i++) {
		rig_wait_attached(rig, i);
		engine_worker_up(rig->engine, i);
	}
	return rig;
fail:
	fprintf(stderr, "# rig: %s\n", error_text());
	return NULL;
}

static void rig_stop_all(void *context)
{
	struct rig *rig = context;

	for (uint32_t i = 0; i < rig->count; i++) {
		hub_stop(rig->hub, i);
		hub_mark_wake(rig->hub, i);
	}
}

__attribute__((unused)) static void rig_close(struct rig *rig)
{
	struct deadline deadline = deadline_at(rig_now() + 10000000000ULL);

	engine_drain(rig->engine, &deadline);
	atomic_store(&rig->closing, true);
	engine_locked(rig->engine, rig_stop_all, rig);
	hub_wake(rig->hub);
	if (rig->options.threads)
		for (uint32_t i = 0; i < rig->count; i++)
			pthread_join(rig->threads[i], NULL);
	else
		pthread_join(rig->reaper, NULL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	engine_stop(rig->engine);
	engine_destroy(rig->engine);
	hub_destroy(rig->hub);
	arena_destroy(rig->arena);
	munmap((void *)rig->go, 4096);
	free(rig);
}

__attribute__((unused)) static int rig_run(struct rig *rig, dw_orch_fn *fn, void *context)
{
	return engine_run(rig->engine, fn, NULL, NULL, context, NULL);
}

__attribute__((unused)) static dw_callable rig_sub(const char *name, dw_sub_fn *fn)
{
	struct callable callable = { .kind = CALLABLE_SUB, .name = (char *)name, .sub = fn };
	dw_callable handle = 0;

	if (callable_add(&callable, &handle) < 0)
		fprintf(stderr, "# callable %s: %s\n", name, error_text());
	return handle;
}

__attribute__((unused)) static dw_callable rig_node(const char *name, dw_orch_fn *fn)
{
	struct callable callable = { .kind = CALLABLE_ORCH, .name = (char *)name, .orch = fn };
	dw_callable handle = 0;

	if (callable_add(&callable, &handle) < 0)
		fprintf(stderr, "# callable %s: %s\n", name, error_text());
	return handle;
}

__attribute__((unused)) static void *rig_buffer(struct rig *rig, uint64_t bytes)
{
	void *address = NULL;

	if (arena_alloc(rig->arena, bytes, &address) < 0)
		fprintf(stderr, "# buffer: %s\n", error_text());
	return address;
}

/* One tensor of int64 elements. */
__attribute__((unused)) static void rig_add(struct dw_args *args, void *data, uint32_t count,
					    enum dw_tag tag)
{
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, data, DW_INT64, &count, 1);
	dw_args_add_tensor(args, &tensor, tag);
}

#endif
