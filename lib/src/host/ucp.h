/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ucp: what ucx.c needs of the binary interface of libucp.so.0 (UCX 1.13 to 1.18), so that no
 * header of UCX has to be installed. Meanings and types are those of the UCX API, ucp/api/ucp.h,
 * whose names stand beside ours; structs there grow at their end, and each has a mask that says
 * which of its fields are set. tests/unit/test_host_bulk.c compares all of it with that header,
 * where it is installed.
 *
 * Owns nothing.
 */
#ifndef DW_HOST_UCP_H
#define DW_HOST_UCP_H

#include <stddef.h>
#include <stdint.h>

#define UCX_SONAME "libucp.so.0"
#define UCX_MAJOR 1 /* UCP_API_MAJOR and _MINOR: what this code asks for; later ones have it */
#define UCX_MINOR 13

/* ucs_status_t; a pointer at the end of the address space is one, too (UCS_PTR_IS_ERR). */
#define UCX_OK 0
#define UCX_IN_PROGRESS 1
#define UCX_BUSY (-15)
#define UCX_LAST_ERROR (-100)

/* Fields of masks. */
#define UCX_PARAM_FEATURES (1u << 0) /* UCP_PARAM_FIELD_… */
#define UCX_WORKER_THREAD_MODE (1u << 0) /* UCP_WORKER_PARAM_FIELD_… */
#define UCX_SERIALIZED 1 /* UCS_THREAD_MODE_…: one thread at a time */
#define UCX_EP_ADDRESS (1u << 0) /* UCP_EP_PARAM_FIELD_REMOTE_… */
#define UCX_EP_ERROR_MODE (1u << 1) /* …_ERR_HANDLING_MODE */
#define UCX_EP_ERROR_HANDLER (1u << 2) /* …_ERR_HANDLER */
#define UCX_HANDLER_ID (1u << 0) /* UCP_AM_HANDLER_PARAM_FIELD_… */
#define UCX_HANDLER_FLAGS (1u << 1)
#define UCX_HANDLER_CALL (1u << 2)
#define UCX_HANDLER_ARGUMENT (1u << 3)
#define UCX_OP_CALL (1u << 1) /* UCP_OP_ATTR_FIELD_… */
#define UCX_OP_USER_DATA (1u << 2)
#define UCX_OP_FLAGS (1u << 4)
#define UCX_OP_NO_IMMEDIATE (1u << 16) /* UCP_OP_ATTR_FLAG_NO_IMM_CMPL: always the callback */

#define UCX_FEATURE_WAKEUP (1u << 4)
#define UCX_FEATURE_MESSAGES (1u << 6) /* UCP_FEATURE_AM */
#define UCX_ERRORS_NONE 0 /* ucp_err_handling_mode_t */
#define UCX_ERRORS_PEER 1
#define UCX_HANDLER_WHOLE (1u << 0) /* UCP_AM_FLAG_WHOLE_MSG */
#define UCX_HANDLER_PERSISTENT (1u << 1) /* UCP_AM_FLAG_PERSISTENT_DATA: data may be kept */
#define UCX_SEND_RENDEZVOUS (1u << 2) /* UCP_AM_SEND_FLAG_RNDV */
#define UCX_CLOSE_FORCE (1u << 0) /* UCP_EP_CLOSE_FLAG_FORCE */

struct ucx_params { /* ucp_params_t, its beginning */
	uint64_t mask, features;
	uint64_t rest[16];
};

struct ucx_worker_params { /* ucp_worker_params_t, its beginning */
	uint64_t mask;
	int thread_mode;
	int zero;
	uint64_t rest[32];
};

struct ucx_ep_params { /* ucp_ep_params_t, its beginning */
	uint64_t mask;
	const void *address;
	int error_mode;
	void (*on_error)(void *argument, void *endpoint, int8_t status);
	void *argument;
	uint64_t rest[24];
};

struct ucx_received { /* ucp_am_recv_param_t */
	uint64_t attributes;
	void *reply;
};

typedef int8_t ucx_arrived(void *argument, const void *header, size_t header_bytes, void *data,
			   size_t bytes, const struct ucx_received *how);

struct ucx_handler { /* ucp_am_handler_param_t */
	uint64_t mask;
	unsigned int id;
	uint32_t flags;
	ucx_arrived *call;
	void *argument;
};

struct ucx_operation { /* ucp_request_param_t */
	uint32_t mask, flags;
	void *request;
	union {
		void (*sent)(void *request, int8_t status, void *user);
		void (*received)(void *request, int8_t status, size_t bytes, void *user);
	} call;
	uint64_t datatype;
	void *user;
	void *reply;
	int memory_type;
	void *info, *memory;
};

struct ucx_calls {
	int8_t (*config_read)(const char *prefix, const char *file, void **config);
	int8_t (*config_modify)(void *config, const char *name, const char *value);
	void (*config_release)(void *config);
	int8_t (*init)(unsigned int major, unsigned int minor, const struct ucx_params *params,
		       const void *config, void **context);
	void (*cleanup)(void *context);
	int8_t (*worker_create)(void *context, const struct ucx_worker_params *params,
				void **worker);
	void (*worker_destroy)(void *worker);
	int8_t (*worker_get_address)(void *worker, void **address, size_t *bytes);
	void (*worker_release_address)(void *worker, void *address);
	int8_t (*worker_get_efd)(void *worker, int *fd);
	int8_t (*worker_arm)(void *worker);
	unsigned int (*worker_progress)(void *worker);
	int8_t (*worker_set_handler)(void *worker, const struct ucx_handler *handler);
	int8_t (*ep_create)(void *worker, const struct ucx_ep_params *params, void **endpoint);
	void *(*ep_close)(void *endpoint, const struct ucx_operation *operation);
	void *(*send)(void *endpoint, unsigned int id, const void *header, size_t header_bytes,
		      const void *data, size_t count, const struct ucx_operation *operation);
	void *(*receive)(void *worker, void *data, void *to, size_t count,
			 const struct ucx_operation *operation);
	int8_t (*request_status)(void *request);
	void (*request_free)(void *request);
	const char *(*status_string)(int8_t status);
};

#endif
