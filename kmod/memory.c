// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the mappings of hubs and mailboxes.
 *
 * They are populated at once, by frame and not by page: entries that are "special" keep
 * all of get_user_pages(), the fast way included, from pinning pages that the next generation will
 * use; and pages that are charged to a memory cgroup could not be inserted as pages before 5.11.
 * VM_IO keeps MADV_DOFORK from undoing VM_DONTCOPY.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "memory.h"

/* How much is mapped in one go, without a look at whether others want the CPU. */
#define MAP_STEP_BYTES		SZ_4M

#define LINE_PGOFF	(DISTWORKER_HUB_LINE_OFFSET >> PAGE_SHIFT)

static int memory_map(struct vm_area_struct *vma, void *memory, size_t bytes)
{
	unsigned long pages = bytes >> PAGE_SHIFT, pgoff = vma->vm_pgoff;
	unsigned long addr;

	/* Not VM_SHARED: a file that was opened for reading does not have it. */
	if (!(vma->vm_flags & VM_MAYSHARE) || pgoff > pages || vma_pages(vma) > pages - pgoff)
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	vm_flags_clear(vma, VM_MAYEXEC);
	vm_flags_set(vma, VM_DONTCOPY | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	memory += pgoff << PAGE_SHIFT;
	for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE, memory += PAGE_SIZE) {
		/* Not remap_pfn_range(), which warns if it fails at a whole mapping. */
		if (vmf_insert_pfn(vma, addr, vmalloc_to_pfn(memory)) != VM_FAULT_NOPAGE)
			return -ENOMEM;
		if ((addr - vma->vm_start) % MAP_STEP_BYTES)
			continue;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static const struct vm_operations_struct mailbox_vm_ops;

static void *vma_memory(struct vm_area_struct *vma)
{
	struct distw_peer *peer = vma->vm_private_data;
	struct distw_hub *hub = vma->vm_private_data;

	return vma->vm_ops == &mailbox_vm_ops ? peer->mailbox->memory : hub->memory;
}

/* Everything is mapped from the start: only for pages that the kernel has unmapped by itself. */
static vm_fault_t memory_fault(struct vm_fault *vmf)
{
	return vmf_insert_pfn(vmf->vma, vmf->address,
			      vmalloc_to_pfn(vma_memory(vmf->vma) + (vmf->pgoff << PAGE_SHIFT)));
}

/*
 * For debuggers, since get_user_pages() finds nothing here. A mapping that can never be written
 * must not be written by force.
 */
static int memory_access(struct vm_area_struct *vma, unsigned long addr, void *buffer, int bytes,
			 int write)
{
	size_t offset = addr - vma->vm_start + (vma->vm_pgoff << PAGE_SHIFT);
	void *memory = vma_memory(vma) + offset;

	if (write && !(vma->vm_flags & VM_MAYWRITE))
		return -EACCES;
	bytes = min_t(unsigned long, bytes, vma->vm_end - addr);
	if (vma->vm_ops == &mailbox_vm_ops)
		return distw_peer_access(vma->vm_private_data, memory, buffer, bytes, write);
	memcpy(write ? memory : buffer, write ? buffer : memory, bytes);
	return bytes;
}

static const struct vm_operations_struct hub_vm_ops = {
	.fault = memory_fault,
	.access = memory_access,
};

/**
 * distw_hub_map() - for ->mmap of a hub
 * @hub: a hub of which the current process is the owner
 * @vma: the mapping
 */
int distw_hub_map(struct distw_hub *hub, struct vm_area_struct *vma)
{
	vma->vm_private_data = hub;
	vma->vm_ops = &hub_vm_ops;
	return memory_map(vma, hub->memory, hub->bytes);
}

/* The hub's line, its first page, for endpoints: at offsets far behind the mailbox's. */
static int line_map(struct distw_hub *hub, struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	vm_flags_clear(vma, VM_MAYWRITE);
	vma->vm_pgoff -= LINE_PGOFF;
	vma->vm_private_data = hub;
	vma->vm_ops = &hub_vm_ops;
	return memory_map(vma, hub->memory, PAGE_SIZE);
}

/* Mappings of a mailbox are counted, so that detaching can be refused. */

static void mailbox_vm_open(struct vm_area_struct *vma)
{
	distw_peer_mapped(vma->vm_private_data, 1);
}

static void mailbox_vm_close(struct vm_area_struct *vma)
{
	distw_peer_mapped(vma->vm_private_data, -1);
}

static const struct vm_operations_struct mailbox_vm_ops = {
	.open = mailbox_vm_open,
	.close = mailbox_vm_close,
	.fault = memory_fault,
	.access = memory_access,
};

/**
 * distw_mailbox_map() - for ->mmap of an endpoint
 * @mailbox: a mailbox of which the current process is the peer
 * @vma: the mapping, of the mailbox or of its hub's line
 */
int distw_mailbox_map(struct distw_mailbox *mailbox, struct vm_area_struct *vma)
{
	struct distw_peer *peer;
	int ret;

	if (vma->vm_pgoff >= LINE_PGOFF)
		return line_map(mailbox->hub, vma);
	peer = distw_peer_map(mailbox);
	if (IS_ERR(peer))
		return PTR_ERR(peer);
	vma->vm_private_data = peer;
	vma->vm_ops = &mailbox_vm_ops;
	ret = memory_map(vma, mailbox->memory, mailbox->hub->mailbox_bytes);
	if (ret)
		distw_peer_mapped(peer, -1);
	return ret;
}
