"""Reads requests from a socket, makes kernels: a process that has imported the libraries once and forks one per notebook.

Started as `python -m icplab.run.zygote FD MODULE…`. It only imports: no table is read, no linear algebra is done and no thread
is started before a fork, so that every kernel begins in a clean process that merely need not import again.

Requests and answers are lines of JSON:
`{"do": "start", "file": connection file, "cwd": folder, "env": {...}}` → `{"pid": 123}` ·
`{"do": "poll", "pid": 123}` → `{"status": null while it runs, else exit code, negative for a signal}` ·
`{"do": "signal", "pid": 123, "signal": 9}` → `{}`. When the socket closes, all kernels are killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>, Linux


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end closes; in a forked child, become a kernel and never return."""
    kernels: dict[int, int | None] = {}
    with channel, channel.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            if request["do"] == "start":
                pid = _fork_kernel(request, channel)
                kernels[pid] = None
                answer: dict[str, object] = {"pid": pid}
            elif request["do"] == "poll":
                answer = {"status": _status(request["pid"], kernels)}
            else:
                _send_signal(request["pid"], request["signal"], kernels)
                answer = {}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    for pid in kernels:
        _send_signal(pid, signal.SIGKILL, kernels)


def _status(pid: int, kernels: dict[int, int | None]) -> int | None:
    """Exit code of a kernel, None while it runs. Only reaped here, so a process id is never somebody else's."""
    if kernels[pid] is None:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            kernels[pid] = os.waitstatus_to_exitcode(status)
    return kernels[pid]


def _send_signal(pid: int, number: int, kernels: dict[int, int | None]) -> None:
    if _status(pid, kernels) is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)


def _fork_kernel(request: dict, channel: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.close(channel.fileno())  # not channel.close(), which waits for its line reader
        _become_kernel(request, parent)
        code = 0
    finally:
        os._exit(code)  # never back into the loop above, nor into the exit handlers of the zygote
    return 0


def _become_kernel(request: dict, parent: int) -> None:
    """Run an IPython kernel in this process until it is told to stop."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    _die_with(parent)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[:] = ["ipykernel"]
    # `python -m` put the zygote's working directory first; a kernel finds modules where a started one would.
    sys.path[0] = ""
    _seed()

    from ipykernel.kernelapp import IPKernelApp
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    # The backend was loaded before the fork, when there was no shell to register it with.
    config.InteractiveShellApp.matplotlib = "inline"
    app = IPKernelApp.instance(config=config, parent_handle=parent)
    app.initialize(["-f", request["file"]])
    app.start()


def _seed() -> None:
    """Kernels would share the zygote's random state anyway; a fixed one at least repeats from run to run."""
    import random

    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def _die_with(parent: int) -> None:
    """On Linux the kernel is killed the moment its parent goes; elsewhere ipykernel's own poller notices."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def preload(modules: Iterable[str]) -> None:
    """Import what notebooks import; freeze the objects so that garbage collection does not copy shared pages.

    A module that is not there is left out: loading it early is a matter of speed only.
    """
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # a debugger nobody attaches to, 0.2 s per kernel
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    endpoint = socket.socket(fileno=int(sys.argv[1]))
    preload(sys.argv[2:])
    serve(endpoint)
    os._exit(0)  # skips the exit handlers of libraries that were only loaded to be inherited
