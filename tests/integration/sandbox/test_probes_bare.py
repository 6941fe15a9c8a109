"""The probes are real attacks: without a cell every one succeeds, or it is written here why it cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keck_sandbox.inside.probes import MAY_BE_OPEN, PROBES

from .containers import Kind, interpreter, run_as

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or interpreter() is None, reason="needs root, and a Python that other users may execute"
)

BARE = """
import json, os, subprocess, sys, tempfile
from keck_sandbox.selftest import PROGRAM, parse
from keck_sandbox.victim import victims
names = json.loads(sys.argv[1])
left = os.open('/dev/null', os.O_RDONLY)  # forgotten, so that there is something to find
directory = tempfile.mkdtemp(prefix='keck-probe-')
work = os.path.join(directory, 'cell')
os.mkdir(work)
with victims() as victim:
    facts = {**victim.facts, 'names': names, 'work_bytes': 1 << 22, 'work_inodes': 100, 'shm_bytes': 1 << 20,
             'processes': 50}
    ran = subprocess.run([sys.executable, '-I', '-S', PROGRAM, json.dumps(facts)], cwd=work, text=True,
                         stdout=subprocess.PIPE, pass_fds=(left,))
    effects = victim.effects()
from keck_sandbox.collect import remove_tree
remove_tree(directory)
outcomes = parse(ran.stdout, names, effects)
print(json.dumps({'code': ran.returncode, 'outcomes': {name: (each.word, each.detail) for name, each in outcomes.items()},
                  'effects': effects, 'left': os.path.exists(directory)}))
"""
# On no machine.
NOT_BARE = {"read_through_parent": "without a cell, no process above has another root"}
# Depends on what the machine has and allows; either is right.
MAYBE_BARE = {
    "add_key": "kernels without keys",
    "call_as_32_bit": "kernels for 64-bit programs only",
    "call_as_x32": "kernels without x32, which are most",
    "clone3_user_namespace": "distributions that forbid namespaces to users",
    "clone_user_namespace": "the same",
    "connect_daemons": "machines without any",
    "connect_tcp6": "machines without IPv6",
    "count_events": "kernel.perf_event_paranoid, for users",
    "dump_core": "machines whose own limit of cores is 0",
    "find_route": "machines without a way out",
    "fix_addresses": "architectures without",
    "handle_page_faults": "kernels without, or vm.unprivileged_userfaultfd",
    "hide_memory": "kernels that were started without",
    "list_homes": "homes that users may not list, or without a file",
    "make_posix_queue": "kernels without",
    "mount_anew": "kernels before 5.2",
    "move_memory": "kernels without nodes of memory",
    "new_network": "as clone_user_namespace",
    "new_user_namespace": "as clone_user_namespace",
    "open_by_handle": "file systems without handles",
    "open_devices": "machines without any that users may open",
    "open_io_uring": "kernel.io_uring_disabled",
    "open_made_device": "file systems mounted without devices",
    "open_rare_families": "kernels without any",
    "open_vsock": "kernels without",
    "plant_module": "installations that are read-only",
    "raise_limits": "no CAP_SYS_RESOURCE, as in most containers; users never",
    "read_kernel_log": "kernel.dmesg_restrict",
    "read_keyring": "kernels without keys",
    "remove_module": "kernels without modules",
    "schedule_victim": "no CAP_SYS_NICE",
    "send_by_pair": "kernels from which on a pair's ends stay with each other",
    "set_attribute": "file systems without attributes",
    "set_clock": "no CAP_SYS_TIME",
    "set_segments": "architectures without",
    "take_real_time": "no CAP_SYS_NICE, or groups of processes without real time",
    "take_victim_file": "Yama",
    "type_into_terminal": "dev.tty.legacy_tiocsti, for users; machines without a terminal of their own",
    "write_switches": "containers, where they are read-only",
}
# What a user without capabilities may not do to what is root's, and to the machine: so it takes no cell to block it.
NEEDS_ROOT = {
    "advise_victim", "be_root", "become_root", "bind_over", "change_root", "enter_namespace", "hold_capabilities",
    "join_group", "keep_bounding_set", "load_bpf", "lock_shared_file", "make_device", "mount_tmpfs", "name_host",
    "new_namespaces", "open_made_device", "open_packet", "open_raw", "read_shadow", "unmount", "watch_everything",
    "write_core_pattern", "write_in_dev", "write_library", "write_system",
}  # fmt: skip
NEEDS_ROOT_OR_LESS = {"lock_shared_file", "write_system"}  # /var/tmp is everybody's


def bare(kind: Kind) -> dict[str, str]:
    ran = run_as(kind, BARE, json.dumps(sorted(PROBES)))
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["code"] == 0
    assert not told["left"]
    assert set(told["effects"]) <= set(PROBES)
    outcomes: dict[str, list[str]] = told["outcomes"]
    assert [name for name, (word, _) in outcomes.items() if word == "broken"] == [], ran.stderr
    return {name: f"{word}: {detail}" for name, (word, detail) in outcomes.items()}


def held(outcomes: dict[str, str], allowed: set[str]) -> dict[str, str]:
    return {
        name: told for name, told in outcomes.items() if not told.startswith("open") and name not in allowed
    }


def test_without_a_cell_root_gets_through_with_every_probe() -> None:
    outcomes = bare("root")
    assert held(outcomes, set(NOT_BARE) | set(MAYBE_BARE)) == {}
    assert all(not outcomes[name].startswith("open") for name in NOT_BARE)


def test_without_a_cell_a_user_gets_through_with_every_probe_on_what_is_his() -> None:
    outcomes = bare("user")
    assert held(outcomes, set(NOT_BARE) | set(MAYBE_BARE) | NEEDS_ROOT) == {}
    through = {name for name in NEEDS_ROOT if outcomes[name].startswith("open")}
    assert through <= NEEDS_ROOT_OR_LESS


def test_the_lists_name_probes() -> None:
    assert set(NOT_BARE) | set(MAYBE_BARE) | NEEDS_ROOT | set(MAY_BE_OPEN) <= set(PROBES)
    assert all(each.sentence and each.numbers for each in PROBES.values())


def test_the_papers_list_is_covered_or_tested_elsewhere() -> None:
    # The service's own doing, with tests of their own.
    # 52, 53: test_collect, test_remove_tree. 61 on: GPUs and compilers.
    elsewhere = {42, 45, 48, 49, 50, 51, 52, 53, 57, 59}
    assert set(range(1, 61)) - {number for each in PROBES.values() for number in each.numbers} == elsewhere


def test_the_probes_are_the_standard_library_alone() -> None:
    here = Path(__file__).parents[3] / "shared" / "keck_sandbox" / "inside" / "probes"
    lines = [line for path in here.glob("*.py") for line in path.read_text().splitlines()]
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    import sys

    assert imported - {"keck_sandbox"} <= sys.stdlib_module_names
