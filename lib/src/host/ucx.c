/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See ucx.h. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/library.h"
#include "base/text.h"
#include "host/ucp.h"
#include "host/ucx.h"
#include "task/error.h"

#define MESSAGE 1 /* the number of the handler */

static struct ucx_calls ucp;
static char ucp_why[LIBRARY_WHY_BYTES]; /* empty: it is there */
static pthread_once_t opened = PTHREAD_ONCE_INIT;

enum place_state { FREE = 0, BUSY, DONE };

/* A message that is being sent. */
struct leaving {
	struct ucx *ucx;
	struct ucx_header header;
	enum place_state state;
	void *request;
	int8_t status;
};

/* A message that arrives. UCX keeps its data until it is taken. */
struct coming {
	struct ucx *ucx;
	struct ucx_header header;
	enum place_state state; /* FREE, BUSY: being received */
	void *data; /* not NULL: it waits for ucx_take() */
	void *request;
	int8_t status;
};

struct ucx {
	void *context, *worker, *endpoint, *address;
	size_t address_bytes;
	int fd;
	bool peer_errors; /* the endpoint's mode: it may be closed by force */
	int8_t failed; /* the status with which the endpoint has failed; 0 */
	const char *broken; /* how the other end has broken the rules; NULL: it has not */
	struct leaving leaving[UCX_AHEAD];
	/* Those that wait are arrivals[first …], in their order. */
	struct coming coming[UCX_AHEAD];
	struct coming *arrivals[UCX_AHEAD];
	uint32_t first, count;
	struct coming *offered; /* by the last UCX_ARRIVES */
};

/* ------------------------------------------------------------------------ opening */

/*
 * What UCX reads when it is loaded, where the user has not set it: no handlers of signals, no
 * warnings on the application's output. The environment stays as it was.
 */
static void *load_library(void)
{
	static const char *const settings[][2] = {
		{ "UCX_ERROR_SIGNALS", "" },
		{ "UCX_HANDLE_ERRORS", "none" },
		{ "UCX_LOG_LEVEL", "fatal" },
		{ "UCX_WARN_UNUSED_ENV_VARS", "n" },
	};
	const size_t count = sizeof(settings) / sizeof(settings[0]);
	bool ours[sizeof(settings) / sizeof(settings[0])];
	void *handle;

	for (size_t i = 0; i < count; i++) {
		ours[i] = !getenv(settings[i][0]);
		setenv(settings[i][0], settings[i][1], 0);
	}
	handle = library_open(UCX_SONAME, RTLD_NOW | RTLD_LOCAL, ucp_why);
	for (size_t i = 0; i < count; i++)
		if (ours[i])
			unsetenv(settings[i][0]);
	return handle;
}

static void open_ucp(void)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{ "ucp_config_read", &ucp.config_read },
		{ "ucp_config_modify", &ucp.config_modify },
		{ "ucp_config_release", &ucp.config_release },
		{ "ucp_init_version", &ucp.init },
		{ "ucp_cleanup", &ucp.cleanup },
		{ "ucp_worker_create", &ucp.worker_create },
		{ "ucp_worker_destroy", &ucp.worker_destroy },
		{ "ucp_worker_get_address", &ucp.worker_get_address },
		{ "ucp_worker_release_address", &ucp.worker_release_address },
		{ "ucp_worker_get_efd", &ucp.worker_get_efd },
		{ "ucp_worker_arm", &ucp.worker_arm },
		{ "ucp_worker_progress", &ucp.worker_progress },
		{ "ucp_worker_set_am_recv_handler", &ucp.worker_set_handler },
		{ "ucp_ep_create", &ucp.ep_create },
		{ "ucp_ep_close_nbx", &ucp.ep_close },
		{ "ucp_am_send_nbx", &ucp.send },
		{ "ucp_am_recv_data_nbx", &ucp.receive },
		{ "ucp_request_check_status", &ucp.request_status },
		{ "ucp_request_free", &ucp.request_free },
		{ "ucs_status_string", &ucp.status_string },
	};
	void *handle = load_library(), *address;

	for (size_t i = 0; handle && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		address = dlsym(handle, symbols[i].name);
		if (!address) {
			text_format(ucp_why, sizeof(ucp_why), "it has no %s()", symbols[i].name);
			return;
		}
		memcpy(symbols[i].place, &address, sizeof(address));
	}
}

