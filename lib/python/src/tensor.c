/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Tensors: views of shared memory, with the buffer protocol, __array_interface__ and DLPack. */
#include <string.h>
#include "core.h"

PyTypeObject *tensor_type;

/* ----------------------------------------------------------------- element types */

static const struct dtype_row {
	uint8_t dtype;
	char format[2];			/* of the buffer protocol; "": it has none */
	const char *typestr;		/* of __array_interface__ */
	uint8_t code, bits;		/* of DLPack */
} dtypes[] = {
	{ DW_FLOAT32, "f", "<f4", 2, 32 },  { DW_FLOAT16, "e", "<f2", 2, 16 },
	{ DW_INT32, "i", "<i4", 0, 32 },    { DW_INT16, "h", "<i2", 0, 16 },
	{ DW_INT8, "b", "|i1", 0, 8 },	    { DW_UINT8, "B", "|u1", 1, 8 },
	{ DW_BFLOAT16, "", NULL, 4, 16 },   { DW_INT64, "l", "<i8", 0, 64 },
	{ DW_UINT64, "L", "<u8", 1, 64 },   { DW_FLOAT64, "d", "<f8", 2, 64 },
	{ DW_UINT16, "H", "<u2", 1, 16 },   { DW_UINT32, "I", "<u4", 1, 32 },
	{ DW_BOOL, "?", "|b1", 6, 8 },
};
#define DTYPE_COUNT (sizeof(dtypes) / sizeof(dtypes[0]))

static const struct dtype_row *row_of(int dtype)
{
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (dtypes[i].dtype == dtype)
			return &dtypes[i];
	return NULL;
}

int dtype_from_dlpack(int code, int bits, int lanes)
{
	for (size_t i = 0; i < DTYPE_COUNT && lanes == 1; i++)
		if (dtypes[i].code == code && dtypes[i].bits == bits)
			return dtypes[i].dtype;
	PyErr_Format(PyExc_TypeError, "DLPack's type %d of %d bits and %d lanes has no dtype here",
		     code, bits, lanes);
	return -1;
}

void dtype_to_dlpack(int dtype, uint8_t *code, uint8_t *bits)
{
	*code = row_of(dtype)->code;
	*bits = row_of(dtype)->bits;
}

static int dtype_from_format(const char *format)
{
	const char *given = format ? format : "B";
	char letter;

	if (*given == '@' || *given == '=' || *given == '<')
		given++;
	letter = *given == 'q' ? 'l' : *given == 'Q' ? 'L' : *given;
	for (size_t i = 0; i < DTYPE_COUNT && letter && !given[1]; i++)
		if (dtypes[i].format[0] == letter)
			return dtypes[i].dtype;
	PyErr_Format(PyExc_TypeError, "elements of format '%s' have no dtype here", format);
	return -1;
}

/* A number of enum dw_dtype, a name, or an object that has one (numpy's dtypes, float, int). */
int dtype_from(PyObject *object)
{
	PyObject *name;
	const char *text;
	int found = -1;

	if (PyLong_Check(object)) {
		long number = PyLong_AsLong(object);

		if (number >= 0 && number < 256 && row_of((int)number))
			return (int)number;
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_TypeError, "%R is no dtype", object);
		return -1;
	}
	if (PyUnicode_Check(object)) {
		Py_INCREF(object);
		name = object;
	} else {
		name = PyObject_GetAttrString(object, PyType_Check(object) ? "__name__" : "name");
	}
	text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
	if (text && !strcmp(text, "float"))
		text = "float64";
	if (text && !strcmp(text, "int"))
		text = "int64";
	for (size_t i = 0; text && i < DTYPE_COUNT; i++)
		if (!strcmp(text, dw_dtype_name(dtypes[i].dtype)))
			found = dtypes[i].dtype;
	Py_XDECREF(name);
	if (found < 0) {
		PyErr_Clear();
		PyErr_Format(PyExc_TypeError,
			     "%R is no dtype: it should be a name like \"float32\" or "
			     "\"int64\"", object);
	}
	return found;
}

