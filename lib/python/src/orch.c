/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Orchestrators: submits, scopes and waits of one run, in the thread of its function. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

PyTypeObject *orch_type;

/* ---------------------------------------------------------------- Orchestrators */

PyObject *orch_new(struct dw_orch *orch, const struct dw_config *config,
		   struct worker_object *worker, PyObject *held)
{
	PyObject *object = PyObject_CallObject(orch_class, NULL);
	struct orch_object *self = (struct orch_object *)object;

	if (!object)
		return NULL;
	self->orch = orch;
	self->config = *config;
	Py_XINCREF((PyObject *)worker);
	self->worker = worker;
	Py_XINCREF(held);
	self->held = held;
	return object;
}

void orch_release(PyObject *object)
{
	((struct orch_object *)object)->orch = NULL;
}

static void orch_dealloc(PyObject *object)
{
	struct orch_object *self = (struct orch_object *)object;

	dw_args_destroy(self->scratch);
	Py_XDECREF((PyObject *)self->worker);
	Py_XDECREF(self->held);
	Py_XDECREF(self->recorded);
	object_free(object);
}

/* A handler of a signal that has interrupted a wait may have raised something. */
static PyObject *raise_wait_error(int result)
{
	return PyErr_Occurred() ? NULL : raise_error(result);
}

bool orch_valid(struct orch_object *self)
{
	if (!self->orch)
		PyErr_SetString(PyExc_RuntimeError,
				"an Orchestrator is gone when the function that was given it has "
				"returned");
	return self->orch != NULL;
}

/* A buffer that tasks use stays until the run has ended. */
bool orch_hold_buffer(struct orch_object *self, uint64_t address)
{
	struct buffer_object *buffer = self->last;

	if (!self->held)
		return true;
	if (!buffer || address - (uint64_t)(uintptr_t)buffer->address >= buffer->bytes)
		buffer = worker_find_buffer(self->worker->root, address);
	if (!buffer || buffer == self->last)
		return true;
	if (PySet_Add(self->held, (PyObject *)buffer) < 0 ||
	    (self->recorded && PySet_Add(self->recorded, (PyObject *)buffer) < 0))
		return false;
	self->last = buffer;
	return true;
}

static bool hold_buffers(struct orch_object *self, const struct dw_args *args)
{
	for (size_t i = 0; i < dw_args_tensor_count(args); i++)
		if (!orch_hold_buffer(self, dw_args_tensor(args, i)->data))
			return false;
	return true;
}

/* ----------------------------------------------------------------------- submit */

struct submission {
	struct dw_submit_options options;
	dw_task *after;
	PyObject *workers;		/* of a group; borrowed */
};

static bool task_id(PyObject *object, dw_task *id)
{
	if (Py_TYPE(object) == task_type) {
		*id = ((struct task_object *)object)->id;
		return true;
	}
	*id = PyLong_AsUnsignedLongLong(object);
	return !PyErr_Occurred();
}

static bool read_after(struct submission *submission, PyObject *tasks)
{
	Py_ssize_t count = PySequence_Size(tasks);

	if (count < 0)
		return false;
	submission->after = calloc((size_t)count + 1, sizeof(*submission->after));
	if (!submission->after)
		return PyErr_NoMemory() != NULL;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *task = PySequence_GetItem(tasks, i);
		bool good = task && task_id(task, &submission->after[i]);

		Py_XDECREF(task);
		if (!good)
			return false;
	}
	submission->options.after = submission->after;
	submission->options.after_count = (size_t)count;
	return true;
}

static bool read_u32(PyObject *value, uint32_t *number)
{
	unsigned long read = PyLong_AsUnsignedLong(value);

	if (PyErr_Occurred())
		return false;
	if (read >= UINT32_MAX) {
		PyErr_Format(PyExc_ValueError, "%R is too large", value);
		return false;
	}
	*number = (uint32_t)read;
	return true;
}

