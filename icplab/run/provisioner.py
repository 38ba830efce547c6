"""Reads a zygote's answers, makes what jupyter_client expects: the process of a kernel, and its manager."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

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
