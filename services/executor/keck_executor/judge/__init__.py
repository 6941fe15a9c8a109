"""The trusted process: owns inputs, expected values, comparison and clock. Runs no user code."""
