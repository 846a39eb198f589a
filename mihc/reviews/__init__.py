"""What reviewers did, beside results/: their journals, what follows from them, and whose counts.

    journal.py       review/<reviewer>/<slide>/journal.jsonl, one line per gesture, never rewritten
    states.py        a journal replayed: thresholds, cell edits, region edits, what was accepted
    final.py         review/final.toml and the reviews that `mihc run` takes
    runs.py          the pixels of edited cells as runs, laid over the machine's labels
    cell_edits.py    merge, split, delete, add, redraw, on a piece of a slide's labels
    region_edits.py  draw, cut, remove, reclassify, replace, on a slide's regions
    live.py          counts that follow a threshold while it is dragged

`mihc.review` is their door.
"""
