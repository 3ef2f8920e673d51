"""One small program a framework: the same three routes, run by gunicorn with the same worker."""