static bool dimension_from(PyObject *object, uint32_t *count)
{
	PyObject *index = PyNumber_Index(object);
	unsigned long long value = index ? PyLong_AsUnsignedLongLong(index) : 0;

	Py_XDECREF(index);
	if (PyErr_Occurred())
		return false;
	if (value > UINT32_MAX) {
		PyErr_Format(PyExc_ValueError, "a dimension of %R: at most 2**32 - 1 elements",
			     object);
		return false;
	}
	*count = (uint32_t)value;
	return true;
}

/* A number, or a sequence of up to 5. */
bool shape_from(PyObject *object, uint32_t *shape, uint32_t *ndims)
{
	Py_ssize_t count;

	if (PyIndex_Check(object)) {
		*ndims = 1;
		return dimension_from(object, shape);
	}
	count = PySequence_Size(object);
	if (count < 0)
		return false;
	if (count > DW_TENSOR_MAX_DIMS) {
		PyErr_Format(PyExc_ValueError, "%zd dimensions: a tensor has at most %d", count,
			     DW_TENSOR_MAX_DIMS);
		return false;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *item = PySequence_GetItem(object, i);
		bool good = item && dimension_from(item, &shape[i]);

		Py_XDECREF(item);
		if (!good)
			return false;
	}
	*ndims = (uint32_t)count;
	return true;
}

/* ----------------------------------------------------------------------- tensors */

PyObject *tensor_new(const struct dw_tensor *tensor, PyObject *owner)
{
	struct tensor_object *self = PyObject_New(struct tensor_object, tensor_type);
	Py_ssize_t stride;

	if (!self)
		return NULL;
	self->tensor = *tensor;
	Py_XINCREF(owner);
	self->owner = owner;
	stride = (Py_ssize_t)dw_dtype_bytes(tensor->dtype);
	for (uint32_t i = tensor->ndims; i-- > 0;) {
		self->shape[i] = tensor->shape[i];
		self->strides[i] = stride;
		stride *= tensor->shape[i];
	}
	return (PyObject *)self;
}

PyObject *tensor_of_chip(const struct dw_tensor *tensor)
{
	PyObject *owner = buffer_of_chip(), *view;

	if (!owner)
		return NULL;
	view = tensor_new(tensor, owner);
	Py_DECREF(owner);
	return view;
}

/* Host code may have views of it. */
static bool check_access(const struct tensor_object *self)
{
	enum buffer_kind kind = BUFFER_PLAIN;

	if (self->owner && Py_TYPE(self->owner) == buffer_type)
		kind = ((struct buffer_object *)self->owner)->kind;
	if (kind == BUFFER_CHIP)
		PyErr_SetString(PyExc_BufferError,
				"memory of a chip, which no process can access: "
				"orch.submit_copy() copies to it and from it");
	if (kind == BUFFER_KEPT)
		PyErr_SetString(PyExc_BufferError,
				"a kept buffer, of which host code has no views: worker.write() "
				"and "
				"worker.read() copy to it and from it");
	return kind == BUFFER_PLAIN;
}

static void tensor_dealloc(PyObject *self)
{
	Py_XDECREF(((struct tensor_object *)self)->owner);
	object_free(self);
}

static uint64_t tensor_bytes(const struct tensor_object *self)
{
	uint64_t bytes = 0;

	dw_tensor_bytes(&self->tensor, &bytes);
	return bytes;
}

static int tensor_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
	struct tensor_object *self = (struct tensor_object *)object;
	const struct dtype_row *row = row_of(self->tensor.dtype);

	view->obj = NULL;
	if (!check_access(self))
		return -1;
	if (!row->format[0] && (flags & PyBUF_FORMAT)) {
		PyErr_SetString(PyExc_BufferError,
				"bfloat16 has no format in the buffer protocol: use DLPack, or "
				"view(\"uint16\")");
		return -1;
	}
	view->buf = (void *)(uintptr_t)self->tensor.data;
	view->len = (Py_ssize_t)tensor_bytes(self);
	view->itemsize = (Py_ssize_t)dw_dtype_bytes(self->tensor.dtype);
	view->readonly = 0;
	view->ndim = (int)self->tensor.ndims;
	view->format = flags & PyBUF_FORMAT ? (char *)(uintptr_t)row->format : NULL;
	view->shape = flags & PyBUF_ND ? self->shape : NULL;
	view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL;
	view->suboffsets = NULL;
	view->internal = NULL;
	Py_INCREF(object);
	view->obj = object;
	return 0;
}

