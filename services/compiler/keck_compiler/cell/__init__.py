"""Programs that run inside a cell, where candidates' code runs too: torch, keck_cell, the standard library."""
