"""What the client that awaits can be asked, one file a subject: as :mod:`leti.client.methods`, word for word."""
