"""The page: a file for each panel, and `build`, which composes them."""
