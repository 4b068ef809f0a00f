/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * libdistworker: a hierarchy of Workers that hands tasks to child processes
 * through shared-memory mailboxes.
 *
 * Conventions, for every call below:
 *  - returns 0 or -errno; dw_strerror_last() has the text of the calling
 *    thread's last error, naming the object, the value and what would be right;
 *  - outputs are the last parameters and are written only on success;
 *  - structs that begin with their size grow in later versions, at their end: initialise them with
 *    DW_OPTIONS(). Zero is the default of each field. A program and a library of different versions
 *    understand each other: fields that one of them does not know are zero for the other. Only a
 *    field that the library does not know and that is set is an error, -E2BIG; a size that was
 *    never set is -EINVAL or -E2BIG. Arrays of structs that may grow have the size of an element
 *    beside their count;
 *  - nothing is printed, no signal handler is installed, and the process is
 *    never ended by the library;
 *  - descriptors of the library's own lie above 2, also where 0, 1 or 2 are closed;
 *  - strings that are passed in are copied; pointers that are returned belong to
 *    the object that returned them and live as long as it does.
 *
 * Names, and their limits in bytes without the NUL. A longer one is -ENAMETOOLONG at the call that
 * is given it.
 *
 *   Workers 47, no '/'; with the paths in front of them 80, checked at init
 *   functions, tasks, entries of images  255
 *   symbols                              4,095, and as much for the path of their file
 *   chip drivers 31 letters, digits, - and _; or a path of 4,095, with a '/'
 *   options of chip drivers              65,535; those of this library: keys 31, values 4,095
 *   paths of images, DW_TRACE, DW_GRAPH  4,095
 *
 * Any byte may be in them but what is said here; texts show UTF-8. Names are kept whole. Where a
 * text has no room for one it is shortened in its middle, and a text that is too long ends with
 * "…", both between two characters.
 *
 * Threads. "Any thread" means any thread of the process that made the object.
 *
 *   dw_worker_create, dw_worker_add_child,
 *   dw_worker_init, dw_worker_close, dw_worker_destroy   one thread at a time per tree
 *   dw_worker_run, dw_worker_start, dw_worker_cancel,
 *   dw_worker_interrupt, dw_run_*, dw_buffer_*,
 *   dw_chip_memory_*, dw_callable_*, dw_graph_*          any thread
 *   dw_log_set                                           any thread but that of a log callback
 *   dw_submit, dw_submit_group, dw_alloc, dw_scope_*,
 *   dw_submit_copy, dw_orch_*, dw_chip_alloc,
 *   dw_chip_free, dw_record_*, dw_replay                 the thread that runs the orchestration
 *                                                        function to which the dw_orch was given
 *   dw_task_cancelled, dw_task_fail                      the thread that runs the callable
 *   dw_worker_chip_id, dw_worker_stats,
 *   dw_worker_engine_stats, dw_worker_report             any thread
 *   dw_tree_*                                            any thread, one at a time per dw_tree
 *   dw_args_*                                            any thread, one at a time per dw_args
 *   dw_tensor_*, dw_dtype_*, dw_provider_query,
 *   dw_version, dw_strerror_last, dw_fork_hooks_*,
 *   dw_host_examine                                      any thread
 *   dw_node_serve, dw_launch_serve                       a thread for as long as it serves
 *   dw_launch_create, dw_launch_rank, dw_launch_size,
 *   dw_launch_host, dw_launch_host_from,
 *   dw_launch_output, dw_launch_destroy                  any thread, one at a time per dw_launch
 *
 * Fork. Workers, runs and Orchestrators belong to the process that made them. In a child of
 * fork() that is not one of the library's own every call that takes one gives -EBADFD
 * (dw_orch_worker_count() and dw_orch_sub_count() 0, dw_orch_worker() NULL, and
 * dw_worker_destroy() does nothing). The other calls work there, on the child's own copy of
 * arguments, tensors and dw_trees. A process that the application forks after init has neither the
 * buffers nor the memory of dw_alloc(): touching them is a SIGSEGV. It does have the memory of
 * dw_buffer_register(). A process that is forked before init has every buffer.
 *
 * Processes. From init to close the calling process has one child of the library's for each of its
 * Workers in DW_PROCESS mode. That child ends at close and not before. Wait for your own children
 * by pid (waitpid(pid, …)): `while (wait(NULL) > 0)` waits for the library's child as well. The
 * application may ignore SIGCHLD, and may reap the library's child after it has ended: nothing is
 * lost.
 *
 * Exceptions, of C++ and other languages. An exception that leaves a callable or a chip driver ends
 * its process by std::terminate(). A child's task then fails as after any death (SIGABRT), and the
 * exception's text is on stderr. In DW_THREAD mode, and in the function of dw_worker_start(), that
 * process is the application. An exception that leaves the orchestration function of
 * dw_worker_run() passes through to the caller: the run skips the tasks that have not started,
 * waits for the others, and leaves nothing behind. The same holds for pthread_exit() and
 * pthread_cancel() of that thread; longjmp() must not leave any function that the library has
 * called. Callbacks for progress, for the log, and around forks must not throw.
 *
 * Environment. DW_LOG, DW_PROVIDER, DW_TRACE, DW_GRAPH, DW_CHIP_PATH, DW_HOST_KEY and DW_NET are
 * not read in a program that has more rights than its user (set-uid, set-gid, file capabilities:
 * secure_getenv(3)).
 *
 * Children. dw_worker_init() forks the children. It forks later replacements from a copy of the
 * process as it was at init. A child has the memory of the process, its descriptors (also those
 * that close on exec), its signal mask, its ignored signals, the default action for every other
 * signal, and empty buffers of stdout and stderr. Flush other streams before init: a child that
 * writes to such a stream writes the contents of its buffer again. Descriptors and mappings that
 * are made after init reach no child.
 *
 * OpenMP. Threads do not survive a fork. If the process has run a parallel region of gcc's libgomp
 * before dw_worker_init(), a parallel region in a child process waits for threads that do not
 * exist, until the task's deadline ends it. Run the first region after init; or use LLVM's libomp,
 * which starts new threads in a child; or use DW_THREAD. Regions that run only in tasks work with
 * both.
 */
