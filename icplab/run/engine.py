"""Reads a notebook that Papermill prepared, makes it run in a forked kernel, and tells how that ended."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from jupyter_core.utils import ensure_event_loop, run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager

from icplab.run.kernels import end_kernel
from icplab.run.provisioner import ForkedKernelManager


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
        except BaseException:  # Ctrl-C: nothing that waits for this kernel may complain when it ends
            _cancel_waiting()
            raise
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            end_kernel(manager)


def _cancel_waiting() -> None:
    """Cancel what the interrupted client was waiting for."""
    loop = ensure_event_loop()
    waiting = asyncio.all_tasks(loop)
    for task in waiting:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))


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
