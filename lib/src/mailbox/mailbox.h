/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * mailbox: rings between a parent (hub) and its peers (endpoints), adaptive waiting, death. Knows
 * nothing of the meaning of tasks.
 *
 * Owns: the shared memory of the mailboxes, the provider (kernel or futex), the wait policy. One
 * provider per hub, chosen at hub_create().
 *
 * Memory. Each mailbox begins with struct distworker_mailbox (uapi): a line written by the parent
 * (post, notify, stop), one by the peer (done), one with "asleep". Then the ring: `depth` frames,
 * `depth` completions, `depth` texts. Frame number n (counting from 0 for each generation, 32 bits,
 * wraps) lies in slot n % depth. Every frame gets exactly one completion, in the order of the
 * frames. The parent reads only `done`, completions, texts and claims from shared memory, checks
 * them, and keeps its own copy of all else: a corrupt peer damages nothing else.
 *
 * Locks. None here. The parent's calls marked [owner] need the engine's lock; hub_wait() is made
 * without it, by one foreground thread at a time; hub_kick() and hub_bell_*() by any thread. An
 * endpoint belongs to one thread.
 *
 * Wake-ups. A publisher makes no call unless the other side says "asleep". The peer wakes the
 * parent only when its done count passes `notify`, when a frame has failed, or when it is about to
 * sleep: see hub_request_notify(). The parent collects the peers to be woken and wakes them with
 * one call: see hub_wake().
 */
#ifndef DW_MAILBOX_MAILBOX_H
#define DW_MAILBOX_MAILBOX_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <distworker/distworker.h>
#include <linux/distworker.h>
#include "mailbox/frame.h"

/* -------------------------------------------------------------- parent */

struct hub;

struct hub_options {
	enum dw_provider provider;	/* AUTO: environment DW_PROVIDER, module, futex */
	uint32_t mailboxes;
	uint32_t depth;			/* power of two */
	uint32_t frame_bytes;		/* multiple of 64 */
};

/* Before any fork. -ENOSYS, -EPROTO (module version), -EACCES … with one sentence. */
int hub_create(const struct hub_options *options, struct hub **hub);
/* After all peers are gone. Also for a forked child that only wants to drop its copy. */
void hub_destroy(struct hub *hub);
/*
 * All processes that attach are forked (the spawner included): later forks do not inherit the
 * memory.
 */
void hub_forks_done(struct hub *hub);
enum dw_provider hub_provider(const struct hub *hub);
uint32_t hub_frame_payload(const struct hub *hub);	/* bytes behind the header */
uint32_t hub_depth(const struct hub *hub);

/* [owner] The process that was forked for mailbox i may attach from now on. */
int hub_bind(struct hub *hub, uint32_t i, int32_t pid);
/*
 * [owner] After a death: empties the ring; the replacement is bound next. Unread completions are
 * gone.
 */
int hub_rearm(struct hub *hub, uint32_t i);

/*
 * [owner] A peer and all its descendants are gone: repairs the shared memory that they may have
 * damaged. The foreground thread looks at everything again; the caller arms the bell again.
 */
void hub_peer_gone(struct hub *hub);

/*
 * [owner] The next free frame of ring i, with these flags (FRAME_*), to be filled (all but `claim`,
 * `flags` and `cancel`), or NULL when the ring is full. *number is its frame number. hub_publish()
 * makes all frames of ring i that were acquired since visible with one release store, and returns
 * whether the peer is asleep.
 */
struct frame *hub_acquire(struct hub *hub, uint32_t i, uint8_t flags, uint32_t *number);
bool hub_publish(struct hub *hub, uint32_t i);
/* [owner] Posted frames whose completions were not harvested yet. */
uint32_t hub_outstanding(const struct hub *hub, uint32_t i);
/* [owner] Failures harvested in this generation: the value for frame->fail_epoch. */
uint32_t hub_fail_epoch(const struct hub *hub, uint32_t i);
/*
 * [owner] The first ring from `from` on whose peer has completed a frame, or UINT32_MAX: cheaper
 * than hub_harvest() on every ring when there are many.
 */
