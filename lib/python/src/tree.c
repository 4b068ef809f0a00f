/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Trees of any process of this machine, observed: rows of numbers, of which the package makes named
 * tuples. A Tree keeps the GIL while it looks: one thread at a time may use a dw_tree.
 */
#include <stdlib.h>
#include "core.h"

static PyTypeObject *tree_type;

struct tree_object {
	PyObject_HEAD
	struct dw_tree *tree;		/* NULL: closed, or never opened */
};

static bool tree_usable(struct tree_object *self)
{
	if (!self->tree)
		PyErr_SetString(PyExc_ValueError, "this Tree is closed");
	return self->tree != NULL;
}

static PyObject *tree_open(PyObject *object, PyObject *args)
{
	struct tree_object *self = (struct tree_object *)object;
	unsigned int index;
	int pid, result;

	if (!PyArg_ParseTuple(args, "iI", &pid, &index))
		return NULL;
	if (self->tree) {
		PyErr_SetString(PyExc_RuntimeError, "this Tree was opened before");
		return NULL;
	}
	result = dw_tree_open(pid, index, &self->tree);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static PyObject *tree_close(PyObject *object, PyObject *args)
{
	struct tree_object *self = (struct tree_object *)object;

	(void)args;
	dw_tree_close(self->tree);
	self->tree = NULL;
	Py_RETURN_NONE;
}

static void tree_dealloc(PyObject *object)
{
	dw_tree_close(((struct tree_object *)object)->tree);
	object_free(object);
}

static PyObject *tree_info(PyObject *object, PyObject *args)
{
	struct tree_object *self = (struct tree_object *)object;
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	int result;

	(void)args;
	if (!tree_usable(self))
		return NULL;
	result = dw_tree_info(self->tree, &info);
	if (result < 0)
		return raise_error(result);
	return Py_BuildValue("(iIIK)", (int)info.pid, (unsigned int)info.worker_count,
			     (unsigned int)info.child_count, (unsigned long long)info.started_ns);
}

static bool number_from(PyObject *object, uint32_t *number)
{
	unsigned long value = PyLong_AsUnsignedLong(object);

	if (PyErr_Occurred())
		return false;
	*number = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
	return true;
}

/* (properties, counters) of a Worker. */
static PyObject *tree_worker(PyObject *object, PyObject *given)
{
	struct tree_object *self = (struct tree_object *)object;
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	uint32_t number;
	int result;

	if (!tree_usable(self) || !number_from(given, &number))
		return NULL;
	result = dw_tree_worker(self->tree, number, &worker);
	if (result == 0)
		result = dw_tree_worker_stats(self->tree, number, &stats);
	if (result < 0)
		return raise_error(result);
	return Py_BuildValue("((sIiNIIIIKK)N)", worker.path, (unsigned int)worker.level,
			     (int)worker.pid, PyBool_FromLong((long)worker.up),
			     (unsigned int)worker.first_child, (unsigned int)worker.child_count,
			     (unsigned int)worker.runs, (unsigned int)worker.blocked,
			     (unsigned long long)worker.blocked_since_ns,
			     (unsigned long long)worker.heap_bytes, engine_stats_row(&stats));
}

/* (properties, counters) of a child. */
static PyObject *tree_child(PyObject *object, PyObject *given)
{
	struct tree_object *self = (struct tree_object *)object;
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_child_stats stats;
	uint32_t number;
	int result;

	if (!tree_usable(self) || !number_from(given, &number))
		return NULL;
	result = dw_tree_child(self->tree, number, &child);
	if (result == 0)
		result = dw_tree_child_stats(self->tree, number, &stats, sizeof(stats));
	if (result < 0)
		return raise_error(result);
	return Py_BuildValue("((iINiKKssKKK)N)", (int)child.tid, (unsigned int)child.queued,
			     PyBool_FromLong((long)child.busy), (int)child.stopped,
			     (unsigned long long)child.since_ns, (unsigned long long)child.task,
			     child.callable, child.cause, (unsigned long long)child.ended,
			     (unsigned long long)child.spins_won,
			     (unsigned long long)child.spins_lost, child_stats_row(&stats));
}

static int report_tree(void *tree, uint64_t stuck_ns, char *text, size_t *bytes)
{
	return dw_tree_report(tree, stuck_ns, text, bytes);
}

static PyObject *tree_report(PyObject *object, PyObject *stuck)
{
	struct tree_object *self = (struct tree_object *)object;

	return tree_usable(self) ? report_text(report_tree, self->tree, stuck, false) : NULL;
}

static PyMethodDef tree_methods[] = {
	{ "_open", tree_open, METH_VARARGS, "_open(pid, index)" },
	{ "close", tree_close, METH_NOARGS,
	  "close()\n\nStops observing; the tree itself is not touched. More than once is fine." },
	{ "_info", tree_info, METH_NOARGS, "A row of numbers." },
	{ "_worker", tree_worker, METH_O, "_worker(number) -> two rows" },
	{ "_child", tree_child, METH_O, "_child(number) -> two rows" },
	{ "_report", tree_report, METH_O, "_report(stuck) -> str" },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot tree_slots[] = {
	{ Py_tp_doc, "The C part of distworker.Tree." },
	{ Py_tp_dealloc, tree_dealloc },
	{ Py_tp_methods, tree_methods },
	{ 0, NULL },
};
static PyType_Spec tree_spec = {
	.name = "distworker._core.Tree",
	.basicsize = sizeof(struct tree_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = tree_slots,
};

bool tree_add_types(PyObject *module)
{
	return add_type(module, &tree_type, &tree_spec, "Tree");
}
