// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The table of callables: handles and their errors, names, places that are used again,
 * and lookups by many threads while another registers and unregisters.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include "base/deadline.h"
#include "engine/engine.h"
#include "engine_test.h"
#include "unit.h"

static int wait_until(struct callable *callable, uint64_t at_ns)
{
	struct deadline deadline = deadline_at(at_ns);

	return callable_wait(callable, &deadline);
}

static int nothing(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

static int nothing_else(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

static dw_callable add_sub(const char *name, const void *owner)
{
	struct callable callable = {
		.kind = CALLABLE_SUB, .name = (char *)name, .sub = nothing, .owner = owner,
	};
	dw_callable handle = 0;

	CHECK_EQ(callable_add(&callable, &handle), 0);
	return handle;
}

TEST(a_handle_leads_to_a_copy_of_what_was_registered)
{
	int32_t signature[] = { DW_DIR_IN, DW_DIR_OUT, DW_DIR_SCALAR };
	char name[] = "sim:add", entry[] = "add";
	struct callable image = {
		.kind = CALLABLE_IMAGE, .name = name, .driver = "sim", .entry = entry,
		.signature = signature, .signature_count = 3, .data = name, .bytes = 8,
	};
	struct callable *got = NULL;
	dw_callable handle = 0;

	CHECK_EQ(callable_add(&image, &handle), 0);
	name[0] = entry[0] = 'x';
	signature[0] = 77;
	CHECK_EQ(handle >> 60, CALLABLE_IMAGE);
	CHECK_EQ(callable_get(handle, &got), 0);
	CHECK_EQ(got->handle, handle);
	CHECK_STR(got->name, "sim:add");
	CHECK_STR(got->entry, "add");
	CHECK_STR(got->driver, "sim");
	CHECK_EQ(got->signature[0], DW_DIR_IN);
	CHECK(got->data == name);
	CHECK_EQ(got->uses, 0);
	CHECK_EQ(callable_retire(handle), 0);
}

TEST(handles_that_are_none_are_refused_by_name)
{
	dw_callable handle = add_sub("refused", NULL);
	struct callable *got = NULL;

	CHECK_EQ(callable_get(0, &got), -ENOENT);
	CHECK_EQ(callable_get(UINT64_MAX, &got), -ENOENT);
	CHECK_EQ(callable_get(handle + 1000, &got), -ENOENT);
	CHECK_EQ(callable_get(handle + (1ull << 32), &got), -ENOENT);
	CHECK_EQ(callable_get(handle ^ 1ull << 60, &got), -ENOENT);
	CHECK_STR(error_text(), "is not registered");
	CHECK_EQ(callable_retire(handle + 1000), -ENOENT);
	CHECK_EQ(callable_retire(handle), 0);
	CHECK_EQ(callable_get(handle, &got), -ESTALE);
	CHECK_STR(error_text(), "was unregistered: refused");
	CHECK_EQ(callable_hold(handle, &got), -ESTALE);
	CHECK_EQ(callable_retire(handle), -ESTALE);
	CHECK(!got);
}

TEST(what_makes_no_sense_is_not_registered)
{
	struct callable callable = { .kind = CALLABLE_SUB, .sub = nothing };
	dw_callable handle = 0;

	CHECK_EQ(callable_add(&callable, &handle), -EINVAL);
	callable.name = "";
	CHECK_EQ(callable_add(&callable, &handle), -EINVAL);
	callable.name = "odd";
	callable.kind = 6;
	CHECK_EQ(callable_add(&callable, &handle), -EINVAL);
	CHECK_STR(error_text(), "odd");
	callable.kind = CALLABLE_SUB;
	callable.handle = 1ull << 60 | 1ull << 32 | 5;		/* of another kind */
	CHECK_EQ(callable_add(&callable, &handle), -EINVAL);
	CHECK_EQ(handle, 0);
}

TEST(a_name_is_taken_once_per_owner)
{
	int worker = 0, other = 0;
	dw_callable mine = add_sub("work", &worker), its = add_sub("work", &other), found = 0;
	struct callable again = {
		.kind = CALLABLE_ORCH, .name = "work", .orch = nothing_else, .owner = &worker,
	};

	CHECK(mine != its);
	CHECK_EQ(callable_add(&again, &found), -EEXIST);
	CHECK_STR(error_text(), "work");
	CHECK_EQ(callable_by_name("work", &found), 0);
	CHECK_EQ(found, mine);
	CHECK_EQ(callable_by_owner(&other, "work", &found), 0);
	CHECK_EQ(found, its);
	CHECK_EQ(callable_by_owner(&found, "work", &found), -ENOENT);
	CHECK_EQ(callable_retire(mine), 0);
	CHECK_EQ(callable_by_name("work", &found), 0);
	CHECK_EQ(found, its);
	CHECK_EQ(callable_add(&again, &mine), 0);
	CHECK_EQ(callable_retire(mine), 0);
	CHECK_EQ(callable_retire(its), 0);
	CHECK_EQ(callable_by_name("work", &found), -ENOENT);
	CHECK_STR(error_text(), "work");
}

/*
 * Failed before: without memory for a list they stayed, and the next Worker at the address of their
 * owner had "a callable named add" already.
 */
TEST(callables_of_an_owner_go_with_it)
{
	int worker = 0, other = 0;
	dw_callable first = add_sub("first", &worker), its = add_sub("its", &other), found = 0;
	dw_callable second = add_sub("second", &worker), third = add_sub("third", &worker);
	struct callable *callable;

	CHECK_EQ(callable_retire_begin(second, &worker, &callable), 0);
	CHECK(callable_is_leaving(second));
	callable_retire_owned(&worker);
	CHECK(!callable_is_leaving(second));
	CHECK_EQ(callable_by_owner(&worker, "first", &found), -ENOENT);
	CHECK_EQ(callable_by_owner(&worker, "third", &found), -ENOENT);
	CHECK_EQ(callable_retire(first), -ESTALE);
	CHECK_EQ(callable_retire(third), -ESTALE);
	CHECK_EQ(callable_by_owner(&other, "its", &found), 0);
	CHECK_EQ(found, its);
	CHECK_EQ(callable_retire(its), 0);
}

struct seen {
	dw_callable handles[16];
	int count, stop_at;
};

static int note(struct callable *callable, void *context)
{
	struct seen *seen = context;

	CHECK(callable->uses > 0);
	seen->handles[seen->count++] = callable->handle;
	return seen->count == seen->stop_at ? -ECANCELED : 0;
}

TEST(each_goes_in_order_of_registration_and_ends_with_an_error)
{
	dw_callable a = add_sub("a", NULL), b = add_sub("b", NULL), c = add_sub("c", NULL);
	struct seen seen = { .count = 0 };

	CHECK_EQ(callable_retire(b), 0);
	b = add_sub("b", NULL);
	CHECK_EQ(callable_each(note, &seen), 0);
	CHECK_EQ(seen.count, 3);
	CHECK_EQ(seen.handles[0], a);
	CHECK_EQ(seen.handles[1], c);
	CHECK_EQ(seen.handles[2], b);
	seen.count = 0;
	seen.stop_at = 2;
	CHECK_EQ(callable_each(note, &seen), -ECANCELED);
	CHECK_EQ(seen.count, 2);
	CHECK_EQ(callable_retire(a), 0);
	CHECK_EQ(callable_retire(b), 0);
	CHECK_EQ(callable_retire(c), 0);
}

/* A child adds the entries that its parent announces. */
TEST(an_entry_under_a_given_handle_is_the_parents)
{
	dw_callable first = 2ull << 60 | 1ull << 32 | 5001, second = first + (1ull << 32), out = 0;
	struct callable callable = {
		.handle = first, .kind = CALLABLE_SUB, .name = "told", .sub = nothing,
	};
	struct callable *got = NULL;

	CHECK_EQ(callable_get(first, &got), -ENOENT);
	CHECK_EQ(callable_add(&callable, &out), 0);
	CHECK_EQ(out, first);
	CHECK_EQ(callable_add(&callable, &out), 0);	/* told twice */
	callable.name = "another";
	CHECK_EQ(callable_add(&callable, &out), -ESTALE);
	callable.name = "told";
	callable.identity[0] = 1;
	CHECK_EQ(callable_add(&callable, &out), -ESTALE);
	callable.identity[0] = 0;
	CHECK_EQ(out, first);
	CHECK_EQ(callable_get(first, &got), 0);
	CHECK_EQ(callable_get(first - 1, &got), -ENOENT);
	callable.handle = second;
	callable.name = "told later";
	CHECK_EQ(callable_add(&callable, &out), 0);	/* the parent has reused the place */
	CHECK_EQ(callable_get(first, &got), -ESTALE);
	CHECK_EQ(callable_get(second, &got), 0);
	CHECK_STR(got->name, "told later");
	callable.handle = first;
	CHECK_EQ(callable_add(&callable, &out), -ESTALE);
	CHECK_EQ(callable_retire(second), 0);
	CHECK_EQ(callable_get(second, &got), -ESTALE);
}

TEST(registering_for_ever_takes_no_memory_and_no_handle_comes_twice)
{
	dw_callable handle, first = add_sub("first", NULL), last = first;
	struct callable *got;
	uint32_t highest = 0;

	CHECK_EQ(callable_retire(first), 0);
	for (int i = 0; i < 20000; i++) {
		handle = add_sub("passing", NULL);
		if ((uint32_t)handle > highest && i > 200)
			highest = handle;
		if (callable_get(last, &got) != -ESTALE || handle == last)
			CHECK_EQ(handle, 0);
		last = handle;
		CHECK_EQ(callable_retire(handle), 0);
	}
	CHECK(highest < 8000);
	CHECK_EQ(callable_get(first, &got), -ESTALE);
}

TEST(a_place_is_not_used_again_while_a_task_holds_it)
{
	dw_callable held = add_sub("held", NULL);
	struct callable *got = NULL;

	CHECK_EQ(callable_hold(held, &got), 0);
	CHECK_EQ(got->uses, 1);
	CHECK_EQ(callable_retire(held), 0);
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(callable_retire(add_sub("other", NULL)), 0);
	CHECK_EQ(got->handle, held);
	CHECK_STR(got->name, "held");
	CHECK_EQ(wait_until(got, 1), -ETIMEDOUT);
	CHECK_STR(error_text(), "held");
	callable_put(got);
	CHECK_EQ(wait_until(got, NEVER), 0);
}

/* ------------------------------------------------------------------ threads */

struct shared {
	_Atomic dw_callable handle;
	_Atomic uint64_t lookups, wrong;
	_Atomic bool stop;
};

static void *use(void *context)
{
	struct shared *shared = context;

	while (!atomic_load(&shared->stop)) {
		struct callable *got;
		int result = callable_hold(atomic_load(&shared->handle), &got);

		if (result) {
			shared->wrong += result != -ESTALE;
			continue;
		}
		/* The owner waits for this use before it frees `context`. */
		shared->wrong += *(_Atomic int *)got->context != 1;
		shared->lookups++;
		shared->wrong += *(_Atomic int *)got->context != 1;
		callable_put(got);
	}
	return NULL;
}

TEST(unregistering_waits_for_those_that_hold_it)
{
	static _Atomic int alive[2];
	struct shared shared = { 0 };
	struct callable callable = { .kind = CALLABLE_SUB, .name = "busy", .sub = nothing };
	uint64_t turns = 0, begin = cpu_ns();
	pthread_t threads[3];
	dw_callable handle = add_sub("gone", NULL);

	shared.handle = handle;
	CHECK_EQ(callable_retire(handle), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use, &shared), 0);
	while (cpu_ns() - begin < 200000000 && turns < 100000) {
		_Atomic int *mine = &alive[turns++ % 2];
		struct callable *got;

		atomic_store(mine, 1);
		callable.context = (void *)mine;
		CHECK_EQ(callable_add(&callable, &handle), 0);
		atomic_store(&shared.handle, handle);
		CHECK_EQ(callable_get(handle, &got), 0);
		CHECK_EQ(callable_retire(handle), 0);
		CHECK_EQ(wait_until(got, NEVER), 0);
		atomic_store(mine, 0);
	}
	atomic_store(&shared.stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("# %llu registrations, %llu lookups\n", (unsigned long long)turns,
	       (unsigned long long)shared.lookups);
	CHECK_EQ(shared.wrong, 0);
}

TEST(what_a_lookup_costs)
{
	uint64_t count = rounds(50000000), begin, sum = 0;
	dw_callable handles[8];
	struct callable *got;

	for (int i = 0; i < 8; i++) {
		char name[32];

		snprintf(name, sizeof(name), "lookup %d", i);
		handles[i] = add_sub(name, NULL);
	}
	begin = cpu_ns();
	for (uint64_t i = 0; i < count; i++)
		if (!callable_get(handles[i % 8], &got))
			sum += got->handle;
	printf("# get: %.1f ns\n", (double)(cpu_ns() - begin) / count);
	begin = cpu_ns();
	for (uint64_t i = 0; i < count; i++) {
		if (!callable_hold(handles[i % 8], &got)) {
			sum += got->handle;
			callable_put(got);
		}
	}
	printf("# hold and put: %.1f ns\n", (double)(cpu_ns() - begin) / count);
	CHECK(sum);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(callable_retire(handles[i]), 0);
}
