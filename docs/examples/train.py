# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Learns digits on two nodes with two sub workers each. Run it in the checkout, as docs/python.md says."""
import gzip
import numpy as np
from distworker import Worker, inout, inp, out

rows = np.loadtxt(gzip.open("tools/jobs/digits.csv.gz", "rt"), delimiter=",", dtype=np.float32)
pixels, labels = np.c_[rows[:, :64] / 16, np.ones(len(rows))].astype("f4"), rows[:, 64].astype("i4")

with Worker(4, subs=1) as pod:
    nodes = [pod.add_child(Worker(3, subs=2)) for _ in range(2)]
    x, y, weights, slopes = pod.share(pixels[:1400]), pod.share(labels[:1400]), pod.empty((65, 10)), pod.empty((4, 65, 10))

    @pod.sub
    def slope(args):  # in a sub worker of a node: the gradient over its rows
        x, y, weights, slope = map(np.asarray, args.tensors)
        chance = np.exp(x @ weights)
        chance /= chance.sum(axis=1, keepdims=True)
        chance[np.arange(len(y)), y] -= 1
        slope[0] = x.T @ chance / len(y)

    @pod.orch
    def share(orch, args):  # in a node: half of its rows for each sub worker
        x, y, weights, slopes = args.tensors
        for i in range(2):
            part = slice(350 * i, 350 * (i + 1))
            orch.submit(slope, inp(x[part]), inp(y[part]), inp(weights), out(slopes[i:i + 1]))

    @pod.sub
    def step(args):
        weights, slopes = map(np.asarray, args.tensors)
        weights -= 0.5 * slopes.mean(axis=0)

    def train(orch):  # the tags on the tensors are all the synchronisation
        for epoch in range(200):
            for i in nodes:
                part = slice(700 * i, 700 * (i + 1))
                orch.submit(share, inp(x[part]), inp(y[part]), inp(weights), out(slopes[2 * i:2 * i + 2]), worker=i)
            orch.submit(step, inout(weights), inp(slopes))

    pod.run(train)

accuracy = (np.argmax(pixels[1400:] @ np.asarray(weights), axis=1) == labels[1400:]).mean()
print(f"accuracy {accuracy:.3f}")
