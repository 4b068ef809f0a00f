/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Recorded graphs, and their replays. */
#include <errno.h>
#include <stdlib.h>
#include "core.h"

PyTypeObject *graph_type;

static void graph_dealloc(PyObject *object)
{
	struct graph_object *self = (struct graph_object *)object;

	dw_graph_destroy(self->graph);
	Py_XDECREF(self->held);
	object_free(object);
}

static bool graph_valid(const struct graph_object *self)
{
	if (!self->graph)
		PyErr_SetString(PyExc_RuntimeError, "this graph was closed");
	return self->graph != NULL;
}

/* The row that _seeing.py makes a GraphInfo of. */
static PyObject *graph_query(PyObject *object, PyObject *args)
{
	struct graph_object *self = (struct graph_object *)object;
	struct dw_graph_info info = DW_OPTIONS(dw_graph_info);
	int result;

	(void)args;
	if (!graph_valid(self))
		return NULL;
	result = dw_graph_query(self->graph, &info);
	return result < 0 ? raise_error(result) :
	       Py_BuildValue("sKKKKKKK", info.name, (unsigned long long)info.tasks,
			     (unsigned long long)info.edges, (unsigned long long)info.borders,
			     (unsigned long long)info.bytes, (unsigned long long)info.parameters,
			     (unsigned long long)info.scalars, (unsigned long long)info.replays);
}

static PyObject *graph_close(PyObject *object, PyObject *args)
{
	struct graph_object *self = (struct graph_object *)object;

	(void)args;
	dw_graph_destroy(self->graph);
	self->graph = NULL;
	Py_RETURN_NONE;
}

/* ------------------------------------------------------------------ recordings */

static struct dw_tensor *read_parameters(PyObject *given, size_t *count)
{
	Py_ssize_t size = PySequence_Size(given);
	struct dw_tensor *tensors;

	if (size < 0)
		return NULL;
	tensors = calloc((size_t)size + 1, sizeof(*tensors));
	if (!tensors) {
		PyErr_NoMemory();
		return NULL;
	}
	for (Py_ssize_t i = 0; i < size; i++) {
		PyObject *value = PySequence_GetItem(given, i);
		bool good = value && tensor_from(value, &tensors[i]);

		Py_XDECREF(value);
		if (!good) {
			free(tensors);
			return NULL;
		}
	}
	*count = (size_t)size;
	return tensors;
}

static bool hold_parameters(struct orch_object *orch, const struct dw_tensor *tensors, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!orch_hold_buffer(orch, tensors[i].data))
			return false;
	return true;
}

PyObject *orch_record_begin(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "parameters", "name", NULL };
	struct orch_object *self = (struct orch_object *)object;
	struct dw_record_options options = DW_OPTIONS(dw_record_options);
	PyObject *parameters = NULL, *recorded = NULL;
	struct dw_tensor *tensors = NULL;
	int result;

	if (!orch_valid(self) || !PyArg_ParseTupleAndKeywords(args, kwargs, "|Oz", names,
							      &parameters, &options.name))
		return NULL;
	if (parameters) {
		tensors = read_parameters(parameters, &options.parameter_count);
		if (!tensors)
			return NULL;
	}
	options.parameters = tensors;
	if (!hold_parameters(self, tensors, options.parameter_count) ||
	    (self->held && !(recorded = PySet_New(NULL)))) {
		free(tensors);
		return NULL;
	}
	result = dw_record_begin(self->orch, &options);
	free(tensors);
	if (result < 0) {
		Py_XDECREF(recorded);
		return raise_error(result);
	}
	/* From here on the graph's buffers are collected, also those that are held already. */
	Py_XDECREF(self->recorded);
	self->recorded = recorded;
	self->last = NULL;
	Py_RETURN_NONE;
}

PyObject *orch_record_scalar(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "scalar", "parameter", "member", NULL };
	struct orch_object *self = (struct orch_object *)object;
	unsigned long long scalar, parameter, member = 0;
	int result;

	if (!orch_valid(self) || !PyArg_ParseTupleAndKeywords(args, kwargs, "KK|K", names, &scalar,
							      &parameter, &member))
		return NULL;
	result = dw_record_scalar(self->orch, member, scalar, parameter);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

