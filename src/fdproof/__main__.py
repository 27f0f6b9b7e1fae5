"""``python -m fdproof``: the command line."""

from fdproof.cli import main

if __name__ == "__main__":
    main(prog_name="fdproof")
