"""Reading candidates' text without running it: its form, what it builds, and places worth a second look.

What is read here is hostile, and Python's own parser can be made to take seconds and gigabytes; so all of it happens
in processes of its own (:mod:`keck_compiler.reading.child`), which :class:`keck_compiler.reading.reader.Reader` owns.
Findings are for triage: they prove nothing and reject nobody.
"""
