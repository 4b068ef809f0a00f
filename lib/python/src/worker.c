/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Workers: options, callables, init and close. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core.h"
#include "launch.h"

PyTypeObject *worker_type;

bool worker_usable(struct worker_object *worker)
{
	if (!worker->handle)
		PyErr_SetString(PyExc_RuntimeError,
				"this Worker is gone: it was not made, or its root is gone");
	return worker->handle != NULL;
}

/* -------------------------------------------------------------------- callables */

static void functions_clear(struct worker_object *self)
{
	for (struct function *function = self->functions; function; function = function->next)
		Py_CLEAR(function->fn);
	for (Py_ssize_t i = 0; self->children && i < PyList_Size(self->children); i++)
		functions_clear((struct worker_object *)PyList_GetItem(self->children, i));
}

static int register_one(struct worker_object *self, PyObject *fn, int kind, const char *name,
			dw_callable *handle)
{
	struct function *function = calloc(1, sizeof(*function));
	int result;

	if (!function) {
		PyErr_NoMemory();
		return 1;
	}
	function->worker = self;
	result = kind == CALLABLE_ORCH ?
		 dw_callable_register_orch(self->handle, name, orch_entry, function, handle) :
		 dw_callable_register_sub(self->handle, name, sub_entry, function, handle);
	if (result < 0) {
		free(function);
		return result;
	}
	Py_XINCREF(fn);
	function->fn = fn;
	function->next = self->functions;
	self->functions = function;
	return 0;
}

static PyObject *register_function(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	const char *name;
	dw_callable handle;
	PyObject *fn;
	int kind, result;

	if (!worker_usable(self) || !PyArg_ParseTuple(args, "Ois", &fn, &kind, &name))
		return NULL;
	result = register_one(self, fn, kind, name, &handle);
	if (result)
		return result < 0 ? raise_error(result) : NULL;
	return callable_new(handle, kind, name, NULL);
}

static PyObject *register_symbol(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	const char *symbol;
	dw_callable handle;
	int kind, result;

	if (!worker_usable(self) || !PyArg_ParseTuple(args, "si", &symbol, &kind))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_callable_register_symbol(self->handle, symbol,
					     kind == CALLABLE_ORCH ? DW_SYMBOL_ORCH : DW_SYMBOL_SUB,
					     &handle);
	Py_END_ALLOW_THREADS
	return result < 0 ? raise_error(result) : callable_new(handle, kind, symbol, NULL);
}

static PyObject *register_image(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	PyObject *signature_given;
	int32_t *signature = NULL;
	Py_buffer data = { 0 };
	dw_callable handle;
	int result;

	if (!worker_usable(self) ||
	    !PyArg_ParseTuple(args, "ssz*zO", &options.driver, &options.entry, &data, &options.path,
			      &signature_given))
		return NULL;
	options.data = data.buf;
	options.bytes = (size_t)data.len;
	if (signature_given != Py_None) {
		signature = signature_from(signature_given, &options.signature_count);
		options.signature = signature;
		if (!signature) {
			PyBuffer_Release(&data);
			return NULL;
		}
	}
	Py_BEGIN_ALLOW_THREADS
	result = dw_callable_register_image(self->handle, &options, &handle);
	Py_END_ALLOW_THREADS
	free(signature);
	if (data.obj)
		PyBuffer_Release(&data);
	return result < 0 ? raise_error(result) :
			    callable_new(handle, CALLABLE_IMAGE, options.entry, NULL);
}

