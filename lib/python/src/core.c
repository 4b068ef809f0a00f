/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The module: errors, fork hooks, the log, and calls that belong to no object. */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include "core.h"
#include "launch.h"

PyObject *error_factory, *failure_formatter, *importer, *orch_class;
_Thread_local int callback_depth;
bool is_child_process;

static PyObject *start_hook, *log_function;
/* Of the thread that forks, from prepare to parent or child. */
static PyGILState_STATE fork_state;

/* --------------------------------------------------------------------- errors */

PyObject *raise_error(int result)
{
	PyObject *error;

	if (!error_factory) {
		PyErr_SetString(PyExc_RuntimeError, dw_strerror_last());
		return NULL;
	}
	error = PyObject_CallFunction(error_factory, "is", -result, dw_strerror_last());
	if (error)
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_XDECREF(error);
	return NULL;
}

/* The package's formatter gives (errno, text); it keeps the traceback in shared memory. */
int fail_with_exception(void)
{
	PyObject *type, *value, *traceback, *result = NULL;
	const char *text = "a Python exception";
	int error = EIO;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (value && traceback)
		PyException_SetTraceback(value, traceback);
	if (value && failure_formatter)
		result = PyObject_CallFunctionObjArgs(failure_formatter, value, NULL);
	if (!result || !PyArg_ParseTuple(result, "is", &error, &text))
		PyErr_Clear();
	error = dw_task_fail(error > 0 ? error : EIO, "%s", text);
	Py_XDECREF(result);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	return error;
}

/* Children end without the interpreter's end: a callable's output goes out with its task. */
void flush_streams(void)
{
	static const char *const names[] = { "stdout", "stderr" };
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	for (size_t i = 0; i < 2; i++) {
		PyObject *stream = PySys_GetObject(names[i]), *result;

		if (!stream || stream == Py_None)
			continue;
		Py_INCREF(stream);
		result = PyObject_CallMethod(stream, "flush", NULL);
		if (!result)
			PyErr_Clear();
		Py_XDECREF(result);
		Py_DECREF(stream);
	}
	PyErr_Restore(type, value, traceback);
}

bool seconds_to_ns(PyObject *seconds, uint64_t none, uint64_t *ns)
{
	double value;

	*ns = none;
	if (!seconds || seconds == Py_None)
		return true;
	value = PyFloat_AsDouble(seconds);
	if (value == -1.0 && PyErr_Occurred())
		return false;
	if (!(value >= 0.0 && value < 1e10)) {
		PyErr_Format(PyExc_ValueError, "a time of %R seconds: it should be 0 or more",
			     seconds);
		return false;
	}
	*ns = (uint64_t)(value * 1e9);
	return true;
}

static bool config_field(PyObject *object, const char *name, long *value)
{
	PyObject *field = PyObject_GetAttrString(object, name);

	*value = field ? PyLong_AsLong(field) : -1;
	Py_XDECREF(field);
	return !PyErr_Occurred();
}

bool config_from(PyObject *object, struct dw_config *config)
{
	long block_dim, threads, flags;

	memset(config, 0, sizeof(*config));
	if (!object || object == Py_None)
		return true;
	if (!config_field(object, "block_dim", &block_dim) ||
	    !config_field(object, "aicpu_thread_num", &threads) ||
	    !config_field(object, "flags", &flags))
		return false;
	if (block_dim < 0 || block_dim > INT32_MAX || threads < 0 || threads > INT32_MAX ||
	    flags < 0 || flags > (long)UINT32_MAX) {
		PyErr_Format(PyExc_ValueError, "%R: its numbers should be 0 to %d", object,
			     INT32_MAX);
		return false;
	}
	config->block_dim = (int32_t)block_dim;
	config->aicpu_thread_num = (int32_t)threads;
	config->flags = (uint32_t)flags;
	return true;
}

/* ----------------------------------------------------------------------- forks */

static void before_fork(void *context)
{
	(void)context;
	if (!Py_IsInitialized())
		return;
	/* PyOS_BeforeFork() has locks that let no other thread in until the fork is over. */
	PyGILState_STATE state = PyGILState_Ensure();

	PyOS_BeforeFork();
	fork_state = state;
}

static void after_fork_in_parent(void *context)
{
	PyGILState_STATE state = fork_state;

	(void)context;
	if (!Py_IsInitialized())
		return;
	PyOS_AfterFork_Parent();
	PyGILState_Release(state);
}

static void after_fork_in_child(void *context)
{
	PyGILState_STATE state = fork_state;

	(void)context;
	if (!Py_IsInitialized())
		return;
	is_child_process = true;
	PyOS_AfterFork_Child();
	PyGILState_Release(state);
}

static int start_of_child(const struct dw_child_start *start, void *context)
{
	PyGILState_STATE state;
	PyObject *result;
	int error = 0;

	(void)context;
	if (!Py_IsInitialized() || !start_hook)
		return 0;
	state = PyGILState_Ensure();
	callback_depth++;
	result = PyObject_CallFunction(start_hook, "siiI", start->path, (int)start->kind,
				       (int)start->mode, (unsigned int)start->generation);
	if (!result)
		error = fail_with_exception();
	Py_XDECREF(result);
	callback_depth--;
	PyGILState_Release(state);
	return error;
}

static bool add_fork_hooks(void)
{
	struct dw_fork_hooks hooks = DW_OPTIONS(dw_fork_hooks);
	int result;

	hooks.prepare = before_fork;
	hooks.parent = after_fork_in_parent;
	hooks.child = after_fork_in_child;
	hooks.start = start_of_child;
	result = dw_fork_hooks_add(&hooks);
	return result == 0 || raise_error(result);
}

/* ------------------------------------------------------------------------- log */

