/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Buffers: memory of the tree, found by address while it is used, and copies to it and from it. */
#include <stdlib.h>
#include <string.h>
#include "core.h"

PyTypeObject *buffer_type;

/* ---------------------------------------------------- the buffers of a root */

/* The position of the first buffer whose address is above `address`. */
static size_t buffer_position(const struct worker_object *root, uint64_t address)
{
	size_t low = 0, high = root->buffer_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if ((uint64_t)(uintptr_t)root->buffers[middle]->address > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct buffer_object *worker_find_buffer(struct worker_object *root, uint64_t address)
{
	size_t position = buffer_position(root, address);
	struct buffer_object *buffer = position ? root->buffers[position - 1] : NULL;

	if (!buffer || address - (uint64_t)(uintptr_t)buffer->address >= buffer->bytes)
		return NULL;
	return buffer;
}

static bool reserve_buffer(struct worker_object *root)
{
	size_t space = root->buffer_space ? 2 * root->buffer_space : 8;
	struct buffer_object **grown;

	if (root->buffer_count < root->buffer_space)
		return true;
	grown = realloc(root->buffers, space * sizeof(struct buffer_object *));
	if (!grown)
		return PyErr_NoMemory() != NULL;
	root->buffers = grown;
	root->buffer_space = space;
	return true;
}

static void add_buffer(struct worker_object *root, struct buffer_object *buffer)
{
	size_t position = buffer_position(root, (uint64_t)(uintptr_t)buffer->address);

	memmove(&root->buffers[position + 1], &root->buffers[position],
		(root->buffer_count - position) * sizeof(struct buffer_object *));
	root->buffers[position] = buffer;
	root->buffer_count++;
}

static void remove_buffer(struct worker_object *root, struct buffer_object *buffer)
{
	size_t position = buffer_position(root, (uint64_t)(uintptr_t)buffer->address);

	if (!position || root->buffers[position - 1] != buffer)
		return;
	root->buffer_count--;
	memmove(&root->buffers[position - 1], &root->buffers[position],
		(root->buffer_count - position + 1) * sizeof(struct buffer_object *));
}

static void buffer_dealloc(PyObject *self)
{
	struct buffer_object *buffer = (struct buffer_object *)self;
	struct worker_object *worker = buffer->worker;

	if (worker) {
		remove_buffer(worker, buffer);
		if (worker->handle && worker->process == getpid())
			dw_buffer_destroy(worker->handle, buffer->address);
		Py_DECREF(worker);
	}
	object_free(self);
}

static PyType_Slot buffer_slots[] = {
	{ Py_tp_dealloc, buffer_dealloc },
	{ 0, NULL },
};
static PyType_Spec buffer_spec = {
	.name = "distworker._core.Buffer",
	.basicsize = sizeof(struct buffer_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = buffer_slots,
};

/* ------------------------------------------------------------------ making */

static PyObject *buffer_make(struct worker_object *worker, enum buffer_kind kind, void *address,
			     uint64_t bytes)
{
	struct buffer_object *buffer = PyObject_New(struct buffer_object, buffer_type);

	if (!buffer)
		return NULL;
	Py_XINCREF((PyObject *)worker);
	buffer->worker = worker;
	buffer->kind = kind;
	buffer->address = address;
	buffer->bytes = bytes;
	return (PyObject *)buffer;
}

PyObject *buffer_of_chip(void)
{
	return buffer_make(NULL, BUFFER_CHIP, NULL, 0);
}

static int create(struct dw_worker *worker, uint64_t bytes, bool kept, void **address)
{
	struct dw_buffer_options options = DW_OPTIONS(dw_buffer_options);

	options.bytes = bytes;
	options.flags = kept ? DW_BUFFER_KEPT : 0;
	return dw_buffer_create_with(worker, &options, address);
}

PyObject *worker_empty(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "shape", "dtype", "kept", NULL };
	struct worker_object *self = (struct worker_object *)object;
	uint32_t shape[DW_TENSOR_MAX_DIMS], ndims;
	PyObject *shape_object, *dtype_object = NULL, *buffer, *view;
	int dtype = DW_FLOAT32, kept = 0, result;
	struct dw_tensor tensor;
	uint64_t bytes;
	void *address;

	if (!worker_usable(self) ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$p", names, &shape_object,
					 &dtype_object, &kept))
		return NULL;
	if (dtype_object)
		dtype = dtype_from(dtype_object);
	if (dtype < 0 || !shape_from(shape_object, shape, &ndims) ||
	    !reserve_buffer(self->root))
		return NULL;
	result = dw_tensor_init(&tensor, NULL, dtype, shape, ndims);
	if (result == 0)
		result = dw_tensor_bytes(&tensor, &bytes);
	if (result == 0)
		result = create(self->handle, bytes ? bytes : 1, kept, &address);
	if (result < 0)
		return raise_error(result);
	/* Buffers are the root's. */
	buffer = buffer_make(self, kept ? BUFFER_KEPT : BUFFER_PLAIN, address, bytes ? bytes : 1);
	if (!buffer) {
		dw_buffer_destroy(self->handle, address);
		return NULL;
	}
	add_buffer(self, (struct buffer_object *)buffer);
	tensor.data = (uint64_t)(uintptr_t)address;
	view = tensor_new(&tensor, buffer);
	Py_DECREF(buffer);
	return view;
}

PyObject *worker_register_buffer(PyObject *object, PyObject *memory)
{
	struct worker_object *self = (struct worker_object *)object;
	Py_buffer view;
	int result;

	if (!worker_usable(self) || PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	result = dw_buffer_register(self->handle, view.buf, (uint64_t)view.len);
	PyBuffer_Release(&view);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

/* ------------------------------------------------------------------ copying */

static bool same_bytes(const struct dw_tensor *tensor, const Py_buffer *host, uint64_t *bytes)
{
	dw_tensor_bytes(tensor, bytes);
	if (*bytes == (uint64_t)host->len)
		return true;
	PyErr_Format(PyExc_ValueError, "the tensor has %llu bytes, and the host's memory %zd",
		     (unsigned long long)*bytes, host->len);
	return false;
}

PyObject *worker_write(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	PyObject *to, *from;
	struct dw_tensor tensor;
	uint64_t bytes;
	Py_buffer host;
	int result = 0;

	if (!worker_usable(self) || !PyArg_ParseTuple(args, "OO", &to, &from) ||
	    !tensor_from(to, &tensor) ||
	    PyObject_GetBuffer(from, &host, PyBUF_C_CONTIGUOUS) < 0)
		return NULL;
	if (!same_bytes(&tensor, &host, &bytes)) {
		PyBuffer_Release(&host);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	if (bytes)
		result = dw_buffer_write(self->handle, (void *)(uintptr_t)tensor.data, host.buf,
					 bytes);
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&host);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

PyObject *worker_read(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "", "into", NULL };
	struct worker_object *self = (struct worker_object *)object;
	PyObject *from, *to = NULL;
	struct dw_tensor tensor;
	uint64_t bytes;
	Py_buffer host;
	int result = 0;

	if (!worker_usable(self) ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &from, &to) ||
	    !tensor_from(from, &tensor))
		return NULL;
	if (!to || to == Py_None) {
		dw_tensor_bytes(&tensor, &bytes);
		to = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)bytes);
	} else {
		Py_INCREF(to);
	}
	if (!to || PyObject_GetBuffer(to, &host, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) {
		Py_XDECREF(to);
		return NULL;
	}
	if (!same_bytes(&tensor, &host, &bytes)) {
		PyBuffer_Release(&host);
		Py_DECREF(to);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	if (bytes)
		result = dw_buffer_read(self->handle, host.buf,
					(const void *)(uintptr_t)tensor.data, bytes);
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&host);
	if (result == 0)
		return to;
	Py_DECREF(to);
	return raise_error(result);
}

bool buffer_add_type(PyObject *module)
{
	return add_type(module, &buffer_type, &buffer_spec, "Buffer");
}
