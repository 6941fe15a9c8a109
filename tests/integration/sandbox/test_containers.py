"""The kinds of services that the other tests run as are what they are called."""

from __future__ import annotations

import json
import os

import pytest

from .containers import KINDS, Kind, interpreter, run_as

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or interpreter() is None, reason="needs root, and a Python that other users may execute"
)

LOOK = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def can(attack):
    pid = os.fork()
    if pid == 0:
        try: attack()
        except OSError: os._exit(1)
        except BaseException: os._exit(2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1), code
    return code == 0
def call(result):
    if result < 0: raise OSError(ctypes.get_errno(), 'refused')
def clone():
    pid = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) if os.uname().machine == 'x86_64' else libc.syscall(220, 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    call(pid)
    os.waitpid(pid, 0)
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
os.chdir('/tmp')
print(json.dumps({
    'uid': os.getuid(), 'capabilities': int(status['CapEff'], 16), 'bounding': int(status['CapBnd'], 16),
    'no_new_privs': status['NoNewPrivs'].strip(), 'seccomp': status['Seccomp'].strip(), 'pid': os.getpid(),
    'unshare_user': can(lambda: call(libc.unshare(0x10000000))),
    'unshare_mount': can(lambda: call(libc.unshare(0x20000))),
    'clone_user': can(clone),
    'mount': can(lambda: call(libc.mount(b'/tmp', b'/tmp', None, 4096, None))),
    'setuid': can(lambda: os.setresuid(12345, 12345, 12345)),
    'chown': can(lambda: os.chown(os.open('/tmp', os.O_TMPFILE | os.O_WRONLY), 12345, 12345)),
    'landlock': libc.syscall(444, None, 0, 1) > 0,
    'thread': can(lambda: __import__('threading').Thread(target=print, args=('',)).start()),
    'write_sys': can(lambda: os.open('/proc/sys/kernel/hostname', os.O_WRONLY)),
    'read_keys': bool(open('/proc/keys').read()) if os.path.exists('/proc/keys') else None,
    'devices': sorted(os.listdir('/dev')),
}))
"""


def look(kind: Kind) -> dict[str, object]:
    ran = run_as(kind, LOOK)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", ["docker root", "k8s restricted"])
def test_in_a_container_there_are_no_namespaces_and_no_mounts(kind: Kind) -> None:
    found = look(kind)
    refused = ("unshare_user", "unshare_mount", "clone_user", "mount", "write_sys")
    assert {name: found[name] for name in refused} == dict.fromkeys(refused, False)
    assert found["landlock"]
    assert found["thread"]
    assert found["seccomp"] == "2"
    assert found["pid"] == 1
    assert found["read_keys"] in (False, None)
    assert "shm" in found["devices"] and "vda" not in found["devices"]  # noqa: PT018


def test_dockers_root_may_become_anybody() -> None:
    found = look("docker root")
    assert (found["uid"], found["setuid"], found["chown"]) == (0, True, True)
    assert found["capabilities"] == found["bounding"] == 0xA80425FB  # as `docker run` shows it
    assert found["no_new_privs"] == "0"


def test_a_restricted_pod_may_become_nobody() -> None:
    found = look("k8s restricted")
    assert (found["uid"], found["setuid"], found["chown"]) == (1_000, False, False)
    assert found["capabilities"] == found["bounding"] == 0
    assert found["no_new_privs"] == "1"


def test_without_a_container_nothing_is_taken_away() -> None:
    for kind, uid in (("root", 0), ("user", 20_000)):
        found = look(kind)
        assert found["uid"] == uid
        assert found["seccomp"] == "0"
        assert found["setuid"] == (uid == 0)


def test_every_kind_passes_output_and_status_on() -> None:
    for kind in KINDS:
        ran = run_as(kind, "import sys; print('out', *sys.argv[1:]); sys.exit(7)", "a b", "c")
        assert (ran.returncode, ran.stdout) == (7, "out a b c\n"), ran.stderr
