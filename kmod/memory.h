/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the mappings of hubs and mailboxes.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_MEMORY_H
#define _DISTWORKER_MEMORY_H

#include <linux/mm_types.h>

#include "mailbox.h"

int distw_hub_map(struct distw_hub *hub, struct vm_area_struct *vma);
int distw_mailbox_map(struct distw_mailbox *mailbox, struct vm_area_struct *vma);

#endif /* _DISTWORKER_MEMORY_H */
