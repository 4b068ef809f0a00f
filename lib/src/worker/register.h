/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * register: the public calls that register callables and unregister them. An entry of the table
 * belongs to the Worker that it was registered on, and is found from there and from all below.
 *
 * Owns nothing but the order: callables are announced with `registering` of the root held.
 */
#ifndef DW_WORKER_REGISTER_H
#define DW_WORKER_REGISTER_H

struct dw_worker;

/* Retires everything that was registered on this Worker, which is about to be freed. */
void registrations_release(struct dw_worker *worker);

#endif
