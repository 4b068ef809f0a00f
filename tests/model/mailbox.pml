/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One mailbox ring and the sleep/wake protocol, for spin. Checked exhaustively: in every
 * interleaving all frames are completed and harvested, exactly once and in order, and nobody
 * sleeps for ever. The memory is that of x86 (tso.pml) or, with WEAK, of arm64 (weak.pml), so that
 * a barrier, an acquire or a release that is missing shows.
 *
 *   here                 in lib/src/mailbox/
 *   publish              hub_publish()                       hub.c
 *   revoke               hub_revoke()                        hub.c
 *   harvest              hub_harvest()                       hub.c
 *   request_notify       hub_request_notify()                hub.c
 *   foreground           hub_wait() → futex_hub_wait()       wait.c, futex.c
 *   background           hub_bell_arm(), hub_drive_end()     wait.c, futex.c
 *   kick                 hub_kick()                          wait.c
 *   peer_next            endpoint_next()                     endpoint.c
 *   peer_done            publish_done(), check_notify()      endpoint.c
 *   peer_sleep           endpoint_wait() → futex_peer_wait() endpoint.c, futex.c
 *
 * BREAK_… removes or weakens one thing that the code relies on; tests/model/check sees each of them
 * fail.
 */
#ifndef FRAMES
#define FRAMES 3
#endif
#define DEPTH 2

#define PARENT 0
#define PEER 1
#define BACKGROUND 2

/* Memory. */
byte post, done, notify;
bit peer_asleep, hub_asleep;	/* hub_asleep: WAITER, foreground */
bit bell_armed;			/* hub_asleep: POLLER, background */
bit driving;
byte kick;
byte claim[FRAMES];		/* 0 posted, 1 claimed, 2 revoked */

/* Threads that are asleep, and the bell (an eventfd keeps its ring). */
bit peer_sleeps, hub_sleeps, bell;

byte posted, harvested;
byte wanted;	/* the parent wants to hear of frames up to this one: see the peer's long task */
byte ran, revoked;
bit finished;
bit lock;	/* the engine's */

#ifdef WEAK
#include "weak.pml"
#else
#include "tso.pml"
#endif

inline take_lock(who)
{
	atomic { !lock -> lock = 1; on_lock(who) }
}

inline give_lock(who)
{
	atomic { on_unlock(who); lock = 0 }
}

/* ------------------------------------------------------------- parent */

/* hub_wake(): takes "asleep" away, then calls. */
inline wake_peer()
{
	fence_before_rmw(PARENT);
	atomic { was = peer_asleep; set_peer_asleep(PARENT, 0) };
	if
	:: was -> peer_sleeps = 0
	:: else
	fi
}

inline publish()
{
	posted++;
	store_post(posted);
#ifndef BREAK_PUBLISH_BARRIER
	fence(PARENT);
#endif
	load_peer_asleep(was);
	if
	:: was -> wake_peer()
	:: else
	fi
}

inline harvest(who)
{
	atomic {
		load_done_acquire(who, now);
		assert(now <= posted && now >= harvested);
		load_result(who, now);
		harvested = now
	}
}

/* The parent wants to hear of a frame that is posted, not only when the ring runs dry. */
inline request_notify()
{
	if
	:: mark = posted
	:: posted > 1 -> mark = posted - 1
	fi;
	store_notify(mark);
#ifndef BREAK_NOTIFY_BARRIER
	fence(PARENT);
#endif
	wanted = mark;
	/* true, "complete already": the caller harvests */
	load_done(PARENT, now);
	if
	:: now >= wanted -> harvest(PARENT)
	:: else
	fi
}

inline revoke()
{
	/* a compare-and-swap */
	fence_before_rmw(PARENT);
	atomic {
		if
		:: claim[posted - 1] == 0 -> claim[posted - 1] = 2; revoked++
		:: else
		fi
	}
}

/* hub_wait(): says "asleep" with a read-modify-write, looks once more, sleeps on the word. */
inline foreground()
{
	fence_before_rmw(PARENT);
	atomic { set_hub_asleep(PARENT, 1) };
#ifndef BREAK_FOREGROUND_BARRIER
	fence_after_rmw(PARENT);
#endif
#ifndef BREAK_LAST_LOOK
	atomic { load_done(PARENT, now); load_seen(PARENT, mark); load_kick(kicked) };
	if
	:: now != mark || kicked != kick_seen
	:: else ->
#endif
		/* futex: sleeps only if the word is still as it was */
		atomic {
			if
			:: hub_asleep -> hub_sleeps = 1
			:: else
			fi
		};
		!hub_sleeps;
#ifndef BREAK_LAST_LOOK
	fi;
#endif
	atomic { set_hub_asleep(PARENT, 0) };
	load_kick(kick_seen)
}

/*
 * Plain: the thread drives, posts, harvests, waits in the foreground until all is done. With
 * BACKGROUND it may leave the rest to the background thread: hub_drive_end(), a last harvest. With
 * SUBMITTER it never drives: after a frame with a request it computes, for as long as the frame takes to
 * be harvested by the background thread.
 */
