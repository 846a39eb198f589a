"""The working parts of mihc.regions: counted as one unit with it.

crossings.py   compiled: which region holds a point, and regions painted on pixels
membership.py  the edges of regions, and the one rule by which a point is in or out
margins.py     distance of points to outlines
outlines.py    masks to polygons along the edges of their pixels
ledger.py      the partition of a slide's area and the account of it
automatic.py   tissue, tumour, stroma and folds from pixels
"""
