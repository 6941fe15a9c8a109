"""The last program of ours in a cell: sets limits on itself, then becomes the target. Standard library only.

Run as ``python -I -S launch.py SPEC TARGET...``, where SPEC is JSON: ``parent`` (pid that must still be our
parent), ``limits`` (rlimit name to value) and ``env``. A separate program, because limits set between fork and
exec of a threaded service (``preexec_fn``) can deadlock.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
EXIT_LAUNCH_FAILED = 125


def main() -> None:
    """Apply the limits and exec the target; exits with 125 where that fails."""
    spec = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != spec["parent"]:
        # The service died before the line above: nobody would ever kill us.
        os._exit(EXIT_LAUNCH_FAILED)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit(EXIT_LAUNCH_FAILED)
    for name, value in spec["limits"].items():
        which = getattr(resource, name)
        _, hard = resource.getrlimit(which)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bounded, bounded))
    os.umask(0o077)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    target = sys.argv[2:]
    try:
        os.execve(target[0], target, spec["env"])
    except OSError as error:
        print(f"cannot start {target[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_LAUNCH_FAILED)


if __name__ == "__main__":
    main()
