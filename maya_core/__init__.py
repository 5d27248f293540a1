"""Maya: a multilingual vision language model. Start reading at `model.py`."""
