"""How a model learns: the loop, data, what is learnt, and what a run leaves behind."""
