// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The provider on /dev/distworker: the module provides memory, sleeping, waking and reports of
 * deaths; uapi/linux/distworker.h has the semantics of each call.
 *
 * The hub's mapping is not inherited by children. A child uses the endpoint that was
 * made for it before the fork, and closes the others. Only the kernel writes "asleep".
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "mailbox/provider.h"
#include "task/error.h"

#define DEVICE "/dev/distworker"
#define MODULE_FOLDER "/sys/module/distworker"
/* Without these a hub cannot keep its promises. */
#define FEATURES_NEEDED (DISTWORKER_FEATURE_WAKE_AND_WAIT | DISTWORKER_FEATURE_DEATH | \
			 DISTWORKER_FEATURE_POLL)
/* The kernel's spin knows which threads run: leave the longer waits to it. */
#define USER_SPIN_LIMIT_NS 4000

/* The first of these calls in a process registers for its end, which a signal interrupts. */
static int ioctl_again(int fd, unsigned long request, void *argument)
{
	int result;

	do {
		result = ioctl(fd, request, argument);
	} while (result < 0 && errno == EINTR);
	return result;
}

/* -errno of a call that failed, with `what` in front of the text. */
static int call_failed(const char *what)
{
	int error = -errno;

	return error_set(error, "%s: %s", what, strerror(-error));
}

/* ------------------------------------------------------------------- probe */

static int explain_missing(const char *path)
{
	if (access(MODULE_FOLDER, F_OK) == 0)
		return error_set(-ENOSYS,
				 "the distworker module is loaded, but there is no %s here "
				 "(a container without the device?)",
				 path);
	if (access("/proc/modules", F_OK))
		return error_set(-ENOSYS, "there is no %s: this kernel has no loadable modules",
				 path);
	return error_set(-ENOSYS, "there is no %s: the distworker module is not loaded "
			 "(modprobe distworker)", path);
}

static int explain_denied(const char *path)
{
	struct group group, *found = NULL;
	struct stat status;
	char buffer[1024];

	if (stat(path, &status))
		return error_set(-EACCES, "permission denied on %s", path);
	if (getgrgid_r(status.st_gid, &group, buffer, sizeof(buffer), &found))
		found = NULL;
	if (found)
		return error_set(-EACCES,
				 "permission denied on %s (group %s, mode %04o): be a member "
				 "of that group",
				 path, found->gr_name, status.st_mode & 07777);
	return error_set(-EACCES, "permission denied on %s (group %u, mode %04o): be a member of "
			 "that group", path, status.st_gid, status.st_mode & 07777);
}

static int open_device(const char *path)
{
	int fd = fd_move_up(open(path, O_RDWR | O_CLOEXEC));

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		return explain_missing(path);
	case ENXIO:
	case ENODEV:
		return error_set(-ENOSYS, "%s exists, but the distworker module behind it is not "
				 "loaded (modprobe distworker)", path);
	case EACCES:
	case EPERM:
		return explain_denied(path);
	default:
		return call_failed(path);
	}
}

/* A descriptor of a module that this library understands, or -errno with a text. */
static int open_checked(const char *path, struct distworker_query *query)
{
	struct distworker_query answer = { .size = sizeof(answer) };
	int fd = open_device(path), error;

	if (fd < 0)
		return fd;
	memset(query, 0, sizeof(*query));
	if (ioctl(fd, DISTWORKER_QUERY, &answer)) {
		if (errno == ENOTTY || errno == EINVAL)
			error = error_set(-ENOSYS, "%s is not the device of the distworker module",
					  path);
		else
			error = call_failed(path);
		goto err_close;
	}
	*query = answer;
	if (answer.abi_version != DISTWORKER_ABI_VERSION) {
		error = error_set(-EPROTO,
				  "the distworker module speaks ABI version %u, this library "
				  "version %u: install both from one release",
				  answer.abi_version, DISTWORKER_ABI_VERSION);
		goto err_close;
	}
	if ((answer.features & FEATURES_NEEDED) != FEATURES_NEEDED) {
		error = error_set(-EPROTO, "the distworker module has features %#llx, this library "
				  "needs %#llx", (unsigned long long)answer.features,
				  (unsigned long long)FEATURES_NEEDED);
		goto err_close;
	}
	return fd;

err_close:
	close(fd);
	return error;
}

