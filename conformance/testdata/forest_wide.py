"""Writes versions of one large forest and prints what each answers.

    forest_wide.py DIR UV PV COUNT MIB SCATTERED

writes DIR/v1.safetensors to DIR/vCOUNT.safetensors, as docs/trees.md says, each of
MIB MiB: every answer reads pages all over it. Versions differ in the second quarter;
version SCATTERED besides in one node of every other page of the others. A line a version:
its number, and its answer.
"""

import json
import pathlib
import sys

import numpy as np

folder, count, mib, scattered = pathlib.Path(sys.argv[1]), int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])

TREES, PAGE = 256, 4096
node = np.dtype([("bits", "<f8"), ("left", "<u4"), ("flags", "u1"), ("feature", "u1"), ("column", "u1"), ("rest", "u1")])
nodes = np.zeros(mib << 20 >> 4, dtype=node)
nodes["left"] = np.arange(len(nodes))  # leaves, and nobody's but those below
roots = (np.arange(TREES) * (len(nodes) // TREES)).astype("<u4")
nodes["bits"][roots], nodes["left"][roots], nodes["flags"][roots] = 1e18, roots + 1, 1  # uv is below: left
nodes["bits"][roots + 2] = -1
quarter = slice(TREES // 4, TREES // 2)
header = json.dumps({"format": 1, "features": ["uv"], "transform": "identity"}).encode()


def save(path, tensors):
    """As the safetensors package does, but for a header that ends with its page."""
    head, at = {}, 0
    for name, dtype, shape, data in tensors:
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head).encode().ljust(PAGE - 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for _, _, _, data in tensors:
            f.write(data)


for n in range(1, count + 1):
    values = np.arange(TREES, dtype=np.float64) % 7
    values[quarter] += n
    nodes["bits"][roots + 1] = values
    nodes["bits"][len(nodes) // 4 + 7 : len(nodes) // 2 : 64] = n  # leaves of no tree
    if n == scattered:
        for others in (nodes[: len(nodes) // 4], nodes[len(nodes) // 2 :]):
            others["bits"][100 :: 2 * PAGE // 16] = n
    save(folder / f"v{n}.safetensors", [
        ("trees.nodes", "U8", [len(nodes), 16], nodes.tobytes()),
        ("trees.roots", "U32", [TREES], roots.tobytes()),
        ("trees.categories", "U32", [0], b""),
        ("trees.header", "U8", [len(header)], header),
    ])
    print(n, repr(float(np.sum(values))))
