/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * launch: the processes that a launcher (mpirun, srun --mpi=pmix, prterun) has started together.
 * They exchange their addresses through PMIx, and get one key, which rank 0 made for this run, so
 * that no key file is needed.
 *
 * PMIx is opened by launch_begin(), with dlopen, and closed by launch_exchange(): after
 * PMIx_Finalize the end of one process is not the end of all. PMIx is not used to detect failures,
 * and leaves no thread behind.
 *
 * Owns: struct launch, with the key and the blobs. The key travels over the launcher's own
 * connections: it is as secret as those are. One thread. The calls block, until a deadline. The
 * library's rule that PMIx is initialised once in a process is this module's, too.
 */
#ifndef DW_HOST_LAUNCH_H
#define DW_HOST_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAUNCH_KEY_BYTES 32
#define LAUNCH_BLOB_MOST 4096

struct launch;

/* Whether a launcher with PMIx has started this process: its environment says so. */
bool launch_present(void);
/* -EINVAL with a text: this is one of several processes that a launcher has started. */
int launch_alone(void);
/*
 * Rank and size. -ENOENT: no launcher has started this process; -EPROTONOSUPPORT: one without
 * PMIx has started several, and which option it lacks; -ENOSYS: no libpmix; -EALREADY: this
 * process has done it before; -ECONNREFUSED: PMIx cannot be initialised; -EPROTO; -ENOMEM; with a
 * text.
 */
int launch_begin(struct launch **launch);
uint32_t launch_rank(const struct launch *launch);
uint32_t launch_size(const struct launch *launch);
/*
 * Each rank gives a blob of 1 to LAUNCH_BLOB_MOST bytes, in any order of the ranks. Returns when
 * all have: rank 0 has all blobs then, another rank its own and that of rank 0. -ETIMEDOUT: not all
 * ranks have come by `deadline_ns` (CLOCK_MONOTONIC); -EINVAL, -EPROTO, -EIO, -ENOMEM; with a text.
 * PMIx is closed in any case.
 */
int launch_exchange(struct launch *launch, const void *blob, size_t bytes, uint64_t deadline_ns);
/* After the exchange; valid until launch_end(). NULL: this rank does not have it. */
const void *launch_blob(const struct launch *launch, uint32_t rank, size_t *bytes);
const unsigned char *launch_key(const struct launch *launch);
/* Closes PMIx, if it is open, and overwrites the key. NULL is accepted. */
void launch_end(struct launch *launch);

#endif
