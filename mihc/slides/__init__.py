"""The formats behind `mihc.slide.open_slide`, one small file each.

contents.py        what every format says about a file: scenes, channels, claims about the pixel size; limits of size
pixel_size.py      units of length, and which claim about the pixel size holds
markup.py          XML from strangers, read without a document type and up to a size
codecs.py          which compressions are decoded, and how large a compressed tile says it is
image.py           the lazy (c, y, x) array that every slide offers
tiff_chain.py      the chain of a TIFF's directories, walked before a parser trusts it
tiff_pages.py      the skeleton of a TIFF: its pages, parsed, without pixels
tiff_inventory.py  czi_inventory.py  zarr_inventory.py    tiles, subblocks and chunks counted before a pixel is used
tiff_pixels.py     tiles and strips of a TIFF, decoded where a window needs them
tiff.py  ome_tiff.py  qptiff.py  czi.py  ome_zarr.py    the formats
summary.py         a file's contents in words
"""
