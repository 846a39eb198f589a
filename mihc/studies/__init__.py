"""What stands behind `mihc.study`: one small file per part of the study folder."""
