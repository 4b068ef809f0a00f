/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The processes of one run on several hosts (distworker/launch.h), and dw_host_examine(). A Launch
 * keeps its words as the library wants them for the time of the call alone. Its calls release the
 * GIL where they wait for other hosts; one thread at a time may use a Launch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "launch.h"

static PyTypeObject *launch_type;

struct launch_object {
	PyObject_HEAD
	struct dw_launch *launch;	/* NULL: closed, or never begun */
};

static struct launch_object *launch_usable(PyObject *object)
{
	struct launch_object *self = (struct launch_object *)object;

	if (self->launch)
		return self;
	PyErr_SetString(PyExc_ValueError, "this Launch is closed");
	return NULL;
}

bool launch_handle(PyObject *object, struct dw_launch **launch)
{
	struct launch_object *self;

	*launch = NULL;
	if (object == Py_None)
		return true;
	if (!PyObject_TypeCheck(object, launch_type)) {
		PyErr_SetString(PyExc_TypeError, "a Launch is wanted");
		return false;
	}
	self = launch_usable(object);
	*launch = self ? self->launch : NULL;
	return self != NULL;
}

/* ------------------------------------------------------------------------- words */

static void words_free(char **words)
{
	for (size_t i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}

/* The texts of a tuple, and NULL behind them. */
static char **words_from(PyObject *tuple)
{
	Py_ssize_t count = PyTuple_Size(tuple);
	char **words = count < 0 ? NULL : calloc((size_t)count + 1, sizeof(*words));

	for (Py_ssize_t i = 0; words && i < count; i++) {
		const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(tuple, i), NULL);

		words[i] = text ? strdup(text) : NULL;
		if (words[i])
			continue;
		if (text)
			PyErr_NoMemory();
		words_free(words);
		return NULL;
	}
	if (!words && !PyErr_Occurred())
		PyErr_NoMemory();
	return words;
}

/* ------------------------------------------------------------------------- Launch */

static PyObject *launch_begin(PyObject *object, PyObject *args)
{
	struct launch_object *self = (struct launch_object *)object;
	struct dw_launch_options options = DW_OPTIONS(dw_launch_options);
	unsigned long long timeout;
	struct dw_launch *launch;
	PyObject *arguments;
	char **words;
	int result;

	if (!PyArg_ParseTuple(args, "zzzO!K", &options.hosts, &options.program, &options.verb,
			      &PyTuple_Type, &arguments, &timeout))
		return NULL;
	if (self->launch) {
		PyErr_SetString(PyExc_RuntimeError, "this Launch was begun before");
		return NULL;
	}
	words = words_from(arguments);
	if (!words)
		return NULL;
	options.arguments = (const char *const *)words;
	options.timeout_ns = timeout;
	Py_BEGIN_ALLOW_THREADS
	result = dw_launch_create(&options, &launch);
	Py_END_ALLOW_THREADS
	words_free(words);
	if (result < 0)
		return raise_error(result);
	self->launch = launch;
	Py_RETURN_NONE;
}

static void launch_end(struct launch_object *self)
{
	struct dw_launch *launch = self->launch;

	self->launch = NULL;
	Py_BEGIN_ALLOW_THREADS
	dw_launch_destroy(launch);
	Py_END_ALLOW_THREADS
}

static PyObject *launch_close(PyObject *object, PyObject *args)
{
	(void)args;
	launch_end((struct launch_object *)object);
	Py_RETURN_NONE;
}

static void launch_dealloc(PyObject *object)
{
	launch_end((struct launch_object *)object);
	object_free(object);
}

static PyObject *launch_rank(PyObject *object, void *closure)
{
	const struct launch_object *self = launch_usable(object);

	(void)closure;
	return self ? PyLong_FromUnsignedLong(dw_launch_rank(self->launch)) : NULL;
}

static PyObject *launch_size(PyObject *object, void *closure)
{
	const struct launch_object *self = launch_usable(object);

	(void)closure;
	return self ? PyLong_FromUnsignedLong(dw_launch_size(self->launch)) : NULL;
}

static bool rank_from(PyObject *given, uint32_t *rank)
{
	unsigned long value = PyLong_AsUnsignedLong(given);

	if (PyErr_Occurred())
		return false;
	*rank = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
	return true;
}

