/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The objects of distworker._core, guarded by the GIL, and what calls of the library keep. */
#ifndef DISTWORKER_PYTHON_OBJECTS_H
#define DISTWORKER_PYTHON_OBJECTS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdbool.h>
#include <sys/types.h>
#include <distworker/distworker.h>

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

#endif
