"""Reads a zygote's answers, makes what jupyter_client and Papermill expect: a kernel's process, its manager, an engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager

from icplab.run.kernels import POLL_SECONDS, SOCKET_PATH_LIMIT, Zygote, ZygoteGone

GONE = 1  # exit code reported for a kernel whose zygote has ended
LONGEST_SOCKET_NAME = "-ipc-5"


class ForkedProvisioner(LocalProvisioner):
    """The process of a kernel, as jupyter_client sees it; starting, polling and signals go through the zygote."""

    zygote: Zygote

    @property
    def has_process(self) -> bool:
        return self.pid is not None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        file = cmd[cmd.index("-f") + 1]
        self.cwd = kwargs["cwd"]
        self.pid = self.zygote.fork(file, str(self.cwd), kwargs["env"])
        self.pgid = self.pid
        return self.connection_info

    async def poll(self) -> int | None:
        if self.pid is None:
            return 0
        try:
            return self.zygote.poll(self.pid)
        except ZygoteGone:
            return GONE

    async def wait(self) -> int | None:
        while (status := await self.poll()) is None:
            await asyncio.sleep(POLL_SECONDS)
        self.pid = None
        return status

    async def send_signal(self, signum: int) -> None:
        if self.pid is not None:
            with contextlib.suppress(ZygoteGone):
                self.zygote.send_signal(self.pid, signum)

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)


class ForkedKernelManager(AsyncKernelManager):
    """Manager of one forked kernel."""

    async def _async_wait(self, pollinterval: float = POLL_SECONDS) -> None:
        await super()._async_wait(pollinterval=POLL_SECONDS)


def forked_manager(zygote: Zygote, connection_file: Path) -> ForkedKernelManager:
    """A manager whose kernel comes from `zygote`.

    Messages go over sockets in a folder that only this user can enter; where its path is too long for a socket, over
    encrypted TCP on this machine.
    """
    short = len(f"{connection_file}{LONGEST_SOCKET_NAME}".encode()) <= SOCKET_PATH_LIMIT
    manager = ForkedKernelManager(
        kernel_name="python3",
        connection_file=str(connection_file),
        transport="ipc" if short else "tcp",
        transport_encryption="auto",
    )
    kernel_id = str(uuid.uuid4())
    provisioner = ForkedProvisioner(kernel_id=kernel_id, kernel_spec=manager.kernel_spec, parent=manager)
    provisioner.zygote = zygote
    manager.kernel_id, manager.provisioner = kernel_id, provisioner
    return manager


class ForkedEngine(Engine):
    """Papermill engine that runs a notebook in a kernel it is given, and reports the truth about how that ended."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        kernel: Callable[[], ForkedKernelManager],
        ended: dict[str, str],
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **_: Any,
    ) -> None:
        """Run all cells; a dead kernel or a timeout is noted in `ended`, as Papermill would call both completed."""
        manager = kernel()
        client = PapermillNotebookClient(
            nb_man,
            km=manager,
            kernel_name=kernel_name,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            coalesce_streams=True,
            log=logging.getLogger("icplab.run"),
        )
        try:
            client.execute(cleanup_kc=False)
        except CellTimeoutError:
            ended["why"] = f"a cell ran longer than {execution_timeout} s"
        except (DeadKernelError, RuntimeError) as error:
            ended["why"] = _cause_of_death(manager, error)
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            run_sync(manager.shutdown_kernel)(now=True)


def _cause_of_death(manager: ForkedKernelManager, error: Exception) -> str:
    """Why a kernel is no more, in words."""
    status = run_sync(manager.provisioner.poll)() if manager.provisioner else None
    if status is None:
        return f"the kernel did not answer: {error}"
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if status == -signal.SIGKILL else ""
        return f"the kernel was ended by {name}{hint}"
    return f"the kernel ended with exit code {status}"
