"""How synthetic slides are drawn; the public names are in `mihc.synthetic`.

tissue.py    where tumour, stroma, lymphoid aggregates, folds, necrosis and glass lie
nuclei.py    which nuclei lie where, their shapes and which markers they carry
kernels.py   the compiled loops: filling polygons, stamping nuclei
optics.py    what a scanner makes of it: blur, background, autofluorescence, noise
slide.py     one slide with its truth
study.py     a study folder with its truth
follow_up.py response and survival times that depend on a density
files.py     the formats the drawings are written in
mosaic.py    one drawn tile repeated into a slide of any size
truth.py     measured against planted
"""
