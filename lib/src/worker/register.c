/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See register.h. The children know functions because they are forked after their registration;
 * symbols and images are announced to them by control frames.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "base/deadline.h"
#include "base/fd.h"
#include "base/text.h"
#include "callable/symbol.h"
#include "engine/record.h"
#include "task/name.h"
#include "task/options.h"
#include "worker/control.h"
#include "worker/hierarchy.h"
#include "worker/register.h"

static int find_above(const struct dw_worker *worker, const char *name, dw_callable *handle)
{
	for (; worker; worker = worker->parent)
		if (callable_by_owner(worker, name, handle) == 0)
			return 0;
	return error_set(-ENOENT, "no callable is registered under the name \"%s\"",
			 text_short(name));
}

DW_API int dw_callable_find(struct dw_worker *worker, const char *name, dw_callable *handle)
{
	int result = worker_check(worker, "dw_callable_find");

	if (result < 0)
		return result;
	if (!name || !handle)
		return error_set(-EINVAL, "dw_callable_find: `name` or `callable` is NULL");
	return find_above(worker, name, handle);
}

DW_API int dw_orch_find(struct dw_orch *orch, const char *name, dw_callable *handle)
{
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	if (!name || !handle)
		return error_set(-EINVAL, "dw_orch_find: `name` or `callable` is NULL");
	return find_above(engine_context(orch_engine(orch)), name, handle);
}

/*
 * Only the root's process assigns and announces handles: if a nested Worker's process assigned one,
 * the root would assign the same handle to another callable.
 */
static int check_register(const struct dw_worker *worker, const char *call)
{
	int result = worker_check(worker, call);
	const struct dw_worker *root = worker;

	if (result < 0)
		return result;
	while (root->parent)
		root = root->parent;
	if (root->above[0])
		return error_set(-EINVAL,
				 "%s: Worker %s is on another host than its root, below %s: "
				 "register in the root's process",
				 call, worker->path, root->above);
	if (root->owner_pid != getpid())
		return error_set(-EINVAL,
				 "%s: Worker %s is a child of %s and runs in a process of its own; "
				 "register in the root's process %d",
				 call, worker->path, worker->parent->path, (int)root->owner_pid);
	return 0;
}

/*
 * Finds the Worker whose children must be told: the nearest one, going up, that is UP in this
 * process. A child process tells its own children.
 */
static struct dw_worker *announcer(struct dw_worker *worker)
{
	while (worker && worker->life.state != WORKER_UP)
		worker = worker->parent;
	return worker;
}

/* --------------------------------------------------------------- functions */

static int register_function(struct dw_worker *worker, struct callable *callable,
			     dw_callable *handle)
{
	int result = check_register(worker, "dw_callable_register");

	if (result < 0)
		return result;
	if (!callable->name || !callable->name[0] || !handle)
		return error_set(-EINVAL,
				 "dw_callable_register: the name is empty, or `callable` is NULL");
	result = name_check("the name of a function,", callable->name, NAME_FUNCTION_MOST);
	if (result < 0)
		return result;
	callable->owner = worker;
	lock_take(&worker_root(worker)->registering);
	if (worker_root(worker)->life.state != WORKER_NEW)
		result = error_set(
			-EBUSY,
			"function \"%s\": Worker %s was initialised already, and its "
			"children would not know it; register functions before init, or a symbol",
			text_short(callable->name), worker->name);
	else
		result = callable_add(callable, handle);
	lock_give(&worker_root(worker)->registering);
	return result;
}

DW_API int dw_callable_register_orch(struct dw_worker *worker, const char *name, dw_orch_fn *fn,
				     void *context, dw_callable *handle)
{
	struct callable callable = {
		.kind = CALLABLE_ORCH, .name = (char *)name, .orch = fn, .context = context,
	};

	if (!fn)
		return error_set(-EINVAL, "orchestration function \"%s\" is NULL",
				 text_short(name));
	return register_function(worker, &callable, handle);
}

