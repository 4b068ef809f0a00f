/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Runs: blocking ones, and those in flight with their descriptor. */
#include <errno.h>
#include <stdlib.h>
#include "core.h"

PyTypeObject *run_type;

/* ------------------------------------------------------------------------ calls */

static struct call *call_new(struct worker_object *worker, PyObject *fn, PyObject *arguments,
			     PyObject *progress)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call) {
		PyErr_NoMemory();
		return NULL;
	}
	call->held = PySet_New(NULL);
	if (!call->held) {
		free(call);
		return NULL;
	}
	call->worker = worker;
	Py_INCREF(fn);
	call->fn = fn;
	Py_INCREF(arguments);
	call->arguments = arguments;
	if (progress && progress != Py_None) {
		Py_INCREF(progress);
		call->progress = progress;
	}
	return call;
}

void call_free(struct call *call)
{
	Py_XDECREF(call->fn);
	Py_XDECREF(call->arguments);
	Py_XDECREF(call->progress);
	Py_XDECREF(call->value);
	Py_XDECREF(call->exception);
	Py_XDECREF(call->held);
	free(call);
}

/* All errors that were kept, as tuples; NULL: of the last run of this thread. */
static PyObject *errors_of(struct dw_run *run)
{
	struct dw_run_error error = DW_OPTIONS(dw_run_error);
	PyObject *list = PyList_New(0);

	for (uint32_t i = 0; list && dw_run_error(run, i, &error) == 0; i++) {
		PyObject *row = Py_BuildValue("Kiissss", (unsigned long long)error.task,
					      (int)-error.error, (int)error.attempts, error.name,
					      error.callable, error.path, error.text);

		if (!row || PyList_Append(list, row) < 0)
			Py_CLEAR(list);
		Py_XDECREF(row);
	}
	return list;
}

static void raise_run_error(int result)
{
	PyObject *text = PyUnicode_FromString(dw_strerror_last());
	uint64_t count = 0;
	PyObject *errors = NULL, *error = NULL;

	if (text) {
		dw_run_error_count(NULL, &count, NULL);
		errors = errors_of(NULL);
	}
	if (errors)
		error = PyObject_CallFunction(error_factory, "iOOK", -result, text, errors,
					      (unsigned long long)count);
	if (error)
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_XDECREF(error);
	Py_XDECREF(errors);
	Py_XDECREF(text);
}

/* The function's exception comes first: it says more than the run. Frees the call. */
static PyObject *call_result(struct call *call, int result)
{
	PyObject *value = NULL;

	if (call->exception) {
		PyErr_SetObject((PyObject *)Py_TYPE(call->exception), call->exception);
	} else if (result < 0) {
		raise_run_error(result);
	} else {
		value = call->value ? call->value : Py_None;
		Py_INCREF(value);
	}
	call_free(call);
	return value;
}

PyObject *worker_run_method(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	PyObject *fn, *arguments, *config_given;
	struct dw_config config;
	struct call *call;
	int result;

	if (!worker_usable(self) ||
	    !PyArg_ParseTuple(args, "OO!O", &fn, &PyTuple_Type, &arguments, &config_given) ||
	    !config_from(config_given, &config))
		return NULL;
	call = call_new(self, fn, arguments, NULL);
	if (!call)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_worker_run(self->handle, run_entry, NULL, &config, call);
	Py_END_ALLOW_THREADS
	return call_result(call, result);
}

/* Without the GIL. */
static int start(struct call *call, const struct dw_config *config,
		 const struct dw_run_options *options, bool watched)
{
	struct dw_worker *worker = call->worker->handle;
	int result;

	watched = watched && watch_enter(worker);
	result = dw_worker_start(worker, run_entry, NULL, config, call, options, &call->run);
	if (watched)
		watch_leave();
	return result;
}

PyObject *worker_start_method(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	PyObject *run, *fn, *arguments, *config_given, *timeout, *progress;
	struct dw_config config;
	struct call *call;
	int result, here;

	if (!worker_usable(self) ||
	    !PyArg_ParseTuple(args, "O!OO!OOOi", run_type, &run, &fn, &PyTuple_Type, &arguments,
			      &config_given, &timeout, &progress, &here) ||
	    !config_from(config_given, &config) || !seconds_to_ns(timeout, 0, &options.timeout_ns))
		return NULL;
	if (((struct run_object *)run)->worker) {
		PyErr_SetString(PyExc_RuntimeError, "this Run was started before");
		return NULL;
	}
	worker_reap(self, false);
	call = call_new(self, fn, arguments, progress);
	if (!call)
		return NULL;
	if (call->progress) {
		options.progress = run_progress;
		options.progress_context = call;
	}
	call->here = here;
	options.here = here;
	Py_BEGIN_ALLOW_THREADS
	result = start(call, &config, &options, here);
	Py_END_ALLOW_THREADS
	if (result < 0) {
		call_free(call);
		return raise_error(result);
	}
	Py_INCREF(object);
	((struct run_object *)run)->worker = self;
	((struct run_object *)run)->call = call;
	Py_RETURN_NONE;
}

/* ---------------------------------------------------- runs without a caller */

/* `all`: the Worker goes. A run that has not ended then still uses its call, for good. */
void worker_reap(struct worker_object *worker, bool all)
{
	struct call **place = &worker->unwatched, *call;

	while ((call = *place)) {
		if (dw_run_test(call->run) == 0) {
			*place = call->next;
			dw_run_wait(call->run);
			call_free(call);
		} else if (all) {
			*place = call->next;
		} else {
			place = &call->next;
		}
	}
}

/* It goes on; the Worker gives it back when it has ended. */
static void leave(struct run_object *self)
{
	struct call *call = self->call;

	if (!call)
		return;
	self->call = NULL;
	call->next = self->worker->unwatched;
	self->worker->unwatched = call;
}

