// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Hunts for lost wake-ups: hand-overs between processes at random moments, on one
 * CPU and on two, with spinning and without. A wake-up that is lost makes the test hang,
 * also one that was due to `notify`: the child waits at a gate that the parent
 * opens only when it has been told. UNIT_PERCENT=n scales the rounds.
 * And the wait policy by itself.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#define UNIT_SECONDS 600
#include "mailbox/provider.h"
#include "task/error.h"
#include "unit.h"

#define DEPTH 16
#define CHILDREN_MAX 8

struct hunt {
	uint32_t children;
	uint32_t rounds;
	int cpus;		/* 1 or 2 */
	bool spin;		/* the policy as it is; false: sleep at once */
	bool bells;		/* children poll now and then instead of waiting */
	/* a thread of the parent polls the bell; the foreground drives now and then */
	bool background;
};

static struct hub *hub;
static struct {
	_Atomic uint32_t go;
	_Atomic uint32_t gate[CHILDREN_MAX];
	_Atomic uint32_t ran[CHILDREN_MAX];
} *shared;

static _Thread_local uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((random_state >> 33) % limit);
}

/* Waits for up to about a microsecond, to meet every moment of the other side. */
static void dawdle(void)
{
	for (uint32_t i = random_below(4) ? 0 : random_below(64); i > 0; i--)
		cpu_pause();
}

static void use_cpus(int cpus)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < cpus; i++)
		CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void never_spin(struct spin *spin)
{
	spin->cpus = 1;
	spin->waits = UINT32_MAX;
}

/* ------------------------------------------------------------------- the child */

static void wait_somehow(struct endpoint *endpoint, const struct hunt *hunt, bool *stop)
{
	if (!hunt->bells || random_below(2)) {
		*stop = endpoint_wait(endpoint) != 0;
		return;
	}
	if (endpoint_stopping(endpoint)) {
		*stop = true;
		return;
	}
	if (!endpoint_bell_arm(endpoint)) {
		struct pollfd bell = { .fd = endpoint_bell_fd(endpoint), .events = BELL_EVENTS };

		poll(&bell, 1, -1);
		endpoint_bell_clear(endpoint, BELL_EVENTS);
	}
}

static void child_main(const struct hunt *hunt, uint32_t i)
{
	struct endpoint *endpoint;
	struct frame *frame;
	uint32_t number;
	bool stop = false;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	random_state = i + 1;
	while (!atomic_load(&shared->go))
		usleep(100);
	if (endpoint_attach(hub, i, &endpoint))
		_exit(1);
	if (!hunt->spin)
		never_spin(&endpoint->spin);
	while (!stop) {
		while ((frame = endpoint_next(endpoint, &number))) {
			dawdle();
			/*
			 * A gate: no completion, and no dry ring, until the parent knows of those
			 * before.
			 */
			if (frame->task)
				while (atomic_load(&shared->gate[i]) < frame->task)
					sched_yield();
			atomic_fetch_add(&shared->ran[i], 1);
			endpoint_complete(endpoint, number, 0, NULL, 0, 0);
		}
		dawdle();
		wait_somehow(endpoint, hunt, &stop);
	}
	endpoint_detach(endpoint);
	_exit(0);
}

/* ------------------------------------------------------------------ the parent */

/* The engine's lock and the state that it protects. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t progress = PTHREAD_COND_INITIALIZER;
static uint32_t harvested[CHILDREN_MAX];
static bool waiting_on_hub;
static atomic_bool background_stop;

static uint32_t harvest_locked(void)
{
	struct completion completion;
	uint32_t any = 0;

	for (uint32_t i = hub_next_ready(hub, 0); i != UINT32_MAX; i = hub_next_ready(hub, i)) {
		if (!CHECK_EQ(hub_harvest(hub, i, &completion, NULL), 1))
			abort();
		harvested[i]++;
		any++;
	}
	return any;
}

static void *background_main(void *unused)
{
	struct pollfd bell = { .fd = hub_bell_fd(hub), .events = BELL_EVENTS };

	(void)unused;
	random_state = 4711;
	while (!atomic_load(&background_stop)) {
		pthread_mutex_lock(&lock);
		if (harvest_locked()) {
			pthread_cond_broadcast(&progress);
			if (waiting_on_hub)
				hub_kick(hub);
		}
		pthread_mutex_unlock(&lock);
		dawdle();
		if (hub_bell_arm(hub))
			continue;
		/* A timeout only to see background_stop: a wake-up that is due must not need it. */
		poll(&bell, 1, atomic_load(&background_stop) ? 0 : -1);
		hub_bell_clear(hub, (uint32_t)bell.revents);
	}
	return NULL;
}