static PyObject *unregister(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	PyObject *callable, *timeout = NULL;
	dw_callable handle;
	uint64_t ns;
	int result;

	if (!worker_usable(self) || !PyArg_ParseTuple(args, "O|O", &callable, &timeout) ||
	    !seconds_to_ns(timeout, UINT64_MAX, &ns))
		return NULL;
	if (Py_TYPE(callable) != callable_type) {
		PyErr_Format(PyExc_TypeError, "%R is no Callable", callable);
		return NULL;
	}
	handle = ((struct callable_object *)callable)->handle;
	if (!handle)
		Py_RETURN_NONE;
	Py_BEGIN_ALLOW_THREADS
	result = dw_callable_unregister_for(self->handle, handle, ns);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static PyObject *find(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	const char *name;
	dw_callable handle;
	int result, kind;

	if (!worker_usable(self) || !PyArg_ParseTuple(args, "si", &name, &kind))
		return NULL;
	result = dw_callable_find(self->handle, name, &handle);
	return result < 0 ? raise_error(result) : callable_new(handle, kind, name, NULL);
}

/* ------------------------------------------------------------------ the hierarchy */

static void set_root(struct worker_object *self, struct worker_object *root)
{
	self->root = root;
	for (Py_ssize_t i = 0; i < PyList_Size(self->children); i++)
		set_root((struct worker_object *)PyList_GetItem(self->children, i), root);
}

static PyObject *add_child(PyObject *object, PyObject *given)
{
	struct worker_object *self = (struct worker_object *)object, *child;
	uint32_t id;
	int result;

	if (!PyObject_TypeCheck(given, worker_type)) {
		PyErr_Format(PyExc_TypeError, "%R is no Worker", given);
		return NULL;
	}
	child = (struct worker_object *)given;
	if (!worker_usable(self) || !worker_usable(child) ||
	    PyList_Append(self->children, given) < 0)
		return NULL;
	result = dw_worker_add_child(self->handle, child->handle, &id);
	if (result < 0) {
		Py_ssize_t last = PyList_Size(self->children) - 1;

		PyList_SetSlice(self->children, last, last + 1, NULL);
		return raise_error(result);
	}
	set_root(child, self->root);
	return PyLong_FromUnsignedLong(id);
}

static PyObject *chip_id(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	unsigned int chip;
	uint32_t id;
	int result;

	if (!worker_usable(self) || !PyArg_ParseTuple(args, "I", &chip))
		return NULL;
	result = dw_worker_chip_id(self->handle, chip, &id);
	return result < 0 ? raise_error(result) : PyLong_FromUnsignedLong(id);
}

/* The package's own functions, which run those that are registered by name once the tree is up. */
static bool register_imports(struct worker_object *self)
{
	dw_callable handle;
	int result;

	if (self->has_imports || self->root != self)
		return true;
	result = register_one(self, NULL, CALLABLE_SUB, "python:sub", &handle);
	if (result == 0)
		result = register_one(self, NULL, CALLABLE_ORCH, "python:orch", &handle);
	if (result < 0)
		raise_error(result);
	self->has_imports = result == 0;
	return self->has_imports;
}

static PyObject *init(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	int result;

	(void)args;
	if (!worker_usable(self) || !register_imports(self))
		return NULL;
	/* Else the children would write the streams' buffers once more. */
	flush_streams();
	Py_BEGIN_ALLOW_THREADS
	result = dw_worker_init(self->handle);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static PyObject *close_tree(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	int result;

	(void)args;
	if (!self->handle || self->process != getpid())
		Py_RETURN_NONE;
	Py_BEGIN_ALLOW_THREADS
	result = dw_worker_close(self->handle);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	worker_reap(self, false);
	functions_clear(self);
	Py_RETURN_NONE;
}

static PyObject *cancel(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	int result;

	(void)args;
	if (!worker_usable(self))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_worker_cancel(self->handle);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

/* ----------------------------------------------------------------------- seeing */

PyObject *child_stats_row(const struct dw_child_stats *child)
{
	return Py_BuildValue("(sIIiNKKKKKKKKKKKKssKKK)", child->path, (unsigned int)child->kind,
			     (unsigned int)child->level, (int)child->pid,
			     PyBool_FromLong((long)child->alive),
			     (unsigned long long)child->tasks_done,
			     (unsigned long long)child->tasks_failed,
			     (unsigned long long)child->tasks_skipped,
			     (unsigned long long)child->busy_ns, (unsigned long long)child->wakes,
			     (unsigned long long)child->sleeps, (unsigned long long)child->cpu_ns,
			     (unsigned long long)child->memory_used,
			     (unsigned long long)child->memory_bytes,
			     (unsigned long long)child->copied_in,
			     (unsigned long long)child->copied_out,
			     (unsigned long long)child->saved, child->host, child->address,
			     (unsigned long long)child->round_trip_ns,
			     (unsigned long long)child->window_used,
			     (unsigned long long)child->window_bytes);
}

static PyObject *stats(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_child_stats *children = NULL, *grown;
	size_t space = 0, count = 0;
	PyObject *list = NULL;
	int result;

	(void)args;
	if (!worker_usable(self))
		return NULL;
	do {
		space = count > space ? count : space + 16;
		grown = realloc(children, space * sizeof(*children));
		if (!grown) {
			free(children);
			return PyErr_NoMemory();
		}
		children = grown;
		count = space;
		Py_BEGIN_ALLOW_THREADS
		result = dw_worker_stats(self->handle, children, sizeof(*children), &count);
		Py_END_ALLOW_THREADS
	} while (result == 0 && count > space);
	if (result < 0) {
		free(children);
		return raise_error(result);
	}
	list = PyList_New(0);
	for (size_t i = 0; list && i < count; i++) {
		PyObject *row = child_stats_row(&children[i]);

		if (!row || PyList_Append(list, row) < 0)
			Py_CLEAR(list);
		Py_XDECREF(row);
	}
	free(children);
	return list;
}

PyObject *engine_stats_row(const struct dw_engine_stats *stats)
{
	return Py_BuildValue("(KKKKKKKKKKKI)", (unsigned long long)stats->submitted,
			     (unsigned long long)stats->done, (unsigned long long)stats->failed,
			     (unsigned long long)stats->skipped, (unsigned long long)stats->retried,
			     (unsigned long long)stats->parent_sleeps,
			     (unsigned long long)stats->parent_wakes,
			     (unsigned long long)stats->heap_used,
			     (unsigned long long)stats->heap_peak,
			     (unsigned long long)stats->deaths, (unsigned long long)stats->restarts,
			     (unsigned int)stats->provider);
}

static PyObject *engine_stats(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	int result;

	(void)args;
	if (!worker_usable(self))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = dw_worker_engine_stats(self->handle, &stats);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	return engine_stats_row(&stats);
}

PyObject *report_text(report_fn *report, void *handle, PyObject *stuck, bool release)
{
	size_t space = 4096, bytes = 0;
	PyThreadState *state = NULL;
	char *buffer = NULL;
	PyObject *text;
	uint64_t ns;
	int result;

	if (!seconds_to_ns(stuck, 0, &ns))
		return NULL;
	do {
		free(buffer);
		space = bytes > space ? bytes + 1024 : space;
		buffer = malloc(space);
		if (!buffer)
			return PyErr_NoMemory();
		bytes = space;
		if (release)
			state = PyEval_SaveThread();
		result = report(handle, ns, buffer, &bytes);
		if (release)
			PyEval_RestoreThread(state);
	} while (result == 0 && bytes > space);
	text = result < 0 ? raise_error(result) : PyUnicode_FromString(buffer);
	free(buffer);
	return text;
}

static int report_worker(void *worker, uint64_t stuck_ns, char *text, size_t *bytes)
{
	return dw_worker_report(worker, stuck_ns, text, bytes);
}

static PyObject *report(PyObject *object, PyObject *stuck)
{
	struct worker_object *self = (struct worker_object *)object;

	return worker_usable(self) ? report_text(report_worker, self->handle, stuck, true) :
				     NULL;
}

/* ------------------------------------------------------------------- make and free */

static bool read_chips(PyObject *given, struct dw_worker_options *options)
{
	Py_ssize_t count = PySequence_Size(given);
	struct dw_chip_options *chips;

	if (count < 0)
		return false;
	chips = calloc((size_t)count + 1, sizeof(*chips));
	if (!chips)
		return PyErr_NoMemory() != NULL;
	options->chips = chips;
	options->chip_count = (uint32_t)count;
	options->chip_size = sizeof(*chips);
	for (Py_ssize_t i = 0; i < count; i++) {
		/* The caller's tuple keeps the texts. */
		PyObject *chip = PySequence_GetItem(given, i);
		unsigned int device;
		bool good = chip && PyArg_ParseTuple(chip, "sIz", &chips[i].driver, &device,
						     &chips[i].options);

		if (good)
			chips[i].device = device;
		Py_XDECREF(chip);
		if (!good)
			return false;
	}
	return true;
}

/* The package's Worker gives them all, in the order of the struct. */
static PyObject *worker_create(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	int mode, provider, restart, placement, result;
	unsigned int level, subs, depth, frame, limit, declared;
	unsigned long long ring, arena, times[4], host_timeout, window;
	PyObject *chips;

	if (self->handle) {
		PyErr_SetString(PyExc_RuntimeError,
				"this Worker was made before");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "IzIO!iiKKIIKKKKiIiIzKKz", &level, &options.name, &subs,
			      &PyTuple_Type, &chips, &mode, &provider, &ring, &arena, &depth,
			      &frame, &times[0], &times[1], &times[2], &times[3], &restart, &limit,
			      &placement, &declared, &options.host, &host_timeout, &window,
			      &options.host_key))
		return NULL;
	options.host_timeout_ns = host_timeout;
	options.host_window_bytes = window;
	options.subs = subs;
	options.mode = (enum dw_mode)mode;
	options.provider = (enum dw_provider)provider;
	options.heap_ring_bytes = ring;
	options.arena_bytes = arena;
	options.mailbox_depth = depth;
	options.frame_bytes = frame;
	options.timeout_ns = times[0];
	options.heap_timeout_ns = times[1];
	options.init_timeout_ns = times[2];
	options.close_timeout_ns = times[3];
	options.restart = (enum dw_restart)restart;
	options.restart_limit = limit;
	options.placement = (enum dw_placement)placement;
	options.check_declared = declared;
	if (!read_chips(chips, &options)) {
		free((void *)(uintptr_t)options.chips);
		return NULL;
	}
	self->process = getpid();
	self->root = self;
	self->children = PyList_New(0);
	result = self->children ? dw_worker_create(level, &options, &self->handle) : 0;
	free((void *)(uintptr_t)options.chips);
	if (result < 0) {
		self->handle = NULL;
		return raise_error(result);
	}
	if (!self->children)
		return NULL;
	Py_RETURN_NONE;
}

/* Called without the GIL. An exception is shown, and the node serves. */
static void tell_address(const char *address, void *listening)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *result = PyObject_CallFunction(listening, "s", address);

	if (!result)
		PyErr_WriteUnraisable(listening);
	Py_XDECREF(result);
	PyGILState_Release(state);
}

/* `stop` gets a byte when a signal is there: the interpreter's handler then runs afterwards. */
static PyObject *worker_serve(PyObject *object, PyObject *args)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	unsigned long long idle, cache;
	PyObject *listening, *launch;
	struct dw_launch *launched;
	unsigned int sessions;
	int result;

	if (!PyArg_ParseTuple(args, "zzzIKKziOO", &options.listen, &options.key, &options.user,
			      &sessions, &idle, &cache, &options.objects, &options.stop_fd,
			      &listening, &launch) ||
	    !launch_handle(launch, &launched) || !worker_usable(self) || !register_imports(self))
		return NULL;
	options.sessions = sessions;
	options.idle_timeout_ns = idle;
	options.cache_bytes = cache;
	options.listening = listening == Py_None ? NULL : tell_address;
	options.context = listening;
	Py_BEGIN_ALLOW_THREADS
	result = launched ? dw_launch_serve(launched, self->handle, &options) :
			    dw_node_serve(self->handle, &options);
	Py_END_ALLOW_THREADS
	if (result < 0)
		return raise_error(result);
	Py_RETURN_NONE;
}