DW_API int dw_callable_register_sub(struct dw_worker *worker, const char *name, dw_sub_fn *fn,
				    void *context, dw_callable *handle)
{
	struct callable callable = {
		.kind = CALLABLE_SUB, .name = (char *)name, .sub = fn, .context = context,
	};

	if (!fn)
		return error_set(-EINVAL, "sub function \"%s\" is NULL", text_short(name));
	return register_function(worker, &callable, handle);
}

/* -------------------------------------------------------- symbols and images */

#define IMAGE_KEPT ((void *)1)	/* callable.context of an image whose bytes outlive it */

/* In every engine of this process: tasks of any Worker may use a callable of another. */
static void request_notify_tasks(struct dw_worker *worker, const struct callable *callable)
{
	if (worker->life.state != WORKER_UP)
		return;
	engine_request_notify(worker->life.engine, callable);
	for (uint32_t i = 0; i < worker->nested_count; i++)
		request_notify_tasks(worker->nested[i], callable);
}

/* -EBUSY: a recorded graph in this process uses it. */
static int check_recordings(struct dw_worker *worker, dw_callable handle, const char *call)
{
	int result = 0;

	if (worker->life.engine)
		result = engine_records_use_callable(worker->life.engine, handle, call);
	for (uint32_t i = 0; result == 0 && i < worker->nested_count; i++)
		result = check_recordings(worker->nested[i], handle, call);
	return result;
}

/* Afterwards no caller can find it, and no task of this process uses it. */
static int retire(struct dw_worker *worker, dw_callable handle, struct callable *callable)
{
	struct deadline none = deadline_at(NEVER);
	int result = callable_retire(handle);

	if (result < 0)
		return result;
	request_notify_tasks(worker_root(worker), callable);
	return callable_wait(callable, &none);
}

/*
 * Tells the children, and then frees its bytes, `data`. Takes `registering`, since an init may have
 * forked a copy of it.
 */
static int forget_locked(struct dw_worker *worker, dw_callable handle, void *data,
			 uint64_t deadline_ns)
{
	struct dw_worker *told = announcer(worker);
	int result = told ? control_broadcast_until(told, CONTROL_UNREGISTER, &handle,
						    sizeof(handle), deadline_ns) : 0;

	if (result == 0 && data)
		arena_free(worker_root(worker)->arena, data);
	return result;
}

static void *bytes_of(const struct callable *callable)
{
	return callable->context == IMAGE_KEPT ? NULL : callable->data;
}

/* Takes back a callable that a child has refused. */
static void discard_locked(struct dw_worker *worker, dw_callable handle)
{
	struct callable *callable;
	void *data;

	if (callable_get(handle, &callable) < 0)
		return;
	data = bytes_of(callable);
	if (retire(worker, handle, callable) == 0)
		forget_locked(worker, handle, data, NEVER);
}

/*
 * Adds it here, then tells the children; a callable that a child refuses is taken back everywhere,
 * an image with its bytes.
 */
static int announce(struct dw_worker *worker, struct callable *callable, dw_callable *handle)
{
	struct dw_worker *told = announcer(worker);
	char text[ERROR_TEXT_BYTES];
	dw_callable given;
	uint32_t bytes;
	void *blob;
	int result;

	result = callable_add(callable, &given);
	if (result < 0) {
		if (callable->data)
			arena_free(worker_root(worker)->arena, callable->data);
		return result;
	}
	callable->handle = given;
	if (told) {
		result = control_encode(callable, &blob, &bytes);
		if (result == 0) {
			result = control_broadcast(told, CONTROL_REGISTER, blob, bytes);
			free(blob);
		}
	}
	if (result < 0) {
		text_copy(text, sizeof(text), error_text());
		discard_locked(worker, given);
		return error_set(result, "%s", text);
	}
	*handle = given;
	return 0;
}

struct same {
	const struct callable *wanted;
	dw_callable found;
};

static bool same_signature(const struct callable *a, const struct callable *b)
{
	return a->signature_count == b->signature_count &&
	       (!a->signature_count ||
		memcmp(a->signature, b->signature, a->signature_count * sizeof(int32_t)) == 0);
}

