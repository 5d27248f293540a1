"""The page on which people look through translations: `python -m app.review FOLDER`."""