static bool read_priority(PyObject *value, int32_t *priority)
{
	long read = PyLong_AsLong(value);

	if (PyErr_Occurred())
		return false;
	if (read < DW_PRIORITY_MIN || read > DW_PRIORITY_MAX) {
		PyErr_Format(PyExc_ValueError, "priority is %R; it should be from %d to %d", value,
			     DW_PRIORITY_MIN, DW_PRIORITY_MAX);
		return false;
	}
	*priority = (int32_t)read;
	return true;
}

enum submit_call { SUBMIT, SUBMIT_GROUP, SUBMIT_COPY };

static bool read_option(struct submission *submission, PyObject *key, PyObject *value,
			enum submit_call call)
{
	struct dw_submit_options *options = &submission->options;
	uint32_t place;

	if (PyUnicode_CompareWithASCIIString(key, "workers") == 0 && call == SUBMIT_GROUP) {
		submission->workers = value == Py_None ? NULL : value;
		return true;
	}
	if (value == Py_None)
		return true;
	if (PyUnicode_CompareWithASCIIString(key, "name") == 0)
		return (options->name = PyUnicode_AsUTF8AndSize(value, NULL)) != NULL;
	if (PyUnicode_CompareWithASCIIString(key, "worker") == 0 && call == SUBMIT) {
		if (!read_u32(value, &place))
			return false;
		options->place = DW_PLACE(place);
		return true;
	}
	if (PyUnicode_CompareWithASCIIString(key, "retries") == 0)
		return read_u32(value, &options->retries);
	if (PyUnicode_CompareWithASCIIString(key, "priority") == 0)
		return read_priority(value, &options->priority);
	if (PyUnicode_CompareWithASCIIString(key, "timeout") == 0)
		return seconds_to_ns(value, 0, &options->timeout_ns);
	if (PyUnicode_CompareWithASCIIString(key, "config") == 0 && call != SUBMIT_COPY)
		return config_from(value, &options->config);
	if (PyUnicode_CompareWithASCIIString(key, "after") == 0)
		return read_after(submission, value);
	PyErr_Format(PyExc_TypeError, "submit has no option %R", key);
	return false;
}

/* `callable` NULL: a copy. */
static bool read_options(struct submission *submission, PyObject *kwargs,
			 const struct callable_object *callable, enum submit_call call)
{
	PyObject *key, *value;
	Py_ssize_t position = 0;

	memset(submission, 0, sizeof(*submission));
	submission->options.size = sizeof(submission->options);
	while (kwargs && PyDict_Next(kwargs, &position, &key, &value))
		if (!read_option(submission, key, value, call))
			return false;
	/* The callable that the library knows is the package's own. */
	if (callable && callable->import && !submission->options.name)
		submission->options.name = PyUnicode_AsUTF8AndSize(callable->name, NULL);
	return true;
}

static bool handle_of(struct orch_object *self, PyObject *object, struct callable_object **callable,
		      dw_callable *handle)
{
	static const char *const names[] = { "python:sub", "python:orch" };
	int result;

	if (Py_TYPE(object) != callable_type) {
		PyErr_Format(PyExc_TypeError,
			     "%R is no Callable: register it with worker.sub() or worker.orch()",
			     object);
		return false;
	}
	*callable = (struct callable_object *)object;
	*handle = (*callable)->handle;
	if (*handle)
		return true;
	if (!self->imports[(*callable)->kind]) {
		result = dw_orch_find(self->orch, names[(*callable)->kind],
				      &self->imports[(*callable)->kind]);
		if (result < 0)
			return raise_error(result);
	}
	*handle = self->imports[(*callable)->kind];
	return true;
}

static struct dw_args *scratch_of(struct orch_object *self)
{
	int result;

	if (self->scratch) {
		dw_args_reset(self->scratch);
		return self->scratch;
	}
	result = dw_args_create(&self->scratch);
	if (result < 0) {
		raise_error(result);
		self->scratch = NULL;
	}
	return self->scratch;
}

