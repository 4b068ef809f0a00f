// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * ZeroMQ's round trip: zeromq ipc|inproc [--count N] [--bytes N]: between two processes over a
 * socket of the file system, or between two threads over memory.
 */
#include <pthread.h>
#include <zmq.h>
#include "bench.h"

static size_t bytes;
static char address[64];

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "zeromq: %s: %s\n", what, zmq_strerror(zmq_errno()));
	exit(1);
}

static void *answer(void *context)
{
	void *socket = zmq_socket(context, ZMQ_PAIR);
	unsigned char *data = malloc(bytes);

	check(zmq_connect(socket, address), "connect");
	while (zmq_recv(socket, data, bytes, 0) > 0)
		check(zmq_send(socket, data, bytes, 0), "send");
	free(data);
	zmq_close(socket);
	return NULL;
}

static double trips(void *socket, void *data, uint64_t count)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < count; i++) {
		check(zmq_send(socket, data, bytes, 0), "send");
		check(zmq_recv(socket, data, bytes, 0), "recv");
	}
	return (double)(now_ns() - start) / 1e3 / (double)count;
}

int main(int argc, char **argv)
{
	bool ipc = argc > 1 && !strcmp(argv[1], "ipc");
	uint64_t count = argument(argc, argv, "count", 20000);
	unsigned char *data;
	pthread_t thread;
	void *context, *socket;
	pid_t pid = -1;

	bytes = argument(argc, argv, "bytes", 64);
	data = calloc(1, bytes);
	snprintf(address, sizeof(address), ipc ? "ipc:///tmp/distworker-zeromq-%d" : "inproc://%d",
		 getpid());
	if (ipc && (pid = fork()) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		answer(zmq_ctx_new());
		_exit(0);
	}
	context = zmq_ctx_new();
	socket = zmq_socket(context, ZMQ_PAIR);
	check(zmq_bind(socket, address), "bind");
	if (!ipc && pthread_create(&thread, NULL, answer, context))
		return 1;
	trips(socket, data, count / 10);
	print("mean_us", trips(socket, data, count));
	/* An empty message ends the other side. */
	check(zmq_send(socket, data, 0, 0), "send");
	if (ipc)
		waitpid(pid, NULL, 0);
	else
		pthread_join(thread, NULL);
	zmq_close(socket);
	zmq_ctx_destroy(context);
	free(data);
	return 0;
}
