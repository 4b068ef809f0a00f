/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Tasks that were submitted, with the tensors that their submit has allocated. */
#include "core.h"

PyTypeObject *task_type;

PyObject *task_new(dw_task id)
{
	struct task_object *self = PyObject_New(struct task_object, task_type);

	if (!self)
		return NULL;
	self->id = id;
	self->outputs = NULL;
	return (PyObject *)self;
}

static void task_dealloc(PyObject *object)
{
	Py_XDECREF(((struct task_object *)object)->outputs);
	object_free(object);
}

static PyObject *task_repr(PyObject *object)
{
	return PyUnicode_FromFormat("<distworker task %llu>",
				    (unsigned long long)((struct task_object *)object)->id);
}

static PyObject *get_id(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct task_object *)object)->id);
}

static PyObject *get_outputs(PyObject *object, void *closure)
{
	PyObject *outputs = ((struct task_object *)object)->outputs;

	(void)closure;
	if (!outputs)
		return PyTuple_New(0);
	Py_INCREF(outputs);
	return outputs;
}

static PyGetSetDef task_properties[] = {
	{ "id", get_id, NULL, "The number of the task within its run.", NULL },
	{ "outputs", get_outputs, NULL,
	  "The tensors that the submit has allocated, for new(), in order.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot task_slots[] = {
	{ Py_tp_doc, "A task that was submitted." },
	{ Py_tp_dealloc, task_dealloc },
	{ Py_tp_repr, task_repr },
	{ Py_tp_getset, task_properties },
	{ 0, NULL },
};
static PyType_Spec task_spec = {
	.name = "distworker._core.Task",
	.basicsize = sizeof(struct task_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = task_slots,
};

bool task_add_type(PyObject *module)
{
	return add_type(module, &task_type, &task_spec, "Task");
}
