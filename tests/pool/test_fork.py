"""A forked child starts anew and leaves its parent's sockets alone. In a process of its own: pytest has threads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, os, threading
from heliosproxy.pool import PoolKey, PoolOptions, Pools, Server

closed = []

class FakeServer(Server):
    __slots__ = ("orphaned",)
    def close(self): closed.append(self)
    def orphan(self): self.orphaned = True
    def __del__(self): os._exit(3)

async def connect_async(pool): raise NotImplementedError

pools = Pools(3)
key = PoolKey("primary", "", "shop", "app")
pool = pools.pool(key, PoolOptions(), lambda pool: FakeServer(), connect_async)
hooks = []
def broken(): raise RuntimeError("this hook is broken")
pools.on_fork += [broken, lambda: hooks.append("called")]
idle, leased = pool.lease(), pool.lease()
pool.release(idle)
retired = pools.pool(key._replace(node="old"), PoolOptions(), lambda pool: FakeServer(), connect_async)
late = retired.lease()
retired.close()
pools.lock.acquire()  # as another thread might hold it
child = os.fork()
if child == 0:
    assert idle.orphaned and leased.orphaned and late.orphaned and hooks == ["called"]
    assert pool.try_lease() is None
    pool.release(leased)
    retired.release(late)
    assert not closed
    assert pool.stats()["pool_size"] == pool.stats()["requests_num"] == pool.stats()["connections_num"] == 0
    mine = [pool.lease(), pool.lease(), pool.lease()]
    assert not {idle, leased, late} & set(mine)
    assert pools.stats()["size"] == 3
    del idle, leased, late
    gc.collect()  # no destructor runs: the parent's servers stay referenced
    os._exit(0)
pools.lock.release()
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
pool.release(leased)
assert pool.try_lease() is leased and pool.try_lease() is idle and not hooks
print("done", flush=True)  # _exit() does not
os._exit(0)
"""


def test_a_forked_child_forgets_its_parents_connections_without_touching_them() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "done\n"
    assert "this hook is broken" in run.stderr


def test_importing_the_pool_registers_no_fork_hook_and_starts_no_thread() -> None:
    program = (
        "import os, threading; os.register_at_fork = None; import heliosproxy.pool;"
        "assert threading.active_count() == 1"
    )
    # The standard library registers its own: import what does so first.
    subprocess.run([sys.executable, "-c", "import logging, random, psycopg; " + program], check=True)
