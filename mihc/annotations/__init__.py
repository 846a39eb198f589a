"""Region files of other programs, one small reader each: a path in, shapes in full-resolution pixels out.

    qupath.py    GeoJSON                  halo.py    .annotations
    imagej.py    .roi and RoiSet.zip      asap.py    .xml
    shapes.py    what every reader hands over, and the checks that no outline passes unseen
    archive.py, markup.py, roi_paths.py    zip, XML and paths from strangers

`mihc.regions.read_regions` picks the reader and turns pixels into µm.
"""
