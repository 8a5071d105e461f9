"""A format whose parser does what the file says: loops, takes memory, dies, writes, floods; and how a test reads such a file."""

from __future__ import annotations

from pathlib import Path

from worker.extract.reading import Order
from worker.extract.sandbox import Sandbox

MEMORY = 500_000_000
# The next line of defence is seen only where the first one is down.
UNCONFINED = """
from worker.extract.confinement import Confinement
Confinement.enter = lambda *_: None
"""
PARSERS = """
import ctypes, json, os, signal, sys, threading, time
from worker.domain.text import Block, Extraction
from worker.extract.registry import Format

FORMATS = (Format("hostile", "application/x-hostile", __name__, magic=(b"HOSTILE ",)),)

hooks = []
os.register_at_fork(after_in_child=lambda: hooks.append("run"))

def answer(text):
    return Extraction((Block(text),), "application/x-hostile", "hostile")

def descriptors():
    names = os.listdir("/proc/self/fd")
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in names if os.path.lexists(f"/proc/self/fd/{name}")}

def extract(path, limits):
    deed, _, argument = path.read_text()[8:].partition(" ")
    if deed == "loop":
        while True: pass
    if deed == "sleep":
        time.sleep(3600)
    if deed == "memory":
        return answer("x" * 10**10)
    if deed == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
        return answer("went on")
    if deed == "abort":
        # As a C++ library does that gets no memory: half of the limit is in use, and the next buffer has no room.
        buffer = bytearray(int(argument) // 2)
        try:
            buffer += bytes(int(argument))
        except MemoryError:
            os.abort()
    if deed == "title":
        return Extraction((Block("text"),), "application/x-hostile", "hostile", title="a secret title ")
    if deed == "signal":
        os.kill(os.getpid(), int(argument))
    if deed == "parent":
        os.kill(os.getppid(), signal.SIGKILL)
    if deed == "segfault":
        ctypes.string_at(0)
    if deed == "exit":
        os._exit(int(argument))
    if deed == "group":
        if os.fork() == 0:
            os.setsid()
            time.sleep(3600)
        return answer("left a child behind")
    if deed == "write":
        open(argument, "w").write("x" * 100)
    if deed in ("flood", "raw"):
        out = next(int(name) for name, target in descriptors().items() if target.startswith("pipe:"))
        if deed == "raw":
            os.write(out, argument.encode())
            os._exit(0)
        while True:
            os.write(out, b"x" * 65536)
    if deed == "fork":
        return answer(json.dumps([hooks, threading.current_thread() is threading.main_thread()]))
    if deed == "show":
        seen = {"environment": dict(os.environ), "descriptors": sorted(descriptors().values()), "modules": sorted(sys.modules)}
        return answer(json.dumps(seen))
    raise ValueError(deed)
"""


def read(sandbox: Sandbox, folder: Path, content: str, timeout: float = 20.0, memory: int = MEMORY) -> str:
    path = folder / "document"
    path.write_text(content)
    return sandbox.read(path, Order("document.txt", timeout, memory, 1_000_000, 4000, 400)).text
