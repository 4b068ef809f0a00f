/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Arguments of tasks: those that a program makes, and those that a callable is given. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

PyTypeObject *args_type, *tagged_type;

/* ------------------------------------------------------------------------- tags */

static PyObject *tagged_new(PyObject *value, int tag)
{
	struct tagged_object *self = PyObject_New(struct tagged_object, tagged_type);

	if (!self)
		return NULL;
	Py_INCREF(value);
	self->value = value;
	self->tag = tag;
	return (PyObject *)self;
}

static void tagged_dealloc(PyObject *self)
{
	Py_XDECREF(((struct tagged_object *)self)->value);
	object_free(self);
}

#define TAG_FUNCTION(name, tag)                                 \
	static PyObject *name(PyObject *module, PyObject *value) \
	{                                                       \
		(void)module;                                   \
		return tagged_new(value, tag);                  \
	}
TAG_FUNCTION(tag_input, DW_INPUT)
TAG_FUNCTION(tag_output, DW_OUTPUT)
TAG_FUNCTION(tag_inout, DW_INOUT)
TAG_FUNCTION(tag_existing, DW_OUTPUT_EXISTING)
TAG_FUNCTION(tag_no_dep, DW_NO_DEP)

static PyObject *tag_new(PyObject *module, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "shape", "dtype", NULL };
	uint32_t shape[DW_TENSOR_MAX_DIMS], ndims;
	PyObject *shape_object, *dtype_object = NULL, *value, *tagged;
	struct dw_tensor tensor;
	int dtype = DW_FLOAT32, result;

	(void)module;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &shape_object, &dtype_object))
		return NULL;
	if (dtype_object)
		dtype = dtype_from(dtype_object);
	if (dtype < 0 || !shape_from(shape_object, shape, &ndims))
		return NULL;
	result = dw_tensor_init(&tensor, NULL, dtype, shape, ndims);
	if (result < 0)
		return raise_error(result);
	value = tensor_new(&tensor, NULL);
	tagged = value ? tagged_new(value, DW_OUTPUT) : NULL;
	Py_XDECREF(value);
	return tagged;
}

