"""The command line: one file for each command."""

import click

from fdproof.cli.check import check
from fdproof.cli.store import store

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fdproof", message="%(prog)s %(version)s")
def main() -> None:
    """File descriptors that cannot leak: find the leak in the error path before production does."""


main.add_command(check)
main.add_command(store)
