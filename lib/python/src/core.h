/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The extension module distworker._core: CPython's limited API over the public interface of
 * libdistworker. Calls of the library that may block release the GIL; functions that the library
 * calls take it. Objects are guarded by the GIL.
 */
#ifndef DISTWORKER_PYTHON_CORE_H
#define DISTWORKER_PYTHON_CORE_H

#include <unistd.h>
#include "objects.h"

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
