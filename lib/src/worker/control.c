/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Control frames: what the tree is told after init. They pass through the same
 * rings as tasks, so a task that is submitted after a registration finds it done. A
 * nested Worker passes them on to its own children before it completes them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "chip/chip.h"
#include "worker/chip_loop.h"

/* A callable as bytes: this, then five strings with their NULs, then the signature (from `signature_at`). */
struct control_callable {
	uint64_t handle;
	uint64_t owner;			/* the Worker's address, the same in all descendants */
	uint64_t data;			/* of an image, in the arena */
	uint64_t data_bytes;
	uint32_t kind;
	uint32_t signature_count;
	uint32_t signature_at;
	uint8_t identity[32];
	uint32_t reserved;
};

#define STRINGS 5

static const char **strings_of(const struct callable *callable, const char *strings[STRINGS])
{
	strings[0] = callable->name;
	strings[1] = callable->path;
	strings[2] = callable->symbol;
	strings[3] = callable->driver;
	strings[4] = callable->entry;
	return strings;
}

int control_encode(const struct callable *callable, void **blob, uint32_t *bytes)
{
	const char *strings[STRINGS];
	struct control_callable *head;
	size_t at = sizeof(*head);
	size_t total;

	strings_of(callable, strings);
	for (int i = 0; i < STRINGS; i++)
		at += strings[i] ? strlen(strings[i]) + 1 : 1;
	at = (at + 7) & ~(size_t)7;
	total = at + callable->signature_count * sizeof(int32_t);
	head = calloc(1, total);
	if (!head)
		return error_set(-ENOMEM, "no memory to announce callable %s", text_short(callable->name));
	head->handle = callable->handle;
	head->owner = (uint64_t)(uintptr_t)callable->owner;
	head->data = (uint64_t)(uintptr_t)callable->data;
	head->data_bytes = callable->bytes;
	head->kind = callable->kind;
	head->signature_count = callable->signature_count;
	head->signature_at = (uint32_t)at;
	memcpy(head->identity, callable->identity, sizeof(head->identity));
	if (callable->signature_count)
		memcpy((char *)head + at, callable->signature,
		       callable->signature_count * sizeof(int32_t));
	at = sizeof(*head);
	for (int i = 0; i < STRINGS; i++) {
		if (strings[i])
			strcpy((char *)head + at, strings[i]);
		at += strings[i] ? strlen(strings[i]) + 1 : 1;
	}
	*blob = head;
	*bytes = (uint32_t)total;
	return 0;
}

/* Strings and signature stay in the blob; callable_add() copies them. */
static void decode(const struct control_callable *head, struct callable *callable)
{
	const char *at = (const char *)(head + 1);
	char *strings[STRINGS];

	for (int i = 0; i < STRINGS; i++) {
		strings[i] = *at ? (char *)at : NULL;
		at += strlen(at) + 1;
	}
	memset(callable, 0, sizeof(*callable));
	callable->handle = head->handle;
	callable->owner = (const void *)(uintptr_t)head->owner;
	callable->data = (void *)(uintptr_t)head->data;
	callable->bytes = head->data_bytes;
	callable->kind = head->kind;
	callable->name = strings[0];
	callable->path = strings[1];
	callable->symbol = strings[2];
	callable->driver = strings[3];
	callable->entry = strings[4];
	callable->signature_count = head->signature_count;
	if (head->signature_count)
		callable->signature = (int32_t *)((char *)head + head->signature_at);
	memcpy(callable->identity, head->identity, sizeof(callable->identity));
}

static int on_register(struct child *child, struct chip *chip, const void *blob, uint32_t bytes)
{
	struct callable callable;
	dw_callable handle;
	int result;

	decode(blob, &callable);
	result = callable_add(&callable, &handle);
	if (result < 0)
		return result;
	if (chip)
		return chip_add_callable(child, chip, &callable);
	return child->nested ? control_broadcast(child->nested, CONTROL_REGISTER, blob, bytes) : 0;
}

static int on_unregister(struct child *child, struct chip *chip, const void *blob, uint32_t bytes)
{
	dw_callable handle;
	int result = 0;

	memcpy(&handle, blob, sizeof(handle));
	if (child->nested)
		result = control_broadcast(child->nested, CONTROL_UNREGISTER, blob, bytes);
	if (chip)
		chip_remove_callable(chip, handle);
	/* In a thread of the process that asked, it is retired already. */
	callable_retire(handle);
	return result;
}

