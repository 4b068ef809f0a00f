/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Lines of another host's trace, on this one's clock (trace/relay.h): what is changed in them, what
 * stays, and lines that no trace has.
 */
#include <stdlib.h>
#include <unistd.h>
#include "trace/relay.h"
#include "unit.h"

#define WORKER 4711
#define FIRST_LANE ((1 << 22) + 1)

static char path[64], got[65536];

static uint64_t a_second_before(void *context, uint64_t there_ns)
{
	(void)context;
	return there_ns - 1000000000;
}

static const struct relay_clock second_ahead = {
	.here = a_second_before,
	.ahead_ns = 1000000000,
	.error_ns = 5,
	.round_trip_ns = 9,
};

/* What the file has when these lines were relayed. */
static const char *relayed(const struct relay_clock *clock, const char *lines, size_t bytes)
{
	struct trace_files files;
	struct relay *relay;
	size_t used = 0;
	FILE *file;

	strcpy(path, "/tmp/dw-relay-XXXXXX");
	close(mkstemp(path));
	setenv("DW_TRACE", path, 1);
	CHECK_EQ(trace_files_open(&files), 0);
	CHECK_EQ(relay_create(&files, "b:7733", &relay), 0);
	relay_lines(relay, WORKER, clock, lines, bytes);
	relay_destroy(relay, clock);
	trace_files_close(&files);
	file = fopen(path, "re");
	if (file) {
		used = fread(got, 1, sizeof(got) - 1, file);
		fclose(file);
	}
	got[used] = '\0';
	unlink(path);
	unsetenv("DW_TRACE");
	return got;
}

static const char *relayed_text(const char *lines)
{
	return relayed(&second_ahead, lines, strlen(lines));
}

static unsigned count_lines(void)
{
	unsigned count = 0;

	for (const char *at = got; (at = strstr(at, "\n{")); at++)
		count++;
	return count;
}

TEST(times_are_put_onto_the_clock_of_this_host_and_durations_stay)
{
	char wanted[256];

	relayed_text(
		"{\"ph\":\"X\",\"pid\":4711,\"tid\":4711,\"ts\":1000002.500,\"dur\":7.001,\""
		"args\":{"
		"\"task\":5,\"submitted\":1000001.000,\"ready\":1000001.001,\"dispatched\":1"
		"000001.002,"
		"\"started\":1000002.500,\"ended\":1000009.501,\"completed\":1000010.000}},\n");
	snprintf(
		wanted, sizeof(wanted),
		"{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":2.500,\"dur\":7.001,\"args\":{\""
		"task\":5,"
		"\"submitted\":1.000,\"ready\":1.001,\"dispatched\":1.002,\"started\":2.500,"
		"\"ended\":9.501,"
		"\"completed\":10.000}},\n",
		getpid(), getpid());
	CHECK_STR(got, wanted);
	/* Before this host's clock began there is only its beginning. */
	CHECK_STR(relayed_text("{\"ts\":0.001},\n"), "{\"ts\":0.000},\n");
}

static uint64_t half(void *context, uint64_t there_ns)
{
	(void)context;
	return there_ns / 2;
}

/* Failed before: a step of the clock within a slice had it reach into the next one. */
TEST(a_slice_ends_where_its_end_is)
{
	const struct relay_clock clock = { .here = half };
	const char *line = "{\"ph\":\"X\",\"ts\":4.000,\"dur\":6.000},\n";

	CHECK_STR(relayed(&clock, line, strlen(line)),
		  "{\"ph\":\"X\",\"ts\":2.000,\"dur\":3.000},\n");
}

TEST(processes_have_numbers_of_their_own_and_the_worker_has_that_of_its_gateway)
{
	char wanted[256];

	relayed_text("{\"pid\":12,\"tid\":12,\"id\":\"0xc0000002a\"},\n{\"pid\":12,\"tid\":13},\n"
		     "{\"pid\":4711,\"tid\":4711,\"id\":\"0x7\"},\n{\"pid\":14,\"tid\":14},\n");
	snprintf(wanted, sizeof(wanted),
		 "{\"pid\":%d,\"tid\":%d,\"id\":\"0x%llx\"},\n{\"pid\":%d,\"tid\":13},\n",
		 FIRST_LANE, FIRST_LANE, (unsigned long long)FIRST_LANE << 32 | 42, FIRST_LANE);
	CHECK_STR(got, wanted);
	snprintf(wanted, sizeof(wanted), "{\"pid\":%d,\"tid\":%d,\"id\":\"0x7\"},\n", getpid(),
		 getpid());
	CHECK_STR(got, wanted);
	snprintf(wanted, sizeof(wanted), "{\"pid\":%d,\"tid\":%d},\n", FIRST_LANE + 1,
		 FIRST_LANE + 1);
	CHECK_STR(got, wanted);
	CHECK_STR(got, "\"name\":\"process_labels\",\"args\":{\"labels\":\"b:7733\"}},\n");
	CHECK_STR(
		got,
		"\"name\":\"clock\",\"args\":{\"host\":\"b:7733\",\"ahead_ns\":1000000000,\""
		"error_ns\":5,"
		"\"round_trip_ns\":9}},\n");
	/* Three processes, four lines of them, a label for two, the clock, and the end. */
	CHECK_EQ(count_lines(), 8);
}

TEST(names_stay_as_they_are)
{
	const char *line =
		"{\"name\":\"a\\\"ts\\\":1.000 \\\\\",\"cat\":\"pid\",\"ts2\":\"tid\"},\n";

	CHECK_STR(relayed_text(line), line);
}

TEST(lines_that_no_trace_has_are_left_out)
{
	static const char *const bad[] = {
		"{\"pid\":12,\"ts\":1.000}\n",
		"{\"ts\":1},\n",
		"{\"ts\":},\n",
		"{\"id\":7},\n",
		"{\"ts\":1.0\n",
		"]\n",
		"\"},\n",
		"{\"id\":\"0x,\n",
		"\n\n\n",
		"{\"pid\":1},",
	};
	char *huge = malloc(20000);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		relayed_text(bad[i]);
		/* The clock, and the end. */
		CHECK_EQ(count_lines(), 2);
	}
	memset(huge, ' ', 20000);
	memcpy(huge, "{\"a\":\"", 6);
	memcpy(huge + 19996, "\"},\n", 4);
	relayed(&second_ahead, huge, 20000);
	CHECK_EQ(count_lines(), 2);
	free(huge);
	/* What comes behind them is not. */
	CHECK_STR(relayed_text("{\"ts\":1\n{\"ts\":1000001.000},\n"), "\n{\"ts\":1.000},\n");
}

TEST(random_bytes_do_no_harm)
{
	static const char *const pieces[] = {
		"{",	   "}",	   "\"",      "\\", ",\n",  "\"pid\":", "\"tid\":",
		"\"id\":", "\"0x", "\"ts\":", "1",  ".000", ":",	"99999999999999999999",
	};
	unsigned int seed = 3;

	for (int trial = 0; trial < 300; trial++) {
		char text[2048];
		size_t used = 0;

		while (used < 1500) {
			const char *piece =
				pieces[rand_r(&seed) % (sizeof(pieces) / sizeof(pieces[0]))];

			memcpy(text + used, piece, strlen(piece));
			used += strlen(piece);
		}
		relayed(&second_ahead, text, used);
		CHECK(got[0] == '[');
	}
}
