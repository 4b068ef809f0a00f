/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A mailbox of the module over two generations, for spin: a thread of the first peer asks and waits
 * while its process detaches and the mailbox gets another peer. In every interleaving, with loads
 * and stores as weakly ordered as the kernel's memory model allows, the thread is refused as soon
 * as another process is the peer, and does not sleep for ever.
 *
 *   here              in kmod/
 *   end               distw_mailbox_end()                              mailbox.c
 *   rearm             distw_mailbox_rearm()                            mailbox.c
 *   attach            distw_mailbox_attach()                           mailbox.c
 *   check             distw_mailbox_check_peer()                       mailbox.c
 *   ready             wait_ready()                                     wait.c
 *   enqueue, wake     distw_sleeper_enqueue(), distw_queue_wake_all()  queue.c
 *
 * Each variable has versions, in the order of its stores. A load gives any of them that is not older
 * than what the thread has seen. hub->lock orders the writers, so they are one process here, and a
 * store inside the lock is seen after all of the sections before it; within a section only a
 * release orders stores. SHARED: both peers have one address space (vfork, CLONE_VM).
 *
 * BREAK_… weakens one instruction of the code; tests/model/check sees each of them fail.
 */

/* Versions: how many stores there were. */
byte generation;	/* 0: the first, 1: the next */
byte state;		/* 0: ATTACHED, 1: DEAD, 2: FREE, 3: ATTACHED again */
byte mm;		/* 0: the first peer's, 1: none, 2: the next peer's */
byte tgid;		/* 0: the first peer, 1: the next */

/* What the thread must see: no older versions than these. */
byte saw_generation, saw_state, saw_mm, saw_tgid;

bit queued, asleep;
bit wake_fenced;		/* the waker has passed its full barrier … */
bit enqueue_first;	/* … and the sleeper its own before */

#define at_least(seen, version)	seen = (seen > version -> seen : version)

inline see_section(n)
{
	if
	:: n >= 1 -> at_least(saw_state, 1); at_least(saw_mm, 1)
	:: else
	fi;
	if
	:: n >= 2 -> at_least(saw_state, 2); at_least(saw_generation, 1)
	:: else
	fi;
	if
	:: n >= 3 -> at_least(saw_state, 3); at_least(saw_mm, 2); at_least(saw_tgid, 1)
	:: else
	fi
}

inline load(variable, saw, version)
{
	version = saw;
	do
	:: version < variable -> version++
	:: break
	od;
	saw = version
}

active proctype writers()
{
	bit chosen;

	/* end: DEAD with release, then the address space; a full barrier; the look at the queue */
	state = 1;
	mm = 1;
#ifndef BREAK_WAKE_BARRIER
	wake_fenced = 1;
#endif
	atomic {
		/* What was queued before the sleeper's barrier is seen behind this one, else perhaps. */
		if
		:: queued -> chosen = 1
		:: !(queued && wake_fenced && enqueue_first) -> chosen = 0
		fi
	};
	if
	:: chosen -> atomic { queued = 0; asleep = 0 }
	:: else
	fi;
	/* rearm, behind the lock */
	generation = 1;
	state = 2;
	/* attach, behind the lock */
	tgid = 1;
	mm = 2;
	state = 3
}

active proctype waiter()
{
	byte mine, version, now;

	/* check */
	load(generation, saw_generation, mine);
#ifndef BREAK_GENERATION_FIRST
	atomic {
		/* smp_rmb(); the store was made inside the lock */
		if
		:: mine == 1 -> see_section(1)
		:: else
		fi
	};
#endif
	load(mm, saw_mm, version);
	atomic {
		if
		:: version == 2 ->
			see_section(2);
#if !defined(BREAK_MM_RELEASE) && !defined(BREAK_MM_ACQUIRE)
			at_least(saw_tgid, 1)
#endif
		:: else
		fi
	};
#ifdef SHARED
	if
	:: version == 1 -> goto refused
	:: else
	fi;
#else
	if
	:: version != 0 -> goto refused
	:: else
	fi;
#endif
	load(tgid, saw_tgid, version);
	if
	:: version != 0 -> goto refused
	:: else
	fi;
again:
	/* enqueue: on the queue and "asleep" in one step, a full barrier, and then the state */
	atomic { queued = 1; asleep = 1 };
#ifndef BREAK_SLEEP_BARRIER
	atomic {
		if
		:: wake_fenced -> see_section(1)
		:: else -> enqueue_first = 1
		fi
	};
#endif
	/* ready */
	load(state, saw_state, version);
#ifndef BREAK_STATE_ACQUIRE
	atomic { see_section(version - (version == 1 -> 1 : 0)) };
#endif
	if
	:: version == 1 || version == 2 -> goto refused
	:: else
	fi;
	load(generation, saw_generation, now);
	if
	:: now != mine -> goto refused
	:: else
	fi;
	/* It waits for the posts to this peer. */
	assert(mine == 0 && version == 0);
	!asleep;
	/* The wake-up took the queue's lock. */
	see_section(1);
	goto again;
refused:
	/* Off the queue; not under a name that it has no right to. */
	atomic { queued = 0; asleep = 0 }
}
