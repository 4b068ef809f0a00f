/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The role of a chip worker: one thread that waits for its mailbox and its chip at once, and stages
 * the next task while the chip works. See role.h.
 *
 * Calls on the chip are in flight in the order of their frames and complete in that order; a call's
 * cookie is its frame's number. A control frame waits until the chip is idle.
 *
 * A device that is lost, or a driver that broke, ends the chip's process or thread. A frame that it
 * has claimed and not completed stays so: the parent fails it with the cause, once the driver
 * cannot write into its tensors any more. Other frames go to other chips, and a restart policy
 * opens the device anew.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "chip/cache.h"
#include "chip/chip.h"
#include "trace/copies.h"
#include "worker/control.h"
#include "worker/role.h"
#include "worker/serve.h"

/* The device, what it keeps from one call to the next, and the trace of its copies (or NULL). */
struct open_chip {
	struct chip *chip;
	struct chip_cache *cache;
	struct copies *copies;
};

#define CALLS_MOST 16			/* in flight, those of struct chip */

struct chip_loop {
	struct child *child;
	struct endpoint *endpoint;
	struct chip *chip;
	struct chip_cache *cache;
	struct copies *copies;
	uint32_t depth;
	uint64_t tasks[CALLS_MOST];	/* in flight, in the order of their calls */
	uint32_t submitted, collected;
	struct frame *parked;		/* claimed, waits until the chip is idle */
	uint32_t parked_number;
	int broken;			/* -errno: the device has failed for good; 0: it works */
	char why[TEXT_BYTES];		/* broken: the cause */
};

/* Publishes the state that others see, before the task or call that changed it ends. */
static void show_counters(struct child *child, struct chip *chip, const struct chip_cache *cache)
{
	struct chip_status now = { .memory_bytes = chip_properties(chip)->memory_bytes };
	struct chip_cache_counters kept;
	struct dw_chip_counters counters;

	if (chip_counters(chip, &counters) < 0)
		return;
	now.memory_used = counters.memory_used;
	now.copied_in = counters.bytes_in;
	now.copied_out = counters.bytes_out;
	if (cache) {
		cache_counters(cache, &kept);
		now.saved = kept.saved_bytes;
	}
	status_chip(&child->status, &now);
}

/* Is the image for this chip: of its driver, and registered on its Worker or one above? */
static bool concerns(const struct child *child, const struct callable *callable)
{
	if (callable->kind != CALLABLE_IMAGE || strcmp(callable->driver, child->chip->driver) != 0)
		return false;
	for (const struct dw_worker *worker = child->owner; worker; worker = worker->parent)
		if (worker == callable->owner)
			return true;
	return false;
}

static int load_image(const struct child *child, struct chip *chip, const struct callable *callable)
{
	struct dw_chip_image_spec spec = {
		.size = sizeof(spec),
		.name = callable->name,
		.data = callable->data,
		.bytes = callable->bytes,
		.entry = callable->entry,
		.signature = callable->signature,
		.signature_count = callable->signature_count,
	};

	if (!concerns(child, callable) || chip_image_loaded(chip, callable->handle))
		return 0;
	return chip_image_load(chip, callable->handle, &spec);
}

struct load {
	const struct child *child;
	struct chip *chip;
};

static int load_one(struct callable *callable, void *context)
{
	struct load *load = context;

	return load_image(load->child, load->chip, callable);
}

static void note_copy(struct copies *copies, uint64_t task, const struct dw_chip_copy *copy)
{
	struct copied copied = {
		.task = task, .tensor = copy->tensor, .bytes = copy->bytes,
		.way = copy->flags & DW_CHIP_COPY_IN ? "in" : "out",
		.started = copy->started_ns, .ended = copy->ended_ns,
	};

	copies_add(copies, &copied);
}

static void note_settled(void *context, uint64_t task, const struct dw_chip_copy *copy)
{
	note_copy(context, task, copy);
}

