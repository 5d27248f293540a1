"""How a model answers: conversations, tokens, the decoder as it answers, memory."""
