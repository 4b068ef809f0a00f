/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The way that data takes between two hosts (host/net.h): each DW_NET with each of the other. */
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include "host/net.h"
#include "host/ucx.h"
#include "task/error.h"
#include "unit.h"

TEST(words_of_DW_NET)
{
	enum net net = NET_UCX;

	unsetenv("DW_NET");
	CHECK_EQ(net_read(&net), 0);
	CHECK_EQ(net, NET_AUTO);
	setenv("DW_NET", "ucx", 1);
	CHECK_EQ(net_read(&net), 0);
	CHECK_EQ(net, NET_UCX);
	setenv("DW_NET", "tcp", 1);
	CHECK_EQ(net_read(&net), 0);
	CHECK_EQ(net, NET_TCP);
	setenv("DW_NET", "auto", 1);
	CHECK_EQ(net_read(&net), 0);
	CHECK_EQ(net, NET_AUTO);
	setenv("DW_NET", "udp", 1);
	CHECK_EQ(net_read(&net), -EINVAL);
	CHECK_STR(error_text(), "DW_NET is \"udp\"; it can be auto, tcp or ucx");
	unsetenv("DW_NET");
}

/* -------------------------------------------------------------------- two ends */

enum outcome { STREAM, OVER_UCX, DISAGREE, NO_UCX };

static bool has_address(const struct bulk *bulk)
{
	size_t bytes;

	bulk_address(bulk, &bytes);
	return bytes;
}

static enum outcome outcome_of(int result)
{
	if (result == -EPROTO && strstr(error_text(), "DW_NET should be the same on both"))
		return DISAGREE;
	return result == -ENOSYS && strstr(error_text(), "DW_NET=tcp does without") ? NO_UCX : 99;
}

/* Both ends in this process, one after the other. */
static enum outcome agree(enum net home, enum net there)
{
	struct bulk *one = NULL, *other = NULL;
	struct pack pack = { .data = NULL };
	struct unpack unpack;
	struct net_offer offer;
	const void *answer;
	size_t bytes;
	int result;

	if (bulk_create(NULL, &one) || bulk_create(NULL, &other))
		return 99;
	result = net_offer(one, home, &pack);
	if (result < 0)
		return outcome_of(result);
	unpack = (struct unpack){ .at = pack.data, .left = pack.used };
	if (!net_unpack(&unpack, &offer) || unpack.left)
		return 99;
	net_prepare(there, &offer);
	result = net_accept(other, there, &offer);
	if (result < 0)
		return outcome_of(result);
	answer = bulk_address(other, &bytes);
	result = net_settle(one, home, answer, bytes);
	if (result < 0)
		return outcome_of(result);
	if (has_address(one) != has_address(other))
		return 99;
	return has_address(one) ? OVER_UCX : STREAM;
}

/* UCX stays in a process that has opened it. */
static enum outcome in_a_process(enum net home, enum net there)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		unit_bound(UNIT_SECONDS);
		_exit(agree(home, there));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static bool has_ucx(void)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(ucx_load() == -ENOSYS);
	waitpid(pid, &status, 0);
	return status == 0;
}

TEST(each_end_has_a_word)
{
#ifdef __SANITIZE_THREAD__
	SKIP("UCX dies under TSan when it is opened");
#else
	enum outcome ucx = has_ucx() ? OVER_UCX : NO_UCX;

	CHECK_EQ(in_a_process(NET_TCP, NET_TCP), STREAM);
	CHECK_EQ(in_a_process(NET_TCP, NET_AUTO), STREAM);
	CHECK_EQ(in_a_process(NET_TCP, NET_UCX), DISAGREE);
	CHECK_EQ(in_a_process(NET_UCX, NET_AUTO), ucx);
	CHECK_EQ(in_a_process(NET_UCX, NET_UCX), ucx);
	CHECK_EQ(in_a_process(NET_UCX, NET_TCP), ucx == OVER_UCX ? DISAGREE : NO_UCX);
	/* An RDMA device is one reason to offer it. */
	if (access("/sys/class/infiniband", F_OK) != 0) {
		CHECK_EQ(in_a_process(NET_AUTO, NET_AUTO), STREAM);
		CHECK_EQ(in_a_process(NET_AUTO, NET_TCP), STREAM);
		CHECK_EQ(in_a_process(NET_AUTO, NET_UCX), DISAGREE);
	}
#endif
}

/* Of a host with an RDMA device. */
TEST(an_offer_that_is_not_taken_is_no_error_unless_it_must_be)
{
	static const char address[] = "no address of UCX";
	struct net_offer offer = { .bytes = sizeof(address), .address = address };
	struct bulk *bulk = NULL;

	CHECK_EQ(bulk_create(NULL, &bulk), 0);
	CHECK_EQ(net_accept(bulk, NET_TCP, &offer), 0);
	CHECK(!has_address(bulk));
	/* The answer of one that has not taken it, to one that has no UCX open any more. */
	CHECK_EQ(net_settle(bulk, NET_AUTO, NULL, 0), 0);
	CHECK_EQ(net_settle(bulk, NET_UCX, NULL, 0), -EPROTO);
	CHECK_EQ(net_settle(bulk, NET_AUTO, address, sizeof(address)), -EPROTO);
	offer.must = true;
	CHECK_EQ(net_accept(bulk, NET_TCP, &offer), -EPROTO);
	bulk_destroy(bulk);
}

TEST(a_message_that_ends_within_its_offer_is_found)
{
	struct pack pack = { .data = NULL };
	struct net_offer offer;

	pack_u32(&pack, 1);
	pack_u32(&pack, 5);
	pack_bytes(&pack, "12345", 5);
	for (size_t bytes = 0; bytes <= pack.used; bytes++) {
		struct unpack unpack = { .at = pack.data, .left = bytes };

		CHECK_EQ(net_unpack(&unpack, &offer), bytes == pack.used);
	}
	pack_release(&pack);
}
