/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One mailbox ring and the sleep/wake protocol, for spin. Checked exhaustively: in every
 * interleaving all frames are completed and harvested, exactly once and in order, and nobody
 * sleeps for ever. Stores go through a FIFO store buffer per process (as on x86, the weakest
 * order that the barriers in the code are argued against), so that a barrier that is missing shows.
 *
 *   here                 in lib/src/mailbox/
 *   publish              hub_publish()                       hub.c
 *   revoke               hub_revoke()                        hub.c
 *   harvest              hub_harvest()                       hub.c
 *   request_notify       hub_request_notify()                hub.c
 *   foreground           hub_wait() → futex_hub_wait()       wait.c, futex.c
 *   background           hub_bell_arm(), hub_drive_end()     wait.c, futex.c
 *   peer_next            endpoint_next()                     endpoint.c
 *   peer_done            publish_done(), check_notify()      endpoint.c
 *   peer_sleep           endpoint_wait() → futex_peer_wait() endpoint.c, futex.c
 *
 * BREAK_… removes one thing that the code relies on; tests/model/check sees each of them fail.
 */
#ifndef FRAMES
#define FRAMES 3
#endif
#define DEPTH 2

/* Memory. */
byte post, done, notify;
bit peer_asleep, hub_asleep;	/* hub_asleep: WAITER, foreground */
bit bell_armed;			/* hub_asleep: POLLER, background */
bit driving;
byte claim[FRAMES];		/* 0 posted, 1 claimed, 2 revoked */

/* Threads that are asleep, and the bell (an eventfd keeps its ring). */
bit peer_sleeps, hub_sleeps, bell;
byte kick;			/* hub_kick() */

byte ran, revoked;
bit finished;

/* ------------------------------------------------------- store buffers */

mtype = { POST, DONE, NOTIFY, PEER_ASLEEP, DRIVING };
chan parent_buffer = [4] of { mtype, byte };
chan peer_buffer = [4] of { mtype, byte };

inline commit(buffer)
{
	if
	:: buffer?POST(value) -> post = value
	:: buffer?DONE(value) -> done = value
	:: buffer?NOTIFY(value) -> notify = value
	:: buffer?PEER_ASLEEP(value) -> peer_asleep = value
	:: buffer?DRIVING(value) -> driving = value
	fi
}

active proctype memory()
{
	byte value;

end:	do
	:: atomic { nempty(parent_buffer) -> commit(parent_buffer) }
	:: atomic { nempty(peer_buffer) -> commit(peer_buffer) }
	od
}

#define barrier(buffer) empty(buffer)

/* ------------------------------------------------------------- parent */

byte posted, harvested;
byte wanted;	/* the parent wants to hear of frames up to this one: see the peer's long task */

/* hub_wake(): takes "asleep" away, then calls. A read-modify-write flushes the buffer. */
inline wake_peer()
{
	barrier(parent_buffer);
	atomic {
		if
		:: peer_asleep -> peer_asleep = 0; was = 1
		:: else -> was = 0
		fi
	};
	if
	:: was -> peer_sleeps = 0
	:: else
	fi
}

inline publish()
{
	posted++;
	parent_buffer!POST(posted);
#ifndef BREAK_PUBLISH_BARRIER
	barrier(parent_buffer);
#endif
	if
	:: peer_asleep -> wake_peer()
	:: else
	fi
}

inline harvest()
{
	assert(done <= posted && done >= harvested);
	harvested = done
}

/* The parent wants to hear of a frame that is posted, not only when the ring runs dry. */
inline request_notify()
{
	if
	:: mark = posted
	:: posted > 1 -> mark = posted - 1
	fi;
	parent_buffer!NOTIFY(mark);
#ifndef BREAK_NOTIFY_BARRIER
	barrier(parent_buffer);
#endif
	wanted = mark;
	/* true, "complete already": the caller harvests */
	if
	:: done >= wanted -> harvest()
	:: else
	fi
}

inline revoke()
{
	/* a compare-and-swap, which flushes the buffer */
	barrier(parent_buffer);
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
	barrier(parent_buffer);
	hub_asleep = 1;
#ifndef BREAK_LAST_LOOK
	if
	:: done != harvested || kick != kick_seen
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
	hub_asleep = 0;
	kick_seen = kick
}

