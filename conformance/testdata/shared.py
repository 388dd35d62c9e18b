"""Computes the score from the versions that a sidecar shares.

    shared.py EXAMPLE SOCKET UV PV [plain]

prints a line for each version that comes to answer: its number, and the score
of UV and PV as the shortest text of the float64. plain: as if there were no
numpy.
"""

import sys

if "plain" in sys.argv:
    sys.modules["numpy"] = None  # importing it fails
sys.path.insert(0, sys.argv[1])
from quadnine_shared import Model

uv, pv = float(sys.argv[3]), float(sys.argv[4])


def number(version, name):
    a = version.array(name)
    return float(a[0]) if isinstance(a, memoryview) else float(a)


for version in Model(sys.argv[2], "score").switches():
    if "plain" not in sys.argv:
        table = version.array("table")
        assert table.shape == (4096, 192) and not table.flags.writeable, table.shape
    print(version.number, repr(number(version, "scale") * (uv / pv) + number(version, "bias")), flush=True)
