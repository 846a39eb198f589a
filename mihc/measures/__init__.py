"""Behind `mihc.cells`: from labels and counts to the columns of the cells table.

settings.py         what is measured, and the registry of flags
features.py         the words for what is measured where asked
pixels.py           labels, rows and counts as the loops take them
table.py            the columns that every cells table has
extras.py           the columns that are there where asked
sum_kernels.py      the one pass over the pixels: integer sums per cell
value_kernels.py    spread, percentiles and hulls, from the runs of each cell
around_kernels.py   borders between cells, and the background around them
"""
