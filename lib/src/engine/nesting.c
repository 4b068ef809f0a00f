/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See nesting.h.
 */
#include <stddef.h>
#include "engine/nesting.h"

static _Thread_local struct nesting *innermost;
static _Thread_local struct nesting_child served;

void nesting_push(struct nesting *nesting, struct engine *engine, const struct dw_run *run)
{
	nesting->engine = engine;
	nesting->outer = innermost;
	nesting->run = run;
	innermost = nesting;
}

void nesting_pop(struct nesting *nesting)
{
	innermost = nesting->outer;
}

void nesting_serve(struct engine *engine, uint32_t worker)
{
	served = (struct nesting_child){ .engine = engine, .worker = worker };
}

struct nesting_child nesting_served(void)
{
	return served;
}

void nesting_forget(void)
{
	innermost = NULL;
	nesting_serve(NULL, 0);
}

bool nesting_each(bool (*visit)(const struct engine *engine, bool task, const void *context),
		  const void *context)
{
	for (const struct nesting *at = innermost; at; at = at->outer)
		if (visit(at->engine, false, context))
			return true;
	return served.engine && visit(served.engine, true, context);
}

bool nesting_inside(const struct dw_run *run)
{
	for (const struct nesting *at = innermost; at; at = at->outer)
		if (at->run == run)
			return true;
	return false;
}

const struct nesting *nesting_innermost(void)
{
	return innermost;
}