static int refused(const char *call, int8_t status)
{
	return error_set(-EIO, "UCX: %s: %s", call, text_short(ucp.status_string(status)));
}

/* The status that a request-making call returned; UCX_IN_PROGRESS: it returned a request. */
static int8_t status_in(const void *result)
{
	intptr_t value = (intptr_t)result;

	return (int8_t)(value >= UCX_LAST_ERROR && value <= 0 ? value : UCX_IN_PROGRESS);
}

int ucx_load(void)
{
	pthread_once(&opened, open_ucp);
	if (!ucp_why[0])
		return 0;
	return error_set(-ENOSYS,
			 "DW_NET=ucx needs " UCX_SONAME " (Debian: libucx0): %s; "
			 "DW_NET=tcp does without",
			 ucp_why);
}

static int8_t arrived(void *argument, const void *header, size_t header_bytes, void *data,
		      size_t bytes, const struct ucx_received *how)
{
	struct ucx *ucx = argument;
	struct coming *coming = NULL;

	(void)how;
	for (int i = 0; i < UCX_AHEAD && !coming; i++)
		if (ucx->coming[i].state == FREE && !ucx->coming[i].data)
			coming = &ucx->coming[i];
	if (!coming || header_bytes != sizeof(coming->header)) {
		ucx->broken = coming ? "a message without the header of distworker's" :
				       "more messages than may be on their way";
		return UCX_OK;
	}
	memcpy(&coming->header, header, sizeof(coming->header));
	if (coming->header.bytes != bytes) {
		ucx->broken = "a message of another length than it says";
		return UCX_OK;
	}
	coming->ucx = ucx;
	coming->data = data;
	ucx->arrivals[(ucx->first + ucx->count++) % UCX_AHEAD] = coming;
	/* UCX keeps the data until ucx_take(). */
	return UCX_IN_PROGRESS;
}

static int make_context(struct ucx *ucx)
{
	const struct ucx_params params = {
		.mask = UCX_PARAM_FEATURES,
		.features = UCX_FEATURE_MESSAGES | UCX_FEATURE_WAKEUP,
	};
	void *config;
	int8_t status = ucp.config_read(NULL, NULL, &config);

	if (status != UCX_OK)
		return refused("its configuration", status);
	/* No wake-ups while nothing happens: the stream's kernel watches the other end. */
	if (!getenv("UCX_KEEPALIVE_INTERVAL"))
		ucp.config_modify(config, "KEEPALIVE_INTERVAL", "inf");
	status = ucp.init(UCX_MAJOR, UCX_MINOR, &params, config, &ucx->context);
	ucp.config_release(config);
	return status == UCX_OK ? 0 :
				  refused("ucp_init (UCX_TLS, UCX_NET_DEVICES: a transport, or an "
					  "RDMA device, that is not here)",
					  status);
}

static int make_worker(struct ucx *ucx)
{
	const struct ucx_worker_params params = {
		.mask = UCX_WORKER_THREAD_MODE,
		.thread_mode = UCX_SERIALIZED,
	};
	const struct ucx_handler handler = {
		.mask = UCX_HANDLER_ID | UCX_HANDLER_FLAGS | UCX_HANDLER_CALL |
			UCX_HANDLER_ARGUMENT,
		.id = MESSAGE,
		.flags = UCX_HANDLER_WHOLE | UCX_HANDLER_PERSISTENT,
		.call = arrived,
		.argument = ucx,
	};
	int8_t status = ucp.worker_create(ucx->context, &params, &ucx->worker);

	if (status != UCX_OK)
		return refused("ucp_worker_create", status);
	status = ucp.worker_set_handler(ucx->worker, &handler);
	if (status == UCX_OK)
		status = ucp.worker_get_efd(ucx->worker, &ucx->fd);
	if (status == UCX_OK)
		status = ucp.worker_get_address(ucx->worker, &ucx->address, &ucx->address_bytes);
	return status == UCX_OK ? 0 : refused("its worker", status);
}