static PyMethodDef tag_functions[] = {
	{ "inp", tag_input, METH_O,
	  "inp(tensor) -> Tagged\n\nThe task reads it: after the last writers of each byte." },
	{ "out", tag_output, METH_O,
	  "out(tensor) -> Tagged\n\nThe task overwrites it: after its readers and writers." },
	{ "inout", tag_inout, METH_O, "inout(tensor) -> Tagged\n\nThe task reads and writes it." },
	{ "existing", tag_existing, METH_O,
	  "existing(tensor) -> Tagged\n\n"
	  "The task overwrites it without waiting; the caller vouches for it." },
	{ "no_dep", tag_no_dep, METH_O,
	  "no_dep(tensor) -> Tagged\n\nNo dependency at all; refused in a kept buffer." },
	{ "new", METHOD(tag_new),
	  "new(shape, dtype=\"float32\") -> Tagged\n\n"
	  "An output that the submit allocates on the heap, as alloc() does: task.outputs has "
	  "it." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot tagged_slots[] = {
	{ Py_tp_doc, "A tensor with the use that a task makes of it: inp(), out(), inout(), …" },
	{ Py_tp_dealloc, tagged_dealloc },
	{ 0, NULL },
};
static PyType_Spec tagged_spec = {
	.name = "distworker._core.Tagged",
	.basicsize = sizeof(struct tagged_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = tagged_slots,
};

/* ----------------------------------------------------------------------- adding */

static int add_int(struct dw_args *args, PyObject *value)
{
	int overflow;
	long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
	unsigned long long large;

	if (!overflow)
		return number == -1 && PyErr_Occurred() ? 1 : dw_args_add_int(args, number);
	large = PyLong_AsUnsignedLongLong(value);
	if (PyErr_Occurred()) {
		PyErr_Clear();
		PyErr_Format(PyExc_OverflowError, "%R: a scalar has 64 bits", value);
		return 1;
	}
	return dw_args_add_scalar(args, large);
}

/* The object that keeps the memory of a tensor argument. */
static PyObject *keeper_of(PyObject *value)
{
	PyObject *owner =
		Py_TYPE(value) == tensor_type ? ((struct tensor_object *)value)->owner : value;

	return owner ? owner : value;
}

bool args_add(struct dw_args *args, PyObject *value, PyObject *keep, int *tag)
{
	struct dw_tensor tensor;
	PyObject *inner = value;
	int result;

	*tag = -1;
	if (Py_TYPE(value) == tagged_type) {
		inner = ((struct tagged_object *)value)->value;
		*tag = ((struct tagged_object *)value)->tag;
	} else if (PyLong_Check(value)) {
		result = add_int(args, value);
		return result == 0 || (result < 0 && raise_error(result));
	} else if (PyFloat_Check(value)) {
		result = dw_args_add_double(args, PyFloat_AsDouble(value));
		return result == 0 || raise_error(result);
	} else {
		*tag = DW_INPUT;
	}
	if (!tensor_from(inner, &tensor))
		return false;
	result = dw_args_add_tensor(args, &tensor, (enum dw_tag)*tag);
	if (result < 0)
		return raise_error(result);
	return !keep || PyList_Append(keep, keeper_of(inner)) == 0;
}

/* Room for a tag of each tensor. */
static bool tags_grow(struct args_object *self)
{
	size_t count = dw_args_tensor_count(self->owned), space = self->tag_space;
	uint8_t *grown;

	if (count <= space && self->tags)
		return true;
	space = count < 8 ? 8 : 2 * count;
	grown = realloc(self->tags, space);
	if (!grown)
		return PyErr_NoMemory() != NULL;
	self->tags = grown;
	self->tag_space = space;
	return true;
}

static bool remember_tag(struct args_object *self, int tag)
{
	if (!tags_grow(self))
		return false;
	self->tags[dw_args_tensor_count(self->owned) - 1] = (uint8_t)tag;
	return true;
}

bool args_copy(struct dw_args *to, struct args_object *from)
{
	size_t tensors = dw_args_tensor_count(from->args);
	size_t scalars = dw_args_scalar_count(from->args) - from->hidden;
	int result = 0;

	for (size_t i = 0; i < tensors && result == 0; i++)
		result = dw_args_add_tensor(to, dw_args_tensor(from->args, i),
					    from->tags ? (enum dw_tag)from->tags[i] : DW_INPUT);
	for (size_t i = 0; i < scalars && result == 0; i++)
		result = dw_args_add_scalar(to, dw_args_scalar(from->args, i));
	return result == 0 || raise_error(result);
}

/* ---------------------------------------------------------------------- objects */

static struct args_object *args_make(void)
{
	struct args_object *self = PyObject_New(struct args_object, args_type);

	if (!self)
		return NULL;
	self->owned = NULL;
	self->args = NULL;
	self->keep = self->owner = NULL;
	self->tags = NULL;
	self->tag_space = self->hidden = 0;
	return self;
}

PyObject *args_borrow(const struct dw_args *args, size_t hidden, PyObject *owner)
{
	struct args_object *self = args_make();

	if (!self)
		return NULL;
	self->args = args;
	self->hidden = hidden;
	Py_XINCREF(owner);
	self->owner = owner;
	return (PyObject *)self;
}

void args_release(PyObject *object)
{
	((struct args_object *)object)->args = NULL;
}

static void args_dealloc(PyObject *object)
{
	struct args_object *self = (struct args_object *)object;

	dw_args_destroy(self->owned);
	free(self->tags);
	Py_XDECREF(self->keep);
	Py_XDECREF(self->owner);
	object_free(object);
}

static bool args_valid(struct args_object *self)
{
	if (!self->args)
		PyErr_SetString(PyExc_RuntimeError,
				"the arguments of a callable are gone when it has returned: "
				"keep tensors and numbers instead");
	return self->args != NULL;
}

static bool args_writable(struct args_object *self)
{
	if (!args_valid(self))
		return false;
	if (!self->owned)
		raise_error(dw_args_add_scalar((struct dw_args *)(uintptr_t)self->args, 0));
	return self->owned != NULL;
}

static bool add_value(struct args_object *self, PyObject *value)
{
	int tag;

	if (!args_add(self->owned, value, self->keep, &tag))
		return false;
	return tag < 0 || remember_tag(self, tag);
}

static PyObject *args_new(PyTypeObject *type, PyObject *values, PyObject *kwargs)
{
	struct args_object *self;
	int result;

	(void)type;
	if (kwargs && PyDict_Size(kwargs)) {
		PyErr_SetString(PyExc_TypeError, "Args() takes no keyword arguments");
		return NULL;
	}
	self = args_make();
	if (!self)
		return NULL;
	result = dw_args_create(&self->owned);
	self->args = self->owned;
	self->keep = result == 0 ? PyList_New(0) : NULL;
	if (result < 0)
		raise_error(result);
	for (Py_ssize_t i = 0; self->keep && i < PyTuple_Size(values); i++)
		if (!add_value(self, PyTuple_GetItem(values, i)))
			Py_CLEAR(self->keep);
	if (self->keep)
		return (PyObject *)self;
	Py_DECREF(self);
	return NULL;
}

static PyObject *add(PyObject *object, PyObject *value)
{
	struct args_object *self = (struct args_object *)object;

	if (!args_writable(self) || !add_value(self, value))
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *add_tensor(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "tensor", "tag", NULL };
	struct args_object *self = (struct args_object *)object;
	PyObject *value, *tagged;
	int tag = DW_INPUT;
	bool good;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|i", names, &value, &tag) ||
	    !args_writable(self))
		return NULL;
	tagged = tagged_new(value, tag);
	good = tagged && add_value(self, tagged);
	Py_XDECREF(tagged);
	if (!good)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *reset(PyObject *object, PyObject *args)
{
	struct args_object *self = (struct args_object *)object;

	(void)args;
	if (!args_writable(self) ||
	    PyList_SetSlice(self->keep, 0, PyList_Size(self->keep), NULL) < 0)
		return NULL;
	dw_args_reset(self->owned);
	Py_RETURN_NONE;
}

/* ---------------------------------------------------------------------- reading */

static size_t scalar_count(struct args_object *self)
{
	return dw_args_scalar_count(self->args) - self->hidden;
}

static bool index_from(struct args_object *self, PyObject *index, bool tensor, size_t *position)
{
	Py_ssize_t number, count;

	if (!args_valid(self))
		return false;
	count = (Py_ssize_t)(tensor ? dw_args_tensor_count(self->args) : scalar_count(self));
	number = PyNumber_AsSsize_t(index, PyExc_IndexError);
	if (number == -1 && PyErr_Occurred())
		return false;
	if (number < 0)
		number += count;
	if (number < 0 || number >= count) {
		PyErr_Format(PyExc_IndexError, "there is no %s %R: the task has %zd",
			     tensor ? "tensor" : "scalar", index, count);
		return false;
	}
	*position = (size_t)number;
	return true;
}

static PyObject *read_tensor(struct args_object *self, size_t position)
{
	PyObject *owner = self->owner;

	/* Those of a blob have none. */
	if (self->keep &&
	    (size_t)PyList_Size(self->keep) == dw_args_tensor_count(self->args))
		owner = PyList_GetItem(self->keep, (Py_ssize_t)position);
	return tensor_new(dw_args_tensor(self->args, position), owner);
}

static PyObject *get_tensor(PyObject *object, PyObject *index)
{
	struct args_object *self = (struct args_object *)object;
	size_t position;

	return index_from(self, index, true, &position) ? read_tensor(self, position) : NULL;
}

static PyObject *get_scalar(PyObject *object, PyObject *index)
{
	struct args_object *self = (struct args_object *)object;
	size_t i;

	return index_from(self, index, false, &i) ?
		PyLong_FromUnsignedLongLong(dw_args_scalar(self->args, i)) : NULL;
}

static PyObject *get_int(PyObject *object, PyObject *index)
{
	struct args_object *self = (struct args_object *)object;
	size_t i;

	return index_from(self, index, false, &i) ?
		PyLong_FromLongLong(dw_args_int(self->args, i)) : NULL;
}

static PyObject *get_float(PyObject *object, PyObject *index)
{
	struct args_object *self = (struct args_object *)object;
	size_t i;

	return index_from(self, index, false, &i) ?
		PyFloat_FromDouble(dw_args_double(self->args, i)) : NULL;
}

static PyObject *get_tensors(PyObject *object, void *closure)
{
	struct args_object *self = (struct args_object *)object;
	PyObject *tuple;

	(void)closure;
	if (!args_valid(self))
		return NULL;
	tuple = PyTuple_New((Py_ssize_t)dw_args_tensor_count(self->args));
	for (size_t i = 0; tuple && i < dw_args_tensor_count(self->args); i++) {
		PyObject *tensor = read_tensor(self, i);

		if (!tensor)
			Py_CLEAR(tuple);
		else
			PyTuple_SetItem(tuple, (Py_ssize_t)i, tensor);
	}
	return tuple;
}

static PyObject *get_tensor_count(PyObject *object, void *closure)
{
	struct args_object *self = (struct args_object *)object;

	(void)closure;
	return args_valid(self) ? PyLong_FromSize_t(dw_args_tensor_count(self->args)) : NULL;
}

static PyObject *get_scalar_count(PyObject *object, void *closure)
{
	struct args_object *self = (struct args_object *)object;

	(void)closure;
	return args_valid(self) ? PyLong_FromSize_t(scalar_count(self)) : NULL;
}

PyDoc_STRVAR(to_blob_doc, "to_blob() -> bytes\n\n"
	"The wire format: int32 T, int32 S, T tensors of 40 bytes, S scalars of 8 bytes, in the\n"
	"machine's byte order. Tags are not a part of it.");
static PyObject *to_blob(PyObject *object, PyObject *args)
{
	struct args_object *self = (struct args_object *)object;
	size_t scalars, bytes = 0;
	PyObject *blob;
	int32_t count;
	int result;

	(void)args;
	if (!args_valid(self))
		return NULL;
	scalars = scalar_count(self);
	count = (int32_t)scalars;
	result = dw_args_to_blob(self->args, NULL, &bytes);
	blob = result == 0 ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes) : NULL;
	if (!blob)
		return result < 0 ? raise_error(result) : NULL;
	result = dw_args_to_blob(self->args, PyBytes_AsString(blob), &bytes);
	if (result < 0) {
		Py_DECREF(blob);
		return raise_error(result);
	}
	if (!self->hidden)
		return blob;
	/* The package's own scalars are the last ones. */
	memcpy(PyBytes_AsString(blob) + sizeof(count), &count, sizeof(count));
	bytes -= self->hidden * sizeof(uint64_t);
	args = PySequence_GetSlice(blob, 0, (Py_ssize_t)bytes);
	Py_DECREF(blob);
	return args;
}

PyDoc_STRVAR(from_blob_doc, "from_blob(blob) -> Args\n\n"
	"The arguments of an object with the buffer protocol in the wire format of to_blob(). All\n"
	"tensors have the tag INPUT; the memory at their addresses is kept by the caller.\n"
	"Error with EBADMSG: the blob's numbers and its size disagree; EINVAL: a\n"
	"tensor that makes no sense.");
static PyObject *from_blob(PyObject *type, PyObject *blob)
{
	struct args_object *self;
	Py_buffer view;
	int result;

	(void)type;
	if (PyObject_GetBuffer(blob, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	self = (struct args_object *)PyObject_CallNoArgs((PyObject *)args_type);
	result = self ? dw_args_from_blob(view.buf, (size_t)view.len, self->owned) : 0;
	PyBuffer_Release(&view);
	if (result < 0)
		raise_error(result);
	if (self && result == 0 && tags_grow(self)) {
		memset(self->tags, DW_INPUT, self->tag_space);
		return (PyObject *)self;
	}
	Py_XDECREF((PyObject *)self);
	return NULL;
}

static PyMethodDef args_methods[] = {
	{ "to_blob", to_blob, METH_NOARGS, to_blob_doc },
	{ "from_blob", from_blob, METH_O | METH_STATIC, from_blob_doc },
	{ "add", add, METH_O,
	  "add(value)\n\nA tensor (tagged or not), an int or a float, behind those of its kind. "
	  "Error with\n"
	  "EPERM: the arguments of a callable." },
	{ "add_tensor", METHOD(add_tensor),
	  "add_tensor(tensor, tag=INPUT)\n\nA tensor with a tag as a number: INPUT, OUTPUT, …" },
	{ "reset", reset, METH_NOARGS,
	  "reset()\n\nEmpties the arguments and keeps their memory, for the next task." },
	{ "tensor", get_tensor, METH_O,
	  "tensor(i) -> Tensor\n\nTensor i, from 0, or from -1 backwards. IndexError." },
	{ "scalar", get_scalar, METH_O,
	  "scalar(i) -> int\n\nThe 64 bits of scalar i as an unsigned number. IndexError." },
	{ "int", get_int, METH_O, "int(i) -> int\n\nScalar i as a signed number. IndexError." },
	{ "float", get_float, METH_O, "float(i) -> float\n\nScalar i as a float64. IndexError." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef args_properties[] = {
	{ "tensors", get_tensors, NULL, "All tensors, as a tuple.", NULL },
	{ "tensor_count", get_tensor_count, NULL, "Number of tensors.", NULL },
	{ "scalar_count", get_scalar_count, NULL, "Number of scalars.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
PyDoc_STRVAR(
	args_doc,
	"Args(*values)\n\n"
	"The arguments of one task: tensors with tags (inp, out, inout, …; without one: inp), and\n"
	"64-bit scalars (int, float). A callable is given one, which is gone when it has "
	"returned.");
static PyType_Slot args_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)args_doc },
	{ Py_tp_new, args_new },
	{ Py_tp_dealloc, args_dealloc },
	{ Py_tp_methods, args_methods },
	{ Py_tp_getset, args_properties },
	{ 0, NULL },
};
static PyType_Spec args_spec = {
	.name = "distworker._core.Args",
	.basicsize = sizeof(struct args_object),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = args_slots,
};

bool args_add_types(PyObject *module)
{
	return add_type(module, &tagged_type, &tagged_spec, "Tagged") &&
	       add_type(module, &args_type, &args_spec, "Args") &&
	       PyModule_AddFunctions(module, tag_functions) == 0 &&
	       PyModule_AddIntConstant(module, "INPUT", DW_INPUT) == 0 &&
	       PyModule_AddIntConstant(module, "OUTPUT", DW_OUTPUT) == 0 &&
	       PyModule_AddIntConstant(module, "INOUT", DW_INOUT) == 0 &&
	       PyModule_AddIntConstant(module, "OUTPUT_EXISTING", DW_OUTPUT_EXISTING) == 0 &&
	       PyModule_AddIntConstant(module, "NO_DEP", DW_NO_DEP) == 0;
}
