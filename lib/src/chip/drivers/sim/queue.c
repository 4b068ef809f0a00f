/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The asynchronous form (driver option async=1): a device thread runs the calls, in
 * order, while the chip worker's thread stages the inputs of the next one.
 *
 * A slot belongs to the submitter until it is QUEUED, then to the device thread until it
 * is DONE. Inputs are staged by the submitter only when no call in flight still
 * writes them; else the device thread copies them in when their turn has come.
 */
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/fd.h"
#include "queue.h"

enum slot_state { SLOT_FREE, SLOT_QUEUED, SLOT_DONE };

struct slot {
	enum slot_state state;
	bool staged;
	struct call call;
	int32_t status;
	uint64_t started, ended;
	struct dw_chip_error error;
};

struct queue {
	struct dw_chip_device *device;
	pthread_mutex_t lock;
	pthread_cond_t queued;		/* the device thread sleeps here */
	pthread_cond_t ran;		/* queue_drain() does */
	pthread_t thread;
	int fd;
	bool signalled;			/* fd is readable */
	bool stop;
	uint32_t depth;
	uint64_t submitted, run, collected;	/* counts; slot n % depth */
	struct slot *slots;
};

static void *device_thread(void *argument)
{
	struct queue *queue = argument;

	pthread_mutex_lock(&queue->lock);
	for (;;) {
		struct slot *slot = &queue->slots[queue->run % queue->depth];

		while (queue->run == queue->submitted && !queue->stop)
			pthread_cond_wait(&queue->queued, &queue->lock);
		if (queue->run == queue->submitted)
			break;
		pthread_mutex_unlock(&queue->lock);
		slot->started = now_ns();
		slot->error.text[0] = '\0';
		slot->status = call_run(queue->device, &slot->call, slot->staged, &slot->error);
		slot->ended = now_ns();
		pthread_mutex_lock(&queue->lock);
		slot->state = SLOT_DONE;
		queue->run++;
		if (!queue->signalled) {
			queue->signalled = true;
			eventfd_write(queue->fd, 1);
		}
		pthread_cond_signal(&queue->ran);
	}
	pthread_mutex_unlock(&queue->lock);
	return NULL;
}

int queue_create(struct dw_chip_device *device, uint32_t depth, struct queue **result,
		 struct dw_chip_error *error)
{
	struct queue *queue = calloc(1, sizeof(*queue));
	sigset_t all, before;
	int code;

	if (queue)
		queue->slots = calloc(depth, sizeof(*queue->slots));
	if (!queue || !queue->slots) {
		free(queue);
		return kit_fail(error, -ENOMEM, "sim device %u: no memory for its queue",
				device->id);
	}
	queue->device = device;
	queue->depth = depth;
	for (uint32_t i = 0; i < depth; i++)
		call_init(&queue->slots[i].call);
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->queued, NULL);
	pthread_cond_init(&queue->ran, NULL);
	queue->fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	code = queue->fd < 0 ? errno : 0;
	if (!code) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		code = pthread_create(&queue->thread, NULL, device_thread, queue);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (code) {
		if (queue->fd >= 0)
			close(queue->fd);
		free(queue->slots);
		free(queue);
		return kit_fail(error, -code, "sim device %u: no device thread: %s", device->id,
				strerror(code));
	}
	*result = queue;
	return 0;
}

void queue_destroy(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->stop = true;
	pthread_cond_signal(&queue->queued);
	pthread_mutex_unlock(&queue->lock);
	pthread_join(queue->thread, NULL);
	close(queue->fd);
	for (uint32_t i = 0; i < queue->depth; i++)
		call_fini(&queue->slots[i].call);
	pthread_cond_destroy(&queue->ran);
	pthread_cond_destroy(&queue->queued);
	pthread_mutex_destroy(&queue->lock);
	free(queue->slots);
	free(queue);
}

int queue_fd(const struct queue *queue)
{
	return queue->fd;
}

void queue_drain(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	while (queue->run < queue->submitted)
		pthread_cond_wait(&queue->ran, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

static bool call_uses(const struct call *call, uint64_t address, uint64_t bytes)
{
	for (size_t i = 0; i < call->tensor_count; i++)
		if (call->pieces[i].device < address + bytes &&
		    address < call->pieces[i].device + call->pieces[i].bytes)
			return true;
	return false;
}

void queue_leave(struct queue *queue, uint64_t address, uint64_t bytes)
{
	uint64_t n;

	pthread_mutex_lock(&queue->lock);
	for (n = queue->submitted; n > queue->run; n--)
		if (call_uses(&queue->slots[(n - 1) % queue->depth].call, address, bytes))
			break;
	while (queue->run < n)
		pthread_cond_wait(&queue->ran, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

/* Does a call that has not run yet write bytes that `call` reads? A "no" stays a "no". */
static bool queue_writes(struct queue *queue, const struct call *call)
{
	bool writes = false;

	pthread_mutex_lock(&queue->lock);
	for (uint64_t n = queue->run; n < queue->submitted && !writes; n++)
		writes = call_reads_from(call, &queue->slots[n % queue->depth].call);
	pthread_mutex_unlock(&queue->lock);
	return writes;
}

int queue_submit(struct queue *queue, const struct dw_chip_call *from, struct dw_chip_error *error)
{
	struct slot *slot = &queue->slots[queue->submitted % queue->depth];
	struct dw_chip_device *device = queue->device;
	int status;

	if (queue->submitted - queue->collected == queue->depth)
		return kit_fail(error, -EBUSY, "sim device %u has %u calls in flight already",
				device->id, queue->depth);
	status = call_prepare(device, from, &slot->call, error);
	if (status == -ENOMEM) {
		/*
		 * Calls in flight may hold the missing memory: the call may fit when it is alone.
		 */
		queue_drain(queue);
		error->text[0] = '\0';
		status = call_prepare(device, from, &slot->call, error);
	}
	if (status < 0)
		return status;
	slot->staged = !queue_writes(queue, &slot->call);
	if (slot->staged) {
		status = call_copy_in(device, &slot->call, error);
		if (status < 0) {
			call_release(device, &slot->call);
			return status;
		}
	}
	pthread_mutex_lock(&queue->lock);
	slot->state = SLOT_QUEUED;
	queue->submitted++;
	pthread_cond_signal(&queue->queued);
	pthread_mutex_unlock(&queue->lock);
	return 0;
}

int queue_collect(struct queue *queue, struct dw_chip_completion *completion)
{
	struct dw_chip_completion full = { .size = sizeof(full) };
	struct slot *slot;
	eventfd_t count;
	int found = 0;

	pthread_mutex_lock(&queue->lock);
	slot = &queue->slots[queue->collected % queue->depth];
	if (queue->collected < queue->run && slot->state == SLOT_DONE) {
		slot->state = SLOT_FREE;
		queue->collected++;
		found = 1;
	} else if (queue->signalled) {
		/* Under the lock, so that no completion comes between the look and the read. */
		eventfd_read(queue->fd, &count);
		queue->signalled = false;
	}
	pthread_mutex_unlock(&queue->lock);
	if (!found)
		return 0;
	full.cookie = slot->call.cookie;
	full.status = slot->status;
	full.started_ns = slot->started;
	full.ended_ns = slot->ended;
	full.error = slot->error;
	KIT_GIVE(completion, &full);
	return 1;
}