#ifndef DISTWORKER_H
#define DISTWORKER_H

#include <stddef.h>
#include <stdint.h>

/* Heaps and arenas are reserved as address space: 8 GiB by default. */
#if UINTPTR_MAX < UINT64_MAX
#error "distworker needs a 64-bit target: pointers of this one have fewer bits (-m32, -mx32?)"
#endif

/* A struct with its size set and everything else zero: the defaults. */
#ifdef __cplusplus
template <typename type> inline type dw_options()
{
	type options = type();

	options.size = sizeof(options);
	return options;
}
#define DW_OPTIONS(type) (dw_options<struct type>())
#else
#define DW_OPTIONS(type) ((struct type){ .size = sizeof(struct type) })
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifdef DW_BUILDING_LIBRARY
#define DW_API __attribute__((visibility("default")))
#else
#define DW_API
#endif

struct dw_worker;	/* one node of the hierarchy */
struct dw_orch;		/* the Orchestrator of one run */
struct dw_run;		/* a run in flight */

/* ------------------------------------------------------------------ tensors */

/* Element types. 0–8 have the reference system's numbers; our own begin at 64. */
enum dw_dtype {
	DW_FLOAT32 = 0, DW_FLOAT16 = 1, DW_INT32 = 2, DW_INT16 = 3, DW_INT8 = 4,
	DW_UINT8 = 5, DW_BFLOAT16 = 6, DW_INT64 = 7, DW_UINT64 = 8,
	DW_FLOAT64 = 64, DW_UINT16 = 65, DW_UINT32 = 66, DW_BOOL = 67,
};

#define DW_TENSOR_MAX_DIMS 5

/*
 * A contiguous block of elements: [data, data + product of shape[0 … ndims-1] × element size). A
 * block of a row-major matrix is none: store the matrix tile by tile, as tools/jobs/cholesky.c has
 * it. 0 dimensions is one element. 40 bytes, the same on the wire.
 */
struct dw_tensor {
	uint64_t data;				/* address; 0: see DW_OUTPUT */
	uint32_t shape[DW_TENSOR_MAX_DIMS];	/* elements per dimension */
	uint32_t ndims;				/* 0 … 5 */
	uint8_t dtype;				/* enum dw_dtype */
	uint8_t reserved[7];			/* 0 */
};

/* The use that a task makes of a tensor. */
enum dw_tag {
	DW_INPUT = 0,		/* reads: after the last writers of each byte */
	DW_OUTPUT = 1,		/* overwrites: after readers and writers; address 0: allocated */
	DW_INOUT = 2,		/* reads and writes */
	DW_OUTPUT_EXISTING = 3,	/* overwrites without waiting; the caller vouches for it */
	DW_NO_DEP = 4,		/* no dependency at all */
};

/* Bytes per element, or 0 for an unknown type. */
DW_API size_t dw_dtype_bytes(int dtype);
/* Name as in C headers ("float32"), or "unknown". */
DW_API const char *dw_dtype_name(int dtype);
/* Number of bytes of a tensor; -EINVAL for an unknown type, ndims > 5, or overflow. */
DW_API int dw_tensor_bytes(const struct dw_tensor *tensor, uint64_t *bytes);
/* Fills a tensor. `shape` has `ndims` entries. -EINVAL as above. */
DW_API int dw_tensor_init(struct dw_tensor *tensor, void *data, int dtype,
			  const uint32_t *shape, uint32_t ndims);
/* The elements [first, first + count) of dimension 0: a view, no copy. -ERANGE. */
DW_API int dw_tensor_slice(const struct dw_tensor *tensor, uint32_t first, uint32_t count,
			   struct dw_tensor *view);

/* ---------------------------------------------------------------- arguments */

/* The arguments of one task; the calls: args.h. */
struct dw_args;

/* Carried by value with every task, the same at every level. 20 bytes. */
struct dw_config {
	/* Of a chip task; 0: the driver's default, which `distworker chips` shows. */
	int32_t block_dim;		/* cores (work-groups) */
	int32_t aicpu_thread_num;	/* scheduling threads of the chip */
	uint32_t flags;			/* DW_CONFIG_*; others: EINVAL */
	uint32_t reserved[2];		/* 0 */
};

