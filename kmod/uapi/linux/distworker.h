/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/distworker: mailbox memory and wait queues between a parent process and
 * the peers that it hands work to.
 *
 * A *hub* is one open of /dev/distworker after DISTWORKER_HUB_SETUP. It owns a
 * fixed number of *mailboxes*. DISTWORKER_MAILBOX_CREATE gives the *endpoint*
 * of one, an anonymous-inode file that the peer inherits; the process that the
 * mailbox was bound to (DISTWORKER_MAILBOX_BIND) attaches to it and maps it.
 *
 * Messages never pass through the kernel. They lie in the mailbox; the kernel
 * reads the sequence words below, puts threads to sleep, wakes them and tells
 * who died. Every word in the mapping is hostile to the kernel and to the
 * other side: it may cause a needless wake-up, and nothing else.
 *
 * See docs/distworker.rst for the semantics of each call.
 */
#ifndef _UAPI_LINUX_DISTWORKER_H
#define _UAPI_LINUX_DISTWORKER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Raised when a change cannot be expressed by a feature bit. */
#define DISTWORKER_ABI_VERSION		1

/* Feature bits of struct distworker_query.features. */
/* DISTWORKER_WAIT_WAKE: wake peers and wait in one call. */
#define DISTWORKER_FEATURE_WAKE_AND_WAIT	0x1ULL
/* A waiter may spin in the kernel while its peer runs on another CPU. */
#define DISTWORKER_FEATURE_ADAPTIVE_SPIN	0x2ULL
/* Death of a peer is reported with its exit status, without polling. */
#define DISTWORKER_FEATURE_DEATH		0x4ULL
/* poll, epoll and io_uring's poll work on hubs and endpoints. */
#define DISTWORKER_FEATURE_POLL			0x8ULL
/* Peers can wait for the counts of their siblings: DISTWORKER_SETUP_TIMELINES. */
#define DISTWORKER_FEATURE_TIMELINES		0x10ULL

/*
 * Layout of the shared memory
 *
 * Hub mapping (offset 0 of the hub's fd, DISTWORKER_HUB_SETUP tells the sizes):
 *
 *   0                   struct distworker_hub_line       endpoints see this page read-only
 *   state_offset        struct distworker_hub_state      the hub's owner only
 *   mailbox_offset + i * mailbox_bytes    the memory of mailbox i
 *
 * struct distworker_mailbox lies in the memory of mailbox i at (i % header_slots) *
 * header_step, so that the words of many mailboxes do not share one set of a cache.
 * Words that different sides write are DISTWORKER_LINE_BYTES apart.
 *
 * struct distworker_timeline is the last page of that memory, in a hub that has timelines.
 *
 * Endpoint mappings: the memory of the mailbox at offset 0, read-write; the page of the
 * hub line at DISTWORKER_HUB_LINE_OFFSET, read-only; the timelines of all mailboxes at
 * DISTWORKER_TIMELINE_OFFSET, a page each, read-only.
 *
 * The sleep protocol is the same on both sides:
 *
 *   publisher:  write the message; store-release the sequence word;
 *               full barrier; read the other side's "asleep" word;
 *               DISTWORKER_WAKE only if it is set.
 *   waiter:     DISTWORKER_WAIT with the value of the sequence word that it
 *               has seen; the kernel sets "asleep", full barrier, compares the
 *               word again, and sleeps only if it is still the same.
 */
#define DISTWORKER_HUB_LINE_OFFSET	0x10000000ULL
#define DISTWORKER_TIMELINE_OFFSET	0x20000000ULL

/* The largest cache line among the machines that this is for, and x86's pair of lines. */
#define DISTWORKER_LINE_BYTES		128

/* Bits of distworker_hub_line.asleep and distworker_mailbox.asleep. */
#define DISTWORKER_ASLEEP_WAITER	0x1U	/* a thread sleeps in HUB_WAIT or ENDPOINT_WAIT */
#define DISTWORKER_ASLEEP_POLLER	0x2U	/* the fd is polled */
#define DISTWORKER_ASLEEP_TIMELINE	0x4U	/* a thread sleeps in TIMELINE_WAIT */

