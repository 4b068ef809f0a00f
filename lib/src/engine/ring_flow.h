/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ring, continued: frames enter a ring and leave it. See ring.h. With the engine's lock.
 */
#ifndef DW_ENGINE_RING_FLOW_H
#define DW_ENGINE_RING_FLOW_H

#include "engine/group.h"
#include "engine/ring.h"

/* A completion that left its ring. */
struct ring_completion {
	struct completion completion;
	struct task *task;		/* NULL: of a control frame, or revoked */
	uint32_t number, member;
	char text[TEXT_BYTES];		/* of a failure, else "" */
};

/*
 * The ring has room. `member` counts within a group. False: the hub does not trust the worker any
 * more, and the task is in no ring.
 */
bool ring_post(struct ring_set *rings, struct worker_ring *ring, struct task *task,
	       uint32_t member);
/* Queues a control frame, and posts it when there is room. */
void ring_queue_control(struct ring_set *rings, struct worker_ring *ring, struct control *control);
void ring_post_controls(struct ring_set *rings, struct worker_ring *ring);
void ring_publish(struct ring_set *rings, struct worker_ring *ring);
void rings_publish(struct ring_set *rings);
/* The rings whose workers were marked are woken by the caller. */
static inline void rings_woken(struct ring_set *rings) { rings->wake = false; }

/* The next completion; control frames are dealt with. False: there is none now. */
bool ring_next(struct ring_set *rings, struct worker_ring *ring, struct ring_completion *next);
/*
 * A ring whose completions come before the one at the head, since its task waited for a frame
 * there. NULL: there is none.
 */
struct worker_ring *ring_before_head(const struct ring_set *rings, const struct worker_ring *ring);
/* The frame at the head has run, and one that it waits for has not. */
void ring_ran_too_early(struct ring_set *rings, struct worker_ring *ring);
static inline void ring_resume(struct worker_ring *ring, struct worker_ring *after)
{
	ring->resume = after;
}
/* The rings of a word of the bitmap `pending`, which are not pending afterwards. */
uint64_t rings_take_pending(struct ring_set *rings, uint32_t word);
static inline void rings_no_pending(struct ring_set *rings) { rings->any_pending = false; }

/* The parent is notified when frame `number` completes. */
void ring_request_notify(struct ring_set *rings, struct worker_ring *ring, uint32_t number);
/* When this task, which is in a ring, or each member of this group completes. */
void request_notify(struct ring_set *rings, const struct task *task);
/* When the producers of this task end that are in rings, as far as it has marks of them. */
void request_notify_producers(struct ring_set *rings, const struct task *task);
/* When any of those in rings completes for which `wanted` holds. */
void request_notify_all(struct ring_set *rings,
			bool (*wanted)(const struct task *task, const void *context),
			const void *context);
/* In each ring the first task of a run, or the last. */
void request_notify_run(struct ring_set *rings, const struct run_graph *run, bool last);

/* Takes a frame out of the ring if it has not started. The task is then in no ring. */
bool ring_revoke(struct ring_set *rings, struct worker_ring *ring, uint32_t number);
/* Tells the callable in that frame that it is cancelled. */
void ring_cancel(struct ring_set *rings, struct worker_ring *ring, uint32_t number);
/* The same for a nested Worker, which looks at its frames. */
void ring_tell_cancelled(struct ring_set *rings, const struct worker_ring *ring);

/* The frame at the head has run for `busy_ns`: raises its estimate to that. */
void ring_note_busy(struct ring_set *rings, struct worker_ring *ring, uint64_t busy_ns);
/* The time of the frame at the head begins now. */
void ring_head_starts(struct ring_set *rings, struct worker_ring *ring);
/* All producers of a task are final, which was in a ring before they were. */
static inline void ring_may_start(struct ring_set *rings, const struct task *task)
{
	struct worker_ring *ring = &rings->all[task->placed];

	if (UNLIKELY(ring->timed) && task->position == ring->head &&
	    ring_entry(rings, ring, ring->head)->flags & ENTRY_TIMED)
		ring_head_starts(rings, ring);
}
/* A deadline of an entry does not count any more. */
void ring_end_deadline(struct worker_ring *ring, struct entry *entry);
/* The frame at the head has until `now` + `ns`; its thread was told of it (`told`). */
void ring_extend_deadline(struct ring_set *rings, struct worker_ring *ring, uint64_t now,
			  uint64_t ns, bool told);
