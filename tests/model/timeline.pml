/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Timelines over futexes, for spin: siblings wait for the counts of a peer, without their parent. In
 * every interleaving, with loads and stores as weakly ordered as C11 allows, none of them sleeps for
 * ever, and none runs what waited for a frame that failed, was lost or did not run.
 *
 *   here              in lib/src/mailbox/
 *   peer              publish_done(), check_notify()                   endpoint.c
 *   wake_all          futex_peer_wake_siblings(), futex_wake_siblings() futex.c
 *   sibling           endpoint_next(), futex_sibling_wait()            endpoint.c, futex.c
 *   over, has_run     wait_is_over(), timeline_has_run()               timeline.c
 *   parent            hub_end_waits(), timeline_rearm(), hub_revoke(), timeline_recall()
 *
 * Memory: each word has versions, in the order of its stores, and each thread has seen one of each
 * word. A load gives that version or any later one; a read-modify-write works on the newest. A
 * version that was stored with release carries what its thread had seen, and a load with acquire
 * takes that over; full barriers take over what those before them had seen.
 *
 * FAILS: the first frame of the peer fails. DIES: the peer may die at any moment, the parent ends the
 * waits, and another peer begins anew. REVOKES: the parent takes the frame of the first sibling
 * back. CROSSED: the second frame of the peer waits for the first sibling. SIBLINGS and COUNTS: how
 * many siblings, and frames of the peer.
 * BREAK_… weakens one instruction of the code; tests/model/check sees each of them fail.
 */
#ifndef SIBLINGS
#define SIBLINGS 1
#endif
#ifndef COUNTS
#define COUNTS 2		/* frames of the peer; sibling i waits for the one of number i */
#endif

/* Words: the peer's, the parent's, and those of the siblings' sleep; the claim of the first one. */
#define COUNT 0
#define UNRUN 1
#define GENERATION 2
#define SMALLEST 3
#define EVENT 4
#define CLAIM 5
#define WORDS 6
#define VERSIONS 9

/* Threads: sibling i is i. */
#define PEER 2
#define PARENT 3

#define POSTED 0
#define CLAIMED 1
#define REVOKED 2

typedef history {
	byte newest;
	byte value[VERSIONS];
	byte carries[VERSIONS * WORDS];
}
typedef view {
	byte at[WORDS];
}
history word[WORDS];
view saw[4];
view sc;			/* seen before the last full barrier */
hidden byte w;

bool sleeping[2];
bool dead, rearmed;
bool good;			/* the first frame of the peer has run, and did not fail */
bool refused[2], ran[2];

#define later(a, b)	(a > b -> a : b)
#define take_over(who, what, version) \
	for (w : 0 .. WORDS - 1) { \
		saw[who].at[w] = later(saw[who].at[w], word[what].carries[(version) * WORDS + w]) \
	}
#define carry(who, what) \
	for (w : 0 .. WORDS - 1) { \
		word[what].carries[word[what].newest * WORDS + w] = saw[who].at[w] \
	}
#define append(who, what, to) \
	word[what].newest++; \
	assert(word[what].newest < VERSIONS); \
	word[what].value[word[what].newest] = to; \
	saw[who].at[what] = word[what].newest

inline store(who, what, to) { d_step { append(who, what, to) } }
inline store_release(who, what, to) { d_step { append(who, what, to); carry(who, what) } }

inline load(who, what, into)
{
	atomic {
		do
		:: saw[who].at[what] < word[what].newest -> saw[who].at[what]++
		:: into = word[what].value[saw[who].at[what]]; break
		od
	}
}
inline load_acquire(who, what, into)
{
	atomic {
		load(who, what, into);
		d_step { take_over(who, what, saw[who].at[what]) }
	}
}
/* Acquire and release. */
inline exchange(who, what, to, found)
{
	d_step {
		found = word[what].value[word[what].newest];
		take_over(who, what, word[what].newest);
		append(who, what, to);
		carry(who, what)
	}
}
inline compare_and_swap(who, what, expected, to, found)
{
	d_step {
		found = word[what].value[word[what].newest];
		if
		:: found == expected ->
			take_over(who, what, word[what].newest);
			append(who, what, to);
			carry(who, what)
		:: else -> saw[who].at[what] = word[what].newest
		fi
	}
}
inline full_barrier(who)
{
	d_step {
		for (w : 0 .. WORDS - 1) {
			saw[who].at[w] = later(saw[who].at[w], sc.at[w]);
			sc.at[w] = saw[who].at[w]
		}
	}
}

/* What was slept for is cleared before: the siblings look, and write theirs again. */
inline wake_all(t)
{
#ifndef BREAK_EVENT
	d_step {
		take_over(t, EVENT, word[EVENT].newest);
		append(t, EVENT, word[EVENT].newest);
		carry(t, EVENT)
	}
#endif
	d_step { sleeping[0] = 0; sleeping[1] = 0 }
}