static void close_chip(struct open_chip *open)
{
	copies_destroy(open->copies);
	cache_destroy(open->cache);
	chip_close(open->chip);
	free(open);
}

static int start(struct child *child, uint32_t generation, bool process, void **state)
{
	struct open_chip *open = calloc(1, sizeof(*open));
	struct load load = { .child = child };
	int result;

	(void)generation;
	(void)process;
	if (!open)
		return error_set(-ENOMEM, "%s: no memory for a chip", child->path);
	result = chip_open(child->chip->driver, child->chip->device, child->chip->options,
			   &open->chip);
	if (result < 0) {
		free(open);
		return result;
	}
	load.chip = open->chip;
	result = callable_each(load_one, &load);
	if (result == 0)
		result = cache_create(open->chip, &open->cache);
	if (result == 0)
		result = copies_create(&worker_root(child->owner)->life.trace_files, child->path,
				       &open->copies);
	if (open->copies)
		chip_note_copies(open->chip);
	if (open->copies && open->cache)
		cache_tell_settled(open->cache, note_settled, open->copies);
	if (result < 0) {
		close_chip(open);
		return result;
	}
	*state = open;
	show_counters(child, open->chip, open->cache);
	return 0;
}

static void stop(struct child *child, bool process, int error, void *state)
{
	struct open_chip *open = state;

	(void)child;
	/* Exiting closes the device too, and cannot hang in the driver of a lost one. */
	if (error && process)
		copies_destroy(open->copies);
	else
		close_chip(open);
}

/* ---------------------------------------------------------------- control frames */

/* The engine's own frames for dw_chip_alloc() and dw_chip_free(). */
static int chip_memory(const struct chip_loop *loop, uint64_t code, const void *blob,
		       uint32_t bytes)
{
	const struct child *child = loop->child;
	struct chip *chip = loop->chip;
	struct engine_chip_memory message;
	int result;

	if (bytes != sizeof(message))
		return error_set(-EINVAL,
				 "%s: a message about device memory of %u bytes; %zu bytes "
				 "would be right",
				 child->path, bytes, sizeof(message));
	memcpy(&message, blob, sizeof(message));
	if (code == ENGINE_CONTROL_CHIP_ALLOC) {
		do
			result = chip_alloc(chip, message.handle, message.bytes);
		while (result == -ENOMEM && loop->cache &&
		       cache_shrink(loop->cache, message.bytes));
		return result;
	}
	/* This process succeeds the one that had the memory, which is already gone. */
	if (!chip_owns(chip, message.handle))
		return 0;
	return chip_free(chip, message.handle);
}

static bool is_shared(const struct child *child, const struct dw_tensor *tensor, uint64_t bytes)
{
	return arena_contains(child->owner->arena, tensor->data, bytes);
}

/* Bit 63 marks addresses that stand for device memory. */
static int lost_error(const struct child *child, uint32_t i, const struct dw_tensor *tensor,
		      uint64_t bytes)
{
	const struct segment_child *place = &child->owner->segment.children[child->index];
	unsigned long long at = tensor->data, length = bytes;
	char cause[sizeof(place->cause)];

	memcpy(cause, place->cause, sizeof(cause));
	cause[sizeof(cause) - 1] = '\0';
	if (at >> 63 == 0)
		return error_set(-EFAULT,
				 "tensor %u at %#llx is neither shared memory nor memory of this "
				 "device", i, at);
	if (!cause[0])
		return error_set(-EFAULT, "tensor %u, %#llx + %llu bytes, is no device memory that "
				 "%s has: it was freed", i, at, length, child->path);
	return error_set(-EFAULT, "tensor %u, %#llx + %llu bytes, is no device memory that %s has: "
			 "what it had is lost with its predecessor (%s); create it again, and copy "
			 "into it again", i, at, length, child->path, cause);
}

/*
 * A tensor must be shared memory, or lie on this device. Device memory of this process's
 * predecessor is neither, and the driver would take it for host memory.
 */
