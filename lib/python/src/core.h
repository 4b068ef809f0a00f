/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The extension module distworker._core: CPython's limited API over the public interface of
 * libdistworker. Calls of the library that may block release the GIL; functions that the library
 * calls take it. Objects are guarded by the GIL.
 */
#ifndef DISTWORKER_PYTHON_CORE_H
#define DISTWORKER_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>
#include <distworker/distworker.h>

/* ------------------------------------------------------------------- objects */

enum buffer_kind {
	BUFFER_PLAIN,
	BUFFER_KEPT,			/* host code copies to it and from it, and has no views */
	BUFFER_CHIP,			/* no process can access it; not freed by this object */
};

/* Memory of dw_buffer_create_with(): freed with the last view of it. */
struct buffer_object {
	PyObject_HEAD
	struct worker_object *worker;	/* the root; owned; NULL for memory of chips */
	enum buffer_kind kind;
	void *address;
	uint64_t bytes;
};

struct tensor_object {
	PyObject_HEAD
	struct dw_tensor tensor;
	PyObject *owner;		/* keeps the memory mapped; may be NULL */
	Py_ssize_t shape[DW_TENSOR_MAX_DIMS], strides[DW_TENSOR_MAX_DIMS];
};

/* A tensor argument with its tag. */
struct tagged_object {
	PyObject_HEAD
	PyObject *value;
	int tag;
};

struct args_object {
	PyObject_HEAD
	struct dw_args *owned;		/* NULL: those that a callable was given */
	const struct dw_args *args;	/* NULL: the callable has returned */
	PyObject *keep;			/* list of tensors' memory, or NULL */
	PyObject *owner;		/* of tensors that are read; may be NULL */
	uint8_t *tags;			/* of `owned` */
	size_t tag_space;
	size_t hidden;			/* scalars at the end that are the package's own */
};

enum callable_kind { CALLABLE_SUB = 0, CALLABLE_ORCH = 1, CALLABLE_IMAGE = 2 };

struct callable_object {
	PyObject_HEAD
	dw_callable handle;		/* 0: by name, through the package's own callables */
	int kind;
	PyObject *name;			/* str */
	char *import;			/* "module:qualified.name", or NULL */
	size_t import_bytes;
};

/* The context of a registered function; from before the fork, so children have it. */
struct function {
	struct function *next;
	PyObject *fn;			/* owned; NULL: the package's own, which imports */
	struct worker_object *worker;	/* not owned: it owns this */
};

/* One call of dw_worker_run() or dw_worker_start(): of its caller, a Run, or the Worker. */
struct call {
	struct call *next;		/* of runs that no caller waits for */
	struct dw_run *run;
	struct worker_object *worker;	/* not owned */
	PyObject *fn, *arguments, *progress;
	PyObject *value;		/* the result of fn, or NULL */
	PyObject *exception;		/* raised by fn, or NULL */
	PyObject *held;			/* set: buffers that tasks may use */
	unsigned long thread;		/* that is in fn, or 0 */
	bool here;			/* fn runs in the thread of the caller of start() */
};

struct worker_object {
	PyObject_HEAD
	struct dw_worker *handle;	/* NULL: its root is gone */
	struct worker_object *root;	/* not owned; itself, if it has no parent */
	bool has_imports;		/* the package's own callables are registered */
	pid_t process;
	PyObject *children;		/* list: owned by the parent */
	struct function *functions;
	struct call *unwatched;		/* runs that no caller waits for */
	struct buffer_object **buffers;	/* not owned; by address */
	size_t buffer_count, buffer_space;
};

struct run_object {
	PyObject_HEAD
	struct worker_object *worker;	/* owned */
	struct call *call;		/* NULL: waited for */
};

struct orch_object {
	PyObject_HEAD
	struct dw_orch *orch;		/* NULL: its function has returned */
	struct worker_object *worker;	/* owned; may be NULL */
	struct dw_args *scratch;
	PyObject *held;			/* set, or NULL: this process owns no buffers */
	PyObject *recorded;		/* the same, of the recording that is open; or NULL */
	struct buffer_object *last;	/* that was put into `held`; not owned */
	dw_callable imports[2];		/* by kind; 0: not looked up */
	struct dw_config config;
};

struct graph_object {
	PyObject_HEAD
	struct dw_graph *graph;		/* NULL: closed */
	PyObject *held;			/* set of the buffers that it uses, or NULL */
};

struct task_object {
	PyObject_HEAD
	dw_task id;
	PyObject *outputs;		/* tuple of tensors that the submit has allocated */
};

extern PyTypeObject *buffer_type, *tensor_type, *tagged_type, *args_type, *callable_type,
	*worker_type, *run_type, *orch_type, *task_type, *graph_type;

/* ----------------------------------------------------------------- core.c */

/* Set once by the package: Error and its helpers, and the classes to make. */
extern PyObject *error_factory, *failure_formatter, *importer, *orch_class;
extern _Thread_local int callback_depth;
extern bool is_child_process;