uint32_t hub_next_ready(const struct hub *hub, uint32_t from);
/*
 * [owner] Marks a peer to be woken by the next hub_wake() or hub_wait(), which wakes and waits in
 * one call. False: it was marked already.
 */
bool hub_mark_wake(struct hub *hub, uint32_t i);
void hub_wake(struct hub *hub);
bool hub_peer_asleep(const struct hub *hub, uint32_t i);

/*
 * [owner] The next completion of ring i: 1 with *completion (a checked copy) and, if it FAILED, its
 * text (NUL-terminated, valid until the slot is posted again); 0 when there is none; -EPROTO with a
 * text when the peer wrote invalid data.
 */
int hub_harvest(struct hub *hub, uint32_t i, struct completion *completion, char text[TEXT_BYTES]);
/*
 * [owner] A frame that has not started: true if it is the parent's again. Its completion still
 * comes (REVOKED).
 */
bool hub_revoke(struct hub *hub, uint32_t i, uint32_t number);
/* [owner] Whether the peer has claimed (started) the frame. */
bool hub_started(const struct hub *hub, uint32_t i, uint32_t number);
/* [owner] Tells a running callable that its task was cancelled. */
void hub_cancel(struct hub *hub, uint32_t i, uint32_t number);
/*
 * [owner] Frame `by`, posted behind `number`, writes the same bytes again, and only the peer's own
 * frames between the two read them: the peer may leave them where it has them (COMPLETION_KEPT).
 * False: another frame does already, or it is too far behind.
 */
bool hub_supersede(struct hub *hub, uint32_t i, uint32_t number, uint32_t by);
/*
 * [owner] The parent wants to be woken when frame `number` of ring i is complete.
 * Without it: when the ring runs dry, or in time to refill a ring that was full of long
 * frames. Returns true when it is complete already. The earliest of several counts;
 * once that is complete, say the next.
 */
bool hub_request_notify(struct hub *hub, uint32_t i, uint32_t number);
/* [owner] Asks the peer to leave its loop once all posted frames are done. */
void hub_stop(struct hub *hub, uint32_t i);

/*
 * Foreground wait, one thread at a time: between begin and end the thread promises to look at all
 * rings before it sleeps or leaves, so that no peer pays for a wake-up of the background thread.
 * hub_wait() looks in user space for a self-tuning moment, then sleeps. 0, -ETIMEDOUT, -EINTR.
 * Begin and end may also stand around hub_wake(), of several threads at once: an end too early
 * costs a wake-up, and loses none. Harvest after each hub_wait() and after hub_drive_end(). begin
 * and end are [owner].
 */
void hub_drive_begin(struct hub *hub);
int hub_wait(struct hub *hub, uint64_t deadline_ns);
void hub_drive_end(struct hub *hub);
/*
 * [owner] A thread that submits has looked at the rings, and will again: while it keeps coming, a
 * peer does not wake the background thread because its ring runs low; when the thread stays away,
 * and for frames that hub_request_notify() asked for, the peer does.
 */
void hub_polled(struct hub *hub);
/* Makes hub_wait() return; no system call if no thread waits. Any thread. */
void hub_kick(struct hub *hub);

/*
 * Background: a descriptor to poll (BELL_EVENTS) beside others. hub_bell_arm() before each poll:
 * true means that completions are there already and poll must not sleep. hub_bell_clear() after
 * a poll that reports the bell, with the events that it returned.
 */
#define BELL_EVENTS (POLLIN | POLLPRI)
int hub_bell_fd(const struct hub *hub);
bool hub_bell_arm(struct hub *hub);
void hub_bell_clear(struct hub *hub, uint32_t events);

/*
 * The next peer whose state changed according to the kernel (kernel provider only), as collected by
 * hub_wait() and hub_bell_clear(): 1 with *i, else 0. Any thread; two may be told the same.
 */