#define DW_CONFIG_PROFILING	(1u << 0)
#define DW_CONFIG_DUMP_TENSOR	(1u << 1)

/* ---------------------------------------------------------------- callables */

/* One value for the whole tree; 0 is never valid. */
typedef uint64_t dw_callable;

/*
 * Functions return 0 or -errno. An error fails the task; dw_task_fail() gives
 * it a text. The arguments are valid until the function returns.
 */
typedef int dw_orch_fn(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context);
typedef int dw_sub_fn(const struct dw_args *args, void *context);

enum dw_symbol_kind { DW_SYMBOL_ORCH = 1, DW_SYMBOL_SUB = 2 };

/* Direction of an argument of a chip callable. */
enum dw_direction { DW_DIR_SCALAR = 0, DW_DIR_IN = 1, DW_DIR_OUT = 2, DW_DIR_INOUT = 3 };

/*
 * Functions: before dw_worker_init() of the root; the context pointer must make sense in the child
 * (memory from before the fork, or the arena). Register them on the Worker whose children run them,
 * or on any Worker above it: a Worker's callables are known in its whole subtree. -EBUSY after
 * init, -EEXIST for a name that is taken, -ENAMETOOLONG.
 *
 * A function must not call exec. With the module, the library then kills the process, and the task
 * fails as after any death; with futexes only a deadline ends the task.
 */
DW_API int dw_callable_register_orch(struct dw_worker *worker, const char *name,
				     dw_orch_fn *fn, void *context, dw_callable *callable);
DW_API int dw_callable_register_sub(struct dw_worker *worker, const char *name,
				    dw_sub_fn *fn, void *context, dw_callable *callable);
/*
 * A symbol of a shared object, "path/libjob.so:name", at any time. Its build-id identifies the
 * file, or else its content. Children load the file on first use and refuse one that has changed.
 * When the call returns, every child of the tree knows the symbol. While another thread is in
 * dw_worker_init(), the call waits for that to end. The same content under the same name has the
 * same handle. -ENOENT, -ELIBBAD (no ELF object), -ESRCH (no such symbol), -EEXIST (another kind,
 * or a changed file: unregister that first), -ENAMETOOLONG. Only in the root's process: -EINVAL in
 * an orchestration function of a nested Worker that is a process; the same for images.
 */
DW_API int dw_callable_register_symbol(struct dw_worker *worker, const char *symbol,
				       enum dw_symbol_kind kind, dw_callable *callable);
/*
 * A chip image for one driver, at any time. `entry` is the kernel or the
 * orchestration entry in it; `signature` has one direction per argument, tensors
 * first and then scalars (NULL: as the driver's image format says).
 */
struct dw_image_options {
	size_t size;
	/* "sim", "opencl", "pto", …, or a path, as in dw_chip_options */
	const char *driver;
	const char *entry;
	const void *data;		/* the image, or NULL: read `path` */
	size_t bytes;
	const char *path;
	const int32_t *signature;	/* enum dw_direction */
	size_t signature_count;
};
DW_API int dw_callable_register_image(struct dw_worker *worker,
				      const struct dw_image_options *options,
				      dw_callable *callable);
/*
 * Waits until no task uses the callable; later submits get -ESTALE. It also waits for the tasks
 * before that in a nested Worker's process and, for an image, on a chip, since those may use the
 * callable as well. -ENOENT: no such callable. -ETIMEDOUT: a chip's driver did not unload the image
 * within init_timeout_ns. The chip's process is then killed; a thread goes on. -EDEADLK: a callable
 * of this tree makes the call (in DW_THREAD mode), and its own task could be among those that are
 * waited for; the same for dw_callable_register_symbol() and dw_callable_register_image(), whose
 * message would wait behind that task.
 */
DW_API int dw_callable_unregister(struct dw_worker *worker, dw_callable callable);
/*
 * The same for at most `timeout_ns` (UINT64_MAX: without limit). -ETIMEDOUT: later submits already
 * get -ESTALE, but tasks or children still use the callable: its code, context and memory must
 * stay. Call this or dw_callable_unregister() again to wait for the rest. Until one of them has
 * returned 0, the name is free already, and an image's memory is still allocated.
 */
DW_API int dw_callable_unregister_for(struct dw_worker *worker, dw_callable callable,
				      uint64_t timeout_ns);
/* The handle of the callable that has this name on this Worker or on one above it. -ENOENT. */
DW_API int dw_callable_find(struct dw_worker *worker, const char *name, dw_callable *callable);

/* ------------------------------------------------------------------ workers */

/*
 * How children run. A process is isolated: a crash fails its task, a hang ends at the deadline with
 * a kill, and neither harms anything else. A thread is for callables and drivers that are known to
 * be safe: a crash ends the application. The library cannot kill a thread; it tells the callable of
 * a deadline or a cancel (dw_task_cancelled). A thread that has not returned 0.5 s after its
 * deadline is left alone. Its task fails with ETIMEDOUT, its other tasks go to other workers, and
 * it gets no more tasks until it returns (-ENODEV where no other worker is left). Memory that it
 * may still write stays reserved: a task with a tensor there is -EBUSY, and a buffer there must not
 * be freed.
 */
