/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Calls on the chip are in flight in the order of their frames and complete in
 * that order; a call's cookie is its frame's number. A control frame waits until the chip is idle.
 *
 * A device that is lost, or a driver that broke, ends the chip's process or thread. What it
 * has claimed and not completed stays so: the parent fails it with the cause, once the driver
 * cannot write into its tensors any more. What was not claimed goes to other chips, and a
 * restart policy opens the device anew.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "chip/chip.h"
#include "worker/status_segment.h"
#include "worker/child.h"
#include "worker/chip_loop.h"

struct chip_loop {
	struct child *child;
	struct endpoint *endpoint;
	struct chip *chip;
	uint32_t depth;
	struct frame *held;		/* claimed, waits until the chip is idle */
	uint32_t held_number;
	int broken;			/* -errno: the device can do nothing more; 0: it can */
	char why[TEXT_BYTES];		/* broken: the cause */
};

/* Whether an image is for this chip: of its driver, registered on its Worker or one above. */
static bool concerns(const struct child *child, const struct callable *callable)
{
	if (callable->kind != CALLABLE_IMAGE || strcmp(callable->driver, child->chip->driver) != 0)
		return false;
	for (const struct dw_worker *worker = child->owner; worker; worker = worker->parent)
		if (worker == callable->owner)
			return true;
	return false;
}

int chip_add_callable(struct child *child, struct chip *chip, const struct callable *callable)
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

void chip_remove_callable(struct chip *chip, dw_callable handle)
{
	if (chip_image_loaded(chip, handle))
		chip_image_unload(chip, handle);
}

struct load {
	struct child *child;
	struct chip *chip;
};

static int load_one(struct callable *callable, void *context)
{
	struct load *load = context;

	return chip_add_callable(load->child, load->chip, callable);
}

int chip_start(struct child *child, struct chip **chip)
{
	struct load load = { .child = child };
	int result;

	result = chip_open(child->chip->driver, child->chip->device, child->chip->options, &load.chip);
	if (result < 0)
		return result;
	result = callable_each(load_one, &load);
	if (result < 0) {
		chip_close(load.chip);
		return result;
	}
	*chip = load.chip;
	return 0;
}

void chip_stop(struct chip *chip)
{
	chip_close(chip);
}

static void note_broken(struct chip_loop *loop, int error)
{
	if (loop->broken)
		return;
	loop->broken = error;
	text_copy(loop->why, sizeof(loop->why), error_text());
}

static void hold(struct chip_loop *loop, struct frame *frame, uint32_t number)
{
	loop->held = frame;
	loop->held_number = number;
}

/*
 * A tensor is shared memory, or lies on this device. Device memory of the process that had
 * the device before is neither, and the driver would take it for host memory.
 */
static int check_places(const struct chip_loop *loop, const struct dw_args *args)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const struct dw_tensor *tensor = &args->tensors[i];
		uint64_t bytes;

		if (dw_tensor_bytes(tensor, &bytes) < 0 || !bytes ||
		    arena_contains(loop->child->owner->arena, tensor->data, bytes) ||
		    chip_owns(loop->chip, tensor->data))
			continue;
		return error_set(-EFAULT, "tensor %u at %#llx is neither shared memory nor memory of this device: "
				 "what dw_chip_alloc() gave is lost with the chip's process; allocate it again",
				 i, (unsigned long long)tensor->data);
	}
	return 0;
}

/* A call that cannot be submitted fails in its turn: when those before it have completed. */
static void start_call(struct chip_loop *loop, struct frame *frame, uint32_t number)
{
	void *blob = frame->args ? (void *)(uintptr_t)frame->args : (void *)(frame + 1);
	uint64_t now = now_ns();
	struct callable *callable;
	struct dw_args args;
	int result;

	result = wire_decode(blob, frame->args_bytes, &args);
	if (result == 0)
		result = check_places(loop, &args);
	if (result == 0 && !chip_in_flight(loop->chip) &&
	    callable_held(frame->callable, &callable) == 0)
		child_works(loop->child, callable, frame->task, now);
	if (result == 0)
		result = chip_submit(loop->chip, frame->callable, &args, &frame->config, number,
				     (const volatile uint32_t *)&frame->cancel);
	if (result < 0 && chip_lost(loop->chip))
		note_broken(loop, result);
	if (result < 0 && chip_in_flight(loop->chip))
		hold(loop, frame, number);
	else if (result < 0)
		endpoint_complete(loop->endpoint, number, result, error_text(), now, now_ns());
	if (result < 0 && !chip_in_flight(loop->chip))
		child_waits(loop->child, now);
}