int ucx_open(struct ucx **result)
{
	struct ucx *ucx;
	int error = ucx_load();

	if (error < 0)
		return error;
	ucx = calloc(1, sizeof(*ucx));
	if (!ucx)
		return error_set(-ENOMEM, "no memory for a connection of UCX");
	error = make_context(ucx);
	if (error == 0)
		error = make_worker(ucx);
	if (error == 0)
		*result = ucx;
	else
		ucx_close(ucx);
	return error;
}

const void *ucx_address(const struct ucx *ucx, size_t *bytes)
{
	*bytes = ucx->address_bytes;
	return ucx->address;
}

int ucx_fd(const struct ucx *ucx)
{
	return ucx->fd;
}

static void endpoint_failed(void *argument, void *endpoint, int8_t status)
{
	struct ucx *ucx = argument;

	(void)endpoint;
	ucx->failed = status;
}

/*
 * Connects with error reporting; without it over shared memory, which cannot report errors: the
 * stream sees them.
 */
int ucx_connect(struct ucx *ucx, const void *address, size_t bytes)
{
	struct ucx_ep_params params = {
		.mask = UCX_EP_ADDRESS | UCX_EP_ERROR_MODE | UCX_EP_ERROR_HANDLER,
		.address = address,
		.error_mode = UCX_ERRORS_PEER,
		.on_error = endpoint_failed,
		.argument = ucx,
	};
	int8_t status;

	/* An address of UCX does not contain its length; this is the least that UCX can read. */
	if (bytes < 2)
		return error_set(-EIO, "UCX: the other end's address has %zu bytes", bytes);
	status = ucp.ep_create(ucx->worker, &params, &ucx->endpoint);
	ucx->peer_errors = status == UCX_OK;
	if (status != UCX_OK) {
		params.error_mode = UCX_ERRORS_NONE;
		status = ucp.ep_create(ucx->worker, &params, &ucx->endpoint);
	}
	if (status == UCX_OK)
		return 0;
	ucx->endpoint = NULL;
	return refused("no way to the other end (UCX_TLS, UCX_NET_DEVICES)", status);
}

/* Closing by force ends at once; an endpoint without error reporting would wait for the peer. */
static void close_endpoint(struct ucx *ucx)
{
	const struct ucx_operation force = { .mask = UCX_OP_FLAGS, .flags = UCX_CLOSE_FORCE };
	void *request;

	if (!ucx->endpoint || !ucx->peer_errors)
		return;
	request = ucp.ep_close(ucx->endpoint, &force);
	if (status_in(request) != UCX_IN_PROGRESS)
		return;
	while (ucp.request_status(request) == UCX_IN_PROGRESS)
		ucp.worker_progress(ucx->worker);
	ucp.request_free(request);
}

static bool has_messages(const struct ucx *ucx)
{
	bool any = ucx->count;

	for (int i = 0; i < UCX_AHEAD; i++)
		any |= ucx->leaving[i].state != FREE || ucx->coming[i].state != FREE;
	return any;
}

/*
 * Messages that nothing cancels keep the memory that they use, and UCX 1.18 aborts the process when
 * it is closed then: it stays as it is until the process ends.
 */
void ucx_close(struct ucx *ucx)
{
	if (!ucx || (ucx->endpoint && !ucx->peer_errors && has_messages(ucx)))
		return;
	close_endpoint(ucx);
	if (ucx->address)
		ucp.worker_release_address(ucx->worker, ucx->address);
	if (ucx->worker)
		ucp.worker_destroy(ucx->worker);
	if (ucx->context)
		ucp.cleanup(ucx->context);
	free(ucx);
}

/* ------------------------------------------------------------------------ messages */

static void sent(void *request, int8_t status, void *user)
{
	struct leaving *leaving = user;

	(void)request;
	leaving->status = status;
	leaving->state = DONE;
}

