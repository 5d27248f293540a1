"""EmojiVQA: pictures of emoji with questions and answers in ten languages, made from a seed, at any size."""