int kernel_probe(const char *path, struct distworker_query *query)
{
	int fd = open_checked(path, query);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* ----------------------------------------------------------------- objects */

static void kernel_destroy(struct hub *hub)
{
	/* A forked child has no mapping, and something else may lie there. */
	if (hub->memory && getpid() == hub->owner)
		munmap(hub->memory, hub->memory_bytes);
	hub->memory = NULL;
	for (uint32_t i = 0; i < hub->mailboxes; i++) {
		if (hub->fds[i] >= 0)
			close(hub->fds[i]);
		hub->fds[i] = -1;
	}
	if (hub->fd >= 0)
		close(hub->fd);
	hub->fd = -1;
}

static int set_up(struct hub *hub, const struct distworker_query *query)
{
	struct distworker_hub_setup setup = {
		.size = sizeof(setup),
		.mailboxes = hub->mailboxes,
		/* Not rounded up: the room behind it is for the places of the headers. */
		.mailbox_bytes = hub_wanted_bytes(hub),
	};
	void *memory;

	/* Neither places nor timelines are worth a refusal. */
	if (setup.mailbox_bytes > query->max_mailbox_bytes)
		setup.mailbox_bytes = hub->layout.bytes;
	if (query->features & DISTWORKER_FEATURE_TIMELINES &&
	    setup.mailbox_bytes + query->page_bytes <= query->max_mailbox_bytes)
		setup.flags = DISTWORKER_SETUP_TIMELINES;
	if (hub->mailboxes > query->max_mailboxes)
		return error_set(
			-EDQUOT,
			"%u children need a mailbox each; the distworker module's "
			"limit max_mailboxes is %u per hub: raise it (" MODULE_FOLDER
			"/parameters/max_mailboxes, 1024 at most), or use DW_PROVIDER=futex",
			hub->mailboxes, query->max_mailboxes);
	if (hub->layout.bytes > query->max_mailbox_bytes)
		return error_set(
			-EDQUOT,
			"mailbox_depth %u frames of frame_bytes %u need a mailbox of %u "
			"bytes; the distworker module's limit max_mailbox_bytes is %u: take less, "
			"or raise it (" MODULE_FOLDER "/parameters/max_mailbox_bytes), or use "
			"DW_PROVIDER=futex",
			hub->layout.depth, hub->layout.frame_bytes, hub->layout.bytes,
			query->max_mailbox_bytes);
	if (ioctl_again(hub->fd, DISTWORKER_HUB_SETUP, &setup))
		return errno == ENOMEM ?
			       error_set(
				       -ENOMEM,
				       "the distworker module has no memory for %u mailboxes of %u "
				       "bytes: raise the limit of the memory cgroup (memory.max), "
				       "take a smaller "
				       "mailbox_depth, or use DW_PROVIDER=futex",
				       hub->mailboxes, hub->layout.bytes) :
			       call_failed("set-up of a hub of the distworker module");
	memory = mmap(NULL, setup.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, hub->fd, 0);
	if (memory == MAP_FAILED)
		return call_failed("mmap of a hub of the distworker module");
	hub->memory = memory;
	hub->memory_bytes = setup.mapping_bytes;
	hub->stride = setup.mailbox_bytes;
	hub->header_slots = setup.header_slots;
	hub->header_step = setup.header_step;
	hub->line = memory;
	hub->boxes = (unsigned char *)memory + setup.mailbox_offset;
	if (setup.timeline_offset) {
		hub->timelines = hub->boxes + setup.timeline_offset;
		hub->timeline_step = setup.mailbox_bytes;
	}
	hub->kick = (uint32_t *)((unsigned char *)memory + setup.state_offset +
				 offsetof(struct distworker_hub_state, kick));
	hub->seen = (uint32_t *)((unsigned char *)memory + setup.state_offset +
				 offsetof(struct distworker_hub_state, seen));
	return 0;
}

static int create_endpoint(struct hub *hub, uint32_t i)
{
	struct distworker_mailbox_create create = { .size = sizeof(create), .index = i };
	int error;

	if (ioctl(hub->fd, DISTWORKER_MAILBOX_CREATE, &create)) {
		error = -errno;
		return error_set(
			error, "endpoint %u of %u: %s%s", i, hub->mailboxes, strerror(-error),
			error == -EMFILE ?
				"; each takes one descriptor: raise RLIMIT_NOFILE (ulimit -n)" :
				"");
	}
	hub->fds[i] = fd_move_up(create.fd);
	if (hub->fds[i] < 0)
		return call_failed("endpoint");
	return 0;
}

static int kernel_create(struct hub *hub)
{
	struct distworker_query query;
	int error;

	hub->fd = open_checked(DEVICE, &query);
	if (hub->fd < 0)
		return hub->fd;
	error = set_up(hub, &query);
	for (uint32_t i = 0; i < hub->mailboxes && !error; i++)
		error = create_endpoint(hub, i);
	if (error)
		kernel_destroy(hub);
	return error;
}

/* Nothing to do: the mapping is not inherited anyway. */
static void kernel_forks_done(struct hub *hub)
{
	(void)hub;
}

static int kernel_bind(struct hub *hub, uint32_t i, int32_t pid)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = i, .pid = pid };
	int error;

	if (ioctl(hub->fd, DISTWORKER_MAILBOX_BIND, &bind)) {
		error = -errno;
		return error_set(error, "binding mailbox %u to process %d: %s", i, pid,
				 strerror(-error));
	}
	return 0;
}