static bool from_buffer(PyObject *object, struct dw_tensor *tensor)
{
	uint32_t shape[DW_TENSOR_MAX_DIMS];
	Py_buffer view;
	int dtype, result = -1;

	if (PyObject_GetBuffer(object, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
		return false;
	dtype = dtype_from_format(view.format);
	if (dtype < 0)
		goto out;
	if (view.ndim > DW_TENSOR_MAX_DIMS) {
		PyErr_Format(PyExc_ValueError, "%d dimensions: a tensor has at most %d", view.ndim,
			     DW_TENSOR_MAX_DIMS);
		goto out;
	}
	for (int i = 0; i < view.ndim; i++) {
		if (view.shape[i] > (Py_ssize_t)UINT32_MAX) {
			PyErr_Format(PyExc_ValueError,
				     "a dimension of %zd: at most 2**32 - 1 elements",
				     view.shape[i]);
			goto out;
		}
		shape[i] = (uint32_t)view.shape[i];
	}
	result = dw_tensor_init(tensor, view.buf, dtype, shape, (uint32_t)view.ndim);
	if (result < 0)
		raise_error(result);
out:
	PyBuffer_Release(&view);
	return result == 0;
}

bool tensor_from(PyObject *object, struct dw_tensor *tensor)
{
	if (Py_TYPE(object) == tensor_type) {
		*tensor = ((struct tensor_object *)object)->tensor;
		return true;
	}
	if (PyObject_CheckBuffer(object))
		return from_buffer(object, tensor);
	if (PyObject_HasAttrString(object, "__dlpack__"))
		return dlpack_read(object, tensor);
	PyErr_Format(PyExc_TypeError,
		     "%R is no tensor: it should be one, a number, or an object with the buffer "
		     "protocol or DLPack",
		     object);
	return false;
}

static PyObject *get_shape(PyObject *object, void *closure)
{
	struct tensor_object *self = (struct tensor_object *)object;
	PyObject *shape = PyTuple_New(self->tensor.ndims);

	(void)closure;
	for (uint32_t i = 0; shape && i < self->tensor.ndims; i++)
		PyTuple_SetItem(shape, i, PyLong_FromUnsignedLong(self->tensor.shape[i]));
	return shape;
}

static PyObject *get_dtype(PyObject *object, void *closure)
{
	(void)closure;
	return PyUnicode_FromString(dw_dtype_name(((struct tensor_object *)object)->tensor.dtype));
}

static PyObject *get_ndim(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLong(((struct tensor_object *)object)->tensor.ndims);
}

static PyObject *get_nbytes(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(tensor_bytes((struct tensor_object *)object));
}

static PyObject *get_address(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct tensor_object *)object)->tensor.data);
}

static PyObject *get_array_interface(PyObject *object, void *closure)
{
	struct tensor_object *self = (struct tensor_object *)object;
	const struct dtype_row *row = row_of(self->tensor.dtype);

	if (!check_access(self)) {
		PyErr_Clear();
		PyErr_SetString(PyExc_AttributeError,
				"host code has no views of this tensor: see memoryview(tensor)");
		return NULL;
	}
	if (!row->typestr) {
		PyErr_SetString(PyExc_AttributeError,
				"bfloat16 has no __array_interface__: use DLPack");
		return NULL;
	}
	return Py_BuildValue("{s:N,s:s,s:(KO),s:i}", "shape", get_shape(object, closure), "typestr",
			     row->typestr, "data", (unsigned long long)self->tensor.data, Py_False,
			     "version", 3);
}

