"""Questions, one a file, each answered by runs of recipes."""
