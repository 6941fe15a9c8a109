"""The last program of ours in a cell that is started: becomes the cell, then the target. Standard library only.

Run as ``python -I -S launch.py SPEC STATUS_FD TARGET...``. A program of its own, because what is done between fork
and exec of a threaded service can deadlock.
"""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Enter the cell and exec the target; what fails is told to the service, which takes it as its own failure."""
    # Started without the site module, so that nothing of the environment decides what is imported.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from keck_sandbox.inside.enter import enter, fail, open_namespaces  # noqa: PLC0415
    from keck_sandbox.inside.spec import Spec  # noqa: PLC0415

    spec = Spec.from_json(sys.argv[1])
    status = socket.socket(fileno=int(sys.argv[2]))
    target = sys.argv[3:]
    try:
        open_namespaces(spec)
        if os.fork() != 0:
            os._exit(0)
        os.set_inheritable(status.fileno(), False)
        enter(spec, status)
        os.execve(target[0], target, dict(spec.env))
    except OSError as error:
        fail(status, error)


if __name__ == "__main__":
    main()
