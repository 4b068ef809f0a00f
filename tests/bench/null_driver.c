// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* A chip that does nothing, at once: only the library's own cost is measured. */
#include <stdlib.h>
#include <distworker/chip.h>

struct dw_chip_device {
	int unused;
};
struct dw_chip_image {
	int unused;
};

static int null_properties(struct dw_chip_device *device, struct dw_chip_properties *properties,
			   struct dw_chip_error *error)
{
	(void)device, (void)error;
	properties->capabilities = DW_CHIP_CAP_HOST_WRITES | DW_CHIP_CAP_FLOAT64;
	properties->cores = 1;
	return 0;
}

static int null_enumerate(const char *options, struct dw_chip_properties *properties, size_t *count,
			  struct dw_chip_error *error)
{
	(void)options;
	for (size_t i = 0; properties && i < *count; i++)
		null_properties(NULL, &properties[i], error);
	*count = 64;
	return 0;
}

static int null_open(uint32_t id, const char *options, struct dw_chip_device **device,
		     struct dw_chip_error *error)
{
	static struct dw_chip_device only;

	(void)id, (void)options, (void)error;
	*device = &only;
	return 0;
}

static void null_close(struct dw_chip_device *device)
{
	(void)device;
}

static int null_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		     struct dw_chip_image **image, struct dw_chip_error *error)
{
	static struct dw_chip_image only;

	(void)device, (void)spec, (void)error;
	*image = &only;
	return 0;
}

static void null_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	(void)device, (void)image;
}

static int null_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		    struct dw_chip_error *error)
{
	(void)device, (void)call, (void)error;
	return 0;
}

DW_CHIP_EXPORT const struct dw_chip_driver *dw_chip_driver_v1(void);

const struct dw_chip_driver *dw_chip_driver_v1(void)
{
	static const struct dw_chip_driver driver = {
		.size = sizeof(driver),
		.abi_version = DW_CHIP_ABI_VERSION,
		.name = "null",
		.version = "1",
		.enumerate = null_enumerate,
		.open = null_open,
		.close = null_close,
		.properties = null_properties,
		.load = null_load,
		.unload = null_unload,
		.run = null_run,
	};

	return &driver;
}
