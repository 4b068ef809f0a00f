// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The process's table of callables. An entry never moves and is never freed: a
 * lookup computes its address from the handle and compares one word, `live`, with the
 * whole handle, so an old generation, another kind and a retired entry all fail the same test.
 *
 * Everything but `live` and `uses` is written under the mutex, and only while `live` is 0. A place
 * is reused, oldest first, only when many wait and it has no users.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/deadline.h"
#include "base/futex.h"
#include "base/text.h"
#include "callable/callable.h"
#include "task/error.h"

#define KIND_SHIFT 60
#define GENERATION_SHIFT 32
#define GENERATION_MOST ((1u << (KIND_SHIFT - GENERATION_SHIFT)) - 1)
#define CHUNK_FIRST 64u		/* entries; each further chunk has twice as many */
#define CHUNKS 19
#define ENTRIES_MOST (CHUNK_FIRST * ((1u << CHUNKS) - 1))
#define RETIRED_KEPT 64		/* retired places that still know their names */
#define BUCKETS 256

struct entry {
	_Atomic uint64_t live;		/* the handle; 0: retired, or not yet there */
	struct callable callable;
	uint32_t generation;		/* given out last */
	/* retired by callable_retire_begin(), and not yet ended: its place is kept */
	bool leaving;
	struct entry *before, *after;	/* live: by registration; retired: `after` by age */
	struct entry *bucket_next;	/* of the same hash of the name */
};

static _Atomic(struct entry *) chunks[CHUNKS];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t entry_count;		/* indices in use, live or retired */
static struct entry *live_first, *live_last;
static struct entry *retired_first, *retired_last;
static uint32_t retired_count;
static struct entry *buckets[BUCKETS];

/* ------------------------------------------------------------------ entries */

static inline uint32_t chunk_of(uint32_t index, uint32_t *offset)
{
	uint32_t chunk = 31 - __builtin_clz(index / CHUNK_FIRST + 1);

	*offset = index - CHUNK_FIRST * ((1u << chunk) - 1);
	return chunk;
}

/* The entry of a handle, or NULL when no memory for it was ever made. */
static inline struct entry *entry_of(dw_callable handle)
{
	uint32_t index = (uint32_t)handle - 1, offset, chunk;
	struct entry *entries;

	if (index >= ENTRIES_MOST)
		return NULL;
	chunk = chunk_of(index, &offset);
	/* Pairs with the release store in entry_make(). */
	entries = atomic_load_explicit(&chunks[chunk], memory_order_acquire);
	return entries ? &entries[offset] : NULL;
}

static struct entry *entry_make(uint32_t index)
{
	uint32_t offset, chunk = chunk_of(index, &offset);
	struct entry *entries = atomic_load_explicit(&chunks[chunk], memory_order_relaxed);

	if (!entries) {
		entries = calloc(CHUNK_FIRST << chunk, sizeof(*entries));
		if (!entries)
			return NULL;
		atomic_store_explicit(&chunks[chunk], entries, memory_order_release);
	}
	return &entries[offset];
}

static uint32_t handle_generation(dw_callable handle)
{
	return handle >> GENERATION_SHIFT & GENERATION_MOST;
}

static dw_callable handle_of(enum callable_kind kind, uint32_t generation, uint32_t index)
{
	return (uint64_t)kind << KIND_SHIFT | (uint64_t)generation << GENERATION_SHIFT |
	       (index + 1);
}

enum callable_kind callable_kind_of(dw_callable handle)
{
	return (enum callable_kind)(handle >> KIND_SHIFT);
}

const char *callable_title(const struct callable *callable)
{
	const char *slash = callable->kind >= CALLABLE_SYMBOL_ORCH ? strrchr(callable->name, '/') :
			    NULL;

	return slash ? slash + 1 : callable->name;
}

static struct entry **bucket_of(const char *name)
{
	uint32_t hash = 2166136261u;

	while (*name)
		hash = (hash ^ (uint8_t)*name++) * 16777619u;
	return &buckets[(hash ^ hash >> 16) % BUCKETS];
}