/* Drives meanwhile, or does not, as the engine does. */
static void wake_locked(void)
{
	bool drive = random_below(2);

	if (drive)
		hub_drive_begin(hub);
	pthread_mutex_unlock(&lock);
	hub_wake(hub);
	dawdle();
	pthread_mutex_lock(&lock);
	if (drive) {
		hub_drive_end(hub);
		harvest_locked();
	}
}

/* Posts `n` frames to child i; the one before the last is a gate of the given round, if n > 1. */
static uint32_t post_locked(uint32_t i, uint32_t n, uint32_t round)
{
	uint32_t number = 0;

	for (uint32_t k = 0; k < n; k++) {
		struct frame *frame = hub_acquire(hub, i, 0, &number);

		if (!CHECK(frame != NULL))
			abort();
		frame->task = k == n - 2 ? round : 0;
		if (random_below(2) && hub_publish(hub, i))
			hub_mark_wake(hub, i);
		dawdle();
	}
	if (hub_publish(hub, i))
		hub_mark_wake(hub, i);
	if (random_below(2))
		wake_locked();
	return number;
}

/* Waits until frame `number` of child i was harvested, in the foreground or for the background. */
static void wait_for(const struct hunt *hunt, uint32_t i, uint32_t number)
{
	bool drive = !hunt->background || random_below(2);

	if (drive)
		hub_drive_begin(hub);
	else
		hub_wake(hub);
	waiting_on_hub = drive;
	for (;;) {
		harvest_locked();
		if (harvested[i] - number - 1 < 1u << 31)
			break;
		/* Every marked child has to be woken, and the notification to be due. */
		if (hub_request_notify(hub, i, number))
			continue;
		if (!drive) {
			pthread_cond_wait(&progress, &lock);
			continue;
		}
		pthread_mutex_unlock(&lock);
		dawdle();
		hub_wait(hub, DISTWORKER_NO_DEADLINE);
		pthread_mutex_lock(&lock);
	}
	waiting_on_hub = false;
	if (drive) {
		hub_drive_end(hub);
		harvest_locked();
	}
}

static void hunt_rounds(const struct hunt *hunt)
{
	for (uint32_t round = 1; round <= hunt->rounds; round++) {
		uint32_t i = random_below(hunt->children), n, number;

		/* Let the child go to sleep now and then, also on one CPU. */
		if (random_below(3) == 0)
			sched_yield();
		pthread_mutex_lock(&lock);
		/* Two or more: the last but one is held until the one before it was reported. */
		n = random_below(2) ? 1 : 1 + random_below(DEPTH - 1);
		while (hub_outstanding(hub, i) + n > DEPTH)
			wait_for(hunt, i, harvested[i]);
		number = post_locked(i, n, round);
		if (n > 2)
			wait_for(hunt, i, number - 2);
		atomic_store(&shared->gate[i], round);
		/* A single frame, and then nothing: the child goes to sleep, too. */
		if (n == 1 || random_below(2))
			wait_for(hunt, i, number);
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < hunt->children; i++)
		while (hub_outstanding(hub, i))
			wait_for(hunt, i, harvested[i]);
	pthread_mutex_unlock(&lock);
}

