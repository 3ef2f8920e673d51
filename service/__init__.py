"""The service of sse-kit: streams, publishing, log tails, health, metrics and a page, as one Falcon application.

The application is `sse_kit.app.create_app`; its options are `sse_kit.settings.Settings`; the command is `sse_kit.cli`.
Importing this package starts nothing and imports no framework, so that the command line's client stays light.
"""
