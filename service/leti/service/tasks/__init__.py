"""Tasks: what takes longer than a request may take, done by workers. A kind of task is a row in `kinds.py`."""
