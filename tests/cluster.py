"""Starts a Spark master and two workers on the loopback address, runs the Spark tests against them, stops them.

python -m tests.cluster
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOST, WORKERS, START_SECONDS = "127.0.0.1", 2, 180


def main() -> int:
    try:
        import pyspark
    except ImportError:
        print("make test-cluster needs the extra: pip install 'icplab[spark]', and Java 17", file=sys.stderr)
        return 2
    home = Path(pyspark.__file__).parent
    with tempfile.TemporaryDirectory(prefix="icplab-cluster-") as folder:
        place = Path(folder)
        conf = {"spark.sql.shuffle.partitions": 4, "spark.driver.host": HOST, "spark.driver.bindAddress": HOST}
        conf |= {"spark.executor.memory": "1g", "spark.executor.cores": 1, "spark.cores.max": WORKERS}
        text = "\n".join(f"{k} {v}" for k, v in conf.items())
        (place / "spark-defaults.conf").write_text(text + "\n", encoding="utf-8")
        environment = {
            **os.environ,
            "SPARK_LOCAL_IP": HOST,
            "SPARK_CONF_DIR": folder,
            "SPARK_DAEMON_MEMORY": "512m",
            "PYSPARK_PYTHON": sys.executable,
        }
        started: list[subprocess.Popen] = []
        # Told to stop, Python would end at once and leave master and workers behind.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            return _test(home, place, environment, started)
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(30)


def _test(home: Path, place: Path, environment: dict[str, str], started: list[subprocess.Popen]) -> int:
    """Start everything, each with a log of its own, and run the tests once all workers are known to the master."""
    log = place / "master.log"
    _start(home, log, environment, started, "master.Master", "--host", HOST, "--port", "0", "--webui-port", "0")
    address = _wait_for(log, "Starting Spark master at ").split()[0]
    for number in range(WORKERS):
        options = (
            "--host",
            HOST,
            "--cores",
            "1",
            "--memory",
            "1g",
            "--webui-port",
            "0",
            "--work-dir",
            str(place / f"w{number}"),
        )
        _start(home, place / f"worker{number}.log", environment, started, "worker.Worker", *options, address)
    for number in range(WORKERS):
        _wait_for(place / f"worker{number}.log", "Successfully registered with master ")
    print(f"{address} with {WORKERS} workers")
    tests = [sys.executable, "-m", "pytest", "-v", "--durations=0", "-p", "no:cacheprovider", "tests/test_spark.py"]
    return subprocess.run(tests, env={**environment, "ICPLAB_SPARK_MASTER": address}, check=False).returncode


def _start(
    home: Path, log: Path, environment: dict[str, str], started: list[subprocess.Popen], role: str, *options: str
) -> None:
    command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", *options]
    with log.open("w", encoding="utf-8") as file:
        started.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))


def _wait_for(log: Path, said: str) -> str:
    """What a log says after some words, once it says them."""
    for _ in range(START_SECONDS * 2):
        text = log.read_text(encoding="utf-8", errors="replace")
        if said in text:
            return text.split(said, 1)[1].splitlines()[0]
        time.sleep(0.5)
    raise SystemExit(f"{log.name} never said {said!r}:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


if __name__ == "__main__":
    raise SystemExit(main())
