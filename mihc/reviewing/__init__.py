"""What a reviewer does with a study: sessions on slides, saving, comparing, the list of slides."""