/* Why a handle is invalid: an error with its text. */
static int refuse(dw_callable handle)
{
	struct entry *entry = entry_of(handle);
	uint32_t generation = handle_generation(handle);
	int error;

	pthread_mutex_lock(&mutex);
	if (!entry || !generation || generation > entry->generation ||
	    (generation == entry->generation && handle != entry->callable.handle))
		error = error_set(-ENOENT, "callable %#llx is not registered",
				  (unsigned long long)handle);
	else if (generation == entry->generation)
		error = error_set(-ESTALE, "callable %#llx was unregistered: %s",
				  (unsigned long long)handle, text_short(entry->callable.name));
	else
		error = error_set(-ESTALE, "callable %#llx was unregistered long ago; its place "
				  "was given to %s", (unsigned long long)handle,
				  text_short(entry->callable.name));
	pthread_mutex_unlock(&mutex);
	return error;
}

/* ------------------------------------------------------------------- lookup */

int callable_get(dw_callable handle, struct callable **callable)
{
	struct entry *entry = entry_of(handle);

	/* Pairs with the store in entry_publish(): the fields are complete. */
	if (!entry || !handle ||
	    atomic_load_explicit(&entry->live, memory_order_acquire) != handle)
		return refuse(handle);
	*callable = &entry->callable;
	return 0;
}

int callable_hold(dw_callable handle, struct callable **callable)
{
	struct entry *entry = entry_of(handle);

	if (!entry || !handle ||
	    atomic_load_explicit(&entry->live, memory_order_relaxed) != handle)
		return refuse(handle);
	/*
	 * Use first, then look again; callable_retire() retires first, and its caller reads the
	 * uses afterwards: one of the two sees the other.
	 */
	atomic_fetch_add_explicit(&entry->callable.uses, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&entry->live, memory_order_seq_cst) != handle) {
		callable_put(&entry->callable);
		return refuse(handle);
	}
	*callable = &entry->callable;
	return 0;
}

int callable_hold_times(dw_callable handle, uint64_t times, struct callable **callable)
{
	int result = callable_hold(handle, callable);

	if (result == 0)
		atomic_fetch_add_explicit(&(*callable)->uses, times - 1, memory_order_relaxed);
	return result;
}

int callable_held(dw_callable handle, struct callable **callable)
{
	struct entry *entry = entry_of(handle);

	if (!entry || !handle || entry->callable.handle != handle)
		return refuse(handle);
	*callable = &entry->callable;
	return 0;
}

void callable_put_times(struct callable *callable, uint64_t times)
{
	if (!times)
		return;
	atomic_fetch_sub_explicit(&callable->uses, times - 1, memory_order_relaxed);
	callable_put(callable);
}

void callable_put(struct callable *callable)
{
	/* Pairs with callable_wait(): it is seen here as a waiter, or sees the 0 there. */
	if (atomic_fetch_sub_explicit(&callable->uses, 1, memory_order_seq_cst) != 1 ||
	    !atomic_load_explicit(&callable->waiters, memory_order_seq_cst))
		return;
	atomic_fetch_add_explicit(&callable->idle, 1, memory_order_release);
	futex_wake(&callable->idle, INT_MAX, FUTEX_PRIVATE);
}

int callable_wait(struct callable *callable, struct deadline *deadline)
{
	int error = 0;

	atomic_fetch_add_explicit(&callable->waiters, 1, memory_order_seq_cst);
	while (!error) {
		uint32_t idle = atomic_load_explicit(&callable->idle, memory_order_acquire);
		uint64_t uses = atomic_load_explicit(&callable->uses, memory_order_seq_cst);

		if (!uses)
			break;
		if (futex_wait(&callable->idle, idle, deadline_sleep(deadline, now_ns()),
			       FUTEX_PRIVATE) == -ETIMEDOUT && deadline_passed(deadline, now_ns()))
			error = error_set(-ETIMEDOUT, "callable %s is still used by %llu tasks",
					  text_short(callable->name), (unsigned long long)uses);
	}
	atomic_fetch_sub_explicit(&callable->waiters, 1, memory_order_seq_cst);
	return error;
}

/* -------------------------------------------------------------- table changes */

static void callable_clear(struct callable *callable)
{
	free(callable->name);
	free(callable->path);
	free(callable->symbol);
	free(callable->driver);
	free(callable->entry);
	free(callable->signature);
}

static bool copy_string(const char *from, char **to)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