/* Values from `first` on, or one Args, into `out`; whether a tensor is to be allocated. */
static bool fill(struct dw_args *out, PyObject *values, Py_ssize_t first,
		 const struct callable_object *callable, bool *allocates)
{
	Py_ssize_t count = PyTuple_Size(values);
	int tag;

	if (count == first + 1 && Py_TYPE(PyTuple_GetItem(values, first)) == args_type) {
		struct args_object *args = (struct args_object *)PyTuple_GetItem(values, first);

		if (!args->args) {
			PyErr_SetString(PyExc_RuntimeError,
					"the arguments of a callable that has returned");
			return false;
		}
		if (!args_copy(out, args))
			return false;
	} else {
		for (Py_ssize_t i = first; i < count; i++)
			if (!args_add(out, PyTuple_GetItem(values, i), NULL, &tag))
				return false;
	}
	for (size_t i = 0; i < dw_args_tensor_count(out); i++)
		*allocates |= dw_args_tensor(out, i)->data == 0;
	return !callable->import || callable_append_import(out, callable);
}

/* The tensors that had no address, of each member. */
static PyObject *outputs_of(struct orch_object *self, struct dw_args **members, size_t count,
			    const uint64_t *had)
{
	PyObject *list = PyList_New(0), *tuple;
	PyObject *owner = self->worker ? (PyObject *)self->worker->root : NULL;
	size_t bit = 0;

	for (size_t m = 0; list && m < count; m++) {
		for (size_t i = 0; list && i < dw_args_tensor_count(members[m]); i++, bit++) {
			PyObject *tensor;

			if (had[bit])
				continue;
			tensor = tensor_new(dw_args_tensor(members[m], i), owner);
			if (!tensor || PyList_Append(list, tensor) < 0)
				Py_CLEAR(list);
			Py_XDECREF(tensor);
		}
	}
	tuple = list ? PyList_AsTuple(list) : NULL;
	Py_XDECREF(list);
	return tuple;
}

static uint64_t *addresses_of(struct dw_args **members, size_t count)
{
	size_t total = 0, bit = 0;
	uint64_t *had;

	for (size_t m = 0; m < count; m++)
		total += dw_args_tensor_count(members[m]);
	had = calloc(total + 1, sizeof(*had));
	for (size_t m = 0; had && m < count; m++)
		for (size_t i = 0; i < dw_args_tensor_count(members[m]); i++)
			had[bit++] = dw_args_tensor(members[m], i)->data;
	if (!had)
		PyErr_NoMemory();
	return had;
}

/* `workers` NULL and one member: a task; else a group. */
static PyObject *submit_members(struct orch_object *self, dw_callable handle,
				struct dw_args **members, size_t count, bool group,
				const uint32_t *workers, const struct submission *submission,
				bool allocates)
{
	uint64_t *had = allocates ? addresses_of(members, count) : NULL;
	struct dw_orch *orch = self->orch;
	PyObject *object;
	dw_task task;
	int result;

	if (allocates && !had)
		return NULL;
	for (size_t m = 0; m < count; m++)
		if (!hold_buffers(self, members[m])) {
			free(had);
			return NULL;
		}
	do {
		Py_BEGIN_ALLOW_THREADS
		result = group ? dw_submit_group(orch, handle, members, count, workers,
						 &submission->options, &task) :
				 dw_submit(orch, handle, members[0], &submission->options, &task);
		Py_END_ALLOW_THREADS
	} while (result == -ERESTART && PyErr_CheckSignals() == 0);
	if (result < 0) {
		free(had);
		return raise_wait_error(result);
	}
	object = task_new(task);
	if (object && allocates) {
		((struct task_object *)object)->outputs = outputs_of(self, members, count, had);
		if (!((struct task_object *)object)->outputs)
			Py_CLEAR(object);
	}
	free(had);
	return object;
}