/* What does not overlap with calls in flight: control frames, and calls that were refused. */
static void serve_alone(struct chip_loop *loop, struct frame *frame, uint32_t number)
{
	void *blob = frame->args ? (void *)(uintptr_t)frame->args : (void *)(frame + 1);
	uint64_t now = now_ns();
	int result;

	if (frame->kind == FRAME_TASK) {
		start_call(loop, frame, number);
		return;
	}
	result = control_handle(loop->child, loop->chip, frame->callable, blob, frame->args_bytes);
	endpoint_complete(loop->endpoint, number, result, result < 0 ? error_text() : NULL, now,
			  now_ns());
}

/* Fills the chip's queue; returns whether anything was done. */
static bool submit_frames(struct chip_loop *loop)
{
	struct frame *frame = loop->held;
	uint32_t number;
	bool any = false;

	if (frame) {
		if (chip_in_flight(loop->chip))
			return false;
		loop->held = NULL;
		serve_alone(loop, frame, loop->held_number);
		any = true;
	}
	while (!loop->held && !loop->broken && chip_in_flight(loop->chip) < loop->depth &&
	       (frame = endpoint_next(loop->endpoint, &number))) {
		any = true;
		if (frame->kind != FRAME_TASK && chip_in_flight(loop->chip))
			hold(loop, frame, number);
		else
			serve_alone(loop, frame, number);
	}
	return any;
}

/* Whether something was completed. */
static bool collect(struct chip_loop *loop)
{
	struct chip_completion completion;
	bool any = false;
	uint64_t ended = 0;
	int result;

	while ((result = chip_collect(loop->chip, &completion)) == 1) {
		child_ended(loop->child);
		endpoint_complete(loop->endpoint, (uint32_t)completion.cookie, completion.status,
				  completion.status ? completion.text : NULL, completion.started,
				  completion.ended);
		ended = completion.ended;
		any = true;
		if (chip_lost(loop->chip)) {
			note_broken(loop, completion.status);
			break;
		}
	}
	if (result < 0)
		note_broken(loop, result);
	if (any && !chip_in_flight(loop->chip))
		child_waits(loop->child, ended);
	else if (any)
		__atomic_store_n(&loop->child->owner->child_status[loop->child->index].since, ended,
				 __ATOMIC_RELAXED);
	return any;
}

static void wait_for_both(struct chip_loop *loop)
{
	struct pollfd polls[2] = {
		{ .fd = chip_completion_fd(loop->chip), .events = POLLIN },
		{ .fd = endpoint_bell_fd(loop->endpoint), .events = POLLIN },
	};
	/* Once it was told to stop, the bell may ring all the time. */
	bool room = !loop->held && chip_in_flight(loop->chip) < loop->depth &&
		    !endpoint_stopping(loop->endpoint);

	if (room && endpoint_bell_arm(loop->endpoint))
		return;
	if (poll(polls, room ? 2 : 1, -1) > 0 && room)
		endpoint_bell_clear(loop->endpoint);
}

/* The last word on this endpoint: whoever reads it gives what is left in the ring to others. */
static void leave_broken(const struct chip_loop *loop, uint32_t generation)
{
	error_set(loop->broken, "the device is out of order: %s", loop->why);
	link_send(loop->child->link_child, LINK_ERROR, generation, loop->broken, error_text());
}

int chip_serve(struct child *child, uint32_t generation, struct endpoint *endpoint,
		struct chip *chip)
{
	struct chip_loop loop = {
		.child = child, .endpoint = endpoint, .chip = chip, .depth = chip_depth(chip),
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
		child_count_sleeps(child, endpoint);
	}
}
