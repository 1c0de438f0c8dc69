"""Networks take fewer bytes on disk, and run as before."""
