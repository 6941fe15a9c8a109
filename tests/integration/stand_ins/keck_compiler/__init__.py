"""Stands in for the compiler."""
