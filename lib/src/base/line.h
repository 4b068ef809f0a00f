/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * How far apart words lie that different threads or processes write: the largest cache line among
 * the machines that the library is for (the last level of arm64's servers), and the pair of lines
 * that x86 fetches together.
 */
#ifndef DW_BASE_LINE_H
#define DW_BASE_LINE_H

#define LINE_BYTES 128
#define LINE_ALIGNED __attribute__((aligned(LINE_BYTES)))

#endif