static void hunt_lost_wakeups(struct hunt hunt)
{
	struct hub_options options = { .mailboxes = hunt.children,
				       .depth = DEPTH,
				       .frame_bytes = 64 };
	const char *percent = getenv("UNIT_PERCENT");
	pid_t pids[CHILDREN_MAX];
	struct hub_counters counters;
	pthread_t background;
	uint32_t frames = 0;

	if (percent)
		hunt.rounds = (uint32_t)((uint64_t)hunt.rounds * (uint32_t)atoi(percent) / 100);
	if (hunt.cpus > (int)sysconf(_SC_NPROCESSORS_ONLN))
		SKIP("not so many CPUs");
	use_cpus(hunt.cpus);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	REQUIRE(shared != MAP_FAILED && hub_create(&options, &hub) == 0);
	memset(harvested, 0, sizeof(harvested));
	random_state = 42;
	for (uint32_t i = 0; i < hunt.children; i++) {
		/* Starts shortly before the counter wraps. */
		harvested[i] = UINT32_MAX - 1000 * i;
		hub_start_at(hub, i, harvested[i]);
		pids[i] = fork();
		if (pids[i] == 0)
			child_main(&hunt, i);
		CHECK_EQ(hub_bind(hub, i, pids[i]), 0);
	}
	atomic_store(&shared->go, 1);
	if (!hunt.spin)
		never_spin(&hub->spin);
	atomic_store(&background_stop, false);
	if (hunt.background)
		REQUIRE(pthread_create(&background, NULL, background_main, NULL) == 0);
	hunt_rounds(&hunt);
	for (uint32_t i = 0; i < hunt.children; i++) {
		uint32_t last;
		int status;

		CHECK_EQ(harvested[i] - (UINT32_MAX - 1000 * i), atomic_load(&shared->ran[i]));
		frames += atomic_load(&shared->ran[i]);
		/* The background needs a frame to wake up for that no other thread harvests. */
		if (i == 0 && hunt.background) {
			atomic_store(&background_stop, true);
			pthread_mutex_lock(&lock);
			hub_acquire(hub, 0, 0, &last)->task = 0;
			if (hub_publish(hub, 0))
				hub_mark_wake(hub, 0);
			pthread_mutex_unlock(&lock);
			hub_wake(hub);
			pthread_join(background, NULL);
		}
		hub_stop(hub, i);
		waitpid(pids[i], &status, 0);
		CHECK_EQ(status, 0);
	}
	hub_counters(hub, &counters);
	printf("# %u rounds, %u frames, %llu sleeps, %llu wake-ups\n", hunt.rounds, frames,
	       (unsigned long long)counters.sleeps, (unsigned long long)counters.wakes);
	hub_destroy(hub);
	munmap(shared, sizeof(*shared));
	use_cpus((int)sysconf(_SC_NPROCESSORS_ONLN));
}

TEST(no_wakeup_is_lost_on_one_cpu)
{
	hunt_lost_wakeups((struct hunt){ .children = 1, .rounds = 100000, .cpus = 1 });
}

TEST(no_wakeup_is_lost_on_two_cpus_without_spinning)
{
	hunt_lost_wakeups((struct hunt){ .children = 1, .rounds = 50000, .cpus = 2 });
}

TEST(no_wakeup_is_lost_on_two_cpus_with_spinning)
{
	hunt_lost_wakeups(
		(struct hunt){ .children = 1, .rounds = 100000, .cpus = 2, .spin = true });
}

TEST(no_wakeup_is_lost_with_more_children_than_cpus)
{
	hunt_lost_wakeups((struct hunt){ .children = 5, .rounds = 50000, .cpus = 2, .spin = true });
}

TEST(no_bell_is_lost_by_children_that_poll)
{
	hunt_lost_wakeups(
		(struct hunt){ .children = 3, .rounds = 40000, .cpus = 2, .bells = true });
}

TEST(no_bell_is_lost_by_a_background_thread_on_one_cpu)
{
	hunt_lost_wakeups((struct hunt){ .children = 2, .rounds = 40000, .cpus = 1, .bells = true,
					 .background = true });
}

TEST(no_bell_is_lost_by_a_background_thread_on_two_cpus)
{
	hunt_lost_wakeups((struct hunt){ .children = 2, .rounds = 40000, .cpus = 2, .spin = true,
					 .background = true });
}

/* --------------------------------------------------------------------- policy */

static struct spin two_cpus(void)
{
	struct spin spin;

	spin_init(&spin, 20000);
	/* As if it had counted them just now. */
	spin.waits = UINT32_MAX;
	spin.cpus = 2;
	return spin;
}

TEST(one_cpu_never_spins)
{
	struct spin spin;

	use_cpus(1);
	spin_init(&spin, 20000);
	for (int i = 0; i < 3000; i++) {
		CHECK_EQ(spin_window(&spin, SPIN_AWAKE, false, i % 2), 0);
		CHECK_EQ(spin_window(&spin, SPIN_WAKING, false, false), 0);
	}
	use_cpus((int)sysconf(_SC_NPROCESSORS_ONLN));
}

TEST(the_affinity_mask_is_looked_at_again)
{
	struct spin spin;
	bool spun = false;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP("one CPU");
	use_cpus(1);
	spin_init(&spin, 20000);
	CHECK_EQ(spin_window(&spin, SPIN_AWAKE, false, false), 0);
	use_cpus(2);
	for (int i = 0; i < 3000; i++)
		spun |= spin_window(&spin, SPIN_AWAKE, false, false) > 0;
	CHECK(spun);
}

