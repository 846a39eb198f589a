"""`python -m mihc`: the command line."""

from mihc.cli import main

main()