static int check_places(const struct child *child, const struct chip *chip,
			const struct dw_args *args)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const struct dw_tensor *tensor = &args->tensors[i];
		uint64_t bytes;

		if (dw_tensor_bytes(tensor, &bytes) < 0 || !bytes ||
		    is_shared(child, tensor, bytes) || chip_owns(chip, tensor->data))
			continue;
		return lost_error(child, i, tensor, bytes);
	}
	return 0;
}

/* Some signatures are known only here; for others, submit checks them (names_check()). */
static int check_signature(const struct child *child, struct chip *chip, uint64_t callable,
			   const struct dw_args *args, const struct frame_names *names)
{
	size_t count = 0;
	const int32_t *signature = names ? chip_image_signature(chip, callable, &count) : NULL;

	for (uint32_t i = 0; signature && i < args->tensor_count && i < count; i++)
		if (names[i].sees && !names[i].makes && signature[i] > DW_DIR_IN)
			return error_set(-EINVAL, "%s: tensor %u is INPUT, but the image writes it "
					 "(%s in its signature): it should be %s", child->path, i,
					 signature[i] == DW_DIR_OUT ? "OUT" : "INOUT",
					 signature[i] == DW_DIR_OUT ? "OUTPUT" : "INOUT");
	return 0;
}

/* dw_submit_copy(): from tensor 1 to tensor 0. */
static int chip_copy(const struct chip_loop *loop, uint64_t task, void *blob, uint32_t bytes)
{
	const struct child *child = loop->child;
	struct chip *chip = loop->chip;
	struct copied copied = { .task = task, .started = now_ns(), .way = "within" };
	const struct dw_tensor *to, *from;
	struct dw_args args;
	uint64_t length = 0, from_length = 0;
	int result = wire_decode(blob, bytes, &args);

	if (result == 0 && args.tensor_count != 2)
		result = error_set(-EINVAL, "%s: a copy of %u tensors; 2 would be right",
				   child->path, args.tensor_count);
	if (result == 0)
		result = check_places(child, chip, &args);
	if (result < 0)
		return result;
	to = &args.tensors[0];
	from = &args.tensors[1];
	result = tensor_check(to, 0, &length);
	if (result == 0)
		result = tensor_check(from, 1, &from_length);
	if (result == 0 && length != from_length)
		result = error_set(-EINVAL, "%s: a copy of %llu bytes to %llu", child->path,
				   (unsigned long long)from_length, (unsigned long long)length);
	if (result < 0)
		return result;
	copied.bytes = length;
	if (is_shared(child, to, length)) {
		copied.way = "out";
		copied.tensor = 1;
		result = chip_copy_out(chip, (void *)(uintptr_t)to->data, from->data, length);
	} else if (is_shared(child, from, length)) {
		copied.way = "in";
		result = chip_copy_in(chip, to->data, (void *)(uintptr_t)from->data, length);
	} else {
		result = chip_copy_within(chip, to->data, from->data, length);
	}
	copied.ended = now_ns();
	if (result == 0)
		copies_add(loop->copies, &copied);
	return result;
}

static int run_control(const struct chip_loop *loop, struct frame *frame)
{
	void *blob = serve_blob(frame);
	const struct child *child = loop->child;
	struct chip *chip = loop->chip;
	struct callable callable;
	dw_callable handle;
	int result;

	switch (frame->callable) {
	case CONTROL_REGISTER:
		result = control_register(blob, &callable);
		return result < 0 ? result : load_image(child, chip, &callable);
	case CONTROL_UNREGISTER:
		handle = control_unregister(blob);
		if (chip_image_loaded(chip, handle))
			chip_image_unload(chip, handle);
		return 0;
	case ENGINE_CONTROL_CHIP_ALLOC:
	case ENGINE_CONTROL_CHIP_FREE:
		return chip_memory(loop, frame->callable, blob, frame->args_bytes);
	case ENGINE_CONTROL_CHIP_COPY:
		return chip_copy(loop, frame->task, blob, frame->args_bytes);
	}
	return control_unknown(frame->callable);
}