enum dw_mode { DW_PROCESS = 0, DW_THREAD = 1 };
enum dw_provider { DW_PROVIDER_AUTO = 0, DW_PROVIDER_KERNEL = 1, DW_PROVIDER_FUTEX = 2 };
enum dw_restart { DW_RESTART_NEVER = 0, DW_RESTART_ON_DEATH = 1 };
enum dw_placement { DW_PLACE_NONE = 0, DW_PLACE_TOPOLOGY = 1 };

#define DW_LEVEL_CHIP 2
#define DW_LEVEL_NODE 3
#define DW_LEVEL_POD 4
#define DW_LEVEL_SUPERNODE 5
#define DW_LEVEL_CLUSTER 6

struct dw_chip_options {
	const char *driver;	/* name in the driver folder or in DW_CHIP_PATH, or a path */
	uint32_t device;	/* device id of the driver */
	const char *options;	/* "key=value,…" of the driver, or NULL */
};

/*
 * Times are in ns on CLOCK_MONOTONIC. A deadline leaves out the time in which the watching process
 * could not run either: a frozen control group, a paused virtual machine, SIGSTOP to the whole
 * tree. After such a stop, at least half of the time that was left before it remains. A child that
 * is stopped while its parent runs counts as one that hangs: its deadlines end it, and the texts
 * name the signal that has stopped it.
 */
struct dw_worker_options {
	size_t size;
	/* in paths and messages; default "node0", "pod0", … by level and id */
	const char *name;
	uint32_t subs;			/* number of sub workers */
	uint32_t chip_count;
	const struct dw_chip_options *chips;
	size_t chip_size;		/* of one of them: sizeof(struct dw_chip_options) */
	enum dw_mode mode;		/* of the children of this Worker */
	/* AUTO: DW_PROVIDER from the environment, else the module if it is there, else futex */
	enum dw_provider provider;
	/*
	 * Each of 4 rings; default 1 GiB, reserved, not populated. This and arena_bytes are whole
	 * pages of this machine.
	 */
	uint64_t heap_ring_bytes;
	uint64_t arena_bytes;		/* buffers and large arguments; default 4 GiB, reserved */
	uint32_t mailbox_depth;		/* frames per ring, a power of two; default 64 */
	uint32_t frame_bytes;		/* default 512; larger arguments go through the arena */
	uint64_t timeout_ns;		/* default deadline of a task; 0: none */
	uint64_t heap_timeout_ns;	/* default 10 s */
	uint64_t init_timeout_ns;	/* default 30 s */
	uint64_t close_timeout_ns;	/* default 5 s, then children are killed */
	enum dw_restart restart;
	/* deaths of one child in 60 s that end in giving up; default 5 */
	uint32_t restart_limit;
	enum dw_placement placement;
	/*
	 * 1: a nested task fails with EACCES if it touches memory that its parent task did not
	 * declare
	 */
	uint32_t check_declared;
	/*
	 * A child Worker on another host: "name", "name:port", "[IPv6]:port"; the port's default
	 * is 7733. NULL: this host. A node serves there (dw_node_serve()), and the Worker and all
	 * below it run there. Its parent's mode is DW_PROCESS. See docs/hosts.md.
	 */
	const char *host;
	/* without an answer from the host's kernel for so long it counts as dead; default 5 s */
	uint64_t host_timeout_ns;
	/* tensors of tasks that are on their way to it, or run there; default 256 MiB */
	uint64_t host_window_bytes;
	/*
	 * A file with the key that the node has, too: 16 to 4,096 bytes that no other user may
	 * read. NULL: DW_HOST_KEY in the environment names it, or this process is a node and uses
	 * its own.
	 */
	const char *host_key;
};

/*
 * `level` is 3 … 6; `options` may be NULL: the defaults. -EINVAL names the option that makes no
 * sense; -ENAMETOOLONG.
 */
DW_API int dw_worker_create(uint32_t level, const struct dw_worker_options *options,
			    struct dw_worker **worker);
/*
 * `child` becomes worker `*id` of `parent`, which owns it from now on; `id` may be NULL.
 * -EINVAL: level not below the parent's; -EBUSY: either is initialised, or the
 * child has buffers; -EEXIST: the child has a parent, or its name is that of another child of this
 * parent, which may be a default name ("node1"), a sub worker's ("sub0") or a chip's ("chip0");
 * -ELOOP: it is an ancestor.
 */
DW_API int dw_worker_add_child(struct dw_worker *parent, struct dw_worker *child, uint32_t *id);
/* Ids of the chips of a Worker: chip i of its options is worker *id. -ERANGE. */
DW_API int dw_worker_chip_id(const struct dw_worker *worker, uint32_t chip, uint32_t *id);
/*
 * Brings the whole tree up, or nothing: on an error it takes everything down again, and
 * dw_strerror_last() gives the first cause with its path. The Worker is then as it was before the
 * call, with its callables, buffers and registered memory. It may be changed and initialised again.
 * A Worker without sub workers, chips and child Workers comes up too; every task that is submitted
 * to it fails with -ENODEV. -EINVAL: a child; -EBUSY: it was initialised before, or a thread of a
 * failed init has not ended yet; -ENAMETOOLONG: a path of more than 80 bytes; -ETIMEDOUT: a child
 * was not ready after init_timeout_ns; else the errno of the cause.
 */
