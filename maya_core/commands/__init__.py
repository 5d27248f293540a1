"""What the `maya` command does, a file for each kind of thing."""
