"""What runs on the far side of a fork: the standard library only, and nothing of the service.

A cell is entered here, step by step (:mod:`~keck_sandbox.inside.enter`), whether it was started
(:mod:`~keck_sandbox.inside.launch`) or forked by a zygote (:mod:`~keck_sandbox.inside.zygote`).
"""
