/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The driver's table: options, devices, device-resident memory. Calls of a
 * device come from one thread (distworker/chip.h).
 */
#include <sched.h>
#include <stddef.h>
#include "base/text.h"
#include "queue.h"

/* ----------------------------------------------------------------- options */

static const struct {
	const char *key;
	size_t offset;
	uint64_t minimum, maximum, initial;
} numbers[] = {
	{ "memory", offsetof(struct sim_options, memory), 4096, UINT64_C(1) << 44, 256 << 20 },
	{ "cores", offsetof(struct sim_options, cores), 1, 4096, 24 },
	{ "devices", offsetof(struct sim_options, devices), 1, 65536, 64 },
	{ "threads", offsetof(struct sim_options, threads), 0, 1024, 0 },
	{ "async", offsetof(struct sim_options, async), 0, 1, 0 },
	{ "depth", offsetof(struct sim_options, depth), 1, 16, 2 },
	{ "poison", offsetof(struct sim_options, poison), 0, 1, 0 },
	{ "lost_after", offsetof(struct sim_options, faults.lost_after), 1, UINT64_MAX, 0 },
	/* in microseconds here, in nanoseconds there */
	{ "block_dim", offsetof(struct sim_options, block_dim), 1, 4096, 1 },
	{ "aicpu_thread_num", offsetof(struct sim_options, threads_of_call), 1, SCHEDULER_THREADS,
	  3 },
	{ "delay_us", offsetof(struct sim_options, faults.delay_ns), 0, UINT64_C(1) << 40, 0 },
};

