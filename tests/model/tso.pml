/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The memory of mailbox.pml as x86 has it: the stores of a thread go through a FIFO buffer, which a
 * full barrier and a read-modify-write empty. Loads are in order, so acquire and release are free.
 */
mtype = { POST, DONE, NOTIFY, PEER_ASLEEP, DRIVING };
chan buffer[2] = [4] of { mtype, byte };	/* the background thread stores nothing this way */

inline commit(from)
{
	if
	:: from?POST(value) -> post = value
	:: from?DONE(value) -> done = value
	:: from?NOTIFY(value) -> notify = value
	:: from?PEER_ASLEEP(value) -> peer_asleep = value
	:: from?DRIVING(value) -> driving = value
	fi
}

active proctype memory()
{
	byte value;

end:	do
	:: atomic { nempty(buffer[PARENT]) -> commit(buffer[PARENT]) }
	:: atomic { nempty(buffer[PEER]) -> commit(buffer[PEER]) }
	od
}

#define fence(who)		empty(buffer[who])
#define fence_alone(who)	skip
#define fence_after_rmw(who)	skip
#define fence_before_rmw(who)	empty(buffer[who])

#define store_post(value)		buffer[PARENT]!POST(value)
#define store_notify(value)		buffer[PARENT]!NOTIFY(value)
#define store_driving(value)		buffer[PARENT]!DRIVING(value)
#define store_done(value)		buffer[PEER]!DONE(value)
#define store_peer_asleep(value)	buffer[PEER]!PEER_ASLEEP(value)
#define set_peer_asleep(who, value)	peer_asleep = value
#define set_hub_asleep(who, value)	hub_asleep = value
#define set_bell_armed(who, value)	bell_armed = value
#define add_kick()			kick++

#define load_post(into)			into = post
#define load_post_acquire(into)		into = post
#define load_notify(into)		into = notify
#define load_driving(into)		into = driving
#define load_done(who, into)		into = done
#define load_done_acquire(who, into)	into = done
#define load_peer_asleep(into)		into = peer_asleep
#define load_hub_asleep(who, into)	into = hub_asleep
#define load_bell_armed(into)		into = bell_armed
#define load_kick(into)			into = kick
#define load_seen(who, into)			into = harvested
#define load_frame(n)			skip
#define load_result(who, n)		skip
#define on_lock(who)			skip
#define on_unlock(who)			skip