struct distworker_hub_line {
	/* Written by the kernel alone. */
	__u32 asleep;
	__u32 reserved0[31];
	/*
	 * Written by the owner. Non-zero while one of its threads is awake and
	 * will look at every mailbox before it sleeps: publishers then need
	 * not wake a mere poller. The kernel does not read it.
	 */
	__u32 driving;
	__u32 user[31];		/* the owner's, for endpoints to read */
};

struct distworker_hub_state {
	/* A thread of the owner kicks another: increment, then HUB_WAKE. */
	__u32 kick;
	__u32 reserved[31];
#ifndef __cplusplus
	/*
	 * The value of each mailbox's done word that the owner has seen. In
	 * ISO C++: behind the struct.
	 */
	__u32 seen[];
#endif
};

struct distworker_mailbox {
	/* Line 0 is written by the owner of the hub. */
	__u32 post;		/* frames posted; the peer waits on this word */
	__u32 recall;		/* another value ends TIMELINE_WAIT */
	__u32 stop;		/* non-zero: the peer is asked to leave; it ends ENDPOINT_WAIT */
	__u32 user0[29];	/* userN: for owner and peer, the kernel does not look at it */
	/* Line 1 is written by the peer. */
	__u32 done;		/* frames completed; the owner waits on this word */
	__u32 seen;		/* the value of post that the peer has seen, for poll */
	__u32 user1[30];
	/* Line 2 is written by the kernel. */
	__u32 asleep;		/* DISTWORKER_ASLEEP_*; non-zero: the peer sleeps, or polls */
	__u32 reserved2[31];
	/* Line 3 is written by the owner, seldom; frames and completions follow. */
	__u32 user3[32];
};

/*
 * A timeline: the peer counts what it has completed, for its siblings to read and to wait
 * for. Counts are compared modulo 2^32, and lie less than 2^30 apart.
 */
struct distworker_timeline {
	/* Line 0 is written by the mailbox's peer. */
	__u32 count;		/* a sequence word that only grows */
	__u32 user0[31];	/* userN: the kernel does not look at it */
	/* Line 1 is written by the owner, and stays when the mailbox is re-armed. */
	__u32 generation;	/* another value ends the waits for this timeline */
	__u32 user1[31];
	/* Line 2 is written by the kernel. */
	__u32 awaited;		/* the smallest count that a sibling sleeps for << 1 | 1; 0: none */
	__u32 reserved2[31];
};

/* DISTWORKER_QUERY: on any fd of the device; needs no set-up. */
struct distworker_query {
	__u32 size;
	__u32 abi_version;	/* out: DISTWORKER_ABI_VERSION */
	__aligned_u64 features;		/* out: DISTWORKER_FEATURE_* */
	__u32 max_mailboxes;	/* out: per hub */
	__u32 max_mailbox_bytes;/* out */
	__u32 page_bytes;	/* out */
	__u32 line_bytes;	/* out: DISTWORKER_LINE_BYTES of the module */
};

/* Flags of distworker_hub_setup. */
#define DISTWORKER_SETUP_TIMELINES	0x1U	/* a page more for each mailbox, its timeline */

/* DISTWORKER_HUB_SETUP: makes the fd a hub, owned by the calling process. */
struct distworker_hub_setup {
	__u32 size;
	__u32 flags;		/* DISTWORKER_SETUP_* */
	__u32 mailboxes;	/* 1 … max_mailboxes */
	__u32 mailbox_bytes;	/* in: wanted; out: whole pages, with that of the timeline */
	__aligned_u64 state_offset;	/* out */
	__aligned_u64 mailbox_offset;	/* out */
	__aligned_u64 timeline_offset;	/* out: in the memory of each mailbox; 0: none */
	__aligned_u64 mapping_bytes;	/* out */
	__u32 header_step;	/* out: bytes between the headers' places */
	__u32 header_slots;	/* out: places; as many as the rounding has left room for */
};

/* DISTWORKER_MAILBOX_CREATE: the endpoint of mailbox `index`, O_CLOEXEC. */
struct distworker_mailbox_create {
	__u32 size;
	__u32 flags;		/* must be 0 */
	__u32 index;
	__s32 fd;		/* out */
};

/*
 * DISTWORKER_MAILBOX_BIND: only the process `pid` (thread group, in the
 * caller's pid namespace) may attach to the mailbox.
 * DISTWORKER_MAILBOX_REARM: DEAD or FREE, bound or not → FREE with the next
 * generation, unbound; the memory of the mailbox is zeroed; `pid` must be 0. After
 * EBUSY, a change of the mailbox's state is reported when it can be tried again.
 */
