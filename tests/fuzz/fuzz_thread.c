// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl_fuzz: the state of each thread and each process: coverage, faults, tables of fds and
 * mappings, and the word for a broken promise.
 */
#include "faults.h"
#include "fuzz.h"

/* Lacks in libc headers: <linux/kcov.h>. */
#define KCOV_INIT_TRACE	_IOR('c', 1, unsigned long)
#define KCOV_ENABLE	_IO('c', 100)
#define KCOV_TRACE_PC	0
#define KCOV_ENTRIES	(16ul << 10)

struct fuzz_shared *shared;
struct process me;
struct family *family;
uint64_t seed = 1;
unsigned long module_start;
bool have_faults;
_Thread_local uint64_t random_state;

/* ------------------------------------- coverage and faults, for each thread */

_Thread_local unsigned long *coverage;
_Thread_local int faults = -1;

static void coverage_start(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);

	coverage = NULL;
	if (fd < 0)
		return;
	if (ioctl(fd, KCOV_INIT_TRACE, KCOV_ENTRIES) == 0) {
		coverage = mmap(NULL, KCOV_ENTRIES * sizeof(long), PROT_READ | PROT_WRITE,
				MAP_SHARED, fd, 0);
		if (coverage == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
			coverage = NULL;
	}
	close(fd);
}

void coverage_take(void)
{
	unsigned long i, count;

	if (!coverage)
		return;
	count = __atomic_load_n(&coverage[0], __ATOMIC_RELAXED);
	if (count >= KCOV_ENTRIES)
		count = KCOV_ENTRIES - 1;
	for (i = 1; i <= count; i++) {
		unsigned long offset = coverage[i] - module_start;

		if (offset < MAX_PC_OFFSET) {
			atomic_ulong *word = &shared->reached[offset / 64];

			if (!(atomic_load_explicit(word, memory_order_relaxed) >> offset % 64 & 1))
				atomic_fetch_or_explicit(word, 1ul << offset % 64,
							 memory_order_relaxed);
		}
	}
	__atomic_store_n(&coverage[0], 0, __ATOMIC_RELAXED);
}

/* A new process or thread: the counts that fork has copied are the parent's. */
void thread_begin(uint64_t stream)
{
	random_state = mix(seed ^ mix(stream));
	if (faults >= 0)
		close(faults);
	faults = have_faults ? faults_open() : -1;
	coverage_start();
}

void thread_end(void)
{
	coverage_take();
	if (coverage)
		munmap(coverage, KCOV_ENTRIES * sizeof(long));
	if (faults >= 0)
		close(faults);
	arena_free();
}

/* ---------------------------------------------------------------- promises */

void broken(const char *format, ...)
{
	char text[256];
	va_list list;
	int length;

	/* A few are enough; one write each, since many processes say something at once. */
	if (atomic_fetch_add(&shared->broken, 1) >= 20)
		return;
	length = snprintf(text, sizeof(text), "# broken: ");
	va_start(list, format);
	length += vsnprintf(text + length, sizeof(text) - length - 1, format, list);
	va_end(list);
	if (length > (int)sizeof(text) - 2)
		length = sizeof(text) - 2;
	text[length++] = '\n';
	if (write(STDOUT_FILENO, text, length) != length)
		_exit(1);
}

/* ---------------------------------------------------------------- tables */

/* Threads of one process share its tables; they must not grow under the feet of one another. */
pthread_mutex_t tables = PTHREAD_MUTEX_INITIALIZER;

_Thread_local bool main_thread = true;

_Thread_local sigjmp_buf recover;
_Thread_local volatile sig_atomic_t touching;

/*
 * Touching memory that was unmapped or made read-only by another thread is a miss, anything else is
 * a death.
 */
static void on_fault(int signal)
{
	if (touching)
		siglongjmp(recover, 1);
	_exit(128 + signal);
}

/* Writes there if it can. */
__attribute__((noinline)) void touch(void *target, const void *bytes, size_t count)
{
	if (sigsetjmp(recover, 1) == 0) {
		touching = 1;
		memcpy(target, bytes, count);
	}
	touching = 0;
}

static void on_signal(int signal)
{
	(void)signal;
	atomic_fetch_add_explicit(&shared->signals, 1, memory_order_relaxed);
}

void fd_add(int fd, enum kind kind)
{
	pthread_mutex_lock(&tables);
	if (me.fd_count < MAX_FDS) {
		me.kinds[me.fd_count] = kind;
		me.fds[me.fd_count++] = fd;
		fd = -1;
	}
	pthread_mutex_unlock(&tables);
	if (fd >= 0)
		close(fd);
}

/* One of that kind if there is one, or any. */
int fd_of(enum kind kind)
{
	int fd = -1, i, start;

	pthread_mutex_lock(&tables);
	start = below(me.fd_count);
	for (i = 0; i < me.fd_count && fd < 0; i++)
		if (me.kinds[(start + i) % me.fd_count] == kind)
			fd = me.fds[(start + i) % me.fd_count];
	if (fd < 0 && me.fd_count)
		fd = me.fds[start];
	pthread_mutex_unlock(&tables);
	return fd;
}

bool fd_is_there(enum kind kind)
{
	int i, count = 0;

	pthread_mutex_lock(&tables);
	for (i = 0; i < me.fd_count; i++)
		count += me.kinds[i] == kind;
	pthread_mutex_unlock(&tables);
	return count > 0;
}

int fd_any(void)
{
	return fd_of(below(KINDS));
}

void fd_close_any(void)
{
	int fd = -1;

	pthread_mutex_lock(&tables);
	if (me.fd_count) {
		unsigned int i = below(me.fd_count);

		/* Rarely what everything else needs. */
		if (me.kinds[i] == (me.owner ? HUB : ENDPOINT) && !one_in(8)) {
			pthread_mutex_unlock(&tables);
			return;
		}
		fd = me.fds[i];
		me.fds[i] = me.fds[--me.fd_count];
		me.kinds[i] = me.kinds[me.fd_count];
	}
	pthread_mutex_unlock(&tables);
	if (fd >= 0)
		close(fd);
}

void map_add(char *start, size_t bytes, bool writable)
{
	bool kept = false;

	pthread_mutex_lock(&tables);
	if (me.map_count < MAX_MAPS) {
		me.maps[me.map_count++] = (struct map){ start, bytes, writable };
		kept = true;
	}
	pthread_mutex_unlock(&tables);
	if (!kept)
		munmap(start, bytes);
}

struct map map_any(bool take)
{
	struct map map = { NULL, 0, false };

	pthread_mutex_lock(&tables);
	if (me.map_count) {
		unsigned int i = below(me.map_count);

		map = me.maps[i];
		if (take)
			me.maps[i] = me.maps[--me.map_count];
	}
	pthread_mutex_unlock(&tables);
	return map;
}

void set_handlers(void)
{
	struct sigaction fault = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	struct sigaction signal = { .sa_handler = on_signal };

	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	sigaction(SIGUSR1, &signal, NULL);
	sigaction(SIGALRM, &signal, NULL);
}