static PyObject *tensor_repr(PyObject *object)
{
	struct tensor_object *self = (struct tensor_object *)object;
	PyObject *shape = get_shape(object, NULL), *text;

	if (!shape)
		return NULL;
	text = PyUnicode_FromFormat("Tensor(shape=%R, dtype='%s', address=0x%llx)", shape,
				    dw_dtype_name(self->tensor.dtype),
				    (unsigned long long)self->tensor.data);
	Py_DECREF(shape);
	return text;
}

PyDoc_STRVAR(view_doc, "view(dtype=None, shape=None) -> Tensor\n\n"
	"The same bytes as other elements, or in another shape: no copy. None: as they are.\n"
	"ValueError: another number of bytes. bfloat16 is read by numpy through view(\"uint16\").");
static PyObject *tensor_view(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "dtype", "shape", NULL };
	struct tensor_object *self = (struct tensor_object *)object;
	PyObject *dtype = NULL, *shape = NULL;
	struct dw_tensor view = self->tensor;
	uint64_t bytes;
	int type = view.dtype, result;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO", names, &dtype, &shape))
		return NULL;
	if (dtype && dtype != Py_None)
		type = dtype_from(dtype);
	if (type < 0 || (shape && shape != Py_None && !shape_from(shape, view.shape, &view.ndims)))
		return NULL;
	result = dw_tensor_init(&view, (void *)(uintptr_t)view.data, type, view.shape, view.ndims);
	if (result == 0)
		result = dw_tensor_bytes(&view, &bytes);
	if (result < 0)
		return raise_error(result);
	if (bytes != tensor_bytes(self)) {
		PyErr_Format(PyExc_ValueError, "a view of %llu bytes: the tensor has %llu",
			     (unsigned long long)bytes, (unsigned long long)tensor_bytes(self));
		return NULL;
	}
	return tensor_new(&view, self->owner);
}

static Py_ssize_t tensor_length(PyObject *object)
{
	struct tensor_object *self = (struct tensor_object *)object;

	if (self->tensor.ndims)
		return self->tensor.shape[0];
	PyErr_SetString(PyExc_TypeError, "a tensor without dimensions has no length");
	return -1;
}

static PyObject *tensor_subscript(PyObject *object, PyObject *key)
{
	struct tensor_object *self = (struct tensor_object *)object;
	Py_ssize_t start, stop, step, count;
	struct dw_tensor view;
	int result;

	if (!PySlice_Check(key)) {
		PyErr_SetString(PyExc_TypeError,
				"a tensor has slices of dimension 0 alone: numpy.asarray(tensor) "
				"has elements");
		return NULL;
	}
	if (tensor_length(object) < 0 || PySlice_Unpack(key, &start, &stop, &step) < 0)
		return NULL;
	count = PySlice_AdjustIndices(tensor_length(object), &start, &stop, step);
	if (step != 1) {
		PyErr_SetString(PyExc_ValueError,
				"a slice of a tensor has step 1: it is contiguous");
		return NULL;
	}
	result = dw_tensor_slice(&self->tensor, (uint32_t)start, (uint32_t)count, &view);
	return result < 0 ? raise_error(result) : tensor_new(&view, self->owner);
}

PyDoc_STRVAR(dlpack_doc, "__dlpack__(...)\n\nA capsule that shares the memory, and keeps it. "
"BufferError: copy=True, or memory\n"
	"that host code has no views of.");
static PyObject *tensor_dlpack(PyObject *object, PyObject *args, PyObject *kwargs)
{
	PyObject *copy = kwargs ? PyDict_GetItemString(kwargs, "copy") : NULL;

	(void)args;
	if (!check_access((struct tensor_object *)object))
		return NULL;
	if (copy == Py_True) {
		PyErr_SetString(PyExc_BufferError, "a tensor is shared, not copied");
		return NULL;
	}
	return dlpack_capsule((struct tensor_object *)object);
}

PyDoc_STRVAR(dlpack_device_doc, "__dlpack_device__() -> (1, 0)\n\nMemory of the host.");
static PyObject *tensor_dlpack_device(PyObject *object, PyObject *args)
{
	(void)args;
	if (!check_access((struct tensor_object *)object))
		return NULL;
	return Py_BuildValue("ii", 1, 0);
}

