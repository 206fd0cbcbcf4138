"""`python -m sibling`."""

from .cli import main

main()