static int worker_traverse(PyObject *object, visitproc visit, void *arg)
{
	struct worker_object *self = (struct worker_object *)object;

	Py_VISIT(Py_TYPE(object));
	Py_VISIT(self->children);
	for (struct function *function = self->functions; function; function = function->next)
		Py_VISIT(function->fn);
	return 0;
}

static int worker_clear(PyObject *object)
{
	struct worker_object *self = (struct worker_object *)object;

	for (struct function *function = self->functions; function; function = function->next)
		Py_CLEAR(function->fn);
	return 0;
}

static int destroy_later(void *handle)
{
	Py_BEGIN_ALLOW_THREADS
	dw_worker_destroy(handle);
	Py_END_ALLOW_THREADS
	return 0;
}

/* The root's memory goes: its descendants' handles have no meaning any more. */
static void forget_handles(struct worker_object *self)
{
	self->handle = NULL;
	self->root = self;
	for (Py_ssize_t i = 0; self->children && i < PyList_Size(self->children); i++)
		forget_handles((struct worker_object *)PyList_GetItem(self->children, i));
}

static void worker_dealloc(PyObject *object)
{
	struct worker_object *self = (struct worker_object *)object;
	struct dw_worker *handle = self->root == self ? self->handle : NULL;
	struct function *function, *next;

	PyObject_GC_UnTrack(object);
	if (handle && self->process == getpid() && callback_depth) {
		/*
		 * Within a call of the library it would wait for itself: the main thread does it.
		 */
		Py_AddPendingCall(destroy_later, handle);
	} else if (handle && self->process == getpid()) {
		Py_BEGIN_ALLOW_THREADS
		dw_worker_destroy(handle);
		Py_END_ALLOW_THREADS
	}
	worker_reap(self, true);
	if (self->root == self)
		forget_handles(self);
	for (function = self->functions; function; function = next) {
		next = function->next;
		Py_XDECREF(function->fn);
		free(function);
	}
	free(self->buffers);
	Py_XDECREF(self->children);
	object_free(object);
}

