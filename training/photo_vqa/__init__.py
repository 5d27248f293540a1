"""Photographs with known things, and questions about them as people put them, in ten languages."""
