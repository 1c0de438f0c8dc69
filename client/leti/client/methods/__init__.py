"""What the client can be asked, one file a subject."""