/* Raises distworker.Error for the result of a call; gives NULL. */
PyObject *raise_error(int result);
/* The text of the exception that is set as dw_task_fail() has it; clears it. */
int fail_with_exception(void);
void flush_streams(void);
/* The end of tp_dealloc: an object owns its type. */
void object_free(PyObject *object);
/* A method with keyword arguments in a table of methods. */
#define METHOD(function) ((PyCFunction)(void (*)(void))(function)), METH_VARARGS | METH_KEYWORDS
bool add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec, const char *name);
/* Seconds, or None: `none`. */
bool seconds_to_ns(PyObject *seconds, uint64_t none, uint64_t *ns);
bool config_from(PyObject *object, struct dw_config *config);

/* --------------------------------------------------------------- tensor.c */

bool tensor_add_types(PyObject *module);
int dtype_from(PyObject *object);
bool shape_from(PyObject *object, uint32_t *shape, uint32_t *ndims);
/* `owner` may be NULL. */
PyObject *tensor_new(const struct dw_tensor *tensor, PyObject *owner);
PyObject *tensor_of_chip(const struct dw_tensor *tensor);
/* A view of an object with the buffer protocol or DLPack as it is now. */
bool tensor_from(PyObject *object, struct dw_tensor *tensor);
PyObject *dlpack_capsule(struct tensor_object *tensor);
bool dlpack_read(PyObject *object, struct dw_tensor *tensor);
int dtype_from_dlpack(int code, int bits, int lanes);
void dtype_to_dlpack(int dtype, uint8_t *code, uint8_t *bits);

/* ----------------------------------------------------------------- args.c */

bool args_add_types(PyObject *module);
/* Adds a tensor, a tagged one, or a number. `keep` may be NULL. */
bool args_add(struct dw_args *args, PyObject *value, PyObject *keep, int *tag);
/* For a callable: the object becomes useless when args_release() is called. */
PyObject *args_borrow(const struct dw_args *args, size_t hidden, PyObject *owner);
void args_release(PyObject *object);
/* All of `from`, with its tags. */
bool args_copy(struct dw_args *to, struct args_object *from);

/* ----------------------------------------------------------- callable.c */

bool callable_add_types(PyObject *module);
PyObject *callable_new(dw_callable handle, int kind, const char *name, const char *import);
bool callable_append_import(struct dw_args *args, const struct callable_object *callable);
dw_sub_fn sub_entry;
dw_orch_fn orch_entry, run_entry;
void run_progress(uint64_t submitted, uint64_t finished, void *context);

/* ----------------------------------------------------------------- orch.c */

bool orch_add_types(PyObject *module);
PyObject *orch_new(struct dw_orch *orch, const struct dw_config *config,
		   struct worker_object *worker, PyObject *held);
void orch_release(PyObject *object);

/* The run holds a buffer of this process at that address, and so does an open recording. */
bool orch_hold_buffer(struct orch_object *self, uint64_t address);
PyObject *task_new(dw_task id);
bool task_add_type(PyObject *module);
/* Raises RuntimeError. */
bool orch_valid(struct orch_object *self);

/* ----------------------------------------------------------------- chip.c */

bool chip_add_functions(PyObject *module);
/* A sequence of enum dw_direction, malloc'ed. */
int32_t *signature_from(PyObject *given, size_t *count);
PyObject *worker_chip_memory(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *worker_chip_memory_free(PyObject *self, PyObject *tensor);
PyObject *orch_chip_memory(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *orch_chip_memory_free(PyObject *self, PyObject *tensor);
PyObject *orch_chip_alloc(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *orch_chip_free(PyObject *self, PyObject *tensor);

/* --------------------------------------------------------------- record.c */

bool graph_add_type(PyObject *module);
PyObject *orch_record_begin(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *orch_record_scalar(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *orch_record_end(PyObject *self, PyObject *args);
PyObject *orch_replay(PyObject *self, PyObject *args, PyObject *kwargs);

/* --------------------------------------------------------------- buffer.c */

bool buffer_add_type(PyObject *module);
/* The owner of a tensor in device memory. */
PyObject *buffer_of_chip(void);
PyObject *worker_empty(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *worker_register_buffer(PyObject *self, PyObject *memory);
PyObject *worker_write(PyObject *self, PyObject *args);
PyObject *worker_read(PyObject *self, PyObject *args, PyObject *kwargs);
struct buffer_object *worker_find_buffer(struct worker_object *root, uint64_t address);

/* ------------------------------------------------------- worker.c, run.c */

bool worker_add_types(PyObject *module);
bool worker_usable(struct worker_object *worker);
/* Gives back runs that have ended, of those that no caller waits for. */
void worker_reap(struct worker_object *worker, bool all);

PyObject *child_stats_row(const struct dw_child_stats *child);
PyObject *engine_stats_row(const struct dw_engine_stats *stats);
/* A report of the library as text; `release`: without the GIL. */
typedef int report_fn(void *handle, uint64_t stuck_ns, char *text, size_t *bytes);
PyObject *report_text(report_fn *report, void *handle, PyObject *stuck, bool release);

bool tree_add_types(PyObject *module);

/* ---------------------------------------------------------------- watch.c */

bool watch_add_functions(PyObject *module);
/* Signals interrupt runs of this Worker from now on. False: they do not. Main thread. */
bool watch_enter(struct dw_worker *worker);
void watch_leave(void);

bool run_add_types(PyObject *module);
PyObject *worker_run_method(PyObject *self, PyObject *args);
PyObject *worker_start_method(PyObject *self, PyObject *args);
void call_free(struct call *call);

#endif
