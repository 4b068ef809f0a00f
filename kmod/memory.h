/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the mappings of hubs and mailboxes.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_MEMORY_H
#define _DISTWORKER_MEMORY_H

#include <linux/fs.h>

int distw_hub_mmap(struct file *file, struct vm_area_struct *vma);
int distw_endpoint_mmap(struct file *file, struct vm_area_struct *vma);

#endif /* _DISTWORKER_MEMORY_H */
