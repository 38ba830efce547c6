"""Reads nothing, makes kernels: starts the warm process that forks one per notebook, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# One thread per library: k-means with the same seed gives other numbers with other thread counts (scikit-learn #27518).
FIXED_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONUTF8": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a thread before the fork would be missing in the kernels
}
# What a kernel loads while it starts, and what a typical notebook imports.
KERNEL_MODULES = (
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "ipykernel.comm.manager",
    "ipykernel.debugger",
    "tornado.platform.asyncio",
    "IPython.core.magics",
    "IPython.core.magics.ast_mod",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "matplotlib_inline.backend_inline",
)
LIBRARIES = (
    "pandas",
    "pyarrow.parquet",
    "duckdb",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.cluster",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.mixture",
    "sklearn.model_selection",
    "sklearn.preprocessing",
    "sklearn.tree",
    "statsmodels.api",
    "statsmodels.formula.api",
    "matplotlib.pyplot",
    "seaborn",
    "icplab.step",
    "icplab.core.charts",
    "icplab.report",
)
# Variables that would reach into a run from the shell it was typed in.
DROPPED = (
    "ICPLAB_WORKSPACE",
    "ICPLAB_RUN",
    "ICPLAB_PROGRESS",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "LANG",
    "LANGUAGE",
    "JPY_PARENT_PID",
)
SOCKET_PATH_LIMIT = 100  # bytes; Linux allows 107 for the path of a socket, some systems 103
POLL_SECONDS = 0.02


class ZygoteGone(RuntimeError):
    """The process that forks kernels has ended."""


class Zygote:
    """A warm process that forks kernels; a context manager, so that nothing outlives the run.

    Parameters
    ----------
    log : file that gets what the zygote and dying kernels print; default: nowhere
    environment : variables of the kernels beside the fixed ones, such as SOURCE_DATE_EPOCH
    """

    def __init__(self, log: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.environment = kernel_environment(environment or {})
        self.folder = Path(tempfile.mkdtemp(prefix="icplab-"))
        self.environment["IPYTHONDIR"] = str(self.folder / "ipython")  # no start-up files, no history of the user
        self._log = log
        self._lock = threading.Lock()
        self._managers: list[Any] = []
        self._open()

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") if self._log else open(os.devnull, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "icplab.run.zygote", str(theirs.fileno()), *KERNEL_MODULES, *LIBRARIES],
                pass_fds=[theirs.fileno()],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._socket = ours
        self._lines = ours.makefile("rw", encoding="utf-8")

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote and every kernel it forked, the unused ones too."""
        for manager in self._managers:
            if manager.has_kernel:
                end_kernel(manager)
        with contextlib.suppress(OSError, ValueError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ValueError):
            self._lines.close()
        self._socket.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_kernel(self, cwd: Path) -> Any:
        """Fork a kernel whose working directory is `cwd`; returns its kernel manager without waiting until it is up."""
        from jupyter_core.utils import run_sync

        from icplab.run.provisioner import forked_manager

        manager = forked_manager(self, self.folder / f"k{len(self._managers)}.json")
        self._managers.append(manager)
        run_sync(manager.start_kernel)(cwd=str(cwd), env=dict(self.environment))
        return manager

    def fork(self, file: str, cwd: str, env: Mapping[str, str]) -> int:
        """Process id of a new kernel that reads the connection file."""
        return int(self._ask({"do": "start", "file": file, "cwd": cwd, "env": dict(env)})["pid"])

    def poll(self, pid: int) -> int | None:
        """None while the kernel runs, else its exit code (negative: the signal that ended it)."""
        return self._ask({"do": "poll", "pid": pid})["status"]

    def send_signal(self, pid: int, number: int) -> None:
        """Send a signal to the kernel and what it started."""
        self._ask({"do": "signal", "pid": pid, "signal": int(number)})

    def _ask(self, request: dict) -> dict:
        with self._lock:
            try:
                self._lines.write(json.dumps(request) + "\n")
                self._lines.flush()
                answer = self._lines.readline()
            except (OSError, ValueError) as error:
                raise ZygoteGone("the process that forks kernels has ended") from error
        if not answer:
            raise ZygoteGone("the process that forks kernels has ended")
        return json.loads(answer)


class KernelsAhead:
    """Gives one kernel per notebook, and lets the next one start while a notebook runs."""

    def __init__(self, zygote: Zygote, cwd: Path, count: int) -> None:
        self._zygote, self._cwd, self._left = zygote, cwd, count
        self._next: Any = None

    def take(self) -> Any:
        """A started kernel of its own."""
        kernel = self._next or self._zygote.start_kernel(self._cwd)
        self._left -= 1
        self._next = self._zygote.start_kernel(self._cwd) if self._left > 0 else None
        return kernel


def end_kernel(manager: Any) -> None:
    """Kill a kernel and release what its manager holds. Whatever a step made, it has written and closed by then."""
    from jupyter_core.utils import run_sync

    run_sync(manager.shutdown_kernel)(now=True)


def kernel_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of kernels: that of this process without what would reach into a run, with what fixes it."""
    kept = {k: v for k, v in os.environ.items() if k not in DROPPED and not k.startswith("LC_")}
    return {**kept, **FIXED_ENVIRONMENT, **extra}
