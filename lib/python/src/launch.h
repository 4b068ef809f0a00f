/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Launch: the processes of a launcher, or of ssh, as an object that Worker.serve() takes. */
#ifndef DISTWORKER_PYTHON_LAUNCH_H
#define DISTWORKER_PYTHON_LAUNCH_H

#include "core.h"

bool launch_add_types(PyObject *module);
/* Of a Launch, or of None (NULL); false with an exception. */
bool launch_handle(PyObject *object, struct dw_launch **launch);

#endif
