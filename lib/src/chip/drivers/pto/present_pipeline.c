/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Two runs in flight, where the library prepares one beside another: the next is prepared while the
 * first is under way, and launched when that is finalized. The interface has no descriptor to poll
 * for the end of a run, so a thread blocks in simpler_wait_run() and writes an eventfd.
 *
 * The runtime takes one call at a time. The thread waits only between a collect() that had nothing
 * and the end of the run, when the device's own thread has nothing to do here; a call that comes
 * meanwhile is queued, and prepared when the run has ended.
 *
 *     QUEUED → PREPARED → LAUNCHED → DONE
 *
 * Flights complete in order; only the first is ever LAUNCHED. Fields of `struct flight` belong to
 * the device's thread, `wait` to the mutex.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fd.h"
#include "present.h"

enum flight_state { QUEUED, PREPARED, LAUNCHED, DONE };

struct flight {
	enum flight_state state;
	unsigned int storage;
	struct dw_chip_call call;
	int status;			/* when DONE */
	uint64_t started, ended;
	struct dw_chip_error error;
};

enum wait_state { IDLE, WANTED, ENDED };

struct present_pipeline {
	struct flight flights[PRESENT_DEPTH_MAX];
	unsigned int first, count;
	int fd;
	bool has_thread;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct {
		enum wait_state state;
		bool leave;
		struct present *present;
		void *storage;
		int code;		/* of simpler_wait_run(), when ENDED */
	} wait;
};

static struct flight *flight_at(struct present_pipeline *pipeline, unsigned int i)
{
	return &pipeline->flights[(pipeline->first + i) % PRESENT_DEPTH_MAX];
}

/* ------------------------------------------------------------ the other thread */

