/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * pmix: what launch.c needs of the binary interface of libpmix.so.2 (PMIx 3 to 5), so that no
 * header of PMIx has to be installed. Meanings and types are those of the PMIx Standard 4.1, whose
 * names stand beside ours; numbers that it leaves to an implementation are OpenPMIx's, in its
 * pmix_common.h. tests/unit/test_host_launch.c compares all of it with that header, where it is
 * installed.
 *
 * Owns nothing.
 */
#ifndef DW_HOST_PMIX_H
#define DW_HOST_PMIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#define PMIX_SONAME "libpmix.so.2"

/* PMIX_MAX_NSLEN + 1, PMIX_MAX_KEYLEN + 1 */
#define PMIX_NAMESPACE_BYTES 256
#define PMIX_KEY_BYTES 512
#define PMIX_ANY_RANK (UINT32_MAX - 1) /* PMIX_RANK_WILDCARD: all of the namespace */

/* pmix_status_t: every status but these two is an error. */
#define PMIX_DONE 0 /* PMIX_SUCCESS */
#define PMIX_DONE_AT_ONCE (-157) /* PMIX_OPERATION_SUCCEEDED: there will be no callback */

/* pmix_data_type_t */
#define PMIX_TYPE_BOOL 1
#define PMIX_TYPE_INT 6
#define PMIX_TYPE_UINT32 14
#define PMIX_TYPE_BYTES 27 /* PMIX_BYTE_OBJECT */

#define PMIX_SCOPE_GLOBAL 3 /* pmix_scope_t, PMIX_GLOBAL: for this host and for others */

/* PMIX_JOB_SIZE, PMIX_COLLECT_DATA, PMIX_TIMEOUT */
#define PMIX_ATTRIBUTE_JOB_SIZE "pmix.job.size" /* uint32_t */
#define PMIX_ATTRIBUTE_COLLECT "pmix.collect" /* bool: a fence brings the data along */
#define PMIX_ATTRIBUTE_TIMEOUT "pmix.timeout" /* int, in seconds */

struct pmix_process { /* pmix_proc_t */
	char name[PMIX_NAMESPACE_BYTES];
	uint32_t rank;
};

struct pmix_bytes { /* pmix_byte_object_t */
	char *bytes;
	size_t size;
};

/* pmix_value_t. Of the union's members those that are used here, and the largest ones. */
struct pmix_datum {
	uint16_t type;
	union {
		bool flag;
		int integer;
		uint32_t number;
		struct pmix_bytes bytes;
		struct timeval time;
		struct {
			char *name, *value;
			char separator;
		} variable;
	} data;
};

struct pmix_attribute { /* pmix_info_t */
	char key[PMIX_KEY_BYTES];
	uint32_t flags;
	struct pmix_datum value;
};

typedef void pmix_done(int status, void *context); /* pmix_op_cbfunc_t */

/* PMIx_Init() and so on; `fence` is PMIx_Fence_nb(). */
struct pmix_calls {
	int (*init)(struct pmix_process *self, struct pmix_attribute *attributes, size_t count);
	int (*finalize)(const struct pmix_attribute *attributes, size_t count);
	int (*put)(uint8_t scope, const char *key, struct pmix_datum *value);
	int (*commit)(void);
	int (*fence)(const struct pmix_process *of, size_t processes,
		     const struct pmix_attribute *attributes, size_t count, pmix_done *done,
		     void *context);
	int (*get)(const struct pmix_process *of, const char *key,
		   const struct pmix_attribute *attributes, size_t count,
		   struct pmix_datum **value);
	const char *(*error_string)(int status);
};

#endif