/* ------------------------------------------------------------------------- tasks */

static void note_broken(struct chip_loop *loop, int error)
{
	if (loop->broken)
		return;
	loop->broken = error;
	text_copy(loop->why, sizeof(loop->why), error_text());
}

static void park(struct chip_loop *loop, struct frame *frame, uint32_t number)
{
	loop->parked = frame;
	loop->parked_number = number;
}

/* A kept block could not be copied home, and is lost with the device. */
static void check_cache(struct chip_loop *loop)
{
	if (loop->cache && cache_error(loop->cache))
		note_broken(loop, cache_error(loop->cache));
}

/* Copies home all that is kept. False: that failed, and the device is given up. */
static bool settled(struct chip_loop *loop)
{
	if (!loop->cache)
		return true;
	cache_settle(loop->cache);
	show_counters(loop->child, loop->chip, loop->cache);
	check_cache(loop);
	return !cache_error(loop->cache);
}

/*
 * Completes a frame. After a failure, later frames may run anywhere, so results that are kept for
 * them are copied home first. If that fails, the frame is left for the parent to fail.
 */
static void complete(struct chip_loop *loop, uint32_t number, int result, const char *text,
		     uint64_t started, uint64_t ended)
{
	if (result == 0 || settled(loop))
		endpoint_complete(loop->endpoint, number, result, text, started, ended);
}

/* Finds the call that supersedes the frame; NULL: none is known yet. `args`: room for a view. */
static const struct superseder *superseder(const struct chip_loop *loop, uint32_t number,
					   uint64_t task, struct superseder *by,
					   struct dw_args *args)
{
	struct frame *frame = endpoint_superseder(loop->endpoint, number, &by->frame);

	if (!frame || serve_args(frame, args) < 0)
		return NULL;
	by->args = args;
	by->task = task;
	by->names = serve_names(frame, args);
	by->signature = chip_image_signature(loop->chip, frame->callable, &by->signature_count);
	return by->names && by->signature ? by : NULL;
}

/*
 * Gives the call to the chip, with the places of its tensors. *lost: the call must not be retried.
 */
static int submit_call(struct chip_loop *loop, struct frame *frame, uint32_t number,
		       const struct dw_args *args, bool *lost)
{
	const struct dw_chip_place *places = NULL;
	struct dw_args by_args;
	const int32_t *signature;
	struct superseder by;
	size_t count = 0;
	int result;

	if (loop->cache) {
		signature = chip_image_signature(loop->chip, frame->callable, &count);
		places = cache_begin(loop->cache, args, signature, signature ? count : 0,
				     serve_names(frame, args),
				     superseder(loop, number, frame->task, &by, &by_args));
		check_cache(loop);
		if (loop->broken) {
			*lost = cache_undo(loop->cache, true);
			return loop->broken;
		}
	}
	result = chip_submit_at(loop->chip, frame->callable, args, places, &frame->config, number,
				(const volatile uint32_t *)&frame->cancel);
	/* A synchronous call may have run until memory ran out. */
	if (result < 0 && loop->cache)
		*lost = cache_undo(loop->cache, result != -ENOMEM || chip_is_async(loop->chip));
	if (result == 0)
		loop->tasks[loop->submitted++ % CALLS_MOST] = frame->task;
	return result;
}