static PyObject *launch_host(PyObject *object, PyObject *given)
{
	const struct launch_object *self = launch_usable(object);
	unsigned int rank, from = 0;
	char host[320];
	int result;

	if (!self || !PyArg_ParseTuple(given, "I|I", &rank, &from))
		return NULL;
	if (!from)
		return Py_BuildValue("z", dw_launch_host(self->launch, rank));
	result = dw_launch_host_from(self->launch, rank, from, host, sizeof(host));
	if (result == -ENOENT)
		Py_RETURN_NONE;
	return result < 0 ? raise_error(result) : PyUnicode_FromString(host);
}

static PyObject *launch_output(PyObject *object, PyObject *given)
{
	const struct launch_object *self = launch_usable(object);
	int output, errors, result;
	uint32_t rank;

	if (!self || !rank_from(given, &rank))
		return NULL;
	result = dw_launch_output(self->launch, rank, &output, &errors);
	return result < 0 ? raise_error(result) : Py_BuildValue("(ii)", output, errors);
}

static PyMethodDef launch_methods[] = {
	{ "_begin", launch_begin, METH_VARARGS, "All options, in the order of the C struct." },
	{ "close", launch_close, METH_NOARGS,
	  "close()\n\nEnds nodes that ssh has started. More than once is fine." },
	{ "host", launch_host, METH_VARARGS,
	  "host(rank, parent=0)\n\nFor Worker(host=…): where rank 1 … size - 1 serves, as the "
	  "rank of its parent Worker reaches it (0: the root). None: there is no such rank, or "
	  "this process is not the root. Error with ENETUNREACH: no address leads there." },
	{ "output", launch_output, METH_O,
	  "output(rank)\n\nWhat a node that ssh has started prints: non-blocking descriptors"
	  " of its "
	  "output and its errors, valid until close(). A node that has filled a pipe waits. Error "
	  "with ENOENT: no such node, or a launcher has started it." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef launch_getters[] = {
	{ "rank", launch_rank, NULL, "Of this process; 0: the root.", NULL },
	{ "size", launch_size, NULL, "Processes: the root, and the nodes.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot launch_slots[] = {
	{ Py_tp_doc, "The C part of distworker.Launch." },
	{ Py_tp_dealloc, launch_dealloc },
	{ Py_tp_methods, launch_methods },
	{ Py_tp_getset, launch_getters },
	{ 0, NULL },
};
static PyType_Spec launch_spec = {
	.name = "distworker._core.Launch",
	.basicsize = sizeof(struct launch_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = launch_slots,
};

/* ----------------------------------------------------------------- examine_host() */

/* Called without the GIL. */
static void keep_finding(const struct dw_host_finding *finding, void *list)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *row = Py_BuildValue("(Isss)", (unsigned int)finding->verdict, finding->subject,
				      finding->text, finding->remedy);

	/* A row is missing where memory was, and the exception says so. */
	if (row)
		PyList_Append(list, row);
	Py_XDECREF(row);
	PyGILState_Release(state);
}

static PyObject *examine_host(PyObject *module, PyObject *args)
{
	struct dw_host_examine_options options = DW_OPTIONS(dw_host_examine_options);
	PyObject *list = PyList_New(0);
	unsigned long long timeout;
	const char *host;
	int result;

	(void)module;
	if (!list ||
	    !PyArg_ParseTuple(args, "szzK", &host, &options.key, &options.user, &timeout)) {
		Py_XDECREF(list);
		return NULL;
	}
	options.timeout_ns = timeout;
	options.found = keep_finding;
	options.context = list;
	Py_BEGIN_ALLOW_THREADS
	result = dw_host_examine(host, &options);
	Py_END_ALLOW_THREADS
	if (result == 0 && !PyErr_Occurred())
		return list;
	Py_DECREF(list);
	return result < 0 ? raise_error(result) : NULL;
}

static PyMethodDef functions[] = {
	{ "_examine_host", examine_host, METH_VARARGS, "Rows of a verdict and three texts." },
	{ NULL, NULL, 0, NULL },
};

bool launch_add_types(PyObject *module)
{
	return add_type(module, &launch_type, &launch_spec, "Launch") &&
	       PyModule_AddFunctions(module, functions) == 0;
}
