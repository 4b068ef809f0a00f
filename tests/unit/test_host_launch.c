/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Processes that a launcher starts together (host/launch.h), under mpirun, and under srun where
 * tests/hosts/slurm has started this program; and the addresses that they choose (host/reach.h).
 *
 * Under a launcher this program is a rank: LAUNCH_RANK names its part, and it runs no test. A part
 * returns an exit status; a rank says what it has seen in a line of its own, which the test reads.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "host/launch.h"
#include "host/pmix.h"
#include "host/reach.h"
#include "task/error.h"
#include "unit.h"
#if __has_include(<pmix.h>)
#define HAVE_PMIX_H
#include <pmix.h>
#endif

#define MINUTE_NS (60 * NS_PER_S)
#define RANKS 4
#define OUTPUT_BYTES 16384

/* ------------------------------------------------------------------------ the ranks */

static uint64_t sum_of(const void *bytes, size_t count)
{
	uint64_t sum = 14695981039346656037ULL;

	for (size_t i = 0; i < count; i++)
		sum = (sum ^ ((const unsigned char *)bytes)[i]) * 1099511628211ULL;
	return sum;
}

/* Tasks of this process: PMIx has a thread while it is open. */
static int threads(void)
{
	struct stat status;

	return stat("/proc/self/task", &status) < 0 ? -1 : (int)status.st_nlink - 2;
}

static int say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int say(const char *format, ...)
{
	char line[ERROR_TEXT_BYTES + 64];
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	return write(STDOUT_FILENO, line, (size_t)length) == length ? 0 : 1;
}

/* A blob of another length and content for each rank. */
static size_t blob_of(uint32_t rank, unsigned char blob[LAUNCH_BLOB_MOST])
{
	size_t bytes = rank == 1 ? LAUNCH_BLOB_MOST : 1 + 7 * rank;

	memset(blob, (int)('a' + rank), bytes);
	return bytes;
}

static uint32_t count_good(const struct launch *launch, uint32_t *there)
{
	unsigned char expected[LAUNCH_BLOB_MOST];
	uint32_t good = 0;

	*there = 0;
	for (uint32_t rank = 0; rank < launch_size(launch); rank++) {
		size_t bytes, wanted = blob_of(rank, expected);
		const void *blob = launch_blob(launch, rank, &bytes);

		*there += blob != NULL;
		good += blob && bytes == wanted && !memcmp(blob, expected, wanted);
	}
	return good;
}

static int rank_fails(const char *call, int result)
{
	return say("%s: %d: %s\n", call, result, error_text());
}

static int rank_meets(void)
{
	unsigned char blob[LAUNCH_BLOB_MOST];
	struct launch *launch = NULL, *again = NULL;
	uint32_t good, there;
	int result = launch_begin(&launch), before = threads();

	if (result < 0)
		return rank_fails("begin", result);
	result = launch_exchange(launch, blob, blob_of(launch_rank(launch), blob),
				 deadline_in(MINUTE_NS));
	if (result < 0)
		return rank_fails("exchange", result);
	good = count_good(launch, &there);
	result = say("rank %u of %u: %u blobs, %u good, key %016llx, threads ended: %d, again %d\n",
		     launch_rank(launch), launch_size(launch), there, good,
		     (unsigned long long)sum_of(launch_key(launch), LAUNCH_KEY_BYTES),
		     before - threads(), launch_begin(&again));
	launch_end(launch);
	return result;
}

/* After the exchange rank 1 kills itself; once it is dead, the others report that they live. */
static int rank_loses_one(void)
{
	struct launch *launch = NULL;
	size_t bytes;
	int result = launch_begin(&launch);
	char path[64], end;
	const char *blob;
	int fd;

	if (result < 0)
		return rank_fails("begin", result);
	/* A named pipe, whose end tells of rank 1's death. */
	snprintf(path, sizeof(path), "%s", getenv("LAUNCH_PIPE"));
	if (launch_rank(launch) == 1 && open(path, O_RDWR | O_CLOEXEC) < 0)
		return 1;
	result = launch_exchange(launch, path, sizeof(path), deadline_in(MINUTE_NS));
	if (result < 0)
		return rank_fails("exchange", result);
	if (launch_rank(launch) == 1)
		raise(SIGKILL);
	blob = launch_blob(launch, 0, &bytes);
	fd = open(blob, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0 || read(fd, &end, 1) != 0)
		return 1;
	result = say("rank %u lives\n", launch_rank(launch));
	launch_end(launch);
	return result;
}