/* A call that cannot be submitted fails in its turn: after the calls before it. */
static void start_call(struct chip_loop *loop, struct frame *frame, uint32_t number)
{
	uint64_t now = now_ns();
	struct callable *callable;
	struct dw_args args;
	bool lost = false;
	int result;

	/*
	 * The run was cancelled, but this frame was not revoked, since it may be bound to this
	 * chip.
	 */
	if (frame->flags & FRAME_CHAINED &&
	    atomic_load_explicit(&frame->cancel, memory_order_acquire) && settled(loop)) {
		endpoint_return(loop->endpoint, number);
		return;
	}
	if (loop->broken)
		return;
	result = serve_args(frame, &args);
	if (result == 0)
		result = check_places(loop->child, loop->chip, &args);
	if (result == 0)
		result = check_signature(loop->child, loop->chip, frame->callable, &args,
					 serve_names(frame, &args));
	if (result == 0 && !chip_in_flight(loop->chip) &&
	    callable_held(frame->callable, &callable) == 0)
		status_works(&loop->child->status, callable, frame->task, now);
	if (result == 0)
		result = submit_call(loop, frame, number, &args, &lost);
	/* Kept tensors may hold the memory that this call needs. */
	while (result == -ENOMEM && !lost && loop->cache && cache_shrink_for(loop->cache, &args))
		result = submit_call(loop, frame, number, &args, &lost);
	check_cache(loop);
	/* The frame stays as it is, like those in flight. */
	if (loop->broken)
		return;
	if (result < 0 && chip_lost(loop->chip))
		note_broken(loop, result);
	if (result < 0 && chip_in_flight(loop->chip))
		park(loop, frame, number);
	else if (result < 0)
		complete(loop, number, result, error_text(), now, now_ns());
	if (result < 0 && !chip_in_flight(loop->chip))
		status_waits(&loop->child->status, now);
}

/* Frames that do not overlap with calls in flight: control, and calls that were refused. */
static void serve_alone(struct chip_loop *loop, struct frame *frame, uint32_t number)
{
	static const struct callable copy = {
		.handle = ENGINE_CONTROL_CHIP_COPY, .name = (char *)"copy",
	};
	bool task = frame->callable == ENGINE_CONTROL_CHIP_COPY;
	uint64_t now = now_ns();
	int result;

	if (frame->kind == FRAME_TASK) {
		start_call(loop, frame, number);
		return;
	}
	if (task)
		status_works(&loop->child->status, &copy, frame->task, now);
	/* A copy may read kept results; an allocation may have dropped some of them. */
	if (task && !settled(loop))
		return;
	result = run_control(loop, frame);
	check_cache(loop);
	if (result < 0 && chip_lost(loop->chip))
		note_broken(loop, result);
	if (task)
		status_ended(&loop->child->status);
	show_counters(loop->child, loop->chip, loop->cache);
	if (task)
		status_waits(&loop->child->status, now_ns());
	complete(loop, number, result, result < 0 ? error_text() : NULL, now, now_ns());
}

/* Fills the chip's queue; returns whether anything was done. */
static bool submit_frames(struct chip_loop *loop)
{
	struct frame *frame = loop->parked;
	uint32_t number;
	bool any = false;

	if (frame) {
		if (chip_in_flight(loop->chip))
			return false;
		loop->parked = NULL;
		serve_alone(loop, frame, loop->parked_number);
		any = true;
	}
	while (!loop->parked && !loop->broken && chip_in_flight(loop->chip) < loop->depth &&
	       (frame = endpoint_next(loop->endpoint, &number))) {
		any = true;
		if (loop->cache)
			cache_forgo(loop->cache, number);
		if (frame->kind != FRAME_TASK && chip_in_flight(loop->chip))
			park(loop, frame, number);
		else
			serve_alone(loop, frame, number);
	}
	if (loop->cache && !loop->parked)
		cache_forgo(loop->cache, endpoint_position(loop->endpoint));
	return any;
}

static void trace_copies(struct chip_loop *loop, const struct chip_completion *completion)
{
	uint64_t task = loop->tasks[loop->collected++ % CALLS_MOST];

	for (uint32_t i = 0; loop->copies && i < completion->copy_count; i++)
		note_copy(loop->copies, task, &completion->copies[i]);
}