static const struct {
	const char *key;
	size_t offset;
} rules[] = {
	{ "fail", offsetof(struct sim_options, faults.fail) },
	{ "hang", offsetof(struct sim_options, faults.hang) },
	{ "crash", offsetof(struct sim_options, faults.crash) },
	{ "copy_fail", offsetof(struct sim_options, faults.copy_fail) },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int option_read(const struct kit_option *option, struct sim_options *options,
		       struct dw_chip_error *error)
{
	for (size_t i = 0; i < COUNT(numbers); i++)
		if (strcmp(option->key, numbers[i].key) == 0)
			return kit_number(option, numbers[i].minimum, numbers[i].maximum,
					  (uint64_t *)((char *)options + numbers[i].offset), error);
	for (size_t i = 0; i < COUNT(rules); i++)
		if (strcmp(option->key, rules[i].key) == 0)
			return fault_parse(option, (struct fault_rule *)((char *)options +
									 rules[i].offset), error);
	if (strcmp(option->key, "hang_in") == 0)
		return fault_parse_function(option, &options->faults, error);
	return kit_fail(
		error, -EINVAL,
		"driver option \"%s\" is unknown to sim: memory, cores, devices, threads, async, "
		"depth, poison, block_dim, aicpu_thread_num, fail, hang, crash, copy_fail, "
		"hang_in, lost_after and delay_us are known",
		option->key);
}

static int options_read(const char *text, struct sim_options *options, struct dw_chip_error *error)
{
	struct faults *faults = &options->faults;
	struct kit_option option;
	int status;

	memset(options, 0, sizeof(*options));
	for (size_t i = 0; i < COUNT(numbers); i++)
		*(uint64_t *)((char *)options + numbers[i].offset) = numbers[i].initial;
	while ((status = kit_option_next(&text, &option, error)) == 1) {
		status = option_read(&option, options, error);
		if (status < 0)
			return status;
	}
	faults->delay_ns *= 1000;
	faults->by_kernel = faults->fail.kernel[0] || faults->hang.kernel[0] ||
			    faults->crash.kernel[0];
	if (status == 0 && options->block_dim > options->cores)
		return kit_fail(error, -EINVAL,
				"driver option block_dim=%llu: at most the %llu of option cores",
				(unsigned long long)options->block_dim,
				(unsigned long long)options->cores);
	if (status == 0 && faults->copy_fail.kernel[0])
		return kit_fail(
			error, -EINVAL,
			"driver option copy_fail=%s: a number N (that copy) or N+ (from it on) is "
			"wanted",
			faults->copy_fail.kernel);
	return status;
}

/* CPUs that this process may use: more host threads than that would not help. */
static uint32_t cpu_count(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return count > 0 ? (uint32_t)count : 1;
}

/* Threads beside the one that makes the call. */
static uint32_t helper_limit(const struct sim_options *options)
{
	uint64_t threads = options->threads ? options->threads : cpu_count();
	uint64_t useful = options->cores > SCHEDULER_THREADS ? options->cores : SCHEDULER_THREADS;

	return (uint32_t)(threads < useful ? threads : useful) - 1;
}

/* ------------------------------------------------------------------ device */

static void properties_fill(uint32_t id, const struct sim_options *options,
			    struct dw_chip_properties *properties)
{
	struct dw_chip_properties full = {
		.capabilities = DW_CHIP_CAP_MEMORY | DW_CHIP_CAP_FLOAT64 | DW_CHIP_CAP_PLACES |
				DW_CHIP_CAP_COPIES,
		.cores = (uint32_t)options->cores,
		.memory_bytes = options->memory,
		.queue_depth = options->async ? (uint32_t)options->depth : 1,
		.default_block_dim = (uint32_t)options->block_dim,
		.default_aicpu_thread_num = (uint32_t)options->threads_of_call,
		.max_block_dim = (uint32_t)options->cores,
		.max_aicpu_thread_num = SCHEDULER_THREADS,
		.max_allocation_bytes = options->memory,
	};

	if (options->async)
		full.capabilities |= DW_CHIP_CAP_ASYNC;
	snprintf(full.name, sizeof(full.name), "sim%u", id);
	text_format(full.description, sizeof(full.description),
		 "simulated chip on %u host threads%s", helper_limit(options) + 1,
		 options->async ? " and a device thread" : "");
	KIT_GIVE(properties, &full);
}

static int sim_enumerate(const char *text, struct dw_chip_properties *properties, size_t *count,
			 struct dw_chip_error *error)
{
	struct sim_options options;
	int status = options_read(text, &options, error);

	if (status < 0)
		return status;
	fault_function(&options.faults, "enumerate");
	for (size_t i = 0; properties && i < *count && i < options.devices; i++)
		properties_fill((uint32_t)i, &options, kit_properties_at(properties, i));
	*count = options.devices;
	return 0;
}

static int sim_open(uint32_t id, const char *text, struct dw_chip_device **result,
		    struct dw_chip_error *error)
{
	struct dw_chip_device *device = calloc(1, sizeof(*device));
	struct sim_options *options;
	int status;

	if (!device)
		return kit_fail(error, -ENOMEM, "sim device %u: no memory to open it", id);
	options = &device->options;
	status = options_read(text, options, error);
	if (status < 0)
		goto fail;
	fault_function(&options->faults, "open");
	if (id >= options->devices) {
		status = kit_fail(
			error, -ENODEV,
			"sim has no device %u: there are %llu, from 0 (driver option devices=)", id,
			(unsigned long long)options->devices);
		goto fail;
	}
	device->id = id;
	call_init(&device->call);
	status = memory_create(&device->memory, options->memory, options->poison, error);
	if (status < 0)
		goto fail;
	status = pool_create(&device->pool, helper_limit(options), error);
	if (status < 0)
		goto fail_memory;
	if (options->async) {
		status = queue_create(device, (uint32_t)options->depth, &device->queue, error);
		if (status < 0)
			goto fail_pool;
	}
	*result = device;
	return 0;
fail_pool:
	pool_destroy(&device->pool);
fail_memory:
	memory_destroy(&device->memory);
fail:
	free(device);
	return status;
}

static void sim_close(struct dw_chip_device *device)
{
	fault_function(&device->options.faults, "close");
	if (device->queue)
		queue_destroy(device->queue);
	pool_destroy(&device->pool);
	call_fini(&device->call);
	memory_destroy(&device->memory);
	free(device->residents);
	free(device);
}

static int sim_properties(struct dw_chip_device *device, struct dw_chip_properties *properties,
			  struct dw_chip_error *error)
{
	(void)error;
	fault_function(&device->options.faults, "properties");
	properties_fill(device->id, &device->options, properties);
	return 0;
}

static int sim_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		    struct dw_chip_image **image, struct dw_chip_error *error)
{
	struct dw_chip_image_spec room;
	int status = kit_take_spec(&spec, &room, error);

	fault_function(&device->options.faults, "load");
	return status < 0 ? status : image_load(spec, image, error);
}

static void sim_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	fault_function(&device->options.faults, "unload");
	image_unload(image);
}