static int callable_copy(const struct callable *from, struct callable *to)
{
	size_t bytes = from->signature_count * sizeof(*from->signature);
	bool copied;

	memset(to, 0, sizeof(*to));
	copied = copy_string(from->name, &to->name) && copy_string(from->path, &to->path) &&
		 copy_string(from->symbol, &to->symbol) &&
		 copy_string(from->driver, &to->driver) && copy_string(from->entry, &to->entry);
	if (copied && from->signature) {
		to->signature = malloc(bytes ? bytes : 1);
		copied = to->signature;
		if (copied)
			memcpy(to->signature, from->signature, bytes);
	}
	if (!copied) {
		callable_clear(to);
		return error_set(-ENOMEM, "no memory for callable %s", text_short(from->name));
	}
	to->kind = from->kind;
	if (from->kind == CALLABLE_ORCH || from->kind == CALLABLE_SYMBOL_ORCH)
		to->orch = from->orch;
	else
		to->sub = from->sub;
	to->context = from->context;
	memcpy(to->identity, from->identity, sizeof(to->identity));
	to->data = from->data;
	to->bytes = from->bytes;
	to->signature_count = from->signature_count;
	to->owner = from->owner;
	return 0;
}

/* Moves a copy into an entry that lookups do not find, and makes the entry live. */
static void entry_publish(struct entry *entry, struct callable *copy, dw_callable handle)
{
	struct callable *callable = &entry->callable;
	struct entry **bucket = bucket_of(copy->name);

	callable_clear(callable);
	/* `uses`, `waiters` and `idle` stay: a late callable_hold() may just count up and down. */
	callable->handle = handle;
	callable->kind = copy->kind;
	callable->name = copy->name;
	callable->orch = copy->orch;
	callable->context = copy->context;
	callable->path = copy->path;
	callable->symbol = copy->symbol;
	memcpy(callable->identity, copy->identity, sizeof(callable->identity));
	atomic_store_explicit(&callable->retired, false, memory_order_relaxed);
	callable->driver = copy->driver;
	callable->entry = copy->entry;
	callable->data = copy->data;
	callable->bytes = copy->bytes;
	callable->signature = copy->signature;
	callable->signature_count = copy->signature_count;
	callable->owner = copy->owner;
	atomic_store_explicit(&callable->resolved, NULL, memory_order_relaxed);

	entry->generation = handle_generation(handle);
	entry->leaving = false;
	entry->after = NULL;
	entry->before = live_last;
	if (live_last)
		live_last->after = entry;
	else
		live_first = entry;
	live_last = entry;
	while (*bucket)
		bucket = &(*bucket)->bucket_next;
	entry->bucket_next = NULL;
	*bucket = entry;
	atomic_store_explicit(&entry->live, handle, memory_order_seq_cst);
}

static void entry_retire(struct entry *entry)
{
	struct entry **bucket = bucket_of(entry->callable.name);

	atomic_store_explicit(&entry->live, 0, memory_order_seq_cst);
	/*
	 * The engine's lock orders it: a thread that posts after engine_request_notify() sees it.
	 */
	atomic_store_explicit(&entry->callable.retired, true, memory_order_relaxed);
	if (entry->after)
		entry->after->before = entry->before;
	else
		live_last = entry->before;
	if (entry->before)
		entry->before->after = entry->after;
	else
		live_first = entry->after;
	while (*bucket != entry)
		bucket = &(*bucket)->bucket_next;
	*bucket = entry->bucket_next;

	entry->after = NULL;
	if (retired_last)
		retired_last->after = entry;
	else
		retired_first = entry;
	retired_last = entry;
	retired_count++;
}

/* Takes an entry out of the retired ones, to be used again. */
static void retired_take(struct entry *entry)
{
	struct entry **at = &retired_first, *before = NULL;

	while (*at && *at != entry) {
		before = *at;
		at = &before->after;
	}
	if (!*at)
		return;
	*at = entry->after;
	if (retired_last == entry)
		retired_last = before;
	retired_count--;
}

/* An entry for a callable that has no handle yet, and its handle. */
static struct entry *entry_fresh(enum callable_kind kind, dw_callable *handle)
{
	struct entry *entry = retired_count > RETIRED_KEPT ? retired_first : NULL;

