/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Chips: their memory, the drivers and devices that there are, images of `pto`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"
#include <distworker/chip.h>

/* ---------------------------------------------------------------- device memory */

struct request {
	uint32_t worker, ndims;
	uint32_t shape[DW_TENSOR_MAX_DIMS];
	int dtype;
};

static bool read_request(PyObject *args, PyObject *kwargs, struct request *request)
{
	static char *names[] = { "worker", "shape", "dtype", NULL };
	PyObject *shape, *dtype = NULL;
	unsigned int worker;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "IO|O", names, &worker, &shape, &dtype))
		return false;
	request->worker = worker;
	request->dtype = dtype ? dtype_from(dtype) : DW_FLOAT32;
	return request->dtype >= 0 && shape_from(shape, request->shape, &request->ndims);
}

static const struct dw_tensor *tensor_given(PyObject *object, const char *needs)
{
	if (Py_TYPE(object) == tensor_type)
		return &((struct tensor_object *)object)->tensor;
	PyErr_Format(PyExc_TypeError, "%s, not %R", needs, object);
	return NULL;
}

static PyObject *memory_create(struct dw_worker *worker, PyObject *args, PyObject *kwargs)
{
	struct request request;
	struct dw_tensor tensor;
	int result;

	if (!read_request(args, kwargs, &request))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_chip_memory_create(worker, request.worker, request.dtype, request.shape,
				       request.ndims, &tensor);
	Py_END_ALLOW_THREADS
	return result < 0 ? raise_error(result) : tensor_of_chip(&tensor);
}