static const int32_t *sim_signature(struct dw_chip_device *device, struct dw_chip_image *image,
				    size_t *count)
{
	(void)device;
	*count = image->signature_count;
	return image->signature;
}

/* --------------------------------------------------------- resident memory */

/* Waits for the calls in flight: the operation that follows is ordered behind them. */
static int memory_begin(struct dw_chip_device *device, struct dw_chip_error *error)
{
	if (device->queue)
		queue_drain(device->queue);
	return atomic_load(&device->lost) ? sim_lost(device, error) : 0;
}

static int sim_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		       struct dw_chip_error *error)
{
	struct extent *extent;
	size_t at = device->resident_count;

	if (atomic_load(&device->lost))
		return sim_lost(device, error);
	while (at > 0 && device->residents[at - 1].handle >= handle)
		at--;
	if ((at < device->resident_count && device->residents[at].handle < handle + bytes) ||
	    (at > 0 && handle - device->residents[at - 1].handle < device->residents[at - 1].bytes))
		return kit_fail(
			error, -EEXIST,
			"sim device %u: [%#llx, +%llu) overlaps a device-resident range that is "
			"there",
			device->id, (unsigned long long)handle, (unsigned long long)bytes);
	if (device->resident_count == device->resident_space) {
		size_t space = device->resident_space ? device->resident_space * 2 : 16;
		struct resident *grown = realloc(device->residents, space * sizeof(*grown));

		if (!grown)
			return kit_fail(error, -ENOMEM, "sim device %u: no memory", device->id);
		device->residents = grown;
		device->resident_space = space;
	}
	extent = memory_alloc(&device->memory, bytes);
	if (!extent)
		return kit_fail(
			error, -ENOMEM,
			"sim device %u has no room for %llu bytes: %llu of %llu are in use (driver "
			"option memory=)",
			device->id, (unsigned long long)bytes,
			(unsigned long long)memory_used(&device->memory),
			(unsigned long long)device->memory.bytes);
	memmove(&device->residents[at + 1], &device->residents[at],
		(device->resident_count - at) * sizeof(*device->residents));
	device->residents[at] = (struct resident){ handle, bytes, extent };
	device->resident_count++;
	return 0;
}

static int sim_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error)
{
	int status;

	fault_function(&device->options.faults, "alloc");
	status = sim_reserve(device, handle, bytes, error);
	if (status == 0)
		memset((void *)(uintptr_t)memory_address(&device->memory,
							 resident_find(device, handle)->extent),
		       0, bytes);
	return status;
}

static int sim_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error)
{
	struct resident *resident = resident_find(device, handle);
	size_t at;

	if (atomic_load(&device->lost))
		return sim_lost(device, error);
	fault_function(&device->options.faults, "free");
	if (!resident || resident->handle != handle)
		return kit_fail(error, -ENOENT,
				"sim device %u has no device-resident range that begins at %#llx",
				device->id, (unsigned long long)handle);
	if (device->queue)
		queue_leave(device->queue, memory_address(&device->memory, resident->extent),
			    resident->bytes);
	memory_free(&device->memory, resident->extent);
	at = (size_t)(resident - device->residents);
	device->resident_count--;
	memmove(resident, resident + 1, (device->resident_count - at) * sizeof(*resident));
	return 0;
}

/* The device address of [handle, handle + bytes) in a resident range. */
static int resident_place(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
			  void **address, struct dw_chip_error *error)
{
	const struct resident *resident = resident_find(device, handle);

	if (!resident)
		return kit_fail(error, -ENOENT,
				"sim device %u has no device-resident range at %#llx", device->id,
				(unsigned long long)handle);
	if (bytes > resident->bytes - (handle - resident->handle))
		return kit_fail(
			error, -ERANGE,
			"sim device %u: [%#llx, +%llu) goes beyond the range %#llx of %llu bytes",
			device->id, (unsigned long long)handle, (unsigned long long)bytes,
			(unsigned long long)resident->handle, (unsigned long long)resident->bytes);
	*address = (char *)(uintptr_t)memory_address(&device->memory, resident->extent) +
		   (handle - resident->handle);
	return 0;
}

/* The same for a copy, which is counted. */
static int resident_address(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
			    void **address, struct dw_chip_error *error)
{
	int status = memory_begin(device, error);

	if (status == 0)
		status = resident_place(device, handle, bytes, address, error);
	return status < 0 ? status : copy_count(device, error);
}

