/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See run_handle.h.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/deadline.h"
#include "base/fd.h"
#include "engine/process.h"
#include "engine/progress.h"
#include "engine/run.h"
#include "engine/run_circle.h"
#include "engine/state.h"
#include "task/options.h"

/* An EFD_SEMAPHORE descriptor gives 1 for each read: no reader empties it. */
#define MANY_READS (UINT64_MAX - 1)

void run_handle_init(struct run_handle *handle)
{
	handle->process = process_serial();
	atomic_store_explicit(&handle->references, 1, memory_order_relaxed);
	handle->fd = -1;
}

void run_handle_put(struct dw_run *run)
{
	/*
	 * Pairs with that of the other threads: their accesses come before the run is freed.
	 */
	if (atomic_fetch_sub_explicit(&run->handle.references, 1, memory_order_acq_rel) != 1)
		return;
	if (run->handle.fd >= 0)
		close(run->handle.fd);
	run_free(run);
}

static void get(struct dw_run *run)
{
	atomic_fetch_add_explicit(&run->handle.references, 1, memory_order_relaxed);
}

void run_handle_leaving(struct dw_run *run)
{
	lock_take(&run->handle.lock);
	run->handle.leaving = true;
	lock_give(&run->handle.lock);
}

/* At most once per descriptor: the count of a new eventfd is 0, so that it does not block. */
static void make_readable(int fd)
{
	uint64_t count = MANY_READS;

	if (write(fd, &count, sizeof(count)) < 0)
		return;
}

void run_handle_ended(struct dw_run *run)
{
	lock_take(&run->handle.lock);
	if (run->handle.fd >= 0)
		make_readable(run->handle.fd);
	event_set(&run->handle.ended);
	lock_give(&run->handle.lock);
}

/* With the lock: a thread that has seen the descriptor readable sees the end here. */
static bool has_ended(struct dw_run *run)
{
	bool ended;

	lock_take(&run->handle.lock);
	ended = atomic_load_explicit(&run->handle.ended, memory_order_relaxed);
	lock_give(&run->handle.lock);
	return ended;
}

static int usable(const struct dw_run *run, const char *call)
{
	if (!run)
		return error_set(-EINVAL, "%s: the run is NULL", call);
	if (run->handle.process != process_serial())
		return error_set(
			-EBADFD,
			"%s: the run belongs to another process: it was started before a fork",
			call);
	return 0;
}

/* ------------------------------------------------------------------- waiting */

int engine_run_wait(struct dw_run *run)
{
	struct run_wait wait;
	int result = usable(run, "dw_run_wait");

	if (result < 0)
		return result;
	if (!has_ended(run)) {
		result = run_wait_begin(&wait, run, false, "dw_run_wait");
		if (result < 0)
			return result;
		event_wait(&run->handle.ended, NEVER);
		run_wait_end(&wait);
	}
	if (run->handle.has_thread)
		pthread_join(run->handle.thread, NULL);
	result = run->graph.error;
	if (result)
		error_set(result, "%s", run->graph.text);
	run_errors_keep(&run->graph.errors);
	run_handle_put(run);
	return result;
}

DW_API int dw_run_wait(struct dw_run *run)
{
	return engine_run_wait(run);
}

DW_API int dw_run_wait_for(struct dw_run *run, uint64_t timeout_ns)
{
	struct deadline deadline = deadline_at(deadline_in(timeout_ns));
	struct run_wait wait;
	int result = usable(run, "dw_run_wait_for");

	if (result < 0 || has_ended(run))
		return result;
	result = run_wait_begin(&wait, run, timeout_ns != NEVER, "dw_run_wait_for");
	if (result < 0)
		return result;
	get(run);
	if (event_wait_within(&run->handle.ended, &deadline) < 0)
		result = error_set(-ETIMEDOUT,
				   "dw_run_wait_for: the run has not ended after %llu ms",
				   (unsigned long long)(timeout_ns / 1000000));
	run_wait_end(&wait);
	run_handle_put(run);
	return result;
}

DW_API int dw_run_test(struct dw_run *run)
{
	int result = usable(run, "dw_run_test");

	if (result < 0 || has_ended(run))
		return result;
	return error_set(-EAGAIN, "dw_run_test: the run has not ended");
}

DW_API int dw_run_fd(struct dw_run *run, int *fd)
{
	int result = usable(run, "dw_run_fd");

	if (result < 0)
		return result;
	if (!fd)
		return error_set(-EINVAL, "dw_run_fd: `fd` is NULL");
	lock_take(&run->handle.lock);
	if (run->handle.fd < 0) {
		run->handle.fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
		if (run->handle.fd < 0)
			result = error_set(-errno, "dw_run_fd: no descriptor: %s%s",
					   error_name(errno), error_hint(errno));
		else if (atomic_load_explicit(&run->handle.ended, memory_order_relaxed))
			make_readable(run->handle.fd);
	}
	if (result == 0)
		*fd = run->handle.fd;
	lock_give(&run->handle.lock);
	return result;
}

DW_API int dw_run_detach(struct dw_run *run)
{
	int result = usable(run, "dw_run_detach");

	if (result < 0)
		return result;
	if (run->handle.has_thread)
		pthread_detach(run->handle.thread);
	run_handle_put(run);
	return 0;
}

/* ------------------------------------------------------------ while it goes on */

/* With the locks of the handle and, while the run is in it, of the engine. */
static void lock_both(struct dw_run *run)
{
	lock_take(&run->handle.lock);
	if (!run->handle.leaving)
		lock_take(&run->engine->lock);
}

static void unlock_both(struct dw_run *run)
{
	if (!run->handle.leaving)
		engine_unlock_and_wake(run->engine);
	lock_give(&run->handle.lock);
}

int engine_run_cancel(struct dw_run *run, int error, const char *why)
{
	int result = usable(run, "dw_run_cancel");

	if (result < 0)
		return result;
	lock_both(run);
	if (!run->handle.leaving) {
		run_cancel_locked(run, error, why);
		engine_work(run->engine);
	}
	unlock_both(run);
	return 0;
}

/* Around a look at the errors of a run that may be going on. */
static int errors_begin(struct dw_run *run, const char *call, const struct run_errors **errors)
{
	int result = usable(run, call);

	if (result < 0)
		return result;
	lock_both(run);
	*errors = &run->graph.errors;
	return 0;
}

DW_API int dw_run_error_count(struct dw_run *run, uint64_t *count, uint32_t *kept)
{
	const struct run_errors *errors = run_errors_last();
	int result;

	if (!count)
		return error_set(-EINVAL, "dw_run_error_count: `count` is NULL");
	if (run) {
		result = errors_begin(run, "dw_run_error_count", &errors);
		if (result < 0)
			return result;
	}
	*count = errors->count;
	if (kept)
		*kept = errors->kept;
	if (run)
		unlock_both(run);
	return 0;
}

DW_API int dw_run_error(struct dw_run *run, uint32_t index, struct dw_run_error *error)
{
	const struct run_errors *errors = run_errors_last();
	int result = options_check_output(error, "dw_run_error");

	if (result == 0 && run)
		result = errors_begin(run, "dw_run_error", &errors);
	if (result < 0)
		return result;
	if (index < errors->kept)
		options_write(error, &errors->entries[index], sizeof(*error));
	else
		result = error_set(-ERANGE,
				   "dw_run_error: error %u; %u are kept, of %llu that there were",
				   index, errors->kept, (unsigned long long)errors->count);
	if (run)
		unlock_both(run);
	return result;
}
