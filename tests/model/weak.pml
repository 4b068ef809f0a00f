/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The memory of mailbox.pml as arm64 and the C11 model allow it: loads pass loads and stores, stores
 * pass stores. A thread has seen a version of each word, and a load may give that one or any later
 * one, whatever the thread has loaded or stored since; so stores are seen in any order, and late.
 * What orders them: a load with acquire of a store with release (what lies behind it is seen), a
 * full barrier (all that a thread before it had seen, in the one order of all barriers), the lock. A
 * read-modify-write works on the newest version, and orders nothing else.
 *
 * A count is its own version. Of a bit it is known whether a thread has seen the newest version: if
 * not it may read the other value. A frame or completion that is not seen may be read as the old
 * content of its slot.
 */
#define SC 3			/* what the last full barrier had seen */

byte saw_post[4], saw_notify[4], saw_done[4], saw_kick[4], saw_seen[4];
bit knows_peer_asleep[4] = 1, knows_hub_asleep[4] = 1, knows_bell_armed[4] = 1,
    knows_driving[4] = 1;
byte saw_frames;		/* by the peer */
byte saw_results[3];		/* by PARENT and BACKGROUND */
byte lock_done;			/* seen by those who had the lock */
bool notified[FRAMES + 1];	/* values that `notify` has had */

#define join(saw, who) \
	saw[SC] = (saw[SC] > saw[who] -> saw[SC] : saw[who]); saw[who] = saw[SC]
#define join_bit(knows, who)	knows[SC] = knows[SC] || knows[who]; knows[who] = knows[SC]

inline fence(who)
{
	d_step {
		if
		:: who == PARENT ->
			saw_post[SC] = posted;
			saw_notify[SC] = notify;
			knows_driving[SC] = 1;
			join(saw_done, who);
			join(saw_kick, who);
			join(saw_seen, who);
			join_bit(knows_peer_asleep, who)
		:: who == PEER ->
			join(saw_post, who);
			join(saw_notify, who);
			saw_done[SC] = done;
			join_bit(knows_driving, who);
			join_bit(knows_peer_asleep, who);
			join_bit(knows_bell_armed, who)
		:: else ->
			join(saw_done, who);
			saw_kick[SC] = kick;
			join(saw_seen, who);
			join_bit(knows_bell_armed, who)
		fi;
		join_bit(knows_hub_asleep, who)
	}
}

#define fence_alone(who)	fence(who)
#define fence_before_rmw(who)	skip
#define fence_after_rmw(who)	fence(who)

#define new_version(knows, who) \
	knows[0] = 0; knows[1] = 0; knows[2] = 0; knows[SC] = 0; knows[who] = 1

#define set_bit(word, knows, who, value) \
	if \
	:: word != value -> word = value; new_version(knows, who) \
	:: else -> knows[who] = 1 \
	fi

#define load_count(word, saw, who, into) \
	atomic { \
		into = saw[who]; \
		do \
		:: into < word -> into++ \
		:: break \
		od; \
		saw[who] = into \
	}

#define load_bit(word, knows, who, into) \
	atomic { \
		if \
		:: into = word \
		:: !knows[who] -> into = !word \
		fi \
	}

#define store_post(value)		post = value
#define store_done(value)		done = value
#define store_notify(value)		d_step { notify = value; notified[value] = true }
#define store_driving(value)		d_step { set_bit(driving, knows_driving, PARENT, value) }
#define store_peer_asleep(value)	d_step { set_peer_asleep(PEER, value) }
#define set_peer_asleep(who, value)	set_bit(peer_asleep, knows_peer_asleep, who, value)
#define set_hub_asleep(who, value)	set_bit(hub_asleep, knows_hub_asleep, who, value)
#define set_bell_armed(who, value)	set_bit(bell_armed, knows_bell_armed, who, value)
#define add_kick()			kick++

#define load_post(into)			load_count(post, saw_post, PEER, into)
#define load_done(who, into)		load_count(done, saw_done, who, into)
#define load_kick(into)			load_count(kick, saw_kick, PARENT, into)
#define load_seen(who, into)			load_count(harvested, saw_seen, who, into)
#define load_driving(into)		load_bit(driving, knows_driving, PEER, into)
#define load_peer_asleep(into)		load_bit(peer_asleep, knows_peer_asleep, PARENT, into)
#define load_hub_asleep(who, into)	load_bit(hub_asleep, knows_hub_asleep, who, into)
#define load_bell_armed(into)		load_bit(bell_armed, knows_bell_armed, PEER, into)

inline load_notify(into)
{
	atomic {
		into = saw_notify[PEER];
		do
		:: into < notify -> into++
		:: into == saw_notify[PEER] || notified[into] -> break
		od;
		saw_notify[PEER] = into
	}
}

inline load_post_acquire(into)
{
	load_post(into);
#if !defined(BREAK_POST_RELEASE) && !defined(BREAK_POST_ACQUIRE)
	saw_frames = (saw_frames > into -> saw_frames : into)
#endif
}

inline load_done_acquire(who, into)
{
	load_done(who, into);
#if !defined(BREAK_DONE_RELEASE) && !defined(BREAK_DONE_ACQUIRE)
	saw_results[who] = into
#endif
}

/* The content is that of this frame, and not of another that was in the slot. */
#define load_frame(n)		assert(saw_frames > n)
#define load_result(who, n)	assert(saw_results[who] >= n)

inline on_lock(who)
{
	skip;
#if !defined(BREAK_LOCK_RELEASE) && !defined(BREAK_LOCK_ACQUIRE)
	saw_done[who] = (saw_done[who] > lock_done -> saw_done[who] : lock_done)
#endif
}

inline on_unlock(who)
{
	d_step {
		lock_done = (saw_done[who] > lock_done -> saw_done[who] : lock_done);
		saw_seen[who] = harvested
	}
}
