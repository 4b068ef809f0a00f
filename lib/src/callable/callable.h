/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The process's table of callables; forked children inherit it as it is, later
 * entries reach them by control frames (worker layer). A handle is
 * kind << 60 | generation << 32 | index + 1. Thread-safe: lookups take no lock
 * (entries are published once, retired by generation), changes take a mutex.
 */
#ifndef DW_CALLABLE_CALLABLE_H
#define DW_CALLABLE_CALLABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <distworker/distworker.h>

enum callable_kind {
	CALLABLE_ORCH = 1, CALLABLE_SUB = 2, CALLABLE_SYMBOL_ORCH = 3, CALLABLE_SYMBOL_SUB = 4,
	CALLABLE_IMAGE = 5,
};

static inline bool callable_is_symbol(enum callable_kind kind)
{
	return kind == CALLABLE_SYMBOL_ORCH || kind == CALLABLE_SYMBOL_SUB;
}

struct callable {
	dw_callable handle;
	enum callable_kind kind;
	_Atomic bool retired;		/* its rings report the end of each of its tasks */
	bool control;			/* its tasks are control frames: calls of a driver */
	char *name;			/* function name, "path:symbol", or "driver:entry" */
	union {
		dw_orch_fn *orch;
		dw_sub_fn *sub;
	};
	void *context;
	/* Symbols: identity of the file. Images: of the content. */
	char *path, *symbol;
	uint8_t identity[32];
	void *_Atomic resolved; /* address of the symbol in this process; NULL until first use */
	/* Images. */
	char *driver, *entry;
	void *data; /* in the arena of the tree, so that children read it in place */
	uint64_t bytes;
	int32_t *signature;
	uint32_t signature_count;
	const void *owner;		/* Worker it was registered on: names are unique there */
	_Atomic uint64_t uses;		/* tasks that hold it; unregister waits for 0 */
	_Atomic uint32_t waiters;	/* callable_wait() */
	_Atomic uint32_t idle;		/* its futex */
};

/*
 * -ENOENT, -ESTALE with a text that names it. The pointer is valid while no thread can retire the
 * callable (in a child: until the next control frame); a caller that is not sure of that holds it.
 */
int callable_get(dw_callable handle, struct callable **callable);
/* The same, and counts a use, which callable_put() drops: as a task does from submit to its end. */
int callable_hold(dw_callable handle, struct callable **callable);
/*
 * For a thread that runs a task that holds it, in any process: also when it was retired meanwhile.
 */
int callable_held(dw_callable handle, struct callable **callable);
void callable_put(struct callable *callable);
/* The same for so many uses, at least one; and for any number. */
int callable_hold_times(dw_callable handle, uint64_t times, struct callable **callable);
void callable_put_times(struct callable *callable, uint64_t times);
/* Returns when no task uses a retired callable, or at the deadline: -ETIMEDOUT with a text. */
struct deadline;
int callable_wait(struct callable *callable, struct deadline *deadline);
/*
 * Adds a copy (strings and signature too; `data` and `context` stay the caller's)
 * under `callable->handle` if that is set (in a child; 0 if it is there already), else under
 * a fresh one. -EEXIST: the owner has a callable of that name.
 */
int callable_add(struct callable *callable, dw_callable *handle);
/* Lookups fail from now on; a holder may still read it: its place is kept until its uses are 0. */
int callable_retire(dw_callable handle);
/*
 * The same in two steps, for a caller that has to wait in between. The callable is of that owner
 * (else -ENOENT), and live, or its retirement has begun and not ended.
 */
int callable_retire_begin(dw_callable handle, const void *owner, struct callable **callable);
/* Whether the second step is still to come. */
bool callable_is_leaving(dw_callable handle);
void callable_retire_end(dw_callable handle);
/* The owner goes away, and all of its callables: no second step will follow. Needs no memory. */
void callable_retire_owned(const void *owner);
enum callable_kind callable_kind_of(dw_callable handle);
/* Its name for messages; a path of a file appears without its folders. */
const char *callable_title(const struct callable *callable);
/* The one that was registered first, of any owner or of that one. -ENOENT. */
int callable_by_name(const char *name, dw_callable *handle);
int callable_by_owner(const void *owner, const char *name, dw_callable *handle);
/*
 * Empties the table, with all generations: it takes over that of another process. For a process
 * with one thread and without Workers that are up.
 */
void callable_forget_all(void);
/*
 * Around a fork, so that no other thread is in the middle of a change: the child has to unlock it,
 * too.
 */
void callable_lock(void);
void callable_unlock(void);
/* Calls `visit` for each live one, in order of registration. */
int callable_each(int (*visit)(struct callable *callable, void *context), void *context);

#endif