static int sim_copy_in(struct dw_chip_device *device, uint64_t handle, const void *host,
		       uint64_t bytes, struct dw_chip_error *error)
{
	void *address;
	int status = resident_address(device, handle, bytes, &address, error);

	if (status < 0)
		return status;
	fault_function(&device->options.faults, "copy_in");
	memcpy(address, host, bytes);
	atomic_fetch_add(&device->copies_in, 1);
	atomic_fetch_add(&device->bytes_in, bytes);
	return 0;
}

static int sim_copy_out(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
			struct dw_chip_error *error)
{
	void *address;
	int status = resident_address(device, handle, bytes, &address, error);

	if (status < 0)
		return status;
	fault_function(&device->options.faults, "copy_out");
	memcpy(host, address, bytes);
	atomic_fetch_add(&device->copies_out, 1);
	atomic_fetch_add(&device->bytes_out, bytes);
	return 0;
}

static int sim_copy_within(struct dw_chip_device *device, uint64_t to, uint64_t from,
			   uint64_t bytes, struct dw_chip_error *error)
{
	void *target, *source;
	int status = resident_address(device, to, bytes, &target, error);

	if (status == 0)
		status = resident_place(device, from, bytes, &source, error);
	if (status < 0)
		return status;
	fault_function(&device->options.faults, "copy_within");
	memmove(target, source, bytes);
	return 0;
}

/* ------------------------------------------------------------------- calls */

static int sim_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error)
{
	struct dw_chip_call room;
	int status = kit_take_call(&call, &room, error);

	if (status < 0)
		return status;
	if (device->queue)
		queue_drain(device->queue);
	if (atomic_load(&device->lost))
		return sim_lost(device, error);
	status = call_prepare(device, call, &device->call, error);
	if (status < 0)
		return status;
	fault_function(&device->options.faults, "run");
	return call_run(device, &device->call, false, error);
}

static int sim_completion_fd(struct dw_chip_device *device)
{
	return device->queue ? queue_fd(device->queue) : -1;
}

static int sim_submit(struct dw_chip_device *device, const struct dw_chip_call *call,
		      struct dw_chip_error *error)
{
	struct dw_chip_call room;
	int status = kit_take_call(&call, &room, error);

	if (status < 0)
		return status;
	if (!device->queue)
		return kit_fail(error, -EOPNOTSUPP,
				"sim device %u is synchronous: open it with driver option async=1",
				device->id);
	if (atomic_load(&device->lost))
		return sim_lost(device, error);
	fault_function(&device->options.faults, "run");
	return queue_submit(device->queue, call, error);
}

static int sim_collect(struct dw_chip_device *device, struct dw_chip_completion *completion)
{
	return device->queue ? queue_collect(device->queue, completion) : 0;
}

static int sim_counters(struct dw_chip_device *device, struct dw_chip_counters *counters)
{
	struct dw_chip_counters full = {
		.calls = atomic_load(&device->calls),
		.copies_in = atomic_load(&device->copies_in),
		.copies_out = atomic_load(&device->copies_out),
		.bytes_in = atomic_load(&device->bytes_in),
		.bytes_out = atomic_load(&device->bytes_out),
		.memory_used = memory_used(&device->memory),
	};

	KIT_GIVE(counters, &full);
	return 0;
}

static const struct dw_chip_driver driver = {
	.size = sizeof(driver),
	.abi_version = DW_CHIP_ABI_VERSION,
	.name = "sim",
	.version = DW_VERSION,
	.enumerate = sim_enumerate,
	.open = sim_open,
	.close = sim_close,
	.properties = sim_properties,
	.load = sim_load,
	.unload = sim_unload,
	.alloc = sim_alloc,
	.free = sim_free,
	.copy_in = sim_copy_in,
	.copy_out = sim_copy_out,
	.copy_within = sim_copy_within,
	.run = sim_run,
	.completion_fd = sim_completion_fd,
	.submit = sim_submit,
	.collect = sim_collect,
	.counters = sim_counters,
	.reserve = sim_reserve,
	.signature = sim_signature,
};

DW_CHIP_EXPORT dw_chip_driver_entry dw_chip_driver_v1;
const struct dw_chip_driver *dw_chip_driver_v1(void)
{
	return &driver;
}
