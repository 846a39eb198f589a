"""The parts of `mihc.statistics`: import from there."""