/* Rank 1 does not arrive before the others have given up. */
static int rank_waits_in_vain(void)
{
	struct launch *launch = NULL;
	int result = launch_begin(&launch), expected, fd;
	char end;

	if (result < 0)
		return rank_fails("begin", result);
	expected = launch_rank(launch) == 1 ? 0 : -ETIMEDOUT;
	fd = open(getenv("LAUNCH_PIPE"), expected ? O_WRONLY : O_RDONLY);
	if (fd < 0)
		return 1;
	if (!expected) {
		if (read(fd, &end, 1) != 0)
			return 1;
	} else {
		result = launch_exchange(launch, "x", 1, deadline_in(NS_PER_S / 2));
		rank_fails("exchange", result);
	}
	launch_end(launch);
	return result != expected;
}

static int rank_is_wrong(void)
{
	static unsigned char blob[LAUNCH_BLOB_MOST + 1];
	struct launch *launch = NULL;
	int result = launch_begin(&launch);

	if (result < 0)
		return rank_fails("begin", result);
	rank_fails("exchange", launch_exchange(launch, blob, sizeof(blob), NEVER));
	/* It was closed by that. */
	rank_fails("exchange", launch_exchange(launch, blob, 1, NEVER));
	launch_end(launch);
	return 0;
}

static int rank_begins(void)
{
	struct launch *launch = NULL;

	rank_fails("begin", launch_begin(&launch));
	return say("libpmix is %sopen\n",
		   dlopen(PMIX_SONAME, RTLD_LAZY | RTLD_NOLOAD) ? "" : "not ");
}

__attribute__((constructor)) static void be_a_rank(void)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} parts[] = {
		{ "meets", rank_meets }, { "loses-one", rank_loses_one },
		{ "waits", rank_waits_in_vain }, { "wrong", rank_is_wrong },
		{ "begins", rank_begins },
	};
	const char *part = getenv("LAUNCH_RANK");

	for (size_t i = 0; part && i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strcmp(part, parts[i].name))
			continue;
		unit_bound(UNIT_SECONDS);
		_exit(parts[i].run());
	}
}

/* ------------------------------------------------------------------------ launchers */

struct launcher {
	const char *name, *command; /* COMMAND N PROGRAM */
	const char *survives; /* the same; the death of one rank is not that of all */
};

/* The launcher of this run: srun where tests/hosts/slurm has started this program. */
static const struct launcher *launcher(void)
{
	static const struct launcher launchers[] = {
		{ "srun", "srun --mpi=pmix --kill-on-bad-exit=0 -n",
		  "srun --mpi=pmix --kill-on-bad-exit=0 --no-kill -n" },
		{ "mpirun", "mpirun --allow-run-as-root --oversubscribe -n",
		  "mpirun --allow-run-as-root --oversubscribe --enable-recovery --continuous -n" },
	};
	const struct launcher *chosen = &launchers[getenv("DW_TEST_SLURM") ? 0 : 1];
	char command[64];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", chosen->name);
	/* The shell can tell whether a program exists. */
	return system(command) == 0 ? chosen : NULL;
}

