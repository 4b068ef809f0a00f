/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the files: the device's, which becomes a hub, and endpoints.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_FILE_H
#define _DISTWORKER_FILE_H

#include <linux/fs.h>

extern const struct file_operations distw_hub_fops;

#endif /* _DISTWORKER_FILE_H */