TEST(spins_that_lose_are_given_up_soon_and_cost_next_to_nothing_later)
{
	struct spin spin = two_cpus();
	uint64_t burnt = 0;

	for (int i = 0; i < 100000; i++) {
		uint32_t window = spin_window(&spin, SPIN_AWAKE, false, false);

		burnt += window;
		if (window)
			spin_lost(&spin, SPIN_AWAKE);
		if (i == 20)
			CHECK(burnt < 10 * 20000);
	}
	for (int i = 0; i < 100000; i++) {
		uint32_t window = spin_window(&spin, SPIN_WAKING, false, false);

		burnt += window;
		if (window)
			spin_lost(&spin, SPIN_WAKING);
	}
	/* Less than half a microsecond per wait. */
	CHECK(burnt < 100000ull * 500);
}

TEST(spins_that_win_make_the_window_fit_the_wait)
{
	struct spin spin = two_cpus();

	for (int i = 0; i < 100; i++) {
		CHECK(spin_window(&spin, SPIN_AWAKE, false, false) > 0);
		spin_won(&spin, SPIN_AWAKE, 300);
	}
	CHECK(spin_window(&spin, SPIN_AWAKE, false, false) <= 2000);
	for (int i = 0; i < 100; i++)
		spin_won(&spin, SPIN_AWAKE, 15000);
	CHECK_EQ(spin_window(&spin, SPIN_AWAKE, false, false), 20000);
	CHECK(spin_window(&spin, SPIN_AWAKE, true, false) <= 2000);
}

TEST(a_waiter_that_gave_up_finds_out_when_spinning_pays_again)
{
	struct spin spin = two_cpus();
	int waits = 0;

	for (int i = 0; i < 100000; i++)
		if (spin_window(&spin, SPIN_AWAKE, false, false))
			spin_lost(&spin, SPIN_AWAKE);
	while (waits < 1000 && !spin_window(&spin, SPIN_AWAKE, false, false))
		waits++;
	CHECK(waits < 1000);
	spin_won(&spin, SPIN_AWAKE, 500);
	for (int i = 0; i < 100; i++) {
		CHECK(spin_window(&spin, SPIN_AWAKE, false, false) > 0);
		spin_won(&spin, SPIN_AWAKE, 500);
	}
	/* A hint is taken in the middle of a pause. */
	for (int i = 0; i < 100; i++)
		spin_lost(&spin, SPIN_AWAKE);
	CHECK_EQ(spin_window(&spin, SPIN_AWAKE, false, false), 0);
	CHECK(spin_window(&spin, SPIN_AWAKE, false, true) > 0);
}

static bool count_and_answer(void *context)
{
	int *looks = context;

	return looks[0]++, looks[1];
}

/* How many of these waits have yielded; `ready`: the wait was over then. */
static int yields_of(struct spin *spin, int waits, bool ready)
{
	int looks[2] = { 0, ready };

	for (int i = 0; i < waits; i++)
		if (spin_may_yield(spin))
			CHECK_EQ(spin_yield(spin, count_and_answer, looks), ready);
	return looks[0];
}

TEST(yields_that_do_not_end_waits_are_given_up_and_tried_again)
{
	struct spin spin = two_cpus();
	int yields = yields_of(&spin, 10000, false);

	CHECK(yields < 60 && yields > 10000 / 256);
	CHECK_EQ(spin.lost, yields);
	/* One that ends a wait brings them back, unless the machine is so busy that it is late. */
	for (int i = 0; i < 10000 && spin.won == 0; i++)
		yields_of(&spin, 256, true);
	yields = yields_of(&spin, 1000, true);
	CHECK(yields > 10);
}

TEST(taking_turns_is_spun_through_by_a_busy_waiter_only)
{
	struct spin spin = two_cpus();

	CHECK(spin_is_attempt(&spin));
	CHECK(spin_window(&spin, SPIN_WAKING, false, false) > 0);
	spin_won(&spin, SPIN_WAKING, 16000);
	CHECK(!spin_is_attempt(&spin));
	spin_slept(&spin);
	CHECK(spin_window(&spin, SPIN_WAKING, false, false) > 0);
	CHECK_EQ(spin_window(&spin, SPIN_WAKING, true, false), 0);
	/* The last wait was long ago: sparse load sleeps. */
	spin.last_ns -= 1000000;
	CHECK_EQ(spin_window(&spin, SPIN_WAKING, false, false), 0);
	/* Wake-ups that take too long are slept through, too. */
	for (int i = 0; i < 50; i++)
		spin_won(&spin, SPIN_WAKING, 90000);
	CHECK(spin_is_attempt(&spin));
}
