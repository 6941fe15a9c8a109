"""What a contained process starts with, how it is ended, and what is known of it afterwards."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keck.testing import async_wait_until, wait_until
from keck_sandbox import Policy, Process, spawn
from keck_sandbox.reap import cell_members

LOOK = """
import json, os, resource, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0), "pgid": os.getpgid(0), "pid": os.getpid(),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")), "stdin": os.readlink("/proc/self/fd/0"),
    "no_new_privs": status["NoNewPrivs"], "umask": status["Umask"],
    "files": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
    "size": resource.getrlimit(resource.RLIMIT_FSIZE), "cpu": resource.getrlimit(resource.RLIMIT_CPU),
}))
"""


def policy(directory: Path, **changes: Any) -> Policy:
    return Policy(name="test", directory=directory, **changes)


async def start(directory: Path, code: str, **changes: Any) -> Process:
    return await spawn(policy(directory, **changes), [sys.executable, "-I", "-S", "-c", code])


async def look(directory: Path, **changes: Any) -> dict[str, Any]:
    process = await start(directory, LOOK, **changes)
    ended = await process.wait()
    assert ended is not None
    assert ended.code == 0, process.output()
    found: dict[str, Any] = json.loads(process.output())
    return found


async def test_nothing_of_the_services_environment_is_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KECK_NATS_PASSWORD", "secret")
    monkeypatch.setenv("LD_PRELOAD", "")
    found = await look(tmp_path, env={"GIVEN": "1"})
    env = found["env"]
    assert "secret" not in str(found)
    assert "LD_PRELOAD" not in env
    assert env["GIVEN"] == "1"
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "TORCH_EXTENSIONS_DIR"):
        assert Path(env[name]).is_relative_to(tmp_path)
    assert found["cwd"] == str(tmp_path / "cell")


async def test_it_leads_a_session_of_its_own_and_can_gain_no_privileges(tmp_path: Path) -> None:
    found = await look(tmp_path)
    assert found["pid"] == found["sid"] == found["pgid"]
    assert found["no_new_privs"] == "1"
    assert found["umask"] == "0077"
    assert found["stdin"] == os.devnull


async def test_no_descriptor_is_inherited_but_those_passed(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    os.set_inheritable(write, True)
    try:
        # The last is the listing itself.
        assert (await look(tmp_path))["fds"][:3] == [0, 1, 2]
        assert len((await look(tmp_path))["fds"]) == 4
        assert write in (await look(tmp_path, pass_fds=(write,)))["fds"]
    finally:
        os.close(read)
        os.close(write)


async def test_limits_are_set_for_good(tmp_path: Path) -> None:
    found = await look(tmp_path, open_files=64, file_bytes=12345, cpu_s=77)
    assert found["files"] == [64, 64]
    assert found["size"] == [12345, 12345]
    assert found["cpu"] == [77, 77]
    assert found["core"] == [0, 0]


async def test_a_limit_above_the_services_own_is_lowered_to_it(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 2**30
    assert (await look(tmp_path, open_files=2**31))["files"][1] <= max(hard, 2**31)


async def test_memory_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    process = await start(tmp_path, "bytearray(400 << 20)", data_bytes=200 << 20)
    ended = await process.wait()
    assert ended is not None
    assert ended.code == 1
    assert "MemoryError" in process.output()


async def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    process = await start(tmp_path, "with open('f', 'wb') as file: file.write(bytes(5000))", file_bytes=1000)
    ended = await process.wait()
    assert ended is not None
    assert ended.code == 1
    assert os.stat("f", dir_fd=process.work_fd).st_size <= 1000
    await process.kill()


@pytest.mark.parametrize(
    ("code", "status", "name", "told"),
    [
        ("import sys; sys.exit(7)", 7, "", "exited with status 7"),
        ("import os; os.kill(os.getpid(), 11)", -11, "SIGSEGV", "killed by SIGSEGV"),
        ("import os; os.abort()", -6, "SIGABRT", "killed by SIGABRT"),
        ("import os; os.kill(os.getpid(), 15)", -15, "SIGTERM", "killed by SIGTERM"),
    ],
)
async def test_the_end_is_told(tmp_path: Path, code: str, status: int, name: str, told: str) -> None:
    ended = await (await start(tmp_path, code)).wait()
    assert ended is not None
    assert (ended.code, ended.signal_name, ended.described) == (status, name, told)


async def test_a_program_that_is_not_there_is_our_failure_and_leaves_nothing(tmp_path: Path) -> None:
    def held() -> tuple[int, set[int]]:
        return len(os.listdir("/proc/self/fd")), cell_members(os.getpid())

    before = held()
    with pytest.raises(OSError, match=r"No such file.*/does/not/exist"):
        await spawn(policy(tmp_path), ["/does/not/exist"])
    assert held() == before


async def test_a_cell_that_takes_too_much_memory_is_killed_as_a_whole(tmp_path: Path) -> None:
    # Neither process is above the limit: the cell is.
    code = "import os, signal\nchild = os.fork()\nheld = bytearray(b'x') * (60 << 20)\nsignal.pause()"
    process = await start(tmp_path, code, memory_bytes=100 << 20)
    ended = await process.wait(20)
    assert ended is not None
    assert ended.over_memory
    assert "more memory" in ended.described


async def test_pages_that_processes_share_count_once(tmp_path: Path) -> None:
    code = """
