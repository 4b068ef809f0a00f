/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Elision of copies home, for spin: tasks X, A, C and B in the ring of a chip that has two calls in
 * flight. A writes a tensor, C reads it, B writes it again on top; X has nothing to do with it. Any
 * of them may fail, the run may be cancelled, another worker may take what has not started, and the
 * chip may die, each at every point. Then a task never finds other contents than in order, wherever
 * it runs; and at the end home has the result of the last task that is done, or the error of B, or
 * of C, says that it is lost.
 *
 *   here                  in lib/src/
 *   post_c, post_b        chain(), elision_posted()      engine/schedule.c, engine/elision.c
 *   harvest               graph_completed()              engine/graph.c
 *   cancel                cancel_ring()                  engine/run.c
 *   balance               revoke_from()                  engine/schedule.c
 *   death                 fail_entries()                 engine/membership.c
 *   begin, end            submit_call(), end_call()      worker/role_chip.c
 *
 * A name is the version of the contents: 0 before A, 1 of A, 2 of B. The engine's lock makes one
 * process of the parent. BREAK_… takes a rule away; tests/model/check sees each of them fail.
 */

#define X 0
#define A 1
#define C 2
#define B 3

/* Claim words, and completions. */
#define POSTED 1
#define CLAIMED 2
#define REVOKED 3
#define C_DONE 1
#define C_KEPT 2
#define C_FAILED 3
#define C_RETURNED 4

byte claim[4], completion[4], epoch[4];
bit told[4];
bit marked;		/* A's frame names B */
byte home, block;	/* versions; block 0: there is none */
bit kept;		/* home has not got the block's */
byte failures;		/* of the chip */
bit dead, lost;

/* As the parent knows them. */
#define NEW 0
#define RING 1
#define BACK 2
#define DONE 3
#define FAILED 4
#define SKIPPED 5
byte state[4], known;
bit bound[4], supersedes, cancelled;

#define final(t)	(state[t] >= DONE)
#define chained(t)	(t >= C)
#define settle()	if :: kept -> home = block; kept = 0 :: else fi

#ifdef BREAK_EPOCH
#define b_comes		(claim[B] == POSTED)
#else
#define b_comes		(claim[B] == POSTED && epoch[B] == failures)
#endif

/* ------------------------------------------------------------------- the chip */

inline fail(t)
{
#ifndef BREAK_SETTLE
	settle();
#endif
	failures++;
	completion[t] = C_FAILED
}

inline end(t)
{
	if
	:: t == X && true -> completion[X] = C_DONE
	:: t == A ->
		block = 1;
		if
#ifdef BREAK_END
		:: keeps -> kept = 1; completion[A] = C_KEPT
		:: !keeps -> home = 1; completion[A] = C_DONE
#else
		:: keeps && b_comes -> kept = 1; completion[A] = C_KEPT
		:: !(keeps && b_comes) -> home = 1; completion[A] = C_DONE
#endif
		fi
	:: t == C ->
		assert(block == 1 || home == 1);
		completion[C] = C_DONE
	:: t == B ->
		assert(block == 1 || home == 1);
		block = 2; home = 2; kept = 0;
		completion[B] = C_DONE
	:: t == B ->
		/* It has changed the block. */
		lost = lost | kept;
		kept = 0; block = 0;
		fail(B)
	:: t != B -> fail(t)
	fi
}

active proctype chip()
{
	byte next = 0, ended = 0;
	bit keeps;

end_idle:
	do
	:: dead -> break
	:: ended == 4 -> break
	:: atomic {
		!dead && next < 4 && next - ended < 2 && claim[next] == POSTED &&
		(!chained(next) || next == ended) ->
		claim[next] = CLAIMED;
		if
		:: chained(next) && epoch[next] != failures ->
			completion[next] = C_RETURNED; ended++
		:: chained(next) && epoch[next] == failures && told[next] ->
#ifndef BREAK_TOLD
			settle();
#endif
			completion[next] = C_RETURNED; ended++
		:: else ->
			if
			:: next == A -> keeps = (marked && b_comes)
			:: else
			fi
		fi;
		next++
	   }
	:: atomic {
		!dead && next < 4 && next == ended && claim[next] == REVOKED ->
		completion[next] = C_RETURNED; next++; ended++
	   }
	:: atomic { !dead && ended < next -> end(ended); ended++ }
	od
}

/* ----------------------------------------------------------------- the parent */

inline elsewhere(t)
{
	if
	:: t == A -> home = 1
	:: t == C -> assert(home == 1)
	:: t == B -> assert(home == 1); home = 2
	:: else
	fi;
	state[t] = DONE
}

/* All that it waits for is final. */
inline ready(t)
{
	if
	:: t >= C && (state[A] == FAILED || state[A] == SKIPPED) -> state[t] = SKIPPED
	:: else ->
		if
		:: cancelled -> state[t] = SKIPPED
		:: else -> elsewhere(t)
		fi
	fi
}

