/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Nodes: processes that run Workers of trees whose roots are on other hosts. distworker.h includes
 * this file, and has the rules on threads, forks and errors. docs/hosts.md is the guide.
 *
 * The tree's side is dw_worker_options.host. Both hosts need the same distworker, the same page
 * size and byte order, and the same key.
 */
#ifndef DISTWORKER_NODE_H
#define DISTWORKER_NODE_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dw_node_options {
	size_t size;
	/* "address:port"; default: all addresses of this host, port 7733. Port 0: any free one */
	const char *listen;
	/*
	 * A file with the key, as dw_worker_options.host_key; "-": the first line of standard
	 * input. NULL: DW_HOST_KEY names the file
	 */
	const char *key;
	/*
	 * The user to serve as, for a process that is root: it runs whatever those tell it to who
	 * have the key. NULL: the process's own user, which must not be root
	 */
	const char *user;
	uint32_t sessions;		/* return when so many connections have ended; 0: never */
	/* return when no gateway has been connected for so long; 0: never */
	uint64_t idle_timeout_ns;
	/* tensors of each tree that are kept between tasks; default: half of the memory here */
	uint64_t cache_bytes;
	/* return when this descriptor is readable or at its end; 0: none (dup() that one) */
	int stop_fd;
	/* Called once, when it listens there: "10.0.0.7:7733". May be NULL. */
	void (*listening)(const char *address, void *context);
	void *context;
	/*
	 * A folder for shared objects that this host does not have under the path of a symbol, or
	 * has as another file: they come from home, and stay there for later trees. It belongs to
	 * the user that serves, and no other user may write to it. NULL: such a symbol is refused
	 */
	const char *objects;
};

/*
 * Serves as a node until it is told to leave: each connection gets a process, with the tree that
 * its gateway asks for. `worker` has the functions, which a tree finds by their names: a program
 * with the same main() as the tree's makes its Workers and registers on them as the tree's does,
 * and calls this where that one calls dw_worker_init(). NULL: no functions, but symbols of shared
 * objects, which lie under the same path, or come from home (`objects`).
 *
 * 0: stop_fd, sessions, or idle_timeout_ns; what still runs is ended. -EINVAL a field that makes no
 * sense; -EBUSY the Worker was initialised; -EPERM root without `user`; -ENOKEY, -EACCES the key;
 * -ENOENT no such user, or folder; -ENOTDIR, -EACCES the folder; the errors of bind(); -ENOSYS
 * without libcrypto.so.3.
 *
 * The tree's memory has the addresses here that it has at home. A session whose process has
 * something else there executes its program again, up to 8 times: main() runs again in that
 * process, with the same arguments and environment, and its dw_node_serve() does not return, but
 * serves the connection and ends the process. So a node's main() should do nothing before this
 * call that cannot be done twice.
 *
 * One thread; the process should have no other, since it forks. It belongs to the calling thread
 * until it returns. Public functions may be called by other threads, but not for `worker`.
 */
DW_API int dw_node_serve(struct dw_worker *worker, const struct dw_node_options *options);

enum dw_verdict { DW_VERDICT_OK = 0, DW_VERDICT_WARN = 1, DW_VERDICT_FAIL = 2 };

/* One thing that a connection to a node needs. Texts are valid during the call that gets it. */
struct dw_host_finding {
	size_t size;
	uint32_t verdict; /* enum dw_verdict; FAIL: Workers there will not work */
	const char *subject; /* "name", "port", "key", … */
	const char *text; /* one sentence */
	const char *remedy; /* what to do; "": nothing */
};

struct dw_host_examine_options {
	size_t size;
	/* A file with the node's key. NULL: this process's, or DW_HOST_KEY names the file */
	const char *key;
	const char *user; /* the user that the node should serve as; NULL: any */
	uint64_t timeout_ns; /* for each answer; default: 5 s */
	void (*found)(const struct dw_host_finding *finding, void *context);
	void *context;
};

/*
 * Looks at all that a tree with a Worker on `host` ("name", "name:port") needs, from its name to
 * the program there, and tells `found` of each, in that order; a FAIL ends it where the rest
 * depends on it. The node answers, and no tree is made. 0, whatever is found; -EINVAL: `host` is no
 * name of a host, or a field makes no sense; -ENOMEM. It takes a few answers' time. Any thread.
 */
DW_API int dw_host_examine(const char *host, const struct dw_host_examine_options *options);

#ifdef __cplusplus
}
#endif

#endif