static int is_same(struct callable *callable, void *context)
{
	struct same *same = context;
	const struct callable *wanted = same->wanted;

	if (callable->owner == wanted->owner && callable->kind == wanted->kind &&
	    memcmp(callable->identity, wanted->identity, sizeof(wanted->identity)) == 0 &&
	    strcmp(callable->name, wanted->name) == 0) {
		same->found = callable->handle;
		return 1;
	}
	return 0;
}

static int is_same_image(struct callable *callable, void *context)
{
	struct same *same = context;
	const struct callable *wanted = same->wanted;

	if (callable->owner != wanted->owner || callable->kind != CALLABLE_IMAGE ||
	    memcmp(callable->identity, wanted->identity, sizeof(wanted->identity)) != 0 ||
	    strcmp(callable->driver, wanted->driver) != 0 ||
	    strcmp(callable->entry, wanted->entry) != 0 || !same_signature(callable, wanted))
		return 0;
	/* A length and a checksum identify the contents. */
	if (memcmp(callable->data, wanted->data, wanted->bytes) != 0)
		return 0;
	same->found = callable->handle;
	return 1;
}

/* 1 with its handle, 0 or -ENOMEM. */
static int known_image(const struct callable *callable, dw_callable *handle)
{
	struct same same = { .wanted = callable };
	int result = callable_each(is_same_image, &same);

	if (same.found)
		*handle = same.found;
	return result;
}

/* The same contents under the same name are the same callable. See known_image(). */
static int known(const struct callable *callable, dw_callable *handle)
{
	struct same same = { .wanted = callable };
	int result = callable_each(is_same, &same);

	if (same.found)
		*handle = same.found;
	return result;
}

DW_API int dw_callable_register_symbol(struct dw_worker *worker, const char *symbol,
				       enum dw_symbol_kind kind, dw_callable *handle)
{
	struct callable callable = { .owner = worker, .name = (char *)symbol };
	char path[PATH_MAX], real[PATH_MAX];
	const char *colon;
	int result = check_register(worker, "dw_callable_register_symbol");

	if (result == 0)
		result = worker_check_no_task(worker, "dw_callable_register_symbol");
	if (result < 0)
		return result;
	colon = symbol ? strrchr(symbol, ':') : NULL;
	if (!colon || colon == symbol || !colon[1])
		return error_set(-EINVAL, "symbol \"%s\"; it should be \"path/libjob.so:name\"",
				 text_short(symbol));
	if (kind != DW_SYMBOL_ORCH && kind != DW_SYMBOL_SUB)
		return error_set(-EINVAL,
				 "symbol \"%s\": kind is %d; it should be DW_SYMBOL_ORCH or "
				 "DW_SYMBOL_SUB",
				 text_short(symbol), kind);
	if (!handle)
		return error_set(-EINVAL, "symbol \"%s\": `callable` is NULL", text_short(symbol));
	if ((size_t)(colon - symbol) > NAME_PATH_MOST)
		return error_set(
			-ENAMETOOLONG,
			"symbol \"%s\": the path of its file has %zu bytes; at most %d are "
			"possible",
			text_short(symbol), (size_t)(colon - symbol), NAME_PATH_MOST);
	result = name_check("symbol", colon + 1, NAME_SYMBOL_MOST);
	if (result < 0)
		return result;
	memcpy(path, symbol, (size_t)(colon - symbol));
	path[colon - symbol] = '\0';
	if (!realpath(path, real))
		return error_set(-errno, "shared object %s: %s%s", text_short(path),
				 strerror(errno), error_hint(errno));
	callable.kind = kind == DW_SYMBOL_ORCH ? CALLABLE_SYMBOL_ORCH : CALLABLE_SYMBOL_SUB;
	callable.path = real;
	callable.symbol = (char *)colon + 1;
	result = symbol_identify(real, callable.symbol, callable.identity);
	if (result < 0)
		return result;
	lock_take(&worker_root(worker)->registering);
	result = known(&callable, handle);
	if (result == 0)
		result = announce(worker, &callable, handle);
	lock_give(&worker_root(worker)->registering);
	if (result == -EEXIST)
		error_set(
			result,
			"symbol \"%s\" is registered already, as another kind or of a file that "
			"has "
			"changed since: unregister that first",
			text_short(symbol));
	return result < 0 ? result : 0;
}