DW_API int dw_worker_init(struct dw_worker *root);

/* The child that a start hook runs in. */
struct dw_child_start {
	size_t size;
	const char *path;		/* "pod0/node1/sub0" */
	uint32_t kind;			/* enum dw_child_kind */
	uint32_t mode;			/* enum dw_mode: a process or a thread */
	uint32_t generation;		/* 1; its replacements count up */
};
/*
 * Functions that the library calls around its forks, for state that does not survive a fork by
 * itself: an interpreter's locks, a thread pool, a log's buffer, random numbers. They hold for the
 * whole process, for all its trees, and for every process that is forked from it later. Each
 * function may be NULL.
 *
 * prepare, parent, child: around every fork that the library makes, as those of pthread_atfork()
 * (which are called as well): prepare just before, in the thread that forks, the last hooks added
 * first; then parent there, also if the fork has failed, and child in the new process, the first
 * hooks added first. The library's forks are those of dw_worker_init(), in its caller's thread, of
 * one process for each Worker in DW_PROCESS mode; and those of that process, for every child and
 * every replacement.
 * start: in every child, a process or (DW_THREAD) a thread, in the thread that will run its
 * callables, before its driver is loaded and before its first task. An error is the child's: init
 * fails, and a replacement that cannot start counts as dead; dw_task_fail() gives it a text.
 *
 * Hooks hold up init, and end by themselves; they call nothing of this library but dw_task_fail(),
 * and nothing that needs another thread in child. They are called without locks of the library's.
 */
struct dw_fork_hooks {
	size_t size;
	void (*prepare)(void *context);
	void (*parent)(void *context);
	void (*child)(void *context);
	int (*start)(const struct dw_child_start *start, void *context);
	void *context;
};
/*
 * Adds a copy behind the hooks that are there. While a tree is up, too: its children and their
 * replacements, which are forked from a copy of this process, do not have it. -EINVAL: no function
 * is set; -ENOMEM.
 */
DW_API int dw_fork_hooks_add(const struct dw_fork_hooks *hooks);
/*
 * The last ones that are the same in all fields; a fork that is in progress still calls them.
 * -ENOENT.
 */
DW_API int dw_fork_hooks_remove(const struct dw_fork_hooks *hooks);

/*
 * Runs `fn` with an Orchestrator of this Worker and returns when every task that
 * it submitted is final: 0 or the first error ("pod0/node1/sub0: task 17 "verify" (check_row):
 * EIO: short read": the name of the task, if it has one, and that of its callable). If a worker
 * dies, its task becomes final when nothing of that worker can write any more: the memory is then
 * the caller's again. That includes the devices of chips. A sub function must itself wait for the
 * devices that it uses. May be called again and again, from any thread; also within an
 * orchestration function of the same tree; that function's tasks go on meanwhile. -EDEADLK: within
 * a callable that is a task of this Worker or of one below it (in DW_THREAD mode): the run could
 * need the very child that waits for it. -EINVAL: `fn` is NULL, or `config` makes no sense;
 * -ENOTCONN: the Worker is not initialised, or closed; -ESHUTDOWN: it is being closed.
 */
DW_API int dw_worker_run(struct dw_worker *root, dw_orch_fn *fn, const struct dw_args *args,
			 const struct dw_config *config, void *context);
struct dw_run_options {
	size_t size;
	uint64_t timeout_ns;		/* deadline of the run; 0: none */
	/*
	 * Called when tasks were submitted or have become final (done, failed, skipped) since the
	 * last call, at the earliest 20 ms after that has returned; and once more, with the final
	 * counts, when all are final. The counts never decrease. A thread that the library keeps
	 * for this alone makes the calls, one at a time, without a lock and with all signals
	 * blocked: a slow callback delays only its own next call and the end of its run
	 * (dw_run_wait() and dw_worker_close() return after the last call has returned). It may
	 * make every call that any thread may make, but must not wait for its own run, nor close or
	 * destroy the tree (-EDEADLK). NULL: no thread, no cost.
	 */
	void (*progress)(uint64_t submitted, uint64_t finished, void *context);
	void *progress_context;
	/*
	 * 1: dw_worker_start() calls `fn` itself, in the calling thread, and returns when the run
	 * has ended, or when dw_worker_interrupt() has ended its wait: the run then goes on in a
	 * thread of the library. -EDEADLK as dw_worker_run().
	 */
	uint32_t here;
};
/*
 * The same without blocking: a thread of the library calls `fn`, unless `here` is set. `args` must
 * live until the run has ended. The caller owns the run and gives it back once, by dw_run_wait()
 * or dw_run_detach(). A run may outlive its Worker. Errors as above; -EAGAIN: no thread can be
 * had.
 */
DW_API int dw_worker_start(struct dw_worker *root, dw_orch_fn *fn, const struct dw_args *args,
			   const struct dw_config *config, void *context,
			   const struct dw_run_options *options, struct dw_run **run);
/*
 * Waits for the end of a run, returns its result as dw_worker_run() does, and frees the run.
 * -EINVAL: NULL. -EDEADLK: the run cannot end before this call does: its own orchestration function
 * or progress callback makes the call, or it waits, through other runs, for the caller's run. The
 * caller then keeps the run. A wait with a deadline does not count, since it ends.
 */