struct distworker_mailbox_bind {
	__u32 size;
	__u32 flags;		/* must be 0 */
	__u32 index;
	__s32 pid;
	__aligned_u64 generation;	/* out */
};

enum distworker_mailbox_state {
	DISTWORKER_MAILBOX_FREE = 0,
	DISTWORKER_MAILBOX_ATTACHED = 1,
	DISTWORKER_MAILBOX_DEAD = 2,
};

/* Why a mailbox is DEAD. */
enum distworker_death_cause {
	DISTWORKER_DEATH_NONE = 0,
	DISTWORKER_DEATH_EXIT = 1,	/* the peer exited or was killed: see status */
	DISTWORKER_DEATH_EXEC = 2,	/* the peer replaced its program */
	DISTWORKER_DEATH_DETACH = 3,	/* the peer detached */
};

/* DISTWORKER_MAILBOX_QUERY: on the hub. */
struct distworker_mailbox_query {
	__u32 size;
	__u32 flags;		/* must be 0 */
	__u32 index;
	__u32 state;		/* out: enum distworker_mailbox_state */
	__aligned_u64 generation;	/* out */
	__u32 cause;		/* out: enum distworker_death_cause */
	__s32 pid;		/* out: bound or attached process, 0 if none */
	__s32 status;		/* out: as wait(2) gives it; DEAD by EXIT only */
	__u32 reserved;		/* out: 0 */
	__aligned_u64 wakes;	/* out: wake-ups sent to the peer */
	__aligned_u64 sleeps;	/* out: times that the peer slept */
	__aligned_u64 spins_won;	/* out: waits of the peer that ended while spinning */
	__aligned_u64 spins_lost;	/* out: spins of the peer that ended in sleep */
};

/* Flags of distworker_hub_wait and distworker_endpoint_wait. */
#define DISTWORKER_WAIT_WAKE	0x1U	/* wake first: wake_mask, or the hub */
#define DISTWORKER_WAIT_NOSPIN	0x2U	/* sleep at once */

/* Bits of the events that a wait returns. */
#define DISTWORKER_EVENT_DONE	0x1U	/* hub: done words differ: ready_mask */
#define DISTWORKER_EVENT_STATE	0x2U	/* hub: peers attached or died: state_mask */
#define DISTWORKER_EVENT_KICK	0x4U	/* hub: the kick word differs */
#define DISTWORKER_EVENT_POST	0x8U	/* endpoint: the post word differs */
#define DISTWORKER_EVENT_STOP	0x10U	/* endpoint: the stop word is not 0 */
#define DISTWORKER_EVENT_COUNT	0x20U	/* endpoint: the sibling's count is reached */
#define DISTWORKER_EVENT_RECALL	0x40U	/* endpoint: generation or recall word differ */

#define DISTWORKER_NO_DEADLINE	(~0ULL)

/*
 * DISTWORKER_HUB_WAIT: returns when the done word of a watched mailbox differs
 * from hub_state.seen[], when a peer attached or died since the last report,
 * when the kick word differs from `kick_seen`, or at the deadline (ETIMEDOUT).
 * Masks are arrays of `mask_words` 64-bit words, bit i for mailbox i.
 */
struct distworker_hub_wait {
	__u32 size;
	__u32 flags;		/* DISTWORKER_WAIT_* */
	__aligned_u64 deadline_ns;	/* absolute CLOCK_MONOTONIC, or DISTWORKER_NO_DEADLINE */
	__aligned_u64 wake_mask;	/* pointer, with WAIT_WAKE: peers to wake first */
	__aligned_u64 watch_mask;	/* pointer: mailboxes whose done word counts; 0: none */
	__aligned_u64 ready_mask;	/* pointer, out: of the watched, those with news; or 0 */
	__aligned_u64 state_mask;	/* pointer, out: those whose state changed; or 0 */
	__u32 mask_words;	/* words in each of the masks */
	__u32 kick_seen;
	__u32 events;		/* out: DISTWORKER_EVENT_* */
	__u32 reserved;		/* must be 0 */
};

