"""Keck judges GPU kernels: the wire, the bus, the client and the command line."""