active proctype parent()
{
	bit was;
	byte kick_seen, kicked, mark, now;

#ifndef SUBMITTER
	store_driving(1);
#endif
	do
	:: take_lock(PARENT);
		load_done(PARENT, now);
		if
		:: harvested == FRAMES -> give_lock(PARENT); break
		:: posted < FRAMES && posted - harvested < DEPTH ->
			publish();
			if
			:: request_notify()
			:: skip
			fi;
#ifdef SUBMITTER
			give_lock(PARENT);
			harvested >= wanted;
			goto again
#endif
#ifndef BACKGROUND_THREAD
			if
			:: revoke()
			:: skip
			fi
#endif
		:: harvested != now -> harvest(PARENT)
		:: harvested < FRAMES && harvested == now &&
		   (posted == FRAMES || posted - harvested == DEPTH) ->
			give_lock(PARENT);
			if
#ifdef SUBMITTER
			:: posted == FRAMES -> goto over
			:: posted < FRAMES -> posted - harvested < DEPTH
#else
			:: foreground()
#ifdef BACKGROUND_THREAD
			:: posted == FRAMES -> goto leave
#endif
#endif
			fi;
			goto again
		fi;
		give_lock(PARENT);
again:		now = 0
	od;
	goto over;
leave:	skip;
	store_driving(0);
#ifndef BREAK_DRIVE_BARRIER
	fence(PARENT);
#endif
	take_lock(PARENT);
	harvest(PARENT);
	give_lock(PARENT);
over:
	skip
}

#ifdef BACKGROUND_THREAD
/* Sleeps in poll() unless it is needed; harvests under the lock. */
active proctype background()
{
	byte now, mark;
	bit was;

	do
	:: harvested == FRAMES -> break
	:: else ->
		/* hub_bell_arm(): a read-modify-write; then a last look */
		atomic { set_bell_armed(BACKGROUND, 1) };
#ifndef BREAK_BELL_BARRIER
		fence_after_rmw(BACKGROUND);
#endif
		atomic { load_done(BACKGROUND, now); load_seen(BACKGROUND, mark) };
		if
		:: now != mark
		:: else -> (bell || harvested == FRAMES)
		fi;
		atomic { set_bell_armed(BACKGROUND, 0); bell = 0 };
		take_lock(BACKGROUND);
		harvest(BACKGROUND);
		give_lock(BACKGROUND);
#ifndef SUBMITTER
		/* What it found may be what a thread in the foreground waits for: a kick. */
		add_kick();
#ifndef BREAK_KICK_BARRIER
		fence_after_rmw(BACKGROUND);
#endif
		load_hub_asleep(BACKGROUND, was);
		if
		:: was -> atomic { set_hub_asleep(BACKGROUND, 0); hub_sleeps = 0 }
		:: else
		fi;
#endif
		now = 0;
		mark = 0;
		was = 0
	od
}
#endif

/* --------------------------------------------------------------- peer */

byte completed, checked, dry_checked;

inline wake_parent()
{
	fence_before_rmw(PEER);
	atomic { was = hub_asleep; set_hub_asleep(PEER, 0) };
	if
	:: was -> hub_sleeps = 0
	:: else ->
		load_driving(drives);
		atomic {
			if
			:: !drives && bell_armed -> set_bell_armed(PEER, 0); bell = 1
			:: else
			fi
		}
	fi
}

/* Wakes if the count passed the mark, or if the ring is dry. */
inline check_notify(dry)
{
	load_notify(mark);
	due = dry && dry_checked != completed;
	if
	:: dry -> dry_checked = completed
	:: else -> due = (checked < mark && mark <= completed)
	fi;
	checked = completed;
	if
	:: due ->
		/* Both are bits of one word. */
		atomic { load_hub_asleep(PEER, was); load_bell_armed(armed) };
		load_driving(drives);
		if
		:: was || (armed && !drives) -> wake_parent()
		:: else
		fi
	:: else
	fi;
	d_step { mark = 0; was = 0; armed = 0; drives = 0; due = 0 }
}

active proctype peer()
{
	byte next, mark, seen, now;
	bit was, due, mine, armed, drives;

	do
	:: completed == FRAMES -> break
	:: else ->
		load_post_acquire(seen);
		if
		:: seen > next ->
			/* endpoint_next(): the claim is a read-modify-write */
			fence_before_rmw(PEER);
			atomic {
				load_frame(next);
				if
				:: claim[next] == 0 -> claim[next] = 1; mine = 1
				:: else -> mine = 0
				fi
			};
			if
			:: checked != completed ->
#ifndef BREAK_CLAIM_BARRIER
				fence_after_rmw(PEER);
#endif
				check_notify(0)
			:: else
			fi;
			if
			:: mine ->
				ran++;
				/* A task that is so long that only a parent who hears of the frames before it goes on. */
				!(wanted <= completed && harvested < wanted)
			:: else
			fi;
			next++;
			completed++;
			store_done(completed)
		:: else ->
			/* endpoint_wait(), and futex_peer_wait() */
#ifndef BREAK_PEER_BARRIER
			fence(PEER);
#endif
			check_notify(1);
			fence_before_rmw(PEER);
			atomic { set_peer_asleep(PEER, 1) };
#ifndef BREAK_PEER_SLEEP_BARRIER
			fence_after_rmw(PEER);
#endif
#ifndef BREAK_PEER_LAST_LOOK
			load_post(now);
			if
			:: now != seen
			:: else ->
#endif
				atomic {
					if
					:: peer_asleep -> peer_sleeps = 1
					:: else
					fi
				};
				!peer_sleeps;
#ifndef BREAK_PEER_LAST_LOOK
			fi;
#endif
			store_peer_asleep(0);
			now = 0
		fi
	od;
	/* Before it would sleep for good it tells the parent, as in endpoint_wait(). */
#ifndef BREAK_PEER_BARRIER
	fence(PEER);
#endif
	check_notify(1);
}

/* Everything ran or was revoked, exactly once, once nobody can move any more. */
active proctype judge()
{
	(harvested == FRAMES && completed == FRAMES);
	assert(ran + revoked == FRAMES);
	finished = 1
}