PyDoc_STRVAR(array_doc, "__array__(...)\n\n"
	"Raises the reason why numpy can have no view: it asks here when nothing else has worked.");
static PyObject *tensor_array(PyObject *object, PyObject *args, PyObject *kwargs)
{
	Py_buffer view;

	(void)args, (void)kwargs;
	if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) < 0)
		return NULL;
	PyBuffer_Release(&view);
	PyErr_SetString(PyExc_TypeError, "numpy.asarray(tensor) is a view of the tensor");
	return NULL;
}

PyDoc_STRVAR(from_address_doc, "_tensor_at(address, shape, dtype, owner=None) -> Tensor");
static PyObject *tensor_at(PyObject *type, PyObject *args)
{
	PyObject *shape_object, *dtype_object, *owner = NULL;
	uint32_t shape[DW_TENSOR_MAX_DIMS], ndims;
	unsigned long long address;
	struct dw_tensor tensor;
	int dtype, result;

	(void)type;
	if (!PyArg_ParseTuple(args, "KOO|O", &address, &shape_object, &dtype_object, &owner))
		return NULL;
	dtype = dtype_from(dtype_object);
	if (dtype < 0 || !shape_from(shape_object, shape, &ndims))
		return NULL;
	result = dw_tensor_init(&tensor, (void *)(uintptr_t)address, dtype, shape, ndims);
	return result < 0 ? raise_error(result) : tensor_new(&tensor, owner);
}

static PyMethodDef tensor_methods[] = {
	{ "view", METHOD(tensor_view),
	  view_doc },
	{ "_at", tensor_at, METH_VARARGS | METH_STATIC, from_address_doc },
	{ "__array__", METHOD(tensor_array),
	  array_doc },
	{ "__dlpack__", METHOD(tensor_dlpack),
	  dlpack_doc },
	{ "__dlpack_device__", tensor_dlpack_device, METH_NOARGS, dlpack_device_doc },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef tensor_properties[] = {
	{ "shape", get_shape, NULL, "Elements per dimension, outermost first.", NULL },
	{ "dtype", get_dtype, NULL, "The name of the element type: \"float32\", …", NULL },
	{ "ndim", get_ndim, NULL, "Number of dimensions, 0 … 5.", NULL },
	{ "nbytes", get_nbytes, NULL, "Bytes of the elements.", NULL },
	{ "address", get_address, NULL,
	  "The address, the same in every process of the tree; of memory of a chip: a number that\n"
	  "stands for it.", NULL },
	{ "__array_interface__", get_array_interface, NULL,
	  "numpy's description, version 3. AttributeError: bfloat16, or no views of it.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
PyDoc_STRVAR(tensor_doc, "A contiguous block of elements: 0 to 5 dimensions of up to 2**32 - 1.\n\n"
	"numpy.asarray(tensor), memoryview(tensor) and torch.from_dlpack(tensor) are views of it,\n"
	"without a copy; BufferError for kept buffers and memory of chips, of which host code has\n"
	"none. A slice of dimension 0 (step 1) is a tensor too. The memory of Worker.empty() "
	"stays\n"
	"as long as a tensor or a view of it. Any thread; its contents are guarded by the order "
	"of\n"
	"tasks alone. A process that is forked by the user after init does not have the memory.");
static PyType_Slot tensor_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)tensor_doc },
	{ Py_tp_dealloc, tensor_dealloc },
	{ Py_tp_repr, tensor_repr },
	{ Py_tp_methods, tensor_methods },
	{ Py_tp_getset, tensor_properties },
	{ Py_bf_getbuffer, tensor_getbuffer },
	{ Py_mp_length, tensor_length },
	{ Py_mp_subscript, tensor_subscript },
	{ 0, NULL },
};
static PyType_Spec tensor_spec = {
	.name = "distworker._core.Tensor",
	.basicsize = sizeof(struct tensor_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = tensor_slots,
};

bool tensor_add_types(PyObject *module)
{
	return add_type(module, &tensor_type, &tensor_spec, "Tensor");
}