/* Handles the end of the oldest call. */
static void end_call(struct chip_loop *loop, struct chip_completion *completion)
{
	uint32_t number = (uint32_t)completion->cookie, by, there;
	const char *text = completion->text;
	char lost[TEXT_BYTES];
	bool keep = false;
	int kept = 0;

	if (loop->cache) {
		keep = cache_keeps(loop->cache, &by) &&
		       endpoint_superseder(loop->endpoint, number, &there) && there == by;
		kept = cache_end(loop->cache, completion->status == 0, keep);
	}
	if (kept < 0) {
		completion->status = kept;
		text = error_text();
	}
	if (completion->status && loop->cache && cache_lost(loop->cache)) {
		text_format(lost, sizeof(lost),
			    "%s; the result of task %llu, which only %s had, is lost with it",
			    text_limited(text, TEXT_BYTES / 2),
			    (unsigned long long)cache_lost(loop->cache), loop->child->path);
		text = lost;
	}
	if (chip_lost(loop->chip))
		note_broken(loop, completion->status);
	trace_copies(loop, completion);
	status_ended(&loop->child->status);
	show_counters(loop->child, loop->chip, loop->cache);
	if (kept > 0)
		endpoint_kept(loop->endpoint, number, completion->started, completion->ended);
	else
		complete(loop, number, completion->status, completion->status ? text : NULL,
			 completion->started, completion->ended);
}

/*
 * Completes one call, and returns whether there was one. One at a time: the queue is refilled
 * before the driver is asked for the next completion, since a driver that has none may block, and
 * would stage nothing meanwhile.
 */
static bool collect(struct chip_loop *loop)
{
	struct chip_completion completion;
	int result = chip_collect(loop->chip, &completion);

	if (result < 0)
		note_broken(loop, result);
	if (result != 1)
		return false;
	end_call(loop, &completion);
	if (chip_in_flight(loop->chip))
		status_since(&loop->child->status, completion.ended);
	else
		status_waits(&loop->child->status, completion.ended);
	return true;
}

static void wait_for_both(struct chip_loop *loop)
{
	struct pollfd polls[2] = {
		{ .fd = chip_completion_fd(loop->chip), .events = POLLIN },
		{ .fd = endpoint_bell_fd(loop->endpoint), .events = POLLIN },
	};
	/* After a stop request, the bell may stay readable. */
	bool room = !loop->parked && chip_in_flight(loop->chip) < loop->depth &&
		    !endpoint_stopping(loop->endpoint);

	if (room && endpoint_bell_arm(loop->endpoint))
		return;
	if (poll(polls, room ? 2 : 1, -1) > 0 && room)
		endpoint_bell_clear(loop->endpoint, (uint32_t)polls[1].revents);
}

/* The last use of this endpoint: the parent gives the frames left in the ring to others. */
static void leave_broken(const struct chip_loop *loop, uint32_t generation)
{
	error_set(loop->broken, "the device is out of order: %s", loop->why);
	link_send(loop->child->link.child, LINK_ERROR, generation, loop->broken, error_text());
}

static int serve(struct child *child, uint32_t generation, struct endpoint *endpoint, void *state)
{
	const struct open_chip *open = state;
	struct chip *chip = open->chip;
	struct chip_loop loop = {
		.child = child, .endpoint = endpoint, .chip = chip, .cache = open->cache,
		.copies = open->copies, .depth = chip_depth(chip),
	};
	int result;

	for (;;) {
		bool any = submit_frames(&loop);

		any = collect(&loop) || any;
		if (loop.broken) {
			leave_broken(&loop, generation);
			return loop.broken;
		}
		if (any)
			continue;
		if (chip_in_flight(chip)) {
			wait_for_both(&loop);
			continue;
		}
		result = endpoint_wait(endpoint);
		if (result == -ESHUTDOWN || result == -EOWNERDEAD)
			return 0;
		serve_count_waits(child, endpoint);
	}
}

const struct role role_chip = { .start = start, .serve = serve, .stop = stop };
