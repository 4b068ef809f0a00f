/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A child inherits the binding of the process that forked it. Each level splits the CPUs that it
 * may use, so shares nest: pods split machines, nodes split pods.
 */
#include <errno.h>
#include <hwloc.h>
#include <stdlib.h>
#include "task/error.h"
#include "worker/placement.h"

static int bind_share(hwloc_topology_t topology, uint32_t index, uint32_t count, bool process)
{
	hwloc_obj_t root;
	hwloc_cpuset_t allowed = hwloc_bitmap_alloc();
	hwloc_cpuset_t *shares = calloc(count, sizeof(*shares));
	int result = -1;

	if (!allowed || !shares ||
	    hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) < 0 ||
	    hwloc_topology_restrict(topology, allowed, 0) < 0)
		goto out;
	root = hwloc_get_root_obj(topology);
	if (hwloc_distrib(topology, &root, 1, shares, count, INT_MAX, 0) < 0)
		goto out;
	result = hwloc_set_cpubind(topology, shares[index],
				   process ? HWLOC_CPUBIND_PROCESS : HWLOC_CPUBIND_THREAD);
	for (uint32_t i = 0; i < count; i++)
		hwloc_bitmap_free(shares[i]);
out:
	free(shares);
	hwloc_bitmap_free(allowed);
	return result;
}

void placement_apply(uint32_t index, uint32_t count, bool process, const char *path)
{
	hwloc_topology_t topology;

	if (hwloc_topology_init(&topology) < 0)
		return;
	if (hwloc_topology_load(topology) < 0 || bind_share(topology, index, count, process) < 0)
		log_at(LOG_WARN, "%s: cannot be placed: %s", path, error_name(errno));
	hwloc_topology_destroy(topology);
}