static int kernel_rearm(struct hub *hub, uint32_t i)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = i };
	int error;

	if (ioctl(hub->fd, DISTWORKER_MAILBOX_REARM, &bind)) {
		error = -errno;
		return error_set(error, "re-arming mailbox %u: %s", i, error == -EBUSY ?
				 "its peer lives, or another process that shares the peer's memory "
				 "(vfork, CLONE_VM) still has it mapped" : strerror(-error));
	}
	return 0;
}

/* -------------------------------------------------------------- the parent */

static uint64_t mask_pointer(const void *mask)
{
	return (uint64_t)(uintptr_t)mask;
}

/* One HUB_WAIT; collects changes of state. 0 or -errno. */
static int hub_wait_call(struct hub *hub, struct distworker_hub_wait *wait)
{
	uint64_t changed[hub->words];

	wait->size = sizeof(*wait);
	wait->mask_words = hub->words;
	wait->state_mask = mask_pointer(changed);
	if (ioctl(hub->fd, DISTWORKER_HUB_WAIT, wait))
		return -errno;
	if (wait->events & DISTWORKER_EVENT_STATE)
		hub_add_changes(hub, changed);
	return 0;
}

static int kernel_hub_wait(struct hub *hub, const uint64_t *wake, uint64_t deadline_ns)
{
	struct distworker_hub_wait wait = {
		.flags = wake ? DISTWORKER_WAIT_WAKE : 0,
		.deadline_ns = deadline_ns,
		.wake_mask = mask_pointer(wake),
		.watch_mask = mask_pointer(hub->watch),
		.kick_seen = hub->kick_seen,
	};

	return hub_wait_call(hub, &wait);
}

static void kernel_wake_peers(struct hub *hub, const uint64_t *wake)
{
	struct distworker_hub_wake call = {
		.size = sizeof(call),
		.wake_mask = mask_pointer(wake),
		.mask_words = hub->words,
	};

	ioctl(hub->fd, DISTWORKER_HUB_WAKE, &call);
}

static void kernel_wake_siblings(struct hub *hub, uint32_t i)
{
	uint64_t mask[hub->words];
	struct distworker_hub_wake call = {
		.size = sizeof(call),
		.flags = DISTWORKER_WAKE_SIBLINGS,
		.wake_mask = mask_pointer(mask),
		.mask_words = hub->words,
	};

	memset(mask, 0, sizeof(mask));
	mask[i / 64] = 1ull << (i % 64);
	ioctl(hub->fd, DISTWORKER_HUB_WAKE, &call);
}

static void kernel_recalled(struct hub *hub, uint32_t i, const struct frame_waits *waits)
{
	uint64_t mask[hub->words];

	(void)waits;
	if (!(load_relaxed(&hub_mailbox(hub, i)->asleep) & DISTWORKER_ASLEEP_TIMELINE))
		return;
	memset(mask, 0, sizeof(mask));
	mask[i / 64] = 1ull << (i % 64);
	kernel_wake_peers(hub, mask);
}

static void kernel_kicked(struct hub *hub)
{
	struct distworker_hub_wake call = { .size = sizeof(call), .flags = DISTWORKER_WAKE_SELF };

	if (load_relaxed(&hub->line->asleep) & DISTWORKER_ASLEEP_WAITER)
		ioctl(hub->fd, DISTWORKER_HUB_WAKE, &call);
}