/* Copies the image's bytes into the tree's arena, where every chip worker reads them in place. */
static int place_image(struct dw_worker *root, const struct dw_image_options *options,
		       struct callable *callable)
{
	struct stat stat;
	ssize_t n = 0;
	int result, fd = -1;

	callable->bytes = options->bytes;
	if (!options->data) {
		fd = fd_move_up(open(options->path, O_RDONLY | O_CLOEXEC));
		if (fd < 0 || fstat(fd, &stat) < 0) {
			result = error_set(-errno, "image %s: %s%s", text_short(options->path),
					   strerror(errno), error_hint(errno));
			goto out;
		}
		callable->bytes = (uint64_t)stat.st_size;
	}
	if (!callable->bytes) {
		result = error_set(-EINVAL, "image %s is empty", text_short(options->path));
		goto out;
	}
	result = hierarchy_make_arena(root, NULL);
	if (result == 0)
		result = arena_alloc(root->arena, callable->bytes, &callable->data);
	if (result < 0)
		goto out;
	if (options->data)
		memcpy(callable->data, options->data, callable->bytes);
	for (uint64_t at = 0; fd >= 0 && at < callable->bytes; at += (uint64_t)n) {
		n = read(fd, (char *)callable->data + at, callable->bytes - at);
		if (n <= 0) {
			result = error_set(
				n ? -errno : -EIO, "image %s: %s", text_short(options->path),
				n ? strerror(errno) : "it became shorter while it was read");
			arena_free(root->arena, callable->data);
			break;
		}
	}
out:
	if (fd >= 0)
		close(fd);
	return result;
}

/* "driver:entry#number": a name is never cut, so that a free number is found. */
#define IMAGE_NAME_BYTES (NAME_PATH_MOST + NAME_ENTRY_MOST + sizeof(":#4294967295"))

static int check_image(const struct dw_image_options *o)
{
	int result = name_check_driver("image options: driver", o->driver);

	if (result < 0)
		return result;
	if (!o->entry || !o->entry[0])
		return error_set(-EINVAL, "image options: entry is empty; it should name a kernel");
	result = name_check("image options: entry", o->entry, NAME_ENTRY_MOST);
	if (result == 0 && o->path)
		result = name_check("image options: path", o->path, NAME_PATH_MOST);
	if (result < 0)
		return result;
	if (!o->data == !o->path)
		return error_set(-EINVAL, "image %s: give either data or path",
				 text_short(o->entry));
	if (o->signature_count && !o->signature)
		return error_set(-EINVAL, "image %s: signature_count is %zu and signature is NULL",
				 text_short(o->entry), o->signature_count);
	for (size_t i = 0; i < o->signature_count; i++)
		if (o->signature[i] < DW_DIR_SCALAR || o->signature[i] > DW_DIR_INOUT)
			return error_set(-EINVAL,
					 "image %s: signature[%zu] is %d; it should be 0 to 3",
					 text_short(o->entry), i, o->signature[i]);
	return 0;
}

/*
 * "driver:entry", by which dw_callable_find() finds it; a later image of the same name with other
 * content, or another signature, has the next free number behind it.
 */
static void name_image(const struct callable *callable, char *name, size_t space)
{
	dw_callable taken;

	text_format(name, space, "%s:%s", callable->driver, callable->entry);
	for (unsigned int number = 2; callable_by_owner(callable->owner, name, &taken) == 0;
	     number++)
		text_format(name, space, "%s:%s#%u", callable->driver, callable->entry, number);
}