PyDoc_STRVAR(empty_doc, "empty(shape, dtype=\"float32\", *, kept=False) -> Tensor\n\n"
	"Memory of the tree's arena, at one address in every process of the tree; zeroed. Before\n"
	"or after init, on the root. It is freed with the last view of it, at the earliest when\n"
	"the runs that use it have ended.\n\n"
	"kept: host code has no views of it; write() and read() copy to it and from it. Chips "
	"keep\n"
	"their copies of it from one run to the next: weights are copied to them once.\n\n"
	"Error with ENOMEM: the arena is full; EINVAL: a child Worker. Any thread.");
PyDoc_STRVAR(register_buffer_doc, "register_buffer(memory)\n\n"
	"Memory that is mapped shared (an mmap.mmap of its own), before init. It stays mapped by\n"
	"the caller. Error with EBUSY: after init; EINVAL: it is not mapped shared. Any thread.");
PyDoc_STRVAR(write_doc, "write(tensor, source)\n\n"
	"Copies `source`, a contiguous object with the buffer protocol and as many bytes, into a\n"
	"tensor in the tree's memory, kept or not. Does not wait: Error with EBUSY while a task\n"
	"that has not ended uses bytes of it; EFAULT: the tensor lies elsewhere. Submit no task\n"
	"that uses it meanwhile. Any thread.");
