"""How mihc's figures are drawn; `mihc.figures` is the door to them."""
