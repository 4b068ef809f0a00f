# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""For all tests: a shell ignores Ctrl-C for its background jobs, and their children inherit that."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
