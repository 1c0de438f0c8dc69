"""A convex mix of the predictions of other kinds."""