	while (entry && (atomic_load_explicit(&entry->callable.uses, memory_order_seq_cst) ||
			 entry->generation == GENERATION_MOST || entry->leaving))
		entry = entry->after;
	if (entry) {
		retired_take(entry);
		*handle = handle_of(kind, entry->generation + 1,
				    (uint32_t)entry->callable.handle - 1);
		return entry;
	}
	if (entry_count == ENTRIES_MOST)
		return NULL;
	entry = entry_make(entry_count);
	if (entry)
		*handle = handle_of(kind, 1, entry_count++);
	return entry;
}

/* The entry for a handle that another process gave; NULL: *error says why. */
static struct entry *entry_given(dw_callable handle, int *error)
{
	uint32_t index = (uint32_t)handle - 1;
	struct entry *entry = entry_make(index);

	if (!entry) {
		*error = error_set(-ENOMEM, "no memory for callable %#llx",
				   (unsigned long long)handle);
		return NULL;
	}
	if (handle_generation(handle) <= entry->generation) {
		*error = error_set(
			-ESTALE,
			"callable %#llx was unregistered, and another one has its place: %s",
			(unsigned long long)handle, text_short(entry->callable.name));
		return NULL;
	}
	if (atomic_load_explicit(&entry->live, memory_order_relaxed))
		entry_retire(entry);
	if (entry->generation)
		retired_take(entry);
	if (index >= entry_count)
		entry_count = index + 1;
	return entry;
}

static struct entry *find_name(const char *name, bool any, const void *owner)
{
	struct entry *entry = *bucket_of(name);

	while (entry && (strcmp(entry->callable.name, name) ||
			 (!any && entry->callable.owner != owner)))
		entry = entry->bucket_next;
	return entry;
}

/* Whether a handle refers to the same callable in another process and in this one. */
static bool is_same(const struct callable *one, const struct callable *other)
{
	return one->kind == other->kind && strcmp(one->name, other->name) == 0 &&
	       memcmp(one->identity, other->identity, sizeof(one->identity)) == 0;
}

static int add_locked(struct callable *copy, dw_callable given, dw_callable *handle)
{
	struct entry *entry;
	int error = 0;

	if (given) {
		entry = entry_of(given);
		if (entry && atomic_load_explicit(&entry->live, memory_order_relaxed) == given) {
			if (!is_same(&entry->callable, copy))
				error = error_set(-ESTALE, "callable %#llx is %s here, not %s",
						  (unsigned long long)given,
						  text_short(entry->callable.name),
						  text_short(copy->name));
			callable_clear(copy);
			if (!error)
				*handle = given;
			return error;
		}
		entry = entry_given(given, &error);
	} else if (find_name(copy->name, false, copy->owner)) {
		error = error_set(-EEXIST, "a callable named %s is registered already",
				  text_short(copy->name));
		entry = NULL;
	} else {
		entry = entry_fresh(copy->kind, &given);
		if (!entry)
			error = error_set(-ENOMEM, "no room for callable %s; there are %u",
					  text_short(copy->name), entry_count);
	}
	if (!entry) {
		callable_clear(copy);
		return error;
	}
	entry_publish(entry, copy, given);
	*handle = given;
	return 0;
}

int callable_add(struct callable *callable, dw_callable *handle)
{
	dw_callable given = callable->handle;
	struct callable copy;
	int error;

	if (!callable->name || !*callable->name)
		return error_set(-EINVAL, "a callable without a name");
	if (callable->kind < CALLABLE_ORCH || callable->kind > CALLABLE_IMAGE)
		return error_set(-EINVAL, "callable %s is of kind %d; %d to %d would be right",
				 text_short(callable->name), callable->kind, CALLABLE_ORCH,
				 CALLABLE_IMAGE);
	if (given && (given >> KIND_SHIFT != callable->kind || !handle_generation(given) ||
		      (uint32_t)given - 1 >= ENTRIES_MOST))
		return error_set(-EINVAL, "%#llx is no handle for callable %s of kind %d",
				 (unsigned long long)given, text_short(callable->name),
				 callable->kind);
	error = callable_copy(callable, &copy);
	if (error)
		return error;
	pthread_mutex_lock(&mutex);
	error = add_locked(&copy, given, handle);
	pthread_mutex_unlock(&mutex);
	return error;
}

int callable_retire(dw_callable handle)
{
	struct entry *entry = entry_of(handle);
	bool live;

	if (!entry || !handle)
		return refuse(handle);
	pthread_mutex_lock(&mutex);
	live = atomic_load_explicit(&entry->live, memory_order_relaxed) == handle;
	if (live)
		entry_retire(entry);
	pthread_mutex_unlock(&mutex);
	return live ? 0 : refuse(handle);
}

