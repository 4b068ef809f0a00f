/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* What host/ucp.h says of UCX's interface, beside UCX's own header. */
#include <stddef.h>
#include "host/ucp.h"
#include "unit.h"
#if __has_include(<ucp/api/ucp.h>)
#define HAVE_UCP_H
#include <ucp/api/ucp.h>
#endif

TEST(sizes_and_numbers_are_those_of_the_header_of_ucx)
{
#ifdef HAVE_UCP_H
#define SAME(ours, theirs) CHECK_EQ(ours, theirs)
#define FIELD(ours, mine, real, its) \
	SAME(offsetof(struct ours, mine), offsetof(real, its)); \
	SAME(sizeof(((struct ours *)0)->mine), sizeof(((real *)0)->its))
#define COVERS(ours, real) SAME(sizeof(struct ours) >= sizeof(real), true)
	FIELD(ucx_params, mask, ucp_params_t, field_mask);
	FIELD(ucx_params, features, ucp_params_t, features);
	COVERS(ucx_params, ucp_params_t);
	FIELD(ucx_worker_params, mask, ucp_worker_params_t, field_mask);
	FIELD(ucx_worker_params, thread_mode, ucp_worker_params_t, thread_mode);
	COVERS(ucx_worker_params, ucp_worker_params_t);
	FIELD(ucx_ep_params, mask, ucp_ep_params_t, field_mask);
	FIELD(ucx_ep_params, address, ucp_ep_params_t, address);
	FIELD(ucx_ep_params, error_mode, ucp_ep_params_t, err_mode);
	FIELD(ucx_ep_params, on_error, ucp_ep_params_t, err_handler.cb);
	FIELD(ucx_ep_params, argument, ucp_ep_params_t, err_handler.arg);
	COVERS(ucx_ep_params, ucp_ep_params_t);
	FIELD(ucx_received, attributes, ucp_am_recv_param_t, recv_attr);
	FIELD(ucx_handler, mask, ucp_am_handler_param_t, field_mask);
	FIELD(ucx_handler, id, ucp_am_handler_param_t, id);
	FIELD(ucx_handler, flags, ucp_am_handler_param_t, flags);
	FIELD(ucx_handler, call, ucp_am_handler_param_t, cb);
	FIELD(ucx_handler, argument, ucp_am_handler_param_t, arg);
	SAME(sizeof(struct ucx_handler), sizeof(ucp_am_handler_param_t));
	FIELD(ucx_operation, mask, ucp_request_param_t, op_attr_mask);
	FIELD(ucx_operation, flags, ucp_request_param_t, flags);
	FIELD(ucx_operation, call, ucp_request_param_t, cb);
	FIELD(ucx_operation, user, ucp_request_param_t, user_data);
	COVERS(ucx_operation, ucp_request_param_t);
	SAME(sizeof(ucs_status_t), 1);
	SAME(UCX_OK, UCS_OK);
	SAME(UCX_IN_PROGRESS, UCS_INPROGRESS);
	SAME(UCX_BUSY, UCS_ERR_BUSY);
	SAME(UCX_LAST_ERROR, UCS_ERR_LAST);
	SAME(UCX_PARAM_FEATURES, UCP_PARAM_FIELD_FEATURES);
	SAME(UCX_WORKER_THREAD_MODE, UCP_WORKER_PARAM_FIELD_THREAD_MODE);
	SAME(UCX_EP_ADDRESS, UCP_EP_PARAM_FIELD_REMOTE_ADDRESS);
	SAME(UCX_EP_ERROR_MODE, UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE);
	SAME(UCX_EP_ERROR_HANDLER, UCP_EP_PARAM_FIELD_ERR_HANDLER);
	SAME(UCX_HANDLER_ID, UCP_AM_HANDLER_PARAM_FIELD_ID);
	SAME(UCX_HANDLER_FLAGS, UCP_AM_HANDLER_PARAM_FIELD_FLAGS);
	SAME(UCX_HANDLER_CALL, UCP_AM_HANDLER_PARAM_FIELD_CB);
	SAME(UCX_HANDLER_ARGUMENT, UCP_AM_HANDLER_PARAM_FIELD_ARG);
	SAME(UCX_OP_CALL, UCP_OP_ATTR_FIELD_CALLBACK);
	SAME(UCX_OP_USER_DATA, UCP_OP_ATTR_FIELD_USER_DATA);
	SAME(UCX_OP_FLAGS, UCP_OP_ATTR_FIELD_FLAGS);
	SAME(UCX_OP_NO_IMMEDIATE, UCP_OP_ATTR_FLAG_NO_IMM_CMPL);
	SAME(UCX_FEATURE_WAKEUP, UCP_FEATURE_WAKEUP);
	SAME(UCX_FEATURE_MESSAGES, UCP_FEATURE_AM);
	SAME(UCX_ERRORS_NONE, UCP_ERR_HANDLING_MODE_NONE);
	SAME(UCX_ERRORS_PEER, UCP_ERR_HANDLING_MODE_PEER);
	SAME(UCX_HANDLER_WHOLE, UCP_AM_FLAG_WHOLE_MSG);
	SAME(UCX_HANDLER_PERSISTENT, UCP_AM_FLAG_PERSISTENT_DATA);
	SAME(UCX_SEND_RENDEZVOUS, UCP_AM_SEND_FLAG_RNDV);
	SAME(UCX_CLOSE_FORCE, UCP_EP_CLOSE_FLAG_FORCE);
	SAME(UCX_SERIALIZED, UCS_THREAD_MODE_SERIALIZED);
#else
	SKIP("ucp/api/ucp.h (libucx-dev) is not installed");
#endif
}
