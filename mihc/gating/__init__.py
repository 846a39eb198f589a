"""The automatic threshold: a histogram of the cells, two peaks of free skew fitted to it, and what they leave open."""
