"""Architecture search under latency budgets: which networks of a space to train, asked of a service by the thousand."""
