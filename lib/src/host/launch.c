/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See launch.h. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/deadline.h"
#include "base/futex.h"
#include "base/library.h"
#include "base/text.h"
#include "host/launch.h"
#include "host/pmix.h"
#include "host/secret.h"
#include "task/error.h"

#define BLOB_KEY "distworker.blob"
/* For one look-up after the fence, which has delivered the data. */
#define GET_SECONDS 30

static struct pmix_calls pmix;
static char pmix_why[LIBRARY_WHY_BYTES]; /* empty: it is there */
static pthread_once_t opened = PTHREAD_ONCE_INIT;
static atomic_flag begun = ATOMIC_FLAG_INIT;
/*
 * Belongs to the one fence of this process: 1 when the fence is over. It is not in struct launch,
 * because a fence that missed its deadline may end later, on a thread of PMIx.
 */
static _Atomic uint32_t fence_over;
static _Atomic int fence_status;

struct launch {
	struct pmix_process self;
	uint32_t size;
	bool open; /* PMIx is */
	unsigned char key[LAUNCH_KEY_BYTES];
	struct pmix_bytes *blobs; /* one for each rank; those of others may be empty */
};

static void open_pmix(void)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{ "PMIx_Init", &pmix.init },
		{ "PMIx_Finalize", &pmix.finalize },
		{ "PMIx_Put", &pmix.put },
		{ "PMIx_Commit", &pmix.commit },
		{ "PMIx_Fence_nb", &pmix.fence },
		{ "PMIx_Get", &pmix.get },
		{ "PMIx_Error_string", &pmix.error_string },
	};
	void *handle = library_open(PMIX_SONAME, RTLD_NOW | RTLD_LOCAL, pmix_why);
	void *address;

	for (size_t i = 0; handle && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		address = dlsym(handle, symbols[i].name);
		if (!address) {
			text_format(pmix_why, sizeof(pmix_why), "it has no %s()", symbols[i].name);
			return;
		}
		memcpy(symbols[i].place, &address, sizeof(address));
	}
}

static const char *environment(const char *name)
{
	const char *value = secure_getenv(name);

	return value && *value ? value : NULL;
}

bool launch_present(void)
{
	return environment("PMIX_NAMESPACE") && environment("PMIX_RANK");
}

/* A number that is not 1; NULL: there is none. */
static const char *several(const char *name)
{
	const char *number = environment(name);

	return number && strcmp(number, "1") != 0 ? number : NULL;
}

/* A batch script has no step: it may be of a job of many tasks, and runs once. */
static const char *srun_tasks(void)
{
	return environment("SLURM_STEP_ID") && environment("SLURM_PROCID") ?
		       several("SLURM_STEP_NUM_TASKS") : NULL;
}

static const char *pmi_size(void)
{
	return environment("PMI_RANK") ? several("PMI_SIZE") : NULL;
}

int launch_alone(void)
{
	const char *count = srun_tasks();

	if (!count)
		count = pmi_size();
	if (!count)
		count = several("OMPI_COMM_WORLD_SIZE");
	if (!count)
		return 0;
	return error_set(-EINVAL,
			 "a launcher has started %s processes, and each of them would start nodes "
			 "on what options.hosts (--hosts) names: one of the two is enough",
			 text_short(count));
}

static int not_launched(void)
{
	const char *tasks = srun_tasks(), *size = pmi_size();

	if (tasks)
		return error_set(-EPROTONOSUPPORT,
				 "srun has started %s processes without PMIx, and each of them "
				 "would run everything by itself: srun --mpi=pmix makes one run "
				 "of them (srun --mpi=list shows whether Slurm has it); for %s "
				 "runs, env -u SLURM_STEP_NUM_TASKS before the program",
				 tasks, tasks);
	if (size)
		return error_set(-EPROTONOSUPPORT,
				 "a launcher with PMI and without PMIx has started %s processes, "
				 "and each of them would run everything by itself: mpirun of Open "
				 "MPI or prterun makes one run of them; for %s runs, env -u "
				 "PMI_SIZE before the program",
				 size, size);
	return error_set(-ENOENT, "no launcher with PMIx has started this process: there is no "
				  "PMIX_RANK in its environment (mpirun, srun --mpi=pmix and "
				  "prterun set it)");
}

