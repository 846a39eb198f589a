"""The formats behind `mihc.slide.open_slide`, one small file each.

contents.py     what every format says about a file: scenes, channels, claims about the pixel size
pixel_size.py   units of length, and which claim about the pixel size holds
markup.py       XML from strangers, read without a document type
image.py        the lazy (c, y, x) array that every slide offers
tiff_pages.py   the skeleton of a TIFF: its chain of pages, walked before anything else trusts it
tiff_pixels.py  tiles and strips of a TIFF, decoded where a window needs them
tiff.py  ome_tiff.py  qptiff.py  czi.py  ome_zarr.py    the formats
summary.py      a file's contents in words
"""
