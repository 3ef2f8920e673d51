"""One Falcon resource a file. They do not import one another; `sse_kit.app` lists their routes."""