static void log_line(enum dw_log_level level, int32_t pid, const char *text, void *context)
{
	PyGILState_STATE state;
	PyObject *result;

	(void)context;
	if (!Py_IsInitialized())
		return;
	state = PyGILState_Ensure();
	if (log_function) {
		result = PyObject_CallFunction(log_function, "iis", (int)level, (int)pid, text);
		if (!result)
			PyErr_WriteUnraisable(log_function);
		Py_XDECREF(result);
	}
	PyGILState_Release(state);
}

PyDoc_STRVAR(log_set_doc,
	"_log_set(function | None, level): lines to function(level, pid, text).");
static PyObject *log_set(PyObject *module, PyObject *args)
{
	PyObject *function, *old;
	int level, result;

	(void)module;
	if (!PyArg_ParseTuple(args, "Oi", &function, &level))
		return NULL;
	old = log_function;
	if (function != Py_None) {
		Py_INCREF(function);
		log_function = function;
	}
	Py_BEGIN_ALLOW_THREADS
	result = dw_log_set(function != Py_None ? log_line : NULL, NULL, (enum dw_log_level)level);
	Py_END_ALLOW_THREADS
	if (result < 0) {
		if (function != Py_None)
			Py_DECREF(function);
		log_function = old;
		return raise_error(result);
	}
	if (function == Py_None)
		log_function = NULL;
	Py_XDECREF(old);
	Py_RETURN_NONE;
}

/* ------------------------------------------------------------------ the module */

PyDoc_STRVAR(version_doc, "version() -> str: of libdistworker.");
static PyObject *version(PyObject *module, PyObject *args)
{
	(void)module, (void)args;
	return PyUnicode_FromString(dw_version());
}

PyDoc_STRVAR(cancelled_doc, "task_cancelled() -> bool\n\n"
	"In a callable, in the thread that runs it: the run was cancelled, the task's deadline "
	"has\n"
	"passed, or a member of its group has died. False elsewhere.");
static PyObject *cancelled(PyObject *module, PyObject *args)
{
	(void)module, (void)args;
	return PyBool_FromLong(dw_task_cancelled());
}

PyDoc_STRVAR(count_doc,
	"_count(shared memory) -> int: adds 1 to its first 8 bytes, for all processes.");
static PyObject *count(PyObject *module, PyObject *memory)
{
	uint64_t number = 0;
	Py_buffer view;

	(void)module;
	if (PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE) < 0)
		return NULL;
	if (view.len >= 8)
		number = __atomic_add_fetch((uint64_t *)view.buf, 1, __ATOMIC_RELAXED);
	PyBuffer_Release(&view);
	return PyLong_FromUnsignedLongLong(number);
}

PyDoc_STRVAR(provider_doc, "_provider() -> (result, provider, abi, features, reason)");
static PyObject *provider(PyObject *module, PyObject *args)
{
	struct dw_provider_info info = DW_OPTIONS(dw_provider_info);
	int result;

	(void)module, (void)args;
	Py_BEGIN_ALLOW_THREADS
	result = dw_provider_query(&info);
	Py_END_ALLOW_THREADS
	return Py_BuildValue("iIIKs", result, (unsigned int)info.provider,
			     (unsigned int)info.module_abi,
			     (unsigned long long)info.module_features, info.reason);
}

PyDoc_STRVAR(setup_doc,
	"_setup(error, format_failure, import_function, Orchestrator, start_hook)");
static PyObject *setup(PyObject *module, PyObject *args)
{
	(void)module;
	if (!PyArg_ParseTuple(args, "OOOOO", &error_factory, &failure_formatter, &importer,
			      &orch_class, &start_hook))
		return NULL;
	Py_INCREF(error_factory);
	Py_INCREF(failure_formatter);
	Py_INCREF(importer);
	Py_INCREF(orch_class);
	Py_INCREF(start_hook);
	Py_RETURN_NONE;
}

void object_free(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	freefunc free_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);

	free_memory(object);
	Py_DECREF(type);
}

bool add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec, const char *name)
{
	*type = (PyTypeObject *)PyType_FromSpec(spec);
	if (!*type)
		return false;
	return PyModule_AddObjectRef(module, name, (PyObject *)*type) == 0;
}

static PyMethodDef functions[] = {
	{ "_setup", setup, METH_VARARGS, setup_doc },
	{ "_log_set", log_set, METH_VARARGS, log_set_doc },
	{ "_provider", provider, METH_NOARGS, provider_doc },
	{ "_count", count, METH_O, count_doc },
	{ "version", version, METH_NOARGS, version_doc },
	{ "task_cancelled", cancelled, METH_NOARGS, cancelled_doc },
	{ NULL, NULL, 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "distworker._core",
	.m_doc = "The C part of distworker.",
	.m_size = -1,
	.m_methods = functions,
};

/*
 * Python loads extensions, and their libraries, apart from each other. Symbols of jobs and drivers
 * refer to the library without naming it, as in a program that is linked with it.
 */
static void share_library(void)
{
	Dl_info info;

	if (dladdr((void *)(uintptr_t)dw_version, &info) && info.dli_fname)
		dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (!module)
		return NULL;
	share_library();
	if (!buffer_add_type(module) || !tensor_add_types(module) || !args_add_types(module) ||
	    !callable_add_types(module) || !task_add_type(module) ||
	    !graph_add_type(module) || !orch_add_types(module) ||
	    !worker_add_types(module) || !run_add_types(module) || !tree_add_types(module) ||
	    !launch_add_types(module) ||
	    !chip_add_functions(module) || !watch_add_functions(module) || !add_fork_hooks()) {
		Py_DECREF(module);
		return NULL;
	}
	return module;
}
