"""Writes the files beside it: two versions of a small model as safetensors, and the
patches between them, by Python's bsdiff4 1.3.2 and by zstd 1.5.

    PYTHONPATH=... python3 make.py
"""

import json
import os
import random
import struct
import subprocess

import bsdiff4

here = os.path.dirname(os.path.abspath(__file__))


def write(name, tensors):
    header, at = {}, 0
    for key, data in tensors:
        header[key] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 4096)
    with open(os.path.join(here, name), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(d for _, d in tensors))


r = random.Random(7)
words = [r.randbytes(8) for _ in range(64)]
same = b"".join(r.choice(words) for _ in range(2048))
dense = bytearray(b"".join(r.choice(words) for _ in range(1024)))
rows = bytearray(b"".join(r.choice(words) for _ in range(2048)))
old = [("same", same), ("dense", bytes(dense)), ("rows", bytes(rows)), ("weight", struct.pack("<d", 1))]
for i in range(0, len(dense), 7):
    dense[i] = (dense[i] + 3) & 0xFF
for at in (100, 9000):
    rows[at : at + 16] = r.randbytes(16)
new = [("same", same), ("dense", bytes(dense)), ("rows", bytes(rows)), ("new", r.randbytes(512)), ("weight", struct.pack("<d", 2))]
write("v1.safetensors", old)
write("v2.safetensors", new)
v1, v2 = (os.path.join(here, n) for n in ("v1.safetensors", "v2.safetensors"))
bsdiff4.file_diff(v1, v2, os.path.join(here, "v2.bsdiff4"))
subprocess.check_call(["zstd", "-q", "-f", "-19", "--patch-from=" + v1, v2, "-o", os.path.join(here, "v2.zst")])