int callable_retire_begin(dw_callable handle, const void *owner, struct callable **callable)
{
	struct entry *entry = entry_of(handle);
	bool live, known;
	int result = 0;

	if (!entry || !handle)
		return refuse(handle);
	pthread_mutex_lock(&mutex);
	live = atomic_load_explicit(&entry->live, memory_order_relaxed) == handle;
	known = live || (entry->leaving && entry->callable.handle == handle);
	if (known && entry->callable.owner != owner)
		result = error_set(-ENOENT, "callable %s was not registered on this Worker",
				   text_short(entry->callable.name));
	if (live && result == 0) {
		entry_retire(entry);
		entry->leaving = true;
	}
	pthread_mutex_unlock(&mutex);
	if (!known)
		return refuse(handle);
	*callable = &entry->callable;
	return result;
}

bool callable_is_leaving(dw_callable handle)
{
	struct entry *entry = entry_of(handle);
	bool leaving;

	pthread_mutex_lock(&mutex);
	leaving = entry->leaving && entry->callable.handle == handle;
	pthread_mutex_unlock(&mutex);
	return leaving;
}

void callable_retire_end(dw_callable handle)
{
	struct entry *entry = entry_of(handle);

	pthread_mutex_lock(&mutex);
	if (entry->callable.handle == handle)
		entry->leaving = false;
	pthread_mutex_unlock(&mutex);
}

void callable_forget_all(void)
{
	pthread_mutex_lock(&mutex);
	for (uint32_t index = 0; index < entry_count; index++) {
		struct entry *entry = entry_make(index);

		if (!entry)
			continue;
		atomic_store_explicit(&entry->live, 0, memory_order_relaxed);
		callable_clear(&entry->callable);
		memset(&entry->callable, 0, sizeof(entry->callable));
		entry->generation = 0;
		entry->leaving = false;
		entry->before = entry->after = entry->bucket_next = NULL;
	}
	memset(buckets, 0, sizeof(buckets));
	live_first = live_last = retired_first = retired_last = NULL;
	entry_count = retired_count = 0;
	pthread_mutex_unlock(&mutex);
}

void callable_retire_owned(const void *owner)
{
	pthread_mutex_lock(&mutex);
	for (struct entry *entry = live_first, *after; entry; entry = after) {
		after = entry->after;
		if (entry->callable.owner == owner)
			entry_retire(entry);
	}
	for (struct entry *entry = retired_first; entry; entry = entry->after)
		if (entry->callable.owner == owner)
			entry->leaving = false;
	pthread_mutex_unlock(&mutex);
}

static int by_name(const char *name, bool any, const void *owner, dw_callable *handle)
{
	struct entry *entry;

	pthread_mutex_lock(&mutex);
	entry = find_name(name, any, owner);
	if (entry)
		*handle = entry->callable.handle;
	pthread_mutex_unlock(&mutex);
	return entry ? 0 : error_set(-ENOENT, "no callable is registered as %s", text_short(name));
}

int callable_by_name(const char *name, dw_callable *handle)
{
	return by_name(name, true, NULL, handle);
}

int callable_by_owner(const void *owner, const char *name, dw_callable *handle)
{
	return by_name(name, false, owner, handle);
}

void callable_lock(void)
{
	pthread_mutex_lock(&mutex);
}

void callable_unlock(void)
{
	pthread_mutex_unlock(&mutex);
}

int callable_each(int (*visit)(struct callable *callable, void *context), void *context)
{
	dw_callable *handles;
	size_t count = 0;
	int error = 0;

	/* A copy of the list, so that `visit` may block, add and retire. */
	pthread_mutex_lock(&mutex);
	handles = malloc((entry_count ? entry_count : 1) * sizeof(*handles));
	for (struct entry *entry = live_first; handles && entry; entry = entry->after)
		handles[count++] = entry->callable.handle;
	pthread_mutex_unlock(&mutex);
	if (!handles)
		return error_set(-ENOMEM, "no memory for a list of the callables");
	for (size_t i = 0; !error && i < count; i++) {
		struct callable *callable;

		if (callable_hold(handles[i], &callable))
			continue;
		error = visit(callable, context);
		callable_put(callable);
	}
	free(handles);
	return error;
}
