"""The paper's data: English conversations into the other languages, with nothing lost on the way."""
