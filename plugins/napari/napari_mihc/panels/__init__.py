"""The widgets of a review: thin, what they do is done by `napari_mihc.table` and `napari_mihc.desk`."""