/* Reads the output of a command, and returns its exit status. */
static int run(const char *command, char output[OUTPUT_BYTES])
{
	FILE *pipe = popen(command, "re");
	size_t got;
	int status;

	if (!CHECK(pipe != NULL))
		return -1;
	got = fread(output, 1, OUTPUT_BYTES - 1, pipe);
	output[got] = '\0';
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int launch_ranks(const char *how, int ranks, const char *part, char output[OUTPUT_BYTES])
{
	char command[2048], self[1024];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status;

	if (!CHECK(length > 0))
		return -1;
	self[length] = '\0';
	setenv("LAUNCH_RANK", part, 1);
	snprintf(command, sizeof(command), "%s %d '%s' 2>&1", how, ranks, self);
	status = run(command, output);
	unsetenv("LAUNCH_RANK");
	return status;
}

static int count_of(const char *text, const char *part)
{
	int count = 0;

	for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
		count++;
	return count;
}

/* Shows what was printed when a check has failed. */
static void show(const char *output)
{
	char copy[OUTPUT_BYTES], *rest;

	if (!unit_failures)
		return;
	snprintf(copy, sizeof(copy), "%s", output);
	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		printf("# %s\n", line);
}

#define LAUNCHED_TEST(test_name) \
	static void test_name##_by(const struct launcher *by); \
	TEST(test_name) \
	{ \
		const struct launcher *by = launcher(); \
		if (!by) \
			SKIP("neither mpirun (openmpi-bin) nor a Slurm is here"); \
		test_name##_by(by); \
	} \
	static void test_name##_by(const struct launcher *by)

/* -------------------------------------------------------------------------- launch */

LAUNCHED_TEST(all_ranks_get_one_key_and_rank_0_all_blobs)
{
	static char output[OUTPUT_BYTES];
	char line[96], keys[2][20] = { "", "" };

	for (int round = 0; round < 2; round++) {
		const char *key;

		CHECK_EQ(launch_ranks(by->command, RANKS, "meets", output), 0);
		CHECK_EQ(count_of(output, "rank 0 of 4: 4 blobs, 4 good, key "), 1);
		for (int rank = 1; rank < RANKS; rank++) {
			snprintf(line, sizeof(line), "rank %d of 4: 2 blobs, 2 good, key ", rank);
			CHECK_EQ(count_of(output, line), 1);
		}
		key = strstr(output, "key ");
		REQUIRE(key != NULL);
		snprintf(keys[round], sizeof(keys[round]), "%.16s", key + 4);
		snprintf(line, sizeof(line), "key %s", keys[round]);
		CHECK_EQ(count_of(output, line), RANKS);
		/* Nothing of PMIx is left, and it cannot be begun again. */
		CHECK_EQ(count_of(output, "threads ended: 1, again -114\n"), RANKS);
		show(output);
	}
	CHECK(strcmp(keys[0], keys[1]) != 0);
}

LAUNCHED_TEST(one_rank_alone_meets_nobody)
{
	static char output[OUTPUT_BYTES];

	CHECK_EQ(launch_ranks(by->command, 1, "meets", output), 0);
	CHECK_STR(output, "rank 0 of 1: 1 blobs, 1 good");
	show(output);
}

LAUNCHED_TEST(the_death_of_a_rank_after_the_exchange_ends_no_other)
{
	static char output[OUTPUT_BYTES];
	char path[] = "/tmp/launch-XXXXXX", pipe[64];

	REQUIRE(mkdtemp(path) != NULL);
	snprintf(pipe, sizeof(pipe), "%s/pipe", path);
	REQUIRE(mkfifo(pipe, 0600) == 0);
	setenv("LAUNCH_PIPE", pipe, 1);
	launch_ranks(by->survives, RANKS, "loses-one", output);
	CHECK_EQ(count_of(output, " lives\n"), RANKS - 1);
	CHECK_EQ(count_of(output, "rank 1 lives\n"), 0);
	show(output);
	unlink(pipe);
	rmdir(path);
}

LAUNCHED_TEST(a_rank_that_does_not_come_is_waited_for_until_the_deadline)
{
	static char output[OUTPUT_BYTES];
	char path[] = "/tmp/launch-XXXXXX", pipe[64];

	REQUIRE(mkdtemp(path) != NULL);
	snprintf(pipe, sizeof(pipe), "%s/pipe", path);
	REQUIRE(mkfifo(pipe, 0600) == 0);
	setenv("LAUNCH_PIPE", pipe, 1);
	CHECK_EQ(launch_ranks(by->command, 2, "waits", output), 0);
	CHECK_STR(output, "exchange: -110: rank 0 has waited for the other 1 ranks");
	show(output);
	unlink(pipe);
	rmdir(path);
}

LAUNCHED_TEST(a_blob_that_is_too_long_and_a_second_exchange_are_refused)
{
	static char output[OUTPUT_BYTES];

	CHECK_EQ(launch_ranks(by->command, 1, "wrong", output), 0);
	CHECK_STR(output, "exchange: -22: an exchange of 4097 bytes: 1 to 4096");
	CHECK_STR(output, "exchange: -22: an exchange of 1 bytes: ");
	show(output);
}

static bool no_library(void)
{
	static char output[OUTPUT_BYTES];

	launch_ranks("env PMIX_NAMESPACE=nobody PMIX_RANK=0 sh -c '\"$1\"'", 0, "begins", output);
	return strstr(output, "needs libpmix") != NULL;
}

TEST(without_a_launcher_pmix_is_not_opened)
{
	static char output[OUTPUT_BYTES];

	CHECK_EQ(launch_ranks("env -u PMIX_RANK -u SLURM_STEP_ID sh -c '\"$1\"'", 0, "begins",
			      output), 0);
	CHECK_STR(output, "begin: -2: no launcher with PMIx has started this process: there is no "
			  "PMIX_RANK in its environment");
	CHECK_STR(output, "libpmix is not open");
	CHECK_EQ(launch_ranks("env -u PMIX_RANK SLURM_STEP_ID=0 SLURM_PROCID=1 "
			      "SLURM_STEP_NUM_TASKS=4 sh -c '\"$1\"'", 0, "begins", output), 0);
	CHECK_STR(output, "begin: -93: srun has started 4 processes without PMIx");
	CHECK_EQ(launch_ranks("env -u PMIX_RANK -u SLURM_STEP_ID PMI_RANK=1 PMI_SIZE=4 "
			      "sh -c '\"$1\"'", 0, "begins", output), 0);
	CHECK_STR(output, "begin: -93: a launcher with PMI and without PMIx has started 4 ");
	/* One process is alone, whatever has started it. */
	CHECK_EQ(launch_ranks("env -u PMIX_RANK SLURM_STEP_ID=0 SLURM_PROCID=0 PMI_RANK=0 "
			      "PMI_SIZE=1 SLURM_STEP_NUM_TASKS=1 sh -c '\"$1\"'", 0, "begins",
			      output), 0);
	CHECK_STR(output, "begin: -2: no launcher with PMIx has started this process");
	show(output);
}

TEST(hosts_are_named_by_one_process)
{
	static const struct {
		const char *names[3], *values[3];
		bool alone;
	} environments[] = {
		{ { NULL }, { NULL }, true },
		{ { "OMPI_COMM_WORLD_SIZE" }, { "4" }, false },
		{ { "OMPI_COMM_WORLD_SIZE" }, { "1" }, true },
		{ { "PMI_SIZE", "PMI_RANK" }, { "4", "0" }, false },
		/* A batch script. */
		{ { "SLURM_STEP_NUM_TASKS" }, { "4" }, true },
		{ { "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID", "SLURM_PROCID" }, { "4", "0", "1" },
		  false },
	};

	for (size_t i = 0; i < sizeof(environments) / sizeof(environments[0]); i++) {
		pid_t pid = fork();
		int status = -1;

		if (pid == 0) {
			for (int j = 0; j < 3 && environments[i].names[j]; j++)
				setenv(environments[i].names[j], environments[i].values[j], 1);
			_exit((launch_alone() == 0) != environments[i].alone);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

TEST(a_launcher_that_is_gone_is_an_error_with_rank_and_namespace)
{
	static char output[OUTPUT_BYTES];

	if (no_library())
		SKIP("libpmix is not installed");
	launch_ranks("env PMIX_NAMESPACE=nobody PMIX_RANK=7 sh -c '\"$1\"'", 0, "begins", output);
	CHECK_STR(output, "begin: -111: rank 7 of namespace nobody cannot reach its launcher");
	/* The name is the library's: UNREACHABLE, and PMIX_ERR_UNREACH from PMIx 5 on. */
	CHECK_STR(output, "PMIx_Init: ");
	CHECK_STR(output, "UNREACH");
	CHECK_STR(output, " (-25)");
	show(output);
}

TEST(a_libpmix_that_is_none_is_an_error_with_the_packages_name)
{
	static char output[OUTPUT_BYTES];
	char path[] = "/tmp/launch-XXXXXX", file[64], how[256];
	int fd;

	REQUIRE(mkdtemp(path) != NULL);
	snprintf(file, sizeof(file), "%s/libpmix.so.2", path);
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "no library", 10) == 10);
	close(fd);
	snprintf(how, sizeof(how),
		 "env LD_LIBRARY_PATH=%s PMIX_NAMESPACE=n PMIX_RANK=0 sh -c '\"$1\"'", path);
	launch_ranks(how, 0, "begins", output);
	CHECK_STR(output, "begin: -38: a launcher has started this process, and meeting the others "
			  "needs libpmix.so.2 (Debian: libpmix2, libpmix2t64): ");
	CHECK_STR(output, file);
	show(output);
	unlink(file);
	rmdir(path);
}

TEST(sizes_and_numbers_are_those_of_the_header_of_pmix)
{
#ifdef HAVE_PMIX_H
	struct pmix_datum value;
	pmix_value_t real;

#define SAME(ours, theirs) CHECK_EQ(ours, theirs)
	SAME(sizeof(struct pmix_process), sizeof(pmix_proc_t));
	SAME(offsetof(struct pmix_process, rank), offsetof(pmix_proc_t, rank));
	SAME(sizeof(struct pmix_bytes), sizeof(pmix_byte_object_t));
	SAME(offsetof(struct pmix_bytes, size), offsetof(pmix_byte_object_t, size));
	SAME(sizeof(value), sizeof(real));
	SAME(sizeof(value.type), sizeof(real.type));
	SAME(offsetof(struct pmix_datum, data), offsetof(pmix_value_t, data));
	SAME(sizeof(value.data.flag), sizeof(real.data.flag));
	SAME(sizeof(value.data.integer), sizeof(real.data.integer));
	SAME(sizeof(value.data.number), sizeof(real.data.uint32));
	SAME(sizeof(struct pmix_attribute), sizeof(pmix_info_t));
	SAME(offsetof(struct pmix_attribute, flags), offsetof(pmix_info_t, flags));
	SAME(offsetof(struct pmix_attribute, value), offsetof(pmix_info_t, value));
	SAME(PMIX_NAMESPACE_BYTES, sizeof(pmix_nspace_t));
	SAME(PMIX_KEY_BYTES, sizeof(pmix_key_t));
	SAME(PMIX_ANY_RANK, PMIX_RANK_WILDCARD);
	SAME(PMIX_DONE, PMIX_SUCCESS);
	SAME(PMIX_DONE_AT_ONCE, PMIX_OPERATION_SUCCEEDED);
	SAME(PMIX_TYPE_BOOL, PMIX_BOOL);
	SAME(PMIX_TYPE_INT, PMIX_INT);
	SAME(PMIX_TYPE_UINT32, PMIX_UINT32);
	SAME(PMIX_TYPE_BYTES, PMIX_BYTE_OBJECT);
	SAME(PMIX_SCOPE_GLOBAL, PMIX_GLOBAL);
	CHECK_STR(PMIX_ATTRIBUTE_JOB_SIZE, PMIX_JOB_SIZE);
	CHECK_STR(PMIX_ATTRIBUTE_COLLECT, PMIX_COLLECT_DATA);
	CHECK_STR(PMIX_ATTRIBUTE_TIMEOUT, PMIX_TIMEOUT);
	/* The types of the calls: the compiler compares them, but for names of structs. */
#define CALL(name, ...) SAME(__builtin_types_compatible_p(__typeof__(name), __VA_ARGS__), 1)
	CALL(PMIx_Commit, int(void));
	CALL(PMIx_Error_string, const char *(int));
	CALL(PMIx_Put, int(uint8_t, const char *, pmix_value_t *));
	CALL(PMIx_Init, int(pmix_proc_t *, pmix_info_t *, size_t));
	CALL(PMIx_Finalize, int(const pmix_info_t *, size_t));
	CALL(PMIx_Get, int(const pmix_proc_t *, const char *, const pmix_info_t *, size_t,
			   pmix_value_t **));
	CALL(PMIx_Fence_nb, int(const pmix_proc_t *, size_t, const pmix_info_t *, size_t,
				pmix_done *, void *));
#else
	SKIP("pmix.h (libpmix-dev) is not installed");
#endif
}

/* --------------------------------------------------------------------------- reach */

static int listen_on(const char *text)
{
	struct address address;

	if (!CHECK_EQ(address_parse("address", text, &address), 0))
		return -1;
	return address_listen(&address);
}

TEST(within_one_network_namespace_loopback_is_chosen)
{
	int fd = listen_on("0.0.0.0:0");
	char offer[REACH_BYTES], own[ADDRESS_BYTES];
	struct address address, bound;

	REQUIRE(fd >= 0);
	address_of_own(fd, own);
	CHECK_EQ(address_parse("own", own, &bound), 0);
	CHECK_EQ(reach_offer(fd, NULL, offer), 0);
	CHECK_EQ(reach_choose(offer, "rank 1", &address), 0);
	CHECK_STR(address.host, "127.0.0.1");
	CHECK_STR(address.port, bound.port);
	CHECK_STR(bound.port, address.port);
	/* Another namespace of the same kernel is not. */
	offer[strcspn(offer, " ") - 1] ^= 1;
	strcat(offer, " 203.0.113.9");
	CHECK_EQ(reach_choose(offer, "rank 1", &address), 0);
	CHECK(strcmp(address.host, "127.0.0.1") != 0);
	close(fd);
}

/* In a network namespace with 10.9.8.7/24 and 2001:db8::7/64: is this address chosen from these? */
static int choose_among(const char *addresses, const char *wanted)
{
	char offer[REACH_BYTES];
	struct address address;

	snprintf(offer, sizeof(offer), "- 1 %s", addresses);
	return reach_choose(offer, "rank 1", &address) < 0 || strcmp(address.host, wanted) != 0;
}

static int choose_in_a_namespace(void)
{
	char offer[REACH_BYTES];
	int fd;

	if (unshare(CLONE_NEWNET) < 0 ||
	    system("{ ip link add dw0 type veth peer name dw1 && "
		   "ip addr add 10.9.8.7/24 dev dw0 && "
		   "ip addr add 2001:db8::7/64 dev dw0 nodad && "
		   "ip link set dw0 up && ip link set dw1 up; } 2>/dev/null"))
		return 77;
	if (choose_among("10.9.7.1 10.9.8.200 10.9.8.1", "10.9.8.200"))
		return 1;
	if (choose_among("10.9.7.1 2001:db8:1::7 2001:db8::9", "2001:db8::9"))
		return 2;
	if (choose_among("10.9.7.1 10.9.6.1", "10.9.7.1"))
		return 3;
	fd = listen_on("0.0.0.0:0");
	if (fd < 0 || reach_offer(fd, NULL, offer) < 0 || !strstr(offer, " 10.9.8.7/24") ||
	    strstr(offer, "127.0.0.1") || strstr(offer, "db8"))
		return 4;
	fd = listen_on("[::]:0");
	if (fd < 0 || reach_offer(fd, NULL, offer) < 0 ||
	    !strstr(offer, " 10.9.8.7/24 2001:db8::7/64") || strstr(offer, "fe80"))
		return 5;
	return 0;
}

TEST(an_address_in_a_network_of_this_host_goes_first)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		unit_bound(UNIT_SECONDS);
		_exit(choose_in_a_namespace());
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	REQUIRE(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		SKIP("no network namespace can be made here, or there is no ip(8)");
	CHECK_EQ(WEXITSTATUS(status), 0);
}

/* What a host that has made the offer `from` dials for the other one. */
static void chosen_from(const char *from, const char *offer, const char *wanted)
{
	struct address address;

	CHECK_EQ(reach_choose_from(from, offer, "rank 2", &address), 0);
	CHECK_STR(address.host, wanted);
	CHECK_STR(address.port, "7");
	CHECK_EQ(strlen(address.host), strlen(wanted));
}

TEST(a_third_host_dials_by_a_network_of_its_own)
{
	static const char both[] = "b/2 7 10.1.0.9/16 10.2.0.9/20 2001:db8::9/64";
	struct address address;

	chosen_from("a/1 1 10.2.15.1/20", both, "10.2.0.9");
	chosen_from("a/1 1 10.2.16.1/20 10.1.255.1/16", both, "10.1.0.9");
	chosen_from("a/1 1 10.2.16.1/20 2001:db8::1/64", both, "2001:db8::9");
	/* Over a router; a name, which is not in a network. */
	chosen_from("a/1 1 192.0.2.1/24", both, "10.1.0.9");
	chosen_from("a/1 1", both, "10.1.0.9");
	chosen_from("a/1 1 10.2.0.9/0", both, "10.1.0.9");
	chosen_from("- 1 10.2.0.1/20", "- 7 b.example", "b.example");
	chosen_from("a/1 1 b.example", both, "10.1.0.9");
	/* Within one namespace, and not within two that nobody knows. */
	chosen_from("b/2 1 192.0.2.1/24", both, "127.0.0.1");
	chosen_from("- 1 192.0.2.1/24", "- 7 10.1.0.9/16", "10.1.0.9");
	/* Bits that no address has. */
	chosen_from("a/1 1 10.2.0.1/99", both, "10.1.0.9");
	CHECK_EQ(reach_choose_from("a/1 1", "b/2 7", "rank 2", &address), -ENETUNREACH);
	CHECK_EQ(reach_choose_from("a/1 1", "b/2", "rank 2", &address), -EPROTO);
	CHECK_STR(error_text(), "rank 2 says");
}

TEST(a_socket_that_is_bound_to_an_address_offers_that_one)
{
	int fd = listen_on("127.0.0.2:0");
	char offer[REACH_BYTES];
	struct address address;

	REQUIRE(fd >= 0);
	CHECK_EQ(reach_offer(fd, NULL, offer), 0);
	CHECK_EQ(reach_choose(offer, "rank 1", &address), 0);
	CHECK_STR(address.host, "127.0.0.2");
	CHECK_EQ(reach_offer(fd, "b.example", offer), 0);
	CHECK_EQ(reach_choose(offer, "rank 1", &address), 0);
	CHECK_STR(address.host, "b.example");
	CHECK_EQ(reach_offer(fd, "b c", offer), -EINVAL);
	CHECK_STR(error_text(), "\"b c\" is no address of this host");
	close(fd);
}

TEST(what_is_no_offer_is_refused_with_the_name_of_its_rank)
{
	static char words[2 * REACH_BYTES];
	static const struct {
		const char *offer, *text;
		int error;
	} cases[] = {
		{ "", "rank 3 says \"\" about its address", -EPROTO },
		{ "-", "rank 3 says \"-\" about its address", -EPROTO },
		{ "- 1", "rank 3 has no address by which other hosts reach it", -ENETUNREACH },
		{ "- port 10.0.0.1", "rank 3 says \"- port 10.0.0.1\"", -EPROTO },
		{ "- 1 a@b", "rank 3 says \"- 1 a@b\"", -EPROTO },
		{ words, "rank 3 says \"- 1", -EPROTO },
	};
	struct address address;

	strcpy(words, "- 1");
	while (strlen(words) < REACH_BYTES)
		strcat(words, " 10.0.0.1");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK_EQ(reach_choose(cases[i].offer, "rank 3", &address), cases[i].error);
		CHECK_STR(error_text(), cases[i].text);
	}
}