DW_API int dw_run_wait(struct dw_run *run);
/*
 * Waits for the end for at most `timeout_ns` (UINT64_MAX: without limit). 0: the run has ended;
 * -ETIMEDOUT: it goes on. Neither frees the run nor tells its result: dw_run_wait() does both, and
 * returns at once when the run has ended. -EINVAL, -EDEADLK as above.
 */
DW_API int dw_run_wait_for(struct dw_run *run, uint64_t timeout_ns);
/* The same without waiting. 0: the run has ended; -EAGAIN: it goes on. */
DW_API int dw_run_test(struct dw_run *run);
/*
 * For event loops: a descriptor that becomes readable (POLLIN) when the run ends, and stays so. The
 * same one each time; it may be asked for before the end and after it. It belongs to the run, which
 * closes it when it is freed: take it out of the event loop before dw_run_wait() or
 * dw_run_detach(). Do not write to it; a read is not needed, and changes nothing. Closes on exec.
 * -EMFILE, -ENFILE.
 */
DW_API int dw_run_fd(struct dw_run *run, int *fd);
/*
 * Gives the run back without waiting: it goes on, and frees itself when it ends. Its result and its
 * errors are lost, and `args` must live until dw_worker_close() has returned. dw_worker_close()
 * waits for such a run as for every other. -EINVAL: NULL.
 */
DW_API int dw_run_detach(struct dw_run *run);

/*
 * One error of a run. Names and texts that are too long are shortened, as the head of this file
 * says.
 */
struct dw_run_error {
	size_t size;
	/*
	 * The number of the task within the run, from 1. 0: the run itself has failed (its function
	 * returned an error, its deadline passed, or it was cancelled).
	 */
	uint64_t task;
	int32_t error;			/* -errno */
	uint32_t attempts;		/* that the task had; 0: no task */
	char name[64];			/* of the task; "": it has none */
	char callable[64];		/* of the task */
	char path[96];			/* of the child that ran the task, or of the Worker */
	/* the whole, as dw_strerror_last() gives it of a first error */
	char text[512];
};
/*
 * How many errors a run has had so far: one for each task that has FAILED (not for those that were
 * SKIPPED because of it, and not for attempts that were repeated), and those of the run itself.
 * `*kept`: how many of them dw_run_error() can give, the first 64; `kept` may be NULL. `run` NULL:
 * the run that the calling thread's last dw_worker_run() or dw_run_wait() has ended. -EINVAL,
 * -EBADFD.
 */
DW_API int dw_run_error_count(struct dw_run *run, uint64_t *count, uint32_t *kept);
/*
 * Error `index` of a run, in the order in which they were noticed: 0 is the one that dw_run_wait()
 * returns. `run` as above. -ERANGE: that many were not kept; -EINVAL: as dw_run_error_count(), or
 * of the struct.
 */
DW_API int dw_run_error(struct dw_run *run, uint32_t index, struct dw_run_error *error);
/*
 * Skips the tasks that have not started (SKIPPED, ECANCELED), and tells those that run
 * (dw_task_cancelled). A driver's call for dw_chip_alloc() or dw_chip_free() that does not return
 * within 0.5 s is ended as at a deadline. Any thread.
 */
DW_API int dw_run_cancel(struct dw_run *run);
/*
 * Cancels every run of the tree. Any thread; safe to call from a thread that got a signal.
 * -ENOTCONN as above.
 */
DW_API int dw_worker_cancel(struct dw_worker *root);
/*
 * For a thread that got a signal while another thread, which has to act on it, is in a run with
 * `here`. In each such run of the tree the call that waits, or the next one that would wait, ends
 * early, once: dw_submit(), dw_submit_group(), dw_submit_copy(), dw_alloc(), dw_orch_wait() and
 * dw_orch_wait_task() with -ERESTART, having done nothing, so that they can be called again (of a
 * copy's two tasks the first may have been submitted); dw_worker_start() as `here` says. A task's
 * own -ERESTART is -EINTR in these waits. Other runs do not notice. Any thread. -ENOTCONN as above.
 */
DW_API int dw_worker_interrupt(struct dw_worker *root);
/*
 * Takes the whole tree down; safe at any time after create, and more than once. It takes at most
 * about close_timeout_ns: then it kills the children that are still busy, and the error
 * (-ETIMEDOUT) names first the runs that have not ended and then those children. Idle children get
 * a quarter of close_timeout_ns to leave, and at least 200 ms, even if the runs took all the time.
 * The object stays until dw_worker_destroy(). -EDEADLK, and nothing is changed: an orchestration
 * function, a progress callback or a callable of this tree makes the call, and would wait for
 * itself.
 */
DW_API int dw_worker_close(struct dw_worker *root);
/*
 * Closes if need be and frees the root with everything below it. NULL is fine. Of a child Worker,
 * which its root owns, the call only sets dw_strerror_last(). A thread of DW_THREAD mode or an
 * orchestration function that has not ended before close_timeout_ns cannot be killed and still uses
 * the tree: the whole tree then stays allocated, for good. Within an orchestration function, a
 * progress callback or a callable of this tree it does nothing but set the text of
 * dw_strerror_last().
 */
DW_API void dw_worker_destroy(struct dw_worker *root);

