"""Maps a sidecar's model versions into this process: docs/shared.md in Python.

    python quadnine_shared.py /run/quadnine/models.sock score [TENSOR]

prints a line for each version that comes to answer, with the value of TENSOR's
first element. In a program:

    model = Model("/run/quadnine/models.sock", "score")
    for version in model.switches():
        weights = version.array("w")      # a memoryview, or a numpy array if there is numpy
        ...                               # use it until the loop goes on

Standard library only, Linux. A version that is asked back is unmapped by
switches(): drop what you made of it before you go on with the loop. Only the loop
reads what the sidecar says: come back to it within --model-share-ready, or run it
in a thread of its own.
"""

import ctypes, hashlib, json, mmap, os, socket, struct, sys

HELLO, READY, FAILED, RELEASED = 1, 2, 3, 4
WELCOME, OFFER, FILES, WINDOWS, PIECES, SWITCH, RELEASE, REVOKED, REFUSED = range(16, 25)
MAP_FIXED, PROT_NONE = 0x10, 0
FORMATS = {"F64": "d", "F32": "f", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U64": "Q", "U32": "I", "U16": "H", "U8": "B", "BOOL": "?"}

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def map_at(address, length, prot, flags, fd, offset):
    got = libc.mmap(address, length, prot, flags, fd, offset)
    if got == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap: " + os.strerror(ctypes.get_errno()))
    return got


class Version:
    """A version that is mapped here and whose bytes were checked."""

    def __init__(self, offer):
        self.number, self.size, self.region = struct.unpack_from("<QQQ", offer)
        self.root, self.sha256 = offer[24:56], offer[56:88]
        self.want = struct.unpack_from("<III", offer, 88)  # files, windows, pieces
        self.files, self.windows, self.pieces, self.address = [], [], [], None

    def complete(self):
        return (len(self.files), len(self.windows), len(self.pieces)) == self.want

    def map(self):
        """Maps the pieces and checks the SHA-256. On an error nothing stays mapped."""
        try:
            self.address = map_at(None, self.region, PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
            for kind in (1, 2):  # what is copied lies over what is mapped; here it is mapped, too
                for at, length, file, k, offset in self.pieces:
                    if k == kind:
                        if at + length > self.region:
                            raise ValueError("a piece is not within the region")
                        map_at(self.address + at, length, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, self.files[file], offset)
            whole = hashlib.sha256()
            for first, end, _ in self.windows:
                whole.update(self.bytes(first, end - first))
            if whole.digest() != self.sha256:
                raise ValueError("what was mapped has another SHA-256 than the sidecar says")
            head = struct.unpack("<Q", self.bytes(0, 8))[0]
            self.tensors = json.loads(bytes(self.bytes(8, head)))
            self.data = 8 + head
        except BaseException:
            self.unmap()
            raise
        finally:
            self.close()

    def close(self):
        for fd in self.files:
            os.close(fd)
        self.files = []

    def bytes(self, offset, length):
        """Returns the file's bytes as a read-only view, without a copy."""
        for first, end, at in self.windows:
            if first <= offset and offset + length <= end:
                view = (ctypes.c_char * length).from_address(self.address + at + offset - first)
                return memoryview(view).cast("B").toreadonly()
        raise ValueError("these bytes are not in one piece")

    def array(self, name):
        """Returns a tensor: a numpy array, or without numpy a flat memoryview."""
        t = self.tensors[name]
        begin, end = t["data_offsets"]
        view = self.bytes(self.data + begin, end - begin).cast(FORMATS[t["dtype"]])
        try:
            import numpy
        except ImportError:
            return view
        return numpy.frombuffer(view, dtype=FORMATS[t["dtype"]]).reshape(t["shape"])

    def unmap(self):
        if self.address is not None:
            libc.munmap(self.address, self.region)
            self.address = None


class Model:
    """A connection to the sidecar, for one model."""

    def __init__(self, path, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.buffer, self.fds = b"", []
        self.versions, self.offer = {}, None
        self.active = self.canary = None
        self.share = 0.0  # of the callers, for the canary
        name = name.encode()
        self.send(HELLO, b"QSHARE1\0" + struct.pack("<IIH", 1, 1, len(name)) + name)  # 1: a SHA-256 in place of the root

    def send(self, kind, body):
        self.socket.sendall(struct.pack("<IB3x", len(body), kind) + body)

    def need(self, n):
        while len(self.buffer) < n:
            data, fds, flags, _ = socket.recv_fds(self.socket, 1 << 16, 253, socket.MSG_CMSG_CLOEXEC)
            self.fds += fds
            if flags & socket.MSG_CTRUNC:
                raise ConnectionError("descriptors were lost: raise the limit of open files")
            if not data:
                raise ConnectionError("the sidecar has closed the connection")
            self.buffer += data

    def frame(self):
        self.need(8)
        length, kind = struct.unpack_from("<IB", self.buffer)
        self.need(8 + length)
        body, self.buffer = self.buffer[8 : 8 + length], self.buffer[8 + length :]
        return kind, body

    def switches(self):
        """Yields the active version each time that another one becomes it."""
        while True:
            kind, body = self.frame()
            if kind == OFFER:
                self.offer = Version(body)
            elif kind == FILES:
                n = struct.unpack("<I", body)[0]
                self.offer.files += self.fds[:n]
                self.fds = self.fds[n:]
            elif kind == WINDOWS:
                self.offer.windows += struct.iter_unpack("<QQQ", body)
            elif kind == PIECES:
                self.offer.pieces += struct.iter_unpack("<QQIIQ", body)
            elif kind == SWITCH:
                active, canary, share = struct.unpack("<QQQ", body)
                before, self.active = self.active, self.versions.get(active)
                self.canary, self.share = self.versions.get(canary), share / 2**32
                if self.active is not None and self.active is not before:
                    yield self.active
            elif kind == RELEASE:
                number = struct.unpack_from("<Q", body)[0]
                version = self.versions.pop(number, None)
                if version is not None:
                    version.unmap()
                    self.send(RELEASED, struct.pack("<Q", number))
            elif kind in (REVOKED, REFUSED):
                raise ConnectionError("refused: " + body.decode(errors="replace") if kind == REFUSED else "a version was not given back in time")
            if self.offer is not None and self.offer.complete():
                self.check()

    def check(self):
        version, self.offer = self.offer, None
        try:
            version.map()
        except (OSError, ValueError) as e:
            self.send(FAILED, struct.pack("<Q", version.number) + str(e).encode()[:512])
            return
        self.versions[version.number] = version
        self.send(READY, struct.pack("<Q", version.number))


if __name__ == "__main__":
    for now in Model(sys.argv[1], sys.argv[2]).switches():
        line = f"version {now.number}"
        if len(sys.argv) > 3:
            line += f" {sys.argv[3]} {now.array(sys.argv[3]).flat[0]!r}" if hasattr(now.array(sys.argv[3]), "flat") else f" {sys.argv[3]} {now.array(sys.argv[3])[0]!r}"
        print(line, flush=True)
