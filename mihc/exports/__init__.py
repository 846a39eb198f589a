"""Other people's formats, one small writer each; `mihc.export` picks them.

sources.py       a slide's results as a writer sees them      folders.py     written aside, then visible at once
csv_tables.py    CSV                                          workbooks.py   XLSX
mcquant.py       MCMICRO's table                              geojson.py     QuPath, outlines from outlines.py
annotated.py     AnnData                                      spatial_data.py   SpatialData
"""
