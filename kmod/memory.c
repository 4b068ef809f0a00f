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

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "mailbox.h"
#include "memory.h"

#define LINE_PGOFF	(DISTWORKER_HUB_LINE_OFFSET >> PAGE_SHIFT)
#define TIMELINE_PGOFF	(DISTWORKER_TIMELINE_OFFSET >> PAGE_SHIFT)

/* The pages that make up `bytes` lie `step` apart in the memory. */
static int memory_map(struct vm_area_struct *vma, const struct vm_operations_struct *ops,
		      void *data, void *memory, size_t step, size_t bytes)
{
	unsigned long addr, pages = bytes >> PAGE_SHIFT, pgoff = vma->vm_pgoff;

	/* Not VM_SHARED: a file that was opened for reading does not have it. */
	if (!(vma->vm_flags & VM_MAYSHARE) || pgoff > pages || vma_pages(vma) > pages - pgoff)
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	vma->vm_ops = ops;
	vma->vm_private_data = data;
	vm_flags_mod(vma, VM_DONTCOPY | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC);
	memory += pgoff * step;
	for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE, memory += step) {
		if (fatal_signal_pending(current))
			return -EINTR;
		/* Not remap_pfn_range(), which warns if it fails at a whole mapping. */
		if (vmf_insert_pfn(vma, addr, vmalloc_to_pfn(memory)) != VM_FAULT_NOPAGE)
			return -ENOMEM;
		cond_resched();
	}
	return 0;
}

/* A debugger's looks, since get_user_pages() finds nothing here. */

static size_t vma_offset(struct vm_area_struct *vma, unsigned long addr)
{
	return addr - vma->vm_start + (vma->vm_pgoff << PAGE_SHIFT);
}

static int hub_vm_access(struct vm_area_struct *vma, unsigned long addr, void *buffer, int bytes,
			 int write)
{
	struct distw_hub *hub = vma->vm_private_data;
	void *memory = hub->memory + vma_offset(vma, addr);

	/* A mapping that can never be written must not be written by force. */
	if (write && !(vma->vm_flags & VM_MAYWRITE))
		return -EACCES;
	bytes = min_t(unsigned long, bytes, vma->vm_end - addr);
	memcpy(write ? memory : buffer, write ? buffer : memory, bytes);
	return bytes;
}

static int mailbox_vm_access(struct vm_area_struct *vma, unsigned long addr, void *buffer,
			     int bytes, int write)
{
	bytes = min_t(unsigned long, bytes, vma->vm_end - addr);
	return distw_peer_access(vma->vm_private_data, vma_offset(vma, addr), buffer, bytes, write);
}

static const struct vm_operations_struct hub_vm_ops = {
	.access = hub_vm_access,
};

/**
 * distw_hub_mmap() - ->mmap of a hub
 * @file: the hub
 * @vma: the mapping
 */
int distw_hub_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct distw_hub *hub = file->private_data;

	return distw_hub_check_owner(hub) ?:
	       memory_map(vma, &hub_vm_ops, hub, hub->memory, PAGE_SIZE,
			  hub->layout.mapping_bytes);
}

/* Only to be read: for endpoints, at offsets far behind the mailbox's. */

static int timelines_vm_access(struct vm_area_struct *vma, unsigned long addr, void *buffer,
			       int bytes, int write)
{
	struct distw_hub *hub = vma->vm_private_data;
	size_t offset = vma_offset(vma, addr);
	const void *timeline;

	if (write)
		return -EACCES;
	bytes = min_t(unsigned long, bytes, PAGE_SIZE - offset_in_page(offset));
	timeline = hub->mailbox[offset >> PAGE_SHIFT].timeline.shared;
	memcpy(buffer, timeline + offset_in_page(offset), bytes);
	return bytes;
}

static const struct vm_operations_struct timelines_vm_ops = {
	.access = timelines_vm_access,
};

/* The hub's line is its first page. */
static int readable_map(struct distw_hub *hub, struct vm_area_struct *vma)
{
	const struct distworker_hub_setup *layout = &hub->layout;

	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	vm_flags_mod(vma, 0, VM_MAYWRITE);
	if (vma->vm_pgoff < TIMELINE_PGOFF) {
		vma->vm_pgoff -= LINE_PGOFF;
		return memory_map(vma, &hub_vm_ops, hub, hub->memory, PAGE_SIZE, PAGE_SIZE);
	}
	if (!layout->timeline_offset)
		return -EINVAL;
	vma->vm_pgoff -= TIMELINE_PGOFF;
	return memory_map(vma, &timelines_vm_ops, hub, hub->mailbox[0].timeline.shared,
			  layout->mailbox_bytes, (size_t)layout->mailboxes << PAGE_SHIFT);
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
	.access = mailbox_vm_access,
};

/**
 * distw_endpoint_mmap() - ->mmap of an endpoint
 * @file: the endpoint
 * @vma: the mapping, of the mailbox, of its hub's line or of the timelines
 */
int distw_endpoint_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct distw_mailbox *mailbox = file->private_data;
	struct distw_peer *peer;
	u64 generation;
	int ret;

	if (vma->vm_pgoff >= LINE_PGOFF)
		return distw_mailbox_check_peer(mailbox, &generation) ?:
		       readable_map(mailbox->hub, vma);
	peer = distw_peer_map(mailbox);
	if (IS_ERR(peer))
		return PTR_ERR(peer);
	ret = memory_map(vma, &mailbox_vm_ops, peer, mailbox->memory, PAGE_SIZE,
			 mailbox->hub->layout.mailbox_bytes);
	if (ret)
		distw_peer_mapped(peer, -1);
	return ret;
}