/* Returns a status of PMIx, or 0. */
static int failed(int error, const char *call, int status)
{
	if (status == PMIX_DONE)
		return 0;
	return error_set(error, "%s: %s (%d)", call, text_short(pmix.error_string(status)), status);
}

/* Gets a value of one process, or of the job; the caller frees it. */
static int get(const struct launch *launch, uint32_t rank, const char *key, uint16_t type,
	       struct pmix_datum **value)
{
	struct pmix_process of = launch->self;
	struct pmix_attribute timeout = {
		.key = PMIX_ATTRIBUTE_TIMEOUT,
		.value = { .type = PMIX_TYPE_INT, .data.integer = GET_SECONDS },
	};
	int status;

	of.rank = rank;
	*value = NULL;
	status = pmix.get(&of, key, &timeout, 1, value);
	if (status != PMIX_DONE)
		return failed(-EPROTO, key, status);
	if (*value && (*value)->type == type)
		return 0;
	return error_set(-EPROTO, "the launcher's %s has type %d, and not %d", key,
			 *value ? (*value)->type : 0, type);
}

static int ask_size(struct launch *launch)
{
	struct pmix_datum *value;
	int result = get(launch, PMIX_ANY_RANK, PMIX_ATTRIBUTE_JOB_SIZE, PMIX_TYPE_UINT32, &value);

	if (result == 0)
		launch->size = value->data.number;
	/* A value of another type may own memory, which is leaked. */
	free(value);
	if (result == 0 && launch->self.rank >= launch->size)
		result = error_set(-EPROTO, "the launcher says that this is rank %u of %u",
				   launch->self.rank, launch->size);
	return result;
}

static int begin(struct launch *launch)
{
	int status, result;

	if (atomic_flag_test_and_set(&begun))
		return error_set(-EALREADY, "this process has met its launcher before: PMIx is "
					    "initialised once");
	status = pmix.init(&launch->self, NULL, 0);
	if (status != PMIX_DONE) {
		failed(-ECONNREFUSED, "PMIx_Init", status);
		return error_prefix(-ECONNREFUSED,
				    "rank %s of namespace %s cannot reach its launcher (it may "
				    "have ended; a libpmix of another version needs "
				    "PMIX_MCA_gds=hash on both sides): ",
				    text_short(environment("PMIX_RANK")),
				    text_short(environment("PMIX_NAMESPACE")));
	}
	launch->open = true;
	result = ask_size(launch);
	if (result == 0) {
		launch->blobs = calloc(launch->size, sizeof(*launch->blobs));
		if (!launch->blobs)
			result = error_set(-ENOMEM, "no memory for %u ranks", launch->size);
	}
	return result;
}

int launch_begin(struct launch **result)
{
	struct launch *launch;
	int error;

	if (!launch_present())
		return not_launched();
	pthread_once(&opened, open_pmix);
	if (pmix_why[0])
		return error_set(-ENOSYS,
				 "a launcher has started this process, and meeting the others "
				 "needs " PMIX_SONAME " (Debian: libpmix2, libpmix2t64): %s",
				 pmix_why);
	launch = calloc(1, sizeof(*launch));
	if (!launch)
		return error_set(-ENOMEM, "no memory for the launcher's ranks");
	error = begin(launch);
	if (error == 0)
		*result = launch;
	else
		launch_end(launch);
	return error;
}

uint32_t launch_rank(const struct launch *launch)
{
	return launch->self.rank;
}

uint32_t launch_size(const struct launch *launch)
{
	return launch->size;
}

static void close_pmix(struct launch *launch)
{
	if (launch->open)
		pmix.finalize(NULL, 0);
	launch->open = false;
}

/* ------------------------------------------------------------------------ exchange */

/* Rank 0 puts the key in front of its blob. */
static int put(struct launch *launch, const void *blob, size_t bytes)
{
	unsigned char data[LAUNCH_KEY_BYTES + LAUNCH_BLOB_MOST];
	size_t before = launch->self.rank ? 0 : LAUNCH_KEY_BYTES;
	struct pmix_datum value = {
		.type = PMIX_TYPE_BYTES,
		.data.bytes = { .bytes = (char *)data, .size = before + bytes },
	};
	int result = before ? secret_random(launch->key, LAUNCH_KEY_BYTES) : 0;

	if (result < 0)
		return result;
	memcpy(data, launch->key, before);
	memcpy(data + before, blob, bytes);
	result = failed(-EIO, "PMIx_Put", pmix.put(PMIX_SCOPE_GLOBAL, BLOB_KEY, &value));
	explicit_bzero(data, before);
	return result < 0 ? result : failed(-EIO, "PMIx_Commit", pmix.commit());
}

