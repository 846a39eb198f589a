"""The steps of the flow, one file each: what a stage depends on, and what it makes of the science modules."""
