"""What is toxic in pictures or their captions leaves the data, in all languages alike."""
