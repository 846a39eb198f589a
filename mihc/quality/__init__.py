"""Quality of a slide in parts: smooth fields, folds, bubbles and debris, focus, light, seams.

Everything is computed on coarse levels of the stored pyramid, on grids that follow from the slide alone.
"""
