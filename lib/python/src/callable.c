/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Callables, and the functions that the library calls for them. A function that is imported goes
 * through a callable of the package's own, with "module:name" in scalars behind the task's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

PyTypeObject *callable_type;

/* ---------------------------------------------------------------------- objects */

PyObject *callable_new(dw_callable handle, int kind, const char *name, const char *import)
{
	struct callable_object *self = PyObject_New(struct callable_object, callable_type);

	if (!self)
		return NULL;
	self->handle = handle;
	self->kind = kind;
	self->import = import ? strdup(import) : NULL;
	self->import_bytes = import ? strlen(import) : 0;
	self->name = PyUnicode_FromString(name);
	if (self->name && (self->import || !import))
		return (PyObject *)self;
	Py_DECREF((PyObject *)self);
	return import ? PyErr_NoMemory() : NULL;
}

static void callable_dealloc(PyObject *object)
{
	struct callable_object *self = (struct callable_object *)object;

	free(self->import);
	Py_XDECREF(self->name);
	object_free(object);
}

static const char *const kinds[] = { "sub", "orch", "image" };

static PyObject *callable_repr(PyObject *object)
{
	struct callable_object *self = (struct callable_object *)object;

	return PyUnicode_FromFormat("<distworker %s callable %R>", kinds[self->kind], self->name);
}

static PyObject *get_handle(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct callable_object *)object)->handle);
}

static PyObject *get_kind(PyObject *object, void *closure)
{
	(void)closure;
	return PyUnicode_FromString(kinds[((struct callable_object *)object)->kind]);
}

static PyObject *get_name(PyObject *object, void *closure)
{
	PyObject *name = ((struct callable_object *)object)->name;

	(void)closure;
	Py_INCREF(name);
	return name;
}

static PyObject *by_import(PyObject *module, PyObject *args)
{
	const char *import, *name;
	int kind;

	(void)module;
	if (!PyArg_ParseTuple(args, "iss", &kind, &import, &name))
		return NULL;
	return callable_new(0, kind, name, import);
}