int ucx_send(struct ucx *ucx, const struct ucx_header *header, const void *from)
{
	struct leaving *leaving = NULL;
	struct ucx_operation operation = {
		.mask = UCX_OP_CALL | UCX_OP_USER_DATA | UCX_OP_FLAGS | UCX_OP_NO_IMMEDIATE,
		.flags = UCX_SEND_RENDEZVOUS,
		.call.sent = sent,
	};

	for (int i = 0; i < UCX_AHEAD && !leaving; i++)
		if (ucx->leaving[i].state == FREE)
			leaving = &ucx->leaving[i];
	if (!leaving)
		return -EAGAIN;
	operation.user = leaving;
	*leaving = (struct leaving){ .ucx = ucx, .header = *header, .state = BUSY };
	leaving->request = ucp.send(ucx->endpoint, MESSAGE, &leaving->header,
				    sizeof(leaving->header), from, header->bytes, &operation);
	if (status_in(leaving->request) == UCX_IN_PROGRESS)
		return 0;
	leaving->state = FREE;
	return refused("ucp_am_send_nbx", status_in(leaving->request));
}

static void received(void *request, int8_t status, size_t bytes, void *user)
{
	struct coming *coming = user;

	(void)request;
	(void)bytes;
	coming->status = status;
	coming->state = DONE;
}

int ucx_take(struct ucx *ucx, void *to)
{
	struct coming *coming = ucx->offered;
	const struct ucx_operation operation = {
		.mask = UCX_OP_CALL | UCX_OP_USER_DATA | UCX_OP_NO_IMMEDIATE,
		.call.received = received,
		.user = coming,
	};
	void *data = coming->data;

	ucx->offered = NULL;
	coming->data = NULL;
	coming->state = BUSY;
	coming->request = ucp.receive(ucx->worker, data, to, coming->header.bytes, &operation);
	if (status_in(coming->request) == UCX_IN_PROGRESS)
		return 0;
	coming->state = FREE;
	return refused("ucp_am_recv_data_nbx", status_in(coming->request));
}

/* An event of a message that is done, or -EIO with a text. */
static int done(enum place_state *state, void **request, int8_t status, enum ucx_event what,
		enum ucx_event *event)
{
	ucp.request_free(*request);
	*request = NULL;
	*state = FREE;
	*event = what;
	return status == UCX_OK ? 1 : refused("the connection", status);
}

static int next_event(struct ucx *ucx, enum ucx_event *event, struct ucx_header *header)
{
	if (ucx->broken)
		return error_set(-EPROTO, "UCX: the other end sends %s", ucx->broken);
	for (int i = 0; i < UCX_AHEAD; i++) {
		struct leaving *leaving = &ucx->leaving[i];
		struct coming *coming = &ucx->coming[i];

		if (leaving->state == DONE) {
			*header = leaving->header;
			return done(&leaving->state, &leaving->request, leaving->status, UCX_SENT,
				    event);
		}
		if (coming->state == DONE) {
			*header = coming->header;
			return done(&coming->state, &coming->request, coming->status,
				    UCX_RECEIVED, event);
		}
	}
	if (ucx->failed)
		return refused("the connection", ucx->failed);
	if (!ucx->count || ucx->offered)
		return 0;
	ucx->offered = ucx->arrivals[ucx->first];
	ucx->first = (ucx->first + 1) % UCX_AHEAD;
	ucx->count--;
	*header = ucx->offered->header;
	*event = UCX_ARRIVES;
	return 1;
}

int ucx_step(struct ucx *ucx, enum ucx_event *event, struct ucx_header *header)
{
	int result;
	int8_t status;

	for (;;) {
		result = next_event(ucx, event, header);
		if (result != 0)
			return result;
		if (ucp.worker_progress(ucx->worker))
			continue;
		/* Once armed, the descriptor becomes readable when there is something to do. */
		status = ucp.worker_arm(ucx->worker);
		if (status == UCX_OK)
			return next_event(ucx, event, header);
		if (status != UCX_BUSY)
			return refused("ucp_worker_arm", status);
		/* Over shared memory this state persists when the other end has died. */
		if (!ucp.worker_progress(ucx->worker)) {
			result = next_event(ucx, event, header);
			return result ? result : -EBUSY;
		}
	}
}
