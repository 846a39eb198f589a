"""The automatic threshold: a histogram of the cells, a peak and its like with light on it, and what they leave open."""