PyObject *orch_record_end(PyObject *object, PyObject *args)
{
	struct orch_object *self = (struct orch_object *)object;
	struct graph_object *graph;
	int result;

	(void)args;
	if (!orch_valid(self))
		return NULL;
	graph = PyObject_New(struct graph_object, graph_type);
	if (!graph)
		return NULL;
	graph->graph = NULL;
	graph->held = NULL;
	result = dw_record_end(self->orch, &graph->graph);
	if (result < 0) {
		Py_DECREF((PyObject *)graph);
		return raise_error(result);
	}
	graph->held = self->recorded;
	self->recorded = NULL;
	return (PyObject *)graph;
}

/* Numbers as they are passed to tasks. */
static uint64_t *read_scalars(PyObject *given, size_t *count)
{
	Py_ssize_t size = PySequence_Size(given);
	uint64_t *scalars = NULL;
	struct dw_args *args;
	bool good = true;
	int result, tag;

	if (size < 0)
		return NULL;
	result = dw_args_create(&args);
	if (result < 0) {
		raise_error(result);
		return NULL;
	}
	for (Py_ssize_t i = 0; i < size && good; i++) {
		PyObject *value = PySequence_GetItem(given, i);

		good = value && args_add(args, value, NULL, &tag);
		if (good && dw_args_scalar_count(args) != (size_t)i + 1) {
			PyErr_Format(PyExc_TypeError, "scalars[%zd] is %R, and no number", i,
				     value);
			good = false;
		}
		Py_XDECREF(value);
	}
	if (good && !(scalars = calloc((size_t)size + 1, sizeof(*scalars))))
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; scalars && i < size; i++)
		scalars[i] = dw_args_scalar(args, (size_t)i);
	dw_args_destroy(args);
	*count = (size_t)size;
	return scalars;
}

PyObject *orch_replay(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "graph", "parameters", "scalars", NULL };
	struct orch_object *self = (struct orch_object *)object;
	PyObject *graph, *parameters = NULL, *values = NULL;
	size_t parameter_count = 0, scalar_count = 0;
	struct dw_tensor *tensors = NULL;
	struct dw_orch *orch = self->orch;
	uint64_t *scalars = NULL;
	struct dw_graph *handle;
	int result = 0;
	bool good;

	if (!orch_valid(self) || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!|OO", names,
							      graph_type, &graph, &parameters,
							      &values) ||
	    !graph_valid((struct graph_object *)graph))
		return NULL;
	handle = ((struct graph_object *)graph)->graph;
	good = (!parameters || (tensors = read_parameters(parameters, &parameter_count))) &&
	       (!values || (scalars = read_scalars(values, &scalar_count))) &&
	       hold_parameters(self, tensors, parameter_count) &&
	       /* It holds its buffers, and must not be freed before they are. */
	       (!self->held || PySet_Add(self->held, graph) == 0);
	while (good) {
		Py_BEGIN_ALLOW_THREADS
		result = dw_replay(orch, handle, tensors, parameter_count, scalars, scalar_count);
		Py_END_ALLOW_THREADS
		if (result != -ERESTART || PyErr_CheckSignals() < 0)
			break;
	}
	free(tensors);
	free(scalars);
	if (!good || PyErr_Occurred())
		return NULL;
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

/* ---------------------------------------------------------------------- types */

static PyMethodDef graph_methods[] = {
	{ "_query", graph_query, METH_NOARGS, "_query() -> row of GraphInfo" },
	{ "close", graph_close, METH_NOARGS,
	  "close()\n\nThe graph is not replayed any more; its memory goes when its tasks are "
	  "final. Its buffers\nare held until the object goes." },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot graph_slots[] = {
	{ Py_tp_doc, "A recorded graph, for Orchestrator.replay()." },
	{ Py_tp_dealloc, graph_dealloc },
	{ Py_tp_methods, graph_methods },
	{ 0, NULL },
};
static PyType_Spec graph_spec = {
	.name = "distworker._core.Graph",
	.basicsize = sizeof(struct graph_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = graph_slots,
};

bool graph_add_type(PyObject *module)
{
	return add_type(module, &graph_type, &graph_spec, "Graph");
}