/* poll itself sets "asleep" and looks again. */
static bool kernel_bell_arm(struct hub *hub)
{
	(void)hub;
	return false;
}

static void kernel_bell_clear(struct hub *hub, uint32_t events)
{
	/* A wait that returns at once: takes over the changes of state, and the kicks for poll. */
	struct distworker_hub_wait wait = {
		.flags = DISTWORKER_WAIT_NOSPIN,
		.deadline_ns = 0,
		.kick_seen = load_relaxed(hub->kick),
	};

	/* The bell rings until the completions are harvested, and no longer. */
	if (!(events & POLLPRI) && hub_completions_pending(hub))
		return;
	hub_wait_call(hub, &wait);
}

static int kernel_query(struct hub *hub, uint32_t i, struct hub_change *change)
{
	struct distworker_mailbox_query query = { .size = sizeof(query), .index = i };

	if (ioctl(hub->fd, DISTWORKER_MAILBOX_QUERY, &query))
		return -errno;
	change->state = query.state;
	change->cause = query.cause;
	change->pid = query.pid;
	change->status = query.status;
	return 0;
}

/* ---------------------------------------------------------------- the peer */

/* The child keeps its endpoint and nothing else. */
static void drop_siblings(struct hub *hub, uint32_t mine)
{
	for (uint32_t i = 0; i < hub->mailboxes; i++) {
		if (i != mine && hub->fds[i] >= 0)
			close(hub->fds[i]);
		hub->fds[i] = -1;
	}
	close(hub->fd);
	hub->fd = -1;
	hub->memory = NULL;
}

/* The own page can be written, by the mapping of the mailbox. */
static int map_timelines(struct hub *hub, struct endpoint *endpoint)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes = page * hub->mailboxes;
	void *timelines = mmap(NULL, bytes, PROT_READ, MAP_SHARED, endpoint->fd,
			       (off_t)DISTWORKER_TIMELINE_OFFSET);

	if (timelines == MAP_FAILED)
		return call_failed("mmap of the timelines");
	endpoint->timelines = timelines;
	endpoint->timeline_step = page;
	endpoint->timelines_bytes = bytes;
	endpoint->timeline = (struct timeline *)((unsigned char *)endpoint->box +
						 endpoint->box_bytes - page);
	endpoint->awaited = (struct awaited *)(endpoint->timeline + 1);
	return 0;
}

static void unmap_endpoint(struct endpoint *endpoint)
{
	munmap(endpoint->box, endpoint->box_bytes);
	munmap(endpoint->line_map, endpoint->line_bytes);
	if (endpoint->timelines)
		munmap((void *)endpoint->timelines, endpoint->timelines_bytes);
}

static int map_endpoint(struct hub *hub, struct endpoint *endpoint,
			const struct distworker_endpoint_attach *attach)
{
	long page = sysconf(_SC_PAGESIZE);
	void *line, *box;
	int error = 0;

	box = mmap(NULL, attach->mailbox_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint->fd,
		   0);
	if (box == MAP_FAILED)
		return call_failed("mmap of a mailbox");
	line = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, endpoint->fd,
		    (off_t)DISTWORKER_HUB_LINE_OFFSET);
	if (line == MAP_FAILED) {
		error = call_failed("mmap of the hub's line");
		munmap(box, attach->mailbox_bytes);
		return error;
	}
	endpoint->box = box;
	endpoint->box_bytes = attach->mailbox_bytes;
	endpoint->mailbox = (struct mailbox *)((unsigned char *)box + attach->header_offset);
	endpoint->line = line;
	endpoint->line_map = line;
	endpoint->line_bytes = (uint64_t)page;
	if (hub->timelines)
		error = map_timelines(hub, endpoint);
	if (error)
		unmap_endpoint(endpoint);
	return error;
}

static int kernel_attach(struct hub *hub, struct endpoint *endpoint)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
	int fd = hub->fds[endpoint->index], error;

	if (fd < 0)
		return error_set(-EBUSY, "mailbox %u: this process has attached to another one",
				 endpoint->index);
	if (ioctl_again(fd, DISTWORKER_ENDPOINT_ATTACH, &attach)) {
		error = -errno;
		return error_set(error, "attaching to mailbox %u: %s", endpoint->index,
				 error == -EPERM ? "it is bound to another process" :
				 error == -ENOTCONN ? "it is not bound to a process" :
				 error == -EBUSY ? "it has a peer already" : strerror(-error));
	}
	endpoint->fd = fd;
	error = map_endpoint(hub, endpoint, &attach);
	if (error) {
		ioctl(fd, DISTWORKER_ENDPOINT_DETACH);
		return error;
	}
	if (!endpoint->thread)
		drop_siblings(hub, endpoint->index);
	return 0;
}

