/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Symbols: functions of a shared object, identified by the object's build-id (else its content)
 * and their name, loaded once per process on first use. Thread-safe: a mutex of its own.
 */
#ifndef DW_CALLABLE_SYMBOL_H
#define DW_CALLABLE_SYMBOL_H

#include "callable/callable.h"

/* The identity of a symbol, without loading its object. -ENOENT, -ELIBBAD, -ESRCH. */
int symbol_identify(const char *path, const char *symbol, uint8_t identity[32]);
/*
 * The build-id of the loaded object that has this address; zeros where there is no object, or it
 * has none. Any thread.
 */
void symbol_identify_address(const void *address, uint8_t identity[32]);
/* Loads the object of a symbol callable (once per process) and gives its address. */
int symbol_resolve(struct callable *callable, void **address);
/* Around a fork, as callable_lock() and callable_unlock(). */
void symbol_lock(void);
void symbol_unlock(void);

#endif
