"""The program inside the cell: loads user code, constructs it, calls it. Knows nothing of the judge.

Reference and candidate are the same program over the same protocol (:mod:`keck_executor.runner.wire`).
"""
