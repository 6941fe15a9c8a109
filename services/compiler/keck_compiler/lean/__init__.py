"""The fast recipe: torch's own headers, less what a source does not name.

:mod:`declarations` reads what headers declare, :mod:`index` keeps it, :mod:`demand` decides from a candidate's text
which of it a build needs, :mod:`headers` cuts bodies out of headers, :mod:`prepare` makes it all for one toolchain.
"""
