"""The probes as a program: standard library only, started without the site module."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    above = os.path.dirname
    sys.path.insert(0, above(above(above(above(os.path.abspath(__file__))))))
    from keck_sandbox.inside.probes import main

    main(sys.argv[1])
