"""`headend`, and `python -m headend`."""

from __future__ import annotations

from headend.cli.commands import app


def main() -> None:
    """The program."""
    app()


if __name__ == "__main__":
    main()