/* ------------------------------------------------------------------------- runs */

static struct call *call_of(struct run_object *self)
{
	if (!self->call)
		PyErr_SetString(PyExc_RuntimeError, "this run was waited for, or detached");
	return self->call;
}

static void run_dealloc(PyObject *object)
{
	struct run_object *self = (struct run_object *)object;

	if (self->call && self->worker->process == getpid()) {
		leave(self);
		worker_reap(self->worker, false);
	}
	Py_XDECREF((PyObject *)self->worker);
	object_free(object);
}

static PyObject *run_finish(PyObject *object, PyObject *args)
{
	struct run_object *self = (struct run_object *)object;
	struct call *call = call_of(self);
	int result;

	(void)args;
	if (!call)
		return NULL;
	/* Another thread must not wait for it too. */
	self->call = NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_run_wait(call->run);
	Py_END_ALLOW_THREADS
	if (result == -EDEADLK && call->thread == PyThread_get_thread_ident()) {
		self->call = call;
		return raise_error(result);
	}
	return call_result(call, result);
}

static PyObject *run_wait_for(PyObject *object, PyObject *timeout)
{
	struct call *call = call_of((struct run_object *)object);
	uint64_t ns;
	int result;

	if (!call || !seconds_to_ns(timeout, UINT64_MAX, &ns))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_run_wait_for(call->run, ns);
	Py_END_ALLOW_THREADS
	if (result < 0 && result != -ETIMEDOUT)
		return raise_error(result);
	return PyBool_FromLong(result == 0);
}

static PyObject *run_test(PyObject *object, PyObject *args)
{
	struct run_object *self = (struct run_object *)object;
	int result;

	(void)args;
	if (!self->call)
		Py_RETURN_TRUE;
	result = dw_run_test(self->call->run);
	if (result < 0 && result != -EAGAIN)
		return raise_error(result);
	return PyBool_FromLong(result == 0);
}

static PyObject *run_fileno(PyObject *object, PyObject *args)
{
	struct call *call = call_of((struct run_object *)object);
	int fd, result;

	(void)args;
	if (!call)
		return NULL;
	result = dw_run_fd(call->run, &fd);
	return result < 0 ? raise_error(result) : PyLong_FromLong(fd);
}

static PyObject *run_cancel(PyObject *object, PyObject *args)
{
	struct run_object *self = (struct run_object *)object;
	int result;

	(void)args;
	if (!self->call)
		Py_RETURN_NONE;
	/* With the GIL, so that no other thread can give the run back meanwhile. */
	result = dw_run_cancel(self->call->run);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static PyObject *run_detach(PyObject *object, PyObject *args)
{
	(void)args;
	leave((struct run_object *)object);
	Py_RETURN_NONE;
}

/* Raises an exception in the thread that is in the run's function. */
static PyObject *run_interrupt(PyObject *object, PyObject *exception)
{
	struct run_object *self = (struct run_object *)object;

	if (self->call && self->call->thread)
		PyThreadState_SetAsyncExc(self->call->thread, exception);
	Py_RETURN_NONE;
}

static PyObject *run_exception(PyObject *object, PyObject *args)
{
	struct call *call = call_of((struct run_object *)object);
	PyObject *exception = call && call->exception ? call->exception : Py_None;

	(void)args;
	if (!call)
		return NULL;
	Py_INCREF(exception);
	return exception;
}

static PyObject *run_started(PyObject *object, PyObject *args)
{
	(void)args;
	return PyBool_FromLong(((struct run_object *)object)->call != NULL);
}

static PyObject *run_errors(PyObject *object, PyObject *args)
{
	struct call *call = call_of((struct run_object *)object);

	(void)args;
	return call ? errors_of(call->run) : NULL;
}

static PyMethodDef run_methods[] = {
	{ "_finish", run_finish, METH_NOARGS, "Waits, and gives what the function has returned." },
	{ "_wait_for", run_wait_for, METH_O, "_wait_for(seconds | None) -> bool: it has ended" },
	{ "test", run_test, METH_NOARGS,
	  "test() -> bool\n\nWhether the run has ended: wait() returns at once then. Any thread." },
	{ "fileno", run_fileno, METH_NOARGS,
	  "fileno() -> int\n\nA descriptor that becomes readable when the run ends, and stays so: "
	  "for event\n"
	  "loops. The run closes it: take it out of the loop before wait() and detach(). Any "
	  "thread.\n"
	  "RuntimeError: the run was waited for. Error with EMFILE, ENFILE." },
	{ "cancel", run_cancel, METH_NOARGS,
	  "cancel()\n\nSkips the tasks that have not started, and tells those that run. Any "
	  "thread." },
	{ "detach", run_detach, METH_NOARGS,
	  "detach()\n\nThe run goes on; its result and its errors are lost. Dropping a Run does "
	  "the same.\n"
	  "Any thread." },
	{ "_interrupt", run_interrupt, METH_O, "_interrupt(exception type)" },
	{ "_exception", run_exception, METH_NOARGS,
	  "What the function has raised, or None; after it has returned." },
	{ "_started", run_started, METH_NOARGS, "_started() -> bool: and not given back" },
	{ "_errors", run_errors, METH_NOARGS, "Tuples: the errors so far." },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot run_slots[] = {
	{ Py_tp_doc, "The C part of distworker.Run." },
	{ Py_tp_dealloc, run_dealloc },
	{ Py_tp_methods, run_methods },
	{ 0, NULL },
};
static PyType_Spec run_spec = {
	.name = "distworker._core.Run",
	.basicsize = sizeof(struct run_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = run_slots,
};

bool run_add_types(PyObject *module)
{
	return add_type(module, &run_type, &run_spec, "Run");
}