static void kernel_detach(struct endpoint *endpoint)
{
	/* A forked child of the peer has no mapping, and may not detach. */
	if (getpid() == endpoint->owner) {
		/* In this order: a mapped endpoint cannot be detached. */
		unmap_endpoint(endpoint);
		ioctl(endpoint->fd, DISTWORKER_ENDPOINT_DETACH);
	}
	if (!endpoint->thread)
		close(endpoint->fd);
}

static int kernel_peer_wait(struct endpoint *endpoint, uint32_t seen, bool wake)
{
	struct distworker_endpoint_wait wait = {
		.size = sizeof(wait),
		.flags = wake ? DISTWORKER_WAIT_WAKE : 0,
		.deadline_ns = DISTWORKER_NO_DEADLINE,
		.seen = seen,
	};

	if (!ioctl(endpoint->fd, DISTWORKER_ENDPOINT_WAIT, &wait) || errno == EINTR)
		return 0;
	/* EOWNERDEAD; or ENOTCONN, when the parent has given this peer up. */
	return error_set(-EOWNERDEAD, "mailbox %u: the parent is gone (%s)", endpoint->index,
			 error_name(errno));
}

static void kernel_peer_wake_siblings(struct endpoint *endpoint)
{
	ioctl(endpoint->fd, DISTWORKER_TIMELINE_WAKE);
}

static int kernel_sibling_wait(struct endpoint *endpoint, const struct frame_wait *wait,
			       const _Atomic uint32_t *claim)
{
	struct distworker_timeline_wait call = {
		.size = sizeof(call),
		.deadline_ns = DISTWORKER_NO_DEADLINE,
		.index = wait->ring,
		.count = wait->count,
		.generation = wait->generation,
		/* Acquire: before the claim word; partner: timeline_recall(). */
		.recall = load_acquire(&endpoint->mailbox->recall),
	};

	if (atomic_load_explicit(claim, memory_order_relaxed) !=
	    claim_word(endpoint->next, CLAIM_POSTED))
		return 0;
	endpoint->sleeps++;
	if (!ioctl(endpoint->fd, DISTWORKER_TIMELINE_WAIT, &call) || errno == EINTR)
		return 0;
	return error_set(-EOWNERDEAD, "mailbox %u: the parent is gone (%s)", endpoint->index,
			 error_name(errno));
}

static void kernel_peer_wake(struct endpoint *endpoint)
{
	ioctl(endpoint->fd, DISTWORKER_ENDPOINT_WAKE);
}

/* poll itself sets "asleep" and looks again, at `seen` in the mailbox. */
static bool kernel_peer_bell_arm(struct endpoint *endpoint, uint32_t seen)
{
	(void)endpoint;
	(void)seen;
	return false;
}

static void kernel_peer_bell_clear(struct endpoint *endpoint, uint32_t events)
{
	(void)endpoint;
	(void)events;
}

const struct provider_ops kernel_provider = {
	.provider = DW_PROVIDER_KERNEL,
	.wake_and_wait = true,
	.spin_limit_ns = USER_SPIN_LIMIT_NS,
	.create = kernel_create,
	.destroy = kernel_destroy,
	.forks_done = kernel_forks_done,
	.bind = kernel_bind,
	.rearm = kernel_rearm,
	.wait = kernel_hub_wait,
	.wake = kernel_wake_peers,
	.kicked = kernel_kicked,
	.bell_arm = kernel_bell_arm,
	.bell_clear = kernel_bell_clear,
	.query = kernel_query,
	.attach = kernel_attach,
	.detach = kernel_detach,
	.peer_wait = kernel_peer_wait,
	.peer_wake = kernel_peer_wake,
	.peer_wake_siblings = kernel_peer_wake_siblings,
	.wake_siblings = kernel_wake_siblings,
	.recalled = kernel_recalled,
	.sibling_wait = kernel_sibling_wait,
	.peer_bell_arm = kernel_peer_bell_arm,
	.peer_bell_clear = kernel_peer_bell_clear,
};