import os, time
held = bytearray(b'x') * (40 << 20)
children = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        time.sleep(0.4)  # eight looks long
        os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)
"""
    process = await start(tmp_path, code, memory_bytes=150 << 20)
    ended = await process.wait(20)
    assert ended is not None
    assert (ended.code, ended.over_memory) == (0, False)


async def test_what_a_cell_left_is_read_after_its_end(tmp_path: Path) -> None:
    process = await start(tmp_path, "open('left', 'w').write('here')")
    await process.wait()
    found = os.open("left", os.O_RDONLY, dir_fd=process.work_fd)
    with os.fdopen(found) as file:
        assert file.read() == "here"
    await process.kill()
    assert process.work_fd == -1


async def test_the_cells_directory_can_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given")
    code = (
        "print(open('../given').read())\ntry: open('../new', 'w')\nexcept OSError as error: print('refused')"
    )
    process = await start(tmp_path, code)
    await process.wait()
    assert process.output().split() == ["given", "refused"]


async def test_an_orphan_belongs_to_the_cells_first_process(tmp_path: Path) -> None:
    code = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(100)
    os._exit(0)
os.wait()
print('orphaned', flush=True)
time.sleep(100)
"""
    process = await start(tmp_path, code)
    await async_wait_until(lambda: "orphaned" in process.output())
    assert len(cell_members(process.leader)) == 2
    await process.kill()


async def test_processor_time_and_memory_are_accounted(tmp_path: Path) -> None:
    code = "import time\nheld = bytes(range(256)) * (120 << 12)\nwhile time.process_time() < 0.3: pass\nprint(len(held))"
    ended = await (await start(tmp_path, code)).wait()
    assert ended is not None
    assert ended.peak_memory_bytes > 110 << 20
    assert 0.3 <= ended.cpu_s <= ended.wall_s + 0.5


async def test_waiting_with_a_timeout_leaves_it_running(tmp_path: Path) -> None:
    process = await start(tmp_path, "import signal; signal.pause()")
    assert await process.wait(0.01) is None
    assert process.running
    assert (await process.kill()).signal_name == "SIGKILL"
    assert not process.running
    assert (await process.kill()).signal_name == "SIGKILL"  # twice does no harm


async def test_a_flood_of_output_is_cut_to_head_and_tail(tmp_path: Path) -> None:
    code = "import sys\nsys.stdout.write('HEAD'); sys.stdout.write('x' * (8 << 20)); sys.stdout.write('TAIL')"
    process = await start(tmp_path, code, output_bytes=1000)
    ended = await process.wait()
    assert ended is not None
    assert ended.code == 0
    text = process.output()
    assert text.startswith("HEAD")
    assert text.endswith("TAIL")
    assert "bytes left out" in text
    assert len(text) < 1100


async def test_an_endless_flood_can_be_killed(tmp_path: Path) -> None:
    process = await start(tmp_path, "while True: print('y' * 10000)")
    await async_wait_until(lambda: "y" in process.output())
    assert (await process.kill()).code == -signal.SIGKILL


async def test_control_characters_do_not_get_through(tmp_path: Path) -> None:
    code = r"import sys; sys.stdout.buffer.write(b'\x1b[31mred\x1b[0m\x00\x07 a\r\nb\xff\tc\x7f')"
    process = await start(tmp_path, code)
    await process.wait()
    assert process.output() == "red a\nb\ufffd\tc"


def test_a_cell_dies_with_the_service(tmp_path: Path) -> None:
    service = f"""
import asyncio, os, sys
from pathlib import Path
from keck_sandbox import Policy, spawn
async def main():
    process = await spawn(Policy(name="x", directory=Path({str(tmp_path)!r})),
                          [sys.executable, "-c", "import signal; signal.pause()"])
    print(process.leader, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    outer = subprocess.run(
        [sys.executable, "-c", service], capture_output=True, text=True, timeout=50, check=False
    )
    assert outer.returncode == -signal.SIGKILL, outer.stderr
    pid = int(outer.stdout)
    wait_until(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
