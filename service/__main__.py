"""``python -m sse_kit`` is the command ``sse-kit``."""

from .cli import main

main(prog_name="sse-kit")
