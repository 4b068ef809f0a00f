/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* DLPack, both ways. The layout is that of its version 0, which every library reads. */
#include <stdlib.h>
#include "core.h"

#define DEVICE_HOST 1

struct dlpack_tensor {
	void *data;
	struct { int32_t type, id; } device;
	int32_t ndim;
	struct { uint8_t code, bits; uint16_t lanes; } dtype;
	int64_t *shape;
	int64_t *strides;		/* in elements; NULL: contiguous */
	uint64_t byte_offset;
};

struct dlpack_managed {
	struct dlpack_tensor tensor;
	void *context;			/* the Tensor; owned */
	void (*deleter)(struct dlpack_managed *managed);
};

struct exported {
	struct dlpack_managed managed;
	int64_t shape[DW_TENSOR_MAX_DIMS];
};

/* From any thread, perhaps one without the GIL. */
static void exported_delete(struct dlpack_managed *managed)
{
	PyGILState_STATE state;

	if (!Py_IsInitialized())
		return;
	state = PyGILState_Ensure();
	Py_DECREF((PyObject *)managed->context);
	PyGILState_Release(state);
	free(managed);
}

/* A reader that takes the memory renames the capsule. */
static void capsule_delete(PyObject *capsule)
{
	struct dlpack_managed *managed;

	if (!PyCapsule_IsValid(capsule, "dltensor"))
		return;
	managed = PyCapsule_GetPointer(capsule, "dltensor");
	managed->deleter(managed);
}

PyObject *dlpack_capsule(struct tensor_object *tensor)
{
	struct exported *exported = calloc(1, sizeof(*exported));
	struct dlpack_tensor *out;
	PyObject *capsule;

	if (!exported)
		return PyErr_NoMemory();
	out = &exported->managed.tensor;
	out->data = (void *)(uintptr_t)tensor->tensor.data;
	out->device.type = DEVICE_HOST;
	out->ndim = (int32_t)tensor->tensor.ndims;
	dtype_to_dlpack(tensor->tensor.dtype, &out->dtype.code, &out->dtype.bits);
	out->dtype.lanes = 1;
	for (uint32_t i = 0; i < tensor->tensor.ndims; i++)
		exported->shape[i] = tensor->tensor.shape[i];
	out->shape = exported->shape;
	exported->managed.context = tensor;
	exported->managed.deleter = exported_delete;
	Py_INCREF((PyObject *)tensor);
	capsule = PyCapsule_New(&exported->managed, "dltensor", capsule_delete);
	if (!capsule)
		exported_delete(&exported->managed);
	return capsule;
}

static bool is_contiguous(const struct dlpack_tensor *given)
{
	int64_t stride = 1;

	for (int32_t i = given->ndim; given->strides && i-- > 0; stride *= given->shape[i])
		if (given->shape[i] != 1 && given->strides[i] != stride)
			return false;
	return true;
}

static bool read_tensor(const struct dlpack_tensor *given, struct dw_tensor *tensor)
{
	uint32_t shape[DW_TENSOR_MAX_DIMS];
	int dtype, result;

	if (given->device.type != DEVICE_HOST || given->ndim > DW_TENSOR_MAX_DIMS ||
	    given->ndim < 0 || !is_contiguous(given)) {
		PyErr_SetString(PyExc_ValueError,
				"a tensor argument is contiguous, on the host, and has at most 5 "
				"dimensions");
		return false;
	}
	for (int32_t i = 0; i < given->ndim; i++) {
		if (given->shape[i] < 0 || given->shape[i] > UINT32_MAX) {
			PyErr_SetString(PyExc_ValueError,
					"a dimension has at most 2**32 - 1 elements");
			return false;
		}
		shape[i] = (uint32_t)given->shape[i];
	}
	dtype = dtype_from_dlpack(given->dtype.code, given->dtype.bits, given->dtype.lanes);
	if (dtype < 0)
		return false;
	result = dw_tensor_init(tensor, (char *)given->data + given->byte_offset, dtype, shape,
				(uint32_t)given->ndim);
	return result == 0 || raise_error(result);
}

/* The capsule goes back unread: its owner keeps the memory. */
bool dlpack_read(PyObject *object, struct dw_tensor *tensor)
{
	PyObject *capsule = PyObject_CallMethod(object, "__dlpack__", NULL);
	struct dlpack_managed *managed;
	bool good = false;

	if (!capsule)
		return false;
	managed = PyCapsule_GetPointer(capsule, "dltensor");
	if (managed)
		good = read_tensor(&managed->tensor, tensor);
	Py_DECREF(capsule);
	return good;
}