/* Runs on a thread of PMIx. */
static void fence_ends(int status, void *context)
{
	(void)context;
	atomic_store_explicit(&fence_status, status, memory_order_relaxed);
	/* Pairs with the acquire in meet(). */
	atomic_store_explicit(&fence_over, 1, memory_order_release);
	futex_wake(&fence_over, 1, FUTEX_PRIVATE);
}

/* Waits until all ranks have put their blobs. */
static int meet(struct launch *launch, uint64_t deadline_ns)
{
	struct pmix_attribute collect = {
		.key = PMIX_ATTRIBUTE_COLLECT,
		.value = { .type = PMIX_TYPE_BOOL, .data.flag = true },
	};
	struct deadline deadline = deadline_at(deadline_ns);
	int status = pmix.fence(NULL, 0, &collect, 1, fence_ends, NULL);

	if (status == PMIX_DONE_AT_ONCE)
		return 0;
	if (status != PMIX_DONE)
		return failed(-EIO, "PMIx_Fence", status);
	while (!atomic_load_explicit(&fence_over, memory_order_acquire)) {
		futex_wait(&fence_over, 0, deadline_sleep(&deadline, now_ns()), FUTEX_PRIVATE);
		if (deadline_passed(&deadline, now_ns()) &&
		    !atomic_load_explicit(&fence_over, memory_order_acquire))
			return error_set(-ETIMEDOUT,
					 "rank %u has waited for the other %u ranks that the "
					 "launcher has started, and not all of them have come: "
					 "do all run the same program?",
					 launch->self.rank, launch->size - 1);
	}
	return failed(-EIO, "PMIx_Fence", atomic_load_explicit(&fence_status,
							       memory_order_relaxed));
}

static int fetch(struct launch *launch, uint32_t rank)
{
	size_t before = rank ? 0 : LAUNCH_KEY_BYTES;
	struct pmix_bytes *blob = &launch->blobs[rank];
	struct pmix_datum *value;
	int result = get(launch, rank, BLOB_KEY, PMIX_TYPE_BYTES, &value);

	if (result < 0) {
		free(value);
		return error_prefix(result, "rank %u: ", rank);
	}
	*blob = value->data.bytes;
	free(value);
	if (blob->size <= before || blob->size > before + LAUNCH_BLOB_MOST)
		return error_set(-EPROTO, "rank %u says %zu bytes about itself: is it the same "
					  "version of distworker?",
				 rank, blob->size);
	if (before) {
		memcpy(launch->key, blob->bytes, before);
		blob->size -= before;
		memmove(blob->bytes, blob->bytes + before, blob->size);
		explicit_bzero(blob->bytes + blob->size, before);
	}
	return 0;
}

int launch_exchange(struct launch *launch, const void *blob, size_t bytes, uint64_t deadline_ns)
{
	int result;

	if (!launch->open || bytes < 1 || bytes > LAUNCH_BLOB_MOST)
		result = error_set(-EINVAL,
				   "an exchange of %zu bytes: 1 to %d, and one exchange, would "
				   "be right",
				   bytes, LAUNCH_BLOB_MOST);
	else
		result = put(launch, blob, bytes);
	if (result == 0)
		result = meet(launch, deadline_ns);
	for (uint32_t rank = 0; result == 0 && rank < launch->size; rank++)
		if (!launch->self.rank || !rank || rank == launch->self.rank)
			result = fetch(launch, rank);
	close_pmix(launch);
	return result;
}

const void *launch_blob(const struct launch *launch, uint32_t rank, size_t *bytes)
{
	*bytes = launch->blobs[rank].size;
	return launch->blobs[rank].bytes;
}

const unsigned char *launch_key(const struct launch *launch)
{
	return launch->key;
}

void launch_end(struct launch *launch)
{
	if (!launch)
		return;
	close_pmix(launch);
	for (uint32_t rank = 0; launch->blobs && rank < launch->size; rank++)
		free(launch->blobs[rank].bytes);
	free(launch->blobs);
	explicit_bzero(launch->key, sizeof(launch->key));
	free(launch);
}