PyDoc_STRVAR(submit_doc,
	"submit(callable, *args, name=None, worker=None, retries=0, timeout=None,\n"
	"       config=None, priority=0, after=()) -> Task\n\n"
	"Submits one task. args: tensors (inp, out, inout, existing, no_dep; inp without a tag),\n"
	"ints and floats of 64 bits; or one Args. They are copied; a buffer stays until the run\n"
	"has ended. name: for errors and traces. worker: the id of a child Worker or a chip; "
	"None:\n"
	"any. retries: further attempts, of callables that are safe to repeat. timeout: seconds\n"
	"once started; None: the Worker's. config: a Config. after: tasks to wait for beside "
	"those\n"
	"that the tags name. priority: -8 to 7; of the tasks that are ready the highest goes\n"
	"first, and overtakes at most 4,096 later ones for each step.\n\n"
	"Blocks while the heap is full, and while 8,192 tasks are not final. When it raises,\n"
	"nothing was submitted. Error with ENOENT, ESTALE: the callable is unknown, or was\n"
	"unregistered; EFAULT: a tensor lies outside the tree's memory; ENODEV: no worker can "
	"take\n"
	"it; EACCES: see check_declared; ENOBUFS, ENOSPC, EDEADLK: the heap, as alloc();\n"
	"ECANCELED: the run is cancelled.");
static PyObject *submit(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct orch_object *self = (struct orch_object *)object;
	struct callable_object *callable;
	struct submission submission;
	struct dw_args *members[1];
	PyObject *task = NULL;
	bool allocates = false;
	dw_callable handle;

	if (!orch_valid(self))
		return NULL;
	if (PyTuple_Size(args) < 1) {
		PyErr_SetString(PyExc_TypeError, "submit() needs a callable");
		return NULL;
	}
	if (!handle_of(self, PyTuple_GetItem(args, 0), &callable, &handle))
		return NULL;
	members[0] = scratch_of(self);
	if (!members[0])
		return NULL;
	if (read_options(&submission, kwargs, callable, SUBMIT) &&
	    fill(members[0], args, 1, callable, &allocates))
		task = submit_members(self, handle, members, 1, false, NULL, &submission,
				      allocates);
	free(submission.after);
	return task;
}

static uint32_t *read_workers(PyObject *workers, size_t members)
{
	uint32_t *ids;

	if (PySequence_Size(workers) != (Py_ssize_t)members) {
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_ValueError,
				     "workers has %zd ids, and the group %zu members",
				     PySequence_Size(workers), members);
		return NULL;
	}
	ids = calloc(members + 1, sizeof(*ids));
	for (size_t i = 0; ids && i < members; i++) {
		PyObject *id = PySequence_GetItem(workers, (Py_ssize_t)i);
		bool good = id && (id == Py_None || read_u32(id, &ids[i]));

		if (id == Py_None)
			ids[i] = DW_ANY;
		Py_XDECREF(id);
		if (!good) {
			free(ids);
			return NULL;
		}
	}
	if (!ids)
		PyErr_NoMemory();
	return ids;
}

/* A member is a tuple of values, or Args. */
static bool fill_member(struct dw_args **member, PyObject *given,
			const struct callable_object *callable, bool *allocates)
{
	PyObject *values;
	bool good = false;
	int result = dw_args_create(member);

	if (result < 0)
		return raise_error(result);
	values = Py_TYPE(given) == args_type ? PyTuple_Pack(1, given) : PySequence_Tuple(given);
	if (values)
		good = fill(*member, values, 0, callable, allocates);
	Py_XDECREF(values);
	return good;
}

PyDoc_STRVAR(submit_group_doc,
	"submit_group(callable, members, *, workers=None, name=None, retries=0,\n"
	"             timeout=None, config=None, priority=0, after=()) -> Task\n\n"
	"A group: one task for each of members (tuples of arguments, or Args), which run at the\n"
	"same time on different workers, and are one node of the graph. workers: an id or None "
	"for\n"
	"each. Other options (name, retries, timeout, config, after, priority) and errors as\n"
	"those of submit(); ENODEV: fewer workers live than there are members.");