static PyMethodDef callable_methods[] = {
	{ "_by_import", by_import, METH_VARARGS | METH_STATIC,
	  "_by_import(kind, \"module:name\", name) -> Callable" },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef callable_properties[] = {
	{ "handle", get_handle, NULL,
	  "The library's number; 0 for a function that children import.", NULL },
	{ "kind", get_kind, NULL, "\"sub\", \"orch\" or \"image\".", NULL },
	{ "name", get_name, NULL, "As it was registered.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
PyDoc_STRVAR(callable_doc,
	"The code of a task: a function, a symbol or an image that is registered.\n\n"
	"It is valid in every process and thread of its tree; function() makes one for every "
	"tree.");
static PyType_Slot callable_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)callable_doc },
	{ Py_tp_dealloc, callable_dealloc },
	{ Py_tp_repr, callable_repr },
	{ Py_tp_methods, callable_methods },
	{ Py_tp_getset, callable_properties },
	{ 0, NULL },
};
static PyType_Spec callable_spec = {
	.name = "distworker._core.Callable",
	.basicsize = sizeof(struct callable_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = callable_slots,
};

bool callable_add_types(PyObject *module)
{
	return add_type(module, &callable_type, &callable_spec, "Callable");
}

/* ------------------------------------------------------------ functions by name */

#define IMPORT_MAX 1024

/* The bytes of the name, eight a scalar, and their number. */
bool callable_append_import(struct dw_args *args, const struct callable_object *callable)
{
	int result = 0;

	for (size_t i = 0; i < callable->import_bytes && result == 0; i += 8) {
		size_t bytes = callable->import_bytes - i;
		uint64_t word = 0;

		memcpy(&word, callable->import + i, bytes < 8 ? bytes : 8);
		result = dw_args_add_scalar(args, word);
	}
	if (result == 0)
		result = dw_args_add_scalar(args, callable->import_bytes);
	return result == 0 || raise_error(result);
}

/* The function that the last scalars name; *hidden is their number. */
static PyObject *imported(const struct dw_args *args, size_t *hidden)
{
	size_t count = dw_args_scalar_count(args);
	uint64_t bytes = count ? dw_args_scalar(args, count - 1) : 0;
	char name[IMPORT_MAX + 8];

	*hidden = (size_t)(bytes + 7) / 8 + 1;
	if (bytes == 0 || bytes > IMPORT_MAX || *hidden > count) {
		PyErr_SetString(PyExc_RuntimeError,
				"the task names no function: it was not submitted by this package");
		return NULL;
	}
	for (size_t i = 0; i + 1 < *hidden; i++) {
		uint64_t word = dw_args_scalar(args, count - *hidden + i);

		memcpy(name + 8 * i, &word, 8);
	}
	return PyObject_CallFunction(importer, "s#", name, (Py_ssize_t)bytes);
}

/* ---------------------------------------------------- called by the library */

/* The function to call: owned. */
static PyObject *function_of(const struct function *function, const struct dw_args *args,
			     size_t *hidden)
{
	*hidden = 0;
	if (!function->fn)
		return imported(args, hidden);
	Py_INCREF(function->fn);
	return function->fn;
}

static PyObject *root_of(const struct function *function)
{
	struct worker_object *worker = function->worker;

	return is_child_process || !worker ? NULL : (PyObject *)worker->root;
}

static int sub_call(const struct dw_args *args, const struct function *function)
{
	PyObject *fn, *view, *result = NULL;
	size_t hidden;

	fn = function_of(function, args, &hidden);
	if (!fn)
		return fail_with_exception();
	view = args_borrow(args, hidden, root_of(function));
	if (view) {
		result = PyObject_CallFunctionObjArgs(fn, view, NULL);
		args_release(view);
		Py_DECREF(view);
	}
	Py_DECREF(fn);
	if (!result)
		return fail_with_exception();
	Py_DECREF(result);
	return 0;
}

int sub_entry(const struct dw_args *args, void *context)
{
	PyGILState_STATE state = PyGILState_Ensure();
	int result;

	callback_depth++;
	result = sub_call(args, context);
	if (is_child_process)
		flush_streams();
	callback_depth--;
	PyGILState_Release(state);
	return result;
}

static int orch_call(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, const struct function *function)
{
	PyObject *fn, *view, *orchestrator = NULL, *result = NULL;
	size_t hidden;

	fn = function_of(function, args, &hidden);
	if (!fn)
		return fail_with_exception();
	view = args_borrow(args, hidden, root_of(function));
	if (view)
		orchestrator = orch_new(orch, config, is_child_process ? NULL : function->worker,
					NULL);
	if (orchestrator) {
		result = PyObject_CallFunctionObjArgs(fn, orchestrator, view, NULL);
		orch_release(orchestrator);
		Py_DECREF(orchestrator);
	}
	if (view) {
		args_release(view);
		Py_DECREF(view);
	}
	Py_DECREF(fn);
	if (!result)
		return fail_with_exception();
	Py_DECREF(result);
	return 0;
}

int orch_entry(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
	       void *context)
{
	PyGILState_STATE state = PyGILState_Ensure();
	int result;

	callback_depth++;
	result = orch_call(orch, args, config, context);
	if (is_child_process)
		flush_streams();
	callback_depth--;
	PyGILState_Release(state);
	return result;
}

/* The Orchestrator before the arguments that the caller of run() has given. */
static PyObject *run_call(struct call *call, PyObject *orchestrator)
{
	Py_ssize_t count = PyTuple_Size(call->arguments);
	PyObject *arguments = PyTuple_New(count + 1), *result;

	if (!arguments)
		return NULL;
	Py_INCREF(orchestrator);
	PyTuple_SetItem(arguments, 0, orchestrator);
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *argument = PyTuple_GetItem(call->arguments, i);

		Py_INCREF(argument);
		PyTuple_SetItem(arguments, i + 1, argument);
	}
	call->thread = PyThread_get_thread_ident();
	result = PyObject_CallObject(call->fn, arguments);
	call->thread = 0;
	Py_DECREF(arguments);
	return result;
}

int run_entry(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
	      void *context)
{
	PyGILState_STATE state = PyGILState_Ensure();
	struct call *call = context;
	PyObject *orchestrator, *type, *value, *traceback;
	bool interrupted = false;
	int result = 0;

	(void)args;
	callback_depth++;
	orchestrator = orch_new(orch, config, call->worker, call->held);
	if (orchestrator) {
		call->value = run_call(call, orchestrator);
		orch_release(orchestrator);
		Py_DECREF(orchestrator);
	}
	if (!call->value) {
		PyErr_Fetch(&type, &value, &traceback);
		PyErr_NormalizeException(&type, &value, &traceback);
		if (value && traceback)
			PyException_SetTraceback(value, traceback);
		call->exception = value;
		interrupted = call->here && value &&
			      PyErr_GivenExceptionMatches(value, PyExc_KeyboardInterrupt);
		Py_XDECREF(type);
		Py_XDECREF(traceback);
		result = dw_task_fail(ECANCELED, "its function has raised an exception");
	}
	callback_depth--;
	PyGILState_Release(state);
	/* The caller cancels the run instead of waiting for its tasks. */
	if (interrupted)
		dw_worker_interrupt(call->worker->handle);
	return result;
}

void run_progress(uint64_t submitted, uint64_t finished, void *context)
{
	PyGILState_STATE state = PyGILState_Ensure();
	struct call *call = context;
	PyObject *result;

	callback_depth++;
	result = PyObject_CallFunction(call->progress, "KK", (unsigned long long)submitted,
				       (unsigned long long)finished);
	if (!result)
		PyErr_WriteUnraisable(call->progress);
	Py_XDECREF(result);
	callback_depth--;
	PyGILState_Release(state);
}
