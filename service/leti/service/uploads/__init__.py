"""Uploads: model files that people send, read where they can do no harm, known by the networks that they hold."""

# Nothing is imported here: what reads a file in its sandbox is below, and starts without the service.