static void *wait_thread(void *argument)
{
	struct present_pipeline *pipeline = argument;
	const uint64_t one = 1;

	pthread_mutex_lock(&pipeline->mutex);
	for (;;) {
		struct present *present = pipeline->wait.present;
		void *storage = pipeline->wait.storage;
		int code;

		if (pipeline->wait.state != WANTED) {
			if (pipeline->wait.leave)
				break;
			pthread_cond_wait(&pipeline->changed, &pipeline->mutex);
			continue;
		}
		pthread_mutex_unlock(&pipeline->mutex);
		code = present->host.wait(present->context, storage);
		pthread_mutex_lock(&pipeline->mutex);
		pipeline->wait.code = code;
		pipeline->wait.state = ENDED;
		pthread_cond_broadcast(&pipeline->changed);
		/* This cannot block: the eventfd's count is 0 or 1. */
		while (write(pipeline->fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
	pthread_mutex_unlock(&pipeline->mutex);
	return NULL;
}

static int thread_start(struct present_pipeline *pipeline)
{
	sigset_t all, before;
	int code;

	if (pipeline->has_thread)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&pipeline->thread, NULL, wait_thread, pipeline);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pipeline->has_thread = code == 0;
	return -code;
}

/* Has the other thread wait for the run in `storage`. */
static void wait_begin(struct present_pipeline *pipeline, struct present *present, void *storage)
{
	pthread_mutex_lock(&pipeline->mutex);
	pipeline->wait.present = present;
	pipeline->wait.storage = storage;
	pipeline->wait.state = WANTED;
	pthread_cond_broadcast(&pipeline->changed);
	pthread_mutex_unlock(&pipeline->mutex);
}

static enum wait_state wait_state(struct present_pipeline *pipeline)
{
	enum wait_state state;

	pthread_mutex_lock(&pipeline->mutex);
	state = pipeline->wait.state;
	pthread_mutex_unlock(&pipeline->mutex);
	return state;
}

/* Takes the code of a wait that has ENDED. */
static int wait_take(struct present_pipeline *pipeline)
{
	uint64_t count;
	int code;

	pthread_mutex_lock(&pipeline->mutex);
	code = pipeline->wait.code;
	pipeline->wait.state = IDLE;
	pthread_mutex_unlock(&pipeline->mutex);
	while (read(pipeline->fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	return code;
}

bool present_waits(const struct present *present)
{
	return present->pipeline && wait_state(present->pipeline) == WANTED;
}

void present_quiesce(struct present *present)
{
	struct present_pipeline *pipeline = present->pipeline;

	if (!pipeline)
		return;
	pthread_mutex_lock(&pipeline->mutex);
	while (pipeline->wait.state == WANTED)
		pthread_cond_wait(&pipeline->changed, &pipeline->mutex);
	pthread_mutex_unlock(&pipeline->mutex);
}

/* ----------------------------------------------------------------- flights */

static void flight_fail(struct dw_chip_device *device, struct flight *flight, const char *name,
			int code)
{
	flight->state = DONE;
	flight->ended = now_ns();
	flight->error.text[0] = '\0';
	flight->status = pto_run_failed(device, &flight->call, name, code, "", &flight->error);
	present_of(device)->suspect = true;
}

static void flight_launch(struct dw_chip_device *device, struct flight *flight)
{
	struct present *present = device->state;
	void *storage = present->storages[flight->storage].memory;
	int code;

	flight->started = now_ns();
	code = present->host.launch(present->context, storage);
	flight->state = LAUNCHED;
	if (code == 0)
		return;
	present->host.finalize(present->context, storage);
	flight_fail(device, flight, "simpler_launch_run", code);
}

/*
 * Takes a flight as far as it can go: prepared, if it is the first or depends on none before it,
 * and launched, if it is the first. `error` then has the text of a failure, or a remark.
 */
static int flight_advance(struct dw_chip_device *device, unsigned int index,
			  struct dw_chip_error *error)
{
	struct present *present = device->state;
	struct present_pipeline *pipeline = present->pipeline;
	struct flight *flight = flight_at(pipeline, index);
	int status;

	if (flight->state == QUEUED) {
		/* The previous run will show whether a context that had a failure still works. */
		if (index && (present->suspect ||
			      present_depends(device, &flight->call,
					      &flight_at(pipeline, 0)->call)))
			return 0;
		status = present_prepare(device, &flight->call, flight->storage, index == 0,
					 error);
		if (status < 0)
			return status;
		flight->state = PREPARED;
	}
	if (index == 0 && flight->state == PREPARED)
		flight_launch(device, flight);
	return 0;
}

/* Ends a run; `code` is that of simpler_wait_run(). */
static void flight_end(struct dw_chip_device *device, struct flight *flight, int code)
{
	struct present *present = device->state;
	void *storage = present->storages[flight->storage].memory;
	const char *name = "simpler_wait_run";
	int last = present->host.finalize(present->context, storage);

	if (code == 0) {
		name = "simpler_finalize_run";
		code = last;
	}
	if (code == 0) {
		name = "copy_from_device_ctx";
		code = present_unstage(device, &flight->call);
	}
	if (code) {
		flight_fail(device, flight, name, code);
		return;
	}
	flight->state = DONE;
	flight->status = 0;
	flight->ended = now_ns();
	flight->error.text[0] = '\0';
	device->failures = 0;
}

/*
 * Polls the run under way once, which is enough for a short one; otherwise the thread waits for it.
 */
static void flight_look(struct dw_chip_device *device, struct flight *flight)
{
	struct present *present = device->state;
	struct present_pipeline *pipeline = present->pipeline;
	void *storage = present->storages[flight->storage].memory;
	enum wait_state state = wait_state(pipeline);
	int code, last;

	if (state == WANTED)
		return;
	if (state == ENDED) {
		flight_end(device, flight, wait_take(pipeline));
		return;
	}
	code = present->host.poll(present->context, storage);
	if (code == 0 && thread_start(pipeline) == 0) {
		wait_begin(pipeline, present, storage);
		return;
	}
	/*
	 * The run is done, or no thread can wait for it. Even after a failure the runtime must have
	 * stopped writing.
	 */
	last = present->host.wait(present->context, storage);
	flight_end(device, flight, code < 0 ? code : last);
}

/* ------------------------------------------------------------ the driver's calls */

int present_completion_fd(struct dw_chip_device *device)
{
	return present_of(device)->pipeline ? present_of(device)->pipeline->fd : -1;
}

int present_submit(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error)
{
	struct present *present = device->state;
	struct present_pipeline *pipeline = present->pipeline;
	unsigned int index = pipeline->count;
	struct flight *flight = flight_at(pipeline, index);
	int status = 0;

	if (index == PRESENT_DEPTH_MAX)
		return kit_fail(error, -EBUSY, "pto device %u has %u calls in flight", device->id,
				index);
	flight->state = QUEUED;
	flight->call = *call;
	flight->storage = (pipeline->first + index) % PRESENT_DEPTH_MAX;
	flight->started = flight->ended = 0;
	pipeline->count++;
	if (wait_state(pipeline) != WANTED)
		status = flight_advance(device, index, error);
	if (status < 0) {
		pipeline->count--;
		return status;
	}
	device->calls++;
	present_remark(device, call, error);
	return 0;
}

int present_collect(struct dw_chip_device *device, struct dw_chip_completion *completion)
{
	struct present *present = device->state;
	struct present_pipeline *pipeline = present->pipeline;
	struct flight *flight = flight_at(pipeline, 0);
	struct dw_chip_completion full = { .status = 0 };

	if (!pipeline->count)
		return 0;
	if (flight->state == LAUNCHED)
		flight_look(device, flight);
	if (flight->state != DONE)
		return 0;
	full.cookie = flight->call.cookie;
	full.status = flight->status;
	full.started_ns = flight->started;
	full.ended_ns = flight->ended;
	full.error = flight->error;
	KIT_GIVE(completion, &full);
	pipeline->first = (pipeline->first + 1) % PRESENT_DEPTH_MAX;
	pipeline->count--;
	/* The next run begins before this completion is reported. */
	if (pipeline->count && full.status != -ENODEV) {
		flight = flight_at(pipeline, 0);
		flight->error.text[0] = '\0';
		flight->status = flight_advance(device, 0, &flight->error);
		if (flight->status < 0)
			flight->state = DONE;
	}
	return 1;
}

/* ------------------------------------------------------------------ begin, end */

int present_pipeline_create(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct present_pipeline *pipeline = calloc(1, sizeof(*pipeline));

	if (!pipeline)
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to open it", device->id);
	pipeline->fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (pipeline->fd < 0) {
		int status = -errno;

		free(pipeline);
		return kit_fail(error, status, "pto device %u: no descriptor for completions: %s",
				device->id, strerror(-status));
	}
	pthread_mutex_init(&pipeline->mutex, NULL);
	pthread_cond_init(&pipeline->changed, NULL);
	present_of(device)->pipeline = pipeline;
	return 0;
}

void present_pipeline_drop(struct dw_chip_device *device)
{
	struct present *present = device->state;
	struct present_pipeline *pipeline = present->pipeline;

	if (!pipeline || !pipeline->count)
		return;
	present_quiesce(present);
	for (unsigned int i = 0; i < pipeline->count; i++) {
		struct flight *flight = flight_at(pipeline, i);
		void *storage = present->storages[flight->storage].memory;

		if (flight->state == LAUNCHED && wait_state(pipeline) == IDLE)
			present->host.wait(present->context, storage);
		if (flight->state == LAUNCHED || flight->state == PREPARED)
			present->host.finalize(present->context, storage);
	}
	if (wait_state(pipeline) == ENDED)
		wait_take(pipeline);
	pipeline->count = 0;
}

void present_pipeline_destroy(struct dw_chip_device *device)
{
	struct present *present = device->state;
	struct present_pipeline *pipeline = present->pipeline;

	if (!pipeline)
		return;
	present_pipeline_drop(device);
	pthread_mutex_lock(&pipeline->mutex);
	pipeline->wait.leave = true;
	pthread_cond_broadcast(&pipeline->changed);
	pthread_mutex_unlock(&pipeline->mutex);
	if (pipeline->has_thread)
		pthread_join(pipeline->thread, NULL);
	pthread_cond_destroy(&pipeline->changed);
	pthread_mutex_destroy(&pipeline->mutex);
	close(pipeline->fd);
	free(pipeline);
	present->pipeline = NULL;
}