/* ------------------------------------------------------------------- submit */

/* Identifies a task within its run; 0 is none. */
typedef uint64_t dw_task;

/*
 * The place of a task, a field of its options: 0 is any worker, and id + 1 the worker with that
 * id. Where ids themselves are listed, DW_ANY stands for any worker; DW_PLACE(DW_ANY) is 0.
 */
#ifdef __cplusplus
#define DW_PLACE(id) (static_cast<uint32_t>(id) + 1u)
#else
#define DW_PLACE(id) ((uint32_t)(id) + 1u)
#endif
#define DW_ANY UINT32_MAX
#define DW_PRIORITY_MIN (-8)
#define DW_PRIORITY_MAX 7

struct dw_submit_options {
	size_t size;
	const char *name;		/* for messages and traces */
	/* 0: any worker; DW_PLACE(id): a next-level Worker or a chip */
	uint32_t place;
	/*
	 * further attempts; only for callables that are safe to repeat: the next one may run while
	 * a host that was cut off goes on with the last, for up to its host_timeout_ns
	 */
	uint32_t retries;
	uint64_t timeout_ns;		/* deadline once started; 0: the Worker's */
	struct dw_config config;
	const dw_task *after;		/* explicit edges */
	size_t after_count;
	/* of ready tasks the highest goes first, and overtakes at most 4,096 later ones per step */
	int32_t priority;
};

/*
 * Submits one task: an orchestration to a nested Worker, an image to a chip, a
 * sub function to a sub worker. `options` may be NULL, `task` too. Blocks while the heap is full,
 * and while 8,192 tasks of the run are not final. That bounds the memory of a run, except for 32 to
 * 64 bytes for each task that has failed or was skipped. When the call fails, nothing is queued:
 *  -EINVAL a field that makes no sense, or an image whose signature writes what a tag calls INPUT
 *  (chips with memory of their own); -ENOENT, -ESTALE the callable is unknown
 *  or was unregistered; -EFAULT a tensor lies outside the arena; -EACCES see check_declared;
 *  -ENODEV no worker can take it; -EDEADLK, -ENOBUFS, -ENOSPC heap, see dw_alloc();
 *  -E2BIG the arguments need more than 4 GiB; -ENAMETOOLONG; -ENOMEM; -ECANCELED the run is
 *  cancelled.
 */
DW_API int dw_submit(struct dw_orch *orch, dw_callable callable, struct dw_args *args,
		     const struct dw_submit_options *options, dw_task *task);
/*
 * A group: `members` tasks of one callable that run at the same time on different workers; one node
 * of the graph. `workers` has one id or DW_ANY per member, or is NULL: any; options->place is 0.
 * -ENODEV when fewer workers live than there are members; -EINVAL when members on chips with memory
 * of their own share bytes that one of them writes; else as dw_submit().
 */
DW_API int dw_submit_group(struct dw_orch *orch, dw_callable callable, struct dw_args *const *args,
			   size_t members, const uint32_t *workers,
			   const struct dw_submit_options *options, dw_task *task);
/*
 * An intermediate tensor that lives until its scope has ended and its last user is done. Blocks
 * while the heap is full. -EINVAL as dw_tensor_init(); -EDEADLK: only this function's own open
 * scope could make room; -ENOBUFS: nothing was given back for heap_timeout_ns; -ENOSPC: it is
 * larger than a heap ring; -ENOMEM; -ECANCELED.
 */
DW_API int dw_alloc(struct dw_orch *orch, int dtype, const uint32_t *shape, uint32_t ndims,
		    struct dw_tensor *tensor);
/* Up to 64 deep. scope_end does not block. -EOVERFLOW, -EINVAL (no scope open), -ENOMEM. */
DW_API int dw_scope_begin(struct dw_orch *orch);
DW_API int dw_scope_end(struct dw_orch *orch);
/* Waits until every task that was submitted so far is final; the first error of the run, or 0. */
DW_API int dw_orch_wait(struct dw_orch *orch);
/*
 * Waits until one task of this run is final, whatever the others do, and returns its own result: 0,
 * or the error of its callable; -ECANCELED when it was skipped, with a text that names the task
 * that failed before it. May be called again. -EINVAL: `task` is 0, or no task of this run.
 */
DW_API int dw_orch_wait_task(struct dw_orch *orch, dw_task task);
/* How many workers this Orchestrator has; 0 when `orch` is NULL or another process's. */
/* next-level Workers and chips */
DW_API uint32_t dw_orch_worker_count(const struct dw_orch *orch);
DW_API uint32_t dw_orch_sub_count(const struct dw_orch *orch);
/* As dw_callable_find() on the Worker that this Orchestrator belongs to. -ENOENT. */
DW_API int dw_orch_find(struct dw_orch *orch, const char *name, dw_callable *callable);
/*
 * The Worker that this Orchestrator belongs to, for dw_chip_memory_*; NULL when `orch` is NULL or
 * another process's.
 */
DW_API struct dw_worker *dw_orch_worker(struct dw_orch *orch);

/* ------------------------------------------------------- inside a callable */

/*
 * Non-zero when the task's run was cancelled, a member of its group died, or its deadline passed.
 */