/* Flags of distworker_hub_wake. */
#define DISTWORKER_WAKE_SELF	0x1U	/* wake the hub's own waiter: a kick */
#define DISTWORKER_WAKE_SIBLINGS 0x2U	/* not the peers, but those that wait for their timelines */

/* DISTWORKER_HUB_WAKE: wake the peers in wake_mask that sleep, in one call. */
struct distworker_hub_wake {
	__u32 size;
	__u32 flags;
	__aligned_u64 wake_mask;	/* pointer; 0: none */
	__u32 mask_words;
	__u32 woken;		/* out: how many were asleep */
};

/* DISTWORKER_ENDPOINT_ATTACH: the calling process becomes the peer. */
struct distworker_endpoint_attach {
	__u32 size;
	__u32 flags;		/* must be 0 */
	__u32 index;		/* out */
	__s32 owner_pid;	/* out: 0 if not visible in the caller's namespace */
	__aligned_u64 generation;	/* out */
	__u32 mailbox_bytes;	/* out */
	__u32 header_offset;	/* out: of struct distworker_mailbox in the mapping */
};

/*
 * DISTWORKER_ENDPOINT_WAIT: returns when the post word differs from `seen` or
 * the stop word is not 0, at the deadline (ETIMEDOUT), or with EOWNERDEAD when
 * the hub's owner is gone.
 */
struct distworker_endpoint_wait {
	__u32 size;
	__u32 flags;		/* DISTWORKER_WAIT_*; WAKE: wake the hub first */
	__aligned_u64 deadline_ns;	/* absolute CLOCK_MONOTONIC, or DISTWORKER_NO_DEADLINE */
	__u32 seen;
	__u32 events;		/* out: DISTWORKER_EVENT_* */
};

/*
 * DISTWORKER_TIMELINE_WAIT: returns when the count of mailbox `index` is reached or its
 * generation word differs from `generation`, when the own recall word differs from `recall`,
 * at the deadline, or with EOWNERDEAD.
 * DISTWORKER_TIMELINE_WAKE: wakes those that wait for the own count and for no more.
 */
struct distworker_timeline_wait {
	__u32 size;
	__u32 flags;		/* DISTWORKER_WAIT_NOSPIN */
	__aligned_u64 deadline_ns;	/* absolute CLOCK_MONOTONIC, or DISTWORKER_NO_DEADLINE */
	__u32 index;
	__u32 count;
	__u32 generation;
	__u32 recall;
	__u32 events;		/* out: DISTWORKER_EVENT_* */
	__u32 reserved;		/* must be 0 */
};

/*
 * One letter, numbers never reused. The kernel goes by letter, number and direction; the
 * size in the command must be the `size` member, and may grow.
 */
#define DISTWORKER_IOC_MAGIC		0xDC
#define DISTWORKER_QUERY \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x10, struct distworker_query)
#define DISTWORKER_HUB_SETUP \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x11, struct distworker_hub_setup)
#define DISTWORKER_MAILBOX_CREATE \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x12, struct distworker_mailbox_create)
#define DISTWORKER_MAILBOX_BIND \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x13, struct distworker_mailbox_bind)
#define DISTWORKER_MAILBOX_REARM \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x14, struct distworker_mailbox_bind)
#define DISTWORKER_MAILBOX_QUERY \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x15, struct distworker_mailbox_query)
#define DISTWORKER_HUB_WAIT \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x16, struct distworker_hub_wait)
#define DISTWORKER_HUB_WAKE \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x17, struct distworker_hub_wake)
#define DISTWORKER_ENDPOINT_ATTACH \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x20, struct distworker_endpoint_attach)
#define DISTWORKER_ENDPOINT_WAIT \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x21, struct distworker_endpoint_wait)
#define DISTWORKER_ENDPOINT_WAKE	_IO(DISTWORKER_IOC_MAGIC, 0x22)
#define DISTWORKER_ENDPOINT_DETACH	_IO(DISTWORKER_IOC_MAGIC, 0x23)
#define DISTWORKER_TIMELINE_WAIT \
	_IOWR(DISTWORKER_IOC_MAGIC, 0x24, struct distworker_timeline_wait)
#define DISTWORKER_TIMELINE_WAKE	_IO(DISTWORKER_IOC_MAGIC, 0x25)

#endif /* _UAPI_LINUX_DISTWORKER_H */