static PyObject *submit_group(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct orch_object *self = (struct orch_object *)object;
	struct callable_object *callable;
	struct submission submission;
	struct dw_args **members = NULL;
	PyObject *callable_given, *given, *task = NULL;
	uint32_t *workers = NULL;
	bool allocates = false, good = true;
	dw_callable handle;
	Py_ssize_t count;

	if (!orch_valid(self) || !PyArg_ParseTuple(args, "OO", &callable_given, &given) ||
	    !handle_of(self, callable_given, &callable, &handle))
		return NULL;
	count = PySequence_Size(given);
	if (count < 0)
		return NULL;
	if (!read_options(&submission, kwargs, callable, SUBMIT_GROUP))
		goto out;
	members = calloc((size_t)count + 1, sizeof(*members));
	if (!members) {
		PyErr_NoMemory();
		goto out;
	}
	for (Py_ssize_t i = 0; i < count && good; i++) {
		PyObject *member = PySequence_GetItem(given, i);

		good = member && fill_member(&members[i], member, callable, &allocates);
		Py_XDECREF(member);
	}
	if (good && submission.workers) {
		workers = read_workers(submission.workers, (size_t)count);
		good = workers != NULL;
	}
	if (good)
		task = submit_members(self, handle, members, (size_t)count, true, workers,
				      &submission, allocates);
out:
	for (Py_ssize_t i = 0; members && i < count; i++)
		dw_args_destroy(members[i]);
	free(members);
	free(workers);
	free(submission.after);
	return task;
}

PyDoc_STRVAR(submit_copy_doc,
	"submit_copy(to, source, *, name=None, retries=0, timeout=None, priority=0, after=())\n"
	"            -> Task\n\n"
	"Copies source to `to` as a task: after the tasks that write source and those that use\n"
	"`to`, and before those that are submitted later and use either. At least one of the two\n"
	"lies in memory of this Worker's chips (chip_memory(), chip_alloc()). They have the same\n"
	"number of bytes and do not overlap; shapes and types may differ. `to` may be new(shape,\n"
	"dtype): task.outputs has it. name, retries, timeout, after, priority, and errors as\n"
	"those of submit(); EINVAL: neither is memory of a chip, or the sizes differ; EFAULT\n"
	"also: the memory is lost. From one chip to another it is two tasks, of which this is\n"
	"the second.");
static PyObject *submit_copy(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct orch_object *self = (struct orch_object *)object;
	struct dw_orch *orch = self->orch;
	PyObject *to_object, *from_object, *task = NULL;
	struct submission submission;
	struct dw_tensor to, from;
	int result = -EINVAL;
	bool allocates;
	dw_task id;

	if (!orch_valid(self) || !PyArg_ParseTuple(args, "OO", &to_object, &from_object))
		return NULL;
	if (Py_TYPE(to_object) == tagged_type)
		to_object = ((struct tagged_object *)to_object)->value;
	if (!tensor_from(to_object, &to) || !tensor_from(from_object, &from))
		return NULL;
	allocates = to.data == 0;
	if (!read_options(&submission, kwargs, NULL, SUBMIT_COPY) ||
	    !orch_hold_buffer(self, to.data) || !orch_hold_buffer(self, from.data))
		goto out;
	do {
		Py_BEGIN_ALLOW_THREADS
		result = dw_submit_copy(orch, &to, &from, &submission.options, &id);
		Py_END_ALLOW_THREADS
	} while (result == -ERESTART && PyErr_CheckSignals() == 0);
	if (result < 0) {
		raise_wait_error(result);
		goto out;
	}
	task = task_new(id);
	if (task && allocates) {
		PyObject *owner = self->worker ? (PyObject *)self->worker->root : NULL;

		((struct task_object *)task)->outputs =
			Py_BuildValue("(N)", tensor_new(&to, owner));
		if (!((struct task_object *)task)->outputs)
			Py_CLEAR(task);
	}
out:
	free(submission.after);
	return task;
}

/* ---------------------------------------------------------------- other methods */

PyDoc_STRVAR(alloc_doc, "alloc(shape, dtype=\"float32\") -> Tensor\n\n"
	"An intermediate tensor, with undefined contents: its memory is the Worker's heap, and\n"
	"goes when its scope has ended and its last user is done. Do not use it, or a view of it,\n"
	"after that. Blocks while the heap is full. Error with ENOBUFS: nothing was given back "
	"for\n"
	"the Worker's heap_timeout; ENOSPC: larger than a heap ring; EDEADLK: only this "
	"function's\n"
	"own open scope could make room; ECANCELED.");
