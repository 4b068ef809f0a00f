/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See about.h. */
#include <dlfcn.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/text.h"
#include "callable/symbol.h"
#include "worker/about.h"
#include "worker/hello.h"
#include "worker/hierarchy.h"
#include "worker/node_session.h"

struct objects {
	const struct dw_worker *program;
	uint32_t functions, count;
	char paths[ABOUT_OBJECTS_MOST][PATH_MAX];
	uint8_t identities[ABOUT_OBJECTS_MOST][ABOUT_IDENTITY_BYTES];
	uint32_t in[ABOUT_OBJECTS_MOST]; /* functions of each */
};

/* A program without a build-id is identified by its contents. */
static void add_object(struct objects *objects, const char *name, const void *address,
		       uint32_t functions)
{
	static const uint8_t none[ABOUT_IDENTITY_BYTES];
	uint8_t *identity;
	char *path;

	if (objects->count >= ABOUT_OBJECTS_MOST)
		return;
	identity = objects->identities[objects->count];
	path = objects->paths[objects->count];
	if (!realpath(name, path))
		return;
	for (uint32_t i = 0; i < objects->count; i++)
		if (strcmp(objects->paths[i], path) == 0) {
			objects->in[i] += functions;
			return;
		}
	objects->in[objects->count] = functions;
	memset(identity, 0, ABOUT_IDENTITY_BYTES);
	if (address)
		symbol_identify_address(address, identity);
	if (memcmp(identity, none, sizeof(none)) == 0)
		symbol_identify(path, NULL, identity);
	objects->count++;
}

static void add_address(struct objects *objects, const void *address, uint32_t functions)
{
	Dl_info info;

	if (dladdr(address, &info) && info.dli_fname)
		add_object(objects, info.dli_fname, address, functions);
}

static int add_function(struct callable *callable, void *context)
{
	struct objects *objects = context;
	const struct dw_worker *owner = callable->owner;

	while (owner && owner != objects->program)
		owner = owner->parent;
	if (!owner || !hello_is_function(callable))
		return 0;
	objects->functions++;
	add_address(objects, hello_address(callable), 1);
	return 0;
}

static uint64_t limit_of(__rlimit_resource_t resource)
{
	struct rlimit limit;

	return getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX :
										limit.rlim_cur;
}

void about_connection(int fd, struct about_connection *connection)
{
	struct tcp_info info;
	socklen_t bytes = sizeof(info);

	*connection = (struct about_connection){ .mtu = 0 };
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) < 0)
		return;
	connection->round_trip_us = info.tcpi_rtt;
	connection->mtu = info.tcpi_pmtu;
	connection->retransmits = info.tcpi_total_retrans;
}

void about_encode(const struct node_session_options *options, int fd, struct pack *pack)
{
	struct objects *objects = calloc(1, sizeof(*objects));
	const struct passwd *user = getpwuid(geteuid());
	struct about_connection connection;
	char number[16];

	if (!objects) {
		pack->failed = true;
		return;
	}
	objects->program = options->program;
	add_object(objects, "/proc/self/exe", NULL, 0);
	add_address(objects, (const void *)(uintptr_t)dw_version, 0);
	callable_each(add_function, objects);
	snprintf(number, sizeof(number), "%u", geteuid());
	about_connection(fd, &connection);
	pack_text(pack, DW_VERSION);
	pack_text(pack, user ? user->pw_name : number);
	pack_u32(pack, objects->functions);
	pack_u64(pack, limit_of(RLIMIT_NOFILE));
	pack_u64(pack, limit_of(RLIMIT_NPROC));
	pack_u64(pack, options->cache_bytes);
	pack_text(pack, options->objects ? options->objects : "");
	pack_bytes(pack, &connection, sizeof(connection));
	pack_u32(pack, objects->count);
	for (uint32_t i = 0; i < objects->count; i++) {
		pack_text(pack, objects->paths[i]);
		pack_bytes(pack, objects->identities[i], ABOUT_IDENTITY_BYTES);
		pack_u32(pack, objects->in[i]);
	}
	free(objects);
}

bool about_decode(struct unpack *unpack, struct about *about)
{
	about->version = unpack_text(unpack);
	about->user = unpack_text(unpack);
	about->functions = unpack_u32(unpack);
	about->files = unpack_u64(unpack);
	about->processes = unpack_u64(unpack);
	about->cache_bytes = unpack_u64(unpack);
	about->folder = unpack_text(unpack);
	unpack_into(unpack, &about->connection, sizeof(about->connection));
	about->object_count = unpack_u32(unpack);
	if (about->object_count > ABOUT_OBJECTS_MOST)
		return false;
	for (uint32_t i = 0; i < about->object_count; i++) {
		about->objects[i].path = unpack_text(unpack);
		unpack_into(unpack, about->objects[i].identity, ABOUT_IDENTITY_BYTES);
		about->objects[i].functions = unpack_u32(unpack);
		if (!about->objects[i].path)
			return false;
	}
	return about->version && about->user && about->folder && unpack_done(unpack);
}
