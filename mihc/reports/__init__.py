"""The chapters of the report; `mihc.report` is the door to them."""
