/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Three runs in an event loop: epoll tells which has ended, beside a timer of the application. */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <distworker/distworker.h>

#define RUNS 3

static dw_callable add;
static int64_t *cells;

static int add_task(const struct dw_args *args, void *context)
{
	(void)context;
	*(int64_t *)dw_args_data(args, 0) += 1;
	return 0;
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *cell)
{
	struct dw_tensor sum;
	struct dw_args *in;
	int error = dw_args_create(&in);

	(void)args, (void)config;
	dw_tensor_init(&sum, cell, DW_INT64, NULL, 0);
	if (!error)
		error = dw_args_add_tensor(in, &sum, DW_INOUT);
	for (int i = 0; i < 100 && !error; i++)
		error = dw_submit(orch, add, in, NULL, NULL);
	dw_args_destroy(in);
	return error;
}

static int watch(int loop, int fd, void *what)
{
	return epoll_ctl(loop, EPOLL_CTL_ADD, fd,
			 &(struct epoll_event){ .events = EPOLLIN, .data.ptr = what });
}

int main(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	int loop = epoll_create1(EPOLL_CLOEXEC),
	    timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), fd, left = RUNS;
	struct itimerspec often = { .it_value.tv_nsec = 1000000, .it_interval.tv_nsec = 1000000 };
	struct dw_worker *node;
	struct dw_run *run;
	uint64_t ticks = 0;

	options.subs = 2;
	if (loop < 0 || timer < 0 || dw_worker_create(DW_LEVEL_NODE, &options, &node) ||
	    dw_callable_register_sub(node, "add", add_task, NULL, &add) ||
	    dw_buffer_create(node, RUNS * sizeof(*cells), (void **)&cells) || dw_worker_init(node))
		goto failed;
	for (int i = 0; i < RUNS; i++)
		if (dw_worker_start(node, orchestrate, NULL, NULL, &cells[i], NULL, &run) ||
		    dw_run_fd(run, &fd) || watch(loop, fd, run))
			goto failed;
	timerfd_settime(timer, 0, &often, NULL);
	watch(loop, timer, NULL);
	while (left) {
		struct epoll_event event;
		uint64_t count;

		if (epoll_wait(loop, &event, 1, -1) != 1)
			continue;
		run = event.data.ptr;
		if (!run) {
			/* Other work of the application. */
			ticks += read(timer, &count, sizeof(count)) == sizeof(count);
			continue;
		}
		/* Out of the loop before the run, and its descriptor, are freed. */
		dw_run_fd(run, &fd);
		epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL);
		if (dw_run_wait(run))
			goto failed;
		left--;
	}
	printf("%lld %lld %lld\n", (long long)cells[0], (long long)cells[1], (long long)cells[2]);
	dw_worker_destroy(node);
	close(timer);
	close(loop);
	return 0;
failed:
	fprintf(stderr, "%s\n", dw_strerror_last());
	return 1;
}
