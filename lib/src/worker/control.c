/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See control.h. A nested Worker passes a frame on to its children before it completes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "callable/callable.h"
#include "worker/control.h"
#include "worker/hierarchy.h"

/*
 * A callable as bytes: this, then five strings with their NULs, then the signature (from
 * `signature_at`).
 */
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
		return error_set(-ENOMEM, "no memory to announce callable %s",
				 text_short(callable->name));
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

void control_decode(const void *blob, struct callable *callable)
{
	const struct control_callable *head = blob;
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

uint64_t control_owner(const void *blob)
{
	return ((const struct control_callable *)blob)->owner;
}

void control_set_owner(void *blob, uint64_t owner)
{
	((struct control_callable *)blob)->owner = owner;
}

void *control_image(const void *blob, uint64_t *bytes)
{
	const struct control_callable *head = blob;

	*bytes = head->kind == CALLABLE_IMAGE ? head->data_bytes : 0;
	return (void *)(uintptr_t)head->data;
}

const char *control_object(const void *blob)
{
	struct callable callable;

	control_decode(blob, &callable);
	return callable_is_symbol(callable.kind) ? callable.path : NULL;
}

int control_check(const void *blob, size_t bytes)
{
	const struct control_callable *head = blob;
	const char *at = (const char *)(head + 1);
	size_t left = bytes < sizeof(*head) ? 0 : bytes - sizeof(*head), length;

	for (int i = 0; i < STRINGS; i++) {
		length = left ? strnlen(at, left) : 0;
		if (length == left)
			return error_set(-EBADMSG,
					 "the registration of a callable, %zu bytes, is none",
					 bytes);
		at += length + 1;
		left -= length + 1;
	}
	if (head->signature_at <= bytes && head->signature_at % sizeof(int32_t) == 0 &&
	    head->signature_count <= (bytes - head->signature_at) / sizeof(int32_t))
		return 0;
	return error_set(-EBADMSG, "the signature of a callable, %u words, makes no sense",
			 head->signature_count);
}

int control_register(const void *blob, struct callable *callable)
{
	dw_callable handle;

	control_decode(blob, callable);
	return callable_add(callable, &handle);
}

dw_callable control_unregister(const void *blob)
{
	dw_callable handle;

	memcpy(&handle, blob, sizeof(handle));
	/* In a thread of the requesting process, the callable is retired already. */
	callable_retire(handle);
	return handle;
}

int control_unknown(uint64_t code)
{
	return error_set(-EINVAL, "control frame with the unknown code %llu",
			 (unsigned long long)code);
}

static bool child_is_ready(struct dw_worker *worker, uint32_t i)
{
	bool ready;

	pthread_mutex_lock(&worker->lock);
	ready = worker->children[i].life.state == CHILD_READY;
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
 * Must the child be told, although no task of this process uses the callable any more? A chip has
 * its image, and a nested Worker's process has its name for tasks of its own. A sub worker only
 * runs the callables that it is given, and a long task there must not delay the unregistration.
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
 * A driver loads an image as during init, and gets as much time. A nested Worker bounds the time of
 * each of its own children, one after the other.
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
		result = engine_control_until(worker->life.engine, i, code, blob, bytes, &limits,
					      deadline_ns);
		/* If the child dies meanwhile, its replacement is told. */
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

/*
 * Sends a callable that may be newer than the spawner's fork; the child recognises an older one by
 * its handle.
 */
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
	result = engine_control_send(child->owner->life.engine, child->index, CONTROL_REGISTER,
				     blob, bytes, &limits);
	free(blob);
	return result;
}

int control_replay(struct child *child)
{
	return callable_each(replay_one, child);
}