inline complete(number, fails)
{
	if
	:: fails -> store(PEER, UNRUN, 1)
	:: else
	fi;
	d_step { good = good || (!fails && number == 1 && !dead) };
#ifdef BREAK_COUNT_RELEASE
	store(PEER, COUNT, number);
#else
	store_release(PEER, COUNT, number);
#endif
#ifndef BREAK_PEER_BARRIER
	full_barrier(PEER);
#endif
	load(PEER, SMALLEST, smallest);
	if
	:: smallest && number >= smallest ->
		exchange(PEER, SMALLEST, 0, smallest);
		if
		:: smallest -> wake_all(PEER)
		:: else
		fi
	:: else
	fi
}

active proctype peer()
{
	byte n, smallest;

	do
	:: n < COUNTS ->
#ifdef CROSSED
		n == 0 || ran[0] || refused[0];
#endif
		n++;
#ifdef FAILS
		complete(n, n == 1)
#else
		complete(n, false)
#endif
	:: else -> break
	od unless { dead };
#ifdef DIES
	/* The one that comes after it: what the parent did before the fork is seen. */
	if
	:: dead ->
		rearmed;
		d_step {
			for (w : 0 .. WORDS - 1) {
				saw[PEER].at[w] = later(saw[PEER].at[w], saw[PARENT].at[w])
			};
			n = 1
		};
		complete(n, false)
	:: else
	fi
#endif
}

#if defined(DIES) || defined(REVOKES)
active proctype parent()
{
	byte old;

#ifdef DIES
	dead = true;
#ifndef BREAK_GENERATION
	store_release(PARENT, GENERATION, 1);
#endif
#ifndef BREAK_END_WAKES
	exchange(PARENT, SMALLEST, 0, old);
	wake_all(PARENT);
#endif
#ifdef BREAK_REARM_RELEASE
	store(PARENT, UNRUN, 0);
	store(PARENT, COUNT, 0);
#else
	store_release(PARENT, UNRUN, 0);
	store_release(PARENT, COUNT, 0);
#endif
	rearmed = true
#else
	compare_and_swap(PARENT, CLAIM, POSTED, REVOKED, old);
	if
	:: old == POSTED ->
#ifndef BREAK_RECALL
		full_barrier(PARENT);
		exchange(PARENT, SMALLEST, 0, old);
		wake_all(PARENT)
#endif
	:: else
	fi
#endif
}
#endif

inline over(t)
{
#ifdef BREAK_COUNT_ACQUIRE
	load(t, COUNT, x);
#else
	load_acquire(t, COUNT, x);
#endif
	is_over = x >= t + 1;
	if
	:: !is_over -> load_acquire(t, GENERATION, x); is_over = x
	:: else
	fi
}

inline await_count(t)
{
	load(t, SMALLEST, x);
	do
#ifdef BREAK_SMALLEST
	:: !x ->
#else
	:: !x || x > t + 1 ->
#endif
		old = x;
		compare_and_swap(t, SMALLEST, old, t + 1, x);
		if
		:: x == old -> break
		:: else
		fi
	:: else -> break
	od
}

inline has_run(t)
{
#ifdef BREAK_GENERATION_FIRST
	load_acquire(t, GENERATION, old);
	load_acquire(t, UNRUN, x);
#else
#ifdef BREAK_UNRUN_ACQUIRE
	load(t, UNRUN, x);
#else
	load_acquire(t, UNRUN, x);
#endif
	load(t, GENERATION, old);
#endif
#ifdef BREAK_HAS_RUN
	d_step { x = 0; old = 0 }
#endif
}

proctype sibling(byte t)
{
	byte x, old, event;
	bool is_over, revoked;

	do
	::	over(t);
#ifdef REVOKES
		load(t, CLAIM, x);
		revoked = (t == 0 && x == REVOKED);
#endif
		if
		:: is_over || revoked -> break
		:: else
		fi;
#ifdef BREAK_EVENT_FIRST
		await_count(t);
		load_acquire(t, EVENT, event);
#else
		load_acquire(t, EVENT, event);
		await_count(t);
#endif
#ifndef BREAK_SLEEP_BARRIER
		full_barrier(t);
#endif
#ifndef BREAK_LAST_LOOK
		over(t);
#endif
#ifdef REVOKES
		load(t, CLAIM, x);
		revoked = (t == 0 && x == REVOKED);
#endif
		if
		:: is_over || revoked -> skip
		:: else ->
			/* The kernel compares and queues in one step. */
			atomic {
				if
				:: word[EVENT].newest == event -> sleeping[t] = 1
				:: else
				fi
			};
			!sleeping[t]
		fi;
		is_over = 0;
		event = 0;
		x = 0;
		old = 0
	od;
	if
	:: t == 0 -> compare_and_swap(t, CLAIM, POSTED, CLAIMED, old)
	:: else -> old = POSTED
	fi;
	if
	:: old == POSTED ->
		has_run(t);
		d_step {
			ran[t] = !x && !old;
			refused[t] = !ran[t];
			/* Nothing ever goes wrong with the frame that the second one waits for. */
			assert(t != 0 || !ran[t] || good)
		}
	:: else -> refused[t] = true
	fi
}

init {
	byte i;

	atomic {
		for (i : 0 .. SIBLINGS - 1) {
			run sibling(i)
		}
	}
}