PyDoc_STRVAR(read_doc, "read(tensor, into=None)\n\n"
	"Copies a tensor in the tree's memory, kept or not, into `into`, a contiguous writable\n"
	"object with the buffer protocol and as many bytes, and returns that; None: a new\n"
	"bytearray. Errors as write(); EBUSY while a task that has not ended writes bytes of it.");
PyDoc_STRVAR(chip_memory_doc, "chip_memory(worker, shape, dtype=\"float32\") -> Tensor\n\n"
	"Device memory of the chip with the id `worker` (chip_id()) that outlives runs; zeroed.\n"
	"Only tasks of that chip and orch.submit_copy() may name the tensor and its slices. It is\n"
	"the caller's until chip_memory_free(), and ends with the Worker at the latest: dropping\n"
	"the tensor does not free it. Its contents are lost with the chip: a task that names it\n"
	"then is an Error with EFAULT, and it has to be freed and made again.\n\n"
	"Between init and close, any thread; waits for the tasks that the chip has been handed.\n"
	"Error with EINVAL: `worker` is no chip, or 0 bytes; EOPNOTSUPP: the chip has no memory "
	"of\n"
	"its own; ENOMEM; EOWNERDEAD: it has died; ENOTCONN: the Worker is not initialised, is\n"
	"closed, or is a process of its own (there: the method of its Orchestrator).");
