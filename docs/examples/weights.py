# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Weights that are copied to a chip once, for a hundred runs. Run it in the checkout; cc compiles a kernel of the simulated chip."""
import pathlib
import subprocess
import tempfile

import numpy as np
from distworker import Worker, inp, out

KERNEL = r"""
#include <distworker/sim.h>
/* y = weights x; each of the chip's blocks has its rows */
int apply(const struct dw_sim_block *block, const struct dw_tensor *tensors, const uint64_t *scalars)
{
	const float *weights = (const float *)tensors[0].data, *x = (const float *)tensors[1].data;
	float *y = (float *)tensors[2].data;
	for (unsigned row = block->index; row < 256; row += block->dim) {
		y[row] = 0;
		for (unsigned i = 0; i < 256; i++)
			y[row] += weights[256 * row + i] * x[i];
	}
	return 0;
}
"""
folder = pathlib.Path(tempfile.mkdtemp())
kernel = folder / "kernel.so"
subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Ilib/include", "-x", "c", "-", "-o", kernel], input=KERNEL, text=True, check=True)

with Worker(3, chips=["sim"]) as node:
    matrix = np.arange(65536, dtype="f4").reshape(256, 256) % 7
    # A kept buffer: host code has no views of it, and write() and read() copy to it and from it.
    weights = node.share(matrix, kept=True)
    x, y = node.empty(256), node.empty(256)
    node.init()
    apply = node.image("sim", "apply", path=str(kernel), signature=[1, 1, 2])  # in, in, out
    chip = node.chip_id(0)

    def hundred_runs(weights):
        before = node.stats()[0].copied_in
        for step in range(100):
            np.asarray(x)[:] = step
            node.run(lambda orch: orch.submit(apply, inp(weights), inp(x), out(y), worker=chip))
            assert np.allclose(y, matrix.sum(axis=1) * step)
        return node.stats()[0].copied_in - before

    print(f"kept buffer: {hundred_runs(weights)} bytes to the chip")

    # The same by hand: memory of the chip, and a copy as a task.
    there = node.chip_memory(chip, (256, 256))
    node.run(lambda orch: orch.submit_copy(there, weights))
    print(f"memory of the chip: {hundred_runs(there)} bytes")
    node.chip_memory_free(there)

kernel.unlink()
folder.rmdir()
