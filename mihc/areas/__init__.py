"""The working parts of mihc.regions: counted as one unit with it.

region.py      a region, and the order in which regions claim cells and area
membership.py  the one rule by which a point or a pixel is in or out       crossings.py  its compiled loops
ledger.py      the partition of a slide's area and the account of it
margins.py     how far a cell is from the tumour's margin
automatic.py   tissue, tumour, stroma and folds from pixels                fields.py     the smooth fields they use
outlines.py    masks to polygons along the edges of their pixels           tracing.py    its compiled walk
"""