PyDoc_STRVAR(chip_memory_free_doc, "chip_memory_free(tensor)\n\n"
	"Gives memory of chip_memory() back, lost or not: the tensor as that returned it. No task\n"
	"may use it any more. Any thread; waits as chip_memory(). Error with ENOENT: this Worker\n"
	"has no such memory.");

static PyMethodDef worker_methods[] = {
	{ "_serve", worker_serve, METH_VARARGS, "All options, in the order of the C struct." },
	{ "_create", worker_create, METH_VARARGS, "All options, in the order of the C struct." },
	{ "empty", METHOD(worker_empty),
	  empty_doc },
	{ "register_buffer", worker_register_buffer, METH_O, register_buffer_doc },
	{ "write", worker_write, METH_VARARGS, write_doc },
	{ "read", METHOD(worker_read), read_doc },
	{ "chip_memory", METHOD(worker_chip_memory), chip_memory_doc },
	{ "chip_memory_free", worker_chip_memory_free, METH_O, chip_memory_free_doc },
	{ "_register", register_function, METH_VARARGS, "_register(fn, kind, name) -> Callable" },
	{ "_register_symbol", register_symbol, METH_VARARGS, "_register_symbol(symbol, kind)" },
	{ "_register_image", register_image, METH_VARARGS,
	  "_register_image(driver, entry, data, path, signature)" },
	{ "_unregister", unregister, METH_VARARGS, "_unregister(callable, timeout)" },
	{ "_find", find, METH_VARARGS, "_find(name, kind) -> Callable" },
	{ "_add_child", add_child, METH_O, "_add_child(worker) -> id" },
	{ "_chip_id", chip_id, METH_VARARGS, "_chip_id(chip) -> id" },
	{ "_init", init, METH_NOARGS, "Brings the whole tree up, or nothing." },
	{ "_close", close_tree, METH_NOARGS, "Takes the whole tree down." },
	{ "cancel", cancel, METH_NOARGS,
	  "cancel()\n\nCancels every run of the tree, as Run.cancel() does one. Any thread. Error "
	  "with\n"
	  "ENOTCONN: it is not initialised, or closed." },
	{ "_stats", stats, METH_NOARGS, "Rows of numbers, one for each child." },
	{ "_engine_stats", engine_stats, METH_NOARGS, "A row of numbers." },
	{ "_report", report, METH_O, "_report(stuck) -> str" },
	{ "_run", worker_run_method, METH_VARARGS, "_run(fn, args, config)" },
	{ "_start", worker_start_method, METH_VARARGS,
	  "_start(run, fn, args, config, timeout, progress)" },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot worker_slots[] = {
	{ Py_tp_doc, "The C part of distworker.Worker." },
	{ Py_tp_dealloc, worker_dealloc },
	{ Py_tp_traverse, worker_traverse },
	{ Py_tp_clear, worker_clear },
	{ Py_tp_methods, worker_methods },
	{ 0, NULL },
};
static PyType_Spec worker_spec = {
	.name = "distworker._core.Worker",
	.basicsize = sizeof(struct worker_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = worker_slots,
};

bool worker_add_types(PyObject *module)
{
	return add_type(module, &worker_type, &worker_spec, "Worker");
}