DW_API int dw_task_cancelled(void);
/* Sets the text of the error that the callable is about to return; returns -error. */
DW_API int dw_task_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------------------- seeing */

/* The text of this thread's last error; never NULL. */
DW_API const char *dw_strerror_last(void);
/* "0.2.0" */
DW_API const char *dw_version(void);

enum dw_log_level { DW_LOG_ERROR = 1, DW_LOG_WARN = 2, DW_LOG_INFO = 3, DW_LOG_DEBUG = 4 };

/*
 * One line of the library's log, without the end of the line. `pid` is the process that it comes
 * from: this one, or a child. The text is valid during the call.
 */
typedef void dw_log_fn(enum dw_log_level level, int32_t pid, const char *text, void *context);
/*
 * Sends the library's log lines up to `level` to `fn` instead of stderr. NULL: to stderr again, up
 * to the level that DW_LOG names (none without it). For the whole process. A thread of the library
 * makes the calls, one at a time, without a lock, in the process that called this: `fn` may block
 * and may call the library. Children that are forked by a later dw_worker_init() send their lines
 * here; children that exist already go on as before. The library never waits for its log: it drops
 * lines that come faster than `fn` or stderr takes them, and a later line says how many. Lines from
 * before the first dw_worker_init() are kept until then. When the call returns, the old `fn` has
 * had every line that was logged before the call, and is not called any more. -EINVAL: no such
 * level; -EDEADLK: the call is made by a log callback; -EMFILE, -ENFILE, -EAGAIN.
 */
DW_API int dw_log_set(dw_log_fn *fn, void *context, enum dw_log_level level);

enum dw_child_kind { DW_CHILD_SUB = 0, DW_CHILD_CHIP = 1, DW_CHILD_WORKER = 2 };

struct dw_child_stats {
	char path[96];			/* "pod0/node1/chip0" */
	uint32_t kind;			/* enum dw_child_kind */
	uint32_t level;			/* of the child: 2 for chips, 0 for sub workers */
	int32_t pid;			/* 0: none (a thread's is the process's) */
	uint32_t alive;
	uint64_t tasks_done, tasks_failed, tasks_skipped;
	uint64_t busy_ns;		/* time spent in callables */
	uint64_t wakes;			/* wake-ups that the parent paid for it */
	uint64_t sleeps;		/* times that it slept */
	uint64_t cpu_ns;		/* user and system time of the process (of the thread) */
	/*
	 * Of a chip, by its driver's count, up to date when a task or call has ended; 0: unknown.
	 * The last three also of a Worker on another host: its host is the device.
	 */
	uint64_t memory_used;		/* bytes of device memory in use */
	uint64_t memory_bytes;		/* that the device has */
	uint64_t copied_in, copied_out;	/* bytes, host to device and back, over all its lives */
	uint64_t saved;			/* bytes that were not copied, since the device had them */
	/* Of a Worker on another host, up to date when a task has ended; "" and 0 of all others. */
	char host[96];			/* as dw_worker_options.host names it */
	char address[64];		/* to which its connection leads: "10.0.0.7:7733" */
	/*
	 * A message there and its answer, without the time there: the shortest of the
	 * last 64 to 128 tasks, or of the handshake. No message is sent for it.
	 */
	uint64_t round_trip_ns;
	uint64_t window_used;		/* bytes of the tasks that are there, or on their way */
	uint64_t window_bytes;		/* the most: dw_worker_options.host_window_bytes */
};
/*
 * Counters of the whole tree below `worker`, the subtrees of other processes
 * included: `*count` in: entries of `stats`, each of `size` bytes (sizeof(*stats)); out: children
 * there are. -ENOTCONN: never initialised.
 */
DW_API int dw_worker_stats(struct dw_worker *worker, struct dw_child_stats *stats, size_t size,
			   size_t *count);

struct dw_engine_stats {
	size_t size;
	uint64_t submitted, done, failed, skipped, retried;
	uint64_t parent_sleeps;		/* times that this Worker's threads slept */
	uint64_t parent_wakes;		/* wake-up calls that this Worker paid */
	uint64_t heap_used, heap_peak;	/* bytes, all rings */
	uint64_t deaths, restarts;
	uint32_t provider;		/* enum dw_provider that is in use */
};
/*
 * Of this Worker alone. -ENOTCONN: not initialised, or a nested Worker that is a process of its
 * own.
 */
DW_API int dw_worker_engine_stats(struct dw_worker *worker, struct dw_engine_stats *stats);

/* Why the module is or is not used, as `distworker info` and `doctor` print it. */
struct dw_provider_info {
	size_t size;
	uint32_t provider;		/* what AUTO chooses now */
	uint32_t module_abi;		/* 0: no module */
	uint64_t module_features;
	char reason[256];		/* one sentence */
};
/*
 * Asks anew each time. Returns the error that a hierarchy would get from DW_PROVIDER; `info` has it
 * as well.
 */
DW_API int dw_provider_query(struct dw_provider_info *info);

#ifdef __cplusplus
}
#endif

#include <distworker/args.h>
#include <distworker/buffer.h>
#include <distworker/chip_memory.h>
#include <distworker/node.h>
#include <distworker/launch.h>
#include <distworker/record.h>
#include <distworker/tree.h>

#endif /* DISTWORKER_H */