/* The bytes are in the arena; an error frees them. */
static int register_placed(struct callable *callable, const struct dw_image_options *options,
			   dw_callable *handle)
{
	struct dw_worker *worker = (struct dw_worker *)callable->owner;
	uint32_t crc = (uint32_t)crc32_z(crc32(0, NULL, 0), callable->data, callable->bytes);
	char name[IMAGE_NAME_BYTES];
	int result;

	memcpy(callable->identity, &callable->bytes, sizeof(callable->bytes));
	memcpy(callable->identity + sizeof(callable->bytes), &crc, sizeof(crc));
	callable->driver = (char *)options->driver;
	callable->entry = (char *)options->entry;
	callable->signature = (int32_t *)options->signature;
	callable->signature_count = (uint32_t)options->signature_count;
	lock_take(&worker_root(worker)->registering);
	/* Spawners have copies of callables from before init, which refer to the bytes for ever. */
	callable->context = worker_root(worker)->life.state == WORKER_NEW ? IMAGE_KEPT : NULL;
	result = known_image(callable, handle);
	if (result) {
		arena_free(worker_root(worker)->arena, callable->data);
	} else {
		name_image(callable, name, sizeof(name));
		callable->name = name;
		result = announce(worker, callable, handle);
	}
	lock_give(&worker_root(worker)->registering);
	return result < 0 ? result : 0;
}

DW_API int dw_callable_register_image(struct dw_worker *worker,
				      const struct dw_image_options *options, dw_callable *handle)
{
	struct callable callable = { .owner = worker, .kind = CALLABLE_IMAGE };
	int result = check_register(worker, "dw_callable_register_image");
	struct dw_image_options full;

	if (result == 0)
		result = worker_check_no_task(worker, "dw_callable_register_image");
	if (result == 0)
		result = options_read(&full, sizeof(full), options, "dw_image_options");
	if (result == 0)
		result = check_image(&full);
	if (result == 0 && !handle)
		result = error_set(-EINVAL, "image %s: `callable` is NULL", text_short(full.entry));
	if (result == 0)
		result = place_image(worker_root(worker), &full, &callable);
	if (result < 0)
		return result;
	return register_placed(&callable, &full, handle);
}

/* -------------------------------------------------------------- unregister */

/* Several threads may wait for the same callable: one of them takes the last step. */
static int forget(struct dw_worker *worker, dw_callable handle, void *data,
		  struct deadline *deadline)
{
	struct lock *registering = &worker_root(worker)->registering;
	int result = lock_take_within(registering, deadline);

	if (result < 0)
		return error_set(result, "%s: another thread registers or unregisters",
				 worker->path);
	if (callable_is_leaving(handle)) {
		result = forget_locked(worker, handle, data, deadline->at_ns);
		if (result != -ETIMEDOUT)
			callable_retire_end(handle);
	}
	lock_give(registering);
	return result;
}

static int unregister(struct dw_worker *worker, dw_callable handle, uint64_t deadline_ns,
		      const char *call)
{
	struct deadline deadline = deadline_at(deadline_ns);
	struct callable *callable;
	void *data;
	int result = check_register(worker, call);

	if (result == 0)
		result = worker_check_no_task(worker, call);
	if (result == 0)
		result = check_recordings(worker_root(worker), handle, call);
	if (result == 0)
		result = callable_retire_begin(handle, worker, &callable);
	if (result < 0)
		return result;
	data = bytes_of(callable);
	request_notify_tasks(worker_root(worker), callable);
	result = callable_wait(callable, &deadline);
	if (result == 0)
		result = forget(worker, handle, data, &deadline);
	return result == -ETIMEDOUT ? error_prefix(result, "%s: ", call) : result;
}

DW_API int dw_callable_unregister(struct dw_worker *worker, dw_callable handle)
{
	return unregister(worker, handle, NEVER, "dw_callable_unregister");
}

DW_API int dw_callable_unregister_for(struct dw_worker *worker, dw_callable handle,
				      uint64_t timeout_ns)
{
	return unregister(worker, handle, deadline_in(timeout_ns), "dw_callable_unregister_for");
}

void registrations_release(struct dw_worker *worker)
{
	callable_retire_owned(worker);
}