static PyObject *memory_destroy(struct dw_worker *worker, PyObject *object)
{
	const struct dw_tensor *given = tensor_given(object, "chip_memory_free() needs a Tensor of "
						       "chip_memory()");
	struct dw_tensor tensor;
	int result;

	if (!given)
		return NULL;
	tensor = *given;
	Py_BEGIN_ALLOW_THREADS
	result = dw_chip_memory_destroy(worker, &tensor);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

PyObject *worker_chip_memory(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct worker_object *self = (struct worker_object *)object;

	return worker_usable(self) ? memory_create(self->handle, args, kwargs) : NULL;
}

PyObject *worker_chip_memory_free(PyObject *object, PyObject *tensor)
{
	struct worker_object *self = (struct worker_object *)object;

	return worker_usable(self) ? memory_destroy(self->handle, tensor) : NULL;
}

PyObject *orch_chip_memory(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct orch_object *self = (struct orch_object *)object;

	return orch_valid(self) ? memory_create(dw_orch_worker(self->orch), args, kwargs) : NULL;
}

PyObject *orch_chip_memory_free(PyObject *object, PyObject *tensor)
{
	struct orch_object *self = (struct orch_object *)object;

	return orch_valid(self) ? memory_destroy(dw_orch_worker(self->orch), tensor) : NULL;
}

PyObject *orch_chip_alloc(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct orch_object *self = (struct orch_object *)object;
	struct dw_orch *orch = self->orch;
	struct request request;
	struct dw_tensor tensor;
	int result;

	if (!orch_valid(self) || !read_request(args, kwargs, &request))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_chip_alloc(orch, request.worker, request.dtype, request.shape, request.ndims,
			       &tensor);
	Py_END_ALLOW_THREADS
	return result < 0 ? raise_error(result) : tensor_of_chip(&tensor);
}

PyObject *orch_chip_free(PyObject *object, PyObject *given)
{
	struct orch_object *self = (struct orch_object *)object;
	const struct dw_tensor *tensor;
	int result;

	if (!orch_valid(self))
		return NULL;
	tensor = tensor_given(given, "chip_free() needs a Tensor of chip_alloc()");
	if (!tensor)
		return NULL;
	result = dw_chip_free(self->orch, tensor);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

/* --------------------------------------------------------- drivers and devices */

PyDoc_STRVAR(drivers_doc, "_chip_drivers() -> str: names with commas between them");
static PyObject *drivers(PyObject *module, PyObject *args)
{
	size_t space = 1024;
	char *names = NULL;
	PyObject *text;
	int result;

	(void)module, (void)args;
	do {
		free(names);
		space *= 4;
		names = malloc(space);
		if (!names)
			return PyErr_NoMemory();
		Py_BEGIN_ALLOW_THREADS
		result = dw_chip_driver_list(names, space);
		Py_END_ALLOW_THREADS
	} while (result == -ERANGE);
	text = result < 0 ? raise_error(result) : PyUnicode_FromString(names);
	free(names);
	return text;
}

PyDoc_STRVAR(driver_doc, "_chip_driver(name) -> (name, version, abi_version, path)");
static PyObject *driver(PyObject *module, PyObject *args)
{
	struct dw_chip_driver_info info = DW_OPTIONS(dw_chip_driver_info);
	const char *name;
	int result;

	(void)module;
	if (!PyArg_ParseTuple(args, "s", &name))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_chip_driver_query(name, &info);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	return Py_BuildValue("ssIs", info.name, info.version, (unsigned int)info.abi_version,
			     info.path);
}

static PyObject *device_row(const struct dw_chip_properties *device)
{
	return Py_BuildValue("(ssIIKIIIIIIIIK)", device->name, device->description,
			     (unsigned int)device->capabilities, (unsigned int)device->cores,
			     (unsigned long long)device->memory_bytes,
			     (unsigned int)device->max_tensors, (unsigned int)device->max_scalars,
			     (unsigned int)device->queue_depth, (unsigned int)device->alignment,
			     (unsigned int)device->default_block_dim,
			     (unsigned int)device->default_aicpu_thread_num,
			     (unsigned int)device->max_block_dim,
			     (unsigned int)device->max_aicpu_thread_num,
			     (unsigned long long)device->max_allocation_bytes);
}

PyDoc_STRVAR(devices_doc, "_chip_devices(driver, options) -> list of rows");
static PyObject *devices(PyObject *module, PyObject *args)
{
	struct dw_chip_properties *found = NULL, *grown;
	size_t space = 0, count = 0;
	const char *name, *options;
	PyObject *list;
	int result;

	(void)module;
	if (!PyArg_ParseTuple(args, "sz", &name, &options))
		return NULL;
	do {
		space = count > space ? count : space + 8;
		grown = realloc(found, space * sizeof(*found));
		if (!grown) {
			free(found);
			return PyErr_NoMemory();
		}
		found = grown;
		count = space;
		Py_BEGIN_ALLOW_THREADS
		result = dw_chip_enumerate(name, options, found, sizeof(*found), &count);
		Py_END_ALLOW_THREADS
	} while (result == 0 && count > space);
	list = result < 0 ? raise_error(result) : PyList_New(0);
	for (size_t i = 0; list && i < count; i++) {
		PyObject *row = device_row(&found[i]);

		if (!row || PyList_Append(list, row) < 0)
			Py_CLEAR(list);
		Py_XDECREF(row);
	}
	free(found);
	return list;
}

/* --------------------------------------------------------------- images of `pto` */

int32_t *signature_from(PyObject *given, size_t *count)
{
	Py_ssize_t length = PySequence_Size(given);
	int32_t *signature = length < 0 ? NULL : calloc((size_t)length + 1, sizeof(*signature));

	if (!signature && length >= 0)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; signature && i < length; i++) {
		PyObject *item = PySequence_GetItem(given, i);
		long value = item ? PyLong_AsLong(item) : -1;

		Py_XDECREF(item);
		if (PyErr_Occurred()) {
			free(signature);
			return NULL;
		}
		signature[i] = (int32_t)value;
	}
	*count = (size_t)length;
	return signature;
}

/* One of (function, data, signature); the caller's tuple keeps the data. */
static bool read_core(PyObject *given, struct dw_pto_core *core)
{
	PyObject *signature;
	Py_ssize_t bytes;
	const char *data;
	size_t count = 0;
	int function;

	*core = (struct dw_pto_core)DW_OPTIONS(dw_pto_core);
	if (!given || !PyArg_ParseTuple(given, "iy#O", &function, &data, &bytes, &signature))
		return false;
	core->function = function;
	core->data = data;
	core->bytes = (size_t)bytes;
	core->signature = signature_from(signature, &count);
	core->signature_count = (uint32_t)count;
	return core->signature != NULL;
}

static PyObject *build(const struct dw_pto_image_options *options)
{
	void *image = NULL;
	size_t bytes = 0;
	PyObject *object;
	int result;

	Py_BEGIN_ALLOW_THREADS
	result = dw_pto_image_build(options, &image, &bytes);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	object = PyBytes_FromStringAndSize(image, (Py_ssize_t)bytes);
	free(image);
	return object;
}

PyDoc_STRVAR(pto_image_doc, "_pto_image(data, entry, config_entry, signature, cores) -> bytes");
static PyObject *pto_image(PyObject *module, PyObject *args)
{
	struct dw_pto_image_options options = DW_OPTIONS(dw_pto_image_options);
	PyObject *signature_given, *cores_given, *image = NULL;
	int32_t *signature = NULL;
	struct dw_pto_core *cores;
	Py_ssize_t bytes, count;
	const char *data;
	bool good = true;

	(void)module;
	if (!PyArg_ParseTuple(args, "y#szOO!", &data, &bytes, &options.entry,
			      &options.config_entry, &signature_given, &PyTuple_Type,
			      &cores_given))
		return NULL;
	options.data = data;
	options.bytes = (size_t)bytes;
	count = PyTuple_Size(cores_given);
	cores = calloc((size_t)count + 1, sizeof(*cores));
	if (!cores)
		return PyErr_NoMemory();
	for (Py_ssize_t i = 0; i < count && good; i++)
		good = read_core(PyTuple_GetItem(cores_given, i), &cores[i]);
	if (good) {
		signature = signature_from(signature_given, &options.signature_count);
		options.signature = signature;
		options.cores = cores;
		options.core_count = (size_t)count;
	}
	if (good && signature)
		image = build(&options);
	for (Py_ssize_t i = 0; i < count; i++)
		free((void *)(uintptr_t)cores[i].signature);
	free(cores);
	free(signature);
	return image;
}

static PyMethodDef functions[] = {
	{ "_chip_drivers", drivers, METH_NOARGS, drivers_doc },
	{ "_chip_driver", driver, METH_VARARGS, driver_doc },
	{ "_chip_devices", devices, METH_VARARGS, devices_doc },
	{ "_pto_image", pto_image, METH_VARARGS, pto_image_doc },
	{ NULL, NULL, 0, NULL },
};

bool chip_add_functions(PyObject *module)
{
	return PyModule_AddFunctions(module, functions) == 0;
}