inline harvest()
{
	if
	:: completion[harvested] == C_FAILED -> known++; state[harvested] = FAILED
	:: completion[harvested] == C_RETURNED && state[harvested] == RING ->
		state[harvested] = BACK
	:: completion[harvested] == C_DONE -> state[harvested] = DONE
	:: completion[harvested] == C_KEPT ->
		state[harvested] = DONE;
		bound[C] = (state[C] == RING);
		bound[B] = (state[B] == RING)
	:: else
	fi;
	harvested++
}

#ifdef BREAK_STAYS
#define stays(t)	bound[t]
#else
#define stays(t)	(bound[t] || (t == B && supersedes && !(final(A) && final(C))))
#endif

#ifdef BREAK_BALANCE
#define movable(t)	true
#else
#define movable(t)	(!stays(t))
#endif

inline revoke_or_tell(t)
{
	atomic {
		if
		:: state[t] == RING ->
			if
#ifdef BREAK_CANCEL
			:: claim[t] == POSTED -> claim[t] = REVOKED; state[t] = BACK
			:: claim[t] != POSTED -> told[t] = 1
#else
			:: claim[t] == POSTED && !stays(t) -> claim[t] = REVOKED; state[t] = BACK
			:: !(claim[t] == POSTED && !stays(t)) -> told[t] = 1
#endif
			fi
		:: else
		fi
	}
}

inline lose(t)
{
	if
	:: state[t] == RING && claim[t] == CLAIMED -> state[t] = FAILED; lost = lost | bound[t]
#ifndef BREAK_DEATH
	:: state[t] == RING && claim[t] != CLAIMED && bound[t] -> state[t] = FAILED; lost = 1
	:: state[t] == RING && claim[t] != CLAIMED && !bound[t] -> state[t] = BACK
#else
	:: state[t] == RING && claim[t] != CLAIMED -> state[t] = BACK
#endif
	:: else
	fi
}

/* All that B waits for is in the ring, and none of it will be returned. */
#ifdef BREAK_READERS
#define followed	(state[A] == RING)
#else
#define followed	(state[C] == RING && epoch[C] == known)
#endif

active proctype parent()
{
	byte harvested = 0;
	bit gone;

	atomic { state[X] = RING; claim[X] = POSTED; state[A] = RING; claim[A] = POSTED };
	do
	:: atomic {
		/* post_c */
		state[C] == NEW && !cancelled && !gone && state[A] == RING ->
		epoch[C] = known; state[C] = RING; claim[C] = POSTED
	   }
	:: atomic { state[C] == NEW && (final(A) || cancelled) -> state[C] = BACK }
	:: atomic {
		/* post_b; not behind a frame that will be returned */
		state[B] == NEW && !cancelled && !gone &&
		followed ->
		epoch[B] = known; state[B] = RING; claim[B] = POSTED;
		if
		:: state[A] == RING -> marked = 1; supersedes = 1
		:: else
		fi
	   }
	:: atomic { state[B] == NEW && ((final(A) && final(C)) || cancelled) -> state[B] = BACK }
	:: atomic { harvested < 4 && completion[harvested] != 0 && !gone -> harvest() }
	:: atomic { state[X] == BACK -> ready(X) }
	:: atomic { state[A] == BACK -> ready(A) }
	:: atomic { state[C] == BACK && final(A) -> ready(C) }
	:: atomic { state[B] == BACK && final(A) && final(C) -> ready(B) }
	:: atomic {
		/* balance: what waits for nothing, has not started, and has none behind it */
		state[B] == RING && final(A) && final(C) && claim[B] == POSTED && !gone &&
		movable(B) -> claim[B] = REVOKED; state[B] = BACK
	   }
	:: atomic {
		state[C] == RING && final(A) && claim[C] == POSTED && state[B] != RING && !gone &&
		movable(C) -> claim[C] = REVOKED; state[C] = BACK
	   }
	:: !cancelled && !gone ->
		/* cancel, youngest first; the chip goes on meanwhile */
		cancelled = 1;
		revoke_or_tell(B); revoke_or_tell(C); revoke_or_tell(A); revoke_or_tell(X)
	:: atomic {
		/* death: what was completed before counts */
		!gone -> dead = 1; gone = 1;
		do
		:: harvested < 4 && completion[harvested] != 0 -> harvest()
		:: else -> break
		od;
		lose(X); lose(A); lose(C); lose(B)
	   }
	:: final(X) && final(A) && final(C) && final(B) -> break
	od;
	assert(state[B] != DONE || home == 2);
	assert(!(state[A] == DONE && state[B] != DONE) || home == 1 || (state[B] == FAILED && lost))
}