static PyObject *alloc(PyObject *object, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "shape", "dtype", NULL };
	struct orch_object *self = (struct orch_object *)object;
	uint32_t shape[DW_TENSOR_MAX_DIMS], ndims;
	PyObject *shape_object, *dtype_object = NULL;
	int dtype = DW_FLOAT32, result;
	struct dw_tensor tensor;
	struct dw_orch *orch = self->orch;

	if (!orch_valid(self) || !PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names,
							      &shape_object, &dtype_object))
		return NULL;
	if (dtype_object)
		dtype = dtype_from(dtype_object);
	if (dtype < 0 || !shape_from(shape_object, shape, &ndims))
		return NULL;
	do {
		Py_BEGIN_ALLOW_THREADS
		result = dw_alloc(orch, dtype, shape, ndims, &tensor);
		Py_END_ALLOW_THREADS
	} while (result == -ERESTART && PyErr_CheckSignals() == 0);
	if (result < 0)
		return raise_wait_error(result);
	return tensor_new(&tensor, self->worker ? (PyObject *)self->worker->root : NULL);
}

static PyObject *scope_begin(PyObject *object, PyObject *args)
{
	struct orch_object *self = (struct orch_object *)object;
	int result;

	(void)args;
	if (!orch_valid(self))
		return NULL;
	result = dw_scope_begin(self->orch);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static PyObject *scope_end(PyObject *object, PyObject *args)
{
	struct orch_object *self = (struct orch_object *)object;
	int result;

	(void)args;
	if (!orch_valid(self))
		return NULL;
	result = dw_scope_end(self->orch);
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static PyObject *wait_all(PyObject *object, PyObject *args)
{
	struct orch_object *self = (struct orch_object *)object;
	struct dw_orch *orch = self->orch;
	int result;

	(void)args;
	if (!orch_valid(self))
		return NULL;
	do {
		Py_BEGIN_ALLOW_THREADS
		result = dw_orch_wait(orch);
		Py_END_ALLOW_THREADS
	} while (result == -ERESTART && PyErr_CheckSignals() == 0);
	if (result < 0)
		return raise_wait_error(result);
	Py_RETURN_NONE;
}

static PyObject *wait_task(PyObject *object, PyObject *task)
{
	struct orch_object *self = (struct orch_object *)object;
	struct dw_orch *orch = self->orch;
	dw_task id;
	int result;

	if (!orch_valid(self) || !task_id(task, &id))
		return NULL;
	do {
		Py_BEGIN_ALLOW_THREADS
		result = dw_orch_wait_task(orch, id);
		Py_END_ALLOW_THREADS
	} while (result == -ERESTART && PyErr_CheckSignals() == 0);
	if (result < 0)
		return raise_wait_error(result);
	Py_RETURN_NONE;
}

static PyObject *find(PyObject *object, PyObject *args)
{
	struct orch_object *self = (struct orch_object *)object;
	const char *name;
	dw_callable handle;
	int result, kind;

	if (!orch_valid(self) || !PyArg_ParseTuple(args, "si", &name, &kind))
		return NULL;
	result = dw_orch_find(self->orch, name, &handle);
	return result < 0 ? raise_error(result) : callable_new(handle, kind, name, NULL);
}

static PyObject *get_worker_count(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLong(dw_orch_worker_count(((struct orch_object *)object)->orch));
}

static PyObject *get_sub_count(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLong(dw_orch_sub_count(((struct orch_object *)object)->orch));
}

static PyObject *get_config(PyObject *object, void *closure)
{
	const struct dw_config *config = &((struct orch_object *)object)->config;

	(void)closure;
	return Py_BuildValue("iiI", (int)config->block_dim, (int)config->aicpu_thread_num,
			     (unsigned int)config->flags);
}

static PyMethodDef orch_methods[] = {
	{ "submit", METHOD(submit), submit_doc },
	{ "submit_group", METHOD(submit_group),
	  submit_group_doc },
	{ "alloc", METHOD(alloc), alloc_doc },
	{ "scope_begin", scope_begin, METH_NOARGS,
	  "scope_begin()\n\nOpens a scope, up to 64 deep. Error with EOVERFLOW." },
	{ "scope_end", scope_end, METH_NOARGS,
	  "scope_end()\n\nEnds the innermost scope; does not block. Error with EINVAL: none is "
	  "open." },
	{ "wait", wait_all, METH_NOARGS,
	  "wait()\n\nUntil every task so far is final; raises the first error of the run. Then "
	  "host\n"
	  "code may read and write what they used." },
	{ "wait_task", wait_task, METH_O,
	  "wait_task(task)\n\nUntil one task (a Task, or its id) is final, whatever the others "
	  "do; raises its\n"
	  "own error, ECANCELED when it was skipped. Error with EINVAL: not of this run." },
	{ "record_begin", METHOD(orch_record_begin),
	  "record_begin(parameters=[], name=None)\n\n"
	  "Records the tasks that are submitted from here to record_end(), besides running them.\n"
	  "parameters: tensors whose place others may take at each replay. name: for errors. "
	  "Error with\nEINVAL: they overlap, or a recording is open." },
	{ "record_scalar", METHOD(orch_record_scalar),
	  "record_scalar(scalar, parameter, member=0)\n\n"
	  "The number at index scalar of the task that was submitted last, or of a member of its\n"
	  "group, becomes number parameter of those that replay() is given." },
	{ "record_end", orch_record_end, METH_NOARGS,
	  "record_end() -> Graph\n\nEnds the recording. Error with EINVAL: a scope that was "
	  "opened in it still is." },
	{ "replay", METHOD(orch_replay),
	  "replay(graph, parameters=[], scalars=[])\n\n"
	  "Submits the tasks of graph again, with other tensors for its parameters, of the same "
	  "sizes,\nand numbers for its scalars. Blocks while 8,192 tasks are not final. Error "
	  "with EINVAL: numbers,\nsizes or overlaps are not those of the recording; EBUSY: "
	  "another run replays it; ESTALE, ENODEV,\nEFAULT, ECANCELED as submit(): nothing was "
	  "submitted." },
	{ "_find", find, METH_VARARGS, "_find(name, kind) -> Callable" },
	{ "submit_copy", METHOD(submit_copy),
	  submit_copy_doc },
	{ "chip_alloc", METHOD(orch_chip_alloc),
	  "chip_alloc(worker, shape, dtype=\"float32\") -> Tensor\n\n"
	  "Memory of the chip with the id `worker`, freed with the run at the latest. Errors as\n"
	  "those of Worker.chip_memory()." },
	{ "chip_free", orch_chip_free, METH_O,
	  "chip_free(tensor)\n\nFrees memory of chip_alloc() after the tasks that use it; does not "
	  "block.\nError with ENOENT: it is not of this run." },
	{ "chip_memory", METHOD(orch_chip_memory),
	  "chip_memory(worker, shape, dtype=\"float32\") -> Tensor\n\n"
	  "As Worker.chip_memory(), of the Worker that this Orchestrator belongs to: it outlives\n"
	  "the run. A nested Worker that is a process has its chips' memory to itself." },
	{ "chip_memory_free", orch_chip_memory_free, METH_O,
	  "chip_memory_free(tensor)\n\nAs Worker.chip_memory_free()." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef orch_properties[] = {
	{ "worker_count", get_worker_count, NULL,
	  "How many child Workers and chips it has: ids 0 … worker_count - 1.", NULL },
	{ "sub_count", get_sub_count, NULL, "How many sub workers it has.", NULL },
	{ "_config", get_config, NULL, "(block_dim, aicpu_thread_num, flags)", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot orch_slots[] = {
	{ Py_tp_doc, "Submits the tasks of one run." },
	{ Py_tp_dealloc, orch_dealloc },
	{ Py_tp_methods, orch_methods },
	{ Py_tp_getset, orch_properties },
	{ 0, NULL },
};
static PyType_Spec orch_spec = {
	.name = "distworker._core.Orchestrator",
	.basicsize = sizeof(struct orch_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = orch_slots,
};

bool orch_add_types(PyObject *module)
{
	return add_type(module, &orch_type, &orch_spec, "Orchestrator");
}
