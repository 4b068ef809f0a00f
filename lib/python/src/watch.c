/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Signals while the main thread is in a run, in C: handlers of Python run in that thread alone, and
 * only when it is back in the interpreter. The interpreter writes a byte for each signal into a
 * pipe (signal.set_wakeup_fd). A thread that does nothing else reads it, and interrupts the waits
 * of the run.
 *
 * Invariant: between watch_leave() and the next watch_enter() the thread writes to no descriptor
 * and touches no Worker.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include "core.h"

#define MOST_RUNS 64

/* Of one process; a forked one begins anew. */
static struct {
	pid_t process;
	int reader, writer;
	pthread_mutex_t lock;		/* guards the fields below */
	int pass_on;			/* to the descriptor that was set before, or -1 */
	uint32_t depth;			/* of runs within runs of the main thread */
	struct dw_worker *workers[MOST_RUNS];
} watch;

static void pass_bytes_locked(bool interrupt)
{
	char bytes[256];
	ssize_t count = read(watch.reader, bytes, sizeof(bytes));

	if (count <= 0)
		return;
	if (watch.pass_on >= 0 && write(watch.pass_on, bytes, (size_t)count) < 0)
		errno = 0; /* full: its reader has news already */
	for (uint32_t i = 0; interrupt && i < watch.depth; i++)
		dw_worker_interrupt(watch.workers[i]);
}

static void *watch_thread(void *unused)
{
	struct pollfd reader = { .fd = watch.reader, .events = POLLIN };

	(void)unused;
	for (;;) {
		if (poll(&reader, 1, -1) < 0 && errno != EINTR)
			return NULL;
		pthread_mutex_lock(&watch.lock);
		pass_bytes_locked(true);
		pthread_mutex_unlock(&watch.lock);
	}
}

static bool start_thread(void)
{
	sigset_t all, before;
	pthread_attr_t how;
	pthread_t thread;
	int result;

	pthread_attr_init(&how);
	pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&thread, &how, watch_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&how);
	return result == 0;
}

PyDoc_STRVAR(watch_fd_doc, "_watch_fd() -> int\n\n"
	"The descriptor for signal.set_wakeup_fd(); -1: there is no watching thread.");
static PyObject *watch_fd(PyObject *module, PyObject *args)
{
	int fds[2];

	(void)module, (void)args;
	if (watch.process == getpid())
		return PyLong_FromLong(watch.writer);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return PyLong_FromLong(-1);
	watch.reader = fds[0];
	watch.writer = fds[1];
	watch.pass_on = -1;
	watch.depth = 0;
	pthread_mutex_init(&watch.lock, NULL);
	if (!start_thread()) {
		close(fds[0]);
		close(fds[1]);
		return PyLong_FromLong(-1);
	}
	watch.process = getpid();
	return PyLong_FromLong(watch.writer);
}

PyDoc_STRVAR(watch_pass_on_doc, "_watch_pass_on(fd)\n\n"
	"Bytes of signals go to this descriptor as well; -1: and those that are in the pipe are\n"
	"read, so that none comes later.");
static PyObject *watch_pass_on(PyObject *module, PyObject *args)
{
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "i", &fd))
		return NULL;
	pthread_mutex_lock(&watch.lock);
	if (fd < 0 && watch.pass_on >= 0)
		pass_bytes_locked(false);
	watch.pass_on = fd;
	pthread_mutex_unlock(&watch.lock);
	Py_RETURN_NONE;
}

bool watch_enter(struct dw_worker *worker)
{
	bool room;

	if (watch.process != getpid())
		return false;
	pthread_mutex_lock(&watch.lock);
	room = watch.depth < MOST_RUNS;
	if (room)
		watch.workers[watch.depth++] = worker;
	pthread_mutex_unlock(&watch.lock);
	return room;
}

void watch_leave(void)
{
	/* A fork within the run's function comes here, too. */
	if (watch.process != getpid())
		return;
	pthread_mutex_lock(&watch.lock);
	watch.depth--;
	pthread_mutex_unlock(&watch.lock);
}

static PyMethodDef functions[] = {
	{ "_watch_fd", watch_fd, METH_NOARGS, watch_fd_doc },
	{ "_watch_pass_on", watch_pass_on, METH_VARARGS, watch_pass_on_doc },
	{ NULL, NULL, 0, NULL },
};

bool watch_add_functions(PyObject *module)
{
	return PyModule_AddFunctions(module, functions) == 0;
}