/*
 * Plain: the thread drives, posts, harvests, waits in the foreground until all is done. With
 * BACKGROUND it may leave the rest to the background thread: hub_drive_end(), a last harvest. With
 * SUBMITTER it never drives: after a frame with a request it computes, for as long as the frame takes to
 * be harvested by the background thread.
 */
bit lock;	/* the engine's */

active proctype parent()
{
	bit was;
	byte kick_seen, mark;

#ifndef SUBMITTER
	parent_buffer!DRIVING(1);
#endif
	do
	:: atomic { !lock -> lock = 1 };
		if
		:: harvested == FRAMES -> lock = 0; break
		:: posted < FRAMES && posted - harvested < DEPTH ->
			publish();
			if
			:: request_notify()
			:: skip
			fi;
#ifdef SUBMITTER
			lock = 0;
			harvested >= wanted;
			goto again
#endif
			if
			:: revoke()
			:: skip
			fi
		:: harvested != done -> harvest()
		:: harvested < FRAMES && harvested == done &&
		   (posted == FRAMES || posted - harvested == DEPTH) ->
			lock = 0;
			if
#ifdef SUBMITTER
			:: posted == FRAMES -> goto over
			:: posted < FRAMES -> posted - harvested < DEPTH
#else
			:: foreground()
#ifdef BACKGROUND
			:: posted == FRAMES -> goto leave
#endif
#endif
			fi;
			goto again
		fi;
		lock = 0;
again:		skip
	od;
	goto over;
leave:
	parent_buffer!DRIVING(0);
#ifndef BREAK_DRIVE_BARRIER
	barrier(parent_buffer);
#endif
	atomic { !lock -> lock = 1 };
	harvest();
	lock = 0;
over:
	skip
}

#ifdef BACKGROUND
/* Sleeps in poll() unless it is needed; harvests under the lock. */
active proctype background()
{
	do
	:: harvested == FRAMES -> break
	:: else ->
		/* hub_bell_arm(): a read-modify-write; then a last look */
		bell_armed = 1;
		if
		:: done != harvested
		:: else -> (bell || harvested == FRAMES)
		fi;
		bell_armed = 0;
		bell = 0;
		atomic { !lock -> lock = 1 };
		harvest();
		lock = 0;
		/* What it found may be what a thread in the foreground waits for. */
		atomic { kick++; hub_asleep = 0; hub_sleeps = 0 }
	od
}
#endif

/* --------------------------------------------------------------- peer */

byte completed, checked, dry_checked;

inline wake_parent()
{
	barrier(peer_buffer);
	atomic {
		if
		:: hub_asleep -> hub_asleep = 0; was = 1
		:: else -> was = 0
		fi
	};
	if
	:: was -> hub_sleeps = 0
	:: else ->
		if
		:: !driving && bell_armed -> bell_armed = 0; bell = 1
		:: else
		fi
	fi
}

/* Wakes if the count passed the mark, or if the ring is dry. */
inline check_notify(dry)
{
	mark = notify;
	due = dry && dry_checked != completed;
	if
	:: dry -> dry_checked = completed
	:: else -> due = (checked < mark && mark <= completed)
	fi;
	checked = completed;
	if
	:: due && (hub_asleep || (bell_armed && !driving)) -> wake_parent()
	:: else
	fi
}

active proctype peer()
{
	byte next, mark, seen;
	bit was, due, mine;

	do
	:: completed == FRAMES -> break
	:: else ->
		seen = post;
		if
		:: seen > next ->
			/* endpoint_next(): the claim is a read-modify-write */
			barrier(peer_buffer);
			atomic {
				if
				:: claim[next] == 0 -> claim[next] = 1; mine = 1
				:: else -> mine = 0
				fi
			};
			if
			:: checked != completed -> check_notify(0)
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
			peer_buffer!DONE(completed)
		:: else ->
			/* endpoint_wait(), and futex_peer_wait() */
#ifndef BREAK_PEER_BARRIER
			barrier(peer_buffer);
#endif
			check_notify(1);
			barrier(peer_buffer);
			peer_asleep = 1;
#ifndef BREAK_PEER_LAST_LOOK
			if
			:: post != seen
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
			peer_buffer!PEER_ASLEEP(0)
		fi
	od;
	/* Before it would sleep for good it tells the parent, as in endpoint_wait(). */
#ifndef BREAK_PEER_BARRIER
	barrier(peer_buffer);
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
