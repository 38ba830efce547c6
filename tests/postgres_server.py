"""Starts a real PostgreSQL from the system's package for the length of a test session, as a user without rights."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

PASSWORD = "Geheim/5%x"  # characters that a connection string must escape
IN_URL = "Geheim%2F5%25x"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3].split(".")[0]))
    return found[-1].parent if found else None


@dataclass(frozen=True)
class Server:
    """A running server; `icp` is its superuser, `reader` may only log in."""

    port: int

    def url(self, user: str = "icp", password: str = IN_URL, database: str = "postgres", port: int = 0) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{port or self.port}/{database}"

    def run(self, *statements: str) -> None:
        """Execute statements, each on its own."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def fill(self, table: str, names: list[str], kinds: list[str], rows: list[list]) -> None:
        """Make a table anew with these rows; names are quoted."""
        name = psycopg.sql.Identifier(table).as_string()
        columns = ", ".join(f'"{n}" {k}' for n, k in zip(names, kinds, strict=True))
        self.run(f"drop table if exists {name}", f"create table {name} ({columns})")
        with psycopg.connect(self.url()) as connection, connection.cursor() as cursor:
            places = ", ".join(["%s"] * len(names))
            cursor.executemany(f"insert into {name} values ({places})", rows)


@functools.cache
def server() -> Server:
    """The server of this process, started when first asked for and stopped at its end."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="icplab-pg-"))
    user = _user_without_rights()
    if user is not None:
        shutil.chown(folder, user)
    (folder / "password").write_text(PASSWORD)
    os.chmod(folder / "password", 0o644)
    port = _free_port()
    _as(user, bin_folder / "initdb", "-D", folder / "data", "-U", "icp", "-A", "scram-sha-256",
        f"--pwfile={folder / 'password'}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB"
    control = bin_folder / "pg_ctl"
    _as(user, control, "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "-t", "60", "start")

    def stop() -> None:
        _as(user, control, "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    running = Server(port)
    running.run(f"create role reader login password '{PASSWORD}'")
    return running


def _user_without_rights() -> str | None:
    """PostgreSQL refuses to run as root; another user then runs it."""
    if os.getuid():
        return None
    known = {u.pw_name for u in pwd.getpwall()}
    return next(u for u in ("postgres", "nobody") if u in known)


def _as(user: str | None, *command: object) -> None:
    words = [str(c) for c in command]
    done = subprocess.run(
        words,
        user=user,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
