"""The routes of the service as calls and flows, one file a subject."""