/* The worker may keep a result for this one, or does (elision.h). */
static inline void entry_supersedes(struct entry *entry) { entry->flags |= ENTRY_SUPERSEDES; }
static inline void entry_bind(struct entry *entry, uint64_t task)
{
	entry->flags |= ENTRY_BOUND;
	entry->bound_by = (uint32_t)(entry->task->head.number - task);
}
/* It must not leave the ring, since what it needs is nowhere else. */
static inline bool entry_stays(const struct entry *entry)
{
	return entry->flags & ENTRY_BOUND ||
	       (entry->flags & ENTRY_SUPERSEDES && entry->task && entry->task->waiting);
}
/* Its task is not the ring's any more; the frame will complete. */
static inline void entry_forget(struct entry *entry) { entry->task = NULL; }
static inline void entry_set_control(struct entry *entry, struct control *control)
{
	entry->control = control;
}

static inline void control_set_late(struct control *control, const char *late)
{
	control->late = late;
}
static inline void control_detach(struct control *control) { control->detached = true; }
void control_done(struct ring_set *rings, struct control *control, int result, const char *text);
/* NULL: no memory. Copies the blob, so that the frame may outlive its caller. */
struct control *control_new(uint64_t code, const void *blob, uint32_t bytes,
			    const struct engine_control_limits *limits);
/* Moves a blob that no frame can hold into the arena. */
int control_prepare(struct ring_set *rings, struct control *control);
/*
 * Moves its blob in the arena to a new control frame, and returns that; NULL: it has no such blob.
 */
struct control *control_split(struct control *control);
void control_free(struct ring_set *rings, struct control *control);
/* Fails the queued ones of a run (NULL: of all; `detached` ones stay if `waited` is true). */
void ring_fail_controls(struct ring_set *rings, struct worker_ring *ring,
			const struct run_graph *run, bool waited, int error, const char *text);
/* Ends those of a cancelled run that have not started. Returns whether some have. */
bool ring_cancel_controls(struct ring_set *rings, struct worker_ring *ring,
			  const struct run_graph *run, int error, const char *text);
/* The frame is a call of a driver for this run. */
bool entry_is_call(const struct entry *entry, const struct run_graph *run);

/* Tasks and members that are final, or whose worker died, and whose memory is not free yet. */
static inline void ring_park(struct worker_ring *ring, struct task *task)
{
	task_list_push(&ring->parked, task);
}
static inline void ring_park_member(struct worker_ring *ring, struct task *task, uint32_t member)
{
	struct member *parked = &task->group->members[member];

	group_member_push(&ring->parked_members, parked, task, parked->position);
}
struct task *ring_unpark(struct worker_ring *ring);
struct member *ring_unpark_member(struct worker_ring *ring);
void ring_keep(struct ring_set *rings, struct worker_ring *ring, struct task *task);
void ring_keep_member(struct ring_set *rings, struct worker_ring *ring, struct task *task,
		      uint32_t member, uint32_t position);
/* That of frame *number, or any (NULL); NULL: there is none. */
struct task *ring_unkeep(struct ring_set *rings, struct worker_ring *ring, const uint32_t *number);
struct member *ring_unkeep_member(struct ring_set *rings, struct worker_ring *ring,
				  const uint32_t *number);

/* The run time of a callable in ns, estimated from its past runs. */
uint32_t estimate_of(const struct ring_set *rings, const struct callable *callable);
/* A worker that sleeps is not awake in the bitmap. */
bool ring_asleep(struct ring_set *rings, uint32_t i);

#endif
