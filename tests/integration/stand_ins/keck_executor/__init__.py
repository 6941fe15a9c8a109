"""Stands in for the executor."""
