/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind net.h. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "host/net.h"
#include "host/ucx.h"
#include "task/environment.h"
#include "task/error.h"

int net_read(enum net *net)
{
	static const enum net nets[] = { NET_AUTO, NET_TCP, NET_UCX };
	int number = environment_word(VARIABLE_NET, 0);

	if (number < 0)
		return number;
	*net = nets[number];
	return 0;
}

static bool has_rdma(void)
{
	DIR *devices = opendir("/sys/class/infiniband");
	const struct dirent *device;
	bool found = false;

	while (devices && !found && (device = readdir(devices)))
		found = device->d_name[0] != '.';
	if (devices)
		closedir(devices);
	return found;
}

static int disagree(const char *theirs, const char *ours)
{
	return error_set(-EPROTO, "the other end sends data over %s, and this one over %s: DW_NET "
				  "should be the same on both", theirs, ours);
}

int net_offer(struct bulk *bulk, enum net net, struct pack *pack)
{
	const void *address;
	size_t bytes;
	int result = 0;

	if (net == NET_UCX || (net == NET_AUTO && has_rdma()))
		result = bulk_open(bulk);
	if (result < 0 && net == NET_UCX)
		return error_prefix(result, "at home: ");
	address = bulk_address(bulk, &bytes);
	pack_u32(pack, net == NET_UCX);
	pack_u32(pack, (uint32_t)bytes);
	pack_bytes(pack, address, bytes);
	return 0;
}

int net_settle(struct bulk *bulk, enum net net, const void *address, size_t bytes)
{
	size_t own;

	bulk_address(bulk, &own);
	if (bytes && own)
		return bulk_connect(bulk, address, bytes);
	if (bytes || net == NET_UCX)
		return disagree(bytes ? "ucx" : "tcp", own ? "ucx" : "tcp");
	bulk_shut(bulk);
	return 0;
}

bool net_unpack(struct unpack *unpack, struct net_offer *offer)
{
	offer->must = unpack_u32(unpack);
	offer->bytes = unpack_u32(unpack);
	offer->address = unpack_bytes(unpack, offer->bytes);
	return !unpack->failed;
}

void net_prepare(enum net net, const struct net_offer *offer)
{
	if (offer->bytes && net != NET_TCP)
		ucx_load();
}

int net_accept(struct bulk *bulk, enum net net, const struct net_offer *offer)
{
	int result;

	if (!offer->bytes)
		return net == NET_UCX ? disagree("tcp", "ucx") : 0;
	if (net == NET_TCP)
		return offer->must ? disagree("ucx", "tcp") : 0;
	result = bulk_open(bulk);
	if (result == 0)
		result = bulk_connect(bulk, offer->address, offer->bytes);
	if (result == 0 || offer->must || net == NET_UCX)
		return result;
	bulk_shut(bulk);
	return 0;
}