/* dw_chip_alloc(), dw_chip_free(): the engine's own frames. */
static int on_chip_memory(struct child *child, struct chip *chip, uint64_t code, const void *blob,
			  uint32_t bytes)
{
	struct engine_chip_memory message;

	if (!chip || bytes != sizeof(message))
		return error_set(-EINVAL, "%s: a message about device memory of %u bytes; a chip and %zu "
				 "bytes would be right", child->path, bytes, sizeof(message));
	memcpy(&message, blob, sizeof(message));
	if (code == ENGINE_CONTROL_CHIP_ALLOC)
		return chip_alloc(chip, message.handle, message.bytes);
	/* A successor of the process that had it: it is gone already. */
	if (!chip_owns(chip, message.handle))
		return 0;
	return chip_free(chip, message.handle);
}

int control_handle(struct child *child, struct chip *chip, uint64_t code, const void *blob,
		   uint32_t bytes)
{
	switch (code) {
	case CONTROL_REGISTER:
		return on_register(child, chip, blob, bytes);
	case CONTROL_UNREGISTER:
		return on_unregister(child, chip, blob, bytes);
	case ENGINE_CONTROL_CHIP_ALLOC:
	case ENGINE_CONTROL_CHIP_FREE:
		return on_chip_memory(child, chip, code, blob, bytes);
	}
	return error_set(-EINVAL, "control frame with the unknown code %llu",
			 (unsigned long long)code);
}

static bool child_is_ready(struct dw_worker *worker, uint32_t i)
{
	bool ready;

	pthread_mutex_lock(&worker->lock);
	ready = worker->children[i].state == CHILD_READY;
	pthread_mutex_unlock(&worker->lock);
	return ready;
}

static bool keeps_callable(const struct child *child, enum callable_kind kind);

static bool some_must_forget(const struct dw_worker *worker, enum callable_kind kind)
{
	for (uint32_t i = 0; i < worker->child_count; i++)
		if (keeps_callable(&worker->children[i], kind))
			return true;
	return false;
}

/*
 * Whether anything there still has a callable that no task of this process uses: a chip its image, a nested
 * Worker's process its name, for its own tasks. A sub worker runs what it is given; it shall not hold up who
 * unregisters because of a long task.
 */
static bool keeps_callable(const struct child *child, enum callable_kind kind)
{
	if (child->kind == DW_CHILD_SUB)
		return false;
	if (child->kind == DW_CHILD_CHIP)
		return kind == CALLABLE_IMAGE;
	return child->owner->options.mode == DW_PROCESS || some_must_forget(child->nested, kind);
}

static bool concerns(const struct child *child, uint64_t code, const void *blob)
{
	dw_callable handle;

	if (code != CONTROL_UNREGISTER)
		return true;
	memcpy(&handle, blob, sizeof(handle));
	return keeps_callable(child, callable_kind_of(handle));
}

/*
 * A driver loads an image as it does during init, and has as long. A nested Worker bounds what its own
 * children do, one after the other.
 */
static struct engine_control_limits limits_of(const struct child *child, uint64_t code)
{
	return (struct engine_control_limits){
		.what = code == CONTROL_REGISTER ? "the registration of a callable" :
						   "the unregistration of a callable",
		.timeout_ns = child->kind == DW_CHILD_WORKER ? 0 : worker_init_budget(child->owner),
	};
}

int control_broadcast_until(struct dw_worker *worker, uint64_t code, const void *blob,
			    uint32_t bytes, uint64_t deadline_ns)
{
	char text[ERROR_TEXT_BYTES];
	struct engine_control_limits limits;
	int result, first = 0;

	for (uint32_t i = 0; i < worker->child_count; i++) {
		if (!concerns(&worker->children[i], code, blob) || !child_is_ready(worker, i))
			continue;
		limits = limits_of(&worker->children[i], code);
		result = engine_control_until(worker->engine, i, code, blob, bytes, &limits,
					      deadline_ns);
		/* A child that dies meanwhile learns it as a replacement. */
		if (result < 0 && result != -EOWNERDEAD && !first) {
			first = result;
			strcpy(text, error_text());
		}
	}
	return first < 0 ? error_set(first, "%s", text) : 0;
}

int control_broadcast(struct dw_worker *worker, uint64_t code, const void *blob, uint32_t bytes)
{
	return control_broadcast_until(worker, code, blob, bytes, UINT64_MAX);
}

/* Everything that was not there yet when the spawner was forked; what was is recognised by its handle. */
static int replay_one(struct callable *callable, void *context)
{
	struct child *child = context;
	struct engine_control_limits limits = limits_of(child, CONTROL_REGISTER);
	uint32_t bytes;
	void *blob;
	int result;

	if (callable->kind == CALLABLE_ORCH || callable->kind == CALLABLE_SUB)
		return 0;
	result = control_encode(callable, &blob, &bytes);
	if (result < 0)
		return result;
	result = engine_control_send(child->owner->engine, child->index, CONTROL_REGISTER, blob, bytes,
				     &limits);
	free(blob);
	return result;
}

int control_replay(struct child *child)
{
	return callable_each(replay_one, child);
}
