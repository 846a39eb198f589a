"""The parts of `mihc.associate`: import from there."""