struct hub_change {
	uint32_t state;		/* enum distworker_mailbox_state */
	uint32_t cause;		/* enum distworker_death_cause */
	int32_t pid;
	int32_t status;		/* as wait(2) */
};
int hub_next_change(struct hub *hub, uint32_t *i, struct hub_change *change);

struct hub_counters {
	uint64_t wakes;		/* calls that woke peers */
	uint64_t woken;		/* peers woken */
	uint64_t sleeps;	/* foreground and background */
	uint64_t spins_won, spins_lost;
};
void hub_counters(const struct hub *hub, struct hub_counters *counters);
/*
 * Counters of the other side, as the peer of mailbox i wrote them when it last waited. Any thread.
 */
struct endpoint_counters {
	uint64_t wakes, sleeps, spins_won, spins_lost;
};
void hub_peer_counters(const struct hub *hub, uint32_t i, struct endpoint_counters *counters);

/* --------------------------------------------------------------- child */

struct endpoint;

/*
 * In the child, right after the fork (or in a THREAD child): takes mailbox i of the inherited hub
 * object, and drops the resources of its siblings. The caller makes sure that hub_bind() has
 * happened. -EBUSY, -EPERM, -EOWNERDEAD.
 */
int endpoint_attach(struct hub *hub, uint32_t i, struct endpoint **endpoint);
void endpoint_detach(struct endpoint *endpoint);

/*
 * The next frame, claimed, or NULL when there is none (yet). Frames that the
 * parent took back and frames that must be returned are completed on the way.
 */
struct frame *endpoint_next(struct endpoint *endpoint, uint32_t *number);
/*
 * The frame that endpoint_next() looks at next, unclaimed: the parent may take it back, and what
 * its arguments are in may be in other use then. NULL: there is none, or it waits for siblings.
 */
struct frame *endpoint_peek(struct endpoint *endpoint);
/* Completes the frame that endpoint_next() gave (in order). `text` may be NULL. */
void endpoint_complete(struct endpoint *endpoint, uint32_t number, int error, const char *text,
		       uint64_t started, uint64_t ended);
/* The same for one that has succeeded and leaves its results with this peer (COMPLETION_KEPT). */
void endpoint_kept(struct endpoint *endpoint, uint32_t number, uint64_t started, uint64_t ended);
/*
 * The frame that endpoint_next() gave has FRAME_CHAINED and was cancelled: it goes back unstarted.
 * All frames chained behind it were cancelled before.
 */
void endpoint_return(struct endpoint *endpoint, uint32_t number);
/*
 * The frame that supersedes frame `number`, which is claimed and not completed: it is posted, and
 * endpoint_next() would give it. NULL: there is none. *by: its number.
 */
struct frame *endpoint_superseder(struct endpoint *endpoint, uint32_t number, uint32_t *by);
/* The number of the frame that endpoint_next() looks at next. */
uint32_t endpoint_position(const struct endpoint *endpoint);
/*
 * Waits until there is a frame: spins for a self-tuning moment, then wakes the
 * parent if that is due and sleeps, in one call. 0 (look again),
 * -ESHUTDOWN when the parent asked to stop and the ring is empty, -EOWNERDEAD.
 */
int endpoint_wait(struct endpoint *endpoint);
/*
 * The same for a process that also waits for other events: see hub_bell_*; endpoint_bell_clear()
 * follows each poll for which the bell was armed, with the events of the bell. A stop is reported
 * once; when endpoint_stopping(), leave the bell out of the poll: it may ring all the time.
 */
int endpoint_bell_fd(const struct endpoint *endpoint);
bool endpoint_bell_arm(struct endpoint *endpoint);
void endpoint_bell_clear(struct endpoint *endpoint, uint32_t events);
bool endpoint_stopping(const struct endpoint *endpoint);

void endpoint_counters(const struct endpoint *endpoint, struct endpoint_counters *counters);

#endif
