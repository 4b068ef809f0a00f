/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Programs that run on several hosts: the processes that mpirun or srun has started together, or
 * nodes that are started through ssh. One is the root, the others are nodes (node.h).
 * distworker.h includes this file, and has the rules on threads, forks and errors.
 *
 *   dw_launch_create(NULL, &launch);
 *   … create Workers; on rank 0 dw_worker_options.host of some is dw_launch_host(launch, rank) …
 *   … register functions …
 *   if (dw_launch_rank(launch))
 *           return dw_launch_serve(launch, root, NULL);
 *   dw_worker_init(root);
 */
#ifndef DISTWORKER_LAUNCH_H
#define DISTWORKER_LAUNCH_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dw_launch;
struct dw_node_options;

struct dw_launch_options {
	size_t size;
	/*
	 * Hosts to start a node on through ssh, separated by commas: "b", "user@c", "d:7733" (the
	 * port to listen on). NULL: what a launcher has started
	 */
	const char *hosts;
	/*
	 * What is run there: the path of a program, a word, and, to a NULL, what stands behind
	 * "--listen ADDRESS:PORT --key -". Default: distworker node
	 */
	const char *program, *verb;
	const char *const *arguments;
	/* until all are there; default: 30 s */
	uint64_t timeout_ns;
};

/*
 * Meets the processes of the launcher (through PMIx, which it leaves at once), or starts the nodes
 * and waits for their addresses. The key of this process is one of this run alone then, for all
 * Workers and nodes without another. Once in a process.
 *
 * -ENOENT neither hosts nor a launcher: this process is alone; -EPROTONOSUPPORT a launcher
 * without PMIx has started several processes, which cannot find each other; -ENOSYS no
 * libpmix.so.2; -ETIMEDOUT not all were there in time; -EHOSTUNREACH ssh does not get to a host;
 * -ECHILD a node has ended; -EINVAL a host or option that makes no sense, or hosts that one
 * of several processes of a launcher names; -ECONNREFUSED, -EPROTO, -EIO the launcher; -EALREADY;
 * -ENOMEM.
 */
DW_API int dw_launch_create(const struct dw_launch_options *options, struct dw_launch **launch);
/* 0: the root. */
DW_API uint32_t dw_launch_rank(const struct dw_launch *launch);
/* Processes: the root, and the nodes. */
DW_API uint32_t dw_launch_size(const struct dw_launch *launch);
/*
 * For dw_worker_options.host: where rank 1 … size - 1 serves; valid until dw_launch_destroy().
 * NULL: there is no such rank, or this one is not the root.
 */
DW_API const char *dw_launch_host(const struct dw_launch *launch, uint32_t rank);
/*
 * The same for a Worker whose parent is on rank `from` (0: the root), and which that rank's host
 * dials: another address may lead there. -ENOENT: no such ranks, or this one is not the root;
 * -ENETUNREACH: no address of it leads there from other hosts; -ENOSPC: `host` is too small, 300
 * bytes are enough; -EINVAL.
 */
DW_API int dw_launch_host_from(const struct dw_launch *launch, uint32_t rank, uint32_t from,
			       char *host, size_t bytes);
/*
 * What a node that ssh has started prints: non-blocking descriptors of its output and its errors,
 * valid until dw_launch_destroy(). A reader is needed: a node that has filled a pipe waits.
 * -ENOENT: no such node, or a launcher has started it.
 */
DW_API int dw_launch_output(const struct dw_launch *launch, uint32_t rank, int *output,
			    int *errors);
/*
 * On a rank above 0: as dw_node_serve(), but that it listens already and has the key; so `listen`
 * and `key` stay NULL. Returns, too, once the root has closed all Workers here. Without a
 * connection for idle_timeout_ns (default here: 60 s) it returns. -EBUSY: rank 0, or the second
 * call.
 */
DW_API int dw_launch_serve(struct dw_launch *launch, struct dw_worker *worker,
			   const struct dw_node_options *options);
/* Ends nodes that ssh has started. NULL is accepted. */
DW_API void dw_launch_destroy(struct dw_launch *launch);

#ifdef __cplusplus
}
#endif

#endif
