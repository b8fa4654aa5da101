"""`python -m ensue.cli`: the same as `ensue`, where the script is not on the path."""

from ensue.cli import main

main()
