"""The fan-out engine: everything below this folder runs without the GIL, except the thin faces that Python calls.

Read in this order: `log` (a topic's bounded log of frames), `mailbox` (the only way in), `block` (what the engine writes
itself), `peer` (one subscriber: a cursor into logs), `topic` (a log and its cursors), `wheel` (timers), `loop` (the turn
that drives them), `engine` (the door that Python knocks at).
"""
